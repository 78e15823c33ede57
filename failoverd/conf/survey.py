"""Whether the network of this node is the one that the configuration describes.

A judgement over facts that somebody else has gathered. What can never be right keeps failoverd from
starting; what may come right by itself, such as an address that comes after a boot, does not.
"""

from __future__ import annotations

import enum
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface
from typing import NamedTuple

from failoverd.conf import Address, Conf
from failoverd.conf.language import quoted

LOOPBACK = "lo"
USUAL = {4: 24, 6: 64}  # the prefix that a way out proposes


class Weight(enum.IntEnum):
    """What a finding means. `failoverd -t` takes the last two for errors, a start only the last."""

    ODD = 1  # it may be meant so, or is only out of order
    AMISS = 2  # it does not work as it is now, and may come right without another configuration
    NEVER = 3  # it cannot come right


ODD, AMISS, NEVER = Weight


class Finding(NamedTuple):
    """What is wrong with what a variable of the configuration (without sigil) stands for."""

    variable: str
    weight: Weight
    text: str

    @property
    def is_error(self) -> bool:
        """Whether it does not work as it is now."""
        return self.weight >= Weight.AMISS


@dataclass(frozen=True)
class Interface:
    """An interface that is there. hwaddr: the one it has now, None if it is no ethernet."""

    up: bool = True
    carrier: bool = True
    hwaddr: str | None = None


@dataclass(frozen=True)
class Place:
    """An address that this node has, with the length of its prefix."""

    interface: str
    address: str
    prefix: int

    def __str__(self) -> str:
        return f"{self.address}/{self.prefix}"

    @property
    def version(self) -> int:
        return _version(self.address)

    def reaches(self, address: str) -> bool:
        """Whether the address is in its network."""
        return ip_address(address) in ip_interface(str(self)).network


@dataclass(frozen=True)
class Facts:
    """This node's network as it is now.

    routed: whether a route leads to $secondary over the private link; None if that is unknown.
    narrowly: whether that is another route than a default one.
    gateways: the default gateway over each interface that has one.
    holder: who else has the port, "" if nobody.
    asking: the interfaces where this node has an address from which it asks the peer's.
    placed: whether failoverd has put the service addresses on their interfaces, or may have.
    left: interface and address of each that it has put somewhere, by an earlier configuration too.
    """

    interfaces: Mapping[str, Interface]
    held: Sequence[Place] = ()
    routed: bool | None = None
    narrowly: bool = False
    gateways: Mapping[str, str] = field(default_factory=dict)
    holder: str = ""
    asking: Container[str] = ()
    placed: bool = False
    left: Sequence[tuple[str, str]] = ()


# The variables that a judgement rests on.
NEEDED = (
    *("interfaces", "plip_interface", "primary", "secondary", "tcp_port"),
    *("addresses", "ethernet_addresses"),
)


_Found = tuple[str, Weight, str]  # a Finding to be


def findings(conf: Conf, facts: Facts) -> list[Finding]:
    """All that is wrong, in the order of NEEDED as far as it goes. A missing interface is left to
    whoever reads the configuration."""
    found = [*_unusable(conf, facts), *_private_link(conf, facts)]
    if facts.holder:
        way = "end that, or set another $tcp_port on both nodes"
        text = f"{conf.primary} port {conf.tcp_port} is in use by {facts.holder}: {way}"
        found.append(("tcp_port", NEVER, text))
    for served in conf.addresses:
        if served.interface in facts.interfaces:
            found += _astray(served, facts)
            found += _served(served, conf, facts)
    found += [*_hardware(conf, facts), *_targets(conf, facts)]
    return [Finding(*each) for each in dict.fromkeys(found)]


def _unusable(conf: Conf, facts: Facts) -> Iterator[_Found]:
    for variable, name in conf.watched:
        if name in facts.interfaces and (wrong := trouble(name, facts.interfaces[name])):
            yield variable, ODD, wrong


def trouble(name: str, interface: Interface) -> str:
    """Why nothing passes an interface, and what to do; "" if nothing is wrong with it."""
    if not interface.up:
        return f"{name} is down: ip link set dev {name} up"
    if not interface.carrier:
        return f"{name} has no carrier: check its cable and the port at the other end"
    return ""


def _version(address: str) -> int:
    return 6 if ":" in address else 4


