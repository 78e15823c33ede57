"""Processes: children on a socket pair, giving up root, names in ps, endings.

Every child of failoverd is forked without exec and talks to it over a SOCK_SEQPACKET pair: one JSON
object a packet, so a message arrives whole or not at all.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import io
import json
import os
import pwd
import resource
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial

MAX_MESSAGE = 64 * 1024  # bytes
MAX_RESULT = 8 << 20  # bytes of what a child has worked out
MAX_FIRST = 200  # bytes of its first line that are kept
MAX_BURST = 64  # messages that are read at once
LEAST_WEIGHT = 1024  # bytes that the shortest message counts for
PARTING = 0.5  # seconds that a child may take to end
LEAST_PATIENCE = 2.0  # seconds; a shorter silence of a child may be a busy machine

# prctl(2), capabilities(7), keyctl(2), mlockall(2)
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_KEEPCAPS, _PR_SET_NAME = 1, 4, 8, 15
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 24, 38, 47
_PR_CAP_AMBIENT_RAISE, _PR_CAP_AMBIENT_CLEAR_ALL = 2, 4
_CAP_NET_RAW, _CAPABILITY_VERSION_3, _CAPABILITIES = 13, 0x20080522, 64
_KEYCTL_JOIN_SESSION_KEYRING, _MCL_CURRENT_AND_FUTURE = 1, 3
_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "armv7l": 311, "ppc64le": 271,
           "s390x": 280, "i686": 288}  # fmt: skip
_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD,
            signal.SIGPIPE)  # fmt: skip
_libc = ctypes.CDLL(None, use_errno=True)

CLEAN_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C",
}

Message = dict[str, object]


def patience(window: float) -> float:
    """Seconds without a word after which a child is replaced: two windows of the private link."""
    return max(LEAST_PATIENCE, 2 * window)


def report_interval(window: float) -> float:
    """How often a child that has nothing to say says that it lives, in seconds."""
    return patience(window) / 4


class ChannelClosed(Exception):
    """The process at the other end is gone."""


class Channel:
    """One end of the pair between failoverd and a child. Neither end ever blocks.

    volume: the bytes that were received, understood or not; a message counts for LEAST_WEIGHT at
    least.
    """

    chunk = MAX_MESSAGE  # bytes that are read at once

    def __init__(self, end: socket.socket | io.FileIO) -> None:
        os.set_blocking(end.fileno(), False)
        self._socket = end
        self.volume = 0

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: Mapping[str, object]) -> bool:
        """Send one message. False if the other end is gone, or has long not read."""
        try:
            os.write(self.fileno(), json.dumps(message).encode())
        except OSError:
            return False
        return True

    def receive(self) -> list[Message]:
        """The messages that are there now, but not so many that a flood holds us up for ever.

        What is not a JSON object is left out. Raises ChannelClosed when the other end is gone and
        everything was read.
        """
        messages: list[Message] = []
        for number in range(MAX_BURST):
            try:
                # The kernel may find the queue empty, then find that the other end is gone, and
                # overlook what came in between: only an end that is read twice is the end.
                data = self._read() or self._read()
            except BlockingIOError:
                break
            if not data and number == 0:
                raise ChannelClosed
            if not data:
                break
            parts = self._split(data)
            self.volume += max(len(data), LEAST_WEIGHT * len(parts))
            messages += [m for m in map(parse_message, parts) if m is not None]
        return messages

    def _read(self) -> bytes:
        """Nothing if the other end is gone, also if it did not read all of ours."""
        try:
            return os.read(self.fileno(), self.chunk)
        except ConnectionError:
            return b""

    def _split(self, data: bytes) -> list[bytes]:
        return [data]

    def finish(self) -> bool:
        """Let the other end read what was sent, and then that we are gone. False if it cannot know
        that."""
        if not isinstance(self._socket, socket.socket):
            return False
        with contextlib.suppress(OSError):  # it is gone first
            self._socket.shutdown(socket.SHUT_WR)
        return True

    def close(self) -> None:
        self._socket.close()


class LineChannel(Channel):
    """The reading end of a pipe on which a program prints one JSON object a line."""

    chunk = 4 * 1024

    def __init__(self, fd: int) -> None:
        super().__init__(io.FileIO(fd))
        self._buffer = b""
        self._beginning = b""
        self._skipping = False  # the rest of a line that was too long is no line of its own

    def _split(self, data: bytes) -> list[bytes]:
        self._beginning = (self._beginning + data).lstrip()[:MAX_FIRST]
        *lines, rest = (self._buffer + data).split(b"\n")
        if self._skipping and lines:
            lines[0] = b""
            self._skipping = False
        self._skipping = self._skipping or len(rest) > MAX_MESSAGE
        self._buffer = b"" if self._skipping else rest
        return [line if len(line) <= MAX_MESSAGE else b"" for line in lines]

    def first(self) -> bytes:
        """The beginning of the first line that the program has printed, whatever it is."""
        return self._beginning.partition(b"\n")[0]


def parse_message(data: bytes) -> Message | None:
    """The JSON object in data, None if it is anything else."""
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


@dataclass(frozen=True)
class Child:
    """A forked child as its parent sees it, until it is reaped."""

    pid: int
    channel: Channel
    pidfd: int = -1

    @property
    def is_program(self) -> bool:
        """Whether it is another's."""
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
        """Wait for it, and close what led to it. Its wait status."""
        _, status = os.waitpid(self.pid, 0)
        self.channel.close()
        os.close(self.pidfd)
        return status


