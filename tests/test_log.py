"""The log: what a line looks like, that nothing repeats without end, that a full disk is borne."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import pytest

from failoverd.log import Log, open_file
from failoverd.log_writer import Writer


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


def test_the_journal_has_the_time_and_our_name_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "journal").open("w") as journal:
        info = os.fstat(journal.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{info.st_dev}:{info.st_ino}")
        log = Log(str(tmp_path / "log"), journal)
        log.write("failoverd", "started")
        log.write("watchd", "is down", pid=42, interface="eth0")
        log.close()
    assert lines(tmp_path / "journal") == ["started", "watchd[42] eth0: is down"]
    assert lines(tmp_path / "log")[0].endswith(f" failoverd[{os.getpid()}] started")


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


def test_a_disk_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    log = Log(str(tmp_path / "log"))
    log.use_pipe()
    for number in range(40_000):
        log.event("failoverd", f"line {number}", pid=1)
    writer = Writer(log.pipe, open_file(str(tmp_path / "log")))
    while writer.write_some():
        pass
    log.event("failoverd", "it works again", pid=1)
    assert writer.write_some()
    *whole, empty, note, last = lines(tmp_path / "log")
    assert last.endswith("it works again")
    assert (empty, len(whole) > 10_000) == ("", True)
    assert f"{40_000 - len(whole)} lines lost" in note


def test_a_full_disk_loses_lines_and_says_so(tmp_path: Path) -> None:
    log = Log(str(tmp_path / "log"))
    log.use_pipe()
    full = os.open("/dev/full", os.O_WRONLY)
    file = open_file(str(tmp_path / "log"))
    writer = Writer(log.pipe, full)
    for text in ("one", "two"):
        log.write("failoverd", text)
        assert writer.write_some()
    os.dup2(file, full)
    log.write("failoverd", "three")
    assert writer.write_some()
    assert not writer.write_some()
    empty, note, line = lines(tmp_path / "log")
    assert empty == ""
    assert note.endswith("2 lines lost: No space left on device")
    assert line.endswith("three")


def test_a_full_disk_and_a_lost_terminal_are_borne() -> None:
    terminal = io.StringIO()
    log = Log("/dev/full", terminal)
    assert log.write("failoverd", "one")
    assert "one" in terminal.getvalue()
    terminal.close()
    assert log.write("failoverd", "two")
