"""Filters that rewrite or ask a model: personal data, languages, Unicode, and functions of the user's own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import ftfy
import pytest
from ftfy import badness
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pileline import cleaning, documents
from pileline.cleaning import CleaningError, Removal
from pileline.cleaning import recipe as recipes
from pileline.cleaning.language import Language, predict
from pileline.cleaning.pii import EMAIL, IPV4, IPV6, PHONE, Pii
from pileline.cleaning.unicode import FixUnicode
from pileline.ledger import Ledger
from pileline.sources import Extracted

from tests.unit.costs import times_as_long


# ------------------------------------------------------------------------------------------------ personal data
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write to Jane.Doe+spam@mail.example.co.uk, please.", f"Write to {EMAIL}, please."),
        ("a@b, @handle and x@localhost stay", "a@b, @handle and x@localhost stay"),
        ("DNS is 8.8.8.8.", f"DNS is {IPV4}."),
        ("10.0.0.1 192.168.1.1 127.0.0.1 172.16.5.4 192.0.2.7", "10.0.0.1 192.168.1.1 127.0.0.1 172.16.5.4 192.0.2.7"),
        ("versions 1.2.3.4.5 and 300.1.1.1 and v8.8.8.8", "versions 1.2.3.4.5 and 300.1.1.1 and v8.8.8.8"),
        ("[2606:4700:4700::1111] and fe80::1 and ::1", f"[{IPV6}] and fe80::1 and ::1"),
        ("at 12:30:45 on 1:2:3", "at 12:30:45 on 1:2:3"),
        ("call (212) 555-1234 or 212-555-1234", f"call {PHONE} or {PHONE}"),
        ("+1 212 555 1234, +49 30 1234567 and +44 (20) 7946 0958", f"{PHONE}, {PHONE} and {PHONE}"),
        ("in 1990-1995, 3.14159, 2125551234 and 123-45-6789", "in 1990-1995, 3.14159, 2125551234 and 123-45-6789"),
        ("ISBN 978-0-306-40615-7", "ISBN 978-0-306-40615-7"),
    ],
)
def test_personal_data_is_replaced(text: str, expected: str) -> None:
    assert Pii().apply(text) == expected


def test_each_kind_of_personal_data_can_stay() -> None:
    text = "a@b.org 8.8.8.8 2606:4700:4700::1111 212-555-1234"
    assert Pii(emails=False, addresses=False, phones=False).apply(text) == text
    assert Pii(emails=True, addresses=False, phones=False).apply(text) == text.replace("a@b.org", EMAIL)
    assert Pii(emails=False, addresses=False, phones=True).apply(text) == text.replace("212-555-1234", PHONE)


PERSONAL = ["a@b.co", "8.8.8.8", "1.2.3", "2606:4700::1", "(212) 555-1234", "+49 30 12", "555", "-", ".", ":", "@", " "]
PERSONAL += ["+", "1", "\n", "(", ")", "x", "_", "[8.8.8.8]", EMAIL, IPV4, IPV6, PHONE]


@settings(max_examples=400)
@given(st.lists(st.sampled_from(PERSONAL) | st.text(st.sampled_from("0159a.@:+-() ")), max_size=14).map("".join))
@example("1::@b.co")  # whose 1:: becomes an address that ends in a digit
@example("+49 30 12)@b.co")
@example("a@[8.8.8.8]-5")
def test_personal_data_replaced_twice_is_replaced_once(text: str) -> None:
    once = Pii().apply(text)
    assert Pii().apply(once) == once


def test_personal_data_is_found_in_linear_time() -> None:
    """In a text of eight times the length it takes about eight times as long; 64 times if its square counted."""
    for unit in ("a-", "a.", "1.", "1:", "+1 ", "a@", "!", "(212) "):
        short, long = "@" + unit * 2_500, "@" + unit * 20_000
        assert times_as_long(lambda: Pii().apply(long), lambda: Pii().apply(short)) < 24, unit  # noqa: B023
    beginnings, end = ("-a" * 31 + ".") * 16, "a@" + "a" * 500_000  # hundreds before one "@"
    assert times_as_long(lambda: Pii().apply(beginnings + end), lambda: Pii().apply(end)) < 10


# ------------------------------------------------------------------------------------------------ language
ENGLISH = "The river flows through the old town and into the sea, where ships wait for the tide."
CHINESE = "这条河流穿过古老的城镇，流入大海，船只在那里等待潮水。人们每天早上都会来到河边散步，谈论天气和家里的事情。"
FRENCH = "La rivière traverse la vieille ville et se jette dans la mer, où les navires attendent la marée."


def test_languages_are_told_apart() -> None:
    assert Language().apply(ENGLISH) == ENGLISH
    assert Language().apply(FRENCH) == Removal("language: fr")
    assert Language(keep=("fr", "zh")).apply(FRENCH) == FRENCH
    assert Language(keep=("fr", "zh")).apply(CHINESE) == CHINESE
    assert Language().apply("12 34 56\n#") == Removal("language: uncertain")


def test_a_language_kept_must_be_likelier_than_the_threshold() -> None:
    likely = predict(ENGLISH)["en"]
    assert isinstance(Language(threshold=likely).apply(ENGLISH), Removal)
    assert Language(threshold=likely - 1e-6).apply(ENGLISH) == ENGLISH


# ------------------------------------------------------------------------------------------------ Unicode
NAMED = sorted({letter for letter in badness.BADNESS_RE.pattern if letter > "\x7f"})
COMMON = ["\r\n", *"abzA .,?!\n<'0éèàçñüœŒÂÃ€™“”‘’–—ﬁ＆&ＡＢ，！語。\u0301\u3000\xa0\xad\x85\r\x1b\ufeff\u200b½가"]
LETTERS = st.sampled_from(NAMED) | st.sampled_from(COMMON)


@settings(max_examples=500)
@given(st.lists(LETTERS, max_size=14).map("".join), st.sampled_from(["NFC", "NFKD"]))
@example("\u200b\n\n\xc3 \xbd", "NFC")  # bad at the beginning of a line alone
@example("l’été “ça” ﬁn", "NFC")
@example("l’été\r\n\r\n\u0301ﬁn\r\r\n", "NFC")
@example("床前明月光，疑是地上霜。", "NFC")
def test_characters_that_ftfy_takes_for_mojibake_are_treated_as_by_ftfy(text: str, form: Any) -> None:
    assert FixUnicode(form).apply(text) == ftfy.fix_text(text, normalization=form)


def test_texts_with_line_ends_of_windows_are_not_read_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ftfy, "fix_text", None)  # a tenth of a millisecond a line
    assert FixUnicode().apply("A line\r\n\r\nand “another” one.\r\n") == 'A line\n\nand "another" one.\n'


# ------------------------------------------------------------------------------------------------ one's own
OWN = """
import functools
from pileline.cleaning import Removal

