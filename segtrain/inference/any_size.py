"""Predict an image of any size: resize, pad to the stride, tile if large, mirror, blend, crop back."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


class AnySize:
    """The one path of validation, test and predict.

    Args:
        stride: sides are padded to a multiple of it by repeating the edge.
        tile: images with a longer side are cut into tiles of this side; None never tiles.
        overlap: share of a tile that its neighbour covers; tiles are blended there by a linear ramp.
        scale: the image is resized by this first, and the logits back.
        flip: average the logits with those of the mirrored image.
    """

    def __init__(
        self,
        *,
        stride: int = 32,
        tile: int | None = None,
        overlap: float = 0.25,
        scale: float = 1.0,
        flip: bool = False,
    ) -> None:
        self.stride = stride
        self.tile = None if tile is None else -(-tile // stride) * stride
        self.overlap = overlap
        self.scale = scale
        self.flip = flip

    def __call__(self, model: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
        """Return float32 logits (N, C, H, W) of a normalised image (N, channels, H, W)."""
        size = image.shape[-2:]
        if self.scale != 1.0:
            small = [max(1, round(side * self.scale)) for side in size]
            image = F.interpolate(image, size=small, mode="bilinear", align_corners=False, antialias=self.scale < 1)
        logits = self._mirrored(model, image)
        if logits.shape[-2:] != size:
            logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        return logits

    def _mirrored(self, model: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
        logits = self._tiled(model, image)
        if self.flip:
            logits = (logits + self._tiled(model, image.flip(-1)).flip(-1)) / 2
        return logits

    def _tiled(self, model: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        if self.tile is None or max(height, width) <= self.tile:
            return self._padded(model, image)
        tile_height, tile_width = min(self.tile, height), min(self.tile, width)
        weight = torch.outer(self._ramp(tile_height), self._ramp(tile_width)).to(image.device)
        total: Tensor | None = None
        weights = torch.zeros(height, width, device=image.device)
        for top in self._starts(height, tile_height):
            for left in self._starts(width, tile_width):
                window = (..., slice(top, top + tile_height), slice(left, left + tile_width))
                logits = self._padded(model, image[window])
                if total is None:
                    total = logits.new_zeros(*logits.shape[:2], height, width)
                total[window] += logits * weight
                weights[window] += weight
        assert total is not None
        return total / weights

    def _padded(self, model: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        bottom, right = -height % self.stride, -width % self.stride
        if bottom or right:
            image = F.pad(image, (0, right, 0, bottom), mode="replicate")
        return model(image)[..., :height, :width].float()

    def _starts(self, length: int, tile: int) -> list[int]:
        """Return the first pixels of tiles that cover a side, evenly spread."""
        if length <= tile:
            return [0]
        step = max(1, int(tile * (1 - self.overlap)))
        count = -(-(length - tile) // step) + 1
        return [round(i * (length - tile) / (count - 1)) for i in range(count)]

    def _ramp(self, tile: int) -> Tensor:
        """Return weights that rise from the tile's edges to 1 over the overlap."""
        edge = torch.arange(1, tile + 1, dtype=torch.float32)
        edge = torch.minimum(edge, edge.flip(0))
        return (edge / max(1.0, tile * self.overlap)).clamp(max=1.0)
