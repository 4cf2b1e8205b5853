"""Hashed n-gram embeddings of the transformer: each place looks up what it and the tokens before it are, no more."""

from __future__ import annotations

from functools import cache

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pileline import models

V, END = 30, 0
SMALL = {"kind": "transformer", "layers": 1, "heads": 1, "width": 2, "context": 32, "bigrams": 1 << 20}


@cache  # tables with so many buckets take long to make
def network(**settings):
    return models.build(SMALL | settings, V, END, 1).network


def buckets(tokens, **settings):
    return [level.tolist() for level in network(**settings)._buckets(torch.tensor([tokens]))]


@settings(max_examples=30)
@given(tokens=st.lists(st.integers(0, 5), min_size=1, max_size=24), ngrams=st.integers(2, 5))
def test_places_share_a_bucket_where_they_share_an_ngram(tokens, ngrams):
    """With many more buckets than n-grams; what stands before the block counts as a token of its own."""
    found = buckets(tokens, ngrams=ngrams)
    assert len(found) == ngrams - 1
    for n, (level,) in enumerate(found, 2):
        padded = [None] * (n - 1) + tokens
        grams = [tuple(padded[place : place + n]) for place in range(len(tokens))]
        by_gram, by_bucket = dict(zip(grams, level, strict=True)), dict(zip(level, grams, strict=True))
        assert [by_gram[gram] for gram in grams] == level
        assert len(by_gram) == len(by_bucket)


@settings(max_examples=20)
@given(parts=st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=7), min_size=2, max_size=3))
def test_separate_documents_see_nothing_before_them(parts):
    whole = [token for part in parts for token in (END, *part)]
    together = buckets(whole, ngrams=4, documents="separate")
    alone = [buckets([END, *part], ngrams=4, documents="separate") for part in parts]
    for level, (row,) in enumerate(together):
        assert row == [bucket for part in alone for bucket in part[level][0]]


def test_tables_are_counted():
    model = models.build(SMALL | {"bigrams": 50, "ngrams": 4}, V, END, 1)
    plain = models.build(SMALL | {"bigrams": 0, "ngrams": 4}, V, END, 1)
    assert model.parameters_count - plain.parameters_count == 3 * 50 * 2
    assert len(model.network.parameter_groups()["tables"]) == 3
