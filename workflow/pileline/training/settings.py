"""How a model is trained by gradient: the part of a `models` entry that does not describe the network.

Defaults suit a few million parameters. Rates copied from large models are far too low for small ones.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from pileline.shards import PACKINGS

BUDGETS = ("steps", "tokens", "epochs", "minutes")
OPTIMIZERS = ("sgd", "momentum", "rmsprop", "adam", "adamw", "muon")
SCHEDULES = ("constant", "linear", "exponential", "cosine", "wsd")
DISTRIBUTIONS = ("ddp", "fsdp")
CHOICES = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES, "packing": PACKINGS, "distribution": DISTRIBUTIONS}
LOWEST = {
    "steps": 1,
    "tokens": 1,
    "batch_tokens": 1,
    "accumulate": 1,
    "prefetch": 0,
    "weight_decay": 0,
    "l1": 0,
    "l2": 0,
    "clip": 0,
    "warmup": 0,
    "validations": 0,
    "patience": 1,
    "samples": 0,
    "checkpoints": 1,
    "processes": 1,
}
POSITIVE = ("epochs", "minutes", "rate", "matrix_rate", "embedding_rate", "vector_rate", "final_rate")
SHARES = ("decay", "final_rate")
MEMORIES = ("momentum", "beta1", "beta2")  # shares too; one of 1 would never learn anything new


class TrainingError(ValueError):
    """Training cannot start or go on: a setting does not fit, or the loss is no longer a number."""


@dataclass(frozen=True)
class Plan:
    """Everything that decides the weights, besides the model, the shards, the seed and the machine.

    What is None follows from other settings: see `pileline.training.derived`.
    """

    # How long: one of these four; 1000 steps if none is given.
    steps: int | None = None
    tokens: int | None = None
    epochs: float | None = None  # times that the training split is drawn
    minutes: float | None = None  # turned into steps once, by the machine's speed, and recorded
    # What a step sees.
    batch_tokens: int | None = None  # tokens a step, rounded down to whole blocks of the model's context
    accumulate: int = 1  # parts that a batch is cut into, one after the other, to need less memory
    packing: str = "concatenate"  # how documents are laid in blocks: end to end and cut, or whole by best_fit
    source_weights: dict[str, float] | None = None  # times an epoch draws a source's documents; 1.0 if not named
    prefetch: int = 0  # batches made ahead by a thread; worth it where shards are slow to read
    # How it learns from it.
    optimizer: str = "muon"
    rate: float | None = None  # of every optimizer but muon
    matrix_rate: float | None = None  # muon: of the hidden matrices
    embedding_rate: float | None = None  # muon: AdamW's, on embeddings and an untied head
    vector_rate: float | None = None  # muon: AdamW's, on scalars and vectors
    momentum: float | None = None  # of momentum, rmsprop and muon
    beta1: float | None = None  # of adam, adamw, and muon's AdamW: memory of the gradient
    beta2: float | None = None  # of the same, and rmsprop's: memory of its square
    weight_decay: float = 0.0  # decoupled: muon's matrices; what has two axes or more, of adamw and all others but adam
    l1: float = 0.0  # added to the loss: l1 * sum |w| over matrices
    l2: float = 0.0  # added to the loss: l2 / 2 * sum w^2 over matrices
    clip: float = 1.0  # largest norm of the gradient; 0: no limit
    # How the rates go.
    schedule: str = "wsd"
    warmup: int = 20  # steps in which the rate rises from 0
    decay: float = 0.6  # wsd: share of the steps, at the end, in which the rate falls to 0
    final_rate: float = 0.1  # cosine, linear, exponential: where the rate ends, as a share of the full one
    # When it looks, stops, saves.
    validations: int = 8  # times that the validation loss is measured on the way
    patience: int | None = None  # early stopping: end after so many validations without a better one, keep the best
    samples: int = 0  # times that the model writes a sample on the way, for those who watch
    checkpoints: int = 1  # how many of the last checkpoints are kept, besides the best
    # Where and how it is computed.
    precision: str = "auto"  # float32, bfloat16 (matrix products only), or what the device does well
    compile: bool | None = None  # torch.compile; None: by a rule
    processes: int = 1  # torchrun's, each with its own device or cores; batches are shared out
    distribution: str = "ddp"  # of several processes: ddp (each has the whole model) or fsdp (each has a part)

    def __post_init__(self) -> None:
        given = [name for name in BUDGETS if getattr(self, name) is not None]
        if len(given) > 1:
            raise TrainingError(
                f"training: {' and '.join(given)} are both given; a budget is one of {', '.join(BUDGETS)}"
            )
        for name, low in LOWEST.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise TrainingError(f"training: {name} is {value}, must be at least {low}")
        for name in POSITIVE:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise TrainingError(f"training: {name} is {value}, must be above 0")
        for name in SHARES:
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise TrainingError(f"training: {name} is {value}, must be a share from 0 to 1")
        for name in MEMORIES:
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise TrainingError(f"training: {name} is {value}, must be at least 0 and below 1")
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise TrainingError(f"training: {name} '{getattr(self, name)}' is none of {', '.join(known)}")
        if self.optimizer == "adam" and self.weight_decay:
            raise TrainingError(
                f"training: adam has no weight_decay ({self.weight_decay}); take adamw, whose decay is decoupled, or "
                "l2, a penalty in the loss"
            )

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
