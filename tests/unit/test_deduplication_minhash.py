"""Shingles, MinHash, LSH and verification against sets of Python strings and against theory."""

import tempfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pileline.deduplication import Method, MinHash, Shingler, buckets, injected, probability
from pileline.deduplication.codes import Codes, groups, normalized
from pileline.deduplication.minhash import stream
from pileline.deduplication.resolve import resolve
from pileline.deduplication.verify import ShingleSets

SHINGLERS = {size: Shingler(size, seed=3) for size in (1, 2, 3, 5, 8, 13)}
TEXTS = st.lists(st.text(alphabet="ab c这é\u0000𝄞", max_size=40), min_size=1, max_size=12)


def shingles(text: str, size: int) -> set[str]:
    return {text[i : i + size] for i in range(max(1, len(text) - size + 1))}


def jaccard(left: str, right: str, size: int) -> float:
    a, b = shingles(left, size), shingles(right, size)
    return len(a & b) / len(a | b)


@given(TEXTS, st.sampled_from(sorted(SHINGLERS)))
def test_shingle_hashes_are_equal_exactly_where_shingles_are(texts: list[str], size: int) -> None:
    hashes, counts = SHINGLERS[size].hashes(Codes.of(texts))
    assert counts.tolist() == [max(1, len(text) - size + 1) for text in texts]
    cut = [text[i : i + size] for text in texts for i in range(max(1, len(text) - size + 1))]
    named: dict[str, int] = {}
    for shingle, value in zip(cut, hashes.tolist(), strict=True):
        assert named.setdefault(shingle, value) == value
    assert len(set(named.values())) == len(named)


def test_a_window_is_the_polynomial_of_its_characters() -> None:
    from pileline.deduplication import minhash

    values = stream(1, 9, 60)
    for size in range(1, 21):
        expected = [
            sum(int(values[i + j]) * pow(minhash.BASE, size - 1 - j) for j in range(size)) % 2**64
            for i in range(len(values) - size + 1)
        ]
        assert minhash.windows(values, size).tolist() == expected


@given(TEXTS, st.sampled_from(sorted(SHINGLERS)))
def test_true_similarity_equals_that_of_python_sets(texts: list[str], size: int) -> None:
    sets = ShingleSets(texts, SHINGLERS[size], tempfile.gettempdir())
    assert sets.sizes.tolist() == [len(shingles(normalized(text), size)) for text in texts]
    left, right = np.divmod(np.arange(len(texts) ** 2), len(texts))
    plain = [normalized(text) for text in texts]
    expected = [jaccard(plain[i], plain[j], size) for i, j in zip(left, right, strict=True)]
    assert sets.jaccard(left, right).tolist() == expected


