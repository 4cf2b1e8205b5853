"""What may stand in config.yaml: its schema, and the checks that a schema cannot make.

`checked` fills in defaults, holds the configuration to the schema and to itself (names that are used must be defined),
and raises one `ConfigError` with all that is wrong, each line saying where and how to mend.
"""

from __future__ import annotations

import codecs
import fnmatch
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from pileline import model_checks, sweeps
from pileline.schema import problems as schema_problems
from pileline.schema import schema
from pileline.wording import own_name_problems, shown, suggestion

DEEPEST = 50  # levels of lists and settings in config.yaml
# The kinds of a source, by the key that names its origin, and what else each must have.
ORIGINS: dict[str, tuple[str, ...]] = {
    "pypi": ("file", "sha256"),
    "path": (),
    "http": (),
    "fsspec": (),
    "npm": (),
    "debian": (),
}
ORIGIN_SETTINGS = ("file", "sha256", "mirrors")
LARGEST = 2**63 - 1  # integer, as NumPy and PyTorch hold one
Settings = dict[str, Any]


class ConfigError(ValueError):
    """Everything that is wrong with the configuration, a line each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        lines = "\n".join(f"  {number}. {problem}" for number, problem in enumerate(problems, 1))
        super().__init__(f"config.yaml: {len(problems)} problem{'s'[: len(problems) > 1]}\n{lines}")


@dataclass(frozen=True)
class Experiment:
    """One row of the comparison: a model, trained with a tokenizer on a corpus, and perhaps a task.

    Without a model it ends at the shards: enough to compare tokenizers.
    """

    corpus: str
    tokenizer: str
    model: str | None
    task: str | None

    @property
    def path(self) -> str:
        return f"{self.corpus}/{self.tokenizer}/{self.model}"


# ---------------------------------------------------------------------------------------------- checks
def checked(raw: Settings) -> tuple[Settings, list[Experiment]]:
    """A loaded config.yaml with defaults filled in, and its experiments; raises `ConfigError` with all problems.

    A part named null is taken out, so that a file laid over config.yaml can do without parts of it.
    """
    if not isinstance(raw, dict):
        needed = ", ".join(schema()["required"])
        raise ConfigError([f"the file: should hold settings by name, found {shown(raw)}; it needs: {needed}"])
    problems: list[str] = []
    broken: set[str] = set()
    value = _plain(raw, "", problems)
    _take_out(value)
    kinds = schema()["$defs"]
    problems += sweeps.expand("tokenizers", value.get("tokenizers"), kinds["tokenizers"], ("kind", "vocabulary"))
    problems += sweeps.expand("models", value.get("models"), kinds["models"])
    problems += schema_problems(value, schema(), "", broken)
    # What follows assumes the outer shape, so it looks only at the sections that have it.
    sound = {name: value[name] for name in schema()["properties"] if name in value and name not in broken}
    problems += _kind_problems(sound)
    problems += _filter_problems(sound)
    problems += _reference_problems(sound)
    experiments, more = _expand_experiments(sound)
    problems += more
    if problems:
        raise ConfigError(problems)
    for corpus in value["corpora"].values():  # a bare number is a weight: one form for one meaning
        corpus["mix"] = {
            source: part if isinstance(part, dict) else {"weight": float(part), "cap_mb": None}
            for source, part in corpus["mix"].items()
        }
    return value, experiments


def _take_out(value: Settings) -> None:
    """Remove the named parts that are null, and the sources that a corpus's mix gives as null."""
    named = [value.get(name) for name, part in schema()["properties"].items() if "propertyNames" in part]
    corpora = value.get("corpora")
    mixes = (
        [part.get("mix") for part in corpora.values() if isinstance(part, dict)] if isinstance(corpora, dict) else []
    )
    for section in [*named, *mixes]:
        if isinstance(section, dict):
            for name in [name for name, part in section.items() if part is None]:
                del section[name]


