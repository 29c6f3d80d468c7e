"""SVG that we write ourselves: numbers, groups and the outer element, every text in it escaped.

Colours are those of the page where there are any (`var(--ink, ...)`): a drawing fits light, dark
and print, and stands alone as a file.
"""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

from runs.page.document import Drawing

STYLE = """
.net{font:11px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
.net text{fill:var(--ink,#1f2328)}.net .soft{fill:var(--soft,#57606a)}.net .bold{font-weight:600}
.net .ground{fill:var(--ground,#fff)}.net .flow{fill:none;stroke:var(--soft,#57606a)}
"""
"""Of every drawing; names begin with `.net`, for the page has styles of its own."""
LETTER = 6.6
"""Width of a letter of text on average, somewhat more than it is."""


def picture(
    body: str,
    *,
    size: tuple[float, float],
    name: str,
    words: str,
    style: str = "",
    key: str = "",
    reading: str = "",
) -> Drawing:
    """Make a drawing of SVG elements.

    Args:
        body: the elements, escaped.
        size: width and height.
        name: what it is called.
        words: what somebody who cannot see it must know.
        style: of its own, beside `STYLE`.
        key: of its file; empty for none.
        reading: a sentence below it.
    """
    width, height = map(px, size)
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="net" role="img" width="{width}" '
        f'height="{height}" viewBox="0 0 {width} {height}" aria-label={quoteattr(name)}>'
        f"<style>{STYLE}{style}</style><desc>{escape(words)}</desc>"
        f'<rect class="ground" width="100%" height="100%"/>{body}</svg>'
    )
    return Drawing(svg=svg, alt=words, key=key, reading=reading)


def text(words: str, x: float, y: float, *, kind: str = "", anchor: str = "start") -> str:
    """Write a line; `x` and `y` are the start of its base line, or its middle or end."""
    return (
        f'<text x="{px(x)}" y="{px(y)}"{kind and f" class={quoteattr(kind)}"}'
        f"{'' if anchor == 'start' else f' text-anchor={quoteattr(anchor)}'}>{escape(words)}</text>"
    )


def moved(svg: str, x: float, y: float) -> str:
    """Move elements."""
    return f'<g transform="translate({px(x)} {px(y)})">{svg}</g>'


def titled(words: str, svg: str) -> str:
    """Give elements words that show when one points at them."""
    return f"<g><title>{escape(words)}</title>{svg}</g>"


def text_width(words: str) -> float:
    """Guess how wide a line is, rather too wide than too narrow."""
    return LETTER * len(words)


def px(value: float) -> str:
    """Write a coordinate to a hundredth, without a tail of noughts."""
    return f"{round(value, 2) + 0.0:.10g}"
