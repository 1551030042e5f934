"""The Lightning module: training and evaluation steps, what is logged, how the optimizer is wired."""

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from segtrain.checkpoint import FORMAT, count_in_parts, reopen_cut_epoch
from segtrain.inference.any_size import AnySize
from segtrain.losses.reduction import part_of_step
from segtrain.metrics.confusion import ConfusionMatrix
from segtrain.metrics.scores import scores
from segtrain.models.normalize import Normalize
from segtrain.sharding.strategy import ShardedStrategy

log = logging.getLogger("segtrain")


class SegmentationModule(pl.LightningModule):
    """A network, its loss and its score.

    Args:
        model: maps (N, channels, H, W) to logits (N, C, H, W); in training it may return a dict with "out" and
            auxiliary logits, each with a weight in its attribute `aux_weights`.
        loss: called with logits and mask.
        normalize: from uint8 images to the model's input.
        any_size: how whole images are predicted.
        class_names: C names.
        ignore_index: the label of void.
        optimizer: makes the optimizer from this module's model; None for evaluation only.
        scheduler: makes a schedule from the optimizer; it is stepped per iteration, or by `StepPlateau`.
        seed: with epoch, batch and rank, all that random layers depend on; None leaves them free.
        channels_last: memory format of images.
        crop_size: pixels along the side of an image that the network takes; read where its weights are shared out.
        config: the plain config that checkpoints carry.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        loss: nn.Module,
        normalize: Normalize,
        any_size: AnySize,
        class_names: Sequence[str],
        ignore_index: int,
        optimizer: Callable[[nn.Module], Optimizer] | None = None,
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        seed: int | None = None,
        channels_last: bool = True,
        crop_size: int = 256,
        config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.normalize = normalize
        self.any_size = any_size
        self.class_names = tuple(class_names)
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.seed = seed
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.crop_size = crop_size
        self.config = config or {}
        self.warned: set[str] = set()
        self.confusion = ConfusionMatrix(num_classes=len(class_names), ignore_index=ignore_index)

    def forward(self, image: Tensor) -> Any:
        """Return what the model returns for uint8 images (N, channels, H, W)."""
        return self.model(self._prepare(image))

    def _prepare(self, image: Tensor) -> Tensor:
        return self.normalize(image).contiguous(memory_format=self.memory_format)

    def predict_logits(self, image: Tensor) -> Tensor:
        """Return float32 logits (N, C, H, W) of uint8 images of any size."""
        return self.any_size(self.model, self._prepare(image))

    def configure_model(self) -> None:
        """Share the network's weights out, where the Trainer says so."""
        strategy = self.trainer.strategy
        if isinstance(strategy, ShardedStrategy):
            size = (self.normalize.mean.numel(), self.crop_size, self.crop_size)
            strategy.shard(self.model, size=size)

    def on_train_batch_start(self, batch: dict[str, Any], batch_idx: int) -> None:
        # a step depends on its number, not on how many came before it in this process
        self.seed_step(self.current_epoch, batch_idx)

    def seed_step(self, epoch: int, batch_idx: int) -> None:
        """Seed this rank's random layers for a batch of an epoch, unless they are left free."""
        if self.seed is not None:
            words = (self.seed, epoch, batch_idx, self.global_rank)
            torch.manual_seed(int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0]))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        output, mask = self(batch["image"]), batch["mask"]
        parts = self.trainer.accumulate_grad_batches if "step_labels" in batch else 1
        with part_of_step(mask, labels=batch["step_labels"], parts=parts) if parts > 1 else nullcontext():
            return self._loss(output, mask)  # which `TrainingLoss` logs

    def _loss(self, output: Any, mask: Tensor) -> Tensor:
        """Return the loss of the logits plus that of auxiliary logits, weighted as the model says."""
        if isinstance(output, Tensor):
            return self.loss(output, mask)
        weights = {"out": 1.0, **getattr(self.model, "aux_weights", {})}
        if unweighted := output.keys() - weights.keys():
            raise ValueError(f"{type(self.model).__name__}.aux_weights has no weight for {sorted(unweighted)}")
        return torch.stack([weights[name] * self.loss(logits, mask) for name, logits in output.items()]).sum()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        return self._evaluate(batch, "val")

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        return self._evaluate(batch, "test")

    def _evaluate(self, batch: dict[str, Any], stage: str) -> dict[str, Any]:
        """Score a batch of whole images; return "predictions", the class ids, one (H, W) an image."""
        predictions: list[Tensor] = []
        several = isinstance(batch["image"], list)  # images of several sizes
        images, masks = (batch["image"], batch["mask"]) if several else ([batch["image"]], [batch["mask"]])
        for image, mask in zip(images, masks, strict=True):
            logits = self.predict_logits(image)
            prediction = logits.argmax(dim=1)
            self.confusion.update(prediction, mask)
            # of each image, so that it does not depend on which others are scored with it, or by which process
            pairs = zip(logits.split(1), mask.split(1), strict=True)
            loss = torch.stack([self._loss(one, its) for one, its in pairs]).mean()
            self.log(f"{stage}/loss", loss, on_epoch=True, on_step=False, batch_size=len(mask), sync_dist=True)
            predictions += prediction.unbind()
        return {"predictions": predictions}

    def on_validation_epoch_end(self) -> None:
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        self._log_scores("test")

    def _log_scores(self, stage: str) -> None:
        matrix = self.confusion.compute()
        self.confusion.reset()
        self.scored = matrix  # for the table and the confusion matrix file
        self._warn_of_absent_classes(stage, matrix)
        values = {f"{stage}/{name}": value for name, value in scores(matrix, self.class_names).items()}
        # the matrix is already summed over the ranks
        self.log_dict({name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()})

    def _warn_of_absent_classes(self, stage: str, matrix: Tensor) -> None:
        """Say once which classes the masks of a split do not have: they are left out of the means."""
        absent = [name for name, count in zip(self.class_names, matrix.sum(dim=1).tolist(), strict=True) if not count]
        if absent and stage not in self.warned and self.global_rank == 0:
            self.warned.add(stage)
            log.warning(
                f"{stage}: no mask has a pixel of {', '.join(absent)}, so the means leave them out; "
                "are the masks class ids (not 0 and 255), and is dataset.ignore_index right?"
            )

    def configure_optimizers(self) -> Any:
        assert self.make_optimizer is not None, "built for evaluation only"
        optimizer = self.make_optimizer(self.model)
        if self.make_scheduler is None:
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": self.make_scheduler(optimizer),
                "interval": "step",
                "reduce_on_plateau": False,  # see lr_scheduler_step
            },
        }

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        if not isinstance(scheduler, ReduceLROnPlateau):  # StepPlateau steps those
            scheduler.step()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["segtrain_format"] = FORMAT
        checkpoint["config"] = self.config
        checkpoint["accumulate_grad_batches"] = self.trainer.accumulate_grad_batches

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # with max_steps Lightning would begin as inside an epoch, even behind a whole one, and leave out the next
        self.trainer.fit_loop._iteration_based_training = lambda: False  # type: ignore[method-assign]
        reopen_cut_epoch(checkpoint)
        count_in_parts(checkpoint, self.trainer.accumulate_grad_batches)
