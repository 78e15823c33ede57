"""The hooks in $switch_dir: which of its files are run, in which order, and which root may trust.

The choice is that of run-parts(8), so that what is skipped there, an editor's backup or what dpkg
has put aside, is skipped here.
"""

from __future__ import annotations

import os
import re
import stat

from failoverd.conf import Conf, Problem, files
from failoverd.conf.language import shortened

_NAME = re.compile(r"[A-Za-z0-9_-]+")


def chosen(folder: str) -> tuple[list[str], list[str]]:
    """The paths of the hooks, in their order, and what is to be said of the files that are none.

    No directory, no hooks. Raises OSError.
    """
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return [], []
    found, skipped = [], []
    for name in names:
        path = os.path.join(folder, name)
        if why := _why_skipped(name, path):
            skipped.append(f"{shortened(name)} in {folder} is no hook: {why}")
        else:
            found.append(path)
    return found, skipped


def _why_skipped(name: str, path: str) -> str:
    """What keeps run-parts(8) from running it, "" if nothing does."""
    if not _NAME.fullmatch(name):
        return "its name may have letters, digits, - and _ only"
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return f"it cannot be looked at ({error.strerror})"
    if not stat.S_ISREG(mode):
        return "it is not a regular file"
    return "" if mode & 0o111 else "it is not executable"


def check(conf: Conf) -> list[Problem]:
    """Why root must not run what is in $switch_dir, each with the way out."""
    if "switch_dir" in conf.origin.unusable:
        return []
    folder = conf.switch_dir
    try:
        found = files.way_faults(files.way_to(folder), {folder, os.path.realpath(folder)})
        for path in chosen(folder)[0]:
            found += files.program_faults(path)
    except FileNotFoundError:
        return []
    except OSError as error:
        found = [f"{folder} cannot be read: {error.strerror}"]
    return [conf.problem("switch_dir", fault) for fault in dict.fromkeys(found)]


def notes(conf: Conf) -> list[str]:
    """For -t: what a switch runs, and what it does not. Raises OSError."""
    found, skipped = chosen(conf.switch_dir)
    names = ", ".join(map(os.path.basename, found))
    first = [f"hooks of each switch, in this order: {names}; in {conf.switch_dir}"] if found else []
    return first + skipped
