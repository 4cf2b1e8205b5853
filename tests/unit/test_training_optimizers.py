"""Optimizers against torch's and against formulas; schedules against their definitions."""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pileline import models, training
from pileline.models.neural import Table
from pileline.training import derived, muon, optimizers, schedules, tables
from pileline.training.group import Group
from pileline.training.settings import OPTIMIZERS, SCHEDULES
from torch import nn

RATES = {"rate": 0.01, "matrix_rate": 0.02, "embedding_rate": 0.03, "vector_rate": 0.04}
STEPS = 12


class Network(nn.Module):
    """Embeddings, a table, matrices of one shape and its transpose, a square one, a vector: all that is told apart."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.table, self.hashed = nn.Embedding(11, 6), Table(40, 6)
        self.first, self.second = nn.Linear(6, 16, bias=False), nn.Linear(6, 16, bias=False)
        self.back, self.square = nn.Linear(16, 6, bias=False), nn.Linear(6, 6)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(0, 0.3, generator=generator)

    def forward(self, x):
        x = self.table(x) + self.hashed(x * 3)
        return self.square(x + self.back(torch.tanh(self.first(x)) * self.second(x)))

    def parameter_groups(self):
        matrices = [self.first.weight, self.second.weight, self.back.weight, self.square.weight]
        return {
            "matrices": matrices,
            "embeddings": [self.table.weight],
            "tables": [self.hashed.weight],
            "vectors": [self.square.bias],
        }


def plan_of(optimizer, **changes):
    return derived.Settled(steps=STEPS, optimizer=optimizer, **(RATES | changes))


def descend(network, optimizers_, factors=None):
    """Train with losses that depend on nothing but the step; returns the losses."""
    losses = []
    tokens = torch.from_numpy(np.random.default_rng(2).integers(0, 11, (STEPS, 8)))
    for step in range(STEPS):
        loss = network(tokens[step]).square().sum(-1).mean() + network(tokens[step])[:, 0].mean()
        loss.backward()
        if factors is not None:
            optimizers.set_rates(optimizers_, factors[step])
        for optimizer in optimizers_:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
    return losses


def ours(plan):
    network = Network()
    return network, optimizers.build(network.parameter_groups(), plan)


def assert_close(found, expected, tolerance=1e-5):
    for (name, a), (_, b) in zip(found.named_parameters(), expected.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=1e-3, msg=lambda text, name=name: f"{name}: {text}")


# -------------------------------------------------------------------------------------------- against torch

TORCH = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, 0.01),
    "momentum": lambda parameters: torch.optim.SGD(parameters, 0.01, momentum=0.9),
    "rmsprop": lambda parameters: torch.optim.RMSprop(parameters, 0.01, alpha=0.99),
    "adam": lambda parameters: torch.optim.Adam(parameters, 0.01),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, 0.01, betas=(0.9, 0.95), weight_decay=0.0),
}


@pytest.mark.parametrize("name", TORCH)
def test_one_rule_for_all_weights_is_torchs(name):
    network, made = ours(plan_of(name))
    expected = Network()
    assert descend(network, made) == pytest.approx(descend(expected, [TORCH[name](expected.parameters())]), rel=1e-4)
    assert_close(network, expected)


def test_settings_of_an_optimizer_reach_it():
    network, made = ours(plan_of("rmsprop", momentum=0.8, beta2=0.7))
    expected = Network()
    descend(network, made)
    descend(expected, [torch.optim.RMSprop(expected.parameters(), 0.01, alpha=0.7, momentum=0.8)])
    assert_close(network, expected)
    assert optimizers.build(network.parameter_groups(), plan_of("adam", beta1=0.5, beta2=0.6))[0].defaults["betas"] == (
        0.5,
        0.6,
    )
    muon_, adam, _ = optimizers.build(network.parameter_groups(), plan_of("muon", momentum=0.5, beta1=0.1))
    assert muon_.defaults["momentum"] == 0.5
    assert adam.defaults["betas"] == (0.1, 0.95)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_muon_is_torchs_on_matrices_and_adamw_elsewhere(decay):
    network, made = ours(plan_of("muon", weight_decay=decay))
    expected = Network()
    groups = expected.parameter_groups()
    rest = [{"params": groups["embeddings"], "lr": 0.03}, {"params": groups["vectors"], "lr": 0.04}]
    theirs = [
        torch.optim.Muon(groups["matrices"], lr=0.02, momentum=0.95, weight_decay=decay),
        torch.optim.AdamW(rest, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.0),
        tables.Rows(groups["tables"], lr=0.03 * optimizers.TABLE_RATE),
    ]
    found = descend(network, made)
    assert found == pytest.approx(descend(expected, theirs), rel=0.02, abs=0.001)  # of bfloat16 products
    assert found[-1] < found[0]
    assert_close(network, expected, 0.01)


@settings(max_examples=25)
@given(st.integers(1, 4), st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**31))
def test_a_stack_of_matrices_is_made_orthogonal_one_by_one(count, rows, columns, seed):
    rows, columns = sorted((rows, columns))
    matrices = torch.randn(count, rows, columns, generator=torch.Generator().manual_seed(seed))
    found = muon.orthogonalize(matrices, (3.4445, -4.775, 2.0315), 5, 1e-7).float()
    for matrix, result in zip(matrices, found, strict=True):
        u, s, vt = torch.linalg.svd(matrix.double(), full_matrices=False)
        sure = s > 0.05 * matrix.norm()  # five steps do not lift smaller ones all the way
        inner = torch.diagonal(u.T @ result.double() @ vt.T)
        assert ((inner[sure] > 0.6) & (inner[sure] < 1.25)).all()
        assert torch.linalg.matrix_norm(result.double(), 2) < 1.3


def exact(matrix):
    """The Newton-Schulz steps in float64, one after the other."""
    x = matrix.double() / matrix.double().norm()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
    return x


@pytest.mark.parametrize("directions", [2, 8, 32])
def test_joined_steps_of_a_wide_matrix_round_no_more_than_torchs(directions):
    generator = torch.Generator().manual_seed(3)
    matrix = torch.randn(32, directions, generator=generator) @ torch.randn(directions, 128, generator=generator)
    theirs = torch.optim._muon._zeropower_via_newtonschulz(matrix, (3.4445, -4.775, 2.0315), 5, 1e-7)
    found = muon.orthogonalize(matrix[None], (3.4445, -4.775, 2.0315), 5, 1e-7)[0]
    errors = [(result - exact(matrix)).square().mean().sqrt().item() for result in (found.double(), theirs.double())]
    assert errors[0] < 2 * errors[1] + 1e-4


def test_stacks_are_cut_to_bound_memory_without_another_result(monkeypatch):
    one, made = ours(plan_of("muon"))
    descend(one, made)
    monkeypatch.setattr(muon, "STACKED", 1)
    other, made = ours(plan_of("muon"))
    descend(other, made)
    assert_close(one, other, 0.003)


@pytest.mark.parametrize("columns", [8, 15, 16, 40])  # from 16 on, steps are joined
def test_without_bfloat16_products_are_made_in_float32(monkeypatch, columns):
    monkeypatch.setattr(muon, "multiplies_bfloat16", lambda device: False)
    matrices = torch.randn(2, 8, columns, generator=torch.Generator().manual_seed(1))
    found = muon.orthogonalize(matrices, (3.4445, -4.775, 2.0315), 5, 1e-7)
    assert found.dtype == torch.float32
    for matrix, result in zip(matrices, found, strict=True):
        torch.testing.assert_close(result.double(), exact(matrix), atol=1e-4, rtol=1e-3)


# ------------------------------------------------------------------------------------------------ tables


def rows_of(table, **changes):
    return tables.Rows([table.weight], **({"lr": 0.3, "beta2": 0.9} | changes))


def look_up(table, optimizer, step, scale=1.0):
    tokens = torch.from_numpy(np.random.default_rng(step).integers(0, 9, 6))
    (scale * (table(tokens) * torch.arange(6.0)[:, None]).sin()).sum().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return tokens


def test_rows_follow_the_formula_and_only_those_that_were_seen():
    table = Table(20, 4, sparse=True)
    expected, square, seen = table.weight.detach().double().clone(), [0.0] * 20, [0] * 20
    optimizer = rows_of(table)
    for step in range(9):
        tokens = torch.from_numpy(np.random.default_rng(step).integers(0, 9, 6))
        weights = expected.clone().requires_grad_()
        (weights[tokens] * torch.arange(6.0)[:, None]).sin().sum().backward()
        for row in sorted(set(tokens.tolist())):
            gradient = weights.grad[row]
            if not gradient.any():
                continue
            seen[row] += 1
            square[row] = 0.9 * square[row] + 0.1 * gradient.square().mean().item()
            expected[row] -= 0.3 * gradient / math.sqrt(square[row] / (1 - 0.9 ** seen[row]))
        look_up(table, optimizer, step)
    torch.testing.assert_close(table.weight.detach().double(), expected, atol=1e-5, rtol=1e-4)


def test_rows_take_the_same_steps_whatever_the_gradients_layout():
    sparse = Table(20, 4, sparse=True)
    dense = copy.deepcopy(sparse)
    dense.sparse = False
    pairs = [(table, rows_of(table)) for table in (sparse, dense)]
    for step in range(9):
        for table, optimizer in pairs:
            look_up(table, optimizer, step)
    assert torch.equal(sparse.weight, dense.weight)


def test_rows_do_not_depend_on_the_scale_of_the_loss():
    table = Table(20, 4, sparse=True)
    other = copy.deepcopy(table)
    for one, scale in ((table, 1.0), (other, 1e-4)):
        optimizer = rows_of(one)
        for step in range(5):
            look_up(one, optimizer, step, scale)
    torch.testing.assert_close(table.weight, other.weight, atol=1e-4, rtol=1e-3)


def test_the_norm_of_sparse_gradients_is_that_of_dense_ones():
    sparse, dense = Table(20, 4, sparse=True), Table(20, 4)
    other = torch.arange(5.0)
    for table in (sparse, dense):
        (table(torch.tensor([3, 1, 3])) * torch.tensor([1.0, 2.0, 5.0])[:, None]).sum().backward()
    norms = [tables.norm([table.weight.grad, other]) for table in (sparse, dense)]
    assert norms[0].item() == pytest.approx(math.sqrt(4 * (36 + 4) + 30))
    torch.testing.assert_close(*norms)


def test_a_group_of_one_process_on_a_cpu_has_sparse_gradients_with_muon_alone():
    shape = {"kind": "transformer", "layers": 1, "heads": 1, "width": 4, "context": 4, "bigrams": 50}
    for plan, sparse in ((plan_of("muon"), True), (plan_of("adamw"), False), (plan_of("muon", compile=True), False)):
        network = models.build(shape, 10, 0).network
        Group().optimizers(network, plan)
        row = torch.zeros((1, 4), dtype=torch.int64)
        network.loss(row, row).backward()
        assert network.bigram.weight.grad.is_sparse is sparse


# ------------------------------------------------------------------------------------------------- decay


@pytest.mark.parametrize("name", ["sgd", "momentum", "rmsprop", "adamw"])
def test_decay_is_decoupled_and_of_matrices_alone(name):
    network, made = ours(plan_of(name, weight_decay=0.5))
    before = copy.deepcopy(network)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizers.set_rates(made, 0.5)
    made[0].step()
    for (_, found), (name_, started) in zip(network.named_parameters(), before.named_parameters(), strict=True):
        factor = 1 - 0.5 * 0.01 * 0.5 if started.ndim > 1 else 1.0
        torch.testing.assert_close(found, factor * started, msg=name_)


def test_adam_refuses_a_decay():
    with pytest.raises(training.TrainingError, match=r"adam has no weight_decay.*adamw"):
        plan_of("adam", weight_decay=0.1)


# ---------------------------------------------------------------------------------------- state and rates


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_resumed_optimizer_goes_on_with_the_same_bits(name):
    plan = plan_of(name, weight_decay=0.0 if name == "adam" else 0.1)
    network, made = ours(plan)
    descend(network, made)
    saved = copy.deepcopy([network.state_dict(), [optimizer.state_dict() for optimizer in made]])
    again, remade = ours(plan)
    again.load_state_dict(saved[0])
    for optimizer, state in zip(remade, saved[1], strict=True):
        optimizer.load_state_dict(state)
    assert descend(network, made) == descend(again, remade)
    for a, b in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", ["adam", "muon"])
def test_a_memory_of_nothing_may_be_written_as_a_whole_number(name):
    made = optimizers.build(Network().parameter_groups(), plan_of(name, beta1=0, beta2=0.9))
    assert (0.0, 0.9) in [group["betas"] for optimizer in made for group in optimizer.param_groups if "betas" in group]


def test_rates_are_full_rates_times_the_factor():
    _, (matrices, rest, hashed) = ours(plan_of("muon"))
    optimizers.set_rates([matrices, rest, hashed], 0.5)
    found = [group["lr"] for optimizer in (matrices, rest, hashed) for group in optimizer.param_groups]
    assert found == [0.01, 0.015, 0.02, 0.015 * optimizers.TABLE_RATE]
    _, (only,) = ours(plan_of("momentum"))
    optimizers.set_rates([only], 0.5)
    assert [group["lr"] for group in only.param_groups] == [0.005, 0.005]


def test_a_model_without_matrices_or_vectors_is_optimized_too():
    table = nn.Embedding(3, 2)
    (adam,) = optimizers.build({"matrices": [], "embeddings": [table.weight], "vectors": []}, plan_of("muon"))
    assert isinstance(adam, torch.optim.AdamW)
    (sgd,) = optimizers.build({"matrices": [table.weight], "embeddings": [], "vectors": []}, plan_of("sgd"))
    assert [len(group["params"]) for group in sgd.param_groups] == [1]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_description_says_what_decides(name):
    found = optimizers.describe(plan_of(name, schedule="cosine"))
    used = {"matrix_rate", "embedding_rate", "vector_rate"} if name == "muon" else {"rate"}
    assert {key for key in found if key.endswith("rate")} == used
    assert found["kind"] == name
    assert found["schedule"] == "cosine"
    assert ("momentum" in found) == (name in ("momentum", "muon"))


# ---------------------------------------------------------------------------------------------- schedules


def factors(**changes):
    plan = derived.Settled(**changes)
    return [schedules.factor(plan, step) for step in range(plan.steps)]


@pytest.mark.parametrize("schedule", SCHEDULES)
@given(st.integers(1, 300), st.integers(0, 50), st.floats(0, 1), st.floats(0.001, 1))
def test_factors_rise_once_and_never_rise_again(schedule, steps, warmup, decay, final):
    found = factors(steps=steps, warmup=warmup, decay=decay, final_rate=final, schedule=schedule)
    assert all(0 < factor <= 1 for factor in found)
    rising, falling = found[:warmup], found[warmup:]
    if schedule != "wsd":  # whose decay may begin while the rate still rises
        assert rising == pytest.approx([(step + 1) / (warmup + 1) for step in range(len(rising))])
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(falling))
    if falling and schedule in ("constant", "linear", "exponential", "cosine"):
        assert falling[0] == 1.0
        assert min(falling) >= (1.0 if schedule == "constant" else final) - 1e-12


def test_falling_schedules_are_torchs():
    for schedule, make in {
        "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 40, eta_min=0.2),
        "linear": lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.2, 40),
        "exponential": lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.2 ** (1 / 40)),
    }.items():
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        expected, scheduler = [], make(optimizer)
        for _ in range(40):
            expected.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        assert factors(steps=40, warmup=0, final_rate=0.2, schedule=schedule) == pytest.approx(expected), schedule


def test_warmup_stable_decay():
    found = factors(steps=100, warmup=4, decay=0.5)
    assert found[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert set(found[4:51]) == {1.0}
    assert found[50:] == pytest.approx([(100 - step) / 50 for step in range(50, 100)])


def test_cosine_is_half_way_in_the_middle():
    assert factors(steps=10, warmup=0, final_rate=0.1, schedule="cosine")[5] == pytest.approx(0.55)
    assert math.isclose(schedules.cosine(10, 10), 0.1)


def test_a_step_on_a_cpu_writes_no_gradient_of_rows_that_it_did_not_look_up():
    settings = {"kind": "transformer", "layers": 1, "heads": 2, "width": 8, "context": 6, "bigrams": 64, "ngrams": 3}
    network = models.build(settings, vocabulary_size=11, end=0, seed=1).network
    Group().optimizers(network, derived.Settled(optimizer="muon"))
    network.loss(*torch.randint(11, (2, 2, 6), generator=torch.Generator().manual_seed(1))).backward()
    gradients = [parameter.grad for parameter in network.parameter_groups()["tables"]]
    assert [gradient.is_sparse for gradient in gradients] == [True, True]
