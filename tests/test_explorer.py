"""The five statements of section 5, in every state that two machines can come to within bounds.

Here with one fault of every kind at any tick, and with two of the commonest; `bin/explore` goes on
from there. That the explorer can see is shown by breaking the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from explorer.explore import Explored
from explorer.model import MENU, Setup, Violation
from explorer.mutants import Mutant, find
from explorer.walk import walk
from failoverd import pair
from failoverd.pair import On, Phase, Row


def setup(menu: str, faults: int = 1, **settings: object) -> Setup:
    return Setup(menu=frozenset(menu.split(",")), faults=faults, **settings)  # type: ignore[arg-type]


EVERYTHING = ",".join(MENU)
BOUNDS = {
    "one fault of any kind": setup(EVERYTHING),
    "two of power and link": setup("power,link", 2),
    "two cards, one fault of the ethernet side": setup("deaf,switch,down", cards=2),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_the_statements_hold_in_every_state(name: str) -> None:
    explored = Explored(BOUNDS[name])
    explored.explore()
    print(f"\n{name}: {len(explored.worlds)} states, {explored.transitions} transitions")
    for finding in explored.judge():
        print(finding)
        assert finding.holds, "\n".join([str(finding), *explored.tell(finding.path)])


@pytest.mark.parametrize("seed", range(2))
def test_the_statements_hold_on_a_random_walk(seed: int) -> None:
    taken = walk(setup(EVERYTHING, cards=1 + seed), seed, 4000)
    assert taken.faults > 50


# ---------------------------------------------------------------------------- it bites


def without(phase: Phase, on: On, *guards: str) -> tuple[Row, ...]:
    """The table without the rows of a phase and event that have all these guards."""
    kept = tuple(row for row in pair.ROWS if not is_row(row, phase, on, *guards))
    assert len(kept) < len(pair.ROWS)
    return kept


def changed(phase: Phase, on: On, change: Callable[[Row], Row], *guards: str) -> tuple[Row, ...]:
    rows = tuple(change(row) if is_row(row, phase, on, *guards) else row for row in pair.ROWS)
    assert rows != pair.ROWS
    return rows


def is_row(row: Row, phase: Phase, on: On, *guards: str) -> bool:
    names = {guard.__name__ for guard in row.when}
    return phase in row.phases and row.on is on and set(guards) <= names


def unguarded(name: str) -> Callable[[Row], Row]:
    return lambda row: replace(row, when=tuple(g for g in row.when if g.__name__ != name))


def mutants() -> Iterator[tuple[str, tuple[Row, ...], Setup]]:
    arp = [r for r in pair.ROWS if not is_row(r, Phase.STANDBY, On.LINK_SILENT, "confirm_by_arp")]
    yield "no question on the ethernet side", tuple(arp), setup("link")
    yield (
        "a handover begins with `fail`",
        changed(
            Phase.ASKING, On.STATUS, lambda row: replace(row, go=Phase.TELLING), "peer_can_serve"
        ),
        setup("person"),
    )
    yield (
        "two active machines keep their roles",
        without(Phase.ACTIVE, On.COMPARED, "peer_is_active", "we_yield"),
        setup("deaf,link", 3, delays=0),
    )
    yield (
        "nobody takes a role that nobody has",
        without(Phase.STANDBY, On.NOBODY, "we_come_first"),
        setup("person"),
    )
    yield (
        "a boot slave keeps what the peer answers for",
        without(Phase.ACTIVE, On.OWN_ANSWERED, "claimed_thrice"),
        setup("link"),
    )
    yield (
        "the role is taken back while `fail` is on its way",
        changed(Phase.UNSURE, On.STATUS, unguarded("has_arrived"), "has_arrived"),
        setup("person,loss", 2),
    )
    yield (
        "a handover without news from the peer",
        changed(Phase.ASKING, On.STATUS, unguarded("peer_has_news"), "peer_has_news"),
        setup("switch"),
    )
    yield (
        "a failed script is the end",
        without(Phase.PROMOTING, On.SCRIPT_FAILED),
        setup("script"),
    )
    yield (
        "a machine that stood still goes on",
        without(Phase.ACTIVE, On.STALLED),
        setup("freeze", 2, delays=0),
    )
    yield (
        "a machine that is heard is not asked again",
        without(Phase.INQUIRING, On.LOST, "hears_peer"),
        setup("loss,person", 2),
    )


@pytest.mark.parametrize(("what", "rows", "bounds"), mutants(), ids=lambda value: str(value)[:60])
def test_a_broken_table_is_found(what: str, rows: tuple[Row, ...], bounds: Setup) -> None:
    assert find(Mutant(what, rows), (bounds,)), f"not found: {what}"
    assert not find(Mutant("sound", pair.ROWS), (bounds,))


def test_a_violation_comes_with_the_shortest_story(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = without(Phase.PROMOTING, On.SCRIPT_FAILED)
    monkeypatch.setattr(pair, "TABLE", pair.by_phase_and_event(rows))
    with pytest.raises(Violation) as caught:
        Explored(setup("script", delays=0)).explore()
    lines = str(caught.value).splitlines()
    assert "does not report that its script failed" in lines[0]
    assert sum("**" in line for line in lines) == 1
    assert len(lines) < 20
