"""What a training's notebook shows and keeps of it, the same for every kind of model."""

from __future__ import annotations

from pathlib import Path

from pileline.models import LanguageModel

from .outcome import Outcome


def facts(model: LanguageModel, outcome: Outcome) -> dict[str, str]:
    """How the training of `model` went, in words, by what each says; what does not apply to its kind is left out."""
    by_steps, packing = outcome.batch_tokens, outcome.packing  # of a model that learns by steps
    cut, efficiency = packing.get("cut_share"), packing.get("efficiency")
    best = "stopped early, weights of" if outcome.stopped_early else "lowest validation loss at"
    told = {
        "kind": model.kind,
        "learns by": model.learns_by,
        "optimizer; schedule": by_steps and f"{outcome.optimizer['name']}; {outcome.optimizer['schedule']}",
        "parameters": f"{model.parameters_count:,}",
        "steps": by_steps and f"{outcome.steps:,} of {by_steps:,} tokens",
        "tokens seen, epochs": f"{outcome.tokens_seen:,}, {outcome.epochs:.2f}",
        "steps skipped as spikes": by_steps and f"{outcome.skipped_steps:,}",
        "best": outcome.best_step and f"{best} step {outcome.best_step:,}",
        "packing": packing.get("packing"),
        "documents cut by blocks": None if cut is None else f"{cut:.1%}",
        "places with a token": None if efficiency is None else f"{efficiency:.1%}",
        "device, precision": f"{outcome.device}, {outcome.precision}" + (", compiled" if outcome.compiled else ""),
        "validation loss, nats a token": outcome.validation_loss and f"{outcome.validation_loss:.3f}",
    }
    return {name: str(value) for name, value in told.items() if value is not None}


def files(output: str | Path) -> list[str]:
    """What a training left below its folder, for the manifest: not TensorBoard's `events/`, which hold times."""
    found = (path for path in Path(output).rglob("*") if path.is_file() and path.parent.name != "events")
    return sorted(path.relative_to(output).as_posix() for path in found)
