"""Never two, never none: what a pair does in the situations that its peers in this field get wrong.

Both kernels tell who has the address from the first moment to the last, so that "never two" is a
statement about the whole of each test. What test_pair_live.py shows is not shown again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import pytest
from live_pair import MARGIN, stays, within

from dev.lab.eyes import Eyes
from dev.lab.network import FAST, ROUTER, SERVICE, Lab
from dev.lab.node import SWITCH, Node, Value
from dev.lab.spaces import Process
from dev.lab.stage import parse_log

WATCHED: dict[str, Value] = {
    "timer_seconds": 0.5,
    "low_water": 1,
    "witness": [f"eth0 {ROUTER}"],
    "switch_timeout": 2.0,
}
WINDOW = float(str(FAST["plip_timer"]))
ROUND = min(1.0, WINDOW)
LONG = 30.0


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab()


@pytest.fixture
def eyes(lab: Lab) -> Iterator[Eyes]:
    """They see who has the address, and are told at the end of the test if both had it."""
    with Eyes(lab) as watching:
        yield watching


def begin(lab: Lab, **variables: Value) -> dict[str, Process]:
    """Start failoverd on both nodes, and wait until a is active and b stands by."""
    daemons = {}
    for node in lab.nodes:
        node.write_conf(**{**WATCHED, **variables})
        daemons[node.name] = node.start_failoverd()
    lab.wait_until(lambda: settled(lab, lab.a), "a is active, b stands by", LONG)
    return daemons


def settled(lab: Lab, active: Node) -> bool:
    """Whether one node alone is active and holds the address, and the other stands by."""
    (other,) = {lab.a, lab.b} - {active}
    roles = active.role(), other.role()
    return roles == ("active", "standby") and lab.holders() == [active.name]


def state(node: Node, interface: str = "eth0") -> str:
    """What its own failoverd says of an interface; ha-status would wait for the peer's too."""
    return str(json.loads(node.say("status").removeprefix("ok "))["interfaces"][interface]["state"])


def logged(node: Node, text: str) -> Callable[[], bool]:
    return lambda: text in node.log()


def script(node: Node, text: str) -> None:
    """Lines of sh that are run before the shipped switch script; $1 is the role."""
    node.write("shipped", SWITCH.read_text(), 0o755)
    node.write("ha-switch", f'#!/bin/sh\ncd {node.folder}\n{text}\nexec ./shipped "$1"\n', 0o755)


def until_told(role: str) -> str:
    """For `script`: a run as this role says that it has begun, and ends when it is let go."""
    return f'[ "$1" != {role} ] || {{ : >begun; until [ -e go ]; do sleep 0.02; done; }}'


def exists(node: Node, name: str) -> Callable[[], bool]:
    return (node.outside / name).exists


def logged_at(node: Node, text: str) -> float:
    """When a line with this text was logged last, in monotonic seconds. Raises ValueError."""
    return max(line.at for line in parse_log(node) if text in line.text)


# ---------------------------------------------------------------------------- the heartbeat link


def test_the_link_is_cut_then_the_master_really_dies(lab: Lab, eyes: Eyes) -> None:
    notify = lab.b.write("notify", '#!/bin/sh\necho "$1: $2" >>"${0%/*}/notified"\n', 0o755)
    lab.a.write("notify", "#!/bin/sh\n", 0o755)
    begin(lab, notify_prog=notify, second_path=False)
    lab.cut_link()
    lab.wait_until(logged(lab.b, "still answers"), "b says so")
    lab.wait_until(
        lambda: "still answers" in lab.b.read("notified"),
        "a person is woken",
    )
    assert stays(lambda: lab.holders() == ["a"], 4 * WINDOW)
    died = time.monotonic()
    lab.a.power_cut()
    lab.wait_until(lambda: lab.b.role() == "active", "b takes over")
    # Three rounds of probes without an answer; one may just have been answered.
    assert eyes.gained("b", died) - died < max(WINDOW, 4 * ROUND) + MARGIN
    lab.wait_until(lambda: "role: active" in lab.b.read("notified"), "a person is told")
    assert not eyes.overlaps()


