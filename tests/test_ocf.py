"""etc/ocf/traffic, the resource agent, with a real sensor and a file in place of Pacemaker.

On a real cluster dev/cluster tries it; here `attrd_updater` is a script that writes down what it is
told.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest
from netns import PATH, Namespace, two_cabled
from processes import wait_until

ROOT = Path(__file__).resolve().parent.parent
AGENT = ROOT / "etc/ocf/traffic"
WATCHD = str(ROOT / "bin/watchd")
DTD = Path("/usr/share/resource-agents/ra-api-1.dtd")
GENERIC, UNIMPLEMENTED, INSTALLED, CONFIGURED, NOT_RUNNING = 1, 3, 5, 6, 7
WINDOW = "1"  # seconds: in half of it a busy host has to ask
NONE: Mapping[str, str] = {}


class Node:
    """Where the agent is run, as Pacemaker would."""

    def __init__(self, namespace: Namespace, folder: Path, router: Namespace) -> None:
        self.namespace, self.folder, self.router = namespace, folder, router
        self.told_file = folder / "told"
        self.told_file.touch()
        self.updater = folder / "bin/attrd_updater"
        self.updater.parent.mkdir()
        self.updater.write_text(f'#!/bin/sh\necho "$*" >>{self.told_file}\n')
        self.updater.chmod(0o755)
        self.parameters = {
            "interface": "eth0",
            "addresses": "192.0.2.10",
            "targets": "192.0.2.1",
            "timer": WINDOW,
            "linger": "0",
            "user": "root",
            "watchd": WATCHD,
        }

    def run(
        self, *words: str, shell: tuple[str, ...] = (), parameters: Mapping[str, str] = NONE
    ) -> subprocess.CompletedProcess[str]:
        given = {**self.parameters, **parameters}
        env = {f"OCF_RESKEY_{name}": value for name, value in given.items() if value}
        env |= {"OCF_RESOURCE_INSTANCE": "eth:0", "HA_RSCTMP": str(self.folder)}
        env["PATH"] = f"{self.updater.parent}:{PATH}"
        return self.namespace.run(*shell, str(AGENT), *words, env=env, check=False)

    def must(self, *words: str, shell: tuple[str, ...] = ()) -> None:
        done = self.run(*words, shell=shell)
        assert done.returncode == 0, done.stderr

    @property
    def told(self) -> list[str]:
        return self.told_file.read_text().splitlines()

    def pid(self) -> str:
        return (self.folder / "failoverd-eth/pid").read_text().strip()


def lives(pid: str) -> bool:
    """Whether it runs; one that has ended may stay where process 1 does not reap."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with two_cabled() as (first, second):
        first.ip("address add 192.0.2.101/24 dev eth0")
        second.ip("address add 192.0.2.1/24 dev far")
        second.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")  # it would look for routers
        made = Node(first, tmp_path, second)
        yield made
        made.run("stop")


def test_what_it_says_of_itself_is_what_it_takes() -> None:
    said = subprocess.run([AGENT, "meta-data"], capture_output=True, text=True, check=True).stdout
    tree = ElementTree.fromstring(said)
    parameters = {each.attrib["name"]: each for each in tree.iter("parameter")}
    text = AGENT.read_text()
    taken = dict(re.findall(r"\$\{OCF_RESKEY_(\w+)(?::?-([^}$]*))?", text))
    assert set(taken) == set(parameters)
    for name, each in parameters.items():
        content = each.find("content")
        assert content is not None
        shown = content.attrib.get("default", "")
        assert shown == taken[name] or name in {"ok_value", "bad_value", "name"}, name
    actions = {each.attrib["name"] for each in tree.iter("action")}
    assert actions == {"start", "stop", "monitor", "meta-data", "validate-all"}


