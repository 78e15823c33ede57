"""What packet_count, timer_seconds and low_water would do with traffic that was seen.

How often a window has failed is counted, by running `watch` itself over the traffic. How often it
will fail is estimated from the wait, the time from any moment until low_water packets have come. If
in so many pieces of time as long as the longest wait not one was without them, then with 95 %
certainty less than 3 in so many are (rule of three); and a window that is several times as long is
without them only if all its pieces are. That holds for traffic like the sample's whose silences do
not come together, and the report has to say so. Times are nanoseconds.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, groupby, pairwise

from failoverd.watch import judge

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
LIMIT = 2_000_000  # moments that are kept; with more, neighbours are joined
LEAST_WINDOW = SECOND // 10  # below it the machine's own scheduling decides
LONGEST_WINDOW = 3600 * SECOND
MARGIN = 4  # traffic may fall to a quarter of its estimated low before low_water is reached
RULE_OF_THREE = 3  # nothing seen in n: with 95 % certainty it comes less often than 3 times in n
ENOUGH = 30  # moments with packets, to say anything

_CHUNK = 64
_UPPER = 2.0  # standard deviations: the upper end of what holds with about 95 % certainty


class Traffic:
    """When the packets that count came, since watching began. Bounded, however many they are.

    Packets that came within `tick` of each other are kept as one moment, that of the first.
    """

    def __init__(self, tick: int = SECOND // 1000) -> None:
        self.tick = tick
        self.times = array("q")
        self.totals = array("Q")  # packets up to and at each of these times
        self.length = 0

    @property
    def packets(self) -> int:
        return self.totals[-1] if self.totals else 0

    def add(self, time: int, packets: int = 1) -> None:
        """So many packets at this time, which is not before the last one."""
        self.reach(time)
        if not packets:
            return
        if self.times and time - self.times[-1] < self.tick:
            self.totals[-1] += packets
            return
        self.totals.append(self.packets + packets)
        self.times.append(time)
        if len(self.times) > LIMIT:
            self._coarsen()

    def reach(self, time: int) -> None:
        """Nothing more came until then."""
        self.length = max(self.length, time)

    def _coarsen(self) -> None:
        old = zip(self.times, pairwise([0, *self.totals]), strict=True)
        self.tick *= 2
        self.times, self.totals = array("q"), array("Q")
        for time, (before, total) in old:
            self.add(time, total - before)

    def longest_wait(self, packets: int = 1) -> int:
        """From any moment until so many packets have come. One that the end cut off counts as long
        as it was: the silence may have been the end's cause."""
        longest = at = 0
        for time, total in chain([(0, 0)], zip(self.times, self.totals, strict=True)):
            while at < len(self.times) and self.totals[at] < total + packets:
                at += 1
            end = self.times[at] if at < len(self.times) else self.length
            longest = max(longest, end - time)
        return longest

    @property
    def is_irregular(self) -> bool:
        """Whether the longest gap stands out: hardly another is half as long. Of random traffic's
        about the square root of all gaps are."""
        gaps = [after - before for before, after in pairwise([0, *self.times, self.length])]
        half = max(gaps) / 2
        return sum(gap > half for gap in gaps) ** 4 < len(gaps)

    def until(self, time: int) -> int:
        """Packets before this time."""
        at = bisect_left(self.times, time)
        return self.totals[at - 1] if at else 0

    def batches(self) -> Iterator[tuple[list[int], int]]:
        """As watch.replay wants it."""
        before = 0
        for first in range(0, len(self.times), _CHUNK):
            moments: list[int] = []
            for at in range(first, min(first + _CHUNK, len(self.times))):
                moments += [self.times[at]] * (self.totals[at] - before)
                before = self.totals[at]
            yield moments, moments[-1]
        yield [], self.length

    def windows(self, timer: int) -> list[int]:
        """Packets in each whole window of this length."""
        marks = [self.until(at) for at in range(0, self.length + 1, timer)]
        return [after - before for before, after in pairwise(marks)]


# What happened


@dataclass(frozen=True)
class Settings:
    """What is to be tuned; the timer in nanoseconds."""

    packet_count: int
    timer: int
    low_water: int


@dataclass(frozen=True)
class Outcome:
    """What these settings would have done. Failures in a row are one alarm."""

    windows: int = 0
    full: int = 0
    failed: int = 0
    alarms: int = 0
    first: float | None = None  # seconds


def outcome(settings: Settings, traffic: Traffic) -> Outcome:
    """Run the rules of the watcher over the traffic."""
    rules = judge.Rules(
        settings.packet_count, settings.timer, settings.low_water, private=False, second=SECOND
    )
    windows = full = failed = alarms = 0
    first = None
    for fails, events in groupby(
        judge.replay(rules, traffic.batches()), lambda event: event.verdict == "fail"
    ):
        for event in events:
            windows += event.windows
            full += event.event == "full"
            failed += fails * event.windows
            if fails and first is None:
                first = event.t / SECOND
        alarms += fails
    return Outcome(windows, full, failed, alarms, first)


def found_within(settings: Settings, is_full: bool) -> float | None:
    """Nanoseconds from an interface's death to the verdict at worst; None: it is never found.

    The last packets may have filled a window's low_water, so the next one must pass too. Where
    windows become full before their alarm, the first alarm is forgiven (boot), and the last full
    count may have been noticed an eighth of a window late.
    """
    if settings.low_water == 0:
        return None
    return 2 * settings.timer + (settings.timer / 8 if is_full else 0)


