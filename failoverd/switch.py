"""Switch: runs the switch script and the other programs of the configuration, one at a time.

What such a program prints goes through a pipe that failoverd empties as long as it runs: one that
prints fast waits. The program holds it open in both directions, so a service that it starts may
keep it for ever: from the program's end on nobody reads, and the service gets EAGAIN once the pipe
is full, and neither SIGPIPE nor a blocking write.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from failoverd.conf import Conf
from failoverd.log import printable
from failoverd.process import CLEAN_ENVIRONMENT, be_ordinary, be_urgent

CANNOT_RUN, NOT_FOUND = 126, 127  # the exit status of a shell in these cases
KILL_GRACE = 0.5  # seconds that a killed program has to be gone; the asker waits a few more
DUTIES = "ha-switch: now the site's own duties"  # printed by a script that is urgent no more
URGENT_SECONDS = 1.0  # that a switch script may be that
MAX_LINES = 500  # of one program, so that it cannot fill the log
MAX_LINE = 1000  # bytes

_PIPE_SIZE = 1 << 20  # bytes that can be printed while failoverd does something else
_LEFT_SIZE = 1 << 16  # for those that the program leaves, whom nobody reads
_CHUNK = 1 << 16  # bytes that are read at once
_LONG = re.compile(rb"[^\n]{%d}(?=[^\n])" % MAX_LINE)


@dataclass(frozen=True)
class Result:
    """How a program ended.

    exit: its exit status, -N if signal N killed it, NOT_FOUND or CANNOT_RUN if it never ran.
    message: what else there is to say, a sentence, or "".
    ran: not if it was never started.
    """

    exit: int
    seconds: float
    timed_out: bool
    message: str = ""
    ran: bool = True


def environment(
    conf: Conf,
    role: str,
    reason: str,
    own_hwaddrs: Mapping[str, str],
    left: tuple[Iterable[str], Iterable[str]] = ((), ()),
) -> dict[str, str]:
    """All that a program is told (contract, section 7). Lists are separated by newlines.

    own_hwaddrs: by interface, the hardware addresses that interfaces had before the first change.
    left: what comes before the addresses and ethernet_addresses of conf, if it is not among them.
    """

    def lines(*parts: Iterable[object]) -> str:
        return "\n".join(dict.fromkeys(str(each) for part in parts for each in part))

    return {
        **CLEAN_ENVIRONMENT,
        "FAILOVER_ROLE": role,
        "FAILOVER_REASON": printable(reason, " ").rstrip(),
        "FAILOVER_INTERFACES": lines(conf.interfaces),
        "FAILOVER_ADDRESSES": lines(left[0], conf.addresses),
        "FAILOVER_ETHERNET_ADDRESSES": lines(left[1], conf.ethernet_addresses),
        "FAILOVER_OWN_ETHERNET_ADDRESSES": lines(map(" ".join, own_hwaddrs.items())),
        "FAILOVER_PRIMARY": conf.primary,
        "FAILOVER_SECONDARY": conf.secondary,
    }


class Runner:
    """At most one program at a time, for an event loop.

    Select on fileno() for reading; when it is readable call reap() and lines(), in that order. Call
    kill_late() when `deadline` has passed. Nothing here blocks or raises for what a program does.
    """

    def __init__(self) -> None:
        self._events = select.epoll()
        self._program: _Program | None = None
        self._given_up: _Program | None = None
        self._lines: list[str] = []

    def fileno(self) -> int:
        return self._events.fileno()

    @property
    def running(self) -> bool:
        return self._program is not None

    @property
    def pid(self) -> int | None:
        return self._program.process.pid if self._program else None

    @property
    def starttime(self) -> int | None:
        """With pid it names the process for all times of this boot: see running()."""
        return starttime(self._program.process.pid) if self._program else None

    @property
    def deadline(self) -> float | None:
        """The monotonic time at which kill_late() has something to do."""
        return min(self._program.deadline, self._program.urgent_until) if self._program else None

    def start(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        timeout: float,
        *,
        urgent: bool = False,
    ) -> Result | None:
        """Start a program: cwd /, its own session, default signals, no descriptor but 0 to 2.

        None if it runs now, else the Result that says why not. urgent: it begins with $realtime's
        priority, and has it until calm() or for URGENT_SECONDS; what it starts itself never has it.
        """
        began = time.monotonic()
        output = process = None
        try:
            self._refuse_second()
            output = _Output()
            process = _spawn(argv, environment, output.writer)
            pidfd = os.pidfd_open(process.pid)
        except (OSError, ValueError, MemoryError) as error:
            if process:  # too many open files: it must not run unwatched
                kill_group(process.pid)
                process.wait()
            if output:
                output.close()
            return _not_run(argv[0], error, ran=process is not None)
        self._program = _Program(argv[0], process, pidfd, output, began, began + timeout)
        if urgent:
            self._program.hurry()
        for descriptor in (output.reader, pidfd):
            self._events.register(descriptor, select.EPOLLIN)
        return None

    def _refuse_second(self) -> None:
        """Raise ValueError if no program may be started now."""
        if self._program:
            raise ValueError(f"{self._program} still runs")
        if self._given_up and self._given_up.process.poll() is None:
            raise ValueError(f"{self._given_up} cannot be killed")
        self._given_up = None

    def kill_late(self) -> None:
        """Kill the program and the children in its group if its time is over.

        If not even that helps, because the kernel holds it, reap() says so after KILL_GRACE.
        """
        program = self._program
        if program and time.monotonic() >= program.urgent_until:
            program.calm()
        if program and time.monotonic() >= program.deadline and program.ended() is None:
            program.hopeless = program.killed
            self.abandon()

    def calm(self) -> None:
        """The program is urgent no more."""
        if self._program:
            self._program.calm()

    def abandon(self) -> None:
        """Kill the program and its children: nobody wants to know any more how it ends. It still
        has to be reaped."""
        program = self._program
        if program and not program.killed and program.ended() is None:
            program.killed = True
            program.deadline = time.monotonic() + KILL_GRACE
            kill_group(program.process.pid)

    def reap(self) -> Result | None:
        """How the program ended; None while it runs, and when there is none."""
        program = self._program
        if program is None:
            return None
        status = program.ended()
        if status is None and not program.hopeless:
            return None
        self._let_go(program)
        seconds = time.monotonic() - program.began
        if status is None:
            self._given_up = program
            return Result(-signal.SIGKILL, seconds, True, f"{program} hangs and cannot be killed")
        return Result(status, seconds, program.killed)

    def lines(self) -> list[str]:
        """The complete lines that were printed since the last call; after the end, all the rest."""
        if self._program:
            self._lines += self._program.output.read()
        lines, self._lines = self._lines, []
        return lines

    def _let_go(self, program: _Program) -> None:
        self._lines += program.output.rest()
        for descriptor in (program.output.reader, program.pidfd):
            self._events.unregister(descriptor)
        program.output.close()
        os.close(program.pidfd)
        self._program = None

    def close(self) -> None:
        """Close what is open. A program that runs goes on."""
        if self._program:
            self._let_go(self._program)
        self._events.close()


@dataclass
class _Program:
    """One process that was started. Times are monotonic."""

    name: str
    process: subprocess.Popen[bytes]
    pidfd: int
    output: _Output
    began: float
    deadline: float
    killed: bool = False
    hopeless: bool = False
    urgent_until: float = math.inf

    def __str__(self) -> str:
        return f"{self.name} (pid {self.process.pid})"

    def hurry(self) -> None:
        with contextlib.suppress(OSError):  # it has ended, or may not: then it is not urgent
            be_urgent(self.process.pid)
            self.urgent_until = self.began + URGENT_SECONDS

    def calm(self) -> None:
        if self.urgent_until < math.inf:
            self.urgent_until = math.inf
            with contextlib.suppress(OSError):
                be_ordinary(self.process.pid)

    def ended(self) -> int | None:
        """Its exit status, None while it runs. One that the kernel has thrown away is none of
        success, as which Popen takes it."""
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            return self.process.poll()
        if self.process.returncode is None:
            self.process.returncode = CANNOT_RUN
        return self.process.returncode


class _Output:
    """The pipe for what one program prints, and the lines in it.

    The writer is kept, too: without one, the reader would be readable without end as soon as the
    program closes its output.
    """

    def __init__(self) -> None:
        self.reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self.writer = os.open(f"/proc/self/fd/{writer}", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            os.close(self.reader)
            raise
        finally:
            os.close(writer)
        self._resize(_PIPE_SIZE)
        self._partial = b""
        self._count = 0

    def _resize(self, size: int) -> None:
        with contextlib.suppress(OSError):  # then it is as it is
            fcntl.fcntl(self.reader, fcntl.F_SETPIPE_SZ, size)

    def read(self) -> list[str]:
        """The lines that are complete by now. What is beyond MAX_LINES is thrown away unread."""
        found: list[str] = []
        with contextlib.suppress(BlockingIOError):
            for _ in range(_PIPE_SIZE // _CHUNK):  # what is in it now; more may come for ever
                data = os.read(self.reader, _CHUNK)
                if self._count <= MAX_LINES:
                    *lines, self._partial = _cut(self._partial + data)
                    found += self._bounded(lines)
        return found

    def rest(self) -> list[str]:
        """All that is left, an unfinished line too. Nobody reads any more, and so whoever still
        writes is not to wait: the descriptors that the program inherited follow this one."""
        os.set_blocking(self.writer, False)
        lines = self.read()
        return lines + self._bounded([self._partial] if self._partial else [])

    def _bounded(self, lines: list[bytes]) -> list[str]:
        before, self._count = self._count, self._count + len(lines)
        room = max(0, MAX_LINES - before)
        kept = [printable(line.decode(errors="replace"), " ").rstrip() for line in lines[:room]]
        if before <= MAX_LINES < self._count:
            kept.append("(the rest of its output is left out)")
        return kept

    def close(self) -> None:
        self._resize(_LEFT_SIZE)
        os.close(self.reader)
        os.close(self.writer)


def _cut(data: bytes) -> list[bytes]:
    """The lines in data, long ones in pieces; the last one is unfinished."""
    return _LONG.sub(rb"\g<0>\n", data).split(b"\n")


def starttime(pid: int) -> int:
    """When the process began, in clock ticks since boot, 0 if it is gone (proc(5), stat 22)."""
    fields = _stat(pid)
    return int(fields[19]) if fields else 0


def running(pid: int, since: int) -> bool:
    """Whether the process with this pid and starttime() still runs: a dead failoverd's, say."""
    fields = _stat(pid)
    return bool(fields) and int(fields[19]) == since and fields[0] not in ("Z", "X")


