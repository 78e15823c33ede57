"""Workers, forked without exec, and their ends; what a process makes of what it inherited."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import re
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from failoverd.process.channel import Channel, ChannelClosed, LineChannel, Message, parse_message
from failoverd.process.privileges import CAP_NET_RAW, die_with_parent, give_up_root, libc

_PR_SET_NAME = 15  # prctl(2)
MAX_RESULT = 8 << 20  # bytes of what a child has worked out
PARTING = 0.5  # seconds that a child may take to end

_REQUESTS = (signal.SIGHUP, signal.SIGUSR1)  # to failoverd
_HANDLED = (signal.SIGTERM, signal.SIGINT, *_REQUESTS, signal.SIGCHLD, signal.SIGPIPE)

CLEAN_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C",
}


@dataclass(frozen=True)
class Child:
    """A forked child as its parent sees it, until it is reaped."""

    pid: int
    channel: Channel
    pidfd: int = -1

    @property
    def is_program(self) -> bool:
        """Whether it is another maker's."""
        return isinstance(self.channel, LineChannel)

    def kill(self) -> None:
        """Kill it, and what another's program has started and not sent into another group."""
        if self.is_program:
            with contextlib.suppress(ProcessLookupError):  # it has no group of its own yet
                os.killpg(self.pid, signal.SIGKILL)
        os.kill(self.pid, signal.SIGKILL)

    def ends(self, seconds: float) -> bool:
        """Whether it ends within so many seconds. One that the kernel holds may never do so."""
        return bool(select.select([self.pidfd], [], [], seconds)[0])

    def reap(self) -> int:
        """Wait for it, and let go of it. Its exit status, -N if signal N ended it."""
        _, status = os.waitpid(self.pid, 0)
        self.let_go()
        return os.waitstatus_to_exitcode(status)

    def let_go(self) -> None:
        self.channel.close()
        os.close(self.pidfd)


def fork_child(
    name: str, run: Callable[[Channel], None], keep: frozenset[int] = frozenset()
) -> Child:
    """Fork a child that executes run(channel) and then exits; name is what ps shows.

    It ends when run returns or raises, with exit status 0 or 1. What run raises is sent as
    {"event": "died", "message": ...}. Raises OSError if there can be no child.
    """

    def work() -> int:
        for number in _REQUESTS:  # `pkill -HUP failoverd` means failoverd, and reaches all
            signal.signal(number, signal.SIG_IGN)
        set_title(name)
        channel = Channel(far)
        try:
            run(channel)
        except (KeyboardInterrupt, ChannelClosed):
            pass
        except Exception as error:  # noqa: BLE001 - the last resort: the parent logs it, and starts another
            channel.send({"event": "died", "message": in_words(error)})
            return 1
        return 0

    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with far:
        return _fork(Channel(near), work, {far.fileno(), *keep})


def start_program(argv: list[str], user: str) -> Child:
    """Execute a program that prints JSON lines, such as another watchd. Raises OSError.

    It runs as user, and may open packet sockets. What it says of errors counts as printed, too.
    """

    def work() -> int:
        os.umask(0o022)
        for number in (1, 2):
            os.dup2(writing, number)
        try:
            give_up_root(user, frozenset({CAP_NET_RAW}))
            os.execve(argv[0], argv, CLEAN_ENVIRONMENT)
        except (OSError, ValueError) as error:
            os.write(1, f"cannot be run as {user}: {in_words(error)}\n".encode())
        return 127

    reading, writing = os.pipe()
    with open(writing, "wb", 0):
        return _fork(LineChannel(reading), work, {writing})


def _fork(channel: Channel, work: Callable[[], int], keep: set[int]) -> Child:
    """A child that exits with what work() returns, and that dies when its parent does.

    It has default signals, a session of its own, and no descriptor of the parent's but those that
    it is to keep: not even 0 to 2, for they may be a terminal, and whoever holds one can type into
    it.
    """
    parent, pid = os.getpid(), 0
    try:
        pid = os.fork()
        if pid:
            return Child(pid, channel, os.pidfd_open(pid))
    except OSError:
        if pid:  # it must not run unwatched
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        channel.close()
        raise
    status = 1
    try:
        # What the parent has not collected yet would close descriptors of the child: their numbers
        # are given again.
        gc.freeze()
        reset_signals()
        os.setsid()
        close_all_but(keep)
        open_nothing()
        die_with_parent(parent)
        status = work()
    finally:
        os._exit(status)


def set_title(name: str) -> None:
    """What ps shows of this process: its arguments and, behind them, the environment, which libc is
    made to copy (arg_start and env_end in proc(5)). setproctitle does the same, and is one more
    compiled package to install."""
    for key, value in os.environb.items():
        os.putenv(key, value)
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    address, end = int(fields[45]), int(fields[48])
    title = name.encode()[: max(0, end - address - 1)]
    ctypes.memset(address, 0, end - address)
    ctypes.memmove(address, title, len(title))
    set_name(name)


