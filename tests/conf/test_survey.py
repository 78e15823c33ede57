"""What failoverd says of this node's network before it starts: the judgement, and the command."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from live_pair import LONG, WATCHED, carries, hang_up, kill, main_pid, pids, settled, start
from netns import TUN, cable, namespaces
from samples import STANDBY

from dev.lab.network import ROUTER, SERVICE, Lab
from dev.lab.node import PLIP, Node, Value
from failoverd import conf
from failoverd.conf import alike, survey
from failoverd.conf.survey import Facts, Held, Interface, Weight
from failoverd.tools import observe
from failoverd.tools.check import AS_USER
from failoverd.wire.protocol import InterfaceStatus

SETTINGS = """
@interfaces = ('eth0');
@addresses = ('eth0 192.0.2.10/24');
$low_water = 1;
"""
LINK, OWN = Held("plip0", "1.0.0.1", 24), Held("eth0", "192.0.2.1", 24)
HWADDR = "02:00:00:00:00:01"
SOUND = Facts(
    interfaces={"lo": Interface(), "eth0": Interface(hwaddr=HWADDR), "plip0": Interface()},
    held=(Held("lo", "127.0.0.1", 8), LINK, OWN),
    routed=True,
)
ODD, AMISS, NEVER = Weight


def judged(facts: Facts, more: str = "") -> list[tuple[str, Weight, str]]:
    settings = conf.parse(SETTINGS + more, "failoverd.conf")
    return [(each.variable, each.weight, each.text) for each in survey.findings(settings, facts)]


def test_of_many_addresses_with_the_same_fault_one_is_named() -> None:
    """Each fault of an interface is one line, of however many addresses."""
    many = [*(f"eth0 192.0.3.{n}/24" for n in range(1, 201)), "eth0 192.0.2.11/25"]
    facts = having(LINK, OWN, *(Held("plip0", f"192.0.3.{n}", 32) for n in range(1, 3)))
    texts = [text for *_, text in judged(facts, f"@addresses = ({', '.join(map(repr, many))});")]
    assert texts == [
        "192.0.3.1 is on plip0, not on eth0: ip addr del 192.0.3.1/32 dev plip0;"
        " and 1 more like it",
        "192.0.3.1 is outside the network of eth0, 192.0.2.1/24: correct one of them;"
        " and 199 more like it",
        '"eth0 192.0.2.11/25": the network of eth0 is that of 192.0.2.1/24: write '
        '"eth0 192.0.2.11/24"',
    ]


def test_thousands_of_addresses_are_looked_through_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a node that serves them would need minutes for each start."""
    asked = 0
    served = vars(conf.Conf)["served"].fget

    def counted(settings: conf.Conf) -> frozenset[str]:
        nonlocal asked
        asked += 1
        found: frozenset[str] = served(settings)
        return found

    monkeypatch.setattr(conf.Conf, "served", property(counted))
    many = [f"192.0.{n // 250}.{n % 250 + 3}" for n in range(1000)]
    facts = having(LINK, Held("eth0", "192.0.0.1", 16), *(Held("eth0", one, 16) for one in many))
    listed = ", ".join(f"'eth0 {one}/16'" for one in many)
    assert judged(replace(facts, placed=True), f"@addresses = ({listed});") == []
    assert asked < 10


def having(*held: Held, **changes: object) -> Facts:
    return replace(SOUND, held=held, **changes)  # type: ignore[arg-type]


def with_interface(name: str, state: Interface) -> Facts:
    return replace(SOUND, interfaces={**SOUND.interfaces, name: state})


PEER_TO_PEER = Held("plip0", "1.0.0.1", 32)
SERVED = Held("eth0", "192.0.2.10", 24)
V6 = '$primary = "fd00::1"; $secondary = "fd00::2"; @addresses = ("eth0 2001:db8::10/64");'
V6_HELD = (Held("plip0", "fd00::1", 64), Held("eth0", "2001:db8::1", 64))
WITHOUT_V6 = replace(
    having(*V6_HELD),
    interfaces={**SOUND.interfaces, "eth0": Interface(hwaddr=HWADDR, ipv6=False)},
)


@pytest.mark.parametrize(
    ("more", "hooks", "bars"),
    [("", False, True), ("", True, False), ("$addresses_by = 'script';", False, False)],
)
def test_disabled_ipv6_bars_a_takeover_where_nothing_enables_it(
    more: str, hooks: bool, bars: bool
) -> None:
    settings = conf.parse(f"{SETTINGS} {V6} {more}", "failoverd.conf")
    (found,) = survey.findings(settings, replace(WITHOUT_V6, hooks=hooks))
    assert (found.weight, found.bars) == (ODD, bars)


