"""ha-edit: edit a file on both nodes of the pair, so that nothing is lost on either.

Each file is edited on a copy, checked, shown, put in place, committed and brought to the peer. Each
step that follows stands in the list of what is left to do until it is done, so that whatever ends
this program, it says what to type.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from failoverd import statefile
from failoverd.conf import SETTINGS, Conf, ConfError, files, language, parse, remarks
from failoverd.log import complain
from failoverd.process import flush_output, in_words, open_streams
from failoverd.tools import edit
from failoverd.tools.arguments import DEFAULT_CONF, Parser, file_path
from failoverd.tools.edit import EditError

FAILURES = (EditError, ConfError, OSError)
CHECKS: dict[str, Callable[[str], object]] = {
    "conf": files.load,
    "host_type": files.read_host_type,
    "secret": files.read_secret,
}


def main(argv: list[str] | None = None) -> int:
    """The entry point. Exit status 0: all is done, 1: something is left to do, 2: usage."""
    options = _parse(argv)
    open_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files need not be UTF-8
        sys.stdout.reconfigure(errors="backslashreplace", line_buffering=True)
    session = Session(options)
    try:
        session.run()
    except FAILURES as error:
        session.fail(error)
    except (KeyboardInterrupt, EOFError):
        session.fail("interrupted")
    return session.end()


def _parse(argv: list[str] | None) -> argparse.Namespace:
    does = "Edit a file, commit it with git, and update the peer's copy."
    ends = "Exit status: 0 all is done, 1 standard error says what is left to do, 2 usage."
    parser = Parser(prog="ha-edit", description=does, epilog=ends)
    add = parser.add_argument
    add("files", nargs="+", type=file_path, metavar="FILE",
        help="edited with $VISUAL, $EDITOR or the system's editor")  # fmt: skip
    add("-m", dest="message", metavar="TEXT", default="", help="the commit message")
    add("--peer", action="store_true", help="edit nothing: overwrite the peer's copies, "
        "even if they were changed there")  # fmt: skip
    add("-v", dest="verbose", action="store_true", help="print the commands that are run")
    return parser.parse(argv)


@dataclass(frozen=True)
class File:
    """A file as it was when it was read; old is None if there was none.

    kind: conf, or the variable that names the file, or nothing.
    """

    path: str
    kind: str
    old: bytes | None


class Session:
    """One call of ha-edit."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._conf_path = os.path.abspath(options.config)
        self._conf: Conf | None = None  # the first that is valid: its addresses are in use
        self._asks = all(stream and stream.isatty() for stream in (sys.stdin, sys.stdout))
        self._failed = False
        self._left: list[str] = []  # what to type
        self._rest: list[str] = []  # the files that follow
        self._reload = False

    def run(self) -> None:
        """Raises one of FAILURES if it must stop; what was done until then stays."""
        with suppress(ConfError):
            self._conf = files.load(self._conf_path)
        paths = [*dict.fromkeys(map(os.path.realpath, self._options.files))]
        for number, path in enumerate(paths, 1):
            self._rest = paths[number:]
            folder = os.path.dirname(path)
            if not self._options.peer and not os.access(folder, os.W_OK):
                raise EditError(f"{folder} is missing or read-only: create it, or run this as root")
            file = File(path, self._kind(path), edit.read(path))
            if file.kind in ("pidfile", "state"):
                raise EditError(f"{path} is failoverd's own: let failoverd write it")
            edited = not self._options.peer and self._edit(file)
            if edited or self._options.peer or file.old is not None:
                self._follow(file, edited)

    def fail(self, error: Exception | str) -> None:
        self._failed = True
        complain("ha-edit", in_words(error) if isinstance(error, OSError) else str(error))

    def end(self) -> int:
        """Say what is left to do. The exit status."""
        flush_output()  # what could not be written has been told
        if self._reload and self._conf and os.path.exists(self._conf.pidfile):
            reload = f"kill -HUP $(cat {shlex.quote(self._conf.pidfile)})"
            print(f"to reload failoverd, on both nodes: {reload}")
        if self._rest:
            self._left.append(self._command(*["--peer"] * self._options.peer, *self._rest))
        if self._left:
            print("ha-edit: left to do:", *self._left, sep="\n  ", file=sys.stderr)
        return 1 if self._failed or self._left else 0

    def _kind(self, path: str) -> str:
        if path == os.path.realpath(self._conf_path) or path.endswith("/failoverd.conf"):
            return "conf"
        conf = files.load(self._conf_path)  # it may have been edited just now
        names = ("secret", "host_type", "pidfile", "state")
        known = [(getattr(conf, name), name) for name in names]
        known += [(statefile.place(conf.state, what), "state") for what in statefile.OUTLIVING]
        return next((kind for name, kind in known if os.path.realpath(name) == path), "")

    # Editing

    def _edit(self, file: File) -> bool:
        """Have the file edited, and put it in place; False if it was not changed."""
        folder = tempfile.mkdtemp(prefix="ha-edit-", dir=edit.SCRATCH_PLACE)
        copy = os.path.join(folder, os.path.basename(file.path))
        unchanged = file.old or b""
        Path(copy).write_bytes(unchanged)
        placed = False
        try:
            while not self._is_wanted(file, copy):
                pass
            data = Path(copy).read_bytes()
            if data != unchanged:
                mode = 0o600 if file.kind == "secret" else 0o666
                edit.replace(file.path, file.old, data, mode)
                placed = True
        finally:
            if placed or edit.read(copy) in (None, unchanged):
                shutil.rmtree(folder)
            else:
                complain("ha-edit", f"{file.path} is as it was; what was written is in {copy}")
                editor = shlex.quote(f"cp {shlex.quote(copy)}")
                self._left.append(f"VISUAL={editor} {self._command(file.path)}")
        if not placed:
            print(f"{file.path}: not changed")
        return placed

    def _is_wanted(self, file: File, copy: str) -> bool:
        """Whether what the user now writes can be put in place; False: it is edited again."""
        self._say(f"editing {copy}")
        edit.run_editor(copy, self._asks)
        os.chmod(copy, 0o600)  # some editors write a new file
        if edit.read(copy) == (file.old or b""):
            return True
        try:
            CHECKS.get(file.kind, edit.read)(copy)
        except ConfError as error:
            print(str(error).replace(copy, file.path), file=sys.stderr)
            if self._ask("This is invalid. Edit again? [Y/n] ", "yn", "n") == "y":
                return False
            raise EditError(f"{file.path}: what was written is invalid") from None
        self._show(file, file.old or b"", copy, "before", "now")
        answer = self._ask("Put it in place? [Y]es, [e]dit again, [n]o: ", "yen", "y")
        if answer == "n":
            raise EditError(f"{file.path}: not put in place")
        return answer == "y"

    # What follows

    def _follow(self, file: File, edited: bool) -> None:
        """Commit the file if it was edited, and bring it to the peer."""
        steps: list[tuple[str, Callable[[File], None]]] = []
        if edited and any((folder / ".git").exists() for folder in Path(file.path).parents):
            steps.append((" && ".join(map(shlex.join, self._git(file))), self._commit))
        if file.kind != "host_type":
            steps.append((self._command("--peer", file.path), self._bring))
        self._left += [command for command, _ in steps]  # before any output, which may fail
        if edited:
            print(f"{file.path}: put in place")
        if file.kind == "host_type":
            print(f"{file.path}: belongs to this node alone, the peer has its own")
        if edited and file.kind == "conf":
            conf = files.load(file.path)
            for warning in [*map(str, files.check_files(conf)), *remarks(conf)]:
                complain("ha-edit", f"warning: {warning}")
        self._reload |= edited and file.kind in ("conf", "secret")
        for command, step in steps:
            try:
                step(file)
            except FAILURES as error:
                self.fail(error)
            else:
                self._left.remove(command)

    def _git(self, file: File) -> list[list[str]]:
        """What commits the file, and nothing beside it."""
        folder, name = os.path.split(file.path)
        who = os.environ.get("SUDO_USER") or os.environ.get("LOGNAME") or f"user {os.getuid()}"
        message = self._options.message or f"{name}: edited by {who} with ha-edit"
        git = ["git", "-C", folder, "--literal-pathspecs"]
        return [[*git, "add", "--", name], [*git, "commit", "-q", "-m", message, "--", name]]

    def _commit(self, file: File) -> None:
        add, commit = self._git(file)
        state = edit.run([*add[:4], "status", "--porcelain", "--ignored", "--", add[-1]])[:2]
        if state in ("", "!!"):
            print(f"{file.path}: nothing to commit, git {'ignores' if state else 'has'} it")
        elif state == "??" and file.kind == "secret":
            print(f"{file.path}: the secret is not put under version control")
        else:
            for command in (add, commit):
                self._say(shlex.join(command))
                edit.run(command, hint=f": {file.path} is not committed")
            print(f"{file.path}: committed with git")

    def _bring(self, file: File) -> None:
        """Make the peer's copy like the one here."""
        CHECKS.get(file.kind, edit.read)(file.path)  # nothing invalid is sent
        self._conf = self._conf or files.load(self._conf_path)
        self._say(f"rsync with the peer {self._conf.secondary}")
        peer = edit.Peer(self._conf)
        wanted = _for_peer(file, Path(file.path).read_bytes())
        expected = [None, wanted]
        with suppress(*FAILURES):  # what was here before may be invalid
            expected.append(_for_peer(file, file.old or b""))
        with tempfile.TemporaryDirectory(prefix="ha-edit-", dir=edit.SCRATCH_PLACE) as folder:
            theirs = peer.fetch(file.path, f"{folder}/there")
            backup = ""
            if theirs not in expected:
                self._confirm_overwrite(file, theirs or b"", wanted, f"{folder}/wanted")
                backup = f"/var/tmp/{os.path.basename(folder)}"
            sent = peer.send(file.path, wanted, f"{folder}/here", backup)
        how = ", with $primary and $secondary exchanged" if file.kind == "conf" else ""
        print(f"{file.path}: {f'the peer has it now{how}' if sent else 'the same on the peer'}")
        self._reload |= sent and file.kind in ("conf", "secret")
        if backup:
            print(f"{file.path}: what the peer had is kept there: {backup}{file.path}")

    def _confirm_overwrite(self, file: File, theirs: bytes, wanted: bytes, scratch: str) -> None:
        """Ask whether what was changed on the peer may go. Raises EditError if not."""
        complain("ha-edit", f"{file.path}: the peer's copy differs, and not by this edit")
        Path(scratch).write_bytes(wanted)
        self._show(file, theirs, scratch, "on the peer", "as it should be there")
        unasked = "y" if self._options.peer else "n"
        if self._ask("Overwrite the peer's copy? [y/N] ", "ny", unasked) != "y":
            raise EditError(f"{file.path}: the peer's copy is left as it is")

    # Talking

    def _command(self, *arguments: str) -> str:
        conf = [] if self._conf_path == DEFAULT_CONF else ["-c", self._conf_path]
        return shlex.join(["ha-edit", *conf, *arguments])

    def _say(self, text: str) -> None:
        if self._options.verbose:
            complain("ha-edit", text)

    def _show(self, file: File, old: bytes, new: str, *names: str) -> None:
        """Show how the file `new` differs from the old data, under these names."""
        if file.kind == "secret":
            print(f"{file.path}: the secret differs; it is not shown")
            return
        labels = [f"--label={file.path} ({name})" for name in names]
        subprocess.run(["diff", "-u", "--color=auto", *labels, "-", new], input=old, check=False)

    def _ask(self, prompt: str, letters: str, unasked: str) -> str:
        """The user's answer, the first letter if that is empty; `unasked` without a terminal."""
        answer = "" if self._asks else unasked
        while not answer or answer not in letters:
            answer = input(prompt).strip().lower()[:1] or letters[0]
        return answer


