"""The log: what a line looks like, that nothing repeats without end, that a full disk is borne."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import pytest

from failoverd.log import Log


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_a_line_tells_time_program_pid_and_interface(tmp_path: Path) -> None:
    log = Log(str(tmp_path / "log"))
    log.write("watchd", "is\x1b down\n", pid=42, interface="eth0")
    log.close()
    (line,) = lines(tmp_path / "log")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} watchd\[42\] eth0: is\? down\?", line
    )
    assert (tmp_path / "log").stat().st_mode & 0o137 == 0


def test_the_same_line_is_not_written_again_and_again(tmp_path: Path) -> None:
    log = Log(str(tmp_path / "log"))
    written = [log.write("failoverd", "the same") for _ in range(100)]
    assert written == [True] + [False] * 99
    assert log.write("failoverd", "another")
    assert log.write("failoverd", "the same", interface="eth1")


def test_an_event_may_come_a_few_times_whatever_time_it_took(tmp_path: Path) -> None:
    log = Log(str(tmp_path / "log"))
    written = [log.write("failoverd", f"failed after 0.{n:03} s", free=5) for n in range(100)]
    assert 5 <= sum(written) <= 7
    assert written[:5] == [True] * 5
    for number in range(100):
        log.event("watchd", "a window", pid=number)
    assert len(lines(tmp_path / "log")) == sum(written) + 100


def test_it_is_never_opened_through_a_link(tmp_path: Path) -> None:
    os.symlink(tmp_path / "passwd", tmp_path / "log")
    with pytest.raises(OSError, match="symbolic"):
        Log(str(tmp_path / "log"))


def test_a_rotated_log_is_opened_anew(tmp_path: Path) -> None:
    log = Log(str(tmp_path / "log"))
    log.write("failoverd", "before")
    os.rename(tmp_path / "log", tmp_path / "log.1")
    log.reopen()
    log.write("failoverd", "after")
    assert "before" in (tmp_path / "log.1").read_text()
    assert "after" in (tmp_path / "log").read_text()


def test_a_log_that_cannot_be_opened_again_stays_in_use(tmp_path: Path) -> None:
    log = Log(str(tmp_path / "log"))
    log.reopen(str(tmp_path / "missing" / "log"))
    log.write("failoverd", "still here")
    assert "still here" in (tmp_path / "log").read_text()


def test_a_full_disk_and_a_lost_terminal_are_borne() -> None:
    terminal = io.StringIO()
    log = Log("/dev/full", terminal)
    assert log.write("failoverd", "one")
    assert "one" in terminal.getvalue()
    terminal.close()
    assert log.write("failoverd", "two")
