"""When bfloat16 and torch.compile are worth it: the measurements behind `pileline.models.device`'s rules.

    python -m tests.benchmarks.precision                    # about 10 minutes
    python -m tests.benchmarks.precision --device cuda

For transformers of growing width it times a forward and a backward pass in float32 and in bfloat16 (matrix products
only), plain and compiled; they take turns, and on a CPU the seconds are those that the process had a core, so that
others on the machine do not count. Compilation is paid back by as many steps as its warm-up took, divided by what a
step gains. The last columns say what `auto` chooses: it should never be much slower than the best of its row.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pileline import models
from pileline.models.device import PRECISIONS, autocast, choose_precision
from pileline.training import derived, memory

# vocabulary, layers, width, context, batch
SHAPES = (
    (70, 1, 64, 64, 12),
    (70, 4, 128, 64, 12),
    (2000, 2, 128, 256, 4),
    (2000, 4, 192, 256, 8),
    (2000, 4, 256, 256, 8),
    (4000, 6, 384, 256, 8),
)
COMPILED = ((70, 4, 128, 64, 12),)
Step = Callable[[], None]


def network_of(shape: tuple[int, ...], device: str) -> Any:
    vocabulary, layers, width, context, _ = shape
    settings = {"kind": "transformer", "layers": layers, "heads": max(width // 64, 1), "width": width}
    return models.build(settings | {"context": context}, vocabulary, 0).to(device).network


def step_of(network: Any, shape: tuple[int, ...], device: str, precision: str, compiled: bool = False) -> Step:
    """A forward and a backward pass on fixed random tokens, gradients dropped."""
    vocabulary, _, _, context, batch = shape
    tokens, targets = torch.randint(vocabulary, (2, batch, context), generator=torch.Generator().manual_seed(1))
    tokens, targets = tokens.to(device), targets.to(device)
    compute = torch.compile(network.loss) if compiled else network.loss

    def step() -> None:
        with autocast(device, precision):
            loss = compute(tokens, targets)
        loss.backward()
        network.zero_grad(set_to_none=True)
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    return step


def seconds(work: Step, device: str) -> float:
    clock = time.perf_counter if device.startswith("cuda") else time.process_time
    begun = clock()
    work()
    return clock() - begun


def medians(contenders: dict[str, Step], device: str, rounds: int) -> dict[str, float]:
    """Seconds of each, over rounds in which they take turns; one more at the start is not counted."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, work in contenders.items():
            taken = seconds(work, device)
            if number:
                found[name].append(taken)
    return {name: statistics.median(values) for name, values in found.items()}


def measure(shape: tuple[int, ...], device: str, rounds: int, compiled: bool) -> dict[str, Any]:
    """Milliseconds a step of one shape each way, what compiling cost, and what `auto` chooses."""
    network = network_of(shape, device)
    names = [name for name in PRECISIONS if name != "auto"]
    steps = {name: step_of(network, shape, device, name) for name in names}
    warming = {}
    if compiled:
        for name in names:
            steps[f"compiled {name}"] = step_of(network, shape, device, name, compiled=True)
            begun = time.perf_counter()  # the compiler runs in processes of its own
            steps[f"compiled {name}"]()
            warming[name] = time.perf_counter() - begun
    taken = medians(steps, device, rounds)
    row = dict(zip(("vocabulary", "layers", "width", "context", "batch"), shape, strict=True))
    row |= {"hidden_weights": derived.sizes(network)[0]}
    row |= {name: round(1000 * value, 2) for name, value in taken.items()}
    for name in warming:
        gain = taken[name] - taken[f"compiled {name}"]
        row[f"warm-up {name}, s"] = round(warming[name], 1)
        row[f"steps to pay back {name}"] = round(warming[name] / gain) if gain > 0 else None
    row["auto"] = choose_precision("auto", device)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description="bfloat16 and compilation by size of model")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-compile", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    memory.keep()  # as training does
    rows = []
    for shape in SHAPES:
        compiled = not arguments.no_compile and shape in COMPILED
        rows.append(measure(shape, arguments.device, arguments.rounds, compiled))
        print(", ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    capabilities = {name: value for name, value in torch.cpu.get_capabilities().items() if value}
    found = {"torch": torch.__version__, "threads": arguments.threads, "cpu": capabilities, "milliseconds": rows}
    place = Path("results/benchmarks/precision.json")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
