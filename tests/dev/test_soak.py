"""Soak: that its judge bites, and a short run of it on a real pair."""

from __future__ import annotations

import dataclasses
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from dev.lab import soak
from dev.lab.network import Lab
from dev.lab.soak import Done, Held, Look, compared, share
from dev.lab.spaces import ROOT

LOOK = Look(
    held={"a: failoverd": Held(7, 30, 6000), "a: listener": Held(8, 10, 5000)},
    processes=9,
    zombies=0,
    roles={"a": "active", "b": "standby"},
    state={"a": {"role": "active", "peer_hwaddrs": []}, "b": {"role": "standby"}},
    lines=100,
    runs=4,
)
DONE = Done(switches=2, seconds=1.0)
LAST = dataclasses.replace(LOOK, runs=8)


def listener(pid: int = 8, files: int = 10, own: int = 5000) -> dict[str, Held]:
    return {**LOOK.held, "a: listener": Held(pid, files, own)}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, ""),
        ({"held": listener(files=11)}, "a: listener has 11 descriptors open, 10 before"),
        ({"held": listener(files=9)}, "a: listener has 9 descriptors open, 10 before"),
        ({"held": listener(own=5000 + soak.GROWTH)}, ""),
        ({"held": listener(own=5001 + soak.GROWTH)}, "it grows"),
        ({"held": listener(pid=9)}, "a: listener is gone, or another one"),
        ({"held": {"a: failoverd": LOOK.held["a: failoverd"]}}, "a: listener is gone"),
        ({"processes": 10}, "10 processes, 9 before"),
        ({"zombies": 1}, "1 dead"),
        ({"roles": {"a": "standby", "b": "active"}}, "the roles are"),
        ({"state": {"a": {"role": "active", "peer_hwaddrs": ["x"]}}}, "$state is"),
        ({"runs": 9}, "5 runs of the script for 2 switches"),
        ({"lines": 300}, "200 lines more"),
    ],
)
def test_what_is_not_as_at_the_start_is_told(changed: dict[str, Any], told: str) -> None:
    wrong = compared(LOOK, LAST, dataclasses.replace(LAST, **changed), DONE)
    assert told in "\n".join(wrong)
    assert bool(wrong) == bool(told)


def test_what_is_more_than_when_it_was_warm_is_told() -> None:
    grown = dataclasses.replace(LAST, held=listener(own=5001 + soak.MORE))
    assert "when it was warm" in compared(LOOK, grown, grown, DONE)[0]


def test_no_look_is_the_first_while_something_is_under_way() -> None:
    assert soak.under_way(LOOK) == []
    assert soak.under_way(dataclasses.replace(LOOK, zombies=1))
    assert soak.under_way(dataclasses.replace(LOOK, connections=1))
    writes = {**LOOK.held, "a: keeper": Held(9, 10, 5000)}
    assert soak.under_way(dataclasses.replace(LOOK, held=writes)) == ["a: keeper runs"]


def test_an_open_connection_is_seen(lab: Lab) -> None:
    assert soak.connections(lab) == 0
    with (
        lab.a.socket(socket.AF_INET, socket.SOCK_STREAM) as door,
        lab.b.socket(socket.AF_INET, socket.SOCK_STREAM) as caller,
    ):
        door.bind(("1.0.0.1", 2000))
        door.listen()
        caller.connect(("1.0.0.1", 2000))
        assert soak.connections(lab) == 2
    lab.wait_until(lambda: soak.connections(lab) == 0, "both ends are closed")


def test_the_parts_add_up() -> None:
    for whole, parts in ((10, 3), (1, 4), (0, 1), (7, 7)):
        assert sum(share(whole, number, parts) for number in range(parts)) == whole


def test_a_short_soak_leaves_nothing(make_lab: Callable[[], Lab]) -> None:
    """Every kind of exchange at either node, and switches to and fro."""
    told: list[str] = []
    wrong = soak.soak(make_lab(), 2 * len(soak.EXCHANGES), 4, told.append)
    assert not wrong, "\n".join([*wrong, *told])


@pytest.mark.parametrize("wrong", [("--exchanges", "some"), ("--switches", "-1"), ("more",)])
def test_usage_errors_exit_2(wrong: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dev.lab.soak", *wrong],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2 and "soak: error:" in done.stderr
