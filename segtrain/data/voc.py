"""PASCAL VOC 2012 (Everingham et al., 2010), with SBD's further masks (Hariharan et al., 2011) if they are there.

Layout as downloaded: ROOT/VOCdevkit/VOC2012/{JPEGImages,SegmentationClass,ImageSets/Segmentation}, or its last part.
"""

from pathlib import Path

from segtrain.data.download import fetching
from segtrain.data.listing import need_files, need_folder, read_names, refuse_split
from segtrain.data.pairs import PairedFiles

HOW = (
    "VOCtrainval_11-May-2012.tar from http://host.robots.ox.ac.uk/pascal/VOC/voc2012/, unpacked, is wanted "
    "(dataset.download=true fetches it)"
)
SBD = (
    "dataset.sbd=true wants SegmentationClassAug/ (SBD's masks as PNG) beside SegmentationClass/, and the list "
    "ImageSets/Segmentation/trainaug.txt"
)


class VOC2012(PairedFiles):
    """20 classes and background; 255 is void. 1,464 training and 1,449 validation images; 10,582 with SBD.

    Args:
        root: the folder with VOCdevkit/, or VOC2012 itself.
        split: "train" or "val".
        sbd: train on the list ImageSets/Segmentation/trainaug.txt (or train_aug.txt); an image without a mask in
            SegmentationClass/ has SBD's from SegmentationClassAug/. Validation stays VOC's own.
        download: fetch the archive into `root` if it is not there, checked by its MD5.

    Raises:
        DataError: if the split has no public masks, or files are missing; it says how to get them.
    """

    def __init__(self, *, root: str, split: str, sbd: bool = False, download: bool = False) -> None:
        refuse_split("PASCAL VOC 2012", split, ("train", "val"))
        base = Path(root).expanduser()
        if download:
            from torchvision.datasets import VOCSegmentation

            with fetching("PASCAL VOC 2012", base):
                if not (_folder(base) / "SegmentationClass").is_dir():
                    VOCSegmentation(str(base), year="2012", image_set="train", download=True)
        folder = _folder(base)
        images, masks = need_folder(folder / "JPEGImages", HOW), need_folder(folder / "SegmentationClass", HOW)
        lists, more = folder / "ImageSets" / "Segmentation", folder / "SegmentationClassAug"
        if sbd and split == "train":
            need_folder(more, SBD)
            other = lists / "train_aug.txt"
            lines = read_names(other if other.is_file() else lists / "trainaug.txt")
        else:
            lines = read_names(lists / f"{split}.txt")
        names = [Path(line).stem for line in lines]  # DeepLab's list has /JPEGImages/NAME.jpg
        found = [masks / f"{name}.png" for name in names]
        if sbd and split == "train":
            found = [path if path.is_file() else more / path.name for path in found]
        need_files(found, SBD if sbd else HOW)
        need_files([images / f"{name}.jpg" for name in names], HOW)
        super().__init__([(images / f"{name}.jpg",) for name in names], [(path,) for path in found])


def _folder(base: Path) -> Path:
    """Return VOC2012 below the root, or the root."""
    return next((f for f in (base / "VOCdevkit" / "VOC2012", base / "VOC2012") if f.is_dir()), base)
