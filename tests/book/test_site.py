"""The built site as its readers meet it: in Chromium from ``file://``, on a laptop and a phone, by day and by night."""

import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import nbformat
import pytest
from bs4 import BeautifulSoup, Tag
from gantext_book.measure import CODE, CORE, TABLES, WIDE, weigh
from gantext_book.source import ROOT, chapters, fill, pages
from gantext_book.source import site as facts_of_site
from markdown_it import MarkdownIt
from mdit_py_plugins.colon_fence import colon_fence_plugin
from mdit_py_plugins.deflist import deflist_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.front_matter import front_matter_plugin
from mdit_py_plugins.myst_role import myst_role_plugin
from texledger.sphinx import Made, stored_entries

PAGES = [path.relative_to(ROOT).with_suffix("").as_posix() for path in pages(ROOT)]
CHAPTERS = [path.relative_to(ROOT).with_suffix("").as_posix() for path in chapters(ROOT)]
LAPTOP, PHONE, PAPER = 1280, 375, 680  # CSS pixels; A4 between its margins
ALLOWED: list[dict[str, str]] = json.loads(Path(__file__).with_name("axe_allowed.json").read_text(encoding="utf-8"))
FETCHED = "script[src], link[href]:not([rel=canonical]), img[src], source[src], iframe[src], video[src], audio[src]"
VERBATIM = ("bibliography", "code-cell", "eval-rst", "raw")  # directives that hold no Markdown

every_page = pytest.mark.parametrize("name", PAGES)
every_view = pytest.mark.parametrize("name", [*PAGES, "search"])
every_chapter = pytest.mark.parametrize("name", CHAPTERS)
both_widths = pytest.mark.parametrize("width", [LAPTOP, PHONE])


# --- The files ---------------------------------------------------------------------------------------------------


def built(site: Path) -> list[Path]:
    return sorted(page for page in site.rglob("*.html") if "_static" not in page.parts)


