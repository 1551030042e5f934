"""Are the rows of a table read as they are written, and mistakes named with their line?"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.utils import instantiate
from PIL import Image

from segtrain.data.csv_file import CsvFile
from segtrain.data.folder import SPLITS, share_of
from segtrain.data.images import ImageReader
from segtrain.data.masks import MaskReader
from segtrain.errors import DataError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a folder with images, depth, masks and parts of masks, 1 to 6, each of one value."""
    for number in range(1, 7):
        for folder, shape, value in (
            ("images", (4, 6, 3), number),
            ("depth", (4, 6), 10 * number),
            ("masks", (4, 6), number),
            (f"parts/{number}", (4, 6), 255),
        ):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            for name in ("x", "y") if folder.startswith("parts") else (str(number),):
                Image.fromarray(np.full(shape, value, np.uint8)).save(tmp_path / folder / f"{name}.png")
    return tmp_path


def table(folder: Path, *lines: str, split: str = "train", **readers: Any) -> CsvFile:
    (folder / "data.csv").write_text("\n".join(lines), encoding="utf-8")
    return CsvFile(file=str(folder / "data.csv"), split=split, **readers)


def numbers(source: CsvFile) -> list[int]:
    """Return the numbers of the samples, after a look at whether image and mask agree."""
    found = [(int(source[index][0][0, 0, 0]), int(source[index][1][0, 0])) for index in range(len(source))]
    assert all(image == mask for image, mask in found)
    return [image for image, _ in found]


def test_rows_go_to_their_split_with_their_weight(data: Path) -> None:
    lines = [
        "weight,split,image,mask",
        "1,train,images/3.png,masks/3.png",
        "0.5,val,images/1.png,masks/1.png",
        "",
        "2.5, train , images/2.png, masks/2.png ",
    ]
    train = table(data, *lines)
    assert (numbers(train), train.weights) == ([3, 2], [1.0, 2.5])
    val = table(data, *lines, split="val")
    assert (numbers(val), val.weights) == ([1], [0.5])
    assert len(table(data, *lines, split="test")) == 0
    assert table(data, "image,mask", "images/1.png,masks/1.png").weights is None


def test_paths_may_be_absolute_and_quoted(data: Path) -> None:
    (data / "masks" / "1.png").rename(data / "masks" / "one, two.png")
    assert numbers(table(data, "image,mask,split", f'{data}/images/1.png,"masks/one, two.png",train')) == [1]


def test_a_byte_order_mark_and_windows_line_ends_are_read(data: Path) -> None:
    content = b"\xef\xbb\xbfimage,mask,split\r\nimages/1.png,masks/1.png,train\r\n"
    (data / "data.csv").write_bytes(content)
    assert numbers(CsvFile(file=str(data / "data.csv"), split="train")) == [1]


def test_without_a_split_images_are_dealt_by_name(data: Path) -> None:
    lines = ["image,mask", *(f"images/{n}.png,masks/{n}.png" for n in range(1, 7))]
    dealt = {split: numbers(table(data, *lines, split=split)) for split in SPLITS}
    assert dealt == {split: [n for n in range(1, 7) if share_of(str(n), (0.8, 0.1, 0.1)) == split] for split in SPLITS}


def test_a_pattern_stands_for_a_row_for_each_file(data: Path) -> None:
    source = table(data, "image,mask,split,weight", "images/[2-4].png,masks/*.png,train,3")
    assert (numbers(source), source.weights) == ([2, 3, 4], [3.0] * 3)
    assert numbers(table(data, "image,mask,split", f"{data}/im*/*.png,**/masks/*.png,train")) == [1, 2, 3, 4, 5, 6]


def test_brackets_in_a_files_name_are_no_pattern(data: Path) -> None:
    for folder in ("images", "masks"):
        (data / folder / "1.png").rename(data / folder / "scan[1].png")
    source = table(data, "image,mask,split", "images/scan[1].png,masks/scan[1].png,train")
    assert numbers(source) == [1]


def test_brackets_in_the_folder_of_the_table_are_no_pattern(data: Path, tmp_path: Path) -> None:
    moved = tmp_path / "run[1]"
    moved.mkdir()
    for folder in ("images", "masks"):
        (data / folder).rename(moved / folder)
    assert numbers(table(moved, "image,mask,split", "images/*.png,masks/*.png,train")) == [1, 2, 3, 4, 5, 6]


