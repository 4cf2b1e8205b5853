"""The schema of config.yaml, and what it finds wrong with a part of one, in words."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from pileline.wording import schema_message

SCHEMA = Path(__file__).parents[1] / "schemas" / "config.schema.yaml"
Settings = dict[str, Any]


@lru_cache(maxsize=1)
def schema() -> Settings:
    """The JSON schema of config.yaml, workflow/schemas/config.schema.yaml."""
    loaded: Settings = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    return loaded


@lru_cache(maxsize=1)
def _validator() -> Any:
    """A validator class that writes the schema's defaults into the value, and takes 1.0 for no integer."""
    original = jsonschema.Draft202012Validator.VALIDATORS["properties"]

    def properties(validator: Any, schemas: Settings, value: Any, parent: Settings) -> Iterator[Any]:
        if isinstance(value, dict):
            for name, entry in schemas.items():
                if isinstance(entry, dict) and "default" in entry:
                    value.setdefault(name, copy.deepcopy(entry["default"]))
        yield from original(validator, schemas, value, parent)

    def integer(_: Any, value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool)

    extend: Any = jsonschema.validators.extend
    types = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", integer)
    return extend(jsonschema.Draft202012Validator, {"properties": properties}, type_checker=types)


def problems(value: Any, part: Settings, where: str, broken: set[str] | None = None) -> Iterator[str]:
    """What the schema `part` finds wrong with `value`, which stands at `where` in config.yaml.

    The first step of the way to each mistake is added to `broken`.
    """
    complete = {**part, "$defs": schema()["$defs"]}
    for error in _validator()(complete).iter_errors(value):
        way = list(map(str, error.absolute_path))
        if broken is not None:
            broken.update(way[:1])
        yield from schema_message(error, ".".join([where, *way]).strip(".") or "the file")
