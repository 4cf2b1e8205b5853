"""Out of memory on a GPU: find out what would have fitted, and say so.

Nobody can compute what a step needs (fragments, libraries' own buffers), so it is tried, by halves.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch

from .settings import TrainingError


def advise(attempt: Callable[[int], None], rows: int, accumulate: int, context: int, device: str) -> TrainingError:
    """The error that says which batch fits. `attempt(n)` takes a step of n rows, of which `rows` at once did not fit.

    `rows` is the largest of the `accumulate` parts of a batch, `context` the tokens of a row.
    """
    fits = rows // 2
    while fits and not _fits(attempt, fits):
        fits //= 2
    found = _found(rows, context, device)
    if not fits:
        return TrainingError(
            f"{found}a single row does not fit either: lower context, width or layers, set precision: bfloat16, or "
            "share the model out (processes, distribution: fsdp)"
        )
    parts = -(-rows * accumulate // fits)
    return TrainingError(
        f"{found}{fits} fit: set accumulate: {parts}, which takes the same batch in {parts} parts one after the other, "
        f"or batch_tokens: {fits * accumulate * context}"
    )


def shortage(rows: int, accumulate: int, context: int, device: str) -> TrainingError:
    """The error where nothing can be tried: what to change, without a number that is known to fit."""
    return TrainingError(
        f"{_found(rows, context, device)}raise accumulate ({accumulate}), which takes the same batch in more parts, or "
        "lower batch_tokens"
    )


def _found(rows: int, context: int, device: str) -> str:
    name = torch.cuda.get_device_name() if device.startswith("cuda") else device
    return f"out of memory on {name} with {rows} rows of {context} tokens at once; "


def _fits(attempt: Callable[[int], None], rows: int) -> bool:
    gc.collect()  # a failed pass may have left cycles that hold its tensors
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    try:
        attempt(rows)
    except torch.OutOfMemoryError:
        return False
    return True
