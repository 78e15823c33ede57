"""watchd as a sensor for other cluster software: a number in a file, a program that is run.

A worker counts, and has given up root, as under failoverd. This process keeps it, for the file, the
program and the worker's successors, and never reads from the network.
"""

from __future__ import annotations

import argparse
import errno
import math
import os
import re
import selectors
import signal
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from functools import partial

from failoverd import __version__, conf, links, process, statefile, switch
from failoverd.conf import files
from failoverd.log import Log, lasting
from failoverd.master.messages import Counted, Logged, Window
from failoverd.master.supervisor import FIRST_DELAY, LONGEST_DELAY, Make, Supervisor
from failoverd.process import Message
from failoverd.sd_notify import ServiceManager
from failoverd.tools.watching import odd_at_start, opening, prepared
from failoverd.tools.words import Stop
from failoverd.watch import watcher
from failoverd.wire.typed import decode

WINDOW = 1.0  # seconds, where neither an option nor the configuration has one
PROGRAM_SECONDS = 10.0  # that a program may take
LOOKS, LEAST_LOOK = 8, 0.05  # until something is known: looks in a window, seconds between two
GONE = Window(0, 0, "gone", "watchd ends")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NUMBER = re.compile(r"\s*-?\d*\s*")


def judged(message: Message, known: bool, least: int) -> Window | None:
    """What a message of the worker's says of the interface, with the verdict ok or fail, if it
    says anything. Until something is known, `least` packets at any time say that it receives.
    Raises ValueError.
    """
    if message.get("event") == "count":
        count = decode(Counted, message)
        told = Window(count.packets, count.last, "boot", "packets came in")
    else:
        told = decode(Window, message)
    if told.verdict in ("ok", "fail"):
        return told
    enough = not known and told.packets >= max(1, least)
    return replace(told, verdict="ok", reason="packets came in") if enough else None


class Lines:
    """The log, on standard error and in the form of failoverd's, and those that are told."""

    def __init__(self, interface: str) -> None:
        self._log, self.interface = Log(os.devnull, sys.stderr), interface

    def say(self, event: str, subject: str, sentence: str, /, **values: object) -> None:
        self._log.write(event, subject, sentence, values, program="watchd")

    def pass_on(self, message: Message) -> None:
        """What a worker says. Raises ValueError."""
        line = decode(Logged, message)
        self.say(line.name, line.subject, line.sentence, **line.values)

    def close(self) -> None:
        self._log.close()


class Outlet:
    """Who is told of verdicts. Whatever fails is tried again, twice as late each time."""

    def __init__(self, subject: str, lines: Lines) -> None:
        self._subject, self._lines = subject, lines
        self._wanted: Window | None = None  # what has not been told yet
        self._at, self._delay = 0.0, FIRST_DELAY

    @property
    def due(self) -> float:
        """When `tend` has something to do; inf if all is told."""
        return math.inf if self._wanted is None else self._at

    def begin(self) -> None:
        """The worker counts. Raises Stop."""

    def tell(self, verdict: Window) -> None:
        self._wanted, self._at = verdict, 0.0
        self.tend(time.monotonic())

    def tend(self, now: float) -> None:
        raise NotImplementedError

    def _failed(self, sentence: str, **values: object) -> None:
        self._delay = min(2 * self._delay, LONGEST_DELAY)
        self._at = time.monotonic() + self._delay
        self._lines.say("SENSOR-FAILED", self._subject, f"{sentence}, trying again", **values)

    def _worked(self, sentence: str, event: str = "", **values: object) -> None:
        """event: what is said where nothing had failed."""
        if told := "SENSOR-OK" if self._delay > FIRST_DELAY else event:
            self._lines.say(told, self._subject, sentence, **values)
        self._delay = FIRST_DELAY


