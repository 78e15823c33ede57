"""What the pair decides: the policy's cells, what a request and a script's end lead to, and what
is promised whatever happens.

What follows from what over time is the explorer's; the small rules, and the moments at which
something begins and ends, are in test_pair_rules.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from one_node import (
    ALONE,
    ANYTIME,
    MASTER,
    MOMENTS,
    NOW,
    REACHED,
    ROLES,
    SLAVE,
    WORLDS,
    Known,
    come_to_rest,
    done,
    is_alarm,
    judged,
    moment,
    node,
    started,
    step,
    view,
    words,
)

from failoverd import pair
from failoverd.pair import Phase, Posture, Purpose, Query, Timer
from failoverd.pair.invariant import check
from failoverd.pair.policy import POLICY, Finding, Outcome, decide, must_stand_by
from failoverd.pair.turn import MAX_WAITING

# ---------------------------------------------------------------------------- the policy

# What may be otherwise than with two nodes that are well, of which this one has a failed
# interface that the peer has not.
OTHERWISE: dict[str, tuple[str, Known, pair.Rules]] = {
    # what is otherwise here, and at the peer; the rules
    "well": ("", {}, MASTER),
    "new": ("new", {}, MASTER),  # an interface has received nothing yet
    "worse": ("silent", {}, MASTER),  # one more is bad here
    "down": ("down", {}, MASTER),
    "failed": ("", {"bad": "eth0 eth1", "failed": "eth0 eth1"}, MASTER),  # the peer is
    "mute": (
        "",
        {"bad": "eth0 eth1", "failed": "eth0 eth1", "wants_relief": True},
        MASTER,
    ),  # nor does the peer reach this node
    "unable": ("", {"bad": "eth0"}, MASTER),
    "unable mute": ("", {"bad": "eth0", "failed": "eth0", "wants_relief": True}, MASTER),
    "cut": ("", {"bad": "eth0 eth1", "down": "eth0 eth1"}, MASTER),
    "broken": ("broken", {}, MASTER),
    "early": ("early", {}, MASTER),  # what the peer was told may still arrive
    "broken early": ("broken early", {}, MASTER),
    "lower": ("", {"boot": "master"}, SLAVE),
    "late": ("late", {}, MASTER),  # the peer has had as long as it may take
    "lower late": ("late", {"boot": "master"}, SLAVE),
    "sick": ("sick", {}, MASTER),  # a check is bad here
    "sick/peer unable": ("sick", {"bad": "eth0"}, MASTER),
    "peer sick": ("", {"checks": "web"}, MASTER),
    "no failback": ("", {}, replace(MASTER, failback=None)),
    "failback soon": ("unwell", {}, replace(MASTER, failback=30.0)),
    "failback due": ("", {}, replace(MASTER, failback=30.0)),
}
WHY: dict[str, Purpose | Query] = {
    **{purpose.name: purpose for purpose in POLICY if isinstance(purpose, Purpose)},
    **{f"told {query.value}": query for query in POLICY if isinstance(query, Query)},
}
# For each purpose: finding: outcome; and where it is another, when it is which.
CELLS = """
NOBODY       ACTIVE: STAY
NOBODY       IDLE: CALL
NOBODY       FAILED: CALL
NOBODY       SWITCHING: WAIT
NOBODY       SILENT: STAY
BOOT         ACTIVE: CALL; STAY new, worse, down, sick, no failback, failback soon
BOOT         IDLE: CALL
BOOT         FAILED: CALL
BOOT         SWITCHING: WAIT
BOOT         TAKEN: STAY
BOOT         FREE: TAKE; STAY new, down
BOOT         BLIND: STAY
SILENCE      ACTIVE: STAY
SILENCE      IDLE: STAY
SILENCE      FAILED: STAY
SILENCE      SWITCHING: STAY
SILENCE      TAKEN: WAIT
SILENCE      FREE: TAKE; STAY down
SILENCE      BLIND: WAIT
RELIEF       ACTIVE: STAY; CALL mute
RELIEF       IDLE: STAY
RELIEF       FAILED: STAY
RELIEF       SWITCHING: STAY
RELIEF       SILENT: STAY
OPERATOR     ACTIVE: CALL; STAY down
OPERATOR     IDLE: CALL
OPERATOR     FAILED: CALL
OPERATOR     SWITCHING: STAY
OPERATOR     TAKEN: STAY
OPERATOR     FREE: TAKE
OPERATOR     BLIND: STAY
INTERFACE    ACTIVE: KEEP
INTERFACE    IDLE: PROVE; KEEP failed, mute, unable, unable mute, cut, sick/peer unable, peer sick
INTERFACE    FAILED: KEEP
INTERFACE    SWITCHING: KEEP
INTERFACE    SILENT: KEEP
CHECK        ACTIVE: KEEP
CHECK        IDLE: GIVE; KEEP failed, mute, unable, unable mute, cut, peer sick
CHECK        FAILED: KEEP
CHECK        SWITCHING: KEEP
CHECK        SILENT: KEEP
RELEASE      ACTIVE: KEEP
RELEASE      IDLE: GIVE; KEEP cut
RELEASE      FAILED: GIVE; KEEP cut
RELEASE      SWITCHING: KEEP
RELEASE      SILENT: KEEP
DOUBT        ACTIVE: YIELD
DOUBT        IDLE: KEEP
DOUBT        FAILED: KEEP
DOUBT        SWITCHING: WAIT
DOUBT        TAKEN: YIELD
DOUBT        FREE: KEEP
DOUBT        BLIND: WAIT
told resume  ACTIVE: STAY
told resume  IDLE: TAKE
told resume  FAILED: TAKE
told resume  SWITCHING: WAIT; STAY lower late
told resume  TAKEN: STAY
told resume  FREE: TAKE
told resume  BLIND: STAY
told fail    ACTIVE: DONE
told fail    IDLE: BACK; STAY broken, broken early; WAIT early
told fail    FAILED: BACK; STAY broken, broken early; WAIT early
told fail    SWITCHING: WAIT; STAY lower late
told fail    TAKEN: DONE
told fail    FREE: BACK; STAY broken, broken early
told fail    BLIND: STAY
"""
FOUND = {
    Finding.ACTIVE: "active",
    Finding.IDLE: "standby",
    Finding.FAILED: "failed",
    Finding.SWITCHING: "switching",
}


def cells() -> dict[tuple[str, Finding], dict[str, Outcome]]:
    """The table that is expected: the outcome of each cell, by what is otherwise."""
    found = {}
    for line in CELLS.strip().splitlines():
        why, _, rest = line.partition("  ")
        finding, _, outcomes = rest.strip().partition(": ")
        usual, *others = outcomes.split("; ")
        by_case = dict.fromkeys(OTHERWISE, Outcome[usual])
        for other in others:
            outcome, _, cases = other.partition(" ")
            by_case |= dict.fromkeys(cases.split(", "), Outcome[outcome])
        assert set(by_case) == set(OTHERWISE), line
        found[why.strip(), Finding[finding]] = by_case
    return found


def knowing(why: str, finding: Finding, case: str) -> tuple[pair.State, pair.Rules]:
    """A node that has found this out, when a thing is otherwise."""
    here, peer, rules = OTHERWISE[case]
    words = here.split()
    first, second = (
        replace(interface, heard=True, up="down" not in words) for interface in judged(eth0="fail")
    )
    second = replace(second, heard="new" not in words)
    if "silent" in words:
        second = replace(second, packets=0, last=0)
    timers = {
        Timer.GIVE_UP: "late" not in words,
        Timer.UNDER_WAY: "early" in words,
        Timer.UNWELL: "unwell" in words,
    }
    reason = WHY[why]
    state = pair.State(
        phase=Phase.RESOLVING,
        purpose=reason if isinstance(reason, Purpose) else Purpose.OPERATOR,
        told=reason if isinstance(reason, Query) else None,
        begun=True,
        failed="broken" in words,
        checks=frozenset({"web"} if "sick" in words else ()),
        interfaces=(first, second),
        peer=view(FOUND.get(finding, "standby"), **peer),  # type: ignore[arg-type]
        timers=tuple((timer, NOW + 5) for timer, on in timers.items() if on),
    )
    return state, rules


@pytest.mark.parametrize("case", OTHERWISE)
@pytest.mark.parametrize("why", WHY)
def test_what_each_purpose_makes_of_each_finding(why: str, case: str) -> None:
    """Every cell, with every condition both ways, and all others as they should not matter."""
    found, expected = {}, {}
    for (purpose, finding), outcomes in cells().items():
        if purpose == why:
            state, rules = knowing(why, finding, case)
            found[finding] = decide(state, finding, rules)
            expected[finding] = outcomes[case]
    assert found == expected


def test_every_finding_that_can_be_made_has_an_outcome() -> None:
    """A cell ends without a condition, and no other has none; the rest is never found out."""
    asked = {
        (why, finding): cell
        for why, reason in WHY.items()
        for finding, cell in POLICY[reason].items()
        if cell
    }
    assert set(asked) == set(cells())
    for where, cell in asked.items():
        assert [condition is None for condition, _ in cell] == [False] * (len(cell) - 1) + [True]
        two_of_one = any(condition is must_stand_by for condition, _ in cell)  # and STAY otherwise
        assert len({outcome for _, outcome in cell}) == len(cell) - two_of_one, where
    for row in POLICY.values():
        assert list(row) == list(Finding)
        assert (row[Finding.SILENT] == ()) is (row[Finding.FREE] != ()), "one of the two is asked"


# ---------------------------------------------------------------------------- whatever happens

Story = list[tuple[int, int, float]]
WAITS = (0.0, 0.0, 0.1, 0.5, 1.0, 3.0, 10.0, 40.0)
stories = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 10_000), st.sampled_from(WAITS)), max_size=50
)
SHORT = {"window": 0.2, "card_window": 0.1, "heartbeat": 0.1, "status_timeout": 1.0}
some_rules = st.builds(
    lambda rules, confirm, fence, addressed, mresume, short, failback: replace(
        rules,
        confirm="none" if confirm == "arp" and not addressed else confirm,
        fence=fence,
        addressed=frozenset(addressed),
        mresume=mresume,
        failback=failback,
        **(SHORT if short else {}),
    ),
    st.sampled_from([MASTER, SLAVE]),
    st.sampled_from(["arp", "none", "program"]),
    st.booleans(),
    st.sampled_from([("eth0",), ("eth0", "eth1"), ()]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0.0, 25.0, None]),
)


@given(
    some_rules,
    st.sampled_from([None, *ROLES[:4]]),
    st.booleans(),
    st.booleans(),
    stories,
    st.sampled_from(sorted(WORLDS)),
)
@settings(deadline=None, max_examples=300)
def test_every_promise_is_kept_whatever_happens(
    rules: pair.Rules, was: str | None, resuming: bool, unclean: bool, story: Story, world: str
) -> None:
    """`Node` judges after every step; and whoever waits when the story ends is answered.

    Mostly what comes is an answer to what was asked.
    """
    found = started(rules, was, resuming and was in ("standby", "failed"), unclean)
    for kind, number, seconds in story:
        events = found.possible()
        awaited = [e for e in events if e not in ANYTIME and not isinstance(e, pair.Request)]
        choice = awaited if kind and awaited else events
        found.feed(choice[number % len(choice)])
        found.wait(seconds)
    come_to_rest(found, world, 2 * rules.switch_time)
    found.must(not found.owed, "an asker waits for ever")


def test_a_late_answer_means_nothing() -> None:
    """Of a query nothing but a newer one is waited for; of a program only the last run."""
    for name in MOMENTS:
        for number in (0, 1, 3):
            for kind in ("fence", "confirm"):
                before = node(name, program=2 if name in ("fencing", "silence") else 0, runs=2)
                if number or before.program:
                    late = pair.Ended(kind, True, number=number)
                    assert step(before, late) == (before, []), (name, number)


WAITING = ((7, False), (8, True))


@pytest.mark.parametrize(
    ("known", "wrong"),
    [
        ({"phase": Phase.RESOLVING}, "a role changes without a purpose"),
        ({"purpose": Purpose.BOOT}, "a role changes without a purpose"),
        ({"waiting": WAITING}, "a request that waits is not answered"),
        ({"timers": ((Timer.PATIENCE, NOW),)}, "the patience timer runs"),
        (MOMENTS["operator"], "a request that was answered is still carried out"),
        (MOMENTS["boot"] | {"purpose": Purpose.PEER}, "the policy has no row"),
        (MOMENTS["boot"] | {"unanswered": True}, "it waits, and nothing will come"),
        ({"told": Query.FAIL}, "what the peer was told outlives its end"),
        (MOMENTS["giving"] | {"told": None}, "the peer was told nothing"),
        (MOMENTS["giving"], "the peer's answer is waited for without end"),
        ({"timers": ((Timer.UNDER_WAY, NOW),)}, "what was told for another purpose"),
        (MOMENTS["active"] | {"timers": ((Timer.RETRY, NOW),)}, "what is over is tried again"),
        ({"unclean": True}, "a standby that wants its role, or is not clean, has no next try"),
        ({"resuming": True}, "a standby that wants its role, or is not clean, has no next try"),
        (MOMENTS["fencing"] | {"purpose": Purpose.BOOT}, "something else than a lost heartbeat"),
        (MOMENTS["fencing"] | {"program": 0}, "nothing fences"),
        ({"program": 1}, "a program's word is awaited for nothing"),
        ({"taken": True, "quiet": 1}, "the addresses are both taken and free"),
        ({"quiet": 4}, "more rounds are counted than make sure"),
        ({"claimed": 4}, "more rounds are counted than make sure"),
        ({"from_peer": True}, "a standby remembers the role that it had"),
        ({"stalled": True}, "a standby remembers the role that it had"),
        ({"timers": ((Timer.OWN, NOW),)}, "a standby remembers the role that it had"),
        (MOMENTS["active"] | {"failed": True}, "an active node is called failed"),
        (MOMENTS["active"] | {"resuming": True}, "an active node wants what it has"),
        (MOMENTS["active"] | {"bare": True}, "an active node has lost its addresses"),
        (MOMENTS["active"] | {"guarded": frozenset()}, "a role that did not come"),
        ({"passed": frozenset({"web"})}, "a standby remembers"),
        (MOMENTS["silence"] | {"held": True}, "a role is sought on hold"),
        ({"timers": ((Timer.HEARD, NOW),)}, "a peer is heard, and its port is closed"),
        ({"timers": ((Timer.OWN, 1.0), (Timer.OWN, 2.0))}, "a standby remembers"),
    ],
)
def test_what_is_wrong_with_one_node_is_named(known: Known, wrong: str) -> None:
    state = pair.State(begun=True, **known)  # type: ignore[arg-type]
    assert check(state).startswith(wrong)
    assert check(replace(state, begun=False)) == ""


@pytest.mark.parametrize("name", MOMENTS)
def test_nothing_is_wrong_at_these_moments(name: str) -> None:
    told = node(name).phase is Phase.TOLD
    waits = () if name in ("idle", "active") else WAITING
    timers = (*REACHED, *(((Timer.GIVE_UP, NOW + 9),) if told else ()))
    assert check(node(name, waiting=waits, timers=timers)) == ""


# ---------------------------------------------------------------------------- requests

PROMOTES = "promoting (told by the peer); 7 waits, run master"
DEMOTES = "demoting (told by the peer); 7 waits, run slave"
# For each command and who gives it: at which moments; what becomes of it.
MEETS = {
    ("fail", "person"): {
        "idle, boot, nobody, silence, relief": "operator; 7 waits, status",
        "operator, fencing, calling, call lost, promoting": "; 7 waits",
        "active, interface, check, release, doubt, bare doubt": "; 7 ok: active",
        "demoting, cleaning, giving, gift lost": "; 7 error: busy",
    },
    ("fail", "peer"): {
        "idle, boot, nobody, silence, relief, operator, fencing, calling, call lost": PROMOTES,
        "giving, gift lost": PROMOTES,
        "promoting": "; 7 waits",
        "active, interface, check, release": "; 7 ok: active, announce",
        "doubt": "active; 7 ok: active, announce",
        "bare doubt": "promoting (the addresses were gone); 7 waits, run master",
        "demoting, cleaning": "; 7 error: busy",
    },
    ("resume", "person"): {
        "idle, silence": "; 7 ok: standby",
        "boot, nobody, relief, operator, fencing, calling, call lost, promoting": "; 7 error: busy",
        "active, interface, check": "release; 7 waits, status",
        "release, doubt, bare doubt, demoting, cleaning, giving, gift lost": "; 7 waits",
        "failed": "; 7 error: busy",
    },
    ("resume", "peer"): {
        "idle": "; 7 ok: standby",
        "boot, nobody, operator, silence, relief, fencing": "idle; 7 ok: standby",
        "giving, gift lost": "idle; 7 ok: standby, begin windows",
        "calling, call lost, promoting": "; 7 error: busy",
        "outranked calling, outranked call lost": "idle; 7 ok: standby",
        "active, interface, check, release, doubt, bare doubt": DEMOTES,
        "demoting, cleaning, clean again": "; 7 waits",
        "failed": "; 7 error: busy",
    },
}
SPECIAL: dict[str, tuple[str, Known]] = {
    "bare doubt": ("doubt", {"bare": True}),
    "cleaning": ("demoting", {"purpose": Purpose.CLEAN}),
    "clean again": ("demoting", {"purpose": Purpose.CLEAN, "failed": True}),
    "failed": ("demoting", {"failed": True}),  # whoever waits, wants it to be active
    "outranked calling": ("calling", {"peer": view("active", boot="master")}),
    "outranked call lost": ("call lost", {"peer": view("active", boot="master")}),
}
REQUESTS = [
    (command, who, name, wanted)
    for (command, who), rows in MEETS.items()
    for names, wanted in rows.items()
    for name in names.split(", ")
]


def at(name: str, **changes: object) -> pair.State:
    base, known = SPECIAL.get(name, (name, {}))
    return node(base, **known | changes)


def shown(before: pair.State, after: pair.State, actions: list[pair.Action]) -> str:
    """Where it is now, unless it has not moved; who waits; what it does."""
    where = moment(after)
    if where not in MOMENTS or after.phase in (Phase.PROMOTING, Phase.DEMOTING, Phase.TOLD):
        where = f"{after.phase.value} ({after.purpose.value})"
    moved = where if moment(before) != moment(after) else ""
    waits = [f"{number} waits" for number, _ in after.waiting]
    return f"{moved}; {', '.join([*waits, done(actions)])}".removesuffix(", ")


@pytest.mark.parametrize(("command", "who", "name", "wanted"), REQUESTS)
def test_what_a_request_meets(command: str, who: str, name: str, wanted: str) -> None:
    rules = SLAVE if name.startswith("outranked") else MASTER
    before = at(name)
    after, actions = step(before, pair.Request(7, command, who == "peer"), rules)
    assert shown(before, after, actions) == wanted
    assert after.purpose is Purpose.PEER or wanted != PROMOTES


def test_every_command_meets_every_moment() -> None:
    everywhere = {(command, who, name) for command, who in MEETS for name in (*MOMENTS, "cleaning")}
    assert everywhere <= {row[:3] for row in REQUESTS}
    postures = {at(name).posture for name in MOMENTS}
    assert postures == set(Posture)


def test_one_transition_has_only_so_many_people_waiting() -> None:
    """The peer waits all the same: what it tells is done, so it must not be told that it is not."""
    full = tuple((number, False) for number in range(MAX_WAITING))
    for command, who, name, wanted in REQUESTS:
        if "7 waits" in wanted and name not in ("idle", "active"):
            before = at(name, waiting=full, timers=(*REACHED, (Timer.PATIENCE, NOW + 9)))
            after, actions = step(before, pair.Request(7, command, who == "peer"))
            joins = who == "peer"
            assert ((7, True) in after.waiting) is joins, name
            assert ("7 error: busy" in done(actions)) is not joins, name


# ---------------------------------------------------------------------------- a script ends

ENDS = {
    "ok": pair.Ended("script", True),
    "failed": pair.Ended("script", False),
    "not run": pair.Ended("script", False, ran=False),
}
OTHER_ENDS = {"failed": "the switch script failed", "not run": "the switch script cannot be run"}
BOTH_TOLD = "7 error: {0}, 8 error: {0}"
STANDS_BY = "idle; 7 ok: standby, 8 ok: standby, begin windows"
NOT_ACTIVE = BOTH_TOLD.format(OTHER_ENDS["failed"])
NOT_CLEAN = "7 error: the switch script failed, 8 ok: standby"
GIVES = "; 7 waits, 8 ok: standby, fail"
LOST: Known = ALONE | {"silent": True}
TRIED: Known = {"failed": True, "peer": view("standby")}
SCRIPT_ENDS: list[tuple[str, str, str, Known, str]] = [
    # who, why, how the script ends, what else is known; what follows. A person (7) and the peer (8)
    # wait.
    ("promoting", "any", "ok", {}, "active; 7 ok: active, 8 ok: active, announce, begin windows"),
    (
        "promoting",
        "any",
        "ok",
        {"stalled": True},
        "doubt; 7 ok: active, 8 ok: active, ask 3, begin windows, status",
    ),
    ("promoting", "any", "failed, not run", {}, "demoting (same); 7 waits, 8 waits, run slave"),
    ("demoting", "INTERFACE, CHECK, RELEASE", "ok", {}, f"told (same){GIVES}"),
    ("demoting", "INTERFACE, CHECK, RELEASE", "ok", ALONE, f"told (same){GIVES}"),
    ("demoting", "BOTH", "ok", {}, f"told (same){GIVES}"),  # it may not know that it has it now
    ("demoting", "BOTH", "ok", ALONE, STANDS_BY),
    (
        "demoting",
        "BOTH",
        "ok",
        LOST,
        "silence; 7 ok: standby, 8 ok: standby, ask 3, begin windows",
    ),
    ("demoting", "PEER", "ok", {}, STANDS_BY),
    ("demoting", "PEER", "ok", LOST, STANDS_BY),
    (
        "demoting",
        "INTERFACE, CHECK, RELEASE, PEER",
        "failed",
        {},
        f"promoting (the switchover failed); {BOTH_TOLD.format(OTHER_ENDS['failed'])}, run master",
    ),
    (
        "demoting",  # it may have been in doubt, or without its addresses
        "INTERFACE, CHECK, RELEASE, PEER, BOTH",
        "not run",
        {},
        f"doubt; {BOTH_TOLD.format(OTHER_ENDS['not run'])}",
    ),
    ("demoting", "BOTH", "failed", {}, f"doubt; {BOTH_TOLD.format(OTHER_ENDS['failed'])}"),
    ("demoting", "CLEAN", "ok", {}, STANDS_BY),
    ("demoting", "CLEAN", "failed, not run", {}, f"idle; {NOT_CLEAN}, begin windows"),
    ("demoting", "SILENCE, BOOT, RESTORE", "any", TRIED, f"told (same); {NOT_ACTIVE}, fail"),
    ("demoting", "TAKE_BACK", "any", TRIED, f"told (same); {NOT_ACTIVE}, fail"),
    (
        "demoting",
        "TAKE_BACK",
        "any",
        TRIED | {"peer": view("failed")},
        f"idle; {NOT_ACTIVE}, begin windows",
    ),
    (
        "demoting",
        "BOOT",
        "any",
        TRIED | {"peer": view("failed")},
        f"told (same); {NOT_ACTIVE}, fail",
    ),
    *(
        ("demoting", "SILENCE", "any", TRIED | other, f"idle; {NOT_ACTIVE}, begin windows")
        for other in (ALONE, {"peer": view("active")}, {"peer": view("switching")}, {"peer": None})
    ),
    (
        "demoting",
        "PEER",
        "any",
        TRIED,
        f"idle; {NOT_ACTIVE}, begin windows",
    ),  # it is told by our word
    ("demoting", "CLEAN", "ok", TRIED, f"told (same){GIVES}"),
    ("demoting", "CLEAN", "failed, not run", TRIED, f"told (same); {NOT_CLEAN}, fail"),
]
ONE_BY_ONE = [
    (phase, purpose, how, known, wanted)
    for phase, whys, hows, known, wanted in SCRIPT_ENDS
    for purpose in (
        [p.name for p in Purpose if p is not Purpose.NONE] if whys == "any" else whys.split(", ")
    )
    for how in (ENDS if hows == "any" else hows.split(", "))
]


@pytest.mark.parametrize(("phase", "purpose", "how", "known", "wanted"), ONE_BY_ONE)
def test_what_the_end_of_a_script_leads_to(
    phase: str, purpose: str, how: str, known: Known, wanted: str
) -> None:
    why = Purpose[purpose]
    before = node(phase, purpose=why, waiting=WAITING, **known)
    after, actions = step(before, ENDS[how])
    assert shown(node("fencing"), after, actions) == wanted.replace("same", why.value)
    promotes = phase == "promoting"
    assert after.failed is (how != "ok" if promotes else bool(known.get("failed")))
    tried, _ = step(replace(before, failed=True), ENDS[how])
    assert tried.failed is not (promotes and how == "ok")
    cleans = why is Purpose.CLEAN or "failed" in known or (why is Purpose.BOTH and how == "failed")
    left = how != "ok" and (cleans or bool(known.get("unclean")))
    assert after.unclean is (not promotes and left)
    again = (Timer.RETRY, NOW + MASTER.window)
    tries = not promotes and (
        moment(after) == "doubt" or (after.unclean and moment(after) == "idle")
    )
    assert (again in after.timers) is tries
    assert promotes or (pair.RestartWatchers() in actions) is (moment(after) in ("idle", "silence"))


def test_a_stand_down_that_succeeds_leaves_nothing_to_clean() -> None:
    for why in Purpose:
        if why is not Purpose.NONE:
            state = node("demoting", purpose=why, unclean=True)
            if why in (Purpose.BOTH, Purpose.CLEAN):
                assert not step(state, ENDS["ok"])[0].unclean


SCRIPT = "SWITCH-FAILED script: "
CANNOT = f"{SCRIPT}cannot be run, the role stays"
TAKES_BACK = f"{SCRIPT}failed to stand down, taking the role back"
AGAIN = f"{SCRIPT}failed to stand down, trying again every window"
ELSEWHERE = f"{SCRIPT}failed, the role goes elsewhere; cause="


BLOCKED = {
    CANNOT: "the script cannot be run, the role stays",
    TAKES_BACK: "the script failed to stand down, taking the role back",
}


@pytest.mark.parametrize(
    ("before", "how", "line"),
    [
        (node("promoting", purpose=Purpose.PEER), "failed", f'{ELSEWHERE}"told by the peer"'),
        (node("promoting"), "not run", f'{ELSEWHERE}"heartbeat lost"'),
        (node("demoting"), "failed", TAKES_BACK),
        (node("demoting"), "not run", CANNOT),
        (node("demoting", purpose=Purpose.BOTH), "failed", AGAIN),
        (node("demoting", purpose=Purpose.CLEAN), "not run", AGAIN),
    ],
)
def test_a_script_that_fails_is_an_alarm_once(before: pair.State, how: str, line: str) -> None:
    assert [text for text in alarms(before, ENDS[how]) if text.startswith(line)]
    blocked = BLOCKED.get(line, "")
    known = replace(before, failed=True, unclean=True, blocked=blocked)
    assert not alarms(known, ENDS[how])


def alarms(state: pair.State, event: pair.Event, rules: pair.Rules = MASTER) -> list[str]:
    _, actions = pair.step(state, event, rules, NOW)
    return [words(a) for a in actions if isinstance(a, pair.Log) and is_alarm(a)]


# ---------------------------------------------------------------------------- the pictures


def test_the_picture_is_as_the_policy() -> None:
    root = Path(__file__).resolve().parent.parent.parent
    check_it = [sys.executable, str(root / "dev" / "picture"), "--check"]
    result = subprocess.run(check_it, capture_output=True, text=True, check=False, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
