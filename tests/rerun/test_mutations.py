"""The mutation matrix: an edit reruns exactly what it touched, and Snakemake says which edit it was.

Each case changes one thing in a finished line and reads a dry run. `causes` are the rules that run for a
cause of their own; what follows from them is left to the DAG.
"""

from __future__ import annotations

import json
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Line, make_newer

pytestmark = pytest.mark.slow
Edit = Callable[[Line], None]


# ------------------------------------------------------------------------------------------- the edits
def edit_config(change: Callable[[dict[str, Any]], None]) -> Edit:
    def edit(line: Line) -> None:
        config = line.read_config()
        change(config)
        line.write_config(config)

    return edit


def setting(*path: Any) -> Edit:
    """Set the value at a path of keys; the last item is the value."""
    *keys, last, value = path

    def change(config: dict[str, Any]) -> None:
        place: Any = config
        for key in keys:
            place = place[key]
        place[last] = value

    return edit_config(change)


def edit_notebook(name: str, change: Callable[[dict[str, Any]], None]) -> Edit:
    def edit(line: Line) -> None:
        path = line.folder / "notebooks" / name
        notebook = json.loads(path.read_text(encoding="utf-8"))
        change(notebook)
        path.write_text(json.dumps(notebook, indent=1), encoding="utf-8")

    return edit


def append_code(notebook: dict[str, Any]) -> None:
    source = notebook["cells"][-1]["source"]
    notebook["cells"][-1]["source"] = "".join(source) + "\nprint('edited')"


def edit_markdown(notebook: dict[str, Any]) -> None:
    notebook["cells"][0]["source"] = "# Another title"


def add_outputs(notebook: dict[str, Any]) -> None:
    for number, cell in enumerate(cell for cell in notebook["cells"] if cell["cell_type"] == "code"):
        cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["seen\n"]}]
        cell["execution_count"] = number


def change_ids_and_metadata(notebook: dict[str, Any]) -> None:
    notebook["metadata"]["widgets"] = {}
    for number, cell in enumerate(notebook["cells"]):
        cell["id"] = f"cell-{number}"
        cell["metadata"]["collapsed"] = False


def edit_library(name: str, change: Callable[[str], str]) -> Edit:
    def edit(line: Line) -> None:
        path = line.folder / "workflow/pileline" / name
        text = path.read_text(encoding="utf-8")
        assert change(text) != text
        path.write_text(change(text), encoding="utf-8")

    return edit


def add_code(text: str) -> str:
    return text + "\n_EDITED = True\n"


def add_comment(text: str) -> str:
    return f"# A comment above all.\n{text}\n\n# And one at the end.\n"


def edit_docstring(text: str) -> str:
    return re.sub(r'^"""', '"""Edited: ', text, count=1)


def edit_own(name: str) -> Edit:
    """Add code to a module of the user's own, beside config.yaml."""

    def edit(line: Line) -> None:
        path = line.folder / name
        path.write_text(add_code(path.read_text(encoding="utf-8")), encoding="utf-8")

    return edit


def edit_lock(package: str) -> Edit:
    def edit(line: Line) -> None:
        path = line.folder / "envs/requirements.lock"
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(rf"^{package}==.*$", f"{package}==0.0.1", text, flags=re.MULTILINE), encoding="utf-8")

    return edit


def touch_everything(line: Line) -> None:
    """What a fresh clone or `git checkout` does to the times of the tracked files."""
    for path in line.folder.rglob("*"):
        if path.is_file() and not {".snakemake", "results"} & set(path.relative_to(line.folder).parts):
            make_newer(path)


def reverse_keys(line: Line) -> None:
    def turned(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: turned(value[key]) for key in reversed(value)}
        return [turned(item) for item in value] if isinstance(value, list) else value

    line.write_config(turned(line.read_config()))


def reformat_rules(line: Line) -> None:
    """Comments and blank lines in the rules."""
    for path in (line.folder / "workflow/rules").glob("*.smk"):
        path.write_text(f"# A comment.\n\n{path.read_text(encoding='utf-8')}", encoding="utf-8")