def set_name(name: str) -> None:
    """What the kernel calls this process, by which others find it: 15 bytes."""
    libc.prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def in_words(error: Exception) -> str:
    """An error for a person. What is no fault of the system is a bug, and says where it is."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, OSError | ValueError | MemoryError):
        return str(error) or "no memory"
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"a bug: {type(error).__name__}: {error} ({place.filename} line {place.lineno})"


class Errand:
    """A child that works out one JSON object, however large, while its parent does other things.

    For what this process must not do itself, such as running what may hang. The object is written
    to a file in memory that only the two of them have: a message of a channel is small, and must be
    taken at once. fileno() can be read once the child has ended.
    """

    def __init__(self, name: str, work: Callable[[Channel], Message | None]) -> None:
        """Have a child execute work(channel). Raises OSError if there can be none."""

        def write(channel: Channel) -> None:
            try:
                result = work(channel) or {}
            except Exception as error:  # noqa: BLE001 - as in fork_child, but it may be a long story
                result = {"died": in_words(error)}
            self._file.write(json.dumps(result).encode())
            self._file.flush()

        self._file = os.fdopen(os.memfd_create("errand"), "wb")
        try:
            self.child = fork_child(name, write, frozenset({self._file.fileno()}))
        except (OSError, MemoryError):
            self._file.close()
            raise

    def fileno(self) -> int:
        return self.child.pidfd

    def result(self) -> Message:
        """What the child that has ended has worked out.

        Raises ValueError with what the child has raised, or with how it ended; TimeoutError if
        SIGPROF ended it, as `limit_work` has it.
        """
        found = parse_message(os.pread(self._file.fileno(), MAX_RESULT, 0))
        if found is None:
            ended = os.waitid(os.P_PIDFD, self.fileno(), os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is not None and ended.si_status == signal.SIGPROF:
                raise TimeoutError("it used up the time that it had")
            raise ValueError("the worker that was to find out has died")
        if "died" in found:
            raise ValueError(str(found["died"]))
        return found

    def close(self) -> None:
        """End the child and let go of it; one that the kernel holds is not waited for."""
        self.child.kill()
        if self.child.ends(PARTING):
            self.child.reap()
        else:
            self.child.let_go()
        self._file.close()


def find_out(name: str, work: Callable[[Channel], Message], seconds: float) -> Message:
    """What a child works out. Waits for it; raises as Errand and its result, or TimeoutError."""
    with contextlib.closing(Errand(name, work)) as errand:
        if not errand.child.ends(seconds):
            raise TimeoutError(f"it did not end within {seconds:g} s")
        return errand.result()


def limit_work(seconds: float) -> None:
    """End this process once it has worked for so long: what counts is its own time on a processor,
    so that one on a busy host gets as far as another."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, seconds)


def reset_signals() -> None:
    """Default handlers and no wake-up descriptor: those were the parent's."""
    signal.set_wakeup_fd(-1)
    for number in _HANDLED:
        signal.signal(number, signal.SIG_DFL)
    take_signals()


def put_off_signals() -> None:
    """What asks a running failoverd for something waits until `take_signals`: without a handler it
    would end one that is just starting."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _REQUESTS)


def take_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def close_all_but(keep: set[int]) -> None:
    """Close every descriptor that is not in keep: a child must not hold the pid file's lock."""
    for number in set(map(int, os.listdir("/proc/self/fd"))) - keep:
        with contextlib.suppress(OSError):  # the one that listdir itself had open
            os.close(number)


def open_nothing() -> None:
    """Have /dev/null where one of 0 to 2 is closed: the next file must not become one of them."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)


class Spare:
    """Descriptors in reserve, as a context in which they are free: for what has to be done even
    when something has used up all others."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._held: list[int] = []
        self.__exit__()

    def __enter__(self) -> None:
        while self._held:
            os.close(self._held.pop())

    close = __del__ = __enter__

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # later, then
            while len(self._held) < self._count:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))


def discard_output() -> None:
    """After an error in writing it: Python would try again at the end, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), 1)


def flush_output() -> str:
    """Why what was printed cannot be written, "" if it is."""
    try:
        sys.stdout.flush()
    except OSError as error:
        discard_output()
        return error.strerror or str(error)
    return ""


def start_clean() -> None:
    """Put right what a careless starter may hand down.

    Without 0 to 2 the pid file or the log would become one of them; while SIGCHLD is ignored, no
    child's end can be waited for, and what else is ignored would be so in all that is run; a
    blocked signal never comes.
    """
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:  # Python's own doing
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    open_streams()


def close_inherited(path: str) -> None:
    """Close what the starter has left open: its pipes would never end for who reads them, and the
    numbers that are left may be too high for select(2). But for a file that is named by one."""
    named = re.fullmatch(r"/(?:dev|proc/self)/fd/([0-9]{1,9})", path)
    close_all_but({0, 1, 2, *({int(named[1])} if named else ())})


def open_streams() -> None:
    """Open those of 0 to 2 that the starter has closed: None if that was before Python started."""
    open_nothing()
    sys.stdin = sys.stdin or os.fdopen(0)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")