def kill_group(pid: int) -> None:
    """Kill a program and its children, but not what left its session: that is a service."""
    if pid > 1:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on, the state; none if the process is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def _spawn(
    argv: Sequence[str], environment: Mapping[str, str], output: int
) -> subprocess.Popen[bytes]:
    """Signals are as `process.start_clean` has left them, and so is $realtime's policy: it is reset
    at every fork."""
    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        cwd="/",
        env=environment,
        start_new_session=True,
        umask=0o022,
    )


def _not_run(program: str, error: OSError | ValueError | MemoryError, *, ran: bool) -> Result:
    code = NOT_FOUND if isinstance(error, FileNotFoundError) else CANNOT_RUN
    return Result(code, 0.0, False, f"cannot run {program}: {_why(program, error)}", ran=ran)


def _why(program: str, error: OSError | ValueError | MemoryError) -> str:
    """Why a program could not be started, and the way out."""
    if not isinstance(error, OSError) or not error.errno:
        return str(error) or "no memory"
    if error.errno == errno.ENOENT and os.path.exists(program):
        return "the program that its first line names does not exist"
    told = {
        errno.ENOENT: "there is no such file",
        errno.EACCES: f"it is not executable: chmod 755 {program}",
        errno.ENOEXEC: "it is no program: its first line must be #!/bin/sh or the like",
    }
    return told.get(error.errno) or os.strerror(error.errno)
