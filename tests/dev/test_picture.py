"""What people read of the decisions: the policy as a table, the phases as a picture."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.explorer.arrows import ARROWS, GROUPS
from dev.explorer.explore import Explored
from dev.explorer.model import Setup
from failoverd.pair import Phase, Purpose, Query
from failoverd.pair.policy import GRID, Finding, Outcome
from failoverd.pair.turn import Turn

ROOT = Path(__file__).resolve().parent.parent.parent
PICTURE = ROOT / "dev" / "picture"
WIDTH = 100  # columns of the printed policy
MOST = 20  # arrows

Way = tuple[Phase, Phase]


def picture(*options: str) -> subprocess.CompletedProcess[str]:
    run = [sys.executable, str(PICTURE), *options]
    return subprocess.run(run, capture_output=True, text=True, check=False, timeout=60)


def test_what_is_written_of_the_decisions_is_current() -> None:
    result = picture("--check")
    assert (result.returncode, result.stderr) == (0, "")


def test_the_printed_policy_fits_and_says_what_its_words_mean() -> None:
    lines = picture("--print").stdout.splitlines()
    assert max(map(len, lines)) <= WIDTH
    text = "\n".join(lines)
    for purpose in GRID:
        assert f"\n{(purpose.value if isinstance(purpose, Purpose) else 'told')[:12]}" in text
    for words in (*Finding, *Outcome):
        assert f"\n  {words.name.lower()} " in text


def test_a_condition_is_explained_by_its_docstring() -> None:
    drawn = runpy.run_path(str(PICTURE), run_name="picture")
    for condition in drawn["conditions"]():
        assert drawn["condition_meaning"](condition)


def test_a_changed_policy_is_drawn_again(tmp_path: Path) -> None:
    """Each part has its place once, and what stands there is replaced."""
    drawn = runpy.run_path(str(PICTURE), run_name="picture")
    for page, parts in drawn["PARTS"].items():
        text = page.read_text()
        for part in parts:
            changed = drawn["replaced"](page, text, part, "something else\n")
            assert changed != text and "something else" in changed
            assert drawn["replaced"](page, changed, part, "\n".join([*parts[part](), ""])) == text
            with pytest.raises(ValueError, match=f"BEGIN {part}"):
                drawn["replaced"](page, changed.replace(f"END {part}", ""), part, "")


# ---------------------------------------------------------------------------- arrows


def setup(menu: str, faults: int, **settings: object) -> Setup:
    words = frozenset(menu.split(","))
    return Setup(menu=words, faults=faults, delays=0, **settings)  # type: ignore[arg-type]


EXPLORED = (
    setup("link,bare,person,loss", 1),
    setup("power,stray,stop", 2, fence=True),
    setup("power,person,fence", 2, fence=True),
    setup("dead,norun,script", 2, scripts=(3,)),
)


@pytest.fixture(scope="module")
def taken() -> Iterator[set[Way]]:
    """Every way from one phase to another that is taken while a few small menus are explored."""
    ways: set[Way] = set()
    go = Turn.go

    def noted(
        turn: Turn, phase: Phase, purpose: Purpose | None = None, told: Query | None = None
    ) -> None:
        before = turn.state.phase
        go(turn, phase, purpose, told)
        if turn.state.phase is not before:
            ways.add((before, turn.state.phase))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Turn, "go", noted)
        for one in EXPLORED:
            Explored(one).explore()
    yield ways


def drawn_ways() -> set[Way]:
    return {(start, arrow.end) for arrow in ARROWS for start in arrow.starts}


def test_every_change_of_phase_has_an_arrow(taken: set[Way]) -> None:
    assert not taken - drawn_ways()


def test_every_arrow_is_taken_from_every_phase_where_it_begins(taken: set[Way]) -> None:
    assert not drawn_ways() - taken


def test_the_picture_is_small_and_draws_nothing_twice() -> None:
    assert len(ARROWS) + 1 <= MOST  # and the one that leads in
    assert len(drawn_ways()) == sum(len(arrow.starts) for arrow in ARROWS)
    grouped = [phase for group in GROUPS.values() for phase in group]
    assert len(grouped) == len(set(grouped)) < len(Phase)


def test_the_manual_says_for_which_phases_a_group_stands() -> None:
    page = " ".join((ROOT / "man" / "failoverd.8").read_text().split())
    for phases in GROUPS.values():
        *names, last = (phase.name for phase in phases)
        assert f"for {', '.join(names)} and {last}" in page
