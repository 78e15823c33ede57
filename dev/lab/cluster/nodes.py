"""Three nodes of a real Pacemaker cluster, a router and a client, in namespaces.

Every node has its own processes, host name, network and /run, over one root file system: an overlay
of this host's, with Debian's packages unpacked on top. Nothing of it is seen outside.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from dev.lab import prober
from dev.lab.record import Record
from dev.lab.spaces import ROOT, LabError, Process, Spaces

NODES = ("n1", "n2", "n3")
VIP, ROUTER = "192.0.2.10", "192.0.2.1"
PACKAGES = ROOT / "build/cluster"
ATTRIBUTE = "traffic-eth0"
_TREE = "/run/lab/tree"  # mounts below /run are seen in every namespace
INSIDE = f"{_TREE}/root"
_PROBES = "/run/lab/probes"
PACEMAKER = r"^(/usr/lib/pacemaker/)?pacemaker"  # how its command lines begin

_BUILD = f"""set -e
mkdir -p {_TREE}
mount -t tmpfs tmpfs {_TREE}
mkdir {_TREE}/upper {_TREE}/work {INSIDE}
mount -t overlay overlay -o lowerdir=/,upperdir={_TREE}/upper,workdir={_TREE}/work {INSIDE}
for package in {PACKAGES}/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C {INSIDE}
done
chroot {INSIDE} groupadd -f -r haclient
chroot {INSIDE} id hacluster >/dev/null 2>&1 ||
    chroot {INSIDE} useradd -r -g haclient -M -d /var/lib/pacemaker hacluster
mkdir -p {INSIDE}{ROOT} {INSIDE}/var/log/crmsh {INSIDE}/usr/lib/ocf/resource.d/failoverd
mount --bind {ROOT} {INSIDE}{ROOT}
cp {ROOT}/etc/ocf/traffic {INSIDE}/usr/lib/ocf/resource.d/failoverd/
printf '#!/bin/sh\\nexec %s -I %s watchd "$@"\\n' {sys.executable} {ROOT}/dev/launch.py \\
    >{INSIDE}/usr/sbin/watchd
chmod 755 {INSIDE}/usr/sbin/watchd
"""

# $1 is the node's name. Process 1 is a shell that collects orphans, so that Pacemaker can be ended.
_BOOT = f"""set -e
hostname "$1"
mount --make-rprivate /
cd {INSIDE}
mount -t proc proc proc
mount --rbind /dev dev
mount -t tmpfs tmpfs dev/shm
for folder in run var/lib/corosync var/lib/pacemaker var/log/corosync var/log/pacemaker \\
    etc/corosync; do
    mkdir -p $folder
    mount -t tmpfs -o mode=755 tmpfs $folder
done
mkdir -p run/lock var/lib/pacemaker/cib var/lib/pacemaker/pengine var/lib/pacemaker/cores \\
    var/lib/pacemaker/blackbox var/log/pacemaker/bundles
install -m 600 /run/lab/cib.xml var/lib/pacemaker/cib/cib.xml
install -m 644 /run/lab/corosync.conf etc/corosync/corosync.conf
chroot . chown -R hacluster:haclient /var/lib/pacemaker /var/log/pacemaker
exec chroot . sh -c 'corosync -f & sleep 1; pacemakerd & while :; do sleep 1; done'
"""

_CIB = """<cib crm_feature_set="3.16.1" validate-with="pacemaker-3.9" epoch="1" num_updates="0"
 admin_epoch="0"><configuration><crm_config><cluster_property_set id="cib-bootstrap-options">