def test_what_it_says_of_itself_is_in_the_form_that_debian_checks() -> None:
    if shutil.which("xmllint") is None or not DTD.exists():
        pytest.skip("there is no xmllint or no DTD: install libxml2-utils and resource-agents")
    said = subprocess.run([AGENT, "meta-data"], capture_output=True, check=True).stdout
    argv = ["xmllint", "--nonet", "--noout", "--dtdvalid", str(DTD), "-"]
    done = subprocess.run(argv, input=said, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("parameters", "status", "words"),
    [
        ({}, 0, ""),
        ({"timer": "0.005", "targets": "192.0.2.1 2001:db8::1", "addresses": "none"}, 0, ""),
        ({"filter": "not host 'x'", "health": "maybe"}, CONFIGURED, "health must be yes or no"),
        ({"health": "true", "realtime": "on", "addresses": "192.0.2.9/24 fd00::9"}, 0, ""),
        ({"interface": ""}, CONFIGURED, "interface is not set"),
        ({"interface": "eth9"}, INSTALLED, "there is no interface eth9"),
        ({"addresses": ""}, CONFIGURED, "name the addresses that the cluster moves on eth0"),
        ({"addresses": "192.0.2"}, CONFIGURED, "@addresses"),
        ({"targets": "router"}, CONFIGURED, "@witness"),
        ({"timer": "soon"}, CONFIGURED, "$timer_seconds"),
        ({"low_water": "-1"}, CONFIGURED, "$low_water"),
        ({"packet_count": "1.5"}, CONFIGURED, "$packet_count"),
        ({"filter": "not a 'filter\\"}, CONFIGURED, "$filter is not a pcap expression"),
        ({"realtime": "perhaps"}, CONFIGURED, "$realtime"),
        ({"name": "two words"}, CONFIGURED, "name must be"),
        ({"dampen": "soon"}, CONFIGURED, "dampen must be a time such as 5s"),
        ({"linger": "1m"}, CONFIGURED, "linger must be a number of seconds"),
        ({"ok_value": "0"}, CONFIGURED, "ok_value and bad_value are both 0"),
        ({"health": "yes", "bad_value": "1"}, CONFIGURED, "bad_value must be green"),
        ({"health": "yes", "name": "traffic"}, CONFIGURED, "begins with #health"),
        ({"user": "no-such"}, INSTALLED, "there is no user no-such"),
        ({"watchd": "/nowhere/watchd"}, INSTALLED, "there is no /nowhere/watchd"),
    ],
)
def test_what_is_wrong_is_found_and_said(
    node: Node, parameters: dict[str, str], status: int, words: str
) -> None:
    done = node.run("validate-all", parameters=parameters)
    assert (done.returncode, words in done.stderr) == (status, True), done.stderr
    assert done.stderr.count("\n") == (1 if status else 0), done.stderr
    if status:
        assert node.run("start", parameters=parameters).returncode == status
        assert node.run("monitor", parameters=parameters).returncode == NOT_RUNNING
        assert node.run("stop", parameters=parameters).returncode == 0


