"""From the bytes of an image to what a network was trained on, on the device."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """Scale uint8 images to 0 to 1 (others are so already), subtract a mean and divide by a deviation of each channel.

    The statistics are buffers: a checkpoint restores those that its weights were trained with.

    Args:
        mean: one value a channel, for images in 0 to 1.
        std: likewise.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Return float32 (N, C, H, W) from uint8, or float32 in 0 to 1, in the same memory format."""
        return ((image.float() / 255 if image.dtype == torch.uint8 else image) - self.mean) / self.std
