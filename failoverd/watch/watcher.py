"""The watcher: wakes up, counts, lets `judge` judge, says what came out.

The same Watcher runs in a worker of failoverd and by hand. It sleeps to the next moment at which
something can happen: the end of the window, a look at the counter (a full count may be noticed an
eighth of a window late), the middle of an empty window. It ends only when it is told to: an
interface that is away is silent.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import select
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

from failoverd import links, process
from failoverd.conf import Conf
from failoverd.process import Channel, Message
from failoverd.watch import judge
from failoverd.watch.counter import Counter, Tap
from failoverd.watch.dumpfile import DumpFile
from failoverd.watch.filters import HEADER_BYTES, Program
from failoverd.wire import frames

LOOKS = 8.5  # at the counter in a window; more than 8, for it takes time to wake up
LEAST_LOOK = 0.005  # seconds between two of them; at the shortest windows they cost more than tell
FIRST_RETRY = 0.1  # seconds until an interface is opened once more; doubles each time
LONGEST_RETRY = 10.0
_MANY = 1 << 53  # packets
NOTES = {  # by subject: the event and sentence of what is wrong, and of its end
    "dumpfile": ("DUMP-FAILED", "packets are missing in $dumpfile", "DUMP-OK", "complete again"),
    "target": ("TARGET-FAILED", "cannot probe", "TARGET-OK", "probe targets can be probed"),
    "open": ("WATCH-FAILED", "cannot be opened for watching", "WATCH-OK", "open again"),
}
NOTE_SECONDS = 1.0  # a flapping interface does not flood the log

Say = Callable[[Message], object]


@dataclass(frozen=True)
class Instruments:
    """What a watcher counts with, and what keeps packet headers ($dumpfile), if anything."""

    counter: Counter
    tap: Tap | None = None


def instruments(
    conf: Conf, interface: str, expression: str, programs: Sequence[Program] = ()
) -> Instruments:
    """What a watcher of this interface counts with. Opens $dumpfile: raises OSError."""
    counter = Counter(interface, expression, programs)
    if conf.dumpfile == os.devnull:
        return Instruments(counter)
    try:
        dump = DumpFile(f"{conf.dumpfile}.{interface}", HEADER_BYTES)
    except OSError as error:
        raise OSError(f"$dumpfile: {error.filename}: {error.strerror}") from error
    return Instruments(counter, Tap(interface, expression, programs, dump))


def rules_for(conf: Conf, interface: str, second: int | float = 1.0) -> judge.Rules:
    """How this interface is judged, with times in units of which a second has so many."""
    timer = conf.window_of(interface) * second
    if isinstance(second, int):
        timer = round(timer)
    private = interface == conf.plip_interface
    return judge.Rules(conf.packet_count, timer, conf.low_water, private, second)


class Watcher:
    """One interface: its counter, its window, its probe targets.

    `say` is given the JSON object of every event, and {"event": "log", ...} for the log. `handed`
    is the `state` of the watcher that this one succeeds. `peer` says where the peer is probed;
    without it nothing is probed but @witness.
    """

    def __init__(
        self,
        conf: Conf,
        interface: str,
        instruments: Instruments,
        say: Say,
        handed: Mapping[str, Any] | None = None,
        peer: Message | None = None,
    ) -> None:
        self.interface = interface
        self.rules = rules_for(conf, interface)
        self.may_open = True  # until root is given up
        self.must_reopen = False
        self.total = 0
        self._say = say
        self._counter, self._tap = instruments.counter, instruments.tap
        self._targets = ProbeTargets(conf, interface, peer)
        self._looked = self._retry_at = 0.0
        self._retry = FIRST_RETRY
        self._look_interval = max(LEAST_LOOK, self.rules.timer / LOOKS)
        self._has_asked = False
        self._look_again = 0.0
        self._troubles = process.Troubles(f"interface {interface}", say)
        self._noted_state, self._noted_at = "up", 0.0
        self.began: float | None = None
        if handed is not None:
            with contextlib.suppress(KeyError, TypeError, ValueError, OverflowError):
                self._inherit(handed)

    def _inherit(self, handed: Mapping[str, Any]) -> None:
        """Go on where a predecessor was. It had given up root and this one has not: nothing that
        it says may do harm. Raises ValueError and the like for what cannot be."""
        now = time.monotonic()
        packets, last = (min(max(0, int(handed[key])), _MANY) for key in ("packets", "last"))
        deadline, began, retry = (float(handed[key]) for key in ("deadline", "began", "retry"))
        if not (0 <= began <= now and 0 <= deadline <= now + self.rules.timer):
            raise ValueError("times that cannot be")
        self.window = judge.Window(packets, last, handed["boot"] is True, deadline)
        self.began, self._retry = began, min(max(FIRST_RETRY, retry), LONGEST_RETRY)

    def state(self) -> Message:
        """What a successor goes on with. CLOCK_MONOTONIC is the same in all processes."""
        return {**asdict(self.window), "began": self.began, "retry": self._retry}

    def open(self) -> None:
        """Open what needs root, and begin. The first watcher of an interface raises OSError or
        ValueError if that is impossible; an interface that is not there is not an error."""
        if self.began is None:
            self._open()
            self.began = time.monotonic()
            self.window = judge.start(self.rules, self.began)
        else:
            self._attempt("open", self._open)
        now = time.monotonic()
        self._put_off_opening(now)
        self._looked = now
        self._note_state(now)

    def next_time(self) -> float:
        """When `turn` has something to do, in monotonic seconds."""
        times = [self.window.deadline, self._looked + self._look_interval]
        if self._targets and not self._has_asked:
            times.append(self._middle())
        return min(times)

    def readers(self) -> list[Tap]:
        """What should wake the loop when it can be read."""
        return [self._tap] if self._tap is not None and self._tap.is_open else []

    def turn(self, now: float) -> None:
        self._looked = now
        self._count(now)
        self._probe(now)
        if self._tap is not None:
            self._attempt("dumpfile", self._tap.write)
        self._tend(now)

    def told(self, message: Message) -> None:
        match message.get("do"):
            case "restart":
                self.restart(time.monotonic())
            case "look":
                self.look(time.monotonic())
            case "peer":
                self._targets.know_peer(message)
            case "reopen":  # something else counts now
                self.must_reopen = True

    def look(self, now: float) -> None:
        """Say how much has been counted in this window.

        failoverd wants to know whether this node receives, and looks again soon: the targets are
        probed, so that a quiet moment does not look like a dead interface.
        """
        self._count(now)
        window = self.window
        self._say({"event": "count", "packets": window.packets, "last": window.last})
        if self._targets and now >= self._look_again:
            self._look_again = now + self.rules.timer / LOOKS
            self._troubles.note(self._targets.ask(peer=window.packets == 0), *NOTES["target"])

    def restart(self, now: float) -> None:
        """Begin again with boot true: this node has switched."""
        self.total += self._counter.take()
        self.window = judge.start(self.rules, now)
        self._has_asked = False

    def close(self) -> None:
        self._counter.close()
        self._targets.close()
        if self._tap is not None:
            self._tap.close()
            self._tap.file.close()

    def _count(self, now: float) -> None:
        packets = self._counter.take()
        self.total += packets
        self.window, event = judge.count(self.rules, self.window, packets, now)
        if event is None and now >= self.window.deadline:
            self.window, event = judge.expire(self.rules, self.window, now)
        if event is not None:
            self._has_asked = False
            self._say(dict(event.line(self.interface, self.began or 0.0)))

    def _middle(self) -> float:
        return self.window.deadline - self.rules.timer / 2

    def _probe(self, now: float) -> None:
        if not self._targets or self._has_asked or now < self._middle():
            return
        self._has_asked = True
        if self.window.packets == 0:
            self._troubles.note(self._targets.ask(), *NOTES["target"])

    def _tend(self, now: float) -> None:
        """See to it that the counter is open, as far as there is something to receive."""
        self._note_state(now)
        if self._counter.is_open and not self._counter.is_lost():
            if now > self._retry_at + LONGEST_RETRY:
                self._retry = FIRST_RETRY
            return
        if now < self._retry_at or not links.is_up(self.interface):
            return
        self._put_off_opening(now)
        if self.may_open:
            self._attempt("open", self._open)
        else:
            self.must_reopen = True

    def _put_off_opening(self, now: float) -> None:
        """The next attempt is not before _retry_at, whether this one goes well or not."""
        self._retry_at = now + self._retry
        self._retry = min(self._retry * 2, LONGEST_RETRY)

    def _attempt(self, subject: str, do: Callable[[], None]) -> None:
        """Do what may fail, and log why it does, or that it no longer does."""
        why = ""
        try:
            do()
        except (OSError, ValueError) as error:
            why = process.in_words(error)
        self._troubles.note(why, *NOTES[subject])

    def _open(self) -> None:
        if self._counter.open() and self._tap is not None:
            self._tap.open()

    def _note_state(self, now: float) -> None:
        state = link_state(self.interface)
        if state != self._noted_state and now >= self._noted_at + NOTE_SECONDS:
            self._noted_state, self._noted_at = state, now
            self._log("LINK-STATE", "link state changed", state=state)

    def _log(self, event: str, sentence: str, **values: object) -> None:
        self._say(process.logged(event, f"interface {self.interface}", sentence, **values))


def link_state(interface: str) -> str:
    """up, no-carrier, down or missing."""
    if links.works(interface):
        return "up"
    if links.is_up(interface):
        return "no-carrier"
    return "missing" if links.index(interface) is None else "down"


class ProbeTargets:
    """Asks @witness, and the peer, from the interface's own hardware address.

    Not every network passes ARP probes (RFC 9161, ARP inspection): where this node has an address
    of its own in the target's network, it asks from that. The socket has protocol 0: it only sends.
    It needs root once; it is bound to nothing, so it outlives the interface. False if there is
    nothing to ask.
    """

    def __init__(self, conf: Conf, interface: str, peer: Message | None = None) -> None:
        self._interface = interface
        self._targets = [w.address for w in conf.witness if w.interface == interface]
        self._served = conf.served
        self._socket: socket.socket | None = None
        self._peer: list[tuple[str, str]] = []  # from which address which of its is asked
        self._hwaddr = ""  # the peer's
        if peer is not None:
            self.know_peer(peer)
        if self._targets or peer is not None:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._socket.setblocking(False)

    def __bool__(self) -> bool:
        return bool(self._targets or self._peer)

    def know_peer(self, message: Message) -> None:
        self._peer = [(own, peer) for own, peer in cast(list[tuple[str, str]], message["ask"])]
        self._hwaddr = str(message["hwaddr"])

    def ask(self, *, peer: bool = True) -> str:
        """Ask each of them once, or all but the peer. Returns what is wrong, "" if nothing is."""
        hwaddr = links.hwaddr(self._interface)
        if self._socket is None or hwaddr is None or not links.is_up(self._interface):
            return ""  # the state of the interface is reported by itself
        target = ""
        try:
            for target in self._targets:
                self._socket.sendto(self._probe(hwaddr, target), (self._interface, 0))
            for own, address in self._peer if peer else ():
                target = f"the peer's {address}"
                # By broadcast, and, as not every network floods that and not every $filter admits
                # it, at its hardware address.
                for to in {"", self._hwaddr}:
                    frame = frames.request(hwaddr, own, address, to)
                    self._socket.sendto(frame, (self._interface, 0))
        except OSError as error:
            return f"{target}: {error.strerror}"
        return ""

    def _probe(self, hwaddr: str, target: str) -> bytes:
        """May raise OSError."""
        if ":" in target:
            for address in links.addresses(self._interface):
                if address.startswith("fe80:") and address not in self._served:
                    return frames.marked_request(hwaddr, address, target)
            return frames.probe(hwaddr, target)
        own = links.network(self._interface)
        if own and str(own.ip) not in self._served and ipaddress.IPv4Address(target) in own.network:
            return frames.marked_request(hwaddr, str(own.ip), target)
        return frames.probe(hwaddr, target)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()


def run_child(
    channel: Channel,
    conf: Conf,
    interface: str,
    handed: Mapping[str, Any] | None,
    instruments: Callable[[], Instruments],
    peer: Message | None = None,
) -> None:
    """The forked worker: open as root, give root up, watch until failoverd is gone.

    It returns after a message {"event": "reopen"}, which a successor has to be given as `handed`.
    Raises OSError or ValueError for what makes the first opening impossible.
    """
    if conf.realtime:
        process.try_realtime(f"watchd {interface}", conf.user, channel.send)
    state = None if handed is None else handed.get("window")
    watcher = Watcher(conf, interface, instruments(), channel.send, state, peer)
    watcher.open()
    process.give_up_root(conf.user)
    watcher.may_open = conf.user == "root"
    channel.send({"event": "ready"})
    silence, due = 2 * process.report_interval(conf.plip_timer), 0.0
    while not watcher.must_reopen:
        next_time = watcher.next_time()
        if next_time >= due:  # while it is awake
            channel.send({"event": "alive"})
            due = time.monotonic() + silence
        _serve(channel, watcher, min(next_time, due))
    channel.send({"event": "reopen", "interface": interface, "window": watcher.state()})


def _serve(channel: Channel, watcher: Watcher, until: float) -> None:
    wait = max(0.0, until - time.monotonic())
    # select(), because poll() and epoll_wait() know only whole milliseconds
    sources: list[Channel | Tap] = [channel, *watcher.readers()]
    ready, _, _ = select.select(sources, [], [], wait)
    for message in channel.receive() if channel in ready else ():
        watcher.told(message)
    watcher.turn(time.monotonic())
