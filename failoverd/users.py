"""The users of this node, by /etc/passwd.

Others are in a directory (LDAP, say), and to ask it may take minutes when its server is down: what
answers while a service is to be saved must not wait for one.
"""

from __future__ import annotations

import contextlib
import pwd
from collections.abc import Iterator
from typing import NamedTuple

PASSWD = "/etc/passwd"


class User(NamedTuple):
    name: str
    uid: int
    gid: int


def local() -> Iterator[User]:
    with contextlib.suppress(OSError), open(PASSWD, encoding="utf-8", errors="replace") as file:
        for line in file:
            name, _, uid, gid, *_ = [*line.split(":"), "", "", ""]
            if uid.isdecimal() and gid.isdecimal():
                yield User(name, int(uid), int(gid))


def is_local(name: str) -> bool:
    return any(user.name == name for user in local())


def find(name: str) -> User | None:
    """The user, of a directory only if /etc/passwd has none of that name; None if there is none."""
    for user in local():
        if user.name == name:
            return user
    with contextlib.suppress(KeyError):
        entry = pwd.getpwnam(name)
        return User(entry.pw_name, entry.pw_uid, entry.pw_gid)
    return None


def name_of(uid: int) -> str:
    """The number of one who is not in /etc/passwd."""
    return next((user.name for user in local() if user.uid == uid), str(uid))
