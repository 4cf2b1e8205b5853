"""The loader: every row once an epoch, from seed and step alone, whoever else draws, however many ranks share it."""

from __future__ import annotations

import random
import threading
import tracemalloc
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pileline import shards
from pileline.shards.ahead import in_order
from pileline.shards.order import Permutation

END = 0
SOURCES = ["a", "b", "c"]


def split_of(lengths: list[int], batches: int = 2) -> shards.ShardSet:
    """A split of documents of so many tokens (END included) of sources in turn; tokens count up, so each is unique."""
    made, token = [], 1
    for rows in np.array_split(np.arange(len(lengths)), batches):
        lists = []
        for row in rows.tolist():
            lists.append([END, *range(token, token + lengths[row] - 1)])
            token += lengths[row] - 1
        columns = {
            "tokens": pa.array(lists, pa.list_(pa.uint32())),
            "source": pa.DictionaryArray.from_arrays(pa.array(rows % 3, pa.int32()), pa.array(SOURCES)),
            "id": pa.array([str(row) for row in rows]),
            "bytes": pa.array([1] * len(rows), pa.uint32()),
        }
        made.append(pa.RecordBatch.from_pydict(columns))
    stream = shards.TokenStream([batch.column("tokens").values.to_numpy() for batch in made])
    return shards.ShardSet("train", made, stream, SOURCES, END, "")


