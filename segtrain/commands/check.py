"""Read every file of a data set and say what is wrong with it, how to mend it, and what its numbers are."""

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from segtrain.config.check import check_keys, plain_config, report
from segtrain.config.locate import config_dir
from segtrain.config.schema import CheckConfig
from segtrain.jobs import job
from segtrain.launch import launch


@hydra.main(version_base="1.3", config_path=config_dir(), config_name="check")
def main(cfg: DictConfig) -> None:
    """Compose, check the keys, read the files, print, write; exit status 1 if there are errors."""
    with job():
        values = check_keys(cfg, CheckConfig)

        from segtrain.config.problems import dataset_problems

        workers = values["workers"]
        negative = [f"workers: {workers} is negative; give 0 or more, or null for one a core"]
        report(dataset_problems(values, plain=plain_config(cfg)) + (negative if (workers or 0) < 0 else []))

        from segtrain.build import build_labels, build_source
        from segtrain.dataset_check import output
        from segtrain.dataset_check.check import check_dataset
        from segtrain.dataset_check.report import report_text

        folder = output.prepare(Path(values["output"]))
        dataset = values["dataset"] | {"folds": None}  # the splits as they lie on the disk
        result = check_dataset(build_source(dataset), dataset=dataset, labels=build_labels(dataset), workers=workers)
        output.write(result, folder)
        print(f"{report_text(result)}\n{folder / 'check.json'}\n{folder / 'check.png'}")
    if result.count("error"):
        sys.exit(1)


if __name__ == "__main__":
    launch(main, "check")
