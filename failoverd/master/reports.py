"""What the watchers and the heartbeat report: taken in, told to the pair, and logged."""

from __future__ import annotations

import time

from failoverd import links, pair
from failoverd.master.context import Context
from failoverd.master.interfaces import ServiceInterfaces
from failoverd.master.messages import Counted, Heartbeats, Logged, Window
from failoverd.master.supervisor import Allowance, Supervisor
from failoverd.process import Message
from failoverd.wire.typed import decode

WINDOWS = 10.0  # events of one watcher in one window: it looks more than 8 times


class Reports:
    """Every method that is told a message raises ValueError if it is none."""

    def __init__(self, us: Context, supervisor: Supervisor, cards: ServiceInterfaces) -> None:
        self._us = us
        self._supervisor = supervisor
        self._interfaces = cards
        self.counts: dict[str, tuple[int, int]] = {}  # packets of this window, and the one before
        self.heard: float | None = None  # when the peer's last heartbeat came
        self.rtt: float | None = None  # of this node's, in seconds
        self.skip = False  # the loop stalled: old reports are in the channels
        self._link: tuple[int, int, str] | None = None  # the last window of the heartbeat link
        self._verdicts: dict[str, str] = {}
        self._shown: dict[str, Allowance] = {}  # by interface: the windows that are logged

    def told_log(self, name: str, message: Message) -> None:
        """A watcher speaks of its own interface only, whatever it says."""
        program, _, interface = name.partition(" ")
        if self._supervisor.may_log(name, time.monotonic()):
            pid = self._supervisor.pid(name)
            text = decode(Logged, message).message
            self._us.say(text, interface, program=program, pid=pid)

    def told_window(self, interface: str, message: Message) -> None:
        window = decode(Window, message)
        packets, last, verdict = window.packets, window.last, window.verdict
        if self.skip:
            return
        self._log_window(interface, window)
        if interface == self._us.conf.plip_interface:
            self._link = packets, last, verdict
            self._us.feed(pair.LinkWatched(packets, verdict))
        else:
            self._interfaces.look_at(interface)
            self.counts[interface] = (0, last if verdict == "late" else packets)
            self._us.feed(pair.Watched(interface, packets, last, verdict))

    def _log_window(self, interface: str, window: Window) -> None:
        verdict, reason = window.verdict, window.reason
        changed = self._verdicts.get(interface) != verdict
        self._verdicts[interface] = verdict
        if (self._us.conf.verbose or changed) and self._may_show(interface):
            text = f"{window.packets} packets, {window.last} in the window before: {verdict}"
            self._us.log.event(
                "watchd",
                f"{text} ({reason})" if reason else text,
                pid=self._supervisor.pid(f"watchd {interface}"),
                interface=interface,
            )

    def _may_show(self, interface: str) -> bool:
        """Whether a window may be logged: one gone mad has no more of them than a sane one."""
        window = self._us.conf.window_of(interface)
        shown = self._shown.setdefault(interface, Allowance(WINDOWS / window, 10 * WINDOWS))
        return shown.take(1, time.monotonic())

    def unwatched(self, interface: str) -> None:
        """Nothing watches there now: it is not well, as far as is known. That gives no role away,
        and takes none, for a watcher that is gone says nothing about the line."""
        if interface == self._us.conf.plip_interface:
            self._link = None
            return
        self.counts[interface] = 0, 0
        known = self._us.state.interface(interface)
        if known is not None and not known.failed:
            self._us.feed(pair.Watched(interface, 0, 0, "ok"))

    def told_count(self, interface: str, message: Message) -> None:
        """A watcher was asked to look, and this is what it had counted."""
        count = decode(Counted, message)
        self.counts[interface] = count.packets, count.last
        self._us.feed(pair.Counted(interface, count.packets))

    def told_heartbeat(self, message: Message) -> None:
        told = decode(Heartbeats, message)
        if max(told.heard or 0.0, told.rtt or 0.0) > time.monotonic():
            raise ValueError("heard: it has not been yet")
        self.heard, self.rtt = told.heard, told.rtt

    def link_state(self) -> str:
        """The heartbeat link's, in the words of section 6."""
        if not links.works(self._us.conf.plip_interface):
            return "down"
        packets, last, verdict = self._link or (0, 0, "boot")
        if verdict in ("fail", "boot"):
            return verdict
        return "silent" if packets == 0 and last == 0 else "ok"
