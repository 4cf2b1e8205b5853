"""Cuts lose nothing, keep their bound, and fall where they should."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pileline.sources.splitting import split

TEXTS = st.text(st.sampled_from(list("ab é語\n\n\n\r\t ")), max_size=200) | st.text(max_size=100)


@given(TEXTS, st.integers(1, 60))
def test_pieces_and_gaps_are_the_text_again(text: str, most: int) -> None:
    pieces, gaps = split(text, most)
    assert len(gaps) == len(pieces) + 1
    assert "".join(gap + piece for gap, piece in zip(gaps, [*pieces, ""], strict=True)) == text
    assert all(0 < len(piece) <= most for piece in pieces)
    assert all(not gap.strip(" \t\r\n\f\v") for gap in gaps)


@given(st.lists(st.text("abc", min_size=1, max_size=8), min_size=1, max_size=20), st.integers(8, 40))
def test_paragraphs_that_fit_are_never_cut(paragraphs: list[str], most: int) -> None:
    pieces, _ = split("\n\n".join(paragraphs), most)
    assert [paragraph for piece in pieces for paragraph in piece.split("\n\n")] == paragraphs


@given(st.lists(st.text("abc", min_size=1, max_size=8), min_size=2, max_size=20), st.integers(8, 40))
def test_pieces_are_as_long_as_they_can_be(paragraphs: list[str], most: int) -> None:
    pieces, _ = split("\n\n".join(paragraphs), most)
    for piece, following in itertools.pairwise(pieces):
        assert len(piece) + 2 + len(following.split("\n\n")[0]) > most


@pytest.mark.parametrize(
    ("text", "most", "pieces"),
    [
        ("one\n\ntwo", 100, ["one\n\ntwo"]),  # what fits stays whole
        ("one\n\ntwo", 5, ["one", "two"]),
        ("one\r\n\r\ntwo\r\n", 5, ["one", "two"]),
        ("one\n \t\n\n  two\n", 5, ["one", "  two"]),  # indentation belongs to the text
        ("one\ntwo\nsix", 8, ["one\ntwo", "six"]),  # no blank line: at a line's end
        ("abcdefgh", 3, ["abc", "def", "gh"]),  # no line end either
        ("\n\n  one\n", 9, ["  one"]),
        (" \n\t\n", 5, []),
        ("", 5, []),
    ],
)
def test_where_cuts_fall(text: str, most: int, pieces: list[str]) -> None:
    assert split(text, most)[0] == pieces


def test_a_long_text_takes_time_in_proportion() -> None:
    pieces, _ = split("word \n" * 400_000 + "\n" * 400_000 + " " * 400_000 + "end", 4000)
    assert pieces[-1].endswith("end")


def test_a_bound_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="1 or more"):
        split("text", 0)
