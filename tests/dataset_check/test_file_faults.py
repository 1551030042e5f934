"""Is the reason why a file cannot be used read off its bytes, in every format?"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from planted import image, mask, save

from segtrain.data.images import ImageReader
from segtrain.data.masks import MaskReader
from segtrain.dataset_check.file_faults import colors_of, describe, image_fault, mask_fault, orientation_of
from segtrain.errors import DataError

IMAGES = ("png", "jpg", "webp", "bmp", "tif", "npy")


@pytest.mark.parametrize("suffix", IMAGES)
def test_a_file_whose_end_is_missing_is_truncated(suffix: str, tmp_path: Path) -> None:
    path = save(tmp_path / f"a.{suffix}", image(1))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.7)])
    with pytest.raises(DataError):
        ImageReader()(path)
    assert image_fault([path], channels=3) == ("truncated", path)
    assert describe("truncated", str(path)) == f"has {path.stat().st_size:,} bytes, and its end is missing"


@pytest.mark.parametrize("suffix", [suffix for suffix in IMAGES if suffix != "jpg"])
def test_a_mask_whose_end_is_missing_is_truncated(suffix: str, tmp_path: Path) -> None:
    path = save(tmp_path / f"a.{suffix}", mask(1), **({"lossless": True} if suffix == "webp" else {}))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.7)])
    with pytest.raises(DataError):
        MaskReader()(path)
    assert mask_fault([path], kind="ids") == ("truncated", path)


@pytest.mark.parametrize("suffix", IMAGES)
def test_text_is_no_image_whatever_it_is_called(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_text("version https://git-lfs.github.com/spec/v1")
    assert image_fault([path], channels=3) == ("no_image", path)
    assert describe("no_image", str(path)) == "begins with b'version http', as no image does"


def test_a_file_of_several_pages_is_whole_and_not_read(tmp_path: Path) -> None:
    pages = [Image.fromarray(image(number)) for number in (1, 2)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert image_fault([tmp_path / "a.tif"], channels=3) == ("unreadable", tmp_path / "a.tif")


@pytest.mark.filterwarnings("ignore:Truncated File Read")  # Pillow's, of the cut header
@pytest.mark.parametrize("size", [4, 60, 4000])
def test_a_truncated_tiff_is_not_whole_whatever_its_folder_is_called(size: int, tmp_path: Path) -> None:
    path = save(tmp_path / "pages" / "a.tif", image(1))
    path.write_bytes(path.read_bytes()[:size])
    assert image_fault([path], channels=3) == ("truncated", path)


def test_the_faulty_file_of_a_stack_is_named(tmp_path: Path) -> None:
    first = save(tmp_path / "a.png", image(1))
    second = save(tmp_path / "b.png", image(1, width=9))
    assert image_fault([first, second], channels=6) == ("parts_differ", second)
    second.write_bytes(b"")
    assert image_fault([first, second], channels=6) == ("empty_file", second)
    second.unlink()
    assert image_fault([first, second], channels=6) == ("missing_file", second)
    assert image_fault([first], channels=5) == ("channels", first)


def test_masks_of_another_kind_than_said_are_told_from_damaged_ones(tmp_path: Path) -> None:
    grey, rgb = save(tmp_path / "grey.png", mask(1)), save(tmp_path / "rgb.png", image(1))
    assert mask_fault([rgb], kind="ids") == ("rgb_mask", rgb)
    assert mask_fault([rgb], kind="colors") == ("unknown_color", rgb)
    assert mask_fault([grey], kind="colors") == ("grey_mask", grey)
    narrow = save(tmp_path / "x.png", mask(1, width=7))
    assert mask_fault([grey, narrow], kind="binary") == ("parts_differ", narrow)
    (tmp_path / "a.json").write_text("{}")
    assert mask_fault([tmp_path / "a.json"], kind="labelme") == ("polygons", tmp_path / "a.json")


def test_colours_are_counted_the_most_frequent_first(tmp_path: Path) -> None:
    pixels = np.zeros((4, 5, 3), np.uint8)
    pixels[0, :3] = (1, 2, 255)
    pixels[1, 0] = (9, 9, 9)
    path = save(tmp_path / "a.png", pixels)
    assert list(colors_of(path, most=5).items()) == [((0, 0, 0), 16), ((1, 2, 255), 3), ((9, 9, 9), 1)]
    assert list(colors_of(path, most=2)) == [(0, 0, 0), (1, 2, 255)]


@pytest.mark.parametrize("suffix", ["jpg", "tif", "webp", "png"])
@pytest.mark.parametrize(("value", "told"), [(None, None), (1, None), (8, 8), (3, 3)])
def test_an_orientation_other_than_upright_is_told(
    suffix: str, value: int | None, told: int | None, tmp_path: Path
) -> None:
    exif = Image.Exif()
    if value is not None:
        exif[274] = value
    path = save(tmp_path / f"a.{suffix}", image(1), exif=exif)
    assert orientation_of(path) == told
    assert orientation_of(tmp_path / "nothing.png") is None
