"""Are brightness, contrast and saturation torchvision's, and does hue turn colours without touching their luma?"""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision.transforms.v2 import functional as tv

from segtrain.data.color import ColorJitter, color_turn

LUMA = np.array([0.299, 0.587, 0.114])


def picture(dtype: type, channels: int = 3) -> NDArray[Any]:
    """Return values in the middle of the range, so that no step clips."""
    values = np.random.default_rng(0).uniform(0.3, 0.6, (24, 30, channels))
    return (values * 255).round().astype(np.uint8) if dtype == np.uint8 else values.astype(np.float32)


def only(name: str, value: float) -> ColorJitter:
    return ColorJitter(**{name: (value, value)}, p=1.0)


def torchvisions(name: str, image: NDArray[Any], value: float) -> NDArray[Any]:
    adjust = {"brightness": tv.adjust_brightness, "contrast": tv.adjust_contrast, "saturation": tv.adjust_saturation}
    chw = torch.from_numpy(image).permute(2, 0, 1)
    return np.asarray(adjust[name](chw, value).permute(1, 2, 0).numpy())


@pytest.mark.parametrize("value", [0.0, 0.6, 1.0, 1.3])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_brightness_contrast_and_saturation_are_torchvisions(dtype: type, name: str, value: float) -> None:
    image = picture(dtype)
    found = only(name, value)(image=image)["image"]
    assert found.dtype == dtype
    # torchvision rounds the weights of grey to four digits, and cuts uint8 off where we round
    tolerance = 2 if dtype == np.uint8 else 1e-3
    difference = np.abs(found.astype(float) - torchvisions(name, image, value))
    assert difference.max() <= tolerance
    assert difference.mean() <= tolerance / 2


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_together_they_are_one_after_the_other_in_any_order(dtype: type) -> None:
    image = picture(dtype)
    jitter = ColorJitter(brightness=(1.2, 1.2), contrast=(0.8, 0.8), saturation=(1.3, 1.3), hue=(0.04, 0.04), p=1.0)
    together = jitter(image=image)["image"].astype(float)
    steps = [only("brightness", 1.2), only("contrast", 0.8), only("saturation", 1.3), only("hue", 0.04)]
    for order in (steps, steps[::-1], steps[1::-1] + steps[:1:-1]):
        single = image
        for step in order:
            single = step(image=single)["image"]
        assert np.abs(single - together).max() <= (3 if dtype == np.uint8 else 1e-5)


@pytest.mark.parametrize("name", ["brightness", "contrast"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_grey_images_have_brightness_and_contrast(dtype: type, name: str) -> None:
    image = picture(dtype, 1)
    found = only(name, 1.2)(image=image)["image"]
    center = 0 if name == "brightness" else image.astype(float).mean()
    expected = 1.2 * (image.astype(float) - center) + center
    assert found.shape == image.shape
    assert np.abs(found - expected).max() <= (1 if dtype == np.uint8 else 1e-5)
    coloured = ColorJitter(saturation=(2, 2), hue=(0.3, 0.3), p=1.0)(image=image)["image"]
    np.testing.assert_allclose(coloured, image, atol=1e-6)


@pytest.mark.parametrize("hue", [-0.3, 0.05, 0.5])
def test_hue_keeps_luma_and_grey_and_turns_back(hue: float) -> None:
    turn, colors = color_turn(saturation=1.0, hue=hue), np.random.default_rng(1).random((50, 3))
    np.testing.assert_allclose(colors @ turn.T @ LUMA, colors @ LUMA, atol=1e-9)
    np.testing.assert_allclose(turn @ np.ones(3), np.ones(3), atol=1e-9)
    np.testing.assert_allclose(turn @ color_turn(saturation=1.0, hue=-hue), np.eye(3), atol=1e-9)
    np.testing.assert_allclose(color_turn(saturation=1.0, hue=1.0), np.eye(3), atol=1e-9)


def test_hue_turns_in_the_direction_of_torchvisions() -> None:
    primaries = np.eye(3)[None].astype(np.float32) * 0.6 + 0.2
    for hue in (0.08, -0.08):
        ours = only("hue", hue)(image=primaries)["image"]
        theirs = tv.adjust_hue(torch.from_numpy(primaries).permute(2, 0, 1), hue).permute(1, 2, 0).numpy()
        # of the two lower channels, the same one grows
        for our, their, before in zip(ours[0], theirs[0], primaries[0], strict=True):
            low = np.flatnonzero(before < 0.5)
            assert np.argmax((our - before)[low]) == np.argmax((their - before)[low])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_values_stay_in_their_range(dtype: type) -> None:
    image = np.random.default_rng(0).random((16, 16, 3)).astype(np.float32)
    image = (image * 255).astype(np.uint8) if dtype == np.uint8 else image
    bright = only("brightness", 3.0)(image=image)["image"]
    assert bright.dtype == dtype
    assert bright.max() == (255 if dtype == np.uint8 else 1)
    assert only("contrast", 5.0)(image=image)["image"].min() == 0


def test_without_ranges_nothing_changes_and_with_p_0_nothing_is_done() -> None:
    image = picture(np.uint8)
    np.testing.assert_array_equal(ColorJitter(p=1.0)(image=image)["image"], image)
    np.testing.assert_array_equal(ColorJitter(brightness=(2, 2), p=0.0)(image=image)["image"], image)


def test_factors_are_drawn_from_their_ranges() -> None:
    jitter = ColorJitter(brightness=(0.5, 1.5), contrast=(0.9, 1.0), saturation=(0, 2), hue=(-0.1, 0.2))
    jitter.set_random_seed(0)
    drawn = [jitter.get_params() for _ in range(2000)]
    for name, low, high in (("brightness", 0.5, 1.5), ("contrast", 0.9, 1.0), ("saturation", 0, 2), ("hue", -0.1, 0.2)):
        values = np.array([params[name] for params in drawn])
        assert low <= values.min() < low + (high - low) / 50
        assert high - (high - low) / 50 < values.max() <= high
        np.testing.assert_allclose(values.mean(), (low + high) / 2, atol=(high - low) / 30)


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_other_channels_than_grey_or_rgb_are_refused(channels: int) -> None:
    with pytest.raises(ValueError, match=f"grey or RGB images, not for {channels} channels"):
        ColorJitter(p=1.0)(image=picture(np.uint8, channels))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"brightness": (-0.1, 1)}, r"brightness: \[-0.1, 1\] is not a lowest and a highest number of 0.0 or more"),
        ({"contrast": (1.2, 0.8)}, r"contrast: "),
        ({"saturation": (1.0,)}, r"saturation: "),
        ({"hue": (-0.6, 0)}, r"hue: \[-0.6, 0\] is not .* -0.5 to 0.5"),
        ({"p": 2}, r"p: 2 is not in \[0, 1\]"),
    ],
)
def test_ranges_that_are_none_are_named(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ColorJitter(**arguments)
