"""The resolver: brings a purpose the knowledge that its policy needs, and does what follows.

It asks, waits, asks again, and has an end: lost and late answers are handled here and nowhere else.
A purpose queries the peer's port first. A peer that was heard within a window is asked again:
that nobody answers for the addresses proves nothing while it is between two steps of its own.
Where it is not heard, the service network is asked.
"""

from __future__ import annotations

from collections.abc import Callable

from failoverd.pair import compare
from failoverd.pair.actions import Look, RunProgram
from failoverd.pair.events import Query
from failoverd.pair.knowledge import Phase, Posture, Purpose, State, Timer
from failoverd.pair.policy import ROLES, Finding, Outcome, asks_network, decide, row
from failoverd.pair.roles import become_active, enter_standby, stand_down, take_role
from failoverd.pair.settings import ROUNDS
from failoverd.pair.turn import Turn

UNMET = {  # of a condition that does not hold
    compare.is_fit: "is better off",
    compare.has_heard_all: "not every interface has received a packet here",
    compare.is_up: "no interface is up here",
    compare.peer_is_useless: "receives",
    compare.peer_is_able: "is no better off",
    compare.peer_has_carrier: "has no interface that is up",
}


def begin(turn: Turn, purpose: Purpose) -> None:
    """Resolve this purpose from now on."""
    turn.go(Phase.RESOLVING, purpose)
    if purpose is Purpose.SILENCE and not turn.state.heard:
        confirm(turn)
    elif purpose is Purpose.DOUBT:
        ask_both(turn)
    else:
        if purpose is Purpose.INTERFACE:
            turn.set(counts=(), latest=())
            turn.start(Timer.GIVE_UP, turn.rules.proof_time)
        turn.ask(Query.STATUS)


def lose_answer(turn: Turn) -> None:
    """What the peer was told got no answer: find out what became of it."""
    turn.go(Phase.RESOLVING, told=turn.state.told)
    turn.ask(Query.STATUS)


def confirm(turn: Turn) -> None:
    """The heartbeat is lost, and the peer not heard: who answers for the addresses?"""
    state = turn.state
    turn.set(unanswered=True)
    if turn.rules.confirm == "program":
        run_program(turn, "confirm")
    elif turn.rules.confirm == "none" or state.free:
        found(turn, Finding.FREE)
    elif state.taken:
        found(turn, Finding.TAKEN)
    elif not state.asking:
        turn.ask_network(ROUNDS - state.quiet)


def run_program(turn: Turn, kind: str) -> None:
    number = turn.state.runs % ROUNDS + 1
    turn.set(program=number, runs=number)
    turn.act(RunProgram(kind, number))


def ask_both(turn: Turn) -> None:
    """Ask the peer how it is, and meanwhile the network, in case that the peer is dead."""
    turn.set(unanswered=False, quiet=0, taken=False)
    turn.ask(Query.STATUS)
    if turn.rules.addressed:
        turn.ask_network()


def ask_again(turn: Turn) -> None:
    state = turn.state
    if state.purpose is Purpose.DOUBT:
        ask_both(turn)
    elif is_silence(state) and state.unanswered:
        turn.ask_network(1)
    else:
        turn.set(unanswered=False)
        turn.ask(Query.STATUS)


def resolves(state: State, purpose: Purpose) -> bool:
    """Whether this is what is being resolved, and the peer was not told anything for it yet."""
    return state.phase is Phase.RESOLVING and state.told is None and state.purpose is purpose


def is_silence(state: State) -> bool:
    return resolves(state, Purpose.SILENCE)


# ---------------------------------------------------------------------------- what comes in


def peer_answered(turn: Turn) -> None:
    peer = turn.state.peer
    found(turn, ROLES[peer.role] if peer is not None else Finding.IDLE)


def peer_silent(turn: Turn) -> None:
    """The query for the peer's status got no answer."""
    state, doubts = turn.state, turn.state.purpose is Purpose.DOUBT
    if not doubts and may_answer_yet(turn):
        turn.start(Timer.RETRY, turn.rules.round)
        return
    turn.set(unanswered=True)
    if not asks_network(state):
        found(turn, Finding.SILENT)
    elif not turn.rules.addressed:
        found(turn, Finding.FREE)
    elif doubts and state.taken:
        found(turn, Finding.TAKEN)
    elif doubts:
        turn.start(Timer.RETRY, turn.rules.window)
    elif is_silence(state):
        confirm(turn)
    else:
        turn.set(quiet=0, taken=False)
        turn.ask_network()


def may_answer_yet(turn: Turn) -> bool:
    """A peer that was heard just now, but no person waits too long for that; and one that was told
    something that may still have its effect."""
    state = turn.state
    if state.told is not None:
        return state.heard or (state.runs_out(Timer.GIVE_UP) and not state.failed)
    waits_for_long = state.waits and not state.runs_out(Timer.PATIENCE)
    return state.heard and not waits_for_long and state.purpose is not Purpose.RELEASE


def network_asked(turn: Turn, blind: bool) -> None:
    """What is known of the network is news. blind: it could not be asked.

    It counts only once the peer has had its time to answer; but what keeps the role needs no more.
    """
    state = turn.state
    keeps = state.purpose is Purpose.DOUBT and state.free and not state.heard
    if state.phase is not Phase.RESOLVING or not (state.unanswered or keeps):
        return
    if not asks_network(state):
        return
    if blind:
        found(turn, Finding.BLIND)
    elif state.taken:
        found(turn, Finding.TAKEN)
    elif not state.free:
        turn.ask_network(1 if is_silence(state) else ROUNDS - state.quiet)
    elif not may_answer_yet(turn):
        found(turn, Finding.FREE)
    elif is_silence(state):
        peer_answered(turn)
    else:
        ask_again(turn)


