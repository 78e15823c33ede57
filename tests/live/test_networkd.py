"""What systemd-networkd does to service addresses, and what examples/networkd has against it.

A real one runs in the lab, by itself: it is told that there is an udev, and ends with the lab.
"""

from __future__ import annotations

import os
import pwd
from datetime import datetime
from pathlib import Path

import pytest
from live_pair import LONG, role_changes, settled, start

from dev.lab.logs import told
from dev.lab.network import SERVICE, Lab
from dev.lab.node import Node
from dev.lab.spaces import ROOT, Process

NETWORKD = Path("/lib/systemd/systemd-networkd")
UNIT = (
    "[Match]\nName=eth0\n[Network]\nAddress=192.0.2.1/24\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
)
DROP_IN = ROOT / "examples" / "networkd" / "failoverd.conf"
CONFIGURED = "eth0: State changed: configuring -> configured"
IN_ITS_PLACES = """
mkdir -p /run/systemd/netif/links /run/systemd/netif/leases /run/udev/data
touch /run/udev/control
for link in /sys/class/net/*/ifindex; do echo I:1 >/run/udev/data/n$(cat $link); done
chown -R systemd-network: /run/systemd/netif
mount -o remount,rw /sys 2>/dev/null
mount --bind "$1" /etc/systemd/network && exec "$2"
"""


@pytest.fixture
def networkd(lab: Lab) -> str:
    """The folder of its files on a; a is active, and networkd has configured its interface once."""
    if not NETWORKD.exists() or lab.spaces.rootless or os.geteuid():
        pytest.skip("needs systemd-networkd, and root")
    try:
        pwd.getpwnam("systemd-network")
    except KeyError:
        pytest.skip("there is no user systemd-network")
    start(lab)
    return lab.a.write("network/10-eth0.network", UNIT).rpartition("/")[0]


@pytest.mark.parametrize("kept", [False, True])
def test_networkd_takes_the_address_and_failoverd_puts_it_back_unless_told_to_keep_it(
    lab: Lab, networkd: str, kept: bool
) -> None:
    if kept:
        lab.a.write("network/10-eth0.network.d/failoverd.conf", DROP_IN.read_text())
    before = role_changes(lab.b)
    with (lab.a.outside / "addresses").open("wb") as seen:
        lab.a.popen("ip", "-o", "-ts", "monitor", "address", "dev", "eth0", stdout=seen)
    run_networkd(lab.a, networkd)
    lab.wait_until(lambda: CONFIGURED in lab.a.read("networkd"), "it has done its work", LONG)
    lab.wait_until(lambda: lab.holders() == ["a"], "the address is here", LONG)
    lab.wait_until(lambda: kept or len(changes(lab.a)) >= 2, "it was away", LONG)
    gone = [at for at, deleted in changes(lab.a) if deleted]
    assert len(gone) == (not kept)
    for at in gone:
        back = min(after for after, deleted in changes(lab.a) if not deleted and after >= at)
        print(f"away for {(back - at).total_seconds() * 1000:.1f} ms")
    lab.wait_until(lambda: settled(lab, lab.a), "all is as it was", LONG)
    assert told(lab.a.log(), "ADDRESS-LOST") is not kept
    assert role_changes(lab.b) == before


def changes(node: Node) -> list[tuple[datetime, bool]]:
    """When the service address was put on the interface or deleted, which is True."""
    lines = [line for line in node.read("addresses").splitlines() if f" {SERVICE}/24" in line]
    return [(datetime.fromisoformat(line[1:27]), " Deleted " in line[:40]) for line in lines]


def run_networkd(node: Node, folder: str) -> Process:
    argv = ("unshare", "-m", "sh", "-c", IN_ITS_PLACES, "sh", folder, str(NETWORKD))
    with (node.outside / "networkd").open("wb") as words:
        env = {**os.environ, "SYSTEMD_LOG_LEVEL": "debug"}
        return node.popen(*argv, env=env, stderr=words)
