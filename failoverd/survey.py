"""Whether the network of this node is the one that the configuration describes.

A judgement over facts that somebody else has gathered. What can never be right keeps failoverd from
starting; what may come right by itself, such as an address that comes after a boot, does not.
"""

from __future__ import annotations

import enum
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface

from failoverd.conf import Address, Conf
from failoverd.language import quoted

LOOPBACK = "lo"
USUAL = {4: 24, 6: 64}  # the prefix that a way out proposes


class Weight(enum.IntEnum):
    """What a finding means. `failoverd -t` takes the last two for errors, a start only the last."""

    ODD = 1  # it may be meant so, or is only out of order
    AMISS = 2  # it does not work as it is now, and may come right without another configuration
    NEVER = 3  # it cannot come right


@dataclass(frozen=True)
class Finding:
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


def findings(conf: Conf, facts: Facts) -> list[Finding]:
    """All that is wrong, in the order of NEEDED as far as it goes. A missing interface is left to
    whoever reads the configuration."""
    found = [*_unusable(conf, facts), *_private_link(conf, facts), *_port(conf, facts)]
    for served in conf.addresses:
        if served.interface in facts.interfaces:
            found += _served(served, conf, facts)
    return [*dict.fromkeys(found), *_hardware(conf, facts), *_targets(conf, facts)]


def _unusable(conf: Conf, facts: Facts) -> Iterator[Finding]:
    for variable, names in (
        ("interfaces", conf.interfaces),
        ("plip_interface", (conf.plip_interface,)),
    ):
        for name in names:
            if name in facts.interfaces and (wrong := trouble(name, facts.interfaces[name])):
                yield Finding(variable, Weight.ODD, wrong)


def trouble(name: str, interface: Interface) -> str:
    """Why nothing passes an interface, and what to do; "" if nothing is wrong with it."""
    if not interface.up:
        return f"{name} is down: ip link set dev {name} up"
    if not interface.carrier:
        return f"{name} has no carrier: check its cable and the port at the other end"
    return ""


def _works(name: str, facts: Facts) -> bool:
    return name in facts.interfaces and not trouble(name, facts.interfaces[name])


# --- The private link


def _private_link(conf: Conf, facts: Facts) -> Iterator[Finding]:
    link = conf.plip_interface
    ours = [place for place in facts.held if place.address == conf.primary]
    theirs = [place for place in facts.held if place.address == conf.secondary]
    if link not in facts.interfaces:
        return
    if theirs:
        yield _exchanged(conf, theirs[0], bool(ours))
    elif not ours:
        yield _absent(conf, facts)
    elif not ({link, LOOPBACK} & {place.interface for place in ours} or facts.narrowly):
        yield _elsewhere(conf, ours[0], facts)  # else the link is unnumbered, and borrows it
    elif facts.routed is False and facts.interfaces[link].up:
        yield _unrouted(conf, ours[0])


def _exchanged(conf: Conf, theirs: Place, both: bool) -> Finding:
    if both:
        text = (
            f"{conf.secondary} is an address of this node, on {theirs.interface}: it must be the "
            f"peer's; ip addr del {theirs} dev {theirs.interface}, or correct $secondary"
        )
        return Finding("secondary", Weight.NEVER, text)
    text = (
        f"this node has $secondary, {conf.secondary} on {theirs.interface}, and not $primary, "
        f"{conf.primary}: exchange $primary and $secondary"
    )
    return Finding("primary", Weight.NEVER, text)


def _absent(conf: Conf, facts: Facts) -> Finding:
    link, primary = conf.plip_interface, conf.primary
    others = [place for place in _own(conf, facts, link) if _version(place) == _of(primary)]
    instead = f"; {link} has {' and '.join(map(str, others))}" if others else ""
    if trouble(link, facts.interfaces[link]):
        because = f"{primary} is on no interface of this node, and {link} does not work"
        return Finding("primary", Weight.ODD, f"{because}{instead}: {_adding(conf)}")
    text = f"{primary} is on no interface of this node{instead}: {_adding(conf)}"
    return Finding("primary", Weight.AMISS, f"{text}, which must also be there after a boot")


def _adding(conf: Conf) -> str:
    """How the private link gets its address, in a network that has the peer's in it."""
    primary, link = ip_interface(conf.primary), conf.plip_interface
    near = ip_interface(f"{primary.ip}/{USUAL[primary.version]}")
    if ip_address(conf.secondary) in near.network:
        return f"correct $primary, or ip addr add {near} dev {link}"
    return f"correct $primary, or ip addr add {primary.ip} peer {conf.secondary} dev {link}"


def _elsewhere(conf: Conf, ours: Place, facts: Facts) -> Finding:
    link = conf.plip_interface
    text = f"{conf.primary} is on {ours.interface}, not on {link}"
    if ours.interface not in conf.interfaces:
        way = f"$plip_interface = {quoted(ours.interface)}; or move the address"
    elif any(_in_network_of(served, _own(conf, facts, link)) for served in conf.addresses):
        way = f"exchange {link} and {ours.interface} in the configuration"
    else:
        way = (
            f"correct $plip_interface and @interfaces, or ip addr del {ours} dev "
            f"{ours.interface} and ip addr add {ours} dev {link}"
        )
    return Finding("primary", Weight.NEVER, f"{text}: {way}")


