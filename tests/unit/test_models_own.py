"""A model of the user's own: found beside config.yaml, checked as far as can be, built and loaded like any other."""

from __future__ import annotations

import copy
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pileline import fingerprint, models
from pileline.checks import ConfigError
from pileline.config import check
from pileline.models import ModelError
from pileline.training import Plan, TrainingError
from pileline.workflow import Workflow, load

from tests.conftest import default_config

ROOT = Path(__file__).parents[2]
DEFAULT = default_config()
V, END = 30, 0
MODULE = '''
from dataclasses import dataclass
import torch
from layers import WIDER
from pileline.models import LanguageModel
from pileline.models.neural import Network, Neural
from pileline.models.ngram import NGram

@dataclass(frozen=True)
class Shape:
    width: int = 8
    context: int = 6

class Net(Network):
    def __init__(self, shape, vocabulary_size):
        super().__init__()
        self.vocabulary_size = vocabulary_size
        self.embedding = torch.nn.Embedding(vocabulary_size, shape.width)
        self.head = torch.nn.Linear(shape.width, vocabulary_size)

    def hidden(self, tokens):
        return self.embedding(tokens) * WIDER

    def logits(self, hidden):
        return self.head(hidden)

class Own(Neural):
    shape_class = Shape

    def make(self):
        return Net(self.shape, self.vocabulary_size)

class Tied(Own):
    def make(self):
        network = super().make()
        network.head.weight = network.embedding.weight
        return network

class Half(LanguageModel):
    kind = "half"

class Counting(NGram):
    """A model that learns by counting, of the user's own."""

number = 3
'''


