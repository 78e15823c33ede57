"""failoverd: check everything, become a daemon, and guard the pair."""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import os
import re
import select
import shlex
import signal
import stat
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TextIO

from failoverd import __version__, conf, links, listener, process, statefile
from failoverd.conf import Conf, Problem, files, survey
from failoverd.log import Log, complain
from failoverd.tools import observe
from failoverd.watch import counter, filters
from failoverd.watch.instruments import instruments

DEFAULT_CONF = "/etc/failover/failoverd.conf"
END_SECONDS = 5.0  # how long a child of a dead failoverd has to end before it is killed
PS_SECONDS = 10.0  # how long $ps may take
PS_GRACE = 5.0  # and the child that runs it
PEER_SECONDS = 1.5  # how long the peer has to answer -t
AS_USER = "checked as an ordinary user, who cannot see everything: run it as root"
OWN_USER = (
    "make a user for failoverd alone, which it takes where $user is not set: "
    f"adduser --system --group --no-create-home {files.OWN_USER}"
)

Tell = Callable[[str | None], None]  # whoever waits for the start: None if all is up, else why not


def main(argv: list[str] | None = None) -> int:
    """The entry point. Exit status 0: running (or sound, with -t), 1: not, 2: usage."""
    options = parse(argv)
    process.start_clean()
    try:
        return start(options)
    except (ValueError, OSError) as error:
        print(process.in_words(error), file=sys.stderr)
        if options.test and os.geteuid():
            complain("failoverd", AS_USER)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def start(options: argparse.Namespace) -> int:
    """Check everything, then do what the options say. Raises ConfError, OSError."""
    folder = current_folder()
    checked = read_settings(options.config, folder, test=options.test)
    if options.test:
        return test(checked)
    if checked.watcher is not None:
        complain("failoverd", told_of_watcher(checked.watcher, checked.conf.user))
    check_state(checked.conf)
    stays = options.foreground or options.dry
    log = open_log(checked.conf.log, sys.stderr if stays else None)
    service = Service(options, checked, take_lock(checked.conf.pidfile), log, folder)
    return service.in_foreground() if stays else service.detached()


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="failoverd", description="Guard a pair of machines: take over when traffic stops."
    )
    add = parser.add_argument
    add("-c", dest="config", metavar="CONF", default=DEFAULT_CONF,
        help="the configuration (default: %(default)s)")  # fmt: skip
    add("-f", dest="foreground", action="store_true", help="stay in the foreground, log to stderr")
    add(
        "-n",
        dest="dry",
        action="store_true",
        help="dry run in the foreground: only say what it would do",
    )
    add("-t", dest="test", action="store_true", help="check the configuration, say what it means")
    add("-v", dest="verbose", action="store_true", help="log every window")
    add("--version", action="version", version=f"failoverd {__version__}")
    return parser.parse_args(argv)


@dataclass(frozen=True)
class Checked:
    """A configuration in which no error was found. watcher: None if it is our own.

    warnings: what is wrong with the network, and does not keep failoverd from running.
    """

    conf: Conf
    boot: str
    watcher: str | None
    programs: tuple[filters.Program, ...]
    facts: survey.Facts
    warnings: tuple[Problem, ...]


