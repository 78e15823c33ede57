"""The hooks of a switch: when they run, what they are told, and what comes of those that fail."""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from live_pair import LONG, context, kill, main_pid, settled, start

from dev.lab import logs
from dev.lab.network import SERVICE, Lab
from dev.lab.node import Node
from failoverd import pair, process
from failoverd.master.placing import Placing
from failoverd.master.programs import Programs
from failoverd.master.supervisor import Supervisor

# Notes who is called how, how many of the addresses are here, and what else it is told.
NOTING = f"""#!/bin/sh
here=${{0%/*}} && here=${{here%/switch.d}}
count=$(ip -o -4 address show dev eth0 | grep -c ' {SERVICE}/')
echo "${{0##*/}} $* $count" >>"$here/notes"
env | grep -v ^_= | sort >"$here/told-${{0##*/}}-$1"
"""
HANGING = '#!/bin/sh\n[ "$1 $2" != "{}" ] || sleep 1000\n'


def hook(node: Node, name: str, script: str = NOTING, mode: int = 0o755) -> None:
    node.write(f"switch.d/{name}", script, mode)


def notes(node: Node) -> list[str]:
    return node.read("notes").splitlines()


def ended(node: Node, name: str) -> list[dict[str, str]]:
    """How a hook has ended, each time."""
    lines = logs.lines(node.log(), "SCRIPT-END")
    return [line.values for line in lines if line.subject == f"script {name}"]


# ------------------------------------------------------------------ in order


@pytest.mark.parametrize("by", ["failoverd", "script"])
def test_hooks_run_in_order_around_addresses_and_script(lab: Lab, by: str) -> None:
    start(lab, addresses_by=by)
    for node in lab.nodes:
        if by == "failoverd":
            node.write("ha-switch", NOTING, 0o755)
        for name in ("20-b", "10-a"):
            hook(node, name)
        for name in ("10-a~", "x.dpkg-old"):
            hook(node, name)
        hook(node, "30-quiet", mode=0o644)
    assert lab.a.command("ha-fail").returncode == 0
    assert settled(lab, lab.b)
    script = ["ha-switch slave 1"] * (by == "failoverd"), ["ha-switch master 1"]
    assert notes(lab.a) == [
        *("10-a before slave 1", "20-b before slave 1", *script[0]),
        *("10-a after slave 0", "20-b after slave 0"),
    ]
    assert notes(lab.b) == [
        *("10-a before master 0", "20-b before master 0", *script[1][: by == "failoverd"]),
        *("10-a after master 1", "20-b after master 1"),
    ]
    told = lab.b.read("told-10-a-before")
    assert "FAILOVER_ROLE=master\n" in told and f"FAILOVER_ADDRESSES=eth0 {SERVICE}/24\n" in told
    assert ("FAILOVER_PLACED=yes" in told) is (by == "failoverd")
    assert told == lab.b.read("told-20-b-after")
    if by == "failoverd":
        assert told == lab.b.read("told-ha-switch-master"), "the script is told the same"


def test_what_a_hook_prints_is_logged_as_its_own(lab: Lab) -> None:
    start(lab)
    hook(lab.b, "talks", '#!/bin/sh\necho "it is $1 $2"\necho and more >&2\n')
    assert lab.a.command("ha-fail").returncode == 0
    output = logs.lines(lab.b.log(), "SCRIPT-OUTPUT")
    said = [(line.subject, line.program, line.values["line"]) for line in output]
    for when in ("before", "after"):
        assert ("script talks", "talks", f"it is {when} master") in said
    commands = [line.values["command"] for line in logs.lines(lab.b.log(), "SCRIPT-START")]
    assert f"{lab.b.folder}/switch.d/talks after master" in commands
    assert [each["exit"] for each in ended(lab.b, "talks")] == ["0", "0"]


def test_a_dry_run_runs_no_hook(lab: Lab) -> None:
    for node in lab.nodes:
        node.write_conf()
        hook(node, "noting")
    lab.a.start_failoverd("-n")
    lab.wait_until(lambda: logs.told(lab.a.log(), "DRY-RUN", "ha-switch"), "it would switch", LONG)
    assert not notes(lab.a)


# ------------------------------------------------------------------ what fails


