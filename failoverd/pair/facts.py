"""What an event tells: brings what is known up to date, and names what that means."""

from __future__ import annotations

from dataclasses import replace

from failoverd.pair.actions import Forget
from failoverd.pair.events import (
    Answers,
    Bare,
    Carrier,
    Counted,
    Ended,
    LinkWatched,
    On,
    Purpose,
    Replied,
    Request,
    Reread,
    Stalled,
    Started,
    Stray,
    Tick,
    Unreplied,
    Watched,
)
from failoverd.pair.guards import heard_all
from failoverd.pair.settings import ROUNDS
from failoverd.pair.state import BEING_ACTIVE, HANDING_OVER, STANDING_BY, Phase, Timer
from failoverd.pair.turn import Turn


def facts(turn: Turn) -> list[On]:
    """Bring what is known up to date; the names of what that means, in order."""
    event = turn.event
    match event:
        case Tick():
            return expired(turn)
        case Watched():
            return watched(turn, event)
        case Counted():
            return counted(turn, event)
        case Carrier():
            before = heard_all(turn)
            back = changed_carrier(turn, event)
            return [*heard_all_now(turn, before), *back]
        case Bare():
            turn.set(bare=True)
            return [On.BARE]
        case Stray():
            return [On.STRAY]
        case LinkWatched():
            return link_watched(turn, event)
        case Request():
            source = "PEER" if event.from_peer else "PERSON"
            return [On[f"{source}_SAYS_{event.command.upper()}"]]
        case Replied():
            return replied(turn, event)
        case Unreplied():
            if event.purpose is Purpose.COMPARE:
                return [uncompared(turn)]
            if not event.sent:
                turn.stop(Timer.UNDER_WAY)
            return [On.LOST]
        case Ended():
            return ended(turn, event)
        case Answers():
            return answered(turn, event)
        case Stalled():
            turn.set(silent=False, ahead=False, evidence=None, claimed=0, quiet=0, peer=None)
            turn.set(beats=False, program=0)
            turn.stop(Timer.HEARD, Timer.NOBODY, Timer.SERVED)
            turn.act(Forget(True))
            return [On.STALLED]
        case Reread():
            return [On.REREAD]
        case Started():
            return started(turn, event)


ENDED = {
    ("script", True): On.SCRIPT_OK,
    ("script", False): On.SCRIPT_FAILED,
    ("fence", True): On.FENCED,
    ("fence", False): On.FENCE_FAILED,
    ("confirm", True): On.ANSWERED,
    ("confirm", False): On.UNANSWERED,
}


def ended(turn: Turn, event: Ended) -> list[On]:
    if event.kind != "script":
        if event.number != turn.state.program:
            return []  # its word is about another silence
        turn.set(program=0)
    if not event.ran and event.kind != "fence":
        return [On.NOT_RUN]
    if event.kind == "confirm":
        turn.set(quiet=0 if event.ok else ROUNDS, who="")  # its word is enough
    return [ENDED[event.kind, event.ok]]


def started(turn: Turn, event: Started) -> list[On]:
    count_unheard(turn)
    turn.start(Timer.COMPARE, turn.rules.heartbeat)
    turn.set(resuming=event.resuming, failed=event.role == "failed", unclean=event.unclean)
    match event.role:
        case "active":
            return [On.START_ACTIVE]
        case "standby" | "failed":
            return [On.START_STANDBY]
        case "switching":
            return [On.START_SWITCHING]
        case _:
            return [On.START_FRESH]


def expired(turn: Turn) -> list[On]:
    """Take away the deadlines that have passed; those that mean something to the table."""
    due = [timer for timer, deadline in turn.state.timers if deadline <= turn.now]
    turn.stop(*due)
    if Timer.HEARD in due:
        turn.stop(Timer.NOBODY)
    return [On[timer.name] for timer in due if timer.name in On.__members__]


def change_interface(turn: Turn, name: str, **changes: object) -> None:
    turn.set(
        interfaces=tuple(
            replace(i, **changes) if i.name == name else i  # type: ignore[arg-type]
            for i in turn.state.interfaces
        )
    )


def changed_carrier(turn: Turn, event: Carrier) -> list[On]:
    """What was announced on a card without a carrier, nobody has heard."""
    known = turn.state.interface(event.interface)
    if known is None:
        return []
    lost = known.unasked or (not event.up and turn.state.phase in BEING_ACTIVE)
    change_interface(turn, event.interface, up=event.up, unasked=lost)
    return [On.INTERFACE_BACK] if event.up and lost else []


