"""The tokenizer's card: counts against a count by hand, words, Rényi's efficiency, and sources left out."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pileline import documents, tokenizer
from pileline.tokenizer import card, compare

from tests.unit.test_tokenizer import SETTINGS, make_texts


def write_table(path: Path, texts: Iterable[tuple[str, str]]) -> Path:
    rows = [
        documents.Document(f"{source}/{number}", source, text, documents.key_of(text))
        for number, (source, text) in enumerate(texts)
    ]
    documents.write(path, rows)
    return path


def texts_of(path: Path) -> list[str]:
    return [text for batch in card.rows(path) for _, text in batch]


@pytest.fixture(scope="module", params=tokenizer.KINDS)
def made(request: pytest.FixtureRequest) -> tokenizer.Tokenizer:
    return tokenizer.Tokenizer(tokenizer.fit(make_texts(200), SETTINGS[request.param], 1)[0])


def test_measure_counts_by_source(made: tokenizer.Tokenizer, tmp_path: Path) -> None:
    texts = {"two": ["\U0001f44d", "", "ba ko"], "one": ["ba ko", "本 it's"]}
    table = write_table(tmp_path / "table", [(source, text) for source in texts for text in texts[source]])
    found = card.measure(made, card.rows(table), threads=2)
    assert list(found.by_source) == ["one", "two"]
    for source, expected in texts.items():
        tokens = [token for text in expected for token in made.encode(text).tolist()]
        size = sum(len(text.encode()) for text in expected)
        spelled = sum(made.is_byte(token) for token in tokens)
        words = {"one": 5, "two": 2}[source]
        assert found.by_source[source] == {
            "documents": len(expected),
            "bytes": size,
            "words": words,
            "tokens": len(tokens),
            "byte_tokens": spelled,
            "bytes_per_token": round(size / len(tokens), 4),
            "tokens_per_word": round(len(tokens) / words, 4),
            "byte_fallback_rate": round(spelled / len(tokens), 4),
        }
    assert found.overall["tokens"] == found.token_counts.sum()
    assert found.overall["byte_tokens"] == found.token_counts[made.byte_tokens].sum() >= 4  # the emoji has no piece
    assert found.vocabulary_used == len({t for words in texts.values() for w in words for t in made.encode(w).tolist()})


def test_measuring_no_text_gives_no_rate(made: tokenizer.Tokenizer, tmp_path: Path) -> None:
    found = card.measure(made, card.rows(write_table(tmp_path / "table", [])))
    assert (found.by_source, found.vocabulary_used, found.efficiency) == ({}, 0, None)
    assert {name for name, value in found.overall.items() if value is None} == {
        "bytes_per_token",
        "tokens_per_word",
        "byte_fallback_rate",
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 0),
        ("  ...!\n", 0),
        ("It is, well, 3.14 x_1", 7),
        ("été e\u0301te\u0301", 2),
        ("这本书 good", 4),
        ("नमस्ते दुनिया", 2),
        ("สวัสดี", 4),  # four letters, two of which carry marks
        ("привет, мир", 2),
        ("\u0301", 1),
        ("\U00020000\U00020001", 2),
    ],
)
def test_words_are_runs_of_letters_or_single_characters_of_scripts_without_blanks(text: str, words: int) -> None:
    assert card.count_words(text) == words


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_plain_text_is_counted_as_any_other(text: str) -> None:
    assert card.count_words(text) == card.count_words(text + " é") - 1


@given(st.text(alphabet=st.characters(categories=["Lu", "Ll", "Nd", "Mn"], max_codepoint=0x2FF)))
def test_adding_blanks_and_punctuation_adds_no_word(text: str) -> None:
    assert card.count_words(f" {text} .") == card.count_words(text) == min(len(text), 1)


def test_efficiency_is_one_for_even_use_and_zero_for_one_token() -> None:
    assert card.renyi_efficiency(np.full(8, 5)) == pytest.approx(1)
    assert card.renyi_efficiency(np.array([9, 0, 0, 0])) == pytest.approx(0)
    assert card.renyi_efficiency(np.array([4, 4, 0, 0])) == pytest.approx(0.5)
    assert card.renyi_efficiency(np.array([3, 1])) == pytest.approx(
        math.log(0.75**2.5 + 0.25**2.5) / (1 - 2.5) / math.log(2)
    )
    assert card.renyi_efficiency(np.zeros(4, np.int64)) is None


@given(st.lists(st.integers(0, 100), min_size=2, max_size=50).filter(any))
def test_efficiency_at_order_one_is_shannons_and_falls_with_the_order(counts: list[int]) -> None:
    shares = np.array(counts) / sum(counts)
    shannon = -sum(p * math.log(p) for p in shares if p) / math.log(len(counts))
    near, far = (card.renyi_efficiency(np.array(counts), order) for order in (1 + 1e-6, card.ALPHA))
    assert near is not None
    assert far is not None
    assert near == pytest.approx(shannon, abs=1e-4)
    assert -1e-9 <= far <= near + 1e-9


def test_rarest_and_longest_pieces() -> None:
    made = tokenizer.Tokenizer(tokenizer.fit(make_texts(200), SETTINGS["bpe"], 1)[0])
    counts = np.ones(made.vocabulary_size, np.int64)
    counts[300] = 0
    first, second, *_ = card.rarest(made, counts, 400)
    assert first == (made.pieces[300], 0)
    assert second == (max(made.pieces[258:], key=len), 1)
    assert len(card.longest(made, 1)[0]) == max(map(len, made.pieces[258:]))
    bare = tokenizer.Tokenizer(tokenizer.fit([], {"kind": "byte"}, 1)[0])
    assert card.rarest(bare, np.ones(258, np.int64), 3) == card.longest(bare, 3) == []


def test_a_source_left_out_compresses_worse(tmp_path: Path) -> None:
    texts = [("plain", text) for text in make_texts(150)]
    words = ["".join(word) for word in product("zq", "yv", "jx", "gw", "kf")]  # 32, of none of the others' syllables
    own = [("own", " ".join((words[number % 32 :] + words) * 2)) for number in range(60)]
    train = write_table(tmp_path / "train", [*texts, *own])
    held_out = write_table(tmp_path / "validation", [("plain", make_texts(1, seed=9)[0]), own[3], ("empty", "")])
    settings = {"kind": "bpe", "vocabulary": 400}
    model, _ = tokenizer.fit(texts_of(train), settings, 1)
    found = card.measure(tokenizer.Tokenizer(model), card.rows(held_out)).by_source
    rows = compare.leave_one_out(train, held_out, found, settings, 1)
    assert set(rows) == {"own", "plain"}
    assert rows["own"]["loss"] > 0.3
    assert rows["own"]["loss"] == pytest.approx(
        1 - rows["own"]["bytes_per_token"] / found["own"]["bytes_per_token"], abs=1e-4
    )
    without = tokenizer.Tokenizer(tokenizer.fit((text for _, text in texts), settings, 1)[0])
    assert rows["own"]["bytes_per_token"] == card.measure(without, [own[3:4]]).overall["bytes_per_token"]


def test_the_only_source_cannot_be_left_out(tmp_path: Path) -> None:
    table = write_table(tmp_path / "train", [("plain", text) for text in make_texts(150)])
    settings = {"kind": "bpe", "vocabulary": 400}
    found = card.measure(
        tokenizer.Tokenizer(tokenizer.fit(texts_of(table), settings, 1)[0]), card.rows(table)
    ).by_source
    assert compare.leave_one_out(table, table, found, settings, 1) == {}


def test_too_little_text_without_a_source_is_an_error_that_names_it(tmp_path: Path) -> None:
    texts = [("plain", text) for text in make_texts(150)]
    table = write_table(tmp_path / "train", [*texts, ("little", "a b c")])
    settings = {"kind": "bpe", "vocabulary": 400}
    found = card.measure(
        tokenizer.Tokenizer(tokenizer.fit(texts_of(table), settings, 1)[0]), card.rows(table)
    ).by_source
    with pytest.raises(tokenizer.TokenizerError, match=r"without plain: .* at most"):
        compare.leave_one_out(table, table, found, settings, 1)


def test_candidates_are_measured_on_the_same_text_and_those_without_enough_text_left_out() -> None:
    settings = {**SETTINGS, "large": {"kind": "bpe", "vocabulary": 5000}}
    cards = compare.candidates(make_texts(200), make_texts(20, seed=5), settings, 1)
    assert set(cards) == set(SETTINGS)
    assert len({found.overall["bytes"] for found in cards.values()}) == 1
    assert cards["byte"].overall["bytes_per_token"] == 1 < cards["char"].overall["bytes_per_token"]
    assert cards["char"].overall["bytes_per_token"] < cards["bpe"].overall["bytes_per_token"]