@pytest.mark.parametrize("way", ["toward a", "toward b", "unplugged"])
def test_the_link_is_lost_in_any_way_and_comes_back(lab: Lab, eyes: Eyes, way: str) -> None:
    begin(lab)
    if way == "unplugged":
        lab.a.unplug("plip0")
    else:
        lab.cut_link(toward=lab.a if way == "toward a" else lab.b)
    assert stays(lambda: eyes.holders == {"a"}, 4 * WINDOW)
    lab.mend_link()
    lab.a.plug("plip0")
    lab.wait_until(lambda: lab.b.status()["peer"] is not None, "b reaches a again")
    assert stays(lambda: eyes.holders == {"a"}, 2 * WINDOW)
    assert len(eyes.changes) == 1


@pytest.mark.parametrize("link", ["whole", "cut"])
def test_fail_typed_while_the_master_is_well(lab: Lab, eyes: Eyes, link: str) -> None:
    begin(lab, second_path=False)
    if link == "cut":
        lab.cut_link()
        lab.wait_until(logged(lab.b, "still answers"), "b says so")
        assert lab.b.say("fail").startswith("error ")
        assert stays(lambda: eyes.holders == {"a"}, 2 * WINDOW)
        lab.mend_link()
        lab.wait_until(lambda: lab.b.status()["peer"] is not None, "b reaches a again")
    lab.wait_until(lambda: lab.b.say("fail") == "ok active", "the person is obeyed", LONG)
    assert settled(lab, lab.b)
    assert not eyes.overlaps()


def test_a_node_that_can_neither_serve_nor_ask_falls_silent(lab: Lab, eyes: Eyes) -> None:
    """b goes on receiving a's heartbeats, so only their end tells it to take over."""
    begin(lab)
    lab.cut_link(toward=lab.a)
    lab.a.kill_port("eth0")
    lab.wait_until(lambda: lab.b.role() == "active", "b takes over")
    assert "HEARTBEAT-OFF" in lab.a.log()
    lab.a.revive_port("eth0")
    lab.mend_link()
    lab.wait_until(lambda: len(eyes.holders) == 1, "one of them stands down")
    assert stays(lambda: len(eyes.holders) == 1, 2 * WINDOW)


# ---------------------------------------------------------------------------- the service network


def test_a_switch_that_is_dead_and_comes_back_changes_nothing(lab: Lab, eyes: Eyes) -> None:
    begin(lab)
    lab.switch.ip("link set dev net0 down")
    lab.wait_until(
        lambda: [state(node) for node in lab.nodes] == ["fail", "fail"], "neither receives"
    )
    assert stays(lambda: eyes.holders == {"a"}, 4 * WINDOW)
    lab.switch.ip("link set dev net0 up")
    lab.wait_until(
        lambda: [state(node) for node in lab.nodes] == ["ok", "ok"], "both receive again"
    )
    assert stays(lambda: eyes.holders == {"a"}, 2 * WINDOW)
    assert len(eyes.changes) == 1


