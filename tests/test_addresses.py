"""Addresses put and taken by rtnetlink on real interfaces: what moves, what stays, what is said."""

from __future__ import annotations

import itertools
import os
import re
import resource
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from inside import inside, ip
from netns import Namespace, at_rest, two_cabled
from processes import wait_until
from test_ha_switch import FOREIGN, has_local_routes, hwaddr, inhabit, state
from test_ha_switch import addresses as shown

from failoverd import addresses, links
from failoverd.addresses import Kernel, Result

OWN, SHARED = "02:00:00:00:0a:01", "02:00:00:00:00:10"
V4, V6, OTHER = "eth0 192.0.2.10/24", "eth0 2001:db8::10/64", "eth1 198.51.100.10/24"
MOVING = f"eth0 {SHARED}"
KNOWN = {"eth0": OWN}
SERVED = socket.inet_aton("192.0.2.10")


@pytest.fixture(scope="module")
def lasting() -> Iterator[list[Namespace]]:
    with two_cabled() as made:
        yield made


@pytest.fixture
def node(lasting: list[Namespace]) -> Namespace:
    lasting[0].ip(
        *("link delete mv1", "link delete mv2", "link delete ifb7"),
        *("link set ens3 down", "link set ens3 name eth0"),
        *("address flush dev eth0", "address flush dev eth1", "address flush dev lo"),
        *(f"link set eth0 address {OWN} down", "link set eth0 up"),
        *("link set eth1 address 02:00:00:00:0a:02 down", "link set eth1 up"),
        force=True,
    )
    for name in ("eth0", "eth1"):
        lasting[0].run("sh", "-c", f"echo 0 >/proc/sys/net/ipv6/conf/{name}/accept_dad")
        at_rest(lasting[0], name)
    return lasting[0]


def put(node: Namespace, *wanted: str, hwaddrs: tuple[str, ...] = ()) -> None:
    """Must go without a problem."""
    inside(node, lambda: no_problem(addresses.put(Kernel(), wanted, hwaddrs)))


def take(node: Namespace, *wanted: str, hwaddrs: tuple[str, ...] = ()) -> None:
    inside(node, lambda: no_problem(addresses.take(Kernel(), wanted, hwaddrs, KNOWN)))


def no_problem(result: Result) -> None:
    assert result.problems == []


def says(node: Namespace, work: Callable[[], Result], *problems: str) -> None:
    """The work goes wrong in exactly these ways."""

    def check() -> None:
        found = work().problems
        assert len(found) == len(problems), found
        for told, expected in zip(found, problems, strict=True):
            assert told.startswith(expected), told

    inside(node, check)


# ------------------------------------------------------------------ there and back


def test_there_and_back(node: Namespace) -> None:
    """Every kind of address, and all else stays as it is."""
    inhabit(node)
    before = state(node)
    put(node, V4, V6, OTHER, hwaddrs=(MOVING,))
    assert shown(node, "eth0") == FOREIGN | {"192.0.2.10/24", "2001:db8::10/64"}
    assert shown(node, "eth1") == {"198.51.100.5/24", "198.51.100.10/24"}
    assert hwaddr(node) == SHARED
    take(node, V4, V6, OTHER, hwaddrs=(MOVING,))
    assert state(node) == before


def test_twice_is_once(node: Namespace) -> None:
    before = state(node)
    take(node, V4, V6, hwaddrs=(MOVING,))
    assert state(node) == before
    put(node, V4, V6, hwaddrs=(MOVING,))
    active = state(node)
    put(node, V4, V6, hwaddrs=(MOVING,))
    assert state(node) == active
    for _ in range(2):
        take(node, V4, V6, hwaddrs=(MOVING,))
        assert state(node) == before


