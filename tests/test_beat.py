"""When heartbeats are sent: by a schedule of its own, and only on the main loop's fresh word."""

from __future__ import annotations

import pytest

from failoverd.conf import Conf
from failoverd.heartbeat import Beat

HEARTBEAT, WINDOW = 4.0, 11.0
CONF = Conf(plip_hbeat=HEARTBEAT, plip_timer=WINDOW)
BEGAN = 1000.0


def beat(on: bool = True, spoken: float | None = None) -> Beat:
    made = Beat(CONF, on, BEGAN)
    if spoken is not None:
        made.told({"do": "go on"}, spoken)
    return made


def test_the_first_heartbeat_is_sent_at_once_and_the_next_when_its_time_has_come() -> None:
    made = beat()
    assert [made.due(BEGAN + after) for after in (0.0, 0.1, 3.9, 4.0, 4.1, 8.0)] == [
        *(True, False, False),
        *(True, False, True),
    ]
    assert made.next == BEGAN + 3 * HEARTBEAT


@pytest.mark.parametrize(
    ("late", "following"),
    [(0.5, 4.0), (3.9, 4.0), (4.0, 8.0), (4.5, 8.0), (9.9, 12.0)],
)
def test_what_was_missed_is_not_made_up_and_moves_no_later_one(
    late: float, following: float
) -> None:
    made = beat(spoken=BEGAN + late)
    assert made.due(BEGAN + late)
    assert not made.due(BEGAN + late)
    assert made.next == BEGAN + following


@pytest.mark.parametrize(
    ("age", "sends"), [(0.0, True), (WINDOW - 0.01, True), (WINDOW, True), (WINDOW + 0.01, False)]
)
def test_a_main_loop_that_has_not_spoken_for_a_window_is_a_dead_one(
    age: float, sends: bool
) -> None:
    made = beat(spoken=BEGAN + 100 - age)
    assert made.due(BEGAN + 100) is sends
    assert made.next > BEGAN + 100, "the schedule goes on meanwhile"
    made.told({"do": "go on"}, BEGAN + 101)
    assert made.due(made.next), "it has spoken again"


def test_the_begin_counts_as_a_word() -> None:
    assert beat().due(BEGAN + WINDOW)
    assert not beat().due(BEGAN + WINDOW + 0.01)


def test_a_node_that_is_mute_sends_nothing_until_it_is_told_to() -> None:
    made = beat(on=False)
    assert not made.due(BEGAN)
    made.told({"do": "go on"}, BEGAN + 1)
    assert not made.due(BEGAN + HEARTBEAT), "that is no word about heartbeats"
    made.told({"do": "heartbeats", "on": True}, BEGAN + 5)
    assert made.due(BEGAN + 2 * HEARTBEAT)
    for no in ({"on": False}, {"on": None}, {"on": "yes"}, {"on": 1}, {}):
        made.told({"do": "heartbeats", **no}, made.next)
        assert not made.due(made.next)
        made.told({"do": "heartbeats", "on": True}, made.next)
        assert made.due(made.next)
