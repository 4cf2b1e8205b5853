"""Time and memory of the data stages at 1, 4 and 16 times the same text: is time linear, and memory bounded?

    python -m tests.benchmarks.scale [--megabytes 8] [--sizes 1 4 16] [--threads 1]

The text is that of the default run's sources. A copy of it is made a text of its own by putting other words of the same
language in the place of every second one, by a seed, so that copies are no duplicates of each other and the vocabulary
stays what it is. Each stage does what its notebook does, without the pictures, in a process of its own: download (of
local files, which are hashed), clean with the recipe slimpajama, deduplicate with verification, decontamination and
planted duplicates, mix by shares. Times are of the stage's work, without the start of Python; memory is the peak of
the process (VmHWM). The exponent is the slope of log processor seconds over log bytes: 1 is linear. It is taken of
processor seconds, since others' work on the machine disturbs them less than the clock's.

The table goes to the terminal, everything to results/benchmarks/scale.json.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pileline import cleaning, deduplication, documents, manifest, mixing, sources
from pileline.parts import WHOLE

from tests.benchmarks.filters import FOLDER, ROOT, read

SCALE = FOLDER / "scale"
STAGES = ("download", "clean", "deduplicate", "mix")
BOUND = 1.5e9  # bytes of memory, for any size, in download, clean and mix
SEED = 1
HOLDOUT = {"validation": 0.02, "test": 0.03}
TESTED = 0.1  # share of the documents that a task tests on; the holdout is in it
SOURCE = "text"
FILE_BYTES = 4_000_000  # of a file of the source, about
WORD = re.compile(r"\w+")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how the data stages grow with the text.")
    parser.add_argument("--megabytes", type=float, default=8, help="of text at size 1")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 4, 16], help="multiples of that text")
    parser.add_argument("--threads", type=int, default=1, help="processes of deduplicate and mix")
    parser.add_argument("--stage", choices=["make", *STAGES], help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stage == "make":
        make(given.megabytes * 1e6, given.size)
    elif given.stage:
        measure(given.stage, SCALE / f"{given.size}x", given.threads)
    else:
        compare(given)


def compare(given: argparse.Namespace) -> None:
    """Run every stage at every size, each in its own process, and write what was found."""
    shutil.rmtree(SCALE, ignore_errors=True)
    runs = []
    for size in given.sizes:
        _child(given, "make", size)
        for stage in STAGES:
            found = json.loads(_child(given, stage, size).splitlines()[-1])
            runs.append({"stage": stage, "size": size, **found})
            print(_line(runs[-1]), flush=True)
        shutil.rmtree(SCALE / f"{size}x")
    exponents = {stage: exponent([run for run in runs if run["stage"] == stage]) for stage in STAGES}
    result = {
        "megabytes": given.megabytes,
        "threads": given.threads,
        "runs": runs,
        "exponents": exponents,
        "bounded": all(run["peak_bytes"] < BOUND for run in runs if run["stage"] != "deduplicate"),
    }
    (FOLDER / "scale.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for stage, found in exponents.items():
        print(f"{stage}: processor seconds grow as bytes^{found:.2f}")
    largest = max(run["peak_bytes"] for run in runs if run["stage"] != "deduplicate")
    print(f"largest memory of download, clean and mix: {largest / 1e6:.0f} MB")


def _child(given: argparse.Namespace, stage: str, size: int) -> str:
    """What a process of one stage prints."""
    command = [sys.executable, "-m", "tests.benchmarks.scale", "--stage", stage, "--size", str(size)]
    command += ["--megabytes", str(given.megabytes), "--threads", str(given.threads)]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout


def _line(run: dict[str, Any]) -> str:
    rate = run["bytes"] / run["seconds"] / 1e6
    state = f", {run['state_bytes']:.0f} bytes of state a document" if "state_bytes" in run else ""
    return (
        f"{run['size']:>3}x {run['stage']:<12}{run['bytes'] / 1e6:8.1f} MB {run['documents']:>9,} documents "
        f"{run['seconds']:8.1f} s ({run['cpu_seconds']:.1f} s of processors) {rate:7.2f} MB/s "
        f"{run['peak_bytes'] / 1e6:7.0f} MB of memory{state}"
    )


def exponent(runs: list[dict[str, Any]]) -> float:
    """The slope of log processor seconds over log bytes."""
    seconds, sizes = ([np.log(run[name]) for run in runs] for name in ("cpu_seconds", "bytes"))
    return float(np.polyfit(sizes, seconds, 1)[0]) if len(runs) > 1 else float("nan")


# --------------------------------------------------------------------------------------------- text
def base(size: float) -> dict[str, list[str]]:
    """The default run's documents by source, as many of each source as make `size` bytes together."""
    settings = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))["sources"]
    texts = {source: list(read(source)) for source in settings}
    share = size / sum(len(text.encode()) for found in texts.values() for text in found)
    generator = random.Random(SEED)
    return {
        source: [text for text in found if generator.random() < share] if share < 1 else found
        for source, found in texts.items()
    }


def changed(text: str, words: list[str], generator: random.Random) -> str:
    """The text with about every second word replaced by one of `words`."""
    return WORD.sub(lambda found: generator.choice(words) if generator.random() < 0.5 else found[0], text)


def copies(texts: dict[str, list[str]], number: int) -> Iterator[str]:
    """All documents, and `number` - 1 changed copies of each."""
    for source, found in texts.items():
        words = [word for text in found for word in WORD.findall(text)]
        for copy in range(number):
            generator = random.Random(f"{SEED} {source} {copy}")
            for text in found:
                yield changed(text, words, generator) if copy else text


