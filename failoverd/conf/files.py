"""Reads the configuration and the files it names, and judges whether root may trust them.

A problem of a file is placed at the line of failoverd.conf that names the file, where there is
one. A user who can change a program that root runs, or a directory on the way to it, is root.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import select
import shlex
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from failoverd import users
from failoverd.conf import Conf, ConfError, Problem, parse

MAX_CONF = 256 * 1024  # bytes
PIPE_SECONDS = 5.0  # that it may take to come if it is no file
MAX_SECRET = 255  # bytes: a line of the protocol is at most 256 with its end
OWN_USER = "failoverd"  # as whom the workers run if it is in /etc/passwd and $user is not set
# What is in each file that starts failoverd's own watchd: bin/watchd of a checkout, and what pip
# and the Debian package install. One that passes --json is a program of its own.
_STARTS_OURS = re.compile(
    rb"(?m)^(# watchd, run from this checkout\.|from failoverd\.commands\.watchd import main)$"
)
_BEGINNING = 4096  # bytes of a program in which that stands

HostType = Literal["master", "slave"]
_HOST_TYPES: dict[str, HostType] = {"boot:master": "master", "boot:slave": "slave"}


def load(path: str, pair: bool = True) -> Conf:
    """The configuration in the file; `pair` as in conf.parse. Raises ConfError."""
    try:
        return _with_user(parse(_read_conf(path), path, pair))
    except ConfError as error:
        error.conf = error.conf and _with_user(error.conf)
        raise


def _with_user(conf: Conf) -> Conf:
    """With the default of $user, which is a matter of this node."""
    if "user" in conf.origin.lines or not users.is_local(OWN_USER):
        return conf
    return replace(conf, user=OWN_USER)


def _read_conf(path: str) -> str:
    """The text of the file. Raises ConfError."""
    try:
        data = _read_in_time(path, MAX_CONF + 1)
    except FileNotFoundError:
        raise _error(path, 1, "there is no such file: name another with -c, or make it") from None
    except OSError as error:
        raise _error(path, 1, f"cannot be read: {error.strerror}") from None
    if len(data) > MAX_CONF:
        raise _error(path, 1, f"is larger than {MAX_CONF // 1024} KiB: is it the right file?")
    return data.decode("utf-8", "surrogateescape")


def read_host_type(path: str) -> HostType:
    """Whether this node is the preferred one, from the one line of the file. Raises ConfError."""
    write = "write boot:master or boot:slave"
    try:
        text = _read_regular(path, MAX_CONF).decode("utf-8-sig", "replace")
    except OSError as error:
        raise _error(path, 1, f"cannot be read ({error.strerror}): {write} into it") from None
    words = [line.partition("#")[0].strip() for line in text.split("\n")]
    found = [(number, word) for number, word in enumerate(words, 1) if word]
    if not found:
        raise _error(path, 1, f"says nothing: {write} into it")
    number, word = found[0]
    if word not in _HOST_TYPES:
        raise _error(path, number, f"not understood: {write}")
    if len(found) > 1:
        second = "there is a second line: leave one of boot:master, boot:slave"
        raise _error(path, found[1][0], second)
    return _HOST_TYPES[word]


def read_secret(path: str) -> bytes:
    """The shared secret, as it goes over the wire. Raises ConfError, whose text never shows it.

    Only the listener calls this, and the commands.
    """
    if faults := _secret_faults(path):
        raise ConfError([Problem(path, 1, fault) for fault in faults])
    try:
        data = _read_regular(path, MAX_SECRET + len("\r\n") + 1)
    except OSError as error:
        raise _error(path, 1, f"cannot be read: {error.strerror}") from None
    word = data.removesuffix(b"\n").removesuffix(b"\r")
    if fault := _word_fault(word):
        raise _error(path, 1, f"{fault}: {_new_secret(path)}")
    return word


def is_locked(path: str) -> bool:
    """Whether a living failoverd has this pid file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def stamp(path: str) -> tuple[int, ...]:
    """What tells a file from the one that was there before; () if there is none."""
    try:
        info = os.stat(path)
    except OSError:
        return ()
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns


def check_files(conf: Conf, watchd: str | None = None) -> list[Problem]:
    """All that is wrong with the files that the configuration names. Reads no secret.

    `watchd` is what find_watchd found. Of the conf of a ConfError, what is unusable is left out.
    """
    problems: list[Problem] = []
    if "host_type" not in conf.origin.unusable:
        try:
            read_host_type(conf.host_type)
        except ConfError as error:
            problems += error.problems
    faults = [
        *(("secret", f"{conf.secret} {fault}") for fault in _secret_faults(conf.secret)),
        *_place_faults(conf),
        *((name, each) for name, path in _programs(conf, watchd) for each in program_faults(path)),
    ]
    if conf.user != "root" and users.find(conf.user) is None:
        way_out = f"adduser --system --group --no-create-home {shlex.quote(conf.user)}"
        faults.append(("user", f"there is no user {conf.user} on this node: {way_out}"))
    usable = [fault for fault in faults if fault[0] not in conf.origin.unusable]
    return problems + [conf.problem(name, message) for name, message in usable]