def test_each_node_loses_another_of_two_interfaces(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(interfaces=2)
    with Eyes(lab) as eyes:
        begin(
            lab,
            addresses=[f"eth0 {SERVICE}/24", "eth1 198.51.100.10/24"],
            witness=[f"eth0 {ROUTER}", "eth1 198.51.100.254"],
        )
        lab.b.kill_port("eth1")
        lab.wait_until(lambda: state(lab.b, "eth1") == "fail", "b misses eth1")
        lab.a.kill_port("eth0")
        lab.wait_until(logged(lab.a, "is no better off"), "b is no better off")
        assert stays(lambda: eyes.holders == {"a"}, 4 * WINDOW)
        assert len(eyes.changes) == 1
        lab.a.kill_port("eth1")
        lab.wait_until(lambda: settled(lab, lab.b), "b is better off now")
        assert not eyes.overlaps()


@pytest.mark.parametrize("restarted", [False, True])
def test_the_active_node_gets_its_addresses_back_on_an_interface_that_is_made_again(
    lab: Lab, eyes: Eyes, restarted: bool
) -> None:
    daemons = begin(lab, low_water=0)
    if restarted:
        daemons["a"].terminate()
        daemons["a"].wait()
    lab.a.delete_interface("eth0")
    lab.a.make_interface("eth0")
    if restarted:
        lab.a.start_failoverd()
    lab.wait_until(lambda: len(eyes.changes) == 3, "it was there, gone and is there again")
    lab.wait_until(lambda: settled(lab, lab.a) or settled(lab, lab.b), "one is active")
    lab.wait_until(lab.client.answering, "the client is served")
    assert not eyes.overlaps()


def test_a_role_is_not_handed_back_while_it_is_held_down(lab: Lab, eyes: Eyes) -> None:
    hold_down = 4.0
    begin(lab, hold_down=hold_down)
    lab.a.kill_port("eth0")
    died = time.monotonic()
    lab.wait_until(lambda: settled(lab, lab.b), "b becomes active")
    asked_every = 0.75  # s: the witness, in the middle of the window after that of a packet
    assert within(eyes.gained("b", died) - died + asked_every, "interface", lab.a)
    lab.wait_until(lambda: state(lab.b) == "ok", "b has a good window")
    lab.a.revive_port("eth0")
    lab.wait_until(lambda: state(lab.a) == "ok", "a receives again")
    lab.b.kill_port("eth0")
    lab.wait_until(lambda: settled(lab, lab.a), "a becomes active in the end", LONG)
    got = eyes.gained("b")
    assert eyes.gained("a", got) - got >= hold_down
    assert not eyes.overlaps()


# ---------------------------------------------------------------------------- starts and returns


def test_a_power_cut_and_the_return_take_as_long_as_was_told(lab: Lab, eyes: Eyes) -> None:
    def age() -> float | None:
        told: float | None = json.loads(lab.b.say("status").removeprefix("ok "))["plip"][
            "heartbeat_age"
        ]
        return told

    begin(lab)
    lab.wait_until(lambda: age() is not None, "b has received a heartbeat", LONG)
    cut = time.monotonic()
    lab.a.power_cut()
    asked = time.monotonic()
    since = age()
    assert since is not None
    received = asked - since
    lab.wait_until(lambda: lab.b.role() == "active", "b takes over")
    took = eyes.gained("b", cut)
    assert within(took - cut, "power_cut", lab.b)
    assert within(took - received, "silence", lab.b)
    lab.a.power_on()
    lab.a.start_failoverd()
    lab.wait_until(lambda: settled(lab, lab.a), "a resumes", LONG)
    started = logged_at(lab.a, "STARTED config")
    assert within(logged_at(lab.a, "told to stand by; command=resume") - started, "resume", lab.a)
    assert not eyes.overlaps()


def test_two_nodes_with_boot_slave_say_so_and_agree_in_time(lab: Lab, eyes: Eyes) -> None:
    for node in lab.nodes:
        node.write_conf(**WATCHED)
        node.write("host_type", "boot:slave\n")
        node.start_failoverd()
    lab.wait_until(lambda: settled(lab, lab.a), "the lower address has the role", LONG)
    both = max(logged_at(node, "ROLE role: standby") for node in lab.nodes)
    assert within(eyes.gained("a") - both, "none_active", lab.a)
    lab.wait_until(lambda: all("BOOT-CLASH" in node.log() for node in lab.nodes), "both say so")


@pytest.mark.parametrize("mresume", [True, False])
@pytest.mark.parametrize("order", ["ab", "ba"])
def test_both_are_started_at_once(lab: Lab, eyes: Eyes, order: str, mresume: bool) -> None:
    for node in lab.nodes:
        node.write_conf(**WATCHED, mresume=mresume)
    for node in lab.nodes if order == "ab" else reversed(lab.nodes):
        node.start_failoverd()
    lab.wait_until(lambda: settled(lab, lab.a), "a is active, b stands by", LONG)
    assert stays(lambda: eyes.holders == {"a"}, 2 * WINDOW)
    assert settled(lab, lab.a)
    assert len(eyes.changes) == 1


@pytest.mark.parametrize("mresume", [True, False])
def test_the_master_returns_while_the_slave_is_active(lab: Lab, eyes: Eyes, mresume: bool) -> None:
    begin(lab, mresume=mresume)
    lab.a.kill_port("eth0")
    lab.a.power_cut()
    lab.wait_until(lambda: lab.b.role() == "active", "b takes over")
    lab.a.power_on()
    lab.a.start_failoverd()
    if mresume:
        lab.wait_until(lambda: lab.a.role() == "standby", "a is back")
        assert stays(lambda: eyes.holders == {"b"}, 4 * WINDOW)
    else:  # it asks no host, so that both have it, until they have compared
        lab.wait_until(eyes.overlaps, "a takes the role")
        lab.wait_until(lambda: len(eyes.holders) == 1, "they compare")
    lab.a.revive_port("eth0")
    lab.wait_until(lambda: len(eyes.holders) == 1 and lab.client.answering(), "one serves", LONG)
    if mresume:
        lab.wait_until(lambda: settled(lab, lab.a), "a resumes as soon as it receives", LONG)
        assert not eyes.overlaps()


def test_a_master_that_stood_still_goes_on_if_no_node_took_over(lab: Lab, eyes: Eyes) -> None:
    begin(lab)
    lab.a.freeze()
    lab.wait_until(logged(lab.b, "still answers"), "b asks")
    assert stays(lambda: eyes.holders == {"a"}, 2 * WINDOW)
    lab.a.thaw()
    lab.wait_until(logged(lab.a, "STALLED"), "a notices")
    lab.wait_until(lambda: settled(lab, lab.a), "a goes on")
    assert len(eyes.changes) == 1


# ---------------------------------------------------------------------------- in a switchover


@pytest.mark.parametrize("lost", ["link", "peer"])
def test_the_answer_is_lost_after_fail_was_sent(lab: Lab, eyes: Eyes, lost: str) -> None:
    begin(lab, switch_timeout=1.5, second_path=False)
    script(lab.b, until_told("master"))
    lab.a.popen_command("ha-fail")
    lab.wait_until(exists(lab.b, "begun"), "b is taking over")
    gone = time.monotonic()
    if lost == "link":
        lab.cut_link()
        lab.b.write("go", "")
        lab.wait_until(lambda: settled(lab, lab.b), "a probes for the address, stands by", LONG)
    else:
        lab.b.power_cut()
        lab.wait_until(lambda: lab.a.role() == "active", "a takes its role back", LONG)
        assert within(eyes.gained("a", gone) - gone, "lost_switchover", lab.a)
    assert not eyes.overlaps()


@pytest.mark.parametrize("role", ["master", "slave"])
def test_a_switch_script_outlasts_its_caller(lab: Lab, eyes: Eyes, role: str) -> None:
    node = lab.b if role == "master" else lab.a
    daemon = begin(lab, switch_timeout=10.0)[node.name]
    script(node, until_told(role))
    lab.a.popen_command("ha-fail")
    lab.wait_until(exists(node, "begun"), "the script runs")
    noted = '"script": ['  # its pid, without which it could not be found
    lab.wait_until(lambda: noted in node.read("run/state"), "and that is noted")
    daemon.kill()
    daemon.wait()
    node.start_failoverd()
    lab.wait_until(logged(node, "LEFTOVER-WAIT"), "it is waited for")
    node.write("go", "")
    lab.wait_until(
        lambda: settled(lab, lab.a) or settled(lab, lab.b), "exactly one is active", LONG
    )
    assert stays(lambda: len(eyes.holders) == 1, 2 * WINDOW)
    assert not eyes.overlaps()


# ---------------------------------------------------------------------------- a split heals


def split(lab: Lab) -> None:
    """Let both be active: b receives nothing from a on any path, and the client is with a."""
    begin(lab)
    lab.client.start_probing()
    lab.wait_until(lab.client.answering, "the client is served")
    lab.b.kill_port("eth0")
    lab.cut_link()
    lab.wait_until(lambda: lab.holders() == ["a", "b"], "both have the address")
    lab.wait_until(lambda: state(lab.b) == "fail", "b knows that it does not receive")


def test_clients_reach_the_winner_of_a_split_because_it_announces(lab: Lab, eyes: Eyes) -> None:
    split(lab)
    loser = lab.b.hwaddr("eth0")
    lab.client.ip(f"neigh replace {SERVICE} lladdr {loser} dev eth0 nud reachable")
    healed = time.monotonic()
    lab.b.revive_port("eth0")
    lab.mend_link()
    lab.wait_until(lambda: eyes.holders == {"a"}, "b stands down")
    assert within(time.monotonic() - healed, "healing", lab.b)
    lab.wait_until(lambda: lab.client.answering(healed), "the client is served")
    # By itself the client's kernel would doubt what it believes after 15 s (arp(7)).
    lab.wait_until(lambda: lab.a.hwaddr("eth0") in neighbour(lab), "it believes the winner", 8.0)
    answered = min(at for at in lab.client.record.replies if at > healed)
    assert answered - healed < 1.0 + MARGIN


def neighbour(lab: Lab) -> str:
    """What the client believes of the service's hardware address."""
    return lab.client.check("ip", "neigh", "show", SERVICE)


def test_a_split_heals_over_the_wire_alone(lab: Lab, eyes: Eyes) -> None:
    split(lab)
    healed = time.monotonic()
    lab.b.revive_port("eth0")
    lab.wait_until(lambda: eyes.holders == {"a"}, "the node with boot:slave stands down")
    assert within(time.monotonic() - healed, "ethernet_healing", lab.b)
    assert stays(lambda: eyes.holders == {"a"}, 4 * WINDOW)


# ---------------------------------------------------------------------------- programs


def test_no_node_takes_over_by_silence_before_the_fence_program_has_succeeded(
    lab: Lab, eyes: Eyes
) -> None:
    text = '#!/bin/sh\necho "asked to fence"\n[ -e "${0%/*}/fenced" ]\n'
    fence = lab.b.write("fence", text, 0o755)
    lab.a.write("fence", "#!/bin/sh\n", 0o755)
    begin(lab, fence_prog=fence)
    lab.a.power_cut()
    lab.wait_until(logged(lab.b, "FENCE-FAILED"), "b may not")
    assert stays(lambda: not eyes.holders, 2 * WINDOW)
    lab.b.write("fenced", "")
    lab.wait_until(lambda: lab.b.role() == "active", "b may now")
    log = lab.b.log()
    assert log.rindex("asked to fence") < log.rindex("ha-switch master")


def test_a_program_confirms_that_the_service_is_dead(lab: Lab, eyes: Eyes) -> None:
    text = '#!/bin/sh\necho "asked to confirm"\n[ -e "${0%/*}/alive" ]\n'
    confirm = lab.b.write("confirm", text, 0o755)
    lab.b.write("alive", "")
    lab.a.write("confirm", text, 0o755)
    begin(lab, confirm=confirm)
    lab.a.power_cut()
    lab.wait_until(logged(lab.b, "still answers"), "the program says so")
    assert stays(lambda: not eyes.holders, 2 * WINDOW)
    (lab.b.outside / "alive").unlink()
    lab.wait_until(lambda: lab.b.role() == "active", "the program says that it is dead")
