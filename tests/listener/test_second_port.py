"""The second path: the port and the queries on the service network, in two network namespaces."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from netns import Namespace
from wire import IPV4, LIMIT, SECRET, Caller, Daemon, Pair, serve, sign, signed
from wire import two_nodes as make_two_nodes

from failoverd.listener import client, server
from failoverd.second_path import SecondPath

OURS, PEERS, FOREIGN = "192.0.2.1", "192.0.2.2", "192.0.2.3"
OURS6, PEERS6 = "2001:db8::1", "2001:db8::2"
PATHS = (
    SecondPath("eth0", (f"{OURS}/24", f"{OURS6}/64"), (f"{PEERS}/24", f"{PEERS6}/64")),
    SecondPath("eth0", (f"{PEERS}/24", f"{PEERS6}/64"), (f"{OURS}/24", f"{OURS6}/64")),
)
CHALLENGE = "0123456789abcdef" * 2


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a client here nor a query is too late because the host is busy."""
    monkeypatch.setattr(server, "REQUEST_SECONDS", LIMIT)
    monkeypatch.setattr(client, "SAY_SECONDS", 4.0)  # a part of it is waited for


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with make_two_nodes(tmp_path) as made:
        plug(*made.spaces)
        yield made


def plug(here: Namespace, there: Namespace) -> None:
    here.ip(f"link add eth0 type veth peer name eth0 netns {there.pid}")
    for space, ipv4, ipv6 in ((here, OURS, OURS6), (there, PEERS, PEERS6)):
        space.ip(
            f"address add {ipv4}/24 dev eth0",
            f"address add {ipv6}/64 dev eth0 nodad",
            "link set eth0 up",
        )


@pytest.fixture
def daemon(pair: Pair) -> Daemon:
    """A listener on the first node that has a second path."""
    made = pair.listen()
    follow(made, PATHS[0])
    made.wait_for("log")
    return made


def follow(daemon: Daemon, path: SecondPath) -> None:
    daemon.tell({"do": "second", **vars(path)})


def listening(space: Namespace) -> set[str]:
    """Where something listens on port 2000, but for the heartbeat link's addresses."""
    shown = space.run("ss", "-Hltn", "sport = 2000").stdout.split("\n")
    found = {line.split()[3].rpartition(":")[0].partition("%")[0] for line in shown if line}
    return {address.strip("[]") for address in found} - {*IPV4}


def call(pair: Pair, source: str = PEERS, to: str = OURS) -> Caller:
    return pair.call(1, source, to)


# ---------------------------------------------------------------------------- the port


@pytest.mark.parametrize(("source", "to"), [(PEERS, OURS), (PEERS6, OURS6)])
def test_what_the_peer_signs_is_answered(pair: Pair, daemon: Daemon, source: str, to: str) -> None:
    daemon.answers = {"fail": (True, "active")}
    caller = call(pair, source, to)
    nonce = caller.greeting()
    expected = f"ok {sign(f'{nonce} fail ok active')} active\n"
    assert caller.say(signed(nonce, "fail")).rest() == expected.encode()
    (request,) = daemon.of("request")
    assert (request["origin"], request["client"]) == ("peer", source)


def test_the_secret_in_plain_text_is_refused_there_and_only_there(
    pair: Pair, daemon: Daemon
) -> None:
    daemon.answers = {"resume": (True, "standby")}
    classic = SECRET + b"\nresume\n"
    assert call(pair).say(classic).rest() == b"error refused\n"
    assert not daemon.of("request")
    assert pair.call(1).say(classic).rest() == b"ok standby\n"


def test_an_address_that_is_not_the_peers_is_not_greeted(pair: Pair, daemon: Daemon) -> None:
    pair.spaces[1].ip(f"address add {FOREIGN}/24 dev eth0")
    assert is_sent_away(call(pair, FOREIGN))
    said = "REQUEST-REFUSED config: connection closed, not from either node"
    wait(daemon, lambda: any(said in line for line in daemon.logged()))
    call(pair).greeting()
    follow(daemon, SecondPath("eth0", (f"{OURS}/24",), (f"{FOREIGN}/24",)))
    wait(daemon, lambda: listening(pair.spaces[0]) == {OURS})
    assert is_sent_away(call(pair))
    call(pair, FOREIGN).greeting()


def is_sent_away(caller: Caller) -> bool:
    caller.wait(lambda: caller.ended)
    return caller.got == b""


def wait(daemon: Daemon, condition: Callable[[], bool]) -> None:
    serve([daemon], condition)