def test_an_address_is_as_ip_would_have_added_it(node: Namespace) -> None:
    """Labels, scopes and all: what a site's own commands rely on does not change."""
    put(node, V4, "eth0 192.0.2.11/32", V6)
    by_netlink = state(node)
    take(node, V4, "eth0 192.0.2.11/32", V6)
    node.ip("address replace 192.0.2.10/24 dev eth0", "address replace 192.0.2.11/32 dev eth0")
    node.ip("address replace 2001:db8::10/64 dev eth0 nodad")
    assert state(node) == by_netlink


def test_ipv6_serves_at_once_though_another_has_it(
    lasting: list[Namespace], node: Namespace
) -> None:
    """The search for duplicates takes a second, and what the peer sent last could end it."""
    node.run("sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/eth0/accept_dad")
    lasting[1].ip("address add 2001:db8::10/64 dev far nodad")
    try:
        put(node, V6)
        (shown_there,) = node.show("-6", "address", "show", "dev", "eth0")
        (found,) = [one for one in shown_there["addr_info"] if one.get("local") == "2001:db8::10"]
        assert found.get("nodad")
        assert not found.get("tentative")
    finally:
        lasting[1].ip("address del 2001:db8::10/64 dev far")


def test_what_another_host_was_found_to_have_is_put_again(
    lasting: list[Namespace], node: Namespace
) -> None:
    """The kernel does not answer for it, and says that it is there."""
    node.run("sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/eth0/accept_dad")
    lasting[1].ip("address add 2001:db8::10/64 dev far nodad")
    wait_until(lambda: has_local_routes(lasting[1]))  # before that it gives no answer

    def found() -> list[bool]:
        return [one.duplicate for one in links.held() if one.address == "2001:db8::10"]

    def check() -> None:
        ip("address add 2001:db8::10/128 dev eth0")
        limit = time.monotonic() + 30.0
        while found() != [True]:
            assert time.monotonic() < limit
            time.sleep(0.05)
        assert addresses.put(Kernel(), (V6,), ()) == Result([], [], 1)
        assert found() == [False]
        assert addresses.put(Kernel(), (V6,), ()) == Result([], [], 0)

    try:
        inside(node, check)
        assert shown(node, "eth0") == {"2001:db8::10/64"}
    finally:
        lasting[1].ip("address del 2001:db8::10/64 dev far")


# ------------------------------------------------------------------ what stays


@pytest.mark.parametrize("promote", [0, 1])
@pytest.mark.parametrize("prefix", [24, 32])
def test_secondary_addresses_outlive_the_primary(
    node: Namespace, promote: int, prefix: int
) -> None:
    """The pair's address came first, so the site's own depend on it."""
    knob = "/proc/sys/net/ipv4/conf/eth0/promote_secondaries"
    node.run("sh", "-c", f"echo {promote} >{knob}")
    served = f"eth0 192.0.2.10/{prefix}", "eth0 192.0.2.11/24", V6
    put(node, *served)
    inhabit(node)
    take(node, *served)
    assert shown(node, "eth0") == FOREIGN
    assert node.run("cat", knob).stdout.strip() == str(promote)
    routes = node.run("ip", "-4", "route", "show", "table", "all").stdout
    assert "default via 192.0.2.1 dev eth0 src 192.0.2.5 mtu lock 1400" in routes
    assert "10.2.0.0/16 via 10.1.0.9 dev eth0 table 100" in routes
    assert "192.0.2.10" not in routes


def test_where_settings_cannot_be_written_secondaries_stay_too(node: Namespace) -> None:
    """As in a container, whose /proc/sys is read-only."""
    node.run("sh", "-c", "echo 0 >/proc/sys/net/ipv4/conf/eth0/promote_secondaries")
    put(node, V4)
    node.ip("address add 192.0.2.5/24 dev eth0")
    node.run("mount", "-o", "bind,ro", "/proc/sys", "/proc/sys", check=False)
    try:
        take(node, V4)
    finally:
        node.run("umount", "/proc/sys", check=False)
    assert shown(node, "eth0") == {"192.0.2.5/24"}


