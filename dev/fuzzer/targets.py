"""Bytes into inputs: what the fuzzer tries, where it begins, and which rooms it is to cover.

An input is a line of bytes; those from 0xE0 on that no text begins with stand for what chance would
never find, such as a right signature, so that every way through a room can be tried.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import struct
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import invariants
from invariants import NAMES, Port, sign

from dev.fuzzer import middle
from failoverd import statefile
from failoverd.conf import language
from failoverd.process import logged
from failoverd.wire import frames

Check = Callable[[bytes], None]

SECRET = b"open sesame"
NONCE = "0123456789abcdef0123456789abcdef"
SHIPPED = Path(__file__).resolve().parent.parent.parent / "etc" / "failover" / "failoverd.conf"


@dataclass(frozen=True)
class Target:
    """check raises for an input of which something does not hold.

    rooms: of failoverd, those that it should reach. words: what is often part of an input. late:
    modules of which check loads when it is called first.
    """

    check: Check
    rooms: tuple[str, ...]
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...] = ()
    longest: int = 2048
    late: tuple[str, ...] = ()


@cache
def folder() -> str:
    """A folder that ends with this process."""
    made = tempfile.TemporaryDirectory(prefix="failoverd-fuzz-")
    atexit.register(made.cleanup)
    return made.name


def a_file() -> str:
    path = os.path.join(folder(), "file")
    with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "wb"):
        return path


def spread(data: bytes) -> tuple[list[int], bytes]:
    """The first two bytes say where the rest is cut."""
    first, second = [*data[:2], 0, 0][:2]
    rest = data[2:]
    return [first, second * len(rest) // 256, len(rest) - first % 5], rest


# --- Configurations

FRAGMENTS = [
    *sorted(NAMES),
    *"\n \t\r;,.=()[]{}<>'\"#$@%&*+-/\\_0189aex\0\xa0é",
    *("\r\n", "1;", "my ", "our ", "qw(", "qw/", "${log}", "$log", "::", "->", "<<E\n", "E\n"),
    *("=head1\n", "\n=cut\n", "__END__", "\\x", "\\x41", "\\0", "\\n", "\\$", '"/a"', "'b'"),
    *("0x1f", "010", "1_0", "1.5", "1e3", " = ", ";\n", "= '", "';\n", '= "', '";\n', "= ("),
    *("'eth0 10.0.0.1/8'", '"yes"', ");\n", "\udcff", "\ufeff"),
]
STATEMENTS = (
    "$low_water = 1;\n@interfaces = ('eth0', \"eth1\",);\n",
    'my $verbose = "no"; our $timer_seconds = 0.5; $packet_count = 0x10; 1;\n',
    "@interfaces = qw(eth0 eth1); # two\n"
    "@addresses = ('eth0 192.0.2.10/24', 'eth1 2001:db8::1/64');\n",
    "$failover_root = '/etc/f'; $secret = \"${failover_root}/secret\\n\\x41\\e\\0\";\n",
    "@ethernet_addresses = qw[eth0 02:00:00:00:00:10];@witness=('eth0 192.0.2.1');",
    "@witness = ('eth0 255.255.255.255');",
    "$primary = 'fd00::1';\n$secondary = \"fd00::2\";\n$confirm = '/bin/x'; $plip_timer = 2.5e1;",
    "$log = <<E;\nx\nE\n=head1\n\n=cut\n$state = $log . 'x'; %a = ();\n",
    '$ps = \'ps;\n$user = "n";\n',
)


def as_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def check_conf(data: bytes) -> None:
    text = as_text(data)
    if len(data) % 4 == 3:
        invariants.conf_goes_on(text)
    else:
        invariants.conf_text(text, pair=len(data) % 4 < 2)


def check_exchange(data: bytes) -> None:
    invariants.conf_exchanged(as_text(data))


def check_long(data: bytes) -> None:
    """The same piece again and again: the time that a text takes grows no faster than the text."""
    start, piece, end = [*as_text(data).split("\0", 2), "", ""][:3]
    language.read(start + (piece * (48 * 1024))[: 48 * 1024] + end, "f", NAMES)


@cache
def the_perl() -> tuple[Callable[..., None], object]:
    from perl import Perl, means_the_same_to_perl

    perl = Perl()
    atexit.register(perl.close)
    return means_the_same_to_perl, perl


def check_perl(data: bytes) -> None:
    text = as_text(data)
    reading = language.read(text, "f", NAMES)
    if not reading.problems:
        same, perl = the_perl()
        same(perl, text, reading)


# --- The wire


def spoken(data: bytes) -> bytes:
    """What a client says: 0xF8 the secret, 0xF9 a right signature of the rest of the line, ..."""
    said = data.replace(b"\xf8", SECRET).replace(b"\xfb", b"x" * 250)
    lines = [sign_rest(line, "hmac ", f"{NONCE} ") for line in said.split(b"\n")]
    return b"\n".join(lines)


def sign_rest(line: bytes, before: str, context: str) -> bytes:
    head, mark, command = line.partition(b"\xf9")
    if not mark:
        return line
    signed = command.removesuffix(b"\r").decode(errors="replace")
    return head + f"{before}{sign(SECRET, context + signed)} ".encode() + command


def check_server(data: bytes) -> None:
    cuts, rest = spread(data)
    invariants.served(spoken(rest), cuts, Port(NONCE, SECRET, plain=not data[:1] > b"\xf0"))


def replied(data: bytes) -> bytes:
    """What a server says: 0xF8 the greeting, 0xF9 and 0xFA a right signature of the rest, ..."""
    said = data.replace(b"\xf8", f"failoverd 1 {NONCE}\n".encode())
    said = said.replace(b"\xfb", b"x" * 65000 if data[:2] == b"\xfe\xfe" else b"x" * 100, 2)
    lines = []
    for line in said.split(b"\n"):
        good = sign_rest(line, "ok ", f"{NONCE} status ok ")
        lines.append(sign_rest(good.replace(b"\xfa", b"\xf9"), "error ", f"{NONCE} status error "))
    return b"\n".join(lines)


def check_client(data: bytes) -> None:
    cuts, rest = spread(data)
    own = frozenset({NONCE} if data[:1] == b"\xff" else ())
    invariants.asked(replied(rest), cuts, Port(NONCE, SECRET), "status", own)


def check_answer(data: bytes) -> None:
    text = data[1:].replace(b"\xfb", b"y" * 60000).decode("utf-8", "surrogateescape")
    invariants.answered(text, data[:1] > b"\x7f", Port(NONCE, SECRET))


STATUS = {
    "role": "active",
    "rejoining": True,
    "boot": "master",
    "since": "2026-11-22T12:00:00.123Z",
    "version": "2.0.0",
    "interfaces": {
        "eth0": {"state": "ok", "packets": 12, "last": 40, "hwaddr": "02:00:00:00:00:01",
                 "fixed": ["192.0.2.1/24", "fe80::1/64"]}
    },
    "plip": {"state": "ok", "heartbeat_age": 0.4, "rtt_ms": None},
    "switch": {"last": "master", "exit": 0, "seconds": 0.006},
}  # fmt: skip


def check_status(data: bytes) -> None:
    invariants.status_text(data.decode(errors="replace"))


# --- The children's lines


def check_lines(data: bytes) -> None:
    cuts, rest = spread(data)
    long = rest.replace(b"\xfb", b" " * (40000 if data[:1] == b"\xfe" else 40), 2)
    invariants.json_lines(long, [*cuts, 65536, 65537])


CHILDREN = ("listener", "neighbours", "heartbeat", "watchd plip0", "watchd lo", "log",
            "addresses")  # fmt: skip
WINDOW = {"event": "alarm", "t": 1.0, "packets": 0, "last": 0, "boot": False, "verdict": "fail",
          "reason": "silent twice", "interface": "eth0"}  # fmt: skip
SAID: tuple[tuple[int, object], ...] = (
    (0, {"event": "request", "id": 1, "command": "fail", "origin": "peer", "at": 1e12}),
    (0, {"event": "request", "id": 2, "command": "resume", "origin": "person", "at": 1e12}),
    (0, {"event": "request", "id": 3, "command": "status", "origin": "peer", "at": 0}),
    (0, {"event": "reply", "id": 1, "ok": True, "text": json.dumps(STATUS)}),
    (0, {"event": "reply", "id": 2, "ok": False, "text": "busy"}),
    (0, {"event": "lost", "id": 1, "sent": True, "why": "the connection broke"}),
    (0, logged("PORT-OPEN", "interface plip0", "listening")),
    (1, {"event": "answers", "id": 1, "asked": 3, "answers": [
        {"interface": "lo", "address": "192.0.2.10", "hwaddr": "02:00:00:00:00:01"}]}),
    (2, {"event": "heartbeat", "heard": 12.5, "rtt": 0.001}),
    (2, {"event": "heartbeat", "heard": 10**400, "rtt": float("nan")}),
    (3, WINDOW),
    (4, WINDOW),
    (4, {"event": "count", "packets": 7, "last": 3}),
    (6, {"event": "placed", "number": 0, "count": 7, "problem": "", "note": "eth0: removed"}),
)  # fmt: skip
SAID_LINES = tuple(bytes([who]) + json.dumps(what).encode() for who, what in SAID)


def check_told(data: bytes) -> None:
    from dev.fuzzer.told import told

    lines = [line for line in data.split(b"\n") if line]
    told([(CHILDREN[line[0] % len(CHILDREN)], line[1:]) for line in lines[:12]])


# --- Captures and frames


def record(seconds: int, fraction: int, packet: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "IIII", seconds, fraction, len(packet), len(packet)) + packet


def pcap(
    order: str = "<", magic: int = 0xA1B2C3D4, last: int = 4_000_000_000, linktype: int = 1
) -> bytes:
    head = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, linktype)
    times = ((100, 5), (100, 7), (99, 0), (140, 999_999), (last, 1))
    return head + b"".join(record(*time, b"p" * 14, order) for time in times)


def check_capture(data: bytes) -> None:
    invariants.captured(a_file(), data)


@cache
def calm() -> str:
    """A configuration whose windows are so long that no capture has more than some thousands."""
    path = Path(folder(), "calm.conf")
    path.write_text("$timer_seconds = 1000000; $plip_timer = 1000000; $low_water = 2;\n")
    return str(path)


def check_watchd(data: bytes) -> None:
    options = [
        ["--until", "5e6", "eth0"],
        ["plip0"],
        ["--tune", "eth0"],
        ["--mac", "70:70:70:70:70:70", "eth0"],
    ]
    chosen = options[data[0] % 4] if data else options[0]
    invariants.replayed(a_file(), data[1:], ["-c", calm(), *chosen])


def check_dump(data: bytes) -> None:
    before, *packets = data.split(b"\xff\xfe")
    head = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 128, 1)
    path = a_file()
    invariants.dumped(path, before.replace(b"\xfd", head, 1), packets[:8])


V4, V6, HWADDR = "192.0.2.10", "2001:db8::10", "02:00:00:00:0a:01"
ADVERTISED = frames.unsolicited_advertisement(HWADDR, V6)


def check_frame(data: bytes) -> None:
    invariants.framed(data)
    if data[12:14] == b"\x86\xdd":
        invariants.framed(resummed(data))


def resummed(frame: bytes) -> bytes:
    """The frame with the right length and ICMPv6 checksum: chance would never find them."""
    body = frame[54:56] + b"\0\0" + frame[58:]
    length = struct.pack("!H", len(body))
    pseudo = frame[22:54] + struct.pack("!II", len(body), 58) + body + bytes(len(body) % 2)
    checksum = 0xFFFF - int.from_bytes(pseudo, "big") % 0xFFFF
    return frame[:18] + length + frame[20:54] + body[:2] + struct.pack("!H", checksum) + body[4:]


def check_heartbeat(data: bytes) -> None:
    packets = data[1:].split(b"\xfe\xfd")
    invariants.beaten(packets[:6], v6=data[:1] > b"\x7f")


# --- Files and lines

BOOT = "b007"
STATE = statefile.encode(
    statefile.Saved(
        role="active",
        since="2026-11-22T12:00:00.123Z",
        hwaddrs={"eth0": HWADDR},
        script=(77, 123),
        peer_hwaddrs=[HWADDR],
        left=(["eth0 192.0.2.10/24"], []),
        seen=[("eth0", "192.0.2.10")],
        pidfile="/run/failoverd.pid",
    ),
    BOOT,
).encode()


def check_state(data: bytes) -> None:
    invariants.saved(data, BOOT)


def check_files(data: bytes) -> None:
    path, kind, rest = a_file(), data[:1], data[1:]
    if kind < b"\x40":
        invariants.host_typed(path, rest)
    elif kind < b"\x80":
        invariants.secret_kept(path, rest.replace(b"\xfb", b"w" * 250))
    elif kind < b"\xc0":
        invariants.locked(path, rest)
    else:
        invariants.listed(rest, "/run/failoverd.pid")


def check_log(data: bytes) -> None:
    lines = [line.decode("utf-8", "surrogateescape") for line in data.split(b"\xff")]
    invariants.logged(a_file(), [(line[5:], line[:5]) for line in lines])
    cuts, rest = spread(data)
    invariants.printed(rest.replace(b"\xfb", b"z" * 990), cuts)


def encoded(texts: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(text.encode("utf-8", "surrogateescape") for text in texts)


WORDS = (
    *encoded(sorted(set(re.findall(r"\w+", json.dumps([STATUS, SAID]))))),
    *(b'{"', b'": ', b", ", b"[]", b"{}", b"\n", b'"\\ud800"', b"null", b"NaN", b"1e999"),
)
CONF_SEEDS = (*encoded(STATEMENTS), SHIPPED.read_bytes()[:600])
CONF_WORDS = encoded(FRAGMENTS)
SIGNED = (b"\xf8\n\xf9active\n", b"\xf8\n\xfabusy\r\n", b"\xf8\nerror refused\n", b"\xf8\n\xfb\n")
WIRE = "wire.protocol:_Connection ServerConnection ClientConnection _fit"
READ_STATUS = "wire.protocol:parse_status read_status encode_status status_tree"
TYPED = "wire.typed:decode encode _plain"
READ_CAPTURE = "tools.capture:open_capture Capture Clock _whole"
READ_FRAME = "wire.frames:parse _parse_arp _parse_advertisement _options _checksum _is_multicast"
READ_STATE = "statefile:decode encode _list _set _dict _row _union"
READ_FILES = "conf.files:read_host_type read_secret _word_fault _read_regular"
PRINTED = "switch:_Output.read _Output.rest _Output._bounded _cut"

TARGETS = {
    "conf": Target(check_conf, ("conf.language", "conf.variables"), CONF_SEEDS, CONF_WORDS, 700),
    "exchange": Target(
        check_exchange,
        ("commands.ha_edit:exchanged _values _with_value",),
        (
            b"$primary = '1.0.0.1'; # $primary\n$secondary =\n \"1.0.0.2\"; $ps = '$primary';\n",
            b"$secondary='1.0.0.9';$log = \"/var/log/$secondary\";\r\n",
            b"my $primary = 'fd00::1'; $secondary = 'fd00::2'; $primary = \"fd00::\\x33\";",
        ),
        (*CONF_WORDS, b"'1.0.0.1'", b"'1.0.0.2'", b"$primary", b"$secondary"),
        300,
    ),
    "long": Target(
        check_long,
        ("conf.language",),
        (
            *(b"\0$x=1;\n\0", b"$log='\0\\'\0", b"@interfaces=(\0'a',\0", b"\0qw(\0"),
            *(b'\0$log="$log";\0', b'$log="x";\0$log="$log$log";\0', b'$log="\0$x\0'),
        ),
        CONF_WORDS,
        64,
    ),
    "perl": Target(check_perl, ("conf.language",), CONF_SEEDS, CONF_WORDS, 400),
    "server": Target(
        check_server,
        ("wire.protocol:_Connection ServerConnection",),
        (
            *(b"\x01\x80\xf8\nstatus\n", b"\xff\x20\xf9fail\r\n"),
            *(b"\0\0\xfb123456\r\n\xf8\n", b"aaopen"),
        ),
        (b"\xf8", b"\xf9", b"\xfb", b"\r\n", b"\n", b"hmac ", b"status", SECRET),
    ),
    "client": Target(
        check_client,
        ("wire.protocol:_Connection ClientConnection",),
        (*(b"\x10\x80" + seed for seed in SIGNED), b"\xff\0\xf8\n", b"ab\xfe\xfe\xf8\xfb\xfb\n"),
        (b"\xf8", b"\xf9", b"\xfa", b"\xfb", b"\r\n", b"\n", b"ok ", b"error refused\n"),
    ),
    "answer": Target(check_answer, (WIRE,), (b"\xffactive", b"\0\xfb\xfb\n\xc3\xa9")),
    "middle": Target(middle.check, (WIRE,), middle.SEEDS, longest=256),
    "status": Target(check_status, (READ_STATUS, TYPED), (json.dumps(STATUS).encode(),), WORDS),
    "lines": Target(
        check_lines,
        ("process.channel:LineChannel parse_message",),
        (b"\x09\x40" + b"\n".join(line[1:] for line in SAID_LINES), b'\xfeb\xfb\xfb{"a":1}\n{}\n'),
        (*WORDS, b"\xfb"),
    ),
    "told": Target(
        check_told,
        ("master", "pair"),
        (b"\n".join(SAID_LINES), b"\n".join(SAID_LINES[10:12] * 4), b"\n".join(SAID_LINES[:4] * 2)),
        WORDS,
        4096,
        ("dev.fuzzer.told",),
    ),
    "capture": Target(
        check_capture,
        (READ_CAPTURE, "watch.judge"),
        (
            *(pcap(), pcap(">"), pcap("<", 0xA1B23C4D), pcap(linktype=0)),
            *(pcap()[:-3], b"", b"#!/bin/sh\n", b"\n\r\r\n" + pcap()),
        ),
    ),
    "watchd": Target(
        check_watchd,
        (
            "tools.replay",
            "tools.tune:Traffic read judged proposals Report run",
        ),
        (
            *(bytes([way]) + pcap(last=9_000_000) for way in range(4)),
            *(b"\0" + pcap(linktype=kind) for kind in (101, 239, 276)),
            b"\2" + pcap(linktype=101),
        ),
        late=("failoverd.tools.tune", "failoverd.watch.counter"),
    ),
    "dump": Target(
        check_dump,
        ("watch.dumpfile:DumpFile _open_private _end_of_packets",),
        (
            *(b"\xff\xfepacket", b"not ours\xff\xfex"),
            b"\xfd" + record(1, 2, b"old") + b"\xff\xfenew\xff\xfe",
        ),
    ),
    "frame": Target(
        check_frame,
        (READ_FRAME,),
        (
            *frames.gratuitous_arp(HWADDR, V4),
            frames.probe(HWADDR, V4),
            frames.probe(HWADDR, V6),
            ADVERTISED,
            ADVERTISED + b"\x01\x01123456",
        ),
        longest=160,
    ),
    "heartbeat": Target(
        check_heartbeat,
        ("heartbeat:Pinger._take Pinger._take_request",),
        (
            b"\xff\x81\0\0\0\0\7\0\3\xfe\xfd\x80\0\0\0\0\7\0\3it->ours",
            b"\0E" + bytes(19) + b"\0\0\0\0\0\7\0\3",
            b"\0E" + bytes(19) + b"\10\0\0\0\0\7\0\3it->ours",
        ),
        invariants.TAGS.peers,
        longest=160,
    ),
    "state": Target(check_state, (READ_STATE,), (STATE,), (*WORDS, BOOT.encode())),
    "files": Target(
        check_files,
        (READ_FILES, "process.pidfile:take_lock", "process.leftover:titled"),
        (
            *(
                b"\0# remark\nboot:master\n",
                b"\x41open sesame\r\n",
                b"\x42hmac x\n",
                b"\x8112345\n",
            ),
            b"\xc1  77 ?  S  0:00 failoverd: watchd eth0 [/run/failoverd.pid]\n 1 ? S 0 x",
        ),
        (b"boot:slave", b"boot:master", b"\xfb", b" [/run/failoverd.pid]", b"failoverd: ", b"\n"),
        512,
    ),
    "log": Target(
        check_log,
        ("log:Log.write Log._emit printable", PRINTED),
        (b"eth0 a line\xffeth1\nb", b"\x03\x60a\xfbb\nc"),
    ),
}
