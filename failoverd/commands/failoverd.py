"""failoverd: check everything, become a daemon, and guard the pair."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TextIO

from failoverd import __version__, conf, listener, process, statefile
from failoverd.conf import Conf, ConfError, Problem, files
from failoverd.log import Log, complain
from failoverd.process.leftover import end_left_over
from failoverd.process.pidfile import PidFile, cannot_open
from failoverd.tools.arguments import Parser
from failoverd.tools.check import AS_USER, Checked, about_watcher, check, notes, without_ps
from failoverd.watch import counter
from failoverd.watch.watcher import instruments

FIXED = ("pidfile", "state", "watchd", "realtime")  # they cannot change while failoverd runs

Tell = Callable[[str | None], None]  # for the starter, who waits: None if all is up, else why not


def main(argv: list[str] | None = None) -> int:
    """The entry point. Exit status 0: running (or valid, with -t), 1: not, 2: usage."""
    options = parse(argv)
    process.start_clean()
    try:
        if argv is None:  # else others have files open in this process
            process.close_inherited(options.config)
        return test(options) if options.test else start(options)
    except ConfError as error:
        print(error, file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        complain("failoverd", process.in_words(error))
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="failoverd",
        description="Two-node failover: takes over when the active node or its traffic is lost.",
        epilog="Exit status: 0 it is running (with -f or -n: it was told to stop; with -t: valid), "
        "1 it is not (with -t: invalid), and standard error says why, 2 usage.",
    )
    add = parser.add_argument
    add("-f", dest="foreground", action="store_true", help="stay in the foreground, log to stderr")
    add("-n", dest="dry", action="store_true",
        help="dry run in the foreground: only log what it would do")  # fmt: skip
    add("-t", dest="test", action="store_true", help="check the configuration; show what it means")
    add("-v", dest="verbose", action="store_true",
        help="log every window; with -t: show the settings in force")  # fmt: skip
    return parser.parse(argv)


# --- failoverd -t


def test(options: argparse.Namespace) -> int:
    """Print what is wrong, what the settings mean, and whether they are valid."""
    try:
        checked = check(options.config, current_folder(), test=True).accepted()
    except ConfError as error:
        print(error, file=sys.stderr)
        if os.geteuid():
            complain("failoverd", AS_USER)
        show([verdict_of_errors(options.config, error.problems)])
        return 1
    from failoverd.tools import promises

    warnings, remarks = [*checked.warnings, *without_ps(checked.conf)], notes(checked)
    lines = [f"warning: {each}" for each in warnings] + [f"note: {each}" for each in remarks]
    lines += ["", *promises.explain(checked.conf, checked.boot, checked.mute), ""]
    if options.verbose:
        lines += [*conf.effective(checked.conf), ""]
    show([*lines, verdict(options.config, 0, len(warnings), len(remarks))])
    return 0


def show(lines: Sequence[str]) -> None:
    try:
        print("\n".join(lines), flush=True)
    except BrokenPipeError:  # `| head` has seen enough
        process.discard_output()
    except OSError as error:
        process.discard_output()
        raise OSError(f"cannot write the output: {error.strerror}") from None


def verdict(path: str, *counts: int) -> str:
    told = (
        f"{count or 'no'} {word}{'s' * (count != 1)}"
        for count, word in zip(counts, ("error", "warning", "note"), strict=True)
    )
    return f"{path}: {'invalid' if counts[0] else 'valid'}: {', '.join(told)}"


def verdict_of_errors(path: str, problems: Sequence[Problem]) -> str:
    """What root alone can see is no error, and neither is it none."""
    hidden = sum(map(files.is_hidden, problems))
    rest = f"; not checked without root: {hidden}" if hidden else ""
    found = len(problems) - hidden
    return (verdict(path, found, 0, 0) if found else f"{path}: undecided: no errors") + rest


# --- A start


def start(options: argparse.Namespace) -> int:
    """Check everything, then serve. Raises ConfError, OSError."""
    folder = current_folder()
    checked = check(options.config, folder)
    stays = options.foreground or options.dry
    try:
        checked.accepted()
        for remark in about_watcher(checked):
            complain("failoverd", remark)
        check_state(checked.conf)
        log = open_log(checked.conf.log, sys.stderr if stays else None)
        service = Service(options, checked, PidFile(checked.conf.pidfile), log, folder)
    except (ValueError, OSError) as error:
        log_refusal(checked.conf, process.in_words(error))
        raise
    return service.in_foreground() if stays else service.detached()


def log_refusal(settings: Conf, why: str) -> None:
    """The log tells of a start that was refused, too, if it can be opened: unless failoverd runs,
    whose log it is, and whom such a line would call down."""
    first, *more = why.splitlines()
    if "log" not in settings.origin.unusable and not files.is_locked(settings.pidfile):
        with contextlib.suppress(OSError), contextlib.closing(Log(settings.log)) as log:
            rest = f" (and {len(more)} more)" if more else ""
            log.write("START-FAILED", "config", "not started", {"error": first + rest})


def current_folder() -> str:
    """Where failoverd was started; "/" if that is deleted by now."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "/"


def check_state(settings: Conf) -> None:
    """Two that share $state would take each other's role. Raises OSError with a sentence."""
    other = statefile.read(settings.state).pidfile
    if other not in ("", settings.pidfile) and files.is_locked(other):
        raise OSError(
            f"$state {settings.state} belongs to the failoverd of {other}, which runs: name "
            "another one in the configuration"
        )


