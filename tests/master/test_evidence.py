"""What the kernel shows counts for more than a program's word or an old file.

First what is made of it, with real interfaces and without a daemon; then a real pair, whose site
has a switch script of its own.
"""

from __future__ import annotations

import os
import resource
import shlex
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from inside import inside, ip
from live_pair import (
    LONG,
    V4,
    V6,
    WATCHED,
    context,
    kill,
    main_pid,
    mounted,
    pids,
    runs,
    settled,
    start,
)
from netns import Namespace, two_cabled

from dev.lab import logs
from dev.lab.eyes import Eyes
from dev.lab.network import SERVICE, Lab
from dev.lab.node import SWITCH, Node
from dev.lab.spaces import ROOT
from failoverd import links, pair, statefile
from failoverd.conf import Address, EthernetAddress
from failoverd.log import MOST_TOLD, Log
from failoverd.master import Master
from failoverd.master.context import Context
from failoverd.master.interfaces import ServiceInterfaces

TOLD = [str(V4), str(V6)]
BOTH = ("address add 192.0.2.10/24 dev eth0", "address add 2001:db8::10/64 dev eth0 nodad")


@pytest.fixture(scope="module")
def lasting() -> Iterator[list[Namespace]]:
    with two_cabled() as made:
        yield made


@pytest.fixture
def node(lasting: list[Namespace]) -> Iterator[Namespace]:
    yield lasting[0]
    lasting[0].ip(
        *("link set ens3 down", "link set ens3 name eth0", "link set eth0 up"),
        *(f"address flush dev {name} scope global" for name in ("eth0", "eth1", "lo")),
        force=True,
    )


def be(
    us: Context,
    phase: pair.Phase,
    purpose: pair.Purpose = pair.Purpose.NONE,
    told: pair.Query | None = None,
) -> None:
    us.started = True
    us.state = replace(us.state, phase=phase, purpose=purpose, told=told)


OLD = "02:00:00:00:00:99"


def said(us: Context) -> str:
    return Path(us.conf.log).read_text()


# ------------------------------------------------------------------ what there is

HELD = {
    "192.0.2.10/24 dev eth0": ("eth0", "192.0.2.10", 24),
    "192.0.2.11/32 dev lo": ("lo", "192.0.2.11", 32),
    "192.0.2.12/24 dev eth0 label eth0:old": ("eth0", "192.0.2.12", 24),
    "192.0.2.13 peer 192.0.2.99/32 dev eth1": ("eth1", "192.0.2.13", 32),
    "2001:db8::10/64 dev eth0 nodad": ("eth0", "2001:db8::10", 64),
    "2001:db8::13 peer 2001:db8::99/128 dev eth1": ("eth1", "2001:db8::13", 128),
}


def test_every_address_is_found_with_its_interface_of_now(node: Namespace) -> None:
    node.ip(*(f"address add {one}" for one in HELD))
    renamed = ("link set eth0 down", "link set eth0 name ens3", "link set ens3 up")

    def look() -> None:
        found = {one[:3] for one in links.held() if not one.address.startswith(("127", "fe80"))}
        assert found == {*HELD.values(), ("lo", "::1", 128)}
        ip(*renamed)
        now = {(one.interface, one.address) for one in links.held()}
        assert {("ens3", "192.0.2.10"), ("ens3", "192.0.2.12"), ("lo", "192.0.2.11")} <= now
        assert not [name for name, _ in now if name.startswith("eth0")]
        assert links.addresses("ens3")[0] in {"192.0.2.10", "192.0.2.12"}

    inside(node, look)


def test_more_addresses_than_one_answer_holds(node: Namespace) -> None:
    node.ip(*(f"address add 10.{n // 250}.{n % 250}.1/32 dev lo" for n in range(1500)))

    def look() -> None:
        assert len([one for one in links.held() if one.address.startswith("10.")]) == 1500

    inside(node, look)


def test_a_duplicate_is_told(lasting: list[Namespace], node: Namespace) -> None:
    """The kernel keeps an address that it found with another host, but does not answer for it."""
    far = lasting[1]
    far.ip("address add 2001:db8::10/64 dev far nodad")
    try:
        inside(node, lambda: find_duplicate(node))
    finally:
        far.ip("address del 2001:db8::10/64 dev far")


def find_duplicate(node: Namespace) -> None:
    Path("/proc/sys/net/ipv6/conf/eth0/accept_dad").write_text("1")
    ip("address add 2001:db8::10/64 dev eth0")
    end = time.monotonic() + 30.0
    while not (duplicates := [one for one in links.held() if one.duplicate]):
        assert time.monotonic() < end
        time.sleep(0.02)
    Path("/proc/sys/net/ipv6/conf/eth0/accept_dad").write_text("0")
    assert duplicates == [("eth0", "2001:db8::10", 64, True, False)]


