"""Chaos: that its plans depend on the seed alone, that its judge bites, and a short run of it."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from processes import children_of, wait_until

from dev.lab import chaos, faults
from dev.lab.faults import BY_NAME, KINDS, NAMES, Fault, Step, Truth
from dev.lab.judge import Judge, Limits, Sight, limits, needless
from dev.lab.network import Lab
from dev.lab.spaces import ROOT
from failoverd import conf

CHAOS = (sys.executable, "-m", "dev.lab.chaos")
LONG = 60.0
LIMITS = Limits(linked=1.0, wired=2.0, unserved=3.0, overlap=0.5, switchover=1.0)
WHOLE = faults.whole()
DEAD_PORT = WHOLE.change("a", interfaces=("dead",))
BOTH = frozenset(NAMES)


# ---------------------------------------------------------------------------- the plans


def test_a_plan_depends_on_its_seed_alone() -> None:
    assert faults.plan(7, 30, 1.0, WHOLE) == faults.plan(7, 30, 1.0, WHOLE)
    assert faults.plan(7, 30, 1.0, WHOLE) != faults.plan(8, 30, 1.0, WHOLE)


def test_every_fault_comes_up_and_every_one_can_be_carried_out() -> None:
    """And none when it is impossible; in the end everything can be mended."""
    met = set()
    for seed in range(150):
        truth = faults.whole(2)
        for step in faults.plan(seed, 12, 1.0, truth):
            kind = BY_NAME[step.fault.kind]
            assert kind.when(truth, step.fault.name, step.fault.word)
            truth = faults.after(truth, step.fault)
            assert kind.repair or truth.troubles <= faults.MOST_TROUBLES
            met.add(step.fault.kind)
        for fault in faults.mending(truth):
            truth = faults.after(truth, fault)
        assert truth == faults.whole(2)
    assert met == set(BY_NAME) == set(chaos.WAYS)
    assert len(KINDS) == len(BY_NAME)


# ---------------------------------------------------------------------------- the judge


def judged(
    *spans: tuple[float, str, bool, Truth], well: frozenset[str] = BOTH, by_interface: bool = True
) -> list[int]:
    """The statements that are violated if each of these is so for some seconds:
    the holders, whether the client is served, and the truth."""
    judge, at = Judge(LIMITS, by_interface=by_interface), 100.0
    for seconds, holders, served, truth in spans:
        for _ in range(round(seconds * 25)):
            at += 0.04
            judge.look(Sight(at, frozenset(holders), served, truth, well))
    return [complaint.statement for complaint in judge.complaints]


CUT = Truth(WHOLE.a, WHOLE.b, "cut")
APART = CUT.change("a", interfaces=("dead",))
BROKEN = WHOLE.change("b", script="fail slave")


@pytest.mark.parametrize(
    ("spans", "violated"),
    [
        ([(9, "a", True, WHOLE), (9, "b", True, WHOLE)], []),
        # two that can reach each other: for a moment, and for too long
        ([(9, "ab", True, APART), (0.9, "ab", True, WHOLE), (9, "a", True, WHOLE)], []),
        ([(9, "ab", True, APART), (1.2, "ab", True, WHOLE)], [1]),
        ([(9, "ab", True, APART), (1.9, "ab", True, CUT), (9, "a", True, CUT)], []),
        ([(9, "ab", True, APART), (2.2, "ab", True, CUT)], [1]),
        ([(9, "ab", True, APART), (9, "ab", True, BROKEN)], []),
        # a takeover from a node that could have been reached, even if it is over at once
        ([(9, "a", True, CUT), (0.2, "ab", True, CUT), (9, "b", True, CUT)], [1]),
        ([(9, "a", True, APART), (0.2, "ab", True, APART), (9, "b", True, APART)], []),
        ([(9, "a", True, APART), (0.3, "a", True, CUT), (0.2, "ab", True, CUT)], []),
        # none, although one could
        ([(9, "a", True, WHOLE), (2.9, "", False, WHOLE), (9, "b", True, WHOLE)], []),
        ([(9, "a", True, WHOLE), (3.3, "", False, WHOLE)], [2, 2]),
        ([(3.3, "a", False, DEAD_PORT)], [2]),
        ([(9, "", False, DEAD_PORT.change("b", interfaces=("unplugged",)))], []),
        ([(9, "", False, DEAD_PORT.change("b", script="hang master"))], []),
        ([(9, "", False, DEAD_PORT.change("b", powered=False))], []),
    ],
)
def test_the_judge_complains_of_what_lasts_too_long(
    spans: list[tuple[float, str, bool, Truth]], violated: list[int]
) -> None:
    assert judged(*spans) == violated


def test_no_node_takes_over_from_one_that_still_answers_on_another_interface() -> None:
    """It has lost the client's interface, and cannot be asked why."""
    half = faults.whole(2).change("a", interfaces=("gone", "works"))
    assert judged((9, "", False, replace(half, link="cut"))) == []
    assert judged((9, "", False, half)) == [2]
    apart = half.change("a", interfaces=("gone", "gone"))
    assert judged((9, "", False, replace(apart, link="cut"))) == [2]