# What to propose


@dataclass(frozen=True)
class Aim:
    """An interface's death is found `within` so much time, with one false alarm in `days`."""

    within: int
    days: float

    @property
    def time(self) -> float:
        return self.days * DAY


@dataclass(frozen=True)
class Judged:
    """Settings, what they would have done, and what is to be expected of them."""

    name: str
    settings: Settings
    outcome: Outcome
    found_within: float | None
    expected: float | None  # alarms in the aim's days, at most about; None: cannot be said

    def meets(self, aim: Aim) -> bool:
        return (
            self.found_within is not None
            and self.found_within <= aim.within
            and self.expected is not None
            and self.expected <= 1
        )


def judged(name: str, settings: Settings, traffic: Traffic, aim: Aim) -> Judged:
    done = outcome(settings, traffic)
    within = found_within(settings, done.full > 0)
    return Judged(name, settings, done, within, expected(settings, done, traffic, aim.time))


def expected(settings: Settings, done: Outcome, traffic: Traffic, time: float) -> float | None:
    """False alarms in so much time: as many as were seen, or if none was what the waits say.

    With low_water above packet_count every alarm is a failure.
    """
    if settings.low_water == 0:
        return 0.0
    if done.alarms:
        return (done.alarms + _UPPER * math.sqrt(done.alarms)) * time / traffic.length
    if len(traffic.times) < ENOUGH:
        return None
    wait = traffic.longest_wait(min(settings.low_water, settings.packet_count))
    return chance(settings.timer, wait, traffic.length) * time / settings.timer


def chance(timer: int, wait: int, length: int) -> float:
    """That a window fails, at most about, if in so much time this was the longest wait."""
    piece = min(1.0, RULE_OF_THREE * wait / length)
    return float(piece ** max(1.0, timer / max(1, wait)))


def proposals(traffic: Traffic, aim: Aim, has_witness: bool = False) -> list[Judged]:
    """What is asked for, and the shortest timer with one false alarm in so many days, if any is.
    The one that finds a death sooner comes first.

    Of windows that find a death in time the longest one is the calmest. packet_count is more than a
    window brings: so every window is judged, and the first alarm, which is forgiven, is soon past.
    """
    if len(traffic.times) < ENOUGH:
        return []
    asked = max(LEAST_WINDOW, aim.within // 2)
    found = [judged("as asked", settings_for(traffic, asked, 1), traffic, aim)]
    if not has_witness:
        found = [with_low_water(found[0], traffic, aim)]
    wait = traffic.longest_wait()
    for timer in nice_numbers(LEAST_WINDOW, LONGEST_WINDOW):
        if chance(timer, wait, traffic.length) * aim.time / timer <= 1:
            calm = judged("calm enough", settings_for(traffic, timer, 1), traffic, aim)
            if calm.expected is not None and calm.expected <= 1:
                found += [calm] if timer != asked else []
                break
    return sorted(found, key=lambda entry: entry.settings.timer)


def with_low_water(entry: Judged, traffic: Traffic, aim: Aim) -> Judged:
    """With a quarter of what the quietest window had, if that is calm enough, and a whole day was
    seen: a low_water measured by day fails in the night."""
    least = min(traffic.windows(entry.settings.timer), default=0) // MARGIN
    if traffic.length < DAY or least < 2:
        return entry
    low_water = max(nice_numbers(1, least))
    better = judged(entry.name, replace(entry.settings, low_water=low_water), traffic, aim)
    return better if better.expected is not None and better.expected <= 1 else entry


def settings_for(traffic: Traffic, timer: int, low_water: int) -> Settings:
    average = traffic.packets * timer // max(1, traffic.length)
    busiest = max(traffic.windows(timer), default=average)
    return Settings(next(nice_numbers(max(10, 2 * busiest), 2**63)), timer, low_water)


def nice_numbers(first: int, last: int) -> Iterator[int]:
    """1, 1.5, 2, 3, 5, 7 and so on, from the first that is not below `first` to `last`."""
    power = 1
    while power <= last:
        for tenths in (10, 15, 20, 30, 50, 70):
            number = power * tenths // 10
            if first <= number <= last and number * 10 == power * tenths:
                yield number
        power *= 10


# The picture

ROWS = 16
BAR = 40


def slices(traffic: Traffic, timer: int) -> list[tuple[int, int, int]]:
    """The windows of this length, in at most ROWS slices of equally many: when each slice begins,
    and the fewest and the most packets of one of its windows."""
    windows = traffic.windows(timer)
    size = max(1, math.ceil(len(windows) / ROWS))
    parts = ((at * timer, windows[at : at + size]) for at in range(0, len(windows), size))
    return [(begin, min(part), max(part)) for begin, part in parts]


def bar(least: int, most: int, scale: int, low_water: int) -> str:
    """`#` up to the fewest packets, `-` up to the most, on a log scale; `!` below low_water."""
    unit = BAR / math.log1p(max(1, scale))
    lower, upper = (round(unit * math.log1p(value)) for value in (least, most))
    return f"{'!' if least < low_water else ' '}{'#' * lower}{'-' * (upper - lower)}"