@pytest.mark.parametrize("dev", ["eth0", "eth1"])
def test_the_nodes_own_route_to_the_network_stays_the_only_one(node: Namespace, dev: str) -> None:
    """One with a metric would come second to the one that an address brings."""
    node.ip(f"address add 192.0.2.5/32 dev {dev}")
    node.ip(f"route add 192.0.2.0/24 dev {dev} src 192.0.2.5 metric 100")
    before = node.show("route", "show")
    put(node, V4, "eth0 192.0.2.11/24")
    assert node.show("route", "show") == before
    take(node, V4, "eth0 192.0.2.11/24")
    assert node.show("route", "show") == before


def test_an_address_alone_in_its_network_brings_the_route(node: Namespace) -> None:
    node.ip("address add 198.51.100.5/24 dev eth1", "route add default via 198.51.100.1")
    put(node, V4)
    assert "192.0.2.0/24" in {route["dst"] for route in node.show("route", "show")}


COPIES = (
    "192.0.2.10/32 dev eth0",
    "192.0.2.10/24 dev eth1",
    "192.0.2.10/32 dev lo",
    "192.0.2.10 peer 192.0.2.99/32 dev eth1",
    "192.0.2.10/16 dev eth0 label eth0:x",
    "2001:db8::10/128 dev eth1 nodad",
    "2001:db8::10/64 dev lo",
)


def test_a_standby_has_the_address_nowhere(node: Namespace) -> None:
    """Whatever its prefix, its interface and its peer: the node would answer for it."""
    inhabit(node)
    node.ip("address add 192.0.2.100/32 dev lo", "address add 2001:db8::100/128 dev lo nodad")
    before = state(node)
    put(node, V4, V6)
    node.ip(*(f"address add {copy}" for copy in COPIES))

    def check() -> None:
        result = addresses.take(Kernel(), (V4, V6), (), KNOWN)
        assert result.problems == []
        assert len(result.notes) == len(COPIES)
        assert "eth0: removed 192.0.2.10/32, which was there too" in result.notes

    inside(node, check)
    assert state(node) == before


def test_a_link_local_address_is_another_one_elsewhere(node: Namespace) -> None:
    """A bridge for containers may have the one that is the service's on its own link."""
    served = "eth0 fe80::1/64"
    node.ip("address add fe80::1/64 dev eth1 nodad")
    for change, holders in ((put, {"eth0", "eth1"}), (take, {"eth1"})):
        change(node, served)
        found = node.show("address", "show", "to", "fe80::1")
        assert {one["ifname"] for one in found if one} == holders


def test_an_address_that_is_there_with_another_prefix(node: Namespace) -> None:
    """It is served, and the kernel has IPv6 ones but once."""
    node.ip("address add 192.0.2.10/32 dev eth0", "address add 2001:db8::10/128 dev eth0 nodad")
    put(node, V4, V6)
    assert {"192.0.2.10/32", "2001:db8::10/128"} <= shown(node, "eth0")
    take(node, V4, V6)
    assert shown(node, "eth0") == set()


# ------------------------------------------------------------------ interfaces


def test_an_interface_that_is_missing_is_named_and_the_others_are_done(node: Namespace) -> None:
    served = ("eth9 203.0.113.10/24", "eth9 2001:db8::9/64", V4)
    missing = "eth9: there is no such interface"
    says(node, lambda: addresses.put(Kernel(), served, (f"eth9 {SHARED}",)), missing)
    assert shown(node, "eth0") == {"192.0.2.10/24"}

    def check() -> None:
        result = addresses.take(Kernel(), served, (f"eth9 {SHARED}",), KNOWN)
        assert result.problems == []
        assert result.notes == [f"{missing}, so there is nothing to remove from it"]

    inside(node, check)
    assert shown(node, "eth0") == set()


def test_an_interface_that_is_down_stays_down(node: Namespace) -> None:
    node.ip("link set eth0 down")
    before = state(node)
    put(node, V4, V6, hwaddrs=(MOVING,))
    assert {"192.0.2.10/24", "2001:db8::10/64"} <= shown(node, "eth0")
    take(node, V4, V6, hwaddrs=(MOVING,))
    assert state(node) == before


