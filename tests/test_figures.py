"""Pictures of the front of made-up runs, asked what is drawn in them and where."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from runs.figures import DARK, LIGHT, Theme, front_figure
from runs.front_view import SHADES, Marks, View, views
from runs.page.pictures import picture
from runs.ranking import front, objectives_named
from tests.made_evidence import with_standing
from tests.made_runs import NAMES, failed, frame_of, rows

BOTH = objectives_named(NAMES)
DIVERGED = {"state": "diverged", "accuracy": None, "val_loss": None}
NOTHING = Marks()


def view_of(trials: list[dict[str, Any]], names: tuple[str, ...] = NAMES) -> View:
    return views(frame_of(trials, names), objectives_named(names))[0]


def drawn(
    trials: list[dict[str, Any]],
    names: tuple[str, ...] = NAMES,
    *,
    marks: Marks = NOTHING,
    **look: Any,
) -> Axes:
    (axes,) = front_figure(view_of(trials, names), marks, **look).axes
    return axes


def offsets(axes: Axes, label: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    (found,) = (points for points in axes.collections if points.get_label() == label)
    return np.asarray(found.get_offsets(), dtype=float)


def in_order(points: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return points[np.lexsort(points.T)]


def legend(axes: Axes) -> list[str]:
    figure = axes.figure
    assert isinstance(figure, Figure)
    return [text.get_text() for found in figure.legends for text in found.get_texts()]


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def boxes(axes: Axes) -> list[Bbox]:
    figure = axes.figure
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    return [text.get_window_extent() for text in axes.texts]


def test_an_svg_refers_to_nothing_but_its_own_parts_and_is_the_same_every_time() -> None:
    def draw(theme: Theme, *, narrow: bool) -> Figure:
        return front_figure(
            view_of(rows(9)), NOTHING, theme=theme, narrow=narrow, title="<script>alert(1)</script>"
        )

    found = picture(draw, every=True)
    assert picture(draw).svg == found.svg
    for svg in found.svgs.values():
        root = ElementTree.fromstring(svg)
        links = [v for node in root.iter() for name, v in node.attrib.items() if "href" in name]
        assert links
        assert all(link.startswith("#") for link in links)
        assert "<script" not in svg


def test_complete_networks_alone_are_drawn() -> None:
    axes = drawn([*rows(10, t4=DIVERGED), failed(10, "no memory")])
    expected = sorted((row["latency_ms"], row["accuracy"]) for row in rows(10) if row["trial"] != 4)
    shown = [tuple(point) for name in ("trial", "on the front") for point in offsets(axes, name)]
    assert np.array(sorted(shown)) == pytest.approx(np.array(expected))


def test_filled_hollow_and_grey_follow_the_probability() -> None:
    trials = with_standing(rows(12))
    for row, chance in zip(trials, itertools.cycle((0.5, 0.499, 0.1, 0.099)), strict=False):
        row["p_front"] = chance
    frame = frame_of(trials)
    axes = drawn(trials)
    for label, chances, hollow in (
        ("on the front: 50 % or more", (0.5,), False),
        ("10 to 50 %", (0.499, 0.1), True),
        ("below 10 %", (0.099,), False),
    ):
        chosen = frame[frame["p_front"].isin(chances)]
        expected = chosen[["latency_ms", "estimate"]].to_numpy(dtype=float)
        assert offsets(axes, label) == pytest.approx(expected)
        (found,) = (points for points in axes.collections if points.get_label() == label)
        faces = np.asarray(found.get_facecolor())
        assert (len(faces) == 0 or not faces[:, 3].any()) == hollow


def test_without_probabilities_the_front_is_filled() -> None:
    best = front(frame_of(rows(30)), BOTH)
    shown = offsets(drawn(rows(30)), "on the front")
    expected = best[["latency_ms", "accuracy"]].to_numpy(dtype=float)
    assert in_order(shown) == pytest.approx(in_order(expected))
    assert "perhaps on the front" not in legend(drawn(rows(30)))


def test_networks_of_the_front_are_coloured_by_their_largest_kernel() -> None:
    view = view_of(rows(30))
    assert [view.colours[min(view.colours)], view.colours[max(view.colours)]] == [
        SHADES[0],
        SHADES[-1],
    ]
    axes = drawn(rows(30))
    (found,) = (points for points in axes.collections if points.get_label() == "on the front")
    shown = [to_hex(colour) for colour in np.asarray(found.get_facecolor())]
    kernels = view.points.loc[view.points["worth"] == "likely", "kernel"].tolist()
    assert len(set(kernels)) > 1
    assert shown == [view.colours[kernel] for kernel in kernels]
    assert {f"largest kernel {kernel}" for kernel in kernels} <= set(legend(axes))


def test_marks_stand_around_their_networks() -> None:
    trials = rows(12)
    ids = [row["id"] for row in trials]
    marks = Marks(
        recommended=ids[0],
        published=frozenset(ids[1:3]),
        corners=frozenset(ids[3:5]),
        reference={"id": ids[5], "latency_ms": 9.0},
    )
    axes = drawn(trials, marks=marks)
    for label, chosen in (
        ("recommended", trials[:1]),
        ("stands for a published network", trials[1:3]),
        ("corner of the space", trials[3:5]),
        ("reference network", trials[5:6]),
    ):
        expected = np.array([(row["latency_ms"], row["accuracy"]) for row in chosen])
        assert in_order(offsets(axes, label)) == pytest.approx(in_order(expected))
    assert not [line for line in axes.lines if line.get_linestyle() == "--"]


def test_a_reference_that_was_not_trained_is_a_line_at_its_cost() -> None:
    marks = Marks(reference={"id": "elsewhere", "latency_ms": 1.25})
    (line,) = (line for line in drawn(rows(9), marks=marks).lines if line.get_linestyle() == "--")
    assert list(line.get_xdata()) == [1.25, 1.25]  # type: ignore[arg-type]
    assert line.get_label() == "reference network, not trained"


@pytest.mark.parametrize(("count", "narrow"), list(itertools.product((12, 60), (False, True))))
def test_no_text_lies_on_another_or_on_a_point_of_the_front(count: int, *, narrow: bool) -> None:
    axes = drawn(rows(count), narrow=narrow)
    best = front(frame_of(rows(count)), BOTH)
    texted = boxes(axes)
    assert len(texted) >= 3
    assert not [pair for pair in itertools.combinations(texted, 2) if pair[0].overlaps(pair[1])]
    points = axes.transData.transform(best[["latency_ms", "accuracy"]].to_numpy(dtype=float))
    assert not [box for box in texted for x, y in points if box.contains(x, y)]
    inside = axes.get_window_extent()
    assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 for box in texted)


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
    assert "1 more trial below" in legend(axes)


def bars(axes: Axes) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
    (found,) = axes.containers
    return [path.vertices for side in found[2] for path in side.get_paths()]


def test_bars_span_the_intervals_of_latency_and_estimate() -> None:
    interval = {"latency_ms": 2.0, "latency_low_ms": 1.5, "latency_high_ms": 3.0}
    interval |= {"estimate": 0.8, "estimate_low": 0.7, "estimate_high": 0.85}
    across, up = bars(drawn(rows(1, t0=interval)))
    assert across == pytest.approx(np.array([[1.5, 0.8], [3.0, 0.8]]))
    assert up == pytest.approx(np.array([[2.0, 0.7], [2.0, 0.85]]))


def test_bars_are_left_out_where_the_interval_is_not_known() -> None:
    unknown = {"latency_ms": 2.0, "latency_low_ms": None, "latency_high_ms": None}
    across, _ = bars(drawn(rows(1, t0=unknown)))
    assert across[:, 0].tolist() == pytest.approx([2.0, 2.0])


def test_the_front_is_a_line_of_steps_for_two_objectives_only() -> None:
    def corners(names: tuple[str, ...]) -> int:
        return len(np.asarray(drawn(rows(9), names).lines[0].get_path().vertices))

    assert corners(NAMES) == 2 * len(front(frame_of(rows(9)), BOTH)) - 1
    assert corners(("accuracy", "latency", "params")) == 0


def test_one_objective_is_drawn_over_the_trials() -> None:
    axes = drawn(rows(9), ("accuracy",))
    assert axes.get_xlabel() == "trial"
    shown = [offsets(axes, name)[:, 0] for name in ("trial", "on the front")]
    assert sorted(np.concatenate(shown)) == list(range(9))
    assert len(shown[1]) == 1


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


def test_a_run_without_what_lies_across_says_so() -> None:
    unmeasured = [row | {"latency_ms": None} for row in rows(3)]
    assert texts(drawn(unmeasured)) == ["no finished trial has a latency"]


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
    axes = drawn(with_standing(rows(6)))
    assert axes.get_ylabel() == "validation accuracy, estimated"
    heights = np.concatenate(
        [
            np.asarray(found.get_offsets())[:, 1]
            for found in axes.collections
            if found.get_label() in view_of(with_standing(rows(6))).names.values()
        ]
    )
    assert sorted(heights) == pytest.approx(sorted(frame["estimate"]))


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_kernels_stand_out_from_both_grounds(theme: Theme) -> None:
    assert all(contrast(shade, theme.ground) >= 3 for shade in SHADES)
