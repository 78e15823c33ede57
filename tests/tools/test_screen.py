"""watchd and ha-status on a real terminal."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asked_there import ha_status_there, is_now, write_conf
from inside import ONLY_OURS, frame, two_ends
from netns import PATH, Namespace
from samples import ACTIVE, STANDBY
from screen import LIMIT, Terminal, terminal
from watched_by_hand import by_hand, conf_file
from wire import Daemon, Pair, serve, two_nodes

from failoverd import conf
from failoverd.tools import table, watching, words
from failoverd.tools.nodes import Answer, Look
from failoverd.tools.screen import undisturbed
from failoverd.watch import watcher
from failoverd.wire.protocol import MAX_HELD, Change, Failure, Status

ROOT = Path(__file__).resolve().parent.parent.parent
WATCHD = [sys.executable, "-m", "failoverd.commands.watchd"]
HA_STATUS = [sys.executable, "-m", "failoverd.commands.ha_status"]
HERE = {"PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}
RED, GREEN = "\x1b[31m", "\x1b[32m"


@pytest.fixture
def spaces() -> Iterator[list[Namespace]]:
    with two_ends() as made:
        yield made


@pytest.fixture
def far(spaces: list[Namespace]) -> Iterator[socket.socket]:
    """Sends to eth0 of the first node."""
    with spaces[1].socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind(("far", 0))
        yield sock


# watchd


def test_ctrl_c_waits_until_a_picture_is_whole() -> None:
    before, drawn = signal.getsignal(signal.SIGINT), False
    with pytest.raises(KeyboardInterrupt), undisturbed():
        os.kill(os.getpid(), signal.SIGINT)
        drawn = True
    assert drawn and signal.getsignal(signal.SIGINT) is before


def test_a_line_a_window_and_a_live_line_below(
    spaces: list[Namespace], far: socket.socket, tmp_path: Path
) -> None:
    conf = conf_file(tmp_path, timer_seconds=1, packet_count=7, low_water=3, filter=ONLY_OURS)
    with terminal(spaces[0], tmp_path, [*WATCHD, "-c", conf, "eth0"], **HERE) as screen:
        screen.see("watching eth0: window 1 s or 7 packets, low_water 3")
        screen.see("time  verdict    packets   previous  reason")
        screen.see("s left  0 of 7 packets  0.0 packets/s")
        for _ in range(7):
            far.send(frame())
        screen.wait(
            lambda text: re.search(r"\d\d:\d\d:\d\d\.\d{3}  ok +7 +0  packet_count reached", text)
        )
        screen.see("boot", "first window")
        screen.wait(lambda text: re.search(r"fail +0 +\d  below low water", text))
        assert RED in screen.text(colours=True)
        lines = screen.text().rstrip().splitlines()
        assert "s left" in lines[-1] and sum("s left" in line for line in lines) == 1
        assert screen.cursor_is_shown()
        screen.press("C-c")
        text = screen.see("ended with 0")
    lines = text.rstrip().splitlines()
    whole = (
        r"eth0: [\d.]+ s",
        r"windows: \d+ ok, [1-9]\d* failed, \d+ late",
        r"packets: 7, \d+ dropped by the kernel",
        r"packets per window: min 0, avg \d\.\d, max 7",
    )
    for expected, line in zip(whole, lines[-5:-1], strict=True):
        assert re.fullmatch(expected, line), line
    assert "s left" not in text and "Traceback" not in text


def test_a_narrow_terminal_cuts_the_live_line(spaces: list[Namespace], tmp_path: Path) -> None:
    conf = conf_file(tmp_path, timer_seconds=0.5, filter=ONLY_OURS)
    with terminal(spaces[0], tmp_path, [*WATCHD, "-c", conf, "eth0"], **HERE) as screen:
        screen.see("s left")
        screen.resize(40, 30)
        screen.see("silent, but low_water is 0")
        text = screen.text()
        assert sum(line.startswith("eth0  [") for line in text.splitlines()) <= 2
        assert "packets/s" not in text.rstrip().splitlines()[-1]


def test_without_colours_if_it_is_told_so(spaces: list[Namespace], tmp_path: Path) -> None:
    conf = conf_file(tmp_path, timer_seconds=0.3, low_water=1, filter=ONLY_OURS)
    argv = [*WATCHD, "-c", conf, "eth0"]
    with terminal(spaces[0], tmp_path, argv, **HERE, NO_COLOR="1") as screen:
        screen.see("below low water", "s left")
        assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", screen.text(colours=True))


def test_a_terminal_that_can_nothing_gets_plain_lines(
    spaces: list[Namespace], tmp_path: Path
) -> None:
    conf = conf_file(tmp_path, timer_seconds=0.3, filter=ONLY_OURS)
    argv = [*WATCHD, "-c", conf, "eth0"]
    with terminal(spaces[0], tmp_path, argv, **HERE, TERM="dumb") as screen:
        assert "s left" not in screen.see("silent, but low_water is 0")


@contextmanager
def told(space: Namespace, *arguments: str) -> Iterator[Callable[[str], str]]:
    """watchd in a pipe: a function that waits for a word, and returns all that was said so far."""
    with by_hand(space, *arguments, stderr=subprocess.STDOUT) as watcher:
        assert watcher.stdout is not None
        stream = watcher.stdout.fileno()
        said = ""

        def wait(word: str) -> str:
            nonlocal said
            end = time.monotonic() + LIMIT
            while word not in said:
                assert select.select([stream], [], [], end - time.monotonic())[0], said
                said += os.read(stream, 4096).decode()
            return said

        yield wait


def test_it_says_that_only_our_own_packets_are_there(
    spaces: list[Namespace], tmp_path: Path
) -> None:
    for space, name in zip(spaces, ("eth0", "far"), strict=True):
        space.run("sh", "-c", f"echo 1 >/proc/sys/net/ipv6/conf/{name}/disable_ipv6")
    conf = conf_file(tmp_path, timer_seconds=6)  # three packets have to be sent in half of it
    with spaces[0].socket(socket.AF_PACKET, socket.SOCK_RAW) as ours:
        ours.bind(("eth0", 0))
        with told(spaces[0], "-c", conf, "eth0") as wait:
            assert "eth0 has no address" in wait("watching")
            for _ in range(3):
                ours.send(frame())
            said = wait("the other side")
    assert re.search(r"nothing received for \d+\.\d s, 3 packets sent: check the cable", said)


def test_it_says_that_what_comes_in_does_not_count(
    spaces: list[Namespace], far: socket.socket, tmp_path: Path
) -> None:
    conf = conf_file(tmp_path, timer_seconds=4, filter="udp port 9")
    with told(spaces[0], "-c", conf, "eth0") as wait:
        wait("watching")
        far.send(frame())
        assert re.search(r"\d+ packets? received, but \$filter", wait("rule them out"))


def test_it_says_that_no_heartbeat_comes(
    spaces: list[Namespace], far: socket.socket, tmp_path: Path
) -> None:
    path = tmp_path / "conf"
    secret = tmp_path / "secret"
    secret.write_text("open sesame\n")
    secret.chmod(0o600)
    path.write_text(
        "$plip_interface = 'eth0'; @interfaces = ('eth1'); $plip_timer = 3;\n"
        f"$secret = '{secret}';\n"
    )
    with told(spaces[0], "-c", str(path), "eth0") as wait:
        wait("watching")
        far.send(frame())
        assert "no heartbeat of the peer" in wait("with the same secret?")


def test_it_says_that_an_interface_is_promiscuous_or_down(
    spaces: list[Namespace], tmp_path: Path
) -> None:
    spaces[0].ip("link set eth0 promisc on", "link set eth0 down")
    with told(spaces[0], "-c", conf_file(tmp_path), "eth0") as wait:
        said = wait("watching")
    assert "eth0 is down: nothing is received" in said
    assert "eth0 is promiscuous: packets for others count too" in said


def test_it_says_that_an_interface_has_no_carrier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "link_state", lambda interface: "no-carrier")
    said = next(watching.odd_at_start(conf.Conf(), "eth0"))
    assert said == "eth0 has no carrier: nothing is received; check the cable and the switch port"


def test_rich_is_loaded_on_a_terminal_only(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from failoverd.commands import ha_status, watchd\n"
        "watchd.terminal_for(sys.stdout), ha_status.terminal_for(sys.stdout)\n"
        "sys.exit('rich' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=HERE, stdout=subprocess.PIPE, check=False
    )
    assert done.returncode == 0


def test_tuning_shows_how_far_it_is_and_ends_at_ctrl_c(
    spaces: list[Namespace], tmp_path: Path
) -> None:
    argv = [*WATCHD, "-c", conf_file(tmp_path), "--tune", "eth0"]
    with terminal(spaces[0], tmp_path, argv, **HERE) as screen:
        screen.wait(lambda text: re.search(r"(?m)^[1-9] of 300 s: \d+ packet", text))
        screen.press("C-c")
        text = screen.see("# eth0: cannot tell (dead interface found within 10 s", "ended with 3")
    assert "of 300 s" not in text


# ha-status


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with two_nodes(tmp_path) as made:
        yield made


def seen(pair: Pair, screen: Terminal, which: Callable[[str], object]) -> str:
    """The screen once it is so; the daemons serve meanwhile."""
    last = ""

    def check() -> bool:
        nonlocal last
        last = screen.text()
        return bool(which(last))

    serve(pair.daemons, check)
    return last


def is_whole(*words: str) -> Callable[[str], bool]:
    """That these are on the screen, and what is drawn last."""
    return lambda text: all(word in text for word in (*words, "Ctrl-C ends"))


def both(pair: Pair) -> tuple[Daemon, Daemon]:
    us, peer = pair.listen(0), pair.listen(1)
    is_now(us, ACTIVE)
    is_now(peer, STANDBY)
    return us, peer


def test_the_pair_at_a_glance_is_coloured(pair: Pair, tmp_path: Path) -> None:
    both(pair)
    argv = [*HA_STATUS, "-c", write_conf(pair, tmp_path)]
    with terminal(pair.spaces[0], tmp_path, argv, **HERE) as screen:
        text = seen(pair, screen, lambda text: "ended with 0" in text)
        coloured = screen.text(colours=True)
    lines = [line.split() for line in text.splitlines()]
    assert lines[0][:5] == ["OK:", "this", "node", "is", "active,"]
    assert ["role", "active", "standby"] in lines
    assert GREEN in coloured


def test_no_color_is_respected(pair: Pair, tmp_path: Path) -> None:
    us, _ = both(pair)
    is_now(us, replace(ACTIVE, role="failed"))
    argv = [*HA_STATUS, "-c", write_conf(pair, tmp_path)]
    with terminal(pair.spaces[0], tmp_path, argv, **HERE, NO_COLOR="1") as screen:
        text = seen(pair, screen, lambda text: "ended with 2" in text)
        assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", screen.text(colours=True))
    assert "CRITICAL: no node is known to be active: this node is failed" in text


def test_watching_the_pair(pair: Pair, tmp_path: Path) -> None:
    us, peer = both(pair)
    argv = [*HA_STATUS, "-c", write_conf(pair, tmp_path), "--watch"]
    with terminal(pair.spaces[0], tmp_path, argv, **HERE) as screen:
        text = seen(pair, screen, lambda text: "Ctrl-C ends" in text)
        assert "OK: this node is active" in text
        is_now(us, replace(STANDBY, role="switching"))
        is_now(peer, ACTIVE)
        text = seen(pair, screen, is_whole("1.0.0.2 is active, but"))
        assert text.count("interface eth0") == 1  # drawn over, not below
        assert "this node is switching" in text
        is_now(us, STANDBY)
        pair.spaces[0].ip("link set plip0 down")
        critical = "CRITICAL: no node is known to be active: this node is standby"
        text = seen(pair, screen, is_whole("no answer from the peer", critical))
        assert re.search(r"(?m)^next: \S", text)
        screen.press("C-c")
        text = seen(pair, screen, lambda text: "ended with 0" in text)
    assert "Traceback" not in text and text.count("interface eth0") == 1


def test_a_low_terminal_shows_what_to_do_all_the_same(pair: Pair, tmp_path: Path) -> None:
    _, peer = both(pair)
    is_now(peer, replace(STANDBY, role="failed"))
    argv = [*HA_STATUS, "-c", write_conf(pair, tmp_path), "--watch"]
    with terminal(pair.spaces[0], tmp_path, argv, **HERE) as screen:
        screen.resize(100, 9)
        text = seen(pair, screen, lambda text: "\n...\n" in text and "Ctrl-C ends" in text)
        assert text.startswith("WARNING: ") and re.search(r"(?m)^next: \S", text)
        assert "switch script" not in text
        screen.press("C-c")
        text = seen(pair, screen, lambda text: "ended with 0" in text)
    assert "switch script" in text, "what is left on the screen is whole"


def piped_watch(pair: Pair, conf: str, *more: str, count: int) -> list[str]:
    """So many lines of ha-status --watch in a pipe."""
    argv = pair.spaces[0].enter([*HA_STATUS, "-c", conf, "--watch", *more])
    lines: list[str] = []
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, env={**HERE, "PATH": PATH, "PYTHONUNBUFFERED": "1"}
    ) as program:
        assert program.stdout is not None
        os.set_blocking(program.stdout.fileno(), False)
        kept = b""

        def check() -> bool:
            nonlocal kept
            kept += program.stdout.read() or b""  # type: ignore[union-attr]
            return kept.count(b"\n") >= count

        try:
            serve(pair.daemons, check)
            program.send_signal(signal.SIGINT)
            assert program.wait(LIMIT) == 0
        finally:
            program.kill()
        lines = kept.decode().splitlines()
    return lines


def test_watching_through_a_pipe(pair: Pair, tmp_path: Path) -> None:
    both(pair)
    conf = write_conf(pair, tmp_path)
    first, second = (json.loads(line) for line in piped_watch(pair, conf, "--json", count=2)[:2])
    assert first == second and first["us"]["role"] == "active"
    lines = piped_watch(pair, conf, count=10)
    assert "this node is active" in lines[1] and "\x1b" not in "".join(lines)


def test_how_long_ago() -> None:
    cases = [
        (0.9, "less than 1 s"),
        (1.9, "1 s"),
        (59, "59 s"),
        (3600 * 3 + 60 * 12 + 5, "3 h 12 min"),
        (86_400, "1 day"),
    ]
    cases += [(90_000, "1 day 1 h"), (86_400 * 30 + 61, "30 days 1 min")]
    for seconds, text in cases:
        assert words.exact_span(seconds) == text
    spans = [
        (0.5, "0.5 s"),
        (100, "100 s"),
        (200, "3.33 min"),
        (86_400, "24 h"),
        (2.6e6, "30.1 days"),
    ]
    for length, text in spans:
        assert words.span(length) == text
    assert [words.duration(each) for each in (0.0042, 3.024)] == ["4.2 ms", "3.02 s"]


# The table of ha-status


def shown(us: Status | None, peer: Status | None, **more: Any) -> list[str]:
    look = Look(conf.Conf(), Answer(us, **more), Answer(peer))
    return table.plain(table.lines(look)).splitlines()


NAMED = replace(ACTIVE, host="node-a", peer_host="node-b", held=(("192.0.2.10/24", "eth0"),))
LONG_WORDS = replace(
    STANDBY,
    host="node-b",
    held=(),
    change=Change(ACTIVE.since, "active", "standby", "operator wants the peer to be active", 0.02),
    failure=Failure("master", 3, "no such file or directory: " + "x" * 60, "", ACTIVE.since, 5.0),
)


def test_the_table_has_no_more_than_eighty_columns() -> None:
    """However long what a node says is; only what is wrong may be longer, each on one line."""
    said = shown(NAMED, LONG_WORDS)
    end = next(at for at, line in enumerate(said) if line.startswith("next: "))
    assert all(len(line) <= 80 for line in said[1:end]) and end == len(said) - 1
    text = "\n".join(said)
    assert re.search(r"(?m)^ +node-a \(this node\) +node-b$", text)
    assert re.search(r"(?m)^role +active +standby$", text)
    assert re.search(r"(?m)^service address +192.0.2.10/24 on eth0 +none here$", text)
    assert re.search(r"(?m)^last change +- +active -> standby in 20 ms$", text)
    assert re.search(r"(?m)^failed script +- +master, exit 3, 5 s ago$", text)
    assert "no such file or" in text and "x" * 30 in text


def test_a_row_stands_where_it_is_on_either_node() -> None:
    other = replace(NAMED, path="second")
    one, turned = (
        [line[:16].strip() for line in shown(*statuses)[3:-2]]
        for statuses in ((other, STANDBY), (STANDBY, other))
    )
    assert one == turned and "peer answers ove" in one[:-2]


def test_of_many_addresses_the_first_are_shown() -> None:
    held = tuple((f"192.0.2.{n}/24", "eth0") for n in range(1, 20))
    for count, last in ((4, "192.0.2.4/24 on eth0"), (6, "and 2 more"), (MAX_HELD, "and more")):
        said = shown(replace(NAMED, held=held[:count]), None)
        at = next(at for at, line in enumerate(said) if line.startswith("service address"))
        rows = [line[:40].strip() for line in said[at : at + 5]]
        assert rows[0].endswith("192.0.2.1/24 on eth0") and last in rows, count


def test_a_node_that_does_not_answer_has_a_column_and_a_reason() -> None:
    said = shown(
        None, NAMED, trouble="failoverd is not running here", advice="start failoverd on this node"
    )
    assert re.fullmatch(r"role +unknown +active", said[3])
    assert said[-2:] == ["failoverd is not running here", "next: start failoverd on this node"]


def test_how_long_is_told_by_each_ones_own_clock(pair: Pair, tmp_path: Path) -> None:
    """One with a clock of its own, and one whose clock was set meanwhile."""
    us, peer = both(pair)
    is_now(us, replace(ACTIVE, now="2026-11-22T15:12:30.123Z"))
    is_now(peer, replace(STANDBY, now="1970-01-01T00:00:00.000Z", age=90_000.0))
    status, out, errors = ha_status_there(pair, write_conf(pair, tmp_path))
    assert re.search(r"(?m)^for +3 h 12 min +1 day 1 h$", out)
    found = re.search(r"the peer's clock is (\d+) days .* behind this node's: ", out)
    assert found and int(found[1]) > 20_000 and (status, errors) == (0, "")