def test_an_address_for_privacy_is_none_to_rely_on(node: Namespace) -> None:
    """The kernel lists it before the lasting one of the same network. A secondary IPv4 address has
    the same flag, and lasts."""

    def look() -> None:
        Path("/proc/sys/net/ipv6/conf/eth0/use_tempaddr").write_text("2")
        lasts = "valid_lft 86400 preferred_lft 43200"
        ip(f"address add 2001:db8::1/64 dev eth0 nodad mngtmpaddr {lasts}")
        ip("address add 192.0.2.2/24 dev eth0", "address add 192.0.2.3/24 dev eth0")
        Path("/proc/sys/net/ipv6/conf/eth0/use_tempaddr").write_text("0")
        found = [one for one in links.held() if one.interface == "eth0"]
        assert [one.prefix for one in found if one.temporary] == [64]
        told = links.fixed(found, {"192.0.2.2"})["eth0"]
        assert told[:2] == ("192.0.2.3/24", "2001:db8::1/64")

    inside(node, look)


class Kernel:
    """Answers in the kernel's place as the loopback's address was changing."""

    def __init__(self, *answers: tuple[int, int]) -> None:
        self.answers = list(answers)  # flags, and whose: 0 is the kernel

    def setblocking(self, _: bool) -> None:
        pass

    def sendto(self, data: bytes, _: tuple[int, int]) -> None:
        self.number = links.MESSAGE.unpack_from(data)[3]

    def recvfrom(self, _: int) -> tuple[bytes, tuple[int, int]]:
        flags, sender = self.answers.pop(0)
        address = struct.pack("=HH4s", 8, 1, socket.inet_aton("127.0.0.1"))
        entry = links.ADDRESS.pack(socket.AF_INET, 8, 0, 0, 1) + address
        head = links.MESSAGE.pack(16 + len(entry), 20, flags, self.number, 0)
        return head + entry + links.MESSAGE.pack(16, 3, 0, self.number, 0), (sender, 0)


@pytest.mark.parametrize(("flags", "again"), [(0x02, False), (0x12, True)])
def test_what_changes_meanwhile_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, flags: int, again: bool
) -> None:
    """NLM_F_DUMP_INTR: an address may be missing. Nor is the word of others the kernel's."""
    kernel = Kernel((0x02, 4711), (flags, 0), (0x02, 0), (0x02, 0))
    monkeypatch.setitem(links._kept, "route", kernel)
    assert links.held() == [("lo", "127.0.0.1", 8, False, False)], (
        "and once, where IPv6 is not there"
    )
    assert len(kernel.answers) == (0 if again else 1)
    kernel.answers = [(0x12, 0)] * 5
    with pytest.raises(OSError, match="change all the time"):
        links.held()


def test_it_is_asked_without_a_descriptor_to_spare(node: Namespace) -> None:
    """Or else it is said that it cannot be."""

    def look() -> None:
        for known in (False, True):
            if known:
                links.held()
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
            if known:
                assert links.held()
            else:
                with pytest.raises(OSError, match="Too many open files"):
                    links.held()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    inside(node, look)


# ------------------------------------------------------------------ whether a switch has worked

RENAMED = ("link set eth0 down", "link set eth0 name ens3", "link set ens3 up")
LEFT: dict[str, tuple[tuple[str, ...], str]] = {
    "nothing": ((), ""),
    "others": (("address add 192.0.2.100/32 dev eth0", "address add 192.0.2.1/24 dev lo"), ""),
    "as it was": (BOTH[:1], "192.0.2.10/24 is still on eth0: ip address del 192.0.2.10/24 dev eth"),
    "/32": (("address add 192.0.2.10/32 dev eth0",), "192.0.2.10/32 is still on eth0: "),
    "/16": (("address add 192.0.2.10/16 dev eth0",), "192.0.2.10/16 is still on eth0: "),
    "lo": (("address add 192.0.2.10/32 dev lo",), "ip address del 192.0.2.10/32 dev lo"),
    "peer": (("address add 192.0.2.10 peer 192.0.2.9 dev eth1",), "192.0.2.10/32 is still on eth1"),
    "label": (("address add 192.0.2.10/24 dev eth0 label eth0:x",), "192.0.2.10/24 is still on et"),
    "renamed": ((*BOTH[:1], *RENAMED), "192.0.2.10/24 is still on ens3: "),
    "IPv6": (("address add 2001:db8::10/128 dev lo",), "ip address del 2001:db8::10/128 dev lo"),
    "down": (("address add 192.0.2.10/24 dev eth0", "link set eth0 down"), "still on eth0"),
    "both": (BOTH, "dev eth0; 2001:db8::10/64 is still on eth0: "),
}


