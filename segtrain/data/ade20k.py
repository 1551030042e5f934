"""ADE20K's scene parsing benchmark (Zhou et al., 2017): images/{training,validation} and annotations/ likewise."""

from pathlib import Path

from segtrain.data.listing import need_folder, refuse_split
from segtrain.data.pairs import PairedFiles, match_by_name

FOLDERS = {"train": "training", "val": "validation"}
HOW = (
    "ADEChallengeData2016.zip from http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip, unpacked, "
    "is wanted"
)


class ADE20K(PairedFiles):
    """150 classes, 20,210 training and 2,000 validation images; in the masks 0 is void and the classes are 1 to 150.

    `dataset.reduce_zero_label` makes that 255 and 0 to 149.

    Args:
        root: ADEChallengeData2016, or the folder that holds it.
        split: "train" or "val".

    Raises:
        DataError: if the split has no public masks, or files are missing; it says how to get them.
    """

    def __init__(self, *, root: str, split: str) -> None:
        refuse_split("ADE20K", split, ("train", "val"))
        base = Path(root).expanduser()
        base = base / "ADEChallengeData2016" if (base / "ADEChallengeData2016").is_dir() else base
        folders = [need_folder(base / part / FOLDERS[split], HOW) for part in ("images", "annotations")]
        super().__init__(*match_by_name(folders[:1], folders[1:]))
