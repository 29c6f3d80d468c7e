"""Figures as files: which there are, that equal numbers give equal ones, that they load nothing."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ElementTree

from matplotlib.figure import Figure as MatplotlibFigure
from PIL import Image

from runs.figures import Theme
from runs.guideline_figure import NARROW, WIDE, guideline_figure
from runs.page.document import Details, Document, Figure, Section, Text
from runs.page.pictures import picture, pictures
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
