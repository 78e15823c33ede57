"""What one node knows: of itself, of its peer, of the network; and until when that counts.

What has no deadline in `timers` is true until the event that ends it. A peer that was not heard
within a window is unknown, whatever it said last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from failoverd.pair.messages import Counts, PeerView, Query
from failoverd.pair.settings import ROUNDS, Rules
from failoverd.wire.protocol import is_bad


class Phase(Enum):
    STANDBY = "standby"
    RESOLVING = "resolving"  # finding out what its purpose has to know
    FENCING = "fencing"
    PROMOTING = "promoting"  # the switch script runs
    ACTIVE = "active"
    DEMOTING = "demoting"  # the switch script runs
    TOLD = "told"  # the peer was told `resume` or `fail`, and is changing


class Purpose(Enum):  # why a change of role is considered or under way
    NONE = "none"
    # These have a row of the policy. Of two that seek the role the later one replaces the earlier.
    NOBODY = "no node is active"
    BOOT = "boot"
    SILENCE = "heartbeat lost"
    RELIEF = "active peer worse off"
    OPERATOR = "operator"
    INTERFACE = "interface failed"
    CHECK = "check failed"
    RELEASE = "operator wants the peer to be active"
    DOUBT = "role unconfirmed"
    # These run the switch script at once.
    PEER = "told by the peer"
    BOTH = "both nodes active"
    RESTORE = "the addresses were gone"
    TAKE_BACK = "the switchover failed"
    CLEAN = "clean up"


class Posture(Enum):  # what a node is to a request that comes in
    IDLE = "standby"
    SEEKING = "seeking"  # a standby that may take the role
    CALLING = "calling"  # has told the peer `resume`
    PROMOTING = "promoting"
    SERVING = "serving"
    DOUBTING = "doubting"  # has the addresses, but sends no gratuitous ARP yet
    DEMOTING = "demoting"
    GIVING = "giving"  # has stood down and told the peer `fail`


RESOLVES = {
    Purpose.INTERFACE: Posture.SERVING,
    Purpose.CHECK: Posture.SERVING,
    Purpose.RELEASE: Posture.SERVING,
    Purpose.DOUBT: Posture.DOUBTING,
}
TELLS = {Query.RESUME: Posture.CALLING, Query.FAIL: Posture.GIVING}
POSTURES = {
    Phase.STANDBY: Posture.IDLE,
    Phase.FENCING: Posture.SEEKING,
    Phase.PROMOTING: Posture.PROMOTING,
    Phase.ACTIVE: Posture.SERVING,
    Phase.DEMOTING: Posture.DEMOTING,
}
HOLDING = (Posture.SERVING, Posture.DOUBTING)
STANDING_BY = (Posture.IDLE, Posture.SEEKING)


class Timer(Enum):
    COMPARE = "compare roles"
    RETRY = "ask again"
    GIVE_UP = "the peer has had as long as it may take"
    NOBODY = "none has been active for two windows"
    OWN = "a window since the own addresses were asked for"
    HOLD = "hold-down is over"
    NEWS = "the peer's open window has begun since it was asked"
    UNDER_WAY = "what the peer was told may still arrive"
    HEARD = "a window without an exchange"
    UNHEARD = "so long without an exchange that a busy peer is no reason"
    RELIEF = "the peer has wanted relief for as long as it takes to prove that this node receives"
    EXPECTED = "a window since the peer said that it takes the role"
    SERVED = "the addresses were answered for, one time or two since they were asked for"
    PATIENCE = "a request that waits wants an answer"
    UNWELL = "the preferred node has not been well for as long as $failback wants"


@dataclass(frozen=True)
class Interface:
    """One interface of the service network, as its watcher last told."""

    name: str
    verdict: str = "boot"
    packets: int = 0
    last: int = 0
    up: bool = True
    heard: bool = False  # a packet, ever
    proved: bool = False  # one good window since this node became active, or bad before
    unasked: bool = False  # was bad: ask for the addresses before announcing them here

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
        """Bad as the peer would judge it, so that both nodes count alike."""
        return is_bad(self.state, self.packets, self.last)


@dataclass(frozen=True)
class State:
    """All that one node knows. Hashable; every time in it is a deadline in `timers`."""

    phase: Phase = Phase.STANDBY
    purpose: Purpose = Purpose.NONE
    told: Query | None = None  # what the peer was told for it, and has not answered
    begun: bool = False
    # itself
    interfaces: tuple[Interface, ...] = ()
    checks: frozenset[str] = frozenset()  # service checks that are bad
    passed: frozenset[str] = frozenset()  # those that were good since this node became active
    tried: frozenset[str] = frozenset()  # those of which it is known how they are here
    held: bool = False  # an operator wants no change of role but his own
    failed: bool = False  # the last `master` run failed
    unclean: bool = False  # the last `slave` run failed: the addresses may still be here
    resuming: bool = False  # a preferred node that has not had its role yet
    stalled: bool = False  # while the switch script ran
    bare: bool = False  # the addresses have gone from their interface
    from_peer: bool = False  # the role came by the peer's `fail`
    guarded: frozenset[str] | None = None  # the interfaces it came because of; None: not known yet
    claimed: int = 0  # rounds in a row in which another host answered for the own addresses
    # the heartbeat link and the peer
    silent: bool = False  # the link's last verdict
    beats: bool = False  # there were heartbeats in its last window
    peer: PeerView | None = None
    unanswered: bool = False  # the query for what is resolved now has got no answer
    counts: Counts = ()  # of the peer, when an interface failed here
    latest: Counts = ()  # of the peer, as it answered last since then
    # the service network
    asking: bool = False  # whether it is being asked who answers for the addresses
    taken: bool = False  # another host does
    who: str = ""  # does, in words
    quiet: int = 0  # rounds in a row that nobody answered
    program: int = 0  # the run of a program whose word is awaited
    runs: int = 0  # the number of the last one
    # what others want and were told
    waiting: tuple[tuple[int, bool], ...] = ()  # requests (id, from_peer) that want the result
    blocked: str = ""  # what is said already to be in the way of what should be done
    mute: bool = False  # heartbeats are stopped
    timers: tuple[tuple[Timer, float], ...] = ()

    def runs_out(self, timer: Timer) -> bool:
        return any(timer is set_ for set_, _ in self.timers)

    def interface(self, name: str) -> Interface | None:
        return next((i for i in self.interfaces if i.name == name), None)

    @property
    def posture(self) -> Posture:
        if self.told is not None:
            return TELLS[self.told]
        if self.phase is Phase.RESOLVING:
            return RESOLVES.get(self.purpose, Posture.SEEKING)
        return POSTURES[self.phase]

    def resolves(self, purpose: Purpose) -> bool:
        """Whether this is resolved, and the peer was not told anything for it yet."""
        return self.phase is Phase.RESOLVING and self.told is None and self.purpose is purpose

    @property
    def is_silence(self) -> bool:
        return self.resolves(Purpose.SILENCE)

    @property
    def believes_dead(self) -> bool:
        """A word of the peer's, or a heartbeat, ends that."""
        return self.is_silence or self.phase is Phase.FENCING

    @property
    def broken(self) -> bool:
        """The switch script did not work here."""
        return self.failed or self.unclean

    @property
    def heard(self) -> bool:
        return self.runs_out(Timer.HEARD)

    @property
    def peer_serves(self) -> bool:
        """It has said so within a window."""
        return self.heard and self.peer is not None and self.peer.serves

    @property
    def free(self) -> bool:
        """Three rounds in a row without an answer, or a program's word."""
        return self.quiet >= ROUNDS

    @property
    def waits_for_long(self) -> bool:
        """A person wants to know, and has no patience left."""
        return any(not peer for _, peer in self.waiting) and not self.runs_out(Timer.PATIENCE)