@pytest.mark.parametrize("case", LEFT)
def test_who_has_stood_down_has_the_address_nowhere(
    node: Namespace, tmp_path: Path, case: str
) -> None:
    commands, against = LEFT[case]
    node.ip(*commands)

    def look() -> None:
        us = context(tmp_path)
        worked = ServiceInterfaces(us).switched("slave", TOLD, ok=True)
        assert worked is (not against)
        assert against in said(us)
        assert ("SWITCH-UNDONE" in said(us) and "role=slave" in said(us)) is bool(against)
        Path(us.conf.log).write_text("")
        us.log = Log(us.conf.log)
        assert ServiceInterfaces(us).switched("slave", TOLD, ok=False) is False
        assert against in said(us), "who has failed to stand down says what is left"

    inside(node, look)
    node.ip("link set eth0 up", force=True)


PLACED: dict[str, tuple[tuple[str, ...], str]] = {
    "both": (BOTH, ""),
    "another prefix": (("address add 192.0.2.10/32 dev eth0", BOTH[1]), ""),
    "on lo besides": ((*BOTH, "address add 192.0.2.10/32 dev lo"), ""),
    "neither": (
        (),
        "192.0.2.10 is not on eth0: something has removed it again, perhaps the script; ",
    ),
    "one": (BOTH[1:], "192.0.2.10 is not on eth0: something"),
    "the other": (BOTH[:1], "2001:db8::10 is not on eth0: something"),
    "elsewhere": (("address add 192.0.2.10/24 dev eth1", BOTH[1]), "192.0.2.10 is not on eth0"),
    "no such interface": (
        (*BOTH, *RENAMED),
        "192.0.2.10 is not on eth0: there is no such interface",
    ),
}


@pytest.mark.parametrize("case", PLACED)
def test_who_has_become_active_has_each_address_on_its_interface(
    node: Namespace, tmp_path: Path, case: str
) -> None:
    commands, against = PLACED[case]
    node.ip(*commands)

    def look() -> None:
        us = context(tmp_path)
        assert ServiceInterfaces(us).switched("master", TOLD, ok=True) is (not against)
        assert against in said(us)
        assert ("SWITCH-UNDONE" in said(us) and "role=master" in said(us)) is bool(against)
        Path(us.conf.log).write_text("")
        us.log = Log(us.conf.log)
        assert ServiceInterfaces(us).switched("master", TOLD, ok=False) is False
        assert said(us) == ""

    inside(node, look)


def test_where_the_script_has_to_put_them_it_is_named(node: Namespace, tmp_path: Path) -> None:
    def look() -> None:
        us = context(tmp_path)
        us.conf = replace(us.conf, addresses_by="script")
        assert ServiceInterfaces(us).switched("master", TOLD, ok=True) is False
        why = "192.0.2.10 is not on eth0: the script has to add it, see ha-switch(8); "
        assert why in said(us)

    inside(node, look)


def test_a_duplicate_does_not_serve(
    lasting: list[Namespace], node: Namespace, tmp_path: Path
) -> None:
    far = lasting[1]
    far.ip("address add 2001:db8::10/64 dev far nodad")

    def look() -> None:
        find_duplicate(node)
        us = context(tmp_path)
        told = [str(V6)]
        assert ServiceInterfaces(us).switched("master", told, ok=True) is False
        assert "2001:db8::10 is not on eth0, as another host was found to have it" in said(us)
        assert ServiceInterfaces(us).switched("slave", told, ok=True) is False
        us.saved = statefile.Saved(role="active", left=(told, []))
        interfaces = ServiceInterfaces(us)
        be(us, pair.Phase.ACTIVE)
        assert looking(us, interfaces)() == [pair.Bare()]

    try:
        inside(node, look)
    finally:
        far.ip("address del 2001:db8::10/64 dev far")


def test_what_an_older_configuration_has_put_there_counts(node: Namespace, tmp_path: Path) -> None:
    node.ip("address add 198.51.100.9/32 dev eth1")

    def look() -> None:
        us = context(tmp_path)
        assert (
            ServiceInterfaces(us).switched("slave", [*TOLD, "eth1 198.51.100.9/24"], ok=True)
            is False
        )
        assert ServiceInterfaces(us).switched("slave", TOLD, ok=True) is True
        assert ServiceInterfaces(us).switched("slave", ["eth1", "eth1 x/24", ""], ok=True) is True

    inside(node, look)


def test_without_addresses_the_script_s_word_is_all_there_is(
    node: Namespace, tmp_path: Path
) -> None:
    def look() -> None:
        us = context(tmp_path, addresses=())
        for role in ("master", "slave"):
            assert ServiceInterfaces(us).switched(role, [], ok=True) is True
            assert ServiceInterfaces(us).switched(role, [], ok=False) is False

    inside(node, look)


