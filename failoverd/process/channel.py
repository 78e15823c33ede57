"""The channel between failoverd and a worker: one JSON object a packet or a line.

A SOCK_SEQPACKET pair, so a message arrives whole or not at all; a pipe for another's program.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
from collections.abc import Callable, Mapping

from failoverd.log import printable

MAX_MESSAGE = 64 * 1024  # bytes
MAX_FIRST = 200  # bytes of its first line that are kept
MAX_BURST = 64  # messages that are read at once
LEAST_WEIGHT = 1024  # bytes that the shortest message counts for
LEAST_PATIENCE = 2.0  # seconds; a shorter silence of a worker may be a busy host

Message = dict[str, object]


def logged(event: str, subject: str, sentence: str, **values: object) -> Message:
    """What a worker has failoverd write to the log."""
    told = {key: str(value) for key, value in values.items()}
    return {"event": "log", "name": event, "subject": subject, "sentence": sentence, "values": told}


class Troubles:
    """Has each trouble of a worker's logged once, until it is another, and its end."""

    def __init__(self, subject: str, say: Callable[[Message], object]) -> None:
        self._subject, self._say = subject, say
        self._known: dict[str, str] = {}  # by event

    def note(self, why: str, failed: str, what: str, works: str, again: str) -> None:
        """why: "" if nothing is wrong. The rest: the event and sentence of that, and of its end."""
        if self._known.get(failed, "") != why:
            self._known[failed] = why
            event, sentence = (failed, what) if why else (works, again)
            self._say(logged(event, self._subject, sentence, **({"error": why} if why else {})))


def patience(window: float) -> float:
    """Seconds without a word after which a worker is replaced: two of the heartbeat's windows."""
    return max(LEAST_PATIENCE, 2 * window)


def report_interval(window: float) -> float:
    """How often a worker that has nothing to say says that it lives, in seconds."""
    return patience(window) / 4


class ChannelClosed(Exception):
    """The process at the other end is gone."""


class Channel:
    """One end of the pair between failoverd and a worker. Neither end ever blocks.

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
        """The messages that are there now, but not so many that a flood holds failoverd up.

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
            if not data:
                if number == 0:
                    raise ChannelClosed
                break
            parts = self._split(data)
            self.volume += max(len(data), LEAST_WEIGHT * len(parts))
            messages += [m for m in map(parse_message, parts) if m is not None]
        return messages

    def _read(self) -> bytes:
        """Nothing if the other end is gone, also if it did not read all that was sent."""
        try:
            return os.read(self.fileno(), self.chunk)
        except ConnectionError:
            return b""

    def _split(self, data: bytes) -> list[bytes]:
        return [data]

    def finish(self) -> bool:
        """Let the other end read what was sent, and then that this one is gone. False if it cannot
        know that."""
        if isinstance(self._socket, socket.socket):
            with contextlib.suppress(OSError):  # it is gone first
                self._socket.shutdown(socket.SHUT_WR)
        return isinstance(self._socket, socket.socket)

    def printed(self) -> str:
        """What another's program has printed first, to go on with a sentence about its end."""
        return ""

    def close(self) -> None:
        self._socket.close()


class LineChannel(Channel):
    """The reading end of a pipe on which a program prints one JSON object a line."""

    chunk = 4 * 1024

    def __init__(self, fd: int) -> None:
        super().__init__(io.FileIO(fd))
        self._buffer = b""
        self._beginning = b""

    def _split(self, data: bytes) -> list[bytes]:
        self._beginning = (self._beginning + data).lstrip()[:MAX_FIRST]
        *lines, rest = (self._buffer + data).split(b"\n")
        self._buffer = rest[: MAX_MESSAGE + 1]  # of a line that is too long: enough to leave it out
        return [line if len(line) <= MAX_MESSAGE else b"" for line in lines]

    def printed(self) -> str:
        first = printable(self._beginning.partition(b"\n")[0].decode(errors="replace")).strip()
        return f"; it printed: {first}" if first else "; it printed nothing"


def parse_message(data: bytes) -> Message | None:
    """The JSON object in data, None if it is anything else."""
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None
