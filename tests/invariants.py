"""What must hold for every input, stated once: the property tests and dev/fuzz both call these.

Each function takes an input and raises AssertionError if something does not hold of it. Whatever
else it raises is a finding too. What is accepted is compared with a second, naive reading that is
written here, so that garbage which is taken for something is found as well as a crash.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import math
import os
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from watched_by_hand import run

from dev.lab import logs
from failoverd import conf, process, statefile
from failoverd.commands.ha_edit import exchanged
from failoverd.conf import SETTINGS, Conf, ConfError, files, language
from failoverd.heartbeat import _IPV4, _IPV6, Pinger
from failoverd.log import Log
from failoverd.process.leftover import titled
from failoverd.process.pidfile import take_lock
from failoverd.switch import MAX_LINE, MAX_LINES, _Output
from failoverd.tools import capture, recording
from failoverd.tools.edit import EditError
from failoverd.tools.replay import WOULD_FAIL_OVER
from failoverd.tools.watching import CANNOT_READ
from failoverd.watch import dumpfile, judge
from failoverd.wire import frames, protocol
from failoverd.wire.protocol import (
    CLIENT_LINE,
    SERVER_LINE,
    ClientConnection,
    NoAnswer,
    Refused,
    Reply,
    Request,
    Send,
    ServerConnection,
)

FILE = "some.conf"
NAMES = {setting.perl_name for setting in SETTINGS.values()}
BYTEWISE = 250  # so long may an input be that is also fed byte by byte


def cut(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """The data in pieces. A cut may lie anywhere."""
    edges = [0, *sorted(min(max(edge, 0), len(data)) for edge in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def cuttings(data: bytes, cuts: Iterable[int]) -> list[list[bytes]]:
    """Whole, as the cuts say, and byte by byte."""
    single = [data[at : at + 1] for at in range(len(data))]
    return [[data], cut(data, cuts), *([single] if len(data) <= BYTEWISE else [])]


# --- The configuration


def conf_text(text: str, pair: bool = True) -> None:
    """A text gives a configuration, or problems with the file, a line of it and plain words.

    A configuration is within bounds, and its effective settings read back are the same.
    """
    try:
        loaded = conf.parse(text, FILE, pair)
    except ConfError as error:
        assert error.problems
        lines = [problem.line for problem in error.problems]
        assert lines == sorted(lines)
        assert lines[0] >= 1 and lines[-1] <= text.count("\n") + 1
        for problem in error.problems:
            assert problem.file == FILE and str(problem).isprintable(), problem
        return
    conf_in_bounds(loaded, pair)
    conf_round_trip(loaded, pair)


def conf_round_trip(whole: Conf, pair: bool = True) -> None:
    """What `failoverd -t` prints is a configuration, and the same one."""
    text = "\n".join(conf.effective(whole))
    assert text.replace("\n", "").isprintable()
    assert conf.parse(text, FILE, pair) == whole


def conf_in_bounds(loaded: Conf, pair: bool = True) -> None:
    """Section 3, written down a second time."""
    for name in ("failover_root", "host_type", "secret", "log", "failover_prog", "dumpfile"):
        assert getattr(loaded, name).startswith("/"), name
    for name in ("confirm", "fence_prog", "notify_prog"):
        value = getattr(loaded, name)
        assert value.startswith("/") or value in {"confirm": ("arp", "none")}.get(name, ("",))
    for setting in SETTINGS.values():
        value = getattr(loaded, setting.name)
        assert type(value) is type(setting.default), setting.name
        assert "\0" not in str(value)
    for name in ("timer_seconds", "plip_timer", "plip_hbeat", "switch_timeout"):
        assert 0.005 <= getattr(loaded, name) <= 1e6, name
    assert not pair or loaded.plip_hbeat < loaded.plip_timer
    assert loaded.packet_count >= 1 and 0 < loaded.tcp_port < 65536 and loaded.low_water >= 0
    assert loaded.interfaces and loaded.plip_interface not in loaded.interfaces
    for name in (*loaded.interfaces, loaded.plip_interface):
        assert 1 <= len(name.encode()) <= 15 and not re.search(r"[\s/:]", name), name
    hosts = [ipaddress.ip_address(host) for host in (loaded.primary, loaded.secondary)]
    assert hosts[0] != hosts[1] and hosts[0].version == hosts[1].version
    hosts += [ipaddress.ip_address(entry.address) for entry in loaded.addresses]
    hosts += [ipaddress.ip_address(entry.address) for entry in loaded.witness]
    for host in hosts:
        assert not host.is_multicast and not host.is_unspecified
        assert str(host) != "255.255.255.255"
    for name in ("addresses", "ethernet_addresses", "witness"):
        assert {entry.interface for entry in getattr(loaded, name)} <= set(loaded.interfaces)
    for interface in loaded.ethernet_addresses:
        octets = bytes.fromhex(interface.hwaddr.replace(":", ""))
        assert len(octets) == 6 and any(octets) and not octets[0] & 1


def conf_exchanged(text: str) -> None:
    """The peer's copy has the two addresses exchanged, else it is the same; twice is not at all."""
    try:
        here = conf.parse(text, FILE)
    except ConfError:
        return
    try:
        theirs = exchanged(text)
    except EditError as error:
        assert "cannot be exchanged" in str(error) or "write it on one line" in str(error)
        return
    there = conf.parse(theirs, FILE)
    hosts = (here.primary, here.secondary)
    assert (there.secondary, there.primary) == hosts
    for name in conf.changed(here, there):
        assert any(host in str(getattr(here, name)) for host in hosts), name
    assert exchanged(theirs) == text or conf.parse(exchanged(theirs), FILE) == here


