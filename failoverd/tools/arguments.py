"""What the command lines of all commands have in common."""

from __future__ import annotations

import argparse
from typing import NoReturn

from failoverd import process
from failoverd.log import complain


class Parser(argparse.ArgumentParser):
    """Its help, too, may meet a full disk or a closed pipe."""

    unwritten = 1  # the exit status then

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
