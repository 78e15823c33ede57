"""Reading the configuration's files, and the judgement of what root may trust: on real files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from failoverd import users
from failoverd.conf import Conf, ConfError, ServiceCheck, files
from failoverd.tools import check

PROJECT = Path(__file__).parent.parent.parent
ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="only root can give files away")


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def make(path: Path, content: bytes | str = "", mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


@pytest.fixture
def sound(tmp_path: Path) -> Conf:
    """A configuration whose files are all as they should be."""
    make(tmp_path / "secret", "word\n", 0o600)
    make(tmp_path / "host_type", "boot:master\n")
    make(tmp_path / "ha-switch", "#!/bin/sh\n", 0o755)
    text = (
        f'$failover_root = "{tmp_path}";\n'
        f'$failover_prog = "{tmp_path}/ha-switch";\n'
        '$secret = "$failover_root/secret";\n'
        '$user = "root";\n'
    )
    return files.load(str(make(tmp_path / "failoverd.conf", text)))


def faults(settings: Conf, watchd: str | None = None) -> list[str]:
    return [str(problem) for problem in files.check_files(settings, watchd)]


def only(found: list[str]) -> str:
    assert len(found) == 1, found
    return found[0]


# --- The configuration


def refused(path: Path | str) -> str:
    with pytest.raises(ConfError) as caught:
        files.load(str(path))
    return str(caught.value)


def test_a_configuration_is_loaded_with_its_place(sound: Conf, tmp_path: Path) -> None:
    assert sound.failover_root == str(tmp_path)
    assert sound.origin.file == str(tmp_path / "failoverd.conf")
    assert faults(sound) == []


def test_files_that_cannot_be_loaded(tmp_path: Path) -> None:
    assert ":1: there is no such file" in refused(tmp_path / "none")
    assert ":1: cannot be read: Is a directory" in refused(tmp_path)
    assert "is larger than 256 KiB" in refused(make(tmp_path / "big", "#" * (256 * 1024 + 1)))
    assert "is larger than 256 KiB" in refused("/dev/zero")
    assert refused(make(tmp_path / "bad", "\n$x")).startswith(f"{tmp_path}/bad:2: ")


def test_a_pipe_is_read_but_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PIPE_SECONDS", 0.1)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert ":1: cannot be read: not all of it came within 0.1 s" in refused(fifo)
    monkeypatch.setattr(files, "PIPE_SECONDS", 60.0)
    with subprocess.Popen(["sh", "-c", f'echo "\\$tcp_port = 2001;" >{fifo}']) as writer:
        assert files.load(str(fifo)).tcp_port == 2001
    assert writer.returncode == 0


def test_bytes_that_are_not_utf_8_are_kept(tmp_path: Path) -> None:
    text = b"# caf\xe9\r\n$log = '/caf\xe9';\r\n"
    loaded = files.load(str(make(tmp_path / "latin", text)))
    assert os.fsencode(loaded.log) == b"/caf\xe9"


def test_files_are_checked_although_the_configuration_has_errors(
    tmp_path: Path, sound: Conf
) -> None:
    (tmp_path / "secret").chmod(0o644)
    config = Path(sound.origin.file)
    config.write_text(config.read_text() + "$failover_prog = nowhere;\n")
    with pytest.raises(ConfError) as caught:
        files.load(str(config))
    assert caught.value.conf is not None
    assert "chmod 600" in only(faults(caught.value.conf))  # and nothing of $failover_prog
    config.write_text("$failover_root = nowhere;\n")
    with pytest.raises(ConfError) as caught:
        files.load(str(config))
    assert caught.value.conf is not None
    assert not any("secret" in fault or "host_type" in fault for fault in faults(caught.value.conf))


# --- failoverd.conf itself


@pytest.mark.parametrize(("mode", "fault"), [(0o644, ""), (0o664, "chmod go-w "), (0o646, "go-w ")])
def test_who_can_change_the_configuration(tmp_path: Path, mode: int, fault: str) -> None:
    path = make(tmp_path / "failoverd.conf", "", mode)
    found = files.conf_faults(str(path))
    assert len(found) == (fault != "")
    assert all(fault in each and str(path) in each for each in found)


def test_it_is_not_told_who_can_change_a_pipe() -> None:
    assert files.conf_faults("/dev/fd/no-such") == []


# --- host_type


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("boot:master", "master"),
        ("boot:slave\n", "slave"),
        ("\ufeffboot:slave\r\n", "slave"),
        ("# a remark\n\n  boot:master  # another\n\n", "master"),
    ],
)
def test_host_type(tmp_path: Path, content: str, expected: str) -> None:
    assert files.read_host_type(str(make(tmp_path / "host_type", content))) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", ":1: says nothing: write boot:master or boot:slave"),
        ("# only\n", ":1: says nothing"),
        ("\nmaster\n", ":2: not understood: write boot:master or boot:slave"),
        ("boot:Master", ":1: not understood"),
        ("boot:master\nboot:slave\n", ":2: there is a second line"),
        (b"\xff\0", ":1: not understood"),
    ],
)
def test_wrong_host_type(tmp_path: Path, content: bytes | str, expected: str) -> None:
    path = make(tmp_path / "host_type", content)
    with pytest.raises(ConfError) as caught:
        files.read_host_type(str(path))
    assert f"{path}{expected}" in str(caught.value)


def test_host_type_that_is_no_file(sound: Conf, tmp_path: Path) -> None:
    (tmp_path / "host_type").unlink()
    assert "No such file" in only(faults(sound))
    os.mkfifo(tmp_path / "host_type")  # a reader that waited for a writer would hang here
    assert "not a regular file" in only(faults(sound))


# --- The secret


def secret_faults(settings: Conf) -> list[str]:
    """What both checks say, and that reading refuses the same."""
    found = files.check_files(settings) or files.check_secret(settings)
    if found:
        with pytest.raises(ConfError):
            files.read_secret(settings.secret)
    return [str(problem) for problem in found]


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"word", b"word"),
        (b"word\n", b"word"),
        (b"word\r\n", b"word"),
        (b" two words \n", b" two words "),
        ("caf\u00e9\n".encode(), "caf\u00e9".encode()),
        (b"x" * 255 + b"\r\n", b"x" * 255),
    ],
)
def test_the_secret_word(tmp_path: Path, sound: Conf, content: bytes, word: bytes) -> None:
    make(tmp_path / "secret", content, 0o600)
    assert secret_faults(sound) == []
    assert files.read_secret(sound.secret) == word


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "is empty: create one with "),
        (b"\n", "is empty: create one with "),
        (b"\r\n", "is empty"),
        (b"hunter2\nhunter3\n", "has more than one line"),
        (b"hunter2\n\n", "has more than one line"),
        (b"hunter2\rx\n", "has more than one line"),
        (b"hunter2" + b"x" * 249, "is longer than 255 bytes"),
        (b"x" * 255 + b"\r\nhunter2", "has more than one line"),
        (b"hunter2\0", "has characters that cannot be typed"),
        (b"hunter2\t", "has characters that cannot be typed"),
        (b"hunter2\xff", "has characters that cannot be typed"),
        (b"hmac hunter2", "begins with hmac, which signed"),
    ],
)
def test_words_that_cannot_go_over_the_wire(
    tmp_path: Path, sound: Conf, content: bytes, fault: str
) -> None:
    make(tmp_path / "secret", content, 0o600)
    found = only(secret_faults(sound))
    assert found.startswith(f"{tmp_path}/failoverd.conf:3: $secret: {tmp_path}/secret {fault}")
    assert "umask 077" in found
    assert "hunter" not in found


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644, 0o610])
def test_a_secret_that_is_open_to_others(tmp_path: Path, sound: Conf, mode: int) -> None:
    (tmp_path / "secret").chmod(mode)
    assert only(secret_faults(sound)).endswith(f": chmod 600 {tmp_path}/secret")


def test_a_secret_that_is_no_file(tmp_path: Path, sound: Conf) -> None:
    path = tmp_path / "secret"
    path.unlink()
    assert "is missing: create one with (umask 077; " in only(secret_faults(sound))
    path.mkdir(0o700)
    assert "is not a regular file" in only(secret_faults(sound))
    path.rmdir()
    os.mkfifo(path, 0o600)
    assert "is not a regular file" in only(secret_faults(sound))


def test_a_secret_behind_a_link_is_judged_itself(tmp_path: Path, sound: Conf) -> None:
    (tmp_path / "secret").rename(tmp_path / "word")
    (tmp_path / "secret").symlink_to("word")
    assert secret_faults(sound) == []
    (tmp_path / "word").chmod(0o644)
    assert "chmod 600" in only(secret_faults(sound))


@needs_root
def test_a_secret_of_another_user(tmp_path: Path, sound: Conf) -> None:
    os.chown(tmp_path / "secret", 12345, -1)
    expected = f"belongs to user 12345: chown root {tmp_path}/secret"
    assert only(secret_faults(sound)).endswith(expected)


def test_the_commands_that_mend_a_file_work(tmp_path: Path) -> None:
    """Also where the path has to be quoted."""
    folder = tmp_path / "it's a folder"
    make(folder / "host_type", "boot:slave")
    make(folder / "ha-switch", "", 0o755)
    settings = Conf(failover_root=str(folder), failover_prog=str(folder / "ha-switch"), user="root")
    missing = only(faults(settings))
    command = missing[missing.index("(umask") : missing.rindex(" and copy it")]
    subprocess.run(["sh", "-c", command], check=True, timeout=30)
    assert secret_faults(settings) == []
    (folder / "secret").chmod(0o644)
    command = only(faults(settings)).rpartition(": ")[2]
    subprocess.run(["sh", "-c", command], check=True, timeout=30)
    assert secret_faults(settings) == []


# --- Programs that root will run


def test_a_sound_program_under_the_sticky_tmp(tmp_path: Path, sound: Conf) -> None:
    folder = tmp_path / "sticky"
    folder.mkdir()
    folder.chmod(0o1777)
    program = make(folder / "mine" / "ha-switch", "", 0o755)
    assert files.program_faults(str(program)) == []
    direct = make(folder / "ha-switch", "", 0o755)
    assert f"{folder} can be written by others" in only(files.program_faults(str(direct)))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("failover_prog", '$failover_prog = "{}";'),
        ("fence_prog", '$fence_prog = "{}";'),
        ("notify_prog", '$notify_prog = "{}";'),
        ("confirm", '$confirm = "{}";'),
        ("ps", '$ps = "{} ax";'),
        ("checks", "@checks = ('web 2 {} -a', 'db 2 {} -b');"),
    ],
)
def test_every_program_is_checked(tmp_path: Path, sound: Conf, name: str, text: str) -> None:
    program = make(tmp_path / "bin" / "program", "", 0o775)
    config = Path(sound.origin.file)
    config.write_text(config.read_text() + text.replace("{}", str(program)))
    found = only(faults(files.load(str(config))))
    assert found.startswith(
        f"{config}:5: {text[0]}{name}: {program} can be written by others than root"
    )
    assert f"chmod go-w {program}" in found


@needs_root
def test_a_check_that_is_closed_to_user(tmp_path: Path, sound: Conf) -> None:
    """Each folder on the way counts: tmp_path is root's alone."""
    program, pidfile = make(tmp_path / "check", "", 0o755), make(tmp_path / "pid", "1\n")
    words = ["/bin/sh", str(program), f"pidfile:{pidfile}", f"pidfile:{tmp_path}/none"]
    checks = tuple(ServiceCheck(f"c{at}", 2.0, (word,)) for at, word in enumerate(words))
    settings = replace(sound, user="nobody", checks=checks)
    told = [problem.message for problem in check._closed_to_user(settings)]
    assert len(told) == 2
    assert f"{program} is closed to user nobody: checks run as that user" in told[0]
    assert f"{pidfile} is closed to user nobody" in told[1]
    assert check._closed_to_user(replace(settings, user="root")) == []


