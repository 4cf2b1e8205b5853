"""Documents in a block: joined or separate, and padding, which costs nothing and teaches nothing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pileline import manifest, models, shards, tokenizer, training
from pileline.models.interface import ModelError
from pileline.models.transformer import borders
from pileline.training import derived, loop

from tests.unit.small_corpora import write_shards
from tests.unit.small_models import END, V, built, entry

pytestmark = pytest.mark.usefixtures("one_thread")


def a_document(length: int, seed: int) -> np.ndarray:
    tokens = np.random.default_rng(seed).integers(END + 1, V, length)
    tokens[0] = END
    return tokens


# ------------------------------------------------------------------------------------------- attention


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 4))
@settings(max_examples=60)
def test_places_see_their_own_document_alone(lengths: list[int], missing: int) -> None:
    """`missing` tokens are cut from the block's start, as concatenation does."""
    row = np.concatenate([a_document(length, n) for n, length in enumerate(lengths)])[min(missing, lengths[0] - 1) :]
    positions, seen = borders(torch.from_numpy(row[None]), END, len(row))
    begin = 0
    for at, token in enumerate(row.tolist()):
        begin = at if token == END else begin
        assert positions[0, at] == at - begin
        assert seen[0, 0, at].nonzero().ravel().tolist() == list(range(begin, at + 1))


@pytest.mark.parametrize("bigrams", [0, 31])
@given(st.lists(st.integers(1, 11), min_size=1, max_size=4), st.integers(0, 1000))
@settings(max_examples=8)
def test_separate_documents_are_computed_as_if_each_stood_alone(bigrams: int, lengths: list[int], seed: int) -> None:
    model = built("transformer", documents="separate", bigrams=bigrams)
    parts = [a_document(length, seed + n) for n, length in enumerate(lengths)]
    row = np.concatenate(parts)[:24]
    with torch.no_grad():
        together = model.network(torch.from_numpy(row[None]))[0]
        alone = torch.cat([model.network(torch.from_numpy(part[None]))[0] for part in parts if len(part)])[:24]
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_joined_documents_see_each_other_and_separate_ones_do_not() -> None:
    first, other, second = a_document(10, 1), a_document(10, 2), a_document(10, 3)
    for kind, alike in (("joined", False), ("separate", True)):
        model = built("transformer", documents=kind)
        with torch.no_grad():
            rows = [torch.from_numpy(np.concatenate([before, second])[None]) for before in (first, other)]
            a, b = (model.network(row)[0, 10:] for row in rows)
        assert torch.allclose(a, b, atol=1e-5) == alike