def test_the_judge_expects_nothing_of_whoever_is_disturbed() -> None:
    assert judged((9, "", False, WHOLE), (9, "ab", True, WHOLE), well=frozenset()) == []
    assert judged((9, "a", False, DEAD_PORT), by_interface=False) == []
    gone = WHOLE.change("a", interfaces=("gone",))
    for by_interface, violated in ((True, [2]), (False, [])):
        assert judged((9, "", False, gone), by_interface=by_interface) == violated
    assert judged((9, "", False, replace(WHOLE, held=True))) == []


def test_time_without_a_look_does_not_count() -> None:
    judge = Judge(LIMITS)
    for at in (0.0, 60.0, 120.0, 180.0):
        judge.look(Sight(at, frozenset(), False, WHOLE, BOTH))
    assert judge.complaints == []


def test_a_switchover_needs_a_bad_interface_here_and_a_good_one_there() -> None:
    neither = DEAD_PORT.change("b", interfaces=("dead",))
    history = [(0.0, WHOLE), (10.0, DEAD_PORT), (20.0, neither)]
    assert needless(history, 10.5, "a", 1.0) == ""
    assert needless(history, 20.5, "a", 1.0) == ""  # b was good just now
    assert "every interface of a" in needless(history, 9.0, "a", 1.0)
    assert "every interface of b" in needless(history, 15.0, "b", 1.0)
    assert "no interface of b" in needless(history, 22.0, "a", 1.0)


def test_the_limits_leave_room_for_what_the_settings_allow() -> None:
    found = limits(conf.Conf())
    assert found.linked > conf.Conf().plip_hbeat
    assert found.unserved > conf.Conf().switch_timeout + conf.Conf().hold_down


# ---------------------------------------------------------------------------- real runs


@pytest.mark.usefixtures("make_lab")  # for its skip
@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        (
            "fast",
            [
                Step(0.0, Fault("the power fails", "a")),
                Step(0.1, Fault("the power is back", "a")),
                Step(0.6, Fault("dead port of", "a", "eth0")),
                Step(0.2, Fault("kill -9 child", "b", "listener")),
            ],
        ),
        ("shared", faults.plan(5, 5, 1.5, WHOLE)),
    ],
)
def test_a_pair_keeps_its_promises(settings: str, steps: list[Step]) -> None:
    told = chaos.Run(0, settings, steps, calm=1.0).go()
    assert not told.complaints, "\n".join([*map(str, told.complaints), *told.story])


@pytest.mark.usefixtures("make_lab")
def test_a_start_that_finds_an_interface_missing_is_tried_again(lab: Lab) -> None:
    """It may vanish just then; any other end that has no cause is told."""
    with contextlib.closing(chaos.Pair(lab, chaos.SETTINGS["fast"], WHOLE)) as pair:
        lab.wait_until(lambda: lab.b.role() == "standby", "b stands by")
        pair.kill("b")
        pair.suffer(Fault("the link's end is deleted", "b"))
        pair.start("b")
        refused = "plip0: no such interface"
        lab.wait_until(
            lambda: not pair.dead_by_itself() and refused in lab.b.read("terminal"), "b is refused"
        )
        pair.suffer(Fault("the link's end is made again", "b"))
        lab.wait_until(
            lambda: not pair.dead_by_itself() and lab.b.role() == "standby", "b stands by again"
        )
        pair.send("b", signal.SIGTERM)
        lab.wait_until(lambda: bool(pair.dead_by_itself()), "the end of b is told")
        assert pair.dead_by_itself() == "failoverd on b has ended with 0"


def test_a_pair_that_confirms_nothing_is_found_out() -> None:
    """With $confirm = "none" b takes over from an active node that it could have asked."""
    cut, again = Fault("the link is", word="cut"), Fault("the link works again")
    steps = [Step(4.0, cut), Step(LONG, again)]  # it ends before, when it is found out
    told = chaos.Run(0, "none", steps, calm=1.0).go()
    assert [complaint.statement for complaint in told.complaints][:1] == [1]
    story = "\n".join(told.story)
    assert "### the link is cut" in story
    assert "ROLE role: active; from=standby cause=heartbeat-lost" in story
    assert "!!! statement 1" in story


def test_the_command_tells_the_plan_and_refuses_what_it_does_not_know() -> None:
    out = io.StringIO()
    assert chaos.campaign(chaos.parse(["--seed", "3", "--plan"]), out) == 0
    assert len(out.getvalue().splitlines()) == chaos.FAULTS
    with pytest.raises(SystemExit) as found:
        chaos.parse(["--settings", "nonsense"])
    assert found.value.code == 2


@pytest.mark.usefixtures("make_lab")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_whenever_it_is_interrupted_nothing_is_left(number: signal.Signals, tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [*CHAOS, "--seed", "1"], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        wait_until(lambda: children_of(process.pid))
        (namespaces,) = children_of(process.pid)
        process.send_signal(number)
        assert process.wait(30) == (-number if number is signal.SIGKILL else 130)
        assert number is signal.SIGKILL or "nothing is left behind" in process.stderr.read()
    wait_until(lambda: not Path(f"/proc/{namespaces}").exists())
    assert list(tmp_path.iterdir()) == []
