"""Who stays: the greedy rule over buckets, in rounds of arrays.

The rule. Documents stand in keep order, protected ones first. Going through it, a training document is removed
if its true similarity with an earlier document *that stays* and shares a bucket reaches the threshold. So every
removal has a partner that is in the corpus, and no document goes for the sake of one that is itself gone.

The rounds. A document stays for good once it is first in every bucket it has left; all such documents are
taken at once, each compared with those behind it in its buckets, and what was removed leaves all buckets. This
gives what going one by one gives (Blelloch, Fineman and Shun, "Greedy sequential maximal independent set and
matching are parallel on average", 2012), and a cluster of n copies costs n comparisons, not n squared. There are as
many rounds as the longest chain of documents of which each waits for the one before: about log n for an order
without a plan (Fischer and Noever, "Tight analysis of parallel randomized greedy MIS", 2018); at worst, a chain laid
out in keep order, n of them.

The bound. A bucket in which many documents collide without being similar would still cost n squared. So in a bucket
only the first `LEADERS` training documents that stay are compared with those behind; what is then left is not
compared there, is counted as skipped, and stays unless another bucket has it removed. Comparisons with
protected documents have no such bound: the holdout's guard is complete over all candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pileline.deduplication.lsh import Buckets

LEADERS = 64
HISTOGRAM_EDGES = np.round(np.linspace(0.0, 1.0, 21), 2)
Similarity = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Resolution:
    """The outcome over n documents in keep order.

    partner     [n] the document that each was removed for, -1 where it stays
    similarity  [n] its true Jaccard similarity with the partner, 0 where it stays
    compared, similar, skipped  pairs measured, those that reached the threshold, those left out by the bound
    histogram   [20] measured pairs by similarity, between `HISTOGRAM_EDGES`
    """

    partner: NDArray[np.int64]
    similarity: NDArray[np.float64]
    compared: int
    similar: int
    skipped: int
    histogram: NDArray[np.int64]


def resolve(
    found: Buckets, protected: NDArray[np.bool_], near: bool, threshold: float, similarity: Similarity
) -> Resolution:
    """Apply the rule. `found`'s members are numbers in keep order; `protected` [n] is True for the first of them.

    With `near` false, only pairs of a protected and a training document are compared.
    """
    n = len(protected)
    result = Resolution(np.full(n, -1), np.zeros(n), 0, 0, 0, np.zeros(len(HISTOGRAM_EDGES) - 1, np.int64))
    compared = similar = skipped = 0
    led = np.zeros(int(found.bucket[-1]) + 1 if len(found.bucket) else 0, np.int64)
    left = relevant(found, protected, near)
    while len(left.bucket):
        leads, followers, settled = _round(left, protected)
        measured = similarity(leads, followers)
        reached = measured >= threshold
        compared += len(leads)
        similar += int(reached.sum())
        result.histogram[:] += np.histogram(measured, HISTOGRAM_EDGES)[0]
        _remove(result, leads[reached], followers[reached], measured[reached])
        led[left.bucket[settled & left.first() & ~protected[left.member]]] += 1
        left = left.select(~(settled & left.first()) & (result.partner[left.member] < 0))
        full = led[left.bucket] >= LEADERS
        skipped += _pairs(left.select(full))
        left = relevant(left.select(~full), protected, near)
    return Resolution(result.partner, result.similarity, compared, similar, skipped, result.histogram)


def relevant(left: Buckets, protected: NDArray[np.bool_], near: bool) -> Buckets:
    """Without the buckets in which nothing is left to compare (see `resolve` for the arguments)."""
    first, last = left.first(), left.last()
    leader, end = left.spread(left.member, first), left.spread(left.member, last)
    return left.select((leader != end) & ~protected[end] & (protected[leader] | near))


def _round(
    left: Buckets, protected: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """The round's pairs, each once: documents that now stay, and training documents behind them in a bucket.

    Also marks the entries of buckets whose first document now stays.
    """
    first = left.first()
    waiting = np.zeros(len(protected), bool)
    waiting[left.member[~first]] = True
    leader = left.spread(left.member, first)
    settled = ~waiting[leader]
    pair = settled & ~first & ~protected[left.member]
    codes = np.unique(leader[pair] * len(protected) + left.member[pair])
    return codes // len(protected), codes % len(protected), settled


def _remove(
    result: Resolution, leads: NDArray[np.int64], followers: NDArray[np.int64], measured: NDArray[np.float64]
) -> None:
    """Note each follower's removal for the most similar of its leads, the earliest of equals."""
    order = np.lexsort((leads, -measured, followers))
    removed, place = np.unique(followers[order], return_index=True)
    result.partner[removed] = leads[order][place]
    result.similarity[removed] = measured[order][place]


def _pairs(left: Buckets) -> int:
    """Number of pairs of members of the same bucket."""
    sizes = np.unique(left.bucket, return_counts=True)[1]
    return int((sizes * (sizes - 1) // 2).sum())
