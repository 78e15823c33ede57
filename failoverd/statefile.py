"""The $state file: what a failoverd that is started again on a running machine must know."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from failoverd.conf import Conf

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_MAX_BYTES = 64 * 1024
ROLES = ("active", "standby", "switching", "failed")
_SINCE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)


@dataclass
class Remembered:
    """What `$state` holds. pidfile: of the failoverd that wrote it.

    script: pid and start time of a switch script that may still run.
    programs: those of what fences or confirms, and may still run.
    left: the entries of @addresses and of @ethernet_addresses that were put on the cards since the
    last `slave` run that succeeded; the configuration may have changed meanwhile. None if there was
    no `master` run since: then every card has its own hardware address.
    seen: card and address of each of @addresses that was seen on its card.
    """

    role: str | None = None
    since: str = ""
    resuming: bool = False
    unclean: bool = False
    hwaddrs: dict[str, str] = field(default_factory=dict)
    script: tuple[int, int] | None = None
    programs: list[tuple[int, int]] = field(default_factory=list)
    peer_hwaddrs: list[str] = field(default_factory=list)
    left: tuple[list[str], list[str]] | None = None
    seen: list[tuple[str, str]] = field(default_factory=list)
    pidfile: str = ""

    def placed(self, conf: Conf) -> None:
        """Note what the switch script is about to put on the cards."""
        addresses, cards = self.left or ([], [])
        self.left = _union(addresses, conf.addresses), _union(cards, conf.ethernet_addresses)


def _union(old: Iterable[str], new: Iterable[object]) -> list[str]:
    return list(dict.fromkeys([*old, *map(str, new)]))


@cache
def boot_id() -> str:
    """The kernel's identity of this boot (random(4))."""
    with open(_BOOT_ID, encoding="ascii") as file:
        return file.read().strip()


def read(path: str) -> Remembered:
    """What was remembered in this boot; nothing if it is missing, unsound or another boot's."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return Remembered()
    try:
        info = os.fstat(fd)
        foreign = info.st_uid != os.geteuid() or info.st_mode & 0o022
        if not stat.S_ISREG(info.st_mode) or foreign:
            return Remembered()  # planted by somebody else
        return decode(os.read(fd, _MAX_BYTES), boot_id())
    finally:
        os.close(fd)


def decode(data: bytes, boot: str) -> Remembered:
    """What the file of this boot says; nothing if any of it is not as `encode` writes it."""
    try:
        found = json.loads(data)
        if found["boot_id"] != boot or found["role"] not in ROLES:
            return Remembered()
        since, script, left = str(found.get("since", "")), found.get("script"), found.get("left")
        return Remembered(
            role=found["role"],
            since=since if _SINCE.fullmatch(since) else "",
            resuming=found.get("resuming") is True,
            unclean=found.get("unclean") is True,
            hwaddrs={_line(k): _line(v) for k, v in dict(found.get("hwaddrs", {})).items()},
            script=None if script is None else _process(*script),
            programs=[_process(*each) for each in found.get("programs", [])],
            peer_hwaddrs=_lines(found.get("peer_hwaddrs", [])),
            left=None if left is None else (_lines(left[0]), _lines(left[1])),
            seen=[(_line(card), _line(address)) for card, address in found.get("seen", [])],
            pidfile=str(found.get("pidfile", "")),
        )
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return Remembered()


def _lines(found: object) -> list[str]:
    if not isinstance(found, list):
        raise ValueError("not a list")
    return _union([], map(_line, found))


def _line(value: object) -> str:
    """A word that goes into a list of lines for the switch script, or ValueError."""
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError("not a line")
    return value


def _process(pid: object, since: object) -> tuple[int, int]:
    """The pid and start time of what may be killed one day, or ValueError."""
    if type(pid) is not int or type(since) is not int or pid < 2 or since < 1:
        raise ValueError("not a process")
    return pid, since


def encode(remembered: Remembered, boot: str) -> str:
    """The content of the file."""
    return json.dumps({"boot_id": boot, **vars(remembered)}) + "\n"


def write(path: str, remembered: Remembered) -> None:
    """Replace the file in one step, readable by root only. Raises OSError."""
    data = encode(remembered, boot_id())
    if len(data) > _MAX_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))  # nobody could read it again
    new = f"{path}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        fd = os.open(new, flags, 0o600)
    except FileExistsError:  # never write through a link that somebody planted
        os.unlink(new)
        fd = os.open(new, flags, 0o600)
    try:
        if os.write(fd, data.encode()) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(fd)
    os.replace(new, path)
