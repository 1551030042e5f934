"""Train a network, keep its best checkpoint and score the test split."""

import hydra
from omegaconf import DictConfig

from segtrain.config.check import check_keys, plain_config
from segtrain.config.locate import config_dir
from segtrain.config.schema import TrainConfig
from segtrain.jobs import in_sweep, job
from segtrain.launch import launch


@hydra.main(version_base="1.3", config_path=config_dir(), config_name="train")
def main(cfg: DictConfig) -> None:
    """Compose, check, build, fit, test, report."""
    with job(log_file="train.log") as run:
        values = check_keys(cfg, TrainConfig)  # before torch is imported

        from segtrain import build, training
        from segtrain.config.problems import check_objects
        from segtrain.schedulers import schedule_length

        values = build.complete_classes(cfg, values, TrainConfig)
        plain = plain_config(cfg)
        check_objects(values, plain=plain, from_checkpoint=values["resume"] is not None, multirun=in_sweep())
        resumed = training.prepare_run(run, values, plain)

        data = build.build_data(values, start=resumed.start)
        test = values["test"] and "test" in data.splits and not in_sweep()
        data.open_splits("train", "val", *(["test"] if test else []))  # a wrong folder ends here, not after training
        values = build.weigh_classes(cfg, values, data, TrainConfig)
        batches = data.batches_per_epoch(1)
        total_steps = schedule_length(values["trainer"], batches)
        module = build.build_module(
            values, plain=plain_config(cfg), total_steps=total_steps, restore=resumed.checkpoint is not None
        )
        if values["init_from"] is not None and resumed.checkpoint is None:
            training.start_from(
                module,
                values["init_from"],
                in_channels=values["dataset"]["in_channels"],
                own_statistics=values["dataset"].get("mean") is not None,
            )
        logger = build.build_logger(values, run, purge_step=resumed.step)
        callbacks = build.build_callbacks(values, run, total_steps=total_steps)
        trainer = build.build_trainer(values, run, callbacks=callbacks, logger=logger, batches_per_epoch=batches)
        training.describe(run, values, module, trainer, total_steps)

        training.fit(trainer, module, data, resumed.checkpoint, run)
        training.finish(trainer, module, data, run, values, test=test)


if __name__ == "__main__":
    launch(main, "train")
