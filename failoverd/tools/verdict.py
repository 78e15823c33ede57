"""What both nodes' statuses mean for the service: a word, a sentence that says why, and what to do.

Pure, and all of it: what ha-status shows first and last, and its exit status.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from failoverd.log import told_shortly
from failoverd.second_path import SECOND
from failoverd.wire.protocol import FILTER, Failure, InterfaceStatus, Status

MOST_TOLD = 2  # differences, or addresses, that the sentence names
OK, WARNING, CRITICAL, UNKNOWN = range(4)
WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")

MEND_LINK = "check the cables of the heartbeat link, and look for a firewall that drops ICMP"
WAIT = "look again in a moment"
SEE_PEER = "check that the peer is up, and that failoverd is running there"
RELEASE = "ha-fail --release when the maintenance is over"
READ_LOGS = "read the logs of both nodes: they say why neither becomes active"


@dataclass(frozen=True)
class Verdict:
    """`status` is the exit status: 0 one node is active and the other can take over, 1 redundancy
    is lost, 2 no node is active, or two, 3 it is not known. advice: what to do, "" if nothing.
    parts: of the sentence, if it has several."""

    status: int
    sentence: str
    advice: str = ""
    parts: tuple[str, ...] = field(default=(), compare=False)

    @property
    def reasons(self) -> tuple[str, ...]:
        """What is wrong, one by one."""
        return self.parts or ((self.sentence,) if self.status else ())

    def __str__(self) -> str:
        return f"{WORDS[self.status]}: {self.sentence}"


Reason = tuple[str, str]  # what is wrong, and what to do about it


@dataclass(frozen=True)
class Node:
    """One of the two, as a sentence names it. status: None if it has not answered."""

    name: str
    status: Status | None

    @property
    def role(self) -> str:
        return self.status.role if self.status else "unknown"


def names(us: Status | None, peer: Status | None, address: str) -> tuple[str, str]:
    """This node's name and the peer's: their host names, where these tell the two apart."""
    here = (us.host if us else "") or (peer.peer_host if peer else "")
    there = (peer.host if peer else "") or (us.peer_host if us else "")
    if here == there:
        here = there = ""
    return here or "this node", there or f"peer {address}"


def on_hold(*statuses: Status | None) -> str:
    """That no role changes by itself, as a clause; "" if it is not so on any of these nodes."""
    for status in statuses:
        if status is not None and status.hold is not None and status.hold.held:
            return f"role changes are on hold {hold(status)}"
    return ""


def hold(status: Status) -> str:
    """Until when a node is on hold, by whom and where."""
    assert status.hold is not None
    left, now = status.hold.seconds_left, moment(status.now)
    place = f" on {status.hold.node}" if status.hold.node else ""
    by = f"by {status.hold.by}{place}"
    if left is None:
        return by
    if now is None or not 1970 < now.year < 9000:  # its clock tells nothing
        return f"for {left:.0f} s {by}"
    here, end = (moment.astimezone() for moment in (now, now + timedelta(seconds=left)))
    form = "%H:%M" if end.date() == here.date() else "%Y-%m-%d %H:%M"
    return f"until {end:{form}} {by}"


def judge(
    us: Status | None,
    peer: Status | None,
    *,
    names: tuple[str, str],
    switch_timeout: float,
    differences: Sequence[str] = (),
    amiss: Sequence[str] = (),
    unplaced: Sequence[str] = (),
    unread: bool = False,
) -> Verdict:
    """names: this node's and the peer's; switch_timeout: how long, in seconds, a node may have the
    role `switching` before that counts as no role; differences: in what must be the same; amiss:
    what is wrong with this node's network; unplaced: the service addresses that the active node
    does not have; unread: whether it has not read the file that names them."""
    here, there = Node(names[0], us), Node(names[1], peer)
    if us is None:
        rest = f"{there.name} is {there.role}" if peer else f"nor does {there.name}"
        what = f"failoverd on {here.name} gives no valid answer"
        return Verdict(UNKNOWN, f"{what}; {rest}", "check that failoverd is running on this node")
    active = [node for node in (here, there) if node.role == "active"]
    if len(active) == 2:
        advice = "check the heartbeat link: nodes that reach each other settle it by themselves"
        found = Verdict(CRITICAL, f"{here.name} and {there.name} are both active", advice)
    elif not active:
        found = _none_is_active(here, there, switch_timeout)
    else:
        test = f"failoverd -t on {here.name} says what to change"
        more = [*((f"{here.name}: {what}", test) for what in amiss), *_differ(differences)]
        more += _without(active[0].name, unplaced, unread)
        found = _one_is_active(active[0], there if active[0] is here else here, more)
    held = on_hold(us, peer)
    return _on_hold(found, held) if held else found


def _on_hold(found: Verdict, held: str) -> Verdict:
    advice = found.advice or RELEASE
    if found.status == CRITICAL:
        advice = f"ha-fail still switches, or {RELEASE}; {found.advice}"
    joint = ", but" if found.status == OK else ";"
    sentence, reasons = f"{found.sentence}{joint} {held}", (*found.reasons, held)
    return Verdict(max(WARNING, found.status), sentence, advice, reasons)


def _without(active: str, addresses: Sequence[str], unread: bool) -> Iterator[Reason]:
    if addresses and unread:
        advice = "send HUP to failoverd on both nodes: until then no switch adds it"
        yield f"{active} runs without {told_shortly(addresses, MOST_TOLD)} of @addresses", advice
    elif addresses:
        advice = "a new one of @addresses is added with the next switch: run ha-fail"
        yield f"{told_shortly(addresses, MOST_TOLD)} is not on {active}", advice


def _differ(differences: Sequence[str]) -> Iterator[Reason]:
    if differences:
        upgrade = all(map(is_of_version, differences))
        advice = "make failoverd.conf the same on both nodes, and send HUP to failoverd on both"
        advice = "upgrade the node with the older version" if upgrade else advice
        yield f"not the same on both nodes: {told_shortly(differences, MOST_TOLD)}", advice


def is_of_version(difference: str) -> bool:
    return difference.startswith("version is")


def is_ready(us: Status, peer: Status | None) -> bool:
    """Whether this node is a standby that can take over."""
    quiet = _receiving_nothing(peer) if peer and peer.role == "active" else set()
    node = Node("", us)
    wrong = (*_why_not_able(node, us, quiet), *_untried(node, us), *_bad_checks(node, us))
    return us.role == "standby" and not any(wrong)


def why_not_for_long(name: str, status: Status, active: Status | None) -> list[str]:
    """What is bad on a node that is to be active, for which it may give the role back at once."""
    node, quiet = Node(name, status), _receiving_nothing(active) if active else set()
    return [what for what, _ in (*_bad_interfaces(node, status, quiet), *_bad_checks(node, status))]


def age(status: Status) -> float | None:
    """How long it has had its role, in seconds; None if that cannot be known.

    An older failoverd tells two moments by its own clock, or only one, which says nothing.
    """
    if status.age is not None:
        return status.age
    since, now = moment(status.since), moment(status.now)
    return None if since is None or now is None else max(0.0, (now - since).total_seconds())


def moment(text: str) -> datetime | None:
    """The moment that a status names, None if there is no such."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