@pytest.mark.parametrize("promote", [0, 1])
def test_an_interface_that_was_renamed_gives_up_the_address_and_no_other(
    node: Namespace, promote: int
) -> None:
    put(node, V4)
    node.ip("address add 192.0.2.5/24 dev eth0", "address add 2001:db8::5/64 dev eth0 nodad")
    node.ip("link set eth0 down", "link set eth0 name ens3", "link set ens3 up")
    node.run("sh", "-c", f"echo {promote} >/proc/sys/net/ipv4/conf/ens3/promote_secondaries")
    take(node, V4)
    assert "192.0.2.5/24" in shown(node, "ens3")
    assert "192.0.2.10/24" not in shown(node, "ens3")


def test_an_interface_that_was_renamed_gives_up_the_hardware_address(node: Namespace) -> None:
    """Two nodes with one hardware address cost clients most of the answers."""
    put(node, V4, hwaddrs=(MOVING,))
    node.ip("link set eth0 down", "link set eth0 name ens3", "link set ens3 up")
    take(node, V4, hwaddrs=(MOVING,))
    assert hwaddr(node, "ens3") == OWN
    assert hwaddr(node, "eth1") == "02:00:00:00:0a:02"


# ------------------------------------------------------------------ many


MANY = [f"eth0 10.7.{n // 250}.{n % 250 + 1}/16" for n in range(1000)]


def test_a_thousand_come_and_go(node: Namespace) -> None:
    """The site's own stays, though it depends on them, and whoever waits is told of each batch."""
    node.run("sh", "-c", "echo 0 >/proc/sys/net/ipv4/conf/eth0/promote_secondaries")

    def many() -> None:
        told: list[None] = []
        kernel = Kernel(lambda: told.append(None))
        assert addresses.put(kernel, MANY, ()) == Result([], [], 1000)
        assert len(told) == 10
        ip("address add 10.7.99.99/16 dev eth0")
        assert len([one for one in links.held() if one.address.startswith("10.7.")]) == 1001
        assert addresses.take(kernel, MANY, (), KNOWN) == Result([], [], 1000)
        assert len(told) == 21

    inside(node, many)
    assert shown(node, "eth0") == {"10.7.99.99/16"}


def at_second(do: Callable[[], None]) -> Kernel:
    """Does something before the second batch."""
    batches = itertools.count(1)
    return Kernel(lambda: do() if next(batches) == 2 else None)


def test_none_is_away_for_longer_than_the_others(node: Namespace) -> None:
    """They go in the order in which they come, but for the one that the others depend on."""

    def check() -> None:
        no_problem(addresses.put(Kernel(), MANY, ()))
        left: set[str] = set()
        look = at_second(lambda: left.update(one.address for one in links.held()))
        no_problem(addresses.take(look, MANY, (), KNOWN))
        assert {"10.7.0.1", "10.7.3.250"} <= left
        assert "10.7.0.2" not in left

    inside(node, check)


def test_what_changes_in_between_is_no_error(node: Namespace) -> None:
    """Another program adds what is about to be added, and removes what is about to go."""

    def check() -> None:
        add = at_second(lambda: ip("address add 10.7.3.249/16 dev eth0"))
        no_problem(addresses.put(add, MANY, ()))
        flush = at_second(lambda: ip("address flush dev eth0"))
        no_problem(addresses.take(flush, MANY, (), KNOWN))
        assert not links.addresses("eth0")[1:]

    inside(node, check)


# ------------------------------------------------------------------ hardware addresses


def test_the_hardware_address_comes_first(node: Namespace) -> None:
    """Neighbours that are told of the address are told where it is."""

    def check() -> None:
        def look() -> None:
            assert links.hwaddr("eth0") == SHARED
            assert not [one for one in links.addresses("eth0") if one == "192.0.2.10"]

        no_problem(addresses.put(at_second(look), (V4,), (MOVING,)))

    inside(node, check)
    assert shown(node, "eth0") == {"192.0.2.10/24"}


