"""Pileline beside nanoGPT on Tiny Shakespeare, by characters: steps a second, and what is learned in how much time.

    python -m tests.benchmarks.nanogpt [--nanogpt FOLDER] [--text FILE] [--threads 2] [--only plain compiled quality]

Speed: both train the same shape on the same text, 4 layers of 4 heads, 128 wide, in batches of 12 blocks of 64
characters, in float32 by AdamW, without torch.compile and with it. They take turns, some steps each, in processes of
their own; the table has the medians of the turns and of their ratios. Pileline trains two kinds of network of that
shape: `transformer-2017`, which is nearest to nanoGPT's (absolute positions, LayerNorm, a plain MLP), and
`transformer`, which also turns queries and keys by their positions and normalizes them.

Quality: nanoGPT's train.py runs the recipe that its README has for a CPU, as it is, to the end. Then Pileline trains by
the models of workflow/presets/tiny-shakespeare.yaml on the first nine tenths of the text, by its own stages: a
tokenizer of kind char, shards, the loader, `training.train`. Times are those of training, without preparing text,
without the evaluations of nanoGPT and without scoring. Losses are over the whole last tenth, nats a character: in
windows that overlap by half, as Pileline scores, and in blocks one after the other, as nanoGPT estimates by some at
random. No model is trained on the last tenth or stopped by it. nanoGPT is at a pinned commit, cloned to
results/benchmarks/ if `--nanogpt` names no folder. The table goes to the terminal, everything to
results/benchmarks/nanogpt.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import re
import shutil
import statistics
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pileline import documents, manifest, shards, tokenizer

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "results/benchmarks"
PRESET = ROOT / "workflow/presets/tiny-shakespeare.yaml"
REPOSITORY = "https://github.com/karpathy/nanoGPT"
COMMIT = "3adf61e154c3fe3fca428ad6bc3818b27a3b8291"
TEXT_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
SHAPE = {"layers": 4, "heads": 4, "width": 128, "context": 64, "batch_tokens": 768}
KINDS: dict[str, dict[str, Any]] = {
    "transformer-2017": {"mlp": 4, "dropout": 0.0},
    "transformer": {"again": False, "tied": False},
}
ADAMW = {"optimizer": "adamw", "rate": 1e-3, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1, "precision": "float32"}
RECIPE = (
    "config/train_shakespeare_char.py --device=cpu --compile=False --eval_iters=20 --log_interval=1 --block_size=64 "
    "--batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 --max_iters=2000 --lr_decay_iters=2000 --dropout=0.0 "
    "--eval_interval=2000"
)
PARTS = ["plain", "compiled", "quality"]
STEPS = 20  # a turn
WARM_UP = 10  # steps before the first turn; torch.compile's minute is among them
Found = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare training with nanoGPT's.")
    parser.add_argument("--nanogpt", type=Path, help="a checkout of nanoGPT; cloned if not given")
    parser.add_argument("--text", type=Path, help="Tiny Shakespeare's input.txt; downloaded if not given")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=9, help="how often the sides take turns for speed")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--models", nargs="+", help="those of the preset to train; all if not given")
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # both sides' processes inherit it
    preset = yaml.safe_load(PRESET.read_text(encoding="utf-8"))
    text = read_text(arguments.text, preset["sources"]["tiny-shakespeare"]["http"])
    peer = nanogpt_folder(arguments.nanogpt, text)
    corpus = pileline_folder(text)
    path = FOLDER / "nanogpt.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for part in PARTS[:2]:
        if part in arguments.only:
            found[part] = speed(peer, corpus, arguments.threads, arguments.turns, part)
            show_speed(part, found[part])
    if "quality" in arguments.only:
        entries = {name: preset["models"][name] for name in arguments.models or preset["models"]}
        found["quality"] = quality(peer, corpus, arguments.threads, entries)
        show_quality(found["quality"])
    path.write_text(json.dumps(found | {"threads": arguments.threads}, indent=1) + "\n", encoding="utf-8")


# ----------------------------------------------------------------------------------------------------- text
def read_text(path: Path | None, address: str) -> str:
    """Tiny Shakespeare, the same to the byte."""
    kept = path or FOLDER / "tiny-shakespeare.txt"
    if path is None and not kept.exists():
        with urllib.request.urlopen(address, timeout=60) as response:
            kept.write_bytes(response.read())
    content = kept.read_bytes()
    if hashlib.sha256(content).hexdigest() != TEXT_SHA256:
        raise SystemExit(f"{kept} is not Tiny Shakespeare as char-rnn has it: its SHA-256 is another; give --text")
    return content.decode()


def nanogpt_folder(given: Path | None, text: str) -> Path:
    """A copy of nanoGPT of our own with the text prepared as its prepare.py does."""
    folder = FOLDER / "nanoGPT"
    if given is not None:
        shutil.copytree(given, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".git"))
    elif not (folder / "train.py").exists():
        subprocess.run(["git", "clone", "--quiet", REPOSITORY, str(folder)], check=True)
        subprocess.run(["git", "-C", str(folder), "checkout", "--quiet", COMMIT], check=True)
    data = folder / "data/shakespeare_char"
    characters = sorted(set(text))
    ids = {character: number for number, character in enumerate(characters)}
    tokens = np.array([ids[character] for character in text], dtype=np.uint16)
    border = int(len(text) * 0.9)
    tokens[:border].tofile(data / "train.bin")
    tokens[border:].tofile(data / "val.bin")
    meta = {"vocab_size": len(characters), "stoi": ids, "itos": dict(enumerate(characters))}
    (data / "meta.pkl").write_bytes(pickle.dumps(meta))
    return folder


def pileline_folder(text: str) -> Path:
    """The text as a corpus whose test split is the last tenth, with its tokenizer and its shards."""
    corpus = FOLDER / "tiny-shakespeare"
    border = int(len(text) * 0.9)
    for name in ("tokenizer", "shards"):
        shutil.rmtree(corpus / name, ignore_errors=True)
        (corpus / name).mkdir(parents=True)
    for split, part in (("train", text[:border]), ("test", text[border:])):
        row = documents.Document(f"tiny-shakespeare/{split}#0", "tiny-shakespeare", part, documents.key_of(part))
        documents.write(corpus / f"{split}.parquet", [row])
    settings = yaml.safe_load(PRESET.read_text(encoding="utf-8"))["tokenizers"]["characters"]
    tokenizer.train([text[:border]], settings, 1, corpus / "tokenizer" / tokenizer.NAME)
    manifest.write(corpus / "tokenizer", "tokenizer", {})
    made = tokenizer.Tokenizer.load(corpus / "tokenizer")
    for split in ("train", "test"):
        shards.write(corpus, split, made, corpus / "shards")
    manifest.write(corpus / "shards", "shards", {"tokenizer_sha256": made.sha256})
    return corpus


# ---------------------------------------------------------------------------------------------------- speed
class Stepper:
    """A process that takes as many training steps as it is told."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self._process = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def take(self, steps: int) -> tuple[float, float]:
        """Milliseconds a step, by the clock and of the processor."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("["):
                wall, core = json.loads(line)
                return 1e3 * wall / steps, 1e3 * core / steps
        raise SystemExit("a side of the benchmark ended early; see its error above")

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def ours(what: str, corpus: Path, settings: Found, threads: int, *more: str) -> list[str]:
    module = "tests.benchmarks.nanogpt_pileline"
    return [sys.executable, "-m", module, what, str(corpus), json.dumps(settings), str(threads), *more]


def theirs(*arguments: str) -> list[str]:
    return [sys.executable, str(Path(__file__).with_name("nanogpt_peer.py")), *arguments]


def speed(peer: Path, corpus: Path, threads: int, turns: int, part: str) -> Found:
    """Medians over turns of the milliseconds a step of all sides, and of nanoGPT's over each."""
    sides = {"nanoGPT": Stepper(theirs("steps", part), peer)}
    for kind, more in KINDS.items():
        settings = {"kind": kind, **SHAPE, **ADAMW, **more, "compile": part == "compiled"}
        sides[kind] = Stepper(ours("steps", corpus, settings, threads), ROOT)
    for side in sides.values():
        side.take(WARM_UP)
    taken = [{name: side.take(STEPS) for name, side in sides.items()} for _ in range(turns)]
    for side in sides.values():
        side.close()
    rows: Found = {}
    for name in sides:
        milliseconds = statistics.median(turn[name][0] for turn in taken)
        row = {"ms a step": milliseconds, "tokens/s": 1e3 * SHAPE["batch_tokens"] / milliseconds}
        for place, clock in enumerate(("clock", "core")):
            ratio = statistics.median(turn["nanoGPT"][place] / turn[name][place] for turn in taken)
            row[f"times as fast, by {clock}"] = ratio
        rows[name] = row
    return {"turns": turns, "steps a turn": STEPS, "sides": rows}


