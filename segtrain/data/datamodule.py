"""The loaders of the three splits."""

import copy
import functools
import itertools
import logging
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch.utils.data import BatchSampler, DataLoader

from segtrain.data.augmentation import Augmentation
from segtrain.data.cache import Cache
from segtrain.data.fingerprint import difference, fingerprint
from segtrain.data.labels import LabelMap
from segtrain.data.leaks import shared_files
from segtrain.data.loader import Loader, choose_workers, start_worker
from segtrain.data.mixing import Mix
from segtrain.data.progressive import Progressive
from segtrain.data.sampler import EpochSampler, EvalSampler, epoch_length
from segtrain.data.samples import Key, Samples, collate
from segtrain.data.sampling import Sampling, Shuffle
from segtrain.data.source import MakeSource
from segtrain.data.statistics import weightings
from segtrain.data.steps import count_labels, images_at_a_time
from segtrain.errors import DataError, UserError
from segtrain.run_id import global_rank

log = logging.getLogger("segtrain")

SPLITS = ("train", "val", "test")


class SegmentationData(pl.LightningDataModule):
    """Training batches of augmented crops, evaluation batches of whole images; all uint8.

    Args:
        source: called with `split="train"`, "val" or "test"; returns a `Source`.
        augmentation: of the training split.
        progressive: makes its crops smaller in some epochs, or None.
        mix: of the images of a training batch, or None.
        sampling: how often each training image comes in an epoch.
        cache: keeps what it is called with, a split's samples and its name; None reads files every time.
        num_classes: C.
        ignore_index: the label of void.
        labels: from the masks' values to labels; None where they are the same.
        splits: those that the data set has.
        batch_size: images of one optimizer step over all devices.
        accumulation: batches of a device that make one step.
        eval_batch_size: per device.
        num_workers: per device; None chooses by the machine.
        skip_bad: training samples that cannot be read are replaced by others, and named in the batch.
        seed: of order and augmentation.
        start: (epoch, batch) at which a resumed run goes on.
        repeat_epoch: every epoch has the batches and crops of the first, to over-fit them.
        test_split: what the test loop goes through.
    """

    def __init__(
        self,
        source: MakeSource,
        *,
        augmentation: Augmentation,
        progressive: Progressive | None = None,
        mix: Mix | None = None,
        sampling: Sampling | None = None,
        cache: Callable[[Samples, str], Cache] | None = None,
        num_classes: int,
        ignore_index: int,
        labels: LabelMap | None = None,
        splits: Iterable[str] = SPLITS,
        batch_size: int,
        accumulation: int = 1,
        eval_batch_size: int,
        num_workers: int | None,
        skip_bad: bool = False,
        seed: int,
        start: tuple[int, int] = (0, 0),
        repeat_epoch: bool = False,
        test_split: str = "test",
    ) -> None:
        super().__init__()
        self.source = source
        self.augmentation = augmentation
        self.progressive = progressive
        self.mix = mix
        self.sampling = Shuffle() if sampling is None else sampling
        self.cache = cache
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.labels = labels
        self.splits = tuple(splits)
        self.batch_size = batch_size
        self.accumulation = accumulation
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.skip_bad = skip_bad
        self.seed = seed
        self.start = start
        self.repeat_epoch = repeat_epoch
        self.test_split = test_split
        self._samples: dict[str, Samples] = {}
        self._repeats: list[NDArray[np.float64] | None] = []  # once they are known

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
                progressive=self.progressive if split == "train" else None,
                seed=self.seed,
                num_classes=self.num_classes,
                ignore_index=self.ignore_index,
                labels=self.labels,
                skip_bad=self.skip_bad and split == "train",
            )
        return self._samples[split]

    def open_splits(self, *splits: str) -> None:
        """List the files of these splits, read three samples of each, and warn of files that are in two.

        Raises:
            DataError: naming the folder or file that is wrong.
        """
        for split in splits:
            samples = self.samples(split)
            for index in sorted({0, len(samples) // 2, len(samples) - 1}):
                samples[0, index]
        if global_rank() == 0:
            for sentence in shared_files({split: self.samples(split).source for split in splits}):
                log.warning(sentence)

    def batches_per_epoch(self, world_size: int) -> int:
        """Return the training batches of an epoch on each of `world_size` devices.

        Raises:
            UserError: if a step's images cannot be divided over the devices and its parts, or the split has too few.
        """
        self._images_at_a_time(world_size)
        length = epoch_length(len(self.samples("train")), self.repeats())
        if self.batch_size > length:
            raise UserError(f"loader.batch_size: {self.batch_size} is more than the {length} training images")
        return length // self.batch_size * self.accumulation

    def _images_at_a_time(self, world_size: int) -> int:
        return images_at_a_time(
            self.batch_size, devices=world_size, accumulation=self.accumulation, pairs=self.mix is not None
        )

    def repeats(self) -> NDArray[np.float64] | None:
        """Return how often each training image comes in an epoch; masks are read once, if the sampling needs them."""
        if not self._repeats:
            samples = self._cached("train") if self.sampling.reads_masks else self.samples("train")
            self._repeats.append(self.sampling.repeats(samples))
        return self._repeats[0]

    def class_weights(self, kind: str) -> list[float]:
        """Return one weight a class, by the frequencies in the training masks, which are read for it.

        Args:
            kind: a name of `segtrain.data.statistics.weightings`.
        """
        counts = self._cached("train").label_counts()
        present = counts > 0
        labelled = counts.sum(axis=1, keepdims=True)
        return weightings(counts.sum(axis=0), (labelled * present).sum(axis=0), present.sum(axis=0))[kind].tolist()

    def state_dict(self) -> dict[str, Any]:
        """Return what checkpoints keep of the data."""
        return {"train": self._fingerprint}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Compare the training images with those of the run that is resumed.

        Raises:
            UserError: if they are others.
        """
        if sentence := difference(self._fingerprint, state_dict["train"]):
            raise UserError(sentence)

    @functools.cached_property
    def _fingerprint(self) -> dict[str, Any]:
        return fingerprint(self.samples("train").source)

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        sampler = self._epoch_sampler()
        return self._loader(self._cached("train"), sampler, sampler.batch_size, training=True)

    def _epoch_sampler(self, rank: int | None = None) -> EpochSampler:
        own, world_size = self._rank()
        self.batches_per_epoch(world_size)
        return EpochSampler(
            len(self.samples("train")),
            batch_size=self._images_at_a_time(world_size),
            accumulation=self.accumulation,
            seed=self.seed,
            repeats=self.repeats(),
            rank=own if rank is None else rank,
            world_size=world_size,
            start=self.start,
            same_epoch=self.repeat_epoch,
        )

    def keys_of(self, epoch: int, batch: int) -> list[list[Key]]:
        """Return what the samples of the optimizer step that has this batch depend on: all ranks' batches, by rank."""
        first, found = batch - batch % self.accumulation, []
        for rank in range(self._rank()[1]):
            sampler = self._epoch_sampler(rank)
            keys, size = sampler.keys(epoch), sampler.batch_size
            found += [keys[number * size : (number + 1) * size] for number in range(first, first + self.accumulation)]
        return found

    def batch_of(self, keys: Sequence[Key]) -> dict[str, Any]:
        """Return the batch of these samples, as training gets it."""
        samples = self.samples("train")
        return collate([samples[key] for key in keys], mix=self.mix)

    def first_batches(self, epoch: int, count: int) -> DataLoader[dict[str, Any]]:
        """Return this rank's first batches of an epoch, as training gets them, whatever a resumed run has behind it."""
        sampler = self._epoch_sampler()
        keys = sampler.keys(epoch)[: count * sampler.batch_size]
        return self._loader(self._cached("train"), keys, sampler.batch_size, training=True)

    def training_batches(self) -> Iterator[dict[str, Any]]:
        """Yield the batches of one epoch after the other, without end."""
        loader = self.train_dataloader()
        for epoch in itertools.count():
            loader.batch_sampler.sampler.set_epoch(epoch)  # type: ignore[union-attr]
            yield from loader

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        return self._eval_loader(self._cached("val"))

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        return self._eval_loader(self.samples(self.test_split))

    def _eval_loader(self, samples: Samples) -> DataLoader[dict[str, Any]]:
        """Return whole, unaugmented images of any split, each once over all ranks.

        Raises:
            UserError: if there are fewer images than devices.
        """
        rank, world_size = self._rank()
        if len(samples) < world_size:
            raise UserError(
                f"trainer.devices: {world_size} processes, and a split that is scored has {len(samples)} images; each "
                f"needs one at least: give {len(samples)} devices, or a larger split"
            )
        plain = copy.copy(samples)
        plain.augmentation = plain.progressive = None
        plain.skip_bad = False  # a score is of all images
        sampler = EvalSampler(len(samples), rank=rank, world_size=world_size)
        return self._loader(plain, sampler, self.eval_batch_size, training=False)

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def _loader(
        self, samples: Samples, sampler: Iterable[Key], batch_size: int, *, training: bool
    ) -> DataLoader[dict[str, Any]]:
        workers = choose_workers() if self.num_workers is None else self.num_workers
        accumulation = self.accumulation if training else 1
        count = functools.partial(count_labels, num_classes=self.num_classes, ignore_index=self.ignore_index)
        loader = Loader(
            samples,
            batch_sampler=BatchSampler(sampler, batch_size, drop_last=training),  # type: ignore[arg-type]
            collate_fn=functools.partial(
                collate,
                mix=self.mix if training else None,
                count=count if accumulation > 1 else None,
            ),
            num_workers=workers,
            persistent_workers=training and workers > 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=start_worker,
            multiprocessing_context="fork" if workers and samples.cache is not None else None,  # it lies in our memory
        )
        loader.accumulation = accumulation
        return loader

    def _cached(self, split: str) -> Samples:
        """Return a split's samples, decoded once where there is a cache."""
        samples = self.samples(split)
        if self.cache is not None and samples.cache is None:
            if "fork" not in multiprocessing.get_all_start_methods():
                raise UserError("loader.cache: this system cannot share memory with worker processes; give none")
            samples.cache = self.cache(samples, split)
        return samples
