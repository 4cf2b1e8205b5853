"""The published filters: each threshold at its bound, and decisions against plain code written from the papers."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pileline import checks, cleaning
from pileline.cleaning import FILTERS, Removal, vocabulary
from pileline.cleaning.c4 import C4, sentences_of
from pileline.cleaning.fineweb import FineWeb
from pileline.cleaning.gopher import GopherQuality, GopherRepetition
from pileline.cleaning.words import words_of

from tests.conftest import default_config

PIECES = ["the", "of", "a", "river", "and", "with", "1990", "#", "...", "…", "•", "-", "end.", "Mr.", "so,", "don't"]
PIECES += ["\n", "\n\n", " \n", "word " * 6, "the river of a river\n", "語語。", "[3]", "{", "use cookies", "x" * 30]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=90).map(" ".join)


def words(text: str) -> list[str]:
    return [word for chunk in text.split() for word in words_of(chunk)]


def reason(made: Any, text: str) -> str | None:
    found = made.apply(text)
    return found.reason.removeprefix(f"{made.name}: ") if isinstance(found, Removal) else None


# ------------------------------------------------------------------------------------------------ words
@pytest.mark.parametrize(
    ("chunk", "expected"),  # as spaCy 3.8 splits them
    [
        ("don't", ["do", "n't"]),
        ("John’s", ["John", "’s"]),
        ("won't've", ["wo", "n't", "'ve"]),
        ("cannot", ["can", "not"]),
        ("e.g.", ["e.g."]),
        ("U.S.A.", ["U.S.A."]),
        ("rock-n-roll", ["rock", "-", "n", "-", "roll"]),
        ("10km", ["10", "km"]),
        ("5,000", ["5,000"]),
        ("foo...bar", ["foo", "...", "bar"]),
        ("(hello),", ["(", "hello", ")", ","]),
        ("http://a.com/x?y", ["http://a.com/x?y"]),
        ("£3m", ["£", "3", "m"]),
        ("end.)", ["end", ".", ")"]),
        ("mid-1990s", ["mid-1990s"]),
        ("A—B", ["A", "—", "B"]),
        ("#tag", ["#", "tag"]),
        ("who'd've", ["who", "'d", "'ve"]),
        ("its", ["its"]),
        ("''The", ["''", "The"]),
    ],
)
def test_words_are_those_of_spacy(chunk: str, expected: list[str]) -> None:
    assert words_of(chunk) == expected


@given(
    st.text(st.sampled_from("aB1.,'’-!(…$%/:@é語\u0301+#°m"), min_size=1, max_size=24) | st.text(min_size=1, max_size=9)
)
def test_words_are_the_chunk_cut_in_pieces(chunk: str) -> None:
    for part in chunk.split():
        assert "".join(words_of(part)) == part
        assert all(words_of(part))


def test_splitting_takes_time_in_proportion_to_length() -> None:
    for unit in ("(", ".", "a.", "a-", "'", "1,", "a@"):
        assert "".join(words_of(unit * 100_000)) == unit * 100_000


@settings(max_examples=50)
@given(st.lists(TEXTS, max_size=6))
def test_the_vocabulary_counts_as_a_list_of_words_does(texts: list[str]) -> None:
    made = vocabulary.Vocabulary()
    assert made.counts(texts).tolist() == [len(words(text)) for text in texts]
    found = made.words(texts)
    assert found.lengths.tolist() == [len(word) for text in texts for word in words(text)]
    assert len(set(found.hashes.tolist())) == len({word for text in texts for word in words(text)})


@given(st.text(st.sampled_from("ab \n\t\x0b\x1c\x1f\x85\xa0\u2003\u2028\u200b\u3000.") | st.characters(), max_size=30))
def test_the_chunks_of_a_long_text_are_those_of_a_short_one(text: str) -> None:
    assert [found.group() for found in vocabulary._CHUNK.finditer(text)] == text.split()


# ------------------------------------------------------------------------------------------------ gopher
def quality_by_hand(text: str, made: GopherQuality) -> str | None:
    """Gopher's rules on quality, one after the other, word by word."""
    every = words(text)
    solid = [word for word in every if any(letter.isalnum() for letter in word)]
    mean = sum(map(len, solid)) / max(1, len(solid))
    lines = text.splitlines()
    rules = [
        ("too few words", len(solid) < made.least_words),
        ("too many words", len(solid) > made.most_words),
        ("words too short", bool(solid) and mean < made.least_mean_length),
        ("words too long", bool(solid) and mean > made.most_mean_length),
        ("too many hashes", bool(every) and text.count("#") / len(every) > made.symbols),
        ("too many ellipses", bool(every) and (text.count("...") + text.count("…")) / len(every) > made.symbols),
    ]
    if lines:
        bullets = [line for line in lines if line.lstrip()[:1] in ("•", "-") and line.strip()]
        endings = [line for line in lines if re.search(r"(\.\.\.|…)\s*\Z", line)]
        rules.append(("too many bullet lines", len(bullets) / len(lines) > made.bullet_lines))
        rules.append(("too many lines end in an ellipsis", len(endings) / len(lines) > made.ellipsis_lines))
    lettered = [word for word in every if re.search(r"[^\W\d_]", word)]
    rules.append(("too few words with letters", bool(every) and len(lettered) / len(every) < made.lettered_words))
    rules.append(("too few stop words", len(set(every) & set(made.stop_list)) < made.stop_words))
    return next((name for name, broken in rules if broken), None)


