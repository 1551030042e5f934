"""How large, how bright and how often: the numbers of a split, and the class weights of training."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from segtrain.data.statistics import (
    channel_statistics,
    class_frequencies,
    weightings,
)
from segtrain.dataset_check.record import ImageFacts, MaskFacts, Record

Facts = dict[str, Any]


def split_facts(records: Sequence[Record], *, num_classes: int, ignore_index: int) -> Facts:
    """Return the numbers of a split's samples, of all that could be read.

    Args:
        records: of the split.
        num_classes: C; 0 where it is not known.
        ignore_index: the label of void.
    """
    images = [record.image for record in records if record.image is not None]
    masks = [record.mask for record in records if record.mask is not None]
    sizes = Counter((image.width, image.height) for image in images)
    return {
        "samples": len(records),
        "images": len(images),
        "masks": len(masks),
        "sizes": [{"width": w, "height": h, "images": count} for (w, h), count in sorted(sizes.items())],
        "types": dict(Counter(f"{image.dtype}, {image.channels} channels" for image in images)),
        "channels": channel_facts(images),
        "labels": label_facts(masks, num_classes=num_classes, ignore_index=ignore_index),
    }


def channel_facts(images: Sequence[ImageFacts]) -> Facts | None:
    """Return mean and deviation of the images that are of the commonest type and number of channels, in 0 to 1."""
    if not images:
        return None
    (dtype, channels), _ = Counter((image.dtype, image.channels) for image in images).most_common(1)[0]
    used = [image for image in images if (image.dtype, image.channels) == (dtype, channels)]
    pixels = sum(image.height * image.width for image in used)
    sums = [sum(image.sums[channel] for image in used) for channel in range(channels)]
    squares = [sum(image.squares[channel] for image in used) for channel in range(channels)]
    mean, deviation = channel_statistics(pixels, sums, squares, scale=255 if dtype == "uint8" else 1)
    return {"images": len(used), "pixels": pixels, "sums": sums, "squares": squares, "mean": mean, "std": deviation}


def label_facts(masks: Sequence[MaskFacts], *, num_classes: int, ignore_index: int) -> Facts:
    """Return how many pixels and images have each class, void, and what is neither."""
    pixels, whole = np.zeros(num_classes, np.int64), np.zeros(num_classes, np.int64)
    images = np.zeros(num_classes, np.int64)
    other: Counter[int] = Counter()
    other_images: Counter[int] = Counter()
    void = 0
    for mask in masks:
        held = {label: count for label, count in mask.labels.items() if 0 <= label < num_classes}
        labelled = sum(held.values())
        for label, count in held.items():
            pixels[label] += count
            whole[label] += labelled
            images[label] += 1
        for label, count in mask.labels.items():
            if label == ignore_index:
                void += count
            elif label not in held:
                other[label] += count
                other_images[label] += 1
    return {
        "class_pixels": pixels.tolist(),
        "class_images": images.tolist(),
        "class_frequency": class_frequencies(pixels).tolist(),
        "pixels_of_images_with_class": whole.tolist(),
        "void_pixels": void,
        "other_labels": {label: {"pixels": other[label], "images": other_images[label]} for label in sorted(other)},
    }


def class_weights(labels: Facts) -> dict[str, list[float]]:
    """Return the weights that a split's label facts suggest, each with mean 1 over the classes that occur.

    Absent classes have 0; see `segtrain.data.statistics`, whose formulas these are.
    """
    of_kinds = weightings(labels["class_pixels"], labels["pixels_of_images_with_class"], labels["class_images"])
    return {name: weights.tolist() for name, weights in of_kinds.items()}