def shorter(text, most=10):
    return text[:most]

def no_shouting(text, share):
    return sum(letter.isupper() for letter in text) <= share * len(text)

def named(text):
    return Removal("too quiet") if text == "quiet" else None

def fails(text):
    return 1 / (len(text) - 7)

def wrong(text):
    return 3

def garrulous(text):
    return Removal(text * 100)

def speechless(text):
    return Removal(None)

partial = functools.partial(no_shouting, share=0.3)
number = 4
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_filters.py").write_text(OWN, encoding="utf-8")
    (tmp_path / "my_broken.py").write_text("raise KeyError('x')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    for name in ("my_filters", "my_broken"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def apply(name: str, text: str, **given: Any) -> str | Removal:
    (step,) = cleaning.build([{"filter": name, **given}])
    assert step.settings == {"filter": name, **given}
    return step.apply_many([text])[0]


@pytest.mark.usefixtures("own")
def test_a_function_of_ones_own_is_a_filter() -> None:
    assert apply("my_filters:shorter", "a" * 20) == "a" * 10
    assert apply("my_filters:shorter", "a" * 20, most=3) == "aaa"
    assert apply("my_filters:no_shouting", "Hello there", share=0.3) == "Hello there"
    assert apply("my_filters:no_shouting", "HELLO", share=0.3) == Removal("no_shouting")
    assert apply("my_filters:named", "quiet") == Removal("too quiet")
    assert apply("my_filters:named", "loud") == Removal("named")
    assert apply("my_filters:partial", "HELLO") == Removal("partial")


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "given_", "message"),
    [
        ("my_missing:f", {}, "module my_missing cannot be imported .* put my_missing.py beside config.yaml"),
        ("my_broken:f", {}, "importing my_broken raised KeyError"),
        ("my_filters:f", {}, "my_filters.py has no 'f'"),
        ("my_filters:number", {}, "filter my_filters:number: it is a int, no function"),
        ("my_filters:no_shouting", {}, "does not take these settings .*missing a required argument: 'share'"),
        ("my_filters:no_shouting", {"shore": 1}, "does not take these settings"),
        (":f", {}, "filter :f: what is one's own is named as module:name"),
    ],
)
def test_a_function_that_cannot_be_used_is_refused(name: str, given_: dict[str, Any], message: str) -> None:
    with pytest.raises(CleaningError, match=message):
        cleaning.build([{"filter": name, **given_}])


