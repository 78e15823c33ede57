"""ha-edit: edit a file on both machines of the pair, so that nothing is lost on either.

Each file goes through the same steps: edited on a copy, checked, shown, put in place, committed,
brought to the peer. Once a file is in place the steps that follow stand in the list of what is
left to do until each is done, so that whatever ends this program, it says what to type.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace

from failoverd import __version__, files
from failoverd.conf import SETTINGS, Conf, ConfError, parse, remarks
from failoverd.edit import (
    Attributes,
    EditError,
    File,
    Peer,
    Repository,
    Scratch,
    Theirs,
    editor_command,
    has_address,
    look,
    place,
    repositories,
    run_editor,
    show_difference,
)
from failoverd.language import quoted, read
from failoverd.log import complain
from failoverd.process import open_streams

DEFAULT_CONF = "/etc/failover/failoverd.conf"


def main(argv: list[str] | None = None) -> int:
    """The entry point. Exit status 0: all is done, 1: something is left to do, 2: usage."""
    options = _parse(argv)
    open_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be UTF-8
    session = Session(options)
    try:
        session.run()
    except (EditError, OSError) as error:
        session.fail(_sentence(error))
    except KeyboardInterrupt:
        session.fail("interrupted")
    return session.end()


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="ha-edit",
        description="Edit a file on both machines: check it, show the difference, put it in "
        "place, commit it with git or CVS, and bring the peer's copy into line.",
        epilog="Exit status: 0 all is done, 1 something is left to do and what is said, 2 usage.",
    )
    add = parser.add_argument
    add("files", nargs="+", metavar="FILE", help="edited in $VISUAL, $EDITOR or the system's")
    add("-c", dest="config", metavar="CONF", default=DEFAULT_CONF,
        help="the configuration (default: %(default)s)")  # fmt: skip
    add("-m", dest="message", metavar="TEXT", default="", help="the message of the commit")
    add("--peer", action="store_true", help="edit nothing: bring the peer's copies into line, "
        "also where they were changed there")  # fmt: skip
    add("-v", dest="verbose", action="store_true", help="say which programs do the work")
    add("--version", action="version", version=f"ha-edit {__version__}")
    return parser.parse_args(argv)


class Session:
    """One call of ha-edit."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._conf_path = os.path.abspath(options.config)
        self._asks = all(stream and stream.isatty() for stream in (sys.stdin, sys.stdout))
        self._at_start: Conf | None = None
        self._failed = False
        self._left: dict[tuple[str, str], str] = {}  # by file and step, what to type
        self._reload = False

    def run(self) -> None:
        """Raises EditError if it must stop; what was done until then stays."""
        named = [look(path, to_write=not self._options.peer) for path in self._options.files]
        todo = list({file.real: file for file in named}.values())
        try:
            self._at_start = files.load(self._conf_path)
        except ConfError as error:
            if not any(self._is_conf(file) for file in todo):
                mend = f"mend it first: ha-edit {shlex.quote(self._conf_path)}"
                raise EditError(f"{error}\n{mend}") from None
            todo.sort(key=lambda file: not self._is_conf(file))  # then the others can be judged
        for file in todo:
            self._refuse_own(file)
        for number, file in enumerate(todo):
            try:
                self._do(file)
            except (EditError, OSError) as error:
                rest = [other.path for other in todo[number + 1 :]]
                stopped = "\nnot looked at: " + shlex.join(rest) if rest else ""
                raise EditError(f"{_sentence(error)}{stopped}") from None

    def _do(self, file: File) -> None:
        if not self._confs() and not self._is_conf(file):  # it may be the secret
            raise EditError(f"{file.path} must wait until {self._conf_path} is sound")
        if self._options.peer:
            self._check_before_sending(file)
            self._bring_to_peer(file, file.data)
        else:
            self._edit(look(file.path))  # it may have changed while another was edited

    def fail(self, message: str) -> None:
        self._failed = True
        for line in message.splitlines():
            complain("ha-edit", line)

    def end(self) -> int:
        """Say what is left to do. The exit status."""
        conf = self._conf_in_force()
        if self._reload and conf and os.path.exists(conf.pidfile):
            print("a running failoverd takes it when it is told, on both machines:")
            print(f"  kill -HUP $(cat {shlex.quote(conf.pidfile)})")
        if self._left:
            complain("ha-edit", "left to do:")
            for command in self._left.values():
                print(f"  {command}", file=sys.stderr)
        return 1 if self._failed or self._left else 0

    # Which file it is

    def _confs(self) -> list[Conf]:
        """The configuration as it is now and as it was at first, without what is not sound."""
        first = [self._at_start] if self._at_start else []
        try:
            return [files.load(self._conf_path), *first]
        except ConfError:
            return first

    def _conf_in_force(self) -> Conf | None:
        """The one whose $primary is ours: a new address may be in use already, or not yet."""
        confs = self._confs()
        ours = (conf for conf in confs if has_address(conf.primary))
        return next(ours, confs[0] if confs else None)

    def _is_conf(self, file: File) -> bool:
        return (
            file.real == os.path.realpath(self._conf_path)
            or os.path.basename(file.path) == "failoverd.conf"
        )

    def _is(self, file: File, *names: str) -> bool:
        """Whether the configuration names the file in one of these variables."""
        paths = [getattr(conf, name) for conf in self._confs() for name in names]
        return file.real in map(os.path.realpath, paths)

    def _is_read_by_failoverd(self, file: File) -> bool:
        return self._is_conf(file) or self._is(file, "secret")

    def _refuse_own(self, file: File) -> None:
        if self._is(file, "pidfile", "state"):
            raise EditError(f"{file.path} is failoverd's own: let failoverd write it")
        if self._options.peer and file.data is None:
            raise EditError(f"{file.path} does not exist: there is nothing to bring to the peer")

    def _faults(self, file: File, copy: str) -> list[str]:
        """What is wrong with the text in `copy` if it becomes this file."""
        checks: dict[str, Callable[[str], object]] = {
            "host_type": files.read_host_type,
            "secret": files.read_secret,
        }
        found = [check for name, check in checks.items() if self._is(file, name)]
        if self._is_conf(file):
            found.append(files.load)
        faults = []
        for check in found:
            try:
                check(copy)
            except ConfError as error:
                faults += [str(replace(each, file=file.path)) for each in error.problems]
        return [fault.replace(copy, file.path) for fault in faults]

    # Editing

    def _edit(self, file: File) -> None:
        with Scratch() as scratch:
            copy = scratch.path(os.path.basename(file.path))
            if file.data is not None:
                scratch.write(os.path.basename(file.path), file.data)
            try:
                data = self._edited(file, copy)
                if data is not None:
                    place(file, data, private=self._is(file, "secret"))
            except BaseException:
                self._save(file, copy, scratch)
                raise
        if data is None:
            print(f"{file.path}: {'not made' if file.data is None else 'not changed'}")
            if file.data is not None:
                self._bring_to_peer(file, file.data)
            return
        self._plan(file)
        print(f"{file.path}: put in place")
        self._reload |= self._is_read_by_failoverd(file)
        self._warn(file)
        self._commit(file)
        self._bring_to_peer(file, file.data)

    def _plan(self, file: File) -> None:
        """Note what follows once a file is in place, should we be interrupted."""
        for repository in repositories(file):
            commands = repository.commands(self._message(repository), new=False)
            self._left[file.real, repository.system] = _typed(repository.folder, commands)
        if not self._is(file, "host_type"):
            self._left[file.real, "peer"] = self._command(file, "--peer")

    def _edited(self, file: File, copy: str) -> bytes | None:
        """What the person wrote and wants in place, None if nothing was changed."""
        command = editor_command(os.environ, self._asks)
        while True:
            self._say(shlex.join([*command, copy]))
            try:
                run_editor(command, copy)
            except EditError as error:
                raise EditError(f"{error}: {file.path} is as it was") from None
            if os.path.exists(copy):
                os.chmod(copy, 0o600)  # some editors write a new file
            data = look(copy).data
            if data == file.data:
                return None
            if data is None:
                raise EditError(f"{file.path} is as it was: the editor has removed the copy")
            if self._wanted(file, copy):
                return data

    def _wanted(self, file: File, copy: str) -> bool:
        """Whether to put it in place, or to edit it again. Raises EditError for neither."""
        faults = self._faults(file, copy)
        if faults:
            for fault in faults:
                complain("ha-edit", fault)
            answer = self._ask("That cannot be used. Edit again? [Y/n] ", "yn", "n")
            if answer == "y":
                return False
            raise EditError(f"{file.path} is as it was: what was written cannot be used")
        self._show(file, file.data, copy, "before", "now")
        answer = self._ask("Put it in place? [Y]es, [e]dit again, [n]o: ", "yen", "y")
        if answer == "n":
            raise EditError(f"{file.path} is as it was")
        return answer == "y"

    def _save(self, file: File, copy: str, scratch: Scratch) -> None:
        """Keep what was written, if anything was, and say how it gets into place later."""
        try:
            with open(copy, "rb") as stream:
                scratch.keep = stream.read() != file.data
        except OSError:
            scratch.keep = False
        if scratch.keep:
            editor = shlex.quote(f"cp {shlex.quote(copy)}")
            self._left[file.real, "place"] = f"VISUAL={editor} {self._command(file)}"
            first = ": mend it there first" if self._faults(file, copy) else ""
            complain("ha-edit", f"what was written is kept in {copy}{first}")

    def _warn(self, file: File) -> None:
        """What `failoverd -t` would say beside errors in the file itself."""
        if not self._is_conf(file):
            return
        try:
            conf = files.load(file.real)
        except ConfError:
            return  # it was changed again
        for warning in [*map(str, files.check_files(conf)), *remarks(conf)]:
            complain("ha-edit", f"warning: {warning}")

    def _commit(self, file: File) -> None:
        for repository in repositories(file):
            step = (file.real, repository.system)
            try:
                self._commit_to(repository, file, step)
            except (EditError, OSError) as error:
                self.fail(f"{file.path}: {_sentence(error)}")
            else:
                self._left.pop(step, None)

    def _message(self, repository: Repository) -> str:
        who = os.environ.get("SUDO_USER") or os.environ.get("LOGNAME") or f"user {os.getuid()}"
        return self._options.message or f"{repository.name}: edited by {who} with ha-edit"

    def _commit_to(self, repository: Repository, file: File, step: tuple[str, str]) -> None:
        message = self._message(repository)
        standing = repository.standing()
        if standing in ("ignored", "same"):
            why = "ignored" if standing == "ignored" else "the same as in the last commit"
            print(f"{file.path}: {why}, says {repository.system}: nothing to commit")
        elif standing == "new" and self._is(file, "secret"):
            print(f"{file.path}: the secret is not put under version control")
        else:
            new = standing == "new"
            self._left[step] = _typed(repository.folder, repository.commands(message, new))
            self._say(self._left[step])
            repository.commit(message, new)
            print(f"{file.path}: committed with {repository.system}")

    # The peer

    def _check_before_sending(self, file: File) -> None:
        faults = self._faults(file, file.real)
        if faults:
            raise EditError("\n".join([*faults, f"{file.path} is not sent to the peer like that"]))

    def _bring_to_peer(self, file: File, before: bytes | None) -> None:
        """Make the peer's copy like ours. before: what was here when ha-edit began."""
        if self._is(file, "host_type"):
            print(f"{file.path}: belongs to this machine alone, the peer has its own")
            return
        step = (file.real, "peer")
        self._left[step] = self._command(file, "--peer")
        try:
            with Scratch() as scratch:
                settled = self._bring(file, before, scratch)
        except (EditError, OSError) as error:
            self.fail(f"{file.path}: {_sentence(error)}")
        else:
            if settled:
                del self._left[step]

    def _bring(self, file: File, before: bytes | None, scratch: Scratch) -> bool:
        conf = self._conf_in_force()
        if conf is None:
            raise EditError(f"{self._conf_path} is not sound, so the peer is not known")
        peer = Peer(conf, os.environ)
        self._say(f"rsync to the peer; the way there is tried with {peer.trial}")
        peer.check_link()
        file = look(file.path, to_write=False)  # CVS may have written it anew
        if file.data is None:
            raise EditError("it is not there any more: nothing is sent to the peer")
        theirs = peer.fetch(file.path, scratch)
        staged = scratch.write("here", self._for_peer(file, file.data))
        shown: list[bytes | None] = []
        while theirs.data not in shown and not self._is_expected(file, before, theirs.data):
            if not self._may_overwrite(file, theirs, staged):
                return False
            shown = [theirs.data]
            theirs = peer.fetch(theirs.path, scratch)  # a person took time to answer
        if theirs.data is not None and theirs.data in shown:
            kept = Scratch().write(f"{os.path.basename(file.path)}.peer", theirs.data)
            print(f"{file.path}: what the peer had is kept in {kept}")
        self._send(peer, file, theirs, staged, scratch)
        return True

    def _is_expected(self, file: File, before: bytes | None, theirs: bytes | None) -> bool:
        """Whether the peer has what it should have, or what it should have had until now."""
        if self._is_in_line(file, file.data, theirs):
            return True
        return before != file.data and (theirs is None or self._is_in_line(file, before, theirs))

    def _is_in_line(self, file: File, here: bytes | None, there: bytes | None) -> bool:
        if here is None or there is None or not self._is_conf(file):
            return here == there
        for one, other in ((here, there), (there, here)):
            try:
                if self._for_peer(file, one) == other:
                    return True
            except EditError:
                pass  # it is not sound, and nothing is in line with it
        return False

    def _for_peer(self, file: File, data: bytes) -> bytes:
        """What the peer should have where we have this."""
        if not self._is_conf(file):
            return data
        text = exchanged(data.decode("utf-8", "surrogateescape"))
        return text.encode("utf-8", "surrogateescape")

    def _send(self, peer: Peer, file: File, theirs: Theirs, staged: str, scratch: Scratch) -> None:
        """Send it, unless data, mode and owner are what they should be."""
        attributes = Attributes.of(file.real)
        alike = theirs.attributes is not None and _alike(theirs.attributes, attributes)
        if alike and self._is_in_line(file, file.data, theirs.data):
            print(f"{file.path}: the peer's copy is in line")
            return
        peer.send(file, staged, theirs.path, scratch)
        self._reload |= self._is_read_by_failoverd(file)
        how = ", with $primary and $secondary exchanged" if self._is_conf(file) else ""
        print(f"{file.path}: the peer has it now{how}")

    def _may_overwrite(self, file: File, theirs: Theirs, staged: str) -> bool:
        """Ask whether what the peer has may go, which is not what was here before."""
        if theirs.data is None:
            print(f"{file.path}: the peer has no such file")
            question = "Make it there? [y/N] "
        else:
            complain("ha-edit", f"{file.path}: the peer's copy differs, and not by this edit")
            self._show(file, theirs.data, staged, "on the peer", "as it should be there")
            question = "Overwrite the peer's copy? [y/N] "
        if self._ask(question, "ny", "y" if self._options.peer else "n") != "y":
            self.fail(f"{file.path}: the peer's copy is left as it is")
            return False
        return True

    # Talking

    def _command(self, file: File, *options: str) -> str:
        conf = [] if self._conf_path == DEFAULT_CONF else ["-c", self._conf_path]
        return shlex.join(["ha-edit", *conf, *options, file.path])

    def _say(self, text: str) -> None:
        if self._options.verbose:
            print(f"ha-edit: {text}", file=sys.stderr)

    def _show(self, file: File, old: bytes | None, new: str, old_name: str, new_name: str) -> None:
        if self._is(file, "secret"):
            print(f"{file.path}: the word differs; it is not shown")
            return
        sys.stdout.flush()
        names = (f"{file.path} ({old_name})", f"{file.path} ({new_name})")
        show_difference(old or b"", new, names)

    def _ask(self, question: str, letters: str, unasked: str) -> str:
        """The answer of a person, the first letter if that is empty; `unasked` off a terminal."""
        if not self._asks:
            return unasked
        while True:
            try:
                answer = input(question).strip().lower()[:1]
            except EOFError:
                print()
                return "n"
            if not answer:
                return letters[0]
            if answer in letters:
                return answer


