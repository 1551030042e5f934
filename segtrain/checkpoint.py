"""Checkpoints: written whole or not at all, read back checked, data and never code.

A file is what `torch.save` writes (a zip archive) with the SHA-256 of its bytes in the archive's comment, so plain
`torch.load(path, weights_only=True)` reads it too.
"""

import hashlib
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segtrain.errors import UserError
from segtrain.sharding import slices

FORMAT = 1
LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
_COMMENT = b"segtrain sha256 "
_END_OF_ARCHIVE = struct.Struct("<4s4H2LH")  # the zip format's end-of-central-directory record (APPNOTE 4.3.16)


def write_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint so that `path` always holds a whole one: the old one until the new one is on the disk.

    Args:
        checkpoint: tensors and plain Python values.
        path: the file; its folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")  # same folder: a rename across disks is a copy
    try:
        _save(checkpoint, part)
        _seal(part)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _save(checkpoint: dict[str, Any], path: Path) -> None:
    try:
        with path.open("wb") as file:
            torch.save(checkpoint, file)
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__context__
        if isinstance(cause, OSError):  # of a full disk, after which torch cannot end its archive
            raise OSError(cause.errno, cause.strerror, str(path)) from error
        raise


def _seal(path: Path) -> None:
    """Append the checksum of everything before the end record, as the archive's comment, and flush to the disk."""
    with path.open("r+b") as file:
        file.seek(-_END_OF_ARCHIVE.size, os.SEEK_END)
        end = list(_END_OF_ARCHIVE.unpack(file.read()))
        if end[0] != b"PK\x05\x06" or end[-1] != 0:
            raise RuntimeError(f"torch.save wrote an archive that segtrain does not know: {path}")
        comment = _COMMENT + _digest(path, path.stat().st_size - _END_OF_ARCHIVE.size).encode()
        end[-1] = len(comment)
        file.seek(-_END_OF_ARCHIVE.size, os.SEEK_END)
        file.write(_END_OF_ARCHIVE.pack(*end) + comment)
        file.flush()
        os.fsync(file.fileno())


def _digest(path: Path, size: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while size > 0 and (block := file.read(min(size, 1 << 20))):
            digest.update(block)
            size -= len(block)
    return digest.hexdigest()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def verify(path: Path) -> None:
    """Compare the file with its checksum.

    Raises:
        UserError: if the file is missing, no checkpoint of segtrain's, truncated or changed.
    """
    if not path.is_file():
        raise UserError(f"checkpoint: {path} is not a file; give the path of a .ckpt of a run")
    try:
        with zipfile.ZipFile(path) as archive:
            comment = archive.comment
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:  # a changed bit in its directory
        raise UserError(f"checkpoint: {path} is no checkpoint, or is truncated ({error})") from error
    except OSError as error:
        raise UserError(f"checkpoint: {path} cannot be read ({error.strerror})") from error
    if not comment.startswith(_COMMENT):
        raise UserError(f"checkpoint: {path} was not written by segtrain; give a .ckpt of a run")
    size = path.stat().st_size - len(comment) - _END_OF_ARCHIVE.size
    if _digest(path, size) != comment[len(_COMMENT) :].decode(errors="replace"):
        raise UserError(f"checkpoint: {path} is damaged: its checksum does not fit; use another checkpoint of the run")


def reads(path: Path) -> bool:
    """Say whether `verify` accepts the file."""
    try:
        verify(path)
    except UserError:
        return False
    return True


def read_checkpoint(path: Path, *, map_location: Any = "cpu", mmap: bool = False) -> dict[str, Any]:
    """Return a verified checkpoint; nothing in it is executed.

    Args:
        path: the file.
        map_location: the device of its tensors.
        mmap: leave its tensors in the file until they are read.

    Raises:
        UserError: as `verify`, and for a file of another format version.
    """
    verify(path)
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True, mmap=mmap)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise UserError(f"checkpoint: {path} cannot be read: {str(error).splitlines()[0]}") from error
    version = checkpoint.get("segtrain_format") if isinstance(checkpoint, dict) else None
    if version != FORMAT:
        raise UserError(f"checkpoint: {path} has format {version}, and this segtrain reads format {FORMAT}")
    return checkpoint