@pytest.mark.parametrize(
    ("facts", "more"),
    [
        (SOUND, ""),
        (having(PEER_TO_PEER, OWN), ""),  # a route leads to the peer, whatever the prefix
        (having(LINK, OWN, routed=None), ""),
        (having(Held("lo", "1.0.0.1", 32), OWN), ""),
        (having(Held("eth0", "1.0.0.1", 32), OWN, narrowly=True), ""),  # borrowed: unnumbered
        (having(LINK, OWN, Held("eth0", "1.0.0.1", 24)), ""),
        (having(LINK, OWN, SERVED, placed=True), ""),
        (having(LINK, Held("eth0", "192.0.2.10", 32), OWN, placed=True), ""),
        (having(*V6_HELD, Held("br9", "fe80::1", 64)), f"{V6} @addresses = ('eth0 fe80::1/64');"),
        (SOUND, "@addresses = ('eth0 192.0.2.10/32');"),
        (SOUND, "@addresses = ();"),
        (SOUND, "@witness = ('eth0 192.0.2.1', 'eth0 192.0.2.2');"),  # of both, in one file
        (having(*V6_HELD), V6),
        (replace(SOUND, placed=True), f"@ethernet_addresses = ('eth0 {HWADDR}');"),
        (SOUND, "@ethernet_addresses = ('eth0 02:00:00:00:00:10');"),
        # What is wrong with names that lead nowhere is told before.
        (Facts({}), ""),
        (SOUND, "@interfaces = ('eth7'); @addresses = ('eth7 192.0.2.10/24');"),
        (SOUND, "$plip_interface = 'plip7';"),
    ],
)
def test_what_is_right_is_not_found_wrong(facts: Facts, more: str) -> None:
    assert judged(facts, more) == []


