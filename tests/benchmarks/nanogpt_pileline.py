"""Pileline's side of the benchmark: `steps CORPUS SETTINGS THREADS`, or `train` with a folder too (see `nanogpt`).

`steps` takes gradient steps as training does, as many as a line of the input says, and answers with the seconds they
took. `train` trains a model as the train stage does and scores the last tenth of the text.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pileline import models, training
from pileline.models.neural import Neural
from pileline.shards import Loader, open_shards
from pileline.tokenizer import Tokenizer
from pileline.training import derived, loop
from pileline.training.group import Group

SEED = 1


def steps(corpus: Path, settings: dict[str, Any], threads: int) -> None:
    """Answer each number read with the seconds of so many steps, by the clock and of the processor.

    As many tokens are known as nanoGPT knows, the characters; Pileline's tokenizer has the 256 bytes before them.
    """
    made = Tokenizer.load(corpus / "tokenizer")
    first = made.byte_tokens.stop
    model = models.build(settings, made.vocabulary_size - first, 0, SEED)
    plan = training.Plan.of(model.training_defaults | settings, model.setting_names())
    rows = derived.batch_tokens(plan) // model.context
    loader = Loader(open_shards(corpus / "shards", "train"), rows, model.context, SEED)
    settled = derived.settle(plan, loader.batch * model.context, loader.epoch_steps)
    with tempfile.TemporaryDirectory() as scratch:
        run = loop.Run(model.to("cpu"), settled, SEED, threads, "", Path(scratch), Group())
    for line in sys.stdin:
        wall, core = time.perf_counter(), time.process_time()
        for _ in range(int(line)):
            inputs, targets = loader.batch_at(run.step)
            batch = np.maximum(inputs - first, 0), targets - first
            loop.take(run, batch, batch[0].size)
        print(json.dumps([time.perf_counter() - wall, time.process_time() - core]), flush=True)


def train(corpus: Path, settings: dict[str, Any], threads: int, folder: Path) -> None:
    """Train by `settings` and print what came of it; the seconds are those of training alone, as are nanoGPT's."""
    model, shards = build(corpus, settings), corpus / "shards"
    for name in ("output", "scratch"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    training.clear(folder / "scratch")
    wall, core = time.perf_counter(), time.process_time()
    outcome = training.train(model, shards, settings, SEED, "cpu", threads, folder / "output", folder / "scratch")
    seconds = {"seconds": time.perf_counter() - wall, "core seconds": time.process_time() - core}
    training.clear(folder / "scratch")
    model.use_threads(threads)
    tenth = open_shards(shards, "test")
    text = np.concatenate([document["tokens"] for document in tenth.documents()])
    found = {"overlapping": -float(model.score([text])[0].mean()), "blocks": blocks(model, text)}
    shown = {"steps": outcome.steps, "tokens": outcome.tokens_seen, "precision": outcome.precision}
    print(json.dumps(found | seconds | shown | {"parameters": model.parameters_count}))


def blocks(model: Any, text: Any) -> float | None:
    """Nats a character in blocks of the context one after the other, which see nothing of the block before."""
    if not isinstance(model, Neural):
        return None
    whole = torch.from_numpy(np.asarray(text, dtype=np.int64))
    starts = range(0, len(whole) - 1, model.context)
    total = 0.0
    with torch.inference_mode():
        model.network.eval()
        for start in starts:
            block = whole[None, start : start + model.context + 1]
            total += model.network.loss(block[:, :-1], block[:, 1:]).item() * (block.size(1) - 1)
    return total / (len(whole) - 1)


def build(corpus: Path, settings: dict[str, Any]) -> Any:
    """A new model for the tokenizer of the corpus."""
    made = Tokenizer.load(corpus / "tokenizer")
    return models.build(settings, made.vocabulary_size, made.end, SEED)


if __name__ == "__main__":
    given = Path(sys.argv[2]), json.loads(sys.argv[3]), int(sys.argv[4])
    if sys.argv[1] == "steps":
        steps(*given)
    else:
        train(*given, Path(sys.argv[5]))