def test_what_an_interface_loses_while_it_is_down_is_put_back(node: Namespace) -> None:
    """As for one that refuses while it is up: virtual ones take an address always or never."""
    inhabit(node)
    before = state(node)

    def change() -> None:
        number = links.index("eth0")
        assert number is not None
        up: list[bool] = []
        kernel = Kernel(lambda: up.append(links.is_up("eth0")))
        for wanted, had in ((SHARED, OWN), (OWN, SHARED)):
            notes: list[str] = []
            change = addresses._address(number, "eth0", wanted)
            undo = addresses._address(number, "eth0", had)
            assert addresses._while_down(kernel, number, "eth0", change, undo, notes) == []
            assert links.hwaddr("eth0") == wanted
            assert notes[0].startswith("eth0: was down for a moment")
        assert up == [True, True], "who is killed leaves it up"

    inside(node, change)
    assert state(node) == before
    (shown_there,) = node.show("address", "show", "dev", "eth0", "scope", "link")
    local = {str(entry.get("local")) for entry in shown_there["addr_info"]}
    assert "fe80::1" in local
    assert not [one for one in local if "ff:fe00:10" in one]


def test_what_is_put_back_serves_at_once(node: Namespace) -> None:
    node.run("sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/eth0/accept_dad")
    node.ip("address add 2001:db8::7/64 dev eth0 nodad")

    def change() -> None:
        number = links.index("eth0")
        assert number is not None
        change, undo = (addresses._address(number, "eth0", one) for one in (SHARED, OWN))
        assert addresses._while_down(Kernel(), number, "eth0", change, undo, []) == []

    inside(node, change)
    (shown_there,) = node.show("-6", "address", "show", "dev", "eth0")
    (found,) = [one for one in shown_there["addr_info"] if one.get("local") == "2001:db8::7"]
    assert found.get("nodad") and not found.get("tentative")


def test_one_that_fails_with_its_new_address_gets_the_old_one_back(node: Namespace) -> None:
    """Another interface on the same wire has that address, so it refuses to come up with it."""
    node.ip(*(f"link add link eth1 name {name} type macvlan" for name in ("mv1", "mv2")))
    node.ip(f"link set mv1 address {SHARED} up", "link set mv2 address 02:00:00:00:0a:07 up")
    node.ip("address add 10.7.0.1/24 dev mv2", "route add 10.8.0.0/16 via 10.7.0.2")
    node.ip("address add 2001:db8:7::1/64 dev mv2 nodad")
    before = state(node)
    work = lambda: addresses.put(Kernel(), (), (f"mv2 {SHARED}",))  # noqa: E731
    why = f"cannot give mv2 the hardware address {SHARED}: Address already in use"
    says(node, work, why)
    assert state(node) == before


def test_one_that_never_takes_another_address(node: Namespace) -> None:
    node.ip("link add ifb7 type ifb", "link set ifb7 up", "address add 10.7.0.1/24 dev ifb7")
    node.ip("address add 2001:db8:7::1/64 dev ifb7 nodad", "route add 10.8.0.0/16 via 10.7.0.2")
    before = state(node)
    work = lambda: addresses.put(Kernel(), (), (f"ifb7 {SHARED}",))  # noqa: E731
    says(node, work, f"cannot give ifb7 the hardware address {SHARED}: Operation not supported")
    assert state(node) == before


def test_an_own_hardware_address_that_is_not_known(node: Namespace) -> None:
    def take_it() -> Result:
        return addresses.take(Kernel(), (V4,), (MOVING,), {})

    inside(node, lambda: no_problem(take_it()))
    put(node, V4, hwaddrs=(MOVING,))
    before = hwaddr(node)

    def it_is_another() -> None:
        result = take_it()
        assert result.problems == []
        new = links.hwaddr("eth0")
        assert result.notes == [
            f"eth0: its own hardware address is not known, {new} takes its place"
        ]

    inside(node, it_is_another)
    assert shown(node, "eth0") == set()
    assert re.fullmatch("02(:[0-9a-f]{2}){5}", hwaddr(node)) and hwaddr(node) != before


