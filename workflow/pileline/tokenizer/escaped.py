"""Export: a tokenizer as the `tokenizer.model` that llama.cpp's converter reads, with the same ids.

It differs from our own file in one thing: blanks are written U+2581, as SentencePiece does unless told otherwise, for
llama.cpp knows no other way. Hence its one limit: U+2581 in a text is taken for a blank there, while ours spells it in
bytes.

llama.cpp merges pairs by the scores of pieces, as SentencePiece's BPE does. It would do so with the pieces of a unigram
model too, and make other tokens without a word; and bytes alone have no piece for a blank. Those have no such file, so
that the converter refuses them.
"""

from __future__ import annotations

from pileline.tokenizer.encode import Tokenizer, protocol
from pileline.tokenizer.settings import BLANK, END

KINDS = ("bpe", "char")  # that llama.cpp's way of merging reproduces; characters are a BPE without merges


def to_bytes(tokenizer: Tokenizer) -> bytes | None:
    """The content of a `tokenizer.model` with U+2581 for a blank; None if llama.cpp would make other tokens with it."""
    if tokenizer.kind not in KINDS or BLANK not in tokenizer.pieces:
        return None
    proto = protocol.ModelProto()
    kinds = proto.SentencePiece
    for token, (name, score) in enumerate(zip(tokenizer.pieces, tokenizer.scores, strict=True)):
        kind = kinds.BYTE if tokenizer.is_byte(token) else kinds.NORMAL
        if not tokenizer.token_bytes[token]:
            kind = kinds.CONTROL if token == tokenizer.end else kinds.UNKNOWN
        proto.pieces.add(piece=name, score=score, type=kind)
    trainer = proto.trainer_spec
    trainer.model_type, trainer.byte_fallback, trainer.vocab_size = trainer.BPE, True, len(proto.pieces)
    trainer.unk_id, trainer.eos_id, trainer.bos_id, trainer.pad_id = 0, tokenizer.end, -1, -1
    trainer.eos_piece = END
    normalizer = proto.normalizer_spec
    normalizer.name, normalizer.escape_whitespaces = "identity", True
    normalizer.add_dummy_prefix = normalizer.remove_extra_whitespaces = False
    content: bytes = proto.SerializeToString(deterministic=True)
    return content
