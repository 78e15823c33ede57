"""The listener as it runs: a real child, real connections, two network namespaces."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from netns import ROOTLESS
from wire import IPV4, IPV6, LIMIT, SECRET, Caller, Daemon, Pair, serve, sign, signed
from wire import two_nodes as make_two_nodes

from failoverd.listener import client, server

LOCAL = "PORT-LOCAL interface plip0: down, listening to this node only"
CLASSIC = SECRET + b"\nresume\n"


ALONE = "plip0 is down: only this node's own requests are received"
REQUEST_SECONDS = server.REQUEST_SECONDS


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """No client here is too slow because the host is, and no query goes out too late."""
    monkeypatch.setattr(server, "REQUEST_SECONDS", LIMIT)
    monkeypatch.setattr(client, "SAY_SECONDS", LIMIT)


PLACES = 128  # so that a crowd can be made in a test


@pytest.fixture(autouse=True)
def few_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_SESSIONS", PLACES)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with make_two_nodes(tmp_path) as made:
        yield made


@pytest.fixture
def daemon(pair: Pair) -> Daemon:
    """A listener on the first node, for which every command succeeds."""
    made = pair.listen()
    made.answers = {"resume": (True, "standby"), "fail": (True, "active"), "status": (True, "{}")}
    return made


def reset(caller: Caller) -> None:
    """Close at once, as a node that has crashed and come back does."""
    caller.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    caller.socket.close()


# Requests


def test_a_person_is_answered_in_every_way_of_typing(pair: Pair, daemon: Daemon) -> None:
    for end in (b"\n", b"\r\n"):
        lines = SECRET + end, b"resume" + end
        assert pair.call(1).say(b"".join(lines)).rest() == b"ok standby\n"
        caller = pair.call(1)
        for line in lines:
            caller.greeting()
            caller.say(line)
        assert caller.rest() == b"ok standby\n"
        caller = pair.call(1)
        for number in range(len(b"".join(lines))):
            caller.say(b"".join(lines)[number : number + 1])
        caller.socket.shutdown(socket.SHUT_WR)
        assert caller.rest() == b"ok standby\n"
    assert {str(request["origin"]) for request in daemon.of("request")} == {"person"}
    assert {str(request["command"]) for request in daemon.of("request")} == {"resume"}
    assert len({request["id"] for request in daemon.of("request")}) == 6


@pytest.mark.parametrize("plain", [True, False])
def test_who_signs_is_the_peer_or_a_person_by_address(pair: Pair, plain: bool) -> None:
    daemon = pair.listen(plain_secret=plain)
    daemon.answers = {"fail": (False, "busy")}
    before = time.monotonic()
    for side, origin in ((1, "peer"), (0, "person")):
        caller = pair.call(side)
        nonce = caller.greeting()
        expected = f"error {sign(f'{nonce} fail error busy')} busy\n"
        assert caller.say(signed(nonce, "fail")).rest() == expected.encode()
        request = daemon.of("request")[-1]
        assert request["origin"] == origin
        at = request["at"]
        assert isinstance(at, float) and before <= at <= time.monotonic()


def test_an_unknown_command_does_not_reach_failoverd(pair: Pair, daemon: Daemon) -> None:
    assert pair.call(1).say(SECRET + b"\ndance\n").rest() == b"error unknown command\n"
    caller = pair.call(1)
    nonce = caller.greeting()
    rest = caller.say(signed(nonce, "dance")).rest()
    assert rest.startswith(b"error ") and rest.endswith(b" unknown command\n")
    assert not daemon.of("request")


@pytest.mark.parametrize("addresses", [IPV4, IPV6], ids=["IPv4", "IPv6"])
def test_a_person_with_nc(pair: Pair, addresses: tuple[str, str]) -> None:
    if shutil.which("nc") is None:
        pytest.skip("there is no nc: install netcat-openbsd")
    daemon = pair.listen(addresses=addresses)
    daemon.answers = {"resume": (True, "standby")}
    for side in (0, 1):
        for options in (["-N"], []):
            status, out, _ = pair.run(side, ["nc", *options, addresses[0], "2000"], CLASSIC)
            assert (status, out.splitlines()[1:]) == (0, ["ok standby"])


def test_a_client_that_has_closed_its_side_waits_for_the_answer(pair: Pair) -> None:
    daemon = pair.listen()
    caller = pair.call(1).say(CLASSIC)
    caller.socket.shutdown(socket.SHUT_WR)
    (request,) = daemon.wait_for("request")
    time.sleep(0.05)
    daemon.answer(request, True, "standby")
    assert caller.rest() == b"ok standby\n"


def test_answers_that_are_not_awaited(pair: Pair, daemon: Daemon) -> None:
    daemon.answers = {"status": (True, "{}")}
    daemon.tell({"do": "answer", "id": 99, "ok": True, "text": "active"})
    daemon.tell({"do": "dance"})
    callers = [pair.call(1).say(CLASSIC) for _ in range(3)]
    # The second one's socket is then in a state in which writing to it would raise SIGPIPE.
    callers[1].socket.shutdown(socket.SHUT_WR)
    requests = daemon.wait_for("request", 3)
    reset(callers[0])
    reset(callers[1])
    for request in requests:
        daemon.answer(request, True, "standby")
        daemon.answer(request, True, "active")
    assert callers[2].rest() == b"ok standby\n"
    assert pair.call(1).say(SECRET + b"\nstatus\n").rest() == b"ok {}\n"


def test_an_answer_is_not_lost_on_who_goes_on_talking(pair: Pair, daemon: Daemon) -> None:
    """A reset would reach nc while it writes, and it would end without having read."""
    for data, answer in ((CLASSIC, b"ok standby\n"), (b"\0\n", b"error refused\n")):
        caller = pair.call(1).say(data + b"and so on\n" * 1000)
        assert caller.rest() == answer
        caller.say(b"more\n").say(b"and more\n")


def test_a_slow_reader_gets_a_long_answer_whole(pair: Pair) -> None:
    daemon = pair.listen()
    sock = pair.connector(1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    sock.connect((IPV4[0], 2000))
    caller = Caller(sock, [daemon]).say(CLASSIC)
    (request,) = daemon.wait_for("request")
    daemon.answer(request, True, "x" * 40_000)
    time.sleep(0.1)
    assert caller.rest() == b"ok " + b"x" * 40_000 + b"\n"


def test_no_answer_in_time(pair: Pair) -> None:
    """The signed error of a takeover would say that it failed, and that is not known."""
    daemon = pair.listen(switch_timeout=0.2)
    began = time.monotonic()
    by_word, by_hmac = pair.call(1).say(CLASSIC), pair.call(1)
    by_hmac.say(signed(by_hmac.greeting(), "resume"))
    daemon.wait_for("request", 2)
    assert by_word.rest().startswith(b"error no answer in time")
    assert by_hmac.rest() == b""
    assert time.monotonic() - began > 1.2


# Who is refused


def test_refused_without_a_reason_given(pair: Pair, daemon: Daemon) -> None:
    nonce = "0" * 32
    wrong = [
        b"wrong\nstatus\n",
        SECRET[:-1] + b"\nstatus\n",
        b"hmac " + b"0" * 64 + b" status\n",
        signed(nonce, "status"),
        b"x" * 300,
        b"\0\xff\n",
        os.urandom(600),
    ]
    for data in wrong:
        assert pair.call(1).say(data).rest() == b"error refused\n"
    half_closed = pair.call(1).say(SECRET + b"\n")
    half_closed.socket.shutdown(socket.SHUT_WR)
    assert half_closed.rest() == b"error refused\n"
    assert not daemon.of("request")


def test_the_right_word_is_refused_when_plain_secrets_are(pair: Pair) -> None:
    daemon = pair.listen(plain_secret=False)
    assert pair.call(1).say(CLASSIC).rest() == b"error refused\n"
    assert not daemon.of("request")


def test_refusals_are_logged_with_the_address_once_a_second(pair: Pair) -> None:
    daemon = pair.listen(plip_timer=0.3)
    began = time.monotonic()
    for caller in [pair.call(1).say(b"wrong\nstatus\n") for _ in range(20)]:
        assert caller.rest() == b"error refused\n"
    time.sleep(1.0)
    assert pair.call(1).say(b"wrong\nstatus\n").rest() == b"error refused\n"
    serve([daemon], lambda: any("suppressed=" in line for line in daemon.logged()))
    passed = time.monotonic() - began
    assert len(daemon.logged()) <= 1 + passed
    assert daemon.logged()[0] == (
        "REQUEST-REFUSED config: request refused, not authenticated; client=1.0.0.2"
    )
    assert all("1.0.0.2" in line for line in daemon.logged())


def test_who_dawdles_is_refused_after_five_seconds(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the answer nor its time tells whether the secret was right."""
    monkeypatch.setattr(server, "REQUEST_SECONDS", REQUEST_SECONDS)
    daemon = pair.listen()
    began = time.monotonic()
    silent, half = pair.call(1), pair.call(1).say(b"hmac ")
    wrong, right = pair.call(1).say(b"wrong\n"), pair.call(1).say(SECRET + b"\n")
    slow = pair.call(1)
    while not slow.ended:
        assert time.monotonic() - began < LIMIT
        with contextlib.suppress(ConnectionError):
            slow.say(b"x")
        slow.read()
        time.sleep(0.1)
    for caller in (silent, half, wrong, right):
        assert caller.rest() == b"error refused\n"
    assert 4.9 < time.monotonic() - began < LIMIT
    assert not daemon.of("request")


