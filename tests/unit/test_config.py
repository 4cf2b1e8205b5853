"""The configuration: what is wrong is said at once, all of it, and what is right is cut in exact slices."""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pileline import checks as configuration
from pileline import fingerprint
from pileline.checks import ConfigError
from pileline.config import Config, check
from pileline.workflow import Workflow, load

from tests.conftest import default_config

ROOT = Path(__file__).parents[2]


def problems(raw: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        check(raw)
    return caught.value.problems


def put(raw: dict[str, Any], path: list[Any], value: Any) -> None:
    place: Any = raw
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value


def test_the_default_configuration_is_valid_and_its_notebooks_fit(raw: dict[str, Any], monkeypatch: Any) -> None:
    monkeypatch.chdir(ROOT)
    assert isinstance(load(raw, ["config.yaml"]), Config)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (
            ["models", "transformer", "layres"],
            2,
            "models.transformer: unknown setting 'layres'; did you mean 'layers'?",
        ),
        (["models", "transformer", "dropout"], 1, "models.transformer.dropout: should be below 1, found 1"),
        (["models", "transformer", "n_embd"], 64, "unknown setting 'n_embd'; here it is called 'width'"),
        (["models", "ngram", "n_embd"], 64, "models.ngram: unknown setting 'n_embd'; known are: device, kind, order"),
        (["tokenizers", "bpe2k", "vocab_size"], 64, "unknown setting 'vocab_size'; here it is called 'vocabulary'"),
        (
            ["models", "transformer", "layers"],
            "two",
            "models.transformer.layers: should be a whole number, found 'two'",
        ),
        (["models", "transformer", "kind"], "transfromer", "unknown kind 'transfromer'; did you mean 'transformer'?"),
        (["corpora", "demo", "recipe"], "slimpyjama", "corpora.demo.recipe: no 'slimpyjama' in recipes; did you mean"),
        (["corpora", "demo", "mix", "wikipedia-en"], 0, "corpora.demo.mix.wikipedia-en: should be above 0, found 0"),
        (["corpora", "demo", "mix", "wikipedia-en"], -1.5, "should be above 0, found -1.5"),
        (["corpora", "demo", "mix", "nowhere"], 1, "corpora.demo.mix: no 'nowhere' in sources"),
        (["sources", "code", "sha256"], "abc", "sources.code.sha256: should be the file's SHA-256 in 64 lower-case"),
        (["sources", "code", "path"], "x/*", "fsspec, npm, debian, found 'pypi' and 'path'"),
        (["sources", "code", "pypi"], None, "sources.code.pypi: should be text, found nothing"),
        (["recipes", "mine"], ["a-b:f"], "recipes.mine.0: a filter of your own is written module:function"),
        (["recipes", "mine"], [{"mine:f": [1]}], "recipes.mine.0.mine:f: should have its settings by name"),
        (["corpora", "raw", "mixing"], {"kind": "share"}, "unknown kind 'share'; did you mean 'shares'?"),
        (["corpora", "raw", "mixing"], {"kind": "shares"}, "corpora.raw.mixing: needs 'size_mb', MB of text in"),
        (["sources", "code", "parts"], 0, "sources.code.parts: 0 is less than the minimum of 1"),
        (
            ["sources", "code", "read", "format"],
            "txt",
            "sources.code.read.format: unknown format 'txt'; did you mean 'text'",
        ),
        (["recipes", "mine"], [{"shrot": {}}], "recipes.mine.0: unknown filter 'shrot'; did you mean 'short'?"),
        (["recipes", "mine"], [{"short": {"characters": 0}}], "recipes.mine.0.short.characters: should be above 0"),
        (["tasks", "topic", "source"], "wikipedia", "tasks.topic.source: no 'wikipedia' in sources; did you mean"),
        (["evaluation", "holdout"], "dmeo", "evaluation.holdout: no 'dmeo' in corpora; did you mean 'demo'?"),
        (["holdout"], {"validation": 0.5, "test": 0.5}, "leave some to train on"),
        (["seeds"], 3, "unknown setting 'seeds'; did you mean 'seed'?"),
        (["sources", "a/b"], {"path": "x", "read": {}}, "sources: should be a name of letters, digits"),
        (["sources", "a" * 101], {"path": "x", "read": {}}, "'.', at most 100, found 'aaa"),
        (["sources", "a\n"], {"path": "x", "read": {}}, "sources: should be a name of letters, digits"),
        (["sources", 2020], {"path": "x"}, 'sources: the name 2020 should be text; put it in quotes: "2020"'),
        (["sources", "code", "title"], date(2020, 1, 2), "sources.code.title: should be text, a number"),
        (["sources"], [], "sources: should be settings by name, found []"),
        (["sources"], {}, "sources: needs at least one entry, found none"),
        (["recipes"], None, "recipes: should be settings by name, found nothing"),
        (["tasks"], None, "tasks: should be settings by name, found nothing"),
        (["holdout"], None, "holdout: should be settings by name, found nothing"),
        (["models"], {}, "models: needs at least one entry, found none"),
        (["experiments"], {"corpus": "demo"}, "experiments: should be a list, found {'corpus': 'demo'}"),
        (["experiments"], [], "experiments: needs at least one entry, found none"),
        (
            ["experiments", 0, "corpus"],
            [],
            "experiments.0.corpus: needs at least one entry, found none (a name, a glob",
        ),
        (["experiments", 0, "corpus"], None, "experiments.0.corpus: should be text or a list, found nothing"),
        (["experiments", 0], "demo", "experiments.0: should be settings by name, found 'demo'"),
        (
            ["recipes", "mine"],
            [{"short": 200}],
            "recipes.mine.0.short: should have its settings by name, as {characters",
        ),
        (["recipes", "mine"], [{"short": [200]}], "recipes.mine.0.short: should have its settings by name"),
        (["recipes", "mine"], [{}], "recipes.mine.0: needs at least one entry"),
        (["models", "ngram", "kind"], [["x"]], "models.ngram.kind: should be text, found [['x']]"),
        (["deduplications", "exact", "kind"], {}, "deduplications.exact.kind: should be text, found {}"),
        (["tokenizers", "bpe2k", "kind"], None, "tokenizers.bpe2k.kind: should be text, found nothing"),
        (
            ["corpora", "demo", "mix", "code"],
            float("nan"),
            "corpora.demo.mix.code: should be a finite number, found nan",
        ),
        (
            ["models", "transformer", "clip"],
            float("inf"),
            "models.transformer.clip: should be a finite number, found inf",
        ),
        (["corpora", "demo", "mix", "code"], 10**400, "corpora.demo.mix.code: should be a number of at most 63 bits"),
        (["seed"], 1.0, "seed: should be a whole number, found 1.0"),
        (["seed"], True, "seed: should be a whole number, found True"),
        (["models", "transformer", "layers"], 2.0, "models.transformer.layers: should be a whole number, found 2.0"),
        (
            ["sources", "code"],
            {"http": "https://host/*.txt"},
            "sources.code.http: a web server lists no files, so name each, or a range as {00..29}",
        ),
        (
            ["sources", "code", "read"],
            {"format": "text", "where": {"a": 1}},
            "sources.code.read: format 'text' has no setting 'where'; these have: jsonl, json_records, csv",
        ),
        (
            ["tokenizers", "bpe2k"],
            {"kind": "byte", "vocabulary": 256},
            "kind 'byte' has no setting 'vocabulary'; these",
        ),
        (
            ["recipes", "mine"],
            [{"language": {"keep": ["english"]}}],
            "should be a language's code, as en, fr, zh, found",
        ),
        (["deduplications", "minhash", "keep"], "priority", "minhash: `keep: priority` needs `priority`, a list of"),
        (["deduplications", "minhash", "priority"], ["code"], "a `priority` counts with `keep: priority` alone"),
        (
            ["deduplications", "minhash"],
            {"kind": "minhash", "keep": "priority", "priority": ["wiki*", "cdoe"]},
            "deduplications.minhash.priority: no 'cdoe' in sources; did you mean 'code'?",
        ),
        (["corpora", "demo", "mix"], ["code"], "mix: should be settings by name, found ['code'] (a source's name and"),
        (["sources", "code", "read", "encoding"], "klingon", "sources.code.read.encoding: Python knows no encoding"),
        (["sources", "code", "read", "encoding"], "hex", "sources.code.read.encoding: Python knows no encoding"),
        (["sources", "code", "read", "encoding"], "a\0", "sources.code.read.encoding: Python knows no encoding"),
        (["models", "transformer", "heads"], 3, "models.transformer.width: should be an even multiple of heads (3)"),
        (
            ["models", "transformer", "key_value_heads"],
            3,
            "models.transformer.key_value_heads: should divide heads (2), as 1 or 2, found 3",
        ),
        (
            ["models", "residual", "heads"],
            128,
            "residual.width: should be an even multiple of heads (128), as 256, found",
        ),
    ],
)
def test_each_mistake_is_named_with_its_place_and_a_way_out(
    raw: dict[str, Any], path: list[Any], value: Any, said: str
) -> None:
    put(raw, path, value)
    found = problems(raw)
    assert any(said in problem for problem in found), found


