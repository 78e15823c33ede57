"""TEMPORARY stand-in by the lead so that master.py can be tried; replace it (keep Runner's use in master.py working, or tell the lead)."""
from __future__ import annotations
import os, signal, subprocess, time
from dataclasses import dataclass

@dataclass(frozen=True)
class Result:
    exit: int
    seconds: float
    timed_out: bool

def environment(conf, role, reason, own):
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "FAILOVER_ROLE": role, "FAILOVER_REASON": reason,
      "FAILOVER_INTERFACES": "\n".join(conf.interfaces), "FAILOVER_ADDRESSES": "\n".join(map(str, conf.addresses)),
      "FAILOVER_ETHERNET_ADDRESSES": "\n".join(map(str, conf.ethernet_addresses)),
      "FAILOVER_OWN_ETHERNET_ADDRESSES": "\n".join(f"{k} {v}" for k, v in own.items()),
      "FAILOVER_PRIMARY": conf.primary, "FAILOVER_SECONDARY": conf.secondary}

class Runner:
    def __init__(self, argv, environment, timeout):
        self.name = os.path.basename(argv[0]); self.began = time.monotonic(); self.identity = None
        self.pid = 0; self._fd = -1; self.p = None
        try:
            self.p = subprocess.Popen(argv, env=environment, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        except OSError as e:
            self.err = e; return
        self.pid = self.p.pid; self.identity = (self.pid, 0)
        self._fd = os.pidfd_open(self.pid)
    def fileno(self): return self._fd
    def lines(self): return []
    def reap(self):
        if self.p is None: return Result(127, 0.0, False)
        os.close(self._fd); return Result(self.p.wait(), time.monotonic() - self.began, False)

def running(pid, start): return False
def kill_group(pid): os.killpg(pid, signal.SIGKILL)
