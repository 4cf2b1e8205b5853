"""Fields of records: a text, its metadata, and what selects a record, by names that may be dotted (`meta.title`)."""

from __future__ import annotations

from typing import Any

from pileline.sources.reading import Reading
from pileline.sources.record import MISSING, PASSED_OVER, Record, found, unread


def object_record(value: Any, reading: Reading, size: int) -> Record:
    """The record of a JSON object; `size` is counted where it has no text or `where` does not select it."""
    if not isinstance(value, dict):
        return unread(size, MISSING)
    if reading.where and not selected(value, reading):
        return unread(size, PASSED_OVER)
    text = lookup(value, reading.text)
    if not isinstance(text, str):
        return unread(size, MISSING)
    kept = {name: lookup(value, name) for name in reading.metadata}
    return found(text, {name: item for name, item in kept.items() if item is not None})


def lookup(value: dict[str, Any], name: str) -> Any:
    """The field of that name, or by its parts between dots; None if there is none."""
    if name in value or "." not in name:
        return value.get(name)
    first, _, rest = name.partition(".")
    inner = value.get(first)
    return lookup(inner, rest) if isinstance(inner, dict) else None


def selected(value: dict[str, Any], reading: Reading) -> bool:
    """Whether every field that `where` names has one of its values."""
    return all(_among(lookup(value, name), wanted) for name, wanted in reading.where.items())


def _among(item: Any, wanted: tuple[Any, ...]) -> bool:
    """Equality as in JSON, where true is not 1."""
    return any(item == value and isinstance(item, bool) == isinstance(value, bool) for value in wanted)
