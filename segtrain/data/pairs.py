"""A data set of image files, each with a mask file; and how the two are found by name."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from segtrain.config.suggest import listed
from segtrain.data.images import IMAGE_SUFFIXES, Image, ImageReader
from segtrain.data.masks import MASK_SUFFIXES, MaskReader
from segtrain.errors import DataError

Sample = tuple[Image, NDArray[np.integer]]
Files = tuple[Path, ...]  # one, or those that make one image or mask together


class PairedFiles(Dataset[Sample]):
    """Images and masks, file by file.

    Args:
        images: the file or files of each image.
        masks: those of each mask.
        image: reads an image; None for RGB.
        mask: reads a mask; None for class ids.
        weights: of each sample, where the data set has any.

    Raises:
        DataError: if there are not as many masks as images.
    """

    def __init__(
        self,
        images: Sequence[Files],
        masks: Sequence[Files],
        *,
        image: ImageReader | None = None,
        mask: MaskReader | None = None,
        weights: Sequence[float] | None = None,
    ) -> None:
        if len(images) != len(masks):
            raise DataError(f"dataset: {len(images)} images and {len(masks)} masks; every image needs one")
        self.images, self.masks = list(images), list(masks)
        self.read_image = ImageReader() if image is None else image
        self.read_mask = MaskReader() if mask is None else mask
        self.weights = None if weights is None else list(weights)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        """Return the image (H, W, C), uint8 or float32 in 0 to 1, and class ids (H, W)."""
        return self.read_image(*self.images[index]), self.read_mask(*self.masks[index])

    def names(self, index: int) -> tuple[str, str]:
        """Return what messages call a sample's image and mask."""
        return str(self.images[index][0]), str(self.masks[index][0])


def match_by_name(
    image_dirs: Sequence[Path], mask_dirs: Sequence[Path], *, suffix: str = ""
) -> tuple[list[Files], list[Files]]:
    """Return the files of every image and mask: IMAGE_DIR/NAME.* and MASK_DIR/NAMEsuffix.*, by name.

    Args:
        image_dirs: one folder, or one a modality.
        mask_dirs: one folder, or one a class; in a single one, a folder NAMEsuffix/ holds the several files of a mask.
        suffix: what the mask's name has behind the image's, such as "_mask".

    Raises:
        DataError: if a folder is missing or empty, or an image has no mask or two.
    """
    by_dir = [_by_stem(folder, IMAGE_SUFFIXES, "images") for folder in image_dirs]
    names = sorted(by_dir[0])
    images = [[_one(files, name, folder) for files, folder in zip(by_dir, image_dirs, strict=True)] for name in names]
    masks_of = [_by_stem(folder, MASK_SUFFIXES, "masks", folders=len(mask_dirs) == 1) for folder in mask_dirs]
    for found, folder in zip(masks_of, mask_dirs, strict=True):
        missing = [name for name in names if f"{name}{suffix}" not in found]
        if missing:
            raise DataError(
                f"{folder}: {len(missing)} of {len(names)} images have no mask; "
                f"missing: {listed([f'{name}{suffix}' for name in missing], 5)}"
            )
    masks = []
    for name in names:
        files = [found[f"{name}{suffix}"] for found in masks_of]
        if len(files) == 1 and files[0][0].is_dir():
            inside = tuple(sorted(p for p in files[0][0].iterdir() if p.suffix.lower() in MASK_SUFFIXES))
            if not inside:
                raise DataError(f"{files[0][0]}: has no mask ({', '.join(MASK_SUFFIXES)})")
            masks.append(inside)
        else:
            masks.append(tuple(_one(found, f"{name}{suffix}", d) for found, d in zip(masks_of, mask_dirs, strict=True)))
    return [tuple(files) for files in images], masks


def _by_stem(folder: Path, suffixes: Sequence[str], what: str, *, folders: bool = False) -> dict[str, list[Path]]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; is dataset.root right?")
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.suffix.lower() in suffixes and path.is_file():
            found.setdefault(path.stem, []).append(path)
        elif folders and path.is_dir():
            found.setdefault(path.name, []).append(path)
    if not found:
        raise DataError(f"{folder}: has no {what} ({', '.join(suffixes)})")
    return found


def _one(found: dict[str, list[Path]], name: str, folder: Path) -> Path:
    files = found.get(name, [])
    if len(files) != 1:
        has = " and ".join(path.name for path in files) or "none"
        raise DataError(f"{folder}: one file called {name} is wanted, and there is {has}")
    return files[0]
