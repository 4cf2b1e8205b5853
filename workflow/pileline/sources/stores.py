"""Files in object stores and on hubs, read through fsspec: `s3://`, `gs://`, `hf://` and whatever else it knows.

Keys and options are taken from where each store's library looks for them (AWS_PROFILE, HF_TOKEN, FSSPEC_S3_ANON,
...), never from config.yaml. A copy goes on where it ended as long as the store says that the file is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
from fsspec.registry import known_implementations

from pileline import manifest
from pileline.progress import Progress, readable
from pileline.sources import addresses
from pileline.sources.cache import Wanted, wrong_content
from pileline.sources.errors import SourceError
from pileline.sources.http import PASSING, Hints, InterruptedDownloadError, Patience, retry, retry_after

HINTS = Hints("the source's `fsspec` in config.yaml", "another store")
BLOCK = 1024 * 1024  # bytes handed on at a time
REQUEST = 16 * BLOCK  # bytes asked for at a time: hubs count requests
# What no second try mends; fsspec raises the last for what a store cannot do.
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, NotImplementedError)


def wanted(origin: dict[str, Any], patience: Patience) -> list[Wanted]:
    """The files of an `fsspec` origin: those of each address or glob, in the order of their names. `SourceError`."""
    found: list[tuple[Any, str]] = []
    for address in addresses.expand("fsspec", origin["fsspec"]):
        store, path = _store(address)
        found += [(store, file) for file in retry(partial(_matching, store, path, address), address, patience, HINTS)]
    urls = [store.unstrip_protocol(path) for store, path in found]
    names = addresses.names("fsspec", urls)
    return [
        Wanted(name, url, pin, partial(_get, store, path, url, pin, patience))
        for (store, path), url, name, pin in zip(
            found, urls, names, addresses.pins(origin.get("sha256"), names), strict=True
        )
    ]


def _store(address: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it."""
    protocol, _, rest = address.partition("://")
    if not rest or "::" in address or address.endswith("/"):
        raise SourceError(
            f"`fsspec: {address}` should be the address of a file or a glob, as s3://bucket/folder/*.parquet; archives "
            "are opened by `read`"
        )
    try:
        store, path = fsspec.core.url_to_fs(address)
    except ImportError as error:
        missing = known_implementations.get(protocol, {}).get("err", str(error))
        raise SourceError(f"`fsspec: {address}`: a package is missing. {missing}, with pip, and run again") from None
    except ValueError as error:
        raise SourceError(
            f"`fsspec: {address}`: {error}; known are: {', '.join(sorted(known_implementations))}"
        ) from None
    return store, path


def _matching(store: Any, path: str, address: str) -> list[str]:
    """The files that a path or a glob names, sorted."""
    if not fsspec.core.has_magic(path):
        return [path]
    try:
        found = store.glob(path, detail=True)
    except Exception as error:
        raise _judged(error, address) from error
    files = sorted(name for name, about in found.items() if about["type"] == "file")
    if not files:
        raise SourceError(f"`fsspec: {address}` matches no file; mend the glob in config.yaml")
    return files


def _judged(error: Exception, address: str) -> InterruptedDownloadError | SourceError:
    """Whether what a store's library raised may pass: libraries raise all kinds of errors for a lost connection."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    refused = isinstance(status, int) and 400 <= status < 500 and status not in PASSING
    what = f"{address}: {type(error).__name__} {error}".strip()
    if refused or isinstance(error, _FINAL):
        return SourceError(f"{what}; check {HINTS.named_by}, and the keys that the store asks for")
    headers = getattr(response, "headers", {}) if status is not None else {}
    return InterruptedDownloadError(what, retry_after(headers.get("Retry-After")))


def _get(store: Any, path: str, address: str, pin: str | None, patience: Patience, kept: Path) -> str:
    """Copy a file from a store, in as many tries as it takes, and return its SHA-256."""
    copy = _Copy(store, path, address, kept.with_name(kept.name + ".part"))
    with Progress(f"downloading {kept.name}", unit="B") as progress:
        retry(lambda: copy.attempt(progress), kept.name, patience, HINTS, copy.length)
    found = manifest.sha256(copy.part)
    if pin is not None and found != pin:
        length = copy.length()
        copy.drop()
        raise wrong_content(address, length, found, pin, HINTS.elsewhere)
    copy.part.replace(kept)
    copy.drop()
    return found


@dataclass
class _Copy:
    """One file on its way into `part`; beside it stands what the store said of the file when its first byte came."""

    store: Any
    path: str
    address: str
    part: Path

    def length(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _beside(self) -> Path:
        return self.part.with_name(self.part.name + ".validator")

    def drop(self) -> None:
        self.part.unlink(missing_ok=True)
        self._beside().unlink(missing_ok=True)

    def attempt(self, progress: Progress) -> None:
        """Copy what is missing; `InterruptedDownloadError` where another try may get further."""
        try:
            size = self._copy(progress)
        except Exception as error:
            raise _judged(error, self.address) from error
        if size is not None and self.length() != size:
            raise InterruptedDownloadError(
                f"{readable(self.length(), 'B')} came, of {readable(size, 'B')} that the store states"
            )

    def _copy(self, progress: Progress) -> int | None:
        if self.length():
            self.store.invalidate_cache(self.path)  # ask again: the file may have changed since
        about, version = self.store.info(self.path), self.store.ukey(self.path)
        size: int | None = about.get("size")
        progress.total = size
        known = self._beside().read_text(encoding="utf-8") if self._beside().exists() else None
        if known != version or (size is not None and self.length() > size):
            self.drop()
            self._beside().write_text(version, encoding="utf-8")
        progress.done = float(self.length())
        with self.store.open(self.path, "rb", block_size=REQUEST) as remote, self.part.open("ab") as local:
            if local.tell():
                remote.seek(local.tell())
            while block := remote.read(BLOCK):
                local.write(block)
                local.flush()
                progress.add(len(block))
        return size
