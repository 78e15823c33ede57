"""Builds the Debian package in a bare tree of a release: for dev/package --release.

    python3 debian/trial/builder.py FOLDER RELEASE SOURCE

What the build makes lies beside SOURCE, as dpkg-buildpackage leaves it. The bare tree is in FOLDER
afterwards, and so is a layer upon it with what the build needs.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from trees import Failed, Tree, bare_system


def main() -> int:
    folder, release, source = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]).resolve()
    try:
        tree = Tree(folder / "builder", [bare_system(folder, release)])
        tree.run("apt-get", "-q", "update")
        tree.install("build-essential", *needed(source / "debian/control"))
        build(tree, source)
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def needed(control: Path) -> list[str]:
    """What Build-Depends names; debhelper-compat is debhelper's."""
    found = re.search(r"(?m)^Build-Depends:\n((?: .*\n)+)", control.read_text())
    assert found
    names = re.findall(r"(?m)^ ([a-z0-9-]+)", found[1])
    return ["debhelper" if name == "debhelper-compat" else name for name in names]


def build(tree: Tree, source: Path) -> None:
    """Without a network, as everybody may build it."""
    place = tree.root / "root/build"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    tree.put(source, "/root/build")
    command = "cd /root/build/* && dpkg-buildpackage -us -uc"
    tree.run("sh", "-c", command, net=False)
    for path in place.iterdir():
        if path.is_file():
            shutil.copy(path, source.parent)


if __name__ == "__main__":
    sys.exit(main())
