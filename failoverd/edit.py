"""The files and child programs of ha-edit. Nothing is decided here, and no person is asked.

A file is looked at, copied for the editor and replaced by a rename; git and CVS commit it; the
peer's copy is fetched and sent by rsync over ssh. Whatever fails is an EditError in plain words.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Self

from failoverd.conf import Conf

CONNECT_SECONDS = 5  # a peer on its own cable answers at once, or not at all
SILENT_SECONDS = 20  # rsync gives up when so long nothing came
SCRATCH_PLACE = "/var/tmp"  # unlike /tmp it outlasts a reboot
PROGRAM_SECONDS = 120.0  # no commit and no transfer of one small file lasts longer
_FILE_FAILED = (23, 24)  # of rsync's exit statuses, those of one file; the others are ssh's fault
_NOISE = re.compile(
    r"rsync error: |rsync: (\[\w+\] )?(connection unexpectedly|write error: Broken)"
)
_MAX_LINKS = 40  # as the kernel, path_resolution(7)
_EDITORS = ("sensible-editor", "editor", "vi", "nano")


class EditError(Exception):
    """Something could not be done; the text says what, and the way out. One sentence a line."""


# --- Files


@dataclass(frozen=True)
class File:
    """A file as it was when it was looked at; data is None if there was none.

    path: as it was named, absolute. real: with every link followed, what would be replaced.
    """

    path: str
    real: str
    data: bytes | None

    @property
    def folder(self) -> str:
        return os.path.dirname(self.real)


def look(path: str, to_write: bool = True) -> File:
    """The file now. Raises EditError if it is not one that we can read, and write if asked."""
    path = os.path.abspath(path)
    real = os.path.realpath(path)
    folder = os.path.dirname(real)
    if not os.path.isdir(folder):
        raise EditError(f"there is no folder {folder}: make it with mkdir {shlex.quote(folder)}")
    try:
        data = _read(real)
    except OSError as error:
        way = "run ha-edit as root" if os.geteuid() else "name another file"
        raise EditError(f"{path} cannot be read: {error.strerror}: {way}") from None
    if to_write and not _can_replace(real, exists=data is not None):
        if os.geteuid() == 0:
            raise EditError(f"{path} cannot be changed: is {folder} mounted for reading only?")
        raise EditError(f"{path} cannot be changed by you: run ha-edit as root")
    return File(path, real, data)


def _read(path: str) -> bytes | None:
    """What is in a regular file, None if there is none. Never waits for a pipe's writer."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        return None
    with open(fd, "rb") as file:
        return file.read()


def _can_replace(path: str, exists: bool) -> bool:
    """Whether a new file can be put there that belongs to the old one's owner."""
    if not os.access(os.path.dirname(path), os.W_OK | os.X_OK):
        return False
    return not exists or os.geteuid() in (0, os.stat(path).st_uid)


@dataclass(frozen=True)
class Attributes:
    """What a file has beside its data. POSIX ACLs are extended attributes too, acl(5)."""

    mode: int
    uid: int
    gid: int
    extended: Mapping[str, bytes]

    @classmethod
    def of(cls, path: str) -> Self:
        info = os.stat(path)
        try:
            extended = {name: os.getxattr(path, name) for name in os.listxattr(path)}
        except OSError:  # this file system has none
            extended = {}
        return cls(stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid, extended)

    def apply(self, path: str) -> None:
        """Give them to a file. Extended ones that its file system cannot keep are left out."""
        info = os.stat(path)
        if (info.st_uid, info.st_gid) != (self.uid, self.gid):
            os.chown(path, self.uid, self.gid)
        os.chmod(path, self.mode)  # after chown, which takes away set-user-id
        for name, value in self.extended.items():
            try:
                os.setxattr(path, name, value)
            except OSError as error:
                if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.EINVAL):
                    raise


def place(file: File, data: bytes, private: bool) -> None:
    """Replace the file, if it is still as it was looked at. A reader sees the old or the new one.

    private: a file that is new is for its owner only. Raises EditError; then nothing has changed.
    """
    try:
        with _locked(file.folder) as folder:
            if _read(file.real) != file.data:
                raise EditError(
                    f"{file.path} was changed by somebody else meanwhile: it is left as it is now"
                )
            _replace(file, data, 0o600 if private or file.data is not None else 0o666)
            os.fsync(folder)
    except OSError as error:
        raise EditError(f"{file.path} could not be replaced: {error.strerror}") from None


