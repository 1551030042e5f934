"""Is an image in two splits? Told by its file, which costs no reading; `segtrain check` compares the pixels."""

from collections.abc import Mapping
from pathlib import Path

from segtrain.config.suggest import listed
from segtrain.data.source import Source, files_of


def shared_files(splits: Mapping[str, Source]) -> list[str]:
    """Return a sentence for every two splits that have an image file in common.

    Args:
        splits: opened; one that does not say its files is passed over.
    """
    files: dict[str, set[Path]] = {}
    for split, source in splits.items():
        found = [files_of(source, index) for index in range(len(source))]
        files[split] = {path.absolute() for sample in found if sample is not None for path in sample[0]}
    names, sentences = list(files), []
    for number, first in enumerate(names):
        for second in names[number + 1 :]:
            common = sorted(files[first] & files[second])
            if common:
                few = listed([str(path) for path in common], 3)
                sentences.append(
                    f"{len(common)} images are in {first} and in {second}, so the score of {second} says less than it "
                    f"seems to: {few}"
                )
    return sentences
