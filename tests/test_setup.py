"""bin/setup: what a newcomer reads first."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = '[project]\ndependencies = ["{}"]\n'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that needs one package, of which pip finds version 1.0, and only that."""
    root = tmp_path / "check out"
    (root / "bin").mkdir(parents=True)
    setup = root / "bin" / "setup"
    setup.write_bytes((ROOT / "bin" / "setup").read_bytes())
    setup.chmod(0o755)
    told = {"METADATA": "Metadata-Version: 2.1\nName: needed\nVersion: 1.0\n"}
    told["WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(tmp_path / "needed-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in {**told, "RECORD": ""}.items():
            wheel.writestr(f"needed-1.0.dist-info/{name}", text)
    return root


def set_up(checkout: Path, needs: str) -> subprocess.CompletedProcess[str]:
    """Run it, with a package index more than there is."""
    (checkout / "pyproject.toml").write_text(PROJECT.format(needs))
    folder = checkout.parent.as_uri()
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": f"{folder} {folder}/no-such-folder"}
    others = {key: word for key, word in os.environ.items() if not key.startswith("PIP_")}
    return subprocess.run(
        [checkout / "bin" / "setup", "run"],
        env={**others, **pip, "PIP_CONFIG_FILE": os.devnull},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_only_its_own_words_are_read_while_all_goes_well(checkout: Path) -> None:
    done = set_up(checkout, "needed==1.0")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 2 and all(line.startswith("setup: ") for line in lines), lines
    again = set_up(checkout, "needed==1.0")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_pips_words_are_shown_when_it_fails(checkout: Path) -> None:
    done = set_up(checkout, "needed==2.0")
    assert done.returncode == 1
    assert "No matching distribution found for needed==2.0" in done.stderr
    assert "no-such-folder" in done.stderr
    assert "setup: pip could not install them (its words are above)" in done.stderr
