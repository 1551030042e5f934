"""Does `segtrain show` draw what the network will see, and leave nothing else?"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from hydra.core.global_hydra import GlobalHydra
from numpy.typing import NDArray
from PIL import Image

from segtrain.commands import show
from segtrain.config.help import command_help
from segtrain.visualize import BAR, WIDTH

LEGEND = BAR + 4  # one line of names
Show = Callable[..., NDArray[np.uint8]]


@pytest.fixture
def data(tmp_path: Path) -> tuple[str, ...]:
    """Write grey images, 64 wide and 32 high, darker to the left; their right half is void, the left one class 1."""
    for split, count in (("train", 8), ("val", 3), ("test", 2)):
        for name in (split, f"{split}annot"):
            (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(count):
            image = np.where(np.arange(64) < 32, 40, 200).astype(np.uint8)
            mask = np.where(np.arange(64) < 32, 1, 255).astype(np.uint8)
            for folder, row in ((split, image), (f"{split}annot", mask)):
                Image.fromarray(np.repeat(row[None], 32, axis=0)).save(tmp_path / "data" / folder / f"{number}.png")
    return (
        *("dataset=camvid", f"dataset.root={tmp_path / 'data'}", "dataset.num_classes=2", "dataset.class_names=[a,b]"),
        *("dataset.palette=[[0,0,0],[100,0,0]]", "dataset.ignore_index=255", "dataset.crop_size=32"),
        *("augmentation=light", "loader.batch_size=4"),
    )


@pytest.fixture
def run(data: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Show:
    """Run the command in this process, in an empty folder; return its picture."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("SEGTRAIN_RUN_ID", "test")
    monkeypatch.setattr("segtrain.jobs.start_logging", lambda path: None)  # pytest's handlers stay

    def main(*overrides: str, output: str = "show.png") -> NDArray[np.uint8]:
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", ["show", *data, *overrides])
        show.main()
        with Image.open(output) as picture:
            return np.array(picture)

    return main


def colours(picture: NDArray[np.uint8]) -> list[list[int]]:
    """Return the colours in the middle of the left and of the right half of the first tile (128 high)."""
    return [picture[WIDTH // 4, WIDTH * side // 4].tolist() for side in (1, 3)]


def test_whole_images_of_val_are_drawn_with_void_in_white(run: Show, tmp_path: Path) -> None:
    picture = run("split=val")
    assert picture.shape == (WIDTH // 2 + LEGEND, 4 * WIDTH, 3)
    assert colours(picture) == [[70, 20, 20], [228, 228, 228]]  # half the image, half (100, 0, 0) or white
    assert (picture[: WIDTH // 2, 3 * WIDTH :] == 255).all()  # three images in a line of four
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["show.png"]


def test_training_samples_are_drawn_as_crops_over_several_batches(run: Show) -> None:
    picture = run("num_samples=6")
    assert picture.shape == (2 * WIDTH + LEGEND, 4 * WIDTH, 3)
    tiles = [picture[top : top + WIDTH, left : left + WIDTH] for top in (0, WIDTH) for left in range(0, 1024, WIDTH)]
    assert [bool((tile == 255).all()) for tile in tiles] == [False] * 6 + [True] * 2
    shares = [np.isclose(tile[WIDTH // 2, 4:-4, 0], 70, atol=1).mean() for tile in tiles[:6]]
    assert len(set(shares)) > 3, "crops at places of their own"
    assert picture.tobytes() == run("num_samples=6").tobytes()
    assert picture.tobytes() != run("num_samples=6", "seed=1").tobytes()


def test_a_picture_in_a_missing_folder_is_made_with_it(run: Show) -> None:
    assert run("split=test", "output=new/folder/picture.jpg", output="new/folder/picture.jpg").shape[1] == 4 * WIDTH


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["num_samples=0"], "num_samples: 0 is not a positive number of images"),
        (["split=vall"], "split: Invalid value 'vall', expected one of [train, val, test]"),
        (["split=test", "output=picture.xyz"], "output: cannot write picture.xyz (unknown file extension: .xyz); give"),
        (["split=test", "output=file/show.png"], "output: cannot write file/show.png ("),
        (["dataset.ignore_index=1"], "dataset.ignore_index: 1 is one of the classes 0 to 1"),
    ],
)
def test_mistakes_are_sentences_and_nothing_is_drawn(
    overrides: list[str], sentence: str, run: Show, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").write_text("not a folder")
    with pytest.raises(SystemExit) as ended:
        run(*overrides)
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith(f"segtrain: {sentence}")
    assert [path.name for path in Path().iterdir()] == ["file"]


def test_a_misspelt_key_is_a_sentence(segtrain: Run) -> None:
    done = segtrain("show", "num_sample=3")
    assert done.returncode == 1
    assert "num_sample: no such key. Did you mean num_samples?" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_says_what_it_drew_and_leaves_only_the_picture(
    segtrain: Run, data: tuple[str, ...], tmp_path: Path
) -> None:
    done = segtrain("show", *data, "split=val", "num_samples=2", "loader.cache=disk")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "2 samples of val: show.png\n"
    assert done.stderr == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "show.png"]


def test_the_help_lists_the_keys_of_training_beside_its_own() -> None:
    text = command_help("show", "draw", [])
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "num_samples=16 how many, the first of the first epoch" in lines
    assert any(line.startswith("loader.batch_size=8 ") for line in lines)
    assert any(line.startswith("* standard ") for line in lines), "the default of a group of train.yaml"
    assert not any(line.startswith("num_samples") for line in command_help("train", "train", []).splitlines())
