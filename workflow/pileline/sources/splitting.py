"""Long texts cut into documents, at blank lines where there are any, with every character accounted for.

A play or a source file is longer than a model's context, and one hash would hold out or train on all of it.
So a text is cut greedily into pieces of at most `most` characters: each ends at the last blank line that lets
it fit; without one at the last line end; without that after exactly `most` characters. The white space at a
cut belongs to no piece. It is returned as such, so that pieces and gaps, in order, are the text again:

    "".join(gap + piece for gap, piece in zip(gaps, pieces)) + gaps[-1] == text
"""

from __future__ import annotations

import bisect
import re

_BLANK_LINES = re.compile(r"\r?\n(?:[ \t\r\f\v]*\n)+")
_LEADING = re.compile(r"(?:[ \t\r\f\v]*\n)*")  # blank lines, but not the indentation of the first full line
_SPACE = " \t\r\n\f\v"


def split(text: str, most: int) -> tuple[list[str], list[str]]:
    """Cut `text` into pieces of at most `most` characters; return the pieces and the gaps around them.

    There is one gap more than pieces: before the first, between each two, after the last. A text of white
    space alone has no pieces and one gap.
    """
    if most < 1:
        raise ValueError(f"documents of at most {most} characters cannot be cut; `split` must be 1 or more")
    end = len(text.rstrip(_SPACE))
    if end == 0:
        return [], [text]
    place = _LEADING.match(text).end()  # type: ignore[union-attr]
    pieces, gaps = [], [text[:place]]
    fits = end - place <= most  # as most texts do
    breaks = [] if fits else [match.span() for match in _BLANK_LINES.finditer(text, 0, end)]
    starts = [start for start, _ in breaks]
    while end - place > most:
        stop, following = _cut(text, place, most, breaks, starts)
        pieces.append(text[place:stop])
        gaps.append(text[stop:following])
        place = following
    return [*pieces, text[place:end]], [*gaps, text[end:]]


def _cut(text: str, place: int, most: int, breaks: list[tuple[int, int]], starts: list[int]) -> tuple[int, int]:
    """Where the piece that begins at `place` stops, and where the next begins."""
    last = bisect.bisect_right(starts, place + most) - 1
    if last >= 0 and starts[last] > place:
        return breaks[last]
    line = text.rfind("\n", place + 1, place + most + 1)
    if line < 0:
        return place + most, place + most
    carriage = text[line - 1] == "\r" and line - 1 > place
    return line - carriage, line + 1