# One is active


def _one_is_active(active: Node, other: Node, more: list[Reason]) -> Verdict:
    """more: reasons that are not in what the nodes tell."""
    if active.status is not None and active.status.claimed:
        what = "another host answers for the service addresses, too"
        advice = "find that host: the log of the active node has its hardware address"
        return Verdict(CRITICAL, f"{active.name} is active, but {what}", advice)
    reasons = [*_reasons(active, other), *more]
    if not reasons:
        return Verdict(OK, f"{active.name} is active, and {other.name} can take over")
    told = tuple(what for what, _ in reasons)
    sentence = f"{active.name} is active, but {'; '.join(told)}"
    return Verdict(WARNING, sentence, reasons[0][1], told)


def _reasons(active: Node, other: Node) -> Iterator[Reason]:
    """Why the service would not outlive the active node, the gravest first."""
    ours, theirs = active.status, other.status
    assert ours is not None
    if theirs is None:
        if ours.plip_state == "down":
            yield _unplugged(active)[0], SEE_PEER
        word = "sends heartbeats without answering" if ours.speechless else "gives no valid answer"
        yield f"{other.name} {word}", SEE_PEER
    else:
        yield from _why_not_able(other, theirs, _receiving_nothing(ours))
        yield from _why_not_linked(active, ours, other, theirs)
    for name, interface in ours.interfaces:
        if interface.state in ("down", "fail", "silent"):
            yield _not_receiving(active, name, interface)
    for node, status in ((active, ours), (other, theirs)):
        if status is not None:
            yield from _untried(node, status)
            yield from _bad_checks(node, status)
            yield from _failed_run(node, status)
            for name, why in status.watchers:
                yield f"{node.name}: {name}: {why}", f"read the log of {node.name}"
    if ours.rejoining:
        yield f"{active.name} probes for the addresses before it sends gratuitous ARP", WAIT
    if theirs is not None and ours.boot == theirs.boot:
        advice = "change host_type on one of them, and restart failoverd there"
        yield f"both nodes have boot:{ours.boot} in host_type", advice


