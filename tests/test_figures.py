"""Pictures of made-up runs, asked what is drawn in them and where."""

from __future__ import annotations

import itertools
import struct
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from runs import figures
from runs.figures import DARK, LIGHT, NARROW, WIDE, Theme, front_figure, front_svg, largest_kernels
from runs.ranking import front, objectives_named
from tests.made_evidence import with_standing
from tests.made_runs import NAMES, failed, frame_of, rows

BOTH = objectives_named(NAMES)
DIVERGED = {"state": "diverged", "accuracy": None, "val_loss": None}


def drawn(trials: list[dict[str, Any]], names: tuple[str, ...] = NAMES, **look: Any) -> Axes:
    (axes,) = front_figure(frame_of(trials, names), objectives_named(names), **look).axes
    return axes


def offsets(axes: Axes, label: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    (found,) = (points for points in axes.collections if points.get_label() == label)
    return np.asarray(found.get_offsets(), dtype=float)


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def boxes(axes: Axes) -> list[Bbox]:
    figure = axes.figure
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    return [text.get_window_extent() for text in axes.texts]


def test_the_file_is_a_png_of_1600_by_1000_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "front.png"
    figures.front(frame_of(rows(5)), BOTH, path, title="a run")
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert struct.unpack(">II", data[16:24]) == (1600, 1000)
    assert [file.name for file in tmp_path.iterdir()] == ["front.png"]


def test_equal_trials_give_the_same_svg() -> None:
    assert front_svg(frame_of(rows(9)), BOTH) == front_svg(frame_of(rows(9)), BOTH)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_an_svg_refers_to_nothing_but_its_own_parts(theme: Theme) -> None:
    svg = front_svg(frame_of(rows(9)), BOTH, theme=theme, title="<script>alert(1)</script>")
    root = ElementTree.fromstring(svg)
    links = [value for node in root.iter() for name, value in node.attrib.items() if "href" in name]
    assert links
    assert all(link.startswith("#") for link in links)
    assert "<script" not in svg


def test_grey_points_are_the_complete_trials_alone() -> None:
    axes = drawn([*rows(10, t4=DIVERGED), failed(10, "no memory")])
    expected = sorted((row["latency_ms"], row["accuracy"]) for row in rows(10) if row["trial"] != 4)
    shown = sorted(map(tuple, offsets(axes, "trial")))
    assert np.array(shown) == pytest.approx(np.array(expected))


def test_front_points_are_coloured_by_their_largest_kernel() -> None:
    frame = frame_of(rows(30))
    best = front(frame, BOTH)
    axes = drawn(rows(30))
    for side in set(largest_kernels(best)):
        found = offsets(axes, f"front, largest kernel {side}")
        chosen = best[[side == other for other in largest_kernels(best)]]
        assert found[:, 0].tolist() == pytest.approx(chosen["latency_ms"].tolist())


def test_the_largest_kernel_is_read_from_patterns() -> None:
    written = pd.DataFrame({"kernels": ["3|(13/3/3)x29|9", "7", pd.NA, ""]}, dtype="string")
    assert largest_kernels(written) == [13, 7, 0, 0]


@pytest.mark.parametrize(("count", "size"), list(itertools.product((12, 60), (WIDE, NARROW))))
def test_no_text_lies_on_another_or_on_a_point_of_the_front(
    count: int, size: tuple[float, float]
) -> None:
    axes = drawn(rows(count), size=size)
    best = front(frame_of(rows(count)), BOTH)
    texted = boxes(axes)
    assert len(texted) >= 3
    assert not [pair for pair in itertools.combinations(texted, 2) if pair[0].overlaps(pair[1])]
    points = axes.transData.transform(best[["latency_ms", "accuracy"]].to_numpy(dtype=float))
    assert not [box for box in texted for x, y in points if box.contains(x, y)]
    inside = axes.get_window_extent()
    assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 for box in texted)
    legend = axes.get_legend()
    assert legend is not None
    assert not [box for box in texted if box.overlaps(legend.get_window_extent())]


def test_texts_carry_the_number_in_the_table_and_the_kernels() -> None:
    best = front(frame_of(rows(30)), BOTH)
    expected = {f"{n}: {kernels}" for n, kernels in enumerate(best["kernels"], start=1)}
    expected |= {str(n) for n in range(1, len(best) + 1)}
    shown = texts(drawn(rows(30)))
    assert len(shown) >= 3
    assert set(shown) <= expected


