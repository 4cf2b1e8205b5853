"""What training reports, shows in its notebook and keeps, the same for every kind of model."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pileline.models import LanguageModel

CURVE_POINTS = 200


@dataclass
class Outcome:
    """Losses are in nats a token. `curve` records have step, tokens, loss, validation_loss."""

    steps: int
    tokens_seen: int  # without padding
    epochs: float
    final_training_loss: float | None  # None where the model does not learn by minimizing it
    validation_loss: float | None  # over whole validation documents; None without any
    device: str
    precision: str
    threads: int
    optimizer: dict[str, Any] = field(default_factory=dict)
    curve: list[dict[str, Any]] = field(default_factory=list)
    packing: dict[str, Any] = field(default_factory=dict)  # an epoch's rows, padding and cut documents; see `Account`
    batch_tokens: int | None = None  # of a step; None where there are none
    skipped_steps: int = 0  # whose loss or gradient was a spike, see `spikes`
    doubts: list[str] = field(default_factory=list)  # that it is any good, a sentence each, see `advice`
    stopped_early: bool = False  # because the validation loss was no longer falling
    best_step: int | None = None  # of the lowest validation loss; with `patience` its weights are the model's
    budget: dict[str, Any] = field(default_factory=dict)  # as configured; `steps` says what came of it
    compiled: bool = False
    processes: int = 1

    def metrics(self) -> dict[str, Any]:
        """As the manifest's metrics: the curve thinned to at most `CURVE_POINTS`, every validation kept."""
        thinned = self.curve
        if len(thinned) > CURVE_POINTS:
            measured = [point for point in thinned if point["validation_loss"] is not None][-CURVE_POINTS // 2 :]
            plain = [point for point in thinned if point["validation_loss"] is None]
            every = -(-len(plain) // (CURVE_POINTS - len(measured)))
            thinned = sorted(measured + plain[::every], key=lambda point: point["step"])
        keys = ("step", "tokens", "loss", "validation_loss")
        return {**asdict(self), "curve": [{key: point[key] for key in keys} for point in thinned]}


def loss_over(model: LanguageModel, documents: list[Any]) -> float | None:
    """Mean loss over every token of whole documents, nats a token; None without documents."""
    scored = model.score(documents)
    tokens = sum(map(len, scored))
    return -sum(float(part.sum()) for part in scored) / tokens if tokens else None


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
