"""Does each line of the report name its file, also where the data set's folder is the current one?"""

from pathlib import Path

import numpy as np
import pytest
from checking import check
from conftest import Compose
from planted import CONFIG, image, mask, save, write_clean

from segtrain.dataset_check.report import report_text
from segtrain.dataset_check.scan import Effort


def test_a_relative_file_is_named_before_a_sentence_that_does_not_name_it(
    compose_config: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clean(tmp_path)
    save(tmp_path / "train/masks/1.png", mask(1, width=47))
    save(tmp_path / "val/images/0.png", image(1))
    save(tmp_path / "val/masks/0.png", mask(1))
    monkeypatch.chdir(tmp_path)
    lines = report_text(check(compose_config, Path(), *CONFIG)).splitlines()
    assert "    train/masks/1.png, train/images/1.png: the mask is 47x40 and its image 48x40" in lines
    assert "    train/images/0.png, val/images/0.png: in train and val" in lines


def test_a_table_in_the_current_folder_names_its_files_and_its_rows_once(
    compose_config: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        save(tmp_path / f"{number}.png", image(number))
        save(tmp_path / f"{number}m.png", mask(number, width=47 if number == 0 else 48))
    rows = ["image,mask,split", "0.png,0m.png,train", "1.png,1m.png,val", "2.png,2m.png,tset"]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    monkeypatch.chdir(tmp_path)
    lines = report_text(check(compose_config, None, "dataset=csv", "dataset.file=t.csv", *CONFIG)).splitlines()
    assert "    0m.png, 0.png: the mask is 47x40 and its image 48x40" in lines
    assert "    t.csv, line 4: split 'tset' is not one of train, val, test" in lines


def test_two_files_of_one_name_are_told_once(compose_config: Compose, tmp_path: Path) -> None:
    write_clean(tmp_path)
    save(tmp_path / "train/images/1.bmp", image(50))
    lines = report_text(check(compose_config, tmp_path, *CONFIG)).splitlines()
    assert f"    {tmp_path}/train/images: one file called 1 is wanted, and there is 1.bmp and 1.png" in lines


def test_an_empty_data_set_keeps_no_core_busy(compose_config: Compose, tmp_path: Path) -> None:
    result = check(compose_config, tmp_path, *CONFIG)
    assert result.effort.busy == 0
    assert report_text(result).splitlines()[-1] == "1 error, 0 warnings in 0 files; there was no sample to scan"


def test_more_than_all_cores_are_never_busy() -> None:
    assert Effort(seconds=0.01, cpu_seconds=0.07, cores=2).busy == 1
    assert Effort(seconds=2, cpu_seconds=1, cores=2).busy == 0.25


def test_images_of_two_depths_are_to_be_converted_and_no_range_is_proposed(
    compose_config: Compose, tmp_path: Path
) -> None:
    write_clean(tmp_path)
    save(tmp_path / "train/images/1.png", image(8)[..., 0].astype(np.uint16) * 257)
    (problem,) = check(compose_config, tmp_path, *CONFIG).problems
    assert (problem.kind, problem.fix, problem.overrides) == ("depth", "convert them to one depth", [])
