"""watchd: watches one interface, or a capture of one, and says what failoverd would make of it.

By hand it only tells; it never fails anything over. What failoverd forks is put together here too.
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
from dataclasses import dataclass
from typing import TYPE_CHECKING

from failoverd import __version__, conf, links, watch, watchd
from failoverd.process import Message

if TYPE_CHECKING:
    from failoverd.capture import Capture

CONF = "/etc/failover/failoverd.conf"
WOULD_FAIL_OVER = 1
CANNOT_WATCH = 1
CANNOT_READ = 3  # 1 and 2 have their meaning with -r
REFRESH_SECONDS = 0.25

Print = Callable[[Message], None]


class Stop(Exception):
    """Ends the command with one sentence on stderr."""


def main(argv: list[str] | None = None) -> int:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # end quietly with `| head`
    options = arguments(argv)
    try:
        settings = read_conf(options.conf)
        return replay(options, settings) if options.capture else live(options, settings)
    except Stop as stop:
        complain(str(stop))
        return CANNOT_READ if options.capture else CANNOT_WATCH
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def instruments(settings: conf.Conf, interface: str) -> watchd.Instruments:
    """What a watcher of this interface counts with. Opens $dumpfile: raises OSError."""
    from failoverd.counter import Counter, Tap, what_counts

    expression = what_counts(settings, interface)
    counter = Counter(interface, expression)
    if settings.dumpfile == os.devnull:
        return watchd.Instruments(counter)
    from failoverd.capture import DumpFile
    from failoverd.counter import HEADER_BYTES

    path = f"{settings.dumpfile}.{interface}"
    try:
        dump = DumpFile(path, HEADER_BYTES)
    except OSError as error:
        raise OSError(f"$dumpfile: {error.filename}: {error.strerror}") from error
    return watchd.Instruments(counter, Tap(interface, expression), dump)


# The command line


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="watchd",
        description="Watches one network interface and says what failoverd would make of it. "
        "It only tells: by hand it never fails anything over.",
        epilog="Exit status with -r: 0 would not have failed over, 1 would have, 3 cannot read.",
    )
    parser.add_argument("interface", metavar="IFACE", help="the interface, eth0 say")
    parser.add_argument("-c", dest="conf", metavar="CONF", help=f"the configuration (else {CONF})")
    parser.add_argument("--json", action="store_true", help="print one JSON object an event")
    parser.add_argument(
        "-r", dest="capture", metavar="FILE", help="judge a capture file (- is standard input)"
    )
    parser.add_argument(
        "--until",
        type=seconds,
        metavar="SECONDS",
        help="with -r: judge until so long after the first packet, not until the last one",
    )
    parser.add_argument(
        "--mac",
        type=hardware_address,
        metavar="ADDRESS",
        help="with -r: the interface's own address, whose packets are left out",
    )
    parser.add_argument("-v", dest="verbose", action="store_true", help="say more at start")
    parser.add_argument("--version", action="version", version=f"watchd {__version__}")
    options = parser.parse_args(argv)
    if options.capture is None and (options.until is not None or options.mac is not None):
        parser.error("--until and --mac go with -r FILE")
    return options


def seconds(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or value < 0:
        raise ValueError
    return value


def hardware_address(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not like 02:00:00:00:00:10")
    return text.lower()


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
        from failoverd.counter import check_filter

        if problem := check_filter(expression):
            raise Stop(f"{file}: {name} is not a pcap expression: {problem}")


# A live interface


def live(options: argparse.Namespace, settings: conf.Conf) -> int:
    """Watch until Ctrl-C."""
    interface = options.interface
    if interface not in links.names():
        raise Stop(f"there is no interface {interface}; there are {', '.join(links.names())}")
    for remark in oddities(settings, interface):
        complain(remark)
    if options.verbose:
        explain(settings, interface)
    show = Screen(interface, options.json)
    watcher = opened(settings, interface, show.say)
    try:
        if not options.json:
            print(headline(settings, interface), flush=True)
        every = REFRESH_SECONDS if show.is_live else None
        watchd.run_by_hand(watcher, lambda now: show.refresh(watcher, now), every)
    except KeyboardInterrupt:
        show.summary(watcher)
        return 0
    finally:
        watcher.close()


def opened(settings: conf.Conf, interface: str, say: Print) -> watchd.Watcher:
    try:
        watcher = watchd.Watcher(settings, interface, instruments(settings, interface), say)
        watcher.open()
    except PermissionError:
        raise Stop(f"{interface}: not permitted to count packets; run it as root") from None
    except (OSError, ValueError) as error:
        raise Stop(str(error)) from None
    return watcher


def oddities(settings: conf.Conf, interface: str) -> Iterator[str]:
    """What a person should know before the first window has passed."""
    state = watchd.link_state(interface)
    if state != "up":
        yield f"{interface} is {state}: nothing comes in"
    if not links.addresses(interface):
        yield f"{interface} has no address"
    yield from conf.remarks(settings)


def headline(settings: conf.Conf, interface: str) -> str:
    rules = watchd.rules_for(settings, interface)
    kind = "private link" if rules.private else f"low_water {rules.low_water}"
    return (
        f"watching {interface}: alarm after {rules.timer:g} s, {rules.packet_count} packets set it "
        f"anew, {kind}"
    )


def explain(settings: conf.Conf, interface: str) -> None:
    from failoverd.counter import what_counts

    complain(f"what counts: inbound and ({what_counts(settings, interface)})")
    for witness in settings.witness:
        if witness.interface == interface:
            complain(f"witness in the middle of an empty window: {witness.address}")


@dataclass
class Tally:
    """What came out so far."""

    windows: int = 0
    fails: int = 0
    first_fail: Message | None = None

    def add(self, line: Message) -> None:
        self.windows += 1
        if line["verdict"] == "fail":
            self.fails += 1
            self.first_fail = self.first_fail or line


class Screen:
    """Where a live watcher's events go: JSON or plain lines, and a live line on a terminal."""

    def __init__(self, interface: str, as_json: bool) -> None:
        dumb = os.environ.get("TERM", "dumb") == "dumb"
        self.is_live = sys.stdout.isatty() and not as_json and not dumb
        self._print = print_json if as_json else print_plain
        self._interface = interface
        self._tally = Tally()
        self._since: tuple[float, int] | None = None
        self._rate = 0.0

    def say(self, message: Message) -> None:
        self._clear()
        if message["event"] == "log":
            complain(f"{message['interface']}: {message['message']}")
            return
        self._tally.add(message)
        self._print(message)

    def refresh(self, watcher: watchd.Watcher, now: float) -> None:
        if not self.is_live:
            return
        self._measure(watcher.total, now)
        window, rules = watcher.window, watcher.rules
        text = (
            f"{self._interface}  {window.packets} of {rules.packet_count} packets  "
            f"{max(0.0, window.deadline - now):.1f} s left  {self._rate:.1f} packets/s"
        )
        width = os.get_terminal_size(sys.stdout.fileno()).columns or 80  # 0: it does not know
        sys.stdout.write("\r" + text[: width - 1] + "\x1b[K")
        sys.stdout.flush()

    def _measure(self, total: int, now: float) -> None:
        """The rate of the last second or so."""
        if self._since is None:
            self._since = now, total
        elif now - self._since[0] >= 1:
            self._rate = (total - self._since[1]) / (now - self._since[0])
            self._since = now, total

    def _clear(self) -> None:
        if self.is_live:
            sys.stdout.write("\r\x1b[K")
            sys.stdout.flush()

    def summary(self, watcher: watchd.Watcher) -> None:
        self._clear()
        passed = time.monotonic() - (watcher.began or 0.0)
        text = (
            f"{self._interface}: {passed:.1f} s, {counted(watcher.total, 'packet')}, "
            f"{counted(self._tally.windows, 'window')}, {self._tally.fails} failed"
        )
        print(text, file=sys.stderr if self._print is print_json else sys.stdout, flush=True)


