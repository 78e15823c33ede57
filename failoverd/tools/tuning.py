"""watchd --tune: measures the traffic of an interface or a capture, and says what to set."""

from __future__ import annotations

import argparse
import json
import select
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import datetime, timedelta

from failoverd import conf
from failoverd.tools import promises, remarks, tune
from failoverd.tools.capture import NANOSECONDS, Truncated, open_capture
from failoverd.tools.replay import filter_for, of_its_clock
from failoverd.tools.watching import (
    DAYS,
    TUNE_SECONDS,
    WITHIN_SECONDS,
    cannot_count,
    complain,
    counted_here,
    must_exist,
    prepared,
    progress,
    terminal_for,
)
from failoverd.tools.words import Stop, counted, span
from failoverd.watch.counter import Counter

AIM_MET, AIM_NOT_MET, CANNOT_TELL = 0, 1, 3
TICK = tune.SECOND // 50  # how often the counter is looked at
NOTICED = 5 * TICK  # so late we stood still ourselves
COLUMNS = 79
NAMES = ("packet_count", "timer_seconds", "low_water")

Measured = tuple[tune.Traffic, tuple[float, float]]
Show = Callable[[str, float | None], object]  # how far it has come: a text, and a share of 1


def run(options: argparse.Namespace, settings: conf.Conf) -> int:
    """Measure, and say what to set. The exit status says whether the aim can be met."""
    if options.interface == settings.plip_interface:
        raise Stop(
            f"{options.interface} is the private link, whose windows follow from $plip_hbeat: "
            "failoverd -t says what they mean; --tune is for the ethernet side"
        )
    within = WITHIN_SECONDS if options.within is None else options.within
    aim = tune.Aim(round(within * tune.SECOND), DAYS if options.days is None else options.days)
    traffic, times = (tune_read if options.capture else tune_watch)(options, settings)
    report = Report(options.interface, traffic, times, settings, aim)
    for line in [report.json()] if options.json else report.lines(options.verbose):
        print(line)
    sys.stdout.flush()
    return report.status


def tune_watch(options: argparse.Namespace, settings: conf.Conf) -> Measured:
    """The traffic of a live interface, and when it began and ended."""
    interface = options.interface
    must_exist(interface)
    length = TUNE_SECONDS if options.seconds is None else options.seconds
    terminal = terminal_for(sys.stderr)
    expression = counted_here(settings, interface)
    programs = prepared(settings, interface, expression)
    with closing(Counter(interface, expression, programs)) as counter:
        try:
            if not counter.open():
                raise Stop(f"{interface} is down: ip link set dev {interface} up, then try again")
        except (OSError, ValueError) as error:
            raise cannot_count(interface, error) from None
        for remark in remarks.at_start(settings, interface):
            complain(remark)
        if terminal is None:
            complain(f"watching {interface} for {length:g} s")
        began = time.time()
        with progress(terminal, f"watching {interface}", "(Ctrl-C: that is enough)") as show:
            traffic = from_interface(counter, round(length * tune.SECOND), show)
        if counter.is_deaf():
            complain(f"{interface} went away meanwhile: what was heard before it did counts")
    return traffic, (began, began + traffic.length / tune.SECOND)


def tune_read(options: argparse.Namespace, settings: conf.Conf) -> Measured:
    """The traffic of a capture, and when it began and ended."""
    with open_capture(options.capture, options.interface) as opened:
        clock = opened.clock
        clock.passes_over = True
        batches = opened.batches(filter_for(options, settings, opened))
        with progress(terminal_for(sys.stderr), f"reading {options.capture}") as show:
            traffic = from_batches(batches, show)
    if opened.problem is not None and not isinstance(opened.problem, Truncated):
        raise opened.problem
    if clock.first is None:
        raise Stop(f"{options.capture}: there is no packet in it: nothing to measure")
    for remark in of_its_clock(clock):
        complain(remark)
    if opened.problem is not None:
        complain(f"{opened.problem}; what comes before counts")
    return traffic, (clock.first / NANOSECONDS, (clock.zero + clock.now) / NANOSECONDS)


