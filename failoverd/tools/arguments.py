"""What the command lines of all commands have in common."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from failoverd import __version__, process
from failoverd.log import complain

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
