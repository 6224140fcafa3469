"""The page in a real browser, opened from a file without a network. One browser and one page for all of it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from inverted import keep_pictures
from report_rows import CLAIMS, data_of, renamed, study_rows, written

import whytransfer

BREAKING = "</script><script>document.title='broken'</script>"
IMAGE = "<img src=x onerror=\"document.title='broken'\">"
NAMES = {"random": IMAGE, "depth": BREAKING, "hue similarity": "<b>hue</b> similarity"}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
LOADED_MS = 240_000  # a busy machine draws slowly


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = renamed(study_rows(), NAMES)
    folder = written(rows, tmp_path_factory.mktemp("study"))
    keep_pictures(rows, folder, ["a.png", IMAGE])
    claims = [{**CLAIMS[0], "finding": BREAKING}, *CLAIMS[1:]]
    (folder / "claims.json").write_text(json.dumps(claims))
    return whytransfer.write_report(folder)


@pytest.fixture(scope="module")
def said() -> list[str]:
    """Errors and warnings on the console, and requests for anything but the file."""
    return []


@pytest.fixture(scope="module")
def page(report: Path, said: list[str]) -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no chromium on the path: the page is not tried in a browser")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no browser to drive")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light", offline=True)
        context.set_default_timeout(60_000)
        found = context.new_page()
        found.on("console", lambda m: said.append(f"console: {m.text}") if m.type in ("error", "warning") else None)
        found.on("pageerror", lambda error: said.append(f"error: {error}"))
        found.on("request", lambda r: said.append(f"request: {r.url}") if r.url != report.as_uri() else None)
        found.goto(report.as_uri(), wait_until="domcontentloaded", timeout=LOADED_MS)
        drawn(found, 1)
        yield found
        browser.close()


def drawn(page: Any, times: int) -> None:
    """Wait until all charts were drawn so many times. Asked again and again from here: what Playwright would leave in
    the page to wait is an eval, which the page's policy forbids."""
    until = time.monotonic() + LOADED_MS / 1000
    while page.evaluate("Number(document.documentElement.dataset.drawn ?? 0)") < times:
        assert time.monotonic() < until, f"the charts were not drawn {times} times in {LOADED_MS / 1000:.0f} s"
        time.sleep(0.1)


def times_drawn(page: Any) -> int:
    return int(page.evaluate("document.documentElement.dataset.drawn"))


def visible(page: Any, selector: str) -> list[str]:
    return page.evaluate(
        "s => [...document.querySelectorAll(s)].filter(e => e.checkVisibility()).map(e => e.textContent.trim())",
        selector,
    )


def test_every_chart_is_drawn(page: Any):
    marks = page.evaluate(
        "[...document.querySelectorAll('figure.chart')].map(f => [f.id, f.querySelectorAll('svg .mark-symbol path, "
        "svg .mark-rect path').length])"
    )
    assert len(marks) >= 10
    assert all(count > 0 for _, count in marks), marks


def test_names_with_markup_are_text_in_tables_and_charts(page: Any):
    assert page.title() == "trade-off"
    assert IMAGE in visible(page, "#tasks tbody th") and BREAKING in visible(page, "h3")
    assert any(text.startswith(IMAGE[:12]) for text in visible(page, "#tasks svg text"))  # long names are cut
    assert page.evaluate("document.querySelectorAll('img[src=x]').length") == 0
    symbol = page.locator("#tasks figure.chart svg .mark-symbol path").first
    symbol.scroll_into_view_if_needed()
    symbol.hover()
    page.locator("#vg-tooltip-element.visible").wait_for()
    assert page.evaluate("document.querySelectorAll('#vg-tooltip-element img').length") == 0


def test_a_number_opens_its_values_its_run_and_its_command(page: Any, report: Path):
    page.locator("#tasks td a.n").first.click()
    dialog = page.locator("dialog#behind")
    dialog.wait_for(state="visible")
    assert "mean of 3 seeds" in dialog.inner_text() and "whytransfer study trade-off.yaml" in dialog.text_content()
    links = [a.get_attribute("href") for a in dialog.locator("a").all()]
    assert len(links) == 6 and all((report.parent / link).exists() for link in links)
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    assert "#" not in page.url


