"""The picture of effective receptive fields: networks side by side on one colour scale."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle

from evaluators.receptive_field import Extent, Field
from runs.wording import plural

INK, FAINT = "#1f2328", "#57606a"
MAPS = "inferno"
"""Colour map: dark where the unit sees nothing."""

# Inches.
CELL, GAP, MARGIN = 2.9, 0.35, 0.3
LEAST_TALL, MOST_TALL = 0.35, 2.5 * CELL
"""Height of a map; only where the image's sides differ more is the map stretched."""
TITLE, UNDER, SMALL_UNDER, BETWEEN = 0.5, 0.52, 0.34, 0.3
NAME, NOTE = 0.25, 0.07
"""Of the base lines of a network's name and note above its map."""
BAR, LEAST_BAR, CAPTION_LINE = 0.16, 1.8, 0.165
"""Width of the colour bar, and the height that its label needs."""
BAR_GAP, BAR_WORDS = 0.25, 0.75
CAPTION_SIZE = 8
"""Points."""
PNG_DPI = 200
A_ROW = 4
"""Networks beside each other; more go below."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Column:
    """One network of the picture."""

    name: str
    note: str
    """Trained or untrained."""
    data: str
    """Name of the data set of its images."""
    fields: Sequence[Field]
    extents: Sequence[Extent]


def field_figure(columns: Sequence[Column], *, peak: float, note: str) -> Figure:
    """Draw the field of every network's last stage, and small below it those of the stages before.

    Args:
        columns: the networks, all measured at one size.
        peak: what the largest value of a map is scaled to before log10(1 + x).
        note: what an untrained network is.
    """
    height, width = columns[0].fields[-1].map.shape
    across = min(A_ROW, len(columns))
    rows = -(-len(columns) // across)
    several = len({column.data for column in columns}) > 1
    tall = min(max(CELL * height / width, LEAST_TALL), MOST_TALL)
    smalls = max(len(column.fields) for column in columns) - 1
    side = (CELL - (smalls - 1) * 0.1) / smalls if smalls > 1 else CELL / 2
    small_tall = tall * side / CELL if smalls else 0.0
    row_tall = TITLE + tall + UNDER + (small_tall + SMALL_UNDER if smalls else 0)
    row_tall = max(row_tall, TITLE + LEAST_BAR)
    maps_wide = across * CELL + (across - 1) * GAP
    total_wide = 2 * MARGIN + maps_wide + BAR_GAP + BAR + BAR_WORDS
    caption = _caption(columns, (height, width), peak, note, wide=total_wide - 2 * MARGIN)
    total_tall = rows * row_tall + (rows - 1) * BETWEEN + len(caption) * CAPTION_LINE + 0.25
    figure = Figure(figsize=(total_wide, total_tall), dpi=PNG_DPI, facecolor="white")
    FigureCanvasAgg(figure)

    def axes_at(left: float, top: float, wide: float, high: float) -> Axes:
        place = (left, total_tall - top - high, wide, high)
        sizes = (total_wide, total_tall, total_wide, total_tall)
        box = tuple(inch / size for inch, size in zip(place, sizes, strict=True))
        return figure.add_axes((box[0], box[1], box[2], box[3]))

    for index, column in enumerate(columns):
        row, place = divmod(index, across)
        left = MARGIN + place * (CELL + GAP)
        top = row * (row_tall + BETWEEN) + TITLE
        axes = axes_at(left, top, CELL, tall)
        _draw(axes, column.fields[-1], column.extents[-1], peak=peak)
        _head(axes, column, data=f", {column.data}" if several else "", tall=tall)
        _under(axes, column.extents[-1])
        for number, (field, found) in enumerate(
            zip(column.fields[:-1], column.extents[:-1], strict=True)
        ):
            small = axes_at(left + number * (side + 0.1), top + tall + UNDER, side, small_tall)
            _draw(small, field, found, peak=peak)
            text = f"stage {field.stage}\n{_bound(found)}{found.sigma_px:.0f} px"
            small.set_xlabel(text, fontsize=7.5, color=FAINT, labelpad=2, linespacing=1.15)
    bar = axes_at(MARGIN + maps_wide + BAR_GAP, TITLE, BAR, max(tall, LEAST_BAR))
    _colour_bar(figure, bar, peak=peak)
    figure.text(
        MARGIN / total_wide,
        0.12 / total_tall,
        "\n".join(caption),
        fontsize=CAPTION_SIZE,
        color=FAINT,
        va="bottom",
        linespacing=1.3,
        parse_math=False,
    )
    return figure


def images_text(fields: Sequence[Field]) -> str:
    """Say how many images are in the averages, and of how many where some were skipped."""
    used = {field.images for field in fields}
    asked = max(field.images + field.skipped for field in fields)
    if used == {asked}:
        return plural(asked, "image")
    least, most = min(used), max(used)
    return f"{least}{f' to {most}' if most > least else ''} of {plural(asked, 'image')}"


def png(figure: Figure) -> bytes:
    """Give the picture as a PNG of 200 dots an inch."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=PNG_DPI)
    return data.getvalue()


