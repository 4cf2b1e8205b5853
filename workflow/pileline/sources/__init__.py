"""Sources: where text comes from. Files are downloaded and checked, then read as documents.

`download` gets a source's files, `extract` reads their documents as its `Reading` says, `contents` lists what an
archive holds. Whatever goes wrong is a `SourceError`.
"""

from pileline.sources.download import Raw, download, downloaded, read_raw
from pileline.sources.errors import SourceError
from pileline.sources.extraction import EMPTY, GAPS, Extracted, contents, extract
from pileline.sources.formats import MALFORMED, MISSING, UNDECODABLE
from pileline.sources.reading import Reading

__all__ = [
    "EMPTY",
    "GAPS",
    "MALFORMED",
    "MISSING",
    "UNDECODABLE",
    "Extracted",
    "Raw",
    "Reading",
    "SourceError",
    "contents",
    "download",
    "downloaded",
    "extract",
    "read_raw",
]
