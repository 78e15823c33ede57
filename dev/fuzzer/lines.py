"""Which lines of the rooms the inputs of a corpus reach: lines TARGET FOLDER."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from dev.fuzzer.targets import TARGETS, Target

Line = tuple[str, int]


def main() -> None:
    """Print how many lines were reached, how many there are, and where the others are."""
    target = TARGETS[sys.argv[1]]
    inputs = [path.read_bytes() for path in sorted(Path(sys.argv[2]).iterdir())]
    there = {line for room in target.rooms for line in in_functions(room)}
    reached = there & run(target, inputs, {file for file, _ in there})
    print(len(reached), len(there))
    for file, line in sorted(there - reached):
        print(f"{file}:{line}")


def in_functions(room: str) -> Iterator[Line]:
    """The lines of a room that belong to a function: what a module does itself is done always.

    After a colon stand those functions and classes of the room that alone count.
    """
    room, _, names = room.partition(":")
    wanted = set(names.split())
    module = importlib.import_module(f"failoverd.{room}")
    assert module.__file__ is not None
    pending = [compile(Path(module.__file__).read_text(), module.__file__, "exec")]
    while pending:
        code = pending.pop()
        pending += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        counts = not names or {code.co_qualname, code.co_qualname.partition(".")[0]} & wanted
        if counts and code.co_flags & CO_OPTIMIZED and code.co_name[0] != "<":
            first = code.co_firstlineno
            yield from ((code.co_filename, n) for _, _, n in code.co_lines() if n and n > first)


def run(target: Target, inputs: list[bytes], files: set[str]) -> set[Line]:
    reached: set[Line] = set()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            reached.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    for data in inputs:
        sys.settrace(trace)
        try:
            target.check(data)
        finally:
            sys.settrace(None)
    return reached


if __name__ == "__main__":
    main()