def test_what_the_kernel_does_not_tell_is_not_against_it(node: Namespace, tmp_path: Path) -> None:
    def look() -> None:
        us = context(tmp_path)
        interfaces = ServiceInterfaces(us)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        for role in ("master", "slave"):
            assert interfaces.switched(role, TOLD, ok=True) is True
            assert interfaces.switched(role, TOLD, ok=False) is False
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert "SCRIPT-UNVERIFIED" in said(us) and 'error="Too many' in said(us)

    inside(node, look)


def test_many_addresses_make_no_endless_line(node: Namespace, tmp_path: Path) -> None:
    def look() -> None:
        us = context(tmp_path)
        told = [f"eth0 10.0.0.{host}/24" for host in range(200)]
        assert ServiceInterfaces(us).switched("master", told, ok=True) is False
        assert f"; and {200 - MOST_TOLD} more" in said(us)
        assert said(us).count("is not on eth0") == MOST_TOLD

    inside(node, look)


# ------------------------------------------------------------------ between two switches

STRAYS = (
    "192.0.2.10/24 dev eth0",
    "192.0.2.10/32 dev eth0",
    "192.0.2.10/32 dev lo",
    "192.0.2.10/24 dev eth1",
    "2001:db8::10/128 dev lo",
)


def looking(us: Context, interfaces: ServiceInterfaces) -> Callable[[], list[pair.Event]]:
    def look() -> list[pair.Event]:
        interfaces.look_for_addresses()
        events = list(us.events)
        us.events.clear()
        return events

    return look


@pytest.mark.parametrize("stray", STRAYS)
def test_an_address_that_comes_to_a_standby_is_told_once(
    node: Namespace, tmp_path: Path, stray: str
) -> None:
    def check() -> None:
        us = context(tmp_path, "standby")
        look = looking(us, ServiceInterfaces(us))
        be(us, pair.Phase.STANDBY)
        assert look() == []
        ip(f"address add {stray}")
        assert look() == [pair.Stray()]
        assert look() == []
        address, _, interface = stray.split()
        host, _, prefix = address.partition("/")
        where = f"found on this node, which is standby; prefix={prefix} interface={interface}"
        assert f"ADDRESS-FOUND address {host}: {where}" in said(us)

    inside(node, check)


def test_a_link_local_one_of_another_link_is_none(node: Namespace, tmp_path: Path) -> None:
    def check() -> None:
        us = context(tmp_path, "standby")
        us.conf = replace(us.conf, addresses=(Address("eth0", "fe80::1", 64),))
        interfaces = ServiceInterfaces(us)
        look = looking(us, interfaces)
        be(us, pair.Phase.STANDBY)
        ip("address add fe80::1/64 dev eth1 nodad")
        assert interfaces.switched("slave", ["eth0 fe80::1/64"], ok=True)
        assert look() == []
        ip("address add fe80::1/64 dev eth0 nodad")
        assert look() == [pair.Stray()]
        ip("address del fe80::1/64 dev eth0", "address del fe80::1/64 dev eth1")

    inside(node, check)


@pytest.mark.parametrize("stray", STRAYS)
def test_one_that_was_there_when_it_began_is_told_too(
    node: Namespace, tmp_path: Path, stray: str
) -> None:
    """But not while the node asks for the role: it would only lose what it is about to have."""
    node.ip(f"address add {stray}")

    def check() -> None:
        us = context(tmp_path)
        look = looking(us, ServiceInterfaces(us))
        assert look() == []
        be(us, pair.Phase.RESOLVING, pair.Purpose.BOOT)
        assert look() == []
        be(us, pair.Phase.TOLD, pair.Purpose.BOOT, pair.Query.RESUME)
        assert look() == []
        be(us, pair.Phase.STANDBY)
        assert look() == [pair.Stray()]

    inside(node, check)


def test_one_that_comes_as_soon_as_it_has_stood_down_is_told(
    node: Namespace, tmp_path: Path
) -> None:
    def check() -> None:
        us = context(tmp_path)
        interfaces = ServiceInterfaces(us)
        look = looking(us, interfaces)
        be(us, pair.Phase.STANDBY)
        assert interfaces.switched("slave", TOLD, ok=True)
        ip("address add 192.0.2.10/32 dev lo")
        assert look() == [pair.Stray()]
        assert not interfaces.switched("slave", TOLD, ok=True)
        assert look() == [], "the stand-down is tried again every window, and not at every look"
        assert look() == []

    inside(node, check)


