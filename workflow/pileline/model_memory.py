"""How much memory a model takes, from what is known before it is trained or used: clusters stop what takes more.

The one idea: what was measured, times what it grows with, and room on top. Peaks in MB, of jobs of the default run, and
of training alone (two steps on one core of a CPU); to score the holdout with them took 563 to 1,215:

| model                                                                      | peak  |
|----------------------------------------------------------------------------|-------|
| ngram of order 5, 13.8 million tokens                                      | 1,436 |
| residual of 9.1 million weights, the same tokens                           | 1,881 |
| lstm of 0.5 million weights                                                |   629 |
| transformer of 34 million weights, nearly all in tables of n-grams         | 1,035 |
| transformer of 11.6 million: 6 layers, 384 wide, 2,048 tokens a step       | 1,608 |
| the same, 8,192 tokens                                                     | 2,108 |
| transformer of 30.5 million: 4 layers, 768 wide, 256 tokens a step, adamw  | 1,808 |
| transformer-2017 of 2.1 million: 2 layers, 256 wide, 8,192 tokens a step   |   891 |
| transformer of 2.2 million, a vocabulary of 32,768, 8,192 tokens a step    | 2,649 |
| transformer of 0.9 million: 16 heads, context 1024, the same in bfloat16   | 2,411 |
"""

from __future__ import annotations

from typing import Any

Settings = dict[str, Any]
OWN_MB = 4000  # a model of the user's own, of which nothing is known
BASE_MB = 1500  # Python, torch and the libraries of the notebook: 530 to 630, and room for what the rest leaves out
WEIGHT_BYTES = 60  # the weight, its gradient, the optimizer's memory, a checkpoint while it is written: 13 to 75
ACTIVATION_BYTES = 60  # a token of a step, layer and unit of width, kept for the way back: 35 to 57
LOGIT_BYTES, COUNT_BYTES = 8, 8  # a token of a step and of the vocabulary, likewise: 5 to 8; for each level of a cache
SCORE_BYTES, PLAIN = 4, 1024  # a score of attention, kept in bfloat16, where blocks have so many tokens at most: 3.3
INPUT_BYTES = 30  # a token of a step and number that an mlp's window holds: 26
TOKEN_BYTES, ORDER_BYTES = 60, 30  # a token that is counted, and for each order; 62 at order 2, 93 to 131 at order 5
BATCH_TOKENS = 2048  # of a step, where training chooses
USED_BYTES, LEAST_USED_MB = 60, 4000  # to use a model: a number that it learned, 36 of an n-gram model; room for texts


def counts(settings: Settings) -> bool:
    """Whether an entry of `models` counts the corpus, so that its memory grows with it."""
    return settings["kind"] in ("ngram", "residual")


def weights(settings: Settings, vocabulary: int) -> int:
    """The weights of a network of ours, or somewhat more: those of a wide transformer's biggest form."""
    number: dict[str, int] = settings
    if settings["kind"] == "mlp":
        inputs = number["window"] * number["embedding"]
        seen = number["hidden"] + inputs * number["direct"]
        return vocabulary * (number["embedding"] + seen) + number["hidden"] * inputs
    width, layers = number["width"], number["layers"]
    if settings["kind"] == "lstm":
        return (vocabulary + 4 * width) * (number["embedding"] + width) + (layers - 1) * 8 * width**2
    tables = number.get("bigrams", 0) * (number.get("ngrams", 2) - 1)
    return (2 * vocabulary + tables) * width + layers * (4 + 2 * number["mlp"]) * width**2


def _kept_bytes(settings: Settings, vocabulary: int) -> int:
    """What a step keeps of each of its tokens for the way back: activations, logits, and scores of short blocks."""
    number: dict[str, int] = settings
    if settings["kind"] == "mlp":  # its gradient is computed with the loss, so logits are not kept
        return ACTIVATION_BYTES * number["hidden"] + INPUT_BYTES * number["window"] * number["embedding"]
    kept = ACTIVATION_BYTES * number["layers"] * number["width"]
    kept += (LOGIT_BYTES + COUNT_BYTES * number.get("cache", 0)) * vocabulary
    plain = settings["kind"] in ("transformer", "residual") and settings["precision"] != "float32"
    if plain and number["context"] <= PLAIN:
        kept += SCORE_BYTES * number["layers"] * number["heads"] * number["context"]
    return kept


def training_megabytes(settings: Settings, vocabulary: int, tokens: int) -> int:
    """MB to train an entry of `models` with all its settings; `tokens` are the corpus' if it `counts`."""
    if ":" in settings["kind"]:
        return OWN_MB
    number: dict[str, int] = settings
    size = tokens * (TOKEN_BYTES + ORDER_BYTES * number["order"]) if counts(settings) else 0
    if settings["kind"] == "ngram":
        return BASE_MB + size // 10**6
    size += WEIGHT_BYTES * weights(settings, vocabulary)
    if settings["device"] != "cuda":  # else they lie on the GPU that the job asks for; `auto` may find none
        step = (number["batch_tokens"] or BATCH_TOKENS) // (number["accumulate"] * number["processes"])
        size += step * _kept_bytes(settings, vocabulary)
    started = number["processes"] + (number["processes"] > 1)  # and the one that starts them
    return started * (BASE_MB + size // 10**6)


def using_megabytes(parameters: int) -> int:
    """MB to score, generate, or export with a trained model."""
    return max(LEAST_USED_MB, BASE_MB + USED_BYTES * parameters // 10**6)
