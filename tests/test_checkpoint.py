"""Are checkpoints written whole or not at all, refused when damaged, and found again to resume from?"""

import errno
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import pytest
import pytorch_lightning as pl
import torch
from tiny import TinySamples, evaluation_loader, tiny_module, trainer, training_loader
from torch import nn

from segtrain import checkpoint as module_under_test
from segtrain.checkpoint import (
    BEST,
    FORMAT,
    LAST,
    PREVIOUS,
    load_weights,
    position,
    read_checkpoint,
    resume_point,
    verify,
    write_checkpoint,
)
from segtrain.checkpoint_io import AtomicCheckpointIO
from segtrain.errors import UserError
from segtrain.run_folder import prepare


def content(value: float = 1.5, **more: Any) -> dict[str, Any]:
    weights = {"w": torch.full((20, 30), value), "n": torch.tensor(7), "h": torch.ones(3, dtype=torch.bfloat16)}
    return {"segtrain_format": FORMAT, "state_dict": weights, "epoch": 3, "config": {"name": "a", "tags": []}, **more}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "new" / "folder" / "a.ckpt"
    write_checkpoint(content(), path)
    return path


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found["state_dict"][n], t) for n, t in expected["state_dict"].items())
    assert {k: v for k, v in found.items() if k != "state_dict"} == {
        k: v for k, v in expected.items() if k != "state_dict"
    }


def test_what_was_written_is_read(written: Path) -> None:
    assert_same(read_checkpoint(written), content())


def test_plain_torch_reads_it_too(written: Path) -> None:
    assert_same(torch.load(written, weights_only=True), content())


def test_any_zip_tool_reads_it_too(written: Path) -> None:
    with zipfile.ZipFile(written) as archive:
        assert archive.testzip() is None
        assert archive.comment.startswith(b"segtrain sha256 ")


def test_writing_again_replaces_the_file_and_leaves_no_other(written: Path) -> None:
    write_checkpoint(content(2.5), written)
    assert_same(read_checkpoint(written), content(2.5))
    assert [path.name for path in written.parent.iterdir()] == ["a.ckpt"]


def test_a_flipped_bit_anywhere_is_refused_with_the_files_name_or_changes_nothing(written: Path) -> None:
    data = written.read_bytes()
    outcomes = set()
    everywhere = range(0, len(data) - 1000, 97)
    at_the_end = range(len(data) - 1000, len(data), 3)  # the archive's table of contents and the checksum
    for position_ in (*everywhere, *at_the_end):
        damaged = bytearray(data)
        damaged[position_] ^= 1 << (position_ % 8)
        written.write_bytes(damaged)
        try:
            assert_same(read_checkpoint(written), content())
            outcomes.add("same")
        except UserError as error:
            assert str(written) in str(error)  # noqa: PT017
            outcomes.add("refused")
    assert "refused" in outcomes


@pytest.mark.parametrize("where", [0.3, 0.6])
def test_a_flipped_bit_in_the_weights_is_said_to_be_damage(where: float, written: Path) -> None:
    damaged = bytearray(written.read_bytes())
    damaged[int(where * len(damaged))] ^= 1
    written.write_bytes(damaged)
    with pytest.raises(UserError, match=r"a\.ckpt is damaged: its checksum does not fit; use another checkpoint"):
        read_checkpoint(written)


def test_a_file_truncated_anywhere_is_refused_with_its_name(written: Path) -> None:
    data = written.read_bytes()
    for length in (*range(0, len(data), 211), len(data) - 1, len(data) - 20, len(data) - 90):
        written.write_bytes(data[:length])
        with pytest.raises(UserError, match=r"checkpoint: .*a\.ckpt "):
            read_checkpoint(written)


@pytest.mark.parametrize("more", [b"\0", b"x" * 1000])
def test_a_file_with_something_behind_it_is_refused(more: bytes, written: Path) -> None:
    written.write_bytes(written.read_bytes() + more)
    with pytest.raises(UserError, match=r"a\.ckpt"):
        read_checkpoint(written)


def test_a_file_that_is_no_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a checkpoint")
    with pytest.raises(UserError, match=r"notes\.txt is no checkpoint, or is truncated"):
        read_checkpoint(tmp_path / "notes.txt")


