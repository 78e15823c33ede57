"""ha-status --prometheus: the file, its metrics, and that they are as they are declared."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from asked_there import ha_status_there, is_now, write_conf
from netns import ROOTLESS
from samples import ACTIVE, STANDBY
from wire import Daemon, Pair, two_nodes

from failoverd.conf import Address, Conf
from failoverd.counters import COUNTERS, FIRST
from failoverd.tools.nodes import Answer, Look
from failoverd.tools.prometheus import METRICS, exposition, pair_of
from failoverd.wire.protocol import CheckStatus, Failure, Hold, Status, encode_status, parse_status

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
CONF = Conf(addresses=(Address("eth0", "192.0.2.10", 24),))
A = replace(ACTIVE, host="node-a", peer_host="node-b", now="2026-11-22T13:00:00.000Z")
B = replace(STANDBY, host="node-b", peer_host="node-a")
OWN = 'pair="192.0.2.10",node="node-a"'


def metrics(text: str) -> dict[str, float]:
    values = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name.removeprefix("failoverd_"): float(value) for name, value in values}


def exported(us: Status | None, peer: Status | None = B) -> dict[str, float]:
    return metrics(exposition(Look(CONF, Answer(us), Answer(peer)), NOW))


def test_a_node_tells_of_itself_and_by_other_names_of_its_peer() -> None:
    found = exported(A)
    assert all(OWN in name for name in found)
    assert found[f"up{{{OWN}}}"] == found[f"peer_up{{{OWN}}}"] == 1
    assert found[f"pair_status{{{OWN}}}"] == 0 and found[f"pair_active_nodes{{{OWN}}}"] == 1
    assert found[f'role{{{OWN},role="active"}}'] == 1
    assert found[f'role{{{OWN},role="standby"}}'] == 0
    assert found[f"role_since_timestamp_seconds{{{OWN}}}"] == 1795348800.123
    assert found[f"heartbeat_last_received_timestamp_seconds{{{OWN}}}"] == 1795352399.6
    assert found[f"heartbeat_round_trip_seconds{{{OWN}}}"] == 0.0002
    assert found[f'interface_state{{{OWN},interface="eth0",state="ok"}}'] == 1
    assert found[f'interface_last_window_packets{{{OWN},interface="eth0"}}'] == 40
    assert found[f'script_last_exit_status{{{OWN},argument="master"}}'] == 0
    assert found[f"export_timestamp_seconds{{{OWN}}}"] == NOW.timestamp()
    assert found[f"standby_ready{{{OWN}}}"] == 0 and found[f"preferred{{{OWN}}}"] == 1
    assert f"peer_clock_difference_seconds{{{OWN}}}" not in found  # not known


def test_metrics_are_as_declared() -> None:
    series = (*((name, 3) for name in FIRST), *SERIES)
    us = replace(A, counters=series, failure=FAILURE, checks=CHECKS)
    text = exposition(Look(CONF, Answer(replace(us, claimed=True)), Answer(B, ahead=1.5)), NOW)
    told = {}
    for line in text.splitlines():
        name = re.match(r"(?:# (?:HELP|TYPE) )?failoverd_([a-z_]+)", line)
        assert name and name[1] in METRICS
        if line.startswith("# TYPE"):
            assert line.endswith(" counter") is (name[1] in COUNTERS) is name[1].endswith("_total")
            assert name[1] not in told  # all of a metric stand together
        elif not line.startswith("#"):
            told[name[1]] = tuple(re.findall(r'[{,](\w+)="', line))[2:]
    assert told == {name: METRICS[name].labels for name in told}
    assert set(METRICS) - set(told) == {"service_addresses"}  # of an older one


def test_promtool_has_no_complaint() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("there is no promtool: install prometheus")
    us = replace(A, counters=(*((name, 3) for name in FIRST), *SERIES), checks=CHECKS)
    text = exposition(Look(CONF, Answer(us), Answer(B, ahead=1.5)), NOW)
    words = ["promtool", "check", "metrics"]
    done = subprocess.run(
        words, input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


FAILURE = Failure("master", 1, "", "", ACTIVE.since, 60.0)
HOLD = Hold(serial=1, held=True, seconds_left=None, by="root", node="node-a", since=ACTIVE.since)
CHECKS = (("web", CheckStatus("bad", ACTIVE.since, "refused")),)
SERIES = (
    ('role_changes_total{from="standby",to="active",cause="a\\"b"}', 1),
    ('takeovers_blocked_total{reason="x"}', 2),
    ('interface_received_packets_total{interface="eth0"}', 12),
    ('windows_total{interface="eth0",verdict="ok"}', 4),
)


def test_counters_are_taken_over_with_their_labels() -> None:
    told = parse_status(encode_status(replace(A, counters=SERIES)))
    found = exported(told)
    assert found[f'windows_total{{{OWN},interface="eth0",verdict="ok"}}'] == 4
    assert found[f'role_changes_total{{{OWN},from="standby",to="active",cause="a\\"b"}}'] == 1


def test_what_a_dead_daemon_leaves_is_the_view_of_the_pair() -> None:
    text = exposition(Look(CONF, Answer(), Answer(B)), NOW)
    assert 'failoverd_up{pair="192.0.2.10",node="' in text and "} 0.0\n" in text
    assert "failoverd_role" not in text and "failoverd_pair_config_differences" not in text


def test_a_standby_is_ready_unless_it_alone_receives_nothing() -> None:
    silent = replace(ACTIVE.interfaces[0][1], state="silent", packets=0, last=0)
    quiet = (("eth0", silent),)
    other = 'pair="192.0.2.10",node="node-b"'
    for us, peer, ready in (
        (B, A, 1), (replace(B, interfaces=quiet), A, 0), (replace(B, role="failed"), A, 0),
        (replace(B, interfaces=quiet), replace(A, interfaces=quiet), 1), (B, None, 1),
        (replace(B, checks=CHECKS), A, 0),
    ):  # fmt: skip
        assert exported(us, peer)[f"standby_ready{{{other}}}"] == ready


def test_a_hold_is_told() -> None:
    name = f"hold{{{OWN}}}"
    assert exported(A)[name] == 0 and exported(replace(A, hold=HOLD))[name] == 1


def test_drift_is_counted_without_the_version() -> None:
    us, peer = (replace(each, settings=(("$low_water", "1"),)) for each in (A, B))
    name = f"pair_config_differences{{{OWN}}}"
    assert exported(us, replace(peer, version="9"))[name] == 0
    assert exported(us, replace(peer, settings=(("$low_water", "2"),)))[name] == 1


def test_both_nodes_call_the_pair_the_same() -> None:
    one = Conf(primary="1.0.0.1", secondary="1.0.0.2")
    assert pair_of(one) == pair_of(replace(one, primary="1.0.0.2", secondary="1.0.0.1"))
    assert pair_of(CONF) == "192.0.2.10"


# ------------------------------------------------------------------ the command


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with two_nodes(tmp_path) as made:
        yield made


def both(pair: Pair) -> tuple[Daemon, Daemon]:
    us, peer = pair.listen(0), pair.listen(1)
    is_now(us, A)
    is_now(peer, B)
    return us, peer


def test_the_file_is_replaced_in_one_step(pair: Pair, tmp_path: Path) -> None:
    both(pair)
    conf = write_conf(pair, tmp_path)
    folder = tmp_path / "metrics"
    folder.mkdir()
    file = folder / "failoverd.prom"
    file.write_text("old\n")
    old = file.stat().st_ino
    assert ha_status_there(pair, conf, "--prometheus", str(file)) == (0, "", "")
    assert [path.name for path in folder.iterdir()] == ["failoverd.prom"]
    assert file.stat().st_ino != old and file.stat().st_mode & 0o777 == 0o644
    status, out, _ = ha_status_there(pair, conf, "--prometheus", "-")
    assert status == 0 and metrics(out).keys() == metrics(file.read_text()).keys()


def test_no_file_is_replaced_behind_a_link(pair: Pair, tmp_path: Path) -> None:
    """Root writes here, and the folder may be another user's."""
    both(pair)
    precious, link = tmp_path / "precious", tmp_path / "failoverd.prom"
    precious.write_text("as it was")
    link.symlink_to(precious)
    conf = write_conf(pair, tmp_path)
    status, _, errors = ha_status_there(pair, conf, "--prometheus", str(link))
    assert status == 3 and "it is a symbolic link: name the file itself" in errors
    assert link.is_symlink() and precious.read_text() == "as it was"


def test_metrics_of_a_dead_peer(pair: Pair, tmp_path: Path) -> None:
    is_now(pair.listen(0), A)
    status, out, errors = ha_status_there(pair, write_conf(pair, tmp_path), "--prometheus", "-")
    own = 'pair="1.0.0.1-1.0.0.2",node="node-a"'
    assert status == 1 and "refuses the connection" in errors
    assert metrics(out)[f"peer_up{{{own}}}"] == 0 and metrics(out)[f"pair_status{{{own}}}"] == 1


@pytest.mark.skipif(ROOTLESS, reason="another user could not make the file")
def test_metrics_that_cannot_be_written(pair: Pair, tmp_path: Path) -> None:
    both(pair)
    conf = write_conf(pair, tmp_path)
    for path in ("/nowhere/x.prom", "/dev/null"):
        status, out, errors = ha_status_there(pair, conf, "--prometheus", path)
        assert (status, out) == (3, "")
        assert f"ha-status: {path} cannot be written: " in errors
    assert Path("/dev/null").is_char_device()
    status, _, errors = ha_status_there(pair, conf, "--prometheus", "-", "--json")
    assert status == 3 and "--prometheus cannot be combined with" in errors
