"""The training loop: gradient steps on a network, deterministic, and resumable after kill -9.

A run is a function of settings, data, seed, code and machine. Batches and rates are functions of the step, and so are
random numbers: before each forward pass torch's generator is seeded from (seed, step, part of the batch, process), so
that dropout needs no saved generator. Weights, optimizers' memories and the account of spikes are in the checkpoint. So
a run that is killed and started again ends with the same bits as one that was not.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pileline.models.device import autocast, choose_precision
from pileline.shards import PADDING, Batches, prefetch

from . import advice, checkpoint, live, memory, optimizers, schedules
from .derived import Settled
from .events import Events
from .group import Group
from .log import NAME as LOG_NAME
from .log import Log, is_whole, read, record
from .outcome import Outcome
from .settings import TrainingError
from .spikes import Spikes

LOGGED = 200  # records of a run's log, about
VALIDATION_TOKENS = 8192  # tokens of the validation split that are looked at then
SAVING_SHARE = 0.02  # of the time, at most, goes into checkpoints

Batch = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


class Run:
    """One training run of `model` by `plan`: its state, a step, a look at the validation split.

    `scratch` is where checkpoints are; `data` names the shards by content, so that others are not mixed in.
    """

    def __init__(
        self, model: Any, plan: Settled, seed: int, threads: int, data: str, scratch: Path, group: Group
    ) -> None:
        self.model, self.plan, self.seed, self.threads = model, plan, seed, threads
        self.scratch, self.group = scratch, group
        self.precision = choose_precision(plan.precision, model.device)
        prepare(threads)
        self.identity = checkpoint.run_identity(model, plan, seed, threads, self.precision, data)
        self.network = model.network.train()
        self.whole_loss = group.wrap(self.network)  # the network's loss, over all processes
        self.step_loss = torch.compile(self.whole_loss) if plan.compile else self.whole_loss
        self.optimizers = group.optimizers(self.network, plan)
        self.parameters = [p for p in self.network.parameters() if p.requires_grad]
        self.persistent = sorted(self.network.state_dict().keys() & {name for name, _ in self.network.named_buffers()})
        self.penalized = self.network.parameter_groups()["matrices"] if plan.l1 or plan.l2 else []
        self.step = self.seen = 0  # steps taken, and tokens predicted in them
        self.spikes = Spikes()
        self.recent: list[float] = []  # losses since the last record
        self.last = (float("nan"), 0.0)  # loss and gradient norm of the last step that was taken
        self.spike: tuple[float, float] | None = None  # those of this step, if it was skipped
        self.best_loss, self.best_step = float("inf"), 0  # on the validation split
        self.worse = 0  # validations since
        self.ended = False

    # ------------------------------------------------------------------------------------------- state

    def resume(self) -> int:
        """Load the last checkpoint if there is one; returns the length of the log that goes with it."""
        state = self.last_whole() if self.group.is_first else None
        self.group.barrier()  # the first process tidies the folder before the others look
        state = state if self.group.is_first else checkpoint.load(self.scratch, self.identity)
        if state is None:
            return 0
        self.group.load(self.network, self.optimizers, state)
        self.step, self.seen, self.recent, self.last = state["step"], state["seen"], state["recent"], state["last"]
        self.best_loss, self.best_step, self.worse, self.ended = state["best"]
        self.spikes = Spikes(**state["spikes"])
        if self.group.is_first:
            print(f"resumed after step {self.step:,} from {self.scratch}", flush=True)
        return int(state["log_bytes"])

    def last_whole(self) -> dict[str, Any] | None:
        """The last checkpoint's state, if the log and the best weights that go with it are there."""
        state = checkpoint.load(self.scratch, self.identity)
        if state is None:
            return None
        best_step = state["best"][1]
        if not is_whole(self.scratch / LOG_NAME, state["log_bytes"]):
            missing = LOG_NAME
        elif self.plan.patience and best_step and not checkpoint.has_best(self.scratch, self.identity, best_step):
            missing = checkpoint.BEST
        else:
            return state
        print(f"{self.scratch}: of what goes with the checkpoints, {missing} is not there: starting anew", flush=True)
        checkpoint.clear(self.scratch)
        return None

    def save(self, log: Log | None) -> None:
        """Write a checkpoint; the log is on the disk before it."""
        state = self.group.state(self.network, self.optimizers) | {
            "step": self.step,
            "seen": self.seen,
            "recent": self.recent,
            "last": self.last,
            "best": (self.best_loss, self.best_step, self.worse, self.ended),
            "spikes": self.spikes.state(),
        }
        if log is not None:
            checkpoint.save(self.scratch, self.identity, state | {"log_bytes": log.flush()}, self.plan.checkpoints)
        self.group.barrier()

    # ------------------------------------------------------------------------------------------- steps

    @property
    def buffers(self) -> list[Tensor]:
        """What forward passes of training may change in the network and is saved: running means, of a user's own."""
        return [self.network.get_buffer(name) for name in self.persistent]

    def parts(self, batch: Batch) -> list[Batch]:
        """The batch in `accumulate` parts of about as many rows."""
        if self.plan.accumulate == 1:
            return [batch]
        split = [np.array_split(half, self.plan.accumulate) for half in batch]
        return [part for part in zip(*split, strict=True) if part[0].size]

    def loss(self, batch: Batch, compute: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        inputs, targets = (_on(torch.from_numpy(part), self.model.device) for part in batch)
        with autocast(self.model.device, self.precision):
            return compute(inputs, targets)

    def gradient(self, batch: Batch, tokens: float) -> tuple[float, float]:
        """Put the gradient of the mean loss over all processes' `tokens` in place; returns the loss and its norm."""
        parts = self.parts(batch)
        total: Any = 0.0
        for number, part in enumerate(parts):
            self.draw(number)
            weight = predicted(part) * self.group.ranks / tokens  # processes' gradients are averaged
            with self.group.gathering(last=number == len(parts) - 1):
                loss = self.loss(part, self.step_loss)
                loss = loss if weight == 1.0 else loss * weight
                loss.backward()  # type: ignore[no-untyped-call]
            total = total + loss.detach()
        self.penalize()
        norm = self.group.norm(self.parameters)
        found: list[float] = self.group.mean(torch.stack((total, norm.to(total.dtype)))).tolist()
        return found[0], found[1]

    def draw(self, part: int) -> None:
        """Seed torch's generator of the device for a forward pass."""
        key = f"{self.seed} {self.step} {part} {self.group.rank}".encode()
        number = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1
        if self.model.device.startswith("cuda"):
            torch.cuda.manual_seed(number)
        else:  # torch.manual_seed would go round all devices, which takes as long as a small layer
            torch.default_generator.manual_seed(number)

    @torch.no_grad()
    def restore(self, kept: list[Tensor]) -> None:
        """Put back what `buffers` were, since a step that is skipped leaves nothing behind."""
        for buffer, value in zip(self.buffers, kept, strict=True):
            buffer.copy_(value)

    @torch.no_grad()
    def penalize(self) -> None:
        """Add to the gradient that of l1 sum |w| + l2 / 2 sum w^2; the reported loss is without them."""
        for parameter in self.penalized:
            if parameter.grad is not None:
                parameter.grad.add_(parameter.sign(), alpha=self.plan.l1).add_(parameter, alpha=self.plan.l2)

    def update(self, batch: Batch, tokens: float) -> float:
        """One gradient step, or none where it would be a spike; returns the factor on the rates."""
        kept = [buffer.clone() for buffer in self.buffers]
        loss, norm = self.gradient(batch, tokens)
        factor = schedules.factor(self.plan, self.step)
        self.step += 1
        self.seen += int(tokens)
        self.spike = (loss, norm) if self.spikes.skip(loss, norm, self.plan.clip) else None
        if why := self.spikes.hopeless:
            seen = f"step {self.step}: the loss is {loss:.4g}, the gradient's norm {norm:.4g}"
            raise TrainingError(f"{seen}; {why}. {advice.what_to_change(self.plan)}")
        if self.spike is None:
            if 0 < self.plan.clip < norm:
                torch._foreach_mul_(
                    [p.grad for p in self.parameters if p.grad is not None], self.plan.clip / (norm + 1e-6)
                )
            optimizers.set_rates(self.optimizers, factor)
            for optimizer in self.optimizers:
                optimizer.step()
            self.group.share(self.buffers)
            self.recent.append(loss)
            self.last = (loss, norm)
        else:
            self.restore(kept)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        return factor

    def accept(self) -> None:
        """Raise `TrainingError` where training has ended with weights that no one can want.

        The best weights are kept where there is `patience`, so it is their loss that counts then.
        """
        why = advice.thrown_up(self.spikes.level, self.model.vocabulary_size, self.spikes.first)
        if why and not (self.plan.patience is not None and math.isfinite(self.best_loss)):
            raise TrainingError(f"step {self.step}: {why}. {advice.what_to_change(self.plan)}")

    @torch.no_grad()
    def validate(self, validation: Batches | None) -> float | None:
        """Mean loss over the first batches of the validation split, `VALIDATION_TOKENS` in all or what there is."""
        if validation is None:
            return None
        self.network.eval()
        total, tokens = 0.0, 0
        for step in range(min(validation.epoch_steps, max(VALIDATION_TOKENS // self.plan.batch_tokens, 1))):
            for part in self.parts(validation.batch_at(step)):
                total += self.loss(part, self.whole_loss).item() * predicted(part)
                tokens += predicted(part)
        self.network.train()
        total, tokens_of_all = self.group.total([total, tokens])
        return total / max(tokens_of_all, 1)

    def judge(self, loss: float | None) -> None:
        """Keep the weights if this validation loss is the best; end the run after `patience` that were not."""
        if loss is None:
            return
        self.worse += 1
        if loss < self.best_loss:
            self.best_loss, self.best_step, self.worse = loss, self.step, 0
            weights = self.group.weights(self.network)
            if self.group.is_first:
                checkpoint.save_best(self.scratch, self.identity, self.step, weights)
        self.ended = self.plan.patience is not None and self.worse >= self.plan.patience

    def restore_best(self) -> None:
        """Put back the weights that did best on the validation split."""
        if self.best_step not in (0, self.step):
            best = checkpoint.load_best(self.scratch, self.identity, self.best_step)
            self.group.load_weights(self.network, best)


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
    group: Group | None = None,
    decode: Callable[[list[int]], str] | None = None,
) -> Outcome:
    """Train `model` in place by `plan`; `data` names the shards by content, so that others are not mixed in.

    Writes `training.jsonl` and `events/` below `output`. Raises `TrainingError` when spikes of the loss do not end, the
    loss ends far above ln V, or memory does not suffice. A checkpoint is written every `checkpoint_seconds`, and after
    the last step. `batches` and `validation` are this process's parts, where `group` has several. `decode` turns tokens
    into text, for samples.
    """
    group = group or Group()
    prepare(threads)
    products = live.flops(model.network, model.context) if group.is_first else 0.0
    run = Run(model, plan, seed, threads, data, scratch, group)
    with ExitStack() as stack:
        if group.is_first:
            stack.enter_context(checkpoint.alone(scratch))
        keep, log, events = run.resume(), None, None
        if group.is_first:
            events = stack.enter_context(closing(Events(output / "events")))
            log = stack.enter_context(closing(Log(scratch, events, keep)))
        _steps(run, batches, validation, log, events, checkpoint_seconds, products, decode)
        run.accept()
        if plan.patience is not None:
            run.restore_best()
        curve = read(scratch / LOG_NAME) if group.is_first else []
        if group.is_first:
            (output / LOG_NAME).write_bytes((scratch / LOG_NAME).read_bytes())
    return Outcome(
        steps=run.step,
        tokens_seen=run.seen,
        epochs=run.step / batches.epoch_steps,
        final_training_loss=curve[-1]["loss"] if curve else None,
        validation_loss=curve[-1]["validation_loss"] if curve else None,
        device=model.device,
        precision=run.precision,
        threads=threads,
        optimizer=optimizers.describe(plan),
        curve=curve,
        batch_tokens=plan.batch_tokens,
        skipped_steps=run.spikes.skipped,
        stopped_early=run.ended,
        best_step=run.best_step or None,
        compiled=bool(plan.compile),
        processes=group.ranks,
    )


def _steps(
    run: Run,
    batches: Batches,
    validation: Batches | None,
    log: Log | None,
    events: Events | None,
    checkpoint_seconds: float,
    products: float,
    decode: Callable[[list[int]], str] | None,
) -> None:
    """All steps from where the run stands, with records, validations, samples and checkpoints at their times."""
    plan, group = run.plan, run.group
    log_every, validate_every, sample_every = (
        -(-plan.steps // max(times, 1)) for times in (LOGGED, plan.validations, plan.samples)
    )
    ahead = max(plan.prefetch, int(run.model.device.startswith("cuda")))
    coming = prefetch(batches, range(run.step, 0 if run.ended else plan.steps), ahead)
    saved, interval = time.monotonic(), checkpoint_seconds
    watch = live.Live(run, products, events)
    with closing(coming), watch:
        for batch in coming:
            due = group.is_first and time.monotonic() - saved >= interval
            tokens, saving = group.total([predicted(batch), due])
            factor = take(run, batch, tokens)
            watch.judged(run.spike)
            last = run.step == plan.steps
            validating = last or run.step % validate_every == 0
            with watch.aside():
                if validating or run.step % log_every == 0:
                    found = run.validate(validation) if validating else None
                    run.judge(found)
                    watch.validated(found)
                    if log is not None:
                        log.write(record(run, found, factor))
                    run.recent = []
                    last = last or run.ended
                if plan.samples and decode and run.step % sample_every == 0:
                    watch.sample(decode)
                if last or saving:
                    begun = time.monotonic()
                    run.save(log)
                    saved = time.monotonic()
                    interval = max(checkpoint_seconds, (saved - begun) / SAVING_SHARE) if checkpoint_seconds else 0.0
            watch.step()
            if run.ended:
                break


def take(run: Run, batch: Batch, tokens: float) -> float:
    """`Run.update`; where memory does not suffice, a `TrainingError` that says what would fit."""
    try:
        return run.update(batch, tokens)
    except torch.OutOfMemoryError:
        pass  # the error's traceback holds the step's tensors: it must be gone before smaller steps are tried
    rows = -(-len(batch[0]) // run.plan.accumulate)
    if run.group.ranks > 1:  # the others wait in the middle of this step, and would not take part in another
        raise memory.shortage(rows, run.plan.accumulate, batch[0].shape[1], run.model.device)

    def attempt(count: int) -> None:
        for optimizer in run.optimizers:
            optimizer.zero_grad(set_to_none=True)
        part = batch[0][:count], batch[1][:count]
        with run.group.gathering(last=False):  # other processes do not wait for this gradient
            run.loss(part, run.step_loss).backward()  # type: ignore[no-untyped-call]

    raise memory.advise(attempt, rows, run.plan.accumulate, batch[0].shape[1], run.model.device)


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
    memory.keep()


def _on(values: Tensor, device: str) -> Tensor:
    """`values` on the device; to a GPU without waiting for it."""
    return values.pin_memory().to(device, non_blocking=True) if device.startswith("cuda") else values
