"""Quality, measured: known duplicates are injected into a copy of some documents, and the stage's own path finds them.

Of each sampled document these copies are written to a table beside it:

    exact        the same text
    edited N %   N % of its characters, in one passage, are others: J is about (1 - N) / (1 + N)
    truncated    its first half: J is about 0.5
    case         every letter's case changed
    whitespace   every blank doubled, a tab or a line's end
    scattered    single characters replaced, so many that J is about 0.5, 0.6 ... 0.95: a copy in which a share e of
                 the characters is replaced keeps a shingle of w characters with probability q = (1 - e)^w, so
                 J = q / (2 - q), and e = 1 - (2J / (1 + J))^(1/w)

Then the copies run through `read`, `find_exact`, `scan`, `buckets` and `resolve` as a corpus does, with the method's
settings (its kind excepted: near duplicates are looked for, since those of the holdout are whatever the kind). A copy
is expected to be found if its true similarity with its original reaches the threshold. Found are the copies removed.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileline import documents, manifest
from pileline.deduplication import lsh
from pileline.deduplication.findings import (
    EXACT,
    Findings,
    add_near,
    find_contained,
    find_exact,
    keep_order,
    similarity_between,
)
from pileline.deduplication.inventory import Inventory, read
from pileline.deduplication.method import Method
from pileline.deduplication.minhash import MinHash, Shingler, stream
from pileline.deduplication.resolve import relevant, resolve
from pileline.deduplication.scan import scan
from pileline.deduplication.verify import ShingleSets
from pileline.documents import Document
from pileline.parts import WHOLE

EDITS = (0.05, 0.1, 0.2)
WANTED = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
EDGES = np.round(np.arange(0.4, 1.01, 0.1), 1)
SAMPLE = 100  # documents that are copied
_LONGEST = 4000  # characters of a document that are used
_SCATTERED = "scattered"
_ORIGINALS, _COPIES = "originals", "copies"


def scattered(text: str, similarity: float, shingle: int, seed: int) -> str:
    """A copy whose shingle similarity with `text` is about `similarity`: some characters become others."""
    share = 1 - (2 * similarity / (1 + similarity)) ** (1 / shingle)
    return _replaced(text, stream(seed, 4, len(text)) < np.uint64(int(share * 2**64)))


def edited(text: str, share: float) -> str:
    """A copy in which a passage of `share` of the characters is another; passages of other shares do not overlap it."""
    chosen = np.zeros(len(text), bool)
    chosen[round(share * len(text)) : round(2 * share * len(text))] = True
    return _replaced(text, chosen)


def _replaced(text: str, chosen: NDArray[np.bool_]) -> str:
    """The text with hieroglyphs in the places chosen: they make no shingle that the text has elsewhere."""
    letters = list(text)
    for place in np.flatnonzero(chosen).tolist():
        letters[place] = chr(0x13000 + place % 1000)
    return "".join(letters)


def copies(text: str, shingle: int, seed: int) -> list[tuple[str, str]]:
    """Kind and text of each copy of a document."""
    spread = {" ": "  \t", "\n": "\n\n  "}
    return [
        ("exact", text),
        *((f"edited {share:.0%}".replace("%", " %"), edited(text, share)) for share in EDITS),
        ("truncated", text[: len(text) // 2]),
        ("case", text.swapcase()),
        ("whitespace", "".join(spread.get(letter, letter) for letter in text)),
        *(
            (_SCATTERED, scattered(text, wanted, shingle, seed * len(WANTED) + place))
            for place, wanted in enumerate(WANTED)
        ),
    ]


def sample(findings: Findings, shingle: int, count: int = SAMPLE) -> list[str]:
    """The beginnings of the `count` documents with the smallest keys among those of the corpus that stay and are long
    enough to be edited gently. What stays holds no duplicates, so that what is found among copies was planted.
    """
    inventory = findings.inventory
    long = np.flatnonzero(inventory.own & findings.staying & (inventory.size >= 40 * shingle))
    chosen = np.sort(long[np.argsort(inventory.key[long], kind="stable")[:count]])
    texts = dict(inventory.texts(inventory.marked(chosen)))
    return [texts[number][:_LONGEST] for number in chosen.tolist()]


def quality(texts: list[str], method: Method, seed: int, scratch: str | Path) -> dict[str, Any]:
    """Plant copies of `texts`, look for them, and say what was found: "kinds", "precision" and "recall"."""
    method = replace(method, kind="minhash", keep="first", priority=[])
    planted = [copies(text, method.shingle, number) for number, text in enumerate(texts)]
    kinds = np.array([kind for family in planted for kind, _ in family])
    original = np.repeat(np.arange(len(texts)), np.array(list(map(len, planted)), np.int64))
    shingler, minhash = Shingler(method.shingle, seed), MinHash(method.bands, method.rows, seed)
    everything = [*texts, *(text for family in planted for _, text in family)]
    place = len(texts) + np.arange(len(original))
    true = ShingleSets(everything, shingler, scratch).jaccard(original, place)
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".planted-") as folder:
        _store(Path(folder), _ORIGINALS, texts)
        _store(Path(folder), _COPIES, everything[len(texts) :])
        removed, bands, collided = _found(Path(folder), method, shingler, minhash, seed)
    met = (bands[original] == bands[place]).any(axis=1)
    alike = true >= method.threshold
    return {
        "kinds": [
            {
                "kind": kind,
                "planted": int((kinds == kind).sum()),
                "expected": int((alike & (kinds == kind)).sum()),
                "found": int((removed[place] & alike & (kinds == kind)).sum()),
            }
            for kind in dict.fromkeys(kinds.tolist())
        ],
        "precision": _precision(removed, collided, place[alike]),
        "recall": _recall(true[kinds == _SCATTERED], met[kinds == _SCATTERED], minhash),
    }


def _store(clean: Path, source: str, texts: list[str]) -> None:
    """Write texts as a cleaned source in one part."""
    folder = clean / source / str(WHOLE)
    folder.mkdir(parents=True)
    rows = (Document(f"{source}/x#{n}", source, text, documents.key_of(text)) for n, text in enumerate(texts))
    documents.write(folder / "kept.parquet", rows)
    manifest.write(folder, "clean", {})


def _found(
    clean: Path, method: Method, shingler: Shingler, minhash: MinHash, seed: int
) -> tuple[NDArray[np.bool_], NDArray[np.uint64], NDArray[np.bool_]]:
    """Whether each document is removed, its band hashes, and whether it would be removed for meeting any before it."""
    nothing = {"validation": 0.0, "test": 0.0}
    inventory: Inventory = read(clean, [_ORIGINALS, _COPIES], nothing, {})
    findings = find_exact(inventory, method)
    scanned = scan(inventory, np.ones(len(inventory), bool), method, seed, clean)
    find_contained(findings, scanned)
    order = keep_order(findings, method)
    protected = inventory.protected[order]
    found = relevant(lsh.buckets(scanned.hashes, order), protected, True)
    similarity = similarity_between(inventory, order, np.unique(found.member), shingler, clean)
    collided = findings.left(EXACT)
    collided[order[np.unique(found.member[~found.first()])]] = True
    add_near(findings, order, resolve(found, protected, True, method.threshold, similarity))
    return ~findings.staying, scanned.hashes, collided


def _precision(removed: NDArray[np.bool_], collided: NDArray[np.bool_], alike: NDArray[np.int64]) -> dict[str, Any]:
    """Of what was removed, and of what collision alone would have removed: how many are planted copies whose true
    similarity with their original reaches the threshold (`alike` are their numbers); None where nothing was removed.
    """

    def share(gone: NDArray[np.bool_]) -> float | None:
        return float(gone[alike].sum() / gone.sum()) if gone.any() else None

    return {
        "removed": int(removed.sum()),
        "planted": int(removed[alike].sum()),
        "precision": share(removed),
        "collisions": int(collided.sum()),
        "collision_precision": share(collided),
    }


def _recall(true: NDArray[np.float64], met: NDArray[np.bool_], minhash: MinHash) -> dict[str, list[Any]]:
    """Scattered copies by true similarity, between "edges": how many, how many met their original in a bucket, how
    many the S-curve expects. Those below the first edge are left out.
    """
    expected = lsh.probability(true, minhash.bands, minhash.rows)
    return {
        "edges": EDGES.tolist(),
        "pairs": np.histogram(true, EDGES)[0].tolist(),
        "found": np.histogram(true[met], EDGES)[0].tolist(),
        "expected": np.histogram(true, EDGES, weights=expected)[0].round(3).tolist(),
    }