def test_similarity_does_not_depend_on_batches(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [(f"{'a line of verse ' * (n % 7)} number {n} {n * n}") for n in range(300)]
    sets = ShingleSets(texts, SHINGLERS[5], tmp_path)
    left, right = np.arange(299), np.arange(1, 300)
    together = sets.jaccard(left, right)
    monkeypatch.setattr("pileline.deduplication.verify._HASHES", 50)
    assert sets.jaccard(left, right).tolist() == together.tolist()
    assert len(sets[7]) == sets.sizes[7]
    assert list(tmp_path.iterdir()) == []


def words(count: int, seed: int) -> str:
    return " ".join(f"{value % 5000:x}" for value in stream(seed, 7, count).tolist())


def test_estimate_is_unbiased_and_has_the_binomial_variance() -> None:
    """Over independent pairs, the mean error is near 0 and its variance near J(1 - J)/k."""
    shingler, scores = SHINGLERS[5], []
    for number in range(400):
        text = words(120, number)
        other = injected.scattered(text, 0.3 + 0.55 * number / 400, 5, number)
        truth = jaccard(text, other, 5)
        signature = MinHash(20, 6, seed=number).signatures(*shingler.hashes(Codes.of([text, other])))
        share = float((signature[:, 0] == signature[:, 1]).mean())
        scores.append((share - truth) / np.sqrt(truth * (1 - truth) / 120))
    assert abs(np.mean(scores)) < 4 / np.sqrt(len(scores))
    assert 0.75 < np.var(scores) < 1.3


def test_every_shingle_is_as_likely_the_smallest() -> None:
    hashes, counts = SHINGLERS[13].hashes(Codes.of([words(12, 5)]))
    n, trials = int(counts[0]), 40_000
    minhash = MinHash(trials, 1, seed=2)
    shingles_32 = (hashes >> np.uint64(32)).astype(np.uint32)
    smallest = (minhash._factors[:, None] * shingles_32 + minhash._addends[:, None]).argmin(axis=1)
    assert minhash.signatures(hashes, counts).shape == (trials, 1)
    share = np.bincount(smallest, minlength=n) * n / trials
    assert share.min() > 0.85
    assert share.max() < 1.15


def test_a_long_text_is_signed_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes, counts = Shingler(13, 1).hashes(Codes.of(["some words of a text, " * 40]))
    whole = MinHash(20, 6, 1).signatures(hashes, counts)
    monkeypatch.setattr("pileline.deduplication.minhash._SHINGLES_AT_ONCE", 100)
    assert (MinHash(20, 6, 1).signatures(hashes, counts) == whole).all()


def test_band_hashes_do_not_depend_on_the_grouping() -> None:
    minhash, shingler = MinHash(4, 3, seed=1), SHINGLERS[5]

    def band_hashes(some: list[str]) -> np.ndarray:
        return minhash.band_hashes(minhash.signatures(*shingler.hashes(Codes.of(some))))

    texts = [words(n % 40, n) for n in range(600)] + ["x" * 100_000, ""]
    alone = np.concatenate([band_hashes([text]) for text in texts])
    assert (np.concatenate([band_hashes(group) for group in groups(texts)]) == alone).all()
    assert [text for group in groups(texts) for text in group] == texts
    assert max(map(len, groups(texts))) <= 256


def test_bands_agree_exactly_where_their_rows_do() -> None:
    minhash = MinHash(3, 2, seed=1)
    signatures = (stream(4, 4, 6 * 400) % np.uint64(3)).astype(np.uint32).reshape(6, 400)
    hashes = minhash.band_hashes(signatures)
    for band in range(3):
        rows = signatures[2 * band : 2 * band + 2]
        same = (rows[:, :, None] == rows[:, None, :]).all(axis=0)
        assert (same == (hashes[:, None, band] == hashes[None, :, band])).all()


@given(st.lists(st.lists(st.integers(0, 3), min_size=2, max_size=2), max_size=20))
def test_buckets_are_the_groups_of_equal_band_hashes(rows: list[list[int]]) -> None:
    hashes = np.array(rows, np.uint64).reshape(-1, 2)
    expected = {
        tuple(members)
        for band in range(2)
        for value in range(4)
        if len(members := [i for i, row in enumerate(rows) if row[band] == value]) > 1
    }
    found = buckets(hashes)
    cut = np.split(found.member, np.flatnonzero(np.diff(found.bucket)) + 1) if len(found.bucket) else []
    assert {tuple(part.tolist()) for part in cut} == expected


def test_recall_of_planted_duplicates_follows_the_s_curve(tmp_path) -> None:
    assert probability(np.array([0.8]), 9, 13)[0] == pytest.approx(0.399, abs=1e-3)  # SlimPajama's bands
    assert probability(np.array([0.8]), 14, 8)[0] == pytest.approx(0.924, abs=1e-3)  # FineWeb's
    texts = [words(300, 1000 + number) for number in range(120)]
    recall = injected.quality(texts, Method(kind="minhash"), 5, tmp_path)["recall"]
    for pairs, found, expected in zip(recall["pairs"], recall["found"], recall["expected"], strict=True):
        # Copies of one document share its minima, hence the bound of 5 deviations of independent pairs.
        assert abs(found - expected) <= 5 * np.sqrt(max(expected * (1 - expected / max(pairs, 1)), 0)) + 2
    assert sum(recall["pairs"]) > 700
    assert recall["found"][0] < recall["pairs"][0]
    assert recall["found"][-1] == recall["pairs"][-1]


def greedy(groups_: list[list[int]], similar: np.ndarray, guarded: int) -> dict[int, set[int]]:
    """The rule as it is told, one document after the other: for each removed one the partners that it may name."""
    removed: dict[int, set[int]] = {}
    for number in range(guarded, len(similar)):
        partners = {
            other
            for group in groups_
            if number in group
            for other in group
            if other < number and other not in removed and similar[other, number]
        }
        if partners:
            removed[number] = partners
    return removed


@given(
    st.integers(1, 14).flatmap(
        lambda n: st.tuples(
            st.lists(st.lists(st.integers(0, 2), min_size=3, max_size=3), min_size=n, max_size=n),
            st.lists(st.booleans(), min_size=n * n, max_size=n * n),
            st.integers(0, n),
        )
    )
)
@settings(max_examples=300)
def test_rounds_give_what_going_one_by_one_gives(case: tuple[list[list[int]], list[bool], int]) -> None:
    rows, flags, guarded = case
    n = len(rows)
    similar = np.array(flags).reshape(n, n)
    protected = np.arange(n) < guarded
    found = buckets(np.array(rows, np.uint64))
    compared: list[tuple[int, int]] = []

    def similarity(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        compared.extend(zip(left.tolist(), right.tolist(), strict=True))
        return np.where(similar[left, right], 0.9, 0.1)

    result = resolve(found, protected, True, 0.8, similarity)
    groups_ = [[i for i, row in enumerate(rows) if row[band] == value] for band in range(3) for value in range(3)]
    expected = greedy(groups_, similar, guarded)
    assert set(np.flatnonzero(result.partner >= 0).tolist()) == set(expected)
    assert all(int(result.partner[number]) in partners for number, partners in expected.items())
    assert len(set(compared)) == len(compared) == result.compared == result.histogram.sum()
    assert result.skipped == 0
    holdout = resolve(found, protected, False, 0.8, similarity)
    assert set(np.flatnonzero(holdout.partner >= 0).tolist()) == {
        number
        for number in range(guarded, n)
        if any(similar[other, number] for group in groups_ if number in group for other in group if other < guarded)
    }


def test_a_cluster_of_copies_costs_as_many_comparisons_as_copies() -> None:
    found = buckets(np.zeros((5000, 4), np.uint64))
    result = resolve(found, np.zeros(5000, bool), True, 0.8, lambda left, _: np.ones(len(left)))
    assert result.compared == 4999
    assert set(result.partner[1:].tolist()) == {0}


def test_a_crowd_that_only_collides_is_bounded_and_removes_nobody() -> None:
    found = buckets(np.zeros((1000, 2), np.uint64))
    result = resolve(found, np.zeros(1000, bool), True, 0.8, lambda left, _: np.full(len(left), 0.5))
    assert (result.partner == -1).all()
    assert result.compared == sum(999 - leader for leader in range(64))
    assert result.skipped == 2 * (936 * 935 // 2)


def test_the_guard_of_the_holdout_has_no_bound() -> None:
    """The one similar pair is with the last of 200 protected documents, all in one bucket."""
    found = buckets(np.zeros((400, 1), np.uint64))
    protected = np.arange(400) < 200
    result = resolve(
        found, protected, True, 0.8, lambda left, right: np.where((left == 199) & (right == 399), 1.0, 0.0)
    )
    assert np.flatnonzero(result.partner >= 0).tolist() == [399]
    assert result.partner[399] == 199
