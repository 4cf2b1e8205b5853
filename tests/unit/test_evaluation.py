"""Bits per byte: identities that hold for every model and tokenizer, and intervals that cover."""

from __future__ import annotations

import math

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pileline import documents, evaluation
from pileline.documents import Document, key_of
from pileline.evaluation import bits
from pileline.models.ngram import NGram


class Bytes:
    """A tokenizer of single bytes; its `end` is 256."""

    def encode(self, text):
        return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64)

    def encode_batch(self, texts, threads=1):
        return [self.encode(text) for text in texts]

    def decode(self, tokens):
        return bytes(tokens).decode("utf-8", "replace")


class Characters(Bytes):
    """A tokenizer of whole characters: other tokens, the same bytes."""

    def encode(self, text):
        return np.array([ord(c) for c in text], dtype=np.int64)


class Uniform:
    """Every token has the same probability 2^-bits."""

    def __init__(self, bits_per_token):
        self.nats = bits_per_token * math.log(2)

    def score(self, texts):
        return [np.full(len(text), -self.nats) for text in texts]


def table(path, texts, source="s"):
    documents.write(path, [Document(f"{source}#{n}", source, text, key_of(text)) for n, text in enumerate(texts)])
    return path


texts = st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=8)


@settings(max_examples=30)
@given(texts)
def test_a_uniform_byte_model_needs_exactly_eight_bits(tmp_path_factory, found):
    path = table(tmp_path_factory.mktemp("x") / "test.parquet", found)
    summary = evaluation.summarize(evaluation.score(Uniform(8.0), Bytes(), path), seed=1)
    assert summary["overall"]["bits_per_byte"] == pytest.approx(8.0, abs=1e-12)
    assert summary["overall"]["interval"] == pytest.approx([8.0, 8.0])
    assert summary["overall"]["perplexity_per_token"] == pytest.approx(256.0)
    assert summary["overall"]["bytes"] == sum(len(text.encode()) for text in found)


@settings(max_examples=30)
@given(texts)
def test_the_denominator_is_the_text_whatever_the_tokens(tmp_path_factory, found):
    path = table(tmp_path_factory.mktemp("x") / "test.parquet", found)
    a, b = (evaluation.summarize(evaluation.score(Uniform(5.0), t(), path), 1)["overall"] for t in (Bytes, Characters))
    assert a["bytes"] == b["bytes"]
    assert a["tokens"] == a["bytes"]
    assert b["tokens"] == sum(map(len, found))
    assert b["bits_per_byte"] == pytest.approx(5.0 * b["tokens"] / b["bytes"])


def test_bits_are_the_models_own_for_each_document(tmp_path):
    found = ["abab", "ba", "abba€"]
    model = NGram(3, 257, 256)
    stream = np.concatenate([np.append(256, Bytes().encode(text)) for text in ["abab" * 4, "baba"]])
    model.fit(stream)
    scores = evaluation.score(model, Bytes(), table(tmp_path / "test.parquet", found))
    scores.write(tmp_path / "documents.parquet")
    rows = pq.read_table(tmp_path / "documents.parquet").to_pylist()
    for row, text in zip(rows, found, strict=True):
        tokens = Bytes().encode(text)
        chances = [model.next_probabilities(tokens[:i])[token] for i, token in enumerate(tokens)]
        assert row["bits"] == pytest.approx(-sum(map(math.log2, chances)))
        assert (row["bytes"], row["tokens"]) == (len(text.encode()), len(tokens))
    assert [row["id"] for row in rows] == ["s#0", "s#1", "s#2"]


def test_sums_are_the_same_however_documents_are_grouped(tmp_path, monkeypatch):
    path = table(tmp_path / "test.parquet", [f"text number {n}" * (n + 1) for n in range(20)])
    model = NGram(3, 257, 256)
    model.fit(np.append(256, Bytes().encode("text number 17 and more text")))
    whole = evaluation.score(model, Bytes(), path)
    monkeypatch.setattr(bits, "BATCH_TOKENS", 1)
    single = evaluation.score(model, Bytes(), path)
    assert whole.rows == single.rows
    assert evaluation.summarize(whole, 1) == evaluation.summarize(single, 1)
    for a, b in zip(whole.by_position(), single.by_position(), strict=True):
        assert a == pytest.approx(b)


