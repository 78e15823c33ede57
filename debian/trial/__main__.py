"""Tries the Debian package as a sysadmin would: dev/package --trial starts this.

    python3 debian/trial FOLDER PACKAGE NEXT_PACKAGE [RELEASE]

First the tests of what failoverd rests on are run against Debian's own libraries. Then two nodes
are booted from bare trees, once as containers in which no init runs, once with sysvinit and once
with systemd. The package is installed, started, upgraded, rebooted and purged there. All files are
in FOLDER, all processes and mounts in the namespaces that dev/package makes. It takes root, and
some minutes. The trees are of this host's release if none is named.
"""

from __future__ import annotations

import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from nodes import INITS, PATIENCE, Client, Node, connect, copy, wait_until
from trees import Failed, Tree, bare_system, own_release

ROOT = Path(__file__).resolve().parent.parent.parent
NEEDED = "adduser iproute2 procps python3 python3-daemon libpcap0.8 logrotate"
# init: its packages, and what makes it fit a node without terminals
INIT_PACKAGES = {"sysvinit": "sysvinit-core", "systemd": "systemd systemd-sysv"}
TESTS = (*("watch/test_counter", "watch/test_watcher", "listener/test_server", "test_neighbours"),)

SETTINGS = {
    "@interfaces": "('eth0')",
    "@addresses": "('eth0 192.0.2.10/24')",
    "$timer_seconds": '"2"',
    "$plip_timer": '"2"',
    "$plip_hbeat": '"0.5"',
}
# A further pair, beside the one of SETTINGS on the same interfaces.
FURTHER = {
    "@addresses": "('eth0 192.0.2.11/24')",
    "$tcp_port": '"2001"',
    "$failover_root": '"/etc/failover/web"',
    "$log": '"/var/log/watchd-web.log"',
    "$pidfile": '"/run/failoverd-web.pid"',
    "$state": '"/run/failoverd-web.state"',
    "$failover_prog": '"/bin/true"',
}
WEB = "/etc/failover/web"
SITE = """
site_master() {
    kill -0 "$(cat /run/site.pid 2>&1)" 2>/dev/null && return
    setsid sh -c 'echo $$ >/run/site.pid; exec sleep 1000000' </dev/null >/dev/null 2>&1 &
}

site_slave() {
    kill "$(cat /run/site.pid 2>&1)" 2>/dev/null
    rm -f /run/site.pid
}
"""


# Of the package, what no other step of the trial uses.
FILES = """
/etc/logrotate.d/failoverd
/usr/lib/ocf/resource.d/failoverd/traffic
/usr/lib/systemd/system/failoverd@.service
/usr/lib/systemd/system/watchd@.service
/usr/share/bash-completion/completions/ha-edit
/usr/share/fish/vendor_completions.d/ha-edit.fish
/usr/share/zsh/vendor-completions/_failoverd
/usr/share/doc/failoverd/quick-reference.md.gz
/usr/share/doc/failoverd/examples/prometheus/failoverd.rules.yml
/usr/share/doc/failoverd/examples/switch.d/service
/usr/share/doc/failoverd/examples/two-pairs/web/failoverd.conf
"""
KEYWORDS = ("split brain", "failback", "VIP", "gratuitous ARP", "STONITH")
# What each shell knows of ha-fail once it has loaded its completion.
COMPLETIONS = {
    "bash": ". /usr/share/bash-completion/completions/ha-fail; complete -p ha-fail",
    "fish": "complete -C 'ha-fail --ho'",
    "zsh": "autoload -U compinit; compinit -u -D; print $_comps[ha-fail]",
}


@dataclass(frozen=True)
class Packages:
    """The package, and the same one as a later version."""

    first: Path
    second: Path


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder, first, second = (Path(name).resolve() for name in sys.argv[1:4])
    release = "".join(sys.argv[4:5]) or own_release()
    packages = Packages(first, second)
    began = time.monotonic()
    try:
        say(f"a bare system of {release}")
        common = Tree(folder / "common", [bare_system(folder, release)])
        common.run("apt-get", "-q", "update")
        common.install(*NEEDED.split())
        parts(Tree(folder / "parts", common.layers), packages)
        texts(Tree(folder / "texts", common.layers), packages)
        for init in INITS:
            say(f"a pair with {init}" if init in INIT_PACKAGES else "a pair where no init runs")
            pair(folder, common, init, packages)
    except Failed as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    say(f"all is well, after {time.monotonic() - began:.0f} s")
    return 0