@contextmanager
def _locked(folder: str) -> Iterator[int]:
    """No other ha-edit replaces anything in the folder meanwhile."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


def _replace(file: File, data: bytes, mode: int) -> None:
    new = os.path.join(file.folder, f".{os.path.basename(file.real)}.ha-edit-{os.getpid()}")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with open(fd, "wb") as stream:
            stream.write(data)
            stream.flush()
            if file.data is not None:
                Attributes.of(file.real).apply(new)
            os.fsync(fd)
        os.rename(new, file.real)
    except BaseException:
        os.unlink(new)
        raise


class Scratch:
    """A folder that only we can read; it stays after its use if `keep` is set."""

    def __init__(self) -> None:
        try:
            self.folder = tempfile.mkdtemp(prefix="ha-edit-", dir=SCRATCH_PLACE)
        except OSError as error:
            raise EditError(f"no copy can be made in {SCRATCH_PLACE}: {error.strerror}") from None
        self.keep = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.keep:
            shutil.rmtree(self.folder)

    def path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def write(self, name: str, data: bytes) -> str:
        """Write a file for us only; the name may have folders in it. Its path."""
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
        return path


# --- Programs


def _run(
    argv: Sequence[str], folder: str = "/", data: bytes = b""
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end. Output and errors are one text. Raises EditError if it cannot."""
    try:
        done = subprocess.run(
            argv,
            cwd=folder,
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PROGRAM_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise EditError(f"{argv[0]} is not installed: apt-get install {argv[0]}") from None
    except OSError as error:
        raise EditError(f"{argv[0]} cannot be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise EditError(f"{argv[0]} did not end within {PROGRAM_SECONDS:.0f} s") from None
    text = done.stdout.decode(errors="backslashreplace").strip()
    return subprocess.CompletedProcess(argv, done.returncode, text)


def editor_command(environment: Mapping[str, str], terminal: bool) -> list[str]:
    """The person's editor with its options, else, on a terminal, the system's."""
    for name in ("VISUAL", "EDITOR"):
        try:
            words = shlex.split(environment.get(name, ""))
        except ValueError as error:
            raise EditError(f"${name} is not a command: {error}") from None
        if words:
            return words
    if not terminal:
        raise EditError("there is no terminal for the usual editor: set EDITOR to a command")
    for program in _EDITORS:
        if shutil.which(program):
            return [program]
    raise EditError("no editor was found: set EDITOR to the one to use")


def run_editor(command: Sequence[str], path: str) -> None:
    """Let a person edit the file. Raises EditError if the editor fails."""
    # Ctrl-C in an editor is the editor's. A handler, unlike SIG_IGN, is not inherited by it.
    before = {number: signal.signal(number, _nothing) for number in (signal.SIGINT, signal.SIGQUIT)}
    try:
        status = subprocess.run([*command, path], check=False).returncode
    except OSError as error:
        raise EditError(f"the editor {command[0]} cannot be run: {error.strerror}") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if status:
        how = f"ended with status {status}" if status > 0 else f"was ended by signal {-status}"
        raise EditError(f"the editor {command[0]} {how}")


def _nothing(*_: object) -> None:
    pass


def show_difference(old: bytes, new: str, names: tuple[str, str]) -> None:
    """Print what diff -u says of the old data and the file `new`, under these names."""
    labels = [f"--label={name}" for name in names]
    try:
        subprocess.run(["diff", "-u", "--color=auto", *labels, "-", new], input=old, check=False)
    except OSError as error:
        raise EditError(f"diff cannot be run: {error.strerror}") from None


# --- Version control

Standing = Literal["known", "new", "same", "ignored"]


@dataclass(frozen=True)
class Repository:
    """A file under version control: by git or cvs, in a folder, by its name there."""

    system: str
    folder: str
    name: str

    def standing(self) -> Standing:
        """What the system says of the file: known and changed, new, same as before, ignored.

        CVS is not asked whether it is the same: its commit then does nothing.
        """
        if self.system == "cvs":
            return "known" if self._is_cvs_entry() else "new"
        ask = ["git", "--literal-pathspecs", "status", "--porcelain", "--ignored", "--", self.name]
        text = self._succeed(ask)
        marks: dict[str, Standing] = {"": "same", "??": "new", "!!": "ignored"}
        return marks.get(text[:2], "known")

    def _is_cvs_entry(self) -> bool:
        for log in ("Entries", "Entries.Log"):
            entries = _read(os.path.join(self.folder, "CVS", log)) or b""
            for line in entries.splitlines():
                if line.removeprefix(b"A ").startswith(b"/" + os.fsencode(self.name) + b"/"):
                    return True
        return False

    def commands(self, message: str, new: bool) -> list[list[str]]:
        """What has to be run in the folder to commit the file, and nothing beside it."""
        if self.system == "cvs":
            add, commit = ["cvs", "-Q", "add"], ["cvs", "-Q", "commit", "-m", message]
        else:
            add = ["git", "--literal-pathspecs", "add", "--"]
            commit = ["git", "--literal-pathspecs", "commit", "-q", "-m", message, "--"]
        return [[*add, self.name]] * new + [[*commit, self.name]]

    def commit(self, message: str, new: bool) -> None:
        """Raises EditError with what the program said."""
        path = os.path.join(self.folder, self.name)
        attributes = Attributes.of(path)
        try:
            for command in self.commands(message, new):
                self._succeed(command)
        finally:
            # CVS writes a file with keywords such as $Id$ anew, and readable by everybody.
            attributes.apply(path)

    def _succeed(self, command: Sequence[str]) -> str:
        done = _run(command, self.folder)
        if done.returncode:
            said = done.stdout or f"status {done.returncode}"
            raise EditError(f"not committed with {self.system}, which says:\n{said}")
        return done.stdout


def repositories(file: File) -> list[Repository]:
    """What has the file's folder under version control. Runs nothing."""
    found = []
    if os.path.isfile(os.path.join(file.folder, "CVS", "Entries")):
        found.append("cvs")
    folder = file.folder
    while not os.path.exists(os.path.join(folder, ".git")) and folder != "/":
        folder = os.path.dirname(folder)
    if os.path.exists(os.path.join(folder, ".git")):
        found.append("git")
    return [Repository(system, file.folder, os.path.basename(file.real)) for system in found]


# --- The peer


@dataclass(frozen=True)
class Theirs:
    """The peer's copy, with the path it has there, links followed; data None if there is none."""

    path: str
    data: bytes | None
    attributes: Attributes | None


def has_address(address: str) -> bool:
    """Whether this machine has the address."""
    with _datagram_socket(address) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


class Peer:
    """The peer's files, by rsync over ssh on the private link.

    RSYNC_RSH names the remote shell as it does for rsync itself. If that is ssh, what is said there
    goes before our own options, and ours go before those of ssh_config(5).
    """

    def __init__(self, conf: Conf, environment: Mapping[str, str]) -> None:
        self._conf = conf
        shell = environment.get("RSYNC_RSH", "").strip() or "ssh"
        is_ssh = os.path.basename(shell.split()[0]) == "ssh"
        bound = f"{shell} -o BindAddress={conf.primary}" if is_ssh else shell
        own = f"-o BatchMode=yes -o ConnectTimeout={CONNECT_SECONDS}"
        self._shell = f"{bound} {own}" if is_ssh else shell
        self.trial = f"{bound} {conf.secondary} true"  # by hand ssh may ask for what it needs
        self._root = f"[{conf.secondary}]:/" if ":" in conf.secondary else f"{conf.secondary}:/"

    def check_link(self) -> None:
        """See, without sending anything, that packets would leave by the private link.

        With the link down they would go by the default route, to whoever has the address there.
        """
        conf = self._conf
        with _datagram_socket(conf.primary) as probe:
            try:
                name = conf.plip_interface.encode()
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name)
                probe.bind((conf.primary, 0))
                probe.connect((conf.secondary, 9))
            except OSError as error:
                raise EditError(
                    f"the peer {conf.secondary} is out of reach: $plip_interface "
                    f"{conf.plip_interface} with $primary {conf.primary}: {error.strerror}"
                ) from None

    def fetch(self, path: str, scratch: Scratch) -> Theirs:
        """The copy that the peer has by this name, or where a link of this name leads there."""
        options = ("--ignore-missing-args", "--no-implied-dirs", "--links", "-pgo")
        for _ in range(_MAX_LINKS):
            into = tempfile.mkdtemp(dir=scratch.folder)
            said = self._rsync(path, *options, self._root, f"{into}/")
            got = into + path
            if os.path.islink(got):
                target = os.path.join(os.path.dirname(path), os.readlink(got))
                path = os.path.normpath(target)
            elif os.path.isfile(got):
                return Theirs(path, _read(got), Attributes.of(got))
            elif os.path.lexists(got) or "skipping" in said:
                raise EditError(f"on the peer {path} is not a regular file: see to it there")
            else:
                return Theirs(path, None, None)
        raise EditError(f"on the peer {path} is a link that leads nowhere: see to it there")

    def send(self, file: File, staged: str, path: str, scratch: Scratch) -> None:
        """Make the peer's file `path` like ours, but with what is in the file `staged`.

        rsync writes a new file and renames it. It makes the folders that are missing.
        """
        copy = scratch.path(f"out{path}")
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        shutil.copyfile(staged, copy)
        Attributes.of(file.real).apply(copy)
        extended = Attributes.of(copy).extended  # those that this file system can keep
        changed = os.stat(file.real).st_mtime_ns
        os.utime(copy, ns=(changed, changed))
        options = ["-pgotc"]
        if any(name.startswith("system.posix_acl") for name in extended):
            options.append("--acls")
        if any(name.startswith("user.") for name in extended):
            options.append("--xattrs")
        # Without --no-implied-dirs the peer's /etc would get the mode of our scratch folder.
        self._rsync(path, "--no-implied-dirs", *options, scratch.path("out") + "/", self._root)

    def _rsync(self, path: str, *arguments: str) -> str:
        """Run rsync for one path below the source. The path is taken as it is, *, ? and all."""
        program = ["rsync", f"--rsh={self._shell}", f"--timeout={SILENT_SECONDS}"]
        listed = [*program, "--from0", "--files-from=-", *arguments]
        done = _run(listed, data=os.fsencode(path) + b"\0")
        if done.returncode:
            said = [line for line in done.stdout.splitlines() if not _NOISE.match(line)]
            if done.returncode not in _FILE_FAILED:
                said.append(f"try the way there by hand: {self.trial}")
            raise EditError("\n".join([f"no rsync with the peer {self._conf.secondary}:", *said]))
        return done.stdout


def _datagram_socket(address: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
