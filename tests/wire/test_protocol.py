"""The wire without a socket: both ends by examples, and by everything that could be sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import invariants
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from invariants import Port
from samples import ACTIVE as STATUS

from failoverd import process
from failoverd.conf.variables import MAX_CHECKS
from failoverd.links import MOST_FIXED
from failoverd.wire.protocol import (
    CHECK_STATES,
    CLIENT_LINE,
    MAX_COUNTERS,
    MAX_FIXED,
    MAX_HELD,
    MAX_INTERFACES,
    MAX_SETTING,
    MAX_SETTINGS,
    MAX_WATCHERS,
    REFUSED,
    SERVER_LINE,
    SERVICES,
    Change,
    CheckStatus,
    ClientConnection,
    Failure,
    Hold,
    InterfaceStatus,
    NoAnswer,
    Refused,
    Reply,
    Request,
    Send,
    ServerConnection,
    Status,
    encode_status,
    host,
    is_command,
    parse_status,
    words,
)

NONCE = "0123456789abcdef0123456789abcdef"
SECRET = b"open sesame"


def sign(message: str, secret: bytes = SECRET) -> str:
    return invariants.sign(secret, message)


def server(plain: bool = True) -> ServerConnection:
    return ServerConnection(NONCE, SECRET, plain)


def signed(command: str, secret: bytes = SECRET, nonce: str = NONCE) -> bytes:
    return f"hmac {sign(f'{nonce} {command}', secret)} {command}\n".encode()


def test_the_greeting() -> None:
    assert server().greeting() == f"failoverd 1 {NONCE}\n".encode()


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("command", ["status", "fail", "resume", "hold 90", "dance", "", "status "])
def test_a_person_says_the_word_then_the_command(command: str, end: bytes) -> None:
    connection = server()
    assert connection.feed(SECRET + end) == []
    assert connection.feed(command.encode() + end) == [Request(command, by_hmac=False)]
    assert connection.answer(True, "active") == b"ok active\n"
    assert connection.answer(False, "busy") == b"error busy\n"


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("command", ["status", "fail", "dance", "a b  c"])
def test_a_node_signs_and_gets_a_signed_answer(command: str, plain: bool) -> None:
    connection = server(plain)
    assert connection.feed(signed(command)) == [Request(command, by_hmac=True)]
    expected = f"ok {sign(f'{NONCE} {command} ok active')} active\n"
    assert connection.answer(True, "active") == expected.encode()
    expected = f"error {sign(f'{NONCE} {command} error unknown command')} unknown command\n"
    assert connection.answer(False, "unknown command") == expected.encode()


REFUSALS = {
    "wrong word": b"open\nstatus\n",
    "no word": b"\nstatus\n",
    "word in the wrong case": b"OPEN SESAME\nstatus\n",
    "word with a blank": SECRET + b" \nstatus\n",
    "start of the word": SECRET[:-1] + b"\nstatus\n",
    "signed with another secret": signed("status", b"other"),
    "signed for another connection": signed("status", nonce=NONCE[::-1]),
    "signed for another command": signed("status").replace(b"status", b"fail"),
    "signature in capitals": b"hmac " + signed("status")[5:].upper(),
    "no signature": b"hmac status\n",
    "empty signature": b"hmac  status\n",
    "signature that is not ASCII": "hmac \u00e9 status\n".encode(),
    "only hmac": b"hmac \n",
    "long line": b"x" * (CLIENT_LINE + 1) + b"\n",
    "line without an end": b"x" * (CLIENT_LINE + 2),
    "long command": SECRET + b"\n" + b"x" * (CLIENT_LINE + 1) + b"\n",
    "NUL": b"\0\n",
    "not UTF-8": b"\xff\xfe\n",
    "binary command": SECRET + b"\nstatus\0\n",
    "tab": SECRET + b"\t\nstatus\n",
    "second carriage return": SECRET + b"\r\r\nstatus\n",
}


@pytest.mark.parametrize("data", REFUSALS.values(), ids=REFUSALS)
def test_refused(data: bytes) -> None:
    connection = server()
    assert connection.feed(data) == [Refused()]
    assert connection.feed(SECRET + b"\nstatus\n" + signed("status")) == []
    assert connection.end() == []
    with pytest.raises(ValueError, match="no request"):
        connection.answer(True, "")


def test_without_plain_secret_the_right_word_is_a_wrong_one() -> None:
    connection = server(plain=False)
    assert connection.feed(SECRET + b"\n") == []
    assert connection.feed(b"status\n") == [Refused()]


@pytest.mark.parametrize("word", [SECRET, b"wrong"])
def test_a_word_alone_is_answered_like_any_other(word: bytes) -> None:
    for ending in (b"", b"\n"):
        connection = server()
        assert connection.feed(word + ending) == []
        assert connection.end() == [Refused()]


def test_the_longest_lines() -> None:
    word = b"w" * CLIENT_LINE
    for end in (b"\n", b"\r\n"):
        connection = ServerConnection(NONCE, word, True)
        command = "c" * CLIENT_LINE
        assert connection.feed(word + end + command.encode() + end) == [Request(command, False)]


def test_only_the_first_request_counts() -> None:
    assert server().feed(SECRET + b"\nstatus\nfail\n") == [Request("status", False)]
    assert server().feed(signed("status") + signed("fail")) == [Request("status", True)]


def test_an_empty_secret_is_no_secret() -> None:
    with pytest.raises(ValueError, match="empty secret"):
        ServerConnection(NONCE, b"", True)


@pytest.mark.parametrize("request_", [SECRET + b"\nstatus\n", signed("status")])
def test_an_answer_is_one_line_within_bounds(request_: bytes) -> None:
    connection = server()
    connection.feed(request_)
    for text in ("a\nb\r\0c", "é" * SERVER_LINE, "\ud800", "x" * (SERVER_LINE - 3)):
        line = connection.answer(True, text)
        assert len(line) <= SERVER_LINE
        assert line.endswith(b"\n") and line.count(b"\n") == 1
        line.decode()


# However it is cut into pieces the outcome is the same

lines = st.one_of(
    st.binary(max_size=300),
    st.sampled_from([*REFUSALS.values(), SECRET + b"\n", SECRET + b"\r\n", b"status\n", b"\r"]),
    st.sampled_from([b"hmac ", signed("fail"), b"x" * 255, b"x" * 256, b"x" * 257, b"\n"]),
)
requests = st.lists(lines, max_size=6).map(b"".join)


@given(requests, st.lists(st.integers(0, 1500), max_size=8), st.booleans())
@example(b"x" * 256 + b"\r\n" + b"y" * 256 + b"\r\n", [], True)
@example(b"x" * 256 + b"\r\r\n", [257], True)
def test_whole_or_in_pieces(data: bytes, cuts: list[int], plain: bool) -> None:
    invariants.served(data, cuts, Port(NONCE, SECRET, plain))


@given(st.text(), st.booleans())
@example("\ud800" * 30000 + "\n", True)
def test_any_answer_is_read(text: str, ok: bool) -> None:
    invariants.answered(text, ok, Port(NONCE, SECRET))


# The client's end


def client(command: str = "status") -> ClientConnection:
    return ClientConnection(SECRET, command)


def answer_line(verdict: str, text: str, command: str = "status") -> bytes:
    return f"{verdict} {sign(f'{NONCE} {command} {verdict} {text}')} {text}\n".encode()


@pytest.mark.parametrize("command", ["status", "hold", "hold 1", "hold 999999999", "release"])
def test_a_challenge_behind_a_command_is_none_of_its_words(command: str) -> None:
    for challenge in ("0" * 32, "9" * 32, "f" * 32):
        connection = server()
        said = connection.feed(signed(f"{command} {challenge}"))
        assert said == [Request(command, by_hmac=True)] and is_command(command)


def test_what_is_no_command() -> None:
    for text in ("", "hold ", "hold 0", "hold -1", "hold 1.5", "hold 1h", "hold 1234567890",
                 "release 9", "fail 9", "holding", "hold\n", "hold \u0664"):  # fmt: skip
        assert not is_command(text), text


@pytest.mark.parametrize("command", ["status", "fail", "resume", "hold", "hold 90", "release"])
@pytest.mark.parametrize("ok", [True, False])
def test_both_ends_together(command: str, ok: bool) -> None:
    here, there = client(command), server(plain=False)
    (send,) = here.feed(there.greeting())
    assert isinstance(send, Send)
    assert there.feed(send.data) == [Request(command, by_hmac=True)]
    assert here.feed(there.answer(ok, "größer")) == [Reply(ok, "größer")]
    assert here.feed(b"more") == here.end() == []


def test_the_client_takes_carriage_returns_and_empty_texts() -> None:
    connection = client()
    connection.feed(server().greeting().replace(b"\n", b"\r\n"))
    assert connection.feed(answer_line("ok", "").replace(b"\n", b"\r\n")) == [Reply(True, "")]


def test_no_recorded_answer_is_good_for_a_challenge() -> None:
    """Who has recorded an exchange can greet with its nonce, and answer as it was answered then."""
    port = server()
    recorded = ClientConnection(SECRET, "fail", challenge="0" * 32)
    (line,) = recorded.feed(port.greeting())
    assert isinstance(line, Send)
    assert line.data.endswith(b" fail " + b"0" * 32 + b"\n")
    assert port.feed(line.data) == [Request("fail", True)]
    answer = port.answer(True, "active")
    assert recorded.feed(answer) == [Reply(True, "active")]
    for challenge in ("1" * 32, ""):
        later = ClientConnection(SECRET, "fail", challenge=challenge)
        assert isinstance(later.feed(port.greeting())[0], Send)
        assert isinstance(later.feed(answer)[0], NoAnswer)


@pytest.mark.parametrize("challenge", ["0" * 31, "0" * 33, "g" * 32, "A" * 32, "0" * 32 + " "])
def test_what_is_no_challenge_makes_an_unknown_command(challenge: str) -> None:
    command = f"fail {challenge}"
    line = f"hmac {sign(f'{NONCE} {command}')} {command}\n".encode()
    assert server().feed(line) == [Request(command, True)]


@pytest.mark.parametrize(
    "line",
    [
        b"ok active\n",
        b"ok\n",
        b"\n",
        answer_line("ok", "active", command="fail"),
        answer_line("ok", "active").replace(b"active", b"failed"),
        answer_line("error", "busy").replace(b"error", b"ok"),
        answer_line("fine", "active"),
        b"ok " + sign(f"{NONCE} status ok x", b"other").encode() + b" x\n",
        b"ok \xc3\xa9 active\n",
        b"\xff\n",
        b"x" * (SERVER_LINE + 1),
    ],
)
def test_what_is_not_signed_is_no_answer(line: bytes) -> None:
    connection = client()
    connection.feed(server().greeting())
    (event,) = connection.feed(line)
    assert isinstance(event, NoAnswer) and not event.refused
    assert connection.feed(answer_line("ok", "active")) == []


def test_the_client_knows_that_it_was_refused() -> None:
    connection = client()
    connection.feed(server().greeting())
    (event,) = connection.feed(REFUSED)
    assert isinstance(event, NoAnswer) and event.refused


@pytest.mark.parametrize(
    "greeting",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"failoverd 2 " + NONCE.encode() + b"\n",
        b"failoverd 1 " + NONCE[:-1].encode() + b"\n",
        b"failoverd 1 " + NONCE.encode() + b" status\n",
        b"failoverd 1 " + NONCE.upper().encode() + b"\n",
        b"\0" * SERVER_LINE,
    ],
)
def test_nothing_is_signed_for_who_does_not_greet(greeting: bytes) -> None:
    (event,) = client().feed(greeting)
    assert isinstance(event, NoAnswer)


def test_our_own_greeting_handed_back_is_not_signed() -> None:
    (event,) = ClientConnection(SECRET, "fail", {NONCE}).feed(server().greeting())
    assert isinstance(event, NoAnswer)


def test_a_closed_connection_is_no_answer() -> None:
    for data in (b"", server().greeting(), server().greeting() + b"ok "):
        connection = client()
        connection.feed(data)
        (event,) = connection.end()
        assert isinstance(event, NoAnswer)


answers = st.lists(
    st.one_of(
        st.binary(max_size=100),
        st.sampled_from([server().greeting(), answer_line("ok", "x"), REFUSED, b"\r", b"\n"]),
        st.sampled_from([b"x" * (SERVER_LINE - 1), b"x" * (SERVER_LINE - 2)]),
    ),
    max_size=5,
).map(b"".join)


@given(answers, st.lists(st.integers(0, 70000), max_size=8))
@example(server().greeting() + b"x" * (SERVER_LINE - 1) + b"\r\n", [SERVER_LINE + 44 + 1])
def test_the_client_too_whole_or_in_pieces(data: bytes, cuts: list[int]) -> None:
    invariants.asked(data, cuts, Port(NONCE, SECRET), "status", frozenset())


# The status


def test_the_form_of_section_6() -> None:
    assert json.loads(encode_status(STATUS)) == {
        "role": "active",
        "boot": "master",
        "since": "2026-11-22T12:00:00.123Z",
        "version": "2.0.0",
        "interfaces": {
            "eth0": {"state": "ok", "packets": 12, "last": 40, "hwaddr": "02:00:00:00:00:01"}
        },
        "plip": {"state": "ok", "heartbeat_age": 0.4, "rtt_ms": 0.2},
        "switch": {"last": "master", "exit": 0, "seconds": 0.006},
    }
    assert "\n" not in encode_status(STATUS)


short = st.text("aé 0.", max_size=MAX_SETTING)
statuses = st.builds(
    Status,
    role=st.sampled_from(["active", "standby", "switching", "failed"]),
    boot=st.sampled_from(["master", "slave"]),
    since=st.sampled_from(["2026-11-22T12:00:00.123Z", "1999-01-01T00:00:00Z"]),
    version=st.just("2.0.0"),
    interfaces=st.dictionaries(
        st.sampled_from(["eth0", "eth0.1", "br-lan", "größe", "a" * 15]),
        st.builds(
            InterfaceStatus,
            st.sampled_from(["boot", "ok", "silent", "fail", "down"]),
            st.integers(0, 2**40),
            st.integers(0, 2**40),
            st.sampled_from(["", "02:00:00:00:00:01"]),
            st.sampled_from([(), ("192.0.2.1/24", "2001:db8::1/64", "fe80::1/64")]),
        ),
    ).map(lambda known: tuple(known.items())),
    plip_state=st.sampled_from(["boot", "ok", "silent", "fail", "down"]),
    heartbeat_age=st.none() | st.floats(0, 1e6),
    rtt_ms=st.none() | st.floats(0, 1e6),
    switch_last=st.sampled_from([None, "master", "slave"]),
    switch_exit=st.none() | st.integers(-64, 255),
    switch_seconds=st.none() | st.floats(0, 1e6),
    rejoining=st.booleans(),
    settings=st.dictionaries(
        st.sampled_from(["$low_water", "@addresses", "$new"]),
        st.text("aé 0.", max_size=MAX_SETTING),
        max_size=3,
    ).map(lambda known: tuple(known.items())),
    host=st.sampled_from(["", "node-a", "node-a.example.org"]),
    now=st.sampled_from(["", "2026-11-22T12:00:00.123Z"]),
    age=st.none() | st.floats(0, 1e6),
    service=st.sampled_from(["", *SERVICES]),
    claimed=st.booleans(),
    blocked=short,
    switch_why=short,
    failure=st.none()
    | st.builds(
        Failure,
        st.sampled_from(["master", "slave"]),
        st.integers(-64, 255),
        short,
        short,
        st.just("2026-11-22T12:00:00.123Z"),
        st.floats(0, 1e6),
    ),
    watchers=st.dictionaries(
        st.sampled_from(["eth0", "plip0"]), st.text("aé 0.", max_size=MAX_SETTING), max_size=2
    ).map(lambda known: tuple(known.items())),
    peer_host=st.sampled_from(["", "node-b"]),
    held=st.none()
    | st.dictionaries(
        st.sampled_from(["192.0.2.10/24", "2001:db8::10/64"]), st.sampled_from(["eth0", "eth1"])
    ).map(lambda known: tuple(known.items())),
    change=st.none()
    | st.builds(
        Change,
        st.just("2026-11-22T12:00:00.123Z"),
        st.sampled_from(["none", "standby", "failed"]),
        st.sampled_from(["active", "standby"]),
        short,
        st.floats(0, 1e6),
    ),
    checks=st.dictionaries(
        st.sampled_from(["web", "db"]),
        st.builds(
            CheckStatus,
            st.sampled_from(CHECK_STATES),
            st.just("2026-11-22T12:00:00.123Z"),
            short,
        ),
    ).map(lambda known: tuple(known.items())),
    hold=st.none()
    | st.builds(
        Hold,
        st.integers(0, 2**40),
        st.booleans(),
        st.none() | st.floats(0, 1e6),
        short,
        st.sampled_from(["", "node-b"]),
        st.just("2026-11-22T12:00:00.123Z"),
    ),
)


@given(statuses)
def test_what_is_told_is_understood(status: Status) -> None:
    assert parse_status(encode_status(status)) == status
    invariants.status_text(encode_status(status))


def test_what_a_newer_peer_adds_is_left_out() -> None:
    tree = json.loads(encode_status(STATUS))
    tree["mood"] = ["good"]
    tree["interfaces"]["eth0"]["colour"] = {"red": 1}
    assert parse_status(json.dumps(tree)) == STATUS


def test_checks_are_told_where_there_are_any() -> None:
    bad = CheckStatus("bad", STATUS.since, "refused")
    told = replace(STATUS, checks=(("web", bad), ("db", replace(bad, state="unknown", output=""))))
    tree = json.loads(encode_status(told))
    assert tree["checks"]["web"] == {"state": "bad", "since": STATUS.since, "output": "refused"}
    assert set(tree["checks"]["db"]) == {"state", "since", "output"}
    assert "checks" not in json.loads(encode_status(STATUS)), "as older ones tell it"
    for wrong in ({"web": {"state": "good"}}, {"a b": tree["checks"]["db"]}, ["web"], {"web": 1}):
        assert parse_status(json.dumps({**tree, "checks": wrong})) is None


def test_what_must_be_alike_is_told_in_bounds() -> None:
    told = replace(STATUS, settings=(("$low_water", "1"), ("@addresses", "")))
    tree = json.loads(encode_status(told))
    assert tree["settings"] == {"$low_water": "1", "@addresses": ""}
    assert "settings" not in json.loads(encode_status(STATUS)), "as older ones tell it"
    wrong: list[Any] = [None, [], 1, {"low_water": "1"}, {"$LOW": "1"}, {"$a" * 20: "1"}]
    wrong += [
        {"$a": value} for value in (1, None, ["1"], "a\nb", "\x1b[2J", "x" * (MAX_SETTING + 1))
    ]
    wrong.append({f"${'a' * (n // 26)}{chr(97 + n % 26)}": "" for n in range(MAX_SETTINGS + 1)})
    for settings in wrong:
        assert parse_status(json.dumps({**tree, "settings": settings})) is None, settings


def test_own_addresses_are_told_in_bounds() -> None:
    tree = json.loads(encode_status(STATUS))

    def fixed(told: Any) -> Status | None:
        tree["interfaces"]["eth0"]["fixed"] = told
        return parse_status(json.dumps(tree))

    known = fixed(["192.0.2.1/24", "2001:DB8:0::1/64"])
    assert known is not None
    assert dict(known.interfaces)["eth0"].fixed == ("192.0.2.1/24", "2001:db8::1/64")
    assert fixed([f"192.0.2.{n}/24" for n in range(1, MAX_FIXED + 1)]) is not None
    assert fixed([f"192.0.2.{n}/24" for n in range(1, MAX_FIXED + 2)]) is None
    wrong: list[Any] = [None, "192.0.2.1/24", {"192.0.2.1/24": 1}, 1]
    wrong += [[one] for one in (1, None, True, ["192.0.2.1/24"], "", "eth0", "192.0.2.1/33")]
    wrong += [["fe80::1%eth0/64"], ["0.0.0.0/24"], ["224.0.0.1/24"], ["127.0.0.1/8"], ["::/64"]]
    wrong += [["ff02::1/64"], ["::1/128"], ["192.0.2.1/24\n"], ["192.0.2.1/" + "2" * 99]]
    for told in wrong:
        assert fixed(told) is None, told


def put(*path: str) -> Callable[[Any], str]:
    """A status whose value at path is another one."""
    failure = Failure("master", 1, "", "", "2026-11-22T12:00:00.123Z", 1.0)
    moved = Change("2026-11-22T12:00:00.123Z", "standby", "active", "boot", 1.0)
    hold = Hold(7, True, 90.0, "root", "node-a", "2026-11-22T12:00:00.123Z")

    def change(value: Any) -> str:
        tree = json.loads(encode_status(replace(STATUS, failure=failure, change=moved, hold=hold)))
        place = tree
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        return json.dumps(tree)

    return change


@pytest.mark.parametrize(
    "path",
    [
        ("role",),
        ("boot",),
        ("since",),
        ("version",),
        ("interfaces",),
        ("interfaces", "eth0"),
        ("interfaces", "eth0", "state"),
        ("interfaces", "eth0", "packets"),
        ("interfaces", "eth0", "last"),
        ("interfaces", "eth0", "hwaddr"),
        ("plip",),
        ("plip", "state"),
        ("plip", "heartbeat_age"),
        ("plip", "rtt_ms"),
        ("switch",),
        ("switch", "last"),
        ("switch", "exit"),
        ("switch", "seconds"),
        ("switch", "why"),
        ("host",),
        ("now",),
        ("age",),
        ("service",),
        ("blocked",),
        ("failure",),
        ("failure", "role"),
        ("failure", "exit"),
        ("failure", "line"),
        ("failure", "why"),
        ("failure", "when"),
        ("failure", "age"),
        ("peer_host",),
        ("change",),
        ("change", "when"),
        ("change", "was"),
        ("change", "role"),
        ("change", "cause"),
        ("change", "took"),
        ("hold",),
        ("hold", "serial"),
        ("hold", "seconds_left"),
        ("hold", "by"),
        ("hold", "node"),
        ("hold", "since"),
    ],
    ids="/".join,
)
def test_a_value_of_the_wrong_kind_spoils_it(path: tuple[str, ...]) -> None:
    wrong: list[Any] = [True, [], [1], "Active", "x\n", float("nan"), float("inf"), -1000, 1e300]
    wrong += [10**400, "1", {"a": {}}, "x" * 1000]
    texts = ("version", "host", "blocked", "line", "why", "peer_host", "cause", "by", "node")
    for value in wrong:
        if path[-1] in texts and value in ("Active", "1"):
            continue
        assert parse_status(put(*path)(value)) is None, value


def test_whole_numbers_are_whole() -> None:
    assert parse_status(put("interfaces", "eth0", "packets")(1.5)) is None
    assert parse_status(put("interfaces", "eth0", "packets")(-1)) is None
    assert parse_status(put("switch", "exit")(0.0)) is None
    told = parse_status(put("plip", "rtt_ms")(1))
    assert told is not None and told.rtt_ms == 1.0


@pytest.mark.parametrize(
    ("name", "told"),
    [("node-a", "node-a"), ("A.b_c.example", "A.b_c.example"), ("", ""), ("-a", ""), ("a b", "")],
)
def test_a_host_without_a_proper_name_has_none(name: str, told: str) -> None:
    assert host(name) == told
    status = replace(STATUS, host=host(name))
    assert parse_status(encode_status(status)) == status


def test_what_a_script_printed_is_told_on_one_short_line() -> None:
    said = words("no\tfile\x1b[2J\n" + "x" * 500)
    assert said.startswith("no file [2J x") and len(said) == MAX_SETTING


def test_of_what_is_wrong_with_watchers_so_much_is_told_as_is_understood() -> None:
    wrong = tuple((f"eth{n}", "x" * (MAX_SETTING + 1)) for n in range(MAX_WATCHERS + 1))
    told = parse_status(encode_status(replace(STATUS, watchers=wrong)))
    assert told is not None
    assert told.watchers == tuple((f"eth{n}", "x" * MAX_SETTING) for n in range(MAX_WATCHERS))
    tree = json.loads(encode_status(STATUS))
    assert "watchers" not in tree
    many = {f"eth{n}": "" for n in range(MAX_SETTINGS + 1)}
    wrong_ones: list[object] = [[], {"eth0": 1}, {"eth0": "\x1b[2J"}, {"a b": ""}, many]
    for odd in wrong_ones:
        assert parse_status(json.dumps({**tree, "watchers": odd})) is None, odd


def test_of_the_service_addresses_so_many_are_told_as_are_understood() -> None:
    held = tuple((f"192.0.2.{n}/24", "eth0") for n in range(1, MAX_HELD + 3))
    odd = ("192.0.2.99/24", "\udcff")
    told = parse_status(encode_status(replace(STATUS, held=(odd, *held))))
    assert told is not None and told.held == held[:MAX_HELD]
    tree = json.loads(encode_status(STATUS))
    assert "held" not in tree and "change" not in tree, "as older ones tell it"
    many = dict(held)
    wrong: list[object] = [[], {"eth0": "eth0"}, {"192.0.2.1/24": 1}, many]
    wrong += [{"192.0.2.1/24": "a b"}, {"fe80::1%eth0/64": "eth0"}]
    for told_so in wrong:
        assert parse_status(json.dumps({**tree, "held": told_so})) is None, told_so


@pytest.mark.parametrize("name", ["", "a" * 16, "a b", "a/b", "a:b", "\x1b[2J", "ö" * 8, "\ud800"])
def test_an_interface_has_a_name_that_a_terminal_can_show(name: str) -> None:
    tree = json.loads(encode_status(STATUS))
    tree["interfaces"][name] = tree["interfaces"]["eth0"]
    assert parse_status(json.dumps(tree)) is None


def test_there_are_not_endlessly_many_interfaces() -> None:
    longest = ("2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff/120",) * MOST_FIXED
    one = InterfaceStatus("ok", 2**40, 2**40, "02:00:00:00:00:01", longest)
    many = tuple((f"interface{n:06}", one) for n in range(MAX_INTERFACES))
    text = encode_status(replace(STATUS, interfaces=many))
    assert parse_status(text) is not None and len(text) < SERVER_LINE
    many += (("eth0", one),)
    assert parse_status(encode_status(replace(STATUS, interfaces=many))) is None


@pytest.mark.parametrize("output", ["\N{GRINNING FACE}", "\N{REPLACEMENT CHARACTER}", "x"])
def test_what_checks_print_does_not_keep_a_status_from_the_peer(output: str) -> None:
    """Their garbage takes up to twelve bytes a character, and the status is told all the same."""
    one = CheckStatus("bad", "2026-11-22T12:00:00.123Z", output * MAX_SETTING)
    checks = tuple((f"check-with-a-long-name-{n:08}", one) for n in range(MAX_CHECKS))
    text = encode_status(replace(STATUS, checks=checks))
    assert len(json.dumps(text)) < process.MAX_MESSAGE - 500, "a message to the listener"
    told = parse_status(text)
    assert told is not None and [name for name, _ in told.checks] == [name for name, _ in checks]
    assert all(each.is_bad for _, each in told.checks)
    assert (told.checks != checks) is (output == "\N{GRINNING FACE}")


def test_what_only_this_node_is_told_is_left_out_of_a_status_that_is_too_long() -> None:
    counters = tuple((f'windows_total{{interface="eth{n}"}}', 2**40) for n in range(MAX_COUNTERS))
    longest = ("2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff/120",) * MOST_FIXED
    eth = InterfaceStatus("ok", 2**40, 2**40, "02:00:00:00:00:01", longest)
    many = tuple((f"interface{n:06}", eth) for n in range(MAX_INTERFACES))
    status = replace(STATUS, interfaces=many, explained=("x" * MAX_SETTING,) * 8)
    assert parse_status(encode_status(replace(status, counters=counters))) == replace(
        status, explained=()
    )
    assert parse_status(encode_status(status)) == status


@pytest.mark.parametrize("key", ["role", "boot", "since", "version", "interfaces", "plip"])
def test_nothing_may_be_missing(key: str) -> None:
    tree = json.loads(encode_status(STATUS))
    del tree[key]
    assert parse_status(json.dumps(tree)) is None
    tree = json.loads(encode_status(STATUS))
    for part in ("plip", "switch"):
        for inner in list(tree[part]):
            value = tree[part].pop(inner)
            assert parse_status(json.dumps(tree)) is None
            tree[part][inner] = value


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=20,
)


@given(st.text() | json_values.map(json.dumps))
@example("[" * 100_000)
@example('{"a":' * 100_000)
@example("1" * 5000)
def test_garbage_is_no_status(text: str) -> None:
    assert parse_status(text) is None


@given(st.data())
def test_a_damaged_status_never_raises(data: st.DataObject) -> None:
    text = encode_status(STATUS)
    where = data.draw(st.integers(0, len(text)))
    cut = data.draw(st.integers(0, 20))
    parse_status(text[:where] + data.draw(st.text(max_size=5)) + text[where + cut :])
