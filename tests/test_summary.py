"""Does the line about the model count what it says, and leave out what cannot be counted?"""

import pytest
import torch
from torch import Tensor, nn

from segtrain.summary import count_flops, describe_model


class NeedsData(nn.Module):
    """A network that looks at its input's values, which the meta device does not have."""

    def __init__(self, error: type[Exception]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        self.error = error

    def forward(self, image: Tensor) -> Tensor:
        if image.is_meta:
            raise self.error("no values")
        return self.conv(image)


def test_the_count_of_a_convolution_is_the_one_by_hand() -> None:
    conv = nn.Conv2d(3, 5, 3, padding=1, bias=False)
    assert count_flops(conv, in_channels=3, size=16) == 2 * 16 * 16 * 5 * 3 * 3 * 3


def test_counting_leaves_the_network_as_it_was() -> None:
    conv = nn.Conv2d(3, 5, 3).train()
    weight = conv.weight.clone()
    assert describe_model(conv, in_channels=3, size=16).startswith("Conv2d: 0.00 M parameters, 0.00 GFLOPs at 3x16x16")
    assert torch.equal(conv.weight, weight)
    assert conv.training


@pytest.mark.parametrize("error", [RuntimeError, ValueError, TypeError])
def test_a_network_that_cannot_be_counted_is_described_all_the_same(error: type[Exception]) -> None:
    assert describe_model(NeedsData(error), in_channels=3, size=16) == "NeedsData: 0.00 M parameters at 3x16x16"
