"""Export: a tokenizer as the `tokenizer.json` that Hugging Face `tokenizers` loads, with the same ids.

Its BPE replays merges of pairs, so every pair of pieces that makes a piece is listed, in the order of the pieces. Its
unigram model is SentencePiece's, but one that also finds special tokens in a text; their scores are therefore so low
that spelling `<0x41>` in characters always costs less, and a character of such a name that has no piece is cut out
first. Characters alone, and bytes alone, are a BPE without merges. The specials are no "added tokens": those would be
found in a text, and no text should encode to the end of a document.

The ids are the same for every text but one: that which we had to cut where a piece might cross, since it has no other
place in a whole segment (`Tokenizer.segments`), as a hundred thousand times one letter.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pileline.tokenizer.encode import Tokenizer
from pileline.tokenizer.settings import BLANK, SPECIALS

NAME = "tokenizer.json"


def write(tokenizer: Tokenizer, path: str | Path) -> None:
    """Write `tokenizer` to `path` in the format of Hugging Face `tokenizers` 0.14 and later."""
    text = json.dumps(to_dict(tokenizer), ensure_ascii=False, indent=1)
    Path(path).write_text(text + "\n", encoding="utf-8")


def to_dict(tokenizer: Tokenizer) -> dict[str, Any]:
    """The content of a `tokenizer.json`."""
    unigram = tokenizer.kind == "unigram"
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": _cut_out(tokenizer) if unigram else None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"Regex": f"^(?:{'|'.join(map(re.escape, SPECIALS))})$"}, "content": ""},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": _unigram(tokenizer) if unigram else _pairs(tokenizer),
    }


def _names(tokenizer: Tokenizer) -> list[str]:
    return [piece.replace(BLANK, " ") for piece in tokenizer.pieces]


def _reserved(tokenizer: Tokenizer) -> set[int]:
    """The ids of specials and bytes, which no text is matched with."""
    return {token for token, size in enumerate(tokenizer.token_bytes) if not size or tokenizer.is_byte(token)}


def _pairs(tokenizer: Tokenizer) -> dict[str, Any]:
    """A model of merges: all pairs of pieces that make a piece, by the piece's rank."""
    names, reserved = _names(tokenizer), _reserved(tokenizer)
    learned = {name: token for token, name in enumerate(names) if token not in reserved}
    order = sorted(learned.values(), key=lambda token: (-tokenizer.scores[token], token))
    merges = []
    if tokenizer.kind == "bpe":
        for name in (names[token] for token in order):
            cuts = [(name[:place], name[place:]) for place in range(1, len(name))]
            merges += [[left, right] for left, right in cuts if left in learned and right in learned]
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": SPECIALS[0],
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": True,
        "ignore_merges": False,
        "vocab": {name: token for token, name in enumerate(names)},
        "merges": merges,
    }


def _unigram(tokenizer: Tokenizer) -> dict[str, Any]:
    names, reserved = _names(tokenizer), _reserved(tokenizer)
    scores = tokenizer.scores
    least = min(score for token, score in enumerate(scores) if token not in reserved)
    hopeless = (max(map(len, (names[token] for token in reserved))) + 1) * least - 1
    vocabulary = [[name, hopeless if token in reserved else scores[token]] for token, name in enumerate(names)]
    return {"type": "Unigram", "unk_id": 0, "vocab": vocabulary, "byte_fallback": True}


def _cut_out(tokenizer: Tokenizer) -> dict[str, Any] | None:
    """Cut a text at characters of reserved tokens' names that have no piece: no piece could cross them anyway."""
    names, reserved = _names(tokenizer), _reserved(tokenizer)
    learned = {name for token, name in enumerate(names) if token not in reserved}
    lacking = sorted({character for token in reserved for character in names[token]} - learned)
    if not lacking:
        return None
    pattern = {"Regex": f"[{''.join(map(re.escape, lacking))}]"}
    return {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
