"""The policy with one cell broken at a time: does anything notice?

A mutant has another outcome in a cell, or one of its conditions is dropped, or means the contrary.
Most decide differently at a moment that two nodes come to; then an exploration or a walk should
find that a statement does not hold. What no statement minds, tests/pair/test_policy.py holds.
`REFINEMENTS` names those that break nothing, and what they are for.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from dev.explorer.explore import Explored
from dev.explorer.model import Setup, Violation
from dev.explorer.refinements import REFINEMENTS
from dev.explorer.walk import walk
from failoverd import pair
from failoverd.pair import policy
from failoverd.pair.policy import POLICY, Cell, Condition, Finding, Outcome

TESTS = Path(__file__).resolve().parent.parent.parent / "tests"
MOST_STATES = 25_000  # that are explored for one mutant
WALKS = 2  # of WALK_STEPS each
WALK_STEPS = 3000

Why = pair.Purpose | pair.Query
Place = tuple[Why, Finding]
Case = tuple[pair.Rules, pair.State, pair.Event]


@dataclass(frozen=True)
class Mutant:
    """A broken cell. what: the cell, and what is wrong with it."""

    what: str
    place: Place
    cell: Cell


def all_mutants() -> Iterator[Mutant]:
    for why, row in POLICY.items():
        for finding, cell in row.items():
            here = f"{why.name} {finding.name}"
            for what, broken in others(cell):
                yield Mutant(f"{here}: {what}", (why, finding), broken)


def others(cell: Cell) -> Iterator[tuple[str, Cell]]:
    """What else might stand there; nothing where nothing is asked."""
    if not cell:
        return
    for outcome in Outcome:
        if cell != ((None, outcome),):
            yield f"always {outcome.name}", ((None, outcome),)
    for at, (condition, outcome) in enumerate(cell):
        if condition is None:
            continue
        name = f"{outcome.name} if {condition.__name__}"
        if len(cell) > 2:  # else it is one of those above
            yield f"never {name}", (*cell[:at], *cell[at + 1 :])
        yield (
            f"the contrary of {name}",
            (*cell[:at], (negated(condition), outcome), *cell[at + 1 :]),
        )
        for other in Outcome:
            if len(cell) > 1 and other not in {what for _, what in cell}:
                yield f"{other.name} for {name}", (*cell[:at], (condition, other), *cell[at + 1 :])


def negated(condition: Condition) -> Condition:
    return lambda state, rules: not condition(state, rules)


# ---------------------------------------------------------------------------- where it matters


class Traced(dict[Finding, Cell]):
    """A row of the policy, noting what is looked up."""

    def __init__(self, why: Why, looked: set[Place]) -> None:
        super().__init__(POLICY[why])
        self.why = why
        self.looked = looked

    def __getitem__(self, finding: Finding) -> Cell:
        self.looked.add((self.why, finding))
        return super().__getitem__(finding)


class Known:
    """Every decision that the nodes of a setup ever come to, by the cells it looks up."""

    def __init__(self, setup: Setup) -> None:
        explored = Explored(setup)
        explored.explore()
        for finding in explored.wrong():  # every mutant would be found here
            raise ValueError(f"the sound policy does not hold in {setup}: {finding}")
        self.size = len(explored.worlds)
        self.cases: dict[Place, list[Case]] = {}
        looked: set[Place] = set()
        sound = dict(POLICY)
        POLICY.update({why: Traced(why, looked) for why in sound})
        try:
            for mind in explored.game.minds:
                for number, event in mind.known:
                    looked.clear()
                    case = (mind.rules, mind.states[number], event)
                    decide(case)
                    for place in looked:
                        self.cases.setdefault(place, []).append(case)
        finally:
            POLICY.update(sound)

    def tells(self, mutant: Mutant) -> bool:
        """Whether the mutant decides anything otherwise here."""
        cases = self.cases.get(mutant.place, ())
        sound = [decide(case) for case in cases]
        with Broken(mutant):
            return any(differs(case, was) for case, was in zip(cases, sound, strict=True))


Decision = tuple[pair.State, tuple[pair.Action, ...]]


def decide(case: Case) -> Decision:
    rules, state, event = case
    return pair.step(state, event, rules, 0)


def differs(case: Case, sound: Decision) -> bool:
    try:
        return decide(case) != sound
    except RecursionError:
        return True


class Broken:
    """While it lasts, the cell is the mutant's."""

    def __init__(self, mutant: Mutant) -> None:
        why, self.finding = mutant.place
        self.row, self.cell = policy.POLICY[why], mutant.cell

    def __enter__(self) -> None:
        self.sound, self.row[self.finding] = self.row[self.finding], self.cell

    def __exit__(self, *_: object) -> None:
        self.row[self.finding] = self.sound


# ---------------------------------------------------------------------------- who finds it


def find(mutant: Mutant, setups: Iterable[Setup]) -> str:
    """How a mutant is found by exploring; "" if it is not."""
    with Broken(mutant):
        return next((found for setup in setups if (found := judged(setup))), "")


def judged(setup: Setup) -> str:
    """The first thing that is wrong in a setup; "" if nothing is."""
    explored = Explored(setup)
    try:
        explored.explore()
    except Violation as violation:
        return str(violation).splitlines()[0]
    except RecursionError:
        return "it decides without end"
    return next(map(str, explored.wrong()), "")


