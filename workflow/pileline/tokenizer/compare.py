"""Tokenizers compared: what other settings would give, and what each source's text is worth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pileline.tokenizer.card import Card, measure, rows
from pileline.tokenizer.encode import Tokenizer
from pileline.tokenizer.learn import fit
from pileline.tokenizer.settings import TokenizerError


def candidates(
    texts: list[str], held_out: list[str], settings: dict[str, dict[str, Any]], seed: int
) -> dict[str, Card]:
    """The card, on the texts `held_out`, of a tokenizer of each settings trained on `texts`.

    Settings for whose vocabulary there is too little text are left out.
    """
    cards = {}
    for name, wanted in settings.items():
        try:
            model, _ = fit(texts, wanted, seed)
        except TokenizerError:
            continue
        cards[name] = measure(Tokenizer(model), [[(name, text) for text in held_out]])
    return cards


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
    made = {}
    for source in (name for name in found if found[name]["tokens"]):
        if next(_without(train, source), None) is None:
            continue
        try:
            model, _ = fit(_without(train, source), settings, seed)
        except TokenizerError as error:
            raise TokenizerError(f"leave_one_out, without {source}: {error}") from error
        own = ([row for row in batch if row[0] == source] for batch in rows(held_out))
        rate = measure(Tokenizer(model), own, threads).overall["bytes_per_token"]
        made[source] = {"bytes_per_token": rate, "loss": round(1 - rate / found[source]["bytes_per_token"], 4)}
    return made


def _without(path: str | Path, left_out: str) -> Iterator[str]:
    """The texts of a document table but one source's, in its order."""
    return (text for batch in rows(path) for source, text in batch if source != left_out)
