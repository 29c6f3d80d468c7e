"""The page as a reader uses it: in the system's Chromium, from disk."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runs.page.document import (
    Card,
    Cards,
    Cell,
    Column,
    Details,
    Document,
    Drawing,
    Figure,
    Option,
    Row,
    Section,
    Switch,
    Table,
    Text,
)
from runs.page.html import html
from runs.page.pictures import pictures
from runs.page.sections import report
from tests.made_runs import failed, frame_of, rows
from tests.pages import EVIL, findings_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BREAKOUT = '"><img src=x onerror=alert(2)>'
NAMED = ("chromium", "chromium-browser", "google-chrome")
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
Open = Callable[..., "Page"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    api = pytest.importorskip("playwright.sync_api", reason="needs pip install playwright")
    path = next((found for name in NAMED if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"needs a browser on the path: {', '.join(NAMED)}")
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=path, args=["--disable-gpu", *(["--no-sandbox"] if root else [])]
        )
        yield found
        found.close()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Open]:
    """Open a file; at the end it must have said nothing and asked for nothing."""
    complaints: list[str] = []
    contexts = []

    def new(path: Path, **settings: Any) -> Page:
        context = browser.new_context(**{"viewport": WIDE} | settings)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(f"{said.type}: {said.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        page.on(
            "request",
            lambda asked: (
                None
                if asked.url.split("#")[0] == path.as_uri() or asked.url.startswith("data:")
                else complaints.append(f"request: {asked.url}")
            ),
        )
        page.goto(path.as_uri())
        return page

    yield new
    for context in contexts:
        context.close()
    assert complaints == []


IDS = [f"n{number:02d}" for number in range(20)]
COSTS = [0.5 + 0.1 * number for number in range(20)]


def network_row(number: int) -> Row:
    known = number % 6 != 5
    latency = Cell(text=f"{COSTS[-number]:.1f}" if known else "\u2013")
    if known:
        latency = Cell(text=latency.text, value=COSTS[-number])
    cells = [Cell(text=str(number), value=number), Cell(text=IDS[number], network=IDS[number])]
    return Row(cells=[*cells, latency, Cell(text=BREAKOUT if number == 3 else f"net {number}")])


def own_document() -> Document:
    """Give a chart with switches, a table and cards, whatever the report is made of."""
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": COSTS,
        "y": [0.8 + 0.005 * number for number in range(20)],
        "customdata": [[network] for network in IDS],
        "hovertext": [f"{network} &lt;script&gt;alert(1)&lt;/script&gt;" for network in IDS],
        "hoverinfo": "text",
    }
    layout = {"height": 400, "xaxis": {"title": {"text": "latency, ms"}}}
    across = Switch(
        label="Across",
        options=[
            Option(
                label="latency", data={"x": [COSTS]}, layout={"xaxis.title.text": "latency, ms"}
            ),
            Option(
                label="MACs",
                data={"x": [[100 * cost for cost in COSTS]]},
                layout={"xaxis.title.text": "MMACs"},
            ),
        ],
    )
    scale = Switch(
        label="Scale",
        options=[
            Option(label=kind, data={}, layout={"xaxis.type": kind}) for kind in ("linear", "log")
        ],
    )
    figure = Figure(
        key="front",
        reading="Read it so.",
        alt="Points.",
        chart={"data": [points], "layout": layout},
        switches=[across, scale],
    )
    far, folded = (
        Figure(
            key=key,
            reading="Read it so.",
            alt="Bars.",
            chart={"data": [{"type": "bar", "x": [1, 2], "y": [3, 4]}], "layout": {"height": 300}},
        )
        for key in ("far", "folded")
    )
    table = Table(
        key="front",
        caption=f"Networks {EVIL}",
        columns=[
            Column(heading="no.", number=True),
            Column(heading="network"),
            Column(heading="latency, ms", number=True),
            Column(heading="name"),
        ],
        rows=[network_row(number) for number in range(20)],
    )
    filler = Section(key="filler", title="Filler", blocks=[Text(text="Words. " * 60)] * 30)
    cards = [
        Card(
            network=network,
            title=f"{network} {EVIL}",
            badge="front",
            blocks=[Text(text="A. " * 90)],
        )
        for network in IDS
    ]
    return Document(
        title=f"Space {EVIL}",
        subtitle=BREAKOUT,
        answer=[f"The best is {BREAKOUT}."],
        sections=[
            Section(key="front", title="The front", blocks=[figure, table]),
            filler,
            Section(
                key="folded", title="Folded", blocks=[far, Details(summary="More", blocks=[folded])]
            ),
            Section(
                key="cards",
                title="Cards",
                blocks=[Details(summary="Networks", blocks=[Cards(cards=cards)])],
            ),
        ],
        data={"name": EVIL},
    )


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "own.html"
    path.write_text(html(own_document(), {}), encoding="utf-8")
    return path


def ready(page: Page, key: str = "front") -> Page:
    page.wait_for_selector(f"#figure-{key} .main-svg .xtitle", timeout=10_000)
    return page


def click_point(page: Page, number: int) -> None:
    box = page.locator("#figure-front .scatterlayer .point").nth(number).bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def focused(page: Page) -> str:
    found: str = page.evaluate("document.activeElement.id || document.activeElement.className")
    return found


def in_view(page: Page, selector: str) -> bool:
    found: bool = page.evaluate(
        "(selector) => { const box = document.querySelector(selector).getBoundingClientRect();"
        " return box.top >= -1 && box.top < innerHeight && box.height > 0 }",
        selector,
    )
    return found


def column(page: Page, number: int, table: str = "table-front") -> list[str]:
    found: list[str] = page.evaluate(
        "([table, number]) => Array.from(document.getElementById(table).tBodies[0].rows)"
        ".filter((row) => row.checkVisibility()).map((row) => row.cells[number].innerText)",
        [table, number],
    )
    return found


def test_a_click_on_a_point_unfolds_its_card_and_gives_it_the_keyboard(
    opened: Open, own: Path
) -> None:
    page = ready(opened(own))
    click_point(page, 4)
    page.wait_for_function("document.activeElement.id === 'card-n04'")
    assert page.url.endswith("#card-n04")
    assert in_view(page, "#card-n04")
    page.keyboard.press("Escape")
    assert in_view(page, "#figure-front")


@pytest.mark.slow
def test_arrow_keys_walk_the_points_and_enter_opens_the_card(opened: Open, own: Path) -> None:
    page = ready(opened(own))
    page.locator("#figure-front .walk").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
    page.wait_for_function("document.querySelector('.walked').textContent.startsWith('n01')")
    assert EVIL in page.locator("#figure-front .walked").inner_text()
    page.keyboard.press("Enter")
    page.wait_for_function("document.activeElement.id === 'card-n01'")
    page.keyboard.press("Escape")
    assert focused(page) == "walk"


@pytest.mark.slow
def test_a_link_of_a_table_and_the_address_open_a_card_too(opened: Open, own: Path) -> None:
    page = ready(opened(own))
    link = page.locator("#table-front a").nth(7)
    link.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("document.activeElement.id === 'card-n07'")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.hash") == "#card-n07"
    page.evaluate("location.hash = 'card-n09'")
    page.wait_for_function("document.activeElement.id === 'card-n09'")
    page.reload()
    page.wait_for_function("document.activeElement.id === 'card-n09'")
    assert in_view(page, "#card-n09")
    page.locator("#card-n09 [rel=next]").click()
    page.wait_for_function("document.activeElement.id === 'card-n10'")
    page.keyboard.press("Escape")
    assert in_view(page, "#front"), "from a card to where its reader was before all cards"


@pytest.mark.slow
def test_switches_change_axes_and_forget_a_zoom(opened: Open, own: Path) -> None:
    page = ready(opened(own))
    title = page.locator("#figure-front .xtitle")
    assert title.text_content() == "latency, ms"
    page.evaluate("Plotly.relayout(document.querySelector('.chart'), {'xaxis.range': [1, 1.1]})")
    page.get_by_label("MACs").check(force=True)
    page.wait_for_function("document.querySelector('.xtitle').textContent === 'MMACs'")
    low, high = page.evaluate("document.querySelector('.chart')._fullLayout.xaxis.range")
    assert low < 50 < 240 < high
    page.get_by_label("linear").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('.chart')._fullLayout.xaxis.type === 'log'")
    assert title.text_content() == "MMACs"


@pytest.mark.slow
def test_headings_sort_by_value_with_what_is_missing_last(opened: Open, own: Path) -> None:
    page = opened(own)
    written = column(page, 1)
    heading = page.locator("#table-front thead th").nth(2)
    heading.get_by_role("button").click()
    latencies = column(page, 2)
    known = [float(text) for text in latencies[:-3]]
    assert known == sorted(known)
    assert len(known) == 17
    assert latencies[-3:] == ["\u2013"] * 3
    assert column(page, 1)[-3:] == ["n05", "n11", "n17"], "equal ones keep their order"
    assert heading.get_attribute("aria-sort") == "ascending"
    heading.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    assert (
        column(page, 2)
        == [f"{value:.1f}" for value in sorted(known, reverse=True)] + ["\u2013"] * 3
    )
    page.locator("#table-front thead th").nth(3).get_by_role("button").press("Space")
    assert heading.get_attribute("aria-sort") is None
    names = column(page, 3)
    assert names[0] == BREAKOUT
    assert names[1:] == [f"net {number}" for number in range(20) if number != 3], "2 before 10"
    for _ in range(2):
        page.locator("#table-front thead th").nth(3).get_by_role("button").click()
    assert column(page, 1) == written


@pytest.mark.slow
def test_a_long_table_can_be_filtered(opened: Open, own: Path) -> None:
    page = opened(own)
    count = page.locator(".filter output")
    assert count.inner_text() == "20 of 20 rows"
    page.get_by_label("Show rows with").fill("NET n1")
    assert count.inner_text() == "10 of 20 rows"
    assert column(page, 1) == [f"n{number}" for number in range(10, 20)]
    page.get_by_label("Show rows with").fill("no such row")
    assert count.inner_text() == "0 of 20 rows"
    assert column(page, 1) == []


@pytest.mark.slow
def test_names_are_text_wherever_they_stand(opened: Open, own: Path) -> None:
    page = ready(opened(own))
    assert page.title() == f"Space {EVIL}"
    assert page.locator("h1").inner_text() == f"Space {EVIL}"
    assert BREAKOUT in page.locator(".answer").inner_text()
    assert page.locator("#table-front caption").inner_text() == f"Networks {EVIL}"
    assert EVIL in page.locator("#card-n03 h3").text_content()
    assert page.evaluate("JSON.parse(document.getElementById('data').textContent).name") == EVIL
    assert page.locator("img[src='x']").count() == 0
    page.evaluate("Plotly.Fx.hover(document.querySelector('.chart'), [{pointNumber: 2}])")
    page.wait_for_selector("#figure-front .hovertext")
    assert page.locator("#figure-front .hovertext").text_content() == f"n02 {EVIL}"


@pytest.mark.slow
def test_charts_follow_light_dark_and_paper(opened: Open, own: Path) -> None:
    page = ready(opened(own, color_scheme="light"))

    def ink() -> tuple[str, str]:
        text = page.locator("#figure-front .xtitle").evaluate("node => getComputedStyle(node).fill")
        return text, page.evaluate("getComputedStyle(document.body).color")

    light = ink()
    assert light[0] == light[1]
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(
        "(light) => getComputedStyle(document.querySelector('.xtitle')).fill !== light",
        arg=light[0],
    )
    dark = ink()
    assert dark[0] == dark[1] != light[0]
    page.get_by_label("Colours").select_option("light")
    assert ink() == light
    page.emulate_media(color_scheme="light")
    page.get_by_label("Colours").select_option("dark")
    assert ink() == dark
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert ink()[0] == light[0]
    assert page.locator("details:not([open])").count() == 0
    assert page.locator("#figure-folded .main-svg").count() > 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert ink() == dark
    assert page.locator("details[open]").count() == 0


@pytest.mark.slow
def test_a_page_prints(opened: Open, own: Path) -> None:
    page = ready(opened(own, color_scheme="dark"))
    paper = page.pdf(prefer_css_page_size=True)
    assert paper.startswith(b"%PDF")
    assert paper.count(b"/Type /Page\n") > 3


@pytest.mark.slow
def test_the_list_of_sections_marks_the_one_that_is_read(opened: Open, own: Path) -> None:
    page = opened(own)
    marked = page.locator(".contents [aria-current=true]")
    assert marked.count() == 0
    page.locator(".contents a").nth(1).click()
    page.wait_for_function("document.querySelector('.contents [aria-current=true]') !== null")
    assert marked.all_inner_texts() == ["Filler"]


@pytest.mark.slow
def test_a_chart_can_be_kept_as_a_file_on_its_own_ground(opened: Open, own: Path) -> None:
    page = ready(opened(own, color_scheme="dark"))
    page.locator("#figure-front .chart").hover()
    with page.expect_download() as kept:
        page.locator("#figure-front .modebar-btn[data-title*=Download]").click()
    assert kept.value.suggested_filename == "front.svg"
    svg = Path(kept.value.path()).read_text("utf-8")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") in svg
    titles = page.evaluate(
        "Array.from(document.querySelectorAll('.modebar-btn'), (one) => one.dataset.title)"
    )
    assert not any("hare" in title or "loud" in title or "dit" in title for title in titles)


@pytest.mark.slow
def test_a_chart_is_drawn_only_when_it_comes_near(opened: Open, own: Path) -> None:
    page = ready(opened(own))
    assert page.locator("#figure-far .main-svg").count() == 0
    page.locator("#figure-far").scroll_into_view_if_needed()
    page.wait_for_selector("#figure-far .main-svg .barlayer")
    assert page.locator("#figure-folded .main-svg").count() == 0
    page.locator("#folded summary").click()
    page.wait_for_selector("#figure-folded .main-svg .barlayer")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_in_one_direction(opened: Open, own: Path, scheme: str) -> None:
    page = ready(opened(own, viewport=PHONE, color_scheme=scheme, has_touch=True, is_mobile=True))
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert not page.locator(".modebar-container").first.is_visible()
    page.set_viewport_size(WIDE)
    page.wait_for_function("document.querySelector('.chart .main-svg').clientWidth > 800")


@pytest.mark.slow
def test_the_page_can_be_read_without_scripts(opened: Open, own: Path) -> None:
    page = opened(own, java_script_enabled=False)
    assert page.locator("#table-front tbody tr:visible").count() == 20
    assert page.locator(".switch:visible").count() == 0
    assert "This chart needs JavaScript" in page.locator("#figure-front").inner_text()
    page.locator("#cards summary").click()
    page.locator("#table-front a").first.click()
    assert in_view(page, "#card-n00")


@pytest.mark.slow
def test_nothing_runs_that_is_not_ours(browser: Browser, tmp_path: Path) -> None:
    svg = "<svg onload='document.title=1'></svg><img src=x onerror='document.title=2'>"
    stranger = Drawing(svg=f"{svg}<script>document.title = 3</script>", alt="")
    document = own_document()
    document = replace(document, sections=[Section(key="x", title="X", blocks=[stranger])])
    path = tmp_path / "page.html"
    path.write_text(html(document, {}), encoding="utf-8")
    page = browser.new_page()
    refused = []
    page.on("console", lambda said: refused.append(said.text))
    page.goto(path.as_uri())
    page.wait_for_load_state("networkidle")
    assert page.title() == f"Space {EVIL}"
    assert sum("Content Security Policy" in text for text in refused) >= 3
    page.close()


# The report itself.


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the report of a made-up run whose names and errors are an attack."""
    trials = [*rows(40, t4={"state": "diverged", "accuracy": None, "val_loss": None})]
    frame = frame_of([*trials, failed(40, f"error: {EVIL}{BREAKOUT}")])
    data = {"name": BREAKOUT, "train": 80, "val": 2000, "classes": [EVIL, BREAKOUT]}
    names = {"name": EVIL, "data": data, "device": {"device": "cpu", "name": EVIL}}
    findings = findings_of(frame, **names, command=f"replk-search --out '{EVIL}'")
    losses = [(10, 2.1), (20, 1.4), (30, 1.1)]
    document = report(replace(findings, curves=dict.fromkeys(range(40), losses)))
    path = tmp_path_factory.mktemp("reported") / "report.html"
    path.write_text(html(document, pictures(document)), encoding="utf-8")
    return path


