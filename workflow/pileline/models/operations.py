"""Operations whose backward passes are written out, because torch's take several times as long on a CPU.

Torch derives the gradients of `x.square()` and `F.rms_norm` from their parts, powers among them, and goes over the
numbers a dozen times. In formulas, with r = 1 / sqrt(mean(x^2) + eps):

    relu squared    y = max(x, 0)^2      dx = 2 max(x, 0) dy
    RMS norm        y = r x              dx = r (dy - y mean(y dy))
    attention       y = p v, p = softmax(q k' / sqrt(d))     dv = p' dy,  ds = p (dp - sum p dp) with dp = dy v'

Beside small matrices that is a tenth of a training step. Compiled, torch's own are the faster ones, but for `relu`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

PLAIN_ATTENTION = 1024  # places of a block whose scores are kept, at most


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


class _Relu(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:  # type: ignore[override]
        positive: Tensor = x.relu()
        context.save_for_backward(positive)
        return positive

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        positive: Tensor = context.saved_tensors[0]
        return gradient * positive.sign()


def relu(x: Tensor) -> Tensor:
    """max(x, 0), of any shape.

    Compiled, torch's own keeps for its gradient a mask of bytes, which takes a CPU several times as long to write as
    the numbers themselves; these are kept by the layer after it anyway.
    """
    if not torch.compiler.is_compiling():
        return F.relu(x)
    return _Relu.apply(x)  # type: ignore[no-any-return, no-untyped-call]


def relu_squared(x: Tensor) -> Tensor:
    """max(x, 0)^2 (So et al. 2021), of any shape."""
    if torch.compiler.is_compiling():
        return x.relu().square()
    if not torch.is_grad_enabled():
        return x.relu().square_()
    return _ReluSquared.apply(x)  # type: ignore[no-any-return, no-untyped-call]


@cache
def _epsilon(device: torch.device) -> Tensor:
    """Of float32, as a tensor: torch takes twice as long to make one of a number and add it as to add it."""
    return torch.tensor(torch.finfo(torch.float32).eps, device=device)


def rms_norm(x: Tensor) -> Tensor:
    """x over the root of its mean square along the last axis (Zhang & Sennrich 2019), without a gain."""
    if torch.compiler.is_compiling():  # then torch's own is the faster one
        return F.rms_norm(x, (x.size(-1),))
    if torch.is_grad_enabled():
        return _RMSNorm.apply(x)  # type: ignore[no-any-return, no-untyped-call]
    if x.dtype != torch.float32:  # its length needs more digits than x has
        return F.rms_norm(x, (x.size(-1),))
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x * torch.addcmul(_epsilon(x.device), length, length, value=1 / x.size(-1)).rsqrt_()


class _CausalAttention(torch.autograd.Function):
    """Over [rows, length, size]; `mask` [length, length] is -inf above its diagonal."""

    @staticmethod
    def forward(context: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        chances = torch.baddbmm(mask, query, key.mT, alpha=query.size(-1) ** -0.5).softmax(dim=-1)
        context.save_for_backward(query, key, value, chances)
        return torch.bmm(chances, value)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, chances = context.saved_tensors
        slope = torch.ops.aten._softmax_backward_data(torch.bmm(gradient, value.mT), chances, -1, chances.dtype)
        slope.mul_(query.size(-1) ** -0.5)
        return torch.bmm(slope, key), torch.bmm(slope.mT, query), torch.bmm(chances.mT, gradient), None


def causal_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of each place to itself and those before, [batch, heads, length, size]; keys may have fewer heads.

    torch's fused kernel keeps no scores, which long blocks need; on a CPU in bfloat16, where it computes in float32,
    plain products of short blocks take half its time.
    """
    length, groups = query.size(2), query.size(1) // key.size(1)
    plain = query.dtype == torch.bfloat16 and query.device.type == "cpu" and length <= PLAIN_ATTENTION
    if not plain or not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=groups > 1)
    if groups > 1:
        key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
    mask = torch.full((length, length), float("-inf"), dtype=query.dtype).triu_(1)
    with torch.autocast("cpu", enabled=False):
        y: Tensor = _CausalAttention.apply(*(part.flatten(0, 1) for part in (query, key, value)), mask)  # type: ignore[no-untyped-call]
    return y.view(query.shape)
