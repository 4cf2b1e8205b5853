"""Pages of notebooks: outputs and mathematics as they were, and whatever comes in made harmless."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pileline.report import mathematics, pages, sanitize

from tests.unit.report_results import HOSTILE, notebook
from tests.unit.seen_pages import Seen, assert_harmless


# ---------------------------------------------------------------------------------------------- pages
@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("notebook") / "a.ipynb"
    nbformat.write(notebook("Title", "<script>x</script>"), path)
    return pages.render(path)


def test_mathematics_is_mathml(body: str) -> None:
    assert body.count("<math") == 2
    assert "<mfrac>" in body
    assert "\\frac" not in body


def test_outputs_are_kept_and_made_harmless(body: str) -> None:
    assert_harmless(body)
    seen = Seen(body)
    assert "svg" in seen.elements
    assert "table" in seen.elements
    assert "1,234" in "".join(seen.text)
    assert HOSTILE in "".join(seen.text)  # printed text is shown as it was printed
    assert "alert(2)" not in body  # and an output that is a script is not shown at all


def test_an_output_that_breaks_off_swallows_nothing_behind_it(tmp_path: Path) -> None:
    made = notebook("Title")
    made.cells[2].outputs[0].data["text/html"] = "<div><table><tr><td>open <textarea><!--"
    nbformat.write(made, tmp_path / "a.ipynb")
    text = pages.render(tmp_path / "a.ipynb")
    assert "1,234" in "".join(Seen(text).text)


def test_latex_that_cannot_be_converted_is_shown_as_written() -> None:
    assert mathematics.mathml("<b>x_") == '<code class="latex">&lt;b&gt;x_</code>'


# ------------------------------------------------------------------------------------------- sanitizing
@pytest.mark.parametrize(
    "text",
    [
        HOSTILE,
        "<svg><script>alert(1)</script><a xlink:href='javascript:alert(1)'>x</a></svg>",
        "<a href='java\tscript:alert(1)'>x</a><a href=' javascript:x'>y</a><a href=data:text/html,x>z</a>",
        "<div style='background:url(https://evil.example/a)'>x</div><div style='background:u\\72l(//e)'>y</div>",
        "<img src='data:image/svg+xml;base64,AAAA'><image href=//e/x><use href='https://e/x#a'/>",
        "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=alert(1)&gt;'>",
        "<noscript><p title='</noscript><img src=x onerror=alert(1)>'></noscript>",
        "<svg><style><img src=x onerror=alert(1)></style></svg><form action=//e><input name=a></form>",
        "<scr<script>ipt>alert(1)</scr</script>ipt><meta http-equiv=refresh content='0;url=//e'><base href=//e>",
        "<iframe src=//e></iframe><object data=//e></object><link rel=stylesheet href=//e><body onload=alert(1)>",
    ],
)
def test_attacks_come_to_nothing(text: str) -> None:
    assert_harmless(sanitize.sanitize(text))


def _tree(text: str) -> list[str]:
    return Seen(text).elements


_NAMES = st.sampled_from(
    ["p", "svg", "path", "script", "style", "td", "math", "mi", "img", "a", "textarea", "x", "br", "template"]
)


_VALUES = st.sampled_from(
    ["javascript:x", "//e/x", "#a", "a.html", "url(//e)", "data:image/png;base64,AA==", '"><script>']
)


_PIECES = st.one_of(
    st.text(max_size=8),
    st.builds(
        lambda name, key, value: f"<{name} {key}='{value}'>",
        _NAMES,
        st.sampled_from(["href", "src", "style", "onclick", "class", "xlink:href"]),
        _VALUES,
    ),
    st.builds("</{}>".format, _NAMES),
)


@given(st.lists(_PIECES, max_size=12).map("".join))
def test_whatever_comes_in_is_harmless_balanced_and_stable(text: str) -> None:
    once = sanitize.sanitize(text)
    assert_harmless(once)
    assert sanitize.sanitize(once) == once
    opened = re.findall(r"<([a-z][a-z0-9]*)[ >]", once)
    closed = re.findall(r"</([a-z][a-z0-9]*)>", once)
    assert sorted(name for name in opened if name not in sanitize.VOID) == sorted(closed)


@given(st.text(alphabet=st.characters(exclude_characters="\r\x00", exclude_categories=("Cs",))))
def test_plain_text_survives(text: str) -> None:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert "".join(Seen(sanitize.sanitize(f"<p>{escaped}</p>")).text) == text
