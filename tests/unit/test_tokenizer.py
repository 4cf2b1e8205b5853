"""The tokenizer: lossless for every text, deterministic, bounded in what it trains on."""

from __future__ import annotations

import pickle
import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pileline import manifest, tokenizer
from pileline.tokenizer import encode, learn, sample
from pileline.tokenizer.settings import BLANK

COMMON = ["the", "quick", "brown", "while", "été", "naïve", "这本书很好", "def", "return", "x1", "=", "42"]
SYLLABLES = ["ba", "ko", "ri", "ten", "shu", "mel", "or", "ist"]
RARE = [first + second + third for first in SYLLABLES for second in SYLLABLES for third in SYLLABLES]
AWKWARD = [
    "",
    " ",
    "    ",
    "\x00",
    "a\x00b",
    "\t\ttabs\t",
    "line\r\nline\n\n\n",
    "  two  blanks  ",
    BLANK,
    f"a{BLANK}b {BLANK}{BLANK} c",
    "\u2585\ufffd\ufeff\u200b\u2028",
    "\u0301lone mark",
    "e\u0301 é",
    "👩‍👩‍👧‍👦🏳️‍🌈",
    "\U0010ffff\ue000\x7f\x1b[0m",
    f"{tokenizer.END} <unk> <0x41> <s>",
]


SETTINGS = {kind: {"kind": kind, "vocabulary": 400} for kind in ("bpe", "unigram", "char")} | {"byte": {"kind": "byte"}}


def make_texts(number: int, seed: int = 0) -> list[str]:
    generator = random.Random(seed)
    words = COMMON * 20 + RARE
    return [" ".join(generator.choices(words, k=generator.randint(3, 60))) + "\n" for _ in range(number)]


def pairs_inside(made: tokenizer.Tokenizer) -> set[str]:
    """Characters that stand side by side in some piece."""
    learned = [piece.replace(BLANK, " ") for piece in made.pieces[made.byte_tokens.stop :]]
    return {pair for piece in learned for pair in map("".join, pairwise(piece))}


@pytest.fixture(scope="module", params=tokenizer.KINDS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tokenizer.Tokenizer:
    path = tmp_path_factory.mktemp("tokenizer") / tokenizer.NAME
    tokenizer.train(make_texts(200), SETTINGS[request.param], 1, path)
    return tokenizer.Tokenizer(path.read_bytes())


def assert_lossless(made: tokenizer.Tokenizer, text: str) -> None:
    tokens = made.encode(text)
    assert made.decode(tokens) == text
    assert int(made.token_bytes[tokens].sum()) == len(text.encode())
    assert made.end not in tokens


@pytest.mark.parametrize("text", AWKWARD)
def test_awkward_texts_round_trip(trained: tokenizer.Tokenizer, text: str) -> None:
    assert_lossless(trained, text)


# Unicode at large seldom draws the characters that break tokenizers; the second strategy draws little else.
ANY_TEXT = st.text() | st.text(alphabet=st.sampled_from("ab \n\r\t\x00\x01▁▅<>|0x\u0301é这👍\ufeff"), max_size=60)


@given(text=ANY_TEXT)
@settings(max_examples=300)
def test_any_text_round_trips_and_its_bytes_add_up(trained: tokenizer.Tokenizer, text: str) -> None:
    assert_lossless(trained, text)


@given(texts=st.lists(ANY_TEXT, max_size=8), threads=st.integers(1, 3))
@settings(max_examples=50)
def test_a_batch_is_its_texts_one_by_one(trained: tokenizer.Tokenizer, texts: list[str], threads: int) -> None:
    batch = trained.encode_batch(texts, threads)
    assert [tokens.tolist() for tokens in batch] == [trained.encode(text).tolist() for text in texts]


@given(text=st.text(alphabet="ab \n", max_size=200), size=st.integers(1, 30))
@settings(max_examples=200)
def test_segments_lose_nothing_and_stay_short(trained: tokenizer.Tokenizer, text: str, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trained, "_segment", size)
        parts = list(trained.segments(text))
    assert "".join(parts) == text
    assert all(len(part) <= size for part in parts)


@given(
    text=st.lists(st.sampled_from([*COMMON, *RARE, " ", "\n", "👍", "\t"]), max_size=80).map("".join),
    size=st.integers(8, 60),
)
@settings(max_examples=200)
def test_a_text_cut_in_segments_encodes_as_the_whole(trained: tokenizer.Tokenizer, text: str, size: int) -> None:
    whole = trained.encode(text).tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trained, "_segment", size)
        borders = np.cumsum([len(part) for part in trained.segments(text)])[:-1]
        inside = pairs_inside(trained)
        hard = [border for border in borders if text[border - 1 : border + 1] in inside]
        assume(not hard)  # babababababababa has no place for a cut
        assert trained.encode(text).tolist() == whole


