"""How fast the n-gram model counts and the LSTM trains, beside the bare library that each is built on.

    python -m tests.benchmarks.models results/shards/demo/bpe2k

The LSTM trains through Pileline's whole loop (loader, log, checkpoint, the account of spikes, dropout's seeds), against
torch's own modules, loss and Adam in the shortest loop there is, over the same batches. The n-gram model's counts of
all orders, discounts and back-off shares are compared with bare counting: `np.unique` over n-grams packed into 64 bits,
and `collections.Counter` over tuples, as a textbook writes it (on a part of the tokens: it needs too much memory).

One thread, and the seconds that the process had a core, so that others on the machine do not count. Contenders take
turns; speeds and ratios are medians of the rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from pileline import models, shards
from pileline.models.device import autocast, multiplies_bfloat16
from pileline.training import Plan, derived, loop
from torch import nn

SHAPES = {
    "classic": {"embedding": 64, "width": 128, "layers": 1, "context": 64},
    "larger": {"embedding": 256, "width": 512, "layers": 2, "context": 64},
}
ROWS = 32  # of a batch
TEXTBOOK_TOKENS = 2_000_000  # that the loop in Python counts


def turns(contenders: dict[str, Callable[[], Any]], amounts: dict[str, int], rounds: int) -> dict[str, float]:
    """Tokens a second of a core of each contender, and each one's median ratio to the first, over the rounds."""
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, work in contenders.items():
            begun = time.process_time()
            work()
            speeds[name].append(amounts[name] / (time.process_time() - begun))
    found = {f"{name}, tokens/s": round(statistics.median(values)) for name, values in speeds.items()}
    first, *others = speeds
    for name in others:
        ratios = [a / b for a, b in zip(speeds[first], speeds[name], strict=True)]
        found[f"{first} / {name}"] = round(statistics.median(ratios), 3)
    return found


# --------------------------------------------------------------------------------------------------- LSTM


def bare(shape: dict[str, int], vocabulary: int, batches: shards.Loader, precision: str, steps: int) -> None:
    """Torch alone: the same network, loss, clipping and optimizer over the same batches."""
    embedding = nn.Embedding(vocabulary, shape["embedding"])
    layers = nn.LSTM(shape["embedding"], shape["width"], shape["layers"], batch_first=True)
    head = nn.Linear(shape["width"], vocabulary)
    parameters = [*embedding.parameters(), *layers.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.001, fused=True)
    for step in range(steps):
        inputs, targets = (torch.from_numpy(part) for part in batches.batch_at(step))
        with autocast("cpu", precision):
            logits = head(layers(embedding(inputs))[0])
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()


def whole(shape: dict[str, int], vocabulary: int, batches: shards.Loader, precision: str, steps: int) -> None:
    """The same steps by Pileline's training loop, from building the model to the last checkpoint."""
    settings = {"kind": "lstm", **shape}
    model = models.build(settings, vocabulary, 0, 1)
    asked = model.training_defaults | {"steps": steps, "precision": precision, "validations": 0}
    plan = derived.settle(Plan.of(asked, set()), ROWS * shape["context"], batches.epoch_steps)
    with tempfile.TemporaryDirectory() as folder:
        loop.run(model, batches, None, plan, 1, 1, Path(folder), Path(folder))


def lstm(opened: shards.ShardSet, vocabulary: int, rounds: int, steps: int) -> list[dict[str, Any]]:
    precisions = ["float32"] + (["bfloat16"] if multiplies_bfloat16("cpu") else [])
    rows = []
    for name, shape in SHAPES.items():
        batches = shards.Loader(opened, ROWS, shape["context"], 1)
        count = steps if name == "classic" else max(steps // 5, 2)
        for precision in precisions:
            given = (shape, vocabulary, batches, precision)
            contenders = {"Pileline": partial(whole, *given, count), "torch": partial(bare, *given, count)}
            for work in contenders.values():
                work()  # both warm: pages, caches, oneDNN's choices
            tokens = dict.fromkeys(contenders, count * ROWS * shape["context"])
            rows.append({"shape": name, "precision": precision, **turns(contenders, tokens, rounds)})
    return rows


# ------------------------------------------------------------------------------------------------- n-grams


def packed(tokens: npt.NDArray[np.int64], bits: int, order: int) -> None:
    """Counts of the n-grams of each order by numpy alone, with no regard to documents."""
    keys = tokens
    for n in range(2, order + 1):
        np.unique(keys, return_counts=True)
        keys = (keys[:-1] << bits) | tokens[n - 1 :]
    np.unique(keys, return_counts=True)


def textbook(tokens: list[int], order: int) -> None:
    """The same counts by a loop in Python."""
    for n in range(1, order + 1):
        Counter(zip(*(tokens[k:] for k in range(n)), strict=False))


def ngram(opened: shards.ShardSet, vocabulary: int, end: int, rounds: int) -> list[dict[str, Any]]:
    bits = (vocabulary - 1).bit_length()
    order = min(5, 63 // bits)  # what 64 bits hold
    rows = []
    for count in sorted({min(TEXTBOOK_TOKENS, len(opened.tokens)), len(opened.tokens)}):
        tokens = np.asarray(opened.tokens.read(0, count), dtype=np.int64)
        model = models.build({"kind": "ngram", "order": order, "repeats": "all"}, vocabulary, end)
        contenders: dict[str, Callable[[], Any]] = {
            "Pileline": partial(model.fit, tokens),
            "numpy": partial(packed, tokens, bits, order),
        }
        if count <= TEXTBOOK_TOKENS:
            contenders["Python loop"] = partial(textbook, tokens.tolist(), order)
        found = turns(contenders, dict.fromkeys(contenders, count), rounds)
        rows.append({"order": order, "million tokens": round(count / 1e6, 2), **found})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path, help="folder of a corpus as tokens")
    parser.add_argument("--json", type=Path, default=Path("results/benchmarks/models.json"), help="where numbers go")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100, help="of the LSTM, a round")
    given = parser.parse_args()
    opened = shards.open_shards(given.shards, "train")
    tokens = opened.tokens.read(0, len(opened.tokens))
    vocabulary, end = int(tokens.max()) + 1, int(tokens[0])  # the stream starts with `end`
    torch.set_num_threads(1)
    found = {
        "LSTM, training": lstm(opened, vocabulary, given.rounds, given.steps),
        "n-grams, counting": ngram(opened, vocabulary, end, min(given.rounds, 3)),
    }
    for title, rows in found.items():
        print(f"\n{title}\n{pd.DataFrame(rows).to_string(index=False)}")
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
