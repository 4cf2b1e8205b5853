"""The memory that training asks for: the weights it counts on are the models' own, and it covers what was measured."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pileline import model_memory, models
from pileline.config import check
from pileline.workflow import Workflow

from tests.conftest import default_config
from tests.unit.small_models import entry

DEFAULT = default_config()
TOKENS = 13_754_400  # of the default run
WIDE = {"kind": "transformer", "layers": 6, "heads": 6, "width": 384, "batch_tokens": 8192}
NETWORKS = [kind for kind in models.REGISTRY if kind != "ngram"]


def settings_of(**parts: Any) -> dict[str, dict[str, Any]]:
    """Entries of `models` with all their settings, besides those of the default run."""
    raw: dict[str, Any] = copy.deepcopy(DEFAULT)
    raw["models"] |= parts
    raw["experiments"] += [{"corpus": "demo", "tokenizer": "bpe2k", "model": name} for name in parts]
    found: dict[str, dict[str, Any]] = check(raw).settings["models"]
    return found


@pytest.mark.parametrize(
    "part",
    [
        *(entry(kind, context=256) for kind in NETWORKS),
        *({"kind": kind, "layers": 3, "width": 64} for kind in NETWORKS if kind != "mlp"),
        {"kind": "mlp", "direct": True, "hidden": 100},
        {"kind": "transformer", "tied": False, "mlp_kind": "gated", "bigrams": 500, "ngrams": 4, "mlp": 2},
    ],
    ids=lambda part: "-".join(map(str, part.values())),
)
def test_weights_are_the_networks_own_and_rarely_more(part: dict[str, Any]) -> None:
    settings = settings_of(tried=part)["tried"]
    own = sum(weight.numel() for weight in models.build(settings, 300, 0).network.parameters())
    assert 0.9 * own < model_memory.weights(settings, 300) < 2 * own


@pytest.mark.parametrize(
    ("name", "peak"),
    [("ngram", 1436), ("residual", 1881), ("lstm", 629), ("transformer", 1035), ("wide", 2108), ("adamw", 1808)],
)
def test_it_covers_the_peaks_that_were_measured(name: str, peak: int) -> None:
    adamw = {"kind": "transformer", "layers": 4, "heads": 8, "width": 768, "batch_tokens": 256, "optimizer": "adamw"}
    settings = settings_of(wide=WIDE | {"device": "cpu"}, adamw=adamw)[name]
    assert 1.2 * peak < model_memory.training_megabytes(settings, 2048, TOKENS) < 4 * peak


@pytest.mark.parametrize(
    ("part", "vocabulary", "peak"),
    [
        ({"kind": "transformer", "layers": 1, "heads": 2, "width": 64, "context": 128}, 32_768, 2649),
        ({"kind": "transformer", "layers": 4, "heads": 16, "width": 128, "context": 1024}, 512, 2411),
        ({"kind": "mlp", "window": 64, "embedding": 128, "hidden": 64, "context": 128}, 512, 2093),
    ],
    ids=["vocabulary", "scores", "window"],
)
def test_it_covers_what_steps_keep_beside_activations(part: dict[str, Any], vocabulary: int, peak: int) -> None:
    """8,192 tokens a step in bfloat16; accumulated in parts they are few."""
    common = {"device": "cpu", "precision": "bfloat16", "batch_tokens": 8192}
    whole, parted = (settings_of(tried=common | part | more)["tried"] for more in ({}, {"accumulate": 8}))
    assert 1.2 * peak < model_memory.training_megabytes(whole, vocabulary, TOKENS) < 4 * peak
    assert model_memory.training_megabytes(parted, vocabulary, TOKENS) < peak


def test_it_grows_with_what_takes_memory() -> None:
    parts = {
        "wide": WIDE | {"device": "cpu"},
        "parted": WIDE | {"device": "cpu", "accumulate": 4},
        "many": WIDE | {"device": "cpu", "processes": 2},
        "gpu": WIDE | {"device": "cuda"},
        "own": {"kind": "my_models:Tiny", "width": 16},
    }
    size = {name: model_memory.training_megabytes(part, 2048, 0) for name, part in settings_of(**parts).items()}
    assert size["gpu"] < size["parted"] < size["wide"] < size["many"]
    assert size["own"] == 4000


def leave(folder: Path, metrics: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"metrics": metrics}))


def test_of_what_counts_it_is_known_once_the_shards_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    line = Workflow(check(copy.deepcopy(DEFAULT)))
    ngram, lstm = (SimpleNamespace(corpus="demo", tokenizer="bpe2k", model=model) for model in ("ngram", "lstm"))
    assert 1500 < line.train_memory(lstm) < 2000
    for memory in (line.train_memory, line.model_memory):
        with pytest.raises(FileNotFoundError, match=r"manifest\.json"):
            memory(ngram)
    leave(tmp_path / "results/shards/demo/bpe2k", {"tokens": {"train": 10**9}})
    assert line.train_memory(ngram) == 1500 + 210_000
    leave(tmp_path / "results/models/demo/bpe2k/ngram", {"parameters": 10**9})
    leave(tmp_path / "results/models/demo/bpe2k/lstm", {"parameters": 10**5})
    assert (line.model_memory(ngram), line.model_memory(lstm)) == (1500 + 60_000, 4000)
