"""Every state that the two machines can come to, and what must hold in each and on every path."""

from __future__ import annotations


import sys
import time
from array import array
from collections import deque
from dataclasses import dataclass, field

from failoverd import pair
from tests.explorer.model import (
    FROZEN,
    HEARS,
    NAMES,
    OFF,
    RUNNING,
    SCRIPTS,
    Fault,
    Game,
    Setup,
    Violation,
    World,
    Chance,
)

TWO, HEAR, NONE, WELL_A, WELL_B, PAIR, ONE, WIRED, B_NOT_BETTER, A_NOT_BETTER, A_GIVES, B_GIVES, STALE = (1 << n for n in range(13))


@dataclass
class Found:
    text: str
    story: list[str]


class Explorer:
    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.game = Game(setup)
        self.numbers: dict[World, int] = {}
        self.worlds: list[World] = []
        self.parent = array("i")
        self.by: list[tuple[Fault | None, tuple[int, ...]]] = []
        self.flags = array("H")
        self.ticks: list[tuple[int, ...]] = []
        self.strikes: list[tuple[int, ...]] = []
        self.transitions = 0

    def add(self, world: World, parent: int, by) -> int:
        n = self.numbers.get(world)
        if n is None:
            n = self.numbers[world] = len(self.worlds)
            self.worlds.append(world)
            self.parent.append(parent)
            self.by.append(by)
            self.flags.append(flags(self.game, world))
        return n

    def run(self, limit: int = 10**9, progress: bool = False) -> None:
        game = self.game
        for w in game.first_worlds():
            self.add(w, -1, (None, ()))
        at = 0
        began = time.monotonic()
        while at < len(self.worlds):
            world = self.worlds[at]
            if progress and at % 20000 == 0:
                print(at, len(self.worlds), self.transitions, f"{time.monotonic()-began:.1f}s", len(game.minds[0].states), file=sys.stderr)
            if at > limit:
                raise SystemExit("limit")
            out: list[set[int]] = [set(), set()]
            for kind, fault in [(0, None), *((1, f) for f in game.faults(world))]:
                run = (lambda c: game.tick(world, c)) if fault is None else (lambda c, f=fault: game.strike(world, f, c))
                stack: list[tuple[int, ...]] = [()]
                while stack:
                    script = stack.pop()
                    chance = Chance(script)
                    try:
                        nxt = run(chance)
                    except Violation as v:
                        raise Violation(str(v), self.tell(at) + self.step_notes(world, fault, script))
                    except Exception:
                        print("\n".join(self.tell(at)+[str(fault)]), file=sys.stderr)
                        raise
                    stack.extend(chance.alternatives())
                    self.transitions += 1
                    out[kind].add(self.add(nxt, at, (fault, script)))
            self.ticks.append(tuple(out[0]))
            self.strikes.append(tuple(out[1]))
            at += 1

    def step_notes(self, world, fault, script) -> list[str]:
        notes: list[str] = []
        try:
            if fault is None:
                self.game.tick(world, Chance(script), notes)
            else:
                self.game.strike(world, fault, Chance(script), notes)
        except Violation:
            pass
        return notes

    def path(self, n: int) -> list[int]:
        out = []
        while n >= 0:
            out.append(n)
            n = self.parent[n]
        return out[::-1]

    def tell(self, n: int) -> list[str]:
        return self.tell_path(self.path(n))

    def tell_path(self, path: list[int]) -> list[str]:
        """The story of a path of states."""
        lines: list[str] = []
        time = 0
        for a, b in zip(path, path[1:]):
            fault, script = self.way(a, b)
            if fault is None:
                time += 1
            for note in self.step_notes(self.worlds[a], fault, script):
                lines.append(f"{time:4}  {note}")
        lines.append(f"{time:4}  now: " + picture(self.game, self.worlds[path[-1]]))
        return lines

    def way(self, a: int, b: int):
        if self.parent[b] == a:
            return self.by[b]
        world = self.worlds[a]
        for fault in [None, *self.game.faults(world)]:
            run = (lambda c: self.game.tick(world, c)) if fault is None else (lambda c: self.game.strike(world, fault, c))
            for script, nxt in self.game.ways(run):
                if self.numbers[nxt] == b:
                    return fault, script
        raise AssertionError

    # ---- measures

    def longest(self, holds, cap: int = 60, reset: bool = True):
        """Longest stretch of ticks for which holds(flags) on any path (fault edges reset)."""
        value: dict[int, int] = {}
        back: dict[int, int] = {}
        queue = deque()
        for n, f in enumerate(self.flags):
            if holds(f):
                value[n] = 0
                queue.append(n)
        queued = set(queue)
        worst = (-1, -1)
        while queue:
            n = queue.popleft()
            queued.discard(n)
            v = value[n]
            if v > worst[0]:
                worst = (v, n)
            if v >= cap:
                return v, self.trace(n, back)
            for kind, nxts in ((1, self.ticks[n]), (0, self.strikes[n] if not reset else ())):
                for m in nxts:
                    if m in value and value[m] < v + kind:
                        value[m] = v + kind
                        back[m] = n
                        if m not in queued:
                            queued.add(m)
                            queue.append(m)
        if worst[1] < 0:
            return -1, []
        return worst[0], self.trace(worst[1], back)

    def since(self, bit: int, cap: int) -> tuple[bytearray, dict[int, int]]:
        """For how many ticks at most, up to cap, a bit has been set when a state is reached."""
        value = bytearray(len(self.flags))
        back: dict[int, int] = {}
        queue = deque(n for n, f in enumerate(self.flags) if f & bit)
        queued = bytearray(len(self.flags))
        for n in queue:
            queued[n] = 1
        flags = self.flags
        while queue:
            n = queue.popleft()
            queued[n] = 0
            v = value[n]
            for kind, nxts in ((1, self.ticks[n]), (0, self.strikes[n])):
                w = min(cap, v + kind)
                for m in nxts:
                    if value[m] < w and flags[m] & bit:
                        value[m] = w
                        back[m] = n
                        if not queued[m]:
                            queued[m] = 1
                            queue.append(m)
        return value, back

    def entries(self, name: str, bit: int, cap: int, entered: int) -> None:
        """Ticks that lead into a state that must not be entered after `bit` was set for so long."""
        value, back = self.since(bit, cap)
        found = 0
        for n, v in enumerate(value):
            if v >= cap and not self.flags[n] & entered:
                for m in self.ticks[n]:
                    if self.flags[m] & entered:
                        if not found:
                            print("=====", name)
                            print("\n".join(self.tell_path([*self.trace(n, back), m])))
                        found += 1
        print("=====", name, found, "found")

    def changes(self, cap: int = 20) -> None:
        """Changes of the owner beyond the number of causes, on any path."""
        value = array("b", [-128]) * len(self.flags)
        back: dict[int, int] = {}
        queue = deque()
        for n, p in enumerate(self.parent):
            if p < 0:
                value[n] = 0
                queue.append(n)
        queued = set(queue)
        worst = (-100, 0)
        while queue:
            n = queue.popleft()
            queued.discard(n)
            v = value[n]
            if v > worst[0]:
                worst = (v, n)
                if v >= cap:
                    break
            a = self.worlds[n].owner
            left = self.worlds[n].faults
            was = self.worlds[n].switch, self.worlds[n].traffic
            for m in (*self.ticks[n], *self.strikes[n]):
                w = self.worlds[m]
                cause = left - w.faults if (w.switch, w.traffic) == was else 0
                d = v + (a != 2 and w.owner != a) - cause
                if d > value[m]:
                    value[m] = d
                    back[m] = n
                    if m not in queued:
                        queued.add(m)
                        queue.append(m)
        print("===== changes beyond causes", worst[0])
        if worst[0] > 1:
            print("\n".join(self.tell_path(self.trace(worst[1], back))))

    def trace(self, n: int, back: dict[int, int]) -> list[int]:
        tail = [n]
        seen = {n}
        while n in back and back[n] not in seen:
            n = back[n]
            seen.add(n)
            tail.append(n)
        tail.reverse()
        return self.path(tail[0])[:-1] + tail


