"""Folded sections: closed behind their headings, open for links, searches, printers and browsers without scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from _sphinx import built
from bs4 import BeautifulSoup, Tag
from gantext_book.measure import CORE
from gantext_book.source import ROOT

CHAPTER = """# A chapter

The opening: [a statement](#deep), [a section](#closed), {ref}`the same <by-label>`,
[one part](#a-part), [its neighbour](#a-folded-part).

## Open

An open word.

(by-label)=
## Closed

```{folded} 8 minutes: why $x = 1$
```

A hidden word, umbrella.

### A part

Another hidden word.

### A folded part

```{folded} Two minutes
```

````{dropdown} Aside
A leaf.
````

(deep)=
A statement, where a link leads.

<p id="inner">Innermost, zeppelin.</p>

## Afterwards

A last word.
"""
INDEX = "# Book\n\n[away](part.md#a-folded-part)\n\n```{toctree}\n:numbered:\npart\n```\n"


def build(root: Path, chapter: str) -> Path:
    """A book of one chapter, with the real style sheet and script; warnings are errors."""
    (root / "index.md").write_text(INDEX, encoding="utf-8")
    (root / "part.md").write_text(chapter, encoding="utf-8")
    settings = {
        "extensions": ["myst_parser", "sphinx_design", "gantext_book.folds"],
        "myst_enable_extensions": ["dollarmath", "attrs_block"],
        "myst_heading_anchors": 3,
        "html_static_path": [str(ROOT / "book" / "_static")],
        "html_css_files": ["gantext.css"],
        "html_js_files": [("page.js", {"defer": "defer"})],
    }
    return built(root, settings) / "part.html"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("folded"), CHAPTER.replace("(deep)=\n", "{#deep}\n"))


@pytest.fixture(scope="module")
def soup(page: Path) -> BeautifulSoup:
    return BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")


def one(soup: BeautifulSoup | Tag, selector: str) -> Tag:
    (found,) = soup.select(selector)
    return found


def test_the_heading_keeps_its_anchor_level_number_and_place(soup: BeautifulSoup) -> None:
    section = one(soup, "section#closed")
    fold = one(section, "#closed > details.folded")
    heading = one(fold, "#closed > details > summary > h2")
    assert heading.get_text().startswith("1.2. Closed")
    assert one(heading, "a.headerlink")["href"] == "#closed"
    assert "8 minutes: why" in one(fold, "#closed > details > summary > .folded-note").get_text()
    assert one(section, "span#by-label") and not fold.has_attr("open")
    part = one(fold, "section#a-folded-part > details.folded")
    assert one(part, "#a-folded-part > details > summary > h3").get_text().startswith("1.2.2. A folded part")
    contents = one(soup, ".sphinxsidebar a[href='#closed'] + ul")
    assert [a["href"] for a in contents.select("a")] == ["#a-part", "#a-folded-part"]


def test_the_whole_section_and_nothing_else_is_folded(soup: BeautifulSoup) -> None:
    inside = one(soup, "section#closed > details.folded").get_text()
    assert all(word in inside for word in ("umbrella", "Another hidden word", "A leaf", "zeppelin"))
    assert "open word" not in inside and "last word" not in inside
    assert one(soup, "section#a-part").find_parent("details") and not one(soup, "#afterwards").find_parent("details")
    assert one(soup, "#a-folded-part > details.folded details.sd-dropdown").get_text().strip().endswith("A leaf.")


MISUSED = {
    "after text": ("## A\n\nText.\n\n```{folded} x\n```", "first thing under its heading"),
    "twice": ("## A\n\n```{folded} x\n```\n\n```{folded} y\n```", "first thing under its heading"),
    "in the opening": ("```{folded} x\n```", "opening of a page"),
    "in a box": ("## A\n\n````{note}\n```{folded} x\n```\n````", "not inside of something"),
    "in a list": ("## A\n\n- ```{folded} x\n  ```", "not inside of something"),
    "with content": ("## A\n\n```{folded} x\n\nText.\n```", "has no content"),
    "without a line": ("## A\n\n```{folded}\n```", "1 argument"),
}


@pytest.mark.parametrize("case", MISUSED)
def test_misuse_stops_the_build(tmp_path: Path, case: str) -> None:
    markup, reason = MISUSED[case]
    with pytest.raises(Exception, match=reason):
        build(tmp_path, f"# A chapter\n\n{markup}\n\nMore.\n")


@pytest.fixture
def tab(browser: Any, page: Path) -> Any:
    tab = browser.new_page(viewport={"width": 800, "height": 500}, reduced_motion="reduce")
    tab.goto(page.as_uri())
    yield tab
    tab.close()


OPENED = """() => [...document.querySelectorAll("details[open] > summary")]
  .map(summary => summary.firstElementChild.firstChild.nextSibling.data.split(" ").at(-1))"""


def opened(tab: Any) -> list[str]:
    """The last words of the headings that are open."""
    return tab.evaluate(OPENED)


def seen(tab: Any, selector: str) -> bool:
    """Whether a reader has it on the screen."""
    tab.wait_for_timeout(200)
    place = "selector => (e => [e.checkVisibility(), e.getBoundingClientRect().top])(document.querySelector(selector))"
    shown, top = tab.evaluate(place, selector)
    return shown and -1 <= top < 500


def test_it_is_closed_and_opens_by_mouse_and_keyboard(tab: Any) -> None:
    assert not tab.locator("text=umbrella").is_visible() and tab.locator("text=last word").is_visible()
    tab.locator("#closed > details > summary > h2").click()
    assert tab.locator("text=umbrella").is_visible() and opened(tab) == ["Closed"]
    tab.locator("#closed > details > summary").focus()
    tab.keyboard.press("Enter")
    assert opened(tab) == [] and not tab.locator("text=umbrella").is_visible()


@pytest.mark.parametrize(
    ("link", "goal", "expected"),
    [
        ("p >> text=a statement", "#deep", ["Closed", "part"]),
        ("p >> text=a section", "#closed", ["Closed"]),
        ("p >> text=the same", "#closed", ["Closed"]),
        ("p >> text=one part", "#a-part", ["Closed"]),
        ("p >> text=its neighbour", "#a-folded-part", ["Closed", "part"]),
    ],
)
def test_a_link_on_the_page_opens_what_it_leads_into(tab: Any, link: str, goal: str, expected: list[str]) -> None:
    tab.locator(link).first.click()
    assert opened(tab) == expected and seen(tab, goal)
    tab.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = false); scrollTo(0, 0)")
    tab.locator(link).first.click()  # once more, though the address stays as it is
    assert opened(tab) == expected and seen(tab, goal)


@pytest.mark.parametrize(("anchor", "expected"), [("inner", ["Closed", "part"]), ("by-label", ["Closed"])])
def test_an_address_and_the_way_back_open_it(tab: Any, page: Path, anchor: str, expected: list[str]) -> None:
    tab.goto(f"{page.parent.as_uri()}/index.html")
    tab.goto(f"{page.as_uri()}#{anchor}")
    assert opened(tab) == expected and seen(tab, f"#{anchor}")
    tab.goto(f"{page.as_uri()}#open")
    tab.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = false)")
    tab.go_back()
    tab.wait_for_timeout(200)
    assert opened(tab) == expected
    tab.goto(f"{page.as_uri()}#%E0%A4%A")  # no address of ours: nothing breaks


def test_a_link_from_another_page_opens_it(tab: Any, page: Path) -> None:
    tab.goto(f"{page.parent.as_uri()}/index.html")
    tab.locator("text=away").click()
    tab.wait_for_load_state()
    assert opened(tab) == ["Closed", "part"] and seen(tab, "#a-folded-part")


def test_browsers_find_words_in_it(tab: Any, page: Path) -> None:
    """A text fragment looks for words as the browser's own search does."""
    tab.goto("about:blank")
    tab.goto(f"{page.as_uri()}#:~:text=zeppelin")
    tab.wait_for_timeout(500)
    assert opened(tab) == ["Closed", "part"] and seen(tab, "#inner")


def test_what_measures_itself_does_so_when_it_opens(tab: Any) -> None:
    tab.evaluate("window.resized = 0; addEventListener('resize', () => window.resized++)")
    tab.locator("#closed > details > summary > h2").click()
    tab.wait_for_timeout(200)
    assert tab.evaluate("window.resized") == 1


def test_paper_has_all_of_it_and_the_screen_is_as_before(tab: Any, tmp_path: Path) -> None:
    tab.locator("#closed > details > summary > h2").click()
    closed = "document.querySelectorAll('details.folded:not([open])').length"
    tab.evaluate(f"addEventListener('beforeprint', () => window.left = {closed})")
    assert tab.evaluate(closed) == 1
    tab.pdf(path=tmp_path / "page.pdf", format="A4")
    assert tab.evaluate("window.left") == 0
    tab.wait_for_timeout(200)
    assert opened(tab) == ["Closed"]


def test_without_scripts_it_opens_and_prints(browser: Any, page: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(page.as_uri())
    umbrella, zeppelin = tab.locator("text=umbrella"), tab.locator("text=zeppelin")
    assert not umbrella.is_visible()
    tab.emulate_media(media="print")
    assert umbrella.is_visible() and zeppelin.is_visible()
    tab.emulate_media(media="screen")
    tab.locator("#closed > details > summary > h2").click()
    assert umbrella.is_visible() and not zeppelin.is_visible()
    context.close()


@pytest.mark.parametrize(("fold", "core"), [("<details class='folded'><summary>x</summary>y</details>", 2.5), ("", 4)])
def test_the_core_ends_where_the_first_folded_section_begins(browser: Any, fold: str, core: float) -> None:
    tab = browser.new_page(viewport={"width": 800, "height": 400})
    figure = "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' width='9' height='600'/>"
    lazy = f'<img loading="lazy" style="display: block" src="{figure}">'
    style = "<style>article { display: flow-root } details { height: 100px }</style><div style='height: 99px'></div>"
    rest = f"<div style='height: {500 if fold else 600}px'></div>"
    tab.set_content(f"{style}<article><div style='height: 400px'></div>{lazy}{fold}{rest}</article>")
    assert tab.evaluate(CORE) == pytest.approx([core, 4])
    tab.close()
