"""A web server on 127.0.0.1 for tests: any files, with ranges, ETags and the faults of bad networks."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit


@dataclass
class Files:
    """What is served. Each request of a path meets the path's next fault, if it has one.

    A fault is a status, the bytes after which the connection drops, or a change that is made before the answer.
    """

    content: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[int | tuple[str, int] | Callable[[], None]]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)  # sent with refusals
    validators: bool = True  # whether answers have an ETag
    judges: bool = True  # whether If-Range is heeded
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)  # path, Range, If-Range
    url: str = ""

    def etag(self, path: str) -> str:
        return f'"{hashlib.md5(self.content[path]).hexdigest()}"'

    def starts(self, path: str) -> list[int]:
        """Where each answer to a request of a path was asked to begin."""
        return [int(span.removeprefix("bytes=")[:-1]) if span else 0 for asked, span, _ in self.asked if asked == path]


class Handler(http.server.BaseHTTPRequestHandler):
    files: Files

    def log_message(self, *_: object) -> None: ...

    def reply(self, status: int, body: bytes, headers: dict[str, str], send: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):  # a client that has gone
            self.wfile.write(b"" if self.command == "HEAD" else body[:send])
        self.close_connection = True

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.files.asked.append((path, self.headers.get("Range"), self.headers.get("If-Range")))
        fault = self.files.faults[path].pop(0) if self.files.faults.get(path) else None
        if callable(fault):
            fault()
        if isinstance(fault, int):
            self.reply(fault, b"", self.files.headers)
        elif path not in self.files.content:
            self.reply(404, b"", {})
        else:
            self.file(path, fault[1] if isinstance(fault, tuple) else None)

    def file(self, path: str, send: int | None) -> None:
        body, tag = self.files.content[path], {"ETag": self.files.etag(path)} if self.files.validators else {}
        asked, condition = self.headers.get("Range"), self.headers.get("If-Range")
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", asked) if asked else None
        if span is None or (condition and self.files.judges and condition != tag.get("ETag")):
            self.reply(200, body, tag, send)
            return
        start, stop = int(span[1]), int(span[2]) + 1 if span[2] else len(body)
        if start >= len(body):
            self.reply(416, b"", tag | {"Content-Range": f"bytes */{len(body)}"})
            return
        stop = min(stop, len(body))
        self.reply(206, body[start:stop], tag | {"Content-Range": f"bytes {start}-{stop - 1}/{len(body)}"}, send)


@contextlib.contextmanager
def serve(files: Files, handler: type[Handler] = Handler) -> Iterator[Files]:
    """Serve the files, whose `url` is set to where they are, until the block ends."""
    kind = type("Serving", (handler,), {"files": files})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    files.url = f"http://127.0.0.1:{server.server_port}"
    yield files
    server.shutdown()
    server.server_close()