def _plain(value: Any, where: str, problems: list[str], around: tuple[int, ...] = ()) -> Any:
    """A copy in which nothing is shared, every key is text and every value one that JSON knows.

    What was otherwise is added to `problems`, and changed or left so that the other checks can go on.
    """
    place = where or "the file"
    if isinstance(value, dict | list | tuple):
        if id(value) in around or len(around) >= DEEPEST:
            problems.append(f"{place}: holds itself, or lies more than {DEEPEST} levels deep; write it out flat")
            return None
        inside = (*around, id(value))
        if not isinstance(value, dict):
            return [_plain(item, f"{where}.{number}", problems, inside) for number, item in enumerate(value)]
        for key in value:
            if not isinstance(key, str):
                problems.append(f'{place}: the name {shown(key)} should be text; put it in quotes: "{key}"')
        return {str(key): _plain(item, f"{where}.{key}".strip("."), problems, inside) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        problems.append(f"{place}: should be a finite number, found {value}")
    elif isinstance(value, int) and abs(value) > LARGEST:
        problems.append(f"{place}: should be a number of at most 63 bits, found one of {value.bit_length()}")
    elif not (value is None or isinstance(value, str | int | float)):
        problems.append(
            f"{place}: should be text, a number, true or false, a list or settings by name, found "
            f"{type(value).__name__} {value}; put it in quotes"
        )
        return str(value)
    return value


def _kind_problems(sound: Settings) -> Iterator[str]:
    """Check the settings that depend on a part's kind: `read` by format, the others by `kind`."""
    for name, source in sound.get("sources", {}).items():
        kinds = [kind for kind in ORIGINS if kind in source]
        if len(kinds) != 1:
            found = " and ".join(f"'{kind}'" for kind in kinds) or "none"
            yield f"sources.{name}: needs exactly one of {', '.join(ORIGINS)}, found {found}"
        elif missing := [key for key in ORIGINS[kinds[0]] if key not in source]:
            yield from (f"sources.{name}: a {kinds[0]} source needs '{key}'" for key in missing)
        yield from _glob_problems(source, f"sources.{name}")
        yield from _one_kind(source["read"], "format", f"sources.{name}.read") or _encoding_problems(
            source["read"], f"sources.{name}.read.encoding"
        )
    for name, corpus in sound.get("corpora", {}).items():
        yield from _one_kind(corpus["mixing"], "kind", f"corpora.{name}.mixing", "mixing")
    for section in ("deduplications", "tokenizers", "models"):
        for name, part in sound.get(section, {}).items():
            if section == "models" and ":" in part["kind"]:
                yield from model_checks.own_problems(part, f"models.{name}")
                continue
            of_kind = _one_kind(part, "kind", f"{section}.{name}", section)
            yield from of_kind or (model_checks.problems(part, f"{section}.{name}") if section == "models" else ())
    for name, part in sound.get("deduplications", {}).items():
        yield from _priority_problems(part, sound.get("sources", {}), f"deduplications.{name}")


def _one_kind(part: Settings, key: str, where: str, section: str = "read") -> list[str]:
    kinds = schema()["$defs"][section]
    if part[key] not in kinds:
        return [f"{where}.{key}: unknown {key} '{part[key]}'{suggestion(part[key], sorted(kinds))}"]
    own = kinds[part[key]]["properties"]
    others = {name: [kind for kind in kinds if name in kinds[kind]["properties"]] for name in sorted({*part} - {*own})}
    misplaced = {name: found for name, found in others.items() if found}
    problems = [
        f"{where}: {key} '{part[key]}' has no setting '{name}'; these have: {', '.join(found)}"
        for name, found in misplaced.items()
    ]
    # The schema fills defaults in, so that it gets a copy only where the part is wrong anyway.
    rest = {name: value for name, value in part.items() if name not in misplaced} if misplaced else part
    return [*problems, *schema_problems(rest, kinds[part[key]], where)]


def _glob_problems(source: Settings, where: str) -> Iterator[str]:
    """Globs in addresses of the web, whose servers list no files."""
    addresses = source.get("http", [])
    for address in [addresses] if isinstance(addresses, str) else addresses:
        if "*" in address:
            yield (
                f"{where}.http: a web server lists no files, so name each, or a range as {{00..29}}, instead of '*' "
                f"(a star in a file's name is written %2A), found {shown(address)}"
            )


def _priority_problems(part: Settings, sources: Settings, where: str) -> Iterator[str]:
    """A priority that does nothing: not asked for, not given, or of sources that there are not."""
    keep, priority = part.get("keep"), part.get("priority", [])
    if not isinstance(priority, list):
        return  # the schema says so
    if keep == "priority" and not priority:
        yield f"{where}: `keep: priority` needs `priority`, a list of sources or globs, the one to keep first"
    elif keep != "priority" and priority:
        yield f"{where}: a `priority` counts with `keep: priority` alone, found keep {shown(keep)}"
    for pattern in priority if sources else []:
        if isinstance(pattern, str) and not any(fnmatch.fnmatchcase(name, pattern) for name in sources):
            yield f"{where}.priority: no '{pattern}' in sources{suggestion(pattern, sorted(sources))}"


def _encoding_problems(reading: Settings, where: str) -> list[str]:
    encoding = reading["encoding"]
    try:
        codecs.lookup(encoding)
        "\n".encode(encoding)
    except (LookupError, ValueError):  # not known; known, but not of text; with characters that no name has
        return [f"{where}: Python knows no encoding of text '{encoding}'; use one of its names, as utf-8 or latin-1"]
    return []


def _filter_problems(sound: Settings) -> Iterator[str]:
    """Bring each recipe to its canonical form, a list of {"filter": name, **settings}, and check it."""
    kinds = schema()["$defs"]["filters"]
    for name, recipe in sound.get("recipes", {}).items():
        for place, entry in enumerate(recipe):
            where = f"recipes.{name}.{place}"
            filter_name, settings = (entry, None) if isinstance(entry, str) else next(iter(entry.items()))
            if ":" in filter_name:
                yield from _own_filter_problems(filter_name, settings, where)
                recipe[place] = {"filter": filter_name, **(settings if isinstance(settings, dict) else {})}
                continue
            if filter_name not in kinds:
                yield f"{where}: unknown filter '{filter_name}'{suggestion(filter_name, sorted(kinds))}"
                continue
            settings = {} if settings is None else settings
            if not isinstance(settings, dict):
                example = ", ".join(f"{key}: ..." for key in kinds[filter_name]["properties"])
                yield (
                    f"{where}.{filter_name}: should have its settings by name, as {{{example}}}, "
                    f"found {shown(settings)}"
                )
                continue
            yield from schema_problems(settings, kinds[filter_name], f"{where}.{filter_name}")
            recipe[place] = {"filter": filter_name, **settings}


def _own_filter_problems(name: str, settings: Any, where: str) -> Iterator[str]:
    """A filter of the user's own, "module:function"; its settings are the function's business."""
    written = "a filter of your own is written module:function, as my_filters:no_shouting"
    yield from own_name_problems(name, where, written)
    if settings is not None and not isinstance(settings, dict):
        yield f"{where}.{name}: should have its settings by name, as {{share: 0.3}}, found {shown(settings)}"
    elif isinstance(settings, dict) and "filter" in settings:
        yield f"{where}.{name}: 'filter' is no name for a setting, since the recipe uses it; choose another"


def _reference_problems(sound: Settings) -> Iterator[str]:
    """Names that are used but not defined."""

    def undefined(name: str, section: str, where: str) -> Iterator[str]:
        if section in sound and name not in sound[section]:
            yield f"{where}: no '{name}' in {section}{suggestion(name, sorted(sound[section]))}"

    for name, corpus in sound.get("corpora", {}).items():
        yield from undefined(corpus["recipe"], "recipes", f"corpora.{name}.recipe")
        yield from undefined(corpus["deduplication"], "deduplications", f"corpora.{name}.deduplication")
        for source in corpus["mix"]:
            yield from undefined(source, "sources", f"corpora.{name}.mix")
    for name, task in sound.get("tasks", {}).items():
        yield from undefined(task["source"], "sources", f"tasks.{name}.source")
        yield from undefined(task["recipe"], "recipes", f"tasks.{name}.recipe")
    if "evaluation" in sound:
        yield from undefined(sound["evaluation"]["holdout"], "corpora", "evaluation.holdout")
    held_out = sum(sound["holdout"][part] for part in ("validation", "test")) if "holdout" in sound else 0
    if held_out >= 1:
        yield f"holdout: validation and test together are {held_out:g} of the documents; leave some to train on"


def _expand_experiments(sound: Settings) -> tuple[list[Experiment], list[str]]:
    """Multiply lists, expand globs, drop repeats; the order is that of the file."""
    sections = {"corpus": "corpora", "tokenizer": "tokenizers", "model": "models", "task": "tasks"}
    found: dict[tuple[Any, ...], None] = {}
    problems = []
    for number, entry in enumerate(sound.get("experiments", [])):
        choices = []
        for key, section in sections.items():
            patterns = entry.get(key)
            if patterns is None or section not in sound:
                choices.append([None])
                continue
            names: list[Any] = []
            for pattern in [patterns] if isinstance(patterns, str) else patterns:
                matched = fnmatch.filter(sound[section], pattern)
                if not matched:
                    hint = suggestion(pattern, sorted(sound[section])) if sound[section] else ""
                    problems.append(f"experiments.{number}.{key}: no '{pattern}' in {section}{hint}")
                names += [name for name in matched if name not in names]
            choices.append(names)
        found.update(dict.fromkeys(product(*choices)))
    for number, entry in enumerate(sound.get("experiments", [])):
        if "task" in entry and "model" not in entry:
            problems.append(f"experiments.{number}: a task needs a model to solve it; add one, or leave the task out")
    # The same experiment with and without a task, or a model, is one experiment.
    more = {key[:length] for key in found for length in (2, 3) if key[length] is not None}
    kept = [key for key in found if key[3] is not None or (key[:3] if key[2] is not None else key[:2]) not in more]
    experiments = [Experiment(*key) for key in kept]
    return experiments, problems
