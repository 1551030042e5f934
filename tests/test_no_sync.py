"""Does a training step wait for the device? On a CPU what would wait is counted, on a GPU torch refuses it."""

import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from segtrain import build
from segtrain.config.locate import config_dir
from segtrain.optimizers import Lion, Muon

Config = dict[str, Any]
LOSSES = [path.stem for path in (Path(config_dir()) / "loss").glob("*.yaml")]
INTERVAL = 4  # of the steps at which the run may read
PARTS = ("trainer.accumulate_grad_batches=2", "loader.batch_size=2")
RECIPE = (
    *("ema=false", "swa=true", "swa_start=0.1", "swa_lr=1e-3", "early_stopping=5"),
    *("frozen_stages=1", "unfreeze_epoch=1", "progressive=[0.5,1]", "dataset.crop_size=64"),
)

# what reads a tensor's values, or gives a tensor whose size depends on them
READS = {
    *("_local_scalar_dense", "nonzero", "nonzero_static", "masked_select", "equal", "is_nonzero"),
    *("_unique", "_unique2", "unique_dim", "unique_consecutive", "repeat_interleave.Tensor", "bincount"),
}
INDEXED = {"index", "_unsafe_index", "index_put", "index_put_", "_unsafe_index_put"}
METHODS = {Tensor.cpu, Tensor.numpy, Tensor.tolist, Tensor.__array__}  # a CPU tensor does them with no operation


def reads(operation: Any, arguments: tuple[Any, ...]) -> bool:
    """Say whether an operation of the dispatcher reads values."""
    name = operation.name().removeprefix("aten::")
    if name in READS or name.partition(".")[0] in READS:
        return True
    by = arguments[1] if name.partition(".")[0] in INDEXED else []
    return any(isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in by)


