"""What may be asked of a tokenizer: its kind, its size, how much text it is trained on."""

from __future__ import annotations

from typing import Any

END = "<|end|>"  # stands between documents and before the first; no text encodes to it
BYTE_TOKENS = 256
SPECIALS = ("<unk>", END)  # SentencePiece requires the first, no text encodes to it either
RESERVED_TOKENS = BYTE_TOKENS + len(SPECIALS)
BLANK = "\u2581"  # how SentencePiece's trainer writes a blank, and pieces are shown
STEP = 2.0**-7  # a unigram model's log probabilities are multiples of it, in nats

KINDS = ("bpe", "unigram", "char", "byte")
# The least vocabulary: the reserved tokens, and for pieces to be learned at all, some characters to start from.
MINIMUM = {"bpe": 300, "unigram": 300, "char": RESERVED_TOKENS + 1}
DEFAULTS: dict[str, Any] = {"sample_mb": 20, "coverage": 0.9995, "leave_one_out": False}


class TokenizerError(ValueError):
    """Settings that no tokenizer can be trained with, or a file that is none."""


def check(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with defaults filled in; `TokenizerError` names the first that is wrong.

    `kind` one of `KINDS`; `vocabulary` tokens in all, bytes and specials included, of kind char at most so many;
    `sample_mb` MB of text to train on at most; `coverage` share of characters that get pieces of their own, as far as
    a quarter of the vocabulary suffices; `leave_one_out` whether to train again without each source. Kind byte has
    no other setting: it is not trained.
    """
    kind = settings.get("kind")
    if kind not in KINDS:
        raise TokenizerError(f"tokenizer settings: kind is {kind!r}; use one of {KINDS}")
    allowed = ["kind"] if kind == "byte" else ["kind", "vocabulary", *DEFAULTS]
    if unknown := sorted(set(settings) - set(allowed)):
        raise TokenizerError(f"tokenizer settings: unknown {unknown} for kind {kind}; allowed: {allowed}")
    if kind == "byte":
        return {"kind": kind, "vocabulary": RESERVED_TOKENS}
    filled = {**DEFAULTS, **settings}
    if not isinstance(filled.get("vocabulary"), int) or filled["vocabulary"] < MINIMUM[kind]:
        raise TokenizerError(
            f"tokenizer settings: vocabulary is {filled.get('vocabulary')!r}; use a whole number of at least "
            f"{MINIMUM[kind]} (it holds {BYTE_TOKENS} tokens for the bytes)"
        )
    if not filled["sample_mb"] > 0 or not 0 < filled["coverage"] <= 1:
        raise TokenizerError(
            f"tokenizer settings: sample_mb is {filled['sample_mb']}, coverage {filled['coverage']}; "
            "sample_mb must be above 0, coverage above 0 and at most 1"
        )
    return filled
