"""examples/ansible: Ansible takes the playbook, and its template makes two sound configurations."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dev.lab.spaces import ROOT
from failoverd import conf

EXAMPLE = ROOT / "examples" / "ansible"


def test_the_playbook_is_sound(tmp_path: Path) -> None:
    if shutil.which("ansible-playbook") is None:
        pytest.skip("there is no ansible-playbook: install ansible-core")
    done = subprocess.run(
        ["ansible-playbook", "-i", "inventory.ini", "--syntax-check", "site.yml"],
        cwd=EXAMPLE,
        env={**os.environ, "ANSIBLE_LOCAL_TEMP": str(tmp_path), "ANSIBLE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stdout + done.stderr


def test_the_template_makes_a_pair() -> None:
    """With the variables of the inventory, as Jinja would fill them in."""
    inventory = configparser.ConfigParser(delimiters=("\0",), allow_no_value=True)
    inventory.read(EXAMPLE / "inventory.ini")
    common = dict(line.split("=", 1) for line in inventory["failover:vars"])
    nodes = {}
    for line in inventory["failover"]:
        name, *words = line.split()
        nodes[name] = dict(word.split("=", 1) for word in words)
    made = {name: conf.parse(filled(name, nodes, common), name) for name in nodes}
    a, b = made.values()
    assert set(conf.changed(a, b)) == {"primary", "secondary"}
    assert (a.primary, a.secondary) == (b.secondary, b.primary)
    assert {node["host_type"] for node in nodes.values()} == {"master", "slave"}
    assert a.addresses and a.witness and a.plip_interface not in a.interfaces


def filled(name: str, nodes: dict[str, dict[str, str]], common: dict[str, str]) -> str:
    own = nodes[name]
    known = {**common, **own, "inventory_hostname": name}
    known["hostvars[peer].link_address"] = nodes[own["peer"]]["link_address"]

    def value(found: re.Match[str]) -> str:
        text = known[found[1]]
        return str(found[2]).join(json.loads(text)) if found[2] else text

    text = (EXAMPLE / "templates" / "failoverd.conf.j2").read_text()
    return re.sub(r'\{\{ (\S+)(?: \| join\("(.*?)"\))? \}\}', value, text)
