"""What lies in examples/: the scripts are sound, and do what their first lines say."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.lab.spaces import ROOT

EXAMPLES = ROOT / "examples"
SCRIPTS = sorted([*EXAMPLES.glob("switch.d/*"), *EXAMPLES.glob("notify/*")])
CASES = [(when, role) for when in ("before", "after") for role in ("master", "slave")]
LONG = 60.0
Started = subprocess.Popen[bytes]
TEXT = 'peer 1.0.0.2: no heartbeat; link="plip0" <5s> & \\ more'  # all that must be escaped


def name(path: Path) -> str:
    return str(path.relative_to(EXAMPLES))


@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_scripts_are_sound(path: Path) -> None:
    text = path.read_text()
    assert text.startswith(f"#!/bin/sh\n# {path.name}: ")
    assert "# Needs: " in text and f"install -D -m 755 {path.name} /" in text
    assert os.access(path, os.X_OK)
    assert re.fullmatch("[A-Za-z0-9_-]+", path.name), "run-parts would skip it"
    subprocess.run([shutil.which("dash") or "sh", "-n", path], check=True, timeout=LONG)
    if shutil.which("shellcheck") is None:
        pytest.skip("there is no shellcheck: install shellcheck")
    words = ("shellcheck", "--shell=sh", str(path))
    done = subprocess.run(words, capture_output=True, text=True, timeout=LONG, check=False)
    assert done.returncode == 0, done.stdout


def test_each_is_named_in_the_manual() -> None:
    manual = "".join(
        (ROOT / "man" / page).read_text() for page in ("ha-switch.8", "failoverd.conf.5")
    )
    for path in EXAMPLES.glob("switch.d/*"):
        assert f".It Pa {path.name}\n" in manual
    for path in EXAMPLES.glob("notify/*"):
        assert path.name in manual.lower()


def test_the_package_brings_them() -> None:
    """And what its scripts are for is said in it, too."""
    assert (ROOT / "debian/failoverd.examples").read_text() == "examples/*\n"
    (copied,) = re.findall(
        r"(?m)^tar -cf - (.*?) \|", (ROOT / "dev/package").read_text(), re.DOTALL
    )
    assert "examples" in copied.split(), "it is built from a copy that has them"


# ------------------------------------------------------------------ against what notes its calls


class Here:
    """A folder of programs that only note how they are called, and examples changed to use it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        self.calls = folder / "calls"

    def program(self, name: str, script: str = "") -> None:
        path = self.folder / "bin" / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.calls}\n{script}\n')
        path.chmod(0o755)

    def start(self, script: str, *arguments: str, called: str = "", **names: str) -> Started:
        """Start an example, with other values for the names at its top."""
        text = (EXAMPLES / script).read_text()
        for each, value in names.items():
            text, count = re.subn(rf"(?m)^{each}=.*$", f"{each}={value}", text)
            assert count == 1, each
        path = self.folder / (called or Path(script).name)
        path.write_text(text)
        path.chmod(0o755)
        env = {"PATH": f"{self.folder}/bin:/usr/bin:/bin", "FAILOVER_ROLE": "active", "LC_ALL": "C"}
        return subprocess.Popen([path, *arguments], env=env)

    def run(self, script: str, *arguments: str, **options: str) -> int:
        """The exit status of an example."""
        with self.start(script, *arguments, **options) as process:
            return process.wait(LONG)

    def called(self) -> list[str]:
        """The calls since the last time."""
        found = self.calls.read_text().splitlines() if self.calls.exists() else []
        self.calls.unlink(missing_ok=True)
        return found


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


def all_calls(here: Here, script: str, called: str = "") -> dict[str, list[str]]:
    """What a hook does at each time; nothing where it does nothing."""
    found = {}
    for words in CASES:
        assert here.run(script, *words, called=called) == 0
        found[" ".join(words)] = here.called()
    return {words: calls for words, calls in found.items() if calls}


@pytest.mark.parametrize("called", ["apache2", "50-apache2"])
def test_a_service_runs_while_the_addresses_are_here(here: Here, called: str) -> None:
    here.program("systemctl")
    assert all_calls(here, "switch.d/service", called=called) == {
        "after master": ["systemctl start apache2.service"],
        "before slave": ["systemctl stop apache2.service"],
    }
    here.program("systemctl", "exit 5")
    assert here.run("switch.d/service", "before", "slave") == 5


