"""failoverd puts and takes the addresses itself: in which order, beside what, and when it fails."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from live_pair import LONG, context, hang_up, kill, main_pid, pids, runs, settled, start
from netns import ROOTLESS

from dev.lab import logs
from dev.lab.network import SERVICE, Lab
from dev.lab.node import Node
from failoverd import pair, process, switch
from failoverd.conf import Address
from failoverd.master.gratuitous_arp import MOST_NAMED
from failoverd.master.messages import Placed
from failoverd.master.placing import Placing
from failoverd.master.programs import Programs
from failoverd.master.supervisor import Supervisor

MANY = [f"eth0 192.0.{n // 250 + 8}.{n % 250 + 1}/20" for n in range(1000)]

# Tells what it is told and what it finds, and does nothing else.
NOTING = """#!/bin/sh
echo "$1: placed=${FAILOVER_PLACED-no} $(ip -o -4 address show dev eth0 | grep -c ' 192.0.2.10/')"
"""


def use(node: Node, script: str, mode: int = 0o755) -> None:
    node.write("ha-switch", script, mode)


# ------------------------------------------------------------------ an order


PUT = {"do": "put", "addresses": [f"eth0 {SERVICE}/24"], "hwaddrs": []}


@pytest.fixture
def placing() -> Iterator[Placing]:
    """Without its worker."""
    with selectors.DefaultSelector() as selector:
        made = Placing(Supervisor(selector, lambda *_: None, lambda *_: None))
        yield made
        made.close()


def test_an_order_that_is_not_carried_out_has_an_end(placing: Placing) -> None:
    """Else the switch would never have one."""
    done: list[Placed] = []
    placing.begin(PUT, 5.0, done.append)
    assert placing.deadline is not None
    placing.tend(placing.deadline - 1.0)
    assert not done
    placing.tend(placing.deadline)
    assert done == [Placed(1, problem="the kernel did not answer within 5 s")]
    assert placing.deadline is None


def test_what_comes_of_another_order_is_nothing(placing: Placing) -> None:
    done: list[Placed] = []
    placing.begin(PUT, 5.0, done.append)
    placing.begin(PUT, 5.0, done.append)
    for number in (1, 2, 2):
        placing.told({"event": "placed", "number": number})
    assert done == [Placed(2)]


# ------------------------------------------------------------------ the order


def test_a_script_is_told_what_was_put_whatever_was_read_meanwhile(
    tmp_path: Path, placing: Placing
) -> None:
    script, told = tmp_path / "ha-switch", tmp_path / "told"
    script.write_text(f'#!/bin/sh\necho "$FAILOVER_PLACED,$FAILOVER_ADDRESSES" > {told}\n')
    script.chmod(0o755)
    us = context(tmp_path)
    us.conf = replace(us.conf, addresses=(Address("eth0", SERVICE, 24),), failover_prog=str(script))
    after = replace(us.conf, addresses=(), addresses_by="script")
    announced: list[bool] = []
    with selectors.DefaultSelector() as selector:
        programs = Programs(us, selector, lambda *_: (True, ""), placing, announced.append)
        programs.watch()
        programs.run_script("master", "because")
        us.adopt(after)
        placing.told({"event": "placed", "number": 1, "count": 1})
        while not us.events:
            for key, _ in selector.select(10.0):
                key.data()
        programs.close()
    us.spare.close()
    assert told.read_text() == f"yes,eth0 {SERVICE}/24\n"
    assert announced == [True]


@pytest.mark.parametrize("why", ["no script", "refused"])
def test_what_is_about_to_go_is_announced_no_more(
    tmp_path: Path, placing: Placing, why: str
) -> None:
    us = context(tmp_path)
    us.conf = replace(us.conf, addresses=(Address("eth0", SERVICE, 24),), failover_prog="/nowhere")
    announced: list[bool] = []
    with selectors.DefaultSelector() as selector:
        programs = Programs(us, selector, lambda *_: (False, ""), placing, announced.append)
        programs.run_script("master", "because")
        placing.told({"number": 1, "problem": "cannot" if why == "refused" else ""})
        assert announced == ([False] if why == "refused" else [True, False])
        assert not us.events
        placing.told({"number": 2})
        assert [*us.events] == [pair.Ended("script", False, ran=why == "refused")]
        programs.close()
    us.spare.close()


def test_addresses_come_before_the_script_and_go_after_it(lab: Lab) -> None:
    start(lab)
    for node in lab.nodes:
        use(node, NOTING)
    assert lab.a.command("ha-fail").returncode == 0
    assert settled(lab, lab.b)
    assert "slave: placed=yes 1" in lab.a.log()
    assert "master: placed=yes 1" in lab.b.log()


def test_clients_are_told_before_the_script_begins(lab: Lab) -> None:
    """However long it takes, the service answers; and the repeats go on meanwhile."""
    start(lab, switch_timeout=LONG)
    use(lab.b, '#!/bin/sh\n[ "$1" = slave ] || until [ -e "${0%/*}/go" ]; do sleep 0.02; done\n')
    lab.client.start_probing()
    lab.wait_until(lab.client.answering, "the client is answered")
    with lab.a.popen(*lab.a._command("ha-fail")) as typed:
        lab.wait_until(lambda: lab.holders() == ["b"], "b has the address")
        lab.wait_until(lambda: lab.client.arp_holders() == {lab.b.hwaddr("eth0")}, "and is asked")
        neighbour = ("ip", "neigh", "show", SERVICE)
        lab.wait_until(lambda: lab.b.hwaddr("eth0") in lab.client.check(*neighbour), "it is known")
        assert lab.b.role() == "switching"
        lab.b.write("go", "")
        assert typed.wait(20) == 0
    assert settled(lab, lab.b)


def test_a_script_may_have_an_order_of_its_own(lab: Lab) -> None:
    """From the next switch after HUP on."""
    start(lab)
    for node in lab.nodes:
        node.write_conf(addresses_by="script")
        hang_up(node, said="configuration read again")
        shipped = node.read("ha-switch").replace("#!/bin/sh\n", "", 1)
        use(node, NOTING + shipped)
    assert lab.a.command("ha-fail").returncode == 0
    assert settled(lab, lab.b)
    assert "slave: placed=no 1" in lab.a.log()
    assert "master: placed=no 0" in lab.b.log()
    assert not [*logs.lines(lab.b.log(), "ADDRESSES-PLACED")]


# ------------------------------------------------------------------ what goes wrong


def test_an_address_that_cannot_be_put_is_a_failed_switch(lab: Lab) -> None:
    """With the kernel's word, and nothing of it is left."""
    start(lab)
    lab.b.write_conf(addresses=[f"eth0 {SERVICE}/24", "eth0 2001:db8::10/64"])
    hang_up(lab.b, said="configuration read again")
    result = lab.a.command("ha-fail")
    assert result.returncode == 1
    lab.wait_until(lambda: lab.a.role() == "active", "a has its role back")
    assert lab.holders() == ["a"]
    assert lab.b.role() == "failed"
    why = "cannot add 2001:db8::10/64 to eth0: ipv6: IPv6 is disabled on this device"
    (refused,) = logs.lines(lab.b.log(), "ADDRESS-FAILED")
    assert (refused.level, refused.values) == ("WARNING", {"role": "master", "error": why})
    *_, undone, _ = logs.lines(lab.b.log(), "ADDRESSES-TAKEN")
    assert undone.values["count"] == "1", "what was undone is said"
    assert runs(lab.b, "master") == 0, "the script was not even begun"
    assert why in str(lab.b.status()["us"])


