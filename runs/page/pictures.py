"""The figures of a document as SVG and PNG."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from runs.figures import DARK, LIGHT
from runs.page.document import Document, Draw, figures

DOTS = (200, 100)
"""Of a PNG, for an inch: the second where the file becomes too large with the first."""
MOST_BYTES = 400_000
"""Of a PNG."""
UNQUOTED = " !$&'()*+,/:;<=>?@[]^`{|}"
"""What may stand in a data address as it is, beside letters and digits: not `#`, `%` and `\"`."""
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
            (kind, f"data:image/svg+xml,{quote(slim(svg), safe=UNQUOTED)}")
            for kind, svg in self.svgs.items()
        ]


def picture(draw: Draw, *, every: bool = False) -> Picture:
    """Draw a figure; the same numbers give the same text.

    Args:
        draw: what draws it.
        every: for dark and for narrow pages too.
    """
    first = draw(LIGHT, narrow=False)
    svgs = {"light wide": _svg(first)}
    if every:
        for kind, theme in KINDS.items():
            for width in ("wide", "narrow"):
                name = f"{kind} {width}"
                if name not in svgs:
                    svgs[name] = _svg(draw(theme, narrow=width == "narrow"))
    return Picture(png=_png(first), svgs=svgs)


def pictures(document: Document) -> dict[str, Picture]:
    """Draw every figure of a document; those without a chart for each scheme and width."""
    return {
        figure.key: picture(figure.draw, every=figure.chart is None)
        for figure in figures(document)
        if figure.draw is not None
    }


def slim(svg: str) -> str:
    """Leave out of an SVG without text what nobody sees: prolog, comments, breaks, digits.

    Four digits are a tenth of a point anywhere in a picture.
    """
    body = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg[svg.find("<svg") :], flags=re.S)
    body = re.sub(r">\s+<", "><", re.sub(r"\s+", " ", body)).strip()
    return re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.4g}", body)


def _png(figure: Figure) -> bytes:
    """Write a figure with a palette, a third of its size in full colour.

    256 colours that cover most of those there are: none is off by more than a few of 255 shades,
    where the usual median cut loses the colour of a single mark.
    """
    found = b""
    for dots in DOTS:
        whole, data = io.BytesIO(), io.BytesIO()
        figure.savefig(whole, format="png", dpi=dots)
        with Image.open(whole) as image:
            drawn = image.convert("RGB").quantize(
                method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
            )
        drawn.save(data, format="png", optimize=True, dpi=(dots, dots))
        found = data.getvalue()
        if len(found) <= MOST_BYTES:
            break
    return found


def _svg(figure: Figure) -> str:
    data = io.StringIO()
    with rc_context({"svg.hashsalt": "replk-search", "svg.fonttype": "path"}):
        figure.savefig(data, format="svg", metadata={"Date": None, "Creator": None})
    return data.getvalue()