def test_strangers_are_closed_unread(pair: Pair, daemon: Daemon) -> None:
    pair.spaces[1].ip("address add 1.0.0.9/24 dev plip0")
    caller = pair.call(1, "1.0.0.9")
    caller.wait(lambda: caller.ended)
    assert caller.got == b""
    serve([daemon], lambda: any("1.0.0.9" in line for line in daemon.logged()))


def test_the_port_is_open_on_the_link_and_on_lo_alone(pair: Pair, daemon: Daemon) -> None:
    here, there = pair.spaces
    listening = here.run("ss", "-ltnH").stdout.split()
    assert sorted(word for word in listening if word.endswith(":2000")) == [
        "1.0.0.1%lo:2000",
        "1.0.0.1%plip0:2000",
    ]
    here.ip(f"link add eth0 type veth peer name eth0 netns {there.pid}", "link set eth0 up")
    there.ip("link set eth0 up", "address add 192.0.2.2/24 dev eth0")
    here.ip("address add 192.0.2.1/24 dev eth0")
    there.ip("route add 1.0.0.1/32 via 192.0.2.1 dev eth0")
    elsewhere = pair.connector(1, "192.0.2.2", device="eth0")
    with pytest.raises(ConnectionRefusedError):
        elsewhere.connect((IPV4[0], 2000))