@pytest.mark.parametrize("kind", ["bpe", "unigram", "char"])
def test_a_long_text_encodes_as_bare_sentencepiece_does(kind: str, tmp_path: Path) -> None:
    path = tmp_path / tokenizer.NAME
    tokenizer.train(make_texts(200), SETTINGS[kind], 1, path)
    made = tokenizer.Tokenizer(path.read_bytes())
    text = f" {BLANK} ".join(make_texts(300, seed=2))
    assert len(text) > 2 * encode.SEGMENT
    bare = sentencepiece.SentencePieceProcessor(model_file=str(path))
    if kind != "unigram":
        assert made.encode(text).tolist() == bare.encode(text)
    words = [" " + word for word in text.split(" ")]
    assert made.encode(" " + text).tolist() == [token for word in words for token in bare.encode(word)]


def test_it_can_be_sent_to_another_process(trained: tokenizer.Tokenizer) -> None:
    sent = pickle.loads(pickle.dumps(trained))
    assert sent.encode(" ".join(AWKWARD)).tolist() == trained.encode(" ".join(AWKWARD)).tolist()
    assert (sent.sha256, sent.kind, sent.pieces) == (trained.sha256, trained.kind, trained.pieces)


def test_lone_surrogates_are_refused(trained: tokenizer.Tokenizer) -> None:
    with pytest.raises(UnicodeEncodeError):
        trained.encode("a\ud800b")


def test_bytes_that_are_no_text_decode_to_the_replacement_character(trained: tokenizer.Tokenizer) -> None:
    half = trained.encode("\U0010ffff")[:2]
    assert trained.decode(half) == "\ufffd"
    assert trained.decode([trained.end]) == ""


def test_frequent_words_become_one_piece(trained: tokenizer.Tokenizer) -> None:
    if trained.kind in ("bpe", "unigram"):
        assert trained.segment("a while")[-1] == "▁while"
        assert trained.vocabulary_size == 400
    assert trained.vocabulary_size == len(trained.pieces) == len(trained.token_bytes)


@pytest.mark.parametrize("kind", ["bpe", "unigram", "char"])
def test_training_again_gives_the_same_file(kind: str, tmp_path: Path) -> None:
    texts = make_texts(400)
    files = []
    for name in ("one", "two"):
        # so small a sample that the choice of chunks matters
        settings = {"kind": kind, "vocabulary": 320, "sample_mb": 0.02}
        tokenizer.train(iter(texts), settings, 7, tmp_path / name)
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]


