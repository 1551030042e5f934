"""Are images paired with the masks of their names, and missing ones named?"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segtrain.data.camvid import CamVid
from segtrain.data.pairs import PairedFiles
from segtrain.errors import DataError


def save(path: Path, value: int, *, size: tuple[int, int] = (4, 6), channels: int | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size if channels is None else (*size, channels), value, np.uint8)).save(path)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Return image and mask folders: image NAME is 10 times, and its mask once, the number in the name."""
    images, masks = tmp_path / "images", tmp_path / "masks"
    for number, suffix in ((3, "png"), (1, "bmp"), (2, "PNG")):
        save(images / f"{number}.{suffix}", 10 * number, channels=3)
        save(masks / f"{number}.png", number)
    (images / "readme.txt").write_text("no image")
    save(masks / "9.png", 9)  # a mask without an image is not missed
    return images, masks


def test_every_image_comes_with_the_mask_of_its_name_in_the_order_of_the_names(folders: tuple[Path, Path]) -> None:
    pairs = PairedFiles(*folders)
    assert len(pairs) == 3
    for number in (1, 2, 3):
        image, mask = pairs[number - 1]
        np.testing.assert_array_equal(image, np.full((4, 6, 3), 10 * number))
        np.testing.assert_array_equal(mask, np.full((4, 6), number))


def test_images_without_a_mask_are_counted_and_named(folders: tuple[Path, Path]) -> None:
    images, masks = folders
    (masks / "2.png").unlink()
    with pytest.raises(DataError, match=r"masks: 1 of 3 images have no mask; missing: 2\.png"):
        PairedFiles(images, masks)


@pytest.mark.parametrize("missing", [0, 1])
def test_a_folder_that_is_not_there_is_named(missing: int, folders: tuple[Path, Path], tmp_path: Path) -> None:
    given = list(folders)
    given[missing] = tmp_path / "gone"
    with pytest.raises(DataError, match=r"gone: no such folder"):
        PairedFiles(*given)


def test_a_folder_without_images_is_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: has no images \(\.png, \.jpg"):
        PairedFiles(tmp_path / "empty", folders[1])


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_camvid_reads_segnets_layout(split: str, tmp_path: Path) -> None:
    save(tmp_path / split / "a.png", 50, channels=3)
    save(tmp_path / f"{split}annot" / "a.png", 11)
    image, mask = CamVid(root=str(tmp_path), split=split)[0]
    assert (image[0, 0].tolist(), mask[0, 0]) == ([50, 50, 50], 11)


def test_a_wrong_root_is_named_with_the_key(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere/train: no such folder; is dataset\.root right\?"):
        CamVid(root=str(tmp_path / "nowhere"), split="train")
