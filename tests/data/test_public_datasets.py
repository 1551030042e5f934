"""Are the public data sets read from their own layout and encoding, and missing parts named with where to get them?"""

import os
import tarfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import IncompleteRead
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torchvision
from hydra.utils import instantiate
from numpy.typing import NDArray
from PIL import Image
from skimage.data import astronaut

from segtrain.data.ade20k import ADE20K
from segtrain.data.cityscapes import Cityscapes
from segtrain.data.coco_stuff import COCOStuff
from segtrain.data.folder import share_of
from segtrain.data.labels import LabelMap
from segtrain.data.oxford_pet import OxfordPet
from segtrain.data.samples import Samples
from segtrain.data.voc import VOC2012
from segtrain.errors import DataError

PHOTO = astronaut()[:24, :32]
Config = Callable[..., dict[str, Any]]


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(PHOTO).save(path)


def truth(path: Path, values: list[int], *, palette: bool = False) -> None:
    """Write a mask with these values in bands, as an 8-bit grey or palette PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = Image.fromarray(np.resize(np.array(values, np.uint8), (24, 32)))
    if palette:
        mask.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tolist())
    mask.save(path)


def voc(root: Path) -> Path:
    folder = root / "VOCdevkit" / "VOC2012"
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for name, values in (("2007_000032", [0, 1, 15, 255]), ("2007_000033", [0, 20, 255]), ("2008_000008", [0])):
        picture(folder / "JPEGImages" / f"{name}.jpg")
        if not name.startswith("2008"):
            truth(folder / "SegmentationClass" / f"{name}.png", values, palette=True)
    truth(folder / "SegmentationClassAug" / "2008_000008.png", [0, 13])
    truth(folder / "SegmentationClassAug" / "2007_000033.png", [0, 5])
    (lists / "train.txt").write_text("2007_000032\n")
    (lists / "val.txt").write_text("2007_000033\n")
    (lists / "trainaug.txt").write_text(
        "/JPEGImages/2007_000032.jpg /SegmentationClassAug/2007_000032.png\n"
        "/JPEGImages/2008_000008.jpg /SegmentationClassAug/2008_000008.png\n"
    )
    return root


def cityscapes(root: Path) -> Path:
    for split, city, values in (
        ("train", "aachen", [*range(34)]),
        ("train", "zurich", [7, 11]),
        ("val", "ulm", [23, 4, 26]),
        ("test", "bonn", [0]),
    ):
        name = f"{city}_000000_000019"
        (root / "leftImg8bit" / split / city).mkdir(parents=True)
        Image.fromarray(PHOTO).save(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png")
        for kind in ("labelIds", "instanceIds", "color"):
            truth(root / "gtFine" / split / city / f"{name}_gtFine_{kind}.png", values)
        (root / "gtFine" / split / city / f"{name}_gtFine_polygons.json").write_text("{}")
    return root


def ade20k(root: Path) -> Path:
    for split, name, values in (
        ("training", "ADE_train_00000001", [*range(151)]),
        ("validation", "ADE_val_00000001", [0, 3, 150]),
    ):
        picture(root / "ADEChallengeData2016" / "images" / split / f"{name}.jpg")
        truth(root / "ADEChallengeData2016" / "annotations" / split / f"{name}.png", values)
    (root / "ADEChallengeData2016" / "objectInfo150.txt").write_text("Idx\tRatio\tTrain\tVal\tName\n")
    return root


def coco_stuff(root: Path) -> Path:
    for split, name, values in (("train2017", "000000000009", [*COCO_IDS, 255]), ("val2017", "000000000139", [0, 181])):
        picture(root / "images" / split / f"{name}.jpg")
        truth(root / "stuffthingmaps" / split / f"{name}.png", values)
    return root


PETS = [f"Abyssinian_{number}" for number in range(1, 61)]


def oxford_pet(root: Path) -> Path:
    for name in (*PETS, "beagle_7"):
        picture(root / "images" / f"{name}.jpg")
        truth(root / "annotations" / "trimaps" / f"{name}.png", [1, 2, 3])
        (root / "annotations" / "trimaps" / f"._{name}.png").write_bytes(b"Mac OS X")  # as in the authors' archive
    (root / "images" / "Abyssinian_100.mat").touch()
    (root / "annotations" / "trainval.txt").write_text("".join(f"{name} 1 1 1\n" for name in PETS))
    (root / "annotations" / "test.txt").write_text("beagle_7 5 2 2\n")
    (root / "annotations" / "list.txt").write_text("#Image CLASS-ID SPECIES BREED ID\nbeagle_7 5 2 2\n")
    return root


COCO_GAPS = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)  # labels.txt: street sign, hat, shoe, ..., hair brush
COCO_IDS = [index for index in range(182) if index not in COCO_GAPS]
MAKERS = {
    "voc2012": voc,
    "cityscapes": cityscapes,
    "ade20k": ade20k,
    "coco_stuff": coco_stuff,
    "oxford_pet": oxford_pet,
}


def classes(cfg: dict[str, Any], split: str) -> list[list[int]]:
    """Return the labels that each mask of a split has once it is mapped and checked, as training does it."""
    dataset = cfg["dataset"]
    samples = Samples(
        instantiate(dataset["source"], _convert_="all")(split=split),
        augmentation=None,
        seed=0,
        num_classes=dataset["num_classes"],
        ignore_index=dataset["ignore_index"],
        labels=LabelMap(
            dataset["label_map"],
            ignore_index=dataset["ignore_index"],
            reduce_zero_label=dataset.get("reduce_zero_label", False),
        ),
    )
    found = []
    for index in range(len(samples)):
        image, mask = samples.read(index)
        assert image.shape == (24, 32, 3)
        found.append(np.unique(mask).tolist())
    return found


@pytest.mark.parametrize(
    ("name", "split", "expected"),
    [
        ("voc2012", "train", [[0, 1, 15, 255]]),
        ("voc2012", "val", [[0, 20, 255]]),
        ("cityscapes", "train", [[*range(19), 255], [0, 2]]),
        ("cityscapes", "val", [[10, 13, 255]]),
        ("ade20k", "train", [[*range(150), 255]]),
        ("ade20k", "val", [[2, 149, 255]]),
        ("coco_stuff", "train", [[*range(171), 255]]),
        ("coco_stuff", "val", [[0, 170]]),
        ("oxford_pet", "test", [[0, 1, 255]]),
    ],
)
def test_every_mask_has_the_classes_that_were_written(
    name: str, split: str, expected: list[list[int]], train_config: Config, tmp_path: Path
) -> None:
    cfg = train_config(f"dataset={name}", f"dataset.root='{MAKERS[name](tmp_path)}'")
    assert classes(cfg, split) == expected


@pytest.mark.parametrize("name", MAKERS)
def test_the_yaml_has_a_name_a_class_and_a_colour_each(name: str, train_config: Config) -> None:
    dataset = train_config(f"dataset={name}", "dataset.root=x")["dataset"]
    assert all(isinstance(word, str) for word in dataset["class_names"])
    assert len({*dataset["class_names"]}) == len(dataset["class_names"]) == dataset["num_classes"]
    if dataset["palette"] is not None:
        assert len(dataset["palette"]) == dataset["num_classes"]
        assert all(len(color) == 3 and 0 <= min(color) <= max(color) <= 255 for color in dataset["palette"])
    labels = {label for label in (dataset["label_map"] or {}).values() if label is not None}
    assert labels in (set(), set(range(dataset["num_classes"])))
    assert dataset.get("splits") == (None if name == "oxford_pet" else ["train", "val"])


def test_vocs_colours_are_those_of_the_development_kit(train_config: Config) -> None:
    def color(label: int) -> list[int]:
        """Spread the bits of a label over the highest bits of red, green and blue (VOCdevkit, VOClabelcolormap)."""
        bits = [(label >> place) & 1 for place in range(9)]
        return [sum(bits[3 * step + part] << (7 - step) for step in range(3)) for part in range(3)]

    assert train_config("dataset=voc2012", "dataset.root=x")["dataset"]["palette"] == [*map(color, range(21))]


def test_vocs_names_are_those_of_torchvisions_weights(train_config: Config) -> None:
    weights = torchvision.models.get_model_weights("deeplabv3_resnet50")["COCO_WITH_VOC_LABELS_V1"]
    names = train_config("dataset=voc2012", "dataset.root=x")["dataset"]["class_names"]
    assert names == [name.strip("_") for name in weights.meta["categories"]]


def test_cityscapes_facts_are_those_of_torchvision(train_config: Config) -> None:
    dataset = train_config("dataset=cityscapes", "dataset.root=x")["dataset"]
    known = torchvision.datasets.Cityscapes.classes
    assert dataset["label_map"] == {
        label.id: None if label.train_id in (-1, 255) else label.train_id for label in known
    }
    trained = sorted((label.train_id, label.name, [*label.color]) for label in known if 0 <= label.train_id < 255)
    assert dataset["class_names"] == [name for _, name, _ in trained]
    assert dataset["palette"] == [color for _, _, color in trained]


def test_the_things_of_coco_stuff_are_those_of_torchvisions_detectors(train_config: Config) -> None:
    dataset = train_config("dataset=coco_stuff", "dataset.root=x")["dataset"]
    weights = torchvision.models.get_model_weights("maskrcnn_resnet50_fpn")["COCO_V1"]
    things = {
        index - 1: name
        for index, name in enumerate(weights.meta["categories"])
        if name not in ("N/A", "__background__")
    }
    by_id = {value: dataset["class_names"][label] for value, label in dataset["label_map"].items()}
    assert {value: name for value, name in by_id.items() if value <= 90} == things
    assert len(by_id) - len(things) == 91
    assert [*by_id] == COCO_IDS


# what is special about each


def test_voc_is_found_in_the_folder_itself_too(tmp_path: Path) -> None:
    voc(tmp_path)
    for root in ("VOCdevkit", "VOCdevkit/VOC2012"):
        assert len(VOC2012(root=str(tmp_path / root), split="train")) == 1


@pytest.mark.parametrize("list_name", ["trainaug.txt", "train_aug.txt"])
@pytest.mark.parametrize("plain", [False, True])
def test_sbd_adds_masks_to_training_and_leaves_validation(
    list_name: str, plain: bool, train_config: Config, tmp_path: Path
) -> None:
    lists = voc(tmp_path) / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation"
    (lists / "trainaug.txt").rename(lists / list_name)
    if plain:
        (lists / list_name).write_text("2007_000032\n2008_000008\n")
    cfg = train_config("dataset=voc2012", f"dataset.root='{tmp_path}'", "dataset.sbd=true")
    assert classes(cfg, "train") == [[0, 1, 15, 255], [0, 13]]
    assert classes(cfg, "val") == [[0, 20, 255]]


@pytest.mark.parametrize("missing", ["SegmentationClassAug", "ImageSets/Segmentation/trainaug.txt"])
def test_sbd_says_what_it_wants(missing: str, tmp_path: Path) -> None:
    path = voc(tmp_path) / "VOCdevkit" / "VOC2012" / missing
    path.rename(path.with_name("other"))
    with pytest.raises(DataError, match=missing.replace(".", r"\.")):
        VOC2012(root=str(tmp_path), split="train", sbd=True)
    assert len(VOC2012(root=str(tmp_path), split="train")) == 1


def test_the_edge_of_a_pet_can_be_a_class(train_config: Config, tmp_path: Path) -> None:
    cfg = train_config(
        "dataset=oxford_pet",
        f"dataset.root='{oxford_pet(tmp_path)}'",
        "dataset.label_map={1:1,2:0,3:2}",
        "dataset.num_classes=3",
        "dataset.class_names=[background,pet,edge]",
        "dataset.palette=null",
    )
    assert classes(cfg, "test") == [[0, 1, 2]]


def test_pets_to_train_and_validate_are_disjoint_and_all(tmp_path: Path) -> None:
    oxford_pet(tmp_path / "oxford-iiit-pet")  # as torchvision leaves it
    names = {
        split: [files[0].stem for files in OxfordPet(root=str(tmp_path), split=split).images]
        for split in ("train", "val", "test")
    }
    assert names["train"] == [name for name in PETS if share_of(name, (0.9, 0.1, 0)) == "train"]
    assert sorted(names["train"] + names["val"]) == sorted(PETS)
    assert len(names["val"]) >= 1
    assert names["test"] == ["beagle_7"]


def test_ade20k_is_found_in_the_folder_itself_too(tmp_path: Path) -> None:
    assert len(ADE20K(root=str(ade20k(tmp_path) / "ADEChallengeData2016"), split="val")) == 1


def test_coco_stuff_is_found_where_its_authors_unpack_it(tmp_path: Path) -> None:
    coco_stuff(tmp_path)
    (tmp_path / "stuffthingmaps").rename(tmp_path / "annotations")
    assert len(COCOStuff(root=str(tmp_path), split="val")) == 1


# what is missing


@pytest.mark.parametrize(
    ("source", "name"),
    [(VOC2012, "PASCAL VOC 2012"), (Cityscapes, "Cityscapes"), (ADE20K, "ADE20K"), (COCOStuff, "COCO-Stuff")],
)
def test_a_split_without_public_masks_is_refused_with_the_remedy(source: Any, name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{name} has no public test masks \(has: train, val\); give test=false"):
        source(root=str(tmp_path), split="test")


@pytest.mark.parametrize("name", MAKERS)
def test_a_wrong_root_says_where_to_get_the_data(name: str, train_config: Config, tmp_path: Path) -> None:
    cfg = train_config(f"dataset={name}", f"dataset.root='{tmp_path}/nowhere'")
    with pytest.raises(DataError, match=r"nowhere.*: no such folder; .*https?://"):
        instantiate(cfg["dataset"]["source"], _convert_="all")(split="train")


PARTS = [
    ("voc2012", "VOCdevkit/VOC2012/JPEGImages"),
    ("voc2012", "VOCdevkit/VOC2012/SegmentationClass"),
    ("voc2012", "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt"),
    ("voc2012", "VOCdevkit/VOC2012/JPEGImages/2007_000032.jpg"),
    ("voc2012", "VOCdevkit/VOC2012/SegmentationClass/2007_000032.png"),
    ("cityscapes", "gtFine/train"),
    ("cityscapes", "leftImg8bit/train"),
    ("cityscapes", "gtFine/train/zurich/zurich_000000_000019_gtFine_labelIds.png"),
    ("ade20k", "ADEChallengeData2016/images/training"),
    ("ade20k", "ADEChallengeData2016/annotations/training"),
    ("coco_stuff", "images/train2017"),
    ("coco_stuff", "stuffthingmaps/train2017"),
    ("oxford_pet", "images"),
    ("oxford_pet", "annotations"),
    ("oxford_pet", "annotations/trainval.txt"),
    ("oxford_pet", "annotations/trimaps/Abyssinian_1.png"),
    ("oxford_pet", "images/Abyssinian_1.jpg"),
]


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_a_missing_part_is_named_with_the_remedy(name: str, part: str, train_config: Config, tmp_path: Path) -> None:
    path = MAKERS[name](tmp_path) / part
    path.rename(path.with_name("other"))
    cfg = train_config(f"dataset={name}", f"dataset.root='{tmp_path}'")
    with pytest.raises(DataError, match=rf"{part}: .*(https?://|is dataset\.root right\?)"):
        instantiate(cfg["dataset"]["source"], _convert_="all")(split="train")


def test_cityscapes_without_a_city_is_named(tmp_path: Path) -> None:
    for part in ("leftImg8bit", "gtFine"):
        (tmp_path / part / "train").mkdir(parents=True)
    with pytest.raises(DataError, match=r"leftImg8bit/train: has no CITY/\*_leftImg8bit\.png"):
        Cityscapes(root=str(tmp_path), split="train")


# downloads

DOWNLOADS: list[tuple[Any, str, Callable[[Path], Path]]] = [
    (VOC2012, "VOCSegmentation", voc),
    (OxfordPet, "OxfordIIITPet", lambda root: oxford_pet(root / "oxford-iiit-pet")),
]


@pytest.mark.parametrize(("source", "name", "make"), DOWNLOADS)
def test_a_download_is_done_once(
    source: Any, name: str, make: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def fetch(root: str, **arguments: Any) -> None:
        calls.append(arguments)
        make(Path(root))

    monkeypatch.setattr(torchvision.datasets, name, fetch)
    root = tmp_path / "new" / "folder"
    with pytest.raises(DataError, match=r"no such folder; .*dataset\.download=true fetches"):
        source(root=str(root), split="train")
    assert calls == []
    for split in ("train", "val"):
        assert len(source(root=str(root), split=split, download=True)) >= 1
    assert len(calls) == 1
    assert calls[0]["download"] is True


@pytest.mark.parametrize(("source", "name", "make"), DOWNLOADS)
def test_of_two_processes_one_fetches_and_the_other_waits_for_it(
    source: Any, name: str, make: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, inside = [], threading.Event()

    def fetch(root: str, **_: Any) -> None:
        calls.append(root)
        inside.set()
        time.sleep(0.3)
        make(Path(root))

    monkeypatch.setattr(torchvision.datasets, name, fetch)
    with ThreadPoolExecutor(2) as pool:  # a lock of a file that is opened twice keeps threads apart too
        first = pool.submit(source, root=str(tmp_path), split="train", download=True)
        assert inside.wait(10)
        second = pool.submit(source, root=str(tmp_path), split="train", download=True)
        assert len(first.result()) == len(second.result()) >= 1
    assert len(calls) == 1


def test_an_archive_that_was_fetched_but_not_unpacked_is_fetched_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "oxford-iiit-pet" / "images").mkdir(parents=True)
    (tmp_path / "oxford-iiit-pet" / "images.tar.gz").touch()

    def fetch(root: str, **_: Any) -> None:
        oxford_pet(Path(root) / "oxford-iiit-pet")

    monkeypatch.setattr(torchvision.datasets, "OxfordIIITPet", fetch)
    assert len(OxfordPet(root=str(tmp_path), split="train", download=True)) >= 1


@pytest.mark.parametrize(("source", "name", "_make"), DOWNLOADS)
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            URLError("no route to host"),
            r"cannot be fetched .*no route to host.*; try again, or download it yourself into",
        ),
        (TimeoutError("timed out"), r"cannot be fetched \(timed out\)"),
        (IncompleteRead(b"abc"), r"cannot be fetched"),
        (RuntimeError("File not found or corrupted."), r"damaged \(File not found or corrupted\.\); remove it"),
        (OSError(28, "No space left on device"), r"cannot be written \(No space left on device\)"),
    ],
)
def test_a_download_that_fails_is_a_sentence(
    source: Any,
    name: str,
    _make: Any,
    error: Exception,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fetch(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(torchvision.datasets, name, fetch)
    with pytest.raises(DataError, match=rf"^dataset\.download: .*{message}"):
        source(root=str(tmp_path), split="train", download=True)


def test_torchvision_unpacks_where_the_adapter_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    voc(tmp_path / "made")
    archive = tmp_path / "root" / "VOCtrainval_11-May-2012.tar"
    archive.parent.mkdir()
    with tarfile.open(archive, "w") as file:
        file.add(tmp_path / "made" / "VOCdevkit", "VOCdevkit")
    monkeypatch.setattr("torchvision.datasets.utils.check_integrity", lambda path, md5=None: os.path.isfile(path))
    assert len(VOC2012(root=str(tmp_path / "root"), split="train", download=True)) == 1


def test_a_root_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"^dataset\.download: .*file/data cannot be written \(Not a directory\)"):
        VOC2012(root=str(tmp_path / "file" / "data"), split="train", download=True)


def test_the_values_of_a_mask_are_indices_and_not_colours(tmp_path: Path) -> None:
    mask: NDArray[Any] = VOC2012(root=str(voc(tmp_path)), split="train")[0][1]
    with Image.open(tmp_path / "VOCdevkit/VOC2012/SegmentationClass/2007_000032.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(mask, np.array(image))
