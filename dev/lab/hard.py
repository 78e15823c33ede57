"""What dev/hard runs: a real pair whose processes are killed, stopped and restarted at random.

Bursts of such acts hit both nodes. After each of them every process has to be there again, once
and in time; all the while no role changes, the address stays where it is, and the client loses no
packet. At the end both stop, and nothing is left.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TextIO

from dev.lab import logs
from dev.lab.chaos import BUG
from dev.lab.ending import FAILED, guarded
from dev.lab.eyes import Eyes
from dev.lab.faults import CHILDREN, NAMES
from dev.lab.network import Lab
from dev.lab.node import Node
from dev.lab.spaces import LabError, Process
from failoverd.master.supervisor import FIRST_DELAY, LONGEST_DELAY, SETTLED

MAIN = "failoverd"
IN_TIME = 1.0  # seconds, and what the back-off takes
PATIENCE = 2.0  # seconds of silence after which a child is replaced, with the lab's timers
BURST = 5  # acts at most, before peace
LOOK = 0.03  # seconds between two looks
START_LIMIT = 30.0
DOORS = 3  # listening sockets on the port: the link's, lo's, and that of the second path
ROUND_TRIP = 0.5  # seconds for the last probe's answer


class Broken(Exception):
    """Something that must hold does not."""


@dataclass(frozen=True)
class Seen:
    """A line of ps."""

    pid: int
    parent: int
    state: str
    args: str


@dataclass
class Place:
    """Where a process is expected: who was there last, and by when another one has to be."""

    pid: int = 0
    since: float = 0.0
    delay: float = FIRST_DELAY
    due: float = 0.0

    def died(self, now: float, after: float) -> None:
        """It ends `after` so many seconds: the back-off is that of failoverd."""
        if now - self.since > SETTLED * self.delay:
            self.delay = FIRST_DELAY
        self.due = now + after + self.delay
        self.delay = min(2 * self.delay, LONGEST_DELAY)


@dataclass
class Told:
    """What a campaign comes to. waits: seconds until a process was there again, by act."""

    acts: int = 0
    waits: dict[str, list[float]] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        for kind, waits in sorted(self.waits.items()):
            ordered = sorted(waits)
            middle, worst = ordered[len(ordered) // 2], ordered[-1]
            yield f"{kind}: {len(waits)} times, back after {middle:.2f} s, at most {worst:.2f} s"


class Trial:
    """One pair. in_time: seconds that a process may take to be back, besides the back-off."""

    def __init__(self, lab: Lab, seed: int, in_time: float = IN_TIME) -> None:
        self.lab = lab
        self.dice = random.Random(seed)
        self.in_time = in_time
        self.told = Told()
        self.nodes = {node.name: node for node in lab.nodes}
        self.mains: dict[str, Process] = {}
        self.places = {(name, title): Place() for name in NAMES for title in (MAIN, *CHILDREN)}
        for node in lab.nodes:
            node.write_conf()
            self.start(node)
        end = time.monotonic() + START_LIMIT
        while self.roles() != ["active", "standby"] or self.lab.holders() != ["a"]:
            self.insist(time.monotonic() < end, "the pair does not start")
            time.sleep(LOOK)
        self.changes = self.role_lines()

    def insist(self, condition: object, why: str) -> None:
        if not condition:
            raise Broken(f"{why}\n{self.lab.tails()}")

    def roles(self) -> list[str]:
        return [node.role() for node in self.nodes.values()]

    def role_lines(self) -> list[str]:
        return [
            f"{node.name}: {line}"
            for node in self.nodes.values()
            for line in logs.lines(node.log(), "ROLE")
        ]

    # ------------------------------------------------------------------ who is there

    def census(self) -> list[Seen]:
        lines = self.lab.switch.check("ps", "-ww", "-eo", "pid=,ppid=,stat=,args=").splitlines()
        fields = (line.split(None, 3) for line in lines)
        return [Seen(int(f[0]), int(f[1]), f[2], f[3]) for f in fields if len(f) == 4]

    def missing(self, seen: list[Seen]) -> str:
        """What is not as it should be, "" if all is well."""
        wrong = ""
        for name, node in self.nodes.items():
            main = self.mains[name].pid
            family = {one.pid for one in seen if one.parent == main}
            for title in CHILDREN:
                args = f"failoverd: {title} [{node.folder}/run/pid]"
                found = [one for one in seen if one.args == args]
                if len(found) != 1 or found[0].pid not in family or "Z" in found[0].state:
                    wrong = f"{name} has {len(found)} times {title}"
                elif found[0].state.startswith("T"):
                    wrong = f"{title} of {name} stands still"
                else:
                    self.note(name, title, found[0].pid)
            strangers = [one for one in seen if one.parent == main and "Z" in one.state]
            if strangers:
                wrong = f"{name} has a zombie, {strangers[0].args}"
        return wrong

    def note(self, name: str, title: str, pid: int) -> None:
        place = self.places[name, title]
        if place.pid != pid:
            place.pid, place.since = pid, time.monotonic()

    # ------------------------------------------------------------------ what is done

    def start(self, node: Node) -> None:
        self.mains[node.name] = node.start_failoverd()
        for title in CHILDREN:
            self.places[node.name, title] = Place()
        self.places[node.name, MAIN] = Place(self.mains[node.name].pid, time.monotonic())

    def signal(self, pid: int, number: signal.Signals) -> None:
        try:
            self.lab.spaces.request({"do": "signal", "pid": pid, "signal": int(number)})
        except LabError:
            pass  # it is gone already

    def kill_child(self, name: str) -> None:
        place = self.places[name, self.dice.choice(CHILDREN)]
        self.signal(place.pid, signal.SIGKILL)
        place.died(time.monotonic(), 0.0)

    def stop_child(self, name: str) -> None:
        place = self.places[name, self.dice.choice(CHILDREN)]
        self.signal(place.pid, signal.SIGSTOP)
        if self.dice.random() < 0.5:
            time.sleep(self.dice.uniform(0.0, 0.5))
            self.signal(place.pid, signal.SIGCONT)
        place.died(time.monotonic(), PATIENCE)

    def stop_main(self, name: str) -> None:
        self.signal(self.mains[name].pid, signal.SIGSTOP)
        time.sleep(self.dice.choice((0.01, self.dice.uniform(0.0, 2.0))))
        self.signal(self.mains[name].pid, signal.SIGCONT)
        for title in CHILDREN:  # one that has said nothing meanwhile may be replaced
            self.places[name, title].died(time.monotonic(), PATIENCE)

    def restart(self, name: str) -> None:
        self.mains[name].close()
        time.sleep(self.dice.choice((0.0, self.dice.uniform(0.0, 0.5))))
        self.start(self.nodes[name])

    def terminate(self, name: str) -> None:
        self.mains[name].terminate()
        status = self.mains[name].wait()
        allowed = (0, -signal.SIGTERM)  # it may not have been up yet
        self.insist(status in allowed, f"failoverd on {name} ended with {status}")
        self.restart(name)

    def burst(self) -> None:
        """Some acts, then peace until all are back. Raises Broken."""
        acts = [self.dice.choices(list(ACTS), [ACTS[act] for act in ACTS])[0]]
        acts *= self.dice.randint(1, BURST)
        for act in acts:
            getattr(self, act)(self.dice.choice(NAMES))
            time.sleep(self.dice.choice((0.0, self.dice.uniform(0.0, 0.3))))
        self.told.acts += len(acts)
        began = time.monotonic()
        self.await_all()
        self.told.waits.setdefault(acts[0].replace("_", " "), []).append(time.monotonic() - began)

    def await_all(self) -> None:
        """Until every process is there, and answers."""
        while wrong := self.missing(self.census()) or self.silent():
            now = time.monotonic()
            due = max(place.due for place in self.places.values())
            ended = [name for name, main in self.mains.items() if main.poll() is not None]
            self.insist(not ended, f"failoverd has ended on {ended}")
            begun = max(self.places[name, MAIN].since for name in NAMES)
            limit = max(due, begun + START_LIMIT * (self.starting())) + self.in_time
            self.insist(now < limit, f"{self.in_time:g} s too late: {wrong}")
            time.sleep(LOOK)

    def starting(self) -> bool:
        """Whether a failoverd is not up yet: there is no promise how long that takes."""
        return any(not self.places[name, title].pid for name in NAMES for title in CHILDREN)

    def silent(self) -> str:
        found = self.roles()
        return "" if found == ["active", "standby"] else f"the roles are {found}"

    # ------------------------------------------------------------------ what must hold

    def check(self, eyes: Eyes) -> None:
        """Raises Broken."""
        eyes.check()
        self.insist(not eyes.changes, f"the address has moved: {eyes.changes[:2]}")
        lines = self.role_lines()
        self.insist(lines == self.changes, f"a role has changed: {lines[len(self.changes) :][:2]}")
        for node in self.nodes.values():
            said = node.log() + node.read("terminal")
            bug = BUG.search(said)
            self.insist(bug is None, f"{node.name}: {bug and said[bug.start() :][:300]}")
            ports = node.check("ss", "-Hltn", "sport = 2000").splitlines()
            self.insist(len(ports) == DOORS, f"{node.name} has these doors: {ports}")

    def check_client(self, since: float) -> None:
        time.sleep(ROUND_TRIP)
        self.lab.client.stop_probing()
        record = self.lab.client.record
        sent = [at for at in record.sent if at >= since]
        replies = [at for at in record.replies if at >= since]
        unanswered = [at for at in sent if at < record.sent[-1] - ROUND_TRIP]
        lost = len(unanswered) - len(replies)
        self.insist(lost <= 0, f"the client lost {lost} of {len(sent)} packets")

    def end(self) -> None:
        """Both are locked, stop when they are told to, and leave nothing behind."""
        for name, node in self.nodes.items():
            again = node.command("failoverd").stderr
            wanted = f"already running (pid {self.mains[name].pid})"
            self.insist(wanted in again, f"{name} has lost its lock: {again}")
            self.mains[name].terminate()
            self.insist(self.mains[name].wait() == 0, f"failoverd on {name} did not stop well")
            self.insist(not node.read("run/pid"), f"{name} has left its pid file")
        end = time.monotonic() + START_LIMIT
        while left := [args for name in NAMES for args in self.inhabitants(name)]:
            self.insist(time.monotonic() < end, f"left behind: {left}")
            time.sleep(LOOK)

    def inhabitants(self, name: str) -> list[str]:
        """What runs on a node, whatever it is called: its network tells whose it is."""
        home = self.lab.switch.check("stat", "-L", "-c", "%i", f"/run/netns/{name}").strip()
        listing = self.lab.switch.check("ps", "-ww", "-eo", "netns=,args=")
        rows = [line.split(None, 1) for line in listing.splitlines()]
        return [row[1] for row in rows if row[0] == home]


ACTS = {"kill_child": 8, "stop_child": 2, "stop_main": 2, "restart": 3, "terminate": 1}


def campaign(seed: int, seconds: float, acts: int = 0, in_time: float = IN_TIME) -> Told:
    """Go on for so long, and for so many acts at least. Raises Broken, NoNamespaces, LabError."""
    with Lab() as lab:
        trial = Trial(lab, seed, in_time)
        trial.await_all()
        end = time.monotonic() + seconds
        with Eyes(lab) as eyes:
            lab.wait_until(lab.client.answering, "the client is answered")
            since = time.monotonic()
            while time.monotonic() < end or trial.told.acts < acts:
                trial.burst()
                trial.check(eyes)
            trial.check_client(since)
        trial.end()
        return trial.told


def main(argv: list[str] | None = None) -> int:
    """Exit status 0: all held, 1: something did not, 2: usage, no namespaces."""
    options = parse(argv)
    seed = int(time.time()) % 1_000_000 if options.seed is None else options.seed
    return guarded("hard", lambda: one(seed, options.seconds))


def one(seed: int, seconds: float) -> int:
    try:
        told = campaign(seed, seconds)
    except (Broken, LabError) as error:
        print(f"hard: {error}\nagain: dev/hard --seed {seed}")
        return FAILED
    report(told, seed, sys.stdout)
    return 0


def report(told: Told, seed: int, out: TextIO) -> None:
    out.writelines(f"{line}\n" for line in told.lines())
    out.write(
        f"seed {seed}: {told.acts} acts; no role changed, the address never moved, the client lost "
        "no packet, nothing was left behind\n"
    )


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="hard",
        description="failoverd's processes are killed and stopped at random, on a real pair.",
        epilog="Exit status: 0 all held, 1 something did not, 2 usage or no namespaces.",
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (%(default)g)")
    parser.add_argument("--seed", type=int, help="what happens, but for the moments")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
