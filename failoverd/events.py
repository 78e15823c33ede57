"""The events of the log. Alerts match their names: none changes in a minor release.

EVENTS is the only list: the log, $notify_prog and the list in failoverd(8) are made from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """With the priorities of syslog(3)."""

    ERR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6
    DEBUG = 7


ERR, WARNING, NOTICE, INFO, DEBUG = Level


@dataclass(frozen=True)
class Event:
    """meaning: for the manual. ended_by: the event that says that it is over. kept: each one is
    written, however often it comes. by_worker: a worker may log it."""

    level: Level
    meaning: str
    ended_by: str = ""
    kept: bool = False
    by_worker: bool = False


def _worker(level: Level, meaning: str, ended_by: str = "") -> Event:
    return Event(level, meaning, ended_by, by_worker=True)


def _kept(level: Level, meaning: str, ended_by: str = "") -> Event:
    return Event(level, meaning, ended_by, kept=True)


# What may stand before a line's sentence. The last three stand alone or name nothing more.
SUBJECTS = ("interface", "peer", "address", "script", "worker", "check", "role", "config")
ALONE = ("role", "config")

EVENTS: dict[str, Event] = {
    # the daemon
    "START": _kept(NOTICE, "failoverd starts"),
    "STARTED": _kept(NOTICE, "All workers are ready, and failoverd begins to decide"),
    "START-FAILED": _kept(ERR, "failoverd does not start: error= says why", "START"),
    "DRY-RUN": Event(INFO, "What a dry run would have done"),
    "STOP": _kept(NOTICE, "failoverd is told to stop"),
    "STOPPED": _kept(NOTICE, "failoverd has stopped; role, addresses and service stay"),
    "STATUS": _kept(INFO, "The status, as asked for by USR1"),
    "BUG": _kept(ERR, "A bug of failoverd: report it with the log"),
    "STALLED": Event(WARNING, "failoverd did not run for longer than a window: gap= says how long"),
    "MEMORY-SHORT": Event(WARNING, "failoverd found no memory, and goes on after a while"),
    "LOG-LOST": Event(WARNING, "Lines of the log could not be written: count= says how many"),
    "STATE-FAILED": Event(WARNING, "$state cannot be written", "STATE-OK"),
    "STATE-OK": Event(INFO, "$state can be written again"),
    "HISTORY-FAILED": Event(INFO, "A file that survives reboots, such as the history of the role, "
                            "cannot be written", "HISTORY-OK"),
    "HISTORY-OK": Event(INFO, "Such a file is written again"),
    "STATE-CORRECTED": Event(NOTICE, "The addresses are here, so $state is wrong and is ignored"),
    "PIDFILE-FAILED": Event(WARNING, "$pidfile cannot be written", "PIDFILE-OK"),
    "PIDFILE-OK": Event(INFO, "$pidfile can be written again"),
    "SOCKET-FAILED": Event(WARNING, "The Unix socket for ha-fail and ha-status cannot be created; "
                           "they use TCP", "SOCKET-OK"),
    "SOCKET-OK": Event(INFO, "The Unix socket for ha-fail and ha-status is there again"),
    "PS-FAILED": Event(WARNING, "$ps cannot be run: processes of a dead failoverd are not found"),
    "LEFTOVER-ENDED": Event(NOTICE, "A leftover worker of a dead failoverd is ended"),
    "LEFTOVER-WAIT": Event(NOTICE, "A leftover script of a dead failoverd still runs: failoverd "
                           "waits for it"),
    "LEFTOVER-KILLED": Event(WARNING, "A leftover script of a dead failoverd is killed"),
    "LEFTOVER-STUCK": Event(WARNING, "A leftover script of a dead failoverd cannot be killed"),
    # the configuration
    "CONFIG-WARNING": _kept(WARNING, "The configuration is valid, but does not fit the network"),
    "RELOAD": _kept(NOTICE, "The configuration is read again, by HUP"),
    "CONFIG-ERROR": _kept(INFO, "An error in a configuration that is rejected"),
    "CONFIG-REJECTED": _kept(WARNING, "The new configuration is invalid, the old one stays in "
                             "force", "CONFIG-RELOADED"),
    "CONFIG-RELOADED": _kept(NOTICE, "The configuration was read again"),
    "CONFIG-LATER": _kept(NOTICE, "A part of the new configuration is not in force yet"),
    "CONFIG-MISMATCH": Event(WARNING, "A list that takeovers need is not the same on both nodes",
                             "CONFIG-MATCH"),
    "SETTING-DIFFERS": Event(INFO, "A setting is not the same on both nodes", "CONFIG-MATCH"),
    "CONFIG-MATCH": Event(INFO, "A setting is the same on both nodes again"),
    "BOOT-CLASH": Event(WARNING, "Both nodes have the same host_type", "BOOT-OK"),
    "BOOT-OK": Event(INFO, "The host_types differ again"),
    "HWADDR-CLASH": Event(WARNING, "An interface has one hardware address on both nodes",
                          "HWADDR-OK"),
    "HWADDR-OK": Event(INFO, "The hardware addresses of an interface differ again"),
    "SECRET-CHANGED": Event(NOTICE, "This node has a new secret; heartbeats with the old one count "
                            "until the peer has it too", "SECRET-SHARED"),
    "SECRET-SHARED": Event(NOTICE, "Both nodes have the new secret"),
    # workers
    "WORKER-LOST": Event(NOTICE, "A worker has ended, and is started again", "WORKER-READY"),
    "WORKER-STUCK": Event(WARNING, "The kernel does not let a worker end", "WORKER-READY"),
    "WORKER-READY": Event(INFO, "A worker that was lost works again"),
    "MESSAGE-REFUSED": Event(WARNING, "A worker sent an invalid message"),
    "REALTIME-FAILED": _worker(WARNING, "$realtime is not permitted: the process goes on without"),
    "WATCHD-PROGRAM": Event(INFO, "$watchd is another program, and is executed"),
    "WATCHD-REFUSED": Event(WARNING, "$watchd does not report windows; failoverd's own watcher "
                            "replaces it"),
    "IFACE-UNWATCHED": Event(WARNING, "An interface is not watched: no windows are reported",
                             "IFACE-WATCHED"),
    "IFACE-WATCHED": Event(INFO, "An interface is watched again"),
    "WATCH-FAILED": _worker(WARNING, "An interface cannot be opened for watching", "WATCH-OK"),
    "WATCH-OK": _worker(INFO, "An interface is open for watching again"),
    "TARGET-FAILED": _worker(WARNING, "A probe target (@witness, or the peer) cannot be probed",
                             "TARGET-OK"),
    "TARGET-OK": _worker(INFO, "The probe targets can be probed again"),
    "DUMP-FAILED": _worker(WARNING, "$dumpfile cannot be written: packets are missing", "DUMP-OK"),
    "DUMP-OK": _worker(INFO, "$dumpfile can be written again"),
    "DUMP-OFF": Event(WARNING, "The disk of $dumpfile hangs: it is not written until HUP"),
    # interfaces
    "WINDOW": _kept(DEBUG, "A window has ended (with $verbose)"),
    "WINDOW-LATE": Event(INFO, "A window ended late, and is not judged: the node is busy",
                         "WINDOW-OK"),
    "WINDOW-OK": Event(INFO, "Windows end on time again"),
    "IFACE-FAIL": Event(WARNING, "An interface receives less than $low_water",
                        "IFACE-OK"),
    "IFACE-OK": Event(INFO, "An interface receives again, after= says after how long, or is no "
                      "longer watched"),
    "IFACE-DOWN": Event(WARNING, "A service interface is down or has no carrier", "IFACE-UP"),
    "IFACE-UP": Event(INFO, "A service interface is up and has a carrier"),
    "LINK-STATE": _worker(INFO, "An interface is up, down, has no carrier, or is gone: state="),
    "HWADDR-UNKNOWN": Event(WARNING, "An interface's own hardware address is not known"),
    # service checks
    "CHECK-FAIL": Event(WARNING, "A service check is bad: output= is the first line of its output",
                        "CHECK-OK"),
    "CHECK-OK": Event(INFO, "A service check is good again, or is no longer configured: after= "
                      "says after how long"),
    # the heartbeat link and the peer
    "HEARTBEAT-LOST": Event(WARNING, "No heartbeat was received in two windows", "HEARTBEAT-OK"),
    "HEARTBEAT-OK": Event(INFO, "Heartbeats are received again: after= says after how long"),
    "HEARTBEAT-UNSENT": _worker(WARNING, "Heartbeats cannot be sent", "HEARTBEAT-SENT"),
    "HEARTBEAT-SENT": _worker(INFO, "Heartbeats can be sent again"),
    "HEARTBEAT-OFF": Event(INFO, "This node stops its heartbeats, so that the peer can take "
                           "over", "HEARTBEAT-ON"),
    "HEARTBEAT-ON": Event(INFO, "This node sends heartbeats again"),
    "PEER-UNREACHABLE": Event(WARNING, "The peer does not answer queries", "PEER-REACHABLE"),
    "PEER-REACHABLE": Event(INFO, "The peer answers queries again"),
    "PATH-SECOND": Event(WARNING, "The peer answers over the second path only, not over the "
                         "heartbeat link", "PATH-PRIVATE"),
    "PATH-PRIVATE": Event(INFO, "The peer answers over the heartbeat link again"),
    "PEER-BLOCKED": Event(WARNING, "Heartbeats are received, but the peer's port does not answer: "
                          "check the firewall, the MTU of the heartbeat link and $tcp_port",
                          "PEER-UNBLOCKED"),
    "PEER-UNBLOCKED": Event(INFO, "The peer's port answers again"),
    "PEER-INVALID": Event(WARNING, "The peer's status is invalid"),
    "PORT-OPEN": _worker(INFO, "The port is open on the heartbeat link, or on a service interface "
                         "for the second path"),
    "PORT-LOCAL": _worker(INFO, "The heartbeat link is down: the port is open to this node only"),
    "PORT-FAILED": _worker(WARNING, "The port cannot be opened", "PORT-OPEN"),
    # requests
    "REQUEST-REFUSED": _worker(WARNING, "A client was refused: it did not authenticate, or may not "
                               "connect"),
    "SWITCHOVER-REQUESTED": _kept(NOTICE, "An operator asks for a switchover: via= and user= or "
                                  "client= say who"),
    "SWITCHOVER-DONE": _kept(NOTICE, "The operator's request was carried out"),
    "SWITCHOVER-REFUSED": _kept(WARNING, "The operator's request was refused"),
    "PEER-REQUESTED": Event(NOTICE, "The peer tells this node to take over or to stand by"),
    "PEER-SERVED": _kept(NOTICE, "The peer's request was carried out"),
    "PEER-DENIED": _kept(WARNING, "The peer's request was refused"),
    "PEER-TOLD": Event(NOTICE, "The peer is told to take over or to stand by"),
    "PEER-DONE": _kept(NOTICE, "The peer has done what it was told"),
    "PEER-REFUSED": _kept(WARNING, "The peer refused what it was told"),
    # holds
    "HOLD-ON": _kept(WARNING, "An operator has put changes of role on hold: by=, node= and until= "
                     "say who, where and until when; again at each start", "HOLD-OFF"),
    "HOLD-OFF": _kept(NOTICE, "Changes of role are no longer on hold: released, or expired"),
    "HOLD-NONE": _kept(INFO, "An operator asked for a release, but nothing was on hold"),
    "HOLD-REFUSED": _kept(WARNING, "A hold or a release that an operator asked for was refused"),
    "HOLD-FAILED": Event(WARNING, "The file of the hold cannot be read, and counts as no hold, or "
                         "cannot be written", "HOLD-KEPT"),
    "HOLD-KEPT": Event(INFO, "The hold is in its file again"),
    # the role
    "ROLE": _kept(NOTICE, "This node has another role: from=, cause= and took= say how it came"),
    "TAKEOVER": _kept(NOTICE, "This node takes over"),
    "TAKEOVER-BLOCKED": Event(WARNING, "This node would take over, but must not: the line says why",
                              "UNBLOCKED"),
    "FAILBACK-WAIT": Event(INFO, "The preferred node does not take its role back yet, or at all",
                           "UNBLOCKED"),
    "HELD": Event(WARNING, "This node would change its role, but an operator has put changes on "
                  "hold", "HOLD-OFF"),
    "CALL": _kept(NOTICE, "This node takes the role, and tells the peer to stand by first"),
    "SWITCHOVER": _kept(NOTICE, "This node stands down, so that the peer becomes active"),
    "SWITCHOVER-BLOCKED": Event(WARNING, "This node would stand down, but keeps the role: the line "
                                "says why", "UNBLOCKED"),
    "SWITCHOVER-FAILED": Event(WARNING, "A switchover failed, and this node takes the role back"),
    "SWITCHOVER-CANCELLED": Event(INFO, "The interface receives again: the role stays"),
    "UNBLOCKED": _kept(INFO, "A change of role is no longer blocked"),
    "DOUBT": Event(WARNING, "It is not known whether the peer has the role; this node asks",
                   "DOUBT-OVER"),
    "DOUBT-OVER": _kept(INFO, "The doubt is over: role= says what this node is now"),
    "YIELD": Event(WARNING, "The peer has the role: this node stands down"),
    "SPLIT-BRAIN": Event(ERR, "Both nodes are active: winner= keeps the role, or the host with the "
                         "hardware address by=", "UNITED"),
    "UNITED": _kept(NOTICE, "The split brain is over"),
    "SERVICE-DOWN": _kept(ERR, "No node has been active for longer than failoverd -t allows",
                          "SERVICE-UP"),
    "SERVICE-UP": _kept(NOTICE, "A node is active again"),
    # addresses
    "GARP": Event(INFO, "Gratuitous ARP, or an unsolicited neighbour advertisement, was sent"),
    "GARP-FAILED": Event(WARNING, "Gratuitous ARP cannot be sent", "GARP"),
    "PROBE-FAILED": Event(WARNING, "The service addresses cannot be probed on an interface: a "
                          "takeover may never come", "PROBE-OK"),
    "PROBE-OK": Event(INFO, "The service addresses can be probed again"),
    "DUPLICATE": Event(ERR, "Another host answers for a service address of this node",
                       "DUPLICATE-OVER"),
    "DUPLICATE-OVER": _kept(NOTICE, "No other host answers for the service addresses any more"),
    "ADDRESSES-PLACED": _kept(INFO, "failoverd has added the service addresses: count= says how "
                              "many were not there yet"),
    "ADDRESSES-TAKEN": _kept(INFO, "failoverd has removed the service addresses: count= says how "
                             "many were there"),
    "ADDRESS-FAILED": _kept(WARNING, "The kernel refuses to add or remove a service address, so "
                            "the switch fails: error= says why"),
    "ADDRESS-LOST": Event(ERR, "The service addresses are gone from their interface", "ROLE"),
    "ADDRESS-STRAY": Event(ERR, "A service address is on this standby, and is removed", "ROLE"),
    "ADDRESS-FOUND": Event(NOTICE, "A service address has appeared on this node"),
    # scripts
    "SCRIPT-START": _kept(INFO, "A script is started"),
    "SCRIPT-OUTPUT": Event(INFO, "What a script printed"),
    "SCRIPT-END": _kept(INFO, "A script has ended; exit= and took= say how"),
    "HOOK-FAILED": Event(WARNING, "A hook of $switch_dir failed; the switch goes on"),
    "SCRIPT-DROPPED": Event(INFO, "A script is ended: its result is no longer needed"),
    "SCRIPT-UNVERIFIED": Event(WARNING, "The addresses cannot be read: the exit status of the "
                               "script counts"),
    "SWITCH-FAILED": _kept(ERR, "The switch script failed, or did not do its work", "SWITCH-OK"),
    "SWITCH-OK": _kept(INFO, "The switch script works again"),
    "SWITCH-UNDONE": Event(WARNING, "The switch script succeeded, but the addresses are not as "
                           "they should be"),
    "SWITCH-RETRY": Event(INFO, "The switch script has failed again"),
    "FENCE-FAILED": _kept(ERR, "Fencing failed, so there is no takeover", "FENCE-OK"),
    "FENCE-OK": _kept(NOTICE, "Fencing succeeded"),
    "CONFIRM-FAILED": Event(WARNING, "The program of $confirm gave no result"),
    "NOTIFY-FAILED": Event(WARNING, "$notify_prog failed; it is not run for this"),
    # watchd --track and --exec
    "SENSOR-FAILED": Event(WARNING, "The file of watchd --track cannot be written, or the program "
                           "of --exec failed; watchd tries again", "SENSOR-OK"),
    "SENSOR-OK": Event(INFO, "The file was written, or the program succeeded"),
}  # fmt: skip

ENDS: dict[str, tuple[str, ...]] = {
    end: tuple(name for name, event in EVENTS.items() if event.ended_by == end)
    for end in {event.ended_by for event in EVENTS.values()} - {""}
}
WORKER_EVENTS = tuple(name for name, event in EVENTS.items() if event.by_worker)


def notifies(name: str, ends: bool) -> bool:
    """Whether $notify_prog is run for a line; ends: it ends a problem of which it was told. A role
    has a run of its own, and a $notify_prog that fails is not told so."""
    worth = EVENTS[name].level <= WARNING or ends
    return worth and name not in ("ROLE", "NOTIFY-FAILED")
