"""Is every planted fault found, with its kind and file, and nothing in a data set without one?"""

import json
from pathlib import Path

import pytest
from checking import check
from conftest import Compose, Run
from planted import CONFIG, Planter, write_clean

from segtrain.dataset_check.check import Result
from segtrain.dataset_check.output import prepare
from segtrain.dataset_check.problem import KINDS
from segtrain.dataset_check.report import report_text
from segtrain.errors import UserError


@pytest.fixture
def planted(tmp_path: Path) -> Planter:
    planter = Planter(write_clean(tmp_path / "data"))
    planter.plant_all()
    return planter


def files_by_kind(result: Result) -> dict[str, set[str]]:
    return {problem.kind: {file for item in problem.items for file in item.files} for problem in result.problems}


def test_every_fault_is_found_with_its_kind_and_its_files_and_nothing_else(
    planted: Planter, compose_config: Compose
) -> None:
    found = files_by_kind(check(compose_config, planted.root, *CONFIG))
    sizes = found.pop("size_mismatch")  # names the images too
    assert sizes - {str(planted.images / f"{name}.png") for name in ("smaller", "quarter_turn")} == (
        planted.expected.pop("size_mismatch")
    )
    assert found == planted.expected
    assert len(found) + 1 >= 18


def test_without_faults_there_is_neither_problem_nor_warning(tmp_path: Path, compose_config: Compose) -> None:
    result = check(compose_config, write_clean(tmp_path), *CONFIG)
    assert result.problems == []
    assert report_text(result).splitlines()[-1].startswith("0 errors, 0 warnings in 0 files; scanned 8 samples in ")


def test_processes_find_the_same_as_this_one(planted: Planter, compose_config: Compose) -> None:
    alone, processes = (check(compose_config, planted.root, *CONFIG, workers=workers).as_json() for workers in (0, 2))
    assert alone["summary"].pop("busy") >= 0
    for found in (alone, processes):
        for cost in ("seconds", "cpu_seconds", "busy"):
            found["summary"].pop(cost, None)
    assert alone == processes


def test_the_command_prints_writes_and_exits_with_1(planted: Planter, segtrain: Run, tmp_path: Path) -> None:
    done = segtrain("check", "dataset=folder", f"dataset.root={planted.root}", *CONFIG, "output=out")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    written = json.loads((tmp_path / "out" / "check.json").read_text())
    for problem in written["problems"]:
        assert f"{problem['severity'].upper()} {problem['kind']}: {problem['what']} ({problem['count']})" in done.stdout
    errors = sum(p["count"] for p in written["problems"] if p["severity"] == "error")
    assert written["summary"]["errors"] == errors
    assert f"\n{errors} errors, {written['summary']['warnings']} warnings in {written['summary']['files']} files; " in (
        done.stdout
    )
    assert done.stdout.endswith("out/check.json\nout/check.png\n")
    with pytest.raises(UserError, match="out has a check already, which is not overwritten; give another folder"):
        prepare(tmp_path / "out")
    with pytest.raises(UserError, match=r"output: cannot write .*check\.png \(File exists\); give output=FOLDER"):
        prepare(tmp_path / "out" / "check.png")


def test_every_kind_has_a_word_and_a_severity() -> None:
    for kind, (severity, what) in KINDS.items():
        assert kind == kind.lower()
        assert severity in ("error", "warning", "info")
        assert len(what) > 10
