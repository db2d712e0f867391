"""`bitdraft report` in a real browser: it loads from disk alone, draws, sorts, darkens and fits."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bitdraft.present.page.page import write_report
from report_results import (
    MARKUP,
    batch_rows,
    plan_result,
    precision_result,
    recommendation,
    save,
    sweep_result,
)

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (extra dev)")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--no-first-run",
]
SPEEDUP = "Speedup (× plain decoding)"


@dataclass
class Seen:
    """What a page did beside showing itself."""

    problems: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def dialog(self, dialog: Any) -> None:
        self.problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders with results of every kind, one with a name that is markup."""
    root = tmp_path_factory.mktemp("report")
    sweep = sweep_result(MARKUP, draft="a <b>draft</b>")
    sweep = sweep.model_copy(update={"rows": (*sweep.rows, *batch_rows())})
    one = save(
        root / "one",
        recommendation=recommendation(MARKUP),
        precision=precision_result(MARKUP),
        spec_decode_stdlib=sweep,
        spec_decode_plan_stdlib=plan_result(MARKUP),
    )
    two = save(root / "two", precision=precision_result("org/other", 50), spec_decode_x=sweep_result())
    return write_report([one, two])


@pytest.fixture(scope="module")
def small(report: Path) -> Path:
    """One of the folders alone."""
    return write_report(report.parent, report.parent / "small.html")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


def open_page(browser: Any, path: Path, **settings: Any) -> tuple[Any, Seen]:
    page, seen = browser.new_page(**{"viewport": {"width": 1280, "height": 900}} | settings), Seen()
    page.on("console", lambda message: seen.problems.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: seen.problems.append(str(error)))
    page.on("dialog", seen.dialog)
    page.on("request", lambda request: seen.requests.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-drawn]", state="attached", timeout=60_000)
    return page, seen


@pytest.fixture(scope="module")
def opened(browser: Any, report: Path) -> Iterator[tuple[Any, Seen]]:
    page, seen = open_page(browser, report)
    yield page, seen
    page.close()


@pytest.fixture
def page(opened: tuple[Any, Seen]) -> Iterator[Any]:
    """The same page for all that leave it as it was; none may have caused an error."""
    yield opened[0]
    assert opened[1].problems == []


def until(page: Any, expression: str) -> None:
    """Playwright's own waiting evaluates text, which the page's policy forbids."""
    for _ in range(100):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never true: {expression}")


def figure(page: Any, title: str) -> Any:
    return page.locator("figure", has=page.locator(".chart-title", has_text=title)).first


def test_it_loads_from_disk_alone_and_says_nothing(opened: tuple[Any, Seen], report: Path) -> None:
    page, seen = opened
    assert seen.problems == []
    assert [url for url in seen.requests if not url.startswith("data:")] == [report.as_uri()]
    assert page.evaluate("performance.getEntriesByType('resource').length") == 0


def test_every_chart_is_drawn_and_described(page: Any) -> None:
    charts = page.evaluate(
        "[...document.querySelectorAll('.chart')].map(chart => ({"
        "drawn: !!chart.querySelector('svg'), folded: !!chart.closest('details:not([open])'),"
        " width: chart.getBoundingClientRect().width, role: chart.getAttribute('role'),"
        " label: chart.getAttribute('aria-label')}))"
    )
    assert len(charts) > 25
    assert [c for c in charts if not c["folded"] and not (c["drawn"] and c["width"] > 100)] == []
    assert sum(not chart["folded"] for chart in charts) > 20
    assert [c for c in charts if c["role"] != "img" or len(c["label"]) < 30] == []


def test_a_name_with_markup_stays_text(page: Any) -> None:
    assert page.locator("img").count() == 0
    assert page.locator(".chart a").count() == 0
    assert MARKUP in page.locator("body").inner_text()
    titles = page.evaluate("[...document.querySelectorAll('.chart text')].map(text => text.textContent)")
    assert "a <b>draft</b>" in titles


