"""The build fails wherever an equation and the ledger part: each way is tried on a small book and must be named."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from gantext_book import PageTasks, source
from gantext_book.plain import contexts, render
from gantext_book.twins import code_cells
from sphinx import builders
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError, SphinxParallelError
from sphinx.util.docutils import docutils_namespace, patch_docutils

from texledger import MIME, Entry, Ledger

CHAPTER = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# A chapter

Before the first equation.

$$
(a+b)^2 = a^2 + 2ab + b^2.
$$ (small:square)

```{code-cell} ipython3
one
```

$$
\\kappa := a b
$$ (small:name)

```{code-cell} ipython3
two
```

$$
\\log(ab) = \\log a + \\log b
$$ (small:log)

```{code-cell} ipython3
three
```

```{code-cell} ipython3
four
```

By {eq}`small:square`, all is well.
"""

INDEX = """# Book

```{ledger-count}
```

```{ledger-table}
```

```{errata}
```

```{toctree}
notebooks/small
book/api
```
"""

API = """# API

```{eval-rst}
.. autofunction:: gantext.environment
```
"""


def entries() -> list[Entry]:
    ledger = Ledger("small")
    two = lambda draw: {"a": draw.real(), "b": draw.real()}
    return [
        ledger.numeric("small:square", r"(a+b)^2 = a^2 + 2ab + b^2", two, code="gantext.environment"),
        ledger.definition("small:name", r"\kappa := a b"),
        ledger.refutation(
            "small:words",
            None,
            source="A library, version 1",
            statement="half precision is supported",
            counterexample="the number 1",
            holds="convert to single precision first",
            published=(2.0, 1.0),
            corrected=(1.0, 1.0),
        ),
        ledger.refutation(
            "small:log",
            r"\log(ab) = \log a + \log b",
            {"a": -3, "b": -2},
            source="A textbook, page 1",
            counterexample="a = −3, b = −2",
            holds=r"e^{\log(ab)} = e^{\log a} e^{\log b}",
            sides=(math.log(6), complex(math.log(6), 2 * math.pi)),
        ),
    ]


