"""The README's picture of a screen: drawn from what was recorded, at 80 columns."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SCREEN = ROOT / "dev" / "screen"
RECORDED = """== before
OK: node-a is active, and node-b can take over

role            active  standby

== after
CRITICAL: <both>
"""


def test_the_picture_and_the_readme_are_those_of_the_recording() -> None:
    check = [sys.executable, str(SCREEN), "--check"]
    result = subprocess.run(check, capture_output=True, text=True, check=False, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")


def test_the_recording_fits_a_terminal_and_tells_the_story() -> None:
    text = (ROOT / "docs" / "dead-port.txt").read_text()
    assert max(map(len, text.splitlines())) <= 80
    screens = text.removeprefix("== ").split("\n== ")
    assert screens[0].splitlines()[1].startswith("OK: node-a is active")
    assert screens[-1].splitlines()[1].startswith("WARNING: node-b is active")


def test_every_word_is_drawn_in_the_colour_of_what_it_says() -> None:
    drawn = runpy.run_path(str(SCREEN), run_name="screen")
    picture = drawn["drawn"](RECORDED)
    assert f'fill="{drawn["COLOURS"]["CRITICAL"]}">CRITICAL: &lt;both&gt;</text>' in picture
    assert f'fill="{drawn["COLOURS"]["OK"]}">active</text>' in picture
    assert drawn["drawn"](RECORDED.replace("active", "failed")) != picture


def test_only_what_stands_between_the_comments_is_written() -> None:
    drawn = runpy.run_path(str(SCREEN), run_name="screen")
    page = "a\n<!-- BEGIN screen: x -->\nold\n<!-- END screen -->\nb\n"
    new = drawn["quoted"](page, RECORDED)
    assert new.startswith("a\n<!-- BEGIN screen: x -->\n```\nOK: node-a")
    assert new.endswith("standby\n```\n<!-- END screen -->\nb\n") and "old" not in new
    with pytest.raises(ValueError, match="BEGIN screen"):
        drawn["quoted"]("a\n", RECORDED)
