from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from evaluators.roofline import KINDS
from runs.field_figure import svg
from runs.roofline_figure import COLOURS, MARKERS, roofline_figure


def facts(layers: int, *, stages: int = 4) -> dict[str, Any]:
    """Make up a network whose layers are of every kind, ten times below their roofs."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(layers):
        kind = KINDS[number % len(KINDS)]
        macs = 0 if kind == "other" else int(10 ** rng.uniform(3, 9))
        ms = 0.01 + macs / 1e7
        part = "head" if number == layers - 1 else f"stage {1 + number * stages // layers}"
        made.append(
            {
                "name": f"layer.{number}",
                "part": part if number else "stem",
                "kind": kind,
                "ms": ms,
                "effective_macs": macs,
                "intensity": 10 ** rng.uniform(-1, 2) if macs else 0.0,
                "gflops": 2 * macs / ms / 1e6,
                "bound_ms": ms / 10,
            }
        )
    total = sum(layer["ms"] for layer in made)
    return {
        "name": "a_network",
        "input": {"channels": 3, "size": [224, 224]},
        "roofline": {
            "batch_size": 1,
            "device": {"device": "cpu", "name": "some processor"},
            "machine": {"peak_gflops": 200.0, "memory_gbs": 40.0, "cache_gbs": 200.0},
            "whole_ms": 1.1 * total,
            "layers": [layer | {"share": layer["ms"] / total} for layer in made],
        },
    }


@pytest.mark.parametrize("layers", [2, 9, 120, 400])
def test_every_layer_has_a_bar_and_every_product_a_marker(layers: int) -> None:
    given = facts(layers)
    figure = roofline_figure(given)
    upper, lower = figure.axes
    products = [layer for layer in given["roofline"]["layers"] if layer["effective_macs"]]
    offsets = np.concatenate([np.asarray(one.get_offsets()) for one in upper.collections])
    assert sorted(offsets[:, 0]) == pytest.approx(sorted(one["intensity"] for one in products))
    heights = [bar.get_height() for bar in lower.patches]
    assert heights == [layer["ms"] for layer in given["roofline"]["layers"]]
    left, right = upper.get_xlim()
    low, high = upper.get_ylim()
    assert all(left < one["intensity"] < right for one in products)
    assert all(low < one["gflops"] < high for one in products)
    assert high > 200
    assert "a_network at 224x224x3, batch of 1" in figure.get_suptitle()


@pytest.mark.parametrize("layers", [6, 40, 400])
@pytest.mark.parametrize("stages", [1, 4])
def test_no_word_leaves_the_figure_or_lies_on_another(layers: int, stages: int) -> None:
    figure = roofline_figure(facts(layers, stages=stages))
    boxes = drawn(figure)
    width, height = figure.bbox.width, figure.bbox.height
    for word, box in boxes:
        assert box.x0 >= 0, word
        assert box.y0 >= 0, word
        assert box.x1 <= width, word
        assert box.y1 <= height, word
    for (one, first), (other, second) in itertools.combinations(boxes, 2):
        assert not first.overlaps(second), (one, other)


def drawn(figure: Figure) -> list[tuple[str, Any]]:
    """Give the words under the bars and in the legend, with their places in pixels."""
    figure.canvas.draw()
    upper, lower = figure.axes
    legend = upper.get_legend()
    assert legend is not None
    words = [*lower.get_xticklabels(), *legend.get_texts(), lower.xaxis.label]
    return [(word.get_text(), word.get_window_extent()) for word in words if word.get_text()]


def test_kinds_differ_in_colour_and_marker_and_the_legend_names_their_share() -> None:
    assert len(set(COLOURS.values())) == len(KINDS)
    assert len(set(MARKERS.values())) == len(KINDS) - 1
    legend = roofline_figure(facts(40)).axes[0].get_legend()
    assert legend is not None
    words = [text.get_text() for text in legend.get_texts()]
    assert [word.rsplit(" ", 2)[0] for word in words[:4]] == list(KINDS[:4])
    assert words[4].startswith("other ")
    assert words[4].endswith(" % (below)")


def test_the_same_layers_give_the_same_picture() -> None:
    assert svg(roofline_figure(facts(40))) == svg(roofline_figure(facts(40)))