def flood(pair: Pair, count: int) -> None:
    """Leave so many connections from the second node open."""
    ours, theirs = socket.socketpair()

    def connect() -> None:
        sockets = [socket.socket() for _ in range(count)]
        for sock in sockets:
            sock.bind((IPV4[1], 0))
            sock.connect((IPV4[0], 2000))
        socket.send_fds(theirs, [b"."], [sock.fileno() for sock in sockets])

    with ours, theirs:
        pair.spaces[1].call(connect)
        descriptors = socket.recv_fds(ours, 1, count)[1]
    pair.sockets += [socket.socket(fileno=number) for number in descriptors]


def test_a_flood_starves_no_client(pair: Pair, daemon: Daemon) -> None:
    daemon.answers = {"status": (True, "{}")}
    waiting = pair.call(1).say(CLASSIC)
    (request,) = daemon.wait_for("request")
    person = pair.call(0).say(SECRET + b"\n")
    person.greeting()
    flood(pair, 200)
    caller = pair.call(1)
    assert caller.say(signed(caller.greeting(), "status")).rest().startswith(b"ok ")
    assert person.say(b"status\n").rest() == b"ok {}\n"
    daemon.answer(request, True, "standby")
    assert waiting.rest() == b"ok standby\n"


@pytest.mark.skipif(ROOTLESS, reason="what a process has open that gave up its rights is root's")
def test_a_flood_is_not_held_open(pair: Pair, daemon: Daemon) -> None:
    flood(pair, 200)
    caller = pair.call(1)
    assert caller.say(signed(caller.greeting(), "status")).rest().startswith(b"ok ")
    descriptors = Path(f"/proc/{daemon.child.pid}/fd")
    assert len(list(descriptors.iterdir())) < PLACES + 20


