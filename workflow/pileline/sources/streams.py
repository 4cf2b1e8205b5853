"""Byte streams of files that nobody vouches for: decompressed by their endings, counted, and bounded.

Whatever a file expands to is paid from a `Budget`, and damage in it, whatever library notices, is a `SourceError`
that names the file. So nothing downstream has to know that bytes came from an archive.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa

from pileline.sources.errors import SourceError

MEGABYTE = 1_000_000
EXPANSION = 200  # a file may expand to so many times its size (text compresses 3 to 10 times) ...
EXPANSION_FLOOR = 256 * MEGABYTE  # ... or to this, whichever is more
COMPRESSED = (".gz", ".dz", ".bz2", ".xz", ".zst")  # .dz is dictzip: gzip, in blocks
UNKNOWN = (".7z", ".rar", ".lz4", ".lzma", ".lz", ".br", ".z", ".sz", ".snappy")  # packed in ways that are not read
SPOOLED = 16 * MEGABYTE  # kept in memory of a stream that must be sought in; the rest goes to an unnamed file
BUFFER = 256 * 1024
# What readers of archives raise for damage; zipfile has NotImplementedError for a compression that it does not know.
DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError),
    *(NotImplementedError, UnicodeDecodeError, pa.ArrowException),
)


def damaged(file: Path, error: Exception) -> SourceError:
    return SourceError(f"{file}: damaged, or not what its name says ({error}); fetch or make it again")


class Budget:
    """How many bytes a file may still expand to."""

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
        except DAMAGE as error:
            raise damaged(self._budget.file, error) from error
        self._budget.spend(len(data))
        buffer[: len(data)] = data
        return len(data)


class Section(io.RawIOBase):
    """The next `size` bytes of a stream, as a stream."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream, self._left = stream, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(min(len(buffer), self._left))
        if not data and self._left and len(buffer):
            raise EOFError(f"it ends {self._left:,} bytes before its end")
        self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)


def counted(stream: IO[bytes], budget: Budget) -> io.BufferedReader:
    return io.BufferedReader(_Counted(stream, budget), BUFFER)


def expanded(name: str, stream: IO[bytes], budget: Budget) -> IO[bytes]:
    """The stream without the compression that the name's ending states."""
    match Path(name).suffix.lower():
        case ".gz" | ".dz" | ".tgz":
            return counted(cast(IO[bytes], gzip.GzipFile(fileobj=stream)), budget)
        case ".bz2" | ".tbz2":
            return counted(cast(IO[bytes], bz2.BZ2File(stream)), budget)
        case ".xz" | ".txz":
            return counted(cast(IO[bytes], lzma.LZMAFile(stream)), budget)
        case ".zst":
            return counted(cast(IO[bytes], pa.CompressedInputStream(stream, "zstd")), budget)
    return stream


def seekable(stream: IO[bytes]) -> IO[bytes]:
    """The stream, or a copy of what is left of it that can be sought in, held on disk where it is long."""
    if stream.seekable():
        return stream
    copy = tempfile.SpooledTemporaryFile(SPOOLED)  # noqa: SIM115  (closed, and gone, when nobody holds it)
    while data := stream.read(MEGABYTE):
        copy.write(data)
    copy.seek(0)
    return cast(IO[bytes], copy)
