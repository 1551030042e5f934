"""What holds for every loss: void, precision, gradients, the order of pixels and classes, and extreme batches."""

import pytest
import torch
from every_loss import LOSSES, VOID, WEIGHTS, Make, batch, certain_of, each_loss
from torch import Tensor, nn


@each_loss
def test_ignored_pixels_do_not_change_the_loss_or_get_a_gradient(make: Make) -> None:
    logits, mask = batch()
    void = (mask == VOID).unsqueeze(1)
    other = torch.where(void, 1e4 * torch.randn_like(logits), logits).requires_grad_()
    loss = make()(other, mask)
    torch.testing.assert_close(loss, make()(logits, mask))
    loss.backward()
    assert other.grad is not None
    assert not other.grad[void.expand_as(other)].any()
    assert other.grad[~void.expand_as(other)].any()


@each_loss
def test_a_border_of_void_does_not_change_the_loss(make: Make) -> None:
    logits, mask = batch()
    wider = nn.functional.pad(logits, (2, 3, 1, 4), value=9.0), nn.functional.pad(mask, (2, 3, 1, 4), value=VOID)
    torch.testing.assert_close(make()(*wider), make()(logits, mask))


@each_loss
def test_a_batch_of_void_gives_zero_with_a_finite_gradient(make: Make) -> None:
    logits, mask = batch()
    logits.requires_grad_()
    loss = make()(logits, torch.full_like(mask, VOID))
    assert loss.item() == 0
    loss.backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@each_loss
@pytest.mark.parametrize("prediction", ["random", "right", "wrong"])
def test_a_batch_of_one_class_and_certain_predictions_give_finite_losses_and_gradients(
    make: Make, prediction: str
) -> None:
    logits, _ = batch()
    mask = torch.full((2, 5, 5), 2)
    if prediction != "random":
        logits = certain_of(mask if prediction == "right" else mask - 1)
    logits.requires_grad_()
    loss = make()(logits, mask)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@each_loss
def test_bf16_logits_are_computed_in_float32(make: Make) -> None:
    logits, mask = batch(size=32)
    loss = make()(logits.bfloat16(), mask)
    assert loss.dtype == torch.float32
    # the bf16 values themselves, summed in float32: no further rounding
    torch.testing.assert_close(loss, make()(logits.bfloat16().float(), mask), rtol=0, atol=0)
    torch.testing.assert_close(loss, make()(logits, mask), rtol=2e-2, atol=2e-3)


@each_loss
def test_autocast_does_not_change_the_loss_or_its_gradient(make: Make) -> None:
    logits, mask = batch(size=16)
    results = []
    for enabled in (False, True):
        own = logits.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = make()(own, mask)
        loss.backward()
        results.append((loss.detach(), own.grad))
    torch.testing.assert_close(*results, rtol=0, atol=0)


@each_loss
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_masks_of_every_integer_type_give_the_same_loss(make: Make, dtype: torch.dtype) -> None:
    logits, mask = batch()
    torch.testing.assert_close(make()(logits, mask.to(dtype)), make()(logits, mask), rtol=0, atol=0)


@each_loss
def test_the_memory_format_of_the_logits_does_not_matter(make: Make) -> None:
    logits, mask = batch()
    grads = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        own = logits.clone(memory_format=memory_format).requires_grad_()
        make()(own, mask).backward()
        grads.append(own.grad)
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "boundary"])
def test_the_order_of_the_pixels_does_not_matter(name: str) -> None:
    logits, mask = batch()
    order = torch.randperm(25, generator=torch.Generator().manual_seed(1))
    shuffled = logits.flatten(2)[..., order].view_as(logits), mask.flatten(1)[..., order].view_as(mask)
    loss = LOSSES[name](WEIGHTS)
    torch.testing.assert_close(loss(*shuffled), loss(logits, mask))


@each_loss
def test_a_turned_batch_has_the_same_loss(make: Make) -> None:
    logits, mask = batch()
    turned = logits.rot90(dims=(2, 3)).flip(0), mask.rot90(dims=(1, 2)).flip(0)
    torch.testing.assert_close(make()(*turned), make()(logits, mask))


@pytest.mark.parametrize("name", LOSSES)
def test_renaming_the_classes_does_not_change_the_loss(name: str) -> None:
    logits, mask = batch()
    new_name = torch.tensor([2, 0, 3, 1])
    renamed = torch.where(mask == VOID, VOID, new_name[mask.clamp(max=3)])
    moved, weights = torch.empty_like(logits), torch.empty(4)
    moved[:, new_name] = logits
    weights[new_name] = torch.tensor(WEIGHTS)
    torch.testing.assert_close(LOSSES[name](weights.tolist())(moved, renamed), LOSSES[name](WEIGHTS)(logits, mask))


@each_loss
def test_gradients_agree_with_finite_differences_in_float64(make: Make) -> None:
    logits, mask = batch(size=3)
    loss = make()
    assert loss(logits.double(), mask).dtype == torch.float64
    assert torch.autograd.gradcheck(lambda x: loss(x, mask), logits.double().requires_grad_())


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "boundary"])
def test_nothing_is_read_back_from_the_device(name: str) -> None:
    # tensors without values: reading one raises
    logits, mask = (tensor.to("meta") for tensor in batch())
    LOSSES[name](WEIGHTS).to("meta")(logits.requires_grad_(), mask).backward()
    assert logits.grad is not None


@pytest.mark.parametrize("name", ["weighted, smoothed", "tversky, weighted", "focal, weighted", "ohem, threshold"])
def test_a_number_of_class_weights_that_is_not_the_number_of_classes_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="class_weights: 3 given for 4 classes"):
        LOSSES[name]([1, 2, 3])(*batch())


@pytest.mark.parametrize("weights", [[1.0, -1.0], [float("nan"), 1.0], [0.0, 0.0], [], "enet"])
@pytest.mark.parametrize(
    "name", ["weighted, smoothed", "tversky, weighted", "focal, weighted", "ohem, threshold", "binary cross-entropy"]
)
def test_class_weights_that_are_no_weights_are_refused(name: str, weights: list[float]) -> None:
    with pytest.raises(ValueError, match="class_weights: "):
        LOSSES[name](weights)


def test_class_weights_are_not_in_the_checkpoint_but_follow_the_module() -> None:
    for name in ("weighted, smoothed", "tversky, weighted", "focal, weighted", "ohem, threshold"):
        loss = LOSSES[name](WEIGHTS)
        assert not loss.state_dict()  # another weighting must not make a checkpoint unreadable
        weights = loss.to("meta").class_weights
        assert isinstance(weights, Tensor)
        assert weights.device.type == "meta"


@pytest.mark.parametrize("name", ["dice", "focal", "lovasz", "boundary", "focal, multilabel"])
def test_a_mask_of_another_size_is_a_sentence(name: str) -> None:
    logits, mask = batch()
    with pytest.raises(ValueError, match=r"mask: its shape is \(2, 4, 5\); mode multi.* takes \(2, 5, 5\)"):
        LOSSES[name](WEIGHTS)(logits, mask[:, 1:])
