"""What the report computes before it shows anything: plan, lineage, merged parts, comparisons, names of a sweep."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pileline import manifest, sweeps
from pileline.cleaning import recipe as cleaning
from pileline.report import compare, lineage, merge
from pileline.report.read import Node, collect, merge_experiments, plan
from pileline.report.sections.models import roc_points
from pileline.report.sections.sweeps import sweeps as sweeps_section
from pileline.report.sections.tokenizers import shown_piece
from pileline.report.sweeps import find_sweeps
from pileline.report.tables import signed
from pileline.sources import Extracted

from tests.unit.report_results import CONFIGURATION, EXPERIMENTS

# --------------------------------------------------------------------------------------------- parts
_STEPS = st.sampled_from([True, "short", "gopher_quality: too few words", "empty"])


@given(st.lists(st.tuples(_STEPS, st.integers(0, 5000)), max_size=60), st.integers(2, 5))
def test_merged_parts_are_what_one_part_would_be(outcomes: list[tuple[Any, int]], of: int) -> None:
    def metrics(numbers: Iterable[int]) -> dict[str, Any]:
        made = cleaning.Cleaned("s", [], passages=[cleaning.Passage("short"), cleaning.Passage("gopher_quality")])
        for number in numbers:
            outcome, length = outcomes[number]
            item = Extracted(f"s/x#{number}", "x", "y" * length, length, "{}")
            if outcome is True:
                made.keep(item, item.text)
            else:
                made.remove(item, outcome)
                made.unreadable.add(item.id, member="x", reason=outcome)
            made.passages[number % 2].documents_in += 1
            made.passages[number % 2].bytes_removed += length
        made.read = {"members": len(made.kept.shown()), "passed_over": {"documents": 1, "bytes": length_of(numbers)}}
        return made.metrics("r")

    def length_of(numbers: Iterable[int]) -> int:
        return sum(outcomes[number][1] for number in numbers)

    whole = metrics(range(len(outcomes)))
    parts = [metrics(range(number, len(outcomes), of)) for number in range(of)]
    found = merge.merged("clean", parts)
    counted = {"members", "passed_over"}  # an extraction's counts, made up here
    assert {name: value for name, value in found.items() if name not in counted} == {
        name: value for name, value in whole.items() if name not in counted
    }
    assert found["passed_over"] == {"documents": of, "bytes": length_of(range(len(outcomes)))}
    assert merge.merged("clean", [whole]) == whole


# ------------------------------------------------------------------------------------------------ plan
def test_plan_shares_stages_and_follows_the_corpora() -> None:
    nodes = {node.name: node for node in plan(merge_experiments(EXPERIMENTS), CONFIGURATION)}
    assert sum(node.stage == "download" for node in nodes.values()) == 6
    assert sum(node.stage == "clean" for node in nodes.values()) == 12
    assert "corpora/demo" in nodes["evaluations/raw/bpe4k/ngram"].inputs
    assert "clean/slimpajama/wikipedia-en" in nodes["tasks/demo/bpe4k/transformer/topic"].inputs
    assert all(name in nodes for node in nodes.values() for name in node.inputs)


def test_experiments_merge_with_their_tasks() -> None:
    merged = merge_experiments(EXPERIMENTS)
    assert len(merged) == len(EXPERIMENTS) - 1
    assert [experiment.tasks for experiment in merged].count(("topic",)) == 1


def _reachable(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Transitive closure, by repetition until nothing is added."""
    while True:
        more = {(a, d) for a, b in edges for c, d in edges if b == c} | edges
        if more == edges:
            return edges
        edges = more


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=16))
def test_reduced_edges_keep_reachability_and_none_is_implied(pairs: list[tuple[int, int]]) -> None:
    inputs: dict[int, set[str]] = {}
    for a, b in pairs:
        if a < b:
            inputs.setdefault(b, set()).add(f"n{a}")
    nodes = tuple(Node(f"n{place}", "clean", tuple(sorted(inputs.get(place, ())))) for place in range(8))
    full = {(name, node.name) for node in nodes for name in node.inputs}
    reduced = set(lineage.reduce_edges(nodes))
    assert _reachable(reduced) == _reachable(full)
    for edge in reduced:
        assert edge not in _reachable(reduced - {edge})


