"""Images and masks in folders, with or without a folder or a list for each split."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from segtrain.data.images import IMAGE_SUFFIXES, ImageReader
from segtrain.data.leniency import left_out, raise_or_collect
from segtrain.data.listing import need_folder, read_lines
from segtrain.data.masks import MaskReader, OneFileAClass
from segtrain.data.pairs import Files, PairedFiles, match_by_name
from segtrain.errors import DataError

SPLITS = ("train", "val", "test")
EACH = "where one split has a folder or a list, each needs one (test=false leaves the test split out)"


class Folder(PairedFiles):
    """A folder of images and one of masks, matched by file name.

    The split is looked for in this order: folders ROOT/SPLIT/IMAGES and ROOT/SPLIT/MASKS; ROOT/IMAGES/SPLIT and
    ROOT/MASKS/SPLIT; a list ROOT/SPLIT.txt of names; else each image is dealt to a split by its name, in the given
    shares, the same on every machine and, unless a split would be empty, whatever other images are there.

    Args:
        root: the folder.
        split: "train", "val" or "test".
        images: name of the images' folder; "." for the root itself.
        masks: name of the masks' folder, or one a class (classes 1, 2, ...; what none has is class 0).
        stack: names of folders in place of `images`, one a modality, whose channels are stacked.
        mask_suffix: what a mask's name has behind its image's, such as "_mask".
        shares: of train, val and test, where nothing says which image is which.
        image: reads an image; None for RGB.
        mask: reads a mask; None for class ids.

    Raises:
        DataError: if folders are missing or empty, images have no mask, a list names what is not there, or no image
            falls to the split.
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
        self.root, self.split = Path(root).expanduser(), split
        self.image_names = list(stack) if stack else [images]
        self.mask_names = [masks] if isinstance(masks, str) else list(masks)
        self.mask_suffix = mask_suffix
        self.mask_types = (mask or MaskReader()).suffixes
        if len(shares) != 3 or min(shares) < 0 or sum(shares) <= 0:
            raise DataError(f"dataset.shares: {list(shares)} are not the shares of train, val and test")
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; is dataset.root right?")
        several = len(self.mask_names) > 1
        super().__init__(
            *self._find(shares), image=image, mask=OneFileAClass(mask or MaskReader()) if several else mask
        )

    def _find(self, shares: Sequence[float]) -> tuple[list[Files], list[Files]]:
        first = self.image_names[0]
        if any((self.root / split / first).is_dir() for split in SPLITS):
            need_folder(self.root / self.split / first, EACH)
            return self._match(self.root / self.split)
        if any((self.root / first / split).is_dir() for split in SPLITS):
            need_folder(self.root / first / self.split, EACH)
            return self._match(self.root, child=self.split)
        images, masks = self._match(self.root)
        if any((self.root / f"{split}.txt").is_file() for split in SPLITS):
            return _listed(self.root / f"{self.split}.txt", images, masks)
        dealt = deal([files[0].stem for files in images], shares)
        mine = [index for index, files in enumerate(images) if dealt[files[0].stem] == self.split]
        if not mine:
            raise DataError(
                f"{self.root}: none of its {len(images)} images falls to {self.split} with dataset.shares="
                f"{list(shares)}; give other shares, or lists of names as train.txt, val.txt and test.txt"
            )
        return [images[index] for index in mine], [masks[index] for index in mine]

    def _match(self, parent: Path, *, child: str = "") -> tuple[list[Files], list[Files]]:
        return match_by_name(
            [parent / name / child for name in self.image_names],
            [parent / name / child for name in self.mask_names],
            suffix=self.mask_suffix,
            mask_suffixes=self.mask_types,
        )


def _listed(path: Path, images: list[Files], masks: list[Files]) -> tuple[list[Files], list[Files]]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; {EACH}")
    names = [Path(line).stem if line.lower().endswith(IMAGE_SUFFIXES) else Path(line).name for line in read_lines(path)]
    by_name = {files[0].stem: (files, truth) for files, truth in zip(images, masks, strict=True)}
    told = left_out()  # images that are there, and cannot be used for a reason that has been given
    if missing := [name for name in names if name not in by_name and name not in told]:
        error = DataError(f"{path}: names {len(missing)} images that are not there, such as {missing[0]!r}")
        raise_or_collect(error, kind="listed_not_there", files=[path.parent / name for name in missing])
    pairs = [by_name[name] for name in names if name in by_name]
    return [files for files, _ in pairs], [truth for _, truth in pairs]


def deal(names: Sequence[str], shares: Sequence[float]) -> dict[str, str]:
    """Return the split of each image, by `share_of`.

    Where a split that has a share would be left without any, for want of images, they are dealt in the order of their
    hashes instead, one to each split at least.
    """
    dealt = {name: share_of(name, shares) for name in names}
    wanted = [split for split, share in zip(SPLITS, shares, strict=True) if share > 0]
    if len(dealt) < len(wanted) or set(wanted) <= set(dealt.values()):
        return dealt
    order = sorted(dealt, key=_hash_of)
    for split, share in reversed([*zip(SPLITS, shares, strict=True)]):
        count = max(1, round(len(dealt) * share / sum(shares))) if split in wanted else 0
        if split == wanted[0]:
            count = len(order)  # what is left
        dealt |= dict.fromkeys(order[len(order) - count :], split)
        order = order[: len(order) - count]
    return dealt


def share_of(name: str, shares: Sequence[float]) -> str:
    """Return the split of an image by its name alone: adding images never moves another to a different split."""
    place = _hash_of(name) / 2**64 * sum(shares)
    return SPLITS[0] if place < shares[0] else SPLITS[1] if place < shares[0] + shares[1] else SPLITS[2]


def _hash_of(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
