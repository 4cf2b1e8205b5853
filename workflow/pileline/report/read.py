"""Collect what the report tells: every stage's manifest, its run record and its executed notebook.

The report reads the stages that its experiments need (`plan`) and nothing else below `results/`, so what an
earlier configuration left there does not show. A stage that is planned and not found is left out, and so is
each table it would have filled: a report on half a run is still a report. A source that was worked on in parts is
one stage here, with the parts' metrics added up (`merge`); what belongs to a run, its record and its notebook, stays
with the part.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pileline import manifest
from pileline.parts import names as part_names
from pileline.report.merge import merged

STAGES = (
    *("download", "clean", "deduplicate", "mix", "tokenizer", "shards", "train", "evaluate", "task", "export"),
    "report",
)


# Kinds of models from theory to practice, the order of everything that is told of several; a user's own come last.
KINDS = ("ngram", "mlp", "lstm", "transformer-2017", "transformer", "residual")


@dataclass(frozen=True)
class Experiment:
    """A combination of names that was trained and scored, with the tasks it was tried on.

    Without a model it ends at the shards. `export`: its model was written for other libraries too.
    """

    corpus: str
    tokenizer: str
    model: str | None
    tasks: tuple[str, ...] = ()
    export: bool = False

    @property
    def name(self) -> str:
        """The experiment's path below the stage folders: corpus/tokenizer/model."""
        return f"{self.corpus}/{self.tokenizer}/{self.model}"


@dataclass(frozen=True)
class Node:
    """A stage of the plan: its name, which stage it is, the names it is made from, and its number of parts.

    The name is the stage's folder below results/; the parts of a source lie in folders below that.
    """

    name: str
    stage: str
    inputs: tuple[str, ...] = ()
    parts: int = 0

    @property
    def folders(self) -> list[str]:
        """The folders that its manifests lie in."""
        return [f"{self.name}/{part}" for part in part_names(self.parts)] if self.parts else [self.name]


@dataclass(frozen=True)
class Run:
    """What the runner recorded of one run of a stage: seconds, bytes, versions."""

    started: datetime
    seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    threads: int
    python: str
    platform: str
    processor: str
    packages: dict[str, str]
    commit: str
    dirty: bool

    @property
    def ended(self) -> datetime:
        return self.started + timedelta(seconds=self.seconds)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Run:
        """The run of a `run.json`; fields it lacks are empty, a start it lacks is an error (KeyError)."""
        started = datetime.fromisoformat(value["started"])
        git = value.get("git") or {}
        return cls(
            started=started if started.tzinfo else started.replace(tzinfo=UTC),
            seconds=float(value.get("seconds") or 0.0),
            cpu_seconds=float(value.get("cpu_seconds") or 0.0),
            peak_memory_bytes=int(value.get("peak_memory_bytes") or 0),
            threads=int(value.get("threads") or 1),
            python=str(value.get("python") or ""),
            platform=str(value.get("platform") or ""),
            processor=str(value.get("processor") or ""),
            packages={str(name): str(version) for name, version in (value.get("packages") or {}).items()},
            commit=str(git.get("commit") or ""),
            dirty=bool(git.get("dirty")),
        )