def test_without_pacemaker_it_says_so(node: Node) -> None:
    node.updater.unlink()
    if shutil.which("attrd_updater", path=PATH):
        pytest.skip("Pacemaker is installed here")
    done = node.run("start")
    assert done.returncode == INSTALLED and "there is no attrd_updater" in done.stderr


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_each_action_can_be_repeated(node: Node, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    command = (shell, "sh") if shell == "busybox" else (shell,)
    node.must("stop", shell=command)
    assert node.run("monitor", shell=command).returncode == NOT_RUNNING
    node.must("start", shell=command)
    pid = node.pid()
    assert {"-n traffic-eth0 -U 1", "-n traffic-eth0 -Y -d 0"} <= set(node.told)
    for action in ("start", "monitor", "monitor"):
        node.must(action, shell=command)
    assert node.pid() == pid
    for _ in range(2):
        node.must("stop", shell=command)
        assert node.told[-1] == "-n traffic-eth0 -D"
    assert not lives(pid)
    assert node.run("monitor", shell=command).returncode == NOT_RUNNING


def test_the_attribute_tells_what_the_interface_receives(node: Node) -> None:
    node.parameters |= {"dampen": "5s", "health": "yes"}
    attribute = "-n #health-traffic-eth0"
    node.must("start")
    assert {f"{attribute} -U green", f"{attribute} -Y -d 5s"} <= set(node.told)
    node.router.ip("address del 192.0.2.1/24 dev far")
    wait_until(lambda: node.told[-1] == f"{attribute} -U red")
    assert node.run("monitor").returncode == 0  # the sensor works
    assert node.told[-2:] == [f"{attribute} -U red", f"{attribute} -Y -d 5s"]
    node.router.ip("address add 192.0.2.1/24 dev far")
    wait_until(lambda: node.told[-1] == f"{attribute} -U green")


def test_a_dead_or_stopped_sensor_is_found(node: Node) -> None:
    node.must("start")
    pid = node.pid()
    node.namespace.run("kill", "-STOP", pid)
    wait_until(lambda: "stopped by a signal" in node.run("monitor").stderr)
    assert node.run("monitor").returncode == GENERIC
    node.must("stop")
    assert not lives(pid)
    node.must("start")
    node.namespace.run("kill", "-KILL", node.pid())
    wait_until(lambda: node.run("monitor").returncode == NOT_RUNNING)
    node.must("start")
    node.must("monitor")
    # The number that a dead one left may be another's.
    node.must("stop")
    (node.folder / "failoverd-eth").mkdir()
    (node.folder / "failoverd-eth/pid").write_text(f"{os.getpid()}\n")
    assert node.run("monitor").returncode == NOT_RUNNING
    node.must("stop")


def test_the_attribute_outlives_a_restart(node: Node) -> None:
    """Who is to forget it sleeps for as long as the test wants, however slow this host is."""
    over, sleeper = node.folder / "over", node.folder / "sleeper"
    sleep = node.updater.with_name("sleep")
    waits = f"echo $PPID >{sleeper}; while [ ! -e {over} ]; do /bin/sleep 0.05; done"
    sleep.write_text(f'#!/bin/sh\n[ "$1" = 77 ] || exec /bin/sleep "$@"\n{waits}\n')
    sleep.chmod(0o755)
    node.parameters["linger"] = "77"
    node.must("start")
    node.must("stop")
    wait_until(lambda: sleeper.exists() and sleeper.read_text().endswith("\n"))
    node.must("start")
    over.touch()
    wait_until(lambda: not lives(sleeper.read_text().strip()))
    assert "-n traffic-eth0 -D" not in node.told
    node.must("stop")
    wait_until(lambda: node.told[-1] == "-n traffic-eth0 -D")


def test_a_sensor_that_begins_says_nothing_before_it_knows(node: Node) -> None:
    """In a network that is dead for all, a restart would make this node the best one."""
    node.router.ip("link set far down")
    node.must("start")
    assert "-n traffic-eth0 -U 0" in node.told and "-n traffic-eth0 -U 1" not in node.told
    node.router.ip("link set far up")
    wait_until(lambda: node.told[-1] == "-n traffic-eth0 -U 1")


def test_a_start_without_a_cluster_fails_and_leaves_nothing(node: Node) -> None:
    node.updater.write_text("#!/bin/sh\nexit 102\n")
    done = node.run("start")
    assert done.returncode == GENERIC and "does the cluster run?" in done.stderr
    pid = node.pid()
    node.must("stop")
    assert not lives(pid) and not (node.folder / "failoverd-eth").exists()


def test_what_it_does_not_know_it_does_not_do(node: Node) -> None:
    done = node.run("promote")
    assert done.returncode == UNIMPLEMENTED and "usage: " in done.stderr


@pytest.mark.parametrize("name", ["traffic.crm", "traffic.pcs"])
def test_the_page_shows_what_the_examples_hold(name: str) -> None:
    example = (ROOT / "examples/pacemaker" / name).read_text()
    lines = [line for line in example.splitlines() if not line.startswith(("#", "set"))]
    shown = " ".join((ROOT / "docs/pacemaker.md").read_text().replace("\\\n", " ").split())
    assert " ".join("\n".join(lines).replace("\\\n", " ").split()) in shown
