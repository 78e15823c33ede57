"""The five statements of section 5, in every state that two nodes can come to within bounds.

Here with one fault of every kind at any tick, and with two of the commonest; `dev/explore` goes on
from there. That the explorer can see is shown by breaking the policy.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from dev.explorer import command, mutants, rooms
from dev.explorer.changes import ROOT, changes
from dev.explorer.explore import Explored
from dev.explorer.model import MENU, Setup, Violation
from dev.explorer.mutants import MUTANTS, Broken, find, judged
from dev.explorer.refinements import EQUIVALENT, REFINEMENTS
from dev.explorer.walk import walk
from failoverd.pair import Purpose, compare, invariant, policy
from failoverd.pair.policy import Finding, Outcome


def setup(menu: str, faults: int = 1, **settings: object) -> Setup:
    return Setup(menu=frozenset(menu.split(",")), faults=faults, **settings)  # type: ignore[arg-type]


EVERYTHING = ",".join(MENU)
BOUNDS = {
    "one fault of any kind": setup(EVERYTHING),
    "two of power and link": setup("power,link", 2, delays=0),
    "two interfaces, one fault of the service network": setup("dead,switch", interfaces=2),
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
    taken = walk(setup(EVERYTHING, interfaces=1 + seed), seed, 3000)
    assert taken.faults > 50


# ---------------------------------------------------------------------------- it bites


BY_NAME = {mutant.what: mutant for mutant in MUTANTS}
POWER = setup("power,link", delays=0, second=False)
PERSON = setup("person,loss", 2, delays=0)
BROKEN = {  # a broken cell of the policy, and where that shows
    "SILENCE TAKEN: always TAKE": POWER,
    "SILENCE FREE: the contrary of TAKE if is_up": POWER,
    "BOOT TAKEN: always TAKE": POWER,
    "BOOT ACTIVE: the contrary of CALL if is_fit": POWER,
    "INTERFACE IDLE: the contrary of PROVE if peer_is_able": setup("dead,switch", delays=0),
    "NOBODY IDLE: always STAY": PERSON,
    "OPERATOR ACTIVE: always TAKE": PERSON,
    "RESUME ACTIVE: always TAKE": PERSON,
    "FAIL IDLE: always BACK": PERSON,
    "FAIL SWITCHING: always BACK": PERSON,
}
sound = cache(judged)


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_policy_is_found(what: str) -> None:
    assert find(BY_NAME[what], (BROKEN[what],)), f"not found: {what}"
    assert not sound(BROKEN[what]), "the sound policy is found, too"


def test_a_rule_that_is_broken_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def always(*_: object) -> bool:
        return True

    for rule, broken_rule, bounds in (
        ("peer_has_news", always, setup("switch")),
        ("free_here", compare.bad_here, setup("dead", 3, delays=0, hold_down=12)),
        ("proved_here", compare.bad_here, setup("few,check", 3, delays=0, low_water=2)),
    ):
        with monkeypatch.context() as broken:
            broken.setattr(compare, rule, broken_rule)
            assert judged(bounds), f"not found: {rule}"


def test_every_cell_is_broken_in_every_way_and_mended_again() -> None:
    sound = {why: dict(row) for why, row in policy.POLICY.items()}
    for mutant in MUTANTS:
        why, finding = mutant.place
        with Broken(mutant):
            assert policy.POLICY[why][finding] == mutant.cell != sound[why][finding]
        assert policy.POLICY[why] == sound[why]
    always = [mutant.what for mutant in MUTANTS if "always" in mutant.what]
    cells = [cell for row in sound.values() for cell in row.values() if cell]
    alone = sum(len(cell) == 1 for cell in cells)
    assert len(always) == len(set(always)) == len(Outcome) * len(cells) - alone
    assert len(BY_NAME) == len(MUTANTS), "two have one name"
    assert set(REFINEMENTS) <= set(BY_NAME), "there is no such cell"


def test_a_broken_cell_that_decides_the_same_is_told_apart() -> None:
    """The first step for each of them; `dev/explore --mutants` goes on from there."""
    known = mutants.Known(mutants.SETUPS[0])
    tells = {
        "SILENCE FREE: always STAY": True,
        "SILENCE FREE: the contrary of TAKE if is_up": True,
        "RELEASE IDLE: always KEEP": False,  # there is no operator
    }
    assert {what: known.tells(BY_NAME[what]) for what in tells} == tells


def test_a_violation_comes_with_the_shortest_story(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one of what is never true of one node."""
    fails = "its script has failed"
    monkeypatch.setattr(invariant, "wrong_with_phase", lambda state: {fails: state.failed})
    with pytest.raises(Violation) as caught:
        Explored(setup("script", delays=0)).explore()
    lines = str(caught.value).splitlines()
    assert lines[0].endswith(": its script has failed")
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
    monkeypatch.setitem(policy.POLICY[Purpose.SILENCE], Finding.FREE, ((None, Outcome.STAY),))
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
        return any(turn.interfaces)
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
    "return any(turn.interfaces) -> return all(turn.interfaces)",
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


@pytest.mark.parametrize("name", rooms.ROOMS)
def test_a_room_has_what_is_changed_in_it(name: str) -> None:
    for entry in rooms.ROOMS[name].files:
        path, _, scope = entry.partition(":")
        assert next(changes(f"failoverd/{path}.py", scope), None) is not None, entry
    for stage in rooms.ROOMS[name].stages:
        files = [each for each in stage if each.startswith("tests/")]
        assert files and all((ROOT / each).exists() for each in files)


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