def test_tables_sort_by_value_and_say_so(page: Any) -> None:
    table = page.locator("table", has=page.locator("caption", has_text="Every draft and K")).first
    head = table.locator("th", has=page.get_by_role("button", name="Speedup", exact=True))

    def column() -> list[str]:
        place = head.evaluate("head => head.cellIndex")
        return [
            (text.split() or [""])[0]
            for text in table.locator(f"tbody tr > :nth-child({place + 1})").all_inner_texts()
        ]

    before = column()
    assert head.get_attribute("aria-sort") is None
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert [value for value in column() if value not in ("★", "")] == ["0.90", "0.90", "1.40", "1.50", "1.60"]
    head.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert column()[0] in ("★", "1.60", "best:")
    assert column()[-1] == "", "what is missing stays last"
    assert page.locator("#said").inner_text() == "Sorted by Speedup, descending"
    other = table.get_by_role("button", name="K", exact=True)
    other.focus()
    page.keyboard.press("Space")
    assert head.get_attribute("aria-sort") is None
    assert len(column()) == len(before)


def test_hovering_shows_the_value_with_its_interval(page: Any) -> None:
    chart = figure(page, SPEEDUP).locator(".chart")
    chart.scroll_into_view_if_needed()
    # the drawing is hidden from screen readers, so that roles do not find its points
    boxes = chart.evaluate(
        "chart => [...chart.querySelectorAll('.mark-symbol path')].map(one => {"
        " const box = one.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; })"
    )
    texts = []
    for x, y in boxes[:4]:
        page.mouse.move(x - 3, y)
        page.mouse.move(x, y)
        page.wait_for_selector("#vg-tooltip-element.visible", state="attached")
        texts.append(page.locator("#vg-tooltip-element").inner_text())
    own = next(text for text in texts if "a <b>draft</b>, K = 4" in text)
    assert "150.0 [135.0, 165.0], n = 6" in own
    assert "1.50× [1.35, 1.65]" in own
    page.mouse.move(0, 0)


def test_what_is_folded_is_drawn_when_it_is_opened(browser: Any, report: Path) -> None:
    page, seen = open_page(browser, report)
    folded = page.locator("details.part", has=page.locator(".chart")).first
    assert folded.locator("svg").count() == 0
    folded.locator("summary").first.click()
    folded.locator(".chart svg").first.wait_for(state="visible")
    assert seen.problems == []
    page.close()


def test_the_answer_stands_on_the_first_screen(browser: Any, small: Path) -> None:
    page, seen = open_page(browser, small, viewport={"width": 1280, "height": 720})
    for place in (".said", ".pair", ".ratio", ".trust", ".hero svg", ".hero-code button.copy"):
        box = page.locator(place).first.bounding_box()
        assert box is not None, place
        assert box["y"] + box["height"] <= 720, place
    page.evaluate("scrollTo(0, 4000)")
    nav = page.locator(".contents").bounding_box()
    assert nav is not None
    assert nav["y"] == 0, "the list of sections stays"
    assert page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") < 1000
    assert small.stat().st_size < 2_000_000
    assert seen.problems == []
    page.close()


def test_headings_follow_each_other(page: Any) -> None:
    levels = [
        int(tag[1])
        for tag in page.evaluate(
            "[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(heading => heading.tagName)"
        )
    ]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert page.get_by_role("heading", level=2).count() == 3


def test_everything_that_acts_has_a_name(page: Any) -> None:
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, a[href], [tabindex=\"0\"]')].filter(one => !one.hidden"
        " && !one.textContent.trim() && !one.getAttribute('aria-label')).map(one => one.outerHTML)"
    )
    assert unnamed == []
    assert page.locator(".chart button, .chart a").count() == 0


