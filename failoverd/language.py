"""The language of failoverd.conf: Perl's assignments of strings and lists, read and never run.

The values are those that Perl gives (perldata, perlop; section 3 of the contract has the list of
what is understood). All else is a problem that says what was found and what to write. Nothing
stops at the first one: reading goes on with the next statement. Which variables there are, and
what their strings mean, is not known here. Text that was not UTF-8 in the file arrives with
surrogate escapes and is kept byte for byte, as Perl keeps it.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NoReturn

MAX_PROBLEMS = 100  # nobody reads on; and a quote that is missing can cost a look at all the rest
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
    reader = _Reader(text, file, names)
    reader.read()
    return Reading(reader.assigned, reader.spoiled, reader.problems)


def shortened(text: str) -> str:
    """The text as it would stand in the file, cut to a length that fits a message."""
    return quoted(text) if len(text) <= 60 else f"{quoted(text[:60])}..."


def quoted(text: str) -> str:
    """The text as a string of this language in double quotes. All of it can be printed."""
    return '"' + "".join(_escaped(char) for char in text) + '"'


def _escaped(char: str) -> str:
    if char in '\\"$@':
        return "\\" + char
    if char in _SHOWN_ESCAPES:
        return _SHOWN_ESCAPES[char]
    if char.isprintable():
        return char
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))


_ESCAPES = {
    "\\": "\\", '"': '"', "$": "$", "@": "@",
    "n": "\n", "t": "\t", "r": "\r", "e": "\x1b", "0": "\0",
}  # fmt: skip
_SHOWN_ESCAPES = {_ESCAPES[letter]: f"\\{letter}" for letter in "ntre"}

_BLANKS = re.compile(r"(?:[ \t\n\r\f\v]++|#[^\n]*+)*+")
_DECLARATION = re.compile(r"(?:my|our)\b", re.ASCII)
_VARIABLE = re.compile(r"[$@][A-Za-z_]\w*+(?!::|')", re.ASCII)
_ASSIGN = re.compile(r"=(?![=~>])")
_TRUE = re.compile(r"1(?![\w.])", re.ASCII)
_SINGLE = re.compile(r"'((?:[^'\\]|\\.)*+)'", re.DOTALL)
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_WORDS = re.compile(r"qw(?!\w)", re.ASCII)
_NUMBER = re.compile(r"\.?[0-9](?:[eE][+-]?(?=[0-9])|[\w.])*+", re.ASCII)
_WHOLE_NUMBER = re.compile(
    r"(?P<decimal>[1-9][0-9]*(?:_[0-9]+)*|0)|0[xX]_?(?P<hex>[0-9a-fA-F]+(?:_[0-9a-fA-F]+)*)"
    r"|0[bB]_?(?P<binary>[01]+(?:_[01]+)*)|0[oO]?_?(?P<octal>[0-7]+(?:_[0-7]+)*)"
)
_BASES = {"decimal": 10, "hex": 16, "binary": 2, "octal": 8}
_FRACTION = re.compile(
    r"(?:(?:0|[1-9][0-9]*(?:_[0-9]+)*)(?:\.(?:[0-9]+(?:_[0-9]+)*)?)?|\.[0-9]+(?:_[0-9]+)*)"
    r"(?:[eE][+-]?[0-9]+)?"
)
_PIECE = re.compile(
    r"""
      (?P<plain> [^\\$@]+ )
    | \\ (?: x(?P<hex> [0-9A-Fa-f]{2} ) | (?P<letter> 0(?![0-7]) | [\\"$@ntre] ) )
    | (?P<escape> \\ (?: x\{[0-9A-Fa-f]*\} | x[0-9A-Fa-f]? | [0-7]{1,3} | . ) )
    | \$ (?: \{ (?P<braced> [A-Za-z_]\w* ) \}
           | (?P<name> [A-Za-z_]\w* ) (?P<further> \[ | \{ | ' | :: | -> )? )
    | (?P<dollar> \$ )
    | (?P<array> @ (?: \w+ | [:'{$+-] ) )
    | (?P<at> @ )
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_STATEMENT = re.compile(r"(?:(?:my|our)[ \t]+)?[$@][A-Za-z_]\w*[ \t]*=(?![=~>])", re.ASCII)
_STATEMENT_LINE = re.compile(rf"^[ \t]*{_STATEMENT.pattern}", re.MULTILINE | re.ASCII)
_SKIPPED = re.compile(  # no long strings: each quote that does not end would cost a look at a line
    r"""'(?:[^'\\\n]|\\.){0,200}+'|"(?:[^"\\\n]|\\.){0,200}+"|(?<!\$)#[^\n]*+|[^'"#;]++|."""
)
_HERE_DOCUMENT = re.compile(r"""<<(~?)\s*("[^"\n]*"|'[^'\n]*'|[A-Za-z_]\w*)""", re.ASCII)
_NOT_UNICODE = re.compile("[\ud800-\udc7f\udd00-\udfff]")

_ONE_VALUE = "a value is one string in quotes or one number"
_OPERATOR = (
    r"(?:x|eq|ne|lt|gt|le|ge|cmp|and|or|xor|not|if|unless|for|foreach|while|until)\b"
    r"|\*\*|\.\.\.?|<=>|<<|>>|\|\||&&|//|==|!=|=~|!~|<=|>=|[-+*/%<>=!~&|^?:\\]"
)
# What may stand where a value should, and what to do about it. {0} is what was found; a bare
# word is never shown, it may be the secret.
_NOT_A_VALUE = (
    (_HERE_DOCUMENT.pattern, "a here-document is not understood: write the text in quotes, which "
     "may go over several lines"),
    (r"[$@]\{?\w+\}?\s*[\[({]|[$@]\w+(?:->|::|')", "elements, references and package names are "
     "not understood: {one}"),
    (r"\$\{?[A-Za-z_]\w*\}?", "a variable outside double quotes is not understood: write \"{0}\""),
    (r"@\{?[A-Za-z_]\w*\}?", "copying the list {0} is not understood: write its elements"),
    (r"[$@%&]", "this is not understood: {one}"),
    (r"v[0-9]+\b", "a version string is not understood: put it in quotes"),
    (r"`|qx\b", "a command is never run from here: {one}"),
    (r"qq\b|q\b", "{0} is not understood: use quotes, ' or \""),
    (r"qw\b", "a list needs a name with @: write @name = qw(...)"),
    (r"(?:my|our|local|undef|sub|do|eval|require)\b", "{0} is not understood here: {one}"),
    (r"(?:m|s|y|tr|qr)\s*[^\w\s,;=)]", "a pattern is not understood: {one}"),
    (r"[A-Za-z_][\w:]*\s*(?:\(|->)", "a call is not understood: {one}"),
    (r"[A-Za-z_]\w*", "a word without quotes is not understood: put it in quotes"),
    (r"\(", "a list within a value is not understood: {one}"),
    (r"[\[{]", "a reference is not understood: a list is written ('a', 'b')"),
    (_OPERATOR + r"|\.", "the operator {0} is not understood: {one}"),
    (r"[,;)]|\Z", "a value is missing here: {one}"),
)  # fmt: skip
_NOT_AN_END = (
    (r"\.(?!\.)", "joining strings with . is not understood: write one string, with $name in "
     "double quotes"),
    (r",|=>", "a list needs a name with @ and parentheses: write @name = ('a', 'b');"),
    (_OPERATOR, "the operator {0} is not understood: {one}"),
    (r"\)", "this ) closes nothing: leave it out"),
)  # fmt: skip
_NOT_A_COMMA = (
    (r"[;'\"]|qw\b|\Z", "elements of a list stand apart by a comma, and ) ends it"),
    (_OPERATOR + r"|\.", "the operator {0} is not understood: {one}"),
)
_NOT_A_STATEMENT = (
    (r"__(?:END|DATA)__\b", "{0} is not understood: put a # before every line of the rest"),
    (r"=[A-Za-z]\w*", "documentation in pod is not understood: put a # before every line of it"),
    (r"[$@%]\w+(?:::|')|[$@%]::", "package names are not understood: leave the package out"),
    (r"%", "a hash is not understood: only $name and @name are"),
    (r"[$@]", "a name must follow {0} at once: letters, digits and _, no digit first"),
    (r"\(", "several variables cannot be assigned at once: write one statement for each"),
    (r"local\b", "local is not understood: leave it out"),
    (r"(?:use|no|require|package|do|eval|sub|if|unless|while|until|for|foreach|print|return)\b",
     "{0} is not understood: this file is read as data, and only assignments can stand in it"),
    (r"""["'0-9]""", "a value without a name is not understood: write $name = value;"),
    (r"[A-Za-z_]\w*", "this is no assignment: write $name = \"value\"; or put a # before a remark"),
    (r"\Z", "an assignment is missing here: write $name = \"value\";"),
)  # fmt: skip


class _Mistake(Exception):
    """The statement cannot be read further. Reading goes on at `resume`, if that is known."""

    def __init__(self, offset: int, message: str, resume: int | None = None) -> None:
        super().__init__(message)
        self.offset = offset
        self.message = message
        self.resume = resume


class _Enough(Exception):
    """There are so many problems that the rest is not read."""


@dataclass(frozen=True)
class _Literal:
    """A string, a number or the words of a qw, not yet evaluated."""

    form: str  # "single", "double", "number" or "words"
    text: str
    start: int
    end: int


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
        self._starts = [found.start() for found in _STATEMENT_LINE.finditer(self._text)]
        self.problems: list[Problem] = []
        self.assigned: dict[str, Assigned] = {}
        self.spoiled: set[str] = set()

    def read(self) -> None:
        try:
            self._read()
        except _Enough:
            self.spoiled.update(self._names)  # what comes later may assign it

    def _read(self) -> None:
        odd = _NOT_UNICODE.search(self._text)
        if odd:
            self._report(odd.start(), "this is not text in UTF-8: write the file anew")
            return
        while (start := self._skip_blanks()) < len(self._text):
            # A lone } ends a block that was reported where it began.
            if self._text[start] == ";" or (self._text[start] == "}" and self.problems):
                self._at += 1
                continue
            try:
                self._statement()
            except _Mistake as mistake:
                self._report(mistake.offset, mistake.message)
                self._at = self._next_statement(start, mistake)

    def _next_statement(self, start: int, mistake: _Mistake) -> int:
        """Where to go on: after the next ; or at a line that begins like an assignment.

        Such a line may come before the mistake: a quote was left out in a line above it.
        """
        if mistake.resume is not None:
            return mistake.resume
        later = bisect_left(self._starts, self._line_end(start))
        limit = self._starts[later] if later < len(self._starts) else len(self._text)
        at = mistake.offset
        while at < limit:
            if self._text[at] == ";":
                return at + 1
            skipped = _SKIPPED.match(self._text, at)
            at = skipped.end() if skipped else at + 1
        return limit

    # Statements

    def _statement(self) -> None:
        if self._take(_TRUE):
            self._end_statement([])
            return
        declaration = self._take(_DECLARATION)
        start = self._skip_blanks()
        target = self._take(_VARIABLE)
        if not target:
            self._reject(_NOT_A_STATEMENT, "an assignment is expected here: $name = value;")
        if not self._take(_ASSIGN):
            self._reject_assignment(target[0], declaration is not None)
        known = self._is_known(target[0], start)
        strings = self._right_side(target[0])
        if known and strings is not None:
            self.spoiled.discard(target[0])
            self.assigned[target[0]] = Assigned(self._line(start), strings)
        else:
            self.spoiled.update(sigil + target[0][1:] for sigil in "$@")

    def _right_side(self, name: str) -> tuple[str, ...] | None:
        """The strings assigned to `name`. None if some part of one was reported."""
        literals: list[_Literal] = []
        try:
            self._values(name, literals)
            self._end_statement(literals)
        except _Mistake:
            self.spoiled.add(name)
            # What is wrong within the strings is told now too, but where a quote was left out.
            self._strings([each for each in literals if not self._spans_lines(each)])
            raise
        return self._strings(literals)

    def _reject_assignment(self, name: str, declared: bool) -> NoReturn:
        at = self._skip_blanks()
        operator = re.compile(r"x=|[-+*/.%&|^<>=~!]+").match(self._text, at)
        if self._text[at : at + 1] in ("[", "{"):
            message = "an element cannot be assigned: assign the whole list, @name = (...);"
        elif operator:
            message = f"the operator {operator[0]} is not understood: write {name} = value;"
        elif declared:
            message = f"a declaration needs a value here: write {name} = value;"
        else:
            message = f"= is missing after {name}: write {name} = value;"
        raise _Mistake(min(at, self._line_end(self._last)), message)

    def _end_statement(self, literals: Sequence[_Literal]) -> None:
        end = self._last
        if self._peek(";"):
            self._step()
            return
        if literals and literals[-1].end == end:
            self._reject_open_string(literals[-1])
        at = self._skip_blanks()
        if at == len(self._text) or _STATEMENT.match(self._text, at):
            raise _Mistake(end - 1, "; is missing at the end of the statement")
        self._reject(_NOT_AN_END, "; is missing before this")

    def _values(self, target: str, literals: list[_Literal]) -> None:
        """Read what stands right of the =, one element after the other into `literals`."""
        if target[0] == "$":
            if self._peek("("):
                message = f"{target} is one value, not a list: leave out the parentheses"
                raise _Mistake(self._at, message)
            literals.append(self._literal(words=False))
        elif self._take(_WORDS):
            literals.append(self._words())
        elif self._peek("("):
            self._list(literals)
        elif self._peek("'") or self._peek('"') or self._take(_NUMBER):
            raise _Mistake(self._at, f"{target} is a list: write {target} = ('a', 'b');")
        else:
            self._reject(_NOT_A_VALUE, f"a list is expected here: {target} = ('a', 'b');")

    def _list(self, literals: list[_Literal]) -> None:
        opening = self._skip_blanks()
        self._step()
        while not self._peek(")"):
            at = self._skip_blanks()
            if at == len(self._text) or _STATEMENT.match(self._text, at):
                line = self._line(opening)
                raise _Mistake(self._last - 1, f") is missing: the list began in line {line}")
            literals.append(self._literal(words=True))
            if self._peek(","):
                self._step()
            elif not self._peek(")"):
                self._reject_open_string(literals[-1])
                self._reject(_NOT_A_COMMA, "a comma or ) is expected here")
        self._step()

    def _reject_open_string(self, literal: _Literal) -> None:
        """What follows is no good. If a quote was left out, the line to mend is another."""
        if literal.form in ("single", "double") and self._spans_lines(literal):
            line = self._line(literal.end - 1)
            message = f"the string that begins here ends in line {line}: is a quote missing?"
            raise _Mistake(literal.start, message)

    # Literals

    def _literal(self, words: bool) -> _Literal:
        """The string or number that stands here, or a qw if `words`."""
        start = self._skip_blanks()
        for form, pattern in (("single", _SINGLE), ("double", _DOUBLE)):
            found = self._take(pattern)
            if found:
                return _Literal(form, found[1], start, self._at)
        if self._peek("'") or self._peek('"'):
            raise _Mistake(start, "the string that begins here has no end: a quote is missing")
        number = self._take(_NUMBER)
        if number:
            return _Literal("number", self._number(number), start, self._at)
        if words and self._take(_WORDS):
            return self._words()
        self._reject(_NOT_A_VALUE, f"this is not understood: {_ONE_VALUE}")

    def _number(self, found: re.Match[str]) -> str:
        """What Perl prints of a number that stands without quotes."""
        text = found[0]
        whole = _WHOLE_NUMBER.fullmatch(text)
        value = -1
        if whole and whole.lastgroup and len(text) < 4000:
            value = int(whole[whole.lastgroup], _BASES[whole.lastgroup])
        if 0 <= value < 2**64:
            return str(value)
        if _FRACTION.fullmatch(text):
            return self._fraction(text, found.start())
        if re.match(r"[0-9_]+\.[0-9_]+\.[0-9]", text):
            message = "numbers with two dots are a version string in Perl: put them in quotes"
        elif re.match(r"0[0-9_]*[89]", text):
            message = "a number that begins with 0 is octal: leave out the 0, or the 8 and 9"
        elif "." in text.strip("."):
            message = "the operator . is not understood: write one number, or a string in quotes"
        else:
            message = "this is no number: write one such as 500 or 0.5, or put it in quotes"
        raise _Mistake(found.start(), message)

    def _fraction(self, text: str, offset: int) -> str:
        value = float(text.replace("_", ""))
        if value == float("inf"):
            raise _Mistake(offset, "this number is too large")
        return f"{value:.15g}"  # as Perl prints it

    def _words(self) -> _Literal:
        """The rest of a qw: any delimiter, brackets nest, a backslash protects a delimiter."""
        start = self._at - 2
        if not self._text.startswith("#", self._at):  # after a blank it begins a comment
            self._skip_blanks()
        if not re.compile(r"(?!=>)[!-/:-@\[\]-`{-~]").match(self._text, self._at):
            raise _Mistake(start, "qw needs brackets around its words: write qw(a b)")
        opening = self._text[self._at]
        closing = {"(": ")", "[": "]", "{": "}", "<": ">"}.get(opening, opening)
        body: list[str] = []
        depth = 1
        at = self._at + 1
        while at < len(self._text):
            char = self._text[at]
            following = self._text[at + 1 : at + 2]
            if char == "\\" and following and following in (opening, closing, "\\"):
                char = following
                at += 1
            elif char == closing:
                depth -= 1
                if not depth:
                    self._at = self._last = at + 1
                    return _Literal("words", "".join(body), start, self._at)
            elif char == opening:
                depth += 1
            body.append(char)
            at += 1
        raise _Mistake(start, f"the qw that begins here has no end: {closing} is missing")

    # Values of literals

    def _strings(self, literals: Sequence[_Literal]) -> tuple[str, ...] | None:
        """The strings that Perl would make of the literals. None if a part of them is in error."""
        strings: list[str] = []
        sound = True
        for literal in literals:
            if literal.form == "words":
                strings.extend(word for word in re.split(r"[ \t\n\r\f\v]+", literal.text) if word)
            elif literal.form == "single":
                strings.append(re.sub(r"\\([\\'])", r"\1", literal.text))
            elif literal.form == "number":
                strings.append(literal.text)
            else:
                value = self._interpolated(literal)
                sound = sound and value is not None
                strings.append(value or "")
        return tuple(strings) if sound else None

    def _interpolated(self, literal: _Literal) -> str | None:
        """The value of a string in double quotes, None if a part of it is in error."""
        parts: list[str] = []
        sound, length = True, 0
        for piece in _PIECE.finditer(literal.text):
            offset = literal.start + 1 + piece.start()
            part = self._part(piece, offset)
            sound = sound and part is not None
            parts.append(part or "")
            length += len(parts[-1])
            if length > MAX_VALUE:
                self._report(offset, f"this value is longer than {MAX_VALUE} characters")
                return None
        value = "".join(parts)
        # Bytes that were written one by one may make a character together.
        text = value.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
        return text if sound else None

    def _part(self, piece: re.Match[str], offset: int) -> str | None:
        if piece["hex"]:
            byte = int(piece["hex"], 16)
            return chr(byte) if byte < 0x80 else chr(0xDC00 + byte)
        if piece["letter"]:
            return _ESCAPES[piece["letter"]]
        name = piece["braced"] or piece["name"]
        if name and not piece["further"]:
            return self._value_of("$" + name, offset)
        if piece["plain"] or piece["at"]:
            return piece[0]
        self._report(offset, self._why_not(piece))
        return None

    def _why_not(self, piece: re.Match[str]) -> str:
        if piece["escape"]:
            shown = piece[0] if piece[0].isprintable() else "\\ at the end of a line"
            return (
                f"the escape {shown} is not understood: there are "
                r"\\ \" \$ \@ \n \t \r \e \0 \xHH, and \\ is a backslash"
            )
        if piece["array"]:
            return f"Perl would put a list in place of {piece[0]}: write \\{piece[0]}"
        if piece["further"]:
            name, further = piece["name"], piece["further"]
            return (
                f"Perl would read on after ${name}{further}: write ${{{name}}}{further} for the "
                f"value of ${name}, or \\${name}{further} for these very characters"
            )
        return r"a $ without a name is not understood: write \$"

    def _value_of(self, name: str, offset: int) -> str | None:
        if not self._is_known(name, offset) or name in self.spoiled:
            return None
        assigned = self.assigned.get(name)
        if assigned is None:
            self._report(offset, f"{name} is used before it is assigned: assign it in a line above")
            return None
        return assigned.strings[0]

    def _is_known(self, name: str, offset: int) -> bool:
        """False if there is no such variable, which is reported with the nearest that there is."""
        if name in self._names:
            return True
        other = ("@" if name[0] == "$" else "$") + name[1:]
        if other in self._names:
            what = "one value" if other[0] == "$" else "a list"
            message = f"unknown variable {name}: {name[1:]} is {what}, {other}"
        else:
            import difflib  # seldom needed

            near = difflib.get_close_matches(name.lower()[:40], self._names, n=1, cutoff=0)
            message = f"unknown variable {name[:40]}: the nearest known name is {near[0]}"
        self._report(offset, message)
        return False

    # Places in the text

    def _skip_blanks(self) -> int:
        """Go over blanks and comments; the offset of what follows."""
        found = _BLANKS.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return self._at

    def _peek(self, expected: str) -> bool:
        return self._text.startswith(expected, self._skip_blanks())

    def _step(self) -> None:
        """Go over one character that was peeked at."""
        self._at += 1
        self._last = self._at

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """What matches here, after blanks and comments; then go on behind it."""
        found = pattern.match(self._text, self._skip_blanks())
        if found:
            self._at = self._last = found.end()
        return found

    def _reject(self, table: Sequence[tuple[str, str]], otherwise: str) -> NoReturn:
        """Say what stands here in place of what should, in the words of the table."""
        at = self._skip_blanks()
        for pattern, message in table:
            found = re.compile(pattern, re.ASCII).match(self._text, at)
            if found:
                text = message.format(found[0].strip(), one=_ONE_VALUE)
                raise _Mistake(at, text, self._resume_after(found))
        char = self._text[at : at + 1]
        shown = f" (found {char!a})" if char else ""
        raise _Mistake(at, otherwise + shown)

    def _resume_after(self, found: re.Match[str]) -> int | None:
        """The end of a construct whose lines are no statements, so that it is reported once."""
        if found[0] in ("__END__", "__DATA__"):
            return len(self._text)
        if re.match(r"=[A-Za-z]", found[0]):
            return self._end_of_line_like(r"=cut\b.*", found.end())
        here = _HERE_DOCUMENT.fullmatch(found[0])
        if here:
            blanks = r"[ \t]*" if here[1] else ""
            return self._end_of_line_like(blanks + re.escape(here[2].strip("'\"")), found.end())
        return None

    def _end_of_line_like(self, pattern: str, offset: int) -> int:
        line = re.compile(rf"^{pattern}$", re.MULTILINE)
        found = line.search(self._text, self._line_end(offset))
        return found.end() if found else len(self._text)

    def _spans_lines(self, literal: _Literal) -> bool:
        return self._line(literal.start) != self._line(literal.end - 1)

    def _line(self, offset: int) -> int:
        return bisect_left(self._newlines, offset) + 1

    def _line_end(self, offset: int) -> int:
        later = bisect_left(self._newlines, offset)
        return self._newlines[later] if later < len(self._newlines) else len(self._text)

    def _report(self, offset: int, message: str) -> None:
        line = self._line(offset)
        self.problems.append(Problem(self._file, line, message))
        if len(self.problems) == MAX_PROBLEMS:
            enough = "and so on: mend these first, the rest of the file was not read"
            self.problems.append(Problem(self._file, line, enough))
            raise _Enough
