"""A made-up run for the tests of the report: small manifests, run records and executed notebooks of every stage.

Numbers are drawn from a seeded generator, ledgers balance, and texts are hostile where real ones may be.
"""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from pileline import documents, manifest, plots
from pileline.documents import Document
from pileline.ledger import Ledger
from pileline.report.read import merge_experiments, plan

HOSTILE = '<script>alert("x")</script><img src=https://evil.example/a.png onerror=alert(1)> & "quoted"'
SOURCES = {
    "wikipedia-en": ("Wikipedia's vital articles", "encyclopedia", "en", 5_000_000, 2.0),
    "wikipedia-fr": ("Articles in French", "encyclopedia", "fr", 3_800_000, 2.0),
    "shakespeare": ("Plays and poems", "drama", "en", 5_100_000, 1.0),
    "milton": ("Poems and prose", "poetry", "en", 2_800_000, 1.0),
    "code": ("Example files in 457 languages", "code", "code", 3_000_000, 1.0),
    "reviews-zh": ("Reviews in Chinese", "reviews", "zh", 4_400_000, 1.0),
}
EXPERIMENTS: list[dict[str, Any]] = [
    {"corpus": "demo", "tokenizer": "bpe4k", "model": "ngram", "task": None},
    {"corpus": "demo", "tokenizer": "bpe4k", "model": "transformer", "task": None},
    {"corpus": "raw", "tokenizer": "bpe4k", "model": "ngram", "task": None},
    {"corpus": "raw", "tokenizer": "bpe4k", "model": "transformer", "task": None},
    {"corpus": "demo", "tokenizer": "bpe4k", "model": "transformer", "task": "topic", "export": True},
    {"corpus": "demo", "tokenizer": "bpe4k", "model": "mine", "task": None},
    {"corpus": "demo", "tokenizer": "bpe4k", "model": "original", "task": None, "export": True},
    {"corpus": "demo", "tokenizer": "bpe4k", "model": "lstm-rate-0.001", "task": None},
    {"corpus": "demo", "tokenizer": "bpe4k", "model": "lstm-rate-0.003", "task": None},
    {"corpus": "demo", "tokenizer": "bpe4k", "model": "lstm-rate-0.01", "task": None},
    {"corpus": "demo", "tokenizer": "bpe4k", "model": "mlp", "task": None},
]
PARTS = {"reviews-zh": 3}  # the other sources are in one part
MODELS: dict[str, dict[str, Any]] = {
    "ngram": {"kind": "ngram", "order": 5},
    "transformer": {"kind": "transformer", "minutes": 10},
    "mine": {"kind": "my_models:Tiny", "width": 16},
    "original": {"kind": "transformer-2017", "patience": 2},
    **{f"lstm-rate-{rate}": {"kind": "lstm", "rate": rate} for rate in (0.001, 0.003, 0.01)},
    "mlp": {"kind": "mlp", "loss": "mse"},
}
_WEIGHTS = {name: {"weight": about[4], "cap_mb": None} for name, about in SOURCES.items()}
CONFIGURATION: dict[str, Any] = {
    "sources": {
        name: {
            "title": title,
            "domain": domain,
            "language": language,
            "license": "CC BY-SA 4.0" if "wiki" in name else "public domain",
            "pypi": f"package-{name}==1.0",
            "parts": PARTS.get(name, 1),
        }
        for name, (title, domain, language, _, _) in SOURCES.items()
    },
    "recipes": {"none": [], "slimpajama": [{"filter": "short", "characters": 200}]},
    "holdout": {"validation": 0.02, "test": 0.03},
    "corpora": {
        "demo": {"recipe": "slimpajama", "deduplication": "minhash", "mix": _WEIGHTS, "mixing": {"kind": "epochs"}},
        "raw": {"recipe": "none", "deduplication": "none", "mix": _WEIGHTS, "mixing": {"kind": "epochs"}},
    },
    "tokenizers": {"bpe4k": {"kind": "bpe", "vocabulary": 4096}},
    "models": MODELS,
    "evaluation": {"holdout": "demo", "prompts": ["The history of", "这本书"]},
    "tasks": {"topic": {"source": "wikipedia-en", "recipe": "slimpajama", "label": "topic", "test": 0.1}},
    "experiments": EXPERIMENTS,
    "seed": 1,
}
BITS = {"ngram": 2.6, "mlp": 2.9, "original": 2.3, "transformer": 2.1, "mine": 2.5}
BITS |= {"lstm-rate-0.001": 2.45, "lstm-rate-0.003": 2.32, "lstm-rate-0.01": 2.4}
CLASSES = ["History", "Geography", "Biology & health", "<b>Art</b>", "Sports"]


