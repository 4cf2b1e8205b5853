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


class InterruptedDownloadError(Exception):
    """A try failed in a way that the next may not; `wait` is the server's Retry-After in seconds, if it sent one."""

    def __init__(self, what: str, wait: float | None = None) -> None:
        super().__init__(what)
        self.wait = wait


def shown(url: str) -> str:
    """The URL without user name and password, for messages."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def refusal(response: requests.Response) -> InterruptedDownloadError | SourceError:
    """The error that a response with a status of 400 or more stands for: one to try again after, or a final one."""
    what = f"{shown(response.url)} answered {response.status_code} {response.reason}"
    if response.status_code in PASSING:
        return InterruptedDownloadError(what, _retry_after(response.headers.get("Retry-After")))
    return SourceError(f"{what}; check the source's `pypi` and `file` in config.yaml, and the index (PIP_INDEX_URL)")


def _retry_after(header: str | None) -> float | None:
    """Seconds from a Retry-After header, which is a number or a date (RFC 9110, 10.2.3)."""
    if header is None:
        return None
    if header.strip().isdigit():
        return float(header)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None


def retry(action: Callable[[], Made], what: str, patience: Patience, done: Callable[[], int] = lambda: 0) -> Made:
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
        f"{what}: given up after {attempt} tries; the last: {reason}. Check the network, or name another index in "
        "PIP_INDEX_URL, and run again: the part that arrived is kept"
    )


def fetch(
    session: requests.Session,
    url: str,
    path: Path,
    sha256: str,
    size: int | None = None,
    patience: Patience | None = None,
) -> None:
    """Download `url` to `path`; `size` in bytes, where known, bounds it.

    Raises `SourceError` when the server refuses, patience ends, or the bytes have another SHA-256.
    """
    transfer = _Transfer(session, url, path.with_name(path.name + ".part"), size, patience or Patience())
    found = transfer.run()
    if found != sha256 and transfer.joined:
        print(f"{path.name}: the parts of two downloads do not fit; starting anew", flush=True)
        transfer.part.unlink()
        found = transfer.run()
    if found != sha256:
        length = transfer.length()
        transfer.part.unlink()
        raise SourceError(
            f"{shown(url)}: wrong content, {length:,} bytes with SHA-256\n  found    {found}\n  expected {sha256}\n"
            "The file changed on the server or on its way. If you trust the new one, put its hash in the source's "
            "`sha256` in config.yaml; else try again or use another index (PIP_INDEX_URL)"
        )
    transfer.part.replace(path)


@dataclass
class _Transfer:
    """One file on its way into `part`; `joined` once the bytes of more than one try are in it."""

    session: requests.Session
    url: str
    part: Path
    size: int | None
    patience: Patience
    joined: bool = False

    def length(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def run(self) -> str:
        """Bring the part to its end, in as many tries as it takes, and return its SHA-256."""
        name = self.part.name.removesuffix(".part")
        with Progress(f"downloading {name}", total=self.size, unit="B") as progress:
            progress.add(self.length())
            retry(lambda: self._try(progress), name, self.patience, self.length)
        return manifest.sha256(self.part)

    def _try(self, progress: Progress) -> None:
        """Ask for what is missing and append it; `InterruptedDownloadError` if the connection ends before the file."""
        have = self.length()
        if have and have == self.size:
            self.joined = True
            return
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with self.session.get(self.url, headers=headers, stream=True, timeout=self.patience.timeout) as response:
            if response.status_code == 416 and have:
                self._drop("the server has no bytes where the kept part ends")
            if response.status_code >= 400:
                raise refusal(response)
            if response.status_code != 206:
                progress.add(-have)  # the server sends the whole file
                have = 0
            elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                self._drop("the server sent another part than it was asked for")
            self.joined = have > 0
            self._append(response, have, progress)

    def _append(self, response: requests.Response, have: int, progress: Progress) -> None:
        """Write the response's bytes behind the first `have` of the part."""
        length = response.headers.get("Content-Length", "")
        end = have + int(length) if length.isdigit() else self.size
        with self.part.open("ab" if have else "wb") as file:
            for block in response.iter_content(BLOCK):
                have += len(block)
                if self.size is not None and have > self.size:
                    raise SourceError(f"{shown(self.url)}: longer than the {self.size:,} bytes that the index states")
                file.write(block)
                progress.add(len(block))
        if end is not None and have < end:
            raise InterruptedDownloadError(f"the connection ended after {readable(have, 'B')} of {readable(end, 'B')}")

    def _drop(self, why: str) -> None:
        self.part.unlink()
        raise InterruptedDownloadError(f"{why}; starting anew", 0.0)
