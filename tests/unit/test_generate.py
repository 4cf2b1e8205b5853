"""Sampling against its definitions, and the command that lets a model write."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pileline import generate, manifest, models, tokenizer
from pileline.models.sampling import Sampling, SamplingError

CHANCES = np.array([0.1, 0.4, 0.1, 0.4])
UTF8 = os.environ | {"PYTHONUTF8": "1"}  # whatever the locale
DISTRIBUTIONS = st.lists(st.integers(0, 50), min_size=2, max_size=30).filter(any).map(lambda n: np.array(n) / sum(n))


def bent(chances, seen=(), **changes):
    """The distribution that is drawn from."""
    kept, weights = Sampling(**changes).weigh(np.asarray(chances, dtype=float), seen)
    assert (np.diff(kept) > 0).all()
    found = np.zeros(len(chances))
    found[kept] = weights / weights.sum()
    return found


# --------------------------------------------------------------------------------------------- sampling


def test_top_k_and_temperature():
    assert bent(CHANCES, top_k=2).tolist() == pytest.approx([0, 0.5, 0, 0.5])
    assert bent(CHANCES, top_k=3).tolist() == pytest.approx([1 / 9, 4 / 9, 0, 4 / 9])
    assert bent(CHANCES, temperature=0.5) == pytest.approx(np.array([1, 16, 1, 16]) / 34)
    assert bent(CHANCES, temperature=0.0).tolist() == [0, 1, 0, 0]


@settings(max_examples=200)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=60).filter(any), st.integers(1, 61))
def test_top_k_keeps_the_first_of_the_likeliest(counts, k):
    chances = np.array(counts) / sum(counts)
    expected = np.zeros(len(chances))
    likeliest = sorted(range(len(chances)), key=lambda token: (-chances[token], token))[:k]
    expected[likeliest] = chances[likeliest]
    assert bent(chances, top_k=k) == pytest.approx(expected / expected.sum())


def test_top_p_keeps_the_fewest_that_reach_it():
    assert bent([0.5, 0.3, 0.2], top_p=0.5).tolist() == pytest.approx([1, 0, 0])
    assert bent([0.2, 0.3, 0.5], top_p=0.51).tolist() == pytest.approx([0, 0.375, 0.625])
    assert bent([0.5, 0.3, 0.2], top_p=0.81).tolist() == pytest.approx([0.5, 0.3, 0.2])
    assert bent([0.4, 0.3, 0.2, 0.1], top_k=2, top_p=0.5).tolist() == pytest.approx([1, 0, 0, 0])  # of the two kept


def test_min_p_is_a_share_of_the_likeliest():
    assert bent([0.5, 0.3, 0.1, 0.1], min_p=0.5).tolist() == pytest.approx([0.625, 0.375, 0, 0])
    assert bent([0.5, 0.3, 0.2], min_p=1.0).tolist() == pytest.approx([1, 0, 0])


def test_repetition_makes_what_was_seen_less_likely():
    assert bent([0.5, 0.25, 0.25], [0, 0], repetition_penalty=2.0).tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    assert bent([0.5, 0.3, 0.2], [1], repetition_penalty=1.0).tolist() == pytest.approx([0.5, 0.3, 0.2])
    assert bent([0.6, 0.4], [0], temperature=0.0, repetition_penalty=2.0).tolist() == [0, 1]


@given(
    DISTRIBUTIONS,
    st.floats(0.1, 3),
    st.integers(0, 31),
    st.floats(0.01, 1),
    st.floats(0, 1),
    st.floats(0.5, 2),
    st.integers(0, 9),
)
def test_what_is_drawn_is_possible_and_of_the_likeliest(chances, temperature, top_k, top_p, min_p, penalty, seed):
    names = "temperature", "top_k", "top_p", "min_p", "repetition_penalty"
    changes = dict(zip(names, (temperature, top_k, top_p, min_p, penalty), strict=True))
    found = bent(chances, [0], **changes)
    assert found.sum() == pytest.approx(1)
    assert (found[chances == 0] == 0).all()
    assert np.count_nonzero(found) <= (top_k or len(chances))
    logarithms = np.log(np.maximum(chances, 1e-300)) * np.where(np.arange(len(chances)) == 0, penalty, 1)
    assert logarithms[found > 0].min() >= logarithms[found == 0].max(initial=-np.inf) - 1e-12
    assert found[Sampling(**changes).draw(chances, np.random.default_rng(seed), [0])] > 0


@settings(max_examples=30)
@given(DISTRIBUTIONS, st.floats(0.2, 2), st.integers(1, 31), st.floats(0.05, 0.95))
def test_cuts_are_those_of_transformers(chances, temperature, top_k, top_p):
    import torch
    from transformers.generation import logits_process as theirs

    chances = (chances + np.linspace(1, 2, len(chances)) * 1e-3) / (chances + 1e-3).sum()  # no ties: order would decide
    scores = torch.log(torch.from_numpy(chances / chances.sum()))[None]
    for warp in (theirs.TemperatureLogitsWarper(temperature), theirs.TopKLogitsWarper(top_k)):
        scores = warp(None, scores)
    scores = theirs.MinPLogitsWarper(0.05)(None, theirs.TopPLogitsWarper(top_p)(None, scores))
    expected = torch.softmax(scores, dim=-1)[0].numpy()
    found = bent(chances / chances.sum(), temperature=temperature, top_k=top_k, top_p=top_p, min_p=0.05)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_draws_have_the_frequencies_that_were_asked_for():
    generator = np.random.default_rng(0)
    counts = np.bincount([Sampling().draw(CHANCES, generator) for _ in range(4000)], minlength=4)
    np.testing.assert_allclose(counts / 4000, CHANCES, atol=0.03)


@pytest.mark.parametrize(
    "changes",
    [{"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}, {"min_p": 2.0}, {"repetition_penalty": 0.0}],
)
def test_settings_out_of_range_are_refused(changes):
    (name,) = changes
    with pytest.raises(SamplingError, match=f"^{name} is "):
        Sampling(**changes)


# ---------------------------------------------------------------------------------------------- command


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of every fifth byte's habits, in the place where the line keeps it, beside its tokenizer."""
    results = tmp_path_factory.mktemp("results")
    tokens, place = results / "tokenizers/demo/bytes", results / "models/demo/bytes/ngram"
    for made in (tokens, place):
        made.mkdir(parents=True)
    tokenizer.train(["größer als ein Haus. "] * 3, {"kind": "byte"}, 1, tokens / tokenizer.NAME)
    manifest.write(tokens, "tokenizer", {})
    made = tokenizer.Tokenizer.load(tokens)
    model = models.build({"kind": "ngram", "order": 5}, made.vocabulary_size, made.end)
    model.fit(np.concatenate([[made.end], made.encode("größer als ein Haus. " * 20)]))
    model.save(place)
    return place