class TrackFile(Outlet):
    """One number in a file, which is replaced in one step (keepalived's track_file)."""

    def __init__(self, path: str, numbers: Mapping[str, int], lines: Lines) -> None:
        """Raises Stop if it should not be kept there."""
        super().__init__(f"interface {lines.interface}", lines)
        self._path, self._numbers = os.path.abspath(path), numbers
        if fault := self._fault():
            raise Stop(fault)

    def _fault(self) -> str:
        folder = os.path.dirname(self._path)
        if not os.path.isdir(folder):
            return f"there is no directory {folder}: mkdir {folder}"
        mode = os.stat(folder).st_mode
        if mode & 0o022 and not mode & stat.S_ISVTX:
            return f"{folder} can be written by other users: chmod go-w {folder}"
        if os.path.lexists(self._path) and not _NUMBER.fullmatch(self._left()):
            return f"{self._path} is not a number, and is not replaced"
        return ""

    def _left(self) -> str:
        """What a predecessor has left in the file."""
        with suppress(OSError, ValueError):
            fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
            with open(fd, encoding="ascii") as file:
                if stat.S_ISREG(os.fstat(fd).st_mode):
                    return file.read(64)
        return "no number"

    def begin(self) -> None:
        """All is well until it is known, but if one that was killed knew it was not."""
        if self._left().strip() == str(self._numbers["fail"]):
            return
        try:
            self._put("ok")
        except OSError as error:
            raise Stop(f"{self._path} cannot be written: {error.strerror}") from None

    def _put(self, verdict: str) -> None:
        if verdict in self._numbers:
            number = f"{self._numbers[verdict]}\n".encode()
            try:
                statefile.replace(self._path, number, mode=0o644)
            except OSError as error:
                if error.errno not in _FULL or not self._overwritten(number):
                    raise
            return
        with suppress(FileNotFoundError):
            os.unlink(self._path)

    def _overwritten(self, number: bytes) -> bool:
        """A full disk has no room for another file, and a number that is no longer true keeps the
        service on an interface that receives nothing: the old file has room for the new one."""
        with suppress(OSError):
            fd = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
            with open(fd, "wb", buffering=0) as file:
                info = os.fstat(fd)
                ours = info.st_uid == os.geteuid() and info.st_nlink == 1
                whole = ours and stat.S_ISREG(info.st_mode) and file.write(number) == len(number)
                return bool(whole and file.truncate() == len(number))
        return False

    def tend(self, now: float) -> None:
        if self._wanted is None or now < self._at:
            return
        try:
            self._put(self._wanted.verdict)
        except OSError as error:
            why = error.strerror
            self._failed("the file cannot be written", file=self._path, error=why)
            return
        self._wanted = None
        self._worked("the file is written", file=self._path)


class Program(Outlet):
    """Runs PROGRAM VERDICT IFACE, one at a time: the latest verdict, until that exits 0."""

    def __init__(self, path: str, lines: Lines) -> None:
        """Raises Stop if root should not run it."""
        super().__init__(f"script {os.path.basename(path)}", lines)
        self._path = os.path.abspath(path)
        if faults := files.program_faults(self._path):
            raise Stop("\n".join(faults))
        self._runner = switch.Runner()
        self._running = GONE

    def fileno(self) -> int:
        return self._runner.fileno()

    @property
    def due(self) -> float:
        return super().due if self._runner.deadline is None else self._runner.deadline

    def tend(self, now: float) -> None:
        if now >= (self._runner.deadline or math.inf):
            self._runner.kill_late()
        result = self._runner.reap()
        for line in self._runner.lines():
            self._lines.say("SCRIPT-OUTPUT", self._subject, line)
        if result is not None:
            self._ended(result)
        if self._wanted is not None and not self._runner.running and now >= self._at:
            self._start(self._wanted)

    def _start(self, told: Window) -> None:
        self._running = told
        environment = os.environ | {
            "WATCHD_INTERFACE": self._lines.interface,
            "WATCHD_VERDICT": told.verdict,
            "WATCHD_REASON": told.reason,
            "WATCHD_PACKETS": str(told.packets),
        }
        argv = [self._path, told.verdict, self._lines.interface]
        if result := self._runner.start(argv, environment, PROGRAM_SECONDS):
            self._ended(result)

    def _ended(self, result: switch.Result) -> None:
        values = {"verdict": self._running.verdict, "exit": result.exit,
                  "took": lasting(result.seconds)}  # fmt: skip
        latest = self._wanted is self._running
        if result.exit == 0 and not result.timed_out:
            self._worked("told the verdict", "SCRIPT-END", **values)
            self._wanted = None if latest else self._wanted
            return
        self._failed("killed, too slow" if result.timed_out else "failed", **values,
                     error=result.message)  # fmt: skip
        if not latest:  # a verdict that came meanwhile does not wait
            self._at = 0.0

    def close(self) -> None:
        self._runner.close()


