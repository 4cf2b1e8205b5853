"""How training goes, for whoever watches: losses, steps that were skipped, tokens a second, MFU, the time left.

MFU (model FLOPs utilization, Chowdhery et al. 2022, appendix B) is the share of the device's peak that goes into the
products a forward and a backward pass need. They are counted on one row of tokens, not guessed from a formula; the peak
is the maker's for known GPUs, and elsewhere what a large product of the run's precision reaches when measured.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from pileline.progress import Progress, readable

from .events import Events

EVERY = 5.0  # seconds between two looks
SAMPLE_TOKENS = 60
# Dense bfloat16 products with float32 sums, FLOP/s, from NVIDIA's data sheets; the first name that fits counts.
PEAKS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
    "A10": 125e12,
}
SIDES = (256, 8192)  # least and most, of the square matrices that measure a peak
LONGEST_ROW = 1024  # tokens, on which operations are counted
LONG_ENOUGH = 0.02  # seconds of a product, to be measured well


class _Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the floating-point operations of products, by torch's own table."""

    total: float = 0.0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        count = flop_registry.get(function._overloadpacket)
        if count is not None:
            self.total += count(*args, **(kwargs or {}), out_val=result)
        return result


def flops(network: Any, tokens: int) -> float:
    """Floating-point operations of the products of a forward and backward pass, a token; in rows of `tokens`.

    Attention as plain products needs memory by the square of a row, which the fused kernels of training do not: so long
    rows are not tried. A token's operations grow linearly with the row, and two short ones tell how.
    """
    if tokens <= LONGEST_ROW:
        return _counted(network, tokens)
    short, long = (_counted(network, length) for length in (LONGEST_ROW // 2, LONGEST_ROW))
    return short + (long - short) * (tokens - LONGEST_ROW // 2) / (LONGEST_ROW - LONGEST_ROW // 2)


def _counted(network: Any, tokens: int) -> float:
    """As `flops`, on one row."""
    row = torch.zeros((1, tokens), dtype=torch.int64, device=next(network.parameters()).device)
    mkldnn = torch.backends.mkldnn
    before = mkldnn.enabled
    mkldnn.set_flags(_enabled=False)  # type: ignore[no-untyped-call]  # its LSTM is not counted, torch's own is
    plain = torch.backends.cudnn.flags(enabled=False)  # type: ignore[no-untyped-call]  # and so is cuDNN's not
    kept = [(buffer, buffer.clone()) for buffer in network.buffers()]  # a pass may change what it counts with
    try:  # attention as plain products, which are counted; fused kernels are not
        with plain, _Products() as counter, sdpa_kernel(SDPBackend.MATH):  # type: ignore[no-untyped-call]
            network.loss(row, row).backward()
    finally:
        mkldnn.set_flags(_enabled=before)  # type: ignore[no-untyped-call]
    network.zero_grad(set_to_none=True)
    for buffer, value in kept:
        buffer.copy_(value)
    return float(counter.total) / tokens


def peak(device: str, precision: str) -> float:
    """FLOP/s of the device, or of the CPU's cores that torch may use, in products of `precision`."""
    if device.startswith("cuda") and precision == "bfloat16":
        name = torch.cuda.get_device_name()
        for known, speed in PEAKS.items():
            if known in name:
                return speed
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    side = SIDES[0]
    while (seconds := _seconds_of_product(side, dtype, device)) < LONG_ENOUGH and side < SIDES[1]:
        side *= 2
    return 2 * side**3 / seconds


def _seconds_of_product(side: int, dtype: torch.dtype, device: str) -> float:
    """Of a CPU the time that its cores worked: while others use them too, a peak by the clock would be far too low."""
    matrix = torch.ones((side, side), dtype=dtype, device=device)
    worked, cores = (time.process_time, torch.get_num_threads()) if device == "cpu" else (time.perf_counter, 1)
    found = []
    for _ in range(3):
        begun = worked()
        (matrix @ matrix)[0, 0].item()  # waits for a GPU
        found.append((worked() - begun) / cores)
    return min(found)


class Live:
    """Shows a run every `EVERY` seconds, on the screen and in `events`; called after each step, and cheap.

    `products` are FLOPs a token; without `events` nothing is shown.
    """

    def __init__(self, run: Any, products: float, events: Events | None) -> None:
        self._run, self._events = run, events
        self._begun = self._looked = time.monotonic()
        self._first, self._step, self._tokens = run.step, run.step, run.seen
        self._warm, self._elsewhere = False, 0.0
        if events is not None:
            self._progress = Progress(
                "training", total=run.plan.steps, unit="steps", every=0.9 * EVERY, before=run.step
            )
            self._use = products / (peak(run.model.device, run.precision) * run.group.ranks)  # of a token a second

    def step(self) -> None:
        """After each step."""
        now = time.monotonic()
        if self._run.step == self._first + 1 and not self._warm:  # the first step compiles, and touches all memory
            self._begun, self._first, self._warm = now, self._run.step, True
        last = self._run.step == self._run.plan.steps or self._run.ended
        if self._events is not None and (last or now - self._looked >= EVERY):
            self._progress.every = math.inf if last else self._progress.every  # the last line is printed at the end
            self._look(now, self._events)

    def _look(self, now: float, events: Events) -> None:
        run, (loss, norm) = self._run, self._run.last
        speed = (run.seen - self._tokens) / max(now - self._looked - self._elsewhere, 1e-9)
        pace = (now - self._begun) / max(run.step - self._first, 1)
        measured = {"tokens_per_second": round(speed, 1), "mfu": round(speed * self._use, 4)}
        left = {"seconds_left": round(pace * (run.plan.steps - run.step), 1)}
        events.line({"step": run.step, "tokens": run.seen, "loss": loss, "gradient_norm": norm} | measured | left)
        events.numbers(run.step, measured)
        skipped = f", {run.spikes.skipped:,} skipped" if run.spikes.skipped else ""
        self._progress.add(
            run.step - self._step,
            f"loss {loss:.3f}, gradient {norm:.2f}, {readable(speed)} tokens/s, MFU {measured['mfu']:.0%}{skipped}",
        )
        self._looked, self._step, self._tokens, self._elsewhere = now, run.step, run.seen, 0.0

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Around what is no step, as a validation: the speed does not count it, the time left does."""
        begun = time.monotonic()
        yield
        self._elsewhere += time.monotonic() - begun

    def validated(self, loss: float | None) -> None:
        """After a look at the validation split; where that ended the run, which weights are kept."""
        if self._events is None or loss is None:
            return
        run = self._run
        self._events.line({"step": run.step, "validation_loss": loss})
        told = f"── after step {run.step:,}: validation loss {loss:.3f}"
        if run.best_step not in (0, run.step):
            told += f"; the lowest was {run.best_loss:.3f} after step {run.best_step:,}"
        print(told, flush=True)
        if run.ended:
            print(f"stopped early: not lower {run.worse} times in a row; those weights are kept", flush=True)

    def judged(self, spike: tuple[float, float] | None) -> None:
        """After a step; `spike` are the loss and the gradient's norm of one that was not taken."""
        if self._events is None or spike is None:
            return
        names = ("loss", "gradient_norm")
        told = {name: value if math.isfinite(value) else str(value) for name, value in zip(names, spike, strict=True)}
        self._events.line({"step": self._run.step, "skipped": told})
        print(f"── step {self._run.step:,} skipped: loss {spike[0]:.3f}, gradient {spike[1]:.2f}", flush=True)

    def sample(self, decode: Callable[[list[int]], str]) -> None:
        """What the model writes by itself now. A model of which each process has a part cannot be asked by one."""
        if self._events is None or not self._run.group.whole:
            return
        run = self._run
        tokens = run.model.generate(
            np.zeros(0, dtype=np.int64), SAMPLE_TOKENS, temperature=0.8, top_k=50, seed=run.seed + run.step
        )
        run.network.train()
        text = decode(tokens.tolist())
        self._events.text(run.step, "sample", text)
        print(f"── after step {run.step:,}\n{text}", flush=True)

    def __enter__(self) -> Live:
        if self._events is not None:
            self._progress.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._events is not None:
            self._progress.__exit__(kind, error, at)
