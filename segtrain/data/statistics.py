"""How often classes occur, what channels measure, and the class weights that follow: from counts alone.

Everything here is a function of integer counts, which add up over files, splits and processes without rounding.
Weights are scaled to a mean of 1 over the classes that occur, so that they can be exchanged without a new learning
rate. A class that never occurs gets 0: no pixel of the truth has it, so no weight of it is ever used, and the formulas
would make it infinite (inverse frequency, effective number) or the largest of all (ENet).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Weights = NDArray[np.float64]


def class_frequencies(pixels: ArrayLike) -> Weights:
    """Return the share of each class (C,) in all labelled pixels; zeros where there is none.

    Args:
        pixels: of each class (C,), void left out.
    """
    counts = np.asarray(pixels, np.float64)
    return counts / max(counts.sum(), 1.0)


def channel_statistics(
    count: int, sums: Sequence[int | float], squares: Sequence[int | float], *, scale: int = 1
) -> tuple[list[float], list[float]]:
    """Return the mean and the (population) deviation of each channel.

    Args:
        count: pixels.
        sums: of each channel's values.
        squares: of their squares; with integers the variance has no cancellation.
        scale: what the values are divided by, 255 for 8 bits, as segtrain does before the network.
    """
    means, deviations = [], []
    for total, square in zip(sums, squares, strict=True):
        variance = max(count * square - total * total, 0) / (count * count)
        means.append(total / count / scale)
        deviations.append(variance**0.5 / scale)
    return means, deviations


def inverse_frequency(pixels: ArrayLike) -> Weights:
    """Return 1 / p for the share p of each class, scaled to mean 1.

    Args:
        pixels: of each class (C,).
    """
    shares = class_frequencies(pixels)
    return _scaled(np.divide(1.0, shares, out=np.zeros_like(shares), where=shares > 0))


def median_frequency(pixels: ArrayLike, pixels_of_images: ArrayLike) -> Weights:
    """Return the median of all f / f of a class, scaled to mean 1 (Eigen & Fergus, 2015, arXiv:1411.4734).

    SegNet (arXiv:1511.00561) balances CamVid with it.

    Args:
        pixels: of each class (C,).
        pixels_of_images: labelled pixels (C,) of the images that have the class; f is the share in them.
    """
    counts, whole = np.asarray(pixels, np.float64), np.asarray(pixels_of_images, np.float64)
    shares = np.divide(counts, whole, out=np.zeros_like(counts), where=counts > 0)
    if not (counts > 0).any():
        return shares
    median = np.median(shares[counts > 0])
    return _scaled(np.divide(median, shares, out=np.zeros_like(shares), where=counts > 0))


def enet(pixels: ArrayLike, *, offset: float = 1.02) -> Weights:
    """Return 1 / ln(offset + p) for the share p of each class, scaled to mean 1 (ENet: Paszke et al., 2016).

    Source: arXiv:1606.02147, where the offset bounds the weights, before they are scaled, to between 1 and 50.

    Args:
        pixels: of each class (C,).
        offset: c of the paper.
    """
    shares = class_frequencies(pixels)
    return _scaled(np.where(shares > 0, 1 / np.log(offset + shares), 0.0))


def effective_number(images: ArrayLike, *, beta: float = 0.999) -> Weights:
    """Return (1 - beta) / (1 - beta^n), scaled to mean 1 (Cui et al., 2019, arXiv:1901.05555).

    Args:
        images: n of each class (C,), the images that have it: neighbouring pixels are no samples of their own, and
            with their number every class would get the same weight.
        beta: of the paper, 0 for no weights, towards 1 for the inverse number of images.
    """
    numbers = np.asarray(images, np.float64)
    return _scaled(np.divide(1 - beta, 1 - beta**numbers, out=np.zeros_like(numbers), where=numbers > 0))


def weightings(pixels: ArrayLike, pixels_of_images: ArrayLike, images: ArrayLike) -> dict[str, Weights]:
    """Return the class weights (C,) of every kind by its name.

    Args:
        pixels: of each class (C,).
        pixels_of_images: labelled pixels (C,) of the images that have the class.
        images: those that have it (C,).
    """
    return {
        "inverse_frequency": inverse_frequency(pixels),
        "median_frequency": median_frequency(pixels, pixels_of_images),
        "enet": enet(pixels),
        "effective_number": effective_number(images),
    }


def _scaled(weights: Weights) -> Weights:
    occurring = weights > 0
    return weights / weights[occurring].mean() if occurring.any() else weights
