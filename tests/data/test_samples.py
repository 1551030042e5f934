"""Is a sample a pure function of (seed, epoch, index), checked, and are batches laid out as they should be?"""

import pickle
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader

from segtrain.data.augmentation import Augmentation
from segtrain.data.caching import cache_in_memory
from segtrain.data.labels import LabelMap
from segtrain.data.mixing import Mix
from segtrain.data.pairs import PairedFiles
from segtrain.data.samples import Key, Samples, collate, sample_seeds, unbatch
from segtrain.errors import DataError, message_of

VOID = 255


class Noise:
    """Images of noise with masks of three classes; the index chooses one of the sizes."""

    def __init__(self, *sizes: tuple[int, int], label: int = 2) -> None:
        self.sizes = sizes or ((24, 20),)
        self.label = label

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        rng = np.random.default_rng(index)
        size = self.sizes[index % len(self.sizes)]
        image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        return image, rng.integers(0, self.label + 1, size, dtype=np.uint8)


def samples(
    *,
    seed: int = 0,
    source: Any = None,
    augmented: bool = True,
    ignore_index: int = VOID,
    labels: LabelMap | None = None,
) -> Samples:
    transforms = [A.RandomCrop(32, 32, pad_if_needed=True), A.HorizontalFlip(p=0.5), A.ColorJitter(p=0.5)]
    return Samples(
        Noise() if source is None else source,
        augmentation=Augmentation(transforms, ignore_index=ignore_index) if augmented else None,
        seed=seed,
        num_classes=3,
        ignore_index=ignore_index,
        labels=labels,
    )


def content(sample: dict[str, Any]) -> bytes:
    return sample["image"].tobytes() + sample["mask"].tobytes()


def test_a_sample_depends_on_seed_epoch_and_index_and_not_on_what_was_read_before() -> None:
    first, second = samples(), samples()
    backwards = {key: content(second[key]) for key in [(1, 3), (0, 3), (0, 2)]}
    assert {key: content(first[key]) for key in [(0, 2), (0, 3), (1, 3)]} == backwards
    assert len(set(backwards.values())) == 3
    assert content(samples(seed=1)[0, 2]) != content(first[0, 2])


def test_seeds_of_samples_are_mixed_so_that_neighbours_have_nothing_in_common() -> None:
    seeds = [sample_seeds(s, Key(e, i, 0))[0] for s in range(3) for e in range(20) for i in range(50)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**32 for seed in seeds)
    bits = np.unpackbits(np.array(seeds, np.uint32).view(np.uint8))
    assert abs(bits.mean() - 0.5) < 0.01


def test_a_repeat_and_the_mixing_of_a_sample_have_seeds_of_their_own() -> None:
    keys = [Key(epoch, sample, repeat) for epoch in range(4) for sample in range(20) for repeat in range(4)]
    seeds = [seed for key in keys for seed in sample_seeds(0, key)]
    assert len(set(seeds)) == 2 * len(keys)
    assert sample_seeds(0, Key(1, 2)) == sample_seeds(0, Key(1, 2, 0))
    data = samples()
    assert content(data[0, 2]) == content(data[Key(0, 2, 0)])
    assert content(data[Key(0, 2, 0)]) != content(data[Key(0, 2, 1)])
    assert data[0, 2]["seed"] == sample_seeds(0, Key(0, 2))[1]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_loader_workers_does_not_change_a_byte(workers: int) -> None:
    batches = [[(epoch, index) for index in half] for epoch in (0, 1) for half in ((0, 5, 2), (7, 1, 3))]

    def load(count: int) -> list[dict[str, Any]]:
        loader = DataLoader(samples(), batch_sampler=batches, collate_fn=collate, num_workers=count)  # type: ignore[arg-type]
        return list(loader)

    for batch, expected in zip(load(workers), load(0), strict=True):
        assert all(torch.equal(batch[key], expected[key]) for key in ("image", "mask", "index"))


def test_without_augmentation_a_sample_is_the_sources_in_every_epoch() -> None:
    image, mask = Noise()[4]
    for epoch in (0, 7):
        sample = samples(augmented=False)[epoch, 4]
        np.testing.assert_array_equal(sample["image"], image)
        np.testing.assert_array_equal(sample["mask"], mask)
        assert sample["index"] == 4


@pytest.mark.parametrize("ignore_index", [3, 255, -1, 300])
def test_padding_around_an_image_smaller_than_the_crop_is_void(ignore_index: int) -> None:
    mask = samples(ignore_index=ignore_index)[0, 0]["mask"]
    assert mask.shape == (32, 32)
    assert (mask == ignore_index).sum() == 32 * 32 - 24 * 20


def write_pair(folder: Path, mask: NDArray[np.uint8]) -> PairedFiles:
    for name, array in (("images", np.zeros((4, 6, 3), np.uint8)), ("masks", mask)):
        (folder / name).mkdir()
        Image.fromarray(array).save(folder / name / "street.png")
    return PairedFiles([(folder / "images" / "street.png",)], [(folder / "masks" / "street.png",)])


