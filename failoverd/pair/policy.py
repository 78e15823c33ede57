"""The policy: for each purpose and each finding what follows. Read the decisions here.

A purpose is why a change of role is considered; a finding is what is known when it is decided: what
the peer's port has answered, or, where it does not answer, who answers for the addresses on the
service network. `resolver` finds out, and does what follows.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from failoverd.pair import compare
from failoverd.pair.knowledge import Purpose, State, Timer
from failoverd.pair.messages import Query
from failoverd.pair.settings import Rules

NO_ANSWER = "no answer from the peer"  # so begins each finding for which that is the cause


class Finding(Enum):  # what is found out; the first four are the peer's own word
    ACTIVE = "the peer is active"
    IDLE = "the peer is standby"
    FAILED = "the peer is failed"
    SWITCHING = "the peer is switching"
    TAKEN = f"{NO_ANSWER}, but the service still answers"
    FREE = f"{NO_ANSWER}, and the service does not answer"
    BLIND = f"{NO_ANSWER}, and the service network cannot be asked"
    SILENT = NO_ANSWER


ROLES = {finding.value.removeprefix("the peer is "): finding for finding in Finding}
ROLES["rejoining"] = Finding.ACTIVE


class Outcome(Enum):  # what follows
    TAKE = "become active"
    CALL = "tell the peer to stand by, then become active"
    GIVE = "stand down, then tell the peer to take over"
    BACK = "take the role back"
    KEEP = "stay active"
    STAY = "stay standby"
    DONE = "stay standby: the peer is active"
    YIELD = "stand down"
    PROVE = "stand down as soon as the peer shows that it receives"
    WAIT = "ask again"


Condition = Callable[[State, Rules], bool]
Cell = tuple[tuple[Condition | None, Outcome], ...]  # the first whose condition holds


def has_failed(state: State, rules: Rules) -> bool:
    """The last run of the switch script as master failed here."""
    return state.failed


def has_arrived(state: State, rules: Rules) -> bool:
    """What the peer was told cannot arrive any more: late, it would make both active."""
    return not state.runs_out(Timer.UNDER_WAY)


def is_stuck(state: State, rules: Rules) -> bool:
    """The peer has switched for longer than it may, and ranks higher: each waits for the other."""
    return not state.runs_out(Timer.GIVE_UP) and compare.peer_outranks(state, rules)


def must_stand_by(state: State, rules: Rules) -> bool:
    """By $failback an active peer keeps the role, or keeps it for a while."""
    return rules.failback is None or state.runs_out(Timer.UNWELL)


def either(condition: Condition, then: Cell, otherwise: Cell) -> Cell:
    return ((condition, then[0][1]), *otherwise)


TAKE, CALL, GIVE, BACK, KEEP, STAY, DONE, YIELD, PROVE, WAIT = (
    ((None, outcome),) for outcome in Outcome
)
NO: Cell = ()  # it is not asked
CALL_FIT = either(must_stand_by, STAY, either(compare.is_fit, CALL, STAY))
CALL_BETTER = either(compare.is_better, CALL, STAY)
CALL_UP = either(compare.is_up, CALL, STAY)
TAKE_UP = either(compare.is_up, TAKE, STAY)
TAKE_ALL = either(compare.has_heard_all, TAKE, STAY)
GIVE_BETTER = either(compare.peer_is_better, GIVE, KEEP)
GIVE_UP = either(compare.peer_has_carrier, GIVE, KEEP)
PROVE_IT = either(compare.peer_is_able, PROVE, KEEP)
WAIT_TURN = either(is_stuck, STAY, WAIT)
BACK_NOW = either(has_failed, STAY, BACK)
BACK_SURE = either(has_failed, STAY, either(has_arrived, BACK, WAIT))
UNMET = {  # of a condition that does not hold
    compare.is_fit: "is better off",
    compare.is_up: "no interface is up here",
    compare.is_better: "is no worse off, or can give its role away",
    compare.peer_is_able: "is no better off",
    compare.peer_is_better: "is no better off",
    compare.peer_has_carrier: "has no interface that is up",
}

# fmt: off
GRID: dict[Purpose | Query, tuple[Cell, ...]] = {  # findings in their order
    # why \ found        ACTIVE     IDLE       FAILED     SWITCHING  TAKEN  FREE      BLIND SILENT
    Purpose.NOBODY:    (STAY,      CALL,      CALL,      WAIT,      NO,    NO,       NO,   STAY),
    Purpose.BOOT:      (CALL_FIT,  CALL,      CALL,      WAIT,      STAY,  TAKE_ALL, STAY, NO),
    Purpose.SILENCE:   (STAY,      STAY,      STAY,      STAY,      WAIT,  TAKE_UP,  WAIT, NO),
    Purpose.RELIEF:    (CALL_BETTER, STAY,    STAY,      STAY,      NO,    NO,       NO,   STAY),
    Purpose.OPERATOR:  (CALL_UP,   CALL,      CALL,      STAY,      STAY,  TAKE,     STAY, NO),
    Purpose.INTERFACE: (KEEP,      PROVE_IT,  KEEP,      KEEP,      NO,    NO,       NO,   KEEP),
    Purpose.CHECK:     (KEEP,      GIVE_BETTER, KEEP,    KEEP,      NO,    NO,       NO,   KEEP),
    Purpose.RELEASE:   (KEEP,      GIVE_UP,   GIVE_UP,   KEEP,      NO,    NO,       NO,   KEEP),
    Purpose.DOUBT:     (YIELD,     KEEP,      KEEP,      WAIT,      YIELD, KEEP,     WAIT, NO),
    # the peer was told this, and its answer was lost
    Query.RESUME:      (STAY,      TAKE,      TAKE,      WAIT_TURN, STAY,  TAKE,     STAY, NO),
    Query.FAIL:        (DONE,      BACK_SURE, BACK_SURE, WAIT_TURN, DONE,  BACK_NOW, STAY, NO),
}
# fmt: on
POLICY = {why: dict(zip(Finding, row, strict=True)) for why, row in GRID.items()}


def row(state: State) -> dict[Finding, Cell]:
    return POLICY[state.told or state.purpose]


def asks_network(state: State) -> bool:
    """Whether it matters who answers for the addresses when the peer does not answer."""
    return row(state)[Finding.TAKEN] is not NO


def decide(state: State, finding: Finding, rules: Rules) -> Outcome:
    """A cell has an end: its last alternative has no condition."""
    return next(what for when, what in row(state)[finding] if when is None or when(state, rules))


def why(state: State, finding: Finding, rules: Rules) -> str:
    """The finding, and the condition that did not hold."""
    asked = rules.confirm != "none" if state.purpose is Purpose.SILENCE else bool(rules.addressed)
    unasked = finding is Finding.FREE and not asked
    text = NO_ANSWER if unasked else finding.value
    if row(state)[finding][0][0] is must_stand_by and must_stand_by(state, rules):
        return f"{text}, and $failback leaves the role there"
    condition = needs(state, finding)
    if condition is None or condition(state, rules):
        return text
    if lacks(state, finding, rules):
        interface = "an interface is down here, or has received nothing yet"
        return f"{text}, and {interface if compare.missing(state) else 'a check has no result yet'}"
    return f"{text}, and {UNMET[condition]}" if condition in UNMET else text


def needs(state: State, finding: Finding) -> Condition | None:
    """The condition that has to hold, if there is one."""
    return next(when for when, _ in row(state)[finding] if when is not must_stand_by)


def lacks(state: State, finding: Finding, rules: Rules) -> str:
    """The interfaces and checks for which the role is not taken."""
    condition = needs(state, finding)
    if condition is compare.is_fit:
        return compare.unready(state, rules)
    return compare.missing(state) if condition is compare.has_heard_all else ""
