"""What dev/soak runs: one pair for long, and whether it is afterwards as it was at the start.

Thousands of exchanges, authentic and refused, go to the ports of both nodes, and between them
`ha-fail` switches to and fro. What a process holds is looked at when it has warmed up, half-way and
at the end: its descriptors, its memory, its children, what it remembers and what it has logged.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import socket
import struct
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from dev.lab.ending import guarded
from dev.lab.faults import CHILDREN
from dev.lab.network import WATCHFUL, Lab
from dev.lab.node import PLIP, SECRET, SWITCH, Node
from dev.lab.spaces import LabError
from failoverd import history
from failoverd.wire.protocol import REFUSED, ClientConnection, NoAnswer, Reply, Send

WARM = 0.1  # of all there is to do comes before the first look: what is loaded and cached once
FULL = 2 * history.MOST  # switches after which what is remembered of them has all it may have
GROWTH = 128  # KiB that a process may have more of its own at the end than half-way
MORE = 512  # KiB that it may have more than when it was warm
A_SWITCH = 40  # lines of a log that one switch may cost
PACE = 0.06  # seconds between two requests for a switch: failoverd takes twenty a second
LIMIT = 30.0
LOOKS = 3
REST = 15.0  # seconds after which all that was under way has come to its end
NEVER_TRUE = "0" * 64
LASTING = ("failoverd", *CHILDREN)  # other processes do one thing, and end

# The log leaves out what is repeated too often, so the script's runs are counted where they happen.
_COUNTED = """#!/bin/sh
echo "$1" >>"${0%/*}/runs"
exec "${0%/*}/ha-switch.shipped" "$1"
"""

Say = Callable[[str], None]


# -------------------------------------------------------------------------------- what is seen


@dataclass(frozen=True)
class Held:
    """What one process holds. own: KiB of memory that no file backs, shared with others or not.

    So it grows by what is allocated, and not by pages that are no longer shared.
    """

    pid: int
    files: int
    own: int


@dataclass(frozen=True)
class Look:
    """Both nodes at one moment. Keys of `held` are like "a: watchd eth0"."""

    held: Mapping[str, Held]
    processes: int
    zombies: int
    roles: Mapping[str, str]
    state: Mapping[str, object]  # what $state holds, but for times
    lines: int = 0  # of both logs
    runs: int = 0  # of the switch script
    connections: int = 0  # that were open before or after the look, at either node


@dataclass
class Done:
    """What was done between two looks."""

    switches: int = 0
    answered: int = 0
    refused: int = 0
    seconds: float = 0.0
    persons: int = 0  # exchanges of which each is told in the log


def compared(first: Look, middle: Look, last: Look, done: Done) -> list[str]:
    """All that is not as it was, or not as it should be; `done` is between the first and last."""
    wrong = [f"{name} is gone, or another one" for name in sorted(changed(first, last))]
    for name in sorted(first.held.keys() & last.held.keys()):
        before, half, after = first.held[name], middle.held.get(name), last.held[name]
        if after.files != before.files:
            wrong.append(f"{name} has {after.files} descriptors open, {before.files} before")
        if half is not None and after.own > half.own + GROWTH:
            wrong.append(f"{name} has {after.own} KiB, {half.own} half-way: it grows")
        if after.own > before.own + MORE:
            wrong.append(f"{name} has {after.own} KiB, {before.own} when it was warm")
    if last.zombies or last.processes != first.processes:
        wrong.append(f"{last.processes} processes, {first.processes} before; {last.zombies} dead")
    if last.roles != first.roles:
        wrong.append(f"the roles are {dict(last.roles)}, they were {dict(first.roles)}")
    if last.state != first.state:
        wrong.append(f"$state is {dict(last.state)}, it was {dict(first.state)}")
    if last.runs - first.runs != 2 * done.switches:
        runs = last.runs - first.runs
        wrong.append(f"{runs} runs of the script for {done.switches} switches")
    allowed = A_SWITCH * done.switches + 2 * done.persons + 6 * done.seconds + 20
    if last.lines - first.lines > allowed:
        wrong.append(f"the logs have {last.lines - first.lines} lines more, {allowed:.0f} allowed")
    return wrong


def changed(first: Look, last: Look) -> set[str]:
    """The processes that are not the same ones."""
    pids = [{(name, held.pid) for name, held in look.held.items()} for look in (first, last)]
    return {name for name, _ in pids[0] ^ pids[1]}


def look(lab: Lab) -> Look:
    """Look at everything in the lab, at a moment when nothing is under way."""
    before = connections(lab)
    listing = lab.a.check("ps", "-e", "-o", "pid=,ppid=,stat=,args=").splitlines()
    rows = [line.split(None, 3) for line in listing]
    held = {}
    for node in lab.nodes:
        main = node.read("run/pid").strip()
        names = {main: "failoverd"}
        names |= {pid: title(words) for pid, parent, _, words in rows if parent == main}
        for pid, held_by in measured(lab.a, list(names)).items():
            held[f"{node.name}: {names[str(pid)]}"] = held_by
    return Look(
        held=held,
        processes=len([row for row in rows if not row[3].startswith("ps -e ")]),
        zombies=sum("Z" in row[2] for row in rows),
        roles={node.name: node.role() for node in lab.nodes},
        state={node.name: saved(node) for node in lab.nodes},
        lines=sum(node.log().count("\n") for node in lab.nodes),
        runs=sum(node.read("runs").count("\n") for node in lab.nodes),
        connections=max(before, connections(lab)),
    )


def connections(lab: Lab) -> int:
    """How many ends of open connections there are: each is a descriptor that is soon closed."""
    which = ("ss", "-Htn", "state", "connected", "exclude", "time-wait")
    return sum(len(node.check(*which).splitlines()) for node in lab.nodes)


def title(words: str) -> str:
    """watchd eth0, of "failoverd: watchd eth0 [/run/pid]"."""
    return words.removeprefix("failoverd: ").partition(" [")[0]


_MEASURE = """
for pid; do
    set -- /proc/$pid/fd/*
    echo "pid $pid $#"
    grep ^Anonymous: /proc/$pid/smaps_rollup || : # it has ended
done
"""


def measured(node: Node, pids: Sequence[str]) -> dict[int, Held]:
    """The least of some looks: a connection or a query may be under way during one of them."""
    least: dict[int, Held] = {}
    for _ in range(LOOKS):
        words = node.check("sh", "-c", _MEASURE, "measure", *pids)
        for pid, files, own in re.findall(r"pid (\d+) (\d+)\nAnonymous: +(\d+)", words):
            before = least.get(int(pid), Held(0, 1 << 30, 1 << 30))
            least[int(pid)] = Held(
                int(pid), min(int(files), before.files), min(int(own), before.own)
            )
        time.sleep(0.1)
    return least


def saved(node: Node) -> dict[str, object]:
    """What $state holds, but for what tells when."""
    held: dict[str, object] = json.loads(node.read("run/state") or "{}")
    return {key: value for key, value in held.items() if key not in ("since", "began", "script")}


# -------------------------------------------------------------------------------- what is done


@dataclass(frozen=True)
class Exchange:
    """One way to talk to a port. want: the beginning of the last line; "" if there is none.

    far: from the peer, over the heartbeat link. person: failoverd logs each of them.
    """

    want: str
    talk: Callable[[socket.socket, str], str]
    far: bool = False
    command: str = "status"
    person: bool = False


def signed(connection: socket.socket, command: str) -> str:
    """As failoverd itself asks. Raises LabError if there is no authentic answer."""
    client = ClientConnection(SECRET.encode(), command)
    while data := connection.recv(65536):
        for event in client.feed(data):
            if isinstance(event, Send):
                connection.sendall(event.data)
            elif isinstance(event, Reply):
                return f"{'ok' if event.ok else 'error'} {event.text}"
            else:
                assert isinstance(event, NoAnswer)
                raise LabError(event.why)
    raise LabError("no answer")


def typed(text: bytes) -> Callable[[socket.socket, str], str]:
    """As a person types, whatever comes of it."""

    def talk(connection: socket.socket, command: str) -> str:
        try:
            connection.sendall(text.replace(b"COMMAND", command.encode()))
            said = b"".join(iter(lambda: connection.recv(65536), b""))
        except ConnectionError:
            return ""
        return said.decode(errors="replace").rstrip("\n").rpartition("\n")[2]

    return talk


def reset(connection: socket.socket, _: str) -> str:
    """Connect, and be gone without a word."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return ""


WORD = f"{SECRET}\nCOMMAND\n".encode()
REFUSAL = REFUSED.decode().strip()
# What changes nothing: `fail` goes to the active node, `resume` to the standby.
EXCHANGES = (
    Exchange("ok {", signed),
    Exchange("ok {", signed, far=True),
    Exchange("ok {", typed(WORD)),
    Exchange(REFUSAL, typed(b"a wrong word\nCOMMAND\n")),
    Exchange("ok active", signed, command="fail", person=True),
    Exchange("ok {", signed, far=True),
    Exchange(REFUSAL, typed(f"hmac {NEVER_TRUE} COMMAND\n".encode())),
    Exchange("ok standby", typed(WORD), command="resume", person=True),
    Exchange("ok {", signed),
    Exchange(REFUSAL, typed(b"\0\xff\n"), far=True),
    Exchange("ok {", typed(WORD)),
    Exchange("error unknown command", typed(WORD), command="dance"),
    Exchange("", reset, far=True),
    Exchange("ok {", signed, far=True),
    Exchange(REFUSAL, typed(b"x" * 3000), far=True),
)


@dataclass
class Soak:
    """One pair in a lab that runs already, and what is done to it."""

    lab: Lab
    say: Say
    done: Done = field(default_factory=Done)
    active: int = 0  # which of the nodes

    def start(self) -> None:
        for node in self.lab.nodes:
            node.write_conf(**WATCHFUL)
            node.write("ha-switch.shipped", SWITCH.read_text(), 0o755)
            node.write("ha-switch", _COUNTED, 0o755)
            node.start_failoverd()
        self.settle()
        self.lab.client.start_probing()
        self.lab.wait_until(self.lab.client.answering, "the client is answered", LIMIT)

    def settle(self) -> None:
        """Wait until the one is active and the other stands by."""
        want = ["standby", "standby"]
        want[self.active] = "active"
        self.lab.wait_until(
            lambda: [node.role() for node in self.lab.nodes] == want, str(want), LIMIT
        )

    def go(self, exchanges: int, switches: int) -> None:
        """So many of both, evenly mixed."""
        began = time.monotonic()
        ways = itertools.cycle(EXCHANGES)
        for number in range(max(switches, 1)):
            for _ in range(share(exchanges, number, max(switches, 1))):
                self.exchange(next(ways))
            if switches:
                self.switch(self.lab.nodes[number % 3 == 0])
        self.settle()
        self.done.seconds += time.monotonic() - began

    def switch(self, node: Node) -> None:
        """`ha-fail`, on the active node or on the other. Raises LabError if it did not work."""
        done = node.command("ha-fail")
        if done.returncode != 0:
            raise LabError(f"{node.name}: ha-fail: {done.stderr.strip()}")
        self.active = 1 - self.active
        self.done.switches += 1

    def exchange(self, way: Exchange) -> None:
        """One of them. Raises LabError if anything else is answered than it should be."""
        number = (self.done.answered + self.done.refused) % 2
        if way.person:
            number = self.active if way.command == "fail" else 1 - self.active
            time.sleep(PACE)
        node = self.lab.nodes[number]
        said = ""
        with self.connected(node, self.lab.nodes[1 - number] if way.far else node) as port:
            said = way.talk(port, way.command)
        if not said.startswith(way.want) and (said or way.want != REFUSAL):
            raise LabError(f"{node.name}: {way.command}: {said!r} instead of {way.want!r}")
        self.done.persons += way.person
        if way.want.startswith("ok"):
            self.done.answered += 1
        else:
            self.done.refused += 1

    def connected(self, node: Node, asker: Node) -> socket.socket:
        """A connection to a node's port: from itself, or from the peer over the link."""
        addresses = [node.interfaces[PLIP].addresses[0].split("/")[0] for node in (node, asker)]
        port = asker.socket(socket.AF_INET, socket.SOCK_STREAM)
        port.settimeout(LIMIT)
        if asker is not node:
            port.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, PLIP.encode())
        port.bind((addresses[1], 0))
        port.connect((addresses[0], 2000))
        return port

    def outages(self, since: float, least: float) -> list[float]:
        """How long the client was not answered, each time that this took so long."""
        gaps = self.lab.client.record.gaps(since, time.monotonic())
        return sorted(end - begin for begin, end in gaps if end - begin >= least)


def share(whole: int, number: int, parts: int) -> int:
    """The size of one of so many parts, which add up to the whole."""
    return whole * (number + 1) // parts - whole * number // parts


def even(switches: int) -> int:
    """A number of switches after which the roles are as before."""
    return switches - switches % 2


def soak(lab: Lab, exchanges: int, switches: int, say: Say) -> list[str]:
    """All of it. What is wrong afterwards, each in a sentence. Raises LabError, TimeoutError."""
    run = Soak(lab, say)
    run.start()
    switched = max(int(switches * WARM), min(switches, FULL))
    run.go(int(exchanges * WARM) + len(EXCHANGES), even(switched) + 2)
    first = at_rest(lab, under_way)
    run.done, began = Done(), time.monotonic()
    run.go(share(exchanges, 0, 2), even(switches // 2))
    middle = look(lab)
    told(say, run, first, middle)
    run.go(share(exchanges, 1, 2), even(switches // 2))
    last = at_rest(lab, lambda seen: compared(first, middle, seen, run.done))
    told(say, run, first, last)
    tell_client(say, run, began)
    return compared(first, middle, last, run.done)


def under_way(seen: Look) -> list[str]:
    """What has not come to its end yet."""
    dead = ["a process has just ended"] if seen.zombies else []
    errands = [f"{name} runs" for name in seen.held if name.partition(": ")[2] not in LASTING]
    return dead + errands + (["a connection is open"] if seen.connections else [])


def at_rest(lab: Lab, wrong: Callable[[Look], list[str]]) -> Look:
    """The first look at which nothing is wrong; the last one if that does not come.

    A connection may still be about to be closed, or a process that has ended to be reaped.
    """
    end = time.monotonic() + REST
    while wrong(seen := look(lab)) and time.monotonic() < end:
        pass  # a look takes a while
    return seen


def told(say: Say, run: Soak, first: Look, now: Look) -> None:
    done = run.done
    say(
        f"{done.seconds:.0f} s: {done.answered} exchanges answered, {done.refused} refused, "
        f"{done.switches} switches; {now.lines - first.lines} lines in the logs"
    )
    for name, held in now.held.items():
        before = first.held.get(name, Held(0, 0, 0))
        say(
            f"  {name:18} {held.files:3} descriptors ({held.files - before.files:+}), "
            f"{held.own:6} KiB ({held.own - before.own:+})"
        )


def tell_client(say: Say, run: Soak, since: float) -> None:
    gaps = run.outages(since, 0.02)
    longest, middle = (gaps[-1], gaps[len(gaps) // 2]) if gaps else (0.0, 0.0)
    say(
        f"the client was not answered for more than 20 ms {len(gaps)} times, at most "
        f"{longest * 1000:.0f} ms, half of them at most {middle * 1000:.0f} ms"
    )


# -------------------------------------------------------------------------------- the command


def main(argv: list[str] | None = None) -> int:
    """Exit status 0: all is as at the start, 1: not, 2: usage, no namespaces, 130: stopped."""
    options = parse(argv)
    return guarded("soak", lambda: one(options))


def one(options: argparse.Namespace) -> int:
    with Lab() as lab:
        return tell(soak(lab, options.exchanges, options.switches, say), sys.stdout)


def say(text: str) -> None:
    print(text, flush=True)


def tell(wrong: list[str], out: TextIO) -> int:
    out.writelines(f"WRONG: {one}\n" for one in wrong)
    out.write("" if wrong else "all is as at the start\n")
    return 1 if wrong else 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="soak",
        description="Run one pair for long: is it afterwards as it was at the start?",
        epilog="Exit status: 0 it is, 1 it is not, 2 usage or no namespaces.",
    )
    add = parser.add_argument
    add("--exchanges", type=whole, default=10_000, help="with the ports (%(default)s)")
    add("--switches", type=whole, default=1_000, help="to and fro (%(default)s)")
    return parser.parse_args(argv)


def whole(text: str) -> int:
    if not text.isdecimal():
        raise ValueError
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
