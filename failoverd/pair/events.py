"""What comes in: the events, and the names by which the table knows them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Purpose(Enum):
    """What a question to the peer's port is for."""

    COMPARE = "compare"
    STATUS = "status"
    FAIL = "fail"
    RESUME = "resume"


class On(Enum):
    """What an event means to the table."""

    START_FRESH = "start, first of this boot"
    START_ACTIVE = "start, was active"
    START_STANDBY = "start, was standby"
    START_SWITCHING = "start, died while switching"
    PEER_SAYS_FAIL = "peer tells us fail"
    PERSON_SAYS_FAIL = "person tells us fail"
    PEER_SAYS_RESUME = "peer tells us resume"
    PERSON_SAYS_RESUME = "person tells us resume"
    STATUS = "peer's status"
    AGREED = "peer answers ok"
    REFUSED = "peer answers error"
    LOST = "no answer from the peer"
    COMPARED = "roles compared"
    UNCOMPARED = "roles could not be compared"
    SCRIPT_OK = "script succeeded"
    SCRIPT_FAILED = "script failed"
    NOT_RUN = "program could not be run"
    FENCED = "fence program succeeded"
    FENCE_FAILED = "fence program failed"
    ANSWERED = "somebody answers for the addresses"
    UNANSWERED = "nobody answers for the addresses"
    UNASKED = "the ethernet side could not be asked"
    OWN_ANSWERED = "somebody else answers for our addresses"
    OWN_UNANSWERED = "nobody else answers for our addresses"
    INTERFACE_FAILED = "interface failed"
    INTERFACE_BACK = "interface is back"
    STILL_SILENT = "a failed interface hears nothing still"
    HEARS_AGAIN = "a failed interface hears again"
    INTERFACES_HEARD = "every interface has heard a packet"
    FALLING_SILENT = "private link: an empty window"
    LINK_SILENT = "private link: silent twice"
    LINK_ALIVE = "private link: heard again"
    STALLED = "we stood still"
    BARE = "our addresses are gone from their card"
    STRAY = "our addresses have come back to their card"
    WANTED = "somebody waits for our role"
    REREAD = "the configuration was read again"
    PATIENCE = "timer: whoever waits wants an answer"
    RETRY = "timer: try again"
    GIVE_UP = "timer: give up"
    NOBODY = "timer: nobody active"
    COMPARE = "timer: compare"
    OWN = "timer: ask for our own"


@dataclass(frozen=True)
class Started:
    """failoverd began. All is of this boot's $state; role: None if there is none."""

    role: str | None = None
    resuming: bool = False
    unclean: bool = False


@dataclass(frozen=True)
class Watched:
    """A watcher of the ethernet side ended a window (section 4)."""

    interface: str
    packets: int
    last: int
    verdict: str


@dataclass(frozen=True)
class Counted:
    """The answer to Look: what a card has read in its open window so far."""

    interface: str
    packets: int


@dataclass(frozen=True)
class Carrier:
    """An interface of the ethernet side went up or down."""

    interface: str
    up: bool


@dataclass(frozen=True)
class Bare:
    """The addresses that our `master` run had put on a card are gone, and the card is there."""


@dataclass(frozen=True)
class Stray:
    """An address of the service has appeared on its card, and we have not put it there."""


@dataclass(frozen=True)
class LinkWatched:
    """The watcher of the private link ended a window."""

    packets: int
    verdict: str


@dataclass(frozen=True)
class Request:
    """Somebody with the secret told us `fail` or `resume`."""

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
class Replied:
    """The peer's port answered. view is None when the answer was no status."""

    purpose: Purpose
    ok: bool
    text: str = ""
    view: PeerView | None = None


@dataclass(frozen=True)
class Unreplied:
    """A question to the peer's port got no authentic answer.

    sent: what we told it may have left, and may still arrive.
    """

    purpose: Purpose
    sent: bool = True


@dataclass(frozen=True)
class Ended:
    """A program ended. kind: script, fence or confirm; ok: exit status 0.

    ran: not if it could not be started, so that nothing has changed and nothing was asked.
    number: that of its RunProgram; 0 for a script.
    """

    kind: str
    ok: bool
    ran: bool = True
    number: int = 0


@dataclass(frozen=True)
class Answers:
    """What came of a question on the ethernet side. asked: rounds that were really sent.

    Whose hardware address has answered does not matter: anybody can forge it.
    """

    own: bool
    asked: int
    anybody: bool
    who: str = ""


@dataclass(frozen=True)
class Stalled:
    """The loop stood still for longer than a window: what we knew is old."""


@dataclass(frozen=True)
class Reread:
    """The settings may be others: what is asked under the old ones means nothing any more."""


@dataclass(frozen=True)
class Tick:
    """Time has come for a deadline (`next_deadline`)."""


Event = (
    Started
    | Watched
    | Counted
    | Carrier
    | Bare
    | Stray
    | LinkWatched
    | Request
    | Replied
    | Unreplied
    | Ended
    | Answers
    | Stalled
    | Reread
    | Tick
)
