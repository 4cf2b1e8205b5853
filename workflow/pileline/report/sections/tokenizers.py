"""Tokenizers side by side: how each spells held-out text, what it costs, and what its pieces look like."""

from __future__ import annotations

from typing import Any

from pileline.report.read import Results, Stage
from pileline.report.tables import (
    MISSING,
    Cell,
    Section,
    Table,
    best_of,
    cells,
    count,
    decimal,
    duration,
    percent,
    ratio,
    size,
)

BLANK = "\u2581"
_SHOWN = {BLANK: "·", " ": "·", "\n": "⏎", "\t": "⇥", "\r": "␍"}
SUMMED = ("bytes", "words", "tokens")


def shown_piece(piece: str) -> str:
    """A token's piece with its blanks and line ends made visible."""
    return "".join(_SHOWN.get(character, character) for character in piece)


def tokenizers(results: Results) -> Section | None:
    """For each corpus its candidates in one table, by source and by language; then the pieces of each."""
    stages = [stage for stage in results.of("tokenizer") if stage.metrics.get("compression")]
    if not stages:
        return None
    blocks = []
    for corpus in dict.fromkeys(stage.name.split("/")[1] for stage in stages):
        candidates = [stage for stage in stages if stage.name.split("/")[1] == corpus]
        counted = [_by_source(stage) for stage in candidates]
        spoken = [_by_language(results, found) for found in counted]
        tables = [
            _candidates(corpus, candidates),
            *_rates(corpus, "source", candidates, counted, results.in_order(_names(counted))),
            *_rates(corpus, "language", candidates, spoken, sorted(_names(spoken))),
            _left_out(results, corpus, candidates),
        ]
        about = candidates[0].metrics
        order = (about.get("renyi") or {}).get("alpha")
        split = str(about.get("measured_on") or "validation")
        blocks.append({"split": split, "order": order, "tables": [table for table in tables if table]})
    return Section("tokenizers", "Tokenizers", {"blocks": blocks, "pieces": [_pieces(stage) for stage in stages]})


# ------------------------------------------------------------------------------------------- candidates
def _candidates(corpus: str, stages: list[Stage]) -> Table:
    """A row a candidate: its settings, its rates over all held-out text, the cost of its stage."""
    numbers = [
        (
            (stage.metrics.get("overall") or {}).get("bytes_per_token"),
            (stage.metrics.get("overall") or {}).get("tokens_per_word"),
            stage.metrics.get("byte_fallback_rate"),
            (stage.metrics.get("renyi") or {}).get("efficiency"),
        )
        for stage in stages
    ]
    columns = list(zip(*numbers, strict=True))
    best = [best_of(list(column), largest=place in (0, 3)) for place, column in enumerate(columns)]
    rows = []
    for stage, values in zip(stages, numbers, strict=True):
        metrics = stage.metrics
        vocabulary, used = metrics.get("vocabulary_size"), metrics.get("vocabulary_used")
        texts = [decimal(values[0], 2), decimal(values[1], 2), percent(values[2], 2), decimal(values[3], 3)]
        rated = [
            Cell(text, best=len(stages) > 1 and value is not None and value == top)
            for text, value, top in zip(texts, values, best, strict=True)
        ]
        rows.append(
            cells(
                Cell(stage.last, href=stage.page),
                str((metrics.get("settings") or {}).get("kind", MISSING)),
                count(vocabulary),
                percent(ratio(used, vocabulary) if used is not None and vocabulary else None),
                *rated,
                size((metrics.get("training") or {}).get("sample_bytes")),
                Cell(duration(stage.run.seconds), note=size(stage.run.peak_memory_bytes)) if stage.run else MISSING,
            )
        )
    names = [
        "Tokenizer",
        "Kind",
        "Vocabulary",
        "Used",
        "Bytes a token",
        "Tokens a word",
        "In bytes",
        "Rényi efficiency",
    ]
    return Table(f"Tokenizers of corpus {corpus}.", [*names, "Trained on", "Stage"], rows, labels=2)


# ------------------------------------------------------------------------------------ sources, languages
Counted = dict[str, dict[str, Any]]


def _names(counted: list[Counted]) -> set[str]:
    return {name for found in counted for name in found}


def _by_source(stage: Stage) -> Counted:
    """Counts by source, and of all sources together as "all"."""
    return {**stage.metrics["compression"], "all": stage.metrics.get("overall") or {}}


def _by_language(results: Results, by_source: Counted) -> Counted:
    """The counts of a tokenizer's sources, summed up by the language that the configuration gives them."""
    sums: Counted = {}
    for source, counted in by_source.items():
        language = str(results.part("sources", source).get("language") or "unknown")
        if source != "all":
            into = sums.setdefault(language, dict.fromkeys(SUMMED, 0))
            for name in SUMMED:
                into[name] += counted.get(name) or 0
    return sums


def _rates(corpus: str, by: str, stages: list[Stage], counted: list[Counted], names: list[str]) -> list[Table]:
    """Bytes a token, and tokens a word, a row a name and a column a candidate."""
    rows: dict[str, list[list[Cell]]] = {"bytes": [], "words": []}
    for name in [*(name for name in names if name != "all"), *(["all"] if "all" in names else [])]:
        found = [column.get(name) or {} for column in counted]
        pairs = {
            "bytes": [ratio(one["bytes"], one["tokens"]) if one.get("tokens") else None for one in found],
            "words": [ratio(one["tokens"], one["words"]) if one.get("words") else None for one in found],
        }
        for unit, values in pairs.items():
            best = best_of(values, largest=unit == "bytes")
            marked = [
                Cell(decimal(value, 2), best=len(stages) > 1 and value is not None and value == best)
                for value in values
            ]
            rows[unit].append(cells(name, *marked))
    columns = [by.capitalize(), *(stage.last for stage in stages)]
    return [
        Table(f"{corpus}: bytes of text that a token stands for, by {by}; more is better.", columns, rows["bytes"]),
        Table(
            f"{corpus}: tokens a word (fertility), by {by}; fewer is better. In scripts without blanks between words, "
            "each character counts as one.",
            columns,
            rows["words"],
        ),
    ]


def _left_out(results: Results, corpus: str, stages: list[Stage]) -> Table | None:
    """How much worse each source's text is spelled by a tokenizer trained without it."""
    found = {stage.last: stage.metrics.get("leave_one_out") or {} for stage in stages}
    found = {name: losses for name, losses in found.items() if losses}
    if not found:
        return None
    rows = [
        cells(source, *(percent((losses.get(source) or {}).get("loss")) for losses in found.values()))
        for source in results.in_order(_names(list(found.values())))
    ]
    caption = (
        f"{corpus}: the share of bytes a token that a source's text loses when the tokenizer is trained without it. "
        "Below zero: better without."
    )
    return Table(caption, ["Source left out", *found], rows)


# ----------------------------------------------------------------------------------------------- pieces
def _pieces(stage: Stage) -> dict[str, Any]:
    """A tokenizer's longest and rarest pieces, and a text of each source cut in pieces."""
    metrics = stage.metrics
    return {
        "name": stage.name.split("/", 1)[-1],
        "longest": [shown_piece(str(piece)) for piece in metrics.get("longest_pieces", [])[:24]],
        "rarest": [(shown_piece(str(piece)), count(times)) for piece, times in metrics.get("rarest_pieces", [])[:24]],
        "segmentations": [
            (entry.get("source", ""), [shown_piece(piece) for piece in entry.get("pieces", [])[:120]])
            for entry in metrics.get("sample_segmentations", [])
        ],
    }
