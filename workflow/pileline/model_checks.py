"""What a schema cannot say of an entry of `models`: settings that must fit each other, and models of the user's own."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from typing import Any

from pileline import schema
from pileline.wording import own_name_problems

Settings = dict[str, Any]
BUDGETS = ("steps", "tokens", "epochs", "minutes")  # how long a model is trained, in one of these


def problems(part: Settings, where: str) -> Iterator[str]:
    """What is wrong with an entry of a kind of ours, whose settings the schema has found sound one by one."""
    if "heads" in part:
        yield from _head_problems(part, where)
    if "window" in part and 2 * part["window"] > max(part["context"], 2):
        yield (
            f"{where}.window: should be at most half of context ({part['context']}), so that most places of a block "
            f"see a whole one, found {part['window']}"
        )
    yield from _training_problems(part, where)


def own_problems(part: Settings, where: str) -> Iterator[str]:
    """Check an entry of the user's own kind, "module:Class": of its settings those that are training's.

    Defaults are left to training, but for the two that the frame needs: a class that counts has no other.
    """
    yield from own_name_problems(part["kind"], f"{where}.kind", "a model of your own is written module:Class")
    training = {"type": "object", "properties": schema.schema()["$defs"]["training"]}
    yield from schema.problems(copy.deepcopy(part), training, where)
    yield from _training_problems(part, where)
    for name in ("threads", "device"):
        part.setdefault(name, training["properties"][name]["default"])


def _head_problems(part: Settings, where: str) -> Iterator[str]:
    """Attention shares the width among its heads. Sinusoids come in pairs, and rotary positions in each head."""
    heads, width = part["heads"], part["width"]
    step = math.lcm(2, heads) if part["kind"] == "transformer-2017" else 2 * heads
    if width % step:
        near = _or(wide for wide in (width // step * step, width // step * step + step) if wide)
        yield f"{where}.width: should be an even multiple of heads ({heads}), as {near}, found {width}"
    groups = part.get("key_value_heads")
    if groups is not None and heads % groups:
        near = _or(count for count in range(1, heads + 1) if heads % count == 0)
        yield f"{where}.key_value_heads: should divide heads ({heads}), as {near}, found {groups}"


def _or(values: Iterable[int]) -> str:
    return " or ".join(map(str, values))


def _training_problems(part: Settings, where: str) -> Iterator[str]:
    """A model is trained for so many steps, or tokens, or epochs, or minutes; and adam has no decay of its own."""
    given = [name for name in BUDGETS if part.get(name) is not None]
    if len(given) > 1:
        yield f"{where}: {' and '.join(given)} say in more than one way how long it is trained; keep one of them"
    if part.get("optimizer") == "adam" and part.get("weight_decay"):
        yield f"{where}.weight_decay: adam has none; take optimizer: adamw, or l2, a penalty in the loss"
