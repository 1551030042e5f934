"""What is asked of sbatch for the jobs of a search or a grid, and what cannot be submitted is a sentence."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Compose
from fake_slurm import Cluster, cluster
from omegaconf import OmegaConf

from segtrain.clusters.submit import Resources, Submitter
from segtrain.errors import UserError

__all__ = ["cluster"]


def script(folder: Path, *, node: str = "slurm", **settings: Any) -> list[str]:
    """Return the lines of what sbatch gets."""
    submitter = Submitter(folder, Resources(node, **settings), name="segtrain-a")
    return submitter.executor._make_submission_file_text("command", "id").splitlines()


BOTH = pytest.mark.parametrize(("node", "choice"), [("slurm", "launcher"), ("hydra.launcher", "hydra/launcher")])


def test_what_is_asked_of_sbatch_is_what_the_settings_say(cluster: Cluster, tmp_path: Path) -> None:
    lines = script(
        tmp_path,
        gpus_per_node=2,
        cpus_per_task=3,
        time=30,
        partition="gpu",
        memory="16GB",
        setup=["module load cuda"],
        sbatch={"account": "lab", "qos": "low", "constraint": "a100", "mail_type": "END"},
    )
    asked = {line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")}
    assert asked >= {"partition=gpu", "time=30", "gpus-per-node=2", "cpus-per-task=3", "mem=16GB", "account=lab"}
    assert asked >= {"qos=low", "constraint=a100", "mail-type=END", "requeue", "signal=USR2@90", "open-mode=append"}
    assert asked >= {"nodes=1", "ntasks-per-node=1", "job-name=segtrain-a"}
    assert lines.index("module load cuda") < lines.index("# command")
    (command,) = [line for line in lines if line.startswith("srun")]
    assert "--cpus-per-task=3" in command


def test_what_is_not_set_is_left_to_the_cluster(cluster: Cluster, tmp_path: Path) -> None:
    text = "\n".join(script(tmp_path, sbatch=None, setup=None, gpus_per_node=0))
    assert not [word for word in ("partition", "gpus", "cpus", "--mem", "account", "qos", "setup") if word in text]


@BOTH
def test_a_refusal_of_sbatch_is_a_sentence_with_the_partitions_that_there_are(
    cluster: Cluster, tmp_path: Path, node: str, choice: str
) -> None:
    submitter = Submitter(tmp_path, Resources(node, partition="wrong"), name="a")
    sentence = rf"^{node}: .*invalid partition specified: wrong; .*; partitions: cpu, gpu$"
    for submit in (lambda: submitter.submit(print), lambda: submitter.submit_array(print, ["a", "b"])):
        with pytest.raises(UserError, match=sentence) as error:
            submit()
        assert "sbatch: error" not in str(error.value)


@BOTH
def test_a_machine_without_slurm_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node: str, choice: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = f"^{choice}: slurm, and this machine has no sbatch, srun, scontrol, scancel; .*leave {choice}=slurm out"
    with pytest.raises(UserError, match=missing):
        script(tmp_path, node=node)


@BOTH
def test_a_missing_submitit_is_named(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node: str, choice: str
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match=rf"^{choice}: slurm .*pip install 'submitit>=1.5.2,<2'"):
        script(tmp_path, node=node)


@BOTH
@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"time": 0}, r"time: 0 is not a positive whole number"),
        ({"cpus_per_task": -1}, r"cpus_per_task: -1 is not a positive whole number"),
        ({"gpus_per_node": -1}, r"gpus_per_node: -1 is no number of GPUs; give 0 for none"),
        ({"memory": 32}, r"memory: 32 is no amount with its unit, such as 32GB"),
        ({"memory": "0GB"}, r"memory: '0GB' is no amount"),
        ({"sbatch": {"cpus_per_task": 3}}, r"sbatch.cpus-per-task: give it as NODE.cpus_per_task"),
        ({"sbatch": {"mem": "3GB"}}, r"sbatch.mem: give it as NODE.memory"),
        ({"sbatch": {"array": "0-3"}}, r"sbatch.array: .*leave it out"),
        ({"sbatch": {"signal": "USR1@9"}}, r"sbatch.signal: .*leave it out"),
    ],
)
def test_settings_that_cannot_be_are_refused(node: str, choice: str, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=rf"^{node}.{sentence.replace('NODE', node)}"):
        Resources(node, **settings).check()


def test_a_grid_says_its_machines_and_tasks_and_a_search_has_one_of_each() -> None:
    for key, ours in (("nodes", "nodes"), ("ntasks_per_node", "tasks_per_node")):
        with pytest.raises(UserError, match=f"give it as hydra.launcher.{ours}"):
            Resources("hydra.launcher", sbatch={key: 2}).check()
        with pytest.raises(UserError, match=r"^slurm.sbatch.*leave it out"):
            Resources("slurm", sbatch={key: 2}).check()


def test_a_setting_that_search_and_grid_both_have_has_one_name(compose_config: Compose) -> None:
    search = set(compose_config("study=a", name="sweep").slurm)
    grid = set(OmegaConf.load(ROOT / "configs" / "hydra" / "launcher" / "slurm.yaml"))
    assert search - grid == {"workers"}
    assert grid - search == {"_target_", "nodes", "tasks_per_node", "max_parallel", "wait", "poll"}


def test_a_job_inherits_neither_the_run_nor_the_job_that_submits_it(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SEGTRAIN_RUN_ID", "SLURM_JOB_ID", "SLURM_CPUS_PER_TASK", "SLURM_CONF", "OTHER"):
        monkeypatch.setenv(name, "5")
    submitter = Submitter(tmp_path, Resources("slurm"), name="a")
    submitter.submit(print)
    names = {line.partition("=")[0] for line in (cluster.folder / "environment").read_text().splitlines()}
    assert {"SLURM_CONF", "OTHER"} <= names
    assert not {"SEGTRAIN_RUN_ID", "SLURM_JOB_ID", "SLURM_CPUS_PER_TASK"} & names
    assert os.environ["SLURM_JOB_ID"] == "5"