def test_the_watcher_is_checked(tmp_path: Path, sound: Conf) -> None:
    program = make(tmp_path / "watchd", "", 0o757)
    assert f"$watchd (not set, so the default): {program} can be" in only(
        faults(sound, str(program))
    )


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1757])
def test_a_folder_on_the_way_that_others_can_write(tmp_path: Path, sound: Conf, mode: int) -> None:
    """The program's own folder may not even be sticky: it must be root's alone."""
    folder = tmp_path / "a"
    program = make(folder / "ha-switch", "", 0o755)
    folder.chmod(mode)
    assert f"{folder} can be written by others" in only(files.program_faults(str(program)))
    deep = make(folder / "b" / "ha-switch", "", 0o755)
    found = files.program_faults(str(deep))
    assert found == [] if mode & 0o1000 else f"{folder} can be" in only(found)


def test_a_program_behind_links(tmp_path: Path) -> None:
    program = make(tmp_path / "open" / "real" / "ha-switch", "", 0o755)
    link = tmp_path / "link"
    link.symlink_to("open/../open/real")
    assert files.program_faults(str(link / "ha-switch")) == []
    (tmp_path / "open").chmod(0o777)
    found = only(files.program_faults(str(link / "ha-switch")))
    assert f"{tmp_path}/open can be written" in found
    (tmp_path / "open").chmod(0o755)
    (tmp_path / "lax").mkdir()
    (tmp_path / "lax" / "ha-switch").symlink_to(program)
    (tmp_path / "lax").chmod(0o777)
    assert f"{tmp_path}/lax can be" in only(files.program_faults(f"{tmp_path}/lax/ha-switch"))
    (tmp_path / "loop").symlink_to("loop")
    assert "Too many levels of symbolic links" in only(files.program_faults(f"{tmp_path}/loop"))


