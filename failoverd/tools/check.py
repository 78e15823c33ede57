"""A configuration checked against this node: the one way for -t, for a start and for a reload."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from failoverd import __version__, conf, hold, links, process, statefile, users
from failoverd.conf import Conf, ConfError, Problem, alike, files, hooks, survey
from failoverd.process import leftover
from failoverd.tools import observe
from failoverd.watch import counter, filters

PEER_SECONDS = 1.5  # how long the peer has to answer -t
CHECK_SECONDS = 5.0  # that it may take to see what $user may execute
AS_USER = "checked as an ordinary user, who cannot see everything: run it as root"
OWN_USER = (
    "create a user for failoverd alone, which it then uses by default: "
    f"adduser --system --group --no-create-home {files.OWN_USER}"
)


@dataclass(frozen=True)
class Checked:
    """What was found. watcher: None for failoverd's own. boot: only without errors.

    warnings: what is wrong with the network, and does not keep failoverd from running.
    """

    conf: Conf
    errors: Sequence[Problem]
    warnings: Sequence[Problem]
    boot: str
    watcher: str | None
    programs: tuple[filters.Program, ...]
    facts: survey.Facts

    def accepted(self) -> Checked:
        """Itself. Raises ConfError with every error."""
        if self.errors:
            raise ConfError(self.errors, self.conf)
        return self

    @property
    def mute(self) -> list[str]:
        """Where the service addresses are, if none of these interfaces can send a probe: a tunnel
        has neither ARP nor neighbour solicitation."""
        names = list(dict.fromkeys(entry.interface for entry in self.conf.addresses))
        there = [self.facts.interfaces[name] for name in names if name in self.facts.interfaces]
        return [] if any(interface.hwaddr for interface in there) else names


def check(path: str, folder: str, *, test: bool = False, running: Conf | None = None) -> Checked:
    """Everything that can be wrong, found in one go. Raises ConfError if there is no such file.

    folder: where failoverd was started, for a relative $watchd. test: for a person, with the secret
    read too, which the daemon leaves to its listener. running: what this is to replace.
    """
    errors: list[Problem] = []
    try:
        settings = files.load(path)
    except ConfError as error:
        if error.conf is None:
            raise
        settings, errors = error.conf, error.problems
    own_folder = os.path.dirname(os.path.realpath(sys.argv[0]))
    watcher = files.find_watchd(settings, folder, own_folder)
    errors += [*files.check_files(settings, watcher), *hooks.check(settings)]
    errors += [*_forbidden(settings), *_closed_to_user(settings)]
    if test:
        process.keep_secret()
        errors += files.check_secret(settings)
    errors += _missing_interfaces(settings)
    faults, programs = _translated(settings)
    facts = observe.look_around(settings)
    found = survey.findings(settings, facts)
    refused = _refused(found, settings, test, running)
    errors += [*faults, *(settings.problem(*each[:2]) for each in refused)]
    errors.sort(key=lambda each: (each.file != path, each.line))
    warnings = [settings.problem(*each[:2]) for each in found if each not in refused]
    boot = "" if errors else files.read_host_type(settings.host_type)
    return Checked(settings, errors, warnings, boot, watcher, tuple(programs), facts)


def _refused(
    found: list[survey.Finding], settings: Conf, test: bool, running: Conf | None
) -> list[survey.Finding]:
    """Which are errors. At boot an address may come later, and a daemon that runs is not refused a
    configuration for what it has borne so far."""
    if running is not None and not {*conf.changed(running, settings)}.intersection(survey.NEEDED):
        return []
    starts = running is None and not test
    least = survey.Weight.NEVER if starts else survey.Weight.AMISS
    return [each for each in found if each.weight >= least]


def _missing_interfaces(settings: Conf) -> list[Problem]:
    """Every interface that is named must exist now: a wrong name would be silent for ever."""
    known = links.names()
    return [
        settings.problem(variable, f"{name}: no such interface; there are {', '.join(known)}")
        for variable, name in settings.watched
        if name not in known and variable not in settings.origin.unusable
    ]


def _forbidden(settings: Conf) -> list[Problem]:
    """What root itself may not do here."""
    missing = " and ".join(process.missing_capabilities())
    if os.geteuid() or not missing:
        return []
    way = "a container must be given that (--cap-add), and a unit must not take it away"
    return [settings.problem("interfaces", f"failoverd cannot run without {missing}: {way}")]


def _closed_to_user(settings: Conf) -> list[Problem]:
    """Why the workers cannot run as $user, or what of @checks is there, but not for that user."""
    wanted = [
        (check.pidfile, os.R_OK) if check.pidfile else (check.command[0], os.X_OK)
        for check in settings.checks
    ]
    there = [each for each in dict.fromkeys(wanted) if os.access(*each)]
    if os.geteuid() or {"checks", "user"} & settings.origin.unusable:
        return []
    if users.find(settings.user) is None:  # which is said
        return []

    def look(_: process.Channel) -> process.Message:
        process.give_up_root(settings.user)
        return {"closed": [path for path, mode in there if not os.access(path, mode)]}

    try:
        found = process.find_out("failoverd: checks", look, CHECK_SECONDS)["closed"]
    except ValueError as error:
        return [settings.problem("user", str(error))]
    except OSError:  # it is not known
        return []
    assert isinstance(found, list)
    way = "checks run as that user: make it and every directory on the way accessible"
    return [settings.problem("checks", f"{path} is closed to user {settings.user}: {way}")
            for path in found]  # fmt: skip


def _translated(settings: Conf) -> tuple[list[Problem], list[filters.Program]]:
    """What is wrong with what is to count, and the programs that the watchers count with."""
    problems: list[Problem] = []
    programs: list[filters.Program] = []
    link = (settings.plip_interface,)
    for name, interfaces in (("filter", settings.interfaces), ("plip_filter", link)):
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


# --- What is no error, and worth a word


def notes(checked: Checked) -> list[str]:
    """For -t, with the secret, which was found to be sound."""
    settings = checked.conf
    found = [*conf.remarks(settings), *files.conf_faults(os.path.abspath(settings.origin.file))]
    found += _shared_user(settings)
    found += survey.advice(settings, checked.facts)
    found += [*about_watcher(checked), *hooks.notes(settings), *_on_hold(settings)]
    found += _compared(settings, checked.boot)
    return [*found, AS_USER] if os.geteuid() else found


def without_ps(settings: Conf) -> list[Problem]:
    """A warning if nothing that a dead failoverd left will be found."""
    why = leftover.listed(settings.ps, settings.pidfile)[1]
    text = f'{settings.ps} cannot be run: {why}; leave it out, or write $ps = "ps ax";'
    return [settings.problem("ps", text)] if why else []


def about_watcher(checked: Checked) -> list[str]:
    """What is to be known of another's program as $watchd."""
    program, user = checked.watcher, checked.conf.user
    if program is None:
        return []
    name = f"$watchd {program}"
    if user == "root":
        return [f"{name} is not failoverd's own, runs as root and reads packets: {OWN_USER}"]
    if not files.is_open_to_all(program):
        way = f"put it where {user} can reach it, and chmod a+rx {shlex.quote(program)}"
        return [f"{name} cannot be executed by {user}, so failoverd's own is used instead: {way}"]
    if_not = "if it does not print within a window what `watchd --json` prints, failoverd's own is"
    return [f"{name} is not failoverd's own, and runs as {user}; {if_not} used instead"]


