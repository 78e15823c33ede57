"""A real pair on networks that do not pass every probe (RFC 9161), or carry more than ours."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable

import pytest

from dev.lab import logs
from dev.lab.network import FAST, SERVICE, SERVICE6, Lab
from dev.lab.node import Node, Value
from failoverd.wire import frames

ETH_P_ALL = 3
LIMIT = 60.0
SHARED = "02:00:00:00:00:10"
NETWORKS: list[tuple[str, dict[str, Value]]] = [
    (SERVICE, {"addresses": [f"eth0 {SERVICE}/24"]}),
    (SERVICE6, {"addresses": [f"eth0 {SERVICE6}/64"]}),
    (
        SERVICE,
        {"addresses": [f"eth0 {SERVICE}/24"], "ethernet_addresses": [f"eth0 {SHARED}"]},
    ),
]


def begin(lab: Lab, address: str, variables: dict[str, Value]) -> None:
    """Start the pair; wait until a alone has the address and each knows the other's interface."""
    for node in lab.nodes:
        node.write_conf(**variables, second_path=False)  # ARP alone tells
        node.start_failoverd()
    lab.wait_until(
        lambda: [node.role() for node in lab.nodes] == ["active", "standby"],
        "a is active, b stands by",
    )
    lab.wait_until(
        lambda: lab.a.hwaddr("eth0") in lab.b.read("run/state"),
        "b has asked a for its interfaces",
    )
    assert lab.holders(address) == ["a"]


def put_apart(lab: Lab, address: str, hwaddr: str) -> None:
    """Put b on a leaf of a fabric whose control plane knows that the address is at hwaddr."""
    port = lab.b.port("eth0")
    lab.switch.ip("link add name leaf type bridge mcast_snooping 0")
    lab.switch.check("sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/leaf/disable_ipv6")
    lab.switch.ip(
        "link set dev leaf up",
        f"link set dev {port} master leaf",
        "link add name t0 type veth peer name t1",
        *("link set dev t0 master net0 up", "link set dev t1 master leaf up"),
        *(f"link set dev {end} type bridge_slave neigh_suppress on" for end in ("t0", "t1")),
        f"neighbour replace {address} lladdr {hwaddr} dev leaf nud permanent",
    )


def told_by_the_fabric(node: Node, address: str) -> bool:
    """Whether an ordinary request for the address is answered there."""
    ours = "02:00:00:00:0d:01"
    if ":" in address:
        request = frames.probe_to(frames.BROADCAST, ours, "fe80::77", address)
    else:
        request = frames.request(ours, "192.0.2.77", address)
    with node.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as wire:
        wire.bind(("eth0", ETH_P_ALL))
        wire.settimeout(0.5)
        wire.send(request)
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            try:
                frame = wire.recv(2048)
            except TimeoutError:
                return False
            if frame[:6] == request[6:12]:
                return True
    return False


@pytest.mark.parametrize(("address", "variables"), NETWORKS)
def test_a_fabric_that_answers_for_every_host_hides_none_and_revives_none(
    make_lab: Callable[..., Lab], address: str, variables: dict[str, Value]
) -> None:
    lab = make_lab(ipv6=":" in address)
    begin(lab, address, variables)
    put_apart(lab, address, lab.a.hwaddr("eth0"))
    lab.cut_link()
    lab.wait_until(lambda: logs.told(lab.b.log(), "TAKEOVER-BLOCKED", "still answers"), "b finds a")
    time.sleep(4 * float(str(FAST["plip_timer"])))
    assert lab.holders(address) == ["a"]
    assert told_by_the_fabric(lab.b, address)
    lab.a.vanish()
    assert told_by_the_fabric(lab.b, address), "it does not answer for the dead: nothing is shown"
    lab.wait_until(lambda: lab.b.role() == "active", "b takes over from the dead")
    assert lab.holders(address) == ["a", "b"]  # whose kernel the power cut has left as it was


def test_another_customer_of_the_trunk_does_not_hold_a_takeover_off(lab: Lab) -> None:
    """In a VLAN that has no device here another host has the same address."""
    begin(lab, SERVICE, NETWORKS[0][1])
    claim = frames.gratuitous_arp("02:00:00:00:0d:01", SERVICE)[1]
    tagged = claim[:12] + struct.pack("!HH", 0x8100, 5) + claim[12:]
    with lab.client.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind(("eth0", 0))

        def b_takes_over() -> bool:
            wire.send(tagged)
            return lab.b.role() == "active"

        lab.a.vanish()
        lab.wait_until(b_takes_over, "b takes over")
    assert "still answers" not in lab.b.log()
