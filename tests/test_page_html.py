"""The page as text: what it escapes, what it loads, what its scripts can read."""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from hashlib import sha256
from itertools import pairwise

import pytest

from runs.page.document import (
    Card,
    Cards,
    Cell,
    Code,
    Column,
    Details,
    Document,
    Figure,
    Option,
    Pairs,
    Points,
    Row,
    Section,
    Switch,
    Table,
    Text,
)
from runs.page.html import TEMPLATES, html
from runs.page.pictures import Picture
from tests import pages

EVIL = "</script><script>alert(1)</script><!--"
BREAKOUT = "'\"><img src=x onerror=alert(2)> &amp;\u2028"


class Reader(pages.Reader):
    """Collects the scripts of a page by type too."""

    def __init__(self, page: str) -> None:
        self.scripts: list[tuple[str, str]] = []
        super().__init__(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        super().handle_starttag(tag, attrs)
        if tag == "script":
            self.scripts.append((dict(attrs).get("type") or "", ""))

    def handle_data(self, data: str) -> None:
        super().handle_data(data)
        if "script" in self._open:
            kind, text = self.scripts[-1]
            self.scripts[-1] = (kind, text + data)

    def named(self, name: str) -> list[dict[str, str | None]]:
        """Give the attributes of all tags of a name."""
        return [attributes for tag, attributes in self.tags if tag == name]


def document(text: str) -> Document:
    """Write a text wherever a document takes one."""
    figure = Figure(
        key="one",
        reading=text,
        alt=text,
        chart={"data": [{"type": "bar", "x": [1], "y": [2], "name": text}], "layout": {}},
        switches=[
            Switch(
                label=text,
                options=[Option(label=text, data={"name": [text]}, layout={"title.text": text})]
                * 2,
            )
        ],
    )
    drawing = Figure(key="two", reading=text, alt=text)
    table = Table(
        key="one",
        caption=text,
        columns=[Column(heading=text, number=True), Column(heading=text)],
        rows=[
            Row(cells=[Cell(text=text, value=1.5), Cell(text=text, network="n1")], badge=text),
            Row(cells=[Cell(text="\u2013"), Cell(text=text)]),
        ],
    )
    card = Card(network="n1", title=text, badge=text, blocks=[Text(text=text)])
    blocks = [figure, drawing, table, Points(items=[text]), Pairs(rows=[(text, text)])]
    return Document(
        title=text,
        subtitle=text,
        answer=[text],
        sections=[
            Section(key="front", title=text, blocks=blocks),
            Section(
                key="second",
                title=text,
                blocks=[
                    Details(summary=text, blocks=[Code(text=text)], unfolded=True),
                    Cards(cards=[card]),
                ],
            ),
        ],
        data={"name": text, "numbers": [1.0, float("nan")]},
    )


DRAWN = {
    key: Picture(png=b"", svgs=dict.fromkeys(("light wide", "dark wide", "light narrow"), "<svg/>"))
    for key in ("one", "two")
}


@pytest.fixture(scope="module")
def page() -> str:
    return html(document(EVIL + BREAKOUT), DRAWN)


@pytest.fixture(scope="module")
def reader(page: str) -> Reader:
    return Reader(page)


def test_names_bring_no_tags_with_them(reader: Reader) -> None:
    plain = Reader(html(document("plain"), DRAWN))
    assert [tag for tag, _ in reader.tags] == [tag for tag, _ in plain.tags]
    assert reader.text.count(EVIL + BREAKOUT) == plain.text.count("plain") > 15
    for tag, attributes in reader.tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)


def test_ids_are_unique_and_links_lead_somewhere(reader: Reader) -> None:
    ids = Counter(attributes["id"] for _, attributes in reader.tags if "id" in attributes)
    assert ids.most_common(1)[0][1] == 1
    for attributes in reader.named("a"):
        assert (attributes["href"] or "")[1:] in ids
    for _, attributes in reader.tags:
        for name in ("aria-labelledby", "aria-controls", "aria-describedby"):
            assert attributes.get(name, "main") in ids


