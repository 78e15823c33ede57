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