@pytest.mark.skipif(ROOTLESS, reason="needs root: without it the script belongs to nobody here")
def test_a_script_that_cannot_be_run_leaves_no_address_behind(lab: Lab) -> None:
    start(lab)
    use(lab.b, "#!/bin/sh\n", 0o644)
    assert lab.a.command("ha-fail").returncode == 1
    lab.wait_until(lambda: settled_as(lab, "active", "failed"), "a has its role back")
    assert lab.holders() == ["a"]
    use(lab.a, "#!/bin/sh\n", 0o644)
    assert lab.a.command("ha-fail").returncode == 1
    assert lab.holders() == ["a"], "who cannot stop its services goes on with them"


@pytest.mark.skipif(ROOTLESS, reason="needs root: without it the script belongs to nobody here")
def test_who_has_failed_leaves_no_address_behind_even_if_no_script_can_be_run(lab: Lab) -> None:
    """It serves nothing, and the peer has its role back."""
    start(lab)
    use(lab.b, '#!/bin/sh\nchmod 644 "$0"\nexit 1\n')
    assert lab.a.command("ha-fail").returncode == 1
    lab.wait_until(lambda: settled_as(lab, "active", "failed"), "a has its role back")
    assert lab.holders() == ["a"]


def settled_as(lab: Lab, *roles: str) -> bool:
    return tuple(node.role() for node in lab.nodes) == roles


