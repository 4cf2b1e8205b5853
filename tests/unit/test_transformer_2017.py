"""The transformer of 2017: parity with torch's own layers, and the properties that the paper gives its parts."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pileline import models
from pileline.models.transformer_2017 import sinusoids

from tests.unit.small_models import END, V, built, entry, tokens


def torchs(shape):
    """Torch's encoder, post-norm with ReLU, without a bias in its attention: causally masked, it is this decoder."""
    layer = torch.nn.TransformerEncoderLayer(
        shape.width, shape.heads, shape.mlp * shape.width, dropout=0.0, batch_first=True
    )
    encoder = torch.nn.TransformerEncoder(layer, shape.layers, enable_nested_tensor=False)
    with torch.no_grad():
        for layer in encoder.layers:
            layer.self_attn.in_proj_bias.zero_()
            layer.self_attn.out_proj.bias.zero_()
    return encoder.eval()


def reference(model, ids):
    """Logits by torch's layers with the model's weights; embeddings and positions by the paper's formulas."""
    shape, encoder = model.shape, torchs(model.shape)
    with torch.no_grad():
        for own, layer in zip(model.network.blocks, encoder.layers, strict=True):
            a = own.attention
            layer.self_attn.in_proj_weight.copy_(torch.cat([a.query.weight, a.key.weight, a.value.weight]))
            layer.self_attn.out_proj.weight.copy_(a.project.weight)
            for ours, theirs in (
                (own.expand, layer.linear1),
                (own.project, layer.linear2),
                (own.attention_norm, layer.norm1),
                (own.mlp_norm, layer.norm2),
            ):
                theirs.load_state_dict(ours.state_dict())
        places = torch.zeros(len(ids), shape.width)
        for t in range(len(ids)):
            for i in range(shape.width // 2):
                angle = t / 10_000 ** (2 * i / shape.width)
                places[t, 2 * i], places[t, 2 * i + 1] = math.sin(angle), math.cos(angle)
        x = math.sqrt(shape.width) * model.network.embedding.weight[ids] + places
        mask = torch.nn.Transformer.generate_square_subsequent_mask(len(ids))
        return encoder(x[None], mask=mask, is_causal=True)[0] @ model.network.embedding.weight.T


@pytest.mark.parametrize("changes", [{}, {"layers": 1, "heads": 4, "mlp": 3}, {"layers": 3, "heads": 1}])
def test_logits_equal_those_of_torchs_layers(changes):
    model, ids = built("transformer-2017", **changes), torch.from_numpy(tokens(24))
    expected = reference(model, ids)
    with torch.no_grad():
        found = model.network(ids[None])[0]
    assert expected.std() > 0.5  # a silent network would prove nothing
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_by_default_it_is_the_papers_base_model():
    model = models.build({"kind": "transformer-2017"}, V, END)
    shape = model.shape
    assert (shape.layers, shape.heads, shape.width, shape.mlp * shape.width, shape.dropout) == (6, 8, 512, 2048, 0.1)
    biases = 6 * 4 * 512  # of torch's attention
    assert model.parameters_count == V * 512 + sum(p.numel() for p in torchs(shape).parameters()) - biases


@settings(max_examples=30)
@given(st.integers(0, 200), st.integers(0, 55))
def test_positions_some_distance_apart_differ_by_a_rotation(place, distance):
    """Section 3.5: "for any fixed offset k, PE(pos + k) can be represented as a linear function of PE(pos)"."""
    table = sinusoids(256, 12).double().view(256, 6, 2)
    angles = distance / 10_000 ** (2 * torch.arange(6) / 12)
    sine, cosine = table[place].unbind(-1)
    turned = torch.stack(
        (sine * angles.cos() + cosine * angles.sin(), cosine * angles.cos() - sine * angles.sin()), dim=-1
    )
    torch.testing.assert_close(table[place + distance], turned, rtol=0, atol=1e-5)


def test_initial_weights_are_glorots():
    network = models.build(entry("transformer-2017", width=64), 500, END, seed=5).network
    assert network.embedding.weight.std().item() == pytest.approx(64**-0.5, rel=0.05)
    for name, parameter in network.blocks.named_parameters():
        if parameter.ndim == 2:
            bound = math.sqrt(6 / sum(parameter.shape))
            assert 0.95 * bound < parameter.abs().max().item() <= bound
        else:
            assert parameter.unique().tolist() == [1.0 if name.endswith("norm.weight") else 0.0]


def test_parameters_are_grouped():
    groups = built("transformer-2017").network.parameter_groups()
    assert [len(groups[name]) for name in ("matrices", "embeddings", "vectors")] == [12, 1, 12]