def from_interface(counter: Counter, length: int, show: Show) -> tune.Traffic:
    """Watch for so many nanoseconds, or until Ctrl-C: what has come until then will do.

    Time in which we ourselves stood still counts as if it had not been.
    """
    traffic = tune.Traffic(TICK)
    began = looked = time.monotonic_ns()
    try:
        while traffic.length < length:
            due = looked + TICK
            select.select([], [], [], max(0, due - time.monotonic_ns()) / tune.SECOND)
            looked = time.monotonic_ns()
            if looked - due > NOTICED:
                began += looked - due
            traffic.add(min(looked - began, length), counter.take())
            passed = traffic.length / tune.SECOND
            show(
                f"{passed:.0f} of {length / tune.SECOND:g} s  {counted(traffic.packets, 'packet')}"
                f"  {traffic.packets / max(passed, 1e-9):.1f} packets/s  ",
                traffic.length / length,
            )
    except KeyboardInterrupt:
        pass
    return traffic


def from_batches(batches: Iterable[tuple[Sequence[int], int]], show: Show) -> tune.Traffic:
    """What a capture holds."""
    traffic = tune.Traffic()
    for times, now in batches:
        for moment in times:
            traffic.add(moment)
        traffic.reach(now)
        length = span(traffic.length / tune.SECOND)
        show(f"{counted(traffic.packets, 'packet')} in {length}", None)
    return traffic


