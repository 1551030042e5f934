"""Trade stride for dilation in a built network, so that pretrained weights keep their field of view."""

from torch import nn


def dilate(stage: nn.Module, *, first: int, rest: int) -> None:
    """Set the strides of a stage's convolutions to 1 and dilate its k x k ones (Chen et al., 2017, section 3.1).

    Args:
        stage: a module whose convolutions are to be changed in place.
        first: dilation of the convolutions up to and including the one that had a stride.
        rest: dilation of those after it.
    """
    dilation = first
    for module in stage.modules():
        if not isinstance(module, nn.Conv2d):
            continue
        strided = module.stride != (1, 1)
        pointwise = module.kernel_size == (1, 1)
        module.stride = (1, 1)
        if not pointwise:
            module.dilation = (dilation, dilation)
            module.padding = tuple(dilation * (size - 1) // 2 for size in module.kernel_size)
        if strided and not pointwise:
            dilation = rest


def dilations(output_stride: int) -> tuple[int, int]:
    """Return the dilation of the stages of stride 16 and 32 for an output stride.

    Raises:
        ValueError: if it is none of 8, 16, 32.
    """
    accepted = {32: (1, 1), 16: (1, 2), 8: (2, 4)}
    if output_stride not in accepted:
        raise ValueError(f"output_stride: {output_stride} is not one of {sorted(accepted)}")
    return accepted[output_stride]
