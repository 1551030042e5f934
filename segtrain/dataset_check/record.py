"""What the scan remembers of a sample: facts and counts, never pixels."""

from dataclasses import dataclass, field

MOST_COLORS = 64  # of a mask; more are no classes: a drawing with soft edges, or a photograph


@dataclass(frozen=True)
class Fault:
    """What is wrong with one file.

    Args:
        kind: a word for it, one of `segtrain.dataset_check.problem.KINDS`.
        file: the file, or what messages call the sample.
        text: the sentence.
    """

    kind: str
    file: str
    text: str


@dataclass(frozen=True)
class ImageFacts:
    """An image that could be read.

    Args:
        height, width, channels: its shape.
        dtype: uint8 or float32.
        sums, squares: of each channel's values and of their squares; whole numbers for uint8, so nothing is rounded.
        constant: all its pixels are alike.
        digest: of shape, type and values.
        orientation: EXIF's, where the file has one other than 1.
    """

    height: int
    width: int
    channels: int
    dtype: str
    sums: list[int] | list[float]
    squares: list[int] | list[float]
    constant: bool
    digest: str
    orientation: int | None


@dataclass(frozen=True)
class MaskFacts:
    """A mask that could be read.

    Args:
        height, width: its shape.
        digest: of shape and values.
        values: {value: pixels} as it is read.
        labels: {label: pixels} behind the label map.
    """

    height: int
    width: int
    digest: str
    values: dict[int, int]
    labels: dict[int, int]


@dataclass
class Record:
    """A sample.

    Args:
        split, index: its place.
        image_file, mask_file: what messages call its two parts.
        image, mask: their facts; None for one that cannot be read.
        faults: what keeps it from being trained on, as far as it alone shows.
        channels: of an image that was refused for them.
        colors: {(red, green, blue): pixels} of a mask that holds colours where ids are wanted, the most frequent ones,
            one more than `MOST_COLORS` at most.
    """

    split: str
    index: int
    image_file: str
    mask_file: str
    image: ImageFacts | None = None
    mask: MaskFacts | None = None
    faults: list[Fault] = field(default_factory=list)
    channels: int | None = None
    colors: dict[tuple[int, int, int], int] = field(default_factory=dict)
