"""The five statements of section 5, in every state that two machines can come to within bounds.

Here with one fault of every kind at any tick, and with two of the commonest; `bin/explore` goes on
from there. That the explorer can see is shown by breaking the table.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from explorer import command, mutants, rooms
from explorer.changes import ROOT, changes
from explorer.explore import Explored
from explorer.model import MENU, Setup, Violation
from explorer.mutants import Mutant, find, judged
from explorer.refinements import EQUIVALENT, REFINEMENTS
from explorer.walk import walk

from failoverd import pair
from failoverd.pair import On, Phase, Row, stepping


def setup(menu: str, faults: int = 1, **settings: object) -> Setup:
    return Setup(menu=frozenset(menu.split(",")), faults=faults, **settings)  # type: ignore[arg-type]


EVERYTHING = ",".join(MENU)
BOUNDS = {
    "one fault of any kind": setup(EVERYTHING),
    "two of power and link": setup("power,link", 2, delays=0),
    "two cards, one fault of the ethernet side": setup("deaf,switch", cards=2),
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
    taken = walk(setup(EVERYTHING, cards=1 + seed), seed, 3000)
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


def unguarded(name: str) -> tuple[Row, ...]:
    """The table without a guard, wherever it stands."""
    rows = tuple(
        replace(row, when=tuple(guard for guard in row.when if guard.__name__ != name))
        for row in pair.ROWS
    )
    assert rows != pair.ROWS
    return rows


NO_QUESTION = tuple(
    row for row in pair.ROWS if not is_row(row, Phase.STANDBY, On.LINK_SILENT, "confirm_by_arp")
)
MUTANTS = {
    "no question on the ethernet side": (NO_QUESTION, setup("link")),
    "a handover begins with `fail`": (
        changed(
            Phase.ASKING, On.STATUS, lambda row: replace(row, go=Phase.TELLING), "peer_can_serve"
        ),
        setup("person", delays=0),
    ),
    "two active machines keep their roles": (
        without(Phase.ACTIVE, On.COMPARED, "peer_is_active", "we_yield"),
        setup("link", 2, delays=0),
    ),
    "nobody takes a role that nobody has": (
        without(Phase.STANDBY, On.NOBODY, "peer_is_idle"),
        setup("person", delays=0),
    ),
    "a boot slave keeps what the peer answers for": (
        without(Phase.ACTIVE, On.OWN_ANSWERED, "claimed_thrice"),
        setup("link"),
    ),
    "the role is taken back while `fail` is on its way": (
        unguarded("has_arrived"),
        setup("person,loss", 2, delays=0),
    ),
    "a handover without news from the peer": (unguarded("peer_has_news"), setup("switch")),
    "a role is handed back at once": (
        unguarded("may_hand_over"),
        setup("deaf", 3, delays=0, hold_down=12),
    ),
    "a failed script is the end": (
        without(Phase.PROMOTING, On.SCRIPT_FAILED),
        setup("script", delays=0),
    ),
}


@pytest.mark.parametrize("what", MUTANTS)
def test_a_broken_table_is_found(what: str) -> None:
    rows, bounds = MUTANTS[what]
    assert find(Mutant(what, rows), (bounds,)), f"not found: {what}"
    assert not judged(bounds), "the sound table is found, too"


def test_a_broken_table_that_decides_the_same_is_told_apart() -> None:
    """The first step for each of them; `bin/explore --mutants` goes on from there."""
    known = mutants.Known(mutants.SETUPS[0])
    tells = {
        "NEW on START_FRESH if boot_slave: after NEW on START_FRESH if contacts_nobody": False,
        "no row STANDBY, INQUIRING on FALLING_SILENT if ever": True,
    }
    all_of_them = {mutant.what: mutant for mutant in mutants.MUTANTS}
    assert {what: known.tells(all_of_them[what]) for what in tells} == tells
    named = set(REFINEMENTS)
    assert named <= set(all_of_them), f"there is no such row: {named - set(all_of_them)}"


def test_a_violation_comes_with_the_shortest_story(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = without(Phase.PROMOTING, On.SCRIPT_FAILED)
    monkeypatch.setattr(stepping, "TABLE", stepping.by_phase_and_event(rows))
    with pytest.raises(Violation) as caught:
        Explored(setup("script", delays=0)).explore()
    lines = str(caught.value).splitlines()
    assert "does not report that its script failed" in lines[0]
    assert sum("**" in line for line in lines) == 1
    assert len(lines) < 20


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["--menu", "power,fire"], "fire: none of power, daemon,"),
        (["--boots", "master"], "master: two are needed, such as master,slave"),
        (["--scripts", "1,99"], "99: none of 0, 1,"),
        (["--fence", "true"], "true: none of yes, no"),
        (["--pairs", "--menu", "power"], "--pairs needs a menu of two words or more"),
    ],
)
def test_an_option_of_the_command_that_is_wrong_is_named(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    wrong: str,
) -> None:
    """A fault that is not in the menu would be explored as none."""
    monkeypatch.setattr(sys, "argv", ["explore", *arguments])
    with pytest.raises(SystemExit) as ended:
        command.parse()
    assert ended.value.code == 2
    assert wrong in capsys.readouterr().err


def test_pairs_of_faults_are_explored_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.sweep(setup("power,link,fence", delays=0), jobs=1) == 0
    pairs = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert pairs == ["power,link", "power,fence", "link,fence"]


def test_a_pair_of_faults_that_breaks_a_statement_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = without(Phase.STANDBY, On.LINK_SILENT)
    monkeypatch.setattr(stepping, "TABLE", stepping.by_phase_and_event(rows))
    assert command.sweep(setup("power,link", delays=0), jobs=1) == 1
    assert "2. none active" in capsys.readouterr().out


# ---------------------------------------------------------------------------- one thing changed

CODE = """
LIMIT = 3
def may(turn, most=LIMIT):
    '''Whether.'''
    log('never', 5)
    turn.stop(A.one, A.two)
    turn.begin(7, keep=True)
    turn.set(old=True)
    turn.start(B.one)
    use({turn.old, most})
    if not turn.old and turn.size < most:
        return any(turn.cards)
    return False
