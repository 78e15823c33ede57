"""The command dev/cluster: builds the cluster, runs the stories, says what came out."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time

from dev.lab.cluster.nodes import Cluster
from dev.lab.cluster.stories import STORIES, Broken, Trial
from dev.lab.ending import guarded
from dev.lab.spaces import LabError


def main(argv: list[str] | None = None) -> int:
    """Exit status 0: all held, 1: a story broke, or the lab failed, 2: usage, or no namespaces."""
    options = arguments(argv)
    return guarded("cluster", lambda: run(options))


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="cluster",
        description="Tries ocf:failoverd:traffic on a real cluster of three nodes, in namespaces.",
        epilog="stories: " + ", ".join(STORIES),
    )
    add = parser.add_argument
    add("--stories", type=names, metavar="A,B", default=list(STORIES), help="only these")
    add("--runs", type=int, default=5, metavar="N", help="runs of each outage that is measured (5)")
    return parser.parse_args(argv)


def names(text: str) -> list[str]:
    for name in text.split(","):
        if name not in STORIES:
            raise argparse.ArgumentTypeError(f"no story {name!r}; there are {', '.join(STORIES)}")
    return text.split(",")


def run(options: argparse.Namespace) -> int:
    began = time.monotonic()
    with contextlib.closing(Cluster()) as cluster:
        trial = Trial(cluster)
        trial.runs = options.runs
        say(f"three nodes serve after {time.monotonic() - began:.0f} s")
        broken = [name for name in options.stories if not tell(trial, name)]
    say(f"{len(options.stories) - len(broken)} of {len(options.stories)} stories held")
    return 1 if broken else 0


def tell(trial: Trial, name: str) -> bool:
    """Run one story and say what came out. Whether it held."""
    story = STORIES[name]
    try:
        say(f"{name:18} ok: {story(trial)}")
    except (Broken, LabError, TimeoutError) as problem:
        say(f"{name:18} BROKEN: {(story.__doc__ or '').splitlines()[0]}\n    {problem}")
        trial.heal()
        return False
    return True


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
