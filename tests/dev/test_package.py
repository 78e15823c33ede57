"""The package's parts: both inits, what systemd is told, and what debian/ says of the rest.

The short form of `dev/package --trial`, which boots nodes, installs, upgrades and purges.
"""

from __future__ import annotations

import os
import re
import resource
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import try_in_child, wait_until

from dev.lab.network import Lab
from dev.lab.node import Node, perl
from dev.lab.spaces import ROOT
from failoverd import __version__, conf, process, sd_notify

SCRIPTS = [
    *(
        ".ci/run",
        "dev/setup",
        "bin/test",
        "dev/package",
        "debian/adapt",
        "debian/running",
        "etc/hand-over",
        "etc/init.d/failoverd",
        "etc/ocf/traffic",
        "examples/pacemaker/traffic.pcs",
        "dev/cluster",
    ),
    *("debian/failoverd.postinst", "debian/failoverd.prerm", "debian/failoverd.postrm"),
]
COMMANDS = ("failoverd", "ha-fail", "ha-status")
LONG = 60.0


def text(path: str) -> str:
    return (ROOT / path).read_text()


# ---------------------------------------------------------------------- sysvinit


class Init:
    """A node's init script, whose commands are this checkout's."""

    def __init__(self, node: Node, default: str = "unset INSTANCES") -> None:
        """default: what /etc/default/failoverd says."""
        self._node = node
        path = f"PATH={node.folder}/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
        launch = f"exec {shlex.join([sys.executable, '-I', f'{ROOT}/dev/launch.py'])}"
        for name in COMMANDS:
            node.write(f"sbin/{name}", f'#!/bin/sh\n{launch} {name} "$@"\n', 0o755)
        hand_over = replaced(text("etc/hand-over"), r"PATH=.*", path)
        script = replaced(text("etc/init.d/failoverd"), r"PATH=.*", path)
        script = replaced(script, r"CONF=.*", f"CONF={node.conf}")
        script = replaced(script, r"FOLDER=.*", f"FOLDER={node.folder}/pairs")
        script = replaced(script, r"unset INSTANCES", default)
        place = node.write("hand-over", hand_over, 0o755)
        script = replaced(script, r"HAND_OVER=.*", f"HAND_OVER={place}")
        self._script = node.write("init", script, 0o755)

    def __call__(
        self, verb: str, *pairs: str, runlevel: str = "2", user: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run it as init does, or as a person does."""
        another = ("setpriv", "--reuid", user, "--clear-groups") if user else ()
        words = (*another, "env", f"RUNLEVEL={runlevel}", self._script, verb, *pairs)
        return self._node.run(*words, timeout=120.0)

    def must(self, verb: str, *pairs: str, runlevel: str = "2") -> str:
        done = self(verb, *pairs, runlevel=runlevel)
        assert done.returncode == 0, f"{verb}: {done.stdout}{done.stderr}"
        return done.stdout


def replaced(script: str, line: str, by: str) -> str:
    """The script with one line, which must be there, made another."""
    new, count = re.subn(f"(?m)^{line}$", by.replace("\\", r"\\"), script)
    assert count == 1, line
    return new


@pytest.fixture
def pair(lab: Lab) -> tuple[Init, Init]:
    """Two nodes on which the init script has started failoverd; a is active."""
    inits = Init(lab.a), Init(lab.b)
    for node, init in zip(lab.nodes, inits, strict=True):
        node.write_conf()
        init.must("start")
    lab.wait_until(lambda: settled(lab, lab.a), "a is active, b stands by", LONG)
    return inits


def settled(lab: Lab, active: Node) -> bool:
    others = {node.role() for node in lab.nodes if node is not active}
    return active.role() == "active" and others == {"standby"} and lab.holders() == [active.name]


def scripts_run(lab: Lab) -> list[int]:
    return [node.log().count(" SCRIPT-START ") for node in lab.nodes]


def test_the_init_script_starts_restarts_and_tells(lab: Lab, pair: tuple[Init, Init]) -> None:
    a, b = pair
    before, pid = scripts_run(lab), lab.a.read("run/pid")
    since = lab.a.status()["us"]["since"]
    a.must("start")  # it runs already
    assert lab.a.read("run/pid") == pid and pid.strip() in a.must("status")
    a.must("restart", runlevel="6")  # even then it is not the node that goes down
    assert lab.a.read("run/pid") not in ("", pid)
    lab.wait_until(lambda: settled(lab, lab.a), "all is as it was")
    assert scripts_run(lab) == before and lab.a.status()["us"]["since"] == since

    lab.a.write("failoverd.conf", lab.a.read("failoverd.conf") + "nonsense\n")
    pid = lab.a.read("run/pid")
    assert a("restart").returncode == 6 and lab.a.read("run/pid") == pid
    assert a("reload").returncode == 6 and "configuration stays" not in lab.a.log()
    lab.a.write_conf()
    a.must("reload")
    a.must("stop")
    assert a("status").returncode == 3 and a("reload").returncode == 7
    assert lab.holders() == ["a"] and scripts_run(lab) == before  # the service stays

    # Another process has the number that a dead failoverd's pid file names.
    lab.b.check("kill", "-KILL", lab.b.read("run/pid").strip())
    with lab.b.popen("sleep", "100") as innocent:
        lab.b.write("run/pid", f"{innocent.pid}\n")
        assert b("status").returncode == 1
        b.must("stop")
        assert innocent.poll() is None


def test_the_init_script_does_what_the_lsb_says(lab: Lab, pair: tuple[Init, Init]) -> None:
    a, _ = pair
    pid = lab.a.read("run/pid")
    a.must("force-reload")
    lab.wait_until(lambda: "CONFIG-RELOADED" in lab.a.log(), "the configuration is read again")
    assert lab.a.read("run/pid") == pid
    a.must("try-restart")
    assert lab.a.read("run/pid") not in ("", pid)
    a.must("stop")
    a.must("try-restart")
    assert a("status").returncode == 3


def test_the_init_script_tells_others_than_root_nothing_false(
    lab: Lab, pair: tuple[Init, Init]
) -> None:
    """They cannot read the pid file, and cannot stop what runs."""
    a, _ = pair
    if lab.a.run("setpriv", "--reuid", "nobody", "--clear-groups", "true").returncode:
        pytest.skip("no other user here")
    pid = lab.a.read("run/pid")
    for verb in ("status", "stop", "start", "restart", "reload"):
        done = a(verb, user="nobody")
        assert (done.returncode, done.stdout) == (4, "")
        assert done.stderr == "failoverd: run this as root\n"
    assert lab.a.read("run/pid") == pid and pid.strip() in a.must("status")
    a.must("stop")
    assert a("status", user="nobody").returncode == 3


def test_the_init_script_finds_a_pid_file_that_is_named_by_failover_root(lab: Lab) -> None:
    lab.a.write_conf()
    root = f'$low_water = 1; $failover_root = "{lab.a.folder}";'
    more = f'{root}\n$verbose = "no"; $pidfile = "${{failover_root}}/run/pid";\n'
    lab.a.write("failoverd.conf", lab.a.read("failoverd.conf").replace("$pidfile", "#") + more)
    init = Init(lab.a)
    init.must("start")
    assert lab.a.read("run/pid").strip() in init.must("status")
    init.must("reload")
    init.must("stop")
    done = init("reload")
    assert (done.returncode, done.stderr) == (7, "failoverd is not running: start it\n")


def test_a_node_that_goes_down_gives_its_role_away_if_it_is_active(
    lab: Lab, pair: tuple[Init, Init]
) -> None:
    a, b = pair
    before = scripts_run(lab)
    b.must("stop", runlevel="0")
    assert lab.a.role() == "active" and scripts_run(lab) == before
    b.must("start")
    lab.wait_until(lambda: settled(lab, lab.a), "b stands by again", LONG)
    a.must("stop", runlevel="6")
    assert lab.b.role() == "active" and lab.holders() == ["b"]
    assert "told this node to take over; command=fail" in lab.b.log()
    done = b("stop", runlevel="6")  # no node is left to take over
    assert "the peer does not take over" in done.stderr and lab.holders() == ["b"]


def test_the_init_script_waits_for_none_that_process_1_does_not_reap(lab: Lab) -> None:
    init = Init(lab.a)
    lab.a.write_conf()
    forgets = "import subprocess, sys; subprocess.Popen(sys.argv[1:]); sys.stdin.read()"
    launch = (sys.executable, "-I", f"{ROOT}/dev/launch.py", "failoverd", "-f", "-c", lab.a.conf)
    parent = lab.a.popen(sys.executable, "-I", "-c", forgets, *launch, stdin=subprocess.PIPE)
    lab.wait_until(lambda: lab.a.role() != "", "it runs", LONG)
    pid = lab.a.read("run/pid").strip()
    init.must("stop")
    assert "Z" in lab.a.check("ps", "-o", "stat=", "-p", pid)
    assert parent.poll() is None


def test_the_init_script_says_what_is_missing(lab: Lab) -> None:
    init = Init(lab.a)
    done = init("start")
    assert done.returncode == 6 and f"there is no {lab.a.conf}" in done.stderr
    lab.a.write("failoverd.conf", '$failover_root = "/nowhere";\n$host_type="$failover_root/x";')
    done = init("start")
    assert done.returncode == 6 and "boot:slave into /nowhere/x" in done.stderr
    assert init("nonsense").returncode == 2


def several(node: Node, **ports: int) -> None:
    """The configurations of further pairs, whose host_type is where $failover_root says."""
    for name, port in ports.items():
        root, run = f"{node.folder}/pairs/{name}", f"{node.folder}/run/{name}"
        settings = {**node.settings(), "failover_root": root, "tcp_port": port}
        settings |= {"pidfile": f"{run}.pid", "state": f"{run}.state", "log": f"{run}.log"}
        own = {key: value for key, value in settings.items() if key not in ("host_type", "secret")}
        node.write(f"pairs/{name}/failoverd.conf", "".join(map(perl, own, own.values())))
        node.write(f"pairs/{name}/host_type", "boot:slave\n")
        node.write(f"pairs/{name}/secret", f"that of {name}\n", 0o600)


def test_the_init_script_serves_several_pairs(lab: Lab) -> None:
    lab.a.write_conf()
    lab.a.check("rm", f"{lab.a.folder}/host_type")
    several(lab.a, db=2001, web=2002)
    init = Init(lab.a)
    init.must("start")
    lines = init.must("status").splitlines()
    assert [line.split(" is ")[0] for line in lines] == ["failoverd db", "failoverd web"]
    db, web = lab.a.read("run/db.pid"), lab.a.read("run/web.pid")
    init.must("restart", "web")
    init.must("reload")
    assert lab.a.read("run/db.pid") == db and lab.a.read("run/web.pid") not in ("", web)
    init.must("stop", "db")
    assert init("status").returncode == 3 and init("status", "web").returncode == 0
    lab.a.write("pairs/db/failoverd.conf", "nonsense\n")
    web = lab.a.read("run/web.pid")
    assert init("restart").returncode == 6  # web is restarted all the same
    assert lab.a.read("run/web.pid") not in ("", web)
    init.must("stop")
    lab.a.write("host_type", "boot:slave\n")
    assert init("status").stdout.count("failoverd") == 3
    named = Init(lab.a, "INSTANCES=web")
    assert named("status").stdout == "failoverd is not running\nfailoverd web is not running\n"
    assert named("status", "db").stdout == "failoverd db is not running\n"
    assert named("start", "none").returncode == 6


# ---------------------------------------------------------------------- systemd


@pytest.fixture
def listening() -> Iterator[Callable[[str | Path], socket.socket]]:
    """Makes sockets like that of a service manager."""
    made: list[socket.socket] = []

    def listen(address: str | Path) -> socket.socket:
        made.append(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        made[-1].bind(str(address))
        made[-1].settimeout(LONG)
        return made[-1]

    yield listen
    for sock in made:
        sock.close()


Listening = Callable[[str | Path], socket.socket]


def test_failoverd_tells_systemd_that_it_is_ready_alive_and_what_it_is(
    lab: Lab, listening: Listening
) -> None:
    lab.a.write_conf(switch_timeout=100)
    manager = listening(lab.a.outside / "notify")
    env = {"NOTIFY_SOCKET": f"{lab.a.folder}/notify", "WATCHDOG_USEC": "300000"}
    argv = (sys.executable, "-I", f"{ROOT}/dev/launch.py", "failoverd", "-f", "-c", lab.a.conf)
    with lab.a.popen(*argv, env={**os.environ, **env}) as failoverd:
        told = told_until(manager, "STATUS=active")
        assert told.count("READY=1") == 1 and told.index("READY=1") < told.index("STATUS=active")
        assert {"STATUS=standby", "STATUS=switching"} <= set(told)
        while select.select([manager], [], [], 0)[0]:
            manager.recv(4096)  # what has waited for us says nothing of the pace
        began = time.monotonic()
        for _ in range(6):
            told_until(manager, "WATCHDOG=1")
        assert time.monotonic() - began > 0.3  # one each 0.1 s, not a flood
        failoverd.send_signal(signal.SIGTERM)
        more = "EXTEND_TIMEOUT_USEC=400000000"  # it finishes a switch, which may take that long
        assert told_until(manager, "STOPPING=1")[-2:] == ["STOPPING=1", more]
        assert failoverd.wait() == 0


def told_until(manager: socket.socket, line: str) -> list[str]:
    """All lines up to this one. Raises TimeoutError if it does not come."""
    told: list[str] = []
    while line not in told:
        told += manager.recv(4096).decode().split("\n")
    return told


def test_what_a_manager_says_counts_once(
    tmp_path: Path, listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = listening(tmp_path / "notify")
    for name, value in (
        ("NOTIFY_SOCKET", str(tmp_path / "notify")),
        ("WATCHDOG_USEC", "3000000"),
        ("WATCHDOG_PID", str(os.getpid())),
    ):
        monkeypatch.setenv(name, value)
    supervisor = sd_notify.ServiceManager.from_environment()
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & set(os.environ)
    assert supervisor.deadline is not None
    now = supervisor.deadline + 1.0
    supervisor.tend(now)
    assert supervisor.deadline == now + 1.0  # a third of its patience
    supervisor.tend(now + 0.5)
    supervisor.tell("READY=1", "STATUS=active")
    assert manager.recv(100) == b"WATCHDOG=1"
    assert manager.recv(100) == b"READY=1\nSTATUS=active"
    assert sd_notify.ServiceManager.from_environment().deadline is None


def test_an_abstract_address_will_do_and_so_will_a_manager_that_is_gone(
    listening: Listening,
) -> None:
    name = f"failoverd-test-{os.getpid()}"
    manager = listening(f"\0{name}")
    supervisor = sd_notify.ServiceManager(f"@{name}")
    supervisor.tell("READY=1")
    assert manager.recv(100) == b"READY=1"
    for _ in range(10_000):  # it reads nothing: no more than its buffer is taken, nothing blocks
        supervisor.tell("WATCHDOG=1")
    manager.close()
    supervisor.tell("READY=1")
    sd_notify.ServiceManager("").tell("READY=1")


def test_no_descriptor_is_needed_for_a_sign_of_life(tmp_path: Path, listening: Listening) -> None:
    manager = listening(tmp_path / "notify")

    def tell(_: process.Channel) -> None:
        supervisor = sd_notify.ServiceManager(str(tmp_path / "notify"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
        supervisor.tell("WATCHDOG=1")

    assert try_in_child("notifier", tell, 20.0) == ""
    manager.setblocking(False)
    assert manager.recv(100) == b"WATCHDOG=1"


def test_another_processes_watchdog_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid() + 1))
    assert sd_notify.ServiceManager.from_environment().deadline is None


def test_the_unit_is_sound(tmp_path: Path) -> None:
    unit = text("etc/systemd/failoverd.service")
    for line in (
        "Type=notify",
        "KillMode=process",
        "WatchdogSec=30",
        "ExecStart=/usr/sbin/failoverd -f",
    ):
        assert line in unit.splitlines()
    verified(tmp_path, "failoverd.service")


def test_the_unit_of_further_pairs_is_the_same_but_for_the_file(tmp_path: Path) -> None:
    further = "/etc/failover/%i/failoverd.conf"
    unit = text("etc/systemd/failoverd.service")
    for line, by in (
        (r"(Description=.*)", r"\1 of %i"),
        (r"(AssertPathExists=/etc/failover)/(host_type)", r"\1/%i/\2"),
        (r"(ExecStart=.* -f)", rf"\1 -c {further}"),
        (r"(ExecReload=.* -t)( .*)", rf"\1 -c {further}\2"),
        (r"(ExecStop=.*/hand-over)(;;.*)", rf"\1 {further}\2"),
    ):
        unit, count = re.subn(rf"(?m)^{line}$", by, unit)
        assert count == 1, line
    assert settings(text("etc/systemd/failoverd@.service")) == settings(unit)
    verified(tmp_path, "failoverd@web.service", "failoverd@.service")


def settings(unit: str) -> list[str]:
    return [line for line in unit.splitlines() if line and not line.startswith("#")]


def verified(folder: Path, name: str, file: str = "") -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze: install systemd")
    unit = text(f"etc/systemd/{file or name}")
    installed = re.sub(r"/usr/sbin/(failoverd|watchd)\b", "/bin/true", unit)
    (folder / (file or name)).write_text(installed)
    words = ("systemd-analyze", "verify", "--man=no", str(folder / name))
    done = subprocess.run(words, capture_output=True, text=True, timeout=LONG, check=False)
    assert done.returncode == 0, done.stderr
    assert name not in done.stderr and (file or name) not in done.stderr, done.stderr


def test_the_unit_of_the_sensor_is_sound(tmp_path: Path) -> None:
    unit = text("etc/systemd/watchd@.service")
    assert "EnvironmentFile=-/etc/default/watchd-%i" in unit.splitlines()
    assert "etc/systemd/watchd@.service debian/failoverd/usr/lib/systemd" in text("debian/rules")
    verified(tmp_path, "watchd@eth0.service", "watchd@.service")


@pytest.mark.parametrize("name", ["failoverd.pid", "failoverd-web.pid"])
@pytest.mark.parametrize(
    ("argument", "ends"), [("/usr/sbin/failoverd", True), ("/srv/failoverd/notes", False)]
)
def test_no_other_is_told_that_the_log_is_rotated(
    tmp_path: Path, name: str, argument: str, ends: bool
) -> None:
    """The pid file of a dead failoverd may name any process, even one that edits a file of ours."""
    script = text("etc/logrotate.d/failoverd").partition("postrotate")[2].partition("endscript")[0]
    pidfile = tmp_path / name
    assert script.count("/run/failoverd.pid") == script.count("/run/failoverd-*.pid") == 1
    script = script.replace("/run/failoverd.pid", shlex.quote(str(tmp_path / "failoverd.pid")))
    script = script.replace("/run/failoverd-*.pid", f"{shlex.quote(str(tmp_path))}/failoverd-*.pid")
    with subprocess.Popen(
        ["sh", "-c", "read nothing; :", argument], stdin=subprocess.PIPE
    ) as named:
        # A process that becomes another program has no command line for a moment.
        wait_until(Path(f"/proc/{named.pid}/cmdline").read_bytes)
        pidfile.write_text(f"{named.pid}\n")
        subprocess.run(["sh", "-c", script], check=True, timeout=LONG)
        named.communicate(timeout=LONG)
    assert named.returncode == (-signal.SIGHUP if ends else 0)


# ---------------------------------------------------------------------- pip


PIP = """
import sys
from pip._vendor.distlib.scripts import ScriptMaker
maker = ScriptMaker(None, sys.argv[1])
for line in sys.argv[2:]:
    maker.make(line)
"""


def test_what_pip_has_installed_runs_where_a_checkout_lies(lab: Lab, tmp_path: Path) -> None:
    """In its bin there is another watchd, of the same package, which is nobody else's."""
    shutil.copytree(ROOT / "failoverd", lab.a.outside / "site/failoverd")
    scripts = tomllib.loads(text("pyproject.toml"))["project"]["scripts"]
    lines = [f"{name} = {scripts[name]}" for name in ("failoverd", "watchd")]
    subprocess.run([sys.executable, "-c", PIP, tmp_path, *lines], check=True, timeout=LONG)
    shutil.copytree(tmp_path, lab.a.outside / "pip")  # where another process may not look by itself
    lab.a.write_conf(watchd="./watchd")
    env = f"PYTHONPATH={lab.a.folder}/site"
    command = ("env", "-C", f"{ROOT}/bin", env, f"{lab.a.folder}/pip/failoverd", "-c", lab.a.conf)
    checked = lab.a.run(*command, "-t")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "watchd" not in checked.stderr
    lab.a.popen(*command, "-f")
    lab.wait_until(lambda: watched(lab.a) >= {"eth0", "plip0"}, "its own watchers run", LONG)


def watched(node: Node) -> set[str]:
    """The interfaces that watchers of ours watch, forked and not executed."""
    return set(re.findall(r"(?m)^failoverd: watchd (\S+)", node.run("ps", "axo", "args").stdout))


# ---------------------------------------------------------------------- debian/


TITLED = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from failoverd import process
process.set_title(sys.argv[1])
print(os.getpid(), flush=True)
sys.stdin.read()
"""


def test_only_the_packages_own_failoverd_is_the_packages(lab: Lab) -> None:
    """Not what only looks like it, and not what runs in a container that can be seen."""
    titles = {
        "/usr/bin/python3 -I /usr/sbin/failoverd": True,
        "/usr/bin/python3 -I /sbin/failoverd -c /etc/failover/other.conf": True,
        "/usr/bin/python3 -I /usr/local/sbin/failoverd": False,
        "/usr/bin/python3 -I /usr/sbin/failoverd.old": False,
        "vi /usr/sbin/failoverd": False,
    }
    pids, processes = {}, []
    for title in titles:
        words = (sys.executable, "-I", "-c", TITLED, title)
        processes.append(lab.a.popen(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        assert processes[-1].stdout is not None
        pids[title] = processes[-1].stdout.readline().decode().strip()
    running = str(ROOT / "debian/running")
    found = lab.a.run(running).stdout.split()
    assert sorted(found) == sorted(pids[title] for title, own in titles.items() if own)
    outside = subprocess.run([running], capture_output=True, text=True, check=True, timeout=LONG)
    assert outside.stdout == ""


def leave(node: Node, *replace: tuple[str, str]) -> subprocess.CompletedProcess[str]:
    """What the package does on a node from which it is removed, where no init answers."""
    script = text("debian/failoverd.prerm")
    lives = 'pid=$(cat run/pid) && grep -q . "/proc/$pid/cmdline" && echo "$pid"'
    places = {
        "RUNNING": node.write("running", f"#!/bin/sh\ncd {node.folder}\n{lives}\n:\n", 0o755),
        "HAND_OVER": node.write("hand-over", "#!/bin/sh\n", 0o755),
    }
    for name, place in places.items():
        script = replaced(script, f"{name}=.*", f"{name}={place}")
    for line, by in replace:
        script = replaced(script, line, by)
    node.write("sbin/invoke-rc.d", "#!/bin/sh\nexit 101\n", 0o755)
    path = f"PATH={node.folder}/sbin:{os.environ['PATH']}"
    return node.run("env", path, node.write("prerm", script, 0o755), "remove", timeout=120.0)


@pytest.mark.parametrize("hangs", [False, True])
def test_a_removal_ends_a_failoverd_that_no_init_ends(lab: Lab, hangs: bool) -> None:
    lab.a.write_conf()
    lab.a.start_failoverd()
    lab.wait_until(lambda: lab.a.role() != "", "it runs", LONG)
    pid = lab.a.read("run/pid").strip()
    supervisor = lab.a.run("pgrep", "-P", pid).stdout.split()
    assert supervisor
    if hangs:
        lab.a.check("kill", "-STOP", pid)
    done = leave(lab.a, *[("PATIENCE=90 .*", "PATIENCE=1")] * hangs)
    assert done.returncode == 0, done.stderr
    lab.wait_until(lambda: not [one for one in (pid, *supervisor) if lives(lab.a, one)], "all end")
    assert leave(lab.a).returncode == 0  # again: no daemon is there


def lives(node: Node, pid: str) -> bool:
    return node.run("grep", "-q", ".", f"/proc/{pid}/cmdline").returncode == 0


@pytest.mark.parametrize("path", SCRIPTS)
def test_scripts_are_sound(path: str) -> None:
    assert text(path).startswith("#!/bin/sh\n")
    assert os.access(ROOT / path, os.X_OK) or path.startswith("debian/failoverd.")
    subprocess.run([shutil.which("dash") or "sh", "-n", ROOT / path], check=True, timeout=LONG)
    if shutil.which("shellcheck") is None:
        pytest.skip("there is no shellcheck: install shellcheck")
    words = ("shellcheck", "--severity=warning", "--shell=sh", str(ROOT / path))
    done = subprocess.run(words, capture_output=True, text=True, timeout=LONG, check=False)
    assert done.returncode == 0, done.stdout


def test_the_version_is_one() -> None:
    project = tomllib.loads(text("pyproject.toml"))["project"]
    assert text("debian/changelog").startswith(f"failoverd ({__version__}) ")
    assert project["version"] == __version__


def test_what_failoverd_needs_the_package_brings_or_depends_on() -> None:
    project = tomllib.loads(text("pyproject.toml"))["project"]
    control = text("debian/control")
    depends = re.findall(r"^ python3-(\S+)", control.partition("Recommends:")[0], re.MULTILINE)
    optional = re.findall(r"python3-(\S+?),?$", control.partition("Recommends:")[2], re.MULTILINE)
    vendored = re.findall(r"  (\S+)-[0-9.]+\.tar\.gz$", text("debian/vendor.sha256"), re.MULTILINE)
    known = {*depends, *(name.replace("_", "-") for name in vendored), *optional}
    for need in project["dependencies"]:
        name = re.split("[<>=~]", need)[0].removeprefix("python-")
        assert name in known, f"{need}: neither in debian/control nor in debian/vendor.sha256"


def test_the_packages_configuration_is_the_example_for_debian(tmp_path: Path) -> None:
    copy = tmp_path / "failoverd.conf"
    copy.write_text(text("etc/failover/failoverd.conf"))
    subprocess.run([ROOT / "debian/adapt", copy], check=True, timeout=LONG)
    here, there = (
        conf.parse(text("etc/failover/failoverd.conf"), "x"),
        conf.parse(copy.read_text(), "x"),
    )
    assert (there.failover_prog, there.user) == ("/etc/failover/ha-switch", "failoverd")
    assert set(conf.changed(here, there)) == {"failover_prog", "user"}
    assert f"getent passwd {there.user} >" in text("debian/failoverd.postinst")