"""
CHANGED = {
    "LIMIT = 3 -> LIMIT = 6",
    "LIMIT = 3 -> LIMIT = 0",
    "LIMIT = 3 -> LIMIT = 4",
    "without turn.stop(A.one, A.two)",
    "turn.stop(A.one, A.two) after turn.begin(7, keep=True)",
    "turn.stop(A.one, A.two) -> turn.stop(A.two)",
    "turn.stop(A.one, A.two) -> turn.stop(A.one)",
    "turn.begin(7, keep=True) after turn.set(old=True)",
    "without turn.set(old=True)",  # the order of this one and the next is no matter
    "turn.set(old=True) -> turn.set()",
    "turn.set(old=True) -> turn.set(old=False)",
    "without turn.start(B.one)",
    "turn.start(B.one) after use({turn.old, most})",
    "without use({turn.old, most})",
    "use({turn.old, most}) -> use({turn.old})",
    "use({turn.old, most}) -> use({most})",
    "without turn.begin(7, keep=True)",
    "turn.begin(7, keep=True) -> turn.begin(7)",
    "turn.begin(7, keep=True) -> turn.begin(14, keep=True)",
    "turn.begin(7, keep=True) -> turn.begin(0, keep=True)",
    "turn.begin(7, keep=True) -> turn.begin(8, keep=True)",
    "turn.begin(7, keep=True) -> turn.begin(7, keep=False)",
    "not turn.old and turn.size < most -> not turn.old or turn.size < most",
    "not turn.old and turn.size < most -> turn.size < most",
    "not turn.old and turn.size < most -> not turn.old",
    "not turn.old and turn.size < most -> turn.old and turn.size < most",
    "not turn.old and turn.size < most -> not turn.old and turn.size <= most",
    "return any(turn.cards) -> return all(turn.cards)",
    "return False -> return True",
}


def test_every_kind_of_change_is_made_alone(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(CODE)
    found = list(changes("code.py", root=tmp_path))
    assert {one.what.partition(": ")[2] for one in found} == CHANGED
    assert len({one.text for one in found}) == len(found) == len(CHANGED)
    assert [one.what for one in changes("code.py", "may", tmp_path)] == [
        one.what for one in found if one.what.startswith("code.py may: ")
    ]


def test_a_change_is_found_by_the_tests_of_its_room_or_missed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a copy: the checkout is not touched."""
    before = (ROOT / "failoverd/heartbeat.py").read_bytes()
    beat = rooms.Room(("heartbeat:Beat.told",), (("tests/test_beat.py", "-k", "begin_counts"),))
    monkeypatch.setattr(rooms, "ROOMS", {"heartbeat": beat})
    options = ["--rooms", "heartbeat", "--part", "0/2", "--changes"]
    monkeypatch.setattr(sys, "argv", ["explore", *options])
    assert command.main() == 1
    told = capsys.readouterr().out
    assert "missed: failoverd/heartbeat.py Beat.told: without self.spoken = now (line" in told
    whole = replace(beat, stages=(("tests/test_beat.py",),))
    monkeypatch.setattr(rooms, "ROOMS", {"heartbeat": whole})
    assert command.main() == 0
    told = capsys.readouterr().out
    assert "case: failoverd/heartbeat.py Beat.told: without self.spoken = now: tests/" in told
    assert (ROOT / "failoverd/heartbeat.py").read_bytes() == before


def test_what_hangs_is_ended_and_counts_as_found(tmp_path: Path) -> None:
    copied = rooms.Copy(tmp_path)
    (copied.root / "tests/test_beat.py").write_text(
        "import time\ndef test_it():\n    time.sleep(600)\n"
    )
    try:
        assert copied.run(("tests/test_beat.py",), 10.0) == "hangs in tests/test_beat.py"
    finally:
        copied.close()


def test_every_change_that_is_excused_is_one() -> None:
    paths = {what.split()[0].removesuffix(":") for what in EQUIVALENT}
    found = {change.what for path in paths for change in changes(path)}
    assert set(EQUIVALENT) <= found, "there is no such change"
