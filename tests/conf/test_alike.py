"""What must be the same on both nodes: how they differ is said at once, and by whoever asks."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from asked_there import ha_status_there, is_now, write_conf
from live_pair import kill, main_pid
from samples import ACTIVE, STANDBY
from wire import Pair, two_nodes

from dev.lab.network import SERVICE, Lab
from dev.lab.node import Node, Value
from failoverd import conf, links
from failoverd.conf import Conf, EthernetAddress, alike, parse
from failoverd.log import Log
from failoverd.master.context import Context
from failoverd.master.mismatch import Mismatch
from failoverd.tools.nodes import Answer, Look
from failoverd.wire.protocol import (
    MAX_SETTING,
    InterfaceStatus,
    Status,
    encode_status,
    parse_status,
)


def told(text: str, version: str = "2") -> Mapping[str, str]:
    return alike.of_conf(parse(text, "failoverd.conf"), version)


NOBODYS = "00:00:00:00:00:00"
TWIN = "02:00:00:00:00:07"
BASE = "@interfaces = ('eth0', 'eth1');"
DIFFERENT = [
    ("@interfaces = ('eth1', 'eth0');", {}),
    ("@interfaces = ('eth0', 'ens3');",
     {"@interfaces": "@interfaces: eth1 only here and ens3 only on the peer"}),
    ("@interfaces = ('eth0');", {"@interfaces": "@interfaces: eth1 only here"}),
    ("@addresses = ('eth0 192.0.2.10/24');",
     {"@addresses": "@addresses: eth0 192.0.2.10/24 only on the peer"}),
    ("@ethernet_addresses = ('eth0 02:00:00:00:00:10');",
     {"@ethernet_addresses":
      "@ethernet_addresses: eth0 02:00:00:00:00:10 only on the peer"}),
    ("$plip_timer = 12.5;", {"$plip_timer": "$plip_timer is 11 here, 12.5 on the peer"}),
    ("$plip_hbeat = 1;", {"$plip_hbeat": "$plip_hbeat is 10 here, 1 on the peer"}),
    ("$timer_seconds = 20.0;", {}),
    ("$timer_seconds = 2;", {"$timer_seconds": "$timer_seconds is 20 here, 2 on the peer"}),
    ("$low_water = 1;", {"$low_water": "$low_water is 0 here, 1 on the peer"}),
    ("$hold_down = 0;", {"$hold_down": "$hold_down is 60 here, 0 on the peer"}),
    ("$switch_timeout = 3;", {"$switch_timeout": "$switch_timeout is 30 here, 3 on the peer"}),
    ("$confirm = 'none';", {"$confirm": "$confirm is arp here, none on the peer"}),
    ("$confirm = '/bin/true';", {"$confirm": "$confirm is arp here, a program on the peer"}),
    ("$primary = '1.0.0.2'; $secondary = '1.0.0.1'; $log = '/x'; $packet_count = 7;", {}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "found"), DIFFERENT)
def test_each_difference_is_named(text: str, found: dict[str, str]) -> None:
    assert alike.differences(told(BASE), told(f"{BASE}\n{text}")) == found


def test_what_the_service_is_made_of_comes_first() -> None:
    """Only so much of it is told in one line."""
    other = "$low_water = 7; $timer_seconds = 3; @addresses = ('eth0 192.0.2.99/24');"
    names = [*alike.differences(told(BASE, "2.0"), told(f"{BASE}\n{other}", "2.1"))]
    assert names == ["@addresses", "$low_water", "$timer_seconds", "version"]


def test_programs_may_lie_in_different_places() -> None:
    assert not alike.differences(told("$confirm = '/bin/true';"), told("$confirm = '/bin/false';"))


def test_versions_are_compared_too() -> None:
    found = alike.differences(told(BASE, "2.0"), told(BASE, "2.1"))
    assert found == {"version": "version is 2.0 here, 2.1 on the peer"}


def test_a_long_list_is_told_as_a_digest() -> None:
    def served(last: int) -> str:
        every = [f"'eth0 198.51.100.{n}/32'" for n in [*range(1, 200), last]]
        return f"@addresses = ({', '.join(every)});"

    one, other = told(served(200)), told(served(201))
    assert one == told(served(200)) and len(one["@addresses"]) <= MAX_SETTING
    expected = {"@addresses": "@addresses differs from the peer's"}
    assert alike.differences(one, other) == expected
    assert alike.differences(one, told("@addresses = ();")) == expected


def test_a_status_tells_all_that_the_table_marks() -> None:
    names = {setting.perl_name for setting in conf.SETTINGS.values() if setting.alike}
    status = replace(ACTIVE, settings=alike.settings(Conf()))
    read = parse_status(encode_status(status))
    assert read == status
    assert {*alike.of_status(status)} == names | {"version"} == {*alike.of_conf(Conf(), "2")}


def test_an_older_peer_is_compared_in_what_it_tells() -> None:
    older = parse_status(encode_status(replace(ACTIVE, version="1.0")))
    assert older is not None
    found = alike.differences(told("@interfaces = ('eth0');", "1.0"), alike.of_status(older))
    assert found == {}
    assert {*alike.differences(told(BASE), alike.of_status(older))} == {"@interfaces", "version"}


# What the daemon says of it


class Recorder(Context):
    """Notes what would be logged."""

    def __init__(self, settings: Conf) -> None:
        self.conf = settings
        self.boot = "master"
        self.log = Log(os.devnull)
        self.lines: list[tuple[str, object]] = []

    def say(self, event: str, subject: str, /, *_: object, **values: object) -> None:
        assert subject in ("config", "interface eth0")
        self.log.write(event, subject, "", {})
        told = (values[key] for key in ("difference", "setting", "hwaddr") if key in values)
        self.lines.append((event, next(told, None)))


def test_it_is_said_once_and_when_it_ends() -> None:
    recorder = Recorder(Conf(interfaces=("eth0",)))
    mismatch = Mismatch(recorder)
    same = peer_of(recorder.conf)
    other = replace(same, interfaces=(("ens3", InterfaceStatus("ok", 1, 1, "")),))
    third = replace(other, settings=alike.settings(Conf(hold_down=1.0)))
    for status in (same, same, other, other, third, third, same):
        mismatch.note(status)
    assert recorder.lines == [
        ("CONFIG-MISMATCH", "@interfaces: eth0 only here and ens3 only on the peer"),
        ("SETTING-DIFFERS", "$hold_down is 60 here, 1 on the peer"),
        ("CONFIG-MATCH", "$hold_down"),
        ("CONFIG-MATCH", "@interfaces"),
    ]


def test_two_of_one_host_type_say_so_each_time_that_it_begins() -> None:
    recorder = Recorder(Conf(interfaces=("eth0",)))
    mismatch = Mismatch(recorder)
    slave = peer_of(recorder.conf)
    master = replace(slave, boot="master")
    for status in (slave, master, replace(master, role="active"), slave, slave, master):
        mismatch.note(status)
    events = [event for event, _ in recorder.lines]
    assert events == ["BOOT-CLASH", "BOOT-OK", "BOOT-CLASH"]


def test_clones_say_so_until_their_hardware_addresses_differ(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder = Recorder(Conf(interfaces=("eth0", "eth1")))
    mismatch = Mismatch(recorder)
    now = {"eth0": TWIN, "eth1": None}
    monkeypatch.setattr(links, "hwaddr", now.get)
    peer = told_hwaddrs(peer_of(recorder.conf), TWIN)
    for own in (TWIN, TWIN, "02:00:00:00:00:09"):
        now["eth0"] = own
        mismatch.note(peer)
    assert recorder.lines == [("HWADDR-CLASH", TWIN), ("HWADDR-OK", "02:00:00:00:00:09")]


def test_the_address_of_the_active_role_makes_no_clones() -> None:
    """It is on its way from one to the other; nor do the hardware address of no interface, and none
    at all."""
    served = (EthernetAddress("eth0", TWIN),)
    for hwaddr, own in ((TWIN, Conf(ethernet_addresses=served)), ("", Conf()), (NOBODYS, Conf())):
        assert not alike.one_hwaddr(own, {"eth0": hwaddr}, told_hwaddrs(STANDBY, hwaddr))


def told_hwaddrs(status: Status, hwaddr: str) -> Status:
    gone = InterfaceStatus("down", 0, 0, "")
    interfaces = (("eth0", InterfaceStatus("ok", 1, 1, hwaddr)), ("eth1", gone))
    return replace(status, interfaces=interfaces)


def peer_of(settings: Conf) -> Status:
    from failoverd import __version__

    names = settings.interfaces
    interfaces = tuple((name, InterfaceStatus("ok", 1, 1, "")) for name in names)
    return replace(
        STANDBY, version=__version__, interfaces=interfaces, settings=alike.settings(settings)
    )


def rename(node: Node, before: str, after: str) -> None:
    node.ip(f"link set dev {before} down", f"link set dev {before} name {after}")
    node.ip(f"link set dev {after} up")


def interface_named(name: str) -> dict[str, Value]:
    return {"interfaces": [name], "addresses": [f"{name} {SERVICE}/24"]}


def test_a_pair_whose_interfaces_have_other_names_says_so(lab: Lab) -> None:
    rename(lab.b, "eth0", "ens3")
    lab.a.write_conf(**interface_named("eth0"))
    lab.b.write_conf(**interface_named("ens3"), hold_down=3.0)
    for node in lab.nodes:
        node.start_failoverd()
    for node, here, there in ((lab.a, "eth0", "ens3"), (lab.b, "ens3", "eth0")):
        line = f"@interfaces: {here} only here and {there} only on the peer"
        lab.wait_until(lambda here=node, text=line: text in here.log(), line)  # type: ignore[misc]
    line = "$hold_down is 2 here, 3 on the peer"
    lab.wait_until(lambda: line in lab.a.log(), line)
    lab.wait_until(lambda: lab.a.role() == "active", "a is active")

    shown = lab.a.command("ha-status")
    assert shown.returncode == 1
    assert "$hold_down is 2 here, 3 on the peer" in shown.stdout
    assert f"@addresses: eth0 {SERVICE}/24 only here" in shown.stdout
    tree = json.loads(lab.a.command("ha-status", "--json").stdout)
    assert "$hold_down is 2 here, 3 on the peer" in tree["differences"]

    tested = lab.a.command("failoverd", "-t")
    assert tested.returncode == 0, tested.stderr
    assert f"note: not the same on both nodes: {line}" in tested.stdout.splitlines()

    rename(lab.b, "ens3", "eth0")
    lab.b.write_conf()
    kill(lab.b, main_pid(lab.b), signal.SIGHUP)
    lab.wait_until(lambda: lab.a.log().count("CONFIG-MATCH") == 3, "all is alike again")
    shown = lab.a.command("ha-status")
    assert "not the same" not in shown.stdout
    tested = lab.a.command("failoverd", "-t")
    assert "not the same" not in tested.stdout and "not compared" not in tested.stdout


def test_a_peer_that_cannot_be_asked_is_no_error(lab: Lab) -> None:
    lab.a.write_conf()
    tested = lab.a.command("failoverd", "-t")
    assert tested.returncode == 0, tested.stderr
    assert "note: not compared with the peer: " in tested.stdout
    lab.cut_link()
    began = time.monotonic()
    tested = lab.a.command("failoverd", "-t")
    assert tested.returncode == 0 and "not compared" in tested.stdout
    assert time.monotonic() - began < 20


# What ha-status makes of it


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with two_nodes(tmp_path) as made:
        yield made


def test_ha_status_warns_below_the_same_table(pair: Pair, tmp_path: Path) -> None:
    path = write_conf(pair, tmp_path)
    is_now(pair.listen(0), ACTIVE)
    peer = pair.listen(1)
    is_now(peer, STANDBY)
    status, same, errors = ha_status_there(pair, path)
    assert (status, errors) == (0, "")
    is_now(peer, replace(STANDBY, version="2.1.0"))
    status, out, errors = ha_status_there(pair, path)
    assert (status, errors) == (1, "") and out.splitlines()[1:-3] == same.splitlines()[1:]
    assert out.startswith("WARNING: this node is active, but not the same on both nodes: version")
    assert out.splitlines()[-2:] == [
        "not the same on both nodes: version is 2.0.0 here, 2.1.0 on the peer",
        "next: upgrade the node with the older version",
    ]


def test_worse_news_stay_the_exit_status() -> None:
    def look(peer: Status | None) -> Look:
        return Look(Conf(), Answer(ACTIVE), Answer(peer))

    assert look(replace(ACTIVE, version="2.1.0")).verdict.status == 2
    assert look(replace(STANDBY, version="2.1.0")).verdict.status == 1
    assert look(STANDBY).verdict.status == 0
    clone = look(replace(STANDBY, interfaces=ACTIVE.interfaces))
    assert "eth0 has the hardware address 02:00:00:00:00:01 on both nodes" in clone.remarks[0]
    assert look(None).differences == []
