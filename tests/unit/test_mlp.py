"""The fixed window: a gradient by hand against autograd and finite differences, and what a prediction may see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pileline import models
from pileline.models import mlp
from pileline.models import mlp_lesson as lesson
from pileline.models.mlp import LOSSES, Weights
from pileline.training import Plan, derived, loop

from tests.unit.small_models import END, Rows, V, built, entry, tokens

either_loss = pytest.mark.parametrize("loss", LOSSES)
either_output = pytest.mark.parametrize("direct", [True, False])


def padded(shape=(4, 8), seed=0):
    """Inputs and targets, some of which are padding."""
    ids = torch.from_numpy(tokens(2 * shape[0] * shape[1], seed).reshape(2, *shape))
    targets = ids[1].clone()
    targets[1, 5:], targets[2, 0] = -100, -100
    return ids[0], targets


def windows(ids, window):
    """The tokens seen at each place, one place at a time."""
    found = np.full((len(ids), window), END)
    for place in range(len(ids)):
        for back in range(window):
            if place - back < 0:
                break
            found[place, window - 1 - back] = ids[place - back]
            if ids[place - back] == END:
                break
    return found


def reference_logits(weights, seen):
    """Logits by torch's own layers: Embedding, Linear, Tanh, Linear."""
    x = F.embedding(seen, weights.embedding).flatten(1)
    h = torch.tanh(x @ weights.hidden.T + weights.hidden_bias)
    width = h.size(1)
    z = h @ weights.output[:, :width].T + weights.output_bias
    return z + x @ weights.output[:, width:].T if weights.output.size(1) > width else z


def reference_error(weights, seen, targets, loss):
    """The sum of the errors, with nothing of this library's but the weights."""
    logits, real = reference_logits(weights, seen), targets >= 0
    if loss == "cross-entropy":
        return F.cross_entropy(logits, targets, reduction="sum", ignore_index=-100)
    right = F.one_hot(targets[real], V)
    return F.mse_loss(logits[real].softmax(-1), right.to(logits.dtype), reduction="sum")


def doubled(model):
    return Weights(*(weight.detach().double().requires_grad_() for weight in model.network.weights))


# ------------------------------------------------------------------------------------------ the gradient


@either_loss
@either_output
def test_the_gradient_by_hand_is_autograds(loss, direct, monkeypatch):
    monkeypatch.setattr(mlp, "LOGITS_AT_ONCE", 5 * V)  # seven blocks of rows, the last one not full
    ids, targets = padded()
    weights = doubled(built("mlp", direct=direct))
    seen, targets = mlp.histories(ids, 3, END).flatten(0, 1), targets.flatten()
    expected = reference_error(weights, seen, targets, loss)
    gradients = torch.autograd.grad(expected, weights)
    with torch.no_grad():
        found, by_hand = mlp.passes(seen, targets, weights, loss)
    torch.testing.assert_close(found, expected.detach())
    for name, mine, theirs in zip(Weights._fields, by_hand, gradients, strict=True):
        assert theirs.abs().max() > 1e-2, name  # nothing proved by zeros
        torch.testing.assert_close(mine, theirs, msg=name)


@either_loss
@either_output
def test_the_gradient_by_hand_is_that_of_finite_differences(loss, direct):
    ids, targets = padded()
    weights = [weight.detach() for weight in doubled(built("mlp", direct=direct))]
    seen, targets = mlp.histories(ids, 3, END).flatten(0, 1), targets.flatten()
    _, gradient = mlp.passes(seen, targets, Weights(*weights), loss)
    generator, step = torch.Generator().manual_seed(1), 1e-5
    for number, exact in enumerate(gradient):
        direction = torch.randn(exact.shape, generator=generator, dtype=exact.dtype)
        ends = []
        for sign in (1, -1):
            moved = [*weights]
            moved[number] = weights[number] + sign * step * direction
            ends.append(mlp.passes(seen, targets, Weights(*moved), loss)[0])
        slope = (ends[0] - ends[1]) / (2 * step)
        torch.testing.assert_close(slope, (exact * direction).sum(), rtol=1e-6, atol=1e-7)


@either_loss
def test_padding_has_no_say(loss):
    ids, targets = padded()
    network = built("mlp", loss=loss).network.train()

    def gradient(inputs, targets):
        network.zero_grad()
        found = network.loss(inputs, targets)
        found.backward()
        return found.item(), [parameter.grad.clone() for parameter in network.parameters()]

    found, parts = gradient(ids, targets)
    last_row = ids.clone()
    last_row[1, 5:] = 7  # seen by padding alone
    again, same = gradient(last_row, targets)
    assert found == again
    assert all(map(torch.equal, parts, same))
    weights = Weights(*(weight.detach() for weight in network.weights))
    seen = mlp.histories(ids, 3, END).flatten(0, 1)
    assert found == pytest.approx(reference_error(weights, seen, targets.flatten(), loss).item() / 28, rel=1e-5)
    nothing, zeros = gradient(ids, torch.full_like(targets, -100))
    assert nothing == 0.0
    assert not any(part.any() for part in zeros)


