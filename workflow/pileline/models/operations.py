"""Two small operations whose backward passes are written out, because torch's take several times as long on a CPU.

Torch derives the gradients of `x.square()` and `F.rms_norm` from their parts, powers among them, and goes over the
numbers a dozen times. In formulas, with r = 1 / sqrt(mean(x^2) + eps):

    relu squared    y = max(x, 0)^2      dx = 2 max(x, 0) dy
    RMS norm        y = r x              dx = r (dy - y mean(y dy))

Beside small matrices that is a tenth of a training step. Compiled, all of them are fused as torch's own would be.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class _ReluSquared(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:  # type: ignore[override]
        positive: Tensor = x.relu()
        context.save_for_backward(positive)
        return positive * positive

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        positive: Tensor = context.saved_tensors[0]
        return (gradient * positive).mul_(2)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:  # type: ignore[override]
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
        scale = length.square_().div_(x.size(-1)).add_(torch.finfo(x.dtype).eps).rsqrt_()
        y: Tensor = (x * scale).to(x.dtype)
        context.save_for_backward(y, scale)
        return y

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        y, scale = context.saved_tensors
        along = (gradient * y).mean(dim=-1, keepdim=True)
        across: Tensor = torch.addcmul(gradient, y, along, value=-1) * scale
        return across.to(y.dtype)


def relu_squared(x: Tensor) -> Tensor:
    """max(x, 0)^2 (So et al. 2021), of any shape."""
    if not torch.is_grad_enabled():
        return x.relu().square_()
    return _ReluSquared.apply(x)  # type: ignore[no-any-return, no-untyped-call]


def rms_norm(x: Tensor) -> Tensor:
    """x over the root of its mean square along the last axis (Zhang & Sennrich 2019), without a gain."""
    if not torch.is_grad_enabled():  # torch's own is the faster one where nothing is kept for gradients
        return F.rms_norm(x, (x.size(-1),))
    return _RMSNorm.apply(x)  # type: ignore[no-any-return, no-untyped-call]
