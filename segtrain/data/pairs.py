"""A data set of image files, each with a mask file; and how the two are found by name."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from torch.utils.data import Dataset

from segtrain.config.suggest import listed
from segtrain.data.images import IMAGE_SUFFIXES, Image, ImageReader
from segtrain.data.masks import LOSSY, MASK_SUFFIXES, Mask, MaskReader
from segtrain.errors import DataError

Sample = tuple[Image, Mask]
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
        mask: Callable[..., Mask] | None = None,
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
        """Return the image and the mask of a sample."""
        return self.image(index), self.mask(index)

    def image(self, index: int) -> Image:
        """Return an image (H, W, C), uint8 or float32 in 0 to 1."""
        return self.read_image(*self.images[index])

    def mask(self, index: int) -> Mask:
        """Return a mask's class ids (H, W)."""
        return self.read_mask(*self.masks[index])

    def files(self, index: int) -> tuple[Files, Files]:
        """Return the files of a sample's image and of its mask."""
        return self.images[index], self.masks[index]

    def names(self, index: int) -> tuple[str, str]:
        """Return what messages call a sample's image and mask."""
        return str(self.images[index][0]), str(self.masks[index][0])


def match_by_name(
    image_dirs: Sequence[Path],
    mask_dirs: Sequence[Path],
    *,
    suffix: str = "",
    mask_suffixes: Sequence[str] = MASK_SUFFIXES,
) -> tuple[list[Files], list[Files]]:
    """Return the files of every image and mask: IMAGE_DIR/NAME.* and MASK_DIR/NAMEsuffix.*, by name.

    Args:
        image_dirs: one folder, or one a modality.
        mask_dirs: one folder, or one a class; in a single one, a folder NAMEsuffix/ holds the several files of a mask.
            It may be the images' folder, where the suffix, or the type of file, tells them apart.
        suffix: what the mask's name has behind the image's, such as "_mask".
        mask_suffixes: the file types of masks.

    Raises:
        DataError: if a folder is missing or empty, or an image has no mask or two.
    """
    images_of = [_by_stem(folder, IMAGE_SUFFIXES, "images") for folder in image_dirs]
    masks_of = [_by_stem(folder, mask_suffixes, "masks", folders=len(mask_dirs) == 1) for folder in mask_dirs]
    names = sorted(images_of[0])
    if suffix and image_dirs[0] in mask_dirs:
        names = [name for name in names if not name.endswith(suffix)]
    for found, folder in zip(masks_of, mask_dirs, strict=True):
        missing = [f"{name}{suffix}" for name in names if f"{name}{suffix}" not in found]
        if missing:
            reason = f"; {LOSSY}" if any((folder / f"{missing[0]}{end}").is_file() for end in (".jpg", ".jpeg")) else ""
            raise DataError(
                f"{folder}: {len(missing)} of {len(names)} images have no mask; missing: {listed(missing, 5)}{reason}"
            )
    images = [tuple(_one(found, name, d) for found, d in zip(images_of, image_dirs, strict=True)) for name in names]
    if len(mask_dirs) == 1:
        return images, [_files_of_mask(masks_of[0], f"{name}{suffix}", mask_dirs[0], mask_suffixes) for name in names]
    masks = [
        tuple(_one(found, f"{name}{suffix}", d) for found, d in zip(masks_of, mask_dirs, strict=True)) for name in names
    ]
    return images, masks


def _files_of_mask(found: dict[str, list[Path]], name: str, folder: Path, suffixes: Sequence[str]) -> Files:
    path = _one(found, name, folder)
    if path.suffix.lower() in suffixes:
        return (path,)
    inside = tuple(sorted(p for p in path.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith(".")))
    if not inside:
        raise DataError(f"{path}: has no masks ({', '.join(suffixes)})")
    return inside


def _by_stem(folder: Path, suffixes: Sequence[str], what: str, *, folders: bool = False) -> dict[str, list[Path]]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; is dataset.root right?")
    found: dict[str, list[Path]] = {}
    with os.scandir(folder) as entries:  # asks the disk once for a folder of 118,000 files
        for entry in sorted(entries, key=lambda entry: entry.name):
            stem, suffix = os.path.splitext(entry.name)
            if entry.name.startswith("."):
                continue
            if suffix.lower() in suffixes and entry.is_file():
                found.setdefault(stem, []).append(folder / entry.name)
            elif folders and entry.is_dir():
                found.setdefault(entry.name, []).append(folder / entry.name)
    if not found:
        lossy = what == "masks" and any(path.suffix.lower() in (".jpg", ".jpeg") for path in folder.iterdir())
        raise DataError(f"{folder}: has no {what} ({', '.join(suffixes)}){f'; {LOSSY}' if lossy else ''}")
    return found


def _one(found: dict[str, list[Path]], name: str, folder: Path) -> Path:
    files = found.get(name, [])
    if len(files) != 1:
        has = " and ".join(path.name for path in files) or "none"
        raise DataError(f"{folder}: one file called {name} is wanted, and there is {has}")
    return files[0]
