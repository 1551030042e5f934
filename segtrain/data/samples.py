"""Samples as pure functions of (seed, epoch, index), and batches of them."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from segtrain.data.augmentation import Augmentation
from segtrain.data.images import Image
from segtrain.data.labels import LabelMap
from segtrain.data.pairs import Sample
from segtrain.data.sample_check import check_sample
from segtrain.errors import DataError

Key = tuple[int, int]  # (epoch, index)


class Source(Protocol):
    """What a data set must offer: a length, and (image (H, W, C), mask (H, W)) by index.

    The image is uint8, or float32 in 0 to 1. If it also has `names(index)`, messages name its files; `weights`, if it
    has them, are those of its samples.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


class Samples(Dataset[dict[str, Any]]):
    """A source's samples, checked and augmented.

    Args:
        source: images and masks.
        augmentation: applied to each sample, or None.
        seed: with epoch and index, all that the augmentation's draws depend on.
        num_classes: labels are 0 to num_classes - 1,
        ignore_index: or this.
        labels: from the mask's values to these labels; None where they are the same.
    """

    def __init__(
        self,
        source: Source,
        *,
        augmentation: Augmentation | None,
        seed: int,
        num_classes: int,
        ignore_index: int,
        labels: LabelMap | None = None,
    ) -> None:
        self.source = source
        self.labels = labels
        self.dtype: np.dtype[Any] | None = None  # of the first image that was read; all must have it
        self.augmentation = augmentation
        self.seed = seed
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.mask_dtype = np.uint8 if 0 <= ignore_index <= 255 and num_classes <= 256 else np.int32

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        """Return image (H, W, C), mask (H, W) and index of the sample `index` in `epoch`.

        Raises:
            DataError: if the source cannot read it, or its mask does not fit; the file is named.
        """
        epoch, index = key
        image, mask = self.read(index)
        mask = mask.astype(self.mask_dtype, copy=False)  # padding with ignore_index must fit into it
        if self.augmentation is not None:
            image, mask = self.augmentation(image, mask, seed=sample_seed(self.seed, epoch, index))
        return {"image": image, "mask": mask, "index": index}

    def read(self, index: int) -> Sample:
        """Return a sample as it is, with class ids, checked.

        Raises:
            DataError: if the source cannot read it, or its mask does not fit; the file is named.
        """
        image, mask = self.source[index]
        if self.labels is not None:
            mask = self.labels(mask)
        image_name, mask_name = self.names(index)
        check_sample(
            image,
            mask,
            image_name=image_name,
            mask_name=mask_name,
            num_classes=self.num_classes,
            ignore_index=self.ignore_index,
        )
        if self.dtype is None:
            self.dtype = image.dtype
        if image.dtype != self.dtype:
            raise DataError(
                f"{image_name}: is {_depth(image.dtype)}, and the images before it are {_depth(self.dtype)}; convert "
                "it, or give dataset.value_range, which makes all of them numbers in 0 to 1"
            )
        return image, mask

    def names(self, index: int) -> tuple[str, str]:
        """Return what messages call a sample's image and mask."""
        names = getattr(self.source, "names", None)
        return names(index) if callable(names) else (f"sample {index}", f"sample {index}")


def _depth(dtype: np.dtype[Any]) -> str:
    return "8-bit" if dtype == np.uint8 else "of more than 8 bits"


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """Return 32 well-mixed bits for one sample."""
    return int(np.random.SeedSequence((seed, epoch, index)).generate_state(1)[0])


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a batch: image (N, C, H, W) in channels_last order, mask (N, H, W), index (N,).

    Images of several sizes (validation without crops) are lists of such tensors with N = 1.
    """
    index = torch.tensor([sample["index"] for sample in samples])
    images = [_channels_last(sample["image"]) for sample in samples]
    masks = [torch.from_numpy(np.ascontiguousarray(sample["mask"]))[None] for sample in samples]
    if len({image.shape for image in images}) > 1:
        return {"image": [image.permute(0, 3, 1, 2) for image in images], "mask": masks, "index": index}
    return {"image": torch.cat(images).permute(0, 3, 1, 2), "mask": torch.cat(masks), "index": index}


def _channels_last(image: Image) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image))[None]  # (1, H, W, C)
