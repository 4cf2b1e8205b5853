"""Which device a model runs on, how it rounds there, and whether it is compiled.

`auto` chooses a device by what the machine has, and a precision by what the device computes in hardware. Where a CPU
multiplies bfloat16 (AVX512-BF16 or AMX), training a transformer with it took 0.74 of float32's time at a width of 64,
0.61 and 0.58 at 128 (vocabularies of 70 and 2000), 0.53 at 192, 256 and 384. A CPU without takes 44 to 500 times as
long with it. A GPU is 2 to 4 times as fast with it.

Compiling takes a minute or so and pays on a GPU whose work takes longer than that. On a CPU the steps of a small
transformer were 1.15 times as fast in float32, which paid for compiling after 5,200 of them, and 0.9 times in bfloat16.
It is left to `compile: true` there: it needs a C++ compiler and Python's headers, and gives up sparse gradients.

`python -m tests.benchmarks.precision` measures all of this. The choices depend on the machine and the settings alone,
and are recorded with the model: weights are the same to the bit only on one kind of hardware.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from .interface import ModelError

COMPILED_FROM = 3e16  # operations: a minute or more on any GPU, which is what compiling takes
PRECISIONS = ("auto", "float32", "bfloat16")


def choose_device(device: str = "auto") -> str:
    """ "cuda" if `auto` finds one, else "cpu"; a named device is refused where the machine lacks it."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"device '{device}' asked for, but torch finds no CUDA device; use device: auto or cpu")
    return device


def choose_precision(precision: str, device: str) -> str:
    """ "bfloat16" if `auto` and the device multiplies it in hardware, else "float32"; a named one is kept."""
    if precision not in PRECISIONS:
        raise ModelError(f"precision '{precision}' is none of {', '.join(PRECISIONS)}")
    if precision != "auto":
        return precision
    return "bfloat16" if multiplies_bfloat16(device) else "float32"


def multiplies_bfloat16(device: str) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    can = torch.cpu.get_capabilities()
    return bool(can.get("avx512_bf16") or can.get("amx_bf16"))


def autocast(device: str, precision: str) -> AbstractContextManager[Any]:
    """Matrix products in `precision`, weights and sums in float32 (Micikevicius et al. 2018)."""
    return torch.autocast(device.split(":")[0], torch.bfloat16, enabled=precision == "bfloat16")


def choose_compilation(asked: bool | None, device: str, operations: float) -> bool:
    """Whether to run a network through torch.compile; None: where a training of so many operations is worth it."""
    if asked is not None:
        return asked
    return device.startswith("cuda") and operations >= COMPILED_FROM