@given(TEXTS, st.sampled_from([0, 5, 50]), st.sampled_from([0.05, 0.1, 0.4]))
def test_gopher_quality_decides_as_by_hand(text: str, least: int, symbols: float) -> None:
    text = re.sub(r"[^\x00-\x7f…•語。]", "é", text)  # what is a letter in other scripts is no matter of these rules
    made = GopherQuality(least_words=least, most_words=60, symbols=symbols)
    assert reason(made, text) == quality_by_hand(text, made)


PROSE = "The river of words with letters and more words that have an end " * 5  # 65 words


@pytest.mark.parametrize(
    ("setting", "kept", "removed", "expected"),
    [
        ("least_words", 65, 66, "too few words"),
        ("most_words", 65, 64, "too many words"),
        ("least_mean_length", 255 / 65, 255.01 / 65, "words too short"),
        ("most_mean_length", 255 / 65, 254.99 / 65, "words too long"),
        ("stop_words", 5, 6, "too few stop words"),
    ],
)
def test_each_bound_of_gopher_quality(setting: str, kept: Any, removed: Any, expected: str) -> None:
    assert PROSE.split() == words(PROSE)
    assert sum(map(len, words(PROSE))) == 255
    assert reason(GopherQuality(**{setting: kept}), PROSE) is None
    assert reason(GopherQuality(**{setting: removed}), PROSE) == expected


@pytest.mark.parametrize(
    ("kept", "removed", "expected"),
    [
        (PROSE + "# " * 7, PROSE + "# " * 8, "too many hashes"),  # 7 of 72 words, 8 of 73
        ("… " * 7 + PROSE, "… " * 8 + PROSE, "too many ellipses"),
        (PROSE + "x\n" + "- a\n" * 9, PROSE + "\n" + "- a\n" * 10, "too many bullet lines"),
        (f"{PROSE}\n" * 7 + "a …\n" * 3, f"{PROSE}\n" * 6 + "a …\n" * 4, "too many lines end in an ellipsis"),
        (PROSE + "1 " * 16, PROSE + "1 " * 17, "too few words with letters"),  # 65 of 81, of 82
    ],
)
def test_each_bound_of_gopher_quality_in_the_text(kept: str, removed: str, expected: str) -> None:
    if expected == "too many bullet lines":
        removed = "\n".join(f"- {word}" for word in PROSE.split())
    assert reason(GopherQuality(least_mean_length=1.0), kept) is None
    assert reason(GopherQuality(least_mean_length=1.0), removed) == expected


def shares(text: str) -> dict[str, float]:
    """Each share of Gopher's rules on repetition, counted with dictionaries."""
    every, size = words(text), len(text)
    found = {}
    for name, parts in (("paragraph", re.split(r"\n{2,}", text.strip())), ("line", re.split(r"\n+", text))):
        again = [part for place, part in enumerate(parts) if part in parts[:place]]
        found[f"{name}s"] = len(again) / len(parts)
        found[f"{name}_characters"] = sum(map(len, again)) / size
    for n in (2, 3, 4):
        grams = [" ".join(every[place : place + n]) for place in range(len(every) - n + 1)]
        counts = Counter(grams)
        top = max(grams, key=lambda gram: (counts[gram], -grams.index(gram)), default="")
        found[f"top_{n}"] = len(top) * counts[top] / size
    for n in range(5, 11):
        seen: set[tuple[str, ...]] = set()
        place = characters = 0
        while place <= len(every) - n:
            gram = tuple(every[place : place + n])
            characters += len("".join(gram)) if gram in seen else 0
            place += n if gram in seen else 1
            seen.add(gram)
        found[f"duplicate_{n}"] = characters / size
    return found


