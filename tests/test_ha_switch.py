"""The shipped switch script on real interfaces: what it moves, leaves alone, and says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from netns import Namespace, at_rest, cable, namespaces
from processes import wait_until

from failoverd import process, switch
from failoverd.conf import Address, Conf, EthernetAddress

SCRIPT = Path(__file__).resolve().parent.parent / "ha-switch"
OWN, SHARED = "02:00:00:00:0a:01", "02:00:00:00:00:10"
V4, V6 = Address("eth0", "192.0.2.10", 24), Address("eth0", "2001:db8::10", 64)
OTHER = Address("eth1", "198.51.100.10", 24)
GONE = Address("eth9", "203.0.113.10", 24)
SHARED_INTERFACE = EthernetAddress("eth0", SHARED)
IP = shutil.which("ip", path=f"{os.environ['PATH']}:/usr/sbin:/sbin") or "ip"

# Says EBUSY to a new hardware address while the interface is up, as most older drivers do, and EIO
# to an interface that comes up with $WONT_WORK_WITH. Virtual interfaces take an address always or
# never.
REFUSING_IP = f"""#!/bin/sh
refused() {{
    case "$1 $2 $3 $5" in
    "link set dev address") case $({IP} -o link show dev "$4") in
        *[\\<,]UP[,\\>]*) echo "RTNETLINK answers: Device or resource busy" >&2; return 0 ;;
        esac ;;
    "link set dev up") case $({IP} -o link show dev "$4") in
        *"link/ether ${{WONT_WORK_WITH-x}} "*)
            echo "RTNETLINK answers: Input/output error" >&2; return 0 ;;
        esac ;;
    esac
    return 1
}}
force=no family= form=
while :; do
    case $1 in
    -force) force=yes ;;
    -4 | -6) family=$1 ;;
    -o) form=$1 ;;
    -batch)
        number=0 status=0
        while read -r line; do
            number=$((number + 1))
            [ -n "$line" ] || continue
            if refused $line || ! {IP} $family $form $line; then
                echo "Command failed -:$number" >&2
                status=1
                [ $force = yes ] || exit 1
            fi
        done
        exit $status ;;
    *) break ;;
    esac
    shift
