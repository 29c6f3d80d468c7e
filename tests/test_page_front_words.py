"""What is said of the front: how to read each pair of axes, where it bends, what it covers."""

from __future__ import annotations

import re

import numpy as np
import pytest

from runs.figures import LIGHT
from runs.knee import Knee
from runs.page.document import Figure, Text
from runs.page.findings import Findings
from runs.page.front import knee_text, section
from tests.made_evidence import with_standing
from tests.made_runs import failed, frame_of, rows
from tests.pages import findings_of


@pytest.fixture(scope="module")
def findings() -> Findings:
    return findings_of(frame_of(with_standing(rows(20))))


@pytest.fixture(scope="module")
def figure(findings: Findings) -> Figure:
    found = section(findings).blocks[0]
    assert isinstance(found, Figure)
    return found


def test_a_switch_of_axes_brings_its_own_reading(figure: Figure) -> None:
    across, scale = figure.switches
    assert across.options[0].reading == figure.reading
    assert across.options[0].alt == figure.alt
    assert across.options[0].note == figure.note
    told = {option.label: option for option in across.options}
    for option in across.options:
        assert option.reading.count(".") == 1
    assert told["latency"].reading.startswith("Higher is better (validation accuracy), and further")
    loss = told["loss over latency"]
    assert loss.reading.startswith("Lower is better (validation cross-entropy)")
    assert "of these two axes" in loss.reading
    assert "validation cross-entropy over latency" in loss.alt
    assert "parameters" in told["parameters"].reading
    assert all(not option.reading and option.note is None for option in scale.options)
    plain = figure.plain_switches
    assert [option["reading"] for option in plain[0]] == [o.reading for o in across.options]
    assert not any({"reading", "alt", "note"} & option.keys() for option in plain[1])


def test_an_empty_picture_has_words_and_no_reference_line() -> None:
    reference = {"id": "elsewhere", "latency_ms": 1.25, "macs": 77, "params": 5}
    found = findings_of(frame_of([failed(0, "no memory")]), reference_network=reference)
    figure = section(found).blocks[0]
    assert isinstance(figure, Figure)
    assert figure.chart is None
    assert figure.draw is not None
    (axes,) = figure.draw(LIGHT, narrow=False).axes
    assert [text.get_text() for text in axes.texts] == ["no finished trial"]
    assert all(np.asarray(line.get_xdata()).size == 0 for line in axes.lines)
    assert "no finished trial" in figure.reading
    assert figure.alt.startswith("An empty picture")


@pytest.mark.parametrize(
    ("shares", "networks", "said"),
    [
        (
            (0.8, 0.6),
            "aa",
            "network a, on a logarithmic axis (80 %) and on a linear axis (60 %)",
        ),
        ((0.3, 0.4), "ab", "is not clear on a logarithmic axis (30 %) or on a linear axis (40 %)"),
        ((0.8, 0.6), "ab", "on a logarithmic axis network a (80 %), on a linear axis network b"),
        ((0.8, 0.4), "aa", "network a (80 %), on a linear axis none that is clear (40 %)"),
    ],
)
def test_the_knee_is_told_once_where_both_scales_agree(
    shares: tuple[float, float], networks: str, said: str
) -> None:
    found = [
        Knee(network=network, share=share, log=log)
        for network, share, log in zip(networks, shares, (True, False), strict=True)
    ]
    assert said in knee_text(found)
    assert knee_text([]) == ""


def test_the_hypervolume_says_whose_it_is(findings: Findings) -> None:
    text = section(findings).blocks[-1]
    assert isinstance(text, Text)
    scores, estimates = (findings.facts[f"hypervolume{end}"] for end in ("", "_estimated"))
    assert scores != estimates
    assert f"{estimates:.4f} by the estimates" in text.text
    assert f"{scores:.4f} by the scores of one training of each network" in text.text
    bare = section(findings_of(frame_of(rows(9)))).blocks[-1]
    assert isinstance(bare, Text)
    assert re.match(r"Hypervolume 0\.\d{4}, by one training of each network:", bare.text)
