"""One node in real-valued time, beside a peer that says and does anything and then is gone.

The explorer counts whole ticks, in which much happens at once; here two things hardly ever do.
Whatever a node has been through: once the peer is dead, while the service network and the programs
work, it serves within the time that `failoverd -t` prints, goes on to, and owes no answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st

from failoverd import pair
from failoverd.pair import PeerView, Query, bounds

INTERFACES = ("eth0", "eth1")
ROLES = ("active", "standby", "switching", "failed", "rejoining")
VERDICTS = ("ok", "fail", "boot", "late")
PROGRAM_TAKES = 0.01
STAYS = 4  # windows that a role must last before it counts


@st.composite
def all_rules(draw: st.DrawFn) -> pair.Rules:
    window = draw(st.sampled_from((0.5, 1.0, 11.0, 60.0)))
    addressed = draw(
        st.sampled_from((frozenset(INTERFACES), frozenset({"eth0"}), frozenset[str]()))
    )
    confirm = draw(st.sampled_from(("arp", "arp", "none", "program")))
    boot = draw(st.sampled_from(("master", "slave")))
    return pair.Rules(
        boot=boot,
        precedes=boot == "master",
        mresume=draw(st.booleans()),
        interfaces=INTERFACES,
        window=window,
        heartbeat=window * draw(st.sampled_from((0.2, 0.5, 0.9))),
        switch_timeout=draw(st.sampled_from((2.0, 30.0))),
        hold_down=draw(st.sampled_from((0.0, 2.0, 60.0))),
        confirm="none" if confirm == "arp" and not addressed else confirm,
        addressed=addressed,
        fence=draw(st.booleans()),
        status_timeout=max(1.0, min(5.0, window)),
        low_water=draw(st.sampled_from((0, 1, 2))),
        card_window=draw(st.sampled_from((0.5, 1.0, 20.0))),
    )


@dataclass
class Node:
    """The pair's decisions, and what the master keeps in their place: what is under way."""

    rules: pair.Rules
    state: pair.State
    now: float = 0.0
    asked: dict[Query, float] = field(default_factory=dict)  # until when an answer may come
    probes: dict[bool, tuple[float, int]] = field(default_factory=dict)
    script: str = ""
    programs: dict[str, int] = field(default_factory=dict)  # the numbers of their runs
    looks: bool = False
    requests: set[int] = field(default_factory=set)
    numbered: int = 0

    def feed(self, event: pair.Event) -> None:
        self.state, actions = pair.step(self.state, event, self.rules, self.now)
        for action in actions:
            self.do(action)

    def do(self, action: pair.Action) -> None:
        match action:
            case pair.RunScript():
                assert not self.script, "two scripts at a time"
                self.script = action.role
            case pair.RunProgram():
                self.programs[action.kind] = action.number
            case pair.Ask():
                self.asked[action.query] = self.now + action.timeout
            case pair.Probe():
                self.probes[action.own] = (action.until, len(action.at))
            case pair.Look():
                self.looks = True
            case pair.Forget():
                self.asked = {p: t for p, t in self.asked.items() if p is Query.COMPARE}
                if action.probes:
                    self.probes.clear()
            case pair.Answer():
                self.requests.remove(action.id)

    @property
    def serves(self) -> bool:
        return pair.role(self.state) == "active" and not self.script


# ---------------------------------------------------------------------------- whatever happens