def items(texts: list[str]) -> list[Extracted]:
    return [Extracted(f"s/m#{number}", "m", text, len(text.encode()), "{}") for number, text in enumerate(texts)]


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fails", "document s/m#2: filter my_filters:fails raised ZeroDivisionError: division by zero"),
        ("wrong", "document s/m#0: filter my_filters:wrong returned 3; a filter returns a text, True or False"),
        ("garrulous", "document s/m#0: .* a Removal for the reason 'oneoneone.*; a reason is a text of one line"),
        ("speechless", "document s/m#0: .* a Removal for the reason None; a reason is a text of one line"),
    ],
)
def test_a_function_that_fails_names_the_document(tmp_path: Path, name: str, message: str) -> None:
    steps = cleaning.build([{"filter": "pii"}, {"filter": f"my_filters:{name}"}])
    if name == "fails":
        steps[1] = steps[1]._replace(filter=Total(steps[1].filter))
    with pytest.raises(CleaningError, match=message):
        cleaning.clean(items(["one", "three", "seven..", "nine"]), "s", steps, tmp_path, 1.0, 1)


class Total:
    """A filter whose number is turned into a verdict, so that only its exception is wrong."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def apply(self, text: str) -> str | Removal:
        return self._inner.apply(text) if len(text) == 7 else text


# ------------------------------------------------------------------------------------------------ whole recipes
NAMES = [*cleaning.FILTERS]
PROSE = "One sentence stands here. Another one follows it! Is a third one here? The fourth is near. A fifth ends it.\n"
MIXED = st.sampled_from(
    [PROSE * 3, "short", " ", "café “open” a@b.org " * 9, "- a\n" * 30, FRENCH, f"{PROSE}menu\n{PROSE}"]
)


@settings(max_examples=60)
@given(st.lists(MIXED | st.text(max_size=20), max_size=12), st.lists(st.sampled_from(NAMES), max_size=4))
def test_the_books_of_any_recipe_balance(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], names: list[str]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any-recipe"
    folder.mkdir(exist_ok=True)
    steps = cleaning.build([{"filter": name} for name in names])
    made = cleaning.clean(items(texts), "s", steps, folder, 1.0, 1)
    metrics = made.metrics("r", "2-of-3")
    ledger = Ledger.from_dict(metrics["ledger"])
    ledger.check("test")
    assert metrics["part"] == "2-of-3"
    kept = list(documents.read(folder / cleaning.KEPT))
    assert (ledger.kept.documents, ledger.kept.bytes) == (len(kept), sum(len(d.text.encode()) for d in kept))
    assert sum(metrics["lengths"]["counts"]) == len(kept)
    size, number = ledger.entered.bytes, len(texts)
    for step in metrics["steps"]:
        assert (step["bytes_in"], step["documents_in"]) == (size, number)
        size -= step["bytes_removed"] + step["bytes_rewritten"]
        number -= step["documents_removed"]
    assert (size, number) == (ledger.kept.bytes, len(kept))


def test_groups_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{PROSE * (number % 4)}{number} {FRENCH * (number % 3)} a{number}@b.org" for number in range(60)]
    steps = cleaning.build([{"filter": name} for name in ("gopher_repetition", "fineweb", "c4", "pii", "language")])
    found = []
    for characters, number in ((1, 1), (300, 512), (1 << 18, 7), (1 << 18, 512)):
        monkeypatch.setattr(recipes, "GROUP_CHARACTERS", characters)
        monkeypatch.setattr(recipes, "GROUP_DOCUMENTS", number)
        metrics = cleaning.clean(items(texts), "s", steps, tmp_path, 1.0, 1).metrics("r")
        tables = [(tmp_path / name).read_bytes() for name in (cleaning.KEPT, cleaning.REMOVED)]
        found.append((metrics, tables))
    assert 0 < found[0][0]["ledger"]["kept"]["documents"] < len(texts)
    assert all(other == found[0] for other in found)


def test_samples_of_parts_put_together_are_those_of_the_source(tmp_path: Path) -> None:
    every = items([f"text {number}" for number in range(300)])

    def sample(some: list[Extracted]) -> list[dict[str, str]]:
        made: list[dict[str, str]] = cleaning.clean(some, "s", [], tmp_path, 1.0, 1).metrics("none")["sample"]
        return made

    merged = sorted(sample(every[::2]) + sample(every[1::2]), key=lambda entry: (entry["place"], entry["id"]))
    assert merged[: recipes.SAMPLE] == sample(every)
