"""Binary cross-entropy of a sigmoid a class: each class against the rest, or masks where a pixel has several."""

from collections.abc import Sequence

from torch import Tensor, nn

from segtrain.losses.class_weights import weights_for, weights_tensor
from segtrain.losses.focal import focal


def binary_cross_entropy(
    logits: Tensor, mask: Tensor, *, ignore_index: int, class_weights: Tensor | None = None
) -> Tensor:
    """Return the mean binary cross-entropy over classes and pixels that are not void, as `focal` takes it.

    With class weights it is divided by the sum of the weights of what is counted. It is the focal loss with gamma 0.
    A batch of void gives zero with a gradient.

    Args:
        logits: (N, C, H, W), any float type; computed in float32, or in float64 if they are.
        mask: (N, H, W) labels, for each class against the rest; or (N, C, H, W) with 1 where a pixel has the class,
            0 where not, and `ignore_index` where it is not known.
        ignore_index: the label of void.
        class_weights: (C,).
    """
    return focal(logits, mask, ignore_index=ignore_index, gamma=0, mode="multilabel", class_weights=class_weights)


class BinaryCrossEntropyLoss(nn.Module):
    """Module of `binary_cross_entropy`.

    Args:
        ignore_index: the label of void.
        class_weights: one weight a class, or None.

    Raises:
        ValueError: if a weight is outside its range.
    """

    class_weights: Tensor | None

    def __init__(self, *, ignore_index: int, class_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.register_buffer("class_weights", weights_tensor(class_weights), persistent=False)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (N, C, H, W) and mask.

        Raises:
            ValueError: if the mask or the class weights do not go with the logits.
        """
        weights = weights_for(logits, self.class_weights)
        return binary_cross_entropy(logits, mask, ignore_index=self.ignore_index, class_weights=weights)
