"""The training log: JSON lines for programs, TensorBoard events for people who watch.

    {"step": 40, "tokens": 163840, "loss": 4.1, "validation_loss": null, "rate": 1.0, "gradient_norm": 0.5}

The lines hold no clock, so equal runs write equal files. A resumed run cuts the log back to where its
checkpoint was and writes the same lines again.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

NAME = "training.jsonl"


class Log:
    """Appends records to `scratch/training.jsonl` and to events below `events`."""

    def __init__(self, scratch: Path, events: Path | None, keep_bytes: int = 0) -> None:
        self.path = scratch / NAME
        self.path.touch()
        os.truncate(self.path, keep_bytes)
        self._writer: Any = None
        if events is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(events))  # type: ignore[no-untyped-call]
        for record in read(self.path):
            self._show(record)
        self._file = self.path.open("a", encoding="utf-8")

    def write(self, record: dict[str, Any]) -> None:
        """Append a record."""
        self._file.write(json.dumps(record) + "\n")
        self._show(record)

    def _show(self, record: dict[str, Any]) -> None:
        for name, value in record.items():
            if self._writer is not None and name != "step" and value is not None:
                self._writer.add_scalar(name, value, record["step"])

    def flush(self) -> int:
        """Put everything on the disk; returns the log's length in bytes, which a checkpoint records."""
        self._file.flush()
        os.fsync(self._file.fileno())
        if self._writer is not None:
            self._writer.flush()
        return self.path.stat().st_size

    def close(self) -> None:
        self.flush()
        self._file.close()
        if self._writer is not None:
            self._writer.close()


def read(path: Path) -> list[dict[str, Any]]:
    """The records of a log."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
