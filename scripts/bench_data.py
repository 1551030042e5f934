"""How many training samples a second does one core prepare, beside torchvision's and plain Albumentations' pipelines?

All do the same: decode image and mask, resize by 0.5 to 2, crop, mirror, change colours half of the time, make a batch.
They take turns in one process with one thread; the ratio of each round is ours over the faster of the two others.
"As documented" they also normalise to float32, which segtrain leaves to the device; "same work" leaves that out.

    python scripts/bench_data.py --camvid PATH --rounds 7 --samples 64

Without --camvid there are only the images that the script makes: 2048x1024, with the spectrum of photographs.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import numpy as np
import torch
from albumentations.pytorch import ToTensorV2
from hydra import compose, initialize_config_dir
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from segtrain import build
from segtrain.config.check import check_keys
from segtrain.config.locate import config_dir
from segtrain.config.schema import TrainConfig

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH = 8
Pairs = list[tuple[Path, Path]]
Result = tuple[Any, Any]


class Plain(Dataset[Result]):
    """What a notebook has: paths, a function that reads them, a transform."""

    def __init__(self, pairs: Pairs, read: Callable[[Path, Path], Result]) -> None:
        self.pairs = pairs
        self.read = read

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Result:
        return self.read(*self.pairs[index])


def torchvision_reader(crop: int, base: int, *, tensors: bool, normalize: bool) -> Callable[[Path, Path], Result]:
    """Return torchvision's reference for segmentation (references/segmentation/presets.py, v2), with colours.

    Args:
        crop: pixels along a side.
        base: the shorter side of the images, which is resized to 0.5 to 2 times itself.
        tensors: the "tensor" back end, else "pil".
        normalize: to float32 at the end, as there.
    """
    jitter = v2.ColorJitter(0.25, 0.25, 0.25, 0.05)
    steps: list[Any] = [
        v2.RandomResize(base // 2, 2 * base),
        v2.RandomHorizontalFlip(0.5),
        v2.RandomCrop(crop, pad_if_needed=True, fill={tv_tensors.Image: 0, Image.Image: 0, tv_tensors.Mask: 255}),
        v2.RandomApply([jitter], 0.5),
    ]
    end: list[Any] = [v2.ToImage()]
    if normalize:
        kinds = {tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64, "others": None}
        end += [v2.ToDtype(kinds, scale=True), v2.Normalize(MEAN, STD)]
    transform = v2.Compose([v2.ToImage(), *steps, *end[1:]] if tensors else [*steps, *end])

    def read(image: Path, mask: Path) -> Result:
        truth = tv_tensors.Mask(torch.from_numpy(np.array(Image.open(mask))))
        return transform(Image.open(image).convert("RGB"), truth)

    return read


def albumentations_reader(crop: int, *, normalize: bool) -> Callable[[Path, Path], Result]:
    """Return the pipeline of Albumentations' own documentation: read with OpenCV, Compose, Normalize, ToTensorV2."""
    steps = [
        A.RandomScale(scale_limit=(-0.5, 1.0), p=1.0),
        A.RandomCrop(crop, crop, pad_if_needed=True, fill_mask=255),
        A.HorizontalFlip(p=0.5),
        A.ColorJitter((0.75, 1.25), (0.75, 1.25), (0.75, 1.25), (-0.05, 0.05), p=0.5),
    ]
    transform = A.Compose([*steps, *([A.Normalize(MEAN, STD)] if normalize else []), ToTensorV2()])

    def read(image: Path, mask: Path) -> Result:
        pixels = cv2.cvtColor(cv2.imread(str(image)), cv2.COLOR_BGR2RGB)
        result = transform(image=pixels, mask=cv2.imread(str(mask), cv2.IMREAD_UNCHANGED))
        return result["image"], result["mask"]

    return read


def ours(root: Path, crop: int, *, cache: str) -> Iterator[Any]:
    """Yield the training batches of `segtrain train dataset=folder`."""
    own = [f"loader.batch_size={BATCH}", "loader.num_workers=0", f"loader.cache={cache}", f"dataset.crop_size={crop}"]
    data = ["dataset=folder", f"dataset.root='{root}'", "dataset.num_classes=20", f"dataset.class_names={[*range(20)]}"]
    with initialize_config_dir(config_dir(), version_base="1.3"):
        cfg = compose("train", overrides=[*own, *data, "augmentation=standard", "dataset.ignore_index=255"])
    return build.build_data(check_keys(cfg, TrainConfig)).training_batches()


def endless(loader: DataLoader[Any]) -> Iterator[Any]:
    """Yield batches, epoch after epoch."""
    while True:
        yield from loader


