"""The story's real stage: the lab, with a real failoverd on each node."""

from __future__ import annotations

import time
from collections.abc import Callable

from dev.lab import logs
from dev.lab.network import Lab
from dev.lab.node import Node
from dev.lab.record import Record
from dev.lab.spaces import LabError, Process
from dev.lab.story import SETTINGS, Line

LIMIT = 60.0  # seconds that one event of the story may take at most


class LabStage:
    """Implements dev.lab.story.Stage."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._nodes = {node.name: node for node in lab.nodes}
        self._running: dict[str, Process] = {}
        for node in lab.nodes:
            node.write_conf(**SETTINGS)
        lab.client.start_probing()

    def now(self) -> float:
        return time.monotonic()

    def start(self, name: str) -> None:
        self._running[name] = self._nodes[name].start_failoverd()

    def power_cut(self, name: str) -> None:
        del self._running[name]
        self._nodes[name].power_cut()

    def power_on(self, name: str) -> None:
        self._nodes[name].power_on()
        self.start(name)

    def kill_port(self, name: str) -> None:
        self._nodes[name].kill_port("eth0")

    def holders(self) -> list[str]:
        return self._lab.holders()

    def role(self, name: str) -> str:
        return self._nodes[name].role() if name in self._running else ""

    def log(self, name: str) -> list[Line]:
        return parse_log(self._nodes[name])

    @property
    def record(self) -> Record:
        return self._lab.client.record

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        self._lab.wait_until(lambda: self._alive() and condition(), what, LIMIT, every=0.05)

    def _alive(self) -> bool:
        """Raises LabError if a failoverd has ended by itself."""
        for name, process in self._running.items():
            if process.poll() is not None:
                tails = self._lab.tails()
                raise LabError(f"failoverd on {name} ended with {process.poll()}\n{tails}")
        return True


def parse_log(node: Node) -> list[Line]:
    """The log's lines with monotonic times, and without the node's folder."""
    offset = time.monotonic() - time.time()
    return [
        Line(line.at + offset, str(line).replace(f"{node.folder}/", ""), line.event)
        for line in logs.lines(node.log())
    ]
