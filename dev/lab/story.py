"""The demo's story: a pair loses its master, gets it back, and loses a switch port.

It is told on a stage: the lab, with real processes and packets, or the simulation. What is told
is what the nodes' own logs say and what the client has seen.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol, TextIO

from dev.lab.network import SERVICE, WATCHFUL
from dev.lab.node import Value
from dev.lab.record import Record, scale, strip

WIDTH = 79
SETTLED = 0.6  # seconds of steady service before and after each event

# Events that add nothing: every turn ends well.
DULL = ("SCRIPT-END", "WORKER-READY", "PEER-UNREACHABLE", "IFACE-UP", "PORT-OPEN")

SETTINGS: Mapping[str, Value] = {**WATCHFUL, "verbose": False}


@dataclass(frozen=True)
class Line:
    """One line of a node's log: when, in the stage's time, and what."""

    at: float
    text: str
    event: str


class Stage(Protocol):
    """Two nodes, a and b, that guard SERVICE, and a client that probes it."""

    def now(self) -> float: ...
    def start(self, name: str) -> None: ...
    def power_cut(self, name: str) -> None: ...
    def power_on(self, name: str) -> None: ...
    def kill_port(self, name: str) -> None: ...
    def holders(self) -> list[str]: ...
    def role(self, name: str) -> str: ...
    def log(self, name: str) -> list[Line]: ...
    @property
    def record(self) -> Record: ...
    def pause(self, seconds: float) -> None: ...
    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Raises TimeoutError, which tells what, and what both nodes logged."""


class Screen:
    """Where the story is told: colours and block characters only where they can be shown."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        terminal = out.isatty()
        self.fancy = terminal and (out.encoding or "").lower().replace("-", "") == "utf8"
        self._colours = terminal and not os.environ.get("NO_COLOR")

    def say(self, text: str = "", colour: str = "") -> None:
        """One line, cut to the width."""
        text = text if len(text) <= WIDTH else f"{text[: WIDTH - 3]}..."
        self._out.write(f"{self._paint(text, colour)}\n")
        self._out.flush()

    def show(self, picture: str) -> None:
        """A picture: what is bare in red, the rest in green."""
        bare = strip([0.0], self.fancy)
        runs = [(found, "".join(run)) for found, run in groupby(picture, bare.__eq__)]
        painted = "".join(self._paint(run, "31" if found else "32") for found, run in runs)
        self._out.write(f"   {painted}\n")

    def _paint(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if colour and self._colours else text


@dataclass(frozen=True)
class Act:
    """One event of the story: what happens, and who holds the service in the end."""

    title: str
    cause: str
    happen: Callable[[Stage], None]
    holder: str


ACTS = (
    Act(
        "The power of a, the active node, is cut: takeover by b",
        "power cut",
        lambda stage: stage.power_cut("a"),
        "b",
    ),
    Act(
        "The power of a is back: failback, a takes the role again",
        "power on",
        lambda stage: stage.power_on("a"),
        "a",
    ),
    Act(
        "The switch port of a passes no traffic, its carrier stays up: switchover",
        "port dead",
        lambda stage: stage.kill_port("a"),
        "b",
    ),
)


def tell(stage: Stage, screen: Screen) -> list[float]:
    """Tell the whole story. The client's outage in seconds, one for each act."""
    screen.say(f"Two nodes, a and b, serve the address {SERVICE}. Each runs failoverd.")
    screen.say("a is the preferred node. A client pings the address 200 times a second.")
    began = stage.now()
    stage.start("a")
    stage.start("b")
    stage.wait_until(lambda: serves(stage, "a", began), "a is active and the client is answered")
    screen.say()
    screen.say("1. Both start", "1")
    narrate(stage, screen, began)
    outages = [perform(stage, screen, number, act) for number, act in enumerate(ACTS, start=2)]
    screen.say()
    longest = ", ".join(f"{seconds:.2f} s" for seconds in outages)
    screen.say(f"The client was without an answer for {longest}. This is the end.", "1")
    return outages


def perform(stage: Stage, screen: Screen, number: int, act: Act) -> float:
    """Let one thing happen, and tell what came of it. The client's outage in seconds."""
    stage.pause(SETTLED)
    screen.say()
    screen.say(f"{number}. {act.title}", "1")
    began = stage.now()
    act.happen(stage)
    what = f"{act.holder} alone holds the service and the client is answered"
    stage.wait_until(lambda: serves(stage, act.holder, began), what)
    stage.pause(SETTLED)
    ended = stage.now()
    narrate(stage, screen, began)
    record = stage.record
    outage = record.outage(began - 0.05, ended)
    draw(screen, record, began, ended, act.cause)
    screen.say(f"   The client was without an answer for {outage:.2f} s.")
    return outage


def serves(stage: Stage, name: str, since: float) -> bool:
    """Whether this node alone has the address, its switch has ended, and the client was answered
    just now."""
    if stage.holders() != [name] or stage.role(name) != "active":
        return False
    replies = stage.record.replies
    return bool(replies) and replies[-1] > max(since, stage.now() - 0.05)


def narrate(stage: Stage, screen: Screen, since: float) -> None:
    """What both nodes logged, in the order of time, and the role each has now."""
    told = [
        (line.at, name, colour, line.text)
        for name, colour in (("a", "36"), ("b", "35"))
        for line in stage.log(name)
        if line.at >= since - 0.002 and line.event not in DULL
    ]
    for at, name, colour, text in sorted(told, key=lambda line: line[0]):
        screen.say(f"   {name} {at - since:+7.3f} s  {text}", colour)
    roles = [f"{name} is {stage.role(name) or 'without power'}" for name in ("a", "b")]
    screen.say(f"   Now {', '.join(roles)}.")


def draw(screen: Screen, record: Record, began: float, ended: float, cause: str) -> None:
    """A picture of the probes: high where they were answered, bare where they were not."""
    columns = WIDTH - 6
    begin = began - SETTLED / 2
    at = round((began - begin) / (ended - begin) * columns)
    screen.say(f"   {' ' * at}{'▼' if screen.fancy else 'v'} {cause}")
    screen.show(strip(record.shares(begin, ended, columns), screen.fancy))
    screen.say(f"   {scale(ended - begin, columns, screen.fancy)}")
