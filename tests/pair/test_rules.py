"""The small rules of the pair: who is bad, able and first, what proves what, when and how long.

Each line is a boundary that one wrong constant, comparison or order would move: what is true just
before a deadline and no more at it, and when everything that is asked is asked.
"""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from one_node import (
    ALONE,
    MASTER,
    MOMENTS,
    NOW,
    REACHED,
    ROLES,
    SLAVE,
    Known,
    counting,
    deadline,
    done,
    is_alarm,
    judged,
    moment,
    node,
    step,
    view,
    words,
)

from failoverd import conf, pair
from failoverd.log import quoted
from failoverd.master.queries import is_forgotten
from failoverd.pair import PeerView, Phase, Posture, Purpose, Query, Timer, compare
from failoverd.pair.policy import Finding
from failoverd.wire import protocol

WINDOW, ROUND, HEARTBEAT = MASTER.window, MASTER.round, MASTER.heartbeat
JUST = 0.001
SHORT = replace(MASTER, window=0.3, card_window=0.2, status_timeout=1.0)
NO_ADDRESSES = replace(MASTER, addressed=frozenset(), confirm="none")
WAITING = ((7, False),)
STATUS = {role: pair.Replied(Query.STATUS, True, view=view(role)) for role in ROLES}
COMPARED = {role: pair.Replied(Query.COMPARE, True, view=view(role)) for role in ROLES}
NO_STATUS, UNCOMPARED = pair.Unreplied(Query.STATUS), pair.Unreplied(Query.COMPARE)
SILENT, BEATS = pair.LinkWatched(0, "fail"), pair.LinkWatched(9, "ok")
UNANSWERED, ANSWERED = pair.Answers(False, 3, False), pair.Answers(False, 3, True)
NOT_ASKED = pair.Answers(False, 0, False)
OURS_TAKEN, OURS_FREE = pair.Answers(True, 1, True), pair.Answers(True, 1, False)
DOWN = tuple(replace(i, up=False) for i in judged())
SERVING = ("active", "interface", "check", "release")
HOLDING = (*SERVING, "doubt")


def timed(state: pair.State, **timers: float) -> pair.State:
    """With these deadlines, in seconds after NOW, and no others."""
    pairs = tuple((timer, NOW + timers[timer.name]) for timer in Timer if timer.name in timers)
    return replace(state, timers=pairs)


def left(state: pair.State) -> dict[str, float]:
    """Seconds after NOW of every deadline, but for those of the exchanges."""
    asks = ("HEARD", "UNHEARD", "WORDLESS", "COMPARE")
    return {timer.name: at - NOW for timer, at in state.timers if timer.name not in asks}


def said(
    state: pair.State, event: pair.Event, rules: pair.Rules = MASTER, after: float = 0.0
) -> list[pair.Log]:
    _, actions = pair.step(state, event, rules, NOW + after)
    return [action for action in actions if isinstance(action, pair.Log)]


def alarms(state: pair.State, event: pair.Event, rules: pair.Rules = MASTER) -> list[str]:
    return [words(line) for line in said(state, event, rules) if is_alarm(line)]


def probes(actions: list[pair.Action]) -> list[pair.Probe]:
    return [action for action in actions if isinstance(action, pair.Probe)]


# ---------------------------------------------------------------------------- words


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
        ("fail", 0, 1, False),
    ],
)
def test_who_is_bad_at_the_peer(state: str, packets: int, last: int, bad: bool) -> None:
    assert protocol.is_bad(state, packets, last) is bad


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


POSTURES = {
    Posture.IDLE: "idle",
    Posture.SEEKING: "boot, nobody, operator, silence, relief, fencing",
    Posture.CALLING: "calling, call lost",
    Posture.PROMOTING: "promoting",
    Posture.SERVING: "active, interface, check, release",
    Posture.DOUBTING: "doubt",
    Posture.DEMOTING: "demoting",
    Posture.GIVING: "giving, gift lost",
}
WORDS = {
    "standby": "idle, boot, nobody, operator, silence, relief, fencing",
    "active": "active, interface, check, release, doubt",
    "switching": "calling, call lost, promoting, demoting, giving, gift lost",
}


def test_what_each_moment_is_to_others() -> None:
    """A script that has failed shows where there is nothing else to tell."""
    postures = {name: one for one, names in POSTURES.items() for name in names.split(", ")}
    assert {name: node(name).posture for name in MOMENTS} == postures
    told = {name: word for word, names in WORDS.items() for name in names.split(", ")}
    assert {name: pair.role(node(name)) for name in MOMENTS} == told
    told |= {name: "failed" for name in MOMENTS if told[name] == "standby"}
    assert {name: pair.role(node(name, unclean=True)) for name in MOMENTS} == told
    told |= dict.fromkeys(("giving", "gift lost"), "failed")  # it could not take the role
    assert {name: pair.role(node(name, failed=True)) for name in MOMENTS} == told
    seeking = {name for name in MOMENTS if pair.seeks(node(name))}
    assert seeking == {"boot", "nobody", "operator", "relief"}
    assert [name for name in MOMENTS if pair.is_rejoining(node(name))] == ["doubt"]


@pytest.mark.parametrize("name", MOMENTS)
def test_whether_it_is_known_that_a_node_serves(name: str) -> None:
    us = name in HOLDING
    for role, reached, asked, served in (
        (None, True, False, us),
        ("active", True, False, True),
        ("rejoining", True, False, True),
        ("active", False, False, us),  # it was, when it was reached last
        ("standby", True, False, us),
        ("standby", True, True, True),
        (None, False, True, True),
    ):
        timers = {timer: 1.0 for timer, runs in (("HEARD", reached), ("SERVED", asked)) if runs}
        state = node(name, peer=None if role is None else view(role))
        assert pair.is_served(timed(state, **timers)) is served, (role, reached, asked)


def test_a_node_before_its_begin_knows_nothing() -> None:
    new = pair.initial(MASTER)
    odd = {"phase", "purpose", "interfaces"}
    assert {name for name, value in vars(new).items() if value} == odd
    assert new.interfaces == tuple(pair.Interface(name) for name in MASTER.interfaces)
    assert pair.next_deadline(new) is None
    assert pair.next_deadline(timed(new, HOLD=3.0, RETRY=2.0, NEWS=4.0)) == NOW + 2.0
    assert not pair.step(new, pair.Carrier("eth0", True), MASTER, NOW)[0].mute


def test_a_new_configuration_keeps_what_is_known() -> None:
    state = node("active")
    after = pair.adapt(state, MASTER, replace(MASTER, interfaces=("eth1", "eth2")))
    assert after.interfaces == (judged()[1], pair.Interface("eth2"))
    assert after.phase is Phase.ACTIVE
    assert after.timers == state.timers


def test_what_an_operator_has_set_to_last_ends_by_the_new_configuration() -> None:
    """A long $failback or $hold_down is shortened, or made longer, for what has begun already."""
    old = replace(MASTER, failback=3600.0, hold_down=600.0)
    state = timed(node("active"), HOLD=500.0, UNWELL=3000.0, RETRY=1.0)
    for failback, hold_down, now in (
        (900.0, 120.0, {"UNWELL": 300.0, "HOLD": 20.0}),
        (7200.0, 900.0, {"UNWELL": 6600.0, "HOLD": 800.0}),
        (0.0, 0.0, {"UNWELL": -600.0, "HOLD": -100.0}),
        (None, 600.0, {"UNWELL": -600.0, "HOLD": 500.0}),
    ):
        after = pair.adapt(state, old, replace(old, failback=failback, hold_down=hold_down))
        assert left(after) == {"RETRY": 1.0, **now}


def test_a_reload_does_not_wait_long_for_the_next_comparison() -> None:
    """It was to come after an old $plip_hbeat."""
    state = timed(node("idle"), COMPARE=60.0)
    after, actions = step(state, pair.Reread())
    compares = [a for a in actions if isinstance(a, pair.Ask) and a.query is Query.COMPARE]
    assert len(compares) == 1 and not after.runs_out(Timer.COMPARE)
    assert not any(isinstance(a, pair.Ask) for a in step(after, pair.Reread())[1])  # under way


def test_other_settings_end_what_is_asked_under_the_old_ones() -> None:
    for name in MOMENTS:
        waits = () if name in ("idle", "active") else WAITING
        state, actions = step(node(name, waiting=waits), pair.Reread())
        ended = name == "silence"
        assert moment(state) == ("idle" if ended else name)
        assert done(actions) == ("7 error: the configuration was read again" if ended else "")


def test_what_waits_behind_the_event_that_drops_its_query_is_dropped_too() -> None:
    reply, own = pair.Replied(Query.FAIL, True), pair.Answers(True, 1, False)
    waiting: list[pair.Event] = [NO_STATUS, UNCOMPARED, reply, UNANSWERED, own, BEATS]
    for probes_too, kept in (
        (False, [UNCOMPARED, UNANSWERED, own, BEATS]),
        (True, [UNCOMPARED, BEATS]),
    ):
        forget = pair.Forget(probes_too)
        assert [e for e in waiting if not is_forgotten(e, forget)] == kept


# ---------------------------------------------------------------------------- who comes first


@pytest.mark.parametrize(
    ("failed", "peer", "able"),
    [
        ("eth0", view("standby"), True),
        ("eth0", view("standby", "eth1"), False),  # as many bad ones as are here
        ("eth0 eth1", view("standby", "eth1"), True),
        ("eth0", view("standby", "eth0"), False),
        ("", view("standby"), False),
        ("eth0", None, False),
        *(("eth0", view(role), False) for role in ROLES if role != "standby"),
        ("eth0", counting(1, 1), True),
        ("eth0", counting(1, 0), True),
        ("eth0", counting(0, 1), True),
        ("eth0", counting(0, 0), False),  # it has received nothing yet
        ("eth0", replace(counting(1, 1), counts=(("eth0", 1, 1), ("eth1", 0, 0))), False),
    ],
)
def test_who_is_able(failed: str, peer: PeerView | None, able: bool) -> None:
    ours = judged(**dict.fromkeys(failed.split(), "fail"))
    state = node("interface", interfaces=ours, peer=peer)
    assert compare.peer_is_able(state, MASTER) is able


LEAST = replace(view("failed", "a b c"), boot="slave")  # of all peers, but for its address
SILENT_INTERFACE = (pair.Interface("eth0", "ok"), judged()[1])
ORDER = [
    # ours, the rules, the peer; who yields
    ({}, MASTER, view("active"), False),
    ({"interfaces": judged(eth0="fail")}, MASTER, view("active"), False),  # it receives still
    ({"interfaces": SILENT_INTERFACE}, MASTER, view("active"), True),  # before the preferred node
    ({"failed": True}, MASTER, view("standby", "eth0 eth1"), True),  # failed is last
    ({"unclean": True}, MASTER, view("failed"), False),
    ({}, MASTER, view("failed"), False),
    ({}, MASTER, view("active", boot="master"), False),  # the lower address
    ({}, replace(MASTER, precedes=False), view("active", boot="master"), True),
    ({}, replace(MASTER, precedes=False), view("active"), False),
    ({}, replace(MASTER, precedes=False), None, True),
    ({}, MASTER, None, False),
    # each reason outweighs all that follow
    ({"failed": True}, MASTER, replace(LEAST, role="active"), True),
    ({"unclean": True}, MASTER, replace(LEAST, role="active"), True),
    ({"interfaces": DOWN}, MASTER, replace(LEAST, role="active", bad=frozenset({"a"})), True),
    ({}, replace(MASTER, boot="slave"), view("active", boot="master"), True),
    ({}, SLAVE, view("active", boot="slave"), True),
]


@pytest.mark.parametrize(("ours", "rules", "peer", "yields"), ORDER)
def test_who_comes_first(
    ours: Known, rules: pair.Rules, peer: PeerView | None, yields: bool
) -> None:
    assert compare.yields(node("active", peer=peer, **ours), rules) is yields


@given(
    *(st.booleans() for _ in range(2)),
    *(st.sampled_from(["master", "slave"]) for _ in range(2)),
    *(st.sets(st.sampled_from(MASTER.interfaces)) for _ in range(2)),
)
@settings(deadline=None)
def test_of_two_nodes_exactly_one_comes_first(
    failed_a: bool, failed_b: bool, boot_a: str, boot_b: str, bad_a: set[str], bad_b: set[str]
) -> None:
    def second(failed: bool, rules: pair.Rules, bad: set[str], peer: PeerView) -> list[bool]:
        interfaces = tuple(pair.Interface(n, "ok", packets=n not in bad) for n in MASTER.interfaces)
        state = node("idle", failed=failed, interfaces=interfaces, peer=peer)
        return [compare.yields(state, rules), compare.peer_outranks(state, rules)]

    def seen(failed: bool, boot: str, bad: set[str]) -> PeerView:
        return PeerView("failed" if failed else "standby", boot, frozenset(bad))

    a = second(failed_a, replace(MASTER, boot=boot_a), bad_a, seen(failed_b, boot_b, bad_b))
    b = second(failed_b, replace(SLAVE, boot=boot_b), bad_b, seen(failed_a, boot_a, bad_a))
    assert [one is not other for one, other in zip(a, b, strict=True)] == [True, True]


@pytest.mark.parametrize(
    ("boot", "precedes", "peer", "outranks"),
    [
        ("master", False, view("active"), False),
        ("slave", True, view("active", boot="master"), True),
        ("master", True, view("active", "a b", boot="master"), False),
        ("master", False, view("failed", "a b", boot="master"), True),  # what changes is no matter
        ("slave", False, None, True),
        ("slave", True, None, False),
    ],
)
def test_of_two_that_call_each_other_one_is_the_higher(
    boot: str, precedes: bool, peer: PeerView | None, outranks: bool
) -> None:
    rules = replace(MASTER, boot=boot, precedes=precedes)
    assert compare.peer_outranks(node("calling", peer=peer, failed=True), rules) is outranks


@pytest.mark.parametrize(
    ("heard", "bad_here", "bad_there", "fit"),
    [
        ("eth0 eth1", "", "", True),
        ("eth0 eth1", "", "eth0", True),
        ("eth0 eth1", "eth0", "", False),
        ("eth0 eth1", "eth0", "eth1", True),
        ("eth0", "", "eth0 eth1", False),
    ],
)
def test_who_is_fit_to_take_its_role_back(
    heard: str, bad_here: str, bad_there: str, fit: bool
) -> None:
    interfaces = tuple(
        replace(i, heard=i.name in heard, packets=9 * (i.name not in bad_here), last=0)
        for i in judged()
    )
    state = node("boot", interfaces=interfaces, peer=view("active", bad_there))
    assert compare.is_fit(state, MASTER) is fit
    assert not compare.is_fit(replace(state, peer=None), MASTER)
    down = (replace(interfaces[0], up=False), interfaces[1])
    assert not compare.is_fit(replace(state, interfaces=down), MASTER)


