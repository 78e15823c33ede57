"""What bin/demo runs: the story on real packets, or simulated where no namespaces can be made."""

from __future__ import annotations

import contextlib
import os
import sys

from failoverd.lab.network import Lab
from failoverd.lab.simulation import Simulation
from failoverd.lab.spaces import LabError, NoNamespaces, end_as_by_ctrl_c
from failoverd.lab.stage import LabStage
from failoverd.lab.story import Screen, Stage, tell


def main() -> int:
    end_as_by_ctrl_c()
    try:
        play(Screen(sys.stdout))
    except (TimeoutError, LabError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: stopped; nothing is left behind", file=sys.stderr)
        return 130
    except BrokenPipeError:  # as of `bin/demo | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def play(screen: Screen) -> None:
    """Tell the story on the best stage that there is."""
    with contextlib.ExitStack() as stack:
        try:
            stage: Stage = LabStage(stack.enter_context(Lab()))
            screen.say("This is real: namespaces on this machine, which is not touched itself.")
        except NoNamespaces as error:
            stage = Simulation()
            screen.say(f"No namespaces here ({error.reason}): simulated, in virtual time.")
        tell(stage, screen)


if __name__ == "__main__":
    sys.exit(main())
