"""Small corpora as shards with their tokenizer, as the stages before training leave them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pileline import documents, manifest, shards, tokenizer


def write_shards(
    root: Path, texts: Mapping[str, list[str]], settings: dict[str, Any], sources: Sequence[str] = ("lines",)
) -> tuple[Path, tokenizer.Tokenizer]:
    """The folder of shards of `texts`, by split, and a tokenizer by `settings` that was trained on all of them.

    The documents of a split are dealt to the `sources` in turn.
    """
    tokens, folder = root / "tokenizer", root / "shards"
    for made in (tokens, folder):
        made.mkdir()
    tokenizer.train([text for part in texts.values() for text in part], settings, 1, tokens / tokenizer.NAME)
    manifest.write(tokens, "tokenizer", {})
    learned = tokenizer.Tokenizer.load(tokens)
    for split, part in texts.items():
        rows = [
            documents.Document(f"{split}#{number}", sources[number % len(sources)], text, bytes(16))
            for number, text in enumerate(part)
        ]
        documents.write(root / f"{split}.parquet", rows)
        shards.write(root, split, learned, folder)
    manifest.write(folder, "shards", {"tokenizer_sha256": learned.sha256})
    return folder, learned
