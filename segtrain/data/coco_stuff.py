"""COCO-Stuff 164k (Caesar et al., 2018, arXiv:1612.03716): images/SPLIT2017 and stuffthingmaps/SPLIT2017."""

from pathlib import Path

from segtrain.data.listing import need_folder, refuse_split
from segtrain.data.pairs import PairedFiles, match_by_name

HOW = (
    "train2017.zip and val2017.zip from https://cocodataset.org, unpacked in images/, and "
    "stuffthingmaps_trainval2017.zip from https://github.com/nightrome/cocostuff, unpacked in stuffthingmaps/, are "
    "wanted"
)


class COCOStuff(PairedFiles):
    """171 classes, 118,287 training and 5,000 validation images; the masks hold ids 0 to 181, 255 is void.

    `dataset.label_map` closes the eleven gaps that the ids have.

    Args:
        root: the folder with images/ and stuffthingmaps/ (or annotations/, as the authors unpack it).
        split: "train" or "val".

    Raises:
        DataError: if the split has no public masks, or files are missing; it says how to get them.
    """

    def __init__(self, *, root: str, split: str) -> None:
        refuse_split("COCO-Stuff", split, ("train", "val"))
        base, part = Path(root).expanduser(), f"{split}2017"
        masks = base / "stuffthingmaps" / part
        masks = masks if masks.is_dir() or not (base / "annotations" / part).is_dir() else base / "annotations" / part
        super().__init__(*match_by_name([need_folder(base / "images" / part, HOW)], [need_folder(masks, HOW)]))
