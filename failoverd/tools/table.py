"""What ha-status shows of a pair: the verdict, a table with a column for each node, what is wrong.

Each line is cells, a text and what it is like, so that a terminal can colour them.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterable, Iterator, Sequence

from failoverd.second_path import SECOND
from failoverd.tools import verdict
from failoverd.tools.nodes import EVERY, Look
from failoverd.tools.words import counted, duration, exact_span
from failoverd.wire.protocol import MAX_HELD, Change, CheckStatus, InterfaceStatus, Status

Cell = tuple[str, str]  # text and what it is like: good, odd, bad, or nothing in particular
Line = list[Cell]

WIDTH = 80  # columns, however wide the terminal is
GAP = "  "
MOST_ADDRESSES = 4
LEAST_CAUSE = 20  # columns, however narrow the terminal is
OLD = 2 * EVERY  # seconds after which an answer is said to be old

VERDICTS = ("good", "odd", "bad", "odd")  # by exit status
ROLES = {"active": "good", "standby": "", "switching": "odd", "failed": "bad"}
STATES = {"boot": "odd", "ok": "good", "silent": "odd", "fail": "bad", "down": "bad"}
CHECKS = {"ok": "good", "bad": "bad", "unknown": ""}


def lines(look: Look, verbose: bool = False) -> Iterator[Line]:
    """All of it. Only sentences may be wider than WIDTH."""
    yield from top(look, verbose)
    yield from end(look)


def top(look: Look, verbose: bool = False) -> Iterator[Line]:
    told = look.verdict
    yield [(str(told), VERDICTS[told.status])]
    yield []
    yield from _table(list(_rows(look, verbose)))


def end(look: Look) -> Iterator[Line]:
    """What is wrong, and what to do, if there is something."""
    if not look.verdict.advice and not look.remarks:
        return
    yield []
    for answer in (look.here, look.there):
        if answer.trouble:
            yield [(answer.trouble, "odd")]
    for remark in look.remarks:
        yield [(remark, "odd")]
    if look.advice:
        yield [(f"next: {look.advice}", "head")]


def footer(look: Look) -> Iterator[Line]:
    """What is true of a picture that is drawn again and again."""
    for name, age in zip(look.names, look.ages, strict=True):
        if age > OLD:
            yield [(f"what is shown of {name} is {age:.0f} s old", "odd")]
    yield [(f"{time.strftime('%H:%M:%S')}  Ctrl-C ends", "faint")]


# The table


def _rows(look: Look, verbose: bool) -> Iterator[tuple[str, Cell, Cell]]:
    here, there = look.names
    this = f"{here} {look.conf.primary}" if here == "this node" else f"{here} (this node)"
    yield "", (this, "head"), (there, "head")
    ours, theirs = (dict(_facts(status, verbose)) for status in (look.us, look.peer))
    for name in _both(list(ours), list(theirs)):
        yield name, ours.get(name, ("-", "")), theirs.get(name, ("-", ""))


def _both(ours: list[str], theirs: list[str]) -> list[str]:
    """The names of the rows of both, each where it stands in either."""
    names = list(ours)
    for before, name in zip(["", *theirs], theirs, strict=False):
        if name not in names:
            names.insert(names.index(before) + 1 if before else 0, name)
    return names


def _table(rows: Sequence[tuple[str, Cell, Cell]]) -> Iterator[Line]:
    """Each cell is wrapped into its column, and each column as wide as it must be."""
    names = max(len(name) for name, _, _ in rows)
    left = max(len(cell[0]) for _, cell, _ in rows)
    right = max(len(cell[0]) for _, _, cell in rows)
    room = WIDTH - names - 2 * len(GAP)
    left = min(left, max(room - right, room // 2))
    for name, ours, theirs in rows:
        wrapped = [_wrapped(ours[0], left), _wrapped(theirs[0], room - left)]
        for at in range(max(map(len, wrapped))):
            one, other = (cell[at] if at < len(cell) else "" for cell in wrapped)
            begin = f"{'' if at else name:{names}}{GAP}"
            yield [(begin, ""), (f"{one:{left}}", ours[1]), (GAP, ""), (other, theirs[1])]


def _wrapped(text: str, width: int) -> list[str]:
    return [part for line in text.split("\n") for part in textwrap.wrap(line, width)] or [""]


def _facts(status: Status | None, verbose: bool) -> Iterator[tuple[str, Cell]]:
    """What the table says of one node, by the names of its rows."""
    if status is None:
        yield "role", ("unknown", "bad")
        return
    probes = " (probing for its addresses)" if status.rejoining else ""
    yield "role", (status.role + probes, ROLES[status.role])
    yield "since", (local(status.since), "")
    age = verdict.age(status)
    if age is not None:
        yield "for", (exact_span(age), "")
    if status.change is not None:
        change = status.change
        yield "last change", (f"{change.was} -> {change.role} in {duration(change.took)}", "")
        yield "cause", (change.cause, "")
    preferred = status.boot == "master"
    yield "preferred node", (f"{'yes' if preferred else 'no'} (boot:{status.boot})", "")
    for name, interface in status.interfaces:
        yield f"interface {name}", (_interface(interface, verbose), STATES[interface.state])
    for name, check in status.checks:
        yield f"check {name}", (_check(check), CHECKS[check.state])
    yield "heartbeat link", _link(status)
    if verdict.on_hold(status):
        yield "hold", (verdict.hold(status), "odd")
    if status.path == SECOND:
        yield "peer answers over", ("the second path", "odd")
    if status.held is not None:
        yield "service address", (_held(status.held), "")
    yield from _scripts(status)
    if verbose:
        yield "version", (status.version, "")


def local(moment: str) -> str:
    """A moment that a status tells, in this node's zone, as the log has it."""
    found = verdict.moment(moment)
    return found.astimezone().isoformat(" ", "seconds") if found else moment


