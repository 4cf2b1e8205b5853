"""Members of archives and plain files as byte streams, one after another, never unpacked to disk.

An archive is somebody else's input. Nothing of it is written under a name of its own, and names are made harmless
before they become part of an id; what it expands to is bounded, in all and by member; links, devices and encrypted
members are given with a reason instead of a stream; an archive inside an archive is opened only when a pattern names
it (`*/inner.tar.gz/*/x.txt`). Damage of any kind is a `SourceError` that names the file.
"""

from __future__ import annotations

import re
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple, cast

from pileline.sources.errors import SourceError
from pileline.sources.patterns import DEB, ZIP, Patterns, is_archive
from pileline.sources.streams import (
    COMPRESSED,
    DAMAGE,
    MEGABYTE,
    UNKNOWN,
    Budget,
    Section,
    counted,
    damaged,
    expanded,
    seekable,
)

NESTING = 3  # archives inside archives, at most
HEADER = MEGABYTE  # longest name or extended header in a tar
LINK = "a link or device"
ENCRYPTED = "encrypted"
_STRANGE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

_NO_HEADER = (
    tarfile.InvalidHeaderError,  # type: ignore[attr-defined]
    tarfile.TruncatedHeaderError,  # type: ignore[attr-defined]
    tarfile.EmptyHeaderError,  # type: ignore[attr-defined]  # the file ends, and no mark of the archive's end came
)


class Member(NamedTuple):
    """A member's name, and its stream until the next is asked for, or the `reason` why it is not read."""

    name: str
    stream: IO[bytes] | None
    size: int  # as the archive states it
    reason: str | None = None


