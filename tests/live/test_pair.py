"""A real pair in the lab: what the client and both kernels see, whatever happens to it."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable

import pytest
from live_pair import (
    LONG,
    WATCHED,
    kill,
    main_pid,
    pids,
    role_changes,
    runs,
    settled,
    start,
    workers,
)

from dev.lab import logs
from dev.lab.network import SERVICE, Lab
from dev.lab.node import SWITCH, Node

# The router answers, so a quiet network is not a dead interface; without an answer a window has
# failed.


def test_power_cut_takeover_and_resume(lab: Lab) -> None:
    start(lab, **WATCHED)
    lab.client.start_probing()
    lab.wait_until(lab.client.answering, "the client is answered")
    assert lab.client.arp_holders() == {lab.a.hwaddr("eth0")}

    lab.a.power_cut()
    lab.wait_until(lambda: lab.b.role() == "active", "b takes over")
    lab.wait_until(lambda: lab.client.answering(time.monotonic() - 0.1), "b answers the client")
    assert lab.client.arp_holders() == {lab.b.hwaddr("eth0")}
    assert logs.told(lab.b.log(), "HEARTBEAT-LOST")

    lab.a.power_on()
    lab.a.start_failoverd()
    lab.wait_until(lambda: settled(lab, lab.a), "a resumes its role")
    lab.wait_until(lab.client.answering, "the client is answered again")
    assert lab.client.arp_holders() == {lab.a.hwaddr("eth0")}


def test_a_dead_port_gives_the_role_away_and_comes_back_only_on_demand(lab: Lab) -> None:
    start(lab, **WATCHED)
    lab.client.start_probing()
    lab.a.kill_port("eth0")
    lab.wait_until(lambda: settled(lab, lab.b), "b becomes active")
    lab.wait_until(lab.client.answering, "b answers the client")
    changes = role_changes(lab.b)
    lab.a.revive_port("eth0")
    lab.wait_until(
        lambda: lab.a.status()["us"]["interfaces"]["eth0"]["state"] == "ok", "a receives again"
    )
    assert settled(lab, lab.b)
    assert role_changes(lab.b) == changes


def test_a_switch_that_speaks_on_a_blocked_port_hides_nothing(lab: Lab) -> None:
    """A port that a switch keeps blocked still brings the switch's own frames."""
    bpdu = bytes.fromhex("0180c2000000 0200000000fe 0026 424203").ljust(60, b"\0")
    lldp = bytes.fromhex("0180c200000e 0200000000fe 88cc 0207").ljust(60, b"\0")
    start(lab, **WATCHED, verbose=True)
    with lab.switch.socket(socket.AF_PACKET, socket.SOCK_RAW) as switch:
        switch.bind((lab.a.port("eth0"), 0))

        def speaking(condition: Callable[[], bool]) -> Callable[[], bool]:
            def look() -> bool:
                switch.send(bpdu)
                switch.send(lldp)
                return condition()

            return look

        lab.a.kill_port("eth0")
        lab.wait_until(speaking(lambda: settled(lab, lab.b)), "b becomes active")
        lab.a.power_cut()
        lab.a.power_on()
        lab.a.start_failoverd()
        before = len(windows(lab.a))
        lab.wait_until(speaking(lambda: len(windows(lab.a)) >= before + 3), "three windows")
        assert all(" received=0 " in line for line in windows(lab.a)[before:])
        assert settled(lab, lab.b)
    lab.a.revive_port("eth0")
    lab.wait_until(lambda: settled(lab, lab.a), "a receives, and resumes its role")


def windows(node: Node) -> list[str]:
    """What the log tells of the windows of eth0."""
    return [line for line in node.log().splitlines() if " WINDOW interface eth0: " in line]


def test_a_switch_that_is_dead_for_both_changes_nothing(lab: Lab) -> None:
    start(lab, **WATCHED)
    before = [role_changes(node) for node in lab.nodes]
    for node in lab.nodes:
        node.kill_port("eth0")
    lab.wait_until(lambda: "the peer is" in lab.a.log(), "a finds b no better off")
    lab.wait_until(lambda: lab.a.log().count("IFACE-FAIL") >= 1, "a's watcher judged")
    time.sleep(2.5)  # several windows of silence: nothing may happen in them
    assert settled(lab, lab.a)
    assert [role_changes(node) for node in lab.nodes] == before


