"""How often a source is drawn: epochs, shares and temperatures against their formulas, and caps that admit by hash."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pileline import documents, mixing
from pileline.ledger import Amount
from pileline.mixing import deal
from pileline.mixing.supply import INTERVALS, Supply, interval

from tests.unit.test_mixing import corpus, plan

_SOURCES = st.dictionaries(
    st.sampled_from("abcdefgh"), st.tuples(st.floats(0.01, 100), st.integers(1, 10**12)), min_size=1
)


@given(st.floats(0, 6, allow_nan=False), st.integers(0, 2**40))
def test_a_source_gets_its_weight_on_the_average(weight: float, seed: int) -> None:
    made = plan(seed=seed)
    n = 2000
    part = weight - math.floor(weight)
    total = sum(deal.copies(made, documents.key_of(str(number)), weight) for number in range(n))
    assert abs(total - n * weight) <= 5 * math.sqrt(n * part * (1 - part)) + 1


def test_copies_grow_with_the_weight() -> None:
    made = plan()
    for low, high in ((0.2, 0.5), (0.5, 1.0), (1.0, 1.3), (1.3, 2.9)):
        assert all(deal.copies(made, row.key, low) <= deal.copies(made, row.key, high) for row in corpus())


def resolved(weights: Mapping[str, float], sizes: Mapping[str, int], caps: Any = None, **how: Any) -> mixing.Epochs:
    made = plan(weights, caps, mixing=how)
    return mixing.resolve(made, {source: Supply(Amount(1, size)) for source, size in sizes.items()})


@given(_SOURCES, st.floats(0.001, 10**7), st.floats(0.1, 20))
def test_shares_fill_the_size_in_proportion_and_no_source_is_repeated_too_often(
    sources: dict[str, tuple[float, int]], size_mb: float, most: float
) -> None:
    weights, sizes = ({source: pair[place] for source, pair in sources.items()} for place in (0, 1))
    made = resolved(weights, sizes, kind="shares", size_mb=size_mb, most_epochs=most)
    effective = {source: made.epochs[source] * sizes[source] for source in sources}
    assert all(epochs <= most * (1 + 1e-9) for epochs in made.epochs.values())
    bounded = {source for source, epochs in made.epochs.items() if epochs >= most * (1 - 1e-9)}
    wanted = min(size_mb * 1e6, most * sum(sizes.values()))
    assert sum(effective.values()) == pytest.approx(wanted, rel=1e-6)
    ratios = [effective[source] / weights[source] for source in set(sources) - bounded]
    assert ratios == pytest.approx([ratios[0]] * len(ratios), rel=1e-6) if ratios else True
    if ratios:  # whoever is bounded has less than its share, as measured by those that are not
        assert all(effective[source] / weights[source] <= ratios[0] * (1 + 1e-6) for source in bounded)
    assert (len(made.warnings) > 0) == (
        any(size_mb * 1e6 * weights[s] / sum(weights.values()) / sizes[s] > most for s in sources)
    )


def test_what_a_bound_cuts_off_goes_to_the_others() -> None:
    made = resolved({"a": 1, "b": 1, "c": 2}, {"a": 10**6, "b": 10**8, "c": 10**8}, kind="shares", size_mb=40)
    assert made.epochs == pytest.approx({"a": 4, "b": 0.12, "c": 0.24})
    assert made.warnings == [
        "a would need 10.0 epochs for its share of 25.0%; at most_epochs 4 it has 10.0% of 40 MB",
    ]


def test_too_little_text_for_the_size_is_said() -> None:
    made = resolved({"a": 1, "b": 3}, {"a": 10**6, "b": 0}, kind="shares", size_mb=40, most_epochs=2)
    assert made.epochs == {"a": 2, "b": 0}
    assert made.warnings == [
        "b has no text for its share of 75.0%; the other sources have it",
        "a would need 10.0 epochs for its share of 25.0%; at most_epochs 2 it has 5.0% of 40 MB",
        "the sources have 2.0 MB at 2 epochs, not 40 MB; raise most_epochs, lower size_mb or add text",
    ]


@given(_SOURCES)
def test_temperature_one_keeps_the_sources_as_large_as_they_are(sources: dict[str, tuple[float, int]]) -> None:
    sizes = {source: size for source, (_, size) in sources.items()}
    made = resolved(dict.fromkeys(sources, 1.0), sizes, kind="temperature", temperature=1.0)
    assert made.epochs == pytest.approx(dict.fromkeys(sources, 1.0))
    assert made.warnings == []


def test_temperature_raises_the_small_as_its_formula_says() -> None:
    sizes = {"a": 8 * 10**6, "b": 10**6}
    made = resolved({"a": 1, "b": 1}, sizes, kind="temperature", temperature=3.0, size_mb=3, most_epochs=4)
    assert made.epochs == pytest.approx({"a": 2 / 8, "b": 1})  # 8^(1/3) : 1 = 2 : 1 of 3 MB
    even = resolved({"a": 1, "b": 1}, sizes, kind="temperature", temperature=1e9, size_mb=3)
    assert even.epochs["a"] * 8 == pytest.approx(even.epochs["b"], rel=1e-6)


def test_an_unknown_way_of_mixing_is_refused() -> None:
    with pytest.raises(mixing.MixingError, match="kind is 'shuffled'; use epochs, shares or temperature"):
        resolved({"a": 1}, {"a": 1}, kind="shuffled")


def test_a_source_without_text_is_said() -> None:
    assert resolved({"a": 2, "b": 1, "c": 0}, {"a": 0, "b": 9, "c": 0}, kind="epochs").warnings == [
        "a has no text to train on"
    ]


def test_epochs_beyond_reason_are_refused_before_they_fill_the_disk() -> None:
    assert resolved({"a": 10_000}, {"a": 1}, kind="epochs").effective == 10_000
    with pytest.raises(mixing.MixingError, match="the weight of 'a' is 1e\\+06 epochs; use 10,000 at most"):
        resolved({"a": 1_000_000}, {"a": 1}, kind="epochs")
    assert resolved({"a": 1_000_000}, {"a": 10**6}, kind="shares", size_mb=1).epochs == {"a": 1}  # a proportion


# -------------------------------------------------------------------------------------------- caps
@settings(max_examples=30)
@given(st.lists(st.integers(1, 5000), min_size=1, max_size=60), st.floats(0, 1.2), st.integers(0, 3))
def test_a_cap_admits_by_hash_as_much_as_fits(lengths: list[int], share: float, seed: int) -> None:
    keys = [documents.key_of(f"text {number}") for number in range(len(lengths))]
    places = [interval(seed, key) for key in keys]
    supply, reversed_supply = Supply(), Supply()
    pairs = list(zip(lengths, places, strict=True))
    for length, place in pairs:
        supply.add(length, place)
    for length, place in reversed(pairs):
        reversed_supply.add(length, place)
    cap = share * sum(lengths)
    admitted, size = supply.admit(cap)
    assert (admitted, size) == reversed_supply.admit(cap)
    assert size == sum(length for length, place in pairs if place < admitted) <= cap
    left_out = sorted((place, length) for length, place in pairs if place >= admitted)
    first = [length for place, length in left_out if place == left_out[0][0]]
    assert not left_out or size + sum(first) > cap  # nothing more would have fitted


def test_supplies_of_parts_add_up() -> None:
    whole, parts = Supply(), [Supply(), Supply(), Supply()]
    for number in range(500):
        place = interval(1, documents.key_of(str(number)))
        whole.add(number, place)
        parts[number % 2].add(number, place)
    merged = Supply()
    for part in parts:
        merged.merge(part)
    assert merged.amount == whole.amount
    assert np.array_equal(merged.histogram, whole.histogram)
    assert Supply().admit(10.0) == (INTERVALS, 0)