class _CheckedTarInfo(tarfile.TarInfo):
    """A tar header that is not read if it is absurdly long, and whose damage is not taken for the archive's end."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> _CheckedTarInfo:
        try:
            return super().fromtarfile(archive)
        except _NO_HEADER as error:
            raise tarfile.ReadError(f"{error} at byte {archive.offset:,}") from error  # type: ignore[attr-defined]

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if not (self.isreg() or self.isdir()) and self.size > HEADER:
            raise tarfile.ReadError(f"a header of {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc, no-any-return]


def members(path: Path, patterns: Patterns, name: str | None = None) -> Iterator[Member]:
    """Each selected member; a stream is valid until the next is asked for.

    Members of an archive are named by their path inside it, members of an archive in it by both paths; a plain
    file is its own member, named `name`, by default its path. What ends in .gz, .dz, .bz2, .xz and .zst is
    decompressed, the name kept. Raises `SourceError` for damage, unknown compression, and expansion beyond bounds.
    """
    budget = Budget(path)
    try:
        with path.open("rb") as file:
            if is_archive(path.name):
                for member in _archive(path.name, file, "", patterns, budget, 1):
                    stream = member.stream and expanded(member.name, member.stream, budget)
                    yield member._replace(stream=stream)
            elif patterns.select(name or path.as_posix()):
                if path.suffix.lower() in UNKNOWN:
                    raise SourceError(
                        f"{path}: packed as {path.suffix}, which is not read; pack it anew as one of "
                        f"{', '.join(COMPRESSED)}, or leave it out by the source's `except`"
                    )
                yield Member(name or path.as_posix(), expanded(path.name, file, budget), path.stat().st_size)
    except DAMAGE as error:
        raise damaged(path, error) from error


def sizes(path: Path) -> Iterator[tuple[str, int]]:
    """Each member's name and bytes, as `members` would name and read them; what it would not read is left out.

    A zip's directory says them; of a tar only the headers are looked at. What is compressed once more is read; if it
    is damaged, as files that programs are tested with may be on purpose, it has the bytes that it takes up.
    """
    budget = Budget(path)
    try:
        with path.open("rb") as file:
            held: Iterator[Member] = iter([Member(path.name, file, path.stat().st_size)])
            if is_archive(path.name):
                held = _archive(path.name, file, "", Patterns(), budget, 1)
            for name, stream, size, _ in held:
                if stream and Path(name).suffix.lower() in COMPRESSED:
                    try:
                        size = _length(expanded(name, stream, budget))
                    except SourceError:  # if it is the archive that is damaged, the next member says so
                        if not is_archive(path.name):
                            raise
                if stream:
                    yield name, size
    except DAMAGE as error:
        raise damaged(path, error) from error


def _length(stream: IO[bytes]) -> int:
    return sum(map(len, iter(lambda: stream.read(MEGABYTE), b"")))


def harmless(name: str) -> str:
    """A member's name as a relative path without "..", of valid Unicode on one line.

    What is taken out stands as %XX of its bytes, so that names that differ stay different.
    """
    parts = [part.replace(".", "%2E") if part == ".." else part for part in name.split("/") if part not in ("", ".")]
    return _STRANGE.sub(_percent, "/".join(parts)) or "%2E"


def _percent(found: re.Match[str]) -> str:
    character = found[0]
    escaped = "\udc80" <= character <= "\udcff"  # a byte that was not UTF-8, as tarfile hands it on
    data = bytes([ord(character) - 0xDC00]) if escaped else character.encode("utf-8", "surrogatepass")
    return "".join(f"%{byte:02X}" for byte in data)


def _archive(
    name: str, file: IO[bytes], prefix: str, patterns: Patterns, budget: Budget, depth: int
) -> Iterator[Member]:
    """The selected members of one archive, and of those inside it that a pattern names."""
    if depth > NESTING:
        raise SourceError(f"{budget.file}: {prefix} lies more than {NESTING} archives deep; take it out first")
    read = _zip if name.lower().endswith(ZIP) else _deb if name.lower().endswith(DEB) else _tar
    seen: set[str] = set()
    for member in read(name, file, prefix, patterns, budget):
        if member.name in seen:
            raise SourceError(f"{budget.file}: has '{member.name}' twice; leave it out by the source's `except`")
        seen.add(member.name)
        if member.stream and patterns.enter(member.name):
            yield from _archive(member.name, member.stream, member.name + "/", patterns, budget, depth + 1)
        else:
            yield member


def _zip(_: str, file: IO[bytes], prefix: str, patterns: Patterns, budget: Budget) -> Iterator[Member]:
    with zipfile.ZipFile(seekable(file)) as archive:  # its index is at its end
        for info in archive.infolist():
            inner = prefix + harmless(info.filename)
            if info.is_dir() or not (patterns.select(inner) or patterns.enter(inner)):
                continue
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
                yield Member(inner, None, 0, LINK)
            elif info.flag_bits & 1:
                yield Member(inner, None, info.file_size, ENCRYPTED)
            else:
                with archive.open(info) as stream:
                    yield Member(inner, counted(stream, budget), info.file_size)


def _tar(name: str, file: IO[bytes], prefix: str, patterns: Patterns, budget: Budget) -> Iterator[Member]:
    # Read as a stream of plain tar over our own decompression, so that skipped members are counted too.
    plain = expanded(name, file, budget)
    with tarfile.open(fileobj=plain, mode="r|", tarinfo=_CheckedTarInfo, errors="surrogateescape") as archive:
        for info in archive:
            archive.members.clear()  # type: ignore[attr-defined]  # it would keep every header it has read
            inner = prefix + harmless(info.name)
            if info.isdir() or not (patterns.select(inner) or patterns.enter(inner)):
                continue
            if info.isreg():
                yield Member(inner, counted(cast(IO[bytes], archive.extractfile(info)), budget), info.size)
            else:
                yield Member(inner, None, 0, LINK)
    while rest := plain.read(MEGABYTE):  # to the end, where a compressed file has its checksum
        if rest.strip(b"\0"):
            raise tarfile.ReadError("there are bytes after its end, as if two archives were put together")


def _deb(_: str, file: IO[bytes], prefix: str, patterns: Patterns, budget: Budget) -> Iterator[Member]:
    """The files that a Debian package installs: it is an `ar` archive that holds them as data.tar."""
    if file.read(8) != b"!<arch>\n":
        raise tarfile.ReadError("it does not begin as a Debian package does")
    while header := file.read(60):
        if len(header) < 60 or header[58:] != b"`\n" or not header[48:58].strip().isdigit():
            raise tarfile.ReadError("a header in it is damaged")
        name, size = header[:16].decode("ascii", "replace").strip().rstrip("/"), int(header[48:58])
        section = cast(IO[bytes], Section(file, size))
        if name.startswith("data.tar"):
            yield from _tar(name, counted(section, budget), prefix, patterns, budget)
            return
        _length(section)
        file.read(size % 2)  # members begin at even places
    raise tarfile.ReadError("it holds no data.tar")