def test_what_cannot_be_run(tmp_path: Path, sound: Conf) -> None:
    program = tmp_path / "ha-switch"
    program.chmod(0o644)
    assert f"is not executable: chmod +x {program}" in only(faults(sound))
    program.unlink()
    assert f"$failover_prog: {program} does not exist" in only(faults(sound))
    program.mkdir()
    assert "is not a regular file" in only(faults(sound))
    for path in ("/", f"{tmp_path}/host_type/x", f"{tmp_path}/.."):
        assert len(files.program_faults(path)) == 1


@needs_root
def test_programs_and_folders_of_other_users(tmp_path: Path, sound: Conf) -> None:
    os.chown(tmp_path / "ha-switch", 12345, -1)
    assert f"{tmp_path}/ha-switch belongs to user 12345: chown root" in only(faults(sound))
    os.chown(tmp_path / "ha-switch", 0, -1)
    os.chown(tmp_path, 12345, -1)
    assert f"{tmp_path} belongs to user 12345: chown root" in only(faults(sound))


def test_a_user_that_does_not_exist(sound: Conf) -> None:
    config = Path(sound.origin.file)
    config.write_text(config.read_text().replace('"root"', '"no-such-user"'))
    assert only(faults(files.load(str(config)))).endswith(
        "$user: there is no user no-such-user on this node: adduser --system --group "
        "--no-create-home no-such-user"
    )