def test_a_hook_that_fails_before_master_fails_the_switch(lab: Lab) -> None:
    """Nothing is put; `slave` cleans up, with its hooks."""
    start(lab)
    hook(lab.b, "10-first")
    hook(lab.b, "20-fails", '#!/bin/sh\n[ "$1 $2" != "before master" ] || { echo no; exit 3; }\n')
    hook(lab.b, "30-last")
    placed = len([*logs.lines(lab.b.log(), "ADDRESSES-PLACED")])
    done = lab.a.command("ha-fail")
    assert done.returncode == 1
    lab.wait_until(lambda: lab.a.role() == "active", "a has its role back")
    assert lab.holders() == ["a"]
    assert lab.b.role() == "failed"
    lab.wait_until(lambda: len(notes(lab.b)) >= 5, "it has cleaned up")
    before, after = (f"{name} slave 0" for name in ("before", "after"))
    assert notes(lab.b) == [
        "10-first before master 0",
        *(f"10-first {before}", f"30-last {before}", f"10-first {after}", f"30-last {after}"),
    ]
    assert len([*logs.lines(lab.b.log(), "ADDRESSES-PLACED")]) == placed
    failure = lab.b.status()["us"]["failure"]
    assert (failure["role"], failure["exit"], failure["line"]) == ("master", 3, "no")
    assert failure["why"] == "20-fails before master failed"
    hook(lab.b, "20-fails")
    assert lab.a.command("ha-fail").returncode == 0
    lab.wait_until(lambda: logs.told(lab.b.log(), "SWITCH-OK", "script ha-switch"), "it is well")


def test_a_hook_that_fails_elsewhere_is_logged_and_the_role_moves(lab: Lab) -> None:
    start(lab)
    for node in lab.nodes:
        hook(node, "fails", '#!/bin/sh\n[ "$1 $2" = "before master" ]\n')
        hook(node, "noting")
    assert lab.a.command("ha-fail").returncode == 0
    assert settled(lab, lab.b)
    assert [each["exit"] for each in ended(lab.a, "fails")] == ["1", "1"]
    assert [each["exit"] for each in ended(lab.b, "fails")] == ["0", "1"]
    assert notes(lab.a) == ["noting before slave 1", "noting after slave 0"]
    assert notes(lab.b) == ["noting before master 0", "noting after master 1"]


def test_a_hook_that_others_could_change_by_now_is_not_run(lab: Lab) -> None:
    start(lab)
    hook(lab.b, "open", mode=0o775)
    assert lab.a.command("ha-fail").returncode == 1
    lab.wait_until(lambda: lab.a.role() == "active", "a has its role back")
    assert not notes(lab.b)
    assert "/open can be written by others than root" in lab.b.log()
    checked = lab.b.command("failoverd", "-t")
    assert checked.returncode == 1
    assert "switch.d/open can be written by others than root: chmod go-w" in checked.stderr


def test_the_hooks_are_told_by_t(lab: Lab) -> None:
    for node in lab.nodes:
        node.write_conf()
    for name in ("20-b", "10-a", "10-a~"):
        hook(lab.a, name)
    checked = lab.a.command("failoverd", "-t")
    assert checked.returncode == 0, checked.stderr
    assert "note: hooks of each switch, in this order: 10-a, 20-b; in " in checked.stdout
    assert 'note: "10-a~" in ' in checked.stdout


# ------------------------------------------------------------------ what hangs


def is_left(node: Node, words: str) -> bool:
    return words in node.check("ps", "-eo", "args=").splitlines()


def test_a_hook_that_hangs_after_master_holds_up_nothing_for_longer_than_the_timeout(
    lab: Lab,
) -> None:
    """Else the asker would not have been answered in time."""
    start(lab, switch_timeout=5.0)
    hook(lab.b, "hangs", HANGING.format("after master"))
    hook(lab.b, "later")
    done = lab.a.command("ha-fail")
    assert done.returncode == 0, done.stderr
    assert settled(lab, lab.b)
    assert "killed, did not end in time" in lab.b.log()
    assert "WARNING HOOK-FAILED script hangs: the switch goes on" in lab.b.log()
    lab.wait_until(lambda: not is_left(lab.b, "sleep 1000"), "what hung is gone")
    assert notes(lab.b) == ["later before master 0"]
    (late,) = [each for each in ended(lab.b, "later") if each["exit"] != "0"]
    assert late["error"] == "not run, as $switch_timeout is over"


