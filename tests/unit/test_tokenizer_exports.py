"""A tokenizer written for other libraries (tokenizer.json, tokenizer.model), read by them: the same ids and texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from pileline import tokenizer
from pileline.tokenizer import escaped, huggingface
from pileline.tokenizer.settings import BLANK, END

from tests.unit.test_tokenizer import ANY_TEXT, AWKWARD, COMMON, RARE, SETTINGS, make_texts

RUNS = ["----", "----------\n", "        ", "abababab", "aaa", "haha " * 5]
HUGGINGFACE = [("huggingface", kind) for kind in tokenizer.KINDS]
ESCAPED = [("escaped", kind) for kind in escaped.KINDS]


@dataclass(frozen=True)
class Exported:
    """A tokenizer, and what another library made of its export."""

    made: tokenizer.Tokenizer
    other: Any
    encode: Callable[[str], list[int]]
    unsure: str = ""  # characters that it cannot tell from others

    def agree(self, text: str) -> None:
        text = text.translate(dict.fromkeys(map(ord, self.unsure)))
        tokens = self.made.encode(text).tolist()
        assert self.encode(text) == tokens
        assert self.other.decode(tokens) == text


def trained(kind: str, path: Path) -> tokenizer.Tokenizer:
    """A tokenizer that has learned runs and repeats, whose merges overlap."""
    texts = [text + run * (place % 5) for place, text in enumerate(make_texts(200)) for run in RUNS]
    tokenizer.train(texts, SETTINGS[kind], 1, path)
    return tokenizer.Tokenizer(path.read_bytes())


@pytest.fixture(scope="module", params=HUGGINGFACE + ESCAPED, ids="-".join)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    style, kind = request.param
    folder = tmp_path_factory.mktemp("exported")
    made = trained(kind, folder / tokenizer.NAME)
    if style == "escaped":
        model = sentencepiece.SentencePieceProcessor(model_proto=escaped.to_bytes(made))
        return Exported(made, model, model.encode, unsure=BLANK)
    huggingface.write(made, folder / huggingface.NAME)
    fast = tokenizers.Tokenizer.from_file(str(folder / huggingface.NAME))
    return Exported(made, fast, lambda text: fast.encode(text, add_special_tokens=False).ids)


of_one = partial(pytest.mark.parametrize, "exported", indirect=True, ids="-".join)


@pytest.mark.parametrize("text", AWKWARD)
def test_awkward_texts_have_the_same_ids(exported: Exported, text: str) -> None:
    exported.agree(text)


@given(text=ANY_TEXT | st.lists(st.sampled_from([*COMMON, *RARE, *RUNS, " ", "a", "b", "-"]), max_size=60).map("".join))
@settings(max_examples=300)
def test_any_text_has_the_same_ids_and_comes_back(exported: Exported, text: str) -> None:
    exported.agree(text)


@given(text=st.text(alphabet=st.sampled_from("<0x41F>|endunk AB" + BLANK), max_size=80))
@settings(max_examples=300)
def test_the_name_of_a_token_in_a_text_is_text(exported: Exported, text: str) -> None:
    exported.agree(f"<0x41>{text}{END}<unk>")


def test_long_texts_have_the_same_ids(exported: Exported) -> None:
    exported.agree("".join(make_texts(400, seed=5)))


# ------------------------------------------------------------------------------- tokenizer.json alone
@of_one(HUGGINGFACE)
def test_vocabularies_agree_and_specials_vanish_in_decoding(exported: Exported) -> None:
    made, fast = exported.made, exported.other
    assert fast.get_vocab_size() == made.vocabulary_size
    assert fast.token_to_id(END) == made.end
    assert [fast.id_to_token(token).replace(" ", BLANK) for token in range(made.vocabulary_size)] == made.pieces
    tokens = made.encode("a b").tolist()
    assert fast.decode([made.end, *tokens, 0, made.end]) == "a b"


@of_one(HUGGINGFACE)
def test_the_export_is_deterministic(exported: Exported, tmp_path: Path) -> None:
    for name in ("one", "two"):
        huggingface.write(exported.made, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


# ---------------------------------------------------------------- tokenizer.model with written-out blanks
@of_one(ESCAPED)
def test_every_token_is_of_the_same_sort_and_blanks_are_written_out(exported: Exported) -> None:
    made, other = exported.made, exported.other
    tokens = range(other.vocab_size())
    assert [other.id_to_piece(token) for token in tokens] == made.pieces
    assert [token for token in tokens if other.is_byte(token)] == [
        *range(made.byte_tokens.start, made.byte_tokens.stop)
    ]
    assert [token for token in tokens if other.is_control(token)] == [made.end]
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
