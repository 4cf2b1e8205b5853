"""What a plan leaves open: budgets become steps; batch, rates, precision and compilation follow size and machine."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pileline import models
from pileline.models import device
from pileline.training import Plan, TrainingError, derived
from pileline.training.settings import OPTIMIZERS


class OfSize:
    """A model of so many hidden weights, as the rules see it; its tensors hold no memory."""

    def __init__(self, hidden, outer=0, device="cpu"):
        self.network, self.device = self, device
        self.groups = {"matrices": [torch.empty(hidden, device="meta")], "embeddings": [], "vectors": []}
        if outer:
            self.groups["embeddings"] = [torch.empty(outer, device="meta")]

    def parameter_groups(self):
        return self.groups


# ------------------------------------------------------------------------------------------------- budgets


@pytest.mark.parametrize(
    ("budget", "steps"),
    [({}, 1000), ({"steps": 7}, 7), ({"tokens": 5_120}, 10), ({"epochs": 2.5}, 50), ({"tokens": 1}, 1)],
)
def test_a_budget_becomes_steps(budget, steps):
    settled = derived.settle(Plan(**budget), 512, 20)
    assert (settled.steps, settled.batch_tokens) == (steps, 512)
    assert (settled.tokens, settled.epochs, settled.minutes) == (None, None, None)


def test_two_budgets_are_refused():
    with pytest.raises(TrainingError, match="steps and epochs are both given"):
        Plan(steps=3, epochs=1)


def test_what_is_given_is_kept():
    given_ = {"rate": 0.5, "matrix_rate": 0.6, "embedding_rate": 0.7, "vector_rate": 0.8, "precision": "float32"}
    settled = derived.settle(Plan(**given_, compile=True), 512, 20, OfSize(10**6))
    assert {name: getattr(settled, name) for name in given_} == given_
    assert settled.compile is True
    assert derived.batch_tokens(Plan(batch_tokens=77), OfSize(10**9)) == 77


# ---------------------------------------------------------------------------------------------------- sizes


def test_the_rules_meet_the_ladder_at_its_size():
    ladder = OfSize(108_000_000, device="cuda")
    assert derived.batch_tokens(Plan(), ladder) == 160 * 2048
    for optimizer in ("adam", "adamw"):
        assert derived.rate(optimizer, 108_000_000) == pytest.approx(0.0047 / 2, rel=0.03)


@given(st.integers(1_000, 10**9), st.integers(1_000, 10**9), st.sampled_from(["cpu", "cuda"]))
def test_larger_models_get_larger_batches_and_lower_rates(one, other, kind):
    small, large = sorted((one, other))
    batches = [derived.batch_tokens(Plan(), OfSize(size, device="cuda")) for size in (small, large)]
    assert derived.LEAST_BATCH <= batches[0] <= batches[1]
    assert derived.batch_tokens(Plan(), OfSize(small)) <= batches[0]  # a CPU is not given longer steps
    rates = [derived.rate("adamw", size) for size in (small, large)]
    assert derived.HIGHEST_RATES["adamw"] >= rates[0] >= rates[1] > 0


def test_a_step_on_a_cpu_is_short_and_a_budget_has_many():
    assert derived.batch_tokens(Plan(), OfSize(400_000, 260_000)) == round(derived.CPU_STEP / 6 / 660_000)
    assert derived.batch_tokens(Plan(), OfSize(10**8)) == derived.LEAST_BATCH
    few = derived.batch_tokens(Plan(tokens=1_000_000), OfSize(108_000_000, device="cuda"))
    assert few == 1_000_000 / derived.LEAST_STEPS


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_rate_is_settled(optimizer):
    settled = derived.settle(Plan(optimizer=optimizer), 512, 20, OfSize(200_000))
    assert all(getattr(settled, name) > 0 for name in derived.RATES)
    assert settled.rate == derived.rate(optimizer, 200_000)


def test_sizes_are_of_what_multiplies_tokens():
    shape = {"kind": "transformer", "layers": 2, "heads": 2, "width": 16, "context": 8, "bigrams": 1000}
    network = models.build(shape, 50, 0).network
    hidden = 2 * 12 * 16**2 + 16**2
    assert derived.sizes(network) == (hidden, hidden + 50 * 16)  # a table is looked up, and the tied head is a matrix


# ------------------------------------------------------------------------------- precision and compilation


def test_precision_follows_the_hardware(monkeypatch):
    for found, expected in (({"avx2": True}, "float32"), ({"avx512_bf16": True}, "bfloat16"), ({}, "float32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: found)
        assert derived.settle(Plan(), 512, 20, OfSize(200_000)).precision == expected


def test_compilation_is_for_long_work_on_a_gpu():
    assert device.choose_compilation(None, "cuda", 1e18)
    assert not device.choose_compilation(None, "cuda", 1e12)
    assert not device.choose_compilation(None, "cpu", 1e18)
    assert device.choose_compilation(True, "cpu", 1.0)
    assert not device.choose_compilation(False, "cuda", 1e18)


def test_a_long_plan_on_a_gpu_is_compiled_and_a_short_one_is_not(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    model = OfSize(124_000_000, device="cuda")
    settled = [derived.settle(Plan(tokens=tokens), 2**19, 10**6, model) for tokens in (10_000_000_000, 2**20)]
    assert [plan.compile for plan in settled] == [True, False]
    assert settled[0].precision == "bfloat16"


def test_a_model_without_matrices_has_a_batch_and_rates_too():
    assert derived.batch_tokens(Plan(), OfSize(0)) == derived.LEAST_BATCH
    assert derived.settle(Plan(optimizer="adam"), 512, 20, OfSize(0)).rate == derived.HIGHEST_RATES["adam"]
