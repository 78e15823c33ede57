"""One step: the facts of an event, the first row of the table that fits, its acts."""

from __future__ import annotations

from failoverd.pair.actions import Action, Forget, Heartbeats
from failoverd.pair.events import Event, On
from failoverd.pair.facts import facts
from failoverd.pair.guards import unheard_for_long
from failoverd.pair.settings import Rules
from failoverd.pair.state import BEING_ACTIVE, SAME_QUESTIONS, Phase, State, Timer
from failoverd.pair.table import ENTER, ROWS, Row
from failoverd.pair.turn import Turn


def by_phase_and_event(rows: tuple[Row, ...]) -> dict[tuple[Phase, On], tuple[Row, ...]]:
    table: dict[tuple[Phase, On], list[Row]] = {}
    for row in rows:
        for phase in row.phases:
            table.setdefault((phase, row.on), []).append(row)
    return {key: tuple(found) for key, found in table.items()}


TABLE = by_phase_and_event(ROWS)


def step(
    state: State, event: Event, settings: Rules, now: float
) -> tuple[State, tuple[Action, ...]]:
    """What becomes of a machine by an event at a time. Pure; now is monotonic, in seconds."""
    turn = Turn(state, event, settings, now)
    turn.pending = facts(turn)
    while turn.pending:
        on = turn.pending.pop(0)
        for row in TABLE.get((turn.state.phase, on), ()):
            if all(guard(turn) for guard in row.when):
                take(turn, row)
                break
    notice_speechless(turn)
    mute(turn)
    return turn.state, tuple(turn.actions)


def take(turn: Turn, row: Row) -> None:
    """Do what a row says, and enter the phase it leads to."""
    before = turn.came_from = turn.state.phase
    if row.go is not None and row.go is not before:
        turn.stop(Timer.RETRY)
        if row.go not in (Phase.DOUBTING, Phase.UNSURE):
            turn.stop(Timer.GIVE_UP, Timer.UNDER_WAY)
        forget = (before, row.go) not in SAME_QUESTIONS
        turn.act(Forget(forget))
        turn.set(program=0)
        if forget:
            turn.set(ahead=False)
    if row.cause is not None:
        turn.set(cause=row.cause)
    if row.go is not None:
        turn.set(phase=row.go)
    for act in row.do:
        act(turn)
    if row.go is not None and row.go is not before and turn.state.phase is row.go:
        for act in ENTER.get(row.go, ()):
            act(turn)


def notice_speechless(turn: Turn) -> None:
    """Heartbeats come in, but no query is answered: said once, and once that it is over.

    A peer that neither serves nor hears us stops its heartbeats; that is no end of it.
    """
    state = turn.state
    wordless = state.deadline(Timer.WORDLESS) is None
    if state.phase is Phase.NEW or (state.speechless and wordless):
        return
    speechless = state.beats and wordless
    if speechless is state.speechless:
        return
    turn.set(speechless=speechless)
    if speechless:
        turn.log(
            "the peer sends heartbeats, but its port does not answer: if no line above says why, "
            "look for a packet filter on either machine, see to the MTU of the private link, and "
            "that $tcp_port is the same",
            alarm=True,
        )
    else:
        turn.log("the peer's port answers again")


def mute(turn: Turn) -> None:
    """A machine that neither serves nor can be asked stops its heartbeats (section 5).

    They would only keep the peer from taking over. So would those of a standby machine that cannot
    take over itself, when the link is cut in one direction; but not while it finds the service
    answered for.
    """
    state = turn.state
    deaf = bool(state.interfaces) and all(i.failed or not i.up for i in state.interfaces)
    serves = state.phase in BEING_ACTIVE and not deaf
    useless = not serves and state.phase is not Phase.NEW and unheard_for_long(turn)
    useless = useless and (deaf or state.deadline(Timer.SERVED) is None)
    if useless is not state.mute:
        turn.set(mute=useless)
        turn.act(Heartbeats(not useless))
        if useless:
            turn.log(
                "we do not serve and the peer cannot be reached: "
                "no more heartbeats, so that it can take over if it lives"
            )
        else:
            turn.log("heartbeats go on")