class SmallBook:
    """A book of one chapter whose twin stores the given entries."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "notebooks").mkdir(parents=True)
        (root / "book").mkdir()
        (root / "gantext").mkdir()
        (root / "gantext" / "__init__.py").write_text('__version__ = "0"\n')
        (root / "_toc.yml").write_text(
            "format: jb-book\nroot: index\nchapters:\n- file: notebooks/small\n- file: book/api\n"
        )
        config = "repository: {url: 'https://example.org/r', branch: main}\nsphinx: {config: {html_baseurl: 'https://example.org'}}\n"
        (root / "_config.yml").write_text(config)
        (root / "index.md").write_text(INDEX)
        (root / "book" / "api.md").write_text(API)
        self.chapter = root / "notebooks" / "small.md"
        self.chapter.write_text(CHAPTER)
        self.stored: list[dict] = [entry.as_json() for entry in entries()]

    def edit(self, old: str, new: str) -> None:
        """Edit the page and let the twin follow, as `make notebooks` would."""
        assert old in self.chapter.read_text()
        self.chapter.write_text(self.chapter.read_text().replace(old, new))

    def store(self) -> None:
        context = contexts(self.root)[self.chapter]
        nb = source.read_notebook(self.chapter, context.site)
        nb = render(nb, context) if "$$" in self.chapter.read_text() else nb
        for number, cell in enumerate(code_cells(nb), start=1):
            cell.execution_count = number
            data = self.stored[number - 1] if number <= len(self.stored) else None
            bundle = {"text/plain": "entry", "text/html": "<p>entry</p>"} | ({MIME: data} if data else {})
            cell.outputs = [nbformat.v4.new_output("execute_result", bundle, execution_count=number)]
        nb.metadata["gantext"] = {"verified": {"date": "2026-01-02", "device": "CPU", "versions": {"torch": "2.13.0"}}}
        nbformat.write(nb, self.chapter.with_suffix(".ipynb"))

    def build(self, fresh: bool = True) -> str:
        """Build with warnings as errors; returns what Sphinx said."""
        settings = {
            "extensions": ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "texledger.sphinx", "gantext_book"],
            "exclude_patterns": ["_build", "notebooks/*.ipynb", "jupyter_execute"],
            "nb_execution_mode": "off",
            "nb_merge_streams": True,
            "myst_enable_extensions": ["dollarmath"],
            "html_math_renderer": "gantext",
            "html_theme": "basic",
            "numfig": True,
            "math_numfig": True,
            "master_doc": "index",
        }
        out = self.root / "_build"
        said = StringIO()
        with patch_docutils(), docutils_namespace():
            app = Sphinx(
                str(self.root), None, str(out), str(out / "doctrees"), "html", confoverrides=settings,
                status=said, warning=said, freshenv=fresh, warningiserror=True, keep_going=True,
            )  # fmt: skip
            app.build()
            assert app.statuscode == 0, said.getvalue()
        return said.getvalue()

    def page(self, name: str) -> BeautifulSoup:
        return BeautifulSoup((self.root / "_build" / f"{name}.html").read_text(encoding="utf-8"), "html.parser")


@pytest.fixture
def book(tmp_path: Path) -> SmallBook:
    return SmallBook(tmp_path / "book")


def unregistered(book: SmallBook) -> None:
    book.stored = book.stored[:-1]


def unknown_label(book: SmallBook) -> None:
    book.stored[0]["label"] = "small:elsewhere"


def failed_check(book: SmallBook) -> None:
    book.stored[0]["passed"] = False


def surviving_mutant(book: SmallBook) -> None:
    (name, _), *others = book.stored[0]["mutants"]
    book.stored[0]["mutants"] = [(name, False), *others]


def no_mutants(book: SmallBook) -> None:
    book.stored[0]["mutants"] = []


def edited_equation(book: SmallBook) -> None:
    book.edit("a^2 + 2ab + b^2", "a^2 - 2ab + b^2")


def unlabelled_equation(book: SmallBook) -> None:
    # Written by hand into the twin's place: the generator refuses it already (see test_plain).
    book.edit("Before the first equation.", "Before.\n\n```{math}\nx = y\n```")


def old_edition(book: SmallBook) -> None:
    book.stored[0]["schema"] = 0


def duplicate(book: SmallBook) -> None:
    book.stored[1] = book.stored[0]


def edited_definition(book: SmallBook) -> None:
    book.edit(r"\kappa := a b", r"\kappa := b a")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (unregistered, "equation small:log has no entry in the ledger"),
        (unknown_label, "entry for small:elsewhere, but no page has an equation of that label"),
        (failed_check, "the entry of small:square failed its check"),
        (surviving_mutant, "the entry of small:square lets a mutant survive"),
        (no_mutants, "the entry of small:square has no mutants"),
        (edited_equation, "equation small:square is not what its entry quotes"),
        (edited_definition, "equation small:name is not what its entry quotes"),
        (old_edition, "has schema 0"),
        (duplicate, "two entries for small:square"),
    ],
)
def test_build_fails(book: SmallBook, damage: Callable[[SmallBook], None], says: str) -> None:
    damage(book)
    book.store()
    with pytest.raises(ExtensionError, match=says):
        book.build()


def test_build_fails_for_a_display_equation_without_a_label(book: SmallBook) -> None:
    """On a page that is no notebook, where the generator of the twins does not look."""
    book.store()
    (book.root / "index.md").write_text(INDEX + "\n$$\nx = y\n$$\n")
    with pytest.raises(ExtensionError, match=r"index:.*a display equation has no label"):
        book.build()


def test_twin_generation_refuses_an_unlabelled_equation_too(book: SmallBook) -> None:
    unlabelled_equation(book)
    with pytest.raises(ValueError, match="label"):
        book.store()


def test_build_fails_for_tex_that_katex_cannot_read(book: SmallBook) -> None:
    book.store()
    (book.root / "index.md").write_text(INDEX + "\nInline $\\undefinedmacro x$.\n")
    with pytest.raises(Exception, match="Temml cannot read"):
        book.build()


def test_build_fails_for_a_page_whose_error_arrives_while_another_page_is_handed_out() -> None:
    """A task's error has come before the next task is added: by itself, Sphinx drops it there."""

    def unreadable() -> None:
        raise ExtensionError("cannot read this page")

    tasks = PageTasks(2)
    tasks.add_task(unreadable)
    tasks._precvs[0].poll(60)
    tasks.add_task(lambda: None)
    with pytest.raises(SphinxParallelError, match="cannot read this page"):
        tasks.join()