class Operations(TorchDispatchMode):
    """Call back for every operation that reads, those of the backward pass too."""

    def __init__(self, found: Callable[[str], None]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if reads(func, args):
            self.found(func.name())
        return func(*args, **(kwargs or {}))


class Methods(TorchFunctionMode):
    """Call back for what a CPU tensor does with no operation, and for copies to the CPU."""

    def __init__(self, found: Callable[[str], None]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # by name: the run's own device, to which batches go, is a torch.device
        to_cpu = func is Tensor.to and "cpu" in [word for word in args[1:] if isinstance(word, str)]
        if func in METHODS or to_cpu:
            self.found(func.__name__)
        return func(*args, **(kwargs or {}))


class Reads:
    """Where values were read, by the training step in which it was."""

    def __init__(self) -> None:
        self.step = -1  # none
        self.found: dict[int, list[str]] = defaultdict(list)

    def note(self, name: str) -> None:
        if self.step < 0:
            return
        stack = [f for f in traceback.extract_stack() if "/torch/" not in f.filename and f.filename != __file__]
        if not any("segtrain/data/" in frame.filename for frame in stack):  # what is loaded is not on the device yet
            self.found[self.step].append(f"{name} at {stack[-1].filename}:{stack[-1].lineno}")

    @contextmanager
    def counted(self) -> Iterator["Reads"]:
        with Operations(self.note), Methods(self.note):
            yield self


class Steps(pl.Callback):
    """Tell the steps apart: each begins where the one before it has ended, and validation is none."""

    def __init__(self, reads: Reads) -> None:
        self.reads = reads

    def on_train_batch_start(self, trainer: pl.Trainer, *arguments: Any) -> None:
        self.reads.step = trainer.global_step

    def on_train_epoch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
        self.reads.step = -1

    on_validation_start = on_train_epoch_end


def test_what_reads_is_counted_and_what_does_not_is_not() -> None:
    values, found = torch.arange(3.0), Reads()
    found.step = 0
    with found.counted():
        values[torch.tensor([0, 1])] * values.sum() + values.masked_fill(values > 1, 0).topk(2).values.sum()
    assert not found.found
    for read in (
        lambda: float(values.sum()),
        lambda: bool(values.any()),
        lambda: values.max().item(),
        lambda: values.tolist(),
        lambda: values.cpu(),
        lambda: values.to("cpu"),
        lambda: values.numpy(),
        lambda: values[values > 1],
        lambda: values.nonzero(),
        lambda: values.unique(),
        lambda: torch.equal(values, values),
        lambda: values.masked_select(values > 1),
        lambda: f"{values.sum():.2f}",
    ):
        found.found.clear()
        with found.counted():
            read()
        assert found.found, read


def config(train_config: Callable[..., Config], bands: tuple[str, ...], *overrides: str) -> Config:
    own = [argument for argument in bands if not argument.startswith(("trainer.log_every", "loader.batch_size"))]
    every = (f"trainer.log_every_n_steps={INTERVAL}", f"callbacks.progress.every_n_steps={INTERVAL}")
    return train_config(*own, *every, "loader.batch_size=1", *overrides)


def fit(cfg: Config, folder: Path, *callbacks: pl.Callback) -> None:
    """Train as the command does."""
    data = build.build_data(cfg)
    module = build.build_module(cfg, plain=cfg, total_steps=16)
    logger = build.build_logger(cfg, folder)
    every = [*build.build_callbacks(cfg, folder, total_steps=16), *callbacks]
    build.build_trainer(cfg, folder, callbacks=every, logger=logger).fit(module, datamodule=data)


@pytest.mark.parametrize("own", [(), PARTS, RECIPE], ids=["default", "parts", "recipe"])
def test_a_run_reads_at_most_every_n_steps(
    own: tuple[str, ...],
    train_config: Callable[..., Config],
    bands: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal: the progress bar shows the loss
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    cfg = config(train_config, bands, *own)
    found = Reads()
    with found.counted():
        fit(cfg, tmp_path, Steps(found))
    unexpected = {s: where for s, where in found.found.items() if (s + 1) % INTERVAL and s}
    assert not unexpected
    at_intervals = [*found.found.values()][-1]
    for part in ("progress.py", "nonfinite.py", "training_loss.py"):
        assert any(part in where for where in at_intervals), (part, at_intervals)


class Averages(nn.Module):
    """A network of two sizes of weights that meta tensors pass."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1))

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


@pytest.mark.parametrize(
    "make", [Lion, Muon, lambda p: torch.optim.AdamW(p, fused=True)], ids=["lion", "muon", "adamw"]
)
def test_an_optimizer_steps_without_reading(make: Callable[..., torch.optim.Optimizer]) -> None:
    model, found = Averages(), Reads()
    optimizer = make(model.parameters())
    found.step = 0
    with found.counted():
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.rand(2, 3, 8, 8)).square().mean().backward()
            optimizer.step()
    assert not found.found


def test_several_processes_are_not_asked_for_a_signal_by_the_device(
    train_config: Callable[..., Config], bands: tuple[str, ...], tmp_path: Path
) -> None:
    cfg, found = train_config(*bands), Reads()
    trainer = build.build_trainer(cfg, tmp_path, callbacks=[])
    found.step = 0
    with found.counted():
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor()
    assert not found.found
    with found.counted():  # what Lightning does by itself
        pl.loops.training_epoch_loop._TrainingEpochLoop._broadcast_sigterm_tensor(trainer.fit_loop.epoch_loop)
    assert found.found


class Watched(pl.Callback):
    """Let torch refuse whatever waits for the GPU between the reads: the first step's are those of the libraries."""

    def on_train_batch_start(self, trainer: pl.Trainer, *arguments: Any) -> None:
        reads = (trainer.global_step + 1) % INTERVAL == 0
        torch.cuda.set_sync_debug_mode("default" if trainer.global_step < 2 or reads else "error")

    def on_train_epoch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
        torch.cuda.set_sync_debug_mode("default")

    on_validation_start = on_exception = on_train_epoch_end


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that CUDA can use")
@pytest.mark.parametrize("loss", sorted(set(LOSSES) - {"boundary"}))  # which says that it waits
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_on_a_gpu_torch_finds_nothing_that_waits_for_it(
    loss: str, precision: str, train_config: Callable[..., Config], bands: tuple[str, ...], tmp_path: Path
) -> None:
    gpu = ("trainer=gpu", f"trainer.precision={precision}", f"loss={loss}", "loader.num_workers=1")
    try:
        fit(config(train_config, bands, *gpu), tmp_path, Watched())
    finally:
        torch.cuda.set_sync_debug_mode("default")
