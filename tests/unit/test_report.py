"""The report: complete, harmless, offline, and not broken by what is missing."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from pileline import manifest, report, sweeps
from pileline.report import compare, lineage, removed, runs
from pileline.report.read import Results, collect, merge_experiments, plan
from pileline.report.sections import SECTIONS
from pileline.report.sections.headline import headline
from pileline.report.sections.story import main_charts, story
from pileline.report.sections.sweeps import sweeps as sweeps_section
from pileline.report.sections.training import exports, happened, training
from pileline.report.sweeps import find_sweeps, representatives
from pileline.report.tables import Table

from tests.unit.report_results import CONFIGURATION, EXPERIMENTS, HOSTILE, SOURCES, make, notebook
from tests.unit.seen_pages import Seen, assert_harmless


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def results(root: Path) -> Results:
    return collect(root, EXPERIMENTS, CONFIGURATION)


@pytest.fixture(scope="module")
def output(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    report.write_index(results, folder)
    report.write_removed(results, folder)
    report.write_pages(results, folder)
    return folder


@pytest.fixture(scope="module")
def index(output: Path) -> str:
    return (output / "index.html").read_text(encoding="utf-8")


# ------------------------------------------------------------------------------------------- the whole
def test_index_has_every_section_and_stays_small(index: str) -> None:
    seen = Seen(index)
    assert [value for value in seen.values("id") if "-" not in value] == [section.__name__ for section in SECTIONS]
    assert len(index.encode()) < 1_500_000


def test_every_page_runs_nothing_and_loads_nothing(output: Path) -> None:
    written = sorted(output.rglob("*.html"))
    assert len(written) > 30
    for path in written:
        text = path.read_text(encoding="utf-8")
        assert_harmless(text, scripts=path.name == "removed.html")
        assert "default-src 'none'" in text
        assert ("script-src" in text) == (path.name == "removed.html")
        assert not re.search(r"@import|@font-face", text)


def test_hostile_text_is_shown_as_text(index: str) -> None:
    assert HOSTILE in "".join(Seen(index).text)
    assert "<b>Art</b>" in "".join(Seen(index).text)


def test_links_inside_the_report_lead_somewhere(output: Path) -> None:
    for path in output.rglob("*.html"):
        seen = Seen(path.read_text(encoding="utf-8"))
        inner = [value for tag, name, value in seen.attributes if tag == "a" and name == "href" and ":" not in value]
        ids = set(seen.values("id"))
        for link in inner:
            target = link[1:] in ids if link.startswith("#") else (path.parent / link).exists()
            assert target, f"{path.name}: {link}"


def test_charts_have_text_alternatives_and_unique_ids(index: str) -> None:
    seen = Seen(index)
    labelled = [value for tag, name, value in seen.attributes if tag == "svg" and name == "aria-label" and value]
    assert len(labelled) == seen.elements.count("svg") > 8
    ids = seen.values("id")
    assert len(ids) == len(set(ids))


def test_same_results_give_the_same_bytes(results: Results, output: Path, tmp_path: Path) -> None:
    assert report.write_index(results, tmp_path).read_bytes() == (output / "index.html").read_bytes()


def test_main_table_marks_the_lowest_bits_per_byte(results: Results) -> None:
    table = headline(results).values["table"]
    place = table.columns.index("Bits per byte")
    numbers = [float(row[place].text) for row in table.rows]
    assert [row[place].best for row in table.rows] == [number == min(numbers) for number in numbers]


# ------------------------------------------------------------------------------------- what is missing
@pytest.mark.parametrize(
    "missing", sorted({node.name.split("/")[0] for node in plan(merge_experiments(EXPERIMENTS), {})})
)
def test_a_missing_stage_leaves_the_rest(root: Path, tmp_path: Path, missing: str) -> None:
    part = tmp_path / "results"
    part.mkdir()
    for room in root.iterdir():
        if room.name != missing:
            (part / room.name).symlink_to(room)
    text = report.write_index(collect(part, EXPERIMENTS, CONFIGURATION), tmp_path).read_text(encoding="utf-8")
    assert_harmless(text)
    sections = {
        "raw": "sources-",
        "evaluations": "bits",
        "tasks": "tasks",
        "duplicates": "duplicates",
        "exports": "exports",
    }
    gone = sections.get(missing)
    assert gone is None or f'<section id="{gone}"' not in text


def test_a_report_on_nothing(tmp_path: Path) -> None:
    results = collect(tmp_path / "none", EXPERIMENTS, CONFIGURATION)
    assert [section.anchor for section in report.sections(results)] == ["headline", "dag", "repeat"]
    assert_harmless(report.write_index(results, tmp_path).read_text(encoding="utf-8"))
    assert report.write_pages(results, tmp_path) == []


def test_without_a_configuration_the_report_starts_at_the_corpora(root: Path, tmp_path: Path) -> None:
    results = collect(root, EXPERIMENTS, {})
    assert {stage.stage for stage in results.stages.values()} >= {"mix", "train", "evaluate", "task"}
    assert "Bits per byte" in report.write_index(results, tmp_path).read_text(encoding="utf-8")


def test_manifests_with_empty_metrics(root: Path, tmp_path: Path) -> None:
    part = tmp_path / "results"
    shutil.copytree(root, part)
    for path in part.rglob("manifest.json"):
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"metrics": {}}))
    assert_harmless(report.write_index(collect(part, EXPERIMENTS, CONFIGURATION), tmp_path).read_text(encoding="utf-8"))


def test_a_notebook_cut_short_gets_a_page_that_says_so(root: Path, tmp_path: Path) -> None:
    part = tmp_path / "results"
    shutil.copytree(root, part)
    log = next((part / "logs/corpora/demo").glob("*.ipynb"))
    log.write_bytes(log.read_bytes()[:200])
    written = report.write_pages(collect(part, EXPERIMENTS, CONFIGURATION), tmp_path)
    page = next(path for path in written if path.name == "corpora--demo.html")
    assert "could not be shown" in page.read_text(encoding="utf-8")


def test_the_reports_own_notebook_is_a_page(root: Path, tmp_path: Path) -> None:
    part = tmp_path / "results"
    shutil.copytree(root, part)
    (part / "logs/report").mkdir()
    nbformat.write(notebook("11 Report"), part / "logs/report/11_report.ipynb")
    written = report.write_pages(collect(part, EXPERIMENTS, CONFIGURATION), tmp_path)
    assert written[-1].name == "report.html"


# ------------------------------------------------------------------------------------ removed documents
@pytest.fixture(scope="module")
def removed_page(output: Path) -> str:
    return (output / "removed.html").read_text(encoding="utf-8")


def test_the_policy_of_the_removed_page_names_the_script_and_no_other(removed_page: str) -> None:
    (script,) = re.findall(r"<script>(.*?)</script>", removed_page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', removed_page)
    sources = next(part.split() for part in policy.split(";") if part.strip().startswith("script-src"))
    assert sources == ["script-src", f"'sha256-{digest}'"]


def test_removed_documents_of_every_corpus_source_and_reason_are_shown(results: Results, removed_page: str) -> None:
    found = removed.corpora(results)
    assert set(found) == {"demo", "raw"}
    for corpus, groups in found.items():
        mixed, duplicates = (results.stages[f"{room}/{corpus}"].metrics for room in ("corpora", "duplicates"))
        cleaned = [stage for stage in results.of("clean") if stage.name.startswith(f"clean/{mixed['recipe']}/")]
        expected = {
            (source, reason)
            for source in SOURCES
            for books in (mixed["ledgers"][source], duplicates["ledgers"][source])
            for reason in books["removed"]
            if not (corpus == "raw" and reason == "exact")  # of which that deduplication has no table
        }
        expected |= {(stage.last, reason) for stage in cleaned for reason in stage.metrics["ledger"]["removed"]}
        shown = {(document.source, document.reason) for group in groups for document in group.documents}
        assert shown == expected
    text = "".join(Seen(removed_page).text)
    near = [document for document in found["demo"][3].documents if document.reason == "near"]
    assert [bool(document.excerpt) for document in near] == [True, True, False], "two stand in the cleaned table"
    assert near[0].excerpt.startswith("Of Man's first disobedience, and the fruit <script>")
    assert "milton/near<b>#0" in text
    assert "for milton/kept#0, similarity 0.900" in text
    assert HOSTILE in text
    assert "python -m pileline.why --corpus demo ID" in text


def test_a_table_of_removed_documents_that_is_gone_leaves_the_rest(root: Path, tmp_path: Path) -> None:
    part = tmp_path / "results"
    shutil.copytree(root, part)
    for path in part.rglob("duplicates.parquet"):
        path.unlink()
    found = removed.corpora(collect(part, EXPERIMENTS, CONFIGURATION))
    stages = {document.stage for groups in found.values() for group in groups for document in group.documents}
    assert stages == {"cleaning", "mixing"}
    none = removed.corpora(collect(tmp_path / "none", EXPERIMENTS, CONFIGURATION))
    assert none == {}


# ----------------------------------------------------------------------------------------------- parts
def test_parts_of_a_source_are_one_stage_with_a_page_each(results: Results, output: Path) -> None:
    stage = results.stages["clean/slimpajama/reviews-zh"]
    assert [part.name for part in stage.parts] == [f"clean/slimpajama/reviews-zh/{k}-of-3" for k in (1, 2, 3)]
    entered = [part.metrics["ledger"]["in"]["documents"] for part in stage.parts]
    assert stage.metrics["ledger"]["in"]["documents"] == sum(entered)
    assert all((output / part.page).exists() for part in stage.parts)
    download = results.stages["raw/reviews-zh"]
    assert [file["number"] for file in download.metrics["files"]] == [0, 1, 2]
    assert "3 parts" in (output / "index.html").read_text(encoding="utf-8")
    assert "reviews-zh × 3" in [box.label for box in lineage.draw(results).boxes]


def test_a_part_that_is_missing_is_told(root: Path, tmp_path: Path) -> None:
    part = tmp_path / "results"
    shutil.copytree(root, part)
    shutil.rmtree(part / "raw/reviews-zh/2-of-3")
    shutil.rmtree(part / "logs/raw/reviews-zh/2-of-3")
    text = report.write_index(collect(part, EXPERIMENTS, CONFIGURATION), tmp_path).read_text(encoding="utf-8")
    assert "2 of 3 parts" in text


# ---------------------------------------------------------------------------------------------- plan
def test_an_experiment_without_a_model_ends_at_the_shards_and_is_reported(root: Path, tmp_path: Path) -> None:
    alone = [{"corpus": "raw", "tokenizer": "bpe4k", "model": None, "task": None}]
    nodes = {node.name for node in plan(merge_experiments(alone), CONFIGURATION)}
    assert "shards/raw/bpe4k" in nodes
    assert not [name for name in nodes if "None" in name or name.startswith(("models", "evaluations"))]
    for experiments in (alone, alone + EXPERIMENTS[:2]):
        found = collect(root, experiments, CONFIGURATION)
        values = headline(found).values
        table = values["shards"] or values["table"]
        assert [cell.text for cell in table.rows[0][:2]] == ["raw", "bpe4k"]
    report.write_index(found, tmp_path)
    report.write_removed(found, tmp_path)


def test_drawing_has_every_node_once_and_nothing_overlaps(results: Results) -> None:
    drawing = lineage.draw(results)
    assert sorted(box.name for box in drawing.boxes) == sorted(node.name for node in results.nodes)
    places = sorted((box.x, box.y) for box in drawing.boxes)
    for (x, y), (other_x, other_y) in itertools.pairwise(places):
        assert x != other_x or other_y - y >= lineage.ROW - 1e-6
    assert all(box.x >= 0 and box.x + box.width <= drawing.width for box in drawing.boxes)
    assert all(box.y - 9 >= 0 and box.y + 9 <= drawing.height for box in drawing.boxes)
    by_name = {box.name: box for box in drawing.boxes}
    for node in results.nodes:
        assert all(by_name[name].column < by_name[node.name].column for name in node.inputs)


# --------------------------------------------------------------------------------------- comparisons
def test_difference_has_the_sign_of_first_minus_second_and_turns_round(results: Results) -> None:
    one = results.stages["evaluations/demo/bpe4k/transformer"]
    two = results.stages["evaluations/raw/bpe4k/transformer"]
    there, back = compare.difference(one, two), compare.difference(two, one)
    assert there is not None
    assert back is not None
    totals = [stage.metrics["overall"]["bits_per_byte"] for stage in (one, two)]
    assert there.value == pytest.approx(totals[0] - totals[1])
    assert there.paired
    assert there.low <= there.value <= there.high
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))


def test_unpaired_difference_is_wider(results: Results, root: Path, tmp_path: Path) -> None:
    names = ["evaluations/demo/bpe4k/transformer", "evaluations/raw/bpe4k/transformer"]
    paired = compare.difference(*(results.stages[name] for name in names))
    part = tmp_path / "results"
    shutil.copytree(root, part)
    for path in part.rglob("documents.parquet"):
        path.unlink()
    without = collect(part, EXPERIMENTS, CONFIGURATION)
    unpaired = compare.difference(*(without.stages[name] for name in names))
    assert paired is not None
    assert unpaired is not None
    assert not unpaired.paired
    assert unpaired.high - unpaired.low > paired.high - paired.low


# ---------------------------------------------------------------------------------------------- models
def column(table: Table, title: str) -> dict[str, str]:
    """The texts of a column by the texts of the first."""
    place = table.columns.index(title)
    return {row[0].text: row[place].text for row in table.rows}


@pytest.mark.parametrize("configuration", [CONFIGURATION, {}], ids=["configured", "manifests alone"])
def test_models_are_told_from_theory_to_practice(root: Path, configuration: dict[str, Any]) -> None:
    found = collect(root, EXPERIMENTS, configuration)
    kinds = ["ngram", "mlp", "lstm", "lstm", "lstm", "transformer-2017", "transformer", "my_models:Tiny"]
    assert [found.kind(each) for each in found.experiments] == [*kinds, "ngram", "transformer"]
    trained = training(found)
    assert trained is not None
    values = [headline(found).values, trained.values]
    lstm = ["lstm-rate-0.001", "lstm-rate-0.003", "lstm-rate-0.01"]
    models = ["ngram", "mlp", *lstm, "original", "transformer", "mine"]
    assert [row[2].text for row in values[0]["table"].rows] == [*models, "ngram", "transformer"]
    assert [row[0].text.split("/")[2] for row in values[1]["table"].rows] == [*models, "ngram", "transformer"]
    against = [finding.what.split(",")[0] for finding in values[0]["models"]]
    told = ["mlp", "lstm-rate-0.003", "original", "transformer", "mine", "transformer"]
    assert against == [f"{model} against ngram" for model in told]


def test_the_story_names_what_counting_and_what_the_best_other_reach(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = {
        model: results.stages[f"evaluations/demo/bpe4k/{model}"].metrics["overall"]["bits_per_byte"]
        for model in ("ngram", "transformer")
    }
    text = story(results)
    assert f"counting reaches {reached['ngram']:.3f} bits per byte (ngram)" in text
    assert f"the best of 5 other models, transformer, {reached['transformer']:.3f}" in text
    assert f"{100 * (1 - reached['transformer'] / reached['ngram']):.1f} % fewer, after 2.5M tokens" in text
    # A residual model's n-gram model has seen all of the text.
    monkeypatch.setitem(results.configuration["models"]["transformer"], "kind", "residual")
    assert "% fewer, as it counts too and has learned from 2.5M tokens what counting misses." in story(results)
    chart = main_charts(results)[0].svg
    assert "lstm-rate-0.003" in chart
    assert "lstm-rate-0.001" not in chart


def test_a_training_table_has_the_columns_that_say_something(root: Path, results: Results) -> None:
    section = training(results)
    assert section is not None
    ways = section.values["ways"]
    whole = ["Optimizer", "Schedule", "Packing", "Device", "Budget", "Steps", "Skipped steps", "Best step"]
    assert ways.columns == ["Model", *whole]
    assert column(ways, "Optimizer")["demo/bpe4k/transformer"] == "Muon"
    assert column(ways, "Budget")["demo/bpe4k/transformer"] == "10 minutes"
    assert column(ways, "Budget")["demo/bpe4k/mlp"] == "1 epoch"
    assert column(ways, "Steps")["demo/bpe4k/ngram"] == "–"
    notes = {row[0].text: [cell.note for cell in row[1:]] for row in ways.rows}
    assert notes["demo/bpe4k/original"] == [
        "rate 0.001",
        "",
        "",
        "bfloat16, 2 threads, 2 processes",
        "",
        "of 4,096 tokens",
        "",
        "",
    ]
    assert column(ways, "Best step")["demo/bpe4k/original"] == "400"
    plain = [experiment for experiment in EXPERIMENTS if experiment["model"] == "lstm-rate-0.01"]
    few = training(collect(root, plain, CONFIGURATION))
    assert few is not None
    assert few.values["ways"].columns == ["Model", "Optimizer", "Schedule", "Device", "Steps"]
    counted = training(collect(root, EXPERIMENTS[:1], CONFIGURATION))
    assert counted is not None
    assert counted.values["ways"].columns == ["Model", "Device"]


def test_what_training_met_is_told_where_it_happened(results: Results) -> None:
    section = training(results)
    assert section is not None
    told = {
        name: [text for each, text in section.values["events"] if each == name] for name, _ in section.values["events"]
    }
    assert set(told) == {f"demo/bpe4k/{name}" for name in ("mlp", "original", "transformer")} | {
        "raw/bpe4k/transformer"
    }
    minutes, skipped = told["demo/bpe4k/transformer"]
    assert "10 minutes came to 600 steps" in minutes
    assert "3 steps skipped" in skipped
    assert "stopped early, after step 600" in told["demo/bpe4k/original"][0]
    assert "those of step 400" in told["demo/bpe4k/original"][0]
    assert "not in nats" in told["demo/bpe4k/mlp"][0]
    assert (
        happened({"steps": 100, "best_step": 40})[0]
        == "the validation loss was lowest at step 40 of 100 and rose again."
    )
    assert happened({"steps": 100, "doubts": ["its largest weight is 1e9."]}) == ["its largest weight is 1e9."]
    assert happened({}) == happened({"steps": 100, "best_step": 100, "skipped_steps": 0}) == []


def test_exports_say_in_which_architecture_they_are_read(results: Results) -> None:
    section = exports(results)
    assert section is not None
    table = section.values["table"]
    names = {"demo/bpe4k/original": "OPTForCausalLM", "demo/bpe4k/transformer": "PilelineForCausalLM"}
    assert column(table, "Architecture") == names
    assert column(table, "Its code")["demo/bpe4k/transformer"] == "travels with it"


def test_a_sweep_is_a_table_and_a_chart_of_its_values(results: Results) -> None:
    (sweep,) = find_sweeps(results)
    assert (sweep.name, sweep.settings) == ("lstm", ("rate",))
    assert list(sweep.members.values()) == [(0.001,), (0.003,), (0.01,)]
    section = sweeps_section(results)
    assert section is not None
    (block,) = section.values["blocks"]
    assert column(block["table"], "rate") == {each.model: str(rate) for each, (rate,) in sweep.members.items()}
    best = [row[0].text for row in block["table"].rows if row[block["table"].columns.index("Bits per byte")].best]
    assert best == ["lstm-rate-0.003"]
    assert [each.model for each in representatives(results) if str(each.model).startswith("lstm")] == best
    assert len(block["charts"]) == 2
    assert "bits per byte by rate: lstm-rate-0.001 2." in block["charts"][0].svg


def test_a_sweep_is_chosen_from_by_the_validation_split(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(results.stages["models/demo/bpe4k/lstm-rate-0.01"].metrics, "validation_loss", 0.1)
    chosen = [each.model for each in representatives(results) if str(each.model).startswith("lstm")]
    assert chosen == ["lstm-rate-0.01"], "though another's bits per byte on the test split are fewer"


SEEDED = {"a-rate-0.1-seed-1": 2.0, "a-rate-0.1-seed-2": 2.1, "a-rate-0.1-seed-3": 2.3, "a-rate-0.2-seed-1": 1.9}
SEEDED |= {"a-rate-0.2-seed-2": 2.8, "a-rate-0.2-seed-3": 2.7, "b": 2.2}


def test_seeds_are_told_by_their_mean_and_spread_and_beside_other_models(tmp_path: Path) -> None:
    parts: dict[str, Any] = {
        "a": {"kind": "lstm", "rate": [0.1, 0.2], "seed": [1, 2, 3]},
        "b": {"kind": "ngram"},
    }
    assert not sweeps.expand("models", parts, {})
    assert set(parts) == set(SEEDED)
    experiments = [{"corpus": "c", "tokenizer": "t", "model": name, "task": None} for name in parts]
    for name, bits in SEEDED.items():
        for room, stage, metrics in (
            ("models", "train", {"kind": parts[name]["kind"], "validation_loss": 2 * bits}),
            ("evaluations", "evaluate", {"overall": {"bits_per_byte": bits, "interval": [bits - 0.1, bits + 0.1]}}),
        ):
            folder = tmp_path / room / "c/t" / name
            folder.mkdir(parents=True)
            manifest.write(folder, stage, metrics)
    found = collect(tmp_path, experiments, {"models": parts})
    # The best of all, seed 1 at rate 0.2, is one of luck: its recipe is the worse one.
    assert {each.model for each in representatives(found)} == {"a-rate-0.1-seed-2", "b"}
    section = sweeps_section(found)
    assert section is not None
    (block,) = section.values["blocks"]
    rows = [[cell.text for cell in row] for row in block["table"].rows]
    assert rows[-2][:5] == ["a, rate 0.1", "0.1", "3 of them", "2.133", "4.267"]
    notes = [[cell.note for cell in row[3:5]] for row in block["table"].rows[-2:]]
    assert notes == [["± 0.1528", "± 0.3055"], ["± 0.4933", "± 0.9866"]]  # sqrt(0.07 / 3), twice that, ... by hand
    assert not any(cell.best for row in block["table"].rows for cell in row)
    assert [[cell.text for cell in row] for row in block["leads"].rows] == [
        ["a, rate 0.1", "b", "+0.067", "0.1528", "+0.4", "2 of 3"],
        ["a, rate 0.2", "b", "−0.267", "0.4933", "−0.5", "1 of 3"],
    ]
    assert ">seed 2<" in block["charts"][0].svg  # a line each, by rate


# ------------------------------------------------------------------------------------------- small parts
def test_busy_time_is_the_union_of_the_runs(results: Results) -> None:
    spans = [(stage.run.started.timestamp(), stage.run.ended.timestamp()) for stage in results.ran if stage.run]
    start = min(begin for begin, _ in spans)
    ticks = np.zeros(int((max(end for _, end in spans) - start) * 100) + 2, bool)
    for begin, end in spans:
        ticks[round((begin - start) * 100) : round((end - start) * 100)] = True
    assert runs.busy_seconds(results) == pytest.approx(ticks.sum() / 100, abs=1)
    assert runs.busy_seconds(results) <= (runs.span_seconds(results) or 0) + 1e-6


def test_throughput_is_work_over_seconds(results: Results) -> None:
    stage = results.stages["shards/demo/bpe4k"]
    assert stage.run is not None
    assert runs.throughput(stage) == f"{8_160_000 / stage.run.seconds:,.0f} tokens/s"
