"""Hard: a short run of dev/hard, and that it finds what must not be."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from dev.lab import hard
from dev.lab.network import Lab
from failoverd.master.supervisor import FIRST_DELAY, SETTLED

LONG = 20.0  # seconds; how busy the host is must not matter here


@pytest.mark.usefixtures("make_lab")  # for its skip
def test_whatever_is_killed_nothing_else_notices() -> None:
    told = hard.campaign(7, 0.0, acts=25, in_time=LONG)
    out = io.StringIO()
    hard.report(told, 7, out)
    assert "no role changed" in out.getvalue()


def test_what_does_not_come_back_is_found(lab: Lab) -> None:
    trial = hard.Trial(lab, 1, LONG)
    trial.await_all()
    lab.wait_until(lambda: trial.missing(trial.census()) == "", "nothing is missing")
    double = (
        "import sys, time; from failoverd import process;"
        "process.set_title(sys.argv[1]); time.sleep(99)"
    )
    title = f"failoverd: log [{lab.a.folder}/run/pid]"
    lab.a.popen(sys.executable, "-c", double, title, stdin=subprocess.PIPE)
    lab.wait_until(lambda: trial.missing(trial.census()) == "a has 2 times log", "it is found")
    trial.mains["a"].close()
    with pytest.raises(hard.Broken, match="failoverd has ended on"):
        trial.await_all()


def test_the_back_off_of_one_that_dies_again_and_again() -> None:
    place = hard.Place(since=0.0)
    now = SETTLED * FIRST_DELAY + 1.0
    place.died(now, 0.0)
    assert place.due == pytest.approx(now + FIRST_DELAY)
    place.since = now
    place.died(now, 0.0)
    assert place.due == pytest.approx(now + 2 * FIRST_DELAY)


@pytest.mark.parametrize("name", ["a", "b"])
def test_whatever_is_left_behind_is_found_by_where_it_runs(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Not by its name: the lab's own processes may have any word in their paths."""
    trial = hard.Trial(lab, 1, LONG)
    trial.await_all()
    other = lab.client.popen("sh", "-c", "sleep 99; :", "failoverd")
    left = trial.nodes[name].popen("sleep", "98.5")
    monkeypatch.setattr(hard, "START_LIMIT", 1.0)
    with pytest.raises(hard.Broken, match=r"left behind: \[.*'sleep 98\.5'") as found:
        trial.end()
    assert "sleep 99" not in str(found.value).splitlines()[0]
    left.close()
    empty = lambda: trial.inhabitants("a") == trial.inhabitants("b") == []  # noqa: E731
    lab.wait_until(empty, "no other is left")
    assert other.poll() is None
