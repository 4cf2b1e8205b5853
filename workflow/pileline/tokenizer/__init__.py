"""The tokenizer: text to tokens and back, with nothing lost.

`train` learns one from text and `Tokenizer` applies it. What only the tokenizer's own stage needs is imported by its
name, so that a change there does not make the shards again: `card` measures a tokenizer on held-out text, `sources`
tells what a source's text is worth to it, `huggingface` and `escaped` export it.
"""

from pileline.tokenizer.encode import NAME, Tokenizer, Tokens
from pileline.tokenizer.learn import Training, fit, train
from pileline.tokenizer.settings import DEFAULTS, END, KINDS, TokenizerError, check

__all__ = [
    "DEFAULTS",
    "END",
    "KINDS",
    "NAME",
    "Tokenizer",
    "TokenizerError",
    "Tokens",
    "Training",
    "check",
    "fit",
    "train",
]