def flags(game: Game, world: World) -> int:
    a, b = world.hosts
    up = [h.run not in (OFF, FROZEN) for h in world.hosts]
    holds = [h.holds and u for h, u in zip(world.hosts, up)]
    ends = all(SCRIPTS[h.behaviour].slave_removes for h in world.hosts)
    f = 0
    slaves = all(SCRIPTS[h.behaviour].slave_removes for h in world.hosts)
    if all(holds) and ends:
        f |= TWO
    alive = [h.run == RUNNING for h in world.hosts]
    wired = world.wire == (True, True)
    ether = world.switch and any(x == HEARS == y for x, y in zip(a.ears, b.ears))
    if slaves and all(alive) and (wired or (ether and any(holds))):
        f |= HEAR
    if slaves and all(alive) and wired:
        f |= WIRED
    ears = [sum(e == HEARS and world.switch and world.traffic for e in h.ears) for h in world.hosts]
    if ears[1] <= ears[0]:
        f |= B_NOT_BETTER
    if ears[0] <= ears[1]:
        f |= A_NOT_BETTER
    serving = [n for n in (0, 1) if holds[n] and ears[n] and (game.setup.cards == 1 or all(e == HEARS for e in world.hosts[n].ears))]
    if len(serving) == 1 and alive[serving[0]] and world.believed != serving[0] and slaves:
        f |= STALE
    for n, bit in ((0, A_GIVES), (1, B_GIVES)):
        h = world.hosts[n]
        if h.mind >= 0:
            s = game.minds[n].states[h.mind]
            if s.phase is pair.Phase.DEMOTING and s.cause is pair.Cause.INTERFACE:
                f |= bit
    if not any(holds):
        f |= NONE
    for n, bit in ((0, WELL_A), (1, WELL_B)):
        h = world.hosts[n]
        if alive[n] and world.switch and all(e == HEARS for e in h.ears) and works(h):
            f |= bit
    active = [
        alive[n] and game.minds[n].role[h.mind] == "active" and h.holds
        for n, h in enumerate(world.hosts)
    ]
    if all(alive) and wired and any(works(h) for h in world.hosts):
        f |= PAIR
    if sum(active) == 1:
        f |= ONE
    return f


