"""Capture files as others write them: link types, interfaces, and clocks that are set."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Sequence
from pathlib import Path

import pcapy
import pytest
from inside import FAR, OWN
from watched_by_hand import conf_file, run

from failoverd.conf import Conf
from failoverd.tools import capture
from failoverd.tools.capture import open_capture
from failoverd.watch import counter, dumpfile
from failoverd.wire.protocol import heartbeat_tags

PEER = bytes.fromhex(FAR.replace(":", ""))
US = bytes.fromhex(OWN.replace(":", ""))
(TAG,) = heartbeat_tags(b"open sesame", "1.0.0.1", "1.0.0.2").peers
(TAG6,) = heartbeat_tags(b"open sesame", "fd00::1", "fd00::2").peers
SNAP = bytes.fromhex("aaaa03000000")


def heartbeat(to: bytes = bytes((1, 0, 0, 1))) -> bytes:
    echo = struct.pack("!BBHHH", 8, 0, 0, 1, 1) + TAG
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(echo), 0, 0, 64, 1, 0)
    return head + bytes((1, 0, 0, 2)) + to + echo


def heartbeat6() -> bytes:
    echo = struct.pack("!BBHHH", 128, 0, 0, 1, 1) + TAG6
    head = struct.pack("!IHBB", 6 << 28, len(echo), 58, 64)
    ends = [socket.inet_pton(socket.AF_INET6, end) for end in ("fd00::2", "fd00::1")]
    return head + b"".join(ends) + echo


def cooked(sent: bool) -> bytes:
    return struct.pack("!HHH6s2xH", 4 if sent else 0, 1, 6, PEER, 0x0800)


def cooked2(sent: bool, kind: int = 0x0800, group: bool = False) -> bytes:
    return struct.pack("!HHIHBB6s2x", kind, 0, 7, 1, 4 if sent else 2 * group, 6, PEER)


def wireless(source: bytes) -> bytes:
    """A data frame to the access point."""
    return struct.pack("<HH", 0x0108, 0) + PEER + source + PEER + b"\0\0" + SNAP + b"\x08\0"


# Link type as files have it: what comes before a packet of IPv4.
BEFORE_IPV4 = {
    0: struct.pack("=I", socket.AF_INET),  # in the byte order of the host
    1: US + PEER + b"\x08\0",
    6: b"\x10\x40" + US + PEER + SNAP + b"\x08\0",
    8: bytes((0, 0x40)) + bytes(14),
    9: bytes.fromhex("ff030021"),
    10: b"\x50" + US + PEER + SNAP + b"\x08\0",
    12: b"",
    14: b"",
    50: bytes.fromhex("ff030021"),
    51: bytes.fromhex("110000010030") + b"\x00\x21",
    100: SNAP + b"\x08\0",
    101: b"",
    104: bytes.fromhex("0f000800"),
    105: wireless(PEER),
    106: SNAP + b"\x08\0",
    107: bytes.fromhex("184103cc"),
    108: struct.pack("!I", socket.AF_INET),
    113: cooked(sent=False),
    127: struct.pack("<BBHI", 0, 0, 8, 0) + wireless(PEER),
    166: bytes.fromhex("00030021"),
    228: b"",
    276: cooked2(sent=False),
}
ENVELOPES = (8, 107)  # in which libpcap does not find addresses
BY_DIRECTION = {
    8: bytes((1, 0x40)) + bytes(14),
    113: cooked(sent=True),
    166: bytes.fromhex("01030021"),
    276: cooked2(sent=True),
}
BY_ADDRESS = {
    1: PEER + US + b"\x08\0",
    6: b"\x10\x40" + PEER + US + SNAP + b"\x08\0",
    10: b"\x50" + PEER + US + SNAP + b"\x08\0",
    105: wireless(US),
    127: struct.pack("<BBHI", 0, 0, 8, 0) + wireless(US),
}
SENT = BY_DIRECTION | BY_ADDRESS


def pcap(linktype: int, packets: Sequence[tuple[float, bytes]], order: str = "<") -> bytes:
    """At these seconds since 1970."""
    parts = [struct.pack(order + "IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, linktype)]
    for when, data in packets:
        seconds, rest = divmod(round(when * 1e9), 10**9)
        parts += [struct.pack(order + "IIII", seconds, rest, len(data), len(data)), data]
    return b"".join(parts)


def counts(
    file: Path, conf: Conf, interface: str = "eth0", own: str | None = OWN, tag: bytes = TAG
) -> list[bool]:
    """Which of the packets in a capture count."""
    expression = counter.what_counts(conf, interface, (tag,))
    found: list[bool] = []
    with open_capture(str(file)) as opened:
        accept = capture.counts_in_capture(expression, opened.linktype, own)
        for _ in opened.batches(lambda packet: found.append(bool(accept(packet)))):
            pass
    return found


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("linktype", BEFORE_IPV4)
def test_what_counts_is_found_behind_any_header(tmp_path: Path, linktype: int, order: str) -> None:
    came = BEFORE_IPV4[linktype] + heartbeat()
    other = came.replace(TAG, bytes(8))
    file = tmp_path / "x"
    file.write_bytes(pcap(linktype, [(1000, came), (1001, other)], order))
    assert counts(file, Conf()) == [True, True]
    if linktype in ENVELOPES:
        return
    assert counts(file, Conf(filter="icmp and src host 1.0.0.2")) == [True, True]
    assert counts(file, Conf(filter="udp")) == [False, False]
    assert counts(file, Conf(), "plip0") == [True, False]
    assert counts(file, Conf(plip_filter="icmp"), "plip0") == [True, True]


@pytest.mark.parametrize("linktype", [101, 229])
def test_packets_of_ipv6_alone_are_read(tmp_path: Path, linktype: int) -> None:
    file, conf = tmp_path / "x", Conf(primary="fd00::1", secondary="fd00::2")
    file.write_bytes(pcap(linktype, [(1000, heartbeat6())]))
    assert counts(file, conf, "plip0", tag=TAG6) == [True]
    assert counts(file, Conf(filter="icmp6")) == [True]


def test_a_link_type_is_the_one_that_libpcap_takes_it_for(tmp_path: Path) -> None:
    """But for 14, which is OpenBSD's for raw packets, and 106, which libpcap 1.9 did not know."""
    file = tmp_path / "x"
    for linktype in range(420):
        head = pcap(linktype, []).replace(b"\x4d\x3c\xb2\xa1", b"\xd4\xc3\xb2\xa1")
        file.write_bytes(head)
        by_the_book = int(pcapy.open_offline(str(file)).datalink())
        with open_capture(str(file)) as opened:
            assert opened.linktype == {14: 12, 106: 19}.get(linktype, by_the_book)
        if linktype not in (11, 12, 14, 15, 16, 19):  # which no tool writes
            assert capture.link_name(opened.linktype).split()[0] == f"{linktype}"


