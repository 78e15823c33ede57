"""The language of failoverd.conf and its table: by examples, by random texts, and against Perl."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import invariants
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from perl import Perl, means_the_same_to_perl

from dev.fuzzer.targets import FRAGMENTS
from failoverd import conf
from failoverd.conf import (
    SETTINGS,
    Address,
    Conf,
    ConfError,
    EthernetAddress,
    ServiceCheck,
    Witness,
    language,
)

anywhere = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

DATA = Path(__file__).parent.parent / "data"
SHIPPED = Path(__file__).parent.parent.parent / "etc" / "failover" / "failoverd.conf"
NAMES = {setting.perl_name for setting in SETTINGS.values()}


def problems(text: str, pair: bool = True) -> list[str]:
    """What is wrong with the text, as `line: message`."""
    try:
        conf.parse(text, "f", pair)
    except ConfError as error:
        assert all(problem.file == "f" for problem in error.problems)
        return [str(problem).removeprefix("f:") for problem in error.problems]
    return []


def value(right: str) -> str:
    """The string that a scalar gets, before the table judges it."""
    reading = language.read(f"$log = {right};", "f", NAMES)
    assert not reading.problems
    return reading.assigned["$log"].strings[0]


def elements(right: str) -> tuple[str, ...]:
    reading = language.read(f"@interfaces = {right};", "f", NAMES)
    assert not reading.problems
    return reading.assigned["@interfaces"].strings


# --- What is understood


def test_the_original_file_loads_and_is_the_default_but_for_ps() -> None:
    loaded = conf.parse((DATA / "original.conf").read_text(), "original.conf")
    assert loaded == replace(Conf(), ps="/usr/local/bin/ps ax")
    assigned = {SETTINGS[name].original for name in loaded.origin.lines}
    assert assigned == {True}
    assert len(loaded.origin.lines) == sum(setting.original for setting in SETTINGS.values())


def test_the_shipped_file_is_sound_and_shows_every_variable() -> None:
    text = SHIPPED.read_text()
    assert conf.parse(text, "f") == replace(Conf(), low_water=1)
    everything = conf.parse(re.sub(r"^#([$@])", r"\1", text, flags=re.MULTILINE), "f")
    assert set(everything.origin.lines) == set(SETTINGS)


def test_every_form_that_is_understood() -> None:
    data = (DATA / "every_form.conf").read_bytes()
    loaded = conf.parse(data.decode("utf-8", "surrogateescape"), "f")
    assert loaded == Conf(
        failover_root="/srv/failover",
        host_type="/srv/failover/host_type",
        secret="/srv/it's a \\ secret",
        low_water=16,
        packet_count=1000,
        tcp_port=2000,
        timer_seconds=0.25,
        plip_timer=11.0,
        plip_hbeat=10.0,
        interfaces=("eth0", "lan.10", "wan0", "wan1"),
        ethernet_addresses=(EthernetAddress("eth0", "02:00:00:00:00:1a"),),
        filter="host 192.0.2.1\nand not port 22",
        log='/var/log/$1@2"\\\x1b\t.log',
        user="failover",
        ps=r"$not @interpolated \n",
        pidfile="/srv/failover/failover:2000-16.pid",
        state="/run/café/é\udcff",
    )


@pytest.mark.parametrize(
    ("right", "expected"),
    [
        ("010", "8"),
        ("0", "0"),
        ("0x10", "16"),
        ("0XfF", "255"),
        ("0b101", "5"),
        ("1_000", "1000"),
        ("0x_f_f", "255"),
        ("0.50", "0.5"),
        (".5", "0.5"),
        ("1.", "1"),
        ("1e3", "1000"),
        ("1e15", "1e+15"),
        ("18446744073709551615", "18446744073709551615"),
        ("18446744073709551616", "1.84467440737096e+19"),
        ('"010"', "010"),
        (r"'a\n\'\\'", "a\\n'\\"),
        (r'"\\\"\$\@\n\t\r\e\0\x41\x7a"', '\\"$@\n\t\r\x1b\0Az'),
        (r'"\08"', "\x008"),
        (r'"\xe9"', "\udce9"),
        (r'"\xc3\xa9"', "é"),
        ('"a@ b@.c@"', "a@ b@.c@"),
        ("'# no remark'", "# no remark"),
        ("'a' # a remark; with 'quotes\n", "a"),
        ("'two\nlines'", "two\nlines"),
        ("'CR\r\nLF'", "CR\nLF"),
    ],
)
def test_scalars(right: str, expected: str) -> None:
    assert value(right) == expected


@pytest.mark.parametrize(
    ("right", "expected"),
    [
        ("()", ()),
        ("('a','b',)", ("a", "b")),
        ("(\n'a' # one\n,\n# two\n'b')", ("a", "b")),
        ("(1, 010, 'x')", ("1", "8", "x")),
        ("qw(a b)", ("a", "b")),
        ("qw(\n a\n\tb\n)", ("a", "b")),
        ("qw (a # b)", ("a", "#", "b")),
        ("qw()", ()),
        ("(qw(a b), 'c', qw(d),)", ("a", "b", "c", "d")),
        ("qw(a\x1cb c\u00a0d)", ("a\x1cb", "c\u00a0d")),
    ],
)
def test_lists(right: str, expected: tuple[str, ...]) -> None:
    assert elements(right) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "# only a remark",
        "1;",
        "1;\n$log = '/a';\n1;",
        ";;$log = '/a';;",
        "\ufeff$log = '/a';",
        "$log = '/a';\r\n# a remark\r\n1;\r\n",
        "# caf\udce9\n$log = '/a'; # \0\x01",
        "my\n$log\n=\n'/a'\n;",
    ],
)
def test_sound_texts(text: str) -> None:
    assert problems(text) == []


def test_later_assignments_win_and_count_in_what_follows() -> None:
    loaded = conf.parse('$log="/a"; $state="$log/s"; $log="/b"; $pidfile="$log/p";', "f")
    assert (loaded.log, loaded.state, loaded.pidfile) == ("/b", "/a/s", "/b/p")


def test_defaults_come_last() -> None:
    text = '$failover_root = "/a"; $secret = "$failover_root/word"; $failover_root = "/b";'
    loaded = conf.parse(text, "f")
    assert (loaded.secret, loaded.host_type) == ("/a/word", "/b/host_type")
    assert Conf(failover_root="/c").secret == "/c/secret"


# --- What is not understood: (text, what the problem must say, in this order)

NO_VALUE = "1: a value is one string in quotes"
NO_NUMBER = "1: this is no number: a value is one string in quotes"
NO_END = "1: only ; can follow a value: there are no operators"
NO_STATEMENT = "this is not understood: the file is read as data and never run"
REJECTED = [
    *((f"$log = {code};", [NO_VALUE]) for code in ("time()", "`date`", "q(/a)", "word", "$state")),
    *((f"$log = {code};", [NO_VALUE]) for code in ("$ENV{HOME}", "<<EOT", "-1", "['a']", "")),
    ("$log = ", [NO_VALUE]),
    ("$log = /var/log/a;", [NO_VALUE, "(found '/')"]),
    ("@interfaces = ('a', @witness);", [NO_VALUE, "(found '@')"]),
    ("@interfaces = ('a', $log);", [NO_VALUE, "(found '$')"]),
    ("@interfaces = (('a'), 'b');", [NO_VALUE]),
    ("@interfaces = ('a',,'b');", [NO_VALUE, "(found ',')"]),
    ("@interfaces = (,);", [NO_VALUE]),
    *((f"$tcp_port = {number};", [NO_NUMBER]) for number in ("08", "1__0", "1..5", "1e999", "20s")),
    ("$primary = 1.0.0.1;", [NO_NUMBER]),
    ("@interfaces = (1..5);", [NO_NUMBER]),
    ("$log = '/a' . 'b';", [NO_END, "(found '.')"]),
    *((f"$log = '/a' {code};", [NO_END]) for code in ("x 3", "if 1", "|| '/b'", "'/b'", ")")),
    ("$tcp_port = 1 + 1;", [NO_END, "(found '+')"]),
    ("$log .= 'a';", ['1: $log can only be assigned: write $log = "value";']),
    *((f"{code};", ["1: $log can only be assigned"]) for code in ("$log =~ 'a'", "$log == 1")),
    *((f"{code};", ["1: $log can only be assigned"]) for code in ("my $log", "$log{a} = 1")),
    ("$log", ["1: $log can only be assigned"]),
    ("$log\u00a0= '/a';", ["1: $log can only be assigned", r"(found '\xa0')"]),
    ("$interfaces[0] = 'a';", ["1: $interfaces can only be assigned"]),
    (
        "@interfaces .= 'a';",
        ["1: @interfaces can only be assigned: write @interfaces = ('a', 'b');"],
    ),
    ("@interfaces = 'a';", ["1: @interfaces is a list: write @interfaces = ('a', 'b');"]),
    *((f"@interfaces = {code};", ["1: @interfaces is a list"]) for code in ("@witness", "['a']")),
    ("@interfaces = ('a' 'b');", ["1: a comma or ) is missing: the list began in line 1"]),
    ("@interfaces = ('a', 'b';", ["1: a comma or ) is missing"]),
    ("@interfaces = ('a',\n'b',\n$log = '/a';", ["2: a comma or ) is missing: the list began in"]),
    *(
        (f"@interfaces = qw{code};", ["1: the list that begins here is not understood: write qw("])
        for code in (" a", "(a", " => 1", "[a b]", "/a b/", "((a) b)", r"(a\)b)")
    ),
    ("$log = ('/a');", ['1: $log is one value, not a list: write $log = "value";']),
    *(
        (f"$log = {code};", ["1: $log is one value, not a list"])
        for code in ("'/a', '/b'", "qw(a)")
    ),
    *(
        (f"{code} $log = '/a';", [f"1: {NO_STATEMENT}"])
        for code in ("local", "hello\nworld", "\x04")
    ),
    *((f"{code}\n$log = '/a';", [f"1: {NO_STATEMENT}"]) for code in ("use strict;", "print 1;")),
    *(
        (f"{code} = '/a';", [f"1: {NO_STATEMENT}"])
        for code in ("my ($log)", "%log", "$::log", "$ log")
    ),
    ("if (1) { $log = '/a'; }\n", [f"1: {NO_STATEMENT}"]),
    ("'text';", [f"1: {NO_STATEMENT}"]),
    ("$log = '/a';\n__END__\nof it", [f"2: {NO_STATEMENT}"]),
    ("=head1 A\n\nof it\n\n=cut\n$log = '/a';", [f"1: {NO_STATEMENT}", "(found '=')"]),
    ("\x04$log = '/a';", [f"1: {NO_STATEMENT}", r"found '\x04'"]),
    ("$log = '/a'", ["1: ; is missing at the end of the statement"]),
    ("$log = '/a'\n# remark\n$state = '/b';", ["1: ; is missing at the end of the statement"]),
    ("1", ["1: ; is missing"]),
    ("\ud800", ["1: this is not text in UTF-8"]),
    (
        "$log = 1;".encode("utf-16").decode("utf-8", "surrogateescape"),
        ["1: this is not text in UTF-8"],
    ),
    (r'$log = "/a\q";', [r"1: the escape \q is not understood"]),
    (r'$log = "/a\012";', [r"1: the escape \012"]),
    (r'$log = "/a\x4";', [r"1: the escape \x4 "]),
    (r'$log = "/a\x{41}";', [r"1: the escape \x{41}"]),
    (r'$log = "/a\Ub";', [r"1: the escape \U"]),
    ('$log = "/a\n@word";', [r"2: Perl would put a list in place of @word: write \@word"]),
    ('$log = "/a@-";', [r"write \@-"]),
    ('$log = "/a$";', [r"1: a $ without a name is not understood: write \$"]),
    ('$log = "/a$ b $5 $$ $#x";', [r"write \$"] * 4),
    ('$log = "$foo";', ["1: unknown variable $foo"]),
    ('$log = "$interfaces";', ["the nearest known name is @interfaces, a list"]),
    ('$log = "$state/a";\n$state = "/b";', ["1: $state is used before it is assigned"]),
    ('$secret = "$failover_root/a";', ["1: $failover_root is used before it is assigned"]),
    ('$log = "$log/a";', ["1: $log is used before it is assigned"]),
    ('$low_watre = "0";', ["1: unknown variable $low_watre: the nearest known name is $low_water"]),
    ("$Interface = 'a';", ["the nearest known name is @interfaces"]),
    ("$interfaces = 'a';", ["the nearest known name is @interfaces, a list"]),
    ("@log = ('a');", ["the nearest known name is $log, one value"]),
]


@pytest.mark.parametrize(("text", "expected"), REJECTED)
def test_what_is_not_understood_is_told_with_the_way_out(text: str, expected: list[str]) -> None:
    found = problems(text)
    assert len({line.partition(":")[0] for line in found}) == 1, "one statement is at fault"
    for part in expected:
        assert any(part in line for line in found), found


@pytest.mark.parametrize("further", ["[", "{", "'", "::", "->"])
def test_what_perl_would_interpolate_further_names_the_escape(further: str) -> None:
    (found,) = problems(f'$log = "/a";\n$state = "$log{further}";')
    assert found.startswith("2: ")
    assert f"\\$log{further}" in found
    assert f"${{log}}{further}" in found
    assert problems(f'$log = "/a";\n$state = "${{log}}{further}";') == []
    assert problems(f'$state = "/\\$log{further}";') == []


def test_a_missing_quote_is_reported_where_it_is_missing() -> None:
    text = '$log = "/a;\n$ps = "ps ax";\n$user = "nobody";\n'
    (found,) = problems(text)
    assert found == "1: the string that begins here ends in line 2: is a quote missing?"
    assert problems("$log = '/a;") == [
        "1: the string that begins here has no end: a quote is missing"
    ]


def test_all_errors_in_one_go_in_the_order_of_lines() -> None:
    text = """\