@pytest.mark.parametrize(
    ("role", "theirs", "ours", "better"),
    [
        ("active", "eth0 eth1", "", True),
        ("rejoining", "eth0 eth1", "", True),
        ("active", "eth0", "", True),
        ("active", "eth0 eth1", "eth0", True),
        ("active", "eth0 eth1", "eth0 eth1", False),
        ("active", "eth0", "eth1", False),  # either is as good
        ("active", "", "", False),
        ("active", "http!", "", True),
        ("active", "http!", "http!", False),
        ("active", "eth0 http!", "http!", True),
        ("active", "eth0 eth0!", "eth1", True),  # a check may have the name of an interface
        ("active", "eth0", "http!", False),
        ("active", "eth9", "", False),  # that one is not in @interfaces here
        ("standby", "eth0 eth1", "", False),
    ],
)
def test_who_is_better_off_than_an_active_peer_that_wants_relief(
    role: str, theirs: str, ours: str, better: bool
) -> None:
    def parts(text: str) -> tuple[str, str]:
        checks = " ".join(name[:-1] for name in text.split() if name.endswith("!"))
        return " ".join(name for name in text.split() if not name.endswith("!")), checks

    (bad_there, checks_there), (bad_here, checks_here) = parts(theirs), parts(ours)
    peer = view(role, failed=bad_there, checks=checks_there, wants_relief=True)
    interfaces = tuple(
        replace(i, verdict="fail", packets=0, last=5) if i.name in bad_here.split() else i
        for i in judged()
    )
    state = node("idle", interfaces=interfaces, peer=peer, checks=frozenset(checks_here.split()))
    assert compare.is_better(state, MASTER) is better
    assert not compare.is_better(replace(state, peer=None), MASTER)
    assert not compare.is_better(replace(state, peer=replace(peer, wants_relief=False)), MASTER)
    assert not compare.is_better(replace(state, failed=True), MASTER)
    assert not compare.is_better(replace(state, unclean=True), MASTER)
    down = replace(peer, failed=frozenset(), down=peer.failed)
    assert compare.is_better(replace(state, peer=down), MASTER) is better


@pytest.mark.parametrize(
    ("known", "better"),
    [
        ({"verdict": "boot"}, False),
        ({"verdict": "fail", "packets": 0, "last": 5}, False),
        ({"verdict": "ok", "packets": 0, "last": 0}, False),
        ({"up": False}, False),
        ({"verdict": "fail", "packets": 1}, True),  # $low_water is not for a standby
        ({"verdict": "ok", "packets": 0, "last": 1}, True),
    ],
)
def test_what_has_received_nothing_lately_here_is_no_reason_to_take_the_role(
    known: Known, better: bool
) -> None:
    peer = view("active", failed="eth0", wants_relief=True)
    first = replace(judged()[0], **known)  # type: ignore[arg-type]
    state = node("idle", interfaces=(first, judged()[1]), peer=peer)
    assert compare.is_better(state, MASTER) is better


def test_a_check_that_has_no_result_here_is_no_better() -> None:
    peer = view("active", failed="eth0", wants_relief=True)
    rules = replace(MASTER, everywhere=frozenset({"http"}))
    for tried in (frozenset[str](), frozenset({"http"})):
        state = node("idle", peer=peer, tried=tried)
        assert compare.is_better(state, rules) is bool(tried)
        assert compare.is_better(state, MASTER)


@pytest.mark.parametrize(
    ("moment", "known", "wants"),
    [
        ("active", {}, False),
        ("active", {"interfaces": judged(eth0="fail")}, True),
        ("interface", {"interfaces": judged(eth0="fail")}, True),
        ("active", {"checks": frozenset({"http"})}, True),
        ("active", {"interfaces": judged(eth0="fail"), "held": True}, False),
        ("active", {"interfaces": judged(eth0="fail"), "from_peer": True}, False),  # hold-down
        ("active", {"interfaces": DOWN}, True),
        ("active", {"interfaces": DOWN, "from_peer": True}, True),  # it receives nothing at all
        ("active", {"interfaces": judged(eth0="fail"), "timers": REACHED}, False),
        ("doubt", {"interfaces": judged(eth0="fail")}, False),
        ("idle", {"interfaces": judged(eth0="fail")}, False),
    ],
)
def test_who_wants_relief(moment: str, known: Known, wants: bool) -> None:
    assert pair.wants_relief(node(moment, **{"timers": (), **known})) is wants


@pytest.mark.parametrize(
    ("down", "names", "carrier"),
    [
        ("", "eth0 eth1", True),
        ("eth0", "eth0 eth1", True),
        ("eth0 eth1", "eth0 eth1", False),
        ("eth0 eth1 eth2", "eth0 eth1", False),
        ("eth0", "", True),
    ],
)
def test_a_person_may_give_the_role_to_one_with_an_interface_that_is_up(
    down: str, names: str, carrier: bool
) -> None:
    rules = replace(MASTER, interfaces=tuple(names.split()))
    state = node("release", peer=view("standby", down, down=down))
    assert compare.peer_has_carrier(state, rules) is carrier
    assert not compare.peer_has_carrier(replace(state, peer=None), rules)


@pytest.mark.parametrize(
    ("interfaces", "addressed", "up"),
    [
        (judged(), {"eth0"}, True),
        ((DOWN[0], judged()[1]), {"eth0"}, False),
        ((DOWN[0], judged()[1]), {"eth0", "eth1"}, True),
        ((DOWN[0], judged()[1]), set(), True),
        (DOWN, {"eth0", "eth1"}, False),
        (DOWN, set(), False),
    ],
)
def test_one_interface_that_is_up_is_enough_to_serve_on(
    interfaces: tuple[pair.Interface, ...], addressed: set[str], up: bool
) -> None:
    rules = replace(MASTER, addressed=frozenset(addressed))
    assert compare.is_up(node("idle", interfaces=interfaces), rules) is up


# ---------------------------------------------------------------------------- reached

EXCHANGES: list[pair.Event] = [
    STATUS["standby"],
    pair.Replied(Query.STATUS, True, "no status"),
    COMPARED["active"],
    pair.Replied(Query.FAIL, False, "busy"),
    pair.Replied(Query.RESUME, True, "standby"),
]


@pytest.mark.parametrize("event", EXCHANGES, ids=str)
@pytest.mark.parametrize("rules", [MASTER, SHORT], ids=["long", "short"])
def test_a_peer_is_reached_for_one_window_after_it_has_answered(
    event: pair.Event, rules: pair.Rules
) -> None:
    for name in ("idle", "active"):
        state, _ = step(node(name, **ALONE), event, rules)
        assert deadline(state, Timer.HEARD) == NOW + rules.window
        assert deadline(state, Timer.UNHEARD) == NOW + rules.wordless_time
        assert step(state, pair.Tick(), rules, rules.window - JUST)[0].heard
        assert not step(state, pair.Tick(), rules, rules.window)[0].heard


NOT_REACHED: list[pair.Event] = [
    NO_STATUS,
    UNCOMPARED,
    BEATS,
    ANSWERED,
    OURS_TAKEN,
    *(pair.Request(7, command, who) for command in ("fail", "resume") for who in (True, False)),
]


@pytest.mark.parametrize("event", NOT_REACHED, ids=str)
def test_nothing_else_makes_a_peer_reached(event: pair.Event) -> None:
    for name in ("idle", "active", "calling", "silence"):
        state, _ = step(node(name, **ALONE), event)
        assert not state.heard and deadline(state, Timer.UNHEARD) is None, name


@pytest.mark.parametrize(
    ("name", "interfaces", "served", "mute"),
    [
        ("idle", judged(), False, True),
        ("idle", judged(), True, False),  # it finds the service answered for
        ("idle", DOWN, True, True),
        ("active", judged(), False, False),
        ("active", judged(eth0="fail"), False, False),
        ("active", judged(eth0="fail", eth1="fail"), False, True),
        ("active", DOWN, False, True),  # with $low_water 0 no window fails
        ("active", DOWN, True, True),
        ("active", (DOWN[0], judged(eth1="fail")[1]), False, True),
        ("active", (), False, False),
        ("doubt", judged(), False, False),
        ("doubt", DOWN, False, True),
        ("promoting", judged(), False, True),
    ],
)
def test_who_neither_serves_nor_is_reached_sends_no_heartbeats(
    name: str, interfaces: tuple[pair.Interface, ...], served: bool, mute: bool
) -> None:
    """From two windows without an exchange on, and until the next one."""
    on, off = [pair.Heartbeats(True)], [pair.Heartbeats(False)]
    spoken, _ = step(node(name, interfaces=interfaces, **ALONE), UNCOMPARED)
    state = timed(node(name, interfaces=interfaces), UNHEARD=JUST, HEARD=JUST)
    if served:
        state = replace(state, timers=(*state.timers, (Timer.SERVED, NOW + 99)))
    assert not step(state, pair.Tick())[0].mute
    after, actions = step(state, pair.Tick(), MASTER, JUST)
    assert after.mute is mute
    assert [a for a in actions if isinstance(a, pair.Heartbeats)] == off * mute
    for event in (pair.LinkWatched(0, "late"), pair.Carrier("eth9", False)):  # once only
        assert not any(isinstance(a, pair.Heartbeats) for a in step(after, event)[1])
    again, actions = step(after, COMPARED["switching"])
    assert not again.mute and [a for a in actions if isinstance(a, pair.Heartbeats)] == on * mute
    assert spoken.mute is (mute and not served) or served


def test_two_windows_without_an_answer_are_long_also_after_the_start() -> None:
    began, _ = step(pair.initial(SLAVE), pair.Started("standby"), SLAVE)
    assert deadline(began, Timer.UNHEARD) == NOW + SLAVE.wordless_time == NOW + 2 * WINDOW
    assert not step(began, pair.Tick(), SLAVE, 2 * WINDOW - JUST)[0].mute
    assert step(began, pair.Tick(), SLAVE, 2 * WINDOW)[0].mute


@pytest.mark.parametrize("name", ["idle", "active"])
def test_heartbeats_without_words(name: str) -> None:
    """Its heartbeats come in, and its port has not answered for too long."""
    for beats, unreached, begun in ((True, 0.0, True), (False, 0.0, True), (True, JUST, True)):
        state, _ = step(timed(node(name, beats=beats), UNHEARD=unreached), pair.Tick())
        assert pair.is_speechless(state) is (beats and unreached == 0.0)
        assert not pair.is_speechless(step(state, COMPARED["active"])[0])
        assert not pair.is_speechless(replace(state, begun=False)), begun


def test_one_that_exchanges_no_words_asks_on_the_service_network_and_is_not_mute() -> None:
    state = node("idle", beats=True, mute=True, **ALONE)
    assert not probes(step(state, UNCOMPARED, NO_ADDRESSES)[1])
    assert not probes(step(replace(state, beats=False), UNCOMPARED)[1])
    state, actions = step(state, UNCOMPARED)
    assert done(actions) == "ask 1"
    state, actions = step(state, UNCOMPARED)  # refused at once, before the probe is answered
    assert not probes(actions)
    state, actions = step(state, ANSWERED)
    assert pair.is_served(state) and pair.Heartbeats(True) in actions
    later = deadline(state, Timer.SERVED)
    assert later == NOW + MASTER.wordless_time
    state, actions = step(state, pair.Tick(), MASTER, MASTER.wordless_time)
    assert not pair.is_served(state) and pair.Heartbeats(False) in actions


@pytest.mark.parametrize("window", [0.3, 0.6, 1.0, 2.0, 5.0, 11.0])
def test_heartbeats_go_on_until_it_is_probed_again_who_answers(window: float) -> None:
    """A preferred node beside an active peer that it cannot reach waits, queries it, and probes."""
    timeout = max(1.0, min(5.0, window))
    rules = replace(MASTER, window=window, heartbeat=window / 3, status_timeout=timeout)
    waiting = node("boot", resuming=True, unanswered=True, asking=True, **ALONE)
    state, _ = step(waiting, ANSWERED, rules)
    assert moment(state) == "idle" and not state.mute
    state, _ = step(state, pair.Tick(), rules, window + timeout + rules.round + JUST)
    assert moment(state) == "boot" and pair.is_served(state) and not state.mute


# ---------------------------------------------------------------------------- start, standstill


@pytest.mark.parametrize(
    ("rules", "was", "after", "wanted"),
    [
        (SLAVE, None, (Phase.DEMOTING, Purpose.CLEAN), "run slave"),
        (MASTER, None, (Phase.RESOLVING, Purpose.BOOT), "status"),
        (replace(MASTER, mresume=False), None, (Phase.PROMOTING, Purpose.BOOT), "run master"),
        (replace(SLAVE, mresume=False), None, (Phase.DEMOTING, Purpose.CLEAN), "run slave"),
        (MASTER, "active", (Phase.RESOLVING, Purpose.DOUBT), "ask 3, status"),
        (SLAVE, "active", (Phase.RESOLVING, Purpose.DOUBT), "ask 3, status"),
        (NO_ADDRESSES, "active", (Phase.RESOLVING, Purpose.DOUBT), "status"),
        (MASTER, "standby", (Phase.STANDBY, Purpose.NONE), ""),
        (SLAVE, "failed", (Phase.STANDBY, Purpose.NONE), ""),
        (MASTER, "switching", (Phase.DEMOTING, Purpose.CLEAN), "run slave"),
    ],
)
@pytest.mark.parametrize("resuming", [False, True])
@pytest.mark.parametrize("unclean", [False, True])
def test_how_it_begins(
    rules: pair.Rules,
    was: str | None,
    after: tuple[Phase, Purpose],
    wanted: str,
    resuming: bool,
    unclean: bool,
) -> None:
    state, actions = step(pair.initial(rules), pair.Started(was, resuming, unclean), rules)
    assert ((state.phase, state.purpose), done(actions)) == (after, wanted)
    assert state.failed is (was == "failed")
    wants = after[1] is Purpose.BOOT and rules.mresume
    assert (state.resuming, state.unclean) == (resuming or wants, unclean)
    assert pair.announceable(state) == ()
    idle = state.phase is Phase.STANDBY
    assert deadline(state, Timer.COMPARE) == (None if idle else NOW + HEARTBEAT), "or it asks now"
    again = idle and (resuming or unclean)
    assert left(state) == ({"RETRY": WINDOW} if again else {})
    if again:
        _later, actions = step(state, pair.Tick(), rules, WINDOW)
        assert done(actions) == ("run slave" if unclean else "status")


