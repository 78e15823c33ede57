"""What bin/demo runs: the story on real packets, or simulated where no namespaces can be made."""

from __future__ import annotations

import contextlib
import sys

from dev.lab.ending import guarded
from dev.lab.network import Lab
from dev.lab.simulation import Simulation
from dev.lab.spaces import NoNamespaces
from dev.lab.stage import LabStage
from dev.lab.story import Screen, Stage, tell


def main() -> int:
    return guarded("demo", lambda: play(Screen(sys.stdout)))


def play(screen: Screen) -> int:
    """Tell the story on the best stage that there is."""
    with contextlib.ExitStack() as stack:
        try:
            stage: Stage = LabStage(stack.enter_context(Lab()))
            screen.say("This is real: namespaces on this host, which is not touched itself.")
        except NoNamespaces as error:
            stage = Simulation()
            screen.say(f"No namespaces here ({error.reason}): simulated, in virtual time.")
        tell(stage, screen)
    return 0


if __name__ == "__main__":
    sys.exit(main())