def _own(conf: Conf, facts: Facts, name: str, version: int) -> list[Place]:
    """The addresses that the interface has whatever the role: a network of its own."""
    return [
        place
        for place in facts.held
        if (place.interface, place.version) == (name, version)
        and place.address not in conf.served
        and not ip_address(place.address).is_link_local
    ]


# --- The private link


def _private_link(conf: Conf, facts: Facts) -> Iterator[_Found]:
    link, primary, secondary = conf.plip_interface, conf.primary, conf.secondary
    ours = [place for place in facts.held if place.address == primary]
    theirs = next((place for place in facts.held if place.address == secondary), None)
    if link not in facts.interfaces:
        return
    if theirs and ours:
        way = f"ip addr del {theirs} dev {theirs.interface}, or correct $secondary"
        text = f"{secondary} is an address of this node, on {theirs.interface}: it must be the"
        yield "secondary", NEVER, f"{text} peer's; {way}"
    elif theirs:
        text = f"this node has $secondary, {secondary} on {theirs.interface}, and not $primary"
        way = "exchange $primary and $secondary"
        yield "primary", NEVER, f"{text}, {primary}: {way}"
    elif not ours:
        yield _absent(conf, facts)
    elif not ({link, LOOPBACK} & {place.interface for place in ours} or facts.narrowly):
        text = f"{primary} is on {ours[0].interface}, not on {link}"  # else the link is unnumbered
        yield "primary", NEVER, f"{text}: {_way_back(conf, ours[0], facts)}"
    elif facts.routed is False and facts.interfaces[link].up:
        text = f"{secondary} is outside the network of {link}, {ours[0]}"
        wide = _widened(primary)
        way = f"correct $secondary, or ip addr add {primary} peer {secondary} dev {link}"
        if wide.reaches(secondary):
            taken = f"ip addr del {ours[0]} dev {ours[0].interface}"
            way = f"{taken} and ip addr add {wide} dev {link}"
        yield "secondary", AMISS, f"{text}: {way}"


def _widened(address: str) -> Place:
    """The address with the prefix that is usual."""
    return Place("", address, USUAL[_version(address)])


def _absent(conf: Conf, facts: Facts) -> _Found:
    link, primary, wide = conf.plip_interface, conf.primary, _widened(conf.primary)
    others = " and ".join(map(str, _own(conf, facts, link, wide.version)))
    instead = f"; {link} has {others}" if others else ""
    written = wide if wide.reaches(conf.secondary) else f"{primary} peer {conf.secondary}"
    way = f"correct $primary, or ip addr add {written} dev {link}"
    text = f"{primary} is on no interface of this node"
    if trouble(link, facts.interfaces[link]):
        return "primary", ODD, f"{text}, and {link} does not work{instead}: {way}"
    way = f"{way}, which must also be there after a boot"
    return "primary", AMISS, f"{text}{instead}: {way}"


def _way_back(conf: Conf, ours: Place, facts: Facts) -> str:
    """What to do about the private address on another interface."""
    link, there = conf.plip_interface, ours.interface
    if there not in conf.interfaces:
        return f"$plip_interface = {quoted(there)}; or move the address"
    on_link = [*_own(conf, facts, link, 4), *_own(conf, facts, link, 6)]
    if any(place.reaches(served.address) for served in conf.addresses for place in on_link):
        return f"exchange {link} and {there} in the configuration"
    moved = f"ip addr del {ours} dev {there} and ip addr add {ours} dev {link}"
    return f"correct $plip_interface and @interfaces, or {moved}"


# --- The service addresses


def _astray(served: Address, facts: Facts) -> Iterator[_Found]:
    """On other interfaces than the one that is named for it."""
    for place in facts.held:
        there = place.interface
        if place.address != served.address or there == served.interface:
            continue
        text = f"{served.address} is on {there}, not on {served.interface}"
        if (there, place.address) in facts.left:
            yield "addresses", ODD, f"{text}: it moves with the next switch"
        else:
            # On lo it may be meant so: a load balancer's servers have it there, and answer no ARP.
            weight = ODD if there == LOOPBACK else AMISS
            yield "addresses", weight, f"{text}: ip addr del {place} dev {there}"


