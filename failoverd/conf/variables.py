"""The one table of the variables of failoverd.conf (section 3 of the contract).

The text is read by `language`, which gives a string, or a list of strings, for each assignment.
The table says what such a string means, what it must be, and what it is without an assignment.

To add a variable, add one field to `Conf`: reading, checking, `failoverd -t` and the manual's
reference all follow from it.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from failoverd.conf.language import Assigned, quoted, read, shortened
from failoverd.conf.language import Problem as Problem
from failoverd.wire import typed

T = TypeVar("T")

MAX_SECONDS = 1_000_000.0  # about 11 days: the kernel's timers take no more than 24
MAX_WHOLE = 1_000_000_000  # the kernel counts packets in 32 bits
MAX_CHECKS = 32  # a status tells of each
MAX_TOLD = 131_000  # bytes of a list: execve(2) takes little more in one variable (MAX_ARG_STRLEN)
LEAST_INTERVAL = 0.1  # seconds between two runs of a check
PIDFILE = "pidfile:"


class ConfError(ValueError):
    """The file cannot be used; `problems` is everything that is wrong with it.

    `conf` is what could be read nevertheless, so that what it names can be checked in one go. Its
    `origin.unusable` are the variables to leave alone. None if nothing could be read.
    """

    def __init__(self, problems: Sequence[Problem], conf: Conf | None = None) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = list(problems)
        self.conf = conf


@dataclass(frozen=True)
class Address:
    """A service address on its interface."""

    interface: str
    address: str
    prefix: int

    def __str__(self) -> str:
        return f"{self.interface} {self.address}/{self.prefix}"


def is_of_link(address: str) -> bool:
    """Whether it is a link-local one of IPv6, which is another one on each link."""
    return address[:3] in ("fe8", "fe9", "fea", "feb")


@dataclass(frozen=True)
class EthernetAddress:
    """The hardware address, in lower case, that an interface of the active node has."""

    interface: str
    hwaddr: str

    def __str__(self) -> str:
        return f"{self.interface} {self.hwaddr}"


@dataclass(frozen=True)
class Witness:
    """A probe target on an interface's network."""

    interface: str
    address: str

    def __str__(self) -> str:
        return f"{self.interface} {self.address}"


@dataclass(frozen=True)
class ServiceCheck:
    """A program that tells whether the service works, or a process that has to run.

    everywhere: on a standby too. pidfile: the file that names the process, "" for a program.
    """

    name: str
    interval: float
    command: tuple[str, ...]
    everywhere: bool = False

    def __str__(self) -> str:
        star = "*" if self.everywhere else ""
        return f"{self.name}{star} {_shown_seconds(self.interval)} {shlex.join(self.command)}"

    @property
    def pidfile(self) -> str:
        path = self.command[0].removeprefix(PIDFILE)
        return "" if path == self.command[0] else path


# --- Kinds of values: a string of the file becomes a value, or a ValueError that says what is
# --- expected.


@dataclass(frozen=True)
class Kind(Generic[T]):
    """How a value is read from a string of the file, and how it is written there."""

    read: Callable[[str], T]
    show: Callable[[T], str] = str


def _whole(low: int, high: int = MAX_WHOLE) -> Kind[int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"\s*[0-9]{1,18}\s*", text, re.ASCII) or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return Kind(read)


def _seconds(low: float) -> Kind[float]:
    def read(text: str) -> float:
        plain = re.fullmatch(r"\s*(?:[0-9]{1,9}(?:\.[0-9]*)?|\.[0-9]+)\s*", text, re.ASCII)
        if not plain or not low <= float(text) <= MAX_SECONDS:
            raise ValueError(f"seconds, a number from {low:g} to {MAX_SECONDS:.0f}")
        return round(float(text), 9)

    return Kind(read, _shown_seconds)


def _shown_seconds(seconds: float) -> str:
    return f"{seconds:.9f}".rstrip("0").rstrip(".")


def _matching(pattern: str, expected: str) -> Kind[str]:
    def read(text: str) -> str:
        if not re.fullmatch(pattern, text, re.DOTALL):
            raise ValueError(expected)
        return text

    return Kind(read)


