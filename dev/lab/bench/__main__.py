"""The command dev/bench: measures row after row, then prints one table."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from dev.lab.bench import weights
from dev.lab.bench.page import Measured, update
from dev.lab.bench.plan import PANELS, ROWS, Bench, Row, quick
from dev.lab.bench.report import Bar, Line, picture, table
from dev.lab.bench.systems import FASTEST, installed
from dev.lab.ending import guarded
from dev.lab.spaces import LabError

# What is measured beside ours, as Debian calls it.
PACKAGES = {"keepalived": "keepalived", "ucarp": "ucarp", "tcpdump": "tcpdump"}
NET_PCAP = "libnet-pcap-perl"
MISSED = 1


def main(argv: list[str] | None = None) -> int:
    """Exit status 0: all is reached, 1: not, or a row failed, 2: usage, or no namespaces."""
    options = arguments(argv)
    return guarded("bench", lambda: compare(options))


def compare(options: argparse.Namespace) -> int:
    bench = prepared(options)
    absent = [] if bench.alone else missing()
    if absent:
        complain(f"goes on without {' and '.join(absent)}, with which it would compare; to get "
                 f"them: apt-get install --no-install-recommends {' '.join(absent)}")  # fmt: skip
    return run(bench, options)


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench",
        description="Measures failoverd beside what else is installed, in namespaces.",
        epilog="rows: " + "; ".join(f"{row.name}: {row.title}" for row in ROWS)
        + ". Exit status: 0 all is reached, 1 not, 2 usage or no namespaces.",
    )  # fmt: skip
    add = parser.add_argument
    add("--rows", type=names, metavar="A,B", default=list(ROWS), help="only these rows")
    add("--runs", type=positive, metavar="N", help="runs of each outage (20)")
    add("--quick", action="store_true", help="few and short runs: the figures are worth little")
    add("--alone", action="store_true", help="only failoverd, without the rivals")
    add("--load-seconds", type=float, metavar="S", help="how long false takeovers are waited for")
    add("--timers", type=timers, metavar="WINDOW,HEARTBEAT",
        help="the heartbeat link's, instead of the fastest safe ones")  # fmt: skip
    add("--set", type=setting, action="append", default=[], metavar="NAME=VALUE",
        help="a variable of failoverd.conf, for the fast settings")  # fmt: skip
    add("--svg", metavar="FILE", help="draw the picture there")
    add("--page", metavar="FILE.md", help="put the figures there, and draw FILE.svg")
    add("--figures", metavar="FILE", help="write every single figure there, as lines of CSV")
    return parser.parse_args(argv)


def names(text: str) -> list[Row]:
    known = {row.name: row for row in ROWS}
    for name in text.split(","):
        if name not in known:
            raise argparse.ArgumentTypeError(f"no row {name!r}; there are {', '.join(known)}")
    return [known[name] for name in text.split(",")]


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def timers(text: str) -> tuple[float, float]:
    window, heartbeat = text.split(",")
    return float(window), float(heartbeat)


def setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError
    return name, value


def prepared(options: argparse.Namespace) -> Bench:
    bench = quick() if options.quick else Bench()
    bench.alone = options.alone
    bench.runs = options.runs or bench.runs
    bench.load_seconds = options.load_seconds or bench.load_seconds
    more: dict[str, float | str] = dict(options.set)
    if options.timers is not None:
        more.update(zip(("plip_timer", "plip_hbeat"), options.timers, strict=True))
    bench.fastest = {**FASTEST, **more}
    if not bench.slow_labs:
        options.rows = [row for row in options.rows if row.name != "slow"]
    return bench


def missing() -> list[str]:
    """The Debian packages that would let more be compared."""
    found = [package for program, package in PACKAGES.items() if not installed(program)]
    return found if weights.has_net_pcap() else [*found, NET_PCAP]


def run(bench: Bench, options: argparse.Namespace) -> int:
    """Measure, and tell, also what is there when it is stopped. A row that fails is told of."""
    began = time.monotonic()
    measured: dict[str, tuple[list[Line], dict[str, list[Bar]]]] = {}
    try:
        for row in options.rows:
            had = {panel: len(bars) for panel, bars in bench.bars.items()}
            try:
                lines = row.measure(bench)
                bars = {panel: new[had.get(panel, 0) :] for panel, new in bench.bars.items()}
                measured[row.name] = lines, bars
            except (LabError, OSError, LookupError, subprocess.TimeoutExpired) as error:
                bench.fail(f"{row.name}: {error}")
    finally:
        bench.progress("")
        about = description(bench, time.monotonic() - began)
        titles = {row.name: row.title for row in options.rows}
        tell(bench, options, [(titles[name], row[0]) for name, row in measured.items()], about)
        if options.page:
            rows = {name: Measured(titles[name], about, *row) for name, row in measured.items()}
            update(Path(options.page), rows, [row.name for row in ROWS], PANELS)
    missed = any(line.met is False for lines, _ in measured.values() for line in lines)
    return MISSED if bench.failed or missed else 0


def tell(
    bench: Bench,
    options: argparse.Namespace,
    sections: list[tuple[str, list[Line]]],
    about: list[str],
) -> None:
    """The table, the picture and the single figures."""
    if sections:
        sys.stdout.write(table(sections, about))
    if options.svg and bench.bars:
        path = Path(options.svg)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(picture(bench.panels(), about[0]))
    if options.figures:
        lines = [f"{what},{who},{value:.6f}\n" for what, who, value in bench.figures]
        Path(options.figures).write_text("".join(lines))


def description(bench: Bench, seconds: float) -> list[str]:
    """The node, the day, and the settings."""
    fast: Mapping[str, object] = bench.fastest
    return [
        f"{datetime.date.today().isoformat()}, {os.cpu_count()} cores, Linux {platform.release()}, "
        f"Python {platform.python_version()}",
        f"{bench.runs} runs of each outage, {seconds:.0f} s in all; medians",
        f"failoverd: windows of {fast['plip_timer']} s, a heartbeat every {fast['plip_hbeat']} s, "
        f"eth0 {fast['timer_seconds']} s",
        "keepalived: vrrp_version 3, advert_int 0.01; ucarp: -b 1 -r 3",
    ]


def complain(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
