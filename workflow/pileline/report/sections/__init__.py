"""The report's sections: functions from `Results` to a `Section`, or to None where there is nothing to tell."""

from collections.abc import Callable

from pileline.report.read import Results
from pileline.report.sections.cleaning import cleaning
from pileline.report.sections.duplicates import duplicates
from pileline.report.sections.headline import dag, headline
from pileline.report.sections.models import bits, samples, tasks
from pileline.report.sections.repeat import benchmark, repeat
from pileline.report.sections.sources import holdout, sources
from pileline.report.sections.sweeps import sweeps
from pileline.report.sections.tokenizers import tokenizers
from pileline.report.sections.training import exports, training
from pileline.report.tables import Section

SECTIONS: tuple[Callable[[Results], Section | None], ...] = (
    headline,
    dag,
    sources,
    cleaning,
    duplicates,
    holdout,
    tokenizers,
    training,
    bits,
    sweeps,
    tasks,
    samples,
    exports,
    repeat,
    benchmark,
)

__all__ = ["SECTIONS"]