def test_stacked_cells_give_the_channels_in_their_order(data: Path) -> None:
    source = table(
        data, "image,mask,split", "images/2.png; depth/2.png,masks/2.png,train", image=ImageReader(channels=4)
    )
    assert source[0][0][0, 0].tolist() == [2, 2, 2, 20]


@pytest.mark.parametrize("cell", ["parts/2/x.png;parts/2/y.png", "parts/2/*.png"])
def test_several_masks_of_an_image_are_united(cell: str, data: Path) -> None:
    source = table(data, "image,mask,split", f"images/2.png,{cell},train", mask=MaskReader("binary"))
    assert [path.name for path in source.masks[0]] == ["x.png", "y.png"]
    assert set(np.unique(source[0][1])) == {1}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], r": has no column 'image' \(has: nothing\)"),
        (["image;mask"], r": has no column 'image' \(has: image;mask\)"),
        (["image"], r": has no column 'mask' \(has: image\)"),
        (["image,mask,wieght"], r": knows no column 'wieght'\. Did you mean weight\?"),
        (["image,mask,mask"], r": has a column twice"),
        (["image,mask", "images/1.png"], r", line 2: has not one cell for each of image, mask"),
        (["image,mask", "images/1.png,masks/1.png,x"], r", line 2: has not one cell for each"),
        (["image,mask,split", "images/1.png,masks/1.png,"], r", line 2: has not one cell for each"),
        (["image,mask,split", ",masks/1.png,train"], r", line 2: has not one cell for each"),
        (
            ["image,mask", "images/1.png,masks/1.png", "", "images/9.png,masks/1.png"],
            r", line 4: .*images/9\.png is not",
        ),
        (["image,mask", "images/1.png,masks/9.png"], r", line 2: .*masks/9\.png is not there"),
        (["image,mask", "images/1.png;depth/9.png,masks/1.png"], r", line 2: .*depth/9\.png is not there"),
        (["image,mask", "images,masks/1.png"], r", line 2: .*images is not there"),
        (["image,mask", "photos/*.jpg,masks/*.png"], r", line 2: no file is like photos/\*\.jpg"),
        (["image,mask", "images/*.png,labels/*.png"], r", line 2: no file is like labels/\*\.png"),
        (["image,mask", "images/*.png,masks/[12].png"], r", line 2: 4 images have no mask like .*, such as 3\.png"),
        (["image,mask", "*/1.png,masks/*.png"], r", line 2: .*depth/1\.png and .*images/1\.png have one name"),
        (["image,mask,split", "images/1.png,masks/1.png,dev"], r", line 2: split 'dev' is not one of train, val, test"),
        (
            ["image,mask,weight", "images/1.png,masks/1.png,much"],
            r", line 2: weight 'much' is not a number of 0 or more",
        ),
        (["image,mask,weight", "images/1.png,masks/1.png,-1"], r", line 2: weight '-1' is not"),
        (["image,mask,weight", "images/1.png,masks/1.png,nan"], r", line 2: weight 'nan' is not"),
        (["image,mask,weight", "images/1.png,masks/1.png,inf"], r", line 2: weight 'inf' is not"),
        (["image,mask\0", "a,b"], r": "),
    ],
)
def test_mistakes_are_named_with_their_line(lines: list[str], message: str, data: Path) -> None:
    split = share_of("1", (0.8, 0.1, 0.1))
    with pytest.raises(DataError, match=rf"data\.csv{message}"):
        table(data, *lines, split=split)


def test_files_that_are_no_tables_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.csv: cannot be read \(No such file"):
        CsvFile(file=str(tmp_path / "gone.csv"), split="train")
    (tmp_path / "latin.csv").write_bytes("image,mask\né,a".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.csv: is no CSV in UTF-8"):
        CsvFile(file=str(tmp_path / "latin.csv"), split="train")


def test_every_key_of_the_yaml_reaches_the_source(train_config: Callable[..., dict[str, Any]], data: Path) -> None:
    (data / "data.csv").write_text("image,mask,split\nimages/2.png;depth/2.png,parts/2/*.png,train\n")
    cfg = train_config(
        "dataset=csv",
        f"dataset.file='{data}/data.csv'",
        "dataset.mask=binary",
        "dataset.in_channels=4",
        "dataset.value_range=[0,20]",
    )
    image, mask = instantiate(cfg["dataset"]["source"], _convert_="all")(split="train")[0]
    np.testing.assert_allclose(image[0, 0], [0.1, 0.1, 0.1, 1])
    assert mask.max() == 1
