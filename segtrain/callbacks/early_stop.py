"""When does training end because its score no longer gets better?"""

import logging
import math
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn

from segtrain.callbacks.agreement import Agreement

log = logging.getLogger("segtrain")


class EarlyStop(pl.Callback):
    """End training with the epoch in which the last of `patience` validations in a row brought no better score.

    Better is what replaces `best.ckpt`: any gain counts, and a score that is NaN or infinite is none. A run that ended
    so ends at once when it is resumed, unless the patience was raised.

    Args:
        monitor: the score's log key.
        mode: "max" or "min", whichever is better.
        patience: 1 or more.
    """

    def __init__(self, monitor: str, *, mode: str, patience: int) -> None:
        self.monitor = monitor
        self.mode = mode
        self.patience = patience
        self.best: float | None = None
        self.best_epoch = 0
        self.waited = 0
        self.stopped = False
        self.agreement = Agreement()

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.stopped = self.stopped and self.waited >= self.patience
        if self.stopped:
            self._say(trainer, "this run has stopped early")
            trainer.should_stop = True

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        score = float(trainer.callback_metrics[self.monitor])
        if self._is_better(score):
            self.best, self.best_epoch, self.waited = score, trainer.current_epoch, 0
        else:
            self.waited += 1

    def _is_better(self, score: float) -> bool:
        if not math.isfinite(score):
            return False
        return self.best is None or (score < self.best if self.mode == "min" else score > self.best)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # not right after the validation: one inside an epoch would end it there, and it could not be resumed
        early = trainer.current_epoch + 1 < (trainer.min_epochs or 0) or trainer.global_step < (trainer.min_steps or 0)
        if early or not self.agreement.largest(int(self.waited >= self.patience)):
            return
        self.stopped = trainer.should_stop = True
        self._say(trainer, f"stopping early, after epoch {trainer.current_epoch + 1}")

    def _say(self, trainer: pl.Trainer, what: str) -> None:
        best = "no validation had a score" if self.best is None else f"{self.best:.4f} in epoch {self.best_epoch + 1}"
        validations = "validation" if self.waited == 1 else "validations"
        if trainer.is_global_zero:
            log.info(
                f"{what}: {self.waited} {validations} brought no better {self.monitor} than the best ({best}); "
                f"early_stopping={self.waited + 1} or more, or null, goes on"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the best score, its epoch, and the validations since."""
        names = ("monitor", "mode", "best", "best_epoch", "waited", "stopped")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state; one of another score says nothing of this one."""
        if (state_dict["monitor"], state_dict["mode"]) == (self.monitor, self.mode):
            vars(self).update(state_dict)
