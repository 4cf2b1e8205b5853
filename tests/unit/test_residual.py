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

V, END = 23, 0
SMALL = {"kind": "residual", "layers": 1, "heads": 2, "width": 16, "context": 12, "bigrams": 17, "order": 3}
texts = st.lists(st.lists(st.integers(1, V - 1), max_size=8), min_size=1, max_size=10)


class Stream:
    """Documents as a stream of tokens, each with its leading `end`."""

    def __init__(self, documents):
        self.tokens = np.array([token for text in documents for token in [END, *text]], dtype=np.int64)

    def __len__(self):
        return len(self.tokens)

    def read(self, start, stop):
        return self.tokens[start:stop]


def documents(number, seed=1):
    """Texts of a Markov chain with three followers a token."""
    generator = np.random.default_rng(seed)
    follow = np.random.default_rng(0).integers(1, V, (V, 3))
    found = []
    for _ in range(number):
        text = [int(generator.integers(1, V))]
        for choice in generator.integers(0, 3, 20):
            text.append(int(follow[text[-1], choice]))
        found.append(text)
    return found


def prepared(seed=1, noise=0.0, **changes):
    model = models.build(SMALL | changes, V, END, seed)
    steps = model.prepare(Stream(documents(60)))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(noise * torch.randn(parameter.shape, generator=generator))
    return model, steps


@settings(max_examples=40, deadline=None)
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
    model, _ = prepared()
    asked = [np.array(text) for text in [*documents(3, seed=5), [], [1]]]
    for found, expected in zip(model.score(asked), model.ngram.score(asked), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_network_learns_on_text_that_was_not_counted():
    shared, own, other = documents(3, seed=7)
    stream = Stream([shared, own, other, shared, other])
    model = models.build(SMALL | {"share": 0.45, "order": 1}, V, END)
    assert model.prepare(stream) == len(shared) + len(own) + 2
    expected = NGram(1, V, END)
    expected.fit(Stream([other]).tokens)
    assert np.array_equal(model.ngram.levels[0].keys, expected.levels[0].keys)
    assert np.array_equal(model.ngram.levels[0].counts, expected.levels[0].counts)
    model.complete(stream)
    expected.fit(Stream([shared, own, other]).tokens)
    assert np.array_equal(model.ngram.levels[0].counts, expected.levels[0].counts)


def test_score_is_the_chain_rule_and_does_not_depend_on_the_batch():
    model, _ = prepared(noise=0.2)
    short, long = (np.array(documents(1, seed=s)[0] * k) for s, k in ((3, 1), (4, 3)))
    short = short[:11]
    together = model.score([short, long])
    chain = [np.log(model.next_probabilities(short[:i])[token]) for i, token in enumerate(short)]
    np.testing.assert_allclose(together[0], chain, atol=1e-4)
    np.testing.assert_allclose(model.score([long])[0], together[1], atol=1e-5)
    assert model.next_probabilities(short).sum() == pytest.approx(1.0)


def test_saved_and_loaded_is_the_same_model(tmp_path):
    model, _ = prepared(noise=0.2)
    model.save(tmp_path)
    again = models.load(tmp_path)
    asked = [np.array(text) for text in documents(3, seed=5)]
    for a, b in zip(model.score(asked), again.score(asked), strict=True):
        assert np.array_equal(a, b)
    assert np.array_equal(model.features(asked), again.features(asked))
    assert again.parameters_count == model.parameters_count == sum(count for *_, count in model.describe())


def test_training_corrects_what_counting_cannot_know(tmp_path):
    """Every document repeats its first token at every second place: beyond the reach of a bigram model."""
    generator = np.random.default_rng(2)
    rows = generator.integers(1, V, (5020, 10))
    rows[:, ::2] = rows[:, :1]
    stream = Stream(rows[:5000])
    settings_ = SMALL | {"order": 2, "share": 0.5, "context": 11}
    model = models.build(settings_, V, END, 1)
    stepped = model.prepare(stream)
    blocks = stream.tokens[: stepped // 11 * 11].reshape(-1, 11)

    class Batches:
        epoch_steps = len(blocks) // 16

        def batch_at(self, step):
            rows = blocks[(np.arange(16) + 16 * step) % len(blocks)]
            return rows[:, :-1], rows[:, 1:]

    output, scratch = (tmp_path / part for part in ("output", "scratch"))
    output.mkdir(), scratch.mkdir()
    plan = derived.Settled(steps=150, warmup=10, embedding_rate=0.05)
    held_out = [np.array(row) for row in rows[5000:]]
    before = training.loss_over(model, held_out)
    loop.run(model, Batches(), None, plan, 1, 1, output, scratch)
    model.complete(stream)
    assert training.loss_over(model, held_out) < before - 0.5


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.integers(0, 4))
def test_the_cache_counts_what_the_document_said_before(row, levels):
    found = repeats(torch.tensor([row, row[::-1]]), END, V, levels)
    assert len(found) == levels
    for number, tokens in enumerate((row, row[::-1])):
        for place in range(len(tokens)):
            start = max((i for i in range(place + 1) if tokens[i] == END), default=0)
            seen = tokens[start : place + 1]
            for level, counts in enumerate(found):
                expected = np.zeros(V)
                for i in range(level, len(seen)):
                    if level == 0 or seen[i - level : i] == seen[len(seen) - level :]:
                        expected[seen[i]] += 1
                assert counts[number, place].tolist() == expected.tolist()


def test_shares_that_cannot_be_are_refused():
    with pytest.raises(ModelError, match=r"share 1\.5"):
        models.build(SMALL | {"share": 1.5}, V, END)
    with pytest.raises(ModelError, match="cache 13"):
        models.build(SMALL | {"cache": 13}, V, END)
    with pytest.raises(ModelError, match=r"too few for a share of 0\.125"):
        models.build(SMALL, V, END).prepare(Stream([[1, 2]]))
