"""What a step does with its gradient, and when it is not taken: clipping, penalties, spikes, too little memory."""

from __future__ import annotations

import copy
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pileline import models, training
from pileline.models import mlp
from pileline.training import advice, derived, live, loop, spikes
from pileline.training.group import Group
from pileline.training.outcome import Outcome

from tests.unit import small_models
from tests.unit.test_training import END, SMALL, Dropping, Memory, Size, V, folders, same, trained, weights


def started(tmp_path, **plan):
    plan = {"warmup": 0, "precision": "float32", "optimizer": "sgd", "rate": 1.0, "schedule": "constant"} | plan
    return loop.Run(models.build(SMALL, V, END, 1), derived.Settled(**plan), 1, 1, "", tmp_path, Group())


def take(run, batch):
    return run.update(batch, loop.predicted(batch))


# ----------------------------------------------------------------------------------------- the gradient


@pytest.mark.parametrize("clip", [0.0, 0.01, 1e6])
def test_a_step_is_clipped_as_torch_clips(tmp_path, clip):
    run, batch = started(tmp_path, clip=clip), Memory().batch_at(0)
    network = copy.deepcopy(run.network)
    take(run, batch)
    network.loss(*map(torch.from_numpy, batch)).backward()
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), clip or math.inf)
    for found, parameter in zip(run.network.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(found, parameter - parameter.grad)
    assert run.last[1] == pytest.approx(norm.item(), rel=1e-5)


def test_penalties_are_those_of_a_loss_that_has_them(tmp_path):
    run, batch = started(tmp_path, clip=0.0, l1=0.003, l2=0.02), Memory().batch_at(0)
    network = copy.deepcopy(run.network)
    loss = network.loss(*map(torch.from_numpy, batch))
    matrices = network.parameter_groups()["matrices"]
    (loss + sum(0.003 * w.abs().sum() + 0.02 / 2 * w.square().sum() for w in matrices)).backward()
    take(run, batch)
    assert run.last[0] == pytest.approx(loss.item(), rel=1e-6)  # the loss is still of the text alone
    for found, parameter in zip(run.network.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(found, parameter - parameter.grad)


# --------------------------------------------------------------------------------------------------- spikes


@settings(max_examples=30)
@given(st.lists(st.floats(2.0, 2.1), max_size=300), st.lists(st.floats(0.0, 1.0), min_size=300))
def test_a_loss_that_is_steady_and_a_norm_below_the_clip_are_no_spikes(losses, norms):
    seen = spikes.Spikes()
    assert not any(seen.skip(loss, norm, 1.0) for loss, norm in zip(losses, norms, strict=False))


@settings(max_examples=30)
@given(st.lists(st.floats(0.0, 10.0), min_size=64, max_size=300), st.floats(0.001, 5.0))
def test_the_limit_is_six_deviations_above_the_mean_of_the_last_128(losses, beyond):
    for sign in (-1, 1):
        seen = spikes.Spikes(losses)
        window = np.array(losses[-128:])
        limit = window.mean() + 6 * max(window.std(), 0.02)
        assert seen.skip(limit + sign * beyond, 0.0, 1.0) == (sign > 0)


def test_no_number_is_always_a_spike_and_norms_are_judged_beyond_the_clip():
    seen = spikes.Spikes()
    assert [seen.skip(*values, 1.0) for values in ((math.nan, 1.0), (1.0, math.inf), (1.0, 1.0))] == [True, True, False]
    seen = spikes.Spikes([1.0] * 128, [0.5] * 128)
    assert not seen.skip(1.0, 0.99, 1.0)
    assert seen.skip(1.0, 1.01, 1.0)
    assert seen.skip(1.0, 0.99, 0.0)  # without a clip every norm is judged


def test_steps_are_judged_from_the_64th_on():
    seen = spikes.Spikes()
    assert not any(seen.skip(loss, 1.0, 1.0) for loss in [1.0, 100.0] * 31)


def test_a_new_level_is_soon_what_is_usual_but_what_grows_or_is_no_number_is_hopeless():
    level = spikes.Spikes([1.0] * 128, [1.0] * 128)
    assert [level.skip(9.0, 1.0, 1.0) for _ in range(8)] == [True] * 4 + [False] * 4
    for losses in ([10.0**power for power in range(1, 9)], [math.nan] * 8):
        seen = spikes.Spikes([1.0] * 128, [1.0] * 128)
        for count, loss in enumerate(losses, 1):
            assert seen.skip(loss, 1.0, 1.0)
            seen = spikes.Spikes(**seen.state())
            assert bool(seen.hopeless) == (count == 8)
        assert "8 steps in a row" in seen.hopeless
        assert not seen.skip(0.5, 1.0, 1.0)
        assert seen.skipped == 8


def test_a_loss_that_stays_above_where_it_began_is_hopeless():
    seen = spikes.Spikes()
    for loss in [2.0] * 64 + [1.0] * 128:
        seen.skip(loss, 0.1, 1.0)
    steps = 0
    while not seen.hopeless:
        seen = spikes.Spikes(**seen.state())
        seen.skip(2.6, 0.1, 1.0)
        steps += 1
    assert 110 < steps <= 128
    assert "the last 128 losses have a mean of 2.5" in seen.hopeless


def test_a_spike_leaves_the_weights_and_the_optimizer_as_they_were(tmp_path):
    run = started(tmp_path, optimizer="adamw", rate=0.01)
    usual, odd = Memory(batch=2, epoch_steps=1).batch_at(0), Memory(seed=9).batch_at(0)
    for _ in range(80):
        take(run, usual)
    before, losses = weights(run.model), len(run.recent)
    memory = copy.deepcopy(run.optimizers[0].state_dict())
    take(run, odd)
    assert same(before, weights(run.model))
    after = run.optimizers[0].state_dict()
    assert all(
        torch.equal(after["state"][n][name], memory["state"][n][name])
        for n in memory["state"]
        for name in ("exp_avg", "step")
    )
    assert (run.step, run.spikes.skipped, len(run.recent)) == (81, 1, losses)
    take(run, usual)
    assert not same(before, weights(run.model))


class Remembering(Dropping):
    """With a running mean of what it has seen, as a BatchNorm has."""

    def make(self):
        network = super().make()
        network.norm = torch.nn.BatchNorm1d(self.shape.width)
        hidden = network.hidden
        network.hidden = lambda tokens: network.norm(hidden(tokens).flatten(0, 1)).view(*tokens.shape, -1)
        return network


def test_a_step_that_is_skipped_leaves_the_running_means_too(tmp_path):
    run = loop.Run(Remembering(Size(), V, END), derived.Settled(), 1, 1, "", tmp_path, Group())
    take(run, Memory().batch_at(0))
    before = weights(run.model)
    with torch.no_grad():
        row, run.network.embedding.weight[1] = run.network.embedding.weight[1].clone(), math.nan
    take(run, Memory().batch_at(1))
    with torch.no_grad():
        run.network.embedding.weight[1] = row
    assert (run.step, run.spikes.skipped) == (2, 1)
    assert same(before, weights(run.model))


def test_to_count_the_products_of_a_step_leaves_the_running_means():
    network = Remembering(Size(), V, END).network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert live.flops(network, 8) > 0
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network.norm.training


def test_no_gradient_where_there_is_a_loss_is_hopeless():
    seen = spikes.Spikes()
    for loss, norm in [(3.0, 0.0)] * 7 + [(3.0, 0.1)] + [(0.0, 0.0)] * 20:  # a text known by heart has none either
        seen = spikes.Spikes(**seen.state())
        seen.skip(loss, norm, 1.0)
        assert not seen.hopeless
    for _ in range(8):
        assert not seen.hopeless
        seen.skip(3.0, 0.0, 1.0)
    assert "the gradient has been 0 for 8 steps" in seen.hopeless


@pytest.mark.parametrize("rates", [{"matrix_rate": 1e9}, {"optimizer": "sgd", "rate": 1e9}, {"embedding_rate": 1e20}])
def test_weights_that_overflow_stop_training_though_the_loss_is_a_number(tmp_path, rates):
    with pytest.raises(
        training.TrainingError, match=r"the loss is 3\.689, .*gradient has been 0 .*lower .*rate \(1e\+"
    ):
        trained(folders(tmp_path), derived.Settled(**{"steps": 100, "precision": "float32"} | rates))


def test_a_loss_that_ends_far_above_ln_v_stops_and_says_what_to_change(tmp_path):
    """Also when it is run again, whose last step has been taken."""
    absurd = {"optimizer": "adamw", "rate": 3.0, "weight_decay": 0.01, "clip": 0.0, "schedule": "constant"}
    plan = derived.Settled(steps=140, warmup=0, precision="float32", **absurd)
    folder = folders(tmp_path)
    says = r"step 140: .* far above ln V = 3\.689.*lower rate \(3\), weight_decay \(0\.01\) by half.*, set clip: 1\.0$"
    for _ in range(2):
        with pytest.raises(training.TrainingError, match=says):
            trained(folder, plan)


def test_an_end_is_judged_by_its_last_losses_and_not_after_a_few_steps():
    assert spikes.Spikes([9.0] * 127).level is None
    assert spikes.Spikes([9.0] * 64 + [2.0] * 64).level == 2.0
    assert not advice.thrown_up(None, V, 4.0)
    assert not advice.thrown_up(1.2 * math.log(V), V, None)
    assert advice.thrown_up(1.3 * math.log(V), V, math.log(V))


def test_a_loss_in_other_units_is_judged_by_where_it_began():
    seen = spikes.Spikes()
    for step in range(140):
        seen.skip(500.0 - step, 0.1, 1.0)
        seen = spikes.Spikes(**seen.state())
    assert seen.first == 500.0
    assert not advice.thrown_up(seen.level, V, seen.first)
    assert advice.thrown_up(630.0, V, seen.first)


@pytest.mark.parametrize(
    ("losses", "largest", "says"),
    [
        ((math.log(V), 1.0), 5.0, [rf"its validation loss, {math.log(V):.3f}, is no better"]),
        ((None, 9.0), 5.0, [r"its training loss, 9\.000, is no better"]),
        ((math.log(V) - 0.02, 9.0), 3e11, [r"its largest weight is 3e\+11"]),
        ((9.0, 9.0), math.nan, ["is no better", "its largest weight is nan"]),
        ((None, math.log(V) - 0.02), 5.0, []),
    ],
)
def test_what_makes_a_finished_training_doubtful_is_told(losses, largest, says):
    outcome = Outcome(1, 1, 1.0, losses[1], losses[0], "cpu", "float32", 1)
    found = advice.doubts(outcome, V, largest)
    assert len(found) == len(says)
    assert all(re.search(pattern, doubt) for pattern, doubt in zip(says, found, strict=True))


def test_only_nats_are_compared_with_what_knowing_nothing_costs():
    squared = Outcome(1, 1, 1.0, 1.9, None, "cpu", "float32", 1)  # of probabilities: above ln 6, and 2 at most
    assert advice.doubts(squared, 6, 5.0, in_nats=False) == []
    assert len(advice.doubts(squared, 6, 5.0)) == 1
    assert len(advice.doubts(replace(squared, validation_loss=9.0), 6, 5.0, in_nats=False)) == 1
    shape = {"window": 2, "embedding": 4, "hidden": 4, "context": 8}
    kinds = {
        "mse": mlp.MLP(mlp.Shape(**shape, loss="mse"), V, END),
        "cross-entropy": mlp.MLP(mlp.Shape(**shape), V, END),
    }
    assert {loss: model.network.in_nats for loss, model in kinds.items()} == {"mse": False, "cross-entropy": True}
    assert [small_models.built(kind).network.in_nats for kind in ("lstm", "residual", "transformer")] == [True] * 3


def test_minutes_that_hardly_suffice_to_time_a_step_are_told():
    outcome = Outcome(1, 1, 1.0, 1.0, 1.0, "cpu", "float32", 1, budget={"minutes": 0.001})
    (told,) = advice.doubts(outcome, V, 1.0)
    assert told.startswith("its budget of 0.001 minutes is hardly more than it takes to time a step (8 are taken")
    assert "which left 1 for training" in told
    assert advice.doubts(replace(outcome, steps=8), V, 1.0) == []
    assert advice.doubts(replace(outcome, stopped_early=True), V, 1.0) == []
    assert advice.doubts(replace(outcome, budget={"steps": 1}), V, 1.0) == []


def test_a_decay_that_leaves_nothing_of_a_weight_is_refused():
    with pytest.raises(training.TrainingError, match=r"weight_decay 60 times the rate takes 1\.2 of a weight"):
        derived.settle(training.Plan(weight_decay=60), 64, 10)
    assert derived.settle(training.Plan(weight_decay=40), 64, 10).weight_decay == 40


# --------------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize(
    ("holds", "accumulate", "message"),
    [
        (3, 1, "with 8 rows of 8 tokens at once; 2 fit: set accumulate: 4, .* or batch_tokens: 16"),
        (3, 2, "with 4 rows of 8 tokens at once; 2 fit: set accumulate: 4, .* or batch_tokens: 32"),
        (0, 1, "a single row does not fit either: lower context"),
    ],
)
def test_too_little_memory_says_which_batch_fits(tmp_path, holds, accumulate, message):
    run = started(tmp_path, accumulate=accumulate)
    compute = run.step_loss

    def loss(inputs, targets):
        if len(inputs) > holds:
            raise torch.OutOfMemoryError("out of memory")
        return compute(inputs, targets)

    run.step_loss = loss
    batch = Memory(batch=8).batch_at(0)
    with pytest.raises(training.TrainingError, match=message) as error:
        loop.take(run, batch, loop.predicted(batch))
    fitting = re.search(r"accumulate: (\d+)", str(error.value))
    if fitting:  # what it says is true
        run = started(tmp_path, accumulate=int(fitting[1]))
        run.step_loss = loss
        loop.take(run, batch, loop.predicted(batch))
        assert run.step == 1


def test_a_process_among_several_does_not_try_what_fits(tmp_path):
    """The others wait for it in the middle of the step."""
    run = started(tmp_path, accumulate=2)
    calls = []

    def loss(inputs, targets):
        calls.append(len(inputs))
        raise torch.OutOfMemoryError("out of memory")

    run.step_loss, run.group.ranks = loss, 2
    batch = Memory(batch=8).batch_at(0)
    with pytest.raises(training.TrainingError, match=r"with 4 rows of 8 tokens at once; raise accumulate \(2\)"):
        loop.take(run, batch, loop.predicted(batch))
    assert calls == [4]
