"""Addresses of files, as config.yaml writes them: expanded, named and pinned in one order that never changes.

The order of an origin's files decides which part gets which, so it is that of the addresses as written; a file's name
in the stage's folder is what tells its address from the others: the path below the folder that all have in common.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

import braceexpand

from pileline.sources.errors import SourceError

RESERVED = {"manifest.json", "files.jsonl", "run.json"}  # what lies beside the files in the stage's folder


def expand(kind: str, written: str | list[str]) -> list[str]:
    """The addresses that `kind: written` stands for, braces expanded as shells do: "{00..29}", "{train,test}"."""
    found: list[str] = []
    for address in [written] if isinstance(written, str) else written:
        try:
            found += braceexpand.braceexpand(address)
        except ValueError:
            raise SourceError(
                f"`{kind}: {address}` has a brace without its other half; ranges are as {{00..29}}, and a brace of "
                "the address itself is written %7B or %7D"
            ) from None
    for address in found:
        if "@" in urlsplit(address).netloc and ":" in urlsplit(address).netloc.rpartition("@")[0]:
            raise SourceError(
                f"`{kind}`: an address holds a password, which config.yaml and the manifests would show; "
                "put it into ~/.netrc, or where the store's library looks for it"
            )
    return found


def names(kind: str, addresses: list[str]) -> list[str]:
    """A name for each address: its path below the folder that all addresses have in common."""
    paths = [_steps(kind, address) for address in addresses]
    common = 0
    while all(len(path) > common + 1 and path[common] == paths[0][common] for path in paths):
        common += 1
    found = ["/".join(path[common:]) for path in paths]
    if taken := sorted(RESERVED & set(found)):
        raise SourceError(f"`{kind}`: a file cannot be called {taken[0]}, as the stage's own is; fetch it by hand")
    if len(set(found)) < len(found):
        twice = next(name for name in found if found.count(name) > 1)
        raise SourceError(f"`{kind}` names '{twice}' twice; leave one out")
    return found


def _steps(kind: str, address: str) -> list[str]:
    """The host and the path of an address, step by step; none can lead out of a folder."""
    parts = urlsplit(address)
    steps = [unquote(step) for step in [parts.netloc.rpartition("@")[2], *parts.path.split("/")] if step]
    bad = (
        not steps
        or parts.path.endswith("/")
        or any(set(step) & set("/\\\0") or step in (".", "..") or not step.isprintable() for step in steps)
    )
    if bad:
        raise SourceError(f"`{kind}: {address}` is no address of a file; it should end in the file's name")
    return steps


def pins(sha256: Any, named: list[str]) -> list[str | None]:
    """The hash that config.yaml pins for each file: `sha256` is one hash for one file, or a hash by name."""
    if sha256 is None:
        return [None] * len(named)
    if isinstance(sha256, str):
        if len(named) != 1:
            raise SourceError(f"`sha256` is one hash, but there are {len(named)} files; give one for each, by name")
        return [sha256.lower()]
    if unknown := sorted(set(sha256) - set(named)):
        raise SourceError(f"`sha256` has '{unknown[0]}', which is none of the files: {', '.join(named[:10])}")
    return [sha256[name].lower() if name in sha256 else None for name in named]
