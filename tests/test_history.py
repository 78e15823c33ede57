"""The last changes of a node's role: what counts as one, and the file beside $state."""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from live_pair import LONG, kill, main_pid, settled, start

from dev.lab.network import Lab
from dev.lab.node import Node
from failoverd import history, statefile
from failoverd.history import MOST, History
from failoverd.wire.protocol import Change

WHEN = "2026-11-28T02:17:20.602Z"
CHANGE = Change(WHEN, "standby", "active", "heartbeat lost", 0.004)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return statefile.place(str(tmp_path / "state"), "history")


def began(path: str, role: str | None) -> History:
    made = History()
    made.begin(path, role)
    return made


@pytest.mark.parametrize(
    ("state", "place"),
    [
        ("/run/failoverd.state", "/var/lib/failoverd/failoverd.state.history"),
        ("/var/run/second.state", "/var/lib/failoverd/second.state.history"),
        ("/run/failoverd/web.state", "/var/lib/failoverd/failoverd-web.state.history"),
        ("/runs/state", "/runs/state.history"),
        ("/var/lib/pair/state", "/var/lib/pair/state.history"),
    ],
)
def test_it_outlives_a_reboot(state: str, place: str) -> None:
    assert statefile.place(state, "history") == place


# ------------------------------------------------------------------ what counts as a change


def test_a_change_lasts_from_one_settled_role_to_the_next(path: str) -> None:
    known = began(path, "standby")
    assert known.entered("standby", WHEN, 1.0) is None
    assert known.entered("switching", WHEN, 2.0) is None
    known.because("heartbeat lost")
    assert known.last is None
    change = known.entered("active", WHEN, 2.004)
    assert change == known.last == CHANGE


@pytest.mark.parametrize(("received", "took"), [(100.0, 9.0), (104.0, 5.0), (3.0, 9.0)])
def test_no_change_begins_before_the_role_that_it_ends(
    path: str, received: float, took: float
) -> None:
    """A node that was alone for long and failed was not without service since it was alone."""
    known = began(path, "active")
    known.entered("switching", WHEN, 99.0)
    known.because("the addresses were gone")
    known.entered("failed", WHEN, 100.0)
    known.entered("switching", WHEN, 105.0)
    known.because("heartbeat lost", received)
    known.entered("failed", WHEN, 106.0)
    known.entered("switching", WHEN, 108.0)
    known.because("heartbeat lost", received)
    change = known.entered("active", WHEN, 109.0)
    assert change is not None and change.took == took


def test_a_role_that_was_given_and_taken_back_is_told_with_both_causes(path: str) -> None:
    known = began(path, "active")
    for cause, now in (("interface failed", 1.0), ("the switchover failed", 4.0)):
        known.entered("switching", WHEN, now)
        known.because(cause)
    cause = "interface failed; the switchover failed"
    assert known.entered("active", WHEN, 5.0) == Change(WHEN, "active", "active", cause, 4.0)


def test_a_request_that_was_refused_before_any_script_ran_is_none(path: str) -> None:
    known = began(path, "standby")
    known.entered("switching", WHEN, 1.0)
    assert known.entered("standby", WHEN, 2.0) == Change(WHEN, "standby", "standby", "", 1.0)
    assert known.last is None


def test_what_fails_again_and_again_is_told_once(path: str) -> None:
    known = began(path, "standby")
    for cause in ("heartbeat lost", "heartbeat lost", "operator", "operator", "heartbeat lost"):
        known.entered("switching", WHEN, 1.0)
        known.because(cause)
        known.entered("failed", WHEN, 2.0)
    known.save(path)
    assert [(each.was, each.cause) for each in history.read(path)] == [
        ("standby", "heartbeat lost"), ("failed", "operator"), ("failed", "heartbeat lost")
    ]  # fmt: skip


def test_a_boot_is_told_and_a_restart_is_not(path: str) -> None:
    known = began(path, None)
    known.entered("switching", WHEN, 1.0)
    known.because("clean up")
    assert known.entered("standby", WHEN, 1.5) == Change(WHEN, "none", "standby", "start", 0.5)
    known.save(path)
    assert began(path, "standby").entered("standby", WHEN, 9.0) is None
    ended_in_a_switch = began(path, "switching")
    ended_in_a_switch.because("clean up")
    change = ended_in_a_switch.entered("failed", WHEN, 9.0)
    assert change is not None and (change.was, change.cause) == ("standby", "clean up")


