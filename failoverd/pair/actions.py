"""What goes out: the actions, which the master performs."""

from __future__ import annotations

from dataclasses import dataclass

from failoverd.pair.events import Purpose


@dataclass(frozen=True)
class RunScript:
    """Run $failover_prog with this role ("master" or "slave")."""

    role: str
    reason: str


@dataclass(frozen=True)
class RunProgram:
    """Run $fence_prog ("fence") or the program that $confirm names ("confirm").

    number: how `Ended` tells this run from one that was forgotten.
    """

    kind: str
    number: int


@dataclass(frozen=True)
class Ask:
    """Ask the peer's port. A newer question of the same purpose replaces the older."""

    purpose: Purpose
    timeout: float


@dataclass(frozen=True)
class Question:
    """Ask on the ethernet side for the addresses, at these times; report at `until`."""

    own: bool
    at: tuple[float, ...]
    until: float


@dataclass(frozen=True)
class Look:
    """Have every watcher of the ethernet side tell at once what it has counted."""


@dataclass(frozen=True)
class Forget:
    """Answers to what was asked of the peer mean nothing any more (comparisons excepted).

    questions: nor do those to what was asked on the ethernet side, or of a program, which is ended.
    """

    questions: bool


@dataclass(frozen=True)
class Answer:
    """Answer a request."""

    id: int
    ok: bool
    text: str


@dataclass(frozen=True)
class Announce:
    """Announce our addresses, now and by the schedule of section 7."""


@dataclass(frozen=True)
class Heartbeats:
    """Send heartbeats, or stop sending them."""

    on: bool


@dataclass(frozen=True)
class RestartWatchers:
    """The ethernet watchers begin again with boot true."""


@dataclass(frozen=True)
class Log:
    """A line for the log. alarm: worth waking someone for."""

    text: str
    alarm: bool = False


Action = (
    RunScript
    | RunProgram
    | Ask
    | Question
    | Look
    | Forget
    | Answer
    | Announce
    | Heartbeats
    | RestartWatchers
    | Log
)