def fork_child(
    name: str, run: Callable[[Channel], None], keep: frozenset[int] = frozenset()
) -> Child:
    """Fork a child that executes run(channel) and then exits; name is what ps shows.

    It ends when run returns or raises, with exit status 0 or 1. What run raises is sent as
    {"event": "died", "message": ...}. Raises OSError if there can be no child.
    """
    title_room()  # found here, once for all children

    def work() -> int:
        set_title(name)
        channel = Channel(theirs)
        try:
            run(channel)
        except (KeyboardInterrupt, ChannelClosed):
            pass
        except Exception as error:  # noqa: BLE001 - the last resort: the parent logs it and restarts us
            channel.send({"event": "died", "message": in_words(error)})
            return 1
        return 0

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        return _fork(Channel(ours), work, {theirs.fileno(), *keep})


def start_program(argv: list[str], user: str) -> Child:
    """Execute a program that prints JSON lines, such as another watchd. Raises OSError.

    It runs as user, and may open packet sockets. What it says of errors counts as printed, too.
    """

    def work() -> int:
        os.umask(0o022)
        for number in (1, 2):
            os.dup2(writing, number)
        try:
            give_up_root(user, frozenset({_CAP_NET_RAW}))
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
        reset_signals()
        os.setsid()
        close_all_but(keep)
        open_nothing()
        die_with_parent(parent)
        status = work()
    finally:
        os._exit(status)


def in_words(error: Exception) -> str:
    """An error for a person. What is not the world's fault is a bug, and says where it is."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, OSError | ValueError | MemoryError):
        return str(error) or "no memory"
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"a bug: {type(error).__name__}: {error} ({place.filename} line {place.lineno})"


class Errand:
    """A child that works out one JSON object, however large, while its parent does other things.

    For what this process must not do itself, such as running what may hang. The object is written
    to a file in memory that only the two of them have: a message of a channel is small, and
    somebody has to take it. fileno() can be read once the child has ended.
    """

    def __init__(self, name: str, work: Callable[[Channel], Message]) -> None:
        """Have a child execute work(channel). Raises OSError if there can be none."""
        self._file = os.memfd_create("errand", os.MFD_CLOEXEC)
        try:
            write = partial(self._write, work)
            self._child = fork_child(name, write, frozenset({self._file}))
        except (OSError, MemoryError):
            os.close(self._file)
            raise

    def _write(self, work: Callable[[Channel], Message], channel: Channel) -> None:
        try:
            result = work(channel)
        except Exception as error:  # noqa: BLE001 - as in fork_child, but it may be a long story
            result = {"died": in_words(error)}
        with open(self._file, "wb", closefd=False) as file:
            file.write(json.dumps(result).encode())

    def fileno(self) -> int:
        return self._child.pidfd

    def kill(self) -> None:
        """End the child: once it has ended there is no result."""
        self._child.kill()

    def result(self) -> Message:
        """What the child that has ended has worked out.

        Raises ValueError with what the child has raised, or with how it ended; TimeoutError if
        SIGPROF ended it, as `limit_work` has it.
        """
        found = parse_message(os.pread(self._file, MAX_RESULT, 0))
        if found is None:
            ended = os.waitid(os.P_PIDFD, self.fileno(), os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is not None and ended.si_status == signal.SIGPROF:
                raise TimeoutError("it used up the time that it had")
            raise ValueError("the child that was to find out has died")
        if "died" in found:
            raise ValueError(str(found["died"]))
        return found

    def close(self) -> None:
        """End the child and close what led to it; one that the kernel holds is not waited for."""
        self.kill()
        if self._child.ends(PARTING):
            self._child.reap()
        else:
            self._child.channel.close()
            os.close(self._child.pidfd)
        os.close(self._file)


def find_out(name: str, work: Callable[[Channel], Message], seconds: float) -> Message:
    """What a child works out. Waits for it; raises as Errand and its result, or TimeoutError."""
    errand = Errand(name, work)
    try:
        if not select.select([errand], [], [], seconds)[0]:
            raise TimeoutError(f"it did not end within {seconds:g} s")
        return errand.result()
    finally:
        errand.close()


def limit_work(seconds: float) -> None:
    """End this process once it has worked for so long: what counts is its own time on a processor,
    so that one on a busy machine gets as far as another."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, seconds)


def reset_signals() -> None:
    """Default handlers and no wake-up descriptor: those were the parent's."""
    signal.set_wakeup_fd(-1)
    for number in _HANDLED:
        signal.signal(number, signal.SIG_DFL)
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

    close = __enter__

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # later, then
            while len(self._held) < self._count:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))


