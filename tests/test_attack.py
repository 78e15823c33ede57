"""The port under attack in the lab: bin/attack in short, without a word about how fast it is."""

from __future__ import annotations

import math

import pytest

from failoverd.lab import attack
from failoverd.lab.network import Lab
from failoverd.listener import DESCRIPTORS


@pytest.mark.parametrize("source", [attack.PEER, attack.OWN, attack.STRANGER])
def test_true_requests_are_answered_under_every_attack(lab: Lab, source: str) -> None:
    attack.begin(lab)
    lines = lab.a.log().count("\n")
    for how in attack.ATTACKS:
        result = attack.attack(lab, how, source, 0.3, 100)
        assert max(result.seconds) < math.inf, how
        assert result.descriptors < DESCRIPTORS
        assert result.kilobytes < 64 * 1024
    complaints = lab.a.log().splitlines()[lines:]
    assert len(complaints) < 60
    assert all(source in line for line in complaints if "closed a connection" in line)
    assert not any("told" in line and "fail" not in line for line in complaints)
