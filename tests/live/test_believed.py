"""What a pair believes must be true: a peer is reached if it answers, and nothing else tells that.
Here it answers on the heartbeat link alone, or not at all.

Real daemons, a real packet filter, real programs. Every wait is for a condition.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from dev.lab import logs
from dev.lab.filters import CLOSED, CUT, SMALL, drop, pass_all, why_no_filters
from dev.lab.network import ROUTER, SERVICE, Lab
from dev.lab.node import SWITCH, Node, Value
from dev.lab.spaces import Process
from failoverd import conf, pair
from failoverd.pair import bounds

LONG = 40.0
TIMERS: dict[str, Value] = {
    "timer_seconds": 0.5,
    "low_water": 1,
    "witness": [f"eth0 {ROUTER}"],
    "switch_timeout": 2.0,
    "second_path": False,
}
ANSWERS_FOR_ALL = """
import os, socket, sys
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x806))
wire.bind(("eth0", 0x806))
print(flush=True)
service = socket.inet_aton("192.0.2.10")
while True:
    frame, sender = wire.recvfrom(2000)
    if frame[20:22] == b"\\0\\1" and frame[38:42] == service and sender[2] != 4:
        mine = bytes.fromhex(sys.argv[1]) if sys.argv[1:] else b"\\2" + os.urandom(5)
        head = b"\\x08\\x06\\0\\1\\x08\\0\\6\\4\\0\\2"
        wire.send(frame[6:12] + mine + head + mine + service + frame[22:32])
