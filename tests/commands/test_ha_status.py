"""ha-status and ha-fail as programs, against real listeners on two nodes."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Timer

import pytest
from asked_there import ha_status_there, is_now, write_conf
from netns import ROOTLESS
from samples import ACTIVE, STANDBY
from wire import IPV4, IPV6, Pair, two_nodes

from failoverd import __version__, history
from failoverd.commands import ha_fail, ha_status
from failoverd.master.control_socket import listening
from failoverd.wire.protocol import Change, CheckStatus, Failure, Hold, Status, encode_status


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with two_nodes(tmp_path) as made:
        yield made


@pytest.fixture
def conf(pair: Pair, tmp_path: Path) -> str:
    return write_conf(pair, tmp_path)


def ha_fail_there(pair: Pair, conf: str, *options: str) -> tuple[int, str, str]:
    return pair.python(0, "failoverd.commands.ha_fail", "-c", conf, *options)


# ha-status


@pytest.mark.parametrize("addresses", [IPV4, IPV6], ids=["IPv4", "IPv6"])
def test_both_nodes_side_by_side(pair: Pair, tmp_path: Path, addresses: tuple[str, str]) -> None:
    conf = write_conf(pair, tmp_path, addresses)
    is_now(pair.listen(0, addresses=addresses), ACTIVE)
    is_now(pair.listen(1, addresses=addresses), STANDBY)
    status, out, errors = ha_status_there(pair, conf)
    assert (status, errors) == (0, "")
    assert out.splitlines()[0].startswith("OK: ")
    rows = [re.split(r"\s{2,}", line) for line in out.splitlines()[1:]]
    table = {row[0]: row[1:] for row in rows}
    assert table[""] == [f"this node {addresses[0]}", f"peer {addresses[1]}"]
    assert table["role"] == ["active", "standby"]
    assert (
        table["since"] == [datetime(2026, 11, 22, 12, tzinfo=UTC).astimezone().isoformat(" ")] * 2
    )
    assert table["preferred node"] == ["yes (boot:master)", "no (boot:slave)"]
    assert table["interface eth0"] == ["ok, 12 packets now, 40 before"] * 2
    assert table["heartbeat link"] == ["ok, 0.4 s ago, rtt 0.2 ms", "ok, no heartbeat"]
    assert table["switch script"] == ["master, exit 0, 6 ms", "not run"]
    _, out, _ = ha_status_there(pair, conf, "-v")
    assert "02:00:00:00:00:01" in out and "2.0.0" in out
    status, out, errors = ha_status_there(pair, conf, "--json")
    assert (status, errors) == (0, "")
    assert out.startswith('{"us": {"role": "active", "boot": "master", "since": "')
    tree = json.loads(out)
    assert list(tree) == ["us", "peer", "schema", "verdict", "exit", "reasons", "hosts"]
    assert (tree["schema"], tree["exit"], tree["reasons"]) == (1, 0, [])
    assert tree["hosts"] == {"us": "this node", "peer": f"peer {addresses[1]}"}
    assert tree["verdict"] == "OK: this node is active, and peer 1.0.0.2 can take over".replace(
        IPV4[1], addresses[1]
    )
    assert tree["us"] == json.loads(encode_status(ACTIVE))
    assert tree["peer"] == json.loads(encode_status(STANDBY))


def test_only_the_peer_runs(pair: Pair, conf: str) -> None:
    is_now(pair.listen(1), ACTIVE)
    status, out, errors = ha_status_there(pair, conf, "--json")
    assert status == 3
    verdict = "UNKNOWN: failoverd on this node gives no valid answer; peer 1.0.0.2 is active"
    peer = json.loads(encode_status(ACTIVE))
    tree = json.loads(out)
    assert (tree["us"], tree["peer"], tree["verdict"], tree["exit"]) == (None, peer, verdict, 3)
    assert tree["reasons"] == [verdict.removeprefix("UNKNOWN: ")]
    assert "failoverd is not running here" in errors
    status, out, errors = ha_status_there(pair, conf)
    assert (status, errors) == (3, "") and out.splitlines()[0] == verdict
    assert re.search(r"(?m)^role +unknown +active$", out)
    assert "\nfailoverd is not running here: nothing listens on " in out
    assert out.splitlines()[-1] == "next: start failoverd on this node"


def test_only_we_run(pair: Pair, conf: str) -> None:
    is_now(pair.listen(0), ACTIVE)
    status, out, errors = ha_status_there(pair, conf, "--json")
    assert status == 1
    assert json.loads(out)["peer"] is None
    refused = "from the peer: 1.0.0.2 port 2000 refuses the connection"
    assert f"{refused}; check that the peer's failoverd is running" in errors
    status, out, _ = ha_status_there(pair, conf, "--check")
    assert status == 1 and f" gives no valid answer: no answer {refused} | active=1;" in out
    pair.spaces[0].ip("link set plip0 down")
    status, out, errors = ha_status_there(pair, conf, "--json")
    assert status == 1
    assert json.loads(out)["us"]["role"] == "active"
    assert "1.0.0.2 port 2000 cannot be reached over plip0: Network is unreachable" in errors


class OneAfterAnother(dict[str, tuple[bool, str]]):
    """Answers to `status`: these, and the last for ever."""

    def __init__(self, *statuses: Status) -> None:
        super().__init__(status=(True, ""))
        self._texts = [encode_status(status) for status in statuses]

    def __getitem__(self, key: str) -> tuple[bool, str]:
        return True, self._texts.pop(0) if len(self._texts) > 1 else self._texts[0]


def test_a_role_that_moves_between_two_answers_is_no_outage(pair: Pair, conf: str) -> None:
    us, peer = pair.listen(0), pair.listen(1)
    us.answers = OneAfterAnother(ACTIVE, replace(STANDBY, boot="master"))
    is_now(peer, replace(ACTIVE, boot="slave"))
    status, out, _ = ha_status_there(pair, conf)
    assert status == 0 and out.startswith("OK: peer 1.0.0.2 is active")
    us.answers = OneAfterAnother(ACTIVE)
    status, out, _ = ha_status_there(pair, conf)
    assert status == 2 and out.startswith("CRITICAL: this node and peer 1.0.0.2 are both active")


def test_a_takeover_while_the_dead_peer_is_waited_for_is_no_outage(pair: Pair, conf: str) -> None:
    pair.listen(0).answers = OneAfterAnother(STANDBY, ACTIVE)
    pair.port(1)  # nothing is ever said there
    status, out, _ = ha_status_there(pair, conf)
    assert status == 1 and out.startswith("WARNING: this node is active, but peer 1.0.0.2 gives no")
    assert out.count("does not answer within") == 1


def test_the_peer_says_what_is_no_status(pair: Pair, conf: str) -> None:
    is_now(pair.listen(0), ACTIVE)
    pair.listen(1).answers = {"status": (True, '{"role": "\x1b[2J"}')}
    status, out, errors = ha_status_there(pair, conf)
    assert status == 1
    assert "no status that this version understands" in out and "\x1b" not in out + errors


def test_the_status_cannot_be_asked_for(pair: Pair, conf: str, tmp_path: Path) -> None:
    status, out, errors = ha_status_there(pair, str(tmp_path / "none.conf"), "--json")
    assert (status, out) == (3, "")
    assert "none.conf" in errors
    pair.secret.chmod(0o644)
    status, out, errors = ha_status_there(pair, conf)
    assert (status, out) == (3, f"UNKNOWN: nothing can be asked with {conf}\n")
    assert "chmod 600" in errors


def test_reasons_one_by_one(pair: Pair, conf: str) -> None:
    hold = Hold(1, True, None, "root", "node-a", ACTIVE.since)
    is_now(pair.listen(0), replace(ACTIVE, hold=hold))
    is_now(pair.listen(1), replace(STANDBY, role="failed", boot="master"))
    status, out, _ = ha_status_there(pair, conf, "--json")
    tree = json.loads(out)
    assert status == tree["exit"] == 1
    assert tree["reasons"] == [
        "peer 1.0.0.2 cannot take over: its role is failed",
        "both nodes have boot:master in host_type",
        "role changes are on hold by root on node-a",
    ]
    assert tree["verdict"] == f"WARNING: this node is active, but {'; '.join(tree['reasons'])}"


# --explain


def test_what_this_node_would_do(pair: Pair, conf: str) -> None:
    us = pair.listen(0)
    is_now(us, replace(ACTIVE, explained=("This node is active.", "If a: b.")))
    said = "This node is active.\nIf a: b.\n"
    assert ha_status_there(pair, conf, "--explain") == (0, said, "")
    is_now(us, ACTIVE)
    status, out, errors = ha_status_there(pair, conf, "--explain")
    assert (status, out) == (3, "") and "2.0.0, is too old for --explain: restart it" in errors
    status, out, errors = ha_status_there(pair, f"{conf}.none", "--explain")
    assert (status, out) == (3, "") and ".none" in errors
    assert ha_status_there(pair, conf, "--explain", "--json")[0] == 3


# For monitors


def test_one_line_for_nagios(pair: Pair, conf: str) -> None:
    is_now(pair.listen(0), ACTIVE)
    peer = pair.listen(1)
    is_now(peer, STANDBY)
    measured = (
        "active=1;;1:1;0;2 heartbeat_age=0.4s;;;0 round_trip=0.2ms;;;0 'eth0 packets'=40;;;0\n"
    )
    said = "FAILOVERD OK - this node is active, and peer 1.0.0.2 can take over | "
    assert ha_status_there(pair, conf, "--check") == (0, said + measured, "")
    is_now(peer, replace(STANDBY, blocked="a|b", version="9"))
    status, out, errors = ha_status_there(pair, conf, "--check")
    assert (status, errors) == (1, "") and out.count("|") == out.count("\n") == 1
    assert out.startswith("FAILOVERD WARNING - this node is active, but ")
    is_now(peer, ACTIVE)
    status, out, _ = ha_status_there(pair, conf, "--check")
    assert status == 2 and " | active=2;;1:1;0;2 " in out
    status, out, errors = ha_status_there(pair, f"{conf}.none", "--check")
    assert (status, errors) == (3, "") and out.count("\n") == 1
    assert out.startswith("FAILOVERD UNKNOWN - nothing can be asked with ")
    Path(f"{conf}.bad").write_text('$low_water = "a";\n$tcp_port = "b";\n')
    status, out, _ = ha_status_there(pair, f"{conf}.bad", "--check")
    assert status == 3 and f"; {conf}.bad:2: $tcp_port is " in out


def test_metrics_that_cannot_be_written_are_no_success(pair: Pair, conf: str) -> None:
    """They are more than Python keeps back until the end."""
    many = tuple((f"eth{number}", ACTIVE.interfaces[0][1]) for number in range(100))
    is_now(pair.listen(0), replace(ACTIVE, interfaces=many))
    is_now(pair.listen(1), STANDBY)
    python = [sys.executable, "-m", "failoverd.commands.ha_status", "-c", conf]
    command = f"{shlex.join([*python, '--prometheus', '-'])} >/dev/full"
    why = "ha-status: cannot write the output: No space left on device\n"
    assert pair.run(0, ["sh", "-c", command]) == (3, "", why)


# --history


def test_the_last_changes_of_the_role(pair: Pair, conf: str, tmp_path: Path) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    old, new = now - timedelta(days=2), now - timedelta(minutes=3)
    changes = [
        Change(f"{old:%Y-%m-%dT%H:%M:%S}.500Z", "none", "standby", "start", 0.0),
        Change(f"{new:%Y-%m-%dT%H:%M:%S}.500Z", "standby", "active", "heartbeat lost", 0.0042),
    ]
    with open(conf, "a") as file:
        file.write(f"$state = '{tmp_path}/state';\n")
    status, out, errors = ha_status_there(pair, conf, "--history")
    assert (status, errors) == (0, "") and out.startswith("no change of this node's role in ")
    path = tmp_path / "state.history"
    history.write(str(path), changes)
    status, out, errors = ha_status_there(pair, conf, "--history")
    assert (status, errors) == (0, "")
    lines = [re.split(r"\s{2,}", line) for line in out.splitlines()]
    assert lines[0] == ["TIME", "FROM", "TO", "TOOK", "CAUSE"]
    assert lines[2] == [
        new.astimezone().isoformat(" "), "standby", "active", "4.2 ms", "heartbeat lost"
    ]  # fmt: skip
    assert len(lines) == 3
    cause = "operator wants the peer to be active; and check a-check-with-a-long-name failed"
    history.write(str(path), [*changes, replace(changes[0], cause=cause)])
    _, out, _ = ha_status_there(pair, conf, "--history")
    assert max(map(len, out.splitlines())) <= 80
    assert " ".join(line[50:].strip() for line in out.splitlines()).endswith(cause)
    history.write(str(path), changes)
    for since, count in (("1h", 1), ("3d", 2), ("1m", 0), (f"{now:%Y-%m-%d %H:%M}+00:00", 0)):
        _, out, _ = ha_status_there(pair, conf, "--history", "--json", "--since", since)
        assert [json.loads(line) for line in out.splitlines()] == [
            asdict(change) for change in changes[2 - count :]
        ], since
    path.chmod(0o666)
    status, _, errors = ha_status_there(pair, conf, "--history")
    assert status == 3 and f"{path} cannot be read: others can write it" in errors
    for wrong in (["--since", "1h"], ["--history", "--since", "then"], ["--history", "--check"]):
        assert ha_status_there(pair, conf, *wrong)[0] == 3, wrong


# ha-fail


@pytest.mark.parametrize(
    ("role", "command", "becomes"),
    [
        ("active", "resume", "standby"),
        ("standby", "fail", "active"),
        ("switching", "fail", "active"),
        ("failed", "fail", "active"),
    ],
)
def test_it_switches(pair: Pair, conf: str, role: str, command: str, becomes: str) -> None:
    daemon = pair.listen()
    is_now(daemon, replace(ACTIVE, role=role))
    daemon.answers[command] = (True, becomes)
    status, out, errors = ha_fail_there(pair, conf)
    assert (status, errors) == (0, "")
    words = {"active": "switchover: this node -> peer 1.0.0.2",
             "switching": "switch to this node, which was under way,"}  # fmt: skip
    moved = words.get(role, "takeover by this node")
    assert re.fullmatch(rf"{moved} done in [\d.]+ m?s\n", out), out
    status, _, errors = ha_fail_there(pair, conf, "-v")
    assert status == 0 and f"({command})" in errors
    asked = [str(request["command"]) for request in daemon.of("request")]
    assert asked == ["status", command] * 2
    assert {request["origin"] for request in daemon.of("request")} == {"person"}


@pytest.mark.parametrize("role", ["active", "standby"])
def test_it_warns_of_a_role_that_may_not_stay(pair: Pair, conf: str, role: str) -> None:
    """It is done all the same, and a second later the role may be back."""
    daemon, peer = pair.listen(0), pair.listen(1)
    bad = (("web*", CheckStatus("bad", STANDBY.since, "exit status 2")),)
    us, them = replace(ACTIVE, host="node-a", peer_host="node-b"), replace(STANDBY, host="node-b")
    if role == "active":
        them = replace(them, checks=bad)
    else:
        us, them = replace(us, role="standby", checks=bad), replace(them, role="active")
    is_now(daemon, us)
    is_now(peer, them)
    daemon.answers |= {"resume": (True, "standby"), "fail": (True, "active")}
    there = "node-b" if role == "active" else "node-a"
    warning = f"check web* is bad on {there}: exit status 2: the role may not stay there"
    status, out, errors = ha_fail_there(pair, conf)
    assert (status, errors) == (0, f"ha-fail: warning: {warning}\n") and " done in " in out


def test_it_says_why_not(pair: Pair, conf: str) -> None:
    daemon = pair.listen()
    is_now(daemon, ACTIVE)
    daemon.answers["resume"] = (False, "the peer is not able")
    status, out, errors = ha_fail_there(pair, conf)
    assert (status, out) == (1, "")
    said = errors.splitlines()
    assert said[0] == "ha-fail: not switched: the peer is not able"
    assert said[1] == "ha-fail: active now: this node"
    assert said[2].startswith("ha-fail: ha-status shows both nodes, ") and len(said) == 3


def test_another_switch_is_under_way(pair: Pair, conf: str) -> None:
    daemon = pair.listen()
    is_now(daemon, replace(STANDBY, host="node-a", role="switching", service="unknown"))
    daemon.answers["fail"] = (False, "busy")
    status, _, errors = ha_fail_there(pair, conf)
    assert status == 1 and errors.splitlines()[:2] == [
        "ha-fail: not switched: busy: another switch is under way, try again when it has ended",
        "ha-fail: active now: no node yet: node-a is switching",
    ]


def test_a_role_on_its_way_back_is_waited_for(pair: Pair, conf: str) -> None:
    """The peer did not take it, and the switch script runs here again."""
    daemon = pair.listen()
    is_now(daemon, replace(STANDBY, host="node-a", role="switching", service="unknown"))
    daemon.answers["fail"] = (False, "no answer from the peer, and the service does not answer")
    back = Timer(2.0, is_now, (daemon, replace(ACTIVE, host="node-a")))
    back.start()
    status, _, errors = ha_fail_there(pair, conf)
    back.join()
    assert status == 1 and errors.splitlines()[1] == "ha-fail: active now: node-a"


@pytest.mark.parametrize(
    ("path", "told"), [("", "not known: node-b gives no valid answer"), ("private", "no node")]
)
def test_of_a_peer_that_is_not_reached_it_is_not_known_whether_it_is_active(
    pair: Pair, conf: str, path: str, told: str
) -> None:
    daemon = pair.listen()
    alone = replace(STANDBY, host="node-a", peer_host="node-b", service="nobody", path=path)
    is_now(daemon, alone)
    daemon.answers["fail"] = (False, "the service network cannot be asked")
    _, _, errors = ha_fail_there(pair, conf)
    assert f"\nha-fail: active now: {told}\n" in errors


def test_it_says_which_script_has_failed_and_where(pair: Pair, conf: str) -> None:
    """Not one that has failed before."""
    daemon, peer = pair.listen(0), pair.listen(1)
    failure = Failure("master", 3, "file is missing", "", ACTIVE.since, 0.0)
    old = replace(failure, role="slave", age=3600.0)
    is_now(daemon, replace(ACTIVE, host="node-a", peer_host="node-b", failure=old))
    is_now(peer, replace(STANDBY, host="node-b", failure=failure))
    daemon.answers["resume"] = (False, "the switch script failed")
    status, _, errors = ha_fail_there(pair, conf)
    assert status == 1
    assert errors.splitlines()[:3] == [
        "ha-fail: not switched: the switch script failed",
        "ha-fail: node-b: ha-switch master failed, exit 3: file is missing",
        "ha-fail: active now: node-a",
    ]


def test_the_daemon_does_not_answer_in_time(pair: Pair, conf: str) -> None:
    daemon = pair.listen(switch_timeout=0.2)
    is_now(daemon, ACTIVE)
    status, _, errors = ha_fail_there(pair, conf)
    assert status == 1
    assert "ha-status shows whether it has happened" in errors


def test_the_daemon_does_not_run(pair: Pair, conf: str) -> None:
    status, _, errors = ha_fail_there(pair, conf)
    assert status == 1
    assert "failoverd is not running here" in errors and "ha-status" not in errors
    pair.spaces[0].ip("address del 1.0.0.1/24 dev plip0")
    status, _, errors = ha_fail_there(pair, conf)
    assert status == 1
    assert "failoverd is not running here" in errors


def test_the_secret_has_changed(pair: Pair, conf: str) -> None:
    daemon = pair.listen()
    pair.secret.write_bytes(b"another\n")
    status, _, errors = ha_fail_there(pair, conf)
    assert status == 1
    told = f"its secret differs from {pair.secret}; if {pair.secret} is right, send HUP to "
    assert told in errors
    assert "another" not in errors
    assert not daemon.of("request")


@pytest.mark.skipif(ROOTLESS, reason="there is no user but root in this namespace")
def test_who_may_not_read_the_secret_is_told_to_be_root(pair: Pair, conf: str) -> None:
    code = (
        "import locale, os, shutil, sys\n"  # which argparse would import too late
        "from failoverd.commands import ha_fail\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "sys.exit(ha_fail.main(['-c', sys.argv[1]]))"
    )
    status, _, errors = pair.run(0, [sys.executable, "-c", code, conf])
    assert status == 1
    assert "Permission denied" in errors and "run this as root" in errors


def test_what_cannot_be_written_is_said_once_and_changes_nothing(pair: Pair, conf: str) -> None:
    daemon = pair.listen(0)
    is_now(daemon, ACTIVE)
    is_now(pair.listen(1), STANDBY)
    daemon.answers["resume"] = daemon.answers["release"] = (True, "done")
    python = [sys.executable, "-m", "failoverd.commands.ha_fail", "-c", conf]
    for options in ([], ["--release"]):
        command = f"{shlex.join([*python, *options])} >/dev/full"
        status, _, errors = pair.run(0, ["sh", "-c", command])
        why = "ha-fail: cannot write the output: No space left on device\n"
        assert (status, errors) == (0, why), options


# Both


@pytest.mark.skipif(ROOTLESS, reason="nothing can belong to another user in this namespace")
def test_a_socket_that_another_user_has_planted_is_not_spoken_to(
    pair: Pair, conf: str, tmp_path: Path
) -> None:
    is_now(pair.listen(0), ACTIVE)
    is_now(pair.listen(1), STANDBY)
    path = str(tmp_path / "failoverd.sock")
    with listening(path) as planted:
        os.chown(path, 65534, 65534)
        assert ha_status_there(pair, conf)[0] == 0  # by the port
        with pytest.raises(BlockingIOError):
            planted.accept()


@pytest.mark.skipif(ROOTLESS, reason="there is no user but root in this namespace")
def test_who_may_not_use_the_socket_is_told_to_be_root(
    pair: Pair, conf: str, tmp_path: Path
) -> None:
    code = (
        "import encodings.idna, os, sys\n"
        "from failoverd.tools import client\n"
        "asker = client.prepare(sys.argv[1])\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "try: asker.exchange(asker.conf.primary, 'status', 60.0)\n"
        "except client.ExchangeError as error: print(error)"
    )
    with listening(str(tmp_path / "failoverd.sock")):
        said = pair.run(0, [sys.executable, "-c", code, conf])
    assert said[1] == (
        f"only root may ask failoverd here by {tmp_path}/failoverd.sock; run this as root\n"
    ), said


def test_an_error_elsewhere_in_the_file_keeps_no_node_from_asking(pair: Pair, conf: str) -> None:
    """failoverd runs on with what it read before, and must give its role away at a shutdown."""
    is_now(pair.listen(0), ACTIVE)
    is_now(pair.listen(1), STANDBY)
    with open(conf, "a") as file:
        file.write("$timer_secs = 3;\n")
    status, out, errors = ha_status_there(pair, conf)
    assert status == 0 and out.startswith("OK: this node is active")
    assert "unknown variable $timer_secs" in errors and "going on" in errors
    with open(conf, "a") as file:
        file.write("$secondary = nonsense;\n")
    status, out, errors = ha_status_there(pair, conf)
    assert status == 3 and out.startswith("UNKNOWN: ") and "going on" not in errors


def test_a_failoverd_that_has_another_port_is_not_called_dead(
    pair: Pair, conf: str, tmp_path: Path
) -> None:
    with (tmp_path / "failoverd.pid").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _, out, _ = ha_status_there(pair, conf)
    assert "failoverd runs here, but neither" in out and "send it HUP" in out


def test_a_closed_output_is_no_accident(pair: Pair, conf: str) -> None:
    is_now(pair.listen(0), ACTIVE)
    is_now(pair.listen(1), STANDBY)
    command = (
        shlex.join([sys.executable, "-m", "failoverd.commands.ha_status", "-c", conf]) + " >&-"
    )
    assert pair.run(0, ["sh", "-c", command]) == (0, "", "")
    status, _, errors = pair.run(0, ["sh", "-c", command.replace(">&-", ">/dev/full")])
    assert status == 3 and errors.startswith("ha-status: cannot write the output: No space left")
    assert errors.count("\n") == 1
    pair.secret.chmod(0o644)
    status, _, errors = pair.run(0, ["sh", "-c", command.replace(">&-", ">/dev/full")])
    assert status == 3 and "Traceback" not in errors


def test_a_silent_port_costs_no_more_than_the_timeout(pair: Pair, conf: str) -> None:
    """The program that has the port may not be failoverd, and say nothing."""
    pair.port(0)
    code = (
        "import sys\n"
        "from failoverd.tools import client\n"
        "asker = client.prepare(sys.argv[1])\n"
        "try: asker.exchange(asker.conf.primary, 'fail', 0.3)\n"
        "except client.ExchangeError as error: print(error.sent, error)"
    )
    status, out, errors = pair.run(0, [sys.executable, "-c", code, conf])
    assert (status, errors) == (0, "")
    assert out.startswith("False failoverd here does not answer within 0.3 s; it is stopped or")


@pytest.mark.parametrize(("main", "usage"), [(ha_status.main, 3), (ha_fail.main, 2)])
def test_usage(
    main: Callable[[list[str]], int], usage: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """2 would be CRITICAL to who monitors by ha-status."""
    wrong = [["--dance"], ["x"], ["-c"]]
    cases = [(["--help"], 0), (["--version"], 0), *((each, usage) for each in wrong)]
    for arguments, expected in cases:
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == expected
    out = capsys.readouterr().out
    assert "Exit status" in out and __version__ in out
