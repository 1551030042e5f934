"""Are image files found, and their masks written where and as they should be?"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import Brightness, tiny_module

from segtrain.data.images import ImageReader
from segtrain.errors import DataError, UserError
from segtrain.inference.files import find_images, predict_files, save_mask
from segtrain.visualize import default_palette

READER = ImageReader()


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def find(source: Path, output: Path, *, overwrite: bool = False, overlay: bool = True) -> list[tuple[str, str]]:
    """Return (image, mask) relative to source and output."""
    jobs = find_images(source, output, overwrite=overwrite, overlay=overlay)
    base = source if source.is_dir() else source.parent
    return [(str(job.image.relative_to(base)), str(job.mask.relative_to(output))) for job in jobs]


def test_sub_folders_are_searched_and_kept(tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    touch(
        source / "b.PNG", source / "a.jpg", source / "deep" / "er" / "a.tif", source / "notes.txt", source / "c.v2.png"
    )
    assert find(source, output) == [
        ("a.jpg", "masks/a.png"),
        ("b.PNG", "masks/b.png"),
        ("c.v2.png", "masks/c.v2.png"),
        ("deep/er/a.tif", "masks/deep/er/a.png"),
    ]
    assert (output / "masks" / "deep" / "er").is_dir()
    assert (output / "overlays" / "deep" / "er").is_dir()


def test_a_single_image_is_enough(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "a.jpg", tmp_path / "in" / "b.jpg")
    assert find(tmp_path / "in" / "a.jpg", tmp_path / "out") == [("a.jpg", "masks/a.png")]


def test_without_overlays_none_are_planned(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "a.jpg")
    (job,) = find_images(tmp_path / "in", tmp_path / "out", overwrite=False, overlay=False)
    assert job.overlay is None
    assert not (tmp_path / "out" / "overlays").exists()


def test_two_images_with_one_mask_are_refused_by_name(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "a.jpg", tmp_path / "in" / "a.png")
    with pytest.raises(UserError, match=r"a\.png and .*a\.jpg would both be written to .*a\.png; rename one"):
        find(tmp_path / "in", tmp_path / "out")


def test_a_mask_that_is_there_is_kept_unless_overwriting_is_asked_for(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "a.jpg", tmp_path / "out" / "masks" / "a.png")
    with pytest.raises(UserError, match=r"output: .*a\.png is there already.*overwrite=true"):
        find(tmp_path / "in", tmp_path / "out")
    assert find(tmp_path / "in", tmp_path / "out", overwrite=True) == [("a.jpg", "masks/a.png")]


def test_masks_of_an_earlier_run_inside_the_input_are_not_images(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg", tmp_path / "out" / "masks" / "old.png", tmp_path / "out" / "overlays" / "old.png")
    assert find(tmp_path, tmp_path / "out") == [("a.jpg", "masks/a.png")]


@pytest.mark.parametrize("absolute", ["input", "output"])
def test_an_output_inside_the_input_is_recognised_when_one_path_is_relative(
    absolute: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path / "in" / "a.jpg", tmp_path / "in" / "out" / "masks" / "old.png")
    monkeypatch.chdir(tmp_path)
    source, output = Path("in"), Path("in/out")
    source, output = (tmp_path / source, output) if absolute == "input" else (source, tmp_path / output)
    jobs = find_images(source, output, overwrite=True, overlay=False)
    assert [job.image.name for job in jobs] == ["a.jpg"]


def test_masks_can_go_into_the_folder_of_the_images(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg")
    assert find(tmp_path, tmp_path) == [("a.jpg", "masks/a.png")]


@pytest.mark.parametrize("source", ["nothing", "empty"])
def test_an_input_without_images_is_refused_by_name(source: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=rf"input: .*{source} (is neither a file nor a folder|has no images)"):
        find(tmp_path / source, tmp_path / "out")


def test_an_output_that_is_a_file_is_refused_by_name(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "a.jpg", tmp_path / "out")
    with pytest.raises(UserError, match=r"output: cannot write to .*out"):
        find(tmp_path / "in", tmp_path / "out")


def test_saved_masks_hold_class_ids_and_show_the_palettes_colours(tmp_path: Path) -> None:
    mask = np.array([[0, 1], [2, 10]], np.uint8)
    palette = default_palette(11)
    save_mask(tmp_path / "mask.png", mask, palette)
    with Image.open(tmp_path / "mask.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.array(image), mask)
        np.testing.assert_array_equal(np.array(image.convert("RGB")), palette[mask])


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_predicted_masks_are_the_networks_answer_at_the_images_size(precision: str, tmp_path: Path) -> None:
    images = {
        "a.png": np.full((13, 7, 3), 20, np.uint8),
        "deep/b.png": np.random.default_rng(0).choice(np.array([30, 84, 86, 169, 171], np.uint8), (9, 30, 3)),
    }
    for name, image in images.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "in" / name)
    jobs = find_images(tmp_path / "in", tmp_path / "out", overwrite=False, overlay=True)
    palette = [[0, 0, 0], [1, 2, 3], [9, 9, 9]]
    predict_files(
        tiny_module(Brightness()), jobs, device="cpu", precision=precision, palette=palette, read_image=READER
    )
    for name, image in images.items():
        with Image.open(tmp_path / "out" / "masks" / name) as file:
            mask = np.array(file)
            assert file.getpalette()[3:6] == [1, 2, 3]
        np.testing.assert_array_equal(mask, image[..., 0] // 85)  # thirds of 0 to 255
        with Image.open(tmp_path / "out" / "overlays" / name) as file:
            assert file.size == (image.shape[1], image.shape[0])


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "broken.png")
    jobs = find_images(tmp_path / "in", tmp_path / "out", overwrite=False, overlay=False)
    with pytest.raises(DataError, match=r"broken\.png"):
        predict_files(
            tiny_module(Brightness()), jobs, device="cpu", precision="32-true", palette=None, read_image=READER
        )


def test_a_device_that_is_not_there_is_a_users_mistake(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "a.png")
    jobs = find_images(tmp_path / "in", tmp_path / "out", overwrite=False, overlay=False)
    device = "cuda:99" if torch.cuda.is_available() else "cuda"
    with pytest.raises(UserError, match=rf"device: '{device}' is not on this machine"):
        predict_files(
            tiny_module(Brightness()), jobs, device=device, precision="32-true", palette=None, read_image=READER
        )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_that_cannot_be_written_is_refused_by_name(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "a.jpg")
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(UserError, match=r"output: cannot write to .*locked"):
        find(tmp_path / "in", tmp_path / "locked" / "out")
