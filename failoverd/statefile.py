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
from typing import TYPE_CHECKING, NamedTuple

from failoverd.protocol import host_in_network

if TYPE_CHECKING:
    from failoverd.conf import Conf

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_MAX_BYTES = 64 * 1024
# The file is a whole number of these, filled up with blanks: what is written over it later needs no
# more room, and one block is written wholly or not at all, whoever is killed meanwhile.
_BLOCK = 4096
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
ROLES = ("active", "standby", "switching", "failed")
_SINCE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)


class FailedRun(NamedTuple):
    """A run of the switch script that failed. why: what there is against it beside its exit status;
    line: the last that it printed; when: UTC; at: seconds since boot (CLOCK_BOOTTIME)."""

    role: str
    exit: int
    line: str
    why: str
    when: str
    at: float


@dataclass
class Remembered:
    """What `$state` holds. pidfile: of the failoverd that wrote it.

    script: pid and start time of a switch script that may still run.
    programs: those of what fences or confirms, and may still run.
    left: the entries of @addresses and of @ethernet_addresses that were put on the cards since the
    last `slave` run that succeeded; the configuration may have changed meanwhile. None if there was
    no `master` run since: then every card has its own hardware address.
    failed: the last runs of the switch script that failed, at most one for a role, the latest last.
    peer_fixed: by interface, the peer's own addresses there, each with the length of its prefix.
    seen: card and address of each of @addresses that was seen on its card.
    began: when the role began, by the clock that counts from this boot (CLOCK_BOOTTIME): `since`
    says that by the time of day, which may have been set meanwhile. None if an older one wrote it.
    """

    role: str | None = None
    since: str = ""
    began: float | None = None
    resuming: bool = False
    unclean: bool = False
    hwaddrs: dict[str, str] = field(default_factory=dict)
    script: tuple[int, int] | None = None
    programs: list[tuple[int, int]] = field(default_factory=list)
    failed: list[FailedRun] = field(default_factory=list)
    peer_hwaddrs: list[str] = field(default_factory=list)
    peer_fixed: dict[str, list[str]] = field(default_factory=dict)
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
        if not _is_ours(os.fstat(fd)):
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
            began=_seconds(found.get("began")),
            resuming=found.get("resuming") is True,
            unclean=found.get("unclean") is True,
            hwaddrs={_line(k): _line(v) for k, v in dict(found.get("hwaddrs", {})).items()},
            script=None if script is None else _process(*script),
            programs=[_process(*each) for each in found.get("programs", [])],
            failed=[_failed_run(*each) for each in found.get("failed", [])],
            peer_hwaddrs=_lines(found.get("peer_hwaddrs", [])),
            peer_fixed={
                _line(name): list(map(host_in_network, told))
                for name, told in dict(found.get("peer_fixed", {})).items()
            },
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


def _seconds(value: object) -> float | None:
    return value if type(value) is float and value >= 0 else None


def _failed_run(
    role: object, exit_status: object, line: object, why: object, when: object, at: object
) -> FailedRun:
    """How a run of the switch script failed, or ValueError."""
    seconds = _seconds(at)
    if role not in ("master", "slave") or type(exit_status) is not int or seconds is None:
        raise ValueError("not a run of the switch script")
    if not _SINCE.fullmatch(_line(when)):
        raise ValueError("not a moment")
    return FailedRun(_line(role), exit_status, _line(line), _line(why), _line(when), seconds)


def _process(pid: object, since: object) -> tuple[int, int]:
    """The pid and start time of what may be killed one day, or ValueError."""
    if type(pid) is not int or type(since) is not int or pid < 2 or since < 1:
        raise ValueError("not a process")
    return pid, since


def encode(remembered: Remembered, boot: str) -> str:
    """The content of the file."""
    return json.dumps({"boot_id": boot, **vars(remembered)}) + "\n"


def write(path: str, remembered: Remembered) -> None:
    """Replace the file in one step, readable by root only; where there is no room for a new one,
    write over the old one. Raises OSError."""
    data = encode(remembered, boot_id()).encode()
    data = data.ljust(-len(data) // _BLOCK * -_BLOCK)
    if len(data) > _MAX_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))  # nobody could read it again
    try:
        _replace(path, data)
    except OSError as error:
        if error.errno not in _NO_ROOM or not _overwrite(path, data):
            raise


def _replace(path: str, data: bytes) -> None:
    new = f"{path}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        fd = os.open(new, flags, 0o600)
    except FileExistsError:  # never write through a link that somebody planted
        os.unlink(new)
        fd = os.open(new, flags, 0o600)
    try:
        _write_at(fd, data, 0)
    except OSError:
        os.unlink(new)  # it takes room itself
        raise
    finally:
        os.close(fd)
    os.replace(new, path)


def _overwrite(path: str, data: bytes) -> bool:
    """Write over the file. False if it is not there, not ours, or has no room for this.

    Who is killed in the middle of more than one block leaves what is not read again.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        info = os.fstat(fd)
        if not _is_ours(info) or len(data) > info.st_size:
            return False
        data = data.ljust(info.st_size)
        if len(data) > _BLOCK:
            _write_at(fd, b"-", 0)
            _write_at(fd, data[_BLOCK:], _BLOCK)
        _write_at(fd, data[:_BLOCK], 0)
        return True
    finally:
        os.close(fd)


def _write_at(fd: int, data: bytes, offset: int) -> None:
    if os.pwrite(fd, data, offset) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _is_ours(info: os.stat_result) -> bool:
    """Whether nobody else can have written it."""
    foreign = info.st_uid != os.geteuid() or info.st_mode & 0o022
    return stat.S_ISREG(info.st_mode) and not foreign
