"""The pair of the README, followed to the letter on two nodes that have never seen it.

Each has an /etc, a /usr/local, a /var/log and a /run of its own. An editor and scp are played: the
first changes what the README says beside it, and makes the timers a twentieth of what the file has
(heartbeats come a little more often, for 50 ms between two of them are little on a busy host).
A client's patience with an address that does not answer is as much shorter.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
import time
from collections.abc import Callable

import pytest
from live_pair import MARGIN

from dev.lab.network import ROUTER, SERVICE, Lab
from dev.lab.node import Node
from dev.lab.spaces import ROOT
from failoverd import conf
from failoverd.tools import promises

LONG = 60.0
TIMERS = {"timer_seconds": "1", "plip_timer": "0.55", "plip_hbeat": "0.2"}
FILE = "/etc/failover/failoverd.conf"

# What a node that has a disk of its own has for itself alone.
ITS_OWN = """
mount --make-rprivate /
for place in /etc /usr/local /var/log; do
    kept=$PWD/disk$place
    mkdir -p $kept/new $kept/work
    mount -t overlay -o lowerdir=$place,upperdir=$kept/new,workdir=$kept/work overlay $place
done
rm -rf /etc/failover /usr/local/failoverd /var/log/watchd.log
mkdir disk/run
mount -t tmpfs tmpfs disk/run
mkdir disk/run/lab
mount --rbind /run/lab disk/run/lab
mount --rbind disk/run /run
"""

# The commands are started by the Python that runs this, which has what they need.
COMMAND = '#!/bin/sh\nexec {python} -I {launch} "${{0##*/}}" "$@"\n'
EDITOR = "#!/bin/sh\nexec {python} -I {program} {changes} $1\n"
PROGRAM = """
import json, re, sys
changes, edited = sys.argv[1:]
text = open(edited).read()
for old, new in json.load(open(changes))[edited]:
    text, times = re.subn(old, lambda _: new, text, flags=re.MULTILINE)
    assert times == 1, (old, times)
open(edited, "w").write(text)
"""
COPY = '#!/bin/sh\n[ "$1 ${{3%%@*}} ${{3##*:}}" = "-p root {target}" ] && cp -p "$2" {there}\n'


def pair_of_the_readme() -> list[list[str]]:
    """The three blocks of commands, each a list of lines; what follows a # is for people."""
    text = (ROOT / "README.md").read_text()
    section = text[text.index("## From source") : text.index("To have it start at boot")]
    blocks = re.findall(r"(?:^    .*\n)+", section, re.MULTILINE)
    assert len(blocks) == 3
    return [[line.strip() for line in block.splitlines()] for block in blocks]


def edits(node: Node, witness: bool) -> dict[str, list[tuple[str, str]]]:
    """What the README has a person change: nothing that it does not name."""
    both, _, _ = pair_of_the_readme()
    named = re.findall(r"[$@](\w+)", " ".join(both))
    first = node is node.lab.a
    us, peer = ("1.0.0.1", "1.0.0.2") if first else ("1.0.0.2", "1.0.0.1")
    wanted = {
        "interfaces": "@interfaces = ('eth0');",
        "witness": f"@witness = ('eth0 {ROUTER}');",
        "addresses": f"@addresses = ('eth0 {SERVICE}/24');",
        "plip_interface": '$plip_interface = "plip0";',
        "primary": f'$primary = "{us}";',
        "secondary": f'$secondary = "{peer}";',
    }
    assert sorted(wanted) == sorted(named)
    if not witness:
        del wanted["witness"]
    wanted |= {name: f'${name} = "{value}";' for name, value in TIMERS.items()}
    changes = [(rf"^#?[$@]{name} = .*$", line) for name, line in wanted.items()]
    boot = "master" if first else "slave"
    return {FILE: changes, "/etc/failover/host_type": [("^boot:.*$", f"boot:{boot}")]}


def follow(node: Node, lines: list[str]) -> str:
    """Type these lines in the checkout, as root. What they print."""
    ours = f"{node.folder}/"  # where set_up has put those of the checkout
    typed = "\n".join(f"{ours if line[:4] in ('bin/', 'dev/') else ''}{line}" for line in lines)
    script = f"PATH={node.folder}/played:$PATH\n{typed}\n"
    result = node.run("sh", "-e", "-c", script, cwd=str(ROOT), timeout=LONG)
    assert result.returncode == 0, f"{typed}\n{result.stdout}{result.stderr}"
    return result.stdout