def open_log(path: str, terminal: TextIO | None = None) -> Log:
    """The log. Raises OSError with a sentence."""
    try:
        return Log(path, terminal)
    except OSError as error:
        raise OSError(cannot_open("log", path, error)) from None


@dataclass
class Service:
    """A checked configuration on its way to a running failoverd."""

    options: argparse.Namespace
    checked: Checked
    pidfile: PidFile
    log: Log
    folder: str  # where failoverd was started

    def __post_init__(self) -> None:
        self.conf = self.as_wanted(self.checked.conf)
        self.path = os.path.join(self.folder, self.options.config)

    def as_wanted(self, settings: Conf) -> Conf:
        return replace(settings, verbose=settings.verbose or self.options.verbose)

    def say(self, event: str, subject: str, sentence: str, /, **values: object) -> None:
        self.log.write(event, subject, sentence, values)

    def in_foreground(self) -> int:
        os.umask(0o077)
        os.chdir("/")
        return self.serve(lambda error: None)

    def detached(self) -> int:
        """Become a daemon; this process waits for it, so that errors reach the terminal."""
        for warning in self.checked.warnings:
            complain("failoverd", f"warning: {warning}")
        reading, writing = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if not pid:
            os.close(reading)
            os._exit(self.as_daemon(writing))
        os.close(writing)
        os.close(self.pidfile.fd)
        with os.fdopen(reading, encoding="utf-8", errors="replace") as pipe:
            told = pipe.read()
        os.waitpid(pid, 0)
        if told == "ready":
            return 0
        complain("failoverd", told or "ended while starting; see the log")
        return 1

    def as_daemon(self, writing: int) -> int:
        import daemon

        def tell(error: str | None) -> None:
            with contextlib.suppress(BrokenPipeError):  # the starter has gone
                os.write(writing, (error or "ready").encode())
            if error is None:
                os.close(writing)  # else it stays open until this ends, and the lock with it

        with daemon.DaemonContext(
            detach_process=True,
            umask=0o077,
            files_preserve=[self.pidfile.fd, writing, self.log.fileno()],
            signal_map={},
            prevent_core=False,  # the limit would pass to the services that the script starts
        ):
            return self.serve(tell)

    def serve(self, tell: Tell) -> int:
        """From here on this is the process that is going to stay."""
        from failoverd.master import Master

        self.prepare()
        try:
            master = Master(
                self.conf,
                self.checked.boot,
                self.log,
                watcher=self.checked.watcher,
                programs=self.checked.programs,
                check=self.check,
                dry=self.options.dry,
            )
        except OSError as error:
            return self.refused(tell, process.in_words(error))
        master.keep_pidfile = lambda: self.keep_pidfile(self.pidfile.keep)
        try:
            master.run(lambda: tell(None))
        except Exception:
            for line in traceback.format_exc().splitlines():
                self.say("BUG", "worker failoverd", "ended by a bug", line=line.strip())
            raise
        if master.failure is not None:
            return self.refused(tell, master.failure)
        text = "stopped, role and addresses and service stay as they are"
        self.say("STOPPED", "config", text)
        self.pidfile.remove()
        return 0

    def prepare(self) -> None:
        """What is not as it should be is logged, and does not keep the pair from being guarded."""
        version, boot = __version__, self.checked.boot
        process.put_off_signals()  # who has the pid may send some
        self.say("START", "config", "starting", version=version, file=self.path, boot=boot)
        self.keep_pidfile(self.pidfile.write)
        for warning in self.checked.warnings:
            self.say("CONFIG-WARNING", "config", "does not fit the network", error=str(warning))
        if not self.options.dry:
            end_left_over(self.conf.ps, self.conf.pidfile, self.say)
        if self.conf.realtime:
            try:
                process.be_realtime()
            except OSError as error:
                why = error.strerror
                self.say("REALTIME-FAILED", "worker failoverd", process.NO_REALTIME, error=why)

    def keep_pidfile(self, write: Callable[[], str]) -> None:
        """Say when the file cannot be written, and when it can again."""
        why = write()
        if bool(why) is not self.log.lasts("PIDFILE-FAILED", "config"):
            event, text = ("PIDFILE-FAILED", "cannot write") if why else ("PIDFILE-OK", "wrote")
            self.say(event, "config", f"{text} $pidfile", file=self.pidfile.path, error=why)

    def refused(self, tell: Tell, why: str) -> int:
        self.say("START-FAILED", "config", "not started", error=why)
        self.pidfile.remove()
        tell(why)
        return 1

    # A reload

    def check(self, running: Conf, channel: process.Channel) -> process.Message:
        """Read the configuration again, in a child. Raises what is wrong, and OSError."""
        from failoverd.master.reload import sound

        checked = check(self.path, self.folder, running=running).accepted()
        settings = self.as_wanted(checked.conf)
        fixed = [name for name in FIXED if getattr(settings, name) != getattr(running, name)]
        if fixed:
            why = "cannot change while failoverd runs: restart it"
            raise ConfError([settings.problem(name, why) for name in fixed])
        try_out(channel, settings, running)
        remark = f"{settings.host_type} has boot:{checked.boot} now: restart failoverd for it"
        changed = checked.boot != self.checked.boot
        return {**sound(settings, checked.programs), "remarks": [remark] * changed}


def try_out(channel: process.Channel, settings: Conf, running: Conf) -> None:
    """Raise what would keep the workers from starting with these settings."""
    if settings.log != running.log:
        open_log(settings.log).close()
    listener.check(channel, settings, running)
    for name in (settings.plip_interface, *settings.interfaces):
        instruments(settings, name, counter.what_counts(settings, name))


if __name__ == "__main__":
    sys.exit(main())
