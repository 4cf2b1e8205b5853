"""The report's section on tokenizers: candidates of a corpus in one table, sources, languages, pieces."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pileline.report.build import environment
from pileline.report.read import Node, Results, Run, Stage
from pileline.report.sections.tokenizers import shown_piece, tokenizers
from pileline.report.tables import Table

SOURCES = {"play": {"language": "en"}, "wiki": {"language": "en"}, "review": {"language": "zh"}}


def counted(size: int, words: int, tokens: int) -> dict[str, Any]:
    return {
        "bytes": size,
        "words": words,
        "tokens": tokens,
        "bytes_per_token": size / tokens,
        "tokens_per_word": tokens / words,
    }


def stage(name: str, tokens: int, **more: Any) -> Stage:
    metrics = {
        "settings": {"kind": "bpe"},
        "training": {"sample_bytes": 2_000_000},
        "vocabulary_size": 400,
        "vocabulary_used": 300,
        "byte_fallback_rate": 0.0123,
        "renyi": {"alpha": 2.5, "efficiency": 0.5 + tokens / 1000},
        "compression": {
            "play": counted(400, 80, tokens),
            "wiki": counted(200, 20, 100),
            "review": counted(90, 30, 45),
        },
        "overall": counted(690, 130, tokens + 145),
        "longest_pieces": ["▁while", "<b>x"],
        "rarest_pieces": [["zz\n", 0], ["▁q", 1]],
        "sample_segmentations": [{"source": "play", "pieces": ["▁to", "▁be"]}],
        **more,
    }
    run = Run(datetime(2026, 1, 1, tzinfo=UTC), 61.0, 60.0, 3_000_000, 1, "3.11", "Linux", "CPU", {}, "", False)
    return Stage(name, "tokenizer", Path(name), metrics, run=run)


def results(*stages: Stage) -> Results:
    nodes = tuple(Node(found.name, "tokenizer") for found in stages)
    return Results(Path("results"), (), {"sources": SOURCES}, nodes, {found.name: found for found in stages})


@pytest.fixture
def two() -> Results:
    losses = {"leave_one_out": {"wiki": {"bytes_per_token": 1.5, "loss": 0.25}}}
    return results(stage("tokenizers/demo/small", 200), stage("tokenizers/demo/large", 100, **losses))


def blocks(found: Results) -> list[list[Table]]:
    section = tokenizers(found)
    assert section is not None
    return [block["tables"] for block in section.values["blocks"]]


def texts(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def test_candidates_of_a_corpus_stand_in_one_table(two: Results) -> None:
    [[candidates, *_]] = blocks(two)
    assert texts(candidates) == [
        ["small", "bpe", "400", "75.0 %", "2.00", "2.65", "1.23 %", "0.700", "2.0 MB", "1:01"],
        ["large", "bpe", "400", "75.0 %", "2.82", "1.88", "1.23 %", "0.600", "2.0 MB", "1:01"],
    ]
    best = [[cell.best for cell in row[4:8]] for row in candidates.rows]
    assert best == [[False, False, True, True], [True, True, True, False]]


def test_each_corpus_has_its_own_tables(two: Results) -> None:
    found = results(*two.stages.values(), stage("tokenizers/raw/small", 200))
    first, second = blocks(found)
    assert [len(texts(first[0])), len(texts(second[0]))] == [2, 1]
    assert not any(cell.best for row in second[0].rows for cell in row)


def test_rates_are_given_by_source_and_by_language(two: Results) -> None:
    [[_, size_by_source, words_by_source, size_by_language, words_by_language, _]] = blocks(two)
    assert texts(size_by_source) == [
        ["play", "2.00", "4.00"],
        ["wiki", "2.00", "2.00"],
        ["review", "2.00", "2.00"],
        ["all", "2.00", "2.82"],
    ]
    assert texts(words_by_source)[0] == ["play", "2.50", "1.25"]
    assert texts(size_by_language) == [["en", "2.00", "3.00"], ["zh", "2.00", "2.00"]]
    assert texts(words_by_language) == [["en", "3.00", "2.00"], ["zh", "1.50", "1.50"]]


def test_sources_left_out_show_where_it_was_asked_for(two: Results) -> None:
    [tables] = blocks(two)
    assert tables[-1].columns == ["Source left out", "large"]
    assert texts(tables[-1]) == [["wiki", "25.0 %"]]
    [without] = blocks(results(stage("tokenizers/demo/small", 200)))
    assert len(without) == 5


def test_it_is_set_with_pieces_escaped_and_blanks_visible(two: Results) -> None:
    section = tokenizers(two)
    assert section is not None
    template = environment().from_string(
        '{% import "macros.html" as m %}{% set v = section.values %}{% include section.template %}'
    )
    page = template.render(section=section)
    assert "&lt;b&gt;x" in page
    assert "zz⏎</span> 0" in page
    assert "arxiv.org/abs/2306.16842" in page
    assert "of order 2.5" in page
    assert shown_piece("▁a\n\t") == "·a⏎⇥"


def test_an_older_or_poorer_manifest_still_gives_a_section() -> None:
    metrics = {"compression": {"play": {"bytes": 10, "tokens": 5, "bytes_per_token": 2.0}}}
    found = results(Stage("tokenizers/demo/old", "tokenizer", Path("old"), metrics))
    [[candidates, size_by_source, *_]] = blocks(found)
    assert texts(candidates) == [["old", "–", "–", "–", "–", "–", "–", "–", "–", "–"]]
    assert texts(size_by_source) == [["play", "2.00"], ["all", "–"]]


def test_without_tokenizers_there_is_no_section() -> None:
    assert tokenizers(results()) is None
    assert tokenizers(results(Stage("tokenizers/demo/cut", "tokenizer", Path("cut")))) is None