def set_up(node: Node, witness: bool) -> None:
    result = node.run("sh", "-e", "-c", ITS_OWN)
    if result.returncode != 0:
        pytest.skip(f"a node cannot have folders of its own here: {result.stderr.strip()}")
    python, launch = map(shlex.quote, (sys.executable, str(ROOT / "dev" / "launch.py")))
    for name in ("failoverd", "ha-status"):
        node.write(f"bin/{name}", COMMAND.format(python=python, launch=launch), 0o755)
    node.write("dev/setup", f"#!/bin/sh\nexec {shlex.quote(str(ROOT / 'dev' / 'setup'))}\n", 0o755)
    changes = node.write("changes", json.dumps(edits(node, witness)))
    program = node.write("program", PROGRAM)
    editor = EDITOR.format(python=python, program=program, changes=changes)
    node.write("played/vi", editor, 0o755)
    copy = COPY.format(target="/etc/failover/", there=f"{node.lab.b.folder}/copied")
    node.write("played/scp", copy, 0o755)


def set_up_pair(lab: Lab, witness: bool) -> None:
    both, one, again = pair_of_the_readme()
    for node in lab.nodes:
        set_up(node, witness)
        follow(node, both)
    follow(lab.a, one)
    lab.b.check("cp", "-p", "copied", "/etc/failover/secret")
    check, begin, look = again
    for node in lab.nodes:
        follow(node, [check, begin])
    lab.wait_until(lambda: lab.holders() == ["a"] and follow_status(lab.a, look), "a serves", LONG)


def follow_status(node: Node, look: str) -> bool:
    """Whether the pair is well, as the last of the README's commands says by its exit status."""
    typed = look.replace("bin/", f"{node.folder}/bin/")
    return node.run("sh", "-c", typed, cwd=str(ROOT)).returncode == 0


def talk(lab: Lab) -> None:
    """A client uses the service. What it sends to an interface that is gone reaches no other
    interface, as a real one would not take it; when it has waited for long enough it asks who has
    the address."""
    short = {"base_reachable_time_ms": 1000, "delay_first_probe_time": 0, "retrans_time_ms": 100}
    for name, value in {**short, "ucast_solicit": 1}.items():
        path = f"/proc/sys/net/ipv4/neigh/eth0/{name}"
        lab.client.check("sh", "-c", f"echo {value} >{path}")
    for node in lab.nodes:
        lab.switch.check("bridge", "link", "set", "dev", node.port("eth0"), "flood", "off")
    lab.client.start_probing(interval=0.05)
    lab.wait_until(lab.client.answering, "the client is answered")


def bound(node: Node) -> float:
    """Within how many seconds the peer begins to serve, as `failoverd -t` says."""
    settings = conf.parse(node.check("cat", FILE), FILE)
    worst = promises.all_bounds(settings)["interface"].worst
    assert worst is not None
    return worst


FAULTS: dict[str, Callable[[Node], None]] = {
    "its cable is pulled": lambda node: node.unplug("eth0"),
    "a switch's port is dead": lambda node: node.kill_port("eth0"),
}


@pytest.mark.parametrize(
    ("witness", "talks"),
    [(True, True), (False, True), (True, False)],
    ids=["probe target", "no probe target", "probe target, no client speaks"],
)
@pytest.mark.parametrize("fault", FAULTS)
def test_the_pair_survives_its_active_interface(
    lab: Lab, fault: str, witness: bool, talks: bool
) -> None:
    if lab.spaces.rootless:
        pytest.skip("the children run as nobody, whom only root can become")
    set_up_pair(lab, witness)
    if talks:
        talk(lab)
    FAULTS[fault](lab.a)
    began = time.monotonic()
    lab.wait_until(lambda: lab.holders() == ["b"], "b serves", LONG)
    took = time.monotonic() - began
    print(f"seen: {took:.3f} s, at most {bound(lab.a):g} s")
    assert took < bound(lab.a) + MARGIN
    if talks:
        lab.wait_until(lab.client.answering, "the client is answered again")
