"""What a plan leaves open, settled: steps from a budget; batch, rates, precision and compilation from size and machine.

The rules run from models that a laptop trains in seconds to those that others have fitted. N are the weights of the
hidden matrices.

- Batch: 160 * 2048 tokens * (N / 108M)^(2/3), and rates of Adam and AdamW: 0.0047 / 2 * (N / 108M)^(-1/3), which is
  OLMo's ladder, after Porian et al. (2024). At the small end, N = 53 thousand trained on a million tokens, one run
  each: 512 to 4096 tokens a step ended within 0.035 nats of one another (the ladder says 2045), and AdamW's loss was
  2.391, 2.394, 2.410 and 2.487 at rates of 0.006, 0.012, 0.024 and 0.048 (it says 0.030). At 800 thousand 0.012 was
  the best (it says 0.012). So the batch follows the ladder all the way down, and the rate to `HIGHEST_RATES`.
- On a CPU, where budgets are minutes, a step is also kept short, so that there are hundreds of them.
- Muon's rates do not depend on size: an orthogonal step changes a layer's outputs as much in a wide matrix as in a
  narrow one (Bernstein & Newhouse 2024). 0.02 is nanochat's; at N = 53 thousand the loss was 2.305, 2.343 and 2.349
  at 0.015, 0.03 and 0.06, and 2.303, 2.343 and 2.389 with embeddings at 0.03, 0.1 and 0.3.
- RMSprop follows Adam from 0.008 on; SGD's rates are fixed. After 200 thousand tokens, N = 53 thousand, the loss was
  3.216 and 3.121 at 0.1 and 0.5 (SGD), 3.126 and 3.052 at 0.02 and 0.1 (momentum), 2.828 and 2.807 at 0.002 and
  0.008 (RMSprop).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pileline.models.device import choose_compilation, choose_precision

from .settings import Plan, TrainingError

STEPS = 1000  # where no budget is given
BATCH_TOKENS = 2048  # where nothing is known of the model
LADDER_SIZE, LADDER_BATCH, LADDER_RATE = 108e6, 160 * 2048, 0.0047 / 2
HIGHEST_RATES = {"adam": 0.012, "adamw": 0.012, "rmsprop": 0.008}  # of the smallest models
LEAST_BATCH = 1024  # tokens: below, a step is mostly overhead
LEAST_STEPS = 500  # of a budget in tokens
CPU_STEP = 5e9  # operations of a step on a CPU: a tenth of a second of a core
RATES = {"rate": 0.01, "matrix_rate": 0.02, "embedding_rate": 0.05, "vector_rate": 0.02}
FIXED_RATES = {"sgd": 0.5, "momentum": 0.1}


@dataclass(frozen=True)
class Settled(Plan):
    """A plan with every number that decides the weights."""

    steps: int = STEPS
    batch_tokens: int = BATCH_TOKENS
    rate: float = RATES["rate"]
    matrix_rate: float = RATES["matrix_rate"]
    embedding_rate: float = RATES["embedding_rate"]
    vector_rate: float = RATES["vector_rate"]


def sizes(network: Any) -> tuple[int, int]:
    """Weights of the hidden matrices, and of all matrices that a token is multiplied with."""
    groups: dict[str, list[Any]] = network.parameter_groups()
    hidden = sum(parameter.numel() for parameter in groups["matrices"])
    return hidden, hidden + sum(parameter.numel() for parameter in groups["embeddings"])


def batch_tokens(plan: Plan, model: Any = None) -> int:
    """Tokens of a step: the plan's, or by the size of `model`, its device and the budget."""
    if plan.batch_tokens is not None:
        return plan.batch_tokens
    if model is None:
        return BATCH_TOKENS
    hidden, multiplied = sizes(model.network)
    batch: float = LADDER_BATCH * (hidden / LADDER_SIZE) ** (2 / 3)
    if not model.device.startswith("cuda"):
        batch = min(batch, CPU_STEP / (6 * max(multiplied, 1)))
    if plan.tokens is not None:
        batch = min(batch, plan.tokens / LEAST_STEPS)
    return max(round(batch), LEAST_BATCH)


def rate(optimizer: str, hidden: int) -> float:
    """The full rate of an optimizer that has one for all weights, for a model of so many hidden weights."""
    if optimizer in FIXED_RATES:
        return FIXED_RATES[optimizer]
    ladder = LADDER_RATE * (LADDER_SIZE / max(hidden, 1)) ** (1 / 3)
    return min(float(f"{ladder:.2g}"), HIGHEST_RATES.get(optimizer, RATES["rate"]))


def settle(plan: Plan, batch: int, epoch_steps: int, model: Any = None) -> Settled:
    """The plan for `model`, on its device, and batches of `batch` tokens, `epoch_steps` of which are an epoch.

    Without a model, rates are a small one's, and precision and compilation stay as the plan has them.
    """
    values = asdict(plan) | dict.fromkeys(("tokens", "epochs", "minutes"))
    if plan.minutes is not None:
        raise TrainingError("training: minutes must be turned into steps before a plan is settled")
    if plan.tokens is not None:
        values["steps"] = max(round(plan.tokens / batch), 1)
    elif plan.epochs is not None:
        values["steps"] = max(round(plan.epochs * epoch_steps), 1)
    values["steps"] = values["steps"] or STEPS
    values["batch_tokens"] = batch
    hidden, multiplied = sizes(model.network) if model is not None else (0, 0)
    for name, found in (RATES | {"rate": rate(plan.optimizer, hidden)}).items():
        if values[name] is None:
            values[name] = found
    if model is not None:
        values["precision"] = choose_precision(plan.precision, model.device)
        values["compile"] = choose_compilation(plan.compile, model.device, 6.0 * multiplied * batch * values["steps"])
    settled = Settled(**values)
    shrunk = settled.weight_decay * (settled.matrix_rate if settled.optimizer == "muon" else settled.rate)
    if shrunk >= 1:
        raise TrainingError(
            f"training: weight_decay {settled.weight_decay:g} times the rate takes {shrunk:.4g} of a weight away in a "
            "step, so that nothing is left; lower it"
        )
    return settled
