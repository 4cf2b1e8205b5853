"""The LSTM: parity with its equations in numpy, a state that reaches across windows, and the classic recipe's steps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pileline import models
from pileline.models.lstm import EMBEDDING_RANGE, LSTM
from pileline.training import Plan, derived, loop

from tests.unit.small_models import END, Rows, V, built, entry, tokens


def reference(model, ids):
    """Log probabilities [n, V] after each of `ids`, in float64 from the equations, one token at a time."""
    p = {name: value.detach().double().numpy() for name, value in model.network.named_parameters()}
    width, x = model.shape.width, p["embedding.weight"][ids]

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    for layer in range(model.shape.layers):
        w, u, b, d = (p[f"layers.{layer}.{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        h, c, states = np.zeros(width), np.zeros(width), []
        for row in x:
            i, f, g, o = np.split(w @ row + b + u @ h + d, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            states.append(h)
        x = np.array(states)
    logits = x @ p["head.weight"].T + p["head.bias"]
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@pytest.mark.parametrize("layers", [1, 3])
def test_probabilities_equal_the_equations(layers):
    model, ids = built("lstm", layers=layers), tokens(20)
    expected = reference(model, ids)
    with torch.no_grad():
        found = torch.log_softmax(model.network(torch.from_numpy(ids[None]))[0], -1).numpy()
    assert expected.std() > 0.3  # a silent network would prove nothing
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_document_is_scored_from_its_first_token_to_its_last_whatever_the_context(monkeypatch):
    monkeypatch.setattr("pileline.models.lstm.SCORED_AT_ONCE", 8)
    model, document = built("lstm"), tokens(75)  # more than nine times the context
    expected = reference(model, np.append(END, document)[:-1])[np.arange(75), document]
    np.testing.assert_allclose(model.score([document])[0], expected, atol=1e-4)
    assert model.next_probabilities(document) == pytest.approx(
        np.exp(reference(model, np.append(END, document))[-1]), abs=1e-4
    )


def test_what_stood_before_a_window_is_remembered_in_it(monkeypatch):
    monkeypatch.setattr("pileline.models.lstm.SCORED_AT_ONCE", 16)  # eight tokens of each of two documents
    model = built("lstm")
    with torch.no_grad():
        for name, parameter in model.network.named_parameters():
            if "bias_ih" in name:
                parameter[10:20] = 9.0  # forget gates open: the cells keep what they have
    first, second = tokens(40), tokens(40)
    second[:8] = (first[:8] + 5) % V  # of another window than the last
    a, b = model.score([first, second])
    assert np.abs(a[32:] - b[32:]).max() > 1e-3


def test_initial_weights_are_those_of_keras():
    network = models.build(entry("lstm"), V, END, seed=5).network
    assert 0.9 * EMBEDDING_RANGE < network.embedding.weight.abs().max().item() <= EMBEDDING_RANGE
    for layer in network.layers:
        torch.testing.assert_close(layer.weight_hh_l0.T @ layer.weight_hh_l0, torch.eye(10))
        forget = torch.zeros(40)
        forget[10:20] = 1.0
        assert torch.equal(layer.bias_ih_l0 + layer.bias_hh_l0, forget)
    bound = math.sqrt(6 / (10 + V))
    assert 0.9 * bound < network.head.weight.abs().max().item() <= bound


def test_initial_weights_do_not_depend_on_the_number_of_threads():
    found, before = [], torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(models.build(entry("lstm", width=160), V, END, seed=5).network.state_dict())
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_parameters_are_counted_and_grouped():
    model = built("lstm")
    width, embedding = 10, 6
    layers = 4 * width * (embedding + width + 2) + 4 * width * (2 * width + 2)
    assert model.parameters_count == V * embedding + layers + (width + 1) * V
    groups = model.network.parameter_groups()
    assert [len(groups[name]) for name in ("matrices", "embeddings", "vectors")] == [4, 2, 5]


def test_the_classic_recipe_takes_the_steps_of_a_bare_torch_loop(tmp_path):
    """Adam at 0.001, batches of 32, 10 epochs: torch's own modules, loss and optimizer end at the same weights."""
    rows = Rows(np.random.default_rng(2).integers(0, V, (3, 32, 9)))
    recipe = LSTM.training_defaults | {"epochs": 10, "batch_tokens": 32 * 8, "clip": 0.0, "precision": "float32"}
    plan = derived.settle(Plan.of(recipe, set()), 32 * 8, rows.epoch_steps)
    assert (plan.optimizer, plan.rate, plan.steps) == ("adam", 0.001, 30)
    model = models.build(entry("lstm", layers=1), V, END, 4)
    bare = torch.nn.ModuleList(
        [torch.nn.Embedding(V, 6), torch.nn.LSTM(6, 10, batch_first=True), torch.nn.Linear(10, V)]
    )
    bare.load_state_dict(dict(zip(bare.state_dict(), model.network.state_dict().values(), strict=True)))
    optimizer = torch.optim.Adam(bare.parameters(), lr=0.001)
    for step in range(30):
        inputs, targets = (torch.from_numpy(part) for part in rows.batch_at(step))
        logits = bare[2](bare[1](bare[0](inputs))[0])
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
    start = [value.clone() for value in model.network.state_dict().values()]
    loop.run(model, rows, None, plan, 1, 1, tmp_path, tmp_path)
    for begun, found, expected in zip(
        start, model.network.state_dict().values(), bare.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        assert (found - begun).abs().max() > 1e-3
