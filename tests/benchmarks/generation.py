"""What the key-value cache saves: tokens a second with it and with everything computed again for each token.

    python -m tests.benchmarks.generation

Both draw from `LanguageModel.predictions`, the sampling included (temperature 0.8, the 50 likeliest), one token at a
time; both write the same tokens, which is checked. Measured at a length: the prompt has so many tokens, it is read
before the clock starts, and the next `TOKENS` are timed: enough that the first few, which find nothing in the
processor's caches but what the prompt left there, do not decide. Weights are random, of the shapes that the line trains
and larger: what a token costs does not depend on them. One thread, by the seconds that the process had a core; both
take turns, medians.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pileline import models
from pileline.models.interface import LanguageModel
from pileline.models.sampling import Sampling

VOCABULARY, END = 2048, 1
SHAPES: dict[str, dict[str, Any]] = {
    "2 layers of 128": {"layers": 2, "width": 128, "bigrams": 65536},
    "4 layers of 192": {"layers": 4, "width": 192},
    "6 layers of 384": {"layers": 6, "heads": 6, "width": 384},
    "6 layers of 384, gated, grouped": {
        "layers": 6,
        "heads": 6,
        "width": 384,
        "mlp_kind": "gated",
        "key_value_heads": 2,
    },
}
LENGTHS = (64, 256, 1024)
TOKENS, ROUNDS = 64, 3


def made(shape: dict[str, Any]) -> Any:
    """An untrained model with random output weights, so that what it writes depends on what it read."""
    model: Any = models.build({"kind": "transformer", "context": 2048} | shape, VOCABULARY, END, seed=1)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return model


def writing(predictions: Generator[Any, int, None]) -> tuple[float, list[int]]:
    """Tokens a second, and the tokens: as `LanguageModel.write` draws them, but on beyond the end of a document."""
    sampling, generator, text = Sampling(temperature=0.8, top_k=50), np.random.default_rng(1), []
    chances = next(predictions)  # reads the prompt
    began = time.process_time()
    for _ in range(TOKENS):
        text.append(sampling.draw(chances, generator))
        chances = predictions.send(text[-1])
    return TOKENS / (time.process_time() - began), text


def compare(shape: dict[str, Any], length: int) -> dict[str, Any]:
    model, prompt = made(shape), np.random.default_rng(length).integers(2, VOCABULARY, length)
    ways = {"cache": model.predictions, "recomputing": partial(LanguageModel.predictions, model)}
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        texts = []
        for name, predictions in ways.items():
            speed, text = writing(predictions(prompt))
            speeds[name].append(speed)
            texts.append(text)
        assert texts[0] == texts[1], "the cache changed what was written"
    row = {name: statistics.median(values) for name, values in speeds.items()}
    return {"length": length, "parameters": model.parameters_count} | row | {"times": row["cache"] / row["recomputing"]}


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    print(f"{'shape':<33}{'length':>7}{'cache':>11}{'recomputing':>13}{'times':>8}   (tokens/s, one core)")
    for name, shape in SHAPES.items():
        for length in LENGTHS:
            rows.append({"shape": name} | compare(shape, length))
            row = rows[-1]
            print(
                f"{name:<33}{length:>7}{row['cache']:>11,.0f}{row['recomputing']:>13,.1f}{row['times']:>8.1f}",
                flush=True,
            )
    path = Path("results/benchmarks/generation.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"rows": rows, "cores": os.cpu_count()}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
