"""Root trees for the trial: a bare system of a Debian release, and layers upon it.

All that is made and mounted is under one folder, and in the mount namespace of the trial.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {
    "PATH": PATH,
    "HOME": "/root",
    "LC_ALL": "C",
    "TERM": "dumb",
    "DEBIAN_FRONTEND": "noninteractive",
}
LIMIT = 600.0  # seconds for any one command

# Not chroot: a process that enters its own mount namespace again would be outside.
GO_IN = """
mount -t proc proc "$1/proc"
mount -t sysfs -o ro sysfs "$1/sys"
mount --rbind /dev "$1/dev"
cd "$1"
shift
mkdir -p old
pivot_root . old
umount -l /old
rmdir /old
exec "$@"
"""


class Failed(Exception):
    """A step of the trial did not do what it should; the text says what."""


def call(
    *argv: str, env: Mapping[str, str] | None = None, check: bool = True, text: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, output and errors together. Raises Failed with its last words."""
    done = subprocess.run(
        argv,
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=env or {"PATH": PATH, "LC_ALL": "C"},
        timeout=LIMIT,
        check=False,
    )
    if check and done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-25:])
        raise Failed(f"{' '.join(argv)}: exit status {done.returncode}\n{tail}")
    return done


class Tree:
    """A root tree. What is changed in it is in its own layer; those below stay as they are."""

    def __init__(self, folder: Path, below: Sequence[Path]) -> None:
        self.layers = [folder / "changes", *below]
        self.root = folder / "root"
        for path in (self.layers[0], folder / "work", self.root):
            path.mkdir(parents=True, exist_ok=True)
        lower = ":".join(map(str, below))
        options = f"lowerdir={lower},upperdir={self.layers[0]},workdir={folder / 'work'}"
        call("mount", "-t", "overlay", "overlay", "-o", options, str(self.root))

    def run(self, *argv: str, net: bool = True, check: bool = True) -> str:
        """Run a command in the tree; its output. Without net: in an empty network."""
        flags = ["-m", "-p", "--fork", "--kill-child", *([] if net else ["-n"])]
        command = ["unshare", *flags, "sh", "-e", "-c", GO_IN, "sh", str(self.root), *argv]
        return call(*command, env=ENVIRONMENT, check=check).stdout

    def install(self, *packages: str) -> None:
        """Install Debian packages, with no service started."""
        self.run("apt-get", "-q", "-y", "install", "--no-install-recommends", *packages)

    def put(self, source: Path, folder: str) -> str:
        """Copy a file or folder into a folder of the tree; its path there."""
        target = self.root / folder.lstrip("/") / source.name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
        return f"/{target.relative_to(self.root)}"

    def files(self) -> set[str]:
        """All paths, but for what is made while a system runs."""
        found = call(
            *("find", str(self.root), "-xdev", "-mindepth", "1"),
            *("(", "-path", "*/proc", "-o", "-path", "*/sys", "-o", "-path", "*/dev", "-o"),
            *("-path", "*/run", "-o", "-path", "*/tmp", "-o", "-path", "*/var/cache", ")"),
            *("-prune", "-o", "-printf", "/%P\\n"),
        )
        return set(found.stdout.splitlines())


def own_release() -> str:
    """The code name of this host's release."""
    text = Path("/etc/os-release").read_text()
    found = re.search(r'(?m)^VERSION_CODENAME="?([a-z]+)', text)
    if not found:
        raise Failed("/etc/os-release names no VERSION_CODENAME: say --release")
    return found[1]


def bare_system(folder: Path, release: str) -> Path:
    """A bare system, by debootstrap, which finds its packages where this host does.

    One that is in the folder already is taken as it is.
    """
    root = folder / f"bare-{release}"
    if root.exists():
        return root
    known = ("--format", "$(REPO_URI)", "Created-By: Packages", "Component: main")
    places = call("apt-get", "indextargets", *known, f"Codename: {own_release()}")
    place = places.stdout.split()[:1]  # none: debootstrap's default
    new = folder / "new"
    words = ("--variant=minbase", "--include=ca-certificates", release)
    call("debootstrap", *words, str(new), *place)
    see_as_we_do(new, sources=release == own_release())
    new.rename(root)
    return root


def see_as_we_do(root: Path, sources: bool) -> None:
    """Give a tree what it takes to reach this host's package sources, and, for the same
    release, these themselves."""
    if sources:
        (root / "etc/apt/sources.list").unlink(missing_ok=True)
    also = ("sources.list", "sources.list.d") if sources else ()
    for place in (*also, "apt.conf.d", "keyrings", "trusted.gpg.d"):
        source, target = Path("/etc/apt", place), root / "etc/apt" / place
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        elif source.is_file():
            shutil.copy(source, target)
    shutil.copytree("/usr/share/keyrings", root / "usr/share/keyrings", dirs_exist_ok=True)
    for file in ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt"):
        if os.path.exists(file):
            shutil.copy(file, root / file.lstrip("/"))
    forbid_services(root)


def forbid_services(root: Path) -> None:
    """What is installed while nothing runs starts nothing (invoke-rc.d's policy layer)."""
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
