"""The one error of this room: a source that cannot be had or read, with what to do about it."""

from __future__ import annotations


class SourceError(RuntimeError):
    """A source's files cannot be fetched or read. The message says what was found, where, and what to do."""
