"""Pileline's deduplication beside datatrove's MinHash pipeline: how much faster is it, and what does each find?

    python -m tests.benchmarks.deduplication [--environment FOLDER] [--repeats 5]

Both deduplicate the same documents, those of the default run's sources that are written with blanks between words, on
one core each, from a file of documents to what leaves; duplicates with known changes are planted among them, the same
for both (see `pileline.deduplication.injected`). Times are processor seconds in a process of its own, without its start
and imports. Ours is the median of the repeats, in two forms: `duplicates` finds exact and near duplicates with
verification by true similarity, which is what datatrove's four steps do (signatures, buckets, clusters, filter) without
the verification; `with guards` adds holdout and test documents, containment of their text, and decontamination. Each
has its own settings: ours characters and a threshold of 0.8, datatrove's 14 bands of 8 rows over runs of 5 words.

datatrove 0.10.1 runs in an environment of its own, which is made below results/benchmarks/ if `--environment` names
none. The table goes to the terminal, everything to results/benchmarks/deduplication.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from pileline import documents, manifest
from pileline.deduplication import Shingler, injected
from pileline.deduplication.verify import ShingleSets
from pileline.documents import Document

from tests.benchmarks.filters import FOLDER, HERE, datatrove_python, read

SOURCES = (
    "code",
    "editorials",
    "milton",
    "reviews-en",
    "shakespeare",
    "wikipedia-en",
    "wikipedia-es",
    "wikipedia-fr",
)
NEEDED = (
    "tokenizers==0.23.3",
    "orjson==3.13.0",
    "xxhash<4",
)  # what datatrove's MinHash imports, beside what its filters do
COPIED = 200  # documents that duplicates are planted of
SHINGLE = 13
SEED = 1
WORK = FOLDER / "deduplication"


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare deduplication with datatrove's.")
    parser.add_argument("--environment", type=Path, help="an environment that has datatrove; made if not given")
    parser.add_argument("--repeats", type=int, default=5, help="how often ours is timed")
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    python = datatrove_python(arguments.environment)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *NEEDED], check=True)
    shutil.rmtree(WORK, ignore_errors=True)
    texts, kinds = corpus()
    store(texts)
    size = sum(len(text.encode()) for text in texts)
    ours = {name: [run(sys.executable, "pileline", name) for _ in range(arguments.repeats)] for name in FORMS}
    theirs = run(python, "datatrove", "duplicates")
    found = {
        "documents": len(texts),
        "bytes": size,
        "repeats": arguments.repeats,
        "pileline": {name: summary(runs, size, kinds) for name, runs in ours.items()},
        "datatrove": summary([theirs], size, kinds),
        "planted": dict(Counter(kind for kind in kinds if kind)),
        "alike": alike(texts, kinds),
    }
    for form in found["pileline"].values():
        form["times as fast"] = form["MB/s"] / found["datatrove"]["MB/s"]
    (FOLDER / "deduplication.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(WORK)
    show(found)


FORMS = ("duplicates", "with guards")


def corpus() -> tuple[list[str], list[str]]:
    """Texts, and of each the kind of its planting; "" for the sources' own documents, which come first."""
    own = [text for source in SOURCES for text in read(source)]
    chosen = sorted(documents.key_of(text) + place.to_bytes(8, "big") for place, text in enumerate(own))
    places = [int.from_bytes(name[-8:], "big") for name in chosen]
    copied = [own[place] for place in places if len(own[place]) >= 40 * SHINGLE][:COPIED]
    planted = [copy for number, text in enumerate(copied) for copy in injected.copies(text, SHINGLE, number)]
    return [*own, *(text for _, text in planted)], [*([""] * len(own)), *(kind for kind, _ in planted)]


def store(texts: list[str]) -> None:
    """Write the texts for both: a cleaned source in one part, and a file of JSON lines."""
    part = WORK / "clean/all/1-of-1"
    part.mkdir(parents=True)
    rows = (Document(f"all/x#{n}", "all", text, documents.key_of(text)) for n, text in enumerate(texts))
    documents.write(part / "kept.parquet", rows)
    manifest.write(part, "clean", {})
    (WORK / "lines").mkdir()
    lines = "".join(json.dumps({"text": text, "id": str(number)}) + "\n" for number, text in enumerate(texts))
    (WORK / "lines/all.jsonl").write_text(lines, encoding="utf-8")


def run(python: str, side: str, form: str) -> dict[str, Any]:
    """Processor seconds, peak memory and the numbers of the removed documents of one side."""
    found = WORK / "found.json"
    subprocess.run([python, str(HERE / f"deduplication_{side}.py"), str(WORK), form, str(found)], check=True)
    outcome: dict[str, Any] = json.loads(found.read_text(encoding="utf-8"))
    print(f"{side}, {form}: {outcome['seconds']:.1f} s", flush=True)
    return outcome


def alike(texts: list[str], kinds: list[str]) -> dict[str, int]:
    """Planted copies by kind whose true similarity with their original reaches 0.8."""
    first = kinds.count("")
    family = kinds[first:].index("exact", 1)  # of each family the first is the exact copy
    numbers = np.arange(len(texts) - first)
    sets = ShingleSets(texts[first:], Shingler(SHINGLE, SEED), WORK)
    true = sets.jaccard(numbers // family * family, numbers)
    return dict(Counter(kind for kind, similarity in zip(kinds[first:], true, strict=True) if similarity >= 0.8))


def summary(runs: list[dict[str, Any]], size: int, kinds: list[str]) -> dict[str, Any]:
    """Speed of the median run, and what was removed by kind."""
    assert all(run["removed"] == runs[0]["removed"] for run in runs), "two runs removed different documents"
    seconds = statistics.median(run["seconds"] for run in runs)
    removed = Counter(kinds[number] for number in runs[0]["removed"])
    own = removed.pop("", 0)
    return {
        "seconds": seconds,
        "MB/s": size / 1e6 / seconds,
        "peak MB": max(run["peak_mb"] for run in runs),
        "own documents removed": own,
        "planted removed": dict(removed),
        **{name: runs[0][name] for name in ("state_bytes_per_document",) if name in runs[0]},
    }


def show(found: dict[str, Any]) -> None:
    print(f"\n{found['documents']:,} documents, {found['bytes'] / 1e6:.1f} MB, one core, processor time")
    print(f"{'':24}{'MB/s':>8}{'times':>8}{'peak MB':>9}")
    rows = {f"pileline, {name}": form for name, form in found["pileline"].items()}
    for name, form in {**rows, "datatrove 0.10.1": found["datatrove"]}.items():
        print(f"{name:24}{form['MB/s']:8.2f}{form.get('times as fast', 1.0):8.1f}{form['peak MB']:9.0f}")
    print(f"\n{'planted duplicates':20}{'planted':>9}{'J >= 0.8':>10}{'pileline':>10}{'datatrove':>11}")
    for kind, planted in found["planted"].items():
        ours = found["pileline"]["duplicates"]["planted removed"].get(kind, 0)
        theirs = found["datatrove"]["planted removed"].get(kind, 0)
        print(f"{kind:20}{planted:9}{found['alike'].get(kind, 0):10}{ours:10}{theirs:11}")


if __name__ == "__main__":
    main()