def test_who_came_first_makes_room(pair: Pair, daemon: Daemon) -> None:
    first = pair.call(1)
    first.greeting()
    flood(pair, PLACES - 10)
    typing = pair.call(1).say(SECRET + b"\n")
    typing.greeting()
    flood(pair, 50)
    assert typing.say(b"status\n").rest() == b"ok {}\n"
    first.wait(lambda: first.ended)


def test_there_are_no_more_places_than_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    for most, places in ((100, 8), (200, 200 - server.RESERVE), (1024, PLACES)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, most=most: (most, 1 << 20))
        assert server.places() == places


def test_a_crowd_that_talks_does_not_send_newcomers_away(pair: Pair, daemon: Daemon) -> None:
    flood(pair, PLACES)
    talkers = pair.sockets[-PLACES:]
    caller = pair.call(1)
    nonce = caller.greeting()
    for sock in talkers[PLACES // 4 :]:
        sock.send(b"x")
    flood(pair, PLACES // 2)
    said = caller.say(signed(nonce, "status")).rest()
    assert said.startswith(b"ok "), (said, daemon.gone, daemon.heard)


def test_what_a_crowd_says_is_not_kept(pair: Pair, daemon: Daemon) -> None:
    """Ten megabytes from each of many: we keep nothing of it."""
    flood(pair, PLACES - 1)
    before = resident(daemon)
    talkers = pair.sockets[1 - PLACES :]
    block = b"x" * 100_000
    for sock in talkers:
        with contextlib.suppress(OSError):
            sock.send(block, socket.MSG_DONTWAIT)
    caller = pair.call(1)
    said = caller.say(signed(caller.greeting(), "status")).rest()
    assert said.startswith(b"ok "), (said, daemon.gone, daemon.heard)
    assert resident(daemon) - before < 2048


def resident(daemon: Daemon) -> int:
    """KiB of the listener's own memory."""
    return int(daemon.status("RssAnon").split()[0])


def test_every_client_of_a_crowd_is_refused_in_words(pair: Pair, daemon: Daemon) -> None:
    flood(pair, PLACES - 20)
    callers = [pair.call(1) for _ in range(10)]
    for caller in callers:
        caller.greeting()
        caller.say(b"wrong\nstatus\n")
    early = [pair.call(1).say(b"wrong\nstatus\n") for _ in range(5)]
    for caller in callers + early:
        assert caller.rest() == b"error refused\n"


# The child


def test_it_gives_up_root_and_reports(pair: Pair) -> None:
    daemon = pair.listen(plip_timer=0.6)
    daemon.wait_for("alive", 4)
    if not ROOTLESS:
        assert daemon.status("Uid").split() == ["65534"] * 4
    assert int(daemon.status("CapPrm"), 16) == 0 or ROOTLESS
    assert daemon.status("NoNewPrivs").strip() == "1"


def test_it_is_as_urgent_as_who_waits_for_its_answers(pair: Pair) -> None:
    daemon = pair.listen(realtime=True)
    pid = daemon.child.pid
    policy = os.sched_getscheduler(pid) & ~os.SCHED_RESET_ON_FORK
    if policy == os.SCHED_OTHER and any("REALTIME-FAILED" in line for line in daemon.logged()):
        pytest.skip("no real-time priority can be had here")
    assert policy == os.SCHED_FIFO


def test_it_sleeps_while_nothing_happens(pair: Pair, daemon: Daemon) -> None:
    pair.call(1).say(CLASSIC).rest()
    serve([daemon], lambda: bool(daemon.of("alive")))
    began, before = time.monotonic(), int(daemon.status("voluntary_ctxt_switches"))
    time.sleep(1.5)
    after, passed = int(daemon.status("voluntary_ctxt_switches")), time.monotonic() - began
    assert after - before <= 4 * passed / 1.5


def died(pair: Pair, **settings: Any) -> str:
    """What a listener that cannot begin says."""
    daemon = pair.start(**settings)
    serve([daemon], lambda: daemon.gone)
    assert not daemon.of("ready")
    return str(daemon.of("died")[0]["message"])


def test_what_is_wrong_at_the_start_is_said(pair: Pair) -> None:
    assert "no interface plip7" in died(pair, plip_interface="plip7")
    pair.port(0)
    message = died(pair)
    assert "1.0.0.1 port 2000" in message and "in use" in message and "$tcp_port" in message
    pair.secret.chmod(0o644)
    assert "chmod 600" in died(pair)


def test_an_address_may_come_later(pair: Pair) -> None:
    daemon = pair.listen(addresses=("1.0.0.7", "1.0.0.2"))
    daemon.answers = {"resume": (True, "standby")}
    pair.spaces[0].ip("address add 1.0.0.7/24 dev plip0")
    assert pair.call(1, to="1.0.0.7").say(CLASSIC).rest() == b"ok standby\n"


def test_a_successor_waits_for_what_is_missing(pair: Pair) -> None:
    pair.spaces[0].ip("link delete plip0")
    daemon = pair.listen(patient=True)
    daemon.answers = {"resume": (True, "standby")}
    pair.plug()
    serve([daemon], lambda: "PORT-OPEN interface plip0: listening" in daemon.logged())
    assert pair.call(1).say(CLASSIC).rest() == b"ok standby\n"


def test_one_interface_may_be_the_link_and_lo(pair: Pair) -> None:
    daemon = pair.listen(plip_interface="lo", addresses=("127.0.0.1", "127.0.0.2"))
    daemon.answers = {"fail": (True, "active")}
    for address, origin in (("127.0.0.1", "person"), ("127.0.0.2", "peer")):
        caller = pair.call(0, address, to="127.0.0.1")
        assert caller.say(signed(caller.greeting(), "fail")).rest().endswith(b" active\n")
        assert daemon.of("request")[-1]["origin"] == origin


# The link


def test_the_link_is_deleted_and_made_again(pair: Pair, daemon: Daemon) -> None:
    before = pair.call(1)
    before.greeting()
    pair.spaces[0].ip("link delete plip0")
    serve([daemon], lambda: LOCAL in daemon.logged())
    daemon.ask(1)
    assert daemon.wait_for("lost")[0]["sent"] is False
    pair.plug()
    serve([daemon], lambda: "PORT-OPEN interface plip0: listening" in daemon.logged())
    for side in (1, 0):
        assert pair.call(side).say(CLASSIC).rest() == b"ok standby\n"
    other = pair.listen(1)
    other.answers = {"status": (True, "{}")}
    daemon.ask(2)
    serve([daemon, other], lambda: bool(daemon.of("reply")))
    assert not daemon.of("reopen")


@pytest.mark.parametrize("side", [0, 1])
def test_own_commands_while_the_link_is_down(pair: Pair, daemon: Daemon, side: int) -> None:
    pair.spaces[side].ip("link set plip0 down")
    if side == 0:
        serve([daemon], lambda: LOCAL in daemon.logged())
    assert pair.call(0).say(CLASSIC).rest() == b"ok standby\n"
    daemon.ask(1, timeout=0.5)
    assert daemon.wait_for("lost")[0]["sent"] is False
    pair.spaces[side].ip("link set plip0 up")
    if side == 0:
        serve([daemon], lambda: "PORT-OPEN interface plip0: listening" in daemon.logged())
    assert pair.call(1).say(CLASSIC).rest() == b"ok standby\n"


def test_the_address_comes_and_goes(pair: Pair, daemon: Daemon) -> None:
    pair.spaces[0].ip("address del 1.0.0.1/24 dev plip0")
    daemon.ask(1)
    assert daemon.wait_for("lost")[0]["sent"] is False
    pair.spaces[0].ip("address add 1.0.0.1/24 dev plip0")
    assert pair.call(1).say(CLASSIC).rest() == b"ok standby\n"


@pytest.mark.skipif(ROOTLESS, reason="an id range that has no privileged ports needs root")
def test_what_only_root_may_open_is_left_to_a_successor(pair: Pair) -> None:
    daemon = pair.listen(tcp_port=200, plip_timer=0.3)
    pair.spaces[0].ip("link set plip0 down")
    daemon.wait_for("reopen")
    successor = pair.listen(tcp_port=200, patient=True)
    assert not successor.of("reopen")
    daemon.wait_for("alive", 2 + len(daemon.of("alive")))
    assert len(daemon.of("reopen")) == 1


# Queries


@pytest.mark.parametrize("addresses", [IPV4, IPV6], ids=["IPv4", "IPv6"])
def test_queries_between_two_listeners(pair: Pair, addresses: tuple[str, str]) -> None:
    here, there = (pair.listen(side, addresses=addresses, plain_secret=False) for side in (0, 1))
    there.answers = {"status": (True, '{"größe": 1}'), "resume": (False, "busy")}
    # A new IPv6 address is looked for elsewhere first, and a `resume` does not wait for that.
    here.ask(20, "status")
    serve([here, there], lambda: bool(here.of("reply")))
    for number in range(20):
        here.ask(number, ("status", "resume")[number % 2])
    serve([here, there], lambda: len(here.of("reply")) == 21)
    replies = {reply["id"]: (reply["ok"], reply["text"]) for reply in here.of("reply")}
    assert replies[0] == (True, '{"größe": 1}')
    assert replies[1] == (False, "busy")
    assert {str(request["origin"]) for request in there.of("request")} == {"peer"}


def lost(daemon: Daemon, number: int) -> tuple[bool, str]:
    """What came of a query that has no answer."""
    serve([daemon], lambda: any(each["id"] == number for each in daemon.of("lost")))
    assert not daemon.of("reply")
    (message,) = [each for each in daemon.of("lost") if each["id"] == number]
    return message["sent"] is True, str(message["why"])


def test_nothing_listens_there(pair: Pair, daemon: Daemon) -> None:
    daemon.ask(1)
    assert lost(daemon, 1) == (False, "1.0.0.2 port 2000 refuses the connection")


def test_the_secrets_differ(pair: Pair, daemon: Daemon) -> None:
    pair.secret.write_bytes(b"another\n")
    other = pair.listen(1)
    daemon.ask(1, "fail")
    serve([daemon, other], lambda: bool(daemon.of("lost")))
    assert lost(daemon, 1) == (True, "authentication failed: the secrets differ")
    assert str(daemon.of("lost")[0]["advice"]).startswith("copy the file of $secret")
    assert not other.of("request")


NONCE = "0" * 32


def said_to(connection: socket.socket, nonce: str = NONCE) -> str:
    """What is asked, with the challenge, by a line that is signed as it should be."""
    line = connection.recv(1000)
    command = line.decode().split(" ", 2)[2].rstrip("\n")
    assert line == signed(nonce, command)
    return command


def answer(asked: str, verdict: str, text: str) -> bytes:
    """A true answer to that."""
    signature = sign(f"{NONCE} {asked} {verdict} {text}")
    return f"{verdict} {signature} {text}\n".encode()


def greet(port: socket.socket, nonce: str = NONCE) -> socket.socket:
    """Take one connection and greet it like failoverd."""
    connection = port.accept()[0]
    connection.settimeout(LIMIT)
    connection.sendall(f"failoverd 1 {nonce}\n".encode())
    return connection


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"ok active\n", "not signed"),
        (b"error refused\n", "authentication failed"),
        (answer("resume", "ok", "active"), "not signed"),
        (answer("fail", "ok", "active"), "not signed"),  # without the challenge
        (b"", "without an answer"),
        (b"\0" * 70_000, "too long"),
    ],
)
def test_a_false_answer_is_a_lost_query(pair: Pair, line: bytes, why: str) -> None:
    daemon, port = pair.listen(), pair.port()
    daemon.ask(1, "fail")
    with greet(port) as connection:
        assert re.fullmatch("fail [0-9a-f]{32}", said_to(connection))
        with contextlib.suppress(ConnectionError):  # it may be closed before all is said
            connection.sendall(line)
    sent, reason = lost(daemon, 1)
    assert sent and why in reason


