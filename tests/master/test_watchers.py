"""Another's program as $watchd, and watchers that do not report: nothing is called well unseen."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from live_pair import LONG, WATCHED, context, kill, main_pid, pids, runs, settled

from dev.lab import logs
from dev.lab.network import Lab
from dev.lab.node import Node, Value
from failoverd import links, pair
from failoverd.conf import Conf
from failoverd.log import Log
from failoverd.master.context import Context
from failoverd.master.interfaces import ServiceInterfaces
from failoverd.master.reports import Reports
from failoverd.master.supervisor import Supervisor
from failoverd.master.watchers import Watchers
from failoverd.process import CAP_NET_RAW, Message

PATIENCE = 90.0  # seconds in which another's program must have been refused
# Counts what the kernel's own statistics show of an interface, in windows of half a second.
COUNTS = r"""#!/bin/sh
received() { sed -n "s/^ *$1: *[0-9]* *\([0-9]*\) .*/\1/p" /proc/net/dev; }
last=1
seen=$(received "$1")
while sleep 0.5; do
    while [ -e HANGS ]; do sleep 0.1; done
    now=$(received "$1")
    packets=$((now - seen))
    verdict=ok
    [ "$packets$last" != 00 ] || verdict=fail
    echo "{\"event\": \"alarm\", \"packets\": $packets, \"last\": $last, \"verdict\": \"$verdict\"}"
    last=$packets seen=$now
done
"""
SAYS = "Watching $1 with Net::Pcap"
NO_WATCHERS = {
    "text": f'#!/bin/sh\nwhile echo "{SAYS}"; do sleep 0.2; done\n',
    "text without an end": f'#!/bin/sh\nprintf %s "{SAYS}"\nexec sleep 1000\n',
    "an error": f'#!/bin/sh\nsleep 4321 &\necho "{SAYS}" >&2\nexit 2\n',
    "a daemon": "#!/bin/sh\nsetsid sleep 1000 &\nexit 0\n",
    "nothing": "#!/bin/sh\nexec sleep 1000\n",
    "other JSON": '#!/bin/sh\nwhile echo \'{"event": "alive"}\'; do sleep 0.2; done\n',
    "no program": "what is this\n",
}
PRINTED = {
    "text": SAYS.replace("$1", "eth0"),
    "text without an end": SAYS.replace("$1", "eth0"),
    "an error": SAYS.replace("$1", "eth0"),
    "other JSON": '{"event": "alive"}',
    "no program": "cannot be run as",
}


def start_with(lab: Lab, program: str, **variables: Value) -> str:
    """Start the pair, a with this text as $watchd, and a client. The path of the program."""
    text = program.replace("HANGS", f"{lab.a.folder}/hangs")
    path = lab.a.write("my-watchd", text, 0o755)
    lab.a.write_conf(watchd=path, **WATCHED, **variables)
    lab.b.write_conf(**WATCHED, **variables)
    for node in lab.nodes:
        node.start_failoverd()
    lab.client.start_probing()
    return path


def processes(node: Node, path: str) -> list[str]:
    """The pids of the watchers that are another's, without the subshells that they fork."""
    listing = node.check("ps", "-ww", "-eo", "pid=,ppid=,args=").splitlines()
    found = [line.split()[:2] for line in listing if f"/bin/sh {path} " in line]
    shells = {pid for pid, _ in found}
    return [pid for pid, parent in found if parent not in shells]


def told(node: Node) -> dict[str, Any]:
    us: dict[str, Any] = node.status()["us"]
    return us


def fields(status: str) -> dict[str, str]:
    """Those of /proc/PID/status."""
    return {key: value.strip() for key, _, value in (x.partition(":") for x in status.splitlines())}


# ------------------------------------------------------------------ when a report is missed


class Known(Context):
    """What is set, and what is said."""

    def __init__(self, conf: Conf) -> None:
        self.conf = conf
        self.log = Log(os.devnull)
        self.said: list[str] = []

    def say(self, event: str, subject: str, /, *_: object, **__: object) -> None:
        self.log.write(event, subject, "", {})
        self.said.append(f"{event} {subject}")