def _read_interface(text: str) -> str:
    if not typed.is_interface(text):
        raise ValueError("the name of an interface, at most 15 characters without blanks, / and :")
    return text


def _read_ip(text: str) -> str:
    import ipaddress

    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError("an IPv4 or IPv6 address") from None
    if address.is_unspecified or address.is_multicast or text == "255.255.255.255":
        raise ValueError("the address of one host, not of all or of a group")
    return str(address)


def _read_link_ip(text: str) -> str:
    """A link-local address means nothing without an interface, and many programs drop that."""
    host = _read_ip(text)
    if "%" in host or host.startswith("fe80:"):
        raise ValueError("an address of the link's own, such as fd00::1, not a link-local one")
    return host


def _two_words(text: str, example: str) -> tuple[str, str]:
    words = text.split()
    if len(words) != 2:
        raise ValueError(f'an interface and an address, such as "{example}"')
    return _read_interface(words[0]), words[1]


def _read_served(text: str) -> Address:
    import ipaddress

    interface, address = _two_words(text, "eth0 192.0.2.10/24")
    host, _, prefix = address.partition("/")
    if not re.fullmatch(r"[0-9]{1,3}", prefix) or "%" in host:
        raise ValueError('an address with the length of its prefix, such as "eth0 192.0.2.10/24"')
    host = _read_ip(host)
    try:
        network = ipaddress.ip_network(f"{host}/{int(prefix)}", strict=False)
    except ValueError:
        raise ValueError("a prefix of at most 32 bits, or 128 for IPv6") from None
    ends = {str(network.network_address), str(network.broadcast_address)}
    if network.prefixlen == 0 or (network.version == 4 and network.prefixlen < 31 and host in ends):
        raise ValueError("the address of a host, not of its whole network")
    return Address(interface, host, network.prefixlen)


def _read_ethernet(text: str) -> EthernetAddress:
    interface, hwaddr = _two_words(text, "eth0 02:00:00:00:00:10")
    hwaddr = hwaddr.lower()
    if not re.fullmatch(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}", hwaddr):
        raise ValueError('a hardware address, such as "eth0 02:00:00:00:00:10"')
    if int(hwaddr[:2], 16) & 1 or hwaddr == "00:00:00:00:00:00":
        raise ValueError("a unicast hardware address: its first byte is even, and it is not 0")
    return EthernetAddress(interface, hwaddr)


def _read_witness(text: str) -> Witness:
    interface, address = _two_words(text, "eth0 192.0.2.1")
    if "%" in address:
        raise ValueError("an address without %, because the interface is named before it")
    return Witness(interface, _read_ip(address))


def _read_failback(text: str) -> float | None:
    if text in ("yes", "no"):
        return 0.0 if text == "yes" else None
    try:
        return _seconds(0.001).read(text)
    except ValueError as error:
        raise ValueError(f'"yes", "no", or {error}') from None


_CHECK_EXAMPLE = "web 2 /usr/lib/nagios/plugins/check_http -I 127.0.0.1"


def _read_check(text: str) -> ServiceCheck:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"a command as a shell reads it; there is {str(error).lower()}") from None
    if len(words) < 3 or "\0" in text:
        raise ValueError(f'a name, seconds and a command, such as "{_CHECK_EXAMPLE}"')
    found = re.fullmatch(r"([a-z0-9][a-z0-9_.-]{0,19})(\*?)", words[0], re.ASCII | re.IGNORECASE)
    if not found:
        raise ValueError("a name of at most 20 letters, digits and _ . - before the seconds")
    check = ServiceCheck(found[1], 0.0, tuple(words[2:]), everywhere=bool(found[2]))
    if not (check.pidfile or check.command[0]).startswith("/"):
        raise ValueError(f"the path of a program, which begins with /, or {PIDFILE} and a path")
    if check.pidfile and len(words) > 3:
        raise ValueError(f"nothing behind {PIDFILE} and its path")
    if check.pidfile and words[1] == "0":
        return check
    return replace(check, interval=_seconds(LEAST_INTERVAL).read(words[1]))


