"""Every state that the two nodes can come to, and what must hold in each and on every path.

Breadth first, so that the way to the first state of a kind is the shortest there is. Nothing is
left out within the bounds of a setup: so many faults and repairs at any moments, so many delayed
messages. What a statement says about a path is a longest stretch in the graph of all states, so a
state needs no memory of how it was come to.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from dev.explorer.model import (
    COMMAND,
    FEW,
    RECEIVES,
    STILL,
    UNOWNED,
    Chance,
    Fault,
    Game,
    Setup,
    Violation,
    World,
    ways,
)
from dev.explorer.scene import strike, tick
from dev.explorer.statements import Entry, Stretch, entries, flags, stretches
from dev.explorer.words import describe_world

ENDLESS = 60  # ticks; a stretch that is as long as this has no end

Step = tuple[Fault | None, tuple[int, ...]]  # what happened, and which way the world went


@dataclass(frozen=True)
class Finding:
    """What was found about a statement, and the way to the worst case."""

    statement: int
    text: str
    worst: int
    most: int
    path: list[int]

    @property
    def holds(self) -> bool:
        return self.worst <= self.most

    def __str__(self) -> str:
        worst = "without end" if self.worst >= ENDLESS else str(self.worst)
        worst = "never" if self.worst < 0 else worst
        return f"{self.statement}. {self.text}: {worst}, at most {self.most} allowed"


class Explored:
    """All states of a setup, numbered in the order in which they were found."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.game = Game(setup)
        self.numbers: dict[World, int] = {}
        self.worlds: list[World] = []
        self.flags = array("L")
        self.parents = array("l")
        self.steps: list[Step] = []  # from the parent
        self.ticks: list[tuple[int, ...]] = []  # the states a tick later
        self.strikes: list[tuple[int, ...]] = []  # those after a fault
        self.twice: set[tuple[int, int]] = set()  # of these: as good as two causes
        self.transitions = 0

    # ------------------------------------------------------------------ all states

    def explore(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Find every state. Raises Violation, with the story, when a node does what is wrong."""
        for world in self.game.first_worlds():
            self._number(world, -1, (None, ()))
        for number, world in enumerate(self.worlds):  # which grows meanwhile
            if progress and number % 50_000 == 0:
                progress(number, len(self.worlds))
            self.ticks.append(self._follow(number, world, (None,)))
            self.strikes.append(self._follow(number, world, self.game.faults(world)))

    def _follow(self, number: int, world: World, faults: Iterable[Fault | None]) -> tuple[int, ...]:
        found = []
        for fault in faults:
            for script, after in self._ways(number, world, fault):
                self.transitions += 1
                found.append(self._number(after, number, (fault, script)))
                if fault and counts_twice(world, fault):
                    self.twice.add((number, found[-1]))
        return tuple(dict.fromkeys(found))

    def _ways(
        self, number: int, world: World, fault: Fault | None
    ) -> Iterator[tuple[tuple[int, ...], World]]:
        chances: list[Chance] = []

        def run(chance: Chance) -> World:
            chances.append(chance)
            return play(self.game, world, fault, chance)

        try:
            yield from ways(run)
        except Violation as violation:
            story = self.tell(self.path(number))[:-1]
            step = (fault, tuple(way for way, _ in chances[-1].taken))
            raise Violation(
                f"{violation}\n" + "\n".join(story + self._notes(world, step))
            ) from None

    def _number(self, world: World, parent: int, step: Step) -> int:
        number = self.numbers.get(world)
        if number is None:
            number = self.numbers[world] = len(self.worlds)
            self.worlds.append(world)
            self.flags.append(flags(self.game, world))
            self.parents.append(parent)
            self.steps.append(step)
        return number

    # ------------------------------------------------------------------ stories

    def path(self, number: int) -> list[int]:
        """The shortest way to a state."""
        found = []
        while number >= 0:
            found.append(number)
            number = self.parents[number]
        return found[::-1]

    def tell(self, path: list[int]) -> list[str]:
        """The story of a path: the tick, and what happened."""
        lines, time = [], 0
        for before, after in pairwise(path):
            step = self._step(before, after)
            time += step[0] is None
            lines += [f"{time:4}  {note}" for note in self._notes(self.worlds[before], step)]
        return [*lines, f"{time:4}  now: {describe_world(self.game, self.worlds[path[-1]])}"]

    def _step(self, before: int, after: int) -> Step:
        if self.parents[after] == before:
            return self.steps[after]
        world = self.worlds[before]
        for fault in (None, *self.game.faults(world)):
            for script, found in self._ways(before, world, fault):
                if self.numbers[found] == after:
                    return fault, script
        raise AssertionError("there is no such step")

    def _notes(self, world: World, step: Step) -> list[str]:
        notes: list[str] = []
        try:
            play(self.game, world, step[0], Chance(step[1]), notes)
        except Violation as violation:
            notes.append(f"!! {violation}")
        return notes

    # ------------------------------------------------------------------ judging

    def judge(self) -> list[Finding]:
        """What all these states and paths say about the statements."""
        return [
            *(self._judge_stretch(stretch) for stretch in stretches(self.setup)),
            *(self._judge_entry(entry) for entry in entries(self.setup)),
            self._judge_changes(),
        ]

    def wrong(self) -> list[Finding]:
        """What of that does not hold."""
        return [finding for finding in self.judge() if not finding.holds]

    def _judge_stretch(self, stretch: Stretch) -> Finding:
        """The longest stretch of ticks without a fault."""
        want, mask = int(stretch.set), int(stretch.set | stretch.clear)
        inside = bytes((flags & mask) == want for flags in self.flags)
        worst, path = self._longest(inside)
        return Finding(stretch.statement, stretch.text, worst, stretch.most, path)

    def _longest(self, inside: bytes) -> tuple[int, list[int]]:
        """The longest walk of ticks through the states inside, and the way to its end."""
        value = {number: 0 for number, yes in enumerate(inside) if yes}
        before: dict[int, int] = {}
        queue = deque(value)
        waiting = set(queue)
        worst, end = -1, -1
        while queue and worst < ENDLESS:
            number = queue.popleft()
            waiting.discard(number)
            long = value[number]
            if long > worst:
                worst, end = long, number
            for after in self.ticks[number]:
                if inside[after] and value[after] <= long:
                    value[after], before[after] = long + 1, number
                    if after not in waiting:
                        waiting.add(after)
                        queue.append(after)
        return worst, self._path_by(before, end)

    def _path_by(self, before: dict[int, int], end: int) -> list[int]:
        """The way to a state whose last part is told by `before`."""
        tail, seen = [end], {end}
        while (end := before.get(end, -1)) >= 0 and end not in seen:
            tail.append(end)
            seen.add(end)
        tail.reverse()
        return self.path(tail[0])[:-1] + tail if tail[0] >= 0 else []

    def _judge_entry(self, entry: Entry) -> Finding:
        """How long something had been so, faults or not, at most when a tick led to a state."""
        long, before = self._since(int(entry.after), int(entry.most) + 1)
        into = int(entry.into)
        worst, path = -1, list[int]()
        for number, ticks in enumerate(self.ticks):
            if self.flags[number] & into or not self.flags[number] & entry.after:
                continue
            for after in ticks:
                if self.flags[after] & into and long[number] > worst:
                    worst = long[number]
                    path = [*self._path_by(before, number), after]
        return Finding(entry.statement, entry.text, worst, int(entry.most), path)

    def _since(self, bit: int, most: int) -> tuple[bytearray, dict[int, int]]:
        """For how many ticks, up to `most`, a flag may have been set when a state is reached."""
        flags, long = self.flags, bytearray(len(self.flags))
        before: dict[int, int] = {}
        queue = deque(number for number, found in enumerate(flags) if found & bit)
        waiting = bytearray(1 if found & bit else 0 for found in flags)
        while queue:
            number = queue.popleft()
            waiting[number] = 0
            for more, nexts in ((1, self.ticks[number]), (0, self.strikes[number])):
                reached = min(most, long[number] + more)
                for after in nexts:
                    if long[after] < reached and flags[after] & bit:
                        long[after], before[after] = reached, number
                        if not waiting[after]:
                            waiting[after] = 1
                            queue.append(after)
        return long, before

    def _judge_changes(self) -> Finding:
        """How many more changes of the active node than causes there are on any path.

        A switch that dies for both is no cause. The boot of both nodes is one. Whoever gives
        the role to the node with the worse interface, or with the service that fails its check,
        causes two: the interface, which fails there again since its watcher begins again, is as
        good a reason to give the role away as it was before. So do addresses that vanish while the
        link is cut: for a while no node answers for them, and when both nodes have asked in that
        while, the one that comes first has them again in the end.
        """
        unknown = -100
        value = array("b", [unknown]) * len(self.worlds)
        before: dict[int, int] = {}
        queue = deque(number for number, parent in enumerate(self.parents) if parent < 0)
        for number in queue:
            value[number] = -1
        waiting = set(queue)
        worst, end = unknown, -1
        while queue and worst < ENDLESS:
            number = queue.popleft()
            waiting.discard(number)
            if value[number] > worst:
                worst, end = value[number], number
            for after in (*self.ticks[number], *self.strikes[number]):
                more = value[number] + change(self.worlds[number], self.worlds[after])
                more -= (number, after) in self.twice
                if more > value[after]:
                    value[after], before[after] = more, number
                    if after not in waiting:
                        waiting.add(after)
                        queue.append(after)
        text = "changes of the active node beyond their causes"
        return Finding(4, text, worst, 0, self._path_by(before, end))


def change(before: World, after: World) -> int:
    """1 if another node has become active, less what has caused it."""
    changed = before.owner != UNOWNED and after.owner != before.owner
    both_ears = before.switch != after.switch or (
        before.traffic != after.traffic and STILL in (before.traffic, after.traffic)
    )
    return changed - (0 if both_ears else before.faults - after.faults)


def counts_twice(world: World, fault: Fault) -> bool:
    """Do addresses vanish unnoticed, or does a person ask for the node that receives less, for one
    that receives too little, or for the one whose service is sick?"""
    word, number, _ = fault
    if word == "bare":
        return world.wire != (True, True)
    if word not in COMMAND.values():
        return False
    wanted = number if word == "fail" else 1 - number
    fit = [not host.sick for host in world.hosts]
    receiving = [sum(how == RECEIVES for how in host.reception) for host in world.hosts]
    worse = receiving[wanted] < receiving[1 - wanted] or fit[wanted] < fit[1 - wanted]
    return world.traffic == FEW or worse


def play(
    game: Game, world: World, fault: Fault | None, chance: Chance, notes: list[str] | None = None
) -> World:
    """What becomes of a world in a tick, or by a fault."""
    if fault is None:
        return tick(game, world, chance, notes)
    return strike(game, world, fault, chance, notes)