def svg(figure: Figure) -> str:
    """Give the picture as an SVG text, its maps as pixels; the same maps give the same text."""
    data = io.StringIO()
    with rc_context({"svg.hashsalt": "erf", "svg.fonttype": "path"}):
        figure.savefig(data, format="svg", dpi=150, metadata={"Date": None, "Creator": None})
    return data.getvalue()


def _draw(axes: Axes, field: Field, found: Extent, *, peak: float) -> None:
    """Draw log10(1 + x) of a map, its peak scaled, and the square that holds 99 % of it."""
    height, width = field.map.shape
    logged = np.log1p(field.map / field.map.max() * peak) / np.log(10)
    axes.imshow(logged, cmap=MAPS, vmin=0, vmax=float(np.log1p(peak) / np.log(10)), aspect="auto")
    side = found.sides_px[-1]
    row, column = field.centre
    axes.add_patch(
        Rectangle(
            (column - side / 2, row - side / 2),
            side,
            side,
            fill=False,
            edgecolor="white",
            linewidth=0.8,
            linestyle=(0, (4, 3)),
        )
    )
    axes.set(xticks=[], yticks=[], xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    for spine in axes.spines.values():
        spine.set_visible(False)


def _head(axes: Axes, column: Column, *, data: str, tall: float) -> None:
    """Write name and note above a map of so many inches; what is too long loses its beginning."""
    note = f"{column.note}, stage {column.fields[-1].stage}{data}"
    for text, above, size, weight, colour in (
        (column.name, NAME, 11, "bold", INK),
        (note, NOTE, 8.5, "normal", FAINT),
    ):
        axes.text(
            0,
            1 + above / tall,
            _shortened(text, FontProperties(size=size, weight=weight)),
            transform=axes.transAxes,
            fontsize=size,
            fontweight=weight,
            color=colour,
            parse_math=False,
        )


def _shortened(text: str, font: FontProperties) -> str:
    """Leave so much of the end of a text as fits above a map."""
    if _inches(text, font) <= CELL:
        return text
    ends = (f"...{text[start:]}" for start in range(1, len(text)))
    return next((end for end in ends if _inches(end, font) <= CELL), "...")


def _inches(text: str, font: FontProperties) -> float:
    """Measure a line of text."""
    canvas: Any = FigureCanvasAgg(Figure(figsize=(1, 1), dpi=PNG_DPI))  # has no types
    wide, _, _ = canvas.get_renderer().get_text_width_height_descent(text, font, ismath=False)
    return float(wide) / PNG_DPI


def _under(axes: Axes, found: Extent) -> None:
    bound = _bound(found)
    axes.set_xlabel(
        f"r(99 %) = {100 * found.r[-1]:.1f} %     radius {bound}{found.sigma_px:.0f} px"
        + ("\nsaturated: the image cuts it" if found.saturated else "\n"),
        fontsize=9,
        color=INK,
        labelpad=4,
    )


def _bound(found: Extent) -> str:
    return "\N{GREATER-THAN OR EQUAL TO} " if found.saturated else ""


def _colour_bar(figure: Figure, axes: Axes, *, peak: float) -> None:
    scale = ScalarMappable(Normalize(0, np.log10(1 + peak)), MAPS)
    bar = figure.colorbar(scale, cax=axes)
    powers = max(0, int(np.ceil(np.log10(peak))))
    # At most six powers of ten below the peak, or their words would lie on one another.
    parts = [0.0, *(10.0**-power for power in range(0, powers + 1, 1 + powers // 7))]
    if peak <= 1:
        parts = [0.0, 0.5, 1.0]
    whole = np.log10(1 + peak)
    parts = [part for part in parts if part == 0 or np.log10(1 + peak * part) > 0.08 * whole]
    bar.set_ticks([float(np.log10(1 + peak * part)) for part in parts])
    bar.set_ticklabels([f"{part:g}" for part in parts])
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.set_label("gradient over the map's peak", fontsize=8, color=INK)
    for spine in bar.ax.spines.values():
        spine.set_visible(False)


def _caption(
    columns: Sequence[Column],
    size: tuple[int, int],
    peak: float,
    note: str,
    *,
    wide: float,
) -> list[str]:
    """Say how to read the picture, in lines that fit its width."""
    data = {column.data for column in columns}
    images = images_text([field for column in columns for field in column.fields])
    of_it = f"of {data.pop()}" if len(data) == 1 else "of the data named above each"
    sentences = [
        f"How much each pixel of a {size[0]} x {size[1]} image moves the middle unit of the last "
        f"stage (large) and of the stages before (small): the positive part of its gradient, mean "
        f"of {images} {of_it}, shown as log10(1 + x) with every map's "
        f"peak scaled to {peak:g}.",
        "Dashed: the square that holds 99 % of it; r(99 %) is its share of the image. The radius "
        "sqrt(sum p d\N{SUPERSCRIPT TWO} / 2) takes the gradient without the logarithm.",
    ]
    if any(column.note == "untrained" for column in columns):
        sentences.append(f"Untrained: {note}.")
    font = FontProperties(size=CAPTION_SIZE)
    return [line for sentence in sentences for line in _wrapped(sentence, font, wide=wide)]


def _wrapped(text: str, font: FontProperties, *, wide: float) -> list[str]:
    """Break a text into lines of at most so many inches; a longer word stands alone."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _inches(longer, font) <= wide:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