def test_pages_are_read_and_written_by_tasks_that_report_every_error(book: SmallBook) -> None:
    book.store()
    book.build()
    assert builders.ParallelTasks is PageTasks  # pyright: ignore[reportPrivateImportUsage]  # as Sphinx looks it up


def test_all_problems_are_listed_at_once(book: SmallBook) -> None:
    failed_check(book)
    edited_definition(book)
    book.store()
    with pytest.raises(
        ExtensionError, match=r"(?s)2 problems.*small:square.*small:name|2 problems.*small:name.*small:square"
    ):
        book.build()


def test_a_complete_book_is_built_and_linked(book: SmallBook) -> None:
    book.store()
    book.build()
    page, index, api = book.page("notebooks/small"), book.page("index"), book.page("book/api")
    marks = page.select(".eq-mark")
    assert [m.text for m in marks] == ["✓", "≔", "✗"]
    for mark in marks:
        target = page.find(id=str(mark["href"]).lstrip("#"))
        assert target is not None
        details = target.find_parent("details", class_="check")
        assert details is not None
        back = details.find("a")
        assert back is not None
        assert page.find(id=str(back["href"]).split("#")[1]) is not None
    assert "Verified 2026-01-02" in page.text
    assert "2 of 2 numbered statements" in index.text
    assert "Of 2 both sides are computed" in " ".join(index.text.split())
    strengths = [row.select("td")[3].text for row in index.select("table.ledger tbody tr")]
    assert strengths == ["both sides", "–", "both sides"]
    assert "both-sides" in marks[0]["class"]
    assert len(index.select("table.ledger tbody tr")) == 3
    assert "A textbook, page 1" in index.text
    assert "half precision is supported" in index.text
    assert "convert to single precision first" in index.text
    function = index.select_one('a[href$="#gantext.environment"]')
    assert function is not None
    assert api.find(id="gantext.environment") is not None
    back = api.select_one('a[href$="#equation-small-square"]')
    assert back is not None
    assert back.parent is not None
    assert back.parent.text.startswith("See also")  # the function did not run in the check, so it does not compute it
    assert "See also gantext.environment" in page.text
    assert (book.root / "_build" / "notebooks" / "small.ipynb").exists()
    assert not page.select(".temml-error, merror")
    formulas = page.select(".math")
    assert formulas and all(m.get("data-tex") or m.select_one("[data-tex]") for m in formulas)


def test_entries_of_a_removed_chapter_leave_the_ledger(book: SmallBook) -> None:
    book.store()
    book.build()
    shutil.rmtree(book.root / "_build")
    book.chapter.with_suffix(".ipynb").unlink()
    with pytest.raises(ExtensionError):
        book.build()


def test_functions_lead_to_a_chapter_that_came_after_them(book: SmallBook) -> None:
    book.stored[0]["see_also"] = []
    book.store()
    book.build()
    assert book.page("book/api").select_one('a[href$="#equation-small-square"]') is None
    book.stored[0]["functions"] = ["gantext.environment"]  # seen to run
    book.edit("Before the first equation.", "Before the first of the equations.")
    book.store()
    book.build(fresh=False)  # reads the chapter again, and with it the page of the functions
    link = book.page("book/api").select_one('a[href$="#equation-small-square"]')
    assert link is not None
    assert link.parent is not None
    assert link.parent.text.startswith("Computes")


def test_only_pages_that_changed_are_written(book: SmallBook) -> None:
    book.store()
    book.build()
    pages = {name: book.root / "_build" / f"{name}.html" for name in ("index", "notebooks/small", "book/api")}

    def written() -> set[str]:
        """The pages that another build puts in place; `light` writes after it only what it makes shorter."""
        before = {name: page.stat().st_mtime_ns for name, page in pages.items()}
        book.build(fresh=False)
        return {name for name, page in pages.items() if page.stat().st_mtime_ns != before[name]}

    assert written() <= {"index"}  # the first page brings style sheets and scripts along
    book.chapter.touch()
    assert written() <= {"index", "notebooks/small"}
    book.stored[0]["see_also"] = []
    book.store()
    assert "book/api" in written()  # it named the equation that the function computes


def test_the_record_is_read_from_the_notebook_alone(book: SmallBook) -> None:
    book.store()
    notebook = json.loads(book.chapter.with_suffix(".ipynb").read_text(encoding="utf-8"))
    found = [o["data"][MIME]["label"] for c in notebook["cells"] for o in c.get("outputs", [])]
    assert found == ["small:square", "small:name", "small:words", "small:log"]
