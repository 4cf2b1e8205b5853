"""Deduplication: exact copies by key, near duplicates by MinHash LSH whose every candidate is verified.

The stage, in order: `read` an inventory, `find_exact`, `find_contained`, put the rest in `keep_order`, take
`signatures`, sort them into `buckets`, `resolve` these with the true similarity, `add_near`, `write`.
"""

from pileline.deduplication.boilerplate import Boilerplate, read_boilerplate, strip
from pileline.deduplication.findings import (
    Findings,
    add_near,
    find_contained,
    find_exact,
    keep_order,
    ledgers,
    signatures,
    similarity_between,
    write,
)
from pileline.deduplication.injected import recall, sample
from pileline.deduplication.inventory import Inventory, InventoryError, read
from pileline.deduplication.lsh import Buckets, buckets, probability
from pileline.deduplication.method import Method, MethodError
from pileline.deduplication.minhash import MinHash, Shingler
from pileline.deduplication.resolve import Resolution, relevant, resolve
from pileline.deduplication.summary import metrics

__all__ = [
    "Boilerplate",
    "Buckets",
    "Findings",
    "Inventory",
    "InventoryError",
    "Method",
    "MethodError",
    "MinHash",
    "Resolution",
    "Shingler",
    "add_near",
    "buckets",
    "find_contained",
    "find_exact",
    "keep_order",
    "ledgers",
    "metrics",
    "probability",
    "read",
    "read_boilerplate",
    "recall",
    "relevant",
    "resolve",
    "sample",
    "signatures",
    "similarity_between",
    "strip",
    "write",
]
