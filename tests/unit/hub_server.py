"""A hub of data sets on 127.0.0.1 for tests: what of Hugging Face's protocol listing and reading files needs."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.unit.file_server import Files, Handler

ROOT = Path(__file__).parents[2]
# The hub's address is read when its library is imported, so a download from another hub has a process of its own.
DOWNLOAD = """
import json, sys
from pileline import manifest, sources
from pileline.sources.http import Patience
source, origin, cache, output, part = json.loads(sys.argv[1])
patience = Patience(attempts=4, first_wait=0.01, longest_wait=0.05)
metrics = sources.download(source, origin, cache, output, patience=patience, part=part)
manifest.write(output, "download", metrics, sources.written(metrics))
"""


class Hub(Handler):
    """Serves files by their addresses on the hub, /datasets/{owner}/{name}/resolve/main/{path}, and lists them."""

    def do_GET(self) -> None:  # noqa: N802
        address = urlsplit(self.path)
        listed = re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(?:/(revision|tree)/main(?:/(.*))?)?", address.path)
        if listed is None:
            super().do_GET()
        elif listed[2] == "tree":
            self.files.asked.append((address.path, None, None))
            deep = parse_qs(address.query).get("recursive") == ["true"]
            self.json(list(self.tree(listed[1], unquote(listed[3] or ""), deep).values()))
        else:
            self.json({"id": listed[1], "sha": "c" * 40, "private": False, "downloads": 0, "likes": 0, "tags": []})

    def json(self, value: Any) -> None:
        self.reply(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def tree(self, repository: str, folder: str, deep: bool) -> dict[str, Any]:
        """What lies in a folder of a repository, by path."""
        root = f"/datasets/{repository}/resolve/main/"
        found: dict[str, Any] = {}
        for address, content in self.files.content.items():
            path = address.removeprefix(root)
            if not address.startswith(root) or not f"/{path}".startswith(f"/{folder}".rstrip("/") + "/"):
                continue
            inside = path[len(folder) :].strip("/").split("/")
            for depth in range(1, len(inside) if deep else min(2, len(inside))):
                name = "/".join([*filter(None, [folder]), *inside[:depth]])
                found[name] = {"type": "directory", "path": name, "oid": "b" * 40, "size": 0}
            if deep or len(inside) == 1:
                oid = hashlib.sha1(content).hexdigest()
                found[path] = {"type": "file", "path": path, "oid": oid, "size": len(content)}
        return found


def download(
    hub: Files, folder: Path, origin: dict[str, Any], part: str = "1-of-1", source: str = "words"
) -> subprocess.CompletedProcess[str]:
    """Run the download stage in a process for which the hub is the hub."""
    output = folder / "raw" / part
    output.mkdir(parents=True, exist_ok=True)
    arguments = json.dumps([source, origin, str(folder / "cache"), str(output), part])
    settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "0"}
    environment = os.environ | settings | {"PYTHONPATH": "workflow"}
    return subprocess.run(
        [sys.executable, "-c", DOWNLOAD, arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )
