"""From a source's files to its documents as extracted: nothing cleaned yet, nothing lost.

A part of a source gets the files dealt to it. Where a source has fewer files than parts, every part reads all of them
and takes the documents dealt to it, in blocks. Either way the parts add up to the source, ids and counts included.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pileline import manifest
from pileline.parts import WHOLE, Part
from pileline.sources.archives import Member, members, sizes
from pileline.sources.download import Raw
from pileline.sources.errors import SourceError
from pileline.sources.formats import records
from pileline.sources.patterns import is_archive
from pileline.sources.reading import Reading
from pileline.sources.record import MALFORMED, PASSED_OVER, TOO_LONG, Record, unread
from pileline.sources.splitting import split

EMPTY = "empty"  # a text without any character but white space, or a member without any record
# Bytes of a document. Later stages hold each whole, several times over; what is longer is a file that wants `split`.
LONGEST = 30_000_000
GAPS = "white space at cuts"  # what `splitting.split` leaves out: bytes without a document
BLOCK = 256  # documents dealt to a part at once


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


@dataclass
class Extraction(Iterator[Extracted]):
    """The documents of a part of a source, in the order of its files; iterate over it once.

    At the end `members` counts the members that were read, and `passed_over` the records that `where` does not
    select: they are other sources' and none of this one's documents. Both are the part's share, so parts add up.
    """

    raw: Raw
    reading: Reading
    part: Part = WHOLE
    members: int = 0
    passed_over: dict[str, int] = field(default_factory=lambda: {"documents": 0, "bytes": 0})

    def __post_init__(self) -> None:
        self._by_file = len(self.raw.files) >= self.part.of
        self._seen = {"members": 0, "documents": 0, "passed over": 0}  # of all parts, where documents are dealt
        self._shared = Counter(Path(file["path"]).name for file in self.raw.files)
        self._items = self._read()

    def __next__(self) -> Extracted:
        return next(self._items)

    def counts(self) -> dict[str, Any]:
        """`members` and `passed_over`, as metrics carry them."""
        return {"members": self.members, "passed_over": dict(self.passed_over)}

    def _read(self) -> Iterator[Extracted]:
        for file in self.raw.files:
            if not self._by_file or self.part.takes(file["number"]):
                yield from self._read_file(file)
        if self._by_file and self.part.of > 1:
            return  # what this part lacks, another may have
        if not self._seen["members"]:
            raise SourceError(_no_member(self.raw, self.reading))
        if self._seen["passed over"] and not self._seen["documents"]:
            raise SourceError(
                f"source {self.raw.source}: `where` selects none of {self._seen['passed over']:,} records; "
                f"it asks for {dict(self.reading.where)}. Compare the names and values with those in the files"
            )

    def _read_file(self, file: dict[str, Any]) -> Iterator[Extracted]:
        path, name = Path(file["path"]), self._name(file)
        _check(path, file["sha256"], self.raw)
        inside = f"{name}/" if is_archive(path.name) and (not self.raw.packaged or len(self.raw.files) > 1) else ""
        for member in members(path, self.reading.patterns, name):
            self.members += self._takes("members", 1)
            named, number = inside + member.name, 0
            for record in self._records(member, named):
                if record.reason == PASSED_OVER:
                    if self._takes("passed over", BLOCK):
                        self.passed_over["documents"] += 1
                        self.passed_over["bytes"] += record.size
                    continue
                for piece in _documents(record, self.reading.split):
                    if self._takes("documents", BLOCK):
                        yield Extracted(f"{self.raw.source}/{named}#{number}", named, *piece)
                    number += piece[3] != GAPS

    def _name(self, file: dict[str, Any]) -> str:
        """How ids name a file: the user's own by its path, another by its name, with its number where two share it."""
        path = Path(file["path"])
        if not self.raw.packaged:
            return path.as_posix()
        return f"{file['number']}/{path.name}" if self._shared[path.name] > 1 else path.name

    def _records(self, member: Member, name: str) -> Iterator[Record]:
        """The member's records, at least one: a member that is not read, or has none, is counted too."""
        if member.stream is None:
            yield unread(member.size, str(member.reason))
            return
        record = None
        for record in records(member.stream, self.reading, f"source {self.raw.source}, {name}"):
            yield record
        if record is None:
            yield unread(0, EMPTY)

    def _takes(self, what: str, block: int) -> bool:
        """Whether the next of these things is dealt to this part."""
        number = self._seen[what]
        self._seen[what] += 1
        return self._by_file or self.part.takes(number // block)


def extract(raw: Raw, reading: Reading, part: Part = WHOLE) -> Extraction:
    """The documents of a downloaded source, or of a part of it, in the order of its files.

    Each file is compared with the hash that the download recorded. Raises `SourceError` if a file changed, an
    archive is damaged or beyond bounds, or, where the part reads all files, no member or record is selected.
    """
    return Extraction(raw, reading, part)


def _check(path: Path, sha256: str, raw: Raw) -> None:
    if not path.is_file() or manifest.sha256(path) != sha256:
        what = "changed" if path.exists() else "missing"
        raise SourceError(f"{path}: {what} since it was recorded; delete {raw.folder} and run again")


def _documents(record: Record, most: int | None) -> Iterator[tuple[str, int, str, str | None]]:
    """Text, size, metadata and reason of each document that a record makes."""
    try:
        metadata = _written(record.metadata) if record.metadata else "{}"
    except RecursionError:
        yield "", record.size, "{}", MALFORMED
        return
    if record.reason is not None or not record.text or record.text.isspace():
        yield record.text, record.size, metadata, record.reason or EMPTY
        return
    if most is None:
        yield _document(record.text, record.size, metadata)
        return
    pieces, gaps = split(record.text, most)
    for piece in pieces:
        yield _document(piece, len(piece.encode()), metadata)
    if between := sum(len(gap.encode()) for gap in gaps):
        yield "", between, metadata, GAPS


def _document(text: str, size: int, metadata: str) -> tuple[str, int, str, str | None]:
    if size > LONGEST:
        return "", size, metadata, TOO_LONG
    return text, size, metadata, None if text.strip() else EMPTY


def _written(metadata: dict[str, Any]) -> str:
    """The metadata as JSON; what is no JSON value (a time, bytes, not a number) as text."""
    return json.dumps(_encodable(metadata), ensure_ascii=False, sort_keys=True, default=str)


def _encodable(value: Any) -> Any:
    """The JSON value with every lone surrogate replaced, so that it can be written as UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_encodable(str(key)): _encodable(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return [_encodable(item) for item in value] if isinstance(value, list) else value


def _no_member(raw: Raw, reading: Reading) -> str:
    names = [name for file in raw.files[:20] for name, _ in contents(file["path"])]
    some = "\n  ".join(names[:10])
    return (
        f"source {raw.source}: no member matches {list(reading.members)} without {list(reading.exclude)}; "
        f"there are {len(names):,}, the first:\n  {some}\nMend `members` in the source's `read` block"
    )


def contents(path: str | Path) -> list[tuple[str, int]]:
    """What a file holds: each member's name and bytes, archives inside it not opened."""
    return list(sizes(Path(path)))