@either_loss
def test_what_is_done_with_the_loss_goes_through_to_the_weights(loss):
    """The chain rule goes on above: half the square of the loss has the loss times its gradient."""
    ids, targets = padded()
    gradients = []
    for square in (False, True):
        network = built("mlp", loss=loss).network.train()
        found = network.loss(ids, targets)
        (found.square() / 2 if square else found * found.detach()).backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    for plain, squared in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, squared)


def test_losses_are_those_of_the_chances_and_mse_teaches_nothing_where_it_is_wrong():
    """At p_y near 0 the cross-entropy's slope is 1, and that of the squared error has gone."""
    logits = torch.zeros(1, V, dtype=torch.float64)
    logits[0, 4] = 20.0  # nearly sure, of token 4; it was token 9
    target = torch.tensor([9])
    error, slope = mlp.error_and_slope(logits.clone(), target, "cross-entropy")
    assert (error.item(), slope[0, 9].item()) == (pytest.approx(20.0, abs=1e-6), pytest.approx(-1.0, abs=1e-6))
    error, slope = mlp.error_and_slope(logits.clone(), target, "mse")
    assert error.item() == pytest.approx(2.0, abs=1e-6)
    assert slope.abs().max() < 1e-6


def test_bfloat16_products_give_nearly_the_same_gradient():
    ids, targets = padded()
    parts = []
    for enabled in (False, True):
        network = built("mlp").network.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found = network.loss(ids, targets)
        found.backward()
        parts.append(torch.cat([parameter.grad.flatten() for parameter in network.parameters()]))
        assert parts[-1].dtype == torch.float32
    assert not torch.equal(*parts)
    assert F.cosine_similarity(*parts, dim=0) > 0.999


# ---------------------------------------------------------------------------------------- what it sees


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(0, 5), min_size=6, max_size=6), min_size=1, max_size=3), st.integers(1, 8))
def test_a_place_sees_the_last_tokens_of_its_document(rows, window):
    found = mlp.histories(torch.tensor(rows), window, END).numpy()
    assert np.array_equal(found, np.stack([windows(row, window) for row in rows]))


def reference(model, ids):
    """Log probabilities [n, V] after each of `ids`, in float64."""
    seen = torch.from_numpy(windows(ids, model.shape.window))
    return reference_logits(doubled(model), seen).log_softmax(-1).detach().numpy()


@settings(max_examples=20)
@given(st.integers(0, 60), st.integers(1, 4), st.integers(8, 16), st.booleans())
def test_scores_are_those_of_torchs_layers_whatever_the_context(length, window, context, direct):
    model, document = built("mlp", window=window, context=context, direct=direct), tokens(length, seed=length)
    expected = reference(model, np.append(END, document))
    np.testing.assert_allclose(model.score([document])[0], expected[np.arange(length), document], atol=1e-4)
    state = model.network.extend(torch.from_numpy(np.append(END, document)[None]), {})[1]
    assert state["tokens"].size(1) <= window - 1  # to go on from it takes no more


# ------------------------------------------------------------------------------------------- learning


@pytest.fixture
def text():
    """Batches of text in which each token follows from the two before."""
    rows = np.random.default_rng(2).integers(4, V, (5, 16, 9))
    for place in range(2, 9):
        rows[:, :, place] = 4 + (rows[:, :, place - 1] + 2 * rows[:, :, place - 2]) % (V - 4)
    return Rows(rows)


@either_loss
def test_it_learns_and_is_judged_in_nats_whatever_it_learns_by(tmp_path, text, loss):
    model = models.build(entry("mlp", loss=loss, embedding=16, hidden=64), V, END, 1)
    batch = [torch.from_numpy(part) for part in text.batch_at(0)]
    network = model.network.eval()
    assert network.loss(*batch).item() == pytest.approx(np.log(V), abs=1e-4)  # nothing known at the start
    plan = derived.settle(Plan.of({"steps": 120, "batch_tokens": 128, "precision": "float32"}, set()), 128, 5)
    loop.run(model, text, None, plan, 1, 1, tmp_path, tmp_path)
    with torch.no_grad():
        logits = network.eval()(batch[0]).flatten(0, 1)
    found = network.loss(*batch).item()
    assert found == pytest.approx(F.cross_entropy(logits, batch[1].flatten()).item(), rel=1e-5)
    own = network.train().loss(*batch).item()
    assert own == pytest.approx(found) if loss == "cross-entropy" else own < found
    assert found < np.log(V) - 0.5
    assert own < 0.5  # from 3.3 nats, or a squared error of 0.97; one of eight tokens is drawn


