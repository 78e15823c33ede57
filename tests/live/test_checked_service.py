"""A real pair whose service is checked: what its programs and processes do, and what follows."""

from __future__ import annotations

import json
import time
from typing import Any

from live_pair import (
    LONG,
    MARGIN,
    WATCHED,
    hang_up,
    kill,
    main_pid,
    pids,
    role_changes,
    settled,
    stays,
)

from dev.lab import logs
from dev.lab.network import Lab
from dev.lab.node import Node, Value

TIMES: dict[str, Value] = {"check_timeout": 1.0, "check_fall": 3, "check_rise": 1}
INTERVAL = 0.2
WORST = 3 * INTERVAL + 1.0  # seconds: so many intervals, and $check_timeout


def begin(lab: Lab, *checks: str, **more: Value) -> None:
    """A pair with these checks, in which CHECK is a program that finds the service as the file
    `web` says, and HERE each node's folder. a is active."""
    for node in lab.nodes:
        serve(node, "exit 0")
        program = node.write("check", f"#!/bin/sh\n. {node.folder}/web\n", 0o755)
        told = [c.replace("CHECK", program).replace("HERE", node.folder) for c in checks]
        node.write_conf(checks=told, **{**WATCHED, **TIMES, **more})
        node.start_failoverd()
    lab.wait_until(lambda: settled(lab, lab.a), "a is active, b stands by", LONG)


def serve(node: Node, how: str) -> None:
    """What the check finds from now on."""
    node.write("web.new", f"{how}\n")
    (node.outside / "web.new").rename(node.outside / "web")


def checks(node: Node, whose: str = "us") -> dict[str, str]:
    """The state of each check, as ha-status tells it."""
    told: dict[str, Any] = node.status()[whose].get("checks", {})
    return {name: check["state"] for name, check in told.items()}


def test_a_bad_check_on_the_active_node_is_a_switchover(lab: Lab) -> None:
    begin(lab, f"web {INTERVAL} CHECK")
    lab.wait_until(lambda: checks(lab.a) == {"web": "ok"}, "the service works")
    assert checks(lab.b) == {"web": "unknown"}
    for node, how in ((lab.a, "echo refused; exit 2"), (lab.b, "exec sleep 1000")):
        if node is lab.b:
            lab.wait_until(lambda: checks(lab.b) == {"web": "ok"}, "b's service works")
            lab.wait_until(lambda: checks(lab.a) == {"web": "unknown"}, "a's is not known")
            time.sleep(2.0)  # $hold_down
        other = lab.b if node is lab.a else lab.a
        since = time.monotonic()
        serve(node, how)
        lab.wait_until(lambda other=other: settled(lab, other), "the role goes")  # type: ignore[misc]
        limit = WORST if node is lab.a else INTERVAL + 3 * 1.0
        assert time.monotonic() - since < limit + MARGIN
        serve(node, "exit 0")
    causes = [line.values["cause"] for line in logs.lines(lab.b.log(), "ROLE")]
    assert causes[-2:] == ["told-by-the-peer", "check-failed"]
    failed = [str(line) for node in lab.nodes for line in logs.lines(node.log(), "CHECK-FAIL")]
    assert failed == [
        "CHECK-FAIL check web: failed; output=refused",
        'CHECK-FAIL check web: failed; output="no end within 1 s, killed"',
    ]


def test_a_check_that_is_bad_on_both_nodes_moves_nothing(lab: Lab) -> None:
    begin(lab, f"web* {INTERVAL} CHECK")
    serve(lab.b, "echo b refuses; exit 2")
    lab.wait_until(lambda: checks(lab.a, "peer") == {"web": "bad"}, "a knows of b's check")
    serve(lab.a, "echo a refuses; exit 2")
    lab.wait_until(lambda: checks(lab.a) == {"web": "bad"}, "a's check is bad")
    before = role_changes(lab.b)
    assert stays(lambda: settled(lab, lab.a), 2.0)
    assert role_changes(lab.b) == before
    shown = lab.a.command("ha-status", "--check")
    assert shown.returncode == 1 and "check web is bad on peer 1.0.0.2: b refuses" in shown.stdout
    serve(lab.b, "exit 0")
    lab.wait_until(lambda: settled(lab, lab.b), "b is better off now")


def test_a_role_goes_where_the_service_works_and_back(lab: Lab) -> None:
    begin(lab, f"web* {INTERVAL} CHECK", hold_down=1.0)
    for sick, well in ((lab.a, lab.b), (lab.b, lab.a)):
        lab.wait_until(lambda well=well: checks(well) == {"web": "ok"}, "works there")  # type: ignore[misc]
        serve(sick, "exit 2")
        lab.wait_until(lambda well=well: settled(lab, well), "the role goes there")  # type: ignore[misc]
        serve(sick, "exit 0")
        time.sleep(2.0)  # $hold_down


