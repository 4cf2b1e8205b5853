"""Models: one interface, `LanguageModel`, and a registry of kinds.

    model = models.build(settings, vocabulary_size, end)     # as config.yaml's `models` names it
    model = models.load("results/models/demo/bpe4k/ngram", device="cpu")

Kinds are named by "module:Class" and imported when asked for: a stage that trains n-grams neither waits for
torch nor depends on the transformer's code. A kind that is so named in config.yaml is the user's own.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from . import own
from .interface import CONFIGURATION, LanguageModel, ModelError, read_configuration

REGISTRY = {
    "lstm": "pileline.models.lstm:LSTM",
    "mlp": "pileline.models.mlp:MLP",
    "ngram": "pileline.models.ngram:NGram",
    "residual": "pileline.models.residual:Residual",
    "transformer": "pileline.models.transformer:Transformer",
    "transformer-2017": "pileline.models.transformer_2017:Transformer2017",
}


def resolve(kind: str) -> Any:
    """The class of a kind of model; `ModelError` lists the kinds if there is none such."""
    if ":" in kind:
        return own.resolve(kind)
    if kind not in REGISTRY:
        raise ModelError(f"unknown kind of model '{kind}'; known kinds: {', '.join(sorted(REGISTRY))}")
    module, name = REGISTRY[kind].split(":")
    return getattr(importlib.import_module(module), name)


def build(settings: dict[str, Any], vocabulary_size: int, end: int, seed: int = 0) -> LanguageModel:
    """A new, untrained model from an entry of `models` in config.yaml.

    `end` is the tokenizer's end-of-document token; `seed` draws the initial weights. Keys of the entry that
    belong to training are left to `pileline.training`.
    """
    model: LanguageModel = resolve(settings["kind"]).build(settings, vocabulary_size, end, seed)
    return model


def load(folder: str | Path, device: str = "cpu", threads: int | None = None) -> LanguageModel:
    """Read a trained model of any kind from its folder, onto `device` ("auto", "cpu", "cuda").

    `threads` are the cores that it computes with, where it can use several; None leaves that to the process.
    """
    kind = read_configuration(Path(folder)).get("kind")
    if kind is None:
        raise ModelError(
            f"{folder}: no model that Pileline trained, for its {CONFIGURATION} names no kind; these are below "
            "results/models/, and what is below results/exports/ is read by Hugging Face's transformers"
        )
    model: LanguageModel = resolve(kind).load(folder, device)
    if threads is not None:
        model.use_threads(threads)
    return model


__all__ = ["REGISTRY", "LanguageModel", "ModelError", "build", "load", "resolve"]
