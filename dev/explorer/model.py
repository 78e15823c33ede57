"""Two nodes, a heartbeat link and a service network, in whole ticks: what the explorer explores.

The nodes run the real `failoverd.pair` and `failoverd.watch`. Everything else is as small as it
can be and still go wrong in every way that matters: packets are none or some, a script takes a tick
or hangs, a message takes no time or a tick, or is lost. A world is a plain tuple that holds no
clock, only what is left of every deadline, so that worlds which differ in nothing else are equal.

This module says what a world is and what may happen to it; `scene` makes it happen. Where a world
may go on in more than one way, it asks `Chance`, and whoever explores takes each way in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from math import ceil
from typing import NamedTuple

from failoverd import pair
from failoverd.watch import judge
from failoverd.wire import protocol

# How a node runs. STOPPED: failoverd stands still, the kernel does not. FROZEN: both do.
OFF, DEAD, RUNNING, STOPPED, FROZEN = range(5)

RECEIVES, DEAD_PORT, DOWN, GONE = RECEPTION = range(4)  # of an interface; GONE: with the addresses

# What there is to receive on the service network in a tick. FEW: less than $low_water.
STILL, FEW, PLENTY = range(3)

# Whether a node has the addresses. ASTRAY: because something else than failoverd put them there.
AWAY, HELD, ASTRAY = range(3)

CHECK = "web"  # of the service

# What failoverd knows of the addresses: nothing; that they are on the interface; that they are
# gone.
UNSEEN, PLACED, MISSED = range(3)

# Where a query to the peer's port is.
GOING, BUFFERED, WAITING, BACK = range(4)

# Whom the clients take for the service, besides 0 and 1. NEITHER: they ask, or are told in a
# minute.
NEITHER, EITHER = 2, 3
UNOWNED = 2  # neither has been active yet

NAMES = ("A", "B")
INTERFACES = ("e0", "e1")
Window = tuple[int, int, bool, int]
Counts = tuple[tuple[int, int], ...]


class Script(NamedTuple):
    """How a switch script behaves."""

    name: str
    ticks: int = 1
    master_ok: bool = True
    master_adds: bool = True
    slave_ok: bool = True
    slave_removes: bool = True
    runs: bool = True


SCRIPTS = (
    Script("works"),
    Script("fails to begin", master_ok=False, master_adds=False),
    Script("fails after it has put the addresses", master_ok=False),
    Script("fails to end", slave_ok=False, slave_removes=False),
    Script("fails after it has taken the addresses away", slave_ok=False),
    Script("hangs", 0, False, False, False, False),
    Script("hangs after it has put the addresses", 0, False),
    Script("is as slow as it may be", 0),
    Script("cannot be started", 1, False, False, False, False, runs=False),
)


@dataclass(frozen=True)
class Setup:
    """The settings of the pair, in ticks, and what may happen to it."""

    boots: tuple[str, str] = ("master", "slave")
    mresume: bool = True
    interfaces: int = 1
    low_water: int = 1
    window: int = 2
    interface_window: int = 2
    heartbeat: int = 1
    switch_timeout: int = 2
    hold_down: int = 4
    failback: int = 0  # -1: no
    status_timeout: int = 1
    addresses: bool = True
    second: bool = True  # queries pass on the first interface, too
    confirm: str = "arp"
    fence: bool = False
    first: int = 0  # whose events of a tick come first
    faults: int = 2
    delays: int = 1
    menu: frozenset[str] = frozenset()  # words of MENU
    scripts: tuple[int, ...] = (1, 2, 3, 5, 8)

    @property
    def two_paths(self) -> bool:
        return self.second and self.confirm != "none"

    def rules(self, node: int) -> pair.Rules:
        return pair.Rules(
            boot=self.boots[node],
            precedes=node == 0,
            mresume=self.mresume,
            interfaces=INTERFACES[: self.interfaces],
            window=self.window,
            heartbeat=self.heartbeat,
            switch_timeout=self.switch_timeout,
            hold_down=self.hold_down,
            confirm=self.confirm,
            addressed=frozenset(INTERFACES[: self.interfaces] if self.addresses else ()),
            fence=self.fence,
            status_timeout=self.status_timeout,
            card_window=self.interface_window,
            low_water=self.low_water,
            failback=None if self.failback < 0 else float(self.failback),
            request_time=1,
            grace=1,
        )


class Violation(Exception):
    """What must never happen has happened."""


class Stored(NamedTuple):
    """What $state holds."""

    role: str | None = None
    resuming: bool = False
    unclean: bool = False
    from_peer: bool = False
    guarded: frozenset[str] | None = None
    checks: frozenset[str] = frozenset()


class Mind:
    """`pair.step` of one node, remembered: a state of the pair is a small number here."""

    def __init__(self, rules: pair.Rules) -> None:
        self.rules = rules
        self.states: list[pair.State] = []
        self.numbers: dict[pair.State, int] = {}
        self.known: dict[tuple[int, pair.Event], tuple[int, tuple[pair.Action, ...]]] = {}
        self.aged: dict[int, int] = {}
        self.views: dict[tuple[int, Counts], pair.PeerView] = {}
        self.due: list[bool] = []
        self.stored: list[Stored] = []
        self.new = self.number(pair.initial(rules))

    def number(self, state: pair.State) -> int:
        found = self.numbers.get(state)
        if found is not None:
            return found
        number = self.numbers[state] = len(self.states)
        self.states.append(state)
        role = pair.role(state)
        deadline = pair.next_deadline(state)
        self.due.append(deadline is not None and deadline <= 0)
        kept = state.resuming, state.unclean, state.from_peer, state.guarded, state.checks
        self.stored.append(Stored(role, *kept))
        return number

    def look(self, number: int, counts: Counts) -> pair.PeerView:
        """What the node's status tells the peer; counts as they were last looked at."""
        found = self.views.get((number, counts))
        if found is None:
            state = self.states[number]
            rejoining = pair.is_rejoining(state)
            seen = tuple(zip(state.interfaces, counts, strict=True))
            found = self.views[number, counts] = pair.PeerView(
                "rejoining" if rejoining else pair.role(state),
                self.rules.boot,
                frozenset(i.name for i, count in seen if protocol.is_bad(i.state, *count)),
                frozenset(i.name for i in state.interfaces if not i.up),
                tuple((i.name, *count) for i, count in seen),
                frozenset(i.name for i in state.interfaces if i.state == "fail"),
                state.checks,
                state.beats,
                pair.wants_relief(state),
                untried=frozenset((CHECK,)) - state.tried,
            )
        return found

    def step(self, number: int, event: pair.Event) -> tuple[int, tuple[pair.Action, ...]]:
        key = (number, event)
        found = self.known.get(key)
        if found is None:
            state, actions = pair.step(self.states[number], event, self.rules, 0)
            found = self.known[key] = (self.number(state), actions)
        return found

    def age(self, number: int) -> int:
        """The same state a tick later."""
        found = self.aged.get(number)
        if found is None:
            state = self.states[number]
            timers = tuple((timer, max(0, ceil(left - 1))) for timer, left in state.timers)
            found = self.aged[number] = self.number(replace(state, timers=timers))
        return found


