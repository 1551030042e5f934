"""Do mixes paste what their papers say from the right partner, from one seed a sample, and leave the rest alone?"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from segtrain.data.mixing import ClassMix, CopyPaste, CutMix, Mix

VOID = 255
MIXES: dict[str, Callable[[float], Mix]] = {
    "CutMix": lambda p: CutMix(p=p),
    "ClassMix": lambda p: ClassMix(ignore_index=VOID, p=p),
    "CopyPaste": lambda p: CopyPaste(ignore_index=VOID, p=p),
}
every_mix = pytest.mark.parametrize("make", MIXES.values(), ids=MIXES.keys())


def batch(
    count: int = 4, *, size: tuple[int, int] = (24, 30), channels: int = 3, dtype: type = np.uint8, void: int = VOID
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return images whose pixels name their sample (first channel) and position, and masks of classes and void."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 200, (count, *size, channels)).astype(dtype)
    images[..., 0] = 40 * np.arange(count)[:, None, None] + 5
    masks = rng.integers(0, 6, (count, *size)).astype(np.uint8 if void == VOID else np.int32)
    masks[:, :3] = void
    return images, masks


def sources(images: NDArray[Any]) -> NDArray[np.int64]:
    """Return the sample that each pixel of `batch`'s images came from."""
    return ((images[..., 0].astype(np.int64) - 5) // 40).astype(np.int64)


@every_mix
@pytest.mark.parametrize("channels", [1, 3, 5, 12])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_parts_come_from_the_partner_of_the_batch_as_it_was(
    make: Callable[[float], Mix], dtype: type, channels: int
) -> None:
    images, masks = batch(6, channels=channels, dtype=dtype)
    before = images.copy(), masks.copy()
    mixed, mixed_masks = make(1.0)(images, masks, seeds=range(6))
    assert (mixed.shape, mixed.dtype) == (images.shape, images.dtype)
    assert (mixed_masks.shape, mixed_masks.dtype) == (masks.shape, masks.dtype)
    assert (mixed != images).any()
    for index, origin in enumerate(sources(mixed)):
        assert set(np.unique(origin)) <= {index, (index + 3) % 6}
        kept = origin == index
        np.testing.assert_array_equal(mixed[index][kept], images[index][kept])
        np.testing.assert_array_equal(mixed_masks[index][kept], masks[index][kept])
    np.testing.assert_array_equal(images, before[0])
    np.testing.assert_array_equal(masks, before[1])


@every_mix
def test_a_sample_depends_on_its_own_seed_alone(make: Callable[[float], Mix]) -> None:
    images, masks = batch(4)
    first, second = make(1.0)(images, masks, seeds=[1, 2, 3, 4]), make(1.0)(images, masks, seeds=[9, 2, 8, 4])
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one[[1, 3]], other[[1, 3]])
    looks = {make(1.0)(images, masks, seeds=[seed] * 4)[0].tobytes() for seed in range(10)}
    assert len(looks) >= 8  # ClassMix has few ways to draw half of six classes


@every_mix
def test_the_pairs_of_half_the_batch_on_each_of_two_processes_are_like_those_of_one(
    make: Callable[[float], Mix],
) -> None:
    images, masks = batch(6)
    whole = make(1.0)(images, masks, seeds=range(6))
    half = [1, 4]  # a process that got a sample and its partner
    part = make(1.0)(images[half], masks[half], seeds=half)
    for one, other in zip(whole, part, strict=True):
        np.testing.assert_array_equal(one[half], other)


@every_mix
def test_p_is_the_share_of_samples_that_are_mixed(make: Callable[[float], Mix]) -> None:
    images, masks = batch(2)
    untouched = make(0.0)(images, masks, seeds=[0, 1])
    assert untouched[0] is images  # not even a copy
    assert untouched[1] is masks
    touched = [make(0.5)(images, masks, seeds=[2 * k, 2 * k + 1])[0] != images for k in range(200)]
    share = np.mean([sample.any() for pair in touched for sample in pair])
    assert 0.4 < share < 0.56  # now and then the mixed part is empty


def test_cutmix_pastes_one_rectangle_at_its_place() -> None:
    images, masks = batch(2, size=(40, 60))
    for seed in range(50):
        mixed, mixed_masks = CutMix(p=1.0)(images, masks, seeds=[seed, seed])
        pasted = sources(mixed)[0] == 1
        rows, columns = np.flatnonzero(pasted.any(1)), np.flatnonzero(pasted.any(0))
        assert pasted.sum() == len(rows) * len(columns)
        np.testing.assert_array_equal(mixed[0][pasted], images[1][pasted])
        np.testing.assert_array_equal(mixed_masks[0][pasted], masks[1][pasted])


