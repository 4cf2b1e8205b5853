"""Training: an overfitted batch, honest errors, exact schedules, and every kind on real shards."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pileline import manifest, models, training
from pileline import shards as shards_room
from pileline.models.neural import Network, Neural
from pileline.training import derived, loop, optimizers, schedules
from pileline.training.outcome import Outcome

from tests.unit.small_corpora import write_shards

V, END = 40, 0
SMALL = {"kind": "transformer", "layers": 1, "heads": 2, "width": 16, "context": 8, "bigrams": 17}


class Memory:
    """Batches of a stream in memory, with the interface of the shards' loader: a function of the step."""

    def __init__(self, batch=4, context=8, epoch_steps=5, seed=3):
        self.batch, self.context, self.epoch_steps = batch, context, epoch_steps
        self.tokens = np.random.default_rng(seed).integers(1, V, epoch_steps * batch * context + 1)

    def batch_at(self, step):
        starts = (step % self.epoch_steps * self.batch + np.arange(self.batch)) * self.context
        rows = self.tokens[starts[:, None] + np.arange(self.context + 1)]
        return rows[:, :-1], rows[:, 1:]


@dataclass(frozen=True)
class Size:
    context: int = 8
    width: int = 16


class DroppingNetwork(Network):
    """Two layers with dropout: what is random in training besides the batches."""

    def __init__(self, shape):
        super().__init__()
        self.vocabulary_size = V
        self.embedding = torch.nn.Embedding(V, shape.width)
        self.inner = torch.nn.Linear(shape.width, shape.width)
        self.head = torch.nn.Linear(shape.width, V)

    def hidden(self, tokens):
        return torch.tanh(self.inner(torch.dropout(self.embedding(tokens), 0.5, self.training)))

    def logits(self, hidden):
        return self.head(hidden).float()


class Dropping(Neural):
    kind, shape_class = "dropping", Size

    def make(self):
        return DroppingNetwork(self.shape)


def folders(tmp_path, name="run"):
    made = [tmp_path / name / part for part in ("output", "scratch")]
    for folder in made:
        folder.mkdir(parents=True, exist_ok=True)
    return made


def trained(folder, plan, batches=None, validation=None, seed=1, drops=False, **changes):
    model = Dropping(Size(), V, END, seed) if drops else models.build(SMALL | changes, V, END, seed)
    output, scratch = folder
    outcome = loop.run(model, batches or Memory(), validation, plan, seed, 1, output, scratch, checkpoint_seconds=0)
    return model, outcome


