"""Files of npm and Debian packages, fetched as plain data by the clients `npm` and `apt-get`, where they are present.

The clients know their mirrors, keys and proxies, so they fetch; nothing is installed and no code of a package runs.
They work in a private folder and leave one file in it. Debian's versions move on: a package without `=version` is
the one that the package list has now, and the list's name for its file says which that was.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from pileline import manifest
from pileline.sources.cache import Wanted, wrong_content
from pileline.sources.errors import SourceError
from pileline.sources.http import Hints, InterruptedDownloadError, Patience, retry

NPM = re.compile(r"(?:@[\w.~-]+/)?[A-Za-z0-9_][\w.~-]*@\d+\.\d+\.\d+[\w.+-]*", re.ASCII)
DEBIAN = re.compile(r"[a-z0-9][a-z0-9+.-]+(?::[a-z0-9]+)?(?:=[A-Za-z0-9.+:~-]+)?")
_NPM_HINTS = Hints("the source's `npm` in config.yaml", "another registry (npm config set registry)")
_DEBIAN_HINTS = Hints("the source's `debian` in config.yaml", "another mirror (/etc/apt)")
# What the clients say when the same command may succeed later.
_PASSING = re.compile(
    r"ECONN|ETIMEDOUT|ENOTFOUND|EAI_AGAIN|ERR_SOCKET|FETCH_ERROR|E(?:429|5\d\d)\b"
    r"|Temporary failure|Connection (?:failed|timed out|reset)|Could not connect|  (?:429|5\d\d)  "
)
_LISTED = re.compile(r"^'[^']+' (\S+) (\d+)(?: (?:SHA256:([0-9a-f]{64})|\S*))?$", re.MULTILINE)


def npm(origin: dict[str, Any], patience: Patience) -> list[Wanted]:
    """The one file of an `npm` origin ("name@version"), which may have `sha256`. Raises `SourceError`."""
    package, pin = origin["npm"], origin.get("sha256")
    if not NPM.fullmatch(package):
        raise SourceError(f"`npm: {package}` should be a package and its version, as name@1.2.3 or @scope/name@1.2.3")
    name, _, version = package.rpartition("@")
    file = f"{name.removeprefix('@').replace('/', '-')}-{version}.tgz"
    pack = ["pack", "--ignore-scripts", "--fetch-retries=0", "--cache=cache", "--", package]
    return [Wanted(file, f"npm {package}", pin, partial(_get, "npm", pack, ".tgz", pin, _NPM_HINTS, patience))]


def debian(origin: dict[str, Any], cache: Path, patience: Patience) -> list[Wanted]:
    """The one file of a `debian` origin ("name" or "name=version"), which may have `sha256`. Raises `SourceError`."""
    package, pin = origin["debian"], origin.get("sha256")
    if not DEBIAN.fullmatch(package):
        raise SourceError(
            f"`debian: {package}` should be a package, as dict-foldoc, or one of its versions, as name=1.2-3"
        )
    download = ["download", "-o", "Acquire::Retries=0", "--", package]
    get = partial(_get, "apt-get", download, ".deb", pin, _DEBIAN_HINTS, patience)
    held = sorted((cache / pin).glob("*.deb")) if pin else []
    if held:  # the list may have a newer version by now
        return [Wanted(held[0].name, held[0].name, pin, get)]
    listing = retry(
        lambda: _run("apt-get", ["download", "--print-uris", *download[1:]], Path.cwd(), _DEBIAN_HINTS),
        f"apt-get, {package}",
        patience,
        _DEBIAN_HINTS,
    )
    listed = _LISTED.search(listing)
    if listed is None:
        raise SourceError(f"apt-get names no file for `debian: {package}`; it said:\n{listing.strip()[-2000:]}")
    file, stated = Path(listed[1]).name, listed[3]
    if pin and stated and stated != pin:
        raise SourceError(
            f"{file}: Debian's package list states another SHA-256 than config.yaml\n  list        {stated}\n"
            f"  config.yaml {pin}\nIts versions move on: put the new hash in config.yaml, or leave `sha256` out to "
            "have it recorded"
        )
    return [Wanted(file, f"debian {file}", pin, get)]


def _get(
    client: str, arguments: list[str], ending: str, pin: str | None, hints: Hints, patience: Patience, kept: Path
) -> str:
    """Let a client fetch one file in a private folder, and return its SHA-256."""
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix=f"{client}-") as private:
        retry(lambda: _run(client, arguments, Path(private), hints), f"{client}, {kept.name}", patience, hints)
        brought = [path for path in Path(private).iterdir() if path.suffix == ending and path.is_file()]
        if len(brought) != 1:
            raise SourceError(f"{client} was to bring {kept.name}, and brought {[path.name for path in brought]}")
        found = manifest.sha256(brought[0])
        if pin is not None and found != pin:
            raise wrong_content(kept.name, brought[0].stat().st_size, found, pin, hints.elsewhere)
        brought[0].replace(kept)
    return found


def _run(client: str, arguments: list[str], folder: Path, hints: Hints) -> str:
    """What a client prints; `InterruptedDownloadError` where the same command may succeed later."""
    program = shutil.which(client)
    if program is None:
        where = {"npm": "install Node.js", "apt-get": "run on Debian, Ubuntu or the like"}[client]
        raise SourceError(
            f"{hints.named_by} needs the program `{client}`, which is not here; {where}, or drop the source"
        )
    ran = subprocess.run(
        [program, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        env=os.environ | {"LC_ALL": "C", "npm_config_update_notifier": "false"},
    )
    if ran.returncode == 0:
        return ran.stdout
    said = "\n".join(line for line in (ran.stdout + ran.stderr).splitlines() if line.strip())[-2000:]
    if _PASSING.search(said):
        raise InterruptedDownloadError(said)
    hint = " If the package list is old or empty, `apt-get update` renews it." if client == "apt-get" else ""
    raise SourceError(f"{client} failed with code {ran.returncode}; check {hints.named_by}.{hint} It said:\n{said}")