@pytest.fixture
def beside(code_unknown: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder like that of config.yaml, with a module of models; the working folder."""
    (tmp_path / "my_models.py").write_text(MODULE)
    (tmp_path / "layers.py").write_text("WIDER = 2\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("my_models", "layers", "my_broken"):
        sys.modules.pop(name, None)


def test_it_is_built_saved_and_found_again_by_its_name(beside: Path) -> None:
    model = models.build({"kind": "my_models:Own", "width": 4, "steps": 3}, V, END, seed=1)
    assert model.context == 6
    folder = beside / "results"
    folder.mkdir()
    model.save(folder)
    again = models.load(folder)
    assert type(again) is type(model)
    assert again.kind == "my_models:Own"
    documents = [np.array([3, 7, 1, 2, 9, 9, 4, 1]), np.array([5])]
    for one, two in zip(model.score(documents), again.score(documents), strict=True):
        assert np.array_equal(one, two)
    assert np.exp(model.score([np.array([token]) for token in range(V)])).sum() == pytest.approx(1.0)


def test_weights_that_are_tied_are_saved_and_found_again(beside: Path) -> None:
    model = models.build({"kind": "my_models:Tied"}, V, END, seed=1)
    model.save(beside)
    again = models.load(beside)
    assert again.network.head.weight is again.network.embedding.weight
    assert np.array_equal(model.next_probabilities(np.array([1, 2])), again.next_probabilities(np.array([1, 2])))


def test_one_that_counts_knows_no_setting_of_training(beside: Path) -> None:
    raw: dict[str, Any] = copy.deepcopy(DEFAULT)
    raw["models"]["mine"] = {"kind": "my_models:Counting", "order": 2}
    settings = check(raw).slice("train", corpus="demo", tokenizer="bpe2k", model="mine")["settings"]
    assert settings == {"kind": "my_models:Counting", "order": 2}
    assert models.build(settings, V, END).learns_by == "counts"


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("my_modles:Own", r"model my_modles:Own: no file my_modles.py in .*, where config.yaml stands"),
        ("os.path:join", "no file path.py in"),
        ("my_models:Onw", r"my_models.py has no 'Onw'"),
        ("my_models:number", "should be a class derived from pileline.models.neural.Neural, found 3"),
        ("my_models:Shape", "should be a class derived from pileline.models.neural.Neural"),
        ("my_models:Neural", "Neural is of the library; name it by its kind, or derive from it"),
        ("my_models:Half", "the class lacks build, configuration, describe, load, next_probabilities"),
        ("my_broken:Own", r"importing my_broken raised ZeroDivisionError: division by zero"),
    ],
)
def test_what_is_no_model_is_refused(beside: Path, kind: str, says: str) -> None:
    (beside / "my_broken.py").write_text("1 / 0\n")
    with pytest.raises(ModelError, match=says):
        models.build({"kind": kind}, V, END)


def test_a_setting_that_neither_it_nor_training_has_is_refused(beside: Path) -> None:
    known = models.resolve("my_models:Own").setting_names()
    assert Plan.of({"kind": "my_models:Own", "width": 4, "steps": 3}, known).steps == 3
    with pytest.raises(TrainingError, match="'my_models:Own' has no setting widht; it has: "):
        Plan.of({"kind": "my_models:Own", "widht": 4}, known)


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ({"kind": "my models:Own"}, "models.mine.kind: a model of your own is written module:Class, found 'my models"),
        ({"kind": "my_models:"}, "models.mine.kind: a model of your own is written module:Class, found 'my_models:'"),
        ({"kind": "pileline.models.ngram:NGram"}, "models.mine.kind: 'pileline.models.ngram:NGram' is of the library"),
        ({"kind": "my_models:Own", "steps": 0}, "models.mine.steps: 0 is less than the minimum of 1"),
        ({"kind": "my_models:Own", "steps": 1, "epochs": 1}, "models.mine: steps and epochs say in more than one way"),
        ({"kind": "my_models:Own", "optimizer": "adm"}, "models.mine.optimizer: should be one of"),
        ({"kind": ["my_models:Own", "x:"]}, "models.mine-kind-x-.kind: a model of your own is written module:Class"),
    ],
)
def test_what_is_wrong_in_its_entry_is_named(part: dict[str, Any], says: str) -> None:
    raw: dict[str, Any] = copy.deepcopy(DEFAULT)
    raw["models"]["mine"] = part
    with pytest.raises(ConfigError) as caught:
        check(raw)
    assert says in str(caught.value)


def test_its_settings_are_handed_over_and_may_be_swept(beside: Path) -> None:
    raw: dict[str, Any] = copy.deepcopy(DEFAULT)
    raw["models"]["mine"] = {"kind": "my_models:Own", "width": [4, 8], "steps": 5, "shape": {"deep": [1, 2]}}
    raw["experiments"].append({"corpus": "demo", "tokenizer": "bpe2k", "model": "mine-*"})
    config = check(raw)
    names = [experiment.model for experiment in config.experiments if str(experiment.model).startswith("mine")]
    assert names == ["mine-width-4", "mine-width-8"]
    found = config.slice("train", corpus="demo", tokenizer="bpe2k", model="mine-width-8")
    assert (found["threads"], found["device"]) == (1, "auto")
    assert found["settings"] == {"kind": "my_models:Own", "width": 8, "steps": 5, "shape": {"deep": [1, 2]}}


def test_it_is_fingerprinted_with_what_it_imports(beside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "notebooks", beside / "notebooks")
    raw: dict[str, Any] = copy.deepcopy(DEFAULT)
    raw["models"]["mine"] = {"kind": "my_models:Own"}
    line = Workflow(load(copy.deepcopy(raw), []))
    (before,) = [line.model_code(SimpleNamespace(model="mine"))]
    for part in ("my_models.py:", "layers.py:", "workflow/pileline/models/neural.py:", "torch=="):
        assert part in before
    fingerprint.own_code.cache_clear()
    (beside / "layers.py").write_text("WIDER = 3\n")
    assert line.model_code(SimpleNamespace(model="mine")) != before
    raw["models"]["mine"]["kind"] = "my_models:Onw"
    with pytest.raises(ConfigError, match=r"models\.mine: 'my_models' has no 'Onw'; did you mean 'Own'"):
        load(copy.deepcopy(raw), [])
    raw["models"]["mine"]["kind"] = "nowhere:Own"
    with pytest.raises(ConfigError, match=r"models\.mine: the module 'nowhere' of a model cannot be read: no file"):
        load(copy.deepcopy(raw), [])