# ------------------------------------------------------------------------------------------ the matrix
NOTHING: dict[str, Edit] = {
    "touch every tracked file": touch_everything,
    "markdown of a notebook": edit_notebook("02_clean.ipynb", edit_markdown),
    "outputs of a notebook": edit_notebook("02_clean.ipynb", add_outputs),
    "cell ids and metadata": edit_notebook("07_train.ipynb", change_ids_and_metadata),
    "comments in a library module": edit_library("documents.py", add_comment),
    "docstring of a library module": edit_library("documents.py", edit_docstring),
    "order of config keys": reverse_keys,
    "an unused source": edit_config(lambda config: config["sources"].update(new={"path": "texts/*/1*.txt"})),
    "an unused recipe": edit_config(lambda config: config["recipes"].update(strict=["fix_unicode"])),
    "pin of a package that no stage imports": edit_lock("snakefmt"),
    "comments in the rules": reformat_rules,
    "the frame's own code": edit_library("stage.py", add_code),
}

SOMETHING: dict[str, tuple[Edit, set[str], str]] = {
    "a code cell": (edit_notebook("02_clean.ipynb", append_code), {"clean_source"}, "notebooks/02_clean.ipynb:"),
    "a directly imported module": (
        edit_library("mixing/passes.py", add_code),
        {"mix_corpus"},
        "workflow/pileline/mixing/passes.py:",
    ),
    "a module imported through another": (
        edit_library("deduplication/lsh.py", add_code),
        {"deduplicate_corpus"},
        "workflow/pileline/deduplication/lsh.py:",
    ),
    "a model's module, found by its kind": (
        edit_library("models/ngram.py", add_code),
        {"train_model"},
        "workflow/pileline/models/ngram.py:",
    ),
    "a recipe": (setting("recipes", "slimpajama", 1, {"short": {"characters": 150}}), {"clean_source"}, "150"),
    "a weight": (setting("corpora", "raw", "mix", "code", 2.0), {"mix_corpus"}, '"code":{"cap_mb":null,"weight":2.0}'),
    "two values swapped": (
        edit_config(lambda config: config["deduplications"]["minhash"].update(bands=6, rows=20)),
        {"deduplicate_corpus"},
        '"bands":6',
    ),
    "a model's setting": (setting("models", "transformer", "steps", 13), {"train_model"}, '"steps":13'),
    "a filter of the user's own": (edit_own("my_filters.py"), {"clean_source"}, "my_filters.py:"),
    "the code of the export": (
        edit_library("export/folder.py", add_code),
        {"export_model"},
        "workflow/pileline/export/folder.py:",
    ),
    "prompts": (setting("evaluation", "prompts", ["Other"]), {"evaluate_model"}, "Other"),
    "the pin of an imported package": (edit_lock("ftfy"), {"clean_source"}, "ftfy==0.0.1"),
    "a template of the report": (
        lambda line: (line.folder / "workflow/templates/index.html").write_text("edited"),
        {"render_report"},
        "workflow/templates/index.html:",
    ),
    "a local text": (
        lambda line: (line.folder / "texts/prose/003.txt").write_text("edited " * 60),
        {"download_source"},
        "texts/prose/003.txt",
    ),
}


def test_a_second_run_has_nothing_to_do(line: Line) -> None:
    assert line.planned().nothing


@pytest.mark.parametrize("edit", NOTHING.values(), ids=NOTHING.keys())
def test_an_edit_that_changes_no_result_reruns_nothing(line: Line, edit: Edit) -> None:
    edit(line)
    plan = line.planned()
    assert plan.nothing, plan.causes


@pytest.mark.parametrize(("edit", "rules", "named"), SOMETHING.values(), ids=SOMETHING.keys())
def test_an_edit_reruns_its_stage_and_is_named(line: Line, edit: Edit, rules: set[str], named: str) -> None:
    edit(line)
    plan = line.planned()
    causes = plan.causes
    # The report prints the configuration that was used, so an edit of config reaches it too.
    assert rules <= set(causes) <= rules | {"render_report"}, causes
    assert named in plan.text


