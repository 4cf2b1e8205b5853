"""Train a tokenizer: SentencePiece learns the pieces, and two small changes make them fit for every text.

SentencePiece (Kudo and Richardson 2018, arXiv:1808.06226) learns by byte-pair encoding (Sennrich et al. 2016,
arXiv:1508.07909), as a unigram model (Kudo 2018, arXiv:1804.10959), or takes single characters. Then, in its model:

- Blanks, which it writes as U+2581 and so cannot tell from a U+2581 in the text, are made blanks again, and the
  model is told not to escape them. U+2581 is then a character like any other, spelled in bytes.
- A unigram model's log probabilities are rounded to multiples of `STEP`. Sums of them are then exact in SentencePiece's
  32-bit numbers, so that the best segmentation depends neither on where a long text was cut nor on who adds them up.
  It costs next to nothing: with 4096 pieces, 161,589 tokens for a text that took 161,586 before.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from pileline.tokenizer.sample import CHUNK, alphabet, sample
from pileline.tokenizer.settings import BLANK, BYTE_TOKENS, END, RESERVED_TOKENS, SPECIALS, STEP, TokenizerError, check

# Characters take a quarter of the vocabulary at most. On a mix of English, Spanish, French, code and Chinese a token of
# 4096 then stood for 2.56 bytes, against 2.44 with a half and 2.54 with a seventh; of 16384, 3.24, 3.13 and 3.27.
ALPHABET_PART = 4
SMALL_ALPHABET = 96  # but this many even in a small vocabulary: about what one language needs
# Unigram's sums depend on how sentences are dealt to threads: the number is part of the result, not of the machine.
TRAINING_THREADS = 4
protocol: Any = sentencepiece_model_pb2  # generated code, of which type checkers see nothing


@dataclass(frozen=True)
class Training:
    """What the tokenizer was trained on. Bytes are UTF-8; a chunk is at most `CHUNK` characters of a document."""

    documents: int = 0
    text_bytes: int = 0
    documents_cut: int = 0  # longer than a chunk: merges across the cuts were not seen
    sample_bytes: int = 0
    sample_chunks: int = 0
    alphabet: int = 0  # characters with a piece of their own; the others are spelled in bytes
    coverage: float = 0.0  # share of the sample's characters that the alphabet covers

    def to_dict(self) -> dict[str, int | float]:
        return asdict(self)


def train(texts: Iterable[str], settings: dict[str, Any], seed: int, path: str | Path) -> Training:
    """`fit` a tokenizer, write it to `path` (a SentencePiece model), say what it saw."""
    model, training = fit(texts, settings, seed)
    Path(path).write_bytes(model)
    return training


def fit(texts: Iterable[str], settings: dict[str, Any], seed: int) -> tuple[bytes, Training]:
    """A tokenizer trained on a sample of `texts`, as the bytes of a SentencePiece model, and what it saw.

    The same texts, settings and seed give the same bytes, with any number of cores. `settings` as in `check`.
    Raises `TokenizerError` if the text is too little for the vocabulary, and says how much it can fill.
    """
    settings = check(settings)
    if settings["kind"] == "byte":
        return _bytes_alone(), Training()
    chunks, counts = sample(texts, int(settings["sample_mb"] * 1e6), seed)
    characters, covered = alphabet(chunks, settings["coverage"], _room(settings))
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
    return _finish(model.getvalue()), Training(**counts, alphabet=len(characters), coverage=round(covered, 6))


def _room(settings: dict[str, Any]) -> int:
    """How many characters may have a piece of their own."""
    free: int = settings["vocabulary"] - RESERVED_TOKENS
    return free if settings["kind"] == "char" else max(free // ALPHABET_PART, min(SMALL_ALPHABET, free // 2))


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


def _finish(model: bytes) -> bytes:
    """The model with blanks as blanks, and of a unigram model the log probabilities rounded."""
    proto = protocol.ModelProto.FromString(model)
    proto.normalizer_spec.escape_whitespaces = False
    unigram = proto.trainer_spec.model_type == proto.trainer_spec.UNIGRAM
    for piece in proto.pieces:
        piece.piece = piece.piece.replace(BLANK, " ")
        if unigram:
            piece.score = round(piece.score / STEP) * STEP
    finished: bytes = proto.SerializeToString(deterministic=True)
    return finished


def _bytes_alone() -> bytes:
    """A SentencePiece model of the specials and the 256 bytes, which spells every text in its UTF-8."""
    proto = protocol.ModelProto()
    piece = proto.SentencePiece
    for name, kind in zip(SPECIALS, (piece.UNKNOWN, piece.CONTROL), strict=True):
        proto.pieces.add(piece=name, score=0, type=kind)
    for byte in range(BYTE_TOKENS):
        proto.pieces.add(piece=f"<0x{byte:02X}>", score=0, type=piece.BYTE)
    specification = proto.trainer_spec
    specification.model_type = specification.CHAR
    specification.byte_fallback = True
    specification.vocab_size = len(proto.pieces)
    specification.unk_id, specification.eos_id, specification.bos_id, specification.pad_id = 0, 1, -1, -1
    specification.eos_piece = END
    normalizer = proto.normalizer_spec
    normalizer.name = "identity"
    normalizer.add_dummy_prefix = normalizer.remove_extra_whitespaces = normalizer.escape_whitespaces = False
    made: bytes = proto.SerializeToString(deterministic=True)
    return made
