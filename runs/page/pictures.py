"""The figures of a document as SVG and PNG."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib import rc_context
from matplotlib.figure import Figure

from runs.figures import DARK, LIGHT
from runs.page.document import Document, Draw, figures

DOTS = 200
"""Of a PNG, for an inch."""
KINDS = {"light": LIGHT, "dark": DARK}


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A figure as files."""

    png: bytes
    """For a wide light page."""
    svgs: Mapping[str, str]
    """By scheme and width: `light wide`, and where all were asked for `dark narrow` and so on."""

    @property
    def svg(self) -> str:
        """The one of a file."""
        return self.svgs["light wide"]

    @property
    def sources(self) -> list[tuple[str, str]]:
        """Scheme and width, and the picture as a data address."""
        return [
            (kind, f"data:image/svg+xml;base64,{base64.b64encode(text.encode()).decode()}")
            for kind, text in self.svgs.items()
        ]


def picture(draw: Draw, *, every: bool = False) -> Picture:
    """Draw a figure; the same numbers give the same text.

    Args:
        draw: what draws it.
        every: for dark and for narrow pages too.
    """
    first = draw(LIGHT, narrow=False)
    data = io.BytesIO()
    first.savefig(data, format="png", dpi=DOTS)
    svgs = {"light wide": _svg(first)}
    if every:
        for kind, theme in KINDS.items():
            for width in ("wide", "narrow"):
                name = f"{kind} {width}"
                if name not in svgs:
                    svgs[name] = _svg(draw(theme, narrow=width == "narrow"))
    return Picture(png=data.getvalue(), svgs=svgs)


def pictures(document: Document) -> dict[str, Picture]:
    """Draw every figure of a document; those without a chart for each scheme and width."""
    return {
        figure.key: picture(figure.draw, every=figure.chart is None)
        for figure in figures(document)
        if figure.draw is not None
    }


def _svg(figure: Figure) -> str:
    data = io.StringIO()
    with rc_context({"svg.hashsalt": "replk-search", "svg.fonttype": "path"}):
        figure.savefig(data, format="svg", metadata={"Date": None, "Creator": None})
    return data.getvalue()
