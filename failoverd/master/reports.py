"""What the watchers and the heartbeat report: taken in, told to the pair, and logged."""

from __future__ import annotations

import time

from failoverd import links, pair
from failoverd.conf import Conf
from failoverd.log import Allowance, lasting
from failoverd.master.context import Context
from failoverd.master.interfaces import ServiceInterfaces
from failoverd.master.messages import Counted, Heartbeats, Logged, Window
from failoverd.master.supervisor import Supervisor
from failoverd.process import Message
from failoverd.wire.typed import decode

TEXTS = {"ok": "no failure", "boot": "first window", "late": "ended late", "fail": "failure"}
WINDOWS = 10.0  # events of one watcher in one window: it looks more than 8 times


class Reports:
    """Every method that is told a message raises ValueError if it is none."""

    def __init__(
        self, context: Context, supervisor: Supervisor, interfaces: ServiceInterfaces
    ) -> None:
        self._context = context
        self._supervisor = supervisor
        self._interfaces = interfaces
        self.counts: dict[str, tuple[int, int]] = {}  # packets of this window, and the one before
        self.heard: float | None = None  # when the peer's last heartbeat came
        self.rtt: float | None = None  # of this node's, in seconds
        self.skip = False  # the loop stalled: old reports are in the channels
        self._link: tuple[int, int, str] | None = None  # the last window of the heartbeat link
        self._bad: dict[str, float] = {}  # by interface: since when its windows fail
        self._shown: dict[str, Allowance] = {}  # by interface: the windows that are logged

    def adopt(self, old: Conf) -> None:
        """The configuration is another: what is watched no more does not fail any more, and another
        heartbeat link is in the place of the one that was."""
        new, lost = self._context.conf, self._bad.pop(old.plip_interface, None)
        for name in self._bad.keys() - {*new.interfaces}:
            after = lasting(time.monotonic() - self._bad.pop(name))
            self._tell("IFACE-OK", f"interface {name}", "no longer watched", name, after=after)
        if lost is not None:
            self._bad[new.plip_interface] = lost

    def told_log(self, name: str, message: Message) -> None:
        """A watcher speaks of its own interface only, whatever it says."""
        program, _, interface = name.partition(" ")
        told = decode(Logged, message)
        if self._supervisor.may_log(name, time.monotonic()):
            subject = f"interface {interface}" if interface else told.subject
            source = program, self._supervisor.pid(name)
            self._context.say(told.name, subject, told.sentence, source, **told.values)

    def told_window(self, interface: str, message: Message) -> None:
        window = decode(Window, message)
        packets, last, verdict = window.packets, window.last, window.verdict
        self._context.counters.add("interface_received_packets_total", interface, amount=packets)
        self._context.counters.add("windows_total", interface, verdict)
        if self.skip:
            return
        self._log_window(interface, window)
        if interface == self._context.conf.plip_interface:
            self._link = packets, last, verdict
            self._context.feed(pair.LinkWatched(packets, verdict))
        else:
            self._interfaces.look_at(interface)
            self.counts[interface] = (0, last if verdict == "late" else packets)
            self._context.feed(pair.Watched(interface, packets, last, verdict))

    def _log_window(self, interface: str, window: Window) -> None:
        """With $verbose each one; and in any case that one is bad, and that it is good again."""
        conf = self._context.conf
        if conf.verbose and self._may_show(interface):
            subject, text = f"interface {interface}", TEXTS[window.verdict]
            length = f"{window.packets} packets in {lasting(conf.window_of(interface))}"
            self._tell("WINDOW", subject, text, interface, window=length, received=window.packets,
                       previous=window.last, reason=window.reason)  # fmt: skip
        self._note_late(interface, window)
        is_link = interface == conf.plip_interface
        if window.verdict == "fail" and interface not in self._bad:
            self._bad[interface] = time.monotonic()
            self._tell_bad(interface, is_link, window)
        elif window.verdict == "ok" and interface in self._bad and (window.packets or not is_link):
            after = lasting(time.monotonic() - self._bad.pop(interface))
            self._tell_good(interface, is_link, window, after)

    def _note_late(self, interface: str, window: Window) -> None:
        context, subject, source = self._context, f"interface {interface}", self._source(interface)
        if window.verdict == "late":
            text = "a window ended late, and is not judged"
            context.say_once("WINDOW-LATE", subject, text, source, reason=window.reason)
        else:
            context.say_over("WINDOW-OK", subject, "windows end in time", source)

    def _tell_bad(self, interface: str, is_link: bool, window: Window) -> None:
        carrier = "yes" if links.works(interface) else "no"
        if is_link:
            age = None if self.heard is None else lasting(time.monotonic() - self.heard)
            self._tell("HEARTBEAT-LOST", "peer", "no heartbeat", interface, link=interface, age=age,
                       carrier=carrier)  # fmt: skip
        else:
            self._tell("IFACE-FAIL", f"interface {interface}", "not receiving", interface,
                       received=window.packets, previous=window.last,
                       low_water=self._context.conf.low_water, carrier=carrier)  # fmt: skip

    def _tell_good(self, interface: str, is_link: bool, window: Window, after: str) -> None:
        values: dict[str, object] = {"received": window.packets, "after": after}
        if is_link:
            text = "heartbeats are received again"
            self._tell("HEARTBEAT-OK", "peer", text, interface, link=interface, **values)
        else:
            self._tell("IFACE-OK", f"interface {interface}", "receiving", interface, **values)

    def _tell(
        self, event: str, subject: str, text: str, interface: str, /, **values: object
    ) -> None:
        self._context.say(event, subject, text, self._source(interface), **values)

    def _source(self, interface: str) -> tuple[str, int]:
        return "watchd", self._supervisor.pid(f"watchd {interface}")

    def _may_show(self, interface: str) -> bool:
        """Whether a window may be logged: one gone mad has no more of them than a sane one."""
        window = self._context.conf.window_of(interface)
        shown = self._shown.setdefault(interface, Allowance(WINDOWS / window, 10 * WINDOWS))
        return shown.take(1, time.monotonic())

    def unwatched(self, interface: str) -> None:
        """Nothing watches there now: it is not well, as far as is known. That gives no role away,
        and takes none, for a watcher that is gone says nothing about the line."""
        if interface == self._context.conf.plip_interface:
            self._link = None
            return
        self.counts[interface] = 0, 0
        known = self._context.state.interface(interface)
        if known is not None and not known.failed:
            self._context.feed(pair.Watched(interface, 0, 0, "ok"))

    def told_count(self, interface: str, message: Message) -> None:
        count = decode(Counted, message)
        self.counts[interface] = count.packets, count.last
        self._context.feed(pair.Counted(interface, count.packets))

    def told_heartbeat(self, message: Message) -> None:
        told = decode(Heartbeats, message)
        if max(told.heard or 0.0, told.rtt or 0.0) > time.monotonic():
            raise ValueError("a time that has not come yet")
        self.heard, self.rtt = told.heard, told.rtt
        self._context.counters.add("heartbeats_sent_total", amount=told.sent)
        self._context.counters.add("heartbeats_received_total", amount=told.received)

    def link_state(self) -> str:
        """The heartbeat link's, in the words of section 6."""
        if not links.works(self._context.conf.plip_interface):
            return "down"
        packets, last, verdict = self._link or (0, 0, "boot")
        if verdict in ("fail", "boot"):
            return verdict
        return "silent" if packets == 0 and last == 0 else "ok"
