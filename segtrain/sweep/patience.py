"""What happens while the storage of a study does not answer?"""

import functools
import logging
import math
import time
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import optuna
from sqlalchemy.exc import SQLAlchemyError

from segtrain.errors import UserError, first_line
from segtrain.sweep.lost import HEARTBEAT

log = logging.getLogger("segtrain")

PATIENCE = 600.0  # seconds for a database to come back; trials go on training meanwhile
LONGEST_PAUSE = 10.0  # seconds between two calls

S = TypeVar("S", bound="Patient")
P = ParamSpec("P")
T = TypeVar("T")

SILENT = (optuna.exceptions.StorageInternalError, SQLAlchemyError)


class TakenError(Exception):
    """The study has a trial as ended that still trains here: another worker took this one for dead."""


class Patience:
    """Repeats a call until the storage answers, or for too long.

    Args:
        where: the storage, for the sentence; without a password.
        seconds: how long it may be silent.
        sleep: waits some seconds.
        clock: the time in seconds.
    """

    def __init__(
        self,
        where: str,
        *,
        seconds: float = PATIENCE,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.where = where
        self.seconds = seconds
        self.sleep = sleep
        self.clock = clock
        self.silent_at = -math.inf  # when it was last silent for so long that heartbeats of workers are missing

    def has_answered_for(self, seconds: float) -> bool:
        """Say whether no heartbeat can be missing in the last seconds by the storage's silence, as it was seen here."""
        return self.clock() - self.silent_at > seconds

    def call(self, function: Callable[[], T]) -> T:
        """Return what a function returns that asks the storage.

        Raises:
            TakenError: if it would change a trial that has ended.
            UserError: if the storage does not answer any more.
        """
        began, pause = self.clock(), 0.5
        while True:
            try:
                answer = function()
            except optuna.exceptions.UpdateFinishedTrialError as error:
                raise TakenError from error
            except SILENT as error:
                said = first_line(error.__cause__ or error)
                silent = self._silence(began)
                if silent >= self.seconds:
                    raise UserError(
                        f"storage: {self.where} has not answered for {silent:.0f} s ({said}); the trials are saved, "
                        "and the same command goes on with them once it answers"
                    ) from error
                if pause == 0.5:
                    log.warning(f"storage: {self.where} does not answer ({said}); it is tried again, trials go on")
            else:
                self._silence(began)
                if pause > 0.5:
                    log.info(f"storage: {self.where} answers again")
                return answer
            self.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _silence(self, began: float) -> float:
        """Return for how long the storage has not answered, and note what is long."""
        silent = self.clock() - began
        if silent > HEARTBEAT:
            self.silent_at = self.clock()
        return silent


class Patient(Protocol):
    """What asks a storage with patience."""

    patience: Patience


def patiently(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Repeat a method until its storage answers; it must do no harm twice."""

    @functools.wraps(method)
    def call(self: S, /, *arguments: P.args, **options: P.kwargs) -> T:
        return self.patience.call(lambda: method(self, *arguments, **options))

    return call
