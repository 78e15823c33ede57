"""The language of failoverd.conf: Perl's assignments of strings and lists, read and never run.

The values are those that Perl gives (perldata, perlop; section 3 of the contract has the list of
what is understood). All else is a problem that says what to write. Nothing stops at the first one:
reading goes on with the next statement. Which variables there are, and what their strings mean, is
not known here. Text that was not UTF-8 in the file arrives with surrogate escapes and is kept byte
for byte, as Perl keeps it.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

MAX_PROBLEMS = 100  # no reader goes on; and a quote that is missing can cost a look at all the rest
MAX_VALUE = 64 * 1024  # characters: "$log$log" again and again is soon longer than the memory


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and where. Lines count from 1."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


@dataclass(frozen=True)
class Assigned:
    """The last assignment of a variable: its line, the strings, one only for a scalar, and from
    where to where in the text they are written."""

    line: int
    strings: tuple[str, ...]
    span: tuple[int, int]


@dataclass(frozen=True)
class Reading:
    """What a text says, by names with sigil.

    `spoiled` are variables whose value cannot be told because of a problem in an assignment.
    """

    assigned: dict[str, Assigned]
    spoiled: set[str]
    problems: list[Problem]


def read(text: str, file: str, names: Collection[str]) -> Reading:
    """Read all assignments of a text. `names` are the known variables, each with its sigil."""
    return _Reader(text, file, names).read()


def shortened(text: str) -> str:
    """The text as it would stand in the file, cut to a length that fits a message."""
    return quoted(text) if len(text) <= 60 else f"{quoted(text[:60])}..."


def quoted(text: str) -> str:
    """The text as a string of this language in double quotes. All of it can be printed."""
    return '"' + "".join(_WITH_ESCAPE.get(char) or _printable(char) for char in text) + '"'


def _printable(char: str) -> str:
    octets = b"" if char.isprintable() else char.encode("utf-8", "surrogateescape")
    return "".join(f"\\x{octet:02x}" for octet in octets) or char


_ESCAPES = dict(zip('\\"$@ntre0', '\\"$@\n\t\r\x1b\0', strict=True))
_WITH_ESCAPE = {char: f"\\{letter}" for letter, char in _ESCAPES.items() if letter != "0"}

_BLANKS = r"(?:[ \t\n\r\f\v]++|#[^\n]*+)*+"
_STRING = r"""(?:'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+")"""
_NUMBER = r"\.?[0-9](?:[eE][+-]?(?=[0-9])|[\w.])*+"
_WORDS = r"qw(?!\w)[ \t]*+\([^()\\]*+\)"
_ITEM = f"(?:{_STRING}|{_NUMBER}|{_WORDS})"
# As much of a statement as is understood: all of it if there is an end, and no list that is open.
_STATEMENT = re.compile(
    rf"(?:(?:my|our)\b{_BLANKS})?+(?P<name>[$@][A-Za-z_]\w*+)(?!::|')(?:{_BLANKS}=(?![=~>])"
    rf"(?:{_BLANKS}(?P<value>{_ITEM}|\((?:{_BLANKS}{_ITEM}{_BLANKS},)*+(?:{_BLANKS}{_ITEM})?+"
    rf"(?P<close>{_BLANKS}\))?+)(?P<end>{_BLANKS};)?+)?+)?+",
    re.DOTALL | re.ASCII,
)
_TOKEN = re.compile(rf"#[^\n]*+|{_ITEM}", re.DOTALL | re.ASCII)
_BEGINS = r"(?:(?:my|our)[ \t]+)?[$@][A-Za-z_]\w*[ \t]*=(?![=~>])"
_NEXT_STATEMENT = re.compile(rf"{_BLANKS}(?:{_BEGINS}|\Z)", re.ASCII)
# Where to go on after a mistake: behind a ; that ends a line or is before an assignment, and at a
# line that begins like one. Such a line may be within a string, if a quote was left out above it.
_RESUME = re.compile(rf";(?=[ \t\r]*(?:[#\n;]|{_BEGINS}))|\n(?=[ \t]*{_BEGINS})", re.ASCII)
_UNENDED = re.compile(rf"{_BLANKS}(?!{_STRING})['\"]", re.DOTALL)
_AFTER_STRING = re.compile(rf"{_BLANKS}[;,)]")
_SKIPPED = re.compile(rf"(?:{_BLANKS}(?:1{_BLANKS})?;)*+{_BLANKS}")
_DECIMAL = re.compile(r"(?:0|[1-9][0-9_]*)?(?:\.[0-9_]*)?(?:[eE][+-]?[0-9]+)?")
_PIECE = re.compile(
    r"""
      (?P<plain> [^\\$@]+ | @ (?! [\w:'{$+-] ) )
    | \\ (?: x(?P<hex> [0-9A-Fa-f]{2} ) | (?P<letter> 0(?![0-7]) | [\\"$@ntre] ) )
    | (?P<escape> \\ (?: x\{[0-9A-Fa-f]*\} | x[0-9A-Fa-f]? | [0-7]{1,3} | . ) )
    | \$ (?: \{ (?P<braced> [A-Za-z_]\w* ) \}
           | (?P<name> [A-Za-z_]\w* ) (?P<further> \[ | \{ | ' | :: | -> )? )
    | (?P<other> \$ | @ (?: \w+ | . ) )
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_NOT_UNICODE = re.compile("[\ud800-\udc7f\udd00-\udfff]")

_NOT_UNDERSTOOD = "this is not understood: the file is read as data and never run, write "
_EXAMPLES = "$name = \"value\"; and @name = ('a', 'b'); and comments after #"
_WHY_NOT = {  # by the group of _PIECE that was found
    "escape": r"the escape {0} is not understood: there are "
    r"\\ \" \$ \@ \n \t \r \e \0 \xHH, and \\ is a backslash",
    "further": "Perl would read on after {0}: write ${{{1}}}{2} for the value of ${1}, or \\{0} "
    "for these very characters",
    "other": "Perl would put a value in place of {0}: write \\{0}",
}


class _Reader:
    """Reads the statements of one text. Offsets are into the text."""

    def __init__(self, text: str, file: str, names: Collection[str]) -> None:
        self._text = text
        self._file = file
        self._names = names
        self._newlines = [found.start() for found in re.finditer("\n", self._text)]
        self._reading = Reading({}, set(), [])

    def read(self) -> Reading:
        odd = _NOT_UNICODE.search(self._text)
        if odd:
            self._report(odd.start(), "this is not text in UTF-8: write the file again")
            return self._reading
        at = self._skipped(self._text.startswith("\ufeff"))  # which Perl drops, too
        while at < len(self._text):
            if len(self._reading.problems) > MAX_PROBLEMS:
                self._reading.spoiled.update(self._names)  # what is not read may assign it
                break
            at = self._skipped(self._statement(at))
        return self._reading

    def _skipped(self, at: int) -> int:
        found = _SKIPPED.match(self._text, at)
        return found.end() if found else at

    # Statements

    def _statement(self, at: int) -> int:
        """Read the statement that begins here. Where the next one may begin."""
        found = _STATEMENT.match(self._text, at)
        known = found and self._is_known(found["name"], found.start("name"))
        if found and found["end"] and (found["value"][0] != "(" or found["close"]):
            strings = self._strings(found)
            if known and strings is not None:
                self._reading.spoiled.discard(found["name"])
                line = self._line(found.start("name"))
                self._reading.assigned[found["name"]] = Assigned(line, strings, found.span("value"))
            else:
                self._spoil(found["name"])
            return found.end()
        if found:
            self._spoil(found["name"])
        self._report(*self._mistake(found) if found else (at, _NOT_UNDERSTOOD + _EXAMPLES))
        resume = _RESUME.search(self._text, at)
        return resume.end() if resume else len(self._text)

    def _spoil(self, name: str) -> None:
        self._reading.spoiled.update(sigil + name[1:] for sigil in "$@")

    def _mistake(self, found: re.Match[str]) -> tuple[int, str]:
        """Where a statement that begins like this is wrong, and how."""
        text, at, value = self._text, found.end(), found["value"] or ""
        if unended := _UNENDED.match(text, at):
            return unended.end() - 1, "the string that begins here has no end: a quote is missing"
        last = list(_TOKEN.finditer(text, *found.span("value")))[-1:]
        if last and "\n" in last[0][0] and not _AFTER_STRING.match(text, last[0].end()):
            # If a quote was left out, the line to fix is not the one where that shows.
            line = self._line(last[0].end() - 1)
            message = f"the string that begins here ends in line {line}: is a quote missing?"
            return last[0].start(), message
        if value[:1] == "(" and not found["close"]:
            line = self._line(found.start("value"))
            what = "a comma or ) is missing, or this is no value"
            return at - 1, f"{what}: the list began in line {line}"
        if value and _NEXT_STATEMENT.match(text, at):
            return at - 1, "; is missing at the end of the statement"
        return at - 1, _not_understood(found["name"])

    def _strings(self, found: re.Match[str]) -> tuple[str, ...] | None:
        """The strings right of the =, None if something in them is in error."""
        name, value = found["name"], found["value"]
        if (name[0] == "@") != value.startswith(("(", "qw")):
            self._report(found.start("value"), _not_understood(name))
            return None
        strings: list[str | None] = []
        for token in _TOKEN.finditer(self._text, *found.span("value")):
            if token[0][0] == "q":
                words = token[0].partition("(")[2].removesuffix(")")
                strings += re.findall(r"[^ \t\n\r\f\v]+", words)
            elif token[0][0] != "#":
                strings.append(self._literal(token[0], token.start(), name))
        sound = tuple(each for each in strings if each is not None)
        return sound if len(sound) == len(strings) else None

    # Literals

    def _literal(self, text: str, offset: int, name: str) -> str | None:
        """The string or number that is written so, None if a part of it is in error."""
        if text[0] == "'":
            return re.sub(r"\\([\\'])", r"\1", text[1:-1].replace("\r\n", "\n"))  # as Perl does
        if text[0] == '"':
            return self._interpolated(text[1:-1], offset + 1)
        number = _number(text)
        if number is None:
            self._report(offset, f"this is no number: {_not_understood(name)}")
        return number

    def _interpolated(self, text: str, start: int) -> str | None:
        """The value of a string in double quotes, None if a part of it is in error."""
        parts: list[str] = []
        sound, length = True, 0
        for piece in _PIECE.finditer(text):
            offset = start + piece.start()
            part = self._part(piece, offset)
            sound = sound and part is not None
            parts.append(part or "")
            length += len(parts[-1])
            if length > MAX_VALUE:
                self._report(offset, f"this value is longer than {MAX_VALUE} characters")
                return None
        # Bytes that were written one by one may make a character together.
        value = "".join(parts).encode("utf-8", "surrogateescape")
        return value.decode("utf-8", "surrogateescape") if sound else None

    def _part(self, piece: re.Match[str], offset: int) -> str | None:
        kind = piece.lastgroup or ""
        if kind == "plain":
            return piece[0].replace("\r\n", "\n")
        if kind == "letter":
            return _ESCAPES[piece[kind]]
        if kind == "hex":
            byte = int(piece[kind], 16)
            return chr(byte) if byte < 0x80 else chr(0xDC00 + byte)
        if kind in ("braced", "name"):
            return self._value_of("$" + piece[kind], offset)
        shown = piece[0] if piece[0].isprintable() else "\\ before this character"
        self._report(offset, _WHY_NOT[kind].format(shown, piece["name"], piece["further"]))
        return None

    def _value_of(self, name: str, offset: int) -> str | None:
        if not self._is_known(name, offset) or name in self._reading.spoiled:
            return None
        assigned = self._reading.assigned.get(name)
        if assigned is None:
            self._report(offset, f"{name} is used before it is assigned: assign it in a line above")
            return None
        return assigned.strings[0]

    def _is_known(self, name: str, offset: int) -> bool:
        """False if there is no such variable, which is reported with the nearest that there is."""
        if name in self._names:
            return True
        import difflib  # seldom needed

        (near,) = difflib.get_close_matches(name.lower()[:40], self._names, n=1, cutoff=0)
        kind = "one value" if near[0] == "$" else "a list"
        message = f"unknown variable {name[:40]}: the nearest known name is {near}, {kind}"
        self._report(offset, message)
        return False

    # Places in the text

    def _line(self, offset: int) -> int:
        return bisect_left(self._newlines, offset) + 1

    def _report(self, offset: int, message: str) -> None:
        line = self._line(offset)
        if len(self._reading.problems) == MAX_PROBLEMS:
            message = "and so on: fix these first, the rest of the file was not read"
        if len(self._reading.problems) <= MAX_PROBLEMS:
            self._reading.problems.append(Problem(self._file, line, message))


def _not_understood(name: str) -> str:
    right = '"value"' if name[0] == "$" else "('a', 'b')"
    return f"{_NOT_UNDERSTOOD}{name} = {right};"


def _number(text: str) -> str | None:
    """What Perl prints of a number that stands without quotes, None if it is none."""
    with suppress(ValueError):
        whole = int(re.sub("^0(?=[0-7_])", "0o", text), 0)
        if whole < 2**64:
            return str(whole)
    with suppress(ValueError):
        if _DECIMAL.fullmatch(text) and float(text) < float("inf"):
            return f"{float(text):.15g}"
    return None
