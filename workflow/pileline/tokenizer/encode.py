"""Apply a tokenizer: text to ids, ids to text, and the bytes that each id stands for.

What it takes to make `decode(encode(text)) == text` hold for every text:

- No normalization, no added or stripped blanks; a character outside the alphabet becomes its UTF-8 bytes, for
  which 256 tokens are reserved.
- Decoding is a table: each token stands for a fixed string of bytes. The same table gives `token_bytes`, so
  that the bytes of a text's tokens sum to the bytes of its UTF-8, which bits per byte rest on.

A long text is encoded in segments, with bounded memory. It is cut only between two characters that stand side by side
in no piece: no piece can cross there, so both sides are encoded as they would be in the whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from pileline import manifest
from pileline.tokenizer.settings import BLANK, BYTE_TOKENS, END, RESERVED_TOKENS, STEP, TokenizerError

NAME = "tokenizer.model"
protocol: Any = sentencepiece_model_pb2  # generated code, of which type checkers see nothing
SEGMENT = 1 << 14  # characters; longer texts are encoded in segments
UNKNOWN_PENALTY = 10.0  # what SentencePiece's unigram model subtracts from the least score for a character it lacks

Tokens = npt.NDArray[np.int32]
Offsets = npt.NDArray[np.int64]


class Tokenizer:
    """A trained tokenizer. Tokens are int32 ids below `vocabulary_size`; `end` is the id of `END`.

    `pieces` are the tokens' names, with U+2581 for a blank; `kind` is one of `KINDS`; `scores` are
    SentencePiece's: for bpe the order of the merges, for unigram log probabilities. It can be pickled.
    """

    def __init__(self, model: bytes) -> None:
        """From the bytes of a SentencePiece model that `train` wrote; `TokenizerError` for others."""
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except (RuntimeError, ValueError) as error:
            raise TokenizerError(f"not a SentencePiece model: {error}") from error
        proto = protocol.ModelProto.FromString(model)
        self.sha256 = hashlib.sha256(model).hexdigest()  # as the stage's manifest names it
        self.vocabulary_size: int = self._processor.vocab_size()
        self.end: int = self._processor.piece_to_id(END)
        names = [piece.piece for piece in proto.pieces]
        first: int = self._processor.piece_to_id("<0x00>")  # SentencePiece lays the 256 out in order
        escapes = proto.normalizer_spec.escape_whitespaces
        if not self._processor.is_control(self.end) or not self._processor.is_byte(first) or escapes:
            raise TokenizerError(
                f"a SentencePiece model without {END} or byte tokens, or with blanks escaped; train it with pileline"
            )
        self.byte_tokens = slice(first, first + BYTE_TOKENS)  # the ids of the tokens that stand for one byte each
        self.pieces: list[str] = [name.replace(" ", BLANK) for name in names]
        self._table: list[bytes] = [self._bytes_of(token, name) for token, name in enumerate(names)]
        learned = [name for token, name in enumerate(names) if self._table[token] and not self.is_byte(token)]
        self._inside = {pair for name in learned for pair in map("".join, pairwise(name))}
        self.scores: list[float] = [piece.score for piece in proto.pieces]
        kind: str = proto.trainer_spec.ModelType.Name(proto.trainer_spec.model_type)
        self.kind = "byte" if self.vocabulary_size == RESERVED_TOKENS else kind.lower()
        self._segment = _exact_segment(self.scores) if self.kind == "unigram" else SEGMENT

    @classmethod
    def load(cls, folder: str | Path) -> Tokenizer:
        """The tokenizer of a stage's folder; its file must be the one that the manifest names."""
        return cls(manifest.read(folder, "tokenizer").path(NAME).read_bytes())

    def _bytes_of(self, token: int, name: str) -> bytes:
        if self._processor.is_control(token) or self._processor.is_unknown(token):
            return b""
        return bytes([token - self.byte_tokens.start]) if self.is_byte(token) else name.encode()

    def is_byte(self, token: int) -> bool:
        """Whether the token stands for one byte, as part of a character outside the alphabet."""
        return bool(self.byte_tokens.start <= token < self.byte_tokens.stop)

    def segment(self, text: str) -> list[str]:
        """The pieces that a text is cut in, as `pieces` writes them."""
        return [self.pieces[token] for token in self.encode(text).tolist()]

    @cached_property
    def token_bytes(self) -> npt.NDArray[np.int64]:
        """[vocabulary_size] UTF-8 bytes that each token stands for; 0 for specials."""
        return np.array([len(value) for value in self._table], dtype=np.int64)

    # ------------------------------------------------------------------------------------------ encode
    def encode(self, text: str) -> Tokens:
        """[tokens] ids of a text, without `end`. Raises `UnicodeEncodeError` for lone surrogates."""
        return self.encode_flat([text])[0]

    def encode_batch(self, texts: Sequence[str], threads: int = 1) -> list[Tokens]:
        """Ids of each text, as `encode` gives; on `threads` cores, with the same result."""
        ids, offsets = self.encode_flat(texts, threads)
        return [ids[start:stop] for start, stop in pairwise(offsets.tolist())]

    def encode_flat(self, texts: Sequence[str], threads: int = 1) -> tuple[Tokens, Offsets]:
        """(ids, offsets): the ids of all texts one after the other; those of text i are ids[offsets[i]:offsets[i + 1]].

        ids int32 [tokens], offsets int64 [texts + 1]. The result does not depend on `threads`.
        """
        if self.kind == "byte":
            return self._spell(texts)
        segments, firsts = self._segments(texts)
        try:
            encoded = self._processor.encode(segments, return_type="numpy", num_threads=threads) if segments else []
        except TypeError:  # what SentencePiece says of a lone surrogate; Python's own error names its place
            for text in texts:
                text.encode()
            raise
        offsets = _ends(map(len, encoded), len(encoded))
        ids = np.concatenate(encoded) if encoded else np.empty(0, dtype=np.int32)
        return ids, offsets if firsts is None else offsets[firsts]

    def _spell(self, texts: Sequence[str]) -> tuple[Tokens, Offsets]:
        """`encode_flat` in bytes alone."""
        spelled = [text.encode() for text in texts]
        ids = np.frombuffer(b"".join(spelled), dtype=np.uint8).astype(np.int32) + np.int32(self.byte_tokens.start)
        return ids, _ends(map(len, spelled), len(spelled))

    def _segments(self, texts: Sequence[str]) -> tuple[list[str], Offsets | None]:
        """What SentencePiece encodes, and where in it each text begins; None if each text is a segment."""
        if max(map(len, texts), default=0) <= self._segment:  # nearly always: no look at each text
            return list(texts), None
        cut = [list(self.segments(text)) for text in texts]
        return [part for parts in cut for part in parts], _ends(map(len, cut), len(cut))

    def segments(self, text: str) -> Iterator[str]:
        """Cut a text in parts that can be encoded one by one, as long as may be.

        Text without a place for that in a whole segment, as a million times one letter, is cut where it is.
        """
        start = 0
        while len(text) - start > self._segment:
            stop = start + self._segment
            cut = stop
            while cut > start and text[cut - 1 : cut + 1] in self._inside:
                cut -= 1
            cut = cut if cut > start else stop
            yield text[start:cut]
            start = cut
        yield text[start:]

    # ------------------------------------------------------------------------------------------ decode
    def decode_bytes(self, tokens: Iterable[int]) -> bytes:
        """The bytes that the tokens stand for. Tokens of a model's own making need not be valid UTF-8."""
        table = self._table
        return b"".join([table[token] for token in tokens])

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of the tokens; specials vanish, bytes that are no UTF-8 become U+FFFD."""
        return self.decode_bytes(tokens).decode("utf-8", "replace")


def _ends(lengths: Iterable[int], number: int) -> Offsets:
    """0 and the running sums of `number` lengths, int64 [number + 1]."""
    ends = np.zeros(number + 1, dtype=np.int64)
    np.cumsum(np.fromiter(lengths, np.int64, number), out=ends[1:])
    return ends


def _exact_segment(scores: Sequence[float]) -> int:
    """How many characters a unigram model may score at once with every 32-bit sum exact.

    Sums of multiples of `STEP` are exact up to 2 ** 24 steps, and no character costs more than one without a piece.
    """
    return min(SEGMENT, int(2**24 * STEP / (UNKNOWN_PENALTY - min(scores))))
