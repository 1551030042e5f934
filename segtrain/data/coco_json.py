"""Images with masks in COCO's JSON (Lin et al., 2014, arXiv:1405.0312): polygons and run lengths."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from segtrain.data.images import Image, ImageReader
from segtrain.data.labelme import read_json
from segtrain.data.leniency import raise_or_collect
from segtrain.data.listing import need_files
from segtrain.data.masks import Mask
from segtrain.data.pairs import Files, Sample
from segtrain.data.polygons import area_of, paint
from segtrain.errors import DataError


class CocoJson(Dataset[Sample]):
    """A JSON file a split. Class 0 is what no annotation covers; the categories follow in the order of their ids.

    Where annotations overlap, the smaller lies over the larger. A crowd is of its category, as everything else.

    Args:
        root: the folder.
        split: "train", "val" or "test".
        annotations: the JSON file below the root; SPLIT in it stands for the split.
        images: the folder below the root that the files' names are in; SPLIT likewise.
        image: reads an image; None for RGB.

    Raises:
        DataError: if files are missing, the JSON is not COCO's, an annotation is of no image or no category, or the
            categories are not those of training.
    """

    def __init__(
        self,
        *,
        root: str,
        split: str,
        annotations: str = "annotations/SPLIT.json",
        images: str = "images",
        image: ImageReader | None = None,
    ) -> None:
        base = Path(root).expanduser()
        self.file = base / annotations.replace("SPLIT", split)
        self.read_image = ImageReader() if image is None else image
        try:
            content = read_json(self.file)
            categories = _categories_in(content)
            entries = content["images"]
            self.sizes = [(int(entry["height"]), int(entry["width"])) for entry in entries]
            self.images = [base / images.replace("SPLIT", split) / str(entry["file_name"]) for entry in entries]
            places = {entry["id"]: index for index, entry in enumerate(entries)}
            classes = {category: label for label, category in enumerate(categories, start=1)}
            self.shapes: list[list[tuple[int, Any]]] = [[] for _ in self.images]
            for number, entry in enumerate(content["annotations"]):
                if wrong := _faults_of(entry, number, places, classes):
                    error = DataError(f"{self.file}: {wrong}; correct it, or leave it out")
                    raise_or_collect(error, kind="wrong_annotation", files=[self.file])
                else:
                    shape = classes[entry["category_id"]], entry["segmentation"]
                    self.shapes[places[entry["image_id"]]].append(shape)
        except DataError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{self.file}: is no COCO file of instances: {error} is missing or wrong") from error
        self.class_names = ["background", *categories.values()]
        training = base / annotations.replace("SPLIT", "train")
        if split != "train" and training.is_file() and _categories(training) != categories:
            raise DataError(f"{self.file}: its categories (ids, names) are not those of {training}; export both alike")
        need_files(self.images, f"{self.file} names them; correct dataset.images (SPLIT in it stands for the split)")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        """Return the image and the mask of a sample."""
        return self.image(index), self.mask(index)

    def image(self, index: int) -> Image:
        """Return an image (H, W, C), uint8 or float32 in 0 to 1."""
        return self.read_image(self.images[index])

    def mask(self, index: int) -> Mask:
        """Return a mask's class ids (H, W)."""
        height, width = self.sizes[index]
        try:
            areas = [(label, area_of(shape, height, width)) for label, shape in self.shapes[index]]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{self.names(index)[1]}: an annotation cannot be read: {error}") from error
        return paint(areas, height, width)

    def files(self, index: int) -> tuple[Files, Files]:
        """Return the files of a sample's image and of its mask."""
        return (self.images[index],), (self.file,)

    def names(self, index: int) -> tuple[str, str]:
        """Return what messages call a sample's image and mask."""
        return str(self.images[index]), f"{self.file} ({self.images[index].name})"


def _faults_of(entry: dict[str, Any], number: int, places: dict[Any, int], classes: dict[int, int]) -> str:
    """Return what is wrong with an annotation, the `number`-th from 0; nothing if it can be used."""
    wrong = [f"has no {key}" for key in ("image_id", "category_id", "segmentation") if key not in entry]
    for key, known, what in (("image_id", places, "image"), ("category_id", classes, "category")):
        if key in entry and entry[key] not in known:
            wrong.append(f"{key} {entry[key]!r} is no {what}")
    name = f"annotation {entry['id']}" if "id" in entry else f"annotations[{number}]"
    return f"{name}: {', and '.join(wrong)}" if wrong else ""


def _categories_in(content: Any) -> dict[int, str]:
    """Return the names of the categories, in the order of their ids."""
    return dict(sorted((int(entry["id"]), str(entry["name"])) for entry in content["categories"]))


@lru_cache(maxsize=4)
def _categories(path: Path) -> dict[int, str]:
    return _categories_in(read_json(path))
