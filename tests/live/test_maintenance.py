"""Maintenance on a real pair: while it is on hold no role changes by itself, and both know it."""

from __future__ import annotations

import contextlib
import json
import random
import time
from functools import partial

from live_pair import LONG, WATCHED, kill, main_pid, role_changes, settled, start, stays

from dev.lab import logs
from dev.lab.network import Lab
from dev.lab.node import Node, Value

STATE = "disk/state"


def begin(lab: Lab, **variables: Value) -> None:
    """Start a pair whose $state is in a folder that outlives a boot."""
    for node in lab.nodes:
        node.check("mkdir", f"{node.folder}/disk")
        node.write_conf(state=f"{node.folder}/{STATE}", **variables)
        node.start_failoverd()
    lab.wait_until(lambda: settled(lab, lab.a), "a is active, b stands by", LONG)


def ha_fail(node: Node, *options: str) -> str:
    """What it says on standard output; it must succeed."""
    told = node.command("ha-fail", *options)
    assert told.returncode == 0, told.stderr
    return told.stdout


def is_held(node: Node) -> bool:
    """Whether a node knows of a hold that is in force."""
    try:
        told = json.loads(node.say("status").removeprefix("ok "))
    except (OSError, ValueError):
        return False
    return bool(told.get("hold", {}).get("held"))


def restart(node: Node) -> None:
    kill(node, main_pid(node))
    node.start_failoverd()


def boot(node: Node) -> None:
    """With another kernel's boot, as far as the files tell."""
    node.power_on()
    for name in (STATE, f"{STATE}.hold"):
        with contextlib.suppress(ValueError):  # it is not there, or damaged
            told = json.loads(node.read(name))
            node.write(name, json.dumps(told | {"boot_id": "another"}), 0o600)
    node.start_failoverd()


def test_a_hold_is_known_to_both_and_outlives_all_but_a_release(lab: Lab) -> None:
    begin(lab)
    told = ha_fail(lab.a, "--hold")
    assert told.splitlines()[0].startswith("role changes are on hold by ")
    assert told.endswith(" knows that too\n")
    assert all(map(is_held, lab.nodes))
    for node in lab.nodes:
        restart(node)
    lab.wait_until(lambda: all(map(is_held, lab.nodes)), "both know it after a restart", LONG)
    lab.wait_until(lambda: settled(lab, lab.a), "and their roles are as they were", LONG)
    lab.b.power_cut()
    boot(lab.b)
    lab.wait_until(lambda: lab.b.role() == "standby" and is_held(lab.b), "and after a boot", LONG)
    lab.wait_until(lambda: settled(lab, lab.a), "a is active still", LONG)
    vias = [line.values["via"] for line in logs.lines(lab.b.log(), "HOLD-ON")]
    assert vias == ["peer", "file", "file"]

    def is_shown() -> bool:
        shown = lab.b.command("ha-status")
        return shown.returncode == 1 and ", but role changes are on hold by " in shown.stdout

    lab.wait_until(is_shown, "ha-status says so", LONG)
    shown = lab.b.command("ha-status").stdout
    assert "\nhold " in shown and "next: ha-fail --release" in shown
    assert "role changes are on hold, by " in lab.b.command("failoverd", "-t").stdout

    changes = role_changes(lab.b)
    lab.a.power_cut()
    lab.wait_until(lambda: logs.told(lab.b.log(), "HELD"), "b would take over")
    assert stays(lambda: not lab.holders(), 2.0) and role_changes(lab.b) == changes
    assert lab.b.command("ha-status").returncode == 2
    released = lab.b.command("ha-fail", "--release")
    assert released.returncode == 0 and released.stdout.startswith("released: ")
    assert " does not know that yet: " in released.stderr
    lab.wait_until(lambda: lab.holders() == ["b"], "and does so now")

    boot(lab.a)
    lab.wait_until(lambda: settled(lab, lab.a), "a learns of the release, and fails back", LONG)
    assert not is_held(lab.a)


def test_an_operator_moves_the_role_on_hold_and_it_stays_where_it_was_put(lab: Lab) -> None:
    begin(lab, **WATCHED)
    ha_fail(lab.b, "--hold", "1h")
    assert "role changes are on hold until " in ha_fail(lab.a)
    assert settled(lab, lab.b)
    lab.b.kill_port("eth0")
    lab.wait_until(lambda: logs.told(lab.b.log(), "IFACE-FAIL"), "b has a bad interface")
    restart(lab.a)  # the preferred node
    assert stays(lambda: lab.b.role() == "active", 2.0)
    lab.wait_until(lambda: lab.a.role() == "standby", "a stands by", LONG)
    ha_fail(lab.a, "--release")
    lab.wait_until(lambda: settled(lab, lab.a), "a has the role", LONG)


