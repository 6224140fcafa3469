"""Makes the sample report and its pictures again, from a demo that was run in this folder.

    whytransfer demo                                         (or --quick, whose numbers mean nothing)
    python docs/sample_report.py

writes docs/sample-report.html, whose links to runs lead into whytransfer-demo/, and docs/pictures/report-*.png: its
claims and tasks on a desktop and, in the dark, on a phone. Needs playwright and a chromium on the path.
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path

from PIL import Image

import whytransfer

DOCS = Path(__file__).parent
PAGE = DOCS / "sample-report.html"
SHOTS = {  # name -> (width, height in CSS pixels, colour scheme, what is at the top)
    "report-desktop": (1280, 1150, "light", "#claims"),
    "report-phone": (390, 844, "dark", "#tasks"),
    "report-invariance": (1280, 900, "light", "#invariance"),
}


def main() -> None:
    whytransfer.write_report("whytransfer-demo", out=PAGE)
    print(PAGE, f"{PAGE.stat().st_size:,} bytes")
    for name, content in shots(PAGE).items():
        path = DOCS / "pictures" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.open(io.BytesIO(content)).convert("RGB").save(path, optimize=True)
        print(path, f"{path.stat().st_size:,} bytes")


def shots(page: Path) -> dict[str, bytes]:
    """{name: PNG} of the page as a browser shows it, offline."""
    from playwright.sync_api import sync_playwright

    found = {}
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for name, (width, height, scheme, top) in SHOTS.items():
            context = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme=scheme, offline=True
            )
            tab = context.new_page()
            tab.goto(page.resolve().as_uri(), wait_until="domcontentloaded", timeout=300_000)
            tab.locator("html[data-drawn]").wait_for(state="attached", timeout=300_000)
            tab.evaluate("top => document.querySelector(top).scrollIntoView()", top)
            found[name] = tab.screenshot(timeout=300_000)
            context.close()
        browser.close()
    return found


if __name__ == "__main__":
    main()
