"""What both machines' statuses mean for the service: a word, and a sentence that says why.

Pure, and all of it: what ha-status shows first, and its exit status.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from failoverd.wire.protocol import InterfaceStatus, Status

MOST_TOLD = 2  # differences that the sentence names
OK, WARNING, CRITICAL, UNKNOWN = range(4)
WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")


@dataclass(frozen=True)
class Verdict:
    """`status` is the exit status: 0 one node is active and the other can take over, 1 redundancy
    is lost, 2 no node is active, or two, 3 it is not known."""

    status: int
    sentence: str

    def __str__(self) -> str:
        return f"{WORDS[self.status]}: {self.sentence}"


@dataclass(frozen=True)
class Node:
    """One of the two, as a sentence names it. status: None if it has not answered."""

    name: str
    status: Status | None

    @property
    def role(self) -> str:
        return self.status.role if self.status else "not heard"


def judge(
    us: Status | None,
    peer: Status | None,
    *,
    address: str,
    switch_timeout: float,
    differences: Sequence[str] = (),
    amiss: Sequence[str] = (),
) -> Verdict:
    """The verdict. address: the peer's; switch_timeout: how long, in seconds, a node may have the
    role `switching` before that counts as no role; differences: in what must be the same; amiss:
    what is wrong with this node's network."""
    here, there = _named(us, peer, address)
    if us is None:
        rest = f"{there.name} is {there.role}" if peer else f"nor does {there.name}"
        return Verdict(UNKNOWN, f"failoverd on {here.name} gives no valid answer; {rest}")
    active = [node for node in (here, there) if node.role == "active"]
    if len(active) == 2:
        return Verdict(CRITICAL, f"{here.name} and {there.name} are both active")
    if active:
        other = there if active[0] is here else here
        return _one_is_active(active[0], other, differences, [f"{here.name}: {x}" for x in amiss])
    return _none_is_active(here, there, switch_timeout)


def _named(us: Status | None, peer: Status | None, address: str) -> tuple[Node, Node]:
    """Host names, where they tell the two apart."""
    ours, theirs = us.host if us else "", peer.host if peer else ""
    differ = ours != theirs
    return (
        Node(ours if ours and differ else "this node", us),
        Node(theirs if theirs and differ else f"peer {address}", peer),
    )


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

HOW = {"failed": "cannot take over: its role is failed", "switching": "is switching"}


def _one_is_active(
    active: Node, other: Node, differences: Sequence[str], amiss: Sequence[str]
) -> Verdict:
    if active.status is not None and active.status.claimed:
        what = "another machine answers for the service addresses, too"
        return Verdict(CRITICAL, f"{active.name} is active, but {what}")
    reasons = [*_reasons(active, other), *amiss]
    if differences:
        more = len(differences) - MOST_TOLD
        told = "; ".join(differences[:MOST_TOLD]) + (f"; and {more} more" if more > 0 else "")
        reasons.append(f"not the same on both nodes: {told}")
    if reasons:
        return Verdict(WARNING, f"{active.name} is active, but {'; '.join(reasons)}")
    return Verdict(OK, f"{active.name} is active, and {other.name} can take over")


def _reasons(active: Node, other: Node) -> Iterator[str]:
    """Why the service would not outlive the active node, the gravest first."""
    ours, theirs = active.status, other.status
    assert ours is not None
    if theirs is None:
        if ours.plip_state == "down":
            yield f"{active.name} has no carrier on the private link"
        word = "sends heartbeats without answering" if ours.speechless else "gives no valid answer"
        yield f"{other.name} {word}"
    else:
        yield from _why_not_able(other, theirs, _receiving_nothing(ours))
        yield from _why_not_linked(active, ours, other, theirs)
    yield from _interfaces_of_active(ours)
    for node in (active, other):
        yield from _failed_run(node)
        yield from _unwatched(node)
    if ours.rejoining:
        yield f"{active.name} asks who serves before it announces the addresses"
    if theirs is not None and ours.boot == theirs.boot:
        yield f"both nodes have boot:{ours.boot} in host_type"


def _why_not_able(other: Node, status: Status, quiet: set[str]) -> Iterator[str]:
    """quiet: what receives nothing on the active node either, so that it is no news there."""
    if status.role != "standby":
        yield f"{other.name} {HOW[status.role]}"
    if not status.interfaces:
        yield f"{other.name} watches no interface"
    bad = {
        name: _what_is_wrong(interface)
        for name, interface in status.interfaces
        if interface.is_bad and not (name in quiet and interface.state != "down")
    }
    if not bad:
        return
    told = ", ".join(f"{name} {what}" for name, what in bad.items())
    all_down = len(bad) == len(status.interfaces)
    yield f"{other.name} cannot take over: {told}" if all_down else f"on {other.name} {told}"


