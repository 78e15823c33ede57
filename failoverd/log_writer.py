"""The worker that writes the log's lines to the file, so that no disk holds up failoverd.

The lines wait in a pipe, which outlives this worker: the next one goes on, with the file that has
the log's name by then. When failoverd is gone, however that came, it writes the rest and ends.
"""

from __future__ import annotations

import os
import select
import signal
import time

from failoverd import log, process
from failoverd.process import Channel, ChannelClosed

_CHUNK = 64 * 1024  # bytes


def run(channel: Channel, pipe: int, path: str, user: str, silence: float) -> None:
    """The worker. It reports every `silence` seconds, and ends when it is told to retire.

    Raises OSError if the file cannot be opened.
    """
    writer = Writer(pipe, log.open_file(path))
    process.give_up_root(user)
    process.outlive_parent()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the next failoverd gives it time to finish
    channel.send({"event": "ready"})
    sources: list[Channel | int] = [channel, pipe]
    due = 0.0
    try:
        while True:
            if time.monotonic() >= due:
                channel.send({"event": "alive"})
                due = time.monotonic() + silence
            select.select(sources, [], [], max(0.0, due - time.monotonic()))
            messages = channel.receive()
            while writer.write_some():
                pass
            if {"do": "retire"} in messages:
                return
    except ChannelClosed:
        os.set_blocking(pipe, True)
        while writer.write_some():
            pass


class Writer:
    """From a pipe to a file. Lines that the disk does not take are counted, and lost."""

    def __init__(self, pipe: int, file: int) -> None:
        self._pipe = pipe
        self._file = file
        self._lost = 0
        self._why = ""

    def write_some(self) -> bool:
        """Write what is in the pipe. False if there is nothing."""
        try:
            data = os.read(self._pipe, _CHUNK)
        except BlockingIOError:
            return False
        note = log.lost(self._lost, self._why) if self._lost else b""
        try:
            written = os.write(self._file, note + data)
        except OSError as error:
            self._why = error.strerror or str(error)
            written = 0
        if written >= len(note):
            self._lost = 0
        self._lost += data[max(0, written - len(note)) :].count(b"\n")
        return bool(data)