def test_cutmix_areas_are_betas_where_the_image_does_not_cut_them() -> None:
    images, masks = np.zeros((2, 200, 200, 1), np.uint8), np.zeros((2, 200, 200), np.uint8)
    images[1] = 1

    def areas(alpha: float) -> NDArray[np.float64]:
        mix = CutMix(p=1.0, alpha=alpha)
        return np.array([mix(images, masks, seeds=[seed, 0])[0][0].mean() for seed in range(400)])

    # E of the area that stays inside: along each axis a box of share s around a uniform centre keeps s - s*s/4
    side = np.sqrt(1 - np.linspace(0, 1, 10001))
    np.testing.assert_allclose(areas(1.0).mean(), ((side - side**2 / 4) ** 2).mean(), atol=0.03)
    assert areas(50.0).max() < 0.7
    assert areas(1.0).max() > 0.8


@pytest.mark.parametrize(("present", "drawn"), [(1, 0), (2, 1), (5, 2), (6, 3)])
def test_classmix_pastes_all_pixels_of_half_of_the_classes_and_no_void(present: int, drawn: int) -> None:
    images, masks = batch(2, size=(40, 60))
    masks[1] = np.where(masks[1] == VOID, VOID, masks[1] % present)
    seen = set()
    for seed in range(40):
        mixed, mixed_masks = ClassMix(ignore_index=VOID, p=1.0)(images, masks, seeds=[seed, seed])
        pasted = sources(mixed)[0] == 1
        classes = set(np.unique(masks[1][pasted]).tolist())
        assert len(classes) == drawn
        assert VOID not in classes
        np.testing.assert_array_equal(pasted, np.isin(masks[1], list(classes)))
        np.testing.assert_array_equal(mixed_masks[0], np.where(pasted, masks[1], masks[0]))
        np.testing.assert_array_equal(mixed[0], np.where(pasted[..., None], images[1], images[0]))
        seen |= classes
    assert seen == (set(range(present)) if drawn else set())


@pytest.mark.parametrize("void", [-1, VOID])
@pytest.mark.parametrize(("classes", "pasted"), [(None, {1, 2, 3, 4, 5}), ([2], {2}), ([0, 5], {0, 5})])
def test_copy_paste_writes_the_chosen_classes_mirrored_and_shifted(
    classes: list[int] | None, pasted: set[int], void: int
) -> None:
    images, masks = batch(2, void=void)
    mix = CopyPaste(ignore_index=void, p=1.0, classes=classes, max_shift=0.1)
    height, width = masks.shape[1:]
    found = set()
    for seed in range(40):
        mixed, mixed_masks = mix(images, masks, seeds=[seed, seed])
        matches = []
        for mirror in (False, True):
            image, mask = (images[1][:, ::-1], masks[1][:, ::-1]) if mirror else (images[1], masks[1])
            for dy in range(-2, 3):
                for dx in range(-3, 4):
                    rows, columns = np.indices((height, width)) - np.array([dy, dx])[:, None, None]
                    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
                    y, x = np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)
                    where = inside & np.isin(mask[y, x], list(pasted))
                    if (mixed_masks[0] == np.where(where, mask[y, x], masks[0])).all():
                        np.testing.assert_array_equal(mixed[0], np.where(where[..., None], image[y, x], images[0]))
                        matches.append((mirror, dy, dx))
        assert len(matches) == 1
        found.add(matches[0])
    assert {mirror for mirror, _, _ in found} == {False, True}
    assert len({dy for _, dy, _ in found}) == 5
    assert {dx for _, _, dx in found} >= {-3, 3}


@every_mix
def test_an_odd_batch_is_refused_with_the_remedy(make: Callable[[float], Mix]) -> None:
    with pytest.raises(ValueError, match=r"pairs the images of a batch, and 3 is odd; give an even loader\.batch_size"):
        make(1.0)(*batch(3), seeds=range(3))


@every_mix
def test_a_seed_is_needed_for_each_sample(make: Callable[[float], Mix]) -> None:
    with pytest.raises(ValueError, match="shorter"):
        make(0.0)(*batch(4), seeds=[1, 2])


@every_mix
def test_a_batch_of_void_stays_as_it_is(make: Callable[[float], Mix]) -> None:
    images, masks = batch(2)
    masks[:] = VOID
    assert (make(1.0)(images, masks, seeds=[0, 1])[1] == VOID).all()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: CutMix(p=1.5), r"p: 1.5 is not in \[0, 1\]"),
        (lambda: CutMix(alpha=0), r"alpha: 0 is not above 0"),
        (lambda: CopyPaste(ignore_index=VOID, max_shift=1), r"max_shift: 1 is not in \[0, 1\)"),
        (lambda: CopyPaste(ignore_index=VOID, classes=[1, VOID]), r"classes: \[1, 255\] has void"),
        (lambda: CopyPaste(ignore_index=VOID, classes=[]), r"classes: \[\] has nothing"),
    ],
)
def test_arguments_out_of_range_are_named(make: Callable[[], Mix], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()
