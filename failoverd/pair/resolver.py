"""The resolver: brings a purpose the knowledge that its policy needs, and does what follows.

It asks, waits, asks again, and has an end: lost and late answers are handled here and nowhere else.
A purpose queries the peer's port first. A peer that was heard within a window is asked again:
that nobody answers for the addresses proves nothing while it is between two steps of its own.
Where it is not heard, the service network is asked.
"""

from __future__ import annotations

from collections.abc import Callable

from failoverd.pair import compare
from failoverd.pair.knowledge import Phase, Posture, Purpose, Timer
from failoverd.pair.messages import Look, Query, RunProgram
from failoverd.pair.policy import (
    ROLES,
    Finding,
    Outcome,
    asks_network,
    decide,
    lacks,
    must_stand_by,
    why,
)
from failoverd.pair.settings import ROUNDS
from failoverd.pair.turn import Turn

# The purposes that no operator has, and that move the role.
MOVES = (
    Purpose.NOBODY,
    Purpose.BOOT,
    Purpose.SILENCE,
    Purpose.RELIEF,
    Purpose.INTERFACE,
    Purpose.CHECK,
)


def begin(turn: Turn, purpose: Purpose) -> None:
    """Resolve this purpose from now on, unless an operator wants no change of role but his own."""
    if turn.state.held and purpose in MOVES:
        hold_back(turn, purpose)
        return
    turn.go(Phase.RESOLVING, purpose)
    if purpose is Purpose.INTERFACE:
        turn.set(counts=(), latest=())
        turn.start(Timer.GIVE_UP, turn.rules.proof_time)
    if purpose is Purpose.SILENCE and not turn.state.heard:
        confirm(turn)
    else:
        ask(turn)


def hold_back(turn: Turn, purpose: Purpose) -> None:
    text = "changes of role are on hold"
    turn.say_once("HELD", "role", text, cause=purpose.value)
    if turn.state.posture is Posture.SERVING:
        turn.go(Phase.ACTIVE)
    elif turn.state.phase is not Phase.STANDBY:
        turn.enter_standby(text)
    elif turn.state.resuming:
        turn.start(Timer.RETRY, turn.rules.window)


def lose_answer(turn: Turn) -> None:
    """What the peer was told got no answer: find out what became of it."""
    turn.go(Phase.RESOLVING, told=turn.state.told)
    turn.ask(Query.STATUS)


def ask(turn: Turn) -> None:
    """Ask the peer how it is; in doubt the network meanwhile, too: the peer may be dead."""
    turn.set(unanswered=False)
    turn.ask(Query.STATUS)
    if turn.state.purpose is Purpose.DOUBT:
        turn.set(quiet=0, taken=False)
        if turn.rules.addressed:
            turn.ask_network()


def ask_again(turn: Turn) -> None:
    if turn.state.is_silence and turn.state.unanswered:
        turn.ask_network(1)
    else:
        ask(turn)


def confirm(turn: Turn) -> None:
    """The heartbeat is lost, and the peer not heard: who answers for the addresses?"""
    state = turn.state
    turn.set(unanswered=True)
    if turn.rules.confirm == "program":
        run_program(turn, "confirm")
    elif state.taken:
        found(turn, Finding.TAKEN)
    elif turn.rules.confirm == "none" or state.free:
        found(turn, Finding.FREE)
    elif not state.asking:
        turn.ask_network(ROUNDS - state.quiet)


def run_program(turn: Turn, kind: str) -> None:
    number = turn.state.runs % ROUNDS + 1
    turn.set(program=number, runs=number)
    turn.act(RunProgram(kind, number))


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
    elif state.is_silence:
        confirm(turn)
    elif not doubts:
        turn.set(quiet=0, taken=False)
        turn.ask_network()
    elif not state.asking:  # or else it is on its way
        network_asked(turn, blind=False)