def _served(served: Address, conf: Conf, facts: Facts) -> Iterator[_Found]:
    name, address, version = served.interface, served.address, _version(served.address)
    own = _own(conf, facts, name, version)
    here = [place for place in facts.held if (place.interface, place.address) == (name, address)]
    if here and not facts.placed and own:
        text = f"{here[0]} is on {name} already, and not by failoverd: ip addr del {here[0]} dev"
        text = f"{text} {name}, also in the system's network configuration"
        yield "addresses", ODD, text
    elif here and not facts.placed:
        text = f"{here[0]} is this node's own address on {name}: name one that neither node has of"
        yield "addresses", AMISS, f"{text} its own"
    if trouble(name, facts.interfaces[name]):
        return
    others = [other for other in facts.interfaces if other not in (name, LOOPBACK)]
    right = [n for n in others if any(p.reaches(address) for p in _own(conf, facts, n, version))]
    near = [place for place in own if place.reaches(address)]
    if near:
        if served.prefix not in {ip_address(address).max_prefixlen, *(p.prefix for p in near)}:
            text = f'the network of {name} is that of {near[0]}: write "{name} {address}'
            yield "addresses", ODD, f'"{served}": {text}/{near[0].prefix}"'
    elif right:
        text = f"{address} is in the network of {right[0]}, not of {name}: name {right[0]} for it"
        wrong = own or right[0] == conf.plip_interface  # else both may be on the same network
        yield "addresses", AMISS if wrong else ODD, text
    elif own:
        text = f"{address} is outside the network of {name}, {' and '.join(map(str, own))}"
        yield "addresses", ODD, f"{text}: correct one of them"
    else:
        text = f"{name} has no IPv{version} address of this node's own beside @addresses"
        way = "give it one in their network, or this node cannot be reached there on standby"
        yield "addresses", ODD, f"{text}: {way}"


# --- Hardware addresses and probe targets


def _hardware(conf: Conf, facts: Facts) -> Iterator[_Found]:
    for entry in conf.ethernet_addresses:
        interface = facts.interfaces.get(entry.interface)
        if interface and interface.hwaddr == entry.hwaddr and not facts.placed:
            text = f"{entry.hwaddr} is the hardware address that {entry.interface} has of its own"
            way = "name one that neither node has, such as 02:00:00:00:00:10"
            yield "ethernet_addresses", AMISS, f"{text}: {way}"


def _targets(conf: Conf, facts: Facts) -> Iterator[_Found]:
    """Interfaces whose only probe targets are this node itself, which never answers itself.

    One file on both nodes may name the own addresses of both.
    """
    held = {place.address for place in facts.held}
    for name in dict.fromkeys(target.interface for target in conf.witness):
        targets = [each.address for each in conf.witness if each.interface == name]
        if held.issuperset(targets):
            text = f"{' and '.join(targets)} is this node itself, which is never answered by itself"
            way = f"name a router on {name}, or another machine that is always on"
            yield "witness", ODD, f"{text}: {way}"


def advice(conf: Conf, facts: Facts) -> list[str]:
    """What to do about interfaces of the service without a probe target (@witness)."""
    watched = {target.interface for target in conf.witness}
    bare = [name for name in conf.interfaces if name not in watched]
    if not bare:
        return []
    found = [f"{name} {facts.gateways[name]}" for name in bare if name in facts.gateways]
    way = "name a router there, or another machine that is always on, as @witness"
    if found:
        entries = ", ".join(_pasted(entry) for entry in [*map(str, conf.witness), *found])
        way = f"the default gateway is one: @witness = ({entries});"
    alone = [name for name in bare if name not in facts.asking]
    between = [name for name in bare if name not in alone]
    found = [f"no probe target on {' and '.join(bare)}: {way}"]
    if conf.low_water == 0:
        found.append(
            "with $low_water 0 the active node keeps its role however long its interfaces receive "
            'nothing; with a probe target, $low_water = "1"; gives it to the peer'
        )
    if conf.low_water and between:
        found.append(f"on {' and '.join(between)} the nodes probe only each other")
    if conf.low_water and alone:
        found.append(
            f"on {' and '.join(alone)} nothing is probed, as this node has no address of its own "
            "there: on a quiet network a port that does not receive is not given up, because the "
            "standby receives nothing either"
        )
    return found


def _pasted(entry: str) -> str:
    """As failoverd.conf shows it."""
    return quoted(entry) if set(entry) & set("'\\") else f"'{entry}'"
