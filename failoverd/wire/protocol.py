"""The wire of section 6, without a socket: bytes in, events out, every buffer bounded.

    server:  greeting -> (secret line, command line | hmac line) -> Request | Refused
    client:  greeting -> Send -> Reply | NoAnswer

Both ends take lines: `feed` gets whatever has arrived, in pieces of any size, and how it was cut
into pieces never changes the outcome. After its last event a connection is over and ignores what
still comes.

A client that is refused learns nothing but that: the secret is looked at only when the request is
complete, and compared in constant time. What could not be right under any secret, an over-long or
binary line, is refused at once. The heartbeats beside this wire carry a tag that comes from the
same secret (Tags).

The nonce is the server's alone, so a recorded answer would be good again for whoever greets with
its nonce. Therefore failoverd adds a challenge, 32 fresh hex digits, to each command ("hmac HEX
fail CHALLENGE"), which both signatures then cover. An older failoverd answers, signed, that it does
not know that command: only then it is asked once more without. By its challenge a request that
comes over two paths is known for one.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import ipaddress
import json
import re
from collections.abc import Container, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Generic, TypeVar

from failoverd.wire import typed

COMMAND = "status|fail|resume|release|hold(?: [1-9][0-9]{0,8})?"
HOLDS = ("hold", "release")  # the first word of what only the node's own commands may say
MOST_HOLD = 999_999_999  # seconds
CLIENT_LINE = 256  # bytes, without the line's end
SERVER_LINE = 64 * 1024  # bytes, with the line's end
REFUSED = b"error refused\n"
UNKNOWN = "unknown command"

TAG = 8  # bytes of a heartbeat's

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CHALLENGED = re.compile(f"({COMMAND}) ([0-9a-f]{{32}})")
_GREETING = re.compile(r"failoverd 1 ([0-9a-f]{32})")

_SUDO = b"\0failoverd for "

_ONE_SECRET = (
    "copy the file of $secret from one node to the other, and send HUP to failoverd on both"
)
_OTHER_ADDRESS = "check that $primary and $secondary are exchanged on the peer"
LOOK_THERE = (
    "check that the peer and the link are up, that failoverd is running there, and that no "
    "firewall (packet filter) on either node is in the way"
)
NOT_THERE = (
    "check that the peer's failoverd is running, with the same $tcp_port, and that no firewall "
    "(packet filter) on either node is in the way"
)
FILTER = (
    "look for a firewall (packet filter) on either node, check the MTU of the heartbeat link, and "
    "that $tcp_port is the same on both"
)
FILTERED = f"its heartbeats are received, so failoverd is running there: {FILTER}"

# Events


@dataclass(frozen=True)
class Request:
    """An authentic request. The command may be an unknown one."""

    command: str
    by_hmac: bool
    challenge: str = field(default="", compare=False)


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
        return not self.ok and self.text == UNKNOWN


@dataclass(frozen=True)
class NoAnswer:
    """There will be no authentic answer; `refused`: the bare line came.

    Clauses for people: why, and, where that is sure, the way out.
    """

    why: str
    refused: bool = False
    advice: str = ""


Event = TypeVar("Event")


class _Connection(Generic[Event]):
    """Lines out of pieces, until `_end` has been called."""

    limit = 0  # bytes of a line, without its end

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._buffer = b""
        self._over = False

    def feed(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        # Two lines are all that either end says: the rest need not be kept.
        self._buffer = (self._buffer + data)[: 2 * (self.limit + 2)]
        while b"\n" in self._buffer and not self._over:
            line, _, self._buffer = self._buffer.partition(b"\n")
            events += self._take(_text(line.removesuffix(b"\r"), self.limit))
        if len(self._buffer.removesuffix(b"\r")) > self.limit and not self._over:
            events += self._take(None)
        if self._over:
            self._buffer = b""
        return events

    def _take(self, line: str | None) -> list[Event]:
        """None: it is too long, or no text."""
        raise NotImplementedError

    def _end(self, event: Event) -> list[Event]:
        over, self._over = self._over, True
        return [] if over else [event]


class ServerConnection(_Connection[Request | Refused]):
    """What one client says to this node's port; at most one event ever comes of it.

    `nonce` is 32 hex digits that were never used before.
    """

    limit = CLIENT_LINE

    def __init__(self, nonce: str, secret: bytes, plain: bool) -> None:
        if not secret:
            raise ValueError("an empty secret would let everybody in")
        super().__init__(secret)
        self.nonce = nonce
        self._plain = plain
        self._word: str | None = None  # the first line, if it is no signed one
        self.request: Request | None = None
        self._signed = ""  # the command as it was signed, with its challenge

    def greeting(self) -> bytes:
        return f"failoverd 1 {self.nonce}\n".encode()

    def end(self) -> list[Request | Refused]:
        return self._end(Refused())

    def answer(self, ok: bool, text: str) -> bytes:
        """The last line: signed for a client that signed. Only after a Request."""
        if self.request is None:
            raise ValueError("there is no request to answer")
        said = ["ok" if ok else "error"]
        text = _fit(text)
        if self.request.by_hmac:
            said.append(_sign(self._secret, self.nonce, self._signed, said[0], text))
        return f"{' '.join(said)} {text}\n".encode()

    def _take(self, line: str | None) -> list[Request | Refused]:
        if line is not None and self._word is None:
            if not line.startswith("hmac "):
                self._word = line
                return []
            self.request = self._read_signed(line)
        elif line is not None and _same(str(self._word), self._secret) and self._plain:
            self.request = Request(line, by_hmac=False)
        return self._end(self.request or Refused())

    def _read_signed(self, line: str) -> Request | None:
        _, signature, self._signed = [*line.split(" ", 2), ""][:3]
        if not _same(signature, _sign(self._secret, self.nonce, self._signed).encode()):
            return None
        challenged = _CHALLENGED.fullmatch(self._signed)
        if challenged is None:
            return Request(self._signed, by_hmac=True)
        return Request(challenged[1], by_hmac=True, challenge=challenged[2])


class ClientConnection(_Connection[Send | Reply | NoAnswer]):
    """One query, always by HMAC; after a Reply or a NoAnswer nothing more comes of it.

    own_nonces are those that this node's own port has given out: a greeting with one of them only
    hands this node's own back, and what is signed for it would be good at its own port. With a
    challenge that was never used before, no recorded answer is good.
    """

    limit = SERVER_LINE - 1

    def __init__(
        self,
        secret: bytes,
        command: str,
        own_nonces: Container[str] = (),
        challenge: str = "",
    ) -> None:
        super().__init__(secret)
        self._command = f"{command} {challenge}" if challenge else command
        self._own_nonces = own_nonces
        self._nonce: str | None = None

    def end(self) -> list[Send | Reply | NoAnswer]:
        missing, advice = (
            ("a greeting", _OTHER_ADDRESS) if self._nonce is None else ("an answer", "")
        )
        why = f"it closed the connection without {missing}"
        return self._end(NoAnswer(why, advice=advice))

    def _take(self, line: str | None) -> list[Send | Reply | NoAnswer]:
        if line is None:
            return self._end(NoAnswer("its answer is too long, or not text"))
        if self._nonce is None:
            return self._take_greeting(line)
        return self._end(self._read_answer(self._nonce, line))

    def _take_greeting(self, line: str) -> list[Send | Reply | NoAnswer]:
        greeting = _GREETING.fullmatch(line)
        if greeting is None:
            return self._end(NoAnswer("it does not greet like failoverd"))
        self._nonce = greeting[1]
        if self._nonce in self._own_nonces:
            return self._end(NoAnswer("it sent this node's own greeting back"))
        signature = _sign(self._secret, self._nonce, self._command)
        return [Send(f"hmac {signature} {self._command}\n".encode())]

    def _read_answer(self, nonce: str, line: str) -> Reply | NoAnswer:
        if line == "error refused":
            return NoAnswer("authentication failed: the secrets differ", True, _ONE_SECRET)
        verdict, signature, text = [*line.split(" ", 2), "", ""][:3]
        right = _sign(self._secret, nonce, self._command, verdict, text)
        if verdict not in ("ok", "error") or not _same(signature, right.encode()):
            return NoAnswer("its answer is not signed with the shared secret")
        return Reply(verdict == "ok", text)


def is_command(text: str) -> bool:
    return re.fullmatch(COMMAND, text) is not None


def named_end(user: str, unique: str) -> bytes:
    """The name of a client's end of the Unix socket (unix(7), abstract): it tells for whom sudo
    runs the client, and only root can be one. unique: no other end has it."""
    return _SUDO + f"{unique} {user}".encode(errors="replace")[:90]


def user_of_end(name: object) -> str:
    """The user in such a name, "" if it is another."""
    if not isinstance(name, bytes) or not name.startswith(_SUDO):
        return ""
    return words(name.decode(errors="replace").removeprefix(_SUDO.decode()).partition(" ")[2])


def why_unconnected(error: OSError, place: str, own: str, link: str) -> tuple[str, str]:
    """Why there is no connection from `own` to the peer's port, and the way out, if that shows it:
    two clauses for people."""
    match error.errno:
        case errno.EADDRNOTAVAIL:
            missing = f"this node does not have the address {own}"
            return missing, f"add it to {link}, or correct $primary"
        case errno.ENODEV:
            return f"there is no interface {link}", "create it, or correct $plip_interface"
        case errno.ECONNREFUSED:
            return f"{place} refuses the connection", NOT_THERE
    return f"{place} cannot be reached over {link}: {error.strerror}", ""


def _sign(secret: bytes, *said: str) -> str:
    return hmac.new(secret, " ".join(said).encode(), hashlib.sha256).hexdigest()


def _same(one: str, other: bytes) -> bool:
    """Compare in a time that tells neither where they differ nor how long the right one is."""
    ends = (hashlib.sha256(end).digest() for end in (one.encode(), other))
    return hmac.compare_digest(*ends)


def _text(line: bytes, limit: int) -> str | None:
    """The line as text; None if it is too long, not UTF-8, or has control characters."""
    text = line.decode(errors="replace") if len(line) <= limit else "\0"
    return None if _CONTROL.search(text) or text.encode() != line else text


def _fit(text: str) -> str:
    """The text as the last part of the server's line."""
    data = _CONTROL.sub(" ", text).encode(errors="replace")
    return data[: SERVER_LINE - len(f"error {'0' * 64} \n")].decode(errors="ignore")


