"""Recall, measured: known near duplicates are planted beside real documents, and LSH is asked to find them.

A copy in which a share e of the characters is replaced keeps a shingle of w characters with probability
q = (1 - e)^w, so its similarity is about J = q / (2 - q). Turned round, e = 1 - (2J / (1 + J))^(1/w) plants a copy
near any wanted similarity. The copy's true similarity is then measured like any candidate's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pileline.deduplication import lsh
from pileline.deduplication.inventory import Inventory
from pileline.deduplication.minhash import MinHash, Shingler, band_hashes, normalized, stream
from pileline.deduplication.verify import ShingleSets

WANTED = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
EDGES = np.round(np.arange(0.4, 1.01, 0.1), 1)
_LONGEST = 4000  # characters of a document that are used


def edited(text: str, similarity: float, shingle: int, seed: int) -> str:
    """A copy of `text` whose shingle similarity with it is about `similarity`: some characters become others."""
    share = 1 - (2 * similarity / (1 + similarity)) ** (1 / shingle)
    chosen = stream(seed, 4, len(text)) < np.uint64(int(share * 2**64))
    characters = np.array(list(text))
    # Private-use characters stand in no text, so an edit never makes a shingle that the text has elsewhere.
    characters[chosen] = [chr(0xE000 + place % 6400) for place in np.flatnonzero(chosen)]
    return "".join(characters)


def sample(inventory: Inventory, count: int, shingle: int) -> list[str]:
    """Normalized texts of the `count` documents with the smallest keys that are long enough to be edited gently."""
    long = np.flatnonzero(inventory.own & (inventory.size >= 40 * shingle))
    wanted = np.zeros(len(inventory), bool)
    wanted[long[np.argsort(inventory.key[long], kind="stable")[:count]]] = True
    return [normalized(text)[:_LONGEST] for _, text in inventory.texts(wanted)]


def recall(texts: list[str], shingler: Shingler, minhash: MinHash, scratch: str | Path) -> dict[str, list[Any]]:
    """Planted pairs by true similarity: how many, how many LSH found, how many the S-curve expects.

    Bins lie between "edges"; pairs below the first edge are left out.
    """
    left = [text for text in texts for _ in WANTED]
    right = [
        edited(text, wanted, shingler.size, number * len(WANTED) + place)
        for number, text in enumerate(texts)
        for place, wanted in enumerate(WANTED)
    ]
    numbers = np.arange(len(left))
    true = ShingleSets(left + right, shingler, scratch).jaccard(numbers, len(left) + numbers)
    found = (band_hashes(left, shingler, minhash) == band_hashes(right, shingler, minhash)).any(axis=1)
    expected = lsh.probability(true, minhash.bands, minhash.rows)
    return {
        "edges": EDGES.tolist(),
        "pairs": np.histogram(true, EDGES)[0].tolist(),
        "found": np.histogram(true[found], EDGES)[0].tolist(),
        "expected": np.histogram(true, EDGES, weights=expected)[0].round(3).tolist(),
    }
