"""Small drawings of a card: what a network sees, and how it learnt."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.image import imsave

from evaluators.receptive_field import PEAK
from runs.page.document import Drawing
from runs.page.findings import Seen
from runs.page.svg import picture, px, text
from runs.wording import fixed, plural

COLOURS = "cividis"
"""Colour map: even in lightness, and the same to most colour-blind readers."""
TALL, GAP, LINE = 150.0, 8.0, 14.0
"""Height of the picture inside a drawing, its margin, and a line of text."""
WIDE = 230.0
"""Width of a learning curve."""
STOPS = 8
"""Colours that make the bar."""
TICKS = ((0.0, "0"), (0.01, "1 %"), (0.1, "10 %"), (1.0, "peak"))
"""Shares of the peak that the bar names."""
STYLE = """
.net .curve{fill:none;stroke:var(--mark,#0b5d6b);stroke-width:2}
.net .other{fill:none;stroke:var(--soft,#57606a);stroke-width:1}
.net .dot{fill:var(--mark,#0b5d6b)}
.net .frame{fill:none;stroke:var(--line,#d0d7de)}
"""

Curve = Sequence[tuple[int, float]]
"""Steps, and the training loss since the point before."""


def heat_map(seen: Seen, *, name: str) -> Drawing:
    """Draw an effective receptive field on the image, with the scale of its colours."""
    height, width = seen.size
    scale = TALL / max(height, width)
    wide, tall = width * scale, height * scale
    across = max(wide, TALL)
    top = GAP + LINE + 4
    left = GAP + (across - wide) / 2
    bar = top + tall + 2 * LINE
    body = (
        text("what it sees", GAP, GAP + 10, kind="bold")
        + f'<image x="{px(left)}" y="{px(top)}" width="{px(wide)}" height="{px(tall)}" '
        f'preserveAspectRatio="none" style="image-rendering:pixelated" href="{_png(seen)}"/>'
        + text(f"{height}x{width} pixels", GAP + across / 2, top + tall + 12, anchor="middle")
        + "".join(
            f'<rect x="{px(GAP + across * place / STOPS)}" y="{px(bar)}" height="9" '
            f'width="{px(across / STOPS + 0.5)}" fill="{_colour((place + 0.5) / STOPS)}"/>'
            for place in range(STOPS)
        )
        + "".join(
            text(
                word,
                GAP + across * _logged(share),
                bar + 20,
                kind="soft",
                anchor={0.0: "start", 1.0: "end"}.get(share, "middle"),
            )
            for share, word in TICKS
        )
    )
    return picture(
        body,
        size=(across + 2 * GAP, bar + 20 + GAP),
        name=name,
        words="Heat map of the effective receptive field of the last stage.",
        style=STYLE,
        reading=_heat_words(seen),
    )


def _heat_words(seen: Seen) -> str:
    bound, cut = ("at least ", ", cut by the border") if seen.saturated else ("", "")
    return (
        "What it sees: brighter pixels move the middle of the last stage more, in logarithmic "
        f"steps; half of that lies in {seen.area50:.1%} of the pixels, sigma is {bound}"
        f"{fixed(seen.sigma_px, 1)} px{cut} (mean of {plural(seen.images, 'test image')})."
    )


def curve_drawing(curves: Sequence[Curve], *, name: str) -> Drawing:
    """Draw learning curves on one pair of axes, the first one bold.

    Args:
        curves: at least one, none of them empty.
        name: what the drawing is called.
    """
    points = [point for curve in curves for point in curve]
    most = max(steps for steps, _ in points)
    low, high = (extreme(loss for _, loss in points) for extreme in (min, max))
    spread = high - low or 1.0
    top, left = GAP + LINE + 8, GAP + 34

    def place(point: tuple[int, float]) -> str:
        steps, loss = point
        return f"{px(left + WIDE * steps / most)} {px(top + TALL * (high - loss) / spread)}"

    lines = "".join(
        f'<path class="{"other" if rank else "curve"}" d="M{"L".join(map(place, curve))}"/>'
        for rank, curve in reversed(list(enumerate(curves)))
    )
    dots = "".join(
        f'<path class="dot" d="M{place(point)}m-3 0a3 3 0 1 0 6 0a3 3 0 1 0 -6 0z"/>'
        for point in curves[0]
    )
    body = (
        text("training loss", GAP, GAP + 10, kind="bold")
        + f'<rect class="frame" x="{px(left)}" y="{px(top)}" width="{px(WIDE)}" '
        f'height="{px(TALL)}"/>'
        + text(fixed(high, 2), left - 5, top + 4, kind="soft", anchor="end")
        + (text(fixed(low, 2), left - 5, top + TALL + 4, kind="soft", anchor="end") * (high > low))
        + text("0", left, top + TALL + LINE + 1, kind="soft", anchor="middle")
        + text(f"{most:,} steps", left + WIDE, top + TALL + LINE + 1, kind="soft", anchor="end")
        + lines
        + dots
    )
    return picture(
        body,
        size=(left + WIDE + GAP, top + TALL + LINE + 2 * GAP),
        name=name,
        words=f"Learning curve: training loss {_course(curves[0])}.",
        style=STYLE,
        reading=_curve_words(curves),
    )


def _curve_words(curves: Sequence[Curve]) -> str:
    seeds = f"; thin lines are {plural(len(curves) - 1, 'other seed')}" if len(curves) > 1 else ""
    return (
        "How it learnt: training loss, the mean since the point before; it went "
        f"{_course(curves[0])}{seeds}."
    )


def _course(curve: Curve) -> str:
    (first, begun), (last, ended) = curve[0], curve[-1]
    if first == last:
        return f"to {fixed(ended, 3)} by step {last:,}"
    return f"from {fixed(begun, 3)} by step {first:,} to {fixed(ended, 3)} by step {last:,}"


def _logged(share: float) -> float:
    """Give the place of a share of the peak on the bar: the log map of `Seen`, from 0 to 1."""
    return float(np.log1p(PEAK * share) / np.log1p(PEAK))


def _colour(value: float) -> str:
    return to_hex(colormaps[COLOURS](value))


def _png(seen: Seen) -> str:
    """Give a map as the data address of a PNG, a pixel a value."""
    data = io.BytesIO()
    imsave(
        data,
        seen.map,
        cmap=COLOURS,
        vmin=0,
        vmax=1,
        format="png",
        metadata={"Software": "replk-search"},
    )
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
