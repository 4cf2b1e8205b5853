"""The user's own files: named by a glob, read where they are, and pinned by their hashes."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any

from pileline import manifest
from pileline.progress import Progress
from pileline.sources.errors import SourceError


def describe(pattern: str) -> list[dict[str, Any]]:
    """The files that the glob matches, sorted: `[{"path", "bytes", "sha256"}]`, paths as the glob gives them.

    `**` stands for any depth of folders. `SourceError` if nothing matches.
    """
    paths = sorted(path for path in map(Path, glob.glob(pattern, recursive=True)) if path.is_file())  # noqa: PTH207
    if not paths:
        raise SourceError(
            f"`path: {pattern}` matches no file below {Path.cwd()}; put files there or mend the glob "
            "(`**` stands for any depth of folders)"
        )
    total = sum(path.stat().st_size for path in paths)
    described = []
    with Progress("hashing files", total=total, unit="B") as progress:
        for path in paths:
            described.append({"path": path.as_posix(), **manifest.describe(path)})
            progress.add(described[-1]["bytes"])
    return described
