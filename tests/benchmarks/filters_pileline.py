"""Pileline's filters, judging documents as datatrove's do in `filters_datatrove.py`."""

from __future__ import annotations

from collections.abc import Callable

from filters_judging import Filters, Outcome, main  # type: ignore[import-not-found]
from pileline import cleaning
from pileline.cleaning import vocabulary

RECIPES = {
    "gopher_quality": {"filter": "gopher_quality"},
    "gopher_repetition": {"filter": "gopher_repetition"},
    "c4": {"filter": "c4"},
    "c4 without punctuation": {"filter": "c4", "terminal_punctuation": False},
    "fineweb": {"filter": "fineweb"},
    "pii": {"filter": "pii", "phones": False},
    "language": {"filter": "language"},
}


def judging(settings: dict[str, object]) -> Callable[[list[str]], list[Outcome]]:
    (step,) = cleaning.build([settings])

    def judge(texts: list[str]) -> list[Outcome]:
        outcomes = step.apply_many(texts)
        return [
            (found.reason, text) if isinstance(found, cleaning.Removal) else (None, found)
            for text, found in zip(texts, outcomes, strict=True)
        ]

    return judge


def make() -> Filters:
    vocabulary.forget()
    return {name: judging(settings) for name, settings in RECIPES.items()}


if __name__ == "__main__":
    main(make, list(RECIPES))
