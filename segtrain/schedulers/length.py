"""How many optimizer steps does a run have?"""

import math
from typing import Any

from segtrain.errors import UserError


def schedule_length(trainer: dict[str, Any], batches_per_epoch: int) -> int:
    """Return the optimizer steps of a run, from the Trainer's arguments alone.

    Raises:
        UserError: if the config sets no end.
    """
    limit = trainer.get("overfit_batches") or trainer.get("limit_train_batches", 1.0)
    batches = (
        min(limit, batches_per_epoch)
        if isinstance(limit, int)
        else int(batches_per_epoch * (1.0 if limit is None else limit))
    )
    per_epoch = math.ceil(batches / (trainer.get("accumulate_grad_batches") or 1))
    ends = []
    if (trainer.get("max_steps") or -1) >= 0:
        ends.append(trainer["max_steps"])
    if (trainer.get("max_epochs") or -1) >= 0:
        ends.append(trainer["max_epochs"] * per_epoch)
    if not ends:
        raise UserError(
            "trainer.max_epochs: missing; give trainer.max_epochs=N or ++trainer.max_steps=N, the schedule needs an end"
        )
    return max(1, min(ends))
