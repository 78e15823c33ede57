"""Who is better off: what is asked of this node's knowledge before its role changes."""

from __future__ import annotations

from failoverd.pair.knowledge import Posture, State, Timer
from failoverd.pair.messages import PeerView
from failoverd.pair.settings import Rules


def failed_here(state: State) -> frozenset[str]:
    return frozenset(i.name for i in state.interfaces if i.failed)


def named(checks: frozenset[str]) -> frozenset[str]:
    """An interface may have the name of a check."""
    return frozenset(f"check {name}" for name in checks)


def bad_here(state: State) -> frozenset[str]:
    """What has the role given away: failed interfaces and bad checks."""
    return failed_here(state) | named(state.checks)


def bad_there(peer: PeerView) -> frozenset[str]:
    """What is bad at the peer, as far as it has told."""
    return peer.bad | peer.failed | named(peer.checks)


def count_here(state: State) -> int:
    """How much is bad here, as the peer would judge it."""
    return sum(i.useless for i in state.interfaces) + len(state.checks)


def count_there(peer: PeerView) -> int:
    return len(peer.bad) + len(peer.checks)


def missing(state: State) -> str:
    """The interfaces that are down, or have not received a packet yet."""
    return ", ".join(i.name for i in state.interfaces if not (i.up and i.heard))


def unready(state: State, rules: Rules) -> str:
    """What is not known yet to work here: interfaces, and checks that a standby makes."""
    untried = sorted(f"check {name}" for name in rules.everywhere - state.tried)
    return ", ".join(filter(None, (missing(state), *untried)))


def has_heard_all(state: State, rules: Rules) -> bool:
    """Every interface is up here, and has received a packet."""
    return not missing(state)


def peer_is_idle(state: State) -> bool:
    return state.peer is not None and state.peer.role in ("standby", "failed")


def is_fit(state: State, rules: Rules) -> bool:
    """Every interface is up here and has received a packet, every check that a standby makes has
    told how it is, and no fewer of both are bad at the peer.

    A preferred node takes its role from an active peer only when it can do the work.
    """
    peer = state.peer
    ready = not unready(state, rules)
    return ready and peer is not None and count_there(peer) >= count_here(state)


def is_up(state: State, rules: Rules) -> bool:
    """An interface that carries a service address is up here."""
    names = rules.addressed or frozenset(rules.interfaces)
    return any(i.up for i in state.interfaces if i.name in names)


def bad_at(peer: PeerView) -> frozenset[str]:
    """The peer's interfaces that are bad, or have received nothing since their watcher began."""
    return peer.bad | {name for name, packets, last in peer.counts if packets == last == 0}


def not_good_there(peer: PeerView, rules: Rules) -> frozenset[str]:
    """What is bad at the peer, or not known to be good: an interface that has received nothing
    since its watcher began, a check that a standby makes, and that has no result."""
    return bad_at(peer) | named(peer.checks | (peer.untried & rules.everywhere))


def peer_is_better(state: State, rules: Rules) -> bool:
    """The peer is good in something that is bad here, and less is bad there than here.

    What the role came for does not count until it is proved here, nor before $hold_down is over. A
    check for which it came is bad there until it has a result, unless what is bad here was good.
    """
    if state.peer is None or state.peer.role != "standby":
        return False
    theirs = not_good_there(state.peer, rules)
    gains = free_here(state) - theirs
    if state.from_peer and not gains & proved_here(state):
        theirs |= named(state.peer.untried) & (state.guarded or frozenset())
    return bool(gains) and len(theirs) < len(bad_here(state))


def peer_is_able(state: State, rules: Rules) -> bool:
    """The peer is good on an interface that failed here, and less is bad there than here."""
    if state.peer is None or not peer_is_better(state, rules):
        return False
    return bool(failed_here(state) & free_here(state) - bad_at(state.peer))


def peer_has_news(state: State) -> bool:
    """The peer has received a packet since it was asked, on an interface that failed here.

    Its last two windows say nothing of a switch that died for both just now. It looks at its
    interfaces before it answers, so later answers are compared with the first.
    """
    if state.peer is None:
        return False
    before = {name: (packets, last) for name, packets, last in state.counts}
    begun = not state.runs_out(Timer.NEWS)
    return any(
        name in failed_here(state) - state.peer.bad
        and name in before
        and ((packets > 0 and begun) or (packets, last) not in (before[name], (0, before[name][0])))
        for name, packets, last in state.latest
    )


def peer_has_carrier(state: State, rules: Rules) -> bool:
    """Not every interface of the peer is down: an operator's peer may well receive little."""
    names = frozenset(rules.interfaces)
    return state.peer is not None and not (names and names <= state.peer.down)


def is_better(state: State, rules: Rules) -> bool:
    """The peer is active and would give its role away, but does not reach this node, where less is
    bad than there.

    As the peer would judge: $low_water is not for a standby, and a node whose switch script has
    failed is given nothing.
    """
    peer = state.peer
    if peer is None or not (peer.serves and peer.wants_relief) or state.broken:
        return False
    theirs = (peer.failed | peer.down) & frozenset(rules.interfaces) | named(peer.checks)
    return len(not_good_here(state, rules)) < len(theirs)


def not_good_here(state: State, rules: Rules) -> frozenset[str]:
    """What is bad here, or not known to be good: an interface that has received nothing lately, a
    check that a standby makes, and that has no result."""
    quiet = frozenset(
        i.name
        for i in state.interfaces
        if i.useless or i.verdict == "boot" or (i.failed and i.packets == 0)
    )
    return quiet | named(state.checks | (rules.everywhere - state.tried))


def wants_relief(state: State) -> bool:
    """Active, and would give its role away, or receives nothing; but no query of it is answered.

    Of less than $low_water, hold-down keeps it, as where it is answered.
    """
    serves = state.posture is Posture.SERVING and not state.held
    bad = receives_nothing(state) or bool(free_here(state))
    return serves and bad and not state.runs_out(Timer.UNHEARD)


def receives_nothing(state: State) -> bool:
    return none_works(state) and not any(i.up and i.packets for i in state.interfaces)


def none_works(state: State) -> bool:
    """Every interface of the service network has failed or is down."""
    return bool(state.interfaces) and all(i.failed or not i.up for i in state.interfaces)


def free_here(state: State) -> frozenset[str]:
    """What is bad here and may give the role away. Hold-down: a role that came because of an
    interface or a check does not go because of that until it is proved."""
    bad = bad_here(state)
    if not state.from_peer:
        return bad
    new = frozenset() if state.guarded is None else bad - state.guarded
    return new if state.runs_out(Timer.HOLD) else new | (bad & proved_here(state))


def proved_here(state: State) -> frozenset[str]:
    """What was good here since the role came, or was bad here, too, as it came."""
    return frozenset(i.name for i in state.interfaces if i.proved) | named(state.passed)


def yields(state: State, rules: Rules) -> bool:
    """The peer comes first: failed last, fewer bad interfaces, boot master, lower address."""
    peer = state.peer
    if peer is None:
        return not rules.precedes
    ours = (state.broken, count_here(state), rules.boot != "master", not rules.precedes)
    return (peer.role == "failed", count_there(peer), peer.boot != "master", rules.precedes) < ours


def peer_outranks(state: State, rules: Rules) -> bool:
    """The order by what never changes: for two that call each other at once."""
    boot = state.peer.boot if state.peer is not None else rules.boot
    return (boot != "master", rules.precedes) < (rules.boot != "master", not rules.precedes)
