"""Are the numbers of check.json those of NumPy on the decoded pixels?"""

from pathlib import Path

import numpy as np
import pytest
from checking import check
from conftest import Compose
from PIL import Image
from planted import CONFIG, mask, save, write_clean

from segtrain.data.labels import LabelMap
from segtrain.dataset_check.sample import image_facts, mask_facts


def arrays(root: Path, split: str, folder: str) -> list[np.ndarray]:
    files = sorted((root / split / folder).iterdir())
    return [np.load(path) if path.suffix == ".npy" else np.array(Image.open(path)) for path in files]


@pytest.mark.parametrize("split", ["train", "val"])
def test_channel_statistics_and_sizes_are_numpys(split: str, compose_config: Compose, tmp_path: Path) -> None:
    root = write_clean(tmp_path)
    rng = np.random.default_rng(1)
    save(root / split / "images" / "wide.png", rng.integers(0, 256, (33, 70, 3), dtype=np.uint8))
    save(root / split / "masks" / "wide.png", mask(1, height=33, width=70))
    facts = check(compose_config, root, *CONFIG).facts[split]
    pixels = np.concatenate([image.reshape(-1, 3) for image in arrays(root, split, "images")])
    channels = facts["channels"]
    assert channels["pixels"] == len(pixels)
    assert channels["sums"] == pixels.astype(np.int64).sum(0).tolist()
    assert channels["squares"] == (pixels.astype(np.int64) ** 2).sum(0).tolist()
    np.testing.assert_allclose(channels["mean"], (pixels / 255).mean(0), rtol=1e-13)
    np.testing.assert_allclose(channels["std"], (pixels / 255).std(0), rtol=1e-12)
    assert {(size["width"], size["height"]) for size in facts["sizes"]} == {(48, 40), (70, 33)}
    assert sum(size["images"] for size in facts["sizes"]) == facts["samples"]


def test_statistics_of_floats_are_numpys(compose_config: Compose, tmp_path: Path) -> None:
    root = write_clean(tmp_path)
    rng = np.random.default_rng(2)
    for path in root.glob("*/images/*.png"):
        path.unlink()
        save(path.with_suffix(".npy"), rng.random((40, 48, 2)).astype(np.float32))
    result = check(compose_config, root, *CONFIG, "dataset.in_channels=2")
    assert result.problems == []
    pixels = np.concatenate([image.reshape(-1, 2) for image in arrays(root, "train", "images")]).astype(np.float64)
    np.testing.assert_allclose(result.facts["train"]["channels"]["mean"], pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(result.facts["train"]["channels"]["std"], pixels.std(0), rtol=1e-9)


def test_class_counts_are_numpys_behind_the_label_map(compose_config: Compose, tmp_path: Path) -> None:
    root = write_clean(tmp_path)
    save(root / "train" / "masks" / "0.png", np.full((40, 48), 2, np.uint8))
    config = ("dataset.num_classes=2", "dataset.class_names=[a,b]", "dataset.crop_size=32", "dataset.label_map={2: 1}")
    result = check(compose_config, root, *config)
    masks = [np.where(m == 2, 1, m) for m in arrays(root, "train", "masks")]
    labels = result.facts["train"]["labels"]
    assert labels["class_pixels"] == [int(sum((m == c).sum() for m in masks)) for c in (0, 1)]
    assert labels["class_images"] == [int(sum((m == c).any() for m in masks)) for c in (0, 1)] == [3, 4]
    assert labels["void_pixels"] == int(sum((m == 255).sum() for m in masks))
    whole = [int(sum((m != 255).sum() for m in masks if (m == c).any())) for c in (0, 1)]
    assert labels["pixels_of_images_with_class"] == whole
    assert labels["class_frequency"] == pytest.approx([n / sum(labels["class_pixels"]) for n in labels["class_pixels"]])
    frequency = np.array(labels["class_frequency"])
    np.testing.assert_allclose(result.weights["inverse_frequency"], (1 / frequency) / (1 / frequency).mean())
    assert set(result.weights) == {"inverse_frequency", "median_frequency", "enet", "effective_number"}


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.uint16, np.bool_])
def test_values_of_masks_of_any_type_are_counted(dtype: type) -> None:
    values = np.random.default_rng(3).integers(0, 2 if dtype is np.bool_ else 90, (31, 17)).astype(dtype)
    facts = mask_facts(values, LabelMap({5: None}, ignore_index=255))
    expected = dict(zip(*(part.tolist() for part in np.unique(values.astype(int), return_counts=True)), strict=True))
    assert facts.values == expected
    if 5 in expected:
        expected[255] = expected.pop(5)
    assert facts.labels == expected


def test_negative_and_huge_values_are_counted() -> None:
    values = np.array([[-1, 0, 70_000], [-1, 1, 70_000]], np.int64)
    assert mask_facts(values, LabelMap(ignore_index=-1)).values == {-1: 2, 0: 1, 1: 1, 70_000: 2}


def test_counts_beyond_what_a_float32_holds_are_exact() -> None:
    image = np.full((4097, 4100, 1), 3, np.uint8)  # 16,797,700 pixels, more than 2^24
    image[0, 0] = 255
    facts = image_facts(image)
    assert facts.sums == [3 * (4097 * 4100 - 1) + 255]
    assert facts.squares == [9 * (4097 * 4100 - 1) + 255**2]
    assert not facts.constant


def test_the_digest_is_of_content_and_shape() -> None:
    image = np.random.default_rng(4).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    same = image_facts(np.asfortranarray(image))
    assert image_facts(image).digest == same.digest
    assert image_facts(image.reshape(8, 6, 3)).digest != same.digest
    ids, labels = image[..., 0] % 3, LabelMap(ignore_index=255)
    assert mask_facts(ids, labels).digest == mask_facts(ids.astype(np.int32), labels).digest
    assert mask_facts(ids, labels).digest != mask_facts(ids.T, labels).digest