"""


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    lab = make_lab()
    if why := why_no_filters(lab.a):
        pytest.skip(why)
    pass_all(lab.a)
    return lab


def begin(lab: Lab, **variables: Value) -> dict[str, Process]:
    """Both daemons; a is active, b stands by."""
    for node in lab.nodes:
        node.write_conf(**{**TIMERS, **variables})
    daemons = {node.name: node.start_failoverd() for node in lab.nodes}
    lab.wait_until(lambda: settled(lab), "a is active, b stands by", LONG)
    return daemons


def answer_for_all(lab: Lab, *hwaddr: str) -> Process:
    """Have the client answer from now on as if it had the service, by this hardware address or by
    ever new ones."""
    argv = (sys.executable, "-c", ANSWERS_FOR_ALL, *hwaddr)
    liar = lab.client.popen(*argv, stdout=subprocess.PIPE)
    assert liar.stdout is not None and liar.stdout.readline() == b"\n"
    return liar


def settled(lab: Lab) -> bool:
    return (lab.a.role(), lab.b.role(), lab.holders()) == ("active", "standby", ["a"])


def longest(node: Node) -> float:
    """The longest time without an active node, as `failoverd -t` has it."""
    settings = conf.parse(node.read("failoverd.conf"), "failoverd.conf")
    return bounds.longest_without_active(pair.rules(settings, "master"))


def notified(node: Node) -> list[str]:
    return node.read("notified").splitlines()


def notifier(node: Node) -> str:
    text = f'#!/bin/sh\necho "$1: $2" >>{node.folder}/notified\n'
    return node.write("notify", text, 0o755)


# ---------------------------------------------------------------------------- reached


@pytest.mark.parametrize("closed", ["a", "b", "both"])
def test_with_a_closed_port_one_becomes_active_and_the_reason_is_said(
    lab: Lab, closed: str
) -> None:
    for node in lab.nodes:
        node.write_conf(**TIMERS)
        if closed in (node.name, "both"):
            drop(node, CLOSED)
    for node in lab.nodes:
        node.start_failoverd()
    lab.wait_until(lambda: len(lab.holders()) == 1, "one has the address", LONG)
    lab.wait_until(
        lambda: any(logs.told(node.log(), "PEER-BLOCKED") for node in lab.nodes), "said", LONG
    )
    asker = lab.a if closed != "a" else lab.b
    lab.wait_until(
        lambda: "its heartbeats are received" in asker.command("ha-status").stdout, "shown", LONG
    )


def test_where_only_small_packets_pass_one_becomes_active(lab: Lab) -> None:
    for node in lab.nodes:
        node.write_conf(**TIMERS)
        drop(node, SMALL)
        node.start_failoverd()
    lab.wait_until(lambda: len(lab.holders()) == 1, "one has the address", LONG)


def test_a_dead_port_gives_the_role_away_though_a_closed_port_lets_no_query_in(lab: Lab) -> None:
    """The active node cannot ask whether the other is able; that one can ask for the role."""
    begin(lab)
    drop(lab.b, CLOSED)
    lab.a.kill_port("eth0")
    lab.wait_until(lambda: lab.holders() == ["b"], "b has the address alone", LONG)
    assert logs.told(lab.b.log(), "CALL")


def test_one_interface_of_two_that_fails_is_enough_for_that(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(interfaces=2)
    if why := why_no_filters(lab.a):
        pytest.skip(why)
    pass_all(lab.a)
    begin(
        lab,
        addresses=[f"eth0 {SERVICE}/24", "eth1 198.51.100.10/24"],
        witness=[f"eth0 {ROUTER}", "eth1 198.51.100.254"],
    )
    drop(lab.b, CLOSED)
    lab.a.kill_port("eth0")
    lab.wait_until(lambda: lab.holders() == ["b"], "b has the address alone", LONG)
    lab.wait_until(lambda: lab.b.role() == "active", "b is active", LONG)
    cause = json.loads(lab.b.command("ha-status", "--json").stdout)["us"]["change"]["cause"]
    assert cause == "active peer worse off"


def test_a_port_that_is_closed_in_a_switchover_leaves_no_client_without_service(lab: Lab) -> None:
    begin(lab)
    lab.a.write("shipped", SWITCH.read_text(), 0o755)
    slow = '[ "$1" = master ] || { : >begun; until [ -e go ]; do sleep 0.02; done; }'
    text = f'#!/bin/sh\ncd {lab.a.folder}\n{slow}\nexec ./shipped "$1"\n'
    lab.a.write("ha-switch", text, 0o755)
    asks = lab.a.popen_command("ha-fail")
    lab.wait_until((lab.a.outside / "begun").exists, "a stands down", LONG)
    drop(lab.b, CLOSED)
    lab.a.write("go", "")
    lab.wait_until(lambda: not lab.holders(), "a has no address any more", LONG)
    lab.wait_until(lambda: len(lab.holders()) == 1, "one has it again", longest(lab.a) + LONG)
    asks.wait(LONG)


def test_a_status_command_keeps_no_node_from_taking_over(lab: Lab) -> None:
    daemons = begin(lab)
    lab.a.unplug("eth0")
    daemons["a"].kill()
    end = time.monotonic() + LONG
    while "b" not in lab.holders():
        lab.a.command("ha-status")
        assert time.monotonic() < end, "asked all the time, b does not take over"


def test_what_a_person_was_refused_does_not_happen_later(lab: Lab) -> None:
    begin(lab)
    assert lab.b.command("ha-fail").returncode == 0
    lab.wait_until(lambda: lab.holders() == ["b"], "b is active", LONG)
    drop(lab.b, CLOSED)
    refused = lab.a.command("ha-fail", timeout=LONG)
    assert refused.returncode == 1, refused.stderr
    assert logs.told(lab.a.log(), "SWITCHOVER-REFUSED")
    pass_all(lab.b)
    lab.wait_until(lambda: lab.a.status()["peer"] is not None, "a reaches b again", LONG)
    end = time.monotonic() + 4.0  # eight windows in which a could act on it
    while time.monotonic() < end:
        assert lab.holders() == ["b"]


def test_a_persons_word_is_carried_out_though_the_peer_was_reached_just_now(lab: Lab) -> None:
    daemons = begin(lab, plip_timer=60.0, plip_hbeat=1.0)
    daemons["a"].kill()
    lab.a.unplug("eth0")
    assert lab.b.say("fail") == "ok active"
    assert "b" in lab.holders()


# ---------------------------------------------------------------------------- programs


def waiting(node: Node, name: str, status: int) -> str:
    """A program that notes its runs, waits for a file `go`, and ends with a status."""
    here = node.folder
    text = f"#!/bin/sh\necho $$ >>{here}/{name}.runs\n"
    text += f"until [ -e {here}/{name}.go ]; do sleep 0.02; done\necho done >>{here}/{name}.done\n"
    return node.write(name, f"{text}exit {status}\n", 0o755)


def runs(node: Node, name: str) -> list[str]:
    return node.read(f"{name}.runs").split()


def is_gone(node: Node, pid: str) -> bool:
    return node.run("kill", "-0", pid).returncode != 0


def test_a_word_about_an_earlier_silence_does_not_count(lab: Lab) -> None:
    """The program says at last that the service was dead; meanwhile the link was whole again."""
    begin(lab, switch_timeout=LONG, confirm=waiting(lab.b, "confirm", 1))
    lab.cut_link()
    lab.wait_until(lambda: len(runs(lab.b, "confirm")) == 1, "it is asked", LONG)
    lab.mend_link()
    lab.wait_until(lambda: logs.told(lab.b.log(), "SCRIPT-DROPPED"), "ended", LONG)
    lab.wait_until(lambda: is_gone(lab.b, runs(lab.b, "confirm")[0]), "the program is gone", LONG)
    lab.cut_link()
    lab.wait_until(lambda: len(runs(lab.b, "confirm")) >= 2, "it is asked again", LONG)
    assert lab.holders() == ["a"]
    lab.b.write("confirm.go", "")
    lab.wait_until(lambda: "b" in lab.holders(), "its word about this silence counts", LONG)


@pytest.mark.parametrize("end", ["TERM", "KILL"])
def test_no_fence_program_outlives_its_reason(lab: Lab, end: str) -> None:
    daemons = begin(lab, switch_timeout=LONG, fence_prog=waiting(lab.b, "fence", 0))
    lab.a.power_cut()
    lab.wait_until(lambda: len(runs(lab.b, "fence")) == 1, "b fences", LONG)
    first = runs(lab.b, "fence")[0]
    noted = f"[{first}, "  # a moment later: one killed in between leaves it to none
    lab.wait_until(lambda: noted in lab.b.read("run/state"), "b has noted it", LONG)
    if end == "TERM":
        daemons["b"].terminate()
        daemons["b"].wait(LONG)
        assert is_gone(lab.b, first)
    else:
        daemons["b"].kill()
        daemons["b"].wait(LONG)
    lab.b.start_failoverd()
    lab.wait_until(lambda: is_gone(lab.b, first), "the old one is ended", LONG)
    lab.wait_until(lambda: len(runs(lab.b, "fence")) == 2, "b fences again", LONG)
    lab.b.write("fence.go", "")
    lab.wait_until(lambda: "b" in lab.holders(), "b takes over", LONG)
    assert len(lab.b.read("fence.done").split()) == 1


def test_a_peer_that_is_reached_again_is_not_fenced(lab: Lab) -> None:
    """Both paths are whole again while the program runs: no node is fenced, and one is active."""
    fence = waiting(lab.b, "fence", 0)
    begin(lab, low_water=0, switch_timeout=LONG, fence_prog=fence)
    lab.a.kill_port("eth0")
    lab.cut_link()
    lab.wait_until(lambda: len(runs(lab.b, "fence")) == 1, "b fences", LONG)
    lab.a.revive_port("eth0")
    lab.mend_link()
    lab.wait_until(lambda: logs.told(lab.b.log(), "SCRIPT-DROPPED"), "ended", LONG)
    lab.wait_until(lambda: is_gone(lab.b, runs(lab.b, "fence")[0]), "the program is gone", LONG)
    lab.b.write("fence.go", "")
    assert lab.holders() == ["a"] and not lab.b.read("fence.done")


def test_confirm_none_and_hup_let_it_take_over(lab: Lab) -> None:
    daemons = begin(lab)
    liar = answer_for_all(lab, "020000000066")
    lab.a.power_cut()
    lab.wait_until(
        lambda: logs.told(lab.b.log(), "TAKEOVER-BLOCKED", "still answers"),
        "b is kept from it",
        LONG,
    )
    lab.b.write("failoverd.conf", lab.b.read("failoverd.conf") + '$confirm = "none";\n')
    daemons["b"].send_signal(signal.SIGHUP)
    lab.wait_until(lambda: "b" in lab.holders(), "b takes over", LONG)
    liar.kill()


# ---------------------------------------------------------------------------- ARP, and alarms


def test_another_host_that_answers_is_told_once_and_not_every_second(lab: Lab) -> None:
    begin(lab, notify_prog=notifier(lab.b))
    liar = answer_for_all(lab)
    lab.a.power_cut()
    lab.wait_until(lambda: "still answers" in "".join(notified(lab.b)), "told", LONG)
    time.sleep(5.0)  # rounds, each of them answered by another hardware address
    assert sum("still answers" in line for line in notified(lab.b)) == 1
    liar.kill()
    lab.wait_until(lambda: "b" in lab.holders(), "b takes over when it ends", LONG)


def test_a_third_host_that_has_the_address_of_a_dead_node_is_named(lab: Lab) -> None:
    begin(lab)
    liar = answer_for_all(lab, "020000000066")
    lab.a.power_cut()
    told = f"{SERVICE} is at 02:00:00:00:00:66, which is neither node"
    lab.wait_until(lambda: told in lab.b.command("ha-status").stdout, "b names it", LONG)
    assert lab.b.command("ha-status").returncode == 2
    refused = lab.b.command("ha-fail")
    assert refused.returncode != 0 and f"active now: no node: {told}" in refused.stderr
    liar.kill()
    lab.wait_until(lambda: lab.holders() == ["b"], "b takes over when it ends", LONG)


def test_the_first_notice_of_an_ordinary_takeover_is_the_takeover(lab: Lab) -> None:
    begin(lab, notify_prog=notifier(lab.b))
    lab.a.power_cut()
    lab.wait_until(lambda: "role: active" in notified(lab.b), "b has taken over", LONG)
    told = notified(lab.b)
    assert told[:2] == ["role: standby", "role: active"]


def test_who_yields_to_forged_answers_has_its_role_again_when_they_end(lab: Lab) -> None:
    begin(lab)
    dead = lab.a.hwaddr("eth0").replace(":", "")
    lab.a.power_cut()
    lab.wait_until(lambda: lab.holders() == ["b"], "b takes over", LONG)
    liar = answer_for_all(lab, dead)
    lab.wait_until(
        lambda: logs.told(lab.b.log(), "SPLIT-BRAIN", "another host answers for the addresses"),
        "b yields",
        LONG,
    )
    lab.wait_until(lambda: lab.holders() == [], "and stands down", LONG)
    liar.kill()
    lab.wait_until(lambda: lab.holders() == ["b"], "and has its role again", LONG)


def test_an_address_conflict_with_a_stranger_does_not_end_the_service(lab: Lab) -> None:
    """The peer's hardware addresses are known, and the one that answers is none of them."""
    begin(lab)
    lab.a.power_cut()
    lab.wait_until(lambda: lab.holders() == ["b"], "b takes over", LONG)
    liar = answer_for_all(lab, "020000000066")
    told = "another host answers ARP too; by=02:00:00:00:00:66"
    lab.wait_until(lambda: logs.told(lab.b.log(), "DUPLICATE", told), "b says so", LONG)
    time.sleep(5.0)  # rounds, each of them answered
    assert lab.holders() == ["b"]
    assert not logs.told(lab.b.log(), "SPLIT-BRAIN")
    liar.kill()
    lab.wait_until(lambda: logs.told(lab.b.log(), "DUPLICATE-OVER"), "it has an end", LONG)


