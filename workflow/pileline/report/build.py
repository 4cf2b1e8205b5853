"""Write the report: `index.html`, which stands alone, a page of removed documents, and one for every notebook."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from pileline.report import pages, removed
from pileline.report.read import Results, Stage
from pileline.report.runs import throughput
from pileline.report.sections import SECTIONS
from pileline.report.tables import Section, duration, size

REMOVED = "removed.html"
TEMPLATES = Path(__file__).resolve().parents[2] / "templates"


@dataclass(frozen=True)
class Page:
    """A notebook's page: the stage it shows, and its neighbours in the order of the stages."""

    stage: Stage
    previous: Stage | None
    following: Stage | None


def breakable(text: str) -> Markup:
    """Escaped text that may be broken after each slash, as names in narrow columns must be."""
    return Markup("/<wbr>").join(escape(part) for part in text.split("/"))


def environment() -> Environment:
    """Jinja with escaping always on; a value that a template names and nobody gave is an error."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["breakable"] = breakable
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    made.globals["style"] = Markup(style)  # our own file, not data
    return made


def sections(results: Results) -> list[Section]:
    """The sections that have something to tell, in order."""
    made = (section(results) for section in SECTIONS)
    return [section for section in made if section is not None]


def notebook_pages(results: Results) -> list[Page]:
    """A page for each stage that has an executed notebook, in the order of the stages."""
    shown = [stage for stage in results.ran if stage.notebook]
    around = [None, *shown, None]
    return [Page(stage, around[place], around[place + 2]) for place, stage in enumerate(shown)]


def write_index(results: Results, output: Path) -> Path:
    """Write `output/index.html`."""
    template = environment().get_template("index.html")
    path = output / "index.html"
    path.write_text(template.render(sections=sections(results), results=results, removed=REMOVED), encoding="utf-8")
    return path


def write_removed(results: Results, output: Path) -> Path:
    """Write `output/removed.html`. Its search field is the report's one script; the page's policy names its hash."""
    script = (TEMPLATES / "removed.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = environment().get_template("removed.html")
    path = output / REMOVED
    text = template.render(corpora=removed.corpora(results), script=Markup(script), script_hash=f"sha256-{digest}")
    path.write_text(text, encoding="utf-8")
    return path


def write_pages(results: Results, output: Path) -> list[Path]:
    """Write `output/notebooks/*.html`; a notebook that cannot be read gets a page that says so."""
    template = environment().get_template("notebook.html")
    written = []
    for page in notebook_pages(results):
        path = output / page.stage.page
        path.parent.mkdir(parents=True, exist_ok=True)
        assert page.stage.notebook is not None
        try:
            body, problem = pages.render(page.stage.notebook), ""
        except ValueError as error:
            body, problem = "", str(error)
        run = page.stage.run
        facts = [duration(run.seconds), throughput(page.stage), size(run.peak_memory_bytes)] if run else []
        text = template.render(page=page, body=Markup(body), problem=problem, facts=[fact for fact in facts if fact])
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written
