"""Search hyperparameters: one training a trial, on a study that machines may share."""

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from segtrain.config.check import check_keys
from segtrain.config.locate import config_dir
from segtrain.config.schema import SweepConfig
from segtrain.errors import UserError, fail, requirement
from segtrain.jobs import job
from segtrain.launch import launch


@hydra.main(version_base="1.3", config_path=config_dir(), config_name="sweep")
def main(cfg: DictConfig) -> None:
    """Check the space and what it makes of the configuration, open the study, run trials, report."""
    with job(log_file="sweep.log") as folder:
        values = check_keys(cfg, SweepConfig)
        with requirement("optuna", "optuna>=4.9,<6", error=UserError):
            import optuna  # noqa: F401

        from segtrain.sweep import search
        from segtrain.sweep.live import shown
        from segtrain.sweep.report import begin, finish
        from segtrain.sweep.worker_job import in_worker_job

        dirs = search.user_config_dirs()
        plan = search.make_plan(values, HydraConfig.get().overrides.task, config_dirs=dirs)
        search.check_trials(plan)
        study = search.open_study(plan, folder)
        if not in_worker_job():  # who submitted it has begun the folder, and reports
            begin(plan, study, folder)
        worker = search.make_worker(plan, study, folder)
        with shown(worker):
            end = worker.run()
        if not in_worker_job():
            finish(worker)
        if end.status:
            fail(end.sentence, end.status)


if __name__ == "__main__":
    launch(main, "sweep")
