"""LaTeX in markdown to MathML, which browsers set themselves: no script, no font to load."""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert

_TEXT_COMMANDS = re.compile(r"\\(?:textrm|textnormal|textup)\b")


def mathml(latex: str, block: bool = False) -> str:
    """A `<math>` element; LaTeX that the converter does not know is shown as it was written."""
    text = _TEXT_COMMANDS.sub(r"\\text", latex.strip())
    try:
        return str(convert(text, display="block" if block else "inline"))
    except Exception:  # the converter raises whatever its parser stumbles on
        shown = f'<code class="latex">{html.escape(latex.strip())}</code>'
        return f'<div class="latex">{shown}</div>' if block else shown
