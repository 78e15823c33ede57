"""The table with one thing broken at a time: does the exploration notice?

A mutant lacks a row, a guard, an act, or has two neighbouring rows of a phase and event exchanged.
What a small exploration does not find is for a larger one, or is no matter of the five statements
but of what is answered and when (tests/test_pair.py), or stands behind something that cannot come.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from explorer.explore import Explored
from explorer.model import Setup, Violation
from failoverd import pair


@dataclass(frozen=True)
class Mutant:
    """A broken table. what: the row and what is wrong with it."""

    what: str
    rows: tuple[pair.Row, ...]


def describe(row: pair.Row) -> str:
    phases = ", ".join(phase.name for phase in row.phases)
    return f"{phases} on {row.on.name} if {' and '.join(g.__name__ for g in row.when) or 'ever'}"


def all_mutants() -> Iterator[Mutant]:
    rows = pair.ROWS
    for at, row in enumerate(rows):
        here = describe(row)
        yield Mutant(f"no row {here}", (*rows[:at], *rows[at + 1 :]))
        for guard in row.when:
            broken = replace(row, when=tuple(g for g in row.when if g is not guard))
            what = f"{here}: without the guard {guard.__name__}"
            yield Mutant(what, (*rows[:at], broken, *rows[at + 1 :]))
        for act in row.do:
            if act.__name__ != "say":
                broken = replace(row, do=tuple(a for a in row.do if a is not act))
                what = f"{here}: without the act {act.__name__}"
                yield Mutant(what, (*rows[:at], broken, *rows[at + 1 :]))
        for later in range(at + 1, len(rows)):
            other = rows[later]
            if other.on is row.on and set(other.phases) & set(row.phases):
                swapped = list(rows)
                swapped[at], swapped[later] = other, row
                yield Mutant(f"{here}: after {describe(other)}", tuple(swapped))
                break


def find(mutant: Mutant, setups: tuple[Setup, ...]) -> str:
    """How a mutant is found; "" if it is not."""
    sound = pair.TABLE
    pair.TABLE = pair.by_phase_and_event(mutant.rows)
    try:
        for setup in setups:
            found = judged(setup)
            if found:
                return found
    finally:
        pair.TABLE = sound
    return ""


def judged(setup: Setup) -> str:
    """The first thing that is wrong in a setup; "" if nothing is."""
    explored = Explored(setup)
    try:
        explored.explore()
    except Violation as violation:
        return str(violation).splitlines()[0]
    return next((str(finding) for finding in explored.judge() if not finding.holds), "")
