"""The user's own files: named by a glob, read where they are, their hashes recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pileline import manifest
from pileline.files import matching_files
from pileline.progress import Progress
from pileline.sources.errors import SourceError


def matching(pattern: str) -> list[Path]:
    """The files that the glob matches, sorted, as it gives them; `SourceError` if there is none.

    The glob is one of `files.matching_files`.
    """
    paths = [Path(path) for path in matching_files(pattern)]
    if not paths and Path(pattern).expanduser().is_dir():
        raise SourceError(f"`path: {pattern}` is a folder; write {pattern.rstrip('/')}/** for all the files below it")
    if not paths:
        raise SourceError(
            f"`path: {pattern}` matches no file below {Path.cwd()}; put files there or mend the glob "
            "(`**` stands for any depth of folders)"
        )
    return paths


def describe(paths: list[Path]) -> list[dict[str, Any]]:
    """What a manifest says of each file: `{"path", "bytes", "sha256", "pinned"}`."""
    total = sum(path.stat().st_size for path in paths)
    described = []
    with Progress("hashing files", total=total, unit="B") as progress:
        for path in paths:
            described.append({"path": path.as_posix(), **manifest.describe(path), "pinned": False})
            progress.add(described[-1]["bytes"])
    return described
