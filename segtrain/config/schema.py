"""The root schema of each command: which keys there are, of which type.

The values live in the YAML files alone. Components (model, dataset, ...) are `Any` here: what they
accept is read from the signature of their `_target_` by `segtrain.config.problems`.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Any


class Deterministic(Enum):
    """How much of a run can be repeated to the bit."""

    none = "none"
    seeded = "seeded"
    exact = "exact"


class Split(Enum):
    """The parts of a data set."""

    train = "train"
    val = "val"
    test = "test"


class Norm(Enum):
    """What becomes of the network's batch norms."""

    batch = "batch"
    group = "group"
    frozen = "frozen"


class Launcher(Enum):
    """Where the trials of a search run."""

    local = "local"
    slurm = "slurm"


class CacheKind(Enum):
    """Where decoded samples are kept."""

    none = "none"
    ram = "ram"
    disk = "disk"


class OnFault(Enum):
    """What becomes of a step whose gradients are not finite, or of a sample that cannot be read."""

    stop = "stop"
    skip = "skip"


class Mode(Enum):
    """Which direction of the monitored score is better."""

    min = "min"
    max = "max"


class LrScaling(Enum):
    """How the learning rate follows the batch size."""

    none = "none"
    linear = "linear"
    sqrt = "sqrt"


@dataclass
class Loader:
    """How samples become batches."""

    batch_size: int
    eval_batch_size: int
    num_workers: int | None
    cache: CacheKind
    bad_samples: OnFault


@dataclass
class ParamGroups:
    """How the optimizer's parameters are grouped, and what becomes of its learning rate."""

    encoder_lr_factor: float
    layer_decay: float
    decay_norm_and_bias: bool
    lr_scaling: LrScaling
    lr_scaling_base: int


@dataclass
class CheckpointPolicy:
    """What is kept while training."""

    monitor: str
    mode: Mode
    every_n_steps: int | None
    every_minutes: float | None
    keep: int


@dataclass
class Inference:
    """The any-size path of validation, test and predict."""

    tile: int | None
    overlap: float
    scale: float
    flip: bool


@dataclass
class Paths:
    """Where things go."""

    output: str
    cache: str


@dataclass
class Perf:
    """Speed switches that do not change what is computed."""

    channels_last: bool


@dataclass
class ModelConfig:
    """The keys that every command which runs a model reads; checkpoints carry them."""

    name: str
    tags: list[str]
    seed: int
    deterministic: Deterministic
    compile: bool
    norm: Norm
    frozen_stages: int
    ema: bool
    ema_decay: float
    test: bool
    trust: list[str]
    dataset: Any
    augmentation: Any
    sampling: Any
    model: Any
    loss: Any
    optimizer: Any
    scheduler: Any
    trainer: Any
    callbacks: Any
    logger: Any
    loader: Loader
    param_groups: ParamGroups
    inference: Inference
    paths: Paths
    perf: Perf


@dataclass
class TrainConfig(ModelConfig):
    """Root of configs/train.yaml; the comments there say what each key does."""

    checkpoint: CheckpointPolicy
    unfreeze_epoch: int | None
    swa: bool
    swa_start: float
    swa_lr: float | None
    progressive: list[float] | None
    early_stopping: int | None
    nonfinite: OnFault
    init_from: str | None
    resume: str | None


@dataclass
class SearchSettings:
    """What is searched, and how values are drawn."""

    sampler: str
    pruner: str
    startup_trials: int
    warmup: int
    objectives: Any
    space: Any
    ranges: dict[str, Any]


@dataclass
class ShowConfig(TrainConfig):
    """Root of configs/show.yaml: a training's configuration and what to draw of its data."""

    num_samples: int
    split: Split
    output: str


@dataclass
class EvalConfig(ModelConfig):
    """Root of configs/eval.yaml: the checkpoint's config and what to score."""

    checkpoint: str
    split: Split


@dataclass
class PredictConfig(ModelConfig):
    """Root of configs/predict.yaml: the checkpoint's config and what to predict."""

    checkpoint: str
    input: str
    output: str
    overwrite: bool
    overlay: bool
    device: str


@dataclass
class CheckConfig(TrainConfig):
    """Root of configs/check.yaml: a training's configuration, of which the data set is read, and where to report."""

    output: str
    workers: int | None


@dataclass
class SlurmSettings:
    """The jobs that run a search's trials on SLURM."""

    partition: str | None
    workers: int
    time: int
    gpus_per_node: int | None
    cpus_per_task: int | None
    memory: str | None
    sbatch: dict[str, Any] | None
    setup: list[str] | None


@dataclass
class SweepConfig(TrainConfig):
    """Root of configs/sweep.yaml: a training's configuration, what is searched in it, and how."""

    sweep: SearchSettings
    study: str
    n_trials: int
    seeds: int
    storage: str | None
    gpus: list[int] | None
    gpus_per_trial: int
    slots: int | None
    retries: int
    launcher: Launcher
    slurm: SlurmSettings
