"""A process that ends in order once the one that started it is gone, however that one ended."""

import os
import signal
import threading
import time

VARIABLE = "SEGTRAIN_LIFELINE"
PATIENCE = 300.0  # seconds for the checkpoint of a process that has been asked to end


class Lifeline:
    """A pipe whose reading end is the standard input of the processes that this one starts.

    Nothing is ever written to it. The kernel closes the writing end together with this process, `kill -9` or not, and
    that is what the others read. Standard input is handed on by torchrun and by Lightning to the ranks of a run.
    """

    def __init__(self) -> None:
        self.stdin, self._end = os.pipe()  # neither is inherited but as the standard input

    def environment(self) -> dict[str, str]:
        """Return the variable by which a process knows what its standard input is."""
        return {VARIABLE: "stdin"}

    def cut(self) -> None:
        """Ask all processes that hold it to end."""
        os.close(self._end)
        os.close(self.stdin)


def hold_lifeline() -> None:
    """End as by SIGTERM, which saves first, once the other end of the lifeline is gone; without one do nothing."""
    if os.environ.get(VARIABLE) == "stdin":
        threading.Thread(target=_hold, args=(0,), daemon=True, name="lifeline").start()


def _hold(descriptor: int) -> None:
    while os.read(descriptor, 1):
        pass  # what somebody has written is not its end
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os.killpg(os.getpgrp(), signal.SIGKILL)  # it hangs, and blocks its folder for whoever goes on with the run
