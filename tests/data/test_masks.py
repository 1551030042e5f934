"""Are masks of every kind read as NumPy and Pillow read them, and lossy or unknown ones refused?"""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from segtrain.data.masks import MaskReader, OneFileAClass
from segtrain.errors import DataError

IDS = np.arange(12, dtype=np.uint8).reshape(3, 4)
COLORS = [[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]]


def encoded(picture: Image.Image, format_: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format_)
    return buffer.getvalue()


def save(path: Path, array: NDArray[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        Image.fromarray(array).save(path)
    return path


# ids


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "npy", "PNG"])
def test_a_grey_mask_gives_its_values(suffix: str, tmp_path: Path) -> None:
    mask = MaskReader()(save(tmp_path / f"mask.{suffix}", IDS))
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, IDS)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_a_palette_mask_gives_its_indices_and_not_its_colours(suffix: str, tmp_path: Path) -> None:
    picture = Image.fromarray(IDS)
    picture.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tolist())
    picture.save(tmp_path / f"mask.{suffix}")
    np.testing.assert_array_equal(MaskReader()(tmp_path / f"mask.{suffix}"), IDS)


def test_a_palette_mask_of_four_bits_gives_its_indices(tmp_path: Path) -> None:
    picture = Image.fromarray(IDS)
    picture.putpalette(list(range(48)))
    picture.save(tmp_path / "mask.png", bits=4)
    np.testing.assert_array_equal(MaskReader()(tmp_path / "mask.png"), IDS)


@pytest.mark.parametrize("suffix", ["png", "tif", "npy"])
def test_a_black_and_white_mask_gives_zero_and_one(suffix: str, tmp_path: Path) -> None:
    np.testing.assert_array_equal(MaskReader()(save(tmp_path / f"mask.{suffix}", IDS > 5)), IDS > 5)


@pytest.mark.parametrize("suffix", ["png", "tif", "npy"])
def test_a_mask_of_16_bits_keeps_labels_above_32767(suffix: str, tmp_path: Path) -> None:
    values = IDS.astype(np.uint16) * 5000
    np.testing.assert_array_equal(MaskReader()(save(tmp_path / f"mask.{suffix}", values)), IDS.astype(int) * 5000)


def test_a_tiff_of_16_bits_in_the_other_byte_order_is_read(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "mask.tif", IDS.astype(">u2") * 1000, byteorder=">")
    np.testing.assert_array_equal(MaskReader()(tmp_path / "mask.tif"), IDS.astype(int) * 1000)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, np.uint32, ">i4"])
def test_integers_of_a_numpy_file_stay_what_they_are(dtype: Any, tmp_path: Path) -> None:
    values = IDS.astype(dtype) - np.array(0 if np.dtype(dtype).kind == "u" else 1, dtype)
    np.testing.assert_array_equal(MaskReader()(save(tmp_path / "mask.npy", values)), values)


def test_a_numpy_mask_may_have_a_channel_axis(tmp_path: Path) -> None:
    assert MaskReader()(save(tmp_path / "mask.npy", IDS[..., None])).shape == IDS.shape


@pytest.mark.parametrize("array", [IDS.astype(float), np.zeros((2, 3, 4), int), np.zeros(3, int)])
def test_a_numpy_file_that_is_no_mask_is_refused_with_its_shape(array: NDArray[Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mask\.npy: a mask is \(H, W\) of integers, and this is"):
        MaskReader()(save(tmp_path / "mask.npy", array))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_mask_of_colours_is_refused_where_ids_are_wanted_with_the_remedy(mode: str, tmp_path: Path) -> None:
    Image.fromarray(IDS).convert(mode).save(tmp_path / "mask.png")
    with pytest.raises(DataError, match=r"mask\.png: .* one channel, and this has 3; give dataset\.mask=colors"):
        MaskReader()(tmp_path / "mask.png")


@pytest.mark.parametrize(("mode", "suffix"), [("LA", "png"), ("F", "tif"), ("CMYK", "tif")])
def test_a_mask_of_a_mode_without_ids_is_refused(mode: str, suffix: str, tmp_path: Path) -> None:
    Image.fromarray(IDS).convert("RGB" if mode == "CMYK" else "L").convert(mode).save(tmp_path / f"mask.{suffix}")
    with pytest.raises(DataError, match=rf"mask\.{suffix}: a mask of mode {mode} holds no class ids"):
        MaskReader()(tmp_path / f"mask.{suffix}")


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "JPG", "png"])
@pytest.mark.parametrize("kind", ["ids", "binary"])
def test_jpeg_masks_are_refused_with_the_reason_whatever_they_are_called(
    suffix: str, kind: Any, tmp_path: Path
) -> None:
    (tmp_path / f"mask.{suffix}").write_bytes(encoded(Image.fromarray(IDS), "JPEG"))
    with pytest.raises(DataError, match=rf"mask\.{suffix}: JPEG changes values near edges.* save it as PNG"):
        MaskReader(kind)(tmp_path / f"mask.{suffix}")