def test_a_long_front_has_numbers_alone() -> None:
    line = {f"t{n}": {"accuracy": 0.5 + 0.01 * n, "latency_ms": 1.0 + n} for n in range(25)}
    shown = texts(drawn(rows(25, **line)))
    assert len(shown) >= 20
    assert all(text.isdigit() for text in shown)


@pytest.mark.parametrize(("slowest", "scale"), [(4.0, "linear"), (6.0, "log")])
def test_the_cost_axis_is_logarithmic_from_a_ratio_of_five(slowest: float, scale: str) -> None:
    ends = {"t0": {"latency_ms": 1.0}, "t1": {"latency_ms": slowest, "accuracy": 0.99}}
    assert drawn(rows(2, **ends)).get_xscale() == scale


def test_a_few_bad_trials_are_counted_instead_of_stretching_the_axis() -> None:
    axes = drawn(rows(40, t7={"accuracy": 0.1}))
    assert axes.get_ylim()[0] > 0.7
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()][-1].endswith("1 more trial below")


def test_bars_span_the_interval_of_the_latency() -> None:
    interval = {"latency_ms": 2.0, "latency_low_ms": 1.5, "latency_high_ms": 3.0}
    (bars,) = drawn(rows(1, t0=interval)).containers
    (path,) = bars[2][0].get_paths()
    assert path.vertices[:, 0].tolist() == pytest.approx([1.5, 3.0])


def test_bars_are_left_out_where_the_interval_is_not_known() -> None:
    unknown = {"latency_ms": 2.0, "latency_low_ms": None, "latency_high_ms": None}
    (bars,) = drawn(rows(1, t0=unknown)).containers
    (path,) = bars[2][0].get_paths()
    assert path.vertices[:, 0].tolist() == pytest.approx([2.0, 2.0])


def test_the_front_is_a_line_of_steps_for_two_objectives_only() -> None:
    assert [line.get_drawstyle() for line in drawn(rows(9)).lines] == ["steps-post"]
    assert not drawn(rows(9), ("accuracy", "latency", "params")).lines


def test_one_objective_is_drawn_over_the_trials() -> None:
    axes = drawn(rows(9), ("accuracy",))
    assert axes.get_xlabel() == "trial"
    assert sorted(offsets(axes, "trial")[:, 0]) == list(range(9))


def test_axes_name_their_units_once() -> None:
    axes = drawn(rows(5), ("val_loss", "params"))
    assert axes.get_ylabel() == "validation cross-entropy"
    assert axes.get_xlabel() == "parameters of the merged network"
    assert drawn(rows(5)).get_xlabel() == "latency of the merged network (ms)"


def test_accuracies_are_written_as_percentages() -> None:
    axes = drawn(rows(9))
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert all(label.endswith("%") for label in labels)


@pytest.mark.parametrize("trials", [[], [failed(0, "no memory")], rows(1, t0=DIVERGED)])
def test_a_run_without_a_complete_trial_says_so(trials: list[dict[str, Any]]) -> None:
    assert texts(drawn(trials)) == ["no finished trial"]


def test_a_title_with_dollars_and_tags_is_drawn_as_it_is() -> None:
    name = "$x_1 <b>$ & co"
    assert drawn(rows(2), title=name).get_title(loc="left") == name


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_ink_stands_out_from_the_ground(theme: Theme) -> None:
    assert contrast(theme.ink, theme.ground) >= 7
    assert contrast(theme.trial, theme.ground) >= 2


def contrast(a: str, b: str) -> float:
    """Give the contrast ratio of two colours, 1 to 21 (WCAG 2.1)."""

    def light(colour: str) -> float:
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((light(a), light(b)))
    return (high + 0.05) / (low + 0.05)


def test_estimates_are_drawn_where_the_run_has_them() -> None:
    frame = frame_of(with_standing(rows(6)))
    (axes,) = front_figure(frame, objectives_named(NAMES)).axes
    assert axes.get_ylabel() == "validation accuracy, estimated"
    drawn = sorted(axes.collections[0].get_offsets()[:, 1])
    assert drawn == pytest.approx(sorted(frame["estimate"]))
