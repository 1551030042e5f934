"""Are images and masks read as other libraries read them, and broken ones refused with the file's name?"""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from segtrain.data.files import check_sample, read_image, read_mask
from segtrain.errors import DataError

PHOTO = np.ascontiguousarray(astronaut()[:96:2, :128:2])  # 48 x 64


def encoded(picture: Image.Image, format_: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format_, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", ["png", "webp", "bmp", "tif", "PNG"])
def test_lossless_images_are_read_to_the_bit(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"photo.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(PHOTO).save(path, **options)
    image = read_image(path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, PHOTO)


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "JPG"])
def test_jpegs_are_read_as_pillow_reads_them(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"photo.{suffix}"
    path.write_bytes(encoded(Image.fromarray(PHOTO), "JPEG", quality=90))
    with Image.open(path) as image:
        expected = np.array(image).astype(int)
    assert np.abs(read_image(path).astype(int) - expected).max() <= 3


def test_grey_images_become_rgb(tmp_path: Path) -> None:
    Image.fromarray(PHOTO[..., 0]).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), PHOTO[..., :1].repeat(3, axis=2))


def test_a_name_with_spaces_and_accents_is_read(tmp_path: Path) -> None:
    path = tmp_path / "été 日本 [1], a=b.png"
    Image.fromarray(PHOTO).save(path)
    np.testing.assert_array_equal(read_image(path), PHOTO)


@pytest.mark.parametrize("orientation", [3, 6])
def test_the_exif_orientation_is_not_applied_so_that_the_mask_fits(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.jpg"
    path.write_bytes(encoded(Image.fromarray(PHOTO), "JPEG", quality=95, exif=exif))
    image = read_image(path)
    assert image.shape == PHOTO.shape
    assert np.abs(image.astype(int) - PHOTO).mean() < 10  # a turned one is far off


@pytest.mark.parametrize(
    ("format_", "suffix"),
    [("JPEG", "jpg"), ("JPEG", "png"), ("PNG", "png"), ("WEBP", "webp"), ("TIFF", "tif"), ("BMP", "bmp")],
)
@pytest.mark.parametrize("share", [0.5, 0.95])
def test_truncated_images_are_refused_by_name(format_: str, suffix: str, share: float, tmp_path: Path) -> None:
    data = encoded(Image.fromarray(PHOTO), format_)
    path = tmp_path / f"half.{suffix}"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(DataError, match=rf"half\.{suffix}: .*truncated"):
        read_image(path)


def test_a_truncated_jpeg_with_a_whole_thumbnail_inside_is_refused(tmp_path: Path) -> None:
    thumbnail = encoded(Image.fromarray(PHOTO[:8, :8]), "JPEG")
    photo = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)  # noise: a large file
    data = encoded(Image.fromarray(photo), "JPEG", quality=95, exif=b"Exif\0\0" + thumbnail)
    path = tmp_path / "camera.jpg"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"camera\.jpg: the JPEG is truncated"):
        read_image(path)


def test_a_jpeg_that_a_camera_padded_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "padded.jpg"
    path.write_bytes(encoded(Image.fromarray(PHOTO), "JPEG") + bytes(1000))
    assert read_image(path).shape == PHOTO.shape


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
@pytest.mark.parametrize("reader", [read_image, read_mask])
def test_files_that_are_no_images_are_refused_by_name(
    content: bytes, reader: Callable[[Path], object], tmp_path: Path
) -> None:
    (tmp_path / "notes.png").write_bytes(content)
    with pytest.raises(DataError, match=r"notes\.png"):
        reader(tmp_path / "notes.png")


@pytest.mark.parametrize("reader", [read_image, read_mask])
def test_missing_files_and_folders_are_refused_by_name(reader: Callable[[Path], object], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png: .*No such file"):
        reader(tmp_path / "gone.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(DataError, match=r"folder\.png: .*"):
        reader(tmp_path / "folder.png")


MASK = np.arange(12, dtype=np.uint8).reshape(3, 4)


def test_a_grey_mask_gives_its_values(tmp_path: Path) -> None:
    Image.fromarray(MASK).save(tmp_path / "mask.png")
    mask = read_mask(tmp_path / "mask.png")
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, MASK)


def test_a_palette_mask_gives_its_indices_and_not_its_colours(tmp_path: Path) -> None:
    picture = Image.fromarray(MASK)
    picture.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tolist())
    picture.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), MASK)


def test_a_black_and_white_mask_gives_zero_and_one(tmp_path: Path) -> None:
    Image.fromarray(MASK > 5).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), MASK > 5)


def test_a_mask_of_16_bits_keeps_labels_above_255(tmp_path: Path) -> None:
    Image.fromarray(MASK.astype(np.uint16) * 1000).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), MASK.astype(int) * 1000)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_a_mask_of_colours_is_refused_by_name(mode: str, tmp_path: Path) -> None:
    Image.fromarray(PHOTO).convert(mode).save(tmp_path / "mask.png")
    with pytest.raises(DataError, match=rf"mask\.png: a mask of class ids has one channel, and this has {mode}"):
        read_mask(tmp_path / "mask.png")


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_truncated_mask_is_refused_by_name(share: float, tmp_path: Path) -> None:
    data = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 9, (64, 64), dtype=np.uint8)), "PNG")
    (tmp_path / "mask.png").write_bytes(data[: int(share * len(data))])
    with pytest.raises(DataError, match=r"mask\.png: the mask cannot be read"):
        read_mask(tmp_path / "mask.png")


def check(mask: np.ndarray, *, num_classes: int = 3, ignore_index: int = 255) -> None:
    image = np.zeros((3, 4, 3), np.uint8)
    check_sample(image, mask, image_name="a.jpg", mask_name="a.png", num_classes=num_classes, ignore_index=ignore_index)


@pytest.mark.parametrize(("ignore_index", "dtype"), [(255, np.uint8), (3, np.uint8), (-1, np.int32), (65535, np.int32)])
def test_classes_and_void_are_accepted(ignore_index: int, dtype: type[np.integer]) -> None:
    check(np.array([[0, 1, 2, ignore_index]] * 3, dtype), ignore_index=ignore_index)


def test_labels_outside_the_classes_are_refused_with_file_value_and_count() -> None:
    mask = np.array([[0, 1, 2, 255], [3, 3, 7, 0], [0, 0, 0, 0]], np.uint8)
    with pytest.raises(
        DataError, match=r"^a\.png: labels outside 0 to 2 .*ignore_index=255: 3 \(2 pixels\), 7 \(1 pixels\);"
    ):
        check(mask)


def test_negative_labels_are_refused_with_file_value_and_count() -> None:
    with pytest.raises(DataError, match=r"^a\.png: .*-1 \(4 pixels\)"):
        check(np.array([[0, 1, 2, 0], [-1] * 4, [0] * 4], np.int32))


def test_a_mask_of_another_size_is_refused_with_both_files_and_sizes() -> None:
    with pytest.raises(DataError, match=r"^a\.png: the mask is 3x4 and its image a\.jpg is 4x3"):
        check(np.zeros((4, 3), np.uint8))