def make(size: float, number: int) -> None:
    """Write the text at one size, as JSON lines in files of a few MB, not sorted by source."""
    folder = SCALE / f"{number}x/text"
    folder.mkdir(parents=True)
    lines = [json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in copies(base(size), number)]
    random.Random(SEED).shuffle(lines)
    files = max(1, round(sum(map(len, lines)) / FILE_BYTES))
    for file in range(files):
        (folder / f"{file:04d}.jsonl").write_text("".join(lines[file::files]), encoding="utf-8")


# ------------------------------------------------------------------------------------------- stages
def measure(stage: str, folder: Path, threads: int) -> None:
    """Run a stage in this process and print what it took."""
    output = folder / stage if stage in ("deduplicate", "mix") else folder / stage / SOURCE / str(WHOLE)
    output.mkdir(parents=True)
    start, worked = time.monotonic(), _processor_seconds()
    counted = {"download": download, "clean": clean, "deduplicate": deduplicate, "mix": mix}[stage](
        folder, output, threads
    )
    taken = {"seconds": time.monotonic() - start, "cpu_seconds": _processor_seconds() - worked}
    print(json.dumps({**counted, **taken, "peak_bytes": peak()}))


def _processor_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def peak() -> int:
    """The most memory that this process has held. `ru_maxrss` would count what the parent held when it forked."""
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def download(folder: Path, output: Path, _: int) -> dict[str, Any]:
    origin = {"path": f"{folder}/text/*.jsonl"}
    metrics = sources.download(SOURCE, origin, folder / ".downloads", output)
    manifest.write(output, "download", metrics, sources.written(metrics))
    return {"documents": len(metrics["files"]), "bytes": sum(file["bytes"] for file in metrics["files"])}


def clean(folder: Path, output: Path, _: int) -> dict[str, Any]:
    raw = sources.read_raw(folder / "download" / SOURCE, 1)
    reading = sources.Reading.from_dict({"format": "jsonl", "text": "text"})
    filters = [{"filter": "fix_unicode", "form": "NFC"}, {"filter": "short", "characters": 200}]
    extracted = sources.extract(raw, reading, WHOLE)
    result = cleaning.clean(extracted, SOURCE, cleaning.build(filters), output, reading.fraction, SEED)
    manifest.write(output, "clean", result.metrics("slimpajama"))
    return {"documents": result.ledger.entered.documents, "bytes": result.ledger.entered.bytes}


def deduplicate(folder: Path, output: Path, threads: int) -> dict[str, Any]:
    method = deduplication.Method(kind="minhash")
    inventory = deduplication.read(folder / "clean", [SOURCE], HOLDOUT, {SOURCE: TESTED}, [], {SOURCE: 1})
    findings = deduplication.find_exact(inventory, method)
    tasks, words = {"task": {"source": SOURCE, "test": TESTED}}, {"words": 13, "at_most": 10}
    scanned = deduplication.scan(inventory, findings.staying, method, SEED, output, tasks, words, threads)
    deduplication.find_contained(findings, scanned)
    deduplication.find_contaminated(findings, scanned)
    order = deduplication.keep_order(findings, method)
    is_protected = inventory.protected[order]
    found = deduplication.relevant(deduplication.buckets(scanned.hashes, order), is_protected, True)
    shingler = deduplication.Shingler(method.shingle, SEED)
    similarity = deduplication.similarity_between(inventory, order, np.unique(found.member), shingler, output)
    resolution = deduplication.resolve(found, is_protected, True, method.threshold, similarity)
    deduplication.add_near(findings, order, resolution)
    deduplication.write(findings, output / "duplicates.parquet")
    ledgers = deduplication.ledgers(findings)
    metrics = deduplication.metrics("scale", method, findings, scanned, found, resolution, ledgers)
    boilerplate = deduplication.find_boilerplate(inventory, findings.staying, method.boilerplate, SEED, output, threads)
    boilerplate.write(output)
    metrics["boilerplate"] = boilerplate.metrics(method.boilerplate)
    metrics["injected"] = deduplication.quality(
        deduplication.sample(findings, method.shingle), method, SEED, str(output)
    )
    manifest.write(output, "deduplicate", metrics)
    ledger = ledgers[SOURCE]
    return {
        "documents": ledger.entered.documents,
        "bytes": ledger.entered.bytes,
        "removed": sum(amount.documents for amount in ledger.removed.values()),
        "state_bytes": metrics["state_bytes_per_document"],
    }


def mix(folder: Path, output: Path, threads: int) -> dict[str, Any]:
    kept = manifest.read(folder / "clean" / SOURCE / str(WHOLE), "clean").metrics["ledger"]["kept"]
    how = {"kind": "shares", "size_mb": kept["bytes"] / 1e6, "most_epochs": 4}
    removals = mixing.Removals.read(folder / "deduplicate")
    settings = {SOURCE: {"weight": 1.0, "cap_mb": 0.8 * kept["bytes"] / 1e6}}
    plan = mixing.Plan(settings, how, HOLDOUT, {SOURCE: TESTED}, removals, SEED)
    tables = mixing.tables(folder / "clean", [SOURCE], {})
    supply = mixing.survey(tables, plan, threads)
    epochs = mixing.resolve(plan, supply)
    counted = mixing.mix(tables, plan, epochs, output, threads)
    manifest.write(output, "mix", mixing.metrics("scale", "slimpajama", plan, supply, epochs, counted))
    rows = sum(batch.num_rows for batch in documents.batches(output / "train.parquet", ["id"]))
    if rows != counted.effective[SOURCE].documents:
        raise AssertionError(
            f"the train split has {rows} documents, {counted.effective[SOURCE].documents} were counted"
        )
    return {"documents": kept["documents"], "bytes": kept["bytes"]}


if __name__ == "__main__":
    main()
