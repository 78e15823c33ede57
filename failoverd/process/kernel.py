"""What the kernel does for a process through prctl(2): its name in ps, its end with its parent."""

from __future__ import annotations

import ctypes
import os
import signal
from functools import cache

# prctl(2)
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
libc = ctypes.CDLL(None, use_errno=True)


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
    libc.prctl(_PR_SET_NAME, title, 0, 0, 0)


def die_with_parent(parent: int) -> None:
    """Be killed when the parent dies. To be called again after every change of user."""
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def outlive_parent() -> None:
    """For who has something to finish when its parent dies, and then ends by itself."""
    libc.prctl(_PR_SET_PDEATHSIG, 0, 0, 0, 0)


def check(result: int, what: str = "") -> None:
    """Raise OSError if the C library has told of an error."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, what + os.strerror(number))
