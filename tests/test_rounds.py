"""When probes are sent again, until when an answer is waited for, when it is told."""

from __future__ import annotations

from typing import Any

import pytest

from failoverd.neighbours import Rounds, _Probe, next_announcement

HWADDR = "02:00:00:00:00:0a"


def probe(**more: Any) -> _Probe:
    return _Probe.of({"id": 7, "interfaces": ["eth0"], "at": [10.0], "until": 11.0, **more})


@pytest.mark.parametrize(
    ("at", "until", "gap", "patience"),
    [
        ([10.0, 10.3, 10.6], 11.0, 0.15, 0.4),
        ([10.6, 10.0, 10.3], 11.0, 0.15, 0.4),
        ([10.0, 10.1, 10.6], 11.0, 0.05, 0.4),
        ([10.0], 11.0, 0.0, 1.0),
        ([10.0], 9.0, 0.0, 0.0),
        ([], 11.0, 0.0, 0.0),
    ],
)
def test_what_is_left_between_the_rounds_and_after_the_last(
    at: list[float], until: float, gap: float, patience: float
) -> None:
    rounds = Rounds(at, until)
    assert rounds.due == sorted(at)
    assert (rounds.gap, rounds.patience) == pytest.approx((gap, patience))
    assert rounds.next_time() == (min(at) if at else until)


def test_rounds_in_time_are_asked_at_their_times() -> None:
    rounds = Rounds([10.0, 10.3, 10.6], 11.0)
    for now, following in ((10.0, 10.3), (10.31, 10.6), (10.6, 11.0)):
        rounds.sent(now)
        assert rounds.next_time() == following
    assert (rounds.due, rounds.until) == ([], 11.0)


def test_rounds_that_come_late_are_no_burst_and_the_answer_to_the_last_has_its_time() -> None:
    rounds = Rounds([10.0, 10.2, 10.4], 10.8)
    rounds.sent(20.0)
    assert rounds.due == pytest.approx([20.1, 20.2])
    assert rounds.until == pytest.approx(20.6)
    rounds.sent(20.1)
    rounds.sent(30.0)
    assert rounds.due == []
    assert rounds.until == pytest.approx(30.4)


def test_one_that_is_a_little_late_moves_only_what_would_come_too_soon() -> None:
    rounds = Rounds([10.0, 10.2, 10.4], 10.8)
    rounds.sent(10.15)
    assert rounds.due == pytest.approx([10.25, 10.4])
    assert rounds.until == 10.8


def test_the_report_counts_the_rounds_of_the_interface_that_was_asked_most() -> None:
    asked = probe()
    assert asked.report()["asked"] == 0
    asked.asked.update({"eth0": 2, "eth1": 3})
    asked.answers |= {("eth1", "192.0.2.9", HWADDR), ("eth0", "192.0.2.9", HWADDR)}
    asked.unsent["eth2"] = "down"
    assert asked.report() == {
        "event": "answers",
        "id": 7,
        "asked": 3,
        "unsent": {"eth2": "down"},
        "answers": [
            {"interface": name, "address": "192.0.2.9", "hwaddr": HWADDR}
            for name in ("eth0", "eth1")
        ],
    }


def test_only_unicast_addresses_are_probed_one_by_one() -> None:
    asked = probe(peer=[HWADDR, "ff", "", HWADDR + ":01"], own={"eth0": HWADDR})
    assert asked.peer == (HWADDR,)
    assert asked.own == {"eth0": HWADDR}


def test_the_schedule_goes_on_where_a_division_of_floats_is_rounded() -> None:
    """Here (after - start) / 60 is a little less than the minutes that have passed."""
    start, after = 3671238.3142708805, 4407978.31427088
    assert next_announcement(start, after) == after + 60
