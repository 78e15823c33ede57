"""The users of this node are known without a directory, which may not answer."""

from __future__ import annotations

import os
import pwd
import socket
from pathlib import Path

import pytest

from failoverd import users
from failoverd.listener import server
from failoverd.users import User

PASSWD = """root:x:0:0:root:/root:/bin/sh
+::::::
+@admins::::::
broken
failoverd:x:105:110::/nonexistent:/usr/sbin/nologin
ann:x:1000:1001:Ann \xe9:/home/ann:/bin/sh
"""


@pytest.fixture(autouse=True)
def passwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "passwd"
    path.write_text(PASSWD, encoding="latin-1")
    monkeypatch.setattr(users, "PASSWD", str(path))


@pytest.fixture
def no_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: object) -> None:
        raise AssertionError("this may take minutes")

    for name in ("getpwnam", "getpwuid", "getpwall"):
        monkeypatch.setattr(pwd, name, hang)


@pytest.mark.usefixtures("no_directory")
def test_who_is_in_the_file_is_asked_nowhere_else() -> None:
    assert users.find("failoverd") == User("failoverd", 105, 110)
    assert users.is_local("failoverd") and not users.is_local("ldap-user")
    assert (users.name_of(1000), users.name_of(70_000)) == ("ann", "70000")


@pytest.mark.usefixtures("no_directory")
def test_whoever_uses_the_control_socket_is_named_without_a_directory() -> None:
    """The listener answers no query while it waits for one."""
    for here in socket.socketpair(socket.AF_UNIX):
        with here:
            assert server.user_of(here) in ("root", "ann", str(os.getuid()))


def test_a_user_of_a_directory_is_found_there(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = pwd.struct_passwd(("ldap-user", "x", 70_000, 70_001, "", "/", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwnam", {"ldap-user": entry}.__getitem__)
    assert users.find("ldap-user") == User("ldap-user", 70_000, 70_001)
    assert users.find("no-user") is None
