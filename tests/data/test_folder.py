"""Are folders of images and masks found in every layout, and split the same way everywhere?"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.utils import instantiate
from numpy.typing import NDArray
from PIL import Image

from segtrain.data.folder import SPLITS, Folder, deal, share_of
from segtrain.data.images import ImageReader
from segtrain.data.masks import MaskReader
from segtrain.errors import DataError

NAMES = {"train": ["a", "b", "c"], "val": ["d", "e"], "test": ["f"]}


def save(path: Path, array: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def write(images: Path, masks: Path, name: str, *, suffix: str = "") -> None:
    """Write an image whose pixels, and a mask whose ids, are the number of the name's letter."""
    save(images / f"{name}.png", np.full((4, 6, 3), ord(name[0]), np.uint8))
    save(masks / f"{name}{suffix}.png", np.full((4, 6), ord(name[0]), np.uint8))


def stems(source: Folder) -> list[str]:
    """Return the names of the images, after a look at whether each has its own mask."""
    for index in range(len(source)):
        image, mask = source[index]
        assert (image[..., 0] == mask).all()
    return [files[0].stem for files in source.images]


@pytest.mark.parametrize("layout", ["split first", "images first", "lists", "lists with suffixes"])
def test_the_split_is_found_in_every_layout(layout: str, tmp_path: Path) -> None:
    for split, names in NAMES.items():
        for name in names:
            if layout == "split first":
                write(tmp_path / split / "images", tmp_path / split / "masks", name)
            elif layout == "images first":
                write(tmp_path / "images" / split, tmp_path / "masks" / split, name)
            else:
                write(tmp_path / "images", tmp_path / "masks", name)
        if layout.startswith("lists"):
            lines = [f"images/{name}.png" if layout == "lists with suffixes" else name for name in names]
            (tmp_path / f"{split}.txt").write_text("\ufeff" + "\r\n".join([*reversed(lines), "", ""]))
    for split, names in NAMES.items():
        found = stems(Folder(root=str(tmp_path), split=split))
        assert found == (names[::-1] if layout.startswith("lists") else names)


def test_folders_may_have_other_names_and_a_suffix(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / "train" / "img", tmp_path / "train" / "gt", name, suffix="_gt")
    assert stems(Folder(root=str(tmp_path), split="train", images="img", masks="gt", mask_suffix="_gt")) == ["a", "b"]


def test_images_and_masks_may_lie_in_one_folder(tmp_path: Path) -> None:
    for split, names in NAMES.items():
        for name in names:
            write(tmp_path / split, tmp_path / split, name, suffix="_mask")
    folder = Folder(root=str(tmp_path), split="val", images=".", masks=".", mask_suffix="_mask")
    assert stems(folder) == ["d", "e"]


def test_labelme_files_lie_beside_their_images(tmp_path: Path) -> None:
    save(tmp_path / "a.png", np.zeros((4, 6, 3), np.uint8))
    (tmp_path / "a.json").write_text(
        '{"imageHeight": 4, "imageWidth": 6, "shapes": [{"label": "x", "points": [[0, 0], [2, 1]], '
        '"shape_type": "rectangle"}]}'
    )
    reader = MaskReader("labelme", class_names=["_", "x"])
    folder = Folder(root=str(tmp_path), split="train", images=".", masks=".", shares=[1, 0, 0], mask=reader)
    assert folder[0][1].sum() == 6


def test_a_list_of_names_with_dots_is_read(tmp_path: Path) -> None:
    for name in ("a.v1", "b.v2.png"):
        write(tmp_path / "images", tmp_path / "masks", name.removesuffix(".png"))
    (tmp_path / "train.txt").write_text("a.v1\nb.v2.png\n")
    assert stems(Folder(root=str(tmp_path), split="train")) == ["a.v1", "b.v2"]


def test_several_binary_files_of_an_image_are_united(tmp_path: Path) -> None:
    nuclei = np.arange(24).reshape(4, 6) // 5  # 0 to 4
    save(tmp_path / "images" / "a.png", np.zeros((4, 6, 3), np.uint8))
    for number in (1, 3):
        save(tmp_path / "masks" / "a" / f"{number}.png", ((nuclei == number) * 255).astype(np.uint8))
    folder = Folder(root=str(tmp_path), split="train", shares=[1, 0, 0], mask=MaskReader("binary"))
    np.testing.assert_array_equal(folder[0][1], np.isin(nuclei, [1, 3]))