class Exchange(NamedTuple):
    """A query of one node to the other's port."""

    purpose: int  # place in PURPOSES
    left: int  # ticks until the asker gives up; -1: the answer is not awaited any more
    stage: int
    waited: int = 0  # ticks since it was sent, or since it lies unread
    number: int = 0  # of the request at the other node
    answer: pair.Replied | pair.Unreplied | None = None
    direct: bool = False  # it does not take the second path


PURPOSES = tuple(pair.Query)
FAIL, RESUME = PURPOSES.index(pair.Query.FAIL), PURPOSES.index(pair.Query.RESUME)
COMMAND = {FAIL: "fail", RESUME: "resume"}


class Asked(NamedTuple):
    """A probe on the service network. Who answers is found out in the last tick."""

    own: bool
    rounds: int
    left: int
    answered: int = -1  # 0 or 1 once that is known, but failoverd stood still


class Run(NamedTuple):
    """A run of the switch script. ok: how it has ended, None while it runs."""

    role: str
    left: int
    ok: bool | None = None


class Host(NamedTuple):
    """One node."""

    run: int = OFF
    mind: int = -1
    stored: Stored = Stored()
    script: Run | None = None
    behaviour: int = 0  # of the script, place in SCRIPTS
    stumbled: bool = False  # in this tick a program could not be started
    holds: int = AWAY
    placed: int = UNSEEN
    reception: tuple[int, ...] = (RECEIVES,)  # per interface
    link: Window = (0, 0, True, 0)
    interfaces: tuple[Window, ...] = ()
    asks: tuple[Exchange, ...] = ()
    asked: tuple[Asked, ...] = ()
    program: tuple[str, int, int] | None = None  # kind, ticks left, number of the run
    stale: tuple[str, bool, int] | None = None  # one that was forgotten: kind, how it ends, number
    counts: Counts = ((0, 0),)  # of the interfaces, as failoverd last looked
    gap: int = 0  # ticks that the loop stood still
    boots_in: int = -1
    forgets_in: int = -1  # what was bad of the service that ran here
    airing: int = 0  # ticks for which the last announcement is still repeated
    sick: bool = False  # the service would not pass its check here
    held: bool = False  # changes of role are on hold, as this node knows


