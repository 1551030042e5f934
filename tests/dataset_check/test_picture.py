"""Does the picture show the classes in their colours, labels that are none, and every splits' samples?"""

from pathlib import Path

import numpy as np
from checking import check
from conftest import Compose
from planted import CONFIG, mask, save, write_clean

from segtrain.dataset_check.picture import OUTSIDE, draw

PALETTE = "dataset.palette=[[10,200,30],[20,40,220],[230,140,50]]"


def has(picture: np.ndarray, color: tuple[int, int, int]) -> int:
    return int((picture == np.array(color)).all(axis=2).sum())


def test_the_bars_have_the_colours_of_the_classes_and_their_shares(compose_config: Compose, tmp_path: Path) -> None:
    root = write_clean(tmp_path)
    for path in root.glob("*/masks/*.png"):
        ids = np.zeros((40, 48), np.uint8)
        ids[:10] = 1
        ids[10:15] = 2
        save(path, ids)
    picture = draw(check(compose_config, root, *CONFIG, PALETTE))
    assert picture.dtype == np.uint8
    assert picture.shape[1:] == (1200, 3)
    bars = picture[:340, :600]
    areas = [has(bars, color) for color in ((10, 200, 30), (20, 40, 220), (230, 140, 50))]
    assert abs(areas[1] / areas[0] - 10 / 25) < 0.02
    assert abs(areas[2] / areas[0] - 5 / 25) < 0.02


def test_labels_that_are_no_class_are_magenta(compose_config: Compose, tmp_path: Path) -> None:
    root = write_clean(tmp_path)
    for path in root.glob("*/images/*.png"):
        save(path, np.full((40, 48, 3), 0, np.uint8))
    clean = draw(check(compose_config, root, *CONFIG, PALETTE))
    half = tuple(value // 2 for value in OUTSIDE)
    assert not any(has(clean, (half[0] + i, 0, half[2] + i)) for i in (0, 1))
    ids = mask(3)
    ids[:20] = 9
    save(root / "val" / "masks" / "0.png", ids)
    wrong = draw(check(compose_config, root, *CONFIG, PALETTE))
    assert sum(has(wrong, (half[0] + i, 0, half[2] + i)) for i in (0, 1)) > 5000


def test_there_is_a_picture_without_classes_images_or_splits(compose_config: Compose, tmp_path: Path) -> None:
    root = write_clean(tmp_path / "data")
    for path in root.glob("*/masks/*.png"):
        path.write_bytes(b"")
    for found in (check(compose_config, root, "dataset.crop_size=32"), check(compose_config, tmp_path / "nowhere")):
        assert draw(found).shape[1] == 1200
