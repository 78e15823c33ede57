"""ha-edit on real files, with real git, and with a peer behind a real sshd in the lab."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from conftest import why_no_lab
from hypothesis import given
from hypothesis import strategies as st

from dev.lab.network import Lab
from dev.lab.node import Node
from dev.lab.spaces import ROOT, Process
from failoverd import conf, statefile
from failoverd.commands import ha_edit
from failoverd.commands.ha_edit import exchanged
from failoverd.tools import edit

COMMAND = (sys.executable, "-I", str(ROOT / "dev" / "launch.py"), "ha-edit")
WORD = "a word that nobody may see"
CONF = """# The pair
$failover_root = "{root}";
$pidfile = "{root}/pid";
$state = "{root}/state";
$primary = "{us}"; # was $primary = "9.9.9.9"
$secondary = '{peer}';
$tcp_port = "2000"; # old
1;
"""


def need(*programs: str) -> None:
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def has_other_users() -> bool:
    """False in a user namespace that knows no user but ours."""
    return int(Path("/proc/self/uid_map").read_text().split()[2]) > 65534


def conf_text(root: str | Path, us: str = "1.0.0.1", peer: str = "1.0.0.2") -> str:
    return CONF.format(root=root, us=us, peer=peer)


# ---- failoverd.conf on the peer


@pytest.mark.parametrize(
    ("here", "there"),
    [
        pytest.param(
            "$primary = '10.0.0.1';\n$secondary = \"10.0.0.2\"; # the peer\n",
            "$primary = '10.0.0.2';\n$secondary = \"10.0.0.1\"; # the peer\n",
            id="quotes stay where they are",
        ),
        pytest.param(
            "my $primary\n = # $primary = '9.9.9.9'\n '10.0.0.1';our $secondary='10.0.0.2';1;",
            "my $primary\n = # $primary = '9.9.9.9'\n '10.0.0.2';our $secondary='10.0.0.1';1;",
            id="over several lines, and in a remark",
        ),
        pytest.param(
            '$primary="1.1.1.1"; $primary="10.0.0.1"; # $primary="8.8.8.8";\n'
            '$secondary="10.0.0.2";\n',
            '$primary="1.1.1.1"; $primary="10.0.0.2"; # $primary="8.8.8.8";\n'
            '$secondary="10.0.0.1";\n',
            id="only the assignment that wins",
        ),
        pytest.param(
            "$log='/$primary=\\'x'; $primary = '10.0.0.1';\r\n$secondary = '10.0.0.2';\r\n",
            "$log='/$primary=\\'x'; $primary = '10.0.0.2';\r\n$secondary = '10.0.0.1';\r\n",
            id="not within a string",
        ),
        pytest.param(
            "$primary='fd00::1';\n$secondary='FD00::2';\n",
            "$primary='FD00::2';\n$secondary='fd00::1';\n",
            id="IPv6 as it was written",
        ),
        pytest.param(
            "1;\n",
            '1;\n$primary = "1.0.0.2"; # added by ha-edit: the other node has the default\n'
            '$secondary = "1.0.0.1"; # added by ha-edit: the other node has the default\n',
            id="neither is set",
        ),
        pytest.param(
            '$secondary = "1.0.0.9";\n',
            '$secondary = "1.0.0.1";\n'
            '$primary = "1.0.0.9"; # added by ha-edit: the other node has the default\n',
            id="one is set",
        ),
    ],
)
def test_the_two_addresses_are_exchanged_and_nothing_else(here: str, there: str) -> None:
    assert exchanged(here) == there
    assert exchanged(there) == here


def test_one_address_may_be_written_by_the_other() -> None:
    there = exchanged('$primary = "10.0.0.1";\n$secondary = "${primary}0";\n')
    assert there == '$primary = "10.0.0.10";\n$secondary = "10.0.0.1";\n'


def test_an_unsound_configuration_is_not_exchanged() -> None:
    with pytest.raises(conf.ConfError, match="here:1: "):
        exchanged("$primary = 10.0.0.1;")


STATEMENTS = st.lists(
    st.sampled_from(
        [
            "# $primary = '9.9.9.9';\n",
            "$primary = '10.0.0.1';",
            '$primary="10.0.0.3" ;',
            "my $secondary = '10.0.0.2';\n",
            '$secondary\n=\n"10.0.0.4";',
            "@interfaces = qw($primary = '1.2.3.4');\n".replace(
                "$primary = '1.2.3.4'", "eth0 eth1"
            ),
            "$filter = 'host $primary = \"5.5.5.5\"';\n",
            '$log = "/var/log/$primary";\n',
            "\r\n",
            "1;",
        ]
    )
).map("".join)


@given(STATEMENTS)
def test_exchanged_twice_is_as_before(text: str) -> None:
    try:
        before = conf.parse(text, "here")
    except conf.ConfError:
        return  # $primary is used before it is set
    there = exchanged(text)
    after = conf.parse(there, "there")
    assert (after.primary, after.secondary) == (before.secondary, before.primary)
    assert set(conf.changed(before, after)) <= {"primary", "secondary", "log"}
    assert exchanged(there).rstrip("\n") == text.rstrip("\n")


# ---- One node, whose peer is out of reach


class Here:
    """A failover_root, and ha-edit called in this very process."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root / "failover"
        self.root.mkdir()
        self.scratch = root / "scratch"
        self.scratch.mkdir()
        self.conf = self.root / "failoverd.conf"
        self.conf.write_text(conf_text(self.root))
        monkeypatch.setattr(edit, "SCRATCH_PLACE", str(self.scratch))
        monkeypatch.delenv("VISUAL", raising=False)
        monkeypatch.delenv("RSYNC_RSH", raising=False)
        for name in ("AUTHOR", "COMMITTER"):
            monkeypatch.setenv(f"GIT_{name}_NAME", "Somebody")
            monkeypatch.setenv(f"GIT_{name}_EMAIL", "somebody@example.org")
        self._monkeypatch = monkeypatch

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        path = self.root / name
        path.write_text(text)
        path.chmod(mode)
        return path

    def edit(self, editor: str, *arguments: str | Path) -> int:
        self._monkeypatch.setenv("EDITOR", editor)
        return ha_edit.main(["-c", str(self.conf), *map(str, arguments)])

    def script(self, text: str) -> str:
        """An editor: a shell script whose $1 is the copy."""
        path = self.scratch.parent / "editor"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return str(path)

    def kept(self) -> list[str]:
        return [path.read_text() for path in self.scratch.glob("*/*")]

    def type(self, line: str) -> subprocess.CompletedProcess[str]:
        """Type one of the lines that ha-edit named."""
        shim = self.scratch.parent / "bin"
        shim.mkdir(exist_ok=True)
        (shim / "ha-edit").write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
        (shim / "ha-edit").chmod(0o755)
        return subprocess.run(
            ["sh", "-c", line],
            env={**os.environ, "PATH": f"{shim}:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    return Here(tmp_path, monkeypatch)


def left(text: str) -> list[str]:
    """The lines of what is left to do."""
    return [line.strip() for line in text.partition("left to do:\n")[2].splitlines()]


Captured = pytest.CaptureFixture[str]


def test_an_edit_is_shown_and_put_in_place(here: Here, capfd: Captured) -> None:
    path = here.write("hosts", "one\ntwo\n", 0o640)
    try:
        os.setxattr(path, "user.note", b"kept")
        os.chown(path, 12, 34)
    except OSError:
        pass  # not on this file system, or not by us
    before = (path.stat(), os.listxattr(path))
    link = here.root / "link"
    link.symlink_to("hosts")
    assert here.edit("sed -i s/two/three/", link) == 1, "the peer is left"
    out, err = capfd.readouterr()
    assert path.read_text() == "one\nthree\n" and link.is_symlink()
    after = (path.stat(), os.listxattr(path))
    assert after[1] == before[1]
    assert after[0].st_ino != before[0].st_ino, "replaced, not written over"
    for fact in ("st_mode", "st_uid", "st_gid"):
        assert getattr(after[0], fact) == getattr(before[0], fact)
    assert "-two\n+three\n" in out and f"{path}: put in place\n" in out
    assert left(err) == [f"ha-edit -c {here.conf} --peer {path}"]
    assert "plip0" in err and "try the way there by hand" in err
    assert here.kept() == []


def test_an_acl_is_kept(here: Here) -> None:
    path = here.write("hosts", "one\n", 0o640)
    entries = [(1, 6, -1), (2, 4, 0), (4, 4, -1), (16, 4, -1), (32, 0, -1)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", acl)
    except OSError as error:
        pytest.skip(f"no ACLs on this file system: {error.strerror}")
    here.edit("sed -i s/one/two/", path)
    assert path.read_text() == "two\n"
    assert os.getxattr(path, "system.posix_acl_access") == acl


def test_an_editor_that_fails_changes_nothing(here: Here, capfd: Captured) -> None:
    path = here.write("hosts", "one\n")
    other = here.write("other", "one\n")
    assert here.edit(here.script("echo two >$1; exit 1"), path, other) == 1
    assert path.read_text() == other.read_text() == "one\n"
    err = capfd.readouterr().err
    assert "ended with status 1" in err
    assert here.kept() == ["two\n"]
    again, rest = left(err)
    assert rest == f"ha-edit -c {here.conf} {other}"
    here.type(again)
    assert path.read_text() == "two\n"
    assert here.edit(here.script("kill -9 $$"), path) == 1
    assert "was killed by signal 9\n" in capfd.readouterr().err


def test_output_that_cannot_be_written_hides_nothing_that_is_left_to_do(here: Here) -> None:
    path = here.write("hosts", "one\n")
    command = f"ha-edit -c {here.conf} {path}"
    done = here.type(f"EDITOR={shlex.quote(here.script('echo two >>$1'))} {command} >/dev/full")
    assert (done.returncode, path.read_text()) == (1, "one\ntwo\n")
    assert left(done.stderr) == [f"ha-edit -c {here.conf} --peer {path}"]
    assert "ha-edit: No space left on device\n" in done.stderr
    assert "Exception" not in done.stderr and "Errno" not in done.stderr


@pytest.mark.parametrize("editor", ["false", "/no/such/editor", "kill -TERM $$ #", "rm"])
def test_no_trace_is_left_of_an_editor_that_wrote_nothing(here: Here, editor: str) -> None:
    path = here.write("hosts", "one\n")
    if "$" in editor:
        editor = here.script(editor)
    assert here.edit(editor, path) == 1
    assert path.read_text() == "one\n" and list(here.scratch.iterdir()) == []


def test_ctrl_c_in_an_editor_is_the_editors(here: Here) -> None:
    path = here.write("hosts", "one\n")
    here.edit(here.script("kill -INT $PPID; echo two >$1"), path)
    assert path.read_text() == "two\n"


def test_without_terminal_and_editor_nothing_is_guessed(here: Here, capfd: Captured) -> None:
    assert here.edit("", here.conf) == 1
    assert "set EDITOR" in capfd.readouterr().err


def test_a_broken_configuration_is_refused_with_all_errors(here: Here, capfd: Captured) -> None:
    before = here.conf.read_text()
    broken = here.script("printf '$tcp_prt = 1;\\n$log = oops;\\n' >>$1")
    assert here.edit(broken, here.conf) == 1
    assert here.conf.read_text() == before
    err = capfd.readouterr().err
    assert re.search(rf"{here.conf}:9: unknown variable \$tcp_prt", err)
    assert re.search(rf"{here.conf}:10: ", err)
    assert "oops" in here.kept()[0]
    assert left(err)[0].startswith("VISUAL='cp ")


def test_a_broken_configuration_can_be_mended(here: Here, capfd: Captured) -> None:
    sound = here.conf.read_text()
    here.conf.write_text(sound + "oops\n")
    other = here.write("hosts", "one\n")
    assert here.edit("sed -i s/one/two/", other) == 1
    assert f"{here.conf}:9: " in capfd.readouterr().err and other.read_text() == "one\n"
    assert here.edit("sed -i -e /oops/d -e s/one/two/", here.conf, other) == 1
    assert (here.conf.read_text(), other.read_text()) == (sound, "two\n")
    assert "warning: " in capfd.readouterr().err  # there is no host_type


def test_what_is_invalid_is_not_sent(here: Here, capfd: Captured) -> None:
    here.conf.write_text(here.conf.read_text() + "oops\n")
    assert here.edit("false", "--peer", here.conf) == 1
    err = capfd.readouterr().err
    assert f"{here.conf}:9: " in err and "rsync" not in err
    assert left(err) == [f"ha-edit -c {here.conf} --peer {here.conf}"]


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [("host_type", "boot:slav", "write boot:master or boot:slave"), ("secret", "a\nb\n", "line")],
)
def test_host_type_and_the_secret_are_checked(
    here: Here, capfd: Captured, name: str, text: str, complaint: str
) -> None:
    path = here.write(name, "boot:master\n", 0o600)
    assert here.edit(here.script(f"printf {shlex.quote(text)} >$1"), path) == 1
    err = capfd.readouterr().err
    assert path.read_text() == "boot:master\n"
    assert complaint in err and f"{path}:" in err


def test_a_file_changed_meanwhile_is_not_overwritten(here: Here, capfd: Captured) -> None:
    path = here.write("hosts", "one\n")
    assert here.edit(here.script(f"echo mine >$1; echo theirs >{path}"), path) == 1
    assert path.read_text() == "theirs\n" and here.kept() == ["mine\n"]
    err = capfd.readouterr().err
    assert "has changed meanwhile: it is left" in err
    assert here.edit(here.script(f"echo mine >$1; rm {path}"), path) == 1
    assert not path.exists()
    here.type(left(err)[0])
    assert path.read_text() == "mine\n"


def test_an_unchanged_file_is_not_touched(here: Here, capfd: Captured) -> None:
    path = here.write("hosts", "one\n")
    before = path.stat()
    here.edit("true", path)
    assert f"{path}: not changed" in capfd.readouterr().out
    assert path.stat().st_ino == before.st_ino
    assert here.edit("true", here.root / "new") == 0
    assert not (here.root / "new").exists()


def test_a_new_file_gets_the_usual_mode_and_a_new_secret_its_own(here: Here) -> None:
    umask = os.umask(0o022)
    try:
        here.edit(here.script("echo word >$1"), here.root / "new", here.root / "secret")
    finally:
        os.umask(umask)
    assert (here.root / "new").stat().st_mode & 0o777 == 0o644
    assert (here.root / "secret").stat().st_mode & 0o777 == 0o600


def test_the_secret_is_never_shown(here: Here, capfd: Captured) -> None:
    need("git")
    path = here.write("secret", "old word\n", 0o600)
    subprocess.run(["git", "init", "-q"], cwd=here.root, check=True)
    here.edit(here.script(f"echo '{WORD}' >$1"), "-v", path)
    out, err = capfd.readouterr()
    assert path.read_text() == f"{WORD}\n" and path.stat().st_mode & 0o777 == 0o600
    assert WORD not in out + err and "old word" not in out + err
    assert "the secret is not put under version control" in out
    assert git(here, "status", "--porcelain", "--", "secret").startswith("??")


def test_what_failoverd_writes_is_not_for_editing(here: Here, capfd: Captured) -> None:
    (here.root / "link").symlink_to("pid")
    for name in ("pid", "link", "state", *(f"state.{what}" for what in statefile.OUTLIVING)):
        if name != "link":
            here.write(name, "1\n")
        assert here.edit("true", here.root / name) == 1
        assert "is failoverd's own" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("", "is not a regular file"), ("no/file", "is missing or read-only: create it")],
)
def test_what_cannot_be_edited(here: Here, capfd: Captured, name: str, complaint: str) -> None:
    assert here.edit("true", here.root / name) == 1
    err = capfd.readouterr().err
    assert complaint in err and len(err.splitlines()) == 1


