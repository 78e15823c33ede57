"""What the client sees of each fault, system beside system: the rows about outages.

Each figure has a lab of its own, and the systems take turns, so that what else the host does
falls on all alike. The outage is the longest time without an answer, at one probe a millisecond.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dev.lab.bench.report import Line, at_most, spread
from dev.lab.bench.systems import Failoverd, Keepalived, System, Ucarp
from dev.lab.eyes import Eyes
from dev.lab.network import Lab
from dev.lab.node import Node
from dev.lab.spaces import LabError
from failoverd import conf
from failoverd.tools import promises

if TYPE_CHECKING:
    from dev.lab.bench.plan import Bench

PROBE = 0.001  # seconds between two probes
CALM = 0.3  # seconds with an answer before and after a fault
LIMIT = 20.0  # seconds that an outage may last, but for the slow timers
STOP_EVERY, STOP_SECONDS = 5.0, 0.2  # the active node's processes are stopped so
IDLE_SHARE = 0.9  # of the cores' time, for a host that is calm
DEAD_SECONDS = 1.0  # after which the holders of the address are counted
COUNTS = (1, 10, 100, 1000)  # of addresses
LOAD = 4  # processes that want each core, where it is to be busy

Fault = Callable[[System, Lab], None]


@dataclass
class Sample:
    """What one fault did."""

    outage: float
    holders: list[str]


def power_cut(_system: System, lab: Lab) -> None:
    """As seen from outside: to end a's processes would keep the host that measures busy."""
    lab.a.vanish()


def planned(system: System, lab: Lab) -> None:
    system.stop(lab)


def dead_port(_system: System, lab: Lab) -> None:
    lab.a.kill_port("eth0")


@dataclass(frozen=True)
class Scene:
    """What is done to each system. load: processes that want each core meanwhile; count: of
    addresses; after: seconds after the fault when the holders are counted."""

    what: str
    fault: Fault
    after: float = 0.0
    load: int = 0
    count: int = 1


def suffer(system: System, scene: Scene) -> Sample:
    """One fault in a lab of its own."""
    with Lab() as lab, ExitStack() as stack:
        system.start(lab)
        if scene.load:
            stack.enter_context(busy(lab.switch, scene.load))
        lab.client.start_probing(interval=PROBE)
        lab.wait_until(lab.client.answering, "the client is answered", LIMIT)
        time.sleep(CALM + random.random() * 0.05)  # at any moment of a window
        since = time.monotonic()
        scene.fault(system, lab)
        outage = measured(lab, since, LIMIT)
        time.sleep(scene.after)
        return Sample(outage, lab.holders())


def measured(lab: Lab, since: float, limit: float) -> float:
    """The outage of a fault that came at `since`, once the client is answered again."""
    time.sleep(CALM)
    lab.wait_until(
        lambda: lab.client.answering(time.monotonic() - 0.1), "the client is answered", limit, 0.1
    )
    time.sleep(CALM)
    return lab.client.outage(since - 0.01)


def await_calm(bench: Bench) -> None:
    """Wait for a moment until what else runs on this host leaves the cores alone."""
    end = time.monotonic() + bench.calm_seconds
    while time.monotonic() < end:
        total, idle = processor_time()
        time.sleep(0.3)
        later, idle_later = processor_time()
        if idle_later - idle >= IDLE_SHARE * (later - total):
            return


def processor_time() -> tuple[int, int]:
    """Of all cores since the boot, in ticks: all, and idle (proc(5), stat)."""
    with open("/proc/stat", encoding="ascii") as file:
        ticks = [int(word) for word in file.readline().split()[1:9]]
    return sum(ticks), ticks[3] + ticks[4]