def test_a_true_answer_in_small_pieces(pair: Pair) -> None:
    daemon, port = pair.listen(), pair.port()
    daemon.ask(1, "fail")
    with greet(port) as connection:
        for byte in answer(said_to(connection), "ok", "active"):
            connection.sendall(bytes([byte]))
        daemon.wait_for("reply")
    reply = {"event": "reply", "id": 1, "ok": True, "text": "active", "path": "private"}
    assert daemon.of("reply") == [reply]


def test_an_answer_too_long_to_be_passed_on(pair: Pair) -> None:
    daemon, port = pair.listen(), pair.port()
    daemon.ask(1)
    text = '"' * 40_000
    with greet(port) as connection:
        connection.sendall(answer(said_to(connection), "ok", text))
        assert lost(daemon, 1) == (True, "its answer is too long")


def test_the_time_for_an_answer_is_up(pair: Pair) -> None:
    daemon, port = pair.listen(), pair.port()
    daemon.ask(1, "fail", timeout=4.0)  # in which it has to be sent
    with greet(port) as connection:
        said_to(connection)
        assert lost(daemon, 1) == (True, "1.0.0.2 port 2000 does not answer within 4 s")
    daemon.ask(2, "fail", timeout=0.3)
    with port.accept()[0]:  # this one is not greeted
        assert lost(daemon, 2) == (False, "1.0.0.2 port 2000 does not answer within 0.3 s")