def test_scores_of_documents_are_the_same_either_way() -> None:
    texts = [a_document(length, length)[1:] for length in (5, 12, 60, 1, 24)]
    joined, separate = (built("transformer", documents=kind).score(texts) for kind in ("joined", "separate"))
    for a, b in zip(joined, separate, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_the_setting_is_saved_and_older_models_are_joined(tmp_path: Path) -> None:
    model = built("transformer", documents="separate")
    model.save(tmp_path)
    assert models.load(tmp_path).shape.documents == "separate"
    configuration = tmp_path / "config.json"
    configuration.write_text(configuration.read_text().replace('"documents": "separate",', ""))
    assert models.load(tmp_path).shape.documents == "joined"
    with pytest.raises(ModelError, match="documents is 'apart', must be one of joined, separate"):
        built("transformer", documents="apart")


# --------------------------------------------------------------------------------------------- padding


@pytest.mark.parametrize("kind", ["joined", "separate"])
def test_padding_changes_neither_loss_nor_gradient(kind: str) -> None:
    losses, gradients = [], []
    for pad in (0, 9):
        model = built("transformer", documents=kind)
        row = np.append(a_document(15, 1), END)
        inputs = np.append(row[:-1], np.full(pad, END))[None]
        targets = np.append(row[1:], np.full(pad, shards.PADDING))[None]
        loss = model.network.loss(torch.from_numpy(inputs), torch.from_numpy(targets))
        loss.backward()
        losses.append(loss.item())
        gradients.append([p.grad for p in model.network.parameters()])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_a_loss_of_padding_alone_is_zero() -> None:
    nothing = torch.full((2, 8), shards.PADDING)
    assert built("transformer").network.loss(torch.full((2, 8), END), nothing).item() == 0


class Padded:
    """Batches with more padding in some rows than in others."""

    epoch_steps = 4

    def batch_at(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        rows = np.stack([a_document(9, 10 * step + row) for row in range(4)])
        targets = rows[:, 1:].copy()
        for row in range(4):
            targets[row, 8 - 2 * row :] = shards.PADDING
        return rows[:, :-1], targets


def run(folder: Path, **plan: Any) -> tuple[Any, Any]:
    model = models.build(entry("transformer", context=8), V, END, 1)
    folder.mkdir()
    made = derived.Settled(**{"steps": 6, "warmup": 1, "precision": "float32"} | plan)
    return model, loop.run(model, Padded(), Padded(), made, 1, 1, folder, folder, checkpoint_seconds=0)


def test_accumulated_parts_weigh_by_their_tokens(tmp_path: Path) -> None:
    whole, parts = (run(tmp_path / str(k), accumulate=k, steps=1)[1].curve[0] for k in (1, 4))
    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-5)
    assert parts["gradient_norm"] == pytest.approx(whole["gradient_norm"], rel=1e-4)


def test_tokens_seen_are_those_predicted(tmp_path: Path) -> None:
    outcome = run(tmp_path / "run")[1]
    assert [point["tokens"] for point in outcome.curve] == [20 * step for step in range(1, 7)]


def test_prefetching_changes_no_bit(tmp_path: Path) -> None:
    found = [run(tmp_path / str(ahead), prefetch=ahead) for ahead in (0, 3)]
    states = [model.network.state_dict() for model, _ in found]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert found[0][1] == found[1][1]


# ----------------------------------------------------------------------------------------- with shards


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tokenizer.Tokenizer]:
    generator = np.random.default_rng(1)
    lines = ["the cat sat on the mat", "the dog ran in the fog", "a fox in a box", "one two three four five"]
    texts = ["\n".join(lines[k] for k in generator.integers(0, 4, generator.integers(1, 9))) for _ in range(240)]
    parts = {"train": texts[:200], "validation": texts[200:]}
    return write_shards(
        tmp_path_factory.mktemp("corpus"), parts, {"kind": "bpe", "vocabulary": 300, "sample_mb": 1}, ("s0", "s1")
    )


PACKED = {"packing": "best_fit", "documents": "separate", "source_weights": {"s1": 2.0}}


@pytest.mark.parametrize(("kind", "changes"), [("transformer", {}), ("transformer", PACKED), ("residual", PACKED)])
def test_models_learn_from_either_packing_and_say_what_it_cost(
    folder: tuple[Path, tokenizer.Tokenizer], tmp_path: Path, kind: str, changes: dict[str, Any]
) -> None:
    root, made = folder
    settings = entry(kind, steps=40, batch_tokens=96, warmup=4, prefetch=2, **changes)
    model = models.build(settings, made.vocabulary_size, made.end, 1)
    outcome = training.train(model, root, settings, 1, "cpu", 1, tmp_path, tmp_path)
    assert outcome.validation_loss < math.log(made.vocabulary_size) / 2
    account = outcome.packing
    assert account["packing"] == changes.get("packing", "concatenate")
    assert account["context"] == 24
    assert (account["padding"] > 0) == bool(changes)
    assert account["tokens"] + account["padding"] == account["rows"] * 24
    assert outcome.metrics()["packing"]["cut_share"] == pytest.approx(account["cut"] / account["documents"], abs=1e-6)
    assert outcome.tokens_seen == 40 * 96 if not changes else 0 < outcome.tokens_seen < 40 * 96
    manifest.canonical_json(outcome.metrics())