RULES = {
    "paragraphs": "duplicate paragraphs",
    "paragraph_characters": "characters in duplicate paragraphs",
    "lines": "duplicate lines",
    "line_characters": "characters in duplicate lines",
    **{f"top_{n}": f"frequent {n}-gram" for n in (2, 3, 4)},
    **{f"duplicate_{n}": f"duplicate {n}-grams" for n in range(5, 11)},
}
OFF = dict.fromkeys(RULES, 1.0)
TWICE = "one two three four five six seven eight nine ten eleven twelve\n"
REPEATED = f"{TWICE}{TWICE}short\n\nmore of it\n\nshort\n\nshort\n\n{TWICE}and some other words that stand here once."


@pytest.mark.parametrize("rule", RULES)
def test_each_bound_of_gopher_repetition(rule: str) -> None:
    share = shares(REPEATED)[rule]
    assert 0 < share < 1
    assert reason(GopherRepetition(**{**OFF, rule: share}), REPEATED) is None
    assert reason(GopherRepetition(**{**OFF, rule: share - 1e-9}), REPEATED) == RULES[rule]


@given(TEXTS.filter(bool), st.floats(0.2, 3.0))
def test_gopher_repetition_decides_as_by_hand(text: str, strictness: float) -> None:
    limits = {field.name: min(1.0, field.default * strictness) for field in dataclasses.fields(GopherRepetition)}
    by_hand = shares(text)
    broken = [RULES[rule] for rule in RULES if by_hand[rule] > limits[rule]]
    if "\n" not in text:
        broken = [rule for rule in broken if "gram" in rule]
    assert reason(GopherRepetition(**limits), text) == next(iter(broken), None)


# ------------------------------------------------------------------------------------------------ c4
SENTENCES = (
    "One sentence stands here. Another one follows it! Is a third one here? The fourth is near. A fifth ends it."
)


@pytest.mark.parametrize(
    ("line", "number"),
    [
        (SENTENCES, 5),
        ("Mr. Smith went home.", 1),
        ("He came. She went", 2),
        ('"Why?" he asked. "So."', 3),
        ("It cost 3.5 dollars, e.g. a lot.", 1),
        ("...", 1),
    ],
)
def test_sentences_are_counted_as_spacy_does(line: str, number: int) -> None:
    assert sentences_of(line) == number


def test_c4_keeps_lines_of_sentences() -> None:
    page = (
        f"Menu\n  {SENTENCES}  \nno mark at the end here\nIt ends so ...\nA [3] citation[edit] is taken out.\nOk so.\n"
    )
    assert C4().apply(page) == f"{SENTENCES}\nA  citation is taken out."
    assert C4(terminal_punctuation=False).apply(page) == (
        f"{SENTENCES}\nno mark at the end here\nIt ends so ...\nA  citation is taken out."
    )
    assert C4(citations=False).apply(f"{SENTENCES}\nA [3] stays here.") == f"{SENTENCES}\nA [3] stays here."


@pytest.mark.parametrize(
    ("made", "line", "stays"),
    [
        (C4(), "Two words.", False),
        (C4(), "Now three words.", True),
        (C4(least_words=4), "Now three words.", False),
        (C4(), f"A long {'x' * 1000} ends.", True),
        (C4(), f"A long {'x' * 1001} ends.", False),
        (C4(), "Please enable JavaScript now.", False),
        (C4(javascript=False), "Please enable JavaScript now.", True),
        (C4(), "This site uses cookies daily.", False),
        (C4(policy=False), "This site uses cookies daily.", True),
    ],
)
def test_c4_drops_lines(made: C4, line: str, stays: bool) -> None:
    assert made.apply(f"{SENTENCES}\n{line}") == (f"{SENTENCES}\n{line}" if stays else SENTENCES)


@pytest.mark.parametrize(
    ("made", "text", "expected"),
    [
        (C4(), SENTENCES, None),
        (C4(least_sentences=6), SENTENCES, "too few sentences"),
        (C4(), SENTENCES.replace(" A fifth ends it.", ""), "too few sentences"),
        (C4(), f"{SENTENCES} Lorem IPSUM it says.", "lorem ipsum"),
        (C4(lorem_ipsum=False), f"{SENTENCES} Lorem IPSUM it says.", None),
        (C4(), f"{SENTENCES} It has a {{ in it.", "curly bracket"),
        (C4(curly_bracket=False), f"{SENTENCES} It has a {{ in it.", None),
        (C4(), f"{SENTENCES}\nA {{ in a line that goes", None),
    ],
)
def test_c4_removes_pages(made: C4, text: str, expected: str | None) -> None:
    assert reason(made, text) == expected


