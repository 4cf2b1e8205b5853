"""The n-gram model against a slow, direct implementation of the textbook's equations."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pileline import models
from pileline.models.interface import ModelError
from pileline.models.ngram import FALLBACK_DISCOUNTS, NGram, estimate_discounts, unique, unique_documents

V, END = 7, 0
documents = st.lists(st.lists(st.integers(1, V - 1), max_size=9), min_size=1, max_size=12)


def stream(texts):
    return np.array([token for text in texts for token in [END, *text]], dtype=np.uint16)


def fitted(texts, order, repeats="all", vocabulary=V):
    model = NGram(order, vocabulary, END, repeats)
    model.fit(stream(texts))
    return model


class Textbook:
    """Chen & Goodman (1999), section 3 and appendix, with dictionaries and loops; nothing shared with the model."""

    def __init__(self, texts, order):
        self.order = order
        sentences = [[END, *text] for text in texts]
        # `end` is predicted after a document's last token too, except after the last document of the stream.
        padded = [[*s, END] if k + 1 < len(sentences) else s for k, s in enumerate(sentences)]
        raw = [defaultdict(int) for _ in range(order + 1)]
        for k, sentence in enumerate(padded):
            for n in range(1, order + 1):
                for i in range(len(sentence) - n + 1):
                    if n == 1 and i == 0 and k > 0:
                        continue  # the same `end`, counted as the last of the document before
                    raw[n][tuple(sentence[i : i + n])] += 1
        self.counts = [None] * (order + 1)
        self.counts[order] = raw[order]
        for n in range(1, order):
            before = defaultdict(set)
            for gram in raw[n + 1]:
                before[gram[1:]].add(gram[0])
            self.counts[n] = {g: len(before[g]) if before[g] else c for g, c in raw[n].items()}
        self.discounts = [None] + [self.estimate(self.counts[n].values()) for n in range(1, order + 1)]

    @staticmethod
    def estimate(counts):
        n = [sum(1 for c in counts if c == k) for k in range(5)]
        if not (n[1] and n[2] and n[3]):
            return FALLBACK_DISCOUNTS
        y = n[1] / (n[1] + 2 * n[2])
        d = [k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3)]
        return tuple(d) if all(0 <= d[k] <= k + 1 for k in range(3)) else FALLBACK_DISCOUNTS

    def probability(self, history, token):
        return self.recurse(tuple(history)[max(0, len(history) - self.order + 1) :], token)

    def recurse(self, history, token):
        n = len(history) + 1
        lower = self.recurse(history[1:], token) if history else 1 / V
        followers = {g[-1]: c for g, c in self.counts[n].items() if g[:-1] == history}
        total = sum(followers.values())
        if not total:
            return lower
        d = self.discounts[n]
        take = {w: d[min(c, 3) - 1] for w, c in followers.items()}
        backoff = sum(take.values()) / total
        own = (followers[token] - take[token]) / total if token in followers else 0.0
        return own + backoff * lower


@settings(max_examples=60)
@given(documents, st.integers(1, 5), documents)
def test_scores_equal_the_textbook(texts, order, asked):
    model, book = fitted(texts, order), Textbook(texts, order)
    for level, counts, discounts in zip(model.levels, book.counts[1:], book.discounts[1:], strict=True):
        assert sorted(level.counts.tolist()) == sorted(counts.values())
        assert level.discounts == pytest.approx(discounts)
    for text, found in zip(asked, model.score([np.array(t, dtype=np.int64) for t in asked]), strict=True):
        expected = [book.probability([END, *text[:i]], token) for i, token in enumerate(text)]
        assert np.exp(found) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_estimated_discounts_are_used_on_enough_text():
    generator = np.random.default_rng(1)
    texts = [(generator.zipf(1.5, 30) % (V - 1) + 1).tolist() for _ in range(40)]
    model, book = fitted(texts, 3), Textbook(texts, 3)
    assert model.levels[2].discounts != FALLBACK_DISCOUNTS
    history = [END, *texts[0][:5]]
    assert model.next_probabilities(np.array(history[1:])) == pytest.approx(
        [book.probability(history, w) for w in range(V)]
    )


@settings(max_examples=60)
@given(documents, st.integers(1, 5), st.lists(st.integers(1, V - 1), max_size=6))
def test_probabilities_sum_to_one_and_agree_with_score(texts, order, history):
    model = fitted(texts, order)
    chances = model.next_probabilities(np.array(history, dtype=np.int64))
    assert chances.sum() == pytest.approx(1.0, abs=1e-12)
    assert (chances > 0).all()
    scored = model.score([np.array([*history, w], dtype=np.int64) for w in range(1, V)])
    assert np.exp([s[-1] for s in scored]) == pytest.approx(chances[1:], rel=1e-12)


@settings(max_examples=40)
@given(documents, st.integers(1, 5))
def test_saved_and_loaded_scores_the_same(tmp_path_factory, texts, order):
    folder = tmp_path_factory.mktemp("model")
    model = fitted(texts, order)
    model.save(folder)
    again = models.load(folder)
    asked = [np.array(text, dtype=np.int64) for text in texts]
    pairs = zip(model.score(asked), again.score(asked), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)
    other = tmp_path_factory.mktemp("model")
    again.save(other)
    assert (other / "ngram.npz").read_bytes() == (folder / "ngram.npz").read_bytes()


@given(documents, st.lists(st.integers(0, 11), max_size=6))
def test_repeated_documents_count_once(texts, copies):
    unique = list(dict.fromkeys(map(tuple, texts)))
    repeated = [*unique, *(unique[k % len(unique)] for k in copies)]
    assert np.array_equal(unique_documents(stream(repeated).astype(np.int64), END), stream(unique))
    once, plain = fitted(repeated, 2, "once"), fitted(unique, 2, "all")
    assert np.array_equal(once.levels[1].counts, plain.levels[1].counts)


def test_no_ngram_reaches_over_the_end_of_a_document():
    model = fitted([[1, 2], [3, 4]], 3)
    grams = {divmod(int(key), V) for key in model.levels[1].keys}  # level 1's ids are the places of the sorted tokens
    tokens = model.levels[0].keys.tolist()
    assert {(tokens[a], b) for a, b in grams} == {(END, 1), (1, 2), (2, END), (END, 3), (3, 4)}


def test_discounts_of_large_counts_follow_good_turing():
    counts = np.repeat([1, 2, 3, 4, 9], [800, 300, 150, 90, 50])
    y = 800 / 1400
    assert estimate_discounts(counts) == pytest.approx(
        (1 - 2 * y * 300 / 800, 2 - 3 * y * 150 / 300, 3 - 4 * y * 90 / 150)
    )
    assert estimate_discounts(np.array([1, 1, 2])) == FALLBACK_DISCOUNTS


def test_generates_only_what_it_saw_and_stops_at_the_end():
    model = fitted([[1, 2, 3]] * 20, 3, "all")
    assert model.generate(np.array([1]), 10, temperature=0.0).tolist() == [2, 3]
    first, second = (model.generate(np.array([], dtype=np.int64), 30, seed=s) for s in (1, 1))
    assert first.tolist() == second.tolist()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fitted([[9]], 2), "0 to 9"),
        (lambda: NGram(2, V, END).fit(np.array([], dtype=np.int64)), "shards empty"),
        (lambda: NGram(2, V, END).score([np.array([1])]), "no counts"),
        (lambda: models.build({"kind": "gru"}, V, END), "known kinds: .*ngram, residual, transformer"),
    ],
)
def test_errors_say_what_is_wrong(make, message):
    with pytest.raises(ModelError, match=message):
        make()


@pytest.mark.slow
def test_counts_a_million_tokens_in_seconds_and_is_far_better_than_order_one():
    generator = np.random.default_rng(2)
    table = generator.integers(1, 4096, size=(4096, 4))
    tokens = np.zeros(1_000_000, dtype=np.int64)
    choices = generator.integers(0, 4, size=len(tokens))
    current = 1
    for place, choice in enumerate(choices.tolist()):  # a Markov chain of 4 followers: 2 bits a token
        current = int(table[current, choice])
        tokens[place] = current
    tokens[::500] = END
    model = NGram(5, 4096, END)
    model.fit(tokens)
    fresh = [tokens[k * 500 + 1 : k * 500 + 200] for k in range(100)]
    assert -np.concatenate(model.score(fresh)).mean() / np.log(2) < 2.5


@settings(max_examples=60)
@given(st.lists(st.integers(0, 9), max_size=40), st.sampled_from([1, 1 << 40, 1 << 59]))
def test_unique_keys_are_numpys(values, scale):
    keys = np.array(values, dtype=np.int64) * scale
    expected = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    for found, wanted in zip(unique(keys), expected, strict=True):
        assert np.array_equal(found, wanted)
