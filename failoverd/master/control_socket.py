"""The Unix socket beside $pidfile, by which this node's own commands reach failoverd.

It works whatever has become of the heartbeat link and of $primary. It is made here, by root, and
never read here: the listener inherits it. So it outlives every listener, and a command that comes
between two of them waits in its queue.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator

from failoverd import process
from failoverd.master.context import Context

BACKLOG = 128
RETRY_SECONDS = 5.0  # between two attempts to make it
LONGEST_NAME = 107  # bytes that the kernel takes (unix(7))


class ControlSocket:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._identity: tuple[int, int] | None = None  # of its name in the file system
        self._retry = 0.0
        self.socket: socket.socket | None = None

    def open(self, now: float) -> bool:
        """Make it, instead of one whose name is gone. If that fails it is said, once."""
        context, path = self._context, self._context.conf.control_socket
        try:
            made = listening(path)
        except OSError as error:
            self._retry = now + RETRY_SECONDS
            text = "cannot create the socket, so this node's own commands use TCP"
            listen = f"{context.conf.primary}:{context.conf.tcp_port}"
            values = {"socket": path, "error": process.in_words(error), "listen": listen}
            context.say_once("SOCKET-FAILED", "config", text, **values)
            return False
        self.close()
        self.socket, self._identity = made, identity(path)
        text = "this node's own commands are served there again"
        context.say_over("SOCKET-OK", "config", text, socket=path)
        return True

    def keep(self, now: float) -> bool:
        """Make it again if it is gone. Whether it is another one now."""
        found = identity(self._context.conf.control_socket)
        is_there = found is not None and found == self._identity
        return not is_there and now >= self._retry and self.open(now)

    def close(self) -> None:
        """Take it away, but not one that is another's by now."""
        if self.socket is None:
            return
        path = self._context.conf.control_socket
        if identity(path) == self._identity:
            with contextlib.suppress(OSError):  # the file system may be read-only by now
                os.unlink(path)
        self.socket.close()
        self.socket = self._identity = None


def listening(path: str) -> socket.socket:
    """A new socket of that name, for root alone. Raises OSError."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        with short(path) as name:
            make_room(path, name)
            os.fchmod(made.fileno(), 0o600)  # before bind: it is never open to others
            made.bind(name)
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    return made


def make_room(path: str, name: str) -> None:
    """Remove what a dead failoverd has left. Raises OSError if it is anything else."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError("something else has that name")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        wrong = probe.connect_ex(name)
    if wrong in (0, errno.EAGAIN):
        raise OSError("another program is listening on it")
    if wrong != errno.ECONNREFUSED:
        raise OSError(wrong, os.strerror(wrong))
    os.unlink(path)


@contextlib.contextmanager
def short(path: str) -> Iterator[str]:
    """The path, or another way to the same if it is longer than the kernel takes."""
    if len(os.fsencode(path)) <= LONGEST_NAME:
        yield path
        return
    folder, name = os.path.split(path)
    number = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{number}/{name}"
    finally:
        os.close(number)


def identity(path: str) -> tuple[int, int] | None:
    """What tells it from another that has its name; None if nothing has."""
    try:
        info = os.lstat(path)
    except OSError:
        return None
    return info.st_dev, info.st_ino
