"""What a dead failoverd of this very $pidfile left running is found by $ps, and ended."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shlex
import signal
import subprocess
from collections.abc import Callable
from typing import cast

from failoverd.process.channel import Channel, Message
from failoverd.process.fork import CLEAN_ENVIRONMENT, find_out, in_words

END_SECONDS = 5.0  # how long a child of a dead failoverd has to end before it is killed
PS_SECONDS = 10.0  # how long $ps may take
_GRACE = 5.0  # and the child that runs it

Found = list[tuple[int, str]]  # pid and title


def end_left_over(ps: str, pidfile: str, say: Callable[..., object]) -> None:
    found, why = listed(ps, pidfile)
    if why:
        say("PS-FAILED", "config", "$ps cannot be run", command=ps, error=why)
    for pid, title in found:
        if not _sees_our_files(pid):
            continue
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            pidfd = os.pidfd_open(pid)
            name, text = worker_of(title), "left by a dead failoverd, ending"
            say("LEFTOVER-ENDED", f"worker {name}", text, pid=pid)
            try:
                for number in (signal.SIGTERM, signal.SIGCONT):  # it may be stopped
                    signal.pidfd_send_signal(pidfd, number)
                if not select.select([pidfd], [], [], END_SECONDS)[0]:
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            finally:
                os.close(pidfd)


def worker_of(title: str) -> str:
    """The name in a title `failoverd: NAME [PIDFILE]`."""
    return title.removeprefix("failoverd: ").rpartition(" [")[0]


def listed(ps: str, pidfile: str) -> tuple[Found, str]:
    """Pid and title of what $ps shows as children for this $pidfile; and why $ps cannot be run, ""
    if it can. A child runs it, for ps may hang in the kernel."""

    def look(_: Channel) -> Message:
        argv = shlex.split(ps)
        try:
            done = subprocess.run(
                argv, stdout=subprocess.PIPE, env=CLEAN_ENVIRONMENT, timeout=PS_SECONDS, check=True
            )
            return {"found": titled(done.stdout, pidfile)}
        except subprocess.SubprocessError as error:
            raise ValueError(str(error)) from None

    try:
        return cast(Found, find_out("failoverd: ps", look, PS_SECONDS + _GRACE)["found"]), ""
    except (OSError, ValueError) as error:
        return [], in_words(error)


def titled(listing: bytes, pidfile: str) -> Found:
    """Pid and title of failoverd's children in what ps printed; no title can add a line."""
    row = re.compile(
        rf"\s*([1-9]\d{{0,8}})\s+(?:\S+\s+){{3}}(failoverd: \S.* \[{re.escape(pidfile)}\])\s*",
        re.ASCII,
    )  # PID TTY STAT TIME COMMAND
    found = map(row.fullmatch, listing.decode(errors="replace").split("\n"))
    return [(int(each[1]), each[2]) for each in found if each and int(each[1]) > 1]


def _sees_our_files(pid: int) -> bool:
    """Whether $pidfile is the same file for it; in a container it is not."""
    try:
        return os.path.samestat(os.stat(f"/proc/{pid}/ns/mnt"), os.stat("/proc/self/ns/mnt"))
    except OSError:
        return False