_YES_NO = _matching("yes|no", '"yes" or "no"')
YES_NO = Kind(lambda text: _YES_NO.read(text) == "yes", lambda yes: "yes" if yes else "no")
TEXT = _matching(r"[^\0]*", "text without a NUL byte")
COMMAND = _matching(r"[^\0]*[^\s\0][^\0]*", "a command")
PATH = _matching(r"/[^\0]*", "a path that begins with /")
ANY_PATH = _matching(r"[^\0]+", "a path")
PROGRAM = _matching(r"(/[^\0]*)?", 'the path of a program, which begins with /, or "" for none')
CONFIRM = _matching(
    r"arp|none|/[^\0]*", '"arp", "none" or the path of a program, which begins with /'
)
FAILBACK = Kind(_read_failback, lambda wait: {None: "no", 0.0: "yes"}.get(wait) or f"{wait:g}")
ADDRESSES_BY = _matching("failoverd|script", '"failoverd" or "script"')
USER = _matching(r"[^\s:/\0]+", "the name of a user")
INTERFACE = Kind(_read_interface)
IP = Kind(_read_link_ip)
SERVED = Kind(_read_served)
ETHERNET = Kind(_read_ethernet)
WITNESS = Kind(_read_witness)
CHECK = Kind(_read_check)


# --- The table


@dataclass(frozen=True)
class Setting:
    """What is known of one variable. `name` has no sigil, `default` holds without assignment."""

    name: str
    default: Any
    sigil: str
    kind: Kind[Any]
    meaning: str
    original: bool = False
    alike: bool = False  # whether it must be the same on both nodes

    @property
    def perl_name(self) -> str:
        return self.sigil + self.name


def _one(default: T, kind: Kind[T], **marks: Any) -> T:
    """A scalar variable: `$name = "value";`. marks: other fields of its Setting."""
    return field(default=default, metadata={"sigil": "$", "kind": kind, **marks})


def _many(default: tuple[T, ...], kind: Kind[T], **marks: Any) -> tuple[T, ...]:
    """A list variable: `@name = ('value', ...);`."""
    return field(default=default, metadata={"sigil": "@", "kind": kind, **marks})


@dataclass(frozen=True)
class Origin:
    """Which file a configuration came from, and in which line each variable was assigned last.

    `unusable` are the variables that have their defaults only because of a problem.
    """

    file: str = "failoverd.conf"
    lines: Mapping[str, int] = field(default_factory=dict)
    unusable: frozenset[str] = frozenset()


_ROOT = "$failover_root"  # in a default: the value of that variable


