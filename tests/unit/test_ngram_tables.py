"""Hashed n-gram embeddings of the transformer: each place looks up what it and the tokens before it are, no more."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pileline import models
from pileline.models import ModelError

V, END = 30, 0
SMALL = {"kind": "transformer", "layers": 1, "heads": 2, "width": 8, "context": 32, "bigrams": 1 << 20}


def buckets(tokens, **settings):
    network = models.build(SMALL | settings, V, END, 1).network
    return [level.tolist() for level in network._buckets(torch.tensor([tokens]))]


@settings(max_examples=30, deadline=None)
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


@settings(max_examples=20, deadline=None)
@given(parts=st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=7), min_size=2, max_size=3))
def test_separate_documents_see_nothing_before_them(parts):
    whole = [token for part in parts for token in (END, *part)]
    together = buckets(whole, ngrams=4, documents="separate")
    alone = [buckets([END, *part], ngrams=4, documents="separate") for part in parts]
    for level, (row,) in enumerate(together):
        assert row == [bucket for part in alone for bucket in part[level][0]]


@pytest.mark.parametrize("documents", ["joined", "separate"])
def test_a_text_in_parts_is_the_text(documents):
    """The state of `extend` carries as many tokens as the longest n-gram needs."""
    network = models.build(SMALL | {"ngrams": 4, "documents": documents}, V, END, 1).network.eval()
    with torch.no_grad():
        for table in (network.bigram, *network.ngram):
            table.weight.normal_(generator=torch.Generator().manual_seed(2))
        network.blocks[0].mlp.project.weight.normal_(generator=torch.Generator().manual_seed(3))
        tokens = torch.randint(V, (2, 20), generator=torch.Generator().manual_seed(4))
        tokens[:, 11] = END
        state, parts = {}, []
        for first, last in pairwise((0, 1, 2, 3, 9, 12, 13, 20)):
            hidden, state = network.extend(tokens[:, first:last], state)
            parts.append(hidden)
        torch.testing.assert_close(torch.cat(parts, dim=1), network.hidden(tokens))


def test_tables_are_counted_saved_and_refused(tmp_path):
    model = models.build(SMALL | {"bigrams": 50, "ngrams": 4}, V, END, 1)
    plain = models.build(SMALL | {"bigrams": 0, "ngrams": 4}, V, END, 1)
    assert model.parameters_count - plain.parameters_count == 3 * 50 * 8
    assert len(model.network.parameter_groups()["tables"]) == 3
    model.save(tmp_path)
    assert models.load(tmp_path).shape == model.shape
    with pytest.raises(ModelError, match="ngrams is 1"):
        models.build(SMALL | {"ngrams": 1}, V, END, 1)
