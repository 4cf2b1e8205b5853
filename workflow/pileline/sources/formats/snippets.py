"""Lines of id, rating and sentence, parted by tabs: the sentences of a review ("7_1", "7_2", ...) are one text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from pileline.sources.reading import Reading
from pileline.sources.record import MALFORMED, Format, Record, found, lines, unread


def read(stream: IO[bytes], reading: Reading, _: str) -> Iterator[Record]:
    review, sentences, ratings = "", [], []  # type: tuple[str, list[str], list[float]]

    def joined() -> Iterator[Record]:
        if sentences:
            rating = round(sum(ratings) / len(ratings), 4)
            yield found(" ".join(sentences), {"review": review, "rating": rating})

    for line in lines(stream, reading):
        if isinstance(line, Record):
            yield line
            continue
        parts = line.split("\t", 2)
        rating = _number(parts[1]) if len(parts) == 3 else None
        if rating is None:
            yield unread(line.encode(), MALFORMED)
            continue
        name = parts[0].rpartition("_")[0] or parts[0]
        if name != review:
            yield from joined()
            review, sentences, ratings = name, [], []
        sentences.append(parts[2])
        ratings.append(rating)
    yield from joined()


def _number(text: str) -> float | None:
    """A finite number, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None


RATED_SNIPPETS = Format(read, by_line=True)