def _receiving_nothing(status: Status) -> set[str]:
    return {
        name
        for name, interface in status.interfaces
        if interface.state != "down" and interface.is_bad
    }


def _what_is_wrong(interface: InterfaceStatus) -> str:
    if interface.state == "down":
        return "has no carrier" if interface.hwaddr else "does not exist"
    if interface.is_bad:
        return "receives nothing"
    return "receives less than $low_water"


def _interfaces_of_active(status: Status) -> Iterator[str]:
    for name, interface in status.interfaces:
        if interface.state in ("down", "fail", "silent"):
            yield f"its {name} {_what_is_wrong(interface)}"


def _why_not_linked(active: Node, ours: Status, other: Node, theirs: Status) -> Iterator[str]:
    """What is wrong with the private link, in either direction."""
    for node, status, sender in ((active, ours, other), (other, theirs, active)):
        if status.plip_state == "down":
            yield f"{node.name} has no carrier on the private link"
        elif not _has_heartbeats(status):
            yield f"{node.name} receives no heartbeats from {sender.name}"
        if status.speechless:
            yield f"{sender.name} does not answer the queries of {node.name}"
    if theirs.blocked:
        yield f"{other.name} says: {theirs.blocked}"


def _has_heartbeats(status: Status) -> bool:
    """The first window is not judged, and may be empty."""
    if status.plip_state == "boot":
        return status.heartbeat_age is not None
    return status.plip_state == "ok"


def _unwatched(node: Node) -> Iterator[str]:
    """What is wrong with the watcher of an interface."""
    for interface, why in node.status.watchers if node.status else ():
        yield f"{node.name}: {interface}: {why}"


def _failed_run(node: Node) -> Iterator[str]:
    """The run of the switch script that has failed; an older failoverd tells of the last only."""
    status = node.status
    if status is None:
        return
    failure = status.failure
    if failure is not None:
        said = ": ".join(filter(None, (failure.why, failure.line)))
        yield _told_run(node, failure.role, failure.exit) + (f": {said}" if said else "")
    elif status.switch_exit:
        yield _told_run(node, str(status.switch_last), status.switch_exit)


def _told_run(node: Node, role: str, exit_status: int) -> str:
    return f"the switch script failed on {node.name} ({role}, exit {exit_status})"


# None is active, as far as was heard

SERVED = {
    "peer": "{peer} gives no valid answer here, but was heard to be active just now",
    "answered": "{peer} gives no valid answer, but the service addresses are answered for",
    "unknown": "{peer} gives no valid answer, and it is not known yet who serves",
}


TOO_LONG = {"switching": "switching for longer than $switch_timeout"}


def _none_is_active(here: Node, there: Node, switch_timeout: float) -> Verdict:
    nodes = [node for node in (here, there) if node.status is not None]
    under_way = [node for node in nodes if node.role == "switching"]
    if any(_is_recent(node, switch_timeout) for node in under_way):
        names = " and ".join(node.name for node in under_way)
        verb = "is" if len(under_way) == 1 else "are"
        return Verdict(WARNING, f"{names} {verb} switching, and no node is active yet")
    us = here.status
    if us is not None and there.status is None and not under_way and us.service in SERVED:
        rest = SERVED[us.service].format(peer=there.name)
        if us.plip_state == "down":
            rest += f"; {here.name} has no carrier on the private link"
        return Verdict(WARNING, f"{here.name} is {us.role}, {rest}")
    return Verdict(CRITICAL, _nobody(here, there, nodes))


def _is_recent(node: Node, switch_timeout: float) -> bool:
    assert node.status is not None
    seconds = age(node.status)
    return seconds is None or seconds <= switch_timeout


def _nobody(here: Node, there: Node, nodes: list[Node]) -> str:
    """That no node is active, and all that is known of why."""
    roles = [f"{node.name} is {TOO_LONG.get(node.role, node.role)}" for node in nodes]
    if there.status is None:
        roles.append(f"{there.name} gives no valid answer")
    told = [", ".join(roles)]
    for node in nodes:
        told += _failed_run(node)
        if node.status and node.status.blocked:
            told.append(f"{node.name} says: {node.status.blocked}")
        if node.status and node.status.plip_state == "boot":
            told.append(f"{node.name} is in its first window")
    return f"no node is known to be active: {'; '.join(told)}"
