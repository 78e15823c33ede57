"""What people read is in the field's words: those that are never said, and what is said instead.

Held to it are the manual pages, README, NEWS, what users read in docs/, what bin/demo says, and
every sentence in a string of the package: messages, lines of the log and --help.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# What is never said, and what is said instead.
NEVER = {
    r"we|us|our|ours|ourselves": "this node, failoverd",
    r"machines?": "node, or host if it is none of the pair",
    r"the other one|somebody|somebody else|someone": "peer, a host, a name",
    r"boot masters?|boot slaves?": "preferred node, boot:slave",
    r"hand(?:s|ed|ing)? (?:\w+ )?over|handovers?": "switchover",
    r"has its role back|gets its role back": "failback",
    r"silent twice|signs? of life": "heartbeat lost",
    r"private links?": "heartbeat link",
    r"cards?": "interface",
    r"ethernet (?:side|interfaces?)": "service network, service interface",
    r"alarms?": "window ends, alert",
    r"set anew|anew": "restarts, again",
    r"hears?|heard|hearing|deaf": "receives, received, not receiving",
    r"unplugged": "no carrier",
    r"announce[sd]?|announcing|announcements?": "gratuitous ARP",
    r"questions?": "query, ARP probe, prompt",
    r"witness(?:es)?": "probe target",
    r"cuts? (?:\w+ )?off": "fencing",
    r"child|children": "worker",
    r"stood still|stands still": "stalled",
    r"secret word|the word|refused us": "shared secret, authentication failed",
    r"mend(?:s|ed)?": "fix",
    r"cannot be used": "invalid",
    r"cannot bear": "known limits",
    r"folders?": "directory",
    r"as whom|to and fro|as it says": "the user that, flapping, what to do",
    r"(?:belongs? )into": "belongs in",
}
SAID = re.compile(
    rf"(?<![\w@$.=/:-])(?:{'|'.join(f'({word})' for word in NEVER)})(?![\w=/-])", re.IGNORECASE
)

# Names of the original and of the wire, and what is said of something else.
NAMES = re.compile(
    r"""(?x) "us" | Ic[ ]our\b | Ql[ ](?:us|alarm|machine|silent[ ]twice)\b | "alarm"
    | virtual[ ]machine | "silent[ ]twice" | [{]machine | false[ ]alarms?
    | alarms[ ]per | ^[.]It[ ]alarms$ | role[|]alarm | ^silent[ ]twice$ | my[|]our
    | ^witness[ ]addresses$
    """
)
# NEWS names the words of the version before.
QUOTED = re.compile(r"(?ms)^FAILOVER_REASON.*?^  \"boot\"|^Words\n.*")
GENERATED = re.compile(r'(?ms)^\.\\" BEGIN policy.*?^\.\\" END policy$')  # the decisions' own words

PAGES = sorted([*(ROOT / "man").iterdir(), *(ROOT / "docs").glob("*.md")])
PAGES += [
    ROOT / name
    for name in ("README.md", "NEWS", "debian/control", "debian/failoverd.README.Debian")
]
MODULES = sorted((ROOT / "failoverd").rglob("*.py"))
MODULES += [ROOT / "dev" / "lab" / name for name in ("demo.py", "story.py")]

# How many are left in a file. A number only ever goes down.
LEFT: dict[str, int] = {"failoverd/pair/invariant.py": 1}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def found(text: str) -> Iterator[tuple[int, str, str]]:
    """Each word that is never said: its line, itself, and what to say."""
    for number, line in enumerate(text.splitlines(), start=1):
        for match in SAID.finditer(NAMES.sub("", line)):
            yield number, match[0], list(NEVER.values())[match.lastindex - 1]  # type: ignore[operator]


def sentences(path: Path) -> Iterator[tuple[int, str]]:
    """The strings of a module that have a blank in them, but for docstrings."""
    tree = ast.parse(path.read_text())
    silent = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = "" if id(node) in silent else node.value
            if " " in text.strip():
                yield node.lineno, text


def page(path: Path) -> str:
    """What a page shows: without comments and without what is written from the decisions."""
    text = path.read_text()
    for left_out in (GENERATED, QUOTED):
        text = left_out.sub(lambda part: "\n" * part[0].count("\n"), text)
    return re.sub(r'(?m)^\.\\".*$|^<!--.*-->$', "", text)


def test_every_word_is_found_where_it_is_said() -> None:
    said = "We mend the card anew.\nIts alarm; @witness, 'us', the private\nlink. virtual machine"
    assert [word for _, word, _ in found(said)] == ["We", "mend", "card", "anew", "alarm", "us"]


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_a_page_says_none_of_them(path: Path) -> None:
    hits = [f"{line}: {word!r}, say {better}" for line, word, better in found(page(path))]
    assert len(hits) <= LEFT.get(relative(path), 0), "\n".join([relative(path), *hits])


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_a_message_says_none_of_them(path: Path) -> None:
    hits = [
        f"{line}: {word!r} in {text!r}, say {better}"
        for line, text in sentences(path)
        for _, word, better in found(text)
    ]
    assert len(hits) <= LEFT.get(relative(path), 0), "\n".join([relative(path), *hits])


def test_the_readme_fits_a_terminal() -> None:
    assert max(map(len, (ROOT / "README.md").read_text().splitlines())) <= 80