def test_a_missing_file_and_a_folder_are_refused_by_name(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.ckpt", tmp_path):
        with pytest.raises(UserError, match=rf"{path.name} is not a file; give the path of a \.ckpt"):
            read_checkpoint(path)


def test_a_file_that_torch_alone_wrote_is_refused_by_name(tmp_path: Path) -> None:
    torch.save(content(), tmp_path / "foreign.pt")
    with pytest.raises(UserError, match=r"foreign\.pt was not written by segtrain"):
        read_checkpoint(tmp_path / "foreign.pt")


@pytest.mark.parametrize("version", [FORMAT + 1, 0, None])
def test_another_format_version_is_refused_with_both_versions(version: int | None, tmp_path: Path) -> None:
    write_checkpoint(content(segtrain_format=version), tmp_path / "a.ckpt")
    with pytest.raises(UserError, match=rf"a\.ckpt has format {version}, and this segtrain reads format {FORMAT}"):
        read_checkpoint(tmp_path / "a.ckpt")


class Malicious:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("this must not be printed",)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_checkpoint(content(evil=Malicious()), tmp_path / "evil.ckpt")
    with pytest.raises(UserError, match=r"evil\.ckpt cannot be read"):
        read_checkpoint(tmp_path / "evil.ckpt")
    assert "must not" not in capsys.readouterr().out


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    error: BaseException, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half_written(checkpoint: Any, file: BinaryIO) -> NoReturn:
        file.write(b"half of it")
        raise error

    monkeypatch.setattr(torch, "save", half_written)
    with pytest.raises(type(error)):
        write_checkpoint(content(2.5), written)
    monkeypatch.undo()
    assert_same(read_checkpoint(written), content())
    assert [path.name for path in written.parent.iterdir()] == ["a.ckpt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_an_error_of_the_disk_which_names_the_file() -> None:
    with pytest.raises(OSError, match="No space left on device: '/dev/full'") as found:
        module_under_test._save(content(), Path("/dev/full"))
    assert found.value.errno == errno.ENOSPC


def test_what_a_killed_write_left_is_removed_when_the_run_goes_on(tmp_path: Path) -> None:
    run = run_folder(tmp_path, LAST)
    (run / "checkpoints" / f".new-{LAST}.123.part").write_bytes(b"half")
    prepare(run, {"seed": 0}, resumed=True)
    assert [path.name for path in (run / "checkpoints").iterdir()] == [LAST]


def test_the_file_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("fsync", "replace"):
        real = getattr(module_under_test.os, name)
        monkeypatch.setattr(module_under_test.os, name, lambda *a, n=name, f=real: (calls.append(n), f(*a))[1])
    write_checkpoint(content(), tmp_path / "a.ckpt")
    assert calls == ["fsync", "replace", "fsync"]  # the file, its name, the folder


def run_folder(tmp_path: Path, *names: str) -> Path:
    for name in names:
        write_checkpoint(content(), tmp_path / "checkpoints" / name)
    return tmp_path


@pytest.mark.parametrize(
    ("names", "damaged", "expected"),
    [
        ([LAST, PREVIOUS, BEST], [], LAST),
        ([LAST, PREVIOUS, BEST], [LAST], PREVIOUS),
        ([LAST, PREVIOUS, BEST], [LAST, PREVIOUS], BEST),
        ([PREVIOUS, BEST], [], PREVIOUS),  # killed between the renaming and the writing
        ([BEST], [], BEST),
    ],
)
@pytest.mark.parametrize("damage", ["weights", "table of contents", "half", "empty"])
def test_the_newest_checkpoint_that_reads_is_resumed_from(
    names: list[str], damaged: list[str], expected: str, damage: str, tmp_path: Path
) -> None:
    run = run_folder(tmp_path, *names)
    for name in damaged:
        path = run / "checkpoints" / name
        data = bytearray(path.read_bytes())
        if damage == "weights":
            data[len(data) // 2] ^= 1
        elif damage in ("half", "empty"):
            del data[len(data) // 2 if damage == "half" else 0 :]
        else:
            data[data.rindex(b"PK\x01\x02") + 46 + 3] ^= 0x80  # a letter of a name in the zip's central directory
        path.write_bytes(data)
    assert resume_point(run) == run / "checkpoints" / expected


def test_a_run_whose_checkpoints_are_all_damaged_says_why_of_each(tmp_path: Path) -> None:
    run = run_folder(tmp_path, LAST, BEST)
    for name in (LAST, BEST):
        (run / "checkpoints" / name).write_bytes(b"broken")
    with pytest.raises(UserError, match=r"resume: .* has no checkpoint to go on from\n.*last\.ckpt.*\n.*best\.ckpt"):
        resume_point(run)


def test_a_run_that_was_killed_before_its_first_checkpoint_says_how_to_begin_again(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("a: 1")
    with pytest.raises(UserError, match=rf"begin again with: segtrain train --config-dir {tmp_path} --config-name c"):
        resume_point(tmp_path)


def test_a_run_without_checkpoints_and_a_path_that_is_no_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no checkpoint to go on from"):
        resume_point(tmp_path)
    with pytest.raises(UserError, match=r"resume: .*gone is not a folder"):
        resume_point(tmp_path / "gone")


def test_weights_of_another_class_count_are_refused_with_that_count() -> None:
    saved = {"state_dict": nn.Conv2d(3, 11, 1).state_dict(), "config": {"dataset": {"num_classes": 11}}}
    with pytest.raises(
        UserError, match=r"a\.ckpt was trained with dataset\.num_classes=11 .*weight \(11, 3, 1, 1\) here \(2, 3"
    ):
        load_weights(nn.Conv2d(3, 2, 1), saved, "a.ckpt")


@pytest.mark.parametrize(
    ("saved", "own", "sentence"),
    [
        (nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1, bias=False), "unknown: bias"),
        (nn.Conv2d(3, 2, 1, bias=False), nn.Conv2d(3, 2, 1), "missing: bias"),
    ],
)
def test_weights_of_another_model_are_refused_with_what_differs(
    saved: nn.Module, own: nn.Module, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        load_weights(own, {"state_dict": saved.state_dict()}, "a.ckpt")


def test_weights_of_the_same_model_are_copied() -> None:
    saved, own = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)
    load_weights(own, {"state_dict": saved.state_dict()}, "a.ckpt")
    assert torch.equal(own.weight, saved.weight)


class SaveEverywhere(pl.Callback):
    """Write a checkpoint in every hook that segtrain's own callbacks write in, named by what comes next."""

    def __init__(self, batches: int) -> None:
        self.batches = batches
        self.expected: dict[Path, tuple[int, int]] = {}

    def save(self, trainer: pl.Trainer, hook: str, epoch: int, batch: int) -> None:
        path = Path(trainer.default_root_dir) / f"{hook}-{len(self.expected)}.ckpt"
        trainer.save_checkpoint(path)
        self.expected[path] = (epoch, batch) if batch < self.batches else (epoch + 1, 0)

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.save(trainer, "batch", trainer.current_epoch, batch_idx + 1)

    def on_validation_end(self, trainer: pl.Trainer, module: Any) -> None:
        self.save(trainer, "validation", trainer.current_epoch, trainer.fit_loop.epoch_loop.batch_idx + 1)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        self.save(trainer, "epoch", trainer.current_epoch, trainer.fit_loop.epoch_loop.batch_idx + 1)

    def on_train_end(self, trainer: pl.Trainer, module: Any) -> None:
        self.save(trainer, "end", trainer.current_epoch - 1, trainer.fit_loop.epoch_loop.batch_idx + 1)


@pytest.mark.parametrize("limit", [{"max_epochs": 2}, {"max_steps": 4}, {"max_steps": 5}], ids=str)
@pytest.mark.parametrize("val_check_interval", [1.0, 2])
def test_the_position_in_a_checkpoint_is_the_next_batch_wherever_it_was_written(
    val_check_interval: float, limit: dict[str, int], tmp_path: Path
) -> None:
    saver = SaveEverywhere(batches=3)
    lightning = trainer(tmp_path, saver, **limit, val_check_interval=val_check_interval)
    lightning.fit(tiny_module(), training_loader(TinySamples()), evaluation_loader(TinySamples(2)))
    found = {path: position(read_checkpoint(path)) for path in saver.expected}
    assert found == saver.expected


@pytest.mark.parametrize(
    ("limit", "more"),
    [
        ({"max_epochs": 2}, {"max_epochs": 2}),
        ({"max_steps": 3}, {"max_steps": 8}),
        ({"max_steps": 4}, {"max_steps": 8}),
        ({"max_steps": 5, "val_check_interval": 2}, {"max_steps": 8, "val_check_interval": 2}),
        ({"max_steps": 5}, {"max_epochs": 3}),
    ],
    ids=str,
)
def test_a_run_resumed_from_any_checkpoint_ends_with_the_same_weights(
    limit: dict[str, Any], more: dict[str, Any], tmp_path: Path
) -> None:
    saver, straight, scored = SaveEverywhere(batches=3), tiny_module(), evaluation_loader(TinySamples(2))
    trainer(tmp_path, saver, **limit).fit(tiny_module(), training_loader(TinySamples()), scored)
    whole = trainer(tmp_path, **more)
    whole.fit(straight, training_loader(TinySamples()), scored)
    for path, start in saver.expected.items():
        if start[0] < 2:
            resumed, lightning = tiny_module(), trainer(tmp_path, **more)
            loader = training_loader(TinySamples(), start=start)
            lightning.fit(resumed, loader, scored, ckpt_path=path, weights_only=True)
            ends = [
                (t.current_epoch, t.global_step, t.fit_loop.epoch_loop._batches_that_stepped)
                for t in (lightning, whole)
            ]
            assert ends[0] == ends[1], path.name  # the last is the step of what is logged
            for name, tensor in straight.state_dict().items():
                assert torch.equal(resumed.state_dict()[name], tensor), (path.name, name)


def test_lightning_saves_loads_and_removes_through_the_checked_format(tmp_path: Path) -> None:
    io, path = AtomicCheckpointIO(tmp_path), tmp_path / "a.ckpt"
    io.save_checkpoint(content(), path)
    verify(path)
    assert_same(io.load_checkpoint(path), content())
    io.remove_checkpoint(path)
    io.remove_checkpoint(path)  # gone already
    assert not path.exists()


@pytest.mark.parametrize("elsewhere", ["other.txt", "checkpoints/../other.txt"])
def test_nothing_outside_the_checkpoints_is_removed(elsewhere: str, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "other.txt").write_text("mine")
    with pytest.raises(UserError, match=r"other\.txt is not in"):
        AtomicCheckpointIO(tmp_path / "checkpoints").remove_checkpoint(tmp_path / elsewhere)
    assert (tmp_path / "other.txt").read_text() == "mine"
