"""Lightning's door to sharded networks: `trainer=fsdp`."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import nn
from torch.optim import Optimizer

from segtrain.checkpoint import read_checkpoint
from segtrain.errors import UserError
from segtrain.sharding import parts, slices

log = logging.getLogger("segtrain")


class ShardedStrategy(ModelParallelStrategy):
    """Every device keeps a slice of weights, gradients and optimizer state; checkpoints are those of one device.

    Validation and test gather the weights once, since ranks have different numbers of images.

    Args:
        reshard_after_forward: give a part's weights away after its forward pass and gather them again for the backward
            pass; without it the weights need as much memory as on one device, and a step sends a third less.
    """

    def __init__(self, *, reshard_after_forward: bool = True) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)
        self.reshard_after_forward = reshard_after_forward

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def shard(self, network: nn.Module, *, size: tuple[int, int, int]) -> None:
        """Share a network's weights out; one that is shared out stays so.

        Args:
            network: part of the Lightning module.
            size: (channels, height, width) of an image that it takes.

        Raises:
            UserError: for synchronised batch norm on a CPU, which torch does not have.
        """
        if parts.is_sharded(network):
            return
        if self._layer_sync is not None:
            self._layer_sync.apply(network)
        if self.root_device.type == "cpu" and any(isinstance(m, nn.SyncBatchNorm) for m in network.modules()):
            raise UserError(
                "trainer.sync_batchnorm: true, and torch synchronises batch norms on GPUs alone; give norm=group, or "
                "trainer.sync_batchnorm=false"
            )
        found = parts.shard(
            network,
            self.device_mesh["data_parallel"],
            size=size,
            bf16=self.precision_plugin.precision == "bf16-mixed",
            reshard=self.reshard_after_forward,
        )
        log.info(f"weights are shared out among {self.world_size} devices, and gathered in {len(found) + 1} parts")

    def lightning_module_state_dict(self) -> dict[str, Any]:
        assert self.lightning_module is not None
        return slices.whole_on_first_rank(self.lightning_module.state_dict())

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        assert self.lightning_module is not None
        slices.load_weights(self.lightning_module, checkpoint["state_dict"])

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        return slices.optimizer_state(optimizer._optimizer if isinstance(optimizer, LightningOptimizer) else optimizer)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            slices.load_optimizer_state(optimizer, state)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        # mapped: the ranks of a machine share one copy, and each reads its slices alone
        return read_checkpoint(Path(checkpoint_path), mmap=True)

    def on_validation_start(self) -> None:
        self._gather()

    def on_validation_end(self) -> None:
        self._scatter()

    def on_test_start(self) -> None:
        self._gather()

    def on_test_end(self) -> None:
        self._scatter()

    def _gather(self) -> None:
        assert self.lightning_module is not None
        for buffer in self.lightning_module.model.buffers():  # type: ignore[union-attr]
            dist.broadcast(buffer, src=0)  # all ranks score with the statistics that the checkpoint has
        parts.gather_weights(self.lightning_module.model)  # type: ignore[arg-type]

    def _scatter(self) -> None:
        assert self.lightning_module is not None
        parts.scatter_weights(self.lightning_module.model, reshard=self.reshard_after_forward)  # type: ignore[arg-type]
