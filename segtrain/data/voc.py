"""PASCAL VOC 2012 (Everingham et al., 2010), with SBD's further masks (Hariharan et al., 2011) if they are there.

Layout as downloaded: ROOT/VOCdevkit/VOC2012/{JPEGImages,SegmentationClass,ImageSets/Segmentation}, or its last part.
"""

from pathlib import Path

from segtrain.data.listing import need_folder, read_names, refuse_split
from segtrain.data.pairs import PairedFiles
from segtrain.errors import DataError

HOW = (
    "VOCtrainval_11-May-2012.tar from http://host.robots.ox.ac.uk/pascal/VOC/voc2012/, unpacked, is wanted "
    "(dataset.download=true fetches it)"
)


class VOC2012(PairedFiles):
    """20 classes and background; 255 is void. 1,464 training and 1,449 validation images; 10,582 with SBD.

    Args:
        root: the folder with VOCdevkit/, or VOC2012 itself.
        split: "train" or "val".
        sbd: train on the list ImageSets/Segmentation/trainaug.txt (or train_aug.txt) and the masks in
            SegmentationClassAug/, as published with DeepLab.
        download: fetch the archive into `root` if it is not there, checked by its MD5.
    """

    def __init__(self, *, root: str, split: str, sbd: bool = False, download: bool = False) -> None:
        refuse_split("PASCAL VOC 2012", split, ("train", "val"))
        base = Path(root).expanduser()
        if download and not (base / "VOCdevkit").is_dir():
            from torchvision.datasets import VOCSegmentation

            from segtrain.data.download import fetching

            with fetching("PASCAL VOC 2012", base):
                VOCSegmentation(str(base), year="2012", image_set="train", download=True)
        folder = next((f for f in (base / "VOCdevkit" / "VOC2012", base / "VOC2012") if f.is_dir()), base)
        images = need_folder(folder / "JPEGImages", HOW)
        lists = folder / "ImageSets" / "Segmentation"
        masks, names = folder / "SegmentationClass", read_names(lists / f"{split}.txt")
        if sbd:
            masks = need_folder(folder / "SegmentationClassAug", "unpack SegmentationClassAug.zip there")
            if split == "train":
                names = read_names(next((p for p in _aug_lists(lists) if p.is_file()), _aug_lists(lists)[0]))
        names = [Path(name).stem for name in names]
        missing = [name for name in names if not (masks / f"{name}.png").is_file()]
        if missing:
            raise DataError(
                f"{masks}: {len(missing)} of {len(names)} masks are missing, such as {missing[0]}.png; {HOW}"
            )
        super().__init__([(images / f"{name}.jpg",) for name in names], [(masks / f"{name}.png",) for name in names])


def _aug_lists(folder: Path) -> list[Path]:
    return [folder / "trainaug.txt", folder / "train_aug.txt"]
