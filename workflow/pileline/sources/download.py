"""The download stage: from an `origin` in config.yaml to files with known hashes.

Whatever the kind of an origin, its files are listed in one fixed order and numbered from 0. A part of a source gets
the files whose numbers are dealt to it, so that parts need not know of each other; `read_raw` puts them together.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pileline import manifest
from pileline.parts import WHOLE, Part, folders
from pileline.sources import cache as downloads
from pileline.sources import clients, files, pypi, stores, web
from pileline.sources.cache import Wanted
from pileline.sources.errors import SourceError
from pileline.sources.http import Patience

LISTED = 2000  # files that the manifest names itself; a longer list goes to a file, as manifests stay small
LISTING = "files.jsonl"
# The keys of each kind of origin: those it needs, and those it may have.
KINDS: dict[str, tuple[set[str], set[str]]] = {
    "pypi": ({"pypi", "file", "sha256"}, set()),
    "path": ({"path"}, set()),
    "http": ({"http"}, {"sha256", "mirrors"}),
    "fsspec": ({"fsspec"}, {"sha256"}),
    "npm": ({"npm"}, {"sha256"}),
    "debian": ({"debian"}, {"sha256"}),
}


@dataclass(frozen=True)
class Raw:
    """The files of a source, of all its parts: `[{"number", "path", "bytes", "sha256", "pinned"}]` by number.

    Paths open from here. `packaged` files were fetched and lie in the folders of the stage; others are the
    user's own, and lie where they are.
    """

    source: str
    kind: str
    files: list[dict[str, Any]]
    packaged: bool
    folder: Path  # of all parts, as messages name it


def download(
    source: str,
    origin: dict[str, Any],
    cache: str | Path,
    output: str | Path,
    index: str | None = None,
    patience: Patience | None = None,
    *,
    part: str = str(WHOLE),
) -> dict[str, Any]:
    """Get the files of one part of a source and return the stage's metrics.

    They are `source`, `kind`, `origin`, `part`, `listed` (how many files the origin has, in all parts) and `files`,
    `[{"path", "bytes", "sha256", "number", "pinned"}]`. Files are fetched into `output`, through `cache`; files of
    `{"path": glob}` are only described. Raises `SourceError`.
    """
    kind, share = _kind(source, origin), Part.parse(part)
    metrics: dict[str, Any] = {"source": source, "kind": kind, "origin": origin, "part": part}
    described: list[dict[str, Any]]
    if kind == "path":
        paths = files.matching(origin["path"])
        numbers = [number for number in range(len(paths)) if share.takes(number)]
        described, listed = files.describe([paths[number] for number in numbers]), len(paths)
    else:
        wanted = _wanted(kind, origin, Path(cache), index, patience or Patience())
        numbers = [number for number in range(len(wanted)) if share.takes(number)]
        described = [downloads.obtain(wanted[number], Path(cache), Path(output)) for number in numbers]
        listed = len(wanted)
    described = [{**file, "number": number} for number, file in zip(numbers, described, strict=True)]
    if len(described) > LISTED:
        lines = (json.dumps(file, ensure_ascii=False, sort_keys=True) + "\n" for file in described)
        (Path(output) / LISTING).write_text("".join(lines), encoding="utf-8")
        described = []
    else:
        (Path(output) / LISTING).unlink(missing_ok=True)  # there when the notebook is run again by hand
    return metrics | {"listed": listed, "files": described}


def _kind(source: str, origin: dict[str, Any]) -> str:
    named = [kind for kind in KINDS if kind in origin]
    if len(named) != 1:
        raise SourceError(f"source {source}: its origin has {sorted(origin)}; it needs one of: {', '.join(KINDS)}")
    needed, optional = KINDS[named[0]]
    if missing := needed - set(origin):
        raise SourceError(f"source {source}: a source of kind {named[0]} needs {_quoted(missing)}")
    if extra := set(origin) - needed - optional:
        raise SourceError(f"source {source}: a source of kind {named[0]} has no {_quoted(extra)}; leave it out")
    return named[0]


def _quoted(keys: set[str]) -> str:
    return " and ".join(f"`{key}`" for key in sorted(keys))


def _wanted(kind: str, origin: dict[str, Any], cache: Path, index: str | None, patience: Patience) -> list[Wanted]:
    """All files of an origin that are fetched, in their order."""
    match kind:
        case "pypi":
            return pypi.wanted(origin, index, patience)
        case "http":
            return web.wanted(origin, patience)
        case "fsspec":
            return stores.wanted(origin, patience)
        case "npm":
            return clients.npm(origin, patience)
        case _:
            return clients.debian(origin, cache, patience)


def downloaded(folder: str | Path, metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """The files of one part, as its metrics have them, with paths that open from here.

    `folder` is the part's.
    """
    listing = Path(folder) / LISTING
    named = metrics["files"]
    if not named and listing.exists():
        named = [json.loads(line) for line in listing.read_text(encoding="utf-8").splitlines()]
    if metrics["kind"] == "path":
        return list(named)
    return [file | {"path": str(Path(folder) / file["path"])} for file in named]


def written(metrics: dict[str, Any]) -> list[str]:
    """The files below the part's folder that its manifest names itself: those fetched, or the long list of them."""
    if not metrics["files"]:
        return [LISTING] if metrics["listed"] > LISTED else []
    return [] if metrics["kind"] == "path" else [file["path"] for file in metrics["files"]]


def read_raw(folder: str | Path, parts: int) -> Raw:
    """The downloaded source that lies below `folder` in `parts` parts.

    Raises `SourceError` where the parts do not complement each other, as when the origin changed between them.
    """
    found = [manifest.read(path, "download") for path in folders(folder, parts)]
    first = found[0].metrics
    numbered: dict[int, dict[str, Any]] = {}
    for part in found:
        for key in ("source", "kind", "origin", "listed"):
            if part.metrics[key] != first[key]:
                raise _unfitting(part.folder, f"has {key} {part.metrics[key]}, {found[0].folder} has {first[key]}")
        for file in downloaded(part.folder, part.metrics):
            if file["number"] in numbered:
                raise _unfitting(part.folder, f"has file {file['number']}, as another part")
            numbered[file["number"]] = file
    if sorted(numbered) != list(range(first["listed"])):
        raise _unfitting(Path(folder), f"its parts have {len(numbered)} of {first['listed']} files")
    return Raw(
        first["source"],
        first["kind"],
        [numbered[number] for number in range(first["listed"])],
        first["kind"] != "path",
        Path(folder),
    )


def _unfitting(folder: Path, what: str) -> SourceError:
    return SourceError(
        f"{folder}: {what}; the parts are of different downloads. Delete the source's folder and run again"
    )