def read_settings(
    path: str, folder: str, *, test: bool = False, running: Conf | None = None
) -> Checked:
    """Configuration and host_type, wholly checked. Raises ConfError with every problem.

    folder: where failoverd was started, for a relative $watchd. The daemon leaves it to its
    listener to read the secret. running: the configuration that this one is to replace.
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
    if test:
        process.keep_secret()
        problems += files.check_secret(settings)
    problems += check_interfaces(settings)
    faults, programs = check_filters(settings)
    problems += faults
    facts = observe.look_around(settings)
    found = survey.findings(settings, facts)
    refused = refusals(found, settings, test=test, running=running)
    problems += placed(refused, settings)
    if problems:
        raise conf.ConfError(sorted(problems, key=lambda each: (each.file != path, each.line)))
    boot = files.read_host_type(settings.host_type)
    warnings = placed([each for each in found if each not in refused], settings)
    return Checked(settings, boot, watcher, tuple(programs), facts, tuple(warnings))


def refusals(
    found: list[survey.Finding], settings: Conf, *, test: bool, running: Conf | None
) -> list[survey.Finding]:
    """What of it is an error. At boot an address may come later, and a daemon that runs is not
    refused a configuration for what it has borne so far."""
    if running is not None and not {*conf.changed(running, settings)}.intersection(survey.NEEDED):
        return []
    starts = running is None and not test
    least = survey.Weight.NEVER if starts else survey.Weight.AMISS
    return [each for each in found if each.weight >= least]


def placed(found: list[survey.Finding], settings: Conf) -> list[conf.Problem]:
    return [settings.problem(each.variable, each.text) for each in found]


def check_interfaces(settings: Conf) -> list[conf.Problem]:
    """Every interface that is named must exist now: a wrong name would be silent for ever."""
    known = links.names()
    return [
        settings.problem(variable, f"{name}: no such interface; there are {', '.join(known)}")
        for variable, name in settings.watched
        if name not in known and variable not in settings.origin.unusable
    ]


def check_filters(settings: Conf) -> tuple[list[conf.Problem], list[filters.Program]]:
    """What is wrong with what is to count, and the programs that the watchers count with."""
    problems: list[conf.Problem] = []
    programs: list[filters.Program] = []
    for name, interfaces in (
        ("filter", settings.interfaces),
        ("plip_filter", (settings.plip_interface,)),
    ):
        if not interfaces or name in settings.origin.unusable:
            continue
        expression, own = counter.what_counts(settings, interfaces[0]), getattr(settings, name)
        title = f"failoverd: filter [{settings.pidfile}]"
        try:
            programs += filters.prepare(expression, own, interfaces, title)
        except filters.BadFilter as error:
            cause = "addresses" if name == "filter" and not own else name  # they are left out
            problems.append(settings.problem(cause, str(error)))
    return problems, programs


def test(checked: Checked) -> int:
    """Print the effective settings and what they mean in seconds."""
    from failoverd.tools import promises

    settings = checked.conf
    for line, _ in conf.effective(settings):
        print(line)
    print()
    for line in promises.explain(settings, checked.boot):
        print(line)
    for warning in [*checked.warnings, *unlisted(settings)]:
        print(f"warning: {warning}")
    for remark in notes(checked):
        print(f"note: {remark}")
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough
        process.discard_output()
    except OSError as error:
        process.discard_output()
        raise OSError(f"failoverd: cannot write the output: {error.strerror}") from None
    return 0


def notes(checked: Checked) -> list[str]:
    """What is no error, and worth a word."""
    settings = checked.conf
    found = [*conf.remarks(settings), *shared_user(settings), *unaskable(settings)]
    found += survey.advice(settings, checked.facts)
    if checked.watcher is not None:
        found.append(told_of_watcher(checked.watcher, settings.user))
    found += compared(settings, checked.boot)
    return [*found, AS_USER] if os.geteuid() else found


def shared_user(settings: Conf) -> list[str]:
    """That other programs may kill the children, as their user is the same."""
    if settings.user != "nobody":
        return []
    what = "$user is nobody, as whom other programs run, which can kill failoverd's children"
    return [f"{what}: {OWN_USER}"]


def unlisted(settings: Conf) -> list[conf.Problem]:
    """That $ps cannot be run, and so nothing is found that a dead failoverd left."""
    why = listed(settings)[1]
    if not why:
        return []
    text = f'{settings.ps} cannot be run: {why}; leave it out, or write $ps = "ps ax";'
    return [settings.problem("ps", text)]


def told_of_watcher(program: str, user: str) -> str:
    """What is so of another's watcher."""
    if user == "root":
        return f"$watchd {program} is not ours, runs as root and reads packets: {OWN_USER}"
    if os.geteuid() == 0 and not may_execute(user, program):
        return (
            f"$watchd {program} cannot be executed by {user}, so ours is used in its place: put it "
            f"where {user} can reach it, and chmod a+rx {shlex.quote(program)}"
        )
    return (
        f"$watchd {program} is not ours, and runs as {user}; if it does not print within a window "
        "what `watchd --json` prints, ours is used in its place"
    )


