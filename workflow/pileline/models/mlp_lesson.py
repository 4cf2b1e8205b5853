"""What notebook 07_train_mlp shows of the passes in `mlp`: that the gradient is right, and how one descends with it.

A gradient that is slightly wrong still learns, only worse, so it is not seen from the loss. It is seen by comparison
with two others that share none of its formulas: autograd, which goes back through the forward pass by itself, and
differences, which need no derivative at all, only the loss at two points near each other. All of this in float64, since
differences of float32 keep a few digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from .mlp import FixedWindow, Shape, Weights, error_and_slope, histories, passes, states

SPREAD = 0.1  # standard deviation of an output layer that has been moved off zero


def examples(stream: npt.NDArray[Any], window: int, end: int) -> tuple[Tensor, Tensor]:
    """What is seen [n - 1, window] and what came next [n - 1], of n tokens whose documents begin by `end`."""
    tokens = torch.from_numpy(np.asarray(stream, dtype=np.int64))
    return histories(tokens[None, :-1], window, end)[0], tokens[1:]


def renumbered(stream: npt.NDArray[Any], end: int) -> tuple[npt.NDArray[np.int64], int, int]:
    """A stream in a vocabulary of its own tokens, with the size of that, and what `end` is in it."""
    own = np.unique(np.append(stream, end))
    return np.searchsorted(own, stream), len(own), int(np.searchsorted(own, end))


def double(network: FixedWindow, seed: int) -> Weights:
    """The network's weights in float64, those of the output drawn anew: at zero they would hide the layers below."""
    weights = Weights(*(weight.detach().cpu().double() for weight in network.weights))
    generator = torch.Generator().manual_seed(seed)
    moved = SPREAD * torch.randn(weights.output.shape, generator=generator, dtype=torch.float64)
    return weights._replace(output=moved)


def mean_error(seen: Tensor, targets: Tensor, weights: Weights, loss: str) -> float:
    """The forward pass alone: the mean error of the rows."""
    outer = states(weights.embedding[seen].flatten(1), weights)[1]
    return error_and_slope(F.linear(outer, weights.output, weights.output_bias), targets, loss)[0].mean().item()


def by_autograd(seen: Tensor, targets: Tensor, weights: Weights, loss: str) -> Weights:
    """The gradient of the mean error as torch finds it, from the forward pass in torch's own operations."""
    leaves = Weights(*(weight.clone().requires_grad_() for weight in weights))
    outer = states(F.embedding(seen, leaves.embedding).flatten(1), leaves)[1]
    logits = F.linear(outer, leaves.output, leaves.output_bias)
    if loss == "cross-entropy":
        error = F.cross_entropy(logits, targets)
    else:
        right = F.one_hot(targets, logits.size(1)).to(logits.dtype)
        error = (logits.softmax(dim=1) - right).square().sum(dim=1).mean()
    return Weights(*torch.autograd.grad(error, leaves))


def by_hand(seen: Tensor, targets: Tensor, weights: Weights, loss: str) -> Weights:
    """The gradient of the mean error by `mlp.passes`."""
    return Weights(*(part / len(seen) for part in passes(seen, targets, weights, loss)[1]))


def by_difference(
    seen: Tensor, targets: Tensor, weights: Weights, loss: str, name: str, direction: Tensor, step: float
) -> float:
    """How the mean error changes as table `name` goes along `direction`: (L(w + s d) - L(w - s d)) / 2 s."""
    table = getattr(weights, name)
    ends = [
        mean_error(seen, targets, weights._replace(**{name: table + sign * step * direction}), loss)
        for sign in (1.0, -1.0)
    ]
    return (ends[0] - ends[1]) / (2.0 * step)


def compare(seen: Tensor, targets: Tensor, weights: Weights, loss: str, seed: int, step: float = 1e-5) -> list[Any]:
    """A record for each table: the gradient by hand beside autograd's, and beside a difference along one direction.

    `autograd` is the largest difference of any number, `differences` that of the slope, both relative to the largest.
    """
    hand, torchs = by_hand(seen, targets, weights, loss), by_autograd(seen, targets, weights, loss)
    generator, found = torch.Generator().manual_seed(seed), []
    for name, mine, theirs in zip(Weights._fields, hand, torchs, strict=True):
        direction = torch.randn(mine.shape, generator=generator, dtype=mine.dtype)
        slope = (mine * direction).sum().item()
        measured = by_difference(seen, targets, weights, loss, name, direction, step)
        found.append(
            {
                "table": name,
                "numbers": mine.numel(),
                "largest slope": mine.abs().max().item(),
                "autograd": ((mine - theirs).abs().max() / theirs.abs().max()).item(),
                "differences": abs(slope - measured) / abs(measured),
            }
        )
    return found


def difference_errors(
    seen: Tensor, targets: Tensor, weights: Weights, loss: str, steps: Sequence[float], seed: int
) -> list[float]:
    """How far differences of each step are from the hidden layer's gradient by hand, relative to it."""
    exact = by_hand(seen, targets, weights, loss).hidden
    direction = torch.randn(exact.shape, generator=torch.Generator().manual_seed(seed), dtype=exact.dtype)
    slope = (exact * direction).sum().item()
    measured = [by_difference(seen, targets, weights, loss, "hidden", direction, step) for step in steps]
    return [abs(value - slope) / abs(slope) for value in measured]


def small_network(vocabulary_size: int, end: int, window: int, seed: int) -> FixedWindow:
    """A network that learns a small sample in seconds."""
    network = FixedWindow(Shape(window, embedding=16, hidden=32, context=2 * window), vocabulary_size, end)
    with torch.no_grad():
        network.initialize(torch.Generator().manual_seed(seed))
    return network


@torch.no_grad()
def descend(
    network: FixedWindow, seen: Tensor, targets: Tensor, loss: str, rate: float, rows: int, rounds: int, seed: int
) -> list[float]:
    """Gradient descent by hand, w <- w - rate * g, on `rows` of the examples a step, each once a round.

    With as many rows as there are examples that is full-batch descent, with fewer it is stochastic. Returns the mean
    cross-entropy over all of them, in nats, before the first round and after each, whatever `loss` is.
    """
    weights, generator = network.weights, torch.Generator().manual_seed(seed)
    nats = [mean_error(seen, targets, weights, "cross-entropy")]
    for _ in range(rounds):
        for part in torch.split(torch.randperm(len(seen), generator=generator), rows):
            for weight, slope in zip(weights, passes(seen[part], targets[part], weights, loss)[1], strict=True):
                weight.sub_(slope, alpha=rate / len(part))
        nats.append(mean_error(seen, targets, weights, "cross-entropy"))
    return nats


def nearest(network: FixedWindow, token: int, count: int, among: Sequence[int]) -> list[int]:
    """The tokens of `among` whose embeddings point most nearly where `token`'s does, nearest first, without itself.

    The embedding of a token that training never saw is as it was drawn, and near others by chance.
    """
    table = F.normalize(network.embedding.weight.detach().float(), dim=1)
    others = [each for each in among if each != token]
    likeness = table[others] @ table[token]
    return [others[place] for place in likeness.topk(min(count, len(others))).indices.tolist()]
