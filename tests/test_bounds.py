"""Which of the five statements `failoverd -t` says not to hold, by setting."""

from __future__ import annotations

import pytest

from failoverd import bounds, conf

SOUND = "@addresses = ('eth0 192.0.2.10/24',); $low_water = 1;"
GIVEN_UP = [
    ("$low_water = 0;", '"never none"', "$low_water 0"),
    ("$low_water = 2;", '"no handover', "$low_water 2"),
    ("$mresume = 'no';", '"never two active"', "$mresume"),
    ("$confirm = 'none';", '"never two active"', "$confirm"),
    ("@addresses = ();", '"never two active"', "@addresses"),
    ("$confirm = '/bin/true';", '"never two active"', "/bin/true"),
    ("$fence_prog = '/bin/true';", '"never none"', "/bin/true"),
]


def test_sound_settings_give_nothing_up() -> None:
    explained = bounds.explain(conf.parse(SOUND, "failoverd.conf"), "master")
    assert explained[-1] == "all five statements about the pair hold"


@pytest.mark.parametrize(("setting", "statement", "why"), GIVEN_UP)
def test_what_does_not_hold_is_named_with_its_reason(
    setting: str, statement: str, why: str
) -> None:
    explained = bounds.explain(conf.parse(SOUND + setting, "failoverd.conf"), "master")
    assert explained[-1].startswith(statement)
    assert why in explained[-1]
    assert not any("all five" in line for line in explained)