def _alike(one: Attributes, other: Attributes) -> bool:
    if one.mode != other.mode:
        return False
    # Only root gets files of others from rsync.
    return os.geteuid() != 0 or (one.uid, one.gid) == (other.uid, other.gid)


def _sentence(error: EditError | OSError) -> str:
    if isinstance(error, EditError):
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)


def _typed(folder: str, commands: list[list[str]]) -> str:
    """The line that a person types to run these commands in the folder."""
    return " && ".join(map(shlex.join, [["cd", folder], *commands]))


# --- failoverd.conf on the peer

_NAMES = {setting.perl_name for setting in SETTINGS.values()}
_BLANKS = r"(?:\s|#[^\n]*\n)*"
_ASSIGNED = re.compile(
    rf"{_BLANKS}={_BLANKS}(?P<string>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")", re.DOTALL
)
_ADDED = "{} = {}; # added by ha-edit: the other machine has the default\n"


def exchanged(text: str) -> str:
    """failoverd.conf as the peer should have it: the values of $primary and $secondary exchanged.

    Nothing else is changed. One that is not set, so that its default is in force, is added at the
    end; done twice, the text is again what it was. Raises EditError if it cannot be done.
    """
    changed = text
    try:
        before = parse(text, "here")
        values = _values(text)
        changed = _with_value(changed, "$primary", values["$secondary"])
        changed = _with_value(changed, "$secondary", values["$primary"])
        after = parse(changed, "there")
    except ConfError as error:
        raise EditError(f"$primary and $secondary cannot be exchanged:\n{error}") from None
    if (after.primary, after.secondary) != (before.secondary, before.primary):
        raise EditError("$primary and $secondary cannot be exchanged: write each as one string")
    return changed


