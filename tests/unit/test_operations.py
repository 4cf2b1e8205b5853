"""Operations with backward passes of our own: torch's values and gradients, in every precision, compiled or not."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pileline import models
from pileline.models.operations import causal_attention, relu, relu_squared, rms_norm

PAIRS = {
    "relu": (relu, F.relu),
    "relu_squared": (relu_squared, lambda x: F.relu(x).square()),
    "rms_norm": (rms_norm, lambda x: F.rms_norm(x, (x.size(-1),))),
}


def both(name, x, weights):
    """Values and gradients of the sum of the weighted values, ours and torch's."""
    found = []
    for function in PAIRS[name]:
        leaf = x.clone().requires_grad_()
        y = function(leaf)
        (y * weights).sum().backward()
        found.append((y.detach(), leaf.grad))
    return found


@pytest.mark.parametrize("name", PAIRS)
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    size=st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_values_and_gradients_are_torchs(name, seed, shape, size):
    generator = torch.Generator().manual_seed(seed)
    x, weights = (torch.randn(*shape, generator=generator) for _ in range(2))
    (y, gradient), (expected, expected_gradient) = both(name, x * size, weights)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-5 * max(size, 1 / size))
    with torch.no_grad():
        torch.testing.assert_close(PAIRS[name][0](x * size), expected)


@pytest.mark.parametrize("name", PAIRS)
def test_gradients_agree_with_finite_differences(name):
    x = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert torch.autograd.gradcheck(PAIRS[name][0], (x,), eps=1e-6, atol=1e-4)


@pytest.mark.parametrize("name", PAIRS)
def test_bfloat16_stays_bfloat16(name):
    x = torch.randn(4, 16, generator=torch.Generator().manual_seed(1)).bfloat16()
    (y, gradient), (expected, expected_gradient) = both(name, x, torch.ones_like(x))
    assert y.dtype == gradient.dtype == torch.bfloat16
    torch.testing.assert_close(y, expected, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(gradient, expected_gradient, rtol=5e-2, atol=5e-2)


def test_a_row_of_zeros_has_a_norm_and_a_gradient():
    x = torch.zeros(2, 4, requires_grad=True)
    rms_norm(x).sum().backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize(("heads", "key_heads", "length", "size"), [(2, 2, 1, 4), (4, 2, 33, 16), (2, 1, 256, 32)])
def test_causal_attention_in_bfloat16_is_torchs_but_for_rounding(heads, key_heads, length, size):
    generator = torch.Generator().manual_seed(1)
    shapes = [(2, heads, length, size), (2, key_heads, length, size), (2, key_heads, length, size)]
    inputs = [torch.randn(*shape, generator=generator).bfloat16() for shape in shapes]
    weights = torch.randn(*shapes[0], generator=generator)
    exact = [x.double().requires_grad_() for x in inputs]
    expected = F.scaled_dot_product_attention(*exact, is_causal=True, enable_gqa=True)
    (expected * weights).sum().backward()
    ours = [x.clone().requires_grad_() for x in inputs]
    y = causal_attention(*ours)
    (y * weights).sum().backward()
    assert y.dtype == torch.bfloat16
    for found, true in [(y, expected), *((a.grad, b.grad) for a, b in zip(ours, exact, strict=True))]:
        assert (found.double() - true).norm() < 0.02 * true.norm() + 1e-6


def test_the_scores_of_long_blocks_are_not_kept(monkeypatch):
    x = torch.randn(1, 1, 9, 4).bfloat16().requires_grad_()
    short = causal_attention(x, x, x)
    monkeypatch.setattr("pileline.models.operations.PLAIN_ATTENTION", 8)
    long = causal_attention(x, x, x)
    assert "CausalAttention" not in type(long.grad_fn).__name__
    torch.testing.assert_close(long, short, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("name", PAIRS)
def test_compiled_values_and_gradients_are_torchs(name):
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    found = []
    for function in (torch.compile(PAIRS[name][0], backend="aot_eager", fullgraph=True), PAIRS[name][1]):
        leaf = x.clone().requires_grad_()
        (function(leaf) * x).sum().backward()
        found.append(leaf.grad)
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("kind", ["transformer", "transformer-2017"])
def test_a_network_compiles_as_one_graph_of_the_same_loss_and_gradients(kind):
    settings = {"kind": kind, "layers": 1, "heads": 2, "width": 8, "context": 6}
    model = models.build(settings, vocabulary_size=11, end=0, seed=1)
    network = model.network.eval()  # dropout draws other numbers when compiled
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1)  # projections start at 0, and would hide what is before them
    rows = torch.randint(11, (2, 2, 6), generator=torch.Generator().manual_seed(1))
    found = []
    for loss in (network.loss, torch.compile(network.loss, backend="aot_eager", fullgraph=True)):
        network.zero_grad()
        loss(*rows).backward()
        found.append([parameter.grad for parameter in network.parameters()])
    torch.testing.assert_close(*found)