def test_who_is_not_root_is_told_so(here: Here, capfd: Captured) -> None:
    if os.geteuid() == 0 and not has_other_users():
        pytest.skip("there is no user but root in this user namespace")
    child = os.fork()
    if child == 0:
        status = 99
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            status = here.edit("true", "/etc/hosts")
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    told = "ha-edit: /etc is missing or read-only: create it, or run this as root\n"
    assert capfd.readouterr().err == told


# ---- Version control


def git(here: Here, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=here.root, capture_output=True, check=True)
    return done.stdout.decode().strip()


@pytest.fixture
def with_git(here: Here) -> Here:
    need("git")
    here.write(":f*", "one\n")
    here.write("fine", "one\n")
    git(here, "init", "-q")
    git(here, "--literal-pathspecs", "add", "--", ":f*")
    git(here, "commit", "-q", "-m", "first")
    return here


def test_git_commits_the_file_and_nothing_beside_it(with_git: Here, capfd: Captured) -> None:
    here = with_git
    here.write("fine", "another's work\n")
    git(here, "add", "--", "fine")
    here.edit("sed -i s/one/two/", "-m", "because", here.root / ":f*")
    assert git(here, "log", "-1", "--format=%s", "--name-only").split() == ["because", ":f*"]
    assert git(here, "status", "--porcelain") == "A  fine\n?? failoverd.conf"
    here.edit(here.script("echo new >$1"), here.root / "new")
    assert git(here, "show", "HEAD:new") == "new"
    assert "edited by " in git(here, "log", "-1", "--format=%s")
    here.write(".gitignore", "*.old\n")
    capfd.readouterr()
    here.edit(here.script("echo old >$1"), here.root / "x.old")
    assert "nothing to commit, git ignores it" in capfd.readouterr().out
    here.write(":f*", "three\n")
    here.edit("sed -i s/three/two/", here.root / ":f*")
    assert "nothing to commit, git has it" in capfd.readouterr().out


