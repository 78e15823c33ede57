"""What can befall a pair, as a table, and the plans that are made of it. Pure.

A `Truth` says what is whole and what is not. A fault is possible in some truths and leads to
another one, whatever the pair does about it; so a plan depends on its seed alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

NAMES = ("a", "b")
CHILDREN = (
    *("log", "heartbeat", "listener", "neighbours", "watchd plip0", "watchd eth0", "addresses"),
)
WORKS = "works"
MOST_TROUBLES = 3  # at a time; where everything is broken nothing can be expected
MUTILATED = ("fail master", "fail slave", "hang master", "hang slave", "late master", "slow both")


@dataclass(frozen=True)
class Body:
    """One node as it really is. The name of an interface or an end: "works", or what ails it."""

    powered: bool = True
    running: bool = True  # failoverd was started, and not ended
    stopped: bool = False  # its main process, by SIGSTOP
    frozen: bool = False  # every process
    interfaces: tuple[str, ...] = (WORKS,)
    end: str = WORKS  # of the heartbeat link
    script: str = WORKS
    port: str = WORKS  # or closed to the peer by a packet filter
    sick: bool = False  # the service would fail its check here

    @property
    def alive(self) -> bool:
        """Whether failoverd can do anything."""
        return self.powered and self.running and not self.stopped and not self.frozen

    @property
    def networked(self) -> bool:
        """Whether the whole service network works."""
        return self.powered and all(interface == WORKS for interface in self.interfaces)

    @property
    def obeyed(self) -> bool:
        """Whether the switch script does in the end what it is told to."""
        return self.script in (WORKS, "slow both")

    @property
    def switches(self) -> bool:
        """Whether the switch script can succeed: an address needs its interface."""
        return self.obeyed and "gone" not in self.interfaces

    @property
    def troubles(self) -> int:
        if not self.powered:
            return 1
        faults = [not self.running, self.stopped, self.frozen, self.sick]
        faults += [self.end != WORKS, self.port != WORKS]
        faults += [interface != WORKS for interface in self.interfaces]
        return sum(faults) + (not self.obeyed)


@dataclass(frozen=True)
class Truth:
    """The pair as it really is. link: what ails the cable of the heartbeat link."""

    a: Body
    b: Body
    link: str = WORKS
    held: bool = False  # changes of role are on hold

    def of(self, name: str) -> Body:
        return self.a if name == "a" else self.b

    def change(self, name: str, **changes: object) -> Truth:
        body = replace(self.of(name), **changes)  # type: ignore[arg-type]
        return replace(self, a=body) if name == "a" else replace(self, b=body)

    @property
    def linked(self) -> bool:
        """Whether words pass over the heartbeat link, both ways."""
        bodies = self.a, self.b
        ends = all(b.powered and b.end == WORKS and b.port == WORKS for b in bodies)
        return ends and self.link == WORKS

    @property
    def wired(self) -> bool:
        """Whether each node can ask the other's kernel for eth0's addresses."""
        return all(self.of(n).powered and self.of(n).interfaces[0] == WORKS for n in NAMES)

    @property
    def troubles(self) -> int:
        return self.a.troubles + self.b.troubles + (self.link != WORKS)


def whole(interfaces: int = 1, script: str = WORKS) -> Truth:
    """A pair in which everything works, but for the switch scripts, if so wished."""
    body = Body(interfaces=(WORKS,) * interfaces, script=script)
    return Truth(body, body)


@dataclass(frozen=True)
class Fault:
    """One thing that happens, to a node or (name "") to what is between the two."""

    kind: str
    name: str = ""
    word: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (f"{self.name}:" * bool(self.name), self.text) if part)

    @property
    def text(self) -> str:
        return f"{self.kind} {self.word}".strip()


@dataclass(frozen=True)
class Kind:
    """A row of the table: a fault that may happen when `when` holds; `then` is what it changes."""

    name: str
    weight: int
    when: Callable[[Truth, str, str], bool]
    then: Callable[[Truth, str, str], Truth]
    words: tuple[str, ...] = ("",)
    repair: bool = False
    of_link: bool = False
    innocent: bool = False  # by itself it is no cause for any change of role


def powered(truth: Truth, name: str, _: str = "") -> bool:
    return truth.of(name).powered


def alive(truth: Truth, name: str, _: str = "") -> bool:
    return truth.of(name).alive


def reachable(truth: Truth, name: str, _: str = "") -> bool:
    """Whether commands can be run there: with every process frozen one would hang."""
    return powered(truth, name) and not truth.of(name).frozen


def startable(truth: Truth, name: str, _: str = "") -> bool:
    """Whether failoverd would start: it refuses where an interface is missing."""
    body = truth.of(name)
    return reachable(truth, name) and body.end == WORKS and "gone" not in body.interfaces


def ended(truth: Truth, name: str, _: str = "") -> bool:
    """Whether failoverd can be started again."""
    return startable(truth, name) and not truth.of(name).running


def restartable(truth: Truth, name: str, _: str = "") -> bool:
    return startable(truth, name) and truth.of(name).alive


def goes_round(truth: Truth, _name: str, _word: str) -> bool:
    """Whether both nodes would answer over the second path."""
    return truth.linked and truth.wired and truth.a.alive and truth.b.alive


def same(truth: Truth, _name: str, _word: str) -> Truth:
    return truth


def sets(**changes: object) -> Callable[[Truth, str, str], Truth]:
    return lambda truth, name, _: truth.change(name, **changes)


def state_is(*states: str) -> Callable[[Truth, str, str], bool]:
    return lambda truth, name, word: reachable(truth, name) and state(truth, name, word) in states


def state(truth: Truth, name: str, word: str) -> str:
    return truth.of(name).interfaces[int(word.removeprefix("eth"))]


def state_becomes(state: str) -> Callable[[Truth, str, str], Truth]:
    def then(truth: Truth, name: str, word: str) -> Truth:
        interfaces = list(truth.of(name).interfaces)
        interfaces[int(word.removeprefix("eth"))] = state
        return truth.change(name, interfaces=tuple(interfaces))

    return then


def link_is(*states: str) -> Callable[[Truth, str, str], bool]:
    return lambda truth, _name, _word: truth.link in states


def link_becomes(truth: Truth, _name: str, word: str) -> Truth:
    return replace(truth, link=word or WORKS)


def power_off(truth: Truth, name: str, _: str) -> Truth:
    return truth.change(name, powered=False, running=False, stopped=False, frozen=False)


def power_on(truth: Truth, name: str, _: str) -> Truth:
    """What the node itself had lost of its interfaces is there again."""
    interfaces = tuple(WORKS if c in ("down", "gone") else c for c in truth.of(name).interfaces)
    return truth.change(name, powered=True, running=True, interfaces=interfaces, end=WORKS)


CLOSES, OPENS = "the port is closed to the peer of", "the port is open again of"
BLINKS = "the link is cut for a while"
HOLD, RELEASE = "ha-fail --hold on", "ha-fail --release on both"
INTERFACES = ("eth*",)  # stands for the interfaces that there are

KINDS = (
    Kind("the power fails", 8, powered, power_off),
    Kind("the power is back", 20, lambda t, n, _: not powered(t, n), power_on, repair=True),
    Kind("kill -9 failoverd", 5, alive, sets(running=False)),
    Kind("failoverd is started", 20, ended, sets(running=True), repair=True),
    Kind("failoverd is restarted", 5, restartable, same),
    Kind("kill -9 failoverd and start it", 5, restartable, same),
    Kind("kill -9 child", 4, alive, same, CHILDREN, innocent=True),
    Kind("SIGSTOP child", 4, alive, same, CHILDREN, innocent=True),
    Kind("SIGSTOP failoverd", 4, alive, sets(stopped=True)),
    Kind(
        "SIGCONT failoverd",
        20,
        lambda t, n, _: reachable(t, n) and t.of(n).stopped,
        sets(stopped=False),
        repair=True,
    ),
    Kind("SIGSTOP every process", 5, reachable, sets(frozen=True)),
    Kind(
        "SIGCONT every process",
        20,
        lambda t, n, _: t.of(n).frozen,
        sets(frozen=False, stopped=False),
        repair=True,
    ),
    Kind("dead port of", 8, state_is(WORKS), state_becomes("dead"), INTERFACES),
    Kind("good port of", 16, state_is("dead"), state_becomes(WORKS), INTERFACES, repair=True),
    Kind("unplugged", 5, state_is(WORKS), state_becomes("unplugged"), INTERFACES),
    Kind("plugged in", 16, state_is("unplugged"), state_becomes(WORKS), INTERFACES, repair=True),
    Kind("switched off", 3, state_is(WORKS), state_becomes("down"), INTERFACES),
    Kind("switched on", 16, state_is("down"), state_becomes(WORKS), INTERFACES, repair=True),
    Kind("deleted", 3, state_is(WORKS), state_becomes("gone"), INTERFACES),
    Kind("made again", 16, state_is("gone"), state_becomes(WORKS), INTERFACES, repair=True),
    Kind("deleted and made again", 3, state_is(WORKS), same, INTERFACES),
    Kind(
        "the link's end is deleted",
        3,
        lambda t, n, _: reachable(t, n) and t.of(n).end == WORKS,
        sets(end="gone"),
    ),
    Kind(
        "the link's end is made again",
        16,
        lambda t, n, _: reachable(t, n) and t.of(n).end == "gone",
        sets(end=WORKS),
        repair=True,
    ),
    Kind(
        "the switch is dead",
        4,
        lambda t, _n, _w: state_is(WORKS)(t, "a", "eth0") and state_is(WORKS)(t, "b", "eth0"),
        lambda t, _n, _w: state_becomes("dead")(state_becomes("dead")(t, "a", "eth0"), "b", "eth0"),
        of_link=True,
    ),
    Kind(
        "the link is",
        14,
        link_is(WORKS),
        link_becomes,
        ("cut", "cut toward a", "cut toward b", "unplugged"),
        of_link=True,
    ),
    Kind(
        "the link works again",
        24,
        lambda t, _n, _w: t.link != WORKS,
        link_becomes,
        of_link=True,
        repair=True,
    ),
    Kind(BLINKS, 8, goes_round, same, of_link=True, innocent=True),
    Kind(
        CLOSES,
        8,
        lambda t, n, _: powered(t, n) and t.of(n).port == WORKS,
        sets(port="closed"),
    ),
    Kind(
        OPENS,
        16,
        lambda t, n, _: t.of(n).port != WORKS,
        sets(port=WORKS),
        repair=True,
    ),
    Kind("ha-status", 5, reachable, same, innocent=True),
    Kind("a monitor's pings of the peer", 4, reachable, same, innocent=True),
    Kind(
        "the switch script will",
        10,
        lambda t, n, _: powered(t, n) and t.of(n).script == WORKS,
        lambda t, n, word: t.change(n, script=word),
        MUTILATED,
    ),
    Kind(
        "the switch script works",
        20,
        lambda t, n, _: t.of(n).script != WORKS,
        sets(script=WORKS),
        repair=True,
    ),
    Kind(
        "the check is bad on",
        8,
        lambda t, n, _: powered(t, n) and not t.of(n).sick,
        sets(sick=True),
    ),
    Kind("the check is good on", 16, lambda t, n, _: t.of(n).sick, sets(sick=False), repair=True),
    Kind(
        HOLD,
        3,
        lambda t, n, _: alive(t, n) and not t.held,
        lambda t, _n, _w: replace(t, held=True),
    ),
    Kind(
        RELEASE,
        16,
        lambda t, _n, _w: t.held and t.a.alive and t.b.alive,
        lambda t, _n, _w: replace(t, held=False),
        of_link=True,
        repair=True,
    ),
    Kind("ha-fail", 8, alive, same),
    Kind("nc", 5, alive, same, ("fail", "resume")),
)
BY_NAME = {kind.name: kind for kind in KINDS}


def words(kind: Kind, truth: Truth) -> tuple[str, ...]:
    if kind.words is INTERFACES:
        return tuple(f"eth{number}" for number in range(len(truth.a.interfaces)))
    return kind.words


def possible(truth: Truth) -> Iterator[tuple[Fault, float]]:
    """Every fault that may happen now, with its weight."""
    for kind in KINDS:
        found = [
            Fault(kind.name, name, word)
            for name in (("",) if kind.of_link else NAMES)
            for word in words(kind, truth)
            if kind.when(truth, name, word)
        ]
        for fault in found:
            if kind.repair or after(truth, fault).troubles <= MOST_TROUBLES:
                yield fault, kind.weight / len(found)


def after(truth: Truth, fault: Fault) -> Truth:
    return BY_NAME[fault.kind].then(truth, fault.name, fault.word)


@dataclass(frozen=True)
class Step:
    """After a pause, in seconds, something happens."""

    pause: float
    fault: Fault


def plan(seed: int, length: int, windows: float, truth: Truth) -> list[Step]:
    """A sequence of faults. windows: a few of them, in seconds, let the pair settle."""
    dice = random.Random(seed)
    steps = []
    for _ in range(length):
        found = list(possible(truth))
        (fault,) = dice.choices([f for f, _ in found], [weight for _, weight in found])
        steps.append(Step(pause(dice, windows), fault))
        truth = after(truth, fault)
    return steps


def pause(dice: random.Random, windows: float) -> float:
    """Many faults come in the midst of what the last one has begun, the others find peace."""
    return dice.choice((0.0, dice.uniform(0, 0.3), dice.uniform(0, windows), windows))


def mending(truth: Truth) -> Iterator[Fault]:
    """What makes the pair whole again, one thing at a time."""
    while truth != whole(len(truth.a.interfaces)):
        fault = next(
            Fault(kind.name, name, word)
            for kind in KINDS
            if kind.repair
            for name in (("",) if kind.of_link else NAMES)
            for word in words(kind, truth)
            if kind.when(truth, name, word)
        )
        yield fault
        truth = after(truth, fault)
