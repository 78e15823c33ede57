"""Switch: runs the switch script and the other programs of the configuration, one at a time.

What such a program prints goes through a pipe that the program itself holds open in both
directions. So a service that it starts may keep the pipe for ever: when failoverd is gone or does
not read, the service gets EAGAIN once the pipe is full, and neither SIGPIPE nor a blocking write.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from failoverd.process import CLEAN_ENVIRONMENT

if TYPE_CHECKING:
    from failoverd.conf import Conf

CANNOT_RUN, NOT_FOUND = 126, 127  # the exit status of a shell in these cases
KILL_GRACE = 0.5  # seconds that a killed program has to be gone; the asker waits a few more
MAX_LINES = 500  # of one program, so that it cannot fill the log
MAX_LINE = 1000  # bytes

_PIPE_SIZE = 1 << 20
_ALL_SIGNALS = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


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
    addresses: Iterable[str] = (),
    ethernet_addresses: Iterable[str] = (),
) -> dict[str, str]:
    """All that a program is told (contract, section 7). Lists are separated by newlines.

    own_hwaddrs: by interface, the hardware addresses that the cards had before the first change.
    addresses, ethernet_addresses: what comes before those of conf, if it is not among them.
    """
    own = [f"{interface} {hwaddr}" for interface, hwaddr in own_hwaddrs.items()]
    return {
        **CLEAN_ENVIRONMENT,
        "FAILOVER_ROLE": role,
        "FAILOVER_REASON": _printable(reason),
        "FAILOVER_INTERFACES": "\n".join(conf.interfaces),
        "FAILOVER_ADDRESSES": _lines(addresses, conf.addresses),
        "FAILOVER_ETHERNET_ADDRESSES": _lines(ethernet_addresses, conf.ethernet_addresses),
        "FAILOVER_OWN_ETHERNET_ADDRESSES": "\n".join(own),
        "FAILOVER_PRIMARY": conf.primary,
        "FAILOVER_SECONDARY": conf.secondary,
    }


def _lines(first: Iterable[str], then: Iterable[object]) -> str:
    return "\n".join(dict.fromkeys([*first, *map(str, then)]))


class Runner:
    """At most one program at a time, for an event loop.

    Select on fileno() for reading; when it is readable call reap() and lines(), in that order. Call
    kill_late() when `deadline` has passed. Nothing here blocks or raises for what a program does.
    """

    def __init__(self) -> None:
        self._events = select.epoll()
        self._output: _Output | None = None
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
        return self._program.pid if self._program else None

    @property
    def starttime(self) -> int | None:
        """With pid it names the process for all times of this boot: see running()."""
        return self._program.starttime if self._program else None

    @property
    def deadline(self) -> float | None:
        """The monotonic time at which kill_late() has something to do."""
        return self._program.deadline if self._program else None

    def start(
        self, argv: Sequence[str], environment: Mapping[str, str], timeout: float
    ) -> Result | None:
        """Start a program: cwd /, its own session, default signals, no descriptor but 0 to 2.

        None if it runs now, else the Result that says why not.
        """
        refusal = self._refusal()
        if refusal:
            return Result(CANNOT_RUN, 0.0, False, f"cannot run {argv[0]}: {refusal}", ran=False)
        try:
            with contextlib.ExitStack() as on_error:
                output = _Output()
                on_error.callback(output.close)
                program = _Program(argv, environment, output.writer, timeout)
                on_error.pop_all()
        except (OSError, ValueError, MemoryError) as error:
            code = NOT_FOUND if isinstance(error, FileNotFoundError) else CANNOT_RUN
            why = f"cannot run {argv[0]}: {_why(argv[0], error)}"
            return Result(code, 0.0, False, why, ran=isinstance(error, _Unwatched))
        self._output, self._program = output, program
        for descriptor in (output.reader, program.pidfd):
            self._events.register(descriptor, select.EPOLLIN)
        return None

    def _refusal(self) -> str:
        """Why no program may be started now, "" if one may."""
        if self._program:
            return f"{self._program.name} (pid {self._program.pid}) still runs"
        if self._given_up and self._given_up.ended() is None:
            return f"{self._given_up.name} (pid {self._given_up.pid}) cannot be killed"
        self._forget_given_up()
        return ""

    def kill_late(self) -> None:
        """Kill the program and the children in its group if its time is over.

        If not even that helps, because the kernel holds it, reap() says so after KILL_GRACE.
        """
        program = self._program
        if program and time.monotonic() >= program.deadline and not program.has_ended():
            if program.killed:
                program.hopeless = True
            else:
                program.killed = True
                program.deadline += KILL_GRACE
                kill_group(program.pid)

    def abandon(self) -> None:
        """Kill the program and its children: nobody wants to know any more how it ends. It still
        has to be reaped."""
        program = self._program
        if program and not program.killed:
            program.killed = True
            program.deadline = time.monotonic() + KILL_GRACE
            kill_group(program.pid)

    def reap(self) -> Result | None:
        """How the program ended; None while it runs, and when there is none."""
        program = self._program
        if program is None:
            return None
        status = program.ended()
        if status is None and not program.hopeless:
            return None
        self._forget_output()
        self._program = None
        self._events.unregister(program.pidfd)
        seconds = time.monotonic() - program.began
        if status is None:
            self._given_up = program
            message = f"{program.name} (pid {program.pid}) hangs and cannot be killed"
            return Result(-signal.SIGKILL, seconds, True, message)
        program.close()
        return Result(status, seconds, program.killed)

    def lines(self) -> list[str]:
        """The complete lines that were printed since the last call; after the end, all the rest."""
        if self._output:
            self._lines += self._output.read()
        lines, self._lines = self._lines, []
        return lines

    def _forget_output(self) -> None:
        if self._output:
            self._lines += self._output.rest()
            self._events.unregister(self._output.reader)
            self._output.close()
            self._output = None

    def _forget_given_up(self) -> None:
        if self._given_up:
            self._given_up.close()
            self._given_up = None

    def close(self) -> None:
        """Close what is open. A program that runs goes on."""
        self._forget_output()
        self._forget_given_up()
        if self._program:
            self._program.close()
            self._program = None
        self._events.close()


class _Unwatched(OSError):
    """A program was started, and ended at once because it could not be watched."""


class _Program:
    """One process that was started."""

    def __init__(
        self, argv: Sequence[str], environment: Mapping[str, str], output: int, timeout: float
    ) -> None:
        self.name = argv[0]
        self.began = time.monotonic()
        self.deadline = self.began + timeout
        self.killed = False
        self.hopeless = False
        self.pid = _spawn(argv, environment, output)
        try:
            self.pidfd = os.pidfd_open(self.pid)
        except OSError as error:  # too many open files: it must not run unwatched
            kill_group(self.pid)
            os.waitpid(self.pid, 0)
            raise _Unwatched(error.errno, error.strerror) from error
        self.starttime = starttime(self.pid)

    def has_ended(self) -> bool:
        with contextlib.suppress(ChildProcessError):
            options = os.WEXITED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PIDFD, self.pidfd, options) is not None
        return True

    def ended(self) -> int | None:
        """Its exit status, None while it runs. To be called once when it has ended."""
        try:
            done = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            return CANNOT_RUN  # SIGCHLD is ignored: the kernel threw the status away
        if done is None:
            return None
        return done.si_status if done.si_code == os.CLD_EXITED else -done.si_status

    def close(self) -> None:
        os.close(self.pidfd)


class _Output:
    """The pipe for what one program prints, and the lines in it.

    We keep the writer too: without one, the reader would be readable without end as soon as the
    program closes its output.
    """

    def __init__(self) -> None:
        self.reader, writer = os.pipe()
        flags = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            self.writer = os.open(f"/proc/self/fd/{writer}", flags)
        except OSError:
            os.close(self.reader)
            raise
        finally:
            os.close(writer)
        os.set_blocking(self.reader, False)
        with contextlib.suppress(OSError):
            fcntl.fcntl(self.reader, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        self._partial = b""
        self._count = 0

    def read(self) -> list[str]:
        """The lines that are complete by now."""
        data = b""
        while len(data) < _PIPE_SIZE:
            try:
                more = os.read(self.reader, 64 * 1024)
            except BlockingIOError:
                break
            data += more
        *lines, self._partial = _cut(self._partial + data)
        return self._bounded(lines)

    def rest(self) -> list[str]:
        """All that is left, an unfinished line too."""
        lines = self.read()
        return lines + self._bounded([self._partial] if self._partial else [])

    def _bounded(self, lines: list[bytes]) -> list[str]:
        room = max(0, MAX_LINES - self._count)
        kept = [_printable(line.decode(errors="replace")) for line in lines[:room]]
        if room < len(lines) and self._count <= MAX_LINES:
            kept.append("(the rest of its output is left out)")
            self._count = MAX_LINES + 1
        self._count += len(lines[:room])
        return kept

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


def _cut(data: bytes) -> list[bytes]:
    """The lines in data, long ones in pieces; the last one is unfinished."""
    *whole, last = data.split(b"\n")
    pieces = [
        line[start : start + MAX_LINE]
        for line in whole
        for start in range(0, max(1, len(line)), MAX_LINE)
    ]
    while len(last) > MAX_LINE:
        pieces.append(last[:MAX_LINE])
        last = last[MAX_LINE:]
    return [*pieces, last]


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


def _spawn(argv: Sequence[str], environment: Mapping[str, str], output: int) -> int:
    """posix_spawn, which does not copy this process's memory: 1 ms sooner than fork."""
    _bequeath_nothing()
    with _in_root_directory():
        return os.posix_spawn(
            argv[0],
            list(argv),
            environment,
            file_actions=(
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ),
            setsid=True,
            setsigmask=(),
            setsigdef=_ALL_SIGNALS,
            scheduler=(os.SCHED_OTHER, os.sched_param(0)),  # $realtime is not for services
        )


@contextlib.contextmanager
def _in_root_directory() -> Iterator[None]:
    """What posix_spawn cannot set for the new process: cwd / and an ordinary umask."""
    here = os.open(".", os.O_PATH | os.O_CLOEXEC)
    mask = os.umask(0o022)
    try:
        os.chdir("/")
        yield
    finally:
        os.umask(mask)
        os.fchdir(here)
        os.close(here)


def _bequeath_nothing() -> None:
    """Have all descriptors but 0 to 2 closed in new programs, those of C libraries too."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with contextlib.suppress(OSError):  # the one that listdir itself had open
                os.set_inheritable(int(name), False)


def _why(program: str, error: OSError | ValueError | MemoryError) -> str:
    """Why a program could not be started, and the way out."""
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.ENOENT and os.path.exists(program):
        return "the program that its first line names does not exist"
    if number == errno.ENOENT:
        return "there is no such file"
    if number == errno.EACCES:
        return f"it is not executable: chmod 755 {program}"
    if number == errno.ENOEXEC:
        return "it is no program: its first line must be #!/bin/sh or the like"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or "no memory"


def _printable(text: str) -> str:
    """On one line, and harmless on a terminal."""
    return "".join(char if char.isprintable() else " " for char in text).rstrip()