def test_the_command_goes_on_from_the_prompt(folder, capfd):
    arguments = [str(folder), "--prompt", "größer als", "--tokens", "11", "--temperature", "0"]
    assert generate.main(arguments) == 0
    written = capfd.readouterr()
    assert written.out == "größer als ein Haus. \n"
    assert "11 tokens in" in written.err


def test_the_command_reads_standard_input_and_repeats_itself(folder):
    command = [
        sys.executable,
        "-m",
        "pileline.generate",
        str(folder),
        "--tokens",
        "40",
        "--seed",
        "3",
        "--top-p",
        "0.9",
    ]
    prompts = ("grö", "grö\n")  # with and without the line break that ends a file's last line
    done = [subprocess.run(command, input=text.encode(), stdout=PIPE, env=UTF8, check=True) for text in prompts]
    first, again = (each.stdout for each in done)
    assert first == again
    assert first.decode().startswith("grö")
    assert len(first) == 4 + 40 + 1


def test_several_samples_are_those_of_the_seeds_that_follow(folder, capfd):
    def written(*arguments):
        assert generate.main([str(folder), "--prompt", "grö", "--tokens", "30", *arguments]) == 0
        return capfd.readouterr().out

    alone = [written("--seed", str(seed)) for seed in (4, 5)]
    assert alone[0] != alone[1]
    assert written("--seed", "4", "--samples", "2") == "".join(
        f"── seed {seed}\n{text}" for seed, text in zip((4, 5), alone, strict=True)
    )


def test_a_reader_that_has_enough_ends_it_in_peace(folder):
    command = [sys.executable, "-m", "pileline.generate", str(folder), "--prompt", "ein", "--tokens", "4000"]
    with subprocess.Popen(command, stdout=PIPE, stderr=PIPE, env=UTF8) as running:
        running.stdout.read(2)
        running.stdout.close()
        said = running.stderr.read().decode()
    assert running.returncode == 0
    assert "Error" not in said


def test_text_comes_in_whole_characters(folder):
    made = tokenizer.Tokenizer.load(generate.tokenizer_folder(folder))
    tokens = made.encode("größer ⟨書⟩").tolist()
    parts = list(generate.pieces(made, tokens))
    assert "".join(parts) == "größer ⟨書⟩"
    assert "書" in parts
    assert "".join(generate.pieces(made, tokens[:-1])) == made.decode(tokens[:-1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--top-p", "2"], "top_p is 2.0"),
        (["--seed", "-1"], "seed is -1, must be at least 0"),
        (["--tokens", "-1"], "tokens is -1, must be at least 0"),
        (["--samples", "0"], "samples is 0, must be at least 1"),
        (["--threads", "0"], "threads is 0, must be at least 1"),
        (["--tokenizer", "{other}"], "name the tokenizer it was trained with"),
        (["--tokenizer", "{nowhere}"], "not found"),
    ],
)
def test_what_does_not_do_is_refused(folder, arguments, message, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    tokenizer.train(["abc " * 50], {"kind": "char", "vocabulary": 300}, 1, other / tokenizer.NAME)
    manifest.write(other, "tokenizer", {})
    places = {"other": other, "nowhere": tmp_path / "nowhere"}
    filled = [argument.format(**places) for argument in arguments]
    assert generate.main([str(folder), "--prompt", "a", *filled]) == 2
    assert message in capsys.readouterr().err


def test_a_model_is_loaded_as_the_readme_says(folder, capfd):
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (code,) = (
        block
        for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
        if block.startswith("from pileline import")
    )
    known = {}
    exec(code.replace("results/models/demo/bpe2k/transformer", str(folder)), known)
    assert str(known["model"].score([known["prompt"]])[0]) in capfd.readouterr().out


def test_a_folder_without_a_model_is_refused(tmp_path: Path, capsys):
    assert generate.main([str(tmp_path), "--prompt", "a"]) == 2
    assert "train the model first" in capsys.readouterr().err


def test_a_folder_for_other_libraries_is_told_apart(tmp_path: Path, capsys):
    (tmp_path / "config.json").write_text('{"model_type": "qwen3"}')
    assert generate.main([str(tmp_path), "--prompt", "a"]) == 2
    assert "what is below results/exports/ is read by Hugging Face's transformers" in capsys.readouterr().err