NO_ADDRESS = (
    "eth0 has no IPv4 address of this node's own beside @addresses: give it one in their network, "
    "or this node cannot be reached there while standby"
)
WRONG: Mapping[str, tuple[Facts, str, list[tuple[str, Weight, str]]]] = {
    "the address on the heartbeat link is nowhere": (
        having(OWN),
        "",
        [
            (
                "primary",
                AMISS,
                "1.0.0.1 is on no interface of this node: correct $primary, or ip addr add "
                "1.0.0.1/24 dev plip0, which must also be there after a boot",
            )
        ],
    ),
    "IPv6 is disabled where it is needed": (
        WITHOUT_V6,
        V6,
        [
            (
                "addresses",
                ODD,
                "IPv6 is disabled on eth0, so it does not accept 2001:db8::10: sysctl -w "
                "net/ipv6/conf/eth0/disable_ipv6=0, or have a hook in $switch_dir do it",
            )
        ],
    ),
    "IPv6 is disabled, and a hook may enable it": (
        replace(WITHOUT_V6, hooks=True),
        V6,
        [
            (
                "addresses",
                ODD,
                "IPv6 is disabled on eth0, so it does not accept 2001:db8::10: sysctl -w "
                "net/ipv6/conf/eth0/disable_ipv6=0, or have a hook in $switch_dir do it",
            )
        ],
    ),
    "another one is in its place": (
        having(Held("plip0", "1.0.0.7", 24), Held("plip0", "fe80::1", 64), OWN),
        "",
        [
            (
                "primary",
                AMISS,
                "1.0.0.1 is on no interface of this node; plip0 has 1.0.0.7/24: correct $primary, "
                "or ip addr add 1.0.0.1/24 dev plip0, which must also be there after a boot",
            )
        ],
    ),
    "it may come with the link": (
        having(OWN, interfaces={**SOUND.interfaces, "plip0": Interface(carrier=False)}),
        "",
        [
            (
                "plip_interface",
                ODD,
                "plip0 has no carrier: check its cable and the port at the other end",
            ),
            (
                "primary",
                ODD,
                "1.0.0.1 is on no interface of this node, and plip0 does not work: correct "
                "$primary, or ip addr add 1.0.0.1/24 dev plip0",
            ),
        ],
    ),
    "the two are in no usual network": (
        having(OWN),
        "$primary = '10.0.0.1'; $secondary = '10.9.0.1';",
        [
            (
                "primary",
                AMISS,
                "10.0.0.1 is on no interface of this node: correct $primary, or ip addr add "
                "10.0.0.1/24 dev plip0, which must also be there after a boot",
            )
        ],
    ),
    "it is elsewhere": (
        having(OWN, Held("eth0", "1.0.0.1", 24)),
        "",
        [
            (
                "primary",
                NEVER,
                "1.0.0.1 is on eth0, not on plip0: correct $plip_interface, or ip addr del "
                "1.0.0.1/24 dev eth0 and ip addr add 1.0.0.1/24 dev plip0",
            )
        ],
    ),
    "it is on an interface that nothing names": (
        having(OWN, Held("eth1", "1.0.0.1", 24)),
        "",
        [
            (
                "primary",
                NEVER,
                "1.0.0.1 is on eth1, not on plip0: correct $plip_interface, or ip addr del "
                "1.0.0.1/24 dev eth1 and ip addr add 1.0.0.1/24 dev plip0",
            )
        ],
    ),
    "link and service are exchanged": (
        having(Held("plip0", "192.0.2.1", 24), Held("eth0", "1.0.0.1", 24)),
        "",
        [
            (
                "primary",
                NEVER,
                "1.0.0.1 is on eth0, not on plip0: correct $plip_interface, or ip addr del "
                "1.0.0.1/24 dev eth0 and ip addr add 1.0.0.1/24 dev plip0",
            ),
            (
                "addresses",
                AMISS,
                "192.0.2.10 is in the network of plip0, not of eth0: name plip0 for it",
            ),
        ],
    ),
    "ours and the peer's are exchanged": (
        having(Held("plip0", "1.0.0.2", 24), OWN),
        "",
        [
            (
                "primary",
                NEVER,
                "this node has $secondary, 1.0.0.2 on plip0, and not $primary, 1.0.0.1: exchange "
                "$primary and $secondary",
            )
        ],
    ),
    "both are here": (
        having(LINK, Held("plip0", "1.0.0.2", 24), OWN),
        "",
        [
            (
                "secondary",
                NEVER,
                "1.0.0.2 is an address of this node, on plip0: it must be the peer's; ip addr del "
                "1.0.0.2/24 dev plip0, or correct $secondary",
            )
        ],
    ),
    "the prefix is missing": (
        having(PEER_TO_PEER, OWN, routed=False),
        "",
        [
            (
                "secondary",
                AMISS,
                "1.0.0.2 is outside the network of plip0, 1.0.0.1/32: ip addr del 1.0.0.1/32 dev "
                "plip0 and ip addr add 1.0.0.1/24 dev plip0",
            )
        ],
    ),
    "the peer is in another network": (
        having(LINK, OWN, routed=False),
        "$secondary = '1.0.9.2';",
        [
            (
                "secondary",
                AMISS,
                "1.0.9.2 is outside the network of plip0, 1.0.0.1/24: correct $secondary, or the "
                "prefix",
            )
        ],
    ),
    "a link that is down has no routes": (
        replace(with_interface("plip0", Interface(up=False)), routed=False),
        "",
        [("plip_interface", ODD, "plip0 is down: ip link set dev plip0 up")],
    ),
    "the port is another's": (
        replace(SOUND, taken=True),
        "",
        [
            (
                "tcp_port",
                NEVER,
                "1.0.0.1 port 2000 is in use by another program: ss -ltnp shows which; end that, "
                "or set another $tcp_port on both nodes",
            )
        ],
    ),
    "no carrier, and nothing is said of networks": (
        having(LINK, interfaces={**SOUND.interfaces, "eth0": Interface(carrier=False)}),
        "",
        [
            (
                "interfaces",
                ODD,
                "eth0 has no carrier: check its cable and the port at the other end",
            )
        ],
    ),
    "a service address is elsewhere": (
        having(LINK, OWN, Held("eth1", "192.0.2.10", 25)),
        "",
        [
            (
                "addresses",
                AMISS,
                "192.0.2.10 is on eth1, not on eth0: ip addr del 192.0.2.10/25 dev eth1",
            )
        ],
    ),
    "a service address is where an earlier configuration had it": (
        having(LINK, OWN, Held("eth1", "192.0.2.10", 25), left=(("eth1", "192.0.2.10"),)),
        "",
        [
            (
                "addresses",
                ODD,
                "192.0.2.10 is on eth1, not on eth0: it moves with the next switch",
            )
        ],
    ),
    "a service address is on lo, as where load is balanced": (
        having(LINK, OWN, Held("lo", "192.0.2.10", 32)),
        "",
        [("addresses", ODD, "192.0.2.10 is on lo, not on eth0: ip addr del 192.0.2.10/32 dev lo")],
    ),
    "the only probe target is this node": (
        SOUND,
        "@witness = ('eth0 192.0.2.1');",
        [
            (
                "witness",
                ODD,
                "192.0.2.1 is this node itself, which is never answered by itself: name a router "
                "on eth0, or another host that is always up",
            )
        ],
    ),
    "a service address is there without failoverd": (
        having(LINK, OWN, SERVED),
        "",
        [
            (
                "addresses",
                ODD,
                "192.0.2.10/24 is on eth0 already, and not by failoverd: ip addr del 192.0.2.10/24 "
                "dev eth0, also in the system's network configuration",
            )
        ],
    ),
    "a service address is this node's own": (
        SOUND,
        "@addresses = ('eth0 192.0.2.1/24');",
        [
            (
                "addresses",
                AMISS,
                "192.0.2.1/24 is this node's own address on eth0: name one that neither node has "
                "of its own",
            ),
            ("addresses", ODD, NO_ADDRESS),
        ],
    ),
    "no address but those of the service, which are two": (
        having(LINK),
        "@addresses = ('eth0 192.0.2.10/24', 'eth0 192.0.2.11/24');",
        [("addresses", ODD, NO_ADDRESS)],
    ),
    "its family has no address": (
        SOUND,
        "@addresses = ('eth0 192.0.2.10/24', 'eth0 2001:db8::10/64');",
        [("addresses", ODD, NO_ADDRESS.replace("IPv4", "IPv6"))],
    ),
    "another prefix": (
        SOUND,
        "@addresses = ('eth0 192.0.2.10/16');",
        [
            (
                "addresses",
                ODD,
                '"eth0 192.0.2.10/16": the network of eth0 is that of 192.0.2.1/24: write "eth0 '
                '192.0.2.10/24"',
            )
        ],
    ),
    "another network": (
        SOUND,
        "@addresses = ('eth0 192.0.3.10/24');",
        [
            (
                "addresses",
                ODD,
                "192.0.3.10 is outside the network of eth0, 192.0.2.1/24: correct one of them",
            )
        ],
    ),
    "the network of another interface": (
        SOUND,
        "@addresses = ('eth0 1.0.0.10/24');",
        [
            (
                "addresses",
                AMISS,
                "1.0.0.10 is in the network of plip0, not of eth0: name plip0 for it",
            )
        ],
    ),
    "the network of another interface, and none of its own": (
        having(LINK, OWN, interfaces={**SOUND.interfaces, "eth1": Interface()}),
        "@interfaces = ('eth1'); @addresses = ('eth1 192.0.2.10/24');",
        [
            (
                "addresses",
                ODD,
                "192.0.2.10 is in the network of eth0, not of eth1: name eth0 for it",
            )
        ],
    ),
    "the network of the heartbeat link, and none of its own": (
        having(LINK),
        "@addresses = ('eth0 1.0.0.10/24');",
        [
            (
                "addresses",
                AMISS,
                "1.0.0.10 is in the network of plip0, not of eth0: name plip0 for it",
            )
        ],
    ),
    "an address that is no network's": (
        having(*V6_HELD[:1], Held("eth0", "fe80::1", 64)),
        V6,
        [("addresses", ODD, NO_ADDRESS.replace("IPv4", "IPv6"))],
    ),
    "a hardware address of its own": (
        SOUND,
        f"@ethernet_addresses = ('eth0 {HWADDR}');",
        [
            (
                "ethernet_addresses",
                AMISS,
                f"{HWADDR} is the hardware address that eth0 has of its own: name one that neither "
                "node has, such as 02:00:00:00:00:10",
            )
        ],
    ),
    "IPv6 without a route": (
        having(Held("plip0", "fd00::1", 128), V6_HELD[1], routed=False),
        V6,
        [
            (
                "secondary",
                AMISS,
                "fd00::2 is outside the network of plip0, fd00::1/128: ip addr del fd00::1/128 dev "
                "plip0 and ip addr add fd00::1/64 dev plip0",
            )
        ],
    ),
}


