"""An attacker in the middle of the wire, who has everything that was said but not the secret."""

from __future__ import annotations

import hashlib
import hmac

from failoverd.wire.protocol import (
    ClientConnection,
    Refused,
    Reply,
    Request,
    Send,
    ServerConnection,
)

SECRET = b"a word that nobody in the middle knows"
COMMANDS = ("status", "fail", "resume")
OURS = frozenset({"0" * 31 + "0"})  # the greetings of the first port are our own, to the clients
SEEDS = (  # a true exchange of each kind, and one with a line of the middle's own
    b"\x01\x43\x03\x22\x49\x04",
    b"\x48\x01\x43\x03\x31\x48\x04",
    b"\x4b\x01\x43\x03\x9bok active\n",
)


class Middle:
    """Three ports and three askers. `passed` is all that was said, which may be said again."""

    def __init__(self) -> None:
        self.ports = [ServerConnection("0" * 31 + str(n), SECRET, n != 2) for n in range(3)]
        self.askers = [ClientConnection(SECRET, command, OURS) for command in COMMANDS]
        self.passed: list[bytes] = [port.greeting() for port in self.ports]
        self.sent: set[tuple[str, str]] = set()  # nonce and command of the askers' requests
        self.met: dict[int, str] = {}  # the nonce that an asker has answered
        self.requests: dict[int, str] = {}  # what a port was asked
        self.answers: set[tuple[str, str, bool, str]] = set()

    def to_port(self, number: int, data: bytes) -> None:
        """Only an asker, with its own command, ever makes a request."""
        for event in self.ports[number].feed(data):
            if isinstance(event, Refused):
                continue
            assert isinstance(event, Request)
            assert event.by_hmac and (self.ports[number].nonce, event.command) in self.sent
            self.requests[number] = event.command

    def to_asker(self, number: int, data: bytes) -> None:
        """A reply is what a port that it had asked has said, word for word."""
        for event in self.askers[number].feed(data):
            if isinstance(event, Send):
                nonce = greeted_with(event)
                assert nonce not in OURS
                self.met[number] = nonce
                self.sent.add((nonce, COMMANDS[number]))
                self.passed.append(event.data)
            elif isinstance(event, Reply):
                said = (self.met[number], COMMANDS[number], event.ok, event.text)
                assert said in self.answers

    def answer(self, number: int, ok: bool) -> None:
        if number in self.requests:
            text = "active" if ok else "error busy"
            self.passed.append(self.ports[number].answer(ok, text))
            nonce = self.ports[number].nonce
            self.answers.add((nonce, self.requests[number], ok, text))


def greeted_with(event: Send) -> str:
    """The port's greeting that an asker has signed, "" if no port has given it out."""
    _, signature, command = event.data.decode().rstrip("\n").split(" ", 2)
    for nonce in ("0" * 31 + str(n) for n in range(3)):
        if hmac.new(SECRET, f"{nonce} {command}".encode(), hashlib.sha256).hexdigest() == signature:
            return nonce
    return ""


def check(data: bytes) -> None:
    """Each byte is a step: who gets what of all that was said, whole, cut, changed or joined."""
    middle = Middle()
    at = 0
    while at < len(data):
        step, number = data[at] >> 4, data[at] % 3
        chosen = middle.passed[data[at + 1] % len(middle.passed)] if at + 1 < len(data) else b""
        place = data[at + 2] % (len(chosen) + 1) if at + 2 < len(data) else 0
        changed = chosen[:place] + bytes([data[at] ^ place]) + chosen[place + 1 :]
        deliver = middle.to_asker if data[at] & 8 else middle.to_port
        at += 1
        match step:
            case 0 | 1:
                middle.to_asker(number, middle.passed[number])
            case 2:
                middle.answer(number, True)
            case 3:
                middle.answer(number, False)
            case 4 | 5:
                deliver(number, chosen)
                at += 1
            case 6:
                deliver(number, changed)
                at += 2
            case 7:
                deliver(number, chosen[:place])
                at += 2
            case 8:
                deliver(number, chosen[place:])
                at += 2
            case 9:
                deliver(number, data[at:].partition(b"\n")[0] + b"\n")
                at = len(data) if b"\n" not in data[at:] else data.index(b"\n", at) + 1
            case _:
                deliver(number, data[at : at + step])
                at += step
