"""The $state file: what a failoverd that is started again on a running machine must know."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from failoverd.wire.protocol import host_in_network

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
    fd = _open_ours(path, os.O_RDONLY)
    if fd is None:
        return Remembered()
    with open(fd, "rb") as file:
        return decode(file.read(_MAX_BYTES), boot_id())


def decode(data: bytes, boot: str) -> Remembered:
    """What the file of this boot says; nothing if any of it is not as `encode` writes it."""
    try:
        found = json.loads(data)
        if found["boot_id"] != boot or found["role"] not in ROLES:
            return Remembered()
        told = {name: take(found[name]) for name, take in _FIELDS.items() if name in found}
        return Remembered(found["role"], **told)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return Remembered()


def _line(value: object) -> str:
    """A word that goes into a list of lines for the switch script, or ValueError."""
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError("not a line")
    return value


def _lines(found: object) -> list[str]:
    if not isinstance(found, list):
        raise ValueError("not a list")
    return _union([], map(_line, found))


def _moment(value: object) -> str:
    return value if isinstance(value, str) and _SINCE.fullmatch(value) else ""


def _seconds(value: object) -> float | None:
    return value if type(value) is float and value >= 0 else None


def _failed_run(role: Any, code: Any, line: Any, why: Any, when: Any, at: Any) -> FailedRun:
    """How a run of the switch script failed, or ValueError."""
    if role not in ("master", "slave") or type(code) is not int:
        raise ValueError("not a run of the switch script")
    if not _moment(when) or _seconds(at) is None:
        raise ValueError("not a time")
    return FailedRun(role, code, _line(line), _line(why), when, at)


def _process(pid: object, since: object) -> tuple[int, int]:
    """The pid and start time of what may be killed one day, or ValueError."""
    if type(pid) is not int or type(since) is not int or pid < 2 or since < 1:
        raise ValueError("not a process")
    return pid, since


# How the value of each field is read. What may do harm raises ValueError, and all is forgotten.
_FIELDS: dict[str, Callable[[Any], Any]] = {
    "since": _moment,
    "began": _seconds,
    "resuming": lambda value: value is True,
    "unclean": lambda value: value is True,
    "hwaddrs": lambda value: {_line(k): _line(v) for k, v in dict(value).items()},
    "script": lambda value: None if value is None else _process(*value),
    "programs": lambda value: [_process(*each) for each in value],
    "failed": lambda value: [_failed_run(*each) for each in value],
    "peer_hwaddrs": _lines,
    "peer_fixed": lambda value: {
        _line(name): list(map(host_in_network, told)) for name, told in dict(value).items()
    },
    "left": lambda value: None if value is None else (_lines(value[0]), _lines(value[1])),
    "seen": lambda value: [(_line(card), _line(address)) for card, address in value],
    "pidfile": str,
}


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
    with contextlib.suppress(FileNotFoundError):  # never write through a link that others planted
        os.unlink(new)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
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
    fd = _open_ours(path, os.O_WRONLY)
    if fd is None:
        return False
    try:
        size = os.fstat(fd).st_size
        if len(data) > size:
            return False
        data = data.ljust(size)
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


def _open_ours(path: str, how: int) -> int | None:
    """The file, if it is there and nobody else can have written it."""
    try:
        fd = os.open(path, how | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    info = os.fstat(fd)
    if stat.S_ISREG(info.st_mode) and info.st_uid == os.geteuid() and not info.st_mode & 0o022:
        return fd
    os.close(fd)
    return None