def _values(text: str) -> Mapping[str, str]:
    """The strings of $primary and $secondary that are in force."""
    assigned = read(text, "", _NAMES).assigned
    return {
        name: assigned[name].strings[0] if name in assigned else str(SETTINGS[name[1:]].default)
        for name in ("$primary", "$secondary")
    }


def _with_value(text: str, name: str, value: str) -> str:
    """The text with another value in that assignment of the variable which is in force."""
    assigned = read(text, "", _NAMES).assigned.get(name)
    if assigned is None:
        end = "" if text.endswith("\n") else "\n"
        return f"{text}{end}{_ADDED.format(name, quoted(value))}"
    start = 0
    for _ in range(assigned.line - 1):
        start = text.index("\n", start) + 1
    added = _ADDED.format(name, quoted(assigned.strings[0]))
    if value == SETTINGS[name[1:]].default and text.startswith(added, start):
        return text[:start] + text[start + len(added) :]
    # The name may also stand in a remark or a string of that line, or be assigned there twice.
    for place_ in re.finditer(re.escape(name), text[start:].partition("\n")[0]):
        found = _ASSIGNED.match(text, start + place_.end())
        if found:
            written = _quoted_like(found["string"], value)
            changed = text[: found.start("string")] + written + text[found.end("string") :]
            if _values(changed)[name] == value:
                return changed
    raise EditError(f"the assignment of {name} was not found: write it on one line")


def _quoted_like(string: str, value: str) -> str:
    plain = string[0] == "'" and not re.search(r"['\\]", value)
    return f"'{value}'" if plain else quoted(value)


if __name__ == "__main__":
    sys.exit(main())