@pytest.mark.parametrize(
    ("name", "after", "wanted"),
    [
        ("boot", "boot", "status"),
        ("operator", "operator", "status"),
        ("calling", "operator", "status"),
        ("call lost", "operator", "status"),
        ("silence", "idle", "7 error: stalled meanwhile"),
        ("fencing", "idle", "7 error: stalled meanwhile"),
        ("promoting", "promoting", ""),
        ("demoting", "demoting", ""),
        ("active", "doubt", "ask 3, status"),
        ("interface", "doubt", "ask 3, status"),
        ("check", "doubt", "ask 3, status"),
        ("doubt", "doubt", "ask 3, status"),
        ("giving", "gift lost", "status"),
        ("gift lost", "gift lost", "status"),
    ],
)
def test_whoever_stood_still_knows_nothing_any_more(name: str, after: str, wanted: str) -> None:
    """And asks before it announces anything."""
    known: Known = {"silent": True, "taken": True, "claimed": 2, "beats": True}
    waits = () if name == "active" else WAITING
    before = node(name, waiting=waits, peer=view("standby"), **known)
    before = replace(before, timers=tuple((timer, NOW + 5) for timer in Timer))
    state, actions = step(before, pair.Stalled())
    assert (moment(state), done(actions)) == (after, wanted)
    assert pair.Forget(True) in pair.step(before, pair.Stalled(), MASTER, NOW)[1]
    assert (state.peer, state.silent, state.beats, state.claimed) == (None, False, False, 0)
    assert (state.taken, state.quiet, state.program) == (False, 0, 0)
    for timer in (Timer.HEARD, Timer.NOBODY, Timer.SERVED):
        assert deadline(state, timer) is None
    assert state.stalled is (name == "promoting")
    if after == "gift lost":  # what it told the peer may have been sent just now
        assert deadline(state, Timer.UNDER_WAY) == NOW + MASTER.arrival
        assert deadline(state, Timer.GIVE_UP) == NOW + MASTER.switch_time


DOUBT_ENDS = [
    # what comes to one in doubt that does not reach the peer; where it is then
    ([UNANSWERED], "active"),
    ([NO_STATUS], "doubt"),
    ([NO_STATUS, UNANSWERED], "active"),
    ([ANSWERED], "doubt"),  # the peer's status may still come
    ([ANSWERED, NO_STATUS], "demoting"),
    # heartbeats that come say nothing of who has the addresses: the link may be cut one way
    ([ANSWERED, BEATS, NO_STATUS], "demoting"),
    ([ANSWERED, STATUS["standby"]], "active"),
    ([STATUS["active"]], "demoting"),
    ([STATUS["switching"]], "doubt"),
    ([COMPARED["switching"], UNANSWERED], "doubt"),  # whoever is reached must be asked
    ([pair.Bare(), UNANSWERED], "promoting"),
    ([pair.Bare(), STATUS["standby"]], "promoting"),
    ([pair.Bare(), ANSWERED, NO_STATUS], "demoting"),
]


@pytest.mark.parametrize(("events", "after"), DOUBT_ENDS)
@pytest.mark.parametrize("waits", [False, True])
def test_what_ends_the_doubt(events: list[pair.Event], after: str, waits: bool) -> None:
    """With the addresses where they belong, and then whoever waits for the role is served."""
    state = node("doubt", waiting=WAITING if waits else (), **ALONE)
    for event in events:
        assert moment(state) == "doubt"
        state, actions = step(state, event)
    word = "release" if waits and after == "active" else after
    assert (state.phase.value if after in ("promoting", "demoting") else moment(state)) == (
        after if after in ("promoting", "demoting") else word
    )
    assert ("announce" in done(actions)) is (after == "active")
    assert (state.waiting == WAITING) is (waits and after != "promoting")
    unclean = node("doubt", unclean=True, **ALONE)
    assert done(step(unclean, UNANSWERED)[1]) == "run master"


def test_a_doubt_that_lasts_is_asked_about_again() -> None:
    state, _ = step(node("doubt", **ALONE), STATUS["switching"])
    assert deadline(state, Timer.RETRY) == NOW + ROUND
    assert not step(state, pair.Tick(), MASTER, ROUND - JUST)[1]
    assert done(step(state, pair.Tick(), MASTER, ROUND)[1]) == "ask 3, status"
    assert left(step(node("doubt", **ALONE), NOT_ASKED)[0]) == {}, "the peer has its time"
    blind, _ = step(node("doubt", unanswered=True, **ALONE), NOT_ASKED)
    assert left(blind) == {"RETRY": WINDOW}
    found = "no answer from the peer, and the service network cannot be asked"
    assert alarms(node("doubt", unanswered=True, **ALONE), NOT_ASKED) == [
        f'DOUBT role: asking again every window; cause="role unconfirmed" found="{found}"'
    ]
    # what is known of the network counts when the peer has not answered, and no round is lost
    waits, actions = step(node("doubt", asking=True, **ALONE), NO_STATUS)
    assert (moment(waits), done(actions)) == ("doubt", "")
    few, _ = step(node("doubt", asking=True, **ALONE), pair.Answers(False, 2, False))
    few, actions = step(few, NO_STATUS)
    assert (moment(few), done(actions)) == ("doubt", "ask 1")
    assert moment(step(few, pair.Answers(False, 1, False))[0]) == "active"
    state, _ = step(node("doubt", taken=True, **ALONE), NO_STATUS, NO_ADDRESSES)
    assert moment(state) == "active"


# ---------------------------------------------------------------------------- a person waits


def test_a_person_gets_an_answer_in_half_of_the_time_that_a_switch_may_take() -> None:
    state, _ = step(node("idle"), pair.Request(7, "fail", False))
    assert left(state) == {"PATIENCE": MASTER.switch_timeout / 2}
    again, _ = step(state, NO_STATUS)  # whoever was reached just now is asked again
    assert (moment(again), deadline(again, Timer.RETRY)) == ("operator", NOW + ROUND)
    assert step(again, UNANSWERED)[1] == []
    waited = replace(again, timers=((Timer.HEARD, NOW + 99), (Timer.PATIENCE, NOW)))
    asked, actions = step(waited, pair.Tick())
    assert (moment(asked), done(actions)) == ("operator", "ask 3")
    refused, actions = step(asked, ANSWERED)
    assert (moment(refused), done(actions).partition(":")[0]) == ("idle", "7 error")
    assert deadline(refused, Timer.PATIENCE) is None
    alone = replace(asked, timers=())
    assert done(step(alone, UNANSWERED)[1]) == "run master"


def test_whoever_asks_one_in_doubt_is_refused_for_good() -> None:
    state, _ = step(node("doubt"), pair.Request(7, "resume", False))
    state, actions = step(replace(state, timers=((Timer.PATIENCE, NOW),)), pair.Tick())
    assert (moment(state), state.waiting) == ("doubt", ())
    assert done(actions) == "7 error: it is not known yet whether the peer has the role"
    peer_waits = node("doubt", waiting=((8, True),), timers=((Timer.PATIENCE, NOW),))
    assert step(peer_waits, pair.Tick())[0].waiting == ((8, True),)


def test_until_when_a_person_waits_counts_from_the_first() -> None:
    by_peer, _ = step(node("promoting", **ALONE), pair.Request(1, "fail", True))
    assert left(by_peer) == {}, "the peer knows how long a switch may take"
    first, _ = step(by_peer, pair.Request(2, "fail", False), MASTER, 1.0)
    second, _ = step(first, pair.Request(3, "fail", False), MASTER, 2.0)
    assert second.waiting == ((1, True), (2, False), (3, False))
    assert left(second) == {"PATIENCE": 1.0 + MASTER.patience}


def test_a_person_ends_the_wish_of_a_preferred_node() -> None:
    for name in ("idle", "silence"):
        state, actions = step(node(name, resuming=True), pair.Request(7, "resume", False))
        assert (moment(state), state.resuming, done(actions)) == (name, False, "7 ok: standby")


def test_a_person_is_told_the_error_of_the_peer() -> None:
    for name, event, after, wanted in (
        ("calling", pair.Replied(Query.RESUME, False, "its words"), "idle", ""),
        ("giving", pair.Replied(Query.FAIL, False, "its words"), "promoting", ", run master"),
    ):
        before = node(name, waiting=WAITING)
        state, actions = step(before, event)
        assert (state.phase is Phase.STANDBY) is (after == "idle")
        assert done(actions) == f"7 error: its words{wanted}"
        assert alarms(before, event) == ['PEER-REFUSED peer: refused; error="its words"']
    tried = node("giving", failed=True)
    state, actions = step(tried, pair.Replied(Query.FAIL, False, "busy"))
    assert (moment(state), done(actions)) == ("idle", "begin windows")
    state, actions = step(node("giving", waiting=WAITING), pair.Replied(Query.FAIL, True))
    assert (moment(state), done(actions)) == ("idle", "7 ok: standby, begin windows")
    state, actions = step(node("calling"), pair.Replied(Query.RESUME, True))
    assert (state.phase, done(actions)) == (Phase.PROMOTING, "run master")


def test_a_role_that_cannot_be_taken_goes_back_at_once_to_the_peer_that_has_given_it() -> None:
    """It has just said that it stands by: nothing waits for two windows without an active node."""
    state = node("calling", peer=view("active"))
    for event, then in (
        (pair.Replied(Query.RESUME, True), "run master"),
        (pair.Ended("script", False), "run slave"),
        (pair.Ended("script", True), "fail"),
    ):
        state, actions = step(state, event)
        assert done(actions) == then
    assert state.phase is Phase.TOLD and pair.role(state) == "failed"


# ---------------------------------------------------------------------------- silence

PROGRAM = replace(SLAVE, confirm="program")
FENCED = replace(SLAVE, fence=True)
SILENCES: list[tuple[pair.Rules, Known, str, str]] = [
    # the rules, what the standby knows when the heartbeat is lost; where it is then, what it does
    (SLAVE, {"quiet": 3}, "promoting", "run master"),
    (SLAVE, {"quiet": 2}, "silence", "ask 1"),
    (SLAVE, {"quiet": 1}, "silence", "ask 2"),
    (SLAVE, {}, "silence", "ask 3"),
    (SLAVE, {"quiet": 2, "asking": True}, "silence", ""),  # a report that is late is waited for
    (SLAVE, {"taken": True}, "silence", "ask 1"),
    (replace(SLAVE, confirm="none"), {}, "promoting", "run master"),
    (replace(SLAVE, confirm="none"), {"taken": True}, "silence", "ask 1"),  # it stood down for it
    (PROGRAM, {}, "silence", "run confirm"),
    (PROGRAM, {"quiet": 3}, "silence", "run confirm"),
    (FENCED, {"quiet": 3}, "fencing", "run fence"),
    (FENCED, {"quiet": 1}, "silence", "ask 2"),
    (replace(FENCED, confirm="none"), {}, "fencing", "run fence"),
    (SLAVE, {"interfaces": DOWN}, "idle", "ask 3"),  # it may come up within the window
    (SLAVE, {"timers": REACHED}, "idle", "ask 3"),  # the peer's port answers
    (
        SLAVE,
        {"timers": REACHED, "peer": view("active", failed="eth0 eth1", wants_relief=True)},
        "idle",
        "ask 3",  # it stops its heartbeats itself: they prove nothing more
    ),
    (SLAVE, {"timers": ((Timer.EXPECTED, NOW + 1),)}, "idle", "ask 3"),
]


@pytest.mark.parametrize(("rules", "known", "after", "wanted"), SILENCES)
def test_what_a_lost_heartbeat_leads_to(
    rules: pair.Rules, known: Known, after: str, wanted: str
) -> None:
    state, actions = step(node("idle", **ALONE | known), SILENT, rules)
    found = state.phase.value if state.phase is Phase.PROMOTING else moment(state)
    assert (found, done(actions)) == (after, wanted)
    if after != "promoting":
        told = ("waiting" in known, bool(alarms(node("idle", **ALONE | known), SILENT, rules)))
        expects = "peer" in known or known.get("timers") == ((Timer.EXPECTED, NOW + 1),)
        expected = not expects and (after == "idle" or "taken" in known)
        assert told[1] is bool(expected)


def test_one_answer_starts_the_counting_again() -> None:
    state, actions = step(node("silence", quiet=2, unanswered=True, **ALONE), ANSWERED, SLAVE)
    assert (moment(state), state.quiet, state.taken, done(actions)) == ("silence", 0, True, "ask 1")
    for quiet in (1, 2):
        state, actions = step(state, pair.Answers(False, 1, False), SLAVE)
        assert (state.quiet, state.taken, done(actions)) == (quiet, False, "ask 1")
    state, actions = step(state, pair.Answers(False, 1, False), SLAVE)
    assert done(actions) == "run master"


WAITING_FOR_SILENCE: list[tuple[pair.Rules, Known, pair.Event, str, str]] = [
    # a takeover by silence is asked about, a person waits; the rules, what is known, what comes
    (SLAVE, {}, BEATS, "idle", "7 error: the heartbeat is back"),
    (
        SLAVE,
        {},
        COMPARED["active"],
        "idle",
        "7 error: the peer is active",
    ),
    (SLAVE, {}, pair.Answers(False, 1, True), "silence", "7 error, ask 1"),
    (SLAVE, {}, NOT_ASKED, "silence", "7 error"),
    (SLAVE, {"interfaces": DOWN}, UNANSWERED, "idle", "7 error"),
    (FENCED, {"interfaces": DOWN}, UNANSWERED, "idle", "7 error"),
    (PROGRAM, {"program": 2}, pair.Ended("confirm", True, number=2), "idle", "7 error"),
    (PROGRAM, {"program": 2}, pair.Ended("confirm", False, number=2), "promoting", "run master"),
    (PROGRAM, {"program": 2}, pair.Ended("confirm", False, False, 2), "silence", "ask 3"),
    (
        replace(PROGRAM, addressed=frozenset()),
        {"program": 2},
        pair.Ended("confirm", False, False, 2),
        "idle",
        "7 error: the program of $confirm gave no result",
    ),
    (
        PROGRAM,
        {"program": 2, "interfaces": DOWN},
        pair.Ended("confirm", False, number=2),
        "idle",
        "7 error",
    ),
    (
        replace(PROGRAM, fence=True),
        {"program": 2, "runs": 2},
        pair.Ended("confirm", False, number=2),
        "fencing",
        "run fence",
    ),
    # what a failed stand-down has left beside the peer's is taken away first
    (SLAVE, {"unclean": True}, ANSWERED, "demoting", "7 error, run slave"),
    (PROGRAM, {"unclean": True}, ANSWERED, "demoting", "7 error, run slave"),
]


