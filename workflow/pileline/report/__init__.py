"""The report: manifests, run records and executed notebooks as pages that open offline and load nothing."""

from pileline.report.build import sections, write_index, write_pages, write_removed
from pileline.report.read import Results, collect

__all__ = ["Results", "collect", "sections", "write_index", "write_pages", "write_removed"]