def test_one_that_a_new_configuration_names_is_told(node: Namespace, tmp_path: Path) -> None:
    node.ip("address add 192.0.2.10/24 dev eth1")

    def check() -> None:
        us = context(tmp_path, "standby", addresses=())
        interfaces = ServiceInterfaces(us)
        look = looking(us, interfaces)
        be(us, pair.Phase.STANDBY)
        assert look() == []
        us.adopt(replace(us.conf, addresses=(V4,)))
        interfaces.adopt()
        assert look() == [pair.Stray()]

    inside(node, check)


def test_an_active_node_may_have_it_twice_but_not_miss_it(node: Namespace, tmp_path: Path) -> None:
    node.ip(*BOTH)

    def check() -> None:
        us = context(tmp_path)
        interfaces = ServiceInterfaces(us)
        look = looking(us, interfaces)
        be(us, pair.Phase.ACTIVE)
        assert interfaces.switched("master", TOLD, ok=True)
        assert look() == []
        ip("address add 192.0.2.10/32 dev lo")
        assert look() == []
        ip("address del 192.0.2.10/24 dev eth0")
        assert look() == [pair.Bare()], "another interface does not serve in its place"
        assert look() == []
        ip("address add 192.0.2.10/24 dev eth0")
        assert look() == []
        ip("address del 192.0.2.10/24 dev eth0")
        assert look() == [pair.Bare()]

    inside(node, check)


@pytest.mark.parametrize("reloads", [False, True])
def test_one_that_goes_before_the_first_look_is_missed(
    node: Namespace, tmp_path: Path, reloads: bool
) -> None:
    """Also after a reload, which comes just then."""
    node.ip(*BOTH)

    def check() -> None:
        us = context(tmp_path)
        interfaces = ServiceInterfaces(us)
        assert interfaces.switched("master", TOLD, ok=True)
        be(us, pair.Phase.ACTIVE)
        ip("address del 192.0.2.10/24 dev eth0")
        if reloads:
            us.adopt(replace(us.conf, timer_seconds=2.0))
            interfaces.adopt()
        assert looking(us, interfaces)() == [pair.Bare()]

    inside(node, check)


# ------------------------------------------------------------------ $state, and what is so

STATES: dict[str, tuple[str | None, tuple[str, ...], str | None]] = {
    "stands by": ("standby", (), "standby"),
    "serves, and could not note it": ("standby", BOTH, "active"),
    "the same after a failure": ("failed", BOTH, "active"),
    "with one of two": ("standby", BOTH[:1], "standby"),
    "on other interfaces": ("standby", ("address add 192.0.2.10/24 dev eth1", BOTH[1]), "standby"),
    "serves": ("active", BOTH, "active"),
    "has lost them": ("active", (), "active"),
    "in the middle of a switch": ("switching", BOTH, "switching"),
    "first of this boot": (None, BOTH, None),
}


@pytest.mark.parametrize("case", STATES)
def test_what_the_kernel_shows_outweighs_an_old_file(
    node: Namespace, tmp_path: Path, case: str
) -> None:
    role, commands, taken_for = STATES[case]
    node.ip(*commands)

    def check() -> None:
        us = context(tmp_path, role)
        us.saved.since = "2026-11-22T12:00:00.123Z"
        assert ServiceInterfaces(us).role_at_start() == taken_for
        corrected = role != taken_for
        assert ("STATE-CORRECTED" in said(us)) is corrected
        assert (us.saved.left == (TOLD, [])) is corrected
        assert (us.saved.since == "") is corrected

    inside(node, check)


def test_a_stand_down_that_failed_is_no_old_file(node: Namespace, tmp_path: Path) -> None:
    node.ip(*BOTH)

    def check() -> None:
        us = context(tmp_path, "failed")
        us.saved.unclean = True
        assert ServiceInterfaces(us).role_at_start() == "failed"
        assert (
            ServiceInterfaces(context(tmp_path, "standby", addresses=())).role_at_start()
            == "standby"
        )

    inside(node, check)


def test_what_is_decided_beside_the_role_is_saved_too(tmp_path: Path) -> None:
    """A preferred node that was told to stand by does not want its role after a restart."""
    us = context(tmp_path)
    for state in (
        replace(us.state, resuming=True),
        us.state,
        replace(us.state, from_peer=True),
        replace(us.state, from_peer=True, guarded=frozenset({"eth0", "check web"})),
    ):
        us.state = state
        us.note_decided()
        assert us.unsaved
        us.save()
        found = statefile.read(us.conf.state)
        assert (found.resuming, found.from_peer) == (state.resuming, state.from_peer)
        assert found.guarded == (state.guarded and sorted(state.guarded))
        us.note_decided()
        assert not us.unsaved