def conf_goes_on(text: str) -> None:
    """An error never hides a sound statement on a line of its own, if no quote is left open."""
    before = re.sub(r"""['"]|qw|<<|__|=[A-Za-z]|\\""", " ", text)
    reading = language.read(f"{before}\n$log = '/seen';\n", FILE, NAMES)
    if len(reading.problems) < language.MAX_PROBLEMS:
        assert reading.assigned["$log"].strings == ("/seen",)


# --- The wire: the server's end


@dataclass(frozen=True)
class Port:
    """What one connection to our port is judged by."""

    nonce: str
    secret: bytes
    plain: bool = True


def sign(secret: bytes, message: str) -> str:
    """Section 6's HMAC, written down a second time."""
    return hmac.new(secret, message.encode(), hashlib.sha256).hexdigest()


def served(data: bytes, cuts: Iterable[int], port: Port) -> None:
    """However it is cut the outcome is the same: a request only for whoever knows the secret."""
    expected = expected_request(data, port)
    for pieces in cuttings(data, cuts):
        connection = ServerConnection(port.nonce, port.secret, port.plain)
        events: list[Request | Refused] = []
        for piece in pieces:
            events += connection.feed(piece)
            assert len(connection._buffer) <= 2 * (CLIENT_LINE + 2)
        events += connection.end()
        assert events == [expected]
        assert connection.feed(data) == connection.end() == []


def expected_request(data: bytes, port: Port) -> Request | Refused:
    """What section 6 makes of all that a client says."""
    lines = [line.removesuffix(b"\r") for line in data.split(b"\n")[:-1][:2]]
    if not lines or not is_text(lines[0], CLIENT_LINE):
        return Refused()
    first = lines[0].decode()
    if first.startswith("hmac "):
        signature, _, command = first[5:].partition(" ")
        right = signature == sign(port.secret, f"{port.nonce} {command}")
        return Request(command, by_hmac=True) if right else Refused()
    if len(lines) < 2 or not is_text(lines[1], CLIENT_LINE):
        return Refused()
    right = port.plain and lines[0] == port.secret
    return Request(lines[1].decode(), by_hmac=False) if right else Refused()


def is_text(line: bytes, limit: int) -> bool:
    try:
        decoded = line.decode()
    except UnicodeDecodeError:
        return False
    return len(line) <= limit and not any(ord(char) < 32 or ord(char) == 127 for char in decoded)


def answered(text: str, ok: bool, port: Port) -> None:
    """An answer is one line within bounds, and the asker reads what was said."""
    client = ClientConnection(port.secret, "status")
    server = ServerConnection(port.nonce, port.secret, port.plain)
    (send,) = client.feed(server.greeting())
    assert isinstance(send, Send)
    assert server.feed(send.data) == [Request("status", by_hmac=True)]
    line = server.answer(ok, text)
    assert len(line) <= SERVER_LINE and line.endswith(b"\n") and line.count(b"\n") == 1
    (reply,) = client.feed(line)
    assert isinstance(reply, Reply) and reply.ok is ok
    assert "\n" not in reply.text and len(reply.text.encode()) <= SERVER_LINE
    if text.isprintable() and len(text.encode()) <= SERVER_LINE - 100:
        assert reply.text == text