@dataclass(frozen=True)
class Conf:
    """The settings. `Conf()` is all defaults; `parse` checks what this class takes on trust."""

    # fmt: off
    low_water: int = _one(0, _whole(0), original=True, alike=True, meaning=
        "A service interface that receives fewer packets than this in a window has failed. With 0 "
        "no service interface ever fails, only the heartbeat link; the shipped file has 1.")
    interfaces: tuple[str, ...] = _many(
        ("eth0", "eth1"), INTERFACE, original=True, alike=True, meaning=
        "The service interfaces. Each is watched.")
    verbose: bool = _one(True, YES_NO, original=True, meaning=
        "Log every window of every interface, not only what changes.")
    mresume: bool = _one(True, YES_NO, original=True, meaning=
        "At start the preferred node (boot:master) asks the peer to stand by before it becomes "
        "active. With no it does not contact the peer, and both may then be active.")
    packet_count: int = _one(500, _whole(1), original=True, meaning=
        "After this many packets the window restarts. Use less on a quiet network.")
    timer_seconds: float = _one(20.0, _seconds(0.005), original=True, alike=True, meaning=
        "The window of a service interface in seconds.")
    watchd: str = _one("./watchd", ANY_PATH, original=True, meaning=
        "The watcher. A relative path is looked up where failoverd was started, then where "
        "failoverd itself is. failoverd's own watchd is recognized anywhere. Any other program "
        "runs as $user and must print what `watchd --json` prints.")
    ps: str = _one("ps ax", COMMAND, original=True, meaning=
        "The command that lists all processes in the BSD style. It is used at start, to find and "
        "end what a dead failoverd left running.")
    tcp_port: int = _one(2000, _whole(1, 65535), original=True, meaning=
        "The TCP port for requests between the nodes, the same on both.")
    primary: str = _one("1.0.0.1", IP, original=True, meaning=
        "The address of this node on the heartbeat link.")
    secondary: str = _one("1.0.0.2", IP, original=True, meaning=
        "The address of the peer on the heartbeat link.")
    failover_root: str = _one("/etc/failover", PATH, original=True, meaning=
        "The directory of host_type, the secret and the hooks.")
    host_type: str = _one(f"{_ROOT}/host_type", PATH, original=True, meaning=
        "The file that says which node is the preferred one: boot:master on it, boot:slave on the "
        "other.")
    secret: str = _one(f"{_ROOT}/secret", PATH, original=True, meaning=
        "The file that holds the shared secret, the same on both nodes. Only root may read it.")
    plip_interface: str = _one("plip0", INTERFACE, original=True, meaning=
        "The interface of the heartbeat link between the two nodes.")
    plip_timer: float = _one(11.0, _seconds(0.005), original=True, alike=True, meaning=
        "The window of the heartbeat link in seconds. The peer is lost after two windows without a "
        "heartbeat.")
    plip_hbeat: float = _one(10.0, _seconds(0.005), original=True, alike=True, meaning=
        "Seconds between two heartbeats, less than $plip_timer.")
    log: str = _one("/var/log/watchd.log", PATH, original=True, meaning="The log file.")
    failover_prog: str = _one("/usr/local/failoverd/ha-switch", PATH, original=True, meaning=
        "The switch script. Its argument is master (become active) or slave (stand by).")
    dumpfile: str = _one("/dev/null", PATH, original=True, meaning=
        "Where packet headers are written as pcap files, one for each interface. /dev/null writes "
        "none.")
    addresses: tuple[Address, ...] = _many((), SERVED, alike=True, meaning=
        "The service addresses, which the active node has, each after its interface.")
    ethernet_addresses: tuple[EthernetAddress, ...] = _many((), ETHERNET, alike=True, meaning=
        "The hardware addresses that move with the active role, at most one for each interface. "
        "None may be the own address of an interface of either node.")
    witness: tuple[Witness, ...] = _many((), WITNESS, meaning=
        "Probe targets: hosts on the service network that are always up, such as a router. They "
        "are probed in the middle of an empty window, and an answer counts as a packet.")
    filter: str = _one("", TEXT, meaning=
        "A pcap expression for what counts on the service interfaces.")
    plip_filter: str = _one("", TEXT, meaning=
        "A pcap expression for what counts on the heartbeat link, instead of the peer's "
        "heartbeats.")
    confirm: str = _one("arp", CONFIRM, alike=True, meaning=
        "The takeover check, made when heartbeats are lost: arp sends ARP probes for @addresses "
        "and does not take over if one is answered, none checks nothing, a program exits 0 if the "
        "service still answers.")
    fence_prog: str = _one("", PROGRAM, meaning=
        "The fencing program (STONITH), which must exit 0 before a takeover after lost heartbeats.")
    notify_prog: str = _one("", PROGRAM, meaning=
        "A program that is run at every change of role and for every problem and its end, for "
        "example to send a mail.")
    checks: tuple[ServiceCheck, ...] = _many((), CHECK, meaning=
        "Service checks: a name, the seconds between two runs, and a command. Exit status 0 or 1 "
        "is good, as with monitoring-plugins; any other, or a run longer than $check_timeout, is "
        "bad. A bad check counts as a bad interface. The checks run on the active node; one whose "
        "name ends in * runs on a standby too. The command is split into words as a shell does it, "
        "but run without one, as $user; setuid has no effect. With `pidfile:/path` the process "
        "that the file names must be running, and the check is bad as soon as it ends; the file is "
        "read again in each interval, every second with 0.")
    check_timeout: float = _one(5.0, _seconds(LEAST_INTERVAL), meaning=
        "Seconds after which a check is killed, with all that it has started.")
    check_rise: int = _one(2, _whole(1, 1000), meaning=
        "How many good runs in a row end a bad check.")
    check_fall: int = _one(3, _whole(1, 1000), meaning=
        "How many bad runs in a row make a check bad. The end of a `pidfile:` process needs none.")
    addresses_by: str = _one("failoverd", ADDRESSES_BY, meaning=
        "What adds and removes @addresses and @ethernet_addresses: failoverd, which tells the "
        "switch script so by FAILOVER_PLACED=yes, or script, for one that needs an order of its "
        "own.")
    switch_dir: str = _one(f"{_ROOT}/switch.d", PATH, meaning=
        "The directory of the hooks: programs that every switch runs before and after the switch "
        "script, see ha-switch(8). It may be missing.")
    second_path: bool = _one(True, YES_NO, meaning=
        "The second path: answer the peer's signed requests on the service network too, at this "
        "node's own addresses on the first of @interfaces that has one, and query the peer there "
        "when it does not answer over the heartbeat link. A firewall must allow $tcp_port there. "
        "While $confirm is none there is no second path.")
    switch_timeout: float = _one(30.0, _seconds(0.005), alike=True, meaning=
        "Seconds after which the switch script and the hooks, together, are killed, the same on "
        "both nodes.")
    hold_down: float = _one(60.0, _seconds(0), alike=True, meaning=
        "Seconds that must pass before a role moves back because of the interface for which it "
        "moved here.")
    failback: float | None = _one(0.0, FAILBACK, alike=True, meaning=
        "What the preferred node does when it comes back and the peer is active: with yes it takes "
        "the role back as soon as it can, with no it stands by until it is needed, with a number "
        "it takes the role back after so many seconds without a failed interface or check.")
    realtime: bool = _one(False, YES_NO, meaning=
        "Real-time scheduling and locked memory for the workers that keep time, and for the one "
        "that talks to the peer.")
    plain_secret: bool = _one(True, YES_NO, meaning=
        "Accept the secret in plain text on the port, as an operator with nc sends it. failoverd "
        "itself always signs.")
    user: str = _one("nobody", USER, meaning=
        "The user of the unprivileged workers, which no other program should use. If it is not set "
        "and failoverd is in /etc/passwd, it is that one.")
    pidfile: str = _one("/run/failoverd.pid", PATH, meaning=
        "The file with the daemon's process id, locked while it runs.")
    state: str = _one("/run/failoverd.state", PATH, meaning=
        "The file that keeps the role over a restart of the daemon, until reboot.")
    # fmt: on
    origin: Origin = field(default=Origin(), compare=False, repr=False)

    def __post_init__(self) -> None:
        for setting in SETTINGS.values():
            value = getattr(self, setting.name)
            if value == setting.default and isinstance(value, str) and value.startswith(_ROOT):
                # A frozen dataclass has no other way to finish its own fields.
                object.__setattr__(self, setting.name, self.failover_root + value[len(_ROOT) :])

    @property
    def confirm_prog(self) -> str:
        """The program that $confirm names; "" if it names none."""
        return "" if self.confirm in ("arp", "none") else self.confirm

    @property
    def has_second_path(self) -> bool:
        """With $confirm "none" the heartbeat link alone tells of the peer, as it once did."""
        return self.second_path and self.confirm != "none"

    @property
    def served(self) -> frozenset[str]:
        """The addresses of @addresses, as the kernel writes them."""
        return frozenset(entry.address for entry in self.addresses)

    @property
    def watched(self) -> list[tuple[str, str]]:
        """Each interface that is watched, after the variable that names it."""
        return [
            *(("interfaces", name) for name in self.interfaces),
            ("plip_interface", self.plip_interface),
        ]

    def window_of(self, interface: str) -> float:
        """How long a window of its watcher is, in seconds."""
        return self.plip_timer if interface == self.plip_interface else self.timer_seconds

    @property
    def control_socket(self) -> str:
        """The Unix socket by which this node's own commands reach failoverd; no two values of
        $pidfile have the same."""
        if self.pidfile.endswith(".pid"):
            return self.pidfile.removesuffix(".pid") + ".sock"
        return self.pidfile + ".socket"

    def problem(self, name: str, message: str) -> Problem:
        """Something is wrong with what variable `name` stands for; placed where it was assigned."""
        line = self.origin.lines.get(name)
        label = SETTINGS[name].perl_name + ("" if line else " (not set, so the default)")
        return Problem(self.origin.file, line or 1, f"{label}: {message}")


