"""What the rules need of the library: a stage's settings, its code, its number of threads.

Each function here returns what Snakemake's `params` and `threads` take: values, or functions of wildcards
alone, since Snakemake does not compare parameters that look at anything else.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from pileline import fingerprint, manifest, model_memory, parts
from pileline import notebook as notebooks
from pileline.checks import ConfigError, Experiment
from pileline.config import Config, check
from pileline.files import matching_files
from pileline.parts import Part
from pileline.wording import suggestion

# The runner gives a notebook that asks for it the number of threads it may use; a result never depends on it.
INJECTED = {"threads"}
NOTEBOOKS = {
    "download": "notebooks/01_download.ipynb",
    "clean": "notebooks/02_clean.ipynb",
    "deduplicate": "notebooks/03_deduplicate.ipynb",
    "mix": "notebooks/04_mix.ipynb",
    "tokenizer": "notebooks/05_tokenizer.ipynb",
    "shards": "notebooks/06_shards.ipynb",
    "train": "notebooks/07_train.ipynb",
    "evaluate": "notebooks/08_evaluate.ipynb",
    "task": "notebooks/09_task.ipynb",
    "export": "notebooks/10_export.ipynb",
    "report": "notebooks/11_report.ipynb",
}
BYTES = 259  # tokens of a tokenizer of bytes, which has no setting for it
# The kinds of model that a notebook of their own trains.
TRAIN_NOTEBOOKS = {"mlp": "notebooks/07_train_mlp.ipynb"}


def prefer_this_python() -> None:
    """Make the rules' `python` the one that Snakemake runs with, whether its environment is activated or not."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


class _UniqueKeys(yaml.SafeLoader):
    """A YAML loader that refuses a key given twice, of which YAML would silently keep the last."""


