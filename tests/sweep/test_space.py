"""Is a search space what Hydra's words say, and a mistake in one a sentence?"""

import itertools
from typing import Any

import optuna
import pytest
from hydra import compose
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from sweep.plans import hydra_started

from segtrain.config.quoting import quote_paths
from segtrain.errors import UserError
from segtrain.sweep.combinations import combinations
from segtrain.sweep.ranges import values_of
from segtrain.sweep.space import by_key
from segtrain.sweep.written_space import left_out, parse_space


@pytest.mark.parametrize(
    ("text", "distribution"),
    [
        ("choice(ce, focal)", CategoricalDistribution(["ce", "focal"])),
        ("ce,focal", CategoricalDistribution(["ce", "focal"])),
        ("choice([1,2], [3])", CategoricalDistribution(["[1,2]", "[3]"])),
        ("interval(0, 1)", FloatDistribution(0.0, 1.0)),
        ("tag(log, interval(1e-4, 1e-2))", FloatDistribution(1e-4, 1e-2, log=True)),
        ("int(interval(1, 8))", IntDistribution(1, 8)),
        ("range(1, 10, step=3)", IntDistribution(1, 7, step=3)),
        ("range(1, 11, step=3)", IntDistribution(1, 10, step=3)),
        ("range(0, 1, step=0.25)", FloatDistribution(0.0, 0.75, step=0.25)),
        ("tag(log, range(1, 100))", IntDistribution(1, 99, log=True)),
    ],
)
def test_hydras_words_are_optunas_distributions(text: str, distribution: Any) -> None:
    (parameter,) = parse_space({"a": text}).parameters
    assert parameter.distribution == distribution


def test_the_values_of_a_range_are_pythons() -> None:
    space = parse_space({"a": "range(1, 10, step=3)", "b": "choice(x, y)", "c": "range(0, 1, step=0.25)"})
    assert space.grid() == {"a": list(range(1, 10, 3)), "b": ["x", "y"], "c": [0.0, 0.25, 0.5, 0.75]}


CONDITIONAL = {
    "loss.gamma": {"range": "interval(1, 4)", "when": "loss=focal"},
    "loss": "choice(ce, focal)",
    "optimizer.lr": "tag(log, interval(1e-4, 1e-2))",
}


def test_a_parameter_with_a_condition_is_drawn_after_it_and_only_where_it_holds() -> None:
    space = parse_space(CONDITIONAL)
    assert [parameter.key for parameter in space.parameters] == ["loss", "loss.gamma", "optimizer.lr"]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [space.draw(study.ask()._suggest) for _ in range(20)]
    assert {values["loss"] for values in drawn} == {"ce", "focal"}
    assert all(("loss.gamma" in values) == (values["loss"] == "focal") for values in drawn)
    assert all("optimizer.lr" in values for values in drawn)


EACH_ITS_OWN = {
    "lr": {"when": {"optimizer=adamw,muon": "tag(log, interval(1e-5, 1e-3))", "optimizer=sgd": "interval(0.1, 1)"}},
    "optimizer": "choice(adamw, sgd, muon, rprop)",
}


def test_a_key_may_have_a_range_for_each_choice_of_another() -> None:
    space = parse_space(EACH_ITS_OWN)
    assert [parameter.name for parameter in space.parameters] == [
        "optimizer",
        "lr[optimizer=adamw,muon]",
        "lr[optimizer=sgd]",
    ]
    sampler = optuna.samplers.TPESampler(seed=0, n_startup_trials=5, multivariate=True, group=True)
    study = optuna.create_study(sampler=sampler)
    ranges = {"adamw": (1e-5, 1e-3), "muon": (1e-5, 1e-3), "sgd": (0.1, 1)}
    seen = set()
    for _ in range(40):
        trial = study.ask()
        values = space.draw(trial._suggest)
        study.tell(trial, float(len(seen)))
        plain = by_key(values)
        seen.add(plain["optimizer"])
        if plain["optimizer"] == "rprop":
            assert plain.keys() == {"optimizer"}
            continue
        low, high = ranges[plain["optimizer"]]
        assert low <= plain["lr"] <= high
        assert space.overrides(values) == [f"optimizer={plain['optimizer']}", f"lr={plain['lr']!r}"]
    assert seen == {"adamw", "sgd", "muon", "rprop"}


