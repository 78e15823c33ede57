"""ha-status on a node of a pair with real listeners, and its configuration."""

from __future__ import annotations

from pathlib import Path

from wire import IPV4, Daemon, Pair

from failoverd.wire.protocol import Status, encode_status


def write_conf(pair: Pair, folder: Path, addresses: tuple[str, str] = IPV4) -> str:
    """The first node's failoverd.conf."""
    path = folder / "failoverd.conf"
    path.write_text(
        f'$primary = "{addresses[0]}";\n$secondary = "{addresses[1]}";\n'
        f'$secret = "{pair.secret}";\n$switch_timeout = "0.2";\n'
        f'$pidfile = "{folder}/failoverd.pid";\n'
    )
    return str(path)


def is_now(daemon: Daemon, status: Status) -> None:
    daemon.answers["status"] = (True, encode_status(status))


def ha_status_there(pair: Pair, conf: str, *options: str) -> tuple[int, str, str]:
    return pair.python(0, "failoverd.commands.ha_status", "-c", conf, *options)
