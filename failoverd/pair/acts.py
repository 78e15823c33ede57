"""What the table's rows do: changes of what is known, and actions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from failoverd.pair.actions import (
    Announce,
    Answer,
    Ask,
    Look,
    Question,
    RestartWatchers,
    RunProgram,
    RunScript,
)
from failoverd.pair.events import On, Purpose, Replied, Request
from failoverd.pair.guards import bad_at, by_interface, confirm_by_arp, unheard
from failoverd.pair.settings import ROUNDS
from failoverd.pair.state import HANDING_OVER, Cause, Phase, Timer, announceable
from failoverd.pair.turn import Turn

NO_ANSWER = "no answer from the peer"  # so begins each refusal for which that is the cause
MAX_WAITING = 16  # requests that one transition may have waiting for its end

Act = Callable[[Turn], None]


def ask(purpose: Purpose) -> Act:
    def act(turn: Turn) -> None:
        rule = turn.rules
        long = purpose in (Purpose.FAIL, Purpose.RESUME)
        timeout = rule.switch_timeout + rule.request_time if long else rule.status_timeout
        turn.act(Ask(purpose, timeout))

    act.__name__ = f"ask_{purpose.value}"
    return act


def question(turn: Turn) -> None:
    """Ask three times, now, whether anybody answers for the addresses."""
    turn.set(quiet=0, evidence=None)
    if not turn.rules.addressed:
        turn.pending.append(On.UNASKED)
        return
    gap = turn.rules.round / ROUNDS
    at = tuple(turn.now + gap * i for i in range(ROUNDS))
    turn.act(Question(False, at, turn.now + turn.rules.round))


def question_once(turn: Turn) -> None:
    if not turn.rules.addressed:
        turn.pending.append(On.UNASKED)
        return
    turn.act(Question(False, (turn.now,), turn.now + turn.rules.round))


def question_rest(turn: Turn) -> None:
    """A busy machine asked less often than it was told to: ask as often as is missing."""
    gap, missing = turn.rules.round / ROUNDS, ROUNDS - turn.state.quiet
    at = tuple(turn.now + gap * i for i in range(missing))
    turn.act(Question(False, at, turn.now + gap * missing))


def question_ahead(turn: Turn) -> None:
    """Ask while the link falls silent, so that asking costs the takeover no time.

    A window of a second or less is used from its begin on, so that a busy machine has time.
    """
    turn.set(quiet=0, evidence=None, ahead=confirm_by_arp(turn))
    if turn.state.ahead:
        verdict, unit = turn.now + turn.rules.window, turn.rules.round
        at = tuple(verdict - unit * fraction for fraction in (1.0, 0.7, 0.4))
        turn.act(Question(False, at, verdict - unit * 0.1))


def ask_both(turn: Turn) -> None:
    """Ask the peer how it is, and meanwhile the ethernet side, in case that the peer is dead."""
    ask(Purpose.STATUS)(turn)
    if turn.rules.addressed:
        question(turn)


def question_own(turn: Turn) -> None:
    turn.start(Timer.OWN, turn.rules.window)
    if turn.rules.addressed:
        turn.act(Question(True, (turn.now,), turn.now + turn.rules.round / ROUNDS))
    else:
        turn.pending.append(On.OWN_UNANSWERED)


def look(turn: Turn) -> None:
    """The peer hears something. So may we by now, if the switch was dead for both and is back."""
    turn.act(Look())


def question_own_soon(turn: Turn) -> None:
    """The peer is to stand down: our clients want to know as soon as it has."""
    turn.start(Timer.OWN, turn.rules.round / ROUNDS)


def end_claim(turn: Turn) -> None:
    turn.set(claimed=0)


def run_program(kind: str) -> Act:
    def act(turn: Turn) -> None:
        number = turn.state.runs % ROUNDS + 1
        turn.set(program=number, runs=number)
        turn.act(RunProgram(kind, number))

    act.__name__ = f"run_{kind}"
    return act


def run_master(turn: Turn) -> None:
    turn.set(stalled=False, bare=False)
    turn.act(RunScript("master", turn.state.cause.value))


def run_slave(turn: Turn) -> None:
    turn.act(RunScript("slave", turn.state.cause.value))


def join(turn: Turn) -> None:
    """The request wants what is under way: it is answered at the end."""
    request = turn.event
    assert isinstance(request, Request)
    if len(turn.state.waiting) >= MAX_WAITING:
        busy(turn)
        return
    turn.set(waiting=(*turn.state.waiting, (request.id, request.from_peer)))
    if not request.from_peer and turn.state.deadline(Timer.PATIENCE) is None:
        turn.start(Timer.PATIENCE, turn.rules.patience)


def reply(turn: Turn, ok: bool, text: str) -> None:
    assert isinstance(turn.event, Request)
    turn.act(Answer(turn.event.id, ok, text))


def ok_active(turn: Turn) -> None:
    reply(turn, True, "active")


def ok_standby(turn: Turn) -> None:
    reply(turn, True, "standby")


def busy(turn: Turn) -> None:
    reply(turn, False, "busy")


def settle(ok: bool, text: str) -> Act:
    """Answer everyone who waits for the transition that ends."""

    def act(turn: Turn) -> None:
        for request, _ in turn.state.waiting:
            turn.act(Answer(request, ok, turn.why or text))
        turn.set(waiting=())
        turn.stop(Timer.PATIENCE)

    act.__name__ = "settle"
    return act


def settle_peer(turn: Turn) -> None:
    """We have stood down: that is all that a peer who told us `resume` wants to know."""
    for request, from_peer in turn.state.waiting:
        if from_peer:
            turn.act(Answer(request, True, "standby"))
    turn.set(waiting=tuple(item for item in turn.state.waiting if not item[1]))


def refuse(text: str) -> Act:
    return settle(False, text)


def refuse_as_peer(turn: Turn) -> None:
    """The peer's error is ours."""
    assert isinstance(turn.event, Replied)
    turn.why = turn.event.text
    say_once(f"the peer refused: {turn.event.text}")(turn)
    refuse("the peer refused")(turn)


