"""Why is this document not in the corpus? Its way from the source to the corpus, as the stages wrote it down.

    python -m pileline.why --corpus demo "wikipedia-en/wiki/summaries_en-us.json#12"
    python -m pileline.why --corpus demo --text "a phrase of the document"
    python -m pileline.why --corpus demo --file page.txt --source wikipedia-en

A document is named by its id, or found by its text: the whole of it (case, punctuation and blanks aside) or a phrase.
Every stage keeps a table of what it removed, so the answer is looked up, not computed again: the tables below
`results/` are read batch by batch, whatever their size. It tells of the corpus as it was made; what `config.yaml` says
today does not count.

Exit status: 0 if every document asked for was found (in the corpus or not), 1 if one was not, 2 if the question or
the results do not do.
"""

from __future__ import annotations

import argparse
import difflib
import heapq
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pileline import documents, manifest
from pileline.parts import Part, folders

SPLITS = ("train", "validation", "test")
EXCERPT = 160
PHRASE = 1000  # characters up to which a text is looked for as a phrase, with any blanks between its words
NEAREST = 500  # ids that begin most like the one asked for, among which the nearest are looked for
_WORDS = {
    "exact": "it has the text of {partner} (case, punctuation and blanks aside)",
    "near": "its similarity with {partner} is {similarity:.3f}",
    "near holdout": "it resembles held-out text: {similarity:.3f} with {partner}",
    "contaminated": "it shares a run of words with {partner}, which a task tests on",
    "task": "it is in the part of {source} that a task tests on",
    "boilerplate": "nothing of it is left without the lines or paragraphs that many documents share",
    "cap": "the cap of {cap_mb:g} MB on {source} admits other documents (by a hash of their text)",
    "weight": "at {epochs:g} epochs of {source} it was passed over (by a hash of its text)",
}


class WhyError(Exception):
    """The results do not hold what the question needs."""


@dataclass(frozen=True)
class Cleaned:
    """A document as cleaning left it; `reason` is "" where it was kept."""

    id: str
    source: str
    table: Path
    text: str
    reason: str

    @property
    def excerpt(self) -> str:
        return " ".join(self.text[:EXCERPT].split())


@dataclass(frozen=True)
class Corpus:
    """The stages of a corpus below `root`."""

    root: Path
    mixed: manifest.Manifest
    duplicates: manifest.Manifest

    @classmethod
    def open(cls, root: Path, name: str) -> Corpus:
        folder = root / "corpora" / name
        if not (folder / manifest.NAME).exists():
            there = sorted(path.parent.name for path in (root / "corpora").glob(f"*/{manifest.NAME}"))
            raise WhyError(
                f"{folder}: no such corpus has been made; "
                + (f"there are: {', '.join(there)}" if there else "run the line first, or name its folder: --results")
            )
        return cls(root, manifest.read(folder, "mix"), manifest.read(root / "duplicates" / name, "deduplicate"))

    @property
    def name(self) -> str:
        return self.mixed.folder.name

    @property
    def recipe(self) -> str:
        return str(self.mixed.metrics["recipe"])

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """The row of each source in the mixture's table."""
        return {row["source"]: row for row in self.mixed.metrics["table"]}

    def tables(self, source: str) -> Iterator[Path]:
        """The tables of kept and removed documents of a source, in all its parts."""
        for folder in _parts(self.root / "clean" / self.recipe / source):
            for name in ("kept.parquet", "removed.parquet"):
                yield _table(manifest.read(folder, "clean"), name)


def _parts(folder: Path) -> list[Path]:
    """The folders of a source's parts. Where it has been cut in several ways, those of the last one."""
    numbers = {Part.parse(path.parent.name).of for path in folder.glob(f"*-of-*/{manifest.NAME}")}
    whole = [folders(folder, of) for of in numbers]
    whole = [found for found in whole if all((path / manifest.NAME).exists() for path in found)]
    if not whole:
        raise WhyError(f"{folder}: not all parts of the source are there; run the line again")
    return max(whole, key=lambda found: max((path / manifest.NAME).stat().st_mtime_ns for path in found))


def _table(stage: manifest.Manifest, name: str) -> Path:
    """The path of a stage's table. By its size, not its hash: who asks does not want to wait for terabytes."""
    path = stage.folder / name
    recorded = stage.files.get(name, {}).get("bytes")
    if recorded is None or not path.exists() or path.stat().st_size != recorded:
        raise WhyError(f"{path}: missing, or changed since stage '{stage.stage}' wrote it; run the line again")
    return path


