"""One target under the coverage-guided fuzzer: worker TARGET, then libFuzzer's own options."""

from __future__ import annotations

import importlib
import sys

import atheris


def main() -> None:
    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=["failoverd"]):
        target = importlib.import_module("dev.fuzzer.targets").TARGETS[name]
        for module in target.late:
            importlib.import_module(module)
    atheris.Setup(sys.argv, target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
