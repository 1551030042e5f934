"""Auxiliary heads: further losses on inner features while training, and deep supervision of a decoder."""

from collections.abc import Mapping

from torch import Tensor, nn

from segtrain.models.layers import FCNHead, initialise, resize


class AuxiliaryHeads(nn.Module):
    """A small FCN on each of some named features, in training alone (Zhao et al., 2017, arXiv:1612.01105, section 4).

    Args:
        weights: {feature: weight of its loss}, such as {"stage4": 0.4}; a weight of None leaves the feature out.
        channels: {feature: channels} of every feature that the network has.
        num_classes: channels of the logits.

    Raises:
        ValueError: for a feature that the network does not have.
    """

    def __init__(
        self, weights: Mapping[str, float | None] | None, *, channels: Mapping[str, int], num_classes: int
    ) -> None:
        super().__init__()
        self.weights = {name: weight for name, weight in (weights or {}).items() if weight is not None}
        if negative := [name for name, weight in self.weights.items() if weight < 0]:
            raise ValueError(f"aux: the weight of {negative[0]} is {self.weights[negative[0]]}; give 0 or more")
        for name in self.weights:
            if name not in channels:
                raise ValueError(f"aux: the network has no feature called {name!r} (accepts: {', '.join(channels)})")
        self.heads = nn.ModuleDict({name: FCNHead(channels[name], num_classes) for name in self.weights})
        for head in self.heads.values():
            initialise(*list(head.children())[:-1])

    def keep(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the features that `forward` will read; a decoder frees the others as it goes."""
        return {name: feature for name, feature in features.items() if self.training and name in self.weights}

    def forward(self, logits: Tensor, features: Mapping[str, Tensor]) -> Tensor | dict[str, Tensor]:
        """Return the logits; in training, if there are heads, {"out": logits, feature: its logits}, all of one size."""
        if not self.training or not self.weights:
            return logits
        return {"out": logits, **{name: resize(head(features[name]), logits) for name, head in self.heads.items()}}
