"""bin/explore: the exploration with any bounds, the random walk, and the mutants, on demand."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from dataclasses import fields

from explorer.explore import Explored
from explorer.model import MENU, Setup, Violation
from explorer.mutants import hunt_all
from explorer.walk import Walk

STRIDE = 10_000  # steps of a walk between two lines about it
NAMES = [field.name for field in fields(Setup)]


def main() -> int:
    options = parse()
    setup = Setup(**{name: value for name, value in vars(options).items() if name in NAMES})
    if options.mutants:
        return hunt(options)
    return walk(setup, options) if options.walk else explore(setup, options.stories)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="explore",
        description="Explore what the two machines can decide. Times are in ticks; the exit status "
        "is 0 if every statement holds.",
    )
    parser.add_argument("--walk", type=int, metavar="STEPS", help="walk at random instead")
    parser.add_argument("--seed", type=int, default=0, help="of the walk")
    parser.add_argument("--mutants", action="store_true", help="break the table, row by row")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time")
    parser.add_argument(
        "--part", default="0/1", metavar="N/OF", help="only one part of the mutants"
    )
    parser.add_argument(
        "--stories", type=int, default=99, help="also tell the worst case if it is longer"
    )
    default = Setup()
    for name in NAMES:
        value = getattr(default, name)
        kind = READ.get(name, type(value))
        shown = ",".join(MENU) if name == "menu" else value
        parser.add_argument(
            f"--{name.replace('_', '-')}", dest=name, type=kind, default=shown, help=f"{shown}"
        )
    return parser.parse_args()


READ = {
    "menu": lambda text: frozenset(text.split(",")),
    "boots": lambda text: tuple(text.split(",")),
    "scripts": lambda text: tuple(int(word) for word in text.split(",")),
    "mresume": lambda text: text == "yes",
    "addresses": lambda text: text == "yes",
    "fence": lambda text: text == "yes",
}


def explore(setup: Setup, stories: int) -> int:
    began = time.monotonic()
    explored = Explored(setup)
    try:
        explored.explore(lambda number, of: print(f"{number} of {of}", file=sys.stderr))
    except Violation as violation:
        print(violation)
        return 1
    seconds = time.monotonic() - began
    print(f"{len(explored.worlds)} states, {explored.transitions} transitions, {seconds:.0f} s")
    status = 0
    for finding in explored.judge():
        print(finding)
        if not finding.holds or finding.worst > stories:
            print("\n".join(explored.tell(finding.path)))
        if not finding.holds:
            status = 1
    return status


def walk(setup: Setup, options: argparse.Namespace) -> int:
    """A new walk for every so many steps, with a seed of its own."""
    for number in range(max(1, options.walk // STRIDE)):
        seed = options.seed + number
        taken = Walk(setup, seed)
        try:
            taken.go(min(STRIDE, options.walk))
        except Violation as violation:
            print(f"seed {seed}: {violation}")
            return 1
        print(f"seed {seed}: {taken.time} ticks, {taken.faults} faults", flush=True)
    return 0


def hunt(options: argparse.Namespace) -> int:
    """Every mutant, until something finds it."""
    verdicts: Counter[str] = Counter()
    part, parts = map(int, options.part.split("/"))
    for verdict in hunt_all(options.jobs, part, parts):
        verdicts[verdict.kind] += 1
        print(verdict, flush=True)
    print(
        f"{sum(verdicts.values())} broken tables: {verdicts['explored']} found by exploring, "
        f"{verdicts['walked']} by walking, {verdicts['case']} by a case of tests/test_pair.py, "
        f"{verdicts['refinement']} named as refinements, "
        f"{verdicts['order']} whose order is no matter, "
        f"{verdicts['same']} that decide the same everywhere, {verdicts['missed']} missed"
    )
    return 1 if verdicts["same"] or verdicts["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
