"""Parts of a source: every thing is dealt to exactly one, and names sort as numbers do."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pileline.parts import WHOLE, Part, folders, names


@given(of=st.integers(1, 200), things=st.integers(0, 500))
def test_every_thing_is_dealt_to_exactly_one_part(of: int, things: int) -> None:
    dealt = [[number for number in range(things) if Part(part, of).takes(number)] for part in range(1, of + 1)]
    assert sorted(number for hand in dealt for number in hand) == list(range(things))
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1


@given(of=st.integers(1, 1200))
def test_names_sort_as_numbers_do_and_say_what_they_name(of: int) -> None:
    assert names(of) == sorted(names(of))
    assert [Part.parse(name) for name in names(of)] == [Part(number, of) for number in range(1, of + 1)]


@pytest.mark.parametrize(
    "name", ["", "1", "1of2", "0-of-2", "3-of-2", "1-of-10", "01-of-2", "1-of-02", "1-of-2 ", "-1-of-2"]
)
def test_any_other_spelling_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="part"):
        Part.parse(name)


def test_a_source_that_is_not_cut_has_one_folder() -> None:
    assert str(WHOLE) == "1-of-1"
    assert folders("results/raw/wiki", 1) == [Path("results/raw/wiki/1-of-1")]
    assert folders("x", 10)[8:] == [Path("x/09-of-10"), Path("x/10-of-10")]