@pytest.mark.parametrize(("rules", "known", "event", "after", "wanted"), WAITING_FOR_SILENCE)
def test_a_person_who_waits_for_a_takeover_that_does_not_come_is_told(
    rules: pair.Rules, known: Known, event: pair.Event, after: str, wanted: str
) -> None:
    before = node("silence", silent=True, unanswered=True, waiting=WAITING, **ALONE | known)
    state, actions = step(before, event, rules)
    resting = ("promoting", "demoting")
    assert (state.phase.value if after in resting else moment(state)) == after
    assert (state.waiting == ()) is ("7 error" in wanted)
    found = done(actions)
    if "7 error," in wanted or wanted == "7 error":  # in whatever words
        found = ", ".join(["7 error", *found.split(", ")[-1:]] if "," in wanted else ["7 error"])
        assert done(actions).startswith("7 error")
    assert found == wanted


@pytest.mark.parametrize(
    ("ran", "ok", "after", "wanted"),
    [
        (True, True, "promoting", "run master"),
        (True, False, "idle", ""),
        (False, False, "idle", ""),  # nothing was fenced
    ],
)
def test_only_a_fence_program_that_has_run_and_succeeded_fences(
    ran: bool, ok: bool, after: str, wanted: str
) -> None:
    before, end = node("fencing", **ALONE), pair.Ended("fence", ok, ran, 2)
    state, actions = step(before, end, FENCED)
    assert (state.phase.value if ok else moment(state), done(actions)) == (after, wanted)
    assert ok or "run slave" in done(step(replace(before, unclean=True), end, FENCED)[1])


@pytest.mark.parametrize("known", [{}, {"unclean": True}])
def test_an_operator_who_waits_is_not_refused_because_fencing_fails(known: Known) -> None:
    """Asked a moment later, or earlier, it would have taken the role without fencing."""
    before = node("fencing", waiting=WAITING, **ALONE | known)
    state, actions = step(before, pair.Ended("fence", False, True, 2), FENCED)
    assert (moment(state), done(actions), state.waiting) == ("operator", "status", WAITING)
    of_peer = replace(before, waiting=tuple((number, True) for number, _ in WAITING))
    assert step(of_peer, pair.Ended("fence", False, True, 2), FENCED)[0].waiting == ()


def test_a_peer_that_is_reached_again_is_not_fenced() -> None:
    before = node("fencing", waiting=WAITING, silent=True, **ALONE)
    for event in (SILENT, pair.LinkWatched(0, "ok"), pair.LinkWatched(9, "late")):
        assert step(before, event, FENCED)[0].phase is Phase.FENCING
    state, actions = step(before, BEATS, FENCED)
    assert (moment(state), done(actions)) == ("idle", "7 error: the heartbeat is back")
    assert state.program == 0  # its word counts for nothing any more
    state, actions = step(before, COMPARED["active"], FENCED)
    assert moment(state) == "idle" and state.program == 0 and "7 error" in done(actions)


@pytest.mark.parametrize(("runs", "number"), [(0, 1), (1, 2), (2, 3), (3, 1)])
def test_each_run_of_a_program_has_a_number_of_its_own(runs: int, number: int) -> None:
    """By it the word about an earlier silence is told from that about this one."""
    silent = node("idle", runs=runs, **ALONE)
    for rules, kind in ((replace(FENCED, confirm="none"), "fence"), (PROGRAM, "confirm")):
        state, actions = step(silent, SILENT, rules)
        assert pair.RunProgram(kind, number) in actions
        assert (state.program, state.runs) == (number, number)


@pytest.mark.parametrize(
    ("verdict", "packets", "silent", "beats"),
    [
        ("ok", 3, False, True),
        ("ok", 1, False, True),
        ("ok", 0, False, False),
        ("boot", 3, False, True),
        ("fail", 0, True, False),
    ],
)
@pytest.mark.parametrize("before", [False, True])
def test_what_a_window_of_the_link_tells(
    verdict: str, packets: int, silent: bool, beats: bool, before: bool
) -> None:
    for name in ("active", "doubt"):
        known = node(name, silent=before, beats=not beats, taken=True)
        state, _ = step(known, pair.LinkWatched(packets, verdict))
        assert (state.silent, state.beats) == (silent, beats)
        assert state.taken is (not packets or name == "doubt")


def test_a_late_window_counts_for_nothing() -> None:
    late: list[pair.Event] = [
        *(pair.Watched("eth0", packets, 0, "late") for packets in (0, 9)),
        *(pair.LinkWatched(packets, "late") for packets in (0, 9)),
        *(pair.Watched("eth9", packets, 0, "fail") for packets in (0, 9)),  # it is not ours
        pair.Carrier("eth9", False),
        pair.Counted("eth9", 0),
    ]
    for name in MOMENTS:
        waits = () if name in ("idle", "active") else WAITING
        for known in ({}, {"silent": True, "beats": True}, {"interfaces": judged(eth0="fail")}):
            state = node(name, waiting=waits, **known)
            for event in late:
                assert step(state, event) == (state, []), (name, event)


# ---------------------------------------------------------------------------- when, how long


def test_what_the_settings_make_of_the_times() -> None:
    assert (MASTER.round, SHORT.round) == (1.0, 0.3)
    assert (MASTER.news_time, replace(MASTER, card_window=0.0).news_time) == (20.0, 10.0)
    assert (MASTER.proof_time, SHORT.proof_time) == (40.0, 0.4)
    assert replace(SHORT, card_window=0.01).proof_time == 0.1
    assert (MASTER.arrival, MASTER.switch_time) == (6.0, 36.0)
    assert (MASTER.wordless_time, replace(MASTER, window=1.0).wordless_time) == (20.0, 14.0)
    assert MASTER.patience == 15.0
    defaults = {field.name: field.default for field in fields(pair.Rules)}
    assert (defaults["low_water"], defaults["card_window"]) == (1, 0.0), "those of a test"
    assert (defaults["request_time"], defaults["grace"]) == (5.0, 1.0), "of section 6"


@pytest.mark.parametrize(
    ("text", "confirm"),
    [
        ("", "none"),  # there is no address to ask for
        ("@addresses = ('eth0 192.0.2.10/24');", "arp"),
        ("@addresses = ('eth0 192.0.2.10/24'); $confirm = 'none';", "none"),
        ("$confirm = '/usr/lib/ask';", "program"),
    ],
)
def test_what_confirms_a_silence(text: str, confirm: str) -> None:
    rules = pair.rules(conf.parse(f"{text} $timer_seconds = 7; $low_water = 3;", "x"), "master")
    assert (rules.confirm, rules.card_window, rules.low_water) == (confirm, 7.0, 3)
    assert rules.addressed == ({"eth0"} if "eth0" in text else set())
    assert (rules.window, rules.heartbeat, rules.switch_timeout) == (11.0, 10.0, 30.0)
    assert (rules.hold_down, rules.fence, rules.mresume) == (60.0, False, True)


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
    text = f"$primary = '{primary}'; $secondary = '{secondary}'; $fence_prog = '/bin/true';"
    rules = pair.rules(conf.parse(text, "x"), "slave")
    assert (rules.boot, rules.precedes, rules.fence) == ("slave", precedes, True)


LENGTHS: list[tuple[pair.State, pair.Event, dict[str, float]]] = [
    # who, what comes; what it waits for from then on
    (node("boot"), STATUS["standby"], {"UNDER_WAY": 6.0, "GIVE_UP": 36.0}),
    (node("demoting"), pair.Ended("script", True), {"UNDER_WAY": 6.0, "GIVE_UP": 36.0}),
    (node("boot"), NO_STATUS, {"RETRY": 1.0}),
    (node("boot", resuming=True, **ALONE), ANSWERED, {"SERVED": 20.0}),
    (
        node("boot", resuming=True, unanswered=True, **ALONE),
        ANSWERED,
        {"RETRY": 10.0, "SERVED": 20.0},
    ),
    (node("call lost"), STATUS["switching"], {"RETRY": 1.0}),
    (node("doubt", unanswered=True, **ALONE), NOT_ASKED, {"RETRY": 10.0}),
    (node("silence", unanswered=True, **ALONE), NOT_ASKED, {"RETRY": 1.0}),
    (node("idle"), COMPARED["standby"], {"NOBODY": 20.0}),
    (node("idle"), pair.Request(1, "resume", True), {"EXPECTED": 10.0}),
    (node("active"), SILENT, {"OWN": 10.0}),
    (node("active"), OURS_TAKEN, {"OWN": 1 / 3}),
    (node("interface", interfaces=judged(eth0="fail")), STATUS["active"], {}),
]


@pytest.mark.parametrize(("before", "event", "wanted"), LENGTHS)
def test_how_long_each_thing_is_waited_for(
    before: pair.State, event: pair.Event, wanted: dict[str, float]
) -> None:
    state, _ = step(before, event)
    assert left(state) == pytest.approx(wanted)


def test_each_query_has_its_time() -> None:
    for before, event, query, seconds in (
        (timed(node("idle"), COMPARE=0.0), pair.Tick(), Query.COMPARE, 5.0),
        (node("idle"), pair.Request(7, "fail", False), Query.STATUS, 5.0),
        (node("demoting"), pair.Ended("script", True), Query.FAIL, 35.0),
        (node("boot"), STATUS["standby"], Query.RESUME, 35.0),
    ):
        assert pair.Ask(query, seconds) in step(before, event)[1]


def test_what_an_operator_asks_for_goes_round_no_blocked_port() -> None:
    """While heartbeats arrive at both nodes, and not to find out what became of it."""
    there = PeerView("active", "master", frozenset())
    mute = replace(there, beats=False)
    wants, leaves = (pair.Request(7, command, False) for command in ("fail", "resume"))
    for before, event, direct in (
        (node("idle", beats=True, peer=there), wants, False),
        (node("active", beats=True, peer=there), leaves, True),
        (node("active", beats=False, peer=there), leaves, False),
        (node("active", beats=True, peer=mute), leaves, False),
        (node("active", beats=True, peer=None), leaves, False),
        (node("idle", beats=True, peer=there), pair.Request(7, "fail", True), None),
        (timed(node("idle", beats=True, peer=there), COMPARE=0.0), pair.Tick(), False),
    ):
        asked = [action.direct for action in step(before, event)[1] if isinstance(action, pair.Ask)]
        assert asked == ([] if direct is None else [direct])
    state, _ = step(node("idle", beats=True, peer=there), wants)
    state, actions = step(state, pair.Replied(Query.STATUS, True, view=there))
    assert pair.Ask(Query.RESUME, 35.0, True) in actions
    _, actions = step(state, pair.Unreplied(Query.RESUME, sent=False))
    assert pair.Ask(Query.STATUS, 5.0, False) in actions


PROBES: list[tuple[pair.State, pair.Event, pair.Rules, pair.Probe]] = [
    # who, what comes; the probe after it, in seconds from now
    (node("silence", **ALONE), NO_STATUS, SLAVE, pair.Probe(False, (0.0, 1 / 3, 2 / 3), 1.0)),
    (
        node("silence", unanswered=True, **ALONE),
        ANSWERED,
        SLAVE,
        pair.Probe(False, (0.0,), 1.0),
    ),
    (
        node("idle", quiet=1, **ALONE),
        SILENT,
        SLAVE,
        pair.Probe(False, (0.0, 1 / 3), 2 / 3),
    ),
    (node("idle", quiet=2, **ALONE), SILENT, SLAVE, pair.Probe(False, (0.0,), 1.0)),
    (
        node("idle"),
        pair.LinkWatched(0, "ok"),
        SLAVE,
        pair.Probe(False, (9.0, 9.3, 9.6), 9.9),
    ),
    (node("active"), SILENT, SLAVE, pair.Probe(True, (0.0,), 1 / 3)),
    (
        node("idle"),
        pair.LinkWatched(0, "ok"),
        SHORT,
        pair.Probe(False, (0.0, 0.09, 0.18), 0.27),
    ),
    (node("silence", **ALONE), NO_STATUS, SHORT, pair.Probe(False, (0.0, 0.1, 0.2), 0.3)),
]


@pytest.mark.parametrize(("before", "event", "rules", "wanted"), PROBES)
def test_when_the_service_network_is_asked(
    before: pair.State, event: pair.Event, rules: pair.Rules, wanted: pair.Probe
) -> None:
    """Ahead of the verdict, so that it costs the takeover no time; else at once."""
    (asked,) = probes(step(before, event, rules)[1])
    assert asked.own is wanted.own
    assert [one - NOW for one in asked.at] == pytest.approx(wanted.at)
    assert asked.until - NOW == pytest.approx(wanted.until)


def test_what_is_asked_ahead_begins_with_nothing_known() -> None:
    known = node("idle", quiet=2, taken=True)
    state, _ = step(known, pair.LinkWatched(0, "ok"))
    assert (state.quiet, state.taken, state.asking) == (0, False, True)
    state, actions = step(known, pair.LinkWatched(0, "ok"), replace(MASTER, confirm="program"))
    assert (state.quiet, state.taken, probes(actions)) == (0, False, [])
    for name, asks in (
        ("boot", True),
        ("silence", False),
        ("fencing", False),
        ("promoting", False),
        ("active", False),
    ):
        _, actions = step(node(name), pair.LinkWatched(0, "ok"))
        assert bool(probes(actions)) is asks, name
    _asking, actions = step(node("boot", asking=True), pair.LinkWatched(0, "ok"))
    assert not probes(actions), "it is busy with the network already"


def test_where_there_is_nothing_to_ask_for_the_role_is_taken() -> None:
    for name in ("operator", "call lost"):
        state, actions = step(node(name, **ALONE), NO_STATUS, NO_ADDRESSES)
        assert done(actions) == "run master"
    state, actions = step(node("active", **ALONE), SILENT, NO_ADDRESSES)
    assert (left(state), probes(actions)) == ({"OWN": 10.0}, [])


def test_roles_are_compared_a_heartbeat_after_the_last_comparison_ended() -> None:
    compares = pair.Ask(Query.COMPARE, MASTER.status_timeout)
    for event in (COMPARED["active"], UNCOMPARED, pair.Replied(Query.COMPARE, True)):
        state, _ = step(node("idle"), event)
        assert deadline(state, Timer.COMPARE) == NOW + HEARTBEAT
        assert compares not in step(state, pair.Tick(), MASTER, HEARTBEAT - JUST)[1]
        late, actions = step(state, pair.Tick(), MASTER, HEARTBEAT)
        assert compares in actions
        assert deadline(late, Timer.COMPARE) is None, "the next one waits for its end"
    for name in MOMENTS:
        assert compares in step(timed(node(name), COMPARE=0.0), pair.Tick())[1]


