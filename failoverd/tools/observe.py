"""What the network of this node is at this moment, gathered for a judgement.

Nothing is sent and nothing is changed. What an ordinary user cannot see counts for sound.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

from failoverd import links, statefile
from failoverd.conf import Conf, files, hooks, survey
from failoverd.process import leftover

# Addresses that no route leads to but a default one: 0.0.0.0/8 and the discard prefix (RFC 6666).
NOWHERE = ("0.0.0.1", "100::1")


def look_around(conf: Conf, *, port: bool = True) -> survey.Facts:
    """The facts for survey.findings; none, if what they are asked for is unknown, or the kernel
    does not tell the addresses. port: whether also if it is free."""
    if conf.origin.unusable.intersection(survey.NEEDED):
        return survey.Facts({})
    try:
        return gather(conf, port=port)
    except OSError:
        return survey.Facts({})


def gather(conf: Conf, *, port: bool = True) -> survey.Facts:
    """Raises OSError if the kernel does not tell the addresses."""
    held = links.held()
    # As it is used, from $primary, if this node has it: there may be rules for it.
    source = conf.primary if any(place.address == conf.primary for place in held) else ""
    routed: bool | None = None
    try:
        route = links.route(conf.plip_interface, conf.secondary, source)
        routed = route is not None
    except OSError:
        route = None
    return survey.Facts(
        interfaces={
            name: survey.Interface(
                links.is_up(name), links.works(name), links.hwaddr(name), links.takes_ipv6(name)
            )
            for name in links.names()
        },
        held=held,
        routed=routed,
        narrowly=route is not None and route.prefix > 0,
        gateways=dict(_gateways(conf)),
        taken=port and port_is_taken(conf),
        placed=may_be_placed(conf.state),
        left=tuple(_left(conf.state)),
        hooks=_has_hooks(conf.switch_dir),
    )


def _has_hooks(folder: str) -> bool:
    try:
        return bool(hooks.chosen(folder)[0])
    except OSError:
        return True


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
    saved = statefile.read(state)
    return saved.role == "active" or saved.left is not None


def port_is_taken(conf: Conf) -> bool:
    """Whether another program keeps the listener from being bound as it will be: it is tried,
    without listening. Where the failoverd of this $pidfile runs, or may run, it has the port."""
    family = socket.AF_INET6 if ":" in conf.primary else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if links.is_up(conf.plip_interface):
                link = conf.plip_interface.encode()
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link)
            sock.bind((conf.primary, conf.tcp_port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE and not _has_port(conf)
    return False


def _has_port(conf: Conf) -> bool:
    hidden = os.path.exists(conf.pidfile) and not os.access(conf.pidfile, os.R_OK)
    left = hidden or files.is_locked(conf.pidfile) or leftover.listed(conf.ps, conf.pidfile)[0]
    return bool(left)
