"""What every kind of model promises: whatever is inside, each kind of the registry keeps to the interface."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pileline import models
from pileline.models.interface import LanguageModel, ModelError
from pileline.models.neural import window_start, windows

from tests.unit import small_models
from tests.unit.small_models import END, V, built, documents, entry, tokens

GROUPED = {"heads": 4, "key_value_heads": 2, "mlp_kind": "gated", "again": False}
VARIANTS = {  # other shapes of a kind, which take other ways through its code
    "lstm-shallow": ("lstm", {"layers": 1, "context": 3}),
    "mlp-indirect": ("mlp", {"direct": False, "loss": "mse", "window": 1}),
    "ngram-unigram": ("ngram", {"order": 1, "repeats": "all"}),
    "transformer-grouped": ("transformer", {**GROUPED, "context": 7, "key_shift": 3, "ngrams": 3}),
    "transformer-separate": ("transformer", {"documents": "separate", "key_shift": 2, "ngrams": 4}),
    "transformer-untied": ("transformer", {"tied": False, "bigrams": 0, "context": 1}),
    "transformer-2017-odd": ("transformer-2017", {"layers": 1, "heads": 1, "context": 5}),
}
CASES = {kind: (kind, {}) for kind in models.REGISTRY} | VARIANTS
LEARNED = [name for name, (kind, _) in CASES.items() if models.resolve(kind).learns_by == "gradient"]
DROPPING = [kind for kind in models.REGISTRY if "dropout" in models.resolve(kind).setting_names()]
FROM_NOTHING = ("mlp", "mlp-indirect", "transformer", "transformer-separate", "transformer-untied")
every_case = pytest.mark.parametrize("case", CASES)
every_learned_case = pytest.mark.parametrize("case", LEARNED)
pytestmark = pytest.mark.usefixtures("one_thread")


def model_of(case, **changes):
    kind, own = CASES[case]
    return built(kind, **own | changes)


def new(case, seed, **changes):
    """A model as it is before training."""
    kind, own = CASES[case]
    return models.build(entry(kind, **own | changes), V, END, seed)


def longest(model):
    """Tokens of a document that is longer than what the model sees at once."""
    return 2 * model.context + 11


def test_every_kind_is_here():
    assert set(small_models.SETTINGS) == set(models.REGISTRY)
    assert set(FROM_NOTHING) <= set(LEARNED)


# ------------------------------------------------------------------------------------------ distributions


@every_case
def test_a_prediction_is_a_distribution(case):
    model = model_of(case)
    for context in (tokens(0), tokens(1), tokens(longest(model))):
        chances = model.next_probabilities(context)
        assert chances.dtype == np.float64
        assert chances.shape == (V,)
        assert chances.sum() == pytest.approx(1.0)
        assert (chances > 0).all()
        assert chances.max() > 1.2 * chances.mean()  # it says something


@every_case
def test_score_is_the_product_of_predictions(case):
    model = model_of(case)
    document = tokens(longest(model))
    expected = [math.log(model.next_probabilities(document[:i])[token]) for i, token in enumerate(document)]
    (found,) = model.score([document])
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, atol=1e-4)


@every_case
@settings(max_examples=10)
@given(data=st.data())
def test_what_comes_later_has_no_say(case, data):
    model = model_of(case)
    document = tokens(longest(model), data.draw(st.integers(0, 1000)))
    place = data.draw(st.integers(1, len(document) // 2))  # many come later: of a few, all may be as likely as before
    other = document.copy()
    other[place:] = (other[place:] + 7) % V
    one, two = model.score([document, other])
    np.testing.assert_allclose(one[:place], two[:place], atol=1e-5)
    assert np.abs(one[place:] - two[place:]).max() > 1e-3


@every_case
@settings(max_examples=10)
@given(lengths=st.lists(st.integers(0, 60), min_size=1, max_size=6), at_once=st.integers(1, 80))
def test_score_does_not_depend_on_the_batch(case, lengths, at_once):
    model = model_of(case)
    texts = [tokens(n, seed=number) for number, n in enumerate(lengths)]
    alone = [model.score([text])[0] for text in texts]
    with pytest.MonkeyPatch.context() as patch:
        for module, name in (("neural", "SCORED_AT_ONCE"), ("lstm", "SCORED_AT_ONCE"), ("ngram", "SCORED_AT_ONCE")):
            patch.setattr(f"pileline.models.{module}.{name}", at_once)
        patch.setattr("pileline.models.neural.LOGITS_AT_ONCE", at_once)
        together = model.score(texts)
    for text, one, other in zip(texts, alone, together, strict=True):
        assert len(one) == len(text)
        np.testing.assert_allclose(other, one, atol=1e-4)


@given(st.lists(st.integers(0, 100), max_size=8), st.integers(2, 30))
def test_windows_score_every_place_once_with_enough_context(lengths, context):
    scored = {(d, i): 0 for d, n in enumerate(lengths) for i in range(n)}
    for window in windows(lengths, context):
        assert 0 <= window.start <= window.scored < window.stop <= window.start + context
        assert window.start == 0 or window.scored - window.start >= context // 2
        for place in range(window.scored, window.stop):
            scored[window.document, place] += 1
    assert set(scored.values()) <= {1}
    for length in filter(None, lengths):
        *_, last = windows([length], context)
        assert window_start(length, context) == last.start


# --------------------------------------------------------------------------------------------- generation


@every_case
def test_it_predicts_the_same_with_and_without_what_it_kept(case):
    """`predictions` may go on from a state; the interface's own computes everything for each token."""
    model = model_of(case)
    prompt, written = tokens(5), tokens(2 * longest(model), seed=2)
    kept, anew = model.predictions(prompt), LanguageModel.predictions(model, prompt)
    np.testing.assert_allclose(next(kept), next(anew), atol=1e-5)
    for token in written.tolist():
        np.testing.assert_allclose(kept.send(token), anew.send(token), atol=1e-5)