def _rows(path: Path, column: str, values: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The rows of a table whose column has one of the values. Other columns are read only where there are some."""
    wanted = pa.array(list(values), pa.string())
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            if pc.any(pc.is_in(file.read_row_group(group, columns=[column])[column], wanted)).as_py():
                for batch in file.iter_batches(batch_size=documents.BATCH_DOCUMENTS, row_groups=[group]):
                    yield from batch.filter(pc.is_in(batch.column(column), wanted)).to_pylist()


def by_id(corpus: Corpus, ids: Iterable[str]) -> dict[str, Cleaned]:
    """The documents of these ids, as cleaning left them; those that there are not, are not in the result."""
    found = {}
    by_source: dict[str, list[str]] = {}
    for name in ids:
        by_source.setdefault(name.split("/")[0], []).append(name)
    for source in sorted(set(by_source) & set(corpus.rows)):
        for table in corpus.tables(source):
            for row in _rows(table, "id", by_source[source]):
                found[row["id"]] = Cleaned(row["id"], source, table, row["text"], row.get("reason", ""))
    return found


def by_text(corpus: Corpus, text: str, sources: Iterable[str]) -> Iterator[Cleaned]:
    """The documents that have this text, or contain it."""
    key, phrase = documents.key_of(text), text.strip()
    words = r"\s+".join(re.escape(word) for word in phrase.split())
    for source in sources:
        for table in corpus.tables(source):
            for batch in documents.batches(table):
                column = batch.column("text")
                inside = (
                    pc.match_substring_regex(column, words, ignore_case=True)
                    if len(phrase) <= PHRASE
                    else pc.match_substring(column, phrase)
                )
                same = pc.equal(batch.column("key"), pa.scalar(key, pa.binary(documents.KEY_BYTES)))
                for row in batch.filter(pc.or_(inside, same)).to_pylist():
                    yield Cleaned(row["id"], source, table, row["text"], row.get("reason", ""))


def _standing(corpus: Corpus, ids: list[str]) -> dict[str, Counter[str]]:
    """How often each document stands in each split."""
    found: dict[str, Counter[str]] = {name: Counter() for name in ids}
    for split in SPLITS:
        with pq.ParquetFile(_table(corpus.mixed, f"{split}.parquet")) as file:
            for batch in file.iter_batches(columns=["id"]):
                column = batch.column(0)
                for name in column.filter(pc.is_in(column, pa.array(ids, pa.string()))).to_pylist():
                    found[name][split] += 1
    return found


@dataclass(frozen=True)
class Trail:
    """What deduplication and mixing wrote down of some documents, and of those they were removed for.

    pairs     id to its row in the table of duplicates
    left      id to its row in the table of what mixing removed
    standing  id to the number of times it stands in each split
    """

    corpus: Corpus
    pairs: dict[str, dict[str, Any]]
    left: dict[str, dict[str, Any]]
    standing: dict[str, Counter[str]]

    @classmethod
    def of(cls, corpus: Corpus, ids: list[str]) -> Trail:
        """Follows the documents, their partners, and the partners of those that are themselves removed."""
        table = _table(corpus.duplicates, "duplicates.parquet")
        pairs: dict[str, dict[str, Any]] = {}
        known, wanted = set(ids), ids
        while wanted:
            rows = {row["id"]: row for row in _rows(table, "id", wanted)}
            pairs |= rows
            wanted = sorted({row["partner"] for row in rows.values() if row["partner"]} - known)
            known |= set(wanted)
        names = sorted(known)
        left = {row["id"]: row for row in _rows(_table(corpus.mixed, "removed.parquet"), "id", names)}
        return cls(corpus, pairs, left, _standing(corpus, names))

    def whereabouts(self, name: str) -> str:
        """Where a document stands, in words."""
        if name in self.pairs:
            return f"itself removed as {self.pairs[name]['reason']} for {self.pairs[name]['partner'] or 'a task'}"
        if name in self.left:
            return f"itself not in training: {self.left[name]['reason']}"
        found = self.standing[name]
        times = [f"{split}, {number} time{'s' if number > 1 else ''}" for split, number in found.items()]
        if not times and name.split("/")[0] not in self.corpus.rows:
            return "held-out text of a source that is not in this corpus"
        return " and ".join(times) if times else "in no split"

    def way(self, document: Cleaned) -> Iterator[str]:
        """What happened to a document, stage by stage, and what came of it."""
        corpus, name = self.corpus, document.id
        outcome = f"=> not in {corpus.name}:"
        yield name
        yield f'  text      "{document.excerpt}" ({len(document.text.encode()):,} bytes)'
        yield f"  cleaned   {'removed' if document.reason else 'kept'} by the recipe {corpus.recipe}, {document.table}"
        if document.reason:
            yield f"{outcome} {document.reason}"
        elif name in self.pairs:
            pair = self.pairs[name]
            words = _WORDS.get(pair["reason"], "found with {partner}, similarity {similarity:.3f}")
            yield f"  compared  removed from {pair['split']}, {corpus.duplicates.folder / 'duplicates.parquet'}"
            if pair["partner"]:
                yield f"  partner   {pair['partner']}: {self.whereabouts(pair['partner'])}"
            yield f"{outcome} {pair['reason']}, {words.format(**pair)}"
        else:
            yield "  compared  not a duplicate"
            yield f"  mixed     {corpus.mixed.folder}"
            yield f"{outcome} {self._passed_over(name)}" if name in self.left else self._standing(name)

    def _passed_over(self, name: str) -> str:
        row = self.left[name]
        mixture = self.corpus.rows[row["source"]]
        facts = {"source": row["source"], "epochs": mixture["epochs"], "cap_mb": (mixture["cap_bytes"] or 0) / 1e6}
        return f"{row['reason']}, {_WORDS.get(row['reason'], 'removed by mixing').format(**facts)}"

    def _standing(self, name: str) -> str:
        return f"=> {'in' if self.standing[name] else 'not in'} {self.corpus.name}: {self.whereabouts(name)}"


def tell(corpus: Corpus, cleaned: list[Cleaned]) -> Iterator[str]:
    """The way of each document, in lines."""
    trail = Trail.of(corpus, [document.id for document in cleaned if not document.reason])
    for document in cleaned:
        yield from trail.way(document)
        yield ""


def nearest(corpus: Corpus, name: str, sources: list[str]) -> list[str]:
    """Up to five ids like this one, of those that begin most like it."""
    ids = (
        found
        for source in sources
        for table in corpus.tables(source)
        for batch in documents.batches(table, ["id"])
        for found in batch.column(0).to_pylist()
    )
    like = heapq.nlargest(NEAREST, ids, key=lambda found: _alike(found, name))
    return difflib.get_close_matches(name, like, n=5, cutoff=0.5)


def _alike(one: str, other: str) -> int:
    """How many characters two ids have in common at their beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    about, _, more = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        "python -m pileline.why", description=about, epilog=more, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ids", nargs="*", metavar="ID", help="ids of documents: source/member#number")
    parser.add_argument("--corpus", required=True, help="the corpus asked about")
    parser.add_argument("--text", help="a document's text, or a phrase of it")
    parser.add_argument("--file", type=Path, help="a file with a document's text, or a part of it")
    parser.add_argument("--source", help="look for the text in this source alone")
    parser.add_argument("--most", type=int, default=10, help="tell of at most so many documents with the text (10)")
    parser.add_argument("--results", type=Path, default=Path("results"), help="the folder of the results (results)")
    given = parser.parse_args(arguments)
    if sum([bool(given.ids), given.text is not None, given.file is not None]) != 1:
        parser.error("name documents by id, or give --text, or give --file")
    if given.most < 1:
        parser.error("--most is a number from 1 up")
    return given


def _by_id(corpus: Corpus, ids: list[str], source: str | None) -> bool:
    """Tell of the documents with these ids; whether all were found."""
    ids = list(dict.fromkeys(ids))
    found = by_id(corpus, ids)
    for line in tell(corpus, [found[name] for name in ids if name in found]):
        print(line)
    for name in (name for name in ids if name not in found):
        first = name.split("/")[0]
        known = [source or first] if (source or first) in corpus.rows else list(corpus.rows)
        like = nearest(corpus, name, known)
        where = f"in {first}" if first in corpus.rows else f"in any of {', '.join(corpus.rows)}"
        print(f"{name}: no document of this id was read {where}", file=sys.stderr)
        if like:
            print("  ids like it:", *like, sep="\n    ", file=sys.stderr)
    return len(found) == len(ids)


def _by_text(corpus: Corpus, text: str, source: str | None, most: int) -> bool:
    """Tell of the documents with this text; whether there are any."""
    if not text.strip():
        raise WhyError("the text is empty")
    found: list[Cleaned] = []
    more = 0
    for document in by_text(corpus, text, [source] if source else list(corpus.rows)):
        if len(found) < most:
            found.append(document)
        else:
            more += 1
    for line in tell(corpus, found):
        print(line)
    if more:
        print(f"{more:,} more documents have this text; --most shows more of them, --source those of one source")
    if not found:
        print(f"no document read for {corpus.name} has this text, in {source or 'any source'}", file=sys.stderr)
    return bool(found)


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit status."""
    given = _arguments(arguments)
    try:
        corpus = Corpus.open(given.results, given.corpus)
        if given.source is not None and given.source not in corpus.rows:
            like = difflib.get_close_matches(given.source, corpus.rows, n=3) or list(corpus.rows)
            raise WhyError(f"{given.source}: no source of {corpus.name}; perhaps {' or '.join(like)}")
        if given.ids:
            return 0 if _by_id(corpus, given.ids, given.source) else 1
        text = given.text if given.file is None else given.file.read_text(encoding="utf-8", errors="replace")
        return 0 if _by_text(corpus, text, given.source, given.most) else 1
    except (WhyError, manifest.ManifestError, OSError) as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
