"""The workers: what should run is compared with what runs, and what died is started again.

No policy about the pair here: a worker that dies, hangs or says nonsense is replaced, and whoever
waits for an answer of its is told that there will be none.
"""

from __future__ import annotations

import contextlib
import selectors
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from failoverd.log import Allowance, printable
from failoverd.process import PARTING, ChannelClosed, Child, Message

FIRST_DELAY = 0.05  # seconds before a dead worker is started again; doubled each time it dies soon
LONGEST_DELAY = 30.0
SETTLED = 20.0  # times its delay that a worker has to live for its death to be taken for a new one
START_PATIENCE = 10.0  # seconds that a worker may take to be ready, however short the windows are
FAREWELL = 5.0  # seconds in which a worker that is told to end may still do what it was told to
STUCK = "killed, but the kernel does not let it end"
LEAST_LIFE = 1.0  # seconds; who wants to be replaced sooner has to wait like one that died
MAX_VOLUME = 4 << 20  # bytes a second from one worker, as its channel counts them
MAX_LINES = 30  # for the log, from one worker, if it was quiet before
LINES_A_SECOND = 1.0  # later on

Make = Callable[[Message | None], Child]
Tell = Callable[[str, Message], None]
Gone = Callable[[str, str], None]  # name, and why; "" if it was planned


@dataclass
class Slot:
    """The place of one worker, whether it lives or not."""

    name: str
    make: Make
    patience: float  # seconds without a word after which it is replaced
    child: Child | None = None
    began: float = 0.0
    received: float = 0.0  # when its last message came
    due: float = 0.0
    delay: float = FIRST_DELAY
    ready: bool = False
    handed: Message | None = None  # what the successor is given
    last_words: str = ""
    killed: bool = False  # because it did not report
    shot: bool = False  # its last life was ended by others
    planned: bool = False  # it is ended to be replaced
    lines: Allowance = field(default_factory=lambda: Allowance(LINES_A_SECOND, MAX_LINES))
    volume: Allowance = field(default_factory=lambda: Allowance(MAX_VOLUME, 2 * MAX_VOLUME))

    def silent_until(self) -> float:
        """When a living worker has not reported for too long."""
        return self.received + (self.patience if self.ready else max(self.patience, START_PATIENCE))


