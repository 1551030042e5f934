"""Do data sets of other kinds than 8-bit RGB with masks of ids go through training, scoring and prediction?"""

from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Run, only_run
from PIL import Image

SHORT = (
    *("trainer=cpu", "trainer.precision=32-true", "trainer.max_epochs=1", "trainer.check_val_every_n_epoch=1"),
    *("loader.batch_size=2", "loader.num_workers=0", "dataset.crop_size=32", "augmentation=light"),
)
LITE = ("model/encoder=efficientnet_lite0", "model.encoder.weights=imagenet")


def band(rng: np.random.Generator, size: int = 64) -> np.ndarray:
    """Return a mask (H, W) of two classes with a border at a random place."""
    return np.repeat((np.arange(size) > rng.integers(16, 48))[None], size, axis=0).astype(np.uint8)


def write_folder(root: Path, *, kind: str) -> Path:
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2), ("test", 2)):
        for folder in ("images", "masks"):
            (root / split / folder).mkdir(parents=True)
        for number in range(count):
            mask = band(rng)
            values = mask[..., None] * 0.5 + rng.random((64, 64, 5)) * 0.3
            if kind == "five channels":
                np.save(root / split / "images" / f"{number}.npy", values.astype(np.float32))
            else:
                grey = (values[..., 0] * 65535).astype(np.uint16)
                cv2.imwrite(str(root / split / "images" / f"{number}.png"), grey)
            Image.fromarray(mask * 255).save(root / split / "masks" / f"{number}.png")
    return root


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "channels"), [("five channels", 5), ("16 bits", 1)])
def test_other_images_train_with_a_pretrained_encoder_and_are_predicted(
    kind: str, channels: int, segtrain: Run, tmp_path: Path
) -> None:
    root = write_folder(tmp_path / "data", kind=kind)
    overrides = ("dataset=folder", f"dataset.root={root}", "dataset.mask=binary", f"dataset.in_channels={channels}")
    done = segtrain("train", *SHORT, *LITE, *overrides)
    assert done.returncode == 0, done.stderr
    assert "found 2 classes: class_0, class_1" in done.stdout + done.stderr
    run = only_run(tmp_path)
    again = segtrain("eval", f"checkpoint={run}/checkpoints/best.ckpt")
    assert again.returncode == 0, again.stderr
    predicted = segtrain(
        "predict", f"checkpoint={run}/checkpoints/best.ckpt", f"input={root}/test/images", f"output={tmp_path}/out"
    )
    assert predicted.returncode == 0, predicted.stderr
    masks = sorted((tmp_path / "out" / "masks").glob("*.png"))
    assert len(masks) == 2
    assert set(np.unique(np.array(Image.open(masks[0])))) <= {0, 1}
    assert len([*(tmp_path / "out" / "overlays").glob("*.png")]) == 2


def test_classes_are_found_in_the_masks_after_the_label_map(segtrain: Run, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", kind="16 bits")
    (root / "classes.txt").write_text("ground\nobject\n")
    overrides = ("dataset=folder", f"dataset.root={root}", "dataset.in_channels=1", "dataset.label_map={255: 1}")
    done = segtrain("train", *SHORT, *overrides, "dataset.ignore_index=254", "model.encoder.base_channels=4")
    assert done.returncode == 0, done.stderr
    assert "found 2 classes: ground, object" in done.stdout + done.stderr
    assert "test: mIoU" in done.stdout


@pytest.mark.slow
def test_a_data_set_without_test_masks_is_trained_and_not_tested(segtrain: Run, tmp_path: Path) -> None:
    root = tmp_path / "ADEChallengeData2016"
    rng = np.random.default_rng(0)
    for part, count in (("training", 4), ("validation", 2)):
        for folder in ("images", "annotations"):
            (root / folder / part).mkdir(parents=True)
        for number in range(count):
            mask = band(rng) * 3 + 1
            Image.fromarray(np.repeat(mask[..., None] * 60, 3, axis=2)).save(root / "images" / part / f"{number}.jpg")
            Image.fromarray(mask).save(root / "annotations" / part / f"{number}.png")
    done = segtrain("train", *SHORT, "dataset=ade20k", f"dataset.root={tmp_path}", "model.encoder.base_channels=4")
    assert done.returncode == 0, done.stderr
    assert "best val mIoU" in done.stdout + done.stderr
    refused = segtrain("eval", f"checkpoint={only_run(tmp_path)}/checkpoints/best.ckpt", "split=test")
    assert refused.returncode == 1
    assert "has no test split (has: train, val)" in refused.stderr
