"""What the workers say: each message is decoded where it comes in, or it is none."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from failoverd.events import WORKER_EVENTS
from failoverd.log import printable
from failoverd.second_path import PRIVATE, SECOND
from failoverd.wire import typed
from failoverd.wire.protocol import CHECK_STATES, COMMAND
from failoverd.wire.typed import Whole, like, mapping, one_of, string

MOST_ANSWERS = 1 << 16
MOST_VALUES = 8


def shown(most: int) -> typed.Check:
    """The beginning of whatever it is, as a text for people."""
    return lambda value: printable(str(value)[:most])


Words = Annotated[str, shown(200)]
Moment = Annotated[float, typed.number(1e12)]


def values(told: object) -> dict[str, str]:
    """The values of a line of the log."""
    found = mapping(told)
    key, value = like("[a-z_]{1,30}"), shown(500)
    if len(found) > MOST_VALUES:
        raise ValueError("too many")
    return {key(name): value(text) for name, text in found.items()}


@dataclass(frozen=True)
class Logged:
    """A line for the log, of the events that a worker may log."""

    name: Annotated[str, one_of(*WORKER_EVENTS)]
    subject: Annotated[
        str, like(r"(?:interface|peer|worker(?: watchd)?) [!-9;-~]{1,60}|role|config")
    ]
    sentence: Annotated[str, like(r"[$@]?[a-zA-Z]+(?:,? [$@]?[a-zA-Z-]+)*")]
    values: Annotated[dict[str, str], values]


@dataclass(frozen=True)
class Window:
    """A window has ended."""

    packets: Whole
    last: Whole
    verdict: Annotated[str, one_of("ok", "boot", "late", "fail")]
    reason: Words = ""


@dataclass(frozen=True)
class Counted:
    packets: Whole
    last: Whole


@dataclass(frozen=True)
class Heartbeats:
    """When the peer's last one came, and how long one of this node was under way. sent, received:
    since the message before."""

    heard: Moment | None = None
    rtt: Moment | None = None
    sent: Whole = 0
    received: Whole = 0


@dataclass(frozen=True)
class Renewed:
    """A heartbeat has come with this tag."""

    tag: Annotated[str, string]


@dataclass(frozen=True)
class CheckReport:
    """How a service check stands. turn: of the orders that it follows; passed: a run of these was
    good."""

    name: Annotated[str, string]
    state: Annotated[str, one_of(*CHECK_STATES)]
    output: Words
    turn: Whole
    passed: bool


@dataclass(frozen=True)
class Requested:
    """at: when the listener read it. via, client, user: who asked, if it was not the peer."""

    id: Whole
    command: Annotated[str, like(COMMAND)]
    origin: Annotated[str, one_of("peer", "person")]
    at: Moment
    via: Words = ""
    client: Words = ""
    user: Words = ""


@dataclass(frozen=True)
class Reply:
    id: Whole
    ok: bool
    text: Annotated[str, string]
    path: Annotated[str, one_of(PRIVATE, SECOND)] = PRIVATE


@dataclass(frozen=True)
class Lost:
    """A query without an answer. sent: some of it may have arrived."""

    id: Whole
    sent: bool = True
    why: Words = ""
    advice: Words = ""


@dataclass(frozen=True)
class Placed:
    """An order to put or take addresses was carried out, `count` of them."""

    number: Whole
    count: Whole = 0
    problem: Annotated[str, shown(1000)] = ""
    note: Annotated[str, shown(1000)] = ""


@dataclass(frozen=True)
class Answer:
    """Who answered for one of the addresses."""

    address: Annotated[str, shown(45)]
    hwaddr: Annotated[str, shown(17)]


@dataclass(frozen=True)
class Answers:
    """unsent: by interface, why no probe could be sent there."""

    id: Whole
    asked: Whole
    answers: Annotated[
        tuple[Answer, ...], typed.several(partial(typed.decode, Answer), MOST_ANSWERS)
    ]
    unsent: Annotated[dict[str, object], mapping] | None = None