def say(text: str) -> None:
    print(text, flush=True)


def must(what: str, holds: object) -> None:
    """Say what holds. Raises Failed if it does not."""
    if not holds:
        raise Failed(what)
    say(f"  ok  {what}")


# ---------------------------------------------------------------------- Debian's libraries


def parts(tree: Tree, packages: Packages) -> None:
    """The tests of what failoverd rests on, with the installed modules and Debian's libraries."""
    say("what failoverd rests on, with Debian's libraries")
    tools = (
        "python3-pytest",
        "python3-hypothesis",
        "python3-rich",
        "netcat-openbsd",
        "iputils-ping",
    )
    tree.install(*tools, tree.put(packages.first, "/root"))
    tree.put(ROOT / "tests", "/root")
    tree.put(ROOT / "dev", "/root")  # which the tests import
    versions = tree.run("python3", "-I", "-c", VERSIONS)
    for line in versions.splitlines():
        say(f"      {line}")
    names = [f"/root/tests/{name}.py" for name in TESTS]
    place = tree.root / "usr/lib/python3/dist-packages/failoverd.pth"
    place.write_text("/usr/lib/failoverd\n")  # for processes that the tests start, too
    words = (
        "env",
        "PYTHONPATH=/root/tests:/root",
        "python3",
        "-m",
        "pytest",
        "--noconftest",
        "-p",
        "no:cacheprovider",
        "-q",
        "-rs",
    )
    found = tree.run(*words, *names, net=False, check=False).splitlines()
    for line in found:
        if line.startswith("SKIPPED"):
            say(f"      {line}")
    if not re.match(r"\d+ passed", found[-1]) or "failed" in found[-1]:
        raise Failed("\n".join(found[-40:]))
    must(f"tests: {found[-1]}", True)


VERSIONS = """
import sys
sys.path.insert(0, "/usr/lib/failoverd")
import ctypes, importlib.metadata as metadata, pcapy, ping3
pcap = ctypes.CDLL("libpcap.so.0.8")
pcap.pcap_lib_version.restype = ctypes.c_char_p
print(pcap.pcap_lib_version().decode(), "under", pcapy.__file__)
print("ping3", ping3.__version__, "python-daemon", metadata.version("python-daemon"))
print("Python", sys.version.split()[0])
mapped = {line.split()[-1] for line in open("/proc/self/maps") if "pcap" in line}
assert not any("pcapy_ng.libs" in name for name in mapped), mapped
"""


# ---------------------------------------------------------------------- what people read


def texts(tree: Tree, packages: Packages) -> None:
    """Manual pages, completions and the agent's description, by the programs that read them."""
    say("manual pages, completions and the resource agent")
    tree.install("man-db", "mandoc", "fish", "zsh", tree.put(packages.first, "/root"))
    lost = [path for path in FILES.split() if not (tree.root / path.lstrip("/")).is_file()]
    must(f"every file is in its place {' '.join(lost)}", not lost)
    pages = re.findall(r"\S+/man\d/\S+", tree.run("dpkg", "-L", "failoverd"))
    for page in pages:
        said = tree.run("sh", "-c", 'man --warnings -l "$1" 2>&1 >/dev/null', "sh", page)
        said += tree.run("mandoc", "-T", "lint", "-W", "warning", page, check=False)
        must(f"{Path(page).name} renders without a warning {said}", not said)
    tree.run("mandb", "--quiet")
    for word in KEYWORDS:
        must(f"apropos finds {word}", "failoverd" in tree.run("man", "-k", word, check=False))
    for shell, line in COMPLETIONS.items():
        must(f"{shell} completes ha-fail: {(known := tree.run(shell, '-c', line).strip())}", known)
    described = tree.run("/usr/lib/ocf/resource.d/failoverd/traffic", "meta-data")
    actions = {one.get("name") for one in ElementTree.fromstring(described).iter("action")}
    must("the agent's meta-data is XML and names its actions", actions > {"start", "stop"})


# ---------------------------------------------------------------------- a pair


