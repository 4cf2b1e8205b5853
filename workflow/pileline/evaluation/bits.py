"""Bits per byte: how many bits a model needs for a byte of text that it has not seen.

    bits per byte = - sum over the text's tokens of log2 p(token | tokens before) / UTF-8 bytes of the text

The sum is the length of the text under the model's own code (Shannon 1948), and the bytes are the text's, not
its tokens': two models are comparable whatever their tokenizers. Perplexity, exp(nats / tokens), is not: its
denominator is the tokenizer's choice. `end` is context and never scored, so nothing but the text is paid for.

Intervals are bootstrap percentiles (Efron 1979): whole documents are drawn again with replacement, since the
bytes of one document are anything but independent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pileline import documents
from pileline.models import LanguageModel
from pileline.progress import Progress

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("bytes", pa.int64()),
        ("tokens", pa.int64()),
        ("bits", pa.float64()),
    ]
)
BATCH_TOKENS = 200_000  # scored at once: bounds memory, and lets a model batch texts of like length
RESAMPLES = 1000
RESAMPLED_AT_ONCE = 4_000_000  # numbers
POSITIONS = tuple(1 << k for k in range(14))  # borders of `loss_by_position`


class EvaluationError(ValueError):
    """The holdout, or what a model says of it, cannot be scored."""


class Encoder(Protocol):
    """What scoring needs of a tokenizer."""

    def encode_batch(self, texts: list[str], threads: int = 1) -> list[Any]: ...


class Scores:
    """Scores of documents, one row each, and sums of bits by position in the document."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, int, int, float]] = []
        self._bits = np.zeros(len(POSITIONS))
        self._tokens = np.zeros(len(POSITIONS), dtype=np.int64)

    def add(self, document: documents.Document, logarithms: npt.NDArray[Any]) -> None:
        """Count a document's natural-log probabilities, one a token."""
        bits = -logarithms / math.log(2)
        if not np.isfinite(bits).all():
            raise EvaluationError(
                f"{document.id}: the model gives token {int(np.flatnonzero(~np.isfinite(bits))[0])} no probability; "
                "a language model must give every token some: train it again, or look at its files"
            )
        size = len(document.text.encode())
        self.rows.append((document.id, document.source, size, len(bits), float(bits.sum())))
        bins = np.searchsorted(POSITIONS, np.arange(len(bits)) + 1, side="right") - 1
        self._bits += np.bincount(bins, bits, len(POSITIONS))
        self._tokens += np.bincount(bins, minlength=len(POSITIONS))

    def by_position(self) -> list[dict[str, Any]]:
        """Mean bits a token of the tokens at places `from` (counted from 1) up to the next row's `from`."""
        found = zip(POSITIONS, self._tokens.tolist(), self._bits.tolist(), strict=True)
        return [{"from": a, "tokens": n, "bits_per_token": bits / n} for a, n, bits in found if n]

    def write(self, path: str | Path) -> None:
        """Write the rows as a Parquet table with `SCHEMA`."""
        columns = list(zip(*self.rows, strict=True)) or [()] * len(SCHEMA)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
        pq.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA), path, compression="zstd")


def score(model: LanguageModel, tokenizer: Encoder, path: str | Path, threads: int = 1) -> Scores:
    """Score every document of the table at `path`, in order."""
    scores = Scores()
    total = sum(batch.num_rows for batch in documents.batches(path, ["id"]))
    if not total:
        raise EvaluationError(f"{path}: no documents to score; raise holdout.test in config.yaml or add text")
    with Progress("scoring", total=total, unit="documents") as progress:
        for group, tokens in _groups(tokenizer, path, threads):
            for document, logarithms in zip(group, model.score(tokens), strict=True):
                scores.add(document, logarithms)
            progress.add(len(group))
    return scores


def _groups(
    tokenizer: Encoder, path: str | Path, threads: int
) -> Iterator[tuple[list[documents.Document], list[npt.NDArray[Any]]]]:
    """Documents with their tokens, in groups of about `BATCH_TOKENS` tokens."""
    group: list[documents.Document] = []
    size = 0
    for document in documents.read(path):
        group.append(document)
        size += len(document.text)
        if size >= BATCH_TOKENS:  # characters: at least as many as tokens, but for bytes that have no piece
            yield group, tokenizer.encode_batch([d.text for d in group], threads)
            group, size = [], 0
    if group:
        yield group, tokenizer.encode_batch([d.text for d in group], threads)


def summarize(scores: Scores, seed: int) -> dict[str, Any]:
    """`sources`, `overall` and `macro_bits_per_byte` (the mean over sources, each counting the same).

    A summary has documents, bytes, tokens, bits_per_byte, perplexity_per_token and interval, the 95 % bootstrap
    interval of bits per byte. A source's numbers do not depend on what other sources there are.
    """
    sources: dict[str, list[tuple[str, str, int, int, float]]] = {}
    for row in scores.rows:
        sources.setdefault(row[1], []).append(row)
    found = {name: _summary(rows, seed) for name, rows in sorted(sources.items())}
    macro = math.fsum(summary["bits_per_byte"] for summary in found.values()) / len(found)
    return {"sources": found, "overall": _summary(scores.rows, seed), "macro_bits_per_byte": macro}


def _summary(rows: list[tuple[str, str, int, int, float]], seed: int) -> dict[str, Any]:
    size, tokens = (np.array([row[k] for row in rows], dtype=np.int64) for k in (2, 3))
    bits = np.array([row[4] for row in rows])
    total = math.fsum(bits)
    if not size.sum():
        raise EvaluationError(f"source '{rows[0][1]}': its {len(rows)} documents have no text; drop empty documents")
    return {
        "documents": len(rows),
        "bytes": int(size.sum()),
        "tokens": int(tokens.sum()),
        "bits_per_byte": total / int(size.sum()),
        "perplexity_per_token": float(2 ** (total / int(tokens.sum()))),
        "interval": bootstrap(bits, size, seed),
    }


def bootstrap(bits: npt.NDArray[Any], size: npt.NDArray[Any], seed: int) -> list[float]:
    """95 % interval [low, high] of sum(bits) / sum(size) over documents drawn with replacement."""
    generator = np.random.default_rng(seed)
    n = len(bits)
    rows = max(RESAMPLED_AT_ONCE // n, 1)
    ratios = []
    for start in range(0, RESAMPLES, rows):
        times = generator.multinomial(n, np.full(n, 1 / n), size=min(rows, RESAMPLES - start))
        weight = times @ size
        ratios.append((times @ bits)[weight > 0] / weight[weight > 0])
    low, high = np.quantile(np.concatenate(ratios), (0.025, 0.975))
    return [float(low), float(high)]