def is_hidden(problem: Problem) -> bool:
    """Whether only this user may not look: root may."""
    return os.geteuid() != 0 and os.strerror(errno.EACCES) in problem.message


def check_secret(conf: Conf) -> list[Problem]:
    """What is wrong with the secret in its file, where check_files found no fault."""
    if "secret" in conf.origin.unusable or _secret_faults(conf.secret):
        return []
    try:
        read_secret(conf.secret)
    except ConfError as error:
        hint = "; run it as root" if os.geteuid() else ""
        faults = [f"{each.file} {each.message}{hint}" for each in error.problems]
        return [conf.problem("secret", fault) for fault in faults]
    return []


def find_watchd(conf: Conf, start_dir: str, own_dir: str) -> str | None:
    """The program to execute as watcher, None for failoverd's own, which is forked.

    A relative $watchd is looked for from start_dir, then from own_dir, where failoverd itself is.
    What is nowhere is returned as a path from start_dir, so that check_files can say so.
    """
    own = os.path.join(own_dir, "watchd")
    candidates = [
        os.path.normpath(os.path.join(folder, conf.watchd)) for folder in (start_dir, own_dir)
    ]
    for path in candidates:
        if os.path.isfile(path):
            return None if _is_ours(path, own) else path
    # Run as a module, or from a package, there may be no file for failoverd's own.
    return None if candidates[1] == os.path.normpath(own) else candidates[0]


def _is_ours(path: str, own: str) -> bool:
    """Whether a program is failoverd's own watchd, wherever it lies."""
    with contextlib.suppress(OSError):
        if os.path.samefile(path, own):
            return True
    try:
        text = _read_regular(path, _BEGINNING)
    except OSError:
        return False
    return _STARTS_OURS.search(text) is not None and b"--json" not in text


def _programs(conf: Conf, watchd: str | None) -> Iterator[tuple[str, str]]:
    """The programs that are run, by root or as $user: the variable and the path."""
    lister = shutil.which(conf.ps.split()[0]) or ""  # that there is none is only a warning
    paths = {
        **{name: getattr(conf, name) for name in ("failover_prog", "fence_prog", "notify_prog")},
        "confirm": conf.confirm_prog,
        "watchd": watchd,
        "ps": lister if os.path.isabs(lister) else "",
    }
    yield from ((name, path) for name, path in paths.items() if path)
    checks = dict.fromkeys(check.command[0] for check in conf.checks if not check.pidfile)
    yield from (("checks", path) for path in checks)


def _place_faults(conf: Conf) -> Iterator[tuple[str, str]]:
    """Why a file cannot be made where it is to be, or could be taken away or replaced by others."""
    for name in ("log", "dumpfile", "pidfile", "state"):
        path = getattr(conf, name)
        folder = os.path.dirname(path)
        try:
            mode = os.stat(folder).st_mode
        except PermissionError as error:
            yield name, f"{folder} cannot be looked at: {error.strerror}"
            continue
        except OSError:
            mode = 0
        if os.path.isdir(path):
            yield name, f"{path} is a directory: name a file in it"
        elif not stat.S_ISDIR(mode):
            yield name, f"there is no directory {folder}: create it, or change the path"
        if name in ("pidfile", "state") and mode & 0o022 and not mode & stat.S_ISVTX:
            way_out = f"chmod go-w {shlex.quote(folder)}"
            yield name, f"{folder} can be written by others than root: {way_out}"


# --- The secret


def _secret_faults(path: str) -> list[str]:
    """What is wrong with the file of the secret, each with the command that fixes it."""
    try:
        info = os.stat(path)
    except FileNotFoundError:
        return [f"is missing: {_new_secret(path)}"]
    except OSError as error:
        return [f"cannot be looked at: {error.strerror}"]
    if not stat.S_ISREG(info.st_mode):
        return [f"is not a regular file: remove it, then {_new_secret(path)}"]
    faults = []
    if info.st_mode & 0o077:
        faults.append(f"can be read or changed by others: chmod 600 {shlex.quote(path)}")
    if info.st_uid not in trusted_owners():
        faults.append(f"belongs to user {info.st_uid}: chown root {shlex.quote(path)}")
    if not info.st_size:
        faults.append(f"is empty: {_new_secret(path)}")
    return faults


def _new_secret(path: str) -> str:
    command = f"(umask 077; head -c 24 /dev/urandom | base64 >{shlex.quote(path)})"
    return f"create one with {command} and copy it to the peer"