def pair(folder: Path, common: Tree, init: str, packages: Packages) -> None:
    """Two nodes with this init, from the installation to the purge."""
    bare = Tree(folder / init, common.layers)
    if init in INIT_PACKAGES:
        bare.install(*INIT_PACKAGES[init].split())
        (bare.root / "usr/sbin/policy-rc.d").unlink()
    table = bare.root / "etc/inittab"
    if table.exists():
        lines = table.read_text().splitlines(keepends=True)
        table.write_text("".join(line for line in lines if "getty" not in line))
    nodes = [
        Node(name, number, init, Tree(folder / f"{init}-{name}", bare.layers), folder)
        for number, name in enumerate(("a", "b"), 1)
    ]
    a, b = nodes
    switch = connect(a, b)
    try:
        for one in nodes:
            one.power_on()
        before = a.tree.files()
        if init not in INIT_PACKAGES:
            contained(a, b, packages)
            purge_while_it_runs(a, b, before)
            return
        for step in (install, configure, start, further, restart, rotate, supervised, upgrade):
            step(a, b, packages)
        client = Client(switch, ROOT / "dev/lab/prober.py", folder)
        try:
            reboot_standby(a, b)
            reboot_active(a, b, client)
            purge(a, b, before)
        finally:
            client.close()
    except Failed as error:
        logs = "\n".join(f"--- {one.name}\n{one.tails()}" for one in nodes)
        raise Failed(f"{error}\n{logs}") from None
    finally:
        for one in nodes:
            one.off()


def service(node: Node, verb: str) -> str:
    return node.run("service", "failoverd", verb, check=False)


def runs(node: Node) -> bool:
    return node.succeeds("service", "failoverd", "status")


def dpkg_install(node: Node, package: Path) -> str:
    """Install as apt does for somebody who takes all defaults."""
    path = node.tree.put(package, "/root")
    return node.run("dpkg", "--force-confdef", "--install", path)


def install(a: Node, b: Node, packages: Packages) -> None:
    for one in (a, b):
        said = dpkg_install(one, packages.first)
    must("it is not started before it is set up, and says so", "not configured yet" in said)
    must("it does not run", not runs(a))
    said = service(a, "start")
    must(f"nor does it when somebody tries: {said.strip() or '(nothing)'}", not runs(a))
    shown = a.run("stat", "-c", "%a %U %s", "/etc/failover/secret").split()
    must(f"a secret was made: {' '.join(shown)}", shown == ["600", "root", "33"])
    secret = a.path("/etc/failover/secret").read_bytes()
    must("another one on the other node", secret != b.path("/etc/failover/secret").read_bytes())
    must("it has a user", "/nologin" in a.run("getent", "passwd", "failoverd"))
    dpkg_install(a, packages.first)
    must(
        "the secret stays when it is installed again",
        secret == a.path("/etc/failover/secret").read_bytes(),
    )
    checked = a.run("failoverd", "-t", check=False)
    must("failoverd -t says what to do", "boot:master or boot:slave" in checked)
    for command in ("failoverd", "watchd", "ha-status", "ha-fail", "ha-edit"):
        must(f"{command} --version", a.run(command, "--version").startswith(command))
    if a.init == "systemd":
        a.run("systemd-analyze", "verify", "--man=no", "failoverd.service")
        must("systemd-analyze verify has nothing to say", True)
        unit = "/lib/systemd/system/failoverd.service"
        figure = a.run("systemd-analyze", "security", "--offline=yes", unit, check=False)
        say(f"      {figure.splitlines()[-1]}")


def configure(a: Node, b: Node, packages: Packages) -> None:
    for one, boot in ((a, "master"), (b, "slave")):
        path = one.path("/etc/failover/failoverd.conf")
        own = {"$primary": f'"{one.private}"', "$secondary": f'"{one.peer}"'}
        path.write_text(with_settings(path.read_text(), {**SETTINGS, **own}))
        one.path("/etc/failover/host_type").write_text(f"boot:{boot}\n")
        script = one.path("/etc/failover/ha-switch")
        text = script.read_text()
        script.write_text(re.sub(r"(?ms)^site_master\(\).*^site_slave\(\).*?^}\n", SITE, text))
    copy(a, b, "/etc/failover/secret")
    for one in (a, b):
        one.run("failoverd", "-t")
        must(f"{one.name}: failoverd -t is content", True)


