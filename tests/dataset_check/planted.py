"""A small data set without a fault, and one fault of each kind to put into it."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 40, 48
COUNTS = {"train": 4, "val": 2, "test": 2}
CONFIG = ("dataset.num_classes=3", "dataset.class_names=[a,b,c]", "dataset.crop_size=32")


def image(seed: int, *, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Return noise (H, W, 3) of which no two seeds give the same."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def mask(seed: int, *, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Return class ids (H, W) of 0 to 2 with some void."""
    ids = np.random.default_rng(seed).integers(0, 3, (height, width), dtype=np.uint8)
    ids[0, :3] = 255
    return ids


def save(path: Path, array: np.ndarray, **options: object) -> Path:
    """Write an array as the image that the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        Image.fromarray(array).save(path, **options)  # type: ignore[arg-type]
    return path


def encoded(array: np.ndarray, kind: str) -> bytes:
    """Return the bytes of an image file."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return file.getvalue()


def write_clean(root: Path) -> Path:
    """Write ROOT/SPLIT/images and ROOT/SPLIT/masks without a fault."""
    seed = 0
    for split, count in COUNTS.items():
        for number in range(count):
            seed += 1
            save(root / split / "images" / f"{number}.png", image(seed))
            save(root / split / "masks" / f"{number}.png", mask(seed))
    return root


class Planter:
    """Puts samples with a fault into the training split of a clean data set, and knows what has to be found."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images, self.masks = root / "train" / "images", root / "train" / "masks"
        self.expected: dict[str, set[str]] = {}
        self.seed = 100

    def whole(self, name: str, suffix: str = ".png") -> tuple[Path, Path]:
        """Write a sample without a fault; return its files."""
        self.seed += 1
        paths = self.images / f"{name}{suffix}", self.masks / f"{name}.png"
        options = {"quality": 95} if suffix == ".jpg" else {}
        if suffix != ".npy":
            save(paths[0], image(self.seed), **options)
        save(paths[1], mask(self.seed))
        return paths

    def found(self, kind: str, *paths: Path) -> None:
        """Say that a problem of this kind names these files first."""
        self.expected.setdefault(kind, set()).update(map(str, paths))

    def plant_all(self) -> None:
        """Plant every kind."""
        self.files()
        self.arrays()
        self.truths()
        self.pairs()
        self.copies()

    def files(self) -> None:
        path, _ = self.whole("empty")
        path.write_bytes(b"")
        self.found("empty_file", path)
        _, path = self.whole("empty_mask")
        path.write_bytes(b"")
        self.found("empty_file", path)
        for name, suffix in (("cut", ".png"), ("cut_jpeg", ".jpg")):
            path, _ = self.whole(name, suffix)
            path.write_bytes(path.read_bytes()[:-200])
            self.found("truncated", path)
        _, path = self.whole("cut_mask")
        path.write_bytes(path.read_bytes()[:-40])
        self.found("truncated", path)
        path, _ = self.whole("text")
        path.write_text("<html>404 Not Found</html>")
        self.found("no_image", path)
        path, _ = self.whole("damaged")
        data = bytearray(path.read_bytes())
        data[60:90] = bytes(30)
        path.write_bytes(data)
        self.found("unreadable", path)
        path, _ = self.whole("turned", ".jpg")
        exif = Image.Exif()
        exif[274] = 6
        save(path, image(7), exif=exif, quality=95)
        self.found("orientation", path)

    def arrays(self) -> None:
        path, _ = self.whole("five_channels", ".npy")
        save(path, np.zeros((HEIGHT, WIDTH, 5), np.uint8))
        self.found("channels", path)
        wide = np.random.default_rng(5).random((HEIGHT, WIDTH, 3)).astype(np.float32)
        for name, value, kind in (("nan", np.nan, "not_finite"), ("inf", np.inf, "not_finite"), ("far", 7, "values")):
            path, _ = self.whole(name, ".npy")
            wide[2, 3, 1] = value
            save(path, wide)
            self.found(kind, path)
        path, _ = self.whole("sixteen")
        save(path, image(8)[..., 0].astype(np.uint16) * 257)
        self.found("depth", path)
        path, _ = self.whole("blank")
        save(path, np.full((HEIGHT, WIDTH, 3), 17, np.uint8))
        self.found("blank_image", path)

    def truths(self) -> None:
        _, path = self.whole("smaller")
        save(path, mask(9, width=WIDTH - 1))
        self.found("size_mismatch", path)
        _, path = self.whole("quarter_turn")
        save(path, mask(9).T.copy())
        self.found("size_mismatch", path)
        _, path = self.whole("label")
        ids = mask(10)
        ids[1, :5] = 7
        save(path, ids)
        self.found("label_range", path)
        _, path = self.whole("colours")
        save(path, np.array([(0, 0, 0), (200, 0, 0), (0, 9, 90)], np.uint8)[mask(11) % 3])
        self.found("rgb_mask", path)
        _, path = self.whole("disguised")
        path.write_bytes(encoded(mask(12), "JPEG"))
        self.found("jpeg_mask", path)
        _, path = self.whole("float_mask")
        path.unlink()
        path = path.with_suffix(".tif")
        save(path, mask(13).astype(np.float32))
        self.found("unreadable", path)
        _, path = self.whole("void")
        save(path, np.full((HEIGHT, WIDTH), 255, np.uint8))
        self.found("void_mask", path)

    def pairs(self) -> None:
        path, truth = self.whole("jpeg")
        save(truth.with_suffix(".jpg"), mask(14))
        truth.unlink()
        self.found("jpeg_mask", path)
        path, truth = self.whole("alone")
        truth.unlink()
        self.found("missing_mask", path)
        path, truth = self.whole("left_over")
        path.unlink()
        self.found("extra_mask", truth)
        path, _ = self.whole("twice")
        self.found("ambiguous_name", path, save(path.with_suffix(".bmp"), image(15)))
        _, truth = self.whole("two_masks")
        self.found("ambiguous_name", truth, save(truth.with_suffix(".bmp"), mask(15)))

    def copies(self) -> None:
        path, truth = self.whole("a_leak")
        for part, source in (("images", path), ("masks", truth)):
            (self.root / "val" / part / "copied.png").write_bytes(source.read_bytes())
        self.found("leak", path, self.root / "val" / "images" / "copied.png")
        path, truth = self.whole("copy_1")
        other = self.images / "copy_2.bmp"
        save(other, np.array(Image.open(path)))
        (self.masks / "copy_2.png").write_bytes(truth.read_bytes())
        self.found("duplicate", path, other)
        path, truth = self.whole("disputed_1")
        other = self.images / "disputed_2.png"
        other.write_bytes(path.read_bytes())
        save(self.masks / "disputed_2.png", mask(16))
        self.found("other_mask", path, other, truth, self.masks / "disputed_2.png")
        for truth in (self.root / "test" / "masks").iterdir():
            ids = np.array(Image.open(truth))
            ids[ids == 2] = 0
            save(truth, ids)
        self.expected["absent_class"] = set()
