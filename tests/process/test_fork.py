"""A worker inherits the parent's memory, but not its descriptors."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys

from dev.lab.spaces import ROOT
from failoverd import process
from failoverd.process import Channel

COUNT = 50


class Cycle:
    """Garbage that only the collector finds, and that holds a descriptor."""

    def __init__(self) -> None:
        self.itself = self
        self.sockets = [socket.socket() for _ in range(COUNT)]


def test_what_the_parent_has_not_collected_closes_nothing_of_a_worker() -> None:
    """Its objects are there, too, and know numbers by which the worker has other things open."""

    def work(channel: Channel) -> None:
        mine = [os.open("/dev/null", os.O_RDONLY) for _ in range(2 * COUNT)]
        gc.collect()
        for number in mine:
            os.fstat(number)
        channel.send({"event": "ready"})

    gc.collect()
    gc.disable()
    try:
        Cycle()
        child = process.fork_child("test", work)
    finally:
        gc.enable()
    assert child.reap() == 0


def test_why_the_output_cannot_be_written() -> None:
    code = "from failoverd.process import flush_output; print(1); exit(flush_output())"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={},  # where the output may be unbuffered
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "No space left on device\n")
