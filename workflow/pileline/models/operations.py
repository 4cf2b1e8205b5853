"""Operations whose backward passes are written out, because torch's take several times as long on a CPU.

Torch derives the gradients of `x.square()` and `F.rms_norm` from their parts, powers among them, and goes over the
numbers a dozen times. In formulas, with r = 1 / sqrt(mean(x^2) + eps):

    relu squared    y = max(x, 0)^2      dx = 2 max(x, 0) dy
    RMS norm        y = r x              dx = r (dy - y mean(y dy))
    and turned      y = R r x            dx = R' r (dy - y mean(y dy)), since R R' = 1 and r is a number
    attention       y = p v, p = softmax(q k' / sqrt(d))     dv = p' dy,  ds = p (dp - sum p dp) with dp = dy v'

Beside small matrices that is a tenth of a training step. Several of these in one function overwrite what lies between
them, and keep less for the gradient. Compiled, torch's own are the faster ones, but for `relu`.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

PLAIN, PLAIN_BFLOAT16 = 128, 1024  # places of a block whose scores are kept, at most


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
        scale = _scale(x, torch.finfo(x.dtype).eps)
        y: Tensor = (x * scale).to(x.dtype)
        context.save_for_backward(y, scale)
        return y

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return _unscaled(gradient, *context.saved_tensors)


def _scale(x: Tensor, epsilon: float) -> Tensor:
    """1 / sqrt(mean(x^2) + epsilon) along the last axis, at least in float32."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
    scale: Tensor = length.square_().div_(x.size(-1)).add_(epsilon).rsqrt_()
    return scale


