"""What the client of a service sees when that dies, system beside system: the row about checks.

The service is a process that echoes. failoverd finds its end in two ways: by watching the process
and by a program that it runs every second; keepalived by such a program, as its track_process needs
the kernel's process events, which no namespace has. The fault comes at the same moments between two
runs for all, or the moments would be what is compared.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from dev.lab.bench import service
from dev.lab.bench.outages import CALM, LIMIT, PROBE, Sample, await_calm, measured, told
from dev.lab.bench.report import Line
from dev.lab.bench.systems import Failoverd, Keepalived, System
from dev.lab.network import SERVICE, Lab
from dev.lab.node import Node
from dev.lab.spaces import LabError

if TYPE_CHECKING:
    from dev.lab.bench.plan import Bench

PORT = 7007
INTERVAL = 1.0  # seconds; keepalived knows no shorter one
# It tells when it ran, and looks for the process without a right over it.
PROGRAM = (
    '#!/bin/sh\necho >>FOLDER/ran\nread pid <FOLDER/web.pid && test -d "/proc/$pid" || exit 2\n'
)
SCRIPT = """vrrp_script web {
    script FOLDER/check
    interval 1
    timeout 1
    fall 1
    rise 1
    user root
}"""


def start_service(node: Node) -> None:
    program = str(Path(service.__file__).resolve())
    node.write("ran", "", 0o666)
    node.write("check", PROGRAM.replace("FOLDER", node.folder), 0o755)
    pidfile = f"{node.folder}/web.pid"
    node.popen(sys.executable, "-I", program, SERVICE, str(PORT), pidfile)
    node.lab.wait_until(lambda: node.read("web.pid"), "the service runs")


def await_run(node: Node) -> None:
    """Wait until the check begins to run."""
    before = node.read("ran")
    node.lab.wait_until(lambda: node.read("ran") != before, "the check runs", LIMIT, 0.002)


def suffer(system: System, phase: float) -> Sample:
    """The active node's service is killed, so many seconds after its program has run, if any."""
    with Lab() as lab:
        for node in lab.nodes:
            start_service(node)
        system.start(lab)
        lab.client.start_probing(interval=PROBE, port=PORT)
        lab.wait_until(lab.client.answering, "the client is answered", LIMIT)
        time.sleep(CALM + INTERVAL)
        if lab.a.read("ran"):
            await_run(lab.a)
        time.sleep(phase)
        since = time.monotonic()
        lab.a.check("kill", "-9", lab.a.read("web.pid").strip())
        return Sample(measured(lab, since, LIMIT), lab.holders())


def systems(bench: Bench, by: str) -> list[System]:
    checks = {"process": "web 1 pidfile:FOLDER/web.pid", "program": "web 1 FOLDER/check"}
    settings = {**bench.fastest, "check_fall": 1, "check_rise": 1, "check_timeout": 1}
    found: list[System] = [Failoverd(settings, checks=(checks[by],))]
    if bench.has("keepalived"):
        inside = "track_script {\n web\n }"
        found.append(Keepalived(before=SCRIPT, inside=inside))
    return found


def checks_row(bench: Bench) -> list[Line]:
    lines: list[Line] = []
    for by in ("process", "program"):
        what = f"killed, by {by}"
        found: dict[str, list[Sample]] = {}
        for number in range(bench.runs):
            pair: dict[str, Sample] = {}
            rivals = systems(bench, by)
            for system in rivals:
                bench.progress(f"{what}: {system.name} {number + 1} of {bench.runs}")
                await_calm(bench)
                phase = INTERVAL * (number + 0.5) / bench.runs
                try:
                    pair[system.name] = suffer(system, phase)
                except (LabError, OSError) as error:
                    bench.fail(f"{what}: {system.name}: {error}")
            if len(pair) == len(rivals):  # or else one has moments that the other has not
                for name, sample in pair.items():
                    found.setdefault(name, []).append(sample)
                    bench.keep(what, name, sample.outage)
        if not found:
            raise LabError(f"{what}: no run has succeeded")
        lines += told(bench, what, found, (1.0, 1.0))
    return lines
