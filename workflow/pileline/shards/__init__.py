"""Shards: a corpus as tokens on disk, in Arrow files that training maps into memory.

`write` makes them; `open_shards` checks and maps them; `Loader` draws batches. The idea: the tokens of all
documents of a split are one long stream, and a batch is a function of the seed and the step alone.
"""

from pileline.shards.loader import Batches, Loader, prefetch
from pileline.shards.packing import PACKINGS, PADDING, Account
from pileline.shards.read import ShardSet, TokenStream, map_files, open_shards
from pileline.shards.write import DEFAULTS, SCHEMA_VERSION, ShardError, Written, write

__all__ = [
    "DEFAULTS",
    "PACKINGS",
    "PADDING",
    "SCHEMA_VERSION",
    "Account",
    "Batches",
    "Loader",
    "ShardError",
    "ShardSet",
    "TokenStream",
    "Written",
    "map_files",
    "open_shards",
    "prefetch",
    "write",
]