def test_a_wrong_label_is_named_with_its_file_value_and_count(tmp_path: Path) -> None:
    source = write_pair(tmp_path, np.array([[0, 1, 2, 9, 9, 255]] * 4, np.uint8))
    with pytest.raises(DataError, match=r"masks/street\.png: labels outside 0 to 2 .*: 9 \(8 pixels\)"):
        samples(source=source)[0, 0]


def test_labels_are_mapped_before_they_are_checked_and_augmented() -> None:
    raw = Noise(label=9)[3][1]
    merged = LabelMap(dict.fromkeys(range(3, 9), 1) | {9: None}, ignore_index=VOID)
    mask = samples(source=Noise(label=9), augmented=False, labels=merged)[0, 3]["mask"]
    np.testing.assert_array_equal(mask, np.where(raw == 9, VOID, np.where(raw > 2, 1, raw)))
    assert samples(source=Noise(label=9), labels=merged)[0, 3]["mask"].shape == (32, 32)


class Floats(Noise):
    """Images of five channels of floats."""

    def __getitem__(self, index: int) -> Any:
        image, mask = super().__getitem__(index)
        return np.dstack([image, image[..., :2]]).astype(np.float32) / 255, mask


def test_floats_of_any_number_of_channels_are_cropped_and_batched() -> None:
    data = Samples(
        Floats(),
        augmentation=Augmentation([A.RandomCrop(16, 16), A.HorizontalFlip(p=0.5)], ignore_index=VOID),
        seed=0,
        num_classes=3,
        ignore_index=VOID,
    )
    batch = collate([data[0, 0], data[0, 1]])
    assert batch["image"].dtype == torch.float32
    assert batch["image"].shape == (2, 5, 16, 16)
    assert torch.equal(batch["image"][:, :2], batch["image"][:, 3:])


@pytest.mark.parametrize("image", [np.zeros((4, 6, 3)), np.zeros((4, 6, 3), np.int32), np.zeros((4, 6), np.uint8)])
def test_an_image_of_a_users_data_set_of_another_type_is_refused(image: NDArray[Any]) -> None:
    with pytest.raises(DataError, match=r"^sample 0: an image is uint8 \(H, W, channels\), or float32 in 0 to 1"):
        samples(source=[(image, np.zeros((4, 6), np.uint8))])[0, 0]


def test_images_of_two_depths_are_to_be_converted_and_no_range_is_proposed() -> None:
    depths = [np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6, 3), np.float32)]
    mixed = samples(source=[(image, np.zeros((4, 6), np.uint8)) for image in depths], augmented=False)
    mixed.read(0)
    with pytest.raises(DataError, match=r"of more than 8 bits, .* before it are 8-bit; convert them to one depth$"):
        mixed.read(1)


def test_a_mask_that_does_not_fit_its_image_is_named_with_it(tmp_path: Path) -> None:
    source = write_pair(tmp_path, np.zeros((4, 5), np.uint8))
    with pytest.raises(DataError, match=r"masks/street\.png: the mask is 5x4 .*images/street\.png is 6x4"):
        samples(source=source)[0, 0]


def test_a_wrong_label_of_a_users_data_set_is_named_by_its_index() -> None:
    with pytest.raises(DataError, match=r"^sample 3: labels outside 0 to 2"):
        samples(source=Noise(label=9))[0, 3]


def test_a_workers_error_reaches_the_user_as_its_sentence() -> None:
    with pytest.raises(DataError) as raised:
        samples(source=Noise(label=9))[0, 3]
    # what a DataLoader sends out of a worker; a real one would make the test wait five seconds for its end
    sent = pickle.loads(
        pickle.dumps(ExceptionWrapper((raised.type, raised.value, raised.tb), where="in DataLoader worker process 0"))
    )
    with pytest.raises(DataError, match="Original Traceback") as caught:
        sent.reraise()
    assert message_of(caught.value) == str(raised.value)


def test_a_batch_is_channels_last_bytes() -> None:
    parts = [samples()[0, index] for index in (2, 5)]
    batch = collate(parts)
    assert batch["image"].shape == (2, 3, 32, 32)
    assert batch["image"].dtype == batch["mask"].dtype == torch.uint8
    assert batch["image"].is_contiguous(memory_format=torch.channels_last)
    assert batch["index"].tolist() == [2, 5]
    for position, part in enumerate(parts):
        np.testing.assert_array_equal(batch["image"][position].permute(1, 2, 0), part["image"])
        np.testing.assert_array_equal(batch["mask"][position], part["mask"])


def test_images_of_several_sizes_are_a_list() -> None:
    source = Noise((5, 7), (9, 4))
    batch = collate([samples(source=source, augmented=False)[0, index] for index in range(3)])
    assert [tuple(image.shape) for image in batch["image"]] == [(1, 3, 5, 7), (1, 3, 9, 4), (1, 3, 5, 7)]
    assert [tuple(mask.shape) for mask in batch["mask"]] == [(1, 5, 7), (1, 9, 4), (1, 5, 7)]
    for index, image in enumerate(batch["image"]):
        np.testing.assert_array_equal(image[0].permute(1, 2, 0), source[index][0])