def test_a_dump_file_has_the_number_that_files_have(tmp_path: Path) -> None:
    dump = dumpfile.DumpFile(str(tmp_path / "x"), 128)
    dump.begin(12)
    dump.put((1000, 0), len(heartbeat()), heartbeat())
    dump.flush()
    dump.close()
    assert struct.unpack_from("=I", (tmp_path / "x").read_bytes(), 20) == (101,)
    assert counts(tmp_path / "x", Conf()) == [True]


@pytest.mark.parametrize("linktype", SENT)
def test_own_packets_are_left_out_where_they_can_be_told(tmp_path: Path, linktype: int) -> None:
    file, packet = tmp_path / "x", heartbeat()
    came, went = BEFORE_IPV4[linktype] + packet, SENT[linktype] + packet
    file.write_bytes(pcap(linktype, [(1000, came), (1001, went)]))
    dlt = capture.dlt(linktype)
    assert counts(file, Conf()) == [True, False]
    assert counts(file, Conf(plip_filter="greater 0"), "plip0") == [True, False]
    without = counts(file, Conf(), own=None)
    assert without == [True, linktype in BY_ADDRESS]
    assert capture.knows_direction(dlt, OWN)
    assert capture.knows_direction(dlt, None) == (linktype in BY_DIRECTION)


def test_of_all_others_it_is_said_that_all_count() -> None:
    for linktype in set(BEFORE_IPV4) - set(SENT):
        assert not capture.knows_direction(capture.dlt(linktype), OWN), linktype


def test_what_a_switch_says_is_found_in_newer_cooked_packets(tmp_path: Path) -> None:
    file = tmp_path / "x"
    frames = [cooked2(False, 4) + b"\x42\x42\x03", cooked2(False, 0x88CC), cooked2(False, 0x88B5)]
    file.write_bytes(pcap(276, [(1000, frame + bytes(40)) for frame in frames]))
    assert counts(file, Conf()) == [False, False, True]


def judged(folder: Path, data: bytes, *more: str, **variables: object) -> tuple[int, str, str]:
    """The command over this file: its status, what it says, what it complains of."""
    file = folder / "x.pcap"
    file.write_bytes(data)
    done = run("-c", conf_file(folder, **variables), "-r", str(file), *more)
    return done.returncode, done.stdout, done.stderr


def test_it_says_where_own_packets_cannot_be_told_and_the_way_out(tmp_path: Path) -> None:
    packets = [(1000.0 + n, heartbeat()) for n in range(3)]
    _, _, complaint = judged(tmp_path, pcap(101, packets), "--mac", OWN, "tun0")
    assert "all count (link type 101 (RAW) does not tell: capture with tcpdump -Q in)" in complaint
    ethernet = [(when, BEFORE_IPV4[1] + packet) for when, packet in packets]
    assert "(--mac ADDRESS names" in judged(tmp_path, pcap(1, ethernet), "eth9")[2]
    cooked = [(when, BEFORE_IPV4[276] + packet) for when, packet in packets]
    assert "all count" not in judged(tmp_path, pcap(276, cooked), "eth9")[2]


