"""The tokenizer: text to tokens and back, with nothing lost.

SentencePiece (Kudo and Richardson 2018, arXiv:1808.06226) learns the pieces, by byte-pair encoding
(Sennrich et al. 2016, arXiv:1508.07909) or as a unigram model (Kudo 2018, arXiv:1804.10959). Around it stands
what it takes to make `decode(encode(text)) == text` hold for every text:

- No normalization, no added or stripped blanks; a character outside the alphabet becomes its UTF-8 bytes, for
  which 256 tokens are reserved.
- SentencePiece writes a blank as U+2581 and so cannot tell the two apart. A U+2581 in the text is cut out and
  encoded as its three bytes.
- Decoding is a table: each token stands for a fixed string of bytes. The same table gives `token_bytes`, so
  that the bytes of a text's tokens sum to the bytes of its UTF-8, which bits per byte rest on.

Pieces never cross from a non-blank to a blank, so a long text is encoded in segments cut there, with bounded
memory and the same result (for the unigram model: up to ties that its 32-bit sums of scores decide by rounding,
the more so the longer the text).
"""

from __future__ import annotations

import hashlib
import heapq
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sentencepiece

from pileline import documents, manifest

NAME = "tokenizer.model"
END = "<|end|>"  # stands between documents and before the first; no text encodes to it
KINDS = ("bpe", "unigram")
DEFAULTS: dict[str, Any] = {"sample_mb": 20, "coverage": 0.9995}
BYTE_TOKENS = 256
MINIMUM_VOCABULARY = 300  # the bytes, two specials, and a few characters
SEGMENT = 1 << 14  # characters; longer texts are encoded in parts
CHUNK = 1 << 12  # characters of a document that the trainer sees at once: at most 16 kB of UTF-8
# Characters take a quarter of the vocabulary at most. On a mix of English, Spanish, French, code and Chinese a token of
# 4096 then stood for 2.56 bytes, against 2.44 with a half and 2.54 with a seventh; of 16384, 3.24, 3.13 and 3.27.
ALPHABET_PART = 4
SMALL_ALPHABET = 96  # but this many even in a small vocabulary: about what one language needs
# Unigram's sums depend on how sentences are dealt to threads: the number is part of the result, not of the machine.
TRAINING_THREADS = 4
BLANK = "\u2581"
# What SentencePiece's trainer uses as marks (blank, unknown, boundary) or refuses (NUL); they are encoded as bytes.
RESERVED = ("\x00", "\t", BLANK, "\u2585")

Tokens = npt.NDArray[np.int32]


class TokenizerError(ValueError):
    """Settings that no tokenizer can be trained with, or a file that is none."""


@dataclass(frozen=True)
class Training:
    """What the tokenizer was trained on. Bytes are UTF-8; a chunk is at most `CHUNK` characters of a document."""

    documents: int
    text_bytes: int
    documents_cut: int  # longer than a chunk: merges across the cuts were not seen
    sample_bytes: int
    sample_chunks: int
    alphabet: int  # characters with a piece of their own; the others are spelled in bytes
    coverage: float  # share of the sample's characters that the alphabet covers

    def to_dict(self) -> dict[str, int | float]:
        return asdict(self)


