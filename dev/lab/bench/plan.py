"""Which rows there are, how long each takes, and what is kept of each for the table."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from dev.lab.bench import checks, outages, sensed, weights
from dev.lab.bench.report import Bar, Line, Panel
from dev.lab.bench.systems import FASTEST, installed
from dev.lab.node import Value

PANELS = {"outage": ("Outage that the client sees, median", "ms"),
          "growth": ("The same, by the number of addresses", "ms"),
          "busy": ("The same, by the number of addresses, every core busy", "ms"),
          "cpu": ("CPU for a million packets, median", "ms")}  # fmt: skip


@dataclass
class Bench:
    """How much is measured, and what came out. Times are seconds."""

    runs: int = 20
    load_seconds: float = 30.0
    calm_seconds: float = 10.0  # how long each run waits at most for a host that is idle
    slow_labs: int = 5
    heavy_runs: int = 3
    flood_seconds: float = 6.0
    pace_runs: int = 5
    pace_seconds: float = 2.0
    idle_seconds: float = 20.0
    start_runs: int = 10
    capture_packets: int = 5_000_000
    fastest: Mapping[str, Value] = field(default_factory=lambda: dict(FASTEST))
    alone: bool = False  # without the rivals
    refusals: int = 0  # of ha-fail
    failed: bool = False
    figures: list[tuple[str, str, float]] = field(default_factory=list)
    bars: dict[str, list[Bar]] = field(default_factory=dict)

    def progress(self, text: str) -> None:
        """What is going on, for a person at a terminal."""
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()

    def fail(self, text: str) -> None:
        """A run that came to nothing. What it says may be long: the ends of both logs."""
        self.progress("")
        print(f"bench: {text}", file=sys.stderr)
        self.failed = True

    def has(self, program: str) -> bool:
        """Whether a rival is here, and wanted."""
        return not self.alone and installed(program)

    def keep(self, what: str, who: str, value: float) -> None:
        """Every single figure, for --figures."""
        self.figures.append((what, who, value))

    def bar(self, panel: str, label: str, seconds: Sequence[float], ours: bool) -> None:
        """A bar of the picture, in milliseconds."""
        if seconds:
            self.bars.setdefault(panel, []).append(Bar(label, median(seconds) * 1000, ours))

    def panels(self) -> list[Panel]:
        return [Panel(*PANELS[name], bars) for name, bars in self.bars.items()]


def quick() -> Bench:
    """Only to see that all works: the figures are worth little."""
    return Bench(
        runs=2,
        load_seconds=4.0,
        calm_seconds=0.0,
        slow_labs=0,
        heavy_runs=1,
        flood_seconds=1.0,
        pace_runs=2,
        pace_seconds=0.5,
        idle_seconds=2.0,
        start_runs=2,
        capture_packets=200_000,
    )


@dataclass(frozen=True)
class Row:
    """One measurement. It may give several lines of the table."""

    name: str
    title: str
    measure: Callable[[Bench], list[Line]]


ROWS = (
    Row("power", "Outage, the power of the active node is cut", outages.power_row),
    Row("planned", "Outage, a planned switch", outages.planned_row),
    Row("dead", "Outage, the active node's switch port dies", outages.dead_row),
    Row("checks", "Outage, the active node's service is killed", checks.checks_row),
    Row("sensor", "Dead port, carrier up: watchd as a sensor", sensed.sensor_row),
    Row("many", "Outage, by the number of addresses", outages.many_row),
    Row("load", "The same, four processes on every core", outages.load_row),
    Row("slow", "Outage, power cut at the original's timers", outages.slow_row),
    Row(
        "false", "Nothing broken, four processes on every core, stops of 200 ms", outages.false_row
    ),
    Row("cpu", "A flood, every packet counted", weights.cpu_row),
    Row("pace", "What watching costs the host", weights.pace_row),
    Row("idle", "Idle, at the original's timers", weights.idle_row),
    Row("start", "From typing to ready", weights.start_row),
    Row("replay", "A capture file", weights.replay_row),
)
