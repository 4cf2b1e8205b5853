"""From a source's files to its documents as extracted: nothing cleaned yet, nothing lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pileline import manifest
from pileline.manifest import Manifest
from pileline.sources.archives import is_archive, members, sizes
from pileline.sources.download import downloaded
from pileline.sources.errors import SourceError
from pileline.sources.formats import Record, records
from pileline.sources.reading import Reading
from pileline.sources.splitting import split

EMPTY = "empty"  # a text without any character but white space
GAPS = "white space at cuts"  # what `splitting.split` leaves out: bytes without a document


class Extracted(NamedTuple):
    """A document as extracted, or the `reason` why it is none.

    `size` counts the text's UTF-8 bytes; of an unreadable one the bytes that stood in its place. With the reason
    `GAPS` it counts the white space at all cuts of a text, and there is no document.
    """

    id: str  # "{source}/{member}#{number}"
    member: str
    text: str
    size: int
    metadata: str  # a JSON object
    reason: str | None = None


def extract(raw: Manifest, reading: Reading) -> Iterator[Extracted]:
    """The documents of a downloaded source, in the order of its files.

    Each file is compared with the hash that the download recorded. Raises `SourceError` if a file changed, an
    archive is damaged or beyond bounds, or no member matches.
    """
    source, found = raw.metrics["source"], 0
    for file in downloaded(raw.folder, raw.metrics):
        path = Path(file["path"])
        _check(path, file["sha256"], raw)
        packaged = raw.metrics["kind"] == "pypi"
        inside = f"{path.as_posix()}/" if is_archive(path.name) and not packaged else ""
        for name, stream in members(path, reading.patterns, path.name if packaged else None):
            found += 1
            member, number = inside + name, 0
            for record in records(stream, reading, f"source {source}, {member}"):
                for piece in _documents(record, reading.split):
                    yield Extracted(f"{source}/{member}#{number}", member, *piece)
                    number += piece[3] != GAPS
    if not found:
        raise SourceError(_nothing(raw, reading))


def _check(path: Path, sha256: str, raw: Manifest) -> None:
    if not path.exists() or manifest.sha256(path) != sha256:
        what = "changed" if path.exists() else "missing"
        raise SourceError(f"{path}: {what} since it was recorded; delete {raw.folder / manifest.NAME} and run again")


def _documents(record: Record, most: int | None) -> Iterator[tuple[str, int, str, str | None]]:
    """Text, size, metadata and reason of each document that a record makes."""
    metadata = json.dumps(_encodable(record.metadata), ensure_ascii=False, sort_keys=True, default=str)
    if record.reason is not None or not record.text.strip():
        yield record.text, record.size, metadata, record.reason or EMPTY
        return
    if most is None:
        yield record.text, record.size, metadata, None
        return
    pieces, gaps = split(record.text, most)
    for piece in pieces:
        yield piece, len(piece.encode()), metadata, None if piece.strip() else EMPTY
    if between := sum(len(gap.encode()) for gap in gaps):
        yield "", between, metadata, GAPS


def _encodable(value: Any) -> Any:
    """The JSON value with every lone surrogate replaced, so that it can be written as UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    return [_encodable(item) for item in value] if isinstance(value, list) else value


def _nothing(raw: Manifest, reading: Reading) -> str:
    names = [name for file in downloaded(raw.folder, raw.metrics)[:20] for name, _ in contents(file["path"])]
    some = "\n  ".join(names[:10])
    return (
        f"source {raw.metrics['source']}: no member matches {list(reading.members)} without {list(reading.exclude)}; "
        f"there are {len(names):,}, the first:\n  {some}\nMend `members` in the source's `read` block"
    )


def contents(path: str | Path) -> list[tuple[str, int]]:
    """What a file holds: each member's name and bytes, archives inside it not opened."""
    return list(sizes(Path(path)))