done
refused "$@" && exit 2
exec {IP} $family $form "$@"
"""

COUNTING_IP = f"""#!/bin/sh
echo >>"${{0%/*}}/count"
exec {IP} "$@"
"""

# As in a container: no kernel setting can be changed.
MOUNT = "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys"
READ_ONLY = ("unshare", "-m", "sh", "-c", f'{MOUNT} && exec "$@"', "sh")


@pytest.fixture(scope="module")
def lasting_node() -> Iterator[Namespace]:
    with namespaces(2) as (node, other):
        cable(node, "eth0", other, "eth0")
        cable(node, "eth1", other, "eth1")
        yield node


@pytest.fixture
def node(lasting_node: Namespace) -> Namespace:
    lasting_node.ip(
        *("link delete ifb7", "link delete mv1", "link delete mv2"),
        *("address flush dev eth0", "address flush dev eth1", "address flush dev lo"),
        *(f"link set eth0 address {OWN} down", "link set eth0 up"),
        *("link set eth1 address 02:00:00:00:0a:02 down", "link set eth1 up"),
        force=True,
    )
    at_rest(lasting_node, "eth0")
    at_rest(lasting_node, "eth1")
    return lasting_node


@pytest.fixture
def tools(tmp_path: Path) -> Callable[[str], Path]:
    """Puts another `ip` before the real one; gives the folder."""

    def make(text: str) -> Path:
        folder = tmp_path / "tools"
        folder.mkdir()
        (folder / "ip").write_text(text)
        (folder / "ip").chmod(0o755)
        return folder

    return make


def environment(
    *addresses: Address,
    hwaddrs: tuple[EthernetAddress, ...] = (),
    own: dict[str, str] | None = None,
    first: Path | None = None,
) -> dict[str, str]:
    conf = Conf(addresses=addresses, ethernet_addresses=hwaddrs)
    told = switch.environment(conf, "", "a test", {"eth0": OWN} if own is None else own)
    return {**told, "PATH": f"{first}:{told['PATH']}"} if first else told


def run(
    node: Namespace,
    role: str,
    told: dict[str, str],
    before: tuple[str, ...] = (),
    script: Path = SCRIPT,
) -> tuple[int, str]:
    """The exit status and all that the script said."""
    done = node.run(*before, str(script), role, env=told, check=False)
    return done.returncode, done.stdout + done.stderr


def state(node: Namespace) -> dict[str, Any]:
    """All that the script might change, without what passes by itself."""
    wait_until(lambda: has_local_routes(node))
    interfaces = {}
    for interface in node.show("address", "show"):
        addresses = [
            {key: value for key, value in entry.items() if "life_time" not in key}
            for entry in interface["addr_info"]
            if entry.get("scope") != "link"
        ]
        for entry in addresses:
            entry.pop("tentative", None)
        addresses.sort(key=str)
        interfaces[interface["ifname"]] = (
            interface["address"],
            "UP" in interface["flags"],
            addresses,
        )
    routes = {
        family: sorted(
            str({key: value for key, value in route.items() if key not in ("flags", "expires")})
            for route in node.show(family, "route", "show", "table", "all")
            if "fe80" not in str(route) and route.get("type") != "multicast"
        )
        for family in ("-4", "-6")
    }
    return {"interfaces": interfaces, **routes}


def has_local_routes(node: Namespace) -> bool:
    """Whether the kernel has done what it puts off when an IPv6 address is set."""
    local = {
        (route["dev"], route["dst"])
        for route in node.show("-6", "route", "show", "table", "local", "type", "local")
    }
    return local >= {
        (interface["ifname"], entry["local"])
        for interface in node.show("-6", "address", "show")
        for entry in interface["addr_info"]
    }


def addresses(node: Namespace, interface: str) -> set[str]:
    (shown,) = node.show("address", "show", "dev", interface)
    return {
        f"{entry['local']}/{entry['prefixlen']}"
        for entry in shown["addr_info"]
        if entry["scope"] != "link"
    }


def hwaddr(node: Namespace, interface: str = "eth0") -> str:
    return str(node.show("link", "show", "dev", interface)[0]["address"])


def inhabit(node: Namespace) -> None:
    """What the site itself has on the interface: every kind of address, and routes by them."""
    node.ip(
        *(
            "address add 192.0.2.5/24 brd + label eth0:own dev eth0",
            "address add 10.0.0.1/8 dev lo",
        ),
        *("address add 203.0.113.1 peer 203.0.113.2/32 dev eth0",),
        *("address add 192.0.2.6/24 dev eth0 valid_lft 5000 preferred_lft 4000",),
        *("address add 2001:db8::5/64 dev eth0 nodad", "address add 2001:db8::5/64 dev lo nodad"),
        *("address add 2001:db8:5::6/128 dev eth0 nodad valid_lft 5000 preferred_lft 0",),
        *("address add fe80::1/64 dev eth0 nodad", "address add 198.51.100.5/24 dev eth1"),
        *("route add default via 192.0.2.1 src 192.0.2.5 mtu lock 1400",),
        *("route add 10.1.0.0/16 dev eth0 scope link proto static",),
        *("route add 10.2.0.0/16 via 10.1.0.9 table 100", "route add 10.3.0.0/16 dev eth1"),
        *("route add default via 2001:db8::1 metric 7", "route add 2001:db8:7::/48 dev eth0"),
    )


FOREIGN = {"192.0.2.5/24", "192.0.2.6/24", "203.0.113.1/32", "2001:db8::5/64", "2001:db8:5::6/128"}


def test_there_and_back(node: Namespace, tools: Callable[[str], Path]) -> None:
    """Every kind of address, in one ip process each way."""
    inhabit(node)
    before = state(node)
    folder = tools(COUNTING_IP)
    told = environment(V4, V6, OTHER, hwaddrs=(SHARED_INTERFACE,), first=folder)
    assert run(node, "master", told) == (0, "")
    assert addresses(node, "eth0") == FOREIGN | {"192.0.2.10/24", "2001:db8::10/64"}
    assert addresses(node, "eth1") == {"198.51.100.5/24", "198.51.100.10/24"}
    assert hwaddr(node) == SHARED
    added = next(
        entry
        for entry in node.show("-6", "address", "show", "dev", "eth0")[0]["addr_info"]
        if entry.get("local") == V6.address
    )
    assert added.get("nodad"), "the peer's frames could keep it from working"
    assert not added.get("tentative")
    assert run(node, "slave", told) == (0, "")
    assert state(node) == before
    assert len((folder / "count").read_text()) == 2


def test_twice_is_once(node: Namespace) -> None:
    told = environment(V4, V6, hwaddrs=(SHARED_INTERFACE,))
    before = state(node)
    assert run(node, "slave", told) == (0, "")
    assert state(node) == before
    assert run(node, "master", told) == (0, "")
    active = state(node)
    assert run(node, "master", told) == (0, "")
    assert state(node) == active
    for _ in range(2):
        assert run(node, "slave", told) == (0, "")
        assert state(node) == before


@pytest.mark.parametrize("promote", ["off", "on", "read-only"])
def test_secondary_addresses_outlive_the_primary(node: Namespace, promote: str) -> None:
    """The pair's address came first, so the site's own depend on it."""
    knob = "/proc/sys/net/ipv4/conf/eth0/promote_secondaries"
    node.run("sh", "-c", f"echo {int(promote == 'on')} >{knob}")
    told = environment(V4, Address("eth0", "192.0.2.11", 24), V6)
    assert run(node, "master", told) == (0, "")
    inhabit(node)
    node.ip("route add 10.9.0.0/16 via 192.0.2.1 src 192.0.2.10")  # goes with its source
    read_only = READ_ONLY if promote == "read-only" else ()
    assert run(node, "slave", told, before=read_only) == (0, "")
    assert addresses(node, "eth0") == FOREIGN
    shown = node.show("-4", "address", "show", "dev", "eth0")[0]["addr_info"]
    assert "eth0:own" in [entry["label"] for entry in shown]
    assert node.run("cat", knob).stdout.strip() == str(int(promote == "on"))
    routes = node.run("ip", "-4", "route", "show", "table", "all").stdout
    for route in (
        "default via 192.0.2.1 dev eth0 src 192.0.2.5 mtu lock 1400",
        "10.1.0.0/16 dev eth0 proto static scope link",
        "10.2.0.0/16 via 10.1.0.9 dev eth0 table 100",
    ):
        assert route in routes
    assert "192.0.2.10" not in routes


def test_the_last_address_takes_its_routes_with_it(node: Namespace) -> None:
    """Nothing can be put back then, and nothing is wrong with that."""
    told = environment(V4)
    for before in (
        (),
        ("unshare", "-m", "sh", "-c", 'mount -o bind,ro /proc/sys /proc/sys; "$@"', "sh"),
    ):
        assert run(node, "master", told) == (0, "")
        node.ip("route add default via 192.0.2.1")
        assert run(node, "slave", told, before=before) == (0, "")
        assert node.show("route", "show", "dev", "eth0") == []


@pytest.mark.parametrize("there", [True, False])
def test_a_missing_interface(node: Namespace, there: bool) -> None:
    """It is named, the others are done. A node whose interface is gone can still stand down."""
    told = environment(GONE, Address("eth9", "2001:db8::9", 64), V4)
    if there:
        assert run(node, "master", environment(V4)) == (0, "")
    code, said = run(node, "master", told)
    assert (code, said) == (1, "ha-switch: eth9: there is no such interface\n")
    assert addresses(node, "eth0") == {"192.0.2.10/24"}
    code, said = run(node, "slave", told)
    assert code == 0
    assert said.count("\n") == 1
    assert said.startswith("ha-switch: eth9: there is no such interface")
    assert addresses(node, "eth0") == set()


COPIES = (
    "192.0.2.10/32 dev eth0",
    "192.0.2.10/24 dev eth1",
    "192.0.2.10/32 dev lo",
    "192.0.2.10 peer 192.0.2.99/32 dev eth1",
    "2001:db8::10/128 dev eth1 nodad",
    "2001:db8::10/64 dev lo",
)


@pytest.mark.parametrize("active", [True, False])
def test_a_standby_has_the_address_nowhere(node: Namespace, active: bool) -> None:
    """Whatever its prefix, its interface and its peer: the node would answer for it."""
    inhabit(node)
    node.ip("address add 192.0.2.100/32 dev lo", "address add 2001:db8::100/128 dev lo nodad")
    before = state(node)
    told = environment(V4, V6)
    if active:
        assert run(node, "master", told) == (0, "")
    node.ip(*(f"address add {copy}" for copy in COPIES))
    code, said = run(node, "slave", told)
    assert code == 0, said
    assert state(node) == before
    assert said.count("\n") == len(COPIES)
    assert "ha-switch: eth0: removed 192.0.2.10/32, which was there too\n" in said
    assert run(node, "slave", told) == (0, "")
    assert state(node) == before


def test_a_link_local_address_is_another_one_elsewhere(node: Namespace) -> None:
    """And where its interface is missing no other is looked at."""
    told = environment(Address("eth0", "fe80::1", 64), Address("eth9", "fe80::9", 64))
    node.ip("address add fe80::1/64 dev eth1 nodad")
    run(node, "master", told)
    code, said = run(node, "slave", told)
    assert (code, said.count("\n")) == (0, 1), said
    found = node.show("address", "show", "to", "fe80::1")
    assert [one["ifname"] for one in found if one] == ["eth1"]


@pytest.mark.parametrize("promote", ["off", "read-only"])
def test_an_interface_that_was_renamed_gives_up_the_address_and_no_other(
    node: Namespace, promote: str
) -> None:
    """On it the address is the first of its network, so that the site's own depends on it."""
    told = environment(V4)
    assert run(node, "master", told) == (0, "")
    node.ip("address add 192.0.2.5/24 dev eth0", "address add 2001:db8::5/64 dev eth0 nodad")
    node.ip("link set eth0 down", "link set eth0 name ens3", "link set ens3 up")
    try:
        node.run("sh", "-c", "echo 0 >/proc/sys/net/ipv4/conf/ens3/promote_secondaries")
        before = READ_ONLY if promote == "read-only" else ()
        code, said = run(node, "slave", told, before=before)
        assert code == 0, said
        assert "eth0: there is no such interface" in said
        assert addresses(node, "ens3") >= {"192.0.2.5/24"}
        assert "192.0.2.10/24" not in addresses(node, "ens3")
    finally:
        node.ip("link set ens3 down", "link set ens3 name eth0", "link set eth0 up")


