"""Muon, as `torch.optim.Muon` computes it, for many small matrices at once.

Muon (Jordan et al. 2024) replaces the momentum of a matrix by the nearest orthogonal matrix, so that every direction
of the matrix learns at the same rate. Five Newton-Schulz steps X <- a X + (b A + c A^2) X with A = X X' come close
enough. Torch takes one matrix after the other; the matrices of a small model are so small that most of the time goes
to starting the products. Here all matrices of one shape, or its transpose, are one stack, and a product of stacks
is one call. Results are torch's but for rounding, and so is the state: one `momentum_buffer` a matrix.

The products are made in bfloat16, as torch's, where the hardware multiplies it, else in float32: an AVX2 processor
would take a hundred times as long.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from pileline.models.device import multiplies_bfloat16

WIDE = 2  # columns a row, from which on steps are joined
STACKED = 1 << 26  # numbers that a stack may have: bounds the memory of a step


class Muon(torch.optim.Muon):
    """`torch.optim.Muon` with batched Newton-Schulz steps. Rates are per matrix: lr * sqrt(max(1, rows / columns))."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move every matrix that has a gradient."""
        for group in self.param_groups:
            parameters: list[Tensor] = []
            gradients: list[Tensor] = []
            memories: list[Tensor] = []
            self._init_group(group, parameters, gradients, memories)
            if not parameters:
                continue
            torch._foreach_lerp_(memories, gradients, 1 - group["momentum"])
            if group["nesterov"]:
                directions = torch._foreach_lerp(gradients, memories, group["momentum"])
            else:
                directions = tuple(memories)
            if group["weight_decay"]:
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            for parameter, update in zip(parameters, self._orthogonal(directions, group), strict=True):
                rate = group["lr"] * math.sqrt(max(1.0, parameter.size(0) / parameter.size(1)))
                parameter.add_(update, alpha=-rate)

    def _orthogonal(self, matrices: tuple[Tensor, ...], group: dict[str, Any]) -> list[Tensor]:
        """Each matrix's nearest orthogonal one, in order; those of one shape are computed together."""
        alike: dict[tuple[int, int], list[int]] = defaultdict(list)
        for place, matrix in enumerate(matrices):
            rows, columns = sorted(matrix.shape)
            alike[rows, columns].append(place)
        found: dict[int, Tensor] = {}
        for (rows, columns), places in alike.items():
            most = max(STACKED // (rows * columns), 1)
            for start in range(0, len(places), most):
                part = places[start : start + most]
                wide = [matrices[place] if matrices[place].size(0) == rows else matrices[place].mT for place in part]
                stack = orthogonalize(torch.stack(wide), group["ns_coefficients"], group["ns_steps"], group["eps"])
                for place, result in zip(part, stack, strict=True):
                    found[place] = result if matrices[place].size(0) == rows else result.mT
        return [found[place] for place in range(len(matrices))]


def orthogonalize(matrices: Tensor, coefficients: tuple[float, float, float], steps: int, epsilon: float) -> Tensor:
    """About U V' of each matrix U S V' of a stack [matrices, rows, columns], rows <= columns; singular values near 1.

    Quintic Newton-Schulz steps (Jordan et al. 2024), whose coefficients trade exactness for few steps: singular
    values end between about 0.7 and 1.2.
    """
    a, b, c = coefficients
    x = matrices.bfloat16() if multiplies_bfloat16(matrices.device.type) else matrices.float()
    x = x / x.flatten(1).norm(dim=1).clamp(min=epsilon)[:, None, None]  # spectral norm at most 1
    if x.size(2) >= WIDE * x.size(1):
        for part in (steps // 2, steps - steps // 2):
            x = _several(x, coefficients, part)
        return x
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _several(x: Tensor, coefficients: tuple[float, float, float], steps: int) -> Tensor:
    """Steps whose products are of the small A alone: each multiplies X by P = a + b A + c A^2, and so A by P twice.

    For a matrix four times as wide as it is high that saves a third of the operations. Errors of a rounded A grow,
    so it is computed from X again after two or three steps.
    """
    a, b, c = coefficients
    gram, whole = x @ x.mT, None
    for left in range(steps, 0, -1):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        whole = factor if whole is None else factor @ whole
        if left > 1:
            gram = factor @ gram @ factor
    return x if whole is None else whole @ x