class Ended(Supervisor):
    """Those that are given up, or started again as they cannot be told."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.unreachable = False

    def send(self, name: str, message: Message) -> bool:
        return not self.unreachable

    def restart(self, name: str, handed: Message | None = None) -> None:
        self.names.append(name)

    def give_up(self, name: str, why: str) -> None:
        self.names.append(name)


class Minded:
    """Watchers of eth0 with windows of 20 s, and of plip0 with some of 1 s."""

    def __init__(self, program: str | None = None) -> None:
        self.context, self.supervisor = Known(Conf(timer_seconds=20.0, plip_timer=1.0)), Ended()
        self.unseen: list[str] = []
        self.watchers = Watchers(self.context, self.supervisor, program, self.unseen.append)
        for interface in ("eth0", "plip0"):
            self.watchers.expect(interface, NOW)


NOW, JUST = 1000.0, 0.001
MISSED = "is not watched: its watcher reports no windows"


@pytest.mark.parametrize(
    ("interface", "first", "later"), [("eth0", 30.0, 50.0), ("plip0", 11.0, 10.0)]
)
def test_a_report_is_missed_after_the_first_window_and_later_after_some(
    interface: str, first: float, later: float
) -> None:
    for began, seconds in ((None, first), (NOW + 5, later)):
        minded = Minded()
        if began is not None:
            minded.watchers.told(interface, began)
        due = (began or NOW) + seconds
        minded.watchers.tend(due - JUST)
        assert interface not in minded.unseen and interface not in minded.watchers.troubles
        minded.watchers.tend(due)
        assert minded.watchers.troubles[interface] == MISSED
        assert (
            minded.unseen[-1] == interface and minded.supervisor.names[-1] == f"watchd {interface}"
        )
        again = len(minded.unseen)
        minded.watchers.tend(due + first - JUST)
        assert minded.unseen[again:].count(interface) == 0
        minded.watchers.tend(due + first)
        assert minded.unseen[again:].count(interface) == 1, "the next has its time, too"


def test_what_is_watched_again_is_well() -> None:
    minded = Minded()
    minded.watchers.tend(NOW + 11)
    assert minded.watchers.troubles == {"plip0": MISSED}
    minded.watchers.told("plip0", NOW + 12)
    minded.watchers.told("plip0", NOW + 13)
    assert minded.watchers.troubles == {}
    assert minded.context.said == [
        f"{event} interface plip0" for event in ("IFACE-UNWATCHED", "IFACE-WATCHED")
    ]


@pytest.mark.parametrize("unreachable", [False, True])
def test_a_window_that_a_switch_begins_again_has_its_time(unreachable: bool) -> None:
    minded = Minded()
    minded.supervisor.unreachable = unreachable
    minded.watchers.begin_again(NOW + 15)
    again = [f"watchd {name}" for name in minded.context.conf.interfaces]
    assert minded.supervisor.names == (again if unreachable else [])
    minded.watchers.tend(NOW + 15 + 30 - JUST)
    assert minded.watchers.troubles == {"plip0": MISSED}
    minded.watchers.tend(NOW + 15 + 30)
    assert "eth0" in minded.watchers.troubles


def test_nothing_is_missed_after_a_time_without_listening() -> None:
    minded = Minded()
    minded.watchers.told("plip0", NOW)
    minded.watchers.expect_again(NOW + 100)
    minded.watchers.tend(NOW + 100 + 11 - JUST)
    assert minded.watchers.troubles == {} and not minded.supervisor.names
    minded.watchers.tend(NOW + 100 + 11)
    assert set(minded.watchers.troubles) == {"plip0"}


def test_with_another_configuration_all_is_new() -> None:
    minded = Minded()
    minded.watchers.tend(NOW + 100)
    assert set(minded.watchers.troubles) == {"eth0", "plip0"}
    minded.watchers.forget()
    minded.watchers.tend(NOW + 200)
    assert minded.watchers.troubles == {} and len(minded.unseen) == 2
    minded.context.said.clear()
    minded.watchers.told("eth0", NOW + 201)
    assert minded.context.said == ["IFACE-WATCHED interface eth0"], "what was said has an end"


def test_only_another_program_that_has_not_told_of_a_window_is_refused() -> None:
    minded = Minded("/x")
    assert minded.watchers.program("eth0") == "/x"
    assert not minded.watchers.refuses("eth0", "cannot be started"), "it has never run"
    minded.watchers.started("eth0")
    minded.watchers.told("eth0", NOW + 1)
    assert not minded.watchers.refuses("eth0", "ended")
    minded.watchers.started("eth0")
    assert minded.watchers.refuses("eth0", "ended again")
    assert minded.watchers.program("eth0") is None and minded.watchers.program("plip0") == "/x"
    assert "ended again" in minded.watchers.troubles["eth0"]
    assert not minded.watchers.refuses("eth0", "our own has ended"), "ours is never refused"
    minded.watchers.tend(NOW + 100)
    told = minded.watchers.troubles["eth0"]
    assert told.startswith(f"{MISSED}; $watchd /x is refused"), "both are so"
    minded.watchers.told("eth0", NOW + 101)
    assert minded.watchers.troubles["eth0"].startswith("$watchd /x is refused")
    minded.watchers.forget()
    assert minded.watchers.troubles == {}
    minded.watchers.expect("eth0", NOW + 102)
    assert minded.watchers.program("eth0") is None, "HUP changes no $watchd"
    assert minded.watchers.troubles["eth0"].startswith("$watchd /x is refused")


@pytest.fixture
def us(tmp_path: Path) -> Iterator[Context]:
    made = context(tmp_path, addresses=(), dry=True)
    yield made
    made.spare.close()
    made.log.close()


def test_an_interface_that_is_not_watched_is_not_well_and_has_not_failed(
    us: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "works", lambda _: True)
    window: Message = {"packets": 7, "last": 7, "verdict": "ok", "reason": ""}
    reports = Reports(us, Supervisor(None, None, None), ServiceInterfaces(us))  # type: ignore[arg-type]

    def decide() -> None:
        while us.events:
            us.state, actions = pair.step(us.state, us.events.popleft(), us.rules, NOW)
            assert not [each for each in actions if not isinstance(each, pair.Log)]

    def after(verdict: str) -> pair.Interface:
        reports.told_window("eth0", {**window, "verdict": verdict})
        decide()
        reports.unwatched("eth0")
        decide()
        return us.state.interfaces[0]

    silent, failed = after("ok"), after("fail")
    assert (silent.state, silent.failed, silent.useless) == ("silent", False, True)
    assert (failed.state, failed.failed) == ("fail", True), "that it failed is still so"
    assert reports.counts["eth0"] == (0, 0)

    reports.told_window("plip0", window)
    decide()
    assert reports.link_state() == "ok"
    reports.unwatched("plip0")
    assert reports.link_state() == "boot" and not us.events, "no node takes over for that"


def test_what_a_reload_leaves_unwatched_has_not_failed_any_more(
    us: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each problem that was told has its end, and another heartbeat link is in the place of one
    that was lost."""
    monkeypatch.setattr(links, "works", lambda _: True)
    window: Message = {"packets": 0, "last": 0, "verdict": "fail", "reason": ""}
    old = us.conf
    us.adopt(replace(old, interfaces=("eth0", "eth1")))
    reports = Reports(us, Supervisor(None, None, None), ServiceInterfaces(us))  # type: ignore[arg-type]
    for name in ("eth0", "eth1", "plip0"):
        reports.told_window(name, window)
    before, new = us.conf, replace(old, plip_interface="plip1")
    us.adopt(new)
    reports.adopt(before)
    for name in ("eth0", "plip1"):
        reports.told_window(name, {**window, "packets": 7, "verdict": "ok"})
    log = Path(us.conf.log).read_text()
    ends = [line.partition("]: INFO ")[2].partition(";")[0] for line in log.splitlines()]
    assert list(filter(None, ends)) == [
        "IFACE-OK interface eth1: no longer watched",
        "IFACE-OK interface eth0: receiving",
        "HEARTBEAT-OK peer 1.0.0.2: heartbeats are received again",
    ]


