"""One step of one machine: an event comes in, what it tells is noted, and what it means is done.

What is considered and decided stands in `policy`; here is who may interrupt whom: what a request
meets, what the end of a script leads to, and what is compared and watched meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from failoverd.pair import compare, events, resolver, watching
from failoverd.pair.actions import Action, Forget
from failoverd.pair.events import Event, Query
from failoverd.pair.knowledge import HOLDING, STANDING_BY, Phase, Posture, Purpose, State, Timer
from failoverd.pair.roles import become_active, enter_standby, stand_down, take_role
from failoverd.pair.scripts import ended
from failoverd.pair.settings import Rules
from failoverd.pair.turn import Turn


def step(
    state: State, event: Event, settings: Rules, now: float
) -> tuple[State, tuple[Action, ...]]:
    """What becomes of a machine by an event at a time. Pure; now is monotonic, in seconds."""
    turn = Turn(state, settings, now)
    HANDLERS[type(event)](turn, event)
    if turn.state.phase is Phase.ACTIVE and turn.state.waiting:
        resolver.begin(turn, Purpose.RELEASE)
    if turn.state.begun:
        watching.notice_speechless(turn)
        watching.mute(turn)
    return turn.state, tuple(turn.actions)


# ---------------------------------------------------------------------------- start and stall


def started(turn: Turn, event: events.Started) -> None:
    """Go on as $state says, or else as host_type does."""
    turn.set(begun=True, resuming=event.resuming, unclean=event.unclean)
    turn.set(failed=event.role == "failed")
    count_unheard(turn)
    turn.start(Timer.COMPARE, turn.rules.heartbeat)
    match event.role:
        case "active":
            resolver.begin(turn, Purpose.DOUBT)
        case "standby" | "failed":
            enter_standby(turn)
        case "switching":
            stand_down(turn, Purpose.CLEAN)
        case _:
            start_fresh(turn)


def start_fresh(turn: Turn) -> None:
    if turn.rules.boot == "slave":
        stand_down(turn, Purpose.CLEAN)
    elif turn.rules.mresume:
        turn.set(resuming=True)
        resolver.begin(turn, Purpose.BOOT)
    else:
        take_role(turn, Purpose.BOOT)


def stalled(turn: Turn, event: events.Stalled) -> None:
    """The loop stood still for a window: what it knew is old, what it did may be overtaken."""
    turn.set(silent=False, beats=False, peer=None, taken=False, quiet=0, claimed=0)
    turn.set(asking=False, program=0)
    turn.stop(Timer.HEARD, Timer.NOBODY, Timer.SERVED)
    turn.act(Forget(True))
    state = turn.state
    match state.posture:
        case Posture.SEEKING if state.purpose is Purpose.SILENCE:
            turn.settle(False, "stalled meanwhile")
            enter_standby(turn)
        case Posture.SEEKING | Posture.CALLING | Posture.DOUBTING:
            resolver.begin(turn, state.purpose)
        case Posture.PROMOTING:
            turn.set(stalled=True)
        case Posture.SERVING:
            turn.say("stalled for longer than a window: asking before anything else", alarm=True)
            resolver.begin(turn, Purpose.DOUBT)
        case Posture.GIVING:
            resolver.lose_answer(turn)
            turn.start(Timer.UNDER_WAY, turn.rules.arrival)
            turn.start(Timer.GIVE_UP, turn.rules.switch_time)


# ---------------------------------------------------------------------------- requests


def requested(turn: Turn, event: events.Request) -> None:
    """Somebody with the secret told this machine `fail` or `resume` (section 6)."""
    if event.command == "fail":
        told_fail(turn, event, turn.state.posture)
    else:
        told_resume(turn, event, turn.state.posture)


def told_fail(turn: Turn, event: events.Request, posture: Posture) -> None:
    """Take the role. The peer stood down before it said so; for a person it is asked first."""
    match posture, event.from_peer:
        case (Posture.SERVING, _) | (Posture.DOUBTING, False):
            turn.reply(event, True, "active")
            if event.from_peer:
                turn.announce()
        case (Posture.DOUBTING, _):
            if turn.state.bare or turn.state.unclean:
                turn.settle(False, Purpose.RESTORE.value)
                turn.join(event)
                take_role(turn, Purpose.RESTORE)
            else:
                turn.reply(event, True, "active")
                become_active(turn)
        case (Posture.PROMOTING, _) | (Posture.CALLING, False):
            turn.join(event)
        case (Posture.DEMOTING, _) | (Posture.GIVING, False):
            turn.reply(event, False, "busy")
        case (Posture.IDLE | Posture.SEEKING, False):
            turn.join(event)
            if not (turn.state.purpose is Purpose.OPERATOR or turn.state.phase is Phase.FENCING):
                resolver.begin(turn, Purpose.OPERATOR)
        case _:
            if posture is Posture.GIVING:
                turn.settle(False, "the peer handed the role back")
            turn.join(event)
            turn.set(from_peer=True, guarded=None)  # it tells why when this machine has it
            take_role(turn, Purpose.PEER)


def told_resume(turn: Turn, event: events.Request, posture: Posture) -> None:
    """Stand by. The peer takes the role itself; for a person it is handed over."""
    if not event.from_peer and (posture is Posture.IDLE or resolver.is_silence(turn.state)):
        turn.reply(event, True, "standby")
        turn.set(resuming=False)
        return
    could_not_start = turn.state.failed and turn.state.purpose is not Purpose.CLEAN
    match posture, event.from_peer:
        case (Posture.DEMOTING, _) if could_not_start:  # who waits already, waits for its role
            turn.reply(event, False, "busy")
        case (Posture.DEMOTING, _) | (Posture.DOUBTING | Posture.GIVING, False):
            turn.join(event)
        case (Posture.SERVING | Posture.DOUBTING, True):
            turn.join(event)
            stand_down(turn, Purpose.PEER)
        case (Posture.SERVING, False):
            turn.join(event)
            if turn.state.purpose is not Purpose.RELEASE or turn.state.phase is Phase.ACTIVE:
                resolver.begin(turn, Purpose.RELEASE)
        case (_, False) | (Posture.PROMOTING, _):
            turn.reply(event, False, "busy")
        case (Posture.CALLING, True) if not compare.peer_outranks(turn.state, turn.rules):
            turn.reply(event, False, "busy")
        case _:
            make_way(turn, event, posture)


def make_way(turn: Turn, event: events.Request, posture: Posture) -> None:
    """The peer takes the role. Its silence is no reason while it switches."""
    gave = posture is Posture.GIVING
    turn.settle(gave, "standby" if gave else "the peer takes the role")
    turn.reply(event, True, "standby")
    if posture is Posture.IDLE:
        forget_nobody(turn)
    else:
        enter_standby(turn)
    if not gave:
        turn.start(Timer.EXPECTED, turn.rules.window)


def forget_nobody(turn: Turn) -> None:
    turn.set(deferred=False)
    turn.stop(Timer.NOBODY)


# ---------------------------------------------------------------------------- the peer's port


def hear(turn: Turn) -> None:
    """The peer's port has answered a query, signed and valid. Nothing else tells that it is heard:
    whoever has its address and the secret can ask this one (a status command there, say)."""
    turn.start(Timer.HEARD, turn.rules.window)
    count_unheard(turn)


def count_unheard(turn: Turn) -> None:
    turn.start(Timer.UNHEARD, 2 * turn.rules.window)
    turn.start(Timer.WORDLESS, turn.rules.wordless_time)


def replied(turn: Turn, event: events.Replied) -> None:
    hear(turn)
    state, view = turn.state, event.view
    resolves = state.phase is Phase.RESOLVING
    if view is not None:
        if state.peer is None and view.boot == turn.rules.boot:
            turn.say(f"both machines have boot:{view.boot} in host_type: change one", alarm=True)
        turn.set(peer=view)
    match event.query:
        case Query.COMPARE if view is not None:
            turn.start(Timer.COMPARE, turn.rules.heartbeat)
            if state.from_peer and state.guarded is None and state.posture in HOLDING:
                turn.set(guarded=view.bad | view.failed)
            compared(turn)
        case Query.COMPARE:
            uncompared(turn)
        case Query.STATUS if view is not None and resolves:
            turn.set(latest=view.counts)
            resolver.peer_answered(turn)
        case Query.STATUS if resolves:
            resolver.peer_silent(turn)
        case Query.FAIL | Query.RESUME if state.phase is Phase.TOLD:
            told_peer(turn, event)


def told_peer(turn: Turn, event: events.Replied) -> None:
    """The peer has answered what it was told."""
    calls = turn.state.posture is Posture.CALLING
    if event.ok and calls:
        take_role(turn)
    elif event.ok:
        turn.settle(True, "standby")
        enter_standby(turn)
    else:
        turn.say_once(f"the peer refused: {event.text}")
        turn.settle(False, event.text)
        if calls or turn.state.failed:
            enter_standby(turn)
        else:
            take_role(turn, Purpose.TAKE_BACK)


def unreplied(turn: Turn, event: events.Unreplied) -> None:
    if event.query is Query.COMPARE:
        uncompared(turn)
        return
    if turn.state.phase is Phase.TOLD:
        if not event.sent:  # nothing is under way
            turn.stop(Timer.UNDER_WAY, Timer.GIVE_UP)
        resolver.lose_answer(turn)
    elif turn.state.phase is Phase.RESOLVING:
        resolver.peer_silent(turn)


def uncompared(turn: Turn) -> None:
    """A comparison has ended, in whatever way: the next is due a heartbeat later."""
    turn.start(Timer.COMPARE, turn.rules.heartbeat)
    state = turn.state
    if state.heard:
        return
    if state.phase is Phase.STANDBY and state.speechless and state.beats:
        if turn.rules.addressed:
            turn.ask_network(1)
    elif state.posture is Posture.SERVING and not state.runs_out(Timer.OWN):
        turn.ask_own()  # not at every one: they may fail faster than a question is answered


def compared(turn: Turn) -> None:
    """Roles are compared every heartbeat: two active, or none?"""
    state = turn.state
    assert state.peer is not None
    if state.posture is Posture.SERVING and state.peer.role == "active":
        if compare.yields(state, turn.rules):
            turn.say("both nodes are active: the peer keeps the role", alarm=True)
            stand_down(turn, Purpose.BOTH)
        else:
            turn.say_once("both nodes are active: the role stays here")
            turn.announce()
    elif state.phase is Phase.STANDBY:
        if state.peer.serves:
            forget_nobody(turn)
        elif compare.peer_is_idle(state) and not state.runs_out(Timer.NOBODY):
            turn.start(Timer.NOBODY, 2 * turn.rules.window)
    elif resolver.is_silence(state):
        resolver.peer_answered(turn)


def nobody_active(turn: Turn) -> None:
    """Neither has been active for two windows: the one that comes first takes the role."""
    state = turn.state
    if state.phase is not Phase.STANDBY or not state.heard:
        return
    idle = compare.peer_is_idle(state)
    if idle and not (compare.yields(state, turn.rules) and not state.deferred):
        # Whoever has tried already and failed has told that.
        turn.say("no node is active: calling for the role", alarm=not state.failed)
        resolver.begin(turn, Purpose.NOBODY)
    else:  # it may not hear this machine, and so not know that it is its turn: once only
        turn.set(deferred=True)
        turn.start(Timer.NOBODY, turn.rules.heartbeat + turn.rules.status_timeout)


# ---------------------------------------------------------------------------- time


def tick(turn: Turn, event: events.Tick) -> None:
    """Take away the deadlines that have passed, and do what they mean."""
    due = [timer for timer, deadline in turn.state.timers if deadline <= turn.now]
    turn.stop(*due)
    if Timer.HEARD in due:
        turn.stop(Timer.NOBODY)
    for timer in due:
        if timer in TIMERS and (timer is not Timer.NOBODY or Timer.HEARD not in due):
            TIMERS[timer](turn)


def compare_due(turn: Turn) -> None:
    """Whoever switches asks no more than it needs to know that the peer is heard."""
    heard_until = turn.state.deadline(Timer.HEARD)
    switching = turn.state.posture not in (*HOLDING, *STANDING_BY)
    if switching and heard_until is not None:
        turn.start(Timer.COMPARE, heard_until - turn.now)
    else:
        turn.compare()


def retry(turn: Turn) -> None:
    state = turn.state
    if state.phase is Phase.RESOLVING:
        resolver.ask_again(turn)
    elif state.phase is Phase.STANDBY and state.unclean:
        stand_down(turn, Purpose.CLEAN)
    elif state.phase is Phase.STANDBY and state.resuming:
        resolver.begin(turn, Purpose.BOOT)


def give_up(turn: Turn) -> None:
    """The peer has had as long as it may take."""
    state = turn.state
    if state.phase is Phase.TOLD:
        resolver.lose_answer(turn)
    elif resolver.resolves(state, Purpose.INTERFACE):
        turn.say_once("interface failed: the peer does not show that it receives; the role stays")
        turn.go(Phase.ACTIVE)


def own_due(turn: Turn) -> None:
    if turn.state.posture is Posture.SERVING and turn.state.claimed:
        turn.ask_own()


def reread(turn: Turn, event: events.Reread) -> None:
    """What is asked under the old settings means nothing any more."""
    if resolver.is_silence(turn.state):
        turn.settle(False, "the configuration was read again")
        enter_standby(turn)


TIMERS: dict[Timer, Callable[[Turn], None]] = {
    Timer.COMPARE: compare_due,
    Timer.RETRY: retry,
    Timer.GIVE_UP: give_up,
    Timer.NOBODY: nobody_active,
    Timer.OWN: own_due,
    Timer.PATIENCE: resolver.lose_patience,
}
HANDLERS: dict[type[Event], Callable[[Turn, Any], None]] = {
    events.Started: started,
    events.Watched: watching.watched,
    events.Counted: watching.counted,
    events.Carrier: watching.carrier,
    events.Bare: watching.addresses_gone,
    events.Stray: watching.addresses_stray,
    events.LinkWatched: watching.link_watched,
    events.Request: requested,
    events.Replied: replied,
    events.Unreplied: unreplied,
    events.Ended: ended,
    events.Answers: watching.answered,
    events.Stalled: stalled,
    events.Reread: reread,
    events.Tick: tick,
}