def test_who_is_killed_with_the_addresses_half_moved_is_set_right_by_a_restart(lab: Lab) -> None:
    """After they were put, and before its script has ended."""
    start(lab, switch_timeout=10.0)
    use(lab.b, '#!/bin/sh\n[ "$1" = slave ] || { echo it waits; exec sleep 1000; }\n')
    with lab.a.popen(*lab.a._command("ha-fail")):
        lab.wait_until(lambda: "it waits" in lab.b.log(), "the script runs")
        assert lab.holders() == ["b"]
        kill(lab.b, main_pid(lab.b))
        use(lab.b, "#!/bin/sh\n")
        lab.b.start_failoverd()
        lab.wait_until(lambda: len(lab.holders()) == 1 and "active" in roles(lab), "one", LONG)
    lab.wait_until(lambda: settled(lab, lab.a) or settled(lab, lab.b), "all is well again", LONG)


def roles(lab: Lab) -> list[str]:
    return [node.role() for node in lab.nodes]


def test_a_script_that_a_dead_failoverd_has_left_is_urgent_no_more(
    tmp_path: Path, placing: Placing
) -> None:
    us = context(tmp_path)
    with subprocess.Popen(["sleep", "1000"]) as left, selectors.DefaultSelector() as selector:
        try:
            process.be_urgent(left.pid)
        except PermissionError:
            left.kill()
            pytest.skip("real-time scheduling is forbidden here")
        us.saved.script = left.pid, switch.starttime(left.pid)
        programs = Programs(us, selector, lambda *_: (True, ""), placing, print)
        programs.await_old()
        assert os.sched_getscheduler(left.pid) == os.SCHED_OTHER
        left.kill()
        programs.close()
    us.spare.close()


# ------------------------------------------------------------------ the worker


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_worker_that_does_not_do_its_work_holds_up_nothing(
    lab: Lab, number: signal.Signals
) -> None:
    """As one that the kernel keeps waiting: another takes its place, and the order is not lost."""
    start(lab, switch_timeout=20.0)
    (worker,) = pids(lab.b, "failoverd: addresses ")
    kill(lab.b, worker, number)
    with lab.a.popen(*lab.a._command("ha-fail")) as typed:
        lab.wait_until(lambda: lab.b.role() == "switching" or settled(lab, lab.b), "it has begun")
        assert typed.wait(20) == 0
    lab.wait_until(lambda: settled(lab, lab.b), "b serves")
    for node in lab.nodes:
        assert not [*logs.lines(node.log(), "STALLED", "HEARTBEAT-LOST")]
    assert [line.subject for line in logs.lines(lab.b.log(), "WORKER-LOST")] == ["worker addresses"]


# ------------------------------------------------------------------ many


def test_a_thousand_addresses_move_and_nothing_waits_for_them(lab: Lab) -> None:
    start(lab, addresses=[f"eth0 {SERVICE}/24", *MANY], plip_timer=1.0, timer_seconds=2.0)
    assert len(lab.a.addresses("eth0")) == len(MANY) + 2
    assert lab.a.command("ha-fail").returncode == 0
    assert settled(lab, lab.b)
    assert len(lab.a.addresses("eth0")) == 1
    assert len(lab.b.addresses("eth0")) == len(MANY) + 2
    for node in lab.nodes:
        assert not [*logs.lines(node.log(), "STALLED", "STATE-FAILED")]
    for event in ("GARP", "ADDRESSES-PLACED", "ADDRESSES-TAKEN"):
        assert 0 < len([*logs.lines(lab.b.log(), event)]) <= MOST_NAMED + 1
    *_, put = logs.lines(lab.b.log(), "ADDRESSES-PLACED")
    assert put.values["count"] == str(len(MANY) + 1)
