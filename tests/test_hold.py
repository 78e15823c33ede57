"""The file of a hold: over restarts, reboots, clocks that are set, and a kill at any moment."""

from __future__ import annotations

import json
import os
import random
import signal
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest

from failoverd import hold, statefile
from failoverd.hold import Kept
from failoverd.statefile import uptime
from failoverd.wire.protocol import Hold

SINCE = "2026-11-28T12:30:03.369Z"
FOR_AN_HOUR = Hold(7, True, 3600.0, "root", "node-a", SINCE)
WITHOUT_END = replace(FOR_AN_HOUR, seconds_left=None)
RELEASED = replace(WITHOUT_END, held=False)
SLACK = 60.0  # seconds that a busy host may take


@pytest.fixture
def path(tmp_path: Path) -> str:
    return statefile.place(str(tmp_path / "state"), "hold")


def change(path: str, **values: object) -> None:
    """Write other values into the file."""
    told = json.loads(Path(path).read_text()) | values
    Path(path).write_text(json.dumps(told))


def left(path: str) -> float:
    kept = hold.read(path)
    assert kept is not None and kept.now.seconds_left is not None
    return kept.now.seconds_left


def test_it_lies_where_a_boot_leaves_it(path: str, tmp_path: Path) -> None:
    kept = statefile.place("/run/failoverd.state", "hold")
    assert kept == "/var/lib/failoverd/failoverd.state.hold"
    assert path == str(tmp_path / "state.hold")


@pytest.mark.parametrize("told", [FOR_AN_HOUR, WITHOUT_END, RELEASED])
def test_what_is_written_is_read_again_and_by_root_alone(path: str, told: Hold) -> None:
    assert hold.read(path) is None
    hold.write(path, Kept(RELEASED, uptime()))
    hold.write(path, Kept(told, uptime()))
    found = hold.read(path)
    assert found is not None and found.sure
    now = found.now
    assert now == replace(told, seconds_left=now.seconds_left) and now.rank == told.rank
    assert (now.seconds_left is None) is (told.seconds_left is None)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert os.listdir(os.path.dirname(path)) == ["state.hold"]


@pytest.mark.parametrize("passed", [1.0, 3599.0, 3601.0])
def test_its_time_runs_on_while_nothing_runs(path: str, passed: float) -> None:
    hold.write(path, Kept(FOR_AN_HOUR, uptime() - passed))
    rest = max(0.0, 3600.0 - passed)
    found = hold.read(path)
    assert found is not None and found.now.seconds_left is not None
    assert rest - SLACK <= found.now.seconds_left <= rest
    assert found.now.held is (found.now.seconds_left > 0)


@pytest.mark.parametrize(
    ("passed", "rest"), [(600.0, 3000.0), (0.0, 3600.0), (9000.0, 0.0), (-9000.0, 3600.0)]
)
def test_over_a_reboot_it_runs_by_the_time_of_day(path: str, passed: float, rest: float) -> None:
    """A clock that was set back, or had no battery, makes it last longer, not end too early."""
    hold.write(path, Kept(FOR_AN_HOUR, uptime()))
    change(path, boot_id="another", uptime=1e9, time=time.time() - passed)
    found = hold.read(path)
    assert found is not None and not found.sure
    assert rest - SLACK <= left(path) <= rest


@pytest.mark.parametrize(
    "data", ["", "{", "[]", "null", '{"hold": 1}', "[" * 50_000, "\0" * 100, "{}" * 9]
)
def test_a_damaged_file_is_not_taken_for_none(path: str, data: str) -> None:
    Path(path).write_text(data)
    os.chmod(path, 0o600)
    with pytest.raises(ValueError):
        hold.read(path)


@pytest.mark.parametrize(
    "wrong", [{"serial": -1}, {"held": 1}, {"seconds_left": -1}, {"seconds_left": 1e10},
              {"by": "a\nb"}, {"node": "a b"}, {"since": "now"}]
)  # fmt: skip
def test_a_file_with_a_wrong_value_is_damaged(path: str, wrong: dict[str, object]) -> None:
    hold.write(path, Kept(FOR_AN_HOUR, uptime()))
    told = json.loads(Path(path).read_text())["hold"]
    change(path, hold={**told, **wrong})
    with pytest.raises(ValueError, match=f"hold: {next(iter(wrong))}: "):
        hold.read(path)


def test_what_others_can_write_is_not_believed(path: str) -> None:
    hold.write(path, Kept(FOR_AN_HOUR, uptime()))
    os.chmod(path, 0o666)
    with pytest.raises(OSError, match="others can write it"):
        hold.read(path)
    os.rename(path, f"{path}.there")
    os.symlink(f"{path}.there", path)
    with pytest.raises(OSError, match="or it is no file"):
        hold.read(path)


def test_a_serial_is_greater_than_what_is_known_and_than_what_is_lost() -> None:
    now = int(time.time())
    assert now < hold.serial_after(None) <= now + SLACK
    assert now < hold.serial_after(FOR_AN_HOUR) <= now + SLACK
    ahead = replace(FOR_AN_HOUR, serial=now + 9000)
    assert hold.serial_after(ahead) == now + 9001


def test_who_is_killed_has_written_all_of_it_or_nothing(path: str) -> None:
    """What was said to be written is there; of what was not, either."""
    for seed in range(25):
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            write_for_ever(path, writing)
        os.close(writing)
        first = os.read(reading, 1)  # it writes by now
        time.sleep(random.Random(seed).uniform(0.0, 0.01))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with open(reading, "rb") as pipe:
            told = len(first + pipe.read())
        found = hold.read(path)
        assert found is not None and told <= found.told.serial <= told + 1


def write_for_ever(path: str, writing: int) -> None:
    """One serial after the other, and a byte for each."""
    try:
        serial = 0
        while True:
            serial += 1
            hold.write(path, Kept(replace(WITHOUT_END, serial=serial), uptime()))
            os.write(writing, b".")
    finally:
        os._exit(1)
