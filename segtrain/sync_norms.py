"""Lightning's door to synchronised batch norm: ours keeps the activations that timm's batch norms contain."""

from pytorch_lightning.plugins.layer_sync import TorchSyncBatchNorm
from torch import nn

from segtrain.models.norms import Replaced, restore_norms, synchronise_norms


class SyncNorms(TorchSyncBatchNorm):
    """What `sync_batchnorm: true` of a trainer does."""

    def __init__(self) -> None:
        self.replaced: Replaced = []

    def apply(self, model: nn.Module) -> nn.Module:
        self.replaced = synchronise_norms(model)
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        restore_norms(self.replaced)
        self.replaced = []
        return model
