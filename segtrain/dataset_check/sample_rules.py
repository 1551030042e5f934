"""What is wrong with single samples: files, sizes, channels, depth."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from segtrain.dataset_check.problem import Item, Problem
from segtrain.dataset_check.record import ImageFacts, Record


def sample_problems(records: Sequence[Record], *, dataset: Mapping[str, Any]) -> list[Problem]:
    """Return the problems that one sample has by itself, or beside the rest.

    Args:
        records: of all samples.
        dataset: the data set's configuration: `in_channels`, `crop_size`.
    """
    images = [(record, record.image) for record in records if record.image is not None]
    return [
        *_faults(records),
        *_sizes(records),
        *_channels(records, dataset),
        *_depths(images),
        *_orientations(images),
        *_small(images, dataset.get("crop_size")),
        Problem(
            "blank_image",
            [_item(record, "has one value everywhere") for record, image in images if image.constant],
        ),
    ]


def _item(record: Record, text: str) -> Item:
    return Item(text, (record.image_file,), record.split, record.index)


def _faults(records: Sequence[Record]) -> list[Problem]:
    """Return what the scan could tell already."""
    return [
        Problem(
            fault.kind,
            [Item(fault.text, (fault.file,), record.split, record.index)],
        )
        for record in records
        for fault in record.faults
        if fault.kind != "rgb_mask"
    ]


def _sizes(records: Sequence[Record]) -> list[Problem]:
    items = []
    for record in records:
        image, mask = record.image, record.mask
        if image is None or mask is None or (image.height, image.width) == (mask.height, mask.width):
            continue
        text = f"the mask is {mask.width}x{mask.height} and its image {image.width}x{image.height}"
        if (image.height, image.width) == (mask.width, mask.height):
            turned = f", as its EXIF orientation {image.orientation} says" if image.orientation else ""
            text += f": one of them is turned by 90 degrees{turned}"
        items.append(Item(text, (record.mask_file, record.image_file), record.split, record.index))
    return [Problem("size_mismatch", items)]


def _channels(records: Sequence[Record], dataset: Mapping[str, Any]) -> list[Problem]:
    """Find images of other channels than wanted; where all are alike, it is the key that is wrong."""
    expected = int(dataset["in_channels"])
    items = [
        _item(record, f"has {record.image.channels} channels and dataset.in_channels is {expected}")
        for record in records
        if record.image is not None and record.image.channels != expected
    ]
    counts = {record.image.channels if record.image else record.channels for record in records} - {None}
    source = dataset.get("source") or {}
    fixed = str(source.get("_target_", "")).startswith("segtrain.data.") and "image" not in source
    mends = len(counts) == 1 and expected not in counts and not fixed
    return [Problem("channels", items, overrides=[f"dataset.in_channels={counts.pop()}"] if mends else [])]


def _depths(images: Sequence[tuple[Record, ImageFacts]]) -> list[Problem]:
    """Find the images that are not of the type that most have: training takes one type alone."""
    types = Counter(image.dtype for _, image in images)
    if len(types) < 2:
        return []
    usual = types.most_common(1)[0][0]
    words = {"uint8": "8 bits"}
    items = [
        _item(record, f"has {words.get(image.dtype, 'more than 8 bits')}, and most have {words.get(usual, 'more')}")
        for record, image in images
        if image.dtype != usual
    ]
    return [Problem("depth", items, "convert them to one depth")]


def _orientations(images: Sequence[tuple[Record, ImageFacts]]) -> list[Problem]:
    items = [
        _item(record, f"has EXIF orientation {image.orientation}") for record, image in images if image.orientation
    ]
    return [Problem("orientation", items, "if the masks were drawn on turned images, turn the pixels and save again")]


def _small(images: Sequence[tuple[Record, ImageFacts]], crop: int | None) -> list[Problem]:
    items = [
        _item(record, f"is {image.width}x{image.height}")
        for record, image in images
        if crop is not None and min(image.width, image.height) < crop
    ]
    return [Problem("small_image", items)]