def say_what_is_missing(turn: Turn) -> None:
    """Why a boot master stands by."""
    missing = [i.name for i in turn.state.interfaces if not (i.up and i.heard)]
    turn.log(
        f"the boot master stands by until something is heard on {', '.join(missing)}"
        if missing
        else "the boot master stands by: the peer is active and better off"
    )


def say(text: str, alarm: bool = False) -> Act:
    def act(turn: Turn) -> None:
        turn.log(text, alarm)

    act.__name__ = "say"
    return act


def say_once(text: str, detail: str = "") -> Act:
    """An alarm about what is in the way: not again while it stays so, however often it is met."""

    def act(turn: Turn) -> None:
        if turn.state.blocked != text:
            turn.set(blocked=text)
            turn.log(text + detail, True)

    act.__name__ = "say_once"
    return act


def say_nobody(text: str) -> Act:
    """An alarm, but for whoever has tried already and failed: that was told."""

    def act(turn: Turn) -> None:
        turn.log(text, not turn.state.failed)

    act.__name__ = "say_nobody"
    return act


def say_who_answers(turn: Turn) -> None:
    who = turn.state.who
    say_once("no takeover: somebody still answers for the service", f": {who}" if who else "")(turn)


def say_script_failed(turn: Turn) -> None:
    """The first time in a row: whoever has failed and hears nobody tries again every window."""
    text = f"the switch script failed ({turn.state.cause.value}): the role goes elsewhere"
    turn.log(text, not turn.state.failed)


def say_not_able(turn: Turn) -> None:
    peer = turn.state.peer
    bad = ", ".join(sorted(bad_at(peer))) if peer else ""
    role = peer.role if peer else "unheard"
    turn.why = f"the peer is {role} and {bad or 'no interface'} is bad there"
    say_once(f"{turn.why}: we keep the role")(turn)


def restart_watchers(turn: Turn) -> None:
    """They begin again with boot true. What a verdict was before is known until there is another.

    But a standby's verdict, which may be that it hears little, is none on an active machine.
    """
    turn.act(RestartWatchers())
    promoted = turn.state.phase is Phase.PROMOTING or turn.came_from is Phase.PROMOTING
    turn.set(
        interfaces=tuple(
            replace(i, proved=False, verdict="boot", packets=0, last=0)
            if promoted or not i.failed
            else replace(i, proved=False)
            for i in turn.state.interfaces
        )
    )


def wait_longest(turn: Turn) -> None:
    turn.start(Timer.UNDER_WAY, turn.rules.arrival)
    turn.start(Timer.GIVE_UP, turn.rules.switch_time)


def retry_soon(turn: Turn) -> None:
    turn.start(Timer.RETRY, turn.rules.round)


def compare_when_unheard(turn: Turn) -> None:
    """Whoever switches asks no more than it needs to know that it is heard."""
    heard_until = turn.state.deadline(Timer.HEARD)
    assert heard_until is not None
    turn.start(Timer.COMPARE, heard_until - turn.now)


def compare_now(turn: Turn) -> None:
    """The next comparison waits for the end of this one, or a slow link would never see one end."""
    turn.stop(Timer.COMPARE)
    ask(Purpose.COMPARE)(turn)


