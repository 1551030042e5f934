"""What does a job leave behind in its process, and how is it put back before the next one?"""

import gc
import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from segtrain.resident import begin_peak
from segtrain.run_lock import release
from segtrain.signals import SIGNALS


@contextmanager
def fresh() -> Iterator[None]:
    """Run a job, and put back signal handlers, the environment, warnings and torch's settings.

    Random numbers are not among them: every job seeds all that it uses. Its peak of memory is its own.
    """
    begin_peak()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, *SIGNALS)}
    environment, filters = dict(os.environ), list(warnings.filters)
    settings = _torch_settings()
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.environ.clear()
        os.environ.update(environment)
        logging.captureWarnings(False)
        warnings.filters[:] = filters  # type: ignore[index]
        warnings._filters_mutated()  # type: ignore[attr-defined]  # what one job has warned of, the next does too
        _set_torch(settings)


def _torch_settings() -> dict[str, object]:
    import torch

    cudnn = torch.backends.cudnn
    return {
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "precision": torch.get_float32_matmul_precision(),
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "cudnn": (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32),
    }


def _set_torch(settings: dict[str, object]) -> None:
    import torch

    torch.use_deterministic_algorithms(bool(settings["deterministic"]), warn_only=bool(settings["warn_only"]))
    torch.set_float32_matmul_precision(str(settings["precision"]))
    torch.set_num_threads(int(str(settings["threads"])))
    torch.set_default_dtype(settings["dtype"])  # type: ignore[arg-type]
    cudnn = torch.backends.cudnn
    cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32 = settings["cudnn"]  # type: ignore[misc]


def forget() -> None:
    """Free what a job held: its folder's lock, its process group, compiled code, and memory on the device.

    Call it when nothing refers to the job's error any more: its traceback keeps the network.
    """
    import torch

    release()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    if "torch._dynamo" in sys.modules:
        # its code is kept by function, and after eight networks of one class it would stop compiling
        sys.modules["torch._dynamo"].reset()
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