def test_an_active_node_that_has_lost_its_addresses_is_told_so_at_once(
    node: Namespace, tmp_path: Path
) -> None:
    """Even if they were never seen, as when it was killed before it could look."""

    def check() -> None:
        us = context(tmp_path)
        us.saved = statefile.Saved(role="active", left=([str(V4), "eth0 10.0.0.1/8"], []))
        interfaces = ServiceInterfaces(us)
        be(us, pair.Phase.RESOLVING, pair.Purpose.DOUBT)
        assert looking(us, interfaces)() == [pair.Bare()]
        us.saved = statefile.Saved(role="active")
        assert looking(us, ServiceInterfaces(us))() == []

    inside(node, check)


INTERFACES: dict[str, tuple[tuple[list[str], list[str]] | None, str, str]] = {
    # what was left, what is configured, with NOW for what the interface has; and what is noted
    "another interface on a standby": (None, "", "NOW"),
    "the same beside the pair's": (None, "02:00:00:00:00:10", "NOW"),
    "another interface on an active node": (([], ["eth0 02:00:00:00:00:10"]), "", "NOW"),
    "the pair's": (([], ["eth0 NOW"]), "NOW", OLD),
    "the pair's, also on a standby": (None, "NOW", OLD),
    "the pair's of before a reload": (([], ["eth0 NOW"]), "02:00:00:00:00:10", OLD),
    "one that a script may have given": (([], []), "", OLD),
}


@pytest.mark.parametrize("case", INTERFACES)
def test_an_interface_s_own_hardware_address_is_that_of_the_one_there_is(
    node: Namespace, tmp_path: Path, case: str
) -> None:
    """Probes come from it, and a network may pass no other; and the next stand-down gives it."""
    left, shared, noted = INTERFACES[case]
    now = str(node.show("link", "show", "dev", "eth0")[0]["address"])
    addresses, given = left or ([], [])

    def check() -> None:
        us = context(tmp_path)
        us.saved.hwaddrs["eth0"] = OLD
        us.saved.left = left and (addresses, [entry.replace("NOW", now) for entry in given])
        entries = (EthernetAddress("eth0", shared.replace("NOW", now)),) if shared else ()
        us.conf = replace(us.conf, ethernet_addresses=entries)
        ServiceInterfaces(us).look()
        assert us.saved.hwaddrs["eth0"] == noted.replace("NOW", now)

    inside(node, check)


def test_state_is_written_before_the_first_change(node: Namespace, tmp_path: Path) -> None:
    """Who finds it must be able to undo what was done, whenever we are killed."""
    script = tmp_path / "ha-switch"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    own = str(node.show("link", "show", "dev", "eth0")[0]["address"])

    def check() -> None:
        us = context(tmp_path)
        shared = EthernetAddress("eth0", "02:00:00:00:00:10")
        conf = replace(
            us.conf, failover_prog=str(script), ethernet_addresses=(shared,), user="root"
        )
        master = Master(conf, "slave", us.log)
        be(master.context, pair.Phase.PROMOTING)
        runner = master.programs._runners["script"]
        master._perform(pair.RunScript("master", "because"))
        noted = statefile.read(conf.state)
        assert noted.role == "switching"
        assert noted.left == (TOLD, [str(shared)])
        assert noted.hwaddrs == {"eth0": own}
        assert links.hwaddr("eth0") == own
        assert not [one for one in links.held() if one.address in conf.served]
        master.workers._add("addresses")
        limit = time.monotonic() + LONG
        while runner.pid is None:
            assert time.monotonic() < limit
            master.supervisor.tend(time.monotonic())
            for key, _ in master.selector.select(0.1):
                key.data()
        master.supervisor.end_all()
        assert {"192.0.2.10", "2001:db8::10"} <= set(links.addresses("eth0"))
        assert links.hwaddr("eth0") == shared.hwaddr
        assert runner.pid is not None
        assert statefile.read(conf.state).script == (runner.pid, runner.starttime)
        os.waitpid(runner.pid, 0)

    inside(node, check)
    node.ip(f"link set eth0 address {own}")


# Run where a small tmpfs is full: argv is the file, and how many addresses there are.
WRITE = """
import sys
sys.path.insert(0, sys.argv[1])
from failoverd import statefile
def note(role, count):
    saved = statefile.Saved(role=role)
    saved.seen = [("eth0", f"10.0.{n // 256}.{n % 256}") for n in range(count)]
    statefile.write(sys.argv[2], saved)
    assert statefile.read(sys.argv[2]) == saved
for step in sys.argv[3:]:
    role, count = step.split(":")
    note(role, int(count))
"""


