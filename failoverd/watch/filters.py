"""Filters as the kernel runs them: translated once, tried, and handed to all watchers.

libpcap gives a filter to the kernel, too; but if the kernel refuses it, libpcap goes on in user
space without a word, and what the kernel counts is every packet. And it needs seconds, even
minutes, to translate one that names hundreds of hosts: too long for the main loop, and for every
watcher again. So a worker translates it beforehand and tries whether the kernel takes it, and a
watcher gives it to the kernel as it is.
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import re
import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import pcapy

from failoverd import links, process
from failoverd.process import Message

DLT_EN10MB = 1
DLT_RAW = 12  # an IP packet and nothing before it
DLT_LINUX_SLL = 113  # what `tcpdump -i any` writes; it tells the direction
DLT_LINUX_SLL2 = 276  # the same since libpcap 1.10
# What libpcap makes of an interface's kind (linux/if_arp.h). Of others it is asked.
_LINKTYPES = {
    links.ARPHRD_ETHER: DLT_EN10MB,
    links.ARPHRD_LOOPBACK: DLT_EN10MB,
    519: DLT_RAW,  # ARPHRD_RAWIP
    768: DLT_RAW,  # ARPHRD_TUNNEL
    0xFFFE: DLT_RAW,  # ARPHRD_NONE, such as a tun interface
}
TRANSLATION_SECONDS = 60.0  # of a processor: 600 hosts take libpcap 8 s, 1,000 take it 48
WAITING_SECONDS = 5 * TRANSLATION_SECONDS  # for that on a node that is busy, as at a boot
_LONGEST = "ff:ff:ff:ff:ff:ff"  # as long as what an interface leaves out of its own
_ENOUGH = 262144  # bytes: for what 4096 instructions, the most that there may be, become
_SHORTER = "shorten it, for example with networks instead of hosts"
_FEWER = "use fewer addresses, or consecutive ones"
_UNTAGGED = "whose tag the kernel removes before it filters: watch the interface of that VLAN"
_SO_ATTACH_FILTER = 26  # socket(7)
_INSTRUCTION = struct.Struct("@HBBI")  # struct sock_filter of linux/filter.h
_SLL_BYTES = 16  # the header that libpcap shows in place of one that the kernel has taken off
_SLL_FIELDS = {0: 0xFFFFF004, 14: 0xFFFFF000}  # where the kernel keeps these: SKF_AD_PKTTYPE, _TYPE
HEADER_BYTES = 128  # bytes of a packet that hold its headers: ethernet, IPv6, TCP with all options


class BadFilter(ValueError):
    """The expression does not fit the interface."""


def check_filter(expression: str) -> str | None:
    """What libpcap says is wrong with an expression, None if nothing is. Needs no privilege.

    It is not made shorter, which is what takes a long one its time.
    """
    try:
        pcapy.compile(DLT_EN10MB, HEADER_BYTES, expression, 0, 0)
    except (pcapy.PcapError, ValueError) as error:
        return str(error)
    return None


@dataclass(frozen=True)
class Program:
    """What the kernel runs to see whether a received packet counts: an expression, translated for
    one link type."""

    expression: str
    linktype: int
    code: bytes  # one _INSTRUCTION after another

    @property
    def length(self) -> int:
        return len(self.code) // _INSTRUCTION.size


def translate(expression: str, linktype: int) -> Program:
    """The program for an expression. Raises BadFilter.

    That takes milliseconds; but of hundreds of hosts it takes seconds, and of thousands hours.
    """
    text = f"inbound and ({expression})"
    try:
        instructions = pcapy.compile(linktype, HEADER_BYTES, text, 1, 0).get_bpf()
    except (pcapy.PcapError, ValueError) as error:
        raise BadFilter(str(error)) from error
    if linktype == DLT_LINUX_SLL:
        instructions = [_without_header(*each) for each in instructions]
    return Program(expression, linktype, assembled(instructions))


def assembled(instructions: Iterable[tuple[int, int, int, int]]) -> bytes:
    """As the kernel takes them: classic BPF (Documentation/networking/filter.rst)."""
    return b"".join(_INSTRUCTION.pack(*each) for each in instructions)


def _without_header(code: int, yes: int, no: int, k: int) -> tuple[int, int, int, int]:
    """An instruction for packets that libpcap shows with a header that the kernel does not have.

    Raises BadFilter for what cannot be said so.
    """
    load, kind = (0, 1), (0x20, 0x40, 0xA0)  # BPF_LD, BPF_LDX; BPF_ABS, BPF_IND, BPF_MSH
    if code & 7 not in load or code & 0xE0 not in kind or k >= min(_SLL_FIELDS.values()):
        return code, yes, no, k
    if k >= _SLL_BYTES:
        return code, yes, no, k - _SLL_BYTES
    if k not in _SLL_FIELDS:
        raise BadFilter("it uses what the kernel cannot filter on this kind of interface")
    return code, yes, no, _SLL_FIELDS[k]


def without_source(program: Program, hwaddr: str) -> Program:
    """The same without the ethernet frames that this hardware address has sent. Jumps are relative:
    what stands before a program changes none of its own."""
    if program.linktype != DLT_EN10MB:
        return program
    high, low = struct.unpack("!IH", bytes.fromhex(hwaddr.replace(":", "")))
    test = [
        (0x20, 0, 0, 6),  # the first four bytes of the source
        (0x15, 0, 3, high),
        (0x28, 0, 0, 10),  # and the other two
        (0x15, 0, 1, low),
        (0x06, 0, 0, 0),
    ]
    return replace(program, code=assembled(test) + program.code)


def attach(sock: socket.socket, program: Program, way: str = _SHORTER) -> None:
    """Have the kernel pass only what the program admits to the socket. way: out of it, if it is too
    long. Raises BadFilter."""
    code = array.array("B", program.code)
    address, _ = code.buffer_info()
    try:
        argument = struct.pack("@HP", program.length, address)  # struct sock_fprog
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, argument)
    except (OSError, struct.error) as error:
        raise BadFilter(_refusal(program.length, getattr(error, "errno", None), way)) from error


def _refusal(length: int, number: int | None, way: str) -> str:
    why = f"the kernel refuses its {length} instructions"
    if number == errno.ENOMEM:
        raised = f"sysctl -w net.core.optmem_max={_ENOUGH}"
        return f"{why}, for which net.core.optmem_max is too small: {raised}, or {way}"
    if number in (errno.EINVAL, None):
        return f"{why}: 4096 are the most; {way}"
    return f"{why}: {os.strerror(number)}; {way}"


def prepare(
    expression: str, own: str, interfaces: Sequence[str], title: str
) -> tuple[Program, ...]:
    """The programs for an expression on these interfaces.

    A worker translates them, in at most TRANSLATION_SECONDS of its own, and tries whether the
    kernel takes them. `own` is what the configuration has of the expression; `title` is what ps
    shows of the worker. Raises BadFilter with what is wrong.
    """

    def work(_: process.Channel) -> Message:
        process.limit_work(TRANSLATION_SECONDS)
        if own and (problem := check_filter(own)):
            raise BadFilter(f"not a pcap expression: {problem}")
        if re.search(r"\bvlan\b", own):  # in a capture such tags are there again
            raise BadFilter(f"it names a vlan, {_UNTAGGED}")
        programs = [
            translate(expression, each) for each in dict.fromkeys(map(linktype, interfaces))
        ]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            for program in programs:
                attach(sock, without_source(program, _LONGEST), _SHORTER if own else _FEWER)
        return packed(programs)

    try:
        return unpacked(process.find_out(title, work, WAITING_SECONDS))
    except TimeoutError:
        raise BadFilter(
            f"it cannot be compiled within {TRANSLATION_SECONDS:g} s: {_SHORTER if own else _FEWER}"
        ) from None
    except ValueError as error:
        raise BadFilter(str(error)) from None


def linktype(interface: str) -> int:
    """What its packets begin with, one of DLT_, as far as that can be known before it is opened."""
    known = _LINKTYPES.get(links.kind(interface) or 0)
    if known is not None:
        return known
    with (
        contextlib.suppress(pcapy.PcapError),
        contextlib.closing(pcapy.create(interface)) as reader,
    ):
        reader.set_buffer_size(1)
        if reader.activate() >= 0:
            return int(reader.datalink())
    return DLT_EN10MB


def packed(programs: Iterable[Program]) -> Message:
    """As a JSON object."""
    return {"programs": [[p.expression, p.linktype, p.code.hex()] for p in programs]}


def unpacked(message: Message) -> tuple[Program, ...]:
    """The programs in such an object. Raises ValueError, KeyError, TypeError if it is none."""
    found = cast(list[tuple[str, int, str]], message["programs"])
    return tuple(Program(str(text), int(kind), bytes.fromhex(code)) for text, kind, code in found)