def rate(batches: Any, samples: int) -> float:
    """Return samples a second."""
    count = max(1, samples // BATCH)
    started = time.perf_counter()
    for _ in islice(batches, count):
        pass
    return count * BATCH / (time.perf_counter() - started)


def compare(name: str, root: Path, crop: int, base: int, rounds: int, samples: int) -> None:
    """Print samples a second of all, in turn, and the median ratios."""
    pairs = list(zip(sorted((root / "train/images").iterdir()), sorted((root / "train/masks").iterdir()), strict=True))
    runs = {
        "segtrain": ours(root, crop, cache="none"),
        "segtrain, cache": ours(root, crop, cache="ram"),
    }
    others: dict[str, list[str]] = {"as documented": [], "same work": []}
    for kind, normalize in (("as documented", True), ("same work", False)):
        readers = {
            f"torchvision, PIL ({kind})": torchvision_reader(crop, base, tensors=False, normalize=normalize),
            f"torchvision, tensors ({kind})": torchvision_reader(crop, base, tensors=True, normalize=normalize),
            f"Albumentations ({kind})": albumentations_reader(crop, normalize=normalize),
        }
        for title, read in readers.items():
            runs[title] = endless(DataLoader(Plain(pairs, read), BATCH, shuffle=True, drop_last=True))
            others[kind].append(title)
    for batches in runs.values():
        next(batches)
    rates: dict[str, list[float]] = {title: [] for title in runs}
    for _ in range(rounds):
        for title, batches in runs.items():
            rates[title].append(rate(batches, samples))
    print(f"\n{name}: samples/s of one core, medians of {rounds} rounds of {samples} samples")
    for title, values in rates.items():
        print(f"  {title:<40}{statistics.median(values):8.1f}")
    for kind, titles in others.items():
        for mine in ("segtrain", "segtrain, cache"):
            ratios = [rates[mine][n] / max(rates[title][n] for title in titles) for n in range(rounds)]
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            print(f"  {mine + ' / fastest other, ' + kind:<44}{statistics.median(ratios):6.2f}  ({spread})")
    batches = [list(islice(ours(root, crop, cache=cache), 6)) for cache in ("none", "ram")]
    equal = all(torch.equal(a[key], b[key]) for a, b in zip(*batches, strict=True) for key in ("image", "mask"))
    print(f"  batches with and without the cache are {'equal to the bit' if equal else 'NOT EQUAL'}")


def link_camvid(camvid: Path, root: Path) -> None:
    """Give CamVid's training split the layout of `dataset=folder`."""
    (root / "train").mkdir(parents=True)
    (root / "train/images").symlink_to((camvid / "train").resolve())
    (root / "train/masks").symlink_to((camvid / "trainannot").resolve())


def make_images(root: Path, count: int, suffix: str) -> None:
    """Write images of 2048x1024, as PNG about 3 MB each as Cityscapes' are, and their masks."""
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / "train" / folder).mkdir(parents=True)
    for number in range(count):
        image = np.zeros((1024, 2048, 3), np.float32)
        for octave in range(1, 9):
            noise = rng.normal(0, 2.0 ** (7 - octave), (2**octave, 2 ** (octave + 1), 3)).astype(np.float32)
            image += cv2.resize(noise, (2048, 1024), interpolation=cv2.INTER_CUBIC)
        image += rng.normal(0, 1.5, image.shape)
        blocks = rng.integers(0, 19, (16, 32), dtype=np.uint8)
        mask: NDArray[np.uint8] = np.asarray(
            cv2.resize(blocks, (2048, 1024), interpolation=cv2.INTER_NEAREST), np.uint8
        )
        cv2.imwrite(str(root / f"train/images/{number:03}{suffix}"), (image + 128).clip(0, 255).astype(np.uint8))
        cv2.imwrite(str(root / f"train/masks/{number:03}.png"), mask)


def main() -> None:
    """Run the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camvid", type=Path, help="CamVid's folder with train/ and trainannot/")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--samples", type=int, default=64, help="of each pipeline in a round")
    arguments = parser.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.camvid:
            link_camvid(arguments.camvid, Path(folder) / "camvid")
            compare(
                "CamVid, 480x360 JPEG, crop 320", Path(folder) / "camvid", 320, 360, arguments.rounds, arguments.samples
            )
        for suffix in (".jpg", ".png"):
            root = Path(folder) / suffix[1:]
            make_images(root, 24, suffix)
            compare(f"2048x1024 {suffix}, crop 512", root, 512, 1024, arguments.rounds, arguments.samples // 2)


if __name__ == "__main__":
    main()