def window_ends(node: Node, number: int) -> None:
    verdict = VERDICTS[number % 4]
    node.feed(pair.Watched(INTERFACES[number % 2], number % 3, number // 3 % 3, verdict))


def link_window_ends(node: Node, number: int) -> None:
    verdict = VERDICTS[number % 4]
    node.feed(pair.LinkWatched(0 if verdict == "fail" else number // 4 % 2, verdict))


def carrier(node: Node, number: int) -> None:
    node.feed(pair.Carrier(INTERFACES[number % 2], number % 3 > 0))


def request(node: Node, number: int) -> None:
    node.numbered += 1
    node.requests.add(node.numbered)
    command = "fail" if number % 2 else "resume"
    node.feed(pair.Request(node.numbered, command, from_peer=number // 2 % 2 == 0))


def reread(node: Node, number: int) -> None:
    node.feed(pair.Reread())


def time_passes(node: Node, number: int) -> None:
    node.feed(pair.Tick())


def stands_still(node: Node, number: int) -> None:
    node.feed(pair.Stalled())


def addresses_move(node: Node, number: int) -> None:
    node.feed(pair.Bare() if pair.role(node.state) == "active" else pair.Stray())


def peer_answers(node: Node, number: int) -> None:
    if not node.asked:
        return
    purpose = sorted(node.asked, key=lambda p: p.value)[number % len(node.asked)]
    del node.asked[purpose]
    if number % 2:
        node.feed(pair.Unreplied(purpose, sent=number % 3 > 0))
        return
    bad = frozenset(INTERFACES[: number // 2 % 3])
    counts = tuple((interface, number % 3, number // 3 % 3) for interface in INTERFACES)
    boot = "slave" if number % 5 else node.rules.boot
    view = PeerView(ROLES[number % 5], boot, bad, counts=counts)
    asks = purpose in (Query.COMPARE, Query.STATUS)
    node.feed(pair.Replied(purpose, number % 3 > 0, "so", view if asks else None))


def host_answers(node: Node, number: int) -> None:
    if node.probes:
        own = sorted(node.probes)[number % len(node.probes)]
        _, rounds = node.probes.pop(own)
        anybody = number % 5 < 2
        asked = max(anybody, number % (rounds + 1))
        node.feed(pair.Answers(own, asked, anybody))


def script_ends(node: Node, number: int) -> None:
    if node.script:
        node.script, ran = "", number % 8 > 0
        node.feed(pair.Ended("script", ran and number % 3 > 0, ran))


def program_ends(node: Node, number: int) -> None:
    if node.programs:
        kind = sorted(node.programs)[number % len(node.programs)]
        run = node.programs.pop(kind)
        ran = number % 8 > 0
        node.feed(pair.Ended(kind, ran and number % 2 > 0, ran, run))


def interface_is_read(node: Node, number: int) -> None:
    if node.looks:
        node.looks = False
        node.feed(pair.Counted(INTERFACES[number % 2], number % 3))


HAPPENINGS: tuple[Callable[[Node, int], None], ...] = (
    *(window_ends, link_window_ends, carrier, request, reread, stands_still, addresses_move),
    *(time_passes,) * 3,
    *(peer_answers,) * 6,
    *(host_answers, interface_is_read) * 4,
    *(script_ends,) * 6,
    *(program_ends,) * 3,
)
PAUSES = st.sampled_from((0.0, 0.0, 0.001, 0.01, 0.1, 0.5, 1.0, 3.0, 10.0, 40.0))
LIFE = st.lists(
    st.tuples(PAUSES, st.sampled_from(HAPPENINGS), st.integers(0, 119)), min_size=1, max_size=60
)

# ---------------------------------------------------------------------------- how it begins

STANDS_BY = PeerView("standby", "slave", frozenset())
GIVING: tuple[pair.Event, ...] = (
    pair.Started("active"),
    pair.Replied(Query.STATUS, True, view=STANDS_BY),
    pair.Request(0, "resume", from_peer=False),
    pair.Replied(Query.STATUS, True, view=STANDS_BY),
    pair.Ended("script", ok=True),
    pair.Unreplied(Query.FAIL),
)
TAKING: tuple[pair.Event, ...] = (
    pair.Started("standby"),
    pair.Request(0, "fail", from_peer=False),
    pair.Replied(Query.STATUS, True, view=STANDS_BY),
    pair.Unreplied(Query.RESUME),
)
BEGINS = st.one_of(
    st.builds(lambda length: GIVING[:length], st.integers(1, len(GIVING))),
    st.builds(lambda length: TAKING[:length], st.integers(1, len(TAKING))),
    st.builds(
        lambda role, resuming: (pair.Started(role, resuming),),
        st.sampled_from((None, None, "failed", "switching")),
        st.booleans(),
    ),
)


def begin(node: Node, events: tuple[pair.Event, ...]) -> None:
    """As far on the way as the rules let it come."""
    for event in events:
        match event:
            case pair.Replied() | pair.Unreplied():
                if node.asked.pop(event.query, None) is None:
                    return
            case pair.Ended():
                if not node.script:
                    return
                node.script = ""
            case pair.Request():
                node.requests.add(event.id)
        node.feed(event)


# ---------------------------------------------------------------------------- left alone

Due = tuple[float, int, Callable[[], None]]


@dataclass
class Alone:
    """The node when the peer is dead: nothing answers, its interfaces receive, programs succeed."""

    node: Node
    silent: int = 0  # windows of the heartbeat link
    ends: dict[str, float] = field(default_factory=dict)  # of the open windows

    def due(self) -> Iterator[Due]:
        """What happens by itself, when, and first of what happens at the same time."""
        node = self.node
        now, soon = node.now, node.now + PROGRAM_TAKES
        deadline = pair.next_deadline(node.state)
        if deadline is not None:
            yield max(now, deadline), 0, lambda: node.feed(pair.Tick())
        for name, end in self.ends.items():
            yield end, 1, partial(self.window, name)
        for purpose, until in node.asked.items():
            yield max(now, until), 2, partial(self.unreplied, purpose)
        for own, (until, _) in node.probes.items():
            yield max(now, until), 3, partial(self.unanswered, own)
        if node.script:
            yield soon, 4, self.script
        for kind in node.programs:
            yield soon, 5, partial(self.program, kind)
        if node.looks:
            yield now, 6, self.look

    def window(self, name: str) -> None:
        rules = self.node.rules
        if name in INTERFACES:
            self.ends[name] += rules.card_window
            self.node.feed(pair.Watched(name, 5, 5, "ok"))
        else:
            self.ends[name] += rules.window
            self.silent += 1
            self.node.feed(pair.LinkWatched(0, "fail" if self.silent > 1 else "ok"))

    def unreplied(self, purpose: Query) -> None:
        del self.node.asked[purpose]
        self.node.feed(pair.Unreplied(purpose))

    def unanswered(self, own: bool) -> None:
        _, rounds = self.node.probes.pop(own)
        self.node.feed(pair.Answers(own, rounds, anybody=False))

    def script(self) -> None:
        self.node.script = ""
        self.node.feed(pair.Ended("script", ok=True))

    def program(self, kind: str) -> None:
        run = self.node.programs.pop(kind)  # $confirm: the service is dead
        self.node.feed(pair.Ended(kind, ok=kind == "fence", number=run))

    def look(self) -> None:
        self.node.looks = False
        for interface in INTERFACES:
            self.node.feed(pair.Counted(interface, 5))

    def serves_after(self, longest: float) -> float:
        """When it has begun to serve for good, in seconds from now; longest if it never does."""
        node, died, began = self.node, self.node.now, None
        lasting = STAYS * (node.rules.window + node.rules.card_window)
        while node.now < died + longest + lasting:
            if not node.serves:
                began = None
            elif began is None:
                began = node.now
            elif node.now > began + lasting:
                return began - died
            at, _, happen = min(self.due(), key=lambda due: due[:2])
            node.now = at
            happen()
        return longest


@settings(max_examples=150, deadline=None)
@given(all_rules(), BEGINS, LIFE, st.floats(0, 1), st.floats(0, 1))
def test_whoever_is_left_alone_serves(
    rules: pair.Rules,
    beginning: tuple[pair.Event, ...],
    life: list[tuple[float, Callable[[Node, int], None], int]],
    link_part: float,
    interface_part: float,
) -> None:
    node = Node(rules, pair.initial(rules))
    begin(node, beginning)
    for pause, happen, number in life:
        node.now += pause
        happen(node, number)
    for interface in INTERFACES:
        node.feed(pair.Carrier(interface, up=True))
    alone = Alone(node)
    alone.ends = dict.fromkeys(INTERFACES, node.now + interface_part * rules.card_window)
    alone.ends["plip0"] = node.now + link_part * rules.window
    allowed = bounds.longest_without_active(rules)
    assert alone.serves_after(2 * allowed) <= allowed
    assert not node.requests, "an asker has no answer"