def test_the_sample_is_bounded_even_and_in_order() -> None:
    texts = [f"{number:09d}" * 10 for number in range(20_000)]  # 90 bytes each
    kept, counts = sample.sample(texts, 90 * 2000, seed=3)
    assert counts["sample_bytes"] <= 90 * 2000
    assert counts["sample_chunks"] == len(kept) == 2000
    assert counts["text_bytes"] == 90 * 20_000
    places = np.array([int(text[:9]) for text in kept])
    assert (np.diff(places) > 0).all()
    quarters = np.bincount(places // 5000, minlength=4)  # 500 each expected, standard deviation 18
    assert quarters.min() > 410
    assert quarters.max() < 590
    assert sample.sample(texts, 90 * 2000, seed=4)[0] != kept


def test_long_documents_are_cut_counted_and_still_learned_from(tmp_path: Path) -> None:
    document = " ".join(make_texts(100))
    assert len(document.encode()) > 4192  # what SentencePiece skips in silence by default
    seen = tokenizer.train([document], {"kind": "bpe", "vocabulary": 400}, 1, tmp_path / "model")
    assert (seen.documents, seen.documents_cut) == (1, 1)
    assert seen.sample_bytes == seen.text_bytes == len(document.encode())


def test_an_alphabet_larger_than_the_vocabulary_is_spelled_in_bytes(tmp_path: Path) -> None:
    hanzi = [chr(0x4E00 + number) for number in range(3000)]
    texts = ["".join(hanzi[start : start + 100]) + " and common words in English" for start in range(0, 3000, 100)]
    seen = tokenizer.train(texts * 3, {"kind": "bpe", "vocabulary": 600}, 1, tmp_path / "model")
    assert seen.alphabet == learn.SMALL_ALPHABET
    assert seen.coverage < 0.5
    made = tokenizer.Tokenizer((tmp_path / "model").read_bytes())
    rare = made.encode(hanzi[-1])
    assert [made.is_byte(token) for token in rare] == [True] * 3
    assert made.decode(rare) == hanzi[-1]


def test_a_large_vocabulary_gives_a_quarter_to_characters(tmp_path: Path) -> None:
    hanzi = [chr(0x4E00 + number) for number in range(500)]
    texts = ["".join(hanzi[start : start + 100]) * 3 for start in range(500)]
    seen = tokenizer.train(texts, {"kind": "bpe", "vocabulary": 1058}, 1, tmp_path / "model")
    assert seen.alphabet == 800 // 4


def test_alphabet_takes_the_frequent_characters_first() -> None:
    assert sample.alphabet(["aaaab", "bbc\t"], 0.7, 10) == ("ab", pytest.approx(7 / 9))
    assert sample.alphabet(["aaaab", "bbc\t"], 1.0, 1) == ("a", pytest.approx(4 / 9))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"kind": "wordpiece", "vocabulary": 400}, "kind is 'wordpiece'"),
        ({"kind": "bpe", "vocabulary": 100}, "at least 300"),
        ({"kind": "bpe"}, "vocabulary is None"),
        ({"kind": "bpe", "vocabulary": 400, "sample_mb": 0}, "sample_mb must be above 0"),
        ({"kind": "bpe", "vocabulary": 400, "vocab": 1}, "unknown"),
        ({"kind": "bpe", "vocabulary": 4000}, "at most"),
        ({"kind": "char", "vocabulary": 258}, "at least 259"),
        ({"kind": "byte", "vocabulary": 400}, "unknown .'vocabulary'. for kind byte"),
    ],
)
def test_wrong_settings_are_named(wrong: dict[str, object], says: str, tmp_path: Path) -> None:
    with pytest.raises(tokenizer.TokenizerError, match=says):
        tokenizer.train(make_texts(20), wrong, 1, tmp_path / "model")


def test_no_text_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(tokenizer.TokenizerError, match="no text"):
        tokenizer.train(["", "\t"], {"kind": "bpe", "vocabulary": 400}, 1, tmp_path / "model")


def test_load_refuses_a_file_that_the_manifest_does_not_name(tmp_path: Path) -> None:
    path = tmp_path / tokenizer.NAME
    tokenizer.train(make_texts(200), {"kind": "bpe", "vocabulary": 400}, 1, path)
    made = manifest.write(tmp_path, "tokenizer", {})
    assert tokenizer.Tokenizer.load(tmp_path).sha256 == made.files[tokenizer.NAME]["sha256"]
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(manifest.ManifestError, match="changed since"):
        tokenizer.Tokenizer.load(tmp_path)


def test_a_foreign_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(tokenizer.TokenizerError, match="not a SentencePiece model"):
        tokenizer.Tokenizer(b"no model at all")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(make_texts(50)), model_prefix=str(tmp_path / "foreign"), vocab_size=60, minloglevel=2
    )
    with pytest.raises(tokenizer.TokenizerError, match="without"):
        tokenizer.Tokenizer((tmp_path / "foreign.model").read_bytes())