def check(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with defaults filled in; `TokenizerError` names the first that is wrong.

    `kind` "bpe" or "unigram"; `vocabulary` tokens in all, bytes and specials included; `sample_mb` MB of text
    to train on at most; `coverage` share of characters that get pieces of their own, as far as a quarter of the
    vocabulary suffices.
    """
    unknown = set(settings) - {"kind", "vocabulary", *DEFAULTS}
    if unknown:
        raise TokenizerError(f"tokenizer settings: unknown {sorted(unknown)}; allowed: kind, vocabulary, {[*DEFAULTS]}")
    filled = {**DEFAULTS, **settings}
    if filled.get("kind") not in KINDS:
        raise TokenizerError(f"tokenizer settings: kind is {filled.get('kind')!r}; use one of {KINDS}")
    if not isinstance(filled.get("vocabulary"), int) or filled["vocabulary"] < MINIMUM_VOCABULARY:
        raise TokenizerError(
            f"tokenizer settings: vocabulary is {filled.get('vocabulary')!r}; use a whole number of at least "
            f"{MINIMUM_VOCABULARY} (it holds {BYTE_TOKENS} tokens for the bytes)"
        )
    if not filled["sample_mb"] > 0 or not 0 < filled["coverage"] <= 1:
        raise TokenizerError(
            f"tokenizer settings: sample_mb is {filled['sample_mb']}, coverage {filled['coverage']}; "
            "sample_mb must be above 0, coverage above 0 and at most 1"
        )
    return filled


def sample(texts: Iterable[str], limit: int, seed: int) -> tuple[list[str], dict[str, int]]:
    """An even sample of the texts' chunks, at most `limit` bytes, in their order; and counts of what was read.

    Each chunk draws a number; those below a threshold stay, and the threshold sinks as the sample fills up
    (Vitter's reservoir, by priority). So one pass over any amount of text needs memory for the sample alone.
    """
    generator = np.random.default_rng(seed)
    heap: list[tuple[float, int, str, int]] = []  # the largest draw first, as heapq's smallest
    counts = {"documents": 0, "text_bytes": 0, "documents_cut": 0}
    threshold, size, number = 1.0, 0, 0
    for text in texts:
        counts["documents"] += 1
        counts["documents_cut"] += len(text) > CHUNK
        for start in range(0, len(text), CHUNK):
            chunk = text[start : start + CHUNK]
            length = len(chunk.encode())
            counts["text_bytes"] += length
            draw = generator.random()
            number += 1
            if draw < threshold:
                heapq.heappush(heap, (-draw, number, chunk, length))
                size += length
            while size > limit and len(heap) > 1:
                gone = heapq.heappop(heap)
                threshold, size = -gone[0], size - gone[3]
    kept = [chunk for _, _, chunk, _ in sorted(heap, key=lambda entry: entry[1])]
    return kept, {**counts, "sample_bytes": size, "sample_chunks": len(kept)}


def alphabet(chunks: Sequence[str], coverage: float, maximum: int) -> tuple[str, float]:
    """The most frequent characters that make up `coverage` of the text, at most `maximum`; and what they cover.

    SentencePiece's own choice knows no maximum: a text with a few thousand Chinese characters would not fit a
    small vocabulary at all. Ties go to the lower code point.
    """
    counts = np.zeros(0x110000, dtype=np.int64)
    for start in range(0, len(chunks), 256):
        points, found = np.unique(
            np.frombuffer("".join(chunks[start : start + 256]).encode("utf-32-le"), dtype="<u4"), return_counts=True
        )
        counts[points] += found
    total = int(counts.sum())
    counts[[ord(character) for character in RESERVED]] = 0
    order = np.argsort(-counts, kind="stable")[: min(maximum, int((counts > 0).sum()))]
    covered = np.cumsum(counts[order]) / max(total, 1)
    number = min(int(np.searchsorted(covered, coverage)) + 1, len(order))
    return "".join(map(chr, order[:number].tolist())), float(covered[number - 1]) if number else 0.0


def train(texts: Iterable[str], settings: dict[str, Any], seed: int, path: str | Path) -> Training:
    """Train a tokenizer on a sample of `texts`, write it to `path` (a SentencePiece model), say what it saw.

    The same texts, settings and seed give the same file, with any number of cores. `settings` as in `check`.
    Raises `TokenizerError` if the text is too little for the vocabulary, and says how much it can fill.
    """
    settings = check(settings)
    chunks, counts = sample(texts, int(settings["sample_mb"] * 1e6), seed)
    free = settings["vocabulary"] - BYTE_TOKENS - 2
    room = max(free // ALPHABET_PART, min(SMALL_ALPHABET, free // 2))
    characters, covered = alphabet(chunks, settings["coverage"], room)
    if not characters:
        raise TokenizerError(f"no text to train a tokenizer on: {counts['documents']} documents, all empty or blank")
    # Text is cut at characters outside the alphabet: pieces could not cross them anyway.
    others = re.compile("[^" + re.escape(characters) + "]+")
    sentences = (part for chunk in chunks for part in others.split(chunk) if part)
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=sentences, model_writer=model, **_trainer_arguments(settings)
        )
    except RuntimeError as error:
        raise TokenizerError(_explain(str(error), settings, counts["sample_bytes"])) from error
    Path(path).write_bytes(model.getvalue())
    return Training(**counts, alphabet=len(characters), coverage=round(covered, 6))


def _trainer_arguments(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "model_type": settings["kind"],
        "vocab_size": settings["vocabulary"],
        "normalization_rule_name": "identity",
        "byte_fallback": True,
        "split_digits": True,
        "remove_extra_whitespaces": False,
        "allow_whitespace_only_pieces": True,
        "add_dummy_prefix": False,
        "character_coverage": 1.0,  # `alphabet` has chosen already
        "max_sentence_length": 4 * CHUNK,  # bytes; longer ones would be skipped in silence
        "num_threads": TRAINING_THREADS,
        "unk_id": 0,  # required, never produced
        "eos_id": 1,
        "eos_piece": END,
        "bos_id": -1,
        "pad_id": -1,
        "minloglevel": 2,
    }


def _explain(message: str, settings: dict[str, Any], size: int) -> str:
    possible = re.search(r"value <= (\d+)", message)
    if possible:
        return (
            f"{size:,} bytes of text support at most {possible[1]} tokens, fewer than vocabulary: "
            f"{settings['vocabulary']}; lower it to that or less, or add text"
        )
    return f"SentencePiece could not train with {settings} on {size:,} bytes: {message}"


class Tokenizer:
    """A trained tokenizer. Tokens are int32 ids below `vocabulary_size`; `end` is the id of `END`.

    `pieces` are the tokens' names as SentencePiece writes them, with U+2581 for a blank.
    """

    def __init__(self, model: bytes) -> None:
        """From the bytes of a SentencePiece model that `train` wrote; `TokenizerError` for others."""
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except (RuntimeError, ValueError) as error:
            raise TokenizerError(f"not a SentencePiece model: {error}") from error
        self.sha256 = hashlib.sha256(model).hexdigest()  # as the stage's manifest names it
        self.vocabulary_size: int = self._processor.vocab_size()
        self.end: int = self._processor.piece_to_id(END)
        ids = range(self.vocabulary_size)
        self.pieces: list[str] = [self._processor.id_to_piece(token) for token in ids]
        first = self._processor.piece_to_id("<0x00>")
        if not self._processor.is_control(self.end) or not self._processor.is_byte(first):
            raise TokenizerError(f"a SentencePiece model without {END} or byte tokens; train it with pileline")
        self._first_byte: int = first  # SentencePiece lays the 256 out in order
        self._table: list[bytes] = [self._bytes_of(token) for token in ids]
        self._blank_tokens = np.array([first + byte for byte in BLANK.encode()], dtype=np.int32)

    @classmethod
    def load(cls, folder: str | Path) -> Tokenizer:
        """The tokenizer of a stage's folder; its file must be the one that the manifest names."""
        made = manifest.read(folder, "tokenizer")
        made.verify()
        return cls(made.path(NAME).read_bytes())

    def _bytes_of(self, token: int) -> bytes:
        if self._processor.is_control(token) or self._processor.is_unknown(token):
            return b""
        if self.is_byte(token):
            return bytes([token - self._first_byte])
        return self.pieces[token].replace(BLANK, " ").encode()

    def is_byte(self, token: int) -> bool:
        """Whether the token stands for one byte, as part of a character outside the alphabet."""
        return self._first_byte <= token < self._first_byte + BYTE_TOKENS

    def segment(self, text: str) -> list[str]:
        """The pieces that a text is cut in, as SentencePiece writes them."""
        return [self.pieces[token] for token in self.encode(text).tolist()]

    @property
    def byte_tokens(self) -> slice:
        """The ids of the 256 tokens that stand for one byte each."""
        return slice(self._first_byte, self._first_byte + BYTE_TOKENS)

    @cached_property
    def token_bytes(self) -> npt.NDArray[np.int64]:
        """[vocabulary_size] UTF-8 bytes that each token stands for; 0 for specials."""
        return np.array([len(value) for value in self._table], dtype=np.int64)

    def encode(self, text: str) -> Tokens:
        """[tokens] ids of a text, without `end`. Raises `UnicodeEncodeError` for lone surrogates."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str], threads: int = 1) -> list[Tokens]:
        """Ids of each text, as `encode` gives; on `threads` cores, with the same result."""
        plain: list[str] = []  # what SentencePiece encodes, of all texts
        plan: list[list[int]] = []  # a text's parts: an index into `plain`, or -1 for U+2581
        for text in texts:
            parts: list[int] = []
            for segment in segments(text):
                parts.append(-1 if segment == BLANK else len(plain))
                if segment != BLANK:
                    plain.append(segment)
            plan.append(parts)
        try:
            encoded = self._processor.encode(plain, return_type="numpy", num_threads=threads) if plain else []
        except TypeError:  # what SentencePiece says of a lone surrogate; Python's own error names its place
            for text in texts:
                text.encode()
            raise
        return [self._join(parts, encoded) for parts in plan]

    def _join(self, parts: list[int], encoded: list[Tokens]) -> Tokens:
        if len(parts) == 1 and parts[0] >= 0:
            return encoded[parts[0]]
        arrays = [encoded[part] if part >= 0 else self._blank_tokens for part in parts]
        return np.concatenate(arrays) if arrays else np.empty(0, dtype=np.int32)

    def decode_bytes(self, tokens: Iterable[int]) -> bytes:
        """The bytes that the tokens stand for. Tokens of a model's own making need not be valid UTF-8."""
        table = self._table
        return b"".join([table[token] for token in tokens])

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of the tokens; specials vanish, bytes that are no UTF-8 become U+FFFD."""
        return self.decode_bytes(tokens).decode("utf-8", "replace")


@dataclass(frozen=True)
class Compression:
    """How a tokenizer spells a text it was not trained on.

    `by_source` maps a source to "bytes", "tokens" and "bytes_per_token" (None without tokens); `token_counts`
    is how often each token occurred, int64 [vocabulary_size].
    """

    by_source: dict[str, dict[str, Any]]
    overall: dict[str, Any]
    token_counts: npt.NDArray[np.int64]

    @property
    def vocabulary_used(self) -> int:
        """How many tokens of the vocabulary occurred at all."""
        return int((self.token_counts > 0).sum())


def measure(tokenizer: Tokenizer, path: str | Path, threads: int = 1) -> Compression:
    """Encode the document table at `path` and count, by source."""
    amounts: dict[str, list[int]] = {}
    counts = np.zeros(tokenizer.vocabulary_size, dtype=np.int64)
    for batch in documents.batches(path, ["source", "text"]):
        sources, texts = (column.to_pylist() for column in batch.columns)
        for source, text, tokens in zip(sources, texts, tokenizer.encode_batch(texts, threads), strict=True):
            amount = amounts.setdefault(source, [0, 0])
            amount[0] += len(text.encode())
            amount[1] += len(tokens)
            np.add.at(counts, tokens, 1)
    total = [sum(column) for column in zip(*amounts.values(), strict=True)] or [0, 0]
    return Compression({source: _rates(*amounts[source]) for source in sorted(amounts)}, _rates(*total), counts)


def _rates(size: int, tokens: int) -> dict[str, Any]:
    return {"bytes": size, "tokens": tokens, "bytes_per_token": round(size / tokens, 4) if tokens else None}


def segments(text: str) -> Iterator[str]:
    """Cut a text into parts that can be encoded one by one: at U+2581 (a part of its own), and long ones at blanks.

    A part ends before a blank that follows a non-blank, where no piece can cross, at most `SEGMENT`
    characters on. Text without such a place for that long is cut where it is.
    """
    if len(text) <= SEGMENT and BLANK not in text:
        if text:
            yield text
        return
    for part in re.split(f"({BLANK})", text):
        start = 0
        while len(part) - start > SEGMENT:
            cut = _word_border(part, start + 1, start + SEGMENT)
            yield part[start:cut]
            start = cut
        if part[start:]:
            yield part[start:]


def _word_border(text: str, low: int, high: int) -> int:
    """The last place in [low, high] before a blank that follows a non-blank; `high` if there is none."""
    place = text.rfind(" ", low, high + 1)
    while place > low and text[place - 1] == " ":
        place = text.rfind(" ", low, place)
    return place if place >= low and text[place - 1] != " " else high


__all__ = [
    "DEFAULTS",
    "END",
    "KINDS",
    "NAME",
    "Compression",
    "Tokenizer",
    "TokenizerError",
    "Training",
    "check",
    "measure",
    "train",
]
