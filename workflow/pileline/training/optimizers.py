"""Optimizers: which rule moves which weights, by the name in the plan.

    sgd        w -= rate * g                                                          (Robbins & Monro 1951)
    momentum   b = m b + g;  w -= rate * b                                            (Polyak 1964)
    rmsprop    v = beta2 v + (1 - beta2) g^2;  w -= rate * g / sqrt(v)                (Tieleman & Hinton 2012)
    adam       m and v as above, without the bias of their zero starts; w -= rate * m / sqrt(v)  (Kingma & Ba 2015)
    adamw      the same, and the weights decay beside it                              (Loshchilov & Hutter 2019)
    muon       matrices: the nearest orthogonal matrix to the momentum, see `muon.py`; look-up tables: see
               `tables.py`; all else: adamw

All decay is decoupled: a step first shrinks the weights of two or more dimensions (muon: its matrices alone) by
rate * weight_decay, whatever the gradient's scale. A penalty in the loss (`l1`, `l2` in the plan) is another thing, and
the loop's.

Muon leaves embeddings to AdamW: their rows are looked up one by one, they are no map from inputs to outputs, and
vectors have no directions to make alike. They have rates of their own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .derived import Settled
from .muon import Muon
from .tables import Rows

MUON_MOMENTUM = 0.95
MOMENTUM = 0.9
BETAS = {"adam": (0.9, 0.999), "adamw": (0.9, 0.95), "muon": (0.9, 0.95), "rmsprop": (0.0, 0.99)}
EPSILON = 1e-8  # Kingma & Ba's
EMBEDDING_EPSILON = 1e-10  # of Muon's AdamW: a rare token's gradient is small, and its rate is to be its own
TABLE_RATE = 3.0  # of the embeddings' rate: a table's row is seen a few times, an embedding's in every step
MUON_RATES = ("matrix_rate", "embedding_rate", "vector_rate")
FEWEST_AXES = 2  # of weights that decay

Groups = dict[str, list[nn.Parameter]]


def build(groups: Groups, plan: Settled) -> list[torch.optim.Optimizer]:
    """The optimizers for the groups that `Network.parameter_groups` names; each group's full rate is its `base`."""
    if plan.optimizer == "muon":
        return _muon(groups, plan)
    parameters = [parameter for group in groups.values() for parameter in group]
    decayed = [parameter for parameter in parameters if parameter.ndim >= FEWEST_AXES]
    others = [parameter for parameter in parameters if parameter.ndim < FEWEST_AXES]
    parts = [_group(decayed, plan.rate, plan.weight_decay), _group(others, plan.rate, 0.0)]
    return [_single([part for part in parts if part["params"]], plan)]


def _group(parameters: list[nn.Parameter], rate: float, decay: float) -> dict[str, Any]:
    return {"params": parameters, "lr": rate, "base": rate, "weight_decay": decay}


def _single(parts: list[dict[str, Any]], plan: Settled) -> torch.optim.Optimizer:
    """Torch's optimizer of the plan's name over `parts`."""
    if plan.optimizer in ("adam", "adamw"):
        return torch.optim.AdamW(parts, betas=_betas(plan), eps=EPSILON, fused=True)
    made: torch.optim.Optimizer
    decays = [part.pop("weight_decay") for part in parts]
    if plan.optimizer == "rmsprop":
        made = torch.optim.RMSprop(parts, alpha=_betas(plan)[1], momentum=plan.momentum or 0.0, foreach=True)
    else:
        made = torch.optim.SGD(parts, momentum=_momentum(plan), fused=True)
    for group, decay in zip(made.param_groups, decays, strict=True):
        group["decoupled"] = decay  # torch's own `weight_decay` of these is coupled: a part of the gradient
    if any(decays):
        made.register_step_pre_hook(_decay)
    return made


@torch.no_grad()
def _decay(optimizer: torch.optim.Optimizer, arguments: Any, keywords: Any) -> None:
    """Shrink the weights by rate * weight_decay, as AdamW does, before the optimizer's own step."""
    for group in optimizer.param_groups:
        if group["decoupled"]:
            torch._foreach_mul_(group["params"], 1 - group["lr"] * group["decoupled"])


def _muon(groups: Groups, plan: Settled) -> list[torch.optim.Optimizer]:
    rates = {"embeddings": plan.embedding_rate, "vectors": plan.vector_rate}
    rest = [_group(groups[name], rate, 0.0) for name, rate in rates.items() if groups[name]]
    made: list[torch.optim.Optimizer] = []
    if groups["matrices"]:
        matrices = _group(groups["matrices"], plan.matrix_rate, plan.weight_decay)
        made.append(Muon([matrices], momentum=_momentum(plan)))
    if rest:
        made.append(torch.optim.AdamW(rest, betas=_betas(plan), eps=EMBEDDING_EPSILON, fused=True))
    if groups.get("tables"):
        rate = TABLE_RATE * plan.embedding_rate
        made.append(Rows([{"params": groups["tables"], "lr": rate, "base": rate}], beta2=_betas(plan)[1]))
    return made


def _betas(plan: Settled) -> tuple[float, float]:
    first, second = BETAS[plan.optimizer]
    return (
        first if plan.beta1 is None else float(plan.beta1),  # torch refuses YAML's 0
        second if plan.beta2 is None else float(plan.beta2),
    )


def _momentum(plan: Settled) -> float:
    """The plan's momentum, or what is usual with its optimizer."""
    usual = {"momentum": MOMENTUM, "muon": MUON_MOMENTUM}.get(plan.optimizer, 0.0)
    return usual if plan.momentum is None else plan.momentum


def set_rates(optimizers: list[torch.optim.Optimizer], factor: float) -> None:
    """Set every group's rate to `factor` times its full rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = factor * group["base"]


def describe(plan: Settled) -> dict[str, Any]:
    """The optimizer in a few words and numbers, for the metrics."""
    found: dict[str, Any] = {"name": NAMES[plan.optimizer], "kind": plan.optimizer}
    rates = MUON_RATES if plan.optimizer == "muon" else ("rate",)
    found |= {name: getattr(plan, name) for name in rates}
    if _momentum(plan):
        found["momentum"] = _momentum(plan)
    if plan.optimizer in BETAS:
        found["betas"] = list(_betas(plan))
    return found | {"weight_decay": plan.weight_decay, "schedule": plan.schedule}


NAMES = {
    "sgd": "SGD",
    "momentum": "SGD with momentum",
    "rmsprop": "RMSprop",
    "adam": "Adam",
    "adamw": "AdamW",
    "muon": "Muon on matrices, AdamW on embeddings and vectors, RMSprop by row on look-up tables",
}
