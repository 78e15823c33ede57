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
    """The last assignment of a variable: its line and the strings, one only for a scalar."""

    line: int
    strings: tuple[str, ...]


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
_BLANK = re.compile(_BLANKS)
_TARGET = re.compile(rf"(?:(?:my|our)\b{_BLANKS})?([$@][A-Za-z_]\w*+)(?!::|')", re.ASCII)
_STATEMENT = r"(?:(?:my|our)[ \t]+)?[$@][A-Za-z_]\w*[ \t]*=(?![=~>])"
_NEXT_STATEMENT = re.compile(rf"{_STATEMENT}|\Z", re.ASCII)
# Where to go on after a mistake: behind a ; that ends a line or is before an assignment, and at a
# line that begins like one. Such a line may be within a string, if a quote was left out above it.
_RESUME = re.compile(rf";(?=[ \t]*(?:[#\n;]|{_STATEMENT}))|\n(?=[ \t]*{_STATEMENT})", re.ASCII)
_LITERAL = re.compile(
    r"""'(?P<single>(?:[^'\\]|\\.)*+)'|"(?P<double>(?:[^"\\]|\\.)*+)"|"""
    r"(?P<number>\.?[0-9](?:[eE][+-]?(?=[0-9])|[\w.])*+)",
    re.DOTALL | re.ASCII,
)
_AFTER_STRING = re.compile(rf"{_BLANKS}[;,)]")
_DECIMAL = re.compile(r"(?:0|[1-9][0-9_]*)?(?:\.[0-9_]*)?(?:[eE][+-]?[0-9]+)?")
_QW = r"qw(?!\w)"
_LIST = rf"\(|{_QW}"
_WORDS = re.compile(rf"{_QW}[ \t]*\(([^()\\]*)\)", re.ASCII)
_PIECE = re.compile(
    r"""
      (?P<plain> [^\\$@]+ | @ (?! [\w:'{$+-] ) )
    | \\ (?: x(?P<hex> [0-9A-Fa-f]{2} ) | (?P<letter> 0(?![0-7]) | [\\"$@ntre] ) )
    | (?P<escape> \\ (?: x\{[0-9A-Fa-f]*\} | x[0-9A-Fa-f]? | [0-7]{1,3} | . ) )
    | \$ (?: \{ (?P<braced> [A-Za-z_]\w* ) \}
           | (?P<name> [A-Za-z_]\w* ) (?P<further> \[ | \{ | ' | :: | -> )? )
    | (?P<dollar> \$ )
    | (?P<array> @ (?: \w+ | . ) )
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_NOT_UNICODE = re.compile(
    "\\A(?:\udcff\udcfe|\udcfe\udcff)|[\ud800-\udc7f\udd00-\udfff]"
)  # or UTF-16

_NO_VALUE = 'a value is one string in quotes, such as "/a/path" or "$other", or one number'
_NO_STATEMENT = (
    "this is not understood: the file is read as data and never run, and may contain only "
    "$name = \"value\"; and @name = ('a', 'b'); and comments after #"
)
_WHY_NOT = {  # by the group of _PIECE that was found
    "escape": r"the escape {0} is not understood: there are "
    r"\\ \" \$ \@ \n \t \r \e \0 \xHH, and \\ is a backslash",
    "further": "Perl would read on after {0}: write ${{{1}}}{2} for the value of ${1}, or \\{0} "
    "for these very characters",
    "dollar": r"a $ without a name is not understood: write \$",
    "array": "Perl would put a list in place of {0}: write \\{0}",
}


class _Mistake(Exception):
    """The statement cannot be read further: the offset of what is wrong, and a message."""


class _Reader:
    """Reads the statements of one text. Offsets are into the text."""

    def __init__(self, text: str, file: str, names: Collection[str]) -> None:
        # Perl drops a byte order mark, and the \r of every line end, within strings too.
        self._text = text.removeprefix("\ufeff").replace("\r\n", "\n")
        self._file = file
        self._names = names
        self._at = 0
        self._last = 0  # the end of what was read last, before blanks and comments
        self._newlines = [found.start() for found in re.finditer("\n", self._text)]
        self._reading = Reading({}, set(), [])

    def read(self) -> Reading:
        odd = _NOT_UNICODE.search(self._text)
        if odd:
            self._report(odd.start(), "this is not text in UTF-8: save the file as such")
            self._at = len(self._text)
        while not self._peek(r"\Z"):
            if len(self._reading.problems) > MAX_PROBLEMS:
                self._reading.spoiled.update(self._names)  # what is not read may assign it
                break
            start = self._at
            # A lone } ends a block that was reported where it began.
            if self._take("[;}]" if self._reading.problems else ";"):
                continue
            try:
                self._statement()
            except _Mistake as mistake:
                self._report(*mistake.args)
                resume = _RESUME.search(self._text, start)
                self._at = resume.end() if resume else len(self._text)
        return self._reading

    # Statements

    def _statement(self) -> None:
        if self._take(r"1(?![\w.])"):
            self._end_statement()
            return
        target = self._take(_TARGET)
        if not target:
            raise self._stray(_NO_STATEMENT)
        if not self._take("=(?![=~>])"):
            # What stands there may look like a blank and be none.
            message = f"{target[1]} can only be assigned: write {_example(target[1])}"
            raise self._stray(message, target.start(1))
        known = self._is_known(target[1], target.start(1))
        try:
            found = self._values(target[1])
            self._end_statement()
        except _Mistake:
            self._spoil(target[1])
            raise
        strings = tuple(each for each in found if each is not None)
        if known and len(strings) == len(found):
            self._reading.spoiled.discard(target[1])
            self._reading.assigned[target[1]] = Assigned(self._line(target.start(1)), strings)
        else:
            self._spoil(target[1])

    def _spoil(self, name: str) -> None:
        self._reading.spoiled.update(sigil + name[1:] for sigil in "$@")

    def _end_statement(self) -> None:
        if self._take(";"):
            return
        if self._peek(_NEXT_STATEMENT):
            raise _Mistake(self._last - 1, "; is missing at the end of the statement")
        raise self._stray("only ; can follow a value: there are no operators, and no second value")

    def _values(self, target: str) -> list[str | None]:
        """The strings right of the =, None for one with a part that is in error."""
        if target[0] == "$":
            value = [] if self._peek(_LIST) else [self._literal()]
            if not value or self._peek(","):
                message = f"{target} is one value, not a list: write {_example(target)}"
                raise _Mistake(self._at, message)
            return value
        if not self._peek(_LIST):
            raise self._stray(f"{target} is a list: write {_example(target)}")
        began = self._line(self._at)
        if not self._take(r"\("):
            return [*self._words()]
        found: list[str | None] = []
        comma: object = True
        while not self._take(r"\)"):
            if not comma or self._peek(_NEXT_STATEMENT):
                message = f"a comma or ) is missing: the list began in line {began}"
                raise _Mistake(self._last - 1, message)
            found += self._words() if self._peek(_QW) else [self._literal()]
            comma = self._take(",")
        return found

    # Literals

    def _literal(self) -> str | None:
        """The string or number that stands here, None if a part of it is in error."""
        found = self._take(_LITERAL)
        if not found and self._peek("['\"]"):
            message = "the string that begins here has no end: a quote is missing"
            raise _Mistake(self._at, message)
        if not found:
            raise self._stray(_NO_VALUE)
        start, end = found.span()
        if "\n" in found[0] and not _AFTER_STRING.match(self._text, end):
            # If a quote was left out, the line to fix is not the one where that shows.
            line = self._line(end - 1)
            message = f"the string that begins here ends in line {line}: is a quote missing?"
            raise _Mistake(start, message)
        if found["single"] is not None:
            return re.sub(r"\\([\\'])", r"\1", found["single"])
        if found["double"] is not None:
            return self._interpolated(found["double"], start + 1)
        number = _number(found["number"])
        if number is None:
            raise _Mistake(start, f"this is no number: {_NO_VALUE}")
        return number

    def _words(self) -> list[str]:
        """The words of a qw, between ( and )."""
        found = self._take(_WORDS)
        if not found:
            raise _Mistake(self._at, "the list that begins here is not understood: write qw(a b)")
        return re.findall(r"[^ \t\n\r\f\v]+", found[1])

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
            return piece[0]
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

    def _peek(self, pattern: str | re.Pattern[str]) -> re.Match[str] | None:
        """What matches here, after blanks and comments."""
        blank = _BLANK.match(self._text, self._at)
        self._at = blank.end() if blank else self._at
        return re.compile(pattern).match(self._text, self._at)

    def _take(self, pattern: str | re.Pattern[str]) -> re.Match[str] | None:
        """The same, and go on behind it."""
        found = self._peek(pattern)
        if found:
            self._at = self._last = found.end()
        return found

    def _stray(self, message: str, place: int | None = None) -> _Mistake:
        """What stands here cannot. It is shown, but for a word, which may be the secret. place: of
        the mistake, if that is not here."""
        char = self._text[self._at : self._at + 1]
        shown = f" (found {char!a})" if char and not char.isalnum() else ""
        return _Mistake(self._at if place is None else place, message + shown)

    def _line(self, offset: int) -> int:
        return bisect_left(self._newlines, offset) + 1

    def _report(self, offset: int, message: str) -> None:
        line = self._line(offset)
        if len(self._reading.problems) == MAX_PROBLEMS:
            message = "and so on: fix these first, the rest of the file was not read"
        if len(self._reading.problems) <= MAX_PROBLEMS:
            self._reading.problems.append(Problem(self._file, line, message))


def _example(name: str) -> str:
    return f'{name} = "value";' if name[0] == "$" else f"{name} = ('a', 'b');"


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
