"""watchd: watches one interface, or a capture of one, and says what failoverd would make of it.

By hand it only tells; it never fails anything over.
"""

from __future__ import annotations

import argparse
import math
import re
import signal
import sys
import time
from typing import TYPE_CHECKING

from failoverd import __version__, conf, process
from failoverd.process import Message
from failoverd.tools import remarks
from failoverd.tools.capture import Unreadable
from failoverd.tools.replay import replay
from failoverd.tools.watching import (
    CANNOT_READ,
    CONF,
    DAYS,
    TUNE_SECONDS,
    WITHIN_SECONDS,
    Print,
    Tally,
    cannot_count,
    complain,
    counted_here,
    must_exist,
    prepared,
    print_json,
    print_plain,
    read_conf,
    terminal_for,
)
from failoverd.tools.words import Stop, counted
from failoverd.watch.counter import what_counts
from failoverd.watch.instruments import instruments
from failoverd.watch.watcher import Watcher, link_state, rules_for, run_by_hand

if TYPE_CHECKING:
    from failoverd.tools import screen

CANNOT_WATCH = 1
SHORTEST_AIM = 0.2  # seconds: two of the shortest windows that --tune proposes


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    failed = CANNOT_READ if options.capture or options.tune else CANNOT_WATCH
    process.open_streams()
    try:
        settings = read_conf(options.conf)
        if options.tune:
            from failoverd.tools import tuning

            return tuning.run(options, settings)
        status = replay(options, settings) if options.capture else live(options, settings)
        sys.stdout.flush()
        return status
    except (Stop, Unreadable) as stop:
        complain(str(stop))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # not by SIGPIPE's default, which is the whole process's, and lasts
        process.discard_output()
        return 128 + signal.SIGPIPE
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


# A live interface


def live(options: argparse.Namespace, settings: conf.Conf) -> int:
    """Watch until Ctrl-C."""
    interface = options.interface
    must_exist(interface)
    viewer = Viewer(interface, options.json)
    early = remarks.Early(settings, interface)
    watcher = opened(settings, interface, viewer.say)
    try:
        for remark in remarks.at_start(settings, interface):
            complain(remark)
        if options.verbose:
            explain(settings, interface)
        if not options.json:
            print(headline(settings, interface), flush=True)
        viewer.begin()
        run_by_hand(watcher, lambda now: viewer.look(watcher, early, now), viewer.every)
    except KeyboardInterrupt:
        viewer.summary(watcher)
        return 0
    finally:
        viewer.close()
        watcher.close()


def opened(settings: conf.Conf, interface: str, say: Print) -> Watcher:
    try:
        expression = counted_here(settings, interface)
        programs = prepared(settings, interface, expression)
        tools = instruments(settings, interface, expression, programs)
        watcher = Watcher(settings, interface, tools, say)
        watcher.open()
    except (OSError, ValueError) as error:
        raise cannot_count(interface, error) from None
    return watcher


def headline(settings: conf.Conf, interface: str) -> str:
    rules = rules_for(settings, interface)
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


class Viewer:
    """What a person, or a program, is shown of a live watcher: JSON, plain lines, or a screen."""

    def __init__(self, interface: str, as_json: bool) -> None:
        self._interface, self._as_json = interface, as_json
        self._print = print_json if as_json else print_plain
        self._screen: screen.Screen | None = None
        self._tally = Tally()
        self._told = f"the interface is {link_state(interface)}"  # by _remarks.at_start

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

    def look(self, watcher: Watcher, early: remarks.Early, now: float) -> None:
        for remark in early.look(watcher.total, now - (watcher.began or now)):
            self._complain(remark)
        if self._screen:
            self._screen.refresh(watcher, now)

    def summary(self, watcher: Watcher) -> None:
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


if __name__ == "__main__":
    sys.exit(main())
