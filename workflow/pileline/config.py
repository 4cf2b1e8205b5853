"""The checked configuration, cut in one slice a stage.

What passes `checks.checked` becomes a `Config`, whose `slice` gives a stage exactly the settings its result depends on:
they are the parameters of its notebook, and as one canonical JSON string they are what Snakemake compares between runs.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from pileline.checks import ORIGIN_SETTINGS, ORIGINS, ConfigError, Experiment, Settings, checked
from pileline.parts import names as part_names
from pileline.wording import suggestion

# The kinds of model that can be written as a folder that Hugging Face's transformers reads.
EXPORTED = ("transformer", "transformer-2017")


def check(raw: Settings) -> Config:
    """Check a loaded config.yaml and return it with defaults filled in; raise `ConfigError` with all problems."""
    return Config(*checked(raw))


@dataclass(frozen=True)
class Config:
    """A configuration that passed `check`. `settings` is the whole of it, with defaults."""

    settings: Settings
    experiments: list[Experiment]

    def part(self, section: str, name: str) -> Settings:
        """A named part; an error that a person understands where a path asks for one that is not defined."""
        parts = self.settings[section]
        if name not in parts:
            raise ConfigError([f"{section}: a path asks for '{name}'{suggestion(name, sorted(parts))}"])
        found: Settings = parts[name]
        return found

    def slice(self, stage: str, **names: str) -> Settings:
        """The parameters of a stage's notebook: its settings and its folders, for these wildcards."""
        made: Settings = getattr(self, f"_{stage}")(**names)
        return made

    @property
    def _seed(self) -> int:
        seed: int = self.settings["seed"]
        return seed

    def protected(self) -> dict[str, float]:
        """For each source that a task tests on, the share of its documents that no corpus may train on."""
        shares: dict[str, float] = {}
        for task in self.settings["tasks"].values():
            shares[task["source"]] = max(task["test"], shares.get(task["source"], 0.0))
        return shares

    def _protected_in(self, sources: Collection[str]) -> dict[str, float]:
        return {source: share for source, share in self.protected().items() if source in sources}

    def guards(self, corpus: str) -> list[str]:
        """The sources that a corpus is scored on without holding them: the scoring corpus's, and those of tasks.

        Their protected documents guard the corpus's training text, as those of its own sources do.
        """
        holdout = self.part("corpora", self.settings["evaluation"]["holdout"])
        return sorted({*holdout["mix"], *self.protected()} - {*self.part("corpora", corpus)["mix"]})

    def parts(self, source: str) -> int:
        """How many parts a source is cut in."""
        parts: int = self.part("sources", source)["parts"]
        return parts

    def _download(self, source: str, part: str) -> Settings:
        settings = self.part("sources", source)
        return {
            "source": source,
            "part": part,
            "origin": {key: settings[key] for key in sorted({*ORIGINS, *ORIGIN_SETTINGS} & settings.keys())},
            "cache": "results/raw/.downloads",
            "output": f"results/raw/{source}/{part}",
        }

    def _clean(self, recipe: str, source: str, part: str) -> Settings:
        return {
            "source": source,
            "recipe": recipe,
            "part": part,
            "reading": self.part("sources", source)["read"],
            "filters": self.part("recipes", recipe),
            "raw": f"results/raw/{source}",
            "seed": self._seed,
            "output": f"results/clean/{recipe}/{source}/{part}",
        }

    def _deduplicate(self, corpus: str) -> Settings:
        settings, guards = self.part("corpora", corpus), self.guards(corpus)
        return {
            "corpus": corpus,
            # Priority among sources: the higher weight first, then by name; the order of YAML keys means nothing.
            "sources": sorted(settings["mix"], key=lambda source: (-settings["mix"][source]["weight"], source)),
            "guards": guards,
            "parts": {source: self.parts(source) for source in [*settings["mix"], *guards]},
            "method": self.part("deduplications", settings["deduplication"]),
            "holdout": self.settings["holdout"],
            "protected": self._protected_in([*settings["mix"], *guards]),
            "tasks": {
                name: {"source": task["source"], "test": task["test"]} for name, task in self.settings["tasks"].items()
            },
            "decontamination": self.settings["decontamination"],
            "clean": f"results/clean/{settings['recipe']}",
            "seed": self._seed,
            "output": f"results/duplicates/{corpus}",
        }

    def _mix(self, corpus: str) -> Settings:
        settings = self.part("corpora", corpus)
        return {
            "corpus": corpus,
            "mix": settings["mix"],
            "mixing": settings["mixing"],
            "parts": {source: self.parts(source) for source in settings["mix"]},
            "holdout": self.settings["holdout"],
            "protected": self._protected_in(settings["mix"]),
            "clean": f"results/clean/{settings['recipe']}",
            "duplicates": f"results/duplicates/{corpus}",
            "seed": self._seed,
            "output": f"results/corpora/{corpus}",
        }

    def _tokenizer(self, corpus: str, tokenizer: str) -> Settings:
        return {
            "corpus": f"results/corpora/{corpus}",
            "tokenizer": tokenizer,
            "settings": self.part("tokenizers", tokenizer),
            "seed": self._seed,
            "output": f"results/tokenizers/{corpus}/{tokenizer}",
        }

    def _shards(self, corpus: str, tokenizer: str) -> Settings:
        return {
            "corpus": f"results/corpora/{corpus}",
            "tokenizer": f"results/tokenizers/{corpus}/{tokenizer}",
            "settings": self.settings["shards"],
            "output": f"results/shards/{corpus}/{tokenizer}",
        }

    def _train(self, corpus: str, tokenizer: str, model: str) -> Settings:
        settings = dict(self.part("models", model))
        seed = settings.pop("seed", None)
        return {
            "shards": f"results/shards/{corpus}/{tokenizer}",
            "tokenizer": f"results/tokenizers/{corpus}/{tokenizer}",
            "model": model,
            "threads": settings.pop("threads"),
            "device": settings.pop("device"),
            "settings": settings,
            "seed": self._seed if seed is None else seed,  # the model's own, where it has one
            "scratch": f"results/scratch/models/{corpus}/{tokenizer}/{model}",
            "output": f"results/models/{corpus}/{tokenizer}/{model}",
        }

    def _evaluate(self, corpus: str, tokenizer: str, model: str) -> Settings:
        settings = self.part("models", model)
        return {
            "model_folder": f"results/models/{corpus}/{tokenizer}/{model}",
            "tokenizer": f"results/tokenizers/{corpus}/{tokenizer}",
            "holdout": f"results/corpora/{self.settings['evaluation']['holdout']}",
            "prompts": self.settings["evaluation"]["prompts"],
            "seed": self._seed,
            "device": settings["device"],
            "threads": settings["threads"],
            "output": f"results/evaluations/{corpus}/{tokenizer}/{model}",
        }

    def _task(self, corpus: str, tokenizer: str, model: str, task: str) -> Settings:
        settings, labelled = self.part("models", model), self.part("tasks", task)
        return {
            "model_folder": f"results/models/{corpus}/{tokenizer}/{model}",
            "tokenizer": f"results/tokenizers/{corpus}/{tokenizer}",
            "task": task,
            "labelled": labelled,
            "clean": f"results/clean/{labelled['recipe']}/{labelled['source']}",
            "parts": self.parts(labelled["source"]),
            "seed": self._seed,
            "device": settings["device"],
            "threads": settings["threads"],
            "output": f"results/tasks/{corpus}/{tokenizer}/{model}/{task}",
        }

    def exports(self, experiment: Experiment) -> bool:
        """Whether an experiment's model is written as a Hugging Face folder too."""
        models = self.settings["models"]
        return bool(self.settings["export"] and experiment.model and models[experiment.model]["kind"] in EXPORTED)

    def _export(self, corpus: str, tokenizer: str, model: str) -> Settings:
        kind = self.part("models", model)["kind"]
        if kind not in EXPORTED:
            raise ConfigError([f"exports: '{model}' is of kind '{kind}'; these can be exported: {', '.join(EXPORTED)}"])
        return {
            "model_folder": f"results/models/{corpus}/{tokenizer}/{model}",
            "tokenizer": f"results/tokenizers/{corpus}/{tokenizer}",
            "device": "cpu",
            "output": f"results/exports/{corpus}/{tokenizer}/{model}",
        }

    def _report(self) -> Settings:
        return {
            "results": "results",
            "experiments": [vars(experiment) | {"export": self.exports(experiment)} for experiment in self.experiments],
            "configuration": self.used(),
            "output": "results/report",
        }

    def used(self) -> Settings:
        """The configuration without the parts that no experiment uses."""
        used = copy.deepcopy(self.settings)
        corpora = {experiment.corpus for experiment in self.experiments} | {used["evaluation"]["holdout"]}
        tasks = {experiment.task for experiment in self.experiments}
        keep: dict[str, set[Any]] = {
            "corpora": corpora,
            "tokenizers": {experiment.tokenizer for experiment in self.experiments},
            "models": {experiment.model for experiment in self.experiments},
            "tasks": tasks,
            "recipes": {used["corpora"][corpus]["recipe"] for corpus in corpora}
            | {task["recipe"] for name, task in used["tasks"].items() if name in tasks},
            "deduplications": {used["corpora"][corpus]["deduplication"] for corpus in corpora},
            "sources": {source for corpus in corpora for source in used["corpora"][corpus]["mix"]}
            | {source for corpus in corpora for source in self.guards(corpus)}
            | {task["source"] for name, task in used["tasks"].items() if name in tasks},
        }
        for section, names in keep.items():
            used[section] = {name: part for name, part in used[section].items() if name in names}
        return used

    def folders(self) -> list[str]:
        """The folders, below results/, of every stage that the experiments need, in the order of the data's way."""
        corpora = list(dict.fromkeys([*(e.corpus for e in self.experiments), self.settings["evaluation"]["holdout"]]))
        recipes = {corpus: self.settings["corpora"][corpus]["recipe"] for corpus in corpora}
        cleaned = [
            (recipes[corpus], source)
            for corpus in corpora
            for source in [*self.settings["corpora"][corpus]["mix"], *self.guards(corpus)]
        ]
        for experiment in self.experiments:
            if experiment.task:
                task = self.settings["tasks"][experiment.task]
                cleaned.append((task["recipe"], task["source"]))
        parts = {source: part_names(self.parts(source)) for _, source in cleaned}
        folders = [f"raw/{source}/{part}" for _, source in cleaned for part in parts[source]]
        folders += [f"clean/{recipe}/{source}/{part}" for recipe, source in cleaned for part in parts[source]]
        folders += [f"{room}/{corpus}" for room in ("duplicates", "corpora") for corpus in corpora]
        for room in ("tokenizers", "shards"):
            folders += [f"{room}/{e.corpus}/{e.tokenizer}" for e in self.experiments]
        folders += [f"{room}/{e.path}" for room in ("models", "evaluations") for e in self.experiments if e.model]
        folders += [f"tasks/{e.path}/{e.task}" for e in self.experiments if e.task]
        folders += [f"exports/{e.path}" for e in self.experiments if self.exports(e)]
        return list(dict.fromkeys(folders))
