"""How often each training image comes in an epoch: once, by weight, or more often where rare classes are."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from segtrain.data.samples import Samples
from segtrain.errors import UserError


class Sampling:
    """What every sampling is: it says how often each sample comes in an epoch, on average."""

    reads_masks = False

    def repeats(self, samples: Samples) -> NDArray[np.float64] | None:
        """Return (N,) numbers of 0 or more, whose sum is the length of an epoch; None for each sample once."""
        return None


class Shuffle(Sampling):
    """Every sample once an epoch."""


class ByWeight(Sampling):
    """As often as the data set's weights say; an epoch is as long as the data set.

    Args:
        weights: of the samples, in the data set's order; None for those that the data set has (a CSV's column).
    """

    def __init__(self, weights: Sequence[float] | None = None) -> None:
        self.weights = weights

    def repeats(self, samples: Samples) -> NDArray[np.float64]:
        """Return N times each weight's share.

        Raises:
            UserError: if there are no weights, not one a sample, or none above 0.
        """
        weights = samples.weights if self.weights is None else self.weights
        if weights is None:
            raise UserError(
                "sampling: weight, and the data set has none; give a CSV with a column weight (dataset=csv), or "
                "another sampling"
            )
        values = np.asarray(weights, np.float64)
        if len(values) != len(samples):
            raise UserError(
                f"sampling.weights: {len(values)} weights for {len(samples)} training images; give one each"
            )
        if not np.isfinite(values).all() or values.min() < 0 or values.sum() == 0:
            raise UserError("sampling.weights: weights are numbers of 0 or more, not all of them 0")
        return values * (len(values) / values.sum())


class BalancedByClass(Sampling):
    """Draw a class, each as likely as the others, then one of the images that have it; as long as the data set."""

    reads_masks = True

    def repeats(self, samples: Samples) -> NDArray[np.float64]:
        """Return N times the chance of each image; images without any class are left out.

        Raises:
            UserError: if no mask has a class.
        """
        present = samples.presence()
        present = present[:, present.any(axis=0)]
        if not present.size:
            raise UserError("sampling: the training masks have no class but void; is dataset.ignore_index right?")
        shares = (present / present.sum(axis=0)).mean(axis=1)
        return shares * len(samples)


class RepeatFactor(Sampling):
    """Repeat images that have a rare class (Gupta et al., 2019, arXiv:1908.03195, section 5.1); an epoch gets longer.

    With f the share of images that have a class, an image comes max(1, sqrt(threshold / f)) times, for the rarest of
    its classes.

    Args:
        threshold: the share of images below which a class is rare, above 0 to 1.

    Raises:
        ValueError: if the threshold is none.
    """

    reads_masks = True

    def __init__(self, threshold: float = 0.1) -> None:
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold: {threshold} is not above 0 to 1, a share of the images")
        self.threshold = threshold

    def repeats(self, samples: Samples) -> NDArray[np.float64]:
        """Return the repeat factor of each image."""
        present = samples.presence()
        shares = present.mean(axis=0)
        factors = np.sqrt(self.threshold / np.where(shares > 0, shares, 1.0)).clip(min=1.0)
        return np.where(present, factors, 1.0).max(axis=1)
