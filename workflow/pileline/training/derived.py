"""What a plan leaves open, settled: steps from a budget, batch and rates from the model's size."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from .settings import Plan, TrainingError

STEPS = 1000  # where no budget is given
BATCH_TOKENS = 2048
RATES = {"rate": 0.003, "matrix_rate": 0.02, "embedding_rate": 0.1, "vector_rate": 0.02}


@dataclass(frozen=True)
class Settled(Plan):
    """A plan with every number that decides the weights."""

    steps: int = STEPS
    batch_tokens: int = BATCH_TOKENS
    rate: float = RATES["rate"]
    matrix_rate: float = RATES["matrix_rate"]
    embedding_rate: float = RATES["embedding_rate"]
    vector_rate: float = RATES["vector_rate"]


def batch_tokens(plan: Plan) -> int:
    """Tokens of a step."""
    return plan.batch_tokens or BATCH_TOKENS


def settle(plan: Plan, batch: int, epoch_steps: int) -> Settled:
    """The plan for batches of `batch` tokens, `epoch_steps` of which are an epoch."""
    values = asdict(plan) | dict.fromkeys(("tokens", "epochs", "minutes"))
    if plan.minutes is not None:
        raise TrainingError("training: minutes are not measured yet; give steps, tokens or epochs")
    if plan.tokens is not None:
        values["steps"] = max(round(plan.tokens / batch), 1)
    elif plan.epochs is not None:
        values["steps"] = max(round(plan.epochs * epoch_steps), 1)
    values["steps"] = values["steps"] or STEPS
    values["batch_tokens"] = batch
    for name, rate in RATES.items():
        if values[name] is None:
            values[name] = rate
    return Settled(**values)
