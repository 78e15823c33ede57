"""Queries to the peer's port, probes on the service network, and what comes of both."""

from __future__ import annotations

import time
from collections.abc import Callable

from failoverd import links, pair
from failoverd.log import lasting, printable
from failoverd.master.context import Context
from failoverd.master.dry_run import TOLD, DryRun
from failoverd.master.messages import Answers, Lost, Reply
from failoverd.master.mismatch import Mismatch
from failoverd.master.peer_probes import PeerProbes
from failoverd.master.requests import MEANS
from failoverd.master.supervisor import Supervisor
from failoverd.process import Message
from failoverd.second_path import SECOND
from failoverd.wire import protocol
from failoverd.wire.typed import decode

STATUS = (pair.Query.COMPARE, pair.Query.STATUS)
PATIENCE = 3  # windows; by then a takeover is over, and is the first notice
MAX_HWADDRS = 128  # of the peer


class Queries:
    """Every method that is told a message raises ValueError if it is none."""

    def __init__(
        self,
        context: Context,
        supervisor: Supervisor,
        dry_run: DryRun | None,
        peer_probes: PeerProbes,
        learn_hold: Callable[[protocol.Hold | None], None],
    ) -> None:
        self._context = context
        self._supervisor = supervisor
        self._dry_run = dry_run
        self._peer_probes = peer_probes
        self._learn_hold = learn_hold
        self._mismatch = Mismatch(context)
        self._serial = 0
        self._told_at = 0.0  # when the peer was told something
        self._lost_at = 0.0  # since when it answers no query, 0 if it does
        self._aside_at = 0.0  # since when only the second path answers, else 0
        self._unreached = ""  # why the last query to the peer was not answered
        self._advice = ""  # and what to do, if that is sure
        self.asked: dict[pair.Query, int] = {}  # of the peer
        self.searched: dict[bool, int] = {}  # probes, by whether for this node's own addresses

    def ask(self, action: pair.Ask) -> None:
        self._serial += 1
        self.asked[action.query] = self._serial
        command = "status" if action.query in STATUS else action.query.value
        if action.query not in STATUS:
            self._context.say("PEER-TOLD", "peer", f"told to {MEANS[command]}", command=command)
            self._told_at = time.monotonic()
        message: Message = {
            "do": "query",
            "id": self._serial,
            "command": command,
            "timeout": action.timeout,
            "direct": action.direct,
        }
        if not self._supervisor.send("listener", message):
            why = "the listener, which asks it, does not run"
            self._lose(action.query, why, "try again", sent=False)

    def search(self, action: pair.Probe) -> None:
        self._serial += 1
        self.searched[action.own] = self._serial
        message: Message = {
            "do": "probe",
            "id": self._serial,
            "interfaces": sorted(i.name for i in self._context.state.interfaces if i.up),
            "at": list(action.at),
            "until": action.until,
            "own": self._context.saved.hwaddrs,
            "peer": self._context.saved.peer_hwaddrs,
        }
        if not self._supervisor.send("neighbours", message):
            self._context.feed(pair.Answers(action.own, 0, False))

    def forget(self, action: pair.Forget) -> None:
        """Also what has come already, and waits behind the event that made it mean nothing."""
        self._context.drop(lambda event: is_forgotten(event, action))
        compare = self.asked.get(pair.Query.COMPARE)
        self.asked = {} if compare is None else {pair.Query.COMPARE: compare}
        if action.probes and self.searched:
            self.searched.clear()
            self._supervisor.send("neighbours", {"do": "forget"})

    def gone(self, name: str) -> None:
        """A worker died: what waits for its answers gets none."""
        if name == "listener":
            for query in list(self.asked):
                self._lose(query, "the listener, which asks it, has died", "try again", sent=True)
        elif name == "neighbours":
            for own in list(self.searched):
                del self.searched[own]
                self._context.feed(pair.Answers(own, 0, False))

    # ------------------------------------------------------------------ the peer's port

    def why_unreached(self) -> str:
        """Why the peer did not answer what it was asked last, and the way out; "" if it did."""
        if not self._unreached:
            return ""
        advice = self._advice or links.way_out(self._context.conf)
        if self._advice in ("", protocol.NOT_THERE) and pair.is_speechless(self._context.state):
            advice = protocol.FILTERED
        return f"{self._unreached}; {advice}"

    def told_reply(self, message: Message) -> None:
        reply = decode(Reply, message)
        query = self._query(reply.id)
        self._reached(reply.path)
        if query is None:
            return
        del self.asked[query]
        if query in TOLD and reply.ok:
            took = lasting(time.monotonic() - self._told_at)
            self._context.say("PEER-DONE", "peer", "has done so", command=query.value, took=took)
        view = None
        if query in STATUS:
            try:
                if not reply.ok:
                    raise ValueError(reply.text)
                view = self._learn(protocol.read_status(reply.text), reply.path)
            except ValueError as error:
                why = printable(str(error)[:200])
                self._context.say("PEER-INVALID", "peer", "its status is invalid", error=why)
                self._context.feed(pair.Unreplied(query))
                return
        self._context.feed(pair.Replied(query, reply.ok, printable(reply.text[:200]), view))

    def _learn(self, status: protocol.Status, path: str) -> pair.PeerView:
        self.note_hwaddrs(status)
        self._context.peer_host = status.host
        self._peer_probes.learn(status)
        self._mismatch.note(status)
        self._learn_hold(status.hold)
        view = peer_view(status, self._context.conf.interfaces)
        return view if self._dry_run is None else self._dry_run.imagine(view)

    def note_hwaddrs(self, status: protocol.Status) -> None:
        """At them the peer is asked on the service network."""
        known = set(self._context.saved.peer_hwaddrs)
        told = {interface.hwaddr for _, interface in status.interfaces if interface.hwaddr}
        if told - known:
            every = known | told
            self._context.saved.peer_hwaddrs = sorted(every if len(every) <= MAX_HWADDRS else told)
            self._context.save()

    def told_lost(self, message: Message) -> None:
        lost = decode(Lost, message)
        why, query = lost.why, self._query(lost.id)
        told = query if query in TOLD else None
        now = time.monotonic()
        self._lost_at = self._lost_at or now
        patience = PATIENCE * self._context.conf.plip_timer
        if told or now - self._lost_at >= patience:
            text = f"{told.value if told else 'status'} query failed"
            self._context.say_once("PEER-UNREACHABLE", "peer", text, error=why)
        self._lose(query, why, lost.advice, lost.sent)

    def _reached(self, path: str) -> None:
        self._unreached, self._lost_at = "", 0.0
        self._note_path(path)
        self._context.say_over("PEER-REACHABLE", "peer", "answers queries again")

    def _note_path(self, path: str) -> None:
        context, now = self._context, time.monotonic()
        self._aside_at = (self._aside_at or now) if path == SECOND else 0.0
        if not (self._aside_at and context.path and now - self._aside_at < context.conf.plip_timer):
            context.path = path  # or one answer that was slow
        if not self._aside_at:
            context.say_over("PATH-PRIVATE", "peer", "answers over the heartbeat link again")
        elif now - self._aside_at >= PATIENCE * context.conf.plip_timer:
            context.say_once("PATH-SECOND", "peer", "answers over the second path only")

    def _lose(self, query: pair.Query | None, why: str, advice: str, sent: bool) -> None:
        """None: what was asked means nothing any more."""
        self._unreached, self._advice = why, advice
        if query is not None:
            del self.asked[query]
            self._context.feed(pair.Unreplied(query, sent))

    def _query(self, serial: int) -> pair.Query | None:
        return next((query for query, asked in self.asked.items() if asked == serial), None)

    # ------------------------------------------------------------------ the service network

    def told_answers(self, message: Message) -> None:
        told = decode(Answers, message)
        own = next((own for own, asking in self.searched.items() if asking == told.id), None)
        if own is None:
            return
        del self.searched[own]
        self._say_where_not(told.unsent or {})
        may_be_peer = self._context.may_be_peer
        first = min(told.answers, key=lambda answer: not may_be_peer(answer.hwaddr), default=None)
        who = f"{first.address} {first.hwaddr}" if first else ""
        stranger = first is None or not may_be_peer(first.hwaddr)
        self._context.feed(pair.Answers(own, told.asked, first is not None, who, stranger))

    def _say_where_not(self, unsent: dict[str, object]) -> None:
        """On which interfaces no probe could be sent: a takeover may never come for it."""
        for name in self._context.conf.interfaces:
            subject = f"interface {name}"
            if name in unsent:
                text, why = "cannot probe for the service addresses", str(unsent[name])[:100]
                self._context.say("PROBE-FAILED", subject, text, error=printable(why))
            else:
                self._context.say_over("PROBE-OK", subject, "can probe for the service addresses")


def is_forgotten(event: pair.Event, action: pair.Forget) -> bool:
    match event:
        case pair.Replied() | pair.Unreplied():
            return event.query is not pair.Query.COMPARE
        case pair.Answers():
            return action.probes
    return False


def peer_view(status: protocol.Status, interfaces: tuple[str, ...]) -> pair.PeerView:
    """What the pair wants to know of a peer's status; interfaces: those that both should have."""
    known = dict(status.interfaces)
    bad = frozenset(name for name in interfaces if name not in known or known[name].is_bad)
    down = frozenset(name for name in bad if name not in known or known[name].state == "down")
    failed = frozenset(name for name in known if known[name].state == "fail")
    counts = tuple((name, known[name].packets, known[name].last) for name in sorted(known))
    checks = frozenset(name for name, check in status.checks if check.is_bad)
    untried = frozenset(name for name, check in status.checks if check.state == "unknown")
    role = "rejoining" if status.rejoining else status.role
    return pair.PeerView(
        role,
        status.boot,
        bad,
        down=down,
        counts=counts,
        failed=failed,
        checks=checks,
        untried=untried,
        beats=status.plip_state == "ok",
        wants_relief=status.wants_relief,
    )