$low_water = many;
@interfaces = ('eth0' 'eth1',
   'eth2');
$log = "log"; $foo = 1; $tcp_port = 70000;
$state = "\\q @a";
print "hello";
$verbose = "maybe";
@witness = ('eth0', 'eth0 x');
$plip_hbeat = 12;
"""
    lines = [int(line.partition(":")[0]) for line in problems(text)]
    assert lines == [1, 2, 4, 4, 4, 5, 5, 6, 7, 8, 8, 9]


def test_an_error_brings_no_others_with_it() -> None:
    assert len(problems('$failover_root = </a;\n$secret = "$failover_root/s";')) == 1
    assert len(problems("@interfaces = eth7;\n@witness = ('eth7 192.0.2.1');")) == 1
    assert len(problems("$plip_timer = x;\n$plip_hbeat = 100;")) == 1


def test_the_last_assignment_alone_is_judged_and_at_its_line() -> None:
    assert problems('$tcp_port = "x";\n$tcp_port = "1";') == []
    (found,) = problems('$tcp_port = "1";\n\n$tcp_port\n=\n"x";')
    assert found == '3: $tcp_port is "x": expected a whole number from 1 to 65535'


# --- What values must be: (assignment, what is expected)

WRONG_VALUES = [
    ("$low_water = '-1'", "a whole number from 0"),
    ("$low_water = '1.5'", "a whole number"),
    ("$low_water = '0x10'", "a whole number"),
    ("$low_water = '1_000'", "a whole number"),
    ("$low_water = '\u0661'", "a whole number"),
    ("$low_water = '" + "9" * 5000 + "'", "a whole number"),
    ("$packet_count = 0", "a whole number from 1"),
    ("$tcp_port = 0", "from 1 to 65535"),
    ("$tcp_port = 65536", "from 1 to 65535"),
    ("$timer_seconds = 0.004", "from 0.005"),
    ("$timer_seconds = '1e3'", "seconds, a number"),
    ("$timer_seconds = 'inf'", "seconds, a number"),
    ("$timer_seconds = 'nan'", "seconds, a number"),
    ("$plip_timer = 1000001", "to 1000000"),
    ("$hold_down = ''", "seconds, a number from 0 "),
    ("$verbose = 'Yes'", '"yes" or "no"'),
    ("$realtime = 1", '"yes" or "no"'),
    ("$log = 'watchd.log'", "a path that begins with /"),
    ("$log = ''", "a path that begins with /"),
    ('$log = "/a\\0b"', "a path that begins with /"),
    ("$watchd = ''", "a path"),
    ("$ps = ' '", "a command"),
    ("$confirm = 'ARP'", '"arp", "none" or the path'),
    ("$fence_prog = 'fence'", "the path of a program"),
    ("$user = 'a b'", "the name of a user"),
    ("$plip_interface = 'sixteen-letters-'", "at most 15 characters"),
    ("$plip_interface = 'a/b'", "at most 15 characters"),
    ("$plip_interface = 'a:1'", "at most 15 characters"),
    ("$plip_interface = 'a b'", "at most 15 characters"),
    ("$plip_interface = '..'", "at most 15 characters"),
    ("@interfaces = ('')", "at most 15 characters"),
    ("$primary = '1.0.0'", "an IPv4 or IPv6 address"),
    ("$primary = '1.0.0.01'", "an IPv4 or IPv6 address"),
    ("$primary = '0.0.0.0'", "the address of one host"),
    ("$secondary = 'ff02::1'", "the address of one host"),
    ("$primary = 'fe80::1%plip0'", "not a link-local one"),
    ("@addresses = ('eth0')", "an interface and an address"),
    ("@addresses = ('eth0 192.0.2.10')", "the length of its prefix"),
    ("@addresses = ('eth0 192.0.2.10/255.255.255.0')", "the length of its prefix"),
    ("@addresses = ('eth0 192.0.2.10/33')", "at most 32 bits"),
    ("@addresses = ('eth0 192.0.2.0/24')", "not of its whole network"),
    ("@addresses = ('eth0 192.0.2.255/24')", "not of its whole network"),
    ("@addresses = ('eth0 192.0.2.10/0')", "not of its whole network"),
    ("@addresses = ('eth0 fe80::1%eth0/64')", "the length of its prefix"),
    ("@ethernet_addresses = ('eth0 2:0:0:0:0:10')", "a hardware address"),
    ("@ethernet_addresses = ('eth0 03:00:00:00:00:10')", "its first byte is even"),
    ("@ethernet_addresses = ('eth0 ff:ff:ff:ff:ff:ff')", "its first byte is even"),
    ("@ethernet_addresses = ('eth0 00:00:00:00:00:00')", "it is not 0"),
    ("@witness = ('192.0.2.1')", "an interface and an address"),
    ("@witness = ('eth0 192.0.2.1/24')", "an IPv4 or IPv6 address"),
    ('$filter = "a\\0"', "text without a NUL byte"),
    ("@checks = ('')", "a name, seconds and a command"),
    ("@checks = ('web 2')", "a name, seconds and a command"),
    ("@checks = ('web 2 /bin/x \"y')", "as a shell reads it; there is no closing quotation"),
    ('@checks = ("web 2 /bin/x y\\0")', "a name, seconds and a command"),
    ("@checks = ('we/b 2 /bin/x')", "a name of at most 20 letters"),
    ("@checks = ('* 2 /bin/x')", "a name of at most 20 letters"),
    (f"@checks = ('{'w' * 21} 2 /bin/x')", "a name of at most 20 letters"),
    ("@checks = ('web soon /bin/x')", "seconds, a number from 0.1"),
    ("@checks = ('web 0.05 /bin/x')", "seconds, a number from 0.1"),
    ("@checks = ('web 0 /bin/x')", "seconds, a number from 0.1"),
    ("@checks = ('web 2 check_http')", "the path of a program, which begins with /"),
    ("@checks = ('web 2 pidfile:')", "the path of a program, which begins with /"),
    ("@checks = ('db 0 pidfile:run/db.pid')", "the path of a program, which begins with /"),
    ("@checks = ('db 0 pidfile:/run/db.pid 5')", "nothing behind pidfile: and its path"),
    ("@checks = ('db 0.05 pidfile:/run/db.pid')", "seconds, a number from 0.1"),
    ("$check_timeout = 0", "seconds, a number from 0.1"),
    ("$check_rise = 0", "a whole number from 1 to 1000"),
    ("$check_fall = 1.5", "a whole number from 1 to 1000"),
]


@pytest.mark.parametrize(("assignment", "expected"), WRONG_VALUES)
def test_wrong_values_name_the_variable_and_what_is_expected(
    assignment: str, expected: str
) -> None:
    (found,) = problems(f"\n{assignment};")
    assert found.startswith(f"2: {assignment.split()[0]} ")
    assert expected in found
    assert len(found) < 400


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$plip_timer = 10;\n$plip_hbeat = 10;", "2: $plip_hbeat (10 s) must be less than"),
        ("$plip_timer = 5;", "1: $plip_hbeat (10 s) must be less than $plip_timer (5 s)"),
        ("$primary = '1.0.0.2';", "1: $primary and $secondary are both 1.0.0.2"),
        ("$primary = 'fd00::1';", "1: $primary and $secondary must be both IPv4 or both IPv6"),
        ("$primary = '::1';\n$secondary = '0:0::1';", "2: $primary and $secondary are both ::1"),
        ("@interfaces = ();", "1: @interfaces is empty"),
        ("@interfaces = qw(a b a);", "1: @interfaces names a twice"),
        ("$plip_interface = 'eth1';", "1: $plip_interface is eth1, which is one of @interfaces"),
        ("@addresses = ('eth5 192.0.2.1/24');", '1: @addresses: the interface of "eth5 192.0.2.1'),
        ("@witness = ('eth5 192.0.2.1');", "1: @witness: the interface of"),
        ("@checks = ('w 2 /a', 'w* 3 /b');", "1: @checks has more than one check w: give each"),
        (
            "@checks = (" + ", ".join(f"'w{n} 2 /a'" for n in range(33)) + ");",
            "1: @checks has 33 checks: at most 32",
        ),
        ("@addresses = ('eth0 10.0.0.1/8', 'eth1 10.0.0.1/8');", "10.0.0.1 more than once"),
        (
            "@addresses = ("
            + ",".join(f"'eth0 fd00:{n + 4096:x}::1/64'" for n in range(7000))
            + ");",
            "1: @addresses is 147000 bytes long: at most 131000 can be told the switch script",
        ),
        ("@addresses = ('eth0 1.0.0.2/8');", "1: @addresses has 1.0.0.2, which is $secondary"),
        (
            "@ethernet_addresses = ('eth0 02:00:00:00:00:01', 'eth0 02:00:00:00:00:02');",
            "1: @ethernet_addresses has more than one address for eth0",
        ),
        (
            "@addresses = ('eth0 10.0.0.1/8');\n@witness = ('eth1 10.0.0.1');",
            "2: @witness has 10.0.0.1, which is one of @addresses",
        ),
        ("@witness = ('eth0 10.0.0.1', 'eth0 10.0.0.1');", "twice: leave one out"),
        ("$pidfile = '/run/a';\n$state = '/run/a';", "2: $pidfile and $state are the same file"),
    ],
)
def test_variables_that_do_not_go_together(text: str, expected: str) -> None:
    (found,) = problems(text)
    assert expected in found


def test_watching_one_interface_needs_no_sound_pair() -> None:
    assert problems("$plip_timer = 2;", pair=False) == []
    assert problems("$plip_timer = x;", pair=False) != []


def test_low_water_above_packet_count_is_a_remark() -> None:
    assert conf.remarks(Conf()) == []
    (remark,) = conf.remarks(conf.parse("$low_water = 501;", "f"))
    assert "every window that ends is a failure" in remark


@pytest.mark.parametrize("right", ["'hunter2'", "hunter2", "hunter2()", "'hunter2\n'"])
def test_a_word_in_place_of_the_secret_file_is_not_shown(right: str) -> None:
    found = problems(f"$secret = {right};")
    assert found
    assert "hunter2" not in "".join(found)


# --- The table


def test_the_table_describes_every_variable() -> None:
    for setting in SETTINGS.values():
        assert setting.sigil in ("$", "@")
        assert setting.meaning.endswith(".")
        assert (setting.sigil == "@") == isinstance(setting.default, tuple)
    assert sum(setting.original for setting in SETTINGS.values()) == 20


def test_types_of_the_values() -> None:
    loaded = conf.parse(
        """@addresses = ('eth0 192.0.2.10/24', 'eth1   2001:DB8:0::10/64');
        @witness = ('eth0 192.0.2.1'); $confirm = '/bin/true'; $primary = 'FD00::1';
        $secondary = 'fd00::2'; $timer_seconds = 20; $verbose = 'no';""",
        "f",
    )
    assert loaded.addresses == (
        Address("eth0", "192.0.2.10", 24),
        Address("eth1", "2001:db8::10", 64),
    )
    assert loaded.witness == (Witness("eth0", "192.0.2.1"),)
    assert loaded.primary == "fd00::1"
    assert (loaded.confirm, loaded.verbose) == ("/bin/true", False)
    assert type(loaded.timer_seconds) is float
    assert type(loaded.packet_count) is int
    with pytest.raises(FrozenInstanceError):
        loaded.log = "/b"  # type: ignore[misc]


def test_a_check_is_split_as_a_shell_splits_it() -> None:
    loaded = conf.parse(
        r"""@checks = ('web* 2.5 /bin/check -u "/a b" it\\\'s', 'db 0 pidfile:/run/db.pid');""",
        "f",
    )
    web, db = loaded.checks
    assert web == ServiceCheck("web", 2.5, ("/bin/check", "-u", "/a b", "it's"), True)
    assert db == ServiceCheck("db", 0.0, ("pidfile:/run/db.pid",))
    assert (web.pidfile, db.pidfile) == ("", "/run/db.pid")
    assert conf.unpacked(conf.packed(loaded), "f") == loaded
    assert "@checks = (" in "".join(conf.effective(loaded))


def test_changed_names_what_differs() -> None:
    assert conf.changed(Conf(), conf.parse("$log = '/var/log/watchd.log';", "f")) == []
    assert conf.changed(Conf(), Conf(failover_root="/a", tcp_port=1)) == [
        "tcp_port",
        "failover_root",
        "host_type",
        "secret",
        "switch_dir",
    ]


def test_a_problem_of_a_value_is_placed_where_it_was_assigned() -> None:
    loaded = conf.parse("\n\n$log = '/a';", "/etc/f")
    assert str(loaded.problem("log", "is full")) == "/etc/f:3: $log: is full"
    assert str(loaded.problem("state", "is full")).startswith("/etc/f:1: $state (not set")


def test_importing_is_cheap() -> None:
    """Every command and every child pays for it."""
    code = (
        "import sys; import failoverd.conf;"
        "print(sorted({'ipaddress', 'difflib', 'decimal', 'socket'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=SHIPPED.parent.parent.parent,
        timeout=60,
    )
    assert done.stdout.strip() == "[]"


# --- Random texts

texts = st.one_of(
    st.text(max_size=200),
    st.lists(st.sampled_from(FRAGMENTS), max_size=60).map("".join),
)


@anywhere
@given(texts)
def test_any_text_gives_a_configuration_or_problems_with_lines(text: str) -> None:
    invariants.conf_text(text)


@anywhere
@given(texts)
def test_an_error_never_hides_a_sound_statement_far_behind_it(text: str) -> None:
    invariants.conf_goes_on(text)


interfaces = st.from_regex(r"[a-z][a-z0-9._-]{0,14}", fullmatch=True).filter(
    lambda name: name != "plip0"
)
# \udcff is a byte that is never UTF-8; Perl makes no difference between \r\n and \n.
letters = st.characters(codec="utf-8", exclude_characters="\0\r") | st.just("\udcff")
paths = st.text(letters, max_size=20).map(lambda text: "/" + text)
small_seconds = st.integers(5, 9_000_000).map(lambda milliseconds: milliseconds / 1000)


@st.composite
def configurations(draw: st.DrawFn) -> Conf:
    ethernet = draw(st.lists(interfaces, min_size=1, max_size=4, unique=True))
    hosts = draw(st.lists(st.integers(1, 250), max_size=4, unique=True))
    served = [
        Address(draw(st.sampled_from(ethernet)), f"10.9.8.{host}", draw(st.sampled_from([8, 24])))
        for host in hosts
    ]
    files = draw(st.lists(paths, min_size=7, max_size=7, unique=True))
    return Conf(
        low_water=draw(st.integers(0, 10**9)),
        interfaces=tuple(ethernet),
        verbose=draw(st.booleans()),
        packet_count=draw(st.integers(1, 10**9)),
        timer_seconds=draw(small_seconds),
        watchd=files[0],
        ps="ps " + files[1],
        tcp_port=draw(st.integers(1, 65535)),
        failover_root=files[0],
        host_type=files[2],
        secret=files[3],
        plip_timer=10_000.0,
        plip_hbeat=draw(small_seconds),
        log=files[4],
        dumpfile=files[5],
        addresses=tuple(served),
        ethernet_addresses=tuple(EthernetAddress(name, "02:00:00:0a:0b:0c") for name in ethernet),
        witness=(Witness(ethernet[0], "2001:db8::1"),),
        filter=draw(st.text(letters, max_size=20)),
        hold_down=draw(st.floats(0, 1e6).map(lambda seconds: round(seconds, 9))),
        state=files[6],
    )


@anywhere
@given(configurations())
def test_effective_settings_read_back_are_the_same(whole: Conf) -> None:
    invariants.conf_round_trip(whole)


@anywhere
@given(configurations())
def test_what_is_packed_for_another_process_is_unpacked_there(whole: Conf) -> None:
    told = conf.unpacked(json.loads(json.dumps(conf.packed(whole))), "g")
    assert told == whole and told.origin.file == "g"


def test_a_configuration_of_every_kind_is_packed() -> None:
    for whole in (Conf(), conf.parse((DATA / "every_form.conf").read_text(), "f")):
        assert conf.unpacked(conf.packed(whole), "f") == whole


@pytest.mark.parametrize(
    ("name", "value"),
    [("timer_seconds", ["-1"]), ("user", []), ("addresses", ["eth0"]), ("verbose", ["maybe"])],
)
def test_what_is_no_configuration_is_not_unpacked(name: str, value: list[str]) -> None:
    told = conf.packed(Conf())
    with pytest.raises((ValueError, LookupError)):
        conf.unpacked({**told, name: value}, "f")
    del told[name]
    with pytest.raises(LookupError):
        conf.unpacked(told, "f")


def test_effective_settings_of_every_kind() -> None:
    shown = conf.effective(conf.parse((DATA / "every_form.conf").read_text(), "f"))
    assert r'$log = "/var/log/\$1\@2\"\\\e\t.log";' in shown
    assert '$timer_seconds = "0.25";' in shown
    assert '@interfaces = ("eth0", "lan.10", "wan0", "wan1");' in shown
    assert "@addresses = ();" in shown


# --- Against Perl


@pytest.fixture(scope="module")
def perl() -> Iterator[Perl]:
    if shutil.which("perl") is None:
        pytest.skip("perl is not installed")
    asked = Perl()
    yield asked
    asked.close()


def random_literal(pick: random.Random, known: list[str]) -> str:
    plain = [
        "a",
        "/",
        " ",
        "é",
        "\udcff",
        "#",
        ";",
        "\n",
        "\r\n",
        "0",
        ".",
        ":",
        "-",
        "=",
        "(",
        "%",
    ]
    single = [*plain, '"', "$", "@", "\\n", "\\\\", "\\'", "$log", "@x", "\\x41"]
    escapes = [r"\\", r"\"", r"\$", r"\@", r"\n", r"\t", r"\r", r"\e", r"\0", r"\x41", r"\xfe"]
    double = [*plain, "'", "@ ", *escapes, *(f"${{{name[1:]}}}" for name in known)]
    double += [f"{name}{after}" for name in known for after in ("/", " ", ":", "-", "é", "\\x5b")]
    kind = pick.randrange(4)
    if kind == 0:
        return "'" + "".join(pick.choices(single, k=pick.randrange(8))) + "'"
    if kind == 1:
        body = "".join(pick.choices(double, k=pick.randrange(8)))
        # Neighbours may have made an octal escape, a long name or an array of two good pieces.
        body = re.sub(r"(?<!\\)((?:\\\\)*)\\0(?=[0-7])", r"\1", body)
        body = re.sub(r"(?<!\\)((?:\\\\)*\$\w++)(?='|::)", r"\1 ", body)
        return '"' + re.sub(r"(?<!\\)((?:\\\\)*@)(?=[\w:'{$+-])", r"\1 ", body) + '"'
    digits = "".join(pick.choices("0123456789", k=pick.randint(1, 19))).lstrip("0") or "0"
    return pick.choice(
        [
            digits,
            hex(int(digits) % 2**64),
            bin(int(digits) % 2**64),
            f"0{int(digits) % 2**64:o}",
            f"{int(digits):_}",
            f"{digits[:9]}.{digits}",
            f".{digits}",
            f"{digits[:3]}e{pick.randint(-30, 30)}",
            f"{digits[:5]}.{digits[:2]}E+{pick.randint(0, 20)}",
        ]
    )


def random_words(pick: random.Random) -> str:
    pieces = ["a", "eth0", " ", "\n", "\t", "é", "$x", "@y", "'", '"', ",", "#"]
    return f"qw{pick.choice(['', ' '])}({''.join(pick.choices(pieces, k=6))})"


def random_file(pick: random.Random) -> str:
    """A file of the subset: every statement is understood, and is Perl."""
    scalars = ["$log", "$state", "$filter", "$user"]
    known: list[str] = []
    lines = []
    for _ in range(pick.randint(1, 6)):
        blank = pick.choice([" ", "", "\n", '\t# it\'s a "remark"\n', "\r\n"])
        if pick.random() < 0.3:
            name = pick.choice(["@interfaces", "@witness"])
            parts = [
                random_words(pick) if pick.random() < 0.3 else random_literal(pick, known)
                for _ in range(pick.randrange(4))
            ]
            right = f"({blank}" + f",{blank}".join(parts) + (f"{blank},)" if parts else ")")
            right = random_words(pick) if pick.random() < 0.3 else right
        else:
            name = pick.choice(scalars)
            right = random_literal(pick, known)
        declared = pick.choice(["", "", "my ", "our "])
        end = pick.choice(["\n", " ", " # a remark\n", "\r\n", ";"])
        lines.append(f"{declared}{name}{blank}={blank}{right}{blank};{end}")
        if name in scalars and name not in known:
            known.append(name)
    return "".join(lines) + pick.choice(["", "1;", "1;\n", "# the end"])


def test_files_of_the_subset_have_the_values_that_perl_gives(perl: Perl) -> None:
    pick = random.Random(1999)
    texts = [random_file(pick) for _ in range(1500)]
    for name in ("original.conf", "every_form.conf"):
        texts.append((DATA / name).read_bytes().decode("utf-8", "surrogateescape"))
    for text in (*texts, SHIPPED.read_text()):
        means_the_same_to_perl(perl, text, language.read(text, "f", NAMES))


def test_whatever_is_accepted_means_the_same_to_perl(perl: Perl) -> None:
    """Sound files with a few characters changed: most are refused, and the rest agree."""
    pick = random.Random(2026)
    accepted = 0
    for _ in range(6_000):
        text = random_file(pick)
        for _ in range(pick.randint(1, 3)):
            at = pick.randrange(len(text) + 1)
            text = text[:at] + pick.choice([*FRAGMENTS, "", ""]) + text[at + pick.randrange(3) :]
        reading = language.read(text, "f", NAMES)
        if not reading.problems:
            means_the_same_to_perl(perl, text, reading)
            accepted += 1
    assert accepted > 1000