def role(state: State) -> str:
    """active, standby, switching or failed; also while the peer is told that it failed here."""
    if is_switching(state):
        return "failed" if state.posture is Posture.GIVING and state.failed else "switching"
    return "active" if state.posture in HOLDING else "failed" if state.broken else "standby"


def is_switching(state: State) -> bool:
    """Whether the addresses here, or at the peer, are about to change."""
    return state.posture not in (*HOLDING, *STANDING_BY)


def is_rejoining(state: State) -> bool:
    """Whether it holds the addresses, but asks before it calls them its own."""
    return state.posture is Posture.DOUBTING


def is_speechless(state: State) -> bool:
    """Heartbeats come in, but no query is answered."""
    return state.begun and state.beats and not state.runs_out(Timer.UNHEARD)


def seeks(state: State) -> bool:
    """Whether it wants the role, for more than a lost heartbeat."""
    return state.posture is Posture.SEEKING and state.purpose is not Purpose.SILENCE


def is_served(state: State) -> bool:
    """Whether a node is known to be active."""
    return state.posture in HOLDING or state.peer_serves or state.runs_out(Timer.SERVED)


def announceable(state: State) -> tuple[str, ...]:
    """The interfaces on which gratuitous ARP may be sent now."""
    if state.posture is not Posture.SERVING:
        return ()
    return tuple(i.name for i in state.interfaces if not i.failed and i.up and not i.unasked)


def initial(settings: Rules) -> State:
    """A node before its Started event."""
    return State(interfaces=tuple(Interface(name) for name in settings.interfaces))


# Minutes or hours, as operators set them: begun under other settings, they end by the new ones.
LASTS: dict[Timer, Callable[[Rules], float]] = {
    Timer.HOLD: lambda rules: rules.hold_down,
    Timer.UNWELL: lambda rules: rules.failback or 0.0,
}


def adapt(state: State, before: Rules, settings: Rules) -> State:
    """The same node after a reload."""
    known = {i.name: i for i in state.interfaces}
    names = settings.interfaces
    return replace(
        state,
        interfaces=tuple(known.get(n, Interface(n)) for n in names),
        timers=tuple(
            (timer, deadline + LASTS[timer](settings) - LASTS[timer](before))
            if timer in LASTS
            else (timer, deadline)
            for timer, deadline in state.timers
        ),
    )


def next_deadline(state: State) -> float | None:
    """When a Tick is due at the latest."""
    return min((deadline for _, deadline in state.timers), default=None)
