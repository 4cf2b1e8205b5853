"""Downloads that survive bad networks: resumed by HTTP ranges, repeated with growing pauses, checked by SHA-256.

A file arrives as `<path>.part` and takes its name only when its hash is right, so a file that has its name
is whole. An interrupted download, even one killed, goes on where the part ends. A server that does not
know ranges, or whose file has changed meanwhile, costs a new start, never a wrong file.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

import requests

from pileline import manifest
from pileline.progress import Progress, readable
from pileline.sources.cache import wrong_content
from pileline.sources.errors import SourceError

BLOCK = 16 * 1024  # bytes handed on at a time; at most so many are lost when a connection drops
PASSING = {408, 425, 429, 500, 502, 503, 504}  # statuses that a later try may not meet
_DROPPED = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
Made = TypeVar("Made")


@dataclass(frozen=True)
class Patience:
    """How long a download is tried. Waits are in seconds; each is twice the one before, up to `longest_wait`."""

    attempts: int = 6  # in a row without a byte of progress
    most_attempts: int = 100  # in all
    first_wait: float = 0.5
    longest_wait: float = 60.0  # also bounds what a server may ask for by Retry-After
    connect_timeout: float = 15.0
    read_timeout: float = 60.0

    @property
    def timeout(self) -> tuple[float, float]:
        return self.connect_timeout, self.read_timeout


@dataclass(frozen=True)
class Hints:
    """What messages tell the user to look at: what names the file, and where else it may be fetched."""

    named_by: str
    elsewhere: str


class InterruptedDownloadError(Exception):
    """A try failed in a way that the next may not; `wait` is the server's Retry-After in seconds, if it sent one."""

    def __init__(self, what: str, wait: float | None = None) -> None:
        super().__init__(what)
        self.wait = wait