@pytest.mark.parametrize("typed_on", ["a", "b"])
def test_a_person_switches_from_either_node(lab: Lab, typed_on: str) -> None:
    start(lab)
    node = lab.a if typed_on == "a" else lab.b
    result = node.command("ha-fail")
    assert result.returncode == 0, result.stderr
    assert settled(lab, lab.b)
    back = node.command("ha-fail")
    assert back.returncode == 0, back.stderr
    assert settled(lab, lab.a)


def test_words_typed_into_nc(lab: Lab) -> None:
    start(lab)

    def type_on(node: Node, host: str, command: str) -> str:
        text = f"{node.read('secret')}{command}\n"
        return node.run("nc", "-N", host, "2000", text=text).stdout.splitlines()[-1]

    assert type_on(lab.b, "1.0.0.2", "fail") == "ok active"
    assert settled(lab, lab.b)
    assert type_on(lab.b, "1.0.0.2", "fail") == "ok active"
    assert type_on(lab.a, "1.0.0.2", "resume") == "ok standby"
    assert settled(lab, lab.a)
    assert json.loads(type_on(lab.a, "1.0.0.2", "status").removeprefix("ok "))["role"] == "standby"
    assert type_on(lab.a, "1.0.0.1", "restart") == "error unknown command"


def test_a_dead_failoverd_with_a_live_service_is_not_taken_over(lab: Lab) -> None:
    start(lab)
    lab.client.start_probing()
    lab.wait_until(lab.client.answering, "the client is answered")
    began = time.monotonic()
    kill(lab.a, main_pid(lab.a))
    lab.wait_until(
        lambda: logs.told(lab.b.log(), "TAKEOVER-BLOCKED", "still answers"),
        "b finds the service alive",
    )
    assert lab.holders() == ["a"]
    scripts = runs(lab.a, "master"), runs(lab.a, "slave")
    lab.a.start_failoverd()
    lab.wait_until(lambda: settled(lab, lab.a), "a goes on where it was")
    assert (runs(lab.a, "master"), runs(lab.a, "slave")) == scripts
    assert lab.client.outage(began) < 0.5
    assert not pids(lab.a, "failoverd:") or len(pids(lab.a, "failoverd: listener")) == 1


def test_link_cut_then_the_master_really_dies(lab: Lab) -> None:
    start(lab, second_path=False)
    lab.cut_link()
    lab.wait_until(
        lambda: logs.told(lab.b.log(), "TAKEOVER-BLOCKED", "still answers"),
        "b asks and stays standby",
    )
    time.sleep(2.0)  # four windows: no second holder may appear in them
    assert lab.holders() == ["a"]
    lab.a.power_cut()
    lab.wait_until(lambda: lab.b.role() == "active", "b takes over when a is really dead")
    assert lab.holders() == ["b"]


def test_the_switch_script_fails_on_the_standby(lab: Lab) -> None:
    start(lab)
    lab.b.write("ha-switch", '#!/bin/sh\necho "no $1 today"\n[ "$1" = slave ]\n', 0o755)
    result = lab.a.command("ha-fail")
    assert result.returncode == 1
    assert "script failed" in result.stderr
    lab.wait_until(lambda: lab.a.role() == "active", "a has its role back")
    assert lab.holders() == ["a"]
    assert lab.b.role() == "failed"
    assert "no master today" in lab.b.log()


def test_the_switch_script_hangs_on_the_standby(lab: Lab) -> None:
    start(lab)
    lab.b.write("ha-switch", '#!/bin/sh\n[ "$1" = slave ] || sleep 1000\n', 0o755)
    result = lab.a.command("ha-fail")
    assert result.returncode == 1
    lab.wait_until(lambda: lab.a.role() == "active", "a has its role back", LONG)
    assert lab.holders() == ["a"]
    assert logs.told(lab.b.log(), "SCRIPT-END", "killed, did not end in time")
    listing = ("ps", "-eo", "args=")
    gone = lambda: "sleep 1000" not in lab.b.check(*listing).splitlines()  # noqa: E731
    lab.wait_until(gone, "the script is gone")


@pytest.mark.parametrize("hangs", [False, True])
def test_ha_fail_knows_the_end_of_a_switch_that_takes_longer_than_one_script(
    make_lab: Callable[..., Lab], hangs: bool
) -> None:
    """Nothing that it has called refused happens later."""
    lab = make_lab({"switch_timeout": 5.0, "hold_down": 2.0})
    start(lab)
    for node in lab.nodes:
        node.write("ha-switch", f'#!/bin/sh\nsleep 3.2\nexec {SWITCH} "$1"\n', 0o755)
    if hangs:
        lab.b.write("ha-switch", "#!/bin/sh\nsleep 1000\n", 0o755)
    result = lab.a.command("ha-fail", timeout=LONG)
    if hangs:
        assert (result.returncode, lab.holders()) == (1, ["a"]), result.stderr
        assert "not switched: the switch script failed" in result.stderr
        assert "active now: this node" in result.stderr
    else:
        assert (result.returncode, lab.holders()) == (0, ["b"])
        assert "switchover: this node -> peer 1.0.0.2 done in" in result.stdout