@dataclass(frozen=True)
class Stage:
    """A stage that ran: its manifest, its run record and its executed notebook, where they exist.

    A stage that ran in parts has them instead of a record and a notebook of its own; its metrics are their sum.
    """

    name: str
    stage: str
    folder: Path
    metrics: dict[str, Any] = field(default_factory=dict)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    run: Run | None = None
    notebook: Path | None = None
    parts: tuple[Stage, ...] = ()

    @property
    def each(self) -> tuple[Stage, ...]:
        """Its parts; itself if it has none."""
        return self.parts or (self,)

    @property
    def page(self) -> str:
        """Where the notebook's page (of its first part) lies, below the report; empty without a notebook."""
        if self.parts:
            return next((part.page for part in self.parts if part.page), "")
        return f"notebooks/{self.name.replace('/', '--')}.html" if self.notebook else ""

    @property
    def last(self) -> str:
        """The last part of the name: the source, corpus, tokenizer, model or task."""
        return self.name.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Results:
    """Everything the report tells, by stage name; `nodes` is the plan in the order of the stages."""

    root: Path
    experiments: tuple[Experiment, ...]
    configuration: dict[str, Any]
    nodes: tuple[Node, ...]
    stages: dict[str, Stage]

    def of(self, stage: str) -> list[Stage]:
        """The stages of one kind that were found, in the order of the plan."""
        return [found for found in self.stages.values() if found.stage == stage]

    @property
    def ran(self) -> list[Stage]:
        """Everything that was run by itself, in the order of the plan: stages, and parts instead of their sum."""
        return [part for stage in self.stages.values() for part in stage.each]

    def get(self, name: str) -> Stage | None:
        """The stage of a folder name, or None if it did not run."""
        return self.stages.get(name)

    def part(self, kind: str, name: str) -> dict[str, Any]:
        """A named part of the configuration (`part("corpora", "demo")`), empty if it has none so named."""
        found = (self.configuration.get(kind) or {}).get(name)
        return found if isinstance(found, dict) else {}

    def settings(self, experiment: Experiment) -> dict[str, Any]:
        """An experiment's entry of `models`: as configured, else as its manifest has it."""
        stage = self.get(f"models/{experiment.name}")
        trained = stage.metrics if stage else {}
        kind = {"kind": trained["kind"]} if trained.get("kind") else {}
        return kind | (self.part("models", experiment.model or "") or trained.get("settings") or {})

    def kind(self, experiment: Experiment) -> str:
        """The kind of an experiment's model; empty where neither the configuration nor a manifest tells it."""
        return str(self.settings(experiment).get("kind", ""))

    @property
    def one_pair(self) -> bool:
        """Whether all models are of one corpus and tokenizer, so that these need not stand beside each model."""
        return len({(each.corpus, each.tokenizer) for each in self.experiments if each.model is not None}) == 1

    def title(self, experiment: Experiment) -> str:
        """What an experiment is called where models are listed: its name, or its model alone if that says it."""
        return str(experiment.model) if self.one_pair else experiment.name

    def in_order(self, sources: Iterable[str]) -> list[str]:
        """Sources in the order of the configuration; those it does not name last, by name."""
        known = {name: place for place, name in enumerate(self.configuration.get("sources") or {})}
        return sorted(sources, key=lambda name: (known.get(name, len(known)), name))


def kind_rank(kind: str) -> int:
    """The place of a kind of model from theory to practice."""
    return KINDS.index(kind) if kind in KINDS else len(KINDS)


def merge_experiments(experiments: list[dict[str, Any]]) -> tuple[Experiment, ...]:
    """Experiments without repeats, in order; tasks of one corpus, tokenizer and model come together."""
    merged: dict[tuple[str, str, str | None], list[str]] = {}
    for entry in experiments:
        known = merged.setdefault((entry["corpus"], entry["tokenizer"], entry["model"]), [])
        if entry.get("task") and entry["task"] not in known:
            known.append(entry["task"])
    exported = {(entry["corpus"], entry["tokenizer"], entry["model"]) for entry in experiments if entry.get("export")}
    return tuple(Experiment(*key, tuple(names), key in exported) for key, names in merged.items())


def _source_nodes(source: str, recipe: str, configuration: dict[str, Any]) -> Iterator[Node]:
    """The nodes of a source: its download and its cleaning, in so many parts."""
    settings = (configuration.get("sources") or {}).get(source) or {}
    parts = int(settings.get("parts") or 1)
    yield Node(f"raw/{source}", "download", parts=parts)
    yield Node(f"clean/{recipe}/{source}", "clean", (f"raw/{source}",), parts)


def _corpus_nodes(corpus: str, configuration: dict[str, Any]) -> Iterator[Node]:
    """The nodes that lead to a corpus: downloads, cleaned sources, duplicates, the corpus itself."""
    settings = (configuration.get("corpora") or {}).get(corpus) or {}
    cleaned = []
    for source in settings.get("mix") or {}:
        yield from _source_nodes(source, settings.get("recipe", ""), configuration)
        cleaned.append(f"clean/{settings.get('recipe')}/{source}")
    yield Node(f"duplicates/{corpus}", "deduplicate", tuple(cleaned))
    yield Node(f"corpora/{corpus}", "mix", (*cleaned, f"duplicates/{corpus}"))


