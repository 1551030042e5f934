"""Cityscapes (Cordts et al., 2016, arXiv:1604.01685): leftImg8bit/SPLIT/CITY/*.png and gtFine likewise."""

from pathlib import Path

from segtrain.data.listing import need_files, need_folder, refuse_split
from segtrain.data.pairs import PairedFiles
from segtrain.errors import DataError

HOW = (
    "leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip, unpacked beside each other, are wanted; they need an "
    "account at https://www.cityscapes-dataset.com/downloads/"
)


class Cityscapes(PairedFiles):
    """2048x1024 street scenes, 2,975 to train and 500 to validate; the masks hold label ids, 0 to 33.

    `dataset.label_map` turns them into the 19 training ids. The test masks are not public.

    Args:
        root: the folder with leftImg8bit/ and gtFine/.
        split: "train" or "val".

    Raises:
        DataError: if the split has no public masks, or files are missing; it says how to get them.
    """

    def __init__(self, *, root: str, split: str) -> None:
        refuse_split("Cityscapes", split, ("train", "val"))
        base = Path(root).expanduser()
        folder, truth = (need_folder(base / part / split, HOW) for part in ("leftImg8bit", "gtFine"))
        images = sorted(folder.glob("*/*_leftImg8bit.png"))
        if not images:
            raise DataError(f"{folder}: has no CITY/*_leftImg8bit.png; {HOW}")
        masks = [
            truth / path.parent.name / path.name.replace("_leftImg8bit.png", "_gtFine_labelIds.png") for path in images
        ]
        need_files(masks, HOW)
        super().__init__([(path,) for path in images], [(path,) for path in masks])