def test_only_the_touched_part_reruns(line: Line) -> None:
    setting("sources", "code", "read", "split", 1500)(line)
    jobs = [rule for rule, _ in line.planned().jobs]
    assert jobs.count("clean_source") == 2, "the one source, with both recipes"
    assert "download_source" not in jobs


def test_code_that_one_kind_of_model_has_retrains_that_kind_alone(line: Line) -> None:
    edit_own("my_models.py")(line)
    edit_notebook("07_train_mlp.ipynb", append_code)(line)
    edit_library("export/modeling_pileline.py", add_code)(line)  # a file that the export copies
    plan = line.planned()
    assert set(plan.causes) == {"train_model", "export_model"}, plan.causes
    jobs = [rule for rule, _ in plan.jobs]
    assert (jobs.count("train_model"), jobs.count("evaluate_model")) == (2, 2), "tiny and mlp"
    assert "my_models.py:" in plan.text
    assert "notebooks/07_train_mlp.ipynb:" in plan.text


def test_a_sweep_trains_each_of_its_values_and_nothing_that_exists(line: Line) -> None:
    def change(config: dict[str, Any]) -> None:
        config["models"]["swept"] = config["models"]["transformer"] | {"steps": [12, 13, 14]}
        config["experiments"].append({"corpus": "demo", "tokenizer": "bpe", "model": "swept-*"})

    edit_config(change)(line)
    jobs = [rule for rule, _ in line.planned().jobs if rule not in ("all", "default")]
    assert sorted(jobs) == sorted(["train_model", "evaluate_model", "export_model"] * 3 + ["render_report"])


def test_a_new_experiment_of_existing_parts_reruns_nothing_that_exists(line: Line) -> None:
    def change(config: dict[str, Any]) -> None:
        config["corpora"]["cleaned"] = {**config["corpora"]["demo"], "deduplication": "none"}
        config["experiments"].append({"corpus": "cleaned", "tokenizer": "bpe", "model": "ngram"})

    edit_config(change)(line)
    jobs = [rule for rule, _ in line.planned().jobs if rule not in ("all", "default")]
    expected = ["deduplicate_corpus", "mix_corpus", "train_tokenizer", "write_shards", "train_model", "evaluate_model"]
    assert sorted(jobs) == sorted([*expected, "render_report"])


def test_a_rerun_that_changes_no_manifest_stops_the_wave(line: Line) -> None:
    edit_notebook("02_clean.ipynb", append_code)(line)
    done = line.run("--until", "clean_source")
    assert done.returncode == 0, done.stderr[-3000:]
    causes = line.planned().causes
    assert set(causes) <= {"render_report"}, causes


def test_a_dry_run_of_a_finished_line_is_quick(line: Line, tmp_path: Path) -> None:
    """At most a few times what Snakemake itself needs for a workflow without jobs; seconds depend on the machine."""

    def seconds(line: Line) -> float:  # of the processor, in turn: other tests run beside this one
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert line.planned().nothing
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    (tmp_path / "Snakefile").write_text('rule all:\n    input: "Snakefile"\n', encoding="utf-8")
    empty = Line(tmp_path)
    pairs = [(seconds(line), seconds(empty)) for _ in range(3)]
    assert min(ours for ours, _ in pairs) < 4 * min(others for _, others in pairs)


def test_the_folders_of_the_results_are_those_of_the_design(finished: Line) -> None:
    rooms = {path.name for path in Path(finished.folder, "results").iterdir() if not path.name.startswith(".")}
    expected = {"raw", "clean", "duplicates", "corpora", "tokenizers", "shards", "models", "evaluations", "exports"}
    assert expected | {"report", "logs"} <= rooms <= expected | {"report", "logs", "tasks", "scratch"}
