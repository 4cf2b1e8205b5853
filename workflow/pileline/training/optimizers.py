"""Optimizers: Muon on the hidden matrices, AdamW on everything else.

Muon (Jordan et al. 2024) replaces the momentum of a matrix by the nearest orthogonal matrix, by five
Newton-Schulz steps, so that every direction of the matrix learns at the same rate. Embeddings are not matrices
in that sense (their rows are looked up one by one), and vectors have no such directions: they get AdamW
(Loshchilov & Hutter 2019) with the short memory that small batches like.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .derived import Settled

MOMENTUM = 0.95
BETAS = (0.9, 0.95)


def build(groups: dict[str, list[nn.Parameter]], plan: Settled) -> list[torch.optim.Optimizer]:
    """The optimizers for `groups` "matrices", "embeddings" and "vectors"; each group's full rate is its `base`."""
    rates = {"embeddings": plan.embedding_rate, "vectors": plan.vector_rate}
    rest = [
        {"params": groups[name], "lr": rate, "base": rate, "weight_decay": 0.0}
        for name, rate in rates.items()
        if groups[name]
    ]
    muon = torch.optim.Muon(groups["matrices"], lr=plan.matrix_rate, momentum=MOMENTUM, weight_decay=plan.weight_decay)
    muon.param_groups[0]["base"] = plan.matrix_rate
    return [muon, torch.optim.AdamW(rest, betas=BETAS, eps=1e-10, fused=True)]


def set_rates(optimizers: list[torch.optim.Optimizer], factor: float) -> None:
    """Set every group's rate to `factor` times its full rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = factor * group["base"]


def describe(plan: Settled) -> dict[str, Any]:
    """The optimizer in a few words and numbers, for the metrics."""
    return {
        "name": "Muon on matrices, AdamW on embeddings and vectors",
        "matrix_rate": plan.matrix_rate,
        "embedding_rate": plan.embedding_rate,
        "vector_rate": plan.vector_rate,
        "momentum": MOMENTUM,
        "betas": list(BETAS),
        "weight_decay": plan.weight_decay,
        "schedule": plan.schedule,
    }