# ------------------------------------------------------------------ what goes wrong


def test_what_the_kernel_refuses_is_told_in_its_words(node: Namespace) -> None:
    node.run("sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6")
    try:
        why = "cannot add 2001:db8::10/64 to eth0: ipv6: IPv6 is disabled on this device"
        says(node, lambda: addresses.put(Kernel(), (V4, V6), ()), why)
        assert shown(node, "eth0") == {"192.0.2.10/24"}, "the others are done"
    finally:
        node.run("sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be without it")
def test_without_the_right_it_says_so(node: Namespace) -> None:
    put(node, V4)

    def powerless(work: Callable[[], Result]) -> Callable[[], Result]:
        def run() -> Result:
            os.setresuid(65534, 65534, 65534)
            return work()

        return run

    why = "Operation not permitted"
    add = powerless(lambda: addresses.put(Kernel(), (V6, OTHER), ()))
    told = (
        f"cannot add 2001:db8::10/64 to eth0: {why}",
        f"cannot add 198.51.100.10/24 to eth1: {why}",
    )
    says(node, add, *told)
    remove = powerless(lambda: addresses.take(Kernel(), (V4,), (), KNOWN))
    says(node, remove, f"cannot remove 192.0.2.10/24 from eth0: {why}")
    assert shown(node, "eth0") == {"192.0.2.10/24"}


def test_only_the_kernel_is_believed(node: Namespace) -> None:
    """Another process that knows the socket's port may send to it."""

    def check() -> None:
        number = links.index("eth0")
        assert number is not None
        kernel = Kernel()
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as liar:
            head = struct.pack("=IHHII", 36, links.NLMSG_ERROR, 0, 0, 0)
            forged = head + struct.pack("=i16x", -1)
            liar.sendto(forged, (kernel._socket.getsockname()[0], 0))
            request = addresses._addition(number, SERVED, 24, 0, "it there")
            assert kernel.carry_out([request]) == []
            assert "192.0.2.10" in links.addresses("eth0")

    inside(node, check)


def test_a_socket_that_is_lost_is_replaced(node: Namespace) -> None:
    """It may have been too full for an answer, or closed."""

    def check() -> None:
        number = links.index("eth0")
        assert number is not None
        kernel = Kernel()
        kernel._socket.close()
        request = addresses._addition(number, SERVED, 24, 0, "it there")
        assert kernel.carry_out([request]) == []
        assert "192.0.2.10" in links.addresses("eth0")

    inside(node, check)


def test_what_is_no_address_is_left_out(node: Namespace) -> None:
    """An old $state may hold anything."""
    wrong = ("", "eth0", "eth0 x/24", "eth0 192.0.2.10", "eth0 192.0.2.10/x", "eth0 ::x/64")
    before = state(node)

    def check() -> None:
        for line in ("", "eth0", "eth0 x", "eth0 02:00"):
            no_problem(addresses.put(Kernel(), wrong, (line,)))
            no_problem(addresses.take(Kernel(), wrong, (line,), {"eth0": line}))

    inside(node, check)
    assert state(node) == before


def test_without_a_descriptor_it_says_so(node: Namespace, tmp_path: Path) -> None:
    def check() -> None:
        kernel = Kernel()
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        nothing: dict[str, object] = {"addresses": (V4,), "hwaddrs": ()}
        for do, does, more in (("put", "add", nothing), ("take", "remove", nothing | {"own": {}})):
            told = addresses._obey({"do": do, **more}, kernel)
            assert told["problem"] == f"the kernel does not {does} addresses: Too many open files"

    inside(node, check)