def test_mirrored_views_can_be_batched() -> None:
    image, mask = Noise()[0]
    batch = collate([{"image": image[:, ::-1], "mask": mask[:, ::-1], "index": 0}])
    np.testing.assert_array_equal(batch["image"][0].permute(1, 2, 0), image[:, ::-1])
    np.testing.assert_array_equal(batch["mask"][0], mask[:, ::-1])


def test_presence_says_which_classes_each_mask_has_with_a_cache_and_without() -> None:
    data = samples(source=Noise((2, 2), (1, 1), (1, 3)), augmented=False, labels=LabelMap({2: None}, ignore_index=VOID))
    expected = [[label in data.read(index)[1] for label in range(3)] for index in range(len(data))]
    assert data.presence().tolist() == expected
    assert 4 < np.sum(expected) < 16
    data.cache = cache_in_memory(data, what="train")
    data.source = [None] * len(data)  # type: ignore[assignment,list-item]  # nothing to read from
    assert data.presence().tolist() == expected


class Recorded(Mix):
    """Adds one to the images and writes down what it was called with."""

    def __init__(self) -> None:
        super().__init__(p=1.0)
        self.calls: list[tuple[tuple[int, ...], tuple[int, ...], list[int]]] = []

    def __call__(self, images: NDArray[Any], masks: NDArray[Any], *, seeds: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        self.calls.append((images.shape, masks.shape, list(seeds)))
        return images + 1, 1 - masks

    def paste(self, image: Any, mask: Any, other_image: Any, other_mask: Any, *, rng: Any) -> None:
        """Nothing."""


def test_a_mix_gets_the_whole_batch_and_the_seed_of_every_sample() -> None:
    parts = [
        {"image": np.full((2, 3, 3), n, np.uint8), "mask": np.ones((2, 3)), "index": n, "seed": 7 * n} for n in (4, 5)
    ]
    mix = Recorded()
    batch = collate(parts, mix=mix)
    assert mix.calls == [((2, 2, 3, 3), (2, 2, 3), [28, 35])]
    assert batch["image"][:, 0, 0, 0].tolist() == [5, 6]
    assert not batch["mask"].any()
    assert batch["index"].tolist() == [4, 5]
    parts[0]["image"] = np.zeros((1, 3, 3), np.uint8)
    collate(parts, mix=mix)
    assert len(mix.calls) == 1  # of several sizes: not mixed


@pytest.mark.parametrize("sizes", [((5, 7),), ((5, 7), (9, 4))])
def test_what_a_batch_has_of_a_read_only_cache_can_be_written_to(sizes: Any) -> None:
    data = samples(source=Noise(*sizes), augmented=False)
    data.cache = cache_in_memory(data, what="val")
    before = [array.tobytes() for index in (0, 1) for array in data.cache[index]]
    batch = collate([data[0, 0], data[0, 1]])
    for image, mask in zip(batch["image"], batch["mask"], strict=True):
        image += 1
        mask += 1
    assert [array.tobytes() for index in (0, 1) for array in data.cache[index]] == before


@pytest.mark.parametrize("sizes", [((5, 7),), ((5, 7), (9, 4))])
def test_unbatching_gives_the_samples_back(sizes: Any) -> None:
    data = samples(source=Noise(*sizes), augmented=False)
    found = list(unbatch(collate([data[0, index] for index in indices]) for indices in ([0, 1, 2], [3])))
    assert len(found) == 4
    for index, (image, mask) in enumerate(found):
        np.testing.assert_array_equal(image, data.read(index)[0])
        np.testing.assert_array_equal(mask, data.read(index)[1])


class Holes:
    """Samples whose image is their index, some of them unreadable."""

    def __init__(self, *bad: int) -> None:
        self.bad = bad

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        if index in self.bad:
            raise DataError(f"image {index} is bad")
        return np.full((2, 2, 3), index, np.uint8), np.zeros((2, 2), np.uint8)


def test_a_sample_that_cannot_be_read_is_replaced_by_the_next_and_named() -> None:
    samples = Samples(Holes(3, 4, 19), augmentation=None, seed=0, num_classes=2, ignore_index=255, skip_bad=True)
    assert (samples[0, 3]["index"], samples[0, 3]["bad"]) == (5, ["image 3 is bad", "image 4 is bad"])
    assert (samples[0, 19]["index"], samples[0, 5]["bad"]) == (0, [])
    assert collate([samples[0, 3], samples[0, 1]])["bad"] == ["image 3 is bad", "image 4 is bad"]
    assert "bad" not in collate([samples[0, 1], samples[0, 2]])


def test_too_many_samples_that_cannot_be_read_are_an_error() -> None:
    samples = Samples(Holes(*range(20)), augmentation=None, seed=0, num_classes=2, ignore_index=255, skip_bad=True)
    with pytest.raises(DataError, match="is bad"):
        samples[0, 0]
