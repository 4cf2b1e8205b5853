"""What the rules are told of a model: its notebook, the code that it depends on, the cores and devices it takes."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pileline import fingerprint
from pileline import workflow as wiring
from pileline.checks import ConfigError
from pileline.config import check
from pileline.workflow import Workflow, load

from tests.conftest import default_config

ROOT = Path(__file__).parents[2]
DEFAULT = default_config()
NGRAM, TRANSFORMER = SimpleNamespace(model="ngram"), SimpleNamespace(model="transformer")


def append_code(path: Path, code: str) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cell = {"cell_type": "code", "id": "added", "metadata": {}, "outputs": [], "execution_count": None, "source": code}
    notebook["cells"].append(cell)
    path.write_text(json.dumps(notebook), encoding="utf-8")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which transformers have a train notebook of their own."""
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    shutil.copy(tmp_path / "notebooks/07_train.ipynb", tmp_path / "notebooks/own.ipynb")
    append_code(tmp_path / "notebooks/own.ipynb", "import pileline.deduplication.lsh")
    monkeypatch.setattr(wiring, "TRAIN_NOTEBOOKS", {"transformer": "notebooks/own.ipynb"})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def code_of(line: Workflow, wildcards: Any) -> set[str]:
    return {each(wildcards) for each in line.train_code()}


def test_a_kind_may_have_a_train_notebook_of_its_own(here: Path) -> None:
    line = Workflow(check(copy.deepcopy(DEFAULT)))
    assert line.train_notebook(NGRAM) == "notebooks/07_train.ipynb"
    assert line.train_notebook(TRANSFORMER) == "notebooks/own.ipynb"
    assert code_of(line, NGRAM) == set(fingerprint.notebook_code("notebooks/07_train.ipynb"))
    assert code_of(line, TRANSFORMER) == set(fingerprint.notebook_code("notebooks/own.ipynb"))
    assert any("deduplication/lsh.py:" in entry for entry in code_of(line, TRANSFORMER) - code_of(line, NGRAM))


def test_an_edit_of_one_kinds_notebook_is_no_change_for_the_others(here: Path) -> None:
    line = Workflow(check(copy.deepcopy(DEFAULT)))
    before = [code_of(line, wildcards) for wildcards in (NGRAM, TRANSFORMER)]
    append_code(here / "notebooks/own.ipynb", "print('edited')")
    after = [code_of(line, wildcards) for wildcards in (NGRAM, TRANSFORMER)]
    assert before[0] == after[0]
    assert [entry.split(":")[0] for entry in after[1] - before[1]] == ["notebooks/own.ipynb"]


def test_each_train_notebook_that_is_needed_is_compared_with_the_settings(here: Path) -> None:
    path = here / "notebooks/own.ipynb"
    path.write_text(path.read_text(encoding="utf-8").replace('"seed: int', '"grain: int'), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"own\.ipynb: no parameter 'seed'"):
        load(copy.deepcopy(DEFAULT), [])
    raw: dict[str, Any] = copy.deepcopy(DEFAULT)
    raw["experiments"] = [{"corpus": "demo", "tokenizer": "bpe2k", "model": "ngram"}]
    load(raw, [])  # nobody needs the other


def test_processes_take_their_threads_and_a_gpu_each() -> None:
    raw: dict[str, Any] = copy.deepcopy(DEFAULT)
    raw["models"]["transformer"] |= {"threads": 2, "processes": 4}
    line = Workflow(check(raw))
    assert (line.train_threads(TRANSFORMER), line.train_gpus(TRANSFORMER)) == (8, 4)
    assert "training/worker.py:" in line.worker_code(TRANSFORMER)
    assert "training/distributed.py:" in line.worker_code(TRANSFORMER)
    assert "worker.py" not in line.worker_code(NGRAM)
    assert line.model_threads(TRANSFORMER) == 2, "what evaluates it"
    assert line.train_threads(NGRAM) == line.model_threads(NGRAM)
    raw["models"]["transformer"]["device"] = "cpu"
    line = Workflow(check(raw))
    assert (line.train_gpus(TRANSFORMER), line.model_gpus(TRANSFORMER), line.model_gpus(NGRAM)) == (0, 0, 1)


def test_transformers_are_exported_unless_said_otherwise() -> None:
    raw: dict[str, Any] = copy.deepcopy(DEFAULT)
    raw["experiments"] = [
        {"corpus": ["demo", "raw"], "tokenizer": "bpe2k", "model": ["ngram", "transformer"]},
        {"corpus": "demo", "tokenizer": "*"},
    ]
    config = check(raw)
    exported = [folder for folder in config.folders() if folder.startswith("exports/")]
    assert exported == ["exports/demo/bpe2k/transformer", "exports/raw/bpe2k/transformer"]
    said = config.slice("report")["experiments"]
    assert [(entry["model"], entry["export"]) for entry in said] == [
        (entry["model"], entry["model"] == "transformer") for entry in said
    ]
    names = {"corpus": "demo", "tokenizer": "bpe2k"}
    assert config.slice("export", **names, model="transformer")["output"] == "results/exports/demo/bpe2k/transformer"
    with pytest.raises(ConfigError, match="exports: 'ngram' is of kind 'ngram'; these can be exported: transformer"):
        config.slice("export", **names, model="ngram")
    raw["export"] = False
    assert not [folder for folder in check(raw).folders() if folder.startswith("exports/")]
    raw["export"] = "no"
    with pytest.raises(ConfigError, match="export: should be true or false, found 'no'"):
        check(raw)


def test_what_the_longest_training_waits_for_starts_first() -> None:
    raw = copy.deepcopy(DEFAULT)
    raw["models"]["day"] = raw["models"]["transformer"] | {"steps": None, "minutes": 1440}
    raw["experiments"].append({"corpus": "demo", "tokenizer": "bpe2k", "model": "day"})
    line = Workflow(check(raw))

    def priority(**wildcards: str) -> int:
        return line.priority(SimpleNamespace(**wildcards))

    shards = {"corpus": "demo", "tokenizer": "bpe2k"}
    models = [priority(**shards, model=name) for name in ("ngram", "lstm", "transformer", "day")]
    assert models == sorted(set(models))
    assert models[0] == 0, "it counts"
    demo = {"corpus": "demo"}, {"recipe": "slimpajama", "source": "code"}, {"source": "code", "part": "1-of-1"}
    assert {priority(**wildcards) for wildcards in (*demo, shards)} == {models[-1]}
    assert priority(corpus="raw") == priority(recipe="none", source="code") == 0, "only counting waits for those"
