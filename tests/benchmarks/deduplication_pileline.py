"""Pileline's deduplication of the benchmark's documents, timed: `FOLDER FORM RESULT` (see `deduplication`)."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from pileline import deduplication

GUARDS: dict[str, Any] = {
    "holdout": {"validation": 0.02, "test": 0.03},
    "protected": {"all": 0.1},
    "tasks": {"task": {"source": "all", "test": 0.1}},
    "decontamination": {"words": 13, "at_most": 10},
}
NONE: dict[str, Any] = {"holdout": {"validation": 0.0, "test": 0.0}, "protected": {}, "tasks": {}}


def deduplicate(clean: Path, output: Path, given: dict[str, Any]) -> float:
    """The stage from kept.parquet to duplicates.parquet; the bytes a document that it held."""
    method = deduplication.Method.from_dict({"kind": "minhash", "keep": "first"})
    inventory = deduplication.read(clean, ["all"], given["holdout"], given["protected"])
    findings = deduplication.find_exact(inventory, method)
    scanned = deduplication.scan(
        inventory, findings.staying, method, 1, output, given["tasks"], given.get("decontamination")
    )
    deduplication.find_contained(findings, scanned)
    deduplication.find_contaminated(findings, scanned)
    order = deduplication.keep_order(findings, method)
    protected = inventory.protected[order]
    found = deduplication.relevant(deduplication.buckets(scanned.hashes, order), protected, True)
    shingler = deduplication.Shingler(method.shingle, 1)
    similarity = deduplication.similarity_between(inventory, order, np.unique(found.member), shingler, output)
    resolution = deduplication.resolve(found, protected, True, method.threshold, similarity)
    deduplication.add_near(findings, order, resolution)
    deduplication.write(findings, output / "duplicates.parquet")
    state = inventory.nbytes + findings.nbytes + scanned.hashes.nbytes + found.bucket.nbytes + found.member.nbytes
    return state / len(inventory)


def peak_mb() -> float:
    """The largest resident memory of this process; what getrusage says would be no less than the parent's."""
    kilobytes = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(kilobytes[1]) / 1024


def main(folder: Path, form: str, result: Path) -> None:
    start = time.process_time()
    state = deduplicate(folder / "clean", folder, GUARDS if form == "with guards" else NONE)
    outcome: dict[str, Any] = {"seconds": time.process_time() - start, "state_bytes_per_document": state}
    outcome["peak_mb"] = peak_mb()
    ids = pq.read_table(folder / "duplicates.parquet")["id"].to_pylist()
    outcome["removed"] = sorted(int(name.rpartition("#")[2]) for name in ids)
    result.write_text(json.dumps(outcome), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
