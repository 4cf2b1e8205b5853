"""Deduplication: exact copies by key, near duplicates by MinHash LSH whose every candidate is verified.

The stage, in order: `read` an inventory, `find_exact`, `scan` the texts once, `find_contained`, `find_contaminated`,
put the rest in `keep_order`, sort its signatures into `buckets`, `resolve` these with the true similarity, `add_near`,
`write`, `find_boilerplate`. Mixing takes what it wrote, and strips with `strip`.
"""

from pileline.deduplication.boilerplate import find_boilerplate
from pileline.deduplication.contaminated import Decontamination, DecontaminationError
from pileline.deduplication.findings import (
    Findings,
    add_near,
    find_contained,
    find_contaminated,
    find_exact,
    keep_order,
    ledgers,
    similarity_between,
    write,
)
from pileline.deduplication.injected import quality, sample
from pileline.deduplication.inventory import Inventory, InventoryError, read
from pileline.deduplication.lsh import Buckets, buckets, probability
from pileline.deduplication.method import Method, MethodError
from pileline.deduplication.minhash import MinHash, Shingler
from pileline.deduplication.resolve import Resolution, relevant, resolve
from pileline.deduplication.scan import Scanned, scan
from pileline.deduplication.summary import decontamination, metrics

__all__ = [
    "Buckets",
    "Decontamination",
    "DecontaminationError",
    "Findings",
    "Inventory",
    "InventoryError",
    "Method",
    "MethodError",
    "MinHash",
    "Resolution",
    "Scanned",
    "Shingler",
    "add_near",
    "buckets",
    "decontamination",
    "find_boilerplate",
    "find_contained",
    "find_contaminated",
    "find_exact",
    "keep_order",
    "ledgers",
    "metrics",
    "probability",
    "quality",
    "read",
    "relevant",
    "resolve",
    "sample",
    "scan",
    "similarity_between",
    "write",
]