# ------------------------------------------------------------------ one that does its work


def test_another_watcher_is_executed_and_believed(lab: Lab) -> None:
    path = start_with(lab, COUNTS)
    lab.wait_until(lambda: settled(lab, lab.a), "a is active, b stands by", LONG)
    assert not pids(lab.a, "failoverd: watchd")
    lab.wait_until(lambda: len(processes(lab.a, path)) == 2, "one for each interface")
    assert "watchers" not in told(lab.a)
    lab.a.kill_port("eth0")
    lab.wait_until(lambda: settled(lab, lab.b), "b becomes active by that watcher's word", LONG)
    assert not logs.told(lab.a.log(), "WATCHD-REFUSED")
    kill(lab.a, main_pid(lab.a))
    lab.wait_until(lambda: not processes(lab.a, path), "they died with failoverd")


def test_another_watcher_may_count_and_nothing_else(lab: Lab) -> None:
    """As $user: a program that reads packets is as much in danger as our own children."""
    path = start_with(lab, COUNTS)
    lab.wait_until(lambda: len(processes(lab.a, path)) == 2, "one for each interface")
    for pid in processes(lab.a, path):
        status = fields(lab.a.check("cat", f"/proc/{pid}/status"))
        assert status["NoNewPrivs"] == "1"
        if not lab.spaces.rootless:
            assert status["Uid"].split() == status["Gid"].split() == ["65534"] * 4
            assert status["Groups"] == ""
            assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 1 << CAP_NET_RAW


