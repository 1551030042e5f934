"""Check a composed data set in this process."""

from pathlib import Path

from conftest import Compose

from segtrain.build import build_labels, build_source
from segtrain.config.check import check_keys, plain_config
from segtrain.config.problems import dataset_problems
from segtrain.config.schema import CheckConfig
from segtrain.dataset_check.check import Result, check_dataset


def check(compose: Compose, root: Path | None, *overrides: str, workers: int = 0) -> Result:
    """Check `dataset=folder` at a root, or what the overrides say."""
    folder = () if root is None else ("dataset=folder", f"dataset.root='{root}'")
    composed = compose(*folder, *overrides, name="check")
    values = check_keys(composed, CheckConfig)
    assert dataset_problems(values, plain=plain_config(composed)) == []
    dataset = values["dataset"]
    return check_dataset(build_source(dataset), dataset=dataset, labels=build_labels(dataset), workers=workers)


def kinds(result: Result) -> list[str]:
    """Return the kinds of what was found."""
    return [problem.kind for problem in result.problems]