def may_answer_yet(turn: Turn) -> bool:
    """A peer that was heard just now, but an operator does not wait too long for that; and one that
    was told something that may still have its effect."""
    state = turn.state
    if state.told is not None:
        return state.heard or (state.runs_out(Timer.GIVE_UP) and not state.failed)
    return state.heard and not state.waits_for_long and state.purpose is not Purpose.RELEASE


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
        turn.ask_network(1 if state.is_silence else ROUNDS - state.quiet)
    elif not may_answer_yet(turn):
        found(turn, Finding.FREE)
    elif state.is_silence:
        peer_answered(turn)
    else:
        ask(turn)


def lose_patience(turn: Turn) -> None:
    """A request that waits for what is not begun yet gets an answer."""
    state = turn.state
    if state.resolves(Purpose.DOUBT):
        turn.settle(False, "it is not known yet whether the peer has the role", (False,))
    elif any(map(state.resolves, (Purpose.OPERATOR, Purpose.RELEASE))) and not state.unanswered:
        peer_silent(turn)


# ---------------------------------------------------------------------------- what follows


def found(turn: Turn, finding: Finding) -> None:
    """Do what the policy says."""
    outcome = decide(turn.state, finding, turn.rules)
    if outcome in SAID:
        say(turn, finding, *SAID[outcome])
    FOLLOWS[outcome](turn, finding)


def say(
    turn: Turn, finding: Finding, event: str, outcome: str, blocks: bool = False, **values: str
) -> None:
    """Purpose, knowledge and outcome. blocks: as in `Turn.say_once`."""
    state, rules = turn.state, turn.rules
    known, cause = why(state, finding, rules), state.purpose.value
    lacking = lacks(state, finding, rules)
    address, _, by = state.who.partition(" ") if finding is Finding.TAKEN else ("", "", "")
    bad = ", ".join(sorted(compare.bad_here(state))) if event == "SWITCHOVER" else ""
    values |= {"cause": cause, "bad": bad, "found": known, "lacking": lacking, "by": by}
    subject = f"address {address}" if by else "role"
    if not blocks:
        turn.say(event, subject, outcome, **values)
        return
    still = "still answers neighbour solicitation" if ":" in address else "still answers ARP"
    sentence = f"{still}, {outcome}" if by else outcome
    blocked = f"{cause}: {known}{f' ({lacking})' if lacking else ''}; {outcome}"
    turn.say_once(event, subject, sentence, blocked, **values)


def take(turn: Turn, finding: Finding) -> None:
    if turn.state.purpose is Purpose.SILENCE and turn.rules.fence:
        turn.go(Phase.FENCING)
        run_program(turn, "fence")
    else:
        turn.take_role()


def call(turn: Turn, finding: Finding) -> None:
    """What was bad at a peer that wants relief may be good again when this node has the role."""
    peer = turn.state.peer
    if turn.state.purpose is Purpose.RELIEF and peer is not None:
        turn.set(from_peer=True, guarded=compare.bad_there(peer))
    turn.tell(Query.RESUME)


def back(turn: Turn, finding: Finding) -> None:
    turn.settle(False, finding.value)
    turn.take_role(Purpose.TAKE_BACK)


def keep(turn: Turn, finding: Finding) -> None:
    if turn.state.purpose is Purpose.DOUBT:
        restore(turn)
        return
    say(turn, finding, "SWITCHOVER-BLOCKED", "the role stays", blocks=True)
    turn.settle(False, why(turn.state, finding, turn.rules))
    turn.go(Phase.ACTIVE)


def restore(turn: Turn) -> None:
    """The role is here, and nobody else has it: have the addresses, too."""
    if turn.state.bare or turn.state.unclean:
        turn.settle(False, Purpose.RESTORE.value)
        turn.take_role(Purpose.RESTORE)
    else:
        turn.become_active()


