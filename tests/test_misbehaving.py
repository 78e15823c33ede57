"""A machine that misbehaves: disks, descriptors, processes, memory, cards. No role changes."""

from __future__ import annotations

import sys
from pathlib import Path

from test_pair_live import main_pid, pids, settled

from failoverd.lab.machine import Machine
from failoverd.lab.network import Lab


def mounted(machine: Machine, name: str, *options: str) -> str:
    """Mount a tmpfs in the machine's folder; it ends with the lab. Its path inside."""
    folder = f"{machine.folder}/{name}"
    machine.check("mkdir", "-p", folder)
    machine.check("mount", "-t", "tmpfs", *options, "tmpfs", folder)
    return folder


# ------------------------------------------------------------------ disks


def test_a_log_on_a_disk_that_hangs(lab: Lab) -> None:
    """The standby's disk hangs when the active machine dies: it takes over all the same."""
    folder = f"{lab.b.folder}/disk"
    lab.b.check("mkdir", folder)
    program = str(Path(__file__).parent / "hanging.py")
    store, switch = f"{lab.b.folder}/store", f"{lab.b.folder}/hangs"
    lab.b.popen(sys.executable, "-I", program, folder, store, switch)
    lab.wait_until(lambda: lab.b.run("test", "-e", f"{folder}/log").returncode == 0, "a disk")
    lab.a.write_conf()
    lab.b.write_conf(log=f"{folder}/log", verbose=True)
    for machine in lab.machines:
        machine.start_failoverd()
    lab.wait_until(lambda: settled(lab, lab.a), "a is active, b stands by")
    main, (scribe,) = main_pid(lab.b), pids(lab.b, "failoverd: log ")
    lab.b.write("hangs", "")
    before = lab.b.read("store")

    def held() -> bool:
        return "\nState:\tD" in lab.b.check("cat", f"/proc/{scribe}/status")

    lab.wait_until(held, "the disk holds the log's writer")
    lab.a.power_cut()
    lab.wait_until(lambda: lab.b.role() == "active", "b takes over")
    said = "the child log has not ended although it was killed"
    lab.wait_until(lambda: said in lab.b.read("terminal"), "b says what its log suffers from")
    assert lab.b.read("store") == before
    (lab.b.outside / "hangs").unlink()
    lab.wait_until(lambda: "the child log is replaced" in lab.b.read("store"), "the log goes on")
    assert "role: switching -> active" in lab.b.read("store")
    assert main_pid(lab.b) == main
