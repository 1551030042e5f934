"""Predict the masks of images with a checkpoint."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from segtrain.config.check import check_keys, plain_config
from segtrain.config.locate import config_dir
from segtrain.config.schema import PredictConfig
from segtrain.jobs import job
from segtrain.launch import launch


@hydra.main(version_base="1.3", config_path=config_dir(), config_name="predict")
def main(cfg: DictConfig) -> None:
    """Compose on the checkpoint's config, check, restore, predict."""
    with job():
        values = check_keys(cfg, PredictConfig)

        from segtrain import build
        from segtrain.config.problems import check_objects
        from segtrain.inference.files import find_images, predict_files
        from segtrain.scoring import restore

        plain = plain_config(cfg)
        check_objects(values, plain=plain, from_checkpoint=True, trains=False)
        jobs = find_images(
            Path(values["input"]),
            Path(values["output"]),
            overwrite=values["overwrite"],
            overlay=values["overlay"],
        )
        module = build.build_module(values, plain=plain, restore=True)
        restore(module, Path(values["checkpoint"]))
        predict_files(
            module,
            jobs,
            device=values["device"],
            precision=values["trainer"].get("precision", "32-true"),
            palette=values["dataset"].get("palette"),
            read_image=build.build_reader(values),
        )


if __name__ == "__main__":
    launch(main, "predict")