def discard_output() -> None:
    """After an error in writing it: Python would try again at the end, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), 1)


def start_clean() -> None:
    """Mend what a careless starter may hand down.

    Without 0 to 2 the pid file or the log would become one of them; while SIGCHLD is ignored, no
    child's end can be waited for, and what else is ignored would be so in all that we run; a
    blocked signal never comes.
    """
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:  # Python's own doing
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    open_streams()


def open_streams() -> None:
    """Open those of 0 to 2 that the starter has closed: None if that was before Python started."""
    open_nothing()
    sys.stdin = sys.stdin or os.fdopen(0)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


@cache
def title_room() -> tuple[int, int]:
    """Where ps finds what it shows of this process: an address, and how many bytes there are.

    These are our arguments and, behind them, the environment, which libc is made to copy: see
    arg_start and env_end in proc(5).
    """
    for name, value in os.environb.items():
        os.putenv(name, value)
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return int(fields[45]), int(fields[48]) - int(fields[45])


def set_title(name: str) -> None:
    """What ps shows of this process (proc(5)). setproctitle does the same, and is one more compiled
    package to install."""
    address, room = title_room()
    title = name.encode()[: max(0, room - 1)]
    ctypes.memset(address, 0, room)
    ctypes.memmove(address, title, len(title))
    _libc.prctl(_PR_SET_NAME, title, 0, 0, 0)


def die_with_parent(parent: int) -> None:
    """Be killed when the parent dies. To be called again after every change of user."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def outlive_parent() -> None:
    """For who has something to finish when its parent dies, and then ends by itself."""
    _libc.prctl(_PR_SET_PDEATHSIG, 0, 0, 0, 0)


def give_up_root(user: str, keep: frozenset[int] = frozenset()) -> None:
    """Become user for good, with no group, no capability and no way to a new privilege or process.

    keep: capabilities (below 32) that are left, to this process and to what it executes, which may
    have processes of its own. "root" keeps the user and its capabilities, for a user namespace that
    maps one id only. Raises ValueError if there is no such user, OSError if we may not change.
    """
    parent = os.getppid()
    if user != "root" and os.geteuid() == 0:
        try:
            entry = pwd.getpwnam(user)
        except KeyError:
            raise ValueError(f"there is no user {user} on this machine") from None
        _leave_keyring()
        for number in set(range(_CAPABILITIES)) - keep:  # before setresuid: this needs one itself
            _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
        _libc.prctl(_PR_SET_KEEPCAPS, bool(keep), 0, 0, 0)
        try:
            os.setgroups([])
            os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
            os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
        except OSError as error:
            why = f"cannot become {user} ({error.strerror}): in a user namespace, set $user to root"
            raise OSError(error.errno, why) from None
        _drop_capabilities(keep)
        if not keep:
            resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    keep_secret()  # the kernel decided anew about cores with the change of user
    die_with_parent(parent)  # and forgot this


def keep_secret() -> None:
    """Leave no core, and let nobody read our memory, nor trace us, but root.

    Others may run as the same user.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _leave_keyring() -> None:
    """Root's session keyring is ours as long as we are in its session: begin another (keyctl(2)).

    Where the kernel has no keys or forbids it there is nothing to leave.
    """
    number = _KEYCTL.get(os.uname().machine)
    if number is not None:
        _libc.syscall(number, _KEYCTL_JOIN_SESSION_KEYRING, None)


def _drop_capabilities(keep: frozenset[int]) -> None:
    """None but these is left, whatever our starter told the kernel to keep (capabilities(7),
    securebits). Raises OSError.
    """
    _libc.prctl(_PR_SET_KEEPCAPS, 0, 0, 0, 0)
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    head = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    mask = sum(1 << number for number in keep)
    what = "cannot give up capabilities: "
    _check(_libc.capset(head, (ctypes.c_uint32 * 6)(mask, mask, mask)), what)
    for number in keep:  # what is executed has none but the ambient ones
        _check(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number, 0, 0), what)


def _check(result: int, what: str = "") -> None:
    """Raise OSError if the C library has told of an error."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, what + os.strerror(number))


def try_realtime(user: str, say: Callable[[Message], object]) -> None:
    """`be_realtime` for a child, which goes on without it and says so."""
    try:
        be_realtime(user)
    except OSError as error:
        say({"event": "log", "message": f"$realtime: {error.strerror}; goes on without"})


def be_realtime(user: str = "root") -> None:
    """Real-time scheduling and locked memory for this process ($realtime). Raises OSError.

    Neither passes to its children: those that want it say so themselves. Who is going to be another
    user than root has a limit of locked memory, beyond which it could not even allocate any.
    """
    os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(10))
    if user != "root":
        try:
            unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.setrlimit(resource.RLIMIT_MEMLOCK, unlimited)
        except (ValueError, OSError):
            raise OSError(errno.EPERM, f"memory cannot be locked for {user}") from None
    _check(_libc.mlockall(_MCL_CURRENT_AND_FUTURE))