def resume_point(run: str | Path) -> Path:
    """Return the newest checkpoint of a run folder that reads: the last, else the newest before it, else the best.

    Raises:
        UserError: if the folder has none; says why each was refused.
    """
    folder = Path(run).expanduser()
    if not folder.is_dir():
        raise UserError(f"resume: {folder} is not a folder; give a run's folder, such as outputs/runs/train-...")
    reasons = []
    kept = folder / "checkpoints"
    for name in (LAST, *older_names(2 + len(list(kept.glob("previous-*.ckpt")))), BEST):
        path = kept / name
        try:
            verify(path)
        except UserError as error:
            if path.exists():
                reasons.append(str(error).removeprefix("checkpoint: "))
            continue
        return path
    anew = f"; begin again with: segtrain train --config-dir {folder} --config-name config"
    begun = not reasons and (folder / "config.yaml").is_file()  # and killed before it had one
    raise UserError(
        f"resume: {folder} has no checkpoint to go on from" + "".join(f"\n  {r}" for r in reasons) + anew * begun
    )


def older_names(keep: int) -> list[str]:
    """Return the names of the checkpoints before the last, the newest first, where `keep` are kept in all."""
    return [PREVIOUS, *[f"{Path(PREVIOUS).stem}-{number}.ckpt" for number in range(2, keep)]]


def position(checkpoint: dict[str, Any]) -> tuple[int, int]:
    """Return (epoch, batch) at which training goes on, from Lightning's loop progress.

    `ready`, not `completed`: a checkpoint written in a batch-end hook has not counted that batch as completed.
    """
    loop = checkpoint["loops"]["fit_loop"]
    epoch, progress = loop["epoch_progress"]["current"]["processed"], loop["epoch_loop.batch_progress"]
    if progress["is_last_batch"]:
        return (epoch if _epoch_is_counted(loop) else epoch + 1), 0
    return (epoch - 1 if _is_cut(loop) else epoch), progress["current"]["ready"]


def _epoch_is_counted(loop: dict[str, Any]) -> bool:
    """Say whether `processed` has the epoch of the last batch, as it has once the epoch's last hooks run."""
    return loop["epoch_progress"]["current"]["processed"] == loop["epoch_progress"]["current"]["ready"]


def _is_cut(loop: dict[str, Any]) -> bool:
    """Say whether Lightning counted an epoch that it had left before its last batch, as it does for `max_steps`."""
    begun = loop["epoch_progress"]["current"]["ready"] > 0
    return begun and _epoch_is_counted(loop) and not loop["epoch_loop.batch_progress"]["is_last_batch"]


def reopen_cut_epoch(checkpoint: dict[str, Any]) -> None:
    """Take back Lightning's count of an epoch that was left before its last batch, so that a run goes on inside it.

    The counts become those of a checkpoint written right after the batch, which Lightning knows how to go on from.

    Args:
        checkpoint: changed in place.
    """
    loop = checkpoint["loops"]["fit_loop"]
    if not _is_cut(loop):
        return
    for counts in loop["epoch_progress"].values():
        counts["processed"] -= 1
        counts["completed"] = min(counts["completed"], counts["processed"])
    for counts in loop["epoch_loop.batch_progress"].values():
        if isinstance(counts, dict):
            counts["completed"] = counts["processed"] - 1
    loop["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1


def count_in_parts(checkpoint: dict[str, Any], accumulation: int) -> None:
    """Count the batches that a checkpoint has behind it as a run does whose optimizer steps have so many.

    The run that wrote it may have divided its steps into more or fewer; checkpoints lie between two steps.

    Args:
        checkpoint: changed in place.
        accumulation: batches of a step in the run that goes on.
    """
    before = checkpoint.get("accumulate_grad_batches", accumulation)
    for counts in checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"].values():
        if isinstance(counts, dict):
            more = counts["ready"] // before * accumulation - counts["ready"]
            counts.update({name: count + more for name, count in counts.items()})


def load_weights(module: nn.Module, checkpoint: dict[str, Any], path: Path | str) -> None:
    """Copy a checkpoint's weights into a module of the same shape.

    Raises:
        UserError: if a tensor is missing, left over or of another shape; the class count is named if it is that.
    """
    weights, own = checkpoint["state_dict"], module.state_dict()
    wrong = [
        f"{k} {tuple(weights[k].shape)} here {tuple(own[k].shape)}"
        for k in own
        if k in weights and weights[k].shape != own[k].shape
    ]
    then = checkpoint.get("config", {}).get("dataset", {}).get("num_classes")
    missing, unknown = own.keys() - weights.keys(), weights.keys() - own.keys()
    if wrong or missing or unknown:
        detail = "; ".join(
            [f"other shape: {', '.join(wrong[:3])}"] * bool(wrong)
            + [f"missing: {', '.join(sorted(missing)[:3])}"] * bool(missing)
            + [f"unknown: {', '.join(sorted(unknown)[:3])}"] * bool(unknown)
        )
        raise UserError(
            f"checkpoint: {path} was trained with dataset.num_classes={then} and another model than this; {detail}"
        )
    slices.load_weights(module, weights)
