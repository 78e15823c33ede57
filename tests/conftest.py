"""Fixtures that more than one test file needs: the lab, and its story when a test fails."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from stalls import pytest_runtest_protocol, pytest_unconfigure  # noqa: F401 - pytest calls them

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["PATH"] += ":/usr/local/sbin:/usr/sbin:/sbin"  # an ordinary user's may lack them

from dev.lab import logs  # noqa: E402
from dev.lab.network import Lab  # noqa: E402 - the checkout is not installed
from dev.lab.spaces import NoNamespaces, Spaces  # noqa: E402

# A shell's `&` has Ctrl-C ignored, and nohup the end of a session, and whoever is started inherits
# that. The processes that tests start are to be as those of a terminal; a signal that is handled
# here, in whatever way, is not ignored there.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)  # we go on, as it was wanted

# How long an example takes says how busy the host is, and nothing else.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

FORKED_BESIDE: list[str] = []  # the threads that have no double in a forked child, but their locks
os.register_at_fork(
    before=lambda: FORKED_BESIDE.extend(
        thread.name for thread in threading.enumerate() if thread is not threading.current_thread()
    )
)

LABS = pytest.StashKey[list[Lab]]()


@pytest.fixture(autouse=True)
def forks_alone() -> Iterator[None]:
    """Nothing is forked while it has more threads than one, by the code or by the tests."""
    FORKED_BESIDE.clear()
    yield
    assert not FORKED_BESIDE


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """What signals do to this process, and which are to come, no test changes for those after
    it: by SIGPIPE's default another would end without a word."""
    before = signals()
    yield
    assert signals() == before


def signals() -> dict[str, object]:
    """What each signal does here, which ones wait, and which timers will send one."""
    found: dict[str, object] = {each.name: signal.getsignal(each) for each in signal.Signals}
    found["blocked"] = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        found[f"timer {timer}"] = signal.getitimer(timer) != (0.0, 0.0)
    return found


@functools.cache
def why_no_lab() -> str:
    """Why no lab can be made here, "" if one can."""
    try:
        Spaces().close()
    except NoNamespaces as error:
        return str(error)
    return ""


@pytest.fixture
def make_lab(request: pytest.FixtureRequest) -> Iterator[Callable[..., Lab]]:
    """Makes labs, with Lab's arguments, that end with the test. In none may a failoverd have found
    its decisions at fault."""
    if why_no_lab():
        pytest.skip(why_no_lab())
    labs: list[Lab] = []
    request.node.stash[LABS] = labs

    def make(*arguments: Any, **options: Any) -> Lab:
        made = Lab(*arguments, **options)
        labs.append(made)
        return made

    try:
        yield make
        faults = [line for lab in labs for node in lab.nodes for line in at_fault(node.read("log"))]
        assert not faults
    finally:
        for lab in labs:
            lab.close()


def at_fault(log: str) -> list[str]:
    return [str(line) for line in logs.lines(log, "BUG")]


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    """A lab with one interface on the service network and IPv4."""
    return make_lab()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show both nodes' logs below a failure."""
    report = yield
    if report.when == "call" and report.failed:
        labs: list[Lab] = item.stash.get(LABS, [])
        for number, made in enumerate(labs):
            report.sections.append((f"lab {number}", made.tails()))
    return report
