"""One step of one node: an event comes in, what it tells is noted, and what it means is done.

What is considered and decided stands in `policy`; here is what comes beside it: a start, a stall,
what the peer's port tells, the end of a script, and time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from failoverd.pair import compare, messages, requests, resolver, watching
from failoverd.pair.knowledge import HOLDING, Phase, Posture, Purpose, State, Timer, is_speechless
from failoverd.pair.messages import Action, Announce, Ended, Event, Forget, Query, Replied
from failoverd.pair.settings import ROUNDS, Rules
from failoverd.pair.turn import Turn


def step(
    state: State, event: Event, settings: Rules, now: float
) -> tuple[State, tuple[Action, ...]]:
    """What becomes of a node by an event at a time. Pure; now is monotonic, in seconds."""
    turn = Turn(state, settings, now)
    HANDLERS[type(event)](turn, event)
    if turn.state.phase is Phase.ACTIVE and turn.state.waiting:
        resolver.begin(turn, Purpose.RELEASE)
    if turn.state.begun:
        watching.mute(turn)
        watching.wait_until_well(turn)
    return turn.state, tuple(turn.actions)


# ---------------------------------------------------------------------------- start and stall


def started(turn: Turn, event: messages.Started) -> None:
    """Go on as $state says, or else as host_type does."""
    turn.set(begun=True, resuming=event.resuming, unclean=event.unclean)
    turn.set(failed=event.role == "failed")
    turn.start(Timer.UNHEARD, turn.rules.wordless_time)
    turn.start(Timer.COMPARE, turn.rules.heartbeat)
    if event.role == "active":
        if event.from_peer:  # or a service that is bad on both nodes would go to and fro
            turn.set(from_peer=True, guarded=event.guarded)
            turn.start(Timer.HOLD, max(0.0, turn.rules.hold_down - event.lasted))
        resolver.begin(turn, Purpose.DOUBT)
    elif event.role in ("standby", "failed"):
        turn.enter_standby()
    elif event.role == "switching" or turn.rules.boot == "slave":
        turn.stand_down(Purpose.CLEAN)
    elif turn.rules.mresume or turn.state.held:
        turn.set(resuming=True)
        resolver.begin(turn, Purpose.BOOT)
    else:
        turn.take_role(Purpose.BOOT)


def stalled(turn: Turn, event: messages.Stalled) -> None:
    """The loop stalled for a window: what it knew is old, what it did may be overtaken."""
    turn.set(silent=False, beats=False, peer=None, taken=False, quiet=0, claimed=0)
    turn.set(asking=False, program=0)
    turn.stop(Timer.HEARD, Timer.NOBODY, Timer.RELIEF, Timer.SERVED)
    turn.act(Forget(True))
    state = turn.state
    if state.posture is Posture.PROMOTING:
        turn.set(stalled=True)
    elif state.posture is Posture.SERVING:
        turn.say("DOUBT", "role", "stalled for longer than a window, asking before anything else")
        resolver.begin(turn, Purpose.DOUBT)
    elif state.posture is Posture.GIVING:
        resolver.lose_answer(turn)
        turn.start(Timer.UNDER_WAY, turn.rules.arrival)
        turn.start(Timer.GIVE_UP, turn.rules.switch_time)
    elif state.posture is Posture.SEEKING and state.purpose is Purpose.SILENCE:
        turn.enter_standby("stalled meanwhile")
    elif state.posture in (Posture.SEEKING, Posture.CALLING, Posture.DOUBTING):
        resolver.begin(turn, state.purpose)


def hold(turn: Turn, event: messages.Hold) -> None:
    """What has been told, or is being done, goes on to its end."""
    if event.on is turn.state.held:
        return
    turn.set(held=event.on, blocked="")
    state = turn.state
    undecided = state.phase is Phase.FENCING or state.resolves(state.purpose)
    if event.on and undecided and state.purpose in resolver.MOVES:
        resolver.hold_back(turn, state.purpose)


def reread(turn: Turn, event: messages.Reread) -> None:
    if turn.state.runs_out(Timer.COMPARE):
        turn.compare()  # by the old settings that may be long from now
    if turn.state.is_silence:
        turn.enter_standby("the configuration was read again")


# ---------------------------------------------------------------------------- the peer's port


def replied(turn: Turn, event: Replied) -> None:
    """The peer's port has answered a query, signed and valid. Nothing else tells that it is heard:
    any process with its address and the secret can ask this node (a status command there, say)."""
    turn.start(Timer.HEARD, turn.rules.window)
    turn.start(Timer.UNHEARD, turn.rules.wordless_time)
    state, view = turn.state, event.view
    if view is not None:
        turn.set(peer=view)
    if event.query is Query.COMPARE:
        turn.start(Timer.COMPARE, turn.rules.heartbeat)
        if view is not None:
            if state.from_peer and state.guarded is None and state.posture in HOLDING:
                turn.set(guarded=compare.bad_there(view))
            compared(turn)
    elif event.query is not Query.STATUS:
        if state.phase is Phase.TOLD:
            peer_ended(turn, event)
    elif state.phase is Phase.RESOLVING and view is None:
        resolver.peer_silent(turn)
    elif state.phase is Phase.RESOLVING and view is not None:
        turn.set(latest=view.counts)
        resolver.peer_answered(turn)


def peer_ended(turn: Turn, event: Replied) -> None:
    """The peer has answered what it was told."""
    calls, view = turn.state.posture is Posture.CALLING, turn.state.peer
    if event.ok and calls:
        if view is not None:
            turn.set(peer=replace(view, role="standby"))
        turn.take_role()
    elif event.ok:
        turn.enter_standby()
    else:
        blocked = f"the peer refused: {event.text}"
        turn.say_once("PEER-REFUSED", "peer", "refused", blocked, error=event.text)
        refused(turn, event.text)


def refused(turn: Turn, text: str) -> None:
    state = turn.state
    if state.posture is Posture.CALLING or state.failed:
        turn.enter_standby(text)
        return
    turn.settle(False, text)
    if state.purpose is Purpose.BOTH:  # this node stood down for one that was active: ask it
        turn.stop(Timer.UNDER_WAY, Timer.GIVE_UP)
        resolver.lose_answer(turn)
    else:
        turn.take_role(Purpose.TAKE_BACK)


def unreplied(turn: Turn, event: messages.Unreplied) -> None:
    state = turn.state
    if event.query is Query.COMPARE:
        turn.start(Timer.COMPARE, turn.rules.heartbeat)
        uncompared(turn)
    elif state.phase is Phase.TOLD:
        if not event.sent:  # nothing is under way
            turn.stop(Timer.UNDER_WAY, Timer.GIVE_UP)
        resolver.lose_answer(turn)
    elif state.phase is Phase.RESOLVING:
        resolver.peer_silent(turn)


def uncompared(turn: Turn) -> None:
    """Nothing is known of the peer but what the service network tells."""
    state = turn.state
    if state.heard:
        return
    if state.phase is Phase.STANDBY and is_speechless(state) and turn.rules.addressed:
        if not state.asking:  # it may fail faster than a probe is answered
            turn.ask_network(1)
    elif not state.runs_out(Timer.OWN):
        turn.ask_own()  # not at every one: they may fail faster than a probe is answered


def compared(turn: Turn) -> None:
    """Roles are compared every heartbeat: two active, or none?"""
    state = turn.state
    assert state.peer is not None
    if state.posture is Posture.SERVING and state.peer.role == "active":
        if compare.yields(state, turn.rules):
            turn.say("SPLIT-BRAIN", "role", "both nodes active, standing down", winner="peer")
            turn.stand_down(Purpose.BOTH)
        else:
            text = "both nodes active, the role stays here"
            turn.say_once("SPLIT-BRAIN", "role", text, winner="self")
            turn.act(Announce())
    elif state.phase is Phase.ACTIVE:
        watching.give_to_better(turn)
    elif state.phase is Phase.STANDBY:
        compared_on_standby(turn, state.peer)
    elif state.believes_dead:
        resolver.peer_answered(turn)


def compared_on_standby(turn: Turn, peer: messages.PeerView) -> None:
    state, rules = turn.state, turn.rules
    watching.note_relief(turn)
    if peer.serves:
        turn.stop(Timer.NOBODY)
        if not (state.silent or state.resuming or state.broken or state.held):
            turn.set(blocked="")  # nothing is to be done here, whatever was before
    elif compare.peer_is_idle(state) and not state.runs_out(Timer.NOBODY):
        # The first may not reach the second, and so not know that it is its turn.
        later = rules.compare_time if compare.yields(state, rules) else 0.0
        turn.start(Timer.NOBODY, 2 * rules.window + later)


# ---------------------------------------------------------------------------- ends of programs


def ended(turn: Turn, event: Ended) -> None:
    if event.kind == "script":
        (promoted if turn.state.phase is Phase.PROMOTING else demoted)(turn, event)
    elif event.number == turn.state.program:  # or else its word is about another silence
        turn.set(program=0)
        (fenced if event.kind == "fence" else confirmed)(turn, event)


def promoted(turn: Turn, event: Ended) -> None:
    state = turn.state
    if not event.ok:
        name = "SWITCH-RETRY" if state.failed else "SWITCH-FAILED"  # it may fail every window
        turn.say(name, "script", "failed, the role goes elsewhere", cause=state.purpose.value)
        turn.set(failed=True, resuming=False)
        turn.stand_down(state.purpose)
        return
    turn.set(failed=False)
    if state.purpose in (Purpose.PEER, Purpose.RELIEF):
        turn.start(Timer.HOLD, turn.rules.hold_down)
    turn.restart_watchers(promoted=True)
    turn.settle(True, "active")
    if state.stalled:
        resolver.begin(turn, Purpose.DOUBT)
    else:
        turn.become_active()


def demoted(turn: Turn, event: Ended) -> None:
    """The end of a stand-down: of a role that could not be taken, of what a run before has left, or
    of the role that was here."""
    state, purpose = turn.state, turn.state.purpose
    cleans = state.failed or purpose is Purpose.CLEAN
    if event.ok or cleans or (purpose is Purpose.BOTH and event.ran):
        note_clean(turn, event.ok)
    if cleans:
        if purpose is Purpose.CLEAN:  # the peer wants this node to stand by
            turn.settle(True, "standby", (True,))
        failed = not event.ok or purpose is not Purpose.CLEAN
        leave(turn, peer_can_have_it(state), "the switch script failed" if failed else "")
    elif event.ok:
        turn.settle(True, "standby", (True,))
        both = purpose is Purpose.BOTH
        asked = (Purpose.INTERFACE, Purpose.CHECK, Purpose.RELEASE)
        gives = purpose in asked or (both and state.heard)
        leave(turn, gives, doubtful=both and not gives)
    elif event.ran and purpose is not Purpose.BOTH:
        turn.say_once("SWITCH-FAILED", "script", "failed to stand down, taking the role back")
        turn.settle(False, "the switch script failed")
        turn.take_role(Purpose.TAKE_BACK)
    else:
        text = "the switch script " + ("failed" if event.ran else "cannot be run")
        if not event.ran:
            turn.say_once("SWITCH-FAILED", "script", "cannot be run, the role stays")
        turn.settle(False, text)
        turn.go(Phase.RESOLVING, Purpose.DOUBT)
        turn.start(Timer.RETRY, turn.rules.window)


def note_clean(turn: Turn, ok: bool) -> None:
    """The addresses must not stay beside those of a peer that has the role: stand down again."""
    if not ok:
        event = "SWITCH-RETRY" if turn.state.unclean else "SWITCH-FAILED"
        turn.say(event, "script", "failed to stand down, trying again every window")
    turn.set(unclean=not ok)


def peer_can_have_it(state: State) -> bool:
    """The role could not be taken here. A peer that gave it learns that by its answer; one that has
    failed, too, has nothing to try."""
    peer, why = state.peer, state.purpose
    if peer is None or not (state.failed and state.heard) or why is Purpose.PEER:
        return False
    return peer.role == "standby" or (peer.role == "failed" and why is not Purpose.TAKE_BACK)


def leave(turn: Turn, gives: bool, refused: str = "", doubtful: bool = False) -> None:
    """Stood down. That a host answers by ARP, any host can forge: where only that tells, the role
    is taken again as soon as it ends."""
    if gives:
        if refused:
            turn.settle(False, refused)
        turn.tell(Query.FAIL)
        return
    turn.restart_watchers()
    doubtful = doubtful and turn.state.silent and turn.rules.confirm != "program"
    turn.enter_standby(refused)
    if doubtful and turn.rules.addressed:
        turn.set(quiet=0, taken=turn.rules.confirm == "none")  # or it is not asked whether it ends
        resolver.begin(turn, Purpose.SILENCE)


def fenced(turn: Turn, event: Ended) -> None:
    if event.ok:
        turn.take_role()
        return
    turn.say_once("TAKEOVER-BLOCKED", "role", "fencing failed, no takeover")
    if any(not from_peer for _, from_peer in turn.state.waiting):
        resolver.begin(turn, Purpose.OPERATOR)  # which fences nothing, whenever it is asked
        return
    resolver.leave_silence(turn, "the fence program failed")


def confirmed(turn: Turn, event: Ended) -> None:
    no_word = "the program of $confirm gave no result"
    if event.ran:
        turn.set(taken=event.ok, quiet=0 if event.ok else ROUNDS, who="")  # its word is enough
        resolver.network_asked(turn, blind=False)
    elif turn.rules.addressed:
        turn.say_once("CONFIRM-FAILED", "role", f"{no_word}, probing for the addresses")
        turn.set(quiet=0, taken=False)
        turn.ask_network()
    else:
        turn.say_once("TAKEOVER-BLOCKED", "role", f"{no_word}, no takeover")
        resolver.leave_silence(turn, no_word)


# ---------------------------------------------------------------------------- time


def tick(turn: Turn, event: messages.Tick) -> None:
    """Take away the deadlines that have passed, and do what they mean."""
    due = [timer for timer, deadline in turn.state.timers if deadline <= turn.now]
    turn.stop(*due)
    if Timer.UNHEARD in due:
        turn.stop(Timer.NOBODY)
    for timer in due:
        if timer in TIMERS:
            TIMERS[timer](turn)


def retry(turn: Turn) -> None:
    state = turn.state
    if state.phase is Phase.RESOLVING:
        resolver.ask_again(turn)
    elif state.phase is Phase.STANDBY and state.unclean:
        turn.stand_down(Purpose.CLEAN)
    elif state.phase is Phase.STANDBY and state.resuming:
        resolver.begin(turn, Purpose.BOOT)


def give_up(turn: Turn) -> None:
    """The peer has had as long as it may take."""
    if turn.state.phase is Phase.TOLD:
        resolver.lose_answer(turn)
    elif turn.state.resolves(Purpose.INTERFACE):
        text = "the peer does not show that packets arrive, the role stays"
        if not turn.state.counts:
            text = "no answer from the peer, the role stays"
        turn.say_once("SWITCHOVER-BLOCKED", "role", text, cause=Purpose.INTERFACE.value)
        turn.go(Phase.ACTIVE)


def nobody_active(turn: Turn) -> None:
    """Neither has been active for two windows: the one that comes first takes the role."""
    state = turn.state
    cleans = state.phase is Phase.DEMOTING
    if not (cleans or state.phase is Phase.STANDBY) or not state.runs_out(Timer.UNHEARD):
        return
    if cleans or not (state.heard and compare.peer_is_idle(state)):
        turn.start(Timer.NOBODY, turn.rules.compare_time)  # either may clean up again and again
        return
    # A node that has tried already and failed has told that.
    turn.say("CALL", "role", "no node is active, calling for the role")
    resolver.begin(turn, Purpose.NOBODY)


def own_due(turn: Turn) -> None:
    if turn.state.claimed:
        turn.ask_own()


TIMERS: dict[Timer, Callable[[Turn], None]] = {
    Timer.COMPARE: Turn.compare,
    Timer.RETRY: retry,
    Timer.GIVE_UP: give_up,
    Timer.NOBODY: nobody_active,
    Timer.RELIEF: watching.relieve,
    Timer.OWN: own_due,
    Timer.PATIENCE: resolver.lose_patience,
    Timer.UNWELL: retry,
}
HANDLERS: dict[type[Event], Callable[[Turn, Any], None]] = {
    messages.Started: started,
    messages.Watched: watching.watched,
    messages.Checked: watching.checked,
    messages.Hold: hold,
    messages.Counted: watching.counted,
    messages.Carrier: watching.carrier,
    messages.Bare: watching.addresses_gone,
    messages.Stray: watching.addresses_stray,
    messages.LinkWatched: watching.link_watched,
    messages.Request: requests.requested,
    messages.Replied: replied,
    messages.Unreplied: unreplied,
    messages.Ended: ended,
    messages.Answers: watching.answered,
    messages.Stalled: stalled,
    messages.Reread: reread,
    messages.Tick: tick,
}
