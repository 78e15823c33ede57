"""Starts the command named first from this checkout's package; dev/launch runs it."""

import importlib
import os
import sys
from importlib.machinery import PathFinder

NEEDED = ("pcapy", "ping3", "daemon")  # some are loaded late, in a child whose failure is not seen
ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


def unfit() -> str:
    """Why this Python cannot run the package, "" if it can."""
    if sys.version_info < (3, 11):  # noqa: UP036 - the system's may be
        return f"{sys.executable} is older than Python 3.11"
    missing = [module for module in NEEDED if PathFinder.find_spec(module) is None]
    return f"{sys.executable} lacks the modules {', '.join(missing)}" if missing else ""


name = sys.argv.pop(1)
sys.argv[0] = os.path.join(ROOT, "bin", name)  # failoverd looks for watchd beside itself
reason = unfit()
if reason:
    print(f"{name}: {reason}: run {ROOT}/dev/setup", file=sys.stderr)
    sys.exit(3 if name == "ha-status" else 1)  # 3 is its "unknown"
sys.path.insert(0, ROOT)
sys.exit(importlib.import_module(f"failoverd.commands.{name.replace('-', '_')}").main())
