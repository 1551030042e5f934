"""Are images read as other libraries read them, and broken ones refused with the file's name?"""

import io
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from skimage.data import astronaut

from segtrain.data.images import ImageReader
from segtrain.errors import DataError

PHOTO = np.ascontiguousarray(astronaut()[:96:2, :128:2])  # 48 x 64
NOISE = np.random.default_rng(0).integers(0, 65536, (5, 7, 8)).astype(np.uint16)


def encoded(picture: Image.Image, format_: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format_, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", ["png", "webp", "bmp", "tif", "PNG", "TIFF"])
def test_lossless_images_are_read_to_the_bit(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"photo.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(PHOTO).save(path, **options)
    image = ImageReader()(path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, PHOTO)


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "JPG"])
def test_jpegs_are_read_as_pillow_reads_them(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"photo.{suffix}"
    path.write_bytes(encoded(Image.fromarray(PHOTO), "JPEG", quality=90))
    with Image.open(path) as image:
        expected = np.array(image).astype(int)
    assert np.abs(ImageReader()(path).astype(int) - expected).max() <= 3


def test_an_image_of_another_format_than_its_name_says_is_read(tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(encoded(Image.fromarray(PHOTO), "PNG"))  # as some of Oxford Pet
    np.testing.assert_array_equal(ImageReader()(tmp_path / "cat.jpg"), PHOTO)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1"])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_every_kind_of_8_bit_image_becomes_the_rgb_that_pillow_makes_of_it(
    mode: str, suffix: str, tmp_path: Path
) -> None:
    picture = Image.fromarray(PHOTO).convert(mode)
    if mode in ("LA", "RGBA"):
        picture.putalpha(Image.fromarray(PHOTO[..., 1]))  # transparent places keep their colours
    path = tmp_path / f"a.{suffix}"
    picture.save(path)
    with Image.open(path) as image:
        colours = image.convert("RGBA") if mode == "P" else image
        expected = np.array(colours.convert("RGB"))
    np.testing.assert_array_equal(ImageReader()(path), expected)


def test_a_name_with_spaces_and_accents_is_read(tmp_path: Path) -> None:
    path = tmp_path / "été 日本 [1], a=b.png"
    Image.fromarray(PHOTO).save(path)
    np.testing.assert_array_equal(ImageReader()(path), PHOTO)


@pytest.mark.parametrize("orientation", [3, 6])
def test_the_exif_orientation_is_not_applied_so_that_the_mask_fits(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.jpg"
    path.write_bytes(encoded(Image.fromarray(PHOTO), "JPEG", quality=95, exif=exif))
    image = ImageReader()(path)
    assert image.shape == PHOTO.shape
    assert np.abs(image.astype(int) - PHOTO).mean() < 10  # a turned one is far off


def write(path: Path, array: NDArray[Any]) -> Path:
    """Write an array as OpenCV, tifffile or NumPy would."""
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, array, photometric="rgb" if array.ndim == 3 and array.shape[2] == 3 else "minisblack")
    else:
        cv2.imwrite(str(path), array[..., ::-1] if array.ndim == 3 else array)
    return path


@pytest.mark.parametrize("suffix", ["png", "tif", "npy"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_become_floats_that_keep_every_step(suffix: str, channels: int, tmp_path: Path) -> None:
    values = NOISE[..., 0] if channels == 1 else np.ascontiguousarray(NOISE[..., :3])
    image = ImageReader(channels=channels)(write(tmp_path / f"a.{suffix}", values))
    assert (image.dtype, image.shape) == (np.float32, (5, 7, channels))
    np.testing.assert_array_equal(np.rint(image * 65535), values.reshape(5, 7, channels))


FLOATS = [("tif", np.float32), ("tif", np.float64), ("npy", np.float16), ("npy", np.float32), ("npy", np.float64)]


@pytest.mark.parametrize(("suffix", "dtype"), FLOATS)
def test_floats_of_0_to_1_stay_what_they_are(suffix: str, dtype: type[np.floating], tmp_path: Path) -> None:
    values = (NOISE[..., 0] / 65535).astype(dtype)
    image = ImageReader(channels=1)(write(tmp_path / f"a.{suffix}", values))
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image[..., 0], values.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.int64, np.float32])
def test_a_value_range_says_what_becomes_0_and_1(dtype: type[Any], tmp_path: Path) -> None:
    values = np.array([[10, 60, 110, 5, 120]], dtype)
    image = ImageReader(channels=1, value_range=[10, 110])(write(tmp_path / "a.npy", values))
    assert image.dtype == np.float32
    np.testing.assert_allclose(image[0, :, 0], [0, 0.5, 1, -0.05, 1.1], atol=1e-6)


@pytest.mark.parametrize("range_", [[1, 1], [5, 2], [1], [1, 2, 3]])
def test_a_value_range_that_is_none_is_refused(range_: list[float]) -> None:
    with pytest.raises(ValueError, match=r"^value_range: .* is not \[low, high\]"):
        ImageReader(value_range=range_)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32])
