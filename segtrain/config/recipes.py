"""Which settings of averaging, unfreezing, growing crops and early stopping cannot be, or do not go together?"""

from typing import Any

from segtrain.config.facts import crop_size
from segtrain.config.optimization import trains_with_plateau, unvalidated


def recipe_problems(cfg: dict[str, Any]) -> list[str]:
    """Return a sentence for every setting that would end a training, or be without effect; none for other commands."""
    if "swa" not in cfg:
        return []
    trainer = cfg["trainer"] if isinstance(cfg["trainer"], dict) else {}
    return _swa_problems(cfg) + _unfreeze_problems(cfg, trainer) + _progressive_problems(cfg, trainer) + _stop(cfg)


def _swa_problems(cfg: dict[str, Any]) -> list[str]:
    start, lr = cfg["swa_start"], cfg["swa_lr"]
    problems = []
    if not 0 <= start < 1:
        problems.append(f"swa_start: {start} is not in [0, 1): a share of the training's steps")
    if cfg["swa"] and cfg["ema"]:
        problems.append("swa: true, and ema is too, but one average is scored and saved; give ema=false")
    if lr is None:
        return problems
    if not lr > 0:
        problems.append(f"swa_lr: {lr} is not above 0; null is what the schedule says")
    if not cfg["swa"]:
        problems.append(f"swa_lr: {lr} is without effect, as swa is false; give swa=true")
    elif trains_with_plateau(cfg):
        problems.append(f"swa_lr: {lr} is a constant, and a plateau would change it; give null, or another scheduler")
    return problems


def _unfreeze_problems(cfg: dict[str, Any], trainer: dict[str, Any]) -> list[str]:
    first, epochs = cfg["unfreeze_epoch"], trainer.get("max_epochs")
    if first is None:
        return []
    problems = []
    if first < 1:
        problems.append(f"unfreeze_epoch: {first} is not a number of epochs of 1 or more; null never unfreezes")
    if not cfg["frozen_stages"]:
        problems.append(f"unfreeze_epoch: {first}, but frozen_stages is 0: nothing is frozen; give frozen_stages too")
    optimizer = cfg["optimizer"] if isinstance(cfg["optimizer"], dict) else {}
    if optimizer.get("fused") is True and str(optimizer.get("_target_")).endswith(".SGD"):
        problems.append(
            f"optimizer.fused: true, and unfreeze_epoch is {first}: torch's fused SGD fails where parameters get their "
            "first gradient later than others; give optimizer.fused=false"
        )
    if isinstance(epochs, int) and 0 <= epochs <= first:
        problems.append(
            f"unfreeze_epoch: {first}, and the run ends after trainer.max_epochs={epochs}; give fewer, or null to keep "
            "the stages frozen"
        )
    return problems


def _progressive_problems(cfg: dict[str, Any], trainer: dict[str, Any]) -> list[str]:
    shares, epochs = cfg["progressive"], trainer.get("max_epochs")
    if shares is None:
        return []
    if not shares or not all(0 < share <= 1 for share in shares):
        return [f"progressive: {shares} are not shares above 0 to 1, such as [0.5,0.75,1]; null is the crop as it is"]
    problems = []
    if not isinstance(epochs, int) or epochs < 1 or (trainer.get("max_steps") or -1) >= 0:
        problems.append(
            f"progressive: {shares} divides the run's epochs, which trainer.max_epochs alone must say; give it, and no "
            "trainer.max_steps"
        )
    elif len(shares) > epochs:
        problems.append(f"progressive: {len(shares)} sizes for trainer.max_epochs={epochs}; give fewer, or more epochs")
    if trainer.get("overfit_batches"):
        problems.append("progressive: trainer.overfit_batches repeats the crops of the first epoch; give null")
    key, crop = crop_size(cfg)
    if isinstance(crop, int) and crop >= 32 and min(shares) * crop < 32:
        problems.append(
            f"progressive: {min(shares):g} of {key}={crop} is fewer than 32 pixels, the coarsest stride of the "
            "encoders; give a larger share"
        )
    return problems


def _stop(cfg: dict[str, Any]) -> list[str]:
    patience = cfg["early_stopping"]
    if patience is None:
        return []
    if patience < 1:
        return [f"early_stopping: {patience} is not a number of validations of 1 or more; null never stops early"]
    return unvalidated(cfg, f"early_stopping: an end by {cfg['checkpoint']['monitor']}")
