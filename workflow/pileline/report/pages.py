"""An executed notebook as a page of the report.

nbconvert's `basic` template turns cells into HTML (its other templates load scripts from the network). Each
output and each markdown cell is sanitized on its own, so that one that breaks off in the middle of an element cannot
swallow what follows; mathematics becomes MathML; code is highlighted by classes that the report's style sheet colours.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import nbformat
from jinja2 import pass_context
from nbconvert.exporters import HTMLExporter, TemplateExporter
from nbconvert.filters import Highlight2HTML
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from pileline.report.mathematics import mathml
from pileline.report.sanitize import sanitize

# What of an output is shown, best first; scripts, widgets and whatever else there may be are left out.
_SHOWN = ("text/html", "image/svg+xml", "text/markdown", "image/png", "image/jpeg", "text/latex", "text/plain")


class _Renderer(IPythonRenderer):  # type: ignore[misc]
    """Markdown with its mathematics as MathML."""

    def block_math(self, body: str) -> str:
        return mathml(body, block=True)

    def inline_math(self, body: str) -> str:
        return mathml(body)

    def latex_environment(self, name: str, body: str) -> str:
        return mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", block=True)


class _Exporter(HTMLExporter):  # type: ignore[misc]
    """nbconvert's HTML exporter with our markdown, and without its pass through a second parser."""

    @pass_context
    def markdown2html(self, context: Any, source: str) -> str:
        renderer = _Renderer(escape=False, exclude_anchor_links=True)
        return sanitize(MarkdownWithMath(renderer=renderer).render(source))

    def from_notebook_node(self, nb: Any, resources: Any = None, **options: Any) -> Any:
        highlight = Highlight2HTML(pygments_lexer="python", parent=self)  # type: ignore[no-untyped-call]
        self.register_filter("highlight_code", highlight)  # type: ignore[no-untyped-call]
        prepared = self._init_resources(resources)  # type: ignore[no-untyped-call]
        return TemplateExporter.from_notebook_node(self, nb, prepared, **options)


@cache
def _exporter() -> _Exporter:
    """One exporter for all notebooks: to set it up takes longer than to use it."""
    return _Exporter(template_name="basic")  # type: ignore[no-untyped-call]


def _clean_output(output: Any) -> Any:
    """An output with nothing in it that could run or load: the best of the forms that are shown."""
    if output.output_type not in ("display_data", "execute_result"):
        return output
    kind = next((kind for kind in _SHOWN if kind in output.data), None)
    content = output.data[kind] if kind else ""
    content = "".join(content) if isinstance(content, list) else content
    if kind in ("text/html", "image/svg+xml"):
        kind, content = "text/html", sanitize(content)
    output.data = nbformat.NotebookNode({kind or "text/plain": content})  # type: ignore[no-untyped-call]
    output.metadata = nbformat.NotebookNode()  # type: ignore[no-untyped-call]
    return output


def render(notebook: Path) -> str:
    """The body of an executed notebook's page, as HTML that neither runs nor loads anything.

    Raises `ValueError` for a file that is no notebook (one that is being written may be cut short).
    """
    try:
        read = nbformat.read(notebook, as_version=4)  # type: ignore[no-untyped-call]
    except Exception as error:  # nbformat raises errors of JSON, of its schema and of its own
        raise ValueError(f"{notebook}: not readable as a notebook ({type(error).__name__}: {error})") from error
    read.metadata.pop("widgets", None)
    read.cells = [cell for cell in read.cells if cell.cell_type in ("code", "markdown")]
    for cell in read.cells:
        cell.pop("attachments", None)
        if cell.cell_type == "code":
            cell.outputs = [_clean_output(output) for output in cell.outputs]
    body, _ = _exporter().from_notebook_node(read)
    return str(body)