def test_an_interface_that_was_renamed_gives_up_the_hardware_address(node: Namespace) -> None:
    told = environment(V4, hwaddrs=(SHARED_INTERFACE,))
    assert run(node, "master", told) == (0, "")
    node.ip("link set eth0 down", "link set eth0 name ens3", "link set ens3 up")
    try:
        code, said = run(node, "slave", told)
        assert code == 0, said
        assert hwaddr(node, "ens3") == OWN
    finally:
        node.ip("link set ens3 down", "link set ens3 name eth0", "link set eth0 up")


def test_an_address_that_cannot_be_removed_is_an_error(node: Namespace) -> None:
    powerless = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
    node.ip("address add 192.0.2.10/32 dev eth1")
    code, said = run(node, "slave", environment(V4), before=powerless)
    assert code == 1
    why = "RTNETLINK answers: Operation not permitted"
    assert said == f"ha-switch: eth1: cannot remove 192.0.2.10/32: {why}\n"


def test_a_link_that_is_down_stays_down(node: Namespace) -> None:
    node.ip("link set eth0 down")
    told = environment(V4, V6, hwaddrs=(SHARED_INTERFACE,))
    before = state(node)
    assert run(node, "master", told) == (0, "")
    assert run(node, "slave", told) == (0, "")
    assert state(node) == before


