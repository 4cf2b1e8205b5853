"""Checkpoints: everything a killed run needs to end as if it had not been killed, bit by bit.

A checkpoint is one file, written beside its place, flushed to the disk and renamed, so that each that is there is
whole. The last few are kept, and the weights that did best on the validation split. They are read without unpickling
code (`weights_only`). Each carries the `identity` of its run (settings, data, seed, machine, code); one with another
identity is not resumed.
"""

from __future__ import annotations

import ast
import errno
import fcntl
import hashlib
import os
import shutil
import sys
import time
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from pileline.manifest import canonical_json
from pileline.models import LanguageModel

from .settings import Plan, TrainingError

PATTERN = "checkpoint-*.pt"  # the step stands for the star
BEST, PART = "best.pt", ".part"
PATIENCE = 20.0  # seconds that the end of another run in the same folder is waited for


class DamageError(Exception):
    """A file that is there and can be opened is no checkpoint."""


def save(folder: Path, identity: str, state: dict[str, Any], keep: int = 1) -> None:
    """Write the checkpoint of `state["step"]` atomically and durably; only the last `keep` stay."""
    _write(folder / PATTERN.replace("*", f"{state['step']:09d}"), {"identity": identity, **state})
    for old in sorted(folder.glob(PATTERN))[:-keep]:
        old.unlink()


def load(folder: Path, identity: str) -> dict[str, Any] | None:
    """The last checkpoint's state, on the CPU; None where there is none, or they are another run's."""
    for path in sorted(folder.glob(PATTERN), reverse=True):
        try:
            state = _read(path)
        except DamageError as error:  # a disk's error; a power cut leaves none
            print(f"{path} cannot be read ({error}): going on from the one before", flush=True)
            path.unlink()
            continue
        if state["identity"] == identity:
            return state
        print(f"{path} is of a run with other settings, data, code, torch or machine: starting anew", flush=True)
        clear(folder)  # else a later step's would pass for this run's last
        return None
    return None


def save_best(folder: Path, identity: str, step: int, weights: dict[str, Any]) -> None:
    """Write the weights that did best so far, those after `step`."""
    _write(folder / BEST, {"identity": identity, "step": step, "network": weights})


def load_best(folder: Path, identity: str, step: int) -> dict[str, Any]:
    """The weights after `step`, on the CPU; `FileNotFoundError` where others, or none, are kept."""
    state = _read(folder / BEST)
    if state["identity"] != identity or state["step"] != step:
        raise FileNotFoundError(
            f"{folder / BEST} is not of this run's step {step}; delete {folder} and train this model again"
        )
    return state["network"]  # type: ignore[no-any-return]


def has_best(folder: Path, identity: str, step: int) -> bool:
    """Whether the best weights are there, of `step` or of a later one, whose steps will be taken again."""
    try:
        state = _read(folder / BEST)
    except (DamageError, FileNotFoundError):
        return False
    return bool(state["identity"] == identity and state["step"] >= step)


def clear(folder: Path) -> None:
    """Delete all checkpoints."""
    for path in (*folder.glob(PATTERN), folder / BEST):
        path.unlink(missing_ok=True)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Meanwhile, no other run writes in `folder`: two would mix their logs. Whatever ends this one lets go of it.

    The folder is made if it is not there: it is of the runner's making, and missing where a notebook is run by hand.

    One that was killed may still be ending, or not know yet that whoever started it is gone, and is waited for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    begun, place = time.monotonic(), os.open(folder, os.O_RDONLY)
    try:
        while not _locked(place):
            if time.monotonic() - begun >= PATIENCE:
                raise TrainingError(f"training: another run writes in {folder}; wait until it has ended, or end it")
            time.sleep(0.1)
        yield
    finally:
        os.close(place)


def _locked(place: int) -> bool:
    try:
        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a network's file system that knows no locks
    return True


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around what writes `path`: raises `TrainingError` that says why it could not be, and what room there is."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # the latter is torch's, of a file that did not take what it wrote
        with suppress(OSError):
            path.with_name(path.name + PART).unlink(missing_ok=True)
        why = error.strerror if isinstance(error, OSError) and error.strerror else _first_line(error)
        room = ""
        with suppress(OSError):  # the folder may be gone
            room = f", its disk has {shutil.disk_usage(path.parent).free / 1e6:,.1f} MB left"
        raise TrainingError(
            f"training: {path} cannot be written ({why}){room}; mend that and run again, training goes on from the "
            "last checkpoint"
        ) from error


def _write(path: Path, state: dict[str, Any]) -> None:
    part = path.with_name(path.name + PART)
    with writing(path):
        with part.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)  # the rename itself survives a power cut
        finally:
            os.close(directory)


def _read(path: Path) -> dict[str, Any]:
    """A file's state; `DamageError` for one that was changed, whatever zipfile and torch make of its bytes."""
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:  # torch writes checksums, and does not look at them
                if damaged := archive.testzip():
                    raise DamageError(f"{damaged} has another checksum")
            file.seek(0)
            state: Any = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            seeking = isinstance(error, OSError) and error.errno == errno.EINVAL  # to where a damaged list points
            if isinstance(error, MemoryError | OSError) and not seeking:
                raise  # not the file's fault, which is deleted if it is
            raise DamageError(_first_line(error)) from error
    if not isinstance(state, dict) or "identity" not in state:
        raise DamageError("it is no checkpoint of a run")
    return state


def _first_line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).split("\n", 1)[0]


# ------------------------------------------------------------------------------------------------ identity


def run_identity(model: LanguageModel, plan: Plan, seed: int, threads: int, precision: str, data: str) -> str:
    """A hash of all that decides the weights: what two runs that end with the same bits have in common."""
    machine = torch.cuda.get_device_name() if model.device.startswith("cuda") else _cpu_name()
    rooms = ("pileline.models.", "pileline.shards.", "pileline.training.")
    own = {part.__module__ for part in (*type(model).__mro__, *type(getattr(model, "network", None)).__mro__)}
    parts = {
        "model": model.configuration(),
        "plan": {name: value for name, value in asdict(plan).items() if name not in ("checkpoints", "samples")},
        "seed": seed,
        "threads": threads,
        "device": [model.device, machine, precision],
        "data": data,
        "code": code_identity({name for name in sys.modules if name.startswith(rooms)} | own),
        "torch": torch.__version__,
    }
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()


def code_identity(modules: Iterable[str]) -> str:
    """A hash of what imported modules do: their syntax trees, so comments do not count.

    Those of installed packages and of a notebook's own cells have no file of ours and are left out.
    """
    digest = hashlib.sha256()
    for name in sorted(modules):
        file = getattr(sys.modules.get(name), "__file__", None)
        if file and not {"site-packages", "lib-dynload"} & set(Path(file).parts):
            digest.update(_meaning(Path(file).read_text(encoding="utf-8")))
    return digest.hexdigest()


@lru_cache(maxsize=256)
def _meaning(source: str) -> bytes:
    return hashlib.sha256(ast.dump(ast.parse(source)).encode()).digest()


def _cpu_name() -> str:
    return f"{torch.cpu.get_capabilities().get('cpu_name', 'cpu')}, {torch.backends.cpu.get_cpu_capability()}"
