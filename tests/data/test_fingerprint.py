"""Does a resumed run notice that its training images are others?"""

from pathlib import Path

import pytest
from conftest import write_split

from segtrain.build import build_data
from segtrain.data.fingerprint import difference, fingerprint
from segtrain.errors import UserError


class Unnamed:
    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> None:
        raise AssertionError("images are not read for it")


class Named(Unnamed):
    def __init__(self, *names: str) -> None:
        super().__init__(len(names))
        self.file_names = names

    def names(self, index: int) -> tuple[str, str]:
        return self.file_names[index], ""


def test_folders_may_move_and_names_and_numbers_may_not_change() -> None:
    then = fingerprint(Named("/data/a.png", "/data/b.png"))
    assert difference(fingerprint(Named("/elsewhere/a.png", "/elsewhere/b.png")), then) is None
    assert "has 3 images, and the run that is resumed had 2" in str(
        difference(fingerprint(Named("a.png", "b.png", "c.png")), then)
    )
    assert "2 images of other names" in str(difference(fingerprint(Named("b.png", "a.png")), then))
    assert difference(fingerprint(Unnamed(3)), fingerprint(Unnamed(3))) is None
    assert difference(fingerprint(Unnamed(3)), fingerprint(Unnamed(2))) is not None


def test_data_refuses_the_state_of_other_images(train_config, tmp_path: Path) -> None:
    def data(count: int):
        root = tmp_path / str(count)
        write_split(root, "train", count)
        return build_data(train_config("dataset=camvid", f"dataset.root={root}"))

    state = data(9).state_dict()
    data(9).load_state_dict(state)
    with pytest.raises(UserError, match=r"dataset: the train split has 10 images, and .* had 9; .*init_from="):
        data(10).load_state_dict(state)
