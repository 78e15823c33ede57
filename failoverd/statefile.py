"""The $state file: what a failoverd that is started again on a running node must know."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, NamedTuple

from failoverd.conf import Conf
from failoverd.wire import typed
from failoverd.wire.protocol import BOOTS, ROLES, host_in_network

LASTING = "/var/lib/failoverd"
VOLATILE = ("/run", "/var/run")
OUTLIVING = ("hold", "history", "counters", "peer")  # what outlives a boot: see `place`
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_MAX_BYTES = 1 << 20  # thousands of addresses
# The file is a whole number of these, filled up with blanks: what is written over it later needs no
# more room, and one block is written wholly or not at all, whoever is killed meanwhile.
_BLOCK = 4096
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_UTC = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z"

# ------------------------------------------------------------------ what a field may hold

_LINE = typed.line(_MAX_BYTES)  # it goes into a list of lines for the switch script


def _list(check: typed.Check) -> typed.Check:
    return typed.several(check, _MAX_BYTES, list)


def _set(value: object) -> list[str]:
    return list(dict.fromkeys(_list(_LINE)(value)))


def _dict(check: typed.Check) -> typed.Check:
    return typed.table(_LINE, check, _MAX_BYTES, dict)


def _row(*checks: typed.Check) -> typed.Check:
    """A list of exactly these, as a tuple."""

    def check_all(value: Any) -> tuple[Any, ...]:
        if type(value) is not list or len(value) != len(checks):
            raise ValueError("not a list of the right length")
        return tuple(check(each) for check, each in zip(checks, value, strict=True))

    return check_all


_PROCESS = _row(typed.whole(2), typed.whole(1))  # pid and start time of what may be killed one day
_fixed = _dict(_list(host_in_network))
_RUN = _row(typed.one_of(*BOOTS), typed.whole(-typed.MOST), _LINE, _LINE,
            typed.like(_UTC), typed.number())  # fmt: skip


class FailedRun(NamedTuple):
    """A run of the switch script that failed. why: what there is against it beside its exit status;
    line: the last that it printed; when: UTC; at: seconds since boot (CLOCK_BOOTTIME)."""

    role: str
    exit: int
    line: str
    why: str
    when: str
    at: float


def _failed(value: object) -> FailedRun:
    return FailedRun(*_RUN(value))


@dataclass
class Saved:
    """What `$state` holds. pidfile: of the failoverd that wrote it.

    script: pid and start time of a switch script that may still run.
    programs: those of what fences or confirms, and may still run.
    from_peer, guarded: that the role came from the peer, and the interfaces and checks because of
    which it came, if that is known. checks: those that are bad here, or were when the role went.
    left: the entries of @addresses and of @ethernet_addresses that were put on the interfaces since
    the last `slave` run that succeeded; the configuration may have changed meanwhile. None if there
    was no `master` run since: then every interface has its own hardware address.
    failed: the last runs of the switch script that failed, at most one for a role, the latest last.
    peer_fixed: by interface, the peer's own addresses there, each with the length of its prefix.
    seen: interface and address of each of @addresses that was seen on its interface.
    began: when the role began, by the clock that counts from this boot (CLOCK_BOOTTIME): `since`
    says that by the time of day, which may have been set meanwhile. None if an older one wrote it.
    """

    role: Annotated[str, typed.one_of(*ROLES)] | None = None
    since: Annotated[str, typed.like(f"({_UTC})?")] = ""
    began: typed.Number | None = None
    resuming: bool = False
    unclean: bool = False
    from_peer: bool = False
    guarded: Annotated[list[str], _set] | None = None
    checks: Annotated[list[str], _set] = field(default_factory=list)
    hwaddrs: Annotated[dict[str, str], _dict(_LINE)] = field(default_factory=dict)
    script: Annotated[tuple[int, int], _PROCESS] | None = None
    programs: Annotated[list[tuple[int, int]], _list(_PROCESS)] = field(default_factory=list)
    failed: Annotated[list[FailedRun], _list(_failed)] = field(default_factory=list)
    peer_hwaddrs: Annotated[list[str], _set] = field(default_factory=list)
    peer_fixed: Annotated[dict[str, list[str]], _fixed] = field(default_factory=dict)
    left: Annotated[tuple[list[str], list[str]], _row(_set, _set)] | None = None
    seen: Annotated[list[tuple[str, str]], _list(_row(_LINE, _LINE))] = field(default_factory=list)
    pidfile: Annotated[str, typed.string] = ""

    def placed(self, conf: Conf) -> None:
        """Note what the switch script is about to put on the interfaces."""
        addresses, hwaddrs = self.left or ([], [])
        self.left = _union(addresses, conf.addresses), _union(hwaddrs, conf.ethernet_addresses)


def _union(old: Iterable[str], new: Iterable[object]) -> list[str]:
    return list(dict.fromkeys([*old, *map(str, new)]))


@cache
def boot_id() -> str:
    """The kernel's identity of this boot (random(4))."""
    with open(_BOOT_ID, encoding="ascii") as file:
        return file.read().strip()


