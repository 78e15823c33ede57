"""A test that fails while this host has stalled says nothing, and is repeated.

A process beside the tests sleeps and measures how much longer it slept than it wanted to. A failure
without a stall counts at once, and so does the last of three.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

TURN = 0.05  # seconds that the process sleeps
STALL = 0.5  # seconds too long that count: a window of the lab's pairs
PATIENCE = 20.0  # seconds that the process may take to come round
ATTEMPTS = 3  # at a test, if the host stalls in each

_SLEEPER = """
import os, sys, time
parent, turn, stall = os.getppid(), float(sys.argv[1]), float(sys.argv[2])
woke = time.monotonic()
while os.getppid() == parent:
    time.sleep(turn)
    slept, woke = time.monotonic() - woke, time.monotonic()
    if slept - turn > stall:
        print(woke, slept - turn, flush=True)
"""


class Stalls:
    """Those of the host since this began."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - close() closes it
        command = [sys.executable, "-ISc", _SLEEPER, str(TURN), str(STALL)]
        self._sleeper = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._file, stderr=subprocess.DEVNULL
        )

    def since(self, began: float) -> list[float]:
        """The seconds of each that ended after this moment."""
        # What has ended by now it has told when it has gone to sleep once more, and again.
        before, limit = self._sleeps(), time.monotonic() + PATIENCE
        while self._sleeps() < before + 2 and time.monotonic() < limit:
            time.sleep(TURN)
        lines = os.pread(self._file.fileno(), 1 << 20, 0).decode().split("\n")[:-1]
        found = [(float(ended), float(took)) for ended, took in map(str.split, lines)]
        return [took for ended, took in found if ended > began]

    def _sleeps(self) -> int:
        """How often the process has gone to sleep so far."""
        status = Path(f"/proc/{self._sleeper.pid}/status").read_text()
        return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])

    def close(self) -> None:
        self._sleeper.kill()
        self._sleeper.wait()
        self._file.close()


STALLS = pytest.StashKey[Stalls]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    """Run a test as pytest does, and tell of the attempt that counts."""
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for _ in range(ATTEMPTS):
        reports, stalled = attempt(item, nextitem)
        if not stalled:
            break
        told = f"{len(stalled)} times, for {max(stalled):.1f} s at most"
        item.warn(pytest.PytestWarning(f"{item.name} failed while the host stalled {told}"))
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def attempt(
    item: pytest.Item, nextitem: pytest.Item | None
) -> tuple[list[pytest.TestReport], list[float]]:
    """What came of the test, and how long the host has stalled meanwhile if it has failed."""
    stash = item.config.stash
    if STALLS not in stash:
        stash[STALLS] = Stalls()
    began = time.monotonic()
    reports = runtestprotocol(item, log=False, nextitem=nextitem)
    failed = any(report.failed for report in reports)
    return reports, stash[STALLS].since(began) if failed else []


def pytest_unconfigure(config: pytest.Config) -> None:
    if STALLS in config.stash:
        config.stash[STALLS].close()