# ------------------------------------------------------------------------------------------ comparisons
def test_paired_bootstrap_covers_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(3)
    hits = 0
    for seed in range(60):
        sizes = generator.integers(100, 1000, 150).astype(float)
        ease = generator.normal(2, 0.5, 150)
        gap = generator.normal(-0.01, 0.1, 150)
        low, high = compare.paired_bootstrap(sizes * (ease + gap), sizes * ease, sizes, seed, 300)
        hits += low <= -0.01 <= high
    assert 50 <= hits <= 60  # 95 % of 60 is 57; fewer than 50 has a chance of about one in ten thousand


def test_a_clear_and_an_unclear_difference_are_worded_apart() -> None:
    from pileline.report.sections.headline import finding

    clear = finding(compare.Difference(-0.02, -0.03, -0.01, -0.01, 9, True), "x", "demo", "raw")
    worse = finding(compare.Difference(0.02, 0.01, 0.03, 0.01, 9, True), "x", "demo", "raw")
    unclear = finding(compare.Difference(-0.02, -0.03, 0.01, -0.01, 9, True), "x", "demo", "raw")
    assert "Better: demo" in clear.claim
    assert "Better: raw" in worse.claim
    assert "includes zero" in unclear.claim


# -------------------------------------------------------------------------------------------- sweeps
@pytest.mark.parametrize(
    ("lists", "labels"),
    [
        ({"rate": [0.1, 0.2], "tied": [None, True, False]}, {"tied null", "tied true", "tied false"}),
        ({"optimizer": ["adam", "sgd"]}, {"adam", "sgd"}),
        ({"kind": ["lstm", "transformer"]}, {"lstm", "transformer"}),
        ({"matrix_rate": [0.01, 1], "rate": [2, 3]}, {"matrix_rate 0.01", "matrix_rate 1"}),
    ],
)
def test_the_names_that_lists_give_are_known_again(tmp_path: Path, lists: dict[str, Any], labels: set[str]) -> None:
    parts = {"a-rate": {"kind": "lstm", "rate": 0.5, "tied": None} | lists, "rate-7": {"kind": "lstm", "rate": 7}}
    assert not sweeps.expand("models", parts, {})
    experiments = [{"corpus": "c", "tokenizer": "t", "model": name, "task": None} for name in parts]
    for number, (name, entry) in enumerate(parts.items()):
        folder = tmp_path / "models/c/t" / name
        folder.mkdir(parents=True)
        metrics = {"kind": entry["kind"], "settings": entry, "validation_loss": 3 + number / 10}
        manifest.write(folder, "train", metrics)
    found = collect(tmp_path, experiments, {"models": parts})
    (sweep,) = find_sweeps(found)
    assert sweep.name == "a-rate"
    assert set(sweep.settings) == set(lists)
    assert sorted(map(repr, sweep.members.values())) == sorted(
        repr(tuple(parts[str(each.model)][key] for key in sweep.settings)) for each in sweep.members
    )
    section = sweeps_section(found)
    assert section is not None
    chart = section.values["blocks"][0]["charts"][0].svg
    assert all(re.search(rf">{label}<", chart) for label in labels)
    assert "validation loss" in chart


# --------------------------------------------------------------------------------------- small parts
def test_roc_points_prefer_the_mean_over_classes() -> None:
    macro, micro = {"fpr": [0.0, 1.0], "tpr": [0.5, 1.0]}, {"fpr": [0.0], "tpr": [0.0]}
    assert roc_points({"macro": macro, "micro": micro}) == [(0, 0.5), (1, 1)]
    assert roc_points({"micro": micro}) == [(0, 0)]
    assert roc_points({}) == []


def test_pieces_show_what_cannot_be_seen() -> None:
    assert shown_piece("▁a\n\t") == "·a⏎⇥"


def test_signs_are_typographic() -> None:
    assert signed(-0.01234) == "−0.0123"
    assert signed(0.01234) == "+0.0123"
