"""What training reports, the same for every kind of model."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
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