def _why_not_able(other: Node, status: Status, quiet: set[str]) -> Iterator[Reason]:
    """quiet: what receives nothing on the active node either, so that it is no news there."""
    if status.role == "failed":
        advice = f"read the log of {other.name}, and when the cause is fixed run ha-fail there"
        yield f"{other.name} cannot take over: its role is failed", advice
    elif status.role != "standby":
        yield f"{other.name} is {status.role}", WAIT
    if not status.interfaces:
        yield f"{other.name} watches no interface", f"set @interfaces on {other.name}"
    yield from _bad_interfaces(other, status, quiet)


def _bad_interfaces(other: Node, status: Status, quiet: set[str]) -> Iterator[Reason]:
    """What a node that is not active does not receive on; quiet: as above."""
    bad = [
        (name, interface)
        for name, interface in status.interfaces
        if interface.is_bad and not (name in quiet and interface.state != "down")
    ]
    if bad:
        told = ", ".join(f"{name} {_what_is_wrong(interface)}" for name, interface in bad)
        whole = len(bad) == len(status.interfaces)
        where = f"{other.name} cannot take over:" if whole else f"on {other.name}"
        yield f"{where} {told}", _not_receiving(other, *bad[0])[1]


def _untried(node: Node, status: Status) -> Iterator[Reason]:
    """After a switch all begin anew, also one that had received nothing before."""
    for name, interface in status.interfaces:
        if interface.state == "boot" and interface.packets == 0:
            yield f"{name} of {node.name} has received nothing yet", WAIT


def _receiving_nothing(status: Status) -> set[str]:
    return {
        name
        for name, interface in status.interfaces
        if interface.state != "down" and interface.is_bad
    }


_TO_DO = {
    "has no carrier": "check its cable and the port of the switch",
    "does not exist": "create it, or correct @interfaces",
    "is not receiving": "check the port and the VLAN on the switch, and that a probe target "
    "(@witness) is set and up",
    "receives less than $low_water": "watchd --tune measures what $low_water fits",
}


def _what_is_wrong(interface: InterfaceStatus) -> str:
    """One of _TO_DO."""
    if interface.state == "down":
        return "has no carrier" if interface.hwaddr else "does not exist"
    return "is not receiving" if interface.is_bad else "receives less than $low_water"


def _not_receiving(node: Node, name: str, interface: InterfaceStatus) -> Reason:
    what = _what_is_wrong(interface)
    return f"{name} of {node.name} {what}", f"{name} of {node.name}: {_TO_DO[what]}"


def _why_not_linked(active: Node, ours: Status, other: Node, theirs: Status) -> Iterator[Reason]:
    """What is wrong with the heartbeat link, in either direction."""
    if SECOND in (ours.path, theirs.path):
        if _has_heartbeats(ours) and _has_heartbeats(theirs):
            yield "the peer's port answers over the second path only", FILTER
        else:
            how = "the nodes reach each other over the second path only"
            yield f"the heartbeat link is down: {how}", MEND_LINK
        return
    for node, status, sender in ((active, ours, other), (other, theirs, active)):
        if status.plip_state == "down":
            yield _unplugged(node)
        elif not _has_heartbeats(status):
            advice = f"look for a firewall that drops ICMP from {sender.name} to {node.name}"
            yield f"{node.name} receives no heartbeats from {sender.name}", advice
        if status.speechless:
            yield f"{sender.name} does not answer the queries of {node.name}", FILTER
    if theirs.blocked:
        yield f"{other.name} says: {theirs.blocked}", f"read the log of {other.name}"


