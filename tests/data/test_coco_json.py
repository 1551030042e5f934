"""Are COCO's polygons and run lengths the areas that they stand for?"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.utils import instantiate
from PIL import Image
from skimage.measure import grid_points_in_poly

from segtrain.data.coco_json import CocoJson
from segtrain.data.leniency import collecting
from segtrain.data.polygons import area_of, fill_polygon
from segtrain.errors import DataError

CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}, {"id": 90, "name": "pig", "supercategory": "farm"}]


def box(left: float, top: float, right: float, bottom: float) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


def shape(category: int, segmentation: Any, image: int = 5, **more: Any) -> dict[str, Any]:
    return {"id": 1, "image_id": image, "category_id": category, "segmentation": segmentation, "iscrowd": 0, **more}


def write(root: Path, *annotations: dict[str, Any], split: str = "train", **content: Any) -> CocoJson:
    """Write an image of 10x8 with the id 5, another with the id 2, and their annotations."""
    (root / "annotations").mkdir(exist_ok=True)
    (root / "images").mkdir(exist_ok=True)
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((8, 10, 3), np.uint8)).save(root / "images" / name)
    images = [{"id": 5, "file_name": "a.png", "height": 8, "width": 10}]
    images.append({"id": 2, "file_name": "b.png", "height": 8, "width": 10})
    whole = {"images": images, "annotations": annotations, "categories": CATEGORIES, **content}
    (root / "annotations" / f"{split}.json").write_text(json.dumps(whole))
    return CocoJson(root=str(root), split=split)


# areas


@pytest.mark.parametrize("seed", range(20))
def test_a_polygon_covers_the_pixels_whose_middle_is_inside(seed: int) -> None:
    points = np.random.default_rng(seed).uniform(-6, 26, (3 + seed % 5, 2))
    expected = grid_points_in_poly((18, 20), points[:, ::-1] - 0.5)  # scikit-image's pixels are their middles
    np.testing.assert_array_equal(fill_polygon(points, 18, 20), expected)


def test_a_box_covers_as_many_pixels_as_its_area() -> None:
    area = area_of([box(2, 1, 6, 4)], 8, 10)
    expected = np.zeros((8, 10), bool)
    expected[1:4, 2:6] = True
    np.testing.assert_array_equal(area, expected)


def test_the_parts_of_an_annotation_are_united() -> None:
    expected = np.zeros((8, 10), bool)
    expected[0:2, 0:3] = expected[1:5, 2:4] = True
    np.testing.assert_array_equal(area_of([box(0, 0, 3, 2), box(2, 1, 4, 5)], 8, 10), expected)


@pytest.mark.parametrize("polygon", [box(-5, -5, 50, 50), box(-5, -5, 0, 0), box(10, 8, 20, 20), [3, 3, 3, 3, 3, 3]])
def test_a_polygon_may_leave_the_image_and_may_be_flat(polygon: list[float]) -> None:
    assert area_of([polygon], 8, 10).sum() in (0, 80)


def test_run_lengths_go_down_the_columns() -> None:
    expected = np.array([[0, 0, 0, 0, 1], [0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]], bool)
    runs = [5, 2, 2, 2, 2, 2, 1, 1, 3]
    np.testing.assert_array_equal(area_of({"size": [4, 5], "counts": runs}, 4, 5), expected)
    # what pycocotools writes for it
    np.testing.assert_array_equal(area_of({"size": [4, 5], "counts": "522000OO2"}, 4, 5), expected)


def test_compressed_run_lengths_may_be_long() -> None:
    # pycocotools.mask.encode of a mask of 40x50 whose column-wise index is below 3, or in 700 to 1599
    text = "03ie0Ql0gF"
    expected = np.zeros(2000, bool)
    expected[:3] = expected[700:1600] = True
    np.testing.assert_array_equal(area_of({"size": [40, 50], "counts": text}, 40, 50), expected.reshape(50, 40).T)


@pytest.mark.parametrize(
    "segmentation",
    [
        [[0, 0, 1, 1]],
        [[0, 0, 1, 1, 2]],
        [[0, 0, 1, 1, 2, float("nan")]],
        [0, 0, 1, 1, 2, 2],
        {"size": [10, 8], "counts": [80]},
        {"size": [8, 10], "counts": [79]},
        {"size": [8, 10], "counts": [90, -10]},
        {"size": [8, 10], "counts": "\x7f\x00"},
        {"size": [8, 10], "counts": "P"},
        {"counts": [80]},
        3,
    ],
)
def test_areas_that_are_none_are_refused_with_the_file_and_image(segmentation: Any, tmp_path: Path) -> None:
    source = write(tmp_path, shape(3, segmentation))
    with pytest.raises(DataError, match=r"train\.json \(a\.png\): an annotation cannot be read: "):
        source[0]


# the data set


def test_categories_follow_background_in_the_order_of_their_ids(tmp_path: Path) -> None:
    source = write(tmp_path, shape(7, [box(0, 0, 2, 2)]), shape(3, [box(4, 0, 6, 2)]), shape(90, [box(8, 6, 9, 8)], 2))
    assert source.class_names == ["background", "cat", "dog", "pig"]
    expected = np.zeros((2, 8, 10), int)
    expected[0, 0:2, 0:2], expected[0, 0:2, 4:6], expected[1, 6:8, 8:9] = 2, 1, 3
    for index in (0, 1):
        np.testing.assert_array_equal(source[index][1], expected[index])
    assert len(source) == 2
    assert source.names(1) == (str(tmp_path / "images/b.png"), f"{tmp_path}/annotations/train.json (b.png)")


def test_the_smaller_lies_over_the_larger_whatever_comes_first(tmp_path: Path) -> None:
    large, small = shape(3, [box(0, 0, 9, 8)]), shape(7, [box(2, 2, 4, 4)])
    crowd = shape(90, {"size": [8, 10], "counts": [72, 8]}, iscrowd=1)
    expected = np.ones((8, 10), int)
    expected[2:4, 2:4], expected[:, 9] = 2, 3
    for annotations in ((large, small, crowd), (crowd, small, large)):
        np.testing.assert_array_equal(write(tmp_path, *annotations)[0][1], expected)


def test_a_file_that_is_missing_or_no_coco_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"annotations/val\.json: cannot be read \(No such file"):
        CocoJson(root=str(tmp_path), split="val")
    write(tmp_path)
    for content in ("[]", "{}", "nonsense", '{"images": 3, "categories": [], "annotations": []}', "null"):
        (tmp_path / "annotations" / "train.json").write_text(content)
        with pytest.raises(DataError, match=r"train\.json: is no (COCO file of instances|JSON)"):
            CocoJson(root=str(tmp_path), split="train")


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (shape(4, [box(0, 0, 2, 2)]), r"annotation 1: category_id 4 is no category; "),
        (shape(3, [box(0, 0, 2, 2)], image=77), r"annotation 1: image_id 77 is no image; "),
        (
            {"image_id": 77, "category_id": 4},
            r"annotations\[1\]: has no segmentation, and image_id 77 is no image, and ",
        ),
    ],
)
def test_an_annotation_of_no_category_or_image_is_refused_with_its_number(
    bad: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=rf"train\.json: {sentence}"):
        write(tmp_path, shape(3, [box(0, 0, 2, 2)]), bad)


def test_where_problems_are_collected_each_wrong_annotation_is_one_and_the_others_are_drawn(tmp_path: Path) -> None:
    good, area = shape(3, [box(0, 0, 10, 8)]), [box(0, 0, 2, 2)]
    with collecting() as found:
        source = write(tmp_path, shape(17, area, id=8), shape(3, area, image=999, id=9), good)
    assert [(problem.kind, problem.text.split("train.json: ")[1].split(";")[0]) for problem in found] == [
        ("wrong_annotation", "annotation 8: category_id 17 is no category"),
        ("wrong_annotation", "annotation 9: image_id 999 is no image"),
    ]
    np.testing.assert_array_equal(source.mask(0), np.ones((8, 10)))


def test_images_that_are_missing_are_named_with_the_key(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "images" / "b.png").unlink()
    with pytest.raises(DataError, match=r"images/b\.png: 1 of 2 files are missing; .*correct dataset\.images"):
        CocoJson(root=str(tmp_path), split="train")


def test_categories_that_are_not_those_of_training_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    assert write(tmp_path, split="val").class_names == ["background", "cat", "dog", "pig"]
    swapped = [{"id": 3, "name": "dog"}, {"id": 7, "name": "cat"}, {"id": 90, "name": "pig"}]
    with pytest.raises(DataError, match=r"val\.json: its categories .* are not those of .*train\.json"):
        write(tmp_path, split="val", categories=swapped)


def test_the_yaml_reads_cocos_own_layout(train_config: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    write(tmp_path, shape(3, [box(0, 0, 10, 8)]))
    (tmp_path / "images").rename(tmp_path / "train2017")
    (tmp_path / "annotations" / "train.json").rename(tmp_path / "annotations" / "instances_train2017.json")
    cfg = train_config(
        "dataset=coco_json",
        f"dataset.root='{tmp_path}'",
        "dataset.annotations=annotations/instances_SPLIT2017.json",
        "dataset.images=SPLIT2017",
    )
    image, mask = instantiate(cfg["dataset"]["source"], _convert_="all")(split="train")[0]
    assert image.shape == (8, 10, 3)
    assert (mask == 1).all()
