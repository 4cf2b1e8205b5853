"""Shards hold exactly the corpus' tokens; the loader shows each of them once an epoch, from the step alone."""

from __future__ import annotations

import importlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pileline import documents, manifest, shards, tokenizer
from pileline.documents import Document
from pileline.shards.write import stream, token_type


def make_documents(number: int) -> list[Document]:
    generator = random.Random(0)
    words = ["ba", "ko", "riten", "shumel", "orist", "这本书", "\t▁", "x = 1\n"]
    texts = [" ".join(generator.choices(words, k=generator.randint(0, 40))) for _ in range(number)]
    return [
        Document(f"s{place % 3}/f#{place}", f"s{place % 3}", text, documents.key_of(text))
        for place, text in enumerate(texts)
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tokenizer.Tokenizer:
    path = tmp_path_factory.mktemp("tokenizer") / tokenizer.NAME
    tokenizer.train([row.text for row in make_documents(200)], {"kind": "bpe", "vocabulary": 300}, 1, path)
    return tokenizer.Tokenizer(path.read_bytes())


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    documents.write(folder / "train.parquet", make_documents(200))
    documents.write(folder / "validation.parquet", make_documents(0))
    return folder


def write_shards(corpus: Path, made: tokenizer.Tokenizer, folder: Path, shard_mb: float = 64) -> shards.Written:
    folder.mkdir(exist_ok=True)
    written = shards.write(corpus, "train", made, folder, shard_mb)
    shards.write(corpus, "validation", made, folder, shard_mb)
    manifest.write(folder, "shards", {"tokenizer_sha256": made.sha256})
    return written


def expected_stream(made: tokenizer.Tokenizer) -> list[int]:
    return [token for row in make_documents(200) for token in [made.end, *made.encode(row.text).tolist()]]


@pytest.mark.parametrize("shard_mb", [64, 0.004])
def test_shards_hold_the_documents_and_their_tokens(
    corpus: Path, made: tokenizer.Tokenizer, tmp_path: Path, shard_mb: float
) -> None:
    written = write_shards(corpus, made, tmp_path, shard_mb)
    assert (len(written.shards) > 2) == (shard_mb < 1)
    opened = shards.open_shards(tmp_path, "train", made.sha256)
    assert opened.tokens.read(0, opened.n_tokens).tolist() == expected_stream(made)
    rows = list(opened.documents())
    assert [(row["id"], row["source"], made.decode(row["tokens"])) for row in rows] == [
        (row.id, row.source, row.text) for row in make_documents(200)
    ]
    assert [row["bytes"] for row in rows] == [len(row.text.encode()) for row in make_documents(200)]
    assert opened.sources == ["s0", "s1", "s2"]
    assert (opened.n_documents, opened.end) == (200, made.end)


def test_counts_add_up(corpus: Path, made: tokenizer.Tokenizer, tmp_path: Path) -> None:
    written = write_shards(corpus, made, tmp_path)
    size = sum(len(row.text.encode()) for row in make_documents(200))
    tokens = len(expected_stream(made))
    assert (written.total("documents"), written.total("tokens"), written.total("bytes")) == (200, tokens, size)
    assert written.bytes_per_token == pytest.approx(size / (tokens - 200))
    assert written.by_source["s1"]["documents"] == 67


def test_files_depend_neither_on_threads_nor_on_groups(
    corpus: Path, made: tokenizer.Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = importlib.import_module("pileline.shards.write")  # the function hides it
    monkeypatch.setattr(write, "BATCH_TOKENS", 500)
    contents, counts = [], []
    for threads, group in ((1, 512), (1, 7), (2, 7), (3, 7), (3, 33)):
        monkeypatch.setattr(write, "GROUP", group)
        folder = tmp_path / f"{threads}-{group}"
        folder.mkdir()
        counts.append(shards.write(corpus, "train", made, folder, 0.004, threads))
        contents.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert all(content == contents[0] for content in contents)
    assert all(count == counts[0] for count in counts)
    assert len(contents[0]) > 2


def test_a_tokenizer_that_loses_text_is_caught(corpus: Path, made: tokenizer.Tokenizer, tmp_path: Path) -> None:
    class Lossy(tokenizer.Tokenizer):
        def encode_flat(self, texts: Sequence[str], threads: int = 1) -> tuple[Any, Any]:
            ids, offsets = super().encode_flat(texts, threads)
            last = int(offsets[4])  # of the fourth document
            return np.delete(ids, last - 1), offsets - (offsets >= last)

    lossy = Lossy(made._processor.serialized_model_proto())
    with pytest.raises(shards.ShardError, match=r"s0/f#3: its tokens .* the tokenizer loses text"):
        shards.write(corpus, "train", lossy, tmp_path)


def test_reading_copies_nothing(corpus: Path, made: tokenizer.Tokenizer, tmp_path: Path) -> None:
    write_shards(corpus, made, tmp_path)
    before = pa.total_allocated_bytes()
    opened = shards.open_shards(tmp_path, "train")
    [part] = opened.tokens.parts
    assert part.dtype == np.uint16
    assert pa.total_allocated_bytes() - before < part.nbytes
    assert np.shares_memory(opened.tokens.read(5, 50), part)


@pytest.mark.parametrize(
    ("size", "kind"),
    [(256, pa.uint8()), (257, pa.uint16()), (65_536, pa.uint16()), (65_537, pa.uint32())],
)
def test_tokens_take_as_few_bytes_as_the_vocabulary_allows(size: int, kind: pa.DataType) -> None:
    assert token_type(size) == kind
    column = stream(np.array([size - 1, 3], np.int32), np.array([0, 2, 2]), 1, kind)
    assert column.tolist() == [1, size - 1, 3, 1]
    assert column.itemsize * 8 == kind.bit_width


def test_an_empty_split_opens_and_has_no_batches(corpus: Path, made: tokenizer.Tokenizer, tmp_path: Path) -> None:
    write_shards(corpus, made, tmp_path)
    opened = shards.open_shards(tmp_path, "validation")
    assert (opened.n_tokens, opened.n_documents, list(opened.documents())) == (0, 0, [])
    with pytest.raises(shards.ShardError, match="0 tokens, too few"):
        shards.Loader(opened, 1, 8, 0)


def test_an_unknown_split_is_named(corpus: Path, made: tokenizer.Tokenizer, tmp_path: Path) -> None:
    write_shards(corpus, made, tmp_path)
    with pytest.raises(shards.ShardError, match="no shards of split 'test'"):
        shards.open_shards(tmp_path, "test")


@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=8),
    length=st.integers(1, 12),
    data=st.data(),
)
@settings(max_examples=200)
def test_a_stream_of_parts_reads_as_one(sizes: list[int], length: int, data: st.DataObject) -> None:
    whole = np.arange(sum(sizes))
    parts = np.split(whole, np.cumsum(sizes)[:-1])
    tokens = shards.TokenStream(parts)
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, len(whole)))
    assert tokens.read(start, stop).tolist() == whole[start:stop].tolist()
    if len(whole) >= length:
        starts = np.array(data.draw(st.lists(st.integers(0, len(whole) - length), max_size=6)), dtype=np.int64)
        expected = [whole[place : place + length].tolist() for place in starts]
        assert tokens.gather(starts, length).tolist() == expected


