"""Whether the peer is set as this node is: said once when it differs, once when it does no more."""

from __future__ import annotations

from failoverd import __version__, links
from failoverd.conf import alike
from failoverd.master.context import Context
from failoverd.wire.protocol import Status

GRAVE = ("@interfaces", "@addresses", "@ethernet_addresses")  # a takeover may fail for them


class Mismatch:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._said: dict[str, str] = {}

    def note(self, status: Status) -> None:
        self._note_boot(status.boot)
        self._note_hwaddrs(status)
        ours = alike.of_conf(self._context.conf, __version__)
        found = alike.differences(ours, alike.of_status(status))
        for name, sentence in sorted(found.items() - self._said.items()):
            event = "CONFIG-MISMATCH" if name in GRAVE else "SETTING-DIFFERS"
            text = "not the same on both nodes"
            self._context.say(event, "config", text, setting=name, difference=sentence)
        for name in sorted(self._said.keys() - found.keys()):
            self._context.say(
                "CONFIG-MATCH", "config", "the same on both nodes again", setting=name
            )
        self._said = found

    def _note_boot(self, boot: str) -> None:
        """Its host_type must differ."""
        if boot == self._context.boot:
            text = "both nodes have the same host_type, change one and restart failoverd there"
            self._context.say_once("BOOT-CLASH", "config", text, boot=boot)
        else:
            text = "the host_types differ again"
            self._context.say_over("BOOT-OK", "config", text, peer_boot=boot)

    def _note_hwaddrs(self, status: Status) -> None:
        """Each interface must have a hardware address of its own."""
        conf = self._context.conf
        own = links.hwaddrs(conf.interfaces)
        same = alike.one_hwaddr(conf, own, status)
        for name, hwaddr in own.items():
            subject = f"interface {name}"
            if name in same:
                text = "has the same hardware address on both nodes"
                self._context.say_once("HWADDR-CLASH", subject, text, hwaddr=hwaddr)
            else:
                text = "has another hardware address than the peer's again"
                self._context.say_over("HWADDR-OK", subject, text, hwaddr=hwaddr)
