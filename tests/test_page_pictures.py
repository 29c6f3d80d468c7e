"""Figures as files: which there are, that equal numbers give equal ones, that they load nothing."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ElementTree
from urllib.parse import unquote

import numpy as np
import pytest
from matplotlib.figure import Figure as MatplotlibFigure
from PIL import Image

from runs.figures import Theme
from runs.guideline_figure import NARROW, WIDE, guideline_figure
from runs.page.document import Details, Document, Figure, Section, Text
from runs.page.pictures import MOST_BYTES, picture, pictures, slim
from tests.made_evidence import dense


def draw(theme: Theme, *, narrow: bool) -> MatplotlibFigure:
    return guideline_figure({"guidelines": dense()}, theme=theme, size=NARROW if narrow else WIDE)


def test_a_picture_is_a_png_and_an_svg_for_each_scheme_and_width() -> None:
    found = picture(draw, every=True)
    with Image.open(io.BytesIO(found.png)) as image:
        assert image.size == (1600, 720)
    assert [kind for kind, _ in found.sources] == [
        *("light wide", "light narrow"),
        *("dark wide", "dark narrow"),
    ]
    assert len({source for _, source in found.sources}) == 4
    assert found.svg == picture(draw).svg
    for svg in found.svgs.values():
        for element in ElementTree.fromstring(svg).iter():
            assert not str(element.tag).endswith("script")
            for name, value in element.attrib.items():
                assert not name.endswith("href") or value.startswith("#")


def test_every_figure_of_a_document_is_drawn_by_its_key() -> None:
    plain = Figure(key="plain", reading="So.", alt="A plot.", draw=draw)
    chart = Figure(
        key="chart", reading="So.", alt="A plot.", draw=draw, chart={"data": [], "layout": {}}
    )
    alone = Figure(key="alone", reading="So.", alt="A plot.", chart={"data": [], "layout": {}})
    section = Section(
        key="s",
        title="S",
        blocks=[Text(text="t"), plain, Details(summary="more", blocks=[chart, alone])],
    )
    document = Document(title="T", subtitle="", answer=[], sections=[section], data={})
    drawn = pictures(document)
    assert {key: len(found.svgs) for key, found in drawn.items()} == {"plain": 4, "chart": 1}


def test_an_svg_in_a_page_is_lighter_and_draws_the_same() -> None:
    whole = picture(draw).svg
    light = slim(whole)
    assert len(light) < 0.87 * len(whole)
    one, other = (list(ElementTree.fromstring(svg).iter()) for svg in (whole, light))
    kept = [element for element in one if not re.search("metadata|RDF|purl|creat", element.tag)]
    assert [element.tag for element in other] == [element.tag for element in kept]
    for before, after in zip(kept, other, strict=True):
        for name, value in before.attrib.items():
            numbers, fewer = (re.findall(r"-?\d+\.?\d*", v) for v in (value, after.attrib[name]))
            assert [*map(float, fewer)] == pytest.approx([*map(float, numbers)], rel=1e-3, abs=1e-3)
    address = picture(draw).sources[0][1]
    assert unquote(address.removeprefix("data:image/svg+xml,")) == light
    assert not {"#", '"', "\n"} & {*address}


def test_a_png_keeps_the_colour_of_a_single_mark_and_stays_small() -> None:
    def crowd(theme: Theme, *, narrow: bool) -> MatplotlibFigure:
        figure = MatplotlibFigure(figsize=(4 if narrow else 8, 8), facecolor=theme.ground)
        axes = figure.add_axes((0, 0, 1, 1))
        rng = np.random.default_rng(0)
        axes.plot(rng.random((2, 300)), np.arange(2), alpha=0.5, color="#0072b2")
        axes.plot([0.5], [0.5], "s", color="#d55e00", markersize=9)
        return figure

    png = picture(crowd).png
    assert len(png) <= MOST_BYTES
    with Image.open(io.BytesIO(png)) as image:
        assert image.size == (800, 800)
        found = image.convert("RGB").getpixel((400, 400))
    assert found == pytest.approx((0xD5, 0x5E, 0), abs=16)
