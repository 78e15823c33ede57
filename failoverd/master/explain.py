"""What this node would do now, and why not: `ha-status --explain`.

Each line asks the pair's own policy what would follow from what this node knows, if one thing
happened.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from failoverd.conf import Conf
from failoverd.pair import bounds, compare, policy, requests
from failoverd.pair.knowledge import Interface, Phase, Posture, Purpose, State, role
from failoverd.pair.messages import PeerView
from failoverd.pair.policy import Finding, Outcome
from failoverd.pair.settings import Rules

Names = tuple[str, str]  # of this node and of the peer
GOES = (Outcome.GIVE, Outcome.PROVE)
MOST_NAMED = 3  # addresses in a line
ON_HOLD = "nothing, role changes are on hold"
DOES: dict[object, str] = {requests.step_aside: "stands down", requests.take_over: "takes over"}


def lines(state: State, rules: Rules, conf: Conf, names: Names, held_until: str = "") -> list[str]:
    """held_until: when a hold ends by itself, "" if it does not."""
    here, _ = names
    told = list(_now(state, here, held_until))
    if state.posture in (Posture.SERVING, Posture.DOUBTING):
        told += _active(state, rules, names)
    elif state.posture in (Posture.IDLE, Posture.SEEKING):
        told += _standby(state, rules, conf, names)
    return [f"{line[0].upper()}{line[1:]}." for line in told]


def _now(state: State, here: str, held_until: str) -> Iterator[str]:
    purpose = f", {state.purpose.value}" if state.purpose is not Purpose.NONE else ""
    yield f"role of {here}: {role(state)}{purpose}"
    if state.held:
        end = f"{held_until} or ha-fail --release" if held_until else "ha-fail --release"
        yield f"role changes are on hold: only an operator can switch, until {end}"
    if state.failed:
        yield "the switch script failed here as master: fix the cause, ha-fail tries it again"
    if state.unclean:
        yield "the switch script failed here as slave: it is tried again every window"
    if state.blocked:
        yield f"blocked now: {state.blocked}"


def _active(state: State, rules: Rules, names: Names) -> Iterator[str]:
    here, there = names
    yield from _switchovers(state, rules, names)
    yield f"{_lost(state)}: {here} stays active"
    answer = DOES.get(requests.REQUESTS["resume", True][state.posture], "is busy")
    yield f"if {there} asks for the role: {here} {answer}"
    yield f"if an operator runs ha-fail: {_released(state, rules, there)}"


def _standby(state: State, rules: Rules, conf: Conf, names: Names) -> Iterator[str]:
    here, there = names
    yield f"{_lost(state)}: {_takeover(state, rules, conf, there)}"
    if state.heard and compare.peer_is_idle(state):
        within = f"within {bounds.agreement_time(rules):.3g} s"
        yield f"no node is active: the first to call for the role takes it {within}"
    elif state.heard and compare.is_better(state, rules):
        why = f"{there} is worse off and does not reach {here}"
        yield f"{why}: {_taken(state, rules, Purpose.RELIEF, names, '')}"
    elif state.heard:  # or else what the peer would do is not known
        yield from _switchovers(_as_the_peer(state, rules), rules, (there, here))
    answer = DOES.get(requests.REQUESTS["fail", True][state.posture], "is busy")
    yield f"if {there} asks {here} to take over: {here} {answer}"
    unless = _if_free("arp" if rules.addressed else "none", conf, there)
    yield f"if an operator runs ha-fail: {_taken(state, rules, Purpose.OPERATOR, names, unless)}"
    if state.resuming:
        yield f"failback: {_taken(state, rules, Purpose.BOOT, names, unless)}"


def _lost(state: State) -> str:
    return "the heartbeat is lost" if state.silent else "if the heartbeat is lost"


# ---------------------------------------------------------------------------- what if


@dataclass(frozen=True)
class Case:
    """A purpose, and what is found for it."""

    state: State
    rules: Rules
    finding: Finding

    @property
    def outcome(self) -> Outcome:
        return policy.decide(self.state, self.finding, self.rules)

    def why(self, there: str) -> str:
        known = policy.why(self.state, self.finding, self.rules).replace("the peer", there, 1)
        lacking = policy.lacks(self.state, self.finding, self.rules)
        return f"{known} ({lacking})" if lacking else known


def _case(state: State, rules: Rules, purpose: Purpose, finding: Finding | None = None) -> Case:
    """As if the peer were asked now, and told what it has told last; if it is silent, as if nothing
    answered for the service addresses, where that can be asked."""
    if finding is None:
        known = state.peer is not None and state.heard
        finding = policy.ROLES[state.peer.role] if state.peer and known else Finding.SILENT
    asked = replace(state, phase=Phase.RESOLVING, purpose=purpose, told=None)
    if finding is Finding.SILENT and policy.asks_network(asked):
        is_blind = bool(rules.addressed) and not compare.is_up(asked, rules)
        finding = Finding.BLIND if is_blind else Finding.FREE
    return Case(asked, rules, finding)


def _switchovers(state: State, rules: Rules, names: Names) -> Iterator[str]:
    """What follows when an interface or a check of the first of these, which is active, fails."""
    active, other = names
    found: dict[str, list[str]] = {}
    failed = compare.failed_here(state)
    for name in [each for each in rules.interfaces if rules.low_water and each not in failed]:
        then = replace(state, interfaces=tuple(
            replace(each, verdict="fail", packets=0, last=0) if each.name == name else each
            for each in state.interfaces
        ))  # fmt: skip
        found.setdefault(_switchover(then, rules, Purpose.INTERFACE, other), []).append(name)
    for name in sorted(state.passed - state.checks):
        then = replace(state, checks=state.checks | {name})
        follows = _switchover(then, rules, Purpose.CHECK, other)
        found.setdefault(follows, []).append(f"check {name}")
    for follows, things in found.items():
        yield f"if {' or '.join(things)} of {active} fails: {follows}"
    if rules.interfaces and not rules.low_water:
        yield f"if an interface of {active} receives nothing: the role stays, $low_water is 0"


def _switchover(state: State, rules: Rules, purpose: Purpose, other: str) -> str:
    if state.held:
        return ON_HOLD
    if not (compare.free_here(state) or compare.wants_relief(state)):
        return f"the role stays, it has just come from {other} because of a failure there"
    case = _case(state, rules, purpose)
    if case.outcome is Outcome.PROVE:
        return f"switchover to {other} within {bounds.handover_time(rules):.3g} s"
    if case.outcome is Outcome.GIVE:
        return f"switchover to {other}"
    unless = f" unless {other} asks for it" if case.finding is Finding.SILENT else ""
    return f"the role stays{unless}, {case.why(other)}{_bad(state, other)}"


def _bad(state: State, other: str) -> str:
    """What is wrong with the interfaces of a peer that could take over."""
    if state.peer is None or not state.heard or state.peer.role != "standby":
        return ""
    bad, down = compare.bad_at(state.peer), state.peer.down
    told = [f"{name} {'has no carrier' if name in down else 'receives nothing'}" for name in bad]
    told += [f"check {name} fails" for name in state.peer.checks]
    return f": on {other} {', '.join(sorted(told))}" if told else ""


def _released(state: State, rules: Rules, there: str) -> str:
    case = _case(state, rules, Purpose.RELEASE)
    if case.outcome in GOES:
        return f"switchover to {there}"
    return f"refused, {case.why(there)}"


def _takeover(state: State, rules: Rules, conf: Conf, there: str) -> str:
    """By silence."""
    if state.held:
        return ON_HOLD
    case = _case(state, rules, Purpose.SILENCE, Finding.FREE)
    if case.outcome is not Outcome.TAKE:
        return f"no takeover, {case.why(there).rpartition(', and ')[2]}"
    since = f"{2 * rules.window:.3g} to {bounds.silence_time(rules):.3g} s after the last one, if"
    fence = f" and {conf.fence_prog} succeeds" if rules.fence else ""
    when = "as soon as" if state.silent else since
    return f"takeover {when} {_if_free(rules.confirm, conf, there)}{fence}"


def _if_free(confirm: str, conf: Conf, there: str) -> str:
    """What must not answer."""
    port = f"port {conf.tcp_port} of {there}"
    if confirm == "program":
        return f"{port} does not answer and {conf.confirm_prog} finds the service dead"
    if confirm == "none":
        return f"{port} does not answer"
    addresses = list(dict.fromkeys(entry.address for entry in conf.addresses))
    more = f" nor {len(addresses) - MOST_NAMED} others" if len(addresses) > MOST_NAMED else ""
    return f"neither {port} nor {' nor '.join(addresses[:MOST_NAMED])}{more} answers"


def _taken(state: State, rules: Rules, purpose: Purpose, names: Names, unless: str) -> str:
    here, there = names
    if state.held and purpose is not Purpose.OPERATOR:
        return ON_HOLD
    case = _case(state, rules, purpose)
    if case.outcome is Outcome.CALL:
        return f"{there} is asked to stand by, then {here} takes over"
    if case.outcome is Outcome.TAKE:
        return f"takeover, if {unless}"
    what = "refused" if purpose is Purpose.OPERATOR else "waits"
    return f"{what}, {case.why(there)}"


def _as_the_peer(state: State, rules: Rules) -> State:
    """The active peer, with interfaces that work, and with what it knows of this node."""
    useless = {each.name for each in state.interfaces if each.useless}
    view = PeerView(
        role=role(state),
        boot=rules.boot,
        bad=frozenset(useless),
        down=frozenset(each.name for each in state.interfaces if not each.up),
        counts=tuple((each.name, each.packets, each.last) for each in state.interfaces),
        checks=state.checks,
        untried=rules.everywhere - state.tried,
    )
    return State(
        phase=Phase.ACTIVE,
        interfaces=tuple(Interface(name, "ok", packets=1) for name in rules.interfaces),
        peer=view,
        held=state.held,
        timers=state.timers,
    )