def test_an_interface_that_refuses_while_up(node: Namespace, tools: Callable[[str], Path]) -> None:
    inhabit(node)
    before = state(node)
    told = environment(V4, V6, hwaddrs=(SHARED_INTERFACE,), first=tools(REFUSING_IP))
    assert run(node, "master", told) == (0, "")
    assert hwaddr(node) == SHARED
    assert addresses(node, "eth0") == FOREIGN | {"192.0.2.10/24", "2001:db8::10/64"}
    active = state(node)
    assert [route for route in before["-4"] if route not in active["-4"]] == []
    assert [route for route in before["-6"] if route not in active["-6"]] == []
    node.ip(f"neighbour add 192.0.2.99 lladdr {OWN} nud permanent dev eth0")
    assert run(node, "master", told) == (0, "")
    assert state(node) == active
    assert node.show("neighbour", "show", "nud", "permanent"), "it was down for nothing"
    assert run(node, "slave", told) == (0, "")
    assert state(node) == before
    links = node.show("address", "show", "dev", "eth0", "scope", "link")[0]["addr_info"]
    assert "fe80::1" in {entry.get("local") for entry in links}
    assert not [entry for entry in links if "ff:fe00:10" in str(entry.get("local"))]


def test_what_is_put_back_serves_at_once(node: Namespace, tools: Callable[[str], Path]) -> None:
    """Also an IPv6 address that was added with a search for duplicates, which takes a second."""
    knob = "/proc/sys/net/ipv6/conf/eth0/accept_dad"
    node.run("sh", "-c", f"echo 1 >{knob}")
    try:
        node.ip("address add 2001:db8::7/64 dev eth0")
        wait_until(lambda: not ipv6(node, "2001:db8::7").get("tentative"))
        told = environment(V4, hwaddrs=(SHARED_INTERFACE,), first=tools(REFUSING_IP))
        assert run(node, "master", told) == (0, "")
        assert hwaddr(node) == SHARED
        found = ipv6(node, "2001:db8::7")
        assert found.get("nodad"), found
        assert not found.get("tentative")
    finally:
        node.run("sh", "-c", f"echo 0 >{knob}")


