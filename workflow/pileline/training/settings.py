"""How a model is trained by gradient: the part of a `models` entry that does not describe the network.

Defaults suit a few million parameters. Rates copied from large models are far too low for small ones.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from pileline.shards import PACKINGS

SCHEDULES = ("wsd", "cosine")


class TrainingError(ValueError):
    """Training cannot start or go on: a setting does not fit, or the loss is no longer a number."""


@dataclass(frozen=True)
class Plan:
    """Everything that decides the weights, besides the model, the shards, the seed and the machine."""

    steps: int = 1000
    batch_tokens: int = 2048  # tokens a step, rounded down to whole blocks of the model's context
    accumulate: int = 1  # parts that a batch is cut into, one after the other, to need less memory
    schedule: str = "wsd"
    warmup: int = 20  # steps in which the rate rises from 0
    decay: float = 0.6  # wsd: share of the steps, at the end, in which the rate falls to 0
    matrix_rate: float = 0.02  # Muon, on the hidden matrices
    embedding_rate: float = 0.1  # AdamW, on embeddings and an untied head
    vector_rate: float = 0.02  # AdamW, on scalars and vectors
    weight_decay: float = 0.0  # of the matrices
    clip: float = 1.0  # largest norm of the gradient; 0: no limit
    precision: str = "auto"  # float32, bfloat16 (matrix products only), or what the device does well
    packing: str = "concatenate"  # how documents are laid in blocks: end to end and cut, or whole by best_fit
    source_weights: dict[str, float] | None = None  # times an epoch draws a source's documents; 1.0 if not named
    prefetch: int = 0  # batches made ahead by a thread; worth it where shards are slow to read

    def __post_init__(self) -> None:
        for name, low in (
            ("steps", 1),
            ("batch_tokens", 1),
            ("accumulate", 1),
            ("warmup", 0),
            ("clip", 0),
            ("prefetch", 0),
        ):
            if getattr(self, name) < low:
                raise TrainingError(f"training: {name} is {getattr(self, name)}, must be at least {low}")
        if self.schedule not in SCHEDULES:
            raise TrainingError(f"training: schedule '{self.schedule}' is none of {', '.join(SCHEDULES)}")
        if self.packing not in PACKINGS:
            raise TrainingError(f"training: packing '{self.packing}' is none of {', '.join(PACKINGS)}")
        if not 0 <= self.decay <= 1:
            raise TrainingError(f"training: decay is {self.decay}, must be a share of the steps from 0 to 1")

    @classmethod
    def of(cls, settings: dict[str, Any], known: set[str]) -> Plan:
        """The plan in a `models` entry whose other keys, `known`, are the model's; unknown keys are refused."""
        own = {field.name for field in fields(cls)}
        refuse_unknown(settings, own | known)
        return cls(**{key: value for key, value in settings.items() if key in own})


def refuse_unknown(settings: dict[str, Any], known: set[str]) -> None:
    """Raise `TrainingError` for keys of a `models` entry that are not `known`; a misspelt key must not be silent."""
    unknown = sorted(set(settings) - known - {"kind"})
    if unknown:
        raise TrainingError(
            f"a model of kind '{settings.get('kind')}' has no setting {', '.join(unknown)}; "
            f"it has: {', '.join(sorted(known))}"
        )
