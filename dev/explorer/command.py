"""dev/explore: the exploration with any bounds, the random walk, and the mutants, on demand."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from itertools import combinations
from multiprocessing import get_context

from dev.explorer import rooms
from dev.explorer.explore import Explored
from dev.explorer.model import MENU, SCRIPTS, Setup, Violation
from dev.explorer.mutants import Verdict, hunt_all
from dev.explorer.walk import Walk

STRIDE = 10_000  # steps of a walk between two lines about it
NAMES = [field.name for field in fields(Setup)]


def main() -> int:
    options = parse()
    setup = Setup(**{name: value for name, value in vars(options).items() if name in NAMES})
    if options.mutants:
        return hunt(options)
    if options.changes:
        return hunt_changes(options)
    if options.pairs:
        return sweep(setup, options.jobs)
    return walk(setup, options) if options.walk else explore(setup, options.stories)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="explore",
        description="Explore what the two nodes can decide. Times are in ticks; the exit status "
        "is 0 if every statement holds.",
    )
    parser.add_argument("--walk", type=int, metavar="STEPS", help="walk at random instead")
    parser.add_argument("--seed", type=int, default=0, help="of the walk")
    parser.add_argument("--mutants", action="store_true", help="break the policy, cell by cell")
    parser.add_argument("--changes", action="store_true", help="break the code, thing by thing")
    parser.add_argument(
        "--rooms",
        default=",".join(rooms.ROOMS),
        help="of which rooms, or files such as pair/compare, the changes are (%(default)s)",
    )
    parser.add_argument("--quick", action="store_true", help="only the first tests of each room")
    parser.add_argument("--pairs", action="store_true", help="each two of the menu's faults alone")
    parser.add_argument("--jobs", type=int, default=1, help="mutants, changes or pairs at a time")
    parser.add_argument(
        "--part", default="0/1", metavar="N/OF", help="only one part of the mutants or changes"
    )
    parser.add_argument(
        "--stories", type=int, default=99, help="also tell the worst case if it is longer"
    )
    default = Setup()
    for name in NAMES:
        value = getattr(default, name)
        shown = written(MENU if name == "menu" else value)
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            dest=name,
            type=READ.get(name, type(value)),
            default=shown,
            metavar="yes|no" if isinstance(value, bool) else None,
            help=f"{MEANS[name]} ({shown})",
        )
    options = parser.parse_args()
    if options.pairs and len(options.menu) < 2:
        parser.error("--pairs needs a menu of two words or more")
    return options


def written(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ",".join(map(str, value)) if isinstance(value, (tuple, dict)) else str(value)


MEANS = {
    "boots": "host_type of A and of B",
    "mresume": "$mresume",
    "interfaces": "interfaces of the service network",
    "low_water": "$low_water",
    "window": "of the heartbeat link",
    "interface_window": "of the service network",
    "heartbeat": "from one to the next",
    "switch_timeout": "after it a switch script is killed",
    "failback": "$failback: 0 is yes, -1 no",
    "hold_down": "a role that came because of an interface stays so long",
    "status_timeout": "so long a status is waited for",
    "addresses": "is @addresses set",
    "second": "is $second_path set",
    "confirm": "arp, none or program",
    "fence": "is $fence_prog set",
    "first": "whose events of a tick come first, 0 or 1",
    "faults": "so many at most, with their repairs",
    "delays": "so many messages may be late by a tick",
    "menu": "which faults",
    "scripts": "how a switch script may break, as numbers into SCRIPTS",
}


def words(*allowed: str) -> Callable[[str], tuple[str, ...]]:
    """Reads words with commas between them."""

    def read(text: str) -> tuple[str, ...]:
        unknown = set(text.split(",")) - set(allowed)
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: none of {', '.join(allowed)}")
        return tuple(text.split(","))

    return read


def word(*allowed: str) -> Callable[[str], str]:
    return lambda text: words(*allowed)(text)[0]


def pair_of(text: str) -> tuple[str, ...]:
    read = words("master", "slave")(text)
    if len(read) != 2:
        raise argparse.ArgumentTypeError(f"{text}: two are needed, such as master,slave")
    return read


READ = {
    "menu": lambda text: frozenset(words(*MENU)(text)),
    "boots": pair_of,
    "scripts": lambda text: tuple(map(int, words(*map(str, range(len(SCRIPTS))))(text))),
    "confirm": word("arp", "none", "program"),
    **dict.fromkeys(
        ("mresume", "addresses", "second", "fence"), lambda text: word("yes", "no")(text) == "yes"
    ),
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


NEEDS: dict[str, dict[str, object]] = {  # words of the menu that mean nothing without
    "fence": {"fence": True},
    "norun": {"confirm": "program"},
    "few": {"low_water": 2},
}


def sweep(setup: Setup, jobs: int) -> int:
    """Every pair of faults: so many of them at once are too many for the whole menu."""
    each = []
    for two in combinations([word for word in MENU if word in setup.menu], 2):
        needs = {name: value for word in two for name, value in NEEDS.get(word, {}).items()}
        each.append(replace(setup, menu=frozenset(two), **needs))  # type: ignore[arg-type]
    status = 0
    # The processes of a pool are forked before it has threads; any that come later are not.
    with get_context("fork").Pool(jobs) as pool:
        for found in pool.imap_unordered(explore_pair, each):
            print("\n".join(found), flush=True)
            status |= len(found) > 1
    return status


def explore_pair(setup: Setup) -> list[str]:
    """The pair and its size, and whatever does not hold."""
    words = ",".join(word for word in MENU if word in setup.menu)
    explored = Explored(setup)
    try:
        explored.explore()
    except Violation as violation:
        return [words, str(violation)]
    size = f"{words}: {len(explored.worlds)} states, {explored.transitions} transitions"
    return [size, *map(str, explored.wrong())]


def part_of(options: argparse.Namespace) -> tuple[int, int]:
    """Which part of a hunt is wanted, and of how many."""
    part, parts = map(int, options.part.split("/"))
    return part, parts


def tallied(verdicts: Iterable[Verdict]) -> Counter[str]:
    """Print each as it comes; how many there are of each kind."""
    counted: Counter[str] = Counter()
    for verdict in verdicts:
        counted[verdict.kind] += 1
        print(verdict, flush=True)
    return counted


def hunt(options: argparse.Namespace) -> int:
    """Every mutant, until something finds it."""
    verdicts = tallied(hunt_all(options.jobs, *part_of(options)))
    print(
        f"{sum(verdicts.values())} broken cells: {verdicts['explored']} found by exploring, "
        f"{verdicts['walked']} by walking, {verdicts['case']} by a case of the tests, "
        f"{verdicts['refinement']} named as refinements, {verdicts['missed']} missed"
    )
    return 1 if verdicts["missed"] else 0


def hunt_changes(options: argparse.Namespace) -> int:
    """Every change, until something finds it."""
    chosen = tuple(options.rooms.split(","))
    verdicts = tallied(rooms.hunt(chosen, options.jobs, *part_of(options), options.quick))
    print(
        f"{sum(verdicts.values())} changes: {verdicts['case']} found by a test, "
        f"{verdicts['explored']} by exploring, {verdicts['refinement']} that make no difference, "
        f"{verdicts['missed']} missed"
    )
    return 1 if verdicts["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