def test_numbers_without_a_range_of_their_own_ask_for_one(dtype: type[Any], tmp_path: Path) -> None:
    path = write(tmp_path / "a.npy", np.zeros((2, 3), dtype))
    with pytest.raises(DataError, match=r"a\.npy: u?int\d\d numbers have no range .* dataset\.value_range"):
        ImageReader(channels=1)(path)


@pytest.mark.parametrize("values", [[0.0, 255.0], [-0.5, 0.5]])
def test_floats_beyond_0_and_1_ask_for_a_range(values: list[float], tmp_path: Path) -> None:
    path = write(tmp_path / "a.npy", np.array([values], np.float32))
    with pytest.raises(
        DataError, match=rf"float32 values from {values[0]:g} to {values[1]:g}; give dataset\.value_range"
    ):
        ImageReader(channels=1)(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("suffix", ["tif", "npy"])
@pytest.mark.parametrize("value_range", [None, [0, 10]])
def test_values_that_are_not_finite_are_refused(
    bad: float, suffix: str, value_range: list[float] | None, tmp_path: Path
) -> None:
    values = np.zeros((4, 5), np.float32)
    values[2, 3] = bad
    with pytest.raises(DataError, match=r"not finite \(NaN or infinity\)"):
        ImageReader(channels=1, value_range=value_range)(write(tmp_path / f"a.{suffix}", values))


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 8])
def test_a_numpy_file_has_any_number_of_channels(channels: int, tmp_path: Path) -> None:
    values = (NOISE[..., :channels] >> 8).astype(np.uint8)
    image = ImageReader(channels=channels)(write(tmp_path / "a.npy", values))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, values)


@pytest.mark.parametrize("channels", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_tiff_has_any_number_of_channels_in_any_layout(
    channels: int, planar: str, dtype: type[Any], tmp_path: Path
) -> None:
    pytest.importorskip("rasterio")
    values = (
        (NOISE[..., :channels] / 65535).astype(dtype) if dtype == np.float32 else NOISE[..., :channels].astype(dtype)
    )
    data = values.transpose(2, 0, 1) if planar == "separate" else values
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, data, photometric="minisblack", planarconfig=planar, metadata=None)
    image = ImageReader(channels=channels, value_range=[0, 1] if dtype == np.float32 else None)(path)
    scale = 65535 if dtype == np.uint16 else 1
    np.testing.assert_allclose(image * scale, values, rtol=1e-6)