def test_the_port_follows_the_addresses(pair: Pair, daemon: Daemon) -> None:
    here = pair.spaces[0]
    assert listening(here) == {OURS, OURS6}
    here.ip(f"address add {FOREIGN}/24 dev eth0")
    follow(daemon, SecondPath("eth0", (f"{FOREIGN}/24",), PATHS[0].peer))
    wait(daemon, lambda: listening(here) == {FOREIGN})
    call(pair, to=FOREIGN).greeting()
    follow(daemon, SecondPath())
    wait(daemon, lambda: listening(here) == set())


def test_an_interface_that_is_made_again_is_listened_at_again(pair: Pair, daemon: Daemon) -> None:
    pair.spaces[0].ip("link delete eth0")
    wait(daemon, lambda: listening(pair.spaces[0]) == set())
    plug(*pair.spaces)
    wait(daemon, lambda: listening(pair.spaces[0]) == {OURS, OURS6})
    call(pair).greeting()


def test_a_port_that_is_in_use_there_is_a_warning_and_is_had_when_it_is_free(pair: Pair) -> None:
    taken = pair.port(0, OURS)
    daemon = pair.listen(plip_timer=0.4)
    follow(daemon, PATHS[0])
    daemon.wait_for("log")
    assert daemon.logged()[0].startswith("PORT-FAILED interface eth0: cannot listen for the second")
    daemon.answers = {"status": (True, "{}")}
    caller = pair.call(1)
    assert caller.say(signed(caller.greeting(), "status")).rest().endswith(b" {}\n")
    assert len(daemon.of("log")) == 1, "it is said once"
    taken.close()
    daemon.wait_for("log", 2)
    assert daemon.logged()[1].startswith("PORT-OPEN interface eth0: listening for the second path")
    call(pair).greeting()


def test_it_costs_nothing_while_nothing_happens(pair: Pair, daemon: Daemon) -> None:
    before = ticks(daemon)
    time.sleep(1.0)
    assert ticks(daemon) - before <= 0.2 * os.sysconf("SC_CLK_TCK")


def ticks(daemon: Daemon) -> int:
    """Of processor time."""
    told = Path(f"/proc/{daemon.child.pid}/stat").read_text().rpartition(")")[2].split()
    return int(told[11]) + int(told[12])


# ---------------------------------------------------------------------------- one request, twice


def copies(pair: Pair, daemon: Daemon, command: str = "fail") -> tuple[Caller, Caller]:
    """The same request over both paths, greeted first."""
    callers = pair.call(1), call(pair)
    for caller in callers:
        caller.say(signed(caller.greeting(), f"{command} {CHALLENGE}"))
    return callers


def test_one_request_over_both_paths_is_one(pair: Pair, daemon: Daemon) -> None:
    one, other = copies(pair, daemon)
    (request,) = daemon.wait_for("request")
    time.sleep(0.1)
    daemon.read()
    assert len(daemon.of("request")) == 1
    daemon.answer(request, False, "busy")
    assert one.rest().startswith(b"error ") and one.got.endswith(b" busy\n")
    assert other.rest().startswith(b"error ") and other.got.endswith(b" busy\n")
    late = call(pair)
    late.say(signed(late.greeting(), f"fail {CHALLENGE}"))
    assert late.rest().endswith(b" busy\n")
    assert len(daemon.of("request")) == 1, "what was refused is not done by its copy"


def test_the_copy_is_answered_when_the_first_is_gone(pair: Pair, daemon: Daemon) -> None:
    one, other = copies(pair, daemon)
    (request,) = daemon.wait_for("request")
    (one if request["client"] == IPV4[1] else other).socket.close()
    left = other if request["client"] == IPV4[1] else one
    time.sleep(0.1)
    daemon.answer(request, True, "active")
    assert left.rest().endswith(b" active\n")


def test_two_requests_are_two(pair: Pair, daemon: Daemon) -> None:
    daemon.answers = {"fail": (True, "active")}
    for number in range(2):
        caller = call(pair)
        challenge = f"{number:032x}"
        assert caller.say(signed(caller.greeting(), f"fail {challenge}")).rest()
    assert len(daemon.of("request")) == 2


# ---------------------------------------------------------------------------- queries


@pytest.fixture
def both(pair: Pair, daemon: Daemon) -> tuple[Daemon, Daemon]:
    """The first node's listener, which answers, and the second's, which asks."""
    daemon.answers = {command: (True, command) for command in ("status", "fail", "resume")}
    other = pair.listen(1)
    follow(other, PATHS[1])
    other.wait_for("log")
    return daemon, other


