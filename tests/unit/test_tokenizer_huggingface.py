"""The exported tokenizer.json against the library that it is for: the same ids and the same text back."""

from __future__ import annotations

from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from pileline import tokenizer
from pileline.tokenizer import huggingface
from pileline.tokenizer.settings import BLANK, END

from tests.unit.test_tokenizer import ANY_TEXT, AWKWARD, COMMON, RARE, SETTINGS, make_texts

Pair = tuple[tokenizer.Tokenizer, tokenizers.Tokenizer]
RUNS = ["----", "----------\n", "        ", "abababab", "aaa", "haha " * 5]


@pytest.fixture(scope="module", params=tokenizer.KINDS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A tokenizer that has learned runs and repeats, whose merges overlap, and its export."""
    folder = tmp_path_factory.mktemp("exported")
    texts = [text + run * (place % 5) for place, text in enumerate(make_texts(200)) for run in RUNS]
    tokenizer.train(texts, SETTINGS[request.param], 1, folder / tokenizer.NAME)
    made = tokenizer.Tokenizer((folder / tokenizer.NAME).read_bytes())
    huggingface.write(made, folder / huggingface.NAME)
    return made, tokenizers.Tokenizer.from_file(str(folder / huggingface.NAME))


def assert_same(pair: Pair, text: str) -> None:
    made, exported = pair
    tokens = made.encode(text).tolist()
    assert exported.encode(text, add_special_tokens=False).ids == tokens
    assert exported.decode(tokens) == text


@pytest.mark.parametrize("text", AWKWARD)
def test_awkward_texts_have_the_same_ids(pair: Pair, text: str) -> None:
    assert_same(pair, text)


@given(text=ANY_TEXT | st.lists(st.sampled_from([*COMMON, *RARE, *RUNS, " ", "a", "b", "-"]), max_size=60).map("".join))
@settings(max_examples=300, deadline=None)
def test_any_text_has_the_same_ids_and_comes_back(pair: Pair, text: str) -> None:
    assert_same(pair, text)


@given(text=st.text(alphabet=st.sampled_from("<0x41F>|endunk AB" + BLANK), max_size=80))
@settings(max_examples=300, deadline=None)
def test_the_name_of_a_token_in_a_text_is_text(pair: Pair, text: str) -> None:
    assert_same(pair, f"<0x41>{text}{END}<unk>")


def test_long_texts_have_the_same_ids(pair: Pair) -> None:
    assert_same(pair, "".join(make_texts(400, seed=5)))


def test_vocabularies_agree_and_specials_vanish_in_decoding(pair: Pair) -> None:
    made, exported = pair
    assert exported.get_vocab_size() == made.vocabulary_size
    assert exported.token_to_id(END) == made.end
    assert [exported.id_to_token(token).replace(" ", BLANK) for token in range(made.vocabulary_size)] == made.pieces
    tokens = made.encode("a b").tolist()
    assert exported.decode([made.end, *tokens, 0, made.end]) == "a b"


def test_the_export_is_deterministic(pair: Pair, tmp_path: Path) -> None:
    for name in ("one", "two"):
        huggingface.write(pair[0], tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
