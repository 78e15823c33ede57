"""Section 4 of the contract as a table, and what must hold whatever packets come."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from failoverd.tools import recording
from failoverd.watch import judge
from failoverd.watch.judge import Event, Rules, Window

NANO = 1_000_000_000

# The alarm's rules in their order, as the contract puts them: the first line that fits decides.
ALARM = (
    (lambda c: c.late > c.timer / 2 and c.late > 0.05, "late", "late"),
    (lambda c: c.boot, "boot", "first window"),
    (lambda c: not c.private and 0 < c.low_water > c.packets, "fail", "below low water"),
    (
        lambda c: c.packets == 0 == c.last and (c.private or c.low_water > 0),
        "fail",
        "silent twice",
    ),
    (lambda c: True, "ok", ""),
)


class Case:
    """One state of one interface when its alarm goes off."""

    def __init__(self, *values: float) -> None:
        self.packets, self.last, self.low_water = (int(value) for value in values[:3])
        self.private, self.boot = bool(values[3]), bool(values[4])
        self.timer, self.late = values[5:]

    def expected(self) -> tuple[str, str]:
        return next((verdict, reason) for fits, verdict, reason in ALARM if fits(self))


CASES = [
    Case(*values)
    for values in itertools.product(
        (0, 1, 2, 3, 4),  # packets
        (0, 1, 500),  # last
        (0, 1, 3),  # low_water
        (False, True),  # private
        (False, True),  # boot
        (0.01, 0.08, 20.0),  # timer
        (0.0, 0.004, 0.045, 0.0501, 0.06, 9.9, 10.1, 1000.0),  # how late
    )
]


def test_every_alarm_follows_the_rules_in_their_order() -> None:
    for case in CASES:
        rules = Rules(500, case.timer, case.low_water, case.private)
        now = 100.0 + case.late
        before = Window(case.packets, case.last, case.boot, 100.0)
        after, event = judge.expire(rules, before, now)
        verdict, reason = case.expected()
        assert event.verdict == verdict, vars(case)
        assert reason in event.reason, vars(case)
        seen = (event.event, event.packets, event.last, event.boot, event.t)
        assert seen == ("alarm", case.packets, case.last, case.boot, now)
        kept = case.last if verdict == "late" else case.packets
        assert after == Window(0, kept, False, now + case.timer)


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("boot", [False, True])
def test_a_full_count_restarts_the_window(private: bool, boot: bool) -> None:
    rules = Rules(500, 20.0, 3, private)
    window = Window(499, 7, boot, 120.0)
    assert judge.count(rules, window, 0, 110.0) == (window, None)
    after, event = judge.count(rules, window, 3, 110.0)
    assert after == Window(0, 502, boot, 130.0)
    assert event == Event(110.0, "full", 502, 7, boot, "ok", "packet_count reached")


def test_the_first_window_forgives_and_has_no_past() -> None:
    assert judge.start(Rules(500, 20.0, 0, False), 7.0) == Window(0, 0, True, 27.0)


def test_the_line_is_the_one_of_the_contract() -> None:
    rules = Rules(500, 11.0, 0, True)
    events = list(recording.replay(rules, [([], 22.0)]))
    assert events[1].line("plip0") == {
        "t": 22.0,
        "interface": "plip0",
        "event": "alarm",
        "packets": 0,
        "last": 0,
        "boot": False,
        "verdict": "fail",
        "reason": "silent twice",
    }


def test_times_are_told_from_the_begin_on_to_the_nanosecond() -> None:
    event = Event(100.0 + 1 / 3, "alarm", 0, 0, False, "fail", "silent twice")
    assert event.line("plip0", 100.0)["t"] == 0.333333333
    assert event.line("plip0")["t"] == 100.333333333
    assert event.line("plip0", 100.0 - 1 / 3, 2.0)["t"] == 0.333333333


@pytest.mark.parametrize(
    ("timer", "late", "verdict"),
    [
        (20, 50, "fail"),  # milliseconds: never late before 50 ms have passed
        (20, 51, "late"),
        (1000, 51, "fail"),
        (1000, 500, "fail"),  # nor before half a window has
        (1000, 501, "late"),
    ],
)
def test_from_when_on_a_window_is_late_whatever_the_unit(
    timer: int, late: int, verdict: str
) -> None:
    for second in (1000, NANO):
        unit = second // 1000
        rules = Rules(500, timer * unit, 0, True, second)
        _, event = judge.expire(rules, Window(0, 0, False, 0), late * unit)
        assert event.verdict == verdict
        assert verdict != "late" or event.reason == f"the window ended 0.{late:03} s late"


# Over a recording


def test_a_batch_that_fills_an_open_window_does_so_at_the_right_packet() -> None:
    rules = Rules(3, 10, 1, False)
    events = list(recording.replay(rules, [([0, 1], 1), ([2, 3, 4, 5, 6], 6)]))
    assert [(e.t, e.event, e.packets) for e in events] == [(2, "full", 3), (5, "full", 3)]


def test_what_comes_after_the_end_does_not_count() -> None:
    rules = Rules(2, 10, 1, False)
    assert list(recording.replay(rules, [([0, 5, 6], 6)], until=4)) == []


def test_a_deadline_goes_before_a_packet_of_the_same_time() -> None:
    rules = Rules(2, 10, 1, False)
    events = list(recording.replay(rules, [([0, 10, 10], 10)]))
    assert [(e.t, e.event, e.packets) for e in events] == [(10, "alarm", 1), (10, "full", 2)]


def test_nanoseconds_are_exact_where_floats_are_not() -> None:
    tenth = NANO // 10
    rules = Rules(500, tenth, 1, False, NANO)
    (*_, event) = recording.replay(rules, [([0, tenth, 2 * tenth, 3 * tenth], 3 * tenth)])
    assert event.line("eth0", 0, NANO)["t"] == 0.3
    assert event.packets == 1


def test_the_open_window_is_judged_only_on_demand() -> None:
    rules = Rules(500, 10, 1, False)
    batches = [([0, 5], 19)]
    assert [e.t for e in recording.replay(rules, batches)] == [10]
    assert [e.t for e in recording.replay(rules, batches, until=40)] == [10, 20, 30, 40]
    assert [e.t for e in recording.replay(rules, batches, until=39)] == [10, 20, 30]
    assert [e.t for e in recording.replay(rules, batches, until=9)] == []


def test_without_a_packet_no_window_begins() -> None:
    assert list(recording.replay(Rules(500, 10, 1, False), [], until=100)) == []


# Whatever comes

fair = settings(deadline=None)  # of no interest is how fast this host is

rules_strategy = st.builds(
    Rules,
    packet_count=st.integers(1, 6),
    timer=st.integers(1, 12),
    low_water=st.integers(0, 8),
    private=st.booleans(),
)
recordings = st.lists(
    st.tuples(st.integers(0, 15), st.booleans()), max_size=60
)  # time since the packet before, and whether it counts


def expanded(rules: Rules, events: Iterable[Event]) -> Iterator[Event]:
    """One event for each window."""
    for event in events:
        for later in reversed(range(event.windows)):
            yield replace(event, t=event.t - later * rules.timer, windows=1)


def batches(packets: list[tuple[int, bool]], sizes: list[int]) -> list[tuple[list[int], int]]:
    """The packets in batches of these sizes, the rest in one."""
    made: list[tuple[list[int], int]] = []
    now = 0
    ends = set(itertools.accumulate(sizes)) | {len(packets)}
    counted: list[int] = []
    for number, (gap, counts) in enumerate(packets, 1):
        now += gap
        if counts:
            counted.append(now)
        if number in ends:
            made.append((counted, now))
            counted = []
    return made


def one_by_one(rules: Rules, packets: list[tuple[int, bool]]) -> list[Event]:
    """The contract read aloud: packet by packet, alarm by alarm."""
    window, now, events = judge.start(rules, 0), 0, []
    for gap, counts in packets:
        now += gap
        while window.deadline <= now:
            window, event = judge.expire(rules, window, window.deadline)
            events.append(event)
        if counts:
            window, full = judge.count(rules, window, 1, now)
            events += [full] if full else []
    return events


@fair
@given(rules_strategy, recordings, st.lists(st.integers(1, 20), max_size=8))
def test_batches_change_nothing(
    rules: Rules, packets: list[tuple[int, bool]], sizes: list[int]
) -> None:
    assert list(recording.replay(rules, batches(packets, sizes))) == one_by_one(rules, packets)


silences = st.tuples(st.integers(0, 15) | st.integers(100, 600), st.booleans())


@fair
@given(
    rules_strategy,
    st.lists(silences, max_size=12),
    st.lists(st.integers(1, 4)),
    st.integers(0, 300),
)
def test_a_long_silence_is_told_shortly_and_says_the_same(
    rules: Rules, packets: list[tuple[int, bool]], sizes: list[int], more: int
) -> None:
    """However the recording is cut: the first window, and one event for the others of a piece."""
    end = sum(gap for gap, _ in packets) + more
    whole = one_by_one(rules, [*packets, (more, False)] if packets else [])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording, "LISTED", 4)
        events = list(recording.replay(rules, batches(packets, sizes), until=end))
    assert list(expanded(rules, events)) == whole
    for before, event in itertools.pairwise(events):
        assert event.windows == 1 or (event.windows > 3 and before.verdict == event.verdict)
        assert event.windows == 1 or event.packets == event.last == 0


@pytest.mark.parametrize(
    ("low_water", "private", "verdict"), [(0, False, "ok"), (1, False, "fail"), (0, True, "fail")]
)
def test_a_silence_of_years_takes_no_time(low_water: int, private: bool, verdict: str) -> None:
    rules = Rules(500, NANO // 200, low_water, private, NANO)
    years = 60 * 365 * 86_400 * NANO
    events = list(recording.replay(rules, [([0], 0), ([years], years)], until=2 * years))
    assert sum(event.windows for event in events) == 2 * years // rules.timer
    assert len(events) < 2 * recording.LISTED + 10
    assert max(events, key=lambda event: event.windows).verdict == verdict
    longest = max(events, key=lambda event: event.windows)
    assert longest.line("eth0", 0, NANO)["windows"] == longest.windows
    assert "windows" not in events[0].line("eth0")


@fair
@given(rules_strategy, recordings)
def test_no_packet_is_lost_and_each_window_follows_from_the_one_before(
    rules: Rules, packets: list[tuple[int, bool]]
) -> None:
    end = sum(gap for gap, _ in packets) + 3 * rules.timer
    events = list(recording.replay(rules, batches(packets, []), until=end))
    counting = sum(counts for _, counts in packets)
    assert sum(event.packets for event in events) == counting
    begun, last = 0.0, 0
    for event in events:
        assert event.t - begun <= rules.timer
        assert event.last == last
        assert event.event == "full" or event.t - begun == rules.timer
        begun, last = event.t, event.packets
    alarms = [event for event in events if event.event == "alarm"]
    assert [event.boot for event in alarms] == [True, *[False] * len(alarms)][: len(alarms)]


@fair
@given(rules_strategy, st.lists(st.tuples(st.integers(0, 4), st.integers(0, 12)), max_size=40))
def test_a_live_watcher_never_makes_up_for_missed_windows(
    rules: Rules, wakes: list[tuple[int, int]]
) -> None:
    """Woken at any times, it has at most one event a wake, and a deadline ahead of it."""
    window, now = judge.start(rules, 0), 0
    for packets, gap in wakes:
        now += gap
        before = window
        window, event = judge.count(rules, window, packets, now)
        if event is None and now >= window.deadline:
            window, event = judge.expire(rules, window, now)
            assert (event.verdict == "late") == (now - before.deadline > rules.timer / 2)
        assert now < window.deadline <= now + rules.timer
        assert window.packets < rules.packet_count
        assert {window: 1}[judge.Window(window.packets, window.last, window.boot, window.deadline)]
