"""Is one model better than another on the same holdout? A paired bootstrap over documents.

Two models scored on the same documents share what makes a document easy or hard, so the interval of their
difference is much narrower than their own two intervals suggest. With bits a_i and b_i and bytes n_i of
document i, documents are drawn with replacement and

    difference = (sum a_i - sum b_i) / sum n_i

is recomputed; its 2.5 and 97.5 percentiles bound it (Efron and Tibshirani 1993, chapter 13; Koehn 2004 for
paired comparison of language systems). The interval says how far the choice of holdout documents matters. It does not
say how far another training seed would: that takes further runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq

from pileline.report.read import Stage

REPLICATES = 2000


@dataclass(frozen=True)
class Difference:
    """Bits per byte of one evaluation minus another's, with its 95 % interval; negative: the first is better."""

    value: float
    low: float
    high: float
    relative: float  # the difference over the second's bits per byte
    documents: int
    paired: bool

    @property
    def clear(self) -> bool:
        """Does the interval leave out zero?"""
        return self.low > 0 or self.high < 0


def paired_bootstrap(
    first: np.ndarray, second: np.ndarray, sizes: np.ndarray, seed: int, replicates: int = REPLICATES
) -> tuple[float, float]:
    """95 % bounds of (sum first - sum second) / sum sizes over documents; three float arrays of shape [documents]."""
    generator = np.random.default_rng(seed)
    gaps = first - second
    draws = np.empty(replicates)
    for replicate in range(replicates):
        chosen = generator.integers(0, len(gaps), len(gaps))
        draws[replicate] = gaps[chosen].sum() / sizes[chosen].sum()
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def _bits(stage: Stage) -> dict[str, tuple[float, float]]:
    """Bits and bytes of each scored document by id; empty where the evaluation kept no table of them."""
    if "documents.parquet" not in stage.files or not (stage.folder / "documents.parquet").exists():
        return {}
    table = pq.read_table(stage.folder / "documents.parquet", columns=["id", "bits", "bytes"]).to_pydict()
    return dict(zip(table["id"], zip(table["bits"], table["bytes"], strict=True), strict=True))


def difference(first: Stage, second: Stage, seed: int = 0) -> Difference | None:
    """Compare two evaluations (first minus second); None where either has no overall score.

    With both tables of documents the bootstrap is paired. Otherwise the interval is the one of two
    independent estimates: half-widths added in quadrature, wider than it need be.
    """
    one, two = first.metrics.get("overall"), second.metrics.get("overall")
    if not one or not two or first.metrics.get("holdout") != second.metrics.get("holdout"):
        return None
    a, b = _bits(first), _bits(second)
    shared = sorted(key for key in a.keys() & b.keys() if a[key][1] > 0)
    if shared and len(shared) == len(a) == len(b):
        bits = np.array([(a[key][0], b[key][0], a[key][1]) for key in shared], dtype=np.float64)
        low, high = paired_bootstrap(bits[:, 0], bits[:, 1], bits[:, 2], seed)
        value = float((bits[:, 0].sum() - bits[:, 1].sum()) / bits[:, 2].sum())
        relative = value / float(bits[:, 1].sum() / bits[:, 2].sum())
        return Difference(value, low, high, relative, len(shared), True)
    value = one["bits_per_byte"] - two["bits_per_byte"]
    if not one.get("interval") or not two.get("interval"):
        return None
    half = np.hypot(*((score["interval"][1] - score["interval"][0]) / 2 for score in (one, two)))
    relative = value / two["bits_per_byte"]
    return Difference(value, value - float(half), value + float(half), relative, int(one["documents"]), False)
