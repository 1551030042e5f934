"""How are the images of an optimizer step divided into batches, and what does each batch know of the others?"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segtrain.errors import UserError


def images_at_a_time(images: int, *, devices: int, accumulation: int, pairs: bool = False) -> int:
    """Return how many images of an optimizer step a device takes at a time.

    Args:
        images: `loader.batch_size`, of all devices together.
        devices: how many.
        accumulation: batches of a device that make one step.
        pairs: the images of a batch are mixed in pairs.

    Raises:
        UserError: if they cannot be divided so.
    """
    parts = devices * accumulation
    if images % parts:
        over = [f"over {devices} devices"] if devices > 1 else []
        over += [f"into the parts of trainer.accumulate_grad_batches={accumulation}"] if accumulation > 1 else []
        raise UserError(
            f"loader.batch_size: {images} images cannot be divided {' and '.join(over)}; give a multiple of {parts}"
        )
    each = images // parts
    if pairs and each % 2:
        raise UserError(
            f"loader.batch_size: augmentation.mix pairs the {each} images that a device takes at a time, so their "
            f"number must be even; give a multiple of {2 * parts}"
        )
    return each


def count_labels(masks: Iterable[NDArray[Any]], *, num_classes: int, ignore_index: int) -> Tensor:
    """Return how many pixels of some masks have each class, int64 (num_classes,)."""
    counts = np.zeros(num_classes, np.int64)
    for mask in masks:
        counts += np.bincount(mask[mask != ignore_index], minlength=num_classes)
    return torch.from_numpy(counts)


def tell_of_step(batches: Iterable[dict[str, Any]], *, pin: bool = False) -> None:
    """Replace each batch's "labels", its count of each class, by "step_labels", that of all these batches of a step.

    Args:
        batches: of one optimizer step.
        pin: in memory from which a GPU copies without waiting.
    """
    counts = torch.stack([batch.pop("labels") for batch in batches]).sum(dim=0)
    if pin:
        counts = counts.pin_memory()
    for batch in batches:
        batch["step_labels"] = counts
