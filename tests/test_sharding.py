"""Do networks whose weights are shared out among devices train, score and resume as on one device?"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from conftest import Compose, Run, only_run
from omegaconf import OmegaConf
from tiny import TinySamples, evaluation_loader, tiny_module, trainer
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.utils.data import BatchSampler, DataLoader
from two_processes import run_in_two_processes

from segtrain import build
from segtrain.callbacks.checkpoints import KeepBest, KeepLast
from segtrain.callbacks.ema import WeightEMA
from segtrain.callbacks.nonfinite import NonFinite
from segtrain.checkpoint import load_weights, position, read_checkpoint
from segtrain.config.problems import find_problems
from segtrain.config.trust import trust_problems
from segtrain.data.sampler import EpochSampler
from segtrain.data.samples import collate
from segtrain.inference.any_size import AnySize
from segtrain.optimizers import Lion
from segtrain.sharding import parts, slices
from segtrain.sharding.strategy import ShardedStrategy

STEPS, KEPT = 6, 4  # of a run, and at which of them it writes a checkpoint
CPU = ("trainer=fsdp", "trainer.accelerator=cpu", "trainer.devices=2", "norm=group")


class Net(nn.Module):
    """Both kinds of norm, and channels that do not divide by two."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, padding=1, bias=False)  # of which batch norm leaves no gradient
        self.norm = nn.BatchNorm2d(5)
        self.block = nn.Sequential(nn.Conv2d(5, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU())
        self.frozen = nn.Conv2d(8, 8, 1).requires_grad_(False)
        self.classifier = nn.Conv2d(8, 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(self.frozen(self.block(self.norm(self.conv(image)).relu())))


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    """Return AdamW with groups in another order than the network's."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim == 1], "weight_decay": 0.0, "lr": 0.02},
        {"params": [p for p in trained if p.ndim > 1]},
    ]
    return torch.optim.AdamW(groups, lr=0.01)


class Data(pl.LightningDataModule):
    """Twelve images to train on, two a step, and five of two sizes to score: ranks have three and two of them."""

    def __init__(self, rank: int, start: tuple[int, int]) -> None:
        super().__init__()
        self.rank, self.start = rank, start

    def train_dataloader(self) -> Any:
        sampler = EpochSampler(12, batch_size=1, seed=0, start=self.start, rank=self.rank, world_size=2)
        return DataLoader(TinySamples(12), batch_sampler=BatchSampler(sampler, 1, drop_last=True), collate_fn=collate)  # type: ignore[arg-type]

    def val_dataloader(self) -> Any:
        keys = [[(0, index)] for index in range(self.rank, 5, 2)]
        return DataLoader(scored_samples(), batch_sampler=keys, collate_fn=collate)  # type: ignore[arg-type]


def scored_samples() -> TinySamples:
    return TinySamples(5, sizes=((8, 8), (8, 20)))


def module_on(rank: int) -> Any:
    """Return the module; that of the second rank starts elsewhere, which must not matter."""
    torch.manual_seed(0)
    model = Net()
    with torch.no_grad():
        model.conv.weight += rank
    return tiny_module(model, optimizer=adamw, any_size=AnySize(stride=4, tile=8), crop_size=8)


def fit(rank: int, folder: Path, strategy: Any, *, resume: Path | None = None) -> dict[str, Any]:
    start = position(read_checkpoint(resume)) if resume is not None else (0, 0)
    callbacks = (
        NonFinite(folder, policy="stop"),
        WeightEMA(0.9),
        KeepBest(folder, monitor="val/miou", mode="max"),
        KeepLast(folder, every_n_steps=KEPT),
    )
    options: dict[str, Any] = {"devices": 2, "strategy": strategy, "max_steps": STEPS, "gradient_clip_val": 0.5}
    run = trainer(folder, *callbacks, **options)
    module = module_on(rank)
    run.fit(module, datamodule=Data(rank, start), ckpt_path=None if resume is None else str(resume))
    own = [slices.local(p) for p in module.model.parameters()]
    return {"miou": float(run.callback_metrics["val/miou"]), "numbers": sum(tensor.numel() for tensor in own)}


def trained_in_two_processes(rank: int) -> dict[str, Any]:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "test"}
    os.environ |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "0"}
    folder = Path(os.environ["SEGTRAIN_TEST_FOLDER"])
    return {
        "sharded": fit(rank, folder / "sharded", ShardedStrategy()),
        "copied": fit(rank, folder / "copied", "ddp"),
        "resumed": fit(rank, folder / "resumed", ShardedStrategy(), resume=folder / "sharded" / "previous.ckpt"),
        "half": shards_in_bfloat16(),
        "bad": bad_gradient_of_one_rank(rank),
        "lion": difference_of_lion(),
        "views": difference_of_gradients(),
    }


def sharded_net(*, bf16: bool = False) -> Any:
    torch.manual_seed(0)
    model = Net()
    parts.shard(model, init_device_mesh("cpu", (2,)), size=(3, 8, 8), bf16=bf16)
    return model


def shards_in_bfloat16() -> dict[str, Any]:
    """Return the types of weights while they are gathered and after."""
    model = sharded_net(bf16=True)
    parts.gather_weights(model)
    gathered = {name: str(p.dtype) for name, p in model.named_parameters()}
    parts.scatter_weights(model, reshard=True)
    after = {(isinstance(p, DTensor), str(p.dtype)) for p in model.parameters()}
    return {"gathered": gathered, "after": after == {(True, "torch.float32")}}


def bad_gradient_of_one_rank(rank: int) -> list[bool]:
    """Return what `NonFinite` sees of a good step, and of one with an infinity in the last rank's slice."""
    model = sharded_net()
    model(torch.ones(1, 3, 8, 8)).sum().backward()
    watch = NonFinite(Path(), policy="stop")
    place: Any = SimpleNamespace(precision="32-true", current_epoch=0, fit_loop=SimpleNamespace(batch_idx=0))
    watch.on_before_optimizer_step(place, place, adamw(model))
    if rank == 1:
        slices.local(model.conv.weight.grad)[0] = float("inf")
    watch.on_before_optimizer_step(place, place, adamw(model))
    return [bool(flag) for flag in watch.bad]


def difference_of_lion() -> float:
    """Return how far Lion's weights after three steps are from those of a network that is whole."""
    torch.manual_seed(0)
    whole, sharded = Net(), sharded_net()
    for model in (whole, sharded):
        optimizer = Lion([p for p in model.parameters() if p.requires_grad], lr=0.01, weight_decay=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.linspace(0, 1, 192).view(1, 3, 8, 8)).square().mean().backward()
            optimizer.step()
    pairs = zip(whole.parameters(), sharded.parameters(), strict=True)
    return max(float((a - b.full_tensor()).detach().abs().max()) for a, b in pairs)


class Rows(nn.Module):
    """Returns a view, as transformers' patch embeddings do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.conv(image).sin().flatten(2)


class ChangesViews(nn.Module):
    """Changes in place what its parts return."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(Rows() for _ in range(8))

    def forward(self, image: Tensor) -> Tensor:
        for part in self.parts:
            rows = part(image)
            rows += 1
            image = rows.view_as(image)
        return image


def difference_of_gradients() -> float:
    torch.manual_seed(0)
    whole, sharded = ChangesViews(), ChangesViews()
    sharded.load_state_dict(whole.state_dict())
    found = parts.shard(sharded, init_device_mesh("cpu", (2,)), size=(3, 4, 4))
    assert found == list(sharded.parts)
    for model in (whole, sharded):
        model(torch.linspace(0, 1, 48).view(1, 3, 4, 4)).square().mean().backward()
    pairs = zip(whole.parameters(), sharded.parameters(), strict=True)
    return max(float((a.grad - b.grad.full_tensor()).abs().max()) for a, b in pairs)  # type: ignore[union-attr,operator]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    folder = tmp_path_factory.mktemp("sharding")
    os.environ["SEGTRAIN_TEST_FOLDER"] = str(folder)
    try:
        return folder, run_in_two_processes(trained_in_two_processes, folder)
    finally:
        del os.environ["SEGTRAIN_TEST_FOLDER"]


def tensors(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """Return the averages, the weights and the optimizer's state of a checkpoint under one name each."""
    found = {f"{key}/{n}": t for key in ("state_dict", "training_state_dict") for n, t in checkpoint[key].items()}
    for number, values in checkpoint["optimizer_states"][0]["state"].items():
        found |= {f"optimizer/{number}/{key}": value for key, value in values.items()}
    return found


def test_each_rank_has_a_share_of_the_weights(runs: tuple[Path, list[Any]]) -> None:
    shares = [result["sharded"]["numbers"] for result in runs[1]]
    total = sum(p.numel() for p in Net().parameters())
    assert sum(shares) == total
    assert max(shares) < 0.6 * total


def test_shared_out_weights_take_the_steps_of_copied_ones(runs: tuple[Path, list[Any]]) -> None:
    sharded, copied = (tensors(read_checkpoint(runs[0] / name / "last.ckpt")) for name in ("sharded", "copied"))
    assert sharded.keys() == copied.keys()
    for name, tensor in copied.items():
        torch.testing.assert_close(sharded[name], tensor, rtol=1e-5, atol=1e-6, msg=name)


def test_a_resumed_run_ends_with_the_same_numbers(runs: tuple[Path, list[Any]]) -> None:
    assert read_checkpoint(runs[0] / "sharded" / "previous.ckpt")["global_step"] == KEPT
    straight, resumed = (tensors(read_checkpoint(runs[0] / name / "last.ckpt")) for name in ("sharded", "resumed"))
    for name, tensor in straight.items():
        assert torch.equal(resumed[name], tensor), name


def test_a_checkpoint_is_one_of_a_whole_network_with_the_score_that_training_saw(runs: tuple[Path, list[Any]]) -> None:
    folder, results = runs
    module = module_on(0)
    checkpoint = read_checkpoint(folder / "sharded" / "last.ckpt")
    load_weights(module, checkpoint, folder)
    adamw(module.model).load_state_dict(checkpoint["optimizer_states"][0])
    (scored,) = trainer(folder).test(module, evaluation_loader(scored_samples(), batch_size=1), verbose=False)
    assert [result["sharded"]["miou"] for result in results] == pytest.approx([scored["test/miou"]] * 2, abs=1e-12)


def test_weights_travel_in_bfloat16_except_beside_batch_norm(runs: tuple[Path, list[Any]]) -> None:
    half = runs[1][0]["half"]
    assert half["gathered"]["block.0.weight"] == half["gathered"]["classifier.weight"] == "torch.bfloat16"
    assert half["gathered"]["norm.weight"] == "torch.float32"
    assert half["after"], "the slices are not float32 tensors again"


def test_a_gradient_that_is_not_finite_on_one_rank_is_seen_by_all(runs: tuple[Path, list[Any]]) -> None:
    assert [result["bad"] for result in runs[1]] == [[False, True], [False, True]]


def test_lion_steps_on_slices_as_on_whole_weights(runs: tuple[Path, list[Any]]) -> None:
    assert runs[1][0]["lion"] < 1e-6


def test_parts_whose_outputs_are_changed_in_place_have_the_gradients_of_a_whole_network(
    runs: tuple[Path, list[Any]],
) -> None:
    assert runs[1][0]["views"] < 1e-6


class Called(nn.Module):
    """A network one of whose modules is used through its children, and two of whose layers share their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Module()
        self.body.blocks = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1) for _ in range(16))
        self.first, self.tied = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.tied.weight = self.first.weight
        self.needs_numbers = False

    def forward(self, image: Tensor) -> Tensor:
        if self.needs_numbers and float(image.sum()) < 0:
            return image
        for block in self.body.blocks:  # type: ignore[union-attr]
            image = block(image)
        return self.tied(self.first(image))


def test_parts_are_called_modules_that_share_no_weights() -> None:
    model = Called()
    assert parts.find_parts(model, (16, 8, 8)) == list(model.body.blocks)  # type: ignore[arg-type]


def test_a_stage_with_many_weights_is_split_and_a_small_one_is_not() -> None:
    small = nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3))
    large = nn.Sequential(*(nn.Conv2d(8, 8, 3) for _ in range(20)))
    norm = nn.GroupNorm(2, 8)
    model = nn.Sequential(small, large, norm)
    assert parts.find_parts(model, (8, 64, 64)) == [small, *large]


def test_a_network_that_needs_real_numbers_has_no_parts_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    model = Called()
    model.needs_numbers = True
    assert parts.find_parts(model, (16, 8, 8)) == []
    assert "Called does not run on torch's meta device" in caplog.text


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["trainer.devices=1"], "trainer.devices: 1 gives one device"),
        (["trainer.devices=auto"], "trainer.devices: auto gives one device"),
        (["trainer.precision=16-mixed"], "trainer.precision: 16-mixed does not go with trainer=fsdp"),
        (["optimizer=muon"], "optimizer: Muon needs whole weights"),
        (["optimizer=sgd", "optimizer.fused=true"], "optimizer.fused: true, and torch has no fused SGD"),
        (["trainer.strategy=fsdp"], "trainer.strategy: 'fsdp' is Lightning's own"),
        (
            ["trainer.strategy._target_=pytorch_lightning.strategies.ModelParallelStrategy"],
            "trainer.strategy: 'pytorch_lightning.strategies.ModelParallelStrategy' is Lightning's own",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_training(
    overrides: list[str], sentence: str, train_config: Callable[..., dict[str, Any]]
) -> None:
    assert any(problem.startswith(sentence) for problem in find_problems(train_config(*CPU, *overrides)))


def test_a_sharded_run_has_no_problems_and_its_checkpoint_may_name_the_strategy(
    train_config: Callable[..., dict[str, Any]],
) -> None:
    cfg = train_config(*CPU)
    assert find_problems(cfg) == []
    assert trust_problems(cfg) == []


@pytest.mark.parametrize("devices", [1, 2])
def test_evaluation_holds_whole_weights(devices: int, compose_config: Compose, tmp_path: Path) -> None:
    cfg = OmegaConf.to_container(compose_config(*CPU, f"trainer.devices={devices}"), resolve=True)
    assert isinstance(cfg, dict)
    cfg["checkpoint"] = "best.ckpt"
    assert find_problems(cfg) == []  # type: ignore[arg-type]
    built = build.build_trainer(cfg, tmp_path, callbacks=[], evaluation=True)  # type: ignore[arg-type]
    assert built.world_size == devices
    assert not isinstance(built.strategy, ShardedStrategy)


@pytest.mark.slow
def test_a_sharded_run_is_scored_on_one_device_and_resumed(
    segtrain: Run, bands: tuple[str, ...], tmp_path: Path
) -> None:
    own = [argument for argument in bands if argument != "trainer=cpu"]
    epoch = ("trainer.max_epochs=1", "param_groups.encoder_lr_factor=0.1", "optimizer=lion")
    done = segtrain("train", *own, *CPU, *epoch)
    assert done.returncode == 0, done.stderr
    run = only_run(tmp_path)
    assert "weights are shared out among 2 devices" in (run / "train.log").read_text()
    done = segtrain("eval", f"checkpoint={run / 'checkpoints' / 'best.ckpt'}", "trainer.devices=1")
    assert done.returncode == 0, done.stderr
    scored, tested = (json.loads((f / "metrics.json").read_text()) for f in (run / "eval" / "test", run))
    for name in ("test/miou", "test/pixel_accuracy", "test/iou/a", "test/f1/c"):
        assert scored[name] == pytest.approx(tested[name], abs=1e-12)
    before = read_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"]
    done = segtrain("train", f"resume={run}", "trainer.max_epochs=2", "test=false")
    assert done.returncode == 0, done.stderr
    assert read_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"] == 2 * before


def test_synchronised_batch_norm_on_a_cpu_is_a_sentence() -> None:
    strategy = ShardedStrategy()
    strategy.parallel_devices = [torch.device("cpu")] * 2
    strategy.cluster_environment = SimpleNamespace(local_rank=lambda: 0)  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"trainer\.sync_batchnorm: true, and torch synchronises .* norm=group"):
        strategy.shard(nn.Sequential(nn.SyncBatchNorm(3)), size=(3, 8, 8))
