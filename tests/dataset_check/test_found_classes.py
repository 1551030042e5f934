"""Where classes are found in the masks: are slips and gaps told with their files, and is what is proposed right?"""

from pathlib import Path

import numpy as np
import pytest
from checking import check, kinds
from conftest import Compose
from PIL import Image
from planted import mask, save, write_clean

from segtrain.dataset_check.report import report_text

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
    assert "no mask has 3 to 76; if these are classes all the same, give dataset.num_classes=78. " in problem.fix
    assert problem.overrides == ["dataset.label_map={77: null}"]
    assert len(result.class_names or ()) == 78  # as training finds them
    text = report_text(result)
    assert "class_3 to class_76  absent" in text
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


def test_a_class_that_only_validation_has_is_no_gap_and_one_that_no_mask_has_is_not_mapped_away(
    compose_config: Compose, tmp_path: Path
) -> None:
    root = rewrite(tmp_path, 0, 1, 3)
    (problem,) = check(compose_config, root, *CONFIG).problems
    assert (problem.kind, problem.overrides) == ("class_gaps", [])
    assert problem.fix == "no mask has 2; if these are classes all the same, give dataset.num_classes=4."
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
