"""How every command of the lab ends: whatever happens nothing is left behind, and a status says it.

0: all held, 1: something did not, or the lab failed, 2: usage, or no namespaces, 130: stopped.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

from dev.lab.spaces import LabError, NoNamespaces

FAILED, USAGE, STOPPED = 1, 2, 130


def guarded(name: str, run: Callable[[], int]) -> int:
    """The exit status of a command of this name. SIGTERM and SIGHUP end it as Ctrl-C does."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        return run()
    except NoNamespaces as error:
        print(f"{name}: {error}", file=sys.stderr)
        return USAGE
    except (LabError, TimeoutError, subprocess.TimeoutExpired) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(f"\n{name}: stopped; nothing is left behind", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:  # as of `bin/demo | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