# ---------------------------------------------------------------------------- the phases


@pytest.mark.parametrize(
    ("name", "event", "after", "keeps"),
    [
        ("idle", SILENT, "silence", True),
        ("boot", SILENT, "boot", True),  # it is busy with the network already
        ("boot", STATUS["active"], "idle", True),
        ("idle", pair.Request(7, "fail", False), "operator", True),
        ("interface", NO_STATUS, "active", True),
        ("active", pair.Request(7, "resume", False), "release", True),
        ("silence", BEATS, "idle", False),
        ("operator", STATUS["standby"], "calling", False),
        ("giving", pair.Replied(Query.FAIL, True), "idle", False),
    ],
)
def test_what_was_asked_is_forgotten_where_it_means_something_else(
    name: str, event: pair.Event, after: str, keeps: bool
) -> None:
    """And what was to be tried again is not, after the phase was left."""
    waiting = () if name in ("idle", "active") else WAITING
    known = node(name, asking=True, program=2, silent=True, waiting=waiting)
    before = timed(known, RETRY=3.0, GIVE_UP=4.0, UNDER_WAY=5.0, UNHEARD=9.0)
    state, actions = pair.step(before, event, MASTER, NOW)
    assert moment(state) == after
    assert state.asking is keeps
    if after == name:
        assert state.timers == before.timers
        return
    assert state.program == 0
    assert [a for a in actions if isinstance(a, pair.Forget)][-1:] == [pair.Forget(not keeps)]
    assert Timer.RETRY not in dict(state.timers)
    told = {Timer.GIVE_UP, Timer.UNDER_WAY} & set(dict(state.timers))
    assert told == ({Timer.GIVE_UP, Timer.UNDER_WAY} if after == "calling" else set())


def test_who_stays_where_it_is_forgets_nothing() -> None:
    state = timed(node("doubt"), RETRY=3.0, UNHEARD=9.0)
    after, actions = pair.step(state, ANSWERED, MASTER, NOW)
    assert (moment(after), deadline(after, Timer.RETRY)) == ("doubt", NOW + 3)
    assert not any(isinstance(a, pair.Forget) for a in actions)


@pytest.mark.parametrize(("name", "after"), [("calling", "call lost"), ("giving", "gift lost")])
def test_what_was_told_stays_under_way_when_its_answer_is_lost(name: str, after: str) -> None:
    query = Query.RESUME if name == "calling" else Query.FAIL
    state = timed(node(name), RETRY=3.0, GIVE_UP=4.0, UNDER_WAY=5.0, UNHEARD=9.0)
    lost, actions = step(state, pair.Unreplied(query))
    assert (moment(lost), done(actions)) == (after, "status")
    assert left(lost) == {"GIVE_UP": 4.0, "UNDER_WAY": 5.0}
    unsent, _ = step(state, pair.Unreplied(query, sent=False))
    assert left(unsent) == {}, "what was never sent does not arrive"
    hangs, actions = step(timed(node(name), GIVE_UP=0.0, UNHEARD=9.0), pair.Tick())
    assert (moment(hangs), done(actions)) == (after, "status")


LOST_ENDS: list[tuple[str, Known, pair.Event, str]] = [
    # an answer was lost; what is known, what comes; what is done
    ("call lost", {}, NO_STATUS, "RETRY"),  # it is reached: it will answer
    ("gift lost", {}, NO_STATUS, "RETRY"),
    ("call lost", ALONE, NO_STATUS, "ask 3"),
    ("gift lost", ALONE, NO_STATUS, "ask 3"),
    ("call lost", {"timers": ((Timer.GIVE_UP, NOW + 1),)}, NO_STATUS, "RETRY"),
    ("gift lost", {"timers": ((Timer.GIVE_UP, NOW + 1),)}, NO_STATUS, "RETRY"),
    ("gift lost", {"failed": True, "timers": ((Timer.GIVE_UP, NOW + 1),)}, NO_STATUS, "ask 3"),
    ("call lost", {"unanswered": True, **ALONE}, UNANSWERED, "run master"),
    ("gift lost", {"unanswered": True, **ALONE}, UNANSWERED, "7 error: {free}, run master"),
    ("call lost", {"unanswered": True}, UNANSWERED, "status"),  # it is between two steps of its own
    ("gift lost", {"unanswered": True}, UNANSWERED, "status"),
    ("call lost", {"unanswered": True, **ALONE}, ANSWERED, "7 error: {taken}"),
    ("gift lost", {"unanswered": True, **ALONE}, ANSWERED, "7 ok: standby, begin windows"),
    ("call lost", {"unanswered": True, **ALONE}, NOT_ASKED, "7 error: {blind}"),
    ("gift lost", {"unanswered": True, **ALONE}, NOT_ASKED, "7 error: {blind}, begin windows"),
    ("gift lost", {"failed": True}, STATUS["failed"], "7 error: the peer is failed, begin windows"),
]


@pytest.mark.parametrize(("name", "known", "event", "wanted"), LOST_ENDS)
def test_what_becomes_of_a_lost_answer(
    name: str, known: Known, event: pair.Event, wanted: str
) -> None:
    state, actions = step(node(name, waiting=WAITING, **known), event)
    if wanted == "RETRY":
        assert (moment(state), done(actions)) == (name, "")
        assert deadline(state, Timer.RETRY) == NOW + ROUND
    else:
        texts = {finding.name.lower(): finding.value for finding in Finding}
        assert done(actions) == wanted.format(**texts)


@pytest.mark.parametrize(
    "name", ["boot", "nobody", "relief", "operator", "release", "interface", "check"]
)
def test_a_query_that_is_lost_is_asked_again_while_the_peer_is_reached(name: str) -> None:
    state, actions = step(node(name), NO_STATUS)
    if name == "release":
        assert moment(state) == "active"
        return
    assert (moment(state), actions, left(state)) == (name, [], {"RETRY": ROUND})
    assert done(step(state, pair.Tick(), MASTER, ROUND)[1]) == "status"
    state, actions = step(node(name, **ALONE), NO_STATUS)
    gives_up = {"nobody": "idle", "relief": "idle", "interface": "active", "check": "active"}
    assert moment(state) == gives_up.get(name, name)
    assert done(actions) == ("" if name in gives_up else "ask 3")


# ---------------------------------------------------------------------------- interfaces


@pytest.mark.parametrize(
    ("verdict", "packets", "proved", "heard", "failed"),
    [
        ("ok", 1, True, True, False),
        ("ok", 0, False, False, False),  # silent once proves nothing
        ("boot", 9, False, True, False),
        ("boot", 0, False, False, False),
        ("fail", 3, False, True, True),  # below low water
        ("fail", 0, False, False, True),
    ],
)
def test_what_a_window_proves(
    verdict: str, packets: int, proved: bool, heard: bool, failed: bool
) -> None:
    fresh = tuple(pair.Interface(name) for name in MASTER.interfaces)
    for name in ("active", "idle", "doubt"):
        event = pair.Watched("eth0", packets, 4, verdict)
        state, _ = step(node(name, interfaces=fresh), event)
        unasked = failed and name != "idle"
        assert state.interfaces == (
            pair.Interface("eth0", verdict, packets, 4, True, heard, proved, unasked),
            fresh[1],
        )


def test_what_was_once_received_or_is_not_asked_for_yet_stays_so() -> None:
    known = tuple(replace(i, heard=True, proved=True, unasked=True) for i in judged())
    for event in (
        pair.Watched("eth0", 0, 0, "ok"),
        pair.Watched("eth0", 0, 0, "boot"),
        pair.Carrier("eth0", False),
    ):
        interface = step(node("idle", interfaces=known), event)[0].interface("eth0")
        assert interface is not None
        assert (interface.heard, interface.proved, interface.unasked) == (True, True, True)
        assert interface.up is not isinstance(event, pair.Carrier)


@pytest.mark.parametrize("name", ["idle", "active", "interface", "doubt", "demoting"])
def test_who_has_lost_its_carrier_has_to_ask_before_it_announces_again(name: str) -> None:
    for up in (False, True):
        state, actions = step(node(name), pair.Carrier("eth0", up))
        assert [i.up for i in state.interfaces] == [up, True]
        assert [i.unasked for i in state.interfaces] == [not up and name in HOLDING, False]
        assert not probes(actions)
        _again, actions = step(state, pair.Carrier("eth0", True))
        assert done(actions) == ("ask own" if not up and name in SERVING else "")


@pytest.mark.parametrize(
    ("event", "asks"),
    [
        (pair.Carrier("eth0", True), True),
        (pair.Carrier("eth0", False), False),
        (pair.Watched("eth0", 1, 0, "ok"), True),
        (pair.Watched("eth0", 0, 1, "ok"), False),
        (pair.Watched("eth0", 1, 0, "boot"), False),
        (pair.Watched("eth0", 0, 0, "fail"), False),
    ],
)
def test_an_interface_that_is_back_is_asked_on_once_it_receives_or_is_up(
    event: pair.Event, asks: bool
) -> None:
    lost = tuple(replace(i, unasked=True, up=False) for i in judged(eth0="fail", eth1="fail"))
    _, actions = step(node("active", interfaces=lost), event)
    assert bool(probes(actions)) is asks
    assert not probes(step(node("active"), event)[1]), "it was never away"


@pytest.mark.parametrize("reached", [True, False])
@pytest.mark.parametrize("claimed", [0, 1])
def test_what_is_asked_for_is_announced_on_again(claimed: int, reached: bool) -> None:
    unasked = tuple(replace(i, unasked=True) for i in judged(eth1="fail"))
    for interfaces in (unasked, judged()):
        state = node("active", interfaces=interfaces, claimed=claimed)
        state = replace(state, timers=state.timers if reached else ())
        after, actions = step(state, OURS_FREE)
        needed = bool(claimed) or not reached or interfaces is unasked
        assert (done(actions) == "announce") is needed
        assert [i.unasked for i in after.interfaces] == [False, interfaces is unasked]
        assert pair.announceable(after) == (
            ("eth0",) if interfaces is unasked else ("eth0", "eth1")
        )
        assert after.claimed == 0


def test_what_is_asked_for_tells_nothing_of_an_interface_without_a_carrier() -> None:
    """It is announced on as soon as its carrier is back: no host has received what was sent."""
    down = tuple(replace(i, up=i.name != "eth0") for i in judged())
    state = node("promoting", interfaces=down)
    for event in (pair.Ended("script", True), OURS_FREE):
        state, _ = step(state, event)
        assert [i.unasked for i in state.interfaces] == [True, False]
    state, actions = step(state, pair.Carrier("eth0", True))
    assert done(actions) == "ask own"
    after, actions = step(state, OURS_FREE)
    assert done(actions) == "announce"
    assert pair.announceable(after) == ("eth0", "eth1")


def test_what_was_asked_by_is_said_of_either_family() -> None:
    six = pair.Answers(True, 1, True, "2001:db8::10 02:00:00:00:00:66")
    (told,) = alarms(node("active", **ALONE), six, SLAVE)
    assert "2001:db8::10: another host answers neighbour solicitation too" in told
    state = node("silence", silent=True, unanswered=True, **ALONE)
    (told,) = alarms(state, replace(six, own=False))
    assert "2001:db8::10: still answers neighbour solicitation, no takeover" in told


def test_any_host_that_answers_for_the_addresses_is_another_holder() -> None:
    """The node with boot:slave stands down after three rounds, unless it cannot be the peer; the
    preferred one goes on announcing."""
    unknown = pair.Answers(True, 1, True, "192.0.2.10 02:00:00:00:00:66")
    told = "DUPLICATE address 192.0.2.10: another host answers ARP too; by=02:00:00:00:00:66"
    slave = master = node("active", **ALONE)
    assert alarms(slave, unknown, SLAVE) == alarms(master, unknown) == [told]
    line, *_ = said(replace(slave, claimed=2), unknown, SLAVE)
    assert (line.event, line.values) == ("SPLIT-BRAIN", (("by", "02:00:00:00:00:66"),))
    for number in (1, 2, 3):
        slave, actions = step(slave, unknown, SLAVE)
        assert (slave.claimed, done(actions)) == (number, "ask own" if number < 3 else "run slave")
    cut = replace(slave, silent=True)
    idle, actions = step(cut, pair.Ended("script", True), replace(SLAVE, confirm="none"))
    assert (moment(idle), idle.taken) == ("silence", True)
    assert "run master" not in done(actions)  # it would stand down again, and so on for ever
    for number in (1, 2, 3, 3):
        master, actions = step(master, unknown)
        assert (master.claimed, done(actions)) == (number, "announce")
        assert left(master) == pytest.approx({"OWN": ROUND / 3})
    assert said(master, OURS_FREE)[0].event == "DUPLICATE-OVER"
    stranger = replace(unknown, stranger=True)
    slave = node("active", **ALONE)
    for _ in range(4):
        slave, actions = step(slave, stranger, SLAVE)
        assert (slave.claimed, done(actions)) == (1, "announce")
    for name in MOMENTS:
        if name not in SERVING:
            waits = () if name == "idle" else WAITING
            state = node(name, waiting=waits)
            assert step(state, unknown) == (state, []), "its addresses are not announced now"


@pytest.mark.parametrize(
    ("known", "event", "asks"),
    [
        ({}, SILENT, True),
        (ALONE, UNCOMPARED, True),
        ({}, UNCOMPARED, False),
        ({"timers": ((Timer.OWN, NOW + 1),)}, UNCOMPARED, False),
        ({"timers": ((Timer.OWN, NOW),), "claimed": 1}, pair.Tick(), True),
        ({"timers": ((Timer.OWN, NOW),)}, pair.Tick(), False),
    ],
)
def test_an_active_node_looks_whether_another_has_its_addresses(
    known: Known, event: pair.Event, asks: bool
) -> None:
    for name in SERVING:
        waits = WAITING if name == "release" else ()
        state, actions = step(node(name, waiting=waits, **known), event)
        assert ("ask own" in done(actions)) is asks, name
        assert not asks or deadline(state, Timer.OWN) == NOW + WINDOW


def test_addresses_that_have_gone_come_back_unless_another_host_may_have_them() -> None:
    for name in MOMENTS:
        waits = () if name in ("idle", "active") else WAITING
        for timers in (REACHED, ()):
            before = node(name, waiting=waits, timers=timers)
            state, actions = step(before, pair.Bare())
            if name in SERVING:
                assert (moment(state), state.bare) == ("doubt", True)
                assert done(actions).endswith("ask 3, status")
            else:
                assert (moment(state), done(actions)) == (name, "")
            assert (state.waiting == ()) is (not waits or name in SERVING)
            assert len(alarms(before, pair.Bare())) == (name in HOLDING)


