"""Do two processes average the same weights, and train stages that were frozen, as one process does?"""

import copy
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from tiny import TinyData, TinyNet, tiny_module, trainer
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from two_processes import WORLD_SIZE, run_in_two_processes

from segtrain.callbacks.early_stop import EarlyStop
from segtrain.callbacks.swa import WeightSWA
from segtrain.callbacks.unfreeze import Unfreeze
from segtrain.models.encoders.encoder import Encoder
from segtrain.module import SegmentationModule

pytestmark = pytest.mark.slow
OPTIONS: dict[str, Any] = {"max_epochs": 2, "limit_val_batches": 0}


class TwoStages(Encoder):
    """Two convolutions without norms, whose statistics would be per process."""

    channels = (4, 4)
    strides = (1, 1)
    mean = std = (0.0, 0.0, 0.0)

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

    def stages(self) -> list[list[nn.Module]]:
        return [[self.first], [self.second]]

    def forward(self, image: Tensor) -> list[Tensor]:
        first = self.first(image).relu()
        return [first, self.second(first).relu()]


class Net(nn.Module):
    """An encoder and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = TwoStages()
        self.classifier = nn.Conv2d(4, 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(self.encoder(image)[-1])


class Gradients(pl.Callback):
    """Keep the gradients of every step, and a checkpoint of the third one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.steps: list[dict[str, Tensor]] = []

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        found = {name: p.grad.clone() for name, p in pl_module.named_parameters() if p.grad is not None}
        self.steps.append(found)

    def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
        if trainer.global_step == 3:
            trainer.save_checkpoint(self.folder / "third.ckpt")


def frozen_module() -> SegmentationModule:
    torch.manual_seed(0)
    net = Net()
    net.encoder.freeze(1)
    make = lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)  # noqa: E731
    return tiny_module(net, optimizer=make)


def gradients(folder: Path, **options: Any) -> list[dict[str, Tensor]]:
    """Return the gradients of four steps, two of them with a frozen stage, and of the last one after a resume."""
    seen, again = Gradients(folder), Gradients(folder / "again")
    data = TinyData(8, batch_size=4)
    trainer(folder, seen, Unfreeze(1), **OPTIONS, **options).fit(frozen_module(), datamodule=data)
    lightning = trainer(folder, again, Unfreeze(1), **OPTIONS, **options)
    data = TinyData(8, batch_size=4, start=(1, 1))
    lightning.fit(frozen_module(), datamodule=data, ckpt_path=str(folder / "third.ckpt"), weights_only=True)
    return [*seen.steps, *again.steps]


def averaged(folder: Path, **options: Any) -> dict[str, dict[str, Tensor]]:
    """Return an average, and the same weights with the statistics that torch computes of this rank's batches."""
    net = TinyNet()
    net.dropout = nn.Identity()  # its draws are each rank's own
    module, average, data = tiny_module(net), WeightSWA(0, total_steps=4), TinyData(8, batch_size=4)
    lightning = trainer(folder, average, max_epochs=2, **options)
    lightning.fit(module, datamodule=data)
    other = copy.deepcopy(module)
    other.load_state_dict(average.average, strict=False)
    update_bn((module.normalize(batch["image"]) for batch in data.first_batches(1, 2)), other.model)
    return {"ours": average.average, "of this rank": {**other.state_dict()}}


def stops_early() -> bool:
    """Say whether a rank ends that has no reason to, when another one has."""
    stop = EarlyStop("val/loss", mode="min", patience=1)
    stop.waited = torch.distributed.get_rank()
    lightning: Any = SimpleNamespace(current_epoch=0, global_step=4, min_epochs=0, min_steps=None, should_stop=False)
    lightning.is_global_zero = False
    stop.on_train_epoch_end(lightning, None)  # type: ignore[arg-type]
    return lightning.should_stop


def in_one_of_two(rank: int) -> dict[str, Any]:
    """Be a rank that torchrun has started."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"GROUP_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1", "TORCHELASTIC_RUN_ID": "test"}
    folder, ddp = Path(os.environ["SEGTRAIN_TEST_FOLDER"]), {"strategy": "ddp", "devices": 2}
    found = {"gradients": gradients(folder, **ddp), "averaged": averaged(folder, **ddp)}
    return {**found, "stops": stops_early()}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGTRAIN_TEST_FOLDER", str(folder))
        return run_in_two_processes(in_one_of_two, folder)


def test_gradients_of_stages_that_were_frozen_are_those_of_one_process(
    ranks: list[dict[str, Any]], tmp_path: Path
) -> None:
    alone = gradients(tmp_path)
    first, later = {"model.encoder.first.weight", "model.encoder.first.bias"}, [2, 3, 4]
    for step, expected in enumerate(alone):
        assert (first <= expected.keys()) == (step in later)
        for name, gradient in expected.items():
            ours = [rank["gradients"][step][name] for rank in ranks]
            assert torch.equal(*ours), (step, name)
            torch.testing.assert_close(ours[0], gradient, rtol=1e-4, atol=1e-6)
    for name, gradient in alone[3].items():
        assert torch.equal(alone[4][name], gradient)  # resumed inside the epoch
        assert torch.equal(ranks[0]["gradients"][4][name], ranks[0]["gradients"][3][name])


def test_the_average_and_its_statistics_are_the_same_on_both_ranks(ranks: list[dict[str, Any]]) -> None:
    first, second = (rank["averaged"] for rank in ranks)
    for name, tensor in first["ours"].items():
        assert torch.equal(second["ours"][name], tensor), name
    for name in ("model.norm.running_mean", "model.norm.running_var"):
        of_ranks = [averages["of this rank"][name] for averages in (first, second)]
        assert not torch.equal(*of_ranks)
        torch.testing.assert_close(first["ours"][name], (of_ranks[0] + of_ranks[1]) / WORLD_SIZE)


def test_a_rank_that_stops_early_stops_the_other(ranks: list[dict[str, Any]]) -> None:
    assert [rank["stops"] for rank in ranks] == [True, True]
