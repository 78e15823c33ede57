"""watchd: watches one interface, or a capture of one, and says what failoverd would make of it.

By hand it only tells; it never fails anything over.
"""

from __future__ import annotations

import argparse
import math
import re
import select
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from failoverd import conf
from failoverd.log import tail
from failoverd.process import Message
from failoverd.tools import watching
from failoverd.tools.arguments import Parser, file_path, guarded
from failoverd.tools.replay import replay
from failoverd.tools.terminal import terminal_for
from failoverd.tools.words import Stop, counted
from failoverd.watch.counter import what_counts
from failoverd.watch.filters import check_filter
from failoverd.watch.watcher import Watcher, instruments, link_state, rules_for

if TYPE_CHECKING:
    from failoverd.tools import screen

CANNOT_WATCH = 1
OVERRIDES = {  # by variable: the option that stands for it
    "timer_seconds": ("--timer", "S", "the window in seconds"),
    "low_water": ("--low-water", "N", "fewer packets in a window are a failure"),
    "packet_count": ("--packet-count", "N", "packets after which the window restarts"),
    "filter": ("--filter", "EXPR", "a pcap expression for what counts"),
    "user": ("--user", "NAME", "the user of the process that counts"),
}
LISTS = {"addresses": "--addresses", "witness": "--probe-target"}  # by variable, as above
SHORTEST_AIM = 0.2  # seconds: two of the shortest windows that --tune proposes


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    failed = watching.CANNOT_READ if options.capture or options.tune else CANNOT_WATCH
    return guarded("watchd", lambda: run(options), failed, "go on")


def run(options: argparse.Namespace) -> int:
    """The exit status. Raises Stop and OSError."""
    is_sensor = bool(options.track or options.program)
    settings = overridden(watching.read_conf(options.config, quiet=is_sensor), options)
    if is_sensor:
        from failoverd.tools import sensor

        return sensor.run(options, settings)
    if options.tune:
        from failoverd.tools import tune

        return tune.run(options, settings)
    return replay(options, settings) if options.capture else live(options, settings)


# The command line


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="watchd",
        usage="watchd [-c CONF] [-v] [--json] IFACE\n"
        "       watchd -r FILE [--until S] [--mac ADDRESS] [--json] IFACE\n"
        "       watchd --tune [-r FILE | --seconds N] [--within T] [--days N] [-v] IFACE\n"
        "       watchd [-c CONF] [--track FILE [--ok N] [--bad N]] [--exec PROGRAM]\n"
        "              [--user NAME] [--realtime] IFACE\n"
        "       all: [--timer S] [--low-water N] [--packet-count N] [--filter EXPR]\n"
        "            [--addresses A,...] [--probe-target A,...]",
        description="Watch an interface or a capture, and report what failoverd would see; nothing "
        "is failed over.",
        epilog="Exit status: 0 ended by Ctrl-C or, as a sensor, by a signal, 1 cannot watch, 2 "
        "usage. With -r: 0 would not have failed over, 1 would have, 3 cannot read, or nothing was "
        "judged. With --tune: 0 the aim can be met, 1 it cannot, 3 cannot tell.",
    )
    add = parser.add_argument
    add("interface", metavar="IFACE", help=argparse.SUPPRESS)  # the usage says it
    parser.set_defaults(config=None)  # the usual one, if it is there
    add("-v", dest="verbose", action="store_true",
        help="print more at start; with --tune: what it is based on")  # fmt: skip
    add("--json", action="store_true", help="one JSON object per event; with --tune a single one")
    add("-r", dest="capture", type=file_path, metavar="FILE",
        help="read a capture file (- is standard input)")  # fmt: skip
    add("--until", type=seconds, metavar="S", help="go on until S seconds after the first packet")
    add("--mac", type=hardware_address, metavar="ADDRESS",
        help="the interface's own address; its packets are excluded")  # fmt: skip
    add("--tune", action="store_true", help="measure the traffic, and propose settings")
    add("--seconds", type=seconds, metavar="N", default=300.0,
        help="measure for N seconds (%(default)g)")  # fmt: skip
    add("--within", type=seconds, metavar="T", default=10.0,
        help="aim: a dead interface is found within T seconds (%(default)g)")  # fmt: skip
    add("--days", type=seconds, metavar="N", default=30.0,
        help="aim: at most one false alarm in N days (%(default)g)")  # fmt: skip
    add_sensor(parser)
    add_settings(parser)
    options = parser.parse(argv)
    given = {name for name, value in vars(options).items() if value != parser.get_default(name)}
    if problem := disagreement(options, given):
        parser.error(problem)
    for name, option in LISTS.items():
        try:
            setattr(options, name, listed(name, getattr(options, name), options.interface))
        except ValueError as error:
            parser.error(f"{option}: {error}")
    return options


