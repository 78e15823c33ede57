"""What Perl itself makes of a configuration: one interpreter that lasts, and is asked by files."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Collection, Iterator

from failoverd.conf.language import Reading

Values = dict[str, tuple[str, ...]]

# Reads the file again for every line on its input, and prints each variable that a call of `tell`
# at the end of the file names, in hexadecimal.
_PERL = r"""
$| = 1;
sub main::tell { print join(",", shift, map { unpack("H*", "$_") . "." } @_), "\n" }
my $file = shift;
while (<STDIN>) {
    undef $@;
    do $file;
    print "error ", unpack("H*", $@), "\n" if $@;
    print "end\n";
}
"""


class Perl:
    """The interpreter. What it is given runs as nobody, in case that we read it wrongly."""

    def __init__(self) -> None:
        program = shutil.which("perl")
        if program is None:
            raise FileNotFoundError("perl is not installed")
        self._file = os.memfd_create("some.conf")
        self._process = subprocess.Popen(
            [program, "-e", _PERL, f"/proc/self/fd/{self._file}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[self._file],
            user="nobody" if os.geteuid() == 0 else None,
            cwd="/",
        )

    def values(self, text: str, names: Collection[str]) -> Values:
        """What Perl gives each of these variables. Raises AssertionError if it takes offence."""
        tell = "".join(f"main::tell('{name}', {name});" for name in names)
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{text}\n{tell}\n1;\n".encode("utf-8", "surrogateescape"), 0)
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        found: Values = {}
        for line in self._answer():
            word, _, rest = line.partition(" ")
            assert word != "error", (text, bytes.fromhex(rest))
            name, *values = line.split(",")
            found[name] = tuple(
                bytes.fromhex(value[:-1]).decode("utf-8", "surrogateescape") for value in values
            )
        return found

    def _answer(self) -> Iterator[str]:
        assert self._process.stdout is not None
        while (line := self._process.stdout.readline().decode().rstrip("\n")) != "end":
            assert line, "perl has ended"
            yield line

    def close(self) -> None:
        with self._process, contextlib.suppress(ProcessLookupError):
            self._process.kill()
        os.close(self._file)


def means_the_same_to_perl(perl: Perl, text: str, reading: Reading) -> None:
    """A text without a problem has the values that Perl gives it."""
    assert not reading.problems
    ours = {name: assigned.strings for name, assigned in reading.assigned.items()}
    assert perl.values(text, list(ours)) == ours, text