def test_ipv6_and_hardware_addresses_move(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(ipv6=True)
    shared = "02:00:00:00:00:10"
    start(
        lab,
        addresses=[f"eth0 {SERVICE}/24", f"eth0 {lab.service6}/64"],
        ethernet_addresses=[f"eth0 {shared}"],
    )
    assert lab.a.hwaddr("eth0") == shared
    assert lab.holders(lab.service6) == ["a"]
    own = lab.a.interfaces["eth0"].hwaddr
    assert lab.a.command("ha-fail").returncode == 0
    assert settled(lab, lab.b)
    assert (lab.a.hwaddr("eth0"), lab.b.hwaddr("eth0")) == (own, shared)
    assert lab.holders(lab.service6) == ["b"]
    assert lab.client.arp_holders() == {shared}


def test_an_interface_goes_down_up_is_deleted_and_made_again(lab: Lab) -> None:
    start(lab, **WATCHED)
    main = main_pid(lab.b)

    def state() -> str:
        return str(lab.b.status()["us"]["interfaces"]["eth0"]["state"])

    lab.b.ip("link set dev eth0 down")
    lab.wait_until(lambda: state() == "down", "b says that eth0 is down")
    lab.b.ip("link set dev eth0 up")
    lab.wait_until(lambda: state() == "ok", "b receives on eth0 again")
    lab.b.delete_interface("eth0")
    lab.wait_until(lambda: state() == "down", "b says that eth0 is away")
    lab.b.make_interface("eth0")
    lab.wait_until(lambda: state() == "ok", "b receives on the new eth0", LONG)
    lab.b.delete_interface("plip0")
    lab.wait_until(lambda: "1.0.0.2" not in lab.b.check("ip", "addr"), "the link is gone")
    lab.b.make_interface("plip0")
    lab.wait_until(lambda: settled(lab, lab.a), "both reach each other again", LONG)
    lab.wait_until(
        lambda: lab.a.status()["us"]["plip"]["state"] == "ok", "heartbeats come again", LONG
    )
    assert main_pid(lab.b) == main


def test_children_that_die_come_back_and_no_role_changes(lab: Lab) -> None:
    start(lab)
    titles = (
        "watchd plip0",
        "watchd eth0",
        "heartbeat",
        "listener",
        "neighbours",
        "addresses",
        "log",
    )
    before = [role_changes(node) for node in lab.nodes]
    for title in titles:
        for node in lab.nodes:
            (old,) = pids(node, f"failoverd: {title} ")
            user = node.check("ps", "-o", "user=", "-p", str(old)).strip()
            assert user == lab.user
            kill(node, old)

    def replaced() -> bool:
        return all(len(workers(node)) == len(titles) for node in lab.nodes)

    lab.wait_until(replaced, "every child is there again")
    lab.wait_until(lambda: settled(lab, lab.a), "the pair is as it was")
    assert [role_changes(node) for node in lab.nodes] == before
    stopped = pids(lab.a, "failoverd: heartbeat ")[0]
    kill(lab.a, stopped, signal.SIGSTOP)
    lab.wait_until(lambda: pids(lab.a, "failoverd: heartbeat ") != [stopped], "it is replaced")
    lab.wait_until(lambda: settled(lab, lab.a), "the pair is as it was")


def test_a_watcher_that_hangs_keeps_no_status_waiting(lab: Lab) -> None:
    """The peer is told what our interfaces have received since they were looked at, if soon."""
    start(lab, plip_timer=20.0)  # so that nothing replaces it meanwhile
    for pid in pids(lab.b, "failoverd: watchd eth0"):
        kill(lab.b, pid, signal.SIGSTOP)
    assert lab.a.status()["peer"] is not None


def test_a_frozen_master_finds_the_other_active_and_stands_by(lab: Lab) -> None:
    start(lab, confirm="none")
    lab.a.freeze()
    lab.wait_until(lambda: lab.b.role() == "active", "b takes over")
    lab.a.thaw()
    lab.wait_until(lambda: settled(lab, lab.b), "a stands by after the thaw")


def test_as_a_daemon(lab: Lab) -> None:
    lab.a.write_conf()
    result = lab.a.command("failoverd")
    assert (result.returncode, result.stderr) == (0, "")
    pid = main_pid(lab.a)
    again = lab.a.command("failoverd")
    assert again.returncode == 1
    assert again.stderr == f"failoverd: already running (pid {pid})\n"
    lab.wait_until(lambda: lab.a.role() == "active", "a is active alone", LONG)
    kill(lab.a, pid, signal.SIGUSR1)
    lab.wait_until(
        lambda: 'STATUS role: status; status="{\\"role\\": \\"active\\"' in lab.a.log(),
        "the status is logged",
    )
    os.rename(lab.a.outside / "log", lab.a.outside / "log.1")
    kill(lab.a, pid, signal.SIGHUP)
    lab.wait_until((lab.a.outside / "log").exists, "the log is a new one")
    kill(lab.a, pid, signal.SIGHUP)
    lab.wait_until(lambda: logs.told(lab.a.log(), "CONFIG-RELOADED"), "it is written")
    lab.a.write("failoverd.conf", "$plip_timer = 'soon';\n$nonsense = 1;\n")
    kill(lab.a, pid, signal.SIGHUP)
    lab.wait_until(lambda: logs.told(lab.a.log(), "CONFIG-REJECTED"), "a bad file is refused")
    assert lab.a.role() == "active"
    kill(lab.a, pid, signal.SIGTERM)
    lab.wait_until(lambda: not (lab.a.outside / "run/pid").exists(), "it has stopped")
    lab.wait_until(lambda: not pids(lab.a, "failoverd"), "with its children")
    assert lab.holders() == ["a"]
    lab.a.write_conf()
    assert lab.a.command("failoverd").returncode == 0
    lab.wait_until(lambda: lab.a.role() == "active", "it goes on where it was", LONG)
    assert runs(lab.a, "master") == 0  # in the new log: the addresses were left as they are


def test_start_up_errors_reach_the_terminal(lab: Lab) -> None:
    lab.a.write_conf()
    with lab.a.popen("nc", "-l", "-s", "1.0.0.1", "-p", "2000"):
        lab.wait_until(lambda: ":2000" in lab.a.check("ss", "-ltn"), "the port is taken")
        result = lab.a.command("failoverd")
        assert result.returncode == 1
        assert "2000" in result.stderr
        assert "in use" in result.stderr
    lab.a.write_conf(interfaces=["eth7"], addresses=[])
    result = lab.a.command("failoverd")
    assert result.returncode == 1
    assert "eth7: no such interface" in result.stderr
    assert not pids(lab.a, "failoverd")


def test_a_dry_run_beside_a_live_peer_is_harmless(lab: Lab) -> None:
    lab.b.write_conf()
    lab.b.start_failoverd()
    lab.wait_until(lambda: lab.b.role() == "active", "b is active alone", LONG)
    before = role_changes(lab.b)
    lab.a.write_conf(**WATCHED)
    lab.a.start_failoverd("-n")
    lab.wait_until(
        lambda: logs.told(lab.a.log(), "DRY-RUN", "would run"), "a says what it would do", LONG
    )
    assert logs.told(lab.a.log(), "DRY-RUN", "would be told; command=resume")
    would_be_put = f'would be added; count=1 addresses="eth0 {SERVICE}/24"'
    assert logs.told(lab.a.log(), "DRY-RUN", would_be_put)
    assert lab.a.say("fail") == "error dry run"
    assert lab.holders() == ["b"]
    assert role_changes(lab.b) == before
    assert lab.a.read("run/state") == ""


def test_a_private_link_with_ipv6(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(ipv6=True)
    for number, node in enumerate(lab.nodes, start=1):
        node.ip(f"address add fd00::{number}/64 dev plip0 nodad")
        node.write_conf(primary=f"fd00::{number}", secondary=f"fd00::{3 - number}")
        node.start_failoverd()

    def both() -> tuple[str, str]:
        told = lab.a.status()
        if told["us"] is None or told["peer"] is None:
            return "", ""
        return told["us"]["role"], told["peer"]["role"]

    lab.wait_until(lambda: both() == ("active", "standby"), "they reach each other", LONG)
    lab.wait_until(lambda: lab.a.status()["us"]["plip"]["state"] == "ok", "heartbeats are received")
    assert lab.a.status()["us"]["plip"]["rtt_ms"] is not None
    assert lab.a.command("ha-fail").returncode == 0
    assert both() == ("standby", "active")
