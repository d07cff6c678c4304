"""Measures the built pages as their readers meet them: `make measure` prints one line for each.

Bytes are those of a first visit with nothing in the cache: the page; every style sheet, script, font and picture that
Chromium asks for on a phone by day and on a laptop by night, with all folded parts opened; and every picture named in
the page, though it would come only when it is scrolled to. Each file counts once, as it lies on the disk; compressed,
text counts as gzip makes it and fonts and pictures as they are. A search loads its index besides. The rest is asked of
Chromium, too.
"""

from __future__ import annotations

import gzip
import re
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LAPTOP, PHONE = (1280, 800), (375, 800)
TEXT = {".html", ".css", ".js", ".svg", ".json"}
OPEN = """async () => {
  document.querySelectorAll("details").forEach(d => d.open = true);
  document.querySelectorAll("article button.toggle-button").forEach(b => b.click());
  await document.fonts.ready;
}"""
# Figures come when they are scrolled to; a page is as long as it is with them.
CORE = """async () => {
  const article = document.querySelector("article");
  if (!article) return [0, 0];  // the search page
  const figures = [...article.querySelectorAll("img")];
  for (const figure of figures) figure.loading = "eager";
  await Promise.all(figures.map(figure => figure.decode().catch(() => 0)));
  const {top, bottom} = article.getBoundingClientRect(), first = article.querySelector("details.folded");
  return [(first ? first.getBoundingClientRect().top : bottom) - top, bottom - top].map(length => length / innerHeight);
}"""
# On a phone a formula flows in its box, which would scroll; elsewhere it is a box that scrolls beside its number.
WIDE = """() => [...document.querySelectorAll("article div.math > .formula")].filter(e => {
  const box = getComputedStyle(e).display === "inline" ? e.parentElement : e;
  const {left, right} = box.getBoundingClientRect();
  const parts = [...e.querySelectorAll("math")].map(part => part.getBoundingClientRect());
  return box.scrollWidth > box.clientWidth + 1 || parts.some(part => part.right > right + 1 || part.left < left - 1);
}).map(e => e.dataset.tex.trim())"""
CODE = """() => [...document.querySelectorAll("article .highlight pre")].filter(e => e.getClientRects().length)
  .filter(e => e.scrollWidth > e.clientWidth + 1).length"""
TABLES = """() => [...document.querySelectorAll("article table")].filter(e => e.getClientRects().length)
  .filter(e => e.scrollWidth > e.parentElement.clientWidth + 1).length"""
NO_ALT = """() => [...document.querySelectorAll("article img")]
  .filter(e => !e.alt.trim() || /\\.(png|webp|svg)$/.test(e.alt)).length"""


@dataclass(frozen=True)
class Measure:
    """What one page weighs and how it fits."""

    page: str
    bytes: int
    compressed: int
    nodes: int
    core: float  # screens of a laptop down to the first folded section
    screens: float  # of the whole page, with everything closed
    core_phone: float
    screens_phone: float
    wide_formulas: int  # that scroll on a phone
    cut_code: int  # blocks that scroll on a laptop, opened
    wide_tables: int  # on a phone, opened
    without_alt: int


def weigh(html: Path, loaded: Iterable[str]) -> tuple[int, int]:
    """Bytes and compressed bytes of a page, of the addresses that it asked for, and of the pictures in it."""
    text = html.read_text(encoding="utf-8")
    pictures = [html.parent / unquote(src) for src in re.findall(r'<img [^>]*src="?([^":\s>]+)', text)]
    asked = [Path(unquote(urlsplit(address).path)) for address in loaded if urlsplit(address).scheme == "file"]
    files = {path.resolve() for path in [html, *asked, *pictures]}
    whole = packed = 0
    for path in sorted(files):
        if path.is_file():
            data = path.read_bytes()
            whole += len(data)
            packed += len(gzip.compress(data)) if path.suffix in TEXT else len(data)
    return whole, packed


def measure(browser: Any, site: Path, name: str) -> Measure:
    """Measure the page `name` (such as `notebooks/gan-qp`) of the site with a Playwright browser."""
    path, loaded, found = site / f"{name}.html", [], {}
    for width, height in (PHONE, LAPTOP):
        theme = "light" if (width, height) == PHONE else "dark"
        view = {"width": width, "height": height}
        page = browser.new_page(viewport=view, reduced_motion="reduce", color_scheme=theme)
        page.on("request", lambda request: loaded.append(request.url))
        page.goto(path.as_uri())
        core, screens = (round(length, 1) for length in page.evaluate(CORE))
        nodes = page.evaluate("document.querySelectorAll('*').length")
        page.evaluate(OPEN)
        if (width, height) == PHONE:
            found = {"core_phone": core, "screens_phone": screens, "wide_formulas": len(page.evaluate(WIDE))}
            found["wide_tables"] = page.evaluate(TABLES)
        else:
            found |= {"core": core, "screens": screens, "nodes": nodes, "cut_code": page.evaluate(CODE)}
            found["without_alt"] = page.evaluate(NO_ALT)
        page.close()
    whole, packed = weigh(path, loaded)
    return Measure(name, whole, packed, **found)


def main() -> int:
    """Print the table; the argument is the folder of the built HTML."""
    import shutil

    from playwright.sync_api import sync_playwright

    site = Path(sys.argv[1] if len(sys.argv) > 1 else "_build/html").resolve()
    names = [
        p.relative_to(site).with_suffix("").as_posix() for f in ("book", "notebooks") for p in (site / f).glob("*.html")
    ]
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        for i, name in enumerate(sorted(names)):
            row = asdict(measure(browser, site, name))
            if not i:
                print("  ".join(f"{key:>{max(9, len(key))}}" for key in row))
            print("  ".join(f"{value!s:>{max(9, len(key))}}" for key, value in row.items()), flush=True)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
