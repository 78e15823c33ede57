"""A real keepalived with watchd's file: examples/keepalived on the lab's heartbeat link."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable

import pytest

from dev.lab.bench import sensed
from dev.lab.bench.sensed import SensedKeepalived
from dev.lab.network import Lab
from dev.lab.node import Node
from dev.lab.spaces import search_path

WINDOW = 0.3
ADVERT = 0.5  # a busy host may keep one who is well from sending three of the example's
CALM = 10 * WINDOW  # in which nothing may move


@pytest.fixture
def stage(make_lab: Callable[..., Lab]) -> Lab:
    if shutil.which("keepalived", path=search_path()) is None:
        pytest.skip("keepalived is not installed: apt-get install keepalived")
    lab = make_lab()
    if lab.spaces.rootless:
        pytest.skip("keepalived wants to be root, and not of a user namespace")
    return lab


@pytest.fixture
def started(stage: Lab) -> tuple[Lab, SensedKeepalived]:
    """Both nodes with keepalived and the sensor; a has the address."""
    system = SensedKeepalived(WINDOW, advert=ADVERT)
    system.start(stage)
    for node in stage.nodes:
        known(node, "0")
    return stage, system


def known(node: Node, number: str) -> None:
    """Wait until the sensor says so."""
    node.lab.wait_until(lambda: node.read("watchd/eth0") == f"{number}\n", f"{node.name}: {number}")


def held_by(lab: Lab, name: str) -> None:
    lab.wait_until(lambda: lab.holders() == [name], f"{name} alone has the address")


def stays(lab: Lab, name: str) -> None:
    end = time.monotonic() + CALM
    while time.monotonic() < end:
        assert lab.holders() == [name]
        time.sleep(0.05)


Started = tuple[Lab, SensedKeepalived]


def test_the_address_leaves_a_dead_port_and_comes_back(started: Started) -> None:
    lab, _ = started
    lab.a.kill_port("eth0")
    held_by(lab, "b")
    assert (lab.a.read("watchd/eth0"), lab.b.read("watchd/eth0")) == ("1\n", "0\n")
    stays(lab, "b")
    lab.a.revive_port("eth0")
    held_by(lab, "a")
    lab.b.kill_port("eth0")
    known(lab.b, "1")
    stays(lab, "a")


def test_it_stays_where_neither_receives(started: Started) -> None:
    """Their windows do not end at the same moment: the other may have it for one of them."""
    lab, _ = started
    lab.switch.ip("link set dev net0 down")
    for node in lab.nodes:
        known(node, "1")
    held_by(lab, "a")
    stays(lab, "a")


def test_a_dead_sensor_leaves_its_last_word_and_the_next_one_puts_it_right(
    started: Started,
) -> None:
    lab, system = started
    lab.a.kill_port("eth0")
    held_by(lab, "b")
    system.sensors["a"].close()
    lab.a.revive_port("eth0")
    stays(lab, "b")
    assert lab.a.read("watchd/eth0") == "1\n"
    system.start_sensor(lab.a)
    held_by(lab, "a")


def test_without_the_file_the_node_counts_as_good(started: Started) -> None:
    lab, system = started
    lab.a.kill_port("eth0")
    held_by(lab, "b")
    (lab.a.outside / "watchd/eth0").unlink()
    held_by(lab, "a")
    lab.a.revive_port("eth0")
    known(lab.a, "0")
    lab.a.kill_port("eth0")  # the next change writes the file again
    held_by(lab, "b")
    lab.a.revive_port("eth0")
    held_by(lab, "a")
    system.sensors["a"].terminate()
    lab.wait_until(lambda: not lab.a.read("watchd/eth0"), "the file goes with its sensor")
    stays(lab, "a")


def test_a_sensor_may_come_after_keepalived(stage: Lab) -> None:
    lab, system = stage, SensedKeepalived(WINDOW, advert=ADVERT)
    for node in lab.nodes:
        (node.outside / "watchd").mkdir()
        system.start_one(node)
    held_by(lab, "a")
    for node in lab.nodes:
        system.start_sensor(node)
        known(node, "0")
    lab.a.kill_port("eth0")
    held_by(lab, "b")


def test_the_row_of_the_benchmark_says_what_was_reached() -> None:
    never = float("inf")
    met = [line.met for line in sensed.told([0.3, 0.4, 0.45], [never, never])]
    assert met == [True, True, True]
    missed = [line.met for line in sensed.told([0.3, 0.3, never], [1.0, never])]
    assert missed == [True, False, False]
