"""How often is a run validated that is shorter than the interval of its validations?"""

from typing import Any

from segtrain.schedulers.length import batches_of, epoch_batches, schedule_length


def validation_interval(trainer: dict[str, Any], batches_per_epoch: int | None = None) -> dict[str, int]:
    """Return the Trainer's arguments that change so that a run is scored at least once.

    A run of fewer epochs than `check_val_every_n_epoch` is scored after the last whole one, and one that ends inside
    its first epoch after its last step.

    Args:
        trainer: its arguments.
        batches_per_epoch: of one device; None where a number of steps does not end the run.

    Raises:
        UserError: as `schedule_length`.
    """
    every, epochs = trainer.get("check_val_every_n_epoch"), trainer.get("max_epochs") or -1
    if not every:
        return {}
    if batches_per_epoch is None:
        return {"check_val_every_n_epoch": epochs} if 0 < epochs < every else {}
    end = schedule_length(trainer, batches_per_epoch) * (trainer.get("accumulate_grad_batches") or 1)
    epoch = epoch_batches(trainer, batches_per_epoch)
    if 0 < epoch <= end:
        return {"check_val_every_n_epoch": end // epoch} if end // epoch < every else {}
    inside = batches_of(trainer.get("val_check_interval"), of=epoch) <= end
    return {"check_val_every_n_epoch": 1} | ({} if inside else {"val_check_interval": end})