def _interface(interface: InterfaceStatus, verbose: bool) -> str:
    hwaddr = f", {interface.hwaddr or 'no hardware address'}" if verbose else ""
    packets = counted(interface.packets, "packet")
    return f"{interface.state}, {packets} now, {interface.last} before{hwaddr}"


def _check(check: CheckStatus) -> str:
    since = f" since {local(check.since)}" if check.is_bad else ""
    return f"{check.state}{since}" + (f": {check.output}" if check.output else "")


def _link(status: Status) -> Cell:
    age, rtt = status.heartbeat_age, status.rtt_ms
    text = f"{status.plip_state}, " + ("no heartbeat" if age is None else f"{_short(age)} s ago")
    return text + ("" if rtt is None else f", rtt {_short(rtt)} ms"), STATES[status.plip_state]


def _short(value: float) -> str:
    return f"{value:.2g}" if value < 100 else f"{value:.0f}"


def _held(held: Sequence[tuple[str, str]]) -> str:
    told = [f"{address} on {interface}" for address, interface in held[:MOST_ADDRESSES]]
    more = len(held) - MOST_ADDRESSES
    if more > 0:
        told.append(f"and {more} more" if len(held) < MAX_HELD else "and more")
    return "\n".join(told) or "none here"


def _scripts(status: Status) -> Iterator[tuple[str, Cell]]:
    """The last run; and the last that has failed, until one for the same role works: the run that
    cleans up does not hide it."""
    if status.switch_last is None:
        yield "switch script", ("not run", "")
    elif status.switch_exit is None:
        yield "switch script", (f"{status.switch_last}, still running", "odd")
    else:
        took = "" if status.switch_seconds is None else f", {duration(status.switch_seconds)}"
        why = f", failed: {status.switch_why}" if status.switch_why else ""
        text = f"{status.switch_last}, exit {status.switch_exit}{took}{why}"
        yield "switch script", (text, "bad" if status.switch_exit or why else "")
    failure = status.failure
    if failure is not None:
        text = f"{failure.role}, exit {failure.exit}, {exact_span(failure.age)} ago"
        yield "failed script", (text, "bad")
        said = "\n".join(filter(None, (failure.why, failure.line)))
        yield "its last line", (said or "none", "bad")


def changes(told: Sequence[Change], width: int) -> Iterator[str]:
    """Changes of a role, one a line; a cause that is too long for the width goes on below."""
    rows = [("TIME", "FROM", "TO", "TOOK", "CAUSE")]
    rows += [(local(one.when), one.was, one.role, duration(one.took), one.cause) for one in told]
    time, was, role, took = (max(map(len, column)) for column in [*zip(*rows, strict=True)][:-1])
    for row in rows:
        begin = f"{row[0]:{time}}  {row[1]:{was}}  {row[2]:{role}}  {row[3]:>{took}}  "
        for part in _wrapped(row[4], max(LEAST_CAUSE, width - len(begin))):
            yield begin + part
            begin = " " * len(begin)


def plain(told: Iterable[Line]) -> str:
    return "\n".join("".join(text for text, _ in line).rstrip() for line in told)
