"""Memory of training: on a CPU it is kept from step to step; out of it on a GPU, what would have fitted is found out.

Nobody can compute what a step needs (fragments, libraries' own buffers), so it is tried, by halves.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable

import torch

from .settings import TrainingError

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # glibc's names of what `mallopt` sets (malloc.h)
KEPT = 1 << 30  # bytes; only what steps have used is kept
MAPPED = 1 << 25  # the most that glibc allows


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


def keep() -> None:
    """Have the C library keep up to `KEPT` bytes that a step has freed, for the next step, where it can be told so.

    glibc gives memory back to the system when the step's numbers are freed, and the next step's pages are cleared and
    mapped anew, one after the other: 5 % of a step's time at nanoGPT's shape, 19 % at the default run's. A freed
    array of `MAPPED` bytes or more, as few models on a CPU have, is given back at once.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # musl has none
        mallopt(TRIM_THRESHOLD, KEPT)
        mallopt(MMAP_THRESHOLD, MAPPED)