def test_one_that_stops_reporting_is_a_warning_until_it_reports_again(lab: Lab) -> None:
    path = start_with(lab, COUNTS, timer_seconds=10.0)
    lab.wait_until(lambda: settled(lab, lab.a), "a is active, b stands by", LONG)
    lab.wait_until(lambda: told(lab.a)["interfaces"]["eth0"]["state"] == "ok", "a receives")
    assert lab.a.command("ha-status").returncode == 0
    before = processes(lab.a, path)
    lab.a.write("hangs", "")
    lab.wait_until(lambda: "eth0" in told(lab.a).get("watchers", {}), "it is missed", PATIENCE)
    status, shown = told(lab.a), lab.a.command("ha-status")
    (lab.a.outside / "hangs").unlink()
    missing = "is not watched: its watcher reports no windows"
    assert status["watchers"]["eth0"] == missing
    assert status["interfaces"]["eth0"]["state"] == "silent"
    verdict = shown.stdout.splitlines()[0]
    assert shown.returncode == 1 and f"eth0: {missing}" in verdict
    lab.wait_until(
        lambda: "eth0" not in told(lab.a).get("watchers", {}), "another is started", PATIENCE
    )
    assert logs.told(lab.a.log(), "IFACE-WATCHED", "interface eth0: ")
    assert "eth0: $watchd" in lab.a.log()
    assert not {*processes(lab.a, path)} & {*before}
    assert runs(lab.a, "slave") == 0, "that is no failed interface"


# ------------------------------------------------------------------ one that is no watcher


@pytest.mark.parametrize("kind", NO_WATCHERS)
def test_what_is_no_watcher_is_refused_and_our_own_takes_its_place(lab: Lab, kind: str) -> None:
    path = start_with(lab, NO_WATCHERS[kind])
    lab.wait_until(lambda: len(pids(lab.a, "failoverd: watchd")) == 2, "our own watch", PATIENCE)
    assert not processes(lab.a, path)
    ended = lambda: "sleep 4321" not in lab.a.check("ps", "-eo", "args=")  # noqa: E731
    lab.wait_until(ended, "what it had started is ended, too")
    why = told(lab.a)["watchers"]
    assert set(why) == {"eth0", "plip0"}
    text = why["eth0"]
    assert f"$watchd {path} is refused" in text
    assert PRINTED.get(kind, "it printed nothing") in text
    assert len(re.findall(rf"WATCHD-REFUSED interface eth0: .* program={path} ", lab.a.log())) == 1
    lab.wait_until(lambda: settled(lab, lab.a), "a is active, b stands by", LONG)
    assert lab.a.command("ha-status").returncode == lab.b.command("ha-status").returncode == 1
    lab.b.power_cut()
    lab.wait_until(lambda: logs.told(lab.a.log(), "HEARTBEAT-LOST"), "our own minds the link")


# ------------------------------------------------------------------ what -t says before


def notes(node: Node, **variables: Value) -> str:
    node.write_conf(**variables)
    result = node.command("failoverd", "-t")
    assert result.returncode == 0, result.stderr
    return "".join(line for line in result.stdout.splitlines(True) if line.startswith("note: $"))


def test_what_others_may_do_is_told_before(lab: Lab) -> None:
    path = lab.a.write("my-watchd", COUNTS, 0o755)
    closed = lab.a.write("closed", COUNTS, 0o700)
    assert notes(lab.a, user="root") == ""
    assert f"$watchd {path} is not failoverd's own, runs as root" in notes(
        lab.a, watchd=path, user="root"
    )
    if lab.spaces.rootless:
        return  # no process can become another user there
    told = notes(lab.a, user="nobody")
    assert "$user is nobody" in told and "adduser --system" in told and "$watchd" not in told
    told = notes(lab.a, watchd=path, user="nobody")
    assert f"{path} is not failoverd's own, and runs as nobody" in told
    told = notes(lab.a, watchd=closed, user="nobody")
    assert f"{closed} cannot be executed by nobody" in told
    assert f"chmod a+rx {closed}" in told