SETTINGS: Mapping[str, Setting] = MappingProxyType(
    {
        entry.name: Setting(entry.name, entry.default, **entry.metadata)
        for entry in dataclasses.fields(Conf)
        if entry.metadata
    }
)
_PERL_NAMES = {setting.perl_name: setting for setting in SETTINGS.values()}


def effective(conf: Conf) -> list[str]:
    """For each variable the line of failoverd.conf that sets what is in force."""
    found = []
    for name, texts in packed(conf).items():
        setting, right = SETTINGS[name], ", ".join(map(quoted, texts))
        found.append(f"{setting.perl_name} = {right if setting.sigil == '$' else f'({right})'};")
    return found


def packed(conf: Conf) -> dict[str, list[str]]:
    """What is in force, as a JSON object can carry it: the strings of each variable."""
    found = {}
    for setting in SETTINGS.values():
        value = getattr(conf, setting.name)
        elements = value if setting.sigil == "@" else [value]
        found[setting.name] = [setting.kind.show(each) for each in elements]
    return found


def unpacked(values: Mapping[str, Sequence[str]], file: str) -> Conf:
    """The configuration in such an object, whose values are read and checked as those of the file.

    Raises ValueError and the like if it is none.
    """
    found: dict[str, Any] = {}
    for setting in SETTINGS.values():
        each = [setting.kind.read(text) for text in values[setting.name]]
        found[setting.name] = tuple(each) if setting.sigil == "@" else each[0]
    return Conf(**found, origin=Origin(file))


