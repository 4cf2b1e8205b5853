"""Lists in config.yaml that stand for several parts: a tokenizer's kinds and sizes, and any setting of a model.

An entry with lists becomes one entry for each combination of their values, each under a name that says what it has:

    {bpe: {kind: bpe, vocabulary: [2048, 8192]}}             bpe-2048, bpe-8192
    {small: {kind: transformer, matrix_rate: [0.01, 0.03]}}  small-matrix_rate-0.01, small-matrix_rate-0.03

From there on they are parts like any other: checked, named by experiments, and each a stage of its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import product
from typing import Any

Settings = dict[str, Any]
MOST = 1000  # parts of one entry: more is a slip, which would fill the disk
PLAIN = (str, int, float, bool, type(None))


def expand(section: str, parts: Any, kinds: Settings, settings: tuple[str, ...] | None = None) -> list[str]:
    """Put one part for each combination in place of every part with lists; returns what is wrong with it.

    `kinds` are the schemas of the section's kinds, and `settings` those that may be lists and whose names are clear
    from their values alone; None: any, with its name. A setting that only some of the listed kinds have goes to those.
    """
    if not isinstance(parts, dict):
        return []
    problems: list[str] = []
    expanded: Settings = {}
    for name, part in parts.items():
        lists = {key: value for key, value in part.items() if _is_list(value)} if isinstance(part, dict) else {}
        lists = {key: lists[key] for key in (settings or lists) if key in lists}
        if (count := math.prod(map(len, lists.values()))) > MOST:
            problems.append(f"{section}.{name}: its lists stand for {count:,} of them, the most are {MOST:,}")
            continue
        for candidate in _combinations(part, lists, kinds) if lists else [part]:
            words = [_word(key, candidate[key], settings is None) for key in lists if key in candidate]
            full = "-".join([name, *words])
            if (lists and full in parts) or expanded.get(full, candidate) != candidate:
                problems.append(f"{section}.{name}: its lists give '{full}', which there is already; rename one")
            expanded[full] = candidate
    parts.clear()
    parts.update(expanded)
    return problems


def _is_list(value: Any) -> bool:
    """Whether a setting is a list of plain values; the schema tells what is wrong with another list."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, PLAIN) for item in value)


def _combinations(part: Settings, lists: dict[str, list[Any]], kinds: Settings) -> Iterator[Settings]:
    """The part with each combination of its lists' values, without the settings of other listed kinds."""
    known = {kind: set(kinds[kind]["properties"]) for kind in lists.get("kind", []) if kind in kinds}
    for values in product(*lists.values()):
        candidate = {"kind": None} | part | dict(zip(lists, values, strict=True))
        if candidate["kind"] in known:
            others = set().union(*known.values()) - known[candidate["kind"]]
            candidate = {key: value for key, value in candidate.items() if key not in others}
        yield candidate


def _word(setting: str, value: Any, named: bool) -> str:
    """What a value adds to a part's name: as YAML writes it, with characters that a name may have."""
    written = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return re.sub(r"[^A-Za-z0-9._-]", "-", f"{setting}-{written}" if named else written)