def in_namespace(code: str, *options: str) -> str:
    """What the code prints in a user namespace that maps one id, to root."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, *options, "true"], check=False).returncode:
        pytest.skip("unshare cannot make a user namespace here")
    done = subprocess.run(
        [unshare, *options, sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=PROJECT,
        timeout=60,
    )
    return done.stdout.strip()


def test_owners_in_a_user_namespace_that_maps_one_id(tmp_path: Path) -> None:
    """There the host's own files belong to the overflow user, which none there can be."""
    overflow = int(Path("/proc/sys/kernel/overflowuid").read_text())
    code = "from failoverd.conf import files; print(sorted(files.trusted_owners()))"
    assert in_namespace(code, "--user", "--map-root-user") == str([0, overflow])
    assert files.trusted_owners() == {0, os.geteuid()}
    program = make(tmp_path / "ha-switch", "", 0o755)
    code = f"from failoverd.conf import files; print(files.program_faults({str(program)!r}))"
    assert in_namespace(code, "--user", "--map-root-user") == "[]"
    program.chmod(0o777)
    assert "can be written by others" in in_namespace(code, "--user", "--map-root-user")


# --- The watcher


def test_the_lookup_of_the_watcher(tmp_path: Path) -> None:
    start, own = tmp_path / "start", tmp_path / "own"
    start.mkdir()
    ours = make(own / "watchd", "whatever it is, beside failoverd", 0o755)

    def find(value: str = "./watchd") -> str | None:
        return files.find_watchd(Conf(watchd=value), str(start), str(own))

    assert find() is None
    assert find(str(ours)) is None
    assert find("bin/other") == f"{start}/bin/other"  # nowhere: named, so that it is reported
    other = make(own / "bin" / "other", "", 0o755)
    assert find("bin/other") == str(other)
    make(start / "watchd", "another", 0o755)
    assert find() == f"{start}/watchd"
    (start / "watchd").unlink()
    (start / "watchd").symlink_to(ours)
    assert find() is None
    ours.unlink()
    assert find() is None  # installed without a file of that name