def an_epoch(loader: shards.Loader) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the first epoch."""
    found = [loader.batch_at(step) for step in range(loader.epoch_steps)]
    return tuple(np.concatenate([batch[side] for batch in found])[: loader.blocks] for side in (0, 1))


# ------------------------------------------------------------------------------------------------- order


@given(st.integers(1, 3000), st.integers(0, 10), st.integers(0, 10))
@settings(max_examples=60)
def test_an_order_holds_every_number_once(n: int, seed: int, epoch: int) -> None:
    order = Permutation(n, [seed, epoch])
    found = order(np.arange(n))
    assert sorted(found.tolist()) == list(range(n))
    some = np.random.default_rng(0).integers(0, n, 20)
    assert order(some).tolist() == found[some].tolist()


def test_an_order_looks_random() -> None:
    n = 1000
    orders = np.array([Permutation(n, [seed, epoch])(np.arange(n)) for seed in range(20) for epoch in range(20)])
    counts = np.array([np.bincount(column // 100, minlength=10) for column in orders.T])  # 400 draws, ten bins
    statistic = ((counts - 40) ** 2 / 40).sum(axis=1)  # chi-squared, 9 degrees of freedom: mean 9, deviation 4.2
    assert statistic.mean() == pytest.approx(9, abs=0.5)
    steps = np.diff(orders, axis=1)
    assert (steps == 1).mean() < 0.003  # neighbours stay neighbours as rarely as chance has it, 0.001
    fixed = (orders == np.arange(n)).sum(axis=1).mean()
    assert fixed == pytest.approx(1, abs=0.2)


def test_an_order_of_any_length_takes_no_memory() -> None:
    n = 10**15
    tracemalloc.start()
    found = Permutation(n, [1, 2])(np.arange(10**9, 10**9 + 5000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(set(found.tolist())) == 5000
    assert 0 <= found.min() < n / 1000
    assert n * 0.999 < found.max() < n
    assert peak < 2e6


# ------------------------------------------------------------------------------------------------- loader


@pytest.mark.parametrize("packing", shards.PACKINGS)
@pytest.mark.parametrize("weights", [None, {"a": 2.0, "c": 0.5}])
def test_batches_are_a_function_of_seed_and_step(packing: str, weights: dict[str, float] | None) -> None:
    data = split_of([3, 9, 1, 30, 5, 2] * 20)

    def loader(seed: int = 3) -> shards.Loader:
        return shards.Loader(data, 4, 8, seed, packing=packing, weights=weights)

    straight = [loader().batch_at(step) for step in range(70)]
    resumed = loader()
    for step in (69, 0, 31, 70 - 1):
        for found, expected in zip(resumed.batch_at(step), straight[step], strict=True):
            np.testing.assert_array_equal(found, expected)
            assert (found.shape, found.dtype) == ((4, 8), np.int64)
    assert (loader(seed=4).batch_at(0)[0] != straight[0][0]).any()


@pytest.mark.parametrize("packing", shards.PACKINGS)
@given(batch=st.integers(1, 9), data=st.data())
@settings(max_examples=25)
def test_ranks_share_the_same_batches(packing: str, batch: int, data: st.DataObject) -> None:
    split = split_of([3, 9, 1, 30, 5, 2] * 5)
    ranks = data.draw(st.integers(1, batch))
    whole = shards.Loader(split, batch, 8, 1, packing=packing)
    parts = [shards.Loader(split, batch, 8, 1, packing=packing, rank=rank, ranks=ranks) for rank in range(ranks)]
    for step in (0, 1, 17):
        for side in (0, 1):
            joined = np.concatenate([part.batch_at(step)[side] for part in parts])
            np.testing.assert_array_equal(joined, whole.batch_at(step)[side])


def test_changing_a_batch_does_not_change_the_next_look() -> None:
    loader = shards.Loader(split_of([50] * 4), 2, 8, 1)
    first = loader.batch_at(0)[0].copy()
    loader.batch_at(0)[0][:] = 7
    np.testing.assert_array_equal(loader.batch_at(0)[0], first)


def test_wrong_ranks_and_packings_are_refused() -> None:
    data = split_of([50] * 4)
    for rank, ranks in ((2, 2), (-1, 2), (0, 5)):
        with pytest.raises(ValueError, match="there must be 0 <= rank < ranks <= rows"):
            shards.Loader(data, 4, 8, 1, rank=rank, ranks=ranks)
    with pytest.raises(ValueError, match="packing is 'tight', must be one of concatenate, best_fit"):
        shards.Loader(data, 4, 8, 1, packing="tight")
    with pytest.raises(shards.ShardError, match="no source z to weigh; it has: a, b, c"):
        shards.Loader(data, 4, 8, 1, weights={"z": 1.0})
    with pytest.raises(shards.ShardError, match="each must be 0 or more"):
        shards.Loader(data, 4, 8, 1, weights={"a": -1.0})
    with pytest.raises(shards.ShardError, match="too few for one sequence"):
        shards.Loader(data, 4, 8, 1, weights=dict.fromkeys(SOURCES, 0.0))


def test_global_generators_neither_matter_nor_move() -> None:
    data = split_of([3, 9, 1, 30, 5, 2] * 20)

    def draw() -> list[list[int]]:
        loader = shards.Loader(data, 4, 8, 3, packing="best_fit", weights={"a": 1.5})
        return [loader.batch_at(step)[0].tolist() for step in range(30)]

    found = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        before = (random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist())
        found.append(draw())
        assert before == (random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist())
    assert found[0] == found[1]


@pytest.mark.parametrize("n", [10**5, 10**12])
def test_memory_does_not_grow_with_the_data(n: int) -> None:
    tokens = shards.TokenStream([np.broadcast_to(np.uint16(7), n)])  # a stream of any length, in two bytes
    tracemalloc.start()
    loader = shards.Loader(shards.ShardSet("train", [], tokens, ["s"], 0, ""), 16, 256, 1)
    for step in range(40):
        loader.batch_at(step)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert loader.blocks == (n - 1) // 256
    assert peak < 4e6


# ------------------------------------------------------------------------------------------------ weights


@pytest.mark.parametrize("packing", shards.PACKINGS)
def test_weights_draw_sources_so_many_times(packing: str) -> None:
    data = split_of([5] * 3000, batches=3)
    loader = shards.Loader(data, 8, 16, 1, packing=packing, weights={"a": 2.0, "b": 0.5})
    targets = an_epoch(loader)[1]
    owner = {token: n % 3 for n, row in enumerate(data.documents()) for token in row["tokens"].tolist()}
    times = Counter(targets[targets > END].tolist())
    assert {times[token] for token in owner if owner[token] == 0} == {2}
    assert {times[token] for token in owner if owner[token] == 2} == {1}
    halves = [times[token] for token in owner if owner[token] == 1]
    assert set(halves) == {0, 1}
    assert np.mean(halves) == pytest.approx(0.5, abs=0.05)
    twice = [row for row in targets if any(count > 1 for count in Counter(row[row > END].tolist()).values())]
    assert twice == []  # a row that held a document twice would teach copying
    account = loader.account()
    assert account.tokens == (targets != shards.PADDING).sum()
    assert account.documents == 2000 + 1000 + np.sum(halves) / 4


# ----------------------------------------------------------------------------------------------- prefetch


@pytest.mark.parametrize("ahead", [0, 1, 5])
def test_prefetched_batches_are_the_same(ahead: int) -> None:
    loader = shards.Loader(split_of([3, 9, 1, 30, 5, 2] * 20), 4, 8, 3)
    steps = range(3, 40)
    found = [inputs.tolist() for inputs, _ in shards.prefetch(loader, steps, ahead)]
    assert found == [loader.batch_at(step)[0].tolist() for step in steps]


class Counting:
    """Batches that note which were asked for, and fail at one of them."""

    epoch_steps = 10

    def __init__(self, fails: int) -> None:
        self.fails, self.asked = fails, []

    def batch_at(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        self.asked.append(step)
        if step == self.fails:
            raise OSError("the disk is gone")
        return np.array([step]), np.array([step])


@pytest.mark.parametrize("ahead", [0, 3])
def test_an_exception_comes_out_where_its_batch_would_have(ahead: int) -> None:
    coming = shards.prefetch(Counting(fails=4), range(10), ahead)
    assert [int(next(coming)[0][0]) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(OSError, match="the disk is gone"):
        next(coming)


def test_no_more_than_ahead_is_made_and_the_thread_ends() -> None:
    before = set(threading.enumerate())  # those of other tests may end meanwhile
    batches = Counting(fails=-1)
    coming = shards.prefetch(batches, range(10**9), ahead=3)
    next(coming)
    (thread,) = set(threading.enumerate()) - before
    coming.close()
    assert not thread.is_alive()
    assert len(batches.asked) <= 4


@given(st.lists(st.integers(), max_size=30), st.integers(1, 4), st.integers(0, 6))
@settings(max_examples=40)
def test_work_done_ahead_keeps_its_order(items: list[int], threads: int, ahead: int) -> None:
    assert list(in_order(lambda item: item * 2, items, threads, ahead)) == [item * 2 for item in items]
