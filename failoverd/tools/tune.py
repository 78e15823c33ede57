"""watchd --tune: measures the traffic of an interface or a capture, and says what to set.

How often a window would have failed is counted, by running the rules of section 4 over the traffic.
How often one will fail is estimated from the longest wait, the time from any moment until low_water
packets have come. If in n pieces of time as long as that not one was without them, then with 95 %
certainty fewer than 3 in n are (rule of three); and a window that is several times as long is
without them only if all its pieces are. That holds for traffic like the sample's whose silences do
not come together. Times are seconds.
"""

from __future__ import annotations

import argparse
import json
import math
import select
import sys
import textwrap
import time
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import chain, groupby, pairwise

from failoverd import conf
from failoverd.pair.bounds import handover_time
from failoverd.pair.settings import rules as pair_rules
from failoverd.tools import recording, watching
from failoverd.tools.capture import NANOSECONDS, Truncated, open_capture
from failoverd.tools.replay import end_of, filter_for
from failoverd.tools.words import Stop, counted, span
from failoverd.watch import judge
from failoverd.watch.counter import Counter

AIM_MET, AIM_NOT_MET, CANNOT_TELL = 0, 1, 3
DAY = 86_400.0
LIMIT = 2_000_000
LEAST_WINDOW, LONGEST_WINDOW = 0.1, 3600.0  # below it the node's own scheduling decides
MARGIN = 4  # traffic may fall to a quarter of its estimated low before low_water is reached
RULE_OF_THREE = 3  # nothing seen in n: with 95 % certainty it comes less often than 3 times in n
ENOUGH = 30  # moments with packets, to say anything
UPPER = 2.0  # standard deviations: the upper end of what holds with about 95 % certainty
NICE = [float(f"{digits}e{power}") for power in range(-1, 19) for digits in (1, 1.5, 2, 3, 5, 7)]
TICK = 0.02  # how often the live counter is looked at
STALLED = 5 * TICK  # so late this process itself was stalled
ROWS, BAR = 16, 40  # of the picture
CHUNK = 64  # moments that are replayed at once
COLUMNS = 79
ERASED = "\r\033[K"  # the line of a terminal


# What came


