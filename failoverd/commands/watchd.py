"""watchd: watches one interface, or a capture of one, and says what failoverd would make of it.

By hand it only tells; it never fails anything over.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from types import ModuleType
from typing import TYPE_CHECKING, TextIO

from failoverd import __version__, capture, conf, files, filters, links, process, watch, watchd
from failoverd.capture import NANOSECONDS, Capture, Clock, Truncated, link_name
from failoverd.commands import _remarks
from failoverd.commands._words import Stop, counted, exact_span
from failoverd.counter import (
    BadFilter,
    Counter,
    can_be_filtered,
    counts_in_capture,
    knows_direction,
    what_counts,
)
from failoverd.instruments import instruments
from failoverd.process import Message
from failoverd.protocol import heartbeat_tags

if TYPE_CHECKING:
    from failoverd.commands import _terminal
    from failoverd.tune import Traffic

CONF = "/etc/failover/failoverd.conf"
WOULD_FAIL_OVER = 1
CANNOT_WATCH = 1
CANNOT_READ = NOTHING_JUDGED = 3  # 1 and 2 have their meaning with -r and --tune
WITHIN_SECONDS = 10.0
DAYS = 30.0
TUNE_SECONDS = 300.0
NOBODYS = "00:00:00:00:00:00"  # hardware address
SHORTEST_AIM = 0.2  # seconds: two of the shortest windows that --tune proposes

Print = Callable[[Message], None]
Measured = tuple["Traffic", tuple[float, float]]


def main(argv: list[str] | None = None) -> int:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # end quietly with `| head`
    options = arguments(argv)
    failed = CANNOT_READ if options.capture or options.tune else CANNOT_WATCH
    process.open_streams()
    try:
        settings = read_conf(options.conf)
        if options.tune:
            return tune(options, settings)
        return replay(options, settings) if options.capture else live(options, settings)
    except (Stop, capture.Unreadable) as stop:
        complain(str(stop))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except OSError as error:
        process.discard_output()
        complain(f"cannot go on: {process.in_words(error)}")
    return failed


# The command line


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="watchd",
        usage="watchd [-c CONF] [-v] [--json] IFACE\n"
        "       watchd -r FILE [--until S] [--mac ADDRESS] [--json] IFACE\n"
        "       watchd --tune [-r FILE | --seconds N] [--within T] [--days N] [-v] IFACE",
        description="Watches an interface, or a capture of one. It only tells, by hand.",
        epilog="Exit status with -r: 0 would not have failed over, 1 would have, 3 cannot read, or "
        "nothing was judged. With --tune: 0 the aim can be met, 1 it cannot, 3 cannot tell.",
    )
    add = parser.add_argument
    add("interface", metavar="IFACE", help=argparse.SUPPRESS)  # the usage says it
    add("-c", dest="conf", metavar="CONF", help=f"the configuration (else {CONF})")
    add(
        "-v",
        dest="verbose",
        action="store_true",
        help="say more at start; with --tune: what it rests on",
    )
    add("--json", action="store_true", help="one JSON object an event; with --tune one in all")
    add("-r", dest="capture", metavar="FILE", help="read a capture file (- is standard input)")
    add("--until", type=seconds, metavar="S", help="judge until so long after the first packet")
    add("--mac", type=hardware_address, metavar="ADDRESS",
        help="the interface's own address, whose packets are left out")  # fmt: skip
    add("--tune", action="store_true", help="measure the traffic, and propose what to set")
    add("--seconds", type=seconds, metavar="N", help=f"measure for so long ({TUNE_SECONDS:g})")
    add("--within", type=seconds, metavar="T",
        help=f"aim: a dead card is found within T seconds ({WITHIN_SECONDS:g})")  # fmt: skip
    add("--days", type=seconds, metavar="N",
        help=f"aim: at most one false alarm in N days ({DAYS:g})")  # fmt: skip
    add("--version", action="version", version=f"watchd {__version__}")
    options = parser.parse_args(argv)
    if problem := disagreement(options):
        parser.error(problem)
    return options


def disagreement(options: argparse.Namespace) -> str:
    """What is wrong with the options together, "" if nothing is."""
    read, tune = options.capture is not None, options.tune
    aims = (options.seconds, options.within, options.days)
    wrong = {
        "--mac goes with -r FILE": options.mac is not None and not read,
        "--until goes with -r FILE, and not with --tune": options.until is not None
        and (not read or tune),
        "--seconds, --within and --days go with --tune": not tune and aims != (None, None, None),
        "--seconds goes without -r FILE, which is read to its end": read
        and options.seconds is not None,
        f"--within: {SHORTEST_AIM:g} s is the least": options.within is not None
        and options.within < SHORTEST_AIM,
        "--seconds and --days must be more than 0": 0 in (options.seconds, options.days),
    }
    return next((problem for problem, holds in wrong.items() if holds), "")


def seconds(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or value < 0:
        raise ValueError
    return value


def hardware_address(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not like 02:00:00:00:00:10")
    return text.lower()


def terminal_for(stream: TextIO) -> ModuleType | None:
    """What shows things that move, if the stream is a terminal that can, and rich is there."""
    if not stream.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return None
    try:
        from failoverd.commands import _terminal
    except ImportError:
        return None
    return _terminal


def complain(message: str) -> None:
    print(f"watchd: {message}", file=sys.stderr)


def read_conf(path: str | None) -> conf.Conf:
    """The configuration; the defaults if none is named and the usual one is not there."""
    file = path or CONF
    try:
        with open(file, encoding="utf-8", errors="surrogateescape") as stream:
            settings = conf.parse(stream.read(), file, pair=False)
    except FileNotFoundError:
        if path is not None:
            raise Stop(f"{file}: there is no such file") from None
        complain(f"there is no {CONF}: using the defaults")
        return conf.Conf()
    except OSError as error:
        raise Stop(f"{file}: {error.strerror}") from None
    except conf.ConfError as error:
        raise Stop("\n".join(str(problem) for problem in error.problems)) from None
    check_filters(settings, file)
    return settings


def check_filters(settings: conf.Conf, file: str) -> None:
    for name, expression in (("$filter", settings.filter), ("$plip_filter", settings.plip_filter)):
        if not expression:
            continue
        if problem := filters.check_filter(expression):
            raise Stop(f"{file}: {name} is not a pcap expression: {problem}")


def counted_here(settings: conf.Conf, interface: str) -> str:
    """The pcap expression for what counts, with the heartbeats' tag where it is needed.

    Raises Stop if that cannot be known: whatever else was counted would tell something else than
    failoverd sees.
    """
    if interface != settings.plip_interface or settings.plip_filter:
        return what_counts(settings, interface)
    process.keep_secret()
    try:
        secret = files.read_secret(settings.secret)
    except conf.ConfError as error:
        way = "set $plip_filter" if os.geteuid() == 0 else "run it as root, or set $plip_filter"
        raise Stop(
            f"{interface} is the private link, where only heartbeats with the pair's tag count; "
            f"the tag comes from the secret, which cannot be had: {way}\n{error}"
        ) from None
    tags = heartbeat_tags(secret, settings.primary, settings.secondary).peers
    return what_counts(settings, interface, tags)


# A live interface


def live(options: argparse.Namespace, settings: conf.Conf) -> int:
    """Watch until Ctrl-C."""
    interface = options.interface
    must_exist(interface)
    viewer = Viewer(interface, options.json)
    early = _remarks.Early(settings, interface)
    watcher = opened(settings, interface, viewer.say)
    try:
        for remark in _remarks.at_start(settings, interface):
            complain(remark)
        if options.verbose:
            explain(settings, interface)
        if not options.json:
            print(headline(settings, interface), flush=True)
        viewer.begin()
        watchd.run_by_hand(watcher, lambda now: viewer.look(watcher, early, now), viewer.every)
    except KeyboardInterrupt:
        viewer.summary(watcher)
        return 0
    finally:
        viewer.close()
        watcher.close()


def must_exist(interface: str) -> None:
    if interface not in links.names():
        raise Stop(f"there is no interface {interface}; there are {', '.join(links.names())}")


def opened(settings: conf.Conf, interface: str, say: Print) -> watchd.Watcher:
    try:
        expression = counted_here(settings, interface)
        programs = prepared(settings, interface, expression)
        tools = instruments(settings, interface, expression, programs)
        watcher = watchd.Watcher(settings, interface, tools, say)
        watcher.open()
    except (OSError, ValueError) as error:
        raise cannot_count(interface, error) from None
    return watcher


def prepared(settings: conf.Conf, interface: str, expression: str) -> tuple[filters.Program, ...]:
    """The program to count with, which the kernel takes. Raises OSError."""
    name = "plip_filter" if interface == settings.plip_interface else "filter"
    own = getattr(settings, name)
    try:
        return filters.prepare(expression, own, [interface], "watchd: filter")
    except BadFilter as error:
        what = f"{settings.origin.file}: ${name}" if own else f"{interface}: what counts"
        raise Stop(f"{what} cannot be used: {error}") from None


def cannot_count(interface: str, error: Exception) -> Stop:
    if isinstance(error, PermissionError):
        return Stop(f"{interface}: not permitted to count packets; run it as root")
    return Stop(str(error))


def headline(settings: conf.Conf, interface: str) -> str:
    rules = watchd.rules_for(settings, interface)
    kind = "private link" if rules.private else f"low_water {rules.low_water}"
    return (
        f"watching {interface}: alarm after {rules.timer:g} s, {rules.packet_count} packets set it "
        f"anew, {kind}"
    )


def explain(settings: conf.Conf, interface: str) -> None:
    shown = what_counts(settings, interface)
    if interface == settings.plip_interface and not settings.plip_filter:
        shown = shown.replace("0x00000000", "(the tag)")
    complain(f"what counts: inbound and ({shown})")
    for witness in settings.witness:
        if witness.interface == interface:
            complain(f"witness in the middle of an empty window: {witness.address}")


@dataclass
class Tally:
    """What came out so far."""

    windows: int = 0
    judged: int = 0  # of them: those that could have failed
    fails: int = 0
    first_fail: Message | None = None

    def add(self, line: Message) -> None:
        windows = int(str(line.get("windows", 1)))
        self.windows += windows
        self.judged += windows if line["verdict"] != "boot" else 0
        if line["verdict"] == "fail":
            self.fails += windows
            self.first_fail = self.first_fail or line


class Viewer:
    """What a person, or a program, is shown of a live watcher: JSON, plain lines, or a screen."""

    def __init__(self, interface: str, as_json: bool) -> None:
        self._interface, self._as_json = interface, as_json
        self._print = print_json if as_json else print_plain
        self._screen: _terminal.Screen | None = None
        self._tally = Tally()
        self._told = f"the interface is {watchd.link_state(interface)}"  # by _remarks.at_start

    @property
    def every(self) -> float | None:
        return None if self._screen is None else self._screen.every

    def begin(self) -> None:
        """From here on with a live line, if there is a terminal for it."""
        terminal = None if self._as_json else terminal_for(sys.stdout)
        if terminal is not None:
            self._screen = terminal.Screen(self._interface)
            self._print = self._screen.say

    def say(self, message: Message) -> None:
        if message["event"] != "log":
            self._tally.add(message)
            self._print(message)
            return
        told, self._told = self._told, ""
        if message["message"] != told:
            self._complain(f"{message['interface']}: {message['message']}")

    def _complain(self, sentence: str) -> None:
        (self._screen.complain if self._screen else complain)(sentence)

    def look(self, watcher: watchd.Watcher, early: _remarks.Early, now: float) -> None:
        for remark in early.look(watcher.total, now - (watcher.began or now)):
            self._complain(remark)
        if self._screen:
            self._screen.refresh(watcher, now)

    def summary(self, watcher: watchd.Watcher) -> None:
        self.close()
        passed = time.monotonic() - (watcher.began or 0.0)
        text = (
            f"{self._interface}: {passed:.1f} s, {counted(watcher.total, 'packet')}, "
            f"{counted(self._tally.windows, 'window')}, {self._tally.fails} failed"
        )
        print(text, file=sys.stderr if self._as_json else sys.stdout, flush=True)

    def close(self) -> None:
        if self._screen:
            self._screen.close()


def print_json(line: Message) -> None:
    print(json.dumps(line), flush=True)


def print_plain(line: Message) -> None:
    began = ", boot" if line["boot"] else ""
    alike = f", {line['windows']:,} windows alike" if "windows" in line else ""
    print(
        f"{line['t']:12.6f}  {line['interface']}  {line['event']:5}  {line['verdict']:4}  "
        f"{counted(line['packets'], 'packet')}, {line['last']} before{began}: {line['reason']}"
        f"{alike}",
        flush=True,
    )


# A capture file


def replay(options: argparse.Namespace, settings: conf.Conf) -> int:
    """Judge a capture; the exit status says whether it would have failed over."""
    with capture.open_capture(options.capture, options.interface) as opened:
        return judge(options, settings, opened)


def judge(options: argparse.Namespace, settings: conf.Conf, opened: Capture) -> int:
    rules = watchd.rules_for(settings, options.interface, NANOSECONDS)
    for remark in [] if rules.private else conf.remarks(settings):
        complain(remark)
    until = None if options.until is None else round(options.until * NANOSECONDS)
    show = print_json if options.json else print_plain
    batches = opened.batches(filter_for(options, settings, opened))
    tally = Tally()
    for event in watch.replay(rules, batches, until):
        line: Message = dict(event.line(options.interface, 0, NANOSECONDS))
        show(line)
        tally.add(line)
    sys.stdout.flush()
    never_fails = rules.low_water == 0 and not rules.private
    if opened.problem is not None and opened.clock.first is None:
        raise opened.problem
    for remark in of_its_clock(opened.clock):
        complain(remark)
    print(conclusion(tally, opened, never_fails), file=sys.stderr if options.json else sys.stdout)
    if opened.problem is not None:
        complain(f"{opened.problem}; what comes before counts")
        if not isinstance(opened.problem, Truncated):
            return CANNOT_READ
    if tally.first_fail:
        return WOULD_FAIL_OVER
    return 0 if tally.judged else NOTHING_JUDGED


def filter_for(
    options: argparse.Namespace, settings: conf.Conf, opened: Capture
) -> Callable[[bytes], int]:
    """What counts in this capture. Says so if our own packets cannot be told."""
    expression, linktype = counted_here(settings, options.interface), opened.linktype
    own = options.mac or own_address(settings, options.interface)
    try:
        accept = counts_in_capture(expression, linktype, own)
    except BadFilter as error:
        raise misfit(options, settings, linktype, error) from None
    if not knows_direction(linktype, own):
        complain(all_count(linktype))
    if len(opened.interfaces) > 1 and options.interface not in opened.interfaces:
        names = ", ".join(name or "(no name)" for name in opened.interfaces)
        complain(f"{options.capture} holds {names}, and not {options.interface}: all are one here")
    return accept


def all_count(linktype: int) -> str:
    """That packets that the interface has sent itself cannot be told, and what could be done."""
    text = "which packets this interface has sent itself is not known: all count"
    if knows_direction(linktype, NOBODYS):
        return f"{text} (--mac ADDRESS names its hardware address)"
    return f"{text} (link type {link_name(linktype)} does not tell: capture with tcpdump -Q in)"


def misfit(
    options: argparse.Namespace, settings: conf.Conf, linktype: int, error: BadFilter
) -> Stop:
    """That what counts cannot be asked of packets of this link type, and the way out."""
    kind = f"packets of link type {link_name(linktype)}"
    if not can_be_filtered(linktype):
        return Stop(
            f"{options.capture}: these are {kind}, in which libpcap cannot tell what counts "
            f"({error}): capture on the interface itself, tcpdump -i {options.interface} -w FILE"
        )
    name = "plip_filter" if options.interface == settings.plip_interface else "filter"
    what = f"{settings.origin.file}: ${name}" if getattr(settings, name) else "what counts here"
    return Stop(
        f"{options.capture}: {what} does not fit {kind}: {error}; name another ${name} with -c CONF"
    )


def own_address(settings: conf.Conf, interface: str) -> str | None:
    """The hardware address that goes with the interface; that of the loopback says nothing."""
    for entry in settings.ethernet_addresses:
        if entry.interface == interface:
            return entry.hwaddr
    own = links.hwaddr(interface)
    return None if own == "00:00:00:00:00:00" else own


def of_its_clock(clock: Clock) -> Iterator[str]:
    """Remarks on times in the capture that are no times of one clock that goes on evenly."""
    if clock.pauses:
        begin, end = (time_of_day(moment) for moment in clock.longest)
        long = exact_span((clock.longest[1] - clock.longest[0]) / 1e9)
        times = f", the longest of {clock.pauses} such times" if clock.pauses > 1 else ""
        what = (
            "is left out"
            if clock.passes_over
            else "is judged as silence; if the clock was set or nobody recorded, cut the capture "
            "there (editcap -A, -B) and judge each part"
        )
        yield f"nothing was recorded from {begin} to {end} ({long}{times}): that {what}"
    if clock.set_back:
        after, step = (nanoseconds / 1e9 for nanoseconds in clock.first_set)
        more = f", and {counted(clock.set_back - 1, 'time')} more" if clock.set_back > 1 else ""
        yield (
            f"the clock was set back by {exact_span(step)}, {after:.3f} s after the first packet"
            f"{more}: time goes on from there"
        )


def time_of_day(nanoseconds: float) -> str:
    """Local time, from nanoseconds since 1970."""
    return datetime.fromtimestamp(nanoseconds / 1e9).isoformat(" ", "milliseconds")


def conclusion(tally: Tally, opened: Capture, never_fails: bool) -> str:
    """One sentence: would this configuration have failed over here, when and why?"""
    clock = opened.clock
    if clock.first is None:
        return "there is no packet in it: nothing was judged"
    if tally.first_fail is None:
        if not tally.judged:
            ended = "only the first window has ended in it, which never fails"
            none = "not one window has ended in it"
            return f"{ended if tally.windows else none}: nothing was judged (--until S judges on)"
        never = ": an ethernet interface never fails with $low_water 0" if never_fails else ""
        return f"would not have failed over ({counted(tally.windows, 'window')}){never}"
    after = float(str(tally.first_fail["t"]))
    is_known = not clock.set_back or after * 1e9 < clock.first_set[0]
    at = f", at {time_of_day(clock.first + after * 1e9)}" if is_known else ""
    return (
        f"would have failed over {after:.3f} s after the first packet{at}: "
        f"{tally.first_fail['reason']}"
    )


# --tune


def tune(options: argparse.Namespace, settings: conf.Conf) -> int:
    """Measure, and say what to set. The exit status says whether the aim can be met."""
    from failoverd import tune as rules
    from failoverd.commands import _tune

    if options.interface == settings.plip_interface:
        raise Stop(
            f"{options.interface} is the private link, whose windows follow from $plip_hbeat: "
            "failoverd -t says what they mean; --tune is for the ethernet side"
        )
    within = WITHIN_SECONDS if options.within is None else options.within
    aim = rules.Aim(round(within * rules.SECOND), DAYS if options.days is None else options.days)
    traffic, times = (tune_read if options.capture else tune_watch)(options, settings)
    report = _tune.Report(options.interface, traffic, times, settings, aim)
    for line in [report.json()] if options.json else report.lines(options.verbose):
        print(line)
    sys.stdout.flush()
    return report.status


def tune_watch(options: argparse.Namespace, settings: conf.Conf) -> Measured:
    """The traffic of a live interface, and when it began and ended."""
    from failoverd import tune as rules
    from failoverd.commands import _tune

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
        for remark in _remarks.at_start(settings, interface):
            complain(remark)
        if terminal is None:
            complain(f"watching {interface} for {length:g} s")
        began = time.time()
        with progress(terminal, f"watching {interface}", "(Ctrl-C: that is enough)") as show:
            traffic = _tune.from_interface(counter, round(length * rules.SECOND), show)
        if counter.is_deaf():
            complain(f"{interface} went away meanwhile: what was heard before it did counts")
    return traffic, (began, began + traffic.length / rules.SECOND)


def tune_read(options: argparse.Namespace, settings: conf.Conf) -> Measured:
    """The traffic of a capture, and when it began and ended."""
    from failoverd.commands import _tune

    with capture.open_capture(options.capture, options.interface) as opened:
        clock = opened.clock
        clock.passes_over = True
        batches = opened.batches(filter_for(options, settings, opened))
        with progress(terminal_for(sys.stderr), f"reading {options.capture}") as show:
            traffic = _tune.from_batches(batches, show)
    if opened.problem is not None and not isinstance(opened.problem, Truncated):
        raise opened.problem
    if clock.first is None:
        raise Stop(f"{options.capture}: there is no packet in it: nothing to measure")
    for remark in of_its_clock(clock):
        complain(remark)
    if opened.problem is not None:
        complain(f"{opened.problem}; what comes before counts")
    return traffic, (clock.first / NANOSECONDS, (clock.zero + clock.now) / NANOSECONDS)


@contextmanager
def progress(
    terminal: ModuleType | None, what: str, hint: str = ""
) -> Iterator[Callable[[str, float | None], object]]:
    """Where to show how far it has come: nowhere without a terminal."""
    if terminal is None:
        yield lambda _, __: None
        return
    with closing(terminal.Progress(what, hint)) as shows:
        yield shows.show


if __name__ == "__main__":
    sys.exit(main())