def test_a_commit_that_fails_is_left_to_do(with_git: Here, capfd: Captured) -> None:
    here = with_git
    hook = here.root / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho not today; exit 1\n")
    hook.chmod(0o755)
    path = here.root / "a 'new' one"
    assert here.edit(here.script("echo two >$1"), path) == 1
    assert path.read_text() == "two\n"
    err = capfd.readouterr().err
    assert f"{path} is not committed" in err and "not today" in err
    hook.unlink()
    commit, _peer = left(err)
    assert here.type(commit).returncode == 0
    assert git(here, "show", f"HEAD:{path.name}") == "two"


def test_who_is_interrupted_is_told_what_is_left(with_git: Here, capfd: Captured) -> None:
    here = with_git
    hook = here.root / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    lasting = "while kill -0 $PPID; do sleep 0.02; done >/dev/null 2>&1"
    hook.write_text(f"#!/bin/sh\nkill -INT {os.getpid()}; {lasting}\n")
    hook.chmod(0o755)
    assert here.edit("sed -i s/one/two/", here.root / ":f*", here.root / "fine") == 1
    assert (here.root / ":f*").read_text() == "two\n"
    err = capfd.readouterr().err
    assert "interrupted" in err
    commit, *rest = left(err)
    assert commit.startswith("git ") and rest == [
        f"ha-edit -c {here.conf} --peer '{here.root}/:f*'",
        f"ha-edit -c {here.conf} {here.root}/fine",
    ]


