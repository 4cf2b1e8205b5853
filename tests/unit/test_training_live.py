"""What is shown while training: counted operations, speed, samples; and that clocks stay in `events/`."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from pileline import models
from pileline.training import derived, live, loop

from tests.unit.test_training import END, SMALL, DroppingNetwork, Memory, Size, V, folders, same, trained, weights


def test_operations_are_counted_as_the_formula_says():
    """6 for each weight that multiplies, and 12 * layers * context * width for attention (Chowdhery et al. 2022)."""
    layers, width, context = 2, 16, 24
    entry = SMALL | {"layers": layers, "width": width, "context": context}
    network = models.build(entry, V, END).network
    multiplied = sum(p.numel() for p in network.parameter_groups()["matrices"]) + V * width  # the tied output
    assert live.flops(network, context) == 6 * multiplied + 12 * layers * context * width
    assert all(parameter.grad is None for parameter in network.parameters())


def test_operations_of_long_rows_are_told_from_short_ones(monkeypatch):
    network = models.build(SMALL | {"context": 64}, V, END).network
    exact = live.flops(network, 64)
    monkeypatch.setattr(live, "LONGEST_ROW", 16)
    assert live.flops(network, 64) == pytest.approx(exact)


def test_operations_of_an_lstm_are_counted_too():
    class Recurrent(DroppingNetwork):
        def __init__(self, shape):
            super().__init__(shape)
            self.inner = torch.nn.LSTM(shape.width, 12, batch_first=True)
            self.head = torch.nn.Linear(12, V, bias=False)

        def hidden(self, tokens):
            return self.inner(self.embedding(tokens))[0]

    per_step = 4 * 12 * (16 + 12) + 12 * V
    found = live.flops(Recurrent(Size()), 32)
    assert found == pytest.approx(6 * per_step, rel=0.03)  # the first step has no state to hand a gradient to


def test_the_peak_of_a_machine_is_measured_by_products_that_last(monkeypatch):
    """A device of 1 GFLOP/s: the first product of 20 ms or more has matrices of 256 * 256."""
    asked = []

    def seconds(side, dtype, device):
        asked.append((side, dtype))
        return 2 * side**3 / speed

    monkeypatch.setattr(live, "_seconds_of_product", seconds)
    for speed, sides in ((1e9, [256]), (1e11, [256, 512, 1024]), (1e16, [256 * 2**k for k in range(6)])):
        assert live.peak("cpu", "bfloat16") == pytest.approx(speed)
        assert asked == [(side, torch.bfloat16) for side in sides]
        asked.clear()


def test_a_product_takes_time():
    small, large = (live._seconds_of_product(side, torch.float32, "cpu") for side in (64, 1024))
    assert 0 < small < large


def test_speed_and_samples_go_to_events_and_no_clock_into_the_log(tmp_path, capsys):
    plan, folder = derived.Settled(steps=6, samples=2, precision="float32"), folders(tmp_path)
    model = models.build(SMALL, V, END, 1)
    outcome = loop.run(
        model, Memory(), None, plan, 1, 1, *folder, decode=lambda tokens: f"tokens {' '.join(map(str, tokens))}"
    )
    lines = [json.loads(line) for line in (folder[0] / "events/live.jsonl").read_text().splitlines()]
    samples = [line for line in lines if "sample" in line]
    assert [line["step"] for line in samples] == [3, 6]
    assert all(line["sample"].startswith("tokens ") for line in samples)
    assert samples[0]["sample"] in capsys.readouterr().out
    last = lines[-1]
    assert (last["step"], last["tokens"], last["seconds_left"]) == (6, outcome.tokens_seen, 0)
    assert last["tokens_per_second"] > 0 < last["mfu"] < 1
    assert all("time" in line for line in lines)
    log = [json.loads(line) for line in (folder[0] / "training.jsonl").read_text().splitlines()]
    assert {"step", "tokens", "loss", "validation_loss", "rate", "gradient_norm", "skipped"} == set(log[0])
    quiet, _ = trained(folders(tmp_path, "quiet"), derived.Settled(steps=6, precision="float32"))
    assert same(weights(model), weights(quiet))  # who watches changes nothing


def test_validation_losses_skipped_steps_and_an_early_stop_are_told_as_they_happen(tmp_path, capsys, monkeypatch):
    judge, losses = loop.Spikes.skip, iter([3.0, 2.0, 2.5, 2.6])
    monkeypatch.setattr(loop.Run, "validate", lambda run, validation: next(losses))
    monkeypatch.setattr(loop.Spikes, "skip", lambda spikes, *found: judge(spikes, *found) or len(spikes.losses) == 3)
    plan, folder = derived.Settled(steps=12, validations=6, patience=2, precision="float32"), folders(tmp_path)
    loop.run(models.build(SMALL, V, END, 1), Memory(), Memory(), plan, 1, 1, *folder)
    told = capsys.readouterr().out.splitlines()
    assert [line for line in told if "validation loss" in line] == [
        "── after step 2: validation loss 3.000",
        "── after step 4: validation loss 2.000",
        "── after step 6: validation loss 2.500; the lowest was 2.000 after step 4",
        "── after step 8: validation loss 2.600; the lowest was 2.000 after step 4",
    ]
    assert "stopped early: not lower 2 times in a row; those weights are kept" in told
    assert [line.split(":")[0] for line in told if "skipped:" in line] == ["── step 3 skipped"]
    lines = [json.loads(line) for line in (folder[0] / "events/live.jsonl").read_text().splitlines()]
    assert [(line["step"], line["validation_loss"]) for line in lines if "validation_loss" in line] == [
        (2, 3.0),
        (4, 2.0),
        (6, 2.5),
        (8, 2.6),
    ]
    (skipped,) = [line for line in lines if "skipped" in line]
    assert skipped["step"] == 3
    assert skipped["skipped"]["loss"] > 0 < skipped["skipped"]["gradient_norm"]


def test_time_that_validations_take_is_not_the_speed_of_steps(tmp_path, monkeypatch):
    """By a clock that goes on by 2 seconds a step and by 100 a validation."""
    now, update = [0.0], loop.Run.update

    def updated(run, batch, tokens):
        now[0] += 2
        return update(run, batch, tokens)

    def validated(run, validation):
        now[0] += 100
        return 1.0

    monkeypatch.setattr(live, "peak", lambda *_: 1e12)
    monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(loop.Run, "update", updated)
    monkeypatch.setattr(loop.Run, "validate", validated)
    plan, folder = derived.Settled(steps=12, validations=3, precision="float32"), folders(tmp_path)
    outcome = loop.run(models.build(SMALL, V, END, 1), Memory(), Memory(), plan, 1, 1, *folder)
    lines = [json.loads(line) for line in (folder[0] / "events/live.jsonl").read_text().splitlines()]
    speeds = {line["tokens_per_second"] for line in lines if "tokens_per_second" in line}
    assert speeds == {outcome.tokens_seen / 12 / 2}


def test_known_gpus_have_their_makers_peak(monkeypatch):
    for name, speed in (("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H100 PCIe", 756e12), ("NVIDIA L40S", 362e12)):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda name=name: name)
        assert live.peak("cuda", "bfloat16") == speed