def shown(url: str) -> str:
    """The URL without user name and password, for messages."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def refusal(response: requests.Response, hints: Hints) -> InterruptedDownloadError | SourceError:
    """The error that a response with a status of 400 or more stands for: one to try again after, or a final one."""
    what = f"{shown(response.url)} answered {response.status_code} {response.reason}"
    if response.status_code in PASSING:
        return InterruptedDownloadError(what, retry_after(response.headers.get("Retry-After")))
    return SourceError(f"{what}; check {hints.named_by}, or use {hints.elsewhere}")


def retry_after(header: str | None) -> float | None:
    """Seconds from a Retry-After header, which is a number or a date (RFC 9110, 10.2.3)."""
    if header is None:
        return None
    if header.strip().isdigit():
        return float(header)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None


def retry(
    action: Callable[[], Made], what: str, patience: Patience, hints: Hints, done: Callable[[], int] = lambda: 0
) -> Made:
    """Call `action` until it returns, pausing after each `InterruptedDownloadError` or dropped connection.

    `done` says how many bytes there are; a try that got some counts as a first one. `SourceError` when
    patience ends.
    """
    barren, wait = 0, patience.first_wait
    for attempt in range(1, patience.most_attempts + 1):
        before = done()
        try:
            return action()
        except (InterruptedDownloadError, *_DROPPED) as error:
            if done() > before:
                barren, wait = 0, patience.first_wait
            barren += 1
            reason, asked = str(error) or type(error).__name__, getattr(error, "wait", None)
        if barren >= patience.attempts or attempt == patience.most_attempts:
            break
        pause = min(wait if asked is None else max(asked, wait), patience.longest_wait)
        print(f"{what}: {reason}; trying again in {pause:.1f} s", flush=True)
        time.sleep(pause)
        wait = min(2 * wait, patience.longest_wait)
    raise SourceError(
        f"{what}: given up after {attempt} tries; the last: {reason}. Check the network, or use {hints.elsewhere}, "
        "and run again: the part that arrived is kept"
    )


def fetch(
    session: requests.Session,
    url: str,
    path: Path,
    sha256: str | None,
    size: int | None,
    patience: Patience,
    hints: Hints,
) -> str:
    """Download `url` to `path` and return its SHA-256; `size` in bytes, where known, bounds it.

    Raises `SourceError` when the server refuses, patience ends, or the bytes have another SHA-256 than a given one.
    """
    transfer = _Transfer(session, url, path.with_name(path.name + ".part"), sha256 is not None, size, patience, hints)
    found = transfer.run()
    if sha256 not in (None, found) and transfer.joined:
        print(f"{path.name}: the parts of two downloads do not fit; starting anew", flush=True)
        transfer.drop()
        found = transfer.run()
    if sha256 is not None and found != sha256:
        length = transfer.length()
        transfer.drop()
        raise wrong_content(shown(url), length, found, sha256, hints.elsewhere)
    transfer.part.replace(path)
    transfer.drop()
    return found


@dataclass
class _Transfer:
    """One file on its way into `part`; `joined` once the bytes of more than one try are in it.

    Beside the part stands the server's `validator` of its bytes, an ETag or a date, by which a later try learns
    whether the file is still the same. Without one, a part is taken up only where a hash will tell (`pinned`).
    """

    session: requests.Session
    url: str
    part: Path
    pinned: bool
    size: int | None
    patience: Patience
    hints: Hints
    joined: bool = False

    def length(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def run(self) -> str:
        """Bring the part to its end, in as many tries as it takes, and return its SHA-256."""
        name = self.part.name.removesuffix(".part")
        with Progress(f"downloading {name}", total=self.size, unit="B") as progress:
            progress.add(self.length())
            retry(lambda: self._try(progress), name, self.patience, self.hints, self.length)
        return manifest.sha256(self.part)

    def _try(self, progress: Progress) -> None:
        """Ask for what is missing and append it; `InterruptedDownloadError` if the connection ends before the file."""
        have, known = self.length(), self._known()
        if have and not known and not self.pinned:
            progress.add(-have)
            have = 0
        if have and have == self.size:
            self.joined = True
            return
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        if have and known:
            headers["If-Range"] = known
        with self.session.get(self.url, headers=headers, stream=True, timeout=self.patience.timeout) as response:
            if response.status_code == 416 and have:
                whole = response.headers.get("Content-Range") == f"bytes */{have}"
                if whole and (self.pinned or validator(response) == known):
                    self.joined = True  # ended before its hash was taken
                    return
                self._anew("the server has no bytes where the kept part ends", progress)
            if response.status_code >= 400:
                raise refusal(response, self.hints)
            if response.status_code != 206:
                progress.add(-have)  # the server sends the whole file: it knows no ranges, or has another file now
                have = 0
            elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                self._anew("the server sent another part than it was asked for", progress)
            elif known and validator(response) not in ("", known):
                self._anew("the file on the server changed", progress)
            self.joined = have > 0
            if not have:
                self.part.unlink(missing_ok=True)  # so that no part ever stands beside another file's validator
                self._beside().write_text(validator(response), encoding="utf-8")
            self._append(response, have, progress)

    def _append(self, response: requests.Response, have: int, progress: Progress) -> None:
        """Write the response's bytes behind the first `have` of the part."""
        length = response.headers.get("Content-Length", "")
        end = progress.total = have + int(length) if length.isdigit() else self.size
        with self.part.open("ab" if have else "wb") as file:
            for block in response.iter_content(BLOCK):
                have += len(block)
                if self.size is not None and have > self.size:
                    raise SourceError(f"{shown(self.url)}: longer than the {self.size:,} bytes that the index states")
                file.write(block)
                progress.add(len(block))
        if end is not None and have < end:
            raise InterruptedDownloadError(f"the connection ended after {readable(have, 'B')} of {readable(end, 'B')}")

    def _beside(self) -> Path:
        return self.part.with_name(self.part.name + ".validator")

    def _known(self) -> str:
        """The validator of the bytes in the part; empty where there is none."""
        return self._beside().read_text(encoding="utf-8") if self._beside().exists() else ""

    def drop(self) -> None:
        """Forget what arrived."""
        self.part.unlink(missing_ok=True)
        self._beside().unlink(missing_ok=True)

    def _anew(self, why: str, progress: Progress) -> None:
        progress.add(-self.length())
        self.drop()
        raise InterruptedDownloadError(f"{why}; starting anew", 0.0)


def validator(response: requests.Response) -> str:
    """What If-Range may name (RFC 9110, 13.1.5): a strong ETag, else the date of the last change; empty without."""
    etag: str = response.headers.get("ETag", "")
    if etag.startswith('"') and etag.isascii():
        return etag
    changed: str = response.headers.get("Last-Modified", "")
    return changed if changed.isascii() else ""
