"""Score a checkpoint on a split of its data set."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from segtrain.config.check import check_keys, plain_config
from segtrain.config.locate import config_dir
from segtrain.config.schema import EvalConfig
from segtrain.jobs import job
from segtrain.launch import launch


@hydra.main(version_base="1.3", config_path=config_dir(), config_name="eval")
def main(cfg: DictConfig) -> None:
    """Compose on the checkpoint's config, check, build, score, write beside the checkpoint."""
    with job():
        values = check_keys(cfg, EvalConfig)

        from segtrain import build, scoring
        from segtrain.config.problems import check_objects

        plain = plain_config(cfg)
        check_objects(values, plain=plain, from_checkpoint=True)
        path, split = Path(values["checkpoint"]), values["split"]
        folder = scoring.output_folder(path, split)

        data = build.build_data(values, test_split=split)
        module = build.build_module(values, plain=plain, restore=True)
        scoring.restore(module, path)
        trainer = build.build_trainer(values, folder, callbacks=scoring.pictures(values), evaluation=True)
        trainer.test(module, datamodule=data, verbose=False)
        scoring.write(trainer, module, folder, split=split, class_names=values["dataset"]["class_names"])


if __name__ == "__main__":
    launch(main, "eval")
