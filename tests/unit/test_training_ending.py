"""When training ends, and with which weights: early stopping, and a budget of minutes that repeats exactly."""

from __future__ import annotations

import itertools
import json
import math
from types import SimpleNamespace

import pytest
import torch
from pileline import manifest
from pileline.training import budget, checkpoint, derived, loop
from pileline.training.group import Group

from tests.unit.test_training import END, Dropping, Memory, Size, V, folders, same, trained, weights

HEART = {"batch": 2, "epoch_steps": 1}  # a batch to learn by heart, while all else gets worse
EARLY = {"steps": 200, "warmup": 2, "validations": 40, "precision": "float32"}


def test_training_ends_when_the_validation_loss_has_stopped_falling_with_the_best_weights(tmp_path):
    plan, held_out = derived.Settled(**EARLY, patience=2), Memory(seed=4)
    folder = folders(tmp_path)
    model, outcome = trained(folder, plan, Memory(**HEART), held_out)
    measured = {point["step"]: point["validation_loss"] for point in outcome.curve if point["validation_loss"]}
    assert outcome.stopped_early
    assert outcome.steps == max(measured) < 200
    assert outcome.best_step == min(measured, key=measured.__getitem__) == outcome.steps - 2 * 5
    run = loop.Run(model, plan, 1, 1, "", tmp_path, Group())
    assert run.validate(held_out) == pytest.approx(measured[outcome.best_step], rel=1e-6)
    again, repeated = trained(folder, plan, Memory(**HEART), held_out)
    assert repeated == outcome
    assert same(weights(model), weights(again))


def test_without_patience_the_last_weights_stay_and_the_best_are_kept_meanwhile(tmp_path):
    plan = derived.Settled(**EARLY | {"steps": 60, "validations": 12})
    folder = folders(tmp_path)
    model, outcome = trained(folder, plan, Memory(**HEART), Memory(seed=4))
    assert not outcome.stopped_early
    assert outcome.steps == 60 > outcome.best_step
    last = loop.Run(Dropping(Size(), V, END), plan, 1, 1, "", folder[1], Group())
    best = checkpoint._read(folder[1] / checkpoint.BEST)
    assert best["step"] == outcome.best_step
    assert not same(best["network"], weights(model))
    with pytest.raises(FileNotFoundError, match="is not of this run's step 7"):
        checkpoint.load_best(folder[1], last.identity, 7)


def test_minutes_become_steps_once(tmp_path, capsys, monkeypatch):
    """Measured on a copy, recorded beside scratch, and read again by a run of the same settings alone."""
    times = itertools.count(step=0.001)  # what a step takes: the clock is looked at before and after it
    monkeypatch.setattr(budget, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    model, scratch = Dropping(Size(), V, END), tmp_path / "scratch"
    before = weights(model)

    def steps(minutes=0.01, seed=1):
        plan = derived.Settled()
        return budget.steps_in(minutes, model, Memory(), plan, seed, 1, scratch, "", Group())

    first = steps()
    assert same(before, weights(model))
    assert not scratch.exists()
    place = tmp_path / "scratch.budget.json"
    record = json.loads(place.read_text())
    assert record["seconds_a_step"] == 0.001
    assert record["steps"] == first
    assert 0.95 * 600 < first < 600  # of 0.6 seconds, less those that went into measuring
    place.write_text(json.dumps(record | {"steps": 7}))
    assert steps() == 7
    assert f"0.01 minutes are 7 steps on this machine ({place})" in capsys.readouterr().out
    assert steps(seed=2) == first
    for damaged in ("", "[]", '{"steps": 7}'):
        place.write_text(damaged)
        assert steps() == first


def test_a_validation_loss_that_is_no_number_is_never_the_best_and_is_left_out_of_the_log(tmp_path):
    """JSON has no word for it; the manifest, which refuses it, is written when all is done."""

    class Poisoned(Dropping):
        def make(self):
            network = super().make()
            network.register_buffer("poison", torch.tensor(math.nan))
            loss = network.loss
            network.loss = lambda *batch: loss(*batch) if network.training else loss(*batch) * network.poison
            return network

    model, (output, scratch) = Poisoned(Size(), V, END), folders(tmp_path)
    plan = derived.Settled(**EARLY | {"patience": 3})
    outcome = loop.run(model, Memory(), Memory(seed=4), plan, 1, 1, output, scratch)
    assert (outcome.stopped_early, outcome.best_step) == (True, None)
    assert {point["validation_loss"] for point in outcome.curve} == {None}
    manifest.canonical_json(outcome.metrics())