# --- The wire: the client's end

Outcome = tuple[list[bytes], Reply | None, bool]  # what is sent, the reply, whether refused


def asked(data: bytes, cuts: Iterable[int], port: Port, command: str, own: frozenset[str]) -> None:
    """However it is cut the outcome is the same: a reply only if it is signed with our secret."""
    expected = expected_reply(data, port.secret, command, own)
    for pieces in cuttings(data, cuts):
        client = ClientConnection(port.secret, command, own)
        events: list[Send | Reply | NoAnswer] = []
        for piece in pieces:
            events += client.feed(piece)
            assert len(client._buffer) <= 2 * SERVER_LINE
        events += client.end()
        assert outcome(events) == expected
        assert client.feed(data) == client.end() == []


def outcome(events: Sequence[Send | Reply | NoAnswer]) -> Outcome:
    *before, last = events
    assert all(isinstance(event, Send) for event in before) and not isinstance(last, Send)
    if isinstance(last, NoAnswer):
        assert last.why.isprintable()
    sent = [event.data for event in before if isinstance(event, Send)]
    refused = isinstance(last, NoAnswer) and last.refused
    return sent, last if isinstance(last, Reply) else None, refused


def expected_reply(data: bytes, secret: bytes, command: str, own: frozenset[str]) -> Outcome:
    """What section 6 makes of all that a server says."""
    lines = [line.removesuffix(b"\r") for line in data.split(b"\n")[:-1][:2]]
    greeting = re.fullmatch(rb"failoverd 1 ([0-9a-f]{32})", lines[0]) if lines else None
    if greeting is None or greeting[1].decode() in own:
        return [], None, False
    nonce = greeting[1].decode()
    request = f"hmac {sign(secret, f'{nonce} {command}')} {command}\n".encode()
    if len(lines) < 2 or not is_text(lines[1], SERVER_LINE - 1):
        return [request], None, False
    verdict, _, rest = lines[1].decode().partition(" ")
    signature, _, text = rest.partition(" ")
    right = signature == sign(secret, f"{nonce} {command} {verdict} {text}")
    if verdict in ("ok", "error") and right:
        return [request], Reply(verdict == "ok", text), False
    return [request], None, lines[1] == b"error refused"


# --- The status


def status_text(text: str) -> None:
    """A status is taken whole or not at all; what is taken can be told, shown and hashed."""
    status = protocol.parse_status(text)
    if status is None:
        return
    hash(status)
    assert protocol.parse_status(protocol.encode_status(status)) == status
    words = [status.role, status.boot, status.since, status.version, status.plip_state]
    words += [name + i.state + i.hwaddr for name, i in status.interfaces]
    words += [status.host, status.now, status.service, status.blocked, status.switch_why]
    if status.failure is not None:
        words += [status.failure.line, status.failure.why, status.failure.when]
    assert all(word.isprintable() for word in words) and len(status.interfaces) <= 128
    for number in (status.heartbeat_age, status.rtt_ms, status.switch_seconds):
        assert number is None or (math.isfinite(number) and number >= 0)
    for _, interface in status.interfaces:
        assert min(interface.packets, interface.last) >= 0


# --- The children's lines


def json_lines(data: bytes, cuts: Iterable[int]) -> None:
    """However they arrive, exactly the lines that are JSON objects come out, and none too long."""
    expected = [
        message
        for line in data.split(b"\n")[:-1]
        if len(line) <= process.MAX_MESSAGE and (message := naive_object(line)) is not None
    ]
    for pieces in cuttings(data, cuts):
        reading, writing = os.pipe()
        channel = process.LineChannel(reading)
        try:
            found: list[process.Message] = []
            for piece in pieces:
                for start in range(0, len(piece), 4096):
                    os.write(writing, piece[start : start + 4096])
                    found += channel.receive()
            assert repr(found) == repr(expected)  # NaN is not equal to itself
            assert channel.receive() == [] and len(channel._buffer) <= process.MAX_MESSAGE + 1
        finally:
            channel.close()
            os.close(writing)


