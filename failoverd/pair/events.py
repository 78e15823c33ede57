"""What comes in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Query(Enum):
    """What the peer's port is asked or told."""

    COMPARE = "compare"
    STATUS = "status"
    FAIL = "fail"
    RESUME = "resume"


class Event:
    """What happens to one machine."""


@dataclass(frozen=True)
class Started(Event):
    """failoverd began. All is of this boot's $state; role: None if there is none."""

    role: str | None = None
    resuming: bool = False
    unclean: bool = False


@dataclass(frozen=True)
class Watched(Event):
    """A watcher of the service network ended a window (section 4)."""

    interface: str
    packets: int
    last: int
    verdict: str


@dataclass(frozen=True)
class Counted(Event):
    """The answer to Look: what an interface has received in its open window so far."""

    interface: str
    packets: int


@dataclass(frozen=True)
class Carrier(Event):
    """An interface of the service network went up or down."""

    interface: str
    up: bool


@dataclass(frozen=True)
class Bare(Event):
    """The addresses that the `master` run had put on an interface are gone, and it is there."""


@dataclass(frozen=True)
class Stray(Event):
    """One of the addresses has appeared on its interface, and not by failoverd's doing."""


@dataclass(frozen=True)
class LinkWatched(Event):
    """The watcher of the heartbeat link ended a window."""

    packets: int
    verdict: str


@dataclass(frozen=True)
class Request(Event):
    """Somebody with the secret told this machine `fail` or `resume`."""

    id: int
    command: str
    from_peer: bool


# By interface: packets of the open window, packets of the one before.
Counts = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class PeerView:
    """What a `status` told of the peer. bad: its bad interfaces by section 5.

    role is a role, or "rejoining": it holds the addresses, but asks before it calls them its own.
    """

    role: str
    boot: str
    bad: frozenset[str]
    down: frozenset[str] = frozenset()  # those of the bad ones that have no carrier
    counts: Counts = ()
    failed: frozenset[str] = frozenset()  # whose last verdict there was `fail`, as at ours

    @property
    def serves(self) -> bool:
        return self.role in ("active", "rejoining")


@dataclass(frozen=True)
class Replied(Event):
    """The peer's port answered. view is None when the answer was no status."""

    query: Query
    ok: bool
    text: str = ""
    view: PeerView | None = None


@dataclass(frozen=True)
class Unreplied(Event):
    """A query got no authentic answer. sent: what the peer was told may have left, and arrive."""

    query: Query
    sent: bool = True


@dataclass(frozen=True)
class Ended(Event):
    """A program ended. kind: script, fence or confirm; ok: exit status 0.

    ran: not if it could not be started, so that nothing has changed and nothing was asked.
    number: that of its RunProgram; 0 for a script.
    """

    kind: str
    ok: bool
    ran: bool = True
    number: int = 0


@dataclass(frozen=True)
class Answers(Event):
    """What came of a question on the service network. asked: rounds that were really sent.

    Whose hardware address has answered does not matter: anybody can forge it.
    """

    own: bool
    asked: int
    anybody: bool
    who: str = ""


@dataclass(frozen=True)
class Stalled(Event):
    """The loop stood still for longer than a window: what was known is old."""


@dataclass(frozen=True)
class Reread(Event):
    """The settings may be others: what is asked under the old ones means nothing any more."""


@dataclass(frozen=True)
class Tick(Event):
    """Time has come for a deadline (`next_deadline`)."""
