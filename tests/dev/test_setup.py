"""dev/setup: what a newcomer reads first."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PROJECT = '[project]\ndependencies = ["{}"]\n'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that needs one package, of which pip finds version 1.0, and only that."""
    root = tmp_path / "check out"
    (root / "dev").mkdir(parents=True)
    setup = root / "dev" / "setup"
    setup.write_bytes((ROOT / "dev" / "setup").read_bytes())
    setup.chmod(0o755)
    told = {"METADATA": "Metadata-Version: 2.1\nName: needed\nVersion: 1.0\n"}
    told["WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(tmp_path / "needed-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in {**told, "RECORD": ""}.items():
            wheel.writestr(f"needed-1.0.dist-info/{name}", text)
    return root


def set_up(checkout: Path, needs: str, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run it, with a package index more than there is."""
    (checkout / "pyproject.toml").write_text(PROJECT.format(needs))
    folder = checkout.parent.as_uri()
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": f"{folder} {folder}/no-such-folder"}
    others = {key: word for key, word in os.environ.items() if not key.startswith("PIP_")}
    return subprocess.run(
        [checkout / "dev" / "setup", *words],
        env={**others, **pip, "PIP_CONFIG_FILE": os.devnull, **env},
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


def test_an_environment_is_current_as_long_as_the_same_packages_are_named(checkout: Path) -> None:
    assert set_up(checkout, "needed", "current").returncode == 1
    assert set_up(checkout, "needed").returncode == 0
    assert set_up(checkout, 'needed"]\n[tool.ruff]\nselect = ["E', "current").returncode == 0
    assert set_up(checkout, "needed>=1", "current").returncode == 1


def test_an_environment_of_another_python_is_made_again(checkout: Path) -> None:
    """After an upgrade of the system .venv/bin/python is the new one, and finds nothing."""
    assert set_up(checkout, "needed").returncode == 0
    (library,) = (checkout / ".venv" / "lib").glob("python3.*")
    library.rename(library.with_name("python3.1"))
    done = set_up(checkout, "needed")
    assert done.returncode == 0 and "makes the virtual environment" in done.stderr
    assert (library / "site-packages" / "needed-1.0.dist-info").exists()


# A package that can be compiled only where there is a compiler, which is a file.
NEEDS_A_COMPILER = """
import os, sys
sys.path.insert(0, os.path.dirname(__file__))

def prepare_metadata_for_build_wheel(folder, config_settings=None):
    os.mkdir(f"{folder}/needed-1.0.dist-info")
    with open(f"{folder}/needed-1.0.dist-info/METADATA", "w") as told:
        told.write("Metadata-Version: 2.1\\nName: needed\\nVersion: 1.0\\n")
    return "needed-1.0.dist-info"

def build_wheel(folder, config_settings=None, metadata_directory=None):
    with open(os.environ["COMPILER"]):
        os.link(os.environ["WHEEL"], f"{folder}/needed-1.0-py3-none-any.whl")
    return "needed-1.0-py3-none-any.whl"
"""
BUILD = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


@pytest.fixture
def source(checkout: Path) -> dict[str, str]:
    """Of the package that is needed there is only the source; what set-up's environment is."""
    folder = checkout.parent / "source"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(f'{BUILD}[project]\nname="needed"\nversion="1.0"\n')
    (folder / "backend.py").write_text(NEEDS_A_COMPILER)
    (wheel,) = checkout.parent.glob("needed-*.whl")
    moved = wheel.rename(checkout.parent / "compiled")
    tools = checkout.parent / "tools"
    tools.mkdir()
    env = {"COMPILER": str(checkout.parent / "compiler"), "WHEEL": str(moved)}
    return {**env, "PATH": f"{tools}:{os.environ['PATH']}"}


def tool(checkout: Path, name: str, script: str) -> None:
    """A program that comes before the system's."""
    path = checkout.parent / "tools" / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_root_gets_what_it_takes_to_compile(checkout: Path, source: dict[str, str]) -> None:
    tool(checkout, "id", "echo 0")
    tool(
        checkout, "apt-get", 'case $* in *" g++ python3-dev libpcap-dev") touch "$COMPILER";; esac'
    )
    done = set_up(checkout, f"needed @ {(checkout.parent / 'source').as_uri()}", **source)
    assert done.returncode == 0, done.stderr
    said = "setup: installs the system packages: g++ python3-dev libpcap-dev"
    assert said in done.stderr.splitlines()


def test_who_is_not_root_is_told_what_it_takes_and_nothing_goes_on(
    checkout: Path, source: dict[str, str]
) -> None:
    tool(checkout, "id", "echo 1000")
    done = set_up(checkout, f"needed @ {(checkout.parent / 'source').as_uri()}", **source)
    assert done.returncode == 1
    assert "missing on this system: g++ python3-dev libpcap-dev" in done.stderr
    assert "Failed building wheel for needed" in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.endswith("to compile one it needs g++ python3-dev libpcap-dev")
    assert "goes on" not in done.stderr
    assert not (checkout / ".venv" / "made").exists()


def test_without_the_venv_module_nothing_goes_on(
    checkout: Path, source: dict[str, str], tmp_path: Path
) -> None:
    script = checkout / "dev" / "setup"
    text = script.read_text()
    assert text.count(" /usr/bin/python3;") == 1
    script.write_text(text.replace(" /usr/local/bin/python3 /usr/bin/python3;", ";"))
    for name in ("python3", *(f"python3.{number}" for number in range(11, 15))):
        tool(checkout, name, "exit 1")
    tool(checkout, "id", "echo 1000")
    done = set_up(checkout, "needed", **source)
    assert done.returncode == 1
    assert "missing on this system: python3 python3-venv" in done.stderr
    assert "its modules venv, ensurepip" in done.stderr.splitlines()[-1]
    assert "goes on" not in done.stderr
