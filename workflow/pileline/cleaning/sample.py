"""A fair sample that knows no order and no clock: the entries whose ids have the smallest hashes.

Each entry carries its hash as `place`, so that samples of a source's parts, put together, sorted by place and cut to
the same number, are the sample of the source, for any number of parts.
"""

from __future__ import annotations

import bisect
import hashlib

EXCERPT = 200  # characters


class Sample:
    """The `most` entries of the smallest places."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._found: list[tuple[bytes, str, dict[str, str]]] = []

    def add(self, identity: str, **entry: str) -> None:
        """Offer the entry of a document; of its fields one called `excerpt` is cut short."""
        place = hashlib.blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        if len(self._found) < self._most or (place, identity) < self._found[-1][:2]:
            shown = {"place": place.hex(), "id": identity}
            shown |= {name: value[:EXCERPT] if name == "excerpt" else value for name, value in entry.items()}
            bisect.insort(self._found, (place, identity, shown), key=lambda found: found[:2])
            del self._found[self._most :]

    def shown(self) -> list[dict[str, str]]:
        return [entry for _, _, entry in self._found]
