"""Look-up tables of which a step touches few rows, and an optimizer that moves no other row.

A hashed embedding has tens of thousands of rows, a step of a small model sees about a thousand of them. A dense
gradient, its norm and AdamW's pass over weights and two memories would take a quarter of such a step, for rows that
have nothing to learn from it. So on a CPU gradients of tables are sparse, and `Rows` moves a row when it was seen:

    v = beta2 v + (1 - beta2) mean(g^2);  w -= rate * g / sqrt(v / (1 - beta2^n))          for the n-th time

RMSprop (Tieleman & Hinton 2012) with one number v a row, Adam's correction of its zero start (Kingma & Ba 2015), and
a row's own n. There is no momentum: a row's gradients lie many steps apart. One that was seen once, as most are, makes
a step of its full rate, where the corrections by the step's number (`torch.optim.SparseAdam`) would leave it a tenth.

What is done depends on the values of a gradient and not on its layout, so processes that exchange dense gradients,
and GPUs, which pass over the table in no time, take the same steps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pileline.models.neural import Table

EPSILON = 1e-10


def use_sparse_gradients(network: nn.Module) -> None:
    """Have the network's tables give sparse gradients, which `Rows` takes, and no other optimizer."""
    for layer in network.modules():
        if isinstance(layer, Table):
            layer.sparse = True


def norm(gradients: list[Tensor]) -> Tensor:
    """The 2-norm of all gradients, of which some may be sparse."""
    return torch.nn.utils.get_total_norm([g.coalesce().values() if g.is_sparse else g for g in gradients])


class Rows(torch.optim.Optimizer):
    """Moves the rows of tables [rows, width] whose gradient is not zero; see the module."""

    def __init__(self, parameters: Any, lr: float = 0.1, beta2: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "beta2": beta2})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move every row that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group["lr"], group["beta2"])

    def _move(self, parameter: Tensor, rate: float, beta2: float) -> None:
        rows, gradient = touched(_local(parameter.grad))
        state = self.state[parameter]
        if not state:
            state["square"] = torch.zeros_like(parameter[:, 0], dtype=torch.float32)
            state["seen"] = torch.zeros_like(parameter[:, 0], dtype=torch.float32)
        square, seen = _local(state["square"]), _local(state["seen"])
        times = seen[rows] + 1
        mean = square[rows].lerp(gradient.square().mean(dim=1), 1 - beta2)
        square[rows], seen[rows] = mean, times
        scale = (mean / (1 - beta2**times)).sqrt() + EPSILON
        _local(parameter).index_add_(0, rows, gradient / scale[:, None], alpha=-rate)


def touched(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """The rows [n] whose gradient is not zero, each once, and their gradients [n, width]."""
    if gradient.is_sparse:
        whole = gradient.coalesce()  # sums what several tokens of the step say of one row, in a fixed order
        rows, values = whole.indices()[0], whole.values()
        told = values.any(dim=1)
        return (rows, values) if told.all() else (rows[told], values[told])
    rows = gradient.any(dim=1).nonzero()[:, 0]
    return rows, gradient[rows]


def _local(value: Tensor | None) -> Tensor:
    """Of a table that is shared out by rows, those of this process."""
    to_local = getattr(value, "to_local", None)
    found: Tensor = value if to_local is None else to_local()  # type: ignore[assignment]
    return found
