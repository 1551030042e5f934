"""Pictures of predictions: in TensorBoard after every validation, as `predictions.png` after the test."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from segtrain.visualize import Row, draw_grid, palette_of


class Pictures(pl.Callback):
    """Draw image, truth, prediction and error of some images, spread evenly over the split.

    Args:
        num_images: rows of a picture.
        class_names: for the legend.
        palette: one RGB colour a class; None for a default.
        ignore_index: void, drawn white in the truth.
    """

    def __init__(
        self,
        *,
        num_images: int,
        class_names: Sequence[str],
        ignore_index: int,
        palette: Sequence[Sequence[int]] | None = None,
    ) -> None:
        self.num_images = num_images
        self.class_names = class_names
        self.palette = palette_of(palette, len(class_names))
        self.ignore_index = ignore_index
        self.rows: list[Row] = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._collect(trainer, outputs["predictions"], batch, trainer.val_dataloaders)

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._collect(trainer, outputs["predictions"], batch, trainer.test_dataloaders)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        picture = self._draw()
        if picture is not None and not trainer.sanity_checking and isinstance(trainer.logger, TensorBoardLogger):
            trainer.logger.experiment.add_image(
                "val/predictions", picture, global_step=trainer.global_step - 1, dataformats="HWC"
            )

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        from PIL import Image

        picture = self._draw()
        if picture is not None:
            Image.fromarray(picture).save(Path(trainer.default_root_dir) / "predictions.png", optimize=True)

    def _collect(self, trainer: pl.Trainer, predictions: list[Tensor], batch: Any, loader: Any) -> None:
        if not trainer.is_global_zero:
            return
        count = len(loader.dataset)
        wanted = set(np.linspace(0, count - 1, min(self.num_images, count)).round().astype(int).tolist())
        images = [image for part in _as_list(batch["image"]) for image in part]
        masks = [mask for part in _as_list(batch["mask"]) for mask in part]
        for index, image, mask, prediction in zip(batch["index"].tolist(), images, masks, predictions, strict=True):
            if index in wanted:
                picture = image.permute(1, 2, 0).cpu().numpy()
                self.rows.append(Row(picture, _array(mask), _array(prediction)))

    def _draw(self) -> NDArray[np.uint8] | None:
        rows, self.rows = self.rows, []
        if not rows:
            return None
        return draw_grid(rows, palette=self.palette, class_names=self.class_names, ignore_index=self.ignore_index)


def _as_list(batch: Tensor | list[Tensor]) -> list[Tensor]:
    return batch if isinstance(batch, list) else [batch]


def _array(tensor: Tensor) -> NDArray[np.integer]:
    return tensor.cpu().numpy()
