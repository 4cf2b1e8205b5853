"""What a checked configuration gives each stage: defaults filled in, experiments spelled out, exact slices."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

from pileline.checks import Experiment
from pileline.config import Config, check
from pileline.manifest import canonical_json
from pileline.workflow import Workflow

from tests.unit.test_config import problems


def test_experiments_multiply_lists_expand_globs_and_merge_repeats(raw: dict[str, Any]) -> None:
    raw["experiments"] = [
        {"corpus": ["demo", "raw"], "tokenizer": "*", "model": "ngram"},
        {"corpus": "demo", "tokenizer": "*", "model": ["ngram", "ngram"]},
        {"corpus": "demo", "tokenizer": "*", "model": "ngram", "task": "topic"},
    ]
    tokenizers = list(raw["tokenizers"])
    expected = {Experiment("raw", name, "ngram", None) for name in tokenizers}
    expected |= {Experiment("demo", name, "ngram", "topic") for name in tokenizers}
    found = check(raw).experiments
    assert set(found) == expected
    assert len(found) == len(expected)


def test_an_experiment_without_a_model_ends_at_the_shards(raw: dict[str, Any]) -> None:
    raw["experiments"] = [{"corpus": "demo", "tokenizer": "*"}]
    config = check(raw)
    assert [experiment.model for experiment in config.experiments] == [None] * len(raw["tokenizers"])
    rooms = {folder.split("/")[0] for folder in config.folders()}
    assert rooms == {"raw", "clean", "duplicates", "corpora", "tokenizers", "shards"}
    assert config.used()["models"] == {}
    raw["experiments"].append({"corpus": "demo", "tokenizer": "bpe2k", "model": "ngram"})
    experiments = check(raw).experiments
    assert Experiment("demo", "bpe2k", "ngram", None) in experiments
    assert Experiment("demo", "bpe2k", None, None) not in experiments
    raw["experiments"] = [{"corpus": "demo", "tokenizer": "*", "task": "topic"}]
    assert any("a task needs a model" in problem for problem in problems(raw))


def test_defaults_are_filled_in_and_can_be_left_out(raw: dict[str, Any]) -> None:
    del raw["seed"], raw["holdout"]
    settings = check(raw).settings
    assert settings["seed"] == 1
    assert set(settings["holdout"]) == {"validation", "test"}


def all_slices(config: Config) -> dict[str, str]:
    """Every stage's slice for every experiment, by stage and names, as Snakemake compares them."""
    slices = {}
    for folder in config.folders():
        room, *names = folder.split("/")
        stage, keys = {
            "raw": ("download", ["source", "part"]),
            "clean": ("clean", ["recipe", "source", "part"]),
            "duplicates": ("deduplicate", ["corpus"]),
            "corpora": ("mix", ["corpus"]),
            "tokenizers": ("tokenizer", ["corpus", "tokenizer"]),
            "shards": ("shards", ["corpus", "tokenizer"]),
            "models": ("train", ["corpus", "tokenizer", "model"]),
            "evaluations": ("evaluate", ["corpus", "tokenizer", "model"]),
            "tasks": ("task", ["corpus", "tokenizer", "model", "task"]),
            "exports": ("export", ["corpus", "tokenizer", "model"]),
        }[room]
        slices[folder] = canonical_json(config.slice(stage, **dict(zip(keys, names, strict=True))))
    return slices


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """The rooms whose slices differ between two configurations."""
    old, new = all_slices(check(before)), all_slices(check(after))
    return {folder for folder in old.keys() | new.keys() if old.get(folder) != new.get(folder)}


def test_a_setting_changes_the_slices_of_its_own_stage_alone(raw: dict[str, Any]) -> None:
    after = copy.deepcopy(raw)
    after["sources"]["code"]["read"]["split"] = 999
    assert changed(raw, after) == {"clean/slimpajama/code/1-of-1", "clean/none/code/1-of-1"}
    after = copy.deepcopy(raw)
    after["sources"]["code"]["title"] = "Other words"
    assert changed(raw, after) == set()


def test_the_order_of_keys_means_nothing(raw: dict[str, Any]) -> None:
    def reversed_keys(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: reversed_keys(value[key]) for key in reversed(value)}
        return [reversed_keys(item) for item in value] if isinstance(value, list) else value

    assert changed(raw, reversed_keys(raw)) == set()


