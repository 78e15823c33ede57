"""What the network of this node is at this moment, gathered for a judgement.

Nothing is sent and nothing is changed. What an ordinary user cannot see counts for sound.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import subprocess
from collections.abc import Iterator

from failoverd import links, statefile
from failoverd.conf import Conf, survey

# Addresses that no route leads to but a default one: 0.0.0.0/8 and the discard prefix (RFC 6666).
NOWHERE = ("0.0.0.1", "100::1")
SS_SECONDS = 10.0
TRIES = 5  # whoever has the port may just be ending
UNSEEN = "another program (ss -ltnp shows it to root)"


def look_around(conf: Conf, *, port: bool = True) -> survey.Facts:
    """The facts for survey.findings; none, if what they are asked for is unknown, or the kernel
    does not tell the addresses. port: whether also who has it, which takes a while."""
    if conf.origin.unusable.intersection(survey.NEEDED):
        return survey.Facts({})
    try:
        return gather(conf, port=port)
    except OSError:
        return survey.Facts({})


def gather(conf: Conf, *, port: bool = True) -> survey.Facts:
    """Raises OSError if the kernel does not tell the addresses."""
    found = links.held()
    held = [survey.Place(one.interface, one.address, one.prefix) for one in found]
    known, route = _link_route(conf, any(place.address == conf.primary for place in held))
    return survey.Facts(
        interfaces={
            name: survey.Interface(links.is_up(name), links.works(name), links.hwaddr(name))
            for name in links.names()
        },
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


def _link_route(conf: Conf, has_primary: bool) -> tuple[bool, links.Route | None]:
    """Whether the kernel tells the route to $secondary over the heartbeat link, and the route.

    As it is used, from $primary, if this node has it: there may be rules for it.
    """
    source = conf.primary if has_primary else ""
    try:
        return True, links.route(conf.plip_interface, conf.secondary, source)
    except OSError:
        return False, None


def _gateways(conf: Conf) -> Iterator[tuple[str, str]]:
    """The default gateway over each service interface, an IPv4 one if there is one."""
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
    """Who has the port, "" if it is free, or the failoverd of this $pidfile has it."""
    for _ in range(TRIES):
        if not _is_taken(conf):
            return ""
        holders = _holders(conf)
        if any(_is_own(title, conf.pidfile) for title in holders.values()):
            return ""
        if holders:
            return " and ".join(f"{title} (pid {pid})" for pid, title in holders.items())
    titles = map(_title, filter(str.isdecimal, os.listdir("/proc")))
    return "" if any(_is_own(title, conf.pidfile) for title in titles) else UNSEEN


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


def _holders(conf: Conf) -> dict[int, str]:
    """Pid, and title or name, of the processes that listen on the port, as ss shows them."""
    command = ["ss", "-Hltnp", f"sport = :{conf.tcp_port}"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SS_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    found: dict[int, str] = {}
    for line in done.stdout.splitlines():
        place = line.split()[3].rpartition(":")[0].partition("%")[0].strip("[]")
        if place in (conf.primary, "*", "0.0.0.0", "::"):
            for name, pid in re.findall(r'\("(.*?)",pid=(\d+)', line):
                found[int(pid)] = _title(pid) or name
    return found


def _title(pid: str) -> str:
    """The title of a worker of failoverd, which names its $pidfile."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            title = file.read(4096).replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""
    return title if title.startswith("failoverd: ") else ""


def _is_own(title: str, pidfile: str) -> bool:
    """Whether it is the listener of this $pidfile; where there is little room a title is cut."""
    begin = "failoverd: listener ["
    return title.startswith(begin) and f"{begin}{pidfile}]".startswith(title)
