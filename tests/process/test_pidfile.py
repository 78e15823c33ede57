"""The pid file's lock: who only looks at it keeps none from starting."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest

from failoverd.process import pidfile


def test_who_looks_at_the_lock_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ha-status --watch`, say, in the very moment."""
    path = str(tmp_path / "pid")
    looking = os.open(path, os.O_RDONLY | os.O_CREAT, 0o600)
    fcntl.flock(looking, fcntl.LOCK_SH)
    monkeypatch.setattr(time, "sleep", lambda _: os.close(looking))
    made = pidfile.PidFile(path)
    monkeypatch.undo()
    with pytest.raises(OSError, match="it is just starting"):
        pidfile.PidFile(path)
    made.write()
    with pytest.raises(OSError, match=f"pid {os.getpid()}"):
        pidfile.PidFile(path)


@pytest.mark.parametrize("left", [b"", b"\n", b"4711\n", b"\0" * 5, b"4711\0\0\0"])
def test_what_a_power_cut_leaves_is_no_obstacle(tmp_path: Path, left: bytes) -> None:
    path = tmp_path / "pid"
    path.write_bytes(left)
    pidfile.PidFile(str(path)).write()
    assert path.read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("other", [b"secret\n", b"12 13\n", b"\0" * 33])
def test_what_is_no_pid_file_is_left_alone(tmp_path: Path, other: bytes) -> None:
    path = tmp_path / "pid"
    path.write_bytes(other)
    with pytest.raises(OSError, match="is something else"):
        pidfile.PidFile(str(path))
    assert path.read_bytes() == other
