"""Operations with backward passes of our own: torch's values and gradients, in every precision, compiled or not."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pileline import models
from pileline.models import operations
from pileline.models.operations import causal_attention, relu, relu_squared, rms_norm, squared_mlp, turned
from pileline.models.transformer import rotation

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
@settings(max_examples=25)
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


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("strides", [(20, 5, 1), (1, 4, 16), (5, 20, 1), (0, 0, 0), (0, 5, 1)])
def test_gradients_do_not_depend_on_how_numbers_lie_in_memory(name, strides):
    generator = torch.Generator().manual_seed(1)
    x, given = (torch.randn(80, generator=generator).as_strided((4, 4, 5), strides) for _ in range(2))
    for laid in (x, x.contiguous()):
        for gradient in (given, given.contiguous()):
            found = []
            for function in PAIRS[name]:
                leaf = laid.detach().requires_grad_()
                function(leaf).backward(gradient)
                found.append(leaf.grad)
            torch.testing.assert_close(*found)


@pytest.mark.parametrize("name", PAIRS)
def test_of_no_numbers_there_is_no_gradient(name):
    x = torch.empty(0, 4, requires_grad=True)
    PAIRS[name][0](x).sum().backward()
    assert x.grad.shape == (0, 4)


def test_a_row_of_zeros_has_a_norm_and_a_gradient():
    x = torch.zeros(2, 4, requires_grad=True)
    rms_norm(x).sum().backward()
    assert torch.isfinite(x.grad).all()


SHAPES = [(2, 2, 1, 4), (4, 2, 33, 16), (2, 1, 256, 32)]  # queries' heads, keys' heads, length, size


def numbers(*shapes, precision=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(*shape, generator=generator, dtype=torch.float64).to(precision) for shape in shapes]


def plainly_attended(heads, cosine, sine, queries, keys):
    """What `causal_attention` gives, by torch's operations and their gradients."""
    query, key, value = turned(heads, cosine, sine, queries, keys)
    y = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    return y.transpose(1, 2).flatten(2), key, value


def attended(function, heads, weights, tables, queries, keys):
    """New vectors, keys, values, and the gradient of the weighted vectors."""
    leaf = heads.clone().requires_grad_()
    y, key, value = function(leaf, *tables, queries, keys)
    (y * weights).sum().backward()
    return y.detach(), key.detach(), value.detach(), leaf.grad


def tables_of(length, size, precision):
    return [table.to(precision) for table in rotation(length, size)]


@pytest.mark.parametrize(("queries", "keys", "length", "size"), SHAPES)
def test_causal_attention_is_torchs(queries, keys, length, size):
    heads, weights = numbers((3, length, (queries + 2 * keys) * size), (3, length, queries * size))
    tables = tables_of(length, size, torch.float64)
    found, expected = (attended(f, heads, weights, tables, queries, keys) for f in (causal_attention, plainly_attended))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("queries", "keys", "length", "size"), SHAPES)
def test_causal_attention_in_bfloat16_is_torchs_but_for_rounding(queries, keys, length, size):
    heads, weights = numbers((2, length, (queries + 2 * keys) * size), (2, length, queries * size))
    rounded, tables = (10 * heads).bfloat16(), tables_of(length, size, torch.float32)  # eps is small beside these
    found = attended(causal_attention, rounded, weights, tables, queries, keys)
    assert {part.dtype for part in found} == {torch.bfloat16}
    exact = attended(plainly_attended, rounded.double(), weights, [t.double() for t in tables], queries, keys)
    for ours, true in zip(found, exact, strict=True):
        assert (ours.double() - true).norm() < 0.02 * true.norm() + 1e-6


@pytest.mark.parametrize(("queries", "keys"), [(2, 2), (4, 2)])
def test_causal_attentions_gradient_agrees_with_finite_differences(queries, keys):
    (heads,) = numbers((1, 4, (queries + 2 * keys) * 2))
    tables = tables_of(4, 2, torch.float64)
    assert torch.autograd.gradcheck(
        lambda x: causal_attention(x, *tables, queries, keys)[0], (heads.requires_grad_(),), eps=1e-6, atol=1e-5
    )


def test_keys_and_values_of_causal_attention_carry_no_gradient():
    heads, tables = torch.randn(1, 5, 24, requires_grad=True), tables_of(5, 4, torch.float32)
    y, key, value = causal_attention(heads, *tables, 2, 2)
    assert (y.requires_grad, key.requires_grad, value.requires_grad) == (True, False, False)


def test_the_scores_of_long_blocks_are_not_kept():
    def plainly(length, size=64, precision=torch.float32):
        return operations.computes_plainly(torch.empty(1, length, 3, dtype=precision), size)

    assert plainly(128)
    assert not plainly(129)
    assert not plainly(128, size=32)
    assert plainly(1024, precision=torch.bfloat16)
    assert not plainly(1025, precision=torch.bfloat16)
    with torch.no_grad():
        assert not plainly(128)


@pytest.mark.parametrize("changes", [{}, {"key_value_heads": 1}, {"key_shift": 1}])
@pytest.mark.parametrize(("precision", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.15)])
def test_a_transformer_learns_the_same_by_both_ways(monkeypatch, changes, precision, tolerance):
    settings = {"kind": "transformer", "layers": 2, "heads": 2, "width": 16, "context": 12, **changes}
    network = models.build(settings, vocabulary_size=11, end=0, seed=1).network
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1)  # projections start at 0, and would hide what is before them
    rows = torch.randint(11, (2, 2, 12), generator=torch.Generator().manual_seed(1))
    found = []
    for plain in (True, False):
        monkeypatch.setattr("pileline.models.transformer.computes_plainly", lambda *_, plain=plain: plain)
        network.zero_grad()
        with torch.autocast("cpu", precision, enabled=precision == torch.bfloat16):
            loss = network.loss(*rows)
        loss.backward()
        found.append([loss.detach(), *(parameter.grad for parameter in network.parameters())])
    for ours, other in zip(*found, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - other).norm() <= tolerance * other.norm() + 1e-6


def test_the_squared_mlp_is_torchs():
    x, expand, project, weights = numbers((2, 3, 5), (7, 5), (4, 7), (2, 3, 4))
    found = []
    for function in (squared_mlp, lambda x, e, p: F.linear(F.relu(F.linear(x, e)).square(), p)):
        leaves = [part.clone().requires_grad_() for part in (x, expand, project)]
        y = function(*leaves)
        (y * weights).sum().backward()
        found.append([y.detach(), *(leaf.grad for leaf in leaves)])
    torch.testing.assert_close(*found)
    assert torch.autograd.gradcheck(squared_mlp, leaves, eps=1e-6, atol=1e-5)


def test_the_squared_mlp_computes_in_the_precision_of_autocast():
    x, expand, project = (part.requires_grad_() for part in numbers((3, 8), (16, 8), (8, 16), precision=torch.float32))
    with torch.autocast("cpu", torch.bfloat16):
        y = squared_mlp(x, expand, project)
        with torch.no_grad():
            torch.testing.assert_close(y, squared_mlp(x, expand, project))
    y.sum().backward()
    assert y.dtype == torch.bfloat16
    assert {part.grad.dtype for part in (x, expand, project)} == {torch.float32}


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
