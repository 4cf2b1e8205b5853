"""The tokenizer.model for llama.cpp against the library whose format it is: the same ids, blanks as U+2581."""

from __future__ import annotations

from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from pileline import tokenizer
from pileline.tokenizer import escaped
from pileline.tokenizer.settings import BLANK, END

from tests.unit.test_tokenizer import ANY_TEXT, AWKWARD, COMMON, RARE, SETTINGS, make_texts

Pair = tuple[tokenizer.Tokenizer, sentencepiece.SentencePieceProcessor]
RUNS = ["----", "        ", "abababab", "haha " * 5]


def trained(kind: str, path: Path) -> tokenizer.Tokenizer:
    texts = [text + run * (place % 5) for place, text in enumerate(make_texts(200)) for run in RUNS]
    tokenizer.train(texts, SETTINGS[kind], 1, path)
    return tokenizer.Tokenizer(path.read_bytes())


@pytest.fixture(scope="module", params=escaped.KINDS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A tokenizer, and its file for llama.cpp in SentencePiece."""
    made = trained(request.param, tmp_path_factory.mktemp("escaped") / tokenizer.NAME)
    return made, sentencepiece.SentencePieceProcessor(model_proto=escaped.to_bytes(made))


def assert_same(pair: Pair, text: str) -> None:
    made, other = pair
    text = text.replace(BLANK, "")  # the one character that it cannot tell from a blank
    tokens = made.encode(text).tolist()
    assert other.encode(text) == tokens
    assert other.decode(tokens) == text


@pytest.mark.parametrize("text", AWKWARD)
def test_awkward_texts_have_the_same_ids(pair: Pair, text: str) -> None:
    assert_same(pair, text)


@given(text=ANY_TEXT | st.lists(st.sampled_from([*COMMON, *RARE, *RUNS, " ", "a", "b", "-"]), max_size=60).map("".join))
@settings(max_examples=200, deadline=None)
def test_any_text_has_the_same_ids_and_comes_back(pair: Pair, text: str) -> None:
    assert_same(pair, text)


def test_every_token_is_of_the_same_sort_and_blanks_are_written_out(pair: Pair) -> None:
    made, other = pair
    assert [other.id_to_piece(token) for token in range(other.vocab_size())] == made.pieces
    assert [token for token in range(other.vocab_size()) if other.is_byte(token)] == [
        *range(made.byte_tokens.start, made.byte_tokens.stop)
    ]
    assert [token for token in range(other.vocab_size()) if other.is_control(token)] == [made.end]
    assert (other.eos_id(), other.id_to_piece(other.eos_id()), other.unk_id()) == (made.end, END, 0)
    assert any(BLANK in piece for piece in made.pieces)


@pytest.mark.parametrize("kind", sorted(set(tokenizer.KINDS) - set(escaped.KINDS)))
def test_kinds_that_would_become_other_tokens_have_none(kind: str, tmp_path: Path) -> None:
    assert escaped.to_bytes(trained(kind, tmp_path / tokenizer.NAME)) is None


def test_without_a_blank_among_the_pieces_there_is_none(tmp_path: Path) -> None:
    texts = [f"{number:b}".replace("0", "a").replace("1", "b") for number in range(2000)]
    tokenizer.train(texts, {"kind": "char", "vocabulary": 300}, 1, tmp_path / tokenizer.NAME)
    made = tokenizer.Tokenizer((tmp_path / tokenizer.NAME).read_bytes())
    assert BLANK not in made.pieces
    assert escaped.to_bytes(made) is None