def test_a_recorded_exchange_is_no_answer(pair: Pair) -> None:
    """Or who has listened for a while could be a dead peer: standby, then active."""
    here, there = pair.listen(), pair.listen(1)
    there.answers = {"status": (True, '{"role": "standby"}'), "fail": (True, "active")}
    asker = pair.call(0, to=IPV4[1])
    nonce = asker.greeting()
    recorded = asker.say(signed(nonce, "status")).rest()
    there.close()
    pair.daemons.remove(there)
    enemy = pair.port()
    here.ask(1)
    with greet(enemy, nonce) as connection:
        assert said_to(connection, nonce).startswith("status ")
        connection.sendall(recorded)
        assert lost(here, 1)[1] == "its answer is not signed with the shared secret"


def test_an_older_peer_that_knows_no_challenge(pair: Pair) -> None:
    here, port = pair.listen(), pair.port()
    for number, command in enumerate(("status", "fail")):
        here.ask(number, command)
        with greet(port) as connection:
            asked = said_to(connection)
            connection.sendall(answer(asked, "error", "unknown command"))
            with greet(port) as again:
                assert said_to(again) == command
                again.sendall(answer(command, "ok", "{}"))
                here.wait_for("reply", number + 1)
    assert [(reply["id"], reply["ok"]) for reply in here.of("reply")] == [(0, True), (1, True)]
    assert not here.of("lost")


def test_who_knows_no_command_at_all_is_not_asked_for_ever(pair: Pair) -> None:
    here, port = pair.listen(), pair.port()
    here.ask(1)
    for _ in range(2):
        with greet(port) as connection:
            connection.sendall(answer(said_to(connection), "error", "unknown command"))
    assert here.wait_for("reply")[0]["text"] == "unknown command"


def test_our_own_greeting_is_not_signed(pair: Pair, daemon: Daemon) -> None:
    """Or who sits on the link could make us obey ourselves."""
    port = pair.port()
    ours = pair.call(1).greeting()
    daemon.ask(1, "resume")
    with greet(port, ours) as connection:
        assert lost(daemon, 1) == (False, "it sent this node's own greeting back")
        assert connection.recv(1000) == b""


def test_not_endlessly_many_queries(pair: Pair, daemon: Daemon) -> None:
    pair.port()
    for number in range(65):
        daemon.ask(number)
    assert lost(daemon, 64) == (False, "too many queries are open")
