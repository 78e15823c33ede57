"""The second path: where the peer's port is queried when the heartbeat link gives no answer.

Each node listens at its own addresses on the first service interface that has one, and knows those
of the peer from what its status has told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface

from failoverd.conf import Conf
from failoverd.wire.protocol import PATHS

PRIVATE, SECOND = PATHS

Fixed = Mapping[str, Sequence[str]]  # by interface, a node's own addresses, each with its prefix


@dataclass(frozen=True)
class SecondPath:
    """interface: "" if this node has no address of its own. own, peer: as in Fixed."""

    interface: str = ""
    own: tuple[str, ...] = ()
    peer: tuple[str, ...] = ()

    @property
    def hosts(self) -> tuple[str, ...]:
        """Where this node listens."""
        return tuple(str(ip_interface(one).ip) for one in self.own)

    @property
    def ends(self) -> tuple[str, str] | None:
        """From which address of this node which one of the peer is queried."""
        return next(pairs(self.own, self.peer), None)

    def has_peer(self, host: str) -> bool:
        return ip_address(host) in (ip_interface(one).ip for one in self.peer)


def find(conf: Conf, ours: Fixed, theirs: Fixed) -> SecondPath:
    """What there is of it, by what is known of both nodes."""
    if not conf.has_second_path:
        return SecondPath()
    interface, own = _first(conf, ours)
    return SecondPath(interface, own, _first(conf, theirs)[1])


def _first(conf: Conf, fixed: Fixed) -> tuple[str, tuple[str, ...]]:
    for name in conf.interfaces:
        usable = [one for one in fixed.get(name, ()) if not ip_interface(one).is_link_local]
        if usable:
            return name, tuple(usable)
    return "", ()


def pairs(
    ours: Iterable[str], theirs: Iterable[str], taken: Iterable[str] = ()
) -> Iterator[tuple[str, str]]:
    """For each address of the peer's the one of this node that is its neighbour, if there is one.

    taken: addresses that are left out, such as those that the pair serves.
    """
    own = [ip_interface(one) for one in ours]
    for peer in map(ip_interface, theirs):
        if str(peer.ip) in {*taken, *(str(one.ip) for one in own)}:
            continue
        for one in own:
            if one.version == peer.version and one.ip in peer.network and peer.ip in one.network:
                yield str(one.ip), str(peer.ip)
                break
