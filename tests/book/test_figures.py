"""Figures of chapters: captions are numbered, and no picture is without one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bs4 import BeautifulSoup
from docutils import nodes
from docutils.frontend import get_default_settings
from docutils.utils import new_document
from gantext_book.figures import number
from gantext_book.source import chapters
from sphinx.errors import ExtensionError

APP: Any = SimpleNamespace(env=SimpleNamespace(toc_secnumbers={"notebooks/one": {"": (3,)}}))


def section(title: str, *children: nodes.Node) -> nodes.section:
    return nodes.section("", nodes.title("", title), *children)


def cell(*outputs: nodes.Node) -> nodes.container:
    shown = nodes.container("", *outputs, classes=["cell_output"])
    return nodes.container("", nodes.container(classes=["cell_input"]), shown, classes=["cell"])


def caption() -> nodes.paragraph:
    return nodes.paragraph("", "", nodes.emphasis("", "It rises."), nodes.Text(" It falls."))


def raw(html: str) -> nodes.raw:
    return nodes.raw("", html, format="html")


def document(*children: nodes.Node) -> nodes.document:
    made = new_document("one.md", get_default_settings())
    made += section("Chapter", *children)
    return made


def test_captions_are_numbered_in_their_order() -> None:
    doctree = document(
        raw('<div class="widget">slider</div>'),
        caption(),
        section("Without", cell(nodes.literal_block("", "text")), caption(), nodes.paragraph("", "Text.")),
        section("With", cell(nodes.container("", nodes.image(uri="a.png"))), caption()),
        section("More", section("Deep", cell(nodes.container("", raw("<p><svg></svg></p>"))), caption())),
    )
    number(APP, doctree, "notebooks/one")
    found = [p for p in doctree.findall(nodes.paragraph) if "caption" in p["classes"]]
    assert [p.astext() for p in found] == [f"Figure 3.{k}. It rises. It falls." for k in (1, 2, 3)]
    assert [p["ids"] for p in found] == [["figure-3-1"], ["figure-3-2"], ["figure-3-3"]]


def test_a_picture_without_a_caption_stops_the_build() -> None:
    picture = cell(nodes.container("", nodes.image(uri="a.png")))
    for behind in ([], [nodes.paragraph("", "Text.")], [section("Next", caption())]):
        doctree = document(section("Measured", picture.deepcopy(), *behind))
        with pytest.raises(ExtensionError, match="picture under “Measured” has no caption; begin the paragraph"):
            number(APP, doctree, "notebooks/one")
    opening = document(picture.deepcopy(), nodes.paragraph("", "Three points"))
    number(APP, opening, "notebooks/one")  # what opens a chapter needs none
    number(APP, document(section("Measured", picture)), "book/index")  # no chapter


def test_a_caption_stands_under_its_picture_before_what_is_printed() -> None:
    first, picture, last = (nodes.container("", part) for part in (raw("a"), nodes.image(uri="a.png"), raw("b")))
    doctree = document(section("Measured", cell(first, picture, last), caption(), nodes.paragraph("", "Text.")))
    number(APP, doctree, "notebooks/one")
    (under,) = [p for p in doctree.findall(nodes.paragraph) if "caption" in p["classes"]]
    assert [*under.parent] == [first, picture, under, last]
    lone = nodes.container("", nodes.image(uri="a.png"))
    doctree = document(section("Measured", cell(nodes.container("", raw("a")), lone), caption()))
    number(APP, doctree, "notebooks/one")
    (under,) = [p for p in doctree.findall(nodes.paragraph) if "caption" in p["classes"]]
    assert isinstance(under.parent, nodes.section)  # nothing is printed behind it: the caption stays where it was


def test_every_chapter_numbers_its_figures(site: Path) -> None:
    for k, path in enumerate(sorted(chapters(), key=lambda path: place_of(site, path)), 1):
        page = BeautifulSoup((site / "notebooks" / f"{path.stem}.html").read_text(encoding="utf-8"), "html.parser")
        numbers = [mark.get_text().strip() for mark in page.select("p.caption > .figure-number")]
        assert numbers == [f"Figure {k}.{count}." for count in range(1, len(numbers) + 1)] and len(numbers) >= 3
        for image in page.select("section section .cell_output img"):
            outer = image.find_parent("div", class_="cell")
            assert outer is not None
            outputs = image.find_parent("div", class_="cell_output")
            assert outputs is not None
            shown = next(part for part in (image, *image.parents) if part.parent is outputs)
            behind = shown.find_next_sibling() or outer.find_next_sibling()
            assert behind is not None and "caption" in str(behind.get("class")), (path.stem, image["alt"])


def place_of(site: Path, path: Path) -> int:
    """The chapter's number, by its title."""
    page = BeautifulSoup((site / "notebooks" / f"{path.stem}.html").read_text(encoding="utf-8"), "html.parser")
    mark = page.select_one("h1 .section-number")
    assert mark is not None
    return int(mark.get_text().strip(". "))