def test_who_comes_back_with_a_bad_service_leaves_the_role_where_it_works(lab: Lab) -> None:
    """Also as long as it is not known yet that it is bad."""
    begin(lab, "web* 1 CHECK", hold_down=1.0)
    lab.a.power_cut()
    took = ["none -> standby", "standby -> active"]
    lab.wait_until(lambda: role_changes(lab.b) == took, "b takes over", LONG)
    serve(lab.a, "exit 2")
    lab.a.power_on()
    lab.a.start_failoverd()
    lab.wait_until(lambda: "CHECK-FAIL" in lab.a.log(), "a's check is bad", LONG)
    assert stays(lambda: settled(lab, lab.b), 2.0)
    assert role_changes(lab.b) == took
    serve(lab.a, "exit 0")
    lab.wait_until(lambda: settled(lab, lab.a), "a works, too, and has its role back", LONG)


def test_without_a_star_a_service_that_is_bad_on_both_changes_the_role_once(lab: Lab) -> None:
    """A standby's is not known, so the role is given once; then it stays, over a restart too."""
    begin(lab, f"web {INTERVAL} CHECK", hold_down=1.0)
    for node in lab.nodes:
        serve(node, "exit 2")
    lab.wait_until(lambda: settled(lab, lab.b), "the role goes to b")
    lab.wait_until(lambda: checks(lab.b) == {"web": "bad"}, "b's check is bad, too")
    assert stays(lambda: settled(lab, lab.b), 4.0)
    kill(lab.b, main_pid(lab.b))
    lab.b.start_failoverd()
    lab.wait_until(lambda: "was=active" in lab.b.log(), "b's failoverd runs again")
    lab.wait_until(lambda: checks(lab.b) == {"web": "bad"}, "b's check is still bad")
    assert stays(lambda: settled(lab, lab.b), 2.0)


def test_the_end_of_a_process_is_a_switchover_at_once(lab: Lab) -> None:
    """However long the interval is."""
    daemons = {node: node.popen("sleep", "1000") for node in lab.nodes}
    for node, daemon in daemons.items():
        node.write("web.pid", f"{daemon.pid}\n")
    begin(lab, "web 600 pidfile:HERE/web.pid")
    lab.wait_until(lambda: checks(lab.a) == {"web": "ok"}, "the process is found")
    since = time.monotonic()
    kill(lab.a, daemons[lab.a].pid)
    lab.wait_until(lambda: settled(lab, lab.b), "the role goes to b")
    assert time.monotonic() - since < MARGIN


def test_a_worker_that_dies_changes_no_state_and_no_role(lab: Lab) -> None:
    begin(lab, f"web* {INTERVAL} CHECK")
    serve(lab.b, "exit 2")
    lab.wait_until(lambda: checks(lab.b) == {"web": "bad"}, "b's check is bad")
    lab.wait_until(lambda: checks(lab.a) == {"web": "ok"}, "a's is not")
    before = {node: node.status()["us"]["checks"]["web"]["since"] for node in lab.nodes}
    old = {node: pids(node, "failoverd: checks") for node in lab.nodes}
    for node, found in old.items():
        kill(node, found[0])
    lab.wait_until(
        lambda: all(pids(node, "failoverd: checks") not in ([], old[node]) for node in lab.nodes),
        "there are others",
    )
    assert stays(lambda: settled(lab, lab.a), 1.0)
    assert {node: node.status()["us"]["checks"]["web"]["since"] for node in lab.nodes} == before
    serve(lab.b, "exit 0")
    lab.wait_until(lambda: checks(lab.b) == {"web": "ok"}, "the other goes on")


def test_what_a_reload_changes_begins_again_and_the_rest_stays(lab: Lab) -> None:
    begin(lab, f"web* {INTERVAL} CHECK", f"all* {INTERVAL} CHECK")
    serve(lab.b, "exit 2")
    lab.wait_until(lambda: checks(lab.b) == {"web": "bad", "all": "bad"}, "both are bad")
    kept = lab.b.status()["us"]["checks"]["all"]
    program = f"{lab.b.folder}/check"
    told: list[Value] = [[f"all* {INTERVAL} {program}"], [f"web 2 {lab.b.folder}/nothing"], []]
    lab.b.write_conf(checks=told[0], **{**WATCHED, **TIMES})
    hang_up(lab.b, said="CONFIG-RELOADED")
    assert json.dumps(lab.b.status()["us"]["checks"]) == json.dumps({"all": kept})
    assert "CHECK-OK check web: no longer configured" in lab.b.log()
    lab.b.write_conf(checks=told[1], **{**WATCHED, **TIMES})
    hang_up(lab.b, said="CONFIG-REJECTED")
    assert checks(lab.b) == {"all": "bad"}
    lab.b.write_conf(checks=told[2], **{**WATCHED, **TIMES})
    hang_up(lab.b, said="CONFIG-RELOADED")
    assert "checks" not in lab.b.status()["us"] and settled(lab, lab.a)