def test_sgd_takes_the_steps_of_a_bare_torch_loop(tmp_path, text):
    model = built("mlp", 4)
    bare = [weight.detach().clone().requires_grad_() for weight in model.network.weights]
    settings = {"optimizer": "sgd", "rate": 0.5, "schedule": "constant", "warmup": 0, "clip": 0.0, "steps": 10}
    plan = derived.settle(Plan.of(settings | {"precision": "float32"}, set()), 128, 5)
    optimizer = torch.optim.SGD(bare, lr=0.5)
    for step in range(10):
        inputs, targets = (torch.from_numpy(part) for part in text.batch_at(step))
        seen = torch.from_numpy(np.concatenate([windows(row, 3) for row in inputs.tolist()]))
        (reference_error(Weights(*bare), seen, targets.flatten(), "cross-entropy") / 128).backward()
        optimizer.step()
        optimizer.zero_grad()
    start = [weight.detach().clone() for weight in model.network.weights]
    loop.run(model, text, None, plan, 1, 1, tmp_path, tmp_path)
    for begun, found, expected in zip(start, model.network.weights, bare, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        assert (found - begun).abs().max() > 1e-3


@either_output
def test_parameters_are_counted_and_grouped(direct):
    model = built("mlp", direct=direct)
    outer = 6 + (12 if direct else 0)
    assert model.parameters_count == V * 4 + 6 * 12 + 6 + V * outer + V
    groups = model.network.parameter_groups()
    assert [len(groups[name]) for name in ("matrices", "embeddings", "vectors")] == [1, 2, 2]


# ------------------------------------------------------------------------------- what the notebook shows


@either_loss
def test_a_gradient_that_is_wrong_is_told_from_one_that_is_right(loss, monkeypatch):
    model = built("mlp", loss=loss)
    seen, coming = lesson.examples(tokens(40), 3, END)
    weights = lesson.double(model.network, 1)
    right = lesson.compare(seen, coming, weights, loss, seed=1)
    assert [record["table"] for record in right] == list(Weights._fields)
    assert sum(record["numbers"] for record in right) == model.parameters_count
    assert max(record["autograd"] for record in right) < 1e-12
    assert max(record["differences"] for record in right) < 1e-5
    slow = mlp.passes

    def without_the_bend(*arguments):  # tanh' taken for 1.01 tanh'
        total, gradient = slow(*arguments)
        return total, gradient._replace(hidden=1.01 * gradient.hidden)

    monkeypatch.setattr(lesson, "passes", without_the_bend)
    wrong = lesson.compare(seen, coming, weights, loss, seed=1)
    for record in wrong:
        bad = record["table"] == "hidden"
        assert (record["autograd"] > 1e-3, record["differences"] > 1e-3) == (bad, bad)
    assert min(lesson.difference_errors(seen, coming, weights, loss, [1e-4, 1e-5, 1e-6], 1)) > 1e-3


def test_examples_are_the_windows_of_a_stream_and_what_came():
    stream = np.append(END, tokens(30))
    seen, coming = lesson.examples(stream, 4, END)
    assert np.array_equal(seen.numpy(), windows(stream[:-1].tolist(), 4))
    assert np.array_equal(coming.numpy(), stream[1:])


@given(st.lists(st.integers(0, 2000), min_size=2, max_size=50), st.integers(0, 2000))
def test_a_sample_has_a_vocabulary_of_its_own(stream, end):
    numbers, size, ending = lesson.renumbered(np.array(stream), end)
    back = np.array(sorted({*stream, end}))
    assert size == len(back)
    assert back[ending] == end
    assert np.array_equal(back[numbers], stream)


def test_full_batch_descent_takes_torchs_steps_and_parts_take_more_of_them():
    seen, coming = lesson.examples(tokens(65), 3, END)
    network = lesson.small_network(V, END, 3, 1)
    bare = [weight.detach().clone().requires_grad_() for weight in network.weights]
    optimizer, expected = torch.optim.SGD(bare, lr=0.5), []
    for _ in range(5):
        error = reference_error(Weights(*bare), seen, coming, "cross-entropy") / 64
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        expected.append(error.item())
    found = lesson.descend(network, seen, coming, "cross-entropy", rate=0.5, rows=64, rounds=5, seed=1)
    np.testing.assert_allclose(found[:5], expected, rtol=1e-5)
    for weight, theirs in zip(network.weights, bare, strict=True):
        torch.testing.assert_close(weight.detach(), theirs.detach(), rtol=1e-4, atol=1e-6)
    parts = lesson.descend(lesson.small_network(V, END, 3, 1), seen, coming, "cross-entropy", 0.5, 8, 5, 1)
    assert parts[0] == found[0] == pytest.approx(np.log(V), abs=1e-5)
    assert parts[-1] < found[-1] < found[0]


def test_nearest_are_those_of_like_direction_without_the_token_itself():
    network = built("mlp").network
    with torch.no_grad():
        network.embedding.weight[7] = 3.0 * network.embedding.weight[11]
    near = lesson.nearest(network, 11, 3, range(V))
    assert near[0] == 7
    assert 11 not in near
    assert sorted(lesson.nearest(network, 0, 999, range(V))) == list(range(1, V))
    assert 7 not in lesson.nearest(network, 11, 3, [token for token in range(V) if token != 7])