def may_execute(user: str, program: str) -> bool:
    """As far as that can be found out: if not, its start will show it."""

    def look(_: process.Channel) -> process.Message:
        process.give_up_root(user)
        return {"may": os.access(program, os.X_OK)}

    try:
        return process.find_out("failoverd: access", look, PS_GRACE)["may"] is True
    except (OSError, ValueError):  # a machine that is busy at a boot may not get to it
        return True


def unaskable(settings: Conf) -> list[str]:
    """That $confirm "arp" cannot ask: a tunnel has neither ARP nor neighbour solicitation."""
    names = list(dict.fromkeys(entry.interface for entry in settings.addresses))
    if settings.confirm != "arp" or not names or any(map(links.hwaddr, names)):
        return []
    return [
        f"{' and '.join(names)} is no ethernet interface: nobody can be asked there who has the "
        'addresses, so no takeover by silence ever comes; set $confirm to "none" or a program'
    ]


def compared(settings: Conf, boot: str) -> list[str]:
    """How the peer's failoverd, as it runs, differs in what must be alike; or why that is unknown.

    With the secret, which was found to be sound.
    """
    from failoverd.conf import alike
    from failoverd.tools import client
    from failoverd.wire import protocol

    try:
        secret = files.read_secret(settings.secret)
        reply = client.exchange(settings, secret, settings.secondary, "status", PEER_SECONDS)
    except (conf.ConfError, client.ExchangeError) as error:
        return [f"not compared with the peer: {error}"]
    status = protocol.parse_status(reply.text) if reply.ok else None
    if status is None:
        return [f"not compared with the peer: {settings.secondary} answers, but with no status"]
    ours = alike.of_conf(settings, __version__)
    found = alike.differences(ours, alike.of_status(status))
    differing = [f"not the same on both machines: {sentence}" for sentence in found.values()]
    return [*alike.clashes(settings, boot, status), *differing]


def own_folder() -> str:
    """Where failoverd itself is."""
    return os.path.dirname(os.path.realpath(sys.argv[0]))


def current_folder() -> str:
    """Where failoverd was started; "/" if that is deleted by now."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "/"


def take_lock(path: str) -> int:
    """The locked pid file. Raises OSError with a sentence if another failoverd has it.

    The lock goes with the process, so a pid file that a dead failoverd left is no obstacle. A file
    that is something else is not overwritten.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    while True:
        try:
            lock = os.open(path, flags, 0o600)
        except OSError as error:
            raise OSError(
                f"failoverd: cannot open $pidfile {path}: {why_not(error)}; "
                f"{'start it as root' if os.geteuid() else 'name another one in the configuration'}"
            ) from None
        if not is_ours(lock):
            os.close(lock)
            raise OSError(
                f"failoverd: $pidfile {path} is not a plain file of root's alone: remove it"
            )
        os.fchmod(lock, 0o600)  # whoever may open it may lock it, and we would not start
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(lock, 32).decode(errors="replace").strip()
            os.close(lock)
            who = f"pid {pid}" if pid else "it is just starting"
            raise OSError(f"failoverd: already running ({who})") from None
        if (
            not re.fullmatch(rb"\s*\d{0,9}\s*", os.pread(lock, 32, 0))
            or os.fstat(lock).st_size > 32
        ):
            os.close(lock)
            raise OSError(
                f"failoverd: $pidfile {path} is something else: remove it or name another"
            )
        try:
            if os.stat(path).st_ino == os.fstat(lock).st_ino:
                os.ftruncate(lock, 0)  # the pid of a dead one
                return lock
        except FileNotFoundError:
            pass
        os.close(lock)  # the one that ended meanwhile took its file with it


def is_ours(fd: int) -> bool:
    """Whether the open file was not planted by another user."""
    info = os.fstat(fd)
    plain = stat.S_ISREG(info.st_mode) and info.st_nlink <= 1
    return plain and info.st_uid in files.trusted_owners()


def check_state(settings: Conf) -> None:
    """Two that share $state would take each other's role. Raises OSError with a sentence."""
    other = statefile.read(settings.state).pidfile
    if other not in ("", settings.pidfile) and files.is_locked(other):
        raise OSError(
            f"failoverd: $state {settings.state} belongs to the failoverd of {other}, which runs: "
            "name another one in the configuration"
        )


