"""Processes that a test starts: waiting for those of a command, and what a child raises."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path

from failoverd import process


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def try_in_child(name: str, run: Callable[[process.Channel], None], seconds: float) -> str:
    """What run raises when a child executes it, as a sentence; "" if nothing."""

    child = process.fork_child(name, run)
    why = ""
    try:
        while select.select([child.channel], [], [], seconds)[0]:
            for message in child.channel.receive():
                why = str(message["message"]) if message["event"] == "died" else why
        os.kill(child.pid, signal.SIGKILL)
        return f"it did not end within {seconds:g} s"
    except process.ChannelClosed:
        return why
    finally:
        child.channel.close()
        os.waitpid(child.pid, 0)