def with_settings(text: str, settings: dict[str, str]) -> str:
    """The text of a failoverd.conf, with these values in place of its own."""
    for name, value in settings.items():
        text, count = re.subn(rf"(?m)^#?{re.escape(name)} = .*$", f"{name} = {value};", text)
        must(f"{name} = {value}", count == 1)
    return text


def start(a: Node, b: Node, packages: Packages) -> None:
    for one in (a, b):
        service(one, "start")
        must(f"{one.name}: it runs", runs(one))
    settle(a, b)
    again = a.run("failoverd", check=False).strip()
    must(f"a second one says: {again}", again == f"failoverd: already running (pid {a.pid()})")
    where = a.run("readlink", f"/proc/{a.pid()}/cwd", f"/proc/{a.pid()}/fd/0").split()
    must(f"it is in {where[0]} with {where[1]} as its input", where == ["/", "/dev/null"])
    listed = a.run("ps", "axo", "user:20,args")
    children = re.findall(r"^(\S+) +failoverd: (?!switch)", listed, re.MULTILINE)
    must(f"its {len(children)} children run as failoverd", set(children) == {"failoverd"})


def further(a: Node, b: Node, packages: Packages) -> None:
    """A pair beside the first one. It stays, and what follows is tried with both."""
    (a.path(WEB)).mkdir()
    a.run("sh", "-c", f"umask 077; head -c 24 /dev/urandom | base64 >{WEB}/secret")
    for one, boot in ((a, "master"), (b, "slave")):
        place = one.path(WEB)
        place.mkdir(exist_ok=True)
        text = one.path("/etc/failover/failoverd.conf").read_text()
        (place / "failoverd.conf").write_text(with_settings(text, FURTHER))
        (place / "host_type").write_text(f"boot:{boot}\n")
    copy(a, b, f"{WEB}/secret")
    before = [facts(one) for one in (a, b)]
    for one in (a, b):
        if one.init == "systemd":
            one.run("systemctl", "enable", "--now", "failoverd@web")
        else:
            one.run("service", "failoverd", "start", "web")
    settle_further(a, b)
    must("the first pair has not noticed", before == [facts(one) for one in (a, b)])


def further_role(node: Node) -> str:
    said = node.run("ha-status", "-c", f"{WEB}/failoverd.conf", "--json", check=False)
    found = re.match(r'{"us": {"role": "([a-z]+)"', said)
    return found[1] if found else "none"


def settle_further(active: Node, standby: Node) -> None:
    wait_until(
        f"{active.name} is active in the further pair and {standby.name} stands by",
        lambda: (further_role(active), further_role(standby)) == ("active", "standby"),
    )
    must(f"failoverd@web: {active.name} is active, {standby.name} stands by", True)


def further_pid(node: Node) -> str:
    return node.run("cat", "/run/failoverd-web.pid", check=False).strip()


def contained(a: Node, b: Node, packages: Packages) -> None:
    """As in a container: policy-rc.d forbids every start and stop, a person starts by hand."""
    install(a, b, packages)
    configure(a, b, packages)
    for one in (a, b):
        one.run("failoverd")
    settle(a, b)
    pid = a.pid()
    said = dpkg_install(a, packages.second)
    must("an upgrade leaves the one that was started by hand alone", a.pid() == pid)
    must("and says so", f"pid {pid} goes on as it is" in said)
    must("a stranger's process is there", b.run("sh", "-c", STRANGER) == "")


# What a look at the command line could take for failoverd.
STRANGER = "setsid tail -f /dev/null /usr/sbin/failoverd </dev/null >/dev/null 2>&1 &"


def purge_while_it_runs(a: Node, b: Node, before: set[str]) -> None:
    b.run("dpkg", "--remove", "failoverd")
    must("where it is removed no process of its own is left", not own_processes(b))
    must("a stranger's process is still there", b.succeeds("pgrep", "-f", "^tail -f"))
    b.run("dpkg", "--purge", "failoverd")
    said = a.run("dpkg", "--purge", "failoverd")
    must("without a peer the service stays, and that is said", a.serves() and "stay here" in said)
    must("where it is purged no process of its own is left", not own_processes(a))
    for one in (a, b):
        nothing_is_left(one)
    left = sorted(path for path in a.tree.files() - before if not of_others(path))
    must(f"no file is left {' '.join(left)}", not left)


