"""A worker inherits the parent's memory, but not its descriptors."""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import subprocess
import sys

from dev.lab.spaces import ROOT
from failoverd import process
from failoverd.process import Channel

COUNT = 50
LIMIT = 30.0  # seconds


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


def test_what_is_asked_of_failoverd_by_name_ends_no_worker() -> None:
    """`pkill -HUP failoverd` reaches every process that is called so."""

    def work(channel: Channel) -> None:
        channel.send({"event": "ready"})
        select.select([channel], [], [], LIMIT)
        channel.send({"event": "alive", "told": channel.receive()})

    def next_message() -> process.Message:
        assert select.select([child.channel], [], [], LIMIT)[0]
        return child.channel.receive()[0]

    child = process.fork_child("test", work)
    try:
        assert next_message() == {"event": "ready"}
        for number in (signal.SIGHUP, signal.SIGUSR1):
            os.kill(child.pid, number)
        child.channel.send({"do": "go on"})
        assert next_message() == {"event": "alive", "told": [{"do": "go on"}]}
    finally:
        child.kill()
        child.reap()


def test_a_program_ends_by_what_its_worker_ignores() -> None:
    argv = ["/bin/sh", "-c", "kill -HUP $$; echo lives"]
    child = process.start_program(argv, "root")
    assert child.ends(LIMIT) and child.reap() == -signal.SIGHUP
