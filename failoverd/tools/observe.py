"""What the network of this node is at this moment, gathered for a judgement.

Nothing is sent and nothing is changed. What an ordinary user cannot see counts for sound.
"""

from __future__ import annotations

import errno
import glob
import os
import socket
import sys
from collections.abc import Iterator
from ipaddress import ip_address

from failoverd import links, statefile
from failoverd.conf import Conf, survey

# Addresses that no route leads to but a default one: 0.0.0.0/8 and the discard prefix (RFC 6666).
NOWHERE = ("0.0.0.1", "100::1")
LISTENING = "0A"  # TCP_LISTEN, proc(5)
EVERYWHERE = ("0" * 8, "0" * 32)  # 0.0.0.0 and ::
TRIES = 5  # whoever has the port may just be ending
UNSEEN = "a program that is hidden from here (ss -ltnp shows it to root)"


def look_around(conf: Conf, *, port: bool = True) -> survey.Facts:
    """What `gather` finds; no facts, if what they are asked for is unknown."""
    if conf.origin.unusable.intersection(survey.NEEDED):
        return survey.Facts({})
    try:
        return gather(conf, port=port)
    except OSError:
        return survey.Facts({})


def gather(conf: Conf, *, port: bool = True) -> survey.Facts:
    """The facts for survey.findings. port: whether also who has it, which takes a while.

    Raises OSError if the kernel does not tell the addresses.
    """
    found = links.held()
    held = [survey.Place(one.interface, one.address, one.prefix) for one in found]
    known, route = _link_route(conf, any(place.address == conf.primary for place in held))
    return survey.Facts(
        interfaces={name: _interface(name) for name in links.names()},
        held=held,
        routed=route is not None if known else None,
        narrowly=route is not None and route.prefix > 0,
        gateways=dict(_gateways(conf)),
        holder=port_holder(conf) if port else "",
        asking=links.fixed(found, conf.served),
        placed=may_be_placed(conf.state),
        left=tuple(_left(conf.state)),
    )


def _left(state: str) -> Iterator[tuple[str, str]]:
    """Interface and address of each that failoverd has put somewhere since it was active."""
    for entry in (statefile.read(state).left or ((), ()))[0]:
        name, _, address = entry.partition(" ")
        yield name, address.partition("/")[0]


def _interface(name: str) -> survey.Interface:
    return survey.Interface(links.is_up(name), links.works(name), links.hwaddr(name))


def _link_route(conf: Conf, is_ours: bool) -> tuple[bool, links.Route | None]:
    """Whether the kernel tells the route to $secondary over the private link, and the route.

    As it is used, from $primary, if that is an address of this node: there may be rules for it.
    """
    source = conf.primary if is_ours else ""
    try:
        return True, links.route(conf.plip_interface, conf.secondary, source)
    except OSError:
        return False, None


def _gateways(conf: Conf) -> Iterator[tuple[str, str]]:
    """The default gateway over each interface of the service, an IPv4 one if there is one."""
    for name in conf.interfaces:
        for target in reversed(NOWHERE):
            try:
                route = links.route(name, target)
            except OSError:
                continue
            if route is not None and route.prefix == 0 and route.gateway:
                yield name, route.gateway


def may_be_placed(state: str) -> bool:
    """Whether the service addresses may be here because failoverd has put them there."""
    if os.path.exists(state) and not os.access(state, os.R_OK):
        return True  # only root knows
    remembered = statefile.read(state)
    return remembered.role == "active" or remembered.left is not None


# --- The port


def port_holder(conf: Conf) -> str:
    """Who has the port instead of the failoverd of this $pidfile, "" if nobody."""
    for _ in range(TRIES):
        if not _is_taken(conf):
            return ""
        holders = list(_holders(conf))
        if any(_is_own(title, conf.pidfile) for _, title in holders):
            return ""
        if holders:
            return " and ".join(sorted({f"{_name(*each)} (pid {each[0]})" for each in holders}))
    return "" if _runs_here(conf.pidfile) else UNSEEN


def _is_taken(conf: Conf) -> bool:
    """Whether the listener could not be bound as it will be: it is tried, without listening."""
    family = socket.AF_INET6 if ":" in conf.primary else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if links.is_up(conf.plip_interface):
                link = conf.plip_interface.encode()
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link)
            sock.bind((conf.primary, conf.tcp_port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def _holders(conf: Conf) -> Iterator[tuple[int, str]]:
    """Pid and title of the processes that listen where we will."""
    wanted = {f"socket:[{inode}]" for inode in _listening(conf)}
    for path in glob.iglob("/proc/[0-9]*/fd/*") if wanted else ():
        try:
            if os.readlink(path) in wanted:
                pid = int(path.split("/")[2])
                yield pid, _title(pid)
        except OSError:
            continue  # it has ended, or is another user's


def _listening(conf: Conf) -> Iterator[str]:
    """The inodes of the sockets that listen on the port, at $primary or at every address."""
    places = {f"{host}:{conf.tcp_port:04X}" for host in (_in_table(conf.primary), *EVERYWHERE)}
    for table in ("tcp", "tcp6"):
        try:
            with open(f"/proc/self/net/{table}", encoding="ascii") as file:
                rows = [line.split() for line in file]
        except OSError:
            continue  # there is no IPv6 here
        yield from (row[9] for row in rows if row[1] in places and row[3] == LISTENING)


def _in_table(address: str) -> str:
    """How the tables of proc(5) write an address: in words of this machine's byte order."""
    packed = ip_address(address).packed
    words = (packed[at : at + 4] for at in range(0, len(packed), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)


def _title(pid: int) -> str:
    """What ps shows, "" if the process has ended."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read(4096).replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def _name(pid: int, title: str) -> str:
    if title.startswith("failoverd: "):
        return title  # which names its $pidfile
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "a program"


def _is_own(title: str, pidfile: str) -> bool:
    """Whether it is the listener of this very $pidfile; where there is little room its title is
    cut."""
    begin = "failoverd: listener ["
    return title.startswith(begin) and f"{begin}{pidfile}]".startswith(title)


def _runs_here(pidfile: str) -> bool:
    """Whether the listener of this $pidfile runs, for one who cannot see what it has open."""
    titles = (_title(int(path.split("/")[2])) for path in glob.iglob("/proc/[0-9]*/cmdline"))
    return any(_is_own(title, pidfile) for title in titles)
