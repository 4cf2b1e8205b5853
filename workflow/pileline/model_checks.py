"""What a schema cannot say of an entry of `models`: settings that must fit each other, and models of the user's own.

A setting that would do nothing beside the others is refused: else a sweep over it would train one model many times.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from typing import Any

from pileline import schema
from pileline.wording import own_name_problems

Settings = dict[str, Any]
BUDGETS = ("steps", "tokens", "epochs", "minutes")  # how long a model is trained, in one of these
NEEDS = {  # settings that do something only where another has one of these values
    "rate": ("optimizer", ("sgd", "momentum", "rmsprop", "adam", "adamw")),
    "matrix_rate": ("optimizer", ("muon",)),
    "embedding_rate": ("optimizer", ("muon",)),
    "vector_rate": ("optimizer", ("muon",)),
    "momentum": ("optimizer", ("sgd", "momentum", "rmsprop", "muon")),
    "beta1": ("optimizer", ("adam", "adamw", "muon")),
    "beta2": ("optimizer", ("rmsprop", "adam", "adamw", "muon")),
    "decay": ("schedule", ("wsd",)),
    "final_rate": ("schedule", ("linear", "exponential", "cosine")),
}


def problems(part: Settings, where: str) -> Iterator[str]:
    """What is wrong with an entry of a kind of ours, whose settings the schema has found sound one by one."""
    if "heads" in part:
        yield from _head_problems(part, where)
    if part.get("ngrams", 2) > 2 and not part["bigrams"] and "-bigrams-" not in where:
        yield f"{where}.ngrams: does nothing without bigrams; set bigrams to a number of buckets, or leave ngrams out"
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


def _or(values: Iterable[object]) -> str:
    return " or ".join(map(str, values))


def _training_problems(part: Settings, where: str) -> Iterator[str]:
    """One budget; adam has no decay of its own; early stopping needs something to judge by, samples a whole model."""
    given = [name for name in BUDGETS if part.get(name) is not None]
    if len(given) > 1:
        yield f"{where}: {' and '.join(given)} say in more than one way how long it is trained; keep one of them"
    if part.get("optimizer") == "adam" and part.get("weight_decay"):
        yield f"{where}.weight_decay: adam has none; take optimizer: adamw, or l2, a penalty in the loss"
    if part.get("patience") is not None and part.get("validations") == 0:
        yield f"{where}.patience: early stopping judges by validations, of which there are 0; leave out one of the two"
    if part.get("samples") and part.get("distribution") == "fsdp" and part.get("processes", 1) > 1:
        yield f"{where}.samples: no process has all of a model shared out by fsdp, so none can write; leave them out"
    yield from _idle_problems(part, where)


def _idle_problems(part: Settings, where: str) -> Iterator[str]:
    """Settings that do nothing, as `rate` of muon; but in a sweep over optimizers each takes what is its own."""
    kinds = schema.schema()["$defs"]
    known = kinds["models"].get(part["kind"], {"properties": kinds["training"]})["properties"]
    for name, (decider, values) in NEEDS.items():
        usual = known.get(name, {}).get("default")
        found = part.get(decider)
        if part.get(name, usual) in (None, usual) or found is None or found in values or f"-{decider}-" in where:
            continue
        hint = "; muon's rates are matrix_rate, embedding_rate and vector_rate" if name == "rate" else ""
        yield f"{where}.{name}: does nothing with {decider}: {found}, only with {_or(values)}{hint}"
