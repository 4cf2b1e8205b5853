"""The one way in which a glob of config.yaml becomes files: the rules and the download stage see the same."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

_ANY_DEPTH = re.compile(r"(?<![^/])\*\*(?![^/])")  # `**` as a whole part of a path; elsewhere it means `*`


def matching_files(pattern: str) -> list[str]:
    """The regular files that a glob matches, sorted, below the folder that the glob begins with.

    `~` is the home folder, `**` any depth of folders; a trailing `**` takes every file below. Names that begin
    with a dot are passed over unless the glob spells the dot. Links are followed, but not in a circle.
    """
    found = filter(os.path.isfile, _matches(os.path.expanduser(pattern)))  # noqa: PTH111
    return [str(path) for path in sorted(set(map(Path, found)))]


def _matches(pattern: str) -> Iterator[str]:
    """As `glob.glob(recursive=True)`, which would enter a circle of links some 40 times, and two of them 2^40 times."""
    any_depth = _ANY_DEPTH.search(pattern)
    if any_depth is None:
        yield from glob.glob(pattern)  # noqa: PTH207
        return
    head, tail = pattern[: any_depth.start()], pattern[any_depth.end() :].lstrip("/") or "*"
    for start in glob.glob(head) if head else [""]:  # noqa: PTH207
        for folder in _folders(start, frozenset()):
            yield from _matches(os.path.join(glob.escape(folder), tail))  # noqa: PTH118


def _folders(folder: str, around: frozenset[tuple[int, int]]) -> Iterator[str]:
    """A folder and those below it, without hidden ones and those that it stands in itself (`around`)."""
    try:
        place = Path(folder).stat()
        names = sorted(os.listdir(folder or "."))  # noqa: PTH208
    except OSError:  # gone or closed to us: as glob, nothing is found there
        return
    if (place.st_dev, place.st_ino) in around:
        return
    yield folder
    for name in names:
        inside = os.path.join(folder, name)  # noqa: PTH118
        if not name.startswith(".") and os.path.isdir(inside):  # noqa: PTH112
            yield from _folders(inside, around | {(place.st_dev, place.st_ino)})
