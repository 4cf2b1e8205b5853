"""Lists in a model's settings: one model for each combination, which experiments find by name."""

from __future__ import annotations

import copy
import math
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pileline import checks, config, sweeps

from tests.conftest import default_config

DEFAULT = default_config()
SMALL = {"kind": "transformer", "layers": 1, "heads": 2, "width": 32, "context": 32}


def configuration(models: dict[str, Any], names: Any = "*") -> dict[str, Any]:
    raw: dict[str, Any] = copy.deepcopy(DEFAULT)
    raw["models"] = models
    raw["experiments"] = [{"corpus": "demo", "tokenizer": "bpe2k", "model": names}]
    return raw


def parts(models: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = config.check(configuration(models)).settings["models"]
    return found


def test_a_list_in_a_setting_gives_a_model_for_each_value() -> None:
    found = parts({"small": SMALL | {"matrix_rate": [0.01, 0.03]}, "ngram": {"kind": "ngram"}})
    assert list(found) == ["small-matrix_rate-0.01", "small-matrix_rate-0.03", "ngram"]
    alone = parts({"small": SMALL | {"matrix_rate": 0.03}})["small"]
    assert found["small-matrix_rate-0.03"] == alone


def test_several_lists_multiply_in_the_order_of_the_file() -> None:
    found = parts({"s": SMALL | {"steps": [10, 20], "schedule": ["cosine", "wsd"]}})
    assert list(found) == [
        f"s-steps-{steps}-schedule-{schedule}" for steps in (10, 20) for schedule in ("cosine", "wsd")
    ]
    assert {(part["steps"], part["schedule"]) for part in found.values()} == {
        (steps, schedule) for steps in (10, 20) for schedule in ("cosine", "wsd")
    }


def test_values_are_named_as_yaml_writes_them() -> None:
    found = parts({"s": SMALL | {"tied": [True, None]}, "t": SMALL | {"optimizer": "adamw", "rate": [1e-05, 0.5]}})
    assert list(found) == ["s-tied-true", "s-tied-null", "t-rate-1e-05", "t-rate-0.5"]
    assert [part["tied"] for part in found.values()][:2] == [True, None]


def test_listed_kinds_take_the_settings_that_they_have() -> None:
    found = parts({"all": {"kind": ["ngram", "transformer"], "order": [2, 3], "width": [32, 64], "heads": 2}})
    assert list(found) == [
        "all-kind-ngram-order-2",
        "all-kind-ngram-order-3",
        "all-kind-transformer-width-32",
        "all-kind-transformer-width-64",
    ]
    assert "heads" not in found["all-kind-ngram-order-2"]


def test_experiments_name_them_one_by_one_and_by_globs() -> None:
    models = {"small": SMALL | {"matrix_rate": [0.01, 0.02, 0.03]}}
    for names, expected in (("small-matrix_rate-0.02", ["0.02"]), ("small-*", ["0.01", "0.02", "0.03"])):
        checked = config.check(configuration(models, names))
        assert [experiment.model for experiment in checked.experiments] == [
            f"small-matrix_rate-{value}" for value in expected
        ]
        assert [folder for folder in checked.folders() if folder.startswith("models/")] == [
            f"models/demo/bpe2k/small-matrix_rate-{value}" for value in expected
        ]
    with pytest.raises(checks.ConfigError, match="no 'small' in models; known are: small-matrix_rate-0"):
        config.check(configuration(models, "small"))


@pytest.mark.parametrize(
    ("models", "says"),
    [
        ({"a": SMALL | {"steps": [5, 0]}}, "models.a-steps-0.steps: 0 is less than the minimum of 1"),
        ({"a": SMALL | {"steps": []}}, "models.a.steps: should be a whole number or null, found []"),
        ({"a": SMALL | {"steps": [[5]]}}, "models.a.steps: should be a whole number or null, found [[5]]"),
        (
            {"a": SMALL | {"steps": [5, 6]}, "a-steps-5": {"kind": "ngram"}},
            "models.a: its lists give 'a-steps-5', which there is already; rename one",
        ),
        ({"a": SMALL | {"layres": [1, 2]}}, "models.a-layres-1: unknown setting 'layres'; did you mean 'layers'?"),
        (
            {"a": SMALL | {"steps": list(range(1, 101)), "warmup": list(range(11))}},
            "models.a: its lists stand for 1,100 of them, the most are 1,000",
        ),
        ({"a": SMALL | {"steps": 5, "tokens": 500}}, "models.a: steps and tokens say in more than one way how long"),
        ({"a": SMALL | {"optimizer": "adam", "weight_decay": 0.1}}, "models.a.weight_decay: adam has none; take"),
        ({"a": SMALL | {"patience": 2, "validations": 0}}, "models.a.patience: early stopping judges by validations"),
        ({"a": SMALL | {"samples": 1, "processes": 2, "distribution": "fsdp"}}, "models.a.samples: no process has all"),
        ({"a": SMALL | {"beta2": 1}}, "models.a.beta2: should be below 1, found 1"),
        ({"a": {"kind": "mlp", "window": 9, "context": 16}}, "a.window: should be at most half of context (16), so"),
        ({"a": SMALL | {"rate": "1e-4"}}, "found '1e-4' (YAML takes 1e-4 for text: write 0.0001)"),
        ({"a": SMALL | {"rate": ["1e-5"]}}, "models.a-rate-1e-5.rate: should be a number or null"),
        ({"a": SMALL | {"rate": "1e-5"}}, "(YAML takes 1e-4 for text: write 1.0e-05)"),
        (
            {"a": {"kind": "m:M", "how": ["b" * 99, "c"]}},
            "models: should be a name of letters, digits, '-', '_' and '.', at",
        ),
        ({"a": SMALL | {"rate": "fast"}}, "models.a.rate: should be a number or null, found 'fast'"),
        ({"a": SMALL | {"rate": 0.1}}, "models.a.rate: does nothing with optimizer: muon, only with sgd or"),
        ({"a": SMALL | {"optimizer": "sgd", "matrix_rate": [0.1, 0.2]}}, "a-matrix_rate-0.2.matrix_rate: does nothing"),
        ({"a": {"kind": "lstm", "optimizer": "sgd", "beta2": 0.9}}, "models.a.beta2: does nothing with optimizer: sgd"),
        ({"a": SMALL | {"final_rate": 0.2}}, "models.a.final_rate: does nothing with schedule: wsd, only with linear"),
        ({"a": {"kind": "m:M", "schedule": "cosine", "decay": 0.2}}, "models.a.decay: does nothing with schedule: cos"),
        ({"a": SMALL | {"ngrams": 3}}, "models.a.ngrams: does nothing without bigrams; set bigrams to a number"),
    ],
)
def test_what_is_wrong_is_named(models: dict[str, Any], says: str) -> None:
    with pytest.raises(checks.ConfigError) as caught:
        config.check(configuration(models))
    assert says in str(caught.value)


def test_a_sweep_over_what_decides_may_give_each_its_own() -> None:
    rates = {"optimizer": ["muon", "adamw"], "rate": 0.003, "matrix_rate": 0.03}
    found = parts({"a": SMALL | rates, "b": SMALL | {"bigrams": [0, 64], "ngrams": 3}, "c": {"kind": "lstm"}})
    assert list(found) == ["a-optimizer-muon", "a-optimizer-adamw", "b-bigrams-0", "b-bigrams-64", "c"]
    assert parts({"a": {"kind": "lstm", "optimizer": "muon"}})["a"]["rate"] == 0.001  # its default, which is no one's


def test_a_model_may_have_a_seed_of_its_own_which_nothing_else_depends_on() -> None:
    raw = configuration({"s": SMALL, "t": SMALL | {"seed": [1, 2]}, "n": {"kind": "ngram"}, "m": {"kind": "m:M"}})
    made = config.check(raw)
    slices = {
        name: made.slice("train", corpus="demo", tokenizer="bpe2k", model=name) for name in made.settings["models"]
    }
    assert {name: found["seed"] for name, found in slices.items()} == {
        "s": 1,
        "t-seed-1": 1,
        "t-seed-2": 2,
        "n": 1,
        "m": 1,
    }
    assert all("seed" not in found["settings"] for found in slices.values())
    assert slices["t-seed-1"]["settings"] == slices["t-seed-2"]["settings"] == slices["s"]["settings"]
    assert made.slice("evaluate", corpus="demo", tokenizer="bpe2k", model="t-seed-2")["seed"] == 1
    raw["models"]["m"]["seed"], raw["seed"] = 7, 5
    other = config.check(raw)
    found = {name: other.slice("train", corpus="demo", tokenizer="bpe2k", model=name)["seed"] for name in slices}
    assert found == {"s": 5, "t-seed-1": 1, "t-seed-2": 2, "n": 5, "m": 7}


def test_a_seed_is_refused_where_there_is_no_luck() -> None:
    with pytest.raises(checks.ConfigError, match=r"models\.n: kind 'ngram' has no setting 'seed'; these"):
        parts({"n": {"kind": "ngram", "seed": 3}})
    with pytest.raises(checks.ConfigError, match=r"models\.s\.seed: -1 is less than the minimum of 0"):
        parts({"s": SMALL | {"seed": -1}})
    found = parts({"a": SMALL | {"kind": ["ngram", "transformer"], "seed": [1, 2]}})
    assert list(found) == ["a-kind-ngram", "a-kind-transformer-seed-1", "a-kind-transformer-seed-2"]


VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4)


@settings(max_examples=100)
@given(st.dictionaries(st.sampled_from("abc"), st.lists(VALUES, min_size=1, max_size=3) | VALUES))
def test_every_combination_is_there_once_or_a_clash_of_names_is_told(part: dict[str, Any]) -> None:
    """Against a count by hand; two values that are written alike, as "1" and 1, clash and are refused."""
    models = {"m": {"kind": "own", **part}}
    problems = sweeps.expand("models", models, {})
    lists = [value for value in part.values() if isinstance(value, list)]
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) for name in models)
    if not problems:
        distinct = [len({(type(item).__name__, repr(item)) for item in value}) for value in lists]
        assert len(models) <= math.prod(distinct)
        for value, key in ((value, key) for key, value in part.items() if isinstance(value, list)):
            assert {repr(item) for item in value} == {repr(made[key]) for made in models.values()}
    assert not any(isinstance(made.get(key), list) for made in models.values() for key in part)