def open_log(path: str, terminal: TextIO | None = None) -> Log:
    """The log. Raises OSError with a sentence."""
    try:
        return Log(path, terminal)
    except OSError as error:
        raise OSError(
            f"failoverd: cannot open $log {path}: {why_not(error)}; "
            f"{'start it as root' if os.geteuid() else 'name another one in the configuration'}"
        ) from None


def why_not(error: OSError) -> str | None:
    """Why a file was not opened. None is opened through a link: others may have planted it."""
    return "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror


class Service:
    """A checked configuration on its way to a running failoverd."""

    def __init__(
        self, options: argparse.Namespace, checked: Checked, lock: int, log: Log, folder: str
    ) -> None:
        self.options = options
        self.conf = replace(checked.conf, verbose=checked.conf.verbose or options.verbose)
        self.boot = checked.boot
        self.watcher = checked.watcher
        self.programs = checked.programs
        self.warnings = [f"warning: {each}" for each in checked.warnings]
        self.lock = lock
        self.log = log
        self.path = os.path.join(folder, options.config)
        self.folder = folder
        self.pid_written = False

    def in_foreground(self) -> int:
        os.umask(0o077)
        os.chdir("/")
        return self.serve(lambda error: None)

    def detached(self) -> int:
        """Become a daemon; this process waits for its word, so that errors reach the terminal."""
        for warning in self.warnings:
            complain("failoverd", warning)
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
            with contextlib.suppress(BrokenPipeError):  # whoever started us has gone
                os.write(writing, (error or "ready").encode())
            if error is None:
                os.close(writing)  # else it stays open until we are gone, and our lock with us

        context = daemon.DaemonContext(
            detach_process=True,
            working_directory="/",
            umask=0o077,
            files_preserve=[self.lock, writing, self.log.fileno()],
            signal_map={},
            prevent_core=False,  # the limit would pass to the services that the script starts
        )
        with context:
            return self.serve(tell)

    def serve(self, tell: Tell) -> int:
        """From here on this is the process that is going to stay."""
        from failoverd.master import Master

        self.write_pid()
        for warning in self.warnings:
            self.log.write("failoverd", warning)
        if not self.options.dry:
            end_left_over(self.conf, self.log)
        if self.conf.realtime:
            try:
                process.be_realtime()
            except OSError as error:
                why = f"warning: $realtime: {error.strerror}; goes on without"
                self.log.write("failoverd", why)
        try:
            master = Master(
                self.conf,
                self.boot,
                self.log,
                watcher=self.watcher,
                programs=self.programs,
                check=self.check,
                dry=self.options.dry,
            )
        except OSError as error:
            return self.refused(tell, process.in_words(error))
        master.keep_pidfile = self.keep_pidfile
        try:
            master.run(lambda: tell(None))
        except Exception:
            for line in traceback.format_exc().splitlines():
                self.log.write("failoverd", f"ended by a bug: {line.strip()}")
            raise
        if master.failure is not None:
            return self.refused(tell, master.failure)
        self.log.write("failoverd", "stopped; role, addresses and service stay as they are")
        self.remove_pidfile()
        return 0

    def refused(self, tell: Tell, why: str) -> int:
        self.log.write("failoverd", f"not started: {why}")
        self.remove_pidfile()
        tell(why)
        return 1

    def write_pid(self) -> None:
        """A disk that is full is no reason not to guard the pair."""
        try:
            os.pwrite(self.lock, f"{os.getpid()}\n".encode(), 0)
            self.pid_written = True
        except OSError as error:
            why = f"warning: cannot write $pidfile {self.conf.pidfile}: {error.strerror}"
            self.log.write("failoverd", why)

    def keep_pidfile(self) -> None:
        """Somebody may remove it, or all of /run. Without it nobody finds us, or our lock."""
        if os.path.lexists(self.conf.pidfile):
            if not self.pid_written:
                self.write_pid()
            return
        with contextlib.suppress(OSError):  # its folder may be missing, too: later, then
            lock = take_lock(self.conf.pidfile)
            os.close(self.lock)
            self.lock = lock
            self.write_pid()

    def remove_pidfile(self) -> None:
        """Unless it is another's by now, or cannot be removed: its lock is what counts."""
        with contextlib.suppress(OSError):
            if os.stat(self.conf.pidfile).st_ino == os.fstat(self.lock).st_ino:
                os.unlink(self.conf.pidfile)

    def check(self, channel: process.Channel, running: Conf) -> process.Message:
        """Read the configuration again, in a child. Raises what is wrong, and OSError.

        What cannot change while failoverd runs is wrong, too.
        """
        from failoverd.master.reload import sound

        checked = read_settings(self.path, self.folder, running=running)
        settings = checked.conf
        settings = replace(settings, verbose=settings.verbose or self.options.verbose)
        problems = [
            settings.problem(name, "cannot change while failoverd runs: restart it")
            for name in ("pidfile", "state", "watchd", "realtime")
            if getattr(settings, name) != getattr(running, name)
        ]
        if problems:
            raise conf.ConfError(problems)
        try_out(channel, settings, running)
        return {**sound(settings, checked.programs), "remarks": self.later(checked)}

    def later(self, checked: Checked) -> list[str]:
        """What has changed and does not count yet."""
        if checked.boot == self.boot:
            return []
        path = checked.conf.host_type
        return [f"{path} has boot:{checked.boot} now: restart failoverd to have it so"]


