"""The training loop: gradient steps on a transformer, deterministic, and resumable after kill -9.

A run is a function of settings, data, seed, code and machine. Batches and rates are functions of the step; weights and
optimizers' memories are in the checkpoint; no random number is drawn while training. So a run that is killed
and started again ends with the same bits as one that was not. Nothing that is written holds a clock: progress,
with tokens a second and the time left, goes to the screen only.
"""

from __future__ import annotations

import hashlib
import math
import os
import sys
import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pileline.manifest import canonical_json
from pileline.models.device import autocast, choose_precision
from pileline.progress import Progress, readable
from pileline.shards import PADDING, Batches, prefetch

from . import checkpoint, optimizers, schedules
from .derived import Settled
from .log import NAME as LOG_NAME
from .log import Log, read
from .outcome import Outcome
from .settings import TrainingError

LOGGED = 200  # records of a run's log, about
VALIDATION_TOKENS = 8192  # tokens of the validation split that are looked at then

Batch = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


class Run:
    """One training run. `folders` are where it writes: `output` (events), `scratch` (checkpoint and log)."""

    def __init__(self, model: Any, plan: Settled, seed: int, threads: int, data: str, scratch: Path) -> None:
        self.model, self.plan, self.seed, self.threads, self.scratch = model, plan, seed, threads, scratch
        self.precision = choose_precision(plan.precision, model.device)
        prepare(threads)
        self.network = model.network
        self.optimizers = optimizers.build(self.network.parameter_groups(), plan)
        self.identity = self._identity(data)
        self.step = self.seen = 0  # steps taken, and tokens predicted in them
        self.recent: list[float] = []  # losses since the last record

    def _identity(self, data: str) -> str:
        """A hash of all that decides the weights; a checkpoint with another one is not continued."""
        machine = torch.cuda.get_device_name() if self.model.device.startswith("cuda") else _cpu_name()
        rooms = ("pileline.models.", "pileline.shards.", "pileline.training.")
        parts = {
            "model": self.model.configuration(),
            "plan": asdict(self.plan),
            "seed": self.seed,
            "threads": self.threads,
            "device": [self.model.device, machine, self.precision],
            "data": data,
            "code": checkpoint.code_identity(name for name in sys.modules if name.startswith(rooms)),
            "torch": torch.__version__,
        }
        return hashlib.sha256(canonical_json(parts).encode()).hexdigest()

    # ------------------------------------------------------------------------------------------- state

    def resume(self) -> int:
        """Load the last checkpoint if there is one; returns the length of the log that goes with it."""
        state = checkpoint.load(self.scratch, self.identity)
        if state is None:
            return 0
        self.network.load_state_dict(state["network"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.seen, self.recent = state["step"], state["seen"], state["recent"]
        print(f"resumed after step {self.step:,} from {self.scratch / checkpoint.NAME}", flush=True)
        return int(state["log_bytes"])

    def save(self, log: Log) -> None:
        """Write a checkpoint; the log is on the disk before it."""
        state = {
            "network": self.network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "seen": self.seen,
            "recent": self.recent,
            "log_bytes": log.flush(),
        }
        checkpoint.save(self.scratch, self.identity, state)

    # ------------------------------------------------------------------------------------------- steps

    def loss(self, batch: Batch) -> torch.Tensor:
        inputs, targets = (torch.from_numpy(part).to(self.model.device) for part in batch)
        with autocast(self.model.device, self.precision):
            return self.network.loss(inputs, targets)  # type: ignore[no-any-return]

    def update(self, batch: Batch) -> tuple[float, float, float]:
        """One gradient step; returns the loss, the gradient's norm and the factor on the rates."""
        total, tokens = 0.0, predicted(batch)
        parts = [np.array_split(part, self.plan.accumulate) for part in batch]
        for inputs, targets in zip(*parts, strict=True):
            loss = self.loss((inputs, targets)) * (predicted((inputs, targets)) / tokens)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.plan.clip or math.inf).item()
        if not (math.isfinite(total) and math.isfinite(norm)):
            raise TrainingError(
                f"step {self.step + 1}: the loss is {total} and the gradient's norm {norm}; lower matrix_rate "
                f"({self.plan.matrix_rate}) and embedding_rate ({self.plan.embedding_rate}) by half, lengthen warmup "
                f"({self.plan.warmup}), or set precision: float32"
            )
        factor = schedules.factor(self.plan, self.step)
        optimizers.set_rates(self.optimizers, factor)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.seen += tokens
        self.recent.append(total)
        return total, norm, factor

    @torch.no_grad()
    def validate(self, validation: Batches | None, tokens: int) -> float | None:
        """Mean loss over the first batches of the validation split, `tokens` in all or what there is."""
        if validation is None:
            return None
        count = min(validation.epoch_steps, max(VALIDATION_TOKENS // tokens, 1))
        return float(np.mean([self.loss(validation.batch_at(step)).item() for step in range(count)]))


def run(
    model: Any,
    batches: Batches,
    validation: Batches | None,
    plan: Settled,
    seed: int,
    threads: int,
    output: Path,
    scratch: Path,
    data: str = "",
    checkpoint_seconds: float = 30.0,
) -> Outcome:
    """Train `model` in place by `plan`; `data` names the shards by content, so that others are not mixed in.

    Writes `training.jsonl` and `events/` below `output`. Raises `TrainingError` when the loss is no longer a
    number. A checkpoint is written every `checkpoint_seconds`, and after the last step.
    """
    run = Run(model, plan, seed, threads, data, scratch)
    log = Log(scratch, output / "events", run.resume())
    log_every, validate_every = -(-plan.steps // LOGGED), -(-plan.steps // max(plan.validations, 1))
    saved, begun, first, seen = time.monotonic(), time.monotonic(), run.step, run.seen
    coming = prefetch(batches, range(first, plan.steps), plan.prefetch)
    with closing(coming), Progress("training", total=plan.steps - first, unit="steps") as progress:
        for batch in coming:
            loss, norm, factor = run.update(batch)
            last = run.step == plan.steps
            if run.step % log_every == 0 or last:
                measure = run.step % validate_every == 0 or last
                log.write(
                    {
                        "step": run.step,
                        "tokens": run.seen,
                        "loss": float(np.mean(run.recent)),
                        "validation_loss": run.validate(validation, batch[0].size) if measure else None,
                        "rate": factor,
                        "gradient_norm": norm,
                    }
                )
                run.recent = []
            if last or time.monotonic() - saved >= checkpoint_seconds:
                run.save(log)
                saved = time.monotonic()
            speed = (run.seen - seen) / (time.monotonic() - begun)
            progress.add(1, f"loss {loss:.3f}, {readable(speed)} tokens/s")
    log.close()
    curve = read(log.path)
    (output / LOG_NAME).write_bytes(log.path.read_bytes())
    return Outcome(
        steps=plan.steps,
        tokens_seen=curve[-1]["tokens"],
        epochs=plan.steps / batches.epoch_steps,
        final_training_loss=curve[-1]["loss"],
        validation_loss=curve[-1]["validation_loss"],
        device=model.device,
        precision=run.precision,
        threads=threads,
        optimizer=optimizers.describe(plan),
        curve=curve,
    )


def predicted(batch: Batch) -> int:
    """How many targets of a batch are tokens, not padding."""
    return int(np.count_nonzero(batch[1] != PADDING))


def prepare(threads: int) -> None:
    """Make torch deterministic in this process, with the threads that the configuration says."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS may sum in another order
    torch.use_deterministic_algorithms(True)
    # A guard that costs 4 % of a step's time; nothing here reads what it has not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.set_num_threads(threads)


def _cpu_name() -> str:
    return f"{torch.cpu.get_capabilities().get('cpu_name', 'cpu')}, {torch.backends.cpu.get_cpu_capability()}"
