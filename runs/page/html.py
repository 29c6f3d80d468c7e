"""A document as one HTML file that loads nothing: styles, scripts, pictures and data are inside.

Every text is escaped by the templates; data for scripts have no `<` left.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from runs.page.charts import plain
from runs.page.document import Block, Document, figures
from runs.page.pictures import Picture

TEMPLATES = Path(__file__).parents[1] / "templates"


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
    environment.globals["style"] = Markup((TEMPLATES / "page.css").read_text("utf-8"))
    environment.globals["script"] = Markup((TEMPLATES / "page.js").read_text("utf-8"))
    charts = any(figure.chart is not None for figure in figures(document))
    return environment.get_template("page.html").render(
        document=document, plotly=Markup(get_plotlyjs()) if charts else ""
    )


def _json(value: Any) -> Markup:
    """Write JSON that may stand inside a script element."""
    text = json.dumps(plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)
