"""What is odd about an interface, said to the person who watches it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from failoverd import conf, links
from failoverd.watch import watcher

IFF_PROMISC = 0x100
SOON = 5.0  # seconds after which there should be something to be seen
WAYS_OUT = {
    "down": "; ip link set dev {} up",
    "unplugged": "; see to the cable and the other end",
    "missing": "",
}
TABLE = "/proc/self/net/dev"  # of our own network namespace, unlike /sys


def at_start(settings: conf.Conf, interface: str) -> Iterator[str]:
    """What is odd before the first packet."""
    state = watcher.link_state(interface)
    if state != "up":
        yield f"{interface} is {state}: nothing comes in{WAYS_OUT[state].format(interface)}"
    if not links.addresses(interface):
        yield f"{interface} has no address: broadcasts at best come in"
    if links.flags(interface) & IFF_PROMISC:
        yield f"{interface} is promiscuous: packets for others count too"
    else:
        yield f"{interface} is not promiscuous: packets for others do not count"
    if not watcher.rules_for(settings, interface).private:  # $low_water does not concern it
        yield from conf.remarks(settings)


class Totals(NamedTuple):
    """Packets that the kernel has seen on an interface, whether they count or not."""

    received: int
    sent: int


def totals(interface: str) -> Totals | None:
    """None if there is no such interface. The file is described in proc_net(5)."""
    try:
        with open(TABLE, encoding="ascii", errors="replace") as table:
            for line in table:
                name, _, rest = line.partition(":")
                fields = rest.split()
                if name.strip() == interface and len(fields) >= 10:
                    return Totals(int(fields[1]), int(fields[9]))
    except OSError:
        pass
    return None


class Early:
    """One look, as soon as there should be something to be seen."""

    def __init__(self, settings: conf.Conf, interface: str) -> None:
        self._interface = interface
        self._rules = watcher.rules_for(settings, interface)
        timer = self._rules.timer
        self.due: float | None = timer if self._rules.private else min(timer / 2, SOON)
        self._before = totals(interface)

    def look(self, counted: int, passed: float) -> list[str]:
        """What is odd about so many packets that count, so many seconds after the start."""
        if self.due is None or passed < self.due:
            return []
        self.due = None
        remark = self._few(counted, passed) if counted else self._none(passed)
        return [remark] if remark else []

    def _few(self, counted: int, passed: float) -> str:
        rules = self._rules
        likely = counted * rules.timer / passed
        if rules.private or likely >= rules.low_water or rules.low_water > rules.packet_count:
            return ""
        return (
            f"$low_water is {rules.low_water}, but what comes makes about {likely:.3g} packets in "
            f"{rules.timer:g} s: such a window fails"
        )

    def _none(self, passed: float) -> str:
        now = totals(self._interface)
        if now is None or self._before is None or watcher.link_state(self._interface) != "up":
            return ""
        received, sent = now.received - self._before.received, now.sent - self._before.sent
        if received > 0 and self._rules.private:
            return (
                f"nothing that counts in {passed:.1f} s: {received} packets came in, but no "
                "heartbeat of the peer; does failoverd run there? With the same secret?"
            )
        if received > 0:
            return (
                f"nothing that counts in {passed:.1f} s: {received} packets came in, but $filter "
                "or the pair's own addresses rule them out, or the switch itself sent them"
            )
        if sent > 0:
            return (
                f"nothing has come in for {passed:.1f} s, only our own packets go out ({sent}): "
                "see to the cable, the switch's port and the other side"
            )
        return f"not a packet in {passed:.1f} s, in or out"
