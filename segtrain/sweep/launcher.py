"""Who runs a search's trials, and do the settings of its jobs go together?"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segtrain.clusters.submit import Resources
from segtrain.errors import UserError
from segtrain.sweep.worker_job import in_worker_job

log = logging.getLogger("segtrain")

# file systems of several machines, where SQLite's locks may not hold (https://www.sqlite.org/faq.html#q5)
SHARED = ("nfs", "nfs4", "cifs", "smb3", "lustre", "beegfs", "gpfs", "ceph", "afs", "fuse.sshfs", "fuse.glusterfs")


def gpus_per_worker(cfg: Mapping[str, Any]) -> int:
    """Return how many GPUs each SLURM job asks for: those of one trial, if it is not said."""
    if (given := cfg["slurm"]["gpus_per_node"]) is not None:
        return int(given)
    return 0 if cfg["trainer"].get("accelerator") == "cpu" else int(cfg["gpus_per_trial"])


def resources_of(cfg: Mapping[str, Any]) -> Resources:
    """Return what each SLURM job asks for."""
    given = {key: value for key, value in cfg["slurm"].items() if key != "workers"}
    return Resources("slurm", **{**given, "gpus_per_node": gpus_per_worker(cfg)})


def check_launcher(cfg: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Check the nodes `launcher` and `slurm` of a search's config.

    Args:
        cfg: what `check_keys` returned.
        overrides: the command's, as they were typed.

    Raises:
        UserError: naming the key that is wrong.
    """
    given = [override for override in overrides if override.lstrip("+~").startswith("slurm.")]
    if cfg["launcher"] == "local":
        if given and not in_worker_job():
            raise UserError(f"{given[0].partition('=')[0]}: it is of launcher=slurm; give that too, or leave it out")
        return
    slurm, gpus = cfg["slurm"], gpus_per_worker(cfg)
    if slurm["workers"] < 1:
        raise UserError(f"slurm.workers: {slurm['workers']} is not a positive number of jobs")
    resources_of(cfg).check()
    if 0 < gpus < cfg["gpus_per_trial"] or (gpus == 0 and cfg["gpus_per_trial"] > 1):
        raise UserError(
            f"slurm.gpus_per_node: {gpus} for each worker, and a trial has gpus_per_trial={cfg['gpus_per_trial']}"
        )
    if missing := [gpu for gpu in cfg["gpus"] or () if gpu >= gpus]:
        raise UserError(
            f"gpus: a worker has slurm.gpus_per_node={gpus}, numbered from 0, and no {missing[0]}; leave gpus out"
        )


def warn_of_sqlite(storage: str | None, folder: Path, *, mounts: Path = Path("/proc/mounts")) -> None:
    """Say that a study in a file of a shared file system is no good for many workers.

    Args:
        storage: as in the configuration.
        folder: of the search.
        mounts: the kernel's list of file systems.
    """
    if storage is not None and not storage.startswith("sqlite"):
        return
    kind = _file_system(folder.resolve(), mounts)
    if kind in SHARED:
        log.warning(
            f"storage: the study is an SQLite file on {kind}, whose locks may fail when several workers write; "
            "give storage=postgresql://USER:PASSWORD@HOST/DATABASE"
        )


def _file_system(folder: Path, mounts: Path) -> str:
    """Return the type of the file system on which a folder lies; empty if that is not known."""
    try:
        lines = [line.split() for line in mounts.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return ""
    places = [(len(line[1]), line[2]) for line in lines if len(line) > 2 and folder.is_relative_to(line[1])]
    return max(places, key=lambda place: place[0], default=(0, ""))[1]