class World(NamedTuple):
    """Everything, but for what time it is."""

    hosts: tuple[Host, Host]
    wire: tuple[bool, bool] = (True, True)  # the heartbeat link, from A to B and from B to A
    ports: tuple[bool, bool] = (True, True)  # whether B's port lets A in, and A's port B
    seconds: tuple[bool, bool] = (True, True)  # the same of their ports on the second path
    whole: bool = True  # whether the heartbeat link passes more than the smallest packets
    airs: tuple[bool, bool] = (
        True,
        True,
    )  # whether A's probes on the service network, and B's, pass
    switch: bool = True
    traffic: int = PLENTY  # what there is to receive on the service network
    owner: int = UNOWNED  # who was the last to be active alone
    believed: int = 2  # whom the clients take for the service: 0, 1, NEITHER or EITHER
    giver: int = -1  # who gave its role away for an interface; and 2 more: for a check
    held: int = 0  # ticks for which the role may not be given back for that
    faults: int = 0  # left
    delays: int = 0
    news: int = -1  # who knows of a hold, or of its end, what the peer does not know yet


# What happens between two ticks: a word, a node (2: both), and what it concerns there.
Fault = tuple[str, int, int]

# Every word of the menu, from which a setup takes what it wants.
MENU = (
    "power",  # a node's power is cut, and comes back
    "daemon",  # failoverd is killed, and started again at once or later
    "freeze",  # a node stands still with its kernel, and thaws
    "stop",  # only failoverd stands still
    "link",  # the heartbeat link is cut in both directions
    "oneway",  # in one direction
    "port",  # a packet filter at a port lets the other node's queries in no more
    "second",  # one at its port on the second path does not
    "hole",  # the heartbeat link passes only small packets: no status comes through
    "onearp",  # what one node asks on the service network is not answered
    "poll",  # a person asks for the status with a command, from either address
    "stale",  # a program answers after it was dropped
    "loss",  # a query, an answer, or a connection is lost
    "dead",  # a switch port passes nothing either way, with its carrier up
    "down",  # an interface has no carrier
    "gone",  # an interface is deleted, with the addresses, and made again
    "switch",  # the service network is dead for both
    "traffic",  # there is nothing to receive there
    "few",  # there is less to receive there than $low_water
    "script",  # the switch script fails or hangs, and works again
    "bare",  # the addresses vanish from their interface
    "stray",  # they come to it, and failoverd has not put them there
    "norun",  # the switch script, the fence program or that of $confirm cannot be started once
    "fence",  # the fence program fails
    "person",  # a person types fail or resume
    "check",  # the service fails its check on a node, and passes it again
    "hold",  # a person puts changes of role on hold, and releases them
)


class Chance:
    """Takes the ways in the order of a script, then always the first."""

    def __init__(self, script: tuple[int, ...] = ()) -> None:
        self.script = script
        self.taken: list[tuple[int, int]] = []

    def pick(self, ways: int) -> int:
        at = len(self.taken)
        way = self.script[at] if at < len(self.script) else 0
        self.taken.append((way, ways))
        return way

    def alternatives(self) -> Iterator[tuple[int, ...]]:
        """The scripts of all the ways that branch off after this one's script."""
        ways = [way for way, _ in self.taken]
        for at in range(len(self.script), len(self.taken)):
            for other in range(1, self.taken[at][1]):
                yield (*ways[:at], other)


def ways(run: Callable[[Chance], World]) -> Iterator[tuple[tuple[int, ...], World]]:
    """Every outcome of something, with the script that leads to it."""
    scripts: list[tuple[int, ...]] = [()]
    while scripts:
        chance = Chance(scripts.pop())
        yield chance.script, run(chance)
        scripts.extend(chance.alternatives())


@cache
def counted(rules: judge.Rules, window: Window, packets: int = 1) -> Window:
    """A window in which so many packets came: none, few, or enough. More change nothing."""
    if window[0] >= packets:
        return window
    after, event = judge.count(rules, judge.Window(*window), packets - window[0], 0)
    assert event is None
    return after.packets, after.last, after.boot, int(after.deadline)


