"""Deterministic kernels alone: the switch, and what to say of an operation that has none.

With `deterministic=exact` torch takes the deterministic kernel where there are two, and refuses an operation that has
none. What training needs on CUDA, by `torch.use_deterministic_algorithms` and the kernels' sources:

    2-D cross-entropy, summed or averaged   adds in any order; ours is taken pixel by pixel and then summed
    max unpooling (SegNet)                  `unpool` scatters to places of which none comes twice
    adaptive average pooling (PSPNet)       two matrix products; to one pixel it is a mean
    cumulative sum of floats (Lovasz)       counts are added up, as integers
    weighted bincount (scores)              pixels are counted, without weights
    bilinear resizing, its gradient         torch itself goes by indices in this mode, and sorts before it adds
    replicated edges, their gradient        likewise; only images are padded so, which need no gradient
    indexing, gather, scatter               likewise
    convolutions, matrix products           cuDNN's and cuBLAS's deterministic ones, the latter with a fixed workspace

Other libraries' networks may need more: of SMP's, DPT, PSPNet and UPerNet do.
"""

import os
import re

import torch


def fix_workspace() -> None:
    """Have cuBLAS work in a fixed workspace, without which it is not deterministic; torch looks at its first call."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def use_deterministic(exact: bool) -> None:
    """Take deterministic kernels alone, or whichever there are; call it before the first kernel on a GPU."""
    if exact:
        fix_workspace()
    torch.use_deterministic_algorithms(exact)


def explain(error: RuntimeError) -> str | None:
    """Return what to change where torch refused an operation without a deterministic kernel; None for other errors."""
    refused = re.match(r"(\S+) does not have a deterministic implementation", str(error))
    if refused is None:
        return None
    return (
        f"deterministic: exact, and torch has no deterministic kernel for {refused[1]}, which this network or loss "
        "needs on this device; give deterministic=seeded, or another model or loss"
    )
