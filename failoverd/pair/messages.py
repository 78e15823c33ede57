"""What comes in, the events, and what goes out, the actions, which the master performs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Query(Enum):  # what the peer's port is asked or told
    COMPARE = "compare"
    STATUS = "status"
    FAIL = "fail"
    RESUME = "resume"


# By interface: packets of the open window, packets of the one before.
Counts = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class PeerView:
    """What a `status` told of the peer. role: a role, or "rejoining": it holds the addresses, but
    asks before it calls them its own. bad: its bad interfaces by section 5; down: those of them
    without a carrier. failed: those whose last verdict there was `fail`. checks: its service checks
    that are bad, as it has told; untried: those without a result. beats: heartbeats arrive there.
    wants_relief: it would give its role away, and no query of it is answered."""

    role: str
    boot: str
    bad: frozenset[str]
    down: frozenset[str] = frozenset()
    counts: Counts = ()
    failed: frozenset[str] = frozenset()
    checks: frozenset[str] = frozenset()
    beats: bool = True
    wants_relief: bool = False
    untried: frozenset[str] = frozenset()

    @property
    def serves(self) -> bool:
        return self.role in ("active", "rejoining")


# ---------------------------------------------------------------------------- events


@dataclass(frozen=True)
class Event:
    """What happens to one node."""


@dataclass(frozen=True)
class Started(Event):
    """failoverd began. All is of this boot's $state; role: None if there is none; lasted: for how
    long, in seconds."""

    role: str | None = None
    resuming: bool = False
    unclean: bool = False
    from_peer: bool = False
    guarded: frozenset[str] | None = None
    lasted: float = 0.0


@dataclass(frozen=True)
class Watched(Event):  # a watcher of the service network ended a window (section 4)
    interface: str
    packets: int
    last: int
    verdict: str


@dataclass(frozen=True)
class Checked(Event):
    """A service check has become good or bad here; ok: None if what it found means nothing any
    more."""

    name: str
    ok: bool | None


@dataclass(frozen=True)
class Hold(Event):  # an operator has put changes of role on hold, or has released them
    on: bool


@dataclass(frozen=True)
class Counted(Event):
    """The answer to Look: what an interface has received in its open window so far."""

    interface: str
    packets: int


@dataclass(frozen=True)
class Carrier(Event):  # an interface of the service network went up or down
    interface: str
    up: bool


@dataclass(frozen=True)
class LinkWatched(Event):  # the watcher of the heartbeat link ended a window
    packets: int
    verdict: str


@dataclass(frozen=True)
class Request(Event):  # a client with the secret said `fail` or `resume`
    id: int
    command: str
    from_peer: bool


@dataclass(frozen=True)
class Replied(Event):  # the peer's port answered; view is None when the answer was no status
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
    """A program ended: script, fence or confirm. ok: exit status 0; ran: it could be started, or
    else nothing has changed; number: that of its RunProgram, 0 for a script."""

    kind: str
    ok: bool
    ran: bool = True
    number: int = 0


@dataclass(frozen=True)
class Answers(Event):
    """What came of the ARP probes on the service network. asked: rounds that were sent; who: the
    address, a blank, and the hardware address that has answered. stranger: none that has answered
    can be the peer. It keeps off a takeover all the same, as any host can forge what it says."""

    own: bool
    asked: int
    anybody: bool
    who: str = ""
    stranger: bool = False


class Bare(Event):
    """The addresses that the `master` run had put on an interface are gone, and it is there."""


class Stray(Event):
    """One of the addresses has appeared on its interface, and not by failoverd's doing."""


class Stalled(Event):
    """The loop stalled for longer than a window: what was known is old."""


class Reread(Event):
    """The settings may be others: what is asked under the old ones means nothing any more."""


class Tick(Event):
    """Time has come for a deadline (`next_deadline`)."""


# ---------------------------------------------------------------------------- actions


@dataclass(frozen=True)
class Action:
    """What the master does."""


@dataclass(frozen=True)
class RunScript(Action):  # run $failover_prog with this role ("master" or "slave")
    role: str
    reason: str


@dataclass(frozen=True)
class RunProgram(Action):
    """Run $fence_prog ("fence") or the program of $confirm ("confirm"). `Ended` has its number."""

    kind: str
    number: int


@dataclass(frozen=True)
class Ask(Action):
    """Query the peer's port: a newer query of the same kind replaces the older. direct: over the
    heartbeat link alone, not over the second path."""

    query: Query
    timeout: float
    direct: bool = False


@dataclass(frozen=True)
class Probe(Action):
    """Ask on the service network for the addresses, at these times; report at `until`."""

    own: bool
    at: tuple[float, ...]
    until: float


@dataclass(frozen=True)
class Forget(Action):
    """Answers to what was asked of the peer mean nothing any more (comparisons excepted).
    probes: nor do those to what was asked on the network, or of a program, which is ended."""

    probes: bool


@dataclass(frozen=True)
class Answer(Action):  # answer a request
    id: int
    ok: bool
    text: str


@dataclass(frozen=True)
class Heartbeats(Action):  # send heartbeats, or stop sending them
    on: bool


@dataclass(frozen=True)
class Log(Action):
    """A line for the log: event and form as in `failoverd.events`. The subjects "peer" and "script"
    are completed by the master. values: key and value, of what may change each time."""

    event: str
    subject: str
    sentence: str
    values: tuple[tuple[str, str], ...] = ()


class Look(Action):
    """Have every watcher of the service network tell at once what it has counted."""


class Announce(Action):
    """Send gratuitous ARP, now and by the schedule of section 7."""


class RestartWatchers(Action):
    """The ethernet watchers begin again with boot true."""