# ---- On a terminal


class Terminal:
    """A program on a terminal of its own, and a person before it."""

    def __init__(self, master: int, slave: int, started: Process | subprocess.Popen[bytes]) -> None:
        os.close(slave)
        self._master = master
        self._started = started
        self.seen = ""

    def read_until(self, words: str, limit: float = 60.0) -> None:
        end = time.monotonic() + limit
        while words not in self.seen:
            ready, _, _ = select.select([self._master], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{words!r} did not come; seen: {self.seen}"
            try:
                data = os.read(self._master, 65536)
            except OSError:  # EIO: the terminal is open nowhere any more
                data = b""
            assert data, f"{words!r} did not come before the end; seen: {self.seen}"
            self.seen += data.decode()

    def answer(self, prompt: str, answer: str) -> None:
        self.read_until(prompt)
        self.seen = ""
        os.write(self._master, answer.encode() + b"\n")

    def wait(self) -> int:
        try:
            self.read_until("\0")  # never comes: read to the end
        except AssertionError:
            pass
        return self._started.wait(20)

    def close(self) -> None:
        self._started.kill()
        self._started.wait(20)
        os.close(self._master)


SCRATCH_ELSEWHERE = """
import sys
from failoverd.tools import edit
from failoverd.commands import ha_edit
_, edit.SCRATCH_PLACE, conf, *arguments = sys.argv
sys.exit(ha_edit.main(["-c", conf, *arguments]))
"""


def terminal_here(here: Here, editor: str, *arguments: str | Path) -> Terminal:
    master, slave = pty.openpty()
    started = subprocess.Popen(
        [sys.executable, "-c", SCRATCH_ELSEWHERE, str(here.scratch), str(here.conf), *arguments],
        env={**os.environ, "EDITOR": editor, "TERM": "dumb", "PYTHONPATH": str(ROOT)},
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    return Terminal(master, slave, started)


def test_a_person_may_edit_again(here: Here) -> None:
    steps = here.script(
        "case $(tail -n 1 $1) in '1;') echo oops >>$1;; oops) sed -i 's/^oops/# sound/' $1;;"
        "*) echo '# the last' >>$1;; esac"
    )
    with closing(terminal_here(here, steps, here.conf)) as terminal:
        terminal.answer("Edit again?", "")
        terminal.answer("Put it in place?", "e")
        terminal.answer("Put it in place?", "what?")
        terminal.answer("Put it in place?", "y")
        terminal.read_until("put in place")
        assert terminal.wait() == 1  # the peer is left
    assert here.conf.read_text().endswith("# sound\n# the last\n")


def test_a_person_may_think_better_of_it(here: Here) -> None:
    before = here.conf.read_text()
    with closing(terminal_here(here, here.script("echo '# more' >>$1"), here.conf)) as terminal:
        terminal.answer("Put it in place?", "n")
        terminal.read_until("what was written is in ")
        assert terminal.wait() == 1
    assert here.conf.read_text() == before
    assert here.kept() == [before + "# more\n"]


# ---- A peer behind a real sshd

SSHD = """
ListenAddress {address}
HostKey {home}/.ssh/host
AuthorizedKeysFile {home}/.ssh/authorized_keys
PidFile none
UsePAM no
PasswordAuthentication no
"""
SSH = """
Host 1.0.0.*
  KexAlgorithms curve25519-sha256
  IdentityFile {home}/.ssh/key
  UserKnownHostsFile {home}/.ssh/known_hosts
"""
PASSWD = """root:x:0:0:root:{home}:/bin/sh
sshd:x:100:65534::/run/sshd:/bin/false
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
"""
HOME = "/mnt/home"


class Host:
    """A node of the lab that has its own /mnt, /var/tmp and root, and an sshd."""

    def __init__(self, node: Node, key: Path, addresses: tuple[str, str]) -> None:
        self.node = node
        self._us, self._peer = addresses
        self.mnt = node.outside / "mnt"
        own, public = (key.with_name(name).read_text() for name in ("host", "host.pub"))
        places = {"home": HOME, "address": self._us}
        for name, text in {
            "mnt/home/.ssh/key": key.read_text(),
            "mnt/home/.ssh/authorized_keys": key.with_suffix(".pub").read_text(),
            "mnt/home/.ssh/host": own,
            "mnt/home/.ssh/known_hosts": f"1.0.0.* {public}",
            "mnt/home/.ssh/config": SSH.format(**places),
            "mnt/home/.ssh/sshd_config": SSHD.format(**places),
            "passwd": PASSWD.format(**places),
            "shadow": "root:*:19000:0:99999:7:::\nsshd:*:19000:0:99999:7:::\n",
            "mnt/tmp/none": "",
        }.items():
            node.write(name, text, 0o600 if name.startswith("mnt/home") else 0o644)
        folder = node.folder
        node.check("mkdir", "-p", "-m", "755", "/run/sshd")
        for source, target in (
            (f"{folder}/mnt", "/mnt"),
            (f"{folder}/mnt/tmp", "/var/tmp"),
            (f"{folder}/passwd", "/etc/passwd"),
            (f"{folder}/shadow", "/etc/shadow"),
        ):
            node.check("mount", "--bind", source, target)
        self.sshd = self.start_sshd()

    def start_sshd(self) -> Process:
        program = shutil.which("sshd")
        assert program
        with (self.node.outside / "terminal").open("ab") as log:
            sshd = self.node.popen(
                program, "-D", "-e", "-f", f"{HOME}/.ssh/sshd_config", stdout=log, stderr=log
            )
        self.node.lab.wait_until(self._answers, f"sshd of {self.node.name}")
        return sshd

    def _answers(self) -> bool:
        try:
            with self.node.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                probe.connect((self._us, 22))
                return probe.recv(3) == b"SSH"
        except OSError:
            return False

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file by its path here, which begins with /mnt."""
        self.node.write(path.lstrip("/"), text, mode)

    def at(self, path: str) -> Path:
        """The file of this path here, as this process reaches it."""
        return self.node.outside / path.lstrip("/")

    def begin(self, root: str) -> None:
        """An empty failover_root, but for failoverd.conf."""
        shutil.rmtree(self.at(root), ignore_errors=True)
        for kept in (self.mnt / "tmp").glob("*/"):
            shutil.rmtree(kept)
        self.write(f"{root}/failoverd.conf", conf_text(root, self._us, self._peer))

    def argv(self, root: str, *arguments: str) -> tuple[str, ...]:
        return (*COMMAND, "-c", f"{root}/failoverd.conf", *arguments)

    def edit(
        self, root: str, editor: str, *arguments: str, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        whole = {"HOME": HOME, "VISUAL": editor, "RSYNC_RSH": "", **(env or {})}
        argv = self.argv(root, *arguments)
        return self.node.lab.spaces.run(self.node.name, argv, env=whole, timeout=60)

    def kept(self) -> dict[str, str]:
        kept = (self.mnt / "tmp").glob("*/**/*")
        return {path.name: path.read_text() for path in kept if path.is_file()}


class Two:
    """Two hosts, and a folder that both have."""

    root = "/mnt/failover"

    def __init__(self, lab: Lab, key: Path) -> None:
        self.lab = lab
        self.a = Host(lab.a, key, ("1.0.0.1", "1.0.0.2"))
        self.b = Host(lab.b, key, ("1.0.0.2", "1.0.0.1"))

    def edit(
        self, editor: str, *names: str, at: Host | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Edit files of the common folder on a."""
        paths = [name if name[0] in "/-" else f"{self.root}/{name}" for name in names]
        return (at or self.a).edit(self.root, editor, *paths, env=env)

    def write(self, name: str, text: str, theirs: str | None = None, mode: int = 0o644) -> None:
        """Write a file on both, the same if theirs is not given."""
        self.a.write(f"{self.root}/{name}", text, mode)
        self.b.write(f"{self.root}/{name}", text if theirs is None else theirs, mode)

    def of_a(self, name: str) -> Path:
        return self.a.at(f"{self.root}/{name}")

    def of_b(self, name: str) -> Path:
        return self.b.at(f"{self.root}/{name}")


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    need("sshd", "ssh", "rsync")
    if why_no_lab():
        pytest.skip(why_no_lab())
    with Lab() as lab:
        if lab.spaces.rootless or not has_other_users():
            pytest.skip("sshd needs root, and not only that of a user namespace")
        key = tmp_path_factory.mktemp("keys") / "key"
        for path in (key, key.with_name("host")):
            keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
            subprocess.run(keygen, check=True)
        yield Two(lab, key)


@pytest.fixture
def two(hosts: Two) -> Two:
    for host in (hosts.a, hosts.b):
        host.begin(hosts.root)
    return hosts


def test_both_nodes_follow_an_edit_on_either(two: Two) -> None:
    two.a.write(f"{two.root}/pid", "1\n")
    done = two.edit("sed -i s/2000/3000/", "failoverd.conf")
    assert done.returncode == 0, done.stderr
    assert f"kill -HUP $(cat {two.root}/pid)" in done.stdout
    assert "with $primary and $secondary exchanged" in done.stdout
    here, there = conf_text(two.root), conf_text(two.root, "1.0.0.2", "1.0.0.1")
    assert two.of_a("failoverd.conf").read_text() == here.replace("2000", "3000")
    assert two.of_b("failoverd.conf").read_text() == there.replace("2000", "3000")
    back = two.edit("sed -i s/3000/2000/", "failoverd.conf", at=two.b)
    assert back.returncode == 0, back.stderr
    assert two.of_a("failoverd.conf").read_text() == here
    assert two.of_b("failoverd.conf").read_text() == there
    again = two.edit("true", "failoverd.conf")
    assert again.returncode == 0 and "the same on the peer" in again.stdout
    assert two.a.kept() == two.b.kept() == {}


def test_several_files_modes_and_what_stays_here(two: Two) -> None:
    two.write("secret", "old word\n", mode=0o600)
    two.write("host_type", "boot:master\n", "boot:slave\n")
    two.write("hosts", "one\n", mode=0o640)
    os.chmod(two.of_b("secret"), 0o644)
    os.chmod(two.of_b(""), 0o711)
    sed = f"sed -i -e 's/old word/{WORD}/' -e s/boot:master/boot:slave/ -e s/one/two/"
    done = two.edit(sed, "secret", "host_type", "hosts", "hosts")
    assert done.returncode == 0, done.stderr
    assert two.of_b("secret").read_text() == f"{WORD}\n"
    assert two.of_b("secret").stat().st_mode & 0o777 == 0o600
    assert WORD not in done.stdout + done.stderr and "old word" not in done.stdout
    assert two.of_a("host_type").read_text() == two.of_b("host_type").read_text() == "boot:slave\n"
    assert two.of_b("hosts").read_text() == "two\n"
    assert two.of_b("hosts").stat().st_mode & 0o777 == 0o640
    assert two.of_b("").stat().st_mode & 0o777 == 0o711, "folders are left alone"
    assert "belongs to this node alone" in done.stdout
    two.write("host_type", "boot:master\n", "boot:slave\n")
    assert two.edit("", "--peer", "host_type").returncode == 0
    assert two.of_b("host_type").read_text() == "boot:slave\n"
    os.chmod(two.of_b("hosts"), 0o600)
    assert two.edit("", "--peer", "hosts").returncode == 0
    assert two.of_b("hosts").stat().st_mode & 0o777 == 0o640


def test_new_private_addresses_reach_the_peer_by_the_old_ones(two: Two) -> None:
    done = two.edit("sed -i s/1[.]0[.]0[.]/10.9.9./", "failoverd.conf")
    assert done.returncode == 0, done.stderr
    assert two.of_b("failoverd.conf").read_text() == conf_text(two.root, "10.9.9.2", "10.9.9.1")
    back = two.edit("sed -i s/10[.]9[.]9[.]/1.0.0./", "failoverd.conf")
    assert back.returncode == 1, "10.9.9.2 was never in use"
    done = two.edit("", *shlex.split(left(back.stderr)[0])[3:])
    assert done.returncode == 0, done.stderr
    assert two.of_b("failoverd.conf").read_text() == conf_text(two.root, "1.0.0.2", "1.0.0.1")


def test_new_files_of_any_name_and_links(two: Two) -> None:
    name = "a *'new \"[1]\n$(file)"
    two.b.write(f"{two.root}/a *'new \"[1]x", "another\n")
    two.write("target", "one\n")
    for link in (two.of_a("link"), two.of_b("link")):
        link.symlink_to("target")
    done = two.edit("sed -i s/one/two/", "link")
    assert done.returncode == 0, done.stderr
    assert two.of_b("link").is_symlink() and two.of_b("target").read_text() == "two\n"
    two.a.write(f"{two.root}/new/{name}", "one\n")
    made = two.edit("sed -i s/one/two/", f"new/{name}")
    assert made.returncode == 0, made.stderr
    assert two.of_b(f"new/{name}").read_text() == "two\n"
    two.of_b("folder").mkdir()
    refused = two.edit("cp /etc/passwd", "folder")
    assert refused.returncode == 1 and "is not a regular file" in refused.stderr
    assert two.of_b("folder").is_dir()
    two.of_b("hosts").symlink_to("target")
    refused = two.edit("cp /etc/passwd", "hosts")
    assert refused.returncode == 1 and "is not a regular file" in refused.stderr
    assert two.of_b("hosts").is_symlink() and two.of_b("target").read_text() == "two\n"


def test_what_was_changed_on_the_peer_is_not_overwritten(two: Two) -> None:
    two.write("hosts", "one\n", "one\nof theirs\n")
    done = two.edit("sed -i s/one/two/", "hosts")
    assert done.returncode == 1
    assert two.of_a("hosts").read_text() == "two\n"
    assert two.of_b("hosts").read_text() == "one\nof theirs\n"
    assert "-of theirs" in done.stdout, "the difference is shown"
    [command] = left(done.stderr)
    assert command == f"ha-edit -c {two.root}/failoverd.conf --peer {two.root}/hosts"
    assert two.edit("true", "hosts").returncode == 1
    forced = two.edit("", *shlex.split(command)[3:])
    assert forced.returncode == 0, forced.stderr
    assert two.of_b("hosts").read_text() == "two\n"
    assert two.b.kept() == {"hosts": "one\nof theirs\n"} and two.a.kept() == {}
    assert "/mnt/failover/hosts" in forced.stdout.partition("is kept there: /var/tmp/ha-edit-")[2]


def test_a_peer_out_of_reach_is_brought_into_line_later(two: Two) -> None:
    two.write("hosts", "one\n")
    two.b.sshd.terminate()
    two.b.sshd.wait()
    refused = two.edit("sed -i s/one/two/", "hosts")
    two.lab.a.ip("link set dev plip0 down")
    unreached = two.edit("true", "hosts")
    two.lab.a.ip("link set dev plip0 up")
    two.b.sshd = two.b.start_sshd()
    assert refused.returncode == unreached.returncode == 1
    assert "Connection refused" in refused.stderr and "try the way there by hand" in refused.stderr
    assert "plip0: no suitable addresses" in unreached.stderr
    assert (two.of_a("hosts").read_text(), two.of_b("hosts").read_text()) == ("two\n", "one\n")
    assert left(refused.stderr) == left(unreached.stderr)
    done = two.edit("", *shlex.split(left(refused.stderr)[0])[3:])
    assert done.returncode == 0, done.stderr
    assert two.of_b("hosts").read_text() == "two\n"


def test_the_persons_own_remote_shell_is_used(two: Two) -> None:
    two.write("hosts", "one\n")
    unknown = {"RSYNC_RSH": "ssh -o 'UserKnownHostsFile /dev/null'"}
    refused = two.edit("sed -i s/one/two/", "hosts", env=unknown)
    assert refused.returncode == 1 and "Host key verification failed" in refused.stderr
    two.a.write(f"{two.root}/ssh", '#!/bin/sh\necho "$@" >>$0.said\nexec ssh "$@"\n', 0o755)
    done = two.edit("", "--peer", "hosts", env={"RSYNC_RSH": f"{two.root}/ssh -4"})
    assert done.returncode == 0, done.stderr
    said = two.of_a("ssh.said").read_text()
    assert said.startswith("-4 1.0.0.2 rsync --server ")
    assert two.of_b("hosts").read_text() == "two\n"


def test_a_person_decides_about_the_peers_copy(two: Two) -> None:
    two.write("hosts", "one\n", "theirs\n")

    def ask(answer: str, *options: str, meanwhile: str = "") -> None:
        master, slave = pty.openpty()
        started = two.lab.a.popen(
            *two.a.argv(two.root, *options, f"{two.root}/hosts"),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={"HOME": HOME, "VISUAL": "true", "RSYNC_RSH": "", "TERM": "dumb"},
        )
        with closing(Terminal(master, slave, started)) as terminal:
            terminal.read_until("Overwrite the peer's copy? [y/N]")
            if meanwhile:
                two.of_b("hosts").write_text(meanwhile)
            terminal.answer("Overwrite the peer's copy? [y/N]", answer)
            assert terminal.wait() == (0 if answer == "y" else 1)

    ask("")
    assert two.of_b("hosts").read_text() == "theirs\n" and two.a.kept() == {}
    ask("n", "--peer")
    assert two.of_b("hosts").read_text() == "theirs\n" and two.b.kept() == {}
    ask("y", meanwhile="theirs, later\n")
    assert two.of_b("hosts").read_text() == "one\n"
    assert two.b.kept() == {"hosts": "theirs, later\n"} and two.a.kept() == {}
