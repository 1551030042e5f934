"""Images and masks in folders, with or without a folder or a list for each split."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from segtrain.data.images import ImageReader
from segtrain.data.masks import MaskReader
from segtrain.data.pairs import Files, PairedFiles, match_by_name
from segtrain.errors import DataError

SPLITS = ("train", "val", "test")


class Folder(PairedFiles):
    """A folder of images and one of masks, matched by file name.

    The split is looked for in this order: folders ROOT/SPLIT/IMAGES and ROOT/SPLIT/MASKS; ROOT/IMAGES/SPLIT and
    ROOT/MASKS/SPLIT; a list ROOT/SPLIT.txt of names; else each image is dealt to a split by its name, in the given
    shares, the same on every machine and whatever other images are there.

    Args:
        root: the folder.
        split: "train", "val" or "test".
        images: name of the images' folder.
        masks: name of the masks' folder, or one a class (classes 1, 2, ...; what none has is class 0).
        stack: names of folders in place of `images`, one a modality, whose channels are stacked.
        mask_suffix: what a mask's name has behind its image's, such as "_mask".
        shares: of train, val and test, where nothing says which image is which.
        image: reads an image; None for RGB.
        mask: reads a mask; None for class ids.

    Raises:
        DataError: if folders are missing or empty, images have no mask, or a list names what is not there.
    """

    def __init__(
        self,
        *,
        root: str,
        split: str,
        images: str = "images",
        masks: str | Sequence[str] = "masks",
        stack: Sequence[str] | None = None,
        mask_suffix: str = "",
        shares: Sequence[float] = (0.8, 0.1, 0.1),
        image: ImageReader | None = None,
        mask: MaskReader | None = None,
    ) -> None:
        folder = Path(root).expanduser()
        image_names, mask_names = [*(stack or [images])], [masks] if isinstance(masks, str) else [*masks]
        if len(shares) != 3 or min(shares) < 0 or sum(shares) <= 0:
            raise DataError(f"dataset.shares: {list(shares)} are not the shares of train, val and test")
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; is dataset.root right?")
        reader = MaskReader() if mask is None else mask
        reader.one_file_a_class = len(mask_names) > 1
        found, truth = _find(folder, split, image_names, mask_names, mask_suffix, shares)
        super().__init__(found, truth, image=image, mask=reader)


def _find(
    root: Path, split: str, images: Sequence[str], masks: Sequence[str], suffix: str, shares: Sequence[float]
) -> tuple[list[Files], list[Files]]:
    def pairs(parent: Path, *, child: str = "") -> tuple[list[Files], list[Files]]:
        return match_by_name(
            [parent / name / child for name in images], [parent / name / child for name in masks], suffix=suffix
        )

    if any((root / other / images[0]).is_dir() for other in SPLITS):
        return pairs(root / split)
    if any((root / images[0] / other).is_dir() for other in SPLITS):
        return pairs(root, child=split)
    found, truth = pairs(root)
    if any((root / f"{other}.txt").is_file() for other in SPLITS):
        return _listed(root / f"{split}.txt", found, truth)
    chosen = [share_of(files[0].stem, shares) == split for files in found]
    return [f for f, mine in zip(found, chosen, strict=True) if mine], [
        t for t, mine in zip(truth, chosen, strict=True) if mine
    ]


def _listed(path: Path, images: list[Files], masks: list[Files]) -> tuple[list[Files], list[Files]]:
    try:
        names = [
            Path(line.strip()).stem if "." in line else line.strip() for line in path.read_text("utf-8").splitlines()
        ]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); every split needs its list") from error
    by_name = {files[0].stem: (files, truth) for files, truth in zip(images, masks, strict=True)}
    wanted = [name for name in names if name]
    if missing := [name for name in wanted if name not in by_name]:
        raise DataError(f"{path}: names {len(missing)} images that are not there, such as {missing[0]!r}")
    return [by_name[name][0] for name in wanted], [by_name[name][1] for name in wanted]


def share_of(name: str, shares: Sequence[float]) -> str:
    """Return the split of an image by its name alone: adding images never moves another to a different split."""
    place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64 * sum(shares)
    return SPLITS[0] if place < shares[0] else SPLITS[1] if place < shares[0] + shares[1] else SPLITS[2]