def test_a_volume_comes_before_all_else_and_goes_last(here: Here) -> None:
    for program in ("drbdadm", "mount", "umount"):
        here.program(program)
    here.program("mountpoint", "[ -e mounted ]")
    assert all_calls(here, "switch.d/drbd") == {
        "before master": ["drbdadm primary r0", "mountpoint -q /srv", "mount /dev/drbd0 /srv"],
        "after slave": ["mountpoint -q /srv", "drbdadm secondary r0"],
    }
    here.program("mountpoint")
    assert all_calls(here, "switch.d/drbd") == {
        "before master": ["drbdadm primary r0", "mountpoint -q /srv"],
        "after slave": ["mountpoint -q /srv", "umount /srv", "drbdadm secondary r0"],
    }
    for program, words in (("drbdadm", "before master"), ("umount", "after slave")):
        here.program(program, "exit 11")
        assert here.run("switch.d/drbd", *words.split()) == 11
        here.program(program)


def test_connections_are_committed_before_the_addresses_come(here: Here) -> None:
    here.program("conntrackd")
    told = f"conntrackd -C {Path('/etc/conntrackd/conntrackd.conf')} -"
    assert all_calls(here, "switch.d/conntrackd") == {
        "before master": [f"{told}c"],
        "after master": [f"{told}f", f"{told}R", f"{told}B"],
        "after slave": [f"{told}t", f"{told}n"],
    }
    here.program("conntrackd", "exit 1")
    assert here.run("switch.d/conntrackd", "before", "master") == 0, "the addresses come anyway"


def test_a_mail_says_what_happened(here: Here) -> None:
    here.program("sendmail", f"cat >{here.folder}/sent")
    assert here.run("notify/mail", "alarm", TEXT, "HEARTBEAT-LOST") == 0
    assert here.called() == ["sendmail -t"]
    head, _, body = (here.folder / "sent").read_text().partition("\n\n")
    assert f"To: root\nSubject: [{os.uname().nodename}] HEARTBEAT-LOST: {TEXT}\n" in head
    assert TEXT in body and "role: active" in body


# ------------------------------------------------------------------ against a server


class Server(http.server.HTTPServer):
    """Notes what is posted, and answers with `answers`, then 200."""

    timeout = LONG

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Noting)
        self.posted: list[tuple[str, dict[str, str], object]] = []
        self.answers: list[int] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def serve(self, process: Started, requests: int = 1) -> int:
        """Answer so many requests of an example; its exit status."""
        with process:
            for _ in range(requests):
                self.handle_request()
            return process.wait(LONG)


class Noting(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.append((self.path, dict(self.headers), json.loads(body)))
        self.send_response(self.server.answers.pop(0) if self.server.answers else 200)
        self.end_headers()
        self.wfile.write(b'{"told": "so"}\n')

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl: install curl")
    with Server() as made:
        yield made


def test_a_cloud_is_told_where_the_address_is(here: Here, server: Server) -> None:
    token = here.folder / "token"
    token.write_text("Authorization: Bearer abc\n")
    names = {"url": f"{server.url}/v1/assign", "token": str(token), "body": "'{\"server\": 7}'"}
    words = ("switch.d/cloud-address", "before", "master")
    assert server.serve(here.start(*words, **names)) == 0
    ((path, headers, body),) = server.posted
    assert (path, headers["Authorization"], body) == ("/v1/assign", "Bearer abc", {"server": 7})
    server.answers = [403]
    assert server.serve(here.start(*words, **names)) == 22, "a refusal fails the switch"
    server.answers = [503]
    assert server.serve(here.start(*words, **names), requests=2) == 0, "it is tried again"
    for when, role in CASES:
        if (when, role) != ("before", "master"):
            assert here.run("switch.d/cloud-address", when, role, **names) == 0
    assert len(server.posted) == 4


def test_a_webhook_gets_an_object(here: Here, server: Server) -> None:
    started = here.start("notify/webhook", "alarm", TEXT, "HEARTBEAT-LOST", url=server.url)
    assert server.serve(started) == 0
    ((_, headers, body),) = server.posted
    assert headers["Content-Type"] == "application/json"
    told = {"kind": "alarm", "text": TEXT, "event": "HEARTBEAT-LOST", "role": "active"}
    assert body == {"host": os.uname().nodename, **told}


def test_slack_gets_a_text_without_markup_of_its_own(here: Here, server: Server) -> None:
    secret = here.folder / "secret"
    secret.write_text(f'url = "{server.url}/services/x"\n')
    words = ("notify/slack", "alarm", TEXT, "HEARTBEAT-LOST")
    assert server.serve(here.start(*words, url_file=str(secret))) == 0
    ((path, _, body),) = server.posted
    assert path == "/services/x"
    text = TEXT.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert body == {"text": f"*{os.uname().nodename}* HEARTBEAT-LOST: {text}"}
    server.answers = [404]
    assert server.serve(here.start(*words, url_file=str(secret))) == 22
