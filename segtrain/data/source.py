"""What a data set must offer, and what it may: names, files, masks by themselves, weights."""

from collections.abc import Sequence
from typing import Protocol

from segtrain.data.images import Image
from segtrain.data.masks import Mask
from segtrain.data.pairs import Files, Sample


class Source(Protocol):
    """What a data set must offer: a length, and (image (H, W, C), mask (H, W)) by index.

    The image is uint8, or float32 in 0 to 1. If it also has `names(index)`, messages name its files; `mask(index)`
    spares the image where the mask is all that is wanted; `files(index)` says which files a cache depends on;
    `weights`, if it has them, are those of its samples.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


class MakeSource(Protocol):
    """What opens a split."""

    def __call__(self, *, split: str) -> Source: ...


def names_of(source: Source, index: int) -> tuple[str, str]:
    """Return what messages call a sample's image and mask."""
    names = getattr(source, "names", None)
    return names(index) if callable(names) else (f"sample {index}", f"sample {index}")


def image_of(source: Source, index: int) -> Image:
    """Return an image (H, W, C)."""
    image = getattr(source, "image", None)
    return image(index) if callable(image) else source[index][0]


def mask_of(source: Source, index: int) -> Mask:
    """Return a mask (H, W), as the source has it."""
    mask = getattr(source, "mask", None)
    return mask(index) if callable(mask) else source[index][1]


def files_of(source: Source, index: int) -> tuple[Files, Files] | None:
    """Return the files of a sample's image and mask; None if the source does not say."""
    files = getattr(source, "files", None)
    return files(index) if callable(files) else None


def weights_of(source: Source) -> Sequence[float] | None:
    """Return the weight of every sample; None if the source has none."""
    return getattr(source, "weights", None)
