"""A random walk, for what lies beyond the bounds of the exploration: faults without number.

The same statements are judged, by counting ticks as the walk goes on. Everything follows from the
seed, so a violation can be told again.
"""

from __future__ import annotations

import random
from collections import deque

from dev.explorer.model import PLENTY, RECEPTION, Chance, Fault, Game, Setup, Violation, World
from dev.explorer.scene import strike, tick
from dev.explorer.statements import entries, flags, stretches
from dev.explorer.words import describe_world

FAULTS = 1 << 20  # as many as one likes
TOLD = 60  # ticks of a story that are told when something is wrong


class Dice(Chance):
    """Takes the first way mostly, and any other now and then."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self.dice = dice

    def pick(self, ways: int) -> int:
        return self.dice.randrange(ways) if self.dice.random() < 0.15 else 0


class Walk:
    """One walk from a boot of both nodes."""

    def __init__(self, setup: Setup, seed: int) -> None:
        self.game = Game(setup)
        self.dice = random.Random(seed)
        self.stretches = [(s, 0) for s in stretches(setup)]
        self.entries = [(e, 0) for e in entries(setup)]
        self.story: deque[str] = deque(maxlen=TOLD)
        self.time = 0
        self.faults = 0
        self.world = self.dice.choice(self.game.first_worlds())
        self.flags = 0
        self.restless = 0.0

    def go(self, steps: int) -> None:
        """Take so many steps. Raises Violation, with the end of the story."""
        for _ in range(steps):
            try:
                self.step()
            except Violation as violation:
                now = describe_world(self.game, self.world)
                raise Violation("\n".join([str(violation), *self.story, f"now: {now}"])) from None

    def step(self) -> None:
        """A tick, and before it a fault if this is a restless time. Quiet times are long enough for
        the pair to come to rest, restless ones have a fault every few ticks."""
        if self.dice.random() < 0.01:
            self.restless = self.dice.choice([0.0, 0.0, 0.02, 0.1, 0.4])
        self.world = self.world._replace(faults=FAULTS, delays=FAULTS)
        if self.dice.random() < self.restless:
            self.strike()
        before = self.world._replace(faults=FAULTS, delays=FAULTS)
        notes: list[str] = []
        self.time += 1
        try:
            self.world = tick(self.game, before, Dice(self.dice), notes)
        finally:
            self.story.extend(f"{self.time:6}  {note}" for note in notes)
        self.judge(self.world.faults < FAULTS, self.world.delays < FAULTS)

    def strike(self) -> None:
        fault = self.dice.choice(self.possible())
        notes: list[str] = []
        self.world = strike(self.game, self.world, fault, Dice(self.dice), notes)
        self.story.extend(f"{self.time:6}  {note}" for note in notes)
        self.faults += 1
        self.stretches = [(stretch, 0) for stretch, _ in self.stretches]
        now = flags(self.game, self.world)
        self.entries = [(e, long if now & e.after else 0) for e, long in self.entries]
        self.flags = now

    def possible(self) -> list[Fault]:
        """Repairs count twice, so that the world is whole now and then."""
        faults = list(self.game.faults(self.world))
        repairs = [f for f in faults if f[0] in ("boot", "start", "thaw", "mend") or mends(f)]
        return faults + repairs * 2

    def judge(self, lost: bool, late: bool) -> None:
        """Count the ticks of every stretch. lost, late: a message was, in this tick.

        Three answers in a row may be lost here, which the exploration's bounds rule out: where one
        was, the two have not reached each other in that tick.
        """
        before, self.flags = self.flags, flags(self.game, self.world)
        now = self.flags
        for number, (stretch, long) in enumerate(self.stretches):
            inside = now & (stretch.set | stretch.clear) == stretch.set
            ticks = long + 1 if inside and not (lost or late) else 0
            self.stretches[number] = (stretch, ticks)
            if ticks > stretch.most + 1:
                raise Violation(f"statement {stretch.statement}: {stretch.text} for {ticks} ticks")
        for number, (entry, long) in enumerate(self.entries):
            entered = now & entry.into and not before & entry.into
            if entered and before & entry.after and long > entry.most:
                raise Violation(f"statement {entry.statement}: {entry.text} {long} ticks")
            self.entries[number] = (entry, long + 1 if now & entry.after and not lost else 0)


def mends(fault: Fault) -> bool:
    word, _, what = fault
    whole = {"switch": 1, "traffic": PLENTY, "script": 0, "port": 1, "onearp": 1, "hole": 1}
    return whole.get(word) == what or (word == "interface" and what % len(RECEPTION) == 0)


def walk(setup: Setup, seed: int, steps: int) -> Walk:
    """Walk, and tell how it was. Raises Violation."""
    taken = Walk(setup, seed)
    taken.go(steps)
    return taken


__all__ = ["Walk", "World", "walk"]
