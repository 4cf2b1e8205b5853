"""The residual model: an n-gram model at first, corrected by a network that never saw what was counted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pileline import models, training
from pileline.models.interface import ModelError
from pileline.models.ngram import NGram
from pileline.models.residual import repeats
from pileline.training import derived, loop

from tests.unit.small_models import END, Rows, Stream, V, documents, entry

texts = st.lists(st.lists(st.integers(END + 1, V - 1), max_size=8), min_size=1, max_size=10)


@settings(max_examples=40)
@given(
    texts, st.integers(1, 4), st.lists(st.lists(st.integers(0, V - 1), min_size=6, max_size=6), min_size=1, max_size=3)
)
def test_distributions_of_a_batch_are_those_of_each_place(counted, order, rows):
    ngram = NGram(order, V, END)
    ngram.fit(Stream(counted).tokens)
    chances, evidence = ngram.distributions(np.array(rows))
    assert chances.dtype == evidence.dtype == np.float32
    places = [(row, stop) for row in rows for stop in range(1, len(row) + 1)]
    for found, (row, stop) in zip(chances, places, strict=True):
        # `next_probabilities` puts an `end` before its context, so only places behind one compare.
        seen = list(row[:stop])
        if END in seen:
            after = seen[len(seen) - seen[::-1].index(END) :]
            np.testing.assert_allclose(found, ngram.next_probabilities(np.array(after, dtype=np.int64)), atol=1e-6)
        assert found.sum() == pytest.approx(1.0, abs=1e-5)
    assert (evidence[:, 0] == evidence[0, 0]).all()


def test_before_the_first_step_it_is_the_ngram_model():
    model = models.build(entry("residual"), V, END, 1)
    model.prepare(Stream(documents(60)))
    asked = [np.array(text) for text in [*documents(3, seed=5), [], [1]]]
    for found, expected in zip(model.score(asked), model.ngram.score(asked), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_network_learns_on_text_that_was_not_counted():
    shared, own, other = documents(3, seed=7)
    stream = Stream([shared, own, other, shared, other])
    model = models.build(entry("residual", share=0.45, order=1), V, END)
    assert model.prepare(stream) == len(shared) + len(own) + 2
    expected = NGram(1, V, END)
    expected.fit(Stream([other]).tokens)
    assert np.array_equal(model.ngram.levels[0].keys, expected.levels[0].keys)
    assert np.array_equal(model.ngram.levels[0].counts, expected.levels[0].counts)
    model.complete(stream)
    expected.fit(Stream([shared, own, other]).tokens)
    assert np.array_equal(model.ngram.levels[0].counts, expected.levels[0].counts)


def test_training_corrects_what_counting_cannot_know(tmp_path):
    """Every document repeats its first token at every second place: beyond the reach of a bigram model."""
    generator = np.random.default_rng(2)
    rows = generator.integers(1, V, (5020, 10))
    rows[:, ::2] = rows[:, :1]
    stream = Stream(rows[:5000])
    model = models.build(entry("residual", order=2, share=0.5, context=11), V, END, 1)
    stepped = model.prepare(stream)
    batches = Rows(stream.tokens[: stepped // 176 * 176].reshape(-1, 16, 11))

    output, scratch = (tmp_path / part for part in ("output", "scratch"))
    output.mkdir(), scratch.mkdir()
    plan = derived.Settled(steps=150, warmup=10, embedding_rate=0.05)
    held_out = [np.array(row) for row in rows[5000:]]
    before = training.loss_over(model, held_out)
    loop.run(model, batches, None, plan, 1, 1, output, scratch)
    model.complete(stream)
    assert training.loss_over(model, held_out) < before - 0.5


@settings(max_examples=40)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.integers(0, 4), st.integers(1, 12))
def test_the_cache_counts_what_the_document_said_before(row, levels, last):
    found = repeats(torch.tensor([row, row[::-1]]), END, V, levels, min(last, len(row)))
    assert len(found) == levels
    for number, tokens in enumerate((row, row[::-1])):
        for place in range(max(len(tokens) - last, 0), len(tokens)):
            start = max((i for i in range(place + 1) if tokens[i] == END), default=0)
            seen = tokens[start : place + 1]
            for level, counts in enumerate(found):
                expected = np.zeros(V)
                for i in range(level, len(seen)):
                    if level == 0 or seen[i - level : i] == seen[len(seen) - level :]:
                        expected[seen[i]] += 1
                assert counts[number, place - len(tokens)].tolist() == expected.tolist()


def test_a_text_too_small_to_share_out_is_refused():
    with pytest.raises(ModelError, match=r"too few for a share of 0\.125"):
        models.build(entry("residual"), V, END).prepare(Stream([[4, 5]]))