def rivals(bench: Bench, count: int) -> Iterator[tuple[System, int]]:
    """The systems that are here, and how many runs each gets: ucarp has but one address, and its
    outages last seconds."""
    yield Failoverd(bench.fastest, count=count), bench.runs
    if bench.has("keepalived"):
        yield Keepalived(count=count), bench.runs
    if bench.has("ucarp") and count == 1:
        yield Ucarp(), min(bench.runs, max(2, bench.runs // 5))


def samples(bench: Bench, scene: Scene) -> dict[str, list[Sample]]:
    """By system's name; those that are missing have none."""
    what = scene.what
    systems = list(rivals(bench, scene.count))
    if scene.load:
        systems = systems[:2]
    found: dict[str, list[Sample]] = {system.name: [] for system, _ in systems}
    for number in range(bench.runs):
        for system, runs in systems:
            if number < runs:
                bench.progress(f"{what}: {system.name} {number + 1} of {runs}")
                await_calm(bench)
                try:
                    sample = suffer(system, scene)
                except (LabError, OSError) as error:  # told, and the others go on
                    bench.fail(f"{what}: {system.name}: {error}")
                    continue
                if isinstance(system, Failoverd):
                    bench.refusals = system.refusals
                found[system.name].append(sample)
                bench.keep(what, system.name, sample.outage)
    if not found["failoverd"]:
        raise LabError("no run has succeeded")
    return {name: group for name, group in found.items() if group}


def told(
    bench: Bench,
    what: str,
    found: dict[str, list[Sample]],
    limits: tuple[float, float | None],
    panel: str = "outage",
) -> list[Line]:
    lengths = {name: [sample.outage for sample in group] for name, group in found.items()}
    for name, group in lengths.items():
        bench.bar(panel, f"{what}: {name}", group, name == "failoverd")
    ours = lengths["failoverd"]
    lines = spread(what, ours, "keepalived", lengths.get("keepalived", []), limits)
    if lengths.get("ucarp"):
        lines += spread(what, ours, "ucarp", lengths["ucarp"], (None, None))[:1]
    return lines


def power_row(bench: Bench) -> list[Line]:
    scene = Scene("power cut", power_cut)
    return told(bench, scene.what, samples(bench, scene), (0.7, 1.0))


def planned_row(bench: Bench) -> list[Line]:
    scene = Scene("planned switch", planned)
    lines = told(bench, scene.what, samples(bench, scene), (0.8, None))
    return [*lines, Line("- ha-fail said: not now", "", bench.refusals)]


def dead_row(bench: Bench) -> list[Line]:
    found = samples(bench, Scene("dead port", dead_port, DEAD_SECONDS))
    lines = told(bench, "dead port", found, (0.7, None))
    most = {name: max(len(s.holders) for s in group) for name, group in found.items()}
    fewest = min(len(sample.holders) for sample in found["failoverd"])
    ours = most["failoverd"]
    rival = next((name for name in ("keepalived", "ucarp") if name in most), "")
    met = ours == fewest == 1
    theirs = most.get(rival)
    return [*lines, Line("dead port, holders after it", "", ours, rival, theirs, "1", met)]


def many_row(bench: Bench) -> list[Line]:
    """Each number of addresses, power cut and planned switch, and how both grow with it."""
    return counted(bench, 0)


def load_row(bench: Bench) -> list[Line]:
    """The same while every core is busy."""
    return counted(bench, LOAD)


def counted(bench: Bench, load: int) -> list[Line]:
    lines: list[Line] = []
    for word, fault, limit in (("power cut", power_cut, 1.0), ("planned", planned, 0.8)):
        for count in COUNTS:
            scene = Scene(f"{word}, {count}{', busy' if load else ''}", fault, 0.0, load, count)
            panel = "busy" if load else "growth"
            lines += told(bench, scene.what, samples(bench, scene), (limit, None), panel)
    return lines


# ------------------------------------------------------------------ the original's timers


def slow_row(bench: Bench) -> list[Line]:
    """The original's default timers: several labs at once, for each lasts most of a minute."""
    settings = conf.Conf()
    bound = promises.all_bounds(settings)["power_cut"]
    assert bound.worst is not None
    with ExitStack() as stack:
        labs = [stack.enter_context(Lab(timers={})) for _ in range(bench.slow_labs)]
        bench.progress(f"original's timers: {len(labs)} pairs start")
        outages = slow_outages(bench, labs, settings.plip_timer)
    for outage in outages:
        bench.keep("original's timers", "failoverd", outage)
    longest = round(bound.worst + 0.1, 1)  # the script's run and the client's
    best = Line("original's timers, shortest", "s", min(outages), target=f">= {bound.best:g}")
    return [best, at_most("original's timers, longest", "s", max(outages), longest)]


def slow_outages(bench: Bench, labs: Sequence[Lab], window: float) -> list[float]:
    for lab in labs:
        for node in lab.nodes:
            node.write_conf()
            node.start_failoverd()
    for lab in labs:
        wait_for_active(lab.a)
        lab.client.start_probing()
    time.sleep(2.5 * window)  # the first windows are told apart from the later ones
    cuts = []
    for number, lab in enumerate(labs, start=1):
        bench.progress(f"original's timers: power cut {number} of {len(labs)}")
        cuts.append(time.monotonic())
        power_cut(Failoverd(), lab)
        time.sleep(random.random() * 2)
    return [measured(lab, since, 60.0) for lab, since in zip(labs, cuts, strict=True)]


def wait_for_active(node: Node) -> None:
    node.lab.wait_until(lambda: node.role() == "active", "it is active", 90.0, 0.2)


# ------------------------------------------------------------------ false takeovers


@dataclass
class Peace:
    """What happened while nothing was broken."""

    seconds: float
    stops: int
    takeovers: int
    outage: float
    overlap: float = field(default=0.0)


@contextmanager
def busy(node: Node, load: int) -> Iterator[None]:
    """So many processes of an ordinary priority want each core."""
    count = load * (os.cpu_count() or 1)
    burning = [node.popen("sh", "-c", "while :; do :; done") for _ in range(count)]
    try:
        yield
    finally:
        for process in burning:
            process.close()


def peace(system: System, seconds: float) -> Peace:
    """Every core busy, and a's processes stopped for a moment now and then."""
    with Lab() as lab:
        system.start(lab)
        with busy(lab.switch, LOAD), Eyes(lab) as eyes:
            time.sleep(1.0)
            began, stops = time.monotonic(), 0
            while time.monotonic() < began + seconds:
                time.sleep(min(STOP_EVERY, seconds / 2) - STOP_SECONDS)
                lab.a.freeze()
                time.sleep(STOP_SECONDS)
                lab.a.thaw()
                stops += 1
            time.sleep(1.0)
            ended = time.monotonic()
            gained = [c for c in list(eyes.changes) if c.holds and c.at >= began]
            overlap = sum(end - at for at, end in eyes.overlaps(began))
            outage = lab.client.outage(began, ended)
    return Peace(ended - began, stops, len(gained), outage, overlap)


def false_row(bench: Bench) -> list[Line]:
    found: dict[str, Peace] = {}
    systems: list[System] = [Failoverd(bench.fastest)]
    if bench.has("keepalived"):
        systems.append(Keepalived())
    for system in systems:
        bench.progress(f"false takeovers: {system.name} for {bench.load_seconds:g} s")
        found[system.name] = peace(system, bench.load_seconds)
    ours, theirs = found["failoverd"], found.get("keepalived")
    pair = [one for one in (ours, theirs) if one is not None]
    title = f"false takeovers, {ours.stops} stops"
    rows: Mapping[str, tuple[str, Callable[[Peace], float]]] = {
        title: ("", lambda one: one.takeovers),
        "- the longest outage in that": ("ms", lambda one: one.outage * 1000),
        "- two holders": ("%", lambda one: 100 * one.overlap / one.seconds),
    }
    lines = []
    for what, (unit, pick) in rows.items():
        values = [pick(one) for one in pair]
        other = values[1] if len(values) > 1 else None
        target, met = ("0", values[0] == 0) if what == title else ("", None)
        lines.append(Line(what, unit, values[0], "keepalived", other, target, met))
    return lines
