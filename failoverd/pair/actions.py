"""What goes out: the actions, which the master performs."""

from __future__ import annotations

from dataclasses import dataclass

from failoverd.pair.events import Query


class Action:
    """What the master does."""


@dataclass(frozen=True)
class RunScript(Action):
    """Run $failover_prog with this role ("master" or "slave")."""

    role: str
    reason: str


@dataclass(frozen=True)
class RunProgram(Action):
    """Run $fence_prog ("fence") or the program of $confirm ("confirm").

    number: how `Ended` tells this run from one that was forgotten.
    """

    kind: str
    number: int


@dataclass(frozen=True)
class Ask(Action):
    """Query the peer's port. A newer query of the same kind replaces the older."""

    query: Query
    timeout: float


@dataclass(frozen=True)
class Question(Action):
    """Ask on the service network for the addresses, at these times; report at `until`."""

    own: bool
    at: tuple[float, ...]
    until: float


@dataclass(frozen=True)
class Look(Action):
    """Have every watcher of the service network tell at once what it has counted."""


@dataclass(frozen=True)
class Forget(Action):
    """Answers to what was asked of the peer mean nothing any more (comparisons excepted).

    questions: nor do those to what was asked on the network, or of a program, which is ended.
    """

    questions: bool


@dataclass(frozen=True)
class Answer(Action):
    """Answer a request."""

    id: int
    ok: bool
    text: str


@dataclass(frozen=True)
class Announce(Action):
    """Announce the addresses, now and by the schedule of section 7."""


@dataclass(frozen=True)
class Heartbeats(Action):
    """Send heartbeats, or stop sending them."""

    on: bool


@dataclass(frozen=True)
class RestartWatchers(Action):
    """The ethernet watchers begin again with boot true."""


@dataclass(frozen=True)
class Log(Action):
    """A line for the log. alarm: worth waking someone for."""

    text: str
    alarm: bool = False
