"""Other cluster software on the heartbeat link, and watchd as its sensor: a row of the benchmark.

Each system has the service address on a. When a's port dies its carrier stays up and its
adverts go on, so only a sensor can tell.
"""

from __future__ import annotations

import random
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from dev.lab.bench.outages import CALM, PROBE, await_calm, dead_port
from dev.lab.bench.report import Line, at_most
from dev.lab.bench.systems import START_LIMIT, System
from dev.lab.network import Lab
from dev.lab.node import PLIP, Node
from dev.lab.spaces import ROOT, LabError, Process

if TYPE_CHECKING:
    from dev.lab.bench.plan import Bench

EXAMPLE = ROOT / "examples" / "keepalived"
WINDOW = 0.1  # seconds
ADVERT = 0.05
NEVER = 5.0  # seconds after which an answer is not waited for any more
GOAL = 0.5
_PROCESS = re.compile(r"(?ms)^ *(?:vrrp_)?track_process .*?^ *\}\n")  # no namespace knows of any
_FILE = re.compile(r"(?ms)^    track_file \{.*?^    \}\n")


@dataclass
class SensedKeepalived:
    """As examples/keepalived has it. window: the sensor's; 0 for none, and nothing tracked.
    advert: seconds between two adverts, of which the other node may miss three."""

    window: float = WINDOW
    name: str = "keepalived + watchd"
    advert: float = ADVERT
    processes: dict[str, Process] = field(default_factory=dict)
    sensors: dict[str, Process] = field(default_factory=dict)

    def start(self, lab: Lab) -> None:
        for node in lab.nodes:
            (node.outside / "watchd").mkdir(exist_ok=True)
            if self.window:
                self.sensors[node.name] = self.start_sensor(node)
        for node in lab.nodes:
            self.processes[node.name] = self.start_one(node)
        lab.wait_until(lambda: lab.holders() == ["a"], "a alone has the address", START_LIMIT, 0.2)
        time.sleep(1.0)  # both may have had it for a moment
        lab.wait_until(lambda: lab.holders() == ["a"], "a alone has the address", START_LIMIT, 0.2)

    def start_one(self, node: Node) -> Process:
        text = _PROCESS.sub("", (EXAMPLE / "keepalived.conf").read_text())
        if node is node.lab.b:
            text = text.replace("node-a", "node-b").replace("priority 100", "priority 90")
        text = re.sub(r"(?m)^( *advert_int) .*", rf"\1 {self.advert:g}", text)
        text = text.replace("eth1", PLIP).replace("/run/watchd", f"{node.folder}/watchd")
        conf = node.write("keepalived.conf", text if self.window else _FILE.sub("", text))
        pids = ("-p", f"{node.folder}/keepalived.pid", "-r", f"{node.folder}/vrrp.pid")
        with (node.outside / "terminal").open("ab") as terminal:
            return node.popen(
                "keepalived", "-n", "-l", "-P", "-f", conf, *pids, stdout=terminal, stderr=terminal
            )

    def start_sensor(self, node: Node) -> Process:
        """What the unit would start."""
        (told,) = re.findall('(?m)^OPTIONS="(.*)"$', (EXAMPLE / "watchd-eth0").read_text())
        options = told.replace("/run/watchd", f"{node.folder}/watchd")
        options = re.sub(r"--timer \S+", f"--timer {self.window:g}", options)
        launch = (sys.executable, "-I", str(ROOT / "dev" / "launch.py"), "watchd")
        more = ("--user", node.lab.user, "eth0")
        with (node.outside / "terminal").open("ab") as terminal:
            return node.popen(*launch, *options.split(), *more, stderr=terminal)

    def stop(self, lab: Lab) -> None:
        self.processes["a"].terminate()


def time_to_answer(system: System, limit: float = NEVER) -> float:
    """From the moment at which a's port dies to the client's next answer; inf if there is
    none within the limit."""
    with Lab() as lab:
        system.start(lab)
        lab.client.start_probing(interval=PROBE)
        lab.wait_until(lab.client.answering, "the client is answered", START_LIMIT)
        time.sleep(CALM + random.random() * WINDOW)  # at any moment of a window
        dead_port(system, lab)
        since = time.monotonic()
        while time.monotonic() < since + limit:
            answers = [at for at in lab.client.record.replies if at > since]
            if answers:
                return answers[0] - since
            time.sleep(0.02)
    return float("inf")


def taken(bench: Bench, system: System, runs: int) -> list[float]:
    found = []
    for number in range(runs):
        bench.progress(f"sensor: {system.name} {number + 1} of {runs}")
        await_calm(bench)
        try:
            found.append(time_to_answer(system))
        except (LabError, OSError) as error:
            bench.fail(f"sensor: {system.name}: {error}")
            continue
        bench.keep("sensor", system.name, found[-1])
    return found


def sensor_row(bench: Bench) -> list[Line]:
    """keepalived alone, which never notices, and with the file."""
    if not bench.has("keepalived"):
        raise LabError("keepalived is not installed: apt-get install keepalived")
    ours = taken(bench, SensedKeepalived(), bench.runs)
    alone = taken(bench, SensedKeepalived(0.0, "keepalived"), min(3, bench.runs))
    return told(ours, alone)


def told(ours: Sequence[float], alone: Sequence[float]) -> list[Line]:
    lines = []
    if ours:
        middle = at_most("keepalived + watchd, median", "s", median(ours), GOAL)
        lines += [middle, at_most("keepalived + watchd, worst", "s", max(ours), GOAL)]
    if alone:
        answered = sum(1 for each in alone if each < NEVER)
        what = f"keepalived alone, in {NEVER:g} s"
        lines.append(Line(what, "runs", answered, target="0", met=answered == 0))
    return lines
