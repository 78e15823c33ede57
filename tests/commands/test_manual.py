"""The manual pages and the completion say what the code does, in every word that can be compared.

Pages are read as mdoc(7) source: a line is text, or a macro with its words.
"""

from __future__ import annotations

import ast
import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from failoverd import pair
from failoverd.conf import SETTINGS, Conf
from failoverd.tools import promises
from failoverd.tools.arguments import DEFAULT_CONF
from failoverd.wire import protocol

ROOT = Path(__file__).resolve().parent.parent.parent
MAN = ROOT / "man"
COMMANDS = ("failoverd", "watchd", "ha-status", "ha-fail", "ha-edit")
PAGES = (*(f"{command}.8" for command in COMMANDS), "ha-switch.8", "failoverd.conf.5")
COMPLETION = ROOT / "etc" / "bash_completion.d" / "failoverd"
ZSH, FISH = ROOT / "etc" / "zsh" / "_failoverd", ROOT / "etc" / "fish" / "failoverd.fish"
# Files that no variable names.
OTHER_FILES = {
    "/var/lib/failoverd/failoverd.state.history",
    "/var/lib/failoverd/failoverd.state.peer",
    "/var/lib/failoverd/failoverd.state.hold",
    "/var/lib/failoverd/failoverd.state.counters",
    DEFAULT_CONF,
    Conf().control_socket,
    "/etc/default/failoverd",
    "/etc/default/watchd-IFACE",
    "/var/tmp/ha-edit-*",
}
TOUCHED = ("host_type", "secret", "failover_prog", "switch_dir", "log", "pidfile", "state")


def source(page: str) -> str:
    return (MAN / page).read_text()


def section(page: str, title: str) -> str:
    """The source between one .Sh and the next."""
    found = re.search(rf"(?ms)^\.Sh {title}\n(.*?)(?=^\.Sh |\Z)", source(page))
    assert found, f"{page} has no section {title}"
    return found[1]


def plain(words: str) -> str:
    """What the arguments of a macro look like on paper, with ... for what stands for something."""
    text = re.sub(r"\bAr \S+( \S+)??(?=$| (?:No|Ar|Pq|,)\b)", "...", words)
    text = re.sub(r"(?<!\S)(?:No|Ns|Pq|Ql|Va) ", "", text)
    for written, meant in ((r"\(dq", "\0"), (r"\&", ""), (r"\-", "-"), (r"\e", "\\")):
        text = text.replace(written, meant)
    return re.sub(r'^"(.*?)".*', r"\1", text).replace("\0", '"')


# Options


@functools.cache
def help_text(command: str) -> str:
    module = f"failoverd.commands.{command.replace('-', '_')}"
    result = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return result.stdout


def offered(command: str) -> dict[str, str]:
    """Every option of --help, with the word for its argument."""
    options = {}
    for line in re.findall(r"(?m)^  (-.*?)(?:  .*)?$", help_text(command)):
        names = re.findall(r"(?<!\S)--?[A-Za-z][\w-]*", line)
        argument = re.sub(r"(?<!\S)-[\w-]+,?", "", line).strip()
        options.update(dict.fromkeys(names, argument))
    return options


def described(page: str) -> dict[str, str]:
    """Every option that a page describes, with the word for its argument."""
    options = {}
    for line in re.findall(r"(?m)^\.It (Fl .*)$", source(page)):
        argument = "".join(re.findall(r"Ar (\S+)", line.replace("Op Ar TIME", "Ar [TIME]")))
        options.update({f"-{name}": argument for name in re.findall(r"Fl (\S+)", line)})
    return options


@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_describes_every_option_and_no_other(command: str) -> None:
    assert described(f"{command}.8") == offered(command)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_synopsis_shows_every_option_and_no_other(command: str) -> None:
    shown: set[str] = set()
    for word in re.findall(r"Fl (\S+)", section(f"{command}.8", "SYNOPSIS")):
        shown |= {f"-{word}"} if word.startswith("-") else {f"-{letter}" for letter in word}
    assert shown == set(offered(command))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_bracket_of_the_synopsis_closes_where_it_should(command: str) -> None:
    """Op reaches to the end of its line: what goes on behind it needs Oo and Oc."""
    assert not re.search(r"(?m)^.+ Op ", section(f"{command}.8", "SYNOPSIS"))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_a_screen(command: str) -> None:
    screens = 2 if command == "watchd" else 1  # its options alone are as many lines as one has
    assert len(help_text(command).splitlines()) <= 24 * screens


