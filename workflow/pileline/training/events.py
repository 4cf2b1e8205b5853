"""What people watch while a model trains, in `events/`: TensorBoard events, and `live.jsonl` for programs.

    {"time": "2026-01-01T12:00:00+00:00", "step": 40, "tokens": 163840, "loss": 4.1, "tokens_per_second": 9000.0, ...}

Here clocks are allowed; nothing that decides a weight, and no manifest, reads these files.
"""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

LIVE = "live.jsonl"


class Events:
    """Writes below `folder`. Close it when training has ended."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        self._board = SummaryWriter(str(folder))  # type: ignore[no-untyped-call]
        self._lines = (folder / LIVE).open("a", encoding="utf-8")

    def numbers(self, step: int, values: dict[str, float | None]) -> None:
        """Curves on the board; None is left out."""
        for name, value in values.items():
            if value is not None:
                self._board.add_scalar(name, value, step)  # type: ignore[no-untyped-call]

    def text(self, step: int, name: str, text: str) -> None:
        """A text on the board, and a line."""
        self._board.add_text(name, text, step)  # type: ignore[no-untyped-call]
        self.line({"step": step, name: text})

    def line(self, record: dict[str, Any]) -> None:
        """A line of `live.jsonl`, with the time; it can be read at once."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self._lines.write(json.dumps({"time": now, **record}, ensure_ascii=False) + "\n")
        self._lines.flush()

    def close(self) -> None:
        self._board.close()  # type: ignore[no-untyped-call]
        self._lines.close()