def _experiment_nodes(experiment: Experiment, configuration: dict[str, Any]) -> Iterator[Node]:
    """The nodes from a corpus to its shards, or to a scored model, its tasks and the holdout it is scored on."""
    corpus, pair, name = f"corpora/{experiment.corpus}", f"{experiment.corpus}/{experiment.tokenizer}", experiment.name
    holdout = (configuration.get("evaluation") or {}).get("holdout") or experiment.corpus
    yield from _corpus_nodes(experiment.corpus, configuration)
    yield from _corpus_nodes(holdout, configuration)
    yield Node(f"tokenizers/{pair}", "tokenizer", (corpus,))
    yield Node(f"shards/{pair}", "shards", (corpus, f"tokenizers/{pair}"))
    if experiment.model is None:
        return
    yield Node(f"models/{name}", "train", (f"shards/{pair}", f"tokenizers/{pair}"))
    inputs = (f"models/{name}", f"tokenizers/{pair}", f"corpora/{holdout}")
    yield Node(f"evaluations/{name}", "evaluate", inputs)
    for task in experiment.tasks:
        settings = (configuration.get("tasks") or {}).get(task) or {}
        labelled = f"clean/{settings.get('recipe')}/{settings.get('source')}"
        if settings:
            yield from _source_nodes(settings.get("source", ""), settings.get("recipe", ""), configuration)
        labels = (labelled,) if settings else ()
        yield Node(f"tasks/{name}/{task}", "task", (f"models/{name}", f"tokenizers/{pair}", *labels))
    if experiment.export:
        yield Node(f"exports/{name}", "export", (f"models/{name}", f"tokenizers/{pair}"))


def plan(experiments: tuple[Experiment, ...], configuration: dict[str, Any]) -> tuple[Node, ...]:
    """Every stage that the experiments need, each once, ordered by stage; last the report itself."""
    nodes: dict[str, Node] = {}
    for experiment in experiments:
        for node in _experiment_nodes(experiment, configuration):
            nodes.setdefault(node.name, node)
    used = {name for node in nodes.values() for name in node.inputs}
    ends = tuple(name for name in nodes if name not in used)
    nodes["report"] = Node("report", "report", ends)
    return tuple(sorted(nodes.values(), key=lambda node: STAGES.index(node.stage)))


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; empty if the file is missing or is not one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _notebook(root: Path, name: str) -> Path | None:
    """The executed notebook of a stage: the last by name in its folder of logs."""
    found = sorted((root / "logs" / name).glob("*.ipynb"))
    return found[-1] if found else None


def read_stage(root: Path, node: Node) -> Stage | None:
    """What one planned stage left below `root`; None if it left neither a manifest nor a notebook."""
    found = [stage for name in node.folders if (stage := _read_folder(root, name, node.stage)) is not None]
    if not node.parts:
        return found[0] if found else None
    metrics = [part.metrics for part in found if part.metrics]
    whole = merged(node.stage, metrics) if metrics else {}
    return Stage(node.name, node.stage, root / node.name, whole, parts=tuple(found)) if found else None


def _read_folder(root: Path, name: str, stage: str) -> Stage | None:
    """What one run of a stage left in its folder."""
    folder, notebook = root / name, _notebook(root, name)
    if stage == "report":  # its folder still holds the last report; only its notebook is of this run
        return Stage(name, stage, folder, notebook=notebook) if notebook else None
    recorded = _read_json(folder / "run.json")
    run = Run.from_dict(recorded) if recorded.get("started") else None
    if not (folder / manifest.NAME).exists():
        return Stage(name, stage, folder, run=run, notebook=notebook) if notebook else None
    read = manifest.read(folder, stage)
    return Stage(name, stage, folder, read.metrics, read.files, run, notebook)


def from_theory_to_practice(results: Results) -> Results:
    """The same with experiments of one corpus and tokenizer next to each other, in the order of their models' kinds."""
    corpora = list(dict.fromkeys(experiment.corpus for experiment in results.experiments))
    tokenizers = list(dict.fromkeys(experiment.tokenizer for experiment in results.experiments))

    def place(experiment: Experiment) -> tuple[int, int, int]:
        rank = kind_rank(results.kind(experiment))
        return corpora.index(experiment.corpus), tokenizers.index(experiment.tokenizer), rank

    ordered = tuple(sorted(results.experiments, key=place))
    nodes = plan(ordered, results.configuration)
    stages = {node.name: results.stages[node.name] for node in nodes if node.name in results.stages}
    return Results(results.root, ordered, results.configuration, nodes, stages)


def collect(root: str | Path, experiments: list[dict[str, Any]], configuration: dict[str, Any]) -> Results:
    """Read all that the experiments made below `root` (results/).

    Raises `ManifestError` for a manifest that is there and damaged; what is missing is left out.
    """
    root = Path(root)
    merged = merge_experiments(experiments)
    nodes = plan(merged, configuration)
    found = {node.name: stage for node in nodes if (stage := read_stage(root, node)) is not None}
    return from_theory_to_practice(Results(root, merged, configuration, nodes, found))
