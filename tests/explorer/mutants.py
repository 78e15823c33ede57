"""The table with one thing broken at a time: does anything notice?

A mutant lacks a row, a guard, an act, or has two neighbouring rows of a phase and event exchanged.
Most decide differently in a state that two machines come to; then an exploration must find that a
statement does not hold, or a case of tests/test_pair.py must fail. Whatever decides the same
everywhere is no mutant, and its row or guard is not needed. `REFINEMENTS` names the few that decide
otherwise and break nothing: what they are for.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from explorer.explore import Explored
from explorer.model import Setup, Violation
from explorer.refinements import REFINEMENTS
from explorer.walk import walk
from failoverd import pair
from failoverd.pair import stepping

TESTS = Path(__file__).resolve().parent.parent
MOST_STATES = 200_000  # that are explored for one mutant
WALKS = 3  # of WALK_STEPS each
WALK_STEPS = 4000

SLOW = "whoever_waits"
QUICK = " and ".join(
    f"not {words}"
    for words in (SLOW, "picture", "cannot_be_reached", "whatever_happens", "exactly_one")
)
ONLY_SAID = ("say", "say_who_answers")

Key = tuple[pair.Phase, pair.On]
Case = tuple[pair.Rules, pair.State, pair.Event]


@dataclass(frozen=True)
class Mutant:
    """A broken table. what: the row and what is wrong with it. keys: where it decides anew."""

    what: str
    rows: tuple[pair.Row, ...]
    keys: frozenset[Key] = frozenset()
    swapped: bool = False


def describe(row: pair.Row) -> str:
    phases = ", ".join(phase.name for phase in row.phases)
    return f"{phases} on {row.on.name} if {' and '.join(g.__name__ for g in row.when) or 'ever'}"


def all_mutants() -> Iterator[Mutant]:
    rows = pair.ROWS
    for at, row in enumerate(rows):
        here = describe(row)
        keys = keys_of(row)
        yield Mutant(f"no row {here}", (*rows[:at], *rows[at + 1 :]), keys)
        for guard in row.when:
            broken = replace(row, when=tuple(g for g in row.when if g is not guard))
            what = f"{here}: without the guard {guard.__name__}"
            yield Mutant(what, (*rows[:at], broken, *rows[at + 1 :]), keys)
        for act in row.do:
            if act.__name__ not in ONLY_SAID:
                broken = replace(row, do=tuple(a for a in row.do if a is not act))
                what = f"{here}: without the act {act.__name__}"
                yield Mutant(what, (*rows[:at], broken, *rows[at + 1 :]), keys)
        for later in range(at + 1, len(rows)):
            other = rows[later]
            if other.on is row.on and set(other.phases) & set(row.phases):
                swapped = list(rows)
                swapped[at], swapped[later] = other, row
                yield Mutant(f"{here}: after {describe(other)}", tuple(swapped), keys, True)
                break


def keys_of(row: pair.Row) -> frozenset[Key]:
    return frozenset((phase, row.on) for phase in row.phases)


# ---------------------------------------------------------------------------- where it matters


class Traced(dict[Key, tuple[pair.Row, ...]]):
    """The table, noting what is looked up."""

    def __init__(self, table: dict[Key, tuple[pair.Row, ...]]) -> None:
        super().__init__(table)
        self.looked: list[Key] = []

    def get(self, key: Key, default: tuple[pair.Row, ...] = ()) -> tuple[pair.Row, ...]:  # type: ignore[override]
        self.looked.append(key)
        return super().get(key, default)


class Known:
    """Every decision that the machines of a setup ever come to, by what they look up for it."""

    def __init__(self, setup: Setup) -> None:
        explored = Explored(setup)
        explored.explore()
        for finding in explored.wrong():  # every mutant would be found here
            raise ValueError(f"the sound table does not hold in {setup}: {finding}")
        self.size = len(explored.worlds)
        self.cases: dict[Key, list[Case]] = {}
        sound = stepping.TABLE
        traced = Traced(sound)
        stepping.TABLE = traced
        try:
            for mind in explored.game.minds:
                for number, event in mind.known:
                    self._note(traced, (mind.rules, mind.states[number], event))
        finally:
            stepping.TABLE = sound

    def _note(self, traced: Traced, case: Case) -> None:
        traced.looked.clear()
        decide(case)
        for key in set(traced.looked):
            self.cases.setdefault(key, []).append(case)

    def tells(self, mutant: Mutant) -> bool:
        """Whether the mutant decides anything otherwise here."""
        cases = {case: None for key in mutant.keys for case in self.cases.get(key, ())}
        sound = [decide(case) for case in cases]
        with Broken(mutant):
            return any(decide(case) != was for case, was in zip(cases, sound, strict=True))


def decide(case: Case) -> tuple[pair.State, tuple[pair.Action, ...]]:
    rules, state, event = case
    return pair.step(state, event, rules, 0)


class Broken:
    """While it lasts, the table is the mutant's."""

    def __init__(self, mutant: Mutant) -> None:
        self.table = stepping.by_phase_and_event(mutant.rows)
        self.sound = stepping.TABLE

    def __enter__(self) -> None:
        stepping.TABLE = self.table

    def __exit__(self, *_: object) -> None:
        stepping.TABLE = self.sound


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
    return next(map(str, explored.wrong()), "")


