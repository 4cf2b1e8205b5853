"""The cache of downloads: each file is fetched once, under a lock, and linked from here into the sources' folders.

A kind of origin says which files there are and how to get one (`Wanted`); what is the same for every kind stands
here. A file whose hash config.yaml pins is kept under that hash, so sources that share it share one download and one
copy on disk. Any other is kept under its address or version, beside the hash that it had when it came: it is trusted
at first use, and what is damaged later is noticed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from pileline import manifest
from pileline.sources.errors import SourceError


@dataclass(frozen=True)
class Wanted:
    """A file of an origin. `get` brings it to a path and returns its SHA-256; it may leave a part beside the path."""

    name: str  # its path in the stage's folder
    place: str  # its address or version, in full
    sha256: str | None  # as config.yaml pins it
    get: Callable[[Path], str]

    def kept(self, cache: Path) -> Path:
        """Where the cache holds the file."""
        folder = self.sha256 or f"unpinned/{hashlib.sha256(self.place.encode()).hexdigest()}"
        return cache / folder / Path(self.name).name


def obtain(wanted: Wanted, cache: Path, output: Path) -> dict[str, Any]:
    """Put the file into `output` and describe it: `{"path", "bytes", "sha256", "pinned"}`. Raises `SourceError`."""
    kept = wanted.kept(cache)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(kept.parent / "lock"):
        found = _held(kept, wanted.sha256)
        if found is None:
            found = wanted.get(kept)
            if wanted.sha256 is None:
                _record(kept).write_text(found + "\n", encoding="utf-8")
            kept.chmod(0o444)  # the copies are links to it: nothing should write through one of them
        else:
            print(f"{wanted.name}: taken from the cache", flush=True)
    target = output / wanted.name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)  # there when the notebook is run again by hand
    try:
        os.link(kept, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(kept, target)
    pinned = wanted.sha256 is not None
    return {"path": wanted.name, "bytes": target.stat().st_size, "sha256": found, "pinned": pinned}


def _record(kept: Path) -> Path:
    return kept.with_name(kept.name + ".sha256")


def _held(kept: Path, pinned: str | None) -> str | None:
    """The hash of the file that the cache holds, if it holds it whole."""
    if not kept.exists():
        return None
    record = _record(kept)
    expected = pinned or (record.read_text(encoding="utf-8").strip() if record.exists() else None)
    found = manifest.sha256(kept)
    if found == expected:
        return found
    print(f"{kept.name}: the copy in the cache is damaged; fetching it again", flush=True)
    kept.unlink()
    return None


def wrong_content(where: str, length: int, found: str, expected: str, elsewhere: str) -> SourceError:
    """The error of a file that arrived whole and is another than the pinned one."""
    return SourceError(
        f"{where}: wrong content, {length:,} bytes with SHA-256\n  found    {found}\n  expected {expected}\n"
        "The file changed where it lies or on its way. If you trust the new one, put its hash in the source's "
        f"`sha256` in config.yaml; else try again or use {elsewhere}"
    )