@cache
def expired(rules: judge.Rules, window: Window) -> tuple[Window, judge.Event]:
    after, event = judge.expire(rules, judge.Window(*window), 0)
    return (after.packets, after.last, after.boot, int(after.deadline)), event


class Game:
    """What stays the same while a pair is explored."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.minds = tuple(Mind(setup.rules(node)) for node in (0, 1))
        many = 1 << 30
        self.link_rules = judge.Rules(many, setup.window, 0, True)
        self.interface_rules = judge.Rules(many, setup.interface_window, setup.low_water, False)
        self.packets = (0, 1, max(1, setup.low_water))  # in a tick, by what there is to receive

    def first_worlds(self) -> list[World]:
        """Both nodes are off; one is started, the other at once, some ticks later, or not."""
        late = 2 * self.setup.window + 1
        offsets = [(1, n + 1) for n in range(late)] + [(n + 1, 1) for n in range(1, late)]
        offsets += [(1, -1), (-1, 1)]
        reception = (RECEIVES,) * self.setup.interfaces
        return [
            World(
                (Host(reception=reception, boots_in=a), Host(reception=reception, boots_in=b)),
                faults=self.setup.faults,
                delays=self.setup.delays,
            )
            for a, b in offsets
        ]

    def faults(self, world: World) -> Iterator[Fault]:
        """Everything that may happen to a world between two ticks, faults and repairs."""
        if not world.faults:
            return
        menu = self.setup.menu
        for node, host in enumerate(world.hosts):
            yield from self.faults_of(node, host, menu)
        both, there, back = world.wire == (True, True), *world.wire
        if "link" in menu:
            yield ("cut", 2, 0) if both else ("mend", 2, 0)
        if "oneway" in menu:
            yield ("cut", 0, 0) if there else ("mend", 0, 0)
            yield ("cut", 1, 0) if back else ("mend", 1, 0)
        filters = ("port", world.ports), ("second", world.seconds), ("onearp", world.airs)
        for word, way in filters:
            if word in menu:
                yield word, 0, int(not way[0])
                yield word, 1, int(not way[1])
        if "hole" in menu:
            yield "hole", 2, int(not world.whole)
        for node, host in enumerate(world.hosts):
            if "hold" in menu and host.run == RUNNING and world.news in (-1, node):
                yield "hold", node, int(not host.held)
        if "switch" in menu:
            yield "switch", 2, int(not world.switch)
        if "traffic" in menu and world.traffic != FEW:
            yield "traffic", 2, STILL if world.traffic else PLENTY
        if "few" in menu and self.setup.low_water > 1 and world.traffic:
            yield "traffic", 2, FEW if world.traffic == PLENTY else PLENTY

    def faults_of(self, node: int, host: Host, menu: frozenset[str]) -> Iterator[Fault]:
        run = host.run
        if "power" in menu and host.boots_in < 0:
            yield ("boot", node, 0) if run == OFF else ("crash", node, 0)
        if "daemon" in menu:
            if run == RUNNING:
                yield "kill", node, 0
                yield "restart", node, 0
            if run == DEAD:
                yield "start", node, 0
        for word, kind in (("freeze", FROZEN), ("stop", STOPPED)):
            if word in menu and run in (RUNNING, kind):
                yield (word, node, 0) if run == RUNNING else ("thaw", node, 0)
        for interface, how in enumerate(host.reception):
            for word, kind in (("dead", DEAD_PORT), ("down", DOWN), ("gone", GONE)):
                if word in menu and how in (RECEIVES, kind):
                    becomes = kind if how == RECEIVES else RECEIVES
                    yield "interface", node, interface * len(RECEPTION) + becomes
        if "script" in menu:
            if host.behaviour:
                yield "script", node, 0
            else:
                for behaviour in self.setup.scripts:
                    yield "script", node, behaviour
        if "bare" in menu and run == RUNNING and host.holds and host.script is None:
            yield "bare", node, 0
        there = run in (DEAD, RUNNING, STOPPED) and GONE not in host.reception
        if "stray" in menu and there and not host.holds and host.script is None:
            yield "stray", node, 0
        if "poll" in menu and run == RUNNING:
            yield "poll", node, 0
        if "check" in menu:
            yield "check", node, int(not host.sick)
        if "person" in menu and run == RUNNING:
            yield "fail", node, 0
            yield "resume", node, 0