def test_a_service_that_hangs_when_it_is_stopped_holds_no_role(lab: Lab) -> None:
    start(lab, switch_timeout=6.0)
    hook(lab.a, "hangs", HANGING.format("before slave"))
    lab.a.write("ha-switch", NOTING, 0o755)
    done = lab.a.command("ha-fail")
    assert done.returncode == 0, done.stderr
    assert settled(lab, lab.b)
    assert notes(lab.a) == ["ha-switch slave 1"]
    late, _ = ended(lab.a, "hangs")
    assert late["timeout"] == "3s", "the script has had the other three"


def test_who_is_started_again_finds_a_hook_that_was_left(lab: Lab) -> None:
    start(lab, switch_timeout=6.0)
    hook(lab.b, "hangs", "#!/bin/sh\n[ $2 = slave ] || { echo it waits; exec sleep 1000; }\n")
    with lab.a.popen(*lab.a._command("ha-fail")):
        lab.wait_until(lambda: "it waits" in lab.b.log(), "the hook runs")
        kill(lab.b, main_pid(lab.b))
        hook(lab.b, "hangs")
        lab.b.start_failoverd()
        lab.wait_until(lambda: settled(lab, lab.a) or settled(lab, lab.b), "all is well", LONG)
    assert logs.told(lab.b.log(), "LEFTOVER-WAIT")
    assert logs.told(lab.b.log(), "LEFTOVER-KILLED")
    lab.wait_until(lambda: not is_left(lab.b, "sleep 1000"), "what hung is gone")


# ------------------------------------------------------------------ by itself


@pytest.fixture
def placing() -> Iterator[Placing]:
    """Without its worker."""
    with selectors.DefaultSelector() as selector:
        made = Placing(Supervisor(selector, lambda *_: None, lambda *_: None))
        yield made
        made.close()


def run(programs: Programs, selector: selectors.BaseSelector, role: str) -> None:
    """A switch to its end."""
    programs.watch()
    programs.run_script(role, "because")
    end = time.monotonic() + LONG
    while not programs._context.events and time.monotonic() < end:
        for key, _ in selector.select(1.0):
            key.data()
    programs.close()
    programs._context.spare.close()


def test_the_hurry_of_the_script_is_not_that_of_its_hooks(tmp_path: Path, placing: Placing) -> None:
    try:
        process.be_urgent(os.getpid())
        process.be_ordinary(os.getpid())
    except PermissionError:
        pytest.skip("real-time scheduling is forbidden here")
    # Field 41 of proc(5) is the scheduling policy.
    policies = f"for n in 1 2 3 4 5; do cut -d' ' -f41 /proc/$$/stat; sleep 0.1; done >>{tmp_path}/"
    for name in ("switch.d/hook", "ha-switch"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{policies}{path.name}.policies\n")
        path.chmod(0o755)
    us = context(tmp_path, addresses=())
    script, folder = str(tmp_path / "ha-switch"), str(tmp_path / "switch.d")
    us.conf = replace(us.conf, failover_prog=script, switch_dir=folder, realtime=True)
    with selectors.DefaultSelector() as selector:
        made = Programs(us, selector, lambda *_: (True, ""), placing, print)
        run(made, selector, "master")
    policy = {
        n: set((tmp_path / f"{n}.policies").read_text().split()) for n in ("hook", "ha-switch")
    }
    assert policy["hook"] == {"0"}
    assert policy["ha-switch"] - {"0"}


def test_nothing_is_stopped_for_a_stand_down_that_cannot_be(
    tmp_path: Path, placing: Placing
) -> None:
    """Who serves goes on then, and the hooks would have stopped its service."""
    (tmp_path / "switch.d").mkdir()
    path = tmp_path / "switch.d" / "hook"
    path.write_text(f"#!/bin/sh\necho >>{tmp_path}/ran\n")
    path.chmod(0o755)
    us = context(tmp_path, addresses=())
    us.conf = replace(us.conf, failover_prog="/nowhere", switch_dir=str(tmp_path / "switch.d"))
    with selectors.DefaultSelector() as selector:
        run(Programs(us, selector, lambda *_: (False, ""), placing, print), selector, "slave")
    assert [*us.events] == [pair.Ended("script", False, ran=False)]
    assert not (tmp_path / "ran").exists()
