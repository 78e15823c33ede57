"""The log: one line per event, local time with milliseconds; no line repeats without end.

A disk may hang for ever. So failoverd's lines go into a pipe, which `scribe` empties in a child.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import re
import select
import stat
import sys
import time
from dataclasses import dataclass
from typing import TextIO

_FIRST_GAP = 60.0  # seconds in which a line that was just written is not written again
_LONGEST_GAP = 3600.0
_REMEMBERED = 256
_PIPE_SIZE = 1 << 20  # bytes: some ten thousand lines can wait
_DURATIONS = re.compile(r"\d+\.\d+(?= s\b)")


@dataclass
class _Said:
    """A line that was written: how often more it may come at once, and when it may come again."""

    free: int = 0
    gap: float = _FIRST_GAP
    due: float = 0.0
    forgotten: float = 0.0
    skipped: int = 0


class Log:
    """Appends lines to a file, and to a terminal as well while in the foreground.

    A full disk, one that hangs, or a terminal that was stopped loses lines, never the daemon.
    Raises OSError only when it is opened.
    """

    def __init__(self, path: str, terminal: TextIO | None = None) -> None:
        self._terminal = terminal
        self._in_journal = terminal is not None and is_journal(terminal)
        self._said: dict[tuple[str, str], _Said] = {}
        self._fd = open_file(path)
        self.pipe = -1  # what a child reads, if lines go through one
        self._lost = 0

    def fileno(self) -> int:
        """The open file, for whoever has to keep it open over a detach."""
        return self._fd

    def use_pipe(self) -> None:
        """From now on put lines into `pipe`, and let go of the file: to close one may take as long
        as to write it, and every child that is forked does that. Raises OSError."""
        file = self._fd
        self.pipe, self._fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        os.close(file)
        with contextlib.suppress(OSError):  # a smaller one will do
            fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)

    def write(
        self, program: str, message: str, *, pid: int = 0, interface: str = "", free: int = 0
    ) -> bool:
        """Write one line. False if the same line, but for durations, was there a short while ago.

        free: how many repetitions are written before they count as that.
        """
        now = time.monotonic()
        key = (interface, _DURATIONS.sub("#", message))
        said = self._said.pop(key, _Said())
        self._said[key] = said
        if now >= said.forgotten:
            said.free, said.gap, said.due = free, _FIRST_GAP, 0.0
        said.forgotten = now + _LONGEST_GAP
        if now < said.due and said.free <= 0:
            said.skipped += 1
            return False
        said.free -= 1
        said.due = now + said.gap
        if said.free < 0:
            said.gap = min(said.gap * 2, _LONGEST_GAP / 2)
        if len(self._said) > _REMEMBERED:
            del self._said[next(iter(self._said))]
        if said.skipped:
            message += f" ({said.skipped} more times meanwhile)"
            said.skipped = 0
        self._emit(program, message, pid or os.getpid(), interface)
        return True

    def event(self, program: str, message: str, *, pid: int, interface: str = "") -> None:
        """Write one line whatever was written before: for what happens anew each time."""
        self._emit(program, message, pid, interface)

    def _emit(self, program: str, message: str, pid: int, interface: str) -> None:
        where = f"{interface}: " if interface else ""
        text = printable(f"{program}[{pid}] {where}{message}")
        line = f"{timestamp()} {text}\n"
        self._append(line.encode(errors="backslashreplace"))
        if self._in_journal:
            line = text.removeprefix(f"failoverd[{os.getpid()}] ") + "\n"
        if self._terminal is not None:
            try:
                if takes_more(self._terminal):
                    self._terminal.write(line)
                    self._terminal.flush()
            except (OSError, ValueError):
                self._terminal = None  # the terminal is gone

    def _append(self, line: bytes) -> None:
        """A full disk, or a pipe that nobody empties, must not end the watch."""
        if self._lost:
            line = lost(self._lost, "the disk hangs, or is slower than we are") + line
        try:
            whole = os.write(self._fd, line) == len(line)
        except OSError:
            whole = False
        self._lost = 0 if whole or self.pipe < 0 else self._lost + 1

    def close(self) -> None:
        for fd in {self._fd, self.pipe} - {-1}:
            os.close(fd)


def open_file(path: str) -> int:
    """The log's file, to append to; never through a link that others planted. Raises OSError."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY
    fd = os.open(path, flags | os.O_NONBLOCK, 0o640)  # it may be a fifo, or a terminal
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        return fd
    if info.st_nlink > 1:
        os.close(fd)
        raise OSError(errno.EMLINK, "it has another name too (a hard link): remove one of them")
    if info.st_mode & 0o022 and info.st_uid == os.geteuid():
        os.fchmod(fd, stat.S_IMODE(info.st_mode) & ~0o022)  # what it tells, nobody else may forge
    return fd


def lost(count: int, why: str) -> bytes:
    """What is said in the place of lines that could not be written; there may be half a one."""
    return f"\n{timestamp()} failoverd[{os.getpid()}] {count} lines lost: {why}\n".encode()


def printable(text: str) -> str:
    """On one line, and harmless on a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def is_journal(stream: TextIO) -> bool:
    """Whether systemd's journal reads it, which knows the time and who we are: systemd.exec(5)."""
    try:
        info = os.fstat(stream.fileno())
    except io.UnsupportedOperation:
        return False  # it is no file
    return os.environ.get("JOURNAL_STREAM") == f"{info.st_dev}:{info.st_ino}"


def takes_more(stream: TextIO) -> bool:
    """Whether a line can be written without waiting for whoever reads: we have no time for that."""
    try:
        return bool(select.select([], [stream.fileno()], [], 0)[1])
    except io.UnsupportedOperation:
        return True  # it is no file


def timestamp() -> str:
    """Local time with milliseconds."""
    now = time.time()
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now)) + f".{int(now * 1000) % 1000:03}"


def utc_now() -> str:
    """Wall clock for people: UTC, ISO 8601, milliseconds."""
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03}Z"


def complain(program: str, message: str) -> None:
    """One error for the person who typed the command."""
    print(f"{program}: {message}", file=sys.stderr)