def watched(turn: Turn, event: Watched) -> list[On]:
    before = turn.state.interface(event.interface)
    if before is None or event.verdict == "late":
        return []
    if before.failed and turn.state.phase in HANDING_OVER:
        return []  # because of it the peer is given the role, and has to hear that when it has it
    good = event.verdict == "ok" and event.packets > 0
    heard_before = heard_all(turn)
    change_interface(
        turn,
        event.interface,
        verdict=event.verdict,
        packets=event.packets,
        last=event.last,
        heard=before.heard or event.packets > 0,
        proved=before.proved or good,
        unasked=before.unasked or (event.verdict == "fail" and turn.state.phase in BEING_ACTIVE),
    )
    events = heard_all_now(turn, heard_before)
    if event.verdict == "fail":
        return [*events, On.INTERFACE_FAILED]
    all_well = good and not any(i.failed for i in turn.state.interfaces)
    if all_well and turn.state.phase in BEING_ACTIVE:
        turn.set(blocked="")
    if before.unasked and good:
        return [*events, On.INTERFACE_BACK]
    return events


def counted(turn: Turn, event: Counted) -> list[On]:
    known = turn.state.interface(event.interface)
    if known is None or not known.failed:
        return []
    silent = event.packets < max(1, turn.rules.low_water)
    return [On.STILL_SILENT if silent else On.HEARS_AGAIN]


def heard_all_now(turn: Turn, before: bool) -> list[On]:
    return [On.INTERFACES_HEARD] if heard_all(turn) and not before else []


def link_watched(turn: Turn, event: LinkWatched) -> list[On]:
    if event.verdict == "late":
        return []
    turn.set(beats=event.packets > 0)
    if event.verdict == "fail":
        turn.set(silent=True)
        return [On.LINK_SILENT]
    was_silent = turn.state.silent
    turn.set(silent=False)
    if event.packets == 0:
        return [On.FALLING_SILENT]
    if was_silent and turn.state.phase in STANDING_BY:
        turn.set(blocked="")
    if turn.state.phase is not Phase.REJOINING:  # that somebody has our addresses is no guess
        turn.set(evidence=None)
    return [On.LINK_ALIVE] if was_silent else []


def hear(turn: Turn) -> None:
    """The peer's port has answered a query of ours, signed and valid. Nothing else tells that it
    is heard: whoever has its address and the secret can ask us (a status command there, say)."""
    turn.start(Timer.HEARD, turn.rules.window)
    count_unheard(turn)


def count_unheard(turn: Turn) -> None:
    turn.start(Timer.UNHEARD, 2 * turn.rules.window)
    turn.start(Timer.WORDLESS, turn.rules.wordless_time)


def replied(turn: Turn, event: Replied) -> list[On]:
    hear(turn)
    if event.view is not None:
        if turn.state.peer is None and event.view.boot == turn.rules.boot:
            turn.log(f"both machines have boot:{turn.rules.boot} in host_type: change one", True)
        turn.set(peer=event.view)
        if turn.state.phase is Phase.ASKING and event.purpose is Purpose.STATUS:
            turn.set(latest=event.view.counts)  # a comparison may have been under way for longer
    match event.purpose:
        case Purpose.COMPARE:
            asks_why = turn.state.from_peer and turn.state.guarded is None
            if asks_why and turn.state.phase in BEING_ACTIVE and event.view is not None:
                turn.set(guarded=event.view.bad | event.view.failed)
            done = uncompared(turn)
            return [done if event.view is None else On.COMPARED]
        case Purpose.STATUS:
            return [On.STATUS] if event.view is not None else [On.LOST]
        case _:
            return [On.AGREED if event.ok else On.REFUSED]


def uncompared(turn: Turn) -> On:
    """A comparison has ended, in whatever way: the next is due a heartbeat later."""
    turn.start(Timer.COMPARE, turn.rules.heartbeat)
    return On.UNCOMPARED


def answered(turn: Turn, event: Answers) -> list[On]:
    if event.own:
        if not event.anybody:
            return [On.OWN_UNANSWERED]
        if not turn.state.claimed:
            who = f": {event.who}" if event.who else ""
            turn.log(f"somebody else answers for our addresses, too{who}", True)
        turn.set(claimed=min(ROUNDS, turn.state.claimed + 1))
        return [On.OWN_ANSWERED]
    turn.set(ahead=False)
    if event.anybody:
        turn.set(evidence=True, quiet=0, who=event.who)
        turn.start(Timer.SERVED, turn.rules.wordless_time)  # longer than until it is asked again
        return [On.ANSWERED]
    if event.asked == 0:
        return [On.UNASKED]
    turn.set(evidence=False, quiet=min(ROUNDS, turn.state.quiet + event.asked))
    return [On.UNANSWERED]