def test_a_condition_may_be_a_choice_of_any_of_several_ranges() -> None:
    encoder = {"when": {"model=unet": "choice(r18, r50)", "model=pspnet": "choice(r50, r101)"}}
    stride = {"range": "choice(8, 16)", "when": "encoder=r50,r101"}
    space = parse_space({"model": "choice(unet, pspnet)", "stride": stride, "encoder": encoder})
    found = combinations(space)
    assert found is not None
    plain = [by_key(values) for values in found]
    assert [(v["model"], v["encoder"], v.get("stride")) for v in plain] == [
        ("unet", "r18", None),
        ("unet", "r50", "8"),
        ("unet", "r50", "16"),
        ("pspnet", "r50", "8"),
        ("pspnet", "r50", "16"),
        ("pspnet", "r101", "8"),
        ("pspnet", "r101", "16"),
    ]


def test_one_range_by_condition_is_a_range_with_a_condition() -> None:
    one = {"range": "interval(0, 1)", "when": "b=x"}
    by_condition = {"when": {"b=x": "interval(0, 1)", "b=y": None}}
    assert parse_space({"a": by_condition, "b": "x,y"}) == parse_space({"a": one, "b": "x,y"})


def texts(words: dict[str, Any], **typed: str | None) -> dict[str, str]:
    return parse_space(words, typed).texts()


@pytest.mark.parametrize(
    ("of_a_file", "condition"),
    [
        ("interval(0, 1)", ""),
        ({"range": "interval(0, 1)", "when": "b=x,y"}, " when b=x,y"),
        ({"when": {"b=x": "interval(0, 1)", "b=z": "interval(2, 3)"}}, " when b=x,z"),
        ({"when": {"b=x": "interval(0, 1)", "b=y,z": "interval(2, 3)"}}, ""),
    ],
)
def test_a_typed_range_takes_the_place_of_a_files_under_its_conditions(of_a_file: Any, condition: str) -> None:
    assert texts({"a": of_a_file, "b": "x,y,z"}, a="interval(7, 8)") == {
        "b": "x,y,z",
        "a": f"interval(7, 8){condition}",
    }


def test_typed_ranges_find_keys_however_a_file_has_them() -> None:
    nested = {"optimizer": {"lr": "interval(0, 1)"}, "+loss.gamma": "interval(1, 2)"}
    typed = {"optimizer.lr": "interval(0, 2)", "optimizer": "adamw,sgd", "loss.gamma": "interval(3, 4)"}
    assert parse_space(nested, typed).texts() == {
        "optimizer.lr": "interval(0, 2)",
        "+loss.gamma": "interval(3, 4)",
        "optimizer": "adamw,sgd",
    }
    assert parse_space(nested, {"loss.gamma": None}).texts() == {"optimizer.lr": "interval(0, 1)"}
    with pytest.raises(UserError, match=r"~sweep\.space\.loss\.gama: it is not searched\. Did you mean \+?loss\.gamma"):
        parse_space(nested, {"loss.gama": None})


NARROWED = {
    **EACH_ITS_OWN,
    "momentum": {"range": "true,false", "when": "optimizer=sgd"},
    "nesterov": {"range": "true,false", "when": "momentum=true"},
}


def test_where_typed_choices_are_fewer_what_depends_on_the_others_is_not_searched() -> None:
    assert texts(NARROWED, optimizer="choice(adamw, muon)") == {
        "optimizer": "choice(adamw, muon)",
        "lr": "tag(log, interval(1e-5, 1e-3))",  # holds in every trial now
    }
    assert texts(NARROWED, optimizer="choice('sgd')")["nesterov"] == "true,false when momentum=True"
    assert texts(NARROWED, optimizer="rprop,lion") == {"optimizer": "rprop,lion"}
    with pytest.raises(UserError, match=r"nesterov\.when: momentum=True, and momentum is not searched"):
        texts(NARROWED, momentum=None)