def naive_object(line: bytes) -> process.Message | None:
    try:
        found = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


# --- Captures


def captured(path: str, data: bytes) -> None:
    """Any file is read or refused in words; time never runs back, and every packet counts once."""
    Path(path).write_bytes(data)
    times: list[int] = []
    now = 0
    problem: capture.Unreadable | None
    try:
        with capture.open_capture(path) as reading:
            for batch in reading.batches(lambda packet: True):
                assert batch.counted == sorted(batch.counted)
                assert now <= min(batch.counted, default=batch.now)
                assert max(batch.counted, default=0) <= batch.now
                now = batch.now
                times += batch.counted
            problem = reading.problem
    except capture.Unreadable as error:
        problem = error
    if problem is not None:
        assert str(problem).isprintable() and path in str(problem)
    expected = naive_capture(data)
    if expected is not None:
        assert (times, problem is None) == expected
    judged(times)


def replayed(path: str, data: bytes, options: Sequence[str]) -> None:
    """`watchd -r` ends well or says why not, and every line is an event in the order of time."""
    Path(path).write_bytes(data)
    done = run("-r", path, "--json", *options)
    status = done.returncode
    assert status in (0, WOULD_FAIL_OVER, CANNOT_READ)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(line.isprintable() for line in done.stderr.splitlines())
    if "--tune" in options:
        assert len(events) == 1 or (status == CANNOT_READ and not events)
        return
    times = [event["t"] for event in events]
    assert times == sorted(times) and all(math.isfinite(time) for time in times)
    failed = any(event["verdict"] == "fail" for event in events)
    assert status == CANNOT_READ or (status == WOULD_FAIL_OVER) is failed


def naive_capture(data: bytes) -> tuple[list[int], bool] | None:
    """Nanoseconds since the first packet of a classic capture, and whether it ends well."""
    orders = {"a1b2c3d4": (">", 1000), "d4c3b2a1": ("<", 1000)}
    orders |= {"a1b23c4d": (">", 1), "4d3cb2a1": ("<", 1)}
    if data[:4].hex() not in orders:
        return None
    order, unit = orders[data[:4].hex()]
    times: list[int] = []
    rest = data[24:]
    while len(rest) >= 16:
        seconds, fraction, stored, _ = struct.unpack(order + "IIII", rest[:16])
        if stored > 262144 or len(rest) < 16 + stored:
            break
        times.append(seconds * 10**9 + fraction * unit)
        rest = rest[16 + stored :]
    return never_back(times), not rest and len(data) >= 24


def never_back(times: Sequence[int]) -> list[int]:
    """Since the first. Up to a minute early is no time later; earlier, and the clock was set."""
    told, zero, now = [], times[0] if times else 0, 0
    for time in times:
        if time - zero < now - 60 * 10**9:
            zero = time - now
        now = max(now, time - zero)
        told.append(now)
    return told


