"""What others ask of us: a status is answered here, the rest by the pair."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from failoverd import pair
from failoverd.master.context import Context
from failoverd.master.messages import Requested
from failoverd.master.supervisor import Allowance, Supervisor
from failoverd.process import Message
from failoverd.wire import protocol
from failoverd.wire.typed import decode

STALE_SECONDS = 1.0  # a request that waited longer is not begun: its sender counts on that
MAX_REQUESTS = 128  # that wait for an answer
MAX_SWITCHING = 100  # requests for a switch at once, and
SWITCHING_A_SECOND = 20.0  # of them later on
LEAST_GLANCE = 0.001  # seconds between two looks of the watchers because somebody asks
GLANCE_SECONDS = 0.02  # how long the peer waits for what they say


@dataclass
class Visit:
    """The peer asked for the status, and these watchers have not yet said what they count."""

    request: int
    looking: set[str]
    until: float


class Requests:
    """Those that wait for their answer, each by the number that the listener gave it: no other
    listener of this failoverd has given the same."""

    def __init__(
        self, us: Context, supervisor: Supervisor, status: Callable[[], protocol.Status]
    ) -> None:
        self._us = us
        self._supervisor = supervisor
        self._status = status
        self._visits: deque[Visit] = deque()
        self._switching = Allowance(SWITCHING_A_SECOND, MAX_SWITCHING)
        self._glances = Allowance(1 / LEAST_GLANCE, 1)
        self.waiting: dict[int, str] = {}  # by number: what was told by a person, else ""

    def deadline(self) -> float | None:
        """When `end_visits` has something to do."""
        return self._visits[0].until if self._visits else None

    def told(self, message: Message) -> None:
        """The listener passes on a request. Raises ValueError if it is none."""
        request = decode(Requested, message)
        command, mine, by_peer = request.command, request.id, request.origin == "peer"
        now = time.monotonic()
        if mine in self.waiting:
            raise ValueError("id: it waits already")
        crowded = len(self.waiting) >= MAX_REQUESTS
        self.waiting[mine] = ""
        if command == "status":
            self._told_status(mine, by_peer, now)
        elif self._us.dry:
            self._us.say(f"would have been told {command}", anew=True)
            self.answer(pair.Answer(mine, False, "dry run"))
        elif now - request.at > STALE_SECONDS:
            self.answer(pair.Answer(mine, False, "too late: we stood still meanwhile"))
        elif self._is_busy(crowded, now):
            self.answer(pair.Answer(mine, False, "busy"))
        elif by_peer:
            self._us.say(f"told {command} by the peer", anew=True)
            self._us.feed(pair.Request(mine, command, True))
        else:
            self._us.report(f"told {command} by a person")
            self.waiting[mine] = command
            self._us.feed(pair.Request(mine, command, False))

    def _is_busy(self, crowded: bool, now: float) -> bool:
        us = self._us
        return not us.started or us.stops > 0 or crowded or not self._switching.take(1, now)

    def answer(self, action: pair.Answer, unreached: str = "") -> None:
        """unreached: why the peer did not answer when it was asked last, for a person who then is
        refused."""
        command, text = self.waiting.pop(action.id, ""), action.text
        if command:
            if unreached and not action.ok and text.startswith(pair.NO_ANSWER):
                text = f"{text}: {unreached}"
            self._us.report(f"{command} by a person: {'ok' if action.ok else 'error'} {text}")
        message = {"do": "answer", "id": action.id, "ok": action.ok, "text": text}
        self._supervisor.send("listener", message)

    # ------------------------------------------------------------------ status

    def _told_status(self, mine: int, by_peer: bool, now: float) -> None:
        """The peer is told what our cards have heard by now, if our watchers say it in time; while
        we switch, nobody wants to know."""
        looking = set[str]()
        if self._us.role != "switching" and self._glances.take(1, now):
            for name in self._us.conf.interfaces:
                if self._supervisor.send(f"watchd {name}", {"do": "look"}):
                    looking.add(name)
        if by_peer and (looking or self._visits):  # those who looked just now are waited for
            self._visits.append(Visit(mine, looking, now + GLANCE_SECONDS))
        else:
            self._answer_status(mine)

    def has_looked(self, interface: str) -> None:
        """A watcher has said what it counts: every look is answered, in the order of the looks."""
        for visit in self._visits:
            if interface in visit.looking:
                visit.looking.discard(interface)
                break
        self.end_visits(time.monotonic())

    def end_visits(self, now: float) -> None:
        """Answer those for whom all watchers have looked, and those who have waited too long."""
        while self._visits and (not self._visits[0].looking or now >= self._visits[0].until):
            self._answer_status(self._visits.popleft().request)

    def _answer_status(self, request: int) -> None:
        self.answer(pair.Answer(request, True, protocol.encode_status(self._status())))
