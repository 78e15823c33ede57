"""dev/fuzz: one target after the other, each in a process of its own, and what came of it."""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from dev.fuzzer.targets import TARGETS, Target

ROOT = Path(__file__).resolve().parent.parent.parent
KEPT = ROOT / ".fuzz"  # corpus and findings of every target, over all runs
HANG = 20  # seconds that one input may take: far more than any, on any host
MEMORY = 500  # MB; without a leak or a blow-up no target comes near it
HOW = {70: "an input that hangs", 71: "an input that eats up the memory"}  # libFuzzer's exits


@dataclass(frozen=True)
class Ran:
    """What a worker did. finding: the file with the input that broke something."""

    inputs: int
    edges: int
    seconds: float
    status: int
    finding: Path | None
    said: Sequence[str]


def main(argv: list[str] | None = None) -> int:
    """Exit status 0: nothing found, 1: something, which is kept, 2: usage, 130: stopped."""
    options = parse(argv)
    signal.signal(signal.SIGTERM, stop)
    try:
        if options.input is not None:
            return once(options.targets, options.input)
        return campaign(options)
    except KeyboardInterrupt:
        print("\nfuzz: stopped", file=sys.stderr)
        return 130


def stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="fuzz",
        description="Try random inputs, guided by coverage, on all that reads what others wrote.",
        epilog=f"Findings are kept in {KEPT.name}/TARGET/findings and tried first the next time. "
        "Exit status: 0 nothing found, 1 something, 2 usage.",
    )
    add = parser.add_argument
    add("targets", nargs="*", metavar="TARGET", help=f"of: {' '.join(TARGETS)} (all)")
    add("--seconds", type=int, metavar="N", help="for each target (60)")
    add("--runs", type=int, metavar="N", help="inputs for each target, instead of seconds")
    add("--input", metavar="FILE", help="try this one input only, on the one target named")
    add("--missed", action="store_true", help="also tell the lines that no input reaches")
    options = parser.parse_args(argv)
    unknown = [name for name in options.targets if name not in TARGETS]
    if unknown:
        parser.error(f"there is no target {unknown[0]}; there are {', '.join(TARGETS)}")
    if options.input is not None and len(options.targets) != 1:
        parser.error("--input FILE goes with one TARGET")
    return options


def once(names: Sequence[str], path: str) -> int:
    """One input, with the whole traceback if it breaks something."""
    TARGETS[names[0]].check(Path(path).read_bytes())
    print(f"{names[0]}: all that must hold holds for {path}")
    return 0


def campaign(options: argparse.Namespace) -> int:
    total = found = 0
    for name in options.targets or TARGETS:
        target = TARGETS[name]
        place = prepared(name, target)
        limit = f"-max_total_time={options.seconds or 60}"
        if options.runs is not None:
            limit = f"-runs={options.runs}"
        ran = again(name, place) or work(name, place, (limit, f"-max_len={target.longest}"))
        total += ran.inputs
        found += ran.status != 0
        print(line(name, ran, place, options.missed), flush=True)
        if ran.status != 0:
            print(told(name, ran), flush=True)
    print(f"{total:,} inputs, {found or 'no'} target{'s' * (found > 1)} with a finding")
    return 1 if found else 0


def prepared(name: str, target: Target) -> Path:
    """The folder of a target: seeds and words are made again, what was found before stays."""
    place = KEPT / name
    for folder in ("corpus", "findings"):
        (place / folder).mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (place / "corpus" / f"seed-{number}").write_bytes(seed)
    words = ("".join(f"\\x{byte:02x}" for byte in word) for word in target.words if word)
    (place / "words").write_text("".join(f'"{word}"\n' for word in words))
    return place


def again(name: str, place: Path) -> Ran | None:
    """The old findings; None if there are none, or none that still breaks something."""
    for path in sorted((place / "findings").iterdir()):
        ran = work(name, place, (str(path),))
        if ran.status != 0:
            return Ran(ran.inputs, 0, ran.seconds, ran.status, path, ran.said)
    return None


def work(name: str, place: Path, more: Iterable[str]) -> Ran:
    """Run the fuzzer in a process of its own: what it finds may end it."""
    options = [
        f"-timeout={HANG}",
        f"-rss_limit_mb={MEMORY}",
        *([f"-dict={place / 'words'}"] if TARGETS[name].words else ()),
        f"-artifact_prefix={place / 'findings'}/",
        *more,
    ]
    if not any(one.startswith("/") for one in more):
        options.append(str(place / "corpus"))
    began = time.monotonic()
    worker = subprocess.Popen(
        [sys.executable, "-m", "dev.fuzzer.worker", name, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    )
    try:
        said = worker.communicate()[0].decode(errors="replace").splitlines()
    except BaseException:
        worker.kill()
        worker.wait()
        raise
    return understood(said, worker.returncode, time.monotonic() - began)


def understood(said: Sequence[str], status: int, seconds: float) -> Ran:
    """What libFuzzer's lines tell: #INPUTS ... cov: EDGES, and where it put what it found."""
    counts = [re.match(r"#(\d+)\s+\S+\s+cov: (\d+)", line) for line in said]
    inputs, edges = next(((int(c[1]), int(c[2])) for c in reversed(counts) if c), (0, 0))
    files = [re.search(r"Test unit written to (\S+)", line) for line in said]
    finding = next((Path(one[1]) for one in files if one), None)
    return Ran(inputs, edges, seconds, status, finding, said)


def line(name: str, ran: Ran, place: Path, missed: bool) -> str:
    """One line about a target, and which lines of its rooms the corpus reaches."""
    rate = ran.inputs / max(ran.seconds, 0.001)
    text = f"{name:10} {ran.inputs:>12,} inputs {ran.seconds:6.0f} s {rate:>8,.0f}/s  "
    if ran.status != 0:
        broken = "an input that breaks what must hold" if ran.finding else "the fuzzer has ended"
        return text + HOW.get(ran.status, broken)
    counted = subprocess.run(
        [sys.executable, "-m", "dev.fuzzer.lines", name, str(place / "corpus")],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    ).stdout.splitlines()
    reached, there = map(int, counted[0].split())
    rooms = ", ".join(TARGETS[name].rooms)
    text += f"{ran.edges:4} edges, {100 * reached / there:3.0f} % of the lines of {rooms}"
    return "\n".join([text, *(f"    {one}" for one in counted[1:] if missed)])


def told(name: str, ran: Ran) -> str:
    """A finding: what was not so, the input, and how to try it again."""
    begin = next((n for n, one in enumerate(ran.said) if "Uncaught Python" in one), -25)
    parts = [f"    {one}" for one in ran.said[begin:] if one.strip() and "INFO:" not in one][:25]
    if ran.finding is not None and ran.finding.exists():
        data = ran.finding.read_bytes()
        parts += [f"  input: {data[:300]!r}{' ...' if len(data) > 300 else ''}"]
        parts += [f"  again: dev/fuzz --input {ran.finding} {name}"]
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