def print_json(line: Message) -> None:
    print(json.dumps(line), flush=True)


def print_plain(line: Message) -> None:
    began = ", boot" if line["boot"] else ""
    print(
        f"{line['t']:12.6f}  {line['interface']}  {line['event']:5}  {line['verdict']:4}  "
        f"{counted(line['packets'], 'packet')}, {line['last']} before{began}: {line['reason']}",
        flush=True,
    )


def counted(number: object, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


# A capture file


def replay(options: argparse.Namespace, settings: conf.Conf) -> int:
    """Judge a capture; the exit status says whether it would have failed over."""
    from failoverd.capture import Unreadable, open_capture

    try:
        with open_capture(options.capture) as capture:
            return judge(options, settings, capture)
    except Unreadable as error:
        raise Stop(str(error)) from None


def judge(options: argparse.Namespace, settings: conf.Conf, capture: Capture) -> int:
    from failoverd.capture import NANOSECONDS

    for remark in conf.remarks(settings):
        complain(remark)
    rules = watchd.rules_for(settings, options.interface, NANOSECONDS)
    until = None if options.until is None else round(options.until * NANOSECONDS)
    show = print_json if options.json else print_plain
    reading = Reading(capture, filter_for(options, settings, capture.linktype))
    tally = Tally()
    for event in watch.replay(rules, reading.batches(), until):
        line: Message = dict(event.line(options.interface, 0, NANOSECONDS))
        show(line)
        tally.add(line)
    sys.stdout.flush()
    print(conclusion(tally, capture), file=sys.stderr if options.json else sys.stdout)
    if reading.problem is not None:
        complain(f"{reading.problem}; what comes before counts")
        if not reading.is_truncated:
            return CANNOT_READ
    return WOULD_FAIL_OVER if tally.first_fail else 0


class Reading:
    """A capture's batches; an end that is no proper end is kept in `problem`, not raised."""

    def __init__(self, capture: Capture, accept: Callable[[bytes], object]) -> None:
        self._capture, self._accept = capture, accept
        self.problem: Exception | None = None
        self.is_truncated = False

    def batches(self) -> Iterator[tuple[list[int], int]]:
        from failoverd.capture import Truncated, Unreadable

        try:
            yield from self._capture.batches(self._accept)
        except Unreadable as error:
            self.problem, self.is_truncated = error, isinstance(error, Truncated)


def filter_for(
    options: argparse.Namespace, settings: conf.Conf, linktype: int
) -> Callable[[bytes], int]:
    """What counts in a capture of this link type. Says so if our own packets cannot be told."""
    from failoverd.counter import BadFilter, counts_in_capture, knows_direction, what_counts

    own = options.mac or own_address(settings, options.interface)
    if not knows_direction(linktype, own):
        complain(
            "which packets this interface has sent itself is not known: all count "
            "(--mac ADDRESS names its hardware address)"
        )
    try:
        return counts_in_capture(what_counts(settings, options.interface), linktype, own)
    except BadFilter as error:
        raise Stop(str(error)) from None


def own_address(settings: conf.Conf, interface: str) -> str | None:
    """The hardware address that goes with the interface; that of the loopback says nothing."""
    for entry in settings.ethernet_addresses:
        if entry.interface == interface:
            return entry.hwaddr
    own = links.hwaddr(interface)
    return None if own == "00:00:00:00:00:00" else own


def conclusion(tally: Tally, capture: Capture) -> str:
    """One sentence: would this configuration have failed over here, when and why?"""
    from datetime import datetime

    if capture.clock.first is None:
        return "there is no packet in it: nothing to judge"
    if tally.first_fail is None:
        return f"would not have failed over ({counted(tally.windows, 'window')})"
    after = float(str(tally.first_fail["t"]))
    when = datetime.fromtimestamp(capture.clock.first / 1e9 + after)
    return (
        f"would have failed over {after:.3f} s after the first packet, at "
        f"{when.isoformat(' ', 'milliseconds')}: {tally.first_fail['reason']}"
    )


if __name__ == "__main__":
    sys.exit(main())
