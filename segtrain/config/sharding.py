"""Which settings do not go with weights that are shared out among devices?"""

from typing import Any

from segtrain.clusters.slurm import this_task
from segtrain.config.devices import device_type, wanted_devices
from segtrain.config.slurm import BY_TASK

SHARDED = "segtrain.sharding.strategy.ShardedStrategy"
OTHERS = ("FSDPStrategy", "ModelParallelStrategy")  # Lightning's, whose checkpoints are not those of one device
PRECISIONS = ("auto", "32-true", "32", "bf16-mixed", "bf16")
# these look at a weight as a whole, and a device has a slice of it
WHOLE_WEIGHTS = (
    *("segtrain.optimizers.Muon", "segtrain.optimizers.muon.Muon"),
    *(f"torch.optim.{name}" for name in ("Adafactor", "LBFGS", "Muon", "Rprop")),
)


def shards(trainer: dict[str, Any]) -> bool:
    """Say whether a Trainer's strategy is the one of trainer=fsdp."""
    strategy = trainer.get("strategy")
    return isinstance(strategy, dict) and strategy.get("_target_") == SHARDED


def sharding_problems(cfg: dict[str, Any]) -> list[str]:
    """Return a sentence for everything that would end a sharded training, or be wrong without a word."""
    trainer, strategy = cfg["trainer"], cfg["trainer"].get("strategy")
    named = strategy.get("_target_", "") if isinstance(strategy, dict) else strategy
    if isinstance(named, str) and (named.startswith("fsdp") or named.endswith(OTHERS)):
        return [f"trainer.strategy: {named!r} is Lightning's own, which writes other checkpoints; give trainer=fsdp"]
    if not shards(trainer) or isinstance(cfg.get("checkpoint"), str):  # evaluation shares nothing out
        return []
    return _device_problems(trainer) + _precision_problems(trainer) + _optimizer_problems(cfg["optimizer"])


def _device_problems(trainer: dict[str, Any]) -> list[str]:
    if trainer.get("accelerator") == "mps":
        return ["trainer.accelerator: 'mps', and fsdp is for NVIDIA GPUs and CPUs; use trainer=mps"]
    if (trainer.get("num_nodes") or 1) == 1 and _count(trainer) == 1:
        return [
            f"trainer.devices: {trainer.get('devices')} gives one device, and trainer=fsdp shares the weights out "
            "among several; give trainer.devices=2 or more, or use trainer=gpu (a smaller loader.batch_size with "
            "trainer.accumulate_grad_batches=2 needs less memory)"
        ]
    return []


def _count(trainer: dict[str, Any]) -> int:
    """Return how many devices a run would have; 0 if there are none, which others report."""
    import torch

    if trainer.get("devices") == BY_TASK:
        task = this_task()
        return 0 if task is None else task.count
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    wanted = wanted_devices(trainer)
    return wanted if wanted is not None else 1 if device_type(trainer) == "cpu" else there


def _precision_problems(trainer: dict[str, Any]) -> list[str]:
    precision = str(trainer.get("precision") or "32-true")
    if precision in PRECISIONS:
        return []
    return [
        f"trainer.precision: {precision} does not go with trainer=fsdp, which keeps float32 weights and scales no "
        "losses; give bf16-mixed or 32-true"
    ]


def _optimizer_problems(node: dict[str, Any]) -> list[str]:
    target = str(node.get("_target_"))
    if target in WHOLE_WEIGHTS:
        return [
            f"optimizer: {target.rpartition('.')[2]} needs whole weights, and with trainer=fsdp every device has a "
            "slice of each; use optimizer=adamw, lion or sgd, or trainer=ddp"
        ]
    if target == "torch.optim.SGD" and node.get("fused") is True:
        return ["optimizer.fused: true, and torch has no fused SGD for weights that are shared out; give false"]
    return []