def test_all_mistakes_are_collected(raw: dict[str, Any]) -> None:
    raw["models"]["transformer"]["layres"] = 2
    raw["corpora"]["demo"]["recipe"] = "nothing"
    raw["experiments"].append({"corpus": "nowhere", "tokenizer": "bpe*", "model": "ngram"})
    assert len(problems(raw)) == 3


def test_mistakes_in_the_shape_hide_no_others(raw: dict[str, Any]) -> None:
    raw["seed"] = float("nan")
    raw["tasks"] = None
    raw["models"]["transformer"]["heads"] = 3
    raw["recipes"]["mine"] = [{"short": 200}]
    raw["experiments"][0]["tokenizer"] = "nothing"
    raw["sources"][2020] = {"path": "x", "read": {"encoding": "klingon"}}
    places = sorted(problem.split(":")[0] for problem in problems(raw) if not problem.startswith("seed"))
    assert places == [
        "experiments.0.tokenizer",
        "models.transformer.width",
        "recipes.mine.0.short",
        "sources",
        "sources.2020.read.encoding",
        "tasks",
    ]


@pytest.mark.parametrize("nothing", [None, [], "text", 3])
def test_a_file_without_settings_is_refused(nothing: Any) -> None:
    assert "the file: should hold settings by name" in problems(nothing)[0]
    assert "the file: needs 'sources'" in problems({})[0]