# ------------------------------------------------------------------------------------------------ fineweb
def fineweb_by_hand(text: str, made: FineWeb) -> str | None:
    lines = [line for line in text.split("\n") if line.strip()]
    characters = sum(len(line) for place, line in enumerate(lines) if line in lines[:place])
    size, number = len(text.replace("\n", "")), len(words(text))
    ends = len([line for line in lines if re.search(r"[.!?。！？]\Z", line)])
    short = len([line for line in lines if len(line) <= made.short_line])
    rules = [
        ("too few lines end in punctuation", bool(lines) and ends / len(lines) < made.punctuated_lines),
        ("too many short lines", bool(lines) and short / len(lines) > made.short_lines),
        ("characters in duplicate lines", bool(size) and characters / size > made.duplicate_characters),
        ("too many line ends", bool(number) and text.count("\n") / number > made.newlines),
    ]
    return next((name for name, broken in rules if broken), None)


@given(TEXTS, st.integers(0, 40), st.floats(0, 1), st.floats(0, 1))
def test_fineweb_decides_as_by_hand(text: str, line: int, short: float, duplicate: float) -> None:
    text = re.sub(r"[^\x00-\x7f…•語。]", "é", text)
    made = FineWeb(short_line=line, short_lines=short, duplicate_characters=duplicate)
    assert reason(made, text) == fineweb_by_hand(text, made)


LISTED = "First of all, a line ends.\nSecond line\nThird line\nSecond line"


@pytest.mark.parametrize(
    ("setting", "kept", "removed", "expected"),
    [
        ("punctuated_lines", 0.25, 0.2501, "too few lines end in punctuation"),
        ("short_line", 10, 11, "too many short lines"),
        ("short_lines", 0.75, 0.7499, "too many short lines"),
        ("duplicate_characters", 11 / 58, 11 / 58 - 1e-9, "characters in duplicate lines"),
        ("newlines", 3 / 14, 3 / 14 - 1e-9, "too many line ends"),
    ],
)
def test_each_bound_of_fineweb(setting: str, kept: float, removed: float, expected: str) -> None:
    open_ = {
        "punctuated_lines": 0.0,
        "short_lines": 1.0,
        "short_line": 11,
        "duplicate_characters": 1.0,
        "newlines": 1.0,
    }
    if setting == "short_line":
        open_["short_lines"] = 0.5
    assert reason(FineWeb(**{**open_, setting: kept}), LISTED) is None
    assert reason(FineWeb(**{**open_, setting: removed}), LISTED) == expected


# ------------------------------------------------------------------------------------------------ all filters
@settings(max_examples=60)
@given(st.lists(TEXTS | st.text(max_size=30), max_size=6))
def test_filters_are_total_and_do_not_see_a_texts_neighbours(texts: list[str]) -> None:
    for name, kind in FILTERS.items():
        (step,) = cleaning.build([{"filter": name}])
        together = step.apply_many(texts)
        assert together == [kind().apply(text) for text in texts]
        for found in together:
            assert isinstance(found, (str, Removal))
            if isinstance(found, Removal):
                assert found.reason == name or found.reason.startswith(f"{name}: ")


@pytest.mark.parametrize("name", FILTERS)
def test_the_schema_has_each_setting_with_its_default(name: str) -> None:
    properties = checks.schema()["$defs"]["filters"][name]["properties"]
    (step,) = cleaning.build([{"filter": name}])
    assert {"filter": name} | {key: entry["default"] for key, entry in properties.items()} == step.settings


def test_the_schema_knows_every_filter() -> None:
    assert set(checks.schema()["$defs"]["filters"]) == set(FILTERS)


def test_every_recipe_of_the_default_configuration_is_one_of_the_library() -> None:
    recipes = default_config()["recipes"]
    assert {"none", "slimpajama", "gopher", "c4", "fineweb", "full"} <= set(recipes)
    for recipe in recipes.values():
        entries = [(entry, {}) if isinstance(entry, str) else next(iter(entry.items())) for entry in recipe]
        steps = cleaning.build([{"filter": name, **given} for name, given in entries])
        assert [step.settings["filter"] for step in steps] == [name for name, _ in entries]
    used = {entry if isinstance(entry, str) else next(iter(entry)) for entry in recipes["full"]}
    assert used == set(FILTERS)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"filter": "gopher_quality", "lettered_words": 1.5}, "lettered_words is 1.5"),
        ({"filter": "gopher_repetition", "top_2": -0.1}, "top_2 is -0.1"),
        ({"filter": "c4", "least_sentences": -1}, "least_sentences is -1"),
        ({"filter": "fineweb", "newlines": -1}, "newlines is -1"),
        ({"filter": "language", "keep": ["tlh"]}, "'tlh', which the model does not know"),
    ],
)
def test_settings_out_of_bounds_are_refused(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(cleaning.CleaningError, match=message):
        cleaning.build([entry])
