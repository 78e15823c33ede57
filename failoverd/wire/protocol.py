"""The wire of section 6, without a socket: bytes in, events out, every buffer bounded.

Both ends are small machines over lines. `feed` takes whatever has arrived, in pieces of any size,
and returns what that means; how it was cut into pieces never changes the outcome. After its last
event a connection is over and ignores what still comes.

    server:  greeting -> (secret line, command line | hmac line) -> Request | Refused
    client:  greeting -> Send -> Reply | NoAnswer

A client that is refused learns nothing but that. Whatever does not become a request gets the same
line, the secret is looked at only when the request is complete (so a wrong word alone is not
answered any earlier than the right one), and it is compared in constant time. What could not be
right under any secret, an over-long or binary line, is refused at once. The heartbeats beside this
wire carry a tag that comes from the same secret (Tags).

The nonce is the server's alone, so an answer that somebody has recorded would be good again for
whoever greets with its nonce: "ok active" from a peer that is dead, say. Therefore every client of
ours adds a challenge, 32 fresh hex digits, to its command ("hmac HEX fail CHALLENGE"), which both
signatures then cover as they cover the command. An older failoverd may answer, signed, that it does
not know that command: only then it is asked once more without. One of another version sends none
before it was told, at the end of a status, that it may (TAKES_CHALLENGES).
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import ipaddress
import json
import re
from collections.abc import Container
from dataclasses import dataclass, fields
from functools import partial
from typing import Annotated, Any

from failoverd.wire import typed

COMMANDS = ("status", "fail", "resume")
CLIENT_LINE = 256  # bytes, without the line's end
SERVER_LINE = 64 * 1024  # bytes, with the line's end
REFUSED = b"error refused\n"
UNKNOWN = "unknown command"

TAKES_CHALLENGES = ', "challenge": true}'  # instead of the last brace

TAG = 8  # bytes of a heartbeat's

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CHALLENGED = re.compile(f"({'|'.join(COMMANDS)}) [0-9a-f]{{32}}")
_GREETING = re.compile(r"failoverd 1 ([0-9a-f]{32})")

_ONE_SECRET = (
    "copy the file of $secret from one machine to the other, and send HUP to failoverd on both"
)
_OTHER_ADDRESS = "see that $primary and $secondary are exchanged on the other machine"
LOOK_THERE = (
    "see whether the machine and the link are up and failoverd runs there, and look for a packet "
    "filter on either machine"
)
FILTER = (
    "look for a packet filter on either machine, see to the MTU of the private link, and that "
    "$tcp_port is the same on both"
)
FILTERED = f"its heartbeats come in, so failoverd runs there: {FILTER}"

# Events


@dataclass(frozen=True)
class Request:
    """An authentic request. The command may be one that nobody knows."""

    command: str
    by_hmac: bool


@dataclass(frozen=True)
class Refused:
    """The client gave no authentic request: send REFUSED and close."""


@dataclass(frozen=True)
class Send:
    """The client is to send these bytes now."""

    data: bytes


@dataclass(frozen=True)
class Reply:
    """An authentic answer."""

    ok: bool
    text: str

    @property
    def is_unknown(self) -> bool:
        """Whether the command is unknown there."""
        return not self.ok and self.text == UNKNOWN


@dataclass(frozen=True)
class NoAnswer:
    """There will be no authentic answer; `refused`: the bare line came.

    Clauses for people: why, and, where that is sure, the way out.
    """

    why: str
    refused: bool = False
    advice: str = ""


# The server's end


class ServerConnection:
    """What one client says to our port. `nonce` is 32 hex digits that were never used before."""

    def __init__(self, nonce: str, secret: bytes, plain: bool) -> None:
        if not secret:
            raise ValueError("an empty secret would let everybody in")
        self.nonce = nonce
        self._secret = secret
        self._plain = plain
        self._buffer = b""
        self._word: str | None = None
        self._request: Request | None = None
        self.signed = ""  # the command as it was signed, with its challenge
        self._over = False

    def greeting(self) -> bytes:
        return f"failoverd 1 {self.nonce}\n".encode()

    def feed(self, data: bytes) -> list[Request | Refused]:
        """Take what has arrived. At most one event ever comes of it."""
        if self._over:
            return []
        # Two lines are all that a request can have: the rest need not be kept.
        self._buffer = (self._buffer + data)[: 2 * (CLIENT_LINE + 2)]
        while b"\n" in self._buffer:
            line, _, self._buffer = self._buffer.partition(b"\n")
            event = self._take(line)
            if event is not None:
                return self._finish(event)
        if len(self._buffer.removesuffix(b"\r")) > CLIENT_LINE:
            return self._finish(Refused())
        return []

    def end(self) -> list[Request | Refused]:
        """The client has closed its side, or its time is up."""
        return [] if self._over else self._finish(Refused())

    def answer(self, ok: bool, text: str) -> bytes:
        """The last line: signed for a client that signed. Only after a Request."""
        if self._request is None:
            raise ValueError("there is no request to answer")
        verdict = "ok" if ok else "error"
        if not self._request.by_hmac:
            return f"{verdict} {_fit(text, len(verdict) + 2)}\n".encode()
        text = _fit(text, len(verdict) + 67)
        signature = _answer_signature(self._secret, self.nonce, self.signed, verdict, text)
        return f"{verdict} {signature} {text}\n".encode()

    def _finish(self, event: Request | Refused) -> list[Request | Refused]:
        self._over = True
        self._buffer = b""
        if isinstance(event, Request):
            self._request = event
        return [event]

    def _take(self, line: bytes) -> Request | Refused | None:
        text = _text(line.removesuffix(b"\r"))
        if text is None:
            return Refused()
        if self._word is not None:
            right = _same(self._word.encode(), self._secret) and self._plain
            return Request(text, by_hmac=False) if right else Refused()
        if text.startswith("hmac "):
            return self._take_signed(text)
        self._word = text
        return None

    def _take_signed(self, text: str) -> Request | Refused:
        _, signature, command = [*text.split(" ", 2), ""][:3]
        right = _request_signature(self._secret, self.nonce, command)
        if not _same(signature.encode(), right.encode()):
            return Refused()
        self.signed = command
        challenged = _CHALLENGED.fullmatch(command)
        return Request(challenged[1] if challenged else command, True)


# The client's end


class ClientConnection:
    """One question, always by HMAC.

    own_nonces are those that this machine's own port has given out: whoever greets us with one of
    them has only handed our own greeting back, and our signature would be good at our own door.
    With a challenge that was never used before, no recorded answer is good.
    """

    def __init__(
        self,
        secret: bytes,
        command: str,
        own_nonces: Container[str] = (),
        challenge: str = "",
    ) -> None:
        self._secret = secret
        self._command = f"{command} {challenge}" if challenge else command
        self._own_nonces = own_nonces
        self._nonce: str | None = None
        self._buffer = b""
        self._over = False

    def feed(self, data: bytes) -> list[Send | Reply | NoAnswer]:
        """Take what has arrived. After a Reply or a NoAnswer nothing more comes of it."""
        events: list[Send | Reply | NoAnswer] = []
        if self._over:
            return events
        self._buffer = (self._buffer + data)[: 2 * SERVER_LINE]
        while b"\n" in self._buffer and not self._over:
            line, _, self._buffer = self._buffer.partition(b"\n")
            events.append(self._take(line))
            self._over = not isinstance(events[-1], Send)
        if len(self._buffer.removesuffix(b"\r")) >= SERVER_LINE and not self._over:
            self._over = True
            events.append(NoAnswer("its answer was too long"))
        if self._over:
            self._buffer = b""
        return events

    def end(self) -> list[Send | Reply | NoAnswer]:
        """The server has closed the connection."""
        if self._over:
            return []
        self._over = True
        if self._nonce is None:
            return [NoAnswer("it closed the connection without a word", advice=_OTHER_ADDRESS)]
        return [NoAnswer("it closed the connection without an answer")]

    def _take(self, line: bytes) -> Send | Reply | NoAnswer:
        text = _text(line.removesuffix(b"\r"), SERVER_LINE - 1)
        if text is None:
            return NoAnswer("its answer was too long, or not text")
        if self._nonce is None:
            return self._take_greeting(text)
        return self._take_answer(self._nonce, text)

    def _take_greeting(self, text: str) -> Send | NoAnswer:
        greeting = _GREETING.fullmatch(text)
        if greeting is None:
            return NoAnswer("it does not greet like failoverd")
        self._nonce = greeting[1]
        if self._nonce in self._own_nonces:
            return NoAnswer("it greets us with our own words")
        signature = _request_signature(self._secret, self._nonce, self._command)
        return Send(f"hmac {signature} {self._command}\n".encode())

    def _take_answer(self, nonce: str, line: str) -> Reply | NoAnswer:
        if line == "error refused":
            return NoAnswer("authentication failed: the secrets differ", True, _ONE_SECRET)
        verdict, signature, text = [*line.split(" ", 2), "", ""][:3]
        right = _answer_signature(self._secret, nonce, self._command, verdict, text)
        if verdict not in ("ok", "error") or not _same(signature.encode(), right.encode()):
            return NoAnswer("its answer was not signed with our secret")
        return Reply(verdict == "ok", text)


def why_unconnected(error: OSError, place: str, own: str, link: str) -> tuple[str, str]:
    """Why there is no connection from `own` to the peer's port, and, where that is sure, the way
    out: two clauses for people."""
    match error.errno:
        case errno.EADDRNOTAVAIL:
            missing = f"this machine does not have the address {own}"
            return missing, f"give it to {link}, or correct $primary"
        case errno.ENODEV:
            return f"there is no interface {link}", "make it, or correct $plip_interface"
        case errno.ECONNREFUSED:
            return f"{place} refuses the connection", ""
    return f"{place} cannot be reached over {link}: {error.strerror}", ""


# What both ends share


def _request_signature(secret: bytes, nonce: str, command: str) -> str:
    return _sign(secret, f"{nonce} {command}")


def _answer_signature(secret: bytes, nonce: str, command: str, verdict: str, text: str) -> str:
    return _sign(secret, f"{nonce} {command} {verdict} {text}")


def _sign(secret: bytes, message: str) -> str:
    return hmac.new(secret, message.encode(), hashlib.sha256).hexdigest()


def _same(one: bytes, other: bytes) -> bool:
    """Compare in a time that tells neither where they differ nor how long the right one is."""
    return hmac.compare_digest(hashlib.sha256(one).digest(), hashlib.sha256(other).digest())


def _text(line: bytes, limit: int = CLIENT_LINE) -> str | None:
    """The line as text; None if it is too long, not UTF-8, or has control characters."""
    if len(line) > limit:
        return None
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return None
    return None if _CONTROL.search(text) else text


def _fit(text: str, rest: int) -> str:
    """The text as part of one line whose other bytes are `rest`."""
    data = _CONTROL.sub(" ", text).encode(errors="replace")
    return data[: SERVER_LINE - rest].decode(errors="ignore")


# The heartbeats' tags


def _tag_bytes(value: object) -> bytes:
    return bytes.fromhex(typed.like(f"[0-9a-f]{{{2 * TAG}}}")(value))


_Few = Annotated[tuple[bytes, ...], typed.several(_tag_bytes, 2)]


@dataclass(frozen=True)
class Tags:
    """What marks our heartbeats, and what marks the peer's: a kernel's filter knows them by it.

    The newest first; a second one is that of the secret before, as long as the peer may have that.
    """

    ours: _Few
    peers: _Few

    def then(self, new: Tags) -> Tags:
        """New ones, and those that the peer is known to have had last, until it has the new."""
        if new.peers[0] == self.peers[-1]:  # the secret is the old one again
            return new
        return Tags((new.ours[0], self.ours[-1]), (new.peers[0], self.peers[-1]))

    @property
    def newest(self) -> Tags:
        return Tags(self.ours[:1], self.peers[:1])

    def message(self) -> dict[str, object]:
        """How one process tells another."""
        return {
            "ours": [tag.hex() for tag in self.ours],
            "peers": [tag.hex() for tag in self.peers],
        }


def parse_tags(message: object) -> Tags:
    """What Tags.message made. Raises ValueError for anything else."""
    tags = typed.decode(Tags, message)
    if not 1 <= len(tags.ours) == len(tags.peers):
        raise ValueError("ours: not as many as peers, or none")
    return tags


def heartbeat_tags(secret: bytes, us: str, peer: str) -> Tags:
    """The tags of this secret between these two private addresses."""
    return Tags((_tag(secret, us, peer),), (_tag(secret, peer, us),))


def _tag(secret: bytes, sender: str, receiver: str) -> bytes:
    """Each direction has its own, so nothing that throws our packets back to us is the peer.

    Whoever can record the private link has seen 8 bytes by which a guess of the secret can be
    checked, as by any signed line on the port; nothing else follows from them. No signed line can
    be this message: they all begin with a nonce.
    """
    text = f"failoverd heartbeat {sender} {receiver}"
    return hmac.new(secret, text.encode(), hashlib.sha256).digest()[:TAG]


# The status

ROLES = ("active", "standby", "switching", "failed")
BOOTS = ("master", "slave")
STATES = ("boot", "ok", "silent", "fail", "down")
# Who serves, as far as a machine knows: itself; the peer, by its word; somebody who answers for the
# addresses; not known yet, for the peer was lost just now; nobody.
SERVICES = ("here", "peer", "answered", "unknown", "nobody")
MAX_INTERFACES = 128
MAX_FIXED = 8  # addresses of an interface
MAX_SETTINGS = 64
MAX_SETTING = 240  # characters of one that a status tells, and of any other text in it
MAX_WATCHERS = 16  # of whom a status tells that they are not as they should be

_HOST = re.compile(r"[0-9A-Za-z]([-.0-9A-Za-z_]{0,62}[0-9A-Za-z])?")


def host_in_network(value: object) -> str:
    """An address of one machine with the length of its prefix, or ValueError."""
    if not isinstance(value, str) or len(value) > 64 or "%" in value:
        raise ValueError("not an address")
    address = ipaddress.ip_interface(value)
    if address.ip.is_unspecified or address.ip.is_multicast or address.ip.is_loopback:
        raise ValueError("not an address of one machine")
    return str(address)


def _interface_name(value: object) -> str:
    """The name, if a kernel may have it and a terminal may show it."""
    name = str(typed.like(r"[^\s/:]{1,15}")(value))
    if not name.isprintable() or len(name.encode(errors="replace")) > 15:
        raise ValueError("not an interface's name")
    return name


_Line = Annotated[str, typed.line(MAX_SETTING)]
_Boot = Annotated[str, typed.one_of(*BOOTS)]
_State = Annotated[str, typed.one_of(*STATES)]
_Count = Annotated[int, typed.whole(0, 2**63)]
_Exit = Annotated[int, typed.whole(-255, 255)]
_Number = Annotated[float, typed.number(1e12)]
_Time = Annotated[
    str, typed.like(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z")
]


@dataclass(frozen=True)
class InterfaceStatus:
    """One interface of the ethernet side: packets in this window and in the last one.

    hwaddr: "" while there is no such interface. fixed: the machine's own addresses there, such as
    "192.0.2.1/24", without what the pair serves; an older one tells none.
    """

    state: _State
    packets: _Count
    last: _Count
    hwaddr: Annotated[str, typed.like(r"([0-9a-f]{2}(:[0-9a-f]{2}){0,31})?")]
    fixed: Annotated[tuple[str, ...], typed.several(host_in_network, MAX_FIXED)] = ()

    @property
    def is_bad(self) -> bool:
        return is_bad(self.state, self.packets, self.last)


def is_bad(state: str, packets: int, last: int) -> bool:
    """Bad at a peer: down, or without a packet in its last two windows (section 5)."""
    return state in ("down", "silent") or (state == "fail" and packets == 0 and last == 0)


@dataclass(frozen=True)
class Failure:
    """The last run of the switch script that failed; none for the same role has worked since.

    line: the last that it printed. why: what there is against it beside the exit status.
    when: UTC, by that machine's clock; age: how long ago that was, in seconds, whatever the clock.
    """

    role: _Boot
    exit: _Exit
    line: _Line
    why: _Line
    when: _Time
    age: _Number


_Interfaces = Annotated[
    tuple[tuple[str, InterfaceStatus], ...],
    typed.table(_interface_name, partial(typed.decode, InterfaceStatus), MAX_INTERFACES),
]
_Settings = Annotated[
    tuple[tuple[str, str], ...],
    typed.table(typed.like(r"[$@][a-z_]{1,32}"), typed.line(MAX_SETTING), MAX_SETTINGS),
]
_Watchers = Annotated[
    tuple[tuple[str, str], ...],
    typed.table(_interface_name, typed.line(MAX_SETTING), MAX_SETTINGS),
]


@dataclass(frozen=True)
class Status:
    """What `status` tells. since is UTC; ages and durations are in seconds, None where unknown.

    What has a default an older failoverd does not tell, or only while it is so.
    """

    role: Annotated[str, typed.one_of(*ROLES)]
    boot: _Boot
    since: _Time
    version: Annotated[str, typed.like(r"[!-~]{1,64}")]
    interfaces: _Interfaces
    plip_state: _State
    heartbeat_age: _Number | None
    rtt_ms: _Number | None
    switch_last: _Boot | None
    switch_exit: _Exit | None
    switch_seconds: _Number | None
    speechless: bool = False  # heartbeats come in, but the peer's port does not answer
    rejoining: bool = False  # active, but started anew: it asks before it calls itself that
    settings: _Settings = ()  # those that must be alike
    host: Annotated[str, typed.like(_HOST.pattern)] = ""  # the machine's name
    now: _Time = ""  # UTC, when this was told
    age: _Number | None = None  # since it has the role, whatever was done to its clock
    service: Annotated[str, typed.one_of(*SERVICES)] = ""
    claimed: bool = False  # active, and somebody else answers for the addresses too
    blocked: _Line = ""  # why it does not take over, while it would
    switch_why: _Line = ""  # what there is against the last switch beside its exit status
    failure: Failure | None = None
    watchers: _Watchers = ()  # what is wrong with an interface's, by interface


# Where on the wire a field stands that is not at the top.
_INSIDE = {
    "plip_state": ("plip", "state"),
    "heartbeat_age": ("plip", "heartbeat_age"),
    "rtt_ms": ("plip", "rtt_ms"),
    "switch_last": ("switch", "last"),
    "switch_exit": ("switch", "exit"),
    "switch_seconds": ("switch", "seconds"),
    "switch_why": ("switch", "why"),
}


def encode_status(status: Status) -> str:
    """The one line of JSON of section 6."""
    return json.dumps(status_tree(status))


def status_tree(status: Status) -> dict[str, object]:
    """The status as the JSON object of section 6. What has a default is told only if it is not."""
    tree = _told(status)
    tree["interfaces"] = {name: _told(interface) for name, interface in status.interfaces}
    if status.settings:
        tree["settings"] = dict(status.settings)
    if status.watchers:
        watchers = status.watchers[:MAX_WATCHERS]
        tree["watchers"] = {name: text[:MAX_SETTING] for name, text in watchers}
    if status.failure is not None:
        tree["failure"] = _told(status.failure)
    for name, (outer, inner) in _INSIDE.items():
        if name in tree:
            tree.setdefault(outer, {})[inner] = tree.pop(name)
    return tree


def _told(form: InterfaceStatus | Failure | Status) -> dict[str, Any]:
    values = {field.name: (getattr(form, field.name), field.default) for field in fields(form)}
    return {name: value for name, (value, default) in values.items() if value != default}


def parse_status(text: str) -> Status | None:
    """The status that a peer told, None if anything in it is not as section 6 says."""
    try:
        return read_status(text)
    except ValueError:
        return None


def read_status(text: str) -> Status:
    """Raises ValueError that says what is wrong.

    Keys that we do not know are left out: a newer peer may have more to tell.
    """
    try:
        tree = typed.mapping(json.loads(text))
    except RecursionError:
        raise ValueError("too deep") from None
    flat = {key: value for key, value in tree.items() if key not in _INSIDE}
    for name, (outer, inner) in _INSIDE.items():
        inside = typed.mapping(tree.get(outer))
        if inner in inside:
            flat[name] = inside[inner]
    return typed.decode(Status, flat)


def words(text: str) -> str:
    """A text as a status can tell it."""
    return "".join(char if char.isprintable() else " " for char in text)[:MAX_SETTING]


def host(name: str) -> str:
    """The name of a machine as a status can tell it, "" if it is none (RFC 1123, section 2.1)."""
    return name if _HOST.fullmatch(name) else ""
