"""The training log: JSON lines for programs, and the same as TensorBoard events for people who watch.

    {"step": 40, "tokens": 163840, "loss": 4.1, "validation_loss": null, "rate": 1.0, "gradient_norm": 0.5}

`loss` is the mean of the steps since the last line, `gradient_norm` that of the last step before it is clipped, `rate`
the schedule's factor on every full rate. The lines hold no clock, so equal runs write equal files. A resumed run cuts
the log back to where its checkpoint was and writes the same lines again.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from .checkpoint import writing
from .events import Events

NAME = "training.jsonl"


class Log:
    """Appends records to `scratch/training.jsonl` and shows their numbers in `events`."""

    def __init__(self, scratch: Path, events: Events | None = None, keep_bytes: int = 0) -> None:
        self.path = scratch / NAME
        self.path.touch()
        os.truncate(self.path, keep_bytes)
        self._events = events
        for record in read(self.path):
            self._show(record)
        self._file = self.path.open("a", encoding="utf-8")

    def write(self, record: dict[str, Any]) -> None:
        """Append a record."""
        with writing(self.path):
            self._file.write(json.dumps(record) + "\n")
        self._show(record)

    def _show(self, record: dict[str, Any]) -> None:
        if self._events is not None:
            self._events.numbers(record["step"], {name: value for name, value in record.items() if name != "step"})

    def flush(self) -> int:
        """Put everything on the disk; returns the log's length in bytes, which a checkpoint records."""
        with writing(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())
        return self.path.stat().st_size

    def close(self) -> None:
        self.flush()
        self._file.close()


def record(run: Any, validation_loss: float | None, factor: float) -> dict[str, Any]:
    """A line of the log: what happened since the last one."""
    return {
        "step": run.step,
        "tokens": run.seen,
        "loss": float(np.mean(run.recent)) if run.recent else None,
        "validation_loss": validation_loss if math.isfinite(validation_loss or 0.0) else None,
        "rate": factor,
        "gradient_norm": run.last[1],
        "skipped": run.spikes.skipped,
    }


def read(path: Path) -> list[dict[str, Any]]:
    """The records of a log."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def is_whole(path: Path, size: int) -> bool:
    """Whether the first `size` bytes are there and are records: a checkpoint may have come to another run's log."""
    try:
        with path.open("rb") as file:
            start = file.read(size)
        return len(start) == size and all(isinstance(json.loads(line), dict) for line in start.splitlines())
    except (OSError, ValueError):
        return False