def stay(turn: Turn, finding: Finding) -> None:
    gave = turn.state.posture is Posture.GIVING
    boots = turn.state.purpose is Purpose.BOOT and finding is Finding.ACTIVE
    # No alarm: so each start of a host begins.
    unready = bool(compare.unready(turn.state, turn.rules))
    early = boots and (unready or must_stand_by(turn.state, turn.rules))
    if boots and turn.rules.failback is None:
        turn.set(resuming=False)
    quiet = turn.state.purpose is Purpose.RELIEF  # the peer needs none any more
    if not (quiet or (early and turn.state.blocked)):
        event = "FAILBACK-WAIT" if early else "TAKEOVER-BLOCKED"
        say(turn, finding, event, "stays standby" if gave else "no takeover", blocks=True)
    leave_silence(turn, why(turn.state, finding, turn.rules))


def prove(turn: Turn, finding: Finding) -> None:
    """The peer must show that it receives; if it does, so may this node again by now."""
    if compare.peer_has_news(turn.state):
        turn.act(Look())
        return
    if not turn.state.counts:
        turn.set(counts=turn.state.latest)
        turn.start(Timer.NEWS, turn.rules.news_time)
        ask(turn)  # at once: asked for its counts, the peer has probed its targets
        return
    turn.start(Timer.RETRY, min(turn.rules.round, turn.rules.news_time / 8))


def looked(turn: Turn, receives: bool) -> None:
    """A failed interface has been looked at."""
    state = turn.state
    if not state.resolves(Purpose.INTERFACE):
        return
    if receives:
        turn.say("SWITCHOVER-CANCELLED", "role", "the interface receives again, the role stays")
        turn.go(Phase.ACTIVE)
    elif compare.peer_is_able(state, turn.rules) and compare.peer_has_news(state):
        say(turn, Finding.IDLE, *SAID[Outcome.GIVE])
        turn.stand_down(state.purpose)


def wait(turn: Turn, finding: Finding) -> None:
    """Ask again. A lost heartbeat is watched until nobody answers for the addresses."""
    if not turn.state.is_silence:
        long = finding is Finding.BLIND
        if long:
            say(turn, finding, "DOUBT", "asking again every window", blocks=True)
        turn.start(Timer.RETRY, turn.rules.window if long else turn.rules.round)
        return
    say(turn, finding, "TAKEOVER-BLOCKED", "no takeover", blocks=True)
    if turn.state.unclean or turn.rules.confirm == "program":
        leave_silence(turn, finding.value)
        return
    turn.settle(False, finding.value)
    if finding is Finding.TAKEN:
        turn.ask_network(1)
    else:
        turn.start(Timer.RETRY, turn.rules.round)


def leave_silence(turn: Turn, refused: str) -> None:
    """No other moment would come to take away what a stand-down has left beside the peer's."""
    if turn.state.unclean and turn.state.purpose is Purpose.SILENCE:
        turn.settle(False, refused)
        turn.stand_down(Purpose.CLEAN)
    else:
        turn.enter_standby(refused)


SAID = {  # event, sentence, and whether that blocks what was to be done
    Outcome.TAKE: ("TAKEOVER", "taking the role", False),
    Outcome.CALL: ("CALL", "taking the role, the peer is to stand by first", False),
    Outcome.GIVE: ("SWITCHOVER", "standing down for the peer", False),
    Outcome.BACK: ("SWITCHOVER-FAILED", "taking the role back", False),
    Outcome.YIELD: ("YIELD", "standing down", True),
}
FOLLOWS: dict[Outcome, Callable[[Turn, Finding], None]] = {
    Outcome.TAKE: take,
    Outcome.CALL: call,
    Outcome.GIVE: lambda turn, finding: turn.stand_down(turn.state.purpose),
    Outcome.BACK: back,
    Outcome.KEEP: keep,
    Outcome.STAY: stay,
    Outcome.DONE: lambda turn, finding: turn.enter_standby(),
    Outcome.YIELD: lambda turn, finding: turn.stand_down(Purpose.BOTH),
    Outcome.PROVE: prove,
    Outcome.WAIT: wait,
}
