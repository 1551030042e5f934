"""A data set of image files, each with a mask file; and how the two are found by name."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from torch.utils.data import Dataset

from segtrain.config.suggest import listed
from segtrain.data.images import IMAGE_SUFFIXES, Image, ImageReader
from segtrain.data.leniency import is_collecting, raise_or_collect, remark
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
    wanted = {f"{name}{suffix}" for name in names}
    for found, folder in zip(masks_of, mask_dirs, strict=True):
        missing = {name: images_of[0][name][0] for name in names if f"{name}{suffix}" not in found}
        if missing:
            _report_missing(missing, folder, suffix=suffix, of=len(wanted))
            names = [name for name in names if name not in missing]
        if is_collecting():
            _remark_extra(found, wanted, folder, suffix=suffix)
    images = {name: _files_of_one(images_of, image_dirs, name, sample=name) for name in names}
    masks = {name: _files_of_one(masks_of, mask_dirs, f"{name}{suffix}", sample=name) for name in names}
    if len(mask_dirs) == 1:
        masks = {name: _files_of_mask(files[0], mask_suffixes, sample=name) for name, files in masks.items() if files}
    whole = [name for name in names if images[name] and masks.get(name)]
    return [images[name] for name in whole], [masks[name] for name in whole]


def _report_missing(missing: dict[str, Path], folder: Path, *, suffix: str, of: int) -> None:
    """Refuse images without a mask in this folder, or collect them: JPEGs in their place are a problem of their own."""
    names = [f"{name}{suffix}" for name in missing]
    lossy = [name for name in names if any((folder / f"{name}{end}").is_file() for end in (".jpg", ".jpeg"))]
    reason = f"; {LOSSY}" if names[0] in lossy else ""
    text = f"{folder}: {len(names)} of {of} images have no mask; missing: {listed(names, 5)}{reason}"
    absent = [image for image, name in zip(missing.values(), names, strict=True) if name not in lossy]
    if absent:
        raise_or_collect(DataError(text), kind="missing_mask", files=absent, names=list(missing))
    if lossy:
        images = [image for image, name in zip(missing.values(), names, strict=True) if name in lossy]
        raise_or_collect(DataError(text), kind="jpeg_mask", files=images, names=list(missing))


def _remark_extra(found: dict[str, list[Path]], wanted: set[str], folder: Path, *, suffix: str) -> None:
    """Remember masks without an image; a folder is one only where the masks are folders of files."""
    used = [path for name in wanted & found.keys() for path in found[name]]
    in_folders = any(path.is_dir() for path in used)
    extra = [
        path
        for name in sorted(found.keys() - wanted)
        for path in found[name]
        if name.endswith(suffix) and (in_folders or not path.is_dir())
    ]
    remark(f"{folder}: {len(extra)} masks have no image", kind="extra_mask", files=extra)


def _files_of_one(found: Sequence[dict[str, list[Path]]], folders: Sequence[Path], name: str, *, sample: str) -> Files:
    """Return the file of this name in each folder, or none where a collected problem keeps it from being used."""
    files: list[Path] = []
    for in_folder, folder in zip(found, folders, strict=True):
        here = in_folder.get(name, [])
        if len(here) != 1:
            has = " and ".join(path.name for path in here) or "none"
            error = DataError(f"{folder}: one file called {name} is wanted, and there is {has}")
            kind = "ambiguous_name" if here else "missing_image"
            raise_or_collect(error, kind=kind, files=here or [folder / name], names=[sample])
        files += here[:1] if len(here) == 1 else []
    return tuple(files) if len(files) == len(folders) else ()


def _files_of_mask(path: Path, suffixes: Sequence[str], *, sample: str) -> Files:
    if path.suffix.lower() in suffixes:
        return (path,)
    inside = tuple(sorted(p for p in path.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith(".")))
    if not inside:
        error = DataError(f"{path}: has no masks ({', '.join(suffixes)})")
        raise_or_collect(error, kind="missing_mask", files=[path], names=[sample])
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