# ------------------------------------------------------------------ the file


def test_it_is_kept_and_bounded(path: str) -> None:
    known = began(path, "standby")
    for number in range(MOST + 5):
        known.because(str(number))
        known.entered("active", WHEN, 0.0)
    known.save(path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert [each.cause for each in history.read(path)] == [str(n) for n in range(5, MOST + 5)]
    again = began(path, "active")
    assert again.last == known.last
    assert sorted(os.listdir(os.path.dirname(path))) == ["state.history"]


def test_what_is_broken_is_left_out(path: str) -> None:
    history.write(path, [CHANGE, replace(CHANGE, cause="boot")])
    whole = Path(path).read_bytes()
    odd = [json.dumps({"when": WHEN}), '{"role": "\\u001b[2J"}', "[" * 5000, "\udcff", ""]
    told = "\n".join(odd).encode(errors="surrogateescape")
    Path(path).write_bytes(told + b"\n" + whole + whole[:20])
    assert history.read(path) == [CHANGE, replace(CHANGE, cause="boot")]
    assert history.read(f"{path}.none") == []


def test_no_link_is_followed_and_nothing_that_others_write_is_believed(
    path: str, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.write_text("precious")
    os.symlink(other, path)
    os.symlink(other, f"{path}.new")
    with pytest.raises(OSError):
        history.read(path)
    history.write(path, [CHANGE])
    assert history.read(path) == [CHANGE] and other.read_text() == "precious"
    os.chmod(path, 0o622)
    with pytest.raises(OSError, match="others can write it"):
        history.read(path)


def test_what_could_not_be_written_is_written_with_the_next(path: str) -> None:
    os.mkdir(path)
    known = History()
    known.because("operator")
    known.entered("active", WHEN, 0.0)
    with pytest.raises(OSError):
        known.save(path)
    assert not os.path.exists(f"{path}.new")
    os.rmdir(path)
    known.save(path)
    assert history.read(path) == [known.last]


# ------------------------------------------------------------------ a real pair


def told(node: Node) -> list[tuple[str, str, str]]:
    """What ha-status --history tells."""
    shown = node.command("ha-status", "--history", "--json")
    assert (shown.returncode, shown.stderr) == (0, ""), shown.stderr
    changes = [Change(**json.loads(line)) for line in shown.stdout.splitlines()]
    assert all(0 <= change.took < LONG for change in changes)
    return [(change.was, change.role, change.cause) for change in changes]


def test_both_nodes_tell_what_moved_their_role_over_a_restart(lab: Lab) -> None:
    start(lab)
    assert lab.a.command("ha-fail").returncode == 0
    lab.wait_until(lambda: settled(lab, lab.b), "b is active", LONG)
    for node, count in ((lab.a, 3), (lab.b, 2)):
        lab.wait_until(
            lambda here=node, wanted=count: len(told(here)) == wanted,  # type: ignore[misc]
            f"{node.name} has told its file",
        )
    assert told(lab.a)[0] == ("none", "standby", "start")
    assert told(lab.a)[1:] == [
        ("standby", "active", "boot"),
        ("active", "standby", "operator wants the peer to be active"),
    ]
    assert told(lab.b) == [("none", "standby", "start"), ("standby", "active", "told by the peer")]
    kill(lab.b, main_pid(lab.b))
    lab.wait_until(lambda: lab.b.command("ha-status").returncode == 3, "it is dead", LONG)
    lab.b.start_failoverd()
    lab.wait_until(lambda: lab.b.role() == "active", "it is back", LONG)
    assert len(told(lab.b)) == 2
    us = lab.b.status()["us"]
    assert us["change"]["cause"] == "told by the peer" and us["change"]["role"] == us["role"]


def test_a_file_that_cannot_be_written_stops_no_switch(lab: Lab) -> None:
    for node in lab.nodes:
        (node.outside / "run/state.history").mkdir(parents=True)
    start(lab)
    assert lab.b.command("ha-fail").returncode == 0
    lab.wait_until(lambda: settled(lab, lab.b), "b is active", LONG)
    why = 'state.history error=".*Is a directory"'
    lab.wait_until(lambda: re.search(why, lab.b.log()), "b says why")
    (lab.b.outside / "run/state.history").rmdir()
    assert lab.a.command("ha-fail").returncode == 0
    lab.wait_until(lambda: settled(lab, lab.a), "a is active", LONG)
    lab.wait_until(lambda: len(told(lab.b)) == 3, "all of them are there")