def test_swapped_values_change_the_slice(raw: dict[str, Any]) -> None:
    after = copy.deepcopy(raw)
    minhash = after["deduplications"]["minhash"]
    minhash["bands"], minhash["rows"] = minhash["rows"], minhash["bands"]
    assert changed(raw, after) == {"duplicates/demo"}


def test_an_experiment_of_existing_parts_leaves_every_existing_slice_alone(raw: dict[str, Any]) -> None:
    after = copy.deepcopy(raw)
    after["deduplications"].setdefault("exact", {"kind": "exact"})
    after["corpora"]["exact"] = {**after["corpora"]["demo"], "deduplication": "exact"}
    after["experiments"].append({"corpus": "exact", "tokenizer": next(iter(after["tokenizers"])), "model": "ngram"})
    assert changed(raw, after) == {folder for folder in changed(raw, after) if "/exact" in folder}


def test_a_corpus_is_guarded_by_the_sources_that_it_is_scored_on_and_does_not_hold(raw: dict[str, Any]) -> None:
    raw["corpora"]["plays"] = {"recipe": "none", "deduplication": "minhash", "mix": {"shakespeare": 1.0}}
    raw["corpora"]["demo"]["mix"] = {"milton": 1.0, "code": 1.0}
    raw["experiments"] = [{"corpus": "plays", "tokenizer": next(iter(raw["tokenizers"])), "model": "ngram"}]
    config = check(raw)
    settings = config.slice("deduplicate", corpus="plays")
    assert settings["sources"] == ["shakespeare"]
    assert settings["guards"] == ["code", "milton", "wikipedia-en"]
    assert settings["protected"] == {"wikipedia-en": raw["tasks"]["topic"]["test"]}
    assert config.slice("deduplicate", corpus="demo")["guards"] == ["wikipedia-en"]
    assert config.slice("mix", corpus="plays")["protected"] == {}
    for source in ("code", "milton", "wikipedia-en", "shakespeare"):
        assert {f"raw/{source}/1-of-1", f"clean/none/{source}/1-of-1"} <= set(config.folders())
    wildcards = SimpleNamespace(corpus="plays")
    compared = Workflow(config).compared(wildcards)
    sources = ["shakespeare", *settings["guards"]]
    assert compared == [f"results/clean/none/{source}/1-of-1/manifest.json" for source in sources]


def test_a_source_in_parts_is_downloaded_and_cleaned_by_part_and_mixed_whole(raw: dict[str, Any]) -> None:
    raw["sources"]["code"]["parts"] = 11
    config = check(raw)
    line = Workflow(config)
    folders = [folder for folder in config.folders() if folder.startswith("clean/none/code/")]
    assert folders == [f"clean/none/code/{number:02d}-of-11" for number in range(1, 12)]
    assert config.slice("clean", recipe="none", source="code", part="03-of-11")["output"] == folders[2].replace(
        "clean", "results/clean"
    )
    assert line.downloaded(SimpleNamespace(source="code")) == [
        f"results/raw/code/{number:02d}-of-11/manifest.json" for number in range(1, 12)
    ]
    cleaned = line.cleaned(SimpleNamespace(corpus="raw"))
    assert [f"results/{folder}/manifest.json" for folder in folders] == [path for path in cleaned if "/code/" in path]
    assert config.slice("mix", corpus="raw")["parts"]["code"] == 11
    assert config.slice("deduplicate", corpus="raw")["parts"]["code"] == 11


def test_a_weight_may_stand_alone_or_with_a_cap(raw: dict[str, Any]) -> None:
    raw["corpora"]["raw"]["mix"] = {"milton": 2, "code": {"weight": 0.5, "cap_mb": 1}, "shakespeare": {"cap_mb": 2.5}}
    assert check(raw).slice("mix", corpus="raw")["mix"] == {
        "milton": {"weight": 2.0, "cap_mb": None},
        "code": {"weight": 0.5, "cap_mb": 1},
        "shakespeare": {"weight": 1.0, "cap_mb": 2.5},
    }


def test_a_corpus_that_holds_all_it_is_scored_on_has_no_guards(raw: dict[str, Any]) -> None:
    assert check(raw).slice("deduplicate", corpus="demo")["guards"] == []
