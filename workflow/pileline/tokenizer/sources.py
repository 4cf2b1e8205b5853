"""What a source's text is worth to a tokenizer: train again without it, and see how its text is then spelled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pileline import documents
from pileline.tokenizer.card import measure
from pileline.tokenizer.encode import Tokenizer
from pileline.tokenizer.learn import fit
from pileline.tokenizer.settings import TokenizerError


def texts(path: str | Path, without: str | None = None) -> Iterator[str]:
    """The texts of a document table in its order, all or `without` one source's."""
    for batch in documents.batches(path, ["source", "text"]):
        for source, text in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            if source != without:
                yield text


def leave_one_out(
    train: str | Path,
    held_out: str | Path,
    found: dict[str, dict[str, Any]],
    settings: dict[str, Any],
    seed: int,
    threads: int = 1,
) -> dict[str, dict[str, float]]:
    """For each source, the bytes a token of its held-out text, and what is lost, with a tokenizer trained without it.

    `train` and `held_out` are document tables, `found` is the `by_source` of the full tokenizer's card. "loss" is the
    share of bytes a token that is lost: 0.1 says that the source's text takes 1 / 0.9 times the tokens. Sources without
    held-out text are left out, and so is one without which no text is left. Trains as often as there are sources.
    """
    rows = {}
    for source in (name for name in found if found[name]["tokens"]):
        if next(texts(train, without=source), None) is None:
            continue
        try:
            model, _ = fit(texts(train, without=source), settings, seed)
        except TokenizerError as error:
            raise TokenizerError(f"leave_one_out, without {source}: {error}") from error
        rate = measure(Tokenizer(model), held_out, threads, only=source).overall["bytes_per_token"]
        rows[source] = {"bytes_per_token": rate, "loss": round(1 - rate / found[source]["bytes_per_token"], 4)}
    return rows
