"""Whether the network of this node is the one that the configuration describes.

A judgement over facts that `tools.observe` has gathered. What can never be right keeps failoverd
from starting; what may come right by itself, such as an address that comes after a boot, does not.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface
from typing import NamedTuple

from failoverd.conf import Address, Conf, is_of_link

LOOPBACK = "lo"
USUAL = {4: 24, 6: 64}  # the prefix that a way out proposes


class Weight(enum.IntEnum):
    """What a finding means. `failoverd -t` takes the last two for errors, a start only the last."""

    ODD = 1  # it may be meant so, or is only out of order
    AMISS = 2  # it does not work as it is now, and may come right without another configuration
    NEVER = 3  # it cannot come right


ODD, AMISS, NEVER = Weight


class Finding(NamedTuple):
    """What is wrong with what a variable of the configuration (without sigil) stands for. bars:
    whether a takeover fails for it as it is now, whatever its weight."""

    variable: str
    text: str
    weight: Weight
    bars: bool = False

    @property
    def is_error(self) -> bool:
        """Whether it does not work as it is now."""
        return self.weight >= Weight.AMISS


@dataclass(frozen=True)
class Interface:
    """An interface that is there. hwaddr: the one it has now, None if it is no ethernet; ipv6:
    whether it takes such addresses."""

    up: bool = True
    carrier: bool = True
    hwaddr: str | None = None
    ipv6: bool = True


class Held(NamedTuple):
    """An IP address that this node has. prefix: of its network, in bits.

    duplicate: another host was found to have it, so that the kernel does not answer for it
    (IPv6). temporary: for privacy, it ends after some days and another takes its place (RFC 8981).
    """

    interface: str
    address: str
    prefix: int
    duplicate: bool = False
    temporary: bool = False

    def __str__(self) -> str:
        return f"{self.address}/{self.prefix}"

    @property
    def version(self) -> int:
        return _version(self.address)

    def reaches(self, address: str) -> bool:
        """Whether the address is in its network."""
        return ip_address(address) in _network_of(self)


@dataclass(frozen=True)
class Facts:
    """This node's network as it is now.

    routed: whether a route leads to $secondary over the heartbeat link; None if that is unknown.
    narrowly: whether that is another route than a default one.
    gateways: the default gateway over each interface that has one.
    taken: whether another program has the port.
    placed: whether failoverd has put the service addresses on their interfaces, or may have.
    left: interface and address of each that it has put somewhere, by an earlier configuration too.
    hooks: whether $switch_dir has any, or may have, which prepare an interface for its addresses.
    """

    interfaces: Mapping[str, Interface]
    held: Sequence[Held] = ()
    routed: bool | None = None
    narrowly: bool = False
    gateways: Mapping[str, str] = field(default_factory=dict)
    taken: bool = False
    placed: bool = False
    left: Sequence[tuple[str, str]] = ()
    hooks: bool = False


@lru_cache(1 << 13)
def _network_of(place: Held) -> IPv4Network | IPv6Network:
    return ip_interface(str(place)).network


class _Addresses:
    """Those of this node, sorted once, as there may be thousands. `own`: by interface and version,
    what it has there whatever the role, which is a network of its own."""

    def __init__(self, conf: Conf, facts: Facts) -> None:
        served = conf.served
        self.at: dict[str, list[Held]] = {}
        self.own: dict[tuple[str, int], list[Held]] = {}
        for place in facts.held:
            self.at.setdefault(place.address, []).append(place)
            if place.address not in served and not ip_address(place.address).is_link_local:
                self.own.setdefault((place.interface, place.version), []).append(place)


# The variables that a judgement rests on.
NEEDED = (
    *("interfaces", "plip_interface", "primary", "secondary", "tcp_port"),
    *("addresses", "ethernet_addresses"),
)


def findings(conf: Conf, facts: Facts) -> list[Finding]:
    """All that is wrong, in the order of NEEDED as far as it goes. A missing interface is left to
    the check of the configuration."""
    here = _Addresses(conf, facts)
    found = [*_no_traffic(conf, facts), *_heartbeat_link(conf, facts, here), *_port(conf, facts)]
    found += _service_addresses(conf, facts, here)
    found += [*_hardware(conf, facts), *_targets(conf, facts)]
    return list(dict.fromkeys(found))


def _no_traffic(conf: Conf, facts: Facts) -> Iterator[Finding]:
    for variable, name in conf.watched:
        if name in facts.interfaces and (wrong := trouble(name, facts.interfaces[name])):
            yield Finding(variable, wrong, ODD)


def trouble(name: str, interface: Interface) -> str:
    """Why an interface carries no traffic, and the way out; "" if nothing is wrong with it."""
    if not interface.up:
        return f"{name} is down: ip link set dev {name} up"
    if not interface.carrier:
        return f"{name} has no carrier: check its cable and the port at the other end"
    return ""


def _version(address: str) -> int:
    return 6 if ":" in address else 4


def _port(conf: Conf, facts: Facts) -> Iterator[Finding]:
    if facts.taken:
        text = f"{conf.primary} port {conf.tcp_port} is in use by another program"
        way = "ss -ltnp shows which; end that, or set another $tcp_port on both nodes"
        yield Finding("tcp_port", f"{text}: {way}", NEVER)


def _heartbeat_link(conf: Conf, facts: Facts, here: _Addresses) -> Iterator[Finding]:
    link, primary, secondary = conf.plip_interface, conf.primary, conf.secondary
    ours = here.at.get(primary, [])
    theirs = next(iter(here.at.get(secondary, [])), None)
    usual = Held(link, primary, USUAL[_version(primary)])
    add = f"ip addr add {usual} dev {link}"
    if link not in facts.interfaces:
        return
    if theirs and ours:
        text = f"{secondary} is an address of this node, on {theirs.interface}: it must be the"
        way = f"ip addr del {theirs} dev {theirs.interface}, or correct $secondary"
        yield Finding("secondary", f"{text} peer's; {way}", NEVER)
    elif theirs:
        text = f"this node has $secondary, {secondary} on {theirs.interface}, and not $primary"
        yield Finding("primary", f"{text}, {primary}: exchange $primary and $secondary", NEVER)
    elif not ours:
        others = " and ".join(map(str, here.own.get((link, usual.version), [])))
        text = f"{primary} is on no interface of this node"
        instead = f"; {link} has {others}" if others else ""
        if trouble(link, facts.interfaces[link]):
            text, weight, more = f"{text}, and {link} does not work", ODD, ""
        else:
            weight, more = AMISS, ", which must also be there after a boot"
        yield Finding("primary", f"{text}{instead}: correct $primary, or {add}{more}", weight)
    elif not ({link, LOOPBACK} & {place.interface for place in ours} or facts.narrowly):
        there = ours[0].interface  # if a narrow route leads to the peer, the link is unnumbered
        way = f"correct $plip_interface, or ip addr del {ours[0]} dev {there} and"
        add = f"ip addr add {ours[0]} dev {link}"
        yield Finding("primary", f"{primary} is on {there}, not on {link}: {way} {add}", NEVER)
    elif facts.routed is False and facts.interfaces[link].up:
        text = f"{secondary} is outside the network of {link}, {ours[0]}"
        way = "correct $secondary, or the prefix"
        if usual.reaches(secondary):
            way = f"ip addr del {ours[0]} dev {ours[0].interface} and {add}"
        yield Finding("secondary", f"{text}: {way}", AMISS)


# --- The service addresses


def _service_addresses(conf: Conf, facts: Facts, here: _Addresses) -> Iterator[Finding]:
    """Of many with the same fault on an interface the first is told, and how many there are."""
    found: dict[tuple[str, str], dict[Finding, None]] = {}
    for served in conf.addresses:
        if served.interface in facts.interfaces:
            faults = *_astray(served, facts, here), *_placed(served, facts, here)
            for one in (*faults, *_network(served, conf, facts, here)):
                cause = one.text.replace(served.address, "")
                found.setdefault((served.interface, cause), {})[one] = None
    for first, *others in found.values():
        more = f"; and {len(others)} more like it" if others else ""
        yield first._replace(text=first.text + more)


def _astray(served: Address, facts: Facts, here: _Addresses) -> Iterator[Finding]:
    """On other interfaces than the one that is named for it."""
    for place in here.at.get(served.address, []):
        there = place.interface
        if there == served.interface or is_of_link(served.address):
            continue  # a link-local one is another one on each link
        # On lo it may be meant so: a load balancer's servers have it there, and answer no ARP.
        weight, way = ODD if there == LOOPBACK else AMISS, f"ip addr del {place} dev {there}"
        if (there, place.address) in facts.left:
            weight, way = ODD, "it moves with the next switch"
        text = f"{served.address} is on {there}, not on {served.interface}: {way}"
        yield Finding("addresses", text, weight)


def _placed(served: Address, facts: Facts, here: _Addresses) -> Iterator[Finding]:
    """On its interface, although failoverd has not put it there."""
    name = served.interface
    there = [place for place in here.at.get(served.address, []) if place.interface == name]
    if not there or facts.placed:
        return
    if here.own.get((name, _version(served.address))):
        text = f"{there[0]} is on {name} already, and not by failoverd: ip addr del {there[0]} dev"
        text = f"{text} {name}, also in the system's network configuration"
        yield Finding("addresses", text, ODD)
    else:
        text = f"{there[0]} is this node's own address on {name}"
        yield Finding("addresses", f"{text}: name one that neither node has of its own", AMISS)


def _network(served: Address, conf: Conf, facts: Facts, here: _Addresses) -> Iterator[Finding]:
    """In no network of its interface."""
    name, address, version = served.interface, served.address, _version(served.address)
    if version == 6 and not facts.interfaces[name].ipv6:
        text = f"IPv6 is disabled on {name}, so it does not accept {address}"
        way = f"sysctl -w net/ipv6/conf/{name}/disable_ipv6=0, or have a hook in $switch_dir do it"
        enabled = facts.hooks or conf.addresses_by == "script"  # by the time that it is added
        yield Finding("addresses", f"{text}: {way}", ODD, not enabled)
        return
    if trouble(name, facts.interfaces[name]) or is_of_link(address):
        return  # the network of a link-local one is on every interface
    own = here.own.get((name, version), [])
    near = [place for place in own if place.reaches(address)]
    others = [other for other in facts.interfaces if other not in (name, LOOPBACK)]
    right = [n for n in others if any(p.reaches(address) for p in here.own.get((n, version), []))]
    if near:
        if served.prefix not in {ip_address(address).max_prefixlen, *(p.prefix for p in near)}:
            text = f'the network of {name} is that of {near[0]}: write "{name} {address}'
            yield Finding("addresses", f'"{served}": {text}/{near[0].prefix}"', ODD)
    elif right:
        text = f"{address} is in the network of {right[0]}, not of {name}: name {right[0]} for it"
        wrong = own or right[0] == conf.plip_interface  # else both may be on the same network
        yield Finding("addresses", text, AMISS if wrong else ODD)
    elif own:
        text = f"{address} is outside the network of {name}, {' and '.join(map(str, own))}"
        yield Finding("addresses", f"{text}: correct one of them", ODD)
    else:
        text = f"{name} has no IPv{version} address of this node's own beside @addresses"
        way = "give it one in their network, or this node cannot be reached there while standby"
        yield Finding("addresses", f"{text}: {way}", ODD)


# --- Hardware addresses and probe targets


def _hardware(conf: Conf, facts: Facts) -> Iterator[Finding]:
    for entry in conf.ethernet_addresses:
        interface = facts.interfaces.get(entry.interface)
        if interface and interface.hwaddr == entry.hwaddr and not facts.placed:
            text = f"{entry.hwaddr} is the hardware address that {entry.interface} has of its own"
            way = "name one that neither node has, such as 02:00:00:00:00:10"
            yield Finding("ethernet_addresses", f"{text}: {way}", AMISS)


def _targets(conf: Conf, facts: Facts) -> Iterator[Finding]:
    """Interfaces whose only probe targets are this node itself, which never answers itself.

    One file on both nodes may name the own addresses of both.
    """
    held = {place.address for place in facts.held}
    for name in dict.fromkeys(target.interface for target in conf.witness):
        targets = [each.address for each in conf.witness if each.interface == name]
        if held.issuperset(targets):
            text = f"{' and '.join(targets)} is this node itself, which is never answered by itself"
            way = f"name a router on {name}, or another host that is always up"
            yield Finding("witness", f"{text}: {way}", ODD)


def advice(conf: Conf, facts: Facts) -> list[str]:
    """What to do about service interfaces without a probe target (@witness)."""
    watched = {target.interface for target in conf.witness}
    bare = [name for name in conf.interfaces if name not in watched]
    if not bare:
        return []
    gateways = [f"{name} {facts.gateways[name]}" for name in bare if name in facts.gateways]
    way = "name a router there, or another host that is always up, as @witness"
    if gateways:
        entries = ", ".join(f"'{entry}'" for entry in [*map(str, conf.witness), *gateways])
        way = f"the default gateway is one: @witness = ({entries});"
    return [f"no probe target on {' and '.join(bare)}: {way}"]
