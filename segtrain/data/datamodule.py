"""The loaders of the three splits."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import pytorch_lightning as pl
import torch
from torch.utils.data import BatchSampler, DataLoader, Sampler

from segtrain.data.augmentation import Augmentation
from segtrain.data.labels import LabelMap
from segtrain.data.sampler import EpochSampler, EvalSampler
from segtrain.data.samples import Key, Samples, Source, collate
from segtrain.errors import DataError, UserError

SPLITS = ("train", "val", "test")


class SegmentationData(pl.LightningDataModule):
    """Training batches of augmented crops, evaluation batches of whole images; all uint8.

    Args:
        source: called with `split="train"`, "val" or "test"; returns a `Source`.
        augmentation: of the training split.
        num_classes: C.
        ignore_index: the label of void.
        labels: from the masks' values to labels; None where they are the same.
        splits: those that the data set has.
        batch_size: of one optimizer step over all devices.
        eval_batch_size: per device.
        num_workers: per device; None chooses by the machine.
        seed: of order and augmentation.
        start: (epoch, batch) at which a resumed run goes on.
        repeat_epoch: every epoch has the batches and crops of the first, to over-fit them.
        test_split: what the test loop goes through.
    """

    def __init__(
        self,
        source: Callable[..., Source],
        *,
        augmentation: Augmentation,
        num_classes: int,
        ignore_index: int,
        labels: LabelMap | None = None,
        splits: Sequence[str] = SPLITS,
        batch_size: int,
        eval_batch_size: int,
        num_workers: int | None,
        seed: int,
        start: tuple[int, int] = (0, 0),
        repeat_epoch: bool = False,
        test_split: str = "test",
    ) -> None:
        super().__init__()
        self.source = source
        self.augmentation = augmentation
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.labels = labels
        self.splits = tuple(splits)
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.start = start
        self.repeat_epoch = repeat_epoch
        self.test_split = test_split
        self._samples: dict[str, Samples] = {}

    def samples(self, split: str) -> Samples:
        """Return a split's samples; the files are listed once.

        Raises:
            DataError: if the split is empty or its folder is wrong.
        """
        if split not in self.splits:
            raise DataError(f"dataset: has no {split} split (has: {', '.join(self.splits)})")
        if split not in self._samples:
            source = self.source(split=split)
            if len(source) == 0:
                raise DataError(f"dataset: the {split} split is empty")
            self._samples[split] = Samples(
                source,
                augmentation=self.augmentation if split == "train" else None,
                seed=self.seed,
                num_classes=self.num_classes,
                ignore_index=self.ignore_index,
                labels=self.labels,
            )
        return self._samples[split]

    def open_splits(self, *splits: str) -> None:
        """List the files of these splits and read the first sample of each.

        Raises:
            DataError: naming the folder or file that is wrong.
        """
        for split in splits:
            self.samples(split)[0, 0]

    def batches_per_epoch(self, world_size: int) -> int:
        """Return the training batches of an epoch on each of `world_size` devices.

        Raises:
            UserError: if the batch does not divide over the devices, or the split has no whole batch.
        """
        if self.batch_size % world_size:
            raise UserError(
                f"loader.batch_size: {self.batch_size} images cannot be divided over {world_size} devices; "
                f"give a multiple of {world_size}"
            )
        count = len(self.samples("train")) // self.batch_size
        if count == 0:
            raise UserError(
                f"loader.batch_size: {self.batch_size} is more than the {len(self.samples('train'))} training images"
            )
        return count

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        rank, world_size = self._rank()
        self.batches_per_epoch(world_size)
        samples = self.samples("train")
        batch_size = self.batch_size // world_size
        sampler = EpochSampler(
            len(samples),
            batch_size=batch_size,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
            start=self.start,
            repeat=self.repeat_epoch,
        )
        return self._loader(samples, sampler, batch_size, training=True)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        return self._eval_dataloader("val")

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        return self._eval_dataloader(self.test_split)

    def _eval_dataloader(self, split: str) -> DataLoader[dict[str, Any]]:
        """Return whole, unaugmented images of any split, each once over all ranks."""
        rank, world_size = self._rank()
        samples = self.samples(split)
        if split == "train":
            samples = Samples(
                samples.source,
                augmentation=None,
                seed=self.seed,
                num_classes=self.num_classes,
                ignore_index=self.ignore_index,
                labels=self.labels,
            )
        sampler = EvalSampler(len(samples), rank=rank, world_size=world_size)
        return self._loader(samples, sampler, self.eval_batch_size, training=False)

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def _loader(
        self, samples: Samples, sampler: Sampler[Key], batch_size: int, *, training: bool
    ) -> DataLoader[dict[str, Any]]:
        workers = choose_workers() if self.num_workers is None else self.num_workers
        return DataLoader(
            samples,
            batch_sampler=BatchSampler(sampler, batch_size, drop_last=training),  # type: ignore[arg-type]
            collate_fn=collate,
            num_workers=workers,
            persistent_workers=training and workers > 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_start_worker,
        )


def choose_workers() -> int:
    """Return a number of workers per device for this machine: its cores shared by the devices, at most 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    devices = max(1, torch.cuda.device_count() if torch.cuda.is_available() else 1)
    return max(1, min(8, cores // devices - 1))


def _start_worker(worker: int) -> None:
    cv2.setNumThreads(0)  # one process a core is enough
    torch.set_num_threads(1)