def _unscaled(gradient: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    """The gradient of an RMS norm's input: scale (gradient - y mean(y gradient))."""
    size = y.size(-1)
    if y.device.type != "cpu" or y.dtype != scale.dtype or not y.numel():
        along = (gradient * y).mean(dim=-1, keepdim=True)
        across: Tensor = torch.addcmul(gradient, y, along, value=-1) * scale
        return across.to(y.dtype)
    # Torch has this in one pass, as the gradient of a weight w = g v / |v| to v: g / |v| (dw - v sum(v dw) / |v|^2).
    lengths = torch.full_like(scale, math.sqrt(size)).view(-1, 1)
    gains = scale.view(-1, 1) * lengths
    rows = (part.reshape(-1, size).contiguous() for part in (gradient, y))  # it reads them as if they were
    found: Tensor = torch.ops.aten._weight_norm_interface_backward(*rows, gains, lengths, 0)[0]
    return found.view(y.shape)


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


class _SquaredMLP(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, expand: Tensor, project: Tensor) -> Tensor:  # type: ignore[override]
        positive = torch.mm(x, expand.T).relu_()
        y = positive * positive
        context.save_for_backward(x, expand, project, positive, y)
        return torch.mm(y, project.T)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, expand, project, positive, y = context.saved_tensors
        inner = torch.mm(gradient, 2 * project).mul_(positive)
        return torch.mm(inner, expand), torch.mm(inner.T, x), torch.mm(gradient.T, y)


def squared_mlp(x: Tensor, expand: Tensor, project: Tensor) -> Tensor:
    """project relu(expand x)^2 for the rows of x [..., width]: what lies between is overwritten, not written anew."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled() or x.device.type != "cpu":
        return F.linear(relu_squared(F.linear(x, expand)), project)
    precision = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    parts = (part.to(precision) for part in (x.flatten(0, -2), expand, project))
    with torch.autocast("cpu", enabled=False):
        y: Tensor = _SquaredMLP.apply(*parts)  # type: ignore[no-untyped-call]
    return y.view(*x.shape[:-1], -1)


def relu_squared(x: Tensor) -> Tensor:
    """max(x, 0)^2 (So et al. 2021), of any shape."""
    if torch.compiler.is_compiling():
        return x.relu().square()
    if not torch.is_grad_enabled():
        return x.relu().square_()
    return _ReluSquared.apply(x)  # type: ignore[no-any-return, no-untyped-call]


@functools.cache
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


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn the pairs (x_i, x_(i + width/2)) of queries or keys [..., positions, width] by their position's angles.

    (a, b) becomes (a cos - b sin, b cos + a sin), for both halves at once.
    """
    if torch.compiler.is_compiling():  # the same, in loops that the compiler can vectorize
        swapped = torch.unflatten(x, -1, (2, -1)).flip(-2).flatten(-2)
    else:
        swapped = x.roll(x.size(-1) // 2, dims=-1)
    return torch.addcmul(x * cosine, swapped, sine)


def turned(heads: Tensor, cosine: Tensor, sine: Tensor, queries: int, keys: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries and keys, normalized and turned by their places, and values: each [batch, heads, length, size].

    `heads` [batch, length, all * size] has queries, then keys, then as many values.
    """
    parts = heads.view(*heads.shape[:2], -1, cosine.size(-1)).transpose(1, 2)
    both, value = parts.split_with_sizes((queries + keys, keys), dim=1)
    query, key = rotate(rms_norm(both), cosine, sine).to(value.dtype).split_with_sizes((queries, keys), dim=1)
    return query, key, value


class _CausalAttention(torch.autograd.Function):
    """See `causal_attention`. Heads are the first axis here, so that the products take them as they are."""

    @staticmethod
    def forward(context: Any, heads: Tensor, cosine: Tensor, sine: Tensor, queries: int, keys: int) -> Any:  # type: ignore[override]
        (batch, length, _), size, both = heads.shape, cosine.size(-1), queries + keys
        parts = heads.view(batch, length, -1, size).permute(2, 0, 1, 3)
        x = parts[:both].to(cosine.dtype, copy=True, memory_format=torch.contiguous_format)
        scale = _scale(x, torch.finfo(heads.dtype).eps)
        x.mul_(scale)
        x = x.roll(size // 2, dims=-1).mul_(sine).addcmul_(x, cosine).to(heads.dtype)
        key, value = x[queries:], parts[both:].contiguous()
        left, right, values = (_rows(part, queries) for part in (x[:queries], key, value))
        chances = torch.baddbmm(_future(length, x.dtype), left, right.mT, alpha=size**-0.5).softmax(dim=-1)
        y = torch.bmm(chances, values).view(queries, batch, length, size)
        context.save_for_backward(x, left, right, values, chances, scale, cosine, sine)
        found = y.permute(1, 2, 0, 3).flatten(2), key.transpose(0, 1), value.transpose(0, 1)
        context.mark_non_differentiable(*found[1:])
        context.set_materialize_grads(False)
        return found

    @staticmethod
    def backward(context: Any, gradient: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        if gradient is None:
            return (None,) * 5
        x, left, right, values, chances, scale, cosine, sine = context.saved_tensors
        both, batch, length, size = x.shape
        queries = len(left) // batch
        rows = _rows(gradient.reshape(batch, length, queries, size).permute(2, 0, 1, 3), queries)
        slope = torch.ops.aten._softmax_backward_data(torch.bmm(rows, values.mT), chances, -1, chances.dtype)
        products = torch.bmm(slope, right), torch.bmm(slope.mT, left), torch.bmm(chances.mT, rows)
        query, key, value = (part.view(queries, batch, length, size) for part in products)
        if queries > both - queries:  # those of a group of queries are one
            key, value = (part.view(both - queries, -1, batch, length, size).sum(dim=1) for part in (key, value))
        turned = _unscaled(torch.cat((query, key)).to(scale.dtype), x.to(scale.dtype), scale * size**-0.5)
        found = x.new_empty(batch, length, both + len(value), size)
        parts = found.permute(2, 0, 1, 3)
        parts[:both].copy_((turned * sine).roll(size // 2, dims=-1).addcmul_(turned, cosine))
        parts[both:].copy_(value)
        return found.flatten(2), None, None, None, None


def _rows(x: Tensor, heads: int) -> Tensor:
    """[heads * batch, length, size] of x [heads, batch, length, size], where so many heads share fewer."""
    x = x.repeat_interleave(heads // len(x), dim=0) if len(x) < heads else x
    return x.reshape(-1, *x.shape[2:])


@functools.lru_cache(maxsize=4)
def _future(length: int, precision: torch.dtype) -> Tensor:
    """[length, length], -inf where a place would see a later one, else 0."""
    return torch.full((length, length), float("-inf"), dtype=precision).triu_(1)


def computes_plainly(heads: Tensor, size: int) -> bool:
    """Whether `causal_attention` is the quicker way, in training, with heads of such a size.

    Torch's fused kernel keeps no scores, which long blocks need. On a CPU plain products of short blocks take 0.8 to
    1 of its time, in bfloat16, where it computes in float32, half of it.
    """
    if heads.device.type != "cpu" or not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    return heads.size(1) <= (PLAIN_BFLOAT16 if heads.dtype == torch.bfloat16 else min(2 * size, PLAIN))


def causal_attention(
    heads: Tensor, cosine: Tensor, sine: Tensor, queries: int, keys: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Attention of each place to itself and those before, from the heads and tables of `turned`, all in one.

    Gives new vectors [batch, length, queries * size], with gradients; and keys and values [batch, keys, length, size],
    without. It keeps the scores, for its gradient.
    """
    with torch.autocast("cpu", enabled=False):
        return _CausalAttention.apply(heads, cosine, sine, queries, keys)  # type: ignore[no-any-return, no-untyped-call]