def test_nothing_is_loaded(reader: Reader) -> None:
    for tag, attributes in reader.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            told = attributes.get(name) or "#"
            assert told.startswith(("#", "data:")), (tag, name, told)
    assert not {"iframe", "object", "embed", "base", "form"} & {tag for tag, _ in reader.tags}
    style = (TEMPLATES / "page.css").read_text("utf-8")
    assert "url(" not in style
    assert "@import" not in style


def test_only_the_scripts_of_the_page_may_run(reader: Reader) -> None:
    (policy,) = (
        attributes["content"] or ""
        for attributes in reader.named("meta")
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in policy
    assert "http" not in policy
    told = policy.partition("script-src ")[2]
    assert "unsafe-inline" not in told
    digests = re.findall(r"'sha256-([^']+)'", told)
    running = [text for kind, text in reader.scripts if not kind]
    assert digests == [
        base64.b64encode(sha256(text.encode()).digest()).decode() for text in running
    ]
    # A browser reads \r as \n, and then the digest is another.
    assert not any("\r" in text or "</script" in text for text in running)


def test_data_of_scripts_can_be_read_back(reader: Reader) -> None:
    data = [json.loads(text) for kind, text in reader.scripts if kind == "application/json"]
    chart, known = data
    assert known == {"name": EVIL + BREAKOUT, "numbers": [1.0, None]}
    assert chart["chart"]["data"][0]["name"] == EVIL + BREAKOUT
    assert chart["switches"][0][1] == {
        "data": {"name": [EVIL + BREAKOUT]},
        "layout": {"title.text": EVIL + BREAKOUT},
    }


def test_plotly_comes_once_with_its_licence_and_only_for_charts(page: str) -> None:
    assert page.count("* plotly.js v") == 1
    assert "Licensed under the MIT license" in page
    bare = Document(title="T", subtitle="", answer=[], sections=[], data={})
    assert "plotly.js v" not in html(bare, {})
    assert len(html(bare, {})) < 60_000


def test_the_page_has_landmarks_and_headings_in_order(reader: Reader) -> None:
    tags = [tag for tag, _ in reader.tags]
    assert [tags.count(name) for name in ("main", "nav", "footer", "h1")] == [1] * 4
    assert tags.index("header") < tags.index("main") < tags.index("nav") < tags.index("footer")
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert reader.named("html")[0]["lang"] == "en"
    assert reader.named("a")[0] == {"class": "skip", "href": "#main"}


def test_pictures_and_charts_have_words_and_tables_have_captions(reader: Reader) -> None:
    assert all(attributes["alt"] for attributes in reader.named("img"))
    charts = [told for tag, told in reader.tags if tag == "div" and told.get("role") == "img"]
    assert [told["aria-label"] for told in charts] == [EVIL + BREAKOUT]
    tags = [tag for tag, _ in reader.tags]
    assert tags.count("caption") == tags.count("table") == 1
    assert {told["scope"] for told in reader.named("th")} == {"col", "row"}
    values = [told.get("data-value") for told in reader.named("th") if told["scope"] == "row"]
    assert values == ["1.5", None]


def luminance(colour: str) -> float:
    """Relative luminance; W3C, WCAG 2.2, "relative luminance"."""
    if len(colour) == 4:
        colour = "#" + "".join(2 * letter for letter in colour[1:])
    shares = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [
        share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares
    ]
    return sum(
        weight * share for weight, share in zip((0.2126, 0.7152, 0.0722), linear, strict=True)
    )


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1])
@pytest.mark.parametrize("ink", ["ink", "soft", "mark"])
@pytest.mark.parametrize("ground", ["ground", "band", "marked"])
def test_words_stand_out_from_their_ground(ink: str, ground: str, scheme: int) -> None:
    style = (TEMPLATES / "page.css").read_text("utf-8")
    found = re.findall(r"--(\w+): light-dark\((#\w+), (#\w+)\)", style)
    colours = {name: pair[scheme] for name, *pair in found}
    assert contrast(colours[ink], colours[ground]) >= 4.5


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#fff", "#000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
