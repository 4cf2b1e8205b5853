"""Exported models against `transformers`: the same logits, the same texts, the same tokens."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pileline import export, models, tokenizer
from pileline.tokenizer import escaped

from tests.unit.test_tokenizer import make_texts

SMALL = {"kind": "transformer", "layers": 2, "heads": 4, "width": 32, "context": 48}
PLAIN = SMALL | {"again": False}
ORIGINAL = {"kind": "transformer-2017", "layers": 2, "heads": 4, "width": 32, "context": 48}
SHAPES = {
    "qwen3": (PLAIN | {"mlp_kind": "gated", "key_value_heads": 2}, "Qwen3ForCausalLM"),
    "qwen3-untied": (PLAIN | {"mlp_kind": "gated", "tied": False}, "Qwen3ForCausalLM"),
    "nanochat": (PLAIN | {"key_value_heads": 1}, "NanoChatForCausalLM"),
    "nanochat-untied": (PLAIN | {"tied": False, "documents": "separate"}, "NanoChatForCausalLM"),
    "own": (SMALL | {"bigrams": 97, "ngrams": 4, "key_shift": 2}, "PilelineForCausalLM"),
    "own-gated": (SMALL | {"mlp_kind": "gated", "key_value_heads": 2, "tied": False}, "PilelineForCausalLM"),
    "opt": (ORIGINAL, "OPTForCausalLM"),
    "opt-wide": (ORIGINAL | {"mlp": 5, "layers": 1}, "OPTForCausalLM"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / tokenizer.NAME
    tokenizer.train(make_texts(200), {"kind": "bpe", "vocabulary": 400}, 1, path)
    return tokenizer.Tokenizer(path.read_bytes())


def built(made, settings):
    """A model whose every parameter is random, so that no part is silent."""
    model = models.build(settings, made.vocabulary_size, made.end, seed=1)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    model.network.eval()
    return model


@pytest.fixture(scope="module", params=SHAPES)
def exported(request, made, tmp_path_factory):
    """A model, and its folder."""
    settings, architecture = SHAPES[request.param]
    model, folder = built(made, settings), tmp_path_factory.mktemp(request.param) / "exported"
    written = export.write(model, made, folder)
    assert written == {"architecture": architecture, "own_code": architecture == "PilelineForCausalLM"}
    return model, folder


def documents(model, count=3):
    generator = np.random.default_rng(0)
    return [generator.integers(3, model.vocabulary_size, n) for n in (5, 80, 31)[:count]]


def test_transformers_gives_the_same_logits(exported):
    model, folder = exported
    found = export.parity(folder, model, documents(model))
    assert found.tokens == 6 + 48 + 32
    assert found.largest_logit > 1  # a silent network would prove nothing
    assert found.largest_difference < 2e-5 * found.largest_logit
    assert found.equal
    assert found.same_choice > 0.99


@st.composite
def shapes(draw):
    """Settings of a model that can be exported, the smallest included."""
    heads = draw(st.integers(1, 3))
    common = {
        "layers": draw(st.integers(1, 2)),
        "heads": heads,
        "width": 2 * heads * draw(st.integers(1, 3)),
        "context": draw(st.integers(1, 9)),
        "mlp": draw(st.integers(1, 7)),
        "dropout": draw(st.sampled_from([0.0, 0.5])),
    }
    if draw(st.booleans()):
        return common | {"kind": "transformer-2017"}
    bigrams = draw(st.sampled_from([0, 1, 50]))
    return common | {
        "kind": "transformer",
        "mlp_kind": draw(st.sampled_from(["relu2", "gated"])),
        "key_value_heads": draw(st.sampled_from([None, *(count for count in (1, 2, 3) if heads % count == 0)])),
        "bigrams": bigrams,
        "ngrams": draw(st.integers(2, 9)) if bigrams else 2,
        "key_shift": draw(st.sampled_from([0, 1, 16])),
        "again": draw(st.booleans()),
        "tied": draw(st.sampled_from([None, True, False])),
        "documents": draw(st.sampled_from(["joined", "separate"])),
    }


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shapes())
def test_whatever_is_trained_can_be_exported(made, tmp_path, shape):
    model = built(made, shape)
    export.write(model, made, tmp_path)
    assert export.parity(tmp_path, model, documents(model)).equal


def test_transformers_writes_the_same_text(exported):
    model, folder = exported
    other = export.loaded(folder)
    prompt = documents(model)[2][:9]
    ids = torch.from_numpy(np.append(model.end, prompt))[None]
    expected = model.generate(prompt, 20, temperature=0.0).tolist()
    assert len(expected) > 3
    for cached in (True, False):
        with torch.inference_mode():
            found = other.generate(ids, max_new_tokens=20, do_sample=False, use_cache=cached)[0, ids.size(1) :].tolist()
        assert found[: len(expected)] == expected


def test_what_the_page_shows_works(exported):
    model, folder = exported
    other, codec = export.loaded(folder), export.tokenizer(folder)
    inputs = codec("The history of", return_tensors="pt")
    found = other.generate(**inputs, max_new_tokens=5, do_sample=False)[0].tolist()
    prompt = inputs["input_ids"][0, 1:].numpy()
    assert found[1 + len(prompt) :][:5] == model.generate(prompt, 5, temperature=0.0).tolist()
    assert codec.decode(found, skip_special_tokens=True).startswith("The history of")


def test_a_padded_batch_has_the_same_logits(exported):
    model, folder = exported
    other = export.loaded(folder)
    short, long = (
        torch.from_numpy(np.append(model.end, document[:n]))
        for document, n in zip(documents(model, 2), (5, 9), strict=True)
    )
    padding = torch.full((len(long) - len(short),), model.end)
    row = torch.cat((padding, short))
    mask = torch.ones(2, len(long), dtype=torch.int64)
    mask[0, : len(padding)] = 0
    with torch.inference_mode():
        places = (mask.cumsum(1) - 1).clamp(min=0)
        found = other(input_ids=torch.stack((row, long)), attention_mask=mask, position_ids=places).logits
        expected = model.network(short[None])[0]
    torch.testing.assert_close(found[0][mask[0] == 1], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["own", "own-gated", "qwen3-untied"])
def test_hidden_states_tuples_and_more_tokens_are_given_when_asked_for(made, tmp_path, name):
    """By our modelling file as by the library's own."""
    settings = SHAPES[name][0]
    export.write(built(made, settings), made, tmp_path)
    other = export.loaded(tmp_path)
    ids = torch.from_numpy(documents(made)[0])[None]
    with torch.inference_mode():
        found = other(input_ids=ids, output_hidden_states=True)
        assert len(found.hidden_states) == settings["layers"] + 1
        again = other.get_output_embeddings()
        if again is not None:
            torch.testing.assert_close(again(found.hidden_states[-1]), found.logits)
        assert other(input_ids=ids).hidden_states is None
        assert torch.equal(other(input_ids=ids, return_dict=False)[0], found.logits)
        other.resize_token_embeddings(made.vocabulary_size + 3, mean_resizing=False)
        larger = other(input_ids=ids).logits
        assert other(input_ids=ids + 3).logits.isfinite().all()
    assert larger.shape == (*ids.shape, made.vocabulary_size + 3)
    torch.testing.assert_close(larger[..., :-3], found.logits)