def test_a_folder_a_class_gives_the_classes_in_their_order(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png", np.zeros((4, 6, 3), np.uint8))
    columns = np.tile(np.arange(6), (4, 1))
    for name, low in (("road", 2), ("car", 4)):
        save(tmp_path / name / "a.png", ((columns >= low) * 255).astype(np.uint8))
    reader = MaskReader()
    folder = Folder(root=str(tmp_path), split="train", masks=["road", "car"], shares=[1, 0, 0], mask=reader)
    np.testing.assert_array_equal(folder[0][1], columns // 2)
    assert reader(tmp_path / "car" / "a.png").max() == 255  # the reader that was given is as it was


@pytest.mark.parametrize("layout", ["", "train"])
def test_a_stack_has_a_folder_a_modality(layout: str, tmp_path: Path) -> None:
    save(tmp_path / layout / "rgb" / "a.png", np.full((4, 6, 3), 10, np.uint8))
    save(tmp_path / layout / "thermal" / "a.tif", np.full((4, 6), 20, np.uint8))
    save(tmp_path / layout / "masks" / "a.png", np.ones((4, 6), np.uint8))
    folder = Folder(
        root=str(tmp_path),
        split="train",
        stack=["rgb", "thermal"],
        shares=[1, 0, 0],
        image=ImageReader(channels=4),
    )
    assert folder[0][0][0, 0].tolist() == [10, 10, 10, 20]


# shares


def test_shares_deal_every_image_to_one_split_roughly_in_proportion(tmp_path: Path) -> None:
    names = [f"img_{number:04}" for number in range(2000)]
    dealt = {split: {name for name in names if share_of(name, (0.8, 0.1, 0.1)) == split} for split in SPLITS}
    assert sum(map(len, dealt.values())) == len(set.union(*dealt.values())) == 2000
    for split, share in zip(SPLITS, (0.8, 0.1, 0.1), strict=True):
        deviation = (2000 * share * (1 - share)) ** 0.5  # of a binomial
        assert abs(len(dealt[split]) - 2000 * share) < 4 * deviation


def test_the_split_of_a_name_never_changes() -> None:
    assert [share_of(name, (0.5, 0.25, 0.25)) for name in ("0001", "0002", "0003", "cat")] == [
        share_of(name, (2, 1, 1)) for name in ("0001", "0002", "0003", "cat")
    ]
    # sha256sum says 888b19a4... for 0001: 0.5334 of the way
    assert share_of("0001", (0.53, 0.01, 0.46)) == "val"
    assert share_of("0001", (0.54, 0, 0.46)) == "train"
    assert share_of("0001", (0.5, 0, 0.5)) == "test"


def test_shares_stay_when_images_are_added(tmp_path: Path) -> None:
    def deal() -> dict[str, set[str]]:
        return {split: set(stems(Folder(root=str(tmp_path), split=split, shares=[1, 1, 1]))) for split in SPLITS}

    for number in range(0, 40, 2):
        write(tmp_path / "images", tmp_path / "masks", f"{number:03}")
    before = deal()
    for number in range(1, 40, 2):
        write(tmp_path / "images", tmp_path / "masks", f"{number:03}")
    after = deal()
    assert all(before[split] < after[split] for split in SPLITS)
    assert sorted(set.union(*after.values())) == [f"{number:03}" for number in range(40)]


# mistakes


def folder(root: Path, **arguments: Any) -> Folder:
    return Folder(**{"root": str(root), "split": "train", **arguments})


def test_a_wrong_root_is_named_with_the_key(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: no such folder; is dataset\.root right\?"):
        folder(tmp_path / "nowhere")


@pytest.mark.parametrize("missing", ["images", "masks"])
def test_a_missing_folder_is_named(missing: str, tmp_path: Path) -> None:
    write(tmp_path / "images", tmp_path / "masks", "a")
    (tmp_path / missing).rename(tmp_path / "other")
    with pytest.raises(DataError, match=rf"{missing}: no such folder"):
        folder(tmp_path)


@pytest.mark.parametrize("layout", [("train", "images"), ("images", "train")])
def test_a_split_without_a_folder_is_named_where_another_has_one(layout: tuple[str, str], tmp_path: Path) -> None:
    write(tmp_path / Path(*layout), tmp_path / Path(*layout[::-1]).parent, "a")
    with pytest.raises(DataError, match=r"test.*: no such folder; where one split has .* \(test=false leaves"):
        folder(tmp_path, split="test")


def test_a_split_without_a_list_is_named_where_another_has_one(tmp_path: Path) -> None:
    write(tmp_path / "images", tmp_path / "masks", "a")
    (tmp_path / "train.txt").write_text("a")
    with pytest.raises(DataError, match=r"val\.txt: no such file; where one split has"):
        folder(tmp_path, split="val")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\nb\nz\n", r"names 2 images that are not there, such as 'b'"),
        (b"\n", r"names no image"),
        (b"\xff\xfe", r"is no list in UTF-8"),
    ],
)
def test_a_list_that_is_wrong_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    write(tmp_path / "images", tmp_path / "masks", "a")
    (tmp_path / "train.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"train\.txt: {message}"):
        folder(tmp_path)


@pytest.mark.parametrize("shares", [[1, 0], [0, 0, 0], [1, -1, 1], [1, 1, 1, 1]])
def test_shares_that_are_none_are_refused(shares: list[float], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^dataset\.shares: .* are not the shares of train, val and test"):
        folder(tmp_path, shares=shares)


def test_a_split_that_no_image_falls_to_says_what_to_give(tmp_path: Path) -> None:
    write(tmp_path / "images", tmp_path / "masks", "a")
    with pytest.raises(DataError, match=r"none of its 1 images falls to val with dataset\.shares=\[1, 0, 0\]; give"):
        folder(tmp_path, split="val", shares=[1, 0, 0])


@pytest.mark.parametrize(
    "overrides",
    [
        ["dataset.num_classes=2", "dataset.class_names=[_,x]"],
        ["dataset.mask=colors", "dataset.palette=[[0,0,0],[97,97,97]]", "dataset.void_colors=[[1,2,3]]"],
        [
            "dataset.mask=binary",
            "dataset.masks=[masks,masks]",
            "dataset.stack=[images,images]",
            "dataset.in_channels=6",
        ],
        ["dataset.mask=instances", "dataset.value_range=[0,100]"],
    ],
)
def test_every_key_of_the_yaml_reaches_the_source(
    overrides: list[str], train_config: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    mask = np.full((4, 6, 3) if "dataset.mask=colors" in overrides else (4, 6), 97, np.uint8)
    save(tmp_path / "images" / "a.png", np.full((4, 6, 3), 50, np.uint8))
    save(tmp_path / "masks" / "a.png", mask)
    cfg = train_config("dataset=folder", f"dataset.root='{tmp_path}'", "dataset.shares=[1,0,0]", *overrides)
    source = instantiate(cfg["dataset"]["source"], _convert_="all")(split="train")
    image, mask = source[0]
    assert image.shape == (4, 6, cfg["dataset"]["in_channels"])
    assert image.max() == (0.5 if cfg["dataset"]["value_range"] else 50)
    expected = {"ids": 97, "colors": 1, "binary": 2, "instances": 1}[cfg["dataset"]["mask"]]
    assert set(np.unique(mask)) == {expected}


@pytest.mark.parametrize("shares", [(0.8, 0.1, 0.1), (0.5, 0.5, 0), (1, 0, 0), (0, 0.5, 0.5), (0.98, 0.01, 0.01)])
@pytest.mark.parametrize("count", [3, 4, 9, 20])
def test_few_images_leave_no_split_empty_that_has_a_share(count: int, shares: tuple[float, ...]) -> None:
    names = [f"image{number}" for number in range(count)]
    dealt = deal(names, shares)
    assert dealt.keys() == set(names)
    assert set(dealt.values()) == {split for split, share in zip(SPLITS, shares, strict=True) if share > 0}
    assert deal(names[::-1], shares) == dealt


def test_many_images_are_dealt_by_their_own_names_alone() -> None:
    names = [f"image{number}" for number in range(400)]
    dealt = deal(names, (0.8, 0.1, 0.1))
    assert dealt == {name: share_of(name, (0.8, 0.1, 0.1)) for name in names}
    few = set(names[:60])
    assert {name: split for name, split in dealt.items() if name in few} == deal(names[:60], (0.8, 0.1, 0.1))


def test_fewer_images_than_splits_are_dealt_by_name() -> None:
    assert deal(["a", "b"], (0.8, 0.1, 0.1)) == {name: share_of(name, (0.8, 0.1, 0.1)) for name in ("a", "b")}
