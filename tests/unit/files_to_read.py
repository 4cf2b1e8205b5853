"""Files for tests of reading: archives made in memory, and the documents that a source with them has."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

from pileline import manifest, sources
from pileline.sources import Extracted, Reading


def tar(members: dict[str, bytes], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def read(folder: Path, name: str, data: bytes, **reading: Any) -> list[Extracted]:
    """The documents of one downloaded file, as the cleaning stage sees them."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)
    return list(sources.extract(packaged(folder, name), Reading.from_dict(reading)))


def packaged(folder: Path, *names: str) -> sources.Raw:
    """Files of a package in `folder`, as if downloaded."""
    files = [
        {"number": number, "path": str(folder / name), **manifest.describe(folder / name)}
        for number, name in enumerate(names)
    ]
    return sources.Raw("s", "pypi", files, True, folder)


def texts(documents: list[Extracted]) -> list[str]:
    return [item.text for item in documents if item.reason is None]


def reasons(documents: list[Extracted]) -> list[tuple[str | None, int]]:
    return [(item.reason, item.size) for item in documents if item.reason is not None]


def ar(members: dict[str, bytes]) -> bytes:
    """A Debian package's outer archive."""
    packed = b"!<arch>\n"
    for name, data in members.items():
        packed += (
            f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
        )
    return packed