def test_going_on_without_the_tokens_before_is_refused(made, tmp_path):
    model = built(made, SHAPES["own"][0])
    export.write(model, made, tmp_path)
    other = export.loaded(tmp_path)
    ids = torch.from_numpy(documents(model)[2])[None]
    past = other(input_ids=ids[:, :-1], use_cache=True).past_key_values
    with pytest.raises(ValueError, match="needs `before`, the last 3 tokens"):
        other(input_ids=ids[:, -1:], past_key_values=past)
    found = other(input_ids=ids[:, -1:], past_key_values=past, before=ids[:, -4:-1]).logits
    torch.testing.assert_close(found[0, -1], other(input_ids=ids).logits[0, -1], rtol=1e-4, atol=1e-4)


def test_the_tokenizer_travels_with_it(exported, made):
    model, folder = exported
    other = export.tokenizer(folder)
    for text in ["", " a  b\n", *make_texts(5, seed=2), f"the name {tokenizer.END} in a text"]:
        found = other(text)["input_ids"]
        assert found == [made.end, *made.encode(text).tolist()]
        assert other.decode(found, skip_special_tokens=True) == text
        assert other.decode(found) == tokenizer.END + text  # else lm-evaluation-harness takes it to be there already
    assert (other.bos_token_id, other.eos_token_id) == (model.end, model.end)


def test_the_same_model_gives_the_same_bytes(exported, made, tmp_path):
    model, folder = exported
    export.write(model, made, tmp_path)
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


def test_only_what_no_architecture_has_needs_code(exported):
    _, folder = exported
    config = json.loads((folder / "config.json").read_text())
    assert (folder / "modeling_pileline.py").exists() == ("auto_map" in config)


def test_what_llama_cpp_converts_has_its_tokenizer_and_nothing_else_has(exported, made, tmp_path):
    model, folder = exported
    architecture = json.loads((folder / "config.json").read_text())["architectures"][0]
    export.write(built(made, SHAPES["qwen3"][0]), made, tmp_path)
    assert (tmp_path / "tokenizer.model").read_bytes() == escaped.to_bytes(made)
    export.write(model, made, tmp_path)  # over the other: no file of it may stay
    assert (tmp_path / "tokenizer.model").exists() == (architecture == "Qwen3ForCausalLM")
    assert ("--override-kv" in (tmp_path / "README.md").read_text()) == (architecture == "Qwen3ForCausalLM")


def test_models_that_no_architecture_computes_are_refused(made, tmp_path):
    model = models.build({"kind": "ngram", "order": 2}, made.vocabulary_size, made.end)
    with pytest.raises(export.ExportError, match="kind 'ngram' has no architecture"):
        export.write(model, made, tmp_path)


def test_another_tokenizer_is_refused(made, tmp_path):
    model = models.build(SMALL, made.vocabulary_size + 1, made.end)
    with pytest.raises(export.ExportError, match="the tokenizer it was trained with"):
        export.write(model, made, tmp_path)
