"""Where classes are found in the masks: are slips and gaps told with their files, and is what is proposed right?"""

import re
from pathlib import Path

import numpy as np
import pytest
from checking import check, kinds
from conftest import Compose
from PIL import Image
from planted import mask, save, write_clean

from segtrain.data.classes import find_classes
from segtrain.data.folder import Folder
from segtrain.dataset_check.report import report_text
from segtrain.errors import DataError

CONFIG = ("dataset.crop_size=32",)


def slip(root: Path, value: int) -> Path:
    """Give 15 pixels of one training mask a value that is no class; return its file."""
    path = root / "train" / "masks" / "2.png"
    ids = np.array(Image.open(path)).astype(np.int64)
    ids[3, :15] = value
    path.unlink()
    return save(path.with_suffix(".npy"), ids)


def rewrite(root: Path, *values: int) -> Path:
    """Give all masks these values in place of 0, 1 and 2."""
    write_clean(root)
    for number, path in enumerate(sorted(root.glob("*/masks/*.png"))):
        ids = mask(number)
        save(path, np.where(ids == 255, 255, np.array(values, np.uint8)[np.minimum(ids, 2)]).astype(np.uint8))
    return root


def test_one_wrong_value_is_one_warning_with_its_file_and_its_pixels(compose_config: Compose, tmp_path: Path) -> None:
    path = slip(write_clean(tmp_path), 77)
    result = check(compose_config, tmp_path, *CONFIG)
    (problem,) = result.problems
    assert (problem.kind, problem.severity) == ("class_gaps", "warning")
    assert [(item.text, item.files) for item in problem.items] == [("has 77 (15 pixels)", (str(path),))]
    assert problem.fix == (
        "no mask has 3 to 76; if these are classes all the same, give dataset.num_classes=78. "
        "So few pixels are more likely a slip, and 77 would be void"
    )
    assert problem.overrides == ["dataset.label_map={77: null}"]
    assert len(result.class_names or ()) == 78  # as training finds them
    text = report_text(result)
    assert re.search(r"class_3 to class_76 +absent +absent +absent", text)
    assert "\nclass_40 " not in text
    mended = check(compose_config, tmp_path, *CONFIG, *problem.overrides)
    assert (mended.problems, mended.class_names) == ([], ["class_0", "class_1", "class_2"])


def test_a_value_that_no_data_set_has_classes_for_is_named_with_its_file_beside_the_table(
    compose_config: Compose, tmp_path: Path
) -> None:
    path = slip(write_clean(tmp_path), 2**40)
    result = check(compose_config, tmp_path, *CONFIG)
    (problem,) = result.problems
    assert (problem.kind, problem.severity) == ("label_range", "error")
    assert [(item.text, item.files) for item in problem.items] == [(f"has {2**40} (15 pixels)", (str(path),))]
    assert result.class_names == ["class_0", "class_1", "class_2"]
    assert "class_2" in report_text(result)
    assert check(compose_config, tmp_path, *CONFIG, *problem.overrides).problems == []


@pytest.mark.parametrize(
    ("values", "overrides"),
    [
        ((0, 100, 200), ["dataset.label_map={100: 1, 200: 2}"]),
        ((1, 2, 3), ["dataset.reduce_zero_label=true"]),
        ((7, 11, 13), ["dataset.label_map={7: 0, 11: 1, 13: 2}"]),
    ],
)
def test_values_apart_in_all_masks_are_proposed_as_classes_without_gaps(
    values: tuple[int, ...], overrides: list[str], compose_config: Compose, tmp_path: Path
) -> None:
    root = rewrite(tmp_path, *values)
    (problem,) = check(compose_config, root, *CONFIG).problems
    assert (problem.kind, problem.overrides, len(problem.items)) == ("class_gaps", overrides, 1)
    mended = check(compose_config, root, *CONFIG, *overrides)
    assert (mended.problems, mended.class_names) == ([], ["class_0", "class_1", "class_2"])


def test_labels_far_beyond_classes_in_all_masks_name_one_that_has_the_highest(
    compose_config: Compose, tmp_path: Path
) -> None:
    write_clean(tmp_path)
    for number, path in enumerate(sorted(tmp_path.glob("*/masks/*.png"))):
        path.unlink()
        save(path.with_suffix(".npy"), np.array([0, 300, 600])[mask(number) % 3])
    (problem,) = check(compose_config, tmp_path, *CONFIG).problems
    assert (problem.kind, problem.overrides) == ("configuration", ["dataset.label_map={300: 1, 600: 2}"])
    assert Path(problem.items[0].files[0]).name == "0.npy"
    assert check(compose_config, tmp_path, *CONFIG, *problem.overrides).problems == []


def test_training_names_a_mask_that_has_the_highest_label(tmp_path: Path) -> None:
    path = slip(write_clean(tmp_path), 2**40)
    source = Folder(root=str(tmp_path), split="train")
    with pytest.raises(DataError, match=rf"labels up to {2**40} \(in {path}\), and more than 256 are no classes"):
        find_classes(source, dataset={"ignore_index": 255, "root": str(tmp_path)}, labels=None)


def test_a_class_that_only_validation_has_is_no_gap_and_one_that_no_mask_has_is_not_mapped_away(
    compose_config: Compose, tmp_path: Path
) -> None:
    root = rewrite(tmp_path, 0, 1, 3)
    (problem,) = check(compose_config, root, *CONFIG).problems
    assert (problem.kind, problem.overrides) == ("class_gaps", [])
    assert problem.fix == "no mask has 2; if these are classes all the same, give dataset.num_classes=4"
    save(root / "val" / "masks" / "0.png", mask(5))
    (problem,) = check(compose_config, root, *CONFIG).problems
    assert problem.kind == "absent_class"
    assert [item.text for item in problem.items] == [
        "class 2 (class_2) is in no mask of train",
        "class 2 (class_2) is in no mask of test",
    ]


def test_many_absent_classes_are_one_sentence(compose_config: Compose, tmp_path: Path) -> None:
    result = check(compose_config, write_clean(tmp_path), *CONFIG, "dataset.num_classes=40")
    assert kinds(result) == ["absent_class"]
    assert [item.text for item in result.problems[0].items] == [
        "37 classes are in no mask at all: " + ", ".join(f"{n} (class_{n})" for n in range(3, 11)) + ", ..."
    ]
