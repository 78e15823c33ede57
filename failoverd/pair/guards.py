"""The conditions of the table's rows: questions to what is known, which change nothing."""

from __future__ import annotations

from collections.abc import Callable

from failoverd.pair.events import PeerView
from failoverd.pair.settings import ROUNDS
from failoverd.pair.state import Cause, Timer
from failoverd.pair.turn import Turn

Guard = Callable[[Turn], bool]


def negate(guard: Guard, name: str) -> Guard:
    def negated(turn: Turn) -> bool:
        return not guard(turn)

    negated.__name__ = name
    return negated


def by_boot(turn: Turn) -> bool:
    return turn.state.cause is Cause.BOOT


def by_person(turn: Turn) -> bool:
    return turn.state.cause is Cause.PERSON


def by_silence(turn: Turn) -> bool:
    return turn.state.cause is Cause.SILENCE


def by_interface(turn: Turn) -> bool:
    return turn.state.cause is Cause.INTERFACE


def by_healing(turn: Turn) -> bool:
    return turn.state.cause is Cause.HEALING


def boot_master(turn: Turn) -> bool:
    return turn.rules.boot == "master"


def boot_slave(turn: Turn) -> bool:
    return turn.rules.boot == "slave"


def contacts_nobody(turn: Turn) -> bool:
    return boot_master(turn) and not turn.rules.mresume


def is_resuming(turn: Turn) -> bool:
    return turn.state.resuming


def is_unclean(turn: Turn) -> bool:
    return turn.state.unclean


def has_failed(turn: Turn) -> bool:
    return turn.state.failed


def must_place(turn: Turn) -> bool:
    """A card that was away, or a stand-down that failed half-way, may have taken our addresses."""
    return turn.state.bare or turn.state.unclean


def peer_can_have_it(turn: Turn) -> bool:
    """The peer stood down for us, or stands by, and does not know yet that our script failed.

    If the role was the peer's to give, it hears of that by the answer to what it told us.
    """
    knows = turn.state.cause in (Cause.PEER, Cause.TAKE_BACK)
    return not knows and turn.state.heard and peer_is_idle(turn)


def stood_still(turn: Turn) -> bool:
    return turn.state.stalled


def peer_is_active(turn: Turn) -> bool:
    return turn.state.peer is not None and turn.state.peer.serves


def peer_is_rejoining(turn: Turn) -> bool:
    return turn.state.peer is not None and turn.state.peer.role == "rejoining"


def peer_is_switching(turn: Turn) -> bool:
    return turn.state.peer is not None and turn.state.peer.role == "switching"


def peer_has_failed(turn: Turn) -> bool:
    return turn.state.peer is not None and turn.state.peer.role == "failed"


def peer_is_idle(turn: Turn) -> bool:
    return turn.state.peer is not None and turn.state.peer.role in ("standby", "failed")


def heard_all(turn: Turn) -> bool:
    return all(i.up and i.heard for i in turn.state.interfaces)


not_heard_all = negate(heard_all, "not_heard_all")


def peer_is_better_off(turn: Turn) -> bool:
    peer = turn.state.peer
    ours = sum(i.useless for i in turn.state.interfaces)
    return peer is not None and len(peer.bad) < ours


def may_resume(turn: Turn) -> bool:
    """A boot master takes its role from an active peer only when it can do the work."""
    return not peer_is_active(turn) or (heard_all(turn) and not peer_is_better_off(turn))


def bad_at(peer: PeerView) -> frozenset[str]:
    """The peer's interfaces that are bad, or have heard nothing since their watcher began."""
    return peer.bad | {name for name, packets, last in peer.counts if packets == last == 0}


def peer_is_able(turn: Turn) -> bool:
    """Standby, and good on an interface that failed here, with fewer bad ones than we have.

    One that has heard nothing since its watcher began is not called bad yet, nor is it good.
    """
    peer = turn.state.peer
    if peer is None or peer.role != "standby":
        return False
    ours = frozenset(i.name for i in turn.state.interfaces if i.failed)
    theirs = bad_at(peer)
    return bool(ours - theirs) and len(theirs) < len(ours)


def peer_has_news(turn: Turn) -> bool:
    """The peer has heard a packet since we asked, on an interface that failed here.

    Its last two windows say nothing of a switch that died for both just now. It looks at its cards
    before it answers, so later answers are compared with the first.
    """
    peer, before = turn.state.peer, {n: (p, last) for n, p, last in turn.state.counts}
    if peer is None:
        return False
    ours = frozenset(i.name for i in turn.state.interfaces if i.failed)
    return any(
        name in ours - peer.bad
        and name in before
        and (
            (packets > 0 and turn.state.deadline(Timer.NEWS) is None)
            or (packets, last) not in (before[name], (0, before[name][0]))
        )
        for name, packets, last in turn.state.latest
    )


