"""A user's own model: config.yaml names it as `kind: module:Class`, a class in a file beside it.

The class is a `LanguageModel`; one that learns by gradient is best a `Neural`, which asks for a network and its shape
alone. It is found again by the same name when the model is evaluated, so the file stays where it is. Only that folder
is looked at: a model's `config.json` names its kind, and a model from elsewhere must not choose what is imported.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from pileline.own import OwnError, load

from .interface import LanguageModel, ModelError


def resolve(kind: str) -> Any:
    """The class that `kind`, "module:Class", names; its `kind` becomes that name. Raises `ModelError`."""
    module = kind.partition(":")[0]
    place = Path.cwd().joinpath(*module.split("."))
    if not (place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()):
        raise ModelError(f"model {kind}: no file {place.name}.py in {place.parent}, where config.yaml stands")
    try:
        found = load(kind)
    except OwnError as error:
        raise ModelError(f"model {error}") from error
    if not (inspect.isclass(found) and issubclass(found, LanguageModel)):
        raise ModelError(f"model {kind}: should be a class derived from pileline.models.neural.Neural, found {found!r}")
    if found.__module__.split(".")[0] == "pileline":
        raise ModelError(f"model {kind}: {found.__name__} is of the library; name it by its kind, or derive from it")
    if missing := sorted({*found.__abstractmethods__, *({"build"} - {*dir(found)})}):
        raise ModelError(f"model {kind}: the class lacks {', '.join(missing)}")
    found.kind = kind
    return found
