"""Manifests: the small JSON file that stands for everything a stage made.

A stage writes its data files and, last, `manifest.json`, which names each file with its size and
SHA-256 and holds the stage's metrics. Downstream stages and the report depend on this file alone, so
two rules follow: it holds nothing that changes when the same work is done again (no time, no host, no
absolute path), and it stays small, since Snakemake compares inputs by content only below 1 MB.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1
NAME = "manifest.json"
MAXIMUM_BYTES = 900_000  # below Snakemake's 1 MB limit for comparing inputs by checksum


class ManifestError(ValueError):
    """A manifest, or a file it names, is missing, damaged or too large."""


@dataclass(frozen=True)
class Manifest:
    """What a stage made: `files` maps a name to `{"bytes": int, "sha256": str}`."""

    stage: str
    folder: Path
    files: dict[str, dict[str, Any]]
    metrics: dict[str, Any]

    def path(self, name: str) -> Path:
        """The path of one of the stage's files, once its size and SHA-256 are found to be those recorded."""
        if name not in self.files:
            raise ManifestError(f"{self.folder / NAME}: no file '{name}'; it has: {', '.join(self.files)}")
        path = self.folder / name
        if not path.exists():
            raise ManifestError(f"{path}: missing, though {NAME} names it; delete {self.folder / NAME} and run again")
        found, recorded = describe(path), self.files[name]
        if found != recorded:
            raise ManifestError(
                f"{path}: changed since stage '{self.stage}' wrote it (found {found}, recorded {recorded}); "
                f"delete {self.folder / NAME} and run again"
            )
        return path

    def verify(self) -> None:
        """Compare every file with its recorded size and SHA-256; raise `ManifestError` at the first that differs."""
        for name in self.files:
            self.path(name)


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file, as manifests record them."""
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def canonical_json(value: Any) -> str:
    """One JSON text for one value: keys sorted, no blanks, no NaN. Equal values give equal strings."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def write(folder: str | Path, stage: str, metrics: dict[str, Any], files: list[str] | None = None) -> Manifest:
    """Write `folder/manifest.json` and return it.

    `files` are names below `folder`; by default every file in it, at any depth, that is not a manifest.
    Metrics must be JSON values without NaN or infinity, and the whole at most `MAXIMUM_BYTES`.
    """
    folder = Path(folder)
    if files is None:
        files = sorted(
            str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != NAME
        )
    described = {name: describe(folder / name) for name in files}
    document = {"schema_version": SCHEMA_VERSION, "stage": stage, "files": described, "metrics": metrics}
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    if len(text.encode()) > MAXIMUM_BYTES:
        raise ManifestError(
            f"{folder / NAME}: {len(text.encode()):,} bytes, over {MAXIMUM_BYTES:,}; "
            "write long tables to a file of the stage and summarise them in the metrics"
        )
    (folder / NAME).write_text(text, encoding="utf-8")
    return Manifest(stage, folder, described, metrics)


def read(folder: str | Path, stage: str | None = None) -> Manifest:
    """Read `folder/manifest.json`; with `stage`, refuse the manifest of another stage."""
    folder = Path(folder)
    path = folder / NAME
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ManifestError(f"{path}: not found; run the stage that makes it first") from None
    except ValueError as error:
        raise ManifestError(f"{path}: not readable as JSON ({error}); delete it and run again") from None
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version != SCHEMA_VERSION:
        raise ManifestError(f"{path}: schema version {version}, expected {SCHEMA_VERSION}; delete it and run again")
    if stage is not None and document["stage"] != stage:
        raise ManifestError(f"{path}: written by stage '{document['stage']}', expected '{stage}'")
    return Manifest(document["stage"], folder, document["files"], document["metrics"])
