"""How fast shards are written and read, beside what the field takes as given.

    python -m tests.benchmarks.shards results/corpora/demo

Writing is compared with bare SentencePiece on the same text, threads and model: from Parquet to checked files, against
encoding lists of strings that lie in memory. Reading is compared with nanoGPT's recipe for a batch (`np.memmap`, slices
at random places, `torch.stack`), one thread, from page cache, by the seconds that the process had a core, so that
others on the machine do not count. Whatever is compared takes turns; medians of the rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sentencepiece
import torch
from pileline import documents, shards, tokenizer

SHAPES = ((12, 64), (16, 256), (64, 1024))
TEXTS_AT_ONCE = 4096


def medians(contenders: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The median of what each contender returns, over rounds in which they take turns."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, measure in contenders.items():
            found[name].append(measure())
    return {name: statistics.median(values) for name, values in found.items()}


# ------------------------------------------------------------------------------------------------ writing


def writing(corpus: Path, made: tokenizer.Tokenizer, model: bytes, folder: Path, rounds: int) -> list[dict[str, Any]]:
    """MB of text a second by `shards.write` and by bare SentencePiece, by the clock and by the seconds of cores."""
    texts = [row.text for row in documents.read(corpus / "train.parquet")]
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)

    def bare(threads: int) -> None:
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            processor.encode(texts[start : start + TEXTS_AT_ONCE], return_type="numpy", num_threads=threads)

    def ours(threads: int) -> None:
        shards.write(corpus, "train", made, folder, threads=threads)

    def timed(work: Callable[[int], None], threads: int) -> tuple[float, float]:
        wall, core = time.perf_counter(), time.process_time()
        work(threads)
        return time.perf_counter() - wall, time.process_time() - core

    rows = []
    for threads in (1, 2):
        times = np.array([[timed(ours, threads), timed(bare, threads)] for _ in range(rounds)])
        (wall, core), (bare_wall, bare_core) = np.median(times, axis=0).tolist()
        row = {"threads": threads, "shards": megabytes / wall, "bare": megabytes / bare_wall, "share": bare_wall / wall}
        rows.append(row | {"shards, of a core": megabytes / core, "bare, of a core": megabytes / bare_core})
        rows[-1]["share, of a core"] = bare_core / core
    return rows


# ------------------------------------------------------------------------------------------------ reading


def nanogpt(path: Path, batch: int, context: int) -> Callable[[int], tuple[torch.Tensor, torch.Tensor]]:
    """nanoGPT's recipe for a batch from a file of uint16 tokens; the map is made anew each time, as there."""

    def draw(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        data = np.memmap(path, dtype=np.uint16, mode="r")
        places = torch.randint(len(data) - context, (batch,))
        x = torch.stack([torch.from_numpy(data[i : i + context].astype(np.int64)) for i in places])
        y = torch.stack([torch.from_numpy(data[i + 1 : i + 1 + context].astype(np.int64)) for i in places])
        return x, y

    return draw


def pileline(loader: shards.Loader) -> Callable[[int], tuple[torch.Tensor, torch.Tensor]]:
    def draw(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        inputs, targets = loader.batch_at(step)
        return torch.from_numpy(inputs), torch.from_numpy(targets)

    return draw


def speed(draw: Callable[[int], Any], tokens: int, seconds: float = 0.5) -> Callable[[], float]:
    """Million tokens a second of one core; each call goes on with the steps behind the last one's."""
    steps = max(int(200_000 // tokens), 20)
    at = 0

    def measure() -> float:
        nonlocal at
        begun, drawn = time.process_time(), 0
        while time.process_time() - begun < seconds:
            for step in range(at, at + steps):
                draw(step)
            at, drawn = at + steps, drawn + steps
        return drawn * tokens / (time.process_time() - begun) / 1e6

    return measure


def reading(opened: shards.ShardSet, folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Million tokens a second by each packing, and by nanoGPT's recipe."""
    torch.set_num_threads(1)
    path = folder / "train.bin"
    np.concatenate(opened.tokens.parts).astype(np.uint16).tofile(path)
    rows = []
    for batch, context in SHAPES:
        loaders = {name: shards.Loader(opened, batch, context, 1, packing=name) for name in shards.PACKINGS}
        draws = {name: pileline(loader) for name, loader in loaders.items()} | {
            "nanogpt": nanogpt(path, batch, context)
        }
        found = medians({name: speed(draw, batch * context) for name, draw in draws.items()}, rounds)
        rows.append({"batch": batch, "context": context, **found})
    return rows


def memory(opened: shards.ShardSet) -> list[dict[str, Any]]:
    """Most memory that Python and NumPy allocate for a loader and 300 of its batches, by the size of the data."""
    rows = []
    for times in (1, 10, 100):
        tokens = shards.TokenStream(opened.tokens.parts * times)
        larger = replace(opened, batches=opened.batches * times, tokens=tokens)
        for packing in shards.PACKINGS if times < 100 else shards.PACKINGS[:1]:
            tracemalloc.start()
            begun = time.perf_counter()
            loader = shards.Loader(larger, 16, 256, 1, packing=packing)
            opening = time.perf_counter() - begun
            for step in range(300):
                loader.batch_at(step)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            row = {"million tokens": larger.n_tokens / 1e6, "packing": packing, "peak MB": peak / 1e6}
            rows.append(row | {"seconds to lay out, traced": opening})
    return rows


def packings(opened: shards.ShardSet) -> list[dict[str, Any]]:
    """What each packing pads and cuts."""
    loaders = [shards.Loader(opened, 1, c, 1, packing=p) for c in (256, 1024) for p in shards.PACKINGS]
    return [loader.account().to_dict() for loader in loaders]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="folder of a mixed corpus")
    parser.add_argument("--json", type=Path, default=Path("results/benchmarks/shards.json"), help="where numbers go")
    parser.add_argument("--vocabulary", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, model = Path(name), Path(name) / tokenizer.NAME
        texts = (row.text for row in documents.read(given.corpus / "train.parquet"))
        tokenizer.train(texts, {"kind": "bpe", "vocabulary": given.vocabulary, "sample_mb": 5}, 1, model)
        made = tokenizer.Tokenizer(model.read_bytes())
        found = {"writing, MB/s": writing(given.corpus, made, model.read_bytes(), folder, given.rounds)}
        opened = shards.map_files("train", sorted(folder.glob("train-*.arrow")))
        found["reading, million tokens/s of a core"] = reading(opened, folder, given.rounds)
        found["memory"] = memory(opened)
        found["packing"] = packings(opened)
    for title, rows in found.items():
        print(f"\n{title}\n{pd.DataFrame(rows).round(3).to_string(index=False)}")
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