def works(host) -> bool:
    return SCRIPTS[host.behaviour].name in ("works", "is as slow as it may be")


def picture(game: Game, world: World) -> str:
    out = []
    for n, h in enumerate(world.hosts):
        if h.run in (OFF,) or h.mind < 0:
            out.append(f"{NAMES[n]} {('off','dead')[h.run]}{' holds' if h.holds else ''}")
            continue
        s = game.minds[n].states[h.mind]
        out.append(f"{NAMES[n]} {h.run} {s.phase.value} ({s.cause.value}){' holds' if h.holds else ''} ears{h.ears} timers {[(t.name,v) for t,v in s.timers]} asks {len(h.asks)} script {h.script}")
    return "; ".join(out) + f" wire {world.wire} switch {world.switch} believed {world.believed}"


def self_limit(e) -> int:
    return e.setup.card_window + 2


def main() -> None:
    menu = frozenset(sys.argv[1].split(","))
    kw = {}
    for a in sys.argv[2:]:
        k, _, v = a.partition("=")
        kw[k] = type(getattr(Setup(), k))(eval(v))
    setup = Setup(menu=menu, **kw)
    e = Explorer(setup)
    t = time.monotonic()
    try:
        e.run(progress=True)
    except Violation as v:
        print("VIOLATION", v.args[0])
        print("\n".join(v.args[1]))
        return
    print(f"{len(e.worlds)} states, {e.transitions} transitions, {time.monotonic()-t:.1f}s, minds {[len(m.states) for m in e.game.minds]}")
    for name, f in {
        "two while they hear": lambda f: f & TWO and f & HEAR,
        "none, A well": lambda f: f & NONE and f & WELL_A,
        "none, B well": lambda f: f & NONE and f & WELL_B,
        "stale": lambda f: f & STALE,
        "not one": lambda f: f & PAIR and not f & ONE,
    }.items():
        v, path = e.longest(f)
        print("=====", name, v)
        if path and v > (0 if "two" in name else 8):
            print("\n".join(e.tell_path(path)))
    e.entries("two, after they have heard each other", HEAR, 10, TWO)
    e.entries("two, after they were linked", WIRED, 5, TWO)
    e.entries("A hands over to no better", B_NOT_BETTER, self_limit(e), A_GIVES)
    e.entries("B hands over to no better", A_NOT_BETTER, self_limit(e), B_GIVES)
    e.changes()
    print(f"{time.monotonic()-t:.1f}s")

if __name__ == "__main__":
    main()