def walked(mutant: Mutant, setup: Setup) -> str:
    """The first thing that is wrong on some random walks; "" if nothing is."""
    with Broken(mutant):
        for seed in range(WALKS):
            try:
                walk(setup, seed, WALK_STEPS)
            except Violation as violation:
                return f"walk {seed}: {str(violation).splitlines()[0]}"
            except RecursionError:
                return f"walk {seed}: it decides without end"
    return ""


def failed_case(mutant: Mutant) -> str:
    """The first line of the table of tests/pair/test_policy.py that is wrong; "" if none is."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        code = 2
        try:
            import pytest

            options = ("-x", "-q", "--tb=no", "-p", "no:cacheprovider", "-p", "no:xdist")
            with Broken(mutant):
                code = pytest.main(
                    [*options, "-k", "each_purpose", str(TESTS / "pair" / "test_policy.py")]
                )
        finally:
            os._exit(int(code))
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8", errors="replace") as output:
        told = output.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code not in (0, 1):
        raise RuntimeError(told)
    return next((line.split()[1] for line in told.splitlines() if line[:6] == "FAILED"), "")


# ---------------------------------------------------------------------------- all of them


def setup(menu: str, faults: int = 1, **settings: object) -> Setup:
    return Setup(menu=frozenset(menu.split(",")), faults=faults, **settings)  # type: ignore[arg-type]


SETUPS = (
    setup("power,link", delays=0, second=False),
    setup("dead,switch", delays=0),
    setup("person,loss", delays=0),
    setup("script,daemon", delays=0),
    setup("stop,freeze", delays=0),
    setup("gone,bare,down", delays=0),
    setup("power,link,daemon", second=False),
    setup("loss,person,script"),
    setup("dead,switch,stop,freeze,bare,down,gone"),
    setup("power,link,second", delays=0),
    setup("dead,link,second", 2, delays=0),
    setup("check,dead,power", 2, delays=0),
    setup("hold,power,dead", 2, delays=0),
    setup("power,link", 2, delays=0, second=False),
    setup("person,loss", 2, delays=0),
    setup("dead,oneway", 2, delays=0, second=False),
    setup("script,person", 2, delays=0),
    setup("stop,person,link", 2, delays=0, second=False),
    setup("bare,daemon,link", 2, delays=0, second=False),
    setup("freeze,link,loss", 2, delays=0, second=False),
    setup("script,power", 2, delays=0),
    setup("stop,script", 2, delays=0),
    setup("dead,person,daemon", 2, delays=0),
    setup("power,link,person,daemon", confirm="program", second=False),
    setup("power,link,person,daemon", confirm="none", second=False),
    setup("power,link,person,stop", fence=True, second=False),
    setup("power,link,person", mresume=False, second=False),
    setup("power,link,person", boots=("master", "master"), second=False),
    setup("power,link,person", boots=("slave", "slave"), second=False),
    setup("power,link,dead", first=1, second=False),
    setup("dead,switch,down", interfaces=2),
    setup("power,link,daemon,person", addresses=False, confirm="none", second=False),
    setup("stop,bare", 2, addresses=False, confirm="none", delays=0),
    setup("link,fence,person", 2, fence=True, delays=0, second=False),
    setup("person,loss", 3, delays=0),
    setup("loss", delays=2, boots=("master", "master")),
    setup("power,person", 2, addresses=False, confirm="none"),
    setup("dead,script", 2, delays=0),
    setup("power,script,person", 2, scripts=(6, 7), delays=0),
    setup("loss,script", 2, scripts=(7,)),
    setup("power,link,down", 2, confirm="program", delays=0, second=False),
)
WANDERING = setup(
    "power,daemon,freeze,stop,link,oneway,loss,dead,down,switch,traffic,script,bare,person"
)


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant. kind: explored, walked, case, refinement or missed."""

    what: str
    kind: str
    how: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}" + (f": {self.how}" if self.how else "")


KNOWN: list[Known] = []  # of SETUPS, before the hunters are forked
MUTANTS = tuple(all_mutants())


def hunt(number: int) -> Verdict:
    mutant = MUTANTS[number]
    kind, how = follow(mutant)
    if kind == "missed" and mutant.what in REFINEMENTS:
        kind = "refinement"
    return Verdict(mutant.what, kind, how)


def follow(mutant: Mutant) -> tuple[str, str]:
    """Whatever is cheapest first."""
    telling = sorted((known.size, at) for at, known in enumerate(KNOWN) if known.tells(mutant))
    found = find(mutant, affordable(telling))
    if found:
        return "explored", found
    found = walked(mutant, WANDERING)
    if found:
        return "walked", found
    where = f"decides otherwise in {len(telling)} setups" if telling else "decides the same"
    found = failed_case(mutant)
    return ("case", f"{found}; {where}") if found else ("missed", where)


def affordable(telling: list[tuple[int, int]]) -> Iterator[Setup]:
    """The small setups first, as long as it does not take too long."""
    total = 0
    for size, at in telling:
        total += size
        if total > MOST_STATES:
            return
        yield SETUPS[at]


def hunt_all(jobs: int, part: int, parts: int) -> Iterator[Verdict]:
    """Every mutant of a part, as each comes to its end."""
    KNOWN.extend(Known(one) for one in SETUPS)
    gc.freeze()  # or every collection in a child would copy what it shares with us
    with get_context("fork").Pool(jobs) as pool:
        yield from pool.imap_unordered(hunt, range(part, len(MUTANTS), parts))