# --- failoverd.conf on the peer

_NAMES = {setting.perl_name for setting in SETTINGS.values()}
_BLANKS = r"(?:\s|#[^\n]*\n)*+"
_STRING = r"'(?:[^'\\]|\\.)*+'|\"(?:[^\"\\]|\\.)*+\""
_ADDED = "; # added by ha-edit: the other node has the default"


def _for_peer(file: File, data: bytes) -> bytes:
    """What the peer should have where this is here."""
    if file.kind != "conf":
        return data
    text = exchanged(data.decode("utf-8", "surrogateescape"))
    return text.encode("utf-8", "surrogateescape")


def exchanged(text: str) -> str:
    """failoverd.conf as the peer should have it: the values of $primary and $secondary exchanged.

    Nothing else is changed. One that is not set is added at the end. Done twice, the text is again
    what it was. Raises EditError or ConfError.
    """
    before = parse(text, "here")
    values = _values(text)
    changed = _with_value(text, "$primary", values["$secondary"])
    changed = _with_value(changed, "$secondary", values["$primary"])
    after = parse(changed, "there")
    if (after.primary, after.secondary) != (before.secondary, before.primary):
        raise EditError("$primary and $secondary cannot be exchanged: write each as one string")
    return changed


def _values(text: str) -> dict[str, str]:
    """The strings of $primary and $secondary that are in force."""
    assigned = language.read(text, "", _NAMES).assigned
    default = {name: str(SETTINGS[name[1:]].default) for name in ("$primary", "$secondary")}
    return {n: assigned[n].strings[0] if n in assigned else default[n] for n in default}


def _with_value(text: str, name: str, value: str) -> str:
    """The text with another value in that assignment of the variable which is in force."""
    variable = re.escape(name)
    without = re.sub(rf"^{variable} = .*{_ADDED}\n", "", text, flags=re.MULTILINE)
    if _values(without)[name] == value:
        return without
    # The name may also stand in a remark or a string, or be assigned more than once.
    assignment = rf"{variable}(?={_BLANKS}={_BLANKS}(?P<string>{_STRING}))"
    for found in reversed([*re.finditer(assignment, text, re.DOTALL)]):
        start, end = found.span("string")
        changed = f"{text[: start + 1]}{value}{text[end - 1 :]}"
        if _values(changed)[name] == value:
            return changed
    newline = "" if text.endswith("\n") else "\n"
    return f'{text}{newline}{name} = "{value}"{_ADDED}\n'


if __name__ == "__main__":
    sys.exit(main())