@pytest.mark.parametrize("way", [CLOSED, CUT])
def test_two_that_never_exchanged_a_word_do_not_stay_two(lab: Lab, way: str) -> None:
    """Neither knows the other's hardware address: whoever answers is a second holder."""
    for node in lab.nodes:
        node.write_conf(**TIMERS)
        drop(node, way)
    lab.a.start_failoverd()
    lab.wait_until(lambda: lab.holders() == ["a"], "a is active", LONG)
    lab.b.start_failoverd()
    lab.wait_until(lambda: lab.b.role() == "standby", "b stands by", LONG)
    lab.a.kill_port("eth0")
    lab.wait_until(lambda: "b" in lab.holders(), "b takes over", LONG)
    lab.a.revive_port("eth0")
    lab.wait_until(lambda: len(lab.holders()) == 1, "one stands down", LONG)
    log = lab.a.log() + lab.b.log()
    assert logs.told(log, "DUPLICATE", f"address {SERVICE}: another host answers ARP too; by=")


def test_no_active_node_for_too_long_is_an_alarm_on_both(lab: Lab) -> None:
    for node in lab.nodes:
        node.write_conf(**TIMERS, notify_prog=notifier(node))
        node.write("ha-switch", '#!/bin/sh\n[ "$1" = slave ]\n', 0o755)
        node.start_failoverd()
    alarm = "no node is active as far as is known"
    lab.wait_until(
        lambda: all(alarm in "".join(notified(node)) for node in lab.nodes),
        "both say so",
        longest(lab.a) + LONG,
    )
    for node in lab.nodes:
        node.write("ha-switch", SWITCH.read_text(), 0o755)
    lab.a.say("fail")
    lab.wait_until(lambda: logs.told(lab.b.log(), "SERVICE-UP"), "it has an end", LONG)