def ipv6(node: Namespace, address: str) -> dict[str, Any]:
    (interface,) = node.show("-6", "address", "show", "dev", "eth0")
    return next((dict(one) for one in interface["addr_info"] if one.get("local") == address), {})


def test_an_interface_that_fails_with_its_new_address_gets_the_old_one_back(
    node: Namespace, tools: Callable[[str], Path]
) -> None:
    inhabit(node)
    before = state(node)
    told = environment(hwaddrs=(SHARED_INTERFACE,), first=tools(REFUSING_IP))
    code, said = run(node, "master", {**told, "WONT_WORK_WITH": SHARED})
    error = "RTNETLINK answers: Input/output error"
    assert code == 1
    assert said == f"ha-switch: eth0: cannot take the hardware address {SHARED}: {error}\n"
    assert state(node) == before


def test_an_interface_that_never_takes_another_address(node: Namespace) -> None:
    node.ip("link add ifb7 type ifb", "link set ifb7 up", "address add 10.7.0.1/24 dev ifb7")
    node.ip("address add 2001:db8:7::1/64 dev ifb7 nodad", "route add 10.8.0.0/16 via 10.7.0.2")
    before = state(node)
    code, said = run(node, "master", environment(hwaddrs=(EthernetAddress("ifb7", SHARED),)))
    assert code == 1
    assert said.startswith(f"ha-switch: ifb7: cannot take the hardware address {SHARED}: ")
    assert said.count("\n") == 1
    assert state(node) == before


def test_an_address_that_another_interface_has(node: Namespace) -> None:
    node.ip(*(f"link add link eth1 name {name} type macvlan" for name in ("mv1", "mv2")))
    node.ip(f"link set mv1 address {SHARED} up", f"link set mv2 address {OWN} up")
    node.ip("address add 10.7.0.1/24 dev mv2", "route add 10.8.0.0/16 via 10.7.0.2")
    node.ip("address add 2001:db8:7::1/64 dev mv2 nodad")
    before = state(node)
    code, said = run(node, "master", environment(hwaddrs=(EthernetAddress("mv2", SHARED),)))
    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith(f"ha-switch: mv2: cannot take the hardware address {SHARED}: ")
    assert state(node) == before


def test_an_unknown_own_address(node: Namespace) -> None:
    told = environment(V4, hwaddrs=(SHARED_INTERFACE,), own={})
    assert run(node, "slave", told) == (0, ""), "it has not got the shared one"
    assert run(node, "master", told) == (0, "")
    before = hwaddr(node)
    code, said = run(node, "slave", told)
    new = hwaddr(node)
    assert re.fullmatch("02(:[0-9a-f]{2}){5}", new) and new != before, "the peer may use it now"
    told_so = f"ha-switch: eth0: its own hardware address is not known, {new} takes its place\n"
    assert (code, said) == (0, told_so)
    assert addresses(node, "eth0") == set()


def test_a_permanent_address_is_its_own(node: Namespace, tools: Callable[[str], Path]) -> None:
    """What ip shows of a real interface whose address was changed; virtual ones have none."""
    folder = tools(f'#!/bin/sh\n{IP} "$@" | sed "s/brd ff:ff:ff:ff:ff:ff/& permaddr {OWN}/"\n')
    told = environment(V4, hwaddrs=(SHARED_INTERFACE,), own={})
    assert run(node, "master", told) == (0, "")
    assert run(node, "slave", {**told, "PATH": f"{folder}:{told['PATH']}"}) == (0, "")
    assert hwaddr(node) == OWN


def test_without_the_right_it_says_so(node: Namespace) -> None:
    powerless = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
    before = state(node)
    code, said = run(node, "master", environment(V4, V6), before=powerless)
    assert code == 1
    assert said.splitlines() == [
        f"ha-switch: eth0: cannot add {address}: RTNETLINK answers: Operation not permitted"
        for address in ("192.0.2.10/24", "2001:db8::10/64")
    ]
    assert state(node) == before