# The heartbeats' tags


def _tag_bytes(value: object) -> bytes:
    return bytes.fromhex(typed.like(f"[0-9a-f]{{{2 * TAG}}}")(value))


_Few = Annotated[tuple[bytes, ...], typed.several(_tag_bytes, 2)]


@dataclass(frozen=True)
class Tags:
    """What marks this node's heartbeats, and the peer's: a kernel's filter knows them by it.

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
        ends = {"ours": self.ours, "peers": self.peers}
        return {end: [tag.hex() for tag in tags] for end, tags in ends.items()}


def parse_tags(message: object) -> Tags:
    """What Tags.message made. Raises ValueError for anything else."""
    tags = typed.decode(Tags, message)
    if not 1 <= len(tags.ours) == len(tags.peers):
        raise ValueError("not as many tags of this node as of the peer, or none")
    return tags


def heartbeat_tags(secret: bytes, own: str, peer: str) -> Tags:
    """The tags of this secret between these two private addresses.

    Each direction has its own, so nothing that sends a node's packets back to it is the peer. Like
    any signed line a tag lets who recorded it check a guess of the secret, and no more. No signed
    line can be this message: they all begin with a nonce.
    """

    def tag(sender: str, receiver: str) -> bytes:
        return bytes.fromhex(_sign(secret, "failoverd heartbeat", sender, receiver))[:TAG]

    return Tags((tag(own, peer),), (tag(peer, own),))


# The status

ROLES = ("active", "standby", "switching", "failed")
BOOTS = ("master", "slave")
STATES = ("boot", "ok", "silent", "fail", "down")
# Who serves, as far as a node knows: itself; the peer, by its word; what answers for the addresses;
# not known yet, for the peer was lost just now; none.
SERVICES = ("here", "peer", "answered", "unknown", "nobody")
PATHS = ("private", "second")
MAX_INTERFACES = 128
MAX_FIXED = 8  # addresses of an interface
MAX_SETTINGS = 64
MAX_SETTING = 240  # characters of one that a status tells, and of any other text in it
MAX_WATCHERS = 16  # of whom a status tells that they are not as they should be
CHECK_STATES = ("ok", "bad", "unknown")
MAX_CHECKS = 128
MAX_HELD = 16  # service addresses of which a status tells where they are
MAX_COUNTERS = 512
MAX_EXPLAINED = 24  # lines of it

_HOST = re.compile(r"[0-9A-Za-z]([-.0-9A-Za-z_]{0,62}[0-9A-Za-z])?")


def host_in_network(value: object) -> str:
    """An address of one host with the length of its prefix, or ValueError."""
    address = ipaddress.ip_interface(_in_network(value))
    if address.ip.is_unspecified or address.ip.is_multicast or address.ip.is_loopback:
        raise ValueError("not an address of one host")
    return str(address)


def _in_network(value: object) -> str:
    if not isinstance(value, str) or len(value) > 64 or "%" in value:
        raise ValueError("not an address")
    return str(ipaddress.ip_interface(value))


_short = typed.line(MAX_SETTING)
_interface_name = typed.exactly(str, typed.is_interface, "not an interface's name")
_Line = Annotated[str, _short]
_Boot = Annotated[str, typed.one_of(*BOOTS)]
_State = Annotated[str, typed.one_of(*STATES)]
_Count = Annotated[int, typed.whole(0, 2**63)]
_Exit = Annotated[int, typed.whole(-255, 255)]
_Host = Annotated[str, typed.like(_HOST.pattern)]
_Time = Annotated[
    str, typed.like(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z")
]


@dataclass(frozen=True)
class InterfaceStatus:
    """One interface of the service network: packets in this window and in the last one.

    hwaddr: "" while there is no such interface. fixed: the node's own addresses there, such as
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
    when: UTC, by that node's clock; age: how long ago that was, in seconds, whatever the clock.
    """

    role: _Boot
    exit: _Exit
    line: _Line
    why: _Line
    when: _Time
    age: typed.Number


@dataclass(frozen=True)
class Change:
    """A change of a node's role that has ended.

    when: UTC, by that node's clock. was: the role before, "none" after a boot. role: the one since.
    cause: in words. took: seconds from when the former role was left.
    """

    when: _Time
    was: Annotated[str, typed.one_of("none", *ROLES)]
    role: Annotated[str, typed.one_of(*ROLES)]
    cause: _Line
    took: typed.Number


@dataclass(frozen=True)
class CheckStatus:
    """A service check. since: UTC, when it came to its state. output: the first line of the last
    run, or what is to be said of it."""

    state: Annotated[str, typed.one_of(*CHECK_STATES)]
    since: _Time
    output: _Line

    @property
    def is_bad(self) -> bool:
        return self.state == "bad"


@dataclass(frozen=True)
class Hold:
    """A hold, or a release: what a person asked for last, as far as a node knows.

    serial: greater than that of all changes that were known where it was asked for. held: whether
    it is in force now. seconds_left: None for a hold without an end, and for a release; 0 for a
    hold that has expired. by: who asked for it, at `node`; since: when, UTC, by that node's clock.
    """

    serial: typed.Whole
    held: bool
    seconds_left: Annotated[float, typed.number(MOST_HOLD)] | None
    by: _Line
    node: Annotated[str, typed.like(f"({_HOST.pattern})?")]
    since: _Time

    @property
    def rank(self) -> tuple[int, int, str, str, str]:
        """Of two changes, both nodes come to know the one with the higher rank; of the same serial
        a hold. Nothing in it changes with time: an expired hold is the same change."""
        kind = 1 if self.seconds_left is not None else 2 * self.held
        return self.serial, kind, self.since, self.node, self.by

    def after(self, seconds: float) -> Hold:
        """The same change, so much later."""
        if self.seconds_left is None:
            return self
        left = max(0.0, round(self.seconds_left - seconds, 3))
        return replace(self, held=left > 0, seconds_left=left)


_Interfaces = Annotated[
    tuple[tuple[str, InterfaceStatus], ...],
    typed.table(_interface_name, partial(typed.decode, InterfaceStatus), MAX_INTERFACES),
]
_Pairs = tuple[tuple[str, str], ...]
_setting_name = typed.like(r"[$@][a-z_]{1,32}")
_Settings = Annotated[_Pairs, typed.table(_setting_name, _short, MAX_SETTINGS)]
_Watchers = Annotated[_Pairs, typed.table(_interface_name, _short, MAX_SETTINGS)]
_Held = Annotated[_Pairs, typed.table(_in_network, _interface_name, MAX_HELD)]
_Checks = Annotated[
    tuple[tuple[str, CheckStatus], ...],
    typed.table(typed.like("[!-~]{1,31}"), partial(typed.decode, CheckStatus), MAX_CHECKS),
]
_series = typed.like(r"[a-z_]{1,40}(\{[^\x00-\x1f\x7f]{1,400}\})?")
counts = typed.table(_series, typed.whole(), MAX_COUNTERS)  # as pairs, by series


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
    heartbeat_age: typed.Number | None
    rtt_ms: typed.Number | None
    switch_last: _Boot | None
    switch_exit: _Exit | None
    switch_seconds: typed.Number | None
    speechless: bool = False  # heartbeats are received, but the peer's port does not answer
    wants_relief: bool = False  # active, would give its role away, and reaches nobody
    rejoining: bool = False  # active, but started again: it asks before it calls itself that
    settings: _Settings = ()  # those that must be alike
    host: _Host = ""  # the node's name
    peer_host: _Host = ""  # the peer's, as it has told last
    now: _Time = ""  # UTC, when this was told
    age: typed.Number | None = None  # since it has the role, whatever was done to its clock
    service: Annotated[str, typed.one_of(*SERVICES)] = ""
    claimed: bool = False  # active, and another answers for the addresses too
    stranger: _Line = ""  # "192.0.2.10 HWADDR": answers for it, and is none that the peer ever told
    blocked: _Line = ""  # why it does not take over, while it would
    switch_why: _Line = ""  # what there is against the last switch beside its exit status
    failure: Failure | None = None
    watchers: _Watchers = ()  # what is wrong with an interface's, by interface
    held: _Held | None = None  # by service address that is here, its interface; the first ones
    change: Change | None = None  # the last that has ended
    checks: _Checks = ()  # by name
    hold: Hold | None = None  # the last change of it
    path: Annotated[str, typed.one_of("", *PATHS)] = ""  # over which the peer answered last
    # Told to this node's own commands only:
    counters: Annotated[tuple[tuple[str, int], ...], counts] = ()  # by series
    explained: Annotated[tuple[str, ...], typed.several(_short, MAX_EXPLAINED)] = ()  # what if


# Where on the wire a field is that is not at the top.
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
    """As much of it as fits into an answer: who is active and what is bad is always told."""
    for shorter in _shorter(status):
        text = json.dumps(status_tree(shorter))
        if fits(text):
            break
    return text


def fits(text: str) -> bool:
    """Whether an answer goes over the wire whole, and from process to process as part of a JSON
    object: what is no ASCII takes six bytes and more."""
    return len(json.dumps(text)) <= SERVER_LINE - 1024


def _shorter(status: Status) -> Iterator[Status]:
    """The status, and then what is left if it is too long."""
    yield status
    for most in (40, 0):
        checks = ((name, replace(one, output=one.output[:most])) for name, one in status.checks)
        status = replace(status, checks=tuple(checks))
        yield status
    yield replace(status, counters=(), explained=())


def status_tree(status: Status) -> dict[str, object]:
    """The status as the JSON object of section 6. What has a default is told only if it is not."""
    told = status.watchers[:MAX_WATCHERS]
    watchers = tuple((name, text[:MAX_SETTING]) for name, text in told)
    held = status.held and tuple(each for each in status.held if each[1].isprintable())[:MAX_HELD]
    tree = typed.encode(replace(status, watchers=watchers, held=held))
    for name in {"interfaces", "settings", "watchers", "held", "checks", "counters"} & tree.keys():
        tree[name] = dict(tree[name])
    for name, (outer, inner) in _INSIDE.items():
        if name in tree:
            tree.setdefault(outer, {})[inner] = tree.pop(name)
    return tree


def parse_status(text: str) -> Status | None:
    """The status that a peer told, None if anything in it is not as section 6 says."""
    try:
        return read_status(text)
    except ValueError:
        return None


def read_status(text: str) -> Status:
    """Raises ValueError that says what is wrong.

    Unknown keys are left out: a newer peer may have more to tell.
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
    """A host name as a status can tell it, "" if it is none (RFC 1123, section 2.1)."""
    return name if _HOST.fullmatch(name) else ""
