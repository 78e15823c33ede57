"""What one machine knows, and what it is to others: its phase and its role."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from failoverd.pair.events import Counts, PeerView
from failoverd.pair.settings import Rules
from failoverd.protocol import is_bad


class Phase(Enum):
    NEW = "new"
    STANDBY = "standby"
    INQUIRING = "inquiring"
    SEEKING = "seeking"
    CALLING = "calling"
    DOUBTING = "doubting"
    CONFIRMING = "confirming"
    FENCING = "fencing"
    PROMOTING = "promoting"
    ACTIVE = "active"
    REJOINING = "rejoining"
    ASKING = "asking"
    DEMOTING = "demoting"
    TELLING = "telling"
    UNSURE = "unsure"
    CLEANING = "cleaning"


class Cause(Enum):
    """Why the transition under way was begun."""

    BOOT = "boot"
    PEER = "told by the peer"
    PERSON = "told by a person"
    SILENCE = "the private link is silent"
    INTERFACE = "an interface failed"
    HEALING = "both machines had the same role"
    TAKE_BACK = "the handover failed"
    RESTORE = "our addresses were gone"
    STRAY = "our addresses have come back"


class Timer(Enum):
    COMPARE = "compare roles"
    RETRY = "try again"
    GIVE_UP = "the peer has had as long as a switch may take"
    NOBODY = "nobody has been active for two windows"
    OWN = "a window since we asked for our own addresses"
    HOLD = "hold-down is over"
    NEWS = "the peer's open window has begun since we asked"
    UNDER_WAY = "what we told the peer may still arrive"
    HEARD = "a window without an exchange"
    UNHEARD = "two windows without an exchange"
    WORDLESS = "so long without an exchange that a busy peer is no reason"
    EXPECTED = "a window since the peer said that it takes the role"
    SERVED = "somebody has answered for the addresses since they were asked for, one time or two"
    PATIENCE = "whoever waits wants an answer"


@dataclass(frozen=True)
class Interface:
    """One interface of the ethernet side, as its watcher last told."""

    name: str
    verdict: str = "boot"
    packets: int = 0
    last: int = 0
    up: bool = True
    heard: bool = False  # a packet, ever
    proved: bool = False  # one good window since we became active
    unasked: bool = False  # was bad: ask for our addresses before announcing them here

    @property
    def failed(self) -> bool:
        return self.verdict == "fail"

    @property
    def state(self) -> str:
        """The word for it in `status` (section 6)."""
        if not self.up:
            return "down"
        if self.failed or self.verdict == "boot":
            return self.verdict
        return "silent" if self.packets == 0 and self.last == 0 else "ok"

    @property
    def useless(self) -> bool:
        """Bad as the peer would judge it, so that both machines count alike."""
        return is_bad(self.state, self.packets, self.last)


@dataclass(frozen=True)
class State:
    """All that one machine knows. Hashable; every time in it is a deadline in `timers`."""

    phase: Phase = Phase.NEW
    cause: Cause = Cause.BOOT
    failed: bool = False  # the last `master` run failed
    unclean: bool = False  # the last `slave` run failed: the addresses may still be here
    resuming: bool = False  # a boot master that has not had its role yet
    stalled: bool = False  # stood still while the script ran
    bare: bool = False  # our addresses have gone from their card
    interfaces: tuple[Interface, ...] = ()
    silent: bool = False  # the private link's last verdict
    beats: bool = False  # there were heartbeats in its last window
    speechless: bool = False  # that is said: they come, but the peer's port does not answer
    blocked: str = ""  # what is said already to be in the way of what should be done
    program: int = 0  # the run of a program whose word is awaited
    runs: int = 0  # the number of the last one
    deferred: bool = False  # the peer comes first, and was waited for
    peer: PeerView | None = None
    ahead: bool = False  # asked while the link fell silent, and it is not reported yet
    evidence: bool | None = None  # while the link fell silent: did anybody answer
    who: str = ""  # answered, in words
    quiet: int = 0  # rounds in a row that nobody answered
    claimed: int = 0  # rounds in a row in which somebody answered for our addresses
    counts: Counts = ()  # of the peer, when an interface failed here
    latest: Counts = ()  # of the peer, as it answered last while we wanted to hand over
    from_peer: bool = False  # the role came by the peer's `fail`
    guarded: frozenset[str] | None = None  # the interfaces it came because of; None: not known yet
    mute: bool = False  # heartbeats are stopped
    waiting: tuple[tuple[int, bool], ...] = ()  # requests (id, from_peer) that want our result
    timers: tuple[tuple[Timer, float], ...] = ()

    def deadline(self, timer: Timer) -> float | None:
        return dict(self.timers).get(timer)

    def interface(self, name: str) -> Interface | None:
        return next((i for i in self.interfaces if i.name == name), None)

    @property
    def broken(self) -> bool:
        """The switch script did not work here."""
        return self.failed or self.unclean

    @property
    def heard(self) -> bool:
        return self.deadline(Timer.HEARD) is not None


STANDING_BY = (
    Phase.STANDBY,
    Phase.INQUIRING,
    Phase.SEEKING,
    Phase.CALLING,
    Phase.DOUBTING,
    Phase.CONFIRMING,
    Phase.FENCING,
)
BEING_ACTIVE = (Phase.ACTIVE, Phase.REJOINING, Phase.ASKING)
SWITCHING = (
    *(Phase.CALLING, Phase.DOUBTING),  # the peer may not take what is on its way to us
    *(Phase.PROMOTING, Phase.DEMOTING, Phase.TELLING, Phase.UNSURE, Phase.CLEANING),
)
HANDING_OVER = (Phase.TELLING, Phase.UNSURE)
ROLE = {
    Phase.NEW: "standby",
    **dict.fromkeys(STANDING_BY, "standby"),
    **dict.fromkeys(BEING_ACTIVE, "active"),
    **dict.fromkeys(SWITCHING, "switching"),
}

# From the first to the second, what was asked on the ethernet side means the same.
SAME_QUESTIONS = (
    *((Phase.STANDBY, Phase.INQUIRING), (Phase.INQUIRING, Phase.STANDBY)),
    *((Phase.STANDBY, Phase.CONFIRMING), (Phase.INQUIRING, Phase.CONFIRMING)),
    *((Phase.ACTIVE, Phase.ASKING), (Phase.ASKING, Phase.ACTIVE)),
)


def is_served(state: State) -> bool:
    """Whether it is known that a machine is active."""
    peer_serves = state.heard and state.peer is not None and state.peer.serves
    asked = state.deadline(Timer.SERVED) is not None
    return state.phase in BEING_ACTIVE or peer_serves or asked


def role(state: State) -> str:
    """active, standby, switching or failed."""
    word = ROLE[state.phase]
    return "failed" if word == "standby" and state.broken else word


def announceable(state: State) -> tuple[str, ...]:
    """The interfaces on which our addresses may be announced now."""
    if state.phase not in (Phase.ACTIVE, Phase.ASKING):
        return ()
    return tuple(i.name for i in state.interfaces if not i.failed and i.up and not i.unasked)


def initial(settings: Rules) -> State:
    """A machine before its Started event."""
    return State(interfaces=tuple(Interface(name) for name in settings.interfaces))


def adapt(state: State, settings: Rules) -> State:
    """The same machine after its configuration was read again."""
    known = {i.name: i for i in state.interfaces}
    names = settings.interfaces
    return replace(state, interfaces=tuple(known.get(n, Interface(n)) for n in names))


def next_deadline(state: State) -> float | None:
    """When a Tick is due at the latest."""
    return min((deadline for _, deadline in state.timers), default=None)
