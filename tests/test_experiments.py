"""Does every recipe for CamVid train for an epoch?"""

from pathlib import Path

import pytest
from conftest import Run, write_split

from segtrain.config.locate import config_dir

RECIPES = sorted(path.stem for path in (Path(config_dir()) / "experiment").glob("camvid_*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_trains_for_an_epoch(recipe: str, segtrain: Run, tmp_path: Path) -> None:
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        write_split(tmp_path / "camvid", split, count, classes=11)
    few = ("trainer=cpu", "trainer.max_epochs=1", "loader.batch_size=2", "loader.eval_batch_size=1")
    own = () if recipe == "camvid_small" else ("model.encoder.weights=null",)
    done = segtrain("train", f"experiment={recipe}", f"dataset.root={tmp_path / 'camvid'}", *few, *own)
    assert done.returncode == 0, done.stderr
    assert "test: mIoU" in done.stdout
