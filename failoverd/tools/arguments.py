"""What the command lines of all commands have in common."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from failoverd import __version__, process
from failoverd.log import complain
from failoverd.tools.words import Stop

DEFAULT_CONF = "/etc/failover/failoverd.conf"


class Parser(argparse.ArgumentParser):
    """Its help, too, may meet a full disk or a closed pipe."""

    unwritten = 1  # the exit status then

    def __init__(self, prog: str, **more: Any) -> None:
        super().__init__(prog=prog, **more)
        self.add_argument("-c", dest="config", type=file_path, metavar="CONF", default=DEFAULT_CONF,
                          help=f"the configuration (default: {DEFAULT_CONF})")  # fmt: skip

    def parse(self, argv: list[str] | None) -> argparse.Namespace:
        """What every command has last stands last in its help."""
        self.add_argument("--version", action="version", version=f"{self.prog} {__version__}")
        return self.parse_args(argv)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        process.open_streams()
        if why := process.flush_output():
            complain(self.prog, f"cannot write the output: {why}")
            status = status or self.unwritten
        super().exit(status, message)


def file_path(text: str) -> str:
    """An option's file: a variable of a script that is not set names none."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return text


def guarded(prog: str, run: Callable[[], int], failed: int, doing: str = "write the output") -> int:
    """The exit status of a command that prints, also where that or `doing` fails."""
    process.open_streams()
    try:
        status = run()
        sys.stdout.flush()
        return status
    except Stop as stop:
        complain(prog, str(stop))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # not by SIGPIPE's default, which would end it for a socket's sake, too
        process.discard_output()
        return 128 + signal.SIGPIPE
    except OSError as error:
        process.discard_output()
        complain(prog, f"cannot {doing}: {process.in_words(error)}")
    return failed
