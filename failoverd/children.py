"""The children: what should run is compared with what runs, and what died is started again.

No policy about the pair here: a child that dies, hangs or says nonsense is replaced, and whoever
waits for an answer of its is told that there will be none.
"""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from failoverd.process import ChannelClosed, Child, LineChannel, Message

FIRST_DELAY = 0.05  # seconds before a dead child is started again; doubled each time it dies soon
LONGEST_DELAY = 30.0
SETTLED = 60.0  # seconds of life after which a death is taken for a new one
MAX_LOG_LINES = 20  # a second, from one child

Make = Callable[[Message | None], Child]
Tell = Callable[[str, Message], None]
Gone = Callable[[str, str], None]  # name, and why; "" if it was planned


@dataclass
class Slot:
    """The place of one child, whether it lives or not."""

    name: str
    make: Make
    patience: float  # seconds without a word after which it is replaced; 0: never
    child: Child | None = None
    pidfd: int = -1
    began: float = 0.0
    heard: float = 0.0
    due: float = 0.0
    delay: float = FIRST_DELAY
    ready: bool = False
    handed: Message | None = None  # what the successor is given
    last_words: str = ""
    planned: bool = False  # it is ended to be replaced
    lines: list[float] = field(default_factory=list)


class Children:
    """All children of one failoverd, in one selector."""

    def __init__(self, selector: selectors.BaseSelector, tell: Tell, gone: Gone) -> None:
        self._selector = selector
        self._tell = tell
        self._gone = gone
        self.slots: dict[str, Slot] = {}

    def add(self, name: str, make: Make, patience: float) -> None:
        """Want a child; `tend` starts it."""
        self.slots[name] = Slot(name, make, patience, due=time.monotonic())

    def tend(self, now: float) -> None:
        """Start what should run and does not; end what has not reported for too long."""
        for slot in list(self.slots.values()):
            if slot.child is None and now >= slot.due:
                self._start(slot, now)
            elif slot.child and slot.patience and now - slot.heard > slot.patience:
                slot.last_words = f"has not reported for {now - slot.heard:.1f} s"
                self._kill(slot)

    def next_deadline(self) -> float | None:
        """When `tend` has something to do at the latest."""
        times = [
            slot.due if slot.child is None else slot.heard + slot.patience
            for slot in self.slots.values()
            if slot.child is None or slot.patience
        ]
        return min(times, default=None)

    def send(self, name: str, message: Message) -> bool:
        """Tell a child something. False if it cannot hear it now."""
        slot = self.slots.get(name)
        if slot is None or slot.child is None:
            return False
        return slot.child.channel.send(message)

    def pid(self, name: str) -> int:
        slot = self.slots.get(name)
        return slot.child.pid if slot and slot.child else 0

    @property
    def all_ready(self) -> bool:
        return all(slot.ready for slot in self.slots.values())

    def may_log(self, name: str, now: float) -> bool:
        """Whether a child may write one more line: it cannot flood the log."""
        lines = self.slots[name].lines
        lines[:] = [when for when in lines if now - when < 1.0]
        if len(lines) >= MAX_LOG_LINES:
            return False
        lines.append(now)
        return True

    def _start(self, slot: Slot, now: float) -> None:
        try:
            child = slot.make(slot.handed)
        except OSError as error:  # no process or descriptor to be had: try again later
            self._later(slot, now)
            self._gone(slot.name, f"cannot be started: {error.strerror}")
            return
        slot.child, slot.began, slot.heard, slot.handed = child, now, now, None
        slot.ready, slot.last_words = isinstance(child.channel, LineChannel), ""
        slot.planned = False
        slot.pidfd = os.pidfd_open(child.pid)
        self._selector.register(
            child.channel.fileno(), selectors.EVENT_READ, lambda: self._read(slot)
        )
        self._selector.register(slot.pidfd, selectors.EVENT_READ, lambda: self._died(slot))

    def _read(self, slot: Slot) -> None:
        assert slot.child is not None
        try:
            messages = slot.child.channel.receive()
        except ChannelClosed:
            self._selector.unregister(slot.child.channel.fileno())
            self._kill(slot)
            return
        slot.heard = time.monotonic()
        for message in messages:
            self._take(slot, message)

    def _take(self, slot: Slot, message: Message) -> None:
        match message.get("event"):
            case "ready":
                slot.ready = True
            case "alive":
                pass
            case "died":
                slot.last_words = str(message.get("message", ""))[:500]
            case "reopen":
                slot.handed = message
                self._replace(slot)
            case _:
                self._tell(slot.name, message)

    def _replace(self, slot: Slot) -> None:
        """A successor at once: this one said that it cannot go on with what it may open."""
        slot.planned = True
        self._kill(slot)

    def _kill(self, slot: Slot) -> None:
        if slot.child is not None:
            os.kill(slot.child.pid, signal.SIGKILL)  # not reaped yet, so the pid is still its own

    def _died(self, slot: Slot) -> None:
        assert slot.child is not None
        child, now = slot.child, time.monotonic()
        self._drain(slot)
        _, status = os.waitpid(child.pid, 0)
        self._unregister(child.channel.fileno())
        self._unregister(slot.pidfd)
        os.close(slot.pidfd)
        child.channel.close()
        slot.child, slot.ready = None, False
        if slot.planned and now - slot.began > FIRST_DELAY:
            slot.due = now
        else:
            self._later(slot, now)
        why = "" if slot.planned else slot.last_words or f"ended with {describe(status)}"
        self._gone(slot.name, why)

    def _drain(self, slot: Slot) -> None:
        """Its last words may still be in the channel."""
        assert slot.child is not None
        try:
            for message in slot.child.channel.receive():
                if message.get("event") == "died":
                    slot.last_words = str(message.get("message", ""))[:500]
        except ChannelClosed:
            pass

    def _later(self, slot: Slot, now: float) -> None:
        if now - slot.began > SETTLED:
            slot.delay = FIRST_DELAY
        slot.due = now + slot.delay
        slot.delay = min(slot.delay * 2, LONGEST_DELAY)

    def _unregister(self, fd: int) -> None:
        try:
            self._selector.unregister(fd)
        except KeyError:
            pass  # its channel was closed before it ended

    def restart(self, name: str, wanted: Make | None = None) -> None:
        """End a child so that it is started again at once, perhaps as another."""
        slot = self.slots[name]
        slot.make = wanted or slot.make
        if slot.child is not None:
            self._replace(slot)

    def remove(self, name: str) -> None:
        """End a child for good."""
        self._end(self.slots.pop(name))
        self._gone(name, "")

    def end_all(self) -> None:
        """End every child and reap it."""
        for slot in self.slots.values():
            self._end(slot)
        self.slots.clear()

    def _end(self, slot: Slot) -> None:
        child = slot.child
        if child is None:
            return
        self._kill(slot)
        self._unregister(child.channel.fileno())
        self._unregister(slot.pidfd)
        os.waitpid(child.pid, 0)
        os.close(slot.pidfd)
        child.channel.close()
        slot.child = None


def describe(status: int) -> str:
    """A wait status in words."""
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}"
    return f"exit status {os.waitstatus_to_exitcode(status)}"