def changed(old: Conf, new: Conf) -> list[str]:
    """The names, without sigil, of the variables whose values differ."""
    return [name for name in SETTINGS if getattr(old, name) != getattr(new, name)]


def remarks(conf: Conf) -> list[str]:
    """What is allowed, and does what section 4 says, but is hardly what was meant."""
    low, full = conf.low_water, conf.packet_count
    text = f"$low_water ({low}) is more than $packet_count ({full}), after which the window "
    return [f"{text}restarts: every window that ends is a failure"] if low > full else []


def parse(text: str, file: str, pair: bool = True) -> Conf:
    """Read and check the text of a configuration. `file` is only for messages.

    `pair=False` leaves out what concerns both nodes and not the watching of one interface.
    Raises ConfError with everything that is wrong.
    """
    reading = read(text, file, _PERL_NAMES)
    problems = list(reading.problems)
    unusable = {_PERL_NAMES[name].name for name in reading.spoiled if name in _PERL_NAMES}
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for perl_name, assigned in reading.assigned.items():
        setting = _PERL_NAMES[perl_name]
        lines[setting.name] = assigned.line
        if setting.name in unusable:
            continue
        found, faults = _typed(setting, assigned)
        problems += [Problem(file, assigned.line, fault) for fault in faults]
        if faults:
            unusable.add(setting.name)
        else:
            values[setting.name] = tuple(found) if setting.sigil == "@" else found[0]
    if "failover_root" in unusable:
        unusable.update({"host_type", "secret", "switch_dir"} - set(lines))
    conf = Conf(**values, origin=Origin(file, lines, frozenset(unusable)))
    for wrong, names, text in (*_of_the_link(conf, pair), *_of_lists(conf), *_of_files(conf)):
        concerned = names.split()
        if wrong and not unusable.intersection(concerned):
            problems.append(Problem(file, max(lines.get(name, 1) for name in concerned), text))
    if problems:
        raise ConfError(sorted(problems, key=lambda problem: problem.line), conf)
    return conf


