"""The table of `pair` against section 5: who is bad, able and first, and what is answered.

What follows from what over time is the explorer's; here each rule stands alone, and every phase
meets every event.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from failoverd import conf, pair
from failoverd.master.questions import is_forgotten
from failoverd.pair import Cause, On, PeerView, Phase, Purpose, Timer
from failoverd.pair.acts import MAX_WAITING
from failoverd.pair.guards import peer_is_able, we_come_first, we_yield
from failoverd.pair.stepping import TABLE
from failoverd.pair.turn import Turn

MASTER = pair.Rules(
    boot="master",
    precedes=True,
    mresume=True,
    interfaces=("eth0", "eth1"),
    window=10.0,
    heartbeat=4.0,
    switch_timeout=30.0,
    hold_down=60.0,
    confirm="arp",
    addressed=frozenset({"eth0"}),
    fence=False,
    status_timeout=5.0,
    card_window=20.0,
)
SLAVE = replace(MASTER, boot="slave", precedes=False)
NO_ADDRESSES = replace(MASTER, addressed=frozenset())
GOOD = frozenset[str]()
NOW = 1000.0
TOLD = ((7, False),)  # somebody waits


def view(role: str, bad: str = "", boot: str = "slave", down: str = "") -> PeerView:
    return PeerView(role, boot, frozenset(bad.split()), frozenset(down.split()))


def cards(**verdicts: str) -> tuple[pair.Interface, ...]:
    return tuple(
        pair.Interface(name, verdicts.get(name, "ok"), packets=9 * (verdict != "fail"), last=9)
        for name in MASTER.interfaces
        for verdict in (verdicts.get(name, "ok"),)
    )


def machine(phase: Phase, **changes: object) -> pair.State:
    """A machine in a phase, heard, with two good interfaces."""
    timers = ((Timer.HEARD, NOW + 5), (Timer.UNHEARD, NOW + 15))
    state = pair.State(phase=phase, interfaces=cards(), timers=timers)
    return replace(state, **changes)  # type: ignore[arg-type]


def step(
    state: pair.State, event: pair.Event, rules: pair.Rules = MASTER
) -> tuple[pair.State, list[pair.Action]]:
    after, actions = pair.step(state, event, rules, NOW)
    return after, [a for a in actions if not isinstance(a, (pair.Log, pair.Forget))]


def answers(actions: list[pair.Action]) -> list[tuple[int, bool, str]]:
    return [(a.id, a.ok, a.text) for a in actions if isinstance(a, pair.Answer)]


def asks(actions: list[pair.Action]) -> set[Purpose]:
    return {a.purpose for a in actions if isinstance(a, pair.Ask)}


def scripts(actions: list[pair.Action]) -> list[str]:
    return [a.role for a in actions if isinstance(a, pair.RunScript)]


# ---------------------------------------------------------------------------- the words


@pytest.mark.parametrize(
    ("state", "packets", "last", "bad"),
    [
        ("ok", 5, 5, False),
        ("ok", 0, 5, False),
        ("boot", 0, 0, False),
        ("silent", 0, 0, True),
        ("down", 9, 9, True),
        ("fail", 0, 0, True),
        ("fail", 1, 0, False),  # below its low water, which is never applied to a standby
    ],
)
def test_who_is_bad_at_the_peer(state: str, packets: int, last: int, bad: bool) -> None:
    assert pair.is_bad(state, packets, last) is bad


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_has_a_role(phase: Phase) -> None:
    assert pair.role(machine(phase)) in ("active", "standby", "switching")
    broken = pair.role(machine(phase, failed=True))
    assert broken == ("failed" if pair.role(machine(phase)) == "standby" else broken)


@pytest.mark.parametrize(
    ("ours", "peer", "able"),
    [
        ({"eth0": "fail"}, view("standby"), True),
        ({"eth0": "fail"}, view("standby", "eth1"), False),  # as many bad ones as we have
        ({"eth0": "fail", "eth1": "fail"}, view("standby", "eth1"), True),
        ({"eth0": "fail"}, view("standby", "eth0"), False),
        ({"eth0": "fail"}, view("failed"), False),
        ({"eth0": "fail"}, view("switching"), False),
        ({"eth0": "fail"}, view("active"), False),
    ],
)
def test_who_is_able(ours: dict[str, str], peer: PeerView, able: bool) -> None:
    state = machine(Phase.ASKING, interfaces=cards(**ours), peer=peer)
    assert peer_is_able(Turn(state, pair.Tick(), MASTER, NOW)) is able


ORDER = [
    # ours, the peer's: who yields, if we are the boot master with the lower address
    (machine(Phase.ACTIVE), view("active"), False),
    (machine(Phase.ACTIVE, interfaces=cards(eth0="fail")), view("active"), False),
    (
        machine(Phase.ACTIVE, interfaces=(pair.Interface("eth0", "ok"), *cards()[1:])),
        view("active"),
        True,  # fewer bad interfaces come before the boot master
    ),
    (machine(Phase.STANDBY, failed=True), view("standby", "eth0 eth1"), True),  # failed is last
    (machine(Phase.STANDBY, unclean=True), view("failed"), False),
    (machine(Phase.STANDBY), view("failed"), False),
    (machine(Phase.ACTIVE), view("active", boot="master"), False),  # the lower address
]


@pytest.mark.parametrize(("state", "peer", "yields"), ORDER)
def test_who_comes_first(state: pair.State, peer: PeerView, yields: bool) -> None:
    state = replace(state, peer=peer)
    assert we_yield(Turn(state, pair.Tick(), MASTER, NOW)) is yields


@given(
    *(st.booleans() for _ in range(2)),
    *(st.sampled_from(["master", "slave"]) for _ in range(2)),
    *(st.sets(st.sampled_from(MASTER.interfaces)) for _ in range(2)),
)
@settings(deadline=None)
def test_of_two_machines_exactly_one_comes_first(
    failed_a: bool, failed_b: bool, boot_a: str, boot_b: str, bad_a: set[str], bad_b: set[str]
) -> None:
    def first(failed: bool, rules: pair.Rules, bad: set[str], peer: PeerView) -> bool:
        interfaces = tuple(pair.Interface(n, "ok", packets=n not in bad) for n in MASTER.interfaces)
        state = machine(Phase.STANDBY, failed=failed, interfaces=interfaces, peer=peer)
        return we_come_first(Turn(state, pair.Tick(), rules, NOW))

    def seen(failed: bool, boot: str, bad: set[str]) -> PeerView:
        return PeerView("failed" if failed else "standby", boot, frozenset(bad))

    a = first(failed_a, replace(MASTER, boot=boot_a), bad_a, seen(failed_b, boot_b, bad_b))
    b = first(failed_b, replace(SLAVE, boot=boot_b), bad_b, seen(failed_a, boot_a, bad_a))
    assert a is not b


# ---------------------------------------------------------------------------- start


@pytest.mark.parametrize(
    ("rules", "was", "phase", "script"),
    [
        (SLAVE, None, Phase.CLEANING, ["slave"]),
        (MASTER, None, Phase.INQUIRING, []),
        (replace(MASTER, mresume=False), None, Phase.PROMOTING, ["master"]),
        (MASTER, "active", Phase.REJOINING, []),
        (SLAVE, "active", Phase.REJOINING, []),
        (MASTER, "standby", Phase.STANDBY, []),
        (SLAVE, "failed", Phase.STANDBY, []),
        (MASTER, "switching", Phase.CLEANING, ["slave"]),
    ],
)
def test_start(rules: pair.Rules, was: str | None, phase: Phase, script: list[str]) -> None:
    state, actions = step(pair.initial(rules), pair.Started(was), rules)
    assert state.phase is phase
    assert scripts(actions) == script
    assert not any(isinstance(a, pair.Announce) for a in actions)
    assert pair.role(state) == ("failed" if was == "failed" else pair.ROLE[phase])


@pytest.mark.parametrize(
    ("heard", "peer", "calls"),
    [
        (True, view("active"), True),
        (True, view("active", "eth0"), True),
        (False, view("active"), False),  # not every interface has heard a packet
        (False, view("standby"), True),  # but then the peer serves nobody
        (True, view("failed"), True),
    ],
)
def test_a_boot_master_calls_for_its_role(heard: bool, peer: PeerView, calls: bool) -> None:
    interfaces = tuple(replace(i, heard=heard) for i in cards())
    state = machine(Phase.INQUIRING, resuming=True, interfaces=interfaces)
    state, actions = step(state, pair.Replied(Purpose.STATUS, True, view=peer))
    assert state.phase is (Phase.CALLING if calls else Phase.STANDBY)
    assert (Purpose.RESUME in asks(actions)) is calls
    if not calls:
        assert state.deadline(Timer.RETRY) == NOW + MASTER.window


def test_a_boot_master_that_is_worse_off_waits() -> None:
    interfaces = tuple(
        pair.Interface(n, "ok", packets=9 * (n == "eth1"), heard=True) for n in MASTER.interfaces
    )
    state = machine(Phase.INQUIRING, resuming=True, interfaces=interfaces)
    assert step(state, pair.Replied(Purpose.STATUS, True, view=view("active")))[0].phase is (
        Phase.STANDBY
    )


# ---------------------------------------------------------------------------- requests


def some_machines(phase: Phase) -> list[pair.State]:
    """Machines in a phase that differ in what the guards look at."""
    return [
        machine(phase, cause=cause, unclean=unclean, peer=peer, resuming=resuming)
        for cause, unclean, peer, resuming in product(
            Cause, (False, True), (None, view("standby", boot="master")), (False, True)
        )
    ]


@pytest.mark.parametrize("command", ["fail", "resume"])
@pytest.mark.parametrize("from_peer", [True, False])
@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.NEW])
def test_every_request_is_answered_or_waits_for_an_end(
    phase: Phase, command: str, from_peer: bool
) -> None:
    for state in some_machines(phase):
        for rules in (MASTER, SLAVE):
            after, actions = step(state, pair.Request(7, command, from_peer), rules)
            said = answers(actions)
            waits = [number for number, _ in after.waiting] == [7]
            assert (len(said) == 1) is not waits, (state, said, after.waiting)
            if waits:
                assert after.phase not in (Phase.STANDBY, Phase.ACTIVE)
            elif said[0][1]:
                assert said[0][2] == ("active" if command == "fail" else "standby")


SOME_EVENTS: list[pair.Event] = [
    *(pair.Ended(kind, ok) for kind in ("script", "fence") for ok in (True, False)),
    *(pair.Answers(False, asked, heard) for asked, heard in ((0, False), (3, False), (3, True))),
    *(pair.Answers(True, 1, heard) for heard in (False, True)),
    *(
        pair.Replied(purpose, True, view=view(role))
        for purpose in (Purpose.STATUS, Purpose.COMPARE)
        for role in ("active", "standby", "failed", "switching", "rejoining")
    ),
    *(
        pair.Replied(purpose, ok)
        for purpose in (Purpose.FAIL, Purpose.RESUME)
        for ok in (True, False)
    ),
    *(pair.Unreplied(purpose) for purpose in Purpose),
    *(pair.Request(8, command, True) for command in ("fail", "resume")),
    *(
        pair.LinkWatched(packets, verdict)
        for packets, verdict in ((0, "fail"), (0, "ok"), (1, "ok"))
    ),
    *(pair.Watched("eth0", packets, 0, verdict) for packets, verdict in ((0, "fail"), (9, "ok"))),
    *(pair.Counted("eth0", packets) for packets in (0, 9)),
    *(pair.Bare(), pair.Stalled(), pair.Tick()),
]
FLAGS = ("unclean", "failed", "stalled", "bare", "evidence")
RESTING = (Phase.NEW, Phase.STANDBY, Phase.ACTIVE)


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase not in RESTING])
def test_whoever_waits_is_answered_at_the_end(phase: Phase) -> None:
    """Whatever comes in a phase: a request still waits for an end, or it is answered, truly."""
    changes: list[dict[str, object]] = [{word: True} for word in FLAGS]
    changes += [{word: True, "timers": ()} for word in FLAGS]
    changes += [{}, {"claimed": 2}, {"quiet": 2}, {"interfaces": cards(eth0="fail")}]
    changes += [{"counts": (("eth0", 0, 0),), "latest": (("eth0", 1, 0),)}, {"timers": ()}]
    changes += [{"timers": tuple((timer, NOW) for timer in Timer if timer is not Timer.HEARD)}]
    nobody_to_ask = replace(MASTER, addressed=frozenset(), confirm="none")
    causes = [Cause.BOOT, Cause.PEER, Cause.PERSON, Cause.HEALING]
    if phase is not Phase.ASKING:  # a person's request makes it the person's
        causes.append(Cause.INTERFACE)
    for cause, known, event, rules in product(
        causes, changes, SOME_EVENTS, (MASTER, nobody_to_ask)
    ):
        before = machine(phase, cause=cause, waiting=((7, cause is Cause.PEER),), **known)
        after, actions = step(before, event, rules)
        said = [answer for answer in answers(actions) if answer[0] == 7]
        waits = 7 in dict(after.waiting)
        assert len(said) + waits == 1, (before, event)
        assert not waits or after.phase not in RESTING, (before, event)
        for _, ok, text in said:
            assert not ok or (text == "active") is (pair.role(after) == "active"), (before, event)


@pytest.mark.parametrize("phase", Phase)
def test_one_transition_has_only_so_many_requests_waiting(phase: Phase) -> None:
    waiting = tuple((number, False) for number in range(MAX_WAITING))
    for command, from_peer in product(("fail", "resume"), (True, False)):
        state = machine(phase, waiting=waiting)
        after, actions = step(state, pair.Request(99, command, from_peer))
        assert len(after.waiting) <= MAX_WAITING
        assert phase is Phase.NEW or after.waiting or answers(actions)


def test_a_request_for_another_result_is_busy() -> None:
    for phase, command in [
        (Phase.PROMOTING, "resume"),
        (Phase.DEMOTING, "fail"),
        (Phase.TELLING, "fail"),
        (Phase.CLEANING, "fail"),
    ]:
        _, actions = step(machine(phase), pair.Request(7, command, False))
        assert answers(actions) == [(7, False, "busy")]


def test_a_person_hears_the_error_of_the_peer() -> None:
    state = machine(Phase.CALLING, cause=Cause.PERSON, waiting=((7, False),))
    state, actions = step(state, pair.Replied(Purpose.RESUME, False, "the switch script failed"))
    assert state.phase is Phase.STANDBY
    assert answers(actions) == [(7, False, "the switch script failed")]


# ---------------------------------------------------------------------------- silence


NOT_RUN = pair.Ended("script", False, ran=False)
SILENT = pair.LinkWatched(0, "fail")
EVENTS_OF_SILENCE = [
    # settings, what the standby knows; the phase after the verdict
    ({}, {"quiet": 3, "evidence": False}, Phase.PROMOTING),
    ({}, {"quiet": 2, "evidence": False}, Phase.CONFIRMING),
    ({}, {"evidence": True}, Phase.CONFIRMING),
    ({}, {}, Phase.CONFIRMING),
    ({}, {"quiet": 1, "evidence": False}, Phase.CONFIRMING),
    ({"confirm": "none"}, {}, Phase.PROMOTING),
    ({"confirm": "program"}, {}, Phase.CONFIRMING),
    ({"fence": True}, {"quiet": 3, "evidence": False}, Phase.FENCING),
    ({"fence": True}, {"quiet": 1, "evidence": False}, Phase.CONFIRMING),
    ({"confirm": "none", "fence": True}, {}, Phase.FENCING),
]


@pytest.mark.parametrize(("changes", "known", "phase"), EVENTS_OF_SILENCE)
def test_the_private_link_is_silent(
    changes: dict[str, object], known: dict[str, object], phase: Phase
) -> None:
    rules = replace(SLAVE, **changes)  # type: ignore[arg-type]
    state, _ = step(machine(Phase.STANDBY, timers=(), **known), SILENT, rules)
    assert state.phase is phase
    heard, _ = step(machine(Phase.STANDBY, **known), SILENT, rules)
    assert heard.phase is Phase.STANDBY
    down = tuple(replace(i, up=False) for i in cards())
    lame = machine(Phase.STANDBY, timers=(), interfaces=down, **known)
    assert step(lame, SILENT, rules)[0].phase is Phase.STANDBY


def test_three_questions_are_over_when_the_verdict_comes() -> None:
    _, actions = step(machine(Phase.STANDBY), pair.LinkWatched(0, "ok"), SLAVE)
    [question] = [a for a in actions if isinstance(a, pair.Question)]
    verdict = NOW + SLAVE.window
    assert len(question.at) == pair.ROUNDS
    assert verdict - 1 <= min(question.at) < max(question.at) < question.until < verdict


@pytest.mark.parametrize("window", [0.01, 0.1, 1.0, 11.0])
@pytest.mark.parametrize("asked", [1, 2])
def test_a_busy_machine_goes_on_from_what_was_unanswered(window: float, asked: int) -> None:
    rules = replace(SLAVE, window=window)
    state = machine(Phase.STANDBY, quiet=asked, evidence=False, timers=())
    state, actions = step(state, SILENT, rules)
    [question] = [a for a in actions if isinstance(a, pair.Question)]
    assert len(question.at) == 3 - asked
    assert question.until - NOW == pytest.approx(rules.round * (3 - asked) / 3)
    _, actions = step(state, pair.Answers(False, 3 - asked, False), rules)
    assert scripts(actions) == ["master"]


def test_a_report_that_comes_after_the_verdict_is_waited_for() -> None:
    state, _ = step(machine(Phase.STANDBY, timers=()), pair.LinkWatched(0, "ok"), SLAVE)
    state, actions = pair.step(state, SILENT, SLAVE, NOW)
    assert state.phase is Phase.CONFIRMING
    assert pair.Forget(True) not in actions
    assert not any(isinstance(a, pair.Question) for a in actions)
    _, done = step(state, pair.Answers(False, 3, False), SLAVE)
    assert scripts(done) == ["master"]
    lost, _ = step(state, pair.Answers(False, 0, False), SLAVE)  # its child has died
    lost = replace(lost, timers=tuple((timer, NOW) for timer, _ in lost.timers))
    assert any(isinstance(a, pair.Question) for a in step(lost, pair.Tick(), SLAVE)[1])


def test_one_answer_starts_the_counting_anew() -> None:
    state = machine(Phase.CONFIRMING, quiet=2, timers=())
    state, actions = step(state, pair.Answers(False, 1, True), SLAVE)
    assert (state.phase, state.quiet) == (Phase.CONFIRMING, 0)
    for _ in range(2):
        state, actions = step(state, pair.Answers(False, 1, False), SLAVE)
        assert state.phase is Phase.CONFIRMING
        assert any(isinstance(a, pair.Question) for a in actions)
    state, actions = step(state, pair.Answers(False, 1, False), SLAVE)
    assert scripts(actions) == ["master"]


CONFIRMING = {
    "arp": SLAVE,
    "program": replace(SLAVE, confirm="program"),
    "fenced": replace(SLAVE, fence=True),
}
CARDS_DOWN = tuple(replace(i, up=False) for i in cards())
WAYS_OUT_OF_CONFIRMING = [
    # $confirm, what is known, what comes; the phase after it
    ("arp", {}, pair.LinkWatched(1, "ok"), Phase.STANDBY),
    ("arp", {}, pair.Replied(Purpose.COMPARE, True, view=view("active")), Phase.STANDBY),
    ("arp", {}, pair.Answers(False, 1, True), Phase.CONFIRMING),
    ("arp", {"interfaces": CARDS_DOWN}, pair.Answers(False, 3, False), Phase.STANDBY),
    (
        "fenced",
        {"interfaces": CARDS_DOWN},
        pair.Answers(False, 3, False),
        Phase.STANDBY,
    ),
    ("program", {}, pair.Ended("confirm", True), Phase.STANDBY),
    ("program", {"interfaces": CARDS_DOWN}, pair.Ended("confirm", False), Phase.STANDBY),
]


@pytest.mark.parametrize(("confirm", "known", "event", "phase"), WAYS_OUT_OF_CONFIRMING)
def test_a_person_who_waits_for_a_takeover_that_does_not_come_is_told(
    confirm: str, known: dict[str, object], event: pair.Event, phase: Phase
) -> None:
    """It was told `fail` while it asked, and the link fell silent before it knew."""
    state = machine(Phase.CONFIRMING, silent=True, waiting=TOLD, timers=(), **known)
    state, actions = step(state, event, CONFIRMING[confirm])
    assert (state.phase, state.waiting, scripts(actions)) == (phase, (), [])
    assert [ok for _, ok, _ in answers(actions)] == [False]


def test_and_so_is_one_who_waits_when_somebody_has_answered_already_or_nobody_can_be_asked() -> (
    None
):
    inquiring = machine(Phase.INQUIRING, evidence=True, waiting=TOLD, timers=())
    state, actions = step(inquiring, SILENT, SLAVE)
    assert (state.phase, len(answers(actions))) == (Phase.CONFIRMING, 1)
    confirming = machine(Phase.CONFIRMING, waiting=TOLD, timers=())
    rules = replace(SLAVE, confirm="program", addressed=frozenset())
    state, actions = step(confirming, pair.Ended("confirm", False, ran=False), rules)
    assert (state.phase, len(answers(actions))) == (Phase.STANDBY, 1)


@pytest.mark.parametrize(
    ("confirm", "event"),
    [("arp", pair.Answers(False, 1, False)), ("program", pair.Ended("confirm", False))],
)
def test_nobody_takes_over_unfenced_after_asking(confirm: str, event: pair.Event) -> None:
    state = machine(Phase.CONFIRMING, silent=True, quiet=2, timers=())
    state, actions = step(state, event, replace(SLAVE, confirm=confirm, fence=True))
    assert (state.phase, done(actions)) == (Phase.FENCING, {"run fence"})


# ---------------------------------------------------------------------------- handover


def test_news_from_a_peer_that_is_not_able_is_no_reason_to_hand_over() -> None:
    """It hears on the interface that failed here, but another one is bad there."""
    before = (("eth0", 0, 5), ("eth1", 0, 0))
    news = replace(view("standby", "eth1"), counts=(("eth0", 3, 5), ("eth1", 0, 0)))
    asking = machine(
        Phase.ASKING,
        cause=Cause.INTERFACE,
        interfaces=cards(eth0="fail"),
        peer=news,
        counts=before,
        latest=news.counts,
    )
    assert step(asking, pair.Counted("eth0", 0)) == (asking, [])
    for known in (before, ()):
        state, actions = step(
            replace(asking, counts=known), pair.Replied(Purpose.STATUS, True, view=news)
        )
        assert state.phase is Phase.ACTIVE
        assert pair.Look() not in actions


def test_a_card_that_hears_again_while_the_peer_is_asked_is_no_reason_either() -> None:
    asking = machine(Phase.ASKING, cause=Cause.INTERFACE, interfaces=cards(eth0="fail"))
    assert step(asking, pair.Counted("eth0", 9))[0].phase is Phase.ACTIVE
    by_person = replace(asking, cause=Cause.PERSON, waiting=TOLD)
    assert step(by_person, pair.Counted("eth0", 9))[0].phase is Phase.ASKING


SCRIPT_ENDS = {
    "ok": pair.Ended("script", True),
    "failed": pair.Ended("script", False),
    "not run": pair.Ended("script", False, ran=False),
}


@pytest.mark.parametrize("how", SCRIPT_ENDS)
@pytest.mark.parametrize(
    ("failed", "cause", "peer", "heard", "phase"),
    [
        (True, Cause.SILENCE, "standby", True, Phase.TELLING),
        (True, Cause.SILENCE, "standby", False, Phase.STANDBY),
        (True, Cause.SILENCE, "active", True, Phase.STANDBY),
        (True, Cause.PEER, "standby", True, Phase.STANDBY),  # it hears of it by our answer
        (True, Cause.TAKE_BACK, "standby", True, Phase.STANDBY),
        (False, Cause.STRAY, "standby", True, Phase.STANDBY),
    ],
)
def test_a_role_that_cannot_be_taken_goes_to_the_peer_if_it_does_not_know(
    how: str, failed: bool, cause: Cause, peer: str, heard: bool, phase: Phase
) -> None:
    state = machine(Phase.CLEANING, failed=failed, cause=cause, peer=view(peer), unclean=True)
    state = replace(state, waiting=TOLD, timers=state.timers if heard else ())
    state, actions = step(state, SCRIPT_ENDS[how])
    assert (state.phase, state.unclean, state.waiting) == (phase, how != "ok", ())
    assert pair.RestartWatchers() in actions
    assert (Purpose.FAIL in asks(actions)) is (phase is Phase.TELLING)


def test_a_person_need_not_wait_for_news() -> None:
    news = replace(view("standby"), counts=(("eth0", 3, 5),))
    asking = machine(
        Phase.ASKING,
        cause=Cause.PERSON,
        waiting=TOLD,
        interfaces=cards(eth0="fail"),
        counts=(("eth0", 0, 5),),
    )
    state, actions = step(asking, pair.Replied(Purpose.STATUS, True, view=news))
    assert (state.phase, scripts(actions)) == (Phase.DEMOTING, ["slave"])


NOT_ASKED = pair.Answers(False, 0, False)


@pytest.mark.parametrize(
    ("event", "rules", "phase", "told"),
    [
        (pair.Answers(False, 3, True), MASTER, Phase.STANDBY, [True]),
        (pair.Answers(False, 3, False), MASTER, Phase.PROMOTING, [False]),
        (NOT_ASKED, MASTER, Phase.STANDBY, [False]),
        (NOT_ASKED, NO_ADDRESSES, Phase.PROMOTING, [False]),
    ],
)
def test_what_the_ethernet_side_says_of_a_peer_that_was_lost_in_a_handover(
    event: pair.Event, rules: pair.Rules, phase: Phase, told: list[bool]
) -> None:
    state, actions = step(machine(Phase.UNSURE, waiting=TOLD, timers=()), event, rules)
    assert state.phase is phase
    assert [ok for _, ok, _ in answers(actions)] == told
    assert (state.deadline(Timer.GIVE_UP) is not None) is (phase is Phase.UNSURE)


def test_the_peer_that_hands_the_role_back_is_asked_why() -> None:
    for phase in (Phase.TELLING, Phase.UNSURE, Phase.STANDBY):
        assert step(machine(phase), pair.Request(1, "fail", True))[0].from_peer


@pytest.mark.parametrize("stalled", [False, True])
def test_watchers_begin_anew_after_a_switch(stalled: bool) -> None:
    _, actions = step(machine(Phase.PROMOTING, stalled=stalled), pair.Ended("script", True))
    assert pair.RestartWatchers() in actions


def test_whoever_waits_for_a_role_whose_addresses_are_gone_is_told() -> None:
    state, actions = step(machine(Phase.ASKING, waiting=TOLD), pair.Bare())
    assert (state.phase, scripts(actions), len(answers(actions))) == (
        Phase.PROMOTING,
        ["master"],
        1,
    )


def test_whoever_waits_for_a_handover_that_the_peer_refuses_is_told() -> None:
    state = machine(Phase.TELLING, cause=Cause.PERSON, waiting=TOLD)
    state, actions = step(state, pair.Replied(Purpose.FAIL, False, "the switch script failed"))
    assert (state.phase, state.waiting) == (Phase.PROMOTING, ())
    assert answers(actions) == [(7, False, "the switch script failed")]


def test_the_order_of_a_handover() -> None:
    """Ask the peer how it is, stand down, `fail`, the peer is active."""
    deaf = cards(eth0="fail")
    state, actions = step(
        machine(Phase.ACTIVE, interfaces=deaf), pair.Watched("eth0", 0, 0, "fail")
    )
    assert (state.phase, asks(actions), scripts(actions)) == (Phase.ASKING, {Purpose.STATUS}, [])
    for packets in (1, 2):
        peer = replace(view("standby"), counts=(("eth0", packets, 0), ("eth1", 5, 5)))
        state, actions = step(state, pair.Replied(Purpose.STATUS, True, view=peer))
        assert scripts(actions) == []
    assert any(isinstance(a, pair.Look) for a in actions)
    state, actions = step(state, pair.Counted("eth0", 0))
    assert (scripts(actions), asks(actions)) == (["slave"], set())
    state, actions = step(state, pair.Ended("script", True))
    assert asks(actions) == {Purpose.FAIL}
    assert pair.role(state) == "switching"
    state, actions = step(state, pair.Replied(Purpose.FAIL, True, "active"))
    assert (state.phase, scripts(actions)) == (Phase.STANDBY, [])


def test_a_peer_that_hears_nothing_new_does_not_get_the_role() -> None:
    state = machine(Phase.ACTIVE, interfaces=cards(eth0="fail"))
    state, _ = step(state, pair.Watched("eth0", 0, 0, "fail"))
    peer = replace(view("standby"), counts=(("eth0", 1, 0),))
    for _ in range(9):
        state, actions = step(state, pair.Replied(Purpose.STATUS, True, view=peer))
        assert state.phase is Phase.ASKING
        assert not any(isinstance(a, pair.Look) for a in actions)
    state = replace(state, timers=tuple((t, NOW) for t, _ in state.timers))
    assert step(state, pair.Tick())[0].phase is Phase.ACTIVE


@pytest.mark.parametrize(
    ("event", "phase", "script"),
    [
        (pair.Replied(Purpose.FAIL, False, "busy"), Phase.PROMOTING, ["master"]),
        (pair.Unreplied(Purpose.FAIL), Phase.UNSURE, []),
    ],
)
def test_only_an_error_means_that_the_peer_did_not_take_over(
    event: pair.Event, phase: Phase, script: list[str]
) -> None:
    state, actions = step(machine(Phase.TELLING, cause=Cause.INTERFACE), event)
    assert (state.phase, scripts(actions)) == (phase, script)


@pytest.mark.parametrize(
    ("peer", "under_way", "phase"),
    [
        ("active", True, Phase.STANDBY),
        ("switching", False, Phase.UNSURE),
        ("standby", False, Phase.PROMOTING),
        ("failed", False, Phase.PROMOTING),
        ("standby", True, Phase.UNSURE),  # the `fail` may still arrive there
    ],
)
def test_after_a_lost_connection_it_asks_until_it_knows(
    peer: str, under_way: bool, phase: Phase
) -> None:
    timers = ((Timer.UNDER_WAY, NOW + 1),) if under_way else ()
    state = machine(Phase.UNSURE, timers=timers)
    state, _ = step(state, pair.Replied(Purpose.STATUS, True, view=view(peer)))
    assert state.phase is phase


@pytest.mark.parametrize(
    ("cause", "peer", "up", "phase"),
    [
        (Cause.PERSON, "active", False, Phase.STANDBY),
        (Cause.PERSON, "active", True, Phase.CALLING),
        (Cause.PERSON, "standby", False, Phase.CALLING),
        (Cause.BOOT, "standby", False, Phase.CALLING),
    ],
)
def test_nobody_takes_a_role_that_is_served_to_where_all_cards_are_down(
    cause: Cause, peer: str, up: bool, phase: Phase
) -> None:
    served = tuple(replace(i, up=up, heard=True) for i in cards())
    state = machine(Phase.INQUIRING, cause=cause, waiting=TOLD, interfaces=served)
    state, actions = step(state, pair.Replied(Purpose.STATUS, True, view=view(peer)))
    assert state.phase is phase
    assert [ok for _, ok, _ in answers(actions)] == [False] * (phase is Phase.STANDBY)


def test_who_has_failed_itself_tells_a_peer_that_has_failed_no_second_time() -> None:
    """It may work here by now: the order of the two decides, after two windows."""
    unsure = machine(Phase.UNSURE, failed=True, waiting=TOLD)
    state, actions = step(unsure, STATUS["failed"])
    assert (state.phase, state.waiting, asks(actions)) == (
        Phase.STANDBY,
        (),
        {Purpose.COMPARE},
    )
    state, actions = step(unsure, STATUS["standby"])  # it has not been told, then
    assert (state.phase, asks(actions)) == (Phase.TELLING, {Purpose.FAIL})
    assert step(unsure, STATUS["switching"])[0].phase is Phase.UNSURE
    state, actions = step(replace(unsure, failed=False), STATUS["standby"])
    assert (state.phase, scripts(actions), len(answers(actions))) == (
        Phase.PROMOTING,
        ["master"],
        1,
    )


@pytest.mark.parametrize("phase", [Phase.ACTIVE, Phase.ASKING])
@pytest.mark.parametrize(
    ("rules", "peer", "after", "wanted"),
    [
        (MASTER, view("active"), None, {"announce"}),
        (SLAVE, view("active", boot="master"), Phase.DEMOTING, {"run slave"}),
        (SLAVE, view("rejoining", boot="master"), None, set()),  # it stands down, when it knows
        (SLAVE, view("standby", boot="master"), None, set()),
    ],
)
def test_an_active_machine_that_compares_roles(
    phase: Phase, rules: pair.Rules, peer: PeerView, after: Phase | None, wanted: set[str]
) -> None:
    state, actions = step(machine(phase), pair.Replied(Purpose.COMPARE, True, view=peer), rules)
    assert state.phase is (after or phase)
    assert done(actions) - {"ask compare"} == wanted


@pytest.mark.parametrize(
    ("role", "counted", "left"),
    [
        ("standby", None, 2 * MASTER.window),
        ("failed", None, 2 * MASTER.window),
        ("standby", 3.0, 3.0),
        ("switching", 3.0, 3.0),
        ("switching", None, None),
        ("active", 3.0, None),
        ("active", None, None),
    ],
)
def test_a_standby_counts_for_how_long_nobody_has_been_active(
    role: str, counted: float | None, left: float | None
) -> None:
    state = machine(Phase.STANDBY)
    if counted is not None:
        state = replace(state, timers=(*state.timers, (Timer.NOBODY, NOW + counted)))
    state, _ = step(state, pair.Replied(Purpose.COMPARE, True, view=view(role)))
    assert state.deadline(Timer.NOBODY) == (None if left is None else NOW + left)


@pytest.mark.parametrize("phase", [Phase.STANDBY, Phase.ACTIVE, Phase.ASKING])
def test_roles_are_compared_as_soon_as_the_link_is_heard_again(phase: Phase) -> None:
    _, actions = step(machine(phase, silent=True), pair.LinkWatched(1, "ok"))
    assert Purpose.COMPARE in asks(actions)


AWAY = tuple(replace(i, up=False, unasked=True) for i in cards())
ASKED = ((Timer.OWN, NOW + 1),)
UNCOMPARED = pair.Unreplied(Purpose.COMPARE)
PEER_HAS_OURS = pair.Answers(True, 1, True)
NOBODY_HAS_OURS = pair.Answers(True, 1, False)
OVER_THE_WIRE = [
    # the settings, what an active machine knows, what comes; the phase after it, and what is done
    (MASTER, {}, SILENT, Phase.ACTIVE, {"own question"}),
    (MASTER, {"interfaces": AWAY}, pair.Carrier("eth0", True), Phase.ACTIVE, {"own question"}),
    (MASTER, {"timers": ()}, UNCOMPARED, Phase.ACTIVE, {"own question"}),
    (MASTER, {"timers": ASKED}, UNCOMPARED, Phase.ACTIVE, set()),
    (MASTER, {}, UNCOMPARED, Phase.ACTIVE, set()),
    (
        MASTER,
        {"timers": ((Timer.OWN, NOW),), "claimed": 1},
        pair.Tick(),
        Phase.ACTIVE,
        {"own question"},
    ),
    (MASTER, {"timers": ((Timer.OWN, NOW),)}, pair.Tick(), Phase.ACTIVE, set()),
    (MASTER, {"claimed": 2}, PEER_HAS_OURS, Phase.ACTIVE, {"announce"}),
    (SLAVE, {"claimed": 1}, PEER_HAS_OURS, Phase.ACTIVE, {"own question"}),
    (SLAVE, {"claimed": 2}, PEER_HAS_OURS, Phase.DEMOTING, {"run slave"}),
    (MASTER, {"claimed": 1}, NOBODY_HAS_OURS, Phase.ACTIVE, {"announce"}),
    (MASTER, {"timers": ()}, NOBODY_HAS_OURS, Phase.ACTIVE, {"announce"}),
    (MASTER, {}, NOBODY_HAS_OURS, Phase.ACTIVE, set()),
]


@pytest.mark.parametrize(("rules", "known", "event", "phase", "wanted"), OVER_THE_WIRE)
def test_an_active_machine_looks_whether_the_peer_has_its_addresses(
    rules: pair.Rules,
    known: dict[str, object],
    event: pair.Event,
    phase: Phase,
    wanted: set[str],
) -> None:
    state, actions = step(machine(Phase.ACTIVE, **known), event, rules)
    assert (state.phase, done(actions) - {"ask compare"}) == (phase, wanted)


def test_whoever_comes_first_takes_a_role_that_nobody_has_had_for_two_windows() -> None:
    over = ((Timer.HEARD, NOW + 5), (Timer.NOBODY, NOW))
    for role, timers, phase in (
        ("standby", over, Phase.INQUIRING),
        ("switching", over, Phase.STANDBY),
        ("standby", ((Timer.HEARD, NOW), (Timer.NOBODY, NOW)), Phase.STANDBY),
    ):
        state, _ = step(machine(Phase.STANDBY, peer=view(role), timers=timers), pair.Tick())
        assert state.phase is phase


def test_whoever_comes_second_goes_on_looking_whether_it_comes_first() -> None:
    """Of two that stand by for two windows, a card of one may die in that very moment; and the
    first may not hear the second, and so not know that it is its turn."""
    second = machine(Phase.STANDBY, peer=view("standby", boot="master"))
    second = replace(second, timers=tuple(sorted((*second.timers, (Timer.NOBODY, NOW)), key=str)))
    state, _ = step(second, pair.Tick(), SLAVE)
    assert state.phase is Phase.STANDBY
    again = state.deadline(Timer.NOBODY)
    assert again == NOW + SLAVE.heartbeat + SLAVE.status_timeout
    assert pair.step(state, pair.Tick(), SLAVE, again)[0].phase is Phase.STANDBY  # not heard by now
    heard = replace(state, timers=((Timer.HEARD, again + 1), (Timer.NOBODY, again)))
    assert pair.step(heard, pair.Tick(), SLAVE, again)[0].phase is Phase.INQUIRING
    unheard = replace(second, timers=((Timer.HEARD, NOW), (Timer.NOBODY, NOW)))
    assert step(unheard, pair.Tick(), SLAVE)[0].deadline(Timer.NOBODY) is None


def test_a_question_before_a_handover_that_is_lost_is_asked_again() -> None:
    asking = machine(Phase.ASKING, cause=Cause.INTERFACE, interfaces=cards(eth0="fail"))
    lost = pair.Unreplied(Purpose.STATUS)
    state, _ = step(asking, lost)
    assert state.phase is Phase.ASKING
    _, later = pair.step(state, pair.Tick(), MASTER, NOW + MASTER.round)
    assert pair.Ask(Purpose.STATUS, MASTER.status_timeout) in later
    assert step(replace(asking, timers=()), lost)[0].phase is Phase.ACTIVE
    by_person = replace(asking, cause=Cause.PERSON, waiting=TOLD)
    state, actions = step(by_person, lost)
    assert (state.phase, len(answers(actions))) == (Phase.ACTIVE, 1)


@pytest.mark.parametrize("phase", [Phase.DOUBTING, Phase.UNSURE])
def test_a_peer_that_was_heard_when_nobody_answered_may_be_lost_later(phase: Phase) -> None:
    """As long as it is heard it is asked; when it is not, the ethernet side is, again."""
    state, actions = step(machine(phase), NOBODY)
    assert (state.phase, asks(actions)) == (phase, {Purpose.STATUS})
    state = replace(state, timers=tuple((t, NOW) for t, _ in state.timers if t is Timer.GIVE_UP))
    state, actions = step(state, pair.Tick())
    assert any(isinstance(action, pair.Question) for action in actions)
    state, actions = step(state, NOBODY)
    assert scripts(actions) == ["master"]


@pytest.mark.parametrize(
    ("phase", "after"), [(Phase.CALLING, Phase.DOUBTING), (Phase.TELLING, Phase.UNSURE)]
)
def test_an_answer_of_which_nothing_is_heard_for_too_long_is_lost(
    phase: Phase, after: Phase
) -> None:
    """Whoever asks for us may hang. The ethernet side is asked all the same, in time."""
    timers = ((Timer.GIVE_UP, NOW), (Timer.UNHEARD, NOW))
    state, actions = step(machine(phase, timers=timers), pair.Tick())
    assert (state.phase, asks(actions)) == (after, {Purpose.STATUS})
    _, later = pair.step(state, pair.Tick(), MASTER, NOW + MASTER.round)
    assert any(isinstance(action, pair.Question) for action in later)


@pytest.mark.parametrize(
    "phase", [Phase.STANDBY, Phase.INQUIRING, Phase.SEEKING, Phase.CONFIRMING, Phase.FENCING]
)
def test_who_stands_by_takes_away_the_addresses_that_somebody_has_put_on_its_card(
    phase: Phase,
) -> None:
    waiting = () if phase is Phase.STANDBY else TOLD
    state, actions = step(machine(phase, waiting=waiting), pair.Stray())
    assert (state.phase, scripts(actions), state.waiting) == (Phase.CLEANING, ["slave"], ())


def test_what_a_stand_down_has_left_is_taken_away_after_a_restart_too() -> None:
    rules = replace(SLAVE, window=1.0)
    state, _ = step(pair.initial(rules), pair.Started("failed", unclean=True), rules)
    assert pair.role(state) == "failed"
    _, later = pair.step(state, pair.Tick(), rules, NOW + 1)
    assert scripts(list(later)) == ["slave"]


def test_a_stand_down_that_fails_is_followed_by_master_and_no_fail_is_sent() -> None:
    state = machine(Phase.DEMOTING, cause=Cause.INTERFACE)
    state, actions = step(state, pair.Ended("script", False))
    assert (scripts(actions), asks(actions)) == (["master"], set())


def test_a_stand_down_that_could_not_begin_has_changed_nothing() -> None:
    for cause, phase in [
        (Cause.INTERFACE, Phase.ACTIVE),
        (Cause.PERSON, Phase.ACTIVE),
        (Cause.PEER, Phase.ACTIVE),
        (Cause.HEALING, Phase.REJOINING),
    ]:
        state, actions = step(machine(Phase.DEMOTING, cause=cause), NOT_RUN)
        assert (state.phase, scripts(actions), asks(actions) - {Purpose.STATUS}) == (
            phase,
            [],
            set(),
        )
    state, actions = step(machine(Phase.PROMOTING, cause=Cause.PEER), NOT_RUN)
    assert (state.phase, scripts(actions), state.failed) == (Phase.CLEANING, ["slave"], True)


def test_a_program_of_confirm_that_cannot_be_run_says_nothing() -> None:
    """Neither that the service lives, nor that it is dead: the ethernet side is asked instead."""
    rules = replace(SLAVE, confirm="program")
    not_run = pair.Ended("confirm", False, ran=False)
    confirming = machine(Phase.CONFIRMING, silent=True, timers=())
    state, actions = step(confirming, not_run, rules)
    (question,) = [action for action in actions if isinstance(action, pair.Question)]
    assert (state.phase, len(question.at)) == (Phase.CONFIRMING, 3)
    unclean, actions = step(replace(confirming, unclean=True), not_run, rules)
    assert (unclean.phase, done(actions)) == (Phase.CONFIRMING, {"question"})
    for asked, anybody, phase in [
        (1, False, Phase.CONFIRMING),
        (3, False, Phase.PROMOTING),
        (3, True, Phase.STANDBY),
    ]:
        heard = pair.Answers(False, asked, anybody=anybody)
        assert step(state, heard, rules)[0].phase is phase
    state, _ = step(confirming, not_run, replace(rules, addressed=frozenset()))
    assert state.phase is Phase.STANDBY
    assert step(confirming, pair.Ended("confirm", False), rules)[0].phase is Phase.PROMOTING
    assert step(confirming, pair.Ended("confirm", True), rules)[0].phase is Phase.STANDBY


def test_hold_down() -> None:
    """A role that came because of an interface stays until that one is proved, and for a while."""
    held = (Timer.HOLD, NOW + 1)
    for guarded, proved, timers, asks_peer in [
        (frozenset({"eth0"}), False, (), False),
        (frozenset({"eth0"}), True, (held,), False),
        (frozenset({"eth0"}), True, (), True),
        (frozenset({"eth1"}), False, (held,), True),  # it came because of another interface
    ]:
        interfaces = tuple(replace(i, proved=proved) for i in cards())
        state = machine(
            Phase.ACTIVE, from_peer=True, guarded=guarded, interfaces=interfaces, timers=timers
        )
        state, _ = step(state, pair.Watched("eth0", 0, 0, "fail"))
        assert (state.phase is Phase.ASKING) is asks_peer, (guarded, proved, timers)


def test_why_the_peer_gives_its_role_is_asked_when_we_have_it() -> None:
    """What it was asked before may have been answered before its interface failed."""
    state, actions = step(machine(Phase.STANDBY), pair.Request(7, "fail", True))
    assert (scripts(actions), asks(actions)) == (["master"], set())
    state, _ = step(state, pair.Replied(Purpose.COMPARE, True, view=view("active")))
    state, actions = step(state, pair.Ended("script", True))
    assert asks(actions) == {Purpose.COMPARE}
    heard = replace(view("switching"), failed=frozenset({"eth0"}))  # not silent, but it failed
    state, _ = step(state, pair.Replied(Purpose.COMPARE, True, view=heard))
    state, _ = step(state, pair.Replied(Purpose.COMPARE, True, view=view("standby")))
    state = replace(state, interfaces=cards())
    assert step(state, pair.Watched("eth0", 0, 0, "fail"))[0].phase is Phase.ACTIVE
    assert step(state, pair.Watched("eth1", 0, 0, "fail"))[0].phase is Phase.ASKING


@pytest.mark.parametrize("phase", [Phase.TELLING, Phase.UNSURE])
def test_why_we_give_our_role_is_told_until_the_peer_has_it(phase: Phase) -> None:
    """The watchers begin again when it has: then their next verdict is a whole window away."""
    state = machine(phase, interfaces=cards(eth0="fail"), cause=Cause.INTERFACE)
    for verdict in ("boot", "ok"):
        state, _ = step(state, pair.Watched("eth0", 9, 9, verdict))
        state, _ = step(state, pair.Watched("eth1", 0, 0, "fail"))
        assert [i.state for i in state.interfaces] == ["fail", "fail"]
    state, actions = step(state, pair.Request(7, "resume", True))
    assert state.phase is Phase.STANDBY and pair.RestartWatchers() in actions
    assert [i.state for i in state.interfaces] == ["fail", "fail"]
    state, _ = step(state, pair.Watched("eth0", 9, 0, "boot"))
    assert [i.state for i in state.interfaces] == ["boot", "fail"]


@pytest.mark.parametrize("phase", [Phase.PROMOTING, Phase.DEMOTING, Phase.TELLING, Phase.CLEANING])
def test_who_switches_compares_no_roles_as_long_as_it_is_heard(phase: Phase) -> None:
    heard = ((Timer.COMPARE, NOW), (Timer.HEARD, NOW + 1), (Timer.UNHEARD, NOW + 9))
    state, actions = step(machine(phase, timers=heard), pair.Tick())
    assert asks(actions) == set()
    state, later = pair.step(state, pair.Tick(), MASTER, NOW + 1)
    assert asks(list(later)) == {Purpose.COMPARE}


def test_a_machine_that_neither_serves_nor_is_heard_sends_no_heartbeats() -> None:
    deaf = cards(eth0="fail", eth1="fail")
    down = tuple(replace(i, up=False) for i in cards())  # with $low_water 0 no window fails
    for phase, interfaces, timers, silent in [
        (Phase.ACTIVE, deaf, (), True),
        (Phase.ACTIVE, down, (), True),
        (Phase.ACTIVE, (deaf[0], down[1]), (), True),
        (Phase.ACTIVE, (cards()[0], down[1]), (), False),
        (Phase.ACTIVE, deaf, ((Timer.UNHEARD, NOW + 1),), False),
        (Phase.ACTIVE, cards(eth0="fail"), (), False),
        (Phase.STANDBY, cards(), (), True),
        (Phase.STANDBY, cards(), ((Timer.UNHEARD, NOW + 1),), False),
    ]:
        state = machine(phase, interfaces=interfaces, timers=timers)
        state, actions = step(state, pair.LinkWatched(1, "ok"))
        assert (pair.Heartbeats(False) in actions) is silent, (phase, timers)
        if silent:
            _, actions = step(state, pair.Replied(Purpose.COMPARE, True, view=view("standby")))
            assert pair.Heartbeats(True) in actions


# ---------------------------------------------------------------------------- what is believed


def logged(state: pair.State, event: pair.Event, rules: pair.Rules = MASTER) -> list[pair.Log]:
    _, actions = pair.step(state, event, rules, NOW)
    return [action for action in actions if isinstance(action, pair.Log)]


def alarms(state: pair.State, event: pair.Event, rules: pair.Rules = MASTER) -> list[str]:
    return [line.text for line in logged(state, event, rules) if line.alarm]


@pytest.mark.parametrize("command", ["fail", "resume"])
@pytest.mark.parametrize("from_peer", [True, False])
def test_a_request_makes_nobody_heard(command: str, from_peer: bool) -> None:
    state, _ = step(machine(Phase.STANDBY, timers=()), pair.Request(7, command, from_peer))
    assert not state.heard and state.deadline(Timer.UNHEARD) is None


def test_an_answer_makes_the_peer_heard_for_a_window() -> None:
    answer = pair.Replied(Purpose.COMPARE, True, view=view("active"))
    state, _ = step(machine(Phase.STANDBY, timers=()), answer)
    assert state.deadline(Timer.HEARD) == NOW + MASTER.window
    assert state.deadline(Timer.UNHEARD) == NOW + 2 * MASTER.window
    assert state.deadline(Timer.WORDLESS) == NOW + 2 * MASTER.window
    fast = replace(MASTER, window=0.02, heartbeat=0.01, status_timeout=1.0)
    state, _ = step(machine(Phase.STANDBY, timers=()), answer, fast)
    assert state.deadline(Timer.WORDLESS) == NOW + 2.01


def test_a_person_gets_an_answer_in_half_of_the_time_that_a_switch_may_take() -> None:
    state, _ = step(machine(Phase.STANDBY), pair.Request(7, "fail", False))
    patience = state.deadline(Timer.PATIENCE)
    assert (state.phase, patience) == (Phase.INQUIRING, NOW + MASTER.switch_timeout / 2)
    lost = pair.Unreplied(Purpose.STATUS)
    again, _ = step(state, lost)  # whoever was heard just now is asked again
    assert again.phase is Phase.INQUIRING and again.deadline(Timer.RETRY) is not None
    assert step(again, NOBODY)[0].phase is Phase.INQUIRING
    waited = replace(again, timers=((Timer.HEARD, NOW + 99), (Timer.PATIENCE, NOW)))
    seeking, actions = step(waited, pair.Tick())
    assert seeking.phase is Phase.SEEKING and questions(actions)
    assert step(seeking, NOBODY)[0].phase is Phase.PROMOTING
    refused, actions = step(seeking, SOMEBODY)
    assert (refused.phase, [ok for _, ok, _ in answers(actions)]) == (Phase.STANDBY, [False])
    assert refused.deadline(Timer.PATIENCE) is None


def test_whoever_asks_one_in_doubt_is_refused_for_good() -> None:
    state, _ = step(machine(Phase.REJOINING), pair.Request(7, "resume", False))
    assert state.waiting
    timers = ((Timer.PATIENCE, NOW),)
    state, actions = step(replace(state, timers=timers), pair.Tick())
    assert [ok for _, ok, _ in answers(actions)] == [False]
    assert (state.phase, state.waiting) == (Phase.REJOINING, ())


@pytest.mark.parametrize("kind", ["confirm", "fence"])
def test_a_programs_word_counts_for_its_own_run_only(kind: str) -> None:
    rules = replace(MASTER, confirm="program", fence=kind == "fence")
    phase = Phase.FENCING if kind == "fence" else Phase.CONFIRMING
    state = machine(phase, cause=Cause.SILENCE, timers=(), silent=True, program=2, runs=2)
    ok = kind == "fence"
    for number in (1, 3, 0):
        after, actions = step(state, pair.Ended(kind, ok, number=number), rules)
        assert (after.phase, after.quiet, scripts(actions)) == (phase, 0, [])
    after, actions = step(state, pair.Ended(kind, ok, number=2), rules)
    assert scripts(actions) == ["master"]
    left, _ = step(state, pair.Request(7, "resume", True), rules)
    assert left.program == 0
    after, _ = step(left, pair.Ended(kind, ok, number=2), rules)
    assert (after.phase, after.quiet) == (Phase.STANDBY, 0)


def test_every_run_of_a_program_has_another_number() -> None:
    rules = replace(MASTER, confirm="program")
    numbers = []
    state = machine(Phase.STANDBY, timers=(), silent=True)
    for _ in range(4):
        state, actions = step(state, pair.LinkWatched(0, "fail"), rules)
        numbers += [a.number for a in actions if isinstance(a, pair.RunProgram)]
        state, _ = step(state, pair.Ended("confirm", True, number=numbers[-1]), rules)
    assert 0 not in numbers and all(one != two for one, two in pairwise(numbers))


def test_other_settings_end_what_is_asked_under_the_old_ones() -> None:
    state, _ = step(machine(Phase.CONFIRMING, silent=True, timers=()), pair.Reread())
    assert state.phase is Phase.STANDBY
    for phase in set(Phase) - {Phase.CONFIRMING}:
        assert step(machine(phase), pair.Reread())[0].phase is phase


@pytest.mark.parametrize("cause", [Cause.HEALING, Cause.PERSON, Cause.INTERFACE, Cause.PEER])
def test_a_stand_down_that_succeeds_leaves_nothing_to_clean(cause: Cause) -> None:
    state = machine(Phase.DEMOTING, cause=cause, unclean=True, peer=view("active"))
    assert not step(state, pair.Ended("script", True))[0].unclean


def test_heartbeats_without_words_are_said_once_and_that_they_ended() -> None:
    state = machine(Phase.STANDBY, timers=())
    assert "its port does not answer" in alarms(state, HEARTBEATS)[0]
    state, _ = step(state, HEARTBEATS)
    assert state.speechless and not alarms(state, HEARTBEATS)
    answer = pair.Replied(Purpose.COMPARE, True, view=view("active"))
    assert "the peer's port answers again" in [line.text for line in logged(state, answer)]
    state, _ = step(state, pair.LinkWatched(0, "ok"))  # it may be mute for a while
    assert state.speechless and not alarms(state, HEARTBEATS)
    unheard_for_one = machine(Phase.STANDBY, timers=((Timer.WORDLESS, NOW + 1),))
    assert not alarms(unheard_for_one, HEARTBEATS)


def test_one_that_exchanges_no_words_asks_on_the_ethernet_side_and_is_not_mute() -> None:
    state = machine(Phase.STANDBY, timers=(), beats=True, speechless=True, mute=True)
    state, actions = step(state, pair.Unreplied(Purpose.COMPARE))
    assert len(questions(actions)) == 1
    state, actions = step(state, SOMEBODY)
    assert pair.is_served(state) and pair.Heartbeats(True) in actions
    later = state.deadline(Timer.SERVED)
    assert later == NOW + 2 * MASTER.window
    state, last = pair.step(state, pair.Tick(), MASTER, later)
    assert not pair.is_served(state) and pair.Heartbeats(False) in last


def test_whoever_is_called_for_serves_nobody() -> None:
    """It cannot ask us, so it stops its heartbeats; but we can have it stand down."""
    deaf = replace(view("active", "eth0 eth1"), failed=frozenset({"eth0", "eth1"}))
    silent = pair.LinkWatched(0, "fail")
    state, actions = step(machine(Phase.STANDBY, peer=deaf), silent)
    assert (state.phase, asks(actions)) == (Phase.INQUIRING, {Purpose.STATUS})
    for peer in (view("active", "eth0"), view("standby", "eth0 eth1"), None):
        assert step(machine(Phase.STANDBY, peer=peer), silent)[0].phase is Phase.STANDBY
    ours = cards(eth0="fail", eth1="fail")
    ours = tuple(replace(i, packets=0, last=0) for i in ours)
    assert (
        step(machine(Phase.STANDBY, peer=deaf, interfaces=ours), silent)[0].phase is Phase.STANDBY
    )
    again = pair.Replied(Purpose.STATUS, True, view=deaf)
    assert asks(step(state, again)[1]) == {Purpose.RESUME}
    hears = pair.Replied(Purpose.STATUS, True, view=view("active"))
    assert step(state, hears)[0].phase is Phase.STANDBY


def test_anybody_who_answers_for_our_addresses_is_another_holder() -> None:
    unknown = pair.Answers(True, 1, True, "192.0.2.10 is at 02:00:00:00:00:66")
    state = machine(Phase.ACTIVE, timers=())
    assert "somebody else answers for our addresses" in alarms(state, unknown, SLAVE)[0]
    for _ in range(3):
        state, actions = step(state, unknown, SLAVE)
    assert scripts(actions) == ["slave"]
    silent = replace(state, silent=True)
    state, actions = step(silent, pair.Ended("script", True), SLAVE)
    assert state.phase is Phase.CONFIRMING and questions(actions)  # and again when it ends
    assert step(state, NOBODY, SLAVE)[0].phase is Phase.PROMOTING
    master = machine(Phase.ACTIVE, timers=())
    for _ in range(4):
        master, _ = step(master, unknown)
    assert master.phase is Phase.ACTIVE
    ended = pair.Answers(True, 1, False)
    assert "nobody else answers" in logged(master, ended)[0].text


def test_what_is_in_the_way_is_an_alarm_once() -> None:
    state = machine(Phase.CONFIRMING, silent=True, timers=())
    for number in range(5):
        liar = pair.Answers(False, 1, True, f"192.0.2.10 is at 02:00:00:00:00:0{number}")
        assert len(alarms(state, liar)) == (number == 0)
        state, _ = step(state, liar)
    state, _ = step(state, HEARTBEATS)
    assert state.blocked == ""  # so the next time is told again


def test_who_cannot_hand_over_says_so_once_though_its_other_interface_is_good() -> None:
    state = machine(Phase.ACTIVE, interfaces=cards(eth0="fail"))
    deaf = pair.Replied(Purpose.STATUS, True, view=view("standby", "eth0"))
    failed, good = pair.Watched("eth0", 0, 0, "fail"), pair.Watched("eth1", 9, 9, "ok")
    told = []
    for _ in range(4):
        state, _ = step(state, failed)
        assert state.phase is Phase.ASKING
        told += alarms(state, deaf)
        state, _ = step(state, deaf)
        state, _ = step(state, good)
    assert len(told) == 1 and "is bad there: we keep the role" in told[0]
    state, _ = step(state, pair.Watched("eth0", 9, 0, "ok"))
    assert state.blocked == ""


def test_a_boot_master_that_is_kept_from_its_role_says_so_once() -> None:
    state = machine(Phase.STANDBY, timers=(), resuming=True)
    told = []
    for _ in range(4):
        state, _ = step(state, HEARTBEATS)
        state = replace(state, phase=Phase.SEEKING, cause=Cause.BOOT)
        told += alarms(state, SOMEBODY)
        state, _ = step(state, SOMEBODY)
    assert len([line for line in told if "no takeover" in line]) == 1


def test_no_alarm_precedes_an_ordinary_takeover() -> None:
    state = machine(Phase.STANDBY, timers=())
    for event in (pair.LinkWatched(0, "ok"), NOBODY, pair.LinkWatched(0, "fail")):
        assert alarms(state, event) == []
        state, _ = step(state, event)
    assert state.phase is Phase.PROMOTING


# ---------------------------------------------------------------------------- may be overtaken


def announces(actions: list[pair.Action]) -> bool:
    return any(isinstance(a, pair.Announce) for a in actions)


def questions(actions: list[pair.Action]) -> list[pair.Question]:
    return [a for a in actions if isinstance(a, pair.Question)]


NOBODY = pair.Answers(False, 3, False)
SOMEBODY = pair.Answers(False, 3, True)


@pytest.mark.parametrize("rules", [MASTER, replace(MASTER, addressed=frozenset(), confirm="none")])
def test_whoever_stood_still_asks_on_both_sides_at_once(rules: pair.Rules) -> None:
    for phase in (Phase.ACTIVE, Phase.ASKING, Phase.REJOINING):
        state, actions = step(machine(phase), pair.Stalled(), rules)
        assert (state.phase, asks(actions)) == (Phase.REJOINING, {Purpose.STATUS})
        assert len(questions(actions)) == len(rules.addressed)
        assert not announces(actions)


def test_a_dead_peer_costs_whoever_stood_still_no_status_timeout() -> None:
    state = machine(Phase.PROMOTING, cause=Cause.SILENCE, stalled=True, timers=())
    state, actions = step(state, pair.Ended("script", True))
    assert (state.phase, announces(actions)) == (Phase.REJOINING, False)
    [question] = questions(actions)
    assert question.until - NOW < MASTER.status_timeout
    state, actions = step(state, NOBODY)
    assert (state.phase, announces(actions)) == (Phase.ACTIVE, True)


HEARTBEATS = pair.LinkWatched(9, "ok")


def test_who_is_in_doubt_and_gets_no_answer_asks_again() -> None:
    state, _ = step(machine(Phase.REJOINING, timers=()), pair.Unreplied(Purpose.STATUS))
    again = state.deadline(Timer.RETRY)
    assert again == NOW + MASTER.window
    _, actions = pair.step(state, pair.Tick(), MASTER, again)
    assert asks(list(actions)) == {Purpose.STATUS} and questions(list(actions))


@pytest.mark.parametrize(
    ("events", "phase"),
    [
        ([NOBODY], Phase.ACTIVE),
        ([pair.Unreplied(Purpose.STATUS)], Phase.REJOINING),
        ([pair.Unreplied(Purpose.STATUS), NOBODY], Phase.ACTIVE),
        ([SOMEBODY], Phase.REJOINING),  # the peer's status may still come
        ([SOMEBODY, pair.Unreplied(Purpose.STATUS)], Phase.DEMOTING),
        # heartbeats that come say nothing of who has the addresses: the link may be cut one way
        ([SOMEBODY, HEARTBEATS, pair.Unreplied(Purpose.STATUS)], Phase.DEMOTING),
        ([SOMEBODY, pair.Replied(Purpose.STATUS, True, view=view("standby"))], Phase.ACTIVE),
        ([pair.Replied(Purpose.STATUS, True, view=view("active"))], Phase.DEMOTING),
        ([pair.Replied(Purpose.STATUS, True, view=view("switching"))], Phase.REJOINING),
        # whoever is heard must be asked
        (
            [pair.Replied(Purpose.COMPARE, True, view=view("switching")), NOBODY],
            Phase.REJOINING,
        ),
    ],
)
def test_what_ends_the_doubt(events: list[pair.Event], phase: Phase) -> None:
    state = machine(Phase.REJOINING, timers=())
    for event in events:
        state, actions = step(state, event)
    assert state.phase is phase
    assert announces(actions) is (phase is Phase.ACTIVE)


def test_addresses_that_have_gone_come_back_unless_somebody_else_has_them() -> None:
    state, actions = step(machine(Phase.ACTIVE), pair.Bare())
    assert scripts(actions) == ["master"]
    for phase in (Phase.ACTIVE, Phase.REJOINING):  # unheard; or failoverd was started again
        bare, actions = step(machine(phase, timers=()), pair.Bare())
        assert (bare.phase, scripts(actions)) == (Phase.REJOINING, [])
        assert scripts(step(bare, NOBODY)[1]) == ["master"]
        idle = pair.Replied(Purpose.STATUS, True, view=view("standby"))
        assert scripts(step(bare, idle)[1]) == ["master"]
        state, _ = step(bare, SOMEBODY)
        state, actions = step(state, pair.Unreplied(Purpose.STATUS))
        assert scripts(actions) == ["slave"]


NO_STATUS = pair.Unreplied(Purpose.STATUS)


@pytest.mark.parametrize("gone", [{"bare": True}, {"unclean": True}, {}])
@pytest.mark.parametrize(
    ("event", "rules", "good"),
    [
        (pair.Replied(Purpose.STATUS, True, view=view("standby")), MASTER, True),
        (pair.Replied(Purpose.STATUS, True, view=view("active")), MASTER, False),
        (pair.Answers(False, 3, False), MASTER, True),
        (NO_STATUS, NO_ADDRESSES, True),
    ],
)
def test_the_doubt_ends_with_the_addresses_on_their_card(
    gone: dict[str, object], event: pair.Event, rules: pair.Rules, good: bool
) -> None:
    state = machine(Phase.REJOINING, waiting=TOLD, timers=(), **gone)
    state, actions = step(state, event, rules)
    if not good:
        assert (state.phase, scripts(actions)) == (Phase.DEMOTING, ["slave"])
    elif gone:
        assert (state.phase, scripts(actions), state.waiting) == (Phase.PROMOTING, ["master"], ())
        assert [ok for _, ok, _ in answers(actions)] == [False]
    else:
        assert (state.phase, state.waiting) == (Phase.ASKING, TOLD)  # somebody wants our role


@pytest.mark.parametrize(
    ("event", "known", "rules", "phase", "wanted"),
    [
        (pair.Answers(False, 3, True), {}, MASTER, Phase.REJOINING, {"ask status"}),
        (pair.Answers(False, 0, False), {}, MASTER, Phase.REJOINING, {Timer.RETRY}),
        (
            pair.Replied(Purpose.STATUS, True, view=view("switching")),
            {},
            MASTER,
            Phase.REJOINING,
            {Timer.RETRY},
        ),
        (NO_STATUS, {"evidence": True}, MASTER, Phase.DEMOTING, {"run slave"}),
        (NO_STATUS, {"evidence": True}, NO_ADDRESSES, Phase.ACTIVE, {"announce"}),
    ],
)
def test_what_a_machine_in_doubt_does_next(
    event: pair.Event,
    known: dict[str, object],
    rules: pair.Rules,
    phase: Phase,
    wanted: set[object],
) -> None:
    before = machine(Phase.REJOINING, timers=(), **known)
    state, actions = step(before, event, rules)
    assert state.phase is phase
    begun = {timer for timer, _ in state.timers}
    assert wanted <= done(actions) | begun, (done(actions), begun)


def test_the_peer_that_hands_over_to_one_whose_addresses_are_gone_waits_until_they_are_back() -> (
    None
):
    """Who waits here until we stand by is told that it will not be so."""
    bare = machine(Phase.REJOINING, bare=True, waiting=TOLD)
    state, actions = step(bare, pair.Request(8, "fail", True))
    assert (state.phase, scripts(actions)) == (Phase.PROMOTING, ["master"])
    assert answers(actions) == [(7, False, "our addresses are gone")]
    state, actions = step(state, pair.Ended("script", True))
    assert answers(actions) == [(8, True, "active")]


def test_a_person_who_asks_a_machine_that_stood_still_is_served() -> None:
    person = pair.Request(7, "resume", False)
    stalled: list[pair.Event] = [pair.Stalled()]
    for before in ([person, *stalled], [*stalled, person]):
        state = machine(Phase.ACTIVE)
        for event in before:
            state, actions = step(state, event)
            assert answers(actions) == []
        for _ in range(2):
            idle = pair.Replied(Purpose.STATUS, True, view=view("standby"))
            state, actions = step(state, idle)
            assert answers(actions) == []
        assert (state.phase, scripts(actions)) == (Phase.DEMOTING, ["slave"])


def test_a_handover_during_which_the_peer_stood_still_has_happened() -> None:
    state, _ = step(machine(Phase.STANDBY), pair.Request(7, "fail", True))
    state, _ = step(state, pair.Stalled())
    state, actions = step(state, pair.Ended("script", True))
    assert answers(actions) == [(7, True, "active")]
    assert (state.phase, announces(actions)) == (Phase.REJOINING, False)


# ---------------------------------------------------------------------------- the role is wanted


CARDS_HEARD = tuple(replace(i, heard=True) for i in cards())
BY_BOOT = {"cause": Cause.BOOT, "resuming": True}
BY_PERSON = {"cause": Cause.PERSON, "waiting": TOLD}
BY_HEALING = {"cause": Cause.HEALING}
ALONE = {"timers": ()}
WANTED = [
    # why it asks, what else is known, what comes; the phase after it, and what is done
    (BY_BOOT, ALONE, pair.Unreplied(Purpose.STATUS), Phase.STANDBY, {"ask compare"}),
    (
        BY_BOOT,
        ALONE | {"interfaces": CARDS_HEARD},
        pair.Unreplied(Purpose.STATUS),
        Phase.SEEKING,
        {"question"},
    ),
    (BY_BOOT, {}, pair.Unreplied(Purpose.STATUS), Phase.INQUIRING, {Timer.RETRY}),
    (BY_PERSON, ALONE, pair.Unreplied(Purpose.STATUS), Phase.SEEKING, {"question"}),
    (BY_HEALING, ALONE, pair.Unreplied(Purpose.STATUS), Phase.STANDBY, {"ask compare"}),
    (
        BY_PERSON,
        {},
        pair.Replied(Purpose.STATUS, True, view=view("switching")),
        Phase.STANDBY,
        {"answer error", "ask compare"},
    ),
    (
        BY_BOOT,
        {},
        pair.Replied(Purpose.STATUS, True, view=view("switching")),
        Phase.INQUIRING,
        {Timer.RETRY},
    ),
    (
        BY_PERSON,
        {},
        pair.Replied(Purpose.STATUS, True, view=view("active")),
        Phase.CALLING,
        {"ask resume"},
    ),
    (
        BY_HEALING,
        {},
        pair.Replied(Purpose.STATUS, True, view=view("standby")),
        Phase.CALLING,
        {"ask resume"},
    ),
]


@pytest.mark.parametrize(("why", "known", "event", "phase", "wanted"), WANTED)
def test_what_the_peer_says_to_one_that_wants_the_role(
    why: dict[str, object],
    known: dict[str, object],
    event: pair.Event,
    phase: Phase,
    wanted: set[object],
) -> None:
    state, actions = step(machine(Phase.INQUIRING, **why, **known), event)
    begun = {Timer.RETRY} & {timer for timer, _ in state.timers}
    if phase is Phase.STANDBY:
        begun.clear()
    assert (state.phase, done(actions) | begun) == (phase, wanted)


def said(before: pair.State, event: pair.Event, rules: pair.Rules = MASTER) -> list[str]:
    return [a.text for a in pair.step(before, event, rules, NOW)[1] if isinstance(a, pair.Log)]


def test_a_boot_master_that_stands_by_says_why() -> None:
    waits = machine(Phase.INQUIRING, **BY_BOOT, **ALONE)
    for event in (
        pair.Unreplied(Purpose.STATUS),
        pair.Replied(Purpose.STATUS, True, view=view("active")),
    ):
        said_so = "the boot master stands by until something is heard on eth0, eth1"
        assert said_so in said(waits, event)


def test_a_role_that_waits_is_asked_for_as_soon_as_all_cards_have_heard() -> None:
    first, second = CARDS_HEARD
    one_silent = (first, replace(second, heard=False))
    heard = pair.Watched("eth1", 3, 0, "boot")
    for resuming, phase in ((True, Phase.INQUIRING), (False, Phase.STANDBY)):
        state = machine(Phase.STANDBY, resuming=resuming, interfaces=one_silent)
        assert step(state, heard)[0].phase is phase
        due = machine(Phase.STANDBY, resuming=resuming, timers=((Timer.RETRY, NOW),))
        assert step(due, pair.Tick())[0].phase is phase


@pytest.mark.parametrize("phase", [Phase.STANDBY, Phase.CONFIRMING])
def test_a_person_ends_the_wish_of_a_boot_master(phase: Phase) -> None:
    state, actions = step(machine(phase, resuming=True), pair.Request(7, "resume", False))
    assert (state.phase, state.resuming, answers(actions)) == (phase, False, [(7, True, "standby")])


def test_a_peer_that_takes_the_role_ends_the_wait_for_one_that_is_active() -> None:
    counting = machine(Phase.STANDBY, timers=((Timer.HEARD, NOW + 5), (Timer.NOBODY, NOW + 5)))
    state, _ = step(counting, pair.Request(7, "resume", True))
    assert state.deadline(Timer.NOBODY) is None


@pytest.mark.parametrize("phase", [Phase.SEEKING, Phase.DOUBTING])
def test_where_nobody_can_be_asked_the_role_is_taken(phase: Phase) -> None:
    state, actions = step(machine(phase, timers=()), NOT_ASKED, NO_ADDRESSES)
    assert (state.phase, scripts(actions)) == (Phase.PROMOTING, ["master"])


@pytest.mark.parametrize("phase", [Phase.DOUBTING, Phase.UNSURE])
def test_a_peer_that_is_heard_is_waited_for_without_asking_the_ethernet_side(phase: Phase) -> None:
    heard = machine(phase, timers=((Timer.GIVE_UP, NOW), (Timer.HEARD, NOW + 5)))
    state, actions = step(heard, pair.Tick())
    assert (state.phase, done(actions)) == (phase, set())
    assert state.deadline(Timer.GIVE_UP) == NOW + MASTER.round


def test_a_person_hands_no_role_to_where_all_cards_are_down() -> None:
    asking = machine(Phase.ASKING, cause=Cause.PERSON, waiting=TOLD)
    lame = view("standby", "eth0 eth1", down="eth0 eth1")
    state, actions = step(asking, pair.Replied(Purpose.STATUS, True, view=lame))
    assert (state.phase, [ok for _, ok, _ in answers(actions)]) == (Phase.ACTIVE, [False])


def test_a_person_hears_why_the_peer_does_not_get_the_role() -> None:
    asking = machine(Phase.ASKING, cause=Cause.PERSON, waiting=TOLD)
    for peer, why in (
        (view("switching"), "the peer is switching and no interface is bad there"),
        (
            view("standby", "eth0 eth1", down="eth0 eth1"),
            "the peer is standby and eth0, eth1 is bad there",
        ),
    ):
        _, actions = step(asking, pair.Replied(Purpose.STATUS, True, view=peer))
        assert answers(actions) == [(7, False, why)]


def test_a_link_that_is_silent_though_the_port_answers_is_asked_about_again() -> None:
    """The next verdict is a window away, and what was asked for this one is too old by then."""
    state, actions = step(machine(Phase.STANDBY), SILENT, SLAVE)
    assert (state.phase, done(actions)) == (Phase.STANDBY, {"question"})


# ---------------------------------------------------------------------------- a script ends


PEER_AND_PERSON = ((7, True), (8, False))


@pytest.mark.parametrize(
    ("cause", "heard", "phase"),
    [
        (Cause.INTERFACE, True, Phase.TELLING),
        (Cause.INTERFACE, False, Phase.TELLING),
        (Cause.PERSON, True, Phase.TELLING),
        (Cause.PERSON, False, Phase.TELLING),
        (Cause.HEALING, True, Phase.TELLING),  # it may not know that the role is its own now
        (Cause.HEALING, False, Phase.STANDBY),
        (Cause.PEER, True, Phase.STANDBY),
    ],
)
def test_whoever_has_stood_down_tells_a_peer_that_cannot_know(
    cause: Cause, heard: bool, phase: Phase
) -> None:
    state = machine(Phase.DEMOTING, cause=cause, unclean=True, waiting=PEER_AND_PERSON)
    state, actions = step(replace(state, timers=state.timers if heard else ()), SCRIPT_ENDS["ok"])
    assert (state.phase, Purpose.FAIL in asks(actions)) == (phase, phase is Phase.TELLING)
    if phase is Phase.TELLING:  # the person wants to know what comes of it
        assert (answers(actions), state.waiting) == ([(7, True, "standby")], ((8, False),))
    else:
        assert (state.waiting, state.unclean) == ((), False)
        assert answers(actions) == [(7, True, "standby"), (8, True, "standby")]
        assert pair.RestartWatchers() in actions


@pytest.mark.parametrize("how", ["failed", "not run"])
@pytest.mark.parametrize("cause", [Cause.INTERFACE, Cause.PERSON, Cause.PEER, Cause.HEALING])
def test_whoever_waits_for_a_stand_down_that_fails_is_told(cause: Cause, how: str) -> None:
    state = machine(Phase.DEMOTING, cause=cause, waiting=PEER_AND_PERSON)
    after, actions = step(state, SCRIPT_ENDS[how])
    assert (after.waiting, [ok for _, ok, _ in answers(actions)]) == ((), [False, False])
    if cause is Cause.HEALING:  # the peer keeps its role: these addresses must go, and soon
        assert (after.phase, after.unclean) == (Phase.REJOINING, True)
        assert after.deadline(Timer.RETRY) == NOW + MASTER.window
    else:
        assert not after.unclean
        assert after.phase is (Phase.PROMOTING if how == "failed" else Phase.ACTIVE)


CANNOT = "the switch script cannot be run: we keep the role"
BACK = "the switch script failed to stand down: we take the role back"
AGAIN = "the switch script failed to stand down: trying again every window"


@pytest.mark.parametrize(
    ("phase", "cause", "how", "line"),
    [
        (Phase.PROMOTING, Cause.PEER, "failed", "the switch script failed (told by the peer)"),
        (Phase.PROMOTING, Cause.PEER, "not run", "the switch script failed (told by the peer)"),
        (Phase.DEMOTING, Cause.PERSON, "failed", BACK),
        (Phase.DEMOTING, Cause.PERSON, "not run", CANNOT),
        (Phase.DEMOTING, Cause.HEALING, "failed", AGAIN),
        (Phase.DEMOTING, Cause.HEALING, "not run", AGAIN),
        (Phase.CLEANING, Cause.PEER, "failed", AGAIN),
        (Phase.CLEANING, Cause.PEER, "not run", AGAIN),
    ],
)
def test_a_script_that_fails_is_reported(phase: Phase, cause: Cause, how: str, line: str) -> None:
    lines = said(machine(phase, cause=cause), SCRIPT_ENDS[how])
    assert any(found.startswith(line) for found in lines), lines


# ---------------------------------------------------------------------------- standstill


@pytest.mark.parametrize(
    ("phase", "after", "wanted"),
    [
        (Phase.INQUIRING, Phase.INQUIRING, {"ask status"}),
        (Phase.SEEKING, Phase.INQUIRING, {"ask status"}),
        (Phase.CALLING, Phase.INQUIRING, {"ask status"}),
        (Phase.DOUBTING, Phase.INQUIRING, {"ask status"}),
        (Phase.CONFIRMING, Phase.STANDBY, {"answer error", "ask compare"}),
        (Phase.FENCING, Phase.STANDBY, {"answer error", "ask compare"}),
        (Phase.TELLING, Phase.UNSURE, {"ask status"}),
        (Phase.UNSURE, Phase.UNSURE, {"ask status"}),
    ],
)
def test_whoever_stood_still_knows_nothing_any_more(
    phase: Phase, after: Phase, wanted: set[str]
) -> None:
    state, actions = step(machine(phase, waiting=TOLD, peer=view("standby")), pair.Stalled())
    assert (state.phase, state.peer, done(actions)) == (after, None, wanted)
    if after is Phase.UNSURE:  # what it told the peer may have been sent just now
        assert state.deadline(Timer.UNDER_WAY) == NOW + MASTER.arrival
        assert state.deadline(Timer.GIVE_UP) == NOW + MASTER.switch_time


@pytest.mark.parametrize(
    ("claimed", "heard", "event"),
    [
        (0, True, PEER_HAS_OURS),
        (1, True, NOBODY_HAS_OURS),
        (1, False, NOBODY_HAS_OURS),
        (0, False, NOBODY_HAS_OURS),
        (0, True, NOBODY_HAS_OURS),
    ],
)
def test_a_card_that_was_bad_is_announced_on_when_it_was_asked_on(
    claimed: int, heard: bool, event: pair.Event
) -> None:
    unasked = tuple(replace(i, unasked=True) for i in cards(eth1="fail"))
    known = {"interfaces": unasked, "claimed": claimed} | ({} if heard else ALONE)
    state, actions = step(machine(Phase.ACTIVE, **known), event)
    assert pair.Announce() in actions
    assert [i.unasked for i in state.interfaces] == [False, True]
    assert pair.announceable(state) == ("eth0",)
    assert state.claimed == (event is PEER_HAS_OURS)


def test_the_boot_master_asks_again_soon_when_the_peer_has_its_addresses_too() -> None:
    state, _ = step(machine(Phase.ACTIVE), PEER_HAS_OURS)
    assert state.deadline(Timer.OWN) == NOW + MASTER.round / 3


# ---------------------------------------------------------------------------- step by step


DUE = {"timers": ((Timer.RETRY, NOW), (Timer.HEARD, NOW + 5))}
FAILED_NOW = {"interfaces": cards(eth0="fail"), "peer": view("standby")}
STEPS = [
    # where, what is known, what comes; the phase after it, and what is done
    (
        Phase.STANDBY,
        DUE | {"unclean": True, "resuming": True},
        pair.Tick(),
        Phase.CLEANING,
        "run slave",
    ),
    (Phase.INQUIRING, DUE, pair.Tick(), Phase.INQUIRING, "ask status"),
    (Phase.SEEKING, ALONE, NOBODY, Phase.PROMOTING, "run master"),
    (Phase.SEEKING, {}, SOMEBODY, Phase.STANDBY, "answer error, ask compare"),
    (Phase.DOUBTING, {}, SOMEBODY, Phase.STANDBY, "answer error, ask compare"),
    (Phase.CALLING, {}, pair.Replied(Purpose.RESUME, True), Phase.PROMOTING, "run master"),
    (Phase.CALLING, {}, pair.Unreplied(Purpose.RESUME), Phase.DOUBTING, "ask status"),
    (
        Phase.DOUBTING,
        {},
        pair.Replied(Purpose.STATUS, True, view=view("standby")),
        Phase.PROMOTING,
        "run master",
    ),
    (Phase.DOUBTING, DUE, pair.Tick(), Phase.DOUBTING, "ask status"),
    (Phase.UNSURE, DUE, pair.Tick(), Phase.UNSURE, "ask status"),
    (Phase.CONFIRMING, {}, NOBODY, Phase.STANDBY, "answer error, ask compare"),
    (
        Phase.CONFIRMING,
        {},
        pair.Answers(False, 1, False),
        Phase.STANDBY,
        "answer error, ask compare",
    ),
    (
        Phase.CONFIRMING,
        ALONE | {"interfaces": CARDS_DOWN},
        pair.Answers(False, 1, False),
        Phase.CONFIRMING,
        "question",
    ),
    (Phase.REJOINING, {"bare": True}, NOBODY, Phase.REJOINING, "ask status, question"),
    (Phase.FENCING, {}, pair.Ended("fence", True), Phase.PROMOTING, "run master"),
    (Phase.FENCING, {}, pair.Ended("fence", False), Phase.STANDBY, "answer error, ask compare"),
    (Phase.ASKING, FAILED_NOW, pair.Counted("eth0", 0), Phase.ASKING, ""),
    (
        Phase.ASKING,
        BY_PERSON | {"timers": ((Timer.GIVE_UP, NOW), (Timer.HEARD, NOW + 5))},
        pair.Tick(),
        Phase.ASKING,
        "",
    ),
    (
        Phase.TELLING,
        {},
        pair.Replied(Purpose.FAIL, True),
        Phase.STANDBY,
        "answer standby, ask compare, begin windows",
    ),
    (
        Phase.TELLING,
        {"failed": True},
        pair.Replied(Purpose.FAIL, False, "busy"),
        Phase.STANDBY,
        "answer busy, ask compare, begin windows",
    ),
    (
        Phase.UNSURE,
        {},
        pair.Replied(Purpose.STATUS, True, view=view("active")),
        Phase.STANDBY,
        "answer standby, ask compare, begin windows",
    ),
]


@pytest.mark.parametrize(("phase", "known", "event", "after", "wanted"), STEPS)
def test_step_by_step(
    phase: Phase, known: dict[str, object], event: pair.Event, after: Phase, wanted: str
) -> None:
    waiting = {} if phase is Phase.STANDBY else {"waiting": TOLD}
    state, actions = step(machine(phase, **(waiting | known)), event)
    assert (state.phase, ", ".join(sorted(done(actions)))) == (after, wanted)


@pytest.mark.parametrize(
    ("phase", "event", "confirm"),
    [
        (Phase.CONFIRMING, SOMEBODY, "arp"),
        (Phase.CONFIRMING, pair.Ended("confirm", True), "program"),
        (Phase.CONFIRMING, pair.Ended("confirm", False, ran=False), "program"),
        (Phase.FENCING, pair.Ended("fence", False), "none"),
    ],
)
def test_a_silent_link_does_not_keep_anybody_from_standing_down(
    phase: Phase, event: pair.Event, confirm: str
) -> None:
    """Its addresses are still there, beside those of the peer that answers."""
    rules = replace(NO_ADDRESSES, confirm=confirm, fence=True)
    for unclean, after, wanted in (
        (True, Phase.CLEANING, ["slave"]),
        (False, Phase.CONFIRMING if confirm == "arp" else Phase.STANDBY, []),
    ):
        state = machine(phase, unclean=unclean, waiting=TOLD, timers=())
        state, actions = step(state, event, rules)
        assert (state.phase, scripts(actions), state.waiting) == (after, wanted, ())
        assert [ok for _, ok, _ in answers(actions)] == [False]


@pytest.mark.parametrize("phase", [Phase.DOUBTING, Phase.UNSURE])
def test_a_status_that_is_lost_after_a_lost_answer_is_asked_for_again(phase: Phase) -> None:
    for lost in (pair.Unreplied(Purpose.STATUS), pair.Replied(Purpose.STATUS, True)):
        state, actions = step(machine(phase), lost)
        assert (state.phase, done(actions)) == (phase, set())
        assert state.deadline(Timer.RETRY) == NOW + MASTER.round


# ---------------------------------------------------------------------------- the small print


UNHEARD = tuple[tuple[Timer, float], ...]()
STATUS = {
    role: pair.Replied(Purpose.STATUS, True, view=view(role))
    for role in ("active", "standby", "failed", "switching")
}
MASTERS = replace(view("standby"), boot="master")
SMALL_PRINT = [
    # what it is for, the machine, its rules, what comes; the phase after it, and what is done
    (
        "two that call each other at once: one gives way",
        machine(Phase.CALLING, peer=MASTERS),
        SLAVE,
        pair.Request(1, "resume", True),
        Phase.STANDBY,
        {"answer standby", "ask compare"},
    ),
    (
        "and the other one does not",
        machine(Phase.DOUBTING, peer=view("standby")),
        MASTER,
        pair.Request(1, "resume", True),
        Phase.DOUBTING,
        {"answer busy"},
    ),
    (
        "a stand-down that is tried again is no reason to keep the peer from serving",
        machine(Phase.CLEANING, unclean=True),
        MASTER,
        pair.Request(1, "resume", True),
        Phase.CLEANING,
        {"answer standby"},
    ),
    (
        "but one after a failed start is",
        machine(Phase.CLEANING),
        MASTER,
        pair.Request(1, "resume", True),
        Phase.CLEANING,
        {"answer busy"},
    ),
    (
        "the peer that tells an active machine to take over has clients that do not know yet",
        machine(Phase.ACTIVE),
        MASTER,
        pair.Request(1, "fail", True),
        Phase.ACTIVE,
        {"answer active", "announce"},
    ),
    (
        "the peer that stands down for us while we are in doubt ends the doubt",
        machine(Phase.REJOINING),
        MASTER,
        pair.Request(1, "fail", True),
        Phase.ACTIVE,
        {"answer active", "announce", "ask compare"},
    ),
    (
        "nobody answers for the addresses, but the peer is heard: it is between two steps",
        machine(Phase.SEEKING),
        MASTER,
        NOBODY,
        Phase.INQUIRING,
        {"ask status"},
    ),
    (
        "the peer has become active since we last heard that nobody is",
        machine(Phase.INQUIRING, cause=Cause.HEALING),
        MASTER,
        STATUS["active"],
        Phase.STANDBY,
        {"ask compare"},
    ),
    (
        "and nobody serves, but the peer is not heard any more: silence is another matter",
        machine(Phase.INQUIRING, cause=Cause.HEALING, timers=UNHEARD),
        MASTER,
        pair.Unreplied(Purpose.STATUS),
        Phase.STANDBY,
        {"ask compare"},
    ),
    (
        "the peer has kept its role",
        machine(Phase.DOUBTING, waiting=TOLD),
        MASTER,
        STATUS["active"],
        Phase.STANDBY,
        {"ask compare", "answer error"},
    ),
    (
        "it may still be about to stand down",
        machine(Phase.DOUBTING, waiting=TOLD),
        MASTER,
        STATUS["switching"],
        Phase.DOUBTING,
        set(),
    ),
    (
        "without a card that works nobody can be asked, and no role be taken",
        machine(Phase.SEEKING, timers=UNHEARD),
        MASTER,
        pair.Answers(False, 0, False),
        Phase.STANDBY,
        {"ask compare"},
    ),
    (
        "nor after a lost answer",
        machine(Phase.DOUBTING, timers=UNHEARD),
        MASTER,
        pair.Answers(False, 0, False),
        Phase.STANDBY,
        {"ask compare"},
    ),
    (
        "whoever is heard is asked, though nobody answers for the addresses",
        machine(Phase.UNSURE),
        MASTER,
        NOBODY,
        Phase.UNSURE,
        {"ask status"},
    ),
    (
        "so is it by one that may have been overtaken",
        machine(Phase.REJOINING),
        MASTER,
        NOBODY,
        Phase.REJOINING,
        {"ask status", "question"},
    ),
    *(
        (
            f"who waits for us to stand by is not told that we are active: {event}",
            machine(phase, waiting=TOLD, bare=True, timers=UNHEARD),
            MASTER,
            event,
            after,
            done | {"answer error"},
        )
        for phase, event, after, done in (
            *(
                (
                    phase,
                    pair.Request(1, "fail", True),
                    Phase.PROMOTING,
                    {"run master"},
                )
                for phase in (Phase.TELLING, Phase.UNSURE)
            ),
            (Phase.ASKING, pair.Bare(), Phase.REJOINING, {"ask status", "question"}),
            (Phase.REJOINING, NOBODY, Phase.PROMOTING, {"run master"}),
        )
    ),
]


def done(actions: list[pair.Action]) -> set[str]:
    words = {
        pair.Announce: lambda action: "announce",
        pair.Question: lambda action: "own question" if action.own else "question",
        pair.Ask: lambda action: f"ask {action.purpose.value}",
        pair.RunScript: lambda action: f"run {action.role}",
        pair.RunProgram: lambda action: f"run {action.kind}",
        pair.RestartWatchers: lambda action: "begin windows",
        pair.Heartbeats: lambda action: "heartbeats",
        pair.Look: lambda action: "look",
        pair.Answer: answer_of,
    }
    return {words[type(action)](action) for action in actions} - {"heartbeats"}


def answer_of(action: pair.Action) -> str:
    assert isinstance(action, pair.Answer)
    return f"answer {action.text if action.ok or action.text == 'busy' else 'error'}"


@pytest.mark.parametrize("line", SMALL_PRINT, ids=lambda line: line[0])
def test_the_small_print(
    line: tuple[str, pair.State, pair.Rules, pair.Event, Phase, set[str]],
) -> None:
    _, before, rules, event, phase, wanted = line
    after, actions = step(before, event, rules)
    assert (after.phase, done(actions)) == (phase, wanted)


# ---------------------------------------------------------------------------- the table itself


def test_no_row_stands_where_it_cannot_be_reached() -> None:
    """A row without guards ends the list of its phase and event."""
    for (phase, on), rows in TABLE.items():
        for row in rows[:-1]:
            assert row.when, f"{phase.name} and {on.name}: nothing behind this row counts"


def test_every_event_of_the_table_can_come() -> None:
    used = {row.on for row in pair.ROWS}
    assert used == set(On), set(On) - used


def every_event() -> st.SearchStrategy[pair.Event]:
    names = st.sampled_from(MASTER.interfaces)
    verdicts = st.sampled_from(["ok", "boot", "late", "fail"])
    count = st.integers(0, 2)
    purposes = st.sampled_from(Purpose)
    roles = st.sampled_from(["active", "standby", "failed", "switching", "rejoining"])
    bad = st.frozensets(names)
    counts = st.just(()) | st.tuples(st.tuples(names, count, count))
    views = st.builds(PeerView, roles, st.sampled_from(["master", "slave"]), bad, bad, counts)
    return st.one_of(
        st.builds(pair.Watched, names, count, count, verdicts),
        st.builds(pair.Counted, names, count),
        st.builds(pair.Carrier, names, st.booleans()),
        st.builds(pair.LinkWatched, count, verdicts),
        st.builds(
            pair.Request, st.integers(1, 9), st.sampled_from(["fail", "resume"]), st.booleans()
        ),
        st.builds(pair.Replied, purposes, st.booleans(), st.just(""), st.none() | views),
        st.builds(pair.Unreplied, purposes, st.booleans()),
        st.builds(
            pair.Ended,
            st.sampled_from(["script", "fence", "confirm"]),
            st.booleans(),
            st.booleans(),
        ),
        st.builds(pair.Answers, st.booleans(), st.integers(0, 3), st.booleans()),
        *(
            st.just(event())
            for event in (pair.Bare, pair.Stray, pair.Stalled, pair.Reread, pair.Tick)
        ),
    )


@given(
    st.sampled_from([MASTER, SLAVE]),
    st.sampled_from(["arp", "none", "program"]),
    st.booleans(),
    st.sampled_from([None, "active", "standby", "failed", "switching"]),
    st.lists(st.tuples(every_event(), st.floats(0, 12)), max_size=40),
)
@settings(deadline=None, max_examples=150)
def test_whatever_happens_the_table_knows_what_to_do(
    rules: pair.Rules,
    confirm: str,
    fence: bool,
    was: str | None,
    story: list[tuple[pair.Event, float]],
) -> None:
    """Events in any order, also those that no master would send, never raise, and leave order."""
    rules = replace(rules, confirm=confirm, fence=fence)
    state, _ = pair.step(pair.initial(rules), pair.Started(was), rules, NOW)
    now = NOW
    for event, seconds in story:
        now += seconds
        state, actions = pair.step(state, event, rules, now)
        assert hash(state) == hash(replace(state))
        assert len({timer for timer, _ in state.timers}) == len(state.timers)
        assert state.phase not in (Phase.STANDBY, Phase.ACTIVE) or not state.waiting
        assert pair.role(state) in ("active", "standby", "switching", "failed")
        assert len([a for a in actions if isinstance(a, pair.RunScript)]) <= 1
        assert set(pair.announceable(state)) <= set(rules.interfaces)


def test_a_new_configuration_keeps_what_is_known() -> None:
    state = machine(Phase.ACTIVE)
    after = pair.adapt(state, replace(MASTER, interfaces=("eth1", "eth2")))
    assert after.interfaces == (cards()[1], pair.Interface("eth2"))
    assert after.phase is Phase.ACTIVE


def test_the_rules_of_a_configuration() -> None:
    text = "@addresses = ('eth0 192.0.2.10/24',); $primary = '1.0.0.2'; $secondary = '1.0.0.1';"
    rules = pair.rules(conf.parse(text, "failoverd.conf"), "slave")
    assert (rules.boot, rules.precedes, rules.confirm) == ("slave", False, "arp")
    assert rules.addressed == frozenset({"eth0"})
    assert (rules.window, rules.heartbeat, rules.switch_timeout) == (11.0, 10.0, 30.0)
    bare = pair.rules(conf.parse("", "failoverd.conf"), "master")
    assert (bare.confirm, bare.addressed) == ("none", frozenset())


def test_the_picture_is_as_the_table() -> None:
    root = Path(__file__).resolve().parent.parent
    check = [sys.executable, str(root / "bin" / "picture"), "--check"]
    result = subprocess.run(check, capture_output=True, text=True, check=False, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")


def test_what_waits_behind_the_event_that_drops_its_question_is_dropped_too() -> None:
    status, compare = (pair.Unreplied(p) for p in (Purpose.STATUS, Purpose.COMPARE))
    reply = pair.Replied(Purpose.FAIL, True)
    own = pair.Answers(True, 1, False)
    waiting: list[pair.Event] = [status, compare, reply, NOBODY, own, HEARTBEATS]
    for questions_too, kept in (
        (False, [compare, NOBODY, own, HEARTBEATS]),
        (True, [compare, HEARTBEATS]),
    ):
        forget = pair.Forget(questions_too)
        assert [e for e in waiting if not is_forgotten(e, forget)] == kept