def _shared_user(settings: Conf) -> list[str]:
    what = "$user is nobody: other programs run as nobody too, and can kill failoverd's workers"
    return [f"{what}: {OWN_USER}"] if settings.user == "nobody" else []


def _on_hold(settings: Conf) -> list[str]:
    """That failoverd on this node is on hold, by its file."""
    path = statefile.place(settings.state, "hold")
    if os.path.exists(path) and not os.access(path, os.R_OK):
        return []  # only root knows
    try:
        kept = hold.read(path)
    except (OSError, ValueError) as error:
        return [f"{path} is damaged, which counts as no hold: {process.in_words(error)}"]
    if kept is None or not kept.now.held:
        return []
    now = kept.now
    end = "" if now.seconds_left is None else f" until {hold.until(now.seconds_left)}"
    by = f"by {now.by} on {now.node or 'a node'}, since {now.since}"
    return [f"role changes are on hold{end}, {by}: ha-fail --release ends that"]


def _compared(settings: Conf, boot: str) -> list[str]:
    """How the peer's failoverd differs in what must be alike, or why that is unknown; and that the
    second path would not work: a firewall is found before the heartbeat link is cut."""
    from failoverd.tools import client, nodes

    try:
        asker = client.Client(settings, files.read_secret(settings.secret))
        status = asker.status(settings.secondary, PEER_SECONDS)
    except (ConfError, client.ExchangeError) as error:
        return [f"not compared with the peer: {error}"]
    differing = alike.differences(alike.of_conf(settings, __version__), alike.of_status(status))
    found = [f"not the same on both nodes: {sentence}" for sentence in differing.values()]
    path = nodes.way_round(settings)
    try:
        if path is not None:
            asker.status(settings.secondary, PEER_SECONDS, path)
    except client.ExchangeError as error:
        way = f"let TCP port {settings.tcp_port} between the nodes pass there"
        why = f"the second path does not work: {error.why}"
        found.append(f'{why}; {way}, or set $second_path to "no"')
    own = links.hwaddrs(settings.interfaces)
    return [*alike.clashes(settings, boot, own, status), *found]
