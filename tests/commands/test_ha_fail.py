"""Why ha-fail has not switched is said as it is, with what to do."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from live_pair import LONG, kill, main_pid, pids, start

from dev.lab import logs
from dev.lab.filters import CLOSED, drop, why_no_filters
from dev.lab.network import SERVICE, Lab
from dev.lab.node import Node
from failoverd.commands.ha_fail import main, parse


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("30m", 1800),
        ("2h", 7200),
        ("1d", 86_400),
        ("999999999", 10**9 - 1),
    ],
)
def test_how_long_a_hold_is_to_last(text: str, seconds: int) -> None:
    assert parse(["--hold", text]).hold == seconds
    assert parse(["--hold", "-v"]).hold == 0 and parse(["-v"]).hold is None


@pytest.mark.parametrize(
    "text", ["0", "0d", "1w", "h", "-5", "1.5h", "", "1 h", "12345678901", "99999d", "\u0664"]
)
def test_no_length_is_a_usage_error(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    for options in (["--hold", text], ["--hold", "1h", "--release"], ["--release", text]):
        with pytest.raises(SystemExit) as end:
            main(options)
        assert end.value.code == 2 and "usage: " in capsys.readouterr().err


@pytest.mark.parametrize("typed_on", ["a", "b"])
def test_that_the_secrets_differ_is_said(lab: Lab, typed_on: str) -> None:
    start(lab)
    lab.b.write("secret", "quite another word\n", 0o600)
    kill(lab.b, main_pid(lab.b), signal.SIGHUP)
    lab.wait_until(lambda: all("the secrets differ" in node.log() for node in lab.nodes), "noticed")
    node = lab.a if typed_on == "a" else lab.b
    lab.wait_until(lambda: node.status()["us"] is not None, "the next listener is there")
    told = node.command("ha-fail")
    assert told.returncode == 1
    assert "authentication failed: the secrets differ; copy the file of $secret" in told.stderr
    assert "silent" not in told.stderr
    (line,) = logs.lines(node.log(), "SWITCHOVER-REFUSED")
    assert line.values["command"] == ("resume" if typed_on == "a" else "fail")
    assert "authentication failed" in line.values["error"]
    shown = node.command("ha-status")
    assert "no answer from the peer: authentication failed: the secrets differ" in shown.stdout
    assert "packet filter" not in shown.stdout
    assert lab.holders() == ["a"]


@pytest.mark.parametrize(
    ("verdict", "fact"),
    [
        ("reject with tcp reset", "port 2000 refuses the connection"),
        ("drop", "port 2000 does not answer within"),
    ],
)
@pytest.mark.parametrize("closed_on", ["a", "b"])
def test_that_the_port_is_blocked_on_one_side_is_said(
    lab: Lab, closed_on: str, verdict: str, fact: str
) -> None:
    if why := why_no_filters(lab.a):
        pytest.skip(why)
    start(lab, second_path=False)
    closed, asker = (lab.a, lab.b) if closed_on == "a" else (lab.b, lab.a)
    drop(closed, CLOSED.replace("drop", verdict))
    lab.wait_until(lambda: asker.status()["us"].get("speechless"), "it is long so", LONG)
    told = asker.command("ha-fail")
    assert told.returncode == 1
    shown = asker.command("ha-status")
    advice = "its heartbeats are received, so failoverd is running there: look for a firewall"
    assert f"; {advice}" in told.stderr and f"\nnext: {advice}" in shown.stdout
    for said in (told.stderr, shown.stdout):
        assert "start failoverd" not in said and "silent" not in said
    assert fact in told.stderr
    assert lab.holders() == ["a"]


def test_that_failoverd_is_dead_there_is_said(lab: Lab) -> None:
    """Also a moment after: that its heartbeats have come in just now means nothing."""
    start(lab, plip_timer=3.0)
    lab.wait_until(lambda: lab.a.status()["us"]["plip"]["state"] == "ok", "a window", LONG)
    kill(lab.b, main_pid(lab.b))
    lab.wait_until(lambda: not pids(lab.b, "failoverd: listener"), "its port is closed")
    told = lab.a.command("ha-fail")
    assert told.returncode == 1
    assert "1.0.0.2 port 2000 refuses the connection" in told.stderr
    assert "refuses the connection; check that the peer's failoverd" in told.stderr
    assert "heartbeats" not in told.stderr
    assert SERVICE in "".join(lab.a.addresses("eth0"))


HERE: dict[str, tuple[Callable[[Node, Node], None], str]] = {
    "down": (
        lambda here, _: here.ip("link set plip0 down"),
        "plip0 is down: ip link set dev plip0 up",
    ),
    "no carrier": (lambda here, _: here.unplug("plip0"), "plip0 has no carrier: check its cable"),
    "no address there": (
        lambda _, there: there.ip("address flush dev plip0"),
        "no host has 1.0.0.2 on plip0: see where the cables of both nodes lead",
    ),
}


@pytest.mark.parametrize("trouble", HERE)
def test_what_this_end_of_the_link_shows_is_said(lab: Lab, trouble: str) -> None:
    start(lab, second_path=False)
    make, sentence = HERE[trouble]
    make(lab.a, lab.b)
    lab.a.run("ip", "neighbour", "flush", "dev", "plip0")  # else it takes the kernel a minute
    lab.wait_until(lambda: lab.a.status()["us"]["plip"]["state"] in ("down", "fail"), "known", LONG)
    for command in ("ha-status", "ha-fail"):
        told = lab.a.command(command)
        said = told.stdout + told.stderr
        assert told.returncode == 1 and sentence in said, said
        assert "packet filter" not in said
    assert lab.a.command("failoverd", "-t").stdout.count(sentence) >= 1