def _typed(setting: Setting, assigned: Assigned) -> tuple[list[Any], list[str]]:
    """The values that an assignment means, and all that is wrong with it, in whole sentences."""
    values, faults = [], []
    for text in assigned.strings:
        try:
            values.append(setting.kind.read(text))
        except ValueError as error:
            # $secret names a file. If the secret itself stands there, it must not be in a log.
            shown = "a value" if setting.name == "secret" else shortened(text)
            verb = "is" if setting.sigil == "$" else "has"
            faults.append(f"{setting.perl_name} {verb} {shown}: expected {error}")
    return values, faults


# --- Checks over several variables


_Check = tuple[bool, str, str]  # whether it is wrong, the variables, and what to say then


def _of_the_link(conf: Conf, pair: bool) -> Iterator[_Check]:
    ours, theirs, link, beat = conf.primary, conf.secondary, conf.plip_interface, conf.plip_hbeat
    both = "primary secondary"
    text = f"$plip_interface is {link}, which is one of @interfaces: "
    text += "the heartbeat link must be an interface of its own"
    yield link in conf.interfaces, "interfaces plip_interface", text
    text = f"$primary and $secondary are both {ours}: the first is this node, the second the peer"
    yield ours == theirs, both, text
    text = "$primary and $secondary must be both IPv4 or both IPv6"
    yield (":" in ours) != (":" in theirs), both, text
    text = f"$plip_hbeat ({beat:g} s) must be less than $plip_timer ({conf.plip_timer:g} s), or "
    text += "heartbeats are lost all the time"
    yield pair and beat >= conf.plip_timer, "plip_hbeat plip_timer", text


def _of_lists(conf: Conf) -> Iterator[_Check]:
    watched, hosts = conf.interfaces, [served.address for served in dict.fromkeys(conf.addresses)]
    text = "@interfaces is empty: name at least one service interface"
    yield not watched, "interfaces", text
    for name in ("interfaces", "addresses", "ethernet_addresses", "witness"):
        for element in _repeated(getattr(conf, name)):
            yield True, name, f"@{name} names {element} twice: leave one out"
        for element in getattr(conf, name) if name != "interfaces" else ():
            text = f'@{name}: the interface of "{element}" is not one of @interfaces '
            text += f"({', '.join(watched)})"
            yield element.interface not in watched, f"{name} interfaces", text
    size = sum(len(str(served)) + 1 for served in conf.addresses)
    text = f"@addresses is {size} bytes long: at most {MAX_TOLD} can be told the switch script"
    yield size > MAX_TOLD, "addresses", text
    for host in _repeated(hosts):
        text = f"@addresses has {host} more than once: it can be in one place only"
        yield True, "addresses", text
    for name in _repeated([entry.interface for entry in dict.fromkeys(conf.ethernet_addresses)]):
        text = f"@ethernet_addresses has more than one address for {name}: an interface has one"
        yield True, "ethernet_addresses", text
    for name in _repeated([check.name for check in conf.checks]):
        text = f"@checks has more than one check {name}: give each a name of its own"
        yield True, "checks", text
    text = f"@checks has {len(conf.checks)} checks: at most {MAX_CHECKS} can be shown"
    yield len(conf.checks) > MAX_CHECKS, "checks", text
    for name, host in (("primary", conf.primary), ("secondary", conf.secondary)):
        text = f"@addresses has {host}, which is ${name}: the heartbeat link's address never moves"
        yield host in hosts, f"addresses {name}", text
    for host in (target.address for target in conf.witness):
        text = f"@witness has {host}, which is one of @addresses: a probe target is another host"
        yield host in hosts, "witness addresses", text


def _of_files(conf: Conf) -> Iterator[_Check]:
    """No two variables may write to, or read from, the same file; devices may be shared."""
    seen: dict[str, str] = {}
    for name in ("host_type", "secret", "log", "dumpfile", "pidfile", "state"):
        path = getattr(conf, name)
        other = seen.setdefault(path, name)
        text = f"${other} and ${name} are the same file, {shortened(path)}: each needs its own"
        yield other != name and not path.startswith("/dev/"), f"{other} {name}", text


def _repeated(things: Sequence[T]) -> list[T]:
    """What is there more than once, in order, each named once."""
    return [thing for thing, times in Counter(things).items() if times > 1]