def test_reading_past_the_end_is_an_error() -> None:
    with pytest.raises(IndexError):
        shards.TokenStream([np.arange(3)]).read(1, 4)


def numbered(n: int, parts: int = 3) -> shards.ShardSet:
    """A split whose tokens are 0 to n-1, so that a token says where it stands."""
    return shards.ShardSet("train", [], shards.TokenStream(np.array_split(np.arange(n), parts)), ["s"], 0, "")


@given(n=st.integers(2, 300), batch=st.integers(1, 9), context=st.integers(1, 20), seed=st.integers(0, 5))
@settings(max_examples=100)
def test_every_epoch_predicts_every_token_once(n: int, batch: int, context: int, seed: int) -> None:
    if n <= context:
        with pytest.raises(shards.ShardError):
            shards.Loader(numbered(n), batch, context, seed)
        return
    loader = shards.Loader(numbered(n), batch, context, seed)
    rows = [loader.batch_at(step) for step in range(2 * loader.epoch_steps)]
    inputs, targets = (np.concatenate([row[side] for row in rows]) for side in (0, 1))
    assert (targets == inputs + 1).all()
    for epoch in range(2):
        seen = targets[epoch * loader.blocks : (epoch + 1) * loader.blocks]
        assert sorted(seen.ravel().tolist()) == list(range(1, 1 + loader.blocks * context))
    assert n - 1 - loader.blocks * context < context


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    loader = shards.Loader(numbered(1000), 4, 10, seed=3)
    straight = [loader.batch_at(step)[0] for step in range(60)]
    resumed = shards.Loader(numbered(1000, parts=7), 4, 10, seed=3)
    assert all((resumed.batch_at(step)[0] == straight[step]).all() for step in (59, 0, 31))
    assert (shards.Loader(numbered(1000), 4, 10, seed=4).batch_at(0)[0] != straight[0]).any()
    assert straight[0].dtype == np.int64
    assert straight[0].shape == (4, 10)


def test_epochs_differ_in_order() -> None:
    loader = shards.Loader(numbered(1001), 10, 10, seed=0)
    first, second = (
        [loader.batch_at(step)[0][:, 0].tolist() for step in range(start, start + 10)] for start in (0, 10)
    )
    assert first != second
    assert first != sorted(first)


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="batch is 0"):
        shards.Loader(numbered(10), 0, 2, 0)
    with pytest.raises(ValueError, match="steps count from 0"):
        shards.Loader(numbered(10), 1, 2, 0).batch_at(-1)