def judged(times: Sequence[int]) -> None:
    """A recording has the events that a watcher with a pencil finds (section 4)."""
    span = times[-1] if times else 0
    for count, timer, low, private in ((2, 1000, 0, True), (500, 20, 3, False)):
        rules = judge.Rules(count, max(timer, span // 50), low, private, 10**9)
        found = list(recording.replay(rules, [(times, span)] if times else []))
        assert [(e.t, e.event, e.packets, e.verdict) for e in found] == by_hand(rules, times)


def by_hand(rules: judge.Rules, times: Sequence[int]) -> list[tuple[float, str, int, str]]:
    events: list[tuple[float, str, int, str]] = []
    deadline, packets, last, boot = rules.timer, 0, 0, True
    for time in times:
        while deadline <= time:
            low = not rules.private and packets < rules.low_water
            silent = rules.private and packets == last == 0
            verdict = "boot" if boot else "fail" if low or silent else "ok"
            events.append((deadline, "alarm", packets, verdict))
            packets, last, boot, deadline = 0, packets, False, deadline + rules.timer
        packets += 1
        if packets == rules.packet_count:
            events.append((time, "full", packets, "ok"))
            packets, last, deadline = 0, packets, time + rules.timer
    return events


def dumped(path: str, before: bytes, packets: Sequence[bytes]) -> None:
    """Whatever was in a dump file, what we add is read back, behind whole packets only."""
    Path(path).write_bytes(before)
    dump = dumpfile.DumpFile(path, 128)
    try:
        dump.begin(1)
        for number, packet in enumerate(packets):
            dump.put((number, 0), len(packet), packet)
        dump.flush()
    finally:
        dump.close()
    after = Path(path).read_bytes()
    if not packets:
        assert after == before
        return
    read = naive_capture(after)
    assert read is not None and read[1] and len(read[0]) >= len(packets)
    records = (struct.pack("=IIII", n, 0, len(p[:128]), len(p)) for n, p in enumerate(packets))
    kept = b"".join(head + p[:128] for head, p in zip(records, packets, strict=True))
    assert after.endswith(kept)


# --- Frames


def framed(frame: bytes) -> None:
    """Any bytes are an answer or none, never an error; and the same as by a naive reading."""
    found = frames.parse(frame)
    assert found == naive_answer(frame)
    if found is not None:
        assert found.hwaddr == found.hwaddr.lower() and len(found.hwaddr) == 17
        assert str(ipaddress.ip_address(found.address)) == found.address


def naive_answer(frame: bytes) -> frames.Answer | None:
    """RFC 826 and RFC 4861 section 7.1.2, by offsets."""
    kind, body = frame[12:14].hex(), frame[14:]
    if kind == "0806":
        head, operation, sender = body[:6].hex(), body[6:8].hex(), body[14:18]
        right = head == "000108000604" and operation in ("0001", "0002") and len(body) >= 28
        if not right or sender == bytes(4):
            return None
        if operation == "0002" and body[24:28] not in (bytes(4), sender):
            return None  # to an ordinary request: proves nothing
        return frames.Answer(".".join(map(str, sender)), body[8:14].hex(":"))
    if kind != "86dd" or len(body) < 64 or body[0] & 0xF0 != 0x60:
        return None
    length = int.from_bytes(body[4:6], "big")
    message = body[40 : 40 + length]
    if body[6] != 58 or body[7] != 255 or len(message) != length or length < 24:
        return None
    if message[:2] != b"\x88\x00" or message[8] == 0xFF:
        return None
    if message[4] & 0x40 and (body[24] == 0xFF or message[4] & 0x20):
        return None
    hwaddr, rest = frame[6:12], message[24:]
    while rest:
        size = 8 * rest[1] if len(rest) > 1 else 0
        if not 0 < size <= len(rest):
            return None
        if rest[0] == 2:
            hwaddr = rest[2:8]
        rest = rest[size:]
    padded = body[8:40] + struct.pack("!II", length, 58) + message + bytes(length % 2)
    if int.from_bytes(padded, "big") % 0xFFFF != 0:  # the ones' complement sum is all ones
        return None
    return frames.Answer(str(ipaddress.IPv6Address(message[8:24])), hwaddr.hex(":"))


TAGS = protocol.Tags((b"ours->it",), (b"it->ours",))


def beaten(packets: Sequence[bytes], v6: bool) -> None:
    """Only an echo request with the peer's tag is a heartbeat, and only our own request has a
    round trip."""
    pinger = Pinger.__new__(Pinger)  # without a socket
    pinger.ip = _IPV6 if v6 else _IPV4
    pinger.id, pinger.heard, pinger.rtt = 7, None, None
    pinger.sent_at, pinger.tags, pinger.received = {3: 1.0}, TAGS, 0
    request, reply = (128, 129) if v6 else (8, 0)
    for packet in packets:
        start = 0 if v6 else 4 * (packet[0] & 15) if packet else 0
        message = packet[start:] if len(packet[start:]) >= 8 else b""
        pinger.heard = pinger.rtt = None
        waits = 3 in pinger.sent_at
        pinger._take(packet, 2.0)
        tagged = message[:1] == bytes([request]) and message[8:16] in TAGS.peers
        assert (pinger.heard is not None) == tagged
        ours = message[:1] == bytes([reply]) and message[4:8] == b"\0\7\0\3"
        assert (pinger.rtt is not None) == (ours and waits) == (waits and not pinger.sent_at)


# --- Files


def saved(data: bytes, boot: str) -> None:
    """$state is understood or forgotten; what is understood is of its kinds, and survives."""
    found = statefile.decode(data, boot)
    assert found.role in (*protocol.ROLES, None)
    assert found.role is not None or found == statefile.Saved()
    assert found.script is None or (found.script[0] > 1 and found.script[1] > 0)
    names = [*found.hwaddrs.items(), *found.seen, *((word, "") for word in found.peer_hwaddrs)]
    left = [word for words in found.left or () for word in words]
    for word in (*(word for pair in names for word in pair), *left, found.since, found.pidfile):
        assert isinstance(word, str) and (word.isprintable() or word == found.pidfile)
    if found.role is not None:
        assert statefile.decode(statefile.encode(found, boot).encode(), boot) == found


def host_typed(path: str, data: bytes) -> None:
    """host_type says one of two words on one line, or a person is told in words."""
    Path(path).write_bytes(data)
    lines = [line.partition("#")[0].strip() for line in data.decode(errors="replace").split("\n")]
    said = [line for line in lines if line]
    try:
        found = files.read_host_type(path)
    except ConfError as error:
        assert str(error).isprintable()
        assert len(data) > files.MAX_CONF or said not in (["boot:master"], ["boot:slave"])
    else:
        assert said == [f"boot:{found}"]


def secret_kept(path: str, data: bytes) -> None:
    """A word that is taken can be typed and opens the port; one that is refused is never shown."""
    Path(path).write_bytes(data)
    try:
        word = files.read_secret(path)
    except ConfError as error:
        parts = re.findall(r"[^\s'\"]{8,}", data.decode(errors="ignore"))
        shown = str(error).replace(path, "")
        assert shown.isprintable() and not any(part in shown for part in parts)
        return
    assert word == data.rstrip(b"\n\r") and data[len(word) :] in (b"", b"\n", b"\r\n", b"\r")
    connection = ServerConnection("0" * 32, word, True)
    assert connection.feed(word + b"\nstatus\n") == [Request("status", by_hmac=False)]


def locked(path: str, data: bytes) -> None:
    """A pid file that a dead one left is taken over; what is anything else is not touched."""
    Path(path).write_bytes(data)
    try:
        lock = take_lock(path)
    except OSError as error:
        assert str(error).isprintable()
        assert Path(path).read_bytes() == data and not re.fullmatch(rb"\d{1,9}\n", data)
    else:
        os.close(lock)
        assert re.fullmatch(rb"\s*\d*\s*", data) and len(data) <= 32


def listed(listing: bytes, pidfile: str) -> None:
    """Of what ps lists only whole lines with our very title count, and only their own pid."""
    ends = f"[{pidfile}]"
    for pid, title in titled(listing, pidfile):
        assert pid > 1 and title.startswith("failoverd: ") and title.endswith(ends)
        lines = [line.decode(errors="replace").strip() for line in listing.split(b"\n")]
        assert any(re.match(rf"{pid}\s", line) and line.endswith(title) for line in lines)


def logged(path: str, said: Sequence[tuple[str, str]]) -> None:
    """Whatever is said, the log gets one line an event, which a terminal can show."""
    Path(path).write_bytes(b"")
    log = Log(path)
    for message, program in said:
        log.write("STATUS", "role", "status", {"status": message, "more": program})
    log.close()
    lines = Path(path).read_bytes().decode().split("\n")
    assert len(lines) == len(said) + 1 and lines.pop() == ""
    for line, (message, program) in zip(lines, said, strict=True):
        told = logs.parse(line)
        assert line.isprintable() and told is not None and told.sentence == "status"
        wanted = {"status": shown(message), "more": shown(program)}
        assert told.values == {key: text for key, text in wanted.items() if text}


def shown(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


def printed(data: bytes, cuts: Iterable[int]) -> None:
    """However a script's output comes, the same lines are logged, of bounded length and number."""
    told = []
    for pieces in cuttings(data[:60000], cuts):
        output = _Output()
        try:
            lines: list[str] = []
            for piece in pieces:
                os.write(output.writer, piece)
                lines += output.read()
            told.append([*lines, *output.rest()])
        finally:
            output.close()
    assert told[1:] == told[:1] * (len(told) - 1)
    assert len(told[0]) <= MAX_LINES + 1
    assert all(line.isprintable() and len(line) <= MAX_LINE for line in told[0])