def test_a_mask_of_several_pages_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "mask.tif", np.zeros((3, 4, 5), np.uint8), photometric="minisblack")
    with pytest.raises(DataError, match=r"mask\.tif: has 3 pages"):
        MaskReader()(tmp_path / "mask.tif")


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "npy"])
def test_a_truncated_mask_is_refused_by_name(share: float, suffix: str, tmp_path: Path) -> None:
    path = save(tmp_path / f"mask.{suffix}", np.random.default_rng(0).integers(0, 9, (64, 64), dtype=np.uint8))
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(DataError, match=rf"mask\.{suffix}: "):
        MaskReader()(path)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n", b"II*\0"])
@pytest.mark.parametrize("suffix", ["png", "tif", "npy"])
def test_files_that_are_no_masks_are_refused_by_name(content: bytes, suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"notes.{suffix}").write_bytes(content)
    with pytest.raises(DataError, match=rf"notes\.{suffix}: "):
        MaskReader()(tmp_path / f"notes.{suffix}")


@pytest.mark.parametrize("suffix", ["png", "tif", "npy", "json"])
def test_missing_masks_and_folders_are_refused_by_name(suffix: str, tmp_path: Path) -> None:
    reader = MaskReader("labelme", class_names=["a"]) if suffix == "json" else MaskReader()
    with pytest.raises(DataError, match=rf"gone\.{suffix}: .*No such file"):
        reader(tmp_path / f"gone.{suffix}")
    (tmp_path / f"folder.{suffix}").mkdir()
    with pytest.raises(DataError, match=rf"folder\.{suffix}: "):
        reader(tmp_path / f"folder.{suffix}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "rgb"}, r"^mask: 'rgb' is not one of ids, colors, binary, instances, labelme"),
        ({"kind": "colors"}, r"^palette: masks of colours need"),
        ({"kind": "colors", "colors": [[0, 0]]}, r"^palette: \[0, 0\] is not \[red, green, blue\]"),
        ({"kind": "colors", "colors": [[0, 0, 256]]}, r"^palette: \[0, 0, 256\] is not"),
        ({"kind": "colors", "colors": [[1, 2, 3], [1, 2, 3]]}, r"^palette: \[1, 2, 3\] is the colour of two labels, 0"),
        ({"kind": "labelme"}, r"^class_names: polygons need the names"),
    ],
)
def test_what_a_kind_needs_is_asked_for(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MaskReader(**arguments)


# colours


@pytest.mark.parametrize("ignore_index", [255, -1, 300])
def test_colours_become_their_classes_and_void(ignore_index: int, tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 5, (9, 11))
    table = np.array([*COLORS, [224, 224, 192]], np.uint8)
    reader = MaskReader("colors", colors=COLORS, void_colors=[[224, 224, 192]], ignore_index=ignore_index)
    mask = reader(save(tmp_path / "mask.png", table[labels]))
    np.testing.assert_array_equal(mask, np.where(labels == 4, ignore_index, labels))


def test_the_transparency_of_a_mask_of_colours_is_left_out(tmp_path: Path) -> None:
    pixels = np.array([[[255, 0, 0, 0], [0, 255, 0, 128]]], np.uint8)
    assert MaskReader("colors", colors=COLORS)(save(tmp_path / "mask.png", pixels)).tolist() == [[1, 2]]


def test_unknown_colours_are_counted_and_named(tmp_path: Path) -> None:
    pixels = np.array([[[255, 0, 0], [254, 0, 0], [1, 2, 3], [255, 255, 255]]], np.uint8)
    with pytest.raises(
        DataError, match=r"3 colours are no class's: \[1, 2, 3\], \[254, 0, 0\], \[255, 255, 255\]; .*void_colors"
    ):
        MaskReader("colors", colors=COLORS)(save(tmp_path / "mask.png", pixels))


def test_a_mask_of_one_channel_is_refused_where_colours_are_wanted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mask\.png: has one channel and no colours; give dataset\.mask=ids"):
        MaskReader("colors", colors=COLORS)(save(tmp_path / "mask.png", IDS))


# binary, instances, several files


@pytest.mark.parametrize("channels", [None, 3])
def test_binary_masks_of_0_and_255_give_0_and_1(channels: int | None, tmp_path: Path) -> None:
    truth = IDS > 5
    pixels = (truth * 255).astype(np.uint8)
    pixels = pixels if channels is None else np.repeat(pixels[..., None], channels, axis=2)
    np.testing.assert_array_equal(MaskReader("binary")(save(tmp_path / "mask.png", pixels)), truth)


@pytest.mark.parametrize("suffix", ["png", "tif", "npy"])
def test_instances_are_all_of_class_1(suffix: str, tmp_path: Path) -> None:
    numbers = np.array([[0, 1, 2], [300, 65535, 0]], np.uint16)
    assert MaskReader("instances")(save(tmp_path / f"mask.{suffix}", numbers)).tolist() == [[0, 1, 1], [1, 1, 0]]


@pytest.mark.parametrize("kind", ["binary", "instances"])
def test_several_files_are_united(kind: Any, tmp_path: Path) -> None:
    parts = [IDS == 1, IDS == 1, (IDS > 6) & (IDS < 9)]
    paths = [save(tmp_path / f"{i}.png", (part * 255).astype(np.uint8)) for i, part in enumerate(parts)]
    np.testing.assert_array_equal(MaskReader(kind)(*paths), np.isin(IDS, [1, 7, 8]))


def test_several_files_of_ids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"b\.png: several files of one image can only be united where dataset\.mask="):
        MaskReader()(save(tmp_path / "a.png", IDS), save(tmp_path / "b.png", IDS))