def _unrouted(conf: Conf, ours: Place) -> Finding:
    link = conf.plip_interface
    wide = ip_interface(f"{ours.address}/{USUAL[_version(ours)]}")
    text = f"{conf.secondary} is outside the network of {link}, {ours}"
    if ip_address(conf.secondary) in wide.network:
        way = f"ip addr del {ours} dev {ours.interface} and ip addr add {wide} dev {link}"
    else:
        way = f"correct $secondary, or ip addr add {ours.address} peer {conf.secondary} dev {link}"
    return Finding("secondary", Weight.AMISS, f"{text}: {way}")


def _port(conf: Conf, facts: Facts) -> Iterator[Finding]:
    if facts.holder:
        text = (
            f"{conf.primary} port {conf.tcp_port} is in use by {facts.holder}: end that, or set "
            "another $tcp_port on both nodes"
        )
        yield Finding("tcp_port", Weight.NEVER, text)


# --- The service addresses


def _served(served: Address, conf: Conf, facts: Facts) -> Iterator[Finding]:
    name = served.interface
    astray = [p for p in facts.held if p.address == served.address and p.interface != name]
    for place in astray:
        text = f"{served.address} is on {place.interface}, not on {name}"
        if (place.interface, place.address) in facts.left:
            yield Finding("addresses", Weight.ODD, f"{text}: it moves with the next switch")
            continue
        # On lo it may be meant so: who balances load has it there, and sees that none answers ARP.
        weight = Weight.ODD if place.interface == LOOPBACK else Weight.AMISS
        way = f"ip addr del {place} dev {place.interface}"
        yield Finding("addresses", weight, f"{text}: {way}")
    own = [place for place in _own(conf, facts, name) if _version(place) == _of(served.address)]
    yield from _already_there(served, own, facts)
    if _works(name, facts):
        yield from _network(served, own, conf, facts)


def _already_there(served: Address, own: Sequence[Place], facts: Facts) -> Iterator[Finding]:
    name = served.interface
    here = [p for p in facts.held if (p.address, p.interface) == (served.address, name)]
    if not here or facts.placed:
        return
    place = here[0]
    if own:
        text = (
            f"{place} is on {name} already, and not by failoverd: ip addr del {place} dev {name}, "
            "also in the system's network configuration"
        )
        yield Finding("addresses", Weight.ODD, text)
        return
    text = (
        f"{place} is this node's own address on {name}: name one that neither node has of its own"
    )
    yield Finding("addresses", Weight.AMISS, text)


def _network(served: Address, own: Sequence[Place], conf: Conf, facts: Facts) -> Iterator[Finding]:
    """Whether the address belongs to a network that its interface has without it."""
    name = served.interface
    near = [place for place in own if _in_network_of(served, [place])]
    others = (other for other in facts.interfaces if other not in (name, LOOPBACK))
    right = next((n for n in others if _in_network_of(served, _own(conf, facts, n))), None)
    if near:
        if served.prefix not in {ip_address(served.address).max_prefixlen, *_prefixes(near)}:
            text = f'the network of {name} is that of {near[0]}: write "{name} {served.address}'
            yield Finding("addresses", Weight.ODD, f'"{served}": {text}/{near[0].prefix}"')
    elif right is not None:
        text = f"{served.address} is in the network of {right}, not of {name}: name {right} for it"
        wrong = own or right == conf.plip_interface  # else both may be on the same network
        yield Finding("addresses", Weight.AMISS if wrong else Weight.ODD, text)
    elif own:
        networks = " and ".join(map(str, own))
        text = f"{served.address} is outside the network of {name}, {networks}: correct one of them"
        yield Finding("addresses", Weight.ODD, text)
    else:
        kind = f"IPv{_of(served.address)}"
        text = (
            f"{name} has no {kind} address of this node's own beside @addresses: give it one in "
            "their network, or this node cannot be reached there on standby"
        )
        yield Finding("addresses", Weight.ODD, text)


def _own(conf: Conf, facts: Facts, name: str) -> list[Place]:
    """The addresses that the interface has whatever the role: a network of its own."""
    moving = conf.served
    return [
        place
        for place in facts.held
        if place.interface == name
        and place.address not in moving
        and not ip_address(place.address).is_link_local
    ]


def _in_network_of(served: Address, places: Sequence[Place]) -> bool:
    address = ip_address(served.address)
    return any(address in ip_interface(str(place)).network for place in places)


def _prefixes(places: Sequence[Place]) -> set[int]:
    return {place.prefix for place in places}


def _version(place: Place) -> int:
    return _of(place.address)


def _of(address: str) -> int:
    return 6 if ":" in address else 4


# --- Hardware addresses


def _hardware(conf: Conf, facts: Facts) -> Iterator[Finding]:
    for entry in conf.ethernet_addresses:
        interface = facts.interfaces.get(entry.interface)
        if interface and interface.hwaddr == entry.hwaddr and not facts.placed:
            text = (
                f"{entry.hwaddr} is the hardware address that {entry.interface} has of its own: "
                "name one that neither node has, such as 02:00:00:00:00:10"
            )
            yield Finding("ethernet_addresses", Weight.AMISS, text)


# --- Probe targets


def _targets(conf: Conf, facts: Facts) -> Iterator[Finding]:
    """Interfaces whose only probe targets are this node itself, which never answers itself.

    One file on both nodes may name the own addresses of both.
    """
    held = {place.address for place in facts.held}
    for name in dict.fromkeys(target.interface for target in conf.witness):
        targets = [each.address for each in conf.witness if each.interface == name]
        if held.issuperset(str(ip_address(target)) for target in targets):
            text = (
                f"{' and '.join(targets)} is this node itself, which is never answered by itself: "
                f"name a router on {name}, or another machine that is always on"
            )
            yield Finding("witness", Weight.ODD, text)


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
