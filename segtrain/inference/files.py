"""Predict image files: find them, run the network, write masks and overlays."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from segtrain.data.images import IMAGE_SUFFIXES, ImageReader
from segtrain.errors import UserError
from segtrain.hardware import choose_precision, find_device
from segtrain.module import SegmentationModule
from segtrain.visualize import overlay, palette_of

log = logging.getLogger("segtrain")


class Job(NamedTuple):
    """An image and where its mask and overlay go."""

    image: Path
    mask: Path
    overlay: Path | None


def find_images(source: Path, output: Path, *, overwrite: bool, overlay: bool) -> list[Job]:
    """List the images of a file or folder, keeping sub-folders: OUTPUT/masks/SUB/NAME.png and OUTPUT/overlays/...

    Raises:
        UserError: if there are none, two would have the same mask, a mask is there already, or the output is
            not writable.
    """
    source, output = source.expanduser().resolve(), output.expanduser().resolve()
    written = {output / part for part in ("masks", "overlays")}  # by an earlier call
    if source.is_file():
        images, base = [source], source.parent
    elif source.is_dir():
        found = (path for path in source.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        images = sorted(path for path in found if not written.intersection(path.parents))
        base = source
    else:
        raise UserError(f"input: {source} is neither a file nor a folder")
    if not images:
        raise UserError(f"input: {source} has no images ({', '.join(IMAGE_SUFFIXES)})")
    jobs, taken = [], dict[Path, Path]()
    for image in images:
        name = image.relative_to(base).with_suffix(".png")
        mask = output / "masks" / name
        if mask in taken:
            raise UserError(f"input: {image} and {taken[mask]} would both be written to {mask}; rename one")
        if mask.exists() and not overwrite:
            raise UserError(f"output: {mask} is there already; give another folder or overwrite=true")
        taken[mask] = image
        jobs.append(Job(image, mask, output / "overlays" / name if overlay else None))
    try:
        output.mkdir(parents=True, exist_ok=True)
        for job in jobs:
            job.mask.parent.mkdir(parents=True, exist_ok=True)
            if job.overlay is not None:
                job.overlay.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"output: cannot write to {output} ({error.strerror})") from error
    return jobs


def predict_files(
    module: SegmentationModule,
    jobs: Sequence[Job],
    *,
    device: str,
    precision: str,
    palette: Sequence[Sequence[int]] | None,
    read_image: ImageReader,
) -> None:
    """Predict the jobs one by one; masks are palette PNGs whose values are class ids.

    Raises:
        UserError: naming the image that cannot be read, or the device that is not there.
    """
    try:
        place = find_device(device)
    except ValueError as error:
        raise UserError(str(error)) from error
    if precision == "auto":
        precision = choose_precision("gpu" if place.type == "cuda" else place.type)
    colours = palette_of(palette, len(module.class_names))
    module = module.to(place).eval()
    mixed = precision in ("bf16-mixed", "16-mixed")
    dtype = torch.float16 if precision == "16-mixed" else torch.bfloat16
    with torch.inference_mode(), torch.autocast(place.type, dtype=dtype, enabled=mixed):
        for job in track(jobs, description="predicting", transient=True, disable=len(jobs) < 2):
            image = read_image(job.image)
            tensor = torch.from_numpy(image).permute(2, 0, 1)[None].to(place)
            mask = module.predict_logits(tensor).argmax(dim=1)[0].to(torch.uint8).cpu().numpy()
            save_mask(job.mask, mask, colours)
            if job.overlay is not None:
                Image.fromarray(overlay(image, mask, colours)).save(job.overlay)
    log.info(f"{len(jobs)} masks in {jobs[0].mask.parent if len(jobs) == 1 else _common(jobs)}")


def save_mask(path: Path, mask: NDArray[np.uint8], palette: NDArray[np.uint8]) -> None:
    """Write class ids (H, W) as a palette PNG: the values are ids, a viewer shows the classes' colours."""
    picture = Image.fromarray(mask)
    picture.putpalette(palette.reshape(-1).tolist())
    picture.save(path)


def _common(jobs: Sequence[Job]) -> Path:
    parents = [set(job.mask.parents) for job in jobs]
    return max(set.intersection(*parents), key=lambda path: len(path.parts))