def on_a_full_disk(node: Namespace, options: str, fill: str, before: str, *after: str) -> str:
    """What the last of some writes says, the first of which found room. "" if all is well."""
    write = shlex.join([sys.executable, "-I", "-c", WRITE, str(ROOT)]) + " $d/state"
    lines = (
        "set -e; d=$(mktemp -d); trap 'umount $d; rmdir $d' EXIT",
        f"mount -t tmpfs -o {options} tmpfs $d",
        f"{write} {before}; inode=$(stat -c %i $d/state)",
        fill,
        f"{write} {' '.join(after)}",
        "[ $(stat -c %i $d/state) = $inode ] && ls $d",
    )
    done = node.run("sh", "-c", "\n".join(lines), check=False)
    if done.returncode == 0:
        assert "state.new" not in done.stdout
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


FULL = {
    "of data": ("size=64k", "cat /dev/zero >$d/x 2>/dev/null || :"),
    "of files": ("nr_inodes=3", ": >$d/x"),
}


@pytest.mark.parametrize("full", FULL)
def test_a_full_disk_does_not_keep_the_role_from_being_noted(node: Namespace, full: str) -> None:
    """The file is written over, as its room is its own."""
    options, fill = FULL[full]
    after = ("active:2", "standby:0", "active:60")
    assert on_a_full_disk(node, options, fill, "standby:0", *after) == ""
    assert on_a_full_disk(node, options, fill, "standby:300", "active:290", "failed:0") == ""
    too_much = on_a_full_disk(node, options, fill, "standby:0", "active:400")
    assert "No space left on device" in too_much


@pytest.mark.parametrize("count", [0, 60, 300])
def test_whoever_is_killed_while_writing_over_it_leaves_it_whole_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    path = str(tmp_path / "state")
    old = statefile.Saved("standby", seen=[("eth0", f"10.0.0.{n}") for n in range(count)])
    new = statefile.Saved("active", seen=[("eth1", f"10.1.0.{n}") for n in range(count)])
    real = os.pwrite
    killed_at = 0
    while True:
        statefile.write(path, old)
        left = killed_at

        def write(fd: int, data: bytes, offset: int) -> int:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return real(fd, data, offset)

        monkeypatch.setattr(os, "pwrite", write)
        try:
            assert statefile._overwrite(path, padded(new))
        except KeyboardInterrupt:
            assert statefile.read(path) in (old, new, statefile.Saved())
            killed_at += 1
        else:
            assert statefile.read(path) == new
            return
        finally:
            monkeypatch.undo()


