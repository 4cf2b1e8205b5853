"""Shards are plain Arrow files: other readers find the same documents in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pytest
from pileline import documents, shards, tokenizer
from pileline.documents import Document

WHY = "the environment does without it; install it to compare"


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Document], tokenizer.Tokenizer]:
    folder = tmp_path_factory.mktemp("shards")
    texts = [f"line {n} of " + "the same words " * (n % 7) for n in range(90)]
    rows = [Document(f"s{n % 3}#{n}", f"s{n % 3}", text, documents.key_of(text)) for n, text in enumerate(texts)]
    documents.write(folder / "train.parquet", rows)
    tokenizer.train(texts, {"kind": "bpe", "vocabulary": 300}, 1, folder / tokenizer.NAME)
    made = tokenizer.Tokenizer((folder / tokenizer.NAME).read_bytes())
    written = shards.write(folder, "train", made, folder)
    return folder / written.shards[0], rows, made


def same(table: pd.DataFrame, rows: list[Document], made: tokenizer.Tokenizer) -> bool:
    assert table["id"].tolist() == [row.id for row in rows]
    assert table["source"].tolist() == [row.source for row in rows]
    assert table["bytes"].tolist() == [len(row.text.encode()) for row in rows]
    assert all(tokens[0] == made.end for tokens in table["tokens"])
    assert [made.decode(np.asarray(tokens).tolist()) for tokens in table["tokens"]] == [row.text for row in rows]
    return True


def test_pandas_reads_a_shard(shard: tuple[Path, list[Document], tokenizer.Tokenizer]) -> None:
    path, rows, made = shard
    assert same(pd.read_feather(path), rows, made)


def test_arrow_maps_a_shard_without_a_copy(shard: tuple[Path, list[Document], tokenizer.Tokenizer]) -> None:
    path, rows, made = shard
    before = pa.total_allocated_bytes()
    table = pyarrow.feather.read_table(path, memory_map=True)
    assert pa.total_allocated_bytes() <= before  # what other tests left may go meanwhile
    assert same(table.to_pandas(), rows, made)


def test_polars_reads_a_shard(shard: tuple[Path, list[Document], tokenizer.Tokenizer]) -> None:
    polars = pytest.importorskip("polars", reason=WHY)
    path, rows, made = shard
    table = polars.read_ipc(path)
    assert table.schema["tokens"] == polars.List(polars.UInt16)
    assert same(pd.DataFrame(table.to_dict(as_series=False)), rows, made)
    assert table.group_by("source").agg(polars.col("bytes").sum()).height == 3


def test_duckdb_queries_a_shard(shard: tuple[Path, list[Document], tokenizer.Tokenizer]) -> None:
    duckdb = pytest.importorskip("duckdb", reason=WHY)
    path, rows, made = shard
    table = duckdb.from_arrow(pyarrow.feather.read_table(path, memory_map=True))
    found = table.select("id, source, bytes, tokens").df()
    counts = table.aggregate("source, sum(len(tokens))", "source").fetchall()
    assert same(found, rows, made)
    expected = {name: sum(len(made.encode(row.text)) + 1 for row in rows if row.source == name) for name, _ in counts}
    assert dict(counts) == expected
