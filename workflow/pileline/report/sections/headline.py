"""What was run and what came out: the main table, and the differences that it allows to be claimed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pileline.report import lineage
from pileline.report.compare import Difference, difference
from pileline.report.read import Experiment, Results
from pileline.report.runs import busy_seconds
from pileline.report.sections.story import grouped, main_charts, overall, story
from pileline.report.sweeps import representatives
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
    interval,
    percent,
    ratio,
    signed,
    size,
)


def probe_name(results: dict[str, Any]) -> str:
    """The name of the model's own row in a task's results: the one called "... probe"; empty without one."""
    return next((name for name in results if name.endswith("probe")), "")


def _task_cell(results: Results, experiment: Experiment) -> Cell:
    """The task scores of an experiment: accuracy, and its interval below, for each of its tasks."""
    texts, notes = [], []
    for task in experiment.tasks:
        stage = results.get(f"tasks/{experiment.name}/{task}")
        scores = stage.metrics.get("results", {}) if stage else {}
        score = scores.get(probe_name(scores))
        if score:
            texts.append(f"{task} {percent(score['accuracy'])}")
            notes.append(interval([100 * bound for bound in score.get("interval") or []], 1))
    return Cell("; ".join(texts) or MISSING, note="; ".join(note for note in notes if note))


def _main_table(results: Results) -> Table:
    """One row an experiment with a model, from theory to practice, the best bits per byte marked."""
    scores = {
        experiment: overall(results, experiment) for experiment in results.experiments if experiment.model is not None
    }
    best = best_of([score.get("bits_per_byte") for score in scores.values()])
    pair, tasks = not results.one_pair, any(experiment.tasks for experiment in scores)
    rows = []
    for experiment, score in scores.items():
        model = results.get(f"models/{experiment.name}")
        trained = model.metrics if model else {}
        value = score.get("bits_per_byte")
        rows.append(
            cells(
                *([experiment.corpus, experiment.tokenizer] if pair else []),
                Cell(experiment.model or MISSING, href=model.page if model else ""),
                Cell(decimal(value), best=value is not None and value == best, note=interval(score.get("interval"))),
                decimal(score.get("perplexity_per_token"), 1),
                count(trained.get("parameters")),
                count(trained.get("tokens_seen")),
                *([_task_cell(results, experiment)] if tasks else []),
            )
        )
    columns = [*(["Corpus", "Tokenizer"] if pair else []), "Model", "Bits per byte", "Perplexity per token"]
    columns += ["Parameters", "Tokens seen", *(["Task accuracy"] if tasks else [])]
    where = "" if pair else "".join(f" on {each.corpus} with {each.tokenizer}" for each in list(scores)[:1])
    caption = (
        f"Every experiment{where}, scored on the same held-out documents, models from theory to practice. Bits per "
        "byte: lower is better, with the 95 % interval of a bootstrap over documents below."
    )
    caption += " Perplexity per token compares models of one corpus and tokenizer only." if pair else ""
    return Table(caption, columns, rows, labels=3 if pair else 1)


def _shards_table(results: Results) -> Table:
    """One row an experiment that ends at the shards."""
    rows = []
    for experiment in results.experiments:
        if experiment.model is None:
            pair = f"{experiment.corpus}/{experiment.tokenizer}"
            tokenizer, shards = results.get(f"tokenizers/{pair}"), results.get(f"shards/{pair}")
            learned, written = (stage.metrics if stage else {} for stage in (tokenizer, shards))
            rows.append(
                cells(
                    experiment.corpus,
                    Cell(experiment.tokenizer, href=tokenizer.page if tokenizer else ""),
                    count(learned.get("vocabulary_size")),
                    decimal((learned.get("overall") or {}).get("bytes_per_token"), 2),
                    count((written.get("tokens") or {}).get("train")),
                )
            )
    caption = (
        "Experiments without a model end at the shards. Bytes a token: on the validation split, higher is shorter."
    )
    return Table(caption, ["Corpus", "Tokenizer", "Vocabulary", "Bytes a token", "Training tokens"], rows, labels=2)


@dataclass(frozen=True)
class Finding:
    """A difference in words: what was compared, by how much it differs, and what that allows one to say."""

    what: str
    value: str
    claim: str
    evidence: str


def finding(found: Difference, what: str, first: str, second: str) -> Finding:
    """The finding of a difference in bits per byte, first minus second."""
    how = "paired bootstrap over" if found.paired else "from two separate intervals over"
    evidence = f"95 % interval {signed(found.low)} to {signed(found.high)}, {how} {count(found.documents)} documents"
    if not found.clear:
        claim = f"The interval includes zero: this holdout does not tell {first} from {second}."
    else:
        better = first if found.value < 0 else second
        claim = f"Better: {better}, by more than the choice of held-out documents explains."
    return Finding(what, f"{signed(found.value)} bits per byte ({signed(100 * found.relative, 1)} %)", claim, evidence)


def _compare(results: Results, first: Experiment, second: Experiment) -> Difference | None:
    """The difference of two experiments' evaluations, if both are there."""
    one, two = results.get(f"evaluations/{first.name}"), results.get(f"evaluations/{second.name}")
    return difference(one, two) if one and two else None


