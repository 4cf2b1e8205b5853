"""LaTeX in markdown to MathML, which browsers set themselves: no script, no font to load."""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert

# What the converter does not know, by what it knows.
_EQUAL = (
    (re.compile(r"\\(?:textrm|textnormal|textup)\b"), r"\\text"),
    (re.compile(r"\\arg\b"), r"\\operatorname{arg}"),
    (re.compile(r"\\(begin|end)\{aligned\}"), r"\\\1{split}"),
)


def mathml(latex: str, block: bool = False) -> str:
    """A `<math>` element; LaTeX that the converter does not know is shown as it was written."""
    text = latex.strip()
    for pattern, replacement in _EQUAL:
        text = pattern.sub(replacement, text)
    try:
        return str(convert(text, display="block" if block else "inline"))
    except Exception:  # the converter raises whatever its parser stumbles on
        shown = f'<code class="latex">{html.escape(latex.strip())}</code>'
        return f'<div class="latex">{shown}</div>' if block else shown
