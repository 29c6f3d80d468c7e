"""The picture of a roofline: every layer below its roofs, and the time of each in their order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evaluators.roofline import DENSE, KINDS, LARGE, OTHER, POINTWISE, SMALL
from runs.console import plain
from runs.field_figure import FAINT, INK

GRID = "#e4e7eb"
COLOURS = {
    LARGE: "#d55e00",
    SMALL: "#e69f00",
    POINTWISE: "#0072b2",
    DENSE: "#009e73",
    OTHER: "#8f969e",
}
"""Of Okabe and Ito, which people with any colour vision tell apart; grey for the rest."""
MARKERS = {LARGE: "o", SMALL: "v", POINTWISE: "s", DENSE: "D"}

SIZE = (9.6, 7.0)
"""Inches."""
LEAST_AREA, AREA = 14.0, 240.0
"""Square points of a marker: of a layer without time, and more for the slowest."""
NEAR = 0.07
"""Share of the width below which the names of two parts stand in two lines."""
ABOVE = 1.12
"""Factor between a slope and its name."""
ROOM = 1.6
"""Factor between the outermost layers and the frame."""


def roofline_figure(facts: dict[str, Any]) -> Figure:
    """Draw the roofline of a network.

    Args:
        facts: of a profile, with the key "roofline".
    """
    found = facts["roofline"]
    figure = Figure(figsize=SIZE, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, height_ratios=(5, 3))
    figure.suptitle(_title(facts), fontsize=10.5, color=INK, x=0.01, ha="left", parse_math=False)
    _roofs(upper, found)
    _bars(lower, found["layers"])
    _legend(upper, found["layers"])
    for axes in (upper, lower):
        axes.tick_params(labelsize=8, colors=INK)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    return figure


def _title(facts: dict[str, Any]) -> str:
    found, (height, width) = facts["roofline"], facts["input"]["size"]
    device = found["device"]
    thread = "one thread of " if device["device"] == "cpu" else ""
    return (
        f"{plain(facts['name'])[-60:]} at {height}x{width}x{facts['input']['channels']}, batch of "
        f"{found['batch_size']}: {found['whole_ms']:.3g} ms on {thread}{device['name']}"
    )


def _roofs(axes: Axes, found: dict[str, Any]) -> None:
    """Draw the roofs, and the layers that have multiply-adds."""
    machine = found["machine"]
    layers = [layer for layer in found["layers"] if layer["effective_macs"]]
    peak, slopes = machine["peak_gflops"], (machine["memory_gbs"], machine["cache_gbs"])
    reached = [layer["intensity"] for layer in layers]
    rates = [layer["gflops"] for layer in layers]
    left = min(*reached, peak / slopes[1]) / ROOM
    right = max(*reached, peak / slopes[0]) * ROOM
    low, high = min(*rates, peak / 50) / ROOM, peak * ROOM
    axes.set(xscale="log", yscale="log", xlim=(left, right), ylim=(low, high))
    axes.grid(which="major", color=GRID, linewidth=0.7)
    slowest = max(layer["ms"] for layer in layers)
    for kind, marker in MARKERS.items():
        # Large ones first, or they would hide the small ones.
        own = [layer for layer in layers if layer["kind"] == kind]
        own.sort(key=lambda layer: -layer["ms"])
        axes.scatter(
            [layer["intensity"] for layer in own],
            [layer["gflops"] for layer in own],
            s=[LEAST_AREA + AREA * layer["ms"] / slowest for layer in own],
            color=COLOURS[kind],
            marker=marker,
            alpha=0.75,
            edgecolor="white",
            linewidth=0.6,
        )
    axes.plot([peak / slopes[1], right], [peak, peak], color=INK, linewidth=1.3)
    axes.annotate(
        f"peak {peak:.0f} GFLOP/s",
        (right, peak),
        (-3, 3),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color=INK,
    )
    for slope, style, words in zip(slopes, ("-", "--"), ("memory", "cache"), strict=True):
        ends = np.array([left, peak / slope])
        axes.plot(ends, ends * slope, color=INK, linewidth=1.3, linestyle=style)
        # Where the slope begins in the frame; turned with it, and a little above.
        start = 1.08 * max(left, low / slope)
        axes.text(
            start,
            ABOVE * start * slope,
            f"{words} {slope:.0f} GB/s",
            rotation=math.degrees(math.atan(ABOVE * slope)),
            rotation_mode="anchor",
            transform_rotates_text=True,
            fontsize=8,
            color=INK,
        )
    axes.set_xlabel("FLOP a byte, two a multiply-add on the map", fontsize=8.5, color=INK)
    axes.set_ylabel("GFLOP/s", fontsize=8.5, color=INK)


def _bars(axes: Axes, layers: Sequence[dict[str, Any]]) -> None:
    """Draw the time of every layer in the order of the network, and below which it cannot be."""
    places = np.arange(len(layers))
    times = [layer["ms"] for layer in layers]
    axes.bar(
        places,
        times,
        width=1.0 if len(layers) > 60 else 0.85,
        color=[COLOURS[layer["kind"]] for layer in layers],
        linewidth=0,
    )
    axes.hlines(
        [layer["bound_ms"] for layer in layers],
        places - 0.5,
        places + 0.5,
        color=INK,
        linewidth=1.2,
    )
    axes.set_xlim(-0.5, len(layers) - 0.5)
    axes.set_ylim(0, 1.12 * max(times))
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    axes.set_ylabel("ms", fontsize=8.5, color=INK)
    end = 0
    ticks: list[float] = []
    words: list[str] = []
    for part, own in itertools.groupby(layers, key=lambda layer: layer["part"].split()[-2:]):
        begin, end = end, end + len(list(own))
        if begin:
            axes.axvline(begin - 0.5, color=FAINT, linewidth=0.6, linestyle=":")
        middle = (begin + end - 1) / 2
        near = bool(ticks) and middle - ticks[-1] < NEAR * len(layers)
        near = near and not words[-1].startswith("\n")
        ticks.append(middle)
        words.append("\n" * near + " ".join(part))
    axes.set_xticks(ticks, words)
    axes.set_xlabel("layers in the order of the network", fontsize=8.5, color=INK)


def _legend(axes: Axes, layers: Sequence[dict[str, Any]]) -> None:
    """Say what the colours are, with each kind's share of the time."""
    handles = []
    for kind in KINDS:
        share = sum(layer["share"] for layer in layers if layer["kind"] == kind)
        if share:
            handles.append(
                Line2D(
                    [],
                    [],
                    linestyle="",
                    marker=MARKERS.get(kind, "_"),
                    markersize=7,
                    color=COLOURS[kind],
                    label=f"{kind} {100 * share:.1f} %" + " (below)" * (kind == OTHER),
                )
            )
    handles.append(Line2D([], [], color=INK, linewidth=1.2, label="least time by the roofs"))
    axes.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        fontsize=8,
        frameon=False,
        labelcolor=INK,
        title="share of the time",
        title_fontsize=8,
        alignment="left",
    )
