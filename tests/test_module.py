"""Does the module train what it says, score every image once, and depend on its seed alone?"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, jaccard_score
from tiny import NAMES, VOID, Brightness, TinyNet, TinySamples, evaluation_loader, tiny_module, trainer, training_loader
from torch import Tensor, nn

from segtrain.callbacks.training_loss import TrainingLoss
from segtrain.inference.any_size import AnySize
from segtrain.schedulers import PolyLR

ONE_SIZE = ((8, 8),)
SEVERAL_SIZES = ((8, 8), (5, 11), (16, 3))
each_size = pytest.mark.parametrize("sizes", [ONE_SIZE, SEVERAL_SIZES], ids=["one size", "several sizes"])


@each_size
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_the_scores_are_scikit_learns_over_all_pixels_whatever_the_batch_size(
    sizes: tuple[tuple[int, int], ...], batch_size: int, tmp_path: Path
) -> None:
    samples = TinySamples(5, sizes=sizes)
    module = tiny_module(Brightness())
    loader = evaluation_loader(samples, batch_size=batch_size)
    (values,) = trainer(tmp_path).validate(module, loader, verbose=False)

    parts = [samples[0, index] for index in range(5)]
    truth = np.concatenate([part["mask"].ravel() for part in parts])
    red = np.concatenate([part["image"][..., 0].ravel() for part in parts])
    predicted = np.digitize(red, [85, 170])
    valid = truth != VOID
    ious = jaccard_score(truth[valid], predicted[valid], average=None)
    assert values["val/miou"] == pytest.approx(ious.mean(), abs=1e-6)
    assert values["val/pixel_accuracy"] == pytest.approx(accuracy_score(truth[valid], predicted[valid]), abs=1e-6)
    assert {f"val/iou/{name}" for name in NAMES} <= values.keys()
    assert module.scored.sum() == valid.sum()


def test_the_score_does_not_change_by_a_bit_with_the_batch_size(tmp_path: Path) -> None:
    found = [
        trainer(tmp_path).test(tiny_module(), evaluation_loader(TinySamples(5), batch_size=size), verbose=False)[0]
        for size in (1, 2, 5)
    ]
    scores = [{name: value for name, value in values.items() if name != "test/loss"} for values in found]
    assert scores[0] == scores[1] == scores[2]


def test_a_second_evaluation_starts_from_zero(tmp_path: Path) -> None:
    module, loader = tiny_module(), evaluation_loader(TinySamples())
    matrices = []
    for _ in range(2):
        trainer(tmp_path).validate(module, loader, verbose=False)
        matrices.append(module.scored.clone())
    assert torch.equal(*matrices)


@each_size
def test_predictions_are_the_classes_of_each_image_at_its_size(sizes: tuple[tuple[int, int], ...]) -> None:
    module, samples = tiny_module(Brightness()), TinySamples(3, sizes=sizes)
    (batch,) = evaluation_loader(samples, batch_size=3)
    predictions = module.validation_step(batch, 0)["predictions"]
    for index, prediction in enumerate(predictions):
        image = samples[0, index]["image"]
        expected = Brightness()(torch.from_numpy(image / 255).permute(2, 0, 1)[None].float()).argmax(dim=1)[0]
        assert torch.equal(prediction, expected)


class WithAuxiliary(nn.Module):
    """Logits, and auxiliary ones in training."""

    aux_weights = {"aux": 0.4}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.main, self.side = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, image: Tensor) -> Any:
        return {"out": self.main(image), "aux": self.side(image)} if self.training else self.main(image)


def test_auxiliary_logits_add_their_share_of_loss() -> None:
    module = tiny_module(WithAuxiliary())
    (batch,) = evaluation_loader(TinySamples(2))
    loss = module.training_step(batch, 0)
    image, mask = batch["image"].float() / 255, batch["mask"].long()
    torchs = nn.CrossEntropyLoss(ignore_index=VOID)
    model = module.model
    torch.testing.assert_close(loss, torchs(model.main(image), mask) + 0.4 * torchs(model.side(image), mask))


def test_auxiliary_logits_without_a_weight_are_refused_by_name() -> None:
    module = tiny_module(WithAuxiliary())
    module.model.aux_weights = {}
    (batch,) = evaluation_loader(TinySamples(2))
    with pytest.raises(ValueError, match=r"WithAuxiliary\.aux_weights has no weight for \['aux'\]"):
        module.training_step(batch, 0)


def test_whole_images_go_through_the_any_size_path() -> None:
    seen: list[tuple[int, ...]] = []
    module = tiny_module(any_size=AnySize(stride=16))
    module.model.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[2:])))
    logits = module.eval().predict_logits(torch.zeros(1, 3, 9, 20, dtype=torch.uint8))
    assert logits.shape == (1, 3, 9, 20)
    assert logits.dtype == torch.float32
    assert seen == [(16, 32)]


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_network_gets_the_memory_format_that_is_asked_for(channels_last: bool) -> None:
    module = tiny_module(channels_last=channels_last)
    formats: list[bool] = []
    module.model.register_forward_pre_hook(
        lambda _, inputs: formats.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
    )
    module(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    assert formats == [channels_last]


def draws(module: Any, batch: int) -> Tensor:
    module.on_train_batch_start({}, batch)
    return torch.rand(4)


def test_a_steps_random_numbers_depend_on_its_number_and_not_on_what_was_drawn_before() -> None:
    module = tiny_module()
    first = [draws(module, batch) for batch in (0, 1, 2)]
    torch.rand(100)
    assert torch.equal(draws(module, 1), first[1])
    assert len({tuple(values.tolist()) for values in first}) == 3
    assert not torch.equal(draws(tiny_module(seed=1), 1), first[1])


def test_without_a_seed_the_random_numbers_are_left_alone() -> None:
    module = tiny_module(seed=None)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    assert torch.equal(draws(module, 5), expected)


def test_training_steps_the_schedule_every_batch_to_zero_and_lowers_the_loss(tmp_path: Path) -> None:
    module = tiny_module(scheduler=lambda optimizer: PolyLR(optimizer, total_steps=60))
    lightning = trainer(tmp_path, TrainingLoss(), max_epochs=20)
    before = trainer(tmp_path).validate(module, evaluation_loader(TinySamples()), verbose=False)[0]
    lightning.fit(module, training_loader(TinySamples()))
    after = trainer(tmp_path).validate(module, evaluation_loader(TinySamples()), verbose=False)[0]
    assert lightning.global_step == 60
    assert lightning.optimizers[0].param_groups[0]["lr"] == 0
    assert after["val/loss"] < before["val/loss"]
    assert after["val/miou"] > before["val/miou"]
    assert "train/loss" in lightning.callback_metrics


def test_the_loss_of_an_evaluation_does_not_depend_on_its_batches(tmp_path: Path) -> None:
    losses = [
        trainer(tmp_path).validate(tiny_module(), evaluation_loader(TinySamples(7), batch_size=size), verbose=False)
        for size in (1, 3, 7)
    ]
    expected = losses[0][0]["val/loss"]
    assert [values["val/loss"] for (values,) in losses] == pytest.approx([expected] * 3, rel=1e-6)


def test_two_runs_of_one_seed_end_with_the_same_weights(tmp_path: Path) -> None:
    weights = []
    for noise in (0, 5):
        module = tiny_module()
        torch.rand(noise)
        trainer(tmp_path, max_epochs=2).fit(module, training_loader(TinySamples()))
        weights.append(module.state_dict())
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name


def test_a_module_without_a_schedule_keeps_the_learning_rate() -> None:
    assert isinstance(tiny_module().configure_optimizers(), torch.optim.SGD)


def test_dropout_is_off_when_scoring() -> None:
    module = tiny_module(TinyNet()).eval()
    image = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
    assert torch.equal(module.predict_logits(image), module.predict_logits(image))


def test_a_class_that_no_mask_has_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class NoneBright(TinySamples):
        def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
            sample = super().__getitem__(key)
            sample["mask"] = np.where(sample["mask"] == 2, VOID, sample["mask"])
            return sample

    module = tiny_module(Brightness())
    for _ in range(2):
        trainer(tmp_path).validate(module, evaluation_loader(NoneBright(3)), verbose=False)
    warnings = [record.getMessage() for record in caplog.records if record.name == "segtrain"]
    assert len(warnings) == 1
    assert warnings[0].startswith("val: no mask has a pixel of bright, so the means leave them out")
