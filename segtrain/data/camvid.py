"""CamVid (Brostow et al., 2009) in SegNet's layout: SPLIT/NAME.png or .jpg and SPLITannot/NAME.png."""

from pathlib import Path

from segtrain.data.pairs import PairedFiles, match_by_name


class CamVid(PairedFiles):
    """480x360 street scenes with 11 classes; label 11 is void.

    Args:
        root: the folder with train/, trainannot/, val/, valannot/, test/ and testannot/.
        split: "train", "val" or "test".
    """

    def __init__(self, *, root: str, split: str) -> None:
        folder = Path(root).expanduser()
        super().__init__(*match_by_name([folder / split], [folder / f"{split}annot"]))
