"""Figures of chapters: captions are numbered, no picture is without one, and text refers to them by name."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from _sphinx import built
from bs4 import BeautifulSoup
from docutils import nodes
from gantext_book.source import ROOT, chapters
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

PICTURE = '<div class="widget">slider</div>'
CELL = ":::{cell}\n%s\n:::\n"
ZERO = "# Zero\n\nNo figure.\n"
CHAPTER = f"""# Chapter

As {{numref}}`hers` and {{numref}}`picture %s <his>` show, {{numref}}`Figure {{number}} <hers>`.

{PICTURE}

*It rises.* It falls.

## Without

{CELL % "text"}
*It rises.*

## With

(his)=
{CELL % "![A dot](dot.svg)"}
(hers)=
*Hers* and more.

### Deep

{CELL % PICTURE}
*Its own.*

:::{{figure}} dot.svg
:name: drawn

A figure of Sphinx, as {{numref}}`drawn` is.
:::
"""


class Cell(SphinxDirective):
    """What MyST-NB makes of a cell that shows the content."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        shown = nodes.container("", *self.parse_content_to_nodes(), classes=["cell_output"])
        code = nodes.container("", nodes.literal_block("", "code"), classes=["cell_input"])
        return [nodes.container("", code, shown, classes=["cell"])]


def build(root: Path, chapter: str, folder: str = "notebooks") -> BeautifulSoup:
    """The second of two chapters, built; warnings are errors."""
    (root / folder).mkdir()
    (root / "index.md").write_text(
        f"# Book\n\n```{{toctree}}\n:numbered:\n{folder}/zero\n{folder}/one\n```\n", encoding="utf-8"
    )
    (root / folder / "dot.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>', encoding="utf-8")
    (root / folder / "zero.md").write_text(ZERO, encoding="utf-8")
    (root / folder / "one.md").write_text(chapter, encoding="utf-8")
    settings = {
        "extensions": ["myst_parser", "gantext_book.figures"],
        "myst_enable_extensions": ["colon_fence"],
        "numfig_secnum_depth": 1,
        "numfig_format": {"figure": "Figure %s"},
    }
    out = built(root, settings, {"cell": Cell})
    return BeautifulSoup((out / folder / "one.html").read_text(encoding="utf-8"), "html.parser")


def test_captions_are_numbered_in_their_order_and_referred_to_by_name(tmp_path: Path) -> None:
    soup = build(tmp_path, CHAPTER.replace("(his)=\n", "").replace("*It rises.* It", "(his)=\n*It rises.* It", 1))
    captions = soup.select("p.caption")
    assert [p.get_text() for p in captions] == [
        "Figure 2.1. It rises. It falls.",
        "Figure 2.2. Hers and more.",
        "Figure 2.3. Its own.",
    ]
    assert [p["id"] for p in captions] == ["his", "hers", "figure-2-3"]
    assert [mark["id"] for mark in soup.select("p.caption > span[id]")] == ["figure-2-1", "figure-2-2"]
    links = soup.select("a.reference.internal:has(.std-numref)")
    assert [(a["href"], a.get_text()) for a in links] == [
        ("#hers", "Figure 2.2"),
        ("#his", "picture 2.1"),
        ("#hers", "Figure 2.2"),
        ("#drawn", "Figure 2.4"),
    ]
    (drawn,) = soup.select("figure > figcaption")
    assert drawn.get_text().strip().startswith("Figure 2.4 A figure of Sphinx")


NAMELESS = {
    "no such label": "As {numref}`nobodys` shows.",
    "the label of a section": "(here)=\n## There\n\nAs {numref}`here` shows, in {numref}`there`.",
    "the label of what is no figure": "(words)=\nWords.\n\nAs {numref}`words` shows.",
    "the label of a picture instead of its caption": f"(before)=\n{PICTURE}\n\n*It rises.*\n\nAs {{numref}}`before`.",
}


@pytest.mark.parametrize("case", NAMELESS)
def test_a_name_that_is_no_captions_stops_the_build(case: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"undefined label: '(nobodys|there|words|before)'"):
        build(tmp_path, f"# Chapter\n\n{NAMELESS[case]}\n")


def test_a_picture_without_a_caption_stops_the_build(tmp_path: Path) -> None:
    picture = CELL % "![A dot](dot.svg)"
    for k, behind in enumerate(("", "Text.", "(name)=\nText.", "### Next\n\n*It rises.*")):
        (root := tmp_path / str(k)).mkdir()
        with pytest.raises(ExtensionError, match="picture under “Measured” has no caption; begin the paragraph"):
            build(root, f"# Chapter\n\n## Measured\n\n{picture}\n{behind}\n")
    (root := tmp_path / "opening").mkdir()
    build(root, f"# Chapter\n\n{picture}\nThree points\n")  # what opens a chapter needs none
    (root := tmp_path / "other").mkdir()
    page = build(root, f"# Page\n\n## Measured\n\n{picture}\n*It rises.*\n", "book")  # no chapter
    assert not page.select("p.caption")


@pytest.mark.parametrize("path", chapters(ROOT), ids=lambda path: path.stem)
def test_a_notebook_numbers_its_captions_as_the_page_does(site: Path, path: Path) -> None:
    page = BeautifulSoup((site / "notebooks" / f"{path.stem}.html").read_text(encoding="utf-8"), "html.parser")
    numbers = [mark.get_text().strip() for mark in page.select("p.caption > .figure-number")]
    notebook = nbformat.read(path.with_suffix(".ipynb"), as_version=4)
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert re.findall(r"^\*\*(Figure \d+\.\d+\.)\*\* [*_]", text, re.MULTILINE) == numbers
    told = [(a["href"], a.get_text()) for a in page.select("a:has(> .std-numref)") if "Figure" in a.get_text()]
    linked = re.findall(r"\[(Figure \d+\.\d+)\]\([^)]*?(#[^)]+)\)", text)
    assert [(anchor, words) for words, anchor in linked] == [
        (re.sub("^[^#]*", "", str(href)), words) for href, words in told
    ]


def test_a_caption_stands_under_its_picture_before_what_is_printed(tmp_path: Path) -> None:
    dot = "![A dot](dot.svg)"
    for k, (shown, order) in enumerate(
        (
            (f"a\n\n{dot}\n\nb", ["a", "", "Figure 2.1. It rises.", "b"]),
            (f"a\n\n{dot}", ["a", ""]),  # nothing is printed behind it: the caption stays where it was
        )
    ):
        (root := tmp_path / str(k)).mkdir()
        page = build(root, f"# Chapter\n\n## Measured\n\n{CELL % shown}\n*It rises.*\n\nText.\n")
        (caption,) = page.select("p.caption")
        assert [p.get_text().strip() for p in page.select(".cell_output > p")] == order
        assert (caption.parent in page.select(".cell_output")) == (len(order) > 2)


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
