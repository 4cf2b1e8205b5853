"""How fast are files read as documents, in each format, on one core?

    python -m tests.benchmarks.reading [--megabytes 100] [--repeats 3]

The texts are those of four of the default run's sources, repeated to the size asked for and written once in every
format. Each file is read by `sources.extract` as the cleaning stage reads it, its hash compared, and nothing is done
with the documents. Speed is UTF-8 bytes of text (passed over or taken) by processor seconds, the median of the
repeats. The table goes to the terminal, everything to results/benchmarks/reading.json.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import html
import itertools
import json
import shutil
import statistics
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pileline import manifest
from pileline.sources import Raw, Reading, extract

from tests.benchmarks.filters import FOLDER, read

SOURCES = ("wikipedia-en", "shakespeare", "code", "reviews-zh")
WORK = FOLDER / "reading"
ONE = {"where": {"meta.set": SOURCES[0]}}
READINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "jsonl": ("t.jsonl", {"format": "jsonl"}),
    "jsonl, with metadata": ("t.jsonl", {"format": "jsonl", "metadata": ["meta.set"]}),
    "jsonl.zst": ("t.jsonl.zst", {"format": "jsonl"}),
    "jsonl.zst, one set of four": ("t.jsonl.zst", {"format": "jsonl", **ONE}),
    "jsonl.gz": ("t.jsonl.gz", {"format": "jsonl"}),
    "parquet": ("t.parquet", {"format": "parquet"}),
    "parquet, one set of four": ("t.parquet", {"format": "parquet", **ONE}),
    "arrow": ("t.arrow", {"format": "arrow"}),
    "csv": ("t.csv", {"format": "csv"}),
    "text in zip": ("t.zip", {"format": "text", "members": "*.txt"}),
    "html in zip": ("h.zip", {"format": "html", "members": "*.html"}),
    "jsonl.zst, split": ("t.jsonl.zst", {"format": "jsonl", "split": 4000}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the reading of files.")
    parser.add_argument("--megabytes", type=float, default=100, help="of text in each file")
    parser.add_argument("--repeats", type=int, default=3, help="how often each file is read")
    arguments = parser.parse_args()
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    write(list(rows(arguments.megabytes * 1e6)))
    found = {name: timed(file, reading, arguments.repeats) for name, (file, reading) in READINGS.items()}
    shutil.rmtree(WORK)
    (FOLDER / "reading.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{'':28}{'MB/s':>8}{'documents/s':>13}{'text MB':>9}{'file MB':>9}")
    for name, row in found.items():
        rate = row["documents"] / row["seconds"]
        print(f"{name:28}{row['MB/s']:8.0f}{rate:13,.0f}{row['bytes'] / 1e6:9.0f}{row['file_bytes'] / 1e6:9.0f}")


def rows(most: float) -> Iterator[dict[str, Any]]:
    """Documents of all sources in turn, until there are `most` bytes of text."""
    texts = {source: list(read(source)) for source in SOURCES}
    for number in itertools.count():
        source = SOURCES[number % len(SOURCES)]
        text = texts[source][number // len(SOURCES) % len(texts[source])]
        most -= len(text.encode())
        if most < 0:
            return
        yield {"text": text, "meta": {"set": source, "number": number}}


def write(documents: list[dict[str, Any]]) -> None:
    lines = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in documents)
    (WORK / "t.jsonl").write_bytes(lines)
    (WORK / "t.jsonl.zst").write_bytes(pa.compress(lines, "zstd", asbytes=True))
    (WORK / "t.jsonl.gz").write_bytes(gzip.compress(lines, 6))
    table = pa.Table.from_pylist(documents)
    pq.write_table(table, WORK / "t.parquet", compression="zstd", row_group_size=1000)
    with pa.ipc.new_stream(WORK / "t.arrow", table.schema) as stream:
        stream.write_table(table, 1000)
    with (WORK / "t.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "text"), *((row["meta"]["number"], row["text"]) for row in documents)])
    for name, page in (("t", "{}"), ("h", "<!doctype html><title>t</title><body><p>{}</p><p>end</p></body>")):
        with zipfile.ZipFile(WORK / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for number, row in enumerate(documents):
                text = row["text"] if name == "t" else html.escape(row["text"]).replace("\n\n", "</p><p>")
                archive.writestr(f"{number}.{'txt' if name == 't' else 'html'}", page.format(text))


def timed(name: str, reading: dict[str, Any], repeats: int) -> dict[str, Any]:
    path = Path(WORK / name)
    raw = Raw("s", "path", [{"number": 0, "path": str(path), **manifest.describe(path)}], True, WORK)
    seconds = []
    for _ in range(repeats):
        before, documents, size = time.process_time(), 0, 0
        items = extract(raw, Reading.from_dict(reading))
        for item in items:
            documents += 1
            size += item.size
        seconds.append(time.process_time() - before)
    documents += items.passed_over["documents"]
    size += items.passed_over["bytes"]
    middle = statistics.median(seconds)
    return {
        "documents": documents,
        "bytes": size,
        "file_bytes": path.stat().st_size,
        "seconds": middle,
        "MB/s": size / 1e6 / middle,
    }


if __name__ == "__main__":
    main()