<nvpair id="o1" name="dc-deadtime" value="2s"/>
<nvpair id="o2" name="stonith-enabled" value="false"/>
</cluster_property_set></crm_config><nodes/><resources/><constraints/></configuration><status/></cib>
"""

_COROSYNC = """system {
  sched_rr: no
  move_to_root_cgroup: no
}
totem {
  version: 2
  cluster_name: lab
  transport: knet
  crypto_cipher: none
  crypto_hash: none
  token: 1000
}
logging {
  to_stderr: yes
  to_syslog: no
}
quorum {
  provider: corosync_votequorum
}
nodelist {
"""
_COROSYNC_NODE = """  node {{
    name: n{number}
    nodeid: {number}
    ring0_addr: 10.9.0.{number}
  }}
"""


class Cluster:
    """All of it: what it is made of is gone with `close`."""

    def __init__(self) -> None:
        self._spaces = Spaces()
        self._nodes: dict[str, Process] = {}
        self._prober: Process | None = None
        try:
            self._cable()
            self._spaces.run("switch", ["sh", "-c", _BUILD], timeout=300.0).check_returncode()
            entries = (_COROSYNC_NODE.format(number=name[1:]) for name in NODES)
            self.write("corosync.conf", _COROSYNC + "".join(entries) + "}\n")
            self.write("cib.xml", _CIB)
            self.revive()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._spaces.close()

    # ------------------------------------------------------------------ the network

    def _cable(self) -> None:
        """eth0 of all is on one switch, eth1 of the nodes on another."""
        for name in ("switch", *NODES, "router", "client"):
            self._spaces.make(name)
        self.ip("switch", "link add br0 type bridge", "link set br0 up",
                "link add br1 type bridge", "link set br1 up")  # fmt: skip
        hosts = {"router": ROUTER, "client": "192.0.2.50"}
        hosts |= {name: f"192.0.2.10{name[1:]}" for name in NODES}
        for name, address in hosts.items():
            self._plug(name, 0, address)
        for name in NODES:
            self._plug(name, 1, f"10.9.0.{name[1:]}")

    def _plug(self, name: str, number: int, address: str) -> None:
        port, interface = f"{name}-{number}", f"eth{number}"
        self.ip("switch", f"link add {port} type veth peer name {interface} netns {name}",
                f"link set {port} master br{number} up")  # fmt: skip
        added = f"addr add {address}/24 dev {interface}"
        self.ip(name, "link set lo up", f"link set {interface} up", added)

    def ip(self, name: str, *commands: str) -> None:
        text = "".join(f"{command}\n" for command in commands)
        done = self._spaces.run(name, ["ip", "-batch", "-"], text=text)
        if done.returncode != 0:
            raise LabError(f"{name}: ip {commands}: {done.stderr}")

    def port(self, name: str, passes: bool, number: int = 0) -> None:
        """Have a node's switch port pass packets or not; its carrier stays."""
        argv = ["bridge", "link", "set", "dev", f"{name}-{number}", "state", "3" if passes else "0"]
        self._spaces.run("switch", argv).check_returncode()

    # ------------------------------------------------------------------ nodes

    def write(self, path: str, text: str) -> None:
        """A file of the lab: in every namespace it is below /run/lab."""
        (self._spaces.folder / path).write_text(text)

    def boot(self, name: str) -> None:
        self.ip(name, "addr flush dev eth0", f"addr add 192.0.2.10{name[1:]}/24 dev eth0")
        for number in (0, 1):
            self.port(name, True, number)
        flags = ("-m", "-u", "-i", "-p", "-f", "--kill-child")
        argv = ["unshare", *flags, "sh", "-c", _BOOT, "boot", name]
        with open(self._spaces.folder / f"{name}.log", "ab") as log:
            self._nodes[name] = self._spaces.start(name, argv, stdout=log, stderr=log)

    def cut(self, name: str) -> None:
        """Its power: no process is left, and nothing of it is on the network."""
        for number in (0, 1):
            self.port(name, False, number)
        self._nodes.pop(name).close()

    def enter(self, name: str, argv: Iterable[str]) -> list[str]:
        """The command that runs argv in a node."""
        pid = self._nodes[name].pid
        script = f'exec nsenter -t $(cat /proc/{pid}/task/{pid}/children) -m -u -i -n -p "$@"'
        return ["sh", "-c", script, "sh", "chroot", INSIDE, *argv]

    def run(
        self, name: str, *argv: str, text: str = "", timeout: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        return self._spaces.run(name, self.enter(name, argv), text=text, timeout=timeout)

    def hurry(self) -> None:
        """Whatever else this host does, have the lab's sessions served first (sched(7))."""
        script = "for one in /proc/[0-9]*; do echo -20 >$one/autogroup; done 2>/dev/null; :"
        self._spaces.run("switch", ["sh", "-c", script])

    def check(self, name: str, *argv: str, text: str = "", timeout: float = 120.0) -> str:
        """Its output. Raises LabError if it fails."""
        done = self.run(name, *argv, text=text, timeout=timeout)
        if done.returncode != 0:
            raise LabError(f"{name}: {' '.join(argv)}: {done.stdout}{done.stderr}")
        return done.stdout

    def pids(self, name: str, pattern: str) -> list[str]:
        """Of the node's processes with this command line, as the node numbers them."""
        return self.run(name, "pgrep", "-f", pattern).stdout.split()

    def start_pacemaker(self, name: str) -> None:
        self.check(name, "sh", "-c", "setsid pacemakerd </dev/null >/dev/null 2>&1 &")

    # ------------------------------------------------------------------ what is seen

    def online(self) -> list[str]:
        said = self.run(self.alive(), "crm_mon", "-1").stdout
        return re.findall(r"n\d", "".join(re.findall(r"Online: \[(.*)\]", said)))

    def alive(self) -> str:
        """A node on which Pacemaker runs; any, if it runs on none."""
        names = list(self._nodes)
        return next((name for name in names if self.pids(name, "^pacemakerd")), names[0])

    def revive(self) -> None:
        """Whatever was done to nodes and ports, have all of them work."""
        for name in NODES:
            if name not in self._nodes:
                self.boot(name)
            elif not self.pids(name, PACEMAKER):
                self.start_pacemaker(name)
            self.port(name, True)
        self.wait(lambda: self.online() == list(NODES), "three nodes are online", 120.0)

    def holders(self) -> list[str]:
        """The nodes that have the service address."""
        show = ["ip", "-o", "address", "show", "dev", "eth0"]
        return [name for name in self._nodes if f" {VIP}/" in self._spaces.run(name, show).stdout]

    def values(self, attribute: str = ATTRIBUTE) -> dict[str, str]:
        """The attribute on each node that has it."""
        said = self.run(self.alive(), "attrd_updater", "-Q", "-A", "-n", attribute).stdout
        found = re.findall(r'host="(n\d)" value="([^"]*)"', said)
        return {name: value for name, value in found if value not in ("", "(null)")}

    def wait(self, condition: Callable[[], object], what: str, limit: float = 60.0) -> None:
        """Raises TimeoutError with what the cluster says."""
        end = time.monotonic() + limit
        while not condition():
            if time.monotonic() > end:
                said = self.run(self.alive(), "crm_mon", "-1", "-A", "-f").stdout
                raise TimeoutError(f"not within {limit:g} s: {what}\n{said}\n{self.tails()}")
            time.sleep(0.1)

    def tails(self, lines: int = 15) -> str:
        logs = ((name, self._spaces.folder / f"{name}.log") for name in NODES)
        return "\n".join(
            f"--- {name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
            for name, log in logs
            if log.exists()
        )

    # ------------------------------------------------------------------ the client

    def probe(self) -> None:
        """Have the client ask the service address for an echo all the time, in a new record."""
        if self._prober is not None:
            self._prober.close()
        (self._spaces.folder / Path(_PROBES).name).unlink(missing_ok=True)
        program = str(Path(prober.__file__).resolve())
        argv = [sys.executable, "-I", program, VIP, "0.005", _PROBES]
        self._prober = self._spaces.start("client", argv)

    def record(self) -> Record:
        record = Record()
        path = self._spaces.folder / Path(_PROBES).name
        data = path.read_bytes() if path.exists() else b""
        whole = len(data) - len(data) % prober.RECORD.size
        for kind, at in prober.RECORD.iter_unpack(data[:whole]):
            (record.sent if kind == b"s" else record.replies).append(at)
        return record