class Sensor:
    """One interface: its worker, what is known of it, and whoever is told."""

    def __init__(self, settings: conf.Conf, make: Make, lines: Lines) -> None:
        self._lines = lines
        self._rules = watcher.rules_for(settings, lines.interface)
        self._manager = ServiceManager.from_environment()
        self._selector = selectors.DefaultSelector()
        self._name = f"watchd {lines.interface}"
        self._supervisor = Supervisor(self._selector, self._told, self._gone)
        self._supervisor.add(self._name, make, process.patience(settings.plip_timer))
        self._outlets: list[Outlet] = []
        self._counts = False
        self._verdict, self._since = "", 0.0
        self._look_at = math.inf

    def add(self, outlet: Outlet) -> None:
        self._outlets.append(outlet)
        if isinstance(outlet, Program):  # _wait tends it
            self._selector.register(outlet, selectors.EVENT_READ, lambda: None)

    def run(self, stop: int) -> None:
        """Until `stop` can be read. Raises Stop if it cannot begin."""
        stopped: list[bool] = []
        self._selector.register(stop, selectors.EVENT_READ, lambda: stopped.append(True))
        try:
            while not stopped:
                self._turn()
        finally:
            self._selector.unregister(stop)
            self._end()

    def _turn(self) -> None:
        now = time.monotonic()
        self._supervisor.tend(now)
        self._manager.tend(now)
        self._look(now)
        times = [self._supervisor.deadline, self._manager.deadline, self._look_at]
        self._wait(min(each for each in times if each is not None))

    def _wait(self, until: float) -> None:
        """Attend to what happens until then at the latest, and to what is due."""
        until = min([until, *(outlet.due for outlet in self._outlets)])
        for key, _ in self._selector.select(max(0.0, until - time.monotonic())):
            key.data()
        now = time.monotonic()
        for outlet in self._outlets:
            outlet.tend(now)

    def _look(self, now: float) -> None:
        """Until something is known, ask how much has been received: that needs no whole window."""
        if now >= self._look_at:
            self._supervisor.send(self._name, {"do": "look"})
            self._look_at = now + max(LEAST_LOOK, self._rules.timer / LOOKS)

    def _end(self) -> None:
        self._supervisor.end_all()
        if self._counts:
            for outlet in self._outlets:
                outlet.tell(GONE)
        end = time.monotonic() + 2 * PROGRAM_SECONDS
        while time.monotonic() < end and any(each.due < math.inf for each in self._outlets):
            self._wait(end)
        self._selector.close()
        self._lines.say("STOPPED", "config", "ended", interface=self._lines.interface)

    def _gone(self, _name: str, why: str) -> None:
        """The supervisor starts another worker; one that has never begun may never do."""
        if why and not self._counts:
            raise Stop(why)
        if why:
            text = "ended, and is started again"
            self._lines.say("WORKER-LOST", f"worker {self._name}", text, error=why)

    def _told(self, _name: str, message: Message) -> None:
        try:
            match message.get("event"):
                case "ready":
                    self._begin()
                case "log":
                    self._lines.pass_on(message)
                case _:
                    known = bool(self._verdict)
                    if found := judged(message, known, self._rules.low_water):
                        self._judge(found)
        except ValueError as error:
            subject = f"worker {self._name}"
            self._lines.say("MESSAGE-REFUSED", subject, "not a message", error=error)

    def _begin(self) -> None:
        if self._counts:
            self._lines.say("WORKER-READY", f"worker {self._name}", "ready")
            return
        for outlet in self._outlets:
            outlet.begin()
        self._counts, self._look_at = True, 0.0
        self._lines.say("STARTED", "config", "counting", version=__version__,
                        interface=self._lines.interface, window=f"{self._rules.timer:g}s",
                        low_water=self._rules.low_water)  # fmt: skip

    def _judge(self, found: Window) -> None:
        if found.verdict == self._verdict:
            return
        now, first = time.monotonic(), not self._verdict
        after = "" if first else lasting(now - self._since)
        self._verdict, self._since, self._look_at = found.verdict, now, math.inf
        for outlet in self._outlets:
            outlet.tell(found)
        interface = self._lines.interface
        subject, carrier = f"interface {interface}", "yes" if links.works(interface) else "no"
        event, text = ("IFACE-OK", "") if found.verdict == "ok" else ("IFACE-FAIL", "not ")
        self._lines.say(event, subject, f"{text}receiving", after=after, received=found.packets,
                        previous=found.last, carrier=carrier)  # fmt: skip
        if first:  # who is started after this finds the verdict
            self._manager.tell("READY=1")