def _ledger(generator: np.random.Generator, size: int, reasons: list[str]) -> dict[str, Any]:
    """A ledger that balances."""
    ledger = Ledger()
    for number in generator.integers(200, 9000, max(1, size // 5000)).tolist():
        place = generator.random()
        if reasons and place < 0.12:
            ledger.remove(number, reasons[int(place * 100) % len(reasons)])
        else:
            ledger.keep(number, number - (7 if reasons and place > 0.9 else 0))
    ledger.check("fixture")
    return ledger.to_dict()


def _download(source: str, part: str, size: int) -> dict[str, Any]:
    number = int(part.split("-")[0]) - 1
    file = {"path": f"{source}-{number}.tar.gz", "bytes": size // 3, "sha256": f"{len(part + source):064x}"}
    origin = {"pypi": f"package-{source}==1.0"}
    listed = {"listed": PARTS.get(source, 1), "files": [{**file, "number": number, "pinned": True}]}
    return {"source": source, "kind": "pypi", "origin": origin, "part": part} | listed


def _clean(recipe: str, source: str, part: str, size: int, generator: np.random.Generator) -> dict[str, Any]:
    reasons = [] if recipe == "none" else ["short", "gopher_quality: too few words", "gopher_quality: symbols"]
    entries = [
        {"id": f"{source}/a#{part}{number}", "excerpt": HOSTILE, "place": f"{generator.integers(2**40):016x}"}
        for number in range(3)
    ]
    ledger = _ledger(generator, size, reasons)
    removed = sum(amount["documents"] for amount in ledger["removed"].values())
    filters = [{"filter": "fix_unicode", "form": "NFC"}, {"filter": "short", "characters": 200}]
    passages = [
        {"filter": "fix_unicode", "documents_in": ledger["in"]["documents"], "documents_removed": 0},
        {"filter": "short", "documents_in": ledger["in"]["documents"], "documents_removed": removed},
    ]
    unreadable = [{"member": "a/b.txt", "id": f"{source}/a/b.txt#0", "reason": "not UTF-8", "place": "00ff"}]
    return {
        "source": source,
        "part": part,
        "recipe": recipe,
        "filters": filters if reasons else [],
        "ledger": ledger,
        "steps": [{**step, "bytes_in": 9, "bytes_removed": 3, "bytes_rewritten": 1} for step in passages if reasons],
        "members": 4,
        "passed_over": {"documents": 5, "bytes": 500} if source == "milton" else {"documents": 0, "bytes": 0},
        "unreadable": unreadable if source == "code" else [],
        "examples_removed": dict.fromkeys(reasons, entries),
        "lengths": {"edges": [0, 100, 1000, 10_000], "counts": generator.integers(0, 90, 3).tolist()},
        "sample": entries,
    }


def _removed(folder: Path, name: str, ledgers: dict[str, Any], reasons: list[str]) -> None:
    """The table of a stage's removed documents, three of each source and reason that its books have."""
    rows = [
        {
            "id": f"{source}/{reason}<b>#{number}",
            "source": source,
            "bytes": 100 + number,
            "reason": reason,
            "partner": f"{source}/kept#{number}",
            "similarity": 0.9,
        }
        for source, ledger in ledgers.items()
        for reason in ledger["removed"]
        if reason in reasons
        for number in range(3)
    ]
    columns = ["id", "source", "bytes", "reason", *(["partner", "similarity"] if name.startswith("dup") else [])]
    pq.write_table(pa.Table.from_pylist(rows).select(columns) if rows else pa.table({"reason": []}), folder / name)


def _deduplicate(folder: Path, corpus: str, generator: np.random.Generator) -> dict[str, Any]:
    minhash = corpus == "demo"
    reasons = ["exact", "near", "near holdout"] if minhash else ["near holdout"]
    edges = np.linspace(0, 1, 21)
    similarity = np.linspace(0, 1, 51)
    pair = {"kept": "milton/a#1", "removed": "milton/b#1", "similarity": 0.9312, "reason": "near"}
    recall = {"edges": [0.4, 0.6, 0.8, 1.0], "pairs": [10, 20, 0], "found": [4, 17, 0], "expected": [4, 16, 0]}
    precision = {"removed": 90, "planted": 89, "precision": 89 / 90, "collisions": 120, "collision_precision": 0.75}
    kinds = [
        {"kind": "exact", "planted": 20, "expected": 20, "found": 20},
        {"kind": "20 % edited", "planted": 20, "expected": 0, "found": 0},
    ]
    shared = {"removed": "code/x#1", "partner": "wikipedia-en/t#1", "text": HOSTILE}
    tasks = {"topic": {"documents": 3, "bytes": 3000, "ngrams": 12_000}}
    lines = [{"text": "all rights reserved <b>", "documents": 40}]
    ledgers = {name: _ledger(generator, about[3], reasons) for name, about in SOURCES.items()}
    _removed(folder, "duplicates.parquet", ledgers, reasons)
    return {
        "corpus": corpus,
        "method": {"kind": "minhash", "threshold": 0.8, "bands": 20, "rows": 6} if minhash else {"kind": "none"},
        "ledgers": ledgers,
        "candidates": 1234,
        "verified": 987,
        "clusters": {"count": 12, "largest": 4},
        "pairs": [{**pair, "excerpt_kept": "Of Man's first disobedience", "excerpt_removed": HOSTILE}] * 3,
        "similarity_histogram": {"edges": edges.tolist(), "counts": generator.integers(0, 90, 20).tolist()},
        "s_curve": {"similarity": similarity.tolist(), "probability": (1 - (1 - similarity**6) ** 20).tolist()},
        "injected": {"kinds": kinds, "precision": precision, "recall": recall} if minhash else None,
        "boilerplate": {"unit": "line", "documents": 10, "lines": 1, "occurrences": 40, "bytes": 800, "examples": lines}
        if minhash
        else None,
        "decontamination": {"words": 13, "tasks": tasks, "examples": [shared]} if minhash else None,
        "state_bytes_per_document": 312.5,
        "alarm": 0.5,
        "alarms": ["milton lost 57 % of its bytes"] if minhash else [],
    }


def _mix(folder: Path, corpus: str, generator: np.random.Generator) -> dict[str, Any]:
    whole = sum(about[3] * about[4] for about in SOURCES.values())
    held = {name: {"documents": about[3] // 90_000, "bytes": about[3] // 40} for name, about in SOURCES.items()}
    shares = corpus == "raw"
    table = [
        {
            "source": name,
            "unique_documents": size // 800,
            "unique_bytes": size,
            "weight": epochs,
            "cap_bytes": 3e6 if shares and name == "code" else None,
            "documents": size // 900,
            "bytes": size,
            "epochs": epochs,
            "effective_bytes": int(size * epochs),
            "share": size * epochs / whole,
        }
        for name, (_, _, _, size, epochs) in SOURCES.items()
    ]
    reasons = ["exact", "task", "cap", "weight", "boilerplate"]
    ledgers = {name: _ledger(generator, about[3], reasons) for name, about in SOURCES.items()}
    _removed(folder, "removed.parquet", ledgers, reasons[1:])
    train = {"documents": 21_000, "bytes": 23_000_000}
    return {
        "corpus": corpus,
        "recipe": "none" if shares else "slimpajama",
        "mixing": {"kind": "shares", "size_mb": 40, "most_epochs": 4} if shares else {"kind": "epochs"},
        "warnings": ["code would need 7.0 epochs <b>"] if shares else [],
        "table": table,
        "splits": {"train": train, "validation": held, "test": held},
        "ledgers": ledgers,
        "sample": [{"id": "wikipedia-en/x#1", "excerpt": HOSTILE}],
    }


def _tokenizer(generator: np.random.Generator) -> dict[str, Any]:
    rates = {name: 2.5 + generator.random() * 2 for name in SOURCES}
    compression = {
        name: {"bytes": 10_000, "tokens": int(10_000 / r), "bytes_per_token": r} for name, r in rates.items()
    }
    segmentations = [
        {"source": "shakespeare", "pieces": ["To", "▁be", ",", "▁or", "▁not", "▁to", "▁be", "\n", "<0xE4>"]},
        {"source": "code", "pieces": ["<script>", "▁al", "ert", "(1)", "</", "script", ">"]},
    ]
    return {
        "tokenizer": "bpe4k",
        "settings": {"kind": "bpe", "vocabulary": 4096},
        "training": {"documents": 900, "text_bytes": 9_000_000, "sample_bytes": 8_000_000},
        "vocabulary_size": 4096,
        "vocabulary_used": 4010,
        "byte_fallback_rate": 0.0042,
        "compression": compression,
        "overall": {"bytes": 60_000, "tokens": 18_000, "bytes_per_token": 3.33},
        "longest_pieces": ["▁international", "▁Encyclopædia", "-" * 16, "▁<b>"],
        "sample_segmentations": segmentations,
    }


_MUON = {
    "name": "Muon on matrices, AdamW on embeddings and vectors, RMSprop by row on look-up tables",
    "kind": "muon",
    "matrix_rate": 0.03,
    "embedding_rate": 0.1,
    "vector_rate": 0.02,
    "betas": [0.9, 0.95],
    "weight_decay": 0.01,
    "schedule": "wsd",
}
_ADAM = {"name": "Adam", "kind": "adam", "rate": 0.001, "weight_decay": 0.0, "schedule": "constant"}
_PACKING = {"packing": "best_fit", "documents": 700, "cut": 70, "cut_share": 0.1, "padding": 9, "efficiency": 0.985}
# What each model's manifest says beyond what they share; "mine" is as old manifests are, without any of it.
_TRAINED: dict[str, dict[str, Any]] = {
    "mlp": {"optimizer": _ADAM, "budget": {"epochs": 1.0}, "packing": {"packing": "concatenate", "cut_share": 0.9}},
    "original": {"optimizer": _ADAM, "budget": {"steps": 900}, "stopped_early": True, "best_step": 400, "processes": 2},
    "transformer": {"optimizer": _MUON, "budget": {"minutes": 10}, "packing": _PACKING, "skipped_steps": 3},
    "mine": {},
}


def _train(model: str, corpus: str) -> dict[str, Any]:
    """The metrics of a training stage, and its curve."""
    kind = MODELS[model]["kind"]
    made: dict[str, Any] = {"model": model, "kind": kind, "settings": MODELS[model], "device": "cpu", "threads": 2}
    made |= {"parameters": 2_600_000, "steps": 600, "tokens_seen": 2_457_600, "epochs": 0.4}
    if model == "ngram":
        counted = {
            "steps": 3,
            "tokens_seen": 9_000_000,
            "final_training_loss": None,
            "optimizer": {"name": "none: counts"},
        }
        return made | counted | {"precision": "float64", "batch_tokens": None, "skipped_steps": 0, "curve": []}
    if model != "mine":
        made |= {"precision": "bfloat16", "batch_tokens": 4096, "skipped_steps": 0, "stopped_early": False}
        made |= {"compiled": False, "processes": 1, "best_step": 600, "budget": {"steps": 600}, "packing": {}}
    made |= _TRAINED.get(model, {"optimizer": _ADAM | {"rate": MODELS[model].get("rate")}})
    bend = (0.0 if corpus == "demo" else 0.1) + 2 * (BITS[model] - BITS["transformer"])
    curve = [
        {
            "step": step,
            "tokens": step * 4096,
            "loss": 8.3 * (step + 10) ** -0.12 + bend + 0.1 * np.sin(step),
            "validation_loss": 8.2 * (step + 10) ** -0.12 + bend if step % 50 == 0 else None,
        }
        for step in range(0, 601, 10)
    ]
    return made | {"curve": curve, "final_training_loss": 4.1, "validation_loss": 4.05 + bend}


def _export(model: str) -> dict[str, Any]:
    own = model == "transformer"
    parity = {"tokens": 657, "largest_logit": 15.96, "largest_difference": 6.2e-06, "same_choice": 1.0}
    architecture = "PilelineForCausalLM" if own else "OPTForCausalLM"
    return {
        "model": model,
        "kind": MODELS[model]["kind"],
        "architecture": architecture,
        "own_code": own,
        "parity": parity,
    }


def _score(documents: int, size: int, bits: float) -> dict[str, Any]:
    return {
        "documents": documents,
        "bytes": size,
        "tokens": size // 3,
        "bits_per_byte": bits,
        "perplexity_per_token": 2 ** (3.3 * bits),
        "interval": [bits - 0.05, bits + 0.06],
    }


def _evaluate(folder: Path, corpus: str, model: str, generator: np.random.Generator) -> dict[str, Any]:
    """Metrics, and the table of documents that they sum up."""
    base = BITS[model] + (0.03 if corpus == "raw" else 0.0)
    shared = np.random.default_rng(7)  # what makes a document easy or hard is the same for every model
    ids = [f"{source}/{number}" for source in SOURCES for number in range(40)]
    sizes = shared.integers(200, 4000, len(ids))
    ease = shared.normal(0, 0.4, len(ids))
    bits = sizes * (base + ease + generator.normal(0, 0.02, len(ids)))
    table = {
        "id": ids,
        "source": [name.split("/")[0] for name in ids],
        "bytes": sizes,
        "tokens": sizes // 3,
        "bits": bits,
    }
    pq.write_table(pa.table(table), folder / "documents.parquet")
    sources = {}
    for place, source in enumerate(SOURCES):
        rows = slice(place * 40, place * 40 + 40)
        sources[source] = _score(40, int(sizes[rows].sum()), float(bits[rows].sum() / sizes[rows].sum()))
    samples = [
        {"prompt": "The history of", "text": "The history of the world " + HOSTILE},
        {"prompt": "这本书", "text": "这本书很好，内容很丰富。"},
    ]
    return {
        "holdout": "demo",
        "sources": sources,
        "overall": _score(len(ids), int(sizes.sum()), float(bits.sum() / sizes.sum())),
        "macro_bits_per_byte": float(np.mean([score["bits_per_byte"] for score in sources.values()])),
        "samples": samples,
    }


def _task(model: str, generator: np.random.Generator) -> dict[str, Any]:
    results, roc = {}, {}
    for name, accuracy in (("majority", 0.3), ("bag_of_words", 0.82), (f"{model} probe", 0.71)):
        matrix = generator.integers(0, 9, (5, 5)) + np.eye(5, dtype=int) * int(60 * accuracy)
        results[name] = {
            "accuracy": accuracy,
            "interval": [accuracy - 0.03, accuracy + 0.03],
            "precision_macro": accuracy - 0.02,
            "recall_macro": accuracy - 0.03,
            "f1_macro": accuracy - 0.025,
            "roc_auc_macro": (1 + accuracy) / 2,
            "confusion": matrix.tolist(),
        }
        x = np.linspace(0, 1, 51)
        roc[name] = {"macro": {"fpr": x.tolist(), "tpr": (x ** (1 - accuracy)).tolist()}}
    examples = [{"text": HOSTILE, "label": "History", "predicted": "History"}]
    counts = {"classes": CLASSES, "train": 7000, "test": 800}
    return {"task": "topic", **counts, "results": results, "roc": roc, "examples": examples}


def _metrics(folder: Path, name: str, stage: str, generator: np.random.Generator) -> dict[str, Any]:
    """The metrics of a stage, by its name."""
    parts = name.split("/")
    size = next((SOURCES[part][3] for part in parts if part in SOURCES), 0)
    if stage == "download":
        return _download(parts[1], parts[2], size)
    if stage == "clean":
        return _clean(parts[1], parts[2], parts[3], size // PARTS.get(parts[2], 1), generator)
    if stage == "deduplicate":
        return _deduplicate(folder, parts[1], generator)
    if stage == "mix":
        return _mix(folder, parts[1], generator)
    if stage == "tokenizer":
        return _tokenizer(generator)
    if stage == "shards":
        return {"tokens": {"train": 8_000_000, "validation": 160_000}, "dtype": "uint16"}
    if stage == "train":
        return _train(parts[3], parts[1])
    if stage == "evaluate":
        return _evaluate(folder, parts[1], parts[3], generator)
    if stage == "export":
        return _export(parts[3])
    return _task(parts[3], generator)


def notebook(title: str, extra: str = "") -> nbformat.NotebookNode:
    """An executed notebook with a formula, a table, a chart, a stream and something hostile."""
    figure, axes = plots.figure()
    axes.plot([0, 1, 2], [3, 2, 2.5])
    frame = "<table class='dataframe'><tr><th>kept</th><td>1,234</td></tr></table>"
    cells = [
        new_markdown_cell(
            f"# {title}\n\nBits: $-\\log_2 p(x)$ and\n\n$$\\frac{{\\sum_i b_i}}{{\\sum_i n_i}}$$\n\n{extra}"
        ),
        new_code_cell('source: str = "a"  # which source', metadata={"tags": ["parameters"]}, execution_count=1),
        new_code_cell("show(figure)", outputs=[new_output("display_data", {"text/html": plots.svg(figure, "A line")})]),
        new_code_cell("frame", outputs=[new_output("execute_result", {"text/html": frame, "text/plain": "kept 1234"})]),
        new_code_cell(
            "print(text)", outputs=[new_output("stream", name="stdout", text=f"{HOSTILE}\nreading: 1.2 MB\n")]
        ),
        new_code_cell("HTML(text)", outputs=[new_output("display_data", {"text/html": HOSTILE})]),
        new_code_cell("js", outputs=[new_output("display_data", {"application/javascript": "alert(2)"})]),
        new_markdown_cell(
            "![tracker](https://evil.example/pixel.png) <script>alert(3)</script> [ok](https://example.org)"
        ),
    ]
    return new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})


def make(root: Path, notebooks: bool = True) -> Path:
    """Write the made-up run below `root` and return `root`."""
    generator = np.random.default_rng(1)
    start = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    planned = plan(merge_experiments(EXPERIMENTS), CONFIGURATION)
    runs = [(name, node.stage) for node in planned if node.stage != "report" for name in node.folders]
    for number, (name, stage) in enumerate(runs):
        folder = root / name
        folder.mkdir(parents=True)
        metrics = _metrics(folder, name, stage, generator)
        if name == "clean/slimpajama/milton/1-of-1":
            text = "Of Man's first disobedience, and the fruit " + HOSTILE
            rows = [Document(f"milton/near<b>#{number}", "milton", text, b"k" * 16) for number in range(2)]
            documents.write(folder / "kept.parquet", rows)
        manifest.write(folder, stage, metrics)
        seconds = float(2 + 90 * generator.random() ** 4)
        run = {
            "stage": stage,
            "name": name,
            "started": (start + datetime.timedelta(seconds=3 * number)).isoformat(),
            "seconds": seconds,
            "cpu_seconds": seconds * 0.9,
            "peak_memory_bytes": int(3e8 + 1e8 * number),
            "threads": 1,
            "python": "3.11.2",
            "platform": "Linux-6.1 x86_64",
            "processor": "x86_64",
            "packages": {"numpy": "2.4.0", "torch": "2.13.0"},
            "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
        }
        (folder / "run.json").write_text(json.dumps(run))
        if notebooks:
            log = root / "logs" / name
            log.mkdir(parents=True)
            nbformat.write(notebook(f"{number:02d} {stage}"), log / f"{number:02d}_{stage}.ipynb")
    return root
