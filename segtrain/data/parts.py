"""Which part of a data set a run sees: a fraction of the training images, or one fold of a cross-validation."""

from collections.abc import Sequence

import numpy as np
from torch.utils.data import Dataset

from segtrain.data.images import Image
from segtrain.data.masks import Mask
from segtrain.data.pairs import Files, Sample
from segtrain.data.source import MakeSource, Source, files_of, image_of, mask_of, names_of, weights_of
from segtrain.errors import DataError


class Part(Dataset[Sample]):
    """Some samples of one or more sources.

    Args:
        sources: where they come from; `class_names` are the first one's.
        places: (number of the source, index in it) of each sample.
    """

    def __init__(self, sources: Sequence[Source], places: Sequence[tuple[int, int]]) -> None:
        self.sources = list(sources)
        self.places = [(int(number), int(index)) for number, index in places]
        self.class_names = getattr(self.sources[0], "class_names", None)
        weights = [weights_of(source) for source in self.sources]
        self.weights: list[float] | None = None
        if all(found is not None for found in weights):
            self.weights = [found[index] for number, index in self.places if (found := weights[number]) is not None]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Sample:
        """Return the image and the mask of a sample."""
        source, place = self._find(index)
        return source[place]

    def image(self, index: int) -> Image:
        """Return an image (H, W, C)."""
        source, place = self._find(index)
        return image_of(source, place)

    def mask(self, index: int) -> Mask:
        """Return a mask (H, W)."""
        source, place = self._find(index)
        return mask_of(source, place)

    def names(self, index: int) -> tuple[str, str]:
        """Return what messages call a sample's image and mask."""
        source, place = self._find(index)
        return names_of(source, place)

    def files(self, index: int) -> tuple[Files, Files] | None:
        """Return the files of a sample's image and mask; None if its source does not say."""
        source, place = self._find(index)
        return files_of(source, place)

    def _find(self, index: int) -> tuple[Source, int]:
        number, place = self.places[index]
        return self.sources[number], place


class Fraction:
    """A share of the training split, drawn by the seed; with one seed a smaller share is part of a larger one.

    Args:
        source: opens a split.
        fraction: of the training images, above 0 to 1; at least one image is left.
        seed: of the draw.
    """

    def __init__(self, source: MakeSource, *, fraction: float, seed: int) -> None:
        self.source = source
        self.fraction = fraction
        self.seed = seed

    def __call__(self, *, split: str) -> Source:
        """Return a split; every one but "train" is whole."""
        source = self.source(split=split)
        if split != "train":
            return source
        order = np.random.default_rng((self.seed, 0xF2AC)).permutation(len(source))  # not the order of an epoch
        count = max(1, round(self.fraction * len(source)))
        return Part([source], [(0, index) for index in sorted(order[:count].tolist())])


class Folds:
    """Cross-validation: the images of train and val together are dealt into folds, and one of them is "val".

    The deal depends on nothing but the number of images and of folds, so that runs with other seeds can be compared.

    Args:
        source: opens a split.
        folds: how many, 2 or more.
        fold: which one validates, from 0.
        joined: the splits that are dealt.
    """

    def __init__(self, source: MakeSource, *, folds: int, fold: int, joined: Sequence[str] = ("train", "val")) -> None:
        self.source = source
        self.joined = tuple(joined)
        self.folds = folds
        self.fold = fold

    def whole(self) -> Source:
        """Return all images that are dealt."""
        sources = [self.source(split=name) for name in self.joined]
        return Part(sources, [(number, index) for number, source in enumerate(sources) for index in range(len(source))])

    def __call__(self, *, split: str) -> Source:
        """Return a split; "test" stays what it is.

        Raises:
            DataError: if there are fewer images than folds.
        """
        if split not in ("train", "val"):
            return self.source(split=split)
        whole = self.whole()
        if len(whole) < self.folds:
            raise DataError(f"dataset.folds: {self.folds} folds of {len(whole)} images; give {len(whole)} or fewer")
        order = np.random.default_rng(self.folds).permutation(len(whole))
        held_out = set(order[self.fold :: self.folds].tolist())
        return Part([whole], [(0, n) for n in range(len(whole)) if (n in held_out) == (split == "val")])
