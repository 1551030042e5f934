"""Do the names of weightings become numbers, wherever a loss's config has them, and wrong ones a sentence?"""

from collections.abc import Callable
from typing import Any

import pytest

from segtrain.class_weights import WORDS, resolve_class_weights
from segtrain.config.problems import find_problems
from segtrain.errors import UserError

LENGTHS = {"inverse_frequency": 1.0, "median_frequency": 2.0, "enet": 3.0, "effective_number": 4.0}


def weights_of(name: str) -> list[float]:
    return [LENGTHS[name], 0.5]


@pytest.mark.parametrize("word", LENGTHS)
def test_a_word_becomes_its_weights(word: str) -> None:
    node = {"_target_": "a.Loss", "ignore_index": 255, "class_weights": word}
    expected = {"_target_": "a.Loss", "ignore_index": 255, "class_weights": [LENGTHS[word], 0.5]}
    assert resolve_class_weights(node, weights_of) == expected
    assert node["class_weights"] == word  # what a checkpoint carries


def test_auto_is_median_frequency() -> None:
    assert resolve_class_weights({"class_weights": "auto"}, weights_of) == {"class_weights": [2.0, 0.5]}


def test_losses_inside_losses_are_resolved_and_each_name_asked_for_once() -> None:
    asked = []

    def counted(name: str) -> list[float]:
        asked.append(name)
        return weights_of(name)

    inner = [{"class_weights": "auto"}, {"class_weights": [1, 2]}, {"class_weights": None}, {"smooth": 1.0}]
    node = {"weights": [1, 2], "losses": [*inner, {"losses": [{"class_weights": "median_frequency"}]}]}
    found = resolve_class_weights(node, counted)
    assert found["weights"] == [1, 2]
    assert [loss.get("class_weights") for loss in found["losses"]] == [[2.0, 0.5], [1, 2], None, None, None]
    assert found["losses"][4] == {"losses": [{"class_weights": [2.0, 0.5]}]}
    assert asked == ["median_frequency"]


def test_a_loss_without_words_asks_for_nothing() -> None:
    def never(name: str) -> list[float]:
        raise AssertionError(name)

    node = {"class_weights": [1.0, 2.0], "losses": [{"class_weights": None}]}
    assert resolve_class_weights(node, never) == node


def test_an_unknown_word_is_refused_with_the_accepted_ones() -> None:
    node = {"losses": [{"class_weights": "none"}, {"class_weights": "median"}]}
    with pytest.raises(UserError) as error:
        resolve_class_weights(node, weights_of)
    first, second = str(error.value).splitlines()
    assert first.startswith("loss.losses[0].class_weights: 'none' is no weighting")
    assert second.startswith("loss.losses[1].class_weights: 'median' is no weighting.")
    assert all(", ".join(WORDS) in line for line in (first, second))


@pytest.mark.parametrize("word", WORDS)
def test_the_check_accepts_the_words(word: str, train_config: Callable[..., dict[str, Any]]) -> None:
    for override in (f"loss.class_weights={word}", f"loss.losses.0.class_weights={word}"):
        group = "loss=ce_dice" if "losses" in override else "loss=focal"
        assert find_problems(train_config(group, override, "trainer=cpu")) == []


@pytest.mark.parametrize("value", ["enett", "7", "[a,b]"])
def test_the_check_refuses_what_is_no_weighting_once(value: str, train_config: Callable[..., dict[str, Any]]) -> None:
    (problem,) = find_problems(train_config("loss=ce", f"loss.class_weights={value}", "trainer=cpu"))
    assert problem.startswith("loss.class_weights: ")
    assert ("Did you mean enet?" in problem) == (value == "enett")
