"""Lists of kinds and sizes in config.yaml: one tokenizer for each combination, which experiments find by name."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pileline import checks, config, tokenizer
from pileline.tokenizer import settings

from tests.conftest import default_config

DEFAULT = default_config()


def configuration(tokenizers: dict[str, Any], names: Any = "*") -> dict[str, Any]:
    raw: dict[str, Any] = copy.deepcopy(DEFAULT)
    raw["tokenizers"] = tokenizers
    raw["experiments"] = [{"corpus": "demo", "tokenizer": names, "model": "ngram"}]
    return raw


def parts(tokenizers: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = config.check(configuration(tokenizers)).settings["tokenizers"]
    return found


def test_a_list_of_sizes_gives_a_tokenizer_each() -> None:
    found = parts({"bpe": {"kind": "bpe", "vocabulary": [2048, 8192], "sample_mb": 5}, "one": {"kind": "byte"}})
    assert list(found) == ["bpe-2048", "bpe-8192", "one"]
    assert found["bpe-8192"] == {
        "kind": "bpe",
        "vocabulary": 8192,
        "sample_mb": 5,
        "coverage": 0.9995,
        "leave_one_out": False,
    }


def test_kinds_and_sizes_multiply_and_a_kind_without_sizes_comes_once() -> None:
    found = parts({"all": {"kind": ["bpe", "unigram", "byte"], "vocabulary": [300, 400], "sample_mb": 5}})
    assert list(found) == ["all-bpe-300", "all-bpe-400", "all-unigram-300", "all-unigram-400", "all-byte"]
    assert found["all-byte"] == {"kind": "byte"}


def test_a_list_of_kinds_alone_is_named_by_kind() -> None:
    assert list(parts({"t": {"kind": ["char", "bpe"], "vocabulary": 400}})) == ["t-char", "t-bpe"]


def test_experiments_see_the_expanded_names() -> None:
    raw = configuration({"bpe": {"kind": "bpe", "vocabulary": [2048, 4096, 8192]}}, ["bpe-2*", "bpe-8192"])
    found = [experiment.tokenizer for experiment in config.check(raw).experiments]
    assert found == ["bpe-2048", "bpe-8192"]
    raw = configuration({"bpe": {"kind": "bpe", "vocabulary": [2048, 8192]}}, "bpe")
    with pytest.raises(checks.ConfigError, match="no 'bpe' in tokenizers; known are: bpe-2048, bpe-8192"):
        config.check(raw)


@pytest.mark.parametrize(
    ("tokenizers", "says"),
    [
        (
            {"a": {"kind": "bpe", "vocabulary": [300, 400]}, "a-300": {"kind": "byte"}},
            "tokenizers.a: its lists give 'a-300', which there is already; rename one",
        ),
        ({"a": {"kind": "bpe", "vocabulary": []}}, "tokenizers.a.vocabulary: should be a whole number, found []"),
        ({"a": {"kind": "bpe", "vocabulary": [300, 20]}}, "tokenizers.a-20.vocabulary: 20 is less than the minimum"),
        ({"a": {"kind": [], "vocabulary": 300}}, "tokenizers.a.kind: should be text, found []"),
        ({"a": {"kind": ["bpe", "wordpiece"], "vocabulary": 300}}, "tokenizers.a-wordpiece.kind: unknown kind"),
        ({"a": {"kind": ["bpe", ["x"]], "vocabulary": 300}}, "tokenizers.a.kind: should be text"),
        ({"a": {"kind": ["bpe", "byte"], "vocabulary": 300, "size": 1}}, "tokenizers.a-bpe: unknown setting 'size'"),
        ({"a": {"vocabulary": [300, 400]}}, "tokenizers.a-300.kind: should be text, found nothing"),
        ({"a": {"kind": "byte", "vocabulary": 300}}, "tokenizers.a: kind 'byte' has no setting 'vocabulary'"),
        ({"a": {"kind": "char", "vocabulary": 258}}, "tokenizers.a.vocabulary: 258 is less than the minimum of 259"),
    ],
)
def test_what_is_wrong_is_named(tokenizers: dict[str, Any], says: str) -> None:
    with pytest.raises(checks.ConfigError) as caught:
        config.check(configuration(tokenizers))
    assert says in str(caught.value)


def test_the_library_knows_the_schemas_kinds_and_defaults() -> None:
    defined = checks.schema()["$defs"]["tokenizers"]
    assert set(defined) == set(tokenizer.KINDS)
    for kind, part in defined.items():
        given = {name: entry["default"] for name, entry in part["properties"].items() if "default" in entry}
        assert given == ({} if kind == "byte" else tokenizer.DEFAULTS)
        assert part["properties"].get("vocabulary", {}).get("minimum") == settings.MINIMUM.get(kind)


def test_the_default_run_has_one_small_bpe() -> None:
    assert DEFAULT["tokenizers"]["bpe2k"]["kind"] == "bpe"
