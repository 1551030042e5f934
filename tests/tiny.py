"""A network, a module and data so small that a Trainer's whole run takes a moment."""

from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader

from segtrain.checkpoint_io import AtomicCheckpointIO
from segtrain.data.sampler import EpochSampler
from segtrain.data.samples import Key, collate
from segtrain.inference.any_size import AnySize
from segtrain.losses import CrossEntropyLoss
from segtrain.models.normalize import Normalize
from segtrain.module import SegmentationModule

VOID = 255
NAMES = ["dark", "middle", "bright"]


class TinyNet(nn.Module):
    """One convolution, norm, dropout and a classifier of three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Conv2d(4, 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(self.dropout(self.norm(self.conv(image)).relu()))


class Brightness(nn.Module):
    """Logits whose argmax is 0, 1 or 2 for a red value below 1/3, 2/3 and 1: a network that needs no training."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centres", torch.tensor([1 / 6, 3 / 6, 5 / 6]).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        return -((image[:, :1] - self.centres) ** 2)


class TinySamples(torch.utils.data.Dataset[dict[str, Any]]):
    """Noise whose brightness says the class, some void; called with (epoch, index)."""

    def __init__(self, count: int = 6, *, sizes: tuple[tuple[int, int], ...] = ((8, 8),)) -> None:
        self.count = count
        self.sizes = sizes

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, key: Key) -> dict[str, Any]:
        rng = np.random.default_rng(key[1])
        mask = rng.integers(0, 3, self.sizes[key[1] % len(self.sizes)], dtype=np.uint8)
        image = (mask[..., None] * 85 + rng.integers(0, 110, (*mask.shape, 3))).clip(0, 255).astype(np.uint8)
        image[(image == 85) | (image == 170)] += 1  # between two classes: the answer would be left to rounding
        mask[rng.random(mask.shape) < 0.1] = VOID
        return {"image": image, "mask": mask, "index": key[1]}


def training_loader(samples: TinySamples, *, batch_size: int = 2, start: tuple[int, int] = (0, 0)) -> DataLoader[Any]:
    """Return shuffled batches, as the data module does."""
    sampler = EpochSampler(len(samples), batch_size=batch_size, seed=0, start=start)
    return DataLoader(samples, batch_sampler=BatchSampler(sampler, batch_size, drop_last=True), collate_fn=collate)  # type: ignore[arg-type]


def evaluation_loader(samples: TinySamples, *, batch_size: int = 2) -> DataLoader[Any]:
    """Return batches in order."""
    keys = [[(0, i) for i in range(s, min(s + batch_size, len(samples)))] for s in range(0, len(samples), batch_size)]
    return DataLoader(samples, batch_sampler=keys, collate_fn=collate)  # type: ignore[arg-type]


class TinyData(pl.LightningDataModule):
    """Training batches as the data module's, dealt to the ranks, of which the first of an epoch can be had again."""

    def __init__(self, count: int = 6, *, batch_size: int = 2, start: tuple[int, int] = (0, 0)) -> None:
        super().__init__()
        self.samples = TinySamples(count)
        self.batch_size = batch_size  # of all ranks together
        self.start = start

    def _sampler(self) -> EpochSampler:
        rank, ranks = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        size = self.batch_size // ranks
        return EpochSampler(self.samples.count, batch_size=size, seed=0, rank=rank, world_size=ranks, start=self.start)

    def _loader(self, keys: Any, size: int) -> DataLoader[Any]:
        return DataLoader(self.samples, batch_sampler=BatchSampler(keys, size, True), collate_fn=collate)  # type: ignore[arg-type]

    def train_dataloader(self) -> DataLoader[Any]:
        sampler = self._sampler()
        return self._loader(sampler, sampler.batch_size)

    def val_dataloader(self) -> DataLoader[Any]:
        return evaluation_loader(TinySamples(2))

    def first_batches(self, epoch: int, count: int) -> DataLoader[Any]:
        sampler = self._sampler()
        return self._loader(sampler.keys(epoch)[: count * sampler.batch_size], sampler.batch_size)


def tiny_module(model: nn.Module | None = None, **options: Any) -> SegmentationModule:
    """Return the module of a network that takes values from 0 to 1; the same weights every time."""
    torch.manual_seed(0)
    given: dict[str, Any] = {
        "loss": CrossEntropyLoss(ignore_index=VOID),
        "normalize": Normalize([0.0] * 3, [1.0] * 3),
        "any_size": AnySize(stride=4),
        "class_names": NAMES,
        "ignore_index": VOID,
        "optimizer": lambda model: torch.optim.SGD(model.parameters(), lr=0.1),
        "seed": 0,
    }
    return SegmentationModule(TinyNet() if model is None else model, **{**given, **options})


def trainer(folder: Path, *callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    """Return a quiet Trainer on the CPU that writes with segtrain's checkpoint format."""
    return pl.Trainer(
        accelerator="cpu",
        default_root_dir=str(folder),
        callbacks=list(callbacks),
        plugins=[AtomicCheckpointIO(folder)],
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
        num_sanity_val_steps=0,
        **{"enable_checkpointing": any(isinstance(c, pl.callbacks.Checkpoint) for c in callbacks), **options},
    )
