"""Checkpoints: everything a killed run needs to end as if it had not been killed, bit by bit.

A checkpoint is one file, written beside its place, flushed to the disk and renamed, so that there is always
either the last one or the one before, whole. It is read without unpickling code (`weights_only`). It carries the
`identity` of its run (settings, data, seed, machine, code); one with another identity is not resumed.
"""

from __future__ import annotations

import ast
import hashlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

NAME = "checkpoint.pt"


def save(folder: Path, identity: str, state: dict[str, Any]) -> None:
    """Write the checkpoint atomically and durably."""
    part = folder / (NAME + ".part")
    with part.open("wb") as file:
        torch.save({"identity": identity, **state}, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / NAME)
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)  # the rename itself survives a power cut
    finally:
        os.close(directory)


def load(folder: Path, identity: str) -> dict[str, Any] | None:
    """The checkpoint's state, on the CPU; None where there is none, or it is another run's."""
    path = folder / NAME
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if state["identity"] != identity:
        print(f"{path} is of a run with other settings, data, code or machine: starting anew", flush=True)
        return None
    return state


def code_identity(modules: Iterable[str]) -> str:
    """A hash of what imported modules do: their syntax trees, so comments do not count."""
    digest = hashlib.sha256()
    for name in sorted(modules):
        source = Path(str(sys.modules[name].__file__)).read_text(encoding="utf-8")
        digest.update(ast.dump(ast.parse(source)).encode())
    return digest.hexdigest()
