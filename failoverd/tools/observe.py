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
    # As it is used, from $primary, if this node has it: there may be rules for it.
    source = conf.primary if any(place.address == conf.primary for place in held) else ""
    known, route = True, None
    try:
        route = links.route(conf.plip_interface, conf.secondary, source)
    except OSError:
        known = False
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
    """Who has the port instead of the failoverd of this $pidfile, "" if nobody has it. Where that
    cannot be seen and it runs, it is taken to be it."""
    if not _is_taken(conf):
        return ""
    holders = _holders(conf)
    titles = holders or map(_title, filter(str.isdecimal, os.listdir("/proc")))
    if any(_is_own(title, conf.pidfile) for title in titles):
        return ""
    return " and ".join(holders) or UNSEEN


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


def _holders(conf: Conf) -> list[str]:
    """What listens on the port, as ss shows it, which may not be there."""
    command = ["ss", "-Hltnp", f"sport = :{conf.tcp_port}"]
    try:
        shown = subprocess.run(command, capture_output=True, timeout=SS_SECONDS, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    at = (conf.primary, "*", "0.0.0.0", "::")
    lines = [line for line in shown.decode(errors="replace").splitlines() if _place(line) in at]
    found = re.findall(r'\("(.*?)",pid=(\d+)', "\n".join(lines))
    return list(dict.fromkeys(f"{_title(pid) or name} (pid {pid})" for name, pid in found))


def _place(line: str) -> str:
    """The local address in a line of ss, such as "LISTEN 0 64 1.0.0.1%plip0:2000 ..."."""
    return line.split()[3].rpartition(":")[0].partition("%")[0].strip("[]")


def _title(pid: str) -> str:
    """The title of a worker of failoverd, which names its $pidfile, "" of any other process."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            title = file.read(4096).replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""
    return title if title.startswith("failoverd: ") else ""


def _is_own(title: str, pidfile: str) -> bool:
    """Whether it is the listener of this $pidfile; where there is little room a title is cut."""
    begin = "failoverd: listener ["
    title = title.rpartition(" (pid ")[0] or title
    return title.startswith(begin) and f"{begin}{pidfile}]".startswith(title)
