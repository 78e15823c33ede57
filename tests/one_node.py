"""One node of the pair, and all that may happen to it: what it has asked for comes, or does not.

Nothing is told to it that no master would tell: an answer to a query that was dropped does not
come, a script that does not run does not end. After every step it must be as `check` says, and as
is promised to those who wait for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from failoverd import pair
from failoverd.events import EVENTS, Level
from failoverd.log import tail
from failoverd.pair import PeerView, Phase, Query, Timer
from failoverd.pair.invariant import check

MASTER = pair.Rules(
    boot="master",
    precedes=True,
    mresume=True,
    interfaces=("eth0", "eth1"),
    window=10.0,
    heartbeat=4.0,
    switch_timeout=30.0,
    hold_down=60.0,
    confirm="arp",
    addressed=frozenset({"eth0"}),
    fence=False,
    status_timeout=5.0,
    card_window=20.0,
)
SLAVE = replace(MASTER, boot="slave", precedes=False)
NOW = 1000.0
ROLES = ("active", "standby", "failed", "switching", "rejoining")
STATES = (Query.COMPARE, Query.STATUS)


def view(
    role: str,
    bad: str = "",
    boot: str = "slave",
    down: str = "",
    failed: str = "",
    checks: str = "",
    wants_relief: bool = False,
) -> PeerView:
    sets = (frozenset(words.split()) for words in (bad, down, failed, checks))
    bad_ones, down_ones, failed_ones, bad_checks = sets
    return PeerView(
        role, boot, bad_ones, down_ones, (), failed_ones, bad_checks, wants_relief=wants_relief
    )


def counting(packets: int, last: int = 0) -> pair.PeerView:
    """A standby that has received so much on eth0."""
    return replace(view("standby"), counts=(("eth0", packets, last), ("eth1", 5, 5)))


VIEWS = (
    *(view(role) for role in ROLES),
    *(view(role, boot="master") for role in ROLES),
    view("active", "eth0 eth1", failed="eth0 eth1"),
    view("standby", "eth0"),
    view("standby", checks="web"),
    view("standby", "eth0 eth1", down="eth0 eth1"),
    *(counting(packets) for packets in range(4)),
)
ANYTIME: tuple[pair.Event, ...] = (
    *(pair.LinkWatched(*window) for window in ((0, "fail"), (0, "ok"), (1, "ok"), (0, "late"))),
    *(
        pair.Watched(name, *window)
        for name in MASTER.interfaces
        for window in ((0, 0, "fail"), (9, 0, "ok"), (0, 9, "ok"), (9, 0, "boot"), (0, 0, "late"))
    ),
    *(pair.Carrier(name, up) for name in MASTER.interfaces for up in (True, False)),
    *(pair.Checked(name, ok) for name in ("web", "db") for ok in (True, False, None)),
    *(pair.Hold(on) for on in (True, False)),
    pair.Stalled(),
    pair.Reread(),
)


# ---------------------------------------------------------------------------- one step


def judged(**verdicts: str) -> tuple[pair.Interface, ...]:
    """Interfaces that are judged good, but for those named here."""
    return tuple(
        pair.Interface(name, verdict, packets=9 * (verdict != "fail"), last=9)
        for name in MASTER.interfaces
        for verdict in (verdicts.get(name, "ok"),)
    )


Known = dict[str, object]
REACHED = ((Timer.HEARD, NOW + 5), (Timer.UNHEARD, NOW + 15))
ALONE: Known = {"timers": ()}
P = pair.Purpose
MOMENTS: dict[str, Known] = {
    "idle": {"phase": Phase.STANDBY},
    "boot": {"phase": Phase.RESOLVING, "purpose": P.BOOT},
    "nobody": {"phase": Phase.RESOLVING, "purpose": P.NOBODY},
    "operator": {"phase": Phase.RESOLVING, "purpose": P.OPERATOR},
    "silence": {"phase": Phase.RESOLVING, "purpose": P.SILENCE},
    "relief": {"phase": Phase.RESOLVING, "purpose": P.RELIEF},
    "fencing": {"phase": Phase.FENCING, "purpose": P.SILENCE, "program": 2, "runs": 2},
    "calling": {"phase": Phase.TOLD, "purpose": P.OPERATOR, "told": Query.RESUME},
    "call lost": {"phase": Phase.RESOLVING, "purpose": P.OPERATOR, "told": Query.RESUME},
    "promoting": {"phase": Phase.PROMOTING, "purpose": P.SILENCE},
    "active": {"phase": Phase.ACTIVE},
    "interface": {"phase": Phase.RESOLVING, "purpose": P.INTERFACE},
    "check": {"phase": Phase.RESOLVING, "purpose": P.CHECK},
    "release": {"phase": Phase.RESOLVING, "purpose": P.RELEASE},
    "doubt": {"phase": Phase.RESOLVING, "purpose": P.DOUBT},
    "demoting": {"phase": Phase.DEMOTING, "purpose": P.INTERFACE},
    "giving": {"phase": Phase.TOLD, "purpose": P.INTERFACE, "told": Query.FAIL},
    "gift lost": {"phase": Phase.RESOLVING, "purpose": P.INTERFACE, "told": Query.FAIL},
}


def node(moment: str, **changes: object) -> pair.State:
    """A node at a moment, with two good interfaces, and a peer that was reached just now."""
    known: Known = {"begun": True, "interfaces": judged(), "timers": REACHED}
    return replace(pair.State(), **known | MOMENTS[moment] | changes)  # type: ignore[arg-type]


def moment(state: pair.State) -> str:
    """Which it is."""
    found = (state.phase, state.purpose, state.told)
    return next((name for name, known in MOMENTS.items() if found == which(known)), str(found))


def which(known: Known) -> tuple[object, object, object]:
    return known["phase"], known.get("purpose", P.NONE), known.get("told")


def deadline(state: pair.State, timer: Timer) -> float | None:
    return dict(state.timers).get(timer)


def step(
    state: pair.State, event: pair.Event, rules: pair.Rules = MASTER, after: float = 0.0
) -> tuple[pair.State, list[pair.Action]]:
    """A step so many seconds after NOW, and what it does but for words."""
    new, actions = pair.step(state, event, rules, NOW + after)
    return new, [a for a in actions if not isinstance(a, (pair.Log, pair.Forget))]


def words(line: pair.Log) -> str:
    """A line as the log has it, but for what the master adds."""
    return f"{line.event} {line.subject}: {line.sentence}{tail(dict(line.values))}"


def is_alarm(line: pair.Log) -> bool:
    return EVENTS[line.event].level <= Level.WARNING


def done(actions: list[pair.Action]) -> str:
    """What the master does, in words; what is compared or of the heartbeats is left out."""
    words: dict[type[pair.Action], Callable[[Any], str]] = {
        pair.Announce: lambda action: "announce",
        pair.Probe: lambda action: "ask own" if action.own else f"ask {len(action.at)}",
        pair.Ask: lambda action: action.query.value,
        pair.RunScript: lambda action: f"run {action.role}",
        pair.RunProgram: lambda action: f"run {action.kind}",
        pair.RestartWatchers: lambda action: "begin windows",
        pair.Heartbeats: lambda action: "heartbeats",
        pair.Look: lambda action: "look",
        pair.Answer: lambda action: f"{action.id} {'ok' if action.ok else 'error'}: {action.text}",
    }
    found = {words[type(action)](action) for action in actions}
    return ", ".join(sorted(found - {"heartbeats", "compare"}))


class Broken(AssertionError):
    """A promise is not kept."""


@dataclass
class Node:
    """One node under way. asked, searched: what it may still be answered."""

    rules: pair.Rules
    state: pair.State
    now: float = NOW
    asked: list[Query] = field(default_factory=list)
    searched: list[bool] = field(default_factory=list)  # whether for the own addresses
    program: pair.RunProgram | None = None
    runs: bool = False  # the switch script
    looks: bool = False
    owed: dict[int, pair.Request] = field(default_factory=dict)
    requests: int = 0
    story: list[str] = field(default_factory=list)

    # ------------------------------------------------------------------ what may happen

    def possible(self) -> list[pair.Event]:
        found: list[pair.Event] = [*ANYTIME, *(self.request(n) for n in range(4))]
        for query in self.asked:
            found += [pair.Unreplied(query, sent) for sent in (True, False)]
            if query in STATES:
                found += [pair.Replied(query, True, "", seen) for seen in VIEWS]
            else:
                found += [pair.Replied(query, True), pair.Replied(query, False, "busy")]
        for own in self.searched:
            found += [pair.Answers(own, n, False) for n in (0, 1, 3)]
            found += [pair.Answers(own, 1, True, "somebody")]
        if self.runs:
            found += [pair.Ended("script", ok, ran) for ok, ran in RUNS]
        if self.program is not None:
            kind, number = self.program.kind, self.program.number
            found += [pair.Ended(kind, ok, ran, number) for ok, ran in RUNS]
        if self.looks:
            found += [pair.Counted("eth0", packets) for packets in (0, 9)]
        if pair.role(self.state) == "active":
            found.append(pair.Bare())
        elif pair.role(self.state) != "switching" and not pair.seeks(self.state):
            found.append(pair.Stray())
        return found

    def request(self, kind: int) -> pair.Request:
        return pair.Request(self.requests + 1, ("fail", "resume")[kind % 2], kind < 2)

    # ------------------------------------------------------------------ what happens

    def begin(self, event: pair.Started) -> None:
        self.feed(event)

    def wait(self, seconds: float) -> None:
        """Every deadline that passes meanwhile is met in time."""
        end = self.now + seconds
        while (due := pair.next_deadline(self.state)) is not None and due <= end:
            self.now = max(due, self.now)
            self.feed(pair.Tick())
            left = pair.next_deadline(self.state)
            if left is not None and left <= self.now:
                raise Broken(f"it is never done with a deadline {self.state.timers}")
        self.now = end

    def feed(self, event: pair.Event) -> tuple[pair.Action, ...]:
        before = self.state
        self.expect(event)
        self.state, actions = pair.step(before, event, self.rules, self.now)
        self.story.append(f"{self.now - NOW:8.2f} {event}: {self.state.phase.name}")
        for action in actions:
            self.perform(action)
        self.judge(before, event, actions)
        return actions

    def expect(self, event: pair.Event) -> None:
        match event:
            case pair.Request():
                self.requests = max(self.requests, event.id)
                self.owed[event.id] = event
            case pair.Replied() | pair.Unreplied():
                self.asked.remove(event.query)
            case pair.Answers():
                self.searched.remove(event.own)
            case pair.Ended(kind="script"):
                self.runs = False
            case pair.Ended():
                self.program = None
            case pair.Counted():
                self.looks = False

    def perform(self, action: pair.Action) -> None:
        match action:
            case pair.Ask():
                self.asked = [*(q for q in self.asked if q is not action.query), action.query]
            case pair.Probe():
                self.searched = [*(o for o in self.searched if o is not action.own), action.own]
            case pair.Forget():
                self.asked = [query for query in self.asked if query is Query.COMPARE]
                if action.probes:
                    self.searched, self.program = [], None
            case pair.RunScript():
                self.must(not self.runs, "two scripts run at once")
                self.runs = True
            case pair.RunProgram():
                self.program = action
            case pair.Look():
                self.looks = True
            case pair.Answer():
                self.answered(action)

    def answered(self, answer: pair.Answer) -> None:
        self.must(answer.id in self.owed, "it answers who does not wait")
        request = self.owed.pop(answer.id)
        if answer.ok:
            wanted = {"fail": "active", "resume": "standby"}[request.command]
            self.must(answer.text == wanted, f"{answer} to {request}")
            role = pair.role(self.state)
            true = {"active": ("active",), "standby": ("standby", "failed")}[wanted]
            gives = wanted == "standby" and request.from_peer  # it has stood down, and gives more
            self.must(role in true or (gives and role == "switching"), f"{answer} while {role}")

    # ------------------------------------------------------------------ what must hold

    def must(self, holds: bool, text: str) -> None:
        if not holds:
            raise Broken("\n".join([text, *self.story[-25:], str(self.state)]))

    def judge(
        self, before: pair.State, event: pair.Event, actions: tuple[pair.Action, ...]
    ) -> None:
        state = self.state
        wrong = check(state)
        self.must(not wrong, wrong)
        self.must(
            set(self.owed) == {number for number, _ in state.waiting}, "an asker is forgotten"
        )
        changing = state.phase in (Phase.PROMOTING, Phase.DEMOTING)
        self.must(changing is self.runs, "a script runs if, and only if, the role changes")
        self.must(state.asking is (False in self.searched), "it does not know what it has asked")
        awaited = self.program is not None and self.program.number == state.program
        self.must(bool(state.program) is awaited, "it does not know which program it awaits")
        self.must(state.phase is not Phase.RESOLVING or self.finds_out(), "it waits for nothing")
        self.must(
            state.phase is not Phase.TOLD or state.told in self.asked, "the peer was not told"
        )
        compares = Query.COMPARE in self.asked or state.runs_out(Timer.COMPARE)
        self.must(compares, "it compares no more")
        announces = any(isinstance(action, pair.Announce) for action in actions)
        self.must(not announces or pair.role(state) == "active", "a standby announces")

    def finds_out(self) -> bool:
        timers = (Timer.RETRY, Timer.GIVE_UP)
        pending = Query.STATUS in self.asked or self.state.asking or self.program is not None
        return pending or self.looks or any(map(self.state.runs_out, timers))


RUNS = ((True, True), (False, True), (False, False))


def started(rules: pair.Rules, was: str | None, resuming: bool, unclean: bool) -> Node:
    found = Node(rules, pair.initial(rules))
    found.begin(pair.Started(was, resuming, unclean))
    return found


# ---------------------------------------------------------------------------- how it ends

# What the peer's port and the service network say from now on.
WORLDS: dict[str, tuple[PeerView | None, bool]] = {
    "the peer is dead": (None, False),
    "the peer cannot be reached": (None, True),
    "the peer is active": (view("active"), True),
    "the peer is standby": (view("standby"), False),
    "the peer has failed": (view("failed"), False),
}


def come_to_rest(found: Node, world: str, seconds: float) -> None:
    """Whatever is asked is answered at once, as it is in this world; every script works."""
    peer, anybody = WORLDS[world]
    end = found.now + seconds
    while found.now < end:
        for _ in range(20):
            event = next_answer(found, peer, anybody)
            if event is None:
                break
            found.feed(event)
            if isinstance(event, pair.Answers):  # which take their time
                break
        else:
            found.must(False, "it asks without end, and no time passes")
        found.wait(1.0)


def next_answer(found: Node, peer: PeerView | None, anybody: bool) -> pair.Event | None:
    if found.runs:
        return pair.Ended("script", True)
    if found.program is not None:
        ok = found.program.kind == "fence" or anybody
        return pair.Ended(found.program.kind, ok, True, found.program.number)
    if found.searched:
        own = found.searched[0]
        return pair.Answers(own, 3, anybody and not own)
    if found.looks:
        return pair.Counted("eth0", 0)
    if not found.asked:
        return None
    query = found.asked[0]
    if peer is None:
        return pair.Unreplied(query)
    if query in STATES:
        return pair.Replied(query, True, "", peer)
    refuses = peer.role == ("failed" if query is Query.FAIL else "active")
    return pair.Replied(query, not refuses, "no")