def enter_asking(turn: Turn) -> None:
    turn.set(counts=(), latest=())
    if by_interface(turn):
        turn.start(Timer.GIVE_UP, turn.rules.proof_time)
    ask(Purpose.STATUS)(turn)


def compare_counts_soon(turn: Turn) -> None:
    """Note what the peer has counted, and ask again after a moment."""
    if not turn.state.counts:
        turn.set(counts=turn.state.latest)
        turn.start(Timer.NEWS, turn.rules.news_time)
    turn.start(Timer.RETRY, min(turn.rules.round, turn.rules.news_time / 8))


def count_nobody(turn: Turn) -> None:
    turn.start(Timer.NOBODY, 2 * turn.rules.window)


def wait_for_peer(turn: Turn) -> None:
    """It may not hear us, and so not know that it is its turn: we do not wait for it twice."""
    turn.set(deferred=True)
    turn.start(Timer.NOBODY, turn.rules.heartbeat + turn.rules.status_timeout)


def expect_peer(turn: Turn) -> None:
    """We have agreed to stand by for the peer: its silence is no reason while it switches."""
    turn.start(Timer.EXPECTED, turn.rules.window)


def stop_nobody(turn: Turn) -> None:
    turn.set(deferred=False)
    turn.stop(Timer.NOBODY)


def announce(turn: Turn) -> None:
    turn.act(Announce())


def trust_interfaces(turn: Turn) -> None:
    """Nobody else answers for our addresses: good interfaces may be announced on again."""
    before = announceable(turn.state)
    turn.set(
        interfaces=tuple(
            i if i.failed else replace(i, unasked=False) for i in turn.state.interfaces
        )
    )
    if announceable(turn.state) != before:
        announce(turn)


def mark_stalled(turn: Turn) -> None:
    turn.set(stalled=True)


def note_giver(turn: Turn) -> None:
    """The peer gives us the role. Because of which interface, it tells when we have it."""
    turn.set(from_peer=True, guarded=None)


def mark_failed(turn: Turn) -> None:
    """A boot master that could not become active does not call for its role again."""
    turn.set(failed=True, resuming=False)


def mark_unclean(turn: Turn) -> None:
    """Our addresses must not stay beside those of a peer that has the role: stand down again."""
    text = "the switch script failed to stand down: trying again every window"
    turn.log(text, not turn.state.unclean)
    turn.set(unclean=True)


def mark_clean(turn: Turn) -> None:
    turn.set(unclean=False)


def mark_resuming(turn: Turn) -> None:
    turn.set(resuming=True)


def stop_resuming(turn: Turn) -> None:
    turn.set(resuming=False)


def leave_role(turn: Turn) -> None:
    """What was known of the role that we had, or did not take, means nothing any more."""
    turn.set(claimed=0, from_peer=False, guarded=None, stalled=False, bare=False, deferred=False)
    turn.stop(Timer.HOLD, Timer.NOBODY, Timer.OWN)


def enter_standby(turn: Turn) -> None:
    if turn.came_from is not Phase.INQUIRING:  # else what was asked ahead still counts
        turn.set(quiet=0, evidence=None)
    leave_role(turn)
    if turn.came_from in HANDING_OVER:
        restart_watchers(turn)
    if turn.state.resuming or turn.state.unclean:
        turn.start(Timer.RETRY, turn.rules.window)
    compare_now(turn)


def become_active(turn: Turn) -> None:
    came_from_peer = turn.state.cause is Cause.PEER
    turn.set(failed=False, resuming=False, stalled=False, unclean=False)
    turn.set(claimed=0, quiet=0, evidence=None, deferred=False)
    if turn.state.cause is not Cause.TAKE_BACK:
        turn.set(blocked="")
    turn.set(interfaces=tuple(replace(i, unasked=not i.up) for i in turn.state.interfaces))
    turn.stop(Timer.NOBODY)
    if came_from_peer:
        turn.start(Timer.HOLD, turn.rules.hold_down)
    compare_now(turn)
    announce(turn)
    if unheard(turn):
        question_own(turn)  # another machine may have come to the same at the same moment
    if turn.state.waiting:
        turn.pending.append(On.WANTED)


def wait_a_round(turn: Turn) -> None:
    turn.start(Timer.GIVE_UP, turn.rules.round)


def retry_next_window(turn: Turn) -> None:
    turn.start(Timer.RETRY, turn.rules.window)


ask_status = ask(Purpose.STATUS)
settle_active = settle(True, "active")
settle_standby = settle(True, "standby")
refuse_unheard = refuse(NO_ANSWER)
refuse_for_life = refuse("no answer from the peer, but the service still answers")
refuse_unasked = refuse("no answer from the peer, and the ethernet side cannot be asked")