CALLED = "from failoverd.commands.watchd import main\n"
EXEC = "#!/bin/sh\n'''exec' '/a long/way/to/python' \"$0\" \"$@\"\n' '''\n"
STARTS_OURS = {
    "a checkout": (PROJECT / "bin" / "watchd").read_text(),
    "Debian": (PROJECT / "debian" / "command.in").read_text().replace("@module@", "watchd"),
    "pip": f"#!/v/bin/python\n# -*- coding: utf-8 -*-\nimport re\nimport sys\n{CALLED}"
    "if __name__ == '__main__':\n    sys.exit(main())\n",
    "pip, far away": f"{EXEC}import sys\n{CALLED}if __name__ == '__main__':\n    main()\n",
}
STARTS_OTHERS = {
    "Perl": "#!/usr/bin/perl -w\nuse Net::Pcap;\n# watchd\n",
    "a wrapper": "#!/bin/sh\nexec python3 -m failoverd.commands.watchd --json $1\n",
    "a wrapper in Python": f"#!/bin/python3\nimport sys\n{CALLED}main(['--json', sys.argv[1]])\n",
    "another command": CALLED.replace("watchd", "failoverd"),
    "nothing": "",
    "a binary": "\x7fELF\0\xff",
}


@pytest.mark.parametrize("behind_link", [False, True])
@pytest.mark.parametrize("kind", [*STARTS_OURS, *STARTS_OTHERS])
def test_our_own_watcher_is_known_by_what_it_is(
    tmp_path: Path, kind: str, behind_link: bool
) -> None:
    """A checkout's beside an installation, say: executed, it would not print JSON."""
    program = make(tmp_path / "a" / "watchd", (STARTS_OURS | STARTS_OTHERS)[kind], 0o755)
    path = tmp_path / "start" / "watchd"
    path.parent.mkdir()
    path.symlink_to(program) if behind_link else program.rename(path)
    expected = None if kind in STARTS_OURS else str(path)
    for settings in (Conf(), Conf(watchd=str(path))):
        found = files.find_watchd(settings, str(path.parent), str(tmp_path / "own"))
        assert found == expected


def test_a_watcher_that_cannot_be_read_is_no_watcher_of_ours(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "nothing", "."):
        assert not files._is_ours(str(tmp_path / name), str(tmp_path / "own"))


# --- Whom the children run as


def test_the_default_of_user_is_failoverds_own_if_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unset = make(tmp_path / "a.conf", "")
    named = make(tmp_path / "b.conf", "$user = 'nobody';")
    wrong = make(tmp_path / "c.conf", "$nothing = 1;")
    known = {"nobody"}
    monkeypatch.setattr(users, "is_local", lambda name: name in known)
    assert files.load(str(unset)).user == "nobody"
    known.add("failoverd")
    assert files.load(str(unset)).user == "failoverd"
    assert files.load(str(named)).user == "nobody"
    with pytest.raises(ConfError) as caught:
        files.load(str(wrong))
    assert caught.value.conf is not None and caught.value.conf.user == "failoverd"


def test_the_watcher_where_failoverd_was_started_comes_first(tmp_path: Path) -> None:
    make(tmp_path / "watchd", "ours", 0o755)
    assert files.find_watchd(Conf(), str(tmp_path), str(tmp_path)) is None
    folder = tmp_path / "watchd.d"
    folder.mkdir()
    assert files.find_watchd(Conf(watchd="watchd.d"), "/", str(tmp_path)) == "/watchd.d"


def test_a_user_that_others_share_is_told_of(sound: Conf) -> None:
    (told,) = check._shared_user(replace(sound, user="nobody"))
    assert "adduser --system" in told and files.OWN_USER in told
    assert check._shared_user(replace(sound, user="failoverd")) == []