def padded(saved: statefile.Saved) -> bytes:
    data = statefile.encode(saved, statefile.boot_id()).encode()
    return data.ljust(-len(data) // statefile._BLOCK * -statefile._BLOCK)


def test_nothing_is_written_over_that_is_another_s(tmp_path: Path) -> None:
    """Nor through a link that another user planted."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"x" * 8192)
    (tmp_path / "link").symlink_to(victim)
    victim.chmod(0o622)
    for name in ("link", "victim", "missing"):
        assert not statefile._overwrite(str(tmp_path / name), b"{}")
    assert victim.read_bytes() == b"x" * 8192


# ------------------------------------------------------------------ a real pair

# A site's own, which believes that there is one interface with one name and one prefix.
SIMPLE = f"""#!/bin/sh
case $1 in
master) ip address replace {SERVICE}/24 dev eth0 ;;
slave) ip address del {SERVICE}/24 dev eth0 ;;
esac 2>/dev/null
exit 0
"""


def start_by_script(lab: Lab) -> None:
    """A pair whose script has an order of its own."""
    start(lab, addresses_by="script")


def use_simple_scripts(lab: Lab) -> None:
    """From the next switch on."""
    for node in lab.nodes:
        node.write("ha-switch", SIMPLE, 0o755)


def log_has(node: Node, text: str) -> Callable[[], bool]:
    return lambda: text in node.log()


@pytest.mark.parametrize(
    "copy", [f"{SERVICE}/32 dev eth0", f"{SERVICE}/16 dev eth0", f"{SERVICE}/32 dev lo"]
)
@pytest.mark.parametrize("typed_on", ["a", "b"])
def test_who_cannot_stand_down_keeps_the_role(lab: Lab, copy: str, typed_on: str) -> None:
    start_by_script(lab)
    use_simple_scripts(lab)
    lab.a.ip(f"address add {copy}")
    result = (lab.a if typed_on == "a" else lab.b).command("ha-fail")
    assert result.returncode == 1
    assert "script failed" in result.stderr
    address, _, interface = copy.split()
    assert f"{address} is still on {interface}: ip address del {copy}" in lab.a.log()
    lab.wait_until(lambda: settled(lab, lab.a), "a has its role back")
    assert runs(lab.b, "master") == 0
    lab.a.ip(f"address del {copy}")
    assert lab.a.command("ha-fail").returncode == 0
    assert settled(lab, lab.b)


def test_a_renamed_interface_is_no_silent_second_holder(lab: Lab) -> None:
    start_by_script(lab)
    use_simple_scripts(lab)
    lab.a.ip("link set dev eth0 down", "link set dev eth0 name ens3", "link set dev ens3 up")
    lab.b.command("ha-fail")
    lab.wait_until(log_has(lab.a, f"{SERVICE}/24 is still on ens3"), "a says so")
    lab.wait_until(lambda: lab.a.role() == "failed", "and that all is not well")
    lab.a.write("ha-switch", SWITCH.read_text(), 0o755)
    lab.wait_until(lambda: lab.holders() == ["b"], "it goes on trying", LONG)
    lab.wait_until(lambda: lab.b.role() == "active", "and the peer has the role")


@pytest.mark.parametrize("does", ["", f"ip address replace {SERVICE}/24 dev lo"])
def test_a_script_that_does_not_put_the_address_there_has_failed(lab: Lab, does: str) -> None:
    start_by_script(lab)
    undo = "ip address flush dev lo scope global"
    text = f"#!/bin/sh\ncase $1 in\nmaster) {does} ;;\nslave) {undo} ;;\nesac\n"
    lab.b.write("ha-switch", text, 0o755)
    result = lab.a.command("ha-fail")
    assert result.returncode == 1
    assert f"{SERVICE} is not on eth0: the script has to add it" in lab.b.log()
    lab.wait_until(lambda: lab.a.role() == "active", "a has its role back")
    assert lab.holders() == ["a"]
    assert lab.b.role() == "failed"


@pytest.mark.parametrize("copy", [f"{SERVICE}/32 dev lo", f"{SERVICE}/20 dev eth0"])
def test_a_copy_on_the_standby_is_taken_away(lab: Lab, copy: str) -> None:
    start(lab, **WATCHED)
    lab.b.ip(f"address add {copy}")
    lab.wait_until(lambda: lab.holders() == ["a"], "b takes it away")
    assert logs.told(lab.b.log(), "ADDRESS-FOUND")
    lab.wait_until(lambda: settled(lab, lab.a), "the pair is as it was")
    assert runs(lab.b, "slave") == 2


def test_a_full_run_folder_costs_no_client_the_service(lab: Lab) -> None:
    """The standby takes over while /run is full, and its daemon is killed and started again."""
    mounted(lab.b, "run", "-o", "size=64k")
    start(lab)
    main = main_pid(lab.b)
    lab.b.run("sh", "-c", f"cat /dev/zero >{lab.b.folder}/run/x")
    lab.a.power_cut()
    lab.wait_until(lambda: lab.b.role() == "active", "b takes over")
    lab.wait_until(lambda: '"active"' in lab.b.read("run/state"), "that is noted")
    assert not logs.told(lab.b.log(), "STATE-FAILED")
    start_again_without_an_outage(lab, main)


def test_an_old_state_costs_no_client_the_service(lab: Lab) -> None:
    """Nothing could be written since the takeover."""
    start(lab)
    main = main_pid(lab.b)
    folder = mounted(lab.b, "run", "-o", "ro")
    lab.a.power_cut()
    lab.wait_until(lambda: lab.b.role() == "active", "b takes over")
    assert logs.told(lab.b.log(), "STATE-FAILED")
    start_again_without_an_outage(lab, main, lambda: lab.b.check("umount", folder))
    assert logs.told(lab.b.log(), "STATE-CORRECTED")


def start_again_without_an_outage(
    lab: Lab, main: int, meanwhile: Callable[[], object] = lambda: None
) -> None:
    stood_down = runs(lab.b, "slave")
    with Eyes(lab) as eyes:
        kill(lab.b, main)
        lab.wait_until(lambda: not pids(lab.b, "failoverd:"), "all of it is gone")
        meanwhile()
        lab.b.start_failoverd()
        lab.wait_until(lambda: lab.b.role() == "active", "it goes on where it was", LONG)
        time.sleep(2.0)  # four windows: nothing may happen in them
        assert lab.b.role() == "active"
        assert eyes.changes == []
    assert runs(lab.b, "slave") == stood_down


def test_a_standby_that_was_given_the_address_while_it_was_down(lab: Lab) -> None:
    """The peer is asked before anything else, and has the role."""
    start(lab)
    kill(lab.b, main_pid(lab.b))
    lab.b.ip(f"address add {SERVICE}/24 dev eth0")
    lab.b.start_failoverd()
    lab.wait_until(lambda: settled(lab, lab.a), "b takes it away")
    assert runs(lab.b, "master") == 0
    assert runs(lab.a, "slave") == 0