def _unique_mapping(loader: _UniqueKeys, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        if not isinstance(key_node, yaml.ScalarNode):
            raise ConfigError([f"line {key_node.start_mark.line + 1}: a name should be text, found a list or settings"])
        key = loader.construct_object(key_node)  # type: ignore[no-untyped-call]
        if key in seen:
            raise ConfigError([f"line {key_node.start_mark.line + 1}: '{key}' is given twice; rename or remove one"])
        seen.add(key)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def load(raw: dict[str, Any], files: list[str]) -> Config:
    """Check the configuration that Snakemake merged from `files` and the command line, and the notebooks with it."""
    for file in files:
        try:
            yaml.load(Path(file).read_text(encoding="utf-8"), _UniqueKeys)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError([f"{file}: not YAML, {' '.join(str(error).split())}"]) from None
    config = check(raw)
    problems = [*_notebook_problems(config), *_own_problems(config)]
    if problems:
        raise ConfigError(problems)
    return config


def _own_modules(recipe: list[dict[str, Any]]) -> set[str]:
    """The modules of a recipe's filters that are written module:function."""
    return {entry["filter"].partition(":")[0] for entry in recipe if ":" in entry["filter"]}


def _own_problems(config: Config) -> Iterator[str]:
    """Filters and models of the user's own whose module is not beside config.yaml, is no Python, or lacks the name."""
    own = [
        (f"recipes.{name}", "filter", entry["filter"])
        for name, recipe in config.settings["recipes"].items()
        for entry in recipe
    ]
    own += [(f"models.{name}", "model", part["kind"]) for name, part in config.settings["models"].items()]
    for where, what, (module, _, attribute) in [(where, what, written.partition(":")) for where, what, written in own]:
        if not attribute:
            continue
        try:
            fingerprint.own_code(module)
            known = fingerprint.own_names(module)
        except (OSError, SyntaxError, UnicodeDecodeError) as error:
            yield f"{where}: the module '{module}' of a {what} cannot be read: {error}"
            continue
        if known is not None and attribute not in known:
            yield f"{where}: '{module}' has no '{attribute}'{suggestion(attribute, sorted(known))}"


def _notebook(config: Config, stage: str, model: str | None = None) -> str:
    """The notebook of a stage; that of training goes by the model's kind."""
    kind = config.part("models", model)["kind"] if stage == "train" and model else None
    return TRAIN_NOTEBOOKS.get(str(kind), NOTEBOOKS[stage])


def _notebook_problems(config: Config) -> Iterator[str]:
    """Compare each notebook's parameters with its stage's settings, as the first experiment that needs it has them."""
    compared: set[str] = set()
    for experiment in config.experiments:
        corpus = config.settings["corpora"][experiment.corpus]
        source = next(iter(corpus["mix"]))
        names = {
            "source": source,
            "part": parts.names(config.parts(source))[0],
            "recipe": corpus["recipe"],
            **vars(experiment),
        }
        for stage, wanted in WILDCARDS.items():
            path = _notebook(config, stage, experiment.model)
            if path in compared or any(names[name] is None for name in wanted):
                continue
            if stage == "export" and not config.exports(experiment):
                continue
            compared.add(path)
            given = set(config.slice(stage, **{name: str(names[name]) for name in wanted}))
            notebook = notebooks.read(path)
            yield from notebooks.parameter_problems(notebook, given | (INJECTED & set(notebook.parameters)))


WILDCARDS = {
    "download": ("source", "part"),
    "clean": ("recipe", "source", "part"),
    "deduplicate": ("corpus",),
    "mix": ("corpus",),
    "tokenizer": ("corpus", "tokenizer"),
    "shards": ("corpus", "tokenizer"),
    "train": ("corpus", "tokenizer", "model"),
    "evaluate": ("corpus", "tokenizer", "model"),
    "task": ("corpus", "tokenizer", "model", "task"),
    "export": ("corpus", "tokenizer", "model"),
    "report": (),
}


class Workflow:
    """The rules' view of a checked configuration."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._listings: dict[str, list[str]] = {}

    def settings(self, stage: str) -> Callable[[Any], str]:
        """A function of wildcards: the stage's parameters as one canonical JSON string."""
        return partial(_settings, self.config, stage)

    def code(self, stage: str) -> list[str]:
        """The fingerprints of the stage's notebook and of all it imports, one string a file or package."""
        return fingerprint.notebook_code(NOTEBOOKS[stage])

    def train_notebook(self, wildcards: Any) -> str:
        """The notebook that trains a model."""
        return _notebook(self.config, "train", wildcards.model)

    def train_code(self) -> list[Callable[[Any], str]]:
        """The same fingerprints for training, whose notebook differs among models: a function for each entry of any.

        It gives the entry, or the first of the model's own where its notebook does not depend on the entry: Snakemake
        compares sets, so a repeat says nothing.
        """
        paths = {_notebook(self.config, "train", model) for model in self.config.settings["models"]}
        codes = {path: fingerprint.notebook_code(path) for path in sorted(paths)}

        def own(entry: str, wildcards: Any) -> str:
            mine = codes[self.train_notebook(wildcards)]
            return entry if entry in mine else mine[0]

        return [partial(own, entry) for entry in sorted(set().union(*codes.values()))]

    def templates(self) -> list[str]:
        """The fingerprint of each template of the report."""
        return fingerprint.files(fingerprint.LIBRARY.parent / "templates")

    def model_code(self, wildcards: Any) -> str:
        """The fingerprint of the model's own module, which the notebook finds by the name of its kind."""
        kind = self.config.part("models", wildcards.model)["kind"]
        if ":" in kind:
            return fingerprint.own_code(kind.partition(":")[0])
        return fingerprint.module_code(f"pileline.models.{kind.replace('-', '_')}")

    def worker_code(self, wildcards: Any) -> str:
        """The fingerprint of the program that training starts for a model of several processes; the kind for one."""
        model = self.config.part("models", wildcards.model)
        alone = model.get("processes", 1) == 1
        return model["kind"] if alone else fingerprint.module_code("pileline.training.worker")

    def module_code(self, module: str) -> str:
        """The fingerprint of a module that a notebook uses as a file, without importing it."""
        return fingerprint.module_code(module)

    def model_threads(self, wildcards: Any) -> int:
        """The threads that a model trains with: part of its configuration, since they round sums differently."""
        threads: int = self.config.part("models", wildcards.model)["threads"]
        return threads

    def train_threads(self, wildcards: Any) -> int:
        """The cores that training a model takes: its threads, in each of its processes."""
        processes: int = self.config.part("models", wildcards.model).get("processes", 1)
        return processes * self.model_threads(wildcards)

    def priority(self, wildcards: Any) -> int:
        """How long the longest training takes that waits for a job: that job starts first, and others meanwhile."""
        waiting = {e.model for e in self.config.experiments if e.model and self._waits(e, wildcards)}
        return max(map(self._length, waiting), default=0)

    def _waits(self, experiment: Experiment, wildcards: Any) -> bool:
        """Whether an experiment's training needs the job of these wildcards."""
        corpus = self.config.part("corpora", experiment.corpus)
        own = {**vars(experiment), "recipe": corpus["recipe"]}
        if any(getattr(wildcards, name, own[name]) != own[name] for name in ("recipe", "corpus", "tokenizer", "model")):
            return False
        return getattr(wildcards, "source", None) in {None, *corpus["mix"], *self.config.guards(experiment.corpus)}

    def _length(self, model: str) -> int:
        """How long training takes, roughly and as a power of two.

        What the hidden matrices multiply; an epoch is taken for ten million tokens, a minute for one.
        """
        settings = self.config.part("models", model)
        width = settings.get("width", settings.get("hidden"))
        if not isinstance(width, int) or ":" in settings["kind"]:  # it counts, or is the user's own
            return 0
        steps = (settings["steps"] or 1000) * (settings["batch_tokens"] or 2048)
        others = (settings["epochs"] or 0) * 10**7 + (settings["minutes"] or 0) * 10**6
        return int(math.log2((settings["tokens"] or others or steps) * settings.get("layers", 1) * width**2))

    def model_gpus(self, wildcards: Any) -> int:
        """The GPUs that a model takes, where there are any."""
        return int(self.config.part("models", wildcards.model)["device"] != "cpu")

    def train_gpus(self, wildcards: Any) -> int:
        """The GPUs that training a model takes: one a process."""
        processes: int = self.config.part("models", wildcards.model).get("processes", 1)
        return processes * self.model_gpus(wildcards)

    def train_memory(self, wildcards: Any) -> int:
        """MB that training a model needs; see `model_memory`.

        Of one that counts it is known once the shards are written: until then `FileNotFoundError`, "not yet".
        """
        settings, tokens = self.config.part("models", wildcards.model), 0
        if model_memory.counts(settings):
            tokens = _metrics("results/shards", wildcards.corpus, wildcards.tokenizer)["tokens"]["train"]
        vocabulary = self.config.part("tokenizers", wildcards.tokenizer).get("vocabulary", BYTES)
        return model_memory.training_megabytes(settings, vocabulary, tokens)

    def model_memory(self, wildcards: Any) -> int:
        """MB that using a trained model needs; known once it is trained, as above."""
        trained = _metrics("results/models", wildcards.corpus, wildcards.tokenizer, wildcards.model)
        return model_memory.using_megabytes(trained["parameters"])

    def deduplication_memory(self, wildcards: Any) -> int:
        """MB that deduplicating a corpus needs: some 250 bytes a document, as measured, and room for long texts.

        Known once the corpus is cleaned: until then `FileNotFoundError`, which Snakemake takes for "not yet".
        """
        stages = [_metrics(str(Path(path).parent)) for path in self.compared(wildcards)]
        kept: int = sum(metrics["ledger"]["kept"]["documents"] for metrics in stages)
        return 3000 + 300 * kept // 10**6

    def tokenizer_memory(self, wildcards: Any) -> int:
        """MB that training a tokenizer needs: its sample 10 to 17 times over, and 500 to stand on."""
        return 1000 + int(20 * self.config.part("tokenizers", wildcards.tokenizer).get("sample_mb", 0))

    def local_files(self, wildcards: Any) -> list[str]:
        """The files of a `path` source, so that editing one reruns what was made of it."""
        pattern, part = self.config.part("sources", wildcards.source).get("path"), Part.parse(wildcards.part)
        if pattern is None:
            return []
        if pattern not in self._listings:  # once for all parts
            self._listings[pattern] = matching_files(pattern)
        listed = self._listings[pattern]
        if not listed:
            raise ConfigError([f"sources.{wildcards.source}.path: '{pattern}' matches no file{_hint(pattern)}"])
        files = [file for number, file in enumerate(listed) if part.takes(number)]
        for file in files:
            if not file.isprintable() or set(file) & set("{}"):  # Snakemake cannot store it, or sees wildcards in it
                raise ConfigError(
                    [
                        f"sources.{wildcards.source}.path: please rename {file!a}; Snakemake takes no "
                        "file names with braces or control characters"
                    ]
                )
        return files

    def recipe_code(self, wildcards: Any) -> list[str]:
        """The fingerprints of a recipe's filters that are the user's own, which the notebook finds by their names."""
        recipe: Any = self.config.part("recipes", wildcards.recipe)
        return [fingerprint.own_code(module) for module in sorted(_own_modules(recipe))]

    def _manifests(self, folder: str, source: str) -> list[str]:
        """The manifests of all parts of a source whose parts lie in `folder`."""
        return [f"{folder}/{part}/{manifest.NAME}" for part in parts.names(self.config.parts(source))]

    def downloaded(self, wildcards: Any) -> list[str]:
        """The manifests of all parts of a downloaded source."""
        return self._manifests(f"results/raw/{wildcards.source}", wildcards.source)

    def _cleaned(self, recipe: str, sources: Iterable[str]) -> list[str]:
        folders = [(f"results/clean/{recipe}/{source}", source) for source in sorted(sources)]
        return [name for folder, source in folders for name in self._manifests(folder, source)]

    def cleaned(self, wildcards: Any) -> list[str]:
        """The manifests of a corpus's cleaned sources."""
        corpus = self.config.part("corpora", wildcards.corpus)
        return self._cleaned(corpus["recipe"], corpus["mix"])

    def compared(self, wildcards: Any) -> list[str]:
        """The manifests of a corpus's cleaned sources, and of those whose held-out text guards it."""
        recipe = self.config.part("corpora", wildcards.corpus)["recipe"]
        return self.cleaned(wildcards) + self._cleaned(recipe, self.config.guards(wildcards.corpus))

    def holdout(self, _: Any) -> str:
        """The manifest of the corpus whose test split scores every experiment."""
        return f"results/corpora/{self.config.settings['evaluation']['holdout']}/{manifest.NAME}"

    def labelled(self, wildcards: Any) -> list[str]:
        """The manifests of a task's cleaned source."""
        task = self.config.part("tasks", wildcards.task)
        return self._cleaned(task["recipe"], [task["source"]])

    def finished(self, _: Any) -> list[str]:
        """The manifest and the run record of every stage that the experiments need."""
        return [f"results/{folder}/{name}" for folder in self.config.folders() for name in (manifest.NAME, "run.json")]


def _hint(pattern: str) -> str:
    """What may be meant by a glob that matches no file."""
    if Path(pattern).expanduser().is_dir():
        return f"; it is a folder, so write {pattern.rstrip('/')}/** for all the files below it"
    return f" below {Path.cwd()}; put files there or mend it (`**` stands for any depth of folders)"


def _metrics(*folder: str) -> Any:
    """What a finished stage wrote of itself; `FileNotFoundError` until it is finished."""
    return json.loads(Path(*folder, manifest.NAME).read_bytes())["metrics"]


def _settings(config: Config, stage: str, wildcards: Any) -> str:
    return manifest.canonical_json(config.slice(stage, **dict(wildcards.items())))
