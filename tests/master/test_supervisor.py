"""When a child counts as hung, when a dead one is started again, and how much each may say."""

from __future__ import annotations

import selectors
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from failoverd.log import Allowance
from failoverd.master import supervisor
from failoverd.master.supervisor import (
    FIRST_DELAY,
    LONGEST_DELAY,
    SETTLED,
    START_PATIENCE,
    Slot,
    Supervisor,
)
from failoverd.process import Child, Message

NOW = 1000.0
JUST = 0.001


def never(_: Message | None) -> Child:
    raise OSError(11, "Resource temporarily unavailable")


# ---------------------------------------------------------------------------- how much


def test_an_allowance_gives_so_much_at_once_and_then_so_much_a_second() -> None:
    allowance = Allowance(rate=2.0, most=3.0)
    assert [allowance.take(1, NOW) for _ in range(4)] == [True, True, True, False]
    assert not allowance.take(1, NOW + 0.49)
    assert allowance.take(1, NOW + 0.5), "what was refused costs nothing"
    assert not allowance.take(1, NOW + 0.9)
    assert [allowance.take(1, NOW + 100) for _ in range(4)] == [True, True, True, False]


def test_a_rest_saves_up_no_more_than_the_most() -> None:
    allowance = Allowance(rate=2.0, most=3.0)
    assert allowance.take(1, NOW)
    assert not allowance.take(3.5, NOW + 1000)
    assert allowance.take(3.0, NOW + 1000)


# ---------------------------------------------------------------------------- how long


@pytest.mark.parametrize(
    ("patience", "ready", "seconds"),
    [
        (2.0, True, 2.0),
        (2.0, False, START_PATIENCE),  # it may still be loading
        (30.0, True, 30.0),
        (30.0, False, 30.0),
    ],
)
def test_how_long_a_child_may_be_silent(patience: float, ready: bool, seconds: float) -> None:
    slot = Slot("listener", never, patience, received=NOW, ready=ready)
    assert slot.silent_until() == NOW + seconds


@pytest.mark.parametrize(
    ("age", "gap", "left"), [(3.0, 3.0, 2.0), (3.0, 2.5, 1.5), (3.0, 9.0, 2.0)]
)
def test_a_child_could_not_report_while_the_node_was_stalled(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, age: float, gap: float, left: float
) -> None:
    """And no moment is yet to come when it has reported."""
    monkeypatch.setattr(supervisor, "time", SimpleNamespace(monotonic=lambda: NOW))
    kept.slot.ready, kept.slot.received = True, NOW - age
    kept.supervisor.forgive(gap)
    assert kept.slot.silent_until() == NOW + left


class Kept:
    """The children of a node that has no process left."""

    def __init__(self) -> None:
        self.selector = selectors.SelectSelector()
        self.said: list[tuple[str, str]] = []
        self.supervisor = Supervisor(
            self.selector, lambda *_: None, lambda *gone: self.said.append(gone)
        )
        self.supervisor.add("listener", never, 2.0)
        self.slot = self.supervisor.slots["listener"]
        self.slot.due = NOW


@pytest.fixture
def kept() -> Kept:
    return Kept()


def test_one_that_cannot_be_started_is_tried_again_ever_more_seldom(kept: Kept) -> None:
    now, gaps = NOW, []
    for _ in range(12):
        assert kept.supervisor.deadline == kept.slot.due
        kept.supervisor.tend(kept.slot.due - 0.001)
        kept.supervisor.tend(kept.slot.due)
        gaps.append(kept.slot.due - now)
        now = kept.slot.due
    doubled = [min(FIRST_DELAY * 2**n, LONGEST_DELAY) for n in range(12)]
    assert gaps == pytest.approx(doubled)
    assert len(kept.said) == 12
    assert set(kept.said) == {("listener", "cannot be started: Resource temporarily unavailable")}


@pytest.mark.parametrize(
    ("lived", "delay"),
    [
        (lambda delay: SETTLED * delay - 0.01, 1.6),
        (lambda delay: SETTLED * delay, 1.6),
        (lambda delay: SETTLED * delay + 0.01, FIRST_DELAY),
    ],
    ids=["short", "just too short", "long"],
)
def test_one_that_has_lived_for_long_is_started_again_at_once(
    kept: Kept, lived: Callable[[float], float], delay: float
) -> None:
    kept.slot.delay = 1.6
    kept.slot.began = 0.0
    now = lived(1.6)
    kept.supervisor._later(kept.slot, now)
    assert kept.slot.due == now + delay
    assert kept.slot.delay == 2 * delay


def test_one_that_is_retired_again_and_again_waits_no_longer_for_that(kept: Kept) -> None:
    """Each reload retires the log's worker twice within a moment."""
    for _ in range(12):
        kept.slot.began = NOW
        kept.supervisor.retire("listener")
        kept.supervisor._later(kept.slot, NOW + JUST)
        assert kept.slot.due == NOW + JUST + FIRST_DELAY