@pytest.mark.parametrize("command", COMMANDS)
def test_the_usual_configuration_is_the_one_in_the_page(command: str) -> None:
    assert DEFAULT_CONF in help_text(command)
    assert f".Pa {DEFAULT_CONF}" in source(f"{command}.8")


# The parts that dev/manual writes


def test_the_generated_parts_are_current() -> None:
    manual = [sys.executable, str(ROOT / "dev" / "manual"), "--check"]
    result = subprocess.run(manual, capture_output=True, text=True, check=False, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")


def test_the_reference_has_every_variable_once() -> None:
    found = re.findall(r"(?m)^\.It Va (\S+) Li = ", section("failoverd.conf.5", "VARIABLES"))
    assert found == [setting.perl_name for setting in SETTINGS.values()]


def test_every_line_of_seconds_is_explained() -> None:
    page = section("failoverd.conf.5", "CHOOSING TIMERS")
    for bound in promises.all_bounds(Conf()).values():
        assert f"\n.It {bound.what}\n" in page


def test_every_variable_in_a_page_exists() -> None:
    known = {setting.perl_name for setting in SETTINGS.values()}
    for page in PAGES:
        named = re.findall(r"(?:\.Va|Va|\\fI) ?([$@][a-z_]+)", source(page))
        assert set(named) <= known, page


# Names that other parts of the code have too


def listed(page: str, title: str, first: str) -> set[str]:
    """The plain items of the list whose first item is `first`."""
    text = section(page, title)
    start = re.search(rf"(?m)^\.It (?:Ql )?{re.escape(first)}$", text)
    assert start, f"{page}: no list with {first}"
    items = text[start.start() :].partition("\n.El")[0]
    return {plain(item) for item in re.findall(r"(?m)^\.It (.*)$", items)}


def test_the_roles_are_those_of_the_code() -> None:
    assert listed("failoverd.8", "ROLES", "active") == set(protocol.ROLES)


def test_the_states_are_those_of_the_code() -> None:
    assert listed("ha-status.8", "DESCRIPTION", "ok") == set(protocol.STATES)


def test_the_reasons_are_those_of_the_code() -> None:
    """A node in doubt runs no script before it knows why."""
    reasons = set(pair.Purpose) - {pair.Purpose.NONE, pair.Purpose.DOUBT}
    told = {purpose.value for purpose in reasons}
    assert listed("ha-switch.8", "ENVIRONMENT", "boot") == told


def test_the_tree_of_symptoms_explains_causes_of_the_code() -> None:
    causes = listed("failoverd.8", "SYMPTOMS", "heartbeat lost")
    assert causes <= {purpose.value for purpose in pair.Purpose}
    assert {"interface failed", "operator", "told by the peer", "both nodes active"} <= causes


@pytest.mark.parametrize("page", PAGES)
def test_every_path_of_a_page_is_the_default_of_its_variable(page: str) -> None:
    if page == "ha-switch.8":
        assert Conf().failover_prog in source(page)
    items = re.findall(r"(?m)^\.It Pa (\S+)(?: Pq Va \$(\w+))?$", section(page, "FILES"))
    assert items
    for path, variable in items:
        if variable:
            assert path == getattr(Conf(), variable)
        else:
            assert path in OTHER_FILES


@pytest.mark.parametrize("page", ["failoverd.8", "failoverd.conf.5"])
def test_no_file_of_the_daemon_is_left_out(page: str) -> None:
    for variable in TOUCHED:
        assert f".It Pa {getattr(Conf(), variable)} Pq Va ${variable}\n" in section(page, "FILES")


# What the programs say


def said(file: Path) -> Iterator[str]:
    """Every string of a Python file; what is put into one is a NUL."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                part.value
                if isinstance(part, ast.Constant) and isinstance(part.value, str)
                else "\0"
                for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@functools.cache
def all_said() -> str:
    strings = [text for file in ROOT.glob("failoverd/**/*.py") for text in said(file)]
    return "\n".join([*strings, (ROOT / "ha-switch").read_text()])


def quotations(page: str) -> list[str]:
    """What a page quotes as an error or a line of the log."""
    text = section(page, "WHEN IT DOES NOT WORK")
    if page == "failoverd.8":
        text += section(page, "THE LOG")
    return [plain(words) for words in re.findall(r"(?m)^\.It Ql (.*)$", text)]


@pytest.mark.parametrize("page", PAGES)
def test_what_is_quoted_is_really_said(page: str) -> None:
    assert quotations(page)
    for quotation in quotations(page):
        for piece in re.split(r"\.\.\.|[:;] |, and |[()]", quotation):
            words = piece.strip(" ,;:")
            assert words in all_said(), f"{quotation!r}: nothing says {words!r}"


# Form


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_what_a_person_looks_for(page: str) -> None:
    for title in ("NAME", "SYNOPSIS", "DESCRIPTION", "FILES", "EXAMPLES"):
        section(page, title)
    for title in ("WHEN IT DOES NOT WORK", "DIFFERENCES FROM THE ORIGINAL", "SEE ALSO"):
        section(page, title)
    if page.endswith(".8"):
        section(page, "SIGNALS")
        section(page, "EXIT STATUS")


# What is searched for, and the page whose NAME has it, where apropos(1) looks.
SOUGHT = {
    "failoverd.8": ("VIP", "virtual IP", "split brain", "failback", "gratuitous ARP", "STONITH"),
    "failoverd.conf.5": ("VIP", "STONITH", "heartbeat"),
    "ha-fail.8": ("switchover", "failback"),
    "ha-status.8": ("split brain", "heartbeat"),
    "ha-switch.8": ("VIP", "virtual IP"),
}


@pytest.mark.parametrize("page", SOUGHT)
def test_apropos_finds_what_is_searched_for(page: str) -> None:
    name = section(page, "NAME")
    assert [words for words in SOUGHT[page] if words not in name] == []
    if shutil.which("lexgrog") is None:
        pytest.skip("lexgrog, which makes apropos's list, is not installed: apt-get install man-db")
    lexgrog = ["lexgrog", str(MAN / page)]
    result = subprocess.run(lexgrog, capture_output=True, text=True, check=True, timeout=60)
    assert [words for words in SOUGHT[page] if words not in result.stdout] == []


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_of_linux_and_names_the_others_in_order(page: str) -> None:
    """By section, then by name, and each of this project's that the text refers to."""
    assert "\n.Os Linux\n" in source(page)
    also = re.findall(r"(?m)^\.Xr (\S+) (\d)(?: ,)?$", section(page, "SEE ALSO"))
    assert also == sorted(also, key=lambda one: (one[1], one[0]))
    own = {tuple(one.rsplit(".", 1)) for one in PAGES}
    mentioned = {one for one in re.findall(r"(?m)^\.Xr (\S+) (\d)", source(page)) if one in own}
    assert mentioned - {tuple(page.rsplit(".", 1))} <= set(also)


@pytest.mark.parametrize("page", PAGES)
def test_no_word_of_a_title_is_lost_as_a_macro(page: str) -> None:
    r"""mdoc swallows these words there, and "No node" becomes "node", unless they follow \&."""
    swallowed = r"(?m)^\.(?:It|Ss|Sh|Nd) (?:An|At|Do|In|No|So) .*"
    assert re.findall(swallowed, source(page)) == []


@pytest.mark.parametrize("page", PAGES)
def test_a_quotation_ends_before_the_comma_behind_it(page: str) -> None:
    assert not re.findall(r'(?m)^\.(?:Pq )?Ql [^"\n]* , \S.*', source(page))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_sound_mdoc(page: str) -> None:
    if shutil.which("mandoc") is None:
        pytest.skip("mandoc is not installed: apt-get install mandoc")
    lint = ["mandoc", "-T", "lint", "-W", "warning", str(MAN / page)]
    result = subprocess.run(lint, capture_output=True, text=True, check=False, timeout=60)
    assert (result.stdout, result.stderr, result.returncode) == ("", "", 0)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("width", [None, 80, 60])
def test_a_page_is_shown_without_warnings(page: str, width: int | None) -> None:
    """Into a pipe, and on a narrow terminal: a table of fixed widths is too wide for the one or
    the other, and whoever reads the page is told so by groff."""
    if shutil.which("man") is None:
        pytest.skip("man is not installed: apt-get install man-db")
    env = {key: word for key, word in os.environ.items() if key not in ("MANWIDTH", "COLUMNS")}
    if width:
        env["MANWIDTH"] = str(width)
    with (MAN / page).open() as text:
        read = ["man", "--warnings", "--local-file", "-"]
        result = subprocess.run(
            read, stdin=text, env=env, capture_output=True, text=True, check=False, timeout=60
        )
    assert (result.stderr, result.returncode) == ("", 0)


def test_every_page_is_tested() -> None:
    assert {path.name for path in MAN.iterdir()} == set(PAGES)


# Completion


def completed(*words: str) -> list[str]:
    """What the completion offers for the last word; a line "compopt ..." asks bash for files."""
    script = f"""
    compopt() {{ echo "compopt $*"; }}
    . {shlex.quote(str(COMPLETION))}
    function=$(complete -p "$1")
    function=${{function#*-F }}
    "${{function%% *}}" "$1" "${{!#}}" "${{@: -2:1}}"
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    bash = ["bash", "--norc", "-c", script, "bash", *words]
    result = subprocess.run(bash, capture_output=True, text=True, check=False, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.split("\n")[:-1]


@pytest.mark.parametrize("command", COMMANDS)
def test_completion_offers_every_option_and_no_other(command: str) -> None:
    assert completed(command, "-") == sorted(offered(command), key=lambda name: name.lstrip("-"))
    long = sorted(name for name in offered(command) if name.startswith("--"))
    assert completed(command, "--") == long


@pytest.mark.parametrize("command", COMMANDS)
def test_completion_offers_files_for_the_configuration(command: str) -> None:
    assert completed(command, "-c", "etc")[0] == "compopt -o default"


def test_completion_knows_what_a_command_takes() -> None:
    assert completed("watchd", "l") == ["lo"]
    assert "lo" in completed("watchd", "--json", "")
    assert completed("watchd", "-r", "night")[0] == "compopt -o default"
    assert completed("watchd", "--until", "l") == [""]
    assert completed("watchd", "no-such") == [""]
    assert completed("ha-edit", "/etc/fail")[0] == "compopt -o default"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_files_for_zsh_and_fish_name_every_option_and_no_other(command: str) -> None:
    """Also where there is neither shell."""
    common, *cases = re.split(r"(?m)^(?=[\w-]+\)$)", ZSH.read_text())
    (case,) = (each for each in cases if each.startswith(f"{command})\n"))
    in_zsh = re.findall(r"(?<=['{,)])(--?\w[\w-]*)(?=[\[,}])", common + case)
    assert sorted(in_zsh) == sorted(offered(command))
    own = rf"(?m)^ *complete -c (?:\$name|{command}) (.*?)(?: -d|$)"
    flags = " ".join(re.findall(own, FISH.read_text()))
    named = re.findall(r"-([sl]) (\S+)", flags)
    in_fish = [{"s": "-", "l": "--"}[kind] + name for kind, name in named]
    assert sorted(in_fish) == sorted(offered(command))


def said_by(shell: str, *words: str) -> str:
    """What a shell prints that reads no user's settings."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed: apt-get install {shell}")
    result = subprocess.run(
        [shell, *words], capture_output=True, text=True, check=False, timeout=60
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_zsh_and_fish_take_their_files(command: str) -> None:
    """What each then offers; of zsh what the file asks of its _arguments."""
    script = '_arguments() { print -rl -- "$@" }; service=$1; f() { . "$2" }; f "$@"'
    specs = said_by("zsh", "-fc", script, "zsh", command, str(ZSH))
    in_zsh = re.findall(r"(?m)^(?:\(.*?\))?(--?[\w-]+)\[", specs)
    assert sorted(in_zsh) == sorted(offered(command))
    script = f"source {shlex.quote(str(FISH))}; complete -C '{command} -'"
    in_fish = said_by("fish", "--no-config", "-c", script).splitlines()
    assert sorted(line.split("\t")[0] for line in in_fish) == sorted(offered(command))
