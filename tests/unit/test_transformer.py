"""The transformer: parity with an independent forward pass in numpy, and the properties its parts promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pileline import models
from pileline.models.device import choose_device, choose_precision
from pileline.models.interface import LanguageModel, ModelError
from pileline.models.neural import windows
from pileline.models.transformer import Transformer, rotate, rotation

V, END = 53, 3
SMALL = {"kind": "transformer", "layers": 2, "heads": 2, "width": 16, "context": 24, "bigrams": 31}


def built(seed=1, **changes):
    """A small model whose every parameter is random, so that no part is silent."""
    model = models.build(SMALL | changes, V, END, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def tokens(n, seed=0):
    return np.random.default_rng(seed).integers(0, V, n)


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
    model = built(**changes)
    ids = tokens(19)
    with torch.no_grad():
        found = model.network(torch.from_numpy(ids[None]))[0].numpy()
    expected = reference(model, ids)
    assert np.abs(expected).max() > 0.5  # a silent network would prove nothing
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("heads", [{"heads": 2}, {"heads": 4, "key_value_heads": 2}])
def test_with_shifted_keys_the_first_layer_looks_at_what_followed_a_token_before(heads, monkeypatch):
    model = models.build(SMALL | {"key_shift": 1, "layers": 1} | heads, V, END, seed=3)
    ids = torch.tensor([[5, 9, 3, 7, 11, 5, 2, 9]])
    seen = {}

    def attention(query, key, value):
        seen["fit"] = (query @ key.repeat_interleave(query.size(1) // key.size(1), dim=1).mT)[0]
        return value.repeat_interleave(query.size(1) // key.size(1), dim=1)

    monkeypatch.setattr("pileline.models.transformer.causal_attention", attention)
    with torch.no_grad():
        model.network(ids)
    alike = model.shape.heads // model.shape.groups  # heads that share a key; the first of them is made as it is
    fits = seen["fit"][::alike].mean(dim=0)
    assert fits[5, : 5 + 1].argmax() == 1  # at the second 5, what followed the first
    assert fits[7, : 7 + 1].argmax() == 2  # at the second 9


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 23), st.integers(0, 1000))
def test_the_future_does_not_matter(place, seed):
    model = built()
    ids = torch.from_numpy(tokens(24, seed))[None]
    other = ids.clone()
    other[:, place:] = (other[:, place:] + 7) % V
    with torch.no_grad():
        a, b = model.network(ids), model.network(other)
    torch.testing.assert_close(a[:, :place], b[:, :place], rtol=0, atol=1e-6)
    assert not torch.allclose(a[:, place:], b[:, place:], atol=1e-3)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 20), st.integers(0, 100))
def test_rotary_products_depend_on_the_distance_alone(i, j, shift, seed):
    generator = torch.Generator().manual_seed(seed)
    query, key = torch.randn(2, 8, generator=generator, dtype=torch.float64)
    cosine, sine = (table.double() for table in rotation(64, 8))

    def product(a, b):
        return rotate(query, cosine[a], sine[a]) @ rotate(key, cosine[b], sine[b])

    assert product(i, j).item() == pytest.approx(product(i + shift, j + shift).item(), abs=1e-5)
    assert rotate(query, cosine[i], sine[i]).norm().item() == pytest.approx(query.norm().item(), rel=1e-6)


@pytest.mark.parametrize("tied", [True, False])
def test_the_first_loss_is_ln_v(tied):
    model = models.build(SMALL | {"tied": tied}, V, END, seed=5)
    ids = torch.from_numpy(tokens(48).reshape(2, 24))
    assert model.network.loss(ids, ids).item() == pytest.approx(math.log(V), abs=1e-6)


def test_initial_weights_depend_on_the_seed_alone():
    torch.manual_seed(1)
    first = models.build(SMALL, V, END, seed=5).network.state_dict()
    torch.manual_seed(2)
    again, other = (models.build(SMALL, V, END, seed=s).network.state_dict() for s in (5, 6))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["embedding.weight"], other["embedding.weight"])


def test_building_leaves_the_global_generator_alone():
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    model = built()
    model.generate(tokens(3), 4, seed=1)
    assert torch.equal(torch.rand(1), expected)


def test_parameters_are_counted_and_each_is_in_one_group():
    model = built(tied=False)
    width, layers = 16, 2
    expected = 2 * V * width + 31 * width + layers * 12 * width**2 + layers
    assert model.parameters_count == expected == sum(count for _, _, count in model.describe())
    groups = model.network.parameter_groups()
    assert sum(p.numel() for group in groups.values() for p in group) == expected
    assert {p.ndim for p in groups["matrices"]} == {2}
    assert [len(groups[name]) for name in ("embeddings", "tables")] == [2, 1]
    assert [len(built().network.parameter_groups()[name]) for name in ("embeddings", "tables")] == [1, 1]


@settings(deadline=None)
@given(st.lists(st.integers(0, 100), max_size=8), st.integers(2, 30))
def test_windows_score_every_place_once_with_enough_context(lengths, context):
    scored = {(d, i): 0 for d, n in enumerate(lengths) for i in range(n)}
    for window in windows(lengths, context):
        assert 0 <= window.start <= window.scored < window.stop <= window.start + context
        assert window.start == 0 or window.scored - window.start >= context // 2
        for place in range(window.scored, window.stop):
            scored[window.document, place] += 1
    assert set(scored.values()) <= {1}


def test_score_of_a_short_document_is_the_chain_rule():
    model = built()
    document = tokens(20)
    expected = [math.log(model.next_probabilities(document[:i])[token]) for i, token in enumerate(document)]
    assert model.score([document])[0] == pytest.approx(expected, abs=1e-4)


def test_score_of_a_long_document_sums_windows_that_see_what_they_say():
    model = built()
    document = tokens(100)
    found = model.score([document])[0]
    inputs = np.append(END, document)[:-1]
    for window in windows([len(inputs)], 24):
        with torch.no_grad():
            logits = model.network(torch.from_numpy(inputs[None, window.start : window.stop]))[0]
        direct = torch.log_softmax(logits.double(), -1)
        for place in range(window.scored, window.stop):
            expected = direct[place - window.start, document[place]].item()
            assert found[place] == pytest.approx(expected, abs=1e-4)


def test_score_does_not_depend_on_the_batch(monkeypatch):
    model = built()
    documents = [tokens(n, seed=n) for n in (5, 70, 0, 24, 1, 25, 33)]
    together = model.score(documents)
    monkeypatch.setattr("pileline.models.neural.SCORED_AT_ONCE", 1)
    monkeypatch.setattr("pileline.models.neural.LOGITS_AT_ONCE", 1)
    for document, found in zip(documents, together, strict=True):
        assert len(found) == len(document)
        np.testing.assert_allclose(model.score([document])[0], found, atol=1e-5)


def test_features_are_the_mean_of_the_final_hidden_states():
    model = built()
    documents = [tokens(10, 1), tokens(3, 2)]
    found = model.features(documents)
    assert found.shape == (2, 16)
    assert found.dtype == np.float32
    with torch.no_grad():
        hidden = model.network.hidden(torch.from_numpy(np.append(END, documents[1])[None]))[0]
    np.testing.assert_allclose(found[1], hidden.mean(0).numpy(), atol=1e-5)


def test_saved_and_loaded_is_the_same_model(tmp_path):
    model = built()
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        model.save(folder)
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    again = models.load(tmp_path / "a")
    assert isinstance(again, Transformer)
    documents = [tokens(40)]
    assert np.array_equal(model.score(documents)[0], again.score(documents)[0])


def test_generates_from_its_own_generator_within_the_context():
    model = built()
    first, same, other = (model.generate(tokens(30), 12, top_k=20, seed=s) for s in (1, 1, 2))
    assert first.tolist() == same.tolist() != other.tolist()
    assert model.generate(tokens(5), 6, temperature=0.0, seed=1).tolist() == (
        model.generate(tokens(5), 6, temperature=0.0, seed=2).tolist()
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 0}, "layers is 0"),
        ({"width": 18, "heads": 4}, "even multiple of heads"),
        ({"bigrams": -1}, "bigrams is -1"),
        ({"heads": 4, "key_value_heads": 3}, "key_value_heads is 3, must divide heads"),
        ({"mlp_kind": "gelu"}, "mlp_kind is 'gelu'"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_shapes_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ModelError, match=message):
        models.build(SMALL | changes, V, END)


@pytest.mark.parametrize("kind", ["relu2", "gated"])
def test_both_mlps_have_nearly_as_many_parameters(kind):
    model = models.build(SMALL | {"width": 96, "heads": 4, "mlp_kind": kind}, V, END)
    assert sum(p.numel() for p in model.network.blocks[0].mlp.parameters()) == 8 * 96**2


def test_dropout_is_of_training_alone_and_follows_the_global_generator():
    model = built(dropout=0.5)
    ids = torch.from_numpy(tokens(24)[None])
    with torch.no_grad():
        plain = built().network.eval()(ids)
        assert torch.equal(model.network.eval()(ids), plain)
        torch.manual_seed(3)
        first = model.network.train()(ids)
        other = model.network(ids)
        torch.manual_seed(3)
        assert torch.equal(model.network(ids), first)
    assert not torch.allclose(first, plain)
    assert not torch.allclose(first, other)


# ------------------------------------------------------------------------------------------- generation


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.integers(1, 8), min_size=1, max_size=6),
    st.sampled_from([{}, {"documents": "separate", "key_shift": 2}, GROUPED | {"key_shift": 3}]),
    st.integers(0, 99),
)
def test_tokens_read_in_parts_have_the_hidden_states_of_the_whole(lengths, changes, seed):
    network = built(**changes).network.eval()
    whole = tokens(2 * min(sum(lengths), 24), seed).reshape(2, -1)
    whole[np.random.default_rng(seed).random(whole.shape) < 0.1] = END  # several documents
    whole, state, parts, start = torch.from_numpy(whole), {}, [], 0
    with torch.no_grad():
        for length in (n for n in lengths if start < whole.size(1)):
            part, state = network.extend(whole[:, start : start + length], state)
            parts.append(part)
            start += length
        torch.testing.assert_close(torch.cat(parts, dim=1), network.hidden(whole)[:, :start], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("changes", [{"key_shift": 1}, {"documents": "separate"}, GROUPED | {"context": 7}])
@pytest.mark.parametrize("n", [10, 60])  # within the context, and through several windows
def test_generation_writes_the_same_with_and_without_a_cache(changes, n, monkeypatch):
    model = built(**changes)

    def texts():
        return [model.generate(tokens(5), n, temperature=3.0, seed=seed).tolist() for seed in range(4)]

    found = texts()
    monkeypatch.setattr(Transformer, "predictions", LanguageModel.predictions)  # computes all for each token
    assert texts() == found
    assert max(map(len, found)) > n / 2  # some went on before they drew the end


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(0, 40))
def test_scores_are_the_chances_that_generation_has(context, length):
    model = built(context=context)
    document = tokens(length)
    expected = [math.log(model.next_probabilities(document[:i])[token]) for i, token in enumerate(document)]
    assert model.score([document])[0] == pytest.approx(expected, abs=1e-4)


def test_device_and_precision_are_chosen_or_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == "cpu"
    with pytest.raises(ModelError, match="no CUDA device"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert choose_precision("auto", "cpu") == "float32"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert choose_precision("auto", "cpu") == "bfloat16"
    assert choose_precision("float32", "cpu") == "float32"
    with pytest.raises(ModelError, match="precision 'int8'"):
        choose_precision("int8", "cpu")
