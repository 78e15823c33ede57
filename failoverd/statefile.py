"""The $state file: what a failoverd that is started again on a running machine must know."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import asdict, dataclass, field

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_MAX_BYTES = 64 * 1024
ROLES = ("active", "standby", "switching", "failed")


@dataclass
class Remembered:
    """What `$state` holds. script: pid and start time of a switch script that may still run."""

    role: str | None = None
    since: str = ""
    resuming: bool = False
    hwaddrs: dict[str, str] = field(default_factory=dict)
    script: tuple[int, int] | None = None
    peer_hwaddrs: list[str] = field(default_factory=list)


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
    with os.fdopen(fd, "rb") as file:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) or info.st_uid != os.geteuid():
            return Remembered()  # planted by somebody else
        data = file.read(_MAX_BYTES)
    return _decode(data)


def _decode(data: bytes) -> Remembered:
    try:
        found = json.loads(data)
        if found["boot_id"] != boot_id() or found["role"] not in ROLES:
            return Remembered()
        script = found.get("script")
        return Remembered(
            role=found["role"],
            since=str(found.get("since", "")),
            resuming=found.get("resuming") is True,
            hwaddrs={str(k): str(v) for k, v in dict(found.get("hwaddrs", {})).items()},
            script=(int(script[0]), int(script[1])) if script else None,
            peer_hwaddrs=[str(item) for item in found.get("peer_hwaddrs", [])],
        )
    except (ValueError, KeyError, TypeError, IndexError):
        return Remembered()


def write(path: str, remembered: Remembered) -> None:
    """Replace the file in one step, readable by root only. Raises OSError."""
    data = json.dumps({"boot_id": boot_id(), **asdict(remembered)}) + "\n"
    new = f"{path}.new"
    try:
        os.unlink(new)  # never write through a link that somebody planted
    except FileNotFoundError:
        pass
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, data.encode())
    finally:
        os.close(fd)
    os.replace(new, path)