def weights(model):
    return {name: value.clone() for name, value in model.network.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Killed(BaseException):
    pass


# --------------------------------------------------------------------------------------------------- steps


def test_one_batch_is_learned_by_heart(tmp_path):
    plan = derived.Settled(steps=150, warmup=5, matrix_rate=0.03, embedding_rate=0.03, precision="float32")
    _, outcome = trained(folders(tmp_path), plan, Memory(batch=2, epoch_steps=1))
    assert outcome.curve[0]["loss"] == pytest.approx(math.log(V), abs=1e-5)
    assert outcome.final_training_loss < 0.2


def test_accumulated_parts_make_the_same_step(tmp_path):
    plans = [derived.Settled(steps=1, warmup=0, accumulate=k, precision="float32") for k in (1, 2, 4)]
    results = [trained(folders(tmp_path, str(k)), plan)[1].curve[0] for k, plan in enumerate(plans)]
    for result in results[1:]:
        assert result["loss"] == pytest.approx(results[0]["loss"], rel=1e-5)
        assert result["gradient_norm"] == pytest.approx(results[0]["gradient_norm"], rel=1e-4)


def test_every_parameter_is_trained(tmp_path):
    before = weights(models.build(SMALL, V, END, 1))
    after = weights(trained(folders(tmp_path), derived.Settled(steps=4, warmup=0))[0])
    assert [name for name in before if torch.equal(before[name], after[name])] == []


def test_a_loss_that_is_no_number_stops_and_says_what_to_change(tmp_path):
    class Poisoned(Memory):
        def batch_at(self, step):
            if step == 2:
                with torch.no_grad():
                    model.network.embedding.weight[1, 0] = float("nan")
            return super().batch_at(step)

    model = models.build(SMALL, V, END, 1)
    output, scratch = folders(tmp_path)
    with pytest.raises(
        training.TrainingError, match=r"step 10: the loss is nan.*8 steps in a row.*lower matrix_rate.*float32"
    ):
        loop.run(model, Poisoned(), None, derived.Settled(steps=20), 1, 1, output, scratch)


def test_precision_is_recorded_and_bfloat16_learns_as_well(tmp_path):
    losses = {}
    for precision in ("float32", "bfloat16"):
        plan = derived.Settled(steps=40, warmup=5, precision=precision)
        _, outcome = trained(folders(tmp_path, precision), plan)
        assert outcome.precision == precision
        losses[precision] = outcome.final_training_loss
    assert losses["float32"] < math.log(V) - 0.5
    assert losses["bfloat16"] == pytest.approx(losses["float32"], abs=0.3)


# ----------------------------------------------------------------------------------- schedules, optimizers


def test_warmup_stable_decay():
    plan = derived.Settled(steps=100, warmup=4, decay=0.5)
    found = [schedules.factor(plan, step) for step in range(100)]
    assert found[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert set(found[4:51]) == {1.0}
    assert found[50:] == pytest.approx([(100 - step) / 50 for step in range(50, 100)])


@given(st.integers(1, 300), st.integers(0, 50), st.floats(0, 1), st.sampled_from(["wsd", "cosine"]))
def test_factors_stay_in_bounds(steps, warmup, decay, schedule):
    plan = derived.Settled(steps=steps, warmup=warmup, decay=decay, schedule=schedule)
    found = [schedules.factor(plan, step) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in found)
    assert all(a >= b - 1e-12 for a, b in zip(found[warmup:], found[warmup + 1 :], strict=False))


def test_cosine_ends_at_a_tenth():
    assert schedules.cosine(0, 10) == 1.0
    assert schedules.cosine(5, 10) == pytest.approx(0.55)
    assert schedules.cosine(10, 10) == pytest.approx(0.1)


def test_muon_has_the_matrices_and_adam_the_rest_at_their_rates():
    network = models.build(SMALL, V, END).network
    plan = derived.Settled(matrix_rate=0.03, embedding_rate=0.1, vector_rate=0.2)
    muon, adam, rows = optimizers.build(network.parameter_groups(), plan)
    assert isinstance(muon, torch.optim.Muon)
    optimizers.set_rates([muon, adam, rows], 0.5)
    found = [group["lr"] for optimizer in (muon, adam, rows) for group in optimizer.param_groups]
    assert found == [0.015, 0.05, 0.1, 0.5 * optimizers.TABLE_RATE * 0.1]
    assert [id(p) for p in adam.param_groups[0]["params"]] == [id(network.embedding.weight)]
    assert [id(p) for p in rows.param_groups[0]["params"]] == [id(network.bigram.weight)]


# ------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 1}, "no setting learning_rate; it has: accumulate, batch_tokens"),
        ({"steps": 0}, "steps is 0"),
        ({"schedule": "straight"}, "none of constant, linear"),
        ({"decay": 2.0}, "decay is 2.0"),
        ({"beta1": 1}, "beta1 is 1, must be at least 0 and below 1"),
        ({"momentum": -0.1}, "momentum is -0.1, must be at least 0 and below 1"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(training.TrainingError, match=message):
        training.Plan.of({"kind": "transformer", "layers": 2} | settings, {"layers"})


def test_metrics_thin_the_curve_but_keep_its_validations():
    curve = [
        {"step": s, "tokens": s, "loss": 1.0, "validation_loss": 2.0 if s % 100 == 0 else None, "rate": 1.0}
        for s in range(1, 1001)
    ]
    made = Outcome(1000, 1000, 1.0, 1.0, 2.0, "cpu", "float32", 1, {}, curve).metrics()
    assert len(made["curve"]) <= 200
    assert [p["step"] for p in made["curve"] if p["validation_loss"]] == list(range(100, 1001, 100))
    assert set(made["curve"][0]) == {"step", "tokens", "loss", "validation_loss"}
    manifest.canonical_json(made)


# -------------------------------------------------------------------------------------- with real shards


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Shards of a corpus of rhymes, and its tokenizer."""
    lines = ["the cat sat on the mat", "the dog ran in the fog", "a fox in a box", "one two three four five"]
    generator = np.random.default_rng(1)
    texts = ["\n".join(lines[k] for k in generator.integers(0, 4, 12)) for _ in range(240)]
    parts = {"train": texts[:200], "validation": texts[200:]}
    settings = {"kind": "bpe", "vocabulary": 300, "sample_mb": 1}
    return write_shards(tmp_path_factory.mktemp("corpus"), parts, settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "ngram", "order": 3},
        {"kind": "transformer", "layers": 1, "heads": 2, "width": 32, "context": 32, "steps": 60, "batch_tokens": 256},
    ],
)
def test_any_kind_trains_on_shards_and_learns(corpus, tmp_path, settings):
    shards, tokenizer = corpus
    model = models.build(settings, tokenizer.vocabulary_size, tokenizer.end, 1)
    output, scratch = folders(tmp_path)[0], tmp_path / "not there yet"
    outcome = training.train(model, shards, settings, 1, "cpu", 1, output, scratch)
    assert outcome.validation_loss < 2.0 < math.log(tokenizer.vocabulary_size)
    assert outcome.tokens_seen > 1000
    assert outcome.doubts == []
    manifest.canonical_json(outcome.metrics())
    records = [json.loads(line) for line in (output / "training.jsonl").read_text().splitlines()]
    assert [r["tokens"] for r in records] == sorted(r["tokens"] for r in records)
    assert records[-1]["validation_loss"] is not None
    training.clear(scratch)
    assert list(scratch.glob("*")) == []


def test_a_model_that_has_learned_nothing_is_told_in_its_account(corpus, tmp_path, capsys):
    shards, tokenizer = corpus
    settings = SMALL | {"optimizer": "sgd", "rate": 1e-9, "steps": 2, "warmup": 2, "batch_tokens": 64}
    model = models.build(settings, tokenizer.vocabulary_size, tokenizer.end, 1)
    rising, doubt = training.train(model, shards, settings, 1, "cpu", 1, *folders(tmp_path)).metrics()["doubts"]
    assert rising.startswith("training ended while its rates were still rising: warmup is 2 steps and training 2;")
    assert doubt.startswith(f"its validation loss, {math.log(tokenizer.vocabulary_size):.3f}, is no better")
    assert f"of this model {doubt}" in capsys.readouterr().out


def test_a_validation_loss_that_is_no_number_is_refused(corpus, tmp_path, monkeypatch):
    shards, tokenizer = corpus
    monkeypatch.setattr(training, "loss_over", lambda *_: math.inf)
    settings = SMALL | {"steps": 1, "batch_tokens": 64}
    model = models.build(settings, tokenizer.vocabulary_size, tokenizer.end, 1)
    with pytest.raises(training.TrainingError, match="the validation loss is inf, though that of the steps was a numb"):
        training.train(model, shards, settings, 1, "cpu", 1, *folders(tmp_path))


def test_minutes_are_a_budget_of_a_models_entry(tmp_path, corpus):
    shards, tokenizer = corpus
    entry = {"kind": "transformer", "layers": 1, "heads": 2, "width": 16, "context": 16, "batch_tokens": 64}
    found = []
    for name in ("first", "second"):
        output, _ = folders(tmp_path, name)
        model = models.build(entry, tokenizer.vocabulary_size, tokenizer.end, 1)
        settings = entry | {"minutes": 0.01}
        outcome = training.train(model, shards, settings, 1, "cpu", 1, output, tmp_path / "first/scratch")
        training.clear(tmp_path / "first/scratch")
        found.append((outcome, weights(model)))
    (first, weights_of_first), (second, weights_of_second) = found
    assert first == second
    assert same(weights_of_first, weights_of_second)
    assert first.metrics()["budget"] == {"minutes": 0.01}
    assert first.steps == json.loads((tmp_path / "first/scratch.budget.json").read_text())["steps"]
    assert math.isfinite(first.validation_loss)


def test_more_parts_than_rows_are_refused(corpus, tmp_path):
    shards, tokenizer = corpus
    settings = SMALL | {"batch_tokens": 32, "accumulate": 5}
    model = models.build(settings, tokenizer.vocabulary_size, tokenizer.end, 1)
    with pytest.raises(training.TrainingError, match="accumulate is 5, but a batch has 4 rows of 8 tokens; lower"):
        training.train(model, shards, settings, 1, "cpu", 1, *folders(tmp_path))


def test_patience_needs_something_to_judge_by(corpus, tmp_path):
    shards, tokenizer = corpus
    held_out = shards_room.open_shards(shards, "validation").n_tokens
    for changes, message in (
        ({"validations": 0}, "validations is 0"),
        ({"context": held_out}, f"no validation text of {held_out} tokens"),
    ):
        settings = SMALL | {"patience": 2, "steps": 1} | changes
        model = models.build(settings, tokenizer.vocabulary_size, tokenizer.end, 1)
        with pytest.raises(training.TrainingError, match=f"patience is 2, but .*{message}"):
            training.train(model, shards, settings, 1, "cpu", 1, *folders(tmp_path))


def test_a_misspelt_setting_of_any_kind_is_refused(corpus, tmp_path):
    shards, tokenizer = corpus
    for settings in ({"kind": "ngram", "steps": 5}, {"kind": "transformer", "order": 3}):
        model = models.build(settings, tokenizer.vocabulary_size, tokenizer.end, 1)
        with pytest.raises(training.TrainingError, match="has no setting"):
            training.train(model, shards, settings, 1, "cpu", 1, *folders(tmp_path))


def test_tensorboard_reads_the_events(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = folders(tmp_path)
    _, outcome = trained(folder, derived.Settled(steps=5))
    events = EventAccumulator(str(folder[0] / "events"))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("loss")]
    assert found == [(p["step"], pytest.approx(p["loss"])) for p in outcome.curve]
