"""The chart of the front: its numbers are the frame's, in every position of its switches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import moocore
import numpy as np
import pandas as pd
import pytest
from plotly import graph_objects

from runs.front_view import POSSIBLE, views
from runs.page.document import Figure, Text
from runs.page.findings import Findings
from runs.page.front import section
from runs.ranking import OBJECTIVES, front, objectives_named
from tests.made_evidence import with_standing
from tests.made_runs import NAMES, failed, frame_of, rows
from tests.pages import EVIL, findings_of

DIVERGED = {"state": "diverged", "accuracy": None, "val_loss": None}
ACROSS = ("latency", "macs", "params")
LABELS = ("latency", "multiply-adds", "parameters")
NAMED = ("on the front: 50 % or more", "10 to 50 %", "below 10 %")


def figure_of(findings: Findings) -> Figure:
    (figure,) = (block for block in section(findings).blocks if isinstance(block, Figure))
    assert figure.chart is not None
    graph_objects.Figure(figure.chart)  # raises on keys that plotly does not know
    return figure


def charts(figure: Figure) -> dict[str, list[dict[str, Any]]]:
    """Give the traces in every position of the switch of axes, as plotly would restyle them."""
    assert figure.chart is not None
    found = {"": list(figure.chart["data"])}
    for switch in figure.switches:
        if switch.label != "Axes":
            continue
        for option in switch.options:
            traces = [restyled(trace, option.data, place) for place, trace in enumerate(found[""])]
            graph_objects.Figure({"data": traces, "layout": relaid(option.layout)})
            found[option.label] = traces
    return found


def restyled(trace: Mapping[str, Any], data: Mapping[str, Any], place: int) -> dict[str, Any]:
    made: dict[str, Any] = {key: dict(v) if isinstance(v, dict) else v for key, v in trace.items()}
    for path, values in data.items():
        *outer, last = path.split(".")
        if values[place] is not None:
            (made.setdefault(outer[0], {}) if outer else made)[last] = values[place]
    return made


def relaid(layout: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for path, value in layout.items():
        *outer, last = path.split(".")
        inner = made
        for key in outer:
            inner = inner.setdefault(key, {})
        inner[last] = value
    return made


def networks(traces: list[dict[str, Any]], *names: str) -> dict[str, tuple[float, float]]:
    """Give ids and places of the networks in traces whose names begin so."""
    return {
        network[0]: (x, y)
        for trace in traces
        if trace.get("name", "").startswith(names) and trace.get("customdata")
        for network, x, y in zip(trace["customdata"], trace["x"], trace["y"], strict=True)
    }


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    trials = with_standing([*rows(30, t4=DIVERGED), failed(30, "no memory")])
    rng = np.random.default_rng(3)
    for row in trials:
        if row.get("estimate"):
            row["estimate"] = row["accuracy"] + 0.01 * rng.standard_normal()
            row["estimate_low"], row["estimate_high"] = (row["estimate"] + d for d in (-0.02, 0.02))
    return frame_of(trials)


@pytest.fixture(scope="module")
def findings(frame: pd.DataFrame) -> Findings:
    return findings_of(frame)


@pytest.fixture(scope="module")
def figure(findings: Findings) -> Figure:
    return figure_of(findings)


@pytest.fixture(scope="module")
def shown(figure: Figure) -> dict[str, list[dict[str, Any]]]:
    return charts(figure)


def test_every_network_of_the_ranking_is_a_point_at_its_estimate(
    findings: Findings, shown: dict[str, list[dict[str, Any]]]
) -> None:
    for label, name in (("", "latency"), *zip(LABELS, ACROSS, strict=True)):
        found = networks(shown[label], *NAMED)
        assert len(found) == len(findings.competing) == 29
        for row in findings.competing.to_dict("records"):
            expected = (float(row[OBJECTIVES[name].column]), float(row["estimate"]))
            assert found[row["id"]] == pytest.approx(expected, rel=1e-5)


def test_the_run_s_own_axes_show_its_front_and_its_probabilities(
    findings: Findings, shown: dict[str, list[dict[str, Any]]]
) -> None:
    frame = findings.competing
    for names, chosen in (
        (("on the front",), frame["p_front"] >= 0.5),
        (("10 to 50",), (frame["p_front"] >= 0.1) & (frame["p_front"] < 0.5)),
        (("below",), frame["p_front"] < 0.1),
    ):
        assert set(networks(shown[""], *names)) == set(frame.loc[chosen, "id"])
    numbers = {
        network[0]: number
        for trace in shown[""][:4]
        for network, number in zip(trace.get("customdata", ()), trace.get("text", ()), strict=True)
        if number
    }
    assert numbers == {network: str(n) for n, network in enumerate(findings.front["id"], start=1)}


@pytest.mark.parametrize(("label", "name"), [("multiply-adds", "macs"), ("parameters", "params")])
def test_the_front_follows_the_axes(
    findings: Findings, shown: dict[str, list[dict[str, Any]]], label: str, name: str
) -> None:
    frame = findings.competing
    costs = frame[OBJECTIVES[name].column].to_numpy(dtype=float)
    losses = np.column_stack([costs, 1 - frame["estimate"].to_numpy(dtype=float)])
    best = frame[moocore.is_nondominated(losses, keep_weakly=True)]
    expected = {
        (float(f"{x:.6g}"), float(f"{y:.6g}"))
        for x, y in zip(best[OBJECTIVES[name].column], best["estimate"], strict=True)
    }
    (line,) = (trace for trace in shown[label] if trace.get("name") == "reached by the front")
    corners = list(zip(line["x"], line["y"], strict=True))
    assert set(corners[::2]) == expected
    # Between two networks the line stays at the height of the cheaper one.
    assert all(
        corner == (after[0], before[1])
        for before, corner, after in zip(corners[::2], corners[1::2], corners[2::2], strict=False)
    )


def test_chances_on_other_axes_are_those_of_worlds_drawn_from_the_intervals() -> None:
    base = {"estimate_low": None, "latency_low_ms": None, "accuracy": 0.8}
    sure = {"t0": {"macs": 100, "params": 1}, "t1": {"macs": 200, "params": 1}}
    even = {"estimate": 0.8, "estimate_low": 0.78, "estimate_high": 0.82}
    trials = with_standing(rows(2, **{key: base | value for key, value in sure.items()}))
    view = next(
        v
        for v in views(frame_of([row | even for row in trials]), objectives_named(NAMES))
        if v.across is not None and v.across.name == "macs"
    )
    chances = view.points.set_index("trial")["chance"]
    assert chances[0] == 1.0
    # Dearer, and as good as the other: better in half of the worlds.
    assert chances[1] == pytest.approx(0.5, abs=0.05)


def test_bars_end_where_the_intervals_do(
    findings: Findings, shown: dict[str, list[dict[str, Any]]]
) -> None:
    known = findings.frame.set_index("id")
    for label, cost in (("", True), ("parameters", False)):
        for trace in shown[label]:
            if not trace.get("name", "").startswith(("on the front", "10 to 50")):
                continue
            assert trace["customdata"]
            for place, (network,) in enumerate(trace["customdata"]):
                row = known.loc[network]
                high = trace["y"][place] + trace["error_y"]["array"][place]
                low = trace["y"][place] - trace["error_y"]["arrayminus"][place]
                assert (low, high) == pytest.approx(
                    (row["estimate_low"], row["estimate_high"]), abs=1e-5
                )
                right = trace["error_x"]["array"][place]
                assert (right is None) != cost
                if cost:
                    expected = row["latency_high_ms"] - row["latency_ms"]
                    assert right == pytest.approx(expected, rel=1e-4)


def test_the_pointer_is_told_what_a_network_is(frame: pd.DataFrame) -> None:
    row = frame.iloc[0]
    anchors = [{"id": row["id"], "names": ["shape of <X>"], "published": True}]
    traces = charts(figure_of(findings_of(frame, anchors=anchors)))[""]
    (told,) = {
        text
        for trace in traces
        if trace.get("hovertext")
        for network, text in zip(trace["customdata"], trace["hovertext"], strict=True)
        if network[0] == row["id"]
    }
    for words in (
        f"<b>{row['id']}</b> recommended",
        "shape of &lt;X&gt;",
        f"as measured {row['accuracy']:.1%}",
        f"estimate {row['estimate']:.1%}",
        f"kernels {row['kernels']}",
        f"depths {row['depths']}, widths {row['widths']}",
        f"structure {row['structures']}",
        f"{row['latency_ms']:.3f} ms ({row['latency_low_ms']:.3f}\u2013",
        f"{row['params']:,} parameters",
        "S1 to S4: ",
        "trained for 2 epochs, 1 seed",
    ):
        assert words in told, words


def test_recommended_published_and_reference_are_marked(frame: pd.DataFrame) -> None:
    ids = frame["id"].tolist()
    made = findings_of(
        frame,
        anchors=[
            {"id": ids[3], "names": ["shape of X"], "published": True},
            {"id": ids[4], "names": ["middle of the space"], "published": False},
        ],
        reference_network={"id": ids[4], "latency_ms": 1.0, "macs": 5, "params": 6},
    )
    traces = charts(figure_of(made))[""]
    assert set(networks(traces, "recommended")) == {ids[0]}
    assert set(networks(traces, "stands for a published")) == {ids[3]}
    assert set(networks(traces, "corner of the space")) == {ids[4]}
    assert set(networks(traces, "reference network")) == {ids[4]}


def test_a_reference_that_was_not_trained_moves_with_the_axes(frame: pd.DataFrame) -> None:
    reference = {"id": "elsewhere", "latency_ms": 1.25, "macs": 77, "params": None}
    found = charts(figure_of(findings_of(frame, reference_network=reference)))
    for label, places in (
        ("latency", [1.25, 1.25]),
        ("multiply-adds", [77, 77]),
        ("parameters", []),
    ):
        (line,) = (t for t in found[label] if t.get("name") == "reference network, not trained")
        assert line["x"] == places


def test_every_trace_is_there_in_every_position(figure: Figure) -> None:
    assert figure.chart is not None
    across, scale = figure.switches
    assert [option.label for option in across.options] == [
        *("latency", "multiply-adds", "parameters", "loss over latency"),
    ]
    for option in across.options:
        assert {len(values) for values in option.data.values()} == {len(figure.chart["data"])}
    assert {option.label for option in scale.options} == {"logarithmic", "linear"}
    first = scale.options[0].layout["xaxis.type"]
    assert figure.chart["layout"]["xaxis"].get("type", "linear") == first


def test_without_estimates_the_front_is_that_of_the_scores() -> None:
    frame = frame_of(rows(20))
    figure = figure_of(findings_of(frame))
    traces = charts(figure)[""]
    best = front(frame, objectives_named(NAMES))
    assert set(networks(traces, "on the front")) == set(best["id"])
    assert not networks(traces, "perhaps")
    assert "estimated" not in str(figure.chart)


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (("accuracy",), ["trial", *LABELS, "loss over latency"]),
        (
            ("accuracy", "macs"),
            ["multiply-adds", "latency", "parameters", "loss over multiply-adds"],
        ),
        (("macs", "params"), ["parameters", "latency"]),
        (("latency", "accuracy"), ["accuracy", "multiply-adds", "parameters"]),
        (
            ("accuracy", "latency", "params"),
            ["latency", "parameters", "multiply-adds", "loss over latency"],
        ),
        (("val_loss", "latency"), [*LABELS]),
    ],
)
def test_whatever_was_searched_for_has_its_axes(names: tuple[str, ...], labels: list[str]) -> None:
    found = findings_of(frame_of(rows(12), names), names)
    figure = figure_of(found)
    (across,) = (switch for switch in figure.switches if switch.label == "Axes")
    assert [option.label for option in across.options] == labels
    numbered = {
        network[0]
        for trace in charts(figure)[""][:4]
        for network, number in zip(trace.get("customdata", ()), trace.get("text", ()), strict=True)
        if number
    }
    assert numbered == set(found.front["id"])


def test_another_score_has_its_own_front_and_no_estimates(
    findings: Findings, figure: Figure, shown: dict[str, list[dict[str, Any]]]
) -> None:
    frame = findings.competing
    losses = frame[["latency_ms", "val_loss"]].to_numpy(dtype=float)
    best = frame[moocore.is_nondominated(losses, keep_weakly=True)]
    traces = shown["loss over latency"]
    assert set(networks(traces, "on the front")) == set(best["id"])
    found = networks(traces, "on the front", "trial")
    for row in frame.to_dict("records"):
        assert found[row["id"]] == pytest.approx((row["latency_ms"], row["val_loss"]), rel=1e-5)
    layout = figure.switches[0].options[-1].layout
    assert layout["yaxis.title.text"] == "validation cross-entropy"
    assert layout["yaxis.tickformat"] == ""


def test_three_objectives_are_not_joined_by_a_line() -> None:
    names = ("accuracy", "latency", "params")
    traces = charts(figure_of(findings_of(frame_of(rows(12), names), names)))
    for label, joined in (("", False), ("parameters", False), ("multiply-adds", True)):
        (line,) = (t for t in traces[label] if t.get("name") == "reached by the front")
        assert bool(line["x"]) == joined


def test_segmentation_is_drawn_by_its_miou() -> None:
    names = ("miou", "latency")
    frame = frame_of([row | {"miou": row["accuracy"] / 2} for row in rows(8)], names)
    found = networks(charts(figure_of(findings_of(frame, names)))[""], "trial", "on the front")
    assert {y for _, y in found.values()} == {float(f"{y:.6g}") for y in frame["miou"]}
    labels = [option.label for option in figure_of(findings_of(frame, names)).switches[0].options]
    assert labels == [*LABELS, "accuracy over latency", "loss over latency"]


EQUAL = {"accuracy": 0.5, "latency_ms": 1.0, "macs": 9, "params": 9}


@pytest.mark.parametrize(
    ("trials", "names"),
    [
        ([], NAMES),
        ([], ("accuracy",)),
        (rows(1), NAMES),
        (rows(1), ("accuracy",)),
        ([failed(0, "no memory"), failed(1, EVIL)], NAMES),
        ([row | DIVERGED for row in rows(3)], NAMES),
        ([row | EQUAL for row in rows(4)], NAMES),
        ([row | {"latency_ms": None, "latency_low_ms": None} for row in rows(4)], NAMES),
        ([row | {"latency_ms": None} for row in rows(4)], ("accuracy", "macs")),
        ([row | {"latency_ms": 0.0} for row in rows(3)], NAMES),
    ],
)
def test_a_run_that_came_to_little_has_a_picture(
    trials: list[dict[str, Any]], names: tuple[str, ...]
) -> None:
    found = findings_of(frame_of(trials, names), names)
    blocks = section(found).blocks
    figure = blocks[0]
    assert isinstance(figure, Figure)
    complete = bool((found.frame["state"] == "complete").any())
    assert (figure.chart is not None) == complete
    assert complete or not figure.switches
    if complete:
        graph_objects.Figure(figure.chart)
        charts(figure)
    said = [block.text for block in blocks if isinstance(block, Text)]
    assert ("No training was complete, so there is no front." in said) == found.front.empty


def test_bad_trials_are_counted_instead_of_stretching_the_axis() -> None:
    figure = figure_of(findings_of(frame_of(rows(40, t7={"accuracy": 0.1}))))
    assert figure.chart is not None
    assert figure.chart["layout"]["yaxis"]["range"][0] > 0.7
    assert figure.note == "1 network lies below the picture: double-click it to show it."
    assert not any("below" in trace.get("name", "") for trace in figure.chart["data"])
    costs = figure_of(findings_of(frame_of(rows(12), ("macs", "params")), ("macs", "params")))
    assert costs.note == "" or "above the picture" in costs.note


def test_the_reading_is_one_sentence_that_names_probability_and_bars(figure: Figure) -> None:
    reading = figure.reading
    assert reading.count(".") == 1
    assert f"a hollow one of {100 * POSSIBLE:.0f} % or more" in reading
    assert "bars are 95 % intervals" in reading
