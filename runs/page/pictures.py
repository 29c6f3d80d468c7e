"""Figures as files: what a drawing is, and how it becomes SVG and PNG."""

from __future__ import annotations

import base64
import io
from typing import Protocol

from matplotlib import rc_context
from matplotlib.figure import Figure

from runs.figures import DARK, LIGHT, Theme

DOTS = 200
"""Of a PNG, for an inch."""
KINDS = {"light": LIGHT, "dark": DARK}


class Draw(Protocol):
    """Draws one picture."""

    def __call__(self, theme: Theme, *, narrow: bool) -> Figure:
        """Draw it in a colour scheme, for a wide or a narrow page; with a canvas for Agg."""


def svg(draw: Draw, theme: Theme = LIGHT, *, narrow: bool = False) -> str:
    """Give a picture as SVG text; the same numbers give the same text."""
    data = io.StringIO()
    with rc_context({"svg.hashsalt": "replk-search", "svg.fonttype": "path"}):
        draw(theme, narrow=narrow).savefig(
            data, format="svg", metadata={"Date": None, "Creator": None}
        )
    return data.getvalue()


def png(draw: Draw) -> bytes:
    """Give a picture for a wide light page as PNG."""
    data = io.BytesIO()
    draw(LIGHT, narrow=False).savefig(data, format="png", dpi=DOTS)
    return data.getvalue()


def address(text: str) -> str:
    """Give the data address of an SVG."""
    return f"data:image/svg+xml;base64,{base64.b64encode(text.encode()).decode()}"


def variants(draw: Draw) -> list[dict[str, str]]:
    """Give a picture for each colour scheme and width, as data addresses."""
    return [
        {"kind": f"{kind} {width}", "source": address(svg(draw, theme, narrow=width == "narrow"))}
        for kind, theme in KINDS.items()
        for width in ("wide", "narrow")
    ]