def lose_patience(turn: Turn) -> None:
    """Whoever waits for what is not begun yet gets an answer."""
    state = turn.state
    if state.phase is not Phase.RESOLVING or state.told is not None:
        return
    if state.purpose is Purpose.DOUBT:
        why = "it is not known yet whether the peer has the role"
        turn.settle(False, why, lambda peer: not peer)
    elif not state.unanswered and state.purpose in (Purpose.OPERATOR, Purpose.RELEASE):
        peer_silent(turn)


# ---------------------------------------------------------------------------- what follows


def found(turn: Turn, finding: Finding) -> None:
    """Do what the policy says."""
    FOLLOWS[decide(turn.state, finding, turn.rules)](turn, finding)


def why(turn: Turn, finding: Finding, who: str = "") -> str:
    """The finding, who it is, and the condition that did not hold."""
    condition, state = row(turn.state)[finding][0][0], turn.state
    text = finding.value + (f" ({who})" if who and state.taken else "")
    if condition not in UNMET or condition(state, turn.rules):
        return text
    lacks = compare.missing(state) if condition in (compare.is_fit, compare.has_heard_all) else ""
    return (
        f"{text}, and {f'nothing was received here on {lacks} yet' if lacks else UNMET[condition]}"
    )


def sentence(turn: Turn, finding: Finding, outcome: str, who: str = "") -> str:
    """Purpose, knowledge and outcome."""
    return f"{turn.state.purpose.value}: {why(turn, finding, who)}; {outcome}"


def say_once(turn: Turn, finding: Finding, outcome: str) -> None:
    full = sentence(turn, finding, outcome, turn.state.who)
    turn.say_once(sentence(turn, finding, outcome), full)


def call(turn: Turn, finding: Finding) -> None:
    turn.say(sentence(turn, finding, "tells it to stand by"))
    turn.tell(Query.RESUME)


def give(turn: Turn, finding: Finding) -> None:
    turn.say(sentence(turn, finding, "hands the role over"))
    stand_down(turn, turn.state.purpose)


def take(turn: Turn, finding: Finding) -> None:
    turn.say(sentence(turn, finding, "takes the role"))
    if turn.state.purpose is Purpose.SILENCE and turn.rules.fence:
        turn.go(Phase.FENCING)
        run_program(turn, "fence")
    else:
        take_role(turn)


def back(turn: Turn, finding: Finding) -> None:
    turn.say(sentence(turn, finding, "takes the role back"))
    turn.settle(False, finding.value)
    take_role(turn, Purpose.TAKE_BACK)


def keep(turn: Turn, finding: Finding) -> None:
    if turn.state.purpose is not Purpose.DOUBT:
        say_once(turn, finding, "the role stays")
        turn.settle(False, why(turn, finding))
        turn.go(Phase.ACTIVE)
    elif turn.state.bare or turn.state.unclean:
        turn.settle(False, Purpose.RESTORE.value)
        take_role(turn, Purpose.RESTORE)
    else:
        become_active(turn)


def stay(turn: Turn, finding: Finding) -> None:
    gave = turn.state.posture is Posture.GIVING
    say_once(turn, finding, "stays standby" if gave else "no takeover")
    turn.settle(False, why(turn, finding))
    leave_silence(turn)


def done(turn: Turn, finding: Finding) -> None:
    turn.settle(True, "standby")
    enter_standby(turn)


def give_way(turn: Turn, finding: Finding) -> None:
    say_once(turn, finding, "stands down")
    stand_down(turn, Purpose.BOTH)


def prove(turn: Turn, finding: Finding) -> None:
    """The peer must show that it receives; if it does, so may this machine again by now."""
    if compare.peer_has_news(turn.state):
        turn.act(Look())
        return
    if not turn.state.counts:
        turn.set(counts=turn.state.latest)
        turn.start(Timer.NEWS, turn.rules.news_time)
    turn.start(Timer.RETRY, min(turn.rules.round, turn.rules.news_time / 8))


def looked(turn: Turn, receives: bool) -> None:
    """A failed interface has been looked at."""
    state = turn.state
    if not resolves(state, Purpose.INTERFACE):
        return
    if receives:
        turn.say(f"{state.purpose.value}: receives again; the role stays")
        turn.go(Phase.ACTIVE)
    elif compare.peer_is_able(state, turn.rules) and compare.peer_has_news(state):
        give(turn, Finding.IDLE)


def wait(turn: Turn, finding: Finding) -> None:
    """Ask again. A lost heartbeat is watched until nobody answers for the addresses."""
    if not is_silence(turn.state):
        long = finding is Finding.BLIND
        turn.start(Timer.RETRY, turn.rules.window if long else turn.rules.round)
        return
    say_once(turn, finding, "no takeover")
    turn.settle(False, finding.value)
    if turn.state.unclean or turn.rules.confirm == "program":
        leave_silence(turn)
    elif finding is Finding.TAKEN:
        turn.ask_network(1)
    else:
        turn.start(Timer.RETRY, turn.rules.round)


def leave_silence(turn: Turn) -> None:
    """No other moment would come to take away what a stand-down has left beside the peer's."""
    if turn.state.unclean and turn.state.purpose is Purpose.SILENCE:
        stand_down(turn, Purpose.CLEAN)
    else:
        enter_standby(turn)


FOLLOWS: dict[Outcome, Callable[[Turn, Finding], None]] = {
    Outcome.TAKE: take,
    Outcome.CALL: call,
    Outcome.GIVE: give,
    Outcome.BACK: back,
    Outcome.KEEP: keep,
    Outcome.STAY: stay,
    Outcome.DONE: done,
    Outcome.YIELD: give_way,
    Outcome.PROVE: prove,
    Outcome.WAIT: wait,
}
