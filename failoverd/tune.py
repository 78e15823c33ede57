"""What packet_count, timer_seconds and low_water would do with traffic that was seen.

One quantity answers all of it: the wait, how long it takes from any moment until low_water packets
have come. A window fails if it begins at a moment whose wait is longer than the window. How often
that was so is counted, by running `watch` itself over the traffic. How often it will be so is
estimated: the longest waits are taken as a sample of a generalised Pareto tail (peaks over a
threshold; Pickands 1975), fitted by probability-weighted moments (Hosking and Wallis 1987), never
lighter than exponential, and at the upper end of what a sample of this size leaves open. That holds
for traffic like the sample's and no other, and the report has to say so. Times are nanoseconds.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from failoverd import watch

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
LIMIT = 2_000_000  # moments that are kept; with more, neighbours are joined
MOMENTS = 20_000  # from which waits are measured
LEAST_WINDOW = SECOND // 10  # below it the machine's own scheduling decides
LONGEST_WINDOW = 3600 * SECOND
MARGIN = 4  # traffic may fall to a quarter of its estimated low before low_water is reached
RULE_OF_THREE = 3  # nothing seen in D: with 95 % certainty it comes less often than 3 times in D

_CHUNK = 64
_FINER = 8  # moments in a tick
_GOLDEN = (math.sqrt(5) - 1) / 2  # moments are spread unevenly, or they fall in step with traffic
_QUANTILES = (0.98, 0.95, 0.9, 0.8, 0.5)
_ENOUGH = 30  # independent long waits, for a quantile to be the threshold
_AT_LEAST = 10  # for the last of the quantiles
_UPPER = 2.0  # standard deviations: the upper end of what holds with about 95 % certainty
_MOST_SHAPE = 0.8


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
        old = zip(self.times, self.totals, strict=True)
        self.tick *= 2
        self.times, self.totals = array("q"), array("Q")
        for time, total in old:
            if self.times and time - self.times[-1] < self.tick:
                self.totals[-1] = total
            else:
                self.times.append(time)
                self.totals.append(total)

    def longest_gap(self) -> int:
        """The longest time without a packet, at the begin and the end too."""
        return max(after - before for before, after in pairwise([0, *self.times, self.length]))

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
    rules = watch.Rules(
        settings.packet_count, settings.timer, settings.low_water, private=False, second=SECOND
    )
    windows = full = failed = alarms = 0
    first = None
    for fails, events in groupby(
        watch.replay(rules, traffic.batches()), lambda event: event.verdict == "fail"
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


# What is to be expected


@dataclass(frozen=True)
class Tail:
    """The distribution of waits: as seen up to the threshold, as estimated beyond it."""

    waits: Sequence[float]  # ascending
    threshold: float
    share: float  # of the waits that are longer than the threshold
    scale: float
    shape: float
    clusters: int  # long waits that are independent of each other

    @property
    def is_heavy(self) -> bool:
        """Whether extremes are less regular than those of evenly random traffic."""
        return self.shape > 0

    def chance(self, wait: float) -> float:
        """That a wait is longer than this. Never less than was seen."""
        seen = 1 - bisect_right(self.waits, wait) / len(self.waits)
        if wait <= self.threshold:
            return seen
        excess = (wait - self.threshold) / self.scale
        if self.shape:
            beyond = math.exp(-math.log1p(self.shape * excess) / self.shape)
        else:
            beyond = math.exp(-excess)
        return max(seen, self.share * beyond)

    def alarms(self, timer: int, time: float) -> float:
        """How many windows of this length fail in so much time."""
        return self.chance(timer) * time / timer


def tail(traffic: Traffic, packets: int) -> Tail | None:
    """How long one waits for so many packets. None if too little was seen to say."""
    waits = measured(traffic, packets)
    ordered = sorted(waits)
    for quantile in _QUANTILES if ordered else ():
        threshold = ordered[int(quantile * len(ordered))]
        clusters = sum(is_long for is_long, _ in groupby(wait > threshold for wait in waits))
        if clusters >= (_AT_LEAST if quantile == _QUANTILES[-1] else _ENOUGH):
            excesses = [wait - threshold for wait in ordered if wait > threshold]
            scale, shape = fitted(excesses, clusters)
            share = len(excesses) / len(ordered)
            return Tail(ordered, threshold, share, scale, shape, clusters)
    return None


def measured(traffic: Traffic, packets: int) -> list[float]:
    """Waits for so many packets, from moments spread evenly over the time watched.

    A wait that the end cut off counts as long as it was: the silence may have been the end's cause.
    """
    count = min(MOMENTS, _FINER * traffic.length // traffic.tick)
    waits = []
    for number in range(count):
        moment = traffic.length * (number + number * _GOLDEN % 1) / count
        at = bisect_left(traffic.totals, traffic.until(math.ceil(moment)) + packets)
        end = traffic.times[at] if at < len(traffic.times) else traffic.length
        waits.append(end - moment)
    return waits


def fitted(excesses: Sequence[float], clusters: int) -> tuple[float, float]:
    """Scale and shape of a generalised Pareto distribution, with a margin for the sample's size.

    The excesses ascend. A tail that shows itself as heavy is taken at the upper end, too.
    """
    count = len(excesses)
    mean = sum(excesses) / count
    low = sum((1 - (at + 0.65) / count) * x for at, x in enumerate(excesses)) / count
    ratio = mean / (mean - 2 * low) if mean > 2 * low else math.inf
    shape, noise = 2 - ratio, 1 / math.sqrt(clusters)
    shape = min(_MOST_SHAPE, shape + noise) if shape > noise else 0.0
    # A long gap holds many of the moments: that doubles the variance (for exponential gaps).
    return mean * (1 - shape) * (1 + _UPPER * math.sqrt(2) * noise), shape


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
    waits = tail(traffic, min(settings.low_water, settings.packet_count))
    return None if waits is None else waits.alarms(settings.timer, time)


def proposals(traffic: Traffic, aim: Aim, has_witness: bool = False) -> list[Judged]:
    """What is asked for, and the shortest timer with one false alarm in so many days, if any is.
    The one that finds a death sooner comes first.

    Of windows that find a death in time the longest one is the calmest. packet_count is more than a
    window brings: so every window is judged, and the first alarm, which is forgiven, is soon past.
    """
    waits = tail(traffic, 1)
    if waits is None:
        return []
    asked = max(LEAST_WINDOW, aim.within // 2)
    low_water = 1 if has_witness else safe_low_water(traffic, asked, aim)
    found = [judged("as asked", settings_for(traffic, asked, low_water), traffic, aim)]
    for timer in nice_numbers(LEAST_WINDOW, LONGEST_WINDOW):
        if waits.alarms(timer, aim.time) <= 1:
            calm = judged("calm enough", settings_for(traffic, timer, 1), traffic, aim)
            if calm.expected is not None and calm.expected <= 1:
                found += [calm] if timer != asked else []
                break
    return sorted(found, key=lambda entry: entry.settings.timer)


def settings_for(traffic: Traffic, timer: int, low_water: int) -> Settings:
    average = traffic.packets * timer // max(1, traffic.length)
    busiest = max(traffic.windows(timer), default=average)
    return Settings(next(nice_numbers(max(10, 2 * busiest), 2**63)), timer, low_water)


def safe_low_water(traffic: Traffic, timer: int, aim: Aim) -> int:
    """1, unless a whole day was seen: a low_water measured by day fails in the night."""
    if traffic.length < DAY:
        return 1
    safe = 1
    for packets in nice_numbers(2, 2**63):
        waits = tail(traffic, packets * MARGIN)
        if waits is None or waits.alarms(timer, aim.time) > 1:
            return safe
        safe = packets
    return safe


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


@dataclass(frozen=True)
class Slice:
    """Some windows in a row: when they begin, the fewest and the most packets of one of them."""

    begin: int
    least: int
    most: int


def slices(traffic: Traffic, timer: int) -> list[Slice]:
    """The windows of this length, in at most ROWS slices of equally many."""
    windows = traffic.windows(timer)
    size = max(1, math.ceil(len(windows) / ROWS))
    return [
        Slice(at * timer, min(windows[at : at + size]), max(windows[at : at + size]))
        for at in range(0, len(windows), size)
    ]


def bar(entry: Slice, most: int, low_water: int) -> str:
    """`#` up to the fewest packets, `-` up to the most, on a log scale; `!` below low_water."""
    least, upper = (
        round(BAR * math.log1p(value) / math.log1p(max(1, most)))
        for value in (entry.least, entry.most)
    )
    text = "#" * least + "-" * (upper - least)
    return f"!{text}" if entry.least < low_water else f" {text}"
