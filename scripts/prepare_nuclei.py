"""Build the small nuclei data set that is shipped with segtrain.

The source is the Data Science Bowl 2018 stage-1 set (BBBC038v1, corrected annotations, CC0 1.0), laid out as
``images/ID.webp`` (or ``.png``), ``instances/ID.png`` (0 = background, 1..n = one nucleus each) and
``train.txt``, ``val.txt``, ``test.txt`` with one id a line.

From every split the script takes a fixed number of images per imaging type, in the order of their ids,
and cuts one 256x256 window out of each. The result depends on nothing but the source, so a second run
writes the same pixels. Images are lossless WebP (PNG would be a fifth larger), masks are palette PNG.

    python scripts/prepare_nuclei.py --source DIR --output segtrain/data/nuclei
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

SIZE = 256
STRIDE = 16  # grid on which the window is searched
MIN_COVERAGE = 0.04  # share of the window that must be nucleus
README = """# Nuclei: the built-in data set

{total} microscopy images of 256x256 pixels with two classes: 0 = background, 1 = nucleus.
`images/SPLIT/NAME.webp` (lossless) belongs to `masks/SPLIT/NAME.png` (palette, index = class).

**Source.** Data Science Bowl 2018, stage 1 (Broad Bioimage Benchmark Collection, set BBBC038v1,
<https://bbbc.broadinstitute.org/BBBC038>), with corrected annotations.
J. C. Caicedo et al., "Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl",
Nature Methods 16, 1247-1253 (2019). NAME is the first twelve digits of the original image id.

**Licence.** CC0 1.0 (public domain), for the original and for this selection.

**How it was chosen.** `scripts/prepare_nuclei.py` made it. Each split was filled from the same part of a
fixed 8:1:1 split of the original set. Per imaging type, the first images by id were taken; of a larger
image, the one window with the most nucleus pixels, at native resolution. All instances were merged into
one class. Left out were windows with less than {coverage:.0%} nucleus, images that continue an image of
another split across a border (many originals are neighbouring tiles of one slide), and by hand:
{excluded}.

| imaging type | train | val | test |
|---|---:|---:|---:|
{table}

**Reference.** Otsu's threshold per image on the grey value, the smaller side taken as nuclei, reaches a
mIoU of {val:.4f} on val and {test:.4f} on test (mean of both classes' IoU, one confusion matrix over all
pixels of the split).
"""
SPLITS = ("test", "val", "train")  # test first: an image that touches a chosen one is skipped later
# imaging type -> images wanted in (train, val, test)
QUOTAS: dict[str, tuple[int, int, int]] = {
    "fluorescence, small nuclei": (18, 5, 6),
    "fluorescence, blurred nuclei": (14, 4, 5),
    "fluorescence, large nuclei": (8, 3, 3),
    "fluorescence, cell culture": (9, 3, 3),
    "stained tissue, purple on purple": (15, 2, 7),
    "stained tissue, purple on white": (8, 4, 3),
    "bright field, grey smear": (8, 2, 2),
}
# Left out by hand: first characters of the id -> reason.
EXCLUDED: dict[str, str] = {
    "08151b": "a dividing nucleus is not annotated",
    "193ffa": "a bright object that is no nucleus fills one side",
}


@dataclass(frozen=True)
class Sample:
    """One source image with its mask and the name of its imaging type."""

    name: str
    kind: str
    image: np.ndarray  # H x W x 3, BGR
    mask: np.ndarray  # H x W, bool

    def window(self) -> tuple[np.ndarray, np.ndarray]:
        """The 256x256 window with the most nucleus pixels (the first such one in reading order)."""
        sums = cv2.integral(self.mask.astype(np.uint8))
        counts = sums[SIZE:, SIZE:] - sums[:-SIZE, SIZE:] - sums[SIZE:, :-SIZE] + sums[:-SIZE, :-SIZE]
        counts = counts[::STRIDE, ::STRIDE]
        y, x = (STRIDE * int(i) for i in np.unravel_index(counts.argmax(), counts.shape))
        return self.image[y : y + SIZE, x : x + SIZE], self.mask[y : y + SIZE, x : x + SIZE]


def read(path: Path, flags: int) -> np.ndarray:
    """Read an image file or fail."""
    image = cv2.imread(str(path), flags)
    if image is None:
        raise SystemExit(f"cannot read {path}")
    return image


def imaging_type(image: np.ndarray, instances: np.ndarray) -> str | None:
    """Tell the imaging type from the image's size, colour, background and nuclei (None: not used)."""
    size = image.shape[:2]
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    if size == (256, 256):
        areas = np.bincount(instances.ravel())[1:]
        blurred = areas.any() and np.median(areas[areas > 0]) >= 200 and np.percentile(grey, 10) < 9
        return "fluorescence, blurred nuclei" if blurred else "fluorescence, small nuclei"
    if size == (256, 320) and np.ptp(image.astype(int), axis=2).any():
        # The median red-green tint of the brighter pixels tells the background's colour.
        tint = np.median(cv2.cvtColor(image, cv2.COLOR_BGR2LAB)[..., 1][grey >= np.percentile(grey, 60)])
        if tint < 135:
            return "stained tissue, purple on white"
        return "stained tissue, purple on purple" if tint < 150 else None
    return {
        (360, 360): "fluorescence, large nuclei",
        (520, 696): "fluorescence, cell culture",
        (1024, 1024): "bright field, grey smear",
    }.get(size)


def touches(first: Sample, second: Sample) -> bool:
    """Whether two images continue each other across a border, as neighbouring tiles of one picture do."""
    if first.image.shape != second.image.shape:
        return False

    def borders(sample: Sample) -> list[np.ndarray]:
        grey = cv2.GaussianBlur(cv2.cvtColor(sample.image, cv2.COLOR_BGR2GRAY).astype(np.float64), (0, 0), 1)
        return [grey[:, 0], grey[:, -1], grey[0], grey[-1]]  # left, right, top, bottom

    left, right, top, bottom = borders(second)
    for one, other in zip(borders(first), (right, left, bottom, top), strict=True):
        scale = min(one.std(), other.std())
        distance = np.sqrt(np.mean((one - other) ** 2))
        if scale > 1 and distance < 0.6 * scale and np.corrcoef(one, other)[0, 1] > 0.9:
            return True
    return False


def select(source: Path) -> dict[str, list[Sample]]:
    """Choose the samples of every split."""
    chosen: dict[str, list[Sample]] = {split: [] for split in SPLITS}
    for split in SPLITS:
        wanted = {kind: quota[("train", "val", "test").index(split)] for kind, quota in QUOTAS.items()}
        for name in sorted((source / f"{split}.txt").read_text().split()):
            if any(name.startswith(prefix) for prefix in EXCLUDED):
                continue
            path = source / "images" / f"{name}.webp"
            image = read(path if path.exists() else path.with_suffix(".png"), cv2.IMREAD_COLOR)
            instances = read(source / "instances" / f"{name}.png", cv2.IMREAD_UNCHANGED)
            kind = imaging_type(image, instances)
            if kind is None or wanted[kind] == 0:
                continue
            sample = Sample(name, kind, image, np.asarray(instances > 0))
            others = [s for other in SPLITS if other != split for s in chosen[other]]
            if sample.window()[1].mean() < MIN_COVERAGE or any(touches(sample, other) for other in others):
                continue
            chosen[split].append(sample)
            wanted[kind] -= 1
        if missing := {kind: count for kind, count in wanted.items() if count}:
            raise SystemExit(f"{split}: the source has too few images: {missing}")
    return chosen


def otsu_miou(samples: list[Sample]) -> float:
    """mIoU (one confusion matrix) of Otsu's threshold per image, the smaller side taken as nuclei."""
    confusion = np.zeros((2, 2), np.int64)
    for image, mask in (sample.window() for sample in samples):
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        _, bright = cv2.threshold(grey, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
        guess = bright if bright.mean() <= 0.5 else 1 - bright
        confusion += np.bincount(2 * mask.ravel() + guess.ravel(), minlength=4).reshape(2, 2)
    inter = np.diag(confusion)
    return float(np.mean(inter / (confusion.sum(0) + confusion.sum(1) - inter)))


def write(chosen: dict[str, list[Sample]], output: Path) -> None:
    """Write images, masks and the README."""
    for split, samples in chosen.items():
        for folder in ("images", "masks"):
            shutil.rmtree(output / folder / split, ignore_errors=True)
            (output / folder / split).mkdir(parents=True)
        for sample in samples:
            image, mask = sample.window()
            grey = not np.ptp(image.astype(int), axis=2).any()
            picture = Image.fromarray(image[..., 0] if grey else np.ascontiguousarray(image[..., ::-1]))
            name = sample.name[:12]
            picture.save(output / "images" / split / f"{name}.webp", lossless=True, quality=100, method=6)
            labels = Image.fromarray(mask.astype(np.uint8))
            labels.putpalette([0, 0, 0, 255, 255, 255])
            labels.save(output / "masks" / split / f"{name}.png", optimize=True, bits=1)


def readme(chosen: dict[str, list[Sample]]) -> str:
    """Describe the data set."""
    order = ("train", "val", "test")
    counts = {kind: [sum(s.kind == kind for s in chosen[split]) for split in order] for kind in QUOTAS}
    counts["**all**"] = [len(chosen[split]) for split in order]
    return README.format(
        total=sum(map(len, chosen.values())),
        coverage=MIN_COVERAGE,
        excluded="; ".join(f"`{name}` ({reason})" for name, reason in EXCLUDED.items()),
        table="\n".join(f"| {kind} | {' | '.join(map(str, row))} |" for kind, row in counts.items()),
        val=otsu_miou(chosen["val"]),
        test=otsu_miou(chosen["test"]),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Build segtrain's built-in nuclei data set.")
    parser.add_argument("--source", type=Path, required=True, help="folder of the Data Science Bowl 2018 set")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    args = parser.parse_args()
    chosen = select(args.source)
    write(chosen, args.output)
    (args.output / "README.md").write_text(readme(chosen))
    for split, samples in chosen.items():
        print(f"{split}: {len(samples)} images, Otsu mIoU {otsu_miou(samples):.4f}")


if __name__ == "__main__":
    main()
