"""failoverd: check everything, become a daemon, and guard the pair."""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import select
import shlex
import signal
import subprocess
import sys
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

from failoverd import __version__, conf, files, links, process
from failoverd.conf import Conf
from failoverd.log import Log, complain

DEFAULT_CONF = "/etc/failover/failoverd.conf"
END_SECONDS = 5.0  # how long a child of a dead failoverd has to end before it is killed


def main(argv: list[str] | None = None) -> int:
    """The entry point. Exit status 0: running (or sound, with -t), 1: not, 2: usage."""
    options = parse(argv)
    try:
        checked = read_settings(options.config, os.getcwd(), with_secret=options.test)
        if options.test:
            return test(checked.conf, checked.boot)
        lock = take_lock(checked.conf.pidfile)
    except (ValueError, OSError) as error:
        for line in str(error).splitlines():
            print(line, file=sys.stderr)
        return 1
    service = Service(options, checked, lock)
    return service.in_foreground() if options.foreground or options.dry else service.detached()


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="failoverd", description="Guard a pair of machines: take over when traffic stops."
    )
    add = parser.add_argument
    add("-c", dest="config", metavar="CONF", default=DEFAULT_CONF, help="default: %(default)s")
    add("-f", dest="foreground", action="store_true", help="stay in the foreground, log to stderr")
    add("-n", dest="dry", action="store_true", help="dry run in the foreground: only say what")
    add("-t", dest="test", action="store_true", help="check the configuration, say what it means")
    add("-v", dest="verbose", action="store_true", help="log every window")
    add("--version", action="version", version=f"failoverd {__version__}")
    return parser.parse_args(argv)


@dataclass(frozen=True)
class Checked:
    """A configuration in which no error was found. watcher: None if it is our own."""

    conf: Conf
    boot: str
    watcher: str | None


def read_settings(path: str, folder: str, with_secret: bool = False) -> Checked:
    """Configuration and host_type, wholly checked. Raises ConfError with every problem.

    folder: where failoverd was started, for a relative $watchd. The daemon leaves it to its
    listener to read the secret.
    """
    problems: list[conf.Problem] = []
    try:
        settings = files.load(path)
    except conf.ConfError as error:
        problems += error.problems
        if error.conf is None:
            raise
        settings = error.conf
    watcher = files.find_watchd(settings, folder, own_folder())
    problems += files.check_files(settings, watcher)
    if with_secret:
        problems += files.check_secret(settings)
    problems += check_interfaces(settings)
    problems += check_filters(settings)
    if problems:
        raise conf.ConfError(problems)
    return Checked(settings, files.read_host_type(settings.host_type), watcher)


def check_interfaces(settings: Conf) -> list[conf.Problem]:
    """Every interface that is named must exist now: a wrong name would be silent for ever."""
    known = links.names()
    return [
        settings.problem(variable, f"{name}: no such interface; there are {', '.join(known)}")
        for variable, names in (
            ("interfaces", settings.interfaces),
            ("plip_interface", (settings.plip_interface,)),
        )
        for name in names
        if name not in known and variable not in settings.origin.unusable
    ]


def check_filters(settings: Conf) -> list[conf.Problem]:
    from failoverd import counter

    usable = [name for name in FILTERS if name not in settings.origin.unusable]
    found = ((name, counter.check_filter(getattr(settings, name))) for name in usable)
    return [settings.problem(name, f"not a pcap expression: {why}") for name, why in found if why]


FILTERS = ("filter", "plip_filter")


def test(settings: Conf, boot: str) -> int:
    """Print the effective settings and what they mean in seconds."""
    from failoverd import bounds

    for line, _ in conf.effective(settings):
        print(line)
    print()
    for line in bounds.explain(settings, boot):
        print(line)
    for remark in conf.remarks(settings):
        print(f"note: {remark}")
    return 0


def own_folder() -> str:
    """Where failoverd itself is."""
    return str(Path(sys.argv[0]).resolve().parent)