def run(options: argparse.Namespace, settings: conf.Conf) -> int:
    process.start_clean()
    interface = options.interface
    process.set_name(f"watchd-{interface}")
    settings = suited(settings, options)
    with ExitStack() as stack:
        stop = stack.enter_context(ending())
        lines = stack.enter_context(closing(Lines(interface)))
        with opening(interface):
            make = worker(settings, interface)
        sensor = Sensor(settings, make, lines)
        if options.track:
            numbers = {"ok": options.ok, "fail": options.bad}
            sensor.add(TrackFile(options.track, numbers, lines))
        if options.program:
            sensor.add(stack.enter_context(closing(Program(options.program, lines))))
        for remark in odd(settings, interface):
            lines.say("CONFIG-WARNING", "config", remark)
        if settings.realtime:
            process.try_realtime("sensor", "root", lines.pass_on)
        sensor.run(stop)
    return 0


def suited(settings: conf.Conf, options: argparse.Namespace) -> conf.Conf:
    """As a sensor needs it: with a window and a low_water if none is set, and the worker replaced
    after two windows without a word."""
    timer = settings.timer_seconds
    if options.timer_seconds is None and "timer_seconds" not in settings.origin.lines:
        timer = WINDOW
    link = settings.plip_timer if options.interface == settings.plip_interface else timer
    low_water = settings.low_water or 1
    return replace(settings, timer_seconds=timer, plip_timer=link, low_water=low_water,
                   dumpfile=os.devnull)  # fmt: skip


def odd(settings: conf.Conf, interface: str) -> Iterator[str]:
    yield from odd_at_start(settings, interface)
    if interface == settings.plip_interface:
        return
    if not any(target.interface == interface for target in settings.witness):
        yield "no probe target: a window in which nothing happens to be sent is a failure"
    if not settings.addresses:
        yield "no service addresses: their own gratuitous ARP counts on the other nodes"


def worker(settings: conf.Conf, interface: str) -> Make:
    """Forks what counts, with what its predecessor hands on. Raises OSError or Stop."""
    tools = partial(watcher.instruments, settings, interface, *prepared(settings, interface))

    def make(handed: Message | None) -> process.Child:
        return process.fork_child(
            f"watchd: worker {interface}",
            lambda channel: watcher.run_child(channel, settings, interface, handed, tools),
        )

    return make


@contextmanager
def ending() -> Iterator[int]:
    """What can be read once this process is told to end."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(-1)
