"""The log: what a line looks like, that nothing repeats without end, that a full disk is borne."""

from __future__ import annotations

import os
import pty
import select
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dev.lab import logs
from failoverd.events import ENDS, EVENTS, Level
from failoverd.log import OFTEN, Log, lasting, open_file, printable
from failoverd.log_writer import Writer


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def read(path: Path) -> list[logs.LogLine]:
    found = [logs.parse(line) for line in lines(path)]
    assert None not in found, lines(path)
    return [line for line in found if line is not None]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(str(tmp_path / "log"))


def test_a_line_is_as_the_manual_says(tmp_path: Path, log: Log) -> None:
    values = {"from": "standby", "cause": "heartbeat-lost", "took": lasting(3.0151), "why": ""}
    told = log.write("ROLE", "role", "active", values)
    assert told == "role: active; from=standby cause=heartbeat-lost took=3.02s"
    (line,) = lines(tmp_path / "log")
    time, _, rest = line.partition(" ")
    assert rest == f"failoverd[{os.getpid()}]: NOTICE ROLE {told}"
    assert logs.parse(line) is not None and len(time) == len("2026-11-28T02:17:20.602+01:00")
    assert (tmp_path / "log").stat().st_mode & 0o137 == 0


def test_the_time_is_local_and_has_its_offset(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    monkeypatch.setenv("TZ", "XYZ-05:45")
    time.tzset()
    try:
        before = time.time()
        log.write("STARTED", "config", "started", {})
        (line,) = lines(tmp_path / "log")
        assert line.split()[0].endswith("+05:45")
        assert before - 0.001 <= read(tmp_path / "log")[0].at <= time.time()
    finally:
        monkeypatch.undo()
        time.tzset()


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@given(
    st.sampled_from(sorted(EVENTS)),
    st.dictionaries(st.from_regex("[a-z_]{1,10}", fullmatch=True), TEXT, max_size=5),
)
def test_what_was_written_is_read_back(event: str, values: dict[str, str]) -> None:
    with TemporaryFile("w+", errors="backslashreplace") as terminal:
        log = Log(os.devnull, terminal)
        log.write(event, "interface eth0", "not receiving", values, program="watchd", pid=42)
        log.close()
        terminal.seek(0)
        line = logs.parse(terminal.read().removesuffix("\n"))
    assert line is not None
    assert (line.program, line.pid, line.event) == ("watchd", 42, event)
    assert line.level == EVENTS[event].level.name
    assert (line.subject, line.sentence) == ("interface eth0", "not receiving")
    assert line.values == {key: printable(value) for key, value in values.items()}


def test_what_is_no_line_is_none() -> None:
    good = "2026-11-28T02:17:20.602+01:00 watchd[19]: WARNING IFACE-FAIL interface eth0: x; a=1"
    assert logs.parse(good) is not None
    for old, new in (
        ("WARNING", "ERR"),
        ("IFACE-FAIL", "IFACE-FALL"),
        ("interface", "somebody"),
        ("interface eth0", "interface"),
        ("+01:00", ""),
        ("a=1", 'a="1'),
        (": x", " x"),
    ):
        assert logs.parse(good.replace(old, new, 1)) is None, new


def test_the_journal_has_the_time_and_our_name_already_and_is_told_the_priority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "journal").open("w") as journal:
        info = os.fstat(journal.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{info.st_dev}:{info.st_ino}")
        log = Log(str(tmp_path / "log"), journal)
        log.write("SERVICE-DOWN", "role", "no node is active", {})
        log.write("IFACE-FAIL", "interface eth0", "not receiving", {}, program="watchd", pid=42)
        log.write("STARTED", "config", "started", {})
        log.write("GARP", "address 192.0.2.10", "gratuitous ARP sent", {})
        log.write("WINDOW", "interface eth0", "no failure", {"received": 1})
        log.close()
    assert lines(tmp_path / "journal") == [
        "<3>ERR SERVICE-DOWN role: no node is active",
        "<4>watchd[42]: WARNING IFACE-FAIL interface eth0: not receiving",
        "<5>NOTICE STARTED config: started",
        "<6>INFO GARP address 192.0.2.10: gratuitous ARP sent",
        "<7>DEBUG WINDOW interface eth0: no failure; received=1",
    ]
    assert len(read(tmp_path / "log")) == 5


def test_the_same_is_not_written_again_and_again_whatever_its_values(log: Log) -> None:
    written = [bool(log.write("STALLED", "role", "x", {"n": n})) for n in range(100)]
    assert written == [True] * OFTEN + [False] * (100 - OFTEN)
    assert log.write("STALLED", "config", "x", {})
    assert log.write("STALLED", "role", "y", {})
    assert log.write("PEER-UNBLOCKED", "role", "x", {})


def test_what_was_left_out_is_counted(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("failoverd.log.time.monotonic", lambda: now)
    for _ in range(OFTEN + 7):
        log.write("STALLED", "role", "x", {})
    now += 61
    log.write("STALLED", "role", "x", {"gap": "1s"})
    assert read(tmp_path / "log")[-1].values == {"gap": "1s", "suppressed": "7"}


KEPT = [name for name, event in EVENTS.items() if event.kept or event.level is Level.ERR]


@pytest.mark.parametrize("event", KEPT)
def test_neither_an_error_nor_an_outcome_is_ever_left_out(log: Log, event: str) -> None:
    assert all(log.write(event, "role", "x", {"n": n}) for n in range(100))


@pytest.mark.parametrize("end", sorted(ENDS))
def test_the_end_of_what_was_written_is_never_left_out(log: Log, end: str) -> None:
    for problem in ENDS[end]:
        written = [bool(log.write(problem, "role", "x", {})) for _ in range(100)]
        for _ in range(100):
            log.write(end, "role", "over", {})
        if not EVENTS[problem].kept and EVENTS[problem].level is not Level.ERR:
            assert not all(written)
        told = log.write(problem, "role", "again", {})
        assert told and log.write(end, "role", "over", {})
        if end not in KEPT:
            assert not log.write(end, "role", "over", {}), "there is nothing to end"


def test_it_is_never_opened_through_a_link(tmp_path: Path) -> None:
    os.symlink(tmp_path / "passwd", tmp_path / "log")
    with pytest.raises(OSError, match="symbolic"):
        Log(str(tmp_path / "log"))


def note(log: Log, text: str) -> str:
    return log.write("STATUS", "role", f"status {text}", {"status": text})


def test_a_disk_that_hangs_is_not_waited_for(tmp_path: Path, log: Log) -> None:
    log.use_pipe()
    for number in range(40_000):
        note(log, str(number))
    writer = Writer(log.pipe, open_file(str(tmp_path / "log")))
    while writer.write_some():
        pass
    note(log, "it-works-again")
    assert writer.write_some()
    *whole, empty, lost, last = lines(tmp_path / "log")
    assert last.endswith("it-works-again")
    assert (empty, len(whole) > 10_000) == ("", True)
    line = logs.parse(lost)
    assert line is not None and line.event == "LOG-LOST"
    assert line.values["count"] == str(40_000 - len(whole))


def test_a_full_disk_loses_lines_and_says_so(tmp_path: Path, log: Log) -> None:
    log.use_pipe()
    full = os.open("/dev/full", os.O_WRONLY)
    file = open_file(str(tmp_path / "log"))
    writer = Writer(log.pipe, full)
    for text in ("one", "two"):
        note(log, text)
        assert writer.write_some()
    os.dup2(file, full)
    note(log, "three")
    assert writer.write_some()
    assert not writer.write_some()
    empty, lost, last = lines(tmp_path / "log")
    assert empty == ""
    line = logs.parse(lost)
    assert line is not None and line.event == "LOG-LOST"
    assert line.values == {"count": "2", "error": "No space left on device"}
    assert last.endswith("three")


def test_a_full_disk_and_a_lost_terminal_are_borne(tmp_path: Path) -> None:
    terminal = (tmp_path / "terminal").open("w")
    log = Log("/dev/full", terminal)
    assert note(log, "one")
    assert "one" in (tmp_path / "terminal").read_text()
    terminal.close()
    assert note(log, "two")


@pytest.mark.parametrize("ends", [os.pipe, pty.openpty])
def test_a_terminal_that_is_not_read_is_not_waited_for(
    tmp_path: Path, ends: Callable[[], tuple[int, int]]
) -> None:
    """A session that hangs, a `tee` that was stopped: failoverd has to go on."""
    reading, writing = ends()
    with open(writing, "w") as terminal:
        log = Log(str(tmp_path / "log"), terminal)

        def tell() -> None:
            for number in range(100):
                log.write("STATUS", f"interface {number}", "status", {"status": "x" * 9_000})

        teller = threading.Thread(target=tell, daemon=True)
        teller.start()
        teller.join(30.0)
        waits = teller.is_alive()
        while select.select([reading], [], [], 0.1)[0] or teller.is_alive():
            os.read(reading, 1 << 16)
        assert os.get_blocking(writing)  # for all others
        note(log, "again")
        said = b""
        while b"again" not in said:  # what is left of the others may come first
            assert select.select([reading], [], [], 30.0)[0]
            said += os.read(reading, 1 << 16)
        assert b"again" in said.splitlines()[-1]
        log.close()
    os.close(reading)
    assert len(read(tmp_path / "log")) == 101
    assert not waits


def test_a_check_of_the_log_names_an_event_that_there_is(tmp_path: Path, log: Log) -> None:
    log.write("GARP", "address 192.0.2.10", "gratuitous ARP sent", {"interface": "eth0"})
    text = (tmp_path / "log").read_text()
    assert logs.told(text, "GARP", "192.0.2.10: gratuitous") and not logs.told(text, "GARP", "eth1")
    assert not logs.told(text, "ROLE", "gratuitous ARP sent")
    with pytest.raises(KeyError):
        logs.told(text, "GRAT-ARP")
