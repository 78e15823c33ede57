"""The service checks (@checks): runs their programs, watches the processes of pid files, and tells
how each check stands.

All as $user, with no right of root's and no way to one. When a run ends, all that it has started
is killed: its process group, and what has left that, which becomes a child of this worker as soon
as its own parent ends (PR_SET_CHILD_SUBREAPER).
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import selectors
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from failoverd import process
from failoverd.conf import Conf, ServiceCheck
from failoverd.log import printable
from failoverd.process import MAX_FIRST, PARTING, Channel, Child, Message, in_words

MOST_OUTPUT = 1 << 20  # bytes that a run may print
CHUNK = 64 * 1024
MOST_PID = (1 << 31) - 1
PID_BYTES = 64  # of a pid file that are read; postmaster.pid has more lines
EVERY_SECOND = 1.0  # how often a pid file is read whose interval is 0
STALL = 0.1  # seconds: this worker is hardly ever as late as that
SWEEP = 0.01  # seconds in which what was killed may end


def orders(active: bool, turn: int, states: Mapping[str, str]) -> Message:
    """What this worker begins with, and is told at a change of role. turn: comes back with each
    report. states: how the checks stood."""
    return {"do": "role", "active": active, "turn": turn, "states": dict(states)}


class PidFile(NamedTuple):
    """The pid in a file, and what is another whenever the file is written."""

    pid: int
    written: tuple[int, int]


@dataclass
class Run:
    """A program that was started. fault: why it was killed."""

    child: Child
    deadline: float
    output: bytes = b""
    volume: int = 0
    fault: str = ""


@dataclass
class Check:
    """One check: how it stands, when it is due, and what goes on for it.

    row: runs one after the other that speak against the state. passed: one was good since the role
    is what it is. stale: the pid file as it was when its process had ended; the pid in it may be
    another's by now.
    """

    settings: ServiceCheck
    state: str
    due: float
    row: int = 0
    passed: bool = False
    output: str = ""
    run: Run | None = None
    pid: int = 0
    pidfd: int = -1  # of the process that the pid file names
    stale: PidFile | None = None
    told: Message | None = None

    def begin_again(self, now: float) -> None:
        """The role has changed, and a service that no run has found under it is unknown."""
        self.due, self.passed = now, False
        if not self.settings.everywhere:
            self.state, self.row, self.output = "unknown", 0, ""

    def note(self, verdict: str, output: str, needed: int) -> None:
        self.output = printable(output)[:MAX_FIRST]
        self.passed |= verdict == "ok"
        self.row = 0 if verdict == self.state else self.row + 1
        if self.row >= needed:
            self.state, self.row = verdict, 0


class Checks:
    """All of them, in one loop."""

    def __init__(self, channel: Channel, conf: Conf, begin: Message) -> None:
        self._channel = channel
        self._conf = conf
        self._selector = selectors.DefaultSelector()
        self._selector.register(channel, selectors.EVENT_READ, self._listen)
        states, now = begin["states"], time.monotonic()
        assert isinstance(states, dict)
        self._checks = [Check(each, states[each.name], now) for each in conf.checks]
        self._active, self._turn = begin["active"] is True, begin["turn"]
        self._retires = False

    def loop(self) -> None:
        """Until this worker is told to retire. Raises ChannelClosed."""
        silence, alive = process.report_interval(self._conf.plip_timer), 0.0
        while not self._retires:
            now = time.monotonic()
            if now >= alive:
                alive = now + silence
                self._channel.send({"event": "alive"})
                self._end_strays()
            for check in filter(self._is_run, self._checks):
                self._tend(check, now)
                self._report(check)
            due = min([alive, *map(self._next, self._checks)])
            found = self._selector.select(max(0.0, due - time.monotonic()))
            self._forgive(time.monotonic() - max(due, now))
            for key, _ in found:
                key.data()

    # ------------------------------------------------------------------ failoverd

    def _listen(self) -> None:
        for message in self._channel.receive():
            if message.get("do") == "role":
                self._follow_role(message)
            self._retires = self._retires or message.get("do") == "retire"

    def _follow_role(self, message: Message) -> None:
        """All begin again, or end; what runs on a standby too stands as it did until then."""
        self._active, self._turn = message["active"] is True, message["turn"]
        for check in self._checks:
            if check.run is not None:
                self._kill(check.run, "the role has changed")
            if not check.settings.everywhere:
                self._lose_process(check)
            check.begin_again(time.monotonic())

    def _report(self, check: Check) -> None:
        told: Message = {"event": "check", "name": check.settings.name, "state": check.state}
        told |= {"output": check.output, "turn": self._turn, "passed": check.passed}
        if told != check.told and self._channel.send(told):
            check.told = told

    # ------------------------------------------------------------------ the schedule

    def _is_run(self, check: Check) -> bool:
        return self._active or check.settings.everywhere

    def _next(self, check: Check) -> float:
        """When `_tend` has something to do."""
        if not self._is_run(check):
            return math.inf
        return check.run.deadline if check.run is not None else check.due

    def _tend(self, check: Check, now: float) -> None:
        run = check.run
        if run is not None and now >= run.deadline:
            self._fail(check, run, f"no end within {self._conf.check_timeout:g} s")
        if run is not None or now < check.due:
            return
        settings = check.settings
        check.due = now + (settings.interval or EVERY_SECOND)
        if settings.pidfile:
            at_once = check.pidfd < 0  # or else the one that is watched runs
            why = self._find_process(check)
            self._note(check, not why, why or f"process {check.pid} runs", at_once)
        else:
            self._start(check, now)

    def _forgive(self, late: float) -> None:
        """A node that stalled has given the runs no time either: they have that much longer."""
        if late > STALL:
            for check in self._checks:
                if check.run is not None:
                    check.run.deadline += late

    def _note(self, check: Check, good: bool, output: str, at_once: bool = False) -> None:
        """A run is over. at_once: that a good check is bad needs no second run."""
        if good:
            needed = 1 if check.state == "unknown" else self._conf.check_rise
        else:
            needed = 1 if check.state == "ok" and at_once else self._conf.check_fall
        check.note("ok" if good else "bad", output, needed)

    # ------------------------------------------------------------------ programs

    def _start(self, check: Check, now: float) -> None:
        try:
            child = process.start_program(list(check.settings.command), self._conf.user)
        except OSError as error:
            self._note(check, False, f"cannot be started: {in_words(error)}")
            return
        run = check.run = Run(child, now + self._conf.check_timeout)
        self._watch(child.channel.fileno(), lambda: self._read(check, run))
        self._watch(child.pidfd, lambda: self._ended(check, run))

    def _watch(self, fd: int, call: Callable[[], None]) -> None:
        self._selector.register(fd, selectors.EVENT_READ, call)

    def _unwatch(self, fd: int) -> None:
        with contextlib.suppress(KeyError):  # all was read
            self._selector.unregister(fd)

    def _read(self, check: Check, run: Run) -> None:
        """Some of what it prints."""
        if check.run is not run:
            return
        fd = run.child.channel.fileno()
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return
        if not data:
            self._unwatch(fd)
        run.output = (run.output + data).lstrip()[:MAX_FIRST]
        run.volume += len(data)
        if run.volume > MOST_OUTPUT and not run.fault:
            self._fail(check, run, "prints without end")

    def _fail(self, check: Check, run: Run, fault: str) -> None:
        """It must not go on. One that the kernel holds fails again and again."""
        self._kill(run, fault)
        self._note(check, False, f"{fault}, killed: {first_line(run)}".removesuffix(": "))

    def _kill(self, run: Run, fault: str) -> None:
        run.fault, run.deadline = fault, time.monotonic() + self._conf.check_timeout
        run.child.kill()
        self._end_strays()

    def _ended(self, check: Check, run: Run) -> None:
        if check.run is not run:
            return
        self._read(check, run)
        run.child.kill()  # what it has left in its group
        for fd in (run.child.channel.fileno(), run.child.pidfd):
            self._unwatch(fd)
        status = run.child.reap()
        check.run = None
        self._end_strays()
        if not run.fault:
            how = f"signal {-status}" if status < 0 else f"exit status {status}"
            self._note(check, status in (0, 1), first_line(run) or how)

    def _end_strays(self) -> None:
        """End what has outlived its run, or left its group before it was killed."""
        runs = [check.run for check in self._checks if check.run is not None]
        living = {run.child.pid for run in runs if not run.fault}
        for child in children(os.getpid()):
            if child in living or group(child) in living:
                continue
            kill(child, *descendants(child))
            if all(child != run.child.pid for run in runs):
                reap(child)

    # ------------------------------------------------------------------ processes of pid files

    def _find_process(self, check: Check) -> str:
        """Watch the process that the file names. Why there is none, "" if there is one."""
        path = check.settings.pidfile
        found, why = look_into(path)
        if found is None:  # it may just be written
            return why if check.pidfd < 0 else ""
        pid = found.pid
        if check.pidfd >= 0 and pid == check.pid:
            return ""
        if found == check.stale:
            return f"process {pid} has ended"
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            return f"{path}: {error.strerror}"
        if select.select([pidfd], [], [], 0)[0]:
            os.close(pidfd)
            return f"process {pid} has ended"
        self._lose_process(check)
        check.pid, check.pidfd = pid, pidfd
        self._watch(pidfd, lambda: self._process_ended(check, pidfd))
        return ""

    def _process_ended(self, check: Check, pidfd: int) -> None:
        """Another may have taken its place in the file already, as at an upgrade."""
        if check.pidfd != pidfd:
            return
        ended, (found, _) = f"process {check.pid} has ended", look_into(check.settings.pidfile)
        check.stale = found if found is not None and found.pid == check.pid else None
        self._lose_process(check)
        if self._find_process(check):
            check.state = "ok" if check.state == "unknown" else check.state  # it was found
            self._note(check, False, ended, at_once=True)

    def _lose_process(self, check: Check) -> None:
        if check.pidfd >= 0:
            self._unwatch(check.pidfd)
            os.close(check.pidfd)
            check.pidfd = -1

    # ------------------------------------------------------------------ the end

    def close(self) -> None:
        """End all that runs. What the kernel holds is not waited for."""
        for check in self._checks:
            if check.run is not None:
                check.run.child.kill()
        end = time.monotonic() + PARTING
        while time.monotonic() < end and (left := list(children(os.getpid()))):
            for child in left:
                kill(child, *descendants(child))
                reap(child)
            time.sleep(SWEEP)


def run(channel: Channel, conf: Conf, begin: Message) -> None:
    """The worker. begin: as `orders` made it. Raises OSError, ValueError at the start."""
    process.give_up_root(conf.user, forks=True)
    process.adopt_orphans()
    process.outlive_parent()  # to end what runs
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the next failoverd gives it time for that
    checks = Checks(channel, conf, begin)
    channel.send({"event": "ready"})
    with contextlib.closing(checks):
        checks.loop()


def first_line(run: Run) -> str:
    return run.output.decode(errors="replace").partition("\n")[0].rstrip()


def look_into(path: str) -> tuple[PidFile | None, str]:
    """What a pid file says, or None and why that is not known."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            info, words = os.fstat(fd), os.read(fd, PID_BYTES).split()
        finally:
            os.close(fd)
    except OSError as error:
        return None, f"{path}: {error.strerror}"
    if not words or not words[0].isdigit() or not 1 <= int(words[0]) <= MOST_PID:
        return None, f"{path}: no process id in it"
    return PidFile(int(words[0]), (info.st_ino, info.st_mtime_ns)), ""


def children(pid: int) -> Iterator[int]:
    """Of all threads of a process (proc(5)); ended ones that it has not waited for too."""
    with contextlib.suppress(OSError):  # it is gone
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                yield from map(int, file.read().split())


def descendants(pid: int) -> Iterator[int]:
    for child in children(pid):
        yield child
        yield from descendants(child)


def group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def kill(*pids: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def reap(child: int) -> None:
    """Wait for a child, if it has ended by now."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child, os.WNOHANG)
