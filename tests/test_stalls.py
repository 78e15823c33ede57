"""Which failures are repeated: those while the host has stalled, and no others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent

FAILING = """
import os, signal, subprocess, time
from pathlib import Path

def test_that_fails_at_first():
    attempts = Path("attempts")
    with attempts.open("a") as file:
        file.write(".")
    if {stalls}:
        me = os.getpid()
        sleeper = int(Path(f"/proc/{{me}}/task/{{me}}/children").read_text().split()[0])
        told = Path(f"/proc/{{sleeper}}/fd/1")
        before = told.stat().st_size
        while told.stat().st_size == before:  # at first it may not measure yet
            os.kill(sleeper, signal.SIGSTOP)
            time.sleep(1.0)
            os.kill(sleeper, signal.SIGCONT)
            time.sleep(0.5)
    assert len(attempts.read_text()) > {fails}
"""


@pytest.mark.parametrize(
    ("stalls", "fails", "attempts", "passes"),
    [(True, 1, 2, True), (True, 9, 3, False), (False, 1, 1, False), (True, 0, 1, True)],
)
def test_only_a_failure_in_a_stall_is_repeated(
    tmp_path: Path, stalls: bool, fails: int, attempts: int, passes: bool
) -> None:
    (tmp_path / "test_it.py").write_text(FAILING.format(stalls=stalls, fails=fails))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "stalls", "-p", "no:cacheprovider", "test_it.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode == 0) is passes, done.stdout + done.stderr
    tried = len((tmp_path / "attempts").read_text())
    assert tried == attempts or (not stalls and "host stalled" in done.stdout), done.stdout
    assert ("failed while the host stalled" in done.stdout) is (tried > 1)
