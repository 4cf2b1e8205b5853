"""Training: a model, shards and settings in; a trained model and the account of how it went out.

    model = models.build(settings, tokenizer.vocabulary_size, tokenizer.end, seed)
    outcome = training.train(model, "results/shards/demo/bpe4k", settings, seed, "auto", 1, output, scratch)

A model that learns from counts is fitted in one pass; any other is trained by gradient steps, with checkpoints
in `scratch`, from which a killed run goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pileline import manifest
from pileline.models import LanguageModel
from pileline.shards import Loader, ShardSet, TokenStream, open_shards

from .outcome import Outcome, facts, files, loss_over
from .settings import BUDGETS, Plan, TrainingError, refuse_unknown

if TYPE_CHECKING:
    from .group import Group

VALIDATION_TOKENS = 50_000  # of whole validation documents, scored when training has ended


def train(
    model: LanguageModel,
    shards: str | Path,
    settings: dict[str, Any],
    seed: int,
    device: str,
    threads: int,
    output: str | Path,
    scratch: str | Path,
    decode: Callable[[list[int]], str] | None = None,
) -> Outcome:
    """Train `model` in place on the shards below folder `shards`, by the `models` entry `settings`.

    Writes `training.jsonl` (and `events/`) below `output`. `decode` turns tokens into text, for the `samples` on the
    way. Raises `TrainingError` for settings that neither the model nor training knows, when spikes of the loss do not
    end, and when memory does not suffice.
    """
    known = model.setting_names()
    if model.learns_by == "counts":
        from . import counting

        refuse_unknown(settings, known)
        return counting.run(model, open_shards(shards, "train"), _sample(_validation(shards)), threads, Path(output))
    from . import advice  # with torch, which takes seconds to import

    plan = Plan.of(model.training_defaults | settings, known)
    if plan.processes > 1:
        from .launch import launch

        outcome = launch(model, shards, settings, plan, seed, device, threads, output, scratch, decode)
        model.to(device)
    else:
        model.to(device)
        outcome = by_gradient(model, shards, plan, seed, threads, output, scratch, decode)
    model.complete(open_shards(shards, "train").tokens)
    outcome.validation_loss = loss_over(model, _sample(_validation(shards)))
    if not math.isfinite(outcome.validation_loss or 0.0):
        raise TrainingError(
            f"training: the validation loss is {outcome.validation_loss}, though that of the steps was a number: there "
            "is text that the model gives no probability; lower the rates, or set precision: float32"
        )
    network: Any = model.network  # type: ignore[attr-defined]
    largest = max(float(parameter.detach().abs().max()) for parameter in network.parameters())
    outcome.doubts += advice.doubts(outcome, model.vocabulary_size, largest, getattr(network, "in_nats", False))
    for doubt in outcome.doubts:
        print(f"of this model {doubt}", flush=True)
    return outcome


def by_gradient(
    model: LanguageModel,
    shards: str | Path,
    plan: Plan,
    seed: int,
    threads: int,
    output: str | Path,
    scratch: str | Path,
    decode: Callable[[list[int]], str] | None = None,
    group: Group | None = None,
) -> Outcome:
    """The steps of `train`, for a model that learns by gradient and is on its device, in this process of `group`."""
    from . import budget, derived, loop  # torch takes seconds to import
    from .group import Group

    group = group or Group()
    batch = max(derived.batch_tokens(plan, model) // model.context, 1)
    if plan.accumulate > batch // group.ranks:
        raise TrainingError(
            f"training: accumulate is {plan.accumulate}, but a batch has {batch} rows of {model.context} tokens"
            + (f" for {group.ranks} processes" if group.ranks > 1 else "")
            + "; lower accumulate, or raise batch_tokens"
        )
    whole, validation = open_shards(shards, "train"), _validation(shards)  # all checked before anything is learned
    stepped = model.prepare(whole.tokens)
    part = whole if stepped == whole.n_tokens else _start(whole, stepped)
    rows = partial(Loader, batch=batch, context=model.context, rank=group.rank, ranks=group.ranks)
    loader = rows(part, seed=seed, packing=plan.packing, weights=plan.source_weights)
    held_out = None
    if validation is not None and validation.n_tokens > model.context:
        held_out = rows(validation, seed=0)  # the same blocks whatever the seed
    if plan.patience is not None and (held_out is None or not plan.validations):
        raise TrainingError(
            f"training: patience is {plan.patience}, but "
            + (
                "validations is 0; raise it"
                if held_out
                else f"the corpus has no validation text of {model.context} tokens; raise "
                "holdout.validation, add text, or lower context"
            )
            + ", for early stopping needs a validation loss to judge by"
        )
    settle = partial(derived.settle, batch=batch * model.context, epoch_steps=loader.epoch_steps, model=model)
    settled = settle(replace(plan, minutes=None))
    data = manifest.canonical_json(manifest.read(shards, "shards").files)
    output, scratch = Path(output), Path(scratch)
    if plan.minutes is not None:
        steps = budget.steps_in(plan.minutes, model, loader, settled, seed, threads, scratch, data, group)
        settled = settle(replace(plan, minutes=None, steps=steps))
    outcome = loop.run(
        model, loader, held_out, settled, seed, threads, output, scratch, data, group=group, decode=decode
    )
    outcome.budget = {name: getattr(plan, name) for name in BUDGETS if getattr(plan, name) is not None}
    outcome.packing = loader.account().to_dict()
    if settled.warmup >= settled.steps:
        outcome.doubts.append(
            f"training ended while its rates were still rising: warmup is {settled.warmup:,} steps and training "
            f"{settled.steps:,}; shorten the one, or lengthen the other."
        )
    return outcome


def _validation(shards: str | Path) -> ShardSet | None:
    """The validation split, or None: a corpus may have none. Damaged shards are an error, not a missing split."""
    has = any(name.startswith("validation-") for name in manifest.read(shards, "shards").files)
    return open_shards(shards, "validation") if has else None


def _start(shards: ShardSet, tokens: int) -> ShardSet:
    """The first `tokens` tokens of the shards, as shards."""
    return replace(shards, tokens=TokenStream([shards.tokens.read(0, tokens)]))


def _sample(shards: ShardSet | None) -> list[Any]:
    """Every k-th document, so that they have about `VALIDATION_TOKENS` tokens: all sources in their proportions."""
    if shards is None:
        return []
    every = -(-shards.n_tokens // VALIDATION_TOKENS) or 1
    documents = [document["tokens"] for number, document in enumerate(shards.documents()) if number % every == 0]
    return [document for document in documents if len(document)]


def clear(scratch: str | Path) -> None:
    """Delete the run's checkpoints and log from `scratch`: training has ended and its results are saved."""
    for pattern in ("*.pt", "*.pt.part", "training.jsonl"):
        for path in Path(scratch).glob(pattern):
            path.unlink()


__all__ = ["Outcome", "Plan", "TrainingError", "by_gradient", "clear", "facts", "files", "loss_over", "train"]