def walked(mutant: Mutant, setup: Setup) -> str:
    """The first thing that is wrong on some random walks; "" if nothing is."""
    with Broken(mutant):
        for seed in range(WALKS):
            try:
                walk(setup, seed, WALK_STEPS)
            except Violation as violation:
                return f"walk {seed}: {str(violation).splitlines()[0]}"
    return ""


def failed_case(mutant: Mutant) -> str:
    """The first case of tests/test_pair.py that fails with the mutant; "" if none does.

    The tests of the table's form, and those that are slow, do not count.
    """
    return failed_one(mutant, QUICK) or failed_one(mutant, SLOW)


def failed_one(mutant: Mutant, chosen: str) -> str:
    """The same, among the cases that pytest's -k chooses."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        code = 2
        try:
            import pytest

            with Broken(mutant):
                args = ["-x", "-q", "--tb=no", "-p", "no:cacheprovider", "-p", "no:xdist"]
                code = pytest.main([*args, "-k", chosen, str(TESTS / "test_pair.py")])
        finally:
            os._exit(int(code))
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8", errors="replace") as output:
        told = output.read()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, 1):
        raise RuntimeError(told)
    failed = [line for line in told.splitlines() if line.startswith("FAILED")]
    return (failed or ["FAILED a case"])[0].split()[1] if code else ""


# ---------------------------------------------------------------------------- all of them


def setup(menu: str, faults: int = 1, **settings: object) -> Setup:
    return Setup(menu=frozenset(menu.split(",")), faults=faults, **settings)  # type: ignore[arg-type]


SETUPS = (
    setup("power,link", delays=0),
    setup("deaf,switch", delays=0),
    setup("person,loss", delays=0),
    setup("script,daemon", delays=0),
    setup("stop,freeze", delays=0),
    setup("gone,bare,down", delays=0),
    setup("power,link,daemon"),
    setup("loss,person,script"),
    setup("deaf,switch,stop,freeze,bare,down,gone"),
    setup("power,link", 2, delays=0),
    setup("person,loss", 2, delays=0),
    setup("deaf,oneway", 2, delays=0),
    setup("script,person", 2, delays=0),
    setup("stop,person,link", 2, delays=0),
    setup("bare,daemon,link", 2, delays=0),
    setup("freeze,link,loss", 2, delays=0),
    setup("script,power", 2, delays=0),
    setup("stop,script", 2, delays=0),
    setup("deaf,person,daemon", 2, delays=0),
    setup("power,link,person,daemon", confirm="program"),
    setup("power,link,person,daemon", confirm="none"),
    setup("power,link,person,stop", fence=True),
    setup("power,link,person", mresume=False),
    setup("power,link,person", boots=("master", "master")),
    setup("power,link,person", boots=("slave", "slave")),
    setup("power,link,deaf", first=1),
    setup("deaf,switch,down", cards=2),
    setup("power,link,daemon,person", addresses=False, confirm="none"),
    setup("stop,bare", 2, addresses=False, confirm="none", delays=0),
    setup("link,fence,person", 2, fence=True, delays=0),
    setup("link,script", 3, delays=0),
    setup("stop,link", 3, delays=0),
    setup("person,loss", 3, delays=0),
    setup("person", 2, delays=2),
    setup("loss", delays=2, boots=("master", "master")),
    setup("power,person", 2, addresses=False, confirm="none"),
    setup("deaf,script", 2, delays=0),
    setup("power,script,person", 2, scripts=(6, 7), delays=0),
    setup("loss,script", 2, scripts=(7,)),
    setup("power,link,down", 2, confirm="program", delays=0),
)
WANDERING = setup(
    "power,daemon,freeze,stop,link,oneway,loss,deaf,down,switch,traffic,script,bare,person"
)


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant. kind: case, explored, walked, refinement, same, order or missed.

    same: it decides as the table does, everywhere. order: so does one whose rows are exchanged.
    """

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
    if kind in ("same", "order", "missed") and mutant.what in REFINEMENTS:
        kind = "refinement"
    return Verdict(mutant.what, kind, how)


def follow(mutant: Mutant) -> tuple[str, str]:
    """Whatever is cheapest first."""
    found = failed_case(mutant)
    if found:
        return "case", found
    telling = sorted((known.size, at) for at, known in enumerate(KNOWN) if known.tells(mutant))
    if not telling:
        return ("order" if mutant.swapped else "same"), ""
    found = find(mutant, affordable(telling))
    if found:
        return "explored", found
    found = walked(mutant, WANDERING)
    return ("walked", found) if found else ("missed", "")


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