@every_case
def test_what_it_writes_is_drawn_from_its_predictions(case):
    model = model_of(case)
    prompt = tokens(longest(model))
    first, same, other = (model.generate(prompt, 12, temperature=3.0, seed=seed).tolist() for seed in (1, 1, 2))
    assert first == same != other
    text = prompt.tolist()
    for token in model.generate(prompt, 12, temperature=0.0).tolist():
        assert token == int(np.argmax(model.next_probabilities(np.array(text))))
        text.append(token)


@every_learned_case
def test_what_is_kept_while_it_writes_does_not_outlive_it(case):
    """The next text is written with the weights of its time, and modules find theirs where they always do."""
    model, other, prompt = model_of(case), model_of(case, seed=2), tokens(5)
    attributes = [set(module.__dict__) for module in model.network.modules()]
    model.generate(prompt, 10)
    assert [set(module.__dict__) for module in model.network.modules()] == attributes
    model.network.load_state_dict(other.network.state_dict())
    assert model.generate(prompt, 10).tolist() == other.generate(prompt, 10).tolist()


@every_learned_case
@settings(max_examples=10)
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_tokens_read_in_parts_have_the_hidden_states_of_the_whole(case, lengths, seed):
    network = model_of(case, context=24).network
    whole = tokens(2 * sum(lengths), seed).reshape(2, -1)
    whole[np.random.default_rng(seed).random(whole.shape) < 0.1] = END  # several documents
    whole, state, parts = torch.from_numpy(whole), {}, []
    with torch.no_grad():
        for part in torch.split(whole, lengths, dim=1):
            hidden, state = network.extend(part, state)
            parts.append(hidden)
        torch.testing.assert_close(torch.cat(parts, dim=1), network.hidden(whole), rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------------------------------------ features


@every_case
def test_features_are_the_mean_of_the_final_hidden_states(case):
    model = model_of(case)
    short = max(model.context - 1, 0)  # a window sees all of it
    texts = [tokens(min(short, 10), 1), tokens(0), tokens(min(short, 3), 2)]
    if not model.has_features:
        with pytest.raises(ModelError, match="has no features"):
            model.features(texts)
        return
    found = model.features(texts)
    assert found.dtype == np.float32
    for row, text in zip(found, texts, strict=True):
        with torch.no_grad():
            hidden = model.network.hidden(torch.from_numpy(np.append(END, text).astype(np.int64)[None]))[0]
        np.testing.assert_allclose(row, hidden.mean(0).numpy(), atol=1e-5)


# ----------------------------------------------------------------------------------------------- learning


@every_learned_case
def test_initial_weights_follow_from_the_seed_alone(case):
    torch.manual_seed(1)
    first = new(case, 5).network.state_dict()
    torch.manual_seed(2)
    expected = torch.get_rng_state()
    again, other = (new(case, seed).network.state_dict() for seed in (5, 6))
    assert torch.equal(torch.get_rng_state(), expected)  # the global generator is left as it was
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert any(not torch.equal(value, other[name]) for name, value in first.items())


@pytest.mark.parametrize("case", FROM_NOTHING)
def test_the_first_loss_is_ln_v(case):
    model = new(case, 5)
    ids = torch.from_numpy(tokens(2 * model.context).reshape(2, -1))
    assert model.network.eval().loss(ids, ids).item() == pytest.approx(math.log(V), abs=1e-5)


@pytest.mark.parametrize("kind", DROPPING)
def test_dropout_is_of_training_alone_and_drawn_from_the_global_seed(kind):
    network = built(kind, dropout=0.5).network
    ids = torch.from_numpy(tokens(16).reshape(2, 8))
    still = [network.hidden(ids) for _ in range(2)]
    assert torch.equal(*still)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(network.train().hidden(ids))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert not torch.allclose(drawn[0], still[0])


@every_case
def test_parameters_are_counted_and_each_is_in_one_group(case):
    model = model_of(case)
    described = model.describe()
    assert model.parameters_count == sum(count for *_, count in described)
    assert all(math.prod(shape) == count for _, shape, count in described)
    if model.learns_by == "gradient":
        groups = model.network.parameter_groups()
        assert set(groups) == {"matrices", "embeddings", "tables", "vectors"}
        grouped = [id(parameter) for group in groups.values() for parameter in group]
        assert sorted(grouped) == sorted(map(id, model.network.parameters()))
        assert {parameter.ndim for name in groups if name != "vectors" for parameter in groups[name]} == {2}


# --------------------------------------------------------------------------------------------------- files


@every_case
def test_saved_and_loaded_is_the_same_model(case, tmp_path):
    model, texts = model_of(case), [tokens(40), tokens(0), np.array(documents(1)[0])]
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
    model.save(tmp_path / "a")
    again = models.load(tmp_path / "a")
    assert type(again) is type(model)
    assert again.configuration() == model.configuration()
    assert again.describe() == model.describe()
    for one, other in zip(model.score(texts), again.score(texts), strict=True):
        assert np.array_equal(one, other)
    if model.has_features:
        assert np.array_equal(model.features(texts), again.features(texts))
    again.save(tmp_path / "b")
    for path in (path for path in (tmp_path / "a").rglob("*") if path.is_file()):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        *((kind, {"context": 0}, "context is 0, must be at least 1") for kind in models.REGISTRY if kind != "ngram"),
        *((kind, {"dropout": 1.0}, "dropout is 1.0, must be at least 0 and below 1") for kind in DROPPING),
        ("lstm", {"layers": 0}, "layers is 0"),
        ("lstm", {"embedding": 0}, "embedding is 0"),
        ("mlp", {"hidden": 0}, "hidden is 0"),
        ("mlp", {"window": 5}, "window 5 is more than half of context 8"),
        ("mlp", {"loss": "mean"}, "loss is 'mean', must be one of cross-entropy, mse"),
        ("ngram", {"order": 6}, "order 6 of the n-gram model is not in 1..5"),
        ("ngram", {"repeats": "twice"}, "repeats 'twice'"),
        ("residual", {"share": 1.5}, r"share 1\.5"),
        ("residual", {"cache": 25}, "cache 25"),
        ("transformer", {"layers": 0}, "layers is 0"),
        ("transformer", {"width": 18, "heads": 4}, "even multiple of heads"),
        ("transformer", {"bigrams": -1}, "bigrams is -1"),
        ("transformer", {"ngrams": 1}, "ngrams is 1"),
        ("transformer", {"key_shift": -1}, "key_shift is -1"),
        ("transformer", {"heads": 4, "key_value_heads": 3}, "key_value_heads is 3, must divide heads"),
        ("transformer", {"mlp_kind": "gelu"}, "mlp_kind is 'gelu'"),
        ("transformer-2017", {"layers": 0}, "layers is 0"),
        ("transformer-2017", {"width": 18, "heads": 4}, "multiple of heads"),
    ],
)
def test_shapes_that_cannot_be_are_refused(kind, changes, message):
    with pytest.raises(ModelError, match=message):
        models.build(entry(kind, **changes), V, END)
