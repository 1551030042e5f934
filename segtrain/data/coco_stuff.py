"""COCO-Stuff (Caesar et al., 2018, arXiv:1612.03716), 164k: images/{train,val}2017 and stuffthingmaps/ likewise."""

from pathlib import Path

from segtrain.data.listing import need_folder, refuse_split
from segtrain.data.pairs import PairedFiles, match_by_name

HOW = (
    "train2017.zip and val2017.zip from https://cocodataset.org in images/ and stuffthingmaps_trainval2017.zip from "
    "https://github.com/nightrome/cocostuff in stuffthingmaps/ are wanted"
)


class COCOStuff(PairedFiles):
    """171 classes, 118,287 training and 5,000 validation images; the masks hold ids 0 to 181, 255 is void.

    `dataset.label_map` closes the eleven gaps that the ids have.

    Args:
        root: the folder with images/ and stuffthingmaps/.
        split: "train" or "val".
    """

    def __init__(self, *, root: str, split: str) -> None:
        refuse_split("COCO-Stuff", split, ("train", "val"))
        base = Path(root).expanduser()
        folders = [need_folder(base / part / f"{split}2017", HOW) for part in ("images", "stuffthingmaps")]
        super().__init__(*match_by_name(folders[:1], folders[1:]))