def test_nothing_to_move(node: Namespace) -> None:
    before = state(node)
    for role in ("master", "slave"):
        assert run(node, role, environment()) == (0, "")
    assert state(node) == before


@pytest.mark.parametrize("role", ["", "Master", "both", "-x"])
def test_unknown_roles(node: Namespace, role: str) -> None:
    assert run(node, role, environment(V4)) == (2, "usage: ha-switch master|slave\n")


def test_by_hand(node: Namespace) -> None:
    path = {"PATH": process.CLEAN_ENVIRONMENT["PATH"]}
    code, said = run(node, "master", path)
    assert code == 2
    assert said.startswith("ha-switch: FAILOVER_ADDRESSES is not set")
    lines = "  eth0   192.0.2.10/24\n\neth0 2001:DB8:0::10/64"
    for role, count in (("master", 2), ("slave", 0)):
        assert run(node, role, {"PATH": "/bin:/usr/bin", "FAILOVER_ADDRESSES": lines}) == (0, "")
        assert len(addresses(node, "eth0")) == count
    code, said = run(node, "master", {**path, "FAILOVER_ADDRESSES": "192.0.2.10/24"})
    assert code == 2
    assert said.startswith('ha-switch: "192.0.2.10/24" is not an interface and its address')
    assert addresses(node, "eth0") == set()


@pytest.mark.parametrize("status", [0, 3])
def test_the_site_s_services(node: Namespace, tmp_path: Path, status: int) -> None:
    """They start when the addresses are there and stop before they go."""
    text = SCRIPT.read_text()
    for role in ("master", "slave"):
        start = text.index("    : # ", text.index(f"site_{role}() {{"))
        body = f'    echo "{role}: $(ip -o -4 address show dev eth0)"; return {status}\n'
        text = text[:start] + body + text[text.index("}", start) :]
    script = tmp_path / "ha-switch"
    script.write_text(text)
    script.chmod(0o755)
    for role in ("master", "slave"):
        code, said = run(node, role, environment(V4), script=script)
        assert code == (1 if status else 0)
        assert said.startswith(f"{role}: ")
        assert "192.0.2.10/24" in said
        assert said.endswith(f"site_{role} failed with status 3\n") == bool(status)
    assert addresses(node, "eth0") == set()


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("status", [0, 3])
def test_where_failoverd_moves_the_addresses_only_the_services_are_left(
    node: Namespace, tmp_path: Path, status: int, shell: str
) -> None:
    text = SCRIPT.read_text()
    for role in ("master", "slave"):
        text = text.replace("    : # ", f"    echo {role}; return {status} # ", 1)
    script = tmp_path / "ha-switch"
    script.write_text(text)
    script.chmod(0o755)
    node.ip("address add 192.0.2.10/24 dev eth0")
    before = state(node)
    told = environment(V4, V6, GONE, hwaddrs=(SHARED_INTERFACE,)) | {"FAILOVER_PLACED": "yes"}
    for role in ("master", "slave"):
        begins = f"{switch.DUTIES}\n{role}\n"
        failed = f"ha-switch: site_{role} failed with status 3\n" if status else ""
        found = run(node, role, {**told, "FAILOVER_ROLE": role}, before=(shell,), script=script)
        assert found == (1 if status else 0, begins + failed)
        assert state(node) == before
    assert run(node, "both", told) == (2, "usage: ha-switch master|slave\n")


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_in_every_shell(node: Namespace, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    command = (shell, "sh") if shell == "busybox" else (shell,)
    inhabit(node)
    before = state(node)
    told = environment(V4, V6, GONE, hwaddrs=(SHARED_INTERFACE,))
    assert run(node, "master", told, before=command)[0] == 1
    assert "192.0.2.10/24" in addresses(node, "eth0")
    assert run(node, "slave", told, before=command)[0] == 0
    assert state(node) == before


def test_its_form() -> None:
    assert os.access(SCRIPT, os.X_OK)
    assert SCRIPT.read_text().startswith("#!/bin/sh\n")
    subprocess.run(["sh", "-n", str(SCRIPT)], check=True)


def test_shellcheck() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(["shellcheck", str(SCRIPT)], capture_output=True, text=True, check=False)
    assert done.stdout == ""