class Report:
    """All that is to be said about one interface's traffic."""

    def __init__(
        self,
        interface: str,
        traffic: tune.Traffic,
        times: tuple[float, float],
        settings: conf.Conf,
        aim: tune.Aim,
    ) -> None:
        """`times` are when it began and ended, in seconds since 1970."""
        self.interface, self.traffic = interface, traffic
        self.began, self.ended = times
        self.conf, self.aim = settings, aim
        self.witnesses = [w.address for w in settings.witness if w.interface == interface]
        present = tune.Settings(
            settings.packet_count, round(settings.timer_seconds * tune.SECOND), settings.low_water
        )
        self.present = tune.judged("now", present, traffic, aim)
        self.proposed = tune.proposals(traffic, aim, bool(self.witnesses))

        # What to take: what is asked for if that will do, else the least that is calm enough.
        asked, calm = (
            next((entry for entry in self.proposed if entry.name == name), None)
            for name in ("as asked", "calm enough")
        )
        will_do = asked is None or calm is None or bool(self.witnesses) or asked.meets(aim)
        self.best = asked if will_do else calm
        if self.best is None:
            self.status = CANNOT_TELL
        elif self.best.meets(aim):
            self.status = AIM_MET
        else:
            self.status = CANNOT_TELL if self.witnesses else AIM_NOT_MET

    def lines(self, verbose: bool) -> Iterator[str]:
        """The answer, and with verbose what it rests on."""
        yield from self._advice()
        yield from paragraphs(self._doubts())
        yield ""
        yield from self._sample()
        if not verbose:
            yield "-v shows the packets, what other settings would do, and how sure this is."
            return
        yield ""
        yield from self._picture()
        yield ""
        yield from self._table()
        yield from paragraphs(self._certainty())

    def _sample(self) -> Iterator[str]:
        length = self.traffic.length / tune.SECOND
        rate = f", {self.traffic.packets / length:.3g} a second" if length else ""
        yield f"{self.interface}: {counted(self.traffic.packets, 'packet')} in {span(length)}{rate}"
        first, last = datetime.fromtimestamp(self.began), datetime.fromtimestamp(self.ended)
        yield f"from {first:%Y-%m-%d %H:%M:%S} to {last:%Y-%m-%d %H:%M:%S}"
        if self.traffic.packets:
            gap = self.traffic.longest_wait() / tune.SECOND
            yield f"the longest time without a packet was {span(gap)}"

    def _picture(self) -> Iterator[str]:
        drawn = self.best or self.present
        timer, low_water = drawn.settings.timer, drawn.settings.low_water
        slices = tune.slices(self.traffic, timer)
        if not slices:
            yield f"not one window of {seconds(timer)} s has passed"
            return
        yield (
            f"packets in {seconds(timer)} s (log scale): # least, - most of each slice"
            f"{f', ! below {low_water}' if low_water else ''}"
        )
        scale = max(most for _, _, most in slices)
        width = len(f"{scale}")
        for begin, least, most in slices:
            bar = tune.bar(least, most, scale, low_water)
            yield f"{self._when(begin)}  {least:{width}} to {most:{width}} {bar}".rstrip()

    def _table(self) -> Iterator[str]:
        days = f"per {span(self.aim.time / tune.SECOND)}"
        rows = [("", *NAMES, "found in", "alarms here", days)]
        for entry in (self.present, *self.proposed):
            found_in, alarms = found(entry.found_within), f"{entry.outcome.alarms}"
            rows.append(
                (entry.name, *texts(entry.settings), found_in, alarms, rough(entry.expected))
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for name, *cells in rows:
            right = (f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
            yield " ".join([f"{name:{widths[0]}}", *right])
        if self.proposed:
            yield "as asked: the longest timer that finds a dead card in time"
        if len(self.proposed) > 1:
            yield f"calm enough: the shortest timer with at most one alarm {days}, by estimate"

    def _advice(self) -> Iterator[str]:
        aim = (
            f"found within {span(self.aim.within / tune.SECOND)}, at most one false alarm in "
            f"{span(self.aim.time / tune.SECOND)}"
        )
        best = self.best
        if best is None:
            yield f"The aim: {aim}."
            none = "Nothing that counts came in, so every setting but low_water 0 fails."
            few = "Too little came in to propose anything: watch for longer (--seconds), or read a "
            few += "capture of a day."
            yield from textwrap.wrap(few if self.traffic.packets else none, COLUMNS)
            return
        heads = {
            AIM_MET: f"For the aim ({aim}):",
            AIM_NOT_MET: f"No setting meets the aim ({aim}). The nearest:",
            CANNOT_TELL: f"Whether the aim is met ({aim}) depends on the witness. In time is:",
        }
        yield from textwrap.wrap(heads[self.status], COLUMNS)
        for name, value in zip(NAMES, texts(best.settings), strict=True):
            yield f"    ${name} = {value};"
        yield from textwrap.wrap(self._promise(best), COLUMNS)

    def _promise(self, best: tune.Judged) -> str:
        answers = ", without the answers of the witness" if self.witnesses else ""
        text = (
            f"A dead interface is found within {found(best.found_within)}, with "
            f"{rough(best.expected)} false alarms in {span(self.aim.time / tune.SECOND)} by "
            f"estimate{answers}."
        )
        asked = conf.Conf(
            packet_count=best.settings.packet_count,
            timer_seconds=best.settings.timer / tune.SECOND,
            low_water=best.settings.low_water,
        )
        handover = promises.deaf(asked).worst
        if handover is None:
            return text
        return f"{text} The handover then begins at most {handover:.6g} s after the last packet."

    def _doubts(self) -> Iterator[str]:
        best = self.best
        if self.present.settings.low_water == 0:
            yield "With $low_water 0, as now, no dead card is ever found."
        if self.witnesses:
            yield (
                f"The witness {', '.join(self.witnesses)} is asked in every empty window. Its "
                "answers are not in the estimate: alarms come only when it fails to answer."
            )
        elif self.status == AIM_NOT_MET or not self.traffic.packets:
            yield (
                "Quiet traffic needs a @witness: a router, say, that is asked in every empty "
                "window. Then quiet is no alarm, and any timer that finds a death in time will do."
            )
        if best is None:
            return
        if self.traffic.is_irregular:
            yield (
                "The longest silence here stands out from the others: the estimate can be wrong "
                "many times over. Measure for longer, or name a @witness."
            )
        if self.traffic.length < tune.DAY:
            yield (
                "The sample is shorter than a day: nights, backups and weekends are missing. So "
                "$low_water is 1, the least that finds a dead card, whatever came in."
            )

    def _certainty(self) -> Iterator[str]:
        best = self.best
        if best is None or best.outcome.alarms:
            return
        length, days = self.traffic.length / tune.SECOND, self.aim.time / tune.SECOND
        yield (
            f"How sure is this? {span(length)} without an alarm prove, with 95 % certainty, that "
            f"there is not more than one in {span(length / tune.RULE_OF_THREE)} (rule of three); "
            f"to prove one in {span(days)} takes {span(tune.RULE_OF_THREE * days)}."
        )
        if not best.settings.low_water or best.expected is None:
            return
        wait = self.traffic.longest_wait(best.settings.low_water) / tune.SECOND
        what = counted(best.settings.low_water, "packet")
        yield (
            f"The last column is an estimate. The longest wait for {what} was {span(wait)}. By the "
            f"rule of three, of {length / wait:,.0f} pieces of time of that length fewer than 3 "
            "pass without, and a window fails only if all of it does: "
            f"{best.settings.timer / tune.SECOND / wait:.3g} of them in a row. That holds if "
            "traffic goes on like this, and one silence does not bring on another."
        )

    def _when(self, moment: float) -> str:
        """The time of day; since the begin if the clock was set meanwhile."""
        length, passed = self.traffic.length / tune.SECOND, moment / tune.SECOND
        if abs(self.ended - self.began - length) > 1:
            return f"+{timedelta(seconds=int(passed))}"
        form = "%H:%M:%S" if self.traffic.length < tune.DAY else "%a %H:%M"
        return datetime.fromtimestamp(self.began + passed).strftime(form)

    def json(self) -> str:
        """The same as one JSON object, with times in seconds."""
        tree = {
            "interface": self.interface,
            "seconds": self.traffic.length / tune.SECOND,
            "packets": self.traffic.packets,
            "aim": {
                "within": self.aim.within / tune.SECOND,
                "days": self.aim.days,
                "met": None if self.status == CANNOT_TELL else self.status == AIM_MET,
            },
            "witness": self.witnesses,
            "best": self.best and self.best.name,
            "settings": {entry.name: tree_of(entry) for entry in (self.present, *self.proposed)},
        }
        return json.dumps(tree)


def tree_of(entry: tune.Judged) -> dict[str, object]:
    within = entry.found_within
    return {
        "packet_count": entry.settings.packet_count,
        "timer_seconds": entry.settings.timer / tune.SECOND,
        "low_water": entry.settings.low_water,
        "found_within": None if within is None else within / tune.SECOND,
        "alarms": entry.outcome.alarms,
        "windows": entry.outcome.windows,
        "first_alarm": entry.outcome.first,
        "expected_alarms": entry.expected,
    }


def paragraphs(sentences: Iterable[str]) -> Iterator[str]:
    for sentence in sentences:
        yield ""
        yield from textwrap.wrap(sentence, COLUMNS)


def texts(settings: tune.Settings) -> tuple[str, str, str]:
    return f"{settings.packet_count}", seconds(settings.timer), f"{settings.low_water}"


def seconds(nanoseconds: float) -> str:
    return f"{nanoseconds / tune.SECOND:.6g}"


def found(within: float | None) -> str:
    return "never" if within is None else span(within / tune.SECOND)


def rough(number: float | None) -> str:
    """An estimate does not have many digits."""
    if number is None:
        return "?"
    if number == 0:
        return "0"
    return "< 0.01" if number < 0.01 else f"{float(f'{number:.2g}'):,.6g}"