def test_who_stands_by_takes_away_the_addresses_that_were_put_there() -> None:
    for name in MOMENTS:
        waits = () if name in ("idle", "active") else WAITING
        state, actions = step(node(name, waiting=waits), pair.Stray())
        stands_by = pair.role(node(name)) == "standby"
        assert ("run slave" in done(actions)) is stands_by, name
        if stands_by:
            assert (state.phase, state.purpose) == (Phase.DEMOTING, Purpose.CLEAN)
            assert state.waiting == ()


# ---------------------------------------------------------------------------- none active


def idle(**timers: float) -> pair.State:
    return timed(node("idle", peer=view("standby")), **{"HEARD": 5.0, "UNHEARD": 15.0, **timers})


@pytest.mark.parametrize(
    ("role", "counted", "after"),
    [
        ("standby", None, 2 * WINDOW),
        ("failed", None, 2 * WINDOW),
        ("standby", 3.0, 3.0),
        ("switching", 3.0, 3.0),
        ("switching", None, None),
        ("active", 3.0, None),
        ("rejoining", 3.0, None),
        ("active", None, None),
    ],
)
def test_a_standby_counts_for_how_long_no_node_has_been_active(
    role: str, counted: float | None, after: float | None
) -> None:
    state = idle(NOBODY=counted) if counted is not None else idle()
    state, _ = step(state, COMPARED[role])
    assert left(state) == ({} if after is None else {"NOBODY": after})


AGAIN = HEARTBEAT + MASTER.status_timeout


def test_none_active_for_two_windows_and_no_sooner() -> None:
    known = idle(NOBODY=2 * WINDOW, HEARD=99.0, UNHEARD=99.0)
    assert moment(step(known, pair.Tick(), MASTER, 2 * WINDOW - JUST)[0]) == "idle"
    state, actions = step(known, pair.Tick(), MASTER, 2 * WINDOW)
    assert (moment(state), done(actions)) == ("nobody", "status")
    # it cleans up again and again, and must be met between
    switching = timed(replace(known, peer=view("switching")), NOBODY=0.0, HEARD=9.0, UNHEARD=9.0)
    state, _ = step(switching, pair.Tick(), MASTER)
    assert (moment(state), deadline(state, Timer.NOBODY)) == ("idle", NOW + AGAIN)
    # answers are slow: it is met between two of them
    slow = idle(NOBODY=6.0, HEARD=5.0, UNHEARD=9.0)
    state, _ = step(slow, pair.Tick(), MASTER, 6.0)
    assert (moment(state), deadline(state, Timer.NOBODY)) == ("idle", NOW + 6.0 + AGAIN)
    # not reached for long, in that very moment or before: the silence of the link decides
    for unreached in (6.0, 5.0):
        gone = idle(NOBODY=6.0, HEARD=4.0, UNHEARD=unreached)
        state, _ = step(gone, pair.Tick(), MASTER, 6.0)
        assert (moment(state), left(state)) == ("idle", {})
    for event in (pair.Request(7, "resume", True), pair.Stalled()):
        assert Timer.NOBODY not in dict(step(idle(NOBODY=6.0), event)[0].timers)
    promoting = timed(node("promoting"), HEARD=5.0, NOBODY=3.0)
    assert deadline(step(promoting, pair.Ended("script", True))[0], Timer.NOBODY) is None


WORSE = pair.Replied(Query.COMPARE, True, view=view("active", failed="eth0", wants_relief=True))


def test_a_worse_active_node_that_reaches_this_one_has_its_time_to_give_its_role_away() -> None:
    state, _ = step(idle(), WORSE)
    assert left(state) == {"RELIEF": MASTER.proof_time}
    again, _ = step(timed(state, RELIEF=3.0), WORSE)
    assert left(again) == {"RELIEF": 3.0}, "it is not counted again"
    for role in ("standby", "switching", "active"):
        assert "RELIEF" not in left(step(state, COMPARED[role])[0])
    assert "RELIEF" not in left(step(state, pair.Stalled())[0])
    due = timed(state, RELIEF=0.0, HEARD=9.0, UNHEARD=9.0)
    assert moment(step(due, pair.Tick())[0]) == "relief"
    assert moment(step(timed(state, RELIEF=0.0), pair.Tick())[0]) == "idle", "it is not reached"
    well = replace(due, peer=view("active", failed="eth0"))
    assert moment(step(well, pair.Tick())[0]) == "idle"
    boots = replace(due, phase=Phase.RESOLVING, purpose=Purpose.BOOT)
    assert moment(step(boots, pair.Tick())[0]) == "boot", "what it wants already goes on"


def test_a_role_that_was_taken_from_a_worse_node_stays_for_hold_down() -> None:
    worse = view("active", failed="eth0", checks="web", wants_relief=True)
    state, actions = step(node("relief"), pair.Replied(Query.STATUS, True, view=worse))
    assert (moment(state), done(actions)) == (
        str((Phase.TOLD, Purpose.RELIEF, Query.RESUME)),
        "resume",
    )
    state, actions = step(state, pair.Replied(Query.RESUME, True))
    assert (state.phase, done(actions)) == (Phase.PROMOTING, "run master")
    state, _ = step(state, pair.Ended("script", True))
    assert (state.from_peer, deadline(state, Timer.HOLD)) == (True, NOW + MASTER.hold_down)
    state, _ = step(state, pair.Replied(Query.COMPARE, True, view=view("standby")))
    assert state.guarded == frozenset({"eth0", "check web"}), "what is good there by now counts too"


def test_nothing_is_kept_of_a_role_that_a_worse_node_did_not_give() -> None:
    calling = node("calling", purpose=Purpose.RELIEF, from_peer=True, guarded=frozenset({"eth0"}))
    state, _ = step(calling, pair.Replied(Query.RESUME, False, "busy"))
    assert (moment(state), state.from_peer, state.guarded) == ("idle", False, None)


@pytest.mark.parametrize("view_now", [view("active", failed="eth0"), view("standby"), None])
def test_a_peer_that_wants_no_relief_any_more_is_no_alarm(view_now: pair.PeerView | None) -> None:
    answer = pair.Replied(Query.STATUS, True, view=view_now) if view_now else NO_STATUS
    before = node("relief", timers=(), peer=view("active", failed="eth0", wants_relief=True))
    state, actions = step(before, answer)
    assert (moment(state), alarms(before, answer)) == ("idle", [])
    assert "run" not in done(actions) and "resume" not in done(actions)


def test_a_hold_keeps_a_standby_from_relieving_its_peer() -> None:
    held = timed(replace(step(idle(), WORSE)[0], held=True), RELIEF=0.0, HEARD=9.0, UNHEARD=9.0)
    state, actions = step(held, pair.Tick())
    assert (moment(state), done(actions)) == ("idle", "")


def test_whoever_comes_second_waits_longer() -> None:
    """Of two that stand by for two windows, an interface of one may die in that very moment; and
    the first may not reach the second, and so not know that it is its turn."""
    first = view("standby", boot="master")
    state, _ = step(idle(), pair.Replied(Query.COMPARE, True, view=first), SLAVE)
    assert left(state) == {"NOBODY": 2 * WINDOW + AGAIN}
    state = timed(state, HEARD=99.0, UNHEARD=99.0, NOBODY=3.0)
    assert moment(step(state, pair.Tick(), SLAVE, 3.0)[0]) == "nobody"


@pytest.mark.parametrize(
    ("rules", "peer", "after", "wanted"),
    [
        (MASTER, view("active"), "same", "announce"),
        (SLAVE, view("active", boot="master"), "demoting", "run slave"),
        (SLAVE, view("rejoining", boot="master"), "same", ""),  # it stands down, when it knows
        (SLAVE, view("standby", boot="master"), "same", ""),
        (SLAVE, view("switching", boot="master"), "same", ""),
    ],
)
def test_an_active_node_that_compares_roles(
    rules: pair.Rules, peer: PeerView, after: str, wanted: str
) -> None:
    for name in MOMENTS:
        waits = () if name in ("idle", "active") else WAITING
        before = node(name, waiting=waits)
        state, actions = step(before, pair.Replied(Query.COMPARE, True, view=peer), rules)
        if name in SERVING:
            assert (state.phase is Phase.DEMOTING) is (after == "demoting")
            assert (state.purpose is Purpose.BOTH) is (after == "demoting")
            assert done(actions) == wanted
        elif name not in ("silence", "fencing"):
            assert (moment(state), done(actions)) == (name, ""), name


# ---------------------------------------------------------------------------- switchover


def test_the_order_of_a_switchover() -> None:
    """Ask the peer how it is, stand down, `fail`, the peer is active."""
    failed = judged(eth0="fail")
    state, actions = step(node("active", interfaces=failed), pair.Watched("eth0", 0, 0, "fail"))
    assert (moment(state), done(actions)) == ("interface", "status")
    assert (state.counts, state.latest, left(state)) == ((), (), {"GIVE_UP": MASTER.proof_time})
    for packets, wanted in ((1, "status"), (1, ""), (2, "look")):
        event = pair.Replied(Query.STATUS, True, view=counting(packets))
        state, actions = step(state, event)
        assert done(actions) == wanted
        assert state.counts == counting(1).counts
    assert (deadline(state, Timer.NEWS), deadline(state, Timer.RETRY)) == (NOW + 20, NOW + 1)
    state, actions = step(state, pair.Counted("eth0", 0))
    assert done(actions) == "run slave"
    state, actions = step(state, pair.Ended("script", True))
    assert (done(actions), pair.role(state)) == ("fail", "switching")
    state, actions = step(state, pair.Replied(Query.FAIL, True, "active"))
    assert (moment(state), done(actions)) == ("idle", "begin windows")


@pytest.mark.parametrize(
    "event",
    [pair.Request(7, "fail", True), pair.Stray()],
    ids=["take over", "stand down"],
)
def test_a_switch_puts_a_comparison_off(event: pair.Event) -> None:
    """But none that is under way: that is waited for."""
    state, _ = step(timed(node("idle"), COMPARE=1.0), event)
    assert pair.is_switching(state)
    assert deadline(state, Timer.COMPARE) == NOW + HEARTBEAT
    assert deadline(step(node("idle"), event)[0], Timer.COMPARE) is None


def test_a_peer_that_shows_nothing_new_in_time_does_not_get_the_role() -> None:
    interfaces = judged(eth0="fail")
    begun = state = timed(node("interface", interfaces=interfaces), GIVE_UP=40.0, HEARD=99.0)
    for seconds, wanted in ((0.0, "status"), (10.0, ""), (20.0 - JUST, "")):
        event = pair.Replied(Query.STATUS, True, view=counting(1))
        state, actions = step(state, event, MASTER, seconds)
        assert (moment(state), done(actions)) == ("interface", wanted)
    assert moment(step(state, pair.Tick(), MASTER, 40.0 - JUST)[0]) == "interface"
    for known, text in (
        (state, "does not show that packets arrive"),
        (begun, "no answer from the"),
    ):
        after, acts = pair.step(known, pair.Tick(), MASTER, NOW + 40.0)
        assert moment(after) == "active"
        assert any(isinstance(a, pair.Log) and text in a.sentence for a in acts)
    person = timed(node("release", waiting=WAITING), GIVE_UP=0.0)
    assert moment(step(person, pair.Tick())[0]) == "release"


def test_at_short_windows_counts_are_compared_all_the_sooner() -> None:
    state = node("interface", interfaces=judged(eth0="fail"), **ALONE)
    for _ in range(2):
        state, _ = step(state, pair.Replied(Query.STATUS, True, view=counting(1, 2)), SHORT)
        assert state.counts == counting(1, 2).counts
    assert left(state) == pytest.approx({"NEWS": 0.2, "RETRY": 0.025})


@pytest.mark.parametrize(
    ("first", "now", "over", "news"),
    [
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
    ],
)
def test_a_count_is_news_only_if_a_packet_has_come(
    first: tuple[int, int], now: tuple[int, int], over: bool, news: bool
) -> None:
    state = node(
        "interface",
        interfaces=judged(eth0="fail"),
        peer=view("standby"),
        counts=(("eth0", *first), ("eth1", 1, 1)),
        latest=(("eth0", *now), ("eth1", 7, 7)),  # of one that is good here
        timers=() if over else ((Timer.NEWS, NOW + 1),),
    )
    assert compare.peer_has_news(state) is news
    for known in ({"peer": view("standby", "eth0")}, {"counts": ()}, {"peer": None}):
        assert not compare.peer_has_news(replace(state, **known))


@pytest.mark.parametrize(
    ("low_water", "packets", "receives"),
    [(0, 0, False), (0, 1, True), (1, 0, False), (1, 1, True), (5, 4, False), (5, 5, True)],
)
def test_what_a_look_at_a_failed_interface_tells(
    low_water: int, packets: int, receives: bool
) -> None:
    rules = replace(MASTER, low_water=low_water)
    news: Known = {"peer": view("standby"), "counts": (("eth0", 0, 5),)}
    news |= {"latest": (("eth0", 3, 5),)}
    for known, wanted in ((news, "run slave"), (news | {"peer": view("standby", "eth1")}, "")):
        state = node("interface", interfaces=judged(eth0="fail"), **known)
        after, actions = step(state, pair.Counted("eth0", packets), rules)
        assert moment(after) == ("active" if receives else "demoting" if wanted else "interface")
        assert done(actions) == ("" if receives else wanted)
        assert step(state, pair.Counted("eth1", 9), rules) == (state, []), "it has not failed"
    for name in ("release", "doubt"):
        state = node(name, interfaces=judged(eth0="fail"), waiting=WAITING)
        assert step(state, pair.Counted("eth0", packets), rules) == (state, [])


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
    state = node(
        "active",
        interfaces=(replace(judged()[0], proved=proved), judged()[1]),
        from_peer=from_peer,
        guarded=None if guarded is None else frozenset(guarded),
        timers=((Timer.HOLD, NOW + JUST),) if held else (),
    )
    after, _ = step(state, pair.Watched("eth0", 0, 0, "fail"))
    assert moment(after) == ("interface" if may else "active")
    assert compare.free_here(after) == ({"eth0"} if may else set())