def test_a_value_that_holds_itself_is_refused(raw: dict[str, Any]) -> None:
    prompts: list[Any] = ["one"]
    prompts.append(prompts)
    raw["evaluation"]["prompts"] = prompts
    assert "evaluation.prompts.1: holds itself" in problems(raw)[0]


def test_an_anchored_recipe_is_that_recipe_twice(raw: dict[str, Any]) -> None:
    raw["recipes"]["again"] = raw["recipes"]["slimpajama"]  # as YAML's `&name` and `*name` load
    recipes = check(raw).settings["recipes"]
    assert recipes["again"] == recipes["slimpajama"]


JSON_LIKE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["*", "demo", "none", "text", "short", "minhash", "transformer", "code", 0, 1, 3, 0.5, 10**400]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=3)
            | st.sampled_from(["kind", "short", "format", "mix", "demo"])
            | st.integers()
            | st.none(),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


def ways(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every place in a value, a folder before what it holds."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*way, key)
        yield from ways(item, (*way, key))


DEFAULT = default_config()


@settings(max_examples=200)
@given(changes=st.lists(st.tuples(st.sampled_from(list(ways(DEFAULT))), JSON_LIKE), min_size=1, max_size=4))
def test_whatever_stands_there_is_checked_or_refused(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    raw = copy.deepcopy(DEFAULT)
    for way, value in changes:
        if way in set(ways(raw)):  # an earlier change may have cut it off
            put(raw, list(way), value)
    with contextlib.suppress(ConfigError):
        check(raw)


def test_a_missing_part_is_asked_for(raw: dict[str, Any]) -> None:
    del raw["corpora"]["demo"]["mix"]
    assert any("corpora.demo: needs 'mix'" in problem for problem in problems(raw))


def test_a_key_given_twice_is_refused(raw: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("seed: 1\nseed: 2\n")
    with pytest.raises(ConfigError, match="line 2: 'seed' is given twice"):
        load(raw, [str(file)])


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("? [a]\n: 1\n", "line 1: a name should be text"),
        ("seed: [\n", "not YAML"),
        ("seed: !klingon 1\n", "not YAML"),
    ],
)
def test_a_file_that_is_no_plain_yaml_is_refused(raw: dict[str, Any], tmp_path: Path, written: str, said: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(written)
    with pytest.raises(ConfigError, match=said):
        load(raw, [str(file)])


def test_merge_keys_of_yaml_are_no_repeats(raw: dict[str, Any], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(ROOT)
    file = tmp_path / "config.yaml"
    file.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\n")
    assert isinstance(load(raw, [str(file)]), Config)


def test_the_schema_itself_is_valid() -> None:
    import jsonschema

    jsonschema.Draft202012Validator.check_schema(configuration.schema())
    json.dumps(configuration.schema())


def test_a_part_named_null_is_taken_out(raw: dict[str, Any]) -> None:
    raw["tasks"]["topic"] = None
    raw["models"]["transformer-2017"] = None
    raw["corpora"]["raw"]["mix"]["milton"] = None
    raw["experiments"] = [entry for entry in raw["experiments"] if "task" not in entry]
    config = check(raw)
    assert config.settings["tasks"] == {}
    assert "transformer-2017" not in config.settings["models"]
    assert "milton" not in config.settings["corpora"]["raw"]["mix"]
    assert config.slice("deduplicate", corpus="demo")["protected"] == {}


@pytest.mark.usefixtures("code_unknown")
def test_a_filter_of_the_users_own_is_fingerprinted_with_what_it_imports(
    raw: dict[str, Any], tmp_path: Path, monkeypatch: Any
) -> None:
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    monkeypatch.chdir(tmp_path)
    raw["recipes"]["mine"] = ["my_filters:no_shouting", {"my_filters:short": {"share": 0.3}}]
    with pytest.raises(ConfigError, match=r"recipes\.mine: the module 'my_filters' of a filter cannot be read"):
        load(copy.deepcopy(raw), [])
    (tmp_path / "my_filters.py").write_text(
        "import json\nimport ftfy\nfrom words import LOUD\nshort = ftfy.fix_text\ndef no_shoutign(text): ...\n"
    )
    (tmp_path / "words.py").write_text("")
    with pytest.raises(ConfigError, match="'my_filters' has no 'no_shouting'; did you mean 'no_shoutign'"):
        load(copy.deepcopy(raw), [])
    fingerprint.own_code.cache_clear()
    (tmp_path / "my_filters.py").write_text(
        (tmp_path / "my_filters.py").read_text().replace("no_shoutign", "no_shouting")
    )
    (tmp_path / "words.py").write_text("LOUD = 1\n")
    line = Workflow(load(copy.deepcopy(raw), []))
    assert line.config.part("recipes", "mine") == [
        {"filter": "my_filters:no_shouting"},
        {"filter": "my_filters:short", "share": 0.3},
    ]
    (before,) = line.recipe_code(SimpleNamespace(recipe="mine"))
    assert all(part in before for part in ("my_filters.py:", "words.py:", "ftfy=="))
    assert line.recipe_code(SimpleNamespace(recipe="slimpajama")) == []
    fingerprint.own_code.cache_clear()
    (tmp_path / "words.py").write_text("LOUD = 2\n")
    assert line.recipe_code(SimpleNamespace(recipe="mine")) != [before]


def test_a_parameter_that_its_notebook_lacks_is_named_before_anything_runs(
    raw: dict[str, Any], tmp_path: Path, monkeypatch: Any
) -> None:
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    path = tmp_path / "notebooks/02_clean.ipynb"
    path.write_text(path.read_text(encoding="utf-8").replace('"seed: int', '"grain: int'), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load(raw, [])
    assert any("02_clean.ipynb: no parameter 'seed'; it has:" in problem for problem in caught.value.problems)
    assert any("parameter 'grain' is given no value" in problem for problem in caught.value.problems)
