"""What must be the same on both nodes, and how they differ in it (contract, section 3).

A standby whose interfaces have other names is never able to take over, and two nodes that count
differently decide differently. Each tells its settings in its status. A text that is too long for
that is told as a digest: then it can be said that they differ, but not how.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import lru_cache

from failoverd.conf import SETTINGS, Conf, Setting
from failoverd.wire.frames import NO_HWADDR
from failoverd.wire.protocol import MAX_SETTING, Status

INTERFACES = "@interfaces"  # which a status tells apart from the settings
VERSION = "version"
_BETWEEN = ", "
_DIGEST = "sha256 "

Told = Mapping[str, str]  # what a node tells: the value, as a text, by the name of the setting


@lru_cache(maxsize=2)  # every status tells them, and they change by HUP only
def settings(conf: Conf) -> tuple[tuple[str, str], ...]:
    """What a status tells of these settings, beside what it tells anyway."""
    alike = (setting for setting in SETTINGS.values() if setting.alike)
    told = ((setting.perl_name, _text(setting, conf)) for setting in alike)
    return tuple((name, text) for name, text in told if name != INTERFACES)


def of_conf(conf: Conf, version: str) -> Told:
    """What a node with this configuration tells."""
    return {INTERFACES: _joined(conf.interfaces), **dict(settings(conf)), VERSION: version}


def of_status(status: Status) -> Told:
    """What a node has told. An older one tells less."""
    names = (name for name, _ in status.interfaces)
    return {INTERFACES: _joined(names), **dict(status.settings), VERSION: status.version}


def differences(own: Told, peer: Told) -> dict[str, str]:
    """By the name of a setting, a sentence that says how it differs: first the lists, of which the
    service is made. What one does not tell of is left out."""
    found = (name for name, ours in own.items() if name in peer and peer[name] != ours)
    first = sorted(found, key=lambda name: not name.startswith("@"))
    return {name: _sentence(name, own[name], peer[name]) for name in first}


def same_boot(boot: str) -> str:
    return f"both nodes have boot:{boot} in host_type: change one, and restart failoverd there"


def one_hwaddr(conf: Conf, own: Mapping[str, str], peer: Status) -> dict[str, str]:
    """A sentence for each interface that has the same hardware address on both nodes, as clones do.
    own: this node's, by interface. The one of the active role may be on its way to the other."""
    apart = {"", NO_HWADDR} | {entry.hwaddr for entry in conf.ethernet_addresses}
    return {
        name: f"{name} has the hardware address {told.hwaddr} on both nodes, so that neither "
        "receives what the other sends: change it on one of them"
        for name, told in peer.interfaces
        if told.hwaddr not in apart and told.hwaddr == own.get(name)
    }


def clashes(conf: Conf, boot: str, own: Mapping[str, str], peer: Status) -> list[str]:
    """What must not be the same on both nodes, and is. own: as in one_hwaddr."""
    found = [*one_hwaddr(conf, own, peer).values()]
    if peer.boot == boot:
        found.append(same_boot(boot))
    if peer.role != "active":  # its interfaces have their own hardware addresses
        theirs = {name: told.hwaddr for name, told in peer.interfaces}
        found += [
            f"@ethernet_addresses: {entry.hwaddr} is the peer's own on {entry.interface}: name one "
            "that neither node has"
            for entry in conf.ethernet_addresses
            if theirs.get(entry.interface) == entry.hwaddr
        ]
    return found


def _text(setting: Setting, conf: Conf) -> str:
    value = getattr(conf, setting.name)
    if setting.name == "confirm":  # each may have the program in a place of its own
        return "a program" if conf.confirm_prog else str(value)
    return _joined(value) if setting.sigil == "@" else setting.kind.show(value)


def _joined(values: Iterable[object]) -> str:
    """A list as one text, in whatever order it was written."""
    text = _BETWEEN.join(sorted(str(value) for value in values))
    if len(text) <= MAX_SETTING:
        return text
    return _DIGEST + hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def _sentence(name: str, ours: str, theirs: str) -> str:
    if not name.startswith("@"):
        return f"{name} is {ours} here, {theirs} on the peer"
    if ours.startswith(_DIGEST) or theirs.startswith(_DIGEST):
        return f"{name} differs from the peer's"
    here, there = (set(text.split(_BETWEEN)) - {""} for text in (ours, theirs))
    parts = (("only here", here - there), ("only on the peer", there - here))
    told = (f"{_BETWEEN.join(sorted(what))} {where}" for where, what in parts if what)
    return f"{name}: {' and '.join(told)}"
