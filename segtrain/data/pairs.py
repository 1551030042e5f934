"""A data set of image files, each with a mask file of the same name."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from segtrain.config.suggest import listed
from segtrain.data.files import IMAGE_SUFFIXES, read_image, read_mask
from segtrain.errors import DataError

Sample = tuple[NDArray[np.uint8], NDArray[np.integer]]


class PairedFiles(Dataset[Sample]):
    """Images and masks by file name.

    Args:
        image_dir: folder of the images.
        mask_dir: folder of the masks: for every image NAME.* a NAME.png.

    Raises:
        DataError: if a folder is missing or empty, or an image has no mask; both are named.
    """

    def __init__(self, image_dir: Path, mask_dir: Path) -> None:
        for folder in (image_dir, mask_dir):
            if not folder.is_dir():
                raise DataError(f"{folder}: no such folder; is dataset.root right?")
        self.image_paths = sorted(p for p in image_dir.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not self.image_paths:
            raise DataError(f"{image_dir}: has no images ({', '.join(IMAGE_SUFFIXES)})")
        self.mask_paths = [mask_dir / f"{path.stem}.png" for path in self.image_paths]
        there = {path.name for path in mask_dir.iterdir()}
        missing = [path.name for path in self.mask_paths if path.name not in there]
        if missing:
            raise DataError(
                f"{mask_dir}: {len(missing)} of {len(self.image_paths)} images have no mask; "
                f"missing: {listed(missing, 5)}"
            )

    def __len__(self) -> int:
        return len(self.image_paths)

    def __getitem__(self, index: int) -> Sample:
        """Return RGB uint8 (H, W, 3) and class ids (H, W)."""
        return read_image(self.image_paths[index]), read_mask(self.mask_paths[index])
