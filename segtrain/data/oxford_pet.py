"""Oxford-IIIT Pet (Parkhi et al., 2012): images/NAME.jpg and annotations/trimaps/NAME.png with 1 pet, 2 not, 3 edge."""

from pathlib import Path

from segtrain.data.download import fetching
from segtrain.data.folder import share_of
from segtrain.data.listing import need_files, need_folder, read_names
from segtrain.data.pairs import PairedFiles

HOW = (
    "images.tar.gz and annotations.tar.gz from https://www.robots.ox.ac.uk/~vgg/data/pets/, unpacked beside each "
    "other, are wanted (dataset.download=true fetches them)"
)


class OxfordPet(PairedFiles):
    """37 breeds of cats and dogs, 3,680 images to train and validate, 3,669 to test.

    The authors' trainval list is dealt to train and val by name, 9 to 1. `dataset.label_map` turns the trimap into
    classes: the pet, the background, and the edge as void or as a class of its own.

    Args:
        root: the folder with images/ and annotations/, or oxford-iiit-pet/ that holds them.
        split: "train", "val" or "test".
        download: fetch the archives into `root` if they are not there, checked by their MD5.

    Raises:
        DataError: if files are missing; it says how to get them.
    """

    def __init__(self, *, root: str, split: str, download: bool = False) -> None:
        base = Path(root).expanduser()
        if download:
            from torchvision.datasets import OxfordIIITPet

            with fetching("Oxford-IIIT Pet", base):
                if not (_folder(base) / "annotations" / "trimaps").is_dir():
                    OxfordIIITPet(str(base), target_types="segmentation", download=True)
        folder = _folder(base)
        images, annotations = need_folder(folder / "images", HOW), need_folder(folder / "annotations", HOW)
        names = read_names(annotations / ("test.txt" if split == "test" else "trainval.txt"))
        if split != "test":
            names = [name for name in names if share_of(name, (0.9, 0.1, 0.0)) == split]
        pairs = [(images / f"{name}.jpg", annotations / "trimaps" / f"{name}.png") for name in names]
        need_files(
            [path for pair in pairs for path in pair], f"{HOW}; remove {folder} first, if it was fetched in part"
        )
        super().__init__([(image,) for image, _ in pairs], [(mask,) for _, mask in pairs])


def _folder(base: Path) -> Path:
    """Return where torchvision unpacks it below the root, or the root."""
    return base / "oxford-iiit-pet" if (base / "oxford-iiit-pet").is_dir() else base
