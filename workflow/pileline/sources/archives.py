"""Members of archives and plain files as byte streams, one after another, never unpacked to disk.

An archive is somebody else's input. Nothing of it is written anywhere, so no name in it can point out of a
folder; what it expands to is bounded, in all and by member; links and devices are refused by name; an
archive inside an archive is opened only when a pattern names it (`*/inner.tar.gz/*/x.txt`).
"""

from __future__ import annotations

import bz2
import functools
import gzip
import io
import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from pileline.sources.errors import SourceError

ZIP = (".zip", ".whl")
TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
MEGABYTE = 1_000_000
EXPANSION = 200  # an archive may expand to so many times its size (text compresses 3 to 10 times) ...
EXPANSION_FLOOR = 256 * MEGABYTE  # ... or to this, whichever is more
NESTING = 3  # archives inside archives, at most
HEADER = MEGABYTE  # longest name or extended header in a tar
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
_Member = tuple[str, IO[bytes], int]  # name, stream and size, all as in the archive
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, NotImplementedError)


@dataclass(frozen=True)
class Patterns:
    """Which members are read: those that a glob of `members` matches and none of `exclude`.

    `*` and `?` stay within a folder, `**` stands for any number of folders, and a glob without "/" is compared
    with the member's name alone.
    """

    members: tuple[str, ...] = ("**",)
    exclude: tuple[str, ...] = ()
    skip_special: bool = False  # pass over links, devices and encrypted members instead of refusing them

    def select(self, name: str) -> bool:
        return any(matches(name, glob) for glob in self.members) and not any(matches(name, x) for x in self.exclude)

    def enter(self, name: str) -> bool:
        """Whether a pattern reaches into the archive of that name."""
        return is_archive(name) and any(matches(name, inner) for glob in self.members for inner in _reached(glob))


def _reached(glob: str) -> list[str]:
    """The archives that a glob names on its way: the parts up to each folder that ends as an archive does."""
    parts = glob.split("/")
    return ["/".join(parts[: i + 1]) for i, part in enumerate(parts[:-1]) if is_archive(part)]


def matches(name: str, glob: str) -> bool:
    """Whether a path with "/" matches a glob, as `Patterns` says."""
    compare = name if "/" in glob or glob == "**" else name.rpartition("/")[2]
    return _compiled(glob).fullmatch(compare) is not None


@functools.lru_cache(maxsize=1024)
def _compiled(glob: str) -> re.Pattern[str]:
    written = ""
    for part in re.findall(r"\*\*/|\*\*|\*|\?|[^*?]+", glob):
        written += {"**/": r"(?:.*/)?", "**": r".*", "*": r"[^/]*", "?": r"[^/]"}.get(part, re.escape(part))
    return re.compile(written, re.DOTALL)


def damaged(file: Path, error: Exception) -> SourceError:
    return SourceError(f"{file}: damaged, or not what its name says ({error}); fetch or make it again")


def is_archive(name: str) -> bool:
    return name.lower().endswith(ZIP + TAR)


