"""The transformer of 2017: parity with torch's own layers, and the properties that the paper gives its parts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pileline import models
from pileline.models.interface import ModelError
from pileline.models.transformer_2017 import Transformer2017, sinusoids

V, END = 53, 3
SMALL = {"kind": "transformer-2017", "layers": 2, "heads": 2, "width": 16, "context": 24, "mlp": 2}


def built(seed=1, **changes):
    """A small model whose every parameter is random, so that no part is silent."""
    model = models.build(SMALL | changes, V, END, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    model.network.eval()
    return model


def tokens(n, seed=0):
    return np.random.default_rng(seed).integers(0, V, n)


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
    model, ids = built(**changes), torch.from_numpy(tokens(24))
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


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 23), st.integers(0, 1000))
def test_the_future_does_not_matter(place, seed):
    model = built()
    ids = torch.from_numpy(tokens(24, seed))[None]
    other = ids.clone()
    other[:, place:] = (other[:, place:] + 7) % V
    with torch.no_grad():
        a, b = model.network(ids), model.network(other)
    torch.testing.assert_close(a[:, :place], b[:, :place], rtol=0, atol=1e-5)
    assert not torch.allclose(a[:, place:], b[:, place:], atol=1e-3)


@settings(max_examples=30, deadline=None)
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


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(0, 100))
def test_a_text_read_in_parts_leaves_the_state_of_the_whole(lengths, seed):
    network = built().network
    ids = torch.from_numpy(tokens(2 * sum(lengths), seed).reshape(2, -1))
    state, parts = {}, []
    with torch.no_grad():
        whole, last = network.extend(ids, {})
        for part in torch.split(ids, lengths, dim=1):
            hidden, state = network.extend(part, state)
            parts.append(hidden)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(state, last, rtol=1e-4, atol=1e-5)


def test_score_and_writing_agree_with_one_prediction_after_the_other():
    model, document = built(), tokens(40)  # longer than the context
    expected = [math.log(model.next_probabilities(document[:i])[token]) for i, token in enumerate(document)]
    assert model.score([document])[0] == pytest.approx(expected, abs=1e-4)
    text = tokens(15).tolist()
    for token in model.generate(np.array(text), 20, temperature=0.0).tolist():
        assert token == int(np.argmax(model.next_probabilities(np.array(text))))
        text.append(token)
    assert len(text) > 15


def test_initial_weights_are_glorots_and_of_the_seed():
    torch.manual_seed(1)
    network = models.build(SMALL | {"width": 64}, 500, END, seed=5).network
    torch.manual_seed(2)
    again = models.build(SMALL | {"width": 64}, 500, END, seed=5).network.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in network.state_dict().items())
    assert network.embedding.weight.std().item() == pytest.approx(64**-0.5, rel=0.05)
    for name, parameter in network.blocks.named_parameters():
        if parameter.ndim == 2:
            bound = math.sqrt(6 / sum(parameter.shape))
            assert 0.95 * bound < parameter.abs().max().item() <= bound
        else:
            assert parameter.unique().tolist() == [1.0 if name.endswith("norm.weight") else 0.0]


def test_dropout_is_of_training_alone_and_drawn_from_the_global_seed():
    network = built(dropout=0.5).network
    ids = torch.from_numpy(tokens(48).reshape(2, 24))
    still = [network(ids) for _ in range(2)]
    assert torch.equal(*still)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(network.train()(ids))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert not torch.allclose(drawn[0], still[0])


def test_it_is_saved_loaded_and_grouped(tmp_path):
    model = built()
    model.save(tmp_path)
    again = models.load(tmp_path)
    assert isinstance(again, Transformer2017)
    assert np.array_equal(model.score([tokens(40)])[0], again.score([tokens(40)])[0])
    groups = model.network.parameter_groups()
    assert [len(groups[name]) for name in ("matrices", "embeddings", "vectors")] == [12, 1, 12]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 0}, "layers is 0"),
        ({"width": 18, "heads": 4}, "multiple of heads"),
        ({"dropout": -0.1}, "dropout is -0.1"),
    ],
)
def test_shapes_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ModelError, match=message):
        models.build(SMALL | changes, V, END)
