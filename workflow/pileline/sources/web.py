"""Files by their web addresses, each from the first of its servers that has it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests

from pileline.sources import addresses
from pileline.sources.cache import Wanted
from pileline.sources.errors import SourceError
from pileline.sources.http import Hints, Patience, fetch, shown

HINTS = Hints("the source's `http` in config.yaml", "another server (`mirrors`)")


def wanted(origin: dict[str, Any], patience: Patience) -> list[Wanted]:
    """The files of an `http` origin, which may have `sha256` and `mirrors`. Raises `SourceError`.

    A mirror is the address of the folder that holds the files by their names in the stage's folder.
    """
    urls = addresses.expand("http", origin["http"])
    names = addresses.names("http", urls)
    mirrors = addresses.expand("mirrors", origin.get("mirrors", []))
    return [
        Wanted(
            name, url, pin, partial(_get, [url, *(f"{m.rstrip('/')}/{quote(name)}" for m in mirrors)], pin, patience)
        )
        for url, name, pin in zip(urls, names, addresses.pins(origin.get("sha256"), names), strict=True)
    ]


def _get(urls: list[str], pin: str | None, patience: Patience, kept: Path) -> str:
    """Fetch from the first address that does not fail for good."""
    failures: list[SourceError] = []
    with requests.Session() as session:
        session.headers["User-Agent"] = "pileline"
        for url in urls:
            if failures:
                print(f"{kept.name}: {failures[-1]}\n{kept.name}: going on with {shown(url)}", flush=True)
            try:
                return fetch(session, url, kept, pin, None, patience, HINTS)
            except SourceError as error:
                failures.append(error)
            except requests.RequestException as error:  # not a dropped connection: no address, too many redirects
                failures.append(SourceError(f"{shown(url)}: {error}; check {HINTS.named_by}"))
    if len(failures) == 1:
        raise failures[0]
    each = "\n".join(f"- {failure}" for failure in failures)
    raise SourceError(f"{kept.name}: no server has it, of {len(failures)} tried\n{each}")