def show_speed(part: str, found: Found) -> None:
    print(f"{part:20}{'ms a step':>11}{'tokens/s':>10}{'times as fast':>15}{'by core time':>14}")
    for name, row in found["sides"].items():
        ratios = f"{row['times as fast, by clock']:15.2f}{row['times as fast, by core']:14.2f}"
        print(f"{name:20}{row['ms a step']:11.1f}{row['tokens/s']:10,.0f}{ratios}", flush=True)


# -------------------------------------------------------------------------------------------------- quality
def quality(peer: Path, corpus: Path, threads: int, entries: dict[str, Found]) -> Found:
    """nanoGPT's recipe to the end, and each of our entries."""
    rows = {"nanogpt": run_nanogpt(peer)}
    for name, entry in entries.items():
        settings = {key: value for key, value in entry.items() if key != "threads"}
        command = ours("train", corpus, settings, threads, str(corpus / "models" / name))
        rows[name] = last_line(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout)
    for row in rows.values():
        row["share"] = row["seconds"] / rows["nanogpt"]["seconds"]
    return rows


def run_nanogpt(peer: Path) -> Found:
    """Its train.py as it is; the seconds are those that it prints for each iteration, without the two evaluations'."""
    out = peer / "out-shakespeare-char"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "train.py", *RECIPE.split()]
    printed = subprocess.run(command, cwd=peer, check=True, stdout=subprocess.PIPE, text=True).stdout
    milliseconds = {int(n): float(t) for n, t in re.findall(r"^iter (\d+): .*time ([\d.]+)ms", printed, re.MULTILINE)}
    plain = [time for number, time in milliseconds.items() if number not in (0, max(milliseconds))]
    estimates = re.findall(r"^step (\d+): .*val loss ([\d.]+)", printed, re.MULTILINE)
    scored = subprocess.run(
        theirs("score", str(out / "ckpt.pt")), cwd=peer, check=True, stdout=subprocess.PIPE, text=True
    )
    own = {"seconds": sum(plain) / 1e3, "its own estimate": float(estimates[-1][1]), "steps": len(plain)}
    return last_line(scored.stdout) | own


def last_line(printed: str) -> Found:
    found: Found = json.loads(printed.strip().splitlines()[-1])
    return found


def show_quality(rows: dict[str, Found]) -> None:
    print(f"\n{'':16}{'steps':>8}{'seconds':>10}{'of nanoGPT':>12}{'overlapping':>13}{'blocks':>9}  nats a character")
    for name, row in rows.items():
        blocks = "" if row["blocks"] is None else f"{row['blocks']:.4f}"
        share = f"{row['share']:.1%}"
        print(f"{name:16}{row['steps']:8,}{row['seconds']:10.1f}{share:>12}{row['overlapping']:13.4f}{blocks:>9}")
    print(f"nanoGPT's own estimate at its end: {rows['nanogpt']['its own estimate']:.4f}")


if __name__ == "__main__":
    main()
