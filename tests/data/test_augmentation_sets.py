"""Does every set of configs/augmentation give crops with integer masks that still fit their images?"""

from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import OmegaConf

from segtrain.config.locate import config_dir
from segtrain.data.augmentation import Augmentation

VOID = 255
CROP = 64
ANY_CHANNELS = ("none", "light", "medical")
SETS = (*ANY_CHANNELS, "standard", "strong", "aerial")
every_set = pytest.mark.parametrize("name", SETS)


@pytest.fixture(scope="module")
def sets() -> dict[str, Any]:
    """Return the transforms of every set, as the nuclei's (flips and quarter turns) with crops of 64 pixels."""
    with pytest.MonkeyPatch.context() as patch, initialize_config_dir(config_dir(), version_base="1.3"):
        patch.setenv("SEGTRAIN_RUN_ID", "test")
        words = (f"dataset.crop_size={CROP}", "dataset.scale_range=[0.5,2.0]")
        return {
            name: OmegaConf.to_container(
                compose("train", overrides=[f"augmentation={name}", *words]).augmentation.transforms, resolve=True
            )
            for name in SETS
        }


def picture(
    height: int, width: int, *, channels: int = 3, dtype: type = np.uint8
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Return an image whose every value is 40 times the class of its pixel (1 to 5), in blocks, and the mask."""
    blocks = np.random.default_rng(0).integers(1, 6, (height // 20 + 1, width // 20 + 1), dtype=np.uint8)
    mask = blocks.repeat(20, axis=0).repeat(20, axis=1)[:height, :width].copy()
    image = np.repeat(mask[..., None] * 40, channels, axis=2)
    return (image if dtype == np.uint8 else image.astype(np.float32) / 255), mask


def always(nodes: list[Any]) -> list[Any]:
    """Return the geometric transforms of a list, each with p=1."""
    kept = []
    for node in instantiate(nodes, _convert_="all"):
        if isinstance(node, A.OneOf):
            inner = [transform for transform in node.transforms if isinstance(transform, A.DualTransform)]
            kept += [A.OneOf(inner, p=1.0)] if inner else []
        elif isinstance(node, A.DualTransform):
            node.p = 1.0
            kept.append(node)
    return kept


def test_these_are_the_sets_that_there_are() -> None:
    assert {path.stem for path in (Path(config_dir()) / "augmentation").glob("*.yaml")} == set(SETS)


@every_set
@pytest.mark.parametrize("size", [(150, 200), (40, 50), (50, 200), (64, 64), (1, 7)])
def test_crops_have_their_size_and_masks_only_labels_and_void(
    name: str, size: tuple[int, int], sets: dict[str, Any]
) -> None:
    augmentation = Augmentation(instantiate(sets[name], _convert_="all"), ignore_index=VOID)
    image, mask = picture(*size)
    for seed in range(12):
        crop, crop_mask = augmentation(image, mask, seed=seed)
        assert (crop.shape, crop.dtype) == ((CROP, CROP, 3), np.uint8)
        assert (crop_mask.shape, crop_mask.dtype) == ((CROP, CROP), np.uint8)
        assert set(np.unique(crop_mask)) <= {*np.unique(mask), VOID}


@every_set
def test_the_seed_is_all_that_the_bytes_depend_on(name: str, sets: dict[str, Any]) -> None:
    first, second = (Augmentation(instantiate(sets[name], _convert_="all"), ignore_index=VOID) for _ in range(2))
    image, mask = picture(150, 200)
    image = image + np.random.default_rng(0).integers(0, 20, image.shape, dtype=np.uint8)
    looks = []
    for seed in range(8):
        np.random.seed(seed)
        crop, crop_mask = first(image, mask, seed=seed)
        looks.append(crop.tobytes())
        second(image, mask, seed=100 + seed)
        again, again_mask = second(image, mask, seed=seed)
        np.testing.assert_array_equal(crop, again)
        np.testing.assert_array_equal(crop_mask, again_mask)
    assert len(set(looks)) == 8


@every_set
@pytest.mark.parametrize("size", [(150, 200), (50, 60)])
def test_image_and_mask_move_together(name: str, size: tuple[int, int], sets: dict[str, Any]) -> None:
    augmentation = Augmentation(always(sets[name]), ignore_index=VOID)
    image, mask = picture(*size)
    window, inside = np.ones((9, 9), np.uint8), 0
    for seed in range(12):
        crop, crop_mask = augmentation(image, mask, seed=seed)
        # beside an edge between two classes, which may lie just outside the crop, the image is a mixture of both
        flat = (cv2.erode(crop_mask, window) == cv2.dilate(crop_mask, window)) & (crop_mask != VOID)
        flat[:4] = flat[-4:] = flat[:, :4] = flat[:, -4:] = False
        inside += flat.sum()
        assert np.abs(crop[flat].astype(int) - 40 * crop_mask[flat][:, None].astype(int)).max(initial=0) <= 1, seed
    assert inside > 12 * CROP * CROP * 0.05


@every_set
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_sets_take_the_channels_and_depths_that_they_say(
    name: str, channels: int, dtype: type, sets: dict[str, Any]
) -> None:
    augmentation = Augmentation(instantiate(sets[name], _convert_="all"), ignore_index=VOID)
    image, mask = picture(90, 50, channels=channels, dtype=dtype)
    if channels == 5 and name not in ANY_CHANNELS:
        with pytest.raises(ValueError, match="grey or RGB images, not for 5 channels"):
            [augmentation(image, mask, seed=seed) for seed in range(20)]
        return
    for seed in range(12):
        crop, _ = augmentation(image, mask, seed=seed)
        assert (crop.shape, crop.dtype) == ((CROP, CROP, channels), dtype)
        assert 0 <= crop.min() <= crop.max() <= (255 if dtype == np.uint8 else 1)


@every_set
@pytest.mark.parametrize("void", [-1, 65535])
def test_wide_masks_keep_their_type_and_void(name: str, void: int, sets: dict[str, Any]) -> None:
    augmentation = Augmentation(always(sets[name]), ignore_index=void)
    image, mask = picture(40, 150)
    found = set()
    for seed in range(6):
        crop_mask = augmentation(image, mask.astype(np.int32) + 300, seed=seed)[1]
        assert crop_mask.dtype == np.int32
        found |= set(np.unique(crop_mask).tolist())
    assert found <= {301, 302, 303, 304, 305, void}
    assert void in found