class Supervisor:
    """All workers of one failoverd, in one selector."""

    def __init__(self, selector: selectors.BaseSelector, tell: Tell, gone: Gone) -> None:
        self._selector = selector
        self._tell = tell
        self._gone = gone
        self.slots: dict[str, Slot] = {}

    def add(self, name: str, make: Make, patience: float) -> None:
        self.slots[name] = Slot(name, make, patience, due=time.monotonic())

    def tend(self, now: float) -> None:
        """Start what should run and does not; end what has not reported for too long."""
        for slot in list(self.slots.values()):
            if slot.child is None and now >= slot.due:
                self._start(slot, now)
            elif slot.child is not None and now >= slot.silent_until():
                self.give_up(slot.name, f"has not reported for {now - slot.received:.1f} s")

    def forgive(self, gap: float) -> None:
        """So long this process was stalled. If the node was, no worker could report either."""
        now = time.monotonic()
        for slot in self.slots.values():
            slot.received = min(now, slot.received + gap)

    @property
    def deadline(self) -> float | None:
        slots = self.slots.values()
        times = (slot.silent_until() if slot.child else slot.due for slot in slots)
        return min(times, default=None)

    def send(self, name: str, message: Message) -> bool:
        """Tell a worker something. False if it cannot be told now."""
        slot = self.slots.get(name)
        return bool(slot and slot.child and slot.child.channel.send(message))

    def pid(self, name: str) -> int:
        slot = self.slots.get(name)
        return slot.child.pid if slot and slot.child else 0

    def was_shot(self, name: str) -> bool:
        """Whether a worker has ended by no fault of its own, as far as it said."""
        return name in self.slots and self.slots[name].shot

    def was_silent(self, name: str) -> bool:
        """Whether a worker was killed because it did not report."""
        return name in self.slots and self.slots[name].killed

    @property
    def all_ready(self) -> bool:
        return all(slot.ready for slot in self.slots.values())

    def may_log(self, name: str, now: float) -> bool:
        """Whether there may be one more line because of what a worker said."""
        return name in self.slots and self.slots[name].lines.take(1, now)

    # ------------------------------------------------------------------ life

    def _start(self, slot: Slot, now: float) -> None:
        slot.began = slot.received = now
        slot.ready = slot.planned = slot.killed = slot.shot = False
        slot.last_words = ""
        try:
            child = slot.make(slot.handed)
        except OSError as error:  # no process or descriptor to be had: try again later
            self._later(slot, now)
            self._gone(slot.name, f"cannot be started: {error.strerror}")
            return
        slot.child, slot.handed, slot.ready = child, None, child.is_program
        self._watch(child.channel.fileno(), lambda: self._read(slot, child))
        self._watch(child.pidfd, lambda: self._died(slot, child))

    def _watch(self, fd: int, call: Callable[[], None]) -> None:
        self._selector.register(fd, selectors.EVENT_READ, call)

    def _read(self, slot: Slot, child: Child) -> None:
        if slot.child is not child:
            return  # ended by another event of the same turn of the loop
        before = child.channel.volume
        try:
            messages = child.channel.receive()
        except ChannelClosed:
            self._selector.unregister(child.channel.fileno())
            child.kill()
            return
        if not slot.volume.take(child.channel.volume - before, time.monotonic()):
            slot.last_words = "sends too much"
            child.kill()
        if messages:  # what is not understood is no report
            slot.received = time.monotonic()
        for message in messages:
            self._take(slot, message)

    def _take(self, slot: Slot, message: Message) -> None:
        match message.get("event"):
            case "ready":
                slot.ready = True
                self._tell(slot.name, message)
            case "alive":
                pass
            case "died":
                slot.last_words = printable(str(message.get("message", "")))[:500]
            case "reopen":
                self.restart(slot.name, message)
            case _:
                self._tell(slot.name, message)

    def _died(self, slot: Slot, child: Child) -> None:
        if slot.child is not child:
            return
        now = time.monotonic()
        with contextlib.suppress(ChannelClosed):
            for message in child.channel.receive():  # its last words
                self._take(slot, message)
        printed = child.channel.printed()
        status = self._end(slot)
        slot.shot = status < 0 and not slot.last_words
        if slot.planned and now - slot.began > LEAST_LIFE:
            slot.due = now
        else:
            self._later(slot, now)
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        why = (slot.last_words or f"ended with {how}") + printed
        self._gone(slot.name, "" if slot.planned else why)

    def _later(self, slot: Slot, now: float) -> None:
        if now - slot.began > SETTLED * slot.delay:
            slot.delay = FIRST_DELAY
        slot.due = now + slot.delay
        slot.delay = min(slot.delay * 2, LONGEST_DELAY)

    # ------------------------------------------------------------------ end

    def restart(self, name: str, handed: Message | None = None) -> None:
        """End a worker so that another is started at once, which is given what is handed."""
        slot = self.slots[name]
        slot.planned, slot.due, slot.handed = True, 0.0, handed
        if slot.child is not None:
            slot.child.kill()

    def retire(self, name: str) -> None:
        """Have a worker end by itself when it has finished, and started again at once. However
        often, that is no fault of its own."""
        slot = self.slots[name]
        slot.planned, slot.due, slot.delay = True, 0.0, FIRST_DELAY
        self.send(name, {"do": "retire"})

    def give_up(self, name: str, why: str) -> None:
        """End a worker that is no good, if it lives; another is started later."""
        slot = self.slots.get(name)
        if slot is None or slot.child is None:
            return
        slot.received = time.monotonic()  # it may take a while to die
        if slot.killed:
            self._gone(name, STUCK)
        else:
            slot.killed, slot.last_words = True, why
            slot.child.kill()

    def remove(self, name: str) -> None:
        self._end(self.slots[name])
        del self.slots[name]
        self._gone(name, "")

    def abandon(self, name: str) -> None:
        """Take another worker in the place of one that the kernel holds."""
        self.slots[name].due = time.monotonic()
        self._end(self.slots[name], 0.0)

    def end_all(self, spare: str = "") -> None:
        """End every worker and reap it, but for one that ends when failoverd does.

        Before that the listener passes on the answer that it was given last: a peer that is not
        told how its switchover ended has to find out, which takes as long as a switch may take.
        """
        living = [slot for slot in self.slots.values() if slot.child and slot.name != spare]
        leaving = [slot.child for slot in living if slot.child and slot.child.channel.finish()]
        deadline = time.monotonic() + FAREWELL
        for child in leaving:
            child.ends(max(0.0, deadline - time.monotonic()))
        for slot in living:
            self._end(slot)
        self.slots.clear()

    def _end(self, slot: Slot, seconds: float = PARTING) -> int:
        """Kill a worker, and what it has started, and reap it: within so many seconds or, if the
        kernel holds it, when that lets go. Its exit status, -N if signal N ended it."""
        child = slot.child
        if child is None:
            return 0
        child.kill()
        for fd in (child.channel.fileno(), child.pidfd):
            with contextlib.suppress(KeyError):  # its channel was closed before it ended
                self._selector.unregister(fd)
        slot.child, slot.ready = None, False
        if child.ends(seconds):
            return child.reap()
        self._watch(child.pidfd, lambda: self._reap_late(child))
        return 0

    def _reap_late(self, child: Child) -> None:
        self._selector.unregister(child.pidfd)
        child.reap()
