"""Packing: nothing is lost or drawn twice, whole documents stay whole, and what is padded and cut is counted."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pileline import shards
from pileline.shards.packing import fit

from tests.unit.test_loader import END, an_epoch, split_of

LENGTHS = st.lists(st.integers(1, 40), min_size=2, max_size=40)


def stream_of(split: shards.ShardSet) -> list[int]:
    return split.tokens.read(0, split.n_tokens).tolist()


@given(LENGTHS, st.integers(1, 16), st.integers(1, 3))
@settings(max_examples=80)
def test_best_fit_predicts_every_token_of_the_stream_once(lengths: list[int], context: int, batches: int) -> None:
    split = split_of(lengths, batches)
    if split.n_tokens < 2:
        return
    inputs, targets = an_epoch(shards.Loader(split, 3, context, 1, packing="best_fit"))
    real = targets != shards.PADDING
    stream = stream_of(split)
    assert sorted(zip(inputs[real], targets[real], strict=True)) == sorted(itertools.pairwise(stream))
    assert (inputs[~real] == END).all()


@given(LENGTHS, st.integers(1, 16))
@settings(max_examples=80)
def test_best_fit_cuts_only_what_is_longer_than_a_row(lengths: list[int], context: int) -> None:
    split = split_of(lengths)
    loader = shards.Loader(split, 1, context, 1, packing="best_fit")
    inputs, targets = an_epoch(loader)
    for row, aims in zip(inputs.tolist(), targets.tolist(), strict=True):
        begins = [at for at, (token, aim) in enumerate(zip(row, aims, strict=True)) if token == END and aim != -100]
        padded = aims.index(-100) if -100 in aims else context
        assert set(aims[padded:]) <= {-100}  # padding is at the row's end
        if row[0] != END:  # goes on from another row: it has this row for itself
            assert (begins, padded) == ([], context)
    predicted = [*lengths[:-1], lengths[-1] - 1]  # the stream's last token has none behind it
    account = loader.account()
    assert account.cut == sum(length > context for length in predicted)
    assert account.documents == sum(length > 0 for length in predicted)
    assert (account.rows, account.tokens, account.dropped) == (len(inputs), (targets != -100).sum(), 0)
    assert account.padding == (targets == -100).sum()


@given(LENGTHS, st.integers(1, 16))
@settings(max_examples=80)
def test_concatenation_is_counted_as_it_is(lengths: list[int], context: int) -> None:
    split = split_of(lengths)
    if split.n_tokens <= context:
        return
    loader = shards.Loader(split, 1, context, 1)
    account = loader.account()
    owner = np.repeat(np.arange(len(lengths)), lengths)
    rows = np.arange(len(owner)) // context
    assert account.cut == sum(len(set(rows[owner == document].tolist())) > 1 for document in range(len(lengths)))
    assert account.tokens == loader.blocks * context
    assert (account.padding, account.documents) == (0, len(lengths))
    assert account.dropped == split.n_tokens - 1 - account.tokens
    assert account.to_dict()["efficiency"] == 1.0


@given(st.lists(st.integers(1, 20), max_size=40), st.integers(20, 30))
@settings(max_examples=100)
def test_bins_are_those_of_best_fit_decreasing(lengths: list[int], capacity: int) -> None:
    """Against a plain search of all bins; which of two equally full bins is taken does not matter to the loads."""
    found = fit(np.array(lengths, dtype=np.int64), capacity)
    loads = np.bincount(found, lengths) if lengths else np.array([])
    expected: list[int] = []
    for length in sorted(lengths, reverse=True):
        room = [(load, at) for at, load in enumerate(expected) if load + length <= capacity]
        if room:
            expected[max(room)[1]] += length
        else:
            expected.append(length)
    assert sorted(loads.tolist()) == sorted(expected)


def test_best_fit_leaves_little_padding_and_cuts_less() -> None:
    generator = np.random.default_rng(0)
    lengths = np.clip(generator.lognormal(5, 1, 4000), 1, 3000).astype(int).tolist()
    split = split_of(lengths, batches=4)
    accounts = {p: shards.Loader(split, 8, 512, 1, packing=p).account().to_dict() for p in shards.PACKINGS}
    assert accounts["best_fit"]["efficiency"] > 0.99
    assert accounts["best_fit"]["cut_share"] < accounts["concatenate"]["cut_share"] / 3
    assert sum(accounts["best_fit"][key] for key in ("tokens", "padding")) == accounts["best_fit"]["rows"] * 512


def test_a_start_of_the_stream_is_packed_alone() -> None:
    split = split_of([5] * 40, batches=4)
    part = shards.ShardSet(
        "train", split.batches, shards.TokenStream([split.tokens.read(0, 85)]), ["a", "b", "c"], 0, ""
    )
    inputs, targets = an_epoch(shards.Loader(part, 2, 10, 1, packing="best_fit"))
    real = targets != shards.PADDING
    assert sorted(zip(inputs[real], targets[real], strict=True)) == sorted(itertools.pairwise(stream_of(part)))


@pytest.mark.parametrize("packing", shards.PACKINGS)
def test_split_of_builds_what_it_says(packing: str) -> None:
    split = split_of([3, 1, 2], batches=2)
    assert stream_of(split) == [0, 1, 2, 0, 0, 3]
    assert [window.lengths.tolist() for window in split.windows()] == [[3, 1], [2]]
    assert [window.sources.tolist() for window in split.windows()] == [[0, 1], [2]]
    assert shards.Loader(split, 1, 2, 1, packing=packing).account().packing == packing
