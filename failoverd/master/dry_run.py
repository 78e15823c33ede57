"""A dry run: says what would be done, and goes on as if it had succeeded."""

from __future__ import annotations

from dataclasses import replace

from failoverd import pair
from failoverd.log import told_shortly
from failoverd.master.context import Context

TOLD = (pair.Query.FAIL, pair.Query.RESUME)  # what changes something at the peer


class DryRun:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._imagined = False  # it has come to a role that it does not really have

    def only_says(self, action: pair.Action) -> bool:
        """Whether the action was said in place of being done."""
        context = self._context
        match action:
            case pair.RunScript():
                self._say_placed(action.role)
                command = f"{context.conf.failover_prog} {action.role}"
                context.say("DRY-RUN", "script", "would run", command=command, cause=action.reason)
                self._imagined = True
                context.feed(pair.Ended("script", True))
            case pair.RunProgram():
                program = (
                    context.conf.fence_prog if action.kind == "fence" else context.conf.confirm
                )
                context.say("DRY-RUN", f"script {action.kind}", "would run", command=program)
                context.feed(pair.Ended(action.kind, action.kind == "fence", number=action.number))
            case pair.Ask() if action.query in TOLD:
                context.say("DRY-RUN", "peer", "would be told", command=action.query.value)
                context.feed(pair.Replied(action.query, True))
            case pair.Announce():
                context.say("DRY-RUN", "role", "gratuitous ARP would be sent")
            case pair.Heartbeats():
                pass
            case _:
                return False
        return True

    def _say_placed(self, role: str) -> None:
        conf, served = self._context.conf, [str(entry) for entry in self._context.conf.addresses]
        if served and conf.addresses_by == "failoverd":
            put, take = "service addresses would be added", "service addresses would be removed"
            text = put if role == "master" else take
            values = {"count": len(served), "addresses": told_shortly(served)}
            self._context.say("DRY-RUN", "role", text, **values)

    def imagine(self, view: pair.PeerView) -> pair.PeerView:
        """The peer as it would be if it had been told what was only logged."""
        role = self._context.role
        if role == "active" and view.role == "active":
            return replace(view, role="standby")
        if role == "standby" and self._imagined and view.role == "standby":
            return replace(view, role="active")
        return view
