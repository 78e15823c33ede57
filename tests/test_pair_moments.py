"""When and how long: what one machine of the pair believes, and until which moment.

Each line is a boundary that one wrong constant, comparison or order would move: what is true just
before a deadline and no more at it, what a card, a count or an answer proves and what it does not,
and when everything that is asked is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields as dataclass_fields
from dataclasses import replace

import pytest
from test_pair import MASTER, NO_ADDRESSES, NOW, SLAVE, answers, asks, cards, machine, scripts, view

from failoverd import conf, pair
from failoverd.pair import Cause, Phase, Purpose, Timer, acts, guards, table
from failoverd.pair.state import BEING_ACTIVE, HANDING_OVER, STANDING_BY, SWITCHING
from failoverd.pair.turn import Turn

WINDOW, ROUND, HEARTBEAT = MASTER.window, MASTER.round, MASTER.heartbeat
JUST = 0.001
SHORT = replace(MASTER, window=0.3, card_window=0.2, status_timeout=1.0)
STATUS = pair.Replied(Purpose.STATUS, True, view=view("standby"))


def turn_of(state: pair.State, event: pair.Event | None = None, rules: pair.Rules = MASTER) -> Turn:
    return Turn(state, event or pair.Tick(), rules, NOW)


def at(
    state: pair.State, event: pair.Event, after: float = 0.0, rules: pair.Rules = MASTER
) -> tuple[pair.State, list[pair.Action]]:
    """A step so many seconds after NOW."""
    new, actions = pair.step(state, event, rules, NOW + after)
    return new, list(actions)


def of(actions: list[pair.Action], *kinds: type) -> list[pair.Action]:
    return [action for action in actions if isinstance(action, kinds)]


def timed(state: pair.State, **timers: float) -> pair.State:
    """With these deadlines, in seconds after NOW, and no others."""
    pairs = tuple((timer, NOW + timers[timer.name]) for timer in Timer if timer.name in timers)
    return replace(state, timers=pairs)


# ---------------------------------------------------------------------------- words


WORDS = {
    "standby": "NEW STANDBY INQUIRING SEEKING CONFIRMING FENCING",
    "active": "ACTIVE REJOINING ASKING",
    "switching": "CALLING DOUBTING PROMOTING DEMOTING TELLING UNSURE CLEANING",
}


def test_what_each_phase_is_to_others() -> None:
    """A script that has failed shows in a standby only: any other has something else to tell."""
    told = {Phase[name]: word for word, names in WORDS.items() for name in names.split()}
    assert {phase: pair.role(machine(phase)) for phase in Phase} == told
    for broken in ({"failed": True}, {"unclean": True}):
        shown = {phase: pair.role(machine(phase, **broken)) for phase in Phase}
        assert shown == {p: "failed" if w == "standby" else w for p, w in told.items()}


def test_which_phases_have_a_name_together() -> None:
    standing = {"STANDBY", "INQUIRING", "SEEKING", "CALLING", "DOUBTING", "CONFIRMING", "FENCING"}
    assert {phase.name for phase in STANDING_BY} == standing
    assert {phase.name for phase in BEING_ACTIVE} == set(WORDS["active"].split())
    assert {phase.name for phase in SWITCHING} == set(WORDS["switching"].split())
    assert {phase.name for phase in HANDING_OVER} == {"TELLING", "UNSURE"}


@pytest.mark.parametrize(
    ("verdict", "up", "packets", "last", "word"),
    [
        ("boot", True, 0, 0, "boot"),
        ("boot", False, 0, 0, "down"),
        ("ok", True, 0, 0, "silent"),
        ("ok", True, 1, 0, "ok"),
        ("ok", True, 0, 1, "ok"),
        ("fail", True, 0, 0, "fail"),
        ("fail", True, 9, 9, "fail"),
        ("fail", False, 9, 9, "down"),
    ],
)
def test_the_word_for_an_interface(
    verdict: str, up: bool, packets: int, last: int, word: str
) -> None:
    assert pair.Interface("eth0", verdict, packets, last, up).state == word


def test_a_machine_before_its_begin_knows_nothing() -> None:
    new = pair.initial(MASTER)
    odd: dict[str, object] = {"phase": Phase.NEW, "cause": Cause.BOOT}
    odd |= {"interfaces": tuple(pair.Interface(name) for name in MASTER.interfaces)}
    assert {name: value for name, value in vars(new).items() if value} == odd
    fresh = {name: value for name, value in vars(new.interfaces[0]).items() if value}
    assert fresh == {"name": "eth0", "verdict": "boot", "up": True}
    assert pair.next_deadline(new) is None
    assert pair.next_deadline(timed(new, HOLD=3.0, RETRY=2.0, NEWS=4.0)) == NOW + 2.0


@pytest.mark.parametrize("phase", Phase)
def test_whether_it_is_known_that_somebody_serves(phase: Phase) -> None:
    us = phase in BEING_ACTIVE
    for role, heard, asked, served in (
        (None, True, False, us),
        ("active", True, False, True),
        ("rejoining", True, False, True),
        ("active", False, False, us),  # it was, when it was heard last
        ("standby", True, False, us),
        ("standby", True, True, True),
        (None, False, True, True),
    ):
        timers = {name: 1.0 for name, runs in (("HEARD", heard), ("SERVED", asked)) if runs}
        state = machine(phase, peer=None if role is None else view(role))
        assert pair.is_served(timed(state, **timers)) is served, (role, heard, asked)


# ---------------------------------------------------------------------------- heard


EXCHANGES: list[pair.Event] = [
    STATUS,
    pair.Replied(Purpose.STATUS, True, "no status"),
    pair.Replied(Purpose.COMPARE, True, view=view("active")),
    pair.Replied(Purpose.FAIL, False, "busy"),
    pair.Replied(Purpose.RESUME, True, "standby"),
]


@pytest.mark.parametrize("event", EXCHANGES, ids=str)
@pytest.mark.parametrize("rules", [MASTER, SHORT], ids=["long", "short"])
def test_a_peer_is_heard_for_one_window_after_it_has_answered(
    event: pair.Event, rules: pair.Rules
) -> None:
    for phase in (Phase.STANDBY, Phase.ACTIVE):
        state, _ = at(timed(machine(phase)), event, rules=rules)
        assert state.deadline(Timer.HEARD) == NOW + rules.window
        assert state.deadline(Timer.UNHEARD) == NOW + 2 * rules.window
        assert at(state, pair.Tick(), rules.window - JUST, rules)[0].heard
        assert not at(state, pair.Tick(), rules.window, rules)[0].heard


NOT_HEARD: list[pair.Event] = [
    pair.Unreplied(Purpose.STATUS),
    pair.Unreplied(Purpose.COMPARE),
    pair.LinkWatched(9, "ok"),
    pair.Answers(False, 3, True),
    pair.Answers(True, 1, True),
    *(pair.Request(7, command, who) for command in ("fail", "resume") for who in (True, False)),
]


@pytest.mark.parametrize("event", NOT_HEARD, ids=str)
def test_nothing_else_makes_a_peer_heard(event: pair.Event) -> None:
    for phase in (Phase.STANDBY, Phase.ACTIVE, Phase.CALLING, Phase.CONFIRMING):
        assert not at(timed(machine(phase)), event)[0].heard, phase


@pytest.mark.parametrize("phase", [Phase.STANDBY, Phase.ACTIVE])
def test_two_windows_without_an_answer_are_long_also_after_the_start(phase: Phase) -> None:
    """Only then does a machine that does not serve stop its heartbeats."""
    began, _ = at(pair.initial(SLAVE), pair.Started("standby"), rules=SLAVE)
    assert began.deadline(Timer.UNHEARD) == NOW + 2 * WINDOW
    spoken, _ = at(machine(phase, interfaces=cards(eth0="fail", eth1="fail")), STATUS)
    for state in (began, spoken):
        assert not at(state, pair.Tick(), WINDOW)[0].mute
        assert not at(state, pair.Tick(), 2 * WINDOW - JUST)[0].mute
        after, actions = at(state, pair.Tick(), 2 * WINDOW)
        assert after.mute
        assert of(actions, pair.Heartbeats) == [pair.Heartbeats(False)]


DEAF_BY = {
    "none": (cards(), False),
    "one": (cards(eth0="fail"), False),
    "both failed": (cards(eth0="fail", eth1="fail"), True),
    "both down": (tuple(replace(i, up=False) for i in cards()), True),
    "one of each": ((replace(cards()[0], up=False), cards(eth1="fail")[1]), True),
    "no card at all": ((), False),
}


@pytest.mark.parametrize("why", DEAF_BY)
@pytest.mark.parametrize("phase", BEING_ACTIVE)
def test_an_active_machine_serves_as_long_as_one_card_does(phase: Phase, why: str) -> None:
    interfaces, silent = DEAF_BY[why]
    state = timed(machine(phase, interfaces=interfaces))
    after, actions = at(state, pair.Tick())
    assert after.mute is silent
    assert of(actions, pair.Heartbeats) == ([pair.Heartbeats(False)] if silent else [])
    again, actions = at(after, STATUS)
    assert not again.mute
    assert of(actions, pair.Heartbeats) == ([pair.Heartbeats(True)] if silent else [])


def test_a_machine_that_is_mute_stays_so_without_being_told_again() -> None:
    mute, _ = at(timed(machine(Phase.STANDBY)), pair.Tick())
    assert mute.mute
    for event in (pair.Tick(), pair.LinkWatched(1, "ok"), pair.Carrier("eth0", False)):
        after, actions = at(mute, event)
        assert after.mute
        assert not of(actions, pair.Heartbeats)
    again, actions = at(mute, STATUS)
    assert not again.mute
    assert [action.text for action in actions if isinstance(action, pair.Log)] == [
        "heartbeats go on"
    ]
    assert not pair.initial(MASTER).mute
    assert not at(pair.initial(MASTER), pair.Carrier("eth0", True))[0].mute, "it has not begun"


def test_a_standby_that_finds_the_service_answered_for_is_not_mute_and_a_deaf_machine_is() -> None:
    down = tuple(replace(i, up=False) for i in cards())
    for phase, interfaces, silent in (
        (Phase.STANDBY, cards(), False),
        (Phase.STANDBY, down, True),
        (Phase.ACTIVE, down, True),
    ):
        state = timed(machine(phase, interfaces=interfaces), SERVED=1.0)
        assert at(state, pair.Tick())[0].mute is silent
        assert at(state, pair.Tick(), 1.0)[0].mute is (phase is Phase.STANDBY or silent)


@pytest.mark.parametrize(
    ("phase", "beats", "wordless", "speechless"),
    [
        (Phase.STANDBY, True, 0.0, True),
        (Phase.ACTIVE, True, 0.0, True),
        (Phase.STANDBY, True, JUST, False),
        (Phase.STANDBY, False, 0.0, False),
        (Phase.NEW, True, 0.0, False),
    ],
)
def test_when_a_peer_is_speechless(
    phase: Phase, beats: bool, wordless: float, speechless: bool
) -> None:
    """Its heartbeats come in, and its port has not answered for too long."""
    state = timed(machine(phase, beats=beats), UNHEARD=9.0, WORDLESS=wordless)
    after, actions = at(state, pair.Tick())
    assert after.speechless is speechless
    assert len([a for a in actions if isinstance(a, pair.Log) and a.alarm]) == speechless
    assert not at(after, STATUS)[0].speechless


@pytest.mark.parametrize("speechless", [False, True])
@pytest.mark.parametrize("beats", [False, True])
def test_only_who_sends_heartbeats_still_is_speechless(speechless: bool, beats: bool) -> None:
    turn = turn_of(machine(Phase.STANDBY, speechless=speechless, beats=beats))
    assert guards.is_speechless(turn) is (speechless and beats)


def test_what_is_known_at_the_start() -> None:
    for role, phase in (("standby", Phase.STANDBY), ("failed", Phase.STANDBY)):
        for resuming, unclean in ((False, False), (True, False), (False, True)):
            event = pair.Started(role, resuming=resuming, unclean=unclean)
            state, _ = at(pair.initial(SLAVE), event, rules=SLAVE)
            assert state.failed is (role == "failed")
            assert state.resuming is resuming
            assert unclean or state.phase is phase
            assert state.unclean is unclean
    state, _ = at(pair.initial(MASTER), pair.Started("switching"))
    assert state.deadline(Timer.COMPARE) == NOW + HEARTBEAT
    assert state.deadline(Timer.WORDLESS) == NOW + MASTER.wordless_time
    assert state.deadline(Timer.UNHEARD) == NOW + 2 * WINDOW


# ---------------------------------------------------------------------------- nobody active


def idle(**timers: float) -> pair.State:
    return timed(
        machine(Phase.STANDBY, peer=view("standby")), **{"HEARD": 5.0, "UNHEARD": 15.0, **timers}
    )


STOPS_COUNTING = [
    (pair.Replied(Purpose.COMPARE, True, view=view("active")), 0.0),
    (pair.Replied(Purpose.COMPARE, True, view=view("rejoining")), 0.0),
    (pair.Tick(), 5.0),  # it is not heard any more: the silence of the link decides
    (pair.Stalled(), 0.0),
]


@pytest.mark.parametrize(("event", "after"), STOPS_COUNTING)
def test_none_active_is_not_counted_on(event: pair.Event, after: float) -> None:
    state, _ = at(idle(NOBODY=6.0), event, after)
    assert state.phase is Phase.STANDBY
    assert state.deadline(Timer.NOBODY) is None
    later, _ = at(state, pair.Tick(), 7.0)
    assert later.phase is Phase.STANDBY


def test_none_active_for_two_windows_and_no_sooner() -> None:
    peer = pair.Replied(Purpose.COMPARE, True, view=view("standby"))
    state, _ = at(idle(), peer)
    assert state.deadline(Timer.NOBODY) == NOW + 2 * WINDOW
    again, _ = at(state, peer, 3.0)
    assert again.deadline(Timer.NOBODY) == NOW + 2 * WINDOW, "counted from the first"
    heard, _ = at(again, peer, 2 * WINDOW - 1)
    assert at(heard, pair.Tick(), 2 * WINDOW - JUST)[0].phase is Phase.STANDBY
    assert at(heard, pair.Tick(), 2 * WINDOW)[0].phase is Phase.INQUIRING


def test_whoever_has_the_role_or_leaves_it_counts_nobody() -> None:
    promoting = timed(machine(Phase.PROMOTING), HEARD=5.0, NOBODY=3.0, RETRY=9.0)
    active, _ = at(promoting, pair.Ended("script", True))
    assert active.phase is Phase.ACTIVE
    assert active.deadline(Timer.NOBODY) is None
    seeking = timed(machine(Phase.CALLING), HEARD=5.0, NOBODY=3.0, HOLD=3.0, OWN=3.0)
    standby, _ = at(seeking, pair.Replied(Purpose.RESUME, False, "busy"))
    assert standby.phase is Phase.STANDBY
    for timer in (Timer.NOBODY, Timer.HOLD, Timer.OWN):
        assert standby.deadline(timer) is None, timer


# ---------------------------------------------------------------------------- leaving a phase


LEAVES = [
    # a phase, what takes it to another, and that one
    (Phase.INQUIRING, pair.Replied(Purpose.STATUS, True, view=view("active")), Phase.STANDBY),
    (Phase.STANDBY, pair.LinkWatched(0, "fail"), Phase.CONFIRMING),
    (Phase.REJOINING, pair.Replied(Purpose.STATUS, True, view=view("standby")), Phase.ACTIVE),
    (Phase.DOUBTING, pair.Replied(Purpose.STATUS, True, view=view("standby")), Phase.PROMOTING),
    (Phase.ACTIVE, pair.Stalled(), Phase.REJOINING),
    (Phase.TELLING, pair.Replied(Purpose.FAIL, True, "active"), Phase.STANDBY),
]


@pytest.mark.parametrize(("phase", "event", "after"), LEAVES)
def test_what_was_to_be_tried_again_is_not_after_the_phase_was_left(
    phase: Phase, event: pair.Event, after: Phase
) -> None:
    state = timed(machine(phase), RETRY=3.0, GIVE_UP=4.0, UNDER_WAY=5.0, UNHEARD=9.0)
    state, actions = at(state, event)
    assert state.phase is after
    for timer in (Timer.RETRY, Timer.GIVE_UP, Timer.UNDER_WAY):
        assert state.deadline(timer) is None, timer
    assert of(actions, pair.Forget)


@pytest.mark.parametrize(
    ("phase", "doubt"), [(Phase.CALLING, Phase.DOUBTING), (Phase.TELLING, Phase.UNSURE)]
)
def test_what_was_told_stays_under_way_when_its_answer_is_lost(phase: Phase, doubt: Phase) -> None:
    state = timed(machine(phase), RETRY=3.0, GIVE_UP=4.0, UNDER_WAY=5.0, UNHEARD=9.0)
    lost, _ = at(state, pair.Unreplied(Purpose.FAIL))
    assert lost.phase is doubt
    assert lost.deadline(Timer.RETRY) is None
    assert (lost.deadline(Timer.GIVE_UP), lost.deadline(Timer.UNDER_WAY)) == (NOW + 4, NOW + 5)
    unsent, _ = at(state, pair.Unreplied(Purpose.FAIL, sent=False))
    assert unsent.deadline(Timer.UNDER_WAY) is None, "what was never sent does not arrive"


KEPT = [
    # a move, what takes it, and does a question on the ethernet side mean the same after it
    (Phase.STANDBY, Phase.CONFIRMING, pair.LinkWatched(0, "fail"), True),
    (Phase.INQUIRING, Phase.CONFIRMING, pair.LinkWatched(0, "fail"), True),
    (Phase.INQUIRING, Phase.STANDBY, LEAVES[0][1], True),
    (Phase.STANDBY, Phase.INQUIRING, pair.Watched("eth1", 1, 0, "ok"), True),
    (Phase.ASKING, Phase.ACTIVE, pair.Unreplied(Purpose.STATUS), True),
    (Phase.ACTIVE, Phase.ASKING, pair.Watched("eth0", 0, 0, "fail"), True),
    (Phase.STANDBY, Phase.CLEANING, pair.Stray(), False),
    (Phase.CONFIRMING, Phase.STANDBY, pair.LinkWatched(1, "ok"), False),
    (Phase.ACTIVE, Phase.REJOINING, pair.Stalled(), False),
]


@pytest.mark.parametrize(("phase", "after", "event", "kept"), KEPT)
def test_what_was_asked_on_the_ethernet_side_is_forgotten_where_it_means_something_else(
    phase: Phase, after: Phase, event: pair.Event, kept: bool
) -> None:
    silent = phase is Phase.CONFIRMING
    resuming = isinstance(event, pair.Watched) and phase is Phase.STANDBY
    interfaces = tuple(replace(i, heard=i.name == "eth0") for i in cards())
    known = machine(phase, ahead=True, program=2, silent=silent, resuming=resuming)
    before = timed(replace(known, interfaces=interfaces), UNHEARD=9.0)
    state, actions = at(before, event)
    assert state.phase is after
    assert state.ahead is kept
    assert state.program == 0
    assert of(actions, pair.Forget)[-1:] == [pair.Forget(not kept)]


def test_no_row_leads_to_where_it_begins() -> None:
    assert not [row for row in pair.ROWS if row.go in row.phases]


def test_who_stays_in_a_phase_forgets_nothing() -> None:
    state = timed(machine(Phase.REJOINING), RETRY=3.0, UNHEARD=9.0)
    after, actions = at(state, pair.Answers(False, 3, True))
    assert after.phase is Phase.REJOINING
    assert after.deadline(Timer.RETRY) == NOW + 3
    assert not of(actions, pair.Forget)


# ---------------------------------------------------------------------------- how long


LENGTHS: dict[str, tuple[Callable[[Turn], None], dict[Timer, float]]] = {
    "wait_longest": (acts.wait_longest, {Timer.UNDER_WAY: 6.0, Timer.GIVE_UP: 36.0}),
    "retry_soon": (acts.retry_soon, {Timer.RETRY: 1.0}),
    "retry_next_window": (acts.retry_next_window, {Timer.RETRY: 10.0}),
    "wait_a_round": (acts.wait_a_round, {Timer.GIVE_UP: 1.0}),
    "count_nobody": (acts.count_nobody, {Timer.NOBODY: 20.0}),
    "wait_for_peer": (acts.wait_for_peer, {Timer.NOBODY: 9.0}),
    "expect_peer": (acts.expect_peer, {Timer.EXPECTED: 10.0}),
    "question_own": (acts.question_own, {Timer.OWN: 10.0}),
    "question_own_soon": (acts.question_own_soon, {Timer.OWN: 1 / 3}),
    "compare_counts_soon": (acts.compare_counts_soon, {Timer.NEWS: 20.0, Timer.RETRY: 1.0}),
}


@pytest.mark.parametrize("name", LENGTHS)
def test_how_long_each_thing_is_waited_for(name: str) -> None:
    act, lengths = LENGTHS[name]
    turn = turn_of(timed(machine(Phase.ACTIVE)))
    act(turn)
    found = {timer: deadline - NOW for timer, deadline in turn.state.timers}
    assert found == pytest.approx(lengths)


def test_at_short_windows_counts_are_compared_all_the_sooner() -> None:
    turn = turn_of(timed(machine(Phase.ASKING, latest=(("eth0", 1, 2),))), rules=SHORT)
    acts.compare_counts_soon(turn)
    acts.compare_counts_soon(turn)
    assert turn.state.counts == (("eth0", 1, 2),)
    found = {timer: deadline - NOW for timer, deadline in turn.state.timers}
    assert found == pytest.approx({Timer.NEWS: 0.2, Timer.RETRY: 0.025})


def test_what_the_settings_make_of_the_times() -> None:
    assert (MASTER.round, SHORT.round) == (1.0, 0.3)
    assert (MASTER.news_time, replace(MASTER, card_window=0.0).news_time) == (20.0, 10.0)
    assert (MASTER.proof_time, SHORT.proof_time) == (40.0, 0.4)
    assert replace(SHORT, card_window=0.01).proof_time == 0.1
    assert (MASTER.arrival, MASTER.switch_time) == (6.0, 36.0)
    assert (MASTER.wordless_time, replace(MASTER, window=1.0).wordless_time) == (20.0, 14.0)
    assert MASTER.patience == 15.0
    fields = {field.name: field.default for field in dataclass_fields(pair.Rules)}
    assert (fields["low_water"], fields["card_window"]) == (1, 0.0), "those of a test"
    assert (fields["request_time"], fields["grace"]) == (5.0, 1.0), "of section 6"


@pytest.mark.parametrize(
    ("text", "confirm"),
    [
        ("", "none"),  # there is nobody to ask for
        ("@addresses = ('eth0 192.0.2.10/24');", "arp"),
        ("@addresses = ('eth0 192.0.2.10/24'); $confirm = 'none';", "none"),
        ("$confirm = '/usr/lib/ask';", "program"),
    ],
)
def test_what_confirms_a_silence(text: str, confirm: str) -> None:
    rules = pair.rules(conf.parse(f"{text} $timer_seconds = 7; $low_water = 3;", "x"), "master")
    assert (rules.confirm, rules.card_window, rules.low_water) == (confirm, 7.0, 3)


@pytest.mark.parametrize(("plip", "timeout"), [(0.1, 1.0), (1.0, 1.0), (3.0, 3.0), (11.0, 5.0)])
def test_how_long_a_status_is_waited_for(plip: float, timeout: float) -> None:
    text = f"$plip_timer = {plip}; $plip_hbeat = {plip / 2};"
    assert pair.rules(conf.parse(text, "x"), "master").status_timeout == timeout


@pytest.mark.parametrize(
    ("primary", "secondary", "precedes"),
    [("10.0.0.9", "10.0.0.10", True), ("10.0.0.10", "10.0.0.9", False)],
)
def test_the_lower_address_is_the_lower_number(
    primary: str, secondary: str, precedes: bool
) -> None:
    text = f"$primary = '{primary}'; $secondary = '{secondary}';"
    assert pair.rules(conf.parse(text, "x"), "master").precedes is precedes


def test_each_purpose_has_its_time() -> None:
    for purpose, seconds in (
        (Purpose.COMPARE, 5.0),
        (Purpose.STATUS, 5.0),
        (Purpose.FAIL, 35.0),
        (Purpose.RESUME, 35.0),
    ):
        turn = turn_of(machine(Phase.ACTIVE))
        acts.ask(purpose)(turn)
        assert turn.actions == [pair.Ask(purpose, seconds)]


def test_roles_are_compared_a_heartbeat_after_the_last_comparison_ended() -> None:
    began, _ = at(pair.initial(MASTER), pair.Started("standby"))
    assert began.deadline(Timer.COMPARE) is None, "it compares at once"
    for event in (pair.Replied(Purpose.COMPARE, True, view=view("active")), UNCOMPARED):
        state, _ = at(machine(Phase.STANDBY), event)
        assert state.deadline(Timer.COMPARE) == NOW + HEARTBEAT
        _, actions = at(state, pair.Tick(), HEARTBEAT - JUST)
        assert Purpose.COMPARE not in asks(actions)
        late, actions = at(state, pair.Tick(), HEARTBEAT)
        assert Purpose.COMPARE in asks(actions)
        assert late.deadline(Timer.COMPARE) is None, "the next one waits for its end"
    switching, actions = at(timed(machine(Phase.PROMOTING), HEARD=3.0, COMPARE=0.0), pair.Tick())
    assert Purpose.COMPARE not in asks(actions)
    assert switching.deadline(Timer.COMPARE) == NOW + 3


UNCOMPARED = pair.Unreplied(Purpose.COMPARE)


# ---------------------------------------------------------------------------- when it is asked


ASKED: dict[str, tuple[Callable[[Turn], None], dict[str, object], pair.Question]] = {
    # an act, what is known, and the question after it, in seconds from now
    "three": (acts.question, {}, pair.Question(False, (0.0, 1 / 3, 2 / 3), 1.0)),
    "one": (acts.question_once, {}, pair.Question(False, (0.0,), 1.0)),
    "two that are missing": (
        acts.question_rest,
        {"quiet": 1},
        pair.Question(False, (0.0, 1 / 3), 2 / 3),
    ),
    "one that is missing": (acts.question_rest, {"quiet": 2}, pair.Question(False, (0.0,), 1 / 3)),
    "ahead": (acts.question_ahead, {}, pair.Question(False, (9.0, 9.3, 9.6), 9.9)),
    "our own": (acts.question_own, {}, pair.Question(True, (0.0,), 1 / 3)),
}


@pytest.mark.parametrize("what", ASKED)
def test_when_the_ethernet_side_is_asked(what: str) -> None:
    act, known, expected = ASKED[what]
    turn = turn_of(machine(Phase.STANDBY, **known))
    act(turn)
    (asked,) = turn.actions
    assert isinstance(asked, pair.Question)
    assert asked.own is expected.own
    assert [one - NOW for one in asked.at] == pytest.approx(expected.at)
    assert asked.until - NOW == pytest.approx(expected.until)


def test_at_short_windows_it_is_asked_all_the_sooner() -> None:
    turn = turn_of(machine(Phase.STANDBY), rules=SHORT)
    acts.question_ahead(turn)
    acts.question(turn)
    ahead, now = turn.actions
    assert isinstance(ahead, pair.Question)
    assert isinstance(now, pair.Question)
    assert [one - NOW for one in ahead.at] == pytest.approx([0.0, 0.09, 0.18])
    assert ahead.until - NOW == pytest.approx(0.27)
    assert [one - NOW for one in now.at] == pytest.approx([0.0, 0.1, 0.2])
    assert now.until - NOW == pytest.approx(0.3)


@pytest.mark.parametrize("name", ["question", "question_ahead"])
def test_a_new_question_begins_with_nothing_known(name: str) -> None:
    turn = turn_of(machine(Phase.STANDBY, quiet=2, evidence=True))
    getattr(acts, name)(turn)
    assert (turn.state.quiet, turn.state.evidence) == (0, None)
    assert turn.state.ahead is (name == "question_ahead")


def test_where_there_is_nobody_to_ask_that_is_told_at_once() -> None:
    for name in ("question", "question_once", "question_own"):
        turn = turn_of(machine(Phase.ACTIVE), rules=NO_ADDRESSES)
        getattr(acts, name)(turn)
        assert not turn.actions
        word = "OWN_UNANSWERED" if name == "question_own" else "UNASKED"
        assert turn.pending == [pair.On[word]]
    turn = turn_of(machine(Phase.REJOINING), rules=NO_ADDRESSES)
    acts.ask_both(turn)
    assert turn.actions == [pair.Ask(Purpose.STATUS, 5.0)]
    assert not turn.pending


def test_our_own_addresses_are_asked_for_every_window_while_nobody_is_heard() -> None:
    state, actions = at(timed(machine(Phase.ACTIVE)), UNCOMPARED)
    assert of(actions, pair.Question)
    assert state.deadline(Timer.OWN) == NOW + WINDOW
    for after, again in ((WINDOW - JUST, False), (WINDOW, True)):
        ticked, _ = at(state, pair.Tick(), after)
        _, actions = at(ticked, UNCOMPARED, after)
        assert bool(of(actions, pair.Question)) is again


# ---------------------------------------------------------------------------- what proves something


GOOD_WINDOWS = [
    # a window of eth0 of an active machine: is it proved, heard, failed by it, and what comes
    ("ok", 1, True, True, False),
    ("ok", 0, False, False, False),  # silent once proves nothing
    ("boot", 9, False, True, False),
    ("boot", 0, False, False, False),
    ("fail", 3, False, True, True),  # below low water
    ("fail", 0, False, False, True),
]


@pytest.mark.parametrize(("verdict", "packets", "proved", "heard", "failed"), GOOD_WINDOWS)
def test_what_a_window_proves(
    verdict: str, packets: int, proved: bool, heard: bool, failed: bool
) -> None:
    fresh = tuple(pair.Interface(name) for name in MASTER.interfaces)
    state, _ = at(
        machine(Phase.ACTIVE, interfaces=fresh), pair.Watched("eth0", packets, 4, verdict)
    )
    card = state.interface("eth0")
    assert card == pair.Interface(
        "eth0", verdict, packets, 4, heard=heard, proved=proved, unasked=failed
    )
    assert state.interface("eth1") == fresh[1]


@pytest.mark.parametrize("phase", [Phase.STANDBY, Phase.ACTIVE, Phase.REJOINING, Phase.ASKING])
def test_only_an_active_machine_has_to_ask_before_it_announces_again(phase: Phase) -> None:
    for event in (pair.Watched("eth0", 0, 0, "fail"), pair.Carrier("eth0", False)):
        card = at(machine(phase), event)[0].interface("eth0")
        assert card is not None
        assert card.unasked is (phase in BEING_ACTIVE)
    back = at(machine(phase), pair.Carrier("eth0", True))[0].interface("eth0")
    assert back is not None
    assert not back.unasked


def test_what_was_once_heard_or_is_not_asked_for_yet_stays_so() -> None:
    known = tuple(replace(i, heard=True, proved=True, unasked=True) for i in cards())
    for event in (
        pair.Watched("eth0", 0, 0, "ok"),
        pair.Watched("eth0", 0, 0, "boot"),
        pair.Carrier("eth0", False),
    ):
        card = at(machine(Phase.STANDBY, interfaces=known), event)[0].interface("eth0")
        assert card is not None
        assert (card.heard, card.proved, card.unasked) == (True, True, True)
        assert card.up is not isinstance(event, pair.Carrier)
    up = machine(Phase.ACTIVE, interfaces=cards())
    again, actions = at(up, pair.Carrier("eth0", True))
    assert again == up
    assert not of(actions, pair.Question), "it was never away"
    assert not of(at(up, pair.Watched("eth0", 1, 1, "ok"))[1], pair.Question), "nor silent"
    away, _ = at(up, pair.Carrier("eth0", False))
    assert [i.up for i in away.interfaces] == [False, True]
    assert [i.up for i in at(away, pair.Carrier("eth0", True))[0].interfaces] == [True, True]


@pytest.mark.parametrize(
    ("phase", "event", "again"),
    [
        (Phase.ACTIVE, pair.Watched("eth0", 1, 0, "ok"), True),
        (Phase.ACTIVE, pair.Watched("eth0", 0, 1, "ok"), False),
        (Phase.ACTIVE, pair.Watched("eth0", 0, 0, "fail"), False),
        (Phase.ACTIVE, pair.Watched("eth1", 1, 0, "ok"), False),  # the other one is still bad
        (Phase.ACTIVE, pair.LinkWatched(1, "ok"), False),
        (Phase.STANDBY, pair.Watched("eth0", 1, 0, "ok"), False),
        (Phase.STANDBY, pair.LinkWatched(1, "ok"), True),
        (Phase.STANDBY, pair.LinkWatched(0, "ok"), False),
    ],
)
def test_from_when_on_what_is_in_the_way_is_said_again(
    phase: Phase, event: pair.Event, again: bool
) -> None:
    """For an active machine when all its cards are good, for a standby when the link is alive."""
    known = machine(phase, blocked="it is said", silent=True, interfaces=cards(eth0="fail"))
    assert (at(known, event)[0].blocked == "") is again
    if phase is Phase.STANDBY:
        heard = replace(known, silent=False)
        assert at(heard, event)[0].blocked == "it is said", "it was alive before, too"


def test_a_boot_master_calls_as_soon_as_all_are_heard_and_once() -> None:
    quiet = machine(Phase.STANDBY, resuming=True)
    first, actions = at(quiet, pair.Watched("eth0", 1, 0, "boot"))
    assert (first.phase, asks(actions)) == (Phase.STANDBY, set())
    second, actions = at(first, pair.Watched("eth1", 1, 0, "boot"))
    assert (second.phase, asks(actions)) == (Phase.INQUIRING, {Purpose.STATUS})
    again, actions = at(replace(second, phase=Phase.STANDBY), pair.Watched("eth1", 1, 1, "ok"))
    assert (again.phase, asks(actions)) == (Phase.STANDBY, set())
    down = tuple(replace(i, up=i.name != "eth1") for i in second.interfaces)
    up, _ = at(machine(Phase.STANDBY, resuming=True, interfaces=down), pair.Carrier("eth1", True))
    assert up.phase is Phase.INQUIRING


@pytest.mark.parametrize(
    ("known", "boot", "said"),
    [(None, "master", True), (None, "slave", False), (view("active"), "master", False)],
)
def test_two_of_one_host_type_say_so_at_the_first_status(
    known: pair.PeerView | None, boot: str, said: bool
) -> None:
    told = pair.Replied(Purpose.COMPARE, True, view=view("active", boot=boot))
    _, actions = at(machine(Phase.STANDBY, peer=known), told)
    alarms = [a.text for a in actions if isinstance(a, pair.Log) and a.alarm]
    assert bool([text for text in alarms if "both machines have boot:master" in text]) is said


@pytest.mark.parametrize("phase", [Phase.ASKING, Phase.ACTIVE])
@pytest.mark.parametrize("purpose", [Purpose.STATUS, Purpose.COMPARE])
def test_only_an_answer_to_the_question_before_a_handover_brings_its_counts(
    phase: Phase, purpose: Purpose
) -> None:
    counts = (("eth0", 1, 2),)
    told = pair.Replied(purpose, True, view=replace(view("standby"), counts=counts))
    before = machine(phase, cause=Cause.INTERFACE, interfaces=cards(eth0="fail"))
    found = at(before, told)[0].latest
    assert found == (counts if (phase, purpose) == (Phase.ASKING, Purpose.STATUS) else ())


def test_a_card_that_is_back_is_asked_for_once_it_hears_or_is_up() -> None:
    lost = tuple(replace(i, unasked=True, up=False) for i in cards(eth0="fail", eth1="fail"))
    down = machine(Phase.ACTIVE, interfaces=lost)
    for event, back in (
        (pair.Carrier("eth0", True), True),
        (pair.Carrier("eth0", False), False),
        (pair.Watched("eth0", 1, 0, "ok"), True),
        (pair.Watched("eth0", 0, 1, "ok"), False),
        (pair.Watched("eth0", 0, 0, "fail"), False),
    ):
        _, actions = at(down, event)
        assert bool(of(actions, pair.Question)) is back, event


LATE: list[pair.Event] = [
    *(pair.Watched("eth0", packets, 0, "late") for packets in (0, 9)),
    *(pair.LinkWatched(packets, "late") for packets in (0, 9)),
]


def test_a_late_window_counts_for_nothing() -> None:
    fail = cards(eth0="fail")
    for phase in Phase:
        for known in (
            machine(phase),
            machine(phase, silent=True, beats=True, evidence=True),
            machine(phase, interfaces=fail),
        ):
            state = timed(known, HEARD=5.0, UNHEARD=15.0, WORDLESS=15.0)
            for event in LATE:
                after, actions = at(state, event)
                assert after == state, (phase, event)
                assert not actions


def test_a_window_of_an_interface_that_is_not_ours_counts_for_nothing() -> None:
    for event in (
        pair.Watched("eth9", 0, 0, "fail"),
        pair.Carrier("eth9", False),
        pair.Counted("eth9", 0),
    ):
        assert at(machine(Phase.ACTIVE), event) == (machine(Phase.ACTIVE), [])


@pytest.mark.parametrize("phase", HANDING_OVER)
def test_what_is_handed_over_because_of_a_card_stays_so_until_the_peer_knows(phase: Phase) -> None:
    state = machine(phase, interfaces=cards(eth0="fail"))
    assert at(state, pair.Watched("eth0", 9, 9, "ok"))[0].interfaces == state.interfaces
    good = at(state, pair.Watched("eth1", 3, 2, "ok"))[0].interface("eth1")
    assert good == pair.Interface("eth1", "ok", 3, 2, heard=True, proved=True)


@pytest.mark.parametrize(
    ("low_water", "packets", "silent"),
    [(0, 0, True), (0, 1, False), (1, 0, True), (1, 1, False), (5, 4, True), (5, 5, False)],
)
def test_what_a_look_at_a_failed_card_tells(low_water: int, packets: int, silent: bool) -> None:
    state = machine(
        Phase.ASKING,
        cause=Cause.INTERFACE,
        interfaces=cards(eth0="fail"),
        peer=view("active"),
    )
    rules = replace(MASTER, low_water=low_water)
    after, _ = at(state, pair.Counted("eth0", packets), rules=rules)
    assert after.phase is (Phase.ASKING if silent else Phase.ACTIVE)
    assert at(state, pair.Counted("eth1", 9), rules=rules)[0] == state, "it has not failed"


NEWS = [
    # at first, now; is NEWS over; has it heard a packet since
    ((5, 9), (5, 9), False, False),
    ((5, 9), (0, 5), False, False),  # the window has ended: the count only shifted
    ((5, 9), (6, 9), False, True),
    ((5, 9), (1, 5), False, True),
    ((5, 9), (0, 9), False, True),
    ((0, 0), (0, 0), True, False),
    ((5, 9), (0, 5), True, False),
    ((5, 9), (5, 9), True, True),  # its open window has begun since
    ((1, 9), (1, 9), True, True),
    ((0, 0), (1, 0), False, True),
]


@pytest.mark.parametrize(("first", "now", "over", "heard"), NEWS)
def test_a_count_is_news_only_if_a_packet_has_come(
    first: tuple[int, int], now: tuple[int, int], over: bool, heard: bool
) -> None:
    state = machine(
        Phase.ASKING,
        interfaces=cards(eth0="fail"),
        peer=view("standby"),
        counts=(("eth0", *first), ("eth1", 1, 1)),
        latest=(("eth0", *now), ("eth1", 7, 7)),  # of one that is good here
    )
    state = timed(state, HEARD=1.0) if over else timed(state, HEARD=1.0, NEWS=1.0)
    assert guards.peer_has_news(turn_of(state)) is heard
    assert not guards.peer_has_news(turn_of(replace(state, peer=view("standby", "eth0"))))
    assert not guards.peer_has_news(turn_of(replace(state, counts=())))
    assert not guards.peer_has_news(turn_of(replace(state, peer=None)))


@pytest.mark.parametrize(
    ("ran", "ok", "phase"),
    [
        (True, True, Phase.PROMOTING),
        (True, False, Phase.STANDBY),
        (False, False, Phase.STANDBY),  # it could not be run: nobody was shot
    ],
)
def test_only_a_fence_program_that_has_run_and_succeeded_fences(
    ran: bool, ok: bool, phase: Phase
) -> None:
    state = machine(Phase.FENCING, cause=Cause.SILENCE, program=2, runs=2)
    after, actions = at(state, pair.Ended("fence", ok, ran, 2))
    assert after.phase is phase
    assert scripts(actions) == (["master"] if ok else [])
    earlier, actions = at(state, pair.Ended("fence", ok, ran, 1))
    assert (earlier.phase, scripts(actions)) == (Phase.FENCING, [])


@pytest.mark.parametrize(("ok", "quiet"), [(True, 0), (False, 3)])
def test_a_program_s_word_is_enough_once(ok: bool, quiet: int) -> None:
    program = replace(MASTER, confirm="program")
    for phase in (Phase.CONFIRMING, Phase.ACTIVE):
        known = machine(phase, program=2, quiet=2, cause=Cause.SILENCE, who="somebody")
        state = timed(known, UNHEARD=9.0)
        after, _ = at(state, pair.Ended("confirm", ok, True, 2), rules=program)
        assert after.program == 0
        assert not after.who, "who answers is not the program's to tell"
        if phase is Phase.ACTIVE:
            assert after.quiet == quiet
            assert at(after, pair.Ended("confirm", not ok, True, 2), rules=program)[0] == after


def test_one_interface_that_is_up_is_enough_to_serve_on() -> None:
    up = cards()
    first_down = (replace(up[0], up=False), up[1])
    both_down = tuple(replace(i, up=False) for i in up)
    for interfaces, addressed, nothing in (
        (up, {"eth0"}, False),
        (first_down, {"eth0"}, True),
        (first_down, {"eth0", "eth1"}, False),
        (first_down, set(), False),
        (both_down, {"eth0", "eth1"}, True),
        (both_down, set(), True),
    ):
        rules = replace(MASTER, addressed=frozenset(addressed))
        state = machine(Phase.STANDBY, interfaces=interfaces)
        assert guards.nothing_to_serve_on(turn_of(state, rules=rules)) is nothing


@pytest.mark.parametrize(
    ("role", "down", "can"),
    [
        ("standby", "", True),
        ("failed", "", True),
        ("standby", "eth0", True),
        ("standby", "eth0 eth1", False),
        ("standby", "eth0 eth1 eth2", False),
        ("active", "", False),
        ("switching", "", False),
    ],
)
def test_a_person_may_hand_over_to_one_with_a_card_that_is_up(
    role: str, down: str, can: bool
) -> None:
    state = machine(Phase.ASKING, peer=view(role, down, down=down))
    assert guards.peer_can_serve(turn_of(state)) is can
    assert not guards.peer_can_serve(turn_of(replace(state, peer=None)))
    bare = replace(MASTER, interfaces=())
    assert guards.peer_can_serve(turn_of(state, rules=bare)) is (role in ("standby", "failed"))


# ---------------------------------------------------------------------------- who comes first


def alike(**ours: object) -> pair.State:
    """Two machines that differ in their private address only."""
    return machine(Phase.ACTIVE, peer=view("active", boot="master"), **ours)


def test_of_two_that_are_alike_the_lower_address_keeps_the_role() -> None:
    higher = replace(MASTER, precedes=False)
    for guard in (guards.we_yield, guards.peer_outranks):
        assert not guard(turn_of(alike()))
        assert guard(turn_of(alike(), rules=higher))
        assert not guard(turn_of(replace(alike(), peer=None)))
        slave = replace(alike(), peer=view("active", boot="slave"))
        assert not guard(turn_of(slave, rules=higher)), "the boot master comes before the address"
        assert guard(turn_of(alike(), rules=replace(MASTER, boot="slave")))
        assert guard(turn_of(replace(alike(), peer=None), rules=higher))


DOWN = tuple(replace(i, up=False) for i in cards())
LEAST = replace(view("failed", "a b c"), boot="slave")  # of all peers, but for its address
RANKS = [
    # what is worse here, and a peer that is better in that and as bad as can be in what follows
    ({"failed": True}, MASTER, replace(LEAST, role="active")),
    ({"unclean": True}, MASTER, replace(LEAST, role="active")),
    ({"interfaces": DOWN}, MASTER, replace(LEAST, role="active", bad=frozenset({"a"}))),
    ({}, replace(MASTER, boot="slave"), view("active", boot="master")),
    ({}, SLAVE, view("active", boot="slave")),
]


@pytest.mark.parametrize(("ours", "rules", "peer"), RANKS)
def test_each_reason_to_yield_outweighs_all_that_follow(
    ours: dict[str, object], rules: pair.Rules, peer: pair.PeerView
) -> None:
    assert guards.we_yield(turn_of(machine(Phase.ACTIVE, peer=peer, **ours), rules=rules))


@pytest.mark.parametrize(("bad", "better"), [(0, True), (1, False), (2, False)])
def test_a_peer_is_better_off_with_fewer_bad_interfaces_and_not_with_as_many(
    bad: int, better: bool
) -> None:
    ours = (replace(cards()[0], up=False), cards()[1])
    peer = view("active", " ".join(f"eth{n}" for n in range(bad)))
    turn = turn_of(machine(Phase.STANDBY, interfaces=ours, peer=peer))
    assert guards.peer_is_better_off(turn) is better


@pytest.mark.parametrize("role", ["active", "rejoining", "standby", "failed", "switching"])
def test_what_a_peer_s_word_makes_it(role: str) -> None:
    known = turn_of(machine(Phase.STANDBY, peer=view(role)))
    unknown = turn_of(machine(Phase.STANDBY))
    for guard, roles in (
        (guards.peer_is_active, {"active", "rejoining"}),
        (guards.peer_is_rejoining, {"rejoining"}),
        (guards.peer_is_switching, {"switching"}),
        (guards.peer_has_failed, {"failed"}),
        (guards.peer_is_idle, {"standby", "failed"}),
    ):
        assert guard(known) is (role in roles), guard
        assert guard(unknown) is False, guard


@pytest.mark.parametrize(
    ("counts", "able"),
    [
        ((), True),
        ((("eth0", 1, 1), ("eth1", 1, 1)), True),
        ((("eth0", 1, 0), ("eth1", 0, 1)), True),
        ((("eth0", 0, 0), ("eth1", 1, 1)), False),
        ((("eth0", 1, 1), ("eth1", 0, 0)), False),
    ],
)
def test_a_card_that_has_heard_nothing_yet_makes_no_peer_able(
    counts: tuple[tuple[str, int, int], ...], able: bool
) -> None:
    peer = replace(view("standby"), counts=counts)
    state = machine(Phase.ASKING, interfaces=cards(eth0="fail"), peer=peer)
    assert guards.peer_is_able(turn_of(state)) is able
    unknown = turn_of(replace(state, peer=None))
    assert not guards.peer_is_able(unknown)
    assert not guards.peer_is_better_off(unknown)


@pytest.mark.parametrize(
    ("up", "heard", "every"),
    [(True, True, True), (False, True, False), (True, False, False), (False, False, False)],
)
def test_who_has_heard_all_has_them_up(up: bool, heard: bool, every: bool) -> None:
    good, other = (replace(i, heard=True) for i in cards())
    state = machine(Phase.STANDBY, interfaces=(good, replace(other, up=up, heard=heard)))
    assert guards.heard_all(turn_of(state)) is every
    assert guards.not_heard_all(turn_of(state)) is not every


@pytest.mark.parametrize("boot", ["master", "slave"])
@pytest.mark.parametrize("mresume", [False, True])
def test_only_a_boot_master_may_contact_nobody(boot: str, mresume: bool) -> None:
    rules = replace(MASTER, boot=boot, mresume=mresume)
    found = guards.contacts_nobody(turn_of(machine(Phase.NEW), rules=rules))
    assert found is (boot == "master" and not mresume)


def test_each_guard_is_called_what_it_is() -> None:
    """By that the explorer names what it breaks."""
    known = {**vars(guards), **vars(table)}
    named = {guard.__name__: guard for row in pair.ROWS for guard in row.when}
    assert {name: known.get(name, guard) for name, guard in named.items()} == named
    assert guards.negate(guards.by_boot, "by_others").__name__ == "by_others"


@pytest.mark.parametrize(
    ("role", "down", "failed", "ours", "nobody"),
    [
        ("active", "", "eth0 eth1", "", True),
        ("rejoining", "", "eth0 eth1", "", True),
        ("active", "eth0", "eth1", "", True),
        ("active", "", "eth0 eth1", "eth0", True),  # one of ours is better than none
        ("active", "", "eth0 eth1", "eth0 eth1", False),
        ("active", "", "eth0", "", False),
        ("standby", "", "eth0 eth1", "", False),
    ],
)
def test_an_active_peer_that_hears_nothing_serves_nobody(
    role: str, down: str, failed: str, ours: str, nobody: bool
) -> None:
    """In a quiet network none has failed, though none has heard a packet."""
    peer = replace(view(role, "eth0 eth1", down=down), failed=frozenset(failed.split()))
    interfaces = tuple(replace(i, up=i.name not in ours.split()) for i in cards())
    turn = turn_of(machine(Phase.STANDBY, interfaces=interfaces, peer=peer))
    assert guards.peer_serves_nobody(turn) is nobody
    assert guards.peer_may_serve(turn) is not nobody
    assert not guards.peer_serves_nobody(turn_of(machine(Phase.STANDBY)))


# ---------------------------------------------------------------------------- the link, rounds


LINK = [
    # a window of the link: silent and beats after it, for a link that was not silent or was
    ("ok", 3, False, True),
    ("ok", 1, False, True),
    ("ok", 0, False, False),
    ("boot", 3, False, True),
    ("fail", 0, True, False),
]


@pytest.mark.parametrize(("verdict", "packets", "silent", "beats"), LINK)
@pytest.mark.parametrize("before", [False, True])
def test_what_a_window_of_the_link_tells(
    verdict: str, packets: int, silent: bool, beats: bool, before: bool
) -> None:
    known = machine(Phase.ACTIVE, silent=before, beats=not beats, evidence=True)
    state, actions = at(known, pair.LinkWatched(packets, verdict))
    assert (state.silent, state.beats) == (silent, beats)
    assert state.evidence is (None if packets else True)
    assert (Purpose.COMPARE in asks(actions)) is (before and packets > 0)


def test_three_rounds_make_sure_and_two_do_not() -> None:
    state = timed(machine(Phase.CONFIRMING, cause=Cause.SILENCE), UNHEARD=5.0)
    for asked, quiet in ((1, 1), (2, 2), (3, 3), (4, 3)):
        after, actions = at(state, pair.Answers(False, asked, False))
        assert after.quiet == quiet
        assert after.evidence is False
        assert after.phase is (Phase.PROMOTING if asked >= 3 else Phase.CONFIRMING)
        assert len(of(actions, pair.Question)) == (asked < 3)
    two, _ = at(replace(state, quiet=1), pair.Answers(False, 1, False))
    assert (two.phase, two.quiet) == (Phase.CONFIRMING, 2)
    heard, _ = at(replace(state, quiet=2), pair.Answers(False, 1, True, "somebody"))
    assert (heard.quiet, heard.evidence, heard.who) == (0, True, "somebody")
    assert heard.deadline(Timer.SERVED) == NOW + 2 * WINDOW


def test_three_rounds_in_which_another_has_our_addresses_are_too_many() -> None:
    other = pair.Answers(True, 1, True)
    for claimed, after in ((0, Phase.ACTIVE), (1, Phase.ACTIVE), (2, Phase.DEMOTING)):
        state, _ = at(machine(Phase.ACTIVE, claimed=claimed), other, rules=SLAVE)
        assert state.phase is after
        assert state.claimed == claimed + 1
    for who, text in (("", ""), ("192.0.2.10 is at X", ": 192.0.2.10 is at X")):
        _, actions = at(machine(Phase.ACTIVE), pair.Answers(True, 1, True, who))
        said = [a.text for a in actions if isinstance(a, pair.Log) and a.alarm]
        assert said == [f"somebody else answers for our addresses, too{text}"]
    kept, _ = at(machine(Phase.ACTIVE, claimed=3), other)
    assert (kept.phase, kept.claimed) == (Phase.ACTIVE, 3), "the boot master keeps it"


def test_a_standstill_makes_all_that_was_known_old() -> None:
    known = timed(
        machine(
            Phase.STANDBY,
            silent=True,
            ahead=True,
            evidence=True,
            claimed=2,
            quiet=2,
            peer=view("active"),
            beats=True,
            program=2,
        ),
        **{"HEARD": 5.0, "NOBODY": 6.0, "SERVED": 7.0, "UNHEARD": 8.0},
    )
    after, actions = at(known, pair.Stalled())
    assert after == timed(machine(Phase.STANDBY), UNHEARD=8.0)
    assert of(actions, pair.Forget) == [pair.Forget(True)]


# ---------------------------------------------------------------------------- a role that was given


@pytest.mark.parametrize(
    ("from_peer", "guarded", "proved", "held", "may"),
    [
        (False, None, False, True, True),
        (True, None, False, False, False),  # it is not known yet because of which it came
        (True, None, True, True, False),
        (True, None, True, False, True),
        (True, {"eth0"}, False, False, False),
        (True, {"eth0"}, True, True, False),
        (True, {"eth0"}, True, False, True),
        (True, {"eth1"}, False, True, True),
        (True, set(), False, True, True),
    ],
)
def test_when_a_role_may_be_given_back(
    from_peer: bool, guarded: set[str] | None, proved: bool, held: bool, may: bool
) -> None:
    failed = (replace(cards(eth0="fail")[0], proved=proved), cards()[1])
    state = machine(
        Phase.ACTIVE,
        interfaces=failed,
        from_peer=from_peer,
        guarded=None if guarded is None else frozenset(guarded),
    )
    state = timed(state, HEARD=5.0, HOLD=JUST) if held else timed(state, HEARD=5.0)
    assert guards.may_hand_over(turn_of(state)) is may
    none_failed = replace(state, interfaces=cards())
    assert guards.may_hand_over(turn_of(none_failed)) is not from_peer


def test_a_role_from_the_peer_is_held_for_the_hold_down_and_another_is_not() -> None:
    for cause in Cause:
        state, _ = at(machine(Phase.PROMOTING, cause=cause), pair.Ended("script", True))
        assert state.phase is Phase.ACTIVE
        held = NOW + MASTER.hold_down if cause is Cause.PEER else None
        assert state.deadline(Timer.HOLD) == held


def test_because_of_what_it_was_given_is_asked_once_it_is_had() -> None:
    peer = replace(view("standby", "eth1"), failed=frozenset({"eth0"}))
    told = pair.Replied(Purpose.COMPARE, True, view=peer)
    for phase, from_peer, guarded, after in (
        (Phase.ACTIVE, True, None, {"eth0", "eth1"}),
        (Phase.ACTIVE, True, frozenset({"eth9"}), {"eth9"}),
        (Phase.ACTIVE, False, None, None),
        (Phase.PROMOTING, True, None, None),
    ):
        state = machine(phase, from_peer=from_peer, guarded=guarded)
        found = at(state, told)[0].guarded
        assert found == (None if after is None else frozenset(after)), phase
        untold = pair.Replied(Purpose.COMPARE, False, "busy")
        assert at(state, untold)[0].guarded == guarded


# ---------------------------------------------------------------------------- who runs, who waits


@pytest.mark.parametrize(("runs", "number"), [(0, 1), (1, 2), (2, 3), (3, 1)])
def test_each_run_of_a_program_has_a_number_of_its_own(runs: int, number: int) -> None:
    """By it the word about an earlier silence is told from that about this one."""
    fencing = replace(NO_ADDRESSES, fence=True, confirm="none")
    asking = replace(MASTER, confirm="program")
    silent = timed(machine(Phase.STANDBY, runs=runs), UNHEARD=9.0)
    for rules, kind in ((fencing, "fence"), (asking, "confirm")):
        state, actions = at(silent, pair.LinkWatched(0, "fail"), rules=rules)
        assert of(actions, pair.RunProgram) == [pair.RunProgram(kind, number)]
        assert (state.program, state.runs) == (number, number)


def test_what_a_run_for_the_role_makes_good_is_not_known_any_more() -> None:
    idle_peer = pair.Replied(Purpose.STATUS, True, view=view("standby"))
    bare, actions = at(machine(Phase.REJOINING, bare=True), idle_peer)
    assert (bare.phase, bare.bare, scripts(actions)) == (Phase.PROMOTING, False, ["master"])
    stalled, actions = at(machine(Phase.DOUBTING, stalled=True), idle_peer)
    assert (stalled.phase, stalled.stalled) == (Phase.PROMOTING, False)
    assert of(actions, pair.RunScript) == [pair.RunScript("master", Cause.BOOT.value)]


def test_until_when_a_person_waits_counts_from_the_first() -> None:
    by_peer, _ = at(timed(machine(Phase.PROMOTING)), pair.Request(1, "fail", True))
    assert by_peer.waiting == ((1, True),)
    assert by_peer.deadline(Timer.PATIENCE) is None, "the peer knows how long a switch may take"
    first, _ = at(by_peer, pair.Request(2, "fail", False), 1.0)
    assert first.deadline(Timer.PATIENCE) == NOW + 1.0 + MASTER.patience
    second, _ = at(first, pair.Request(3, "fail", False), 2.0)
    assert second.waiting == ((1, True), (2, False), (3, False))
    assert second.deadline(Timer.PATIENCE) == NOW + 1.0 + MASTER.patience
    full = replace(second, waiting=tuple((n, True) for n in range(acts.MAX_WAITING)))
    after, actions = at(full, pair.Request(99, "fail", False), 3.0)
    assert after == full
    assert answers(actions) == [(99, False, "busy")]


def test_the_peer_s_error_is_ours_and_is_said() -> None:
    refused = pair.Replied(Purpose.RESUME, False, "its own words")
    state, actions = at(machine(Phase.CALLING, waiting=((7, False),)), refused)
    assert state.phase is Phase.STANDBY
    assert answers(actions) == [(7, False, "its own words")]
    said = [action for action in actions if isinstance(action, pair.Log)]
    assert [one.text for one in said if one.alarm] == ["the peer refused: its own words"]


def test_each_act_that_is_made_is_called_what_it_does() -> None:
    made = [acts.ask(Purpose.FAIL), acts.run_program("fence"), acts.settle(True, "active")]
    made += [acts.refuse("no"), acts.say("words"), acts.say_once("words")]
    names = ["ask_fail", "run_fence", "settle", "settle", "say", "say_once"]
    assert [act.__name__ for act in made] == names


MARKS: dict[str, dict[str, object]] = {
    "mark_failed": {"failed": True, "resuming": False},
    "mark_unclean": {"unclean": True},
    "mark_clean": {"unclean": False},
    "mark_resuming": {"resuming": True},
    "stop_resuming": {"resuming": False},
    "mark_stalled": {"stalled": True},
    "end_claim": {"claimed": 0},
    "note_giver": {"from_peer": True, "guarded": None},
    "stop_nobody": {"deferred": False},
    "leave_role": {
        **{"claimed": 0, "from_peer": False, "guarded": None},
        **{"stalled": False, "bare": False, "deferred": False},
    },
}


@pytest.mark.parametrize("name", MARKS)
@pytest.mark.parametrize("before", [False, True])
def test_what_is_noted_and_nothing_else(name: str, before: bool) -> None:
    known: dict[str, object] = dict.fromkeys(
        ("failed", "unclean", "resuming", "stalled", "from_peer", "deferred", "bare"), before
    )
    guarded = frozenset({"eth0"}) if before else None
    state = timed(machine(Phase.ACTIVE, claimed=2 * before, guarded=guarded, **known))
    turn = turn_of(state)
    getattr(acts, name)(turn)
    assert turn.state == replace(state, **MARKS[name])  # type: ignore[arg-type]
    assert not of(turn.actions, pair.RunScript, pair.Announce, pair.Ask)


def test_whoever_wants_to_hand_over_begins_with_no_counts() -> None:
    old = (("eth0", 5, 5),)
    state = machine(Phase.ACTIVE, counts=old, latest=old)
    asking, actions = at(state, pair.Watched("eth0", 0, 0, "fail"))
    assert (asking.phase, asking.counts, asking.latest) == (Phase.ASKING, (), ())
    assert asking.deadline(Timer.GIVE_UP) == NOW + MASTER.proof_time
    assert Purpose.STATUS in asks(actions)


@pytest.mark.parametrize(
    ("phase", "event", "kept"),
    [
        (Phase.INQUIRING, LEAVES[0][1], True),
        (Phase.CALLING, pair.Replied(Purpose.RESUME, False, "busy"), False),
        (Phase.CONFIRMING, pair.LinkWatched(1, "ok"), False),
    ],
)
def test_what_was_asked_ahead_counts_only_for_who_went_no_further_than_to_inquire(
    phase: Phase, event: pair.Event, kept: bool
) -> None:
    state, actions = at(machine(phase, quiet=2, evidence=False, silent=True), event)
    assert state.phase is Phase.STANDBY
    expected = (2, None if isinstance(event, pair.LinkWatched) else False) if kept else (0, None)
    assert (state.quiet, state.evidence) == expected
    assert Purpose.COMPARE in asks(actions)
    assert state.deadline(Timer.COMPARE) is None


def test_a_standstill_is_over_when_the_role_is_known_to_be_ours() -> None:
    state, _ = at(machine(Phase.REJOINING, stalled=True), STATUS)
    assert (state.phase, state.stalled) == (Phase.ACTIVE, False)


# ---------------------------------------------------------------------------- becoming what it is


def test_what_an_active_machine_begins_with() -> None:
    before = machine(
        Phase.PROMOTING,
        interfaces=(replace(cards()[0], up=False), cards()[1]),
        failed=True,
        resuming=True,
        unclean=True,
        claimed=2,
        quiet=2,
        evidence=True,
        deferred=True,
        blocked="what was in the way",
    )
    state, actions = at(before, pair.Ended("script", True))
    assert state.phase is Phase.ACTIVE
    assert not any((state.failed, state.resuming, state.unclean, state.deferred, state.blocked))
    assert (state.claimed, state.quiet, state.evidence) == (0, 0, None)
    assert [i.unasked for i in state.interfaces] == [True, False]
    assert of(actions, pair.Announce)
    assert Purpose.COMPARE in asks(actions)
    assert not of(actions, pair.Question), "the peer is heard: it is asked itself"
    _, actions = at(timed(before), pair.Ended("script", True))
    assert [action.own for action in actions if isinstance(action, pair.Question)] == [True]


def test_watchers_begin_again_and_a_standby_s_verdict_is_none_on_an_active_machine() -> None:
    fail = tuple(replace(i, proved=True) for i in cards(eth0="fail"))
    new = [pair.Interface(name, heard=False) for name in MASTER.interfaces]
    promoted, actions = at(machine(Phase.PROMOTING, interfaces=fail), pair.Ended("script", True))
    assert list(promoted.interfaces) == new
    assert of(actions, pair.RestartWatchers)
    left = machine(Phase.DEMOTING, cause=Cause.BOOT, interfaces=fail)
    demoted, actions = at(left, pair.Ended("script", True))
    assert list(demoted.interfaces) == [replace(fail[0], proved=False), new[1]]
    assert of(actions, pair.RestartWatchers)


def test_whoever_stood_still_while_its_script_ran_asks_before_it_announces() -> None:
    state, actions = at(machine(Phase.PROMOTING, stalled=True), pair.Ended("script", True))
    assert state.phase is Phase.REJOINING
    assert not of(actions, pair.Announce)
    assert Purpose.STATUS in asks(actions)
    assert of(actions, pair.Question)


def test_who_waits_is_answered_once_and_no_more_is_waited_for() -> None:
    waiting = ((7, False), (8, True))
    state = timed(machine(Phase.PROMOTING, waiting=waiting), HEARD=5.0, PATIENCE=9.0)
    after, actions = at(state, pair.Ended("script", True))
    assert answers(actions) == [(7, True, "active"), (8, True, "active")]
    assert (after.waiting, after.deadline(Timer.PATIENCE)) == ((), None)
    leaving = machine(Phase.DEMOTING, cause=Cause.PERSON, waiting=waiting)
    telling, actions = at(leaving, pair.Ended("script", True))
    assert answers(actions) == [(8, True, "standby")]
    assert telling.waiting == ((7, False),)


@pytest.mark.parametrize("phase", STANDING_BY)
def test_a_standby_announces_nothing_and_is_none(phase: Phase) -> None:
    assert pair.announceable(machine(phase)) == ()
