"""Are all problems of a listing told, once, while training still ends at the first with the same sentence?"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from checking import check, kinds
from conftest import Compose
from planted import CONFIG, image, mask, save, write_clean

from segtrain.data.coco_json import CocoJson
from segtrain.data.csv_file import CsvFile
from segtrain.data.folder import Folder
from segtrain.data.leniency import collecting, raise_or_collect, remark
from segtrain.data.pairs import match_by_name
from segtrain.dataset_check.check import Result
from segtrain.errors import DataError


def files_of(result: Result, kind: str) -> list[str]:
    (problem,) = [problem for problem in result.problems if problem.kind == kind]
    return [Path(file).name for item in problem.items for file in item.files]


def write_flat(root: Path, names: str) -> Path:
    """Write ROOT/images and ROOT/masks, an image a letter."""
    for number, name in enumerate(names):
        save(root / "images" / f"{name}.png", image(number))
        save(root / "masks" / f"{name}.png", mask(number))
    return root


def test_a_problem_is_raised_outside_of_collecting_and_kept_inside() -> None:
    error = DataError("x: is wrong")
    with pytest.raises(DataError, match="x: is wrong"):
        raise_or_collect(error, kind="k", files=[])
    remark("nobody listens", kind="k", files=[Path("x")])
    with collecting() as outer:
        with collecting() as inner:
            raise_or_collect(error, kind="k", files=[Path("x")], names=["x"])
        remark("y is left over", kind="w", files=[Path("y")])
        remark("nothing is left over", kind="w", files=[])
    assert [(found.kind, found.text, found.files, found.warning) for found in inner] == [
        ("k", "x: is wrong", ("x",), False)
    ]
    assert [(found.kind, found.warning) for found in outer] == [("w", True)]
    with pytest.raises(DataError):
        raise_or_collect(error, kind="k", files=[])


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda root: (root / "masks" / "b.png").unlink(), r"masks: 1 of 4 images have no mask; missing: b$"),
        (
            lambda root: (root / "masks" / "b.png").rename(root / "masks" / "b.jpg"),
            r"masks: 1 of 4 images have no mask; missing: b; JPEG changes values near edges, so a mask cannot be one",
        ),
        (
            lambda root: save(root / "images" / "c.bmp", image(1)),
            r"images: one file called c is wanted, and there is c",
        ),
        (lambda root: save(root / "masks" / "c.bmp", mask(1)), r"masks: one file called c is wanted, and there is c"),
    ],
)
def test_training_still_ends_at_the_first_problem_and_the_check_goes_on(
    damage: Callable[[Path], None], sentence: str, tmp_path: Path
) -> None:
    root = write_flat(tmp_path, "abcd")
    damage(root)
    with pytest.raises(DataError, match=sentence):
        match_by_name([root / "images"], [root / "masks"])
    with collecting() as found:
        images, masks = match_by_name([root / "images"], [root / "masks"])
    assert len(images) == len(masks) == 3
    assert [paths[0].stem for paths in images] == [paths[0].stem for paths in masks]
    assert len(found) == 1
    with pytest.raises(DataError, match=sentence):
        match_by_name([root / "images"], [root / "masks"])


def test_what_three_splits_of_one_folder_share_is_told_once(compose_config: Compose, tmp_path: Path) -> None:
    root = write_flat(tmp_path, "abcdef")
    (root / "masks" / "b.png").unlink()
    (root / "masks" / "c.png").unlink()
    save(root / "masks" / "z.png", mask(1))
    for split, names in (("train", "a\nb\nc\nd\n"), ("val", "e\nmissing\n"), ("test", "f\n")):
        (root / f"{split}.txt").write_text(names)
    result = check(compose_config, root, *CONFIG)
    assert kinds(result) == ["missing_mask", "listed_not_there", "extra_mask"]
    assert files_of(result, "missing_mask") == ["b.png", "c.png"]
    assert files_of(result, "listed_not_there") == ["missing"]
    assert files_of(result, "extra_mask") == ["z.png"]
    assert [facts["samples"] for facts in result.facts.values()] == [2, 1, 1]


def test_masks_that_another_split_uses_are_not_left_over(compose_config: Compose, tmp_path: Path) -> None:
    (tmp_path / "shared.py").write_text(
        "from pathlib import Path\n"
        "from segtrain.data.pairs import PairedFiles, match_by_name\n"
        "class Shared(PairedFiles):\n"
        "    def __init__(self, *, root: str, split: str) -> None:\n"
        "        super().__init__(*match_by_name([Path(root) / split], [Path(root) / 'masks']))\n"
    )
    for number, split in enumerate(("train", "val", "test")):
        save(tmp_path / split / f"{split}.png", image(number))
        save(tmp_path / "masks" / f"{split}.png", mask(number))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        config = ("++dataset.source._target_=shared.Shared", f"++dataset.source.root={tmp_path}", *CONFIG)
        result = check(compose_config, None, "dataset.palette=null", *config)
        assert result.problems == []
        save(tmp_path / "masks" / "nobody.png", mask(1))
        result = check(compose_config, None, "dataset.palette=null", *config)
    assert kinds(result) == ["extra_mask"]
    assert files_of(result, "extra_mask") == ["nobody.png"]


def test_images_and_masks_in_one_folder_are_no_masks_left_over(compose_config: Compose, tmp_path: Path) -> None:
    for number, name in enumerate("abc"):
        save(tmp_path / f"{name}.png", image(number))
        save(tmp_path / f"{name}_mask.png", mask(number))
    (tmp_path / "notes").mkdir()
    for split, name in (("train", "a"), ("val", "b"), ("test", "c")):
        (tmp_path / f"{split}.txt").write_text(name)
    keys = ("dataset.images=.", "dataset.masks=.", "dataset.mask_suffix=_mask")
    assert check(compose_config, tmp_path, *keys, *CONFIG).problems == []
    save(tmp_path / "z_mask.png", mask(1))
    assert files_of(check(compose_config, tmp_path, *keys, *CONFIG), "extra_mask") == ["z_mask.png"]


def test_every_wrong_row_of_a_table_is_told(compose_config: Compose, tmp_path: Path) -> None:
    root = write_flat(tmp_path, "abc")
    rows = [
        *("image,mask,split,weight", "images/a.png,masks/a.png,train,1", "images/b.png,masks/b.png,val,2"),
        *("images/c.png,masks/c.png,tset,1", "images/c.png,masks/c.png,train,-1", "images/x.png,masks/c.png,train,1"),
        *("images/c.png,masks/y.png,test,1", "images/c.png,masks/c.png,test"),
    ]
    (root / "data.csv").write_text("\n".join(rows))
    with pytest.raises(DataError, match=r"line 8: has not one cell for each of"):
        CsvFile(file=str(root / "data.csv"), split="train")
    result = check(compose_config, None, "dataset=csv", f"dataset.file={root / 'data.csv'}", *CONFIG)
    assert kinds(result) == ["wrong_row", "missing_file"]
    rows_told = {item.text.split(": ")[0].split(" ")[-1] for item in result.problems[0].items}
    assert rows_told == {"4", "5", "8"}
    assert files_of(result, "missing_file") == ["x.png", "y.png"]
    assert [facts["samples"] for facts in result.facts.values()] == [1, 1]


def test_files_that_a_json_names_are_missing_once_and_not_unreadable_too(
    compose_config: Compose, tmp_path: Path
) -> None:
    for number, split in enumerate(("train", "val", "test")):
        entries = [{"id": n, "file_name": f"{split}{n}.png", "width": 48, "height": 40} for n in range(3)]
        shapes = [[1, 1, 30, 1, 30, 30]]
        content = {
            "images": entries,
            "annotations": [{"image_id": n, "category_id": 1, "segmentation": shapes} for n in range(3)],
            "categories": [{"id": 1, "name": "thing"}],
        }
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"{split}.json").write_text(json.dumps(content))
        for n in range(3):
            save(tmp_path / "images" / f"{split}{n}.png", image(10 * number + n))
    (tmp_path / "images" / "train1.png").unlink()
    with pytest.raises(DataError, match=r"train1\.png: 1 of 3 files are missing"):
        CocoJson(root=str(tmp_path), split="train")
    result = check(compose_config, None, "dataset=coco_json", f"dataset.root={tmp_path}", "dataset.crop_size=32")
    assert kinds(result) == ["missing_file"]
    assert files_of(result, "missing_file") == ["train1.png"]
    assert result.class_names == ["background", "thing"]


def test_a_wrong_root_is_one_error(compose_config: Compose, tmp_path: Path) -> None:
    result = check(compose_config, tmp_path / "nowhere", *CONFIG)
    assert [(problem.kind, len(problem.items)) for problem in result.problems] == [("listing", 1)]
    assert result.count("error") == 1
    assert result.problems[0].items[0].text.endswith("nowhere: no such folder; is dataset.root right?")


def test_without_a_test_split_there_is_a_warning_and_without_validation_an_error(
    compose_config: Compose, tmp_path: Path
) -> None:
    root = write_clean(tmp_path)
    (root / "test").rename(tmp_path / "other")
    result = check(compose_config, root, *CONFIG)
    assert [(problem.kind, problem.severity) for problem in result.problems] == [("no_test_split", "warning")]
    assert check(compose_config, root, *CONFIG, "++dataset.splits=[train,val]").problems == []
    (root / "val").rename(tmp_path / "another")
    assert kinds(check(compose_config, root, *CONFIG)) == ["listing", "no_test_split"]


def test_a_stack_that_lacks_a_file_leaves_that_sample_out(tmp_path: Path) -> None:
    root = write_flat(tmp_path, "abc")
    for name in "ac":
        save(root / "depth" / f"{name}.tif", np.zeros((40, 48), np.uint8))
    with collecting() as found:
        folder = Folder(root=str(root), split="train", stack=["images", "depth"], shares=[1, 0, 0])
    assert [problem.kind for problem in found] == ["missing_image"]
    assert found[0].files == (str(root / "depth" / "b"),)
    assert len(folder) == 2