class Traffic:
    """When the packets that count came, since watching began.

    Packets that came within `tick` of each other are kept as one moment, that of the first; so are
    those within a LIMITth of the time that has passed, which keeps it small, however many they are.
    """

    def __init__(self, tick: float = 0.001, since: float = 0.0) -> None:
        """since: when watching began, in seconds since 1970."""
        self.tick, self.since, self.length = tick, since, 0.0
        self.times, self.totals = array("d"), array("Q")  # totals: up to and at each of the times

    @property
    def packets(self) -> int:
        return self.totals[-1] if self.totals else 0

    def add(self, time: float, packets: int = 1) -> None:
        """So many packets, perhaps none, at this time, which is not before the last one."""
        self.length = max(self.length, time)
        if not packets:
            return
        if self.times and time - self.times[-1] < max(self.tick, time / LIMIT):
            self.totals[-1] += packets
            return
        self.totals.append(self.packets + packets)
        self.times.append(time)

    def longest_wait(self, packets: int = 1) -> float:
        """From any moment until so many packets have come. One that the end cut off counts as long
        as it was: the silence may have been the end's cause."""
        longest, at = 0.0, 0
        for moment, total in chain([(0.0, 0)], zip(self.times, self.totals, strict=True)):
            while at < len(self.times) and self.totals[at] < total + packets:
                at += 1
            end = self.times[at] if at < len(self.times) else self.length
            longest = max(longest, end - moment)
        return longest

    def windows(self, timer: float) -> list[int]:
        """Packets in each whole window of this length."""
        ends = (n * timer for n in range(int(self.length // timer) + 1))
        totals = [0, *self.totals]
        marks = [totals[bisect_left(self.times, end)] for end in ends]
        return [after - before for before, after in pairwise(marks)]

    def batches(self) -> Iterator[tuple[list[float], float]]:
        """As recording.replay wants it."""
        totals = [0, *self.totals]
        for first in range(0, len(self.times), CHUNK):
            moments: list[float] = []
            for at in range(first, min(first + CHUNK, len(self.times))):
                moments += [self.times[at]] * (totals[at + 1] - totals[at])
            yield moments, moments[-1]
        yield [], self.length


def measured(options: argparse.Namespace, settings: conf.Conf) -> Traffic:
    """The traffic of a live interface, for so long or until Ctrl-C: what has come will do."""
    interface = options.interface
    watching.must_exist(interface)
    counter = Counter(interface, *watching.prepared(settings, interface))
    with closing(counter), watching.opening(interface):
        if not counter.open():
            raise Stop(f"{interface} is down: ip link set dev {interface} up, then try again")
        for remark in watching.odd_at_start(settings, interface):
            watching.complain(remark)
        watching.complain(f"watching {interface} for {options.seconds:g} s (Ctrl-C ends it sooner)")
        traffic = Traffic(TICK, time.time())
        with suppress(KeyboardInterrupt):
            count(counter, traffic, options.seconds)
        if sys.stderr.isatty():
            print(end=ERASED, file=sys.stderr, flush=True)
        if counter.is_lost():
            watching.complain(f"{interface} went away meanwhile: what was received before counts")
    return traffic


def count(counter: Counter, traffic: Traffic, length: float) -> None:
    """Watch for so long. Time in which this process was stalled counts as if it had not been."""
    began = looked = time.monotonic()
    while traffic.length < length:
        due = looked + TICK
        select.select([], [], [], max(0.0, due - time.monotonic()))
        looked = time.monotonic()
        if looked - due > STALLED:
            began += looked - due
        traffic.add(min(looked - began, length), counter.take())
        if sys.stderr.isatty():
            packets = counted(traffic.packets, "packet")
            text = f"{traffic.length:.0f} of {length:g} s: {packets} "
            print(end=f"{ERASED}{text}", file=sys.stderr, flush=True)


def read(options: argparse.Namespace, settings: conf.Conf) -> Traffic:
    """The traffic of a capture."""
    traffic = Traffic()
    with open_capture(options.capture) as opened:
        clock = opened.clock
        clock.passes_over = True
        for moments, now in opened.batches(filter_for(options, settings, opened)):
            for moment in moments:
                traffic.add(moment / NANOSECONDS)
            traffic.add(now / NANOSECONDS, 0)
    if opened.problem is not None and not isinstance(opened.problem, Truncated):
        raise opened.problem
    end_of(opened)
    if clock.first is None:
        raise Stop(f"{options.capture}: there is no packet in it: nothing to measure")
    traffic.since = clock.first / NANOSECONDS
    return traffic


# What to propose


@dataclass(frozen=True)
class Aim:
    """A dead interface is found `within` so many seconds, with one false alarm in `days`."""

    within: float
    days: float

    @property
    def time(self) -> float:
        return self.days * DAY

    def __str__(self) -> str:
        found, alarms = span(self.within), span(self.time)
        return f"dead interface found within {found}, at most one false alarm in {alarms}"


@dataclass(frozen=True)
class Judged:
    """Settings, what they would have done, and what is to be expected of them. The names are those
    of the JSON object."""

    packet_count: int
    timer_seconds: float
    low_water: int
    found_within: float | None  # from an interface's death to the verdict; None: never
    alarms: int  # failed windows in a row are one
    expected_alarms: float | None  # in the aim's days, at most about; None: cannot be said

    @property
    def is_calm(self) -> bool:
        return self.expected_alarms is not None and self.expected_alarms <= 1

    def meets(self, aim: Aim) -> bool:
        return self.is_calm and self.found_within is not None and self.found_within <= aim.within


def judged(packet_count: int, timer: float, low_water: int, traffic: Traffic, aim: Aim) -> Judged:
    """Run the rules of the watcher over the traffic."""
    rules = judge.Rules(packet_count, timer, low_water, private=False)
    events = [(e.event, e.verdict) for e in recording.replay(rules, traffic.batches())]
    alarms = sum(fails for fails, _ in groupby(verdict == "fail" for _, verdict in events))
    found = found_within(timer, low_water, any(event == "full" for event, _ in events))
    # With low_water above packet_count every window that ends by time is a failure.
    wait = traffic.longest_wait(min(low_water, packet_count))
    more = expected(timer, wait, alarms, traffic) if low_water else 0.0
    return Judged(packet_count, timer, low_water, found, alarms, more and more * aim.time)


def found_within(timer: float, low_water: int, is_full: bool) -> float | None:
    """Seconds from an interface's death to the verdict at worst; None: it is never found.

    The last packets may have filled a window's low_water, so the next one must pass too. Where
    windows become full before their time, the first to end is forgiven (boot), and the last full
    count may have been noticed an eighth of a window late.
    """
    if low_water == 0:
        return None
    return 2 * timer + (timer / 8 if is_full else 0)


def expected(timer: float, wait: float, alarms: int, traffic: Traffic) -> float | None:
    """False alarms in a second: as many as were seen, or if none was what the longest wait says."""
    if alarms:
        return (alarms + UPPER * math.sqrt(alarms)) / traffic.length
    if len(traffic.times) < ENOUGH:
        return None
    return chance(timer, wait, traffic.length) / timer


def chance(timer: float, wait: float, length: float) -> float:
    """That a window fails, at most about, if in so much time this was the longest wait."""
    piece = min(1.0, RULE_OF_THREE * wait / length)
    return float(piece ** max(1.0, timer / max(1e-9, wait)))


def proposals(traffic: Traffic, aim: Aim, has_probe_target: bool = False) -> dict[str, Judged]:
    """What is asked for, and the shortest timer with one false alarm in so many days, if any is.
    The one that finds a dead interface sooner comes first.

    Of windows that find it in time the longest one is the calmest. packet_count is more than a
    window brings: so every window is judged, and the first one, which is forgiven, is soon past.
    """
    if len(traffic.times) < ENOUGH:
        return {}
    timer = max(LEAST_WINDOW, aim.within / 2)
    asked = judged(roomy(traffic, timer), timer, 1, traffic, aim)
    if not has_probe_target:
        asked = with_low_water(asked, traffic, aim)
    found = {"as asked": asked}
    wait = traffic.longest_wait()
    for timer in (nice for nice in NICE if nice <= LONGEST_WINDOW):
        if chance(timer, wait, traffic.length) * aim.time / timer <= 1:
            calm = judged(roomy(traffic, timer), timer, 1, traffic, aim)
            if calm.is_calm:
                found |= {"calm enough": calm} if timer != asked.timer_seconds else {}
                break
    return dict(sorted(found.items(), key=lambda item: item[1].timer_seconds))


def with_low_water(entry: Judged, traffic: Traffic, aim: Aim) -> Judged:
    """With a quarter of what the quietest window had, if that is calm enough, and a whole day was
    seen: a low_water measured by day fails in the night."""
    least = min(traffic.windows(entry.timer_seconds), default=0) // MARGIN
    if traffic.length < DAY or least < 2:
        return entry
    low_water = max(int(nice) for nice in NICE if nice <= least)
    better = judged(entry.packet_count, entry.timer_seconds, low_water, traffic, aim)
    return better if better.is_calm else entry


def roomy(traffic: Traffic, timer: float) -> int:
    """A packet_count of twice what the busiest window brought."""
    average = round(traffic.packets * timer / max(1e-9, traffic.length))
    busiest = max(traffic.windows(timer), default=average)
    return int(next((nice for nice in NICE if nice >= max(10, 2 * busiest)), NICE[-1]))


# What is said of it


class Report:
    """The answer about one interface's traffic, in lines for failoverd.conf and its comments."""

    def __init__(self, interface: str, traffic: Traffic, settings: conf.Conf, aim: Aim) -> None:
        self.interface, self.traffic, self.aim = interface, traffic, aim
        self.targets = [w.address for w in settings.witness if w.interface == interface]
        self.now = judged(
            settings.packet_count, settings.timer_seconds, settings.low_water, traffic, aim
        )
        self.proposed = proposals(traffic, aim, bool(self.targets))
        # What to take: what is asked for if that will do, else the least that is calm enough.
        asked = self.proposed.get("as asked")
        will_do = self.targets or asked is None or asked.meets(aim)
        self.name = "calm enough" if not will_do and "calm enough" in self.proposed else "as asked"
        self.best = self.proposed.get(self.name)
        if self.best is not None and self.best.meets(aim):
            self.status = AIM_MET
        else:
            self.status = CANNOT_TELL if self.best is None or self.targets else AIM_NOT_MET

    def lines(self, verbose: bool) -> Iterator[str]:
        """The answer, and with verbose what it rests on. All of it can be pasted."""
        best = self.best
        yield from comment(f"{self.interface}: {self._verdict()}")
        if best is not None:
            yield f"$packet_count = {best.packet_count};"
            yield f"$timer_seconds = {best.timer_seconds:.6g};"
            yield f"$low_water = {best.low_water};"
            yield from comment(self._promise(best))
        for sentence in (*self._doubts(), self._measured()):
            yield from comment(sentence)
        if not verbose:
            yield "# -v shows the packets per window, and what other settings would do."
            return
        for line in ("", *self._table(), "", *self._picture(best or self.now)):
            yield f"# {line}".rstrip()
        if best is not None and not best.alarms:
            yield from comment(self._certainty())

    def _verdict(self) -> str:
        if self.status == AIM_MET:
            return f"aim met ({self.aim})."
        if self.status == AIM_NOT_MET:
            return f"AIM NOT MET ({self.aim}): no setting meets it with this traffic. The nearest:"
        why = "no packet that counts was received."
        if self.traffic.packets:
            why = "too few packets, measure for longer."
        if self.best is not None:
            why = "it depends on the probe target. Fast enough:"
        return f"cannot tell ({self.aim}): {why}"

    def _promise(self, best: Judged) -> str:
        keys = ("packet_count", "timer_seconds", "low_water")
        rules = pair_rules(conf.Conf(**{key: getattr(best, key) for key in keys}), "master")
        answers = ", without the answers of the probe target" if self.targets else ""
        return (
            f"Found within {found(best)}; a switchover begins at most {handover_time(rules):.6g} s "
            f"after the last packet; expect {rough(best.expected_alarms)} false alarms in "
            f"{span(self.aim.time)} (estimate, if traffic goes on like this{answers})."
        )

    def _doubts(self) -> Iterator[str]:
        if self.now.low_water == 0:
            yield "With $low_water 0, as now, a dead interface is never found."
        if self.targets:
            yield (
                f"The probe target {', '.join(self.targets)} (@witness) is asked in every empty "
                "window: it fails only when it does not answer."
            )
        elif self.status == AIM_NOT_MET or not self.traffic.packets:
            yield (
                "Quiet traffic needs a probe target (@witness), a router say: it is asked in every "
                "empty window, so that any timer will do."
            )
        if self.best is not None and self.traffic.length < DAY:
            yield (
                "The sample is shorter than a day, without nights, backups and weekends: so "
                "$low_water is 1, the least that finds a dead interface."
            )

    def _measured(self) -> str:
        length, packets = self.traffic.length, self.traffic.packets
        text = f"Measured: {counted(packets, 'packet')} in {span(length)}"
        if packets and length:
            gap = span(self.traffic.longest_wait())
            text += f", {packets / length:.3g} a second, the longest time without one {gap}"
        return f"{text}, from {datetime.fromtimestamp(self.traffic.since):%Y-%m-%d %H:%M:%S} on."

    def _table(self) -> Iterator[str]:
        heads = ("packet_count", "timer_seconds", "low_water", "found in", "alarms")
        yield cells("", *heads, f"per {span(self.aim.time)}")
        for name, each in {"now": self.now, **self.proposed}.items():
            timer, more = f"{each.timer_seconds:.6g}", rough(each.expected_alarms)
            yield cells(
                name, each.packet_count, timer, each.low_water, found(each), each.alarms, more
            )

    def _picture(self, drawn: Judged) -> Iterator[str]:
        """Packets per window on a log scale, in at most ROWS slices of equally many windows."""
        timer, low_water = drawn.timer_seconds, drawn.low_water
        windows = self.traffic.windows(timer)
        if not windows:
            yield f"not one window of {timer:.6g} s has passed"
            return
        below = f", ! below {low_water}" if low_water else ""
        yield f"packets in {timer:.6g} s (log scale): # least, - most of each slice{below}"
        size, width = math.ceil(len(windows) / ROWS), len(f"{max(windows)}")
        for at in range(0, len(windows), size):
            least, most = min(windows[at : at + size]), max(windows[at : at + size])
            when = datetime.fromtimestamp(self.traffic.since + at * timer)
            drawing = bar(least, most, max(windows), low_water)
            yield f"{when:%a %H:%M:%S}  {least:{width}} to {most:{width}} {drawing}"

    def _certainty(self) -> str:
        length = self.traffic.length
        return (
            f"{span(length)} without a failed window prove, with 95 % certainty, no more than one "
            f"in {span(length / RULE_OF_THREE)} (rule of three); to prove one in "
            f"{span(self.aim.time)} takes {span(RULE_OF_THREE * self.aim.time)}. The last column "
            "is an estimate from the longest wait: it holds if traffic goes on like this, and one "
            "silence does not bring on another."
        )

    def json(self) -> str:
        """The same as one JSON object."""
        met = None if self.status == CANNOT_TELL else self.status == AIM_MET
        tree = {
            "interface": self.interface,
            "seconds": self.traffic.length,
            "packets": self.traffic.packets,
            "aim": {**asdict(self.aim), "met": met},
            "witness": self.targets,
            "best": self.name if self.best else None,
            "settings": {n: asdict(each) for n, each in {"now": self.now, **self.proposed}.items()},
        }
        return json.dumps(tree)


def cells(name: str, *others: object) -> str:
    widths = (13, 14, 10, 9, 8, 12)
    return f"{name:11}" + "".join(f"{o!s:>{w}}" for o, w in zip(others, widths, strict=True))


def bar(least: int, most: int, scale: int, low_water: int) -> str:
    """`#` up to the fewest packets, `-` up to the most; `!` below low_water."""
    unit = BAR / math.log1p(max(1, scale))
    lower, upper = (round(unit * math.log1p(value)) for value in (least, most))
    return f"{'!' if least < low_water else ' '}{'#' * lower}{'-' * (upper - lower)}"


def comment(sentence: str) -> list[str]:
    return textwrap.wrap(sentence, COLUMNS, initial_indent="# ", subsequent_indent="# ")


def found(entry: Judged) -> str:
    return "never" if entry.found_within is None else span(entry.found_within)


def rough(number: float | None) -> str:
    """An estimate does not have many digits."""
    if number is None:
        return "?"
    if number == 0:
        return "0"
    return "< 0.01" if number < 0.01 else f"{float(f'{number:.2g}'):,.6g}"


def run(options: argparse.Namespace, settings: conf.Conf) -> int:
    """Measure, and say what to set. The exit status says whether the aim can be met."""
    if options.interface == settings.plip_interface:
        raise Stop(
            f"{options.interface} is the heartbeat link, whose windows follow from $plip_hbeat: "
            "failoverd -t says what they mean; --tune is for the service interfaces"
        )
    aim = Aim(options.within, options.days)
    traffic = (read if options.capture else measured)(options, settings)
    report = Report(options.interface, traffic, settings, aim)
    for line in [report.json()] if options.json else report.lines(options.verbose):
        print(line)
    return report.status
