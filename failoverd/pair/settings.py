"""What the decisions depend on beside what happens: the settings, and a few fixed times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from failoverd.conf import Conf

REQUEST_SECONDS = 5.0  # how long a client of the port may take to say its request (section 6)
GRACE_SECONDS = 1.0  # how much longer than its script an answer may take (section 6)
ROUNDS = 3  # rounds of probes without an answer that make sure (RFC 5227 sends as many probes)
LEAST_PROOF = 0.1  # seconds that a busy peer may take to receive a packet and to tell it


@dataclass(frozen=True)
class Rules:
    """The settings that the decisions depend on, times in seconds."""

    boot: str
    precedes: bool  # this node's private address is the lower one
    mresume: bool
    interfaces: tuple[str, ...]
    window: float
    heartbeat: float
    switch_timeout: float
    hold_down: float
    confirm: str  # "arp", "none" or "program"
    addressed: frozenset[str]  # interfaces that carry one of @addresses
    fence: bool
    status_timeout: float
    low_water: int = 1
    everywhere: frozenset[str] = frozenset()  # the checks that a standby makes, too
    failback: float | None = 0.0  # after so long without a bad interface or check; None: never
    card_window: float = 0.0  # of the service network; 0: as long as that of the heartbeat link
    request_time: float = REQUEST_SECONDS
    grace: float = GRACE_SECONDS

    @property
    def round(self) -> float:
        """A second or a window of the heartbeat link, whichever is shorter."""
        return min(1.0, self.window)

    @property
    def proof_time(self) -> float:
        """How long the peer may take to show that it receives what does not arrive here."""
        return max(2 * self.news_time, LEAST_PROOF)

    @property
    def news_time(self) -> float:
        """After it the peer's open window has begun since it was asked: what it holds is news."""
        return self.card_window or self.window

    @property
    def switch_time(self) -> float:
        """When a request sent now has certainly had its effect, if it ever has one."""
        return self.switch_timeout + self.arrival

    @property
    def wordless_time(self) -> float:
        """Without an answer for so long, the peer's port is closed: a busy peer is slower than the
        shortest windows, and a query may be lost."""
        return max(2 * self.window, self.heartbeat + 2 * self.status_timeout)

    @property
    def served_time(self) -> float:
        """That the addresses were answered for counts until after the next probe of a node that
        waits a window, queries a peer in vain, and then probes for them."""
        return max(self.wordless_time, self.window + self.status_timeout + 2 * self.round)

    @property
    def compare_time(self) -> float:
        """Roles are compared every heartbeat, and one query may be lost."""
        return self.heartbeat + self.status_timeout

    @property
    def patience(self) -> float:
        """How long an operator waits for what has not begun: who is told an answer in time, after
        `switch_timeout` and a grace, wants the script's run in it too."""
        return self.switch_timeout / 2

    @property
    def arrival(self) -> float:
        """When a request sent now has certainly arrived, if it ever does."""
        return self.request_time + self.grace


def rules(conf: Conf, boot: str) -> Rules:
    """The decisions' settings in a configuration, for a node with this host_type."""
    from ipaddress import ip_address

    addressed = frozenset(entry.interface for entry in conf.addresses)
    confirm = "program" if conf.confirm_prog else conf.confirm
    if confirm == "arp" and not addressed:
        confirm = "none"
    return Rules(
        boot=boot,
        precedes=int(ip_address(conf.primary)) < int(ip_address(conf.secondary)),
        mresume=conf.mresume,
        interfaces=conf.interfaces,
        window=conf.plip_timer,
        heartbeat=conf.plip_hbeat,
        switch_timeout=conf.switch_timeout,
        hold_down=conf.hold_down,
        confirm=confirm,
        addressed=addressed,
        fence=bool(conf.fence_prog),
        status_timeout=max(1.0, min(REQUEST_SECONDS, conf.plip_timer)),
        card_window=conf.timer_seconds,
        low_water=conf.low_water,
        everywhere=frozenset(check.name for check in conf.checks if check.everywhere),
        failback=conf.failback,
    )