def own_processes(node: Node) -> str:
    """What runs as failoverd or as one of its children; zombies have ended."""
    listed = node.run("ps", "axo", "stat,args").splitlines()
    return "\n".join(line for line in listed if re.match(r"[^Z].*(python3|failoverd:)", line))


def nothing_is_left(node: Node) -> None:
    for kind in ("passwd", "group"):
        must(f"no {kind} entry is left", not node.succeeds("getent", kind, "failoverd"))
    left = node.run("sh", "-c", "ls -d /run/failoverd* 2>/dev/null", check=False).strip()
    must(f"nothing is left in /run {left}", not left)


def settle(active: Node, standby: Node) -> None:
    """Wait until these are the roles, and see that the service is where it should be."""
    wait_until(
        f"{active.name} is active and {standby.name} stands by",
        lambda: (active.role(), standby.role()) == ("active", "standby"),
    )
    must(f"{active.name} is active, {standby.name} stands by", True)
    must("the address is at the active one only", active.serves() and not standby.serves())


Facts = dict[str, object]


def facts(node: Node) -> Facts:
    """What a restart must leave alone."""
    status = node.status()
    return {
        "role": status.get("role"),
        "since": status.get("since"),
        "address": node.serves(),
        "service": node.run("cat", "/run/site.pid", check=False),
        "alive": node.succeeds("sh", "-c", "kill -0 $(cat /run/site.pid)"),
        "runs of the script": node.log().count(" SCRIPT-START "),
    }


def unchanged(a: Node, b: Node, what: str, act: Callable[[], object]) -> None:
    """Act; then failoverd here is another process, and all else is as it was, on both nodes."""
    before, pid = [facts(one) for one in (a, b)], a.pid()
    act()
    wait_until(f"another failoverd after {what}", lambda: a.pid() not in ("", pid))
    wait_until(f"it answers after {what}", lambda: a.role() == before[0]["role"])
    time.sleep(5)  # more than two windows: whoever had noticed something would have acted
    now = [facts(one) for one in (a, b)]
    if before != now:
        raise Failed(f"{what} changed something: {before} became {now}")
    must(f"{what}: role, address and service are as they were, no script was run", pid != a.pid())


def restart(a: Node, b: Node, packages: Packages) -> None:
    must("the service that the script started is there", facts(a)["alive"])
    unchanged(a, b, "a restart of the active one", lambda: service(a, "restart"))
    unchanged(b, a, "a restart of the standby", lambda: service(b, "restart"))


def rotate(a: Node, b: Node, packages: Packages) -> None:
    pid = a.pid()
    a.run("logrotate", "--force", "/etc/logrotate.d/failoverd")
    wait_until("a line in the new log", lambda: "configuration read again" in a.log())
    must("the log is rotated, by the same process", a.pid() == pid)
    shown = a.run("stat", "-c", "%a %U %G", "/var/log/watchd.log").strip()
    must(f"the new log is {shown}", shown == "640 root adm")


def supervised(a: Node, b: Node, packages: Packages) -> None:
    """What systemd does for a failoverd that is dead or hangs."""
    if a.init != "systemd":
        return
    shown = a.run("systemctl", "show", "-p", "Type,MainPID,StatusText", "failoverd")
    must("systemd knows the pid and the role", f"MainPID={a.pid()}\nStatusText=active" in shown)
    for name in ("KILL", "STOP"):
        pid = a.pid()
        if name == "STOP":
            place = a.path("/etc/systemd/system/failoverd.service.d")
            place.mkdir()
            (place / "soon.conf").write_text("[Service]\nWatchdogSec=3\n")
            a.run("systemctl", "daemon-reload")
            unchanged(a, b, "a restart for a shorter watchdog", lambda: service(a, "restart"))
            pid = a.pid()
        began = time.monotonic()

        def act(name: str = name, pid: str = pid) -> None:
            a.run("kill", f"-{name}", pid)

        unchanged(a, b, f"SIG{name} for failoverd", act)
        say(f"      within {time.monotonic() - began - 5:.1f} s")
    shutil.rmtree(a.path("/etc/systemd/system/failoverd.service.d"))
    a.run("systemctl", "daemon-reload")


