"""Are ranges on the sweep command's line taken for what is searched, and all else left as it is?"""

import pytest
from hydra import compose
from plans import hydra_started, plan_of

from segtrain.config.searched import gather_ranges
from segtrain.errors import UserError
from segtrain.sweep.written_space import parse_range


@pytest.mark.parametrize(
    "arguments",
    [
        ["model=unet", "loader.batch_size=4", "+trainer.limit_val_batches=2", "~callbacks.predictions"],
        ["gpus=0,1,2,3"],  # devices
        ["gpus=[0,1]", "tags=[a,b]", "sweep.objectives={val/miou: max}"],
        ["dataset.root='/data/a,b'", "storage='postgresql://u@h/a,b'"],
        ["--config-dir", "configs,old", "model=mine"],
        ["name=not(well", "optimizer.lr"],  # Hydra explains these
    ],
)
def test_values_are_left_as_they_are(arguments: list[str]) -> None:
    assert gather_ranges(arguments) == arguments


def texts(*arguments: str) -> dict[str, str]:
    """Return the space of a command by the default options."""
    with hydra_started():
        return plan_of(*arguments).space.texts()


def test_ranges_on_the_command_line_add_to_the_space_and_replace_what_it_has() -> None:
    before = texts()
    after = texts("optimizer.lr=tag(log,interval(1e-5,1e-1))", "model=choice(unet,pspnet)", "ema_decay=0.9,0.99")
    changed = {"optimizer.lr": "tag(log,interval(1e-5,1e-1))", "model": "choice(unet,pspnet)", "ema_decay": "0.9,0.99"}
    assert after == {**before, **changed}


def test_a_range_that_is_replaced_keeps_its_condition() -> None:
    assert texts("loss.gamma=interval(0,2)")["loss.gamma"] == "interval(0,2) when loss=focal"


def test_a_range_of_the_command_line_takes_the_place_of_several() -> None:
    before = texts("sweep=optimizer")
    assert {"optimizer.lr[optimizer=adamw]", "optimizer.lr[optimizer=sgd]"} < before.keys()
    after = texts("sweep=optimizer", "optimizer.lr=tag(log,interval(1e-3,1e-2))")
    assert {name: text for name, text in after.items() if "lr" in name} == {
        "optimizer.lr": "tag(log,interval(1e-3,1e-2))"
    }
    assert not any("lr" in name for name in texts("sweep=optimizer", "~sweep.space.optimizer.lr"))


def test_a_space_may_be_narrowed_to_some_of_its_choices() -> None:
    assert list(texts("sweep=optimizer", "optimizer=choice(adamw)")) == [
        "optimizer",
        "optimizer.lr",
        "optimizer.weight_decay",
        "scheduler",
    ]
    assert "model.output_stride" not in texts("sweep=architecture", "model=choice(unet)")
    assert list(texts("sweep=optimizer", "optimizer='sgd','lion'"))[1] == "optimizer.lr"
    assert texts("sweep=architecture", "model=unet,pspnet")["model.output_stride"] == "choice(8, 16) when model=pspnet"


def test_a_range_may_be_given_to_its_place_in_the_space() -> None:
    assert texts("sweep.space.optimizer.lr=interval(0.1,1)")["optimizer.lr"] == "interval(0.1,1)"
    assert texts("++optimizer.lr=interval(0.1,1)")["optimizer.lr"] == "interval(0.1,1)"


def test_a_parameter_is_taken_out_of_the_space() -> None:
    left = texts("~sweep.space.loss", "~sweep.space.loss.gamma", "~sweep.space.optimizer.lr")
    assert list(left) == ["optimizer.weight_decay"]


@pytest.mark.parametrize(
    "text", [r"'it\'s',b", "choice('a#b',c)", """choice("it's",b)""", "'a b',c", r"'a\,b',c", "c,'d\\\\'"]
)
def test_quoted_choices_come_through_as_they_were_typed(text: str) -> None:
    with hydra_started():
        assert parse_range("name", text) in plan_of(f"name={text}").space.parameters


def test_only_an_override_of_the_space_is_added_to_the_command_line() -> None:
    arguments = gather_ranges(["--config-dir", "mine", "model=unet,fcn", "loss=ce"])
    assert arguments == ["--config-dir", "mine", "loss=ce", "++sweep.ranges={model:'unet,fcn'}"]
    with hydra_started():
        assert compose("sweep", overrides=["loss=ce", arguments[-1]]).sweep.ranges == {"model": "unet,fcn"}


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("n_trials=10,20", r"n_trials: 'n_trials=10,20' is a range, and a setting of the search itself"),
        ("sweep=lr_wd_loss,optimizer", r"sweep: .* is a range, and a setting of the search itself"),
        ("sweep.warmup=range(1,5)", r"sweep\.warmup: .* is a range, and a setting of the search itself"),
        ("seed=0,1,2", r"seed: it is not searched .*; give seeds=N"),
        ("test=true,false", r"test: it is not searched"),
        ("paths.output=a,b", r"paths\.output: it is not searched"),
        ("hydra.run.dir=a,b", r"hydra\.run\.dir: Hydra's own settings are not searched"),
    ],
)
def test_what_cannot_be_searched_is_a_sentence(argument: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        gather_ranges([argument])


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("optimizer.lr=interval(1,0.1)", r"sweep\.space\.optimizer\.lr: .*wrong way round; give interval\(0\.1, 1\)"),
        ("optimizer.lr=interval(0.1,inf)", r"sweep\.space\.optimizer\.lr: .*the ends of an interval are finite"),
        ("optimizer.lr=range(nan,1)", r"sweep\.space\.optimizer\.lr: .*the ends and steps of a range are finite"),
        ("optimizer.lr=tag(foo,interval(0.1,1))", r"sweep\.space\.optimizer\.lr: .*unknown tag 'foo'"),
        ("optimizer.lr=interval(0.1)", r"sweep\.space\.optimizer\.lr: 'interval\(0\.1\)' is no range: .*takes choice"),
        ("optimizer.lr=0.1", r"optimizer\.lr: it is searched, and 'optimizer\.lr=0\.1' gives it a value; leave one"),
        ("~sweep.space.loss", r"sweep\.space\.loss\.gamma\.when: loss=focal, and loss is not searched"),
        ("hydra/launcher=basic", r"hydra/launcher: it is of grids"),
    ],
)
def test_a_range_that_cannot_be_is_a_sentence(argument: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence), hydra_started():
        plan_of(argument)