def test_a_condition_of_a_file_on_a_choice_that_it_never_had_is_a_mistake() -> None:
    wrong = {**NARROWED, "momentum": {"range": "true,false", "when": "optimizer=sdg"}}
    for typed in ({}, {"optimizer": "choice(adamw, sgd)"}):
        with pytest.raises(UserError, match=r"optimizer has no choice sdg\. Did you mean sgd\?"):
            parse_space(wrong, typed)


def test_a_typed_range_that_no_trial_would_have_is_a_sentence() -> None:
    with pytest.raises(UserError, match=r"lr: its range is only for optimizer=adamw,muon,sgd, which no trial has"):
        texts(EACH_ITS_OWN, optimizer="rprop,lion", lr="interval(0, 1)")


def test_the_space_is_the_same_whatever_is_dropped_beside_it() -> None:
    chain = {
        "b": "x,y,z",
        "a": {"range": "p,q", "when": "b=x,y"},
        "c": {"range": "interval(1, 2)", "when": "a=p,q"},
        "d": {"range": "interval(3, 4)", "when": "b=z"},
    }
    few = texts(chain, b="x,y")
    assert few == {"b": "x,y", "a": "p,q", "c": "interval(1, 2)"}
    assert texts({key: chain[key] for key in "bac"}, b="x,y") == few


def test_what_is_searched_in_no_trial_or_has_no_range_for_a_choice_is_told() -> None:
    def told(words: dict[str, Any], **typed: str | None) -> list[str]:
        return left_out(words, typed, parse_space(words, typed))

    assert told(EACH_ITS_OWN) == ["lr: no range for optimizer=rprop, whose trials have the config's value"]
    assert told({**EACH_ITS_OWN, "lr": {"when": {**EACH_ITS_OWN["lr"]["when"], "optimizer=rprop": None}}}) == []
    assert told(EACH_ITS_OWN, optimizer="choice(sgd, lion)") == [
        "lr: no range for optimizer=lion, whose trials have the config's value"
    ]
    assert told(EACH_ITS_OWN, optimizer="choice(sgd, adamw)") == []
    assert told(CONDITIONAL) == []
    assert told(NARROWED, optimizer="rprop,lion") == [
        "lr: searched only where optimizer=adamw,muon,sgd, so in no trial",
        "momentum: searched only where optimizer=sgd, so in no trial",
        "nesterov: searched only where momentum=True, so in no trial",
    ]
    assert told(NARROWED, optimizer="rprop,lion", lr=None, momentum=None, nesterov=None) == []


def test_values_may_be_given_by_key() -> None:
    space = parse_space(EACH_ITS_OWN)
    assert space.overrides({"lr": 0.5, "optimizer": "sgd"}) == ["optimizer=sgd", "lr=0.5"]
    with pytest.raises(AssertionError, match="not of this space: momentum"):
        space.overrides({"momentum": 0.9})


