"""Does `segtrain models` list what the config tree has, with the numbers that torch counts?"""

import re

import pytest
from conftest import Run

from segtrain.model_table import model_table, options, paper


def cells(line: str) -> list[str]:
    return re.split(r" {2,}", line.strip())


def test_the_table_has_every_model_with_its_paper(segtrain: Run) -> None:
    done = segtrain("models")
    assert done.returncode == 0, done.stderr
    names = {cells(line)[0] for line in done.stdout.splitlines() if line.startswith(" ") and line.strip()}
    assert set(options("model")) <= names
    for citation in ("Long et al., 2015", "Zhao et al., 2017", "Badrinarayanan et al.,", "Ronneberger et al., 2015"):
        assert citation in done.stdout


def test_the_numbers_are_torchvisions_for_its_own_network() -> None:
    table = model_table(["fcn", "torchvision"], encoder=None, num_classes=21, size=520)
    ours, theirs = (cells(line) for line in table.splitlines() if line.strip().startswith(("fcn ", "torchvision ")))
    # torchvision's FCN_ResNet50_Weights: 35,322,218 parameters, 152.717 G multiply-adds at 520 x 520 with the auxiliary
    # head, which torchvision runs in inference too: 3x3 from 1024 to 256 channels and 1x1 to 21 classes on 65 x 65
    auxiliary = 65 * 65 * (9 * 1024 * 256 + 256 * 21) / 1e9
    assert "35,322,218" in ours
    assert "35,322,218" in theirs
    assert float(ours[4]) / 2 == pytest.approx(152.717 - auxiliary, rel=0.001)


def test_another_encoder_and_size_change_the_table() -> None:
    small = model_table(["unet"], encoder="resnet18", num_classes=2, size=64)
    large = model_table(["unet"], encoder="resnet18", num_classes=2, size=128)
    flops = [float(cells(table.splitlines()[3 - (table[0] != "\n")])[4]) for table in (small, large)]
    assert flops[1] == pytest.approx(4 * flops[0], rel=0.05)
    assert "resnet18" in small


def test_a_model_that_the_encoder_does_not_fit_says_why_in_its_row() -> None:
    table = " ".join(model_table(["segnet", "unet"], encoder="resnet18", num_classes=2, size=64).split())
    assert "SegNet undoes" in table
    assert "14," in table


@pytest.mark.slow
def test_encoders_are_listed_with_strides(segtrain: Run) -> None:
    done = segtrain("models", "--encoders", "--size", "64")
    assert done.returncode == 0, done.stderr
    rows = {cells(line)[0]: cells(line) for line in done.stdout.splitlines() if line.strip()}
    assert set(options("model/encoder")) <= rows.keys()
    assert rows["resnet18"][1] == "11,176,512"  # torchvision's 11,689,512 without fc
    assert rows["swin_t"][-1] == "32"
    assert rows["resnet18"][-1] == "8, 16, 32"
    assert rows["unet"][-1] == "-"
    assert "4, 8, 16, 32" in rows["convnext_tiny"]


def test_a_name_that_does_not_exist_is_a_sentence(segtrain: Run) -> None:
    done = segtrain("models", "unett")
    assert done.returncode == 2
    assert "model=unett: no such option. Did you mean unet?" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_explains_the_columns(segtrain: Run) -> None:
    done = segtrain("models", "--help")
    assert done.returncode == 0
    assert "two a multiply-add" in done.stdout


def test_every_own_network_cites_a_paper() -> None:
    for name in ("unet.UNet", "fcn.FCN", "segnet.SegNet", "pspnet.PSPNet", "deeplabv3.DeepLabV3"):
        assert re.search(r"\d{4}, arXiv:\d", paper(f"segtrain.models.{name}"))
    assert paper("segtrain.models.smp.SMPModel") == "-"
