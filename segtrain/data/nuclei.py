"""The built-in data set: cell nuclei in microscope images (Data Science Bowl 2018, CC0; see nuclei/README.md)."""

from pathlib import Path

from segtrain.data.pairs import PairedFiles, match_by_name

FOLDER = Path(__file__).parent / "nuclei"


class Nuclei(PairedFiles):
    """256x256 images, 0 = background, 1 = nucleus.

    Args:
        split: "train", "val" or "test".
    """

    def __init__(self, *, split: str) -> None:
        super().__init__(*match_by_name([FOLDER / "images" / split], [FOLDER / "masks" / split]))