@pytest.mark.parametrize("channels", [3, 4, 5])
@pytest.mark.parametrize("compress", ["none", "lzw", "deflate"])
def test_geotiffs_are_read_as_rasterio_wrote_them(channels: int, compress: str, tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    bands = NOISE[..., :channels].transpose(2, 0, 1)
    path = tmp_path / "scene.tif"
    options = {"transform": rasterio.transform.from_origin(500000, 4600000, 10, 10), "crs": "EPSG:32633"}
    with rasterio.open(
        path, "w", driver="GTiff", width=7, height=5, count=channels, dtype="uint16", compress=compress, **options
    ) as file:
        file.write(bands)
    image = ImageReader(channels=channels, value_range=[0, 65535])(path)
    np.testing.assert_array_equal(np.rint(image * 65535), bands.transpose(1, 2, 0))


def test_a_tiff_that_opencv_would_misread_names_the_package_that_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rasterio", None)
    tifffile.imwrite(tmp_path / "a.tif", NOISE[..., :5], photometric="minisblack", planarconfig="contig")
    with pytest.raises(DataError, match=r"a\.tif: a TIFF of 5 channels .* pip install 'rasterio>=1\.4,<2'"):
        ImageReader(channels=5)(tmp_path / "a.tif")


def test_a_tiff_of_several_pages_is_refused_where_opencv_would_give_the_first(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "stack.tif", NOISE.transpose(2, 0, 1), photometric="minisblack")
    with pytest.raises(DataError, match=r"stack\.tif: has 8 pages and one is wanted"):
        ImageReader(channels=1)(tmp_path / "stack.tif")


def test_a_tiff_with_overviews_has_one_page(tmp_path: Path) -> None:
    values = NOISE[:4, :4, 0]
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(values, metadata=None)
        file.write(values[::2, ::2], subfiletype=1, metadata=None)
    image = ImageReader(channels=1)(tmp_path / "a.tif")
    np.testing.assert_array_equal(np.rint(image[..., 0] * 65535), values)


def test_a_big_tiff_is_read(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PHOTO, bigtiff=True, photometric="rgb")
    np.testing.assert_array_equal(ImageReader()(tmp_path / "a.tif"), PHOTO)


def test_channels_that_are_not_those_of_the_config_are_refused_with_both_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npy", NOISE[..., :5])
    with pytest.raises(DataError, match=r"a\.npy: has 5 channels and dataset\.in_channels is 4; they must agree"):
        ImageReader(channels=4)(path)
    Image.fromarray(PHOTO).save(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"b\.png: has 3 channels and dataset\.in_channels is 1"):
        ImageReader(channels=1)(tmp_path / "b.png")


def test_a_stack_has_the_channels_of_its_files_in_their_order(tmp_path: Path) -> None:
    rgb, thermal = tmp_path / "rgb.png", write(tmp_path / "thermal.png", NOISE[..., 0])
    depth = write(tmp_path / "depth.npy", NOISE[..., 1].astype(np.float32) / 65535)
    Image.fromarray(PHOTO[:5, :7]).save(rgb)
    image = ImageReader(channels=5)(rgb, thermal, depth)
    assert image.dtype == np.float32
    expected = np.dstack([PHOTO[:5, :7] / 255, NOISE[..., 0] / 65535, NOISE[..., 1] / 65535])
    np.testing.assert_allclose(image, expected, atol=1e-7)


def test_a_stack_of_8_bit_files_stays_8_bit(tmp_path: Path) -> None:
    Image.fromarray(PHOTO).save(tmp_path / "rgb.png")
    Image.fromarray(PHOTO[..., 0]).save(tmp_path / "grey.png")
    image = ImageReader(channels=4)(tmp_path / "rgb.png", tmp_path / "grey.png")
    np.testing.assert_array_equal(image, np.dstack([PHOTO, PHOTO[..., 0]]))


def test_files_of_a_stack_that_differ_in_size_are_refused_with_both(tmp_path: Path) -> None:
    Image.fromarray(PHOTO).save(tmp_path / "rgb.png")
    Image.fromarray(PHOTO[:9, :8, 0]).save(tmp_path / "grey.png")
    with pytest.raises(DataError, match=r"grey\.png: is 8x9 and .*rgb\.png of the same stack is 64x48"):
        ImageReader(channels=4)(tmp_path / "rgb.png", tmp_path / "grey.png")


def test_the_channels_of_a_stack_are_counted_in_the_message(tmp_path: Path) -> None:
    Image.fromarray(PHOTO).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: has 3 \+ 3 channels and dataset\.in_channels is 5"):
        ImageReader(channels=5)(tmp_path / "a.png", tmp_path / "a.png")


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
        ImageReader()(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("suffix", ["npy", "tif"])
@pytest.mark.parametrize("channels", [1, 5])
def test_truncated_arrays_are_refused_by_name(share: float, suffix: str, channels: int, tmp_path: Path) -> None:
    if suffix == "tif" and channels == 5:
        pytest.importorskip("rasterio")
    big = np.tile(NOISE[..., :channels], (20, 20, 1))
    path = tmp_path / f"half.{suffix}"
    if suffix == "tif":
        tifffile.imwrite(path, big[..., 0] if channels == 1 else big, planarconfig=None if channels == 1 else "contig")
    else:
        np.save(path, big)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(DataError, match=rf"half\.{suffix}: "):
        ImageReader(channels=channels)(path)


def test_a_truncated_jpeg_with_a_whole_thumbnail_inside_is_refused(tmp_path: Path) -> None:
    thumbnail = encoded(Image.fromarray(PHOTO[:8, :8]), "JPEG")
    photo = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)  # noise: a large file
    data = encoded(Image.fromarray(photo), "JPEG", quality=95, exif=b"Exif\0\0" + thumbnail)
    path = tmp_path / "camera.jpg"
    for size in (len(data) // 2, data.rfind(thumbnail[-20:]) + 1000):
        path.write_bytes(data[:size])
        with pytest.raises(DataError, match=r"camera\.jpg: the JPEG is truncated"):
            ImageReader()(path)


@pytest.mark.parametrize("padding", [1000, 100_000])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_a_camera_padded_is_whole(padding: int, progressive: bool, tmp_path: Path) -> None:
    path = tmp_path / "padded.jpg"
    path.write_bytes(encoded(Image.fromarray(PHOTO), "JPEG", progressive=progressive) + bytes(padding))
    assert ImageReader()(path).shape == PHOTO.shape


@pytest.mark.parametrize(
    "content", [b"", b"no image", b"\x89PNG\r\n\x1a\n", b"II*\0", b"\xff\xd8\xff", b"PK\3\4", b"\x93NUMPY"]
)
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "npy"])
def test_files_that_are_no_images_are_refused_by_name(content: bytes, suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"notes.{suffix}").write_bytes(content)
    with pytest.raises(DataError, match=rf"notes\.{suffix}: "):
        ImageReader()(tmp_path / f"notes.{suffix}")


@pytest.mark.parametrize("suffix", ["png", "tif", "npy"])
def test_missing_files_and_folders_are_refused_by_name(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"gone\.{suffix}: .*No such file"):
        ImageReader()(tmp_path / f"gone.{suffix}")
    (tmp_path / f"folder.{suffix}").mkdir()
    with pytest.raises(DataError, match=rf"folder\.{suffix}: "):
        ImageReader()(tmp_path / f"folder.{suffix}")


@pytest.mark.parametrize("array", [np.zeros((2, 2, 2, 2)), np.zeros(3), np.array([["a"]]), np.zeros((2, 2), complex)])
def test_a_numpy_file_that_is_no_image_is_refused_with_its_shape(array: NDArray[Any], tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=r"a\.npy: an image is \(H, W\) or \(H, W, channels\) of numbers, and this is"):
        ImageReader(channels=1)(tmp_path / "a.npy")