def upgrade(a: Node, b: Node, packages: Packages) -> None:
    edited = [
        a.path(f"/etc/failover/{name}").read_bytes() for name in ("failoverd.conf", "ha-switch")
    ]
    web = further_pid(a)
    unchanged(a, b, "an upgrade of the active one", lambda: dpkg_install(a, packages.second))
    must("the further pair runs the new code, too", further_pid(a) not in ("", web))
    settle_further(a, b)
    version = a.run("dpkg-query", "-W", "-f", "${Version}", "failoverd")
    must(f"the version is {version}", version in packages.second.name)
    now = [a.path(f"/etc/failover/{name}").read_bytes() for name in ("failoverd.conf", "ha-switch")]
    must("edited files are as they were", edited == now)
    new = a.path("/etc/failover/failoverd.conf.dpkg-dist")
    must("the new failoverd.conf is beside the edited one", new.exists())

    pid = a.pid()
    conf = a.path("/etc/failover/failoverd.conf")
    conf.write_text(conf.read_text() + "$nonsense = 1;\n")
    said = dpkg_install(a, packages.second)
    must("a failoverd that could not start again goes on", a.pid() == pid and runs(a))
    must("and why is said", "nonsense" in said and "goes on as it is" in said)
    conf.write_bytes(edited[0])

    service(b, "stop")
    dpkg_install(b, packages.second)
    must("an upgrade starts no failoverd that somebody has stopped", not runs(b))
    service(b, "start")
    settle(a, b)


def scripts_run(node: Node) -> int:
    return node.log().count(" SCRIPT-START ")


def reboot(node: Node) -> None:
    node.run("shutdown", "-r", "now", check=False)
    node.wait_for_end()


def reboot_standby(a: Node, b: Node) -> None:
    before = facts(a)
    reboot(b)
    time.sleep(5)
    must("a reboot of the standby changes nothing here", facts(a) == before)
    b.power_on()
    settle(a, b)
    settle_further(a, b)
    must("it was started by its boot, and nothing changed here", facts(a) == before)


def reboot_active(a: Node, b: Node, client: Client) -> None:
    reboot(a)
    told = "told this node to take over" in b.log()
    must(
        "a reboot of the active one has given its role away when it is down",
        b.role() == "active" and told,
    )
    must("the service is at the other one", b.serves() and facts(b)["alive"])
    must("and so is the further pair's", further_role(b) == "active")
    must(f"no answer for {client.longest_gap() * 1000:.0f} ms", client.longest_gap() < PATIENCE)
    a.power_on()
    settle(a, b)


def purge(a: Node, b: Node, before: set[str]) -> None:
    a.run("dpkg", "--remove", "failoverd")
    wait_until("the peer is active", lambda: b.role() == "active")
    must("a node from which it is removed has given its role away", b.serves() and not a.serves())
    kept = (
        a.path("/etc/failover/failoverd.conf").exists() and a.path("/etc/failover/secret").exists()
    )
    must("its configuration is still there", kept)
    must("the further pair has given its role away, too", further_role(b) == "active")
    shutil.rmtree(a.path(WEB))  # which is not the package's
    a.run("dpkg", "--purge", "failoverd")
    left = sorted(path for path in a.tree.files() - before if not of_others(path))
    must(f"nothing is left after the purge {' '.join(left)}", not left)
    lost = sorted(path for path in before - a.tree.files() if not of_others(path))
    must(f"nothing else has gone {' '.join(lost)}", not lost)
    must("no process is left", not a.succeeds("pgrep", "-f", "failoverd"))
    nothing_is_left(a)
    said = b.run("dpkg", "--purge", "failoverd")
    must("without a peer the service stays, and that is said", b.serves() and "stay here" in said)


def of_others(path: str) -> bool:
    """What dpkg, the init and this trial keep for themselves."""
    return bool(
        re.match(r"/(root|old|var/lib/(dpkg|systemd|urandom|logrotate)|var/log/|var/backups)", path)
        and not re.match(r"/var/lib/dpkg/info/failoverd|/var/log/watchd", path)
    ) or bool(
        re.match(r"/etc/(passwd|group|shadow|gshadow|subuid|subgid)-$|/etc/machine-id$", path)
    )


if __name__ == "__main__":
    sys.exit(main())
