"""bin/explore: the exploration on demand, with any bounds, and the random walk."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import fields

from explorer.explore import Explored
from explorer.model import MENU, Setup, Violation


def main() -> int:
    options = parse()
    setup = Setup(**{name: value for name, value in vars(options).items() if name in NAMES})
    return explore(setup, options.stories)


NAMES = {field.name for field in fields(Setup)}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    default = Setup()
    parser.add_argument("--menu", default=",".join(MENU))
    parser.add_argument("--stories", type=int, default=99)
    for field in fields(Setup):
        value = getattr(default, field.name)
        if isinstance(value, bool):
            parser.add_argument(f"--{field.name}", type=lambda text: text == "yes", default=value)
        elif isinstance(value, (int, str)):
            parser.add_argument(f"--{field.name}", type=type(value), default=value)
        elif field.name != "menu":
            parser.add_argument(
                f"--{field.name}", type=lambda text: tuple(eval(text)), default=value
            )
    options = parser.parse_args()
    options.menu = frozenset(options.menu.split(","))
    return options


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))


def explore(setup: Setup, stories: int) -> int:
    began = time.monotonic()
    explored = Explored(setup)
    try:
        explored.explore(lambda n, of: print(f"{n} of {of}", file=sys.stderr))
    except Violation as violation:
        print(violation)
        return 1
    seconds = time.monotonic() - began
    print(f"{len(explored.worlds)} states, {explored.transitions} transitions, {seconds:.0f} s")
    bad = 0
    for finding in explored.judge():
        print(finding)
        if not finding.holds or finding.worst > stories:
            bad += not finding.holds
            print("\n".join(explored.tell(finding.path)))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