def test_who_was_away_learns_of_it_before_it_takes_its_role_back(lab: Lab) -> None:
    """And again if its file is damaged."""
    begin(lab)
    lab.a.power_cut()
    lab.wait_until(lambda: lab.b.role() == "active", "b takes over")
    told = lab.b.command("ha-fail", "--hold")
    assert told.returncode == 0 and " does not know that yet: " in told.stderr
    lab.a.power_on()
    lab.a.write(f"{STATE}.hold", "{", 0o600)
    assert ".hold is damaged, which counts as no hold" in lab.a.command("failoverd", "-t").stdout
    boot(lab.a)
    lab.wait_until(lambda: settled(lab, lab.b) and is_held(lab.a), "a learns of it", LONG)
    assert stays(lambda: settled(lab, lab.b), 1.0)
    assert logs.told(lab.a.log(), "HOLD-FAILED")
    lab.wait_until(lambda: '"held": true' in lab.a.read(f"{STATE}.hold"), "and keeps it")
    ha_fail(lab.a, "--release")
    lab.wait_until(lambda: settled(lab, lab.a), "a has its role again", LONG)


def test_a_hold_expires_on_both_and_is_told_once(lab: Lab) -> None:
    begin(lab)
    ha_fail(lab.b, "--hold", "3s")
    lab.a.power_cut()
    lab.wait_until(lambda: lab.b.role() == "active", "b takes over when the time is up", LONG)
    (on,) = logs.lines(lab.b.log(), "HOLD-ON")
    (off,) = logs.lines(lab.b.log(), "HOLD-OFF")
    (active,) = [line for line in logs.lines(lab.b.log(), "ROLE") if line.sentence == "active"]
    left = float(on.values["left"].removesuffix("s"))
    assert off.values["via"] == "expired" and 1.0 < left <= 3.0
    assert on.at + left - 0.1 <= off.at <= active.at
    boot(lab.a)
    lab.wait_until(lambda: settled(lab, lab.a), "a fails back", LONG)
    assert len(list(logs.lines(lab.b.log(), "HOLD-OFF"))) == 1


def test_of_two_that_are_active_one_stands_down_on_hold(lab: Lab) -> None:
    begin(lab)
    ha_fail(lab.a, "--hold")
    lab.cut_link()
    lab.b.kill_port("eth0")
    lab.wait_until(lambda: lab.b.command("ha-fail").returncode == 0, "b is made active too", LONG)
    assert lab.holders() == ["a", "b"]
    lab.b.revive_port("eth0")
    lab.mend_link()
    lab.wait_until(lambda: len(lab.holders()) == 1, "one is left", LONG)
    (active,) = (node for node in lab.nodes if node.name in lab.holders())
    lab.wait_until(lambda: settled(lab, active), "and the other stands by", LONG)
    assert all(map(is_held, lab.nodes))


def test_only_the_node_itself_may_ask(lab: Lab) -> None:
    start(lab)

    def type_on(node: Node, host: str, command: str) -> str:
        text = f"{node.read('secret')}{command}\n"
        return node.run("nc", "-N", host, "2000", text=text).stdout.splitlines()[-1]

    for command in ("hold", "hold 90", "release"):
        assert type_on(lab.b, "1.0.0.1", command) == "error only by this node's own commands"
    for command in ("hold 0", "hold -1", "hold 1h", "hold ", "release now", "holding"):
        assert type_on(lab.a, "1.0.0.1", command) == "error unknown command"
    assert not is_held(lab.a)
    assert type_on(lab.a, "1.0.0.1", "hold 90") == "ok held" and is_held(lab.a)
    assert type_on(lab.a, "1.0.0.1", "release") == "ok released" and not is_held(lab.a)
    (line,) = logs.lines(lab.a.log(), "HOLD-ON")
    assert (line.values["by"], line.values["via"]) == ("1.0.0.1", "secret")


def test_who_is_killed_meanwhile_leaves_no_hold_that_one_node_alone_knows(lab: Lab) -> None:
    begin(lab)
    chance = random.Random(16)
    for command in ("--hold", "--release") * 3:
        asking = lab.a.popen_command("ha-fail", command)
        time.sleep(chance.uniform(0.0, 0.3))
        kill(lab.a, main_pid(lab.a))
        done = asking.wait() == 0
        lab.a.start_failoverd()
        lab.wait_until(lambda: lab.a.role() == "active", "a goes on", LONG)
        lab.wait_until(partial(agree, lab, done and command == "--hold"), "both agree", LONG)
        assert not done or is_held(lab.a) is (command == "--hold")


def agree(lab: Lab, held: bool) -> bool:
    """Whether both know the same; held: which was promised to be a hold."""
    here, there = map(is_held, lab.nodes)
    return here is there and here >= held
