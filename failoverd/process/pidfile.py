"""The pid file. Its lock says that failoverd runs, and goes with the process however that ends, so
a file that a dead failoverd left is no obstacle."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import time

from failoverd.conf import files

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_WHY = {errno.ELOOP: "it is a symbolic link", errno.ENXIO: "no process reads this pipe"}
_TRIES, _PAUSE = 5, 0.02  # seconds
_LONGEST = 32  # bytes: a pid, and blanks around it
_PID = re.compile(rb"[\s\0]*\d{0,9}[\s\0]*")  # NULs stand where a power cut has lost the data


class PidFile:
    """The locked pid file of this process."""

    def __init__(self, path: str) -> None:
        """Raises OSError with a sentence if another failoverd has it."""
        self.path = path
        self.fd = take_lock(path)
        self._written = False

    def write(self) -> str:
        """Why the pid cannot be written, "" if it is. A full disk does not end the daemon."""
        try:
            os.pwrite(self.fd, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            return error.strerror or str(error)
        self._written = True
        return ""

    def keep(self) -> str:
        """Make the file again if it, or all of /run, was removed; while its directory is missing
        that is tried again later. As `write`."""
        if os.path.lexists(self.path):
            return "" if self._written else self.write()
        with contextlib.suppress(OSError):
            lock = take_lock(self.path)
            os.close(self.fd)
            self.fd = lock
            return self.write()
        return ""

    def remove(self) -> None:
        """Unless it cannot be removed, or is another's by now: the lock is what counts."""
        with contextlib.suppress(OSError):
            if _is_at(self.path, self.fd):
                os.unlink(self.path)


def take_lock(path: str) -> int:
    """The open and locked file. Raises OSError with a sentence."""
    while True:
        with contextlib.ExitStack() as undo:
            try:
                lock = os.open(path, _FLAGS, 0o600)
            except OSError as error:
                raise OSError(cannot_open("pidfile", path, error)) from None
            undo.callback(os.close, lock)
            info = os.fstat(lock)
            plain = stat.S_ISREG(info.st_mode) and info.st_nlink <= 1
            if not plain or info.st_uid not in files.trusted_owners():
                raise OSError(f"$pidfile {path} is not a plain file of root's alone: remove it")
            os.fchmod(lock, 0o600)  # a user who may open it may lock it, and prevent a start
            if not _lock(lock):
                pid = os.pread(lock, _LONGEST, 0).decode(errors="replace").strip()
                who = f"pid {pid}" if pid else "it is just starting"
                raise OSError(f"already running ({who})")
            found = os.pread(lock, _LONGEST + 1, 0)
            if len(found) > _LONGEST or not _PID.fullmatch(found):
                raise OSError(f"$pidfile {path} is something else: remove it or name another")
            if _is_at(path, lock):  # else the one that ended meanwhile took its file with it
                os.ftruncate(lock, 0)  # the pid of a dead one
                undo.pop_all()
                return lock


def _lock(fd: int) -> bool:
    """Whether it is locked. Who only looks whether it is holds the lock for a moment, too."""
    for _ in range(_TRIES):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(_PAUSE)
    return False


def _is_at(path: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


def cannot_open(variable: str, path: str, error: OSError) -> str:
    """A file of failoverd's own is never opened through a link, which others may have planted."""
    why = _WHY.get(error.errno or 0, error.strerror)
    way = "start it as root" if os.geteuid() else "name another one in the configuration"
    return f"cannot open ${variable} {path}: {why}; {way}"
