"""List, read and judge a whole data set.

check.json is `Result.as_json`:

    segtrain        version
    dataset         name, num_classes, class_names, ignore_index, in_channels as they were used
    summary         errors and warnings (places), files (that have one), samples, seconds, cpu_seconds, cores, busy
    splits          {split: samples, images and masks (that could be read), sizes [{width, height, images}],
                    types {type and channels: images},
                    channels {images, pixels, sums, squares, mean, std}: sums of the values as read, mean and std in 0
                      to 1; of the images of the commonest type and number of channels,
                    labels {class_pixels, class_images, class_frequency, pixels_of_images_with_class: one a class;
                      void_pixels; other_labels {label: {pixels, images}}}}
    class_weights   of the training split, one a class: inverse_frequency, median_frequency, enet, effective_number (of
                    images that have the class, beta 0.999); mean 1 over the classes that occur, 0 for the others
    problems        [{kind, severity: error | warning | info, what, count, fix, overrides: key=value for the command
                    line, items: [{text, files, split, index}]}]
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from segtrain import __version__
from segtrain.data.folder import SPLITS
from segtrain.data.labels import LabelMap
from segtrain.data.source import Source
from segtrain.dataset_check.facts import Facts, class_weights, split_facts
from segtrain.dataset_check.found_classes import find_classes
from segtrain.dataset_check.label_rules import label_problems
from segtrain.dataset_check.listing import open_splits
from segtrain.dataset_check.problem import Problem, Severity, gather
from segtrain.dataset_check.record import Record
from segtrain.dataset_check.sample import Reading
from segtrain.dataset_check.sample_rules import sample_problems
from segtrain.dataset_check.scan import Effort, scan
from segtrain.dataset_check.split_rules import split_problems


@dataclass(frozen=True)
class Result:
    """What was found.

    Args:
        dataset: the data set's configuration.
        labels: from the masks' values to labels.
        class_names: C names; None where they could not be found.
        sources: {split: its samples}.
        records: of all samples.
        problems: one a kind, errors first.
        facts: {split: its numbers}.
        effort: what the scan cost.
    """

    dataset: Mapping[str, Any]
    labels: LabelMap
    class_names: list[str] | None
    sources: Mapping[str, Source]
    records: list[Record]
    problems: list[Problem]
    facts: dict[str, Facts]
    effort: Effort

    def count(self, severity: Severity) -> int:
        """Return how many places have a problem of this severity."""
        return sum(len(problem.items) for problem in self.problems if problem.severity == severity)

    @property
    def files(self) -> int:
        """How many files have an error or a warning."""
        grave = [problem for problem in self.problems if problem.severity != "info"]
        return len({file for problem in grave for item in problem.items for file in item.files})

    @property
    def weights(self) -> dict[str, list[float]]:
        """The class weights of the training split; none where it or the classes are not known."""
        return class_weights(self.facts["train"]["labels"]) if "train" in self.facts and self.class_names else {}

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data; the module's docstring describes it."""
        names = self.class_names
        return {
            "segtrain": __version__,
            "dataset": {
                "name": self.dataset.get("name"),
                "num_classes": None if names is None else len(names),
                "class_names": names,
                "ignore_index": self.dataset["ignore_index"],
                "in_channels": self.dataset["in_channels"],
            },
            "summary": {
                "errors": self.count("error"),
                "warnings": self.count("warning"),
                "files": self.files,
                "samples": len(self.records),
                **asdict(self.effort),
                "busy": self.effort.busy,
            },
            "splits": self.facts,
            "class_weights": self.weights,
            "problems": [_as_json(problem) for problem in self.problems],
        }


def _as_json(problem: Problem) -> dict[str, Any]:
    return {
        "kind": problem.kind,
        "severity": problem.severity,
        "what": problem.what,
        "count": len(problem.items),
        "fix": problem.fix,
        "overrides": problem.overrides,
        "items": [
            {"text": item.text, "files": list(item.files), "split": item.split, "index": item.index}
            for item in problem.items
        ],
    }


def check_dataset(
    make: Callable[..., Source], *, dataset: Mapping[str, Any], labels: LabelMap, workers: int | None = None
) -> Result:
    """Return all that is wrong with a data set, and its numbers.

    Args:
        make: lists a split when it is called with `split=`.
        dataset: its configuration; `num_classes` and `class_names` may be None.
        labels: from values to labels.
        workers: processes that read; None for one a core, 0 for none beside this.

    Raises:
        UserError: if a process that reads is killed.
    """
    splits = dataset.get("splits")
    sources, listing = open_splits(make, splits or SPLITS, declared=splits is not None)
    reading = Reading(labels, in_channels=dataset["in_channels"], mask_kind=dataset.get("mask") or "ids")
    records, effort = scan(sources, reading=reading, workers=workers)
    _forget_told(records, listing)
    classes = find_classes(dataset, sources.get("train"), records)
    names = classes.names
    count = dataset.get("num_classes") or (None if names is None else len(names))
    of_labels = label_problems(records, dataset=dataset, num_classes=count, labels=labels)
    wrong = any(problem.items and problem.kind in ("binary_mask", "label_range") for problem in of_labels)
    between = split_problems(records, class_names=names, labels_wrong=wrong, told=classes.told)
    binary = any(problem.items and problem.kind == "binary_mask" for problem in of_labels)  # says it better than gaps
    found = [problem for problem in classes.problems if not (binary and problem.kind == "class_gaps")]
    problems = gather([*found, *listing, *sample_problems(records, dataset=dataset), *of_labels, *between])
    facts = {
        split: split_facts(
            [record for record in records if record.split == split],
            num_classes=count or 0,
            ignore_index=dataset["ignore_index"],
        )
        for split in sources
    }
    return Result(dataset, labels, names, sources, records, problems, facts, effort)


def _forget_told(records: Sequence[Record], listing: Sequence[Problem]) -> None:
    """Drop the faults of files whose absence the listing has told already."""
    told = {file for problem in listing if problem.kind == "missing_file" for i in problem.items for file in i.files}
    for record in records:
        record.faults = [fault for fault in record.faults if fault.kind != "missing_file" or fault.file not in told]
