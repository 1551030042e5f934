"""Which values were tried already, and is there anything new?"""

import logging
import random
import sys
import time

import optuna
from optuna.trial import TrialState

from segtrain.sweep.combinations import combinations
from segtrain.sweep.lost import position, standing
from segtrain.sweep.ranges import Value
from segtrain.sweep.space import Space

log = logging.getLogger("segtrain")

DRAWING = 10.0  # seconds in which another worker draws the values of a trial


class Tried:
    """The values that the trials of a study have had.

    Args:
        study: Optuna's.
        space: what is searched.
    """

    def __init__(self, study: optuna.Study, space: Space) -> None:
        self.study = study
        self.combinations = combinations(space)  # None where there is no end of them
        self.in_vain: set[int] = set()  # numbers of trials whose values did not come in time

    def before(self, place: int, *, but: int | None = None) -> list[dict[str, Value]]:
        """Return the values of the trials before a place, once other workers have drawn them.

        Args:
            place: as `position` counts it.
            but: the number of a trial that is left out.
        """
        deadline = time.monotonic() + DRAWING
        while True:
            trials = standing(self.study.get_trials(deepcopy=False))
            before = [trial for trial in trials if position(trial) < place and trial.number != but]
            # a trial that is asked again has a folder if its values were drawn, and some of them at best if not
            drawing = {
                trial.number
                for trial in before
                if trial.state == TrialState.RUNNING and not {"worker", "folder"} & set(trial.user_attrs)
            } - self.in_vain
            if time.monotonic() > deadline:
                self.in_vain |= drawing
                drawing = set()
            if not drawing:
                return [{**trial.user_attrs.get("values", {}), **trial.params} for trial in before]
            time.sleep(0.05)

    def everything(self) -> bool:
        """Say whether a space that has an end is searched whole."""
        if self.combinations is None or self._new():
            return False
        log.info(f"all {len(self.combinations)} combinations of the space are tried, so the search ends with them")
        return True

    def enqueue_new(self) -> bool:
        """Have something tried that is new, where the sampler has only repeated itself; say whether there was any."""
        if new := self._new():
            self.study.enqueue_trial(random.choice(new))
        return bool(new)

    def _new(self) -> list[dict[str, Value]]:
        if self.combinations is None:
            return []
        tried = self.before(sys.maxsize)
        return [values for values in self.combinations if values not in tried]
