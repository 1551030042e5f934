"""Brightness, contrast, saturation and hue as one matrix: a single pass over the pixels."""

import math
from collections.abc import Sequence
from typing import Any

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

from segtrain.data.images import Image

# RGB to luma (ITU-R BT.601) and the two colour differences of NTSC's YIQ; the rows of I and Q sum to 0
YIQ = np.array([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
RGB = np.linalg.inv(YIQ)


class ColorJitter(A.ImageOnlyTransform):
    """Random brightness, contrast, saturation and hue of grey or RGB images.

    All four are affine in RGB (Haeberli 1993, "Matrix Operations for Image Processing"), so one 3x4 matrix does them
    together. Brightness, contrast (about the mean grey of the image) and saturation (towards the pixel's grey) are
    those of torchvision and Albumentations. They commute, so no order is drawn.

    Deviations: values are clipped once at the end, not after each step. Hue turns the colour differences I and Q and
    keeps the luma of each pixel; torchvision's turns the hue of HSV, which keeps the largest and the smallest
    channel. For uint8, cv2.transform rounds the matrix: a value can be one off.

    Args:
        brightness: lowest and highest factor of all values.
        contrast: lowest and highest factor of the distance to the mean grey.
        saturation: lowest and highest factor of the distance to the pixel's grey; RGB alone.
        hue: lowest and highest turn, -0.5 to 0.5 of a full circle, red towards green if above 0; RGB alone.
        p: share of the images that are changed.

    Raises:
        ValueError: if a range is none, or an image has neither 1 nor 3 channels.
    """

    def __init__(
        self,
        *,
        brightness: Sequence[float] = (1.0, 1.0),
        contrast: Sequence[float] = (1.0, 1.0),
        saturation: Sequence[float] = (1.0, 1.0),
        hue: Sequence[float] = (0.0, 0.0),
        p: float = 0.5,
    ) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"p: {p} is not in [0, 1]: the share of the images that are changed")
        super().__init__(p=p)
        self.brightness = _range("brightness", brightness, lowest=0.0)
        self.contrast = _range("contrast", contrast, lowest=0.0)
        self.saturation = _range("saturation", saturation, lowest=0.0)
        self.hue = _range("hue", hue, lowest=-0.5, highest=0.5)

    def get_params(self) -> dict[str, Any]:
        """Draw the four, each uniformly from its range."""
        names = ("brightness", "contrast", "saturation", "hue")
        return {name: self.py_random.uniform(*getattr(self, name)) for name in names}

    def apply(
        self,
        img: Image,
        *args: Any,
        brightness: float,
        contrast: float,
        saturation: float,
        hue: float,
        **params: Any,
    ) -> Image:
        """Return the image (H, W, 1 or 3), uint8 or float32 in 0 to 1, with other colours."""
        if img.shape[2] not in (1, 3):
            raise ValueError(f"ColorJitter is for grey or RGB images, not for {img.shape[2]} channels")
        mean = cv2.mean(img)[: img.shape[2]]
        if img.shape[2] == 1:
            turn, mean_grey = np.ones((1, 1)), mean[0]
        else:
            turn, mean_grey = color_turn(saturation=saturation, hue=hue), float(YIQ[0] @ mean)
        offset = np.full((len(turn), 1), (1 - contrast) * brightness * mean_grey)
        matrix = np.hstack([brightness * contrast * turn, offset])
        changed: NDArray[Any] = cv2.transform(img, matrix).reshape(*img.shape)  # cv2 drops a single channel
        return changed if changed.dtype == np.uint8 else np.clip(changed, 0, 1, out=changed)


def color_turn(*, saturation: float, hue: float) -> NDArray[np.float64]:
    """Return the matrix (3, 3) on RGB that scales the colour differences by `saturation` and turns them by `hue`."""
    angle = -2 * math.pi * hue  # in the plane of I and Q, red to green is clockwise
    cos, sin = saturation * math.cos(angle), saturation * math.sin(angle)
    return RGB @ np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) @ YIQ


def _range(name: str, values: Sequence[float], *, lowest: float, highest: float = math.inf) -> tuple[float, float]:
    if len(values) != 2 or not lowest <= values[0] <= values[1] <= highest:
        limits = f"{lowest} or more" if highest == math.inf else f"{lowest} to {highest}"
        raise ValueError(f"{name}: {list(values)} is not a lowest and a highest number of {limits}")
    return values[0], values[1]
