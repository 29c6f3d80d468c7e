"""A document as one HTML file that loads nothing: styles, scripts, pictures and data are inside.

Every text is escaped by the templates; data for scripts have no `<` left.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from runs.page.charts import plain
from runs.page.document import Block, Document, figures
from runs.page.pictures import Picture

TEMPLATES = Path(__file__).parents[1] / "templates"
SCRIPTS = ("links", "tables", "charts")
"""Of the page, in the order in which they run."""
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)
"""What a page may load: nothing; pictures stand in it."""


def html(document: Document, drawn: Mapping[str, Picture]) -> str:
    """Write a document as HTML.

    Args:
        document: what to write.
        drawn: its pictures by key, for figures without a chart and for readers without scripts.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["json"] = _json
    environment.globals["drawn"] = dict(drawn)

    def render(content: Block) -> Markup:
        template = environment.get_template(f"{content.kind}.html")
        # What a template gives is escaped already.
        return Markup(template.render(block=content))

    environment.globals["render"] = render
    scripts = [_template(f"{name}.js") for name in SCRIPTS]
    if any(figure.chart is not None for figure in figures(document)):
        scripts.insert(0, Markup(get_plotlyjs()))
    first = _template("first.js")
    return environment.get_template("page.html").render(
        document=document,
        style=_template("page.css"),
        first=first,
        scripts=scripts,
        policy=_policy([first, *scripts]),
    )


def _template(name: str) -> Markup:
    return Markup((TEMPLATES / name).read_text("utf-8"))


def _policy(scripts: Sequence[str]) -> str:
    """Let these scripts run and no other that stands in the page, and nothing be loaded.

    W3C, CSP level 3. No text of a run is evaluated: the page's own scripts call neither `eval` nor
    `new Function`.
    """
    digests = (base64.b64encode(sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    # The page does not need 'unsafe-eval', people who test it do: conditions that tools which drive
    # a browser wait for are texts evaluated in the page, and without it they fail.
    return f"{POLICY}; script-src {allowed} 'unsafe-eval'"


def _json(value: Any) -> Markup:
    """Write JSON that may stand inside a script element."""
    text = json.dumps(plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)
