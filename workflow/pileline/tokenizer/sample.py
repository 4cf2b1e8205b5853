"""What a tokenizer is trained on: an even sample of the text, and the characters that get a piece of their own."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

import numpy as np

from pileline.tokenizer.settings import BLANK

CHUNK = 1 << 12  # characters of a document that the trainer sees at once: at most 16 kB of UTF-8
# What SentencePiece's trainer uses as marks (blank, unknown, boundary) or refuses (NUL); they are encoded as bytes.
RESERVED = ("\x00", "\t", BLANK, "\u2585")


def sample(texts: Iterable[str], limit: int, seed: int) -> tuple[list[str], dict[str, int]]:
    """An even sample of the texts' chunks, at most `limit` bytes, in their order; and counts of what was read.

    Each chunk draws a number; those below a threshold stay, and the threshold sinks as the sample fills up
    (Vitter's reservoir, by priority). So one pass over any amount of text needs memory for the sample alone.
    """
    generator = np.random.default_rng(seed)
    heap: list[tuple[float, int, str, int]] = []  # the largest draw first, as heapq's smallest
    counts = {"documents": 0, "text_bytes": 0, "documents_cut": 0}
    threshold, size, number = 1.0, 0, 0
    for text in texts:
        counts["documents"] += 1
        counts["documents_cut"] += len(text) > CHUNK
        for start in range(0, len(text), CHUNK):
            chunk = text[start : start + CHUNK]
            length = len(chunk.encode())
            counts["text_bytes"] += length
            draw = generator.random()
            number += 1
            if draw < threshold:
                heapq.heappush(heap, (-draw, number, chunk, length))
                size += length
            while size > limit and len(heap) > 1:
                gone = heapq.heappop(heap)
                threshold, size = -gone[0], size - gone[3]
    kept = [chunk for _, _, chunk, _ in sorted(heap, key=lambda entry: entry[1])]
    return kept, {**counts, "sample_bytes": size, "sample_chunks": len(kept)}


def alphabet(chunks: Sequence[str], coverage: float, maximum: int) -> tuple[str, float]:
    """The most frequent characters that make up `coverage` of the text, at most `maximum`; and what they cover.

    SentencePiece's own choice knows no maximum: a text with a few thousand Chinese characters would not fit a
    small vocabulary at all. Ties go to the lower code point.
    """
    counts = np.zeros(0x110000, dtype=np.int64)
    for start in range(0, len(chunks), 256):
        points, found = np.unique(
            np.frombuffer("".join(chunks[start : start + 256]).encode("utf-32-le"), dtype="<u4"), return_counts=True
        )
        counts[points] += found
    total = int(counts.sum())
    counts[[ord(character) for character in RESERVED]] = 0
    order = np.argsort(-counts, kind="stable")[: min(maximum, int((counts > 0).sum()))]
    covered = np.cumsum(counts[order]) / max(total, 1)
    number = min(int(np.searchsorted(covered, coverage)) + 1, len(order))
    return "".join(map(chr, order[:number].tolist())), float(covered[number - 1]) if number else 0.0
