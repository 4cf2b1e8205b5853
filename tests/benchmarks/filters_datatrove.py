"""datatrove's filters, judging documents in datatrove's own environment; `filters.py` runs this file there."""

from __future__ import annotations

from collections.abc import Callable

from datatrove.data import Document  # type: ignore[import-not-found]
from datatrove.pipeline.filters import (  # type: ignore[import-not-found]
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.formatters import PIIFormatter  # type: ignore[import-not-found]
from filters_judging import Filters, Outcome, main  # type: ignore[import-not-found]


def judging(made: object) -> Callable[[list[str]], list[Outcome]]:
    """A filter of datatrove as a function of texts."""

    def judge(texts: list[str]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for text in texts:
            document = Document(text=text, id="")
            verdict = made.filter(document)  # type: ignore[attr-defined]
            reason = None if verdict is True else verdict[1] if isinstance(verdict, tuple) else "removed"
            outcomes.append((reason, document.text))
        return outcomes

    return judge


def pii(texts: list[str]) -> list[Outcome]:
    formatter = PIIFormatter(email_replacement="email@example.com", ip_replacement="22.214.171.124")
    return [(None, formatter.format(text)) for text in texts]


def make() -> Filters:
    from datatrove.utils import text

    text.split_into_parts.cache_clear()
    return {
        "gopher_quality": judging(GopherQualityFilter()),
        "gopher_repetition": judging(GopherRepetitionFilter()),
        "c4": judging(C4QualityFilter()),
        "c4 without punctuation": judging(C4QualityFilter(filter_no_terminal_punct=False)),
        "fineweb": judging(FineWebQualityFilter()),
        "pii": pii,
    }


if __name__ == "__main__":
    main(make, list(make()))