def corpus_findings(results: Results) -> list[Finding]:
    """What the holdout's corpus bought against each other corpus, for each tokenizer and model."""
    wanted = (results.configuration.get("evaluation") or {}).get("holdout")
    told = {experiment.model for experiment in representatives(results)}
    compared = [experiment for experiment in results.experiments if experiment.model in told]
    findings = []
    for (tokenizer, model), group in grouped(compared, "tokenizer", "model").items():
        base = next((experiment for experiment in group if experiment.corpus == wanted), group[0])
        for other in group:
            found = _compare(results, base, other) if other != base else None
            if found:
                what = f"{model} with {tokenizer}, {base.corpus} instead of {other.corpus}"
                findings.append(finding(found, what, base.corpus, other.corpus))
    return findings


def model_findings(results: Results) -> list[Finding]:
    """Each model against the first of its corpus and tokenizer: where there is one that counts, against that."""
    findings = []
    for (corpus, tokenizer), (base, *others) in grouped(representatives(results), "corpus", "tokenizer").items():
        for other in others:
            found = _compare(results, other, base)
            if found and other.model and base.model:
                where = "" if results.one_pair else f", on {corpus} with {tokenizer}"
                what = f"{other.model} against {base.model}{where}"
                findings.append(finding(found, what, other.model, base.model))
    return findings


def removal_findings(results: Results) -> list[str]:
    """How each corpus is made, and how much of its text cleaning and deduplication took."""
    findings = []
    for corpus in dict.fromkeys(experiment.corpus for experiment in results.experiments):
        settings = results.part("corpora", corpus)
        cleaned = [results.get(f"clean/{settings.get('recipe')}/{source}") for source in settings.get("mix", {})]
        ledgers = [stage.metrics["ledger"] for stage in cleaned if stage and "ledger" in stage.metrics]
        duplicates = results.get(f"duplicates/{corpus}")
        second = list(duplicates.metrics.get("ledgers", {}).values()) if duplicates else []
        if not ledgers or not second:
            continue
        # What a source's `fraction` passes over is the reader's wish, and no recipe's work.
        entered = sum(
            ledger["in"]["bytes"] - ledger["removed"].get("not sampled", {"bytes": 0})["bytes"] for ledger in ledgers
        )
        cleaned_away = entered - sum(ledger["kept"]["bytes"] for ledger in ledgers)
        deduplicated = sum(ledger["in"]["bytes"] - ledger["kept"]["bytes"] for ledger in second)
        findings.append(
            f"{corpus} (recipe {settings.get('recipe')}, deduplication {settings.get('deduplication')}): "
            f"of {size(entered)} of extracted text, cleaning took {size(cleaned_away)} "
            f"({percent(ratio(cleaned_away, entered))}) and deduplication {size(deduplicated)} "
            f"({percent(ratio(deduplicated, entered))})."
        )
    return findings


def headline(results: Results) -> Section:
    """The first section: always there."""
    names = [node.stage for node in results.nodes]
    sources = names.count("download")
    documents = next(
        (stage.metrics["overall"]["documents"] for stage in results.of("evaluate") if "overall" in stage.metrics), None
    )
    main, shards = _main_table(results), _shards_table(results)
    values = {
        "experiments": len(results.experiments),
        "sources": sources,
        "stages": len(names),
        "found": len(results.stages),
        "documents": count(documents),
        "holdout": (results.configuration.get("evaluation") or {}).get("holdout", ""),
        "busy": duration(busy_seconds(results)),
        "table": main if main.rows or not shards.rows else shards,
        "shards": shards if main.rows and shards.rows else None,
        "story": story(results),
        "charts": main_charts(results),
        "corpora": corpus_findings(results),
        "models": model_findings(results),
        "removed": removal_findings(results),
    }
    return Section("headline", "What was run, and what came out", values)


def dag(results: Results) -> Section:
    """The DAG, as a drawing and as a list."""
    made = [(node, results.get(node.name)) for node in results.nodes]
    return Section(
        "dag",
        "The stages",
        {"drawing": lineage.draw(results), "made": made, "parts": any(node.parts > 1 for node in results.nodes)},
    )