UNFOLD = "document.querySelectorAll('details').forEach((one) => { one.open = true })"


@pytest.mark.slow
def test_every_chart_switch_and_heading_of_the_report_works(opened: Open, reported: Path) -> None:
    page = opened(reported)
    page.evaluate(UNFOLD)
    charts = page.locator(".chart")
    assert charts.count() >= 2
    for chart in charts.all():
        chart.scroll_into_view_if_needed()
        chart.locator(".main-svg").first.wait_for(state="attached")
        assert chart.locator("[role=img]").get_attribute("aria-label")
    for choice in page.locator(".switch input").all():
        choice.check(force=True)
    for heading in page.locator("th button").all():
        heading.click()
        heading.click()
    assert page.locator("figure.broken").count() == 0


@pytest.mark.slow
def test_a_point_of_the_front_opens_its_card_and_another_axis_is_named(
    opened: Open, reported: Path
) -> None:
    page = ready(opened(reported))
    title = page.locator("#figure-front .xtitle")
    before = title.text_content()
    page.locator("#figure-front .switch").first.locator("input").nth(1).check(force=True)
    assert title.text_content() != before
    told = json.loads(page.locator("#figure-front .chart-data").text_content() or "")
    option, said = told["switches"][0][1], page.locator("#figure-front figcaption p")
    assert said.all_text_contents() == [option["reading"], option["note"]]
    drawn = page.locator("#figure-front .main-svg").first
    assert drawn.get_attribute("aria-label") == option["alt"]
    network = page.evaluate(
        "document.querySelector('.card').id.replace('card-', '')",
    )
    place = page.evaluate(
        """(network) => {
          const chart = document.querySelector("#figure-front .chart");
          for (const [trace, { customdata, x, y }] of chart.data.entries()) {
            const point = (customdata ?? []).findIndex((known) => known?.[0] === network);
            if (point < 0) continue;
            const { xaxis, yaxis } = chart._fullLayout;
            const box = chart.querySelector(".nsewdrag").getBoundingClientRect();
            return [box.x + xaxis.d2p(x[point]), box.y + yaxis.d2p(y[point])];
          }
        }""",
        network,
    )
    page.mouse.move(*place)
    page.mouse.click(*place)
    page.wait_for_function(f"document.activeElement.id === 'card-{network}'")
    assert in_view(page, f"#card-{network}")


@pytest.mark.slow
def test_names_of_a_run_are_text_in_its_report(opened: Open, reported: Path) -> None:
    page = opened(reported)
    assert EVIL in page.title()
    assert EVIL in page.locator("h1").inner_text()
    page.evaluate(UNFOLD)
    assert BREAKOUT in page.locator("#casualties").inner_text()
    assert page.locator("img[src='x']").count() == 0
    data = page.evaluate("JSON.stringify(JSON.parse(document.getElementById('data').textContent))")
    assert EVIL in data


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_fits_a_phone(opened: Open, reported: Path, scheme: str) -> None:
    page = opened(reported, viewport=PHONE, color_scheme=scheme, has_touch=True, is_mobile=True)
    page.evaluate(UNFOLD)
    for chart in page.locator(".chart").all():
        chart.scroll_into_view_if_needed()
        chart.locator(".main-svg").first.wait_for(state="attached")
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


@pytest.mark.slow
def test_without_scripts_the_report_shows_drawings(opened: Open, reported: Path) -> None:
    page = opened(reported, java_script_enabled=False)
    assert page.locator(".still:visible").count() == page.locator(".chart").count() > 1
    assert page.locator("#table-front tbody tr").first.is_visible()
    assert page.locator(".chart:visible").count() == 0