@cache
def html(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@cache
def ids(path: Path) -> Counter[str]:
    return Counter(attribute(tag, "id") for tag in html(path).find_all(id=True) if isinstance(tag, Tag))


def attribute(tag: Tag, name: str) -> str:
    return str(tag.get(name) or "")


def leads_to(page: Path, address: str) -> tuple[Path, str]:
    """File and anchor of a link that stays within the site."""
    parts = urlsplit(address)
    path = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    return path, unquote(parts.fragment)


def is_outside(address: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme not in ("", "file", "data", "blob") or bool(parts.netloc)


def none(lines: list[str]) -> None:
    """No line may be left; pytest would show but the first."""
    assert not lines, "\n" + "\n".join(lines)


def entries(name: str) -> list[Made]:
    found, faults = stored_entries(ROOT / f"{name}.ipynb", name)
    assert not faults
    return found


def test_nothing_is_asked_of_other_machines(site: Path) -> None:
    found = []
    for page in built(site):
        for tag in html(page).select(FETCHED):
            address = attribute(tag, "src") or attribute(tag, "href")
            if is_outside(address):
                found.append(f"{page.relative_to(site)}: {address}")
    for style in site.rglob("*.css"):
        outside = re.findall(r"url\(\s*[\"']?((?:https?:)?//[^)]*)", style.read_text(encoding="utf-8"))
        found += [f"{style.relative_to(site)}: {address}" for address in outside]
    none(found)


def test_every_link_leads_somewhere(site: Path) -> None:
    wrong = []
    for page in built(site):
        for tag in html(page).select("a[href], link[href], script[src], img[src]"):
            address = attribute(tag, "src") or attribute(tag, "href")
            if urlsplit(address).scheme or urlsplit(address).netloc or address == "#":
                continue
            file, anchor = leads_to(page, address)
            if not file.is_file():
                wrong.append(f"{page.relative_to(site)}: {address} is not there")
            elif anchor and file.suffix == ".html" and ids(file)[anchor] != 1:
                wrong.append(f"{page.relative_to(site)}: {address} fits {ids(file)[anchor]} places")
    none(wrong)


@every_page
def test_formulas_are_those_of_the_source(site: Path, name: str) -> None:
    page = html(site / f"{name}.html")
    assert not page.select(".temml-error, merror, [style*='#b22222']")
    if name.startswith("book/api/"):
        return  # its formulas come from docstrings
    text = fill((ROOT / f"{name}.md").read_text(encoding="utf-8"), facts_of_site(ROOT))
    expected = formulas(text)
    if name in CHAPTERS:
        notebook = nbformat.read(ROOT / f"{name}.ipynb", as_version=4)
        for cell in notebook.cells:
            expected += formulas(cell.metadata.get("mystnb", {}).get("figure", {}).get("caption", ""))
    made = "table.ledger *, .toctree-wrapper *, ul.computes *, .apart-equation *, section.erratum *"
    written = len(page.select(f"article [data-tex]:not(.formula, {made})"))
    shown = {"display": len(page.select("article div.math")), "inline": written}
    assert shown == {"display": expected["display"], "inline": expected["inline"]}
    assert all(shown.select("math *") or shown.select("mi, mn, mo, mtext") for shown in page.select("[data-tex]"))
    assert all(math.find_parent(attrs={"data-tex": True}) or math.get("data-tex") for math in page.select("math"))


@cache
def reader() -> MarkdownIt:
    markdown = MarkdownIt("commonmark").enable("table").use(front_matter_plugin).use(myst_role_plugin)
    return markdown.use(dollarmath_plugin, double_inline=False).use(colon_fence_plugin).use(deflist_plugin)


def formulas(text: str) -> Counter[str]:
    """How many display and inline formulas a MyST text has, those in its boxes included."""
    found: Counter[str] = Counter()
    for token in reader().parse(text):
        found["display"] += token.type.startswith("math_block")
        for inline in token.children or []:
            found["inline"] += inline.type == "math_inline"
            found["inline"] += inline.type == "myst_role" and inline.meta["name"] == "math"
            found["inline"] += inline.type == "myst_role" and inline.meta["name"] == "checked" and "<" in inline.content
        box = re.match(r"\{([\w:-]+)\}(.*)", token.info.strip()) if token.type in ("fence", "colon_fence") else None
        if box and box[1] == "math":
            found["display"] += 1
        elif box and box[1] not in VERBATIM:
            found += formulas(f"{box[2]}\n\n{token.content}")
    return found


@every_chapter
def test_notebook_numbers_its_equations_as_the_page_does(site: Path, name: str) -> None:
    notebook = nbformat.read(ROOT / f"{name}.ipynb", as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    shown = [link.get_text() for link in html(site / f"{name}.html").select("article .eqno-link")]
    assert shown == [f"({number})" for number in re.findall(r"\\tag\{([\d.]+)\}", text)]
    labels = re.findall(
        r"^\$\$.*\(([\w:.-]+)\)\s*$|^:label: ([\w-]+:[\w.-]+)$", (ROOT / f"{name}.md").read_text(), re.M
    )
    anchors = [attribute(math, "id") for math in html(site / f"{name}.html").select("article div.math")]
    assert anchors == [f"equation-{re.sub('[^a-z0-9]+', '-', (a or b).lower())}" for a, b in labels]


@every_chapter
def test_equation_check_and_function_lead_to_each_other(site: Path, name: str) -> None:
    path = site / f"{name}.html"
    page = html(path)
    rooms = {room.stem: html(room) for room in (site / "book" / "api").glob("*.html")}
    assert page.select("article div.math")
    for equation in page.select("article div.math"):
        back, mark = f"#{attribute(equation, 'id')}", equation.select_one(".eqno .eq-mark")
        assert mark is not None, f"{back} has no mark"
        check = page.find(id=attribute(mark, "href").removeprefix("#"))
        assert isinstance(check, Tag), f"{back}: its mark leads nowhere"
        fold = check.find_parent("details")  # inside it, so that following the link opens it
        assert isinstance(fold, Tag)
        assert "check" in fold.get_attribute_list("class")
        assert fold.select("div.cell_input"), f"{back}: its check shows no code"
        assert fold.select(f"a[href='{back}']"), f"{back}: its check does not lead back"
    for stored in entries(name):
        for function in (f for f in stored.entry.functions if f.startswith("gantext.")):
            shown = re.sub(r"\.\w+(?=\.\w+$)", "", function)  # a room may show what one of its modules defines
            every = [(room, one, api.find(id=one)) for one in (function, shown) for room, api in rooms.items()]
            found = [(room, one, described) for room, one, described in every if described]
            room, name_there, documented = found[0] if found else ("", function, None)
            target = f"../book/api/{room}.html#{name_there}"
            if documented is None:  # a part of a module that only its tests and its check know is named without a link
                assert "._" in function or function.startswith("gantext.kernels."), f"{function} is not on the API page"
                continue
            assert page.select(f"details.check a[href='{target}']"), f"{stored.entry.label}: no link to {function}"
            assert isinstance(documented, Tag)
            anchor = "equation-" + re.sub("[^a-z0-9]+", "-", stored.entry.label.lower())
            described = documented.find_parent("dl") or documented
            if stored.entry.tex:  # a refutation in words has no equation to lead to
                back = f"../../{name}.html#{anchor}"
                assert described.select(f"a[href='{back}']"), f"{function} does not lead to {anchor}"


def test_pages_made_from_the_ledger_hold_all_of_it(site: Path) -> None:
    sources = [(ROOT / f"{name}.md").read_text(encoding="utf-8") for name in CHAPTERS]
    shown = {label for text in sources for label in re.findall(r"^\$\$ \(([\w:-]+)\)$", text, re.MULTILINE)}
    numbered = [s.entry for name in CHAPTERS for s in entries(name) if s.entry.label in shown]
    every = [s.entry for name in CHAPTERS for s in entries(name) if s.entry.tex is not None]  # those of text as well
    refuted = [s for name in CHAPTERS for s in entries(name) if s.entry.refutes]
    for name in CHAPTERS:
        page = site / "book" / "ledger" / f"{Path(name).name}.html"
        assert page.stat().st_size < 300_000, f"{page.name} is too long"
        labels = {s.entry.label for s in entries(name) if s.entry.tex is not None}
        rows = html(page).select("table.ledger tbody tr")
        assert {attribute(row, "id") for row in rows} == {f"ledger-{label.replace(':', '-')}" for label in labels}
        assert len(html(page).select("table.ledger tbody [data-tex]")) == len(labels)
    assert len(html(site / "book" / "ledger.html").select("table.ledger-chapters tbody tr")) == len(CHAPTERS) + 1
    assert len(html(site / "book" / "errata.html").select(".erratum")) == len(refuted)
    checked = [entry for entry in numbered if entry.kind != "definition"]
    front = html(site / "book" / "index.html").select_one(".ledger-count")
    assert front is not None
    assert [strong.get_text() for strong in front.select("strong")] == [
        f"{len(checked)} of {len(checked)}",
        f"{sum(entry.strength == 'both sides' for entry in checked)}",
        f"{sum(e.killed for e in every)} of {sum(len(e.mutants) for e in every)}",
    ]


@every_chapter
def test_set_up_is_folded_and_says_what_runs(site: Path, name: str) -> None:
    (cell,) = html(site / f"{name}.html").select("div.cell.tag_setup")
    assert cell.select("details.hide div.cell_input")
    assert "torch" in cell.select("details.hide div.cell_output")[0].get_text()
    first = html(site / f"{name}.html").select_one("article :is(figure, div.cell)")
    assert first is not None
    assert first.name == "figure" or first.select(":scope > div.cell_output"), "a page opens with its picture"


def test_the_stamp_of_a_chapter_counts_what_its_ledger_lists(site: Path) -> None:
    for name in CHAPTERS:
        stamp = html(site / f"{name}.html").select_one("details.stamp")
        ledger = html(site / "book" / "ledger" / f"{Path(name).name}.html")
        listed = ledger.select_one("article p")
        assert stamp and listed
        checked = re.search(r"(\d+) equations checked", stamp.get_text())
        numbered = re.search(r"(\d+) equations:", stamp.get_text())
        assert checked and numbered
        counted = re.match(r"(?:(\d+) equations: )?(\d+)(?: equations)? checked", listed.get_text())
        assert counted and counted[2] == checked[1] and (counted[1] or counted[2]) == numbered[1], name
        rows = [row for row in ledger.select("table.ledger tbody tr") if row.select_one("td > a[href*='#equation-']")]
        assert len(rows) == int(numbered[1]), name


@pytest.mark.parametrize("name", [name for name in PAGES if name.startswith("book/api/")])
def test_docstrings_are_read_as_they_were_meant(site: Path, name: str) -> None:
    """No sentence where a type belongs, no field that was not seen as one, no code box in a list of fields."""
    article = html(site / f"{name}.html").select_one("article")
    assert article is not None
    wrong = re.findall(r".*:(?:returns?|rtype|yields?|raises|param|type|class|func)\b[^:\n]*:.*", article.get_text())
    for head in article.select("dl.field-list > dt"):
        said = head.find_next_sibling("dd")
        if said is None:
            continue
        words = " ".join(said.get_text().split())
        if head.get_text().strip(" :") in ("Return type", "Yields type", "Type") and re.search(
            r"\w\w+ \w|\w\. ", words
        ):
            wrong.append(f"no type: {words}")
        wrong += [f"code in a field: {code.get_text()[:60]}" for code in said.select(".highlight")]
    none(wrong)


@every_page
def test_images_say_what_they_show(site: Path, name: str) -> None:
    for image in html(site / f"{name}.html").select("img"):
        alt = attribute(image, "alt").strip()
        assert alt, f"no alt text: {image}"
        assert not re.fullmatch(r"\S*[/\\]\S*|\S+\.\w{3,4}|[0-9a-f]{12,}", alt), f"not words: {alt}"


@every_chapter
def test_notebook_is_offered_as_it_is_stored(site: Path, name: str) -> None:
    path, facts = site / f"{name}.html", facts_of_site(ROOT)
    links = [attribute(link, "href") for link in html(path).select("a[href*='.ipynb']")]
    repository = facts.repository.removeprefix("https://github.com/")
    colab = f"https://colab.research.google.com/github/{repository}/blob/{facts.branch}/{name}.ipynb"
    assert [link for link in links if "colab" in link] == [colab]
    local = [leads_to(path, link)[0] for link in links if not is_outside(link)]
    assert local
    for file in local:
        assert file.read_bytes() == (ROOT / f"{name}.ipynb").read_bytes(), f"{file} is another notebook"


@every_chapter
def test_nothing_was_executed_for_the_page(site: Path, name: str) -> None:
    verified = nbformat.read(ROOT / f"{name}.ipynb", as_version=4).metadata["gantext"]["verified"]
    stamp = html(site / f"{name}.html").select_one("details.stamp")
    assert stamp is not None
    assert verified["date"] in stamp.get_text()
    assert verified["device"] in stamp.get_text()


# --- In the browser ----------------------------------------------------------------------------------------------


@dataclass
class Visit:
    """What one look at a page found."""

    outside: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)  # addresses
    nodes: int = 0
    core: float = 0.0  # screens down to the first folded section
    copied: tuple[str, str] = ("", "")  # the first formula: what the clipboard gets, and its TeX
    wide: list[str] = field(default_factory=list)  # display formulas that scroll
    parted: list[str] = field(default_factory=list)  # inline formulas whose comma begins the next line
    cut_code: int = 0  # blocks that scroll
    wide_tables: int = 0  # that scroll
    picture: float = 0.0  # where the middle of the first picture is, in screens
    small: list[str] = field(default_factory=list)  # text of the core and targets that are too small
    errors: list[str] = field(default_factory=list)
    sideways: int = 0  # pixels by which the page scrolls
    cut: list[str] = field(default_factory=list)
    searches: int = 0
    uncopied: int = 0  # code blocks without a copy button
    colours: dict[str, list[str]] = field(default_factory=dict)  # per theme: of the paper, of a heading
    faint: dict[str, list[str]] = field(default_factory=dict)  # per theme: formulas of little contrast
    barriers: dict[str, list[str]] = field(default_factory=dict)  # per theme, by axe-core
    allowed: set[int] = field(default_factory=set)  # items of the allow-list that were met


UNFOLD = "document.querySelectorAll('details.folded').forEach(fold => fold.open = true)"  # sections
OPEN = """async () => {
  document.querySelectorAll("details").forEach(d => d.open = true);
  const folded = document.querySelectorAll("article button.toggle-button");
  folded.forEach(b => b.click());
  await document.fonts.ready;
  await new Promise(done => setTimeout(done));  // what listens to the opening of a part has heard of it
  if (folded.length) {  // the theme finds out anew which code blocks scroll, 300 ms after a resize
    dispatchEvent(new Event("resize"));
    await new Promise(done => setTimeout(done, 500));
  }
}"""

# What a finger cannot bring into view: content whose right edge lies outside the window or outside a box that clips it.
CUT = """() => {
  const right = e => e.getBoundingClientRect().right;
  const ends = {
    "[data-tex]": e => Math.max(...[e, ...e.querySelectorAll("math")].filter(m => m.matches("math")).map(right)),
    "img, svg, canvas, video, pre, table": right,
    "div.math > .eqno": right,
  };
  const cut = [];
  for (const [selector, end] of Object.entries(ends)) {
    for (const element of document.querySelectorAll("article :is(" + selector + ")")) {
      if (element.parentElement.closest("button, [data-tex]")) continue;
      const words = (element.dataset.tex || element.textContent).trim();
      const what = (words || element.outerHTML).slice(0, 70);
      if (!element.getClientRects().length) { cut.push("never shown: " + what); continue; }
      let edge = () => end(element), by = "";
      for (let box = element.parentElement; box && box !== document.body; box = box.parentElement) {
        const flow = getComputedStyle(box).overflowX;
        if (flow === "visible") continue;
        if (flow === "auto" || flow === "scroll") box.scrollLeft = box.scrollWidth;
        if (edge() > right(box) + 1) by = box.tagName + "." + box.className;
        if (flow === "auto" || flow === "scroll") edge = () => right(box);
      }
      if (by || edge() > innerWidth + 1) cut.push("cut off by " + (by || "the window") + ": " + what);
    }
  }
  for (const number of document.querySelectorAll("div.math > .eqno")) {
    const a = number.getBoundingClientRect();
    const parts = [...number.parentElement.querySelectorAll(".formula math")].map(e => e.getBoundingClientRect());
    if (parts.some(b => a.left < b.right - 1 && a.right > b.left + 1 && a.top < b.bottom - 1 && a.bottom > b.top + 1))
      cut.push("under its number: " + number.textContent);
  }
  return cut;
}"""

PARTED = """() => {
  const parted = [];
  for (const formula of document.querySelectorAll("article [data-tex]:not(.formula)")) {
    const text = formula.nextSibling;
    const sign = text?.nodeType === 3 ? text.data.search(/(?<=^\\u2060*)[,.;:)\\]’”']/) : -1;
    if (sign < 0 || !formula.getClientRects().length) continue;
    const range = document.createRange();
    range.setStart(text, sign);
    range.setEnd(text, sign + 1);
    const last = [formula, ...formula.querySelectorAll("math")].at(-1);
    const [end, mark] = [last, range].map(e => e.getBoundingClientRect());
    if (mark.top >= end.bottom) parted.push(formula.dataset.tex + text.data.slice(0, 20));
  }
  return parted;
}"""

FAINT = """() => {
  const context = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true}), known = new Map();
  const rgba = colour => {
    if (!known.has(colour)) {
      context.clearRect(0, 0, 1, 1); context.fillStyle = colour; context.fillRect(0, 0, 1, 1);
      known.set(colour, [...context.getImageData(0, 0, 1, 1).data]);
    }
    return known.get(colour);
  };
  const linear = c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = colour => [0.2126, 0.7152, 0.0722].reduce((sum, w, i) => sum + w * linear(colour[i] / 255), 0);
  const paper = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = rgba(getComputedStyle(e).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll("article math")].map(e => {
    const [a, b] = [light(rgba(getComputedStyle(e).color)), light(paper(e))].sort((x, y) => x - y);
    return [(b + 0.05) / (a + 0.05), e.closest("[data-tex]")?.dataset.tex.trim().slice(0, 60)];
  }).filter(([contrast]) => contrast < 4.5).map(([contrast, tex]) => contrast.toFixed(1) + ": " + tex);
}"""

THEME = "theme => Object.assign(document.documentElement.dataset, {theme, mode: theme})"
COLOURS = """["body", "h1"].map(name => getComputedStyle(document.querySelector(name)))
  .map((style, i) => i ? style.color : style.backgroundColor)"""

# A theme changes colours only, so structure is judged in one. Contrast takes axe-core milliseconds a word: it is judged
# once for each look, that is for each colour and size of type on each stack of backgrounds.
AXE = """async ([allowed, all]) => {
  const stacks = new Map([[null, ""]]), looks = new Map();
  const stack = element => {
    if (!stacks.has(element)) {
      const {backgroundColor, backgroundImage, opacity} = getComputedStyle(element);
      const own = [backgroundColor, backgroundImage, opacity].join();
      stacks.set(element, stack(element.parentElement) + (own === "rgba(0, 0, 0, 0),none,1" ? "" : "/" + own));
    }
    return stacks.get(element);
  };
  for (const element of document.querySelectorAll("body *")) {
    if (![...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
    if (!element.checkVisibility() || element.closest("[aria-hidden=true]")) continue;
    const {color, fontSize, fontWeight, textDecorationLine} = getComputedStyle(element);
    const look = [color, fontSize, fontWeight, textDecorationLine, element.tagName, stack(element)].join(";");
    if (!looks.has(look)) looks.set(look, element);
  }
  const options = {resultTypes: ["violations"], elementRef: true, preload: false};
  const colour = ["color-contrast", "link-in-text-block"];
  const results = [await axe.run({include: [...looks.values()]}, {...options, runOnly: colour})];
  const rest = Object.fromEntries(colour.map(rule => [rule, {enabled: false}]));
  if (all) results.push(await axe.run(document, {...options, rules: rest}));
  const met = [], left = [];
  for (const rule of results.flatMap(result => result.violations)) for (const node of rule.nodes) {
    const i = allowed.findIndex(item => item.rule === rule.id && node.element.matches(item.selector));
    if (i >= 0) met.push(i);
    else left.push(`${rule.id} (${rule.impact}) at ${node.target}: ${node.failureSummary.replace(/\\s+/g, " ")}`);
  }
  return [met, left];
}"""

COPY = """() => {
  const formula = document.querySelector("article div.math .formula"), range = document.createRange();
  range.selectNodeContents(formula);
  getSelection().removeAllRanges();
  getSelection().addRange(range);
  const clipboardData = new DataTransfer();
  formula.dispatchEvent(new ClipboardEvent("copy", {clipboardData, bubbles: true, cancelable: true}));
  getSelection().removeAllRanges();
  return [clipboardData.getData("text/plain"), formula.dataset.tex.trim()];
}"""

PICTURE = """() => {
  const {top, height} = document.querySelector("article :is(figure, div.cell_output)").getBoundingClientRect();
  return (top + height / 2) / innerHeight;
}"""

# Of what is seen before a section is opened: text below 16 px, code below 11.5 px, things to touch below 24 px.
SMALL = """() => {
  const seen = selector => [...document.querySelectorAll("article " + selector)].filter(e => e.checkVisibility());
  const size = e => parseFloat(getComputedStyle(e).fontSize), height = e => e.getBoundingClientRect().height;
  const text = seen(":is(section > p, li, li > p, dd)").filter(e => size(e) < 16);
  const code = seen(".cell_input pre").filter(e => size(e) < 11.5);
  const touched = seen(":is(summary, button, select, .eq-mark, input[type=range])").filter(e => height(e) < 23.9);
  return [...text, ...code, ...touched].map(e => `${e.tagName}.${e.className}: ${e.textContent.trim().slice(0, 40)}`);
}"""

# Words of the heads of tables that are broken in two.
BROKEN = """() => [...document.querySelectorAll("article th")].filter(e => e.checkVisibility()).flatMap(e => {
  const walk = document.createTreeWalker(e, NodeFilter.SHOW_TEXT), broken = [];
  for (let node; (node = walk.nextNode());) for (const {0: word, index} of node.data.matchAll(/[\\p{L}\\d]+/gu)) {
    const range = document.createRange();
    range.setStart(node, index);
    range.setEnd(node, index + word.length);
    if (range.getClientRects().length > 1) broken.push(`${word} of ${e.textContent.trim()}`);
  }
  return broken;
})"""

Look = Callable[[str, int], Visit]


@pytest.fixture(scope="module")
def look(site: Path, browser: Any) -> Look:
    """Visits a page once at each width, and remembers."""
    axe = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")

    @cache
    def look(name: str, width: int) -> Visit:
        visit = Visit()
        page = browser.new_page(viewport={"width": width, "height": 800}, reduced_motion="reduce")
        page.on("request", lambda request: visit.outside.append(request.url) if is_outside(request.url) else None)
        page.on("request", lambda request: visit.loaded.append(request.url))
        page.on("requestfailed", lambda request: visit.errors.append(f"not loaded: {request.url}"))
        page.on("pageerror", lambda error: visit.errors.append(str(error)))
        page.on("console", lambda line: visit.errors.append(line.text) if line.type == "error" else None)
        page.goto((site / f"{name}.html").as_uri())
        fields = page.locator(".search-button__button, input[type=search]:not(article *)")
        visit.searches = fields.filter(visible=True).count()
        visit.uncopied = page.locator("article .cell_input .highlight:not(:has(.copybtn))").count()
        visit.nodes = page.evaluate("document.querySelectorAll('*').length")
        visit.core = page.evaluate(CORE)[0]
        if name in CHAPTERS:
            visit.picture, visit.small = page.evaluate(PICTURE), page.evaluate(SMALL)
        page.evaluate(OPEN)
        visit.wide = page.evaluate(WIDE)
        visit.parted = page.evaluate(PARTED)
        visit.cut_code = page.evaluate(CODE)
        visit.wide_tables = page.evaluate(TABLES)
        if page.locator("article div.math .formula").count():
            visit.copied = page.evaluate(COPY)
        visit.sideways = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        visit.cut = page.evaluate(CUT)
        for theme in ("dark", "light"):
            page.evaluate(THEME, theme)
            visit.colours[theme] = page.evaluate(COLOURS)
            visit.faint[theme] = page.evaluate(FAINT)
        # axe-core knows no MathML: its thousands of elements would take minutes, and contrast is measured above.
        page.evaluate("document.querySelectorAll('math').forEach(e => e.replaceWith('formula'))")
        page.evaluate(axe)
        for theme in ("light", "dark"):
            page.evaluate(THEME, theme)
            met, visit.barriers[theme] = page.evaluate(AXE, [ALLOWED, theme == "light"])
            visit.allowed |= set(met)
        page.close()
        return visit

    return look


@every_view
@both_widths
def test_page_loads_by_itself_and_without_errors(look: Look, name: str, width: int) -> None:
    none(look(name, width).outside + look(name, width).errors)


@every_view
def test_phone_reaches_everything(look: Look, name: str) -> None:
    none(look(name, PHONE).cut)
    assert look(name, PHONE).sideways <= 1


@every_view
@both_widths
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_barriers(look: Look, name: str, width: int, theme: str) -> None:
    none(look(name, width).barriers[theme] + look(name, width).faint[theme])


def test_allow_list_is_short_and_in_force(look: Look) -> None:
    assert len(ALLOWED) <= 6
    assert all(item.keys() == {"rule", "selector", "reason", "since", "until"} for item in ALLOWED)
    expired = [item["rule"] for item in ALLOWED if date.fromisoformat(item["until"]) < date.today()]
    assert not expired, "look at these again: fix them, or say why they stay"
    met = {i for name in [*PAGES, "search"] for width in (LAPTOP, PHONE) for i in look(name, width).allowed}
    assert met == set(range(len(ALLOWED))), "an item that nothing needs any more goes"


@every_page
def test_dark_is_dark(look: Look, name: str) -> None:
    colours = look(name, LAPTOP).colours
    day, night = ([sum(map(int, re.findall(r"\d+", c)[:3])) for c in colours[theme]] for theme in ("light", "dark"))
    assert day[0] > 600 > 300 > day[1]
    assert night[0] < 150 < 450 < night[1]


@every_page
def test_one_search_field(look: Look, name: str) -> None:
    assert look(name, LAPTOP).searches == 1


@every_chapter
def test_code_can_be_copied(look: Look, name: str) -> None:
    assert look(name, LAPTOP).uncopied == 0


def test_the_button_copies_the_code_and_symbols_are_not_translated(site: Path, browser: Any) -> None:
    page = browser.new_page()
    page.add_init_script("navigator.clipboard.writeText = async text => { window.copied = text; }")
    page.goto((site / f"{CHAPTERS[0]}.html").as_uri())
    block = page.locator("article .cell_input .highlight:visible").first
    block.locator(".copybtn").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".copybtn[data-says=Copied]")
    assert page.evaluate("window.copied") == block.locator("pre").text_content().removesuffix("\n")
    translated = page.evaluate("document.querySelectorAll('[data-tex]:not(.notranslate[translate=no])').length")
    assert page.locator("[data-tex]").count() > 100 and translated == 0
    page.close()


# Of the first line of code that is seen and takes two lines: where these begin. And all code, as it is copied.
HANGING = """() => {
  const text = [...document.querySelectorAll("article .cell_input pre")].map(pre => pre.textContent);
  for (const line of document.querySelectorAll("article .cell_input .code-line")) {
    if (!line.checkVisibility()) continue;
    const range = document.createRange(), lefts = new Map();
    const walker = document.createTreeWalker(line, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) for (let i = 0; i < walker.currentNode.length; i++) {
      if (!walker.currentNode.data[i].trim()) continue;
      range.setStart(walker.currentNode, i);
      range.setEnd(walker.currentNode, i + 1);
      const {top, left} = range.getBoundingClientRect();
      if (!lefts.has(Math.round(top))) lefts.set(Math.round(top), left);
    }
    if (lefts.size > 1) return [text, [...lefts.values()]];
  }
  return [text, []];
}"""


def test_long_lines_of_code_hang_on_a_phone(site: Path, browser: Any) -> None:
    found = {}
    for width in (LAPTOP, PHONE):
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.goto((site / f"{CHAPTERS[0]}.html").as_uri())
        found[width] = page.evaluate(HANGING)
        page.close()
    assert found[PHONE][0] == found[LAPTOP][0], "the same text is copied"
    first, *rest = found[PHONE][1]
    assert rest and all(left > first + 20 for left in rest)


# Letters of code that a button covers, where nothing hovers and it is always there.
COVERED = """() => [...document.querySelectorAll("article .highlight:has(> .copybtn)")].flatMap(block => {
  if (!block.checkVisibility()) return [];
  const button = block.querySelector(".copybtn").getBoundingClientRect(), found = [];
  for (const line of [...block.querySelectorAll(".code-line")].slice(0, 3)) {
    const range = document.createRange();
    range.selectNodeContents(line);
    for (const box of range.getClientRects())
      if (box.width && box.right > button.left + 1 && box.top + 3 < button.bottom && box.bottom > button.top + 3)
        found.push(line.textContent);
  }
  return found;
})"""


@every_chapter
def test_the_button_covers_no_code_on_a_phone(site: Path, browser: Any, name: str) -> None:
    page = browser.new_page(viewport={"width": PHONE, "height": 800}, has_touch=True, is_mobile=True)
    page.goto((site / f"{name}.html").as_uri())
    page.evaluate(OPEN)
    assert page.locator(".copybtn").first.evaluate("e => getComputedStyle(e).opacity") == "1"
    assert page.evaluate(COVERED) == []
    page.close()


@dataclass
class Hit:
    """A result of the search: where it leads, its words, the line below them and what is marked in it."""

    page: str
    anchor: str
    title: str
    line: str
    marked: list[str]


HITS = """() => [...document.querySelectorAll("#search-results li")].map(li => [li.querySelector("a").href,
  li.querySelector("a").textContent, li.querySelector(".context").textContent,
  [...li.querySelectorAll("mark")].map(mark => mark.textContent)])"""


@pytest.fixture(scope="module")
def find(site: Path, browser: Any) -> Callable[[str], list[Hit]]:
    """Asks the search page, and remembers its answers."""

    @cache
    def find(query: str) -> list[Hit]:
        page = browser.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{(site / 'search.html').as_uri()}?q={quote(query)}")
        page.wait_for_selector("#search-results .search-summary", timeout=20_000)
        found = page.evaluate(HITS)
        page.close()
        none(errors)
        hits = []
        for address, *words in found:
            file, anchor = leads_to(site / "search.html", address)
            hits.append(Hit(file.relative_to(site).with_suffix("").as_posix(), anchor, *words))
        return hits

    return find


FIRST = {
    "O-GAN": "o-gan", "OGAN": "o-gan", "JoSE": "jose", "梯度惩罚": "wasserstein", "注意力": "prefix-lm",
    "掩码": "prefix-lm",
    "负采样": "jose", "球面": "jose", "W散度": "w-divergence", "W 散度": "w-divergence", "行列式": "det-exp",
    "级联抑制": "cascading-rejection", "阅读理解": "reading-comprehension", "条件层归一化": "conditional-layer-norm",
    "determinants": "det-exp", "GAN-QP": "gan-qp", "ten ways": "gan-comparison", "prefix lm": "prefix-lm",
    "wgan-div": "w-divergence", "von Mises": "jose", "det-exp:main": "det-exp",
}  # fmt: skip


@pytest.mark.parametrize("query", FIRST)
def test_the_search_finds_the_chapter_first(site: Path, find: Callable[[str], list[Hit]], query: str) -> None:
    hits = find(query)
    assert hits[0].page == f"notebooks/{FIRST[query]}"
    for hit in hits[:5]:  # each leads to a section, a line of which is shown
        assert hit.line and hit.title
        assert not hit.anchor or ids(site / f"{hit.page}.html")[hit.anchor] == 1
    last = max(i for i, hit in enumerate(hits) if hit.page in CHAPTERS)
    assert not [hit for hit in hits[:last] if hit.page.startswith("book/api")], "the package crowds out a chapter"


@every_chapter
def test_the_search_finds_an_equation_by_its_number_and_its_label(
    site: Path, find: Callable[[str], list[Hit]], name: str
) -> None:
    formulas = html(site / f"{name}.html").select("article div.math:has(.eqno-link)")
    for formula in (formulas[0], formulas[-1]):
        number = formula.select_one(".eqno-link")
        assert number is not None
        for query in (number.get_text(), number.get_text().strip("()")):
            first = find(query)[0]
            assert (first.page, first.anchor, first.title) == (name, formula["id"], f"Equation {number.get_text()}")


def test_the_search_marks_what_it_found_and_finds_functions(find: Callable[[str], list[Hit]]) -> None:
    hits = find("gradient penalties")
    assert sum(bool(hit.marked) for hit in hits) > 10
    assert not [word for hit in hits for word in hit.marked if not re.match("gradient|penalt", word, re.IGNORECASE)]
    assert any(hit.page == "book/api/matexp" and hit.anchor == "gantext.matexp.expm" for hit in find("expm"))
    assert find("zzyzx") == []


WHOLE = """[...document.querySelectorAll('.bd-article *')].filter((e) => e.offsetHeight > 900
    && getComputedStyle(e).breakInside.startsWith('avoid')).map((e) => 'longer than a page, not to be broken: '
    + e.className)"""  # an empty page would come before it


@every_chapter
def test_paper(site: Path, browser: Any, name: str, tmp_path: Path) -> None:
    page = browser.new_page(viewport={"width": PAPER, "height": 960})
    page.emulate_media(media="print")
    page.goto((site / f"{name}.html").as_uri())
    page.evaluate("document.fonts.ready.then(() => 0)")
    cut = [line for line in page.evaluate(CUT) if not line.startswith("never shown")]  # checks stay folded
    sections = page.locator("details.folded")
    assert all(sections.nth(i).locator("> :last-child").is_visible() for i in range(sections.count()))
    page.evaluate(UNFOLD)  # as for the printer
    assert page.evaluate(TABLES) == 0, "nobody can scroll a table on paper"
    none(page.evaluate(BROKEN))
    none(page.evaluate(WHOLE))
    heads = page.evaluate("[...document.querySelectorAll('table.claims thead')].map(e => getComputedStyle(e).display)")
    assert heads and set(heads) == {"table-header-group"}, "else only the first sheet of a table has its head"
    assert page.locator("figure.live input[type=range]:visible").count() == 0, "nobody can move a slider on paper"
    figure = page.locator("figure.live").first
    assert figure.is_visible(), "its caption is printed too"
    assert figure.evaluate("figure => getComputedStyle(figure).printColorAdjust") == "exact", "bars are backgrounds"
    pdf = tmp_path / "page.pdf"
    page.pdf(path=pdf, format="A4")
    page.close()
    assert pdf.stat().st_size > 10_000
    none(cut)
    if shutil.which("pdftotext"):
        text = subprocess.run(["pdftotext", "-layout", pdf, "-"], capture_output=True, text=True, check=True).stdout
        for shown in (
            "equations checked",
            *(link.get_text() for link in html(site / f"{name}.html").select(".eqno-link")),
        ):
            assert shown in text
        assert "Back to top" not in text


@every_chapter
@both_widths
def test_long_lines_go_on_and_choices_end_before_their_arrow(site: Path, browser: Any, name: str, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto((site / f"{name}.html").as_uri())
    page.evaluate(UNFOLD)
    none(
        page.evaluate("""() => [...document.querySelectorAll("article div.highlight > pre")].flatMap((pre) => {
          const hanging = [...pre.querySelectorAll(".code-line")].map((line) => line.textContent.trimEnd());
          const long = pre.textContent.trimEnd().split("\\n").filter((line) => line.length > 78);
          return long.filter((line) => !hanging.includes(line.trimEnd()));
        })""")
    )
    none(
        page.evaluate("""() => [...document.querySelectorAll("figure.live select")].filter((e) => {
          const {paddingRight, textOverflow} = getComputedStyle(e);
          return parseFloat(paddingRight) < 20 || textOverflow !== "ellipsis";
        }).map((e) => e.id)""")
    )
    page.close()


@both_widths
def test_a_page_of_source_has_each_line_and_each_box_once(site: Path, browser: Any, width: int) -> None:
    path = site / "_modules" / "gantext" / "matexp.html"
    boxes = [attribute(box, "id") for box in html(path).select(".viewcode-block")]
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(path.as_uri())
    assert page.locator(".code-line").count(), "some lines are long"
    assert page.evaluate("[...document.querySelectorAll('.viewcode-block')].map((box) => box.id)") == boxes
    sent = html(path).select("article pre")[0].get_text().replace("\t", "    ")
    assert page.locator("article pre").text_content().strip() == sent.strip()
    page.close()


def test_a_card_that_begins_with_a_number_says_of_what(site: Path, browser: Any) -> None:
    page = browser.new_page(viewport={"width": PHONE, "height": 800})
    page.goto((site / "notebooks" / "gan-qp.html").as_uri())
    page.evaluate(UNFOLD)
    page.wait_for_selector("td.bare")
    said = "(cell) => [cell.dataset.label, getComputedStyle(cell, '::before').content]"
    label, content = page.locator("td.bare").first.evaluate(said)
    assert label == "pixels" and content != "none"
    page.close()


def test_no_cell_is_a_column_of_words_on_a_phone(site: Path, browser: Any) -> None:
    page = browser.new_page(viewport={"width": PHONE, "height": 800})
    page.goto((site / "notebooks" / "w-divergence.html").as_uri())
    page.evaluate(UNFOLD)
    page.wait_for_selector("table.cards[data-dealt]")
    none(
        page.evaluate("""() => [...document.querySelectorAll("article table:not(.cards, .claims) td")]
          .filter((e) => e.parentElement.cells.length > 2 && e.offsetHeight > 200).map((e) => e.textContent)""")
    )
    page.close()


# What may be left alone at the foot of a sheet: a heading, the line above a table, a table's title and head.
ALONE = """[...document.querySelectorAll(`.bd-article :is(
    h2, h3, caption, thead, details:not(.check, .hide, .ledger *) > summary,
    p:has(+ :is(table, .pst-scrollable-table-container, .table-scroll)))`)].filter((e) => e.checkVisibility()
    && getComputedStyle(e).breakAfter !== 'avoid').map((e) => `${e.tagName}: ${e.textContent.trim().slice(0, 60)}`)"""


@pytest.mark.parametrize("name", sorted({*PAGES} - {*CHAPTERS}))
def test_paper_shows_the_other_pages_whole(site: Path, browser: Any, name: str) -> None:
    page = browser.new_page(viewport={"width": PAPER, "height": 960})
    page.emulate_media(media="print")
    page.goto((site / f"{name}.html").as_uri())
    page.evaluate("document.fonts.ready.then(() => 0)")
    assert page.evaluate(TABLES) == 0, "nobody can scroll a table on paper"
    none(page.evaluate(ALONE))
    closed = page.locator("details.numbers:not([open])")
    for i in range(
        closed.count()
    ):  # long tables of records, which nobody has opened: a line says that they are left out
        assert not closed.nth(i).locator("> :last-child").is_visible()
        assert "not printed" in closed.nth(i).locator("summary").evaluate("e => getComputedStyle(e, '::after').content")
    assert bool(closed.count()) == (name == "book/results")
    dots = page.locator(".dots .dot")
    assert not dots.count() or dots.first.evaluate("dot => getComputedStyle(dot).printColorAdjust") == "exact"
    page.close()


def test_a_phone_shows_the_titles_of_both_neighbours_whole(site: Path, browser: Any) -> None:
    page = browser.new_page(viewport={"width": PHONE, "height": 800})
    cut = []
    for name in PAGES:
        page.goto((site / f"{name}.html").as_uri())
        cut += page.evaluate("""() => [...document.querySelectorAll('.prev-next-info')]
            .filter((e) => e.scrollWidth > e.clientWidth + 1 || e.getBoundingClientRect().right > innerWidth)
            .map((e) => e.textContent.trim())""")
    page.close()
    none(cut)


def test_by_night_paper_is_printed_as_by_day(site: Path, browser: Any, tmp_path: Path) -> None:
    page = browser.new_page(color_scheme="dark")
    page.goto((site / f"{CHAPTERS[0]}.html").as_uri())
    theme = "document.documentElement.dataset.theme"
    assert page.evaluate(theme) == "dark"
    page.evaluate(f"addEventListener('beforeprint', () => window.printed = {theme})")
    page.pdf(path=tmp_path / "page.pdf", format="A4")
    assert (page.evaluate("window.printed"), page.evaluate(theme)) == ("light", "dark")
    page.close()


@every_chapter
def test_keyboard(site: Path, browser: Any, name: str) -> None:
    page = browser.new_page()
    page.goto((site / f"{name}.html").as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#main-content"
    page.keyboard.press("Enter")
    assert page.url.endswith("#main-content")
    page.evaluate(UNFOLD)
    fold = page.locator("details.check").first
    fold.locator("> summary").focus()
    page.keyboard.press("Enter")
    opened = fold.evaluate("fold => fold.open")
    formula = page.locator("div.math > .formula").first
    formula.focus()
    focused = formula.evaluate("formula => formula === document.activeElement")
    page.close()
    assert (opened, focused) == (True, True)


@every_chapter
def test_following_a_mark_opens_its_check(site: Path, browser: Any, name: str) -> None:
    page = browser.new_page()
    page.goto((site / f"{name}.html").as_uri())
    page.evaluate(UNFOLD)
    assert page.locator("details.check[open]").count() == 0
    mark = page.locator(".eq-mark:visible").last  # a folded solution may hold one more
    mark.click()
    fold = page.locator("details.check[open]")
    fold.wait_for(timeout=5000)
    assert fold.count() == 1
    assert fold.locator(str(mark.get_attribute("href"))).is_visible()
    page.close()


# --- What the theme's scripts did ---------------------------------------------------------------------------------


def test_colours_are_chosen_and_remembered(site: Path, browser: Any) -> None:
    page = browser.new_page(viewport={"width": LAPTOP, "height": 800}, color_scheme="dark")
    address = (site / f"{CHAPTERS[0]}.html").as_uri()
    now = "({...document.documentElement.dataset})"
    page.goto(address)
    shown = [page.evaluate(now)]
    for _ in range(3):
        page.locator(".theme-switch-button").click()
        shown.append(page.evaluate(now))
    assert [(s["mode"], s["theme"]) for s in shown] == [
        ("auto", "dark"), ("light", "light"), ("dark", "dark"), ("auto", "dark"),
    ]  # fmt: skip
    page.emulate_media(color_scheme="light")  # while it follows the system
    page.wait_for_function("document.documentElement.dataset.theme === 'light'", timeout=5000)
    page.locator(".theme-switch-button").click()
    page.emulate_media(color_scheme="dark")
    page.reload()
    assert page.evaluate(now)["mode"] == "dark"
    page.close()


def test_the_search_field_opens_and_closes(site: Path, browser: Any) -> None:
    page = browser.new_page(viewport={"width": LAPTOP, "height": 800})
    page.goto((site / f"{CHAPTERS[0]}.html").as_uri())
    dialog = page.locator("#pst-search-dialog")
    is_open = "dialog => dialog.open"
    page.locator(".search-button__button").filter(visible=True).click()
    assert dialog.evaluate(is_open)
    page.keyboard.type("trace")
    page.keyboard.press("Escape")
    assert not dialog.evaluate(is_open)
    page.keyboard.press("Control+k")
    assert dialog.evaluate(is_open) and dialog.locator("input").input_value() == "trace"
    page.mouse.click(5, 780)  # beside it
    assert not dialog.evaluate(is_open)
    page.keyboard.press("Control+k")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=trace")
    page.keyboard.press("Control+k")  # this page has a field of its own
    assert page.evaluate("document.activeElement.closest('main') && document.activeElement.type") == "search"
    page.close()


IN_VIEW = """id => {
  const {left, right} = document.getElementById(id).getBoundingClientRect();
  return left > -1 && right < innerWidth + 1;
}"""


@pytest.mark.parametrize("side", ["primary", "secondary"])
def test_on_a_phone_the_lists_open_over_the_page(site: Path, browser: Any, side: str) -> None:
    page = browser.new_page(viewport={"width": PHONE, "height": 800})
    page.goto((site / f"{CHAPTERS[0]}.html").as_uri())
    bar, over = page.locator(f"#pst-{side}-sidebar"), page.locator(f"#pst-{side}-sidebar-modal")
    links = bar.locator("a").count()
    for close in ("Escape", "beside", "link"):
        page.locator(f".{side}-toggle").click()
        assert over.evaluate("over => over.open") and over.locator("a").count() == links
        page.wait_for_function(IN_VIEW, arg=f"pst-{side}-sidebar-modal")
        if close == "Escape":
            page.keyboard.press("Escape")
        elif close == "beside":
            page.mouse.click(370 if side == "primary" else 5, 700)
        elif side == "secondary":
            over.locator("a[href^='#']").nth(1).click()
            assert page.url.endswith(str(bar.locator("a[href^='#']").nth(1).get_attribute("href")))
        else:
            over.locator("a", has_text="Notation").click()
            page.wait_for_url("**/notation.html")
            break
        page.wait_for_function("id => !document.getElementById(id).open", arg=f"pst-{side}-sidebar-modal")
        assert bar.locator("a").count() == links and over.locator("a").count() == 0
    page.close()


def test_on_a_laptop_the_list_of_pages_goes_and_comes_back(site: Path, browser: Any) -> None:
    page = browser.new_page(viewport={"width": LAPTOP, "height": 800}, reduced_motion="reduce")
    page.goto((site / f"{CHAPTERS[0]}.html").as_uri())
    bar = page.locator("#pst-primary-sidebar")
    assert bar.is_visible()
    page.locator(".primary-toggle").click()
    bar.wait_for(state="hidden")
    page.locator(".primary-toggle").click()
    bar.wait_for(state="visible")
    menu = page.locator(".dropdown-download-buttons")
    menu.locator("button").first.click()
    assert menu.locator(".dropdown-menu").is_visible()
    assert page.evaluate("typeof toggleFullScreen") == "function"
    page.close()


def test_the_list_of_sections_marks_the_one_that_is_read(site: Path, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 1400, "height": 800}, reduced_motion="reduce")
    page.goto((site / f"{CHAPTERS[0]}.html").as_uri())
    marked = page.locator("#pst-page-toc-nav a[aria-current=true]")
    links = page.locator("#pst-page-toc-nav > ul > li > a")
    target = links.nth(2).get_attribute("href")
    page.locator(f"{target} :is(h2, h3)").first.evaluate("head => head.scrollIntoView()")
    page.wait_for_function("href => document.querySelector('#pst-page-toc-nav a.active')?.hash === href", arg=target)
    assert marked.count() == 1 and "active" in str(marked.locator("xpath=..").get_attribute("class"))
    links.nth(4).click()
    href = links.nth(4).get_attribute("href")
    page.wait_for_function("href => document.querySelector('#pst-page-toc-nav a.active')?.hash === href", arg=href)
    assert marked.count() == 1
    page.close()


@every_chapter
def test_marks_and_formulas_say_what_they_are(site: Path, browser: Any, name: str) -> None:
    page = browser.new_page()
    page.goto((site / f"{name}.html").as_uri())
    marks = page.evaluate("[...document.querySelectorAll('.eq-mark')].map(a => [a.title, a.ariaLabel])")
    assert marks and all("·" in title and label.startswith("Check: ") for title, label in marks)
    refused = [title for title, _ in marks if "mutants rejected" in title]
    assert len(refused) > len(marks) / 2
    numbers = page.evaluate("""[...document.querySelectorAll("div.math > .formula")].map(
      f => [f.ariaLabel, f.parentElement.querySelector(".eqno-link")?.textContent, f.role, f.tabIndex])""")
    assert all((label, role, tab) == (f"Equation {number[1:-1]}", "group", 0) for label, number, role, tab in numbers)
    page.close()


@every_chapter
def test_code_is_copied_with_spaces(site: Path, browser: Any, name: str) -> None:
    text = html(site / f"{name}.html").select("article .cell_input pre")
    page = browser.new_page()
    page.goto((site / f"{name}.html").as_uri())
    shown = page.evaluate("[...document.querySelectorAll('article .cell_input pre')].map(pre => pre.textContent)")
    page.close()
    sent = [pre.get_text() for pre in text]
    assert any("\n\t" in code for code in sent) and not any("\t" in code for code in shown)
    lines = set(fill((ROOT / f"{name}.md").read_text(encoding="utf-8"), facts_of_site(ROOT)).splitlines())
    assert not [line for code in shown for line in code.splitlines() if line not in lines]


# --- Weight ------------------------------------------------------------------------------------------------------

BYTES, PACKED, NODES = 600_000, 300_000, 12_000  # of a page with everything that it loads, and of its document
CORE_SCREENS = 4  # of a laptop or a phone: what a reader of ten minutes meets before the first folded section


@every_page
def test_every_sign_of_a_formula_is_in_the_font(site: Path, name: str) -> None:
    style = (ROOT / "book" / "vendor" / "math" / "math.css").read_text(encoding="utf-8")
    found = re.findall(r"unicode-range: ([^;]+);", style)
    assert len(found) == 3  # those of most pages, the alphabets of few, and the rest
    signs: set[int] = set()
    for part in ",".join(found).split(","):
        low, _, high = part.strip().removeprefix("U+").partition("-")
        signs |= set(range(int(low, 16), int(high or low, 16) + 1))
    text = {ord(c) for math in html(site / f"{name}.html").select("math") for c in math.get_text()}
    text -= {0xFE0E}  # asks for a sign as text, not as a picture
    none([f"U+{c:04X} {chr(c)}" for c in sorted(text - signs) if not chr(c).isspace()])


@every_chapter
def test_a_formula_is_copied_as_its_tex_and_once(look: Look, name: str) -> None:
    copied, tex = look(name, LAPTOP).copied
    assert copied == f"$${tex}$$"


@every_chapter
def test_no_formula_scrolls_on_a_phone(look: Look, name: str) -> None:
    none(look(name, PHONE).wide)


@every_page
@both_widths
def test_a_comma_stays_on_its_formulas_line(look: Look, name: str, width: int) -> None:
    none(look(name, width).parted)


@every_chapter
@both_widths
def test_no_code_is_cut(look: Look, name: str, width: int) -> None:
    assert look(name, width).cut_code == 0


@every_page
def test_pages_are_light(look: Look, site: Path, name: str) -> None:
    visit = look(name, LAPTOP)
    weight, packed = weigh(site / f"{name}.html", visit.loaded)
    assert weight <= BYTES
    assert packed <= PACKED
    assert visit.nodes <= NODES


@every_chapter
def test_the_core_of_a_chapter_is_short(look: Look, name: str) -> None:
    assert look(name, LAPTOP).core <= CORE_SCREENS


@every_chapter
def test_the_core_of_a_chapter_is_short_on_a_phone(look: Look, name: str) -> None:
    assert look(name, PHONE).core <= CORE_SCREENS


@every_chapter
def test_what_is_short_on_a_phone_is_not_small(look: Look, name: str) -> None:
    none(look(name, PHONE).small)


@every_chapter
def test_a_chapter_opens_with_its_picture(look: Look, name: str) -> None:
    assert look(name, LAPTOP).picture <= 1, "the upper half of the first picture is to be on the first screen"


@every_page
def test_tables_fit_on_a_phone(look: Look, name: str) -> None:
    assert look(name, PHONE).wide_tables == 0


@every_page
def test_tables_fit_on_a_laptop(look: Look, name: str) -> None:
    assert look(name, LAPTOP).wide_tables == 0


# Of each cell of the ledger that is seen and has a name before it: the name and the cell's words.
NAMED = """() => [...document.querySelectorAll("table.ledger tbody td")].map(cell => {
  if (!cell.checkVisibility()) return [""];
  const name = getComputedStyle(cell, "::before").content === "none" ? "" : cell.dataset.label;
  const said = [...cell.childNodes].filter(e => e.nodeType === 3 || e.checkVisibility()).map(e => e.textContent);
  return [name, said.join("").trim()];
}).filter(([name]) => name)"""


@pytest.mark.parametrize("width", [LAPTOP, PHONE, PAPER])
def test_a_cell_of_the_ledger_is_named_once_and_only_if_it_says_something(site: Path, browser: Any, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    if width == PAPER:
        page.emulate_media(media="print")
    found = []
    for name in ("jose", "prefix-lm"):
        page.goto((site / "book" / "ledger" / f"{name}.html").as_uri())
        page.wait_for_timeout(50)  # what becomes cards has heard of it
        found += page.evaluate(NAMED)
    page.close()
    assert len(found) > 50 and {"uses", "used by", "computed by", "see also"} <= {name for name, _ in found}
    none([f"{name} {said}" for name, said in found if not said or said.startswith(("used by", "see also"))])


def test_a_result_is_read_from_the_verdict_to_the_place(site: Path, browser: Any) -> None:
    """On a phone, where each claim of the results page is a card, in the order of the table."""
    page = browser.new_page(viewport={"width": PHONE, "height": 800})
    page.goto((site / "book" / "results.html").as_uri())
    page.evaluate(OPEN)
    page.wait_for_timeout(50)  # what becomes cards has heard of it
    rows = page.evaluate("""[...document.querySelectorAll("table.claims tbody tr")].map(row =>
      [...row.cells].filter(cell => cell.textContent.trim()).map(cell => cell.getBoundingClientRect().top))""")
    assert len(rows) > 20 and all(tops == sorted(set(tops)) and len(tops) == 4 for tops in rows)
    labels = page.evaluate("""[...document.querySelectorAll("table.cards tbody tr")].map(row =>
      [...row.cells].map(cell => cell.dataset.label))""")
    assert len(labels) > 100 and all(len(set(row)) == len(row) for row in labels)  # of two columns "± seeds", too
    page.close()


def test_excuses_stand_on_lines_of_their_own(site: Path, browser: Any) -> None:
    page = browser.new_page(viewport={"width": PHONE, "height": 800})
    page.goto((site / "book" / "ledger" / "det-exp.html").as_uri())
    page.wait_for_timeout(50)
    breaks = page.evaluate("""[...document.querySelectorAll("table.ledger.cards td.wrap br")].map(
      e => getComputedStyle(e).display)""")
    assert len(breaks) > 10 and "none" not in breaks
    page.close()


@every_chapter
@both_widths
def test_of_a_claim_the_verdict_comes_first(site: Path, browser: Any, name: str, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto((site / f"{name}.html").as_uri())
    page.evaluate(UNFOLD)
    page.wait_for_timeout(50)  # what becomes cards has heard of it
    (heads,) = page.evaluate("""[...document.querySelectorAll("table.claims")].map(
      table => [...table.querySelectorAll("th")].map(head => head.textContent.trim()))""")
    assert (
        len(heads) == 5 and "claim" in heads[0] and "measured here" in heads[2] and heads[3:] == ["device", "verdict"]
    )
    rows = page.evaluate("""[...document.querySelectorAll("table.claims tbody tr")].map(row =>
      [...row.cells].map(cell => {
      const {left, top, right, bottom} = cell.getBoundingClientRect(), text = document.createRange();
      text.selectNodeContents(cell);
      const [first, last] = [text.getBoundingClientRect().top, text.getBoundingClientRect().bottom];
      const line = parseFloat(getComputedStyle(cell).lineHeight), cut = cell.scrollWidth > cell.clientWidth + 1;
      return {left, top, right, bottom, first, last, line, cut, label: cell.dataset.label};
    }))""")
    assert rows
    for claim, number, measured, device, verdict in rows:
        assert not any(cell["cut"] for cell in (claim, number, measured, device, verdict))
        if width == PHONE:
            order = [claim, verdict, number, measured, device]
            assert all(a["bottom"] <= b["top"] + 1 for a, b in pairwise(order))
            assert [cell["label"] for cell in order[1:]] == [heads[k] for k in (4, 1, 2, 3)]
        else:
            assert verdict["right"] <= claim["left"] and claim["right"] <= measured["left"]
            assert claim["bottom"] <= number["top"] + 1 and measured["bottom"] <= device["top"] + 1
            assert claim["left"] == number["left"] and measured["left"] == device["left"]
            for above, below in ((claim, number), (measured, device)):  # no gap, whichever column is longer
                assert below["first"] - above["last"] < 1.75 * above["line"]
    page.close()


@every_page
def test_nothing_moves_when_a_figure_comes(site: Path, name: str) -> None:
    figures = html(site / f"{name}.html").select("article img[src*='_images/']")
    none([attribute(f, "src") for f in figures if not (f.get("width") and f.get("height")) and ".svg" not in str(f)])