CONTRAST = """
() => {
  const probe = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgb = (colour) => { probe.clearRect(0, 0, 1, 1); probe.fillStyle = colour; probe.fillRect(0, 0, 1, 1);
    return [...probe.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= .04045 ? v / 12.92 :
    ((v + .055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = (one) => { for (; one; one = one.parentElement) {
    const colour = getComputedStyle(one).backgroundColor; if (rgb(colour)[3] === 255) return colour; }
    return 'white'; };
  const worst = {};
  for (const name of ['p', '.note', '.caption', '.spread', '.said', '.pair', '.why', '.trust', '.ratio', 'dt',
    'dd', 'th', 'a', 'button', 'code', '.items.warning li', '.brand', '.count', '.kicker', 'footer p',
    '.contents a', '.code-title']) {
    for (const one of document.querySelectorAll(name)) {
      if (!one.offsetParent) continue;
      const [a, b] = [light(rgb(getComputedStyle(one).color)), light(rgb(behind(one)))];
      const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
      worst[name] = Math.min(worst[name] ?? 99, ratio);
    }
  }
  return worst;
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_colour_schemes_can_be_read(browser: Any, small: Path, scheme: str) -> None:
    page, seen = open_page(browser, small, color_scheme=scheme)
    found = page.evaluate(CONTRAST)
    assert len(found) == 22
    assert {name: ratio for name, ratio in found.items() if ratio < 4.5} == {}
    back = "getComputedStyle(document.body).backgroundColor"
    ink = "getComputedStyle(document.querySelector('.chart .role-axis-label text')).fill"
    before, drawn = page.evaluate(back), page.evaluate(ink)
    button = page.locator("#theme")
    assert button.get_attribute("aria-pressed") == str(scheme == "dark").lower()
    button.click()
    assert page.evaluate(back) != before
    until(page, f"{ink} !== '{drawn}'")
    assert button.get_attribute("aria-pressed") == str(scheme != "dark").lower()
    dark = {"light": before, "dark": page.evaluate(back)} if scheme == "light" else {"dark": before}
    assert dark["dark"] == "rgb(20, 23, 27)"
    assert seen.problems == []
    page.close()


def test_it_fits_a_width_of_400(browser: Any, report: Path) -> None:
    page, seen = open_page(browser, report, viewport={"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    wide = page.evaluate(
        "[...document.querySelectorAll('main *')].filter(one => !one.closest('.table-scroll, .chart, pre')"
        " && one.getBoundingClientRect().right > 401).map(one => one.outerHTML.slice(0, 80))"
    )
    assert wide == []
    assert seen.problems == []
    page.close()


def test_it_prints_light_and_as_wide_as_the_paper(browser: Any, small: Path, tmp_path: Path) -> None:
    page, seen = open_page(browser, small, color_scheme="dark")
    page.pdf(path=tmp_path / "report.pdf", format="A4", print_background=True)
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    page.set_viewport_size({"width": 688, "height": 900})
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    until(page, "document.querySelector('.chart-box.wide .chart svg').clientWidth <= 688")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("document.documentElement.scrollWidth") <= 688
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.documentElement.className") == ""
    assert seen.problems == []
    page.close()


def test_the_keyboard_begins_on_top_and_commands_can_be_copied(browser: Any, small: Path) -> None:
    page, seen = open_page(browser, small)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "theme"
    button = page.locator("button.copy").first
    button.scroll_into_view_if_needed()
    button.click()
    until(page, "document.getElementById('said').textContent !== ''")
    assert page.locator("#said").inner_text() in ("Copied", "Selected: copy with the keyboard")
    assert seen.problems == []
    page.close()


def test_a_chart_is_saved_as_a_picture(page: Any, tmp_path: Path) -> None:
    chart = figure(page, SPEEDUP)
    chart.hover()
    with page.expect_download() as download:
        chart.get_by_role("button", name="Save Speedup").click()
    download.value.save_as(tmp_path / "chart.png")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_without_scripts_texts_and_tables_stand(browser: Any, small: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(small.as_uri())
    text = page.locator("main").inner_text()
    for expected in (
        "Deploy bf16 with a, K = 3.",
        "Every draft and K",
        "1.60",
        "This chart needs JavaScript",
    ):
        assert expected in text
    assert not page.locator("button:visible").count()
    context.close()
