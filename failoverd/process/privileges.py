"""Privileges: giving up root for good, keeping the secret, and real time; the end with a parent."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
from collections.abc import Callable

from failoverd import users
from failoverd.process.channel import Message, logged

libc = ctypes.CDLL(None, use_errno=True)
# prctl(2), capabilities(7), keyctl(2), mlockall(2)
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_KEEPCAPS, _PR_CAPBSET_DROP = 1, 4, 8, 24
_PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 36, 38, 47
_PR_CAP_AMBIENT_RAISE, _PR_CAP_AMBIENT_CLEAR_ALL = 2, 4
CAP_NET_ADMIN, CAP_NET_RAW = 12, 13
_CAPABILITY_VERSION_3, _CAPABILITIES = 0x20080522, 64
_KEYCTL_JOIN_SESSION_KEYRING, _MCL_CURRENT_AND_FUTURE = 1, 3
_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "armv7l": 311, "ppc64le": 271,
           "s390x": 280, "i686": 288}  # fmt: skip

_CAPABILITY_NAMES = {CAP_NET_ADMIN: "CAP_NET_ADMIN", CAP_NET_RAW: "CAP_NET_RAW"}
_CANNOT_GIVE_UP = "cannot give up capabilities: "
NO_REALTIME = "goes on without $realtime"


def give_up_root(user: str, keep: frozenset[int] = frozenset(), *, forks: bool = False) -> None:
    """Become user for good, with no group, no capability and no way to a new privilege or process.

    keep: capabilities (below 32) that are left, to this process and to what it executes, which may
    have processes of its own. forks: this may have some without any. "root" keeps the user and its
    capabilities, for a user namespace that maps one id only. Raises ValueError if there is no such
    user, OSError if that is refused.
    """
    parent = os.getppid()
    if user != "root" and os.geteuid() == 0:
        entry = users.find(user)
        if entry is None:
            raise ValueError(f"there is no user {user} on this node")
        _leave_keyring()
        for number in set(range(_CAPABILITIES)) - keep:  # before setresuid: this needs one itself
            libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
        libc.prctl(_PR_SET_KEEPCAPS, bool(keep), 0, 0, 0)
        try:
            os.setgroups([])
            os.setresgid(entry.gid, entry.gid, entry.gid)
            os.setresuid(entry.uid, entry.uid, entry.uid)
        except OSError as error:
            why = f"cannot become {user} ({error.strerror}): in a user namespace, set $user to root"
            raise OSError(error.errno, why) from None
        _drop_capabilities(keep)
        if not (keep or forks):
            resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    keep_secret()  # the kernel decided again about cores with the change of user
    die_with_parent(parent)  # and forgot this


def keep_secret() -> None:
    """Leave no core, and let root alone read the memory or trace the process: others may run as the
    same user."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _leave_keyring() -> None:
    """Who stays in root's session can use its keyring: begin another (keyctl(2)). Where the kernel
    has no keys or forbids it there is nothing to leave."""
    number = _KEYCTL.get(os.uname().machine)
    if number is not None:
        libc.syscall(number, _KEYCTL_JOIN_SESSION_KEYRING, None)


def _drop_capabilities(keep: frozenset[int]) -> None:
    """None but these is left, whatever the starter told the kernel to keep (capabilities(7),
    securebits). Raises OSError."""
    libc.prctl(_PR_SET_KEEPCAPS, 0, 0, 0, 0)
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    head = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    mask = sum(1 << number for number in keep)
    names = " and ".join(_CAPABILITY_NAMES[number] for number in sorted(keep))
    what = f"cannot keep {names}, with which failoverd must run: " if keep else _CANNOT_GIVE_UP
    check(libc.capset(head, (ctypes.c_uint32 * 6)(mask, mask, mask)), what)
    for number in keep:  # what is executed has none but the ambient ones
        check(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number, 0, 0), what)


def missing_capabilities() -> list[str]:
    """Those that failoverd must have and this process has not, as root in a container may."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        fields = dict(line.split(":", 1) for line in file if ":" in line)
    mask = int(fields["CapEff"], 16)
    return [name for number, name in _CAPABILITY_NAMES.items() if not mask >> number & 1]


def try_realtime(name: str, user: str, say: Callable[[Message], object]) -> None:
    """`be_realtime` for a worker, which goes on without it and says so."""
    try:
        be_realtime(user)
    except OSError as error:
        say(logged("REALTIME-FAILED", f"worker {name}", NO_REALTIME, error=error.strerror))


def be_realtime(user: str = "root") -> None:
    """Real-time scheduling and locked memory for this process ($realtime). Raises OSError.

    Neither passes to its workers: those that want it say so themselves. Who is going to be another
    user than root has a limit of locked memory, beyond which it could not even allocate any.
    """
    be_urgent(0)
    if user != "root":
        try:
            unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.setrlimit(resource.RLIMIT_MEMLOCK, unlimited)
        except (ValueError, OSError):
            raise OSError(errno.EPERM, f"memory cannot be locked for {user}") from None
    check(libc.mlockall(_MCL_CURRENT_AND_FUTURE))


def be_urgent(pid: int) -> None:
    """Give this process the priority of all that keeps time, and none of its children. Raises
    OSError."""
    os.sched_setscheduler(pid, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(10))


def be_ordinary(pid: int) -> None:
    os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0))


def die_with_parent(parent: int) -> None:
    """Be killed when the parent dies. To be called again after every change of user."""
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def outlive_parent() -> None:
    """For who has something to finish when its parent dies, and then ends by itself."""
    libc.prctl(_PR_SET_PDEATHSIG, 0, 0, 0, 0)


def adopt_orphans() -> None:
    """Whose parent ends among the descendants of this process becomes its child."""
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def check(result: int, what: str = "") -> None:
    """Raise OSError if the C library has told of an error."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, what + os.strerror(number))
