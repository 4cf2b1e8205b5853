"""Start the processes that train one model together, and take their result: torchrun, called by the stage itself.

    outcome = launch(model, shards, settings, plan, seed, "auto", 1, output, scratch)

What the processes need is handed over in a folder, as JSON and safetensors: they build the model from its settings,
load the initial weights, train (`pileline.training.worker`), and the first leaves the weights and the account. One
that fails takes the others with it, and so does the end of this one, by whatever signal: its end of their standard
input closes.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from .outcome import Outcome
from .settings import Plan, TrainingError

WORKER = "pileline.training.worker"  # not imported: its code counts where it runs, see `Workflow.worker_code`
FOLDER = "processes"  # below scratch
JOB, DECODE, ERROR, OUTCOME = "job.json", "decode.pickle", "error-{rank}.json", "outcome.json"
INITIAL, TRAINED = "initial.safetensors", "trained.safetensors"
LONGEST_WAIT = 30.0  # seconds that processes are given to end


def launch(
    model: Any,
    shards: str | Path,
    settings: dict[str, Any],
    plan: Plan,
    seed: int,
    device: str,
    threads: int,
    output: str | Path,
    scratch: str | Path,
    decode: Callable[[list[int]], str] | None = None,
) -> Outcome:
    """Train `model` in place in `plan.processes` processes, each with `threads` threads; see `pileline.training.train`.

    Their output is printed as it comes. Raises `TrainingError` with what the first one that failed had to say.
    """
    folder = Path(scratch) / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    job = {
        "shards": str(shards),
        "settings": settings,
        "plan": asdict(plan),
        "vocabulary_size": model.vocabulary_size,
        "end": model.end,
        "seed": seed,
        "device": device,
        "threads": threads,
        "output": str(output),
        "scratch": str(scratch),
    }
    (folder / JOB).write_text(json.dumps(job), encoding="utf-8")
    save_weights(model.network.state_dict(), folder / INITIAL)
    (folder / DECODE).write_bytes(pickle.dumps(decode))  # of this process, for its own: no file that comes from others
    status = _run(plan.processes, folder, threads)
    if status:
        raise TrainingError(_complaint(folder, status))
    model.network.load_state_dict(load_file(folder / TRAINED))
    outcome = Outcome(**json.loads((folder / OUTCOME).read_text(encoding="utf-8")))
    shutil.rmtree(folder)
    return outcome


def save_weights(weights: dict[str, Any], path: Path) -> None:
    """Write tensors, wherever they are, as safetensors."""
    save_file({name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}, path)


def leave(weights: dict[str, Any], outcome: Outcome, folder: Path) -> None:
    """What the first process leaves when training has ended, for `launch` to take."""
    save_weights(weights, folder / TRAINED)
    (folder / OUTCOME).write_text(json.dumps(asdict(outcome)), encoding="utf-8")


def _run(processes: int, folder: Path, threads: int) -> int:
    """Run the workers and print what they say; returns torchrun's exit status."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    paths = [path for path in sys.path if path]  # a model of one's own is found where this process finds it
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join(paths),
        "TORCH_CPP_LOG_LEVEL": "ERROR",  # else DDP warns of what is wanted: see `distributed.Replicated`
    }
    with subprocess.Popen(
        [*command, "-m", WORKER, str(folder)],
        env=environment,
        stdin=subprocess.PIPE,  # workers end when this closes
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as running:
        try:
            for line in running.stdout or ():
                print(line, end="", flush=True)
            return running.wait()
        except BaseException:  # an interrupt: end them before it is passed on
            running.terminate()
            try:
                running.wait(LONGEST_WAIT)
            except subprocess.TimeoutExpired:
                running.kill()
            raise


def _complaint(folder: Path, status: int) -> str:
    """The message of the first process that wrote one, or that there is none."""
    errors = sorted(folder.glob(ERROR.format(rank="*")), key=lambda path: path.stat().st_mtime_ns)
    if not errors:
        return (
            f"training in several processes ended with status {status}, see their output above; a process that was "
            "killed may have run out of memory: raise accumulate, or lower processes or the model's size"
        )
    said: dict[str, Any] = json.loads(errors[0].read_text(encoding="utf-8"))
    return f"process {said['rank']}: {said['message']}"
