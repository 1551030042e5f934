"""Samples as pure functions of (seed, epoch, index), and batches of them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from segtrain.data.augmentation import Augmentation
from segtrain.data.cache import Cache
from segtrain.data.labels import LabelMap
from segtrain.data.masks import Mask
from segtrain.data.mixing import Mix
from segtrain.data.pairs import Sample
from segtrain.data.progressive import Progressive
from segtrain.data.sample_check import check_sample
from segtrain.data.source import Source, mask_of, names_of, weights_of
from segtrain.data.threads import each_sample
from segtrain.errors import DataError, message_of

REPLACEMENTS = 16  # samples that are tried in the place of one that cannot be read


class Key(NamedTuple):
    """What a sample depends on, beside the seed; `repeat` counts how often it came before in the epoch."""

    epoch: int
    sample: int
    repeat: int = 0


class Samples(Dataset[dict[str, Any]]):
    """A source's samples, checked and augmented.

    Args:
        source: images and masks.
        augmentation: applied to each sample, or None.
        progressive: resizes what was augmented, by the epoch, or None.
        seed: with epoch and index, all that the augmentation's draws depend on.
        num_classes: labels are 0 to num_classes - 1,
        ignore_index: or this.
        labels: from the mask's values to these labels; None where they are the same.
        cache: of what `read` returns, or None.
        skip_bad: a sample that cannot be read is replaced by the next one that can, and named in the batch.
    """

    def __init__(
        self,
        source: Source,
        *,
        augmentation: Augmentation | None,
        progressive: Progressive | None = None,
        seed: int,
        num_classes: int,
        ignore_index: int,
        labels: LabelMap | None = None,
        cache: Cache | None = None,
        skip_bad: bool = False,
    ) -> None:
        self.source = source
        self.labels = labels
        self.cache = cache
        self.skip_bad = skip_bad
        self._counts: NDArray[np.int64] | None = None
        self.dtype: np.dtype[Any] | None = None  # of the first image that was read; all must have it
        self.augmentation = augmentation
        self.progressive = progressive
        self.seed = seed
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.mask_dtype = np.uint8 if 0 <= ignore_index <= 255 and num_classes <= 256 else np.int32

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: Key | tuple[int, int]) -> dict[str, Any]:
        """Return image (H, W, C), mask (H, W), index, and the seed for mixing it with another.

        Raises:
            DataError: if the source cannot read it, or its mask does not fit; the file is named.
        """
        key = Key(*key)
        seed, mix_seed = sample_seeds(self.seed, key)
        index, (image, mask), bad = self._read_or_replace(key.sample)
        if self.augmentation is not None:
            image, mask = self.augmentation(image, mask, seed=seed)
        if self.progressive is not None:
            image, mask = self.progressive(image, mask, epoch=key.epoch)
        return {"image": image, "mask": mask, "index": index, "seed": mix_seed, "bad": bad}

    def _read_or_replace(self, index: int) -> tuple[int, Sample, list[str]]:
        """Return a sample's index and what it holds; with `skip_bad` the first good one from there, and why."""
        bad: list[str] = []
        while True:
            try:
                return index, self.read(index) if self.cache is None else self.cache[index], bad
            except DataError as error:
                bad.append(message_of(error))
                if not self.skip_bad or len(bad) > REPLACEMENTS:
                    raise
                index = (index + 1) % len(self)

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
                "them to one depth"
            )
        return image, mask.astype(self.mask_dtype, copy=False)  # into which ignore_index, of padding, fits

    def names(self, index: int) -> tuple[str, str]:
        """Return what messages call a sample's image and mask."""
        return names_of(self.source, index)

    @property
    def weights(self) -> Sequence[float] | None:
        """The weight of every sample; None if the data set has none."""
        return weights_of(self.source)

    def presence(self) -> NDArray[np.bool_]:
        """Return (N, num_classes): which classes the mask of each sample has; reads all masks.

        Raises:
            DataError: if a mask cannot be read.
        """
        return self.label_counts() > 0

    def label_counts(self) -> NDArray[np.int64]:
        """Return (N, num_classes): how many pixels of each class the mask of each sample has; reads all masks, once.

        Raises:
            DataError: if a mask cannot be read.
        """
        if self._counts is not None:
            return self._counts

        def count(index: int) -> NDArray[np.int64]:
            mask = self.cache.mask(index) if self.cache is not None else self._mask(index)
            valid = mask[(mask != self.ignore_index) & (mask >= 0) & (mask < self.num_classes)]
            return np.bincount(valid, minlength=self.num_classes)

        self._counts = np.array(list(each_sample(self.source, count)))
        return self._counts

    def _mask(self, index: int) -> Mask:
        mask = mask_of(self.source, index)
        return mask if self.labels is None else self.labels(mask)


def _depth(dtype: np.dtype[Any]) -> str:
    return "8-bit" if dtype == np.uint8 else "of more than 8 bits"


def sample_seeds(seed: int, key: Key) -> tuple[int, int]:
    """Return 32 well-mixed bits for a sample's augmentation, and 32 for mixing it with another."""
    augmentation, mix = np.random.SeedSequence((seed, *key)).generate_state(2).tolist()
    return augmentation, mix


def collate(
    samples: Sequence[dict[str, Any]],
    *,
    mix: Mix | None = None,
    count: Callable[[Iterable[Mask]], Tensor] | None = None,
) -> dict[str, Any]:
    """Return a batch: image (N, C, H, W) in channels_last order, mask (N, H, W), index (N,).

    Images of several sizes (validation without crops) are lists of such tensors with N = 1.

    Args:
        samples: as `Samples` returns them.
        mix: mixes images of one size with each other, or None.
        count: of the batch's masks (H, W), which is put beside them as "labels"; None for none.
    """
    index = torch.tensor([sample["index"] for sample in samples])
    images, masks = [sample["image"] for sample in samples], [sample["mask"] for sample in samples]
    if len({image.shape for image in images}) > 1:
        return {
            "image": [_channels_first(image[None]) for image in images],
            "mask": [torch.from_numpy(mask[None].copy()) for mask in masks],
            "index": index,
            **({} if count is None else {"labels": count(masks)}),
        }
    several, truth = np.stack(images), np.stack(masks)
    if mix is not None:
        several, truth = mix(several, truth, seeds=[sample["seed"] for sample in samples])
    batch = {"image": _channels_first(several), "mask": torch.from_numpy(truth), "index": index}
    bad = [sentence for sample in samples for sentence in sample.get("bad", ())]
    batch |= {} if count is None else {"labels": count(truth)}
    return {**batch, "bad": bad} if bad else batch


def unbatch(batches: Iterable[dict[str, Any]]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield the image (H, W, C) and mask (H, W) of every sample of some batches."""
    for batch in batches:
        images, masks = batch["image"], batch["mask"]
        if isinstance(images, list):  # of several sizes
            images, masks = ([part[0] for part in parts] for parts in (images, masks))
        for image, mask in zip(images, masks, strict=True):
            yield image.permute(1, 2, 0).numpy(), mask.numpy()


def _channels_first(images: NDArray[Any]) -> Tensor:
    """Return (N, H, W, C) as (N, C, H, W); what lies in a read-only cache is copied."""
    return torch.from_numpy(images if images.flags.writeable else images.copy()).permute(0, 3, 1, 2)
