"""Mix the images of a batch with each other, and their masks alike."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray


class Mix(ABC):
    """What every mix is: sample j of a batch of N is mixed with sample (j + N/2) mod N, the same on any rank."""

    @abstractmethod
    def __call__(
        self, images: NDArray[Any], masks: NDArray[Any], *, seeds: Sequence[int]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return images (N, H, W, C) and masks (N, H, W); all draws for a sample come from its seed."""