def answered(
    both: tuple[Daemon, Daemon], number: int, command: str = "status", direct: bool = False
) -> dict[str, Any]:
    both[1].ask(number, command, LIMIT, direct)

    def found() -> list[Any]:
        return [m for m in both[1].of("reply", "lost") if m["id"] == number]

    serve(both, lambda: bool(found()))
    return dict(found()[0])


CUTS = {
    "gone": "link delete plip0",
    "down": "link set plip0 down",
    "no carrier": "link set plip0 down",
    "no address": f"address del {IPV4[0]}/24 dev plip0",
}


def test_the_private_link_comes_first(both: tuple[Daemon, Daemon]) -> None:
    for number in range(20):
        assert answered(both, number)["path"] == "private"


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("cut", CUTS)
def test_a_query_goes_round_a_private_link_that_is_cut(
    pair: Pair, both: tuple[Daemon, Daemon], cut: str, side: int
) -> None:
    pair.spaces[side].ip(CUTS[cut].replace(IPV4[0], IPV4[side]))
    for number, command in enumerate(("status", "fail", "resume")):
        reply = answered(both, number, command)
        assert (reply["event"], reply.get("path"), reply.get("text")) == (
            "reply",
            "second",
            command,
        )


def test_a_direct_query_goes_round_nothing(pair: Pair, both: tuple[Daemon, Daemon]) -> None:
    assert answered(both, 1, "fail", direct=True)["path"] == "private"
    pair.spaces[0].ip("link set plip0 down")
    assert answered(both, 2, "fail")["path"] == "second"
    lost = answered(both, 3, "fail", direct=True)
    assert (lost["event"], lost["sent"]) == ("lost", False)


def test_a_request_whose_answer_is_lost_on_one_path_is_answered_on_the_other(
    pair: Pair, both: tuple[Daemon, Daemon]
) -> None:
    del both[0].answers["fail"]
    both[1].ask(1, "fail")
    (request,) = both[0].wait_for("request")
    assert request["client"] == IPV4[1]
    pair.spaces[0].ip("link set plip0 down")
    time.sleep(2 * client.SAY_SECONDS / client.PART)
    both[0].read()
    assert len(both[0].of("request")) == 1
    both[0].answer(request, True, "active")
    serve(both, lambda: bool(both[1].of("reply", "lost")))
    assert both[1].of("reply", "lost")[0]["path"] == "second"


def test_what_is_refused_on_both_paths_says_both(pair: Pair, both: tuple[Daemon, Daemon]) -> None:
    both[0].close()
    both[1].ask(1)
    (lost,) = both[1].wait_for("lost")
    why = f"{IPV4[0]} port 2000 refuses the connection; over the second path: {OURS} port 2000 "
    assert lost["why"] == f"{why}refuses the connection" and lost["sent"] is False
    pair.daemons.remove(both[0])


def test_no_query_takes_longer_with_a_dead_second_path(
    pair: Pair, both: tuple[Daemon, Daemon]
) -> None:
    """Refused over the heartbeat link, and dropped on the service network."""
    pair.spaces[0].ip("link set eth0 down")
    both[0].close()
    pair.daemons.remove(both[0])
    both[1].ask(1, "status", 8.0)
    (lost,) = both[1].wait_for("lost")
    why = str(lost["why"])
    waited = re.search(r"; over the second path: .* does not answer within (.*) s$", why)
    # From the query on, so that it includes what the refusal took.
    assert waited and float(waited[1]) < 2 * 8.0 / client.PART


def test_a_greeting_that_comes_back_is_no_answer(pair: Pair, daemon: Daemon) -> None:
    """Who stands between the nodes hands this node's own greeting back to it."""
    daemon.answers = {"status": (True, "{}")}
    fake = pair.port(1, PEERS)
    pair.spaces[0].ip("link set plip0 down")
    daemon.ask(1)
    accepted: list[socket.socket] = []
    fake.setblocking(False)

    def came() -> bool:
        try:
            accepted.append(fake.accept()[0])
        except BlockingIOError:
            return False
        return True

    serve([daemon], came)
    accepted[0].sendall(f"failoverd 1 {call(pair).greeting()}\n".encode())
    (lost,) = daemon.wait_for("lost")
    assert "it sent this node's own greeting back" in str(lost["why"])
    accepted[0].close()