def test_a_file_a_class_gives_the_classes_in_their_order_the_later_over_the_earlier(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{i}.png", ((low <= IDS) * 255).astype(np.uint8)) for i, low in enumerate((2, 8, 10))]
    expected = np.searchsorted([2, 8, 10], IDS, side="right")
    np.testing.assert_array_equal(OneFileAClass(MaskReader())(*paths), expected)


@pytest.mark.parametrize("reader", [MaskReader("binary"), OneFileAClass(MaskReader())])
def test_files_of_one_image_that_differ_in_size_are_refused_with_both(
    reader: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"b\.png: is 4x2 and .*a\.png of the same image is 4x3; they must agree"):
        reader(save(tmp_path / "a.png", IDS), save(tmp_path / "b.png", IDS[:2]))


# LabelMe

NAMES = ["background", "cell", "wall"]


def labelme(path: Path, *shapes: dict[str, Any], **more: Any) -> Path:
    path.write_text(json.dumps({"version": "5.5.0", "imageHeight": 8, "imageWidth": 10, "shapes": shapes, **more}))
    return path


def shape(label: str, points: Any, kind: str | None = "polygon") -> dict[str, Any]:
    return {"label": label, "points": points} | ({} if kind is None else {"shape_type": kind, "group_id": None})


def test_polygons_and_rectangles_are_drawn_the_later_over_the_earlier(tmp_path: Path) -> None:
    path = labelme(
        tmp_path / "a.json",
        shape("cell", [[1, 1], [6, 1], [6, 5], [1, 5]], kind=None),  # polygons of old files have no type
        shape("wall", [[8, 6], [4, 3]], "rectangle"),  # drawn from the lower right
        shape("cell", [[0, 7], [2, 7], [0, 5]]),
    )
    expected = np.zeros((8, 10), int)  # corners are pixels, and the outline belongs to the shape
    expected[1:6, 1:7] = 1
    expected[3:7, 4:9] = 2
    expected[[5, 6, 6, 7, 7, 7], [0, 0, 1, 0, 1, 2]] = 1
    mask = MaskReader("labelme", class_names=NAMES)(path)
    np.testing.assert_array_equal(mask, expected)


def test_a_circle_covers_what_is_within_its_radius(tmp_path: Path) -> None:
    mask = MaskReader("labelme", class_names=NAMES)(
        labelme(tmp_path / "a.json", shape("wall", [[5, 4], [5, 1]], "circle"))
    )
    y, x = np.mgrid[:8, :10]
    distance = np.hypot(x - 5, y - 4)
    assert (mask[distance <= 2.5] == 2).all()
    assert (mask[distance >= 3.5] == 0).all()


def test_shapes_called_ignore_are_void(tmp_path: Path) -> None:
    path = labelme(tmp_path / "a.json", shape("__ignore__", [[0, 0], [1, 1]], "rectangle"))
    mask = MaskReader("labelme", class_names=NAMES, ignore_index=77)(path)
    assert (np.flatnonzero(mask) == [0, 1, 10, 11]).all()
    assert set(np.unique(mask)) == {0, 77}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            shape("cel", [[0, 0], [1, 0], [1, 1]]),
            r"the label 'cel' is none of dataset\.class_names\. Did you mean cell\?",
        ),
        (shape("cell", [[0, 0], [1, 0]]), r"a polygon of 2 points covers no area"),
        (shape("cell", [[0, 0]], "rectangle"), r"a rectangle of 1 points covers no area"),
        (shape("cell", [[0, 0], [1, 0]], "line"), r"a line of 2 points covers no area"),
        (shape("cell", [[0], [1, 0]]), r"is no LabelMe file"),
        (shape("cell", None), r"is no LabelMe file"),
        ({"points": []}, r"is no LabelMe file: 'label' is missing or wrong"),
    ],
)
def test_shapes_that_are_no_areas_of_a_class_are_refused(bad: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"a\.json: {message}"):
        MaskReader("labelme", class_names=NAMES)(labelme(tmp_path / "a.json", bad))


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"shapes": []}', "3", "\x00"])
def test_files_that_are_no_labelme_json_are_refused_by_name(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=r"a\.json: is no (LabelMe file|JSON)"):
        MaskReader("labelme", class_names=NAMES)(tmp_path / "a.json")
