"""The files and programs of ha-edit: nothing is decided here, nothing prompted for.

A file is replaced by a rename, and rsync over ssh fetches and sends the peer's copy. Programs say
themselves what went wrong, on standard error.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from failoverd.conf import Conf

SCRATCH_PLACE = "/var/tmp"  # unlike /tmp it outlasts a reboot
_EDITORS = ("sensible-editor", "editor", "vi", "nano")
_SILENT_SECONDS = 20  # rsync gives up when so long nothing came


class EditError(Exception):
    """Something could not be done; the text says what, and the way out. One sentence a line."""


def read(path: str) -> bytes | None:
    """What is in a regular file, None if there is none. Never waits for a pipe's writer."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise EditError(f"{path} is not a regular file")
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        return None


def replace(path: str, old: bytes | None, data: bytes, mode: int) -> None:
    """Replace what is still as `old`; readers see the old or the new. mode: of a new file."""
    if read(path) != old:
        raise EditError(f"{path} has changed meanwhile: it is left as it is now")
    folder, name = os.path.split(path)
    new = os.path.join(folder, f".{name}.ha-edit-{os.getpid()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with open(os.open(new, flags, mode if old is None else 0o600), "wb") as stream:
        try:
            stream.write(data)
            stream.flush()
            if old is not None:
                _make_like(path, new)
            os.fsync(stream.fileno())
            os.rename(new, path)
        except BaseException as error:
            os.unlink(new)
            if isinstance(error, OSError):
                raise EditError(f"{path} cannot be replaced: {error.strerror}") from None
            raise


def _make_like(model: str, path: str) -> None:
    """Give a file the owner, the mode, and the ACLs and other extended attributes of another."""
    info = os.stat(model)
    os.chown(path, info.st_uid, info.st_gid)
    shutil.copystat(model, path)  # after chown, which takes away set-user-id
    os.utime(path)


def run(argv: Sequence[str], data: bytes = b"", hint: str = "") -> str:
    """What the program printed. Raises EditError, with the hint, if it fails."""
    done = subprocess.run(argv, input=data, stdout=subprocess.PIPE, check=False)
    text = done.stdout.decode(errors="backslashreplace")
    if done.returncode:
        raise EditError(f"{text}{argv[0]} failed with status {done.returncode}{hint}")
    return text


def run_editor(path: str, on_terminal: bool) -> None:
    """Have the file edited in the user's editor, else, on a terminal, in the system's."""
    usual = next(filter(shutil.which, _EDITORS), "") if on_terminal else ""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or usual
    if not editor:
        raise EditError("no editor: set EDITOR to the one to use")
    # Ctrl-C in an editor is the editor's. A handler, unlike SIG_IGN, is not inherited by it.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        shell = ["sh", "-c", f'exec {editor} "$1"', "sh", path]
        status = subprocess.run(shell, check=False).returncode
    finally:
        signal.signal(signal.SIGINT, before)
    if status:
        how = f"ended with status {status}" if status > 0 else f"was killed by signal {-status}"
        raise EditError(f"the editor {editor} {how}")


class Peer:
    """The peer's files, by rsync over ssh on the heartbeat link, or over what RSYNC_RSH names."""

    def __init__(self, conf: Conf) -> None:
        # With the link down packets would go by the default route, to any host with the address.
        named = os.environ.get("RSYNC_RSH", "").strip()
        by_hand = named or f"ssh -o BindInterface={conf.plip_interface}"
        self._shell = named or f"{by_hand} -o BatchMode=yes -o ConnectTimeout=5"
        self._hint = f": try the way there by hand: {by_hand} {conf.secondary} true"
        self._root = f"[{conf.secondary}]:/" if ":" in conf.secondary else f"{conf.secondary}:/"

    def fetch(self, path: str, folder: str) -> bytes | None:
        """What the peer has by this name, None if nothing."""
        options = ("--ignore-missing-args", "--no-implied-dirs", "--links")
        said = self._rsync(path, *options, self._root, folder)
        got = folder + path
        if os.path.islink(got) or os.path.isdir(got) or "skipping" in said:
            raise EditError(f"on the peer {path} is not a regular file: see to it there")
        return read(got)

    def send(self, path: str, data: bytes, folder: str, backup: str) -> bool:
        """Make the peer's file like the one here, but with this data; False if it was so. What is
        overwritten goes to the directory `backup` on the peer, if that is given."""
        copy = Path(folder + path)
        copy.parent.mkdir(parents=True)
        copy.write_bytes(data)
        _make_like(path, str(copy))
        keep = ["--backup", f"--backup-dir={backup}"] if backup else []
        # Without --no-implied-dirs the peer's /etc would get the mode of the scratch directory.
        options = ("-AXogci", "--no-implied-dirs", *keep)
        return self._rsync(path, *options, f"{folder}/", self._root) != ""

    def _rsync(self, path: str, *arguments: str) -> str:
        """Run rsync for one path below the source. The path is taken as it is, *, ? and all."""
        program = ["rsync", f"--rsh={self._shell}", f"--timeout={_SILENT_SECONDS}"]
        listed = [*program, "--from0", "--files-from=-", *arguments]
        return run(listed, os.fsencode(path) + b"\0", self._hint)
