"""Announces the service's addresses while this node is active, by the schedule of section 7.

The first round goes out whole and at once, but not so that the loop's other work waits for it; the
repeats are spread.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from failoverd import links, neighbours, pair
from failoverd.conf import Address
from failoverd.master.context import Context

LONGEST_SLICE = 0.05  # seconds that a round may take at once: no window may pass meanwhile
PAUSE = 0.01  # seconds between two portions of a repeat
MOST_NAMED = 10  # addresses on an interface, of which one round says the same


class GratuitousArp:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._announcer = neighbours.Announcer(context.conf)
        self._began = 0.0
        self._round: Iterator[neighbours.Announced | None] | None = None  # under way
        self._sent: dict[Address, str] = {}  # in this round, and what went wrong
        self._first = False  # it is the first
        self._untold = False  # and the first since a change of role
        self._early = False  # the addresses are here, but the switch has not ended
        self._unsent: set[Address] = set()
        self._sender: dict[str, str | None] = {}  # the hardware address of each interface, then
        self._received: set[str] = set()  # interfaces that have, since the role came
        self.deadline: float | None = None

    def close(self) -> None:
        self._announcer.close()

    def adopt(self) -> None:
        self._announcer.close()
        self._announcer = neighbours.Announcer(self._context.conf)
        self._round, self._first = None, False

    def follow(self, come: bool) -> None:
        """In a switch: the addresses have just come, or are about to go."""
        if come:
            self._early = True
            self._start(time.monotonic())
        else:
            self.stop()

    def switched(self) -> None:
        """The switch has ended: from now on the pair says whether there is anything to announce."""
        self._early = False

    def begin(self, now: float) -> None:
        """One that began just now will do, unless there was nothing that it could announce."""
        if self.deadline is None or now - self._began >= 1.0 or not self._sent:
            self._start(now)

    def stop(self) -> None:
        self._received.clear()
        self.deadline, self._round = None, None
        self._first = self._early = False

    def look(self, now: float) -> None:
        """What makes the service unreachable until it is announced again: a hardware address that
        has changed (a bond that uses another port, say), and a port of the switch that passed
        nothing as the role came."""
        if self.deadline is None:
            return
        found = {name: links.hwaddr(name) for name in self._sender}
        if any(found[name] not in (None, old) for name, old in self._sender.items()):
            self._untold = True
            self._start(now)
        elif self._has_come(now):
            self._start(now)

    def _has_come(self, now: float) -> bool:
        """Whether an interface receives for the first time since the role came, later than it was
        announced there."""
        if self._context.role != "active":
            return False
        receive = {i.name for i in self._context.state.interfaces if i.packets} & {*self._sender}
        new = receive - self._received
        self._received |= receive
        return bool(new) and now - self._began > neighbours.LAST_REPEAT

    def _start(self, now: float) -> None:
        self._untold = self._untold or self.deadline is None
        self._began, self.deadline = now, now
        self._round, self._first = None, True
        self.tend(now)

    def tend(self, now: float) -> None:
        if self.deadline is None or now < self.deadline:
            return
        if self._round is None:
            names, held = self._what()
            self._sender = {name: links.hwaddr(name) for name in names}
            self._round, self._sent = self._announcer.announce(names, held), {}
        end = time.monotonic() + min(self._context.conf.plip_timer / 2, LONGEST_SLICE)
        frames = 0
        for sent in self._round:
            if sent is not None:
                self._sent.update(dict.fromkeys(*sent))
                frames += len(sent[0])
            over = time.monotonic() >= end if self._first else frames >= neighbours.PORTION
            if sent is None or over:
                self.deadline = now if sent and self._first else now + PAUSE
                return
        self._round, self._first = None, False
        self._tell()
        self.deadline = neighbours.next_announcement(self._began, now)

    def _what(self) -> tuple[list[str], list[str] | None]:
        """The interfaces, and the entries that are there: a new address comes with the next switch,
        not before."""
        context = self._context
        # That a standby receives little is no failure of an active node's.
        early = [i.name for i in context.state.interfaces if i.up]
        names = early if self._early else pair.announceable(context.state)
        left = context.saved.left
        wanted = [name for name in names if name in context.rules.addressed]
        return [name for name in wanted if links.has_neighbours(name)], left and left[0]

    def _tell(self) -> None:
        """Only the first round after a change of role is logged, and what could not be sent. Of
        many addresses some are named."""
        told: dict[tuple[str, str], list[Address]] = {}
        for entry, error in self._sent.items():
            if error or self._untold or entry in self._unsent:
                told.setdefault((entry.interface, error), []).append(entry)
            (self._unsent.add if error else self._unsent.discard)(entry)
        self._untold = self._untold and not self._sent
        for (interface, error), entries in told.items():
            for entry in entries[:MOST_NAMED]:
                what = "unsolicited NA" if ":" in entry.address else "gratuitous ARP"
                self._say(f"address {entry.address}", what, error, interface=interface)
            if (more := len(entries) - MOST_NAMED) > 0:
                self._say(f"interface {interface}", "gratuitous ARP", error, count=more)

    def _say(self, subject: str, what: str, error: str, **values: object) -> None:
        event, text = ("GARP-FAILED", "cannot be sent") if error else ("GARP", "sent")
        self._context.say(event, subject, f"{what} {text}", **values, error=error)
