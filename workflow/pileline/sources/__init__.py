"""Sources: where text comes from. Files are downloaded and checked, then read as documents.

`download` gets a source's files, part by part, `read_raw` puts the parts together, `extract` reads the documents of a
part as its `Reading` says, `contents` lists what an archive holds. Whatever goes wrong is a `SourceError`.
"""

from pileline.sources.download import Raw, download, downloaded, read_raw, written
from pileline.sources.errors import SourceError
from pileline.sources.extraction import EMPTY, GAPS, Extracted, Extraction, contents, extract
from pileline.sources.patterns import is_archive
from pileline.sources.reading import Reading
from pileline.sources.record import MALFORMED, MISSING, NUL, TOO_LONG, UNDECODABLE

__all__ = [
    "EMPTY",
    "GAPS",
    "MALFORMED",
    "MISSING",
    "NUL",
    "TOO_LONG",
    "UNDECODABLE",
    "Extracted",
    "Extraction",
    "Raw",
    "Reading",
    "SourceError",
    "contents",
    "download",
    "downloaded",
    "extract",
    "is_archive",
    "read_raw",
    "written",
]
