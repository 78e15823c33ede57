"""The counters outlive restarts, crashes and a full disk, and none ever goes back."""

from __future__ import annotations

import json
import re
import selectors
import signal
import time
from pathlib import Path

import pytest
from live_pair import LONG, context, kill, main_pid, pids, settled, start

from dev.lab.network import Lab
from dev.lab.node import Node
from failoverd.master.context import Context
from failoverd.master.errands import Errands
from failoverd.master.keeper import EVERY, SOON, Keeper

SENT = "heartbeats_sent_total"


def tend(keeper: Keeper, selector: selectors.BaseSelector, later: float) -> None:
    """As the loop does, so much later, until it is written."""
    keeper.tend(time.monotonic() + later)
    while keeper.deadline is None:
        for key, _ in selector.select(LONG):
            key.data()


@pytest.fixture
def us(tmp_path: Path) -> Context:
    return context(tmp_path)


def test_what_is_told_is_what_is_in_the_file(
    us: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("failoverd.master.keeper.PARTING", LONG)
    file = tmp_path / "state.counters"
    with selectors.DefaultSelector() as selector:
        keeper = Keeper(us, Errands(us, selector))
        us.counters.add(SENT, amount=3)
        tend(keeper, selector, EVERY / 2)
        assert dict(us.counters.told)[SENT] == 0 and not file.exists()
        tend(keeper, selector, EVERY)
        assert dict(us.counters.told)[SENT] == json.loads(file.read_text())[SENT] == 3
        us.counters.add(SENT)
        assert dict(us.counters.told)[SENT] == 3
        us.say("ROLE", "role", "active", **{"from": "standby", "cause": "operator"})
        tend(keeper, selector, EVERY + SOON)
        assert dict(us.counters.told)[SENT] == 4
        us.counters.add(SENT)
        us.started = True
        keeper.close()
        assert json.loads(file.read_text())[SENT] == 5
    assert file.stat().st_mode & 0o777 == 0o600


def test_another_daemon_goes_on(us: Context, tmp_path: Path) -> None:
    (tmp_path / "state.counters").write_text(json.dumps({SENT: 7}))
    with selectors.DefaultSelector() as selector:
        Keeper(us, Errands(us, selector))
    assert us.counters.counts[SENT] == 7 == dict(us.counters.told)[SENT]


@pytest.mark.parametrize("text", ["{", '{"heartbeats_sent_total": -1}', '{"\\u001b[2J": 1}', "[1]"])
def test_a_damaged_file_is_none(us: Context, tmp_path: Path, text: str) -> None:
    (tmp_path / "state.counters").write_text(text)
    with selectors.DefaultSelector() as selector:
        Keeper(us, Errands(us, selector))
    assert not any(us.counters.counts.values())
    assert "cannot read what outlives a boot" in (tmp_path / "log").read_text()


def test_a_file_that_others_can_write_is_none_and_is_told(us: Context, tmp_path: Path) -> None:
    file = tmp_path / "state.counters"
    file.write_text(json.dumps({SENT: 7}))
    file.chmod(0o666)
    with selectors.DefaultSelector() as selector:
        Keeper(us, Errands(us, selector))
    assert not any(us.counters.counts.values())
    assert "others can write it" in (tmp_path / "log").read_text()


def test_without_a_disk_they_are_told_all_the_same(us: Context, tmp_path: Path) -> None:
    with selectors.DefaultSelector() as selector:
        keeper = Keeper(us, Errands(us, selector))
        (tmp_path / "state.counters").mkdir()
        for number in (1, 2):
            us.counters.add(SENT)
            tend(keeper, selector, number * EVERY)
        assert dict(us.counters.told)[SENT] == 2
    log = (tmp_path / "log").read_text()
    assert log.count("cannot write what outlives a boot") == 1


def test_a_dry_run_writes_nothing(us: Context, tmp_path: Path) -> None:
    us.dry = us.started = True
    with selectors.DefaultSelector() as selector:
        keeper = Keeper(us, Errands(us, selector))
        us.counters.add(SENT)
        tend(keeper, selector, EVERY)
        keeper.close()
    assert dict(us.counters.told)[SENT] == 1
    assert not (tmp_path / "state.counters").exists()


# ------------------------------------------------------------------ a real pair


def counted(node: Node) -> dict[str, int]:
    shown = node.command("ha-status", "--json")
    tree = json.loads(shown.stdout)
    assert "counters" not in tree["peer"] and "explained" not in tree["peer"]
    found: dict[str, int] = tree["us"]["counters"]
    return found


def test_a_pair_counts_over_a_clean_end_and_a_crash(lab: Lab) -> None:
    start(lab)
    assert lab.a.command("ha-fail").returncode == 0
    lab.wait_until(lambda: settled(lab, lab.b), "b is active", LONG)
    here = 'role_changes_total{from="standby",to="active",cause="told-by-the-peer"}'
    lab.wait_until(lambda: counted(lab.b).get(here) == 1, "it is written", LONG)
    seen = counted(lab.b)
    assert seen['windows_total{interface="plip0",verdict="ok"}'] > 0
    assert seen['interface_received_packets_total{interface="plip0"}'] > 0
    for number in (signal.SIGKILL, signal.SIGTERM):
        kill(lab.b, main_pid(lab.b), number)
        lab.wait_until(lambda: not pids(lab.b, "failoverd"), "it has ended", LONG)
        lab.b.start_failoverd()
        lab.wait_until(lambda: lab.b.role() == "active", "it is back", LONG)
        now = counted(lab.b)
        assert all(now.get(name, 0) >= count for name, count in seen.items())
        seen = now
    assert seen[here] == 1 and seen[SENT] > 0 and seen["heartbeats_received_total"] > 0


def test_a_pair_explains_itself(lab: Lab) -> None:
    start(lab)
    told = lab.b.command("ha-status", "--explain")
    assert (told.returncode, told.stderr) == (0, "")
    assert re.search(r"(?m)^If the heartbeat is lost: takeover 1 to 1\.5 s after ", told.stdout)
    assert "192.0.2.10 answers.\n" in told.stdout
    assert "\nIf an operator runs ha-fail: " in lab.a.command("ha-status", "--explain").stdout