class Budget:
    """How many bytes an archive may still expand to."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.whole = self.left = max(EXPANSION * file.stat().st_size, EXPANSION_FLOOR)

    def spend(self, amount: int) -> None:
        self.left -= amount
        if self.left < 0:
            raise SourceError(
                f"{self.file}: expands to more than {self.whole:,} bytes, {EXPANSION} times its size; "
                "it is not what it says, or a bomb. Use another file"
            )


class _Counted(io.RawIOBase):
    """A byte stream whose reads are paid from a budget, and whose damage is a `SourceError`."""

    def __init__(self, stream: IO[bytes], budget: Budget) -> None:
        self._stream, self._budget = stream, budget

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except _DAMAGE as error:
            raise damaged(self._budget.file, error) from error
        self._budget.spend(len(data))
        buffer[: len(data)] = data
        return len(data)


class _CheckedTarInfo(tarfile.TarInfo):
    """A tar header that refuses to read long names or extended headers of absurd length into memory."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if not (self.isreg() or self.isdir()) and self.size > HEADER:
            raise tarfile.ReadError(f"a header of {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc, no-any-return]


def members(path: Path, patterns: Patterns, name: str | None = None) -> Iterator[tuple[str, IO[bytes]]]:
    """Each selected member's name and stream; a stream is valid until the next is asked for.

    Members of an archive are named by their path inside it, members of an archive in it by both paths; a plain
    file is its own member, named `name`, by default its path. Files ending in .gz, .bz2, .xz and .zst are
    decompressed, the name kept. Raises `SourceError` for damage, links, and expansion beyond bounds.
    """
    budget = Budget(path)
    try:
        with path.open("rb") as file:
            if is_archive(path.name):
                for inner, stream, _ in _archive(path.name, file, "", patterns, budget, 1):
                    yield inner, _expanded(inner, stream, budget)
            elif patterns.select(name or path.as_posix()):
                yield name or path.as_posix(), _expanded(path.name, file, budget)
    except _DAMAGE as error:
        raise damaged(path, error) from error


def sizes(path: Path) -> Iterator[tuple[str, int]]:
    """Each member's name and bytes, as `members` would name and read them; links and the like are passed over.

    A zip's directory says them; of a tar only the headers are looked at. What is compressed once more is read.
    """
    budget = Budget(path)
    try:
        with path.open("rb") as file:
            held: Iterator[_Member] = iter([(path.name, file, path.stat().st_size)])
            if is_archive(path.name):
                held = _archive(path.name, file, "", Patterns(skip_special=True), budget, 1)
            for name, stream, size in held:
                if Path(name).suffix.lower() in COMPRESSED:
                    size = _length(_expanded(name, stream, budget))
                yield name, size
    except _DAMAGE as error:
        raise damaged(path, error) from error


def _length(stream: IO[bytes]) -> int:
    return sum(map(len, iter(lambda: stream.read(MEGABYTE), b"")))


def _archive(
    name: str, file: IO[bytes], prefix: str, patterns: Patterns, budget: Budget, depth: int
) -> Iterator[_Member]:
    """The selected members of one archive, and of those inside it that a pattern names."""
    if depth > NESTING:
        raise SourceError(f"{budget.file}: {prefix} lies more than {NESTING} archives deep; take it out first")
    seen: set[str] = set()
    for inner, stream, size in (_zip if name.lower().endswith(ZIP) else _tar)(name, file, prefix, patterns, budget):
        if inner in seen:
            raise SourceError(f"{budget.file}: has '{inner}' twice; leave it out by the source's `except`")
        seen.add(inner)
        if patterns.enter(inner):
            yield from _archive(inner, stream, inner + "/", patterns, budget, depth + 1)
        else:
            yield inner, stream, size


def _zip(_: str, file: IO[bytes], prefix: str, patterns: Patterns, budget: Budget) -> Iterator[_Member]:
    if not file.seekable():
        file = io.BytesIO(file.read())  # a zip inside an archive: its index is at its end
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            inner = prefix + info.filename
            if info.is_dir() or not (patterns.select(inner) or patterns.enter(inner)):
                continue
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                _refuse(budget.file, inner, "a link" if stat.S_ISLNK(kind) else "a special file", patterns)
                continue
            if info.flag_bits & 1:
                _refuse(budget.file, inner, "encrypted", patterns)
                continue
            with archive.open(info) as stream:
                yield inner, _counted(stream, budget), info.file_size


def _tar(name: str, file: IO[bytes], prefix: str, patterns: Patterns, budget: Budget) -> Iterator[_Member]:
    # Read as a stream of plain tar over our own decompression, so that skipped members are counted too.
    plain = _expanded(name.lower().replace(".tgz", ".gz"), file, budget)
    with tarfile.open(fileobj=plain, mode="r|", tarinfo=_CheckedTarInfo) as archive:
        for info in archive:
            inner = prefix + info.name
            if info.isdir() or not (patterns.select(inner) or patterns.enter(inner)):
                continue
            if not info.isreg():
                _refuse(budget.file, inner, "a link" if info.issym() or info.islnk() else "a special file", patterns)
                continue
            yield inner, _counted(cast(IO[bytes], archive.extractfile(info)), budget), info.size


def _refuse(file: Path, inner: str, what: str, patterns: Patterns) -> None:
    if not patterns.skip_special:
        raise SourceError(f"{file}: '{inner}' is {what}, which is not read; leave it out by the source's `except`")


def _counted(stream: IO[bytes], budget: Budget) -> io.BufferedReader:
    return io.BufferedReader(_Counted(stream, budget), 64 * 1024)


def _expanded(name: str, stream: IO[bytes], budget: Budget) -> IO[bytes]:
    """The stream without the compression that the name's ending states."""
    match Path(name).suffix.lower():
        case ".gz":
            return _counted(cast(IO[bytes], gzip.GzipFile(fileobj=stream)), budget)
        case ".bz2":
            return _counted(cast(IO[bytes], bz2.BZ2File(stream)), budget)
        case ".xz":
            return _counted(cast(IO[bytes], lzma.LZMAFile(stream)), budget)
        case ".zst":
            import pyarrow as pa

            return _counted(cast(IO[bytes], pa.CompressedInputStream(stream, "zstd")), budget)
    return stream
