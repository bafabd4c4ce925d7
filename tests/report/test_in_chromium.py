"""The pages in a real browser: nothing is refused or missing, and nothing is wider than a phone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report.made_line import make_line, make_report

from flowpose.bench.document import BenchDocument
from flowpose.report.latency_html import write_latency
from flowpose.report.run_html import write_run
from flowpose.report_command import find_place, gather

BROWSER = shutil.which("chromium")
# Without the last four Chromium calls its maker at every start.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic",
]  # fmt: skip
PAPER = 718  # pixels between the margins of A4
PHONE, DESK = {"width": 360, "height": 740}, {"width": 1280, "height": 900}

pytestmark = pytest.mark.skipif(BROWSER is None, reason="chromium is not installed")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    line = make_line(root)
    make_report(root, line)
    return write_run(root / "page.html", gather(find_place(line["compile"].path)))


STORED = Path(__file__).parents[2] / "benchmarks" / "results" / "people-128-open-30.json"


@pytest.fixture(scope="module")
def pages(page: Path) -> tuple[Path, Path]:
    """The page of a run, and that of a stored measurement."""
    document = BenchDocument.model_validate_json(STORED.read_bytes())
    return page, write_latency(page.with_name("bench.html"), document)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    play = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with play.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield opened
        opened.close()


@pytest.mark.parametrize(("size", "scheme"), [(PHONE, "light"), (PHONE, "dark"), (DESK, "light")])
def test_nothing_is_refused_and_nothing_sticks_out(
    browser: Any, pages: tuple[Path, Path], size: dict[str, int], scheme: str
) -> None:
    context = browser.new_context(viewport=size, color_scheme=scheme)
    for page in pages:
        check(context.new_page(), page, size["width"])
    context.close()


def check(shown: Any, page: Path, width: int) -> None:
    said: list[str] = []
    asked: list[str] = []
    shown.on("console", lambda message: said.append(message.text))
    shown.on("pageerror", lambda error: said.append(str(error)))
    shown.on("request", lambda request: asked.append(request.url))
    shown.goto(page.as_uri())
    assert said == [], "a policy that refuses the page's own style or script speaks here"
    assert {url.partition(":")[0] for url in asked} <= {"file", "data"}
    assert shown.evaluate("[...document.images].every(each => each.naturalWidth > 0)")
    assert shown.evaluate("document.documentElement.scrollWidth") == width


def test_it_is_printed_on_a_page_s_width(browser: Any, page: Path) -> None:
    context = browser.new_context(viewport={"width": PAPER, "height": 1000})
    shown = context.new_page()
    shown.goto(page.as_uri())
    shown.emulate_media(media="print")
    assert shown.evaluate("document.documentElement.scrollWidth") == PAPER
    assert shown.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    context.close()


def test_a_click_on_a_heading_sorts_and_a_second_turns_it_round(browser: Any, page: Path) -> None:
    context = browser.new_context(viewport=DESK)
    shown = context.new_page()
    shown.goto(page.as_uri())
    shown.click("#every-measurement + details summary")
    table = shown.locator("#every-measurement + details table")
    order = "table => [...table.tBodies[0].rows].map(row => parseFloat(row.cells[2].textContent))"
    table.locator("th", has_text="value").locator("button").click()
    values = table.evaluate(order)
    assert values == sorted(values) and len(set(values)) > 20
    table.locator("th", has_text="value").locator("button").click()
    assert table.evaluate(order) == values[::-1] or table.evaluate(order) == sorted(values, reverse=True)
    context.close()


def test_without_its_script_the_page_shows_the_same_texts(browser: Any, page: Path) -> None:
    with_script, without = (browser.new_context(java_script_enabled=on) for on in (True, False))
    texts = []
    for context in (with_script, without):
        shown = context.new_page()
        shown.goto(page.as_uri())
        texts.append(shown.locator("main").inner_text())
        context.close()
    assert texts[0] == texts[1]