def take_lock(path: str) -> int:
    """The locked pid file. Raises OSError with a sentence if another failoverd has it.

    The lock goes with the process, so a pid file that a dead failoverd left is no obstacle.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        try:
            lock = os.open(path, flags, 0o644)
        except OSError as error:
            raise OSError(
                f"failoverd: cannot open $pidfile {path}: {error.strerror}; "
                f"{'start it as root' if os.geteuid() else 'name another one in the configuration'}"
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
            os.close(lock)
            raise OSError(f"failoverd: already running (pid {pid})") from None
        try:
            if os.stat(path).st_ino == os.fstat(lock).st_ino:
                return lock
        except FileNotFoundError:
            pass
        os.close(lock)  # the one that ended meanwhile took its file with it


class Service:
    """A checked configuration on its way to a running failoverd."""

    def __init__(self, options: argparse.Namespace, checked: Checked, lock: int) -> None:
        self.options = options
        self.conf = replace(checked.conf, verbose=checked.conf.verbose or options.verbose)
        self.boot = checked.boot
        self.watcher = checked.watcher
        self.lock = lock
        self.path = os.path.abspath(options.config)
        self.folder = os.getcwd()

    def in_foreground(self) -> int:
        try:
            log = Log(self.conf.log, sys.stderr)
        except OSError as error:
            complain("failoverd", f"cannot open $log {self.conf.log}: {error.strerror}")
            return 1
        os.umask(0o077)
        os.chdir("/")
        return self.serve(log, lambda error: None)

    def detached(self) -> int:
        """Become a daemon; this process waits for its word, so that errors reach the terminal."""
        reading, writing = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            os.close(writing)
            os.close(self.lock)
            with os.fdopen(reading, encoding="utf-8", errors="replace") as pipe:
                word = pipe.read()
            os.waitpid(pid, 0)
            if word == "ready":
                return 0
            complain("failoverd", word or "ended while starting; see the log")
            return 1
        os.close(reading)
        os._exit(self.as_daemon(writing))

    def as_daemon(self, writing: int) -> int:
        import daemon

        def tell(error: str | None) -> None:
            os.write(writing, (error or "ready").encode())
            os.close(writing)

        try:
            log = Log(self.conf.log)
        except OSError as error:
            tell(f"cannot open $log {self.conf.log}: {error.strerror}")
            return 1
        context = daemon.DaemonContext(
            detach_process=True,
            working_directory="/",
            umask=0o077,
            files_preserve=[self.lock, writing, log.fileno()],
            signal_map={},
        )
        with context:
            return self.serve(log, tell)

    def serve(self, log: Log, tell: object) -> int:
        """From here on this is the process that is going to stay."""
        from failoverd.master import Master

        assert callable(tell)
        os.ftruncate(self.lock, 0)
        os.pwrite(self.lock, f"{os.getpid()}\n".encode(), 0)
        end_left_over(self.conf, log)
        if self.conf.realtime:
            try:
                process.be_realtime()
            except OSError as error:
                log.write("failoverd", f"warning: $realtime: {error.strerror}; goes on without")
        try:
            master = Master(self.conf, self.boot, log, watcher=self.watcher, dry=self.options.dry)
        except OSError as error:
            return self.refused(log, tell, f"{error.strerror or error}")
        master.reload = self.reload
        told: list[str | None] = []

        def ready(error: str | None) -> None:
            told.append(error)
            tell(error)

        try:
            status = master.run(ready)
        except Exception as error:
            for line in traceback.format_exception(error):
                log.write("failoverd", f"ended by a bug: {line.strip()}")
            raise
        if told and told[0]:
            return self.refused(log, None, told[0])
        log.write("failoverd", "stopped; role, addresses and service stay as they are")
        os.unlink(self.conf.pidfile)
        return status

    def refused(self, log: Log, tell: object, why: str) -> int:
        log.write("failoverd", f"not started: {why}")
        if callable(tell):
            tell(why)
        os.unlink(self.conf.pidfile)
        return 1

    def reload(self) -> Conf:
        """The configuration, read again. Raises ConfError; what cannot change is one."""
        settings = read_settings(self.path, self.folder).conf
        settings = replace(settings, verbose=settings.verbose or self.options.verbose)
        problems = [
            settings.problem(name, "cannot change while failoverd runs: restart it")
            for name in ("pidfile", "state", "watchd")
            if getattr(settings, name) != getattr(self.conf, name)
        ]
        if problems:
            raise conf.ConfError(problems)
        return settings


def end_left_over(settings: Conf, log: Log) -> None:
    """End the children that a dead failoverd of this very $pidfile left running."""
    for pid, name in left_over(settings, log):
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        log.write("failoverd", f"ending {name} (pid {pid}), left by a dead failoverd")
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        if not select.select([pidfd], [], [], END_SECONDS)[0]:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)


def left_over(settings: Conf, log: Log) -> list[tuple[int, str]]:
    """Pid and title of processes that ps shows as children for our $pidfile."""
    try:
        listing = subprocess.run(
            shlex.split(settings.ps), capture_output=True, timeout=10, check=True, env=PLAIN
        ).stdout.decode(errors="replace")
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        log.write("failoverd", f"warning: $ps ({settings.ps}) cannot be run: {error}")
        return []
    title = re.compile(rf"failoverd: \S.* \[{re.escape(settings.pidfile)}\]$")
    found = []
    for line in listing.splitlines():
        fields = line.split(None, 4)  # PID TTY STAT TIME COMMAND
        if len(fields) == 5 and fields[0].isdigit() and title.match(fields[4].rstrip()):
            found.append((int(fields[0]), fields[4].rstrip()))
    return found


PLAIN = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


if __name__ == "__main__":
    sys.exit(main())
