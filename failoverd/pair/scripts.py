"""The end of a run: of the switch script, of the fence program, of the program of $confirm."""

from __future__ import annotations

from collections.abc import Callable

from failoverd.pair import compare, resolver
from failoverd.pair.events import Ended, Query
from failoverd.pair.knowledge import Phase, Purpose, Timer
from failoverd.pair.roles import (
    become_active,
    enter_standby,
    leave_role,
    restart_watchers,
    stand_down,
    take_role,
)
from failoverd.pair.settings import ROUNDS
from failoverd.pair.turn import Turn


def ended(turn: Turn, event: Ended) -> None:
    if event.kind == "script":
        SCRIPT_ENDS[turn.state.phase](turn, event)
        return
    if event.number != turn.state.program:
        return  # its word is about another silence
    turn.set(program=0)
    if event.kind == "fence":
        fenced(turn, event.ok)
    else:
        confirmed(turn, event)


def promoted(turn: Turn, event: Ended) -> None:
    if event.ok:
        turn.set(failed=False)
        restart_watchers(turn, promoted=True)
        turn.settle(True, "active")
        if turn.state.stalled:
            resolver.begin(turn, Purpose.DOUBT)
        else:
            become_active(turn)
        return
    state = turn.state
    text = f"the switch script failed ({state.purpose.value}): the role goes elsewhere"
    turn.say(text, alarm=not state.failed)  # whoever hears nobody tries again every window
    turn.set(failed=True, resuming=False)
    stand_down(turn, state.purpose)


def demoted(turn: Turn, event: Ended) -> None:
    state, purpose = turn.state, turn.state.purpose
    cleans = state.failed or purpose is Purpose.CLEAN
    if event.ok or cleans or purpose is Purpose.BOTH:
        note_clean(turn, event.ok)
    if cleans:
        if purpose is Purpose.CLEAN:  # whoever waits wants this machine to stand by
            turn.settle(True, "standby", lambda peer: peer)
        if not event.ok or purpose is not Purpose.CLEAN:
            turn.settle(False, "the switch script failed")
        leave(turn, gives=peer_can_have_it(turn))
    elif event.ok:
        stood_down(turn)
    elif purpose is Purpose.BOTH:
        turn.settle(False, "the switch script failed")
        turn.go(Phase.RESOLVING, Purpose.DOUBT)
        turn.start(Timer.RETRY, turn.rules.window)
    elif not event.ran:
        turn.say_once("the switch script cannot be run: the role stays")
        turn.settle(False, "the switch script cannot be run")
        if purpose is Purpose.PEER:  # perhaps it was in doubt, which has not ended
            resolver.begin(turn, Purpose.DOUBT)
        else:
            turn.go(Phase.ACTIVE)
    else:
        turn.say_once("the switch script failed to stand down: taking the role back")
        turn.settle(False, "the switch script failed")
        take_role(turn, Purpose.TAKE_BACK)


def note_clean(turn: Turn, ok: bool) -> None:
    """The addresses must not stay beside those of a peer that has the role: stand down again."""
    if not ok:
        text = "the switch script failed to stand down: trying again every window"
        turn.say(text, alarm=not turn.state.unclean)
    turn.set(unclean=not ok)


def peer_can_have_it(turn: Turn) -> bool:
    """The role could not be taken here. A peer that gave it hears that by its answer; one that has
    failed, too, has nothing to try."""
    state = turn.state
    if not (state.failed and state.heard and compare.peer_is_idle(state)) or state.peer is None:
        return False
    tried = state.purpose is Purpose.TAKE_BACK and state.peer.role == "failed"
    return not tried and state.purpose is not Purpose.PEER


def stood_down(turn: Turn) -> None:
    """Tell the peer, or stand by. That somebody answers by ARP, anybody can forge: where only that
    tells, the role is taken again as soon as it ends."""
    state = turn.state
    both = state.purpose is Purpose.BOTH
    turn.settle(True, "standby", lambda peer: peer)
    if both and not state.heard and state.silent and turn.rules.confirm == "arp":
        restart_watchers(turn)
        turn.settle(True, "standby")
        leave_role(turn)
        turn.set(quiet=0, taken=False)
        resolver.begin(turn, Purpose.SILENCE)
    else:
        gives = state.purpose in (Purpose.INTERFACE, Purpose.RELEASE)
        leave(turn, gives=gives or (both and state.heard))


def leave(turn: Turn, gives: bool) -> None:
    if gives:
        turn.tell(Query.FAIL)
    else:
        restart_watchers(turn)
        turn.settle(True, "standby")
        enter_standby(turn)


SCRIPT_ENDS: dict[Phase, Callable[[Turn, Ended], None]] = {
    Phase.PROMOTING: promoted,
    Phase.DEMOTING: demoted,
}


def fenced(turn: Turn, ok: bool) -> None:
    if ok:
        take_role(turn)
        return
    turn.say_once("no takeover: the fence program failed")
    turn.settle(False, "the fence program failed")
    resolver.leave_silence(turn)


def confirmed(turn: Turn, event: Ended) -> None:
    no_word = "the program of $confirm cannot be run"
    if event.ran:
        turn.set(taken=event.ok, quiet=0 if event.ok else ROUNDS, who="")  # its word is enough
        resolver.network_asked(turn, blind=False)
    elif turn.rules.addressed:
        turn.say_once(f"{no_word}: asking by ARP")
        turn.set(quiet=0, taken=False)
        turn.ask_network()
    else:
        turn.say_once(f"no takeover: {no_word}")
        turn.settle(False, no_word)
        resolver.leave_silence(turn)
