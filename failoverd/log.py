"""The log: one line per event of `events`; no line repeats without end.

A disk may hang for ever. So failoverd's lines go into a pipe, which a child empties: `log_writer`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import select
import stat
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TextIO

from failoverd.events import ALONE, ENDS, EVENTS, Level

MOST = 500  # lines that nothing suppresses, of one kind in an hour: a liar must not fill the disk
MOST_TOLD = 3  # of many things of one kind, in one line
OFTEN = 5  # times that a line comes at once before it counts as a repetition
_GAP = 60.0  # seconds until one more of them is written
_HOUR = 3600.0
_REMEMBERED = 256
_PIPE_SIZE = 1 << 20  # bytes: some ten thousand lines can wait
_PLAIN = re.compile(r'[^\s"\\]+')  # a value that needs no quotes


@dataclass
class Allowance:
    """So much of something a second, and `most` at once after a rest."""

    rate: float
    most: float
    used: float = 0.0
    since: float = 0.0

    def take(self, amount: float, now: float) -> bool:
        """Whether this much more is allowed now."""
        self.used = max(0.0, self.used - (now - self.since) * self.rate)
        self.since = now
        if self.used + amount > self.most:
            return False
        self.used += amount
        return True


@dataclass
class _Said:
    """A line that was written: how often it may come, and how often in spite of that."""

    usual: Allowance = field(default_factory=lambda: Allowance(1 / _GAP, OFTEN))
    kept: Allowance = field(default_factory=lambda: Allowance(MOST / _HOUR, MOST))
    skipped: int = 0


class Log:
    """Appends lines to a file, and to a terminal as well while in the foreground.

    A full disk, one that hangs, or a terminal that was stopped loses lines, never the daemon.
    Raises OSError only when it is opened.
    """

    def __init__(self, path: str, terminal: TextIO | None = None) -> None:
        self._terminal = -1 if terminal is None else _unwaiting(terminal)
        self._is_cut = False  # the last line on it
        self._in_journal = terminal is not None and is_journal(terminal)
        self._said: dict[tuple[str, str, str], _Said] = {}
        # Problems that last, by event and subject: whether they were written, or left out as above.
        self._problems: dict[tuple[str, str], bool] = {}
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
        self,
        event: str,
        subject: str,
        sentence: str,
        values: Mapping[str, object],
        *,
        program: str = "failoverd",
        pid: int = 0,
    ) -> str:
        """Write one line, and return what of it comes after the event. "" if the same event of the
        same subject was there a short while ago, whatever its values; but an ERR, an outcome, and
        the end of a problem that was written are written all the same, up to MOST times."""
        key, known = (event, subject, sentence), EVENTS[event]
        said = self._said.pop(key, _Said())
        self._said[key] = said
        if len(self._said) > _REMEMBERED:
            del self._said[next(iter(self._said))]
        ended = [self._problems.pop(problem) for problem in self._ended(event, subject)]
        wanted = known.kept or known.level is Level.ERR or any(ended)
        if known.ended_by:
            self._problems.setdefault((event, subject), False)
        now = time.monotonic()
        if not (said.usual.take(1, now) or (wanted and said.kept.take(1, now))):
            said.skipped += 1
            return ""
        if known.ended_by:
            self._problems[event, subject] = True
        if said.skipped:
            values = {**values, "suppressed": said.skipped}
            said.skipped = 0
        message = f"{subject}: {sentence}{tail(values)}"
        self._emit(
            known.level, program, pid or os.getpid(), f"{known.level.name} {event} {message}"
        )
        return printable(message)

    def ends(self, event: str, subject: str) -> bool:
        """Whether this ends a problem that was written, an ERR or a WARNING."""
        ended = [one for one in self._ended(event, subject) if self._problems[one]]
        return any(EVENTS[problem].level <= Level.WARNING for problem, _ in ended)

    def lasts(self, event: str, subject: str) -> bool:
        """Whether there was this problem, or one that is ended by this event, and is not over."""
        return (event, subject) in self._problems or bool(self._ended(event, subject))

    def _ended(self, event: str, subject: str) -> list[tuple[str, str]]:
        """What is over with the role or the config is over whatever it was about."""
        ends, every = ENDS.get(event, ()), subject in ALONE
        return [one for one in self._problems if one[0] in ends and (every or one[1] == subject)]

    def _emit(self, level: Level, program: str, pid: int, text: str) -> None:
        text = printable(f"{program}[{pid}]: {text}")
        line = f"{timestamp()} {text}\n"
        self._append(line.encode(errors="backslashreplace"))
        if self._in_journal:
            line = f"<{level}>{text.removeprefix(f'{program}[{os.getpid()}]: ')}\n"
        if self._terminal >= 0:
            self._show(line.encode(errors="backslashreplace"))

    def _show(self, line: bytes) -> None:
        """On the terminal, if it takes anything."""
        line = b"\n" + line if self._is_cut else line
        try:
            if select.select([], [self._terminal], [], 0)[1]:
                self._is_cut = os.write(self._terminal, line) < len(line)
        except BlockingIOError:
            pass
        except OSError:  # it is gone
            os.close(self._terminal)
            self._terminal = -1

    def _append(self, line: bytes) -> None:
        """A full disk, or a pipe that nobody empties, must not end the watch."""
        if self._lost:
            line = lost(self._lost, "the disk hangs, or is too slow") + line
        try:
            whole = os.write(self._fd, line) == len(line)
        except OSError:
            whole = False
        self._lost = 0 if whole or self.pipe < 0 else self._lost + 1

    def close(self) -> None:
        for fd in {self._fd, self.pipe, self._terminal} - {-1}:
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


def _unwaiting(stream: TextIO) -> int:
    """A descriptor of its own, where that is possible one on which no write waits for who reads
    (the stream's is shared with others, who may rely on waiting). A file would be overwritten by
    it, and does not wait."""
    number = stream.fileno()
    mode = os.fstat(number).st_mode
    if stat.S_ISCHR(mode) or stat.S_ISFIFO(mode):
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        with contextlib.suppress(OSError):  # it may be another user's
            return os.open(f"/proc/self/fd/{number}", flags)
    return os.dup(number)


def lost(count: int, why: str) -> bytes:
    """What is said in the place of lines that could not be written; there may be half a one."""
    text = f"WARNING LOG-LOST worker log: lines lost{tail({'count': count, 'error': why})}"
    return f"\n{timestamp()} failoverd[{os.getpid()}]: {text}\n".encode()


def tail(values: Mapping[str, object]) -> str:
    """What stands behind a sentence. What is None or "" is left out."""
    told = [f"{key}={quoted(str(v))}" for key, v in values.items() if v not in (None, "")]
    return f"; {' '.join(told)}" if told else ""


def quoted(value: str) -> str:
    """As it is, or in double quotes if it could not be read back else."""
    if _PLAIN.fullmatch(value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def told_shortly(things: Sequence[str], most: int = MOST_TOLD) -> str:
    """The first of them, and how many more there are."""
    more = len(things) - most
    return "; ".join(things[:most]) + (f"; and {more} more" if more > 0 else "")


def lasting(seconds: float) -> str:
    """A duration as a value: 4ms, 3.02s, 250s."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    return f"{seconds:.2f}s" if seconds < 100 else f"{seconds:.0f}s"


def printable(text: str, instead: str = "?") -> str:
    """On one line, and harmless on a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else instead for c in text)


def is_journal(stream: TextIO) -> bool:
    """Whether systemd's journal reads it, which knows the time and who writes: systemd.exec(5)."""
    info = os.fstat(stream.fileno())
    return os.environ.get("JOURNAL_STREAM") == f"{info.st_dev}:{info.st_ino}"


def timestamp() -> str:
    """Local time with its offset from UTC and milliseconds."""
    return datetime.now().astimezone().isoformat(timespec="milliseconds")


def utc_now() -> str:
    """Wall clock for people: UTC, ISO 8601, milliseconds."""
    return f"{datetime.now(UTC).isoformat(timespec='milliseconds').removesuffix('+00:00')}Z"


def complain(program: str, message: str) -> None:
    """An error for the person who typed the command."""
    for line in message.splitlines():
        print(f"{program}: {line}", file=sys.stderr)