def _word_fault(word: bytes) -> str | None:
    """Why the secret cannot go over the wire as one line, None if it can."""
    shown = word.decode(errors="surrogateescape")
    rows = (
        (not word, "is empty"),
        (b"\n" in word or b"\r" in word, "has more than one line"),
        (len(word) > MAX_SECRET, f"is longer than {MAX_SECRET} bytes"),
        (not shown.isprintable(), "has characters that cannot be typed"),
        (word.startswith(b"hmac "), "begins with hmac, which signed requests begin with"),
    )
    return next((fault for wrong, fault in rows if wrong), None)


# --- Programs


def program_faults(path: str) -> list[str]:
    """Why root must not run the program, each with the way out."""
    try:
        way = way_to(path)
    except FileNotFoundError:
        return [f"{path} does not exist: put the program there, or change the path"]
    except OSError as error:
        verb = "looked at" if isinstance(error, PermissionError) else "run"
        return [f"{path} cannot be {verb}: {error.strerror}"]
    mode = next(iter(way.values())).st_mode
    if not stat.S_ISREG(mode):
        return [f"{path} is not a regular file: name a program"]
    faults = [] if mode & 0o111 else [f"{path} is not executable: chmod +x {shlex.quote(path)}"]
    return [*faults, *_file_faults(path, way)]


def conf_faults(path: str) -> list[str]:
    """Who else than root can change what root is told to run: the configuration itself."""
    try:
        faults = _file_faults(path, way_to(path))
    except OSError:  # it came through a pipe
        return []
    return [f"who can change failoverd.conf can become root: {fault}" for fault in faults]


def _file_faults(path: str, way: dict[str, os.stat_result]) -> list[str]:
    return way_faults(way, {os.path.dirname(path), os.path.dirname(os.path.realpath(path))})


def way_faults(way: dict[str, os.stat_result], own_folders: set[str]) -> list[str]:
    """Who else than root can change what lies in own_folders, or replace these."""
    faults = []
    for step, info in way.items():
        if info.st_uid not in trusted_owners():
            faults.append(f"{step} belongs to user {info.st_uid}: chown root {shlex.quote(step)}")
        # To a directory with the sticky bit, such as /tmp, others can add, but not replace what is
        # root's. That will do on the way to the program's own directory.
        sticky = info.st_mode & stat.S_ISVTX and step not in own_folders
        if info.st_mode & 0o022 and not (stat.S_ISDIR(info.st_mode) and sticky):
            way_out = f"chmod go-w {shlex.quote(step)}, or move it elsewhere"
            faults.append(f"{step} can be written by others than root: {way_out}")
    return faults


def is_open_to_all(program: str) -> bool:
    """Whether every user can execute the program, as far as the modes tell."""
    try:
        return all(info.st_mode & 0o001 for info in way_to(program).values())
    except OSError:
        return False


def way_to(path: str) -> dict[str, os.stat_result]:
    """The program and every directory on the way to it, as it is written and without links, each
    only once. Raises OSError."""
    found: dict[str, os.stat_result] = {}
    for way in (Path(path), Path(os.path.realpath(path))):
        for step in map(str, (way, *way.parents)):
            info = os.stat(step)
            if not any(os.path.samestat(info, other) for other in found.values()):
                found[step] = info
    return found


def trusted_owners() -> set[int]:
    """Who may own what is trusted: root and the user that runs this.

    A user namespace shows every owner that it does not map as the overflow user. If that user
    cannot exist in it, no process in it can act as such an owner, and root outside is one.
    """
    trusted = {0, os.geteuid()}
    try:
        with open("/proc/sys/kernel/overflowuid") as file:
            overflow = int(file.read())
        with open("/proc/self/uid_map") as file:
            ranges = [line.split() for line in file]
    except (OSError, ValueError):
        return trusted
    if not any(int(first) <= overflow < int(first) + int(count) for first, _, count in ranges):
        trusted.add(overflow)
    return trusted


# --- Reading


def _read_regular(path: str, limit: int) -> bytes:
    """At most `limit` bytes of a regular file. Raises OSError; never waits for a pipe's writer."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return file.read(limit)


def _read_in_time(path: str, limit: int) -> bytes:
    """The same of what need not be a file, such as a pipe of the shell's, whose writer may never
    come or end."""
    end = time.monotonic() + PIPE_SECONDS
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        data = b""
        while len(data) < limit:
            if not select.select([fd], [], [], max(0.0, end - time.monotonic()))[0]:
                raise OSError(errno.ETIMEDOUT, f"not all of it came within {PIPE_SECONDS:g} s")
            more = os.read(fd, limit - len(data))
            if not more:
                break
            data += more
        return data
    finally:
        os.close(fd)


def _error(path: str, line: int, message: str) -> ConfError:
    return ConfError([Problem(path, line, message)])