def try_out(channel: process.Channel, settings: Conf, running: Conf) -> None:
    """Raise what would keep the children from starting with these settings."""
    if settings.log != running.log:
        open_log(settings.log).close()
    listener.check(channel, settings, running)
    for name in (settings.plip_interface, *settings.interfaces):
        instruments(settings, name, counter.what_counts(settings, name))


def end_left_over(settings: Conf, log: Log) -> None:
    """End the children that a dead failoverd of this very $pidfile left running."""
    for pid, name in left_over(settings, log):
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        log.write("failoverd", f"ending {name} (pid {pid}), left by a dead failoverd")
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            for number in (signal.SIGTERM, signal.SIGCONT):  # it may be stopped
                signal.pidfd_send_signal(pidfd, number)
            if not select.select([pidfd], [], [], END_SECONDS)[0]:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)


def left_over(settings: Conf, log: Log) -> list[tuple[int, str]]:
    """Pid and title of processes that ps shows as children for our $pidfile."""
    found, why = listed(settings)
    if why:
        log.write("failoverd", f"warning: $ps ({settings.ps}) cannot be run: {why}")
    return [each for each in found if sees_our_files(each[0])]


def listed(settings: Conf) -> tuple[list[tuple[int, str]], str]:
    """What $ps shows with a title of ours, and why it cannot be run, "" if it can."""

    def look(_: process.Channel) -> process.Message:
        return {"found": titled(listing(settings.ps), settings.pidfile)}

    try:
        found = process.find_out("failoverd: ps", look, PS_SECONDS + PS_GRACE)["found"]
    except (OSError, ValueError) as error:
        return [], process.in_words(error)
    return [(int(pid), str(title)) for pid, title in found], ""  # type: ignore[attr-defined]


def listing(ps: str) -> bytes:
    """What $ps prints. Raises OSError, ValueError. For a child that ends then."""
    try:
        return subprocess.run(
            shlex.split(ps),
            capture_output=True,
            timeout=PS_SECONDS,
            check=True,
            env=process.CLEAN_ENVIRONMENT,
        ).stdout
    except subprocess.SubprocessError as error:
        raise ValueError(str(error)) from None


def titled(listing: bytes, pidfile: str) -> list[tuple[int, str]]:
    """Pid and title of our children in what ps printed; somebody's title cannot add a line."""
    title = re.compile(rf"failoverd: \S.* \[{re.escape(pidfile)}\]")
    found = []
    for line in listing.decode(errors="replace").split("\n"):
        fields = line.split(None, 4)  # PID TTY STAT TIME COMMAND
        if len(fields) == 5 and re.fullmatch("[1-9][0-9]{0,8}", fields[0]):
            pid, command = int(fields[0]), fields[4].rstrip()
            if pid > 1 and title.fullmatch(command):
                found.append((pid, command))
    return found


def sees_our_files(pid: int) -> bool:
    """Whether $pidfile is the same file for it. It is not for what runs in a container, say."""
    try:
        return os.stat(f"/proc/{pid}/ns/mnt").st_ino == os.stat("/proc/self/ns/mnt").st_ino
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main())
