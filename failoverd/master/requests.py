"""Requests to this node: a status is answered here, the rest by the pair."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from failoverd import pair
from failoverd.log import Allowance, lasting
from failoverd.master.context import Context
from failoverd.master.messages import Requested
from failoverd.master.supervisor import Supervisor
from failoverd.process import Message
from failoverd.wire import protocol
from failoverd.wire.typed import decode

STALE_SECONDS = 1.0  # a request that waited longer is not begun: its sender counts on that
MAX_REQUESTS = 128  # that wait for an answer
MAX_SWITCHING = 100  # requests for a switch at once, and
SWITCHING_A_SECOND = 20.0  # of them later on
LEAST_LOOK = 0.001  # seconds between two looks of the watchers because of a request
LOOK_SECONDS = 0.02  # how long the peer waits for what they say

MEANS = {"fail": "take over", "resume": "stand by"}
OUTCOMES = {  # by whether the peer has asked, and whether it has happened
    (False, True): ("SWITCHOVER-DONE", "switchover done"),
    (False, False): ("SWITCHOVER-REFUSED", "switchover refused"),
    (True, True): ("PEER-SERVED", "its request is carried out"),
    (True, False): ("PEER-DENIED", "its request is refused"),
}


# Has a hold or a release carried out: the request's number, the command, and who asks.
Hold = Callable[[int, str, dict[str, str]], None]


@dataclass(frozen=True)
class Asked:
    """A request for a switch, or about a hold. who: asks, if it is not the peer."""

    command: str
    by_peer: bool
    at: float
    who: dict[str, str]


class Requests:
    """Those that wait for their answer, each by the number that the listener gave it: no other
    listener of this failoverd has given the same."""

    def __init__(
        self,
        context: Context,
        supervisor: Supervisor,
        status: Callable[[bool], protocol.Status],
        hold: Hold,
    ) -> None:
        self._context = context
        self._supervisor = supervisor
        self._status = status
        self._hold = hold
        self._switching = Allowance(SWITCHING_A_SECOND, MAX_SWITCHING)
        self._looking: set[str] = set()  # watchers that have not said yet what they count
        self._began = 0.0  # when they were told to look
        self._peers: list[int] = []  # the peer's requests that wait for them
        self.waiting: dict[int, Asked | None] = {}  # by number: None for a status

    @property
    def deadline(self) -> float | None:
        return self._began + LOOK_SECONDS if self._peers else None

    def told(self, message: Message) -> None:
        """The listener passes on a request. Raises ValueError if it is none."""
        request = decode(Requested, message)
        command, mine, by_peer = request.command, request.id, request.origin == "peer"
        now = time.monotonic()
        if mine in self.waiting:
            raise ValueError("id: it waits already")
        if by_peer and command.startswith(protocol.HOLDS):
            raise ValueError("origin: the peer may not ask for it")
        crowded = len(self.waiting) >= MAX_REQUESTS
        if command == "status":
            self.waiting[mine] = None
            self._told_status(mine, by_peer, now)
            return
        who = {"via": request.via, "client": request.client, "user": request.user}
        self.waiting[mine] = Asked(command, by_peer, now, {} if by_peer else who)
        if refusal := self._refusal(crowded, request.at, now):
            self.answer(pair.Answer(mine, False, refusal))
            return
        if command not in MEANS:
            self._hold(mine, command, who)
            return
        if by_peer:
            text = f"told this node to {MEANS[command]}"
            self._context.say("PEER-REQUESTED", "peer", text, command=command)
        else:
            self._context.say("SWITCHOVER-REQUESTED", "role", "by operator", command=command, **who)
        self._context.feed(pair.Request(mine, command, by_peer))

    def _refusal(self, crowded: bool, at: float, now: float) -> str:
        """Why a request for a switch is not begun, "" if it is."""
        context = self._context
        if context.dry:
            return "dry run"
        if now - at > STALE_SECONDS:
            return "too late: this node was stalled meanwhile"
        if not context.started:
            return "busy: failoverd is starting, try again in a moment"
        if context.stops:
            return "busy: failoverd is stopping"
        return "busy" if crowded or not self._switching.take(1, now) else ""

    def answer(self, action: pair.Answer, unreached: str = "") -> None:
        """unreached: why the peer did not answer when it was asked last, for a person who then is
        refused."""
        asked, text = self.waiting.pop(action.id, None), action.text
        if asked is not None:
            is_cut_off = not action.ok and text.startswith(pair.NO_ANSWER)
            if is_cut_off and unreached and not asked.by_peer:
                text = f"{text}: {unreached}"
            self._tell_outcome(asked, action.ok, text)
        message = {"do": "answer", "id": action.id, "ok": action.ok, "text": text}
        self._supervisor.send("listener", message)

    def _tell_outcome(self, asked: Asked, ok: bool, text: str) -> None:
        values: dict[str, object] = {"command": asked.command}
        if asked.command not in MEANS:
            if not ok:  # or else it is a line of its own
                self._context.say(
                    "HOLD-REFUSED", "role", "refused", **values, error=text, **asked.who
                )
            return
        values |= {"took": lasting(time.monotonic() - asked.at)} if ok else {"error": text}
        subject = "peer" if asked.by_peer else "role"
        event, sentence = OUTCOMES[asked.by_peer, ok]
        self._context.say(event, subject, sentence, **values, **asked.who)

    # ------------------------------------------------------------------ status

    def _told_status(self, mine: int, by_peer: bool, now: float) -> None:
        """The peer is told what the interfaces have received by now, if their watchers say it in
        time; during a switch it does not matter."""
        passed = now - self._began
        is_over = passed >= LOOK_SECONDS or (not self._looking and passed >= LEAST_LOOK)
        if is_over and self._context.role != "switching":
            self._began = now
            send, names = self._supervisor.send, self._context.conf.interfaces
            self._looking = {name for name in names if send(f"watchd {name}", {"do": "look"})}
        if by_peer and self._looking:
            self._peers.append(mine)
        else:
            self._answer_status(mine, self._status(by_peer))

    def has_looked(self, interface: str) -> None:
        self._looking.discard(interface)
        self.tend(time.monotonic())

    def tend(self, now: float) -> None:
        """Answer the peer, if all watchers have looked, or it has waited long enough."""
        if not self._looking or now >= self._began + LOOK_SECONDS:
            while self._peers:
                self._answer_status(self._peers.pop(0), self._status(True))

    def _answer_status(self, request: int, status: protocol.Status) -> None:
        self.answer(pair.Answer(request, True, protocol.encode_status(status)))