def _unplugged(node: Node) -> Reason:
    advice = f"check the cable of the heartbeat link at {node.name}"
    return f"{node.name} has no carrier on the heartbeat link", advice


def _has_heartbeats(status: Status) -> bool:
    """The first window is not judged, and may be empty."""
    if status.plip_state == "boot":
        return status.heartbeat_age is not None
    return status.plip_state == "ok"


def _bad_checks(node: Node, status: Status) -> Iterator[Reason]:
    for name, check in status.checks:
        if check.is_bad:
            advice = f"run the command of check {name} (@checks) by hand on {node.name}"
            yield f"check {name} is bad on {node.name}: {check.output}", advice


def _failed_run(node: Node, status: Status) -> Iterator[Reason]:
    """The run of the switch script that has failed; an older failoverd tells of the last only."""
    run = ""
    if status.failure is not None:
        run = f"({status.failure.role}, exit {status.failure.exit}){against(status.failure)}"
    elif status.switch_exit:
        run = f"({status.switch_last}, exit {status.switch_exit})"
    if run:
        advice = f"read the log of {node.name}, and when the cause is fixed try it with ha-fail"
        yield f"the switch script failed on {node.name} {run}", advice


def against(failure: Failure) -> str:
    """What there is against that run beside its exit status, as the end of a sentence."""
    return "".join(f": {text}" for text in (failure.why, failure.line) if text)


# None is active, as far as is known

SERVED = {
    "peer": "{peer} gives no valid answer here, but was active just now",
    "answered": "{peer} gives no valid answer, but the service addresses are answered for",
    "unknown": "{peer} gives no valid answer, and it is not known yet which node serves",
}
TOO_LONG = {"switching": "switching for longer than $switch_timeout"}


def _none_is_active(here: Node, there: Node, switch_timeout: float) -> Verdict:
    under_way = [node for node in (here, there) if node.role == "switching"]
    ages = [age(node.status) for node in under_way if node.status]
    if any(seconds is None or seconds <= switch_timeout for seconds in ages):
        names = " and ".join(node.name for node in under_way)
        verb = "is" if len(under_way) == 1 else "are"
        return Verdict(WARNING, f"{names} {verb} switching, and no node is active yet", WAIT)
    us, alone = here.status, there.status is None and not under_way
    if us is not None and alone and not us.stranger and us.service in SERVED:
        rest = SERVED[us.service].format(peer=there.name)
        if us.plip_state == "down":
            rest += f"; {_unplugged(here)[0]}"
        return Verdict(WARNING, f"{here.name} is {us.role}, {rest}", SEE_PEER)
    return _nobody(here, there)


def _taken(status: Status) -> Iterator[Reason]:
    if status.stranger:
        yield strange(status), "find that host: no node takes over while it answers"


def strange(status: Status) -> str:
    """A host that is neither node has a service address."""
    address, _, hwaddr = status.stranger.partition(" ")
    return f"{address} is at {hwaddr}, which is neither node"


def _cut_off(here: Node) -> Iterator[Reason]:
    """The links of this node over which the peer, or its service, could be seen."""
    for name, interface in here.status.interfaces if here.status else ():
        if interface.state == "down":
            yield _not_receiving(here, name, interface)
    if here.status and here.status.plip_state == "down":
        yield _unplugged(here)[0], SEE_PEER


def _nobody(here: Node, there: Node) -> Verdict:
    """That no node is active, and all that is known of why: first what can be fixed here."""
    known = [(node, node.status) for node in (here, there) if node.status is not None]
    roles = [f"{node.name} is {TOO_LONG.get(node.role, node.role)}" for node, _ in known]
    if there.status is None:
        roles.append(f"{there.name} gives no valid answer")
    reasons: list[Reason] = [(", ".join(roles), "")]
    for node, status in known:
        reasons += [*_taken(status), *_failed_run(node, status)]
    if there.status is None:
        reasons += _cut_off(here)
    for node, status in known:
        if status.blocked:
            reasons.append((f"{node.name} says: {status.blocked}", READ_LOGS))
        if status.plip_state == "boot":
            reasons.append((f"{node.name} is in its first window", WAIT))
    told = tuple(what for what, _ in reasons)
    last = READ_LOGS if there.status else SEE_PEER
    advice = next((advice for _, advice in reasons if advice), last)
    return Verdict(CRITICAL, f"no node is known to be active: {'; '.join(told)}", advice, told)
