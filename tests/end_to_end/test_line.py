"""The whole line, run for real on small texts: its promises, from the files to the report."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from pileline import documents, manifest
from pileline.ledger import Ledger

from tests.conftest import LONGEST, Line, copy_of, new_line, wait_for_end

pytestmark = pytest.mark.slow
CORPORA = ("demo", "raw")


def metrics(line: Line, folder: str) -> dict[str, Any]:
    return manifest.read(line.folder / "results" / folder).metrics


def table(line: Line, name: str) -> pd.DataFrame:
    return pd.read_parquet(line.folder / "results" / name)


def cleaned_parts(line: Line, recipe: str, source: str, name: str = "kept") -> pd.DataFrame:
    """A table of a cleaned source, its parts one after the other."""
    found = sorted((line.folder / "results/clean" / recipe / source).glob(f"*/{name}.parquet"))
    assert len(found) == line.read_config()["sources"][source].get("parts", 1)
    return pd.concat([pd.read_parquet(path) for path in found], ignore_index=True)


def cleaned_ledgers(line: Line, recipe: str, source: str) -> list[Ledger]:
    """The ledger of each part of a cleaned source."""
    folders = sorted((line.folder / "results/clean" / recipe / source).glob("*-of-*"))
    return [Ledger.from_dict(manifest.read(folder).metrics["ledger"]) for folder in folders]


def text_bytes(frame: pd.DataFrame) -> int:
    return int(frame["text"].str.encode("utf-8").str.len().sum())


# --------------------------------------------------------------------------------------- determinism
def test_one_core_gives_the_same_bytes_as_two(finished: Line, tmp_path: Path) -> None:
    line = copy_of(finished, tmp_path / "line")
    subprocess.run(["rm", "-rf", "results", ".snakemake"], cwd=line.folder, check=True)
    done = line.snakemake("--cores", "1", "results/models/demo/bpe/ngram/manifest.json")
    assert done.returncode == 0, done.stderr[-3000:]
    before, after = finished.contents(), line.contents()
    assert after, "nothing was made"
    assert {name for name in after if after[name] != before.get(name)} == set()


def test_other_parts_and_more_threads_give_the_same_bytes(finished: Line, tmp_path: Path) -> None:
    line = copy_of(finished, tmp_path / "line")
    subprocess.run(["rm", "-rf", "results", ".snakemake"], cwd=line.folder, check=True)
    config = line.read_config()
    for source, parts in (("prose", 3), ("code", 2), ("topics", 1)):
        config["sources"][source]["parts"] = parts
    line.write_config(config)
    targets = [f"results/models/{corpus}/bpe/ngram/manifest.json" for corpus in CORPORA]
    done = line.run(*targets, "--set-threads", "deduplicate_corpus=2", "mix_corpus=2")
    assert done.returncode == 0, done.stderr[-3000:]
    cut = ("results/raw/", "results/clean/")
    before, after = finished.contents(), {k: v for k, v in line.contents().items() if not k.startswith(cut)}
    assert {"duplicates", "corpora", "tokenizers", "shards", "models"} == {name.split("/")[1] for name in after}
    assert {name for name in after if after[name] != before.get(name)} == set()


def test_a_line_that_was_killed_goes_on_and_ends_with_the_same_bytes(finished: Line, tmp_path: Path) -> None:
    line = copy_of(finished, tmp_path / "line")
    target = "results/corpora/demo/manifest.json"
    subprocess.run(["rm", "-rf", "results", ".snakemake"], cwd=line.folder, check=True)
    command = [sys.executable, "-m", "snakemake", "--cores", "2", target]
    process = subprocess.Popen(
        command, cwd=line.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + LONGEST
    while not list((line.folder / "results").glob("clean/*/*/*/manifest.json")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    below = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    wait_for_end(below)  # kernels are of another group, and end when they see that they are alone
    assert line.snakemake("--unlock").returncode == 0
    done = line.run(target, "--rerun-incomplete")
    assert done.returncode == 0, done.stderr[-3000:]
    before, after = finished.contents(), line.contents()
    assert {name for name in after if after[name] != before.get(name)} == set()


def test_every_file_is_the_one_that_its_manifest_names(finished: Line) -> None:
    found = list((finished.folder / "results").rglob("manifest.json"))
    assert len(found) > 15
    for path in found:
        manifest.read(path.parent).verify()


def test_the_list_of_fonts_is_made_once_for_all_stages(finished: Line) -> None:
    (fonts,) = (finished.folder / ".snakemake/matplotlib").glob("fontlist*.json")
    assert fonts.stat().st_mtime < (finished.folder / "results/corpora/demo/manifest.json").stat().st_mtime


# ---------------------------------------------------------------------------------------- accounting
def test_every_byte_is_accounted_for_from_text_to_shard(finished: Line) -> None:
    for corpus, recipe in (("demo", "slimpajama"), ("raw", "none")):
        mixed = metrics(finished, f"corpora/{corpus}")
        for source in ("prose", "code", "topics"):
            cleaned = cleaned_ledgers(finished, recipe, source)
            for ledger in cleaned:
                ledger.check(source)
            kept = cleaned_parts(finished, recipe, source)
            removed = cleaned_parts(finished, recipe, source, "removed")
            assert sum(ledger.kept.bytes for ledger in cleaned) == text_bytes(kept)
            assert sum(each.documents for ledger in cleaned for each in ledger.removed.values()) == len(removed)
            duplicates = Ledger.from_dict(metrics(finished, f"duplicates/{corpus}")["ledgers"][source])
            duplicates.check(source)
            assert (duplicates.entered.documents, duplicates.entered.bytes) == (len(kept), text_bytes(kept))
            split = Ledger.from_dict(mixed["ledgers"][source])
            split.check(source)
        shards = metrics(finished, f"shards/{corpus}/bpe")["by_source"]
        train = table(finished, f"corpora/{corpus}/train.parquet")
        for source, group in train.groupby("source"):
            assert shards[source]["bytes"] == text_bytes(group), source


def test_deduplication_removes_the_planted_copies_and_names_their_partners(finished: Line) -> None:
    found = table(finished, "duplicates/demo/duplicates.parquet")
    prose = found[found["source"] == "prose"]
    planted = [f"{number:03d}.txt" for number in range(220, 240)]
    removed_or_kept_instead = prose["id"].str.cat(prose["partner"], sep=" ")
    hit = [name for name in planted if removed_or_kept_instead.str.contains(name, regex=False).any()]
    # A copy that fell to the holdout together with its original leaves by the exact rule, a near one stays held out.
    assert len(hit) >= 15
    assert (prose.loc[prose["reason"] == "near", "similarity"] >= 0.8).all()


def test_no_training_text_is_held_out_anywhere(finished: Line) -> None:
    held_out: set[bytes] = set()
    for corpus in CORPORA:
        for split in ("validation", "test"):
            held_out |= set(table(finished, f"corpora/{corpus}/{split}.parquet")["key"])
    assert held_out
    for corpus in CORPORA:
        assert not held_out & set(table(finished, f"corpora/{corpus}/train.parquet")["key"])


# ------------------------------------------------------------------------------------------ evaluation
def test_bits_per_byte_divide_by_the_true_bytes_of_the_holdout(finished: Line) -> None:
    holdout = table(finished, "corpora/demo/test.parquet")
    for name in ("demo/bpe/ngram", "demo/bpe/transformer", "demo/bpe/tiny", "demo/bpe/mlp", "raw/bpe/ngram"):
        scored = metrics(finished, f"evaluations/{name}")
        assert scored["overall"]["bytes"] == text_bytes(holdout), name
        bits = table(finished, f"evaluations/{name}/documents.parquet")["bits"].sum()
        assert scored["overall"]["bits_per_byte"] == pytest.approx(bits / text_bytes(holdout))
        assert 0 < scored["overall"]["bits_per_byte"] < 8


def test_the_manifest_of_a_model_says_what_was_trained(finished: Line) -> None:
    said = metrics(finished, "models/demo/bpe/transformer")
    assert said["steps"] == 12
    assert said["device"] in ("cpu", "cuda")
    lines = (finished.folder / "results/models/demo/bpe/transformer/training.jsonl").read_text().splitlines()
    assert all("loss" in json.loads(text) for text in lines)
    assert list((finished.folder / "results/models/demo/bpe/transformer/events").iterdir())


def test_a_model_of_the_users_own_is_trained_like_any_other(finished: Line) -> None:
    said = metrics(finished, "models/demo/bpe/tiny")
    assert (said["kind"], said["steps"]) == ("my_models:Tiny", 12)
    assert said["parameters"] > 0
    assert said["curve"][-1]["loss"] < said["curve"][0]["loss"]


def test_transformers_are_exported_and_other_kinds_are_not(finished: Line) -> None:
    exported = manifest.read(finished.folder / "results/exports/demo/bpe/transformer", "export")
    assert {"config.json", "model.safetensors", "tokenizer.json"} < set(exported.files)
    assert [path.name for path in (finished.folder / "results/exports").glob("*/*/*")] == ["transformer"]


def test_a_task_is_solved_beside_its_baselines_and_its_texts_stay_out_of_training(finished: Line) -> None:
    said = metrics(finished, "tasks/demo/bpe/transformer/topic")
    assert said["classes"] == ["engine", "music", "river"]
    assert {"majority", "bag_of_words"} < set(said["results"])
    assert said["results"]["bag_of_words"]["accuracy"] > said["results"]["majority"]["accuracy"]
    kept = cleaned_parts(finished, "slimpajama", "topics")
    tested = {key for key in kept["key"] if documents.fraction(key) < 0.3}
    assert len(tested) == said["test"]
    for corpus in CORPORA:
        assert not tested & set(table(finished, f"corpora/{corpus}/train.parquet")["key"])


# ---------------------------------------------------------------------------------------------- report
def test_the_report_stands_alone_and_shows_the_parts(finished: Line) -> None:
    folder = finished.folder / "results/report"
    page = (folder / "index.html").read_text(encoding="utf-8")
    for name in ("demo", "raw", "ngram", "transformer", "prose", "code", "topic", "slimpajama"):
        assert name in page
    assert not re.search(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=[\"']?(?:https?:)?//", page)
    assert "<svg" in page
    for target in set(re.findall(r'href="([^"#]+)"', page)):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (folder / target).exists(), target


def test_every_executed_notebook_is_a_page(finished: Line) -> None:
    executed = list((finished.folder / "results/logs").rglob("*.ipynb"))
    pages = list((finished.folder / "results/report/notebooks").rglob("*.html"))
    assert len(executed) > 15
    assert len(pages) == len(executed)


def test_snakemakes_own_report_works(line: Line) -> None:
    done = line.snakemake("--report", "snakemake-report.html")
    assert done.returncode == 0, done.stderr[-2000:]
    assert (line.folder / "snakemake-report.html").stat().st_size > 10_000


# ---------------------------------------------------------------------------------------------- faults
@pytest.fixture
def empty(tmp_path: Path) -> Line:
    """A line that has not run, with one package source besides the local texts."""
    line = new_line(tmp_path / "line")
    config = line.read_config()
    config["sources"]["remote"] = {
        "pypi": "six==1.16.0",
        "file": "six-1.16.0.tar.gz",
        "sha256": "0" * 64,
        "read": {"format": "text"},
    }
    config["corpora"]["demo"]["mix"]["remote"] = 1.0
    line.write_config(config)
    return line


def test_an_unreachable_index_is_said_and_nothing_is_left(empty: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # the discard port: nobody listens
    done = empty.run("results/raw/remote/1-of-1/manifest.json")
    assert done.returncode != 0
    assert "127.0.0.1:9" in done.stdout + done.stderr
    assert not (empty.folder / "results/raw/remote/1-of-1/manifest.json").exists()
    assert (empty.folder / "results/logs/raw/remote/1-of-1/01_download.ipynb").exists()


def test_a_failed_stage_stops_what_needs_it_and_the_next_run_continues(line: Line) -> None:
    path = line.folder / "notebooks/04_mix.ipynb"
    good = path.read_text(encoding="utf-8")
    notebook = json.loads(good)
    notebook["cells"][-1]["source"] = "raise RuntimeError('broken on purpose')"
    path.write_text(json.dumps(notebook), encoding="utf-8")
    done = line.run("--keep-going")
    assert done.returncode != 0
    assert "RuntimeError: broken on purpose" in done.stderr + done.stdout
    assert not (line.folder / "results/corpora/demo/train.parquet").exists()
    path.write_text(good, encoding="utf-8")
    rules = {rule for rule, _ in line.planned().jobs}
    assert "mix_corpus" in rules
    assert not rules & {"download_source", "clean_source", "deduplicate_corpus"}
    assert line.run("results/corpora/demo/manifest.json").returncode == 0


def test_a_configuration_that_is_wrong_starts_nothing(empty: Line) -> None:
    config = empty.read_config()
    config["corpora"]["demo"]["recipe"] = "slimpyjama"
    config["models"]["transformer"]["widht"] = 64
    empty.write_config(config)
    done = empty.run()
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "2 problems" in said
    assert "did you mean 'slimpajama'?" in said
    assert "did you mean 'width'?" in said
    assert "Traceback" not in said
    assert not (empty.folder / "results").exists()


def test_a_users_own_folder_of_text_works_with_one_entry(line: Line) -> None:
    own = line.folder / "notes"
    own.mkdir()
    for number in range(40):
        (own / f"note {number} 'ü'.md").write_text(f"# Note {number}\n\n" + f"Words of my own, number {number}. " * 12)
    config = line.read_config()
    config["sources"]["notes"] = {"path": "notes/*.md"}
    config["corpora"]["demo"]["mix"]["notes"] = 1.0
    line.write_config(config)
    done = line.run("results/corpora/demo/manifest.json")
    assert done.returncode == 0, done.stderr[-3000:]
    assert (table(line, "corpora/demo/train.parquet")["source"] == "notes").sum() > 20


def test_keys_of_the_holdout_are_of_the_text_as_extracted(finished: Line) -> None:
    kept = cleaned_parts(finished, "none", "prose")
    assert all(documents.key_of(text) == key for text, key in zip(kept["text"], kept["key"], strict=True))
