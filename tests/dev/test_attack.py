"""The port under attack in the lab: dev/attack in short, without a word about how fast it is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from dev.lab import attack
from dev.lab.network import Lab
from failoverd.listener.server import MAX_SESSIONS

OTHERS = 64  # descriptors of the listener's own


@pytest.mark.parametrize(
    ("source", "attacks"),
    [
        (attack.PEER, ("slow", "long", "reset", "guess", "replay")),
        (attack.OWN, ("halves", "guess")),
        (attack.STRANGER, ("silent", "garbage")),
    ],
)
def test_true_requests_are_answered_under_every_attack(
    lab: Lab, source: str, attacks: Sequence[str]
) -> None:
    attack.begin(lab)
    lines = lab.a.log().count("\n")
    for how in attacks:
        result = attack.attack(lab, how, source, 0.3, 100)
        assert max(result.seconds) < math.inf, how
        assert result.descriptors < MAX_SESSIONS + OTHERS
        assert result.kilobytes < 64 * 1024
    complaints = lab.a.log().splitlines()[lines:]
    assert len(complaints) < 60
    assert all(source in line for line in complaints if "connection closed" in line)
    assert not any(" PEER-REQUESTED " in line and "=fail" not in line for line in complaints)
