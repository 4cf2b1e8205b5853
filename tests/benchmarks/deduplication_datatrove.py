"""datatrove's MinHash deduplication of the benchmark's documents, timed: `FOLDER FORM RESULT` (see `deduplication`)."""

import json
import logging
import re
import sys
import time
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter


def steps(folder: Path) -> list:
    """The four steps of its example, from JSON lines to JSON lines."""
    config = MinhashConfig()
    reader = JsonlReader(str(folder / "lines"))
    return [
        [reader, MinhashDedupSignature(output_folder=f"{folder}/signatures", config=config, language="en")],
        [MinhashDedupBuckets(input_folder=f"{folder}/signatures", output_folder=f"{folder}/buckets", config=config)],
        [MinhashDedupCluster(input_folder=f"{folder}/buckets", output_folder=f"{folder}/remove", config=config)],
        [
            JsonlReader(str(folder / "lines")),
            MinhashDedupFilter(input_folder=f"{folder}/remove"),
            JsonlWriter(output_folder=f"{folder}/kept", compression=None, output_filename="kept.jsonl"),
        ],
    ]


def peak_mb() -> float:
    """The largest resident memory of this process; what getrusage says would be no less than the parent's."""
    kilobytes = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(kilobytes[1]) / 1024


def main(folder: Path, result: Path) -> None:
    start = time.process_time()
    for number, step in enumerate(steps(folder)):
        tasks = MinhashConfig().num_buckets if number == 1 else 1
        LocalPipelineExecutor(step, tasks=tasks, workers=1, logging_dir=f"{folder}/logs/{number}").run()
    seconds = time.process_time() - start
    kept = {int(json.loads(line)["id"]) for line in (folder / "kept/kept.jsonl").open(encoding="utf-8")}
    total = sum(1 for _ in (folder / "lines/all.jsonl").open(encoding="utf-8"))
    outcome = {
        "seconds": seconds,
        "peak_mb": peak_mb(),
        "removed": sorted(set(range(total)) - kept),
    }
    result.write_text(json.dumps(outcome), encoding="utf-8")


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main(Path(sys.argv[1]), Path(sys.argv[3]))
