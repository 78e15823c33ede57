"""ha-fail: switch by hand, on either machine."""

from __future__ import annotations

import argparse
import signal
import sys

from failoverd import __version__, process
from failoverd.conf import Conf
from failoverd.tools.client import ExchangeError, exchange, prepare
from failoverd.wire.protocol import parse_status

STATUS_SECONDS = 5.0  # it is answered at once, also during a switch
EXTRA_SECONDS = 5.0  # beyond $switch_timeout, as section 6 says


def main(argv: list[str] | None = None) -> int:
    """The entry point. Exit status 0: it has happened, 1: it has not, 2: usage."""
    options = _parse(argv)
    process.open_streams()
    try:
        conf, secret = prepare(options.config)
        command = _command(conf, secret)
        if options.verbose:
            print(f"ha-fail: telling failoverd here to {command}", file=sys.stderr)
        seconds = conf.switch_timeout + EXTRA_SECONDS
        reply = exchange(conf, secret, conf.primary, command, seconds)
    except ExchangeError as error:
        doubt = "; whether it has happened, ha-status tells" if error.sent else ""
        return _complain(f"{error}{doubt}")
    except KeyboardInterrupt:
        _complain("interrupted; whether it has happened, ha-status tells")
        return 128 + signal.SIGINT
    if not reply.ok:
        where = f"ha-status shows both machines, {conf.log} on each what was done"
        return _complain(f"not switched: {reply.text}\n{where}")
    if options.verbose:
        print(f"ha-fail: done, this machine is {reply.text}", file=sys.stderr)
    return 0


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="ha-fail",
        description="Switch by hand: the active machine hands over, the standby takes over.",
        epilog="Exit status: 0 it has happened, 1 it has not and why is said, 2 usage.",
    )
    add = parser.add_argument
    add("-c", dest="config", metavar="CONF", default="/etc/failover/failoverd.conf",
        help="the configuration (default: %(default)s)")  # fmt: skip
    add("-v", dest="verbose", action="store_true", help="say what is done")
    add("--version", action="version", version=f"ha-fail {__version__}")
    return parser.parse_args(argv)


def _command(conf: Conf, secret: bytes) -> str:
    """What switches: `resume` for an active machine, else `fail`. Raises ExchangeError."""
    try:
        reply = exchange(conf, secret, conf.primary, "status", STATUS_SECONDS)
    except ExchangeError as error:
        raise ExchangeError(str(error)) from None  # nothing that could have happened was sent
    status = parse_status(reply.text) if reply.ok else None
    if status is None:
        raise ExchangeError(f"failoverd here gave no status but said: {reply.text[:200]}")
    return "resume" if status.role == "active" else "fail"


def _complain(sentence: str) -> int:
    for line in sentence.splitlines():
        print(f"ha-fail: {line}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