def test_a_heading_sorts_its_table_best_first_then_last_first_then_as_it_was(page: Any):
    table = "#tasks table.stacked"
    names, heads = f"{table} tbody th", page.locator(f"{table} thead button.sort")
    before = visible(page, names)
    column = [float(text) for text in visible(page, f"{table} tbody tr td:nth-child(2) a.n")]
    assert heads.count() == page.locator(f"{table} thead th").count() - 1 and len(set(column)) > 1
    heads.first.focus()
    for rising in (False, True):
        page.keyboard.press("Enter")
        sorted_now = [float(text) for text in visible(page, f"{table} tbody tr td:nth-child(2) a.n")]
        assert sorted_now == sorted(column, reverse=not rising)
        assert page.locator(f"{table} thead th").nth(1).get_attribute("aria-sort") == (
            "ascending" if rising else "descending"
        )
    page.keyboard.press("Enter")
    assert visible(page, names) == before
    rank = page.locator(f"{table} thead th").last
    assert "mean rank" in rank.inner_text()  # the lower the better
    rank.locator("button").click()
    assert rank.get_attribute("aria-sort") == "ascending"
    for _ in range(2):
        rank.locator("button").click()
    assert visible(page, names) == before


def test_every_link_has_what_it_leads_to(page: Any, report: Path):
    evidence = data_of(report)["evidence"]
    broken = page.evaluate(
        """(numbers) => {
            const leads = (hash) => /^#n\\d/.test(hash)
                ? hash.slice(1).split("+").every((n) => Number(n.slice(1)) < numbers)
                : document.getElementById(hash.slice(1));
            const links = [...document.querySelectorAll("main a[href]:not(.vega-actions a), nav a[href]")];
            return links.map((a) => a.getAttribute("href")).filter((hash) => !leads(hash));
        }""",
        len(evidence["numbers"]),
    )
    assert broken == []
    links = [cell["link"] for cell in evidence["cells"]]
    assert links and all((report.parent / link / "results.jsonl").exists() for link in links)


def test_a_point_in_a_chart_opens_its_number(page: Any):
    page.locator("#tasks figure.chart svg .mark-symbol path").first.click()
    dialog = page.locator("dialog#behind")
    dialog.wait_for(state="visible")
    assert "mean of 3 seeds" in dialog.inner_text()
    page.locator("#close").click()
    dialog.wait_for(state="hidden")


def test_the_filter_hides_a_backbone_and_a_task_everywhere(page: Any):
    before = times_drawn(page)
    assert "default" in visible(page, "#tasks tbody th") and "default" in visible(page, "#tasks svg text")
    page.locator("#filter summary").click()
    page.locator("#filter input[name=backbone][value=default]").uncheck()
    page.locator("#filter input[name=item][value=class]").uncheck()
    drawn(page, before + 2)
    assert "default" not in visible(page, "main tbody th") and "default" not in visible(page, "#tasks svg text")
    assert "class" not in visible(page, "#tasks h3, #tasks svg text") and "factors" in visible(page, "#tasks h3")
    assert page.locator("#shown").inner_text() == "5 of 6 backbones, 7 of 8 tasks and diagnoses shown"
    page.locator("#all").click()
    drawn(page, before + 3)
    assert "default" in visible(page, "#tasks svg text") and "class" in visible(page, "#tasks h3")
    page.keyboard.press("Escape")
    assert not page.locator("#filter form").is_visible()
    assert page.evaluate("document.activeElement.parentElement.id") == "filter"