@pytest.mark.parametrize(("linktype", "name"), [(239, "NFLOG"), (204, ""), (2, "")])
@pytest.mark.parametrize("tune", [(), ("--tune",)])
def test_a_link_type_that_cannot_be_filtered_is_named(
    tmp_path: Path, linktype: int, name: str, tune: tuple[str, ...]
) -> None:
    status, out, complaint = judged(tmp_path, pcap(linktype, [(1000, bytes(60))]), *tune, "eth0")
    assert (status, out) == (3, "")
    kind = f"{linktype} ({name})" if name else f"{linktype}"
    assert f"what counts here does not fit packets of link type {kind}: " in complaint
    assert "tcpdump -i eth0 -w FILE" in complaint and len(complaint.splitlines()) == 1


def test_a_filter_that_does_not_fit_is_named(tmp_path: Path) -> None:
    data = pcap(101, [(1000, heartbeat())])
    status, _, complaint = judged(tmp_path, data, "tun0", filter=f"ether host {OWN}")
    assert status == 3
    assert "failoverd.conf: $filter does not fit packets of link type 101 (RAW): " in complaint
    assert "name another $filter with -c CONF" in complaint


# Clocks


ETHERNET = BEFORE_IPV4[1] + heartbeat()


def moved(times: Sequence[float], start: float = 1_700_000_000.0) -> bytes:
    return pcap(1, [(start + time, ETHERNET) for time in times])


YEARS = 56 * 365 * 86_400.0
QUICK = {"timer_seconds": 1, "low_water": 1, "packet_count": 500}
BEFORE = [n / 2 for n in range(20)]


def test_a_clock_that_is_set_makes_one_line_of_the_years(tmp_path: Path) -> None:
    """No verdict is another one for that, and it says how the years may have come about."""
    times = [*BEFORE, *(YEARS + time for time in BEFORE)]
    data = moved(times, 10.0)
    status, out, complaint = judged(tmp_path, data, "--mac", OWN, "--json", "eth0", **QUICK)
    events = [json.loads(line) for line in out.splitlines()]
    assert status == 1 and len(events) < 1100
    assert sum(event.get("windows", 1) for event in events) == YEARS + 9
    (years,) = (event for event in events if "windows" in event)
    assert (years["verdict"], years["reason"], years["t"]) == ("fail", "below low water", YEARS)
    assert "nothing was recorded from 1970-01-01 00:00:19.500 to 2025-12-1" in complaint
    assert "(20439 days 23 h): that is judged as silence; if the clock was set" in complaint
    _, plain, _ = judged(tmp_path, data, "--mac", OWN, "eth0", **QUICK)
    assert f"below low water, {years['windows']:,} windows alike" in plain


def test_a_clock_that_is_set_back_goes_on_from_there(tmp_path: Path) -> None:
    """What comes after it is judged, and not taken for one moment."""
    times = [*BEFORE, *(time - YEARS / 2 for time in BEFORE), 15 - YEARS / 2]
    status, out, complaint = judged(tmp_path, moved(times), "--mac", OWN, "eth0", **QUICK)
    assert status == 1
    assert "the clock was set back by 10220 days 9 s: time goes on from there" in complaint
    assert out.splitlines()[-1] == (
        "would have failed over 21.000 s after the first packet: below low water"
    )
    calm = judged(tmp_path, moved(times[:-1]), "--mac", OWN, "eth0", **QUICK)
    assert calm[0] == 0 and "would not have failed over (19 windows)" in calm[1]


@pytest.mark.parametrize("early", [59.0, 61.0])
def test_a_packet_that_is_a_little_early_is_out_of_order(tmp_path: Path, early: float) -> None:
    file = tmp_path / "x"
    file.write_bytes(moved([0, 100, 100 - early, 101, 102]))
    with open_capture(str(file)) as opened:
        (batch,) = opened.batches(bool)
    seconds = [time / 1e9 for time in batch.counted]
    after = [101, 102] if early < 60 else [100 + early + 1, 100 + early + 2]
    assert seconds == [0, 100, 100, *after]
    assert bool(opened.clock.set_back) == (early > 60)


@pytest.mark.parametrize("days", [0.9, 1.1])
def test_a_day_without_a_packet_is_remarked_on(tmp_path: Path, days: float) -> None:
    complaint = judged(tmp_path, moved([0, days * 86_400]), "--mac", OWN, "eth0")[2]
    assert ("nothing was recorded" in complaint) == (days > 1)


NOTHING_JUDGED = {
    "not one window has ended in it": moved([0, 5]),
    "only the first window has ended in it, which never fails": moved([0, 5, 25]),
    "there is no packet in it": moved([]),
}


@pytest.mark.parametrize("what", NOTHING_JUDGED)
def test_without_a_judgement_the_exit_status_is_no_all_clear(tmp_path: Path, what: str) -> None:
    status, out, _ = judged(tmp_path, NOTHING_JUDGED[what], "--mac", OWN, "eth0", low_water=1)
    assert status == 3 and out.splitlines()[-1].startswith(f"{what}: nothing was judged")
    if "window" in what:
        more = ("--mac", OWN, "--until", "40", "eth0")
        assert judged(tmp_path, NOTHING_JUDGED[what], *more, low_water=1)[0] == (len(what) < 40)
