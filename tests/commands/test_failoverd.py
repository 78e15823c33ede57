"""The screen of `failoverd -t`, and what a start that is refused leaves: the real command."""

from __future__ import annotations

import re
import shlex
import sys

from live_pair import WATCHED, carries

from dev.lab.network import Lab
from dev.lab.node import Node
from failoverd.conf import SETTINGS

TEN_MISTAKES = """
$low_watre = "1";
$packet_count = "0";
$timer_seconds = "soon";
@interfaces = 'eth0';
$primary = "1.0.0";
$tcp_port = 70000;
@addresses = ('eth0 192.0.2.10');
$log = "watchd.log";
$confirm = "maybe";
@witness = ('192.0.2.1');
"""


def screen(node: Node, *options: str) -> tuple[int, list[str], list[str]]:
    """Exit status, and the lines of standard output and standard error."""
    done = node.command("failoverd", "-t", *options)
    return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()


def test_a_valid_file_is_told_in_a_table_and_its_values_only_on_v(lab: Lab) -> None:
    lab.a.write_conf(**WATCHED)
    status, told, errors = screen(lab.a)
    assert (status, errors) == (0, [])
    notes = len([line for line in told if line.startswith("note: ")])
    assert told[-1] == f"{lab.a.conf}: valid: no errors, no warnings, {notes} notes".replace(
        "1 notes", "1 note"
    )
    start = told.index("")
    assert all(line.startswith("note: ") for line in told[:start])
    table = told[start : told.index("", told.index("", start + 1) + 1)]
    assert len(table) - 3 <= 10
    assert max(map(len, told[start:])) <= 80
    assert not [line for line in told if line.startswith(("$", "@"))]
    more = screen(lab.a, "-v")[1]
    values = [line for line in more if line.startswith(("$", "@"))]
    assert [line.split()[0] for line in values] == [one.perl_name for one in SETTINGS.values()]
    assert more[-1] == told[-1]


def test_warnings_come_first_and_are_counted(lab: Lab) -> None:
    lab.a.write_conf(**WATCHED, ps="/no/such/ps ax")
    lab.a.unplug("eth0")
    lab.wait_until(lambda: not carries(lab.a, "eth0"), "the kernel tells it")
    status, told, _ = screen(lab.a)
    assert status == 0
    assert [line.split(":")[0] for line in told[:2]] == ["warning", "warning"]
    assert "valid: no errors, 2 warnings, " in told[-1]


def test_ten_mistakes_are_told_at_once_with_file_and_line(lab: Lab) -> None:
    lab.a.write("failoverd.conf", TEN_MISTAKES)
    status, told, errors = screen(lab.a)
    assert status == 1
    lines = [re.match(rf"{lab.a.conf}:(\d+): ", line) for line in errors]
    found = {int(each[1]) for each in lines if each}
    assert found >= set(range(2, 12))
    assert told == [f"{lab.a.conf}: invalid: {len(errors)} errors, no warnings, no notes"]


def test_a_file_that_is_not_there_is_one_error(lab: Lab) -> None:
    lab.a.check("rm", "-f", lab.a.conf)
    status, told, errors = screen(lab.a)
    assert status == 1 and told == [f"{lab.a.conf}: invalid: 1 error, no warnings, no notes"]
    assert errors == [f"{lab.a.conf}:1: there is no such file: name another with -c, or make it"]


def test_a_refused_start_is_told_in_the_log_in_one_line(lab: Lab) -> None:
    lab.a.write_conf(interfaces=["eth8", "eth9"], addresses=[])
    done = lab.a.command("failoverd")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 2
    (line,) = lab.a.log().splitlines()
    assert " ERR START-FAILED config: not started; " in line and "eth8: no such interface" in line
    assert line.endswith(' (and 1 more)"')


def test_a_second_start_writes_nothing_into_the_log_of_the_one_that_runs(lab: Lab) -> None:
    """Whoever reads START-FAILED there would take that one for down."""
    lab.a.write_conf(**WATCHED)
    lab.a.start_failoverd()
    lab.wait_until(lambda: " STARTED " in lab.a.log(), "it runs")
    pid = lab.a.read("run/pid").strip()
    again = lab.a.command("failoverd")
    assert (again.returncode, again.stderr) == (1, f"failoverd: already running (pid {pid})\n")
    lab.a.write_conf(interfaces=["eth9"], addresses=[])
    again = lab.a.command("failoverd")
    assert again.returncode == 1 and "eth9: no such interface" in again.stderr
    assert "START-FAILED" not in lab.a.log()


PS = """#!/bin/sh
until [ -e {}/go ]; do sleep 0.05; done
exec ps ax
"""


def test_what_is_asked_of_one_that_is_just_starting_is_done_when_it_has_started(lab: Lab) -> None:
    """logrotate's HUP, say: the pid is known long before the first worker runs."""
    lister = lab.a.write("slow-ps", PS.format(lab.a.folder), 0o755)
    lab.a.write_conf(**WATCHED, ps=lister)
    lab.a.start_failoverd()
    lab.wait_until(lambda: lab.a.read("run/pid") != "", "the pid is known")
    for signal in ("HUP", "USR1"):
        lab.a.check("sh", "-c", f"kill -{signal} $(cat run/pid)")
    lab.a.write("go", "")
    wanted = {"STARTED", "RELOAD", "STATUS", "CONFIG-RELOADED"}
    lab.wait_until(lambda: wanted <= {*lab.a.log().split()}, "all is done")


LEAK = """
import os, resource, sys
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
for _ in range(1100):
    os.set_inheritable(os.open("/dev/null", os.O_RDONLY), True)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_what_a_starter_has_left_open_is_no_obstacle(lab: Lab) -> None:
    """select(2) takes numbers below 1024, and a pipe that is kept never ends for its reader."""
    lab.a.write_conf(**WATCHED)
    command = lab.a._command("failoverd", "-f")
    lab.a.popen(sys.executable, "-c", LEAK, *command)
    lab.wait_until(lambda: " STARTED " in lab.a.log(), "it has started")
    pid = lab.a.read("run/pid").strip()
    assert len(lab.a.check("ls", f"/proc/{pid}/fd").split()) < 100


def test_a_root_without_proc_is_refused_in_one_line(lab: Lab) -> None:
    """In a chroot in which it is not mounted."""
    lab.a.write_conf(**WATCHED)
    command = shlex.join(lab.a._command("failoverd", "-f"))
    line = f"mount -t tmpfs none /proc && exec {command}"
    done = lab.a.run("unshare", "--mount", "sh", "-c", line)
    assert done.returncode == 1
    assert done.stderr == "failoverd: /proc/self/fd: No such file or directory\n"


def test_a_configuration_may_come_through_a_pipe_of_the_shells(lab: Lab) -> None:
    lab.a.write_conf(**WATCHED)
    *command, _, path, option = lab.a._command("failoverd", "-t")
    line = f"{shlex.join(command)} -c /dev/fd/7 {option} 7<&0"
    done = lab.a.run("sh", "-c", f"cat {path} | {{ {line}; }}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("/dev/fd/7: valid: no errors")