def uptime() -> float:
    """Seconds since boot, those of a suspended node too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


# ------------------------------------------------------------------ the file


def read(path: str) -> Saved:
    """What was saved in this boot; nothing if it is missing, unsound or another boot's."""
    try:
        return decode(content(path, _MAX_BYTES), boot_id())
    except OSError:
        return Saved()


def decode(data: bytes, boot: str) -> Saved:
    """What the file of this boot says; nothing if any of it is not as `encode` writes it."""
    try:
        told = typed.mapping(json.loads(data))
        found = typed.decode(Saved, told)
    except (ValueError, RecursionError):
        return Saved()
    return found if found.role and told.get("boot_id") == boot else Saved()


def encode(saved: Saved, boot: str) -> str:
    """The content of the file."""
    return json.dumps({"boot_id": boot, **vars(saved)}) + "\n"


def read_peer(path: str) -> dict[str, list[str]]:
    """The peer's own addresses, as they were told in whatever boot; none if that is not known."""
    try:
        return dict(_fixed(json.loads(content(path, _MAX_BYTES))))
    except (OSError, ValueError, RecursionError):
        return {}


def write_peer(path: str, told: dict[str, list[str]]) -> None:
    """Raises OSError."""
    keep(path, json.dumps(told).encode())


def write(path: str, saved: Saved) -> None:
    """Replace the file in one step, readable by root only; where there is no room for a new one,
    write over the old one. Raises OSError."""
    data = encode(saved, boot_id()).encode()
    data = data.ljust(-len(data) // _BLOCK * -_BLOCK)
    if len(data) > _MAX_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))  # nobody could read it again
    try:
        replace(path, data)
    except OSError as error:
        if error.errno not in _NO_ROOM or not _overwrite(path, data):
            raise


def replace(
    path: str, data: bytes, *, lasting: bool = False, mode: int = 0o600, suffix: str = "new"
) -> None:
    """Put a new file of root's in the place of this one, in one step; lasting: when this returns,
    no loss of power takes it back; suffix: of the new one until then, which who writes beside
    another process has for itself. Raises OSError."""
    new = f"{path}.{suffix}"
    with contextlib.suppress(FileNotFoundError):  # never write through a link that others planted
        os.unlink(new)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        try:
            os.fchmod(fd, mode)  # whatever the umask
            _write_at(fd, data, 0)
            if lasting:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(new, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(new)  # it takes room itself
        raise
    if lasting:
        _sync_folder(os.path.dirname(path))


def place(state: str, what: str) -> str:
    """The file of what outlives a boot: beside $state; for one in /run, which is empty after a
    boot, or in a directory there, in /var/lib/failoverd."""
    folder, name = os.path.split(state)
    above, own = os.path.split(folder)
    if folder in VOLATILE:
        folder = LASTING
    elif above in VOLATILE:
        folder, name = LASTING, f"{own}-{name}"
    return os.path.join(folder, f"{name}.{what}")


def keep(path: str, data: bytes, *, lasting: bool = False) -> None:
    """`replace` for a file that has its `place`: the directory is made if it is failoverd's own."""
    if os.path.dirname(path) == LASTING and not os.path.isdir(LASTING):
        os.makedirs(LASTING, 0o755, exist_ok=True)
        if lasting:
            _sync_folder(os.path.dirname(LASTING))
    replace(path, data, lasting=lasting)


def _sync_folder(path: str) -> None:
    """Have the disk know the names in a directory. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _overwrite(path: str, data: bytes) -> bool:
    """Write over the file. False if it is not there, not root's alone, or has no room for this.

    Who is killed in the middle of more than one block leaves what is not read again.
    """
    try:
        fd = _open_own(path, os.O_WRONLY)
    except OSError:
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


def content(path: str, most: int) -> bytes:
    """What is in a file of failoverd's own. Raises OSError as `_open_own`."""
    with open(_open_own(path, os.O_RDONLY), "rb") as file:
        return file.read(most)


def _open_own(path: str, how: int) -> int:
    """Raises OSError if it is not there, or if another user can have written it."""
    foreign = OSError(0, "others can write it, or it is no file")
    try:
        fd = os.open(path, how | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise foreign if error.errno == errno.ELOOP else error from None
    info = os.fstat(fd)
    is_own = info.st_uid in (0, os.geteuid()) and not info.st_mode & 0o022
    if stat.S_ISREG(info.st_mode) and is_own:
        return fd
    os.close(fd)
    raise foreign