@pytest.mark.parametrize(("facts", "more", "found"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_with_the_way_out(
    facts: Facts, more: str, found: list[tuple[str, Weight, str]]
) -> None:
    if any(place.interface == "eth1" for place in facts.held):
        facts = replace(facts, interfaces={**facts.interfaces, "eth1": Interface()})
    assert judged(facts, more) == found


NAME_ONE = "name a router there, or another host that is always up, as @witness"


@pytest.mark.parametrize(
    ("more", "gateways", "lines"),
    [
        ("@witness = ('eth0 192.0.2.1');", {"eth0": "192.0.2.254"}, []),
        (
            "",
            {"eth0": "192.0.2.254"},
            [
                "no probe target on eth0: the default gateway is one: "
                "@witness = ('eth0 192.0.2.254');",
            ],
        ),
        ("", {}, [f"no probe target on eth0: {NAME_ONE}"]),
        (
            "@interfaces = ('eth0', 'eth1'); @witness = ('eth1 198.51.100.1');",
            {"eth0": "192.0.2.254", "eth1": "198.51.100.254"},
            [
                "no probe target on eth0: the default gateway is one: "
                "@witness = ('eth1 198.51.100.1', 'eth0 192.0.2.254');",
            ],
        ),
    ],
)
def test_a_probe_target_is_proposed(more: str, gateways: dict[str, str], lines: list[str]) -> None:
    settings = conf.parse(SETTINGS + more, "failoverd.conf")
    facts = replace(SOUND, gateways=gateways)
    assert survey.advice(settings, facts) == lines


# ------------------------------------------------------------------ the real command


def checked(node: Node, *before: str) -> tuple[int, str, str]:
    """failoverd -t: its exit status, its warnings and notes, and its errors. Whether the node
    has a user for failoverd alone is no matter of the network."""
    done = node.run(*before, *node._command("failoverd", "-t"))
    told = [line for line in done.stdout.splitlines() if line.startswith(("warning: ", "note: "))]
    said = [line for line in told if not line.startswith("note: $user is nobody")]
    return done.returncode, "\n".join(said), done.stderr


LINK_LINES = ("address flush dev plip0", "address flush dev eth0")
EXCHANGED = (*LINK_LINES, "address add 192.0.2.1/24 dev plip0", "address add 1.0.0.1/24 dev eth0")
MISTAKES: Mapping[str, tuple[tuple[str, ...], dict[str, Value], str, bool]] = {
    "exchanged interfaces": (EXCHANGED, {}, "$primary: 1.0.0.1 is on eth0, not on plip0: ", False),
    "the wrong interface": (
        ("address flush dev plip0", "address add 1.0.0.1/24 dev eth0"),
        {},
        "$primary: 1.0.0.1 is on eth0, not on plip0: ",
        False,
    ),
    "the file of the peer": (
        (),
        {"primary": "1.0.0.2", "secondary": "1.0.0.1"},
        "$primary: this node has $secondary, 1.0.0.1 on plip0, and not $primary, 1.0.0.2: ",
        False,
    ),
    "no address": (
        ("address flush dev plip0",),
        {},
        "$primary: 1.0.0.1 is on no interface of this node: ",
        True,
    ),
    "no prefix": (
        ("address flush dev plip0", "address add 1.0.0.1 dev plip0"),
        {},
        "$secondary: 1.0.0.2 is outside the network of plip0, 1.0.0.1/32: ",
        True,
    ),
    "another network": (
        (),
        {"secondary": "1.0.9.2"},
        "$secondary: 1.0.9.2 is outside the network of plip0, 1.0.0.1/24: ",
        True,
    ),
    "its own service address": (
        (),
        {"addresses": ["eth0 192.0.2.1/24"]},
        "@addresses: 192.0.2.1/24 is this node's own address on eth0: ",
        True,
    ),
    "its own hardware address": (
        (),
        {"ethernet_addresses": ["eth0 02:00:00:00:00:01"]},
        "@ethernet_addresses: 02:00:00:00:00:01 is the hardware address that eth0 has of its own",
        True,
    ),
}


UNUSUAL = {
    "an unnumbered link": (
        "address flush dev plip0",
        "address add 1.0.0.1/32 dev eth0",
        "route add 1.0.0.2/32 dev plip0 src 1.0.0.1",
    ),
    "a route for $primary alone": (
        "address flush dev plip0",
        "address add 1.0.0.1/32 dev plip0",
        "rule add from 1.0.0.1 table 77",
        "route add 1.0.0.2/32 dev plip0 table 77",
    ),
}


@pytest.mark.parametrize("lines", UNUSUAL.values(), ids=UNUSUAL)
def test_what_is_unusual_and_sound_is_taken(lab: Lab, lines: tuple[str, ...]) -> None:
    lab.a.ip(*lines)
    lab.a.write_conf()
    status, told, said = checked(lab.a)
    assert (status, said) == (0, "")
    assert "warning: " not in told
    assert lab.a.command("failoverd").returncode == 0


@pytest.mark.skipif(not os.access(TUN, os.R_OK | os.W_OK), reason=f"{TUN} may not be opened")
@pytest.mark.parametrize(("more", "never"), [((), True), (("eth0 192.0.2.10/24",), False)])
def test_no_takeover_is_promised_where_no_probe_can_be_sent(
    lab: Lab, more: tuple[str, ...], never: bool
) -> None:
    lab.a.ip("tuntap add dev tun0 mode tun", "address add 10.9.0.1/24 dev tun0")
    addresses = ["tun0 10.9.0.10/24", *more]
    lab.a.write_conf(interfaces=["eth0", "tun0"], addresses=addresses)
    told = lab.a.command("failoverd", "-t").stdout
    line = next(each for each in told.splitlines() if each.startswith("takeover after last"))
    assert line.endswith("  never  no ARP on tun0") is never


def test_a_default_route_makes_no_link_of_the_wrong_interface(lab: Lab) -> None:
    lab.a.ip(*EXCHANGED, "route add default via 192.0.2.254 dev plip0")
    lab.a.write_conf()
    assert "1.0.0.1 is on eth0, not on plip0: " in checked(lab.a)[2]


@pytest.mark.parametrize(("lines", "variables", "said", "starts"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_an_error_of_the_check_and_may_be_one_of_the_start(
    lab: Lab, lines: tuple[str, ...], variables: dict[str, Value], said: str, starts: bool
) -> None:
    lab.a.ip(*lines)
    lab.a.write_conf(**variables)
    status, _, errors = checked(lab.a)
    assert status == 1 and f": {said}" in errors, errors
    started = lab.a.command("failoverd")
    assert started.returncode == (0 if starts else 1)
    assert (f"failoverd: warning: {lab.a.conf}:" in started.stderr) is starts
    assert f": {said}" in started.stderr
    if starts:
        lab.wait_until(lambda: " STARTED " in lab.a.log(), "it runs")
        lab.wait_until(lambda: f": {said}" in lab.a.log(), "it says so")


def test_a_sound_network_is_no_matter_for_words_whatever_the_role(lab: Lab) -> None:
    """The addresses that failoverd has put there are its own affair, and so is its port."""
    shared = "02:00:00:00:00:10"
    start(lab, ethernet_addresses=[f"eth0 {shared}"], **WATCHED)
    for node in lab.nodes:
        assert checked(node) == (0, "", "")
    assert lab.a.hwaddr("eth0") == shared
    kill(lab.a, main_pid(lab.a))  # what it leaves is its own affair, too
    lab.wait_until(lambda: not pids(lab.a, "failoverd: listener"), "all of it has ended")
    assert lab.holders() == ["a"]
    status, said, errors = checked(lab.a)
    assert (status, errors) == (0, "") and "warning" not in said


def test_what_is_an_error_of_the_check_is_a_warning_of_the_status(lab: Lab) -> None:
    """Else all would be well where the service cannot be reached as it is set."""
    start(lab, **WATCHED)
    lab.wait_until(lambda: lab.a.command("ha-status").returncode == 0, "all is well")
    lab.a.ip("address add 192.0.2.10/24 dev plip0")
    for options in ((), ("--json",)):
        shown = lab.a.command("ha-status", *options)
        assert shown.returncode == 1
        assert "@addresses: 192.0.2.10 is on plip0, not on eth0: ip addr del" in shown.stdout
    said = checked(lab.a)
    assert said[0] == 1 and {f"ha-status: {line}" for line in said[2].splitlines()} == {
        *shown.stderr.splitlines()
    }
    lab.a.ip("address delete 192.0.2.10/24 dev plip0")
    lab.wait_until(lambda: lab.a.command("ha-status").returncode == 0, "all is well again")


def test_a_service_address_on_the_wrong_interface_can_be_corrected_by_hup(
    make_lab: Callable[..., Lab],
) -> None:
    """failoverd itself has put it there, so that is no reason to refuse what corrects it."""
    lab = make_lab(interfaces=2)
    wrong, right = (
        {"interfaces": [name], "addresses": [f"{name} {SERVICE}/24"]} for name in ("eth1", "eth0")
    )
    for node in lab.nodes:
        node.write_conf(**wrong)
        assert checked(node)[0] == 1
        assert node.command("failoverd").returncode == 0
    lab.wait_until(lambda: SERVICE in str(lab.a.addresses("eth1")), "a serves", LONG)
    for node in lab.nodes:
        node.write_conf(**right)
        assert checked(node)[0] == 0
        hang_up(node, said="configuration read again")
    lab.wait_until(lambda: "are added with the next switch" in lab.a.log(), "a says so")
    assert lab.a.command("ha-fail").returncode == 0
    lab.wait_until(lambda: settled(lab, lab.b), "b serves", LONG)
    assert SERVICE in str(lab.b.addresses("eth0"))
    assert SERVICE not in str(lab.a.addresses())


def test_an_address_that_comes_after_the_start_is_taken_up(lab: Lab) -> None:
    """The link of a node that boots alone has no carrier, and so the system gives it none."""
    lab.a.ip("address flush dev plip0")
    lab.a.unplug(PLIP)
    lab.wait_until(lambda: not carries(lab.a, PLIP), "the kernel tells it")
    lab.a.write_conf()
    status, said, errors = checked(lab.a)
    assert status == 0, errors
    assert "$plip_interface: plip0 has no carrier: check its cable" in said
    assert "$primary: 1.0.0.1 is on no interface of this node, and plip0 does not work" in said
    assert lab.a.command("failoverd").returncode == 0
    lab.wait_until(lambda: lab.holders() == ["a"], "it serves alone")
    lab.a.plug(PLIP)
    lab.a.ip("address add 1.0.0.1/24 dev plip0")
    lab.b.write_conf()
    lab.b.start_failoverd()
    lab.wait_until(lambda: settled(lab, lab.a), "it has a standby")


def test_a_running_daemon_is_not_refused_what_it_has_borne(lab: Lab) -> None:
    lab.a.write_conf()
    lab.a.start_failoverd()
    lab.wait_until(lambda: lab.holders() == ["a"], "it serves")
    lab.a.ip("address flush dev plip0", "address add 1.0.0.1/24 dev eth0")
    lab.a.write_conf(hold_down=3.0)
    hang_up(lab.a, said="configuration read again")
    lab.a.write_conf(secondary="1.0.0.3")
    hang_up(lab.a, said="configuration stays as it was")
    assert "1.0.0.1 is on eth0, not on plip0" in lab.a.log()


@pytest.mark.parametrize("place", ["1.0.0.1", "0.0.0.0"])
def test_a_port_that_is_in_use_is_an_error(lab: Lab, place: str) -> None:
    lab.a.write_conf()
    with lab.a.popen("nc", "-l", "-s", place, "-p", "2000"):
        lab.wait_until(lambda: ":2000" in lab.a.check("ss", "-ltn"), "the port is taken")
        status, _, errors = checked(lab.a)
        assert status == 1
        assert "1.0.0.1 port 2000 is in use by another program: ss -ltnp shows which" in errors
    with lab.a.popen("nc", "-l", "-s", "192.0.2.1", "-p", "2000"):
        lab.wait_until(lambda: ":2000" in lab.a.check("ss", "-ltn"), "another address has it")
        assert checked(lab.a)[0] == 0


def test_another_pair_has_the_port(lab: Lab) -> None:
    lab.a.write_conf()
    lab.a.start_failoverd()
    lab.wait_until(lambda: bool(lab.a.role()), "it listens")
    lab.a.write_conf(pidfile=f"{lab.a.folder}/run/pid2", state=f"{lab.a.folder}/run/state2")
    status, _, errors = checked(lab.a)
    assert status == 1 and "1.0.0.1 port 2000 is in use by another program" in errors


def test_the_proposal_can_be_pasted(lab: Lab) -> None:
    lab.a.ip(f"route add default via {ROUTER}")
    lab.a.write_conf(low_water=1)
    said = checked(lab.a)[1]
    line = re.search(r"^note: no probe target on eth0: .*(@witness = .*)$", said, re.MULTILINE)
    assert line and line[1] == f"@witness = ('eth0 {ROUTER}');"
    with (lab.a.outside / "failoverd.conf").open("a") as file:
        file.write(f"{line[1]}\n")
    status, said, _ = checked(lab.a)
    assert status == 0 and "probe" not in said


def test_what_lists_processes_is_tried(lab: Lab) -> None:
    lab.a.write_conf(ps="/usr/local/bin/no-such-ps ax")
    status, said, errors = checked(lab.a)
    assert status == 0, errors
    assert "$ps: /usr/local/bin/no-such-ps ax cannot be run: " in said
    assert 'No such file or directory; leave it out, or write $ps = "ps ax";' in said


def as_nobody(node: Node) -> tuple[str, ...]:
    """What a command begins with that an ordinary user types."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    words = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    tried = node.run(*words, *node._command("failoverd", "--version"))
    if tried.returncode != 0:  # the checkout or its Python may be in a closed folder
        pytest.skip(f"an ordinary user cannot run it from here: {tried.stderr.strip()[-200:]}")
    return words


def test_an_ordinary_user_gets_no_wrong_verdict(lab: Lab) -> None:
    nobody = as_nobody(lab.a)
    start(lab, **WATCHED)
    closed = f"{lab.a.folder}/closed"
    lab.a.check("mkdir", "-p", "-m", "700", closed, f"{closed}/logs")
    script = lab.a.write("closed/ha-switch", lab.a.read("ha-switch"), 0o755)
    lab.a.write_conf(log=f"{closed}/logs/log", failover_prog=script, **WATCHED)
    assert checked(lab.a)[0] == 0
    done = lab.a.run(*nobody, *lab.a._command("failoverd", "-t"))
    lines = done.stderr.splitlines()
    assert lines[-1] == f"failoverd: {AS_USER}"
    assert len(lines) == 4 and all("Permission denied" in line for line in lines[:-1]), lines
    assert not re.search("make it|put the program|cannot be run|in use|missing", done.stderr)
    told = f"{lab.a.conf}: undecided: no errors; not checked without root: 3\n"
    assert (done.returncode, done.stdout) == (1, told)
    with (lab.a.outside / "failoverd.conf").open("a") as file:
        file.write("$timer_seconds = 'soon';\n")
    done = lab.a.run(*nobody, *lab.a._command("failoverd", "-t"))
    told = "invalid: 1 error, no warnings, no notes; not checked without root: 3"
    assert (done.returncode, done.stdout) == (1, f"{lab.a.conf}: {told}\n")


def test_root_that_may_not_do_what_failoverd_must_is_told_before_the_start(lab: Lab) -> None:
    """As in a container."""
    if os.geteuid() != 0:
        pytest.skip("only root can give up a capability")
    lab.a.write_conf()
    status, _, errors = checked(lab.a, "setpriv", "--bounding-set=-net_admin")
    assert status == 1
    assert errors.endswith(
        ": @interfaces: failoverd cannot run without CAP_NET_ADMIN: a container must be given that "
        "(--cap-add), and a unit must not take it away\n"
    ), errors
    without = ("setpriv", "--bounding-set=-setgid")
    status, _, errors = checked(lab.a, *without)
    assert status == 1 and "$user: cannot become" in errors, errors
    done = lab.a.run(*without, *lab.a._command("failoverd", "-f"))
    assert done.returncode == 1 and "$user: cannot become" in done.stderr


def test_an_ordinary_user_who_sees_all_is_told_that_root_may_see_more(lab: Lab) -> None:
    nobody = as_nobody(lab.a)
    start(lab, **WATCHED)
    lab.a.check("chown", "65534", f"{lab.a.folder}/secret")
    status, said, errors = checked(lab.a, *nobody)
    assert status == 0, errors
    assert said == f"note: {AS_USER}"


def test_what_must_differ_and_does_not_is_told(lab: Lab) -> None:
    lab.b.write_conf()
    lab.b.write("host_type", "boot:master\n")
    lab.b.start_failoverd()
    lab.wait_until(lambda: lab.b.role() == "active", "b serves")
    lab.a.write_conf(ethernet_addresses=["eth0 02:00:00:00:00:02"])
    said = checked(lab.a)[1]
    assert "note: both nodes have boot:master in host_type: change one" in said
    assert "is the peer's own" not in said  # it is active, so that may be meant
    lab.a.write_conf()
    lab.a.start_failoverd()
    lab.wait_until(lambda: settled(lab, lab.b), "a stands by")


def test_the_peers_own_hardware_address_is_named() -> None:
    interfaces = (("eth0", InterfaceStatus("ok", 1, 1, HWADDR)),)
    settings = conf.parse(f"{SETTINGS} @ethernet_addresses = ('eth0 {HWADDR}');", "failoverd.conf")
    peer = replace(STANDBY, boot="slave", interfaces=interfaces)
    own = {"eth0": "02:00:00:00:00:09"}
    assert alike.clashes(settings, "master", own, peer) == [
        f"@ethernet_addresses: {HWADDR} is the peer's own on eth0: name one that neither node has"
    ]
    assert alike.clashes(settings, "master", own, replace(peer, role="active")) == []
    plain = conf.parse(SETTINGS, "failoverd.conf")
    assert alike.clashes(plain, "slave", own, peer) == [
        "both nodes have boot:slave in host_type: change one, and restart failoverd there"
    ]
    assert alike.clashes(plain, "master", {"eth0": HWADDR}, peer) == [
        f"eth0 has the hardware address {HWADDR} on both nodes, so that neither receives what the "
        "other sends: change it on one of them"
    ]


# ------------------------------------------------------------------ the facts


def test_the_default_gateway_over_each_interface_is_known() -> None:
    with namespaces(2) as (here, there):
        cable(here, "eth0", there, "eth0")
        here.ip("address add 192.0.2.1/24 dev eth0", "address add 2001:db8::1/64 dev eth0 nodad")
        here.ip("route add default via fe80::1 dev eth0")
        served = conf.parse("@interfaces = ('eth0');", "failoverd.conf")

        def has(gateway: str) -> None:
            assert observe.gather(served).gateways == {"eth0": gateway}

        here.call(lambda: has("fe80::1"))
        here.ip("route add default via 192.0.2.254")
        here.call(lambda: has("192.0.2.254"))


def test_where_ipv6_is_disabled_is_known() -> None:
    """In this network namespace, and not in the one of whoever has mounted /proc."""
    served = conf.parse("@interfaces = ('eth0');", "failoverd.conf")
    with namespaces(2) as (here, there):
        cable(here, "eth0", there, "eth0")
        for value, takes in (("1", False), ("0", True)):
            here.run("sh", "-c", f"echo {value} >/proc/sys/net/ipv6/conf/eth0/disable_ipv6")

            def has(takes: bool = takes) -> None:
                assert observe.gather(served).interfaces["eth0"].ipv6 is takes

            here.call(has)


def test_a_port_of_ipv6_is_found_in_the_tables_too() -> None:
    with namespaces(1) as (here,):
        here.ip("address add fd00::1/64 dev lo nodad")
        settings = conf.parse(V6 + "$plip_interface = 'lo'; @addresses = ();", "failoverd.conf")
        for place in ("fd00::1", "::"):
            with here.socket(socket.AF_INET6, socket.SOCK_STREAM) as taken:
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                taken.bind((place, 2000))
                taken.listen()

                def look() -> None:
                    assert observe.port_is_taken(settings)

                here.call(look)


def test_a_state_that_cannot_be_read_proves_nothing(tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert not observe.may_be_placed(str(state))
    state.write_text("{}")
    assert not observe.may_be_placed(str(state))
    state.chmod(0)
    if os.geteuid() != 0:
        assert observe.may_be_placed(str(state))