def test_the_gallery_of_inversions_is_chosen_and_compared_by_keyboard(page: Any):
    sheets = ".inversions .sheet"
    assert [page.locator(sheets).nth(k).is_visible() for k in (0, 1)] == [True, False]
    over = "getComputedStyle(document.querySelector('.inversions .over')).clipPath"
    hidden = page.evaluate(over)
    page.locator(".inversions input.wipe").focus()
    for _ in range(3):
        page.keyboard.press("PageUp")
    cut = page.evaluate("document.querySelector('.inversions').style.getPropertyValue('--cut')")
    assert 10 < int(cut.rstrip("%")) <= 60 and page.evaluate(over) != hidden
    page.locator(".inversions input[type=radio]").first.focus()
    page.keyboard.press("ArrowRight")
    assert [page.locator(sheets).nth(k).is_visible() for k in (0, 1)] == [False, True]
    assert IMAGE in page.locator(sheets).nth(1).inner_text()
    before = times_drawn(page)
    page.evaluate("document.querySelector('#filter input[name=backbone][value=spatial]').click()")
    drawn(page, before + 1)
    assert page.locator(f"{sheets}:nth-of-type(2) figure[data-backbone=spatial]").is_hidden()
    page.evaluate("document.querySelector('#all').click()")
    drawn(page, before + 2)


def test_light_and_dark(page: Any):
    def colours() -> tuple[str, str]:
        return tuple(
            page.evaluate("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector("
                          "'svg text')).fill]")
        )  # fmt: skip

    light = colours()
    page.locator("#theme").click()
    dark = colours()
    assert sum(map(int, light[0][4:-1].split(", "))) > 700 > 200 > sum(map(int, dark[0][4:-1].split(", ")))
    assert light[1] != dark[1]  # text in charts follows
    page.locator("#theme").click()
    page.emulate_media(color_scheme="dark")
    assert page.locator("#theme").inner_text() == "Dark"  # what was chosen stays
    page.evaluate("delete document.documentElement.dataset.theme")
    assert colours() == dark
    page.emulate_media(color_scheme="light")


def test_it_can_be_used_by_keyboard(page: Any):
    page.evaluate("document.body.tabIndex = -1; document.body.focus(); document.body.removeAttribute('tabindex')")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.locator("#tasks td a.n").first.focus()
    page.keyboard.press("Enter")
    page.locator("dialog#behind").wait_for(state="visible")
    assert page.evaluate("document.querySelector('dialog').contains(document.activeElement)")
    page.keyboard.press("Escape")
    page.locator("dialog#behind").wait_for(state="hidden")
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, input, [role=region], summary')].filter(e => !(e.innerText || "
        "e.textContent || e.ariaLabel || e.labels?.length)).map(e => e.outerHTML.slice(0, 80))"
    )
    assert unnamed == []


def test_it_fits_a_phone_and_paper(page: Any):
    page.set_viewport_size({"width": 390, "height": 844})
    before = times_drawn(page)
    page.reload(wait_until="domcontentloaded", timeout=LOADED_MS)
    drawn(page, 1)
    assert before >= 1
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    wide = page.evaluate(
        "[...document.querySelectorAll('figure.chart')].filter(f => f.querySelector('svg').clientWidth > "
        "f.parentElement.clientWidth + 1).map(f => f.id)"
    )
    assert wide == []  # panels are narrowed until they fit
    effect = page.locator(".claims .effect").first.bounding_box()
    assert effect["x"] >= 0 and effect["x"] + effect["width"] <= 390  # claims are blocks, not a table to scroll
    first = page.locator("#tasks tbody th").first
    at = first.bounding_box()["x"]
    page.evaluate("document.querySelector('#tasks .wide').scrollLeft = 200")
    assert first.bounding_box()["x"] == at  # who it is stays in sight
    page.locator("#filter summary").click()
    box = page.locator("#filter form").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390
    page.keyboard.press("Escape")
    paper = page.pdf(format="A4")
    assert paper.startswith(b"%PDF") and len(paper) > 30_000
    page.set_viewport_size({"width": 1280, "height": 900})


def test_nothing_went_wrong_and_nothing_was_asked_for(page: Any, said: list[str]):
    assert said == []
