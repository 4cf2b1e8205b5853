"""What both sides of the benchmark of filters do with documents; it runs in either environment, so it imports neither.

A side is a dict of filters, each a function of a list of texts that returns, for each, the reason to remove it or
None, and the text as it is then. `main` runs each over the documents of a JSON Lines file, then all together, and
writes the outcomes and the processor seconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

Outcome = tuple[str | None, str]
Filters = dict[str, Callable[[list[str]], list[Outcome]]]
TOGETHER = ("gopher_quality", "gopher_repetition", "c4", "fineweb")
GROUP_CHARACTERS = 1 << 18


def groups(texts: list[str]) -> list[list[str]]:
    """Texts in the order given, in groups as the line makes them."""
    made: list[list[str]] = [[]]
    characters = 0
    for text in texts:
        made[-1].append(text)
        characters += len(text)
        if characters >= GROUP_CHARACTERS:
            made.append([])
            characters = 0
    return [group for group in made if group]


def main(make: Callable[[], Filters], names: list[str]) -> None:
    """Arguments DOCUMENTS OUTCOMES WAY: judge the documents on one core, write what was found and how long it took."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    with source.open(encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    found: dict[str, dict[str, object]] = {}
    for name in names:
        chosen = make()[name]  # anew, so that no filter profits from what another remembered
        chosen(["One text of a few words wakes the filter up."])
        start = time.process_time()
        outcomes = [outcome for group in groups(texts) for outcome in chosen(group)]
        seconds = time.process_time() - start
        marks = [hashlib.blake2b(text.encode(), digest_size=8).hexdigest() for _, text in outcomes]
        found[name] = {"seconds": seconds, "reasons": [reason for reason, _ in outcomes], "texts": marks}
    if sys.argv[3] == "together":
        found["together"] = {"seconds": together(make(), texts)}
    target.write_text(json.dumps(found), encoding="utf-8")


def together(filters: Filters, texts: list[str]) -> float:
    """Processor seconds of the four families, each of which judges every text; all may share what one found out."""
    start = time.process_time()
    for group in groups(texts):
        for name in TOGETHER:
            filters[name](group)
    return time.process_time() - start
