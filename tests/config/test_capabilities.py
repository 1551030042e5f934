"""Is what a device cannot do refused before training, where Lightning would do something else?"""

from typing import Any

import pytest
import torch

from segtrain.config.capabilities import capability_problems


@pytest.mark.parametrize(
    ("trainer", "sentence"),
    [
        ({"accelerator": "cpu", "precision": "16-mixed"}, "trainer.precision: 16-mixed trains in float16, and a CPU"),
        ({"accelerator": "cpu", "precision": 16}, "trainer.precision: 16 trains in float16"),
        ({"accelerator": "mps", "precision": "64-true"}, "trainer.precision: 64-true is not to be had on an Apple GPU"),
        ({"accelerator": "cpu", "precision": "bf17"}, "trainer.precision: 'bf17' is none of auto, 32-true"),
        ({"accelerator": "cpu", "precision": "bf16-true"}, "trainer.precision: 'bf16-true' is none of"),
        (
            {"accelerator": "cpu", "strategy": "ddp", "sync_batchnorm": True},
            "trainer.sync_batchnorm: true, and torch synchronises batch norms on GPUs alone, not on cpu; give "
            "trainer.sync_batchnorm=false",
        ),
    ],
)
def test_what_a_device_lacks_is_a_sentence(trainer: dict[str, Any], sentence: str) -> None:
    (problem,) = capability_problems(trainer)
    assert problem.startswith(sentence)


@pytest.mark.parametrize("precision", [None, "auto", "32-true", 32, "bf16-mixed", "64-true"])
def test_what_a_cpu_has_is_none(precision: Any) -> None:
    assert capability_problems({"accelerator": "cpu", "precision": precision}) == []


@pytest.mark.parametrize("supported", [True, False])
def test_an_old_gpu_has_no_bfloat16(supported: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    problems = capability_problems({"accelerator": "auto", "precision": "bf16-mixed", "sync_batchnorm": True})
    assert problems == (
        []
        if supported
        else ["trainer.precision: bf16-mixed needs bfloat16, which Tesla T4 lacks; give 16-mixed, 32-true or auto"]
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_another_sentence() -> None:
    assert capability_problems({"accelerator": "gpu", "precision": "bf16-mixed", "sync_batchnorm": True}) == []


def test_an_evaluation_synchronises_nothing() -> None:
    assert capability_problems({"accelerator": "cpu", "sync_batchnorm": True}, evaluation=True) == []