def peer_can_serve(turn: Turn) -> bool:
    """For a person's handover: the peer stands by with a carrier; it may well hear little."""
    peer = turn.state.peer
    names = frozenset(turn.rules.interfaces)
    return peer_is_idle(turn) and peer is not None and not (names and names <= peer.down)


def may_hand_over(turn: Turn) -> bool:
    """Hold-down: a role that came because of an interface stays until that one is proved."""
    state = turn.state
    if not state.from_peer:
        return True
    held = state.deadline(Timer.HOLD) is not None
    return any(
        i.failed
        and ((state.guarded is not None and i.name not in state.guarded) or (i.proved and not held))
        for i in state.interfaces
    )


def hears_peer(turn: Turn) -> bool:
    return turn.state.heard


unheard = negate(hears_peer, "unheard")


def may_answer_yet(turn: Turn) -> bool:
    """Whoever was heard just now is asked again, as long as nobody has waited too long for that."""
    waits = any(not from_peer for _, from_peer in turn.state.waiting)
    return turn.state.heard and not (waits and turn.state.deadline(Timer.PATIENCE) is None)


def peer_is_expected(turn: Turn) -> bool:
    return turn.state.deadline(Timer.EXPECTED) is not None


def is_speechless(turn: Turn) -> bool:
    return turn.state.speechless and turn.state.beats


def link_is_silent(turn: Turn) -> bool:
    return turn.state.silent


def peer_serves_nobody(turn: Turn) -> bool:
    """It is active and all its interfaces have failed or are down, but not all of ours are bad.

    One that cannot reach our port cannot hand over: it stops its heartbeats instead.
    """
    peer, names = turn.state.peer, frozenset(turn.rules.interfaces)
    ours = all(i.useless for i in turn.state.interfaces)
    return peer is not None and peer.serves and not ours and names <= peer.down | peer.failed


peer_may_serve = negate(peer_serves_nobody, "peer_may_serve")


def has_deferred(turn: Turn) -> bool:
    return turn.state.deferred


def own_is_due(turn: Turn) -> bool:
    """Comparisons may fail faster than a question is answered, and would replace it every time."""
    return turn.state.deadline(Timer.OWN) is None


def unheard_for_long(turn: Turn) -> bool:
    return turn.state.deadline(Timer.UNHEARD) is None


def nothing_to_serve_on(turn: Turn) -> bool:
    names = turn.rules.addressed or frozenset(turn.rules.interfaces)
    return not any(i.up for i in turn.state.interfaces if i.name in names)


def confirm_by_arp(turn: Turn) -> bool:
    return turn.rules.confirm == "arp"


def confirm_by_program(turn: Turn) -> bool:
    return turn.rules.confirm == "program"


def evidence_of_life(turn: Turn) -> bool:
    return turn.state.evidence is True


def still_asked(turn: Turn) -> bool:
    return turn.state.ahead


def sure(turn: Turn) -> bool:
    """Three rounds in a row without an answer, or a program's word."""
    return turn.state.quiet >= ROUNDS


not_sure = negate(sure, "not_sure")


def nobody_to_ask(turn: Turn) -> bool:
    return not turn.rules.addressed


def fence_first(turn: Turn) -> bool:
    return turn.rules.fence


def is_claimed(turn: Turn) -> bool:
    """Somebody else answered for our addresses when we asked last."""
    return turn.state.claimed > 0


def claimed_thrice(turn: Turn) -> bool:
    return turn.state.claimed >= ROUNDS


def we_yield(turn: Turn) -> bool:
    """The peer comes first: failed last, fewer bad interfaces, boot master, lower address."""
    peer = turn.state.peer
    if peer is None:
        return not turn.rules.precedes
    ours = (
        turn.state.broken,
        sum(i.useless for i in turn.state.interfaces),
        turn.rules.boot != "master",
        not turn.rules.precedes,
    )
    theirs = (peer.role == "failed", len(peer.bad), peer.boot != "master", turn.rules.precedes)
    return theirs < ours


we_come_first = negate(we_yield, "we_come_first")


def peer_outranks(turn: Turn) -> bool:
    """The order by what never changes: for two that call each other at once."""
    peer = turn.state.peer
    boot = peer.boot if peer is not None else turn.rules.boot
    ours = (turn.rules.boot != "master", not turn.rules.precedes)
    return (boot != "master", turn.rules.precedes) < ours


def has_arrived(turn: Turn) -> bool:
    """A late `fail` would make the peer active beside us."""
    return turn.state.deadline(Timer.UNDER_WAY) is None


def nobody_counted(turn: Turn) -> bool:
    return turn.state.deadline(Timer.NOBODY) is None