def test_sources_stand_alone_and_overall_weighs_them_by_bytes(tmp_path):
    rows = [Document(f"a#{n}", "a", "x" * 10, key_of(str(n))) for n in range(30)]
    rows += [Document(f"b#{n}", "b", "é" * 10, key_of(str(n))) for n in range(10)]
    documents.write(tmp_path / "both.parquet", rows)
    documents.write(tmp_path / "one.parquet", rows[:30])
    both = evaluation.summarize(evaluation.score(Uniform(4.0), Characters(), tmp_path / "both.parquet"), 1)
    one = evaluation.summarize(evaluation.score(Uniform(4.0), Characters(), tmp_path / "one.parquet"), 1)
    assert both["sources"]["a"] == one["sources"]["a"]
    assert both["sources"]["b"]["bits_per_byte"] == pytest.approx(2.0)
    assert both["overall"]["bits_per_byte"] == pytest.approx((300 * 4 + 100 * 4) / (300 + 200))
    assert both["macro_bits_per_byte"] == pytest.approx(3.0)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    generator = np.random.default_rng(5)
    hits = 0
    for trial in range(200):
        size = generator.integers(50, 500, 80)
        rate = generator.normal(2.0, 0.5, 80)  # bits a byte of each document, independent of its size
        low, high = evaluation.bootstrap(size * rate, size, seed=trial)
        hits += low <= 2.0 <= high
    assert 0.89 <= hits / 200 <= 0.99


def test_bootstrap_is_seeded_and_the_same_in_parts(monkeypatch):
    size = np.arange(1, 40)
    found = evaluation.bootstrap(size * np.sqrt(size), size, 3)
    assert found == evaluation.bootstrap(size * np.sqrt(size), size, 3)
    assert found != evaluation.bootstrap(size * np.sqrt(size), size, 4)
    monkeypatch.setattr(bits, "RESAMPLED_AT_ONCE", 100)
    assert found == pytest.approx(evaluation.bootstrap(size * np.sqrt(size), size, 3))


def test_positions_hold_every_token_once(tmp_path):
    scores = evaluation.score(Uniform(3.0), Bytes(), table(tmp_path / "t.parquet", ["a", "b" * 5, "c" * 100]))
    found = scores.by_position()
    assert sum(row["tokens"] for row in found) == 106
    assert {row["from"]: row["tokens"] for row in found}[4] == 6  # places 4 to 7: 2 of "bbbbb", 4 of the longest
    assert all(row["bits_per_token"] == pytest.approx(3.0) for row in found)


def test_impossible_tokens_and_empty_holdouts_are_errors(tmp_path):
    path = table(tmp_path / "t.parquet", ["abc"])
    with pytest.raises(evaluation.EvaluationError, match=r"s#0: the model gives token 0 no probability"):
        evaluation.score(Uniform(math.inf), Bytes(), path)
    with pytest.raises(evaluation.EvaluationError, match="no documents to score"):
        evaluation.score(Uniform(1.0), Bytes(), table(tmp_path / "e.parquet", []))


def test_samples_continue_each_prompt_by_its_own_seed():
    model = NGram(3, 257, 256)
    model.fit(np.concatenate([np.append(256, Bytes().encode("to be or not to be € "))] * 3))
    found = evaluation.samples(model, Bytes(), ["to be", "€", ""], seed=1, tokens=30)
    assert [sample["prompt"] for sample in found] == ["to be", "€", ""]
    assert all(isinstance(sample["text"], str) for sample in found)
    assert found == evaluation.samples(model, Bytes(), ["to be", "€", ""], seed=1, tokens=30)
