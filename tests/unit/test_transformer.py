"""The transformer: parity with an independent forward pass in numpy, and the properties its parts promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pileline import models
from pileline.models.interface import LanguageModel
from pileline.models.operations import rotate
from pileline.models.sampling import Sampling
from pileline.models.transformer import Transformer, rotation

from tests.unit.small_models import END, V, built, entry, tokens


def reference(model, ids):
    """The forward pass again, in float64 numpy and loops over heads and positions, from the paper's formulas."""
    p = {name: value.detach().double().numpy() for name, value in model.network.named_parameters()}
    heads, width = model.shape.heads, model.shape.width
    size = width // heads

    def norm(x):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + np.finfo(np.float32).eps)

    def turn(vector, position):
        out = np.empty_like(vector)
        for i in range(size // 2):
            angle = position * 10_000.0 ** (-2 * i / size)
            a, b = vector[i], vector[i + size // 2]
            out[i] = a * math.cos(angle) - b * math.sin(angle)
            out[i + size // 2] = b * math.cos(angle) + a * math.sin(angle)
        return out

    x = p["embedding.weight"][ids]
    if model.shape.bigrams:
        before = [0, *(int(t) + 1 for t in ids[:-1])]
        keys = [(b * V + int(t)) * 48271 % (2**31 - 1) % model.shape.bigrams for b, t in zip(before, ids, strict=True)]
        x = x + p["bigram.weight"][keys]
    first = x = norm(x)
    for layer in range(model.shape.layers):
        name = f"blocks.{layer}."
        if model.shape.again:
            x = x + p["again"][layer] * first
        h = norm(x)
        q, k, v = (h @ p[f"{name}attention.{part}.weight"].T for part in ("query", "key", "value"))
        if model.shape.key_shift:
            padded = np.pad(k, ((model.shape.key_shift, 0), (0, 0)))
            shifts = range(model.shape.key_shift + 1)
            back = [padded[model.shape.key_shift - n :][: len(k)] * p[f"{name}attention.shift.{n}"] for n in shifts]
            k = sum(back)
        shared = np.repeat(np.arange(k.shape[1] // size), heads * size // k.shape[1])  # whose key each head looks at
        mixed = np.zeros_like(x)
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            other = slice(shared[head] * size, (shared[head] + 1) * size)
            for i in range(len(ids)):
                query = turn(norm(q[i, part]), i)
                logits = [query @ turn(norm(k[j, other]), j) / math.sqrt(size) for j in range(i + 1)]
                weights = np.exp(logits) / np.exp(logits).sum()
                mixed[i, part] = weights @ v[: i + 1, other]
        x = x + mixed @ p[f"{name}attention.project.weight"].T
        h = norm(x)
        inner = h @ p[f"{name}mlp.expand.weight"].T
        if model.shape.mlp_kind == "gated":
            gate = h @ p[f"{name}mlp.gate.weight"].T
            inner = gate / (1 + np.exp(-gate)) * inner
        else:
            inner = np.maximum(inner, 0) ** 2
        x = x + inner @ p[f"{name}mlp.project.weight"].T
    out = norm(x) @ p["head.weight"].T
    return out @ p["embedding.weight"].T if model.network.tied else out


GROUPED = {"heads": 4, "key_value_heads": 2, "mlp_kind": "gated", "again": False}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"bigrams": 0},
        {"tied": False},
        {"layers": 1, "heads": 4, "mlp": 2},
        GROUPED,
        {"mlp_kind": "gated"},
        {"key_shift": 2},
    ],
)
def test_logits_equal_an_independent_forward_pass(changes):
    model = built("transformer", **changes)
    ids = tokens(19)
    with torch.no_grad():
        found = model.network(torch.from_numpy(ids[None]))[0].numpy()
    expected = reference(model, ids)
    assert np.abs(expected).max() > 0.5  # a silent network would prove nothing
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("heads", [{"heads": 2}, {"heads": 4, "key_value_heads": 2}])
def test_with_shifted_keys_the_first_layer_looks_at_what_followed_a_token_before(heads, monkeypatch):
    model = models.build(entry("transformer", key_shift=1, layers=1, **heads), V, END, seed=3)
    ids = torch.tensor([[5, 9, 3, 7, 11, 5, 2, 9]])
    seen = {}

    def attention(query, key, value, *_, **__):
        seen["fit"] = (query @ key.repeat_interleave(query.size(1) // key.size(1), dim=1).mT)[0]
        return value.repeat_interleave(query.size(1) // key.size(1), dim=1)

    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", attention)
    with torch.no_grad():
        model.network(ids)
    alike = model.shape.heads // model.shape.groups  # heads that share a key; the first of them is made as it is
    fits = seen["fit"][::alike].mean(dim=0)
    assert fits[5, : 5 + 1].argmax() == 1  # at the second 5, what followed the first
    assert fits[7, : 7 + 1].argmax() == 2  # at the second 9


@settings(max_examples=20)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 20), st.integers(0, 100))
def test_rotary_products_depend_on_the_distance_alone(i, j, shift, seed):
    generator = torch.Generator().manual_seed(seed)
    query, key = torch.randn(2, 8, generator=generator, dtype=torch.float64)
    cosine, sine = (table.double() for table in rotation(64, 8))

    def product(a, b):
        return rotate(query, cosine[a], sine[a]) @ rotate(key, cosine[b], sine[b])

    assert product(i, j).item() == pytest.approx(product(i + shift, j + shift).item(), abs=1e-5)
    assert rotate(query, cosine[i], sine[i]).norm().item() == pytest.approx(query.norm().item(), rel=1e-6)


def test_parameters_are_counted_and_each_is_in_one_group():
    model = built("transformer", tied=False)
    width, layers = 16, 2
    expected = 2 * V * width + 31 * width + layers * 12 * width**2 + layers
    assert model.parameters_count == expected == sum(count for _, _, count in model.describe())
    groups = model.network.parameter_groups()
    assert sum(p.numel() for group in groups.values() for p in group) == expected
    assert {p.ndim for p in groups["matrices"]} == {2}
    assert [len(groups[name]) for name in ("embeddings", "tables")] == [2, 1]
    assert [len(built("transformer").network.parameter_groups()[name]) for name in ("embeddings", "tables")] == [1, 1]


@pytest.mark.parametrize("kind", ["relu2", "gated"])
def test_both_mlps_have_nearly_as_many_parameters(kind):
    model = models.build(entry("transformer", width=96, heads=4, mlp_kind=kind), V, END)
    assert sum(p.numel() for p in model.network.blocks[0].mlp.parameters()) == 8 * 96**2


OPTIONS = {
    "key_shift": st.integers(0, 2),
    "bigrams": st.sampled_from([0, 31]),
    "ngrams": st.integers(2, 4),
    "heads": st.just(4),
    "key_value_heads": st.sampled_from([1, 2, 4]),
    "mlp_kind": st.sampled_from(["relu2", "gated"]),
    "documents": st.sampled_from(["joined", "separate"]),
    "context": st.integers(5, 24),
    "again": st.booleans(),
    "tied": st.booleans(),
}


@settings(max_examples=20)
@given(st.fixed_dictionaries(OPTIONS), st.integers(0, 30), st.integers(0, 99))
def test_the_cache_changes_neither_chances_nor_what_is_drawn(changes, length, seed):
    """Within the context and beyond it, where windows slide, and on behind the end of a document."""
    model, prompt, sampling = built("transformer", **changes), tokens(length, seed), Sampling(temperature=1.5, top_k=20)
    ways = [predictions(model, prompt) for predictions in (Transformer.predictions, LanguageModel.predictions)]
    generators = [np.random.default_rng(seed) for _ in ways]
    found, expected = (next(way) for way in ways)
    for _ in range(20):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
        drawn = [sampling.draw(*pair) for pair in zip((found, expected), generators, strict=True)]
        assert drawn[0] == drawn[1]
        found, expected = (way.send(token) for way, token in zip(ways, drawn, strict=True))
