"""A pair of which one node is upgraded and the other runs 2.0, as the history has it."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from live_pair import LONG, WATCHED, settled

from dev.lab.network import Lab
from dev.lab.node import Node
from dev.lab.spaces import ROOT

RELEASED = "707d5bd"  # the last commit of 2.0.0


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of 2.0 in a folder of its own."""
    folder = tmp_path_factory.mktemp("released")
    git = ("git", "-c", "safe.directory=*", "-C", str(ROOT), "archive", RELEASED)
    archive = subprocess.run([*git, "bin", "failoverd"], capture_output=True, check=False)
    if archive.returncode != 0:
        pytest.skip(f"2.0 is not in the history here: {archive.stderr.decode().strip()}")
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder


def start_old(node: Node, code: Path) -> None:
    launch = str(code / "bin" / "launch.py")
    with (node.outside / "terminal").open("ab") as terminal:
        node.popen(
            *(sys.executable, "-I", launch, "failoverd", "-f", "-c", node.conf),
            stdout=terminal,
            stderr=subprocess.STDOUT,
        )


@pytest.mark.parametrize("old", ["a", "b"])
def test_a_node_that_is_upgraded_works_with_one_that_is_not(
    lab: Lab, released: Path, old: str
) -> None:
    former, new = (lab.a, lab.b) if old == "a" else (lab.b, lab.a)
    for node in lab.nodes:
        node.write_conf(**WATCHED)
    start_old(former, released)
    new.start_failoverd()
    lab.wait_until(lambda: settled(lab, lab.a), "a is active, b stands by", LONG)

    status = new.status()
    assert {status["us"]["role"], status["peer"]["role"]} == {"active", "standby"}
    for active in (lab.b, lab.a):  # each gives the role and takes it
        result = new.command("ha-fail")
        assert result.returncode == 0, result.stderr
        lab.wait_until(partial(settled, lab, active), "a switchover", LONG)

    told = former.command("ha-fail", "--hold")
    assert told.returncode == 1 and "not held: failoverd here is too old" in told.stderr
    told = new.command("ha-fail", "--hold", "1s")
    assert told.returncode == 0 and "or its version is too old" in told.stderr

    former.power_cut()
    lab.wait_until(lambda: lab.holders() == [new.name], "the new node serves alone", LONG)


def test_a_new_standby_takes_an_interface_that_failed_on_the_old_node(
    lab: Lab, released: Path
) -> None:
    for node in lab.nodes:
        node.write_conf(**WATCHED)
    start_old(lab.a, released)
    lab.b.start_failoverd()
    lab.wait_until(lambda: settled(lab, lab.a), "a is active, b stands by", LONG)
    lab.a.kill_port("eth0")
    lab.wait_until(lambda: settled(lab, lab.b), "b has the role", LONG)
