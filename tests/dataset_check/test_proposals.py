"""Does what the check proposes make the data set usable, and is nothing proposed that would break it?"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from checking import check, kinds
from conftest import Compose
from planted import CONFIG, image, mask, save, write_clean

TWO = ("dataset.num_classes=2", "dataset.class_names=[a,b]", "dataset.crop_size=32")
COLORS = np.array([[0, 0, 0], [250, 0, 0], [0, 200, 10]], np.uint8)


def rewrite(root: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    """Change all masks: `change` gets ids of 0 to 2 without void."""
    write_clean(root)
    for number, path in enumerate(sorted(root.glob("*/masks/*.png"))):
        save(path, change(np.where((ids := mask(number)) == 255, 0, ids).astype(np.uint8)))
    return root


def ids_as(*values: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda ids: np.array(values, np.uint16 if max(values) > 255 else np.uint8)[ids]


@pytest.mark.parametrize(
    ("change", "config", "kind", "overrides"),
    [
        (ids_as(0, 255, 255), TWO, "binary_mask", ["dataset.mask=binary"]),
        (ids_as(0, 255, 0), (*TWO, "dataset.ignore_index=254"), "binary_mask", ["dataset.mask=binary"]),
        (ids_as(0, 255, 0), ("dataset.crop_size=32",), "binary_mask", ["dataset.mask=binary"]),
        (ids_as(1, 2, 3), CONFIG, "label_range", ["dataset.reduce_zero_label=true"]),
        (ids_as(0, 100, 200), CONFIG, "label_range", ["dataset.label_map={100: 1, 200: 2}"]),
        (ids_as(7, 11, 300), CONFIG, "label_range", ["dataset.label_map={7: 0, 11: 1, 300: 2}"]),
        (
            lambda ids: np.where(np.arange(ids.shape[1]) < 3, 9, ids).astype(np.uint8),
            CONFIG,
            "label_range",
            ["dataset.label_map={9: null}"],
        ),
        (
            lambda ids: (np.arange(ids.size).reshape(ids.shape) // 8).astype(np.uint16),
            TWO,
            "label_range",
            ["dataset.mask=instances"],
        ),
        (
            lambda ids: COLORS[ids],
            CONFIG,
            "rgb_mask",
            ["dataset.mask=colors", "dataset.palette=[[0,0,0],[0,200,10],[250,0,0]]"],
        ),
        (
            lambda ids: COLORS[ids],
            ("dataset.crop_size=32",),
            "rgb_mask",
            ["dataset.mask=colors", "dataset.palette=[[0,0,0],[0,200,10],[250,0,0]]"],
        ),
    ],
)
def test_the_proposed_overrides_make_the_data_set_clean(
    change: Callable[[np.ndarray], np.ndarray],
    config: tuple[str, ...],
    kind: str,
    overrides: list[str],
    compose_config: Compose,
    tmp_path: Path,
) -> None:
    root = rewrite(tmp_path, change)
    (problem,) = check(compose_config, root, *config).problems
    assert (problem.kind, problem.severity, problem.overrides) == (kind, "error", overrides)
    assert len(problem.items) == 8
    assert check(compose_config, root, *config, *problem.overrides).problems == []


@pytest.mark.parametrize(
    ("values", "overrides"),
    [
        ((-1, 0, 1), ["dataset.label_map={-1: null}"]),
        ((-1, 1, 1), ["dataset.label_map={-1: null}"]),
        ((-1, 1, 2), ["dataset.reduce_zero_label=true", "dataset.label_map={-1: null}"]),
        ((-1, 0, 100), ["dataset.label_map={-1: null, 100: 1}"]),
    ],
)
def test_negative_labels_are_proposed_as_void_and_never_as_a_class(
    values: tuple[int, ...], overrides: list[str], compose_config: Compose, tmp_path: Path
) -> None:
    write_clean(tmp_path)
    for number, path in enumerate(sorted(tmp_path.glob("*/masks/*.png"))):
        path.unlink()
        save(path.with_suffix(".npy"), np.array(values)[mask(number) % 3])
    problem = check(compose_config, tmp_path, *TWO).problems[0]
    assert (problem.kind, problem.overrides) == ("label_range", overrides)
    mended = check(compose_config, tmp_path, *TWO, *overrides).problems
    assert [found.kind for found in mended] == (["absent_class"] if 0 not in values and 2 not in values else [])


def test_the_channels_that_all_images_have_are_proposed(compose_config: Compose, tmp_path: Path) -> None:
    for number, path in enumerate(sorted(write_clean(tmp_path).glob("*/images/*.png"))):
        path.unlink()
        save(path.with_suffix(".npy"), np.concatenate([image(number), image(3)], axis=2))
    (problem,) = check(compose_config, tmp_path, *CONFIG).problems
    assert (problem.kind, problem.overrides) == ("channels", ["dataset.in_channels=6"])
    assert check(compose_config, tmp_path, *CONFIG, *problem.overrides).problems == []


def test_a_palette_that_is_not_one_colour_a_class_is_described_and_not_proposed(
    compose_config: Compose, tmp_path: Path
) -> None:
    root = rewrite(tmp_path, lambda ids: COLORS[ids])
    (problem,) = check(compose_config, root, *TWO).problems
    assert problem.overrides == []
    assert problem.fix.startswith("the files have 3 colours and dataset.num_classes is 2; correct it")


def test_a_photograph_in_place_of_a_mask_gives_no_palette(compose_config: Compose, tmp_path: Path) -> None:
    root = rewrite(tmp_path, lambda ids: image(int(ids.sum())))
    (problem,) = check(compose_config, root, *CONFIG).problems
    assert (problem.kind, problem.overrides) == ("rgb_mask", [])
    assert "more than 64 colours are no classes" in problem.fix


def test_a_data_set_without_a_key_for_the_kind_of_mask_gets_none_proposed(
    compose_config: Compose, tmp_path: Path
) -> None:
    for split in ("train", "val", "test"):
        for number in range(2):
            save(tmp_path / split / f"{number}.png", image(10 * len(split) + ord(split[0]) + number))
            save(tmp_path / f"{split}annot" / f"{number}.png", (mask(number) > 0).astype(np.uint8) * 255)
    config = ("dataset=camvid", f"dataset.root={tmp_path}", *TWO, "dataset.ignore_index=255", "dataset.palette=null")
    (problem,) = check(compose_config, None, *config).problems
    assert (problem.kind, problem.overrides) == ("binary_mask", ["dataset.label_map={255: 1}"])
    assert check(compose_config, None, *config, *problem.overrides).problems == []


def test_some_masks_of_0_and_255_among_0_and_1_are_a_warning(compose_config: Compose, tmp_path: Path) -> None:
    root = rewrite(tmp_path, ids_as(0, 1, 1))
    odd = save(root / "train" / "masks" / "0.png", (mask(0) > 0).astype(np.uint8) * 255)
    (problem,) = check(compose_config, root, *TWO).problems
    assert (problem.kind, problem.severity) == ("mixed_binary_mask", "warning")
    assert [item.files for item in problem.items] == [(str(odd),)]
    assert check(compose_config, root, *TWO, *problem.overrides).problems == []


def test_void_that_is_255_is_no_fault_where_masks_have_both_classes(compose_config: Compose, tmp_path: Path) -> None:
    root = rewrite(tmp_path, ids_as(0, 1, 255))
    save(root / "train" / "masks" / "0.png", np.where(mask(0) == 1, 255, 0).astype(np.uint8))
    assert check(compose_config, root, *TWO).problems == []


def test_255_that_is_not_void_is_not_taken_for_the_last_of_256_classes(compose_config: Compose, tmp_path: Path) -> None:
    root = rewrite(tmp_path, ids_as(0, 255, 0))
    config = ("dataset.crop_size=32", "dataset.ignore_index=254")
    result = check(compose_config, root, *config)
    assert kinds(result) == ["configuration", "binary_mask"]
    assert check(compose_config, root, *config, *result.problems[1].overrides).problems == []


def test_other_values_beside_0_and_255_are_labels_outside(compose_config: Compose, tmp_path: Path) -> None:
    root = rewrite(tmp_path, ids_as(0, 255, 255))
    odd = save(root / "train" / "masks" / "0.png", np.where(mask(0) == 1, 2, 0).astype(np.uint8))
    result = check(compose_config, root, *TWO)
    assert "label_range" in kinds(result)
    assert [item.files for item in result.problems[0].items] == [(str(odd),)]


def test_classes_that_the_configuration_lacks_are_those_that_training_finds(
    compose_config: Compose, tmp_path: Path
) -> None:
    result = check(compose_config, write_clean(tmp_path), "dataset.crop_size=32")
    assert (result.class_names, result.problems) == (["class_0", "class_1", "class_2"], [])
    (tmp_path / "classes.txt").write_text("ground\nroad\ncar\nboat\n")
    result = check(compose_config, tmp_path, "dataset.crop_size=32")
    assert result.class_names == ["ground", "road", "car", "boat"]
    assert kinds(result) == ["absent_class"]
    assert [item.text for item in result.problems[0].items] == ["class 3 (boat) is in no mask at all"]


def test_numbers_of_objects_are_no_classes_to_find(compose_config: Compose, tmp_path: Path) -> None:
    root = rewrite(tmp_path, lambda ids: (np.arange(ids.size).reshape(ids.shape) // 4).astype(np.uint16))
    result = check(compose_config, root, "dataset.crop_size=32")
    assert kinds(result) == ["configuration"]
    (item,) = result.problems[0].items
    assert f"labels up to 479 (in {item.files[0]}), and more than 256 are no classes; is dataset.mask" in item.text
    assert item.text.endswith("that mask has 479 (4 pixels)")


def test_a_configuration_that_does_not_fit_the_found_classes_is_an_error(
    compose_config: Compose, tmp_path: Path
) -> None:
    result = check(compose_config, write_clean(tmp_path), "dataset.ignore_index=2", "dataset.crop_size=32")
    assert kinds(result)[0] == "configuration"
    (item,) = result.problems[0].items
    assert item.text.startswith("dataset.ignore_index: 2 is one of the classes 0 to 255")
