"""How many optimizer steps does a run have?"""

from typing import Any

from segtrain.errors import UserError


def schedule_length(trainer: dict[str, Any], batches_per_epoch: int) -> int:
    """Return the optimizer steps of a run, from the Trainer's arguments alone.

    Args:
        trainer: its arguments.
        batches_per_epoch: of one device; where gradients are accumulated, several make one step.

    Raises:
        UserError: if the config sets no end, or an epoch or its validation would end inside an optimizer step.
    """
    accumulation = trainer.get("accumulate_grad_batches") or 1
    key, batches = _limit(trainer), epoch_batches(trainer, batches_per_epoch)
    validated = batches_of(trainer.get("val_check_interval"), of=batches)
    for name, count in ((key, batches), ("val_check_interval", validated)):
        if count % accumulation:
            raise UserError(
                f"trainer.{name}: {trainer.get(name)} ends inside an optimizer step, which "
                f"trainer.accumulate_grad_batches makes of {accumulation} batches; give a multiple of {accumulation}"
            )
    ends = []
    if (trainer.get("max_steps") or -1) >= 0:
        ends.append(trainer["max_steps"])
    if (trainer.get("max_epochs") or -1) >= 0:
        ends.append(trainer["max_epochs"] * (batches // accumulation))
    if not ends:
        raise UserError(
            "trainer.max_epochs: missing; give trainer.max_epochs=N or trainer.max_steps=N, the schedule needs an end"
        )
    return max(1, min(ends))


def epoch_batches(trainer: dict[str, Any], batches_per_epoch: int) -> int:
    """Return the batches of an epoch that a device goes through, of those that the data has."""
    return min(batches_of(trainer.get(_limit(trainer)), of=batches_per_epoch), batches_per_epoch)


def _limit(trainer: dict[str, Any]) -> str:
    return "overfit_batches" if trainer.get("overfit_batches") else "limit_train_batches"


def batches_of(limit: Any, *, of: int) -> int:
    """Return how many batches a number or a share of them means; 1, anywhere in the epoch, for a time."""
    if limit is None:
        return of
    return int(of * limit) if isinstance(limit, float) else limit if isinstance(limit, int) else 1
