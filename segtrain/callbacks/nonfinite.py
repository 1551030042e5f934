"""What happens when gradients are NaN or infinite: training stops and says at which images, or leaves the step out."""

import json
import logging
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from segtrain.errors import UserError
from segtrain.ranks.ending import resuming
from segtrain.sharding import slices

log = logging.getLogger("segtrain")

MOST_SKIPPED = 100  # steps in a row, after which nothing can be expected of the run
MOST_NAMED = 20  # images in a sentence


class NonFinite(pl.Callback):
    """Watch the gradients of every step, over all devices, for values that are not finite.

    To stop, the device is asked every `every_n_steps` steps and before each checkpoint, so that none has poisoned
    weights; to leave steps out, it is asked at every one. With float16 gradients overflow now and then, and the
    scaler leaves these steps out by itself: nothing is watched.

    Every gradient is read once more for it, at the speed of the memory. The norms took as long as sums or torch's fused
    check did, and a hook on each parameter no less. The loss alone would not tell the step: gradients can be infinite
    where it is not, and a loss that is NaN may be the fault of the step before.

    Args:
        run: the run folder, where `nonfinite.json` and `nonfinite.pt` go: the batch, or a list of those that made the
            step, of all ranks: each sees what they summed, and so not whose it was.
        policy: "stop" or "skip".
        every_n_steps: how often the device is asked.
    """

    def __init__(self, run: Path, *, policy: str, every_n_steps: int = 10) -> None:
        self.run = run
        self.policy = policy
        self.every_n_steps = every_n_steps
        self.places: list[tuple[int, int]] = []  # (epoch, batch) of each step since the device was asked
        self.bad: list[Tensor] = []  # of each of them
        self.skipped = 0
        self.in_a_row = 0

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not gradients or trainer.precision == "16-mixed":
            return
        norms = torch.stack(torch._foreach_norm([slices.local(gradient) for gradient in gradients]))
        bad = slices.on_any_rank(~torch.isfinite(norms).all(), gradients)
        place = (trainer.current_epoch, trainer.fit_loop.batch_idx)
        if self.policy == "skip":
            self._skip(trainer, optimizer, place) if bool(bad) else self._go_on()
            return
        self.places.append(place)
        self.bad.append(bad)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every_n_steps == 0:  # when the logger asks too
            self._ask(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._ask(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.skipped:
            log.warning(f"{self.skipped} steps were left out, whose gradients were not finite")

    def _ask(self, trainer: pl.Trainer) -> None:
        flags = torch.stack(self.bad).tolist() if self.bad else []
        places = self.places
        self.places, self.bad = [], []
        if True in flags:
            epoch, batch = places[flags.index(True)]
            names = self._write(trainer, epoch, batch)
            raise UserError(
                f"{_where(epoch, batch)}: the gradients are not finite (NaN or infinity), at these images: "
                f"{_named(names)}; {self.run / 'nonfinite.pt'} has the batch. Replay: {resuming(self.run)} "
                f"++trainer.detect_anomaly=true; else a smaller optimizer.lr, trainer.precision=32-true, "
                "trainer.gradient_clip_val=1 or nonfinite=skip"
            )

    def _skip(self, trainer: pl.Trainer, optimizer: Optimizer, place: tuple[int, int]) -> None:
        """Take the gradients away: an optimizer does nothing for parameters that have none."""
        optimizer.zero_grad(set_to_none=True)
        self.skipped += 1
        self.in_a_row += 1
        if self.in_a_row >= MOST_SKIPPED:
            raise UserError(f"nonfinite: the gradients of {self.in_a_row} steps in a row were not finite; give stop")
        if self.skipped == 1:
            names = self._write(trainer, *place)
            log.warning(
                f"{_where(*place)}: the gradients are not finite, so the step is left out, and so will be others: "
                f"{_named(names)}"
            )

    def _go_on(self) -> None:
        self.in_a_row = 0

    def _write(self, trainer: pl.Trainer, epoch: int, batch: int) -> list[str]:
        """Write the step's batches, rebuilt from the place of the last, and return the names of its images."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        parts = data.keys_of(epoch, batch)
        keys = [key for part in parts for key in part]
        names = [data.samples("train").names(key.sample)[0] for key in keys]
        if trainer.is_global_zero:
            facts = {"epoch": epoch, "batch": batch, "samples": [key._asdict() for key in keys], "images": names}
            (self.run / "nonfinite.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
            batches = [data.batch_of(part) for part in parts]
            torch.save(batches if len(batches) > 1 else batches[0], self.run / "nonfinite.pt")
        return names


def _named(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more (nonfinite.json)" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _where(epoch: int, batch: int) -> str:
    return f"epoch {epoch + 1}, batch {batch + 1}"
