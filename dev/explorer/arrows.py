"""What leads from one phase to another, in words: the arrows of the picture of `dev/picture`.

An arrow may begin at a group of phases; then it begins at every one of them. That there is no other
way, and that each is taken, is shown by exploring (tests/dev/test_picture.py).
"""

from __future__ import annotations

from typing import NamedTuple

from failoverd.pair import Phase

Group = tuple[Phase, ...]

DECIDING: Group = (Phase.STANDBY, Phase.RESOLVING, Phase.FENCING)
SWITCHING: Group = (Phase.PROMOTING, Phase.DEMOTING, Phase.TOLD)
GROUPS = {"deciding": DECIDING, "switching": SWITCHING}


class Arrow(NamedTuple):
    start: Phase | Group
    end: Phase
    words: str

    @property
    def starts(self) -> Group:
        return (self.start,) if isinstance(self.start, Phase) else self.start


# Beside them there is the first one, which leads to STANDBY: a start.
ARROWS = (
    Arrow(Phase.STANDBY, Phase.RESOLVING, "boot, heartbeat lost, no node active, operator"),
    Arrow(Phase.ACTIVE, Phase.RESOLVING, "interface failed, operator, role unconfirmed"),
    Arrow(SWITCHING, Phase.RESOLVING, "answer lost, stalled, still in doubt"),
    Arrow(Phase.RESOLVING, Phase.STANDBY, "no takeover"),
    Arrow(Phase.RESOLVING, Phase.ACTIVE, "the role stays"),
    Arrow(Phase.RESOLVING, Phase.FENCING, "the role is free, and $fence_prog is set"),
    Arrow(Phase.RESOLVING, Phase.TOLD, "the peer is told to stand by"),
    Arrow(Phase.FENCING, Phase.RESOLVING, "not fenced, but an operator asks"),
    Arrow(Phase.FENCING, Phase.STANDBY, "not fenced, or the peer takes the role"),
    Arrow(DECIDING, Phase.PROMOTING, "the role is free, or the peer gives it"),
    Arrow(DECIDING, Phase.DEMOTING, "switchover, the peer has the role, clean up"),
    Arrow(Phase.ACTIVE, Phase.DEMOTING, "both active, the peer takes the role"),
    Arrow(Phase.PROMOTING, Phase.ACTIVE, "the script succeeded"),
    Arrow(Phase.PROMOTING, Phase.DEMOTING, "the script failed"),
    Arrow(Phase.DEMOTING, Phase.STANDBY, "the script ended"),
    Arrow(Phase.DEMOTING, Phase.TOLD, "the script ended, and the peer is told to take over"),
    Arrow(Phase.DEMOTING, Phase.PROMOTING, "the script failed: the role is taken back"),
    Arrow(Phase.TOLD, Phase.PROMOTING, "the peer stands by, or did not take over"),
    Arrow(Phase.TOLD, Phase.STANDBY, "the peer is active, or refused to stand by"),
)
