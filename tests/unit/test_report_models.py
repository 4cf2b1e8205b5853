"""What the report makes of one text and many models: their names, a sweep in a row, what each took, no table twice."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pileline.report import charts
from pileline.report.read import Results, Stage, collect
from pileline.report.sections.headline import headline
from pileline.report.sections.models import bits, samples
from pileline.report.sections.story import main_charts, story
from pileline.report.sections.training import training
from pileline.report.tables import Table, duration

from tests.unit.report_results import CONFIGURATION, EXPERIMENTS, SOURCES, make


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("results"), notebooks=False)


@pytest.fixture(scope="module")
def results(root: Path) -> Results:
    return collect(root, EXPERIMENTS, CONFIGURATION)


def column(table: Table, title: str) -> dict[str, str]:
    """The texts of a column by the texts of the first."""
    place = table.columns.index(title)
    return {row[0].text: row[place].text for row in table.rows}


def test_the_story_begins_with_frequencies_where_they_were_scored(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "frequencies" not in story(results)
    monkeypatch.setitem(results.configuration["models"], "mlp", {"kind": "ngram", "order": 1})
    reached = results.stages["evaluations/demo/bpe4k/mlp"].metrics["overall"]["bits_per_byte"]
    assert f"the tokens' frequencies alone reach {reached:.3f} bits per byte (mlp), counting reaches" in story(results)


def test_a_models_shape_stands_below_its_kind(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"kind": "transformer", "context": 256, "layers": 2, "heads": 4, "width": 128, "steps": 3, "tied": None}
    monkeypatch.setitem(results.stages["models/demo/bpe4k/transformer"].metrics, "settings", settings)
    section = training(results)
    assert section is not None
    told = {(row[1].text, row[1].note) for row in section.values["table"].rows}
    assert ("transformer", "layers 2, heads 4, width 128, context 256") in told
    assert {("ngram", "order 5"), ("my_models:Tiny", "width 16")} <= told


def test_a_sweep_is_one_row_of_the_main_chart_with_hollow_points(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[Any, ...]] = []
    monkeypatch.setattr(charts, "intervals", lambda *given: drawn.append(given) or "")
    (chart,) = main_charts(results)
    reached = {
        rate: results.stages[f"evaluations/demo/bpe4k/lstm-rate-{rate}"].metrics["overall"]["bits_per_byte"]
        for rate in (0.001, 0.01)
    }
    *_, beside = drawn[0]
    assert beside["lstm-rate-0.003"] == {"demo bpe4k": list(reached.values())}
    assert not any(values for name, pairs in beside.items() for values in pairs.values() if name != "lstm-rate-0.003")
    assert "Hollow points are the others." in chart.caption


def test_hollow_points_are_drawn_where_they_are() -> None:
    rows = {"a": {"x": (2.0, 1.9, 2.1)}, "b": {"x": (2.5, 2.4, 2.6)}}
    plain, beside = (charts.intervals(rows, "bits", "said", None, {"b": {"x": more}}) for more in ([], [9.0]))
    assert ">8<" in beside
    assert ">8<" not in plain


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("models/demo/bpe2k/transformer", "models/demo/bpe2k/transformer"),
        ("models/tiny-shakespeare/characters/lstm-large", "models/tiny-shakespeare/…/lstm-large"),
        ("c" * 60, "…/" + "c" * 34),
    ],
)
def test_a_long_name_leaves_room_for_its_bar(name: str, shown: str) -> None:
    assert charts.shortened(name) == shown
    assert len(shown) <= charts.LONGEST


def test_models_of_one_corpus_and_tokenizer_go_by_their_own_names(root: Path) -> None:
    alone = [each for each in EXPERIMENTS if each["corpus"] == "demo"]
    found = collect(root, alone, CONFIGURATION)
    main, trained, sampled = headline(found).values["table"], training(found), samples(found)
    assert trained is not None
    assert sampled is not None
    names = [each.model for each in found.experiments]
    assert main.columns[:2] == ["Model", "Bits per byte"]
    assert "on demo with bpe4k" in main.caption
    for table in (main, trained.values["table"], trained.values["ways"]):
        assert [row[0].text for row in table.rows] == names
    assert "demo/bpe4k" not in trained.values["charts"][0].svg
    assert {name for told in sampled.values["prompts"].values() for name, _ in told} <= set(names)
    assert main.columns[-1] == "Task accuracy"
    untried = headline(collect(root, [each for each in alone if not each["task"]], CONFIGURATION)).values["table"]
    assert "Task accuracy" not in untried.columns


def test_a_single_source_is_told_of_once(results: Results) -> None:
    section = bits(results)
    assert section is not None
    names = [row[0].text for row in section.values["table"].rows]
    assert names == [*SOURCES, "all text", "mean of sources"]

    def one(stage: Stage) -> Stage:
        sources = stage.metrics.get("sources")
        single = {"sources": {"milton": sources["milton"]}} if stage.stage == "evaluate" and sources else {}
        return replace(stage, metrics=stage.metrics | single)

    assert bits(replace(results, stages={name: one(stage) for name, stage in results.stages.items()})) is None


def test_training_tells_what_each_model_took(results: Results, root: Path, tmp_path: Path) -> None:
    section = training(results)
    assert section is not None
    took = column(section.values["table"], "CPU time")
    for name, text in took.items():
        run = results.stages[f"models/{name}"].run
        assert run is not None
        assert text == duration(run.cpu_seconds)
    part = tmp_path / "results"
    shutil.copytree(root / "models", part / "models", ignore=shutil.ignore_patterns("run.json"))
    without = training(collect(part, EXPERIMENTS, CONFIGURATION))
    assert without is not None
    assert "CPU time" not in without.values["table"].columns