@pytest.mark.parametrize(("there", "outcome"), [("eth1", "give"), ("eth0", "keep")])
def test_the_role_does_not_go_for_what_it_came_for_beside_what_is_bad_on_both(
    there: str, outcome: str
) -> None:
    """Or a service that is sick on both nodes would change nodes while the switch is dead, too: a
    standby's check is not made, so that each looks better off than the other."""
    eth0 = replace(judged(eth0="fail")[0], proved=True)
    state = node(
        "check",
        interfaces=(eth0, judged()[1]),
        checks=frozenset({"web"}),
        from_peer=True,
        guarded=frozenset({"check web", "eth0"}),
    )
    peer = view("standby", there)
    _, actions = step(state, pair.Replied(Query.STATUS, True, view=peer))
    assert done(actions) == ("run slave" if outcome == "give" else "")


@pytest.mark.parametrize(
    ("proved", "untried", "outcome"),
    [(False, {"web"}, ""), (False, set(), "run slave"), (True, {"web"}, "run slave")],
)
def test_a_check_for_which_the_role_came_is_bad_there_until_it_has_a_result(
    proved: bool, untried: set[str], outcome: str
) -> None:
    """Unless what is bad here was good: or the role would come and go without end between a node
    whose service is sick and one that receives too little."""
    state = node(
        "check",
        interfaces=(judged()[0], judged()[1]),
        checks=frozenset({"db"}),
        passed=frozenset({"db"} if proved else ()),
        from_peer=True,
        guarded=frozenset({"check web"}),
    )
    peer = replace(view("standby"), untried=frozenset(untried))
    _, actions = step(state, pair.Replied(Query.STATUS, True, view=peer))
    assert done(actions) == outcome


def test_because_of_what_it_was_given_the_role_is_asked_once_it_has_it() -> None:
    peer = view("standby", "eth1", failed="eth0")
    told = pair.Replied(Query.COMPARE, True, view=peer)
    for name, from_peer, guarded, after in (
        ("active", True, None, {"eth0", "eth1"}),
        ("doubt", True, None, {"eth0", "eth1"}),
        ("active", True, frozenset({"eth9"}), {"eth9"}),
        ("active", False, None, None),
        ("promoting", True, None, None),
    ):
        state = node(name, from_peer=from_peer, guarded=guarded)
        found = step(state, told)[0].guarded
        assert found == (None if after is None else frozenset(after)), name
        untold = pair.Replied(Query.COMPARE, False, "busy")
        assert step(state, untold)[0].guarded == guarded


def test_what_is_given_because_of_an_interface_stays_so_until_the_peer_knows() -> None:
    for name in ("giving", "gift lost"):
        state = node(name, interfaces=judged(eth0="fail"))
        assert step(state, pair.Watched("eth0", 9, 9, "ok"))[0].interfaces == state.interfaces
        good = step(state, pair.Watched("eth1", 3, 2, "ok"))[0].interface("eth1")
        assert good == pair.Interface("eth1", "ok", 3, 2, heard=True, proved=True)


# ---------------------------------------------------------------------------- becoming what it is


@pytest.mark.parametrize("why", [purpose for purpose in Purpose if purpose is not Purpose.NONE])
def test_what_an_active_node_begins_with(why: Purpose) -> None:
    before = node(
        "promoting",
        purpose=why,
        interfaces=(replace(judged(eth0="fail")[0], up=False, proved=True), judged()[1]),
        waiting=WAITING,
        **{"failed": True, "resuming": True, "unclean": True},
        **{"claimed": 2, "quiet": 2, "blocked": "what was in the way"},
    )
    state, actions = step(before, pair.Ended("script", True))
    assert state.phase is Phase.ACTIVE
    assert not any((state.failed, state.resuming, state.unclean))
    assert (state.claimed, state.quiet, state.taken) == (0, 0, False)
    stays = why in (Purpose.TAKE_BACK, Purpose.DOUBT)
    assert state.blocked == ("what was in the way" if stays else "")
    new = tuple(pair.Interface(name) for name in MASTER.interfaces)
    assert state.interfaces == (replace(new[0], up=False, proved=True, unasked=True), new[1])
    assert pair.Ask(Query.COMPARE, MASTER.status_timeout) in actions
    comes = why in (Purpose.PEER, Purpose.RELIEF)  # because of what is bad at the peer
    assert left(state) == ({"HOLD": MASTER.hold_down} if comes else {})
    assert not probes(actions), "the peer is reached: it is asked itself"
    assert done(step(replace(before, timers=()), pair.Ended("script", True))[1]).startswith(
        "7 ok: active, announce, ask own"
    )


@pytest.mark.parametrize(
    ("before", "event"),
    [
        (node("giving"), pair.Replied(Query.FAIL, True)),
        (node("calling"), pair.Replied(Query.RESUME, False, "busy")),
        (node("demoting", purpose=Purpose.PEER), pair.Ended("script", True)),
    ],
)
def test_what_a_standby_begins_with(before: pair.State, event: pair.Event) -> None:
    known: Known = {"claimed": 2, "from_peer": True, "guarded": frozenset({"eth0"}), "quiet": 2}
    known |= {"stalled": True, "bare": True, "taken": False}
    fail = tuple(replace(i, proved=True) for i in judged(eth0="fail"))
    state = replace(before, interfaces=fail, **known)  # type: ignore[arg-type]
    state = timed(state, HEARD=5.0, HOLD=5.0, OWN=5.0)
    state, actions = step(state, event)
    assert moment(state) == "idle"
    assert (state.claimed, state.from_peer, state.guarded, state.quiet) == (0, False, None, 0)
    assert not (state.stalled or state.bare)
    assert left(state) == {}
    assert pair.Ask(Query.COMPARE, MASTER.status_timeout) in actions
    if "begin windows" in done(actions):  # a verdict is known until there is another
        assert state.interfaces == (
            replace(fail[0], proved=False),
            pair.Interface("eth1"),
        )
    else:
        assert state.interfaces == fail


def test_a_node_that_cleans_up_again_and_again_counts_on_since_when_none_is_active() -> None:
    before = timed(node("demoting", purpose=Purpose.CLEAN), NOBODY=1.0, HEARD=5.0, UNHEARD=9.0)
    for ok in (True, False):
        after, _ = step(before, pair.Ended("script", ok))
        assert (moment(after), deadline(after, Timer.NOBODY)) == ("idle", NOW + 1.0)
    during, actions = step(before, pair.Tick(), after=1.0)
    assert (during.phase, done(actions)) == (Phase.DEMOTING, "")
    assert deadline(during, Timer.NOBODY) == NOW + 1.0 + AGAIN


def test_a_preferred_node_asks_as_soon_as_all_interfaces_have_received_and_once() -> None:
    quiet = node("idle", resuming=True, timers=())
    first, actions = step(quiet, pair.Watched("eth0", 1, 0, "boot"))
    assert (moment(first), done(actions)) == ("idle", "")
    second, actions = step(first, pair.Watched("eth1", 1, 0, "boot"))
    assert (moment(second), done(actions)) == ("boot", "status")
    back = node("idle", resuming=True, interfaces=second.interfaces)
    assert moment(step(back, pair.Watched("eth1", 1, 1, "ok"))[0]) == "idle"
    down = tuple(replace(i, up=i.name != "eth1") for i in second.interfaces)
    up = node("idle", resuming=True, interfaces=down)
    assert moment(step(up, pair.Carrier("eth1", True))[0]) == "boot"
    for changes in ({"resuming": False}, {"phase": Phase.ACTIVE}):
        other = replace(first, **changes)
        assert moment(step(other, pair.Watched("eth1", 1, 0, "boot"))[0]) in ("idle", "active")
    for known, wanted in (
        ({"resuming": True}, "status"),
        ({"unclean": True}, "run slave"),
        ({}, ""),
    ):
        due = node("idle", timers=((Timer.RETRY, NOW),), **known)
        assert done(step(due, pair.Tick())[1]) == wanted


# ---------------------------------------------------------------------------- what is said


def test_what_is_in_the_way_is_an_alarm_once() -> None:
    state = node("silence", silent=True, unanswered=True, **ALONE)
    for number in range(5):
        liar = pair.Answers(False, 1, True, f"192.0.2.10 02:00:00:00:00:0{number}")
        told = alarms(state, liar)
        assert len(told) == (number == 0)
        assert not told or ("still answers ARP" in told[0] and "by=02:00:00" in told[0])
        state, _ = step(state, liar)
    state, _ = step(state, BEATS)
    assert state.blocked == ""  # so the next time is told again


@pytest.mark.parametrize(
    ("name", "event", "again"),
    [
        ("active", pair.Watched("eth0", 1, 0, "ok"), True),
        ("active", pair.Watched("eth0", 0, 1, "ok"), False),
        ("active", pair.Watched("eth0", 0, 0, "fail"), False),
        ("active", pair.Watched("eth1", 1, 0, "ok"), False),  # the other one is still bad
        ("active", BEATS, False),
        ("idle", pair.Watched("eth0", 1, 0, "ok"), False),
        ("idle", BEATS, True),
        ("idle", pair.LinkWatched(0, "ok"), False),
    ],
)
def test_from_when_on_what_is_in_the_way_is_said_again(
    name: str, event: pair.Event, again: bool
) -> None:
    """For an active node when all its interfaces are good, for a standby when the link is."""
    known = node(name, blocked="it is said", silent=True, interfaces=judged(eth0="fail"))
    assert (step(known, event)[0].blocked == "") is again
    if name == "idle":
        assert step(replace(known, silent=False), event)[0].blocked, "it was alive before, too"


def test_who_cannot_give_its_role_away_says_so_once_though_its_other_interface_is_good() -> None:
    state = node("active", interfaces=judged(eth0="fail"))
    unable = pair.Replied(Query.STATUS, True, view=view("standby", "eth0"))
    told = []
    for _ in range(4):
        state, _ = step(state, pair.Watched("eth0", 0, 0, "fail"))
        assert moment(state) == "interface"
        told += alarms(state, unable)
        state, _ = step(state, unable)
        state, _ = step(state, pair.Watched("eth1", 9, 9, "ok"))
    found = 'cause="interface failed" found="the peer is standby, and is no better off"'
    assert told == [f"SWITCHOVER-BLOCKED role: the role stays; {found}"]


REFUSALS = [
    # whom a person or the log is told, what is known, what comes; the reason
    ("operator", STATUS["switching"], "the peer is switching"),
    ("release", STATUS["switching"], "the peer is switching"),
    (
        "release",
        pair.Replied(Query.STATUS, True, view=view("standby", "eth0 eth1", down="eth0 eth1")),
        "the peer is standby, and has no interface that is up",
    ),
]
BETTER_OFF = tuple(replace(i, heard=True, packets=0, last=0) for i in judged())


def test_a_preferred_node_that_is_worse_off_says_so() -> None:
    before = node("boot", interfaces=BETTER_OFF)
    assert alarms(before, STATUS["active"]) == [
        "TAKEOVER-BLOCKED role: no takeover; cause=boot "
        'found="the peer is active, and is better off"'
    ]


@pytest.mark.parametrize(("name", "event", "why"), REFUSALS)
def test_a_refusal_names_purpose_finding_and_condition(
    name: str, event: pair.Event, why: str
) -> None:
    before = node(name, waiting=WAITING)
    purpose = before.purpose.value
    assert done(step(before, event)[1]) == f"7 error: {why}"
    (line,) = alarms(before, event)
    assert f"cause={quoted(purpose)} found={quoted(why)}" in line


def test_no_alarm_precedes_an_ordinary_takeover() -> None:
    state = node("idle", **ALONE)
    for event in (pair.LinkWatched(0, "ok"), UNANSWERED, SILENT):
        assert alarms(state, event) == []
        state, _ = step(state, event)
    assert state.phase is Phase.PROMOTING


# ---------------------------------------------------------------------------- beside the table


def test_a_node_that_yields_asks_before_it_takes_the_role_back() -> None:
    """The peer is active: it was so when this node stood down for it."""
    giving = node("giving", purpose=Purpose.BOTH, waiting=())
    state, actions = step(giving, pair.Replied(Query.FAIL, False, "busy"))
    assert done(actions) == "status"
    assert state.told is Query.FAIL and not state.runs_out(Timer.UNDER_WAY)
    assert step(state, STATUS["active"])[0].phase is Phase.STANDBY
    assert step(state, STATUS["standby"])[0].purpose is Purpose.TAKE_BACK


def test_a_stall_does_not_shorten_the_hold_down() -> None:
    for stalled in (False, True):
        before = node("promoting", purpose=Purpose.PEER, from_peer=True, stalled=stalled)
        state, _ = step(before, pair.Ended("script", True))
        assert deadline(state, Timer.HOLD) == NOW + MASTER.hold_down


def test_a_role_does_not_stay_because_of_an_interface_that_was_bad_here_before() -> None:
    """It has not come because of that one, so its peer may have it back when it is better off."""
    both = pair.Interface("eth0", "fail", 0, 0), pair.Interface("eth1", "ok", 5, 5)
    before = node("promoting", purpose=Purpose.PEER, from_peer=True, interfaces=both)
    state, _ = step(before, pair.Ended("script", True))
    assert [i.proved for i in state.interfaces] == [True, False]
    told = pair.Replied(Query.COMPARE, True, view=view("standby", "eth0 eth1"))
    state, _ = step(state, told)
    for name, held, begins in (("eth0", 0.0, True), ("eth0", 1.0, False), ("eth1", 0.0, False)):
        at = replace(timed(state, HOLD=held), begun=True) if held else timed(state)
        after, _ = step(at, pair.Watched(name, 0, 0, "fail"))
        assert (after.purpose is Purpose.INTERFACE) is begins, (name, held)


def test_an_interface_that_failed_is_asked_about_whatever_the_doubt() -> None:
    before = node("doubt", interfaces=judged(eth0="fail"), quiet=3, **ALONE)
    state, _ = step(before, NO_STATUS)
    assert (moment(state), pair.announceable(state)) == ("active", ("eth1",))
    state, actions = step(state, pair.Watched("eth0", 5, 5, "ok"))
    assert pair.announceable(state) == ("eth1",) and "ask own" in done(actions)


def test_a_start_beside_an_active_peer_is_no_alarm_and_hides_none() -> None:
    new = tuple(pair.Interface(name) for name in MASTER.interfaces)
    for blocked in ("", "what is in the way"):
        before = node("boot", interfaces=new, blocked=blocked)
        assert not alarms(before, STATUS["active"])
        lines = said(before, STATUS["active"])
        assert [line.event for line in lines] == ([] if blocked else ["FAILBACK-WAIT"])
        assert blocked or ("lacking", "eth0, eth1") in lines[0].values


