"""Extractors: formats for the files of one package each, named in `EXTRACTORS`."""

from __future__ import annotations

from pileline.sources.record import Format

EXTRACTORS: dict[str, Format] = {}