def add_sensor(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("a sensor for other cluster software").add_argument
    add("--track", type=file_path, metavar="FILE",
        help="keep a number in this file (keepalived's track_file)")  # fmt: skip
    add("--ok", type=int, metavar="N", default=0,
        help="the number while the interface receives (%(default)s)")  # fmt: skip
    add("--bad", type=int, metavar="N", default=1,
        help="the number while it does not (%(default)s)")  # fmt: skip
    add("--exec", dest="program", type=file_path, metavar="PROGRAM",
        help="run PROGRAM VERDICT IFACE at each change; VERDICT is ok, fail or gone")  # fmt: skip
    add_override(add, "user")
    add("--realtime", action="store_true", help="real-time scheduling and locked memory")


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Options in place of variables of the configuration."""
    add = parser.add_argument_group("instead of the configuration's variables").add_argument
    for name in OVERRIDES:
        if name != "user":  # the sensor's
            add_override(add, name)
    add("--addresses", action="append", default=[], metavar="A,...",
        help="service addresses, whose own ARP does not count")  # fmt: skip
    add("--probe-target", dest="witness", action="append", default=[], metavar="A,...",
        help="hosts that are always up, probed in an empty window")  # fmt: skip


def add_override(add: Callable[..., object], name: str) -> None:
    option, metavar, text = OVERRIDES[name]
    add(option, dest=name, type=of_kind(name), metavar=metavar, help=text)


def of_kind(name: str) -> Callable[[str], object]:
    def read(text: str) -> object:
        try:
            return conf.SETTINGS[name].kind.read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not {error}") from None

    return read


def overridden(settings: conf.Conf, options: argparse.Namespace) -> conf.Conf:
    """With what the options say instead. Raises Stop."""
    values = {name: getattr(options, name) for name in (*OVERRIDES, *LISTS)}
    values |= {"plip_timer": options.timer_seconds, "realtime": options.realtime or None}
    if options.filter and (problem := check_filter(options.filter)):
        raise Stop(f"--filter is not a pcap expression: {problem}")
    given = {name: value for name, value in values.items() if value not in (None, ())}
    return replace(settings, **given)


def listed(name: str, values: list[str], interface: str) -> tuple[object, ...]:
    """The addresses of an option, as the configuration has them. Raises ValueError."""
    found = []
    for word in ",".join(values).replace(",", " ").split():
        whole = word if name == "witness" or "/" in word else f"{word}/{128 if ':' in word else 32}"
        try:
            found.append(conf.SETTINGS[name].kind.read(f"{interface} {whole}"))
        except ValueError as error:
            raise ValueError(f"{word}: expected {error}") from None
    return tuple(found)


def disagreement(options: argparse.Namespace, given: set[str]) -> str:
    """What is wrong with the options together, "" if nothing is."""
    read, tune, sensor = "capture" in given, options.tune, given & {"track", "program"}
    wrong = [
        (sensor and given & {"capture", "tune", "json"},
         "--track and --exec cannot be combined with -r, --tune or --json"),
        (given & {"ok", "bad"} and not options.track, "--ok and --bad need --track FILE"),
        (given & {"user", "realtime"} and not sensor,
         "--user and --realtime need --track FILE or --exec PROGRAM"),
        (options.ok == options.bad, "--ok and --bad must differ"),
        (sensor and options.low_water == 0,
         "--low-water must be at least 1 with --track and --exec"),
        (options.mac and not read, "--mac needs -r FILE"),
        ("until" in given and (tune or not read), "--until needs -r FILE, and not --tune"),
        (given & {"seconds", "within", "days"} and not tune,
         "--seconds, --within and --days need --tune"),
        ("seconds" in given and read,
         "--seconds cannot be combined with -r FILE, which is read to its end"),
        (options.within < SHORTEST_AIM, f"--within must be at least {SHORTEST_AIM:g} s"),
        (0 in (options.seconds, options.days), "--seconds and --days must be more than 0"),
    ]  # fmt: skip
    return next((problem for holds, problem in wrong if holds), "")


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

SOON = 5.0  # seconds after which there should be something to be seen
KERNELS = "/proc/self/net/dev"  # of this network namespace, unlike /sys


def live(options: argparse.Namespace, settings: conf.Conf) -> int:
    """Watch until Ctrl-C."""
    interface = options.interface
    watching.must_exist(interface)
    viewer = Viewer(settings, interface, options.json)
    with watching.opening(interface):
        tools = instruments(settings, interface, *watching.prepared(settings, interface))
        watcher = Watcher(settings, interface, tools, viewer.say)
        watcher.open()
    with closing(watcher), closing(viewer):
        try:
            for remark in watching.odd_at_start(settings, interface):
                watching.complain(remark)
            if options.verbose:
                explain(settings, interface)
            viewer.begin()
            watch(watcher, viewer)
        except KeyboardInterrupt:
            viewer.close()
            for line in viewer.summary(watcher):
                print(line, file=sys.stderr if options.json else sys.stdout, flush=True)
    return 0


def watch(watcher: Watcher, viewer: Viewer) -> NoReturn:
    """Until KeyboardInterrupt. It is shown after each turn, and as often as the screen asks."""
    while True:
        wait = watcher.next_time() - time.monotonic()
        wait = max(0.0, min(wait, viewer.screen.every or wait))
        select.select(watcher.readers(), [], [], wait)
        now = time.monotonic()
        watcher.turn(now)
        viewer.look(watcher, now)


def explain(settings: conf.Conf, interface: str) -> None:
    shown = what_counts(settings, interface)
    if interface == settings.plip_interface and not settings.plip_filter:
        shown = shown.replace("0x00000000", "(the tag)")
    watching.complain(f"what counts: inbound and ({shown})")
    for witness in settings.witness:
        if witness.interface == interface:
            watching.complain(f"probe target in the middle of an empty window: {witness.address}")


class Kernels(NamedTuple):
    """Packets that the kernel has seen on an interface, whether they count or not."""

    received: int
    dropped: int
    sent: int


def kernels(interface: str) -> Kernels | None:
    """None if there is no such interface. The file is described in proc_net(5)."""
    rows: dict[str, str] = {}
    with suppress(OSError), open(KERNELS, encoding="ascii", errors="replace") as table:
        rows = dict(line.strip().split(":", 1) for line in table if ":" in line)
    fields = [int(field) for field in rows.get(interface, "").split()]
    return Kernels(fields[1], fields[3], fields[9]) if fields else None


class Viewer:
    """What is shown of a live watcher: a screen, lines, or JSON."""

    def __init__(self, settings: conf.Conf, interface: str, as_json: bool) -> None:
        self.screen: watching.Plain | screen.Screen = watching.Plain(as_json)
        self._interface, self._as_json, self._has_begun = interface, as_json, False
        self._rules = rules_for(settings, interface)
        self._tally = watching.Tally()
        self._before = kernels(interface)
        timer = self._rules.timer
        self._early: float | None = timer if self._rules.private else min(timer / 2, SOON)

    def begin(self) -> None:
        """From here on with a live line, if there is a terminal for it. What the watcher has to say
        before is what odd_at_start says."""
        self._has_begun = True
        if self._as_json:
            return
        rules = self._rules
        kind = "heartbeat link" if rules.private else f"low_water {rules.low_water}"
        window = f"window {rules.timer:g} s or {rules.packet_count} packets"
        print(f"watching {self._interface}: {window}, {kind} (Ctrl-C ends)", flush=True)
        if terminal := terminal_for(sys.stdout):
            self.screen = terminal.Screen(self._interface)

    def say(self, message: Message) -> None:
        if message["event"] != "log":
            self._tally.add(message)
            self.screen.say(message)
        elif self._has_begun:
            values: dict[str, str] = message["values"]  # type: ignore[assignment]
            self.screen.complain(f"{self._interface}: {message['sentence']}{tail(values)}")

    def look(self, watcher: Watcher, now: float) -> None:
        passed = now - (watcher.began or now)
        if self._early is not None and passed >= self._early:
            self._early = None
            if not watcher.total and (remark := self._nothing(passed)):
                self.screen.complain(remark)
        self.screen.refresh(watcher, now)

    def _nothing(self, passed: float) -> str:
        """Why nothing that counts may have been received so far."""
        now, before = kernels(self._interface), self._before
        if now is None or before is None or link_state(self._interface) != "up":
            return ""
        received, sent = now.received - before.received, now.sent - before.sent
        if received:
            why = (
                "no heartbeat of the peer; does failoverd run there, with the same secret?"
                if self._rules.private
                else "$filter or the pair's own addresses rule them out, or the switch itself sent "
                "them"
            )
            text = f"{counted(received, 'packet')} received, but {why}"
            return f"nothing that counts in {passed:.1f} s: {text}"
        return (
            f"nothing received for {passed:.1f} s, {counted(sent, 'packet')} sent: check the "
            "cable, the switch port and the other side"
        )

    def summary(self, watcher: Watcher) -> list[str]:
        """What the whole time was like."""
        seconds = time.monotonic() - (watcher.began or 0.0)
        failed, late = (self._tally.windows.get(verdict, 0) for verdict in ("fail", "late"))
        ok = self._tally.ended - failed - late
        now, before = kernels(self._interface), self._before
        dropped = max(0, now.dropped - before.dropped) if now and before else "an unknown number"
        lines = [
            f"{self._interface}: {seconds:.1f} s",
            f"windows: {ok} ok, {failed} failed, {late} late",
            f"packets: {watcher.total}, {dropped} dropped by the kernel",
        ]
        if self._tally.packets:
            least, most, total = self._tally.packets
            average = f"{total / self._tally.ended:.1f}"
            lines.append(f"packets per window: min {least}, avg {average}, max {most}")
        return lines

    def close(self) -> None:
        self.screen.close()


if __name__ == "__main__":
    sys.exit(main())