def test_nothing_is_in_the_way_of_a_standby_whose_peer_serves() -> None:
    """Not what an operator was refused, nor what kept a role here that is the peer's by now."""
    still: tuple[Known, ...] = (
        {},
        {"silent": True},
        {"resuming": True},
        {"failed": True},
        {"unclean": True},
        {"held": True},
    )
    for known in still:
        state = node("idle", blocked="operator: no answer", **known)
        assert bool(step(state, COMPARED["active"])[0].blocked) is bool(known)
        assert step(state, COMPARED["standby"])[0].blocked


def test_who_did_not_ask_does_not_say_that_none_answers() -> None:
    for name, rules in (
        ("silence", replace(SLAVE, confirm="none")),
        ("operator", replace(SLAVE, addressed=frozenset())),
    ):
        lines = said(node(name, **ALONE), NO_STATUS, rules)
        found = [dict(line.values)["found"] for line in lines if line.event == "TAKEOVER"]
        assert found == ["no answer from the peer"]


# ---------------------------------------------------------------------------- checks


WEB = pair.Checked("web", False)
PASSED = pair.Checked("web", True)
BETTER = pair.Replied(Query.COMPARE, True, view=view("standby"))


def sick(name: str = "active", **changes: object) -> pair.State:
    return node(name, checks=frozenset({"web"}), **changes)


def test_a_bad_check_has_the_peer_asked_and_the_role_given() -> None:
    state, actions = step(node("active", interfaces=judged()), WEB)
    assert (moment(state), done(actions)) == ("check", "status")
    answer = pair.Replied(Query.STATUS, True, view=view("standby"))
    (line,) = said(state, answer)
    assert (line.event, dict(line.values)["bad"]) == ("SWITCHOVER", "check web")
    state, actions = step(state, answer)
    assert (state.phase, state.purpose, done(actions)) == (
        Phase.DEMOTING,
        Purpose.CHECK,
        "run slave",
    )
    state, actions = step(state, pair.Ended("script", True))
    assert (state.phase, done(actions)) == (Phase.TOLD, "fail")
    state, _ = step(state, pair.Replied(Query.FAIL, True))
    assert (moment(state), state.checks) == (
        "idle",
        frozenset({"web"}),
    )  # the peer has to learn why


@pytest.mark.parametrize(
    "peer",
    [view("standby", checks="web"), view("standby", "eth0"), *(map(view, ROLES[2:]))],
)
def test_a_bad_check_moves_nothing_to_a_peer_that_is_no_better(peer: PeerView) -> None:
    """Both bad: nothing moves."""
    state = step(sick("check"), pair.Replied(Query.STATUS, True, view=peer))[0]
    assert moment(state) == "active"
    assert moment(step(state, pair.Replied(Query.COMPARE, True, view=peer))[0]) == "active"


def test_a_check_without_a_result_is_not_good_at_the_peer() -> None:
    """Or what is bad on both, since a reload say, would go there first. One that a standby does not
    make has none, whatever the service would do there."""
    peer = replace(view("standby"), untried=frozenset({"web"}))
    found = pair.Replied(Query.STATUS, True, view=peer)
    for everywhere, then in (("web", "active"), ("db", "demoting")):
        rules = replace(MASTER, everywhere=frozenset({everywhere}))
        state = step(sick("check"), found, rules)[0]
        assert state.phase.value == then


def test_the_role_is_given_as_soon_as_the_peer_is_better() -> None:
    assert moment(step(sick(), BETTER)[0]) == "check"
    assert moment(step(node("active"), BETTER)[0]) == "active"


def test_a_role_that_came_because_of_a_check_goes_back_when_that_was_good_here() -> None:
    """An end to what would go to and fro: a good run here, and the hold-down."""
    came: Known = {"from_peer": True, "guarded": frozenset({"check web"})}
    assert moment(step(node("active", **came), WEB)[0]) == "active"
    passed = step(node("active", **came), PASSED)[0]
    assert moment(step(passed, WEB)[0]) == "check"
    held = replace(passed, timers=((Timer.HOLD, NOW + 9), *passed.timers))
    assert moment(step(held, WEB)[0]) == "active"
    assert moment(step(node("active", **came), pair.Checked("db", False))[0]) == "check"


def test_what_the_role_came_for_is_learnt_from_the_peer() -> None:
    state = node("active", from_peer=True)
    told = pair.Replied(Query.COMPARE, True, view=view("standby", "eth1", checks="web"))
    assert step(state, told)[0].guarded == frozenset({"eth1", "check web"})


def test_a_restart_does_not_forget_why_the_role_came() -> None:
    """Or a service that is bad on both nodes would change nodes at each one."""
    for from_peer, then in ((True, "active"), (False, "check")):
        guarded = frozenset({"check web"}) if from_peer else None
        began = pair.Started("active", from_peer=from_peer, guarded=guarded)
        state = step(pair.initial(MASTER), began)[0]
        state = step(state, pair.Replied(Query.STATUS, True, view=view("standby")))[0]
        assert moment(step(state, WEB)[0]) == then
        assert state.runs_out(Timer.HOLD) is from_peer
        late = step(pair.initial(MASTER), replace(began, lasted=MASTER.hold_down - 2.0))[0]
        assert left(late).get("HOLD") == (2.0 if from_peer else None)
        assert moment(step(state, pair.Checked("db", False))[0]) == "check"
    assert not step(pair.initial(MASTER), pair.Started("standby", from_peer=True))[0].from_peer


def test_what_means_nothing_any_more_proves_nothing() -> None:
    """A check that a reload has changed was not good here, nor is it bad."""
    came: Known = {"from_peer": True, "guarded": frozenset({"check web"})}
    for before in (WEB, PASSED):
        state = step(node("active", **came), before)[0]
        state = step(state, pair.Checked("web", None))[0]
        assert state.checks == state.passed == frozenset()
        assert moment(step(state, WEB)[0]) == "active"


def test_what_was_found_of_a_service_that_runs_no_more_has_an_end() -> None:
    state, _ = step(sick("demoting", purpose=Purpose.PEER), pair.Ended("script", True))
    assert state.checks == frozenset({"web"})  # until the master says so
    assert step(state, PASSED)[0].checks == state.passed == frozenset()
    assert step(sick("promoting"), pair.Ended("script", True))[0].checks == frozenset()


@pytest.mark.parametrize(
    ("interfaces", "checks", "peer", "yields"),
    [
        (judged(), "web", view("active"), True),
        (judged(), "", view("active", checks="web"), False),
        (judged(), "web", view("active", checks="web"), False),
        (judged(), "web", view("active", "eth0 eth1"), False),
    ],
)
def test_of_two_active_nodes_a_bad_check_counts_as_an_interface(
    interfaces: tuple[pair.Interface, ...], checks: str, peer: PeerView, yields: bool
) -> None:
    state = node("active", interfaces=interfaces, checks=frozenset(checks.split()))
    after = step(state, pair.Replied(Query.COMPARE, True, view=peer))[0]
    assert (after.phase is Phase.DEMOTING) is yields


# ---------------------------------------------------------------------------- hold and failback

HOLD, RELEASE = pair.Hold(True), pair.Hold(False)
SEEKS = ("boot", "nobody", "silence", "relief", "fencing")
GOES_ON = ("operator", "calling", "call lost", "promoting", "release", "doubt", "demoting")


@pytest.mark.parametrize("name", MOMENTS)
def test_a_hold_ends_what_is_not_decided_yet(name: str) -> None:
    """What was told, or is being done, goes on; and so does all that an operator wants."""
    state, _ = step(node(name), HOLD)
    given_up = {**dict.fromkeys(SEEKS, "idle"), "interface": "active", "check": "active"}
    assert (moment(state), state.held) == (given_up.get(name, name), True)
    assert {*given_up, *GOES_ON, "idle", "active", "giving", "gift lost"} == {*MOMENTS}


def test_while_on_hold_nothing_begins_by_itself() -> None:
    silent = pair.LinkWatched(0, "fail")
    failed = pair.Watched("eth0", 0, 0, "fail")
    alone = node("idle", held=True, **ALONE)
    for state, event in (
        (alone, silent),
        (node("active", held=True), failed),
        (node("active", held=True), WEB),
        (sick(held=True), BETTER),
    ):
        after = step(state, event)[0]
        assert moment(after) == moment(state), event
    timers = ((Timer.NOBODY, NOW), *REACHED)
    both = node("idle", held=True, peer=view("standby"), timers=timers)
    assert moment(step(both, pair.Tick())[0]) == "idle"
    for was in (None, "standby"):
        boots = replace(pair.initial(MASTER), held=True)
        state = step(boots, pair.Started(was, resuming=True))[0]
        assert (moment(state), state.resuming) == ("idle", True)
        assert moment(step(state, pair.Tick(), after=WINDOW)[0]) == "idle"


def test_what_is_on_hold_is_said_once_and_done_after_the_release() -> None:
    silent = pair.LinkWatched(0, "fail")
    state, actions = pair.step(node("idle", held=True, **ALONE), silent, MASTER, NOW)
    assert "HELD" in [line.event for line in actions if isinstance(line, pair.Log)]
    again, actions = pair.step(state, silent, MASTER, NOW + 1)
    assert not [line for line in actions if isinstance(line, pair.Log)]
    released = step(again, RELEASE)[0]
    assert moment(step(released, silent)[0]) == "silence"


def test_on_hold_an_operator_and_split_brain_move_the_role() -> None:
    assert moment(step(node("idle", held=True), pair.Request(7, "fail", False))[0]) == "operator"
    state = step(node("active", held=True), pair.Request(7, "resume", False))[0]
    assert moment(state) == "release"
    both = pair.Replied(Query.COMPARE, True, view=view("active", boot="master"))
    assert step(node("active", held=True), both, SLAVE)[0].purpose is Purpose.BOTH


ACTIVE_PEER = pair.Replied(Query.STATUS, True, view=view("active"))


WAITS = replace(MASTER, failback=30.0)


def well() -> tuple[pair.Interface, ...]:
    return tuple(replace(interface, heard=True) for interface in judged())


def test_a_preferred_node_does_not_take_its_role_before_its_checks_have_told() -> None:
    """It would give it back at once if one is bad."""
    rules = replace(MASTER, everywhere=frozenset({"web", "db"}))
    for results, takes, lacking in (
        ((), False, "check db, check web"),
        ((True,), False, "check db"),
        ((True, True), True, ""),
        ((True, False), False, ""),
        ((True, None), False, "check db"),
    ):
        state = node("boot", interfaces=well(), resuming=True, blocked="")
        for name, ok in zip(("web", "db"), results, strict=False):
            state = step(state, pair.Checked(name, ok), rules)[0]
        lines = [dict(line.values) for line in said(state, STATUS["active"], rules)]
        asked = step(state, STATUS["active"], rules)[0]
        assert (asked.told is Query.RESUME) is takes, results
        assert lines[0].get("lacking", "") == lacking
        assert ("has no result yet" in lines[0]["found"]) is bool(lacking)
        alone = step(replace(state, timers=()), NO_STATUS, rules)[0]
        assert moment(step(alone, UNANSWERED, rules)[0]) != "idle"  # then it is needed


def test_the_time_of_failback_begins_when_the_checks_have_told() -> None:
    rules = replace(MASTER, everywhere=frozenset({"web"}), failback=30.0)
    state = step(node("idle", interfaces=well(), resuming=True), pair.Tick(), rules)[0]
    assert left(state)["UNWELL"] == 30.0
    state = step(state, PASSED, rules, 7.0)[0]
    assert left(step(state, COMPARED["active"], rules, 9.0)[0])["UNWELL"] == 37.0 - 7.0


def test_without_failback_the_preferred_node_stands_by() -> None:
    never = replace(MASTER, failback=None)
    state = step(node("boot", interfaces=well(), resuming=True), ACTIVE_PEER, never)[0]
    assert (moment(state), state.resuming) == ("idle", False)
    standby = pair.Replied(Query.STATUS, True, view=view("standby"))
    state = step(node("boot", interfaces=well(), resuming=True), standby, never)[0]
    assert (state.phase, state.told) == (Phase.TOLD, Query.RESUME)


def test_failback_after_a_time_begins_again_with_whatever_is_bad() -> None:
    known: Known = {
        "interfaces": well(),
        "resuming": True,
        "timers": ((Timer.RETRY, NOW), *REACHED),
    }
    waits = node("idle", **known)
    for event in (pair.Watched("eth0", 0, 0, "fail"), pair.Carrier("eth1", False), WEB):
        assert deadline(step(waits, event, WAITS)[0], Timer.UNWELL) == NOW + 30, event
        assert deadline(step(waits, event, MASTER)[0], Timer.UNWELL) is None
    unreached = node("idle", **known | {"timers": ((Timer.RETRY, NOW), (Timer.UNHEARD, NOW + 9))})
    assert deadline(step(unreached, pair.Carrier("eth0", True), WAITS)[0], Timer.UNWELL) == NOW + 30
    over = node("idle", **known | {"timers": ((Timer.UNWELL, NOW), *REACHED)})
    state, actions = step(over, pair.Tick(), WAITS)
    assert (moment(state), done(actions)) == ("boot", "status")
    assert step(state, ACTIVE_PEER, WAITS)[0].told is Query.RESUME
    early = replace(state, timers=((Timer.UNWELL, NOW + 9), *state.timers))
    after = step(early, ACTIVE_PEER, WAITS)[0]
    assert (moment(after), after.resuming) == ("idle", True)


def test_a_role_that_the_peer_gave_is_known_to_come_from_it() -> None:
    state, _ = step(node("idle", guarded=None), pair.Request(1, "fail", True))
    assert (state.from_peer, state.guarded) == (True, None)
    state, _ = step(state, pair.Ended("script", True))
    seen = pair.Replied(Query.COMPARE, True, view=view("standby", failed="eth0"))
    assert step(state, seen)[0].guarded == frozenset({"eth0"})


def test_a_role_that_an_operator_wants_here_does_not_come_from_the_peer() -> None:
    seen = pair.Replied(Query.STATUS, True, view=view("active", failed="eth0"))
    state, actions = step(node("operator", waiting=((1, False),)), seen)
    assert (done(actions), state.from_peer, state.guarded) == ("resume", False, None)


def test_what_receives_less_than_low_water_is_no_reason_before_hold_down_is_over() -> None:
    little = tuple(replace(i, packets=3) for i in judged(eth0="fail", eth1="fail"))
    given: Known = {"from_peer": True, "timers": ((Timer.HOLD, NOW + 9),)}
    assert not pair.wants_relief(node("active", interfaces=little, **given))
    nothing = judged(eth0="fail", eth1="fail")
    assert pair.wants_relief(node("active", interfaces=nothing, **given))
