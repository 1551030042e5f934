"""Are images paired with the masks of their names, and missing ones named?"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segtrain.data.camvid import CamVid
from segtrain.data.masks import MaskReader, OneFileAClass
from segtrain.data.pairs import PairedFiles, match_by_name
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


def paired(images: Path, masks: Path) -> PairedFiles:
    return PairedFiles(*match_by_name([images], [masks]))


def test_every_image_comes_with_the_mask_of_its_name_in_the_order_of_the_names(folders: tuple[Path, Path]) -> None:
    pairs = paired(*folders)
    assert len(pairs) == 3
    for number in (1, 2, 3):
        image, mask = pairs[number - 1]
        np.testing.assert_array_equal(image, np.full((4, 6, 3), 10 * number))
        np.testing.assert_array_equal(mask, np.full((4, 6), number))
        assert pairs.names(number - 1) == (str(pairs.images[number - 1][0]), str(folders[1] / f"{number}.png"))


def test_images_without_a_mask_are_counted_and_named(folders: tuple[Path, Path]) -> None:
    (folders[1] / "2.png").unlink()
    with pytest.raises(DataError, match=r"masks: 1 of 3 images have no mask; missing: 2$"):
        paired(*folders)


def test_masks_that_are_jpegs_are_refused_with_the_reason(folders: tuple[Path, Path]) -> None:
    (folders[1] / "2.png").rename(folders[1] / "2.jpg")
    with pytest.raises(DataError, match=r"missing: 2; JPEG changes values near edges"):
        paired(*folders)
    for number in (1, 3, 9):
        (folders[1] / f"{number}.png").rename(folders[1] / f"{number}.jpg")
    with pytest.raises(DataError, match=r"masks: has no masks \(\.png, .*\); JPEG changes values near edges"):
        paired(*folders)


@pytest.mark.parametrize("missing", [0, 1])
def test_a_folder_that_is_not_there_is_named(missing: int, folders: tuple[Path, Path], tmp_path: Path) -> None:
    given = list(folders)
    given[missing] = tmp_path / "gone"
    with pytest.raises(DataError, match=r"gone: no such folder"):
        paired(*given)


@pytest.mark.parametrize(("empty", "what"), [(0, "images"), (1, "masks")])
def test_a_folder_without_images_or_masks_is_named(
    empty: int, what: str, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".1.png").touch()  # what some systems leave behind
    given = list(folders)
    given[empty] = tmp_path / "empty"
    with pytest.raises(DataError, match=rf"empty: has no {what} \(\.png, "):
        paired(*given)


@pytest.mark.parametrize("which", [0, 1])
def test_two_files_of_one_name_are_refused_with_both(which: int, folders: tuple[Path, Path]) -> None:
    save(folders[which] / "2.tif", 0)
    with pytest.raises(DataError, match=r"one file called 2 is wanted, and there is 2\.(PNG|png) and 2\.tif"):
        paired(*folders)


def test_a_suffix_tells_masks_from_images_in_one_folder(tmp_path: Path) -> None:
    for name in ("a", "b.v2"):
        save(tmp_path / f"{name}.png", 10, channels=3)
        save(tmp_path / f"{name}_mask.png", 1)
    images, masks = match_by_name([tmp_path], [tmp_path], suffix="_mask")
    assert [files[0].name for files in images] == ["a.png", "b.v2.png"]
    assert [files[0].name for files in masks] == ["a_mask.png", "b.v2_mask.png"]


def test_a_folder_of_the_images_name_holds_the_several_files_of_its_mask(folders: tuple[Path, Path]) -> None:
    (folders[1] / "2.png").unlink()
    for part in ("y", "x", ".hidden"):
        save(folders[1] / "2" / f"{part}.png", 1)
    (folders[1] / "2" / "notes.txt").touch()
    masks = match_by_name([folders[0]], [folders[1]])[1]
    assert masks == [
        (folders[1] / "1.png",),
        (folders[1] / "2" / "x.png", folders[1] / "2" / "y.png"),
        (folders[1] / "3.png",),
    ]
    for path in masks[1]:
        path.unlink()
    with pytest.raises(DataError, match=r"masks/2: has no masks"):
        paired(*folders)


def test_several_folders_give_the_files_of_a_stack_and_of_the_classes(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    for number in (1, 2, 3):
        save(tmp_path / "depth" / f"{number}.tif", number)
        save(tmp_path / "edges" / f"{number}.png", 255 if number == 3 else 0)
    images, masks = match_by_name([folders[0], tmp_path / "depth"], [folders[1], tmp_path / "edges"])
    assert [[path.parent.name for path in files] for files in images] == [["images", "depth"]] * 3
    pairs = PairedFiles([files[:1] for files in images], masks, mask=OneFileAClass(MaskReader()))
    assert [np.unique(pairs[index][1]).tolist() for index in range(3)] == [[1], [1], [2]]


def test_a_stack_that_lacks_a_file_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    save(tmp_path / "depth" / "1.tif", 1)
    with pytest.raises(DataError, match=r"depth: one file called 2 is wanted, and there is none"):
        match_by_name([folders[0], tmp_path / "depth"], [folders[1]])


def test_as_many_masks_as_images_are_needed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^dataset: 2 images and 1 masks"):
        PairedFiles([(tmp_path,)] * 2, [(tmp_path,)])


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_camvid_reads_segnets_layout(split: str, tmp_path: Path) -> None:
    save(tmp_path / split / "a.png", 50, channels=3)
    save(tmp_path / f"{split}annot" / "a.png", 11)
    image, mask = CamVid(root=str(tmp_path), split=split)[0]
    assert (image[0, 0].tolist(), mask[0, 0]) == ([50, 50, 50], 11)


def test_a_wrong_root_is_named_with_the_key(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere/train: no such folder; is dataset\.root right\?"):
        CamVid(root=str(tmp_path / "nowhere"), split="train")