def test_values_become_overrides_that_hydra_reads_back_to_the_bit() -> None:
    space = parse_space(CONDITIONAL)
    values = {"loss": "focal", "loss.gamma": 1 / 3, "optimizer.lr": 1e-05 / 3}
    overrides = space.overrides(values)
    assert overrides[0] == "loss=focal"
    assert float(overrides[1].partition("=")[2]) == 1 / 3
    assert float(overrides[2].partition("=")[2]) == 1e-05 / 3


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({}, r"sweep\.space: nothing to search"),
        ({"a": "interval(3, 1)"}, r"sweep\.space\.a: .*wrong way round; give interval\(1, 3\)"),
        ({"a": "range(5, 1)"}, r"sweep\.space\.a: .*no value from 5 to below 1"),
        ({"a": "interval(0.1, inf)"}, r"sweep\.space\.a: .*the ends of an interval are finite, and not inf; give num"),
        ({"a": "interval(nan, 1)"}, r"the ends of an interval are finite, and not nan"),
        ({"a": "tag(log, interval(1e-5, 1e999))"}, r"the ends of an interval are finite, and not inf"),
        ({"a": "range(0, inf)"}, r"sweep\.space\.a: .*the ends and steps of a range are finite, and not inf"),
        ({"a": "range(nan, 1)"}, r"the ends and steps of a range are finite, and not nan"),
        ({"a": "range(0, 1, step=nan)"}, r"the ends and steps of a range are finite, and not nan"),
        ({"a": "5"}, r"sweep\.space\.a: 5: one value and no range"),
        ({"a": "interval(1"}, r"sweep\.space\.a: 'interval\(1' is no range"),
        ({"a": "tag(log, interval(0, 1))"}, r"a log scale begins above 0"),
        ({"a": "tag(log, choice(1, 2))"}, r"choices have no log scale"),
        ({"a": "tag(lag, interval(1, 2))"}, r"unknown tag 'lag'"),
        ({"a": {"when": {}}}, r"sweep\.space\.a\.when: it has no range; give each condition"),
        ({"a": {"when": {"b=1": "1,2"}, "range": "1,2"}, "b": "1,2"}, r"space\.a: a range, and ranges by condition"),
        ({"a": {"when": {"b=1": {"range": "1,2"}}}, "b": "1,2"}, r"a\.when\.b=1: {'range': '1,2'} is no range; give"),
        ({"a": {"when": {"b=": "1,2"}}, "b": "1,2"}, r"sweep\.space\.a\.when: 'b=' is no KEY=CHOICE"),
        ({"a": {"when": ["b=1"], "range": "1,2"}, "b": "1,2"}, r"a\.when: \['b=1'\] is no KEY=CHOICE"),
        ({"a": ["x", "y"]}, r"sweep\.space\.a: \['x', 'y'\] is no range; give choice"),
        ({"a": {"when": {"b=1": "1,2"}, "wen": 1}, "b": "1,2"}, r"sweep\.space\.a\.wen: no such key"),
        ({"a": {"when": {"b": "1,2"}}, "b": "1,2"}, r"sweep\.space\.a\.when: 'b' is no KEY=CHOICE"),
        (
            {"a": {"when": {"b=1": "3,4", "b=2": "range(4, 3)"}}, "b": "1,2"},
            r"space\.a\.when\.b=2: .*no value from 4",
        ),
        (
            {"a": {"when": {"b=1": "1,2", "c=1": "3,4"}}, "b": "1,2", "c": "1,2"},
            r"sweep\.space\.a\.when: ranges by b and by c, which may hold at the same time",
        ),
        (
            {"a": {"when": {"b=1": "1,2", "b=2,1": "3,4"}}, "b": "1,2"},
            r"sweep\.space\.a\.when: two ranges for b=1; leave one out",
        ),
        ({"a": {"when": {"b=1": "1,2", "b=3": "3,4"}}, "b": "1,2"}, r"a\.when: b=3, and b has no choice 3\."),
        ({"a": {"when": "b=1"}}, r"sweep\.space\.a\.range: missing"),
        ({"a": {"range": "1,2", "wen": "b=1"}}, r"sweep\.space\.a\.wen: no such key"),
        ({"a": {"range": "1,2", "when": "b"}}, r"sweep\.space\.a\.when: 'b' is no KEY=CHOICE"),
        ({"a": {"range": "1,2", "when": "b=1"}}, r"a\.when: b=1, and b is not searched"),
        ({"a": {"range": "1,2", "when": "b=3"}, "b": "1,2"}, r"b=3, and b has no choice 3\. \(has: 1, 2\)"),
        ({"a": {"range": "1,2", "when": "b=1"}, "b": "interval(1, 2)"}, r"b has no choices but a range"),
        (
            {"a": {"range": "1,2", "when": "b=1"}, "b": {"range": "1,2", "when": "a=1"}},
            r"sweep\.space\.a\.when: depends on itself",
        ),
    ],
)
def test_a_space_that_cannot_be_searched_is_a_sentence(words: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        parse_space(words)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [({"a": "interval(0, 1)"}, "no end of values for a grid"), (CONDITIONAL, "a grid takes no conditions")],
)
def test_a_grid_needs_values_that_can_be_counted(words: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        parse_space(words).grid()


def test_a_condition_may_name_several_choices() -> None:
    space = parse_space({"a": "choice(x, y, z)", "b": {"range": "interval(0, 1)", "when": "a=x, y"}})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [space.draw(study.ask()._suggest) for _ in range(30)]
    assert {values["a"] for values in drawn if "b" in values} == {"x", "y"}
    assert {values["a"] for values in drawn if "b" not in values} == {"z"}
    assert space.texts()["b"] == "interval(0, 1) when a=x,y"


@pytest.mark.parametrize(("text", "condition"), [("true,false", "TRUE"), ("[1,2],[3]", "[1, 2]"), ("null,x", "null")])
def test_a_condition_is_read_as_the_choices_are(text: str, condition: str) -> None:
    space = parse_space({"a": text, "b": {"range": "1,2", "when": f"a={condition}"}})
    searched, dependent = space.parameters
    assert dependent.when is not None
    assert isinstance(searched.distribution, CategoricalDistribution)
    assert dependent.when[1][0] in searched.distribution.choices


@pytest.mark.parametrize(
    ("text", "choices"),
    [
        ("choice('a#b', c)", ["'a#b'", "c"]),
        ("choice('a,b', c)", ["'a,b'", "c"]),
        ("choice('true', true)", ["'true'", "True"]),
        ("choice(null, 'null')", ["null", "'null'"]),
        ("a,'a',\"a\"", ["a"]),
        ("'1',1", ["'1'", "1"]),
        (r"""choice("it's", 'it\'s')""", [r"'it\'s'"]),
        (r""" "it's",'it\'s' """.strip(), [r"'it\'s'"]),
    ],
)
def test_a_choice_is_in_quotes_where_it_needs_them_and_once_in_the_space(text: str, choices: list[str]) -> None:
    (parameter,) = parse_space({"a": text}).parameters
    assert parameter.distribution == CategoricalDistribution(choices)


def test_a_quoted_choice_is_the_same_value_in_a_trials_config() -> None:
    quoted = {
        "'a#b'": "a#b",
        '"it\'s"': "it's",
        "'a, b'": "a, b",
        "'true'": "true",
        "'12'": "12",
        "'null'": "null",
        "'café'": "café",
        "'/data/a b'": "/data/a b",
        "'/data/a,b'": "/data/a,b",
        r"'C:\\'": "C:\\",
        r"'/data/a\b'": r"/data/a\b",
        "''": "",
    }
    places = itertools.product(["choice({}, plain)", "{},plain"], ["name", "weights"])  # commands put paths in quotes
    words: dict[str, Any] = {}
    for number, (listed, key) in enumerate(places):
        for place, text in enumerate(quoted):
            words[f"+given{number}_{place}.{key}"] = listed.format(text)
            words[f"+held{number}.x{place}"] = {"range": "1,2", "when": f"+given{number}_{place}.{key}={text}"}
    space = parse_space(words)
    drawn = space.draw(lambda name, distribution: values_of(distribution)[0])
    assert drawn.keys() == words.keys()  # each condition holds
    with hydra_started():
        cfg = compose("train", overrides=quote_paths(space.overrides(drawn)))
    for number in range(4):
        values = [next(iter(cfg[f"given{number}_{place}"].values())) for place in range(len(quoted))]
        assert values == list(quoted.values())


def test_keys_may_be_nested_as_in_a_config_and_null_is_not_searched() -> None:
    nested = {"optimizer": {"lr": "interval(0, 1)", "weight_decay": None}, "loss": "ce,focal"}
    assert parse_space(nested) == parse_space({"optimizer.lr": "interval(0, 1)", "loss": "ce,focal"})


def test_a_condition_is_of_the_choice_that_is_written_and_of_another_in_quotes_only_without_it() -> None:
    both = parse_space({"a": "choice(1,'1',2)", "x": {"range": "range(1,3)", "when": "a='1'"}})
    assert both.of("x")[0].when == ("a", ("'1'",))
    number = parse_space({"a": "choice(1,2)", "x": {"range": "range(1,3)", "when": "a='1'"}})
    assert number.of("x")[0].when == ("a", ("1",))
